"""What is said of a point beside its figures: overloaded, beyond which limit; and which figures then hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.words import duration, number

OVERLOADED = "overloaded: the queue grows over the run"
WITHHELD = "overloaded"  # in place of a figure
TURNS_AWAY = "turns too many requests away"
GROWING = ("ttft_ms", "e2e_ms", "goodput_per_s", "slo_attainment_frac", "usd_per_mtok", "joule_per_tok")


TURNS_AWAY = "turns too many requests away"


class Limits(NamedTuple):
    """The latency limits that points are held against; None for a TTFT that differs by curve. [ms]"""

    ttft_ms: float | None
    tpot_ms: float


def is_withheld(row: Row, name: str) -> bool:
    """Return whether a figure of a point says nothing: it depends on how long an overloaded run lasts.

    So do latencies with the wait in them, what keeps the limits, and what a token costs while the queue
    grows: nobody can be served at that price for long.
    """
    return bool(row.get("saturated")) and name.startswith(GROWING)


def holding(row: Row, name: str) -> float:
    """Return a figure of a point; NaN where it is withheld or not known."""
    value = row.get(name)
    return math.nan if value is None or is_withheld(row, name) else value


def held_words(row: Row, name: str) -> str:
    """Return a latency of a point in words, or that it is withheld."""
    return WITHHELD if is_withheld(row, name) else duration(row.get(name))


def marker(row: Row, symbol: str) -> str:
    """Return the marker of a point: hollow where it breaks a limit or is overloaded."""
    return symbol if row["meets_slo"] and not row["saturated"] else f"{symbol}-open"


def _exceeded(row: Row, limits: Limits) -> list[tuple[str, float, float]]:
    """Return the latency limits that a point breaks: name, what it reaches and the limit [ms]."""
    found = []
    for name, limit_ms in (("TTFT", limits.ttft_ms), ("TPOT", limits.tpot_ms)):
        reached_ms = row.get(f"slo_{name.lower()}_ms_reached", math.nan)
        if limit_ms is not None and reached_ms > limit_ms:
            found.append((name, reached_ms, limit_ms))
    return found


def broken(row: Row, limits: Limits) -> list[str]:
    """Return which latency limits a point breaks, and by how much."""
    found = []
    for name, reached_ms, limit_ms in _exceeded(row, limits):
        if math.isinf(reached_ms):
            return [TURNS_AWAY]
        times = number(reached_ms / limit_ms, 2 if reached_ms > 1.1 * limit_ms else 3)
        found.append(f"breaks the {name} limit: {duration(reached_ms)}, {times} times {duration(limit_ms)}")
    return found


def broken_briefly(row: Row, limits: Limits) -> str:
    """Return which latency limits a point breaks, in a few words; "" for none."""
    found = _exceeded(row, limits)
    if any(math.isinf(reached_ms) for _, reached_ms, _ in found):
        return TURNS_AWAY
    names = " and ".join(name for name, *_ in found)
    return f"breaks the {names} limit" + ("s" if len(found) > 1 else "") if found else ""


def verdict(row: Row, limits: Limits) -> str:
    """Return how a point stands to overload, limits and frontier; lines apart by `<br>`."""
    if row["saturated"]:
        return OVERLOADED
    if not row["meets_slo"]:
        return "<br>".join(broken(row, limits)) or "misses the latency limits"
    return "on the frontier, within the limits" if row["on_frontier"] else "within the limits"


def hollow_words(rows: Sequence[Row], limits: Limits) -> str:
    """Return what a hollow marker means, in lines apart by `<br>`; "" where no point has one."""
    if all(row["meets_slo"] for row in rows):
        return ""
    parts = (("TTFT", limits.ttft_ms), ("TPOT", limits.tpot_ms))
    known = [f"{name} {duration(limit_ms)}" for name, limit_ms in parts if limit_ms is not None]
    overloaded = ["or overloaded"] if any(row["saturated"] for row in rows) else []
    return "<br>".join(["hollow: beyond", known[0], *(f"or {words}" for words in known[1:]), *overloaded])
