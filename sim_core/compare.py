"""A or B? Frozen scenarios side by side: their frontiers, what differs, and by how much one is better.

Each scenario's curve runs along its own load, number of clients or batch limit; all see the same seeds. A
gain is stated where both curves have a throughput: at the interactivity that the first one's TPOT limit asks
for, or in the middle of what both can do. It is the mean over `SEEDS` seeds, the same for both sides (common
random numbers), with a 95% interval from their spread; a difference smaller than that is said to be none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from sim_core.frontier import evaluate, own_vary, sweep_points
from sim_core.presets import accelerator_of, arithmetic_dtype
from sim_core.scenario import FIELDS, Scenario

SEEDS = 5
T_95 = 2.776  # Student's t for 4 degrees of freedom, two-sided 95%
X, Y = "tok_per_s_per_user", "output_tok_per_s_per_accelerator"
MOST = 3  # scenarios side by side
MOST_FACTOR = 8.0  # by which a spec is thought to grow


class Gain(NamedTuple):
    """How much more throughput per accelerator the second has than the first, at one interactivity.

    `gain_frac` and its `error_frac` (half of the 95% interval); NaN where one of them has no such point.
    """

    interactivity: float
    gain_frac: float
    error_frac: float

    @property
    def is_sure(self) -> bool:
        """Return whether the difference is larger than its error."""
        return abs(self.gain_frac) > self.error_frac


@lru_cache(maxsize=96)
def curve(scenario: Scenario) -> tuple[dict[str, Any], ...]:
    """Return the points of a scenario's own curve, in order; not to be changed by readers."""
    return tuple(evaluate(point) for point in sweep_points(scenario, own_vary(scenario)))


def best(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the point with the most throughput per accelerator within the limits."""
    good = [row for row in rows if row["feasible"] and row["meets_slo"]]
    return max(good, key=lambda row: row[Y], default=None)


def throughput_at(rows: Sequence[dict[str, Any]], interactivity: float) -> float:
    """Return the most throughput per accelerator that a curve has at an interactivity; NaN beyond its end.

    Faster points serve, too: who is given more tokens a second than asked for is served.
    """
    known = sorted((row[X], row[Y]) for row in rows if row["feasible"] and row[X] > 0)
    if not known:
        return math.nan
    x, y = (np.array(column) for column in zip(*known, strict=True))
    if interactivity > x[-1]:
        return math.nan
    there = float(np.interp(interactivity, x, y)) if interactivity >= x[0] else 0.0
    return max([there, *y[x >= interactivity].tolist()])


def common_interactivity(first: Scenario, second: Scenario) -> float:
    """Return where two curves are compared: the first one's TPOT limit, or the middle of what both can do."""
    reach = min(
        max((row[X] for row in curve(side) if row["feasible"]), default=0.0) for side in (first, second)
    )
    slow = max(
        min((row[X] for row in curve(side) if row["feasible"]), default=0.0) for side in (first, second)
    )
    wanted = 1000 / first.slo_tpot_ms
    if wanted <= reach:
        return wanted
    return math.sqrt(slow * reach) if 0 < slow < reach else math.nan


def gain(first: Scenario, second: Scenario) -> Gain:
    """Return how much more the second gives than the first, with its error."""
    place = common_interactivity(first, second)
    if math.isnan(place):
        return Gain(place, math.nan, math.nan)
    ratios = []
    for seed in range(SEEDS):
        sides = (scenario.replace(seed=scenario.seed + seed) for scenario in (first, second))
        ours, theirs = (throughput_at(curve(side), place) for side in sides)
        ratios.append(theirs / ours - 1 if ours > 0 else math.nan)
    spread = float(np.std(ratios, ddof=1))
    return Gain(place, float(np.mean(ratios)), T_95 * spread / math.sqrt(SEEDS))


def needed(scenario: Scenario, target: float) -> dict[str, float]:
    """Return by which factor each spec alone must grow for the best point within the limits to reach it.

    Parameters
    ----------
    scenario : Scenario
    target : float
        Throughput per accelerator. [tok/s]

    Returns
    -------
    dict
        By spec, the smallest factor found (to 2%), 1 where nothing is needed, NaN where `MOST_FACTOR` times
        the spec is not enough or the spec is not known.
    """
    part = accelerator_of(scenario)
    keys = (f"{arithmetic_dtype(scenario, part)}_tflop_per_s", "hbm_gb_per_s", "hbm_gb", "link_gb_per_s")
    return {key: _factor(scenario, key, getattr(part, key), target) for key in keys}


def _factor(scenario: Scenario, key: str, spec: float | None, target: float) -> float:
    if spec is None:
        return math.nan

    def reaches(factor: float) -> bool:
        value = min(spec * factor, FIELDS[key].high)
        top = best(curve(scenario.replace(**{key: value})))
        return top is not None and top[Y] >= target

    if reaches(1.0):
        return 1.0
    low, high = 0.0, math.log2(MOST_FACTOR)
    if not reaches(MOST_FACTOR):
        return math.nan
    while high - low > math.log2(1.02):
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(2**middle) else (middle, high)
    return float(2**high)


def differences(scenarios: Sequence[Scenario]) -> dict[str, list[Any]]:
    """Return the keys in which scenarios differ, with the value of each."""
    values = {key: [getattr(scenario, key) for scenario in scenarios] for key in FIELDS}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}
