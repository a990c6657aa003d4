"""AIPerf and GenAI-Perf: summaries as JSON or CSV.

A run has phases; the figures are those of the profiling ones. A phase sends at a rate (Poisson by default, or
constant, or gamma of a shape), under `concurrency` as a cap, or with so many clients, or replays times.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sim_core.evidence.own.formats.points import (
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
    number_in,
    relative,
    sent_words,
    whole,
)

TIMES = ("time_to_first_token", "inter_token_latency", "request_latency")
LENGTHS = ("input_sequence_length", "output_sequence_length")
RATES = ("request_throughput", "output_token_throughput")
COUNTS = ("request_count", "error_request_count")
OTHER_NAMES = {"num_input_token": LENGTHS[0], "num_output_token": LENGTHS[1]}  # in older GenAI-Perf
AVERAGES = ("avg", "mean", "average", "value")
IQR_PER_STD = 1.349  # of a normal distribution

# --- figures --------------------------------------------------------------------------------------


def aiperf_point(entry: dict[str, Any]) -> OwnPoint:
    """Return one run; its inter-token latency is a request's mean gap, so its mean is that of TPOT."""
    sent, left_out = aiperf_load(entry)
    errors = entry.get("error_summary")
    listed = [first_number(error, "count") for error in errors] if isinstance(errors, list) else []
    failed = _mean(entry, "error_request_count")
    if math.isnan(failed) and listed:
        failed = sum(count for count in listed if count > 0)
    done = _mean(entry, "request_count")
    words, too_many = failures(done, failed)
    prompt, output = (_mean(entry, key) for key in LENGTHS)
    return OwnPoint(
        name=sent_words(sent),
        tool="aiperf",
        **sent,
        requests=whole(done),
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_cv=relative(_deviation(as_object(entry.get(LENGTHS[0]))), prompt),
        output_cv=relative(_deviation(as_object(entry.get(LENGTHS[1]))), output),
        ttft_ms=_mean(entry, TIMES[0]),
        tpot_ms=_mean(entry, TIMES[1]),
        e2e_ms=_mean(entry, TIMES[2]),
        output_tok_per_s=_mean(entry, RATES[1]),
        request_per_s=_mean(entry, RATES[0]),
        left_out=left_out or too_many,
        notes=(*words, *_remarks(entry)),
    )


def _mean(entry: Mapping[str, Any], key: str) -> float:
    """Return the mean of one metric: times in ms, rates a second."""
    block = as_object(entry.get(key))
    value, unit = above_zero(block, *AVERAGES), str(block.get("unit", "")).strip().lower()
    if key in TIMES:
        return value * ms_of(unit, "ms")
    return value / 60 if key in RATES and unit.endswith(("/min", "per min")) else value


def _deviation(block: Mapping[str, Any]) -> float:
    """Return a standard deviation: as stated, 0 where all are equal, or from the quartiles; else NaN."""
    stated = first_number(block, "std", "stddev", "std_dev")
    low, high, quarter, three = (first_number(block, key) for key in ("min", "max", "p25", "p75"))
    if math.isfinite(stated):
        return stated
    return 0.0 if low == high else (three - quarter) / IQR_PER_STD


def _remarks(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield what else must be said of a run."""
    if entry.get("was_cancelled") is True:
        yield "The run was cancelled; the figures are those of its part that was done."
    reasons = entry.get("runtime_submission_invalid_reasons")
    if isinstance(reasons, list) and reasons:
        yield f"AIPerf calls the run invalid for a submission: {str(reasons[0])[:80]}."
    if first_number(as_object(entry.get(LENGTHS[1])), "min") == 0:
        yield "Some of its answers are empty; they count into mean and variation."
    if any("image" in str(key) for key in entry):
        yield "Its prompts hold images; they count as tokens of text where the tool counts them."


# --- the load -------------------------------------------------------------------------------------


def aiperf_load(entry: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return how the profiling phase sent its requests, and why it cannot be simulated, if so."""
    config = as_object(entry.get("input_config"))
    phases = [phase for phase in _phases(config) if not _is_warmup(phase)]
    loads = [_load_of(dict(_settings(phase))) for phase in phases]
    if not phases:
        loads = [_load_of(dict(_settings(config)) or dict(_settings(as_object(entry.get("run_info")))))]
    if any(load != loads[0] for load in loads[1:]):
        return {"arrivals": ""}, f"Its figures mix {len(loads)} phases of different load."
    return loads[0]


def _phases(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the phases of a configuration, each with its name."""
    found = config.get("phases")
    if isinstance(found, dict):
        found = [{"name": name, **phase} for name, phase in found.items() if isinstance(phase, dict)]
    return [phase for phase in found if isinstance(phase, dict)] if isinstance(found, list) else []


def _is_warmup(phase: Mapping[str, Any]) -> bool:
    named = str(phase.get("kind") or phase.get("name") or "")
    return "warm" in named.lower() or phase.get("exclude_from_results") is True


def _settings(place: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a configuration wherever they stand, those of warm-ups aside; nearer ones last.

    Dotted paths (`phases.profiling.concurrency`) count by their last part, and a command line by its options.
    """
    if isinstance(place, list):
        place = dict(enumerate(place[:50]))
    if not isinstance(place, dict) or depth > 8:
        return
    own = [(str(key), value) for key, value in list(place.items())[:200] if "warm" not in str(key).lower()]
    for _, value in own:
        yield from _settings(value, depth + 1)
    for key, value in own:
        if key == "cli_command" and isinstance(value, str):
            for option, text in re.findall(r"--([a-z-]{2,40})[ =]+([^\s-]\S{0,40})", value[:10_000]):
                yield option.replace("-", "_"), text
        elif value is not None and not isinstance(value, (dict, list)):
            yield key.rpartition(".")[2], value


def _load_of(found: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return arrivals, clients, rate and cap of one phase, and why it cannot be simulated, if so."""
    kind = " ".join(
        str(found.get(key, "")).lower()
        for key in ("type", "timing_mode", "arrival_pattern", "request_rate_mode")
    )
    clients = whole(above_zero(found, "concurrency"))
    rate = above_zero(found, "request_rate", "rate")
    if "fixed_schedule" in kind or found.get("fixed_schedule") is True or "mooncake_trace" in found.values():
        return {"arrivals": ""}, "It replays the times of a trace, which the file does not hold."
    if "user_centric" in kind or above_zero(found, "user_centric_rate") > 0:
        return {"arrivals": ""}, "Its users wait between the turns of a session, which is not simulated."
    if any(
        above_zero(found, key) > 0
        for key in ("rate_ramp", "request_rate_ramp_duration", "rate_ramp_duration")
    ):
        return {"arrivals": ""}, "Its rate rises over the run, and the file does not say from where."
    if not math.isfinite(rate) or "burst" in kind:
        return {"arrivals": "closed", "concurrency": clients} if clients else {"arrivals": ""}, ""
    sent: dict[str, Any] = {"arrivals": "poisson", "arrival_per_s": rate, "max_open": clients}
    shape = above_zero(found, "arrival_smoothness", "smoothness")
    if "constant" in kind:
        sent |= {"arrivals": "gamma", "arrival_cv": 0.01}
    elif "gamma" in kind and math.isfinite(shape):
        sent |= {"arrivals": "gamma", "arrival_cv": min(max(shape**-0.5, 0.01), 100.0)}
    return sent, ""


# --- files ----------------------------------------------------------------------------------------


def aiperf_json(content: Content) -> Upload:
    """Return the points of AIPerf summaries."""
    return finished(content.name, "aiperf", [aiperf_point(entry) for entry in content.entries], [])


def aiperf_csv(content: Content) -> Upload:
    """Return the point of a CSV: tables of one metric a row, each under a header whose names count."""
    heads: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for row in csv.reader(content.text.splitlines()):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if cells[0].lower() == "metric":
            heads = [cell.lower() for cell in cells]
            continue
        match = re.fullmatch(r"(.{1,80}?)\s*(?:\(([^()]{1,40})\))?", cells[0])
        key = re.sub(r"[\s_-]+", "_", match[1].strip().lower()) if match else ""
        key = OTHER_NAMES.get(key, key)
        if match and key in (*TIMES, *LENGTHS, *RATES, *COUNTS) and key not in found:
            found[key] = {head: number_in(cell) for head, cell in zip(heads[1:], cells[1:], strict=False)}
            named = dict(zip(heads, cells, strict=False))
            found[key]["unit"] = match[2] or named.get("unit", "")
    return finished(content.name, "aiperf", [aiperf_point(found)], [])


def _knows(content: Content) -> bool:
    blocks = (content.first.get(key) for key in TIMES)
    return any(isinstance(block, dict) for block in blocks) or [
        head.lower() for head in content.heads[:1]
    ] == ["metric"]


def _read(content: Content) -> Upload:
    return aiperf_json(content) if content.entries else aiperf_csv(content)


FORMATS = (Format("aiperf", "AIPerf and GenAI-Perf: `profile_export_aiperf.json` or `.csv`", _knows, _read),)
