"""An overloaded setting in words: why its figures are withheld, and the highest rate that holds."""

from __future__ import annotations

import math
from typing import Any

from sim_core.engine.work import SpentUp
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.capacity import capacity
from sim_core.sweep.remembered import Remembered
from sim_core.view.drawing.figures import Row, Y
from sim_core.view.drawing.verdicts import OVERLOADED, holding
from sim_core.view.drawing.words import quantity, spoken
from sim_core.view.session import state, sweeps
from sim_core.view.session.sweeps import Result, Sweep

RATE = "req/s"
_known: Remembered[Scenario, dict[str, Any]] = Remembered(sweeps.REMEMBERED)


def carried(here: Row, name: str) -> float:
    """Return a figure of the present setting as the headline shows it; NaN where it is withheld.

    Overloaded, the engine is as busy as it can be: its throughput stands beside a best point that serves
    within the limits, and is none that anybody could have.
    """
    return math.nan if here.get("saturated") and name == Y else holding(here, name)


def is_hidden(here: Row, name: str) -> bool:
    """Return whether the headline withholds a figure of the present setting."""
    return bool(here.get("saturated")) and math.isnan(carried(here, name))


def reason(sweep: Sweep, found: Result) -> str:
    """Return why there are no figures of the present setting, and which rate holds; "" where there are all.

    The highest rate within the limits is searched when the chart has rested, or where nobody waits for that.
    """
    if not found.here["feasible"] and sweep.setting != sweep.own:  # else the curve itself says why
        return spoken(found.here["reason"])
    if not found.here.get("saturated"):
        return ""
    start = f"{OVERLOADED.capitalize()}, and what depends on it says only how long the run is. "
    known = _highest_of(sweep, found)
    if known is None:
        return start + _keeps_up(sweeps.knee(sweep))
    if not known["arrival_per_s"]:
        return f"{start}{_keeps_up(known['saturation_per_s'])} No rate keeps the latency limits."
    highest = quantity(known["arrival_per_s"], RATE)
    return f"{start}The highest rate within the limits is {highest}. {_keeps_up(known['saturation_per_s'])}"


def held_rate_per_s(sweep: Sweep, found: Result) -> float:
    """Return the highest rate within the limits of an overloaded setting; 0 where none is known. [req/s]"""
    known = _highest_of(sweep, found) if found.here.get("saturated") else None
    return known["arrival_per_s"] if known else 0.0


def _highest_of(sweep: Sweep, found: Result) -> dict[str, Any] | None:
    return _highest(sweep.scenario, search=found.fine or state.view("fine") == "off")


def _keeps_up(rate_per_s: float | None) -> str:
    return "" if rate_per_s is None else f"The engine keeps up with {quantity(rate_per_s, RATE)} at most."


def _highest(scenario: Scenario, search: bool) -> dict[str, Any] | None:
    """Return the capacity of a scenario where it is known, or after a search; None where it is not."""
    same = scenario.replace(arrival_per_s=1.0)  # the rate is what is searched
    if not search:
        return _known.get(same)
    try:
        return _known.of(same, lambda: capacity(same))
    except (ScenarioError, SpentUp):
        return None
