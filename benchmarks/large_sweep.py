"""What a large sweep costs a point: `python -m benchmarks.large_sweep [--points N]`.

The same points by threads, by processes and, where Dask is installed, by a cluster of this machine, each as a
ratio to one thread that runs them without chunks, files and workers; and how long a million would take.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from sim_core.scenario.scenario import Scenario
from sim_core.sweep.large.chunks import run_chunk
from sim_core.sweep.large.grid import Grid
from sim_core.sweep.large.run import sweep_to_file
from sim_core.sweep.large.workers import PROCESSES, THREADS, Crew

MILLION = 1_000_000
ALONE = 1_000  # points that the one thread runs


def grid(points: int) -> Grid:
    """Return points of 2,000 requests each, of all loads and batch limits."""
    seeds = max(points // 400, 1)
    vary = {"max_batch": [8, 16, 32, 64, 128, 256, 512, 1024], "tensor_parallel": [1, 2, 4, 8]}
    rates = {"arrival_per_s": [0.5, 1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20]}
    return Grid(scenario=Scenario(requests=2000), vary=vary | rates | {"seed": range(seeds)})


def main() -> None:
    """Print one line for each way of running the points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20_000)
    points = grid(parser.parse_args().points)
    run_chunk(points, 0, ALONE)
    begun_s = time.perf_counter()
    run_chunk(points, 0, ALONE)
    alone_s = (time.perf_counter() - begun_s) / ALONE
    print(f"{os.cpu_count()} cores, {len(points):,} points of 2,000 requests")
    print(f"{'one thread, nothing around it':32} {1e3 * alone_s:6.2f} ms a point")
    for name in (THREADS, PROCESSES, "a Dask cluster"):
        _row(name, points, alone_s)


def _row(name: str, points: Grid, alone_s: float) -> None:
    if name not in (THREADS, PROCESSES) and importlib.util.find_spec("distributed") is None:
        print(f"{name:32} not installed")
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        _cluster(name) as cluster,
        Crew(cluster.scheduler_address if cluster else name) as workers,
    ):
        done = sweep_to_file(points, Path(folder) / "table.parquet", workers)
    point_s = done.elapsed_s / done.points
    print(
        f"{name:32} {1e3 * point_s:6.2f} ms a point, {alone_s / point_s:5.2f} x as fast as one thread, "
        f"a million in {MILLION * point_s / 60:,.0f} min"
    )


def _cluster(name: str):
    if name in (THREADS, PROCESSES):
        return nullcontext()
    from distributed import LocalCluster

    return LocalCluster(n_workers=os.cpu_count(), threads_per_worker=1, dashboard_address=None)


if __name__ == "__main__":
    main()
