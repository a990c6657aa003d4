"""Traffic that shifts, served by a cluster that can move workers between its pools: what adapting brings.

A `Study` holds a scenario's changing traffic and everything that does not depend on the strategy. Each of
`STRATEGIES` serves the same requests and yields an `Outcome`: who was served within both limits, what every
worker did, which moves were made. What counts is requests within the limits, as a share of all that arrive.

Whether a decision to move paid is found by doing without it: the same traffic, all other decisions as they
were made, this one left out. The difference in requests within the limits is what it brought.

`sweep` repeats the comparison for traffic that changes ever more slowly, against the time of a reallocation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from sim_core.engine import work
from sim_core.engine.kernels.pools.moves import MOVE
from sim_core.engine.results import Run
from sim_core.engine.run import run
from sim_core.price.pools import PoolPrices, one_pool_of
from sim_core.questions.shift import strategies
from sim_core.questions.shift.cluster import (
    Cluster,
    Decision,
    Span,
    check_workers,
    reallocation_s,
    spans,
    state_s,
)
from sim_core.questions.shift.needs import Needs, fitted_needs, hit_frac_of
from sim_core.questions.shift.strategies import Load, Planned, Predictive, Reactive, Strategy
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario
from sim_core.sweep.remembered import Remembered
from sim_core.traffic import demand as demands
from sim_core.traffic.demand import Demand
from sim_core.traffic.requests import Requests

STRATEGIES = {
    "fixed": "Fixed, best for the mean",
    "hindsight": "Best fixed in hindsight",
    "reactive": "Reactive",
    "predictive": "Predictive",
    "oracle": "Oracle",
    "free": "Oracle, free moves",
    "one_pool": "One pool, no split",
}
BINS = 240  # of the timeline
SERVING = ("prefill", "decode")
UNUSED = ("replicas", "router", "batch_wait_ms", "concurrency", "request_list", "requests", "warmup_frac")
STAGES = ("prefill_start_s", "prefill_end_s")
REMEMBERED = 96  # outcomes
LENGTHS = ("prompt_tokens", "output_tokens")
PARTS = 100  # a run reports its progress so often
LOOK_AHEAD = (1.0, 3.0)  # horizons of the oracle's followers, in times of a reallocation
Progress = Callable[[float], None]


def part_of(progress: Progress, number: int, count: int) -> Progress:
    """Return the progress of one of so many equal parts of a whole."""
    return lambda done_frac: progress((number + done_frac) / count)


def silent(done_frac: float) -> None:
    """Report progress to nobody."""


class RunOverTime(NamedTuple):
    """A run over time, in `BINS` equal bins.

    Attributes
    ----------
    edges_s : ndarray of float64, shape (bins + 1,)
    arrived, within : ndarray of int64, shape (bins,)
        Requests that arrive in the bin, and those of them that keep both limits.
    prefill_queue, decode_queue : ndarray of int64, shape (bins,)
        Requests that wait, at the end of the bin: for a prefill worker, and, prefilled, for a decode worker.
    """

    edges_s: np.ndarray
    arrived: np.ndarray
    within: np.ndarray
    prefill_queue: np.ndarray
    decode_queue: np.ndarray


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one strategy made of the traffic; times are those of clients [s].

    Attributes
    ----------
    name : str
        One of `STRATEGIES`.
    start : int
        Prefill workers at the start; 0 for one pool.
    within : ndarray of bool, shape (n,)
        Requests that keep both limits.
    ttft_ms, tpot_ms : dict
        Their ``p50`` and ``p99`` [ms].
    decisions : list of Decision
    moves : ndarray of `moves.MOVE`
    spans : list of Span
        What every worker did.
    """

    name: str
    start: int
    within: np.ndarray
    ttft_ms: dict[str, float]
    tpot_ms: dict[str, float]
    timeline: RunOverTime
    decisions: list[Decision]
    moves: np.ndarray
    spans: list[Span]
    duration_s: float

    @property
    def served(self) -> int:
        """Number of requests within both limits."""
        return int(np.count_nonzero(self.within))

    @property
    def goodput_per_s(self) -> float:
        """Requests within both limits per second."""
        return self.served / self.duration_s

    @property
    def attainment_frac(self) -> float:
        """Share of requests within both limits."""
        return float(self.within.mean())

    @cached_property
    def state_s(self) -> dict[str, float]:
        """Time that workers spent in each state, all together [s]."""
        return state_s(self.spans)

    @property
    def away_s(self) -> float:
        """Time that workers spent on their way, from the request to move on, all together [s]."""
        return sum(value for state, value in self.state_s.items() if state not in SERVING)


class Prepared(NamedTuple):
    """What does not depend on strategies and reallocations: needs with their prices, traffic, load."""

    needs: Needs
    demand: Demand
    load: Load


@lru_cache(maxsize=4)
def _prepared(scenario: Scenario, trace: Requests | None) -> Prepared:
    workers = check_workers(scenario)
    needs = needs_for(scenario, trace)
    demand = demands.demand_of(scenario, needs, workers, trace)
    load = Load(
        demand.requests.arrival_s,
        *needs(demand.requests.prompt_tokens, demand.requests.output_tokens),
        workers,
    )
    return Prepared(needs, demand, load)


# a slider that does not touch a strategy finds its outcome here
_outcomes: Remembered[Any, Outcome] = Remembered(REMEMBERED)


class Study:
    """A scenario's changing traffic and its cluster, for strategies to be tried on.

    Parameters
    ----------
    scenario : Scenario
        Its pools give the number of workers; how they are split there plays no part.
    trace : optional
        Requests of a trace, instead of drawn ones.

    Raises
    ------
    ScenarioError
        If the traffic or the cluster cannot be.
    """

    def __init__(self, scenario: Scenario, trace: Requests | None = None) -> None:
        self.scenario, self.trace = as_two_pools(scenario, trace), trace
        self.workers = check_workers(self.scenario)
        made = _prepared(_without(self.scenario, "reallocation", "strategy"), trace)
        self.needs, self.demand, self.load = made

    @property
    def pools(self) -> PoolPrices:
        """What the workers of both pools cost."""
        return self.needs.pools

    @property
    def duration_s(self) -> float:
        """How long the traffic lasts [s]."""
        return self.demand.duration_s

    @property
    def edges_s(self) -> np.ndarray:
        """Edges of the timeline's bins [s]."""
        return np.linspace(0.0, self.duration_s, BINS + 1)

    @cached_property
    def mean_split(self) -> int:
        """Prefill workers of the split that is best for the mean of the whole time."""
        return self.load.best_split(self.load.between(0.0, self.duration_s))

    def outcome(self, name: str, progress: Progress = silent) -> Outcome:
        """Return what a strategy of `STRATEGIES` makes of the traffic; known ones are kept.

        `progress` is called now and then with the share that is done; it may raise to stop the work.
        """
        key = self._key(name)
        with work.estimated():
            return _outcomes.get(key) or _outcomes.put(key, self._found(name, progress))

    def known(self, name: str) -> Outcome | None:
        """Return a strategy's outcome if it is known already."""
        return _outcomes.get(self._key(name))

    def _key(self, name: str) -> Any:
        """Return what a strategy's outcome depends on."""
        scenario = self.scenario
        if name in ("fixed", "hindsight", "one_pool"):
            scenario = _without(scenario, "reallocation", "strategy")
        elif name == "reactive":
            scenario = _without(scenario, keys=("forecast_s", "forecast_error_frac"))
        elif name == "predictive":
            scenario = _without(scenario, keys=("observe_s",))
        return name, scenario, self.trace

    def _found(self, name: str, progress: Progress) -> Outcome:
        if name == "one_pool":
            return self._one_pool()
        if name == "fixed":
            return self.fixed(self.mean_split, name, progress)
        if name == "hindsight":
            return self._hindsight(name, progress)
        if name == "reactive":
            return self.drive(Reactive(self.load, self.scenario), name, progress)
        if name == "predictive":
            return self.drive(Predictive(self.load, self.scenario), name, progress)
        return self._best(self._oracle_jobs(free=name == "free"), name, progress)

    def fixed(self, split: int, name: str = "fixed", progress: Progress = silent) -> Outcome:
        """Return what a fixed split makes of the traffic."""
        return self.drive(None, name, progress, start=split)

    def drive(
        self,
        strategy: Strategy | None,
        name: str,
        progress: Progress = silent,
        start: int | None = None,
        free: bool = False,
    ) -> Outcome:
        """Return what a strategy makes of the traffic, from a split on; without one, nobody moves."""
        start = self.mean_split if start is None else start
        cluster = Cluster(self.scenario, self.pools, self.demand, start, free)
        step_s = self.scenario.control_s if strategy else self.duration_s / PARTS
        strategy = strategy or Strategy()
        times_s = np.arange(step_s, self.duration_s, step_s)
        ahead = math.ceil(times_s.size / PARTS)
        while times_s.size:
            passed, wanted = strategy.wish(times_s[:ahead], cluster.prefill_workers)
            now_s = float(times_s[passed - 1])
            cluster.advance(times_s[:passed])
            cluster.ask(wanted, now_s)
            progress(now_s / self.duration_s)
            work.raise_if_stopped()
            times_s = times_s[passed:]
        cluster.advance(math.inf)
        return self._outcome(cluster, name, start, free)

    def _outcome(self, cluster: Cluster, name: str, start: int, free: bool) -> Outcome:
        requests, stages = cluster.engine.decode.stacked.requests, cluster.engine.stages
        price, kept = self.pools.decode, cluster.kept
        ttft_s = requests["first_token_s"] + price.request_after_s - self.demand.requests.arrival_s[kept]
        tpot_s = _tpot_s(requests["first_token_s"], requests["finished_s"], requests["output"])
        before_s = price.before_s(self.demand.requests.prompt_tokens[kept])
        started_s, prefilled_s = (stages[key] - before_s for key in STAGES)
        joined_s = requests["joined_s"] - before_s
        within = np.zeros(kept.size, bool)
        within[kept] = self._within(ttft_s, tpot_s)
        edges_s = self.edges_s
        arrivals_s = self.demand.requests.arrival_s[kept]
        waiting = _waiting(edges_s, arrivals_s, started_s), _waiting(edges_s, prefilled_s, joined_s)
        return self._made(
            name,
            start,
            within,
            ttft_s,
            tpot_s,
            waiting,
            decisions=cluster.decisions,
            moves=cluster.moves().copy(),
            spans=spans(cluster, self.scenario, self.duration_s, free),
        )

    def _within(self, ttft_s: np.ndarray, tpot_s: np.ndarray) -> np.ndarray:
        """Return which requests keep both limits; a rejected one (NaN) keeps none."""
        late = (1e3 * ttft_s > self.scenario.slo_ttft_ms) | (1e3 * tpot_s > self.scenario.slo_tpot_ms)
        return ~late & np.isfinite(ttft_s)

    def _made(
        self,
        name: str,
        start: int,
        within: np.ndarray,
        ttft_s: np.ndarray,
        tpot_s: np.ndarray,
        waiting: tuple[np.ndarray, np.ndarray],
        **rest: Any,
    ) -> Outcome:
        """Return an outcome, with percentiles and the timeline worked out."""
        edges_s, arrival_s = self.edges_s, self.demand.requests.arrival_s
        arrived, served = (_counts(edges_s, times_s) for times_s in (arrival_s, arrival_s[within]))
        return Outcome(
            name,
            start,
            within,
            _percentiles_ms(ttft_s),
            _percentiles_ms(tpot_s),
            RunOverTime(edges_s, arrived, served, *waiting),
            duration_s=self.duration_s,
            **rest,
        )

    # the strategies that try several

    def _best(self, jobs: list[Callable[[Progress], Outcome]], name: str, progress: Progress) -> Outcome:
        """Return the outcome of the job that serves most, the first of equals."""
        found = (job(part_of(progress, number, len(jobs))) for number, job in enumerate(jobs))
        return replace(max(found, key=lambda outcome: outcome.served), name=name)

    def _hindsight(self, name: str, progress: Progress) -> Outcome:
        """Return the best fixed split, climbing from the one that is best for the mean."""
        best = self.outcome("fixed", progress)
        for step in (-1, 1):
            split = best.start + step
            while 0 < split < self.workers:
                found = self.fixed(split, name, progress)
                if found.served <= best.served:
                    break
                best, split = found, split + step
        return replace(best, name=name)

    def _oracle_jobs(self, free: bool) -> list[Callable[[Progress], Outcome]]:
        """Return the plans of an oracle, each of which knows everything."""
        sure = self.scenario.replace(
            forecast_error_frac=0.0, threshold_frac=0.0, hysteresis_frac=0.0, cooldown_s=0.0
        )
        away_s = 0.0 if free else reallocation_s(self.scenario)
        horizons_s = [max(more * away_s, self.scenario.control_s) for more in LOOK_AHEAD]
        if free:
            horizons_s = [self.scenario.control_s]
        plan = strategies.best_plan(self.load, self.scenario, self.duration_s, away_s)

        def follow(horizon_s: float) -> Callable[[Progress], Outcome]:
            keen = sure.replace(forecast_s=horizon_s)
            if not free:
                keen = keen.replace(threshold_frac=1.0, cooldown_s=max(away_s, keen.control_s))
            return lambda progress: self.drive(Predictive(self.load, keen), "oracle", progress, free=free)

        return [
            lambda progress: self.drive(plan, "oracle", progress, start=int(plan.splits[0]), free=free),
            *(follow(horizon_s) for horizon_s in horizons_s),
            *(lambda progress, name=name: self.outcome(name, progress) for name in self._beaten(free)),
        ]

    @staticmethod
    def _beaten(free: bool) -> tuple[str, ...]:
        """Return the strategies that an oracle could imitate, and therefore is never worse than."""
        return ("oracle",) if free else ("fixed", "hindsight", "reactive", "predictive")

    def _one_pool(self) -> Outcome:
        """Return what one pool with chunked prefill on the same devices makes of the traffic."""
        found = run_one_pool(self.scenario, self.demand)
        ttft_s = found.first_token_s - found.arrival_s
        tpot_s = _tpot_s(found.first_token_s, found.finished_s, found.output_tokens)
        unknown = np.full(BINS, -1)
        return self._made(
            "one_pool",
            0,
            self._within(ttft_s, tpot_s),
            ttft_s,
            tpot_s,
            (unknown, unknown),
            decisions=[],
            moves=np.zeros(0, MOVE),
            spans=[],
        )


def as_two_pools(scenario: Scenario, trace: Requests | None = None) -> Scenario:
    """Return a scenario as two pools, without keys that play no part here.

    A prefix cache is no more than the share of each prompt that it has at best.
    """
    found = _without(scenario.replace(policy="disaggregated"), keys=UNUSED)
    workers = found.prefill_workers + found.decode_workers
    found = found.replace(prefill_workers=workers // 2, decode_workers=workers - workers // 2)
    if found.arrivals != "gamma":
        found = _without(found.replace(arrivals="poisson"), keys=("arrival_cv",))
    if found.demand_load_frac is not None:
        found = _without(found, keys=("arrival_per_s",))
    if found.prefix_caching == "on":
        stated = found.replace(prefix_hit_frac=hit_frac_of(found, trace))
        found = _without(stated, keys=("prefix_caching", "host_cache_gb"))
    return found


def _without(scenario: Scenario, *groups: str, keys: Iterable[str] = ()) -> Scenario:
    """Return a scenario with some keys, or all of some groups, at their defaults; `mix_other` stays."""
    reset = {key for key, info in FIELDS.items() if info.group in groups and key != "mix_other"} | {*keys}
    return scenario.replace(**{key: DEFAULTS[key] for key in reset})


def needs_for(scenario: Scenario, trace: Requests | None = None) -> Needs:
    """Return what requests of a scenario's traffic take of the workers."""
    return fitted_needs(_without(scenario, "demand", "reallocation", "strategy"), trace)


def run_one_pool(scenario: Scenario, demand: Demand) -> Run:
    """Return the same requests on as many devices in one pool."""
    one = one_pool_of(scenario).replace(arrivals="trace", requests=len(demand.requests), warmup_frac=0.0)
    return run(one, trace=demand.requests)


def _tpot_s(first_s: np.ndarray, finished_s: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return the time per output token after the first [s]; NaN for answers of one token."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(outputs > 1, (finished_s - first_s) / (outputs - 1), math.nan)


def _percentiles_ms(values_s: np.ndarray) -> dict[str, float]:
    known = values_s[np.isfinite(values_s)]
    found = 1e3 * np.percentile(known, (50, 99)) if known.size else (math.nan, math.nan)
    return {"p50": float(found[0]), "p99": float(found[1])}


def _counts(edges_s: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Return how many of some times, in order, lie in each bin; the last edge belongs to the last bin."""
    places = np.searchsorted(times_s, edges_s)
    places[-1] = np.searchsorted(times_s, edges_s[-1], side="right")
    return np.diff(places)


def _waiting(edges_s: np.ndarray, came_s: np.ndarray, went_s: np.ndarray) -> np.ndarray:
    """Return how many have come and not gone at the end of each bin; who never goes on never waits."""
    goes = np.isfinite(went_s)
    return _before(edges_s[1:], came_s[goes]) - _before(edges_s[1:], went_s[goes])


def _before(edges_s: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Return how many of some times lie before each edge; to find their bins is quicker than to sort them."""
    bins = np.searchsorted(edges_s, times_s, side="right")
    return np.cumsum(np.bincount(bins, minlength=edges_s.size + 1))[:-1]


# --- was it worth it ------------------------------------------------------------------------------


def without(study: Study, outcome: Outcome, skipped: int, progress: Progress = silent) -> Outcome:
    """Return the same run with one of its decisions left out (-1: none, the run as it was)."""
    kept = [decision for number, decision in enumerate(outcome.decisions) if number != skipped]
    plan = Planned(np.array([item.time_s for item in kept]), np.array([item.after for item in kept], int))
    return study.drive(plan, outcome.name, progress, start=outcome.start, free=outcome.name == "free")


def brought_by(study: Study, outcome: Outcome, number: int, progress: Progress = silent) -> int:
    """Return how many requests within the limits a decision brought; a negative number is harm done."""
    return outcome.served - without(study, outcome, number, progress).served


def brought(study: Study, outcome: Outcome) -> Iterator[int]:
    """Yield what each decision brought; see `brought_by`."""
    return (brought_by(study, outcome, number) for number in range(len(outcome.decisions)))


def key_of(state: str) -> str:
    """Return the name of a state or phase as part of a key."""
    return state.replace("-", "_")
