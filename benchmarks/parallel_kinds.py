"""Rows of layouts of many devices, set up as they were run: a predictor for each kind; development only.

What a row leaves open is taken from its source where that says it (named here, once), else assumed as of all
published points (`sim_core.evidence.assumed`). A predictor returns each figure of its row as predicted and as
measured, or raises `LeftOut` with what the row does not tell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from benchmarks.pairs import named_model
from benchmarks.printed import Predicted
from benchmarks.runs import configuration, part_id
from benchmarks.speculation import length_of, simulated, speculating
from benchmarks.tables import LeftOut, Row, model_id
from sim_core import catalogue
from sim_core.engine.run import run
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence.assumed import TOKEN_BUDGET, USUAL_REDUNDANT, scenario_of
from sim_core.evidence.published import LABELS, LENGTHS, NOT_STATED, PublishedPoint
from sim_core.price.kernels import kernels_of
from sim_core.price.memory import memory
from sim_core.price.parts import LOW_LATENCY_TOKENS, exchange_s, terms
from sim_core.price.pools import measured_link
from sim_core.price.price import Price, method_of, price_of
from sim_core.price.step_cost import group_tokens_s
from sim_core.price.steps import shapes
from sim_core.price.steps.one_step import window_pairs
from sim_core.price.work import layout_of, work
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of

ALL_TO_ALL, TRANSFER = "all-to-all, DeepEP low latency", "KV transfer between pools"
DEEPEP_MODEL = "deepseek-r1"  # hidden 7168, eight of 256 experts
NODE = 8
# Tokens of a rank in a step of prompts: LMSYS, "Deploying DeepSeek with PD disaggregation and large-scale
# expert parallelism on 96 H100 GPUs", 2025-05-05. Others run vLLM's budget of an API server.
BUDGETS = MappingProxyType({"lm-sys/lm-sys.github.io blog/2025-05-05": 16_384})
# LMSYS, "Pipeline parallelism in SGLang", 2026-01-15: "for the PP size = 1 configuration of DeepSeek-V3.1, we
# used a standalone H20 node (8 x 141GB VRAM GPUs)".
ROOMIER = MappingProxyType({("deepseek-v3", "h20", 1): "h20-141"})
DRAWN = ("InferenceX", "SemiAnalysisAI")  # whose lengths are drawn between 80% and 100% of those printed
ANSWER_TOKENS, SENT, MOST_RUNNING = 1000, 2000, 1024
CORES_OF_CHIP = 2  # of a TPU v7, each of which its engine counts as a device


class Shape(NamedTuple):
    """A layout as a row words it: devices of a stage, and how they are divided."""

    devices: int
    ranks: int
    experts_over: int
    stages: int
    drafts: int


def shape_of(layout: str) -> Shape:
    """Return a layout such as ``TP1 DP4 EP`` or ``PP4 TP8, chunk 4k``.

    Examples
    --------
    >>> shape_of("TP1 DP4 EP")
    Shape(devices=4, ranks=4, experts_over=4, stages=1, drafts=0)
    """
    text = layout.lower()
    tensor, ranks = numbered("tp", text) or 1, numbered("dp", text) or 1
    devices = tensor * ranks
    if "dp-attn" in text:
        ranks = tensor
    experts_over = numbered("ep", text) or (devices if re.search(r"\bep\b", text) else 1)
    return Shape(devices, ranks, experts_over, numbered("pp", text) or 1, numbered("mtp", text))


def numbered(name: str, text: str) -> int:
    """Return the number behind a name in a layout, 0 where there is none."""
    found = re.search(rf"\b{name} ?(\d+)", text)
    return int(found[1]) if found else 0


# --- a row as a scenario ----------------------------------------------------------------------------


def point_of_row(row: Row, number: int, shape: Shape) -> PublishedPoint:
    """Return what a row says of model, accelerator, layout, precision and lengths as a point of one pool."""
    model = named_model(model_id(row.text("model")))
    part = part_id(row.text("gpu").replace("_sxm", "").replace(" ", "-"))
    part = ROOMIER.get((model, part, shape.stages), part) if shape.devices <= NODE else part
    if model not in catalogue.preset_ids("models") or part not in catalogue.preset_ids("accelerators"):
        raise LeftOut("model or accelerator not told, or without a preset")
    named = re.search(r"(fp8|nvfp4|mxfp4)$", row.text("model").lower())
    engine = row.text("engine").replace("Dynamo ", "").split(" ")[0]
    precision = row.text("precision") or (named[1] if named else NOT_STATED)
    drawn = any(name in row.text("source") for name in DRAWN)
    clients = row.number("concurrency")
    output = row.number("osl")
    return configuration(
        row,
        engine,
        drawn,
        id=row.text("id") or f"row {number}",
        model=model,
        accelerator=part,
        devices=shape.devices,
        tensor_parallel=shape.devices,
        expert_parallel=shape.experts_over,
        precision=LABELS.get(precision, precision),
        prompt_tokens=row.count("isl"),
        output_tokens=int(output) if output >= 1 else 1,
        lengths=LENGTHS[drawn],
        clients=int(clients) if clients >= 1 else 1,
        statistic="mean",
        ranks=shape.ranks if shape.ranks > 1 else 0,
    )


def scenario_of_row(row: Row, number: int, shape: Shape) -> Scenario:
    """Return a row as a scenario: copies of experts where their devices do not divide them, or EPLB is on."""
    point, layout = point_of_row(row, number, shape), row.text("layout").lower()
    experts = catalogue.model(point.model).experts
    copied = shape.experts_over > 1 and ("eplb" in layout or experts % shape.experts_over > 0)
    return scenario_of(point).replace(
        pipeline_parallel=shape.stages,
        redundant_experts=USUAL_REDUNDANT if copied else 0,
        two_batch_overlap="on" if "tbo" in layout else "off",
        token_budget=budget_of(row),
    )


def budget_of(row: Row) -> int:
    """Return the tokens of a step of prompts: those of the row's chunks, those of its source, or usual ones.

    Raises
    ------
    LeftOut
        Where chunks become shorter along the prompt.
    """
    if "dynamic" in row.text("layout"):
        raise LeftOut("chunks that become shorter along a prompt")
    chunk = re.search(r"(?:chunk|fixed) (\d+)k", row.text("layout"))
    if chunk:
        return int(chunk[1]) * 1024
    known = (tokens for source, tokens in BUDGETS.items() if row.text("source").startswith(source))
    return next(known, TOKEN_BUDGET)


def value_of(row: Row) -> float:
    """Return what a row measured; leave it out where that is no number."""
    value = row.above_zero("value")
    if math.isnan(value):
        raise LeftOut("no figure, or one in words")
    return value


def noted(row: Row, pattern: str) -> float:
    """Return a number that a row's note tells, NaN where it does not."""
    found = re.search(pattern + r" (\d+(?:\.\d+)?)", row.text("note"))
    return float(found[1]) if found else math.nan


def known(*figures: Predicted) -> list[Predicted]:
    """Return the figures that were measured."""
    return [figure for figure in figures if math.isfinite(figure.measured)]


# --- networks ---------------------------------------------------------------------------------------


def all_to_all(row: Row, number: int) -> list[Predicted]:
    """Return what sending the tokens of a rank to the experts of one layer and back takes. [us]"""
    devices, tokens = row.count("n_gpus"), row.count("concurrency")
    if tokens > LOW_LATENCY_TOKENS:
        raise LeftOut("more tokens of a rank than buffers of low latency have room for")
    layout = dict.fromkeys(("tensor_parallel", "expert_parallel", "attention_data_parallel"), devices)
    part = part_id(row.text("gpu").replace("_sxm", ""))
    scenario = Scenario(model=DEEPEP_MODEL, accelerator=part, weight_dtype="fp8", **layout)
    asked = model_of(scenario), accelerator_of(scenario), layout_of(scenario)
    found = terms(work(*asked), kernels_of(*asked), *method_of(scenario))
    took_s = float(exchange_s(found, float(tokens))) / asked[0].moe_layers
    return [Predicted("", took_s * 1e6, value_of(row))]


def transfer(row: Row, number: int) -> list[Predicted]:
    """Return what sending the bytes that a row notes takes between two workers of four links. [ms]"""
    links = re.search(r"(\d+) GB/s", row.text("model"))
    moved = re.match(r"(\d+) MB", row.text("note"))
    if not links or not moved:
        raise LeftOut("no bytes, or no rate of the links")
    engine = "vllm" if "/vllm/" in row.text("source") else "sglang"
    part = catalogue.accelerator(part_id(row.text("gpu")))
    devices = round(float(links[1]) * 1e9 / part.network_byte_per_s)
    pools = Scenario(
        model="llama-3.1-70b", accelerator=row.text("gpu").lower(), policy="disaggregated", engine=engine,
        tensor_parallel=devices,
    )  # fmt: skip
    way = measured_link(pools)
    took_ms = way["kv_link_latency_ms"] + int(moved[1]) / way["kv_link_gb_per_s"]
    return [Predicted("", took_ms, value_of(row))]


# --- decodes ----------------------------------------------------------------------------------------


def decodes(row: Row, number: int) -> list[Predicted]:
    """Return output tokens per second of a device, or of a node, of decodes that fill all ranks alike.

    A row tells the decodes of a rank; vLLM's of GB200 "varying the decode batch size that fully utilizes GPU
    memory" (blog, 2026-02-03). Contexts are those half-way through the answer; prompts alone where it is not
    told. Groups of one rank that a row is compared with decode as many as their memory holds.
    """
    shape = shape_of(row.text("layout"))
    scenario = scenario_of_row(row, number, shape)
    output = row.number("osl")
    context = row.count("isl") + (output / 2 if output > 0 else 0.0)
    stated = re.match(r"(\d+) per rank", row.text("concurrency"))
    batch = int(stated[1]) * shape.ranks if stated else _filling(scenario, context)
    each = _decoded_per_s(scenario, batch, context)
    per = NODE if "per node of 8" in row.text("metric") else 1
    found = [Predicted("", per * each, value_of(row))]
    other = re.match(r"TP(\d+) groups: (\d+(?:\.\d+)?)x less", row.text("compared_with"))
    if other:
        devices = int(other[1])
        alone = Shape(devices, 1, 1, 1, 0)
        group = scenario_of_row(row, number, alone)
        slower = _decoded_per_s(group, _filling(group, context), context)
        found.append(Predicted("over one rank", each / slower, float(other[2])))
    return found


def _filling(scenario: Scenario, context: float) -> int:
    return max(int(memory(scenario)["kv_tokens"] / context), 1)


def _decoded_per_s(scenario: Scenario, batch: int, context: float) -> float:
    """Return output tokens per second and device of a step of decodes."""
    pricing = shapes.pricing_of(scenario)
    return batch / float(shapes.step_s(pricing, shapes.decode(batch, context))) / scenario.tensor_parallel


# --- prompts ----------------------------------------------------------------------------------------


def prompts(row: Row, number: int) -> list[Predicted]:
    """Return prompt tokens per second of a device, or of a node, while all ranks compute prompts alike."""
    scenario = scenario_of_row(row, number, shape_of(row.text("layout")))
    per = NODE if "per node of 8" in row.text("metric") else 1
    return [Predicted("", per * prompt_rate(scenario, row.count("isl")), value_of(row))]


def prompt_rate(scenario: Scenario, prompt_tokens: int) -> float:
    """Return prompt tokens per second and device: as many whole prompts a step as fit its budget, or chunks.

    Each rank has as many; the step is the one that the simulator would take.
    """
    budget = scenario.token_budget
    many = max(budget // prompt_tokens, 1)
    price = price_of(scenario.replace(max_batch=many))
    if prompt_tokens <= budget:
        step_s = _prompts_s(price, 0, prompt_tokens, many)
        tokens = many * prompt_tokens
    else:
        starts = range(0, prompt_tokens, budget)
        step_s = sum(_prompts_s(price, at, min(budget, prompt_tokens - at), 1) for at in starts)
        tokens = prompt_tokens
    return price.ranks * tokens / step_s / scenario.tensor_parallel


def _prompts_s(price: Price, start: int, tokens: int, many: int) -> float:
    """Return how long a step takes in which every rank computes so many chunks of the same place. [s]"""
    step, all_tokens = price.step, many * tokens
    pairs = tokens * (start + tokens / 2)
    near = float(window_pairs(start, start + tokens, step.window_tokens))
    each_s = step.prefill_request_s + pairs * step.prefill_pair_s + near * step.window_pair_s
    shared_s = float(group_tokens_s(step, np.array(price.ranks * all_tokens))) if price.ranks > 1 else 0.0
    return float(step.token_s[all_tokens] + step.row_s[many] + many * each_s + step.prefill_step_s + shared_s)


# --- pipelines --------------------------------------------------------------------------------------


def first_token(row: Row, number: int) -> list[Predicted]:
    """Return the time to the first token of a lone prompt, its chunks through the stages. [s]"""
    return [Predicted("", _lone_s(row, number, shape_of(row.text("layout"))), value_of(row))]


def speed_up(row: Row, number: int) -> list[Predicted]:
    """Return how much faster a lone prompt is than on one stage of the devices that the kind names."""
    shape, base = shape_of(row.text("layout")), numbered("tp", row.text("kind").lower())
    efficiency = noted(row, "efficiency")
    measured = row.above_zero("value")
    measured = efficiency * shape.stages if math.isnan(measured) else measured
    slow_s, fast_s = (_lone_s(row, number, each) for each in (Shape(base, 1, 1, 1, 0), shape))
    return [Predicted("", slow_s / fast_s, measured)]


def _lone_s(row: Row, number: int, shape: Shape) -> float:
    """Return what a prompt takes alone, whatever its model's context window (it was lifted). [s]"""
    scenario = scenario_of_row(row, number, shape).replace(policy="chunked")
    steps = shapes.prefill(scenario, row.count("isl"))
    return float(np.sum(shapes.step_s(shapes.pricing_of(scenario), steps)))


# --- serving ----------------------------------------------------------------------------------------


def prompts_alone(row: Row, number: int) -> list[Predicted]:
    """Return requests per second of clients whose answers are one token; experts as even as chance has it.

    Where nothing evens them out, their skew is not told.
    """
    layout = row.text("layout")
    if "perfect balance" in row.text("metric"):
        return [_balanced(row, number)]
    if row.text("metric") != "req/s" or "no EPLB" in layout:
        raise LeftOut("how unevenly experts are chosen is not told")
    devices = row.count("n_gpus")
    copies = re.search(r"(\d+) redundant", layout)
    shape = Shape(devices, devices, 1 if "no ep" in layout else devices, 1, 0)
    scenario = scenario_of_row(row, number, shape).replace(redundant_experts=int(copies[1]) if copies else 0)
    found = run(scenario)
    return [Predicted("", scenario.requests / float(found.finished_s.max()), value_of(row))]


def _balanced(row: Row, number: int) -> Predicted:
    """Return prompt tokens per second of a node with even experts: a row's second figure, simulated there.

    References
    ----------
    LMSYS, 2025-05-05: prompts in two overlapping halves, as in its rows of wide EP.
    """
    devices, even = row.count("n_gpus"), re.search(r"/ (\d+)$", row.text("value"))
    if not even:
        raise LeftOut("no figure, or one in words")
    scenario = scenario_of_row(row, number, Shape(devices, devices, devices, 1, 0))
    alike = scenario.replace(expert_imbalance=1.0, two_batch_overlap="on")
    return Predicted("experts even", NODE * prompt_rate(alike, row.count("isl")), float(even[1]))


def one_pool(row: Row, number: int) -> list[Predicted]:
    """Return output tokens per second of a loop of clients, with the drafts that its layout names."""
    shape = shape_of(row.text("layout"))
    point = point_of_row(row, number, shape)
    how = speculating(shape.drafts, length_of(point, shape.drafts)) if shape.drafts else {}
    return [Predicted("", simulated(point, **how).tok_per_s, value_of(row))]


def chips(row: Row, number: int) -> list[Predicted]:
    """Return total tokens per second of a chip, TTFT and TPOT of a loop of clients on chips of two cores."""
    shape = shape_of(row.text("layout"))
    if shape.ranks > 1:
        raise LeftOut("a rank of attention is half an accelerator")
    point = point_of_row(row, number, shape._replace(devices=shape.devices // CORES_OF_CHIP))
    return _as_served(row, point._replace(ttft_ms=noted(row, "TTFT mean"), tpot_ms=noted(row, "TPOT mean")))


def two_pools(row: Row, number: int) -> list[Predicted]:
    """Return total tokens per second of a device and TPOT of a loop of clients on two pools.

    ``EP8`` on eight devices are as many ranks of attention, as vLLM lays experts out. Beside them prompts
    have a rank a device, too, though their width is printed as ``TP8``: the public recipes of this model,
    part and engine are all "1p1d-dep8-dep8" and the like.

    References
    ----------
    SemiAnalysisAI/InferenceX#2260 and llm-d/llm-d#1737: DeepSeek-V4-Pro on GB200 by vLLM, 16 devices as one
    prefill and one decode worker of EP8 DP8, 24 as two and one.
    """
    found = re.match(r"P (\d+) GPUs TP(\d+) \+ D (\d+) GPUs (TP|EP)(\d+)$", row.text("layout"))
    if not found:
        raise LeftOut("two pools whose layouts are not told")
    prefill, width, decode, over = (int(found[place]) for place in (1, 2, 3, 5))
    if over != decode:
        raise LeftOut("two pools, one of which has more devices than its layout tells")
    ranks = over if found[4] == "EP" else 0
    alike = point_of_row(row, number, Shape(width, 1, 1, 1, 0))
    spread = width if ranks else 1
    point = alike._replace(
        pools="split", devices=prefill + decode, tensor_parallel=0, prefill_workers=prefill // width,
        prefill_devices=width, prefill_ranks=spread, prefill_expert_parallel=spread, decode_workers=1,
        decode_devices=decode, decode_ranks=ranks, decode_expert_parallel=ranks or 1,
        tpot_ms=noted(row, "TPOT"),
    )  # fmt: skip
    return _as_served(row, point)


def within_limits(row: Row, number: int) -> list[Predicted]:
    """Return mean TTFT and TPOT [ms] of two pools that are sent so many tokens per second as a row tells.

    The rate is what was sent, under limits of both. Answers have 1,000 tokens; decodes draft three.

    References
    ----------
    vLLM blog, 2026-07-23, section 8.4: `--random-output-len 1000`, no prefix found; 3.4: drafts of decodes.
    """
    found = re.match(r"(\d+)P \((.+?)\) \+ (\d+)D \((.+?)\), MTP (\d)", row.text("layout"))
    ttft_ms, tpot_ms = 1e3 * noted(row, "TTFT mean"), noted(row, "TPOT mean")
    if not found or (math.isnan(ttft_ms) and math.isnan(tpot_ms)):
        raise LeftOut("no latency beside the rate that was sent")
    prefill, decode, drafts = shape_of(found[2]), shape_of(found[4]), int(found[5])
    sent_per_s = value_of(row) / (row.count("isl") + ANSWER_TOKENS)
    scenario = scenario_of_row(row, number, decode).replace(
        policy="disaggregated", arrivals="poisson", output_tokens=ANSWER_TOKENS,
        arrival_per_s=sent_per_s, requests=SENT, max_batch=MOST_RUNNING,
        prefill_workers=int(found[1]), prefill_tensor_parallel=prefill.devices,
        prefill_attention_data_parallel=prefill.ranks, prefill_expert_parallel=prefill.experts_over,
        decode_workers=int(found[3]), decode_tensor_parallel=decode.devices,
        decode_attention_data_parallel=decode.ranks, decode_expert_parallel=decode.experts_over,
        spec_tokens=drafts,
    )  # fmt: skip
    told = run(scenario)
    each_s = (told.finished_s - told.first_token_s) / (ANSWER_TOKENS - 1)
    first_s = (told.first_token_s - told.arrival_s).mean()
    return known(
        Predicted("TTFT", 1e3 * float(first_s), ttft_ms),
        Predicted("TPOT", 1e3 * float(each_s.mean()), tpot_ms),
    )


def _as_served(row: Row, point: PublishedPoint) -> list[Predicted]:
    """Return what a loop of clients is predicted to give: prompts and answers per second of a device, and
    the latencies that the point has.
    """
    each = value_of(row)
    answers = point.output_tokens / (point.prompt_tokens + point.output_tokens)
    whole = point._replace(output_tok_per_s=each * point.devices * answers)
    ttft, tpot, rate = (float(ratio) for ratio in evidence_errors.score([whole]).ratio[0])
    return known(
        Predicted("", rate * each, each),
        Predicted("TTFT", ttft * point.ttft_ms, point.ttft_ms),
        Predicted("TPOT", tpot * point.tpot_ms, point.tpot_ms),
    )


# What the rows of a kind do not tell, by how the kind begins.
NOT_TOLD: Mapping[str, str] = MappingProxyType(
    {
        "decode context parallelism": "a replay whose lengths vary, and whose share in the cache is not told",
        "DP attention rank imbalance": "no model, accelerator or load is told",
        "a2a imbalance": "how unevenly tokens are sent is not told",
        "pipeline, strong scaling": "the same run as a speed-up",
        "pipeline, decode": "the accelerator is not told, and the figure is in words",
        "pipeline, open loop": "lengths are not told",
        "pipeline, link speed": "lengths are not told",
        "pipeline, why": "a reason, no figure",
        "disaggregated against two regular": "no model, accelerator, lengths or load is told",
    }
)
KINDS: Mapping[str, Callable[[Row, int], list[Predicted]]] = MappingProxyType(
    {
        ALL_TO_ALL: all_to_all,
        TRANSFER: transfer,
        "wide EP decode": decodes,
        "wide EP prefill": prompts,
        "prefill layouts": prompts,
        "pipeline, TTFT": first_token,
        "pipeline, prefill throughput": speed_up,
        "expert imbalance": prompts_alone,
        "one node": one_pool,
        "multi-node disaggregated": two_pools,
        "disaggregated, multi-node, SLO": within_limits,
        "TPU v7 serving": chips,
    }
)
