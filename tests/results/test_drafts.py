"""Where an acceptance length comes from, in words and in the notes of a run."""

from __future__ import annotations

import pytest

from sim_core import load_scenario, simulate, summarize
from sim_core.results.drafts import acceptance_words, supposed_drafter
from sim_core.scenario.scenario import Scenario

KIMI = Scenario(model="kimi-k2.5", draft="eagle", spec_tokens=3)


def test_where_a_length_comes_from_is_said() -> None:
    """Oracle: the table: Kimi-K2.5 with EAGLE-3 on coding, 2.75 to 2.88; nothing for Qwen2-7B."""
    words = acceptance_words(KIMI)
    assert "2.88 tokens a step with 3 drafts were measured on: coding, thinking (EAGLE-3" in words
    assert "2.75 to 2.88" in words and "does not carry over" in words
    own = acceptance_words(KIMI.replace(acceptance_length=2.0))
    assert own.startswith("Your own 2 tokens a step count.")
    unknown = acceptance_words(Scenario(model="qwen2-7b", spec_tokens=2))
    assert "Give your own (acceptance_length)" in unknown
    near = acceptance_words(Scenario(model="gpt-oss-20b", draft="eagle", spec_tokens=4))
    assert "2.65 tokens a step with 3 drafts" in near
    assert "With 4 drafts each is taken to be accepted with the same chance." in near


def test_a_run_says_what_its_acceptance_was_measured_on() -> None:
    """Oracle: the note of the table; who gives an own length needs none."""
    scenario = Scenario(draft="eagle", spec_tokens=7, requests=50)
    notes = summarize(simulate(scenario), scenario)["warnings"]
    assert acceptance_words(scenario) in notes
    own = scenario.replace(acceptance_length=2.0)
    assert not any("acceptance" in note for note in summarize(simulate(own), own)["warnings"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, True),
        (
            {"model": "deepseek-r1", "tensor_parallel": 8, "accelerator": "h200", "weight_dtype": "fp8"},
            False,
        ),
        ({"draft": "eagle"}, False),
        ({"draft_params_b": 0.5}, False),
        ({"spec_tokens": 0}, False),
    ],
    ids=["llama", "deepseek", "eagle", "of a size", "none"],
)
def test_drafts_by_layers_that_a_model_has_not_are_named(changes: dict, said: bool) -> None:
    """Oracle: the configurations: DeepSeek-R1 has an MTP layer, Llama-3.1-8B has none."""
    scenario = load_scenario(**{"spec_tokens": 2, "acceptance_length": 2.0, "requests": 50} | changes)
    notes = summarize(simulate(scenario), scenario)["warnings"]
    assert any("comes without an MTP layer: draft=mtp is priced" in note for note in notes) == said


def test_a_published_length_tells_of_a_layer() -> None:
    """Oracle: MiMo-V2-Flash, of which a length with its MTP layer is published."""
    assert not supposed_drafter(Scenario(model="mimo-v2-flash", spec_tokens=1))
