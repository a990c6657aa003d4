"""AIPerf: summaries as JSON or CSV."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
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
    point_name,
    whole,
)

# --- AIPerf ---------------------------------------------------------------------------------------

_AIPERF = {
    "Time to First Token": "time_to_first_token",
    "Inter Token Latency": "inter_token_latency",
    "Request Latency": "request_latency",
    "Input Sequence Length": "input_sequence_length",
    "Output Sequence Length": "output_sequence_length",
    "Request Throughput": "request_throughput",
    "Output Token Throughput": "output_token_throughput",
    "Request Count": "request_count",
}
_TO_MS = {"ms": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3, "us": 1e-3, "ns": 1e-6}


def aiperf_values(entry: dict[str, Any]) -> dict[str, float]:
    """Return the means of an AIPerf summary, times in ms."""
    found = {}
    for key in _AIPERF.values():
        block = as_object(entry.get(key))
        value = above_zero(block, "avg")
        timed = key in ("time_to_first_token", "inter_token_latency", "request_latency")
        found[key] = value * (_TO_MS.get(str(block.get("unit", "ms")), 1.0) if timed else 1.0)
    for key in ("input_sequence_length", "output_sequence_length"):
        deviation = first_number(as_object(entry.get(key)), "std")
        found[f"{key}_cv"] = deviation / found[key] if deviation >= 0 and found[key] > 0 else 0.0
    return found


def aiperf_load(entry: dict[str, Any]) -> dict[str, float]:
    """Return clients and rate from wherever the configuration of an AIPerf summary holds them."""
    found = {"concurrency": NAN, "request_rate": NAN}
    open_places: list[tuple[Any, int]] = [(entry.get("input_config"), 0), (entry.get("run_info"), 0)]
    while open_places:
        place, depth = open_places.pop()
        if isinstance(place, list) and depth < 8:
            open_places += [(item, depth + 1) for item in place[:50]]
        if not isinstance(place, dict):
            continue
        for key in found:
            if math.isnan(found[key]):
                found[key] = above_zero(place, key, "rate" if key == "request_rate" else key)
        if depth < 8:
            open_places += [(item, depth + 1) for item in list(place.values())[:200]]
    return found


def aiperf(values: Mapping[str, float], load: Mapping[str, float]) -> OwnPoint:
    """Return one AIPerf run; its inter-token latency is a request's mean gap, so its mean is that of TPOT."""
    rate, clients = load["request_rate"], whole(load["concurrency"])
    arrivals = "poisson" if math.isfinite(rate) else "closed" if clients else ""
    return OwnPoint(
        name=point_name(arrivals, clients, rate),
        tool="aiperf",
        arrivals=arrivals,
        concurrency=clients if arrivals == "closed" else 0,
        arrival_per_s=rate,
        requests=whole(values["request_count"]),
        prompt_tokens=values["input_sequence_length"],
        output_tokens=values["output_sequence_length"],
        prompt_cv=min(values.get("input_sequence_length_cv", 0.0), 10.0),
        output_cv=min(values.get("output_sequence_length_cv", 0.0), 10.0),
        ttft_ms=values["time_to_first_token"],
        tpot_ms=values["inter_token_latency"],
        e2e_ms=values["request_latency"],
        output_tok_per_s=values["output_token_throughput"],
        request_per_s=values["request_throughput"],
    )


def aiperf_json(content: Content) -> Upload:
    """Return the points of AIPerf summaries."""
    points = [aiperf(aiperf_values(entry), aiperf_load(entry)) for entry in content.entries]
    return finished(content.name, "aiperf", points, [])


def aiperf_csv(content: Content) -> Upload:
    """Return the point of an AIPerf CSV: one metric a row, its mean in the second column."""
    found: dict[str, dict[str, Any]] = {}
    for row in csv.reader(content.text.splitlines()):
        match = re.fullmatch(r"(.{1,80}?) \((.{1,40})\)|(.{1,80})", row[0].strip()) if len(row) > 1 else None
        if match is None:
            continue
        title = (match[1] or match[3]).strip()
        if title in _AIPERF and _AIPERF[title] not in found:
            found[_AIPERF[title]] = {
                "avg": number_in(row[1]),
                "unit": match[2] or "ms",
                "std": number_in(row[-1]),
            }
    for key in ("request_throughput", "output_token_throughput", "request_count"):
        found.get(key, {}).pop("std", None)
    point = aiperf(aiperf_values(found), {"concurrency": NAN, "request_rate": NAN})
    return finished(content.name, "aiperf", [point], [])


def number_in(text: str) -> float:
    try:
        return float(text.replace(",", "")) if len(text) < 40 else NAN
    except ValueError:
        return NAN


def _knows(content: Content) -> bool:
    blocks = (content.first.get(key) for key in ("time_to_first_token", "request_latency"))
    return any(isinstance(block, dict) for block in blocks) or content.heads[:1] == ["Metric"]


def _read(content: Content) -> Upload:
    return aiperf_json(content) if content.entries else aiperf_csv(content)


FORMATS = (Format("aiperf", "AIPerf: `profile_export_aiperf.json` or `.csv`", _knows, _read),)
