"""A plan for recorded requests: a trace, or a scenario's own list, in place of drawn ones.

Those with times are replayed at the rate, in whole passes, so that no part of the pattern counts more than
it did; those without give lengths alone. A trace is one draw: no seed makes another, and a percentile is as
sure as the requests beyond it are many.

Arithmetic takes the lengths of the trace, and the variation of its gaps for the wait. Its bound is divided by
the share of requests that must keep the limits: the others may all come at once, and those at a lower rate.
Badges and launch texts, and the matching of two pools, go by mean lengths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sim_core.results.reuse import best_hit_frac
from sim_core.scenario.lengths import MOST_CV
from sim_core.scenario.request_lists import parse_request_list
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.traffic.draws import rate_recorded_per_s, requests_sent
from sim_core.traffic.requests import Requests

MOST = int(FIELDS["requests"].high)
BEYOND = 10  # requests that a percentile rests on, at least, to be told within noise
DRAWN = {
    "arrivals": "poisson",
    "trace_times": "recorded",
    "request_list": "",
    "mix": "",
    "turns": 1,
    "system_tokens": 0,
}


def keeps_pattern(scenario: Scenario) -> bool:
    """Return whether recorded requests come in their own pattern."""
    return scenario.arrivals == "trace"


def recorded_requests(scenario: Scenario, trace: Requests | None) -> int:
    """Return how many requests were recorded; 0 where they are drawn."""
    if trace is not None:
        return min(len(trace), MOST)
    return len(parse_request_list(scenario.request_list)) if keeps_pattern(scenario) else 0


def default_rate_per_s(scenario: Scenario, trace: Requests | None) -> float:
    """Return the rate to plan for where none is given: of the recorded requests, else the scenario's. [1/s]

    Raises
    ------
    ScenarioError
        If requests are to be replayed and there are none, or all come at one moment.
    """
    if not keeps_pattern(scenario):
        return scenario.arrival_per_s
    return rate_recorded_per_s(scenario.replace(requests=MOST), trace)


def requests_of_run(scenario: Scenario, trace: Requests | None, wanted: int) -> int:
    """Return the requests of a run that should have so many: whole passes, or all lengths that there are."""
    count = recorded_requests(scenario, trace)
    if not count:
        return wanted
    return count * math.ceil(wanted / count) if keeps_pattern(scenario) else min(wanted, count)


def by_means(scenario: Scenario, trace: Requests | None) -> Scenario:
    """Return a scenario with drawn requests, of the mean lengths of the recorded ones if there are some."""
    changes = _stated(scenario.request_list if keeps_pattern(scenario) else "", trace)
    return scenario.replace(**changes) if changes else scenario


def means_with_reuse(scenario: Scenario, trace: Requests | None) -> Scenario:
    """Return the same whose cache finds all that one without limit would find of the recorded prompts."""
    found = by_means(scenario, trace)
    if found is scenario or scenario.prefix_caching == "off":
        return found
    return found.replace(prefix_caching="off", prefix_hit_frac=best_hit_frac(scenario, trace))


@lru_cache(maxsize=16)
def _stated(request_list: str, trace: Requests | None) -> Mapping[str, Any]:
    if trace is None and not request_list:
        return {}
    scenario = Scenario(arrivals="trace" if trace is None else "poisson", request_list=request_list)
    sent = requests_sent(scenario.replace(requests=MOST), trace)
    changes: dict[str, Any] = dict(DRAWN)
    for name in ("prompt", "output"):
        lengths = getattr(sent, f"{name}_tokens")
        changes[f"{name}_tokens"] = max(round(float(lengths.mean())), 1)
        changes[f"{name}_cv"] = min(float(lengths.std() / lengths.mean()), MOST_CV)
    return MappingProxyType(changes)


def recorded_words(scenario: Scenario, trace: Requests | None, rate_per_s: float, requests: int) -> str:
    """Return what runs of so many requests replay, at what multiple of their rate, and how sure that is."""
    count = recorded_requests(scenario, trace)
    if not count:
        return ""
    name = f"of {trace.name}" if trace is not None and trace.name else "recorded"
    if keeps_pattern(scenario):
        passes = "" if requests <= count else f", {requests // count:,} times over"
        times = rate_per_s / default_rate_per_s(scenario, trace)
        pace = "at their own rate" if abs(times - 1) < 5e-3 else f"at {times:.3g} times their own rate"
        words = f"Replayed are the {count:,} requests {name}{passes}, {pace}."
    else:
        words = f"Lengths are those of the {count:,} requests {name}; their arrivals are drawn."
    beyond = count * (1 - scenario.slo_percentile / 100)
    if beyond >= BEYOND - 1e-9:
        return words
    rests = f"the slowest {beyond:.2g}" if beyond >= 1 else "less than one"
    return (
        f"{words} The p{scenario.slo_percentile:g} rests on {rests} of them: a longer trace makes it surer."
    )
