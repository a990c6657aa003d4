"""GuideLLM: benchmark reports."""

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
    failures,
    finished,
    first_number,
    first_object,
    relative,
    sent_words,
    whole,
)
from sim_core.fields.errors import shown

# --- GuideLLM -------------------------------------------------------------------------------------


def guidellm(content: Content) -> Upload:
    """Return the points of a GuideLLM report, one for each benchmark."""
    entries = [entry for entry in content.first["benchmarks"] if isinstance(entry, dict)]
    return finished(content.name, "guidellm", [_guidellm_point(entry) for entry in entries], [])


def _guidellm_point(entry: dict[str, Any]) -> OwnPoint:
    """Return one benchmark; its gap between tokens counts every gap once, as ITL does."""
    measured = as_object(entry.get("metrics"))
    done = first_object(
        measured, as_object(entry.get("scheduler_metrics")), key="request_totals", other="requests_made"
    )
    sent, left_out, ramp_words = _sent(entry)
    good, failed, cut_off = (first_number(done, key) for key in ("successful", "errored", "incomplete"))
    words, too_many = failures(good, failed, cut_off)

    def of(*names: str, key: str = "mean") -> float:
        for name in names:
            block = as_object(measured.get(name))
            value = first_number(block.get("successful", block), key)
            if value > 0 or (key != "mean" and value == 0):
                return value
        return NAN

    empty = ["Some of its answers are empty; they count into mean and variation."]
    empty = empty if of("output_token_count", "output_tokens", key="min") == 0 else []
    prompts, answers = ("prompt_token_count", "prompt_tokens"), ("output_token_count", "output_tokens")
    return OwnPoint(
        name=sent_words(sent),
        tool="guidellm",
        **sent,
        requests=whole(good),
        prompt_tokens=of(*prompts),
        output_tokens=of(*answers),
        prompt_cv=relative(of(*prompts, key="std_dev"), of(*prompts)),
        output_cv=relative(of(*answers, key="std_dev"), of(*answers)),
        ttft_ms=of("time_to_first_token_ms"),
        itl_ms=of("inter_token_latency_ms"),
        e2e_ms=1e3 * of("request_latency"),
        output_tok_per_s=of("output_tokens_per_second"),
        request_per_s=of("requests_per_second"),
        left_out=left_out or too_many,
        notes=(*words, *ramp_words, *empty),
    )


def _sent(entry: dict[str, Any]) -> tuple[dict[str, Any], str, list[str]]:
    """Return how a benchmark sent its requests, why it cannot be simulated, if so, and what is not simulated.

    GuideLLM writes into `max_concurrency` of every strategy how many it can have open, so beside a rate it is
    a cap that may never bind.
    """
    strategy = first_object(entry.get("config"), entry.get("args"), entry, key="strategy")
    kind = str(strategy.get("type_", strategy.get("kind", "")))
    rate = above_zero(strategy, "rate", "initial_rate")
    cap = whole(first_number(strategy, "max_concurrency"))
    streams = 1 if kind == "synchronous" else whole(first_number(strategy, "streams", "max_concurrency"))
    rising_s = above_zero(strategy, "rampup_duration")
    notes = [f"It rises to its load in {rising_s:g} s; simulated from full load."] if rising_s > 0 else []
    if kind in ("synchronous", "concurrent") and streams:
        return {"arrivals": "closed", "concurrency": streams}, "", notes
    if kind == "throughput":
        return {"arrivals": "offline", "max_open": cap}, "", notes
    if kind in ("poisson", "async", "constant") and math.isfinite(rate):
        found: dict[str, Any] = {"arrivals": "poisson", "arrival_per_s": rate, "max_open": cap}
        return found | ({"arrivals": "gamma", "arrival_cv": 0.01} if kind == "constant" else {}), "", notes
    if kind in ("trace", "replay", "incremental"):
        return {"arrivals": ""}, f"Its strategy {shown(kind)} has no single load that the file states.", notes
    return {"arrivals": ""}, "", notes


FORMATS = (
    Format(
        "guidellm",
        "GuideLLM: the benchmarks JSON",
        knows=lambda content: isinstance(content.first.get("benchmarks"), list),
        read=guidellm,
    ),
)
