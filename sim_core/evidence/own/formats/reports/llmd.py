"""llm-d: reports of inference-perf, and the benchmark reports (0.1, 0.2) that llm-d-benchmark makes of any.

References
----------
kubernetes-sigs/inference-perf, inference_perf/reportgen/base.py (`…_lifecycle_metrics.json`, in seconds).
llm-d/llm-d-benchmark, benchmark_report/schema_v0_1.py and schema_v0_2.py; each statistic names its unit.
"""

from __future__ import annotations

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
    as_object,
    failures,
    finished,
    first_number,
    first_object,
    sent_words,
)
from sim_core.evidence.own.formats.reports.numbers import (
    in_ms,
    length_cv,
    load_sent,
    source_note,
    tally,
)
from sim_core.evidence.own.formats.reports.yaml_text import plain_yaml
from sim_core.fields.errors import ScenarioError

EVENLY = "taken as sent evenly, inference-perf's default (load type constant); the report does not state it."

# --- inference-perf -------------------------------------------------------------------------------


def _is_inference_perf(content: Content) -> bool:
    return isinstance(content.first.get("successes"), dict) and (
        "failures" in content.first or "load_summary" in content.first
    )


def _inference_perf(content: Content) -> Upload:
    return finished(content.name, "inference-perf", list(map(_inference_perf_point, content.entries)), [])


def _inference_perf_point(entry: dict[str, Any]) -> OwnPoint:
    """Return one stage or the summary of all; its gaps between tokens count every gap once, as ITL does."""
    done, sent = as_object(entry.get("successes")), as_object(entry.get("load_summary"))
    latency, reached = as_object(done.get("latency")) or done, as_object(done.get("throughput"))
    clients, rate = tally(sent, "concurrency"), above_zero(sent, "requested_rate")
    how = load_sent(NAN, clients) if clients else load_sent(rate, 0, even=True)
    failed = as_object(entry.get("failures"))
    words, too_many = failures(first_number(done, "count"), first_number(failed, "count"))
    notes = list(words)
    if how["arrivals"] == "gamma":
        notes.append(f"{rate:g} req/s: {EVENLY}")
    if not how["arrivals"]:
        notes.append(
            "The summary of a run does not state its load; upload the reports of its stages for that."
        )
    prompts, outputs = (
        first_object(done, key=key, other=other)
        for key, other in (("prompt_len", "prompt_tokens"), ("output_len", "output_tokens"))
    )

    def time_ms(key: str) -> float:
        return 1e3 * above_zero(latency.get(key), "mean")

    prompt, output = above_zero(prompts, "mean"), above_zero(outputs, "mean")
    return OwnPoint(
        name=sent_words(how),
        tool="inference-perf",
        **how,
        requests=tally(done, "count"),
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_cv=length_cv(prompts, prompt),
        output_cv=length_cv(outputs, output),
        ttft_ms=time_ms("time_to_first_token"),
        tpot_ms=time_ms("time_per_output_token"),
        itl_ms=time_ms("inter_token_latency"),
        e2e_ms=time_ms("request_latency"),
        output_tok_per_s=above_zero(reached, "output_tokens_per_sec"),
        request_per_s=above_zero(reached, "requests_per_sec"),
        left_out=too_many,
        notes=tuple(notes),
    )


# --- llm-d-benchmark ------------------------------------------------------------------------------


def _is_report(content: Content) -> bool:
    if content.entries:
        return "scenario" in content.first and not {"metrics", "results"}.isdisjoint(content.first)
    return all(
        re.search(rf"^{key}:", content.text, re.MULTILINE) for key in ("scenario", "(metrics|results)")
    )


def _report(content: Content) -> Upload:
    entries = content.entries
    if not entries:
        try:
            entries = [as_object(plain_yaml(content.text))]
        except ValueError as error:
            raise ScenarioError(
                f"{content.name} is an llm-d report whose YAML cannot be read: {error}. Convert it to JSON "
                "(benchmark-report --format json), or upload the tool's own result."
            ) from None
    return finished(content.name, "llm-d", list(map(_report_point, entries)), [])


def _report_point(entry: dict[str, Any]) -> OwnPoint:
    """Return the aggregate of a report, wherever its version keeps it."""
    results, asked = as_object(entry.get("results")), as_object(entry.get("scenario"))
    whole = as_object(as_object(results.get("request_performance")).get("aggregate"))
    whole = whole or as_object(entry.get("metrics"))
    latency, reached = as_object(whole.get("latency")), as_object(whole.get("throughput"))
    requests = as_object(whole.get("requests"))
    lost, cut_off = tally(requests, "failures"), tally(requests, "incomplete")
    done = max(tally(requests, "total") - lost - cut_off, 0)
    words, too_many = failures(done, lost, cut_off)
    notes = [*_made_by(asked), *words]
    how = _load_of(as_object(asked.get("load")), notes)
    lengths = [as_object(requests.get(key)) for key in ("input_length", "output_length")]
    prompt, output = (above_zero(stats, "mean") for stats in lengths)
    rates = [
        above_zero(as_object(reached.get(key)), "mean")
        if isinstance(reached.get(key), dict)
        else above_zero(reached, old)
        for key, old in (("output_token_rate", "output_tokens_per_sec"), ("request_rate", "requests_per_sec"))
    ]
    return OwnPoint(
        name=sent_words(how),
        tool="llm-d",
        **how,
        requests=done,
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_cv=length_cv(lengths[0], prompt),
        output_cv=length_cv(lengths[1], output),
        ttft_ms=in_ms(latency.get("time_to_first_token"), "mean"),
        tpot_ms=in_ms(latency.get("time_per_output_token"), "mean"),
        itl_ms=in_ms(latency.get("inter_token_latency"), "mean"),
        e2e_ms=in_ms(latency.get("request_latency"), "mean"),
        output_tok_per_s=rates[0],
        request_per_s=rates[1],
        left_out=too_many,
        notes=tuple(notes),
    )


def _made_by(asked: dict[str, Any]) -> list[str]:
    """Return which engine and accelerators a report is of, as notes."""
    stack = asked.get("stack")
    parts = (
        [as_object(as_object(part).get("standardized")) for part in stack if part]
        if isinstance(stack, list)
        else []
    )
    engines = [part for part in parts if part.get("accelerator") or part.get("model")]
    hosts = as_object(asked.get("host")).get("accelerator")
    devices = [as_object(part.get("accelerator")) for part in engines]
    devices += [as_object(host) for host in hosts] if isinstance(hosts, list) else []
    model = next((as_object(part["model"]).get("name") for part in engines if part.get("model")), "")
    model = model or as_object(asked.get("model")).get("name") or ""
    device = next(
        (f"{tally(item, 'count') or 1} x {item.get('model')}" for item in devices if item.get("model")), ""
    )
    how = as_object(asked.get("load"))
    tool = as_object(how.get("standardized"))
    notes = source_note("llm-d-benchmark", "", model, device)
    notes += [
        f"The load came from {str(name)[:40]}." for name in [tool.get("tool") or how.get("name")] if name
    ]
    if len(devices) > 1 or any(part.get("role") in ("prefill", "decode") for part in parts):
        notes.append("Several engines served the requests: choose the same layout in the scenario.")
    return notes


def _load_of(how: dict[str, Any], notes: list[str]) -> Any:
    """Return the load of a report: a rate, or as many requests open as there are clients."""
    known, native = as_object(how.get("standardized")), as_object(how.get("native"))
    config = as_object(as_object(native.get("config")).get("load"))
    rate = above_zero(known, "rate_qps")
    clients = first_number(known, "concurrency", low=1.0)
    clients = round(clients) if math.isfinite(clients) else 0
    if not (rate > 0 or clients):
        args = as_object(how.get("args")) | as_object(native.get("args"))
        clients = tally(args, "max-concurrency", "max_concurrency", "--max-concurrency", "concurrency")
        rate = above_zero(args, "request-rate", "request_rate", "--request-rate", "rate")
    kind = str(config.get("type", ""))
    even = kind == "constant" or (not kind and str(known.get("tool")) == "inference-perf")
    if rate > 0 and even and not kind:
        notes.append(f"{rate:g} req/s: {EVENLY}")
    return load_sent(rate, clients, even=even)


FORMATS = (
    Format(
        "inference-perf",
        "inference-perf (llm-d): `stage_N_lifecycle_metrics.json`",
        _is_inference_perf,
        _inference_perf,
    ),
    Format("llm-d", "llm-d-benchmark: `benchmark_report` 0.1 and 0.2, YAML or JSON", _is_report, _report),
)
