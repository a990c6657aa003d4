"""What matters most: the view of the Compare page that moves each spec and setting by 10%."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import streamlit as st

from sim_core.questions import sensitivity
from sim_core.questions.sensitivity import MOVES, is_nothing, is_sure, size
from sim_core.scenario.link.write import to_query, value_text
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of, model_of
from sim_core.sweep.frontier import evaluate
from sim_core.sweep.points import Point
from sim_core.sweep.ranges import SEEDS
from sim_core.view.compare import figures as compare_figures
from sim_core.view.compare.results import MEASURED
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.words import duration, number, percent, quantity, signed
from sim_core.view.frontier.words import limits_words
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.controls import SPECS
from sim_core.view.parts.pieces import Cell
from sim_core.view.parts.views import views
from sim_core.view.session import state

TENTH = percent(0.1)  # by which each thing is moved
QUICK_S = 0.4  # an answer that comes within this needs no progress bar


class Figure(NamedTuple):
    """A figure that may be looked at.

    Its name in a sentence, how to say a value, and what it means that there is none.
    """

    words: str
    say: Callable[[float], str]
    lost: str = "cannot run"


FIGURES = {
    "throughput": Figure(
        "throughput per accelerator within the limits",
        lambda value: quantity(value, "tok/s"),
        "not within the limits in all runs",
    ),
    "ttft": Figure("TTFT p99", duration),
    "tpot": Figure("TPOT p99", duration),
    "usd": Figure("the cost of a million tokens", lambda value: quantity(value, "USD")),
    "joule": Figure("the energy of a token", lambda value: quantity(value, "J")),
}


def show_sensitivity(scenario: Scenario) -> None:
    """Show what changes one figure most."""
    key = state.view("sense")
    figure = FIGURES[key]
    top = st.container()
    views("sense")
    reason = _reason(scenario, key)
    if reason:
        with top:
            pieces.say(reason)
        return
    rows = _worked_out(scenario, key)
    with top:
        pieces.say(sensitivity_finding(rows, figure), *_notes(scenario, key, rows))
        trust_badge.badge(scenario)
    chart(
        compare_figures.tornado_figure(rows, _label, figure.words),
        "sensitivity",
        compare_figures.tornado_sentence(rows, _label, figure.words),
        height=90 + 62 * len(rows),
        heading=Heading(f"What changes {figure.words} most", _subtitle(scenario)),
    )
    st.caption(_reading(scenario, key))
    _table(rows, figure)
    code = (
        "from sim_core import load_scenario, tornado\n\n"
        f"for row in tornado(load_scenario({to_query(scenario)!r}), {key!r}):\n    print(row)"
    )
    actions.take_away("sensitivity", actions.table_files(rows, "sensitivity", scenario), code, "python")


def _reading(scenario: Scenario, key: str) -> str:
    """Return how to read the bars, and which runs figure and bars are of."""
    text = (
        f"Each bar: everything else as it is, one thing {TENTH} larger (▲) or smaller (▼). Mean of {SEEDS} "
        "pairs of runs that see the same requests. A hollow bar is no larger than its 95 % error: noise."
    )
    if not sensitivity.settles(scenario, key):
        return text
    length = quantity(scenario.requests, "requests")
    return f"{text} The figure itself is of one longer run, on which Frontier settles; these have {length}."


def _worked_out(scenario: Scenario, key: str) -> list[dict[str, Any]]:
    """Return the rows; a bar shows the progress where that takes long, and a newer move may interrupt it."""
    place, began_s = st.empty(), time.monotonic()

    def progress(done_frac: float) -> None:
        if time.monotonic() - began_s > QUICK_S:
            place.progress(done_frac, "Moving one thing after the other…")

    rows = sensitivity.tornado(scenario, key, progress)
    place.empty()
    return rows


def _reason(scenario: Scenario, key: str) -> str:
    """Return why a figure has no value; "" where it has one."""
    words = FIGURES[key].words
    row = evaluate(Point({}, scenario))
    if not row["feasible"]:
        return f"This scenario cannot run. {row['reason']}"
    known = sum(base > 0 for base in sensitivity.bases(scenario, key))
    if known == SEEDS:
        return ""
    if key == "throughput":
        return f"{_limits_reason(scenario, known)} Choose another figure, or relax the limits."
    if not known:
        spec = {"usd": "price", "joule": "power", "tpot": "second token of an answer"}.get(key, "value")
        return f"There is no figure for {words}: no {spec} is known here."
    return f"Only {known} of {SEEDS} runs have a figure for {words}: there is nothing to compare."


def _limits_reason(scenario: Scenario, runs: int) -> str:
    """Return that not all runs keep the limits, or none does."""
    limits = limits_words(scenario)
    if not runs:
        return f"No point keeps the {limits}, at any load: there is no throughput to change."
    return f"The {limits} are a close call: of {SEEDS} runs, {runs} {_keep(runs)} them at some load."


def _keep(runs: int) -> str:
    return "keeps" if runs == 1 else "keep"


def sensitivity_finding(rows: Sequence[Row], figure: Figure) -> str:
    """Return in a sentence or two what matters most, and what next."""
    what = f"{figure.words[0].upper()}{figure.words[1:]} ({figure.say(rows[0]['base'])})"
    sure = [row for row in rows if any(is_sure(row, move) for move in MOVES)]
    if not sure:
        text = f"{what} does not change by more than noise, whichever one thing becomes {TENTH} larger or"
        return f"{text} smaller{'' if all(map(_is_whole, rows)) else ', where it has a value'}."
    first, *others = sure
    text = f"{what} depends most on {_label(first['key']).lower()}: {_both(first)}."
    if others:
        more = [f"{_label(row['key']).lower()} ({percent(size(row))} at most)" for row in others[:2]]
        text += f" Next {'comes' if len(more) == 1 else 'come'} {' and '.join(more)}."
    return text


def _both(row: Row) -> str:
    """Return both changes of a row in words."""
    parts = []
    for move, words in (("more", f"{TENTH} more"), ("less", f"{TENTH} less")):
        change = row[f"{move}_frac"]
        if math.isfinite(change):
            parts.append(f"{words} {'raises' if change > 0 else 'lowers'} it by {percent(abs(change))}")
    return ", ".join(parts)


def _notes(scenario: Scenario, key: str, rows: Sequence[Row]) -> list[str]:
    """Return what no run could tell, what was left out, and what to know about the operating point."""
    unsure = [row for row in rows if not any(is_sure(row, move) for move in MOVES)]
    noise = [_label(row["key"]).lower() for row in unsure if _is_whole(row)]
    found = [f"No difference that {SEEDS} runs could tell: {', '.join(noise)}."] if noise else []
    small = [_label(name).lower() for name in sensitivity.too_small(scenario, key)]
    found += [f"Left out, too few to change by a tenth: {', '.join(small)}."] if small else []
    fixed = [_label(name).lower() for name in sensitivity.without_effect(scenario)]
    found += [f"Left out, since {MEASURED}: {', '.join(fixed)}."] if fixed else []
    if key == "throughput":
        return [*found, f"Within the {limits_words(scenario)}, at the best load of each run."]
    if evaluate(Point({}, scenario))["saturated"]:
        found.append("The operating point is overloaded: its latencies grow with the length of the run.")
    elif key in ("usd", "joule") and scenario.arrivals in ("poisson", "gamma"):
        found.append(
            "In an open loop the tokens a second are those that are asked for: a faster device stands idle "
            "more, and a token costs the same. What it could serve is the throughput within the limits."
        )
    return found


def _is_whole(row: Row) -> bool:
    """Return whether both changes of a row are known."""
    return all(math.isfinite(row[f"{move}_frac"]) for move in MOVES)


def _table(rows: Sequence[Row], figure: Figure) -> None:
    """Show the changes with their errors, and the elasticity."""
    lines: list[pieces.Line] = [
        (_label(row["key"]), [*_moves(row, figure), _number(row["elasticity"])]) for row in rows
    ]
    heads = [f"{TENTH} more", f"{TENTH} less", "elasticity"]
    pieces.table(f"Change of {figure.words}, ± 95 % error where there is any", heads, lines, scroll=True)


def _moves(row: Row, figure: Figure) -> list[Cell]:
    """Return both changes of a row as cells: the change, its error, and what the lever becomes."""
    found = []
    for move in ("more", "less"):
        change, error = row[f"{move}_frac"], row[f"{move}_error_frac"]
        to = f"{_value(row['key'], row['value'])} → {_value(row['key'], row[f'{move}_value'])}"
        sure = "" if is_nothing(error) else f" ± {percent(error)}"
        value = f"{signed(change)}{sure}" if math.isfinite(change) else figure.lost
        if is_nothing(change) and is_nothing(error):
            value = "no change"
        elif math.isfinite(change) and not is_sure(row, move):
            value += " (noise)"
        found.append(Cell(value, small=to))
    return found


def _number(value: float) -> str:
    return ("−" if value < 0 else "") + number(abs(value), 2) if abs(value) >= 0.005 else number(0.0)


def _label(key: str) -> str:
    return FIELDS[key].label


def _value(key: str, value: float) -> str:
    if key in SPECS:
        return SPECS[key][0](value)
    unit = FIELDS[key].unit
    return quantity(value, unit) if unit else value_text(key, value)


def _subtitle(scenario: Scenario) -> str:
    model, part = model_of(scenario), accelerator_of(scenario)
    return (
        f"{model.name} on {scenario.accelerators} × {part.name} · ▲ {TENTH} more, ▼ {TENTH} less · "
        "hollow: noise · simulated"
    )
