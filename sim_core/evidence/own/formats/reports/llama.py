"""llama.cpp: `llama-bench` and `llama-batched-bench`.

References
----------
ggml-org/llama.cpp, tools/llama-bench/README.md and tools/batched-bench/batched-bench.cpp.
"""

from __future__ import annotations

import csv
import math
import re
from typing import Any

from sim_core.evidence.own.formats.points import (
    NAN,
    Content,
    Format,
    OwnPoint,
    Upload,
    above_zero,
    finished,
    first_number,
)
from sim_core.evidence.own.formats.reports.numbers import load_sent, source_note, tally

MARKDOWN = {  # titles of the tables that are printed by default, and JSON's names of the same
    "model": "model_type",
    "backend": "backends",
    "ngl": "n_gpu_layers",
    "t/s": "avg_ts",
    "b": "pl",
    "t_pp s": "t_pp",
    "s_pp t/s": "speed_pp",
    "t_tg s": "t_tg",
    "s_tg t/s": "speed_tg",
    "t s": "t",
}
TESTS = {"pp": "n_prompt", "tg": "n_gen", "d": "n_depth"}
CACHED = "Its prompt follows {:,} cached tokens, and a cached prefix is not simulated."
SHARED = "All its sequences share one prompt (is_pp_shared), which is not simulated."

# --- tables ---------------------------------------------------------------------------------------


def _entries(content: Content) -> list[dict[str, Any]]:
    """Return the objects of JSON; or the rows of a CSV or of a Markdown table, under JSON's names."""
    if content.entries:
        return content.entries
    rows = _table(content.text)
    if not rows:
        return list(csv.DictReader(content.text.splitlines()))
    heads = [MARKDOWN.get(head.lower(), head.lower()) for head in rows[0]]
    cells = [row for row in rows[1:] if len(row) == len(heads) and set("".join(row)) - set("-: ")]
    return [_named(dict(zip(heads, row, strict=True))) for row in cells]


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose `test` (pp512, tg128, pp512+tg128, pp512 @ d4096) is told apart, without ± parts."""
    tests = dict(re.findall(r"(pp|tg|d) ?(\d{1,9})", str(row.get("test", ""))))
    lengths = {key: tests.get(part, "0") for part, key in TESTS.items()} if tests else {}
    return {key: value.partition("±")[0].strip() for key, value in row.items()} | lengths


# --- llama-bench: one request at a time -----------------------------------------------------------


def _is_bench(content: Content) -> bool:
    keys = {*content.first, *content.heads}
    return ({"n_prompt", "n_gen"} <= keys and bool({"avg_ns", "avg_ts"} & keys)) or _has_titles(
        content, "test", "t/s"
    )


def _table(text: str, most: int = 10_000) -> list[list[str]]:
    """Return the cells of a text's lines between bars: log lines may stand around a table."""
    lines = (line.strip() for line in text[: 200 * most].splitlines()[:most])
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]


def _has_titles(content: Content, *titles: str) -> bool:
    rows = [] if content.entries else _table(content.text, most=100)
    return bool(rows) and {*titles} <= {head.lower() for head in rows[0]}


def _bench(content: Content) -> Upload:
    """Return a point for each test: a prompt alone gives TTFT, generation alone TPOT, both the whole time."""
    entries = _entries(content)
    first = entries[0] if entries else {}
    build = first.get("build_number", first.get("build_commit"))
    device = first.get("gpu_info") or first.get("cpu_info")
    notes = source_note("llama-bench", build, first.get("model_type"), device)
    models = {str(entry.get("model_type")) for entry in entries}
    if len(models) > 1:
        notes.append(f"The file holds {len(models)} models; fit only the points of the scenario's own.")
    if any(first_number(entry, "n_gpu_layers") == 0 for entry in entries):
        notes.append("Some tests kept all layers on the processor (n_gpu_layers 0).")
    notes.append("llama-bench leaves out tokenization and sampling; it serves one request at a time.")
    points = [_bench_point(entry, len(models) > 1) for entry in entries]
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
    return {"pp", "tg", "pl"} <= content.first.keys() or _has_titles(content, "pp", "tg", "b", "t_tg s")


def _batched(content: Content) -> Upload:
    """Return a point for each line: sequences sent at once, all prompts first, then all decode together."""
    notes = [
        "llama-batched-bench works off all prompts before it decodes: TPOT holds no prompts of others, and "
        "TTFT is given where they fit one batch."
    ]
    points = [_batched_point(entry) for entry in _entries(content)]
    return finished(content.name, "llama-batched-bench", points, notes)


def _batched_point(entry: dict[str, Any]) -> OwnPoint:
    prompt, output, batch = (tally(entry, key) for key in ("pp", "tg", "pl"))
    prefill_s = _seconds(entry, "t_pp", batch * prompt, "speed_pp")
    decode_s = _seconds(entry, "t_tg", batch * output, "speed_tg")
    total_s = prefill_s + decode_s
    total_s = total_s if total_s > 0 else above_zero(entry, "t")
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


def _seconds(entry: dict[str, Any], key: str, tokens: int, speed: str) -> float:
    """Return a phase's time, as stated or from its tokens a second; NaN where it had no token."""
    found = above_zero(entry, key)
    return (found if found > 0 else tokens / above_zero(entry, speed)) if tokens else NAN


FORMATS = (
    Format("llama-bench", "llama.cpp `llama-bench`: `-o json`, `jsonl`, `csv` or `md`", _is_bench, _bench),
    Format(
        "llama-batched-bench",
        "llama.cpp `llama-batched-bench`: `--output-format jsonl` or `md`",
        _is_batched,
        _batched,
    ),
)
