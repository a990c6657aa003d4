"""The star: the best point within the limits over the curves of a sweep, each at its own capacity.

At first the best point of the grid stands for it. When the chart has rested, the capacity of each curve is
searched as every other page does it, and how far other seeds would move the best; curves that these cannot
tell apart are said to be alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sim_core.engine.work import SpentUp
from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.capacity import best_within, comparable, seeded
from sim_core.sweep.frontier import as_done
from sim_core.sweep.ranges import SEEDS, are_alike
from sim_core.sweep.remembered import Remembered
from sim_core.view.drawing.figures import Row, Y, drawable
from sim_core.view.session import sweeps
from sim_core.view.session.sweeps import Result, Sweep

RIVAL_FRAC = 0.85  # of the best: a curve that gives less is not asked for with other seeds

Stars = tuple[dict[str, Any], ...]  # a row for each curve that keeps the limits, the best one first
_known: Remembered[Sweep, Stars] = Remembered(sweeps.REMEMBERED)
_given_up: Remembered[Sweep, bool] = Remembered(sweeps.REMEMBERED)


def best(sweep: Sweep, found: Result) -> Row | None:
    """Return the best point within the limits, never one below the present setting where that keeps them.

    A row of the sweep; where it has settled with `range_low` and `range_high`, between which throughput per
    accelerator lies by `SEEDS` seeds, and `alike`, the curves that are as good, itself among them.
    """
    stars = _known.get(_same(sweep))
    if not stars:
        return sweeps.best_within_limits([*found.rows, found.here])
    star = stars[0]
    better = sweeps.best_within_limits([*_surely_better(found, star), found.here])
    if better is None or better[Y] <= star[Y]:
        return star
    alike = star["alike"] if better["curve"] in star["alike"] else ()
    ends = {"range_low": star["range_low"], "range_high": max(star["range_high"], better[Y])}
    return {**better, **ends, "alike": alike}


def _surely_better(found: Result, star: Row) -> list[Row]:
    """Return the points of many requests that keep the limits for sure, and give more than any seed did.

    There are some where a limit is kept again beyond a load that breaks it: no search sees that.
    """
    rows = drawable(found.rows) if found.fine else []
    return [row for row in rows if row[Y] > star["range_high"] and not row.get("at_limit")]


def is_settled(sweep: Sweep) -> bool:
    """Return whether the capacity of every curve is known, or given up."""
    return _known.get(_same(sweep)) is not None or is_given_up(sweep)


def is_given_up(sweep: Sweep) -> bool:
    """Return whether the search would cost more than a page may."""
    return _given_up.get(_same(sweep)) is not None


def settle(sweep: Sweep) -> None:
    """Search the capacity of every curve; the visitor's next move interrupts it.

    Where that costs more than a page may, the best point of the grid stays.
    """
    if is_settled(sweep):
        return
    try:
        _settle(sweep)
    except SpentUp:
        _given_up.put(_same(sweep), True)


def _settle(sweep: Sweep) -> None:
    curves = _curves(sweep)
    tops = _searched({value: partial(best_within, side) for value, side in curves.items()})
    found = [_star(sweep, value, top) for value, top in tops.items() if top is not None]
    stars = sorted(drawable(found), key=lambda row: row[Y], reverse=True)
    _known.put(_same(sweep), tuple(_with_range(sweep, stars, curves)))


def _same(sweep: Sweep) -> Sweep:
    """Return what the stars of a sweep depend on: all but the load of the scenario itself."""
    return Sweep(comparable(sweep.scenario), sweep.by, sweep.values, sweep.along)


def _curves(sweep: Sweep) -> dict[Any, Scenario]:
    """Return the scenario of every curve that can run, by the value that tells it apart."""
    found: dict[Any, Scenario] = {}
    for point in sweep.points():
        if point.scenario is not None:
            found.setdefault(point.keys[sweep.by], point.scenario)
    return found


def _searched(calls: Mapping[Any, Callable[[], Any]]) -> dict[Any, Any]:
    """Return what some searches find, None where one cannot run."""
    found = dict.fromkeys(calls)
    keys = list(calls)
    for index, top in sweeps.interruptible(as_done([partial(_found, calls[key]) for key in keys])):
        found[keys[index]] = top
    return found


def _found(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ScenarioError:
        return None


def _star(sweep: Sweep, value: Any, top: Row) -> dict[str, Any]:
    """Return the best point of a curve as a row of the sweep."""
    row = {"curve": sweep.label(value), "look": sweeps.look(sweep, value), **sweeps.BLANK, sweep.by: value}
    row |= top
    return row | trust.columns(sweep.scenario, row)


def _with_range(sweep: Sweep, stars: list[Row], curves: dict[Any, Scenario]) -> list[dict[str, Any]]:
    """Return the stars, the first with its range and with the curves that are alike."""
    rivals = [star for star in stars if star[Y] >= RIVAL_FRAC * stars[0][Y]]
    calls = {
        (star["curve"], turn): partial(best_within, seeded(curves[star[sweep.by]], turn))
        for star in rivals
        for turn in range(SEEDS)
    }
    tops = {key: 0.0 if top is None else top[Y] for key, top in _searched(calls).items()}
    values = {star["curve"]: [tops[star["curve"], turn] for turn in range(SEEDS)] for star in rivals}
    names = [name for name in map(sweep.label, sweep.values) if name in values]
    alike = tuple(name for name in names if are_alike(values[stars[0]["curve"]], values[name]))
    return [
        {**star, "range_low": min(values[star["curve"]]), "range_high": max(values[star["curve"]])}
        | {"alike": alike}
        for star in rivals
    ]
