"""Traffic that changes over time: curves by hand, counts against integrals, traces against themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.traffic import demand
from sim_core.traffic.requests import Requests

WORKERS = 4
BASE = Scenario(mix="100/10:1", mix_other="900/5:1", demand_hours=1.0, dwell_s=300.0)


def needed(prompts, outputs):
    """Return made-up needs: a millisecond of a prefill worker a token, 10 of a decode worker."""
    return np.asarray(prompts) * 1e-3, np.asarray(outputs) * 1e-2


NEED_S = (0.2, 0.95)  # of a request of either kind: 0.1 + 0.1 and 0.9 + 0.05 seconds of workers


def draw(**changes) -> demand.Demand:
    return demand.demand_of(BASE.replace(**changes), needed, WORKERS)


@pytest.mark.parametrize("shape", ["steady", "daily", "step", "spike", "markov"])
@pytest.mark.parametrize("swing", [0.0, 0.5])
def test_the_needs_are_the_load(shape: str, swing: float) -> None:
    """Oracle: needs add up to load x workers x time, with the load's own swing, within 4 sigma of Poisson."""
    scenario = BASE.replace(demand=shape, rate_swing_frac=swing, demand_load_frac=0.7)
    found = demand.demand_of(scenario, needed, WORKERS)
    times_s, wave = demand.wave(scenario)
    mean_factor = np.trapezoid(1 + swing * (2 * wave - 1), times_s) / times_s[-1]
    expected_s = 0.7 * WORKERS * 3600 * mean_factor
    needs = sum(needed(found.requests.prompt_tokens, found.requests.output_tokens))
    sigma_s = math.sqrt((needs**2).sum())
    assert abs(needs.sum() - expected_s) < 4 * sigma_s
    assert np.all(np.diff(found.requests.arrival_s) >= 0)
    assert found.requests.arrival_s[0] >= 0 and found.requests.arrival_s[-1] <= found.duration_s == 3600


def test_waves_by_hand() -> None:
    """Oracle: by hand: half-way, 40% and a dwell time, half a cycle, one half."""

    def at(moment_s: float, **changes) -> float:
        times_s, values = demand.wave(BASE.replace(**changes))
        return float(np.interp(moment_s, times_s, values))

    assert [at(t, demand="step") for t in (0, 1799, 1801, 3600)] == [0, 0, 1, 1]
    assert [at(t, demand="spike") for t in (1439, 1441, 1739, 1741)] == [0, 1, 1, 0]
    assert [at(t, demand="daily", dwell_s=900.0) for t in (0, 450, 900, 1800)] == pytest.approx(
        [0, 0.5, 1, 0], abs=1e-3
    )
    assert [at(t, demand="steady") for t in (0, 3600)] == [0.5, 0.5]


def test_random_switches_have_their_mean() -> None:
    """Oracle: exponential dwells: 2,000 of them have a mean within 4 sigma, and switch between 0 and 1."""
    times_s, values = demand.wave(
        BASE.replace(demand="markov", dwell_s=20.0, demand_hours=20_000 / 1800 * 1.0)
    )
    switches = np.flatnonzero(np.diff(times_s) == 0)
    dwells_s = np.diff(times_s[switches])
    assert dwells_s.size > 1500
    assert abs(dwells_s.mean() - 20.0) < 4 * 20.0 / math.sqrt(dwells_s.size)
    assert set(values) == {0.0, 1.0}


def test_another_dwell_time_stretches_the_same_switches() -> None:
    """Oracle: proportion."""
    short, long = (demand.wave(BASE.replace(dwell_s=d, demand_hours=d / 300))[0] for d in (300.0, 600.0))
    np.testing.assert_allclose(long, 2 * short)


def test_kinds_follow_the_wave() -> None:
    """Oracle: the wave: 0 is the first kind, 1 the other, and half a swing stays a quarter off either."""
    found = draw(demand="step")
    other = found.requests.prompt_tokens == 900
    assert np.array_equal(other, found.requests.arrival_s > 1800)
    assert set(found.requests.output_tokens[other]) == {5}
    half = draw(demand="step", mix_swing_frac=0.5)
    share = (half.requests.prompt_tokens[half.requests.arrival_s < 1800] == 900).mean()
    assert share == pytest.approx(0.25, abs=0.02)


def test_another_load_bends_the_same_requests() -> None:
    """Oracle: common random numbers: the first requests keep their lengths, and arrive in proportion."""
    low, high = (
        demand.demand_of(BASE.replace(demand="steady", mix="", demand_load_frac=load), needed, WORKERS)
        for load in (0.4, 0.8)
    )
    count = 500
    np.testing.assert_array_equal(low.requests.prompt_tokens[:count], high.requests.prompt_tokens[:count])
    np.testing.assert_allclose(low.requests.arrival_s[:count], 2 * high.requests.arrival_s[:count])


def test_without_a_load_the_rate_is_the_scenarios() -> None:
    """Oracle: arrival_per_s."""
    found = draw(demand="steady", demand_load_frac=None, arrival_per_s=5.0)
    assert found.requests.arrival_s.size == pytest.approx(5 * 3600, abs=4 * math.sqrt(5 * 3600))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"demand_hours": 1000.0, "demand_load_frac": 5.0}, ["limit is 2,000,000", "demand_hours"]),
        (
            {"demand_hours": 0.001, "demand_load_frac": None, "arrival_per_s": 1e-6},
            ["not one request", "raise"],
        ),
        ({"demand": "trace"}, ["no trace", "--trace"]),
        ({"demand_hours": 1000.0, "dwell_s": 0.1}, ["dwell_s", "switches"]),
    ],
)
def test_what_cannot_be_drawn_is_said(changes: dict, words: list[str]) -> None:
    """Oracle: by hand: the thing, the limit and the way out."""
    with pytest.raises(ScenarioError) as caught:
        draw(**changes)
    assert all(word in str(caught.value) for word in words)


# --- traces ---------------------------------------------------------------------------------------


def bursts() -> Requests:
    """Return half an hour of a request every 6 s, and ten times as many in minutes 10 to 15."""
    calm = np.arange(0.0, 1800.0, 6.0)
    busy = np.arange(600.0, 900.0, 0.6)
    arrival_s = np.sort(np.concatenate([calm, busy]))
    n = arrival_s.size
    return Requests(arrival_s, np.full(n, 100), np.full(n, 10), "bursts")


@pytest.mark.parametrize("load", [0.05, 0.5])
def test_a_trace_at_a_load_keeps_its_shape(load: float) -> None:
    """Oracle: needs are the load; the busy minutes keep their share; below one copy requests are left out."""
    trace = bursts()
    found = demand.demand_of(BASE.replace(demand_load_frac=load), needed, WORKERS, trace)
    needs_s = sum(needed(found.requests.prompt_tokens, found.requests.output_tokens)).sum()
    assert needs_s == pytest.approx(load * WORKERS * found.duration_s, rel=0.1)
    assert found.copies == pytest.approx(load * WORKERS * found.duration_s / (0.2 * len(trace)), rel=1e-6)
    busy = (found.requests.arrival_s > 600) & (found.requests.arrival_s < 920)
    assert busy.mean() == pytest.approx(((trace.arrival_s > 600) & (trace.arrival_s < 900)).mean(), abs=0.06)
    assert np.all(np.diff(found.requests.arrival_s) >= 0)


def test_a_trace_as_it_is() -> None:
    """Oracle: the trace, cut after the hours asked for."""
    trace = bursts()
    found = demand.demand_of(BASE.replace(demand_load_frac=None, demand_hours=0.25), needed, WORKERS, trace)
    np.testing.assert_array_equal(found.requests.arrival_s, trace.arrival_s[trace.arrival_s < 900])
    assert found.duration_s == 900
    assert np.isnan(found.other_frac).all()


def test_a_trace_that_would_count_too_often_is_refused() -> None:
    """Oracle: by hand."""
    trace = Requests(np.array([0.0, 3600.0]), np.array([1, 1]), np.array([1, 1]), "two")

    def tiny(prompts, outputs):
        return prompts * 1e-9, outputs * 1e-9

    with pytest.raises(ScenarioError, match=r"count .* times each"):
        demand.demand_of(BASE.replace(demand_load_frac=5.0, demand_hours=1000.0), tiny, WORKERS, trace)
