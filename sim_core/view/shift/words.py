"""The findings of the Traffic shift page, and the table of strategies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sim_core.questions.shift.cluster import phases_s, reallocation_s
from sim_core.questions.shift.report import summary_row
from sim_core.questions.shift.study import STRATEGIES, Outcome, Study
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.words import duration, number, percent, quantity, span_words
from sim_core.view.parts import pieces
from sim_core.view.shift.sidebar import SAME


def adapting_finding(study: Study, known: Mapping[str, Outcome]) -> str:
    """Return in a sentence or two what adapting brings here."""
    share = {name: outcome.attainment_frac for name, outcome in known.items()}
    adaptive = [name for name in ("reactive", "predictive") if name in known]
    best = max(adaptive, key=lambda name: share[name], default="")
    text = _adapting_words(share, best)
    if "one_pool" in known:
        one, most = share["one_pool"], max(share[name] for name in ("fixed", *adaptive))
        how = "more" if one > most + SAME else "as much" if one > most - SAME else "less"
        text += f" One pool without a split serves {how}: {percent(one)}."
    if "free" in known and "oracle" in known and share["free"] - share["oracle"] > SAME:
        text += (
            f" Perfect foresight would reach {percent(share['oracle'])}, and free moves "
            f"{percent(share['free'])}."
        )
    return text


def _adapting_words(share: Mapping[str, float], best: str) -> str:
    """Return what the best adaptive strategy brings beside the fixed split for the mean, and a better one."""
    fixed = share["fixed"]
    hindsight = share.get("hindsight", fixed)
    other = hindsight > fixed + SAME
    which = "The fixed split for the mean" if other else "A fixed split"
    text = f"{which} keeps both limits for {percent(fixed)} of the requests"
    how = f"the {best} strategy"
    if other and best and hindsight > share[best] - SAME:
        return (
            f"{text}; another split pays, not adapting: {percent(hindsight)}, {how} {percent(share[best])}."
        )
    if other:
        text = text.replace(" keeps", f" (another one would reach {percent(hindsight)}) keeps")
    if not best:
        return f"{text}."
    gain = share[best] - fixed
    if abs(gain) <= SAME:
        return f"{text}; {how} for {percent(share[best])} too."
    return f"{text}; adapting {'pays' if gain > 0 else 'hurts'}: {how} for {percent(share[best])}."


def move_words(scenario: Scenario) -> str:
    """Return what a move takes, phase by phase."""
    phases = ", ".join(f"{name} {quantity(value, 's')}" for name, value in phases_s(scenario).items())
    drain = "finished its requests" if scenario.drain == "finish" else "sent its requests away"
    away = span_words(reallocation_s(scenario))
    return f"A worker that moves serves nobody for {away} after it has {drain}: {phases}."


def show_strategies(study: Study, known: Mapping[str, Outcome]) -> None:
    """Show what all strategies make of the same requests, as a table."""
    heads = ["Within limits", "Goodput", "TTFT p99", "TPOT p99", "Moves", "Away"]
    lines: list[pieces.Line] = []
    for name, title in STRATEGIES.items():
        item = known.get(name)
        if item is None:
            lines.append((title, ["…"] * len(heads)))
            continue
        row = summary_row(study, item)
        hours = row["accelerator_hours_away"]
        cells: list[str | pieces.Cell] = [
            _attainment(row, compared=name != "fixed"),
            quantity(row["goodput_per_s"], "req/s"),
            duration(row["ttft_ms_p99"]),
            duration(row["tpot_ms_p99"]),
            number(row["moves"]) if item.spans else "–",
            quantity(round(hours, 4), "device-h") if item.spans else "–",
        ]
        lines.append((title, cells))
    pieces.table("The same requests under every strategy", heads, lines, scroll=True)


def _attainment(row: Mapping[str, Any], compared: bool) -> pieces.Cell:
    """Return the share within the limits, with its difference from the fixed split."""
    cell, gain = pieces.Cell(percent(row["slo_attainment_frac"])), row["benefit_frac"]
    if not compared or abs(gain) <= SAME:
        return cell
    points = f"{'+' if gain > 0 else '−'}{number(100 * abs(gain), 2)} points"
    return cell._replace(small=points, small_kind=pieces.good_or_bad(gain > 0))
