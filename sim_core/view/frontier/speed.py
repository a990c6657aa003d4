"""At a fixed speed: what each curve gives to users who get so much, between the points of the chart."""

from __future__ import annotations

import math

import streamlit as st

from sim_core.sweep.between import OnLine, at_speed
from sim_core.view.drawing.figures import Axis, Row, X, curves
from sim_core.view.drawing.trust_words import throughput_words
from sim_core.view.drawing.words import number, quantity
from sim_core.view.frontier.axes import UP, placed
from sim_core.view.parts import pieces
from sim_core.view.parts.views import dial
from sim_core.view.session import state
from sim_core.view.session.sweeps import Result, Sweep

USERS = (
    0.0,
    10.0,
    15.0,
    20.0,
    25.0,
    30.0,
    40.0,
    50.0,
    75.0,
    100.0,
    150.0,
    200.0,
    300.0,
)  # tok/s; 0: the limit
PER = {"device": "tok/s per acc.", "usd": "Mtok/USD", "watt": "tok/s/W"}  # columns of the table


def show_speed(sweep: Sweep, found: Result) -> None:
    """Offer the table of what each curve gives at one speed, with its range."""
    if state.embedded():
        return
    with st.expander("At a fixed speed", key="in_at_speed", on_change="rerun") as more:
        if not more.open:
            return
        least = 1000 / sweep.scenario.slo_tpot_ms
        dial("target_user", USERS, lambda user: f"{number(user)} tok/s" if user else "by the TPOT limit")
        user = state.view_number("target_user") or least
        rows = [placed(row) for row in found.rows]
        lines = [(name, _cells(points, user)) for name, points in curves(rows).items()]
        pieces.table(
            f"At {quantity(user, 'tok/s/user')} or more: on the line between two points, whose values are in "
            "brackets",
            [*PER.values(), "measured ones"],
            lines,
            scroll=True,
        )


def _cells(points: list[Row], user: float) -> list[pieces.Cell]:
    """Return the cells of a curve; one that is nowhere so quick says so."""
    steady = [row for row in points if row["feasible"] and not row["saturated"] and row[X] > 0]
    found = {key: between(steady, UP[key], user) for key in PER}
    cells = [_cell(each) for each in found.values()]
    value, near = found["device"].value, _near(steady, user)
    if not math.isfinite(value) or near is None:
        return [*cells, pieces.Cell(_why_none(points, steady))]
    return [*cells, pieces.Cell(throughput_words(near, value) or "not known")]


def between(points: list[Row], axis: Axis, user: float) -> OnLine:
    """Return what some points of a curve give of an axis at a speed, and its range."""
    places = [(row[X], row[axis.column]) for row in points if row[axis.column] > 0]
    return at_speed(places, user)


def _cell(found: OnLine) -> pieces.Cell:
    if not math.isfinite(found.value):
        return pieces.Cell("–")
    ends = [number(end) for end in (found.low, found.high)]
    return pieces.Cell(number(found.value), small=f"({ends[0]} to {ends[1]})" if ends[0] != ends[1] else "")


def _near(points: list[Row], user: float) -> Row | None:
    """Return the point whose speed is nearest."""
    return min(points, key=lambda row: abs(math.log(row[X] / user)), default=None)


def _why_none(points: list[Row], steady: list[Row]) -> str:
    if not any(row["feasible"] for row in points):
        return "cannot run"
    quickest = max((row[X] for row in steady), default=math.nan)
    return f"at most {quantity(quickest, 'tok/s/user')}"
