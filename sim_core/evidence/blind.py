"""Blind predictions: what the simulator said of each published point before it had seen it."""

from __future__ import annotations

import csv
import math
from functools import cache
from typing import NamedTuple

import numpy as np

from sim_core.evidence.published import FOLDER, PublishedPoint, points

HELD_FRAC = 0.8


class Band(NamedTuple):
    """A ratio interval: 80% of measured values lie from `low` to `high` times the predicted one."""

    low: float
    high: float


NO_BAND = Band(math.nan, math.nan)


class Blind(NamedTuple):
    """Ratios predicted / measured of a point by constants that have not seen it, NaN where unknown."""

    point: PublishedPoint
    unseen: str
    ttft: float
    tpot: float
    throughput: float


@cache
def blind() -> tuple[Blind, ...]:
    """Return the blind predictions of the table's points."""
    known = {point.id: point for point in points()}
    with (FOLDER / "blind.csv").open(encoding="utf-8", newline="") as lines:
        return tuple(
            Blind(
                known[row["id"]],
                row["unseen"],
                *(float(row[metric] or "nan") for metric in ("ttft", "tpot", "throughput")),
            )
            for row in csv.DictReader(lines)
        )


def interval(ratios: np.ndarray) -> Band:
    """Return the 10th and the 90th percentile of ratios, NaN left out."""
    known = ratios[np.isfinite(ratios)]
    if not known.size:
        return NO_BAND
    edge = 100 * (1 - HELD_FRAC) / 2
    return Band(*np.percentile(known, [edge, 100 - edge]).tolist())
