"""The full tables of published measurements, read as points; development only.

Whatever a table holds, reading it ends: a row that cannot be used is counted under the reason, and so is a
column or a whole file that is missing. A blank cell, a word where a number belongs and a column that is not
there are the same: the source does not say.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from sim_core import catalogue
from sim_core.catalogue.calibrations import calibration
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence.assumed import scenario_of
from sim_core.evidence.predicted import Bench, alone, bench_of, predict, predict_alone
from sim_core.evidence.published import NOT_STATED, PublishedPoint, campaign, weight_dtype
from sim_core.fields.errors import ScenarioError
from sim_core.price.priced import priced

SERVING, ENTRIES = "measured_serving.csv", "mlperf_llm_results.csv"
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
# The one figure of these equals the benchmark's own mean wherever both are known.
MEANS = frozenset({"aiconfigurator"})
WORKERS = ("prefill_workers", "prefill_gpus_per_worker", "decode_workers", "decode_gpus_per_worker")
NO_SPECULATION = frozenset({"", "none", "not stated", "no", "off", "false"})
LABELS = {"INT8": "", "UNSET": "", "mxfp4": "fp4", "MXFP4": "fp4"}


Read = TypeVar("Read")


class LeftOut(Exception):
    """A row that cannot be used; its text is the reason."""


# --- a table's rows, whatever stands in them ------------------------------------------------------


class Row:
    """One row of a table of texts; what is missing is blank."""

    def __init__(self, cells: Mapping[str, object]):
        self._cells = cells

    def text(self, key: str) -> str:
        """Return the text of a cell, "" where there is none."""
        found = self._cells.get(key)
        return found.strip() if isinstance(found, str) else ""

    def number(self, *keys: str) -> float:
        """Return the first of some cells that holds a number, else NaN; ``inf`` is a number."""
        for key in keys:
            try:
                value = float(self.text(key))
            except ValueError:
                continue
            if not math.isnan(value):
                return value
        return math.nan

    def above_zero(self, *keys: str) -> float:
        """Return the first of some cells with a number, or NaN; leave the row out if that is not above 0."""
        value = self.number(*keys)
        if not math.isnan(value) and not 0 < value < math.inf:
            raise LeftOut(f"{keys[0]} is not a number above 0")
        return value

    def count(self, key: str, otherwise: int | None = None) -> int:
        """Return a whole number above 0; the row is left out where there is none and nothing else to take."""
        value = self.number(key)
        if math.isnan(value) and otherwise is not None:
            return otherwise
        if math.isnan(value):
            raise LeftOut(f"{key} is blank or no number")
        if not (0 < value < 1e9 and value == int(value)):
            raise LeftOut(f"{key} is not a whole number above 0")
        return int(value)


def rows_of(path: Path, left_out: Counter[str]) -> list[Row]:
    """Return the rows of a CSV file, up to where it can be read; count why not all, or none, can."""
    found: list[Row] = []
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            found.extend(Row(cells) for cells in csv.DictReader(lines))
    except OSError:
        left_out[f"{path.name} is not in the folder"] += 1
    except csv.Error as error:
        left_out[f"{path.name} cannot be read beyond row {len(found) + 1}: {error}"] += 1
    return found


def read_rows(path: Path, left_out: Counter[str], read: Callable[[Row, int], Read]) -> list[Read]:
    """Return what each row of a CSV file is read as, by itself and its number; count the others by reason."""
    found = []
    for number, row in enumerate(rows_of(path, left_out), start=1):
        try:
            found.append(read(row, number))
        except LeftOut as reason:
            left_out[str(reason)] += 1
    return found


# --- serving runs ---------------------------------------------------------------------------------


def read_serving(path: Path) -> tuple[list[PublishedPoint], Counter[str]]:
    """Return the rows of the table of serving runs as points, and how many were left out for which reason."""
    left_out: Counter[str] = Counter()
    return read_rows(path, left_out, _serving_point), left_out


def model_id(name: str) -> str:
    """Return the preset of a model as tables call it; V3.1 is V3 in all that a price depends on."""
    return name.lower().replace("deepseek-v3.1", "deepseek-v3")


def _check(row: Row) -> None:
    """Raise `LeftOut` for a row of a run that is not simulated as it was run."""
    traffic, wide = KINDS.get(row.text("metric_kind")), row.text("mode") != "disagg"
    known = model_id(row.text("model")) in catalogue.preset_ids("models")
    known &= row.text("gpu").lower() in catalogue.preset_ids("accelerators")
    latency = row.number("tpot_ms_unspecified", "tpot_ms_mean", "tpot_ms_p50")
    speculation = row.text("spec_decoding").lower()
    reasons = {
        "model or accelerator without a preset": not known,
        "the source does not say what its figure counts": traffic is None,
        "speculative decoding suspected": speculation == "suspected",
        "speculative decoding (more than one token a step)": speculation not in NO_SPECULATION,
        "marked work in progress by its authors": "work in progress" in row.text("notes"),
        "one replica on more than one node": row.text("mode") == "multi-node",
        "two pools: which of them divides attention into ranks is not stated": not wide and _has_ranks(row),
        "pipeline parallelism (no such layout here)": wide and row.number("pp") > 1,
        "two pools, but not how many workers of how many devices": not wide
        and not all(row.number(key) > 0 for key in WORKERS),
        "no TPOT or no concurrency": traffic == "closed"
        and (math.isnan(latency) or math.isnan(row.number("concurrency_or_qps"))),
    }
    for reason, out in reasons.items():
        if out:
            raise LeftOut(reason)


def _has_ranks(row: Row) -> bool:
    return row.text("dp_attention").lower() in ("true", "1")


def _drawn(row: Row) -> bool:
    """Return whether lengths were drawn between 80% and 100% of those printed.

    What the source calls a gap analysis prints InferenceX's runs once more, rounded and without this note:
    all of its 75 rows of Kimi-K2.5 and Qwen3.5 have their twin there.
    """
    return row.text("length_note").startswith("range 0.8") or "gap_analysis" in row.text("source")


def _serving_point(row: Row, number: int) -> PublishedPoint:
    """Return one row of the table as a point."""
    _check(row)
    notes, split = row.text("notes"), row.text("mode") == "disagg"
    traffic = "burst" if "one burst" in notes else KINDS[row.text("metric_kind")]
    actual = re.search(r"mean actual lengths (\d+)/(\d+)", notes)
    lengths = map(int, actual.groups()) if actual else (row.count("isl"), row.count("osl"))
    prompt, output = lengths
    source, entry = _citation(row.text("source"))
    counted = traffic in ("offline", "prefill") and not math.isfinite(row.number("concurrency_or_qps"))
    workers = [row.count(key) if split else 0 for key in WORKERS]
    point = PublishedPoint(
        id=row.text("row_id") or f"row {number}",
        traffic=traffic,
        pools="split" if split else "one",
        date=_date(row.text("date")),
        engine=row.text("engine") or NOT_STATED,
        engine_version=row.text("engine_version") or NOT_STATED,
        model=model_id(row.text("model")),
        accelerator=row.text("gpu").lower(),
        devices=row.count("n_gpus", otherwise=0),
        tensor_parallel=0 if split else row.count("tp"),
        expert_parallel=row.count("ep", otherwise=1),
        prefill_workers=workers[0],
        prefill_devices=workers[1],
        decode_workers=workers[2],
        decode_devices=workers[3],
        precision=row.text("precision") or NOT_STATED,
        prompt_tokens=prompt,
        output_tokens=output,
        lengths="80-100%" if _drawn(row) else "fixed",
        clients=0 if counted else row.count("concurrency_or_qps"),
        arrival_per_s=math.nan,
        ttft_ms=row.above_zero("ttft_ms_unspecified", "ttft_ms_mean", "ttft_ms_p50"),
        tpot_ms=row.above_zero("tpot_ms_unspecified", "tpot_ms_mean", "tpot_ms_p50"),
        output_tok_per_s=math.nan if traffic == "prefill" else row.above_zero("output_tok_s_total"),
        statistic=_statistic(row, source),
        source=source,
        entry=entry,
        note="actual mean lengths" if actual else "",
        ranks=row.count("tp") if _has_ranks(row) else 0,
    )
    return priceable(point)


def _statistic(row: Row, source: str) -> str:
    """Return what a row's latencies are: means, medians, or what the source leaves open."""
    if not math.isnan(row.number("ttft_ms_unspecified", "tpot_ms_unspecified")):
        return "mean" if source in MEANS else NOT_STATED
    only_median = math.isnan(row.number("tpot_ms_mean")) and not math.isnan(row.number("tpot_ms_p50"))
    return "median" if only_median else "mean"


def _citation(text: str) -> tuple[str, str]:
    """Return the id of a source, and where in it a row stands; `NOT_STATED` for one that has no id here."""
    for prefix, name in SOURCES.items():
        if text.startswith(prefix):
            rest = text.removeprefix(prefix).lstrip(" :")
            where, _, row = text.rpartition(", id ")
            place = re.search(r"\), (.*)$|: (.*)$", text)
            entry = f"id {row}" if where else next(filter(None, place.groups()), rest) if place else rest
            return name, entry.replace("), ", ", ")
    return NOT_STATED, text or NOT_STATED


def _date(text: str) -> str:
    if not text:
        return NOT_STATED
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if re.fullmatch(r"\d{8}", text) else text


def priceable(point: PublishedPoint) -> PublishedPoint:
    """Return the point; leave it out where nothing is measured, or its scenario is refused."""
    measured = (point.ttft_ms, point.tpot_ms, point.output_tok_per_s)
    if all(map(math.isnan, measured)):
        raise LeftOut("no TTFT, no TPOT and no throughput")
    try:
        weight_dtype(point, "the row")
        if alone(point):
            priced(scenario_of(point))
        else:
            bench_of([point])
    except ScenarioError as error:
        raise LeftOut(f"refused: {error}") from None
    return point


# --- MLPerf entries with latencies ----------------------------------------------------------------
def read_mlperf(path: Path) -> list[PublishedPoint]:
    """Return MLPerf Server and Interactive runs with latencies: closed division, one node, each once."""
    if not path.exists():
        return []
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
        engine_version=str(row.framework) if row.framework == row.framework else NOT_STATED,
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
def possible(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    """Return which points the datasheet allows and fit their devices, and which fit their devices.

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
    fits = np.array(bench.kv_blocks, bool)
    return fits & ~wrong & ~doubtful, fits


def not_too_fast(points: Sequence[PublishedPoint]) -> np.ndarray:
    """Return which points that are run by themselves fit, and are not faster than the datasheet allows.

    That is judged by TPOT where it was measured, else by throughput.
    """
    floor, seen = predict_alone(points, "datasheet"), evidence_errors.measured(points)
    timed = np.isfinite(seen[:, 1])
    return np.where(timed, seen[:, 1] >= floor[:, 1], seen[:, 2] <= floor[:, 2])


def usable(
    folder: Path, further: Sequence[PublishedPoint] = ()
) -> tuple[list[PublishedPoint], list[PublishedPoint], Counter[str]]:
    """Return the usable points of one pool, those that are run alone, and what was left out for which reason.

    Points of two pools, and with ranks of attention, are run alone. `further` are points of other tables.
    """
    found, left_out = read_serving(folder / SERVING)
    one, split = believed([*found, *read_mlperf(folder / ENTRIES), *further], left_out)
    return one, split, left_out


def believed(
    points: Sequence[PublishedPoint], left_out: Counter[str]
) -> tuple[list[PublishedPoint], list[PublishedPoint]]:
    """Return the points of one pool, and those run alone, that fit and that the datasheet allows.

    The others are counted.
    """
    one = [point for point in points if not alone(point)]
    apart = [point for point in points if alone(point)]
    good, fits = possible(bench_of(one)) if one else (np.zeros(0, bool),) * 2
    allowed = not_too_fast(apart)
    left_out["weights and one request do not fit the memory"] += int((~fits).sum())
    wrong = int((fits & ~good).sum() + (~allowed).sum())
    left_out["faster than the datasheet allows, or of a campaign that mostly is"] += wrong
    return (
        [point for point, ok in zip(one, good, strict=True) if ok],
        [point for point, ok in zip(apart, allowed, strict=True) if ok],
    )
