"""Bands: what four fifths of the measurements, blind to the fit, lie within."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from sim_core import catalogue
from sim_core.evidence.blind import Band, blind, interval
from sim_core.evidence.coverage import FAMILY_WORDS, coverage

FEWEST_ROWS = 15
FEWEST_OWN = 8
WIDER = 0.5


@cache
def closest(family: str, accelerator: str, unseen: str) -> tuple[dict[str, Band], str]:
    """Return what holds measured / predicted in 80% of the closest blind rows, and which these are."""
    rows = [row for row in blind() if row.unseen == unseen]
    same = [row for row in rows if row.point.family == family]
    here = [row for row in same if row.point.accelerator == accelerator]
    name = catalogue.accelerator(accelerator).name
    left_out = f"each predicted without its {unseen}"
    if len(here) >= FEWEST_ROWS and unseen == "model":
        rows, words = here, f"{len(here)} published points of {FAMILY_WORDS[family]} on {name}, {left_out}"
    elif len(same) >= FEWEST_ROWS:
        rows, words = same, f"{len(same)} published points of {FAMILY_WORDS[family]}, {left_out}"
    else:
        words = f"{len(rows)} published points, {left_out}"
    metrics = ("tpot", "ttft", "throughput")
    return {name: interval(np.array([1 / getattr(row, name) for row in rows])) for name in metrics}, words


def widened(band: Band, steps: int) -> Band:
    """Return a band that is wider by half for each step, in the logarithm, about its middle.

    Examples
    --------
    >>> [round(edge, 3) for edge in widened(Band(0.5, 2.0), 2)]
    [0.25, 4.0]
    """
    low, high = (math.log(edge) for edge in band)
    middle, half = (low + high) / 2, (high - low) / 2 * (1 + WIDER * steps)
    return Band(math.exp(middle - half), math.exp(middle + half))


@cache
def own_band(accelerator: str) -> Band | None:
    """Return the throughput band of a part that was never fitted, from points of its own."""
    if accelerator in coverage().accelerators:
        return None
    own = [row for row in blind() if row.unseen == "all" and row.point.accelerator == accelerator]
    ratios = np.array([1 / row.throughput for row in own])
    return interval(ratios) if np.isfinite(ratios).sum() >= FEWEST_OWN else None


def union(first: Band, second: Band) -> Band:
    return Band(min(first.low, second.low), max(first.high, second.high))
