"""Make the table of the Atlas page: `python -m benchmarks.atlas` (some minutes of all cores).

Every model on every accelerator with a price, at all its layouts of up to eight devices and in several
precisions, for four workloads; of each cell the points are kept that no other one beats in throughput per
device, TTFT and TPOT together.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sim_core.catalogue import accelerators, models
from sim_core.questions.deployment.atlas import NEEDED, TPOT, TTFT
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.large.grid import Grid
from sim_core.sweep.large.parts import ABOUT
from sim_core.sweep.large.run import SweepProgress, sweep_to_file
from sim_core.sweep.large.workers import Crew
from sim_core.view.frontier.atlas.page import READY

CELL = ["model", "accelerator", "mix"]
LAYOUT = ["weight_dtype", "tensor_parallel", "concurrency"]
MIXES = ("chat:1", "rag:1", "code:1", "summarisation:1")
BASE = Scenario(arrivals="closed", requests=300, kv_dtype="fp8")
MOST_MODELS = 12  # the newest of those with measurements first
USUAL = (
    *("deepseek-r1", "gpt-oss-120b", "gpt-oss-20b", "llama-4-maverick", "qwen3-235b-a22b", "qwen3-30b-a3b"),
    *("qwen3-32b", "llama-3.3-70b", "llama-3.1-405b", "llama-3.1-70b", "llama-3.1-8b", "mixtral-8x7b"),
)
DIGITS = 4


def grid() -> Grid:
    """Return all combinations; those that cannot be cost next to nothing."""
    parts = [part.id for part in accelerators().values() if part.price_usd_per_hour and not part.announced]
    shown = dict.fromkeys([*list(models())[:MOST_MODELS], *USUAL])
    vary = {"model": list(shown), "accelerator": parts, "weight_dtype": ["native", "fp8"]}
    vary |= {"tensor_parallel": [1, 2, 4, 8], "mix": list(MIXES), "concurrency": [4, 32, 256]}
    return Grid(scenario=BASE, vary=vary)


def reduced(table: pd.DataFrame) -> pd.DataFrame:
    """Return the points of each cell that no other beats, or one that cannot be where none can."""
    kept = [cell.loc[_best(cell)] for _, cell in table.groupby(CELL, sort=False)]
    found = pd.concat(kept, ignore_index=True)[[*CELL, *LAYOUT, "requests", *NEEDED, "limit"]]
    found["requests"] = found["requests"].fillna(0)
    numbers = found.select_dtypes("float").columns.difference([*LAYOUT, "requests"])
    found[numbers] = found[numbers].map(lambda value: float(f"{value:.{DIGITS}g}")).astype("float32")
    return found.astype(dict.fromkeys(("tensor_parallel", "concurrency"), "int32"))


def _best(cell: pd.DataFrame) -> list[int]:
    possible = cell[cell["feasible"] & ~cell["saturated"].eq(True)]
    if possible.empty:
        return [cell.index[0]]
    worth = possible[[TTFT, TPOT, NEEDED[0]]].to_numpy(float) * np.array([-1.0, -1.0, 1.0])
    beaten = [(worth >= one).all(axis=1) & (worth > one).any(axis=1) for one in worth]
    return [index for index, by in zip(possible.index, beaten, strict=True) if not by.any()]


def main() -> None:
    """Sweep, reduce and write the table."""
    everything = grid()
    with tempfile.TemporaryDirectory() as folder, Crew() as crew:
        place = Path(folder) / "all.parquet"
        sweep_to_file(everything, place, crew, 500, _tell)
        table = reduced(pd.read_parquet(place))
    about = everything.about() | {"vary": [*CELL, *LAYOUT]}
    out = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(
        {ABOUT: json.dumps(about)}
    )
    pq.write_table(out, READY, compression="zstd", compression_level=19)
    print(f"{len(table):,} of {len(everything):,} points, {READY.stat().st_size / 1e3:,.0f} kB: {READY.name}")


def _tell(progress: SweepProgress) -> None:
    done = progress.kept + progress.run
    print(
        f"\r{done:,} of {progress.points:,}, {progress.left_s / 60:.0f} min to go ", end="", file=sys.stderr
    )


if __name__ == "__main__":
    main()
