"""One chunk of a large sweep: some points of it, simulated one after the other, as a table."""

from __future__ import annotations

import pyarrow as pa

from sim_core.results.text import plain
from sim_core.sweep.frontier import evaluate_in_turn
from sim_core.sweep.large.grid import Grid
from sim_core.sweep.points import points_at

INDEX = "point"  # the place of a row in the whole sweep


def run_chunk(grid: Grid, start: int, stop: int) -> pa.Table:
    """Return the rows of the points from `start` up to `stop`, those that cannot be with their reason."""
    points = points_at(
        grid.scenario, map(grid.keys, range(start, stop)), trace=grid.trace, profile=grid.profile
    )
    rows = evaluate_in_turn(points, trace=grid.trace, profile=grid.profile)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in map(plain, rows)] for name in names}
    return pa.table({INDEX: range(start, stop), **columns})
