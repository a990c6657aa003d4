"""TensorRT-LLM's `trtllm-bench`, and the rows of InferenceX (InferenceMAX).

References
----------
NVIDIA/TensorRT-LLM, tensorrt_llm/bench/dataclasses/reporting.py (`--report_json`).
SemiAnalysisAI/InferenceX, utils/process_result.py (`agg_*.json`): times in seconds, throughput per GPU.
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
    as_object,
    finished,
)
from sim_core.evidence.own.formats.reports.numbers import (
    length_cv,
    load_sent,
    per_token_ms,
    source_note,
    tally,
)
from sim_core.fields.texts import counted

# --- trtllm-bench ---------------------------------------------------------------------------------

ALL_AT_ONCE = 0.4  # of the requests open on average: they were sent at once, which is the tool's default


def _is_trtllm(content: Content) -> bool:
    parts = ("engine", "world_info", "request_info", "performance", "streaming_metrics")
    return sum(isinstance(content.first.get(part), dict) for part in parts) >= 3


def _trtllm(content: Content) -> Upload:
    notes: list[str] = []
    for entry in content.entries[:1]:
        engine, world = as_object(entry.get("engine")), as_object(entry.get("world_info"))
        device = as_object(entry.get("machine")).get("name") or ""
        devices = f"{tally(world, 'world_size') or 1} x {device}" if device else ""
        notes += source_note("trtllm-bench", engine.get("version"), engine.get("model"), devices)
    points = [_trtllm_point(entry) for entry in content.entries]
    return finished(content.name, "trtllm-bench", points, notes)


def _trtllm_point(entry: dict[str, Any]) -> OwnPoint:
    """Return one run; its report gives the requests open on average, not the clients."""
    asked, reached = as_object(entry.get("request_info")), as_object(entry.get("performance"))
    streamed, data = as_object(entry.get("streaming_metrics")), as_object(entry.get("dataset"))
    requests, opened = tally(asked, "num_requests"), above_zero(asked, "avg_num_concurrent_requests")
    prompt, output = above_zero(asked, "avg_input_length"), above_zero(asked, "avg_output_length")
    at_once = requests > 1 and opened >= ALL_AT_ONCE * requests
    notes = []
    clients = 0 if at_once or math.isnan(opened) else math.ceil(opened - 1e-9)
    if at_once:
        notes.append(
            f"{opened:,.4g} of {requests:,} requests were open on average: taken as sent all at once, as "
            "trtllm-bench does without --concurrency."
        )
    elif clients:
        notes.append(
            f"The report does not state the clients: {clients:,}, for {opened:,.4g} requests open on average."
        )
    if entry.get("decoding_stats"):
        notes.append("The run used speculative decoding (decoding_stats): choose it in the scenario too.")
    return OwnPoint(
        name="all at once" if at_once else counted(clients, "client") if clients else "a run",
        tool="trtllm-bench",
        arrivals="offline" if at_once else "closed" if clients else "",
        concurrency=clients,
        requests=requests,
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_cv=length_cv(data.get("isl_stats"), prompt),
        output_cv=length_cv(data.get("osl_stats"), output),
        ttft_ms=above_zero(streamed, "avg_ttft_ms"),
        tpot_ms=above_zero(streamed, "avg_tpot_ms"),
        e2e_ms=above_zero(reached, "avg_request_latency_ms"),
        output_tok_per_s=above_zero(reached, "system_output_throughput_tok_s"),
        request_per_s=above_zero(reached, "request_throughput_req_s"),
        notes=tuple(notes),
    )


# --- InferenceX -----------------------------------------------------------------------------------

RANGE_MEAN = 0.9  # of lengths drawn evenly between 80 % and 100 % of what is asked for, as its scripts do
RANGE_CV = 0.2 / 12**0.5 / RANGE_MEAN
NEAR = 0.03  # how near such a mean, from times, must come
REQUESTS_A_CLIENT = 10  # that its scripts send
APART = "Separate workers prefill and decode; points are simulated on one pool."


def _is_inferencex(content: Content) -> bool:
    keys = content.first.keys()
    named = {
        "hw",
        "conc",
        "framework",
        "precision",
        "infmax_model_prefix",
        "tput_per_gpu",
        "output_tput_per_gpu",
    }
    return len(named & keys) >= 3 and not {"mean_ttft", "median_ttft", "mean_tpot", "median_tpot"}.isdisjoint(
        keys
    )


def _inferencex(content: Content) -> Upload:
    """Return a point a row; those of separate prefill and decode workers are another layout, no evidence."""
    rows, notes = content.entries, []
    kinds = {_kind(row): None for row in rows if not _apart(row)}
    if len(kinds) > 1:
        notes.append(
            f"The rows are of {len(kinds)} models, devices or layouts; fit only those of the scenario's own."
        )
    elif kinds:
        row = next(row for row in rows if not _apart(row))
        notes += source_note("InferenceX", "", row.get("model"), _kind(row | {"model": ""}))
    points = [_inferencex_point(row, len(kinds) > 1) for row in rows]
    return finished(content.name, "inferencex", points, notes)


def _apart(row: dict[str, Any]) -> bool:
    return row.get("disagg") in (True, "true", "True") or "num_prefill_gpu" in row


def _kind(row: dict[str, Any]) -> str:
    parts = [str(row[key])[:30] for key in ("framework", "precision") if row.get(key)]
    layout = [f"{name.upper()} {tally(row, name)}" for name in ("tp", "ep") if tally(row, name)]
    return " ".join([str(row.get("hw", ""))[:30], *layout, *parts, str(row.get("model", ""))[-40:]]).strip()


def _inferencex_point(row: dict[str, Any], named: bool) -> OwnPoint:
    """Return one row; its output length follows from its times where these say that lengths were drawn."""
    statistic = "mean" if above_zero(row, "mean_ttft", "mean_tpot") > 0 else "median"
    ttft_ms, tpot_ms, itl_ms, e2e_ms = (
        1e3 * above_zero(row, f"{statistic}_{name}") for name in ("ttft", "tpot", "itl", "e2el")
    )
    prompt, output = above_zero(row, "isl"), above_zero(row, "osl")
    share = ((e2e_ms - ttft_ms) / tpot_ms + 1) / output
    notes = []
    drawn, equal = abs(share - RANGE_MEAN) < NEAR, abs(share - 1) < NEAR
    cv = RANGE_CV if drawn else 0.0 if equal else NAN
    if drawn:
        prompt, output = RANGE_MEAN * prompt, RANGE_MEAN * output
        notes.append(
            "By the times, lengths were drawn between 80 % and 100 % of isl and osl, as InferenceX does: "
            "means of 90 % are taken."
        )
    clients, gpus = tally(row, "conc"), tally(row, "tp") * max(tally(row, "pp"), 1)
    if row.get("spec_decoding") not in (None, "", "none", "false", False):
        notes.append("It used speculative decoding (spec_decoding): choose it in the scenario too.")
    tokens_per_s = gpus * above_zero(row, "output_tput_per_gpu") if gpus else NAN
    sent = load_sent(NAN, clients)
    return OwnPoint(
        name=(counted(clients, "client") if clients else "a row") + (f", {_kind(row)}" if named else ""),
        tool="inferencex",
        **sent,
        requests=REQUESTS_A_CLIENT * clients,
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_cv=cv,
        output_cv=cv,
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms if tpot_ms > 0 else per_token_ms(e2e_ms, ttft_ms, output),
        itl_ms=itl_ms,
        e2e_ms=e2e_ms,
        output_tok_per_s=tokens_per_s,
        request_per_s=tokens_per_s / output,
        statistic=statistic,
        left_out=APART if _apart(row) else "",
        notes=tuple(notes),
    )


FORMATS = (
    Format(
        "trtllm-bench",
        "TensorRT-LLM `trtllm-bench`: `--report_json`",
        _is_trtllm,
        _trtllm,
        engine="tensorrt-llm",
    ),
    Format("inferencex", "InferenceX (InferenceMAX): rows of `agg_….json`", _is_inferencex, _inferencex),
)
