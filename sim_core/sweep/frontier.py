"""Many scenarios to a Pareto set: sweeps, the frontier, load curves, and the capacity within limits.

All points of a sweep see the same requests (common random numbers), so curves are smooth and their
differences are signal. `refine` repeats a sweep with many more requests on a process-wide thread pool.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim_core.engine.run import Run, run
from sim_core.fields.errors import ScenarioError, did_you_mean
from sim_core.fields.field import FieldInfo, check
from sim_core.price.cost import DoesNotFit, price
from sim_core.price.pools import decode_of
from sim_core.results import metrics
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.traffic.draws import draw

LOAD = "load_frac"
LOADS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.7, 0.8, 0.88, 0.95, 1.02)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512)
TENSOR_PARALLEL = (1, 2, 4, 8)
REFINED_REQUESTS = 50_000
CAPACITY_REQUESTS = 20_000
SATURATION_REQUESTS = 2_000
REQUESTS_PER_CLIENT = 10
MAX_POINTS = 10_000
MAX_RATE_FRAC = 20.0
LOAD_INFO = FieldInfo(float, "traffic", "Request rate as a share of what saturates", low=1e-4, high=100.0)


class Point(NamedTuple):
    """One point of a sweep: what was varied, and the scenario, or why there is none.

    `limit` is ``memory`` where the model does not fit, ``scenario`` where keys contradict each other.
    """

    keys: dict[str, Any]
    scenario: Scenario | None
    reason: str = ""
    limit: str = ""


def sweep_key(scenario: Scenario) -> str:
    """Return what runs along a curve: clients in a closed loop, the batch limit offline, else the load."""
    return {"closed": "concurrency", "offline": "max_batch", "trace": "max_batch"}.get(
        scenario.arrivals, LOAD
    )


def own_vary(scenario: Scenario) -> dict[str, Sequence[Any]]:
    """Return the sweep along a scenario's own curve: its `sweep_key` with the default steps."""
    key = sweep_key(scenario)
    return {key: steps_of(key)}


def steps_of(key: str) -> Sequence[Any]:
    """Return the default steps along a curve: shares of the saturating rate, or powers of two."""
    return LOADS if key == LOAD else BATCHES


def default_vary(scenario: Scenario) -> dict[str, Sequence[Any]]:
    """Return the default sweep: curves by tensor parallelism over the scenario's `sweep_key`."""
    return {"tensor_parallel": TENSOR_PARALLEL, **own_vary(scenario)}


def sweep_points(
    scenario: Scenario,
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    trace: Any = None,
    profile: Any = None,
) -> list[Point]:
    """Return the points of a sweep, the last key running fastest.

    `load_frac` is the request rate as a share of the rate at which a curve saturates; it becomes
    `arrival_per_s`. A combination that cannot be is kept, with its reason.

    Raises
    ------
    ScenarioError
        If a key is unknown, has no values, or the sweep has more than 10,000 points.
    """
    vary = {key: _values(values) for key, values in (vary or default_vary(scenario)).items()}
    for key, values in vary.items():
        if key != LOAD and key not in FIELDS:
            raise ScenarioError(f"cannot vary {key!r}: unknown key. {did_you_mean(key, [*FIELDS, LOAD])}")
        if not values:
            raise ScenarioError(f"cannot vary {key!r}: no values were given.")
    count = math.prod(len(values) for values in vary.values())
    if count > MAX_POINTS:
        raise ScenarioError(
            f"the sweep has {count:,} points; the limit is {MAX_POINTS:,}. Give fewer values."
        )
    names = list(vary)
    combinations = (dict(zip(names, row, strict=True)) for row in itertools.product(*vary.values()))
    return [_point(scenario, keys, trace, profile) for keys in combinations]


def _values(values: Any) -> list[Any]:
    """Return the values of a key as a list, one value as a list of one, NumPy's scalars as Python's own."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        values = [values]
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _point(scenario: Scenario, keys: dict[str, Any], trace: Any, profile: Any) -> Point:
    changes = {key: value for key, value in keys.items() if key != LOAD}
    try:
        varied = with_changes(scenario, **changes)
        if LOAD in keys:
            rate = _rate(keys[LOAD], varied, trace, profile)
            keys = {**keys, "arrival_per_s": rate}
            varied = varied.replace(arrival_per_s=rate)
        if varied.arrivals == "closed":
            varied = varied.replace(requests=max(varied.requests, REQUESTS_PER_CLIENT * varied.concurrency))
        return Point(keys, varied)
    except ScenarioError as error:
        return Point(keys, None, str(error), _kind(error))


def _kind(error: ScenarioError) -> str:
    return "memory" if isinstance(error, DoesNotFit) else "scenario"


def _rate(load_frac: Any, scenario: Scenario, trace: Any, profile: Any) -> float:
    """Return the request rate of a load, for traffic that has one [1/s]."""
    check(LOAD, load_frac, LOAD_INFO)
    if scenario.arrivals not in ("poisson", "gamma"):
        raise ScenarioError(
            f"{LOAD} sets a request rate, but arrivals is {scenario.arrivals}. "
            f"Vary {sweep_key(scenario)}, or set arrivals=poisson."
        )
    return load_frac * saturation_per_s(scenario, trace, profile)


def saturation_per_s(scenario: Scenario, trace: Any = None, profile: Any = None) -> float:
    """Return the highest request rate that the engine can keep up [1/s].

    That is its rate in a closed loop with the batch always full; or, where the KV cache cannot hold a full
    batch and preemptions cost time, with as many clients as it can hold, if that is faster.
    """
    closed = scenario.replace(
        arrivals="closed",
        warmup_frac=0.2,
        requests=SATURATION_REQUESTS,  # so that a refined sweep keeps its rates
        # these do not matter in a closed loop
        arrival_per_s=1.0,
        arrival_cv=1.0,
        slo_ttft_ms=1.0,
        slo_tpot_ms=1.0,
        slo_percentile=99.0,
    )
    return _saturation_per_s(closed, trace, profile)


@lru_cache(maxsize=256)
def _saturation_per_s(scenario: Scenario, trace: Any, profile: Any) -> float:
    places = scenario.max_running * scenario.engines * (2 if scenario.policy == "static" else 1)
    found = _closed_loop_per_s(scenario, places + max(8, places // 4), trace, profile)
    if scenario.policy == "static":
        return found
    held = _requests_held(scenario, trace, profile)
    return max(found, _closed_loop_per_s(scenario, held, trace, profile)) if held < places else found


def _closed_loop_per_s(scenario: Scenario, clients: int, trace: Any, profile: Any) -> float:
    """Return the rate at which requests finish if there are always as many as there are clients [1/s]."""
    clients = min(clients, FIELDS["concurrency"].high)
    requests = min(max(scenario.requests, 6 * clients), FIELDS["requests"].high)
    found = run(scenario.replace(concurrency=clients, requests=requests), trace=trace, profile=profile)
    return metrics.request_per_s(found)


def _requests_held(scenario: Scenario, trace: Any, profile: Any) -> int:
    """Return how many requests, on average half-way through their answers, nine tenths of the KV cache hold.

    Answers count by their length: those that take long are met more often.
    """
    found = price(decode_of(scenario) if scenario.split else scenario, profile)
    traffic = draw(scenario, trace)
    outputs = traffic.output_tokens.astype(float)
    tokens = np.average(traffic.prompt_tokens + outputs / 2, weights=outputs) + found.kv_block_tokens / 2
    return max(1, int(0.9 * found.kv_blocks * found.kv_block_tokens / tokens)) * scenario.engines


def evaluate(
    point: Point, *, requests: int | None = None, bands: bool = False, trace: Any = None, profile: Any = None
) -> dict[str, Any]:
    """Return one row of a sweep: the varied keys, all metrics, or `feasible` False and the reason."""
    if point.scenario is None:
        return {**point.keys, "feasible": False, "reason": point.reason, "limit": point.limit}
    scenario = point.scenario
    if requests is not None:
        scenario = scenario.replace(requests=max(requests, scenario.requests))
    try:
        found = run(scenario, trace=trace, profile=profile)
    except ScenarioError as error:
        return {**point.keys, "feasible": False, "reason": str(error), "limit": _kind(error)}
    row = row_of(point.keys, found) | {"requests": scenario.requests}
    row["at_limit"] = metrics.at_limit(found, row)
    return row | metrics.bands_of(found) if bands else row


def row_of(keys: Mapping[str, Any], found: Run) -> dict[str, Any]:
    """Return a run as a row of a sweep: the varied keys and all metrics."""
    return {**keys, "feasible": True, "reason": "", **metrics.point_of(found)}


def tabulate(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rows of a sweep as a table, with `on_frontier` marked and gaps filled."""
    table = pd.DataFrame(list(rows))
    for name in ("saturated", "meets_slo", "feasible"):
        column = table[name] if name in table else pd.Series(False, table.index)
        table[name] = column.eq(True)
    for name in ("tok_per_s_per_user", "output_tok_per_s_per_accelerator"):
        if name not in table:
            table[name] = math.nan
    table["reason"] = table["reason"].fillna("")
    if "at_limit" in table:
        table["at_limit"] = table["at_limit"].fillna("")
    table["on_frontier"] = on_frontier(
        table["tok_per_s_per_user"].to_numpy(float), table["output_tok_per_s_per_accelerator"].to_numpy(float)
    )
    return table


def frontier(
    scenario: Scenario,
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    trace: Any = None,
    profile: Any = None,
) -> pd.DataFrame:
    """Return a sweep as a table, one row a point, in the order of the sweep.

    Parameters
    ----------
    scenario : Scenario
    vary : mapping of key to values, optional
        Keys of the scenario, or `load_frac`; all combinations are run. Default: `default_vary`.

    Returns
    -------
    DataFrame
        The varied keys; the metrics of `sim_core.results.metrics.measure` (`ttft_ms_p99`,
        `tok_per_s_per_user`, `output_tok_per_s_per_accelerator`, ...); `feasible` and `reason`;
        `saturated`; `meets_slo`; `limit`, what binds the point; `at_limit`, the latency limit that it
        neither keeps nor breaks for sure; `on_frontier`, no other point has both more interactivity and
        more throughput per accelerator.
    """
    points = sweep_points(scenario, vary, trace=trace, profile=profile)
    return tabulate([evaluate(point, trace=trace, profile=profile) for point in points])


def on_frontier(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which points no other point beats in both x and y, or in one with the other equal; NaN never."""
    valid = np.isfinite(x) & np.isfinite(y)
    order = np.lexsort((-y, -x))
    best = (math.inf, -math.inf)
    chosen = np.zeros(x.size, bool)
    for i in order[valid[order]]:
        if y[i] > best[1] or (x[i], y[i]) == best:
            best = (x[i], y[i])
            chosen[i] = True
    return chosen


@lru_cache(maxsize=1)
def pool() -> ThreadPoolExecutor:
    """Return the process-wide pool; the kernels release the GIL."""
    return ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 2) - 1), thread_name_prefix="sweep")


def refine(
    points: Sequence[Point], requests: int = REFINED_REQUESTS, *, trace: Any = None, profile: Any = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (index, row) for every point as it is done, with many more requests and 95% bands.

    Closing the iterator cancels what has not started.
    """
    futures: dict[Future, int] = {
        pool().submit(evaluate, point, requests=requests, bands=True, trace=trace, profile=profile): index
        for index, point in enumerate(points)
    }
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


def open_loop(scenario: Scenario) -> Scenario:
    """Return the scenario with requests that arrive at a rate: Poisson, or gamma if it says so."""
    return scenario if scenario.arrivals == "gamma" else scenario.replace(arrivals="poisson")


def capacity(
    scenario: Scenario, *, profile: Any = None, tolerance: float = 0.005, requests: int = CAPACITY_REQUESTS
) -> dict[str, Any]:
    """Return the highest stable request rate within the limits, found by bisection, with its point.

    Arrivals are Poisson, or gamma if the scenario says so. Every trial sees the same requests, at least
    as many as asked for.

    Returns
    -------
    dict
        `arrival_per_s` (0.0 if even a trickle misses the limits), `saturation_per_s`, `bound_by` (what
        fails just above: ``ttft``, ``tpot``, ``stability``, or ``rejected`` if too many requests can never
        fit), `point` (a row as in `frontier`) or None, `tolerance_frac`.
    """
    scenario = open_loop(scenario).replace(requests=max(scenario.requests, requests))
    top = saturation_per_s(scenario, None, profile)

    def trial(rate: float) -> dict[str, Any]:
        return metrics.point_of(run(scenario.replace(arrival_per_s=rate), profile=profile))

    low, high = 0.0, 1.2 * top
    best, failed = None, trial(high)
    while failed["meets_slo"] and high < MAX_RATE_FRAC * top:
        low, best = high, failed
        high *= 1.5
        failed = trial(high)
    while high - low > tolerance * high and high > 1e-3 * top:
        rate = 0.5 * (low + high)
        found = trial(rate)
        if found["meets_slo"]:
            low, best = rate, found
        else:
            high, failed = rate, found
    return {
        "arrival_per_s": low,
        "saturation_per_s": top,
        "bound_by": _first_failure(scenario, failed),
        "point": best,
        "tolerance_frac": tolerance,
    }


def _first_failure(scenario: Scenario, point: Mapping[str, Any]) -> str:
    """Return which limit a point breaks: the one it exceeds by the larger factor."""
    if math.isinf(point["slo_ttft_ms_reached"]):
        return "rejected"
    if point["saturated"]:
        return "stability"
    ttft = point["slo_ttft_ms_reached"] / scenario.slo_ttft_ms
    tpot = point["slo_tpot_ms_reached"] / scenario.slo_tpot_ms
    return "ttft" if ttft >= tpot or math.isnan(tpot) else "tpot"
