"""What lies around the first row of a plan."""

from __future__ import annotations

import pytest

from sim_core.engine.run import run
from sim_core.engine.work import Allowance, SpentUp, Stopped, allowed
from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.around import row as around
from sim_core.questions.deployment.plan import final_plan, plans
from sim_core.questions.deployment.question import Question
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import Scenario

SCENARIO = Scenario(prompt_tokens=800, output_tokens=100)


def test_the_staircase_passes_through_the_row(question, row) -> None:
    """Oracle: the row's devices and what runs found them to serve; more devices serve more."""
    stairs = around.staircase(question, row)
    known = {stair.devices: stair for stair in stairs if stair.simulated}
    assert known[row.accelerators].rate_per_s == pytest.approx(row.capacity_per_s * row.replicas)
    assert stairs == sorted(stairs)
    assert [stair.rate_per_s for stair in stairs] == sorted(stair.rate_per_s for stair in stairs)
    assert stairs[0].devices == row.accelerators / row.replicas
    assert stairs[-1].rate_per_s >= 2 * question.planned_per_s


def test_spares_stand_on_every_step(question) -> None:
    """Oracle: one more engine than without, at the same rates but for the row's own factor."""
    spare = Question(
        scenario=SCENARIO, rate_per_s=60.0, accelerators=("h100-sxm",), free=("max_batch",), top=1, spare=1
    )
    row = final_plan(spare).rows[0]
    known = {stair.devices: stair for stair in around.staircase(spare, row) if stair.simulated}
    served_per_s = row.capacity_per_s * (row.replicas - 1)
    assert known[row.accelerators].rate_per_s == pytest.approx(served_per_s)


def test_the_neighbours_of_the_row_are_simulated(question, row) -> None:
    """Oracle: runs of a replica less and more: the limits are kept there, and missed 5% beyond."""
    known = [stair for stair in around.staircase(question, row) if stair.simulated]
    engine = row.accelerators // row.replicas
    assert [stair.devices // engine for stair in known] == [
        count for count in range(row.replicas - 1, row.replicas + 2) if count
    ]
    for stair in known:
        deployed = row.scenario.replace(replicas=stair.devices // engine, requests=20_000)
        kept, missed = (
            point_of(run(deployed.replace(arrival_per_s=factor * stair.rate_per_s)))
            for factor in (0.95, 1.05)
        )
        assert kept["meets_slo"]
        assert not missed["meets_slo"]


def test_arithmetic_counts_in_the_budget_of_a_view(question) -> None:
    """Oracle: seconds are spent; a view that has run enough is told so, one left alone ends."""
    with allowed(Allowance(1e-3, 10**9)) as given:
        around.estimated_best(question)
        assert given.spent_s > 0
        with pytest.raises(SpentUp, match="its budget is"):
            around.costs_over_limits(question)
    with allowed(Allowance(100.0, 10**9)) as given:
        given.stop[0] = 1
        with pytest.raises(Stopped):
            around.costs_over_limits(question)
        with pytest.raises(Stopped):
            next(plans(question))


def test_longer_limits_cost_no_more(question) -> None:
    """Oracle: whoever keeps a limit keeps a longer one; at the one asked for, the plan's own estimate."""
    costs = around.costs_over_limits(question)
    worths = [cost.worth for cost in costs if cost.worth is not None]
    assert len(worths) > 3
    assert worths == sorted(worths, reverse=True)
    asked = next(cost for cost in costs if cost.limit_ms == SCENARIO.slo_tpot_ms)
    assert asked.worth == min(row.usd_per_hour for row in next(plans(question)).rows)
    assert SCENARIO.slo_tpot_ms - 10 in [cost.limit_ms for cost in costs]


def test_a_choice_is_never_better_than_the_best(question, row) -> None:
    """Oracle: the chosen engine is among those that the best is chosen from; less load is no trouble."""
    found = {(each.key, each.factor): each for each in around.regrets(question, row)}
    assert len(found) == 6
    assert all(each.regret_frac is None or each.regret_frac >= -1e-9 for each in found.values())
    assert found["arrival_per_s", 0.8].meets_slo
    assert not around.regret(question, row, "arrival_per_s", 3.0).meets_slo
    more, less = found["arrival_per_s", 1.2].worth, found["arrival_per_s", 0.8].worth
    assert more > less


def test_lengths_of_a_mix_come_no_other_way(question, row) -> None:
    """By hand: keys of lengths change nothing where a mix has all lengths, so no regret of them is told."""
    mixed = {"mix": "1000/200:1,500/100:1"}
    asked = around.dataclasses.replace(question, scenario=question.scenario.replace(**mixed))
    found = around.regrets(asked, around.dataclasses.replace(row, scenario=row.scenario.replace(**mixed)))
    assert {each.key for each in found} == {"arrival_per_s"}


def test_two_pools_are_refused_with_the_way_out(question, row) -> None:
    """Oracle: the sentence."""
    pools = Scenario(policy="disaggregated")
    split = around.dataclasses.replace(row, scenario=pools)
    with pytest.raises(ScenarioError, match="leave two pools out"):
        around.staircase(question, split)


def test_a_limit_that_no_class_has_costs_nothing() -> None:
    """By hand: where every class has limits of its own, that of all is nobody's; the message says so."""
    mixed = Scenario(mix="rag:1,chat:1", class_limits="rag:5000/50,chat:1000/30")
    question = Question(scenario=mixed, rate_per_s=5.0, accelerators=("h100-sxm",), free=("tensor_parallel",))
    with pytest.raises(ScenarioError, match="slo_tpot_ms changes nothing"):
        around.costs_over_limits(question)
