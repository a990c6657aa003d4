"""The points of a sweep: what is varied, in which steps, and which points cannot be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sim_core.catalogue.reader import listed_by
from sim_core.fields.errors import ScenarioError, did_you_mean
from sim_core.fields.field import FieldInfo, check
from sim_core.price.memory import DoesNotFit
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.sweep.remembered import Remembered
from sim_core.sweep.saturation import saturation_per_s
from sim_core.traffic.requests import Requests

LOAD = "load_frac"
LOADS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.7, 0.8, 0.88, 0.95, 1.02)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512)
TENSOR_PARALLEL = (1, 2, 4, 8)
REQUESTS_PER_CLIENT = 10
MAX_POINTS = 10_000
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
    trace: Requests | None = None,
    profile: EngineProfile | None = None,
) -> list[Point]:
    """Return the points of a sweep, the last key running fastest.

    `load_frac` is the request rate as a share of the rate at which a curve saturates; it becomes
    `arrival_per_s`. A combination that cannot be is kept, with its reason.

    Raises
    ------
    ScenarioError
        If a key is unknown, has no values, or the sweep has more than 10,000 points.
    """
    vary = value_lists(vary or default_vary(scenario))
    count = math.prod(len(values) for values in vary.values())
    if count > MAX_POINTS:
        raise ScenarioError(
            f"the sweep has {count:,} points; the limit is {MAX_POINTS:,}. Give fewer values."
        )
    names = list(vary)
    combinations = (dict(zip(names, row, strict=True)) for row in itertools.product(*vary.values()))
    return points_at(scenario, combinations, trace=trace, profile=profile)


def value_lists(vary: Mapping[str, object]) -> dict[str, list[Any]]:
    """Return the values of each varied key as a list.

    Raises
    ------
    ScenarioError
        If a key is unknown or has no values.
    """
    listed = {key: _values(values) for key, values in vary.items()}
    for key, values in listed.items():
        if key != LOAD and key not in FIELDS:
            hint = did_you_mean(key, [*FIELDS, LOAD], listed_by("keys"))
            raise ScenarioError(f"cannot vary {key!r}: unknown key. {hint}")
        if not values:
            raise ScenarioError(f"cannot vary {key!r}: no values were given.")
    return listed


def points_at(
    scenario: Scenario,
    combinations: Iterable[dict[str, Any]],
    *,
    trace: Requests | None = None,
    profile: EngineProfile | None = None,
) -> list[Point]:
    """Return the points of some combinations of varied keys, in their order."""
    curves = _Curves(scenario, trace, profile)
    return [_point(curves, keys) for keys in combinations]


def _values(values: object) -> list[Any]:
    """Return the values of a key as a list, one value as a list of one, NumPy's scalars as Python's own."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        values = [values]
    return [value.item() if isinstance(value, np.generic) else value for value in values]


class _Curves:
    """The scenarios of a sweep without their loads, and the rates at which they saturate; each found once."""

    def __init__(self, scenario: Scenario, trace: Requests | None, profile: EngineProfile | None) -> None:
        self._scenario, self._trace, self._profile = scenario, trace, profile
        self._scenarios: Remembered[str, Scenario] = Remembered(MAX_POINTS)
        self._rates_per_s: Remembered[str, float] = Remembered(MAX_POINTS)

    def scenario(self, changes: dict[str, Any]) -> Scenario:
        return self._scenarios.of(str(changes), lambda: with_changes(self._scenario, **changes))

    def saturation_per_s(self, changes: dict[str, Any]) -> float:
        return self._rates_per_s.of(
            str(changes), lambda: saturation_per_s(self.scenario(changes), self._trace, self._profile)
        )


def _point(curves: _Curves, keys: dict[str, Any]) -> Point:
    changes = {key: value for key, value in keys.items() if key != LOAD}
    try:
        varied = curves.scenario(changes)
        if LOAD in keys:
            _check_load(keys[LOAD], varied)
            rate = keys[LOAD] * curves.saturation_per_s(changes)
            keys = {**keys, "arrival_per_s": rate}
            varied = varied.replace(arrival_per_s=rate)
        if varied.arrivals == "closed":
            varied = varied.replace(requests=max(varied.requests, REQUESTS_PER_CLIENT * varied.concurrency))
        return Point(keys, varied)
    except ScenarioError as error:
        return Point(keys, None, str(error), kind_of_failure(error))


def kind_of_failure(error: ScenarioError) -> str:
    return "memory" if isinstance(error, DoesNotFit) else "scenario"


def _check_load(load_frac: float, scenario: Scenario) -> None:
    """Refuse what is no load, and a load of traffic that has no rate."""
    check(LOAD, load_frac, LOAD_INFO)
    if scenario.arrivals not in ("poisson", "gamma"):
        raise ScenarioError(
            f"{LOAD} sets a request rate, but arrivals is {scenario.arrivals}. "
            f"Vary {sweep_key(scenario)}, or set arrivals=poisson."
        )
