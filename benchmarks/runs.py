"""InferenceX's own records of runs, read as points: whether they speculate is stated; development only.

One row of `inferencex_dsr1_rows.csv` is one run, of one pool or two. The same runs stand in the table of
serving runs, mostly without a word about speculation: `without_speculation` takes them out there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.tables import LeftOut, Row, model_id, priceable, read_rows, rows_of
from sim_core import catalogue
from sim_core.evidence.published import LENGTHS, NOT_STATED, PublishedPoint

RUNS = "inferencex_dsr1_rows.csv"
MODELS = {"dsr1": "deepseek-r1"}
ENGINES = {"sglang": "SGLang", "trt": "TensorRT-LLM", "vllm": "vLLM", "atom": "ATOM"}
PARTS = {"h100": "h100-sxm"}
SAME_TTFT = 2e-4  # of one run, rounded by two sources
TRUE = ("true", "1", "yes")


class Run(NamedTuple):
    """One run of one pool, and whether it speculated: by which method, or not at all ("")."""

    point: PublishedPoint
    method: str


def read_runs(path: Path, left_out: Counter[str]) -> list[Run]:
    """Return the runs of one pool in a table of InferenceX's records, each once; count the others."""
    found: dict[str, Run] = {}
    for run in read_rows(path, left_out, _run):
        key = (*run.point._replace(id="", date="", entry="", ttft_ms=0.0, engine_version=""), run.method)
        if found.setdefault(str((key, run.point.ttft_ms)), run) is not run:
            left_out["the same run a second time"] += 1
    return list(found.values())


def _run(row: Row, number: int) -> Run:
    """Return one row of the table; leave it out where its run is not simulated as it was run."""
    method = row.text("spec").lower()
    reasons = {
        "speculation not stated": method not in ("none", "mtp"),
        "two pools: speculation is scored in one": row.text("disagg").lower() in TRUE,
        "one replica on more than one node": row.text("multinode").lower() in TRUE,
        "data-parallel attention (no such layout here)": row.text("decode_dpattn").lower() in TRUE,
        "model or accelerator without a preset": _model(row) not in catalogue.preset_ids("models")
        or part_id(row.text("gpu")) not in catalogue.preset_ids("accelerators"),
        "no TPOT or no concurrency": math.isnan(row.number("tpot_ms_p50", "tpot_ms_mean"))
        or math.isnan(row.number("conc")),
    }
    for reason, out in reasons.items():
        if out:
            raise LeftOut(reason)
    return Run(priceable(_point(row, number)), "" if method == "none" else method)


def _model(row: Row) -> str:
    return MODELS.get(row.text("model").lower(), model_id(row.text("model")))


def part_id(name: str) -> str:
    """Return the preset of an accelerator as benchmarks call it."""
    return PARTS.get(name.lower(), name.lower())


def _point(row: Row, number: int) -> PublishedPoint:
    devices = row.count("decode_gpus", otherwise=row.count("decode_tp"))
    median = math.isnan(row.number("tpot_ms_mean"))
    return PublishedPoint(
        id=f"run {number}",
        traffic="closed",
        pools="one",
        date=row.text("date") or NOT_STATED,
        engine=ENGINES.get(row.text("framework").lower(), row.text("framework") or NOT_STATED),
        engine_version=row.text("image") or NOT_STATED,
        model=_model(row),
        accelerator=part_id(row.text("gpu")),
        devices=devices,
        tensor_parallel=row.count("decode_tp"),
        expert_parallel=row.count("decode_ep", otherwise=1),
        prefill_workers=0,
        prefill_devices=0,
        decode_workers=0,
        decode_devices=0,
        precision=row.text("precision") or NOT_STATED,
        prompt_tokens=row.count("isl"),
        output_tokens=row.count("osl"),
        lengths=LENGTHS[1],
        clients=row.count("conc"),
        arrival_per_s=math.nan,
        ttft_ms=row.above_zero("ttft_ms_mean", "ttft_ms_p50"),
        tpot_ms=row.above_zero("tpot_ms_mean", "tpot_ms_p50"),
        output_tok_per_s=math.nan,
        statistic="median" if median else "mean",
        source="inferencex",
        entry=row.text("run_url") or row.text("file") or NOT_STATED,
        note="",
    )


def without_speculation(
    points: Sequence[PublishedPoint], path: Path, left_out: Counter[str]
) -> list[PublishedPoint]:
    """Return the points of another table that are no runs with speculation by InferenceX's records.

    Rows of two tables are one run if accelerator, lengths and clients are the same, and TTFT to 0.02%.
    """
    known: dict[tuple, list[float]] = {}
    for row in rows_of(path, Counter()):
        if row.text("spec").lower() == "mtp":
            key = (part_id(row.text("gpu")), *(row.number(name) for name in ("isl", "osl", "conc")))
            known.setdefault(key, []).extend(row.number(name) for name in ("ttft_ms_mean", "ttft_ms_p50"))
    kept = []
    for point in points:
        key = (point.accelerator, point.prompt_tokens, point.output_tokens, point.clients)
        if any(
            abs(point.ttft_ms / ttft_ms - 1) <= SAME_TTFT for ttft_ms in known.get(key, ()) if ttft_ms > 0
        ):
            left_out["speculative decoding (more than one token a step)"] += 1
        else:
            kept.append(point)
    return kept
