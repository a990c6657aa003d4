"""How far predictions are from runs with ranks of attention and over several nodes; development only.

These runs are of DeepSeek-R1 without speculation; no constant that all models share has seen them. A
configuration that was run on several days counts once, with the medians of what was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.order import ORDER, rank
from benchmarks.printed import cell, error_table, rounded
from benchmarks.runs import BY_RECIPE, RUNS, Run, read_runs
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence.errors import METRICS
from sim_core.evidence.published import PublishedPoint

LAYOUTS = ("dp_attention", "multi_node")
MEASURED = ("ttft_ms", "tpot_ms", "output_tok_per_s")
NOT_SHARED = ("id", "date", "entry", "engine_version", "statistic", *MEASURED)
LATE_SHARE = 0.25  # of a request's time that its first token takes where a run's start was measured


def configurations(points: Sequence[PublishedPoint]) -> list[PublishedPoint]:
    """Return one point a configuration: the latest, with the medians of what was measured."""
    found: dict[tuple[Any, ...], list[PublishedPoint]] = {}
    for point in points:
        key = tuple(value for name, value in point._asdict().items() if name not in NOT_SHARED)
        found.setdefault(key, []).append(point)
    return [_median(same) for same in found.values()]


def runs_with_ranks(folder: Path) -> list[PublishedPoint]:
    """Return the configurations with ranks of a folder's runs, without speculation, their layout stated."""
    runs = read_runs(folder / RUNS, Counter()) if (folder / RUNS).exists() else []
    chosen = (run.point for run in runs if not run.method and run.point.has_ranks)
    return configurations([point for point in chosen if point.note != BY_RECIPE])


def _median(same: Sequence[PublishedPoint]) -> PublishedPoint:
    medians = np.median([[getattr(point, name) for name in MEASURED] for point in same], axis=0)
    latest = max(same, key=lambda point: point.date)
    return latest._replace(**dict(zip(MEASURED, medians.tolist(), strict=True)))


def layout_scores(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the errors of runs with ranks of attention, and of those over several nodes.

    Returns
    -------
    dict
        ``dp_attention`` (decodes with ranks, in one pool or in the second of two) and ``multi_node`` (two
        pools over several nodes) hold the errors of each metric (`error_table`), ``n`` configurations, and
        the rank correlation of throughput within one accelerator and pair of lengths; beside them the same
        by kind, accelerator and engine in ``groups``. Runs whose layout only a recipe tells are counted
        there alone.
    """
    chosen = [run.point for run in runs if not run.method and (run.point.has_ranks or run.nodes)]
    points = configurations(chosen)
    ratio = evidence_errors.score(points).ratio
    return {
        "dp_attention": _scores(points, ratio, decodes_with_ranks),
        "multi_node": _scores(points, ratio, lambda point: point.pools == "split"),
    }


def decodes_with_ranks(point: PublishedPoint) -> bool:
    """Return whether a point's decodes are divided into ranks."""
    return max(point.ranks, point.decode_ranks) > 1


def _scores(
    points: Sequence[PublishedPoint], ratio: np.ndarray, inside: Callable[[PublishedPoint], bool]
) -> dict[str, Any]:
    stated = [inside(point) and point.note != BY_RECIPE for point in points]
    groups: dict[str, list[bool]] = {
        "layout by recipe": [inside(point) and point.note == BY_RECIPE for point in points],
        "first tokens not late": [
            ok and not _starts_late(point) for ok, point in zip(stated, points, strict=True)
        ],
    }
    for place, point in enumerate(points):
        if stated[place]:
            pools = "one pool" if point.pools == "one" else "two pools"
            for name in (pools, f"{point.accelerator} {point.engine} {point.precision}"):
                groups.setdefault(name, [False] * len(points))[place] = True
    tables = {name: _table(points, ratio, chosen) for name, chosen in groups.items()}
    return _table(points, ratio, stated) | {"groups": {k: v for k, v in tables.items() if v["n"]}}


def _starts_late(point: PublishedPoint) -> bool:
    """Return whether the first token takes so much of a request's time that a run's start was measured."""
    return point.ttft_ms > LATE_SHARE * (point.ttft_ms + (point.output_tokens - 1) * point.tpot_ms)


def _table(points: Sequence[PublishedPoint], ratio: np.ndarray, chosen: Sequence[bool]) -> dict[str, Any]:
    some = [point for point, ok in zip(points, chosen, strict=True) if ok]
    rows = ratio[np.array(chosen, bool)]
    return {"n": len(some)} | {
        metric: error_table(rows[:, METRICS.index(metric)]) | _rank(some, rows, METRICS.index(metric))
        for metric in ORDER
    }


def _rank(points: Sequence[PublishedPoint], ratio: np.ndarray, index: int) -> dict[str, float | None]:
    observed = evidence_errors.measured(points)[:, index]
    found = rank(points, observed * ratio[:, index], observed, by=lambda point: point.accelerator)
    return {"rank": rounded(found, 4)}


def serving_scores(points: Sequence[PublishedPoint]) -> dict[str, Any]:
    """Return the errors of points with ranks in the table of serving runs, by kind of traffic and model.

    ``offline`` are those of throughput where all requests are queued at once, ``closed`` those of loops.
    """
    ratio = evidence_errors.score(points).ratio
    found: dict[str, Any] = {}
    for traffic in dict.fromkeys(point.traffic for point in points):
        inside = [point.traffic == traffic for point in points]
        groups = {
            model: [ok and point.model == model for ok, point in zip(inside, points, strict=True)]
            for model in dict.fromkeys(point.model for point in points)
        }
        tables = {model: _table(points, ratio, chosen) for model, chosen in groups.items() if any(chosen)}
        found[traffic] = _table(points, ratio, inside) | {"groups": tables}
    return found


# --- in words ---------------------------------------------------------------------------------------


def layout_lines(found: Mapping[str, Any], name: str) -> list[str]:
    """Return the scores of ranks, or of several nodes, as a table to read."""
    lines = [f"{name:<32}{'n':>5}" + "".join(f"{f'{metric} %':>14}" for metric in ORDER)]
    for group, table in {"all": found, **found["groups"]}.items():
        cells = "".join(f"{cell(table[metric]['median']):>14}" for metric in ORDER)
        lines.append(f"{group:<32}{table['n']:>5}{cells}")
    return lines
