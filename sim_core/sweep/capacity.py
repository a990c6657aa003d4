"""Capacity: the highest request rate at which a scenario keeps its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sim_core.engine.run import run
from sim_core.results.metrics import point_of
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.saturation import saturation_per_s

CAPACITY_REQUESTS = 20_000
MAX_RATE_FRAC = 20.0


def open_loop(scenario: Scenario) -> Scenario:
    """Return the scenario with requests that arrive at a rate: Poisson, or gamma if it says so."""
    return scenario if scenario.arrivals == "gamma" else scenario.replace(arrivals="poisson")


def capacity(
    scenario: Scenario,
    *,
    profile: EngineProfile | None = None,
    tolerance: float = 0.005,
    requests: int = CAPACITY_REQUESTS,
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
        return point_of(run(scenario.replace(arrival_per_s=rate), profile=profile))

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
