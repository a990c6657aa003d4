"""What the experiments share: one engine, replayed traffic, rounded scenarios."""

from __future__ import annotations

import math
from typing import Any

from sim_core.results.timeline import check_one_scheduler
from sim_core.scenario.scenario import FIELDS, Scenario

Row = dict[str, Any]
REMEMBERED = 32


def one_engine(scenario: Scenario, requests: int) -> Scenario:
    """Return the scenario on one engine with its share of the traffic, and at most so many requests."""
    check_one_scheduler(scenario)
    copies = 1 if scenario.split else scenario.replicas
    return scenario.replace(
        replicas=1,
        arrival_per_s=max(scenario.arrival_per_s / copies, FIELDS["arrival_per_s"].low),
        concurrency=math.ceil(scenario.concurrency / copies),
        requests=min(scenario.requests, requests),
    )


def replays(scenario: Scenario) -> bool:
    """Return whether the scenario has requests of its own, a list or a trace, in place of drawn ones."""
    return scenario.arrivals == "trace"


def drawn(scenario: Scenario) -> Scenario:
    """Return the scenario with drawn requests where it `replays` its own."""
    changes = {"request_list": ""} if scenario.request_list else {}
    if scenario.arrivals == "trace":
        changes["arrivals"] = "poisson"
    return scenario.replace(**changes) if changes else scenario


def continuous_policy(scenario: Scenario) -> str:
    """Return the scenario's policy, or chunked prefill if it is static."""
    return "prefill_first" if scenario.policy == "prefill_first" else "chunked"


def rounded(value: float, digits: int = 3) -> float:
    """Return a value with few digits, so that links and commands read well."""
    return float(f"{value:.{digits}g}")
