"""Blind predictions: what the simulator said of each published point before it had seen it."""

from __future__ import annotations

import csv
import math
from functools import cache
from typing import NamedTuple

from sim_core.evidence.published import FOLDER, PublishedPoint, points

HELD_FRAC, HALF_FRAC = 0.8, 0.5


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
