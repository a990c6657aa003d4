"""Lanes of a timeline: bars that do not overlap share one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sim_core.results.story import INSTANT_S, QUEUED

# --- lanes ------------------------------------------------------------------------------------------


def deal_lanes(segments: np.ndarray) -> tuple[int, int]:
    """Give every bar its lane, in place; return the slots and the places in the queue that are used.

    A request keeps its slot from its admission until it leaves the batch, and its place from joining the
    queue until it is admitted; each time it takes the lowest free one.
    """
    queued = np.isin(segments["kind"], QUEUED)
    slots = _deal(segments, np.flatnonzero(~queued), 0)
    places = _deal(segments, np.flatnonzero(queued), slots)
    return slots, places


def _deal(segments: np.ndarray, chosen: np.ndarray, base: int) -> int:
    """Deal the lanes from `base` on to the chosen bars, in order of time; return how many were needed."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    used = 0
    for stay in sorted(_stays(segments, chosen), key=lambda stay: (stay.start_s, stay.bars[0])):
        while busy and busy[0][0] <= stay.start_s + INSTANT_S:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, used = used, used + 1
        segments["lane"][stay.bars] = base + lane
        heapq.heappush(busy, (stay.end_s, lane))
    return used


@dataclass(slots=True)
class Stay:
    """Bars of one request that follow one another without a break."""

    start_s: float
    end_s: float
    bars: list[int]


def _stays(segments: np.ndarray, chosen: Iterable[int]) -> list[Stay]:
    """Return the stays that the chosen bars form."""
    stays: list[Stay] = []
    latest: dict[int, Stay] = {}
    request, start_s, end_s = (segments[name].tolist() for name in ("request", "start_s", "end_s"))
    for bar in chosen:
        stay = latest.get(request[bar])
        if stay is not None and start_s[bar] <= stay.end_s + 1e-9:
            stay.bars.append(int(bar))
            stay.end_s = max(stay.end_s, end_s[bar])
        else:
            stay = latest[request[bar]] = Stay(start_s[bar], end_s[bar], [int(bar)])
            stays.append(stay)
    return stays
