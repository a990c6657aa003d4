"""Capacity: the highest load at which a scenario keeps its limits.

Every page and command that names a best point within the limits has it from here: at the same number of
requests and with the same seed they name the same one. Only maps of one pool against two, and the workers
that a stretch of traffic needs, look for rates by a coarser search (`disaggregation.highest_per_s`): they
compare rates and name no best point. A load is the request rate of an open loop, the number of clients of a
closed one, the batch limit where all requests are there or replayed.

Trials see the same requests (common random numbers), as many as no budget of a view cuts. A search begins at
an estimate by arithmetic, goes on by the secant with short trials, and ends with long ones around what those
found. A run is long enough where it is many lives of a request: shorter ones flatter by the time in which the
engine fills up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sim_core.engine.run import run
from sim_core.engine.work import affordable, kept
from sim_core.price.memory import DoesNotFit
from sim_core.price.priced import priced
from sim_core.results.metrics import point_of
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario
from sim_core.sweep import estimate
from sim_core.sweep.points import BATCHES, LOAD, REQUESTS_PER_CLIENT, sweep_key
from sim_core.sweep.saturation import saturation_per_s
from sim_core.sweep.secant import Bracket, Reach, highest
from sim_core.traffic.draws import requests_sent

CAPACITY_REQUESTS = 20_000  # of a trial that a result rests on
SHORT_REQUESTS = 5_000  # of one that shows where to look
LIVES, SHORT_LIVES = 30, 15  # times the requests that are served together: at least so long a run
RUNS = 64  # as one of so many a page counts each trial
MOST_REQUESTS = 100_000  # of a run made longer for that
TOLERANCE = 0.005
SHORT_TOLERANCE, SHORT_STEP = 0.02, 0.06
LEAST_FRAC = 1e-3  # of where a search begins: below it there is no capacity
SATURATED_MISS = 0.3  # of what saturates while its latencies still keep the limits
SLOPE, STEEPEST = 1.1, 20.0  # of the logarithms of a latency over a load, that a search counts on
Y = "output_tok_per_s_per_accelerator"


def open_loop(scenario: Scenario) -> Scenario:
    """Return the scenario with requests that arrive at a rate: Poisson, or gamma if it says so."""
    return scenario if scenario.arrivals == "gamma" else scenario.replace(arrivals="poisson")


def capacity(
    scenario: Scenario,
    *,
    profile: EngineProfile | None = None,
    tolerance: float = TOLERANCE,
    requests: int = CAPACITY_REQUESTS,
    seeds: int = 1,
) -> dict[str, Any]:
    """Return the highest stable request rate within the limits, with its point.

    Arrivals are Poisson, or gamma if the scenario says so. Every trial sees the same requests; those that the
    result rests on at least as many as asked for, and `LIVES` times those that are served together.

    Returns
    -------
    dict
        `arrival_per_s` (0.0 if even a trickle misses the limits), `saturation_per_s`, `bound_by` (what
        fails just above: ``ttft``, ``tpot``, ``stability``, or ``rejected`` if too many requests can never
        fit), `point` (a row as in `frontier`) or None, `tolerance_frac` of the search; `range_per_s`, the
        lowest and the highest rate that as many seeds find, the scenario's own and those after it, or None
        for one seed. Of five, the median lies between them with a chance of 94%.
    """
    asked = comparable(open_loop(scenario))
    all_found = [_searched(seeded(asked, turn), profile, tolerance, requests) for turn in range(seeds)]
    found, rates_per_s = all_found[0], [each.load for each in all_found]
    return {
        "arrival_per_s": found.load,
        "range_per_s": {"low": min(rates_per_s), "high": max(rates_per_s)} if seeds > 1 else None,
        "saturation_per_s": saturation_per_s(open_loop(scenario), None, profile),
        "bound_by": found.bound_by,
        "point": None if found.point is None else dict(found.point),
        "tolerance_frac": tolerance,
    }


def best_within(
    scenario: Scenario, *, profile: EngineProfile | None = None, requests: int = CAPACITY_REQUESTS
) -> Mapping[str, Any] | None:
    """Return the point with the most throughput per accelerator within the limits, over all loads.

    In an open loop that is the point at the capacity; otherwise the number of clients, or the batch limit. A
    row as in `frontier`, or None where no load keeps the limits. Not to be changed by readers.

    Raises
    ------
    ScenarioError
        If the scenario cannot run.
    """
    found = _searched(comparable(scenario), profile, TOLERANCE, requests)
    if found.point is None:
        return None
    key = sweep_key(scenario)
    load = {key: found.load}
    if key == LOAD:
        load = {key: found.load / saturation_per_s(scenario, None, profile), "arrival_per_s": found.load}
    common = {"feasible": True, "reason": "", "at_limit": "", "requests": found.requests}
    return load | common | dict(found.point)


def seeded(scenario: Scenario, turn: int) -> Scenario:
    """Return a scenario with the seed of the run at a turn; after the largest seed comes 0."""
    return scenario.replace(seed=(scenario.seed + turn) % (int(FIELDS["seed"].high) + 1))


class Found(NamedTuple):
    """What a search found: the load (0: none keeps the limits), its point, what binds, and its requests."""

    load: float
    point: Mapping[str, Any] | None
    bound_by: str
    requests: int


def comparable(scenario: Scenario) -> Scenario:
    """Return the scenario with the load that is sought at its default: one search for all of them."""
    key = sweep_key(scenario)
    load = "arrival_per_s" if key == LOAD else key
    return scenario.replace(**{load: DEFAULTS[load]})


@kept(4096, RUNS)
def _searched(scenario: Scenario, profile: EngineProfile | None, tolerance: float, requests: int) -> Found:
    """Return the load with the most throughput within the limits."""
    if sweep_key(scenario) == LOAD:
        return _highest_rate(scenario, profile, tolerance, requests)
    return _best_count(scenario, profile, requests)


class _Trials:
    """Runs of one scenario at several loads, each made once, with as many requests as asked for."""

    def __init__(self, scenario: Scenario, profile: EngineProfile | None, requests: int) -> None:
        key = sweep_key(scenario)
        self._scenario, self._profile = scenario, profile
        self.requests = affordable(scenario.replace(requests=requests)).requests
        self._key = "arrival_per_s" if key == LOAD else key
        self.points: dict[float, Mapping[str, Any]] = {}
        self.last: Mapping[str, Any] | None = None  # that missed the limits

    def at(self, load: float) -> Mapping[str, Any]:
        """Return the point at a load."""
        if load not in self.points:
            requests = self.requests
            if self._key == "concurrency":
                requests = max(requests, REQUESTS_PER_CLIENT * int(load))
            changes = {self._key: load, "requests": requests}
            self.points[load] = point_of(run(self._scenario.replace(**changes), profile=self._profile))
        return self.points[load]

    def miss(self, load: float) -> float:
        """Return the logarithm of the larger latency over its limit; positive where the limits are missed."""
        point = self.at(load)
        if not point["meets_slo"]:
            self.last = point
        return miss_of(self._scenario, point)

    def slope(self, ends: Bracket) -> float:
        """Return how steeply the miss grows with the logarithm of the load between two loads, with care."""
        if not 0 < ends.low < ends.high < math.inf:
            return SLOPE
        rise = self.miss(ends.high) - self.miss(ends.low)
        return min(max(rise / math.log(ends.high / ends.low), SLOPE), STEEPEST)

    def found(self, bracket: Bracket) -> Found:
        """Return what the ends of a bracket say."""
        failed = self.points.get(bracket.high, self.last)
        bound_by = "" if failed is None else first_failure(self._scenario, failed)
        return Found(bracket.low, self.points.get(bracket.low), bound_by, self.requests)


def miss_of(scenario: Scenario, point: Mapping[str, Any]) -> float:
    """Return the logarithm of the larger latency over its limit; positive where the queue grows, too."""
    ttft = point["slo_ttft_ms_reached"] / scenario.slo_ttft_ms
    tpot = point["slo_tpot_ms_reached"] / scenario.slo_tpot_ms
    worst = max(ttft, 0.0 if math.isnan(tpot) else tpot)
    miss = math.log(worst) if worst > 0 else -math.inf
    return miss if point["meets_slo"] or miss > 0 else SATURATED_MISS


# an open loop: the highest rate


def _highest_rate(
    scenario: Scenario, profile: EngineProfile | None, tolerance: float, requests: int
) -> Found:
    least, start, together = _start(scenario, profile)
    most = FIELDS["arrival_per_s"].high
    long = max(scenario.requests, requests, min(LIVES * together, MOST_REQUESTS))
    short = max(SHORT_REQUESTS, SHORT_LIVES * together)
    reach = Reach(least, most, SHORT_STEP, max(SHORT_TOLERANCE, tolerance))
    if start > least and 2 * short <= min(long, MOST_REQUESTS):
        trials = _Trials(scenario, profile, short)
        ends = highest(trials.miss, start, reach)
        start, reach = ends.low or start, reach._replace(step=tolerance, slope=trials.slope(ends))
    trials = _Trials(scenario, profile, long)
    return trials.found(highest(trials.miss, start, reach._replace(tolerance=tolerance)))


def _start(scenario: Scenario, profile: EngineProfile | None) -> tuple[float, float, int]:
    """Return the least rate to look at, where to begin, and how many requests are then served together."""
    if estimate.has_estimate(scenario):
        lengths = requests_sent(scenario.replace(requests=SHORT_REQUESTS))
        found = estimate.estimate_of(priced(scenario, profile), lengths)
        if found:
            least = min(found.trickle_per_s, LEAST_FRAC * found.per_s or math.inf)
            return least, found.per_s or least, math.ceil(found.decodes)
    top = saturation_per_s(scenario, None, profile)
    return LEAST_FRAC * top, 0.8 * top, scenario.max_running * scenario.engines


# a closed loop, or all there at once: the best number of clients, or batch limit


def _best_count(scenario: Scenario, profile: EngineProfile | None, requests: int) -> Found:
    """Return the count with the most throughput within the limits, from doubling steps to single ones."""
    asked = max(scenario.requests, requests) if scenario.arrivals == "closed" else scenario.requests
    trials = _Trials(scenario, profile, asked)
    short = _Trials(scenario, profile, SHORT_REQUESTS) if asked >= 2 * SHORT_REQUESTS else trials
    steps = _steps(scenario, profile, short)
    good = [step for step in steps if short.at(step)["meets_slo"]]
    if not good:
        return trials.found(Bracket(0.0, steps[0]))._replace(
            bound_by=first_failure(scenario, short.at(steps[0]))
        )
    top = max(good, key=lambda step: short.at(step)[Y])
    after = next((step for step in steps if step > top), None)
    if after is None or short.at(after)["meets_slo"]:  # more gives less: no limit ends it
        return trials.found(Bracket(top if trials.at(top)["meets_slo"] else 0.0, math.inf))
    reach = Reach(1, after, 0.02, TOLERANCE, whole=True)
    return trials.found(highest(trials.miss, top, reach))


def _steps(scenario: Scenario, profile: EngineProfile | None, trials: _Trials) -> Sequence[int]:
    """Return the default steps that fit, and further ones while they keep the limits and give more."""
    key = sweep_key(scenario)

    def fits(step: int) -> bool:
        return step <= FIELDS[key].high and _fits(scenario.replace(**{key: step}), profile)

    steps = [step for step in BATCHES if fits(step)] or list(BATCHES[:1])
    while len(steps) > 1 and fits(2 * steps[-1]):
        last, before = trials.at(steps[-1]), trials.at(steps[-2])
        if not last["meets_slo"] or last[Y] < 1.01 * before[Y]:
            break
        steps.append(2 * steps[-1])
    return steps


def _fits(scenario: Scenario, profile: EngineProfile | None) -> bool:
    """Return whether memory holds what a batch of that many sequences needs beside their cache."""
    try:
        priced(scenario, profile)
    except DoesNotFit:
        return False
    return True


def first_failure(scenario: Scenario, point: Mapping[str, Any]) -> str:
    """Return which limit a point breaks: the one it exceeds by the larger factor."""
    if math.isinf(point["slo_ttft_ms_reached"]):
        return "rejected"
    if point["saturated"]:
        return "stability"
    ttft = point["slo_ttft_ms_reached"] / scenario.slo_ttft_ms
    tpot = point["slo_tpot_ms_reached"] / scenario.slo_tpot_ms
    return "ttft" if ttft >= tpot or math.isnan(tpot) else "tpot"
