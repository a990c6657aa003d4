"""The finding of a sweep in words: what the limits cost, and what stands in the way of more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sim_core.scenario.mixes import class_limits
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.ranges import SEEDS
from sim_core.view.drawing.figures import Row, Y, curves, drawable
from sim_core.view.drawing.verdicts import OVERLOADED
from sim_core.view.drawing.words import Along, duration, number, percent
from sim_core.view.frontier.figures import limit_words


def sweep_finding(
    rows: Sequence[Row], best: Row | None, peak: Row | None, scenario: Scenario, along: Along
) -> str:
    """Return what a sweep says, in one or two sentences.

    Parameters
    ----------
    rows : sequence of mappings
        The points of the sweep, each with its `curve`.
    best, peak : mapping or None
        The points with the most throughput per accelerator within the limits, and without them.
    """
    if peak is None:
        if any(row["feasible"] for row in rows):
            return "Nothing here can be drawn: answers of one token have no time per token. See the table."
        reasons = [row["reason"] for row in rows if row["reason"]]
        return f"Nothing here can run. {reasons[0] if reasons else ''}".strip()
    if scenario.arrivals == "offline" and best is None:
        return (
            f"With all requests there at the start, the best point gives {number(peak[Y])} tok/s per "
            f"accelerator: {peak['curve']} at {along.text(peak)}. {_beyond(rows, peak, along)}"
            "No point keeps the latency limits: most first tokens wait for the queue before them."
        )
    limits = limits_words(scenario)
    if best is None:
        steady = [row for row in drawable(rows) if not row["saturated"]]
        if not steady:
            return f"No point stays within {limits}: all are {OVERLOADED}."
        nearest = min(steady, key=_slowness)
        ttft, tpot = (duration(nearest[f"slo_{name}_ms_reached"]) for name in ("ttft", "tpot"))
        if _slowness(nearest) == math.inf:
            return f"No point stays within {limits}: {TURNED_AWAY}."
        return (
            f"No point stays within {limits}. The fastest, {nearest['curve']} at {along.text(nearest)}, "
            f"reaches {ttft} and {tpot}."
        )
    kept = min(best[Y] / peak[Y], 1.0)
    share = "all" if kept > 0.995 else percent(kept)
    return (
        f"Within {limits} you keep {share} of the unconstrained throughput: {number(best[Y])} tok/s per "
        f"accelerator with {best['curve']} at {along.text(best)}{_tail(rows, best, scenario, along)}"
    )


def _tail(rows: Sequence[Row], best: Row, scenario: Scenario, along: Along) -> str:
    """Return how sure the best point is, and why there is no better one."""
    if not is_settled(best):
        return _at_the_limit(rows, best, along) or ". " + _next_step(rows, best, scenario, along)
    known = f" ({range_words(best)}). " if range_words(best) else ". "
    return known + " ".join(filter(None, (alike_words(best), _next_step(rows, best, scenario, along))))


def is_settled(best: Row) -> bool:
    """Return whether a best point is the capacity of its curve, not a point of the grid."""
    return "range_low" in best


def range_words(best: Row | None) -> str:
    """Return between which values the best point lies by several seeds; "" where that is not known."""
    if best is None or not is_settled(best):
        return ""
    low, high = number(best["range_low"]), number(best["range_high"])
    return f"{low} to {high} over {SEEDS} seeds" if low != high else f"the same over {SEEDS} seeds"


def alike_words(best: Row) -> str:
    """Return which curves are as good as the best one, as far as the seeds can tell; "" where none is."""
    names = best.get("alike", ())
    if len(names) < 2:
        return ""
    if all(name.startswith(BATCH) for name in names):
        names = [
            "Batch limits " + names[0].removeprefix(BATCH),
            *(name.removeprefix(BATCH) for name in names[1:]),
        ]
    text = f"{', '.join(names[:-1])} and {names[-1]} are alike: their difference is within the error."
    return text[0].upper() + text[1:]


AT_LIMIT = {
    "ttft": "at the limit on the first token",
    "tpot": "at the limit on the time per token",
    "both": "at both limits",
}
BATCH = "batch ≤ "  # as curves with a batch limit are called
EITHER = "it may lie just within or just beyond"


def _at_the_limit(rows: Sequence[Row], best: Row, along: Along) -> str:
    """Return which point this run finds on one side of a limit, and another run perhaps on the other.

    The words are the same wherever it came to lie, and name the best point that is within for sure; "" if no
    such point matters.
    """
    if best.get("at_limit"):
        sure = [row for row in drawable(rows) if row["meets_slo"] and not row.get("at_limit")]
        within = max(sure, key=lambda row: row[Y], default=None)
        words = f", {AT_LIMIT[best['at_limit']]}: {EITHER}."
        return words + (f" {_named(within, along)} is within for sure." if within else "")
    beyond = [row for row in drawable(rows) if row.get("at_limit") and row[Y] > best[Y]]
    if not beyond:
        return ""
    first = max(beyond, key=lambda row: row[Y])
    return f". {_named(first, along)} would give {number(first[Y])}, {AT_LIMIT[first['at_limit']]}: {EITHER}."


def _named(row: Row, along: Along) -> str:
    return f"{row['curve']} at {along.text(row)}"


def limits_words(scenario: Scenario) -> str:
    """Return the latency limits in words."""
    ttft, tpot = duration(scenario.slo_ttft_ms), duration(scenario.slo_tpot_ms)
    own = "".join(
        f", for {name} {duration(limits.ttft_ms)} and {duration(limits.tpot_ms)}"
        for name, limits in class_limits(scenario.class_limits)
    )
    return f"p{number(scenario.slo_percentile)} limits of {ttft} to the first token and {tpot} per token{own}"


TURNED_AWAY = (
    "too many requests are longer than the context window or the KV cache holds, and are turned away"
)


def _slowness(row: Row) -> float:
    """Return the time per token that a point reaches; infinite where too many are turned away. [ms]"""
    value = row["slo_tpot_ms_reached"]
    return value if math.isfinite(value) else math.inf


def _after(rows: Sequence[Row], best: Row, along: Along) -> Row | None:
    """Return the next point on the curve of the best one."""
    column = along.column
    later = [row for row in curves(rows)[best["curve"]] if row.get(column, 0) > best[column]]
    if is_settled(best):  # a point that keeps the limits beyond the capacity does so by chance
        later = [row for row in later if not row.get("meets_slo")] or later
    return min(later, key=lambda row: row[column], default=None)


def _beyond(rows: Sequence[Row], peak: Row, along: Along) -> str:
    """Return why the point after the peak is no better where no limit counts, and a space; "" if none is."""
    after = _after(rows, peak, along)
    if after is None:
        return ""
    if not after["feasible"]:
        return f"Beyond that it does not run: {after['reason']} "
    full = " since the KV cache is full" if after["limit"] == "kv_capacity" else ""
    return f"{along.text(after).capitalize()} gives no more{full}. "


def _next_step(rows: Sequence[Row], best: Row, scenario: Scenario, along: Along) -> str:
    """Return why the next point on the curve of the best one is no better."""
    after = _after(rows, best, along)
    if after is None:
        return f"What limits it is {limit_words(best['limit'])}."
    where = along.text(after)
    if not after["feasible"]:
        return f"Beyond that it does not run: {after['reason']}"
    if after["limit"] == "kv_capacity":
        return f"At {where} the KV cache is full."
    if after["saturated"]:
        return f"At {where} requests arrive faster than they are served, and the queue grows without end."
    if after["slo_ttft_ms_reached"] == math.inf:
        return f"At {where} {TURNED_AWAY}."
    if after["slo_tpot_ms_reached"] > scenario.slo_tpot_ms:
        token = duration(after["slo_tpot_ms_reached"])
        return f"At {where} a token takes {token}; what limits it is {limit_words(after['limit'])}."
    if after["slo_ttft_ms_reached"] > scenario.slo_ttft_ms:
        return f"At {where} requests queue: the first token takes {duration(after['slo_ttft_ms_reached'])}."
    return f"More load gains nothing; what limits it is {limit_words(best['limit'])}."
