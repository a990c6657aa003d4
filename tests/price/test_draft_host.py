"""What sequences and drafts keep the host, in the price of a step."""

from __future__ import annotations

import numpy as np
import pytest

from sim_core.price.price import price_of
from sim_core.scenario.scenario import Scenario

BASE = Scenario(
    model="deepseek-r1", accelerator="h200", tensor_parallel=8, weight_dtype="native", max_batch=64
)


FREE, HOST = "draft:0,draft_sequence:0", "draft:2,draft_sequence:30"
LAUNCHES = {"mtp": (1, 3), "eagle": (1, 3), "parallel": (1, 1)}  # of one draft and of three


@pytest.mark.parametrize("draft", LAUNCHES)
def test_each_draft_keeps_the_host(draft: str) -> None:
    """Oracle: by hand. Drafts that follow from one another are launched one by one, parallel ones at once;
    what is accepted is sorted out by draft of each sequence."""
    sequences = np.arange(1, 65)
    for drafts, launches in zip((1, 3), LAUNCHES[draft], strict=True):
        how = {"spec_tokens": drafts, "acceptance_length": 1.5, "draft": draft}
        costs = [price_of(BASE.replace(constants=text, **how)).step.row_s[1:] for text in (FREE, HOST)]
        more_s = launches * 2e-3 + drafts * 30e-6 * sequences
        np.testing.assert_allclose(costs[1] - costs[0], more_s, rtol=1e-9)


def test_without_drafts_the_host_is_as_it_was() -> None:
    """Oracle: nothing drafts."""
    plain = [price_of(BASE.replace(constants=text)).step.row_s for text in (FREE, HOST)]
    np.testing.assert_array_equal(*plain)


def test_a_look_up_in_the_text_is_launched_by_nobody() -> None:
    """Oracle: what it takes the host is told apart, and is no draft's."""
    how = {"spec_tokens": 3, "acceptance_length": 1.5, "draft": "ngram"}
    looked = [price_of(BASE.replace(constants=text, **how)).step.row_s for text in (FREE, HOST)]
    np.testing.assert_array_equal(*looked)


@pytest.mark.parametrize(
    ("engine", "share"), [("", 1.0), ("vllm", 1.0), ("sglang", 1.0), ("tensorrt-llm", 0.25)]
)
def test_a_sequence_keeps_the_host_as_long_as_the_engine_lets_it(engine: str, share: float) -> None:
    """Oracle: by hand: 40 us a sequence, of which a compiled scheduler takes a quarter."""
    scenarios = [BASE.replace(engine=engine, constants=f"sequence:{each_us}") for each_us in (0, 40)]
    without, held = (price_of(scenario).step.row_s[1:] for scenario in scenarios)
    np.testing.assert_allclose(held - without, share * 40e-6 * np.arange(1, 65), rtol=1e-9)


def test_ranks_wait_for_what_a_sequence_takes_the_host() -> None:
    """Oracle: by hand: with ranks of attention all of 40 us a sequence count, whatever the engine hides."""
    ranks = BASE.replace(engine="tensorrt-llm", attention_data_parallel=8, expert_parallel=8)
    without, held = (price_of(ranks.replace(constants=f"sequence:{us}")).step.row_s[1:] for us in (0, 40))
    np.testing.assert_allclose(held - without, 40e-6 * np.arange(1, 65), rtol=1e-9)
