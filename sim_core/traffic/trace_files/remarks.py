"""What must be said of a trace that was read: its span and rate, its unit, and what of it is not used."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from sim_core.fields.texts import counted

MOST_RATE_PER_S = 100.0  # public traces of one service have 0.1 to 30 requests a second
LEAST_RATE_PER_S = 1e-3
NAMED = 6

UNUSED = {  # columns that bear on the load, and what it means that they are not used
    "hash_ids": "prefixes that requests share are computed anew for each",
    "parent_chat_id": "a later turn computes its whole history anew",
    "session_id": "a turn is sent at its time, or its delay after the turn before, ended or not",
    "numimages": "prompts count text tokens alone",
    "num_images": "prompts count text tokens alone",
    "images": "prompts count text tokens alone",
    "image_count": "prompts count text tokens alone",
    "batch_size": "each row counts as one request",
    "model": "requests to all models are replayed alike",
}
SILENT = {
    "chat_id",
    "turn",
    "type",
    "request_id",
    "id",
    "",
    "unnamed: 0",
    "total tokens",
    "num_total_tokens",
    "pd_ratio",
}


class Unit(NamedTuple):
    """What one step of a timestamp is, and how it is known where it is not the format's own."""

    seconds: float
    note: str = ""


def extent(arrival_s: np.ndarray) -> str:
    """Return how many requests arrive in what time: what shows at a glance that a unit is wrong."""
    count, span_s = len(arrival_s), float(arrival_s.max() - arrival_s.min())
    many = counted(count, "request")
    if span_s <= 0:
        return f"{many}, all at one time."
    return f"{many} over {span_s:,.6g} s, {count / span_s:,.3g} a second on average."


def doubts(arrival_s: np.ndarray) -> list[str]:
    """Return why the unit of a trace may be wrong: a mean rate that no service's trace has."""
    count, span_s = len(arrival_s), float(arrival_s.max() - arrival_s.min())
    if count < 3 or span_s <= 0:
        return []
    if count / span_s > MOST_RATE_PER_S:
        return ["That is very many a second: if the times stand in a larger unit, convert them."]
    if count / span_s < LEAST_RATE_PER_S:
        return ["That is very few a second: if the times stand in a smaller unit, convert them."]
    return []


def unit_of_timestamps(timestamps: np.ndarray, keys: Collection[str]) -> Unit:
    """Return the unit of timestamps in JSON lines: ms as in Mooncake's traces, or s as in Bailian's.

    Both have the same keys. Bailian's [1]_ also have `chat_id` and count seconds with fractions; Mooncake's
    [2]_ are whole milliseconds. Fractions that would be an absurd rate as milliseconds are seconds too.

    References
    ----------
    .. [1] alibaba-edu/qwen-bailian-usagetraces-anon, README: `timestamp` in seconds.
    .. [2] kvcache-ai/Mooncake, FAST25-release: `timestamp` in ms.
    """
    span = float(timestamps.max() - timestamps.min()) if len(timestamps) else 0.0
    fractions = bool((timestamps != np.floor(timestamps)).any())
    per_s_as_ms = 1e3 * len(timestamps) / span if span > 0 else 0.0
    bailian = "chat_id" in keys or "parent_chat_id" in keys
    if bailian and (fractions or per_s_as_ms > MOST_RATE_PER_S):
        return Unit(1.0, "timestamps read as seconds, as in Bailian's traces, which have these keys.")
    if fractions and per_s_as_ms > MOST_RATE_PER_S / 2:
        text = f"timestamps have fractions, and as milliseconds would be {per_s_as_ms:,.0f} requests a second"
        return Unit(1.0, f"{text}: read as seconds.")
    if fractions:
        return Unit(1e-3, "timestamps have fractions; read as milliseconds, as this format has them.")
    return Unit(1e-3)


def unused(keys: Collection[str], used: Collection[str]) -> list[str]:
    """Return a note on each column that bears on the load and is not used, and one on all others."""
    left = [key for key in keys if key not in used and key.strip().lower() not in SILENT]
    known = [key for key in left if key.lower() in UNUSED]
    others = [key for key in left if key not in known]
    notes = [f"{key[:40]} is not used: {UNUSED[key.lower()]}." for key in known]
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        notes.append(f"not used: {', '.join(key[:40] for key in others[:NAMED])}{more}.")
    return notes
