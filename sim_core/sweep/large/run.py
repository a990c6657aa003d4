"""Run a large sweep: chunks go to the workers, their rows to disk, and what is there is not run again."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pyarrow as pa

from sim_core.sweep.large.chunks import run_chunk
from sim_core.sweep.large.grid import Grid
from sim_core.sweep.large.lock import one_writer
from sim_core.sweep.large.parts import Parts
from sim_core.sweep.large.workers import Crew

CHUNK_POINTS = 200  # of about 2 ms: enough that what a chunk costs beside them is below 1%
AHEAD = 2  # chunks that each worker finds waiting


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """How far a sweep is: its points, those that were there, those added since, and for how long [s].

    At the end, `impossible` of the points cannot be run: their rows have the reason.
    """

    points: int
    kept: int
    run: int
    elapsed_s: float
    impossible: int = 0

    @property
    def per_s(self) -> float:
        """Points a second."""
        return self.run / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float:
        """Time to go at this rate [s]; infinite before the first point."""
        left = self.points - self.kept - self.run
        return left / self.per_s if self.per_s > 0 else float("inf")


def sweep_to_file(
    grid: Grid,
    out: Path,
    workers: Crew,
    chunk_points: int = CHUNK_POINTS,
    tell: Callable[[SweepProgress], None] = lambda progress: None,
) -> SweepProgress:
    """Run a sweep, or what is left of it, and write its table as Parquet.

    Stopped before its end, it leaves its chunks beside `out`; the same call goes on from there.

    Raises
    ------
    ScenarioError
        If the chunks beside `out` are of another sweep, or somebody else writes it.
    """
    with one_writer(out):
        return _swept(grid, out, workers, chunk_points, tell)


def _swept(
    grid: Grid, out: Path, workers: Crew, chunk_points: int, tell: Callable[[SweepProgress], None]
) -> SweepProgress:
    parts = Parts(out, grid.digest(), grid.about())
    kept, begun_s, done = parts.points(), time.monotonic(), 0
    told = SweepProgress(len(grid), kept, 0, 0.0)
    tell(told)
    chunks = iter(list(parts.missing(len(grid), chunk_points)))
    running: dict[Future[pa.Table], tuple[int, int]] = {}
    if kept < len(grid):  # whoever runs a first point compiles the kernels; the others find them in the cache
        workers.executor.submit(run_chunk, grid, kept, kept + 1).result()
    try:
        while True:
            for start, stop in islice(chunks, AHEAD * workers.count - len(running)):
                running[workers.executor.submit(run_chunk, grid, start, stop)] = start, stop
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                start, stop = running.pop(future)
                parts.add(start, stop, future.result())
                done += stop - start
                told = SweepProgress(len(grid), kept, done, time.monotonic() - begun_s)
                tell(told)
    finally:
        for future in running:
            future.cancel()
    told = replace(told, impossible=parts.impossible())
    parts.join()
    return told
