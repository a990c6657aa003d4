"""Where the time of ranks of attention goes: the parts, what ranks wait for one another among them."""

import pytest

from sim_core.engine.run import run
from sim_core.results.metrics import point_of
from sim_core.results.use import budget_full_frac, spent_s
from sim_core.scenario.scenario import Scenario

RANKS = Scenario(
    model="deepseek-r1",
    accelerator="h200",
    weight_dtype="fp8",
    tensor_parallel=8,
    attention_data_parallel=8,
    expert_parallel=8,
    arrivals="closed",
    concurrency=32,
    requests=300,
)


def test_ranks_wait_for_the_fullest_one() -> None:
    """By definition: parts and waiting add up to the busy time, and prompts of others make ranks wait."""
    found = run(RANKS)
    spent = spent_s(found.price, found.engine.usage)
    assert sum(spent.values()) == pytest.approx(found.engine.usage.busy_s, rel=1e-9)
    assert spent["lockstep"] > 0.02 * found.engine.usage.busy_s
    point = point_of(found)
    shares = {name: value for name, value in point.items() if name.startswith("share_")}
    assert sum(shares.values()) == pytest.approx(1, rel=1e-9)
    assert {"share_lockstep", "share_all_to_all"} <= shares.keys()


def test_one_rank_waits_for_nobody() -> None:
    """By definition: the parts of one rank are those there have always been."""
    found = run(RANKS.replace(attention_data_parallel=1))
    assert "share_lockstep" not in point_of(found)


def test_stages_wait_for_batches() -> None:
    """By definition: with one client three of four stages wait at any time, as does the last one."""
    stages = Scenario(pipeline_parallel=4, arrivals="closed", concurrency=1, requests=100)
    point = point_of(run(stages))
    shares = {name: value for name, value in point.items() if name.startswith("share_")}
    assert sum(shares.values()) == pytest.approx(1, rel=1e-9)
    assert shares["share_bubbles"] == pytest.approx(0.75, abs=0.05)
    assert point["limit"] == "bubbles"
    assert "share_bubbles" not in point_of(run(stages.replace(pipeline_parallel=1)))


def test_full_steps_of_ranks_count_their_experts() -> None:
    """By hand: prompts of eight budgets fill every step, whose tokens cost what a rank does alone and what
    experts take of them; contexts, and tokens of other ranks, come on top.
    """
    scenario = RANKS.replace(prompt_tokens=8000, output_tokens=2, prompt_cv=0.0, token_budget=1000)
    found = run(scenario.replace(concurrency=64))
    step, usage = found.price.step, found.engine.usage
    tokens_s = usage.steps * float(step.token_s[1000] + step.group_s[1000])
    assert usage.steps_by_tokens[1000] == usage.steps and step.group_s[1000] > 0
    assert budget_full_frac(found) == pytest.approx(tokens_s / usage.busy_s) and tokens_s < usage.busy_s
