"""Many scenarios to a Pareto set: sweeps, the frontier, load curves, and the capacity within limits.

All points of a sweep see the same requests (common random numbers), so curves are smooth and their
differences are signal. `refine` repeats a sweep with many more requests on a process-wide thread pool.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from sim_core.engine.results import Run
from sim_core.engine.run import run
from sim_core.engine.work import allowance, awaited, is_heavy, pool, seated, shared
from sim_core.fields.errors import ScenarioError
from sim_core.results.answers import Answer, answer_of
from sim_core.results.limits import at_limit, bands_of
from sim_core.results.metrics import point_of
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.batches import in_batches, rows_together
from sim_core.sweep.points import Point, kind_of_failure, sweep_points
from sim_core.traffic.requests import Requests

REFINED_REQUESTS = 50_000
REFINED_TIMES = 3.0  # as much as the budget may be spent on what runs behind the first answer
Value = TypeVar("Value")
AXES = ("tok_per_s_per_user", "output_tok_per_s_per_accelerator")  # of the frontier
FEW = 3  # points that a second thread would not make faster


def evaluate(
    point: Point,
    *,
    requests: int | None = None,
    bands: bool = False,
    trace: Requests | None = None,
    profile: EngineProfile | None = None,
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
        return {**point.keys, "feasible": False, "reason": str(error), "limit": kind_of_failure(error)}
    answer = answer_of(found, banded=bands)
    row = row_of(point.keys, found, answer) | {"requests": found.scenario.requests}
    row["at_limit"] = at_limit(answer, scenario)
    return row | bands_of(answer) if bands else row


def evaluate_all(
    points: Sequence[Point], *, trace: Requests | None = None, profile: EngineProfile | None = None
) -> list[dict[str, Any]]:
    """Return the rows of a sweep in the order of its points.

    The caller takes one batch of points after the other, and so does a thread of the pool while it has time
    and the sweep is light: the kernels release the GIL.
    """
    rows: list[dict[str, Any]] = [{} for _ in points]
    left = deque(in_batches(points, trace))

    def take(ends: Callable[[], bool]) -> None:
        while not ends():
            try:
                batch = left.popleft()
            except IndexError:
                return
            try:
                for index, row in _evaluated(points, batch, trace, profile):
                    rows[index] = row
            except BaseException:  # nobody needs the others any more
                left.clear()
                raise

    with seated(), shared(len(points)):
        helper = pool().submit(copy_context().run, take, is_heavy) if len(points) > FEW else None
        take(lambda: False)
        if helper and not helper.cancel():
            awaited(helper)
    return rows


def evaluate_in_turn(
    points: Sequence[Point], *, trace: Requests | None = None, profile: EngineProfile | None = None
) -> list[dict[str, Any]]:
    """Return the same rows, all of them from this thread."""
    done = chain.from_iterable(
        _evaluated(points, batch, trace, profile) for batch in in_batches(points, trace)
    )
    return [row for _, row in sorted(done, key=itemgetter(0))]


def _evaluated(
    points: Sequence[Point], batch: Sequence[int], trace: Requests | None, profile: EngineProfile | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and row of each point of a batch: of all together, or one by one where that cannot be."""
    some = [points[index] for index in batch]
    together = rows_together(some, trace, profile) if len(batch) > 1 else [None]
    for index, point, row in zip(batch, some, together, strict=True):
        yield index, row or evaluate(point, trace=trace, profile=profile)


def row_of(keys: Mapping[str, Any], found: Run, answer: Answer | None = None) -> dict[str, Any]:
    """Return a run as a row of a sweep: the varied keys and all metrics."""
    return {**keys, "feasible": True, "reason": "", **point_of(found, answer)}


def tabulate(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rows of a sweep as a table, with `on_frontier` marked and gaps filled."""
    names = dict.fromkeys(chain.from_iterable(rows))
    columns = {name: [row.get(name, math.nan) for row in rows] for name in names}
    nothing = [math.nan for _ in rows]
    for name in ("saturated", "meets_slo", "feasible"):
        columns[name] = [value in (True,) for value in columns.get(name, nothing)]
    for name in ("reason", "at_limit"):
        if name in columns:
            columns[name] = [value if isinstance(value, str) else "" for value in columns[name]]
    axes = [np.array(columns.setdefault(name, nothing), float) for name in AXES]
    columns["on_frontier"] = on_frontier(*axes).tolist()
    return pd.DataFrame({name: _numbers_as_array(values) for name, values in columns.items()})


def _numbers_as_array(values: list[Any]) -> np.ndarray | list[Any]:
    """Return a column of numbers as an array, which is made into a table faster; another one as it is."""
    return np.array(values) if set(map(type, values)) <= {int, float} else values


def frontier(
    scenario: Scenario,
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    trace: Requests | None = None,
    profile: EngineProfile | None = None,
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
        `saturated`; `meets_slo`; `limit`, what binds the point; `at_limit`, the latency limit on which
        alone it hangs whether it meets them; `on_frontier`, no other point has both more interactivity
        and more throughput per accelerator.
    """
    points = sweep_points(scenario, vary, trace=trace, profile=profile)
    return tabulate(evaluate_all(points, trace=trace, profile=profile))


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


def refine(
    points: Sequence[Point],
    requests: int = REFINED_REQUESTS,
    *,
    trace: Requests | None = None,
    profile: EngineProfile | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (index, row) for every point as it is done, with many more requests and 95% bands.

    Closing the iterator cancels what has not started.
    """
    given: dict[str, Any] = {"requests": requests, "bands": True, "trace": trace, "profile": profile}
    with shared(len(points) / REFINED_TIMES):
        return as_done([partial(evaluate, point, **given) for point in points])


def as_done(calls: Sequence[Callable[[], Value]]) -> Iterator[tuple[int, Value]]:
    """Yield (index, result) of every call, made one after the other by the process-wide pool.

    Closing the iterator cancels what has not started. Where somebody waits, one call is made at a time: a
    visitor has one heavy job.
    """
    return _as_done(calls, copy_context())


def _as_done(calls: Sequence[Callable[[], Value]], context: Context) -> Iterator[tuple[int, Value]]:
    ahead = len(calls) if allowance() is None else 1
    waiting = deque(enumerate(calls))
    running: deque[tuple[int, Future[Value]]] = deque()
    try:
        while waiting or running:
            while waiting and len(running) < ahead:
                index, call = waiting.popleft()
                running.append((index, pool().submit(context.copy().run, call)))
            index, future = running[0]
            value = awaited(future)
            running.popleft()
            yield index, value
    finally:
        for _, future in running:
            future.cancel()
