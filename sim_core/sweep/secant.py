"""Where a limit is met: the highest load that keeps it, by few trials.

The Illinois variant of the secant rule (regula falsi) on the logarithm of the load. What is sought is where
a miss, the logarithm of the value over its limit, changes its sign: near a limit that is close to a
straight line in the logarithm of the load.

References
----------
Dowell, Jarratt (1971), "A modified regula falsi method for computing the root of an equation", BIT 11.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

STEEP = 1.5  # a miss is cut here: far beyond saturation a latency says how long the run is
TINY = 1e-9
MOST_STEP = 0.5
CUT_FRAC = 0.5  # of the bracket, that two trials should cut off


class Reach(NamedTuple):
    """Between which loads to look, and how.

    Attributes
    ----------
    least, most : float
        Loads.
    step : float
        At least so far, relative to the load, it moves at first.
    tolerance : float
        How close the ends of the bracket shall come, relative to the load.
    slope : float
        By how much the miss is thought to grow with the logarithm of the load.
    whole : bool
        Loads are whole numbers.
    """

    least: float
    most: float
    step: float
    tolerance: float
    slope: float = 1.1
    whole: bool = False


class Bracket(NamedTuple):
    """The highest load found to keep the limits (0: none), and the lowest above it that does not (inf)."""

    low: float
    high: float


class _End(NamedTuple):
    """One end of the bracket: its load, and its miss as the secant counts it."""

    load: float
    miss: float

    @property
    def at(self) -> float:
        return math.log(self.load)


def highest(miss: Callable[[float], float], start: float, reach: Reach) -> Bracket:
    """Return the highest load with a miss of at most 0, between two loads that are close together.

    Parameters
    ----------
    miss : callable
        The logarithm of what a load reaches over its limit; `inf` where no load can keep it.
    start : float
        Where to look first.
    reach : Reach
    """
    low: _End | None = None
    high: _End | None = None
    load, widths, stride, last = _within(start, reach), [math.inf, math.inf], reach.step, 0
    while True:
        found = miss(load)
        if found == math.inf:
            return Bracket(0.0, load)
        side, end = (-1 if found <= 0 else 1), _End(load, min(found, STEEP))
        if side < 0:
            low, high = end, _halved(high) if last == side else high
        else:
            low, high = _halved(low) if last == side else low, end
        last = side
        if (low is None and load <= reach.least) or (high is None and load >= reach.most):
            break
        if low and high:
            if _is_close(low, high, reach):
                break
            load = _between(low, high, widths, reach)
        else:
            size = min(max(abs(found) / reach.slope + reach.tolerance / 2, stride), max(MOST_STEP, stride))
            load, stride = _within(_moved(load, -side * size, reach), reach), 2 * stride
    return Bracket(low.load if low else 0.0, high.load if high else math.inf)


def _halved(end: _End | None) -> _End | None:
    """Return an end that stayed where it was twice with half its miss: the Illinois rule."""
    return end and end._replace(miss=end.miss / 2)


def _between(low: _End, high: _End, widths: list[float], reach: Reach) -> float:
    """Return the next load inside a bracket: by the secant, or the middle where that gets on too slowly."""
    width = high.at - low.at
    share = 0.5 if width > CUT_FRAC * widths[0] else low.miss / min(low.miss - high.miss, -TINY)
    widths[:] = widths[1], width
    margin = 0.5 * reach.tolerance
    at = min(max(low.at + share * width, low.at + margin), high.at - margin)
    load = math.exp(at)
    if not reach.whole:
        return load
    return min(max(round(load), low.load + 1), high.load - 1)


def _is_close(low: _End, high: _End, reach: Reach) -> bool:
    return (reach.whole and high.load - low.load <= 1) or high.at - low.at <= reach.tolerance


def _moved(load: float, by: float, reach: Reach) -> float:
    """Return a load moved by a logarithm; a whole one by at least one."""
    moved = load * math.exp(by)
    if not reach.whole:
        return moved
    return max(round(moved), load + 1) if by > 0 else min(round(moved), load - 1)


def _within(load: float, reach: Reach) -> float:
    load = min(max(load, reach.least), reach.most)
    return round(load) if reach.whole else load
