"""Sweeps, the frontier, refinement and the capacity.

Oracle: brute force for the Pareto set, the single run for every point of a sweep, the Lindley recursion
in plain Python for the capacity; otherwise stated in the test.
"""

from __future__ import annotations

import importlib
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core import capacity, frontier, load_scenario
from sim_core.engine.run import run
from sim_core.engine.work import pool
from sim_core.fields.errors import ScenarioError
from sim_core.price.price import price_of
from sim_core.results.answers import answer_of
from sim_core.results.limits import bands_of
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.frontier import evaluate, evaluate_all, on_frontier, refine, tabulate
from sim_core.sweep.points import LOADS, MAX_POINTS, Point, default_vary, own_vary, sweep_key, sweep_points
from sim_core.sweep.saturation import saturation_per_s
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.trace_files.read import read_trace

module = importlib.import_module("sim_core.sweep.frontier")


# --- the Pareto set ---------------------------------------------------------------------------------

coordinate = st.one_of(st.integers(0, 6).map(float), st.sampled_from([math.nan, math.inf, -math.inf, -0.0]))


@given(st.lists(st.tuples(coordinate, coordinate), max_size=25))
def test_frontier_is_what_no_point_beats(points):
    """Oracle: every pair compared. Few values, so ties and twins are common; NaN and infinity never win."""
    x, y = (np.array([point[i] for point in points]) for i in (0, 1))
    valid = [math.isfinite(a) and math.isfinite(b) for a, b in points]
    expected = [
        valid[i]
        and not any(
            valid[j] and x[j] >= x[i] and y[j] >= y[i] and (x[j] > x[i] or y[j] > y[i])
            for j in range(len(points))
        )
        for i in range(len(points))
    ]
    assert on_frontier(x, y).tolist() == expected


def test_frontier_of_nothing():
    """Oracle: there is no point."""
    assert on_frontier(np.empty(0), np.empty(0)).tolist() == []
    assert on_frontier(np.array([math.nan]), np.array([1.0])).tolist() == [False]


# --- the points of a sweep --------------------------------------------------------------------------


def test_order_of_points():
    """Oracle: the last key runs fastest."""
    points = sweep_points(Scenario(), {"tensor_parallel": [2, 1], "max_batch": (4, 8, 16)})
    expected = [(2, 4), (2, 8), (2, 16), (1, 4), (1, 8), (1, 16)]
    assert [tuple(point.keys.values()) for point in points] == expected
    assert [(p.scenario.tensor_parallel, p.scenario.max_batch) for p in points] == expected


def test_table_agrees_with_single_runs():
    """Oracle: each point simulated alone."""
    scenario = Scenario(requests=500)
    table = frontier(scenario, {"policy": ["chunked", "static"], "arrival_per_s": [2.0, 8.0]})
    for row in table.to_dict("records"):
        alone = run(scenario.replace(policy=row["policy"], arrival_per_s=row["arrival_per_s"]))
        for name, value in point_of(alone).items():
            np.testing.assert_equal(row[name], value, err_msg=name)
    assert table["feasible"].all()


def test_what_cannot_run_is_kept_with_its_reason():
    """Oracle: 405 x 10^9 parameters of 2 bytes do not fit 80 GB, at 8 devices neither; at 16 they do."""
    scenario = Scenario(model="llama-3.1-405b", requests=100)
    for vary in ({"max_batch": [8]}, {"load_frac": [0.5]}):
        table = frontier(scenario, {"tensor_parallel": [1, 8, 7, 16], **vary})
        assert table["feasible"].tolist() == [False, False, False, True]
        assert table["limit"].tolist()[:3] == ["memory", "memory", "scenario"]
        assert "812 GB" in table["reason"][0]
        assert "which it must divide" in table["reason"][2]
        assert table["reason"][3] == ""
        assert table["on_frontier"].tolist() == [False, False, False, True]
        assert not table["meets_slo"][:3].any()


def test_a_sweep_in_which_nothing_runs():
    """Oracle: a table all the same."""
    table = frontier(Scenario(model="llama-3.1-405b"), {"max_batch": [1, 2]})
    assert len(table) == 2
    assert not table[["feasible", "on_frontier", "saturated", "meets_slo"]].any(axis=None)


def test_load_is_a_share_of_what_saturates():
    """Oracle: the definition; and a load is the same load on every curve."""
    scenario = Scenario(requests=500)
    points = sweep_points(scenario, {"max_batch": [4, 64], "load_frac": [0.25, 0.5]})
    for point in points:
        top = saturation_per_s(scenario.replace(max_batch=point.keys["max_batch"]))
        assert point.scenario.arrival_per_s == pytest.approx(point.keys["load_frac"] * top)
        assert point.keys["arrival_per_s"] == point.scenario.arrival_per_s


@pytest.mark.parametrize("policy", ["chunked", "prefill_first", "static"])
@pytest.mark.parametrize("changes", [{}, {"replicas": 3}, {"max_batch": 8}, {"prompt_cv": 2.0}])
def test_what_saturates_is_what_an_overloaded_engine_finishes(policy, changes):
    """Oracle: an open loop at twice the rate finishes as many requests; 8% for the start, which is empty."""
    scenario = Scenario(policy=policy, requests=4000, **changes)
    top = saturation_per_s(scenario)
    overloaded = run(scenario.replace(arrival_per_s=2 * top, warmup_frac=0.3))
    share = 0.1 if policy == "static" else 0.08  # whole batches of hundreds end in the time or after it
    assert answer_of(overloaded).request_per_s == pytest.approx(top, rel=share)


def test_saturation_does_not_stop_where_preemptions_begin():
    """Oracle: runs. With the batch full this engine thrashes; with fewer clients it does much more."""
    scenario = load_scenario("kv-pressure", admission="first_chunk")
    rates = [
        answer_of(run(scenario.replace(concurrency=clients))).request_per_s for clients in (8, 16, 24, 32, 48)
    ]
    assert saturation_per_s(scenario) >= 0.95 * max(rates)
    assert max(rates) > 1.5 * rates[-1]


def test_huge_batches_and_replicas_still_have_a_load():
    """Oracle: the search stays within the limits of the keys it sets."""
    scenario = Scenario(max_batch=16_384, replicas=200, requests=50, output_tokens=4, prompt_tokens=20)
    assert saturation_per_s(scenario.replace(token_budget=16_384)) > 0


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        ({"max_bach": [1]}, "Did you mean max_batch"),
        ({"max_batch": []}, "no values were given"),
        ({"max_batch": list(range(1, 102)), "token_budget": list(range(1, 101))}, f"limit is {MAX_POINTS:,}"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(vary, says):
    """Oracle: the limits."""
    with pytest.raises(ScenarioError, match=says):
        sweep_points(Scenario(), vary)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("max_batch", 0, "must lie between"),
        ("max_batch", "8", "must be a whole number"),
        ("load_frac", 0.0, "must lie between"),
        ("load_frac", math.nan, "finite"),
        ("load_frac", "half", "must be a number"),
        ("policy", "fastest", "choose one of"),
    ],
)
def test_a_value_that_cannot_be_is_a_point_with_a_reason(key, value, says):
    """Oracle: the limits of the keys."""
    (point,) = sweep_points(Scenario(), {key: [value]})
    assert point.scenario is None
    assert point.limit == "scenario"
    assert says in point.reason


def test_one_value_may_stand_alone():
    """Oracle: a list of it."""
    assert sweep_points(Scenario(), {"policy": "static"}) == sweep_points(Scenario(), {"policy": ["static"]})
    assert sweep_points(Scenario(), {"max_batch": np.int64(4)})[0].scenario.max_batch == 4


@pytest.mark.parametrize("arrivals", ["closed", "offline"])
def test_a_load_needs_a_rate(arrivals):
    """Oracle: a closed loop and an offline run have no request rate."""
    (point,) = sweep_points(Scenario(arrivals=arrivals), {"load_frac": [0.5]})
    assert point.scenario is None
    assert f"arrivals is {arrivals}" in point.reason


@pytest.mark.parametrize(
    ("arrivals", "key"), [("poisson", "load_frac"), ("gamma", "load_frac"), ("closed", "concurrency")]
)
def test_default_sweep(arrivals, key):
    """Oracle: curves by tensor parallelism over what sets the load."""
    scenario = Scenario(arrivals=arrivals, requests=100)
    assert sweep_key(scenario) == key
    assert list(default_vary(scenario)) == ["tensor_parallel", key]
    assert len(sweep_points(scenario)) == 4 * len(LOADS) == 48
    assert all(point.scenario for point in sweep_points(scenario))


def test_closed_loops_get_requests_enough_for_their_clients():
    """Oracle: ten requests a client, so that start and drain leave something between them."""
    points = sweep_points(Scenario(arrivals="closed", requests=100), {"concurrency": [2, 512]})
    assert [point.scenario.requests for point in points] == [100, 5120]


def test_all_points_see_the_same_requests():
    """Oracle: common random numbers: rates stretch arrivals, and nothing else changes."""
    points = sweep_points(
        Scenario(), {"max_batch": [8, 64], "policy": ["chunked", "static"], "load_frac": [0.1, 0.9]}
    )
    first, *others = (requests_sent(point.scenario) for point in points)
    for point, traffic in zip(points[1:], others, strict=True):
        np.testing.assert_array_equal(traffic.prompt_tokens, first.prompt_tokens)
        np.testing.assert_array_equal(traffic.output_tokens, first.output_tokens)
        scale = points[0].scenario.arrival_per_s / point.scenario.arrival_per_s
        np.testing.assert_allclose(traffic.arrival_s, first.arrival_s * scale, rtol=1e-12)


def test_curves_are_smooth():
    """Oracle: same requests, so a p50 only grows with the load; with independent draws it would jump."""
    table = frontier(Scenario(), {"load_frac": [0.5 + 0.01 * step for step in range(40)]})
    assert (np.diff(table["tpot_ms_p50"]) > 0).all()
    assert (np.diff(table["ttft_ms_p50"]) > -0.5).all()


def test_a_sweep_over_a_trace(tmp_path):
    """Oracle: the lengths of the trace, whatever the load."""
    path = tmp_path / "trace.csv"
    rows = "\n".join(f"{0.1 * i},{100 + i},{5 + i % 7}" for i in range(400))
    path.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
    trace = read_trace(path)
    table = frontier(Scenario(requests=400), {"load_frac": [0.3, 0.6]}, trace=trace)
    assert table["feasible"].all()
    assert table["output_tok_per_s"][1] > table["output_tok_per_s"][0]
    played = Scenario(requests=400, arrivals="trace")
    assert frontier(played, {"max_batch": [1, 64]}, trace=trace)["feasible"].all()


# --- refinement -------------------------------------------------------------------------------------


def test_refinement_gives_every_point_once_and_right():
    """Oracle: `evaluate` with as many requests, point by point."""
    vary = {"tensor_parallel": [1, 3], "load_frac": [0.2, 0.7, 1.1]}
    points = sweep_points(Scenario(), vary)
    found = list(refine(points, requests=3000))
    assert sorted(index for index, _ in found) == list(range(len(points)))
    for index, row in found:
        np.testing.assert_equal(row, evaluate(points[index], requests=3000, bands=True))
        if row["feasible"]:
            assert row["requests"] == 3000
            assert row["ttft_ms_p99_low"] <= row["ttft_ms_p99"] <= row["ttft_ms_p99_high"]
            assert row["tpot_ms_p99_low"] <= row["tpot_ms_p99"] <= row["tpot_ms_p99_high"]


def test_refinement_never_takes_fewer_requests():
    """Oracle: a closed loop of 512 clients has 5,120 requests; 3,000 would be a step back."""
    points = sweep_points(Scenario(arrivals="closed"), {"concurrency": [512]})
    ((_, row),) = refine(points, requests=3000)
    assert row["requests"] == 5120


def test_closing_a_refinement_cancels_the_rest(monkeypatch):
    """Oracle: of 60 points at most one per worker and one more have started when the iterator is closed."""
    started = []

    def slow(point, **_):
        started.append(point)
        time.sleep(0.05)
        return {}

    monkeypatch.setattr(module, "evaluate", slow)
    rows = refine(sweep_points(Scenario(), {"max_batch": range(1, 61)}))
    next(rows)
    rows.close()
    at_close = len(started)
    pool().submit(int).result(timeout=10)
    assert len(started) <= at_close + pool()._max_workers
    assert len(started) < 20


def test_two_refinements_share_the_pool():
    """Oracle: interleaved iterators give what one after another would."""
    points = sweep_points(Scenario(requests=500), {"load_frac": [0.3, 0.6, 0.9]})
    one, two = refine(points, requests=1500), refine(points[::-1], requests=1500)
    rows = {("one", *next(one)[:1]) for _ in points} | {("two", *next(two)[:1]) for _ in points}
    assert rows == {(name, index) for name in ("one", "two") for index in range(3)}


# --- capacity ---------------------------------------------------------------------------------------

ONE_PLACE = Scenario(
    max_batch=1, prompt_tokens=700, prompt_cv=0.0, output_tokens=1, output_cv=0.0, requests=20_000
)


def service_s(scenario):
    """Return the time of a prompt alone, the only step a request of `ONE_PLACE` needs [s]."""
    step, prompt = price_of(scenario).step, scenario.prompt_tokens
    return step.token_s[prompt] + step.row_s[1] + step.prefill_pair_s * prompt**2 / 2 + step.prefill_request_s


def lindley_p99_s(scenario, per_s):
    """Return the p99 of TTFT of a single server with constant service, by Lindley (1952), as the client sees.

    The wait of a request is that of the one before it, plus its service, less the gap between the two.
    """
    duration_s, wait_s, ttfts_s = service_s(scenario), 0.0, []
    arrival_s = requests_sent(scenario.replace(arrival_per_s=per_s)).arrival_s.tolist()
    for before_s, at_s in zip([arrival_s[0], *arrival_s], arrival_s, strict=False):
        wait_s = max(0.0, wait_s + duration_s - (at_s - before_s)) if ttfts_s else 0.0
        ttfts_s.append(wait_s + duration_s)
    price = price_of(scenario)
    offsets_s = price.before_s(np.array([scenario.prompt_tokens])) + price.request_after_s
    return np.percentile(ttfts_s[len(ttfts_s) // 10 :], 99) + offsets_s


def lindley_capacity(scenario):
    """Return the highest rate whose p99 of TTFT is within the limit, by bisection [1/s]."""
    low, high = 0.0, 1 / service_s(scenario)
    for _ in range(25):
        rate = (low + high) / 2
        within = lindley_p99_s(scenario, rate) <= scenario.slo_ttft_ms / 1e3
        low, high = (rate, high) if within else (low, rate)
    return low


@pytest.mark.parametrize("services", [2.5, 5.0, 12.0])
def test_capacity_of_m_d_1(services):
    """Oracle: the Lindley recursion on the same arrivals, in plain Python; the tolerance is the search's.

    The limit on TTFT is 2.5, 5 or 12 services, which allow a load of about 0.2, 0.6 and 0.8.
    """
    scenario = ONE_PLACE.replace(slo_ttft_ms=services * 1e3 * service_s(ONE_PLACE))
    found = capacity(scenario)
    expected = lindley_capacity(scenario)
    assert found["arrival_per_s"] == pytest.approx(expected, rel=2 * found["tolerance_frac"])
    assert found["bound_by"] == "ttft"


def test_capacity_without_limits_is_what_is_stable():
    """Oracle: a server of constant service D keeps up with 1/D. An overload of 1% in 20,000 requests is seen
    by a completion rate under 98% only from 2% on, so the search may end up to 3% above."""
    found = capacity(ONE_PLACE.replace(slo_ttft_ms=1e8, slo_tpot_ms=1e7))
    assert 0.98 < found["arrival_per_s"] * service_s(ONE_PLACE) < 1.03
    assert found["saturation_per_s"] * service_s(ONE_PLACE) == pytest.approx(1, rel=0.15)  # turnaround idles
    assert found["bound_by"] == "stability"


@pytest.mark.parametrize(
    ("changes", "bound_by"),
    [
        ({}, "ttft"),
        ({"max_batch": 256}, "tpot"),
        ({"slo_ttft_ms": 150.0}, "ttft"),
        ({"slo_tpot_ms": 1e4, "slo_ttft_ms": 1e6}, "stability"),
        ({"policy": "prefill_first", "slo_tpot_ms": 20.0}, "tpot"),
        ({"policy": "static", "slo_ttft_ms": 20_000.0}, "ttft"),
        ({"arrivals": "gamma", "arrival_cv": 3.0, "slo_tpot_ms": 100.0}, "ttft"),
        ({"replicas": 2, "slo_tpot_ms": 20.0}, "tpot"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else value,
)
def test_capacity_meets_the_limits_and_two_percent_more_does_not(changes, bound_by):
    """Oracle: the run at the rate found, and at a rate 2% higher, with the same requests.

    Static batches form anew at every rate, and p99 jumps by a tenth: there 5% higher.
    """
    scenario = Scenario(**{"max_batch": 128, **changes})
    found = capacity(scenario)
    rate = found["arrival_per_s"]
    assert found["bound_by"] == bound_by
    full = scenario.replace(requests=20_000, arrival_per_s=rate)
    np.testing.assert_equal(point_of(run(full)), found["point"])
    assert found["point"]["meets_slo"] is True
    above = 1.05 if scenario.policy == "static" else 1.02
    assert point_of(run(full.replace(arrival_per_s=above * rate)))["meets_slo"] is False


def test_no_capacity_where_even_a_trickle_misses():
    """Oracle: no engine answers in 0.01 ms, nor decodes 8B parameters of 2 bytes at 3.35 TB/s in 1 ms."""
    for limit, bound_by in (("slo_ttft_ms", "ttft"), ("slo_tpot_ms", "tpot")):
        found = capacity(Scenario(**{limit: 0.01 if bound_by == "ttft" else 1.0}))
        assert (found["arrival_per_s"], found["point"], found["bound_by"]) == (0.0, None, bound_by)


def test_capacity_counts_rejected_requests_by_the_percentile():
    """Oracle: the p99 rule. GPT-J takes 2,048 tokens: cv 0.2 rejects 0.15% of the requests, cv 1 some 14%."""
    few = capacity(Scenario(model="gpt-j-6b", prompt_cv=0.2, output_cv=0.2))
    assert few["arrival_per_s"] > 1
    many = capacity(Scenario(model="gpt-j-6b", prompt_cv=1.0, output_cv=0.2))
    assert (many["arrival_per_s"], many["bound_by"]) == (0.0, "rejected")


def test_capacity_beyond_what_a_full_batch_sustains():
    """Oracle: runs. With loose limits an engine that thrashes when full takes more than it does then."""
    scenario = load_scenario("kv-pressure", admission="first_chunk", requests=20_000)
    found = capacity(scenario.replace(slo_tpot_ms=1e5, slo_ttft_ms=1e7))
    full = scenario.replace(concurrency=128, requests=2000)
    assert found["arrival_per_s"] > 1.1 * answer_of(run(full)).request_per_s
    assert found["bound_by"] == "stability"


@pytest.mark.parametrize("arrivals", ["closed", "offline"])
def test_capacity_has_arrivals_of_its_own(arrivals):
    """Oracle: the same as for Poisson arrivals."""
    common = {"output_tokens": 20, "max_batch": 16}
    found = capacity(Scenario(arrivals=arrivals, **common))
    np.testing.assert_equal(found, capacity(Scenario(**common)))


def test_capacity_grows_with_the_limits():
    """Oracle: whatever meets a limit meets a looser one (same requests)."""
    rates = [capacity(Scenario(slo_tpot_ms=limit))["arrival_per_s"] for limit in (15.0, 25.0, 40.0, 80.0)]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"policy": "static"},
        {"policy": "prefill_first", "arrivals": "gamma"},
        {"policy": "disaggregated"},
        {"arrivals": "closed", "concurrency": 16},
        {"arrivals": "offline"},
        {"replicas": 3, "router": "least_loaded"},
        {"model": "gpt-j-6b", "prompt_cv": 2.0},  # some requests are rejected
    ],
    ids=str,
)
def test_a_sweep_says_what_each_point_says_alone(changes) -> None:
    """Oracle: the same points one by one, bit for bit, whatever thread took them."""
    scenario = Scenario(requests=300, **changes)
    points = [*sweep_points(scenario, own_vary(scenario)), Point({}, None, "no", "memory")]
    np.testing.assert_equal(evaluate_all(points), [evaluate(point) for point in points])


def test_gaps_of_a_table_are_filled() -> None:
    """Oracle: by hand, of a point that runs and one that cannot."""
    runs = {"feasible": True, "reason": "", "saturated": False, "meets_slo": True, "at_limit": "", "n": 3}
    axes = {"tok_per_s_per_user": 20.0, "output_tok_per_s_per_accelerator": 300.0}
    table = tabulate([{"seed": 1, **runs, **axes}, {"seed": 2, "feasible": False, "reason": "too large"}])
    flags = table[["feasible", "saturated", "meets_slo", "on_frontier"]]
    assert flags.to_numpy().tolist() == [[True, False, True, True], [False, False, False, False]]
    assert table["reason"].tolist() == ["", "too large"] and table["at_limit"].tolist() == ["", ""]
    assert (
        table["seed"].dtype == int
        and math.isnan(table["n"][1])
        and math.isnan(table["tok_per_s_per_user"][1])
    )


def test_what_a_sweep_raises_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: an error that no point is meant to have, in whichever thread; and the next sweep is whole."""
    points = sweep_points(Scenario(requests=100), {"seed": range(8)})

    def fails(point: Point, **_: object) -> dict:
        if point.keys["seed"] == 5:
            raise ZeroDivisionError
        return {}

    with monkeypatch.context() as patched:
        patched.setattr(module, "evaluate", fails)
        with pytest.raises(ZeroDivisionError):
            evaluate_all(points)
    assert all(row["feasible"] for row in evaluate_all(points))


def test_points_at_a_limit() -> None:
    """Oracle: the intervals of `bands_of`: a limit inside one is at the limit, one outside of it is not."""
    base = load_scenario("arrival_per_s=14")
    found = bands_of(answer_of(run(base), banded=True))
    inside = base.replace(slo_tpot_ms=0.5 * (found["tpot_ms_p99_low"] + found["tpot_ms_p99_high"]))
    both = inside.replace(slo_ttft_ms=0.5 * (found["ttft_ms_p99_low"] + found["ttft_ms_p99_high"]))
    beyond = base.replace(slo_tpot_ms=1.01 * found["tpot_ms_p99_high"], slo_ttft_ms=1e6)
    asked = (inside.replace(slo_ttft_ms=1e6), both, beyond)
    tables = [frontier(scenario, {"seed": (0,)}) for scenario in asked]
    assert [table["at_limit"].item() for table in tables] == ["tpot", "both", ""]


@pytest.mark.parametrize(("close", "broken"), [("ttft", "tpot"), ("tpot", "ttft")])
def test_a_point_that_clearly_breaks_one_limit_is_no_close_call(close: str, broken: str) -> None:
    """Oracle: a limit inside its interval beside one at a third of what is reached: only both keep them."""
    base = load_scenario("arrival_per_s=14")
    found = bands_of(answer_of(run(base), banded=True))
    inside = 0.5 * (found[f"{close}_ms_p99_low"] + found[f"{close}_ms_p99_high"])
    limits = {f"slo_{close}_ms": inside, f"slo_{broken}_ms": found[f"{broken}_ms_p99_low"] / 3}
    table = frontier(base.replace(**limits), {"seed": (0,)})
    assert not table["meets_slo"].item()
    assert table["at_limit"].item() == ""
    kept = limits | {f"slo_{broken}_ms": 1e6}
    assert frontier(base.replace(**kept), {"seed": (0,)})["at_limit"].item() == close
