"""Numbers in reports: units, spreads, loads, and how what is noted is said."""

from __future__ import annotations

import math
from typing import TypedDict

from sim_core.evidence.own.formats.points import (
    NAN,
    above_zero,
    as_object,
    first_number,
    ms_of,
    relative,
    whole,
)

EVEN_CV = 0.01  # of gaps that a tool spaces evenly: a gamma process has no variation of 0
NORMAL_QUARTILES = 1.349  # standard deviations between the quartiles of a normal distribution
NORMAL_90 = 2.563  # ... and between its 10th and 90th percentiles
NORMAL_95 = 1.645  # ... and between its median and its 95th percentile


class SentLoad(TypedDict):
    """How requests were sent, as the fields of a point."""

    arrivals: str
    concurrency: int
    arrival_per_s: float
    arrival_cv: float
    max_open: int


def load_sent(rate_per_s: float, clients: int, *, even: bool = False) -> SentLoad:
    """Return a load: a finite rate is an open loop, capped at the clients; else these are a closed loop.

    Parameters
    ----------
    rate_per_s : float
        NaN without one. [1/s]
    clients : int
        0 if not stated; without rate and clients the load stays open.
    even : bool, optional
        Whether the tool spaces requests evenly, rather than as a Poisson process.
    """
    if math.isfinite(rate_per_s):
        kind, cv = ("gamma", EVEN_CV) if even else ("poisson", 1.0)
        return SentLoad(
            arrivals=kind, concurrency=0, arrival_per_s=rate_per_s, arrival_cv=cv, max_open=clients
        )
    kind = "closed" if clients else ""
    return SentLoad(arrivals=kind, concurrency=clients, arrival_per_s=NAN, arrival_cv=1.0, max_open=0)


def in_ms(entry: object, *keys: str) -> float:
    """Return the first number above 0 of a statistic that names its unit. [ms]"""
    named = as_object(entry)
    return above_zero(entry, *keys) * ms_of(named.get("units", named.get("unit")))


def tally(entry: object, *keys: str) -> int:
    """Return a count, 0 where the file gives none."""
    return whole(first_number(entry, *keys))


def length_cv(stats: object, mean: float) -> float:
    """Return the coefficient of variation of lengths, NaN where the statistics do not tell.

    From the standard deviation; else 0 where the smallest is the largest; else from percentiles, as a normal
    distribution has them.
    """
    deviation = first_number(stats, "stddev", "std", "std_dev")
    if deviation >= 0:
        return relative(deviation, mean)
    at = {key: first_number(stats, key) for key in ("p10", "p25", "p75", "p90", "p95")}
    middle = first_number(stats, "median", "p50")
    if first_number(stats, "min", "minimum") == first_number(stats, "max", "maximum"):
        return relative(0.0, mean)
    told = (
        (at["p75"] - at["p25"]) / NORMAL_QUARTILES,
        (at["p90"] - at["p10"]) / NORMAL_90,
        (at["p95"] - middle) / NORMAL_95,
    )
    return relative(next((value for value in told if value >= 0), NAN), mean)


def per_token_ms(e2e_ms: float, ttft_ms: float, output_tokens: float) -> float:
    """Return the time per output token after the first, from means; NaN if they contradict. [ms]"""
    found = (e2e_ms - ttft_ms) / (output_tokens - 1) if output_tokens > 1 else NAN
    return found if found > 0 else NAN


# --- what is said ---------------------------------------------------------------------------------


def source_note(tool: str, version: object = "", model: object = "", device: object = "") -> list[str]:
    """Return what a report says of where it comes from, as a note; nothing if it says nothing."""
    model, device, version = (_short(value) for value in (model, device, version))
    if not (model or device or version):
        return []
    parts = [f"Measured with {tool}{' ' + version if version else ''}"]
    parts += [f"model {model}"] if model else []
    parts += [f"on {device}"] if device else []
    return [", ".join(parts) + (": choose the same in the scenario." if model or device else ".")]


def _short(value: object) -> str:
    text = str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
    return "".join(mark for mark in text if mark.isprintable()).strip()[:60]
