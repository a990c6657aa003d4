"""The script that fits the rows of `presets/kernels` to measured tables, on tables of known constants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.kernel_tables import PRODUCT, data_in, error_pct, line_of, lines_of, newest, products
from sim_core.catalogue.accelerators import accelerator
from sim_core.catalogue.kernels import kernel_rows

H200_BF16_FLOP_PER_US, H200_BYTE_PER_US = 989e6, 4.8e6
TRUE = {"launch_us": 5.0, "read_frac": 0.8, "peak_frac": 0.7, "fill_tokens": 40.0}


def written(folder: Path, version: str, times: float = 1.0) -> Path:
    """Write a table of products that take what `TRUE` says by hand arithmetic, times a factor."""
    shapes = [(m, n, k) for m in (1, 16, 256, 4096) for n in (1024, 8192, 65536) for k in (1024, 16384)]
    rows = []
    for m, n, k in shapes:
        compute_us = 2 * n * k * (m + TRUE["fill_tokens"]) / H200_BF16_FLOP_PER_US / TRUE["peak_frac"]
        read_us = 2 * n * k / H200_BYTE_PER_US / TRUE["read_frac"]
        latency_us = times * (TRUE["launch_us"] + (compute_us**4 + read_us**4) ** 0.25)
        rows.append({"gemm_dtype": "bfloat16", "m": m, "n": n, "k": k, "latency": latency_us / 1e3})
    path = folder / "systems" / "data" / "h200_sxm" / "gemm" / "vllm" / version / "gemm_perf.parquet"
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(path)
    return folder


def bf16_row() -> dict[str, str]:
    found = next(row for row in kernel_rows("products") if row["generation"] == "hopper")
    return dict(found) | {name: str(value) for name, value in TRUE.items()}


def test_a_fit_finds_the_constants_that_made_a_table(tmp_path: Path):
    """Oracle: times computed by hand from stated constants."""
    assert accelerator("h200").flop_per_s("bf16") == H200_BF16_FLOP_PER_US * 1e6
    measured = products(data_in(written(tmp_path, "0.24.0")), bf16_row())
    assert len(measured.shapes) == 24
    line = line_of(bf16_row() | {"launch_us": "3", "peak_frac": "0.5"}, measured)
    assert line.fitted == pytest.approx(TRUE, rel=1e-3)
    assert line.fitted_pct < 0.1 < line.found_pct


def test_the_error_is_that_of_the_median_shape(tmp_path: Path):
    """Oracle: every shape takes a quarter longer than the row says: a fifth of it is missing."""
    measured = products(data_in(written(tmp_path, "0.24.0", times=1.25)), bf16_row())
    assert error_pct(PRODUCT, measured.shapes, np.array([*TRUE.values()])) == pytest.approx(20)


def test_the_newest_table_that_has_such_rows_is_read(tmp_path: Path):
    """Oracle: 0.24 is newer than 0.9, and a final version than its candidates."""
    for version in ("0.9.1", "0.24.0", "0.24.0rc3"):
        written(tmp_path, version)
    data = data_in(tmp_path)
    names, rows = newest(data, "h200_sxm", "gemm_perf", "", lambda rows: rows.gemm_dtype == "bfloat16")
    assert names == ["vllm 0.24.0"] and len(rows) == 24
    assert newest(data, "h200_sxm", "gemm_perf", "", lambda rows: rows.gemm_dtype == "fp8")[0] == []


def test_rows_without_a_table_are_named(tmp_path: Path):
    """Oracle: of all rows of products one has a table here."""
    lines = list(lines_of(data_in(written(tmp_path, "0.24.0")), "products"))
    assert len(lines) == len(kernel_rows("products"))
    assert [line.name for line in lines if not isinstance(line, str)] == ["hopper bf16, gemm"]


def test_a_folder_without_tables_is_one_sentence(tmp_path: Path):
    """Oracle: exit status 1, the folder's name, no traceback."""
    call = [sys.executable, "-m", "benchmarks.kernel_tables", str(tmp_path)]
    found = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert str(tmp_path) in found.stderr and "aiconfigurator-core" in found.stderr
