"""What the finding of a sweep advises: another curve, a rate that holds, more room."""

from __future__ import annotations

from sim_core.questions import compare
from sim_core.sweep.part_layouts import best_group
from sim_core.view.drawing.words import quantity
from sim_core.view.frontier import overload
from sim_core.view.session import stars
from sim_core.view.session.advice import Advice, room_advice
from sim_core.view.session.sweeps import Result, Sweep, cut


def frontier_advice(sweep: Sweep, found: Result) -> list[Advice]:
    """Return what would make the present setting run, keep up, or give more: each as a change."""
    room = room_advice(sweep.scenario)
    curve = [] if room and sweep.by == "tensor_parallel" else _better_curve(sweep, found)
    return [*room, *_slower(sweep, found), *curve]


def _slower(sweep: Sweep, found: Result) -> list[Advice]:
    """Return the highest rate within the limits, where the setting is overloaded."""
    rate = overload.held_rate_per_s(sweep, found)
    if not rate or sweep.scenario.arrivals not in ("poisson", "gamma"):
        return []
    rate = cut(rate)
    return [Advice(f"Use {quantity(rate, 'req/s', 4)}", {"arrival_per_s": rate})]


def _better_curve(sweep: Sweep, found: Result) -> list[Advice]:
    """Return the curve of the best point where that is another one, and no draw."""
    best = stars.best(sweep, found)
    if best is None or best["curve"] == sweep.own or sweep.own in best.get("alike", ()):
        return _own_group(sweep)
    wanted = sweep.base(best[sweep.by])
    return [Advice(f"Use {best['curve']}", compare.changes_to(sweep.scenario, wanted)), *_own_group(sweep)]


def _own_group(sweep: Sweep) -> list[Advice]:
    """Return the group that suits the setting's own part, where parts are compared by theirs."""
    if sweep.by != "accelerator":
        return []
    wanted = best_group(sweep.scenario)
    changes = compare.changes_to(sweep.scenario, wanted)
    help = "The others are drawn with the group that suits them best; by arithmetic this one suits yours."
    name = f"Use {sweep.own.rpartition(' TP ')[0]} TP {wanted.tensor_parallel}"
    return [Advice(name, changes, help=help)] if changes else []
