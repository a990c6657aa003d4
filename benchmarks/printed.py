"""Scores as the scripts print them: errors of ratios, rounded, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sim_core.evidence import errors as evidence_errors


class Predicted(NamedTuple):
    """One figure: what it is, where a row has several, as predicted and as measured."""

    what: str
    predicted: float
    measured: float


def rounded(value: float, digits: int = 2) -> float | None:
    """Return a rounded number, None for NaN, which JSON does not know."""
    return round(float(value), digits) if math.isfinite(value) else None


def error_table(ratio: np.ndarray) -> dict[str, float | None]:
    """Return the errors of ratios predicted / measured, in percent."""
    error = evidence_errors.errors(ratio)
    size = np.abs(np.asarray(ratio, float) - 1)
    p90 = 100 * float(np.quantile(size, 0.9)) if size.size else math.nan
    found = {"median": error.median_pct, "mean": error.mean_pct, "p90": p90}
    found |= {"bias": error.bias_pct, "within_20": 100 * error.within_20_frac}
    return {"n": error.rows, **{key: rounded(value) for key, value in found.items()}}


def cell(value: float | None) -> str:
    """Return a number as tables show it."""
    return "-" if value is None else f"{value:.4g}"


def left_out_lines(left_out: Mapping[str, int], rows: str = "rows") -> list[str]:
    """Return how many rows were left out for which reason, most first."""
    reasons = sorted(left_out.items(), key=lambda item: -item[1])
    return [
        f"{sum(left_out.values())} {rows} left out:",
        *(f"{count:>6}  {reason}" for reason, count in reasons),
    ]
