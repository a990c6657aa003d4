"""The points of a sweep that run side by side: those of a load curve, which differ in the load alone.

Their price, lengths and rules are the same, so they are found once, and the figures of all are worked out
together: a sweep of many points touches Python for each batch, not for each point.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from sim_core.engine.run import hold_little, run_at_loads, runs_together
from sim_core.fields.errors import ScenarioError
from sim_core.price.priced import priced
from sim_core.results.answers import answers_of
from sim_core.results.classes import classes_of
from sim_core.results.limits import limits_hung_on
from sim_core.results.metrics import measure_all
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.sweep.points import Point
from sim_core.traffic.requests import Requests

MOST_REQUESTS = 32_000  # of all points of a batch: some 6 ms of a core
MOST_POINTS = 16

_but_load = attrgetter(*(name for name in FIELDS if name not in ("arrival_per_s", "concurrency")))


def in_batches(points: Sequence[Point], trace: Requests | None = None) -> list[list[int]]:
    """Return the numbers of the points in batches, each in the order of the sweep; one by itself is one.

    No batch has more than half of the points, since two threads share a sweep.
    """
    half = -(-len(points) // 2)
    found: list[list[int]] = []
    latest: dict[tuple[Any, ...], list[int]] = {}
    for number, point in enumerate(points):
        if point.scenario is None or not is_plain(point.scenario, trace):
            found.append([number])
            continue
        key = _but_load(point.scenario)
        batch = latest.get(key)
        if batch is None or len(batch) >= min(half, most_points(point.scenario)):
            batch = latest[key] = []
            found.append(batch)
        batch.append(number)
    return found


def is_plain(scenario: Scenario, trace: Requests | None = None) -> bool:
    """Return whether points of a scenario may run side by side: no classes are told apart either."""
    return runs_together(scenario, trace) and not classes_of(scenario)


def most_points(scenario: Scenario) -> int:
    """Return how many points of a scenario are a batch at most."""
    return max(1, min(MOST_POINTS, MOST_REQUESTS // scenario.requests))


def rows_together(
    points: Sequence[Point], trace: Requests | None = None, profile: EngineProfile | None = None
) -> list[dict[str, Any] | None]:
    """Return the rows of the points of a batch; None for one that must be run by itself."""
    scenarios = [point.scenario for point in points if point.scenario is not None]
    alone: list[dict[str, Any] | None] = [None] * len(points)
    try:
        runs = run_at_loads(priced(scenarios[0], profile), scenarios, trace)
    except ScenarioError:
        return alone
    if runs is None:
        return alone
    answers = answers_of(runs)
    found = answers.found
    counts = ~hold_little(runs) & (found.gaps_counted > 0) & (found.whole == 0)
    columns = measure_all(runs, answers) | {
        "requests": [runs.scenario.requests] * len(points),
        "at_limit": limits_hung_on(answers, runs.scenario),
    }
    rows: list[dict[str, Any] | None] = []
    for point, values, counted in zip(points, zip(*columns.values(), strict=True), counts, strict=True):
        row = {**point.keys, "feasible": True, "reason": ""}
        row.update(zip(columns, values, strict=True))
        rows.append(row if counted else None)
    return rows
