"""Percentiles, of values and of binned gaps, and how sure they are."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from sim_core.engine.kernels.gaps import GAP_BINS_PER_OCTAVE, GAP_EXPONENT_LOW

QUANTILES = (50.0, 90.0, 95.0, 99.0)
LABELS = tuple(f"_p{quantile:.0f}" for quantile in QUANTILES)
BLOCKS = 20
STUDENT = 2.093  # 97.5th percentile of the t distribution with BLOCKS - 1 degrees of freedom
SHORT = 10_000


def percentiles(values: np.ndarray, wanted: tuple[float, ...]) -> list[float]:
    """Return percentiles, linear between ranks (short arrays sort faster than they select)."""
    if values.size == 0:
        return [math.nan] * len(wanted)
    neighbours, shares = _ranks(values.size, wanted)
    chosen = np.sort(values) if values.size < SHORT else np.partition(values, np.unique(neighbours))
    low, high = chosen[neighbours].tolist()
    return [a + share * (b - a) for a, b, share in zip(low, high, shares, strict=True)]


@lru_cache(maxsize=256)
def _ranks(count: int, wanted: tuple[float, ...]) -> tuple[np.ndarray, list[float]]:
    """Return the ranks below and above each percentile of `count` values, and how far between they lie."""
    ranks = np.minimum(np.array(wanted) / 100, 1.0) * (count - 1)
    low = ranks.astype(np.intp)
    return np.array([low, np.minimum(low + 1, count - 1)]), (ranks - low).tolist()


def gap_percentiles_ms(bins: np.ndarray, cumulated: np.ndarray) -> list[float]:
    """Return the percentiles of gaps [ms], linear inside their bins, from the bins in use."""
    if bins.size == 0:
        return [math.nan] * len(QUANTILES)
    ranks = [quantile / 100 * float(cumulated[-1]) for quantile in QUANTILES]
    gaps_ms = []
    for rank, place in zip(ranks, np.searchsorted(cumulated, ranks).tolist(), strict=True):
        before = cumulated.item(place - 1) if place else 0
        inside = (rank - before) / (cumulated.item(place) - before)
        octave, step = divmod(bins.item(place), GAP_BINS_PER_OCTAVE)
        gap_s = math.ldexp(0.5 + 0.5 * (step + inside) / GAP_BINS_PER_OCTAVE, octave + GAP_EXPONENT_LOW)
        gaps_ms.append(gap_s * 1e3)
    return gaps_ms


def band(values: np.ndarray, quantile: float) -> tuple[float, float]:
    """Return a 95% interval of a percentile of correlated values in order of arrival.

    The share of values below the percentile has the variance of its means over 20 blocks, long enough that
    the correlation of neighbours stays within a block; the interval is read off at the ranks that lie that
    much lower and higher. NaN below 1,000 values.

    References
    ----------
    Schmeiser (1982), "Batch size effects in the analysis of simulation output": 10 to 30 blocks.
    Seila (1982), "A batching approach to quantile estimation in regenerative simulations".
    """
    length = values.size // BLOCKS
    if length < 50:
        return math.nan, math.nan
    (center,) = percentiles(values, (quantile,))
    below = (values[: BLOCKS * length] <= center).reshape(BLOCKS, length).mean(axis=1)
    error = 100 * STUDENT * float(below.std(ddof=1)) / math.sqrt(BLOCKS)
    low, high = percentiles(values, (max(quantile - error, 0.0), min(quantile + error, 100.0)))
    return low, high
