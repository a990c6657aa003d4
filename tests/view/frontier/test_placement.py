"""The picture of a layout: each device is drawn once, and all of its memory is accounted for."""

import pytest

from sim_core.questions.deployment.placement import kinds_of_groups
from sim_core.scenario.scenario import Scenario, accelerator_of
from sim_core.view.frontier.layouts.placement import link_words, placement, placement_sentence
from tests.visits import healthy, open_page, said

LARGE = Scenario(model="deepseek-r1", accelerator="h200", weight_dtype="fp8", tensor_parallel=16)
RANKS = LARGE.replace(attention_data_parallel=16, expert_parallel=16)
PICTURE = '<section class="bs-layout"'
POOLS = RANKS.replace(policy="disaggregated", prefill_workers=1, decode_workers=2)


@pytest.mark.parametrize("scenario", [Scenario(), LARGE, RANKS, POOLS])
def test_all_memory_of_a_device_is_accounted_for(scenario: Scenario) -> None:
    """By the datasheet: the parts add up to the memory of the device."""
    for worker in kinds_of_groups(scenario):
        assert worker.device_gb == pytest.approx(accelerator_of(scenario).hbm_gb, abs=0.03)


def test_ranks_copy_attention_and_share_experts() -> None:
    """By hand: 653.9 GB of experts over 16 devices, attention on each of them."""
    (worker,) = kinds_of_groups(RANKS)
    shares = {share.name: share for share in worker.shares}
    assert shares["routed experts"].gb == pytest.approx(653.9 / 16, rel=1e-3)
    assert shares["attention"].spread == "a copy on each of 16 devices"
    assert "one of 16" in shares["KV cache"].spread


def test_each_device_is_drawn_once_in_its_node() -> None:
    """By counting: 16 devices in two nodes of eight; 48 of two pools in six."""
    text = str(placement(RANKS))
    assert text.count("</i>") - text.count('<i style="background') == 16
    assert text.count('class="node"') == 2
    assert str(placement(POOLS)).count('class="node"') == 6
    assert "rank 16 of 16" in text


def test_links_are_told_apart() -> None:
    """By definition: sixteen devices in nodes of eight use the network, eight do not, one sends nothing."""
    assert "network" in link_words(kinds_of_groups(RANKS)[0])
    eight = RANKS.replace(tensor_parallel=8, attention_data_parallel=8, expert_parallel=8)
    assert "network" not in link_words(kinds_of_groups(eight)[0])
    assert "sends nothing" in link_words(kinds_of_groups(Scenario())[0])


def test_the_picture_has_a_text() -> None:
    """Oracle: the sentence that screen readers read."""
    assert placement_sentence(RANKS, kinds_of_groups(RANKS)) in str(placement(RANKS))


@pytest.mark.parametrize("page", ["1_Frontier.py", "5_Disaggregation.py", "14_Layouts.py"])
def test_pages_offer_the_picture(page: str) -> None:
    """Oracle: the expander, and the picture once it is open."""
    app = healthy(open_page(page, requests="300"))
    assert PICTURE not in said(app)
    app.session_state["in_placement"] = True
    assert PICTURE in said(healthy(app.run()))
