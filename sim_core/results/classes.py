"""Latencies of each class of a mix, and limits that each class has for itself."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from sim_core.engine.kernels.answers.records import Findings
from sim_core.engine.results import Run
from sim_core.scenario.mixes import ClassLimits, class_limits
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.lengths import class_ids, length_classes
from sim_core.traffic.sessions import has_sessions

QUANTILES = (50.0, 99.0)


class _Served(NamedTuple):
    """The requests of a run that were served, one entry each, and which class all requests are of."""

    ttft_ms: np.ndarray
    tpot_ms: np.ndarray  # NaN of one token
    e2e_ms: np.ndarray
    finished_s: np.ndarray
    kinds: np.ndarray
    turned_away: np.ndarray  # requests of each class that were


def class_column(latency: str, part: str, name: str) -> str:
    """Return the column of a latency of one class, such as `ttft_ms_p99 chat`."""
    return f"{latency}_ms_{part} {name}"


def classes_of(scenario: Scenario) -> list[str]:
    """Return the classes that a scenario's requests are told apart by; none where there are not several."""
    if scenario.request_list or scenario.arrivals == "trace" or has_sessions(scenario):
        return []
    names = [item.name for item in length_classes(scenario)]
    return names if len(names) > 1 or scenario.class_limits else []


def classes_of_run(run: Run) -> list[str]:
    """Return the same of a run; none where its requests were given, and so are of no class."""
    names = classes_of(run.scenario)
    return names if names and _are_drawn(run) else []


def _are_drawn(run: Run) -> bool:
    """Return whether the lengths of a run are those that its scenario draws."""
    drawn = requests_sent(run.scenario)
    columns = ((drawn.prompt_tokens, run.prompt_tokens), (drawn.output_tokens, run.output_tokens))
    return all(own is given or np.array_equal(own, given) for own, given in columns)


def limits_of_classes(scenario: Scenario) -> dict[str, ClassLimits]:
    """Return the latency limits of each class: its own, or those of all."""
    common = ClassLimits(scenario.slo_ttft_ms, scenario.slo_tpot_ms)
    own = dict(class_limits(scenario.class_limits))
    return {name: own.get(name, common) for name in classes_of(scenario)}


def limits_of_engine(scenario: Scenario) -> ClassLimits:
    """Return the limits that an engine must keep at least, whatever the lengths of a class.

    Classes share the steps of an engine, and so their time per token: the shortest limit on TPOT holds. First
    tokens come after prompts as long as the class has: the longest limit on TTFT is what can be said of all.
    """
    limits = limits_of_classes(scenario).values() if scenario.class_limits else ()
    if not limits:
        return ClassLimits(scenario.slo_ttft_ms, scenario.slo_tpot_ms)
    return ClassLimits(max(each.ttft_ms for each in limits), min(each.tpot_ms for each in limits))


def has_common_limits(scenario: Scenario) -> bool:
    """Return whether any request has the limits of all: whether some class has none of its own."""
    own = dict(class_limits(scenario.class_limits))
    return any(name not in own for name in classes_of(scenario)) or not classes_of(scenario)


def enter_classes(point: dict[str, Any], run: Run, found: Findings) -> None:
    """Enter the latencies of each class of a mix, and what is reached of limits of its own.

    With limits of single classes, a run keeps its limits where each class does, at the percentile of its own
    requests; `slo_ttft_ms_reached` and `slo_tpot_ms_reached` are then those of the class that comes closest
    to its limit or exceeds it most, as the same multiple of the limit of all. Goodput and attainment count
    requests within the limits of their class.
    """
    scenario, names = run.scenario, classes_of_run(run)
    if not names:
        return
    served = _served(run, len(names))
    reached = {}
    for kind, name in enumerate(names):
        mine = np.zeros(served.kinds.size, bool)
        mine[found.first : found.last] = served.kinds[found.first : found.last] == kind
        _enter_latencies(point, served, mine, name)
        reached[name] = _reached(served, mine, int(served.turned_away[kind]), scenario.slo_percentile)
    if scenario.class_limits:
        _enter_limits(point, scenario, reached)
        _enter_goodput(point, scenario, served, found)


def _served(run: Run, count: int) -> _Served:
    scenario, kept = run.scenario, ~run.rejected
    kinds = class_ids(length_classes(scenario), scenario.seed, scenario.requests)
    arrival_s, first_s, end_s = run.arrival_s[kept], run.first_token_s[kept], run.finished_s[kept]
    later = run.output_tokens[kept] - 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        tpot_ms = np.where(later > 0, 1e3 * (end_s - first_s) / later, math.nan)
    away = np.bincount(kinds[run.rejected], minlength=count)
    return _Served(1e3 * (first_s - arrival_s), tpot_ms, 1e3 * (end_s - arrival_s), end_s, kinds[kept], away)


def _enter_latencies(point: dict[str, Any], served: _Served, mine: np.ndarray, name: str) -> None:
    for latency in ("ttft", "tpot", "e2e"):
        values = _known(getattr(served, f"{latency}_ms")[mine])
        found = np.percentile(values, QUANTILES).tolist() if values.size else [math.nan] * len(QUANTILES)
        for quantile, value in zip(QUANTILES, found, strict=True):
            point[class_column(latency, f"p{quantile:.0f}", name)] = value
        point[class_column(latency, "n", name)] = int(values.size)


def _known(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _reached(served: _Served, mine: np.ndarray, turned_away: int, percentile: float) -> ClassLimits:
    """Return what a class reaches at the percentile of the limits; who is turned away waits for ever.

    A class that sent nothing in the window, and of which nothing was turned away, says nothing: NaN.
    """
    count = int(np.count_nonzero(served.kinds == served.kinds[mine][0])) if mine.any() else 0
    among = percentile * (count + turned_away) / count if count else math.inf
    away = math.inf if turned_away and among > 100 else math.nan
    found = []
    for values in (_known(served.ttft_ms[mine]), _known(served.tpot_ms[mine])):
        found.append(float(np.percentile(values, among)) if values.size and among <= 100 else away)
    return ClassLimits(*found)


def _enter_limits(point: dict[str, Any], scenario: Scenario, reached: dict[str, ClassLimits]) -> None:
    limits = limits_of_classes(scenario)
    common = ClassLimits(scenario.slo_ttft_ms, scenario.slo_tpot_ms)
    shares = np.array([np.divide(reached[name], limits[name]) for name in reached])
    worst = np.fmax.reduce(shares, axis=0)  # a class that says nothing leaves it to the others
    for key, share, limit in zip(("ttft", "tpot"), worst.tolist(), common, strict=True):
        point[f"slo_{key}_ms_reached"] = share * limit
    point["meets_slo"] = bool(not point["saturated"] and worst[0] <= 1 and not worst[1] > 1)


def _enter_goodput(point: dict[str, Any], scenario: Scenario, served: _Served, found: Findings) -> None:
    limits = np.array(list(limits_of_classes(scenario).values()))[served.kinds]
    within = (served.ttft_ms <= limits[:, 0]) & ~(served.tpot_ms > limits[:, 1])
    inside = (found.start_s < served.finished_s) & (served.finished_s <= found.end_s)
    point["goodput_per_s"] = float(np.count_nonzero(within & inside)) / found.window_s
    all_served = served.kinds.size
    kept = float(within[found.first : found.last].mean()) if found.used else math.nan
    point["slo_attainment_frac"] = kept * all_served / (all_served + int(served.turned_away.sum()))
