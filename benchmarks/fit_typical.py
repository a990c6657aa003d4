"""Fit the `typical` calibration to published measurements: `python -m benchmarks.fit_typical`.

Development only: it needs SciPy and the table of measurements, which are not part of the product. Every
constant is global and bounded to its physical range; nothing is fitted per row, model, device or engine.

Each measured point is a closed loop: clients that send their next request when the last one is answered,
all starting at once, ten requests a client. The fit simulates exactly that with the product's own engine
and compares mean TTFT and mean TPOT. The robust loss (soft L1 of log errors) keeps odd runs from pulling;
TTFT weighs less, because it holds the history of a run: where all lengths are equal, requests march in
waves. Every fit starts in the middle of the bounds, so a fit that leaves rows out knows nothing of them.

What the sources do not say is assumed alike for all rows:

- SGLang runs prompts in steps of their own (`prefill_first`); vLLM and TensorRT-LLM mix (`chunked`).
  The token budget is 8,192; the batch is never the limit.
- A checkpoint whose precision is not stated has its native one; gpt-oss always does.
- KV caches are fp8 under TensorRT-LLM, and under vLLM on Blackwell devices, where weights are 8 or 4
  bits wide; else bf16.

About fifteen minutes on one core with `--folds`, one and a half without.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim_core import cost, work
from sim_core.calibration import CALIBRATIONS, UNITS, Calibration, Constants, calibration
from sim_core.kernels import StepCost
from sim_core.presets import accelerator_of, model_of
from sim_core.scenario import DTYPES, Scenario
from sim_core.simulator import run_engine
from sim_core.validation import KV_MEMORY_FRAC, REQUESTS_PER_CLIENT, SEED, TOKEN_BUDGET, step_costs

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT.parent / "shared" / "reference" / "measured_serving.csv"
TPOT_SCALE = 0.12  # log error at which the loss turns from squared to absolute
TTFT_SCALE = 1.2
FEWEST_ROWS_HELD_OUT = 10


# --- the measurements -----------------------------------------------------------------------------


def read_rows(path: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the usable rows of the table, and how many were left out for which reason."""
    table = pd.read_csv(path, low_memory=False)
    closed = (table.metric_kind == "closed-loop concurrency") & (table["mode"] == "agg")
    rows = table[closed].copy()
    rows["tpot_ms"] = rows.tpot_ms_unspecified.fillna(rows.tpot_ms_mean).fillna(rows.tpot_ms_p50)
    rows["ttft_ms"] = rows.ttft_ms_unspecified.fillna(rows.ttft_ms_mean).fillna(rows.ttft_ms_p50)
    reasons: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
        "speculative decoding suspected": lambda r: r.spec_decoding == "suspected",
        "no TPOT or no concurrency": lambda r: r.tpot_ms.isna() | r.concurrency_or_qps.isna(),
        "data-parallel attention (no such layout here)": lambda r: r.dp_attention.astype(str) == "True",
        "marked work in progress by its authors": lambda r: r.notes.astype(str).str.contains(
            "work in progress"
        ),
    }
    left_out = {}
    for reason, applies in reasons.items():
        out = applies(rows)
        left_out[reason] = int(out.sum())
        rows = rows[~out]
    return _described(rows).reset_index(drop=True), left_out


def _described(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with what the simulation needs to know, in the product's words."""
    tp, ep = rows.tp.astype(int), rows.ep.fillna(1).astype(int)
    low = rows.model.str.startswith("gpt-oss") | rows.precision.isin(["fp8", "fp4"])
    blackwell = rows.gpu.isin(["B200", "B300", "GB200", "GB300"])
    narrow = low & ((rows.engine == "TensorRT-LLM") | ((rows.engine == "vLLM") & blackwell))
    actual = rows.notes.astype(str).str.extract(r"mean actual lengths (\d+)/(\d+)").astype(float)
    return rows.assign(
        model_id=rows.model.str.lower().replace({"deepseek-v3.1": "deepseek-v3"}),
        accelerator_id=rows.gpu.str.lower(),
        tp=tp,
        ep=ep,
        replicas=(rows.n_gpus / tp).fillna(1).astype(int),
        clients=rows.concurrency_or_qps.astype(int),
        weight_dtype=[_weight_dtype(*pair) for pair in zip(rows.model, rows.precision, strict=True)],
        kv_dtype=np.where(narrow, "fp8", "bf16"),
        policy=np.where(rows.engine == "SGLang", "prefill_first", "chunked"),
        drawn=rows.length_note.astype(str).str.startswith("range 0.8"),
        burst=rows.notes.astype(str).str.contains("one burst"),
        prompt=actual[0].fillna(rows.isl),
        output=actual[1].fillna(rows.osl),
    )


def _weight_dtype(model: str, precision: Any) -> str:
    """Return the weight precision of a row; an unknown label is an error, never a guess."""
    if pd.isna(precision) or model.startswith("gpt-oss"):
        return "native"
    if precision not in DTYPES:
        raise SystemExit(f"{model}: unknown precision {precision!r}; say what it means in _weight_dtype.")
    return precision


def scenario_of(row: Any) -> Scenario:
    """Return the scenario of one measured row."""
    return Scenario(
        model=row.model_id,
        accelerator=row.accelerator_id,
        tensor_parallel=row.tp,
        expert_parallel=row.ep,
        weight_dtype=row.weight_dtype,
        kv_dtype=row.kv_dtype,
        max_batch=row.clients,
        token_budget=TOKEN_BUDGET,
        kv_memory_frac=KV_MEMORY_FRAC,
        policy=row.policy,
    )


# --- the simulation of all rows -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measured rows with all that does not depend on the constants."""

    rows: pd.DataFrame
    work: work.Work  # each field a column, shape (rows, 1)
    traffic: list[tuple[np.ndarray, np.ndarray]]
    kv_blocks: np.ndarray
    windows: np.ndarray

    def part(self, chosen: np.ndarray) -> Bench:
        """Return the bench of some rows."""
        places = np.flatnonzero(chosen)
        return Bench(
            self.rows.iloc[places].reset_index(drop=True),
            work.Work(*(column[places] for column in self.work)),
            [self.traffic[i] for i in places],
            self.kv_blocks[places],
            self.windows[places],
        )


def bench_of(rows: pd.DataFrame) -> Bench:
    """Return the bench of measured rows; a row without room for one request has no KV blocks."""
    works, blocks, windows = [], [], []
    for row in rows.itertuples():
        scenario = scenario_of(row)
        model, accelerator = model_of(scenario), accelerator_of(scenario)
        works.append(work.work(model, accelerator, work.layout_of(scenario)))
        held = cost.memory(scenario)["kv_tokens"] // scenario.kv_block_tokens
        needed = -(-(row.prompt + row.output) // scenario.kv_block_tokens)
        blocks.append(held if held >= needed else 0)
        windows.append(model.window_tokens if model.window_layers else 0)
    columns = [np.array(column)[:, None] for column in zip(*works, strict=True)]
    traffic = [_traffic(row) for row in rows.itertuples()]
    return Bench(rows, work.Work(*columns), traffic, np.array(blocks, int), np.array(windows, int))


def _traffic(row: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return prompt and output lengths of a row's requests: drawn between 80% and 100%, or all equal."""
    count = row.clients if row.burst else row.clients * REQUESTS_PER_CLIENT
    share = np.ones((2, count))
    if row.drawn:
        share = np.random.default_rng(SEED).uniform(0.8, 1.0, (2, count))
    prompt, output = np.round(share * [[row.prompt], [row.output]]).astype(np.int64)
    return np.maximum(prompt, 1), np.maximum(output, 2)


def predict(bench: Bench, constants: Constants, smooth: bool = True) -> np.ndarray:
    """Return mean TTFT [s], mean TPOT [s] and output tokens per second of each row, shape (rows, 3)."""
    out = np.empty((len(bench.rows), 3))
    steps = step_costs(bench.work, bench.windows, bench.rows.clients, constants, smooth)
    for i, (row, step) in enumerate(zip(bench.rows.itertuples(), steps, strict=True)):
        out[i] = _closed_loop(row, step, bench, i, constants)
    return out


def _closed_loop(row: Any, step: StepCost, bench: Bench, i: int, constants: Constants) -> tuple[float, ...]:
    """Return mean TTFT and TPOT [s] and output tokens per second of one row's closed loop."""
    prompt, output = bench.traffic[i]
    before_s, after_s = constants.request_before_s, constants.request_after_s
    result = run_engine(
        step,
        np.full(prompt.size, before_s),
        prompt,
        output,
        policy=row.policy,
        max_running=row.clients,
        token_budget=TOKEN_BUDGET,
        kv_blocks=int(bench.kv_blocks[i]),
        kv_block_tokens=16,
        concurrency=row.clients,
        turnaround_s=before_s + after_s,
        replicas=row.replicas,
    )
    ttft_s = result.first_token_s - result.arrival_s + before_s + after_s
    tpot_s = (result.finished_s - result.first_token_s) / (output - 1)
    return ttft_s.mean(), tpot_s.mean(), output.sum() / (result.finished_s.max() + after_s)


# --- what is physically possible ------------------------------------------------------------------


def usable(bench: Bench) -> tuple[np.ndarray, dict[str, int], list[str]]:
    """Return which rows could have happened, how many could not and why, and their ids.

    A row is impossible if the same loop at datasheet speed is slower in TPOT or from start to end: then
    something else was measured (prompts served from a prefix cache, a smaller batch, another precision).
    Where most rows of a campaign are impossible, its others are not trusted either.
    """
    fits = bench.kv_blocks > 0
    floor = np.full((len(bench.rows), 3), np.nan)
    floor[fits] = predict(bench.part(fits), calibration("datasheet").base, smooth=False)
    rows = bench.rows
    measured_ms = rows.ttft_ms + (rows.output - 1) * rows.tpot_ms
    floor_ms = 1e3 * (floor[:, 0] + (rows.output - 1) * floor[:, 1])
    impossible = (rows.tpot_ms < 1e3 * floor[:, 1]) | (measured_ms < floor_ms)
    campaign = [rows.model, rows.gpu, rows.engine, rows.weight_dtype, rows.burst]
    doubtful = impossible | (impossible.groupby(campaign).transform("mean") > 0.5)
    counts = {
        "weights and one request do not fit the memory": int((~fits).sum()),
        "faster than the datasheet allows": int(impossible.sum()),
        "of a campaign that is mostly so": int((doubtful & ~impossible).sum()),
    }
    return np.asarray(fits & ~doubtful), counts, rows.row_id[impossible].tolist()


def beyond(rows: pd.DataFrame) -> np.ndarray:
    """Return for each row why it is predicted but not fitted, or an empty text."""
    text = np.full(len(rows), "", dtype=object)
    text[rows.burst] = "one burst of 100 requests"
    text[rows.model == "GLM-5"] = "GLM-5 (sparse attention, not modelled)"
    text[rows.model.str.startswith("Qwen3.5")] = "Qwen3.5 (linear attention, not modelled)"
    return text


# --- the fit --------------------------------------------------------------------------------------


def free_names(chosen: Calibration) -> list[str]:
    """Return the constants to be fitted: those whose bounds leave room."""
    return [constant.name for constant in chosen.constants if constant.low < constant.high]


def with_position(chosen: Calibration, position: np.ndarray) -> Calibration:
    """Return a calibration with its free constants placed between their bounds (0 = low, 1 = high)."""
    places = dict(zip(free_names(chosen), position, strict=True))
    constants, base = [], {}
    for constant in chosen.constants:
        if constant.name in places:
            value = constant.low + places[constant.name] * (constant.high - constant.low)
            constant = dataclasses.replace(constant, value=float(f"{value:.4g}"))
        constants.append(constant)
        field = f"{constant.name}_s" if constant.unit in ("us", "ms") else f"{constant.name}_{constant.unit}"
        base[field] = constant.value * UNITS[constant.unit]
    return dataclasses.replace(chosen, constants=tuple(constants), base=Constants(**base))


def fit(bench: Bench, bounds: Calibration, evaluations: int) -> Calibration:
    """Return the calibration that fits a bench best, from the middle of all bounds: no fit knows another."""
    from scipy.optimize import least_squares

    def residuals(position: np.ndarray) -> np.ndarray:
        out = predict(bench, with_position(bounds, position).base)
        tpot = np.log(1e3 * out[:, 1] / bench.rows.tpot_ms.to_numpy())
        ttft = np.log(1e3 * out[:, 0] / bench.rows.ttft_ms.to_numpy())
        return np.concatenate([tpot / TPOT_SCALE, ttft / TTFT_SCALE])

    found = least_squares(
        residuals,
        np.full(len(free_names(bounds)), 0.5),
        bounds=(0.0, 1.0),
        loss="soft_l1",
        diff_step=0.02,
        max_nfev=evaluations,
        xtol=1e-4,
        ftol=1e-4,
    )
    return with_position(bounds, found.x)


def held_out(bench: Bench, chosen: Calibration, key: str, evaluations: int) -> np.ndarray:
    """Return predictions of each row by a fit that has not seen the row's group (accelerator or model)."""
    out = np.full((len(bench.rows), 3), np.nan)
    for group, count in bench.rows[key].value_counts().items():
        if count < FEWEST_ROWS_HELD_OUT:
            continue
        inside = (bench.rows[key] == group).to_numpy()
        blind = fit(bench.part(~inside), chosen, evaluations)
        out[inside] = predict(bench.part(inside), blind.base)
        print(f"  without {group}: {score(bench.rows[inside], out[inside])}", flush=True)
    return out


# --- the report -----------------------------------------------------------------------------------


def score(rows: pd.DataFrame, out: np.ndarray) -> dict[str, float]:
    """Return absolute errors in percent, medians unless said, and the rank correlation of TPOT.

    Throughput is compared with the measured one, or where the source gives none, both sides as
    clients x output / (TTFT + (output - 1) x TPOT).
    """
    known = ~np.isnan(out[:, 1])
    rows, out = rows[known], out[known]
    tpot = 1e3 * out[:, 1] / rows.tpot_ms - 1
    ttft = 1e3 * out[:, 0] / rows.ttft_ms - 1
    return {
        "rows": len(rows),
        "tpot_pct": round(100 * float(tpot.abs().median()), 1),
        "tpot_mean_pct": round(100 * float(tpot.abs().mean()), 1),
        "tpot_bias_pct": round(100 * float(tpot.median()), 1),
        "ttft_pct": round(100 * float(ttft.abs().median()), 1),
        "ttft_drawn_lengths_pct": round(100 * float(ttft[rows.drawn].abs().median()), 1),
        "throughput_pct": round(100 * float(_throughput_error(rows, out).median()), 1),
        "rank": round(_rank(rows, out), 3),
    }


def _throughput_error(rows: pd.DataFrame, out: np.ndarray) -> pd.Series:
    def steady(ttft_s: Any, tpot_s: Any) -> Any:
        return rows.clients * rows.output / (ttft_s + (rows.output - 1) * tpot_s)

    derived = steady(out[:, 0], out[:, 1]) / steady(rows.ttft_ms / 1e3, rows.tpot_ms / 1e3)
    return (out[:, 2] / rows.output_tok_s_total).fillna(derived).sub(1).abs()


def _rank(rows: pd.DataFrame, out: np.ndarray) -> float:
    """Return the median rank correlation of TPOT within rows of one model and one pair of lengths."""
    table = rows.assign(predicted=out[:, 1])
    found = [
        group.predicted.rank().corr(group.tpot_ms.rank())
        for _, group in table.groupby(["model", "isl", "osl"])
        if len(group) >= 8
    ]
    return float(np.median(found)) if found else float("nan")


def score_by(rows: pd.DataFrame, out: np.ndarray, key: Any) -> dict[str, dict[str, float]]:
    """Return the scores of groups of rows, fewer figures each."""
    keep = ("rows", "tpot_pct", "tpot_bias_pct", "ttft_pct", "throughput_pct")
    groups = pd.Series(np.asarray(rows[key] if isinstance(key, str) else key), index=rows.index)
    tables = {}
    for name in sorted(set(groups) - {""}):
        inside = (groups == name).to_numpy()
        tables[name] = {k: v for k, v in score(rows[inside], out[inside]).items() if k in keep}
    return tables


def toml_of(chosen: Calibration) -> str:
    """Return a calibration as TOML."""
    lines = [
        f'title = "{chosen.title}"',
        f'description = "{chosen.description}"',
        f'date = "{chosen.date}"',
        f'data = "{chosen.data}"',
        f"smooth = {'true' if chosen.smooth else 'false'}  # (a^4 + b^4)^(1/4) of compute and memory time",
    ]
    for constant in chosen.constants:
        lines += ["", "[[constants]]"]
        for field, value in dataclasses.asdict(constant).items():
            lines.append(f"{field} = {_toml_value(value)}")
    for table, entries in chosen.errors.items():
        lines += ["", f"[errors.{table}]"]
        for name, value in entries.items():
            if isinstance(value, dict):
                inner = ", ".join(f"{key} = {_toml_value(figure)}" for key, figure in value.items())
                lines.append(f'"{name}" = {{ {inner} }}')
            else:
                lines.append(f'"{name}" = {_toml_value(value)}')
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:.15g}"


def main(arguments: list[str] | None = None) -> None:
    """Fit, cross-validate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="table of measurements (CSV)")
    parser.add_argument("--evaluations", type=int, default=12, help="most steps of a fit; 0 only scores")
    parser.add_argument("--folds", action="store_true", help="also fit without each accelerator and model")
    parser.add_argument("--write", action="store_true", help="write presets/calibrations/typical.toml")
    options = parser.parse_args(arguments)
    if not options.reference.is_file():
        sys.exit(f"{options.reference} is not there: give the table of measurements with --reference.")
    started = time.perf_counter()
    rows, left_out = read_rows(options.reference)
    every = bench_of(rows)
    possible, impossible, ids = usable(every)
    why = beyond(rows)
    bench = every.part(possible & (why == ""))
    print(f"{len(bench.rows)} rows to fit; left out: {left_out | impossible}\nfaster than possible: {ids}")
    chosen = calibration("typical")
    if options.evaluations:
        chosen = fit(bench, chosen, options.evaluations)
        print(f"fitted in {time.perf_counter() - started:.0f} s")
    errors = report(bench, chosen, options.evaluations if options.folds else 0)
    outside = every.part(possible & (why != ""))
    errors["not_fitted"] = score_by(outside.rows, predict(outside, chosen.base), why[possible & (why != "")])
    errors["left_out"] = left_out | impossible
    for name, table in errors.items():
        print(f"\n{name}\n{pd.DataFrame(table).T.to_string() if name != 'left_out' else table}")
    print({constant.name: constant.value for constant in chosen.constants})
    print(f"{time.perf_counter() - started:.0f} s in all")
    if options.write:
        write(chosen, errors, len(bench.rows))


def report(bench: Bench, chosen: Calibration, folds: int) -> dict[str, Any]:
    """Return the error tables of a calibration; `folds` is the length of each held-out fit, 0 = none."""
    out = predict(bench, chosen.base)
    ideal = predict(bench, calibration("datasheet").base, smooth=False)
    overall = {"in sample": score(bench.rows, out)}
    if folds:
        for key, name in (("gpu", "one accelerator left out"), ("model", "one model left out")):
            overall[name] = score(bench.rows, held_out(bench, chosen, key, folds))
    overall["datasheet calibration"] = score(bench.rows, ideal)
    return {
        "overall": overall,
        "by_model": score_by(bench.rows, out, "model"),
        "by_accelerator": score_by(bench.rows, out, "gpu"),
        "by_engine": score_by(bench.rows, out, "engine"),
    }


def write(chosen: Calibration, errors: dict[str, Any], rows: int) -> None:
    """Write the fitted calibration with its errors."""
    data = (
        f"{rows} closed-loop runs on H100, H200, B200, B300 and GB200 from ai-dynamo/aiconfigurator "
        "(silicon_sample.csv: InferenceX runs and the vendor's own)"
    )
    today = datetime.date.today().isoformat()
    finished = dataclasses.replace(chosen, date=today, data=data, errors=errors)
    (CALIBRATIONS / "typical.toml").write_text(toml_of(finished), encoding="utf-8")


if __name__ == "__main__":
    main()
