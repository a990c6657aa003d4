"""`vllm bench serve` and SGLang's `bench_serving`: result JSON.

How each sends requests, as its source has it: a finite rate is an open loop, under `max_concurrency` with a
cap; an infinite one is a closed loop of so many clients, or all at once. Lengths of the dataset `random` are
even between (1 - r) and (1 + r) times the asked ones in vLLM (r = `random_range_ratio`, 0 by default), and
between r times them and them in SGLang.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sim_core.evidence.own.formats.points import (
    NEARLY_EQUAL,
    Content,
    Format,
    OwnPoint,
    Upload,
    above_zero,
    failures,
    finished,
    first_number,
    lengths_in,
    sent_words,
    variation,
    whole,
)

SHAREGPT_CV = {"input": 1.1, "output": 0.6}  # of its conversations, filtered as both tools do
PREFIXES = ("generated-shared-prefix", "gsp", "prefix_repetition", "multi-turn")
RAMP_STEPS = 64

# --- vLLM and SGLang ------------------------------------------------------------------------------


def serving(content: Content) -> Upload:
    """Return the points of `vllm bench serve` or of SGLang's `bench_serving`, whose keys are alike."""
    tool = "sglang" if _is_sglang(content) else "vllm"
    return finished(content.name, tool, [_serving_point(entry, tool) for entry in content.entries], [])


def _is_either(content: Content) -> bool:
    keys = ("mean_ttft_ms", "median_ttft_ms", "output_throughput", "mean_tpot_ms")
    return any(key in content.first for key in keys) and not _is_one_batch(content)


def _is_one_batch(content: Content) -> bool:
    keys = set(content.first)
    return {"batch_size", "input_len", "output_len"} <= keys or {"run_name", "overall_throughput"} <= keys


def _is_sglang(content: Content) -> bool:
    keys = ("mean_e2e_latency_ms", "sharegpt_output_len", "server_info", "successful_requests")
    found = any(key in content.first for key in keys)
    return (found or str(content.first.get("backend", "")).startswith("sglang")) and _is_either(content)


def _serving_point(entry: dict[str, Any], tool: str) -> OwnPoint:
    """Return one run."""
    done = above_zero(entry, "completed", "successful_requests", "num_prompts")
    spread, notes = _spread(entry, tool)
    failed, too_many = failures(done, _failed(entry, done))
    sent, left_out = _sent(entry)
    statistic = "mean" if math.isfinite(first_number(entry, "mean_ttft_ms", "mean_tpot_ms")) else "median"

    def latency(*names: str) -> float:
        return above_zero(entry, *(f"{statistic}_{name}_ms" for name in names))

    return OwnPoint(
        name=sent_words(sent),
        tool=tool,
        **sent,
        requests=whole(done),
        prompt_tokens=above_zero(entry, "total_input_tokens", "total_input") / done,
        output_tokens=above_zero(entry, "total_output_tokens", "total_output") / done,
        prompt_cv=spread["input"],
        output_cv=spread["output"],
        ttft_ms=latency("ttft"),
        tpot_ms=latency("tpot"),
        itl_ms=latency("itl"),
        e2e_ms=latency("e2el", "e2e_latency"),
        output_tok_per_s=above_zero(entry, "output_throughput"),
        request_per_s=above_zero(entry, "request_throughput"),
        statistic=statistic,
        left_out=left_out or too_many,
        notes=(*failed, *notes, *_unmodelled(entry)),
    )


def _sent(entry: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return how a run sent its requests, and why it cannot be simulated, if so."""
    clients, rate = whole(first_number(entry, "max_concurrency")), above_zero(entry, "request_rate")
    burstiness = above_zero(entry, "burstiness")
    if str(entry.get("request_rate")).lower() == "trace" or entry.get("dataset_name") == "mooncake":
        return {"arrivals": ""}, "It replays the times of a trace, which the file does not hold."
    if entry.get("ramp_up_strategy"):
        ramp = _ramp(entry)
        if not ramp:
            return {
                "arrivals": ""
            }, "Its rate rises over the run, and the file does not say from where to where."
        return {"arrivals": "trace", "ramp_per_s": ramp, "max_open": clients}, ""
    if not math.isfinite(rate):
        return {"arrivals": "closed", "concurrency": clients} if clients else {"arrivals": "offline"}, ""
    sent = {"arrivals": "poisson", "arrival_per_s": rate, "max_open": clients}
    if math.isfinite(burstiness) and burstiness != 1:
        sent |= {"arrivals": "gamma", "arrival_cv": min(max(burstiness**-0.5, 0.01), 100.0)}
    return sent, ""


def _ramp(entry: dict[str, Any]) -> tuple[float, ...]:
    """Return the rates of a ramp-up at even steps of the requests, empty where its ends are not stated."""
    ends = [above_zero(entry, f"ramp_up_{end}_rps") for end in ("start", "end")]
    if not all(map(math.isfinite, ends)):
        return ()
    exponential = entry.get("ramp_up_strategy") == "exponential"
    rates = np.geomspace(ends[0], ends[1], RAMP_STEPS) if exponential else np.array(ends)
    return tuple(rates.tolist())


def _failed(entry: dict[str, Any], done: float) -> float:
    """Return how many requests failed, from the count, the errors of each, or how many were to be sent."""
    failed = first_number(entry, "failed")
    if math.isfinite(failed):
        return failed
    errors = entry.get("errors")
    if isinstance(errors, list):
        return float(sum(bool(error) for error in errors))
    return max(first_number(entry, "num_prompts") - done, 0.0)


def _spread(entry: dict[str, Any], tool: str) -> tuple[dict[str, float], list[str]]:
    """Return how much prompts and answers vary, and what was read or assumed for it."""
    found, notes = {}, []
    for side in ("input", "output"):
        found[side] = variation(entry, f"{side}_lens")
        lens = lengths_in(entry, f"{side}_lens")
        empty = lens.count(0)
        if empty:
            what = "answers" if side == "output" else "prompts"
            notes.append(f"{empty:,} of {len(lens):,} {what} are empty; they count into mean and variation.")
    unknown = [side for side, cv in found.items() if math.isnan(cv)]
    for side in unknown:
        found[side], words = _spread_of_dataset(entry, tool, side)
        notes += [words] if words and words not in notes else []
    return found, notes


def _spread_of_dataset(entry: dict[str, Any], tool: str, side: str) -> tuple[float, str]:
    """Return how much the lengths of a dataset vary, and in words what was assumed."""
    ratio, data = first_number(entry, "random_range_ratio"), str(entry.get("dataset_name", ""))
    fixed = side == "output" and first_number(entry, "sharegpt_output_len", low=1) > 0
    if data.startswith("sharegpt") and not fixed:
        return SHAREGPT_CV[side], "The file states no spread of lengths; drawn as ShareGPT's vary."
    if ratio <= 1 and not fixed and (not data or data.startswith("random")):
        return ((1 - ratio) / (1 + ratio) if tool == "sglang" else ratio) / math.sqrt(3), ""
    asked = "asks for equal lengths by default" if tool == "vllm" else "asks for equal ones"
    return NEARLY_EQUAL, (
        f"The file states no spread of lengths, and the tool {asked}; drawn with a variation of "
        f"{NEARLY_EQUAL:g}, as exactly equal ones march in step."
    )


def _unmodelled(entry: dict[str, Any]) -> list[str]:
    """Return what a run had that is not simulated."""
    notes = []
    if entry.get("dataset_name") in PREFIXES:
        notes.append("Its prompts share prefixes; each is computed whole here.")
    if first_number(entry, "total_input_vision_tokens", "random_image_count") > 0:
        notes.append("Its prompts hold images; they count as tokens of text where the tool counts them.")
    accepted = first_number(entry, "accept_length", "spec_decode_acceptance_length")
    if accepted > 1:
        notes.append(f"It speculated, {accepted:.3g} tokens a step; a fit takes that for a faster step.")
    if entry.get("ramp_up_strategy") and first_number(entry, "max_concurrency") > 0:
        notes.append("Its rate rises under a cap on open requests; the cap is not simulated.")
    return notes


# --- one batch ------------------------------------------------------------------------------------


def one_batch(content: Content) -> Upload:
    """Return the points of SGLang's `bench_one_batch` and `bench_one_batch_server`: one batch at a time."""
    return finished(content.name, "sglang-batch", list(map(_one_batch_point, content.entries)), [])


def _one_batch_point(entry: dict[str, Any]) -> OwnPoint:
    """Return one batch; its own throughput counts the decode alone, so tokens over all of its time count."""
    size = above_zero(entry, "batch_size")
    prompt, output = above_zero(entry, "input_len"), above_zero(entry, "output_len")
    whole_s = above_zero(entry, "latency", "total_latency")
    step_s = above_zero(entry, "median_decode_latency")
    notes = [
        "Throughput is that of the answers over the whole batch's time; the tool's own leaves parts out."
    ]
    if first_number(entry, "cache_hit_rate") > 0:
        notes.append("Some of its prompts were cached; each is computed whole here.")
    if first_number(entry, "acc_length") > 1:
        notes.append("It speculated; a fit takes that for a faster step.")
    return OwnPoint(
        name=f"a batch of {whole(size):,}, {whole(prompt):,} to {whole(output):,} tokens",
        tool="sglang-batch",
        arrivals="offline" if whole(size) else "",
        requests=whole(size),
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_cv=0.0,
        output_cv=0.0,
        ttft_ms=1e3 * above_zero(entry, "prefill_latency"),
        tpot_ms=1e3 * step_s,
        e2e_ms=1e3 * whole_s,
        output_tok_per_s=size * output / whole_s,
        request_per_s=size / whole_s,
        left_out="" if whole(size) else "The file does not state the size of the batch.",
        notes=tuple(notes),
    )


FORMATS = (
    Format(
        "sglang-batch",
        "SGLang `bench_one_batch` and `bench_one_batch_server`: the JSON lines",
        _is_one_batch,
        one_batch,
        engine="sglang",
    ),
    Format(
        "sglang",
        "SGLang `bench_serving`, `bench_offline_throughput`: the JSON lines",
        _is_sglang,
        serving,
        engine="sglang",
    ),
    Format("vllm", "vLLM `bench serve`: the result JSON", _is_either, serving, engine="vllm"),
)
