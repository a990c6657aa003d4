"""How far predictions are from any tables of published measurements, without fitting; development only."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.caching import CACHING, caching_lines, caching_scores
from benchmarks.choosing import choice_lines, choice_scores
from benchmarks.order import ORDER, rank
from benchmarks.pairs import PAIRS
from benchmarks.parallel import PARALLEL, parallel_lines, parallel_scores
from benchmarks.printed import cell, error_table, left_out_lines, rounded
from benchmarks.ranks import LAYOUTS, layout_lines, layout_scores, serving_scores
from benchmarks.runs import RUNS, read_runs, without_speculation
from benchmarks.speculation import speculation_lines, speculation_scores
from benchmarks.step_curve import STEP_CURVE, step_curve_lines, step_curve_scores
from benchmarks.tables import SERVING, believed, read_serving
from sim_core.evidence import bands as bands_of
from sim_core.evidence import blind
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence.assumed import scenario_of
from sim_core.evidence.blind import Band
from sim_core.evidence.errors import METRICS
from sim_core.evidence.published import FAMILIES, TRAFFIC, PublishedPoint
from sim_core.evidence.trust import Trust, trust


def scores(folder: Path) -> dict[str, Any]:
    """Return the errors of all closed loops in a folder's table of serving runs, and of the bands.

    Returns
    -------
    dict
        ``one_pool`` and ``two_pools`` hold, for each metric, ``n`` rows, ``median`` and ``mean`` of the
        absolute error [%], ``within_20`` the share of rows within 20% [%] and ``rank``, the rank correlation
        within one model and pair of lengths; the same for each family of models. ``bands`` hold, by the
        first word of the badge, the share of measurements inside the band [%]. ``mtp`` are the errors of
        speculation (`speculation_scores`) where the folder has its tables, ``prefix_caching`` those of prefix
        caches (`caching_scores`), ``dp_attention`` and ``multi_node`` those of ranks and of several nodes
        (`layout_scores`), ``dp_serving`` those of ranks in the table of serving runs (`serving_scores`),
        ``parallel`` those of published layouts and networks (`parallel_scores`), ``step_curve`` those of
        steps that verify or draft (`step_curve_scores`).
        ``left_out`` counts the other
        rows by reason. What no row tells is None.
    """
    found, left_out = read_serving(folder / SERVING)
    found = without_speculation(found, folder / RUNS, left_out)
    ranks = [point for point in found if point.has_ranks]
    loops = _closed_loops([point for point in found if not point.has_ranks], left_out)
    one, split = believed(loops, left_out)
    ratio_one, ratio_split = (evidence_errors.score(points).ratio for points in (one, split))
    with_speculation = any((folder / name).exists() for name in (RUNS, PAIRS))
    runs = read_runs(folder / RUNS, left_out) if (folder / RUNS).exists() else []
    return {
        "one_pool": _pool(one, ratio_one),
        "two_pools": _pool(split, ratio_split),
        "bands": bands([*one, *split], np.concatenate([ratio_one, ratio_split])),
        **({"mtp": speculation_scores(folder)} if with_speculation else {}),
        **({"prefix_caching": caching_scores(folder)} if (folder / CACHING).exists() else {}),
        **(layout_scores(runs) | {"layouts": choice_scores(runs)} if runs else {}),
        **({"dp_serving": serving_scores(ranks)} if ranks else {}),
        **({"parallel": parallel_scores(folder)} if (folder / PARALLEL).exists() else {}),
        **({"step_curve": step_curve_scores(folder)} if (folder / STEP_CURVE).exists() else {}),
        "left_out": {reason: count for reason, count in left_out.items() if count},
    }


def _closed_loops(points: Sequence[PublishedPoint], left_out: Counter[str]) -> list[PublishedPoint]:
    """Return the closed loops that the simulator models; count the others."""
    kept = []
    for point in points:
        if point.traffic != "closed":
            left_out[f"no closed loop: {TRAFFIC[point.traffic]}"] += 1
        elif point.status:
            left_out[point.status] += 1
        elif point.pools == "one" and not point.fitted:
            left_out[f"erratic version of the engine: {point.engine} {point.engine_version}"] += 1
        else:
            kept.append(point)
    return kept


def _pool(points: Sequence[PublishedPoint], ratio: np.ndarray) -> dict[str, Any]:
    """Return the scores of one kind of pool: over all its points, and by family."""
    found: dict[str, Any] = _metrics(points, ratio)
    for family in FAMILIES:
        inside = np.array([point.family == family for point in points], bool)
        some = [point for point in points if point.family == family]
        found[family] = _metrics(some, ratio[inside])
    return found


def _metrics(points: Sequence[PublishedPoint], ratio: np.ndarray) -> dict[str, dict[str, float | None]]:
    return {metric: _scored(points, ratio, METRICS.index(metric)) for metric in ORDER}


def _scored(points: Sequence[PublishedPoint], ratio: np.ndarray, index: int) -> dict[str, float | None]:
    table = error_table(ratio[:, index])
    observed = np.array([_observed(point)[index] for point in points])
    order = rank(points, observed * ratio[:, index], observed)
    return {key: table[key] for key in ("n", "median", "mean", "within_20")} | {"rank": rounded(order, 4)}


def _observed(point: PublishedPoint) -> tuple[float, float, float]:
    """Return measured TTFT, TPOT and throughput, the last as `evidence.errors.ratios` takes it."""
    rate = point.output_tok_per_s
    if math.isnan(rate):
        rate = evidence_errors.steady_tok_per_s(point, point.ttft_ms, point.tpot_ms)
    return point.ttft_ms, point.tpot_ms, rate


# --- bands ----------------------------------------------------------------------------------------


def bands(points: Sequence[PublishedPoint], ratio: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Return, by the first word of the badge, the share of measurements that lie inside their band [%].

    `ratio` is predicted over measured, shape (points, 3); a band is of measured over predicted.
    """
    inside: dict[str, list[list[float]]] = {}
    for point, row in zip(points, ratio, strict=True):
        said = trust(scenario_of(point))
        held = [_inside(1 / row[METRICS.index(metric)], _band(said, metric)) for metric in ORDER]
        inside.setdefault(said.badge.split()[0], []).append(held)
    return {
        badge: {"n": len(rows)}
        | {metric: _share([row[place] for row in rows]) for place, metric in enumerate(ORDER)}
        for badge, rows in sorted(inside.items())
    }


def _band(said: Trust, metric: str) -> Band:
    band: Band = getattr(said, f"{metric}_band")
    return band


def _inside(ratio: float, band: Band) -> float:
    """Return 1 for a ratio inside a band, 0 for one outside, NaN where either is unknown."""
    if not (math.isfinite(ratio) and band.low > 0):
        return math.nan
    return float(band.low <= ratio <= band.high)


def _share(held: Sequence[float]) -> float | None:
    known = [value for value in held if math.isfinite(value)]
    return round(100 * sum(known) / len(known), 1) if known else None


def coverage_lines() -> list[str]:
    """Return how many measurements of campaigns left out lie inside the bands that `blind.csv` now gives."""
    for cached in (blind.blind, bands_of.closest, bands_of.factor, bands_of.left_out_coverage):
        cached.cache_clear()
    lines = []
    for badge, unseen in (("validated", ("model",)), ("extrapolated", ("accelerator", "pools"))):
        shares = [f"{metric} {share:.0%}" for metric, share in bands_of.left_out_coverage(*unseen).items()]
        lines.append(f"{badge}, campaigns left out: inside the band of four in five {', '.join(shares)}")
    return lines


# --- the calibration before -----------------------------------------------------------------------


def before_lines(text: str, mark: str, today: str) -> list[str]:
    """Return what the calibration before this one erred by, as lines of TOML.

    Parameters
    ----------
    text : str
        `errors.toml` as it is: the calibration before, or this one with the one before it.
    mark : str
        The fingerprint of this calibration: errors that are only computed again keep what was before.
    today : str
        What is tried in the course of a day is one calibration.
    """
    old = tomllib.loads(text)
    before = old.get("before", {})
    if old["fingerprint"] != mark and old["date"] != today:
        before = {"date": old["date"], **{family: old["model"][family] for family in ("all", *FAMILIES)}}
    lines = ["", "[before]  # each row predicted without its model, by the calibration before this one"]
    lines += [f'date = "{before["date"]}"'] if before else []
    for family in ("all", *FAMILIES):
        table = before.get(family, {})
        lines += ["", f"[before.{family}]", *(f"{key} = {value}" for key, value in table.items())]
    return lines


# --- in words -------------------------------------------------------------------------------------


def text_of(found: dict[str, Any]) -> str:
    """Return scores as a table to read."""
    lines = [f"{'':<28}{'n':>6}{'median %':>10}{'mean %':>9}{'within 20 %':>13}{'rank':>8}"]
    for pool in ("one_pool", "two_pools"):
        tables = {"all": found[pool], **{name: found[pool][name] for name in FAMILIES}}
        for group, table in tables.items():
            for metric in ORDER:
                row = table[metric]
                cells = [cell(row[key]) for key in ("median", "mean", "within_20", "rank")]
                name = f"{pool.replace('_', ' ')} {group}"
                lines.append(
                    f"{name:<17}{metric:<11}{row['n']:>6}"
                    + "".join(f"{cell:>{width}}" for cell, width in zip(cells, (10, 9, 13, 8), strict=True))
                )
    lines += ["", f"{'inside the band, %':<28}{'n':>6}{'tpot':>10}{'ttft':>9}{'throughput':>13}"]
    for badge, row in found["bands"].items():
        cells = [cell(row[metric]) for metric in ORDER]
        lines.append(f"{badge:<28}{row['n']:>6}{cells[0]:>10}{cells[1]:>9}{cells[2]:>13}")
    if "mtp" in found:
        lines += ["", *speculation_lines(found["mtp"])]
    if "prefix_caching" in found:
        lines += ["", *caching_lines(found["prefix_caching"])]
    for name in LAYOUTS:
        if name in found:
            lines += ["", *layout_lines(found[name], name.replace("_", " "))]
    if "layouts" in found:
        lines += ["", *choice_lines(found["layouts"])]
    for traffic, table in found.get("dp_serving", {}).items():
        lines += ["", *layout_lines(table, f"ranks, {traffic}")]
    if "parallel" in found:
        lines += ["", *parallel_lines(found["parallel"])]
    if "step_curve" in found:
        lines += ["", *step_curve_lines(found["step_curve"])]
    return "\n".join([*lines, "", *left_out_lines(found["left_out"])])
