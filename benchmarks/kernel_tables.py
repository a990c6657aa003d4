"""The rows of `presets/kernels` beside the measured tables that they are short forms of, and fitted anew.

    pip download --no-deps aiconfigurator-core
    unzip -q aiconfigurator_core-*.whl -d FOLDER
    python -m benchmarks.kernel_tables FOLDER [products experts attention all_reduce]

The wheel (PyPI, Apache-2.0) holds what kernels took, shape by shape, by device, engine and version. For each
row: its newest tables, how many shapes they have, the median error that the row states and that which it has
on them, and what a fit would put in the row's place, with its error. So new versions of engines can be
followed. Nothing is written.

Rows that are assumed have no table. Those of sparse, compressed and linear attention are fits of whole
modules less their projections, which this script does not take apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from packaging.version import Version
from scipy.optimize import least_squares

from sim_core.catalogue.accelerators import Accelerator, accelerator
from sim_core.catalogue.kernels import kernel_rows
from sim_core.price.work import BYTES_PER_VALUE

MOST_SHAPES = 4000  # of a row's tables, drawn from a seed
SEED = 1
MICRO = 1e6
DEVICES = {  # the folder of a generation's device, and its preset
    "ampere": ("a100_sxm", "a100-80-sxm"),
    "hopper": ("h200_sxm", "h200"),
    "blackwell": ("b200_sxm", "b200"),
    "blackwell-ultra": ("b300_sxm", "b300"),
    "ada": ("l40s", "l40s"),
    "rtx-blackwell": ("rtx_pro_6000_server", "rtx-pro-6000"),
    "nvlink3": ("a100_sxm", "a100-80-sxm"),
    "nvlink4": ("h200_sxm", "h200"),
    "nvlink5": ("b200_sxm", "b200"),
    "pcie4": ("l40s", "l40s"),
    "pcie5": ("rtx_pro_6000_server", "rtx-pro-6000"),
}
FRAMEWORKS = {"": ("sglang", "vllm"), "vllm": ("vllm",), "sglang": ("sglang",), "tensorrt-llm": ("trtllm",)}
DTYPES = {
    **{"bf16": ("bfloat16",), "fp8-tensor": ("fp8",), "fp8-block": ("fp8_block",), "nvfp4": ("nvfp4",)},
    **{"int4": ("int4_wo",), "mxfp4": ("w4a16_mxfp4", "w4a8_mxfp4_mxfp8"), "int8": ("sq",)},
}
STORED = {"fp8-tensor": "fp8", "fp8-block": "fp8", "nvfp4": "fp4", "mxfp4": "fp4", "int4": "fp4"}
KERNELS = {  # what the name of a measured kernel contains, by the source of a row of experts
    "triton": ("triton", "vllm_fused_moe"),
    "marlin": ("marlin",),
    "flashinfer": ("cutlass",),
    "cutlass": ("cutlass",),
    "deepgemm": ("deepgemm",),
    "trtllm": ("moe_torch_flow",),
    "trtllm-gen": ("trtllm",),
    "trtllm-cutlass": ("moe_torch_flow_cutlass",),
}
WHOSE = {"trtllm-cutlass": "tensorrt-llm", "weight-only": "tensorrt-llm"}  # of rows that hold for others, too
EXPERT_SHAPE = [
    *("kernel_source", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size")
]
ODD = ("nongated", "situ", "min_latency")  # experts of another form


class Form(NamedTuple):
    """How a row's constants give the time of a shape [us]: their names, and the function of both."""

    names: tuple[str, ...]
    time_us: Callable[[pd.DataFrame, np.ndarray], np.ndarray]


def both(compute_us: np.ndarray, read_us: np.ndarray) -> np.ndarray:
    """Return the time of arithmetic and reading that overlap, as steps are priced."""
    return (compute_us**4 + read_us**4) ** 0.25


def _product_us(shape: pd.DataFrame, c: np.ndarray) -> np.ndarray:
    launch_us, read_frac, peak_frac, fill_tokens = c
    return launch_us + both(shape.token_us * (shape.m + fill_tokens) / peak_frac, shape.read_us / read_frac)


def _experts_us(shape: pd.DataFrame, c: np.ndarray) -> np.ndarray:
    layer_us, expert_us, read_frac, peak_frac, fill_tokens, copy_bytes = c
    compute_us = shape.token_us * (shape.copies + fill_tokens * shape.touched) / peak_frac
    fixed_us = layer_us + expert_us * shape.touched + copy_bytes * shape.copied_us
    return fixed_us + both(compute_us, shape.read_us * shape.touched / read_frac)


def _decode_us(shape: pd.DataFrame, c: np.ndarray) -> np.ndarray:
    launch_us, read_frac, decode_frac = c
    return launch_us + both(shape.compute_us / decode_frac, shape.read_us / read_frac)


def _prefill_us(shape: pd.DataFrame, c: np.ndarray) -> np.ndarray:
    return c[0] + shape.compute_us / c[1]


def _all_reduce_us(shape: pd.DataFrame, c: np.ndarray) -> np.ndarray:
    return c[0] + shape.ring_us / c[1]


PRODUCT = Form(("launch_us", "read_frac", "peak_frac", "fill_tokens"), _product_us)
EXPERTS = Form(("layer_us", "expert_us", "read_frac", "peak_frac", "fill_tokens", "copy_bytes"), _experts_us)
DECODE = Form(("launch_us", "read_frac", "decode_frac"), _decode_us)
PREFILL = Form(("launch_us", "prefill_frac"), _prefill_us)
ALL_REDUCE = Form(("latency_us", "link_frac"), _all_reduce_us)


class Measured(NamedTuple):
    """What a row is a fit of: its form, the tables read, and one line a shape with `latency_us`."""

    form: Form
    tables: list[str]
    shapes: pd.DataFrame


# --- the tables of the wheel ----------------------------------------------------------------------


def newest(
    data: Path, device: str, table: str, engine: str, keep: Callable[[pd.DataFrame], pd.Series]
) -> tuple[list[str], pd.DataFrame]:
    """Return the names and rows of an engine's newest tables that have any to keep, one a framework."""
    names, found = [], [pd.DataFrame()]
    for framework in FRAMEWORKS[engine]:
        files = sorted(
            (data / device).glob(f"*/{framework}/*/{table}.parquet"),
            key=lambda file: Version(file.parent.name),
            reverse=True,
        )
        for file in files:
            rows = pd.read_parquet(file)
            rows = rows[keep(rows)]
            if len(rows):
                names.append(f"{framework} {file.parent.name}")
                found.append(rows)
                break
    return names, pd.concat(found, ignore_index=True)


def products(data: Path, row: Mapping[str, str]) -> Measured:
    """Return the products of a row: up to 8,192 tokens, matrices from 1,024 x 1,024 to 65,536 x 65,536."""
    device, part = _device(row["generation"])
    kind = row["kind"]
    names, found = newest(
        data, device, "gemm_perf", _engine(row), lambda rows: rows.gemm_dtype.isin(DTYPES.get(kind, ()))
    )
    if len(found):
        found = found[(found.m <= 8192) & found[["n", "k"]].ge(1024).all(axis=1)]
        found = found[found[["n", "k"]].le(65536).all(axis=1)]
        dtype, weights = STORED.get(kind, kind), found.n * found.k.astype(float)
        arithmetic = "bf16" if kind == "int4" else dtype
        found = found.assign(
            token_us=MICRO * 2 * weights / part.flop_per_s(arithmetic),
            read_us=MICRO * weights * BYTES_PER_VALUE[dtype] / part.hbm_byte_per_s,
        )
    return Measured(PRODUCT, names, _timed(found))


def experts(data: Path, row: Mapping[str, str]) -> Measured:
    """Return the experts of a row: all of them on a device, the mean of even and of skewed routing."""
    device, part = _device(row["generation"])
    kind, words = row["kind"], KERNELS.get(row["source"], ())

    def keep(rows: pd.DataFrame) -> pd.Series:
        named = rows.kernel_source.map(lambda name: any(word in name for word in words))
        odd = rows.kernel_source.map(lambda name: any(word in name for word in ODD))
        alone = (rows.moe_ep_size == 1) & (rows.num_tokens <= 16384)
        return named & ~odd & alone & rows.moe_dtype.isin(DTYPES.get(kind, ()))

    names, found = newest(data, device, "moe_perf", _engine(row), keep)
    if len(found):
        by = [
            "kernel_source",
            "num_tokens",
            "hidden_size",
            "inter_size",
            "topk",
            "num_experts",
            "moe_tp_size",
        ]
        found = found.groupby(by, as_index=False).latency.mean()
        weights = 3.0 * found.hidden_size * found.inter_size / found.moe_tp_size
        left = 1 - found.topk / found.num_experts
        found = found.assign(
            copies=found.num_tokens * found.topk,
            touched=found.num_experts * (1 - left**found.num_tokens),
            token_us=MICRO * 2 * weights / part.flop_per_s(row["arithmetic"]),
            read_us=MICRO * weights * BYTES_PER_VALUE[STORED.get(kind, kind)] / part.hbm_byte_per_s,
            copied_us=MICRO * found.num_tokens * found.topk * found.hidden_size / part.hbm_byte_per_s,
        )
    return Measured(EXPERTS, names, _timed(found))


def decodes(data: Path, row: Mapping[str, str]) -> Measured:
    """Return the decodes of a row's attention: heads of 128 without a window, or the latent ones."""
    device, part = _device(row["generation"])
    latent, stored = row["kind"].startswith("mla"), row["kind"].rpartition("-")[2]
    table = "generation_mla_perf" if latent else "generation_attention_perf"
    names, found = newest(data, device, table, row["engine"], lambda rows: _plain(rows, latent, stored))
    if len(found):
        tokens = found.batch_size * (found.isl + found.step).astype(float)
        if latent:  # 512 numbers and 64 of the position; fewer heads than 64 are computed as 64
            flop, values = 2 * found.num_heads.clip(lower=64) * (576 + 512), 576
        else:
            flop, values = 4 * found.num_heads * 128, 2 * found.num_key_value_heads * 128
        found = found.assign(
            compute_us=MICRO * tokens * flop / part.flop_per_s("bf16"),
            read_us=MICRO * tokens * values * BYTES_PER_VALUE[stored] / part.hbm_byte_per_s,
        )
    return Measured(DECODE, names, _timed(found))


def prefills(data: Path, row: Mapping[str, str]) -> Measured:
    """Return the prompts of a row's attention, of 2,048 tokens and more."""
    device, part = _device(row["generation"])
    latent, stored = row["kind"].startswith("mla"), row["kind"].rpartition("-")[2]
    table = "context_mla_perf" if latent else "context_attention_perf"

    def keep(rows: pd.DataFrame) -> pd.Series:
        return _plain(rows, latent, stored) & (rows.isl >= 2048) & (rows.step == 0)

    names, found = newest(data, device, table, row["engine"], keep)
    if len(found):
        pairs = found.batch_size * found.isl.astype(float) * (found.isl + 1) / 2
        flop = found.num_heads * (2 * (192 + 128) if latent else 4 * 128)
        found = found.assign(compute_us=MICRO * pairs * flop / part.flop_per_s("bf16"))
    return Measured(PREFILL, names, _timed(found))


def _plain(rows: pd.DataFrame, latent: bool, stored: str) -> pd.Series:
    """Return which rows are of attention over everything in sight, with a cache of a format."""
    fits = rows.kv_cache_dtype == {"bf16": "bfloat16"}.get(stored, stored)
    if latent:
        return fits
    fits &= (rows.head_dim == 128) & ~rows.kernel_source.str.contains("triton|flashinfer$|_flashinfer$")
    return fits & (rows.window_size == 0) if "window_size" in rows else fits


def all_reduces(data: Path, row: Mapping[str, str]) -> Measured:
    """Return the all-reduces of a row, in recorded graphs."""
    device, part = _device(row["link"])
    devices = int(row["devices"])

    def keep(rows: pd.DataFrame) -> pd.Series:
        return (rows.num_gpus == devices) & ~rows.kernel_source.str.contains("eager")

    names, found = newest(data, device, "custom_allreduce_perf", row["engine"], keep)
    if len(found):
        moved = 2 * (devices - 1) / devices * 2.0 * found.message_size  # of bf16: sizes count elements
        found = found.assign(ring_us=MICRO * moved / part.link(devices).byte_per_s)
    return Measured(ALL_REDUCE, names, _timed(found))


TABLES: Mapping[str, tuple[Callable[[Path, Mapping[str, str]], Measured], ...]] = {
    "products": (products,),
    "experts": (experts,),
    "attention": (decodes, prefills),
    "all_reduce": (all_reduces,),
}


def _engine(row: Mapping[str, str]) -> str:
    """Return the engine that was measured, which a row without one may be of all the same."""
    return WHOSE.get(row["source"], row["engine"])


def _device(generation: str) -> tuple[str, Accelerator]:
    folder, preset = DEVICES.get(generation, ("", ""))
    return folder, accelerator(preset or "h100-sxm")


def _timed(found: pd.DataFrame) -> pd.DataFrame:
    """Return shapes with the time that was measured, in microseconds; a sample of many."""
    if not len(found):
        return found
    found = found.assign(latency_us=1e3 * found.latency)
    found = found[found.latency_us > 0]
    return found if len(found) <= MOST_SHAPES else found.sample(MOST_SHAPES, random_state=SEED)


# --- a row and its fit ----------------------------------------------------------------------------


class Line(NamedTuple):
    """A row beside its tables: the error it states and has [%], and a fit with its error."""

    name: str
    tables: list[str]
    shapes: int
    stated_pct: float
    found_pct: float
    constants: dict[str, float]
    fitted: dict[str, float]
    fitted_pct: float


def error_pct(form: Form, shapes: pd.DataFrame, constants: np.ndarray) -> float:
    """Return the median error of a form over shapes [%]."""
    time_us = form.time_us(shapes, constants)
    return 100 * float(np.median(np.abs(time_us / shapes.latency_us - 1)))


def fit(form: Form, shapes: pd.DataFrame, start: np.ndarray) -> np.ndarray:
    """Return the constants that meet measured times best, outliers damped; shares are at most 1."""
    most = np.log([1.0 if name.endswith("_frac") else 1e4 for name in form.names])
    first = np.minimum(np.log(np.maximum(start, 1e-3)), most - 1e-3)

    def residuals(logs: np.ndarray) -> np.ndarray:
        return np.log(form.time_us(shapes, np.exp(logs)) / shapes.latency_us.to_numpy())

    bounds = (np.full(first.size, np.log(1e-4)), most)
    return np.exp(least_squares(residuals, first, bounds=bounds, loss="soft_l1", f_scale=0.1).x)


def line_of(row: Mapping[str, str], measured: Measured) -> Line:
    """Return a row beside what it is a fit of."""
    form, shapes = measured.form, measured.shapes
    constants = np.array([float(row[name]) for name in form.names])
    fitted = fit(form, shapes, constants)
    name = " ".join(row[key] for key in ("generation", "link", "kind", "devices", "engine") if row.get(key))
    return Line(
        f"{name}, {'prefill' if form is PREFILL else row['source']}",
        measured.tables,
        len(shapes),
        float(row["error_pct"]),
        error_pct(form, shapes, constants),
        dict(zip(form.names, constants.tolist(), strict=True)),
        dict(zip(form.names, fitted.tolist(), strict=True)),
        error_pct(form, shapes, fitted),
    )


def lines_of(data: Path, table: str) -> Iterator[Line | str]:
    """Yield each row of a table of `presets/kernels` beside its measurements, or the name of one without."""
    for row in kernel_rows(table):
        if table == "attention" and row["kind"].partition("-")[0] not in ("full", "mla"):
            continue
        for read in TABLES[table]:
            measured = read(data, row)
            if len(measured.shapes):
                yield line_of(row, measured)
            else:
                yield " ".join(filter(None, (*list(row.values())[:3], row["source"])))


def printed(line: Line | str) -> str:
    """Return a line of the listing."""
    if isinstance(line, str):
        return f"{line}: no table"
    changes = ", ".join(
        f"{name} {value:.3g} -> {line.fitted[name]:.3g}" for name, value in line.constants.items()
    )
    found = f"states {line.stated_pct:.0f}%, has {line.found_pct:.0f}%; fitted {line.fitted_pct:.0f}%"
    return f"{line.name}: {line.shapes} shapes of {', '.join(line.tables)}\n    {found}: {changes}"


def data_in(folder: Path) -> Path:
    """Return the folder of tables in an unpacked wheel.

    Raises
    ------
    SystemExit
        If there is none.
    """
    for found in (folder, *sorted(folder.rglob("systems/data"))):
        if any(found.glob("*/*/*/*/*.parquet")):
            return found
    sys.exit(f"{folder} holds no tables of kernels: unpack the wheel aiconfigurator-core there.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="all where none is named")
    given = parser.parse_args()
    data = data_in(given.folder)
    for table in given.tables or TABLES:
        print(f"\n{table}")
        for line in lines_of(data, table):
            print(printed(line), flush=True)


if __name__ == "__main__":
    main()
