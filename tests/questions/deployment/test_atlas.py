"""The atlas: the best of each cell against loops, files that are none, and the product's own table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.atlas import METRICS, TPOT, TTFT, Atlas, filtered, heat_map, read_atlas
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.frontier import evaluate
from sim_core.sweep.large.grid import Grid
from sim_core.sweep.large.parts import ABOUT
from sim_core.sweep.large.run import sweep_to_file
from sim_core.sweep.large.workers import THREADS, Crew
from sim_core.sweep.points import Point
from sim_core.view.frontier.atlas.page import READY, ready


def drawn(rows: int = 300) -> Atlas:
    random = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "tensor_parallel": random.choice([1, 2, 4], rows),
            "weight_dtype": random.choice(["bf16", "fp8"], rows),
            "max_batch": random.choice([8, 64], rows),
            TTFT: random.uniform(100, 3000, rows),
            TPOT: random.uniform(5, 80, rows),
            "output_tok_per_s_per_accelerator": random.uniform(10, 5000, rows),
            "usd_per_mtok": random.uniform(0.1, 9, rows),
            "joule_per_tok": random.uniform(0.1, 9, rows),
            "tok_per_s_per_user": random.uniform(10, 200, rows),
            "saturated": random.random(rows) < 0.2,
            "feasible": random.random(rows) < 0.7,
        }
    )
    return Atlas(table, ("tensor_parallel", "weight_dtype", "max_batch"), Scenario(), "drawn")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("limits", [(2000.0, 40.0), (500.0, 12.0), (50.0, 1.0)])
def test_a_cell_is_the_best_within_limits(metric: str, limits: tuple[float, float]) -> None:
    """Oracle: a loop over all rows of each cell."""
    atlas = drawn()
    found = heat_map(atlas, "weight_dtype", "tensor_parallel", metric, *limits)
    assert (found.x, found.y) == (["bf16", "fp8"], [1, 2, 4])
    for i, devices in enumerate(found.y):
        for j, dtype in enumerate(found.x):
            best, at = None, -1
            for row, point in atlas.table.iterrows():
                same = point["tensor_parallel"] == devices and point["weight_dtype"] == dtype
                kept = point["feasible"] and not point["saturated"]
                if not same or not kept or point[TTFT] > limits[0] or point[TPOT] > limits[1]:
                    continue
                worth = point[METRICS[metric]] if metric == "device" else -point[METRICS[metric]]
                if best is None or worth > best:
                    best, at = worth, row
            assert found.row[i, j] == at
            assert (found.reason[i, j] == "") == (at >= 0)


def test_what_a_cell_lacks_is_said() -> None:
    """Oracle: a table of three rows: one that cannot be, one beyond a limit, and a cell without a row."""
    atlas = drawn(3)
    atlas.table[["tensor_parallel", "weight_dtype"]] = [[1, "bf16"], [2, "fp8"], [2, "bf16"]]
    atlas.table["feasible"] = [False, True, True]
    atlas.table["saturated"] = False
    atlas.table[TTFT] = [1.0, 9.0, 1.0]
    found = heat_map(atlas, "weight_dtype", "tensor_parallel", "device", 5.0, 1e9)
    assert found.reason.tolist() == [["impossible", "absent"], ["", "limits"]]


def test_a_filter_keeps_one_value() -> None:
    """Oracle: the rows of that value, counted by a loop."""
    atlas = drawn()
    kept = filtered(atlas, {"max_batch": 8, "weight_dtype": "fp8"})
    rows = atlas.table[["max_batch", "weight_dtype"]].itertuples(index=False)
    assert len(kept.table) == sum(tuple(row) == (8, "fp8") for row in rows) > 0


def test_a_sweep_opens_and_a_row_of_it_runs_again(tmp_path: Path) -> None:
    """Oracle: the row's own figures, simulated anew."""
    out = tmp_path / "table.parquet"
    vary = {"tensor_parallel": [1, 2], "max_batch": [8, 32], "load_frac": [0.5]}
    with Crew(THREADS) as crew:
        sweep_to_file(Grid(scenario=Scenario(requests=50, seed=7), vary=vary), out, crew)
    atlas = read_atlas(out.read_bytes(), "table.parquet")
    assert atlas.keys == ("tensor_parallel", "max_batch")
    again = evaluate(Point({}, atlas.scenario_of(2)))
    assert again["output_tok_per_s"] > 0
    column = "output_tok_per_s_per_accelerator"
    assert again[column] == pytest.approx(atlas.table[column].iloc[2], rel=1e-12)


def written(tmp_path: Path, about: object, **columns: object) -> bytes:
    table = pa.Table.from_pandas(drawn(9).table.assign(**columns), preserve_index=False)
    metadata = {} if about is None else {ABOUT: about if isinstance(about, str) else json.dumps(about)}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "t.parquet")
    return (tmp_path / "t.parquet").read_bytes()


ABOUT_OK = {"scenario": "v=1", "vary": ["tensor_parallel", "max_batch"]}


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (None, "not written by"),
        ("{", "cannot be read"),
        ([], "does not say"),
        ({"scenario": 3, "vary": []}, "does not say"),
        (ABOUT_OK | {"vary": ["tensor_parallel", 4]}, "does not say"),
        (ABOUT_OK | {"vary": ["tensor_parallel", "seed"]}, "no column 'seed'"),
        (ABOUT_OK | {"vary": ["tensor_parallel", TTFT]}, "that is none"),
        (ABOUT_OK | {"vary": ["tensor_parallel"]}, "needs two"),
        (ABOUT_OK | {"scenario": "v=1&model=nobody"}, "cannot be read"),
    ],
)
def test_tables_of_others_are_refused(tmp_path: Path, about: object, message: str) -> None:
    """Oracle: a message that names the file and what is missing, not its kind where that is right."""
    with pytest.raises(ScenarioError, match=f"^t.parquet.*{message}") as refused:
        read_atlas(written(tmp_path, about), "t.parquet")
    assert ("as a Parquet file" in str(refused.value)) == (about == "{")


@pytest.mark.parametrize("cut", [0, 3, 100, -1, -8, -200])
def test_damaged_files_are_refused(tmp_path: Path, cut: int) -> None:
    """Oracle: no exception but ours, wherever the file ends."""
    whole = written(tmp_path, ABOUT_OK)
    with pytest.raises(ScenarioError, match="cannot be read as a Parquet file"):
        read_atlas(whole[:cut], "t.parquet")


def test_columns_of_another_kind_are_refused(tmp_path: Path) -> None:
    """Oracle: words where numbers are meant."""
    with pytest.raises(ScenarioError, match=r"t\.parquet.*output_tok_per_s_per_accelerator"):
        read_atlas(written(tmp_path, ABOUT_OK, output_tok_per_s_per_accelerator="many"), "t.parquet")


def test_the_table_of_the_product_holds_what_is_simulated_today() -> None:
    """Oracle: a few of its rows, simulated anew; where prices have changed it is made again
    (`python -m benchmarks.atlas`).
    """
    atlas = ready()
    assert READY.stat().st_size < 1_500_000
    assert {"model", "accelerator", "mix"} <= set(atlas.keys)
    possible = np.flatnonzero(atlas.table["feasible"])
    for row in possible[:: max(possible.size // 12, 1)]:
        again = evaluate(Point({}, atlas.scenario_of(int(row))))
        for name in (TTFT, TPOT, *METRICS.values()):
            assert again[name] == pytest.approx(float(atlas.table[name].iloc[row]), rel=2e-3, nan_ok=True), (
                name
            )
