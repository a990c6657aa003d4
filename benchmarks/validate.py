"""Choose the project's table of published operating points, and cross-validate on it; development only.

    python -m benchmarks.validate ../shared/reference             # scores all usable rows of the full tables
    python -m benchmarks.validate ../shared/reference --choose    # writes measured.csv and about.toml
    python -m benchmarks.validate ../shared/reference --fit       # fits typical.toml
    python -m benchmarks.validate ../shared/reference --folds     # fits without each group: folds.toml
    python -m benchmarks.validate ../shared/reference --blind     # predicts rows unseen: blind.csv

The folder holds `measured_serving.csv` and `mlperf_llm_results.csv`; everything is written to `presets`. What
a row needs to be used, and how rows are chosen, is said in `usable` and `choose`. `--fit` takes two minutes,
`--folds` ten. After every change of the cost model, of a bound or of the assumptions in
`sim_core.evidence.predicted`, repeat `--folds --fit --blind`. A fold knows nothing of the constants in
`typical.toml`, only their bounds; after `--fit` alone, `--blind` is enough.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import math
import re
import time
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from benchmarks.fingerprint import fingerprint
from sim_core import catalogue
from sim_core.catalogue.calibrations import CALIBRATIONS, Calibration, Constant, Constants, calibration
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence import published as measured
from sim_core.evidence.errors import METRICS
from sim_core.evidence.predicted import Bench, bench_of, predict, predict_pools
from sim_core.evidence.published import NOT_STATED, PublishedPoint

FEWEST_HELD_OUT = 10
CELL_ROWS = 3  # rows chosen of one campaign and pair of lengths
MOST_PER_CAMPAIGN = {"closed": 8, "burst": 2, "batch": 2, "offline": 2, "prefill": 1, "server": 1, "split": 8}
MOST_NOT_MODELLED = 3
RULE = (
    "They are chosen by rule, not by error. Points form campaigns (kind of run, model, accelerator, "
    "engine, precision), and within them to cells (lengths, parallelism). Of each cell the points of fewest, "
    "middle and most clients are taken, the newest where one was measured more than once. Of each campaign "
    "so many are taken, evenly spread over its cells: {closed} closed loops, {split} disaggregated ones, "
    "{batch} batches, {offline} offline runs, {burst} bursts, {prefill} prefill, {server} MLPerf entry."
)
EVALUATIONS = 10
TPOT_SCALE = 0.12  # log error at which the loss turns from squared to absolute
TTFT_SCALE = 1.2
KINDS = {
    "closed-loop concurrency": "closed",
    "static batch end-to-end latency": "batch",
    "offline max throughput": "offline",
    "static batch (in-flight) throughput": "offline",
    "first token latency, batch 1": "prefill",
}
SOURCES = {
    "ai-dynamo/aiconfigurator": "aiconfigurator",
    "argonne-lcf/LLM-Inference-Bench": "argonne",
    "NVIDIA/TensorRT-LLM docs as of 2024-05": "tensorrt-llm-2024",
    "NVIDIA/TensorRT-LLM": "tensorrt-llm",
    "ROCm/vllm": "rocm-vllm",
    "SemiAnalysisAI/InferenceX": "inferencex",
    "Scicom-AI-Enterprise-Organization/llm-benchmaxxing": "llm-benchmaxxing",
    "sariekr/gpu_conc": "gpu-conc",
}
RANKED = 5  # rows that a rank correlation needs
LABELS = {"INT8": "", "UNSET": "", "mxfp4": "fp4", "MXFP4": "fp4"}


# --- the full tables as points --------------------------------------------------------------------


def read_serving(path: Path) -> tuple[list[PublishedPoint], dict[str, int]]:
    """Return the rows of the table of serving runs as points, and how many were left out for which reason."""
    rows = pd.read_csv(path, low_memory=False, dtype={"date": str})
    kind = rows.metric_kind.map(KINDS)
    notes = rows.notes.astype(str)
    wide = rows["mode"].ne("disagg")
    known = rows.model.map(_model_id).isin(catalogue.preset_ids("models"))
    known &= rows.gpu.str.lower().isin(catalogue.preset_ids("accelerators"))
    workers = ["prefill_workers", "prefill_gpus_per_worker", "decode_workers", "decode_gpus_per_worker"]
    stated = rows[workers].gt(0).all(axis=1)
    latency = rows.tpot_ms_unspecified.fillna(rows.tpot_ms_mean).fillna(rows.tpot_ms_p50)
    reasons = {
        "model or accelerator without a preset": ~known,
        "the source does not say what its figure counts": kind.isna(),
        "speculative decoding suspected": rows.spec_decoding.eq("suspected"),
        "marked work in progress by its authors": notes.str.contains("work in progress"),
        "one replica on more than one node": rows["mode"].eq("multi-node"),
        "data-parallel attention (no such layout here)": rows.dp_attention.astype(str).eq("True"),
        "pipeline parallelism (no such layout here)": rows.pp.gt(1) & wide,
        "two pools, but not how many workers of how many devices": ~wide & ~stated,
        "no TPOT or no concurrency": kind.eq("closed") & (latency.isna() | rows.concurrency_or_qps.isna()),
    }
    keep = pd.Series(True, rows.index)
    left_out = {}
    for reason, out in reasons.items():
        left_out[reason] = int((keep & out).sum())
        keep &= ~out
    return [_serving_point(row, kind[row.Index]) for row in rows[keep].itertuples()], left_out


def _model_id(name: str) -> str:
    return name.lower().replace("deepseek-v3.1", "deepseek-v3")


def _serving_point(row: Any, traffic: str) -> PublishedPoint:
    """Return one row of the table as a point."""
    notes = str(row.notes)
    actual = re.search(r"mean actual lengths (\d+)/(\d+)", notes)
    prompt, output = map(int, actual.groups()) if actual else (int(row.isl), int(row.osl))
    split = row.mode == "disagg"
    if "one burst" in notes:
        traffic = "burst"
    source, entry = _citation(str(row.source))
    tp = 0 if split else int(row.tp)
    unspecified = [row.ttft_ms_unspecified, row.tpot_ms_unspecified]
    statistic = NOT_STATED if _any(unspecified) else "mean"
    if statistic == "mean" and math.isnan(row.tpot_ms_mean) and not math.isnan(row.tpot_ms_p50):
        statistic = "median"
    clients = row.concurrency_or_qps
    return PublishedPoint(
        id=row.row_id,
        traffic=traffic,
        pools="split" if split else "one",
        date=_date(str(row.date)),
        engine=row.engine,
        engine_version=_text(row.engine_version),
        model=_model_id(row.model),
        accelerator=row.gpu.lower(),
        devices=0 if math.isnan(row.n_gpus) else int(row.n_gpus),
        tensor_parallel=tp,
        expert_parallel=_count(row.ep, 1),
        prefill_workers=int(row.prefill_workers) if split else 0,
        prefill_devices=int(row.prefill_gpus_per_worker) if split else 0,
        decode_workers=int(row.decode_workers) if split else 0,
        decode_devices=int(row.decode_gpus_per_worker) if split else 0,
        precision=_text(row.precision),
        prompt_tokens=prompt,
        output_tokens=output,
        lengths="80-100%" if str(row.length_note).startswith("range 0.8") else "fixed",
        clients=int(clients) if math.isfinite(clients) else 0,
        arrival_per_s=math.nan,
        ttft_ms=_first(row.ttft_ms_unspecified, row.ttft_ms_mean, row.ttft_ms_p50),
        tpot_ms=_first(row.tpot_ms_unspecified, row.tpot_ms_mean, row.tpot_ms_p50),
        output_tok_per_s=row.output_tok_s_total if traffic != "prefill" else math.nan,
        statistic=statistic,
        source=source,
        entry=entry,
        note="actual mean lengths" if actual else "",
    )


def _citation(text: str) -> tuple[str, str]:
    """Return the id of a source, and where in it a row stands."""
    for prefix, name in SOURCES.items():
        if text.startswith(prefix):
            rest = text.removeprefix(prefix).lstrip(" :")
            where, _, row = text.rpartition(", id ")
            place = re.search(r"\), (.*)$|: (.*)$", text)
            entry = f"id {row}" if where else next(filter(None, place.groups()), rest) if place else rest
            return name, entry.replace("), ", ", ")
    raise SystemExit(f"no source is known for {text!r}; add it to SOURCES and sources.toml.")


def _date(text: str) -> str:
    if text == "nan":
        return NOT_STATED
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if re.fullmatch(r"\d{8}", text) else text


def _text(value: Any) -> str:
    return NOT_STATED if pd.isna(value) else str(value)


def _count(value: float, otherwise: int) -> int:
    return otherwise if math.isnan(value) else int(value)


def _any(values: Iterable[float]) -> bool:
    return any(not math.isnan(value) for value in values)


def _first(*values: float) -> float:
    return next((float(value) for value in values if not math.isnan(value)), math.nan)


def read_mlperf(path: Path) -> list[PublishedPoint]:
    """Return MLPerf Server and Interactive runs with latencies: closed division, one node, each once."""
    rows = pd.read_csv(path, low_memory=False)
    rows["benchmark"] = rows.model.str.replace(r"-99(\.9)?$", "", regex=True)
    keep = rows.division.eq("closed") & rows.scenario.isin(["Server", "Interactive"])
    keep &= rows.scheduled_samples_per_s.gt(0) & rows.ttft_ms_mean.gt(0) & rows.tpot_ms_mean.gt(0)
    keep &= rows.gpu.fillna("").str.lower().isin(catalogue.preset_ids("accelerators"))
    keep &= rows.benchmark.isin(catalogue.preset_ids("benchmarks")) & rows.accelerators_total.le(8)
    rows["label"] = rows.weight_dtype.replace(LABELS)
    keep &= rows.label.isin(["fp8", "fp4"]) & rows.run_valid.eq("VALID")
    rows = rows[keep].drop_duplicates(["round", "submitter", "system", "benchmark", "scenario", "result"])
    return [_mlperf_point(row) for row in rows.itertuples()]


def _mlperf_point(row: Any) -> PublishedPoint:
    bench = catalogue.benchmark(row.benchmark)
    place = row.entry_id if isinstance(row.entry_id, str) else row.source_path
    return PublishedPoint(
        id=f"M{row.Index:05d}",
        traffic="server",
        pools="one",
        date=f"MLPerf {row.round}",
        engine="MLPerf entry",
        engine_version=_text(row.framework),
        model=bench.model,
        accelerator=row.gpu.lower(),
        devices=int(row.accelerators_total),
        tensor_parallel=0,
        expert_parallel=0,
        prefill_workers=0,
        prefill_devices=0,
        decode_workers=0,
        decode_devices=0,
        precision=row.label,
        prompt_tokens=round(bench.prompt_tokens_mean),
        output_tokens=round(bench.measured_output_tokens_mean),
        lengths=bench.workload,
        clients=0,
        arrival_per_s=row.scheduled_samples_per_s,
        ttft_ms=row.ttft_ms_mean,
        tpot_ms=row.tpot_ms_mean,
        output_tok_per_s=math.nan,
        statistic="mean",
        source=f"mlperf-{row.round}",
        entry=f"{row.round}, closed division, {row.benchmark}, {row.scenario}, {row.submitter}, "
        f"{row.system}, entry {place}",
        note="",
    )


# --- which rows can be believed -------------------------------------------------------------------


def possible(bench: Bench) -> np.ndarray:
    """Return which points the datasheet allows and fit their devices.

    A point is impossible if the same run at datasheet speed is slower in TPOT, from start to end, or in
    throughput: then something else was measured (a prefix cache, another precision). Where most points of a
    campaign are impossible, its others are not trusted either.
    """
    chosen = calibration("datasheet")
    floor = predict(bench, chosen.base, chosen.smooth)
    seen = evidence_errors.measured(bench.points)
    output = np.array([point.output_tokens for point in bench.points])
    whole = seen[:, 0] + (output - 1) * seen[:, 1] < floor[:, 0] + (output - 1) * floor[:, 1]
    wrong = (seen[:, 1] < floor[:, 1]) | (seen[:, 0] < 0) | whole | (seen[:, 2] > floor[:, 2])
    table = pd.DataFrame({"key": [campaign(point) for point in bench.points], "wrong": wrong})
    doubtful = table.groupby("key")["wrong"].transform("mean").gt(0.5).to_numpy()
    return np.array(bench.kv_blocks, bool) & ~wrong & ~doubtful


def not_too_fast(split: Sequence[PublishedPoint]) -> np.ndarray:
    """Return which points of two pools fit, and have a TPOT that the datasheet allows."""
    floor = predict_pools(split, "datasheet")
    return evidence_errors.measured(split)[:, 1] >= floor[:, 1]


def campaign(point: PublishedPoint) -> tuple:
    """Return what the points of one series of measurements have in common."""
    kind = "split" if point.pools == "split" else point.traffic
    return kind, point.model, point.accelerator, point.engine, point.precision


# --- the rule of choice ---------------------------------------------------------------------------


def choose(points: Sequence[PublishedPoint]) -> list[PublishedPoint]:
    """Return the points of the table by rule, not by hand: no error is looked at.

    Points are grouped to campaigns (kind of run, model, accelerator, engine, precision) and within them to
    cells (lengths, tensor and expert parallelism). Of each cell the points of fewest, middle and most clients
    are taken, the newest where a point was measured more than once; of each campaign, cells are taken in
    the order of their lengths, spread evenly, up to `MOST_PER_CAMPAIGN` points.
    """
    campaigns: dict[tuple, dict[tuple, list[PublishedPoint]]] = {}
    for point in points:
        cell = (point.prompt_tokens, point.output_tokens, point.tensor_parallel, point.expert_parallel)
        cell += (point.replicas, point.lengths, point.prefill_devices, point.decode_devices)
        campaigns.setdefault(campaign(point), {}).setdefault(cell, []).append(point)
    found = []
    for key in sorted(campaigns):
        cells = [_ends_and_middle(cell) for _, cell in sorted(campaigns[key].items())]
        most = MOST_PER_CAMPAIGN[key[0]]
        if cells[0][0].status == measured.NOT_MODELLED:
            most = min(most, MOST_NOT_MODELLED)
        found += _spread([point for cell in cells for point in cell], most)
    return sorted(found, key=lambda point: point.id)


def _ends_and_middle(cell: list[PublishedPoint]) -> list[PublishedPoint]:
    newest: dict[tuple, PublishedPoint] = {}
    for point in sorted(cell, key=lambda point: (point.date, point.id)):
        newest[point.clients, round(point.arrival_per_s, 6) if point.arrival_per_s > 0 else 0] = point
    return _spread([newest[key] for key in sorted(newest)], CELL_ROWS)


def _spread(items: list[PublishedPoint], most: int) -> list[PublishedPoint]:
    """Return at most so many of the items, evenly spread from the first to the last."""
    if len(items) <= most:
        return items
    places = np.unique(np.round(np.linspace(0, len(items) - 1, most)).astype(int))
    return [items[place] for place in places]


def csv_of(points: Sequence[PublishedPoint]) -> str:
    """Return points as `measured.csv` holds them; numbers as the source prints them, to 6 digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(PublishedPoint._fields)
    for point in points:
        writer.writerow([_cell(key, value) for key, value in point._asdict().items()])
    return out.getvalue()


def _cell(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value == 0 or math.isnan(value) else f"{value:.8g}"


# --- the fit of the typical calibration -----------------------------------------------------------


def free_names(chosen: Calibration) -> list[str]:
    """Return the constants to be fitted: those whose bounds leave room."""
    return [item.name for item in chosen.constants if item.low < item.high and item.value is not None]


def with_position(chosen: Calibration, position: np.ndarray) -> Calibration:
    """Return a calibration with its free constants placed between their bounds (0 = low, 1 = high)."""
    places = dict(zip(free_names(chosen), position, strict=True))
    constants = tuple(
        dataclasses.replace(item, value=_between(item, places[item.name])) if item.name in places else item
        for item in chosen.constants
    )
    return with_values(chosen, constants)


def _between(constant: Constant, place: float) -> float:
    return float(f"{constant.low + place * (constant.high - constant.low):.4g}")


def with_values(chosen: Calibration, constants: tuple[Constant, ...]) -> Calibration:
    """Return a calibration with other constants."""
    base = Constants(**{item.field: item.base for item in constants})
    return dataclasses.replace(chosen, constants=constants, base=base)


def fit(bench: Bench, evaluations: int) -> dict[str, float]:
    """Return the constants that fit a bench best, in the calibration's units.

    Every constant is global and bounded to its physical range; nothing is fitted per row, model, device or
    engine. The robust loss (soft L1 of log errors) keeps odd runs from pulling; TTFT weighs less, because it
    holds the history of a run: where all lengths are equal, requests march in waves. Every fit starts in the
    middle of the bounds, so a fit that leaves rows out knows nothing of them.
    """
    from scipy.optimize import least_squares

    bounds, seen = calibration("typical"), evidence_errors.measured(bench.points)

    def residuals(position: np.ndarray) -> np.ndarray:
        error = np.log(predict(bench, with_position(bounds, position).base) / seen)
        return np.concatenate([error[:, 1] / TPOT_SCALE, error[:, 0] / TTFT_SCALE])

    start = np.full(len(free_names(bounds)), 0.5)
    found = least_squares(residuals, start, bounds=(0.0, 1.0), loss="soft_l1", diff_step=0.02,
                          max_nfev=evaluations, xtol=1e-4, ftol=1e-4)  # fmt: skip
    fitted = with_position(bounds, found.x).constants
    return {item.name: item.value for item in fitted if item.name in free_names(bounds)}


def write_typical(one: Sequence[PublishedPoint], left_out: dict[str, int]) -> None:
    """Fit `typical` to all usable closed loops, and write it with its errors."""
    points = [point for point in one if point.fitted]
    bench = bench_of(points)
    values = fit(bench, EVALUATIONS)
    chosen = calibration("typical")
    constants = tuple(
        dataclasses.replace(item, value=values.get(item.name, item.value)) for item in chosen.constants
    )
    parts = sorted({catalogue.accelerator(point.accelerator).name for point in points})
    data = (
        f"{len(points)} closed-loop runs on {', '.join(parts[:-1])} and {parts[-1]} from "
        "ai-dynamo/aiconfigurator (silicon_sample.csv: InferenceX runs and the vendor's own)"
    )
    found = dataclasses.replace(
        chosen, constants=constants, base=base_of(values), date=str(datetime.date.today()), data=data,
        errors=typical_errors(one, bench, values, left_out),
    )  # fmt: skip
    (CALIBRATIONS / "typical.toml").write_text(toml_of(found), encoding="utf-8")


def typical_errors(
    one: Sequence[PublishedPoint], bench: Bench, values: dict[str, float], left_out: dict[str, int]
) -> dict[str, Any]:
    """Return the error tables of fitted constants: over all, by groups, and of runs that no fit uses."""
    folds = tomllib.loads((measured.FOLDER / "folds.toml").read_text(encoding="utf-8"))
    predicted = predict(bench, base_of(values))
    overall = {"in sample": _scores(bench.points, predicted)}
    for kind in ("accelerator", "model"):
        unseen = np.full((len(bench.points), 3), np.nan)
        for name, fold in folds[kind].items():
            inside = np.array([getattr(point, kind) == name for point in bench.points])
            unseen[inside] = predict(bench.part(inside), base_of(fold["constants"]))
        overall[f"one {kind} left out"] = _scores(bench.points, unseen)
    ideal = predict(bench, calibration("datasheet").base, smooth=False)
    overall["datasheet calibration"] = _scores(bench.points, ideal)
    rest = [point for point in one if point.traffic in ("closed", "burst") and not point.fitted]
    rest_bench = bench_of(rest)
    reasons = [
        point.status or (point.traffic if point.traffic == "burst" else "erratic version") for point in rest
    ]
    return {
        "overall": overall,
        "by_model": _by_group(bench.points, predicted, [catalogue.model(p.model).name for p in bench.points]),
        "by_accelerator": _by_group(
            bench.points, predicted, [catalogue.accelerator(p.accelerator).name for p in bench.points]
        ),
        "by_engine": _by_group(bench.points, predicted, [p.engine for p in bench.points]),
        "not_fitted": _by_group(rest, predict(rest_bench, base_of(values)), reasons),
        "left_out": {reason: count for reason, count in left_out.items() if count},
    }


def _scores(points: Sequence[PublishedPoint], predicted: np.ndarray) -> dict[str, float]:
    """Return rows, median absolute errors and biases in percent, and the rank correlation of TPOT."""
    known = np.isfinite(predicted[:, 1])
    chosen, found = [point for point, ok in zip(points, known, strict=True) if ok], predicted[known]
    ratio = evidence_errors.ratios(chosen, found)
    scores: dict[str, float] = {"rows": len(chosen)}
    for index, metric in enumerate(METRICS):
        errors = evidence_errors.errors(ratio[:, index])
        scores |= {
            f"{metric}_pct": round(errors.median_pct, 1), f"{metric}_bias_pct": round(errors.bias_pct, 1)
        }  # fmt: skip
    order = rank(chosen, found[:, 1], evidence_errors.measured(chosen)[:, 1])
    return scores | ({"rank": round(order, 3)} if math.isfinite(order) else {})


def _by_group(
    points: Sequence[PublishedPoint], predicted: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    found = {}
    for name in sorted(set(groups)):
        inside = np.array([group == name for group in groups])
        found[name] = _scores([p for p, ok in zip(points, inside, strict=True) if ok], predicted[inside])
    return found


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
            if value is None:
                continue
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


# --- predictions by fits that have not seen a row --------------------------------------------------


def base_of(values: dict[str, float]) -> Constants:
    """Return constants by name as the formulas take them."""
    chosen = calibration("typical")
    constants = (dataclasses.replace(item, value=values.get(item.name, item.value)) for item in chosen.constants)
    return with_values(chosen, tuple(constants)).base


def write_folds(points: Sequence[PublishedPoint]) -> None:
    """Fit without each accelerator and each model, and write the constants."""
    fitted = [point for point in points if point.fitted]
    bench = bench_of(fitted)
    lines = [
        f"# Constants of fits that have not seen one accelerator or model; {datetime.date.today()}.",
        f"rows = {len(fitted)}",
    ]
    for kind in ("accelerator", "model"):
        names = [getattr(point, kind) for point in fitted]
        for name in sorted(set(names)):
            inside = np.array([other == name for other in names])
            if inside.sum() < FEWEST_HELD_OUT:
                continue
            values = fit(bench.part(~inside), EVALUATIONS)
            part = bench.part(inside)
            ratio = evidence_errors.ratios(part.points, predict(part, base_of(values)))
            medians = {
                f"{metric}_pct": round(evidence_errors.errors(ratio[:, index]).median_pct, 1)
                for index, metric in enumerate(METRICS)
            }
            print(kind, name, int(inside.sum()), medians, flush=True)
            lines += ["", f'[{kind}."{name}"]', f"rows = {int(inside.sum())}"]
            lines += [f"{key} = {value}" for key, value in medians.items()]
            lines += [f"constants.{key} = {value:.15g}" for key, value in values.items()]
    (measured.FOLDER / "folds.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def blind_rows() -> list[dict[str, Any]]:
    """Return ratios predicted / measured of the table's points by constants that have not seen them.

    `unseen` is what was left out of the fit: the point's ``accelerator``, its ``model``, ``all`` of its
    kind, or two ``pools``: rows that no fit has used are predicted with the final constants.
    """
    folds = tomllib.loads((measured.FOLDER / "folds.toml").read_text(encoding="utf-8"))
    points = measured.points()
    fitted = [point for point in points if point.fitted]
    rows = []
    for kind in ("accelerator", "model"):
        for name, fold in folds[kind].items():
            chosen = [point for point in fitted if getattr(point, kind) == name]
            found = predict(bench_of(chosen), base_of(fold["constants"]))
            rows += _blind(chosen, kind, evidence_errors.ratios(chosen, found))
    rest = [point for point in points if point not in set(fitted)]
    for unseen, pools in (("all", "one"), ("pools", "split")):
        chosen = [point for point in rest if point.pools == pools]
        rows += _blind(chosen, unseen, evidence_errors.score(chosen).ratio)
    return rows


def _blind(points: Sequence[PublishedPoint], unseen: str, ratio: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"id": point.id, "unseen": unseen}
        | {
            metric: "" if math.isnan(value) else f"{value:.4g}"
            for metric, value in zip(METRICS, row, strict=True)
        }
        for point, row in zip(points, ratio, strict=True)
    ]


def error_tables(one: Sequence[PublishedPoint]) -> str:
    """Return `errors.toml`: errors over all usable closed loops of the full table, blind and in sample."""
    folds = tomllib.loads((measured.FOLDER / "folds.toml").read_text(encoding="utf-8"))
    fitted = [point for point in one if point.fitted]
    bench = bench_of(fitted)
    lines = [
        f"# Median errors over all {len(fitted)} closed loops of the full table; {datetime.date.today()}.",
        f'fingerprint = "{fingerprint()}"  # of the formulas and constants at that time',
    ]
    for kind in ("model", "accelerator", "none"):
        predicted = np.full((len(fitted), 3), np.nan)
        for name, fold in folds.get(kind, {}).items():
            inside = np.array([getattr(point, kind) == name for point in fitted])
            predicted[inside] = predict(bench.part(inside), base_of(fold["constants"]))
        if kind == "none":
            predicted = predict(bench, calibration("typical").base)
        lines += _error_lines(fitted, predicted, kind)
    return "\n".join(lines) + "\n"


def _error_lines(points: Sequence[PublishedPoint], predicted: np.ndarray, kind: str) -> list[str]:
    ratio = evidence_errors.ratios(points, predicted)
    lines = []
    for family in ("all", *measured.FAMILIES):
        inside = np.array([family in ("all", point.family) for point in points])
        inside &= np.isfinite(ratio[:, 1])
        found = [evidence_errors.errors(ratio[inside, index]) for index in range(3)]
        lines += ["", f"[{kind}.{family}]", f"rows = {int(inside.sum())}"]
        for metric, error in zip(METRICS, found, strict=True):
            lines += [f"{metric}_pct = {error.median_pct:.3g}", f"{metric}_bias_pct = {error.bias_pct:.3g}"]
        chosen = [point for point, ok in zip(points, inside, strict=True) if ok]
        observed = evidence_errors.measured(chosen)[:, 1]
        lines.append(f"rank = {rank(chosen, predicted[inside, 1], observed):.4g}")
    return lines


def rank(points: Sequence[PublishedPoint], predicted: Any, observed: Any) -> float:
    """Return the median rank correlation (Spearman) within groups of one model, lengths and traffic.

    Groups of fewer than `RANKED` rows are left out; NaN if there are no others.
    """
    groups: dict[tuple, list[int]] = {}
    predicted, observed = np.asarray(predicted, float), np.asarray(observed, float)
    for place, point in enumerate(points):
        if np.isfinite(predicted[place]) and np.isfinite(observed[place]):
            key = (point.model, point.prompt_tokens, point.output_tokens, point.lengths, point.traffic)
            groups.setdefault(key, []).append(place)
    found = [
        _spearman(predicted[places], observed[places]) for places in groups.values() if len(places) >= RANKED
    ]
    return float(np.median(found)) if found else math.nan


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of ranks; equal values share their mean rank."""

    def ranks(values: np.ndarray) -> np.ndarray:
        ordered = np.sort(values)
        low, high = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
        return 0.5 * (low + high)

    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / spread if spread else math.nan


def write_blind(one: Sequence[PublishedPoint]) -> None:
    """Write the blind ratios of the table's points, and the errors over all usable ones."""
    (measured.FOLDER / "errors.toml").write_text(error_tables(one), encoding="utf-8")
    out = io.StringIO()
    writer = csv.DictWriter(out, ["id", "unseen", *METRICS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(blind_rows())
    (measured.FOLDER / "blind.csv").write_text(out.getvalue(), encoding="utf-8")


def about_of(
    one: Sequence[PublishedPoint], split: Sequence[PublishedPoint], left_out: dict[str, int], chosen: int
) -> str:
    """Return `about.toml`: how many rows there were, what was left out, and the rule."""
    lines = [
        f"chosen = {chosen}",
        f"usable = {len(one)}  # of one pool",
        f"disaggregated = {len(split)}",
        f'rule = "{RULE.format(**MOST_PER_CAMPAIGN)}"',
        "",
        "[noise]  # the same point measured on two versions of an engine",
        "median_pct = 2",
        "upper_quartile_pct = 28",
        "",
        "[left_out]",
        *(f'"{reason}" = {count}' for reason, count in left_out.items() if count),
    ]
    return "\n".join(lines) + "\n"


# --- the report -----------------------------------------------------------------------------------


def table(points: Sequence[PublishedPoint], ratio: np.ndarray, keys: dict[str, Any]) -> pd.DataFrame:
    """Return median errors of the three metrics by groups of points."""
    rows = []
    for name, of in keys.items():
        groups = np.array([str(of(point)) for point in points])
        for group in sorted(set(groups)):
            row: dict[str, Any] = {"by": name, "group": group}
            for index, metric in enumerate(METRICS):
                found = evidence_errors.errors(ratio[groups == group, index])
                row |= {f"{metric}_n": found.rows, f"{metric}_pct": round(found.median_pct, 1),
                        f"{metric}_bias": round(found.bias_pct, 1)}  # fmt: skip
            rows.append(row)
    return pd.DataFrame(rows)


KEYS = {
    "all": lambda point: "all",
    "traffic": lambda point: point.traffic,
    "family": lambda point: f"{point.traffic} {point.family}",
    "accelerator": lambda point: f"{point.traffic} {point.accelerator}",
    "engine": lambda point: f"{point.traffic} {point.engine}",
}


def usable(folder: Path) -> tuple[list[PublishedPoint], list[PublishedPoint], dict[str, int]]:
    """Return the usable points of one pool, of two, and what was left out for which reason."""
    found, left_out = read_serving(folder / "measured_serving.csv")
    found += read_mlperf(folder / "mlperf_llm_results.csv")
    one = [point for point in found if point.pools == "one"]
    bench = bench_of(one)
    good = possible(bench)
    fits = np.array(bench.kv_blocks, bool)
    left_out["weights and one request do not fit the memory"] = int((~fits).sum())
    split = [point for point in found if point.pools == "split"]
    allowed = not_too_fast(split)
    left_out["faster than the datasheet allows, or of a campaign that mostly is"] = int(
        (fits & ~good).sum() + (~allowed).sum()
    )
    return (
        [p for p, ok in zip(one, good, strict=True) if ok],
        [p for p, ok in zip(split, allowed, strict=True) if ok],
        left_out,
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--choose", "choosing", is_flag=True, help="Write measured.csv and about.toml.")
@click.option("--fit", "fitting", is_flag=True, help="Fit the typical calibration; write typical.toml.")
@click.option("--folds", is_flag=True, help="Fit without each accelerator and model; write folds.toml.")
@click.option("--blind", is_flag=True, help="Predict rows by these fits; write blind.csv and errors.toml.")
def main(folder: Path, choosing: bool, fitting: bool, folds: bool, blind: bool) -> None:
    """Score, choose, fit or cross-validate."""
    pd.set_option("display.width", 200, "display.max_rows", 500)
    one, split, left_out = usable(folder)
    print(f"{len(one)} points of one pool, {len(split)} disaggregated; left out: {left_out}")
    started = time.perf_counter()
    found = evidence_errors.score(one)
    print(f"scored in {time.perf_counter() - started:.2f} s")
    counted = [place for place, point in enumerate(one) if not point.status]
    print(table([one[i] for i in counted], found.ratio[counted], KEYS).to_string())
    if choosing:
        chosen = choose([*one, *split])
        (measured.FOLDER / "measured.csv").write_text(csv_of(chosen), encoding="utf-8")
        about = about_of(one, split, left_out, len(chosen))
        (measured.FOLDER / "about.toml").write_text(about, encoding="utf-8")
        print(f"{len(chosen)} points chosen")
    if folds:
        write_folds(one)
    if fitting:
        write_typical(one, left_out)
        calibration.cache_clear()
    if blind:
        write_blind(one)


if __name__ == "__main__":
    main()
