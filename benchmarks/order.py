"""In which order predictions put published points; development only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sim_core.evidence.published import PublishedPoint

RANKED = 5  # rows that a rank correlation needs
ORDER = ("tpot", "ttft", "throughput")


def rank(
    points: Sequence[PublishedPoint],
    predicted: Any,
    observed: Any,
    by: Callable[[PublishedPoint], object] = lambda point: None,
) -> float:
    """Return the median rank correlation (Spearman) within groups of one model, lengths and traffic.

    Groups of fewer than `RANKED` rows are left out; NaN if there are no others. Groups are of one `by` too.
    """
    groups: dict[tuple, list[int]] = {}
    predicted, observed = np.asarray(predicted, float), np.asarray(observed, float)
    for place, point in enumerate(points):
        if np.isfinite(predicted[place]) and np.isfinite(observed[place]):
            key = (
                point.model,
                point.prompt_tokens,
                point.output_tokens,
                point.lengths,
                point.traffic,
                by(point),
            )
            groups.setdefault(key, []).append(place)
    found = [
        _spearman(predicted[places], observed[places]) for places in groups.values() if len(places) >= RANKED
    ]
    return float(np.median(found)) if found else math.nan


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of ranks; equal values share their mean rank."""

    def ranks(values: np.ndarray) -> np.ndarray:
        ordered = np.sort(values)
        low, high = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
        return 0.5 * (low + high)

    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / spread if spread else math.nan
