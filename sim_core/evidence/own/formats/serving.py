"""`vllm bench serve` and SGLang's `bench_serving`: result JSON."""

from __future__ import annotations

import math
from typing import Any

from sim_core.evidence.own.formats.points import (
    Content,
    Format,
    OwnPoint,
    Upload,
    above_zero,
    finished,
    first_number,
    point_name,
    variation,
    whole,
)

# --- vLLM and SGLang ------------------------------------------------------------------------------


def serving(content: Content) -> Upload:
    """Return the points of `vllm bench serve` or of SGLang's `bench_serving`, whose keys are alike."""
    tool = "sglang" if _is_sglang(content) else "vllm"
    notes: list[str] = []
    points = [_serving_point(entry, tool, notes) for entry in content.entries]
    return finished(content.name, tool, points, notes)


def _is_either(content: Content) -> bool:
    keys = ("mean_ttft_ms", "median_ttft_ms", "output_throughput", "mean_tpot_ms")
    return any(key in content.first for key in keys)


def _is_sglang(content: Content) -> bool:
    keys = ("mean_e2e_latency_ms", "sharegpt_output_len", "server_info")
    found = any(key in content.first for key in keys) or content.first.get("backend") == "sglang"
    return found and _is_either(content)


def _serving_point(entry: dict[str, Any], tool: str, notes: list[str]) -> OwnPoint:
    """Return one run; a finite rate is an open loop, else clients are a closed one, else all came at once."""
    done = above_zero(entry, "completed", "num_prompts")
    clients, rate = whole(first_number(entry, "max_concurrency")), above_zero(entry, "request_rate")
    burstiness = above_zero(entry, "burstiness")
    failed = whole(first_number(entry, "failed"))
    if failed:
        notes.append(f"{failed:,} requests of a run failed; the tool leaves them out of its figures.")
    if clients and math.isfinite(rate):
        notes.append(
            f"A run at {rate:g} req/s had at most {clients:,} open at a time; that cap is not simulated."
        )
    arrivals = "poisson" if math.isfinite(rate) else "closed" if clients else "offline"
    cv = 1.0
    if arrivals == "poisson" and math.isfinite(burstiness) and burstiness != 1:
        arrivals, cv = "gamma", min(max(burstiness**-0.5, 0.01), 100.0)
    statistic = "mean" if math.isfinite(first_number(entry, "mean_ttft_ms", "mean_tpot_ms")) else "median"

    def latency(*names: str) -> float:
        return above_zero(entry, *(f"{statistic}_{name}_ms" for name in names))

    return OwnPoint(
        name=point_name(arrivals, clients, rate),
        tool=tool,
        arrivals=arrivals,
        concurrency=clients if arrivals == "closed" else 0,
        arrival_per_s=rate,
        arrival_cv=cv,
        requests=whole(done),
        prompt_tokens=above_zero(entry, "total_input_tokens", "total_input") / done,
        output_tokens=above_zero(entry, "total_output_tokens", "total_output") / done,
        prompt_cv=variation(entry, "input_lens"),
        output_cv=variation(entry, "output_lens"),
        ttft_ms=latency("ttft"),
        tpot_ms=latency("tpot"),
        itl_ms=latency("itl"),
        e2e_ms=latency("e2el", "e2e_latency"),
        output_tok_per_s=above_zero(entry, "output_throughput"),
        request_per_s=above_zero(entry, "request_throughput"),
        statistic=statistic,
    )


FORMATS = (
    Format("sglang", "SGLang `bench_serving`: the JSON lines", _is_sglang, serving),
    Format("vllm", "vLLM `bench serve`: the result JSON", _is_either, serving),
)
