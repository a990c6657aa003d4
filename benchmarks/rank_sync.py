"""How long ranks of attention wait for one another in a step, found on published runs; development only.

One constant is found, alike for all models, parts and engines. It lengthens every step of a group of ranks,
so TPOT grows by it, and by more where prompts are mixed in: the growth is simulated once, and taken as even.
The all-to-all has its own measured kernels; no row can tell its latency from this constant.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from benchmarks.printed import error_table
from benchmarks.ranks import decodes_with_ranks, runs_with_ranks
from sim_core.catalogue.calibrations import write_constants
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence.errors import METRICS
from sim_core.evidence.predicted import predict_alone
from sim_core.evidence.published import FOLDER, PublishedPoint, campaign

RANKS_FILE = FOLDER / "ranks.toml"
NAME = "rank_sync"  # in ms
TRIED_MS = 3.0
MOST_MS = 10.0
LOG_ERROR = 0.1  # at which the loss turns from squared to absolute


class Waiting(NamedTuple):
    """Runs with ranks: TPOT [ms] as measured, without waiting, and its growth with each ms of waiting."""

    points: tuple[PublishedPoint, ...]
    seen_ms: np.ndarray
    bare_ms: np.ndarray
    growth: np.ndarray

    def part(self, chosen: np.ndarray) -> Waiting:
        """Return some of the runs."""
        points = tuple(point for point, ok in zip(self.points, chosen, strict=True) if ok)
        return Waiting(points, self.seen_ms[chosen], self.bare_ms[chosen], self.growth[chosen])


def waiting(points: Sequence[PublishedPoint]) -> Waiting:
    """Return runs whose decodes have ranks, predicted with and without waiting by other parts' constants."""
    chosen = [point for point in points if decodes_with_ranks(point)]
    bare_ms, slow_ms = (predict_unseen_ranks(chosen, {NAME: wait})[:, 1] for wait in (0.0, TRIED_MS))
    seen_ms = evidence_errors.measured(chosen)[:, 1]
    found = Waiting(tuple(chosen), seen_ms, bare_ms, (slow_ms - bare_ms) / TRIED_MS)
    return found.part(np.isfinite(bare_ms) & np.isfinite(slow_ms) & np.isfinite(seen_ms))


def find_wait_ms(runs: Waiting) -> float:
    """Return the waiting that fits runs best, each campaign counting once. [ms]"""
    from scipy.optimize import least_squares

    names = [campaign(point) for point in runs.points]
    weights = np.array([names.count(name) ** -0.5 for name in names])

    def residuals(wait_ms: np.ndarray) -> np.ndarray:
        return weights * np.log((runs.bare_ms + wait_ms[0] * runs.growth) / runs.seen_ms)

    found = least_squares(residuals, [1.0], bounds=(0.0, MOST_MS), loss="soft_l1", f_scale=LOG_ERROR)
    return float(f"{found.x[0]:.3g}")


# --- predictions that have not seen a part --------------------------------------------------------


@cache
def rank_tables() -> Mapping[str, Any]:
    """Return what the file says: the waiting found, of all runs and without each part."""
    text = RANKS_FILE.read_text(encoding="utf-8") if RANKS_FILE.exists() else ""
    return MappingProxyType(tomllib.loads(text))


def unseen_rank_constants(accelerator: str) -> dict[str, float]:
    """Return the constants that rows of other accelerators tell: of the host, and how long ranks wait."""
    folds = tomllib.loads((FOLDER / "folds.toml").read_text(encoding="utf-8"))
    host = folds["accelerator"].get(accelerator, {"constants": {}})["constants"]
    return host | dict(rank_tables().get("without", {}).get(accelerator, {}))


def predict_unseen_ranks(
    points: Sequence[PublishedPoint], own: Mapping[str, float] = MappingProxyType({})
) -> np.ndarray:
    """Return predictions of points with ranks by constants, and lags, that have not seen their accelerator.

    Constants of one's `own` stand in place of those.
    """
    found = np.full((len(points), 3), np.nan)
    for name in dict.fromkeys(point.accelerator for point in points):
        inside = np.array([point.accelerator == name for point in points])
        some = [point for point, ok in zip(points, inside, strict=True) if ok]
        found[inside] = predict_alone(
            some, constants=write_constants(unseen_rank_constants(name) | dict(own))
        )
    return found


# --- what is written ------------------------------------------------------------------------------


def write_ranks(folder: Path) -> str:
    """Fit the runs with ranks in a folder; write what was found, with its errors, and return it."""
    runs = waiting(runs_with_ranks(folder))
    found = "\n".join(wait_lines(runs)) + "\n"
    RANKS_FILE.write_text(found, encoding="utf-8")
    rank_tables.cache_clear()
    found += "\n".join(error_lines(runs.points)) + "\n"
    RANKS_FILE.write_text(found, encoding="utf-8")
    return found


def wait_lines(runs: Waiting) -> list[str]:
    """Return the waiting found on all runs, and without each part and each campaign, as lines of TOML."""
    parts = sorted({point.accelerator for point in runs.points})
    lines = [
        "# How long ranks of attention wait for one another in a step: of all runs, and without each part.",
        f"rows = {len(runs.points)}", "", "[all]", f"{NAME} = {find_wait_ms(runs):g}",
    ]  # fmt: skip
    for name in parts:
        others = np.array([point.accelerator != name for point in runs.points])
        lines += ["", f'[without."{name}"]', f"{NAME} = {find_wait_ms(runs.part(others)):g}"]
    return lines


def error_lines(points: Sequence[PublishedPoint]) -> list[str]:
    """Return the errors of runs predicted without their part, over all and by campaign, as lines of TOML."""
    ratio = evidence_errors.ratios(points, predict_unseen_ranks(points))
    groups: dict[str, list[int]] = {"all": list(range(len(points)))}
    for place, point in enumerate(points):
        groups.setdefault(" ".join(campaign(point)[2:]), []).append(place)
    lines = ["", "[errors]  # in percent; without the row's accelerator"]
    for name, places in groups.items():
        tables = {metric: error_table(ratio[places, METRICS.index(metric)]) for metric in METRICS}
        figures = ", ".join(f"{metric}_pct = {table['median']}" for metric, table in tables.items())
        lines.append(f'"{name}" = {{ rows = {len(places)}, {figures} }}')
    return lines
