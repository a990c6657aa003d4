"""Traffic that changes over time: a rate and a mix as curves, and the requests drawn from them.

One wave w(t) between 0 and 1 moves everything: 0 is the scenario's own lengths, 1 those of `mix_other`.

- *Mix.* The share of requests of the other kind is 1/2 + `mix_swing_frac` (w - 1/2).
- *Load.* `demand_load_frac` (1 + `rate_swing_frac` (2 w - 1)) of the workers, so that the rate follows from
  what a request of the present mix takes of them; without it, `arrival_per_s` times the same factor.
- *Wave.* ``steady`` stays at 1/2; ``daily`` is a sine with half a cycle of `dwell_s`; ``step`` goes from 0
  to 1 half-way; ``spike`` is 1 for `dwell_s`, from 40% of the time on; ``markov`` switches between 0 and 1 at
  random, after exponential times of mean `dwell_s`.

Arrivals are a Poisson process (or renewals with `arrival_cv`) of that rate: unit arrivals through the inverse
of the cumulated rate. As everywhere, seeds draw unit values, so a slider bends the same requests.

Requests come by themselves: turns of conversations are as long as they are, and wait for no other.

A trace keeps its own times and lengths. Under `demand_load_frac` each of its requests counts as many times as
that load takes, at about the same time: the shape of the traffic stays, and with it how fast it changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.keys.shift import OTHER_MIX
from sim_core.scenario.scenario import Scenario
from sim_core.traffic import draws, units
from sim_core.traffic.requests import Requests

MAX_REQUESTS = 2_000_000
SWITCHES, COPIES = 10, 11  # streams of random numbers, beside those of `workload`
COPY_SPREAD_S = 5.0  # mean time by which a repeated request of a trace follows its original
SAMPLE = 4000  # requests whose mean need stands for a kind of traffic
SPIKE_FROM = 0.4
STEPS_PER_CYCLE = 200  # of the table of the cumulated rate
Needed = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Demand(NamedTuple):
    """The requests of a stretch of time, in order of arrival, and the curves they were drawn from.

    Attributes
    ----------
    requests : Requests
        Arriving from 0 to `duration_s`.
    duration_s : float
    curve_s, rate_per_s, other_frac : ndarray of float64
        Times, and there the rate [1/s] and the share of the other kind (NaN for a trace, which has none).
    copies : float
        How often each request of a trace counts, on average; 1 for drawn traffic.
    """

    requests: Requests
    duration_s: float
    curve_s: np.ndarray
    rate_per_s: np.ndarray
    other_frac: np.ndarray
    copies: float = 1.0


def kinds(scenario: Scenario) -> tuple[Scenario, Scenario]:
    """Return the scenario with the lengths of either end of the change."""
    return scenario, scenario.replace(mix=scenario.mix_other or f"{OTHER_MIX}:1")


def sample(kind: Scenario, requests: int) -> Requests:
    """Return so many requests of one kind, each by itself; their arrivals mean nothing."""
    return by_themselves(
        draws.requests_sent(kind.replace(arrivals="poisson", requests=requests, request_list=""))
    )


def by_themselves(sent: Requests) -> Requests:
    """Return requests by themselves: they follow no other, and what texts have in common is not known."""
    return Requests(sent.arrival_s, sent.prompt_tokens, sent.output_tokens, sent.name, sent.notes, sent.timed)


def wave(scenario: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """Return times over the whole stretch [s] and the wave there; between them it is linear."""
    end_s, dwell_s = 3600 * scenario.demand_hours, scenario.dwell_s
    if scenario.demand == "daily":
        steps = math.ceil(min(max(STEPS_PER_CYCLE * end_s / (2 * dwell_s), 200), 200_000))
        times_s = np.linspace(0.0, end_s, steps + 1)
        return times_s, 0.5 - 0.5 * np.cos(np.pi * times_s / dwell_s)
    if scenario.demand == "step":
        return _switched([end_s / 2], end_s)
    if scenario.demand == "spike":
        start_s = SPIKE_FROM * end_s
        return _switched([start_s, start_s + dwell_s], end_s)
    if scenario.demand == "markov":
        return _switched(_switches_s(scenario.seed, dwell_s, end_s), end_s)
    return np.array([0.0, end_s]), np.array([0.5, 0.5])


def _switches_s(seed: int, dwell_s: float, end_s: float) -> np.ndarray:
    """Return when the random wave switches [s]; another dwell time stretches the same switches."""
    count = math.ceil(end_s / dwell_s + 10 * math.sqrt(end_s / dwell_s) + 50)
    if count > 1_000_000:
        raise ScenarioError(
            f"dwell_s is {dwell_s:g} s in {end_s / 3600:g} hours: {count:,} switches. Raise dwell_s."
        )
    dwells = np.random.default_rng((seed, SWITCHES)).standard_exponential(count)
    return dwell_s * np.cumsum(dwells)


def _switched(switches_s: Iterable[float], end_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a wave that starts at 0 and switches between 0 and 1; a switch is two points at one time."""
    inside = [float(moment) for moment in switches_s if moment < end_s]
    times_s = np.repeat([0.0, *inside, end_s], 2)[1:-1]
    values = np.repeat(np.arange(len(inside) + 1) % 2, 2)
    return times_s, values.astype(float)


def demand_of(
    scenario: Scenario, workers_per_request: Needed, workers: int, trace: Requests | None = None
) -> Demand:
    """Return the requests of a scenario's changing traffic.

    Parameters
    ----------
    scenario : Scenario
    workers_per_request : callable
        From prompt and output tokens to the seconds that each request takes of a prefill and of a decode
        worker; see `sim_core.questions.shift.needs`.
    workers : int
        Workers of both pools together.
    trace : Requests, optional
        Replayed instead, as often as the load asks for.

    Raises
    ------
    ScenarioError
        If there is nothing to draw, too much, or `demand` is `trace` and there is none.
    """
    if scenario.demand == "trace" or trace is not None:
        return _from_trace(scenario, workers_per_request, workers, trace)
    times_s, w = wave(scenario)
    other = 0.5 + scenario.mix_swing_frac * (w - 0.5)
    factor = 1 + scenario.rate_swing_frac * (2 * w - 1)
    rate = _rate_per_s(scenario, workers_per_request, workers, other) * factor
    steps_s = np.diff(times_s)
    cumulated = np.concatenate([[0.0], np.cumsum(steps_s * (rate[1:] + rate[:-1]) / 2)])
    arrivals = _unit_arrivals(scenario, float(cumulated[-1]))
    arrival_s = np.interp(arrivals, cumulated, times_s)
    lengths = _lengths(scenario, np.interp(arrivals, cumulated, other))
    return Demand(Requests(arrival_s, *lengths), float(times_s[-1]), times_s, rate, other)


def _rate_per_s(
    scenario: Scenario, workers_per_request: Needed, workers: int, other: np.ndarray
) -> np.ndarray:
    """Return the mean rate at each share of the other kind [1/s], before the load swings."""
    if scenario.demand_load_frac is None:
        return np.full(other.size, scenario.arrival_per_s)
    taken = [_mean_need_s(kind, workers_per_request) for kind in kinds(scenario)]
    return scenario.demand_load_frac * workers / ((1 - other) * taken[0] + other * taken[1])


def mean_rate_per_s(
    scenario: Scenario, workers_per_request: Needed, workers: int, trace: Requests | None = None
) -> float:
    """Return how many requests of a scenario's changing traffic arrive, on average and about [1/s]."""
    if trace is None:
        return float(_rate_per_s(scenario, workers_per_request, workers, np.array([0.5]))[0])
    lasts_s = max(float(trace.arrival_s[-1] - trace.arrival_s[0]), 1.0)
    if scenario.demand_load_frac is None:
        return len(trace) / lasts_s
    need_s = sum(need.sum() for need in workers_per_request(trace.prompt_tokens, trace.output_tokens))
    return max(len(trace) / lasts_s, scenario.demand_load_frac * workers * len(trace) / float(need_s))


def _mean_need_s(kind: Scenario, workers_per_request: Needed) -> float:
    """Return what a request of one kind takes of the workers of both pools, on average [s]."""
    drawn = sample(kind, SAMPLE)
    return float(sum(need.mean() for need in workers_per_request(drawn.prompt_tokens, drawn.output_tokens)))


def _unit_arrivals(scenario: Scenario, total: float) -> np.ndarray:
    """Return the arrivals of a process of rate 1 before `total`."""
    if total > MAX_REQUESTS:
        raise ScenarioError(
            f"this traffic has about {total:,.0f} requests; the limit is {MAX_REQUESTS:,}. "
            "Shorten demand_hours, or use fewer workers or a lower load."
        )
    cv = scenario.arrival_cv if scenario.arrivals == "gamma" else 1.0
    count = math.ceil(total + 10 * max(cv, 1.0) * math.sqrt(total) + 20 * max(cv, 1.0) ** 2)
    arrivals = units.unit_arrivals(scenario.seed, count, cv)
    arrivals = arrivals[: np.searchsorted(arrivals, total)]
    if arrivals.size == 0:
        raise ScenarioError(
            "not one request arrives in this time: raise demand_hours, demand_load_frac or arrival_per_s."
        )
    return arrivals


def _lengths(scenario: Scenario, other_frac: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return prompt and output tokens of requests, each of the other kind with its own probability."""
    drawn = [sample(kind, other_frac.size) for kind in kinds(scenario)]
    chosen = units.unit_uniforms(scenario.seed, other_frac.size) < other_frac
    return (
        np.where(chosen, drawn[1].prompt_tokens, drawn[0].prompt_tokens),
        np.where(chosen, drawn[1].output_tokens, drawn[0].output_tokens),
    )


# --- traces ---------------------------------------------------------------------------------------


def _from_trace(
    scenario: Scenario, workers_per_request: Needed, workers: int, trace: Requests | None
) -> Demand:
    """Return a trace's requests, each as often as the load asks for."""
    if trace is None:
        raise ScenarioError(
            "demand is trace but there is no trace: give one (--trace FILE, or upload it), or choose "
            "demand=markov."
        )
    if not trace.timed:
        raise ScenarioError(
            f"{trace.name} has lengths without times: traffic that changes needs both. Give a trace with "
            "times, or choose demand=markov, daily, step, spike or steady."
        )
    sent = by_themselves(trace).arriving_at(trace.arrival_s - trace.arrival_s[0])
    end_s = min(3600 * scenario.demand_hours, float(sent.arrival_s[-1]) * (1 + 1 / len(sent)) or 1.0)
    sent, copies = sent.take(sent.arrival_s < end_s), 1.0
    if scenario.demand_load_frac is not None:
        need_s = sum(need.sum() for need in workers_per_request(sent.prompt_tokens, sent.output_tokens))
        copies = scenario.demand_load_frac * workers * end_s / need_s
        if copies * len(sent) > MAX_REQUESTS:
            raise ScenarioError(
                f"at this load the trace's {len(sent):,} requests count {copies:,.3g} times each, "
                f"{copies * len(sent):,.0f} in all; the limit is {MAX_REQUESTS:,}. Lower "
                "demand_load_frac, demand_hours or the workers."
            )
        sent = _repeated(scenario.seed, copies, sent, end_s)
    edges_s = np.linspace(0.0, end_s, 121)
    counts = np.histogram(sent.arrival_s, edges_s)[0] / (edges_s[1] - edges_s[0])
    rate = np.append(counts, counts[-1])
    return Demand(sent, end_s, edges_s, rate, np.full(rate.size, math.nan), copies)


def _repeated(seed: int, copies: float, sent: Requests, end_s: float) -> Requests:
    """Return requests of which each counts `copies` times on average, copies shortly after one another."""
    random = np.random.default_rng((seed, COPIES))
    times = np.floor(copies + random.random(len(sent))).astype(int)
    chosen = np.repeat(np.arange(len(sent)), times)
    first = np.concatenate([[True], np.diff(chosen) > 0]) if chosen.size else np.zeros(0, bool)
    shift_s = COPY_SPREAD_S * random.standard_exponential(chosen.size)
    moved_s = np.minimum(sent.arrival_s[chosen] + np.where(first, 0.0, shift_s), end_s)
    if chosen.size == 0:
        raise ScenarioError("at this load not one request of the trace is left: raise demand_load_frac.")
    return sent.take(chosen).arriving_at(moved_s).take(np.argsort(moved_s, kind="stable"))
