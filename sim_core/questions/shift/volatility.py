"""How slow traffic must change for adapting to pay: the comparison over ever longer dwell times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from sim_core.fields.errors import ScenarioError
from sim_core.questions.shift import cost
from sim_core.questions.shift.cluster import reallocation_s
from sim_core.questions.shift.study import Progress, part_of, silent
from sim_core.scenario.scenario import Scenario

SWEEP = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # mean dwell times, in times of a reallocation
SWEEP_DWELLS = 8  # a point of the sweep lasts so many of them
SWEEP_STRATEGIES = ("fixed", "reactive", "predictive", "oracle", "free", "one_pool")


# --- volatility -----------------------------------------------------------------------------------


def sweep(
    scenario: Scenario, progress: Progress = silent, dwells: Iterable[float] = SWEEP
) -> Iterator[dict[str, Any]]:
    """Yield, for ever slower traffic, how many requests each strategy serves within the limits.

    Each point lasts `SWEEP_DWELLS` mean dwell times of the same random switches, stretched.

    Yields
    ------
    dict
        `dwell_reallocations` (mean dwell time over the time of a reallocation), `dwell_s`, `requests`, and
        the attainment of each of `SWEEP_STRATEGIES` as `<strategy>_frac`; or `reason` where it cannot be.
    """
    dwells = tuple(dwells)
    for number, times in enumerate(dwells):
        yield sweep_row(scenario, times, part_of(progress, number, len(dwells)))


def sweep_row(scenario: Scenario, times: float, progress: Progress = silent) -> dict[str, Any]:
    """Return one point of `sweep`: traffic that changes every so many times of a reallocation."""
    unit_s = max(reallocation_s(scenario), scenario.control_s)
    dwell_s = times * unit_s
    row: dict[str, Any] = {"dwell_reallocations": times, "dwell_s": dwell_s}
    try:
        study = cost.whole_study(
            scenario.replace(demand="markov", dwell_s=dwell_s, demand_hours=dwell_s * SWEEP_DWELLS / 3600)
        )
        row["requests"] = len(study.demand.requests)
        count = len(SWEEP_STRATEGIES)
        for place, name in enumerate(SWEEP_STRATEGIES):
            found = study.outcome(name, part_of(progress, place, count))
            row[f"{name}_frac"] = found.attainment_frac
    except ScenarioError as error:
        row["reason"] = str(error)
    return row


def break_even(rows: Iterable[dict[str, Any]], name: str) -> float:
    """Return the dwell time, in reallocations, from which a strategy serves more than the fixed split.

    NaN if it never does for good, 0 if it does from the shortest on; between two points by interpolation.
    """
    known = [row for row in rows if f"{name}_frac" in row]
    gains = np.array([row[f"{name}_frac"] - row["fixed_frac"] for row in known])
    dwells = np.array([row["dwell_reallocations"] for row in known])
    below = np.flatnonzero(gains <= 0)
    if below.size == 0:
        return 0.0 if known else math.nan
    last = int(below[-1])
    if last == gains.size - 1:
        return math.nan
    share = -gains[last] / (gains[last + 1] - gains[last])
    return float(dwells[last] * (dwells[last + 1] / dwells[last]) ** share)
