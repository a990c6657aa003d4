"""What the Frontier may have along its axes: latencies across, throughput per what it takes upwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from sim_core.sweep.frontier import on_frontier
from sim_core.view.drawing.figures import DEVICE, USER, Axis, Row
from sim_core.view.drawing.verdicts import holding

ACROSS: Mapping[str, Axis] = MappingProxyType(
    {
        "user": USER,
        "ttft": Axis("ttft_ms_p50", "TTFT p50 [ms]", "ms to the first token", False),
        "ttft_p99": Axis("ttft_ms_p99", "TTFT p99 [ms]", "ms to the first token (p99)", False),
        "e2e": Axis("e2e_s_p50", "End-to-end latency p50 [s]", "s end to end", False),
        "e2e_p99": Axis("e2e_s_p99", "End-to-end latency p99 [s]", "s end to end (p99)", False),
    }
)
OF_DRAWN = "most {} of these"
UP: Mapping[str, Axis] = MappingProxyType(
    {
        "device": DEVICE,
        "usd": Axis("mtok_per_usd", "Throughput [Mtok/USD]", "Mtok/USD", best=OF_DRAWN.format("per dollar")),
        "watt": Axis("tok_per_s_per_w", "Throughput [tok/s/W]", "tok/s/W", best=OF_DRAWN.format("per watt")),
        "mw": Axis("tok_per_s_per_mw", "Throughput [tok/s/MW]", "tok/s/MW", best=OF_DRAWN.format("per MW")),
    }
)


def placed(row: Row) -> dict[str, Any]:
    """Return a row with what axes may show of it; NaN where not known, or withheld of an overloaded one.

    Tokens per dollar are those of an hour over its price; tok/s per watt are tokens per joule, at the mean
    power of the accelerators.
    """
    per_joule = _each(holding(row, "joule_per_tok"))
    return {
        **row,
        "e2e_s_p50": holding(row, "e2e_ms_p50") / 1e3,
        "e2e_s_p99": holding(row, "e2e_ms_p99") / 1e3,
        "ttft_ms_p50": holding(row, "ttft_ms_p50"),
        "ttft_ms_p99": holding(row, "ttft_ms_p99"),
        "mtok_per_usd": _each(holding(row, "usd_per_mtok")),
        "tok_per_s_per_w": per_joule,
        "tok_per_s_per_mw": 1e6 * per_joule,
    }


def _each(amount: float) -> float:
    """Return how many there are for one unit of an amount; NaN where that is nothing, or not known."""
    return 1 / amount if amount > 0 else math.nan


def placed_all(rows: Iterable[Row], across: Axis, up: Axis) -> list[dict[str, Any]]:
    """Return the rows for two axes, those marked that no other beats in both."""
    found = [placed(row) for row in rows]
    way = 1 if across.more_is_better else -1
    places = np.array([(way * row[across.column], row[up.column]) for row in found], float).reshape(-1, 2)
    chosen = on_frontier(places[:, 0], places[:, 1]).tolist()
    return [row | {"on_frontier": kept} for row, kept in zip(found, chosen, strict=True)]


def missing(rows: Iterable[Row], across: Axis, up: Axis) -> str:
    """Return why a curve that runs has no place between two axes."""
    if up.column == "mtok_per_usd":
        return "its price is not known; set a price per hour under More specs to see it per dollar."
    if up.column in ("tok_per_s_per_w", "tok_per_s_per_mw"):
        return "its power is not known; set a power under More specs to see it per watt."
    if not across.more_is_better and all(row.get("saturated") for row in rows):
        return "all its points are overloaded: their latency says only how long the run is."
    return "answers of one token have no time per token; choose a latency for the axis across."
