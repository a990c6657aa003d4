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
    finished,
    first_number,
    first_object,
    point_name,
    whole,
)

# --- GuideLLM -------------------------------------------------------------------------------------


def guidellm(content: Content) -> Upload:
    """Return the points of a GuideLLM report, one for each benchmark."""
    entries = [entry for entry in content.first["benchmarks"] if isinstance(entry, dict)]
    return finished(content.name, "guidellm", [_guidellm_point(entry) for entry in entries], [])


def _guidellm_point(entry: dict[str, Any]) -> OwnPoint:
    """Return one benchmark; its gap between tokens counts every gap once, as ITL does."""
    measured = as_object(entry.get("metrics"))
    strategy = first_object(entry.get("config"), entry.get("args"), entry, key="strategy")
    kind = str(strategy.get("type_", strategy.get("kind", "")))
    rate = above_zero(strategy, "rate", "initial_rate")
    clients = 1 if kind == "synchronous" else whole(first_number(strategy, "streams", "max_concurrency"))
    arrivals = {
        "synchronous": "closed",
        "concurrent": "closed",
        "throughput": "offline",
        "poisson": "poisson",
        "async": "poisson",
        "constant": "gamma",
    }.get(kind, "")
    if arrivals in ("poisson", "gamma") and not math.isfinite(rate):
        arrivals = ""
    done = first_object(
        measured, as_object(entry.get("scheduler_metrics")), key="request_totals", other="requests_made"
    )

    def mean(*names: str) -> float:
        for key in names:
            value = above_zero(as_object(as_object(measured.get(key)).get("successful")), "mean")
            if math.isfinite(value):
                return value
        return NAN

    return OwnPoint(
        name=point_name(arrivals, clients, rate),
        tool="guidellm",
        arrivals=arrivals,
        concurrency=clients if arrivals == "closed" else 0,
        arrival_per_s=rate,
        arrival_cv=0.01 if kind == "constant" else 1.0,
        requests=whole(first_number(done, "successful")),
        prompt_tokens=mean("prompt_token_count", "prompt_tokens"),
        output_tokens=mean("output_token_count", "output_tokens"),
        ttft_ms=mean("time_to_first_token_ms"),
        itl_ms=mean("inter_token_latency_ms"),
        e2e_ms=1e3 * mean("request_latency"),
        output_tok_per_s=mean("output_tokens_per_second"),
        request_per_s=mean("requests_per_second"),
    )


FORMATS = (
    Format(
        "guidellm",
        "GuideLLM: the benchmarks JSON",
        knows=lambda content: isinstance(content.first.get("benchmarks"), list),
        read=guidellm,
    ),
)
