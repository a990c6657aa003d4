"""Which published points the project's own table holds, by rule and not by hand."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from sim_core.evidence import published as measured
from sim_core.evidence.published import PublishedPoint, campaign

Item = TypeVar("Item")
CELL_ROWS = 3  # rows chosen of one campaign and pair of lengths
MOST_PER_CAMPAIGN = {
    "closed": 8, "burst": 2, "batch": 2, "offline": 2, "prefill": 1, "server": 1, "split": 8,
    "closed, ranks": 8, "split, ranks": 8, "offline, ranks": 2,
}  # fmt: skip
MOST_NOT_FITTED = 3
RULE = (
    "They are chosen by rule, not by error. Points form campaigns (kind of run, model, accelerator, "
    "engine, precision), and within them to cells (lengths, parallelism). Of each cell the points of fewest, "
    "middle and most clients are taken, the newest where one was measured more than once. Of each campaign "
    "so many are taken, evenly spread over its cells: {closed} closed loops, {split} disaggregated ones, "
    "as many of each with ranks of attention, {batch} batches, {offline} offline runs, {burst} bursts, "
    "{prefill} prefill, {server} MLPerf entry."
)


def choose(points: Sequence[PublishedPoint]) -> list[PublishedPoint]:
    """Return the points of the table by rule, not by hand: no error is looked at.

    Points are grouped to campaigns (kind of run, model, accelerator, engine, precision) and within them to
    cells (lengths, tensor and expert parallelism). Of each cell the points of fewest, middle and most clients
    are taken, the newest where a point was measured more than once; of each campaign, cells are taken in
    the order of their lengths, spread evenly, up to `MOST_PER_CAMPAIGN` points.
    """
    for point in points:
        if point.source == measured.NOT_STATED:
            raise SystemExit(f"no source is known for {point.entry!r}; add it to SOURCES and sources.toml.")
    campaigns: dict[tuple, dict[tuple, list[PublishedPoint]]] = {}
    for point in points:
        cell = (point.prompt_tokens, point.output_tokens, point.tensor_parallel, point.expert_parallel)
        cell += (point.replicas, point.lengths, point.prefill_devices, point.decode_devices)
        cell += (point.ranks, point.prefill_ranks, point.decode_ranks)
        campaigns.setdefault(campaign(point), {}).setdefault(cell, []).append(point)
    found = []
    for key in sorted(campaigns):
        cells = [_ends_and_middle(cell) for _, cell in sorted(campaigns[key].items())]
        most = MOST_PER_CAMPAIGN[key[0]]
        if cells[0][0].status == measured.NOT_FITTED:
            most = min(most, MOST_NOT_FITTED)
        found += evenly([point for cell in cells for point in cell], most)
    return sorted(found, key=lambda point: point.id)


def _ends_and_middle(cell: list[PublishedPoint]) -> list[PublishedPoint]:
    newest: dict[tuple, PublishedPoint] = {}
    for point in sorted(cell, key=lambda point: (point.date, point.id)):
        newest[point.clients, round(point.arrival_per_s, 6) if point.arrival_per_s > 0 else 0] = point
    return evenly([newest[key] for key in sorted(newest)], CELL_ROWS)


def evenly(items: list[Item], most: int) -> list[Item]:
    """Return at most so many of the items, evenly spread from the first to the last."""
    if len(items) <= most:
        return items
    places = np.unique(np.round(np.linspace(0, len(items) - 1, most)).astype(int))
    return [items[place] for place in places]


def csv_of(points: Sequence[PublishedPoint]) -> str:
    """Return points as `measured.csv` holds them; numbers as the source prints them, to 6 digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(PublishedPoint._fields)
    for point in points:
        writer.writerow([_cell(key, value) for key, value in point._asdict().items()])
    return out.getvalue()


def _cell(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value == 0 or math.isnan(value) else f"{value:.8g}"


def about_of(
    one: Sequence[PublishedPoint], split: Sequence[PublishedPoint], left_out: dict[str, int], chosen: int
) -> str:
    """Return `about.toml`: how many rows there were, what was left out, and the rule."""
    lines = [
        f"chosen = {chosen}",
        f"usable = {len(one)}  # of one pool",
        f"disaggregated = {len(split)}",
        f'rule = "{RULE.format(**MOST_PER_CAMPAIGN)}"',
        "",
        "[noise]  # the same point measured on two versions of an engine",
        "median_pct = 2",
        "upper_quartile_pct = 28",
        "",
        "[left_out]",
        *(f'"{reason}" = {count}' for reason, count in left_out.items() if count),
    ]
    return "\n".join(lines) + "\n"
