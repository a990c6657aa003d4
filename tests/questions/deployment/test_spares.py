"""Growth, safety margin and spare engines of a plan."""

from __future__ import annotations

import pytest

from sim_core.engine.run import run
from sim_core.questions.deployment.answer import Plan
from sim_core.questions.deployment.plan import final_plan
from sim_core.questions.deployment.question import Question
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import Scenario, accelerator_of

BASE = Scenario(prompt_tokens=800, output_tokens=120)


def found(rate_per_s: float = 60.0, scenario: Scenario = BASE, **more: object) -> Plan:
    given = {"accelerators": ("h100-sxm", "l40s"), "free": ("tensor_parallel",), "top": 6} | more
    return final_plan(Question(scenario=scenario, rate_per_s=rate_per_s, **given))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def spared() -> Plan:
    return found(spare=2)


def test_spare_engines_count_in_the_ranking(spared: Plan) -> None:
    """Oracle: USD an hour by hand: all accelerators times their price; two spare ones of each engine."""
    costs = [row.accelerators * accelerator_of(row.scenario).price_usd_per_hour for row in spared.rows]
    assert costs == [row.usd_per_hour for row in spared.rows] == sorted(costs)
    needed = {row.layout: row for row in found().rows if row.scenario.accelerator == "h100-sxm"}
    for row in spared.rows:
        plain = needed.get(row.layout)
        if plain and row.scenario.accelerator == "h100-sxm":
            assert row.replicas == plain.replicas + 2
            assert row.capacity_per_s == plain.capacity_per_s


def test_the_rate_is_served_with_the_spare_engines_down(spared: Plan) -> None:
    """Oracle: a run without them, which keeps the limits; headroom is what that serves beyond the rate."""
    best = spared.rows[0]
    left = best.scenario.replace(replicas=best.replicas - 2)
    assert point_of(run(left))["meets_slo"]
    served_per_s = best.capacity_per_s * (best.replicas - 2)
    assert best.headroom_frac == pytest.approx(served_per_s / 60 - 1)
    assert point_of(run(left.replace(arrival_per_s=served_per_s)))["meets_slo"]
    assert f", 2 of its {best.replicas} engines spare." in spared.sentence
    assert "With 2 of them down it serves" in spared.sentence


def test_spare_engines_count_among_the_most_devices() -> None:
    """Oracle: by hand: what needs all devices that there may be has no room for a spare one."""
    most = min(row.accelerators for row in found(objective="devices").rows)
    assert found(max_devices=most).rows
    none = found(max_devices=most, spare=1)
    assert not none.rows
    assert "of its engines spare; max_devices is" in none.sentence
    assert {row.accelerators <= most + 1 for row in found(max_devices=most + 1, spare=1).rows} == {True}


def test_what_is_added_to_the_rate_is_said() -> None:
    """Oracle: by hand: 40 requests/s that grow by half, a tenth beyond them: 66."""
    plan = found(40.0, growth_frac=0.5, margin_frac=0.1, top=1)
    assert plan.rows[0].scenario.arrival_per_s == pytest.approx(66.0)
    assert "66 requests/s (40 now, 50% growth and 10% margin)" in plan.sentence
    assert "now" not in found(66.0, top=1).sentence


def test_two_pools_have_a_spare_worker_each() -> None:
    """Oracle: the same pools without: a worker more of each, and its accelerators."""
    scenario = BASE.replace(model="llama-3.1-70b", weight_dtype="fp8", policy="disaggregated")
    asked = {"accelerators": ("mi300x",), "free": ("policy",), "top": 8}
    plain, spared = (
        next(row for row in found(8.0, scenario, spare=spare, **asked).rows if row.scenario.split)
        for spare in (0, 1)
    )
    before, after = ((row.scenario.prefill_workers, row.scenario.decode_workers) for row in (plain, spared))
    assert after == (before[0] + 1, before[1] + 1)
    assert spared.accelerators == spared.scenario.accelerators
    assert spared.headroom_frac == pytest.approx(plain.headroom_frac)
