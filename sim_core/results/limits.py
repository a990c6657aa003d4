"""What binds a point, and how surely a latency limit is kept or broken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sim_core.engine.kernels.answers.records import Findings
from sim_core.results.answers import Answer
from sim_core.scenario.scenario import Scenario

BLOCKED = ("kv_blocked_frac", "batch_blocked_frac", "budget_full_frac")  # what it looks at, beside shares
BLOCKED_FRAC = 0.2
SHARED_BY_STEP = ("weights", "fixed")  # parts that more tokens in a step make less for each
LIMITS = (
    *("weights", "kv", "compute", "communication", "all_to_all", "lockstep", "bubbles", "fixed", "measured"),
    *("queueing", "kv_capacity", "token_budget"),
)


def binding(point: Mapping[str, Any]) -> str:
    """Return what binds a point: what it waits for, or what most of a step's time goes to.

    ``kv_capacity`` or ``queueing`` where, for more than a fifth of the time, the next request waited for KV
    blocks or for a place in the batch (whichever was longer); else the part with the largest share of the
    step time, overloaded or not. Where that part would be less for each token if steps held more of them,
    but steps at the token budget are more than a fifth of the time, ``token_budget``.
    """
    blocked = {"kv_capacity": point["kv_blocked_frac"], "queueing": point["batch_blocked_frac"]}
    longest = max(blocked, key=blocked.__getitem__)
    if blocked[longest] > BLOCKED_FRAC:
        return longest
    shares = {name: value for name, value in point.items() if name.startswith("share_")}
    most = max(shares, key=shares.__getitem__).removeprefix("share_") if shares else ""
    return "token_budget" if most in SHARED_BY_STEP and point["budget_full_frac"] > BLOCKED_FRAC else most


def binding_all(columns: Mapping[str, list[Any]]) -> list[str]:
    """Return the same of runs side by side, from the columns of their figures."""
    names = [*BLOCKED, *(name for name in columns if name.startswith("share_"))]
    rows = zip(*(columns[name] for name in names), strict=True)
    return [binding(dict(zip(names, row, strict=True))) for row in rows]


def bands_of(answer: Answer) -> dict[str, float]:
    """Return 95% intervals of the p99 of TTFT and TPOT [ms].

    The share of values below the percentile has the variance of its means over 20 blocks, long enough that
    the correlation of neighbours stays within a block; the interval is read off at the ranks that lie that
    much lower and higher. NaN below 1,000 values.

    References
    ----------
    Schmeiser (1982), "Batch size effects in the analysis of simulation output": 10 to 30 blocks.
    Seila (1982), "A batching approach to quantile estimation in regenerative simulations".
    """
    return {
        "ttft_ms_p99_low": answer.found.ttft_p99_low_ms,
        "ttft_ms_p99_high": answer.found.ttft_p99_high_ms,
        "tpot_ms_p99_low": answer.found.tpot_p99_low_ms,
        "tpot_ms_p99_high": answer.found.tpot_p99_high_ms,
    }


def at_limit(answer: Answer, scenario: Scenario) -> str:
    """Return the latency limit on which it hangs whether a run keeps its limits; "" if it is sure.

    That is ``ttft``, ``tpot`` or ``both``: it lies inside the 95% interval of the percentile held against it,
    so that more requests may decide either way. A run that breaks the other limit for sure, or is overloaded,
    breaks the limits, whatever this one does. Where classes have limits of their own, it is not known.
    """
    return _hung_on(answer.found, scenario)


def limits_hung_on(answers: Answer, scenario: Scenario) -> list[str]:
    """Return the same of runs side by side."""
    columns = (np.asarray(column).tolist() for column in answers.found)
    return [_hung_on(Findings(*row), scenario) for row in zip(*columns, strict=True)]


def _hung_on(found: Findings, scenario: Scenario) -> str:
    ttft_breaks = found.slo_ttft_ms > scenario.slo_ttft_ms and not found.at_ttft
    tpot_breaks = found.slo_tpot_ms > scenario.slo_tpot_ms and not found.at_tpot
    if scenario.class_limits or found.saturated or ttft_breaks or tpot_breaks:
        return ""
    return ("", "ttft", "tpot", "both")[found.at_ttft + 2 * found.at_tpot]
