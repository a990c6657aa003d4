"""The simulator's Python face: draw the traffic, price the steps, run the engine, return rows.

`run` does it for a scenario; `run_engine` is the bare engine on given arrays and prices, for tests and
benchmarks. Both coerce every array to one dtype and layout, so that Numba compiles each kernel once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim_core.engine.kernels.gaps import GAP_BINS
from sim_core.engine.kernels.one_pool import run_balanced, run_continuous
from sim_core.engine.kernels.pools import moves
from sim_core.engine.kernels.pools.links import SENDER, STAGE
from sim_core.engine.kernels.pools.two_pools import CLERK, Pool, advance_pools, open_pools
from sim_core.engine.kernels.records import (
    CHUNK,
    CHUNKED,
    EVENT,
    LOG,
    NOBODY,
    PREEMPTED,
    PREFILL_FIRST,
    REQUEST,
    RETURNED,
    STATE,
    STATIC,
    Room,
    Rules,
)
from sim_core.engine.kernels.static import run_static
from sim_core.fields.errors import ScenarioError
from sim_core.price import pools as two_pools
from sim_core.price import step_cost
from sim_core.price.price import Price, price_of
from sim_core.price.step_cost import StepCost
from sim_core.scenario.scenario import Scenario
from sim_core.traffic import draws

POLICIES = {"chunked": CHUNKED, "prefill_first": PREFILL_FIRST, "static": STATIC}
FINISHED, REJECTED = "finished", "rejected"
STAY = moves.Plan(0.0, False, False)  # of pools whose workers never move


class Traffic(NamedTuple):
    """What the engine serves, in order of arrival; arrays are C-contiguous.

    Attributes
    ----------
    arrival_s : ndarray of float64, shape (n,)
        Arrivals at the engine, non-decreasing; in a closed loop those of the first `concurrency`. [s]
    prompt_tokens, output_tokens : ndarray of int64, shape (n,)
        Lengths, at least 1.
    concurrency : int
        Clients of a closed loop, or 0 for an open loop.
    """

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    concurrency: int


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """What the measured steps of a run add up to.

    Attributes
    ----------
    steps_by_tokens, steps_by_rows : ndarray of int
        Steps by their new tokens (the last entry counts all longer ones) and by the rows they sample.
    extra_tokens, context_tokens, window_tokens, prefill_requests, swapped_tokens : int
        Sums over the steps of the counts that `StepCost` prices.
    prefill_pairs, window_pairs : float
        Query-key pairs of prompt chunks, all and within the sliding window.
    busy_s, elapsed_s, running_s, kv_used_s, kv_blocked_s, batch_blocked_s : float
        Time in steps; time in all; sequences times time; KV blocks times time; and the time in which
        the head of the queue waited for KV blocks, or for a place in the batch. Summed over replicas.
    """

    steps_by_tokens: np.ndarray
    steps_by_rows: np.ndarray
    steps: int
    extra_tokens: int
    context_tokens: int
    window_tokens: int
    prefill_pairs: float
    window_pairs: float
    prefill_requests: int
    swapped_tokens: int
    busy_s: float
    elapsed_s: float
    running_s: float
    kv_used_s: float
    kv_blocked_s: float
    batch_blocked_s: float


@dataclass(frozen=True, slots=True, eq=False)
class EngineResult:
    """What the engine returns, one entry a request in order of arrival; times on the engine's clock [s].

    `kv_blocks_peak` is the most KV blocks in use on any replica; `log` holds one row per run of equal steps,
    `events` what happened to which request in which row: chunks, preemptions, returns from the host.
    """

    arrival_s: np.ndarray
    first_token_s: np.ndarray
    finished_s: np.ndarray
    itl_max_s: np.ndarray
    preemptions: np.ndarray
    gap_counts: np.ndarray
    usage: Usage
    kv_blocks_peak: int
    log: np.ndarray
    events: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class SplitResult:
    """What a run of two pools reports beside its decode pool's `EngineResult`.

    Attributes
    ----------
    prefill : Price
        Of a prefill worker; `Run.price` is a decode worker's.
    usage : Usage
        Of the prefill pool.
    link_busy_s : float
        Time in which the links of all prefill workers were sending.
    stages : ndarray of `kernels.STAGE`, shape (n,)
        When each request was prefilled and arrived at the decode pool, on the engines' clock, else NaN.
    joined_s : ndarray, shape (n,)
        Start of the decode step that took it over; NaN for answers of one token.
    """

    prefill: Price
    usage: Usage
    link_busy_s: float
    stages: np.ndarray
    joined_s: np.ndarray


STAGES = ("queue", "prefill", "transfer", "decode queue", "decode")


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A simulated scenario: one entry a request in order of arrival, as the client sees it.

    `price` is what the steps cost, `engine` what the engine reports; where prefill and decode have pools of
    their own, both are those of the decode pool, and `split` has the rest.
    """

    scenario: Scenario
    price: Price
    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    first_token_s: np.ndarray
    finished_s: np.ndarray
    itl_max_s: np.ndarray
    preemptions: np.ndarray
    rejected: np.ndarray
    engine: EngineResult
    split: SplitResult | None = None

    def __deepcopy__(self, memo: dict) -> Run:
        """Return itself: a run never changes, and pandas copies what is attached to a table."""
        return self

    def requests(self) -> pd.DataFrame:
        """Return the requests as a table, with this run attached for `sim_core.summarize`."""
        table = pd.DataFrame(
            {
                "request_id": np.arange(self.arrival_s.size),
                "arrival_s": self.arrival_s,
                "prompt_tokens": self.prompt_tokens,
                "output_tokens": self.output_tokens,
                "first_token_s": self.first_token_s,
                "finished_s": self.finished_s,
                "itl_max_s": self.itl_max_s,
                "preemptions": self.preemptions,
                "status": pd.Categorical.from_codes(self.rejected.astype(np.int8), [FINISHED, REJECTED]),
            }
        )
        table.attrs["run"] = self
        return table

    def stages(self) -> pd.DataFrame | None:
        """Return how long each served request spends in each of `STAGES` [s]; None for one pool.

        The stages add up to its end-to-end time, but for the ways to the engine and back.
        """
        if self.split is None:
            return None
        stages, joined_s = self.split.stages, self.split.joined_s
        arrived_s, ended_s = self.engine.arrival_s, self.engine.finished_s
        alone = np.isnan(joined_s)  # answers of one token
        sent_s = np.where(alone, stages["prefill_end_s"], stages["transfer_end_s"])
        taken_s = np.where(alone, stages["prefill_end_s"], joined_s)
        moments = (arrived_s, stages["prefill_start_s"], stages["prefill_end_s"], sent_s, taken_s, ended_s)
        spans = np.diff(np.column_stack(moments), axis=1)
        return pd.DataFrame(spans, columns=STAGES, index=np.flatnonzero(~self.rejected))

    def steps(self) -> pd.DataFrame:
        """Return the step log, one row per run of equal steps.

        Columns beside those of `kernels.LOG`: requests `arrived` by the start; how many of them are `waiting`
        while the step runs (one engine only, else empty); and what happens to whom, by request id:
        `prefilled` (``7:512+300`` are 300 prompt tokens after 512), `preempted`, `returned` (from the host).
        """
        log = self.engine.log
        table = pd.DataFrame(log)
        table["arrived"] = np.searchsorted(np.sort(self.engine.arrival_s), log["start_s"], side="right")
        table["waiting"] = self.waiting() if self.scenario.replicas == 1 else None
        events = self.events()
        for name, kind in (("prefilled", CHUNK), ("preempted", PREEMPTED), ("returned", RETURNED)):
            table[name] = _by_row(events[events["kind"] == kind], log.size, detailed=kind == CHUNK)
        return table

    def events(self) -> np.ndarray:
        """Return the events of the step log (`kernels.EVENT`), requests by their ids in the tables."""
        events = self.engine.events.copy()
        events["request"] = np.flatnonzero(~self.rejected)[events["request"]]
        return events

    def waiting(self) -> np.ndarray:
        """Return the requests that wait in the queue of the one engine while each row of the log runs."""
        log = self.engine.log
        arrived = np.searchsorted(np.sort(self.engine.arrival_s), log["start_s"], side="right")
        if self.scenario.policy == "static":
            return arrived - log["admitted"]
        finished = np.searchsorted(np.sort(self.engine.finished_s), log["start_s"], side="right")
        return arrived - finished - log["running"]


class Steps(NamedTuple):
    """The steps of a log one by one: the row of each, and when it starts and ends [s]."""

    row: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray

    def of(self, chosen: np.ndarray) -> Steps:
        """Return the steps of the chosen rows (a mask over the log)."""
        return Steps(*(column[chosen[self.row]] for column in self))


def each_step(log: np.ndarray) -> Steps:
    """Return the steps of a log one by one; step k of a row lasts `growth_s` longer than the one before."""
    count = log["count"]
    row = np.repeat(np.arange(log.size), count)
    place = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
    first_s = (log["duration_s"] / count - log["growth_s"] * (count - 1) / 2)[row]
    growth_s = log["growth_s"][row]
    start_s = log["start_s"][row] + place * first_s + growth_s * place * (place - 1) / 2
    ends = place + 1 == count[row]
    row_end_s = (log["start_s"] + log["duration_s"])[row]
    return Steps(row, start_s, np.where(ends, row_end_s, start_s + first_s + growth_s * place))


def _by_row(events: np.ndarray, rows: int, detailed: bool) -> list[str]:
    """Return the events of each row of the log as text."""
    texts: list[list[str]] = [[] for _ in range(rows)]
    for row, _, request, computed, tokens in events.tolist():
        texts[row].append(f"{request}:{computed}+{tokens}" if detailed else str(request))
    return [" ".join(text) for text in texts]


def simulate(scenario: Scenario, *, trace: Any = None, profile: Any = None) -> pd.DataFrame:
    """Return the simulated requests of a scenario, one row each.

    Parameters
    ----------
    scenario : Scenario
    trace : Trace, optional
        Requests to replay instead of drawn ones.
    profile : EngineProfile, optional
        Measured step times instead of a calibration.

    Returns
    -------
    DataFrame
        Columns ``request_id, arrival_s, prompt_tokens, output_tokens, first_token_s, finished_s,
        itl_max_s, preemptions, status``; times in seconds from the start, NaN where nothing happened.

    Raises
    ------
    ScenarioError
        If the scenario cannot run: the model does not fit, the layout does not divide it.
    """
    return run(scenario, trace=trace, profile=profile, itl_max=True).requests()


def run(
    scenario: Scenario,
    *,
    trace: Any = None,
    profile: Any = None,
    price: Price | None = None,
    itl_max: bool = False,
    log: bool = False,
) -> Run:
    """Simulate a scenario and return the run; `itl_max` and `log` cost extra time and are off by default.

    A `price` stands in place of the scenario's own and of a profile.
    """
    split = two_pools.pools_of(scenario, profile) if scenario.split else None
    price = price or (split.decode if split else price_of(scenario, profile))
    traffic = draws.draw(scenario, trace)
    rejected = traffic.prompt_tokens + traffic.output_tokens > price.request_limit_tokens
    if split:
        rejected |= traffic.prompt_tokens > split.prefill.request_limit_tokens
    some_rejected = bool(rejected.any())
    arrival_s, prompt_tokens, output_tokens = traffic[:3]
    if some_rejected:
        kept = ~rejected
        arrival_s, prompt_tokens, output_tokens = (column[kept] for column in traffic[:3])
        if not kept.any():
            raise ScenarioError(_nothing_fits(traffic, price))
    result = None
    if split:
        split = split._replace(decode=price)
        engine, result = _run_split(scenario, split, arrival_s, prompt_tokens, output_tokens, itl_max, log)
    else:
        engine = _run_replicas(scenario, price, arrival_s, prompt_tokens, output_tokens, itl_max, log)
    columns = {
        "arrival_s": engine.arrival_s - price.request_before_s,
        "first_token_s": engine.first_token_s + price.request_after_s,
        "finished_s": engine.finished_s + price.request_after_s,
        "itl_max_s": engine.itl_max_s,
        "preemptions": engine.preemptions,
    }
    if some_rejected:
        columns = {name: _spread(values, rejected) for name, values in columns.items()}
        columns["arrival_s"] = _rejected_arrivals(scenario, columns["arrival_s"], traffic.arrival_s)
    return Run(
        scenario=scenario,
        price=price,
        prompt_tokens=traffic.prompt_tokens,
        output_tokens=traffic.output_tokens,
        rejected=rejected,
        engine=engine,
        split=result,
        **columns,
    )


def counted_requests(scenario: Scenario, count: int) -> tuple[int, int] | None:
    """Return the range of requests that statistics use, of `count` that were not rejected.

    After the warm-up, and in a closed loop without those that end in the drain. None stands for the whole
    run: offline, and where the range would be empty.
    """
    first = int(scenario.warmup_frac * count)
    last = count - scenario.concurrency if scenario.arrivals == "closed" else count
    return (first, last) if scenario.arrivals != "offline" and last > first else None


def _nothing_fits(traffic: draws.Workload, price: Price) -> str:
    shortest = int((traffic.prompt_tokens + traffic.output_tokens).min())
    return (
        f"no request fits: the shortest has {shortest:,} tokens (prompt and answer), the engine can hold "
        f"{price.request_limit_tokens:,} per request. Shorten the requests, or give the KV cache more memory."
    )


def _spread(values: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Return a column over all requests from one over those that were not rejected."""
    full = np.zeros(rejected.size, values.dtype)
    if values.dtype.kind == "f":
        full[:] = np.nan
    full[~rejected] = values
    return full


def _rejected_arrivals(scenario: Scenario, arrival_s: np.ndarray, drawn_s: np.ndarray) -> np.ndarray:
    """Return arrivals with those of rejected requests: as drawn, or in a closed loop as the next one."""
    missing = np.isnan(arrival_s)
    if scenario.arrivals != "closed":
        return np.where(missing, drawn_s, arrival_s)
    return pd.Series(arrival_s).bfill().ffill().to_numpy()


def _run_replicas(
    scenario: Scenario,
    price: Price,
    arrival_s: np.ndarray,
    prompt_tokens: np.ndarray,
    output_tokens: np.ndarray,
    itl_max: bool,
    log: bool,
) -> EngineResult:
    """Run the requests on one engine, on replicas behind a router, or on replicas that share nothing."""
    closed = scenario.arrivals == "closed"
    counted = counted_requests(scenario, arrival_s.size)
    first = counted[0] if counted else 0
    at_once = not closed and arrival_s[first] == arrival_s[-1]
    rules = {
        "policy": scenario.policy,
        "max_running": scenario.max_running,
        "token_budget": scenario.token_budget,
        "kv_blocks": price.kv_blocks,
        "kv_block_tokens": price.kv_block_tokens,
        "preemption": scenario.preemption,
        "concurrency": scenario.concurrency if closed else 0,
        "turnaround_s": price.request_before_s + price.request_after_s,
        "batch_wait_s": scenario.batch_wait_ms / 1e3,
        "warm": first,
        "whole": counted is None or at_once,
        "replicas": scenario.replicas,
        "router": scenario.router,
        "itl_max": itl_max,
        "log": log,
    }
    work = (price.step, arrival_s + price.request_before_s, prompt_tokens, output_tokens)
    found = run_engine(*work, **rules)
    if found.usage.busy_s == 0:  # all were let in at once: the statistics are those of the whole run
        found = run_engine(*work, **{**rules, "whole": True})
    return found


def run_engine(
    step: StepCost,
    arrival_s: np.ndarray,
    prompt_tokens: np.ndarray,
    output_tokens: np.ndarray,
    *,
    policy: str,
    max_running: int,
    token_budget: int,
    kv_blocks: int,
    kv_block_tokens: int,
    preemption: str = "recompute",
    concurrency: int = 0,
    turnaround_s: float = 0.0,
    batch_wait_s: float = 0.0,
    warm: int = 0,
    whole: bool = False,
    replicas: int = 1,
    router: str = "round_robin",
    itl_max: bool = False,
    log: bool = False,
) -> EngineResult:
    """Run requests through the engine.

    Parameters
    ----------
    step : StepCost
        Prices of a step; the row table has at least `max_running` + 1 entries.
    arrival_s, prompt_tokens, output_tokens, concurrency
        See `Traffic`; every request fits the KV cache alone.
    warm : int
        Usage and gaps count from this one's admission to the last one's (least loaded: its arrival).
    whole : bool
        Count all steps instead.
    replicas, router
        `least_loaded` works in an open loop with continuous batching; otherwise all are dealt in turn.
    itl_max, log : bool
        Keep the longest gap of each request; keep the step log.
    """
    traffic = traffic_of(arrival_s, prompt_tokens, output_tokens, concurrency)
    count = traffic.arrival_s.size
    rules = Rules(
        policy=POLICIES[policy],
        max_running=int(max_running),
        token_budget=int(token_budget),
        kv_blocks=int(kv_blocks),
        block_tokens=int(kv_block_tokens),
        swap=preemption == "swap",
        turnaround_s=float(turnaround_s),
        batch_wait_s=float(batch_wait_s),
        measure_from=NOBODY if whole else int(warm),
        measure_until=count if whole else count - 1,
        track_itl_max=bool(itl_max),
        keep_log=bool(log),
        pooled=False,
    )
    if replicas == 1:
        return _run_one(rules, step, traffic)
    balanced = router == "least_loaded" and concurrency == 0 and policy != "static"
    return (_run_balanced if balanced else _run_dealt)(rules, replicas, step, traffic)


def traffic_of(arrival_s: Any, prompt_tokens: Any, output_tokens: Any, concurrency: int) -> Traffic:
    """Return the traffic in the one dtype and layout that the kernels are compiled for."""
    return Traffic(
        np.ascontiguousarray(arrival_s, np.float64),
        np.ascontiguousarray(prompt_tokens, np.int64),
        np.ascontiguousarray(output_tokens, np.int64),
        int(concurrency),
    )


def _run_one(rules: Rules, step: StepCost, traffic: Traffic) -> EngineResult:
    """Run one engine; a run to be logged is run twice, first to count its rows."""
    kernel = run_static if rules.policy == STATIC else run_continuous
    sizes = (0, 0)
    for _ in range(1 + rules.keep_log):
        states = np.zeros(1, STATE)
        room = _room(rules, step, traffic, sizes)
        kernel(states, room, step, rules, *traffic)
        sizes = _log_sizes(states)
    return _result(states, room, rules)


def _log_sizes(states: np.ndarray) -> tuple[int, int]:
    """Return the rows and events that a log must have room for."""
    return int(states["log_rows"].max()), int(states["log_events"].max())


def _run_balanced(rules: Rules, replicas: int, step: StepCost, traffic: Traffic) -> EngineResult:
    """Run replicas behind a least-loaded router; the drain after the last arrival is not measured."""
    whole = rules.measure_until == traffic.arrival_s.size
    drain_rules = rules if whole else rules._replace(measure_until=NOBODY)
    sizes = (0, 0)
    for _ in range(1 + rules.keep_log):
        states = np.zeros(replicas, STATE)
        rooms = _room(rules, step, traffic, sizes, (replicas,))
        run_balanced(states, rooms, step, rules, drain_rules, *traffic[:3])
        sizes = _log_sizes(states)
    return _result(states, rooms, rules)


def _run_dealt(rules: Rules, replicas: int, step: StepCost, traffic: Traffic) -> EngineResult:
    """Run replicas that share nothing: requests, and the clients of a closed loop, are dealt in turn."""
    total = traffic.arrival_s.size
    used = min(replicas, total, traffic.concurrency or replicas)
    parts = []
    for replica in range(used):
        columns = (np.ascontiguousarray(column[replica::used]) for column in traffic[:3])
        own = Traffic(*columns, concurrency=len(range(replica, traffic.concurrency, used)))
        count = own.arrival_s.size
        own_rules = rules._replace(
            measure_from=rules.measure_from // used if rules.measure_from > 0 else rules.measure_from,
            measure_until=count if rules.measure_until == total else count - 1,
        )
        parts.append(_run_one(own_rules, step, own))
    return _merged(parts, total, replicas)


def _run_split(
    scenario: Scenario,
    split: two_pools.Pools,
    arrival_s: np.ndarray,
    prompt_tokens: np.ndarray,
    output_tokens: np.ndarray,
    itl_max: bool,
    log: bool,
) -> tuple[EngineResult, SplitResult]:
    """Run the requests through two pools; the first result is the decode pool's."""
    if log:
        raise ScenarioError(
            "there is no step log of two pools; simulate one pool (policy=chunked), or leave --steps-out out."
        )
    closed = scenario.arrivals == "closed"
    counted = counted_requests(scenario, arrival_s.size)
    first = counted[0] if counted else 0
    whole = counted is None or (not closed and arrival_s[first] == arrival_s[-1])
    rules = {
        "max_running": scenario.max_running,
        "prefill_max_running": scenario.max_batch,
        "token_budget": scenario.token_budget,
        "kv_blocks": split.decode.kv_blocks,
        "prefill_kv_blocks": split.prefill.kv_blocks,
        "kv_block_tokens": split.decode.kv_block_tokens,
        "preemption": scenario.preemption,
        "concurrency": scenario.concurrency if closed else 0,
        "turnaround_s": split.decode.request_before_s + split.decode.request_after_s,
        "warm": first,
        "itl_max": itl_max,
        "prefill_workers": scenario.prefill_workers,
        "decode_workers": scenario.decode_workers,
    }
    steps = (split.prefill.step, split.decode.step, split.transfer)
    traffic = (arrival_s + split.decode.request_before_s, prompt_tokens, output_tokens)
    found, result = run_split_engine(*steps, *traffic, **rules, whole=whole)
    if found.usage.busy_s == 0 or result.usage.busy_s == 0:  # no step between the first and last admission
        found, result = run_split_engine(*steps, *traffic, **rules, whole=True)
    return found, replace(result, prefill=split.prefill)


def run_split_engine(
    prefill_step: StepCost,
    step: StepCost,
    transfer: step_cost.Transfer,
    arrival_s: np.ndarray,
    prompt_tokens: np.ndarray,
    output_tokens: np.ndarray,
    *,
    prefill_workers: int,
    decode_workers: int,
    max_running: int,
    prefill_max_running: int,
    token_budget: int,
    kv_blocks: int,
    prefill_kv_blocks: int,
    kv_block_tokens: int,
    preemption: str = "recompute",
    concurrency: int = 0,
    turnaround_s: float = 0.0,
    warm: int = 0,
    whole: bool = False,
    itl_max: bool = False,
) -> tuple[EngineResult, SplitResult]:
    """Run requests through two pools (see `sim_core.price.pools`); parameters as in `run_engine`.

    Every prompt fits a prefill worker alone, every request a decode worker. The second result has no price.
    """
    traffic = traffic_of(arrival_s, prompt_tokens, output_tokens, concurrency)
    rules = pool_rules(
        max_running, token_budget, kv_blocks, kv_block_tokens, preemption, turnaround_s, itl_max=itl_max
    )
    count = traffic.arrival_s.size
    rules = rules._replace(
        measure_from=NOBODY if whole else int(warm), measure_until=count if whole else count - 1
    )
    sending = rules._replace(max_running=int(prefill_max_running), kv_blocks=int(prefill_kv_blocks))
    engine = SplitEngine(
        pool_of(sending, prefill_step, traffic, int(prefill_workers)),
        pool_of(rules, step, traffic, int(decode_workers)),
        transfer,
        traffic,
    )
    engine.advance(math.inf)
    return engine.results()


def pool_rules(
    max_running: int,
    token_budget: int,
    kv_blocks: int,
    kv_block_tokens: int,
    preemption: str,
    turnaround_s: float = 0.0,
    itl_max: bool = False,
) -> Rules:
    """Return the rules of a pool's workers, in the types that the kernels are compiled for; all counts."""
    return Rules(
        policy=CHUNKED,
        max_running=int(max_running),
        token_budget=int(token_budget),
        kv_blocks=int(kv_blocks),
        block_tokens=int(kv_block_tokens),
        swap=preemption == "swap",
        turnaround_s=float(turnaround_s),
        batch_wait_s=0.0,
        measure_from=NOBODY,
        measure_until=np.iinfo(np.int64).max,
        track_itl_max=bool(itl_max),
        keep_log=False,
        pooled=True,
    )


def pool_of(rules: Rules, step: StepCost, traffic: Traffic, workers: int) -> Pool:
    """Return the working memory of a pool's workers."""
    return Pool(np.zeros(workers, STATE), _room(rules, step, traffic, (0, 0), (workers,)), step, rules)


class SplitEngine:
    """Two pools that can be driven through time, and whose workers can move from one to the other.

    Attributes
    ----------
    prefill, decode : Pool
        Both share the request records. Where workers move, each has as many entries as there are workers,
        and worker w is entry w of both.
    senders, stages, moves : ndarray of `kernels.SENDER`, `kernels.STAGE`, `kernels.MOVE`
        Moves that have been asked for come first; `moved` says how many.
    """

    def __init__(
        self,
        prefill: Pool,
        decode: Pool,
        transfer: step_cost.Transfer,
        traffic: Traffic,
        plan: moves.Plan = STAY,
        most_moves: int = 0,
    ) -> None:
        count = traffic.arrival_s.size
        self.traffic, self.decode = traffic, decode
        self.prefill = prefill._replace(rooms=prefill.rooms._replace(requests=decode.rooms.requests))
        self.transfer = step_cost.Transfer(
            float(transfer.token_s), float(transfer.latency_s), int(transfer.layers), bool(transfer.overlap)
        )
        self.plan = plan
        self.stages = np.zeros(count, STAGE)
        for name in ("prefill_start_s", "prefill_end_s", "transfer_end_s"):
            self.stages[name] = np.nan
        self.senders = np.zeros(prefill.states.size, SENDER)
        self.moves = np.zeros(most_moves, moves.MOVE)
        self._clerk, self._heap = np.zeros(1, CLERK), np.empty(count)
        self._sent_s = traffic.arrival_s.copy()
        open_pools(self._clerk, self.prefill, self.senders, decode, self._sent_s, *traffic[1:])

    @property
    def moved(self) -> int:
        """Number of moves asked for so far."""
        return int(self._clerk["moves"][0])

    def advance(self, until_s: float) -> None:
        """Let everything happen that happens before a moment on the engines' clock [s]."""
        advance_pools(
            self._clerk, self.prefill, self.senders, self.decode, self.stages, self._heap, self.moves,
            self.plan, self.transfer, self._sent_s, float(until_s),
        )  # fmt: skip

    def ask_move(self, worker: int, to: int, now_s: float) -> None:
        """Let a worker leave its pool for the other one, `kernels.PREFILLS` or `kernels.DECODES`."""
        moves.ask_move(
            self._clerk, self.senders, self.decode, self.stages, self.moves, self.plan, self.transfer,
            int(worker), int(to), float(now_s),
        )  # fmt: skip

    def results(self) -> tuple[EngineResult, SplitResult]:
        """Return what each pool reports; the second result has no price."""
        transfer, stages, decode, prefill = self.transfer, self.stages, self.decode, self.prefill
        decode.rooms.requests["arrival_s"] = self._sent_s
        sent = np.isfinite(stages["transfer_end_s"])
        travel_s = _sent_s(transfer, self.traffic.prompt_tokens, stages)[sent]
        result = SplitResult(
            prefill=None,
            usage=_result(prefill.states, prefill.rooms, prefill.rules).usage,
            link_busy_s=float(transfer.latency_s * sent.sum() + travel_s.sum()),
            stages=stages,
            joined_s=decode.rooms.requests["joined_s"].copy(),
        )
        return _result(decode.states, decode.rooms, decode.rules), result


def _sent_s(transfer: step_cost.Transfer, prompt_tokens: np.ndarray, stages: np.ndarray) -> np.ndarray:
    """Return how long each prompt's KV cache keeps its link busy after the step that made it [s]."""
    whole_s = transfer.token_s * prompt_tokens
    if not transfer.overlap:
        return whole_s
    hidden_s = (stages["prefill_end_s"] - stages["prefill_start_s"]) * (transfer.layers - 1) / transfer.layers
    return np.maximum(whole_s / transfer.layers, whole_s - hidden_s)


def _room(
    rules: Rules, step: StepCost, traffic: Traffic, log_sizes: tuple[int, int], replicas: tuple[int, ...] = ()
) -> Room:
    """Return the working memory of one engine, or of several along a first axis."""
    count = traffic.arrival_s.size
    longest = int(traffic.output_tokens.max(initial=1))
    ring = max(64, 1 << (longest + 1).bit_length())
    gaps = ring if rules.track_itl_max else 1
    return Room(
        requests=np.empty(count, REQUEST),
        due_first=np.full((*replicas, ring), NOBODY, np.int32),
        due_bits=np.zeros((*replicas, ring // 64), np.uint64),
        crossings=np.zeros((*replicas, ring), np.int32),
        crossing_bits=np.zeros((*replicas, ring // 64), np.uint64),
        phases=np.zeros((*replicas, rules.block_tokens), np.int64),
        gap_ticks=np.zeros((*replicas, gaps), np.int64),
        gap_values_s=np.zeros((*replicas, gaps)),
        gap_counts=np.zeros((*replicas, GAP_BINS), np.int64),
        steps_by_tokens=np.zeros((*replicas, step.token_s.size), np.int64),
        steps_by_rows=np.zeros((*replicas, step.row_s.size), np.int64),
        log=np.zeros((*replicas, log_sizes[0]), LOG),
        events=np.zeros((*replicas, log_sizes[1]), EVENT),
    )


def _result(states: np.ndarray, room: Room, rules: Rules) -> EngineResult:
    """Return the result of one engine, or of replicas, from its working memory."""
    tables = {name: getattr(room, name) for name in ("gap_counts", "steps_by_tokens", "steps_by_rows")}
    if room.gap_counts.ndim > 1:
        tables = {name: table.sum(axis=0) for name, table in tables.items()}
    totals = dict(zip(STATE.names, map(sum, zip(*states.tolist(), strict=True)), strict=True))
    gap_counts = tables.pop("gap_counts")
    columns = ("arrival_s", "first_token_s", "finished_s", "itl_max_s", "preemptions")
    log, events = _logs(states, room)
    return EngineResult(
        **{name: np.ascontiguousarray(room.requests[name]) for name in columns},
        gap_counts=gap_counts,
        usage=Usage(**tables, **{name: totals[name] for name in Usage.__slots__ if name not in tables}),
        kv_blocks_peak=rules.kv_blocks - int(states["free_blocks_low"].min()),
        log=log,
        events=events,
    )


def _logs(states: np.ndarray, room: Room) -> tuple[np.ndarray, np.ndarray]:
    """Return step log and events of one engine, or of all replicas in order of time."""
    if room.log.ndim == 1:
        return room.log, room.events
    logs = [log[:count] for log, count in zip(room.log, states["log_rows"], strict=True)]
    events = [event[:count] for event, count in zip(room.events, states["log_events"], strict=True)]
    return _in_order(logs, events)


def _in_order(logs: list[np.ndarray], events: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the logs of replicas as one in order of time, and their events with the rows they then have."""
    log = np.concatenate(logs)
    order = np.argsort(log["start_s"], kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    firsts = np.cumsum([0, *(part.size for part in logs[:-1])])
    moved = np.concatenate(events)
    moved["row"] = place[moved["row"] + np.repeat(firsts, [part.size for part in events])]
    return log[order], moved[np.argsort(moved["row"], kind="stable")]


def _merged(parts: list[EngineResult], count: int, replicas: int) -> EngineResult:
    """Return the results of replicas to which the requests were dealt in turn, as one.

    Time also passes for replicas that got no request.
    """
    columns = {}
    for name in ("arrival_s", "first_token_s", "finished_s", "itl_max_s", "preemptions"):
        column = np.empty(count, getattr(parts[0], name).dtype)
        for replica, part in enumerate(parts):
            column[replica :: len(parts)] = getattr(part, name)
        columns[name] = column
    usage = {name: sum(getattr(p.usage, name) for p in parts) for name in Usage.__slots__}
    usage["elapsed_s"] *= replicas / len(parts)
    events = [part.events.copy() for part in parts]
    for replica, own in enumerate(events):
        own["request"] = own["request"] * len(parts) + replica
    log, events = _in_order([part.log for part in parts], events)
    return EngineResult(
        **columns,
        gap_counts=sum(part.gap_counts for part in parts),
        usage=Usage(**usage),
        kv_blocks_peak=max(part.kv_blocks_peak for part in parts),
        log=log,
        events=events,
    )


def warm_up() -> None:
    """Compile, or load from the cache on disk, every kernel with the argument types that `run` uses."""
    base = Scenario(requests=4, arrivals="offline", prompt_cv=0.0, output_cv=0.0, output_tokens=2)
    split = {"policy": "disaggregated"}
    for changes in ({}, {"policy": "static"}, {"replicas": 2, "arrivals": "poisson"}, split):
        run(base.replace(**changes))
