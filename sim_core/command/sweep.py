"""`sweep`: every combination of many values, on all cores or a cluster, into a Parquet file."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sim_core.command.files import try_place
from sim_core.command.group import cli
from sim_core.command.inputs import (
    SCENARIO_HELP,
    VARY_HELP,
    Inputs,
    scenario_options,
    trace_option,
    variations,
)
from sim_core.command.output import TOLD_EVERY_S, emit, report_text, say_on_stderr, time_words
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted

if TYPE_CHECKING:
    from sim_core.sweep.large.run import SweepProgress

SCHEDULER_HELP = (
    "threads, processes, or the address of a Dask scheduler (tcp://host:8786); by default what "
    "BATCHSCOPE_SCHEDULER says, else threads."
)


@cli.command(
    "sweep",
    help="Simulate every combination of many values and write them as a Parquet table. Ctrl-C keeps what is "
    f"done, and the same command goes on from there.\n\n{SCENARIO_HELP}",
)
@scenario_options
@trace_option
@click.option("--vary", "varied", multiple=True, required=True, metavar="KEY=V1,V2,...", help=VARY_HELP)
@click.option("--out", required=True, metavar="FILE", help="The table to write, one row a point.")
@click.option("--scheduler", default="", metavar="WHERE", help=SCHEDULER_HELP)
@click.option(
    "--workers",
    type=click.IntRange(1, 4096),
    metavar="N",
    help="Threads or processes; by default one a core.",
)
@click.option(
    "--chunk", type=click.IntRange(1, 100_000), metavar="N", help="Points that a worker takes at a time."
)
def write_sweep(
    form: str,
    varied: tuple[str, ...],
    out: str,
    scheduler: str,
    workers: int | None,
    chunk: int | None,
    **source: Any,
) -> None:
    inputs = Inputs(**source)
    from sim_core.sweep.large.grid import MOST_POINTS, Grid
    from sim_core.sweep.large.run import CHUNK_POINTS, sweep_to_file
    from sim_core.sweep.large.workers import Crew

    vary = variations(varied, MOST_POINTS)
    grid = Grid(scenario=inputs.scenario, vary=vary, trace=inputs.trace, profile=inputs.profile)
    _try_table(out)
    for note in inputs.notes:
        say_on_stderr(f"Note: {note}")
    teller = _Teller()
    try:
        with Crew(scheduler, workers or 0) as crew:
            done = sweep_to_file(grid, Path(out), crew, chunk or CHUNK_POINTS, teller.tell)
    except KeyboardInterrupt:
        say_on_stderr(teller.stopped())
        raise
    except OSError as error:
        raise ScenarioError(
            f"{out[:100]!r} is not complete: {error.strerror or error}. {teller.stopped()}"
        ) from None
    if done.impossible:
        say_on_stderr(f"Note: {done.impossible:,} of {_points(done)} cannot run: column `reason` says why.")
    found = {"points": done.points, "resumed": done.kept, "run": done.run, "cannot_run": done.impossible}
    emit(report_text(found | {"elapsed_s": done.elapsed_s, "per_s": done.per_s, "out": out}, form))


def _try_table(out: str) -> None:
    """Raise a `ScenarioError` if no table can be written there."""
    if Path(out).suffix != ".parquet":
        raise ScenarioError(
            f"--out is {out[:100]!r}; the table is a Parquet file: give it the ending .parquet."
        )
    try_place(out)


class _Teller:
    """Says on standard error how far a sweep is: at its beginning, then every few seconds."""

    def __init__(self) -> None:
        self._told_s = -TOLD_EVERY_S
        self._last: SweepProgress | None = None

    def tell(self, progress: SweepProgress) -> None:
        self._last = progress
        now_s = time.monotonic()
        if now_s - self._told_s < TOLD_EVERY_S or sys.stderr is None:
            return
        self._told_s = now_s
        say_on_stderr(_words(progress))

    def stopped(self) -> str:
        """Return what is said when somebody stops the sweep."""
        done = self._last
        if done is None:
            return "Stopped before the first point."
        return f"Stopped: {done.kept + done.run:,} of {_points(done)} are kept. The same command goes on."


def _words(progress: SweepProgress) -> str:
    done = f"{progress.kept + progress.run:,} of {_points(progress)}"
    if not progress.run:
        return done
    return f"{done}, {progress.per_s:,.0f}/s, {time_words(progress.left_s)} to go"


def _points(progress: SweepProgress) -> str:
    return counted(progress.points, "point")
