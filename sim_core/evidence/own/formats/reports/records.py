"""Records of single requests, of AIPerf, LLMPerf and inference-perf; and the mean of several AIPerf runs.

What was sent is replayed at the times it was sent; where every request follows the end of another, it was a
closed loop, and it is simulated as one.

References
----------
ai-dynamo/aiperf, docs/tutorials/working-with-profile-exports.md.
ray-project/llmperf, token_benchmark_ray.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim_core.evidence.own.formats.points import (
    MAX_ROWS,
    NAN,
    Content,
    Format,
    OwnPoint,
    Upload,
    above_zero,
    as_object,
    failures,
    finished,
    first_number,
    ms_of,
    relative,
    whole,
)
from sim_core.fields.texts import counted
from sim_core.traffic.requests import Requests, requests_of

ALL_AT_ONCE = 0.05  # of an answer's time within which all requests were sent
FOLLOWS = 0.25  # of the mean time between ends: a client of a closed loop sends sooner than that after one
STEADY = 0.9  # share of the clients that are busy whenever one sends


class Records(NamedTuple):
    """Requests that were answered, one entry each; NaN where the file does not tell. Times in s and ms."""

    start_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    ttft_ms: np.ndarray
    e2e_ms: np.ndarray


def records_of(rows: list[tuple[float, float, float, float, float]]) -> Records:
    """Return rows of start [s], prompt and output tokens, TTFT and end-to-end time [ms], by start."""
    table = np.array(rows, dtype=float).reshape(-1, 5)
    return Records(*table[np.argsort(table[:, 0], kind="stable")].T)


def records_point(records: Records, tool: str) -> OwnPoint:
    """Return the records as one point, with the requests themselves where start and lengths are known."""
    start_s, prompt, output, ttft_ms, e2e_ms = records
    arrivals, clients = sending(start_s, 1e-3 * e2e_ms)
    many = output > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        tpot_ms = np.where(many & (e2e_ms > ttft_ms), (e2e_ms - ttft_ms) / (output - 1), NAN)
        span_s = float(
            np.nanmax(start_s + 1e-3 * e2e_ms, initial=-np.inf) - np.nanmin(start_s, initial=np.inf)
        )
    span_s = span_s if 0 < span_s < np.inf else NAN
    full = np.isfinite(start_s) & (prompt >= 1) & (output >= 1)
    rows = _rows(records) if full.all() and full.size else None
    known = f", {counted(clients, 'client')}" if arrivals == "closed" else ""
    return OwnPoint(
        name=counted(start_s.size, "request") + known,
        tool=tool,
        arrivals=arrivals if arrivals != "trace" or rows is not None else "",
        concurrency=clients,
        requests=start_s.size,
        prompt_tokens=_mean(prompt),
        output_tokens=_mean(output),
        prompt_cv=_cv(prompt),
        output_cv=_cv(output),
        ttft_ms=_mean(ttft_ms),
        tpot_ms=_mean(tpot_ms),
        e2e_ms=_mean(e2e_ms),
        output_tok_per_s=float(np.nansum(output)) / span_s if np.isfinite(output).all() else NAN,
        request_per_s=start_s.size / span_s,
        rows=rows,
    )


def _rows(records: Records) -> Requests:
    lengths = (np.rint(column) for column in (records.prompt_tokens, records.output_tokens))
    return requests_of(records.start_s - records.start_s[0], *lengths)


def sending(start_s: np.ndarray, e2e_s: np.ndarray) -> tuple[str, int]:
    """Return how requests were sent, as arrivals and clients, from when each began and how long it took.

    All began almost at once: offline. Each began right after the end of another, with as many open as ever:
    a closed loop. Else they came at the times they came: a trace.

    Parameters
    ----------
    start_s, e2e_s : ndarray, shape (requests,)
        Starts, rising, and end-to-end times. [s]
    """
    if start_s.size == 0 or not (np.isfinite(start_s) & np.isfinite(e2e_s)).all():
        return ("trace" if np.isfinite(start_s).all() and start_s.size else ""), 0
    ends = np.sort(start_s + e2e_s)
    ended = np.searchsorted(ends, start_s, side="right")
    opened = np.arange(1, start_s.size + 1) - ended
    most = int(opened.max())
    if most == start_s.size:
        quick = start_s[-1] - start_s[0] <= ALL_AT_ONCE * e2e_s.mean()
        return ("offline", 0) if quick and most > 1 else ("trace", 0)
    later = ended > 0
    later[:most] = False
    wait_s = start_s[later] - ends[ended[later] - 1]
    steady = later.any() and np.mean(opened[later] >= STEADY * most) >= STEADY
    follows = later.any() and np.median(wait_s) <= FOLLOWS * e2e_s.mean() / most
    return ("closed", most) if steady and follows else ("trace", 0)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values) & (values > 0)]
    return float(known.mean()) if known.size else NAN


def _cv(lengths: np.ndarray) -> float:
    known = lengths[np.isfinite(lengths) & (lengths > 0)]
    return min(float(known.std() / known.mean()), 10.0) if known.size else NAN


# --- AIPerf ---------------------------------------------------------------------------------------


def _is_aiperf(content: Content) -> bool:
    first = content.first
    known = ("request_start_ns", "benchmark_phase", "session_num", "turn_index")
    return "metrics" in first and not as_object(first.get("metadata")).keys().isdisjoint(known)


def _aiperf(content: Content) -> Upload:
    """Return the requests of the profiling phase that were answered."""
    entries = content.entries[:MAX_ROWS]
    profiled = [
        entry for entry in entries if _about(entry).get("benchmark_phase", "profiling") == "profiling"
    ]
    answered = [entry for entry in profiled if not (entry.get("error") or _about(entry).get("was_cancelled"))]
    cancelled = sum(bool(_about(entry).get("was_cancelled")) for entry in profiled)
    words, too_many = failures(len(answered), len(profiled) - len(answered) - cancelled)
    notes = list(words)
    if cancelled:
        notes.append(f"{counted(cancelled, 'request')} cancelled; the figures are those of the others.")
    if len(profiled) < len(entries):
        notes.append(
            f"{counted(len(entries) - len(profiled), 'request')} of other phases (warm-up) left out."
        )
    turns = sum(first_number(_about(entry), "turn_index") > 0 for entry in answered)
    if turns:
        notes.append(
            f"{turns:,} are later turns of a conversation: what they share with it is computed anew."
        )
    records = records_of([_aiperf_row(entry) for entry in answered])
    if records.start_s.size and not np.isfinite(records.start_s).all():
        notes.append("Some records lack request_start_ns: the requests cannot be replayed.")
    point = records_point(records, "aiperf-records")._replace(left_out=too_many, notes=tuple(notes))
    return finished(content.name, "aiperf-records", [point], [])


def _about(entry: dict[str, Any]) -> dict[str, Any]:
    return as_object(entry.get("metadata"))


def _aiperf_row(entry: dict[str, Any]) -> tuple[float, float, float, float, float]:
    metrics = as_object(entry.get("metrics"))
    start_s, end_s = (_clock_s(_about(entry).get(f"request_{edge}_ns")) for edge in ("start", "end"))
    e2e_ms = _metric(metrics, "request_latency")
    e2e_ms = e2e_ms if e2e_ms > 0 else 1e3 * (end_s - start_s)
    prompt, output = (_metric(metrics, f"{side}_sequence_length") for side in ("input", "output"))
    output = output if output > 0 else _metric(metrics, "output_token_count")
    return start_s, prompt, output, _metric(metrics, "time_to_first_token"), e2e_ms


def _clock_s(value: object) -> float:
    """Return a clock time in nanoseconds as seconds."""
    return 1e-9 * value if isinstance(value, int) and 0 < value < 2**63 else NAN


def _metric(metrics: dict[str, Any], key: str) -> float:
    """Return a metric's value: a length in tokens, a time in ms whatever its unit."""
    block = as_object(metrics.get(key))
    timed = 1.0 if key.endswith(("length", "count")) else ms_of(block.get("unit"), "ms")
    return above_zero(block, "value") * timed


# --- llmperf --------------------------------------------------------------------------------------


def _is_llmperf(content: Content) -> bool:
    return {"end_to_end_latency_s", "ttft_s"} & content.first.keys() != set() and (
        "number_output_tokens" in content.first or "number_input_tokens" in content.first
    )


def _llmperf(content: Content) -> Upload:
    """Return the responses without an error; without starts, their clients stand in the summary alone."""
    entries = content.entries[:MAX_ROWS]
    answered = [entry for entry in entries if entry.get("error_code") in (None, "")]
    words, too_many = failures(len(answered), len(entries) - len(answered))
    notes = list(words)
    records = records_of(
        [
            (
                first_number(entry, "request_start_time", "start_time"),
                above_zero(entry, "number_input_tokens"),
                above_zero(entry, "number_output_tokens"),
                1e3 * above_zero(entry, "ttft_s"),
                1e3 * above_zero(entry, "end_to_end_latency_s"),
            )
            for entry in answered
        ]
    )
    if not np.isfinite(records.start_s).all():
        notes.append(
            "llmperf's responses do not say when they were sent, nor by how many clients: upload the file "
            "…_summary.json beside them."
        )
    point = records_point(records, "llmperf-responses")._replace(left_out=too_many, notes=tuple(notes))
    return finished(content.name, "llmperf-responses", [point], [])


# --- inference-perf -------------------------------------------------------------------------------


def _is_inference_perf(content: Content) -> bool:
    return {"start_time", "end_time", "info"} <= content.first.keys()


def _inference_perf(content: Content) -> Upload:
    """Return the requests that were answered; times are in seconds, those of tokens on the same clock."""
    entries = content.entries[:MAX_ROWS]
    answered = [entry for entry in entries if not entry.get("error")]
    words, too_many = failures(len(answered), len(entries) - len(answered))
    records = records_of(list(map(_inference_perf_row, answered)))
    point = records_point(records, "inference-perf-records")._replace(left_out=too_many, notes=words)
    return finished(content.name, "inference-perf-records", [point], [])


def _inference_perf_row(entry: dict[str, Any]) -> tuple[float, float, float, float, float]:
    """Return one request, whose lengths an older file has in `info` itself."""
    info = as_object(entry.get("info"))
    asked, answer = as_object(info.get("request_metrics")), as_object(info.get("response_metrics")) or info
    start_s, end_s = (first_number(entry, key) for key in ("start_time", "end_time"))
    times = answer.get("output_token_times")
    first_s = first_number({"first": times[0]}, "first") if isinstance(times, list) and times else NAN
    prompt = first_number(as_object(asked.get("text")) or info, "input_tokens", low=1)
    output = first_number(answer, "output_tokens", low=1)
    ttft_ms, e2e_ms = (1e3 * (at - start_s) if at > start_s else NAN for at in (first_s, end_s))
    return start_s, prompt, output, ttft_ms, e2e_ms


# --- AIPerf, several runs -------------------------------------------------------------------------


def _is_aiperf_runs(content: Content) -> bool:
    about, metrics = (as_object(content.first.get(key)) for key in ("metadata", "metrics"))
    return "num_profile_runs" in about or any(key.endswith("_latency_avg") for key in metrics)


def _aiperf_runs(content: Content) -> Upload:
    """Return the mean of several runs of one load, which the file does not state."""
    return finished(content.name, "aiperf-runs", list(map(_aiperf_runs_point, content.entries)), [])


def _aiperf_runs_point(entry: dict[str, Any]) -> OwnPoint:
    about, metrics = (as_object(entry.get(key)) for key in ("metadata", "metrics"))
    runs = whole(first_number(about, "num_successful_runs", "num_profile_runs"))

    def mean(key: str) -> float:
        block = as_object(metrics.get(key))
        timed = key.startswith(("time_", "request_latency", "inter_"))
        return above_zero(block, "mean") * (ms_of(block.get("unit"), "ms") if timed else 1.0)

    prompt, output = (mean(f"{side}_sequence_length_avg") for side in ("input", "output"))
    spreads = [
        first_number(as_object(metrics.get(f"{side}_sequence_length_std")), "mean")
        for side in ("input", "output")
    ]
    return OwnPoint(
        name=f"the mean of {runs:,} runs" if runs else "a mean of runs",
        tool="aiperf-runs",
        requests=whole(mean("request_count_avg")),
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_cv=relative(spreads[0], prompt),
        output_cv=relative(spreads[1], output),
        ttft_ms=mean("time_to_first_token_avg"),
        tpot_ms=mean("inter_token_latency_avg"),
        e2e_ms=mean("request_latency_avg"),
        output_tok_per_s=mean("output_token_throughput_avg"),
        request_per_s=mean("request_throughput_avg"),
    )


FORMATS = (
    Format(
        "aiperf-records",
        "AIPerf: the records of requests, `profile_export.jsonl`",
        _is_aiperf,
        _aiperf,
        False,
    ),
    Format("aiperf-runs", "AIPerf: `profile_export_aiperf_aggregate.json`", _is_aiperf_runs, _aiperf_runs),
    Format("llmperf-responses", "LLMPerf: `…_individual_responses.json`", _is_llmperf, _llmperf, False),
    Format(
        "inference-perf-records",
        "inference-perf: `per_request_lifecycle_metrics.json`",
        _is_inference_perf,
        _inference_perf,
        holds_runs=False,
    ),
)
