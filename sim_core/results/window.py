"""Which requests and which time statistics use, and what these hold."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim_core.engine.kernels.sweep.tally import tally
from sim_core.engine.results import Run
from sim_core.engine.rules import counted_requests
from sim_core.scenario.scenario import Scenario

STABLE_FRAC = 0.98
GROWTH = 1.2
DRIFT = 0.0005


class Window(NamedTuple):
    """The requests that the latency statistics use, and the time over which rates are counted [s]."""

    first: int
    last: int
    start_s: float
    end_s: float


class Rows(NamedTuple):
    """The finished requests of a run, in order of arrival; times in seconds."""

    arrival_s: np.ndarray
    output_tokens: np.ndarray
    first_token_s: np.ndarray
    finished_s: np.ndarray


class Tally(NamedTuple):
    """What the requests and the time of a window hold.

    `ttft_ms` and `e2e_ms` have one entry a request, `tpot_ms` one for each with more than one token, in
    order of arrival; `gaps` are the gaps between their tokens, `met` the requests within both limits.
    `finished` requests, the `good` ones of them within both limits, and `tokens` (a request's lie evenly
    from its first to its last) count in the time.
    """

    ttft_ms: np.ndarray
    tpot_ms: np.ndarray
    e2e_ms: np.ndarray
    gaps: int
    met: int
    finished: int
    good: int
    tokens: float


def rows_of(run: Run) -> Rows:
    columns = (run.arrival_s, run.output_tokens, run.first_token_s, run.finished_s)
    if run.rejected.any():
        columns = tuple(column[~run.rejected] for column in columns)
    return Rows(*map(np.array, columns))  # copies of one layout, so that the kernel is compiled once


def tally_of(scenario: Scenario, rows: Rows, window: Window) -> Tally:
    """Return the latencies of the requests in the window and what was made in it."""
    used = window.last - window.first
    ttft_ms, tpot_ms, e2e_ms = np.empty(used), np.empty(used), np.empty(used)
    many, *counts = tally(
        *rows, *window, scenario.slo_ttft_ms, scenario.slo_tpot_ms, ttft_ms, tpot_ms, e2e_ms
    )
    return Tally(ttft_ms, tpot_ms[:many], e2e_ms, *counts)


def request_per_s(run: Run) -> float:
    """Return the rate at which requests finish in the window of a run [1/s]."""
    rows = rows_of(run)
    window = window_of(run.scenario, rows)
    return ratio(tally_of(run.scenario, rows, window).finished, window.end_s - window.start_s)


def window_of(scenario: Scenario, rows: Rows) -> Window:
    """Return which requests and which time the statistics use.

    Open loop: after the warm-up, until the last arrival. Closed loop: the same, without the requests
    that end in the drain. Offline, and where nothing is left otherwise: everything.
    """
    count = rows.arrival_s.size
    counted = counted_requests(scenario, count)
    if counted is not None:
        start_s, end_s = float(rows.arrival_s[counted[0]]), float(rows.arrival_s.max())
        if end_s > start_s:
            return Window(*counted, start_s, end_s)
    return Window(0, count, float(rows.arrival_s.min()), float(np.nanmax(rows.finished_s)))


def is_saturated(scenario: Scenario, held: Tally, window: Window) -> bool:
    """Return whether requests arrive faster than they finish, and wait longer and longer (open loop).

    Fewer than 98% finish; and the median TTFT grows over the thirds of the requests: by a fifth, and by half
    a thousandth of the time (less is a batch that still fills up, in a run too short to tell).
    """
    arrived = window.last - window.first
    if scenario.arrivals in ("closed", "offline") or arrived < 20:
        return False
    if held.finished >= STABLE_FRAC * arrived:
        return False
    early, middle, late = (np.median(third) for third in np.array_split(held.ttft_ms, 3))
    grown_s = (late - early) / 1e3
    growing = early < middle < late and late > GROWTH * early
    return bool(growing and grown_s > DRIFT * (window.end_s - window.start_s))


def ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan
