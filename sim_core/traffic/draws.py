"""Traffic: a scenario to arrival times and request lengths, as arrays."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.lengths import LengthClass
from sim_core.scenario.request_lists import REQUEST_LIST_EXAMPLE, parse_request_list
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.lengths import class_ids, length_classes, lengths_by_class, normals
from sim_core.traffic.replay import at_rate, is_scaled, own_rate_per_s
from sim_core.traffic.requests import Requests, listed, read_only
from sim_core.traffic.sessions import has_sessions, in_sessions
from sim_core.traffic.units import CACHED_REQUESTS, arrivals_of

SAMPLE = 20_000  # requests from which the mean lengths of sessions are known


def requests_sent(scenario: Scenario, trace: Requests | None = None) -> Requests:
    """Return the requests of one run.

    Parameters
    ----------
    scenario : Scenario
        Its traffic and length keys are used, no others.
    trace : Requests, optional
        Its first `requests` rows give the lengths; under `arrivals = "trace"` also the arrival times, scaled
        to the request rate where `trace_times` says so. Without one, `arrivals = "trace"` replays the
        scenario's own `request_list`.

    Returns
    -------
    Requests
        Arrival times never fall. They are all 0 for offline (all at once) and for closed loop (where
        the engine's finishes set them); those of later turns of a session are the earliest possible.

    Raises
    ------
    ScenarioError
        If arrivals are to come from a trace and there is none.
    """
    trace = _given_trace(scenario, trace)
    if trace is not None:
        return _from_trace(scenario, trace)
    if has_sessions(scenario):
        return in_sessions(scenario)
    make = _kept if scenario.requests <= CACHED_REQUESTS else _drawn
    lengths = make(length_classes(scenario), scenario.seed, scenario.requests, scenario.system_tokens)
    return Requests(arrivals_of(scenario, scenario.requests), *lengths, system_tokens=scenario.system_tokens)


def _drawn(
    classes: tuple[LengthClass, ...], seed: int, requests: int, system_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return prompt and output tokens of each request that begins with the system prompt."""
    own, output = lengths_by_class(classes, class_ids(classes, seed, requests), *normals(seed, requests))
    lengths = own + system_tokens if system_tokens else own, output
    for column in lengths:
        column.flags.writeable = False  # they are kept, and shared by all who ask
    return lengths


_kept = lru_cache(maxsize=16)(_drawn)


def mean_lengths(scenario: Scenario, trace: Requests | None = None) -> tuple[float, float]:
    """Return mean prompt and mean output length, rounding of single lengths left aside. [tokens]"""
    trace = _given_trace(scenario, trace)
    if trace is not None:
        rows = _trace_rows(scenario, trace)
        return float(np.mean(trace.prompt_tokens[:rows])), float(np.mean(trace.output_tokens[:rows]))
    if has_sessions(scenario):
        sent = in_sessions(scenario.replace(requests=min(scenario.requests, SAMPLE)))
        return float(np.mean(sent.prompt_tokens)), float(np.mean(sent.output_tokens))
    classes = length_classes(scenario)
    total = sum(item.weight for item in classes)
    return (
        scenario.system_tokens + sum(item.weight * item.prompt.mean for item in classes) / total,
        sum(item.weight * item.output.mean for item in classes) / total,
    )


def _given_trace(scenario: Scenario, trace: Requests | None) -> Requests | None:
    """Return the trace that a scenario replays: the given one, or under arrivals=trace its own list."""
    if trace is not None and not trace.timed and scenario.arrivals == "trace":
        raise ScenarioError(
            f"{trace.name or 'the trace'} has lengths without times, so arrivals cannot be trace: choose "
            "arrivals=poisson with a rate, closed or offline."
        )
    if trace is not None or scenario.arrivals != "trace":
        return trace
    if not scenario.request_list:
        raise ScenarioError(
            "arrivals is trace but there is no trace: give one (--trace FILE, or request_list with entries "
            f"such as {REQUEST_LIST_EXAMPLE}), or choose arrivals=poisson."
        )
    return _listed(scenario.request_list)


@lru_cache(maxsize=16)
def _listed(text: str) -> Requests:
    return read_only(listed(parse_request_list(text)))


def rate_recorded_per_s(scenario: Scenario, trace: Requests | None = None) -> float:
    """Return the mean rate of the trace that a scenario replays, as it was recorded. [1/s]"""
    given = _given_trace(scenario.replace(arrivals="trace"), trace)
    assert given is not None
    return own_rate_per_s(given.take(slice(_trace_rows(scenario, given))))


def _from_trace(scenario: Scenario, trace: Requests) -> Requests:
    """Return the rows of a trace; drawn or fixed arrival times unless arrivals is `trace`."""
    rows = _trace_rows(scenario, trace)
    if is_scaled(scenario):
        return at_rate(trace, scenario.arrival_per_s, scenario.requests)
    sent = trace.take(slice(rows))
    if scenario.arrivals != "trace":
        return sent.arriving_at(arrivals_of(scenario, rows))
    return sent.take(np.argsort(sent.arrival_s, kind="stable"))


def _trace_rows(scenario: Scenario, trace: Requests) -> int:
    """Return how many rows of a trace are used."""
    rows = min(scenario.requests, len(trace))
    if rows == 0:
        raise ScenarioError("the trace has no requests; give one with at least one row.")
    return rows
