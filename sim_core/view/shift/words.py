"""The findings of the Traffic shift page, and the table of strategies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sim_core.questions.shift.cluster import phases_s, reallocation_s
from sim_core.questions.shift.report import summary_row
from sim_core.questions.shift.study import STRATEGIES, Outcome, Study
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.words import duration, number, percent, quantity
from sim_core.view.parts import pieces
from sim_core.view.shift.sidebar import SAME, span_words


def adapting_finding(study: Study, known: Mapping[str, Outcome]) -> str:
    """Return in a sentence or two what adapting brings here."""
    fixed = known["fixed"].attainment_frac
    adaptive = [name for name in ("reactive", "predictive") if name in known]
    text = f"A fixed split keeps both limits for {percent(fixed)} of the requests"
    if adaptive:
        best = max(adaptive, key=lambda name: known[name].attainment_frac)
        share = known[best].attainment_frac
        verb = "adapting pays" if share > fixed + SAME else "adapting hurts" if share < fixed - SAME else ""
        how = "the reactive strategy" if best == "reactive" else "the predictive strategy"
        text += f"; {verb + ': ' if verb else ''}{how} for {percent(share)}"
        text += " too" if not verb else ""
    text += "."
    hindsight = known["hindsight"].attainment_frac if "hindsight" in known else fixed
    if hindsight > fixed + SAME:
        text = text.replace(
            "A fixed split keeps",
            f"The fixed split for the mean (another one would reach {percent(hindsight)}) keeps",
        )
    if "one_pool" in known:
        one = known["one_pool"].attainment_frac
        most = max(known[name].attainment_frac for name in ("fixed", *adaptive))
        how = "more" if one > most + SAME else "as much" if one > most - SAME else "less"
        text += f" One pool without a split serves {how}: {percent(one)}."
    if "free" in known and "oracle" in known:
        oracle, free = known["oracle"].attainment_frac, known["free"].attainment_frac
        if free - oracle > SAME:
            text += f" Perfect foresight would reach {percent(oracle)}, and free moves {percent(free)}."
    return text


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
