"""InferenceX's own records of runs, read as points: whether they speculate is stated; development only.

One row of `inferencex_dsr1_rows.csv` is one run, of one pool or two, its layout stated. The same runs
stand in the table of serving runs, mostly without a word about speculation: `without_speculation` takes them
out there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import LeftOut, Row, model_id, priceable, read_rows, rows_of
from sim_core import catalogue
from sim_core.evidence.published import LENGTHS, NOT_STATED, PublishedPoint, recipe_of

RUNS = "inferencex_dsr1_rows.csv"
MODELS = {"dsr1": "deepseek-r1"}
ENGINES = {"sglang": "SGLang", "trt": "TensorRT-LLM", "vllm": "vLLM", "atom": "ATOM"}
PARTS = {"h100": "h100-sxm"}
SAME_TTFT = 2e-4  # of one run, rounded by two sources
TRUE = ("true", "1", "yes")
MEAN_SHARE = 0.9  # of nominal lengths
LOW_LATENCY_DEVICES = 4  # of a decode worker
BY_RECIPE = "layout by recipe"
HIDDEN = "the layout of ranks is hidden: fewer devices are stated than a worker has"


class Run(NamedTuple):
    """One run, and whether it speculated: by which method, or not at all ("").

    `gap_tokens` is how many tokens came at once in its stream, NaN where it is not known.
    """

    point: PublishedPoint
    method: str
    gap_tokens: float
    nodes: bool


class Pool(NamedTuple):
    """One pool of a run, or its only one: workers, devices of a worker, and how these share the model."""

    workers: int
    devices: int
    expert_parallel: int
    ranks: int


def read_runs(path: Path, left_out: Counter[str]) -> list[Run]:
    """Return the runs in a table of InferenceX's records, each once; count the others by reason."""
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
        "model or accelerator without a preset": _model(row) not in catalogue.preset_ids("models")
        or part_id(row.text("gpu")) not in catalogue.preset_ids("accelerators"),
        "no TPOT or no concurrency": math.isnan(row.number("tpot_ms_p50", "tpot_ms_mean"))
        or math.isnan(row.number("conc")),
    }
    for reason, out in reasons.items():
        if out:
            raise LeftOut(reason)
    gap = row.number("itl_ms_mean") / row.number("tpot_ms_mean")
    point = priceable(_split(row, number) if _true(row, "disagg") else _point(row, number))
    return Run(point, "" if method == "none" else method, gap, _true(row, "multinode"))


def _true(row: Row, key: str) -> bool:
    return row.text(key).lower() in TRUE


def _model(row: Row) -> str:
    return MODELS.get(row.text("model").lower(), model_id(row.text("model")))


def part_id(name: str) -> str:
    """Return the preset of an accelerator as benchmarks call it."""
    return PARTS.get(name.lower(), name.lower())


def _point(row: Row, number: int) -> PublishedPoint:
    """Return a run of one pool."""
    tensor, expert = row.count("decode_tp"), row.count("decode_ep", otherwise=1)
    devices = row.count("decode_gpus", otherwise=tensor)
    ranks = tensor if _true(row, "decode_dpattn") else 0
    if ranks == 1:
        raise LeftOut(HIDDEN)
    if ranks or expert > 1:
        devices = _devices_told(row, tensor, devices)
    if not ranks and _true(row, "multinode") and devices % tensor:
        raise LeftOut("one replica on more than one node, its layout not stated")
    rate = row.number("tok_s_per_gpu_out") * devices
    found = _common(row, number, rate if ranks else math.nan)
    return found._replace(
        devices=devices, tensor_parallel=tensor, expert_parallel=expert, ranks=ranks
    )  # fmt: skip


def _devices_told(row: Row, tensor: int, printed: int) -> int:
    """Return the devices of a group that its rate per device tells: as printed, or `tensor`.

    The benchmark multiplies tensor and expert parallelism, which share the same devices.
    """
    busy_s, per_device = row.number("e2e_s_mean", "e2e_s_p50"), row.number("tok_s_per_gpu_out")
    rate = row.number("conc") * row.number("osl") * MEAN_SHARE / busy_s
    if not (rate > 0 and per_device > 0):
        return tensor
    told = rate / per_device
    return min((tensor, printed), key=lambda devices: abs(math.log(told / devices)))


def _split(row: Row, number: int) -> PublishedPoint:
    """Return a run of two pools; a public recipe says better than the record whether decodes have ranks."""
    prefill, decode = (_pool(row, name) for name in ("prefill", "decode"))
    # The benchmark prints output tokens for each device of the decode pool alone.
    rate = row.number("tok_s_per_gpu_out") * decode.workers * decode.devices
    found = _common(row, number, rate)._replace(
        pools="split",
        devices=prefill.workers * prefill.devices + decode.workers * decode.devices,
        expert_parallel=max(prefill.expert_parallel, decode.expert_parallel),
        prefill_workers=prefill.workers,
        prefill_devices=prefill.devices,
        prefill_expert_parallel=prefill.expert_parallel,
        prefill_ranks=prefill.ranks,
        decode_workers=decode.workers,
        decode_devices=decode.devices,
        decode_expert_parallel=decode.expert_parallel,
        decode_ranks=decode.ranks,
        note=BY_RECIPE if any(_is_hidden(row, name) for name in ("prefill", "decode")) else "",
    )
    recipe = recipe_of(found, row.text("spec").lower() == "mtp")
    return found._replace(decode_ranks=recipe.decode_ranks) if recipe else found


def _pool(row: Row, name: str) -> Pool:
    """Return one of two pools as stated; leave the row out where its layout is not."""
    if not row.number(f"{name}_workers") > 0:
        raise LeftOut("two pools, but not how many workers of how many devices")
    workers, devices = row.count(f"{name}_workers"), row.count(f"{name}_gpus")
    tensor, expert = row.count(f"{name}_tp"), row.count(f"{name}_ep", otherwise=1)
    ranks = tensor if _true(row, f"{name}_dpattn") else 1
    if _is_hidden(row, name):
        return _hidden(row, name, workers, devices // workers)
    if workers * tensor != devices:
        raise LeftOut(HIDDEN)
    return Pool(workers, tensor, expert, ranks)


def _is_hidden(row: Row, name: str) -> bool:
    """Return whether a pool states one device of workers that have several each."""
    devices = row.number(f"{name}_gpus") / row.number(f"{name}_workers")
    return row.number(f"{name}_tp") == 1 and devices > 1 and devices == int(devices)


def _hidden(row: Row, name: str, workers: int, devices: int) -> Pool:
    """Return a pool of workers of which one device is stated: as the recipes of such runs have it.

    SGLang's runs at high throughput divide attention and experts over all devices of a worker (DEP4 to
    DEP48); those of low latency, which have four devices a decode worker, divide neither.

    References
    ----------
    SemiAnalysisAI/InferenceX, .github/configs/nvidia-master.yaml (commit 0004cf5, 2026),
    dsr1-fp4-gb200-dynamo-sglang and dsr1-fp8-gb200-dynamo-sglang.
    """
    decode_devices = row.number("decode_gpus") / row.number("decode_workers")
    if decode_devices <= LOW_LATENCY_DEVICES or not _true(row, f"{name}_dpattn"):
        return Pool(workers, devices, 1, 1)
    return Pool(workers, devices, devices, devices)


def _common(row: Row, number: int, output_tok_per_s: float) -> PublishedPoint:
    """Return a run as a point whose layout is not filled in yet."""
    median = math.isnan(row.number("tpot_ms_mean"))
    name = row.text("framework").lower().removeprefix("dynamo-")
    return PublishedPoint(
        id=f"R{number:05d}",
        traffic="closed",
        pools="one",
        date=row.text("date") or NOT_STATED,
        engine=ENGINES.get(name, row.text("framework") or NOT_STATED),
        engine_version=row.text("image") or NOT_STATED,
        model=_model(row),
        accelerator=part_id(row.text("gpu")),
        devices=0,
        tensor_parallel=0,
        expert_parallel=0,
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
        output_tok_per_s=output_tok_per_s if output_tok_per_s > 0 else math.nan,
        statistic="median" if median else "mean",
        source="inferencex",
        entry=row.text("run_url") or row.text("file") or NOT_STATED,
        note="",
    )


def configuration(row: Row, engine: str, is_inferencex: bool, **told: Any) -> PublishedPoint:
    """Return a closed loop of one pool of which a row tells the rest.

    Which point it is counts, not how fast: that stands elsewhere, and its TPOT is 1 ms, so that something is
    measured.
    """
    return PublishedPoint(
        traffic="closed",
        pools="one",
        date=row.text("date") or NOT_STATED,
        engine=ENGINES.get(engine.lower(), engine or NOT_STATED),
        engine_version=NOT_STATED,
        prefill_workers=0,
        prefill_devices=0,
        decode_workers=0,
        decode_devices=0,
        arrival_per_s=math.nan,
        ttft_ms=math.nan,
        tpot_ms=1.0,
        output_tok_per_s=math.nan,
        source="inferencex" if is_inferencex else NOT_STATED,
        entry=row.text("source") or NOT_STATED,
        note="",
        **told,
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
