"""What a curve gives at a place between its points: the value on the straight line, and its range."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class OnLine(NamedTuple):
    """A value at a speed, and those of the simulated points around it; NaN beyond the quickest point."""

    value: float
    low: float
    high: float


BEYOND = OnLine(math.nan, math.nan, math.nan)


def at_speed(places: Iterable[tuple[float, float]], speed: float) -> OnLine:
    """Return the most that a curve gives to users who get at least a speed, between its points.

    Faster points serve, too: who is given more tokens a second than asked for is served. A curve that falls
    from the slower of two neighbours to the faster lies between their values.

    Parameters
    ----------
    places : iterable of (speed, value)
        The points of the curve, in any order.
    speed : float
        At least so much for each user.

    Examples
    --------
    >>> at_speed([(100.0, 10.0), (50.0, 30.0)], 75.0)
    OnLine(value=20.0, low=10.0, high=30.0)
    >>> at_speed([(100.0, 10.0), (50.0, 30.0)], 20.0).value
    30.0
    """
    known = sorted(places)
    quicker = [value for place, value in known if place >= speed]
    if not quicker:
        return BEYOND
    best = max(quicker)
    slower = [(place, value) for place, value in known if place < speed]
    if not slower:
        return OnLine(best, best, best)
    (left, high), (right, low) = slower[-1], known[len(slower)]
    there = high + (low - high) * (speed - left) / (right - left)
    return OnLine(max(there, best), max(min(low, high), best), max(high, there, best))
