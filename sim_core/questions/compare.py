"""A or B? Frozen scenarios side by side: their frontiers, what differs, and by how much one is better.

Each scenario's curve runs along its own load, number of clients or batch limit; all see the same seeds. A
gain is stated where both curves have a throughput: at the interactivity that the first one's TPOT limit asks
for, or in the middle of what both can do; and within the same latency limits, the first one's. It is the mean
over `SEEDS` seeds, the same for both sides (common random numbers), with a 95% interval from their spread; a
difference smaller than that is said to be none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sim_core.catalogue.accelerators import PEAKS
from sim_core.engine.work import kept
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.mixes import limits_in
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of, arithmetic_dtype
from sim_core.sweep import capacity
from sim_core.sweep.capacity import Y, seeded
from sim_core.sweep.frontier import evaluate_all
from sim_core.sweep.points import own_vary, sweep_points
from sim_core.sweep.ranges import SEEDS, UNKNOWN, Estimate, estimate

CURVES = 8  # of which a page is taken to run so many
X = "tok_per_s_per_user"
MOST = 3  # scenarios side by side
MOST_FACTOR = 8.0  # by which a spec is thought to grow
LIMIT_KEYS = ("slo_ttft_ms", "slo_tpot_ms", "slo_percentile")


class Gain(NamedTuple):
    """How much more throughput per accelerator the second has than the first, at one interactivity.

    NaN where one of them has no such point.
    """

    interactivity: float
    gain: Estimate


class LimitsGain(NamedTuple):
    """How much more throughput per accelerator the second has than the first within the same limits.

    Attributes
    ----------
    first_keeps, second_keeps : int
        In how many of `SEEDS` runs each side has a point within the limits.
    gain : Estimate
        NaN unless both keep them in every run.
    usd_ratio, joule_ratio : float
        Cost and energy of a token, the second's over the first's; NaN where one is not known.
    """

    first_keeps: int
    second_keeps: int
    gain: Estimate
    usd_ratio: float
    joule_ratio: float


@kept(256, CURVES, "requests")
def curve(scenario: Scenario) -> tuple[dict[str, Any], ...]:
    """Return the points of a scenario's own curve, in order; not to be changed by readers."""
    return tuple(evaluate_all(sweep_points(scenario, own_vary(scenario))))


def best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the point with the most throughput per accelerator within the limits."""
    good = [row for row in rows if row["feasible"] and row["meets_slo"]]
    return max(good, key=lambda row: row[Y], default=None)


def throughput_at(rows: Sequence[Mapping[str, Any]], interactivity: float) -> float:
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
        return Gain(place, UNKNOWN)
    ratios = []
    for turn in range(SEEDS):
        sides = (seeded(scenario, turn) for scenario in (first, second))
        ours, theirs = (throughput_at(curve(side), place) for side in sides)
        ratios.append(theirs / ours - 1 if ours > 0 else math.nan)
    return Gain(place, estimate(ratios))


def best_within(scenario: Scenario) -> Mapping[str, Any] | None:
    """Return the point with the most throughput per accelerator within the limits, between steps, too.

    That is the point at its capacity (`sim_core.sweep.capacity`); None where it cannot run, either.
    """
    try:
        return capacity.best_within(scenario)
    except ScenarioError:
        return None


def throughput_within(scenario: Scenario, interactivity: float = 0.0) -> float:
    """Return the most throughput per accelerator within the limits, at a speed for each user or a higher one.

    NaN where no point within the limits is that fast.
    """
    top = best_within(scenario)
    if top is None:
        return math.nan
    if not interactivity:
        return top[Y]
    return throughput_at([top, *(row for row in curve(scenario) if best([row]))], interactivity)


@kept(64)
def gain_within(first: Scenario, second: Scenario) -> LimitsGain:
    """Return how much more the second gives than the first within the first one's limits, with its error.

    Classes that both have keep the first one's limits of them.
    """
    shared = {key: getattr(first, key) for key in ("seed", *LIMIT_KEYS)}
    sides = [
        side.replace(**shared, class_limits=limits_in(first.class_limits, side.mix))
        for side in (first, second)
    ]
    pairs = [[best_within(seeded(side, turn)) for side in sides] for turn in range(SEEDS)]
    first_keeps, second_keeps = (sum(pair[side] is not None for pair in pairs) for side in (0, 1))
    both = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    if len(both) < SEEDS:
        return LimitsGain(first_keeps, second_keeps, UNKNOWN, math.nan, math.nan)
    ratios = {
        key: [theirs[key] / ours[key] for ours, theirs in both]
        for key in (Y, "usd_per_mtok", "joule_per_tok")
    }
    gain = estimate([ratio - 1 for ratio in ratios[Y]])
    usd_ratio, joule_ratio = (float(np.mean(ratios[key])) for key in ("usd_per_mtok", "joule_per_tok"))
    return LimitsGain(first_keeps, second_keeps, gain, usd_ratio, joule_ratio)


@kept(32)
def needed(scenario: Scenario, target: float, interactivity: float = 0.0) -> dict[str, float]:
    """Return by which factor each spec alone must grow for a point within the limits to reach a target.

    Parameters
    ----------
    scenario : Scenario
    target : float
        Throughput per accelerator. [tok/s]
    interactivity : float, optional
        At this speed for each user, or a higher one. [tok/s/user]

    Returns
    -------
    dict
        By spec, the smallest factor found (to 2%), 1 where nothing is needed, NaN where `MOST_FACTOR` times
        the spec is not enough or the spec is not known.
    """
    part = accelerator_of(scenario)
    keys = (PEAKS[arithmetic_dtype(scenario, part)], "hbm_gb_per_s", "hbm_gb", "link_gb_per_s")

    def reaches(changed: Scenario) -> bool:
        return throughput_within(changed, interactivity) >= target

    return {key: _factor(scenario, key, getattr(part, key), reaches) for key in keys}


def _factor(scenario: Scenario, key: str, spec: float | None, good: Callable[[Scenario], bool]) -> float:
    """Return the smallest factor of a spec, from 1 to `MOST_FACTOR`, that is good enough; NaN if none is."""
    if spec is None:
        return math.nan

    def reaches(factor: float) -> bool:
        return good(scenario.replace(**{key: min(spec * factor, FIELDS[key].high)}))

    if reaches(1.0):
        return 1.0
    low, high = 0.0, math.log2(MOST_FACTOR)
    if not reaches(MOST_FACTOR):
        return math.nan
    while high - low > math.log2(1.02):
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(2**middle) else (middle, high)
    return float(2**high)


def changes_to(now: Scenario, wanted: Scenario) -> dict[str, Any]:
    """Return the keys, with their values, that make one scenario of another."""
    return {key: values[1] for key, values in differences([now, wanted]).items()}


def differences(scenarios: Sequence[Scenario]) -> dict[str, list[Any]]:
    """Return the keys in which scenarios differ, with the value of each."""
    values = {key: [getattr(scenario, key) for scenario in scenarios] for key in FIELDS}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}
