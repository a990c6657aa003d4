"""A trace at another rate: its times scaled as a whole, and the trace begun anew where it is too short.

Scaling keeps the order, the lengths and the pattern of a trace: what comes in bursts still does, and what
comes at one moment comes at one moment at any rate. Think times are people's own and are not scaled: of a
conversation whose turns follow its answers the beginning is moved, the others after it.

Each pass over a trace has texts of its own: no prompt finds itself, of the pass before, in a cache.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import COLUMNS, TURN_COLUMNS, BlockChains, Requests, read_only
from sim_core.traffic.texts import session_numbers


def is_scaled(scenario: Scenario) -> bool:
    """Return whether a scenario replays a trace at its own request rate."""
    return scenario.arrivals == "trace" and scenario.trace_times == "scaled"


def own_rate_per_s(trace: Requests) -> float:
    """Return the mean rate of a trace: its requests over the time from the first to the last. [1/s]

    Turns that follow an answer have no time of their own; they count to the time of those that do.

    Raises
    ------
    ScenarioError
        If all come at once: there is no rate then.

    Examples
    --------
    >>> from sim_core.traffic.requests import requests_of
    >>> own_rate_per_s(requests_of([0.0, 1.0, 4.0], [100, 200, 300], [10, 20, 30]))
    0.75
    """
    times_s = trace.arrival_s[_timed(trace)]
    span_s = float(times_s.max(initial=0.0) - times_s.min(initial=np.inf)) if times_s.size else 0.0
    if not span_s > 0:
        raise ScenarioError(
            f"the requests of {trace.name or 'the list'} all come at one moment, so it has no rate that "
            "could be scaled: give a trace that lasts, or choose arrivals=poisson, which takes its lengths."
        )
    return len(trace) / span_s


@lru_cache(maxsize=8)
def at_rate(trace: Requests, rate_per_s: float, requests: int) -> Requests:
    """Return so many requests of a trace at a mean rate [1/s]: the first, or all of them more than once."""
    whole = trace.take(slice(requests))
    scale = own_rate_per_s(whole) / rate_per_s
    passes = -(-requests // len(whole))
    sent = _scaled(whole, scale)
    if passes > 1:
        sent = _repeated(sent, passes, len(whole) / rate_per_s)
    sent = sent.take(np.argsort(sent.arrival_s, kind="stable"))
    return read_only(sent.take(slice(requests)))


def _timed(trace: Requests) -> np.ndarray:
    """Return which requests come at a time of their own, as a mask."""
    return np.ones(len(trace), bool) if trace.follows_s is None else np.isnan(trace.follows_s)


def _scaled(trace: Requests, scale: float) -> Requests:
    """Return a trace from time 0 on whose times are so many times as long, think times aside."""
    times_s = trace.arrival_s - trace.arrival_s.min()
    timed = _timed(trace)
    if timed.all():
        return trace.arriving_at(scale * times_s)
    session = session_numbers(trace)
    latest: dict[int, tuple[float, float]] = {}  # of each session, recorded and scaled
    scaled_s = scale * times_s
    for i in np.flatnonzero(session >= 0).tolist():
        if not timed[i] and session[i] in latest:
            recorded_s, moved_s = latest[session[i]]
            scaled_s[i] = moved_s + times_s[i] - recorded_s
        latest[session[i]] = times_s[i], scaled_s[i]
    return trace.arriving_at(scaled_s)


def _repeated(trace: Requests, passes: int, period_s: float) -> Requests:
    """Return a trace so many times, a period apart, each in sessions and texts of its own."""
    columns = {name: getattr(trace, name) for name in (*COLUMNS, *TURN_COLUMNS)}
    again: dict[str, Any] = {
        name: np.tile(column, passes) for name, column in columns.items() if column is not None
    }
    again["arrival_s"] += period_s * np.repeat(np.arange(passes), len(trace))
    if trace.session is not None:
        again["session"] = _of_each_pass(session_numbers(trace), passes).astype(np.int32)
    return replace(trace, **again, blocks=trace.blocks and _chains_repeated(trace.blocks, passes))


def _chains_repeated(chains: BlockChains, passes: int) -> BlockChains:
    """Return chains of several passes, whose texts differ."""
    _, ids = np.unique(chains.ids, return_inverse=True)
    offsets = np.concatenate(([0], np.cumsum(np.tile(np.diff(chains.offsets), passes))))
    return BlockChains(offsets, _of_each_pass(ids, passes), chains.tokens)


def _of_each_pass(numbers: np.ndarray, passes: int) -> np.ndarray:
    """Return numbers so many times, in each pass others; -1, which stands for none, stays.

    Examples
    --------
    >>> _of_each_pass(np.array([0, 2, -1]), 2).tolist()
    [0, 2, -1, 3, 5, -1]
    """
    again = np.tile(numbers, passes)
    since = np.repeat(np.arange(passes), numbers.size) * (int(numbers.max(initial=-1)) + 1)
    return np.where(again < 0, -1, again + since)
