"""The points of the chart by name: what a click, a link and the list beneath the chart call them."""

from __future__ import annotations

from typing import Any

from sim_core.view.drawing.figures import Row, drawable
from sim_core.view.session.sweeps import Result, Sweep

BEST, HERE = "best", "here"


def place_name(sweep: Sweep, row: Row) -> str:
    """Return the name of a point of the grid: what tells its curve apart, "@", and its place on it."""
    return f"{row[sweep.by]}@{row[sweep.along]:g}"


def with_names(sweep: Sweep, found: Result) -> list[dict[str, Any]]:
    """Return the rows of the chart, each with its name."""
    return [row | {"name": place_name(sweep, row)} for row in found.rows]


def points_by_name(sweep: Sweep, found: Result, best: Row | None) -> dict[str, Row]:
    """Return every point that can be chosen: the best one, the present setting, and those of the curves."""
    first = {} if best is None else {BEST: best}
    grid = {place_name(sweep, row): row for row in drawable(found.rows)}
    return first | ({HERE: found.here} if drawable([found.here]) else {}) | grid
