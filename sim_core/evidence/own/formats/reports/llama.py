"""llama.cpp: `llama-bench` and `llama-batched-bench`.

References
----------
ggml-org/llama.cpp, tools/llama-bench/README.md and tools/batched-bench/batched-bench.cpp.
"""

from __future__ import annotations

import math
from typing import Any

from sim_core.evidence.own.formats.points import (
    NAN,
    Content,
    Format,
    OwnPoint,
    Upload,
    above_zero,
    finished,
)
from sim_core.evidence.own.formats.reports.numbers import load_sent, source_note, tally

CACHED = "Its prompt follows {:,} cached tokens, and a cached prefix is not simulated."
SHARED = "All its sequences share one prompt (is_pp_shared), which is not simulated."

# --- llama-bench: one request at a time -----------------------------------------------------------


def _is_bench(content: Content) -> bool:
    return {"n_prompt", "n_gen"} <= content.first.keys() and not content.first.keys().isdisjoint(
        {"avg_ns", "avg_ts"}
    )


def _bench(content: Content) -> Upload:
    """Return a point for each test: a prompt alone gives TTFT, generation alone TPOT, both the whole time."""
    first = content.first
    build = first.get("build_number", first.get("build_commit"))
    device = first.get("gpu_info") or first.get("cpu_info")
    notes = source_note("llama-bench", build, first.get("model_type"), device)
    models = {str(entry.get("model_type")) for entry in content.entries}
    if len(models) > 1:
        notes.append(f"The file holds {len(models)} models; fit only the points of the scenario's own.")
    if any(tally(entry, "n_gpu_layers") == 0 for entry in content.entries if "n_gpu_layers" in entry):
        notes.append("Some tests kept all layers on the processor (n_gpu_layers 0).")
    notes.append("llama-bench leaves out tokenization and sampling; it serves one request at a time.")
    points = [_bench_point(entry, len(models) > 1) for entry in content.entries]
    return finished(content.name, "llama-bench", points, notes)


def _bench_point(entry: dict[str, Any], named: bool) -> OwnPoint:
    """Return one test; generation starts after `n_depth` tokens of context, or after one."""
    prompt, output, depth = (tally(entry, key) for key in ("n_prompt", "n_gen", "n_depth"))
    total_ms = 1e-6 * above_zero(entry, "avg_ns")
    if math.isnan(total_ms):
        total_ms = 1e3 * (prompt + output) / above_zero(entry, "avg_ts")
    parts = [f"prompt of {prompt:,}"] * bool(prompt) + [f"{output:,} generated"] * bool(output)
    parts += [f"after {depth:,}"] * bool(depth) + [str(entry.get("model_type"))[:40]] * named
    return OwnPoint(
        name=", ".join(parts) or "a test",
        tool="llama-bench",
        **load_sent(NAN, 1),
        requests=1,
        prompt_tokens=float(prompt or max(depth, 1)),
        output_tokens=float(max(output, 1)),
        prompt_cv=0.0,
        output_cv=0.0,
        ttft_ms=total_ms if prompt and not output else NAN,
        tpot_ms=total_ms / output if output and not prompt else NAN,
        e2e_ms=total_ms if prompt and output else NAN,
        output_tok_per_s=1e3 * output / total_ms if output and not (prompt or depth) else NAN,
        left_out=CACHED.format(depth) if prompt and depth else "",
    )


# --- llama-batched-bench: a static batch ----------------------------------------------------------


def _is_batched(content: Content) -> bool:
    return {"pp", "tg", "pl"} <= content.first.keys()


def _batched(content: Content) -> Upload:
    """Return a point for each line: sequences sent at once, all prompts first, then all decode together."""
    notes = [
        "llama-batched-bench works off all prompts before it decodes: TPOT holds no prompts of others, and "
        "TTFT is given where they fit one batch."
    ]
    points = [_batched_point(entry) for entry in content.entries]
    return finished(content.name, "llama-batched-bench", points, notes)


def _batched_point(entry: dict[str, Any]) -> OwnPoint:
    prompt, output, batch = (tally(entry, key) for key in ("pp", "tg", "pl"))
    prefill_s, decode_s, total_s = (above_zero(entry, key) for key in ("t_pp", "t_tg", "t"))
    prefill_s = prefill_s if prefill_s > 0 else batch * prompt / above_zero(entry, "speed_pp")
    decode_s = decode_s if decode_s > 0 else batch * output / above_zero(entry, "speed_tg")
    total_s = prefill_s + decode_s if prefill_s + decode_s > 0 else total_s
    together = batch == 1 or batch * prompt <= tally(entry, "n_batch")
    tokens_per_s = batch * output / total_s if batch and output else NAN
    return OwnPoint(
        name=f"{batch:,} at once, {prompt:,} → {output:,}",
        tool="llama-batched-bench",
        arrivals="closed" if batch == 1 else "offline" if batch else "",
        concurrency=batch,
        requests=batch,
        prompt_tokens=float(prompt or NAN),
        output_tokens=float(output or NAN),
        prompt_cv=0.0,
        output_cv=0.0,
        ttft_ms=1e3 * prefill_s if together else NAN,
        tpot_ms=1e3 * decode_s / output if output else NAN,
        e2e_ms=1e3 * total_s,
        output_tok_per_s=tokens_per_s,
        request_per_s=batch / total_s if batch else NAN,
        left_out=SHARED if tally(entry, "is_pp_shared") else "",
    )


FORMATS = (
    Format("llama-bench", "llama.cpp `llama-bench`: `-o json` or `-o jsonl`", _is_bench, _bench),
    Format(
        "llama-batched-bench",
        "llama.cpp `llama-batched-bench`: `--output-format jsonl`",
        _is_batched,
        _batched,
    ),
)
