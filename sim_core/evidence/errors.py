"""How far predictions are from measurements: ratios, errors, ranks, tables."""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sim_core.catalogue.calibrations import calibration as calibration_of
from sim_core.evidence.assumed import kv_dtype, policy, token_budget
from sim_core.evidence.predicted import alone, bench_of, predict, predict_alone
from sim_core.evidence.published import FOLDER, PublishedPoint, points

METRICS = ("ttft", "tpot", "throughput")
PREDICTED = ("ttft_ms", "tpot_ms", "output_tok_per_s")
SUBMISSION = "submission"


def measured(points: Sequence[PublishedPoint]) -> np.ndarray:
    """Return measured TTFT [ms], TPOT [ms] and throughput [tok/s], NaN where unknown, shape (points, 3)."""
    return np.array(
        [(point.ttft_ms, point.tpot_ms, point.output_tok_per_s) for point in points], dtype=float
    ).reshape(-1, 3)


def ratios(points: Sequence[PublishedPoint], predicted: np.ndarray) -> np.ndarray:
    """Return predicted over measured, shape (points, 3); NaN where either is missing.

    Where a closed loop's source prints no throughput, both sides are `steady_tok_per_s`, which is no evidence
    beside TTFT and TPOT.
    """
    found = predicted / measured(points)
    for place, point in enumerate(points):
        if math.isnan(found[place, 2]) and point.traffic in ("closed", "burst"):
            ours = steady_tok_per_s(point, *predicted[place, :2])
            found[place, 2] = ours / steady_tok_per_s(point, point.ttft_ms, point.tpot_ms)
    return found


def steady_tok_per_s(point: PublishedPoint, ttft_ms: float, tpot_ms: float) -> float:
    """Return what a steady closed loop with these latencies puts out [tok/s]: clients x output / E2E."""
    return 1e3 * point.clients * point.output_tokens / (ttft_ms + (point.output_tokens - 1) * tpot_ms)


# --- how far apart they are -----------------------------------------------------------------------


class Errors(NamedTuple):
    """How predictions compare with measurements. Percentages of the measured value.

    `median_pct` and `mean_pct` of the absolute error, `bias_pct` the median of the signed one (negative:
    predicted too low), `within_20_frac` the share of rows within 20%.
    """

    rows: int
    median_pct: float
    mean_pct: float
    bias_pct: float
    within_20_frac: float


def errors(ratio: ArrayLike) -> Errors:
    """Return the errors of ratios predicted / measured; NaN are left out.

    Examples
    --------
    >>> errors([0.9, 1.0, 1.1, 1.3, 1.5])
    Errors(rows=5, median_pct=10.0, mean_pct=20.0, bias_pct=10.0, within_20_frac=0.6)
    """
    values = np.asarray(ratio, dtype=float)
    error = values[np.isfinite(values)] - 1.0
    if not error.size:
        return Errors(0, math.nan, math.nan, math.nan, math.nan)
    size = np.abs(error)
    median, mean, bias = (
        round(100 * float(share), 6) for share in (np.median(size), size.mean(), np.median(error))
    )
    return Errors(error.size, median, mean, bias, float((size <= 0.2 + 1e-12).mean()))


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Points with their predictions, in the same order; all arrays have shape (points, 3)."""

    points: tuple[PublishedPoint, ...]
    predicted: np.ndarray
    measured: np.ndarray
    ratio: np.ndarray


@lru_cache(maxsize=4)
def scored(calibration: str = "typical") -> Scored:
    """Return all points of the table under one calibration.

    Points that are each run as a scenario of their own take a minute together. What the typical calibration
    says of them is kept in `presets/validation/alone.csv`; a test holds it against runs of today.
    """
    return score(points(), calibration, made_before() if calibration == "typical" else {})


@cache
def made_before() -> Mapping[str, tuple[float, ...]]:
    """Return predictions of points that were made beforehand, by id: TTFT [ms], TPOT [ms], tokens/s."""
    with (FOLDER / "alone.csv").open(encoding="utf-8", newline="") as lines:
        return {
            row["id"]: tuple(float(row[key] or "nan") for key in PREDICTED) for row in csv.DictReader(lines)
        }


def score(
    chosen: Sequence[PublishedPoint],
    calibration: str = "typical",
    known: Mapping[str, tuple[float, ...]] = MappingProxyType({}),
) -> Scored:
    """Return points with their predictions, those `known` by their id as they are.

    MLPerf entries, tuned for one model and one benchmark, are predicted under `SUBMISSION` where the
    calibration is the typical one.
    """
    chosen = tuple(chosen)
    ways: dict[tuple[bool, str], list[int]] = {}
    predicted = np.full((len(chosen), 3), np.nan)
    for place, point in enumerate(chosen):
        if point.id in known:
            predicted[place] = known[point.id]
            continue
        name = SUBMISSION if _tuned(point, calibration) else calibration
        ways.setdefault((alone(point), name), []).append(place)
    for (by_itself, name), places in ways.items():
        some = [chosen[place] for place in places]
        predicted[places] = predict_alone(some, name) if by_itself else _predict_together(some, name)
    return Scored(chosen, predicted, measured(chosen), ratios(chosen, predicted))


def _predict_together(points: Sequence[PublishedPoint], calibration: str) -> np.ndarray:
    constants = calibration_of(calibration)
    return predict(bench_of(points), constants.base, constants.smooth)


def _tuned(point: PublishedPoint, calibration: str) -> bool:
    return point.traffic == "server" and calibration == "typical"


def as_rows(found: Scored) -> list[dict[str, Any]]:
    """Return scored points as flat rows, for tables and files: facts, assumptions, predictions, errors.

    `throughput_tok_per_s` is the printed throughput, or where a closed loop's source prints none, the one
    that follows from its latencies (`throughput_derived`); the predicted one is made alike.
    """
    rows = []
    for place, point in enumerate(found.points):
        predicted, ratio = found.predicted[place].tolist(), found.ratio[place].tolist()
        derived = math.isnan(point.output_tok_per_s) and not math.isnan(ratio[2])
        throughput = point.output_tok_per_s
        if derived:
            throughput = steady_tok_per_s(point, point.ttft_ms, point.tpot_ms)
        rows.append(
            {
                **point._asdict(),
                "family": point.family,
                "has_ranks": point.has_ranks,
                "status": point.status,
                "assumed_policy": "disaggregated" if point.pools == "split" else policy(point),
                "assumed_kv_dtype": kv_dtype(point),
                "assumed_token_budget": token_budget(point),
                "throughput_tok_per_s": throughput,
                "throughput_derived": derived,
                "predicted_ttft_ms": predicted[0],
                "predicted_tpot_ms": predicted[1],
                "predicted_throughput_tok_per_s": throughput * ratio[2],
                **{f"{name}_error_pct": 100 * (ratio[i] - 1) for i, name in enumerate(METRICS)},
            }
        )
    return rows


@cache
def error_tables() -> Mapping[str, Any]:
    """Return the errors over all closed loops of the full table, from which the points here are chosen.

    Tables ``model``, ``accelerator`` (each row predicted by a fit without its model or accelerator) and
    ``none`` (in sample), in each one for ``all`` and for every family.
    """
    return MappingProxyType(tomllib.loads((FOLDER / "errors.toml").read_text(encoding="utf-8")))
