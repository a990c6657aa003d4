"""Strategies on shifting traffic: against plain loops, one another, and runs without one decision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim_core import catalogue, load_scenario
from sim_core.engine.run import run
from sim_core.price.pools import one_pool_of
from sim_core.questions.shift import cluster as cluster_module
from sim_core.questions.shift.cluster import Cluster
from sim_core.questions.shift.report import decision_rows, timeline_rows
from sim_core.questions.shift.strategies import (
    Load,
    Planned,
    Predictive,
    Reactive,
    Strategy,
    best_plan,
    forecast_error,
)
from sim_core.questions.shift.study import STRATEGIES, Outcome, Study, _waiting, brought, without
from sim_core.questions.shift.volatility import SWEEP_DWELLS, break_even, sweep
from sim_core.scenario.ready import ready_scenario
from sim_core.traffic.requests import Requests

SMALL = (
    "demand_hours=0.04&dwell_s=30&prefill_workers=2&decode_workers=2&slo_tpot_ms=20&cooldown_s=20&observe_s=10"
    "&init_s=2&warm_up_s=2&forecast_s=10&forecast_error_frac=0.1"
)


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(load_scenario(SMALL))


def count(outcome: Outcome) -> int:
    return int(outcome.within.sum())


# --- bounds ---------------------------------------------------------------------------------------


def test_instant_knowledge_and_free_moves_are_the_bound(study: Study) -> None:
    """Oracle: a plain loop that each time moves to the split in which the busier pool is least loaded by the
    requests of the next interval; the predictive strategy with these powers does the same, to the request."""
    scenario = study.scenario.replace(
        forecast_s=study.scenario.control_s, forecast_error_frac=0.0, threshold_frac=0.0, hysteresis_frac=0.0,
        cooldown_s=0.0,
    )  # fmt: skip
    keen = study.drive(Predictive(study.load, scenario), "free", free=True)

    demand, step_s = study.demand, scenario.control_s
    needs = study.needs(demand.requests.prompt_tokens, demand.requests.output_tokens)
    cluster = Cluster(study.scenario, study.pools, demand, study.mean_split, free=True)
    now_s = step_s
    while now_s < study.duration_s:
        cluster.advance(now_s)
        coming = (demand.requests.arrival_s >= now_s) & (demand.requests.arrival_s < now_s + step_s)
        prefill, decode = (float(part[coming].sum()) for part in needs)
        present = cluster.prefill_workers
        best = min(range(1, 4), key=lambda p: max(prefill / p, decode / (4 - p)))
        if max(prefill / best, decode / (4 - best)) < max(prefill / present, decode / (4 - present)):
            cluster.ask(best, now_s)
        now_s += step_s
    cluster.advance(math.inf)
    requests = cluster.engine.decode.stacked.requests
    assert [d.after for d in cluster.decisions] == [d.after for d in keen.decisions]
    assert len(keen.decisions) > 2
    twin = study._outcome(cluster, "twin", study.mean_split, True)
    np.testing.assert_array_equal(keen.within, twin.within)
    assert np.isfinite(requests["finished_s"]).all()
    bound = study.outcome("free")
    assert 0.99 * count(bound) <= count(keen) <= count(bound)


def test_with_a_steady_mix_nobody_moves() -> None:
    """Oracle: the fixed split, request by request."""
    steady = Study(load_scenario(SMALL, demand="steady", demand_load_frac=0.7, forecast_error_frac=0.0))
    fixed = steady.outcome("fixed")
    for name in ("reactive", "predictive"):
        found = steady.outcome(name)
        assert not found.decisions
        np.testing.assert_array_equal(found.within, fixed.within)


def test_who_knows_more_serves_no_less(study: Study) -> None:
    """Oracle: order: an oracle can do what all others did, and free moves can do what it did."""
    known = {name: count(study.outcome(name)) for name in STRATEGIES}
    assert known["oracle"] >= max(known[name] for name in ("fixed", "hindsight", "reactive", "predictive"))
    assert known["free"] >= known["oracle"]
    assert known["hindsight"] >= known["fixed"]


def test_the_best_fixed_split_is_found(study: Study) -> None:
    """Oracle: all of them tried."""
    assert count(study.outcome("hindsight")) == max(count(study.fixed(split)) for split in (1, 2, 3))


def test_one_pool_is_the_simulators(study: Study) -> None:
    """Oracle: `run` on the same requests, limits applied one by one."""
    demand, scenario = study.demand, study.scenario
    n = len(demand.requests)
    trace = Requests(
        demand.requests.arrival_s, demand.requests.prompt_tokens, demand.requests.output_tokens, "same"
    )
    found = run(one_pool_of(scenario).replace(arrivals="trace", requests=n, warmup_frac=0.0), trace=trace)
    within = 0
    for i in range(n):
        ttft_ms = 1e3 * (found.first_token_s[i] - demand.requests.arrival_s[i])
        output = int(demand.requests.output_tokens[i])
        tpot_ms = 1e3 * (found.finished_s[i] - found.first_token_s[i]) / (output - 1) if output > 1 else 0.0
        within += ttft_ms <= scenario.slo_ttft_ms and tpot_ms <= scenario.slo_tpot_ms
    assert count(study.outcome("one_pool")) == within


def test_what_fits_nowhere_is_not_served() -> None:
    """Oracle: requests that exceed the KV cache of a worker, counted."""
    tight = Study(
        load_scenario(SMALL, hbm_gb=20.0, kv_memory_frac=0.95, mix_other="12000~1/50:1", slo_ttft_ms=20_000.0)
    )
    demand = tight.demand
    too_long = (
        demand.requests.prompt_tokens + demand.requests.output_tokens
        > tight.pools.decode.request_limit_tokens
    )
    too_long |= demand.requests.prompt_tokens > tight.pools.prefill.request_limit_tokens
    assert too_long.any() and not too_long.all()
    for name in ("fixed", "reactive", "one_pool"):
        assert not tight.outcome(name).within[too_long].any()


# --- deciding -------------------------------------------------------------------------------------


def steps_load() -> Load:
    """Return a request a second that takes 2.4 prefill workers until 100 s, then 2.4 decode workers, of 4."""
    arrival_s = np.arange(0.0, 200.0) + 0.5
    first = arrival_s < 100
    return Load(arrival_s, np.where(first, 2.4, 0.5), np.where(first, 0.5, 2.4), 4)


def test_loads_over_a_stretch() -> None:
    """Oracle: by hand."""
    load = steps_load()
    assert load.between(0.0, 50.0).tolist() == pytest.approx([2.4, 0.5])
    assert load.between(90.0, 110.0).tolist() == pytest.approx([1.45, 1.45])
    assert load.best_split(load.between(0.0, 50.0)) == 3
    assert load.best_split(load.between(150.0, 200.0)) == 1


RULES = {
    "threshold_frac": 0.9,
    "hysteresis_frac": 0.1,
    "cooldown_s": 30.0,
    "observe_s": 20.0,
    "forecast_s": 20.0,
}


def wanted(strategy: Strategy, now_s: float, prefill_workers: int) -> int:
    """Return the split that a strategy asks for at one moment."""
    return strategy.wish(np.array([now_s]), prefill_workers)[1]


def test_reactive_waits_for_its_window_the_threshold_and_the_cool_down() -> None:
    """By hand: with 2 of 4 workers prefilling their load is 1.2, and 3 workers bring it to 0.8. Nothing
    before 20 s; then 3; nothing more for 30 s, and with 3 the load is below the threshold."""
    strategy = Reactive(steps_load(), load_scenario("", **RULES))
    assert wanted(strategy, 10.0, 2) == 2
    assert wanted(strategy, 20.0, 2) == 3
    assert wanted(strategy, 40.0, 2) == 2
    assert wanted(strategy, 55.0, 3) == 3
    careful = Reactive(steps_load(), load_scenario("", **{**RULES, "hysteresis_frac": 0.5}))
    assert wanted(careful, 20.0, 2) == 2


def test_predictive_sees_the_change_before_it_comes() -> None:
    """By hand: at 90 s the next 20 s need 1.45 and 1.45 workers: two and two."""
    strategy = Predictive(steps_load(), load_scenario("", **RULES, forecast_error_frac=0.0))
    assert wanted(strategy, 60.0, 3) == 3
    assert wanted(strategy, 90.0, 3) == 2


@pytest.mark.parametrize("kind", [Strategy, Reactive, Predictive, Planned])
def test_a_wish_is_what_asking_at_each_moment_finds(kind: type[Strategy]) -> None:
    """Oracle: one moment after another, the split as wished from then on."""
    scenario = load_scenario("", **{**RULES, "cooldown_s": 7.0, "forecast_error_frac": 0.4})
    own = {Strategy: (), Planned: (np.array([35.0, 90.0]), np.array([3, 1]))}
    arguments = own.get(kind, (steps_load(), scenario))
    times_s = np.arange(5.0, 200.0, 5.0)
    strategy, asked, split = kind(*arguments), [], 2
    for now_s in times_s:
        before, split = split, wanted(strategy, now_s, split)
        if split != before:
            asked.append((now_s, split))
    strategy, found, split = kind(*arguments), [], 2
    while times_s.size:
        before, (passed, split) = split, strategy.wish(times_s, split)
        if split != before:
            found.append((times_s[passed - 1], split))
        times_s = times_s[passed:]
    assert found == asked
    assert (len(asked) > 1) == (kind is not Strategy)


def test_forecast_errors_have_their_size() -> None:
    """Oracle: mean 1 and the variation asked for, over many stretches; the same seed errs alike."""
    scenario = load_scenario("forecast_error_frac=0.3")
    factors = np.array([forecast_error(scenario, stretch) for stretch in range(3000)])
    assert factors.mean(axis=0) == pytest.approx([1.0, 1.0], abs=0.02)
    assert factors.std(axis=0) == pytest.approx([0.3, 0.3], rel=0.08)
    np.testing.assert_array_equal(forecast_error(scenario, 7), factors[7])
    assert forecast_error(scenario.replace(forecast_error_frac=0.0), 7).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("away_s", "splits"), [(0.0, [3, 1]), (20.0, [3, 1]), (500.0, None)])
def test_the_plan_of_an_oracle(away_s: float, splits: list[int] | None) -> None:
    """Oracle: by hand: the plan goes from 3 to 1 prefill workers about the change; with an endless move it
    stays where it is."""
    plan = best_plan(steps_load(), load_scenario("control_s=5"), 200.0, away_s)
    if splits is None:
        assert plan.splits.size == 1
    else:
        assert plan.splits[0] == splits[0] and plan.splits[-1] == splits[-1]
        assert abs(plan.times_s[-1] - 100.0) <= away_s + 5


def test_the_plan_serves_most_by_its_own_count() -> None:
    """Oracle: every plan of at most one move, tried by hand on the same slots."""
    load, scenario = steps_load(), load_scenario("control_s=10")
    starts = np.arange(0.0, 200.0, 10.0)

    def served(first: int, then: int, slot: int, away: int) -> float:
        total = 0.0
        for k, start_s in enumerate(starts):
            p, d = (first, 4 - first) if k < slot else (then, 4 - then)
            if slot <= k < slot + away:
                p, d = min(first, then), 4 - max(first, then)
            prefill, decode = load.between(start_s, start_s + 10.0)
            busier = max(prefill / p if p else math.inf, decode / d if d else math.inf)
            total += 10 * min(max(1 - 4 * (busier - 1), 0.0), 1.0)
        return total

    plan = best_plan(load, scenario, 200.0, 20.0)
    slot = int(plan.times_s[1] // 10)
    own = served(int(plan.splits[0]), int(plan.splits[1]), slot, 2)
    tried = [served(a, b, k, 2) for a in (1, 2, 3) for b in (1, 2, 3) if a != b for k in range(20)]
    assert own == pytest.approx(max(tried))


# --- what it brought ------------------------------------------------------------------------------


def test_a_run_can_be_played_again(study: Study) -> None:
    """Oracle: the run itself."""
    for name in ("reactive", "predictive"):
        outcome = study.outcome(name)
        again = without(study, outcome, -1)
        np.testing.assert_array_equal(again.within, outcome.within)
        np.testing.assert_array_equal(again.moves, outcome.moves)


def test_what_a_decision_brought(study: Study) -> None:
    """Oracle: the run without it, as a plan written out by hand."""
    outcome = study.outcome("reactive")
    assert len(outcome.decisions) >= 2
    found = list(brought(study, outcome))
    for k, gained in enumerate(found):
        rest = [d for i, d in enumerate(outcome.decisions) if i != k]
        plan = Planned(np.array([d.time_s for d in rest]), np.array([d.after for d in rest]))
        assert gained == count(outcome) - count(study.drive(plan, "x", start=outcome.start))


def test_decisions_cost_what_their_moves_take(study: Study) -> None:
    """Oracle: sums by hand over the moves; the price of the device."""
    outcome = study.outcome("reactive")
    rows = decision_rows(study, outcome)
    price = catalogue.accelerator("h100-sxm").price_usd_per_hour
    for row, decision in zip(rows, outcome.decisions, strict=True):
        hours = (
            sum(
                min(outcome.moves[m]["ready_s"], study.duration_s) - outcome.moves[m]["asked_s"]
                for m in decision.moves
            )
            / 3600
        )
        assert row["accelerator_hours"] == pytest.approx(hours)
        assert row["cost_usd"] == pytest.approx(hours * price)
        assert len(row["workers"]) == abs(decision.after - decision.before)
    assert sum(row["accelerator_hours"] for row in rows) == pytest.approx(outcome.away_s / 3600)


def test_the_timeline_adds_up(study: Study) -> None:
    """Oracle: counting requests by hand in some bins."""
    outcome = study.outcome("reactive")
    line, arrival_s = outcome.timeline, study.demand.requests.arrival_s
    assert line.arrived.sum() == arrival_s.size
    assert line.within.sum() == count(outcome)
    for k in (0, 100, 239):
        inside = (arrival_s >= line.edges_s[k]) & (arrival_s < line.edges_s[k + 1])
        assert line.arrived[k] == inside.sum()
        assert line.within[k] == (inside & outcome.within).sum()
    rows = timeline_rows(study, outcome)
    assert sum(row["goodput_per_s"] for row in rows) / len(rows) == pytest.approx(outcome.goodput_per_s)


def test_queues_by_counting() -> None:
    """Oracle: by hand: three come, two go, one of them later."""
    edges_s = np.array([0.0, 1.0, 2.0, 3.0])
    came, went = np.array([0.5, 0.6, 1.5, np.nan]), np.array([0.7, 2.5, 1.6, np.nan])
    assert _waiting(edges_s, came, went).tolist() == [1, 1, 0]


def test_known_outcomes_are_not_worked_out_again(study: Study) -> None:
    """Oracle: identity, also where a setting of another strategy has changed."""
    fixed, reactive = study.outcome("fixed"), study.outcome("reactive")
    other = Study(study.scenario.replace(forecast_error_frac=0.7))
    assert other.known("fixed") is fixed
    assert other.known("reactive") is reactive
    assert other.known("predictive") is None
    slower = Study(study.scenario.replace(warm_up_s=9.0))
    assert slower.known("fixed") is fixed
    assert slower.known("reactive") is None


def test_a_trace_is_studied_as_it_comes() -> None:
    """Oracle: its requests, all of them, at its own rate."""
    n = 600
    trace = Requests(
        np.sort(np.random.default_rng(1).uniform(0, 60, n)), np.full(n, 500), np.full(n, 40), "own"
    )
    own = Study(load_scenario(SMALL, demand="trace", demand_load_frac=None), trace)
    np.testing.assert_array_equal(own.demand.requests.prompt_tokens, trace.prompt_tokens)
    assert own.outcome("reactive").within.size == n
    assert own.outcome("one_pool").attainment_frac == 1.0  # ten short requests a second on four devices


# --- volatility -----------------------------------------------------------------------------------


def gains(*values: float) -> list[dict]:
    return [
        {"dwell_reallocations": 2.0**k, "fixed_frac": 0.5, "reactive_frac": 0.5 + value}
        for k, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (gains(-0.2, -0.1, 0.1, 0.3), 2 * math.sqrt(2)),  # half-way between 2 and 4, in the logarithm
        (gains(0.1, 0.2), 0.0),
        (gains(0.1, -0.1, -0.2), math.nan),
        (gains(0.1, -0.1, 0.3), 2 ** (1 + 0.25)),  # for good only after the last time below
        ([], math.nan),
    ],
)
def test_break_even(rows: list[dict], expected: float) -> None:
    """Oracle: by hand."""
    assert break_even(rows, "reactive") == pytest.approx(expected, nan_ok=True)


QUICK = "prefill_workers=1&decode_workers=1&init_s=0&warm_up_s=0&storage_gb_per_s=1e6&sync_s=2"


def test_the_sweep_has_a_point_for_each_speed() -> None:
    """Oracle: the dwell times asked for, and a study of one of them."""
    scenario = load_scenario(QUICK.replace("1e6", "1000000"))
    rows = list(sweep(scenario, dwells=(0.5, 2.0)))
    assert [row["dwell_reallocations"] for row in rows] == [0.5, 2.0]
    unit_s = max(cluster_module.reallocation_s(scenario), scenario.control_s)
    assert [row["dwell_s"] for row in rows] == pytest.approx([0.5 * unit_s, 2 * unit_s])
    one = Study(
        scenario.replace(dwell_s=rows[1]["dwell_s"], demand_hours=rows[1]["dwell_s"] * SWEEP_DWELLS / 3600)
    )
    assert rows[1]["reactive_frac"] == one.outcome("reactive").attainment_frac


def test_the_work_can_be_stopped() -> None:
    """Oracle: the exception of the caller comes through; nothing half-done is kept."""

    class Enough(Exception):
        pass

    def stop(done_frac: float) -> None:
        if done_frac > 0.3:
            raise Enough

    one = Study(load_scenario(SMALL, seed=99))
    with pytest.raises(Enough):
        one.outcome("reactive", stop)
    assert one.known("reactive") is None


# --- ready scenarios ------------------------------------------------------------------------------


def shares(name: str, *strategies: str) -> list[float]:
    one = Study(ready_scenario(name).build())
    return [one.outcome(strategy).attainment_frac for strategy in strategies]


@pytest.mark.slow
def test_ready_scenarios_show_what_they_say() -> None:
    """Oracle: the simulator, on what the presets tell people to expect."""
    fixed, best, reactive, oracle, one = shares(
        "shift-chats-and-documents", "fixed", "hindsight", "reactive", "oracle", "one_pool"
    )
    assert fixed < 0.5 < best < 0.7 and best + 0.05 < reactive < oracle - 0.05 and one > reactive
    reactive, oracle, one = shares("shift-role-flip", "reactive", "oracle", "one_pool")
    assert reactive > 0.95 and oracle - reactive < 0.05 and reactive > one
    fixed, reactive, predictive = shares("shift-too-fast", "fixed", "reactive", "predictive")
    assert max(reactive, predictive) < fixed - 0.2
    fixed, oracle = shares("shift-spike", "fixed", "oracle")
    assert oracle > fixed + 0.2
    fixed, hindsight, oracle = shares("shift-day", "fixed", "hindsight", "oracle")
    assert fixed > 0.95 and oracle - hindsight < 0.02
