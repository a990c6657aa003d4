"""What binds a point, and how surely a latency limit is kept or broken."""

from __future__ import annotations

from typing import Any

from sim_core.engine.results import Run
from sim_core.results.percentiles import band
from sim_core.results.window import rows_of, tally_of, window_of
from sim_core.scenario.scenario import Scenario

NEAR = 1.5  # further from a limit than this factor, no interval reaches it
BLOCKED_FRAC = 0.2
LIMITS = ("weights", "kv", "compute", "communication", "fixed", "measured", "queueing", "kv_capacity")


def binding(point: dict[str, Any]) -> str:
    """Return what binds a point.

    ``kv_capacity`` or ``queueing`` where, for more than a fifth of the time, the next request waited for KV
    blocks or for a place in the batch (whichever was longer); else the part with the largest share of the
    step time, overloaded or not.
    """
    blocked = {"kv_capacity": point["kv_blocked_frac"], "queueing": point["batch_blocked_frac"]}
    longest = max(blocked, key=blocked.__getitem__)
    if blocked[longest] > BLOCKED_FRAC:
        return longest
    shares = {name: value for name, value in point.items() if name.startswith("share_")}
    return max(shares, key=shares.__getitem__).removeprefix("share_") if shares else ""


def bands_of(run: Run) -> dict[str, float]:
    """Return 95% intervals of the p99 of TTFT and TPOT of a run [ms]."""
    rows = rows_of(run)
    held = tally_of(run.scenario, rows, window_of(run.scenario, rows))
    found = {}
    for name in ("ttft_ms", "tpot_ms"):
        found[f"{name}_p99_low"], found[f"{name}_p99_high"] = band(getattr(held, name), 99.0)
    return found


def at_limit(run: Run, point: dict[str, Any]) -> str:
    """Return the latency limit that a run can neither keep nor break for sure; "" if there is none.

    That is ``ttft``, ``tpot`` or ``both``: it lies inside the 95% interval of the percentile held against it,
    so that more requests may decide either way.
    """
    scenario, names = run.scenario, []
    if not any(_is_near(point, scenario, name) for name in ("ttft", "tpot")):
        return ""
    rows = rows_of(run)
    held = tally_of(scenario, rows, window_of(scenario, rows))
    for name in ("ttft", "tpot"):
        low, high = band(getattr(held, f"{name}_ms"), scenario.slo_percentile)
        if _is_near(point, scenario, name) and low <= getattr(scenario, f"slo_{name}_ms") <= high:
            names.append(name)
    return "both" if len(names) > 1 else "".join(names)


def _is_near(point: dict[str, Any], scenario: Scenario, name: str) -> bool:
    reached, limit = point[f"slo_{name}_ms_reached"], getattr(scenario, f"slo_{name}_ms")
    return limit / NEAR < reached < limit * NEAR
