"""The pieces of the Traffic shift page: does splitting the phases survive traffic that changes?

Strategies take up to some seconds each. The page draws what is known, works on the next thing with a progress
bar, and draws itself again; the visitor's next move, or the stop button, interrupts the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sim_core.fields.errors import ScenarioError
from sim_core.questions.shift.report import decision_rows, sharing_words, timeline_rows
from sim_core.questions.shift.study import STRATEGIES, Outcome, Study, brought_by
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.remembered import Remembered
from sim_core.view.drawing.words import quantity
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.parts.pieces import Cell
from sim_core.view.parts.views import choose, views
from sim_core.view.session import state, sweeps
from sim_core.view.shift import figures as shift_figures
from sim_core.view.shift.pays import all_strategies, show_when_it_pays
from sim_core.view.shift.sidebar import shift_dials
from sim_core.view.shift.words import adapting_finding, move_words, show_strategies
from sim_core.view.shift.work import (
    Job,
    command_of,
    do_work,
    first_work,
    known_outcome,
    load_caption,
    rest_of_work,
    shift_titles,
    study_of,
)

MOST_DECISIONS = 40  # whose worth is worked out


# The page


def show(scenario: Scenario) -> None:
    """Show the view that was asked for; where it cannot be, the controls and the reason.

    The sliders have a place of their own, whatever a view says above them: while it works things out, what
    the run before drew stays where nothing new stands, and a slider that had moved would be there twice.
    """
    views("shift")
    with st.container():
        sweeps.wait_until_ready()
    top = st.container()
    with st.container():
        shift_dials(scenario)
    view = {"time": show_over_time, "pays": show_when_it_pays, "strategies": all_strategies}[
        state.view("shift")
    ]
    try:
        view(scenario, top)
    except ScenarioError as error:
        with top:
            pieces.say_why(error)


# What the strategies make of it


def show_over_time(scenario: Scenario, top: DeltaGenerator) -> None:
    """Show one strategy over time, and its moves; finding and choice stand at the `top`."""
    name = state.view("strategy")
    with top:
        study = study_of(scenario)
        first_work(study, [name, "fixed"])
        known = known_outcome(study)
        sharing = sharing_words(scenario, study.scenario, study.trace)
        pieces.say(adapting_finding(study, known), move_words(study.scenario), *sharing)
        trust_badge.badge(study.scenario)
        with st.container(width=300):
            choose("strategy", STRATEGIES)
    outcome = known[name]
    chart(
        shift_figures.over_time_figure(study, outcome, known["fixed"]),
        "over_time",
        shift_figures.over_time_sentence(study, outcome),
        height=640,
        export=(1100, 760),
        heading=shift_titles(study, STRATEGIES[name]),
    )
    show_strategies(study, known)
    load_caption(study)
    moves(study, outcome)
    rows = timeline_rows(study, outcome)
    actions.take_away(
        "over_time", actions.table_files(rows, f"shift-{name}", study.scenario), command_of(study, name)
    )
    do_work(lambda: rest_of_work(study) or worth_of_moves(study, outcome))


def moves(study: Study, outcome: Outcome) -> None:
    """Show every decision to move, its cost and whether it paid."""
    if not outcome.decisions:
        if outcome.spans:
            st.caption("Nobody moved.")
        return
    rows = decision_rows(study, outcome)
    worth = _worth(study, outcome)
    lines = []
    for number_, row in enumerate(rows):
        gained = worth.get(number_)
        lines.append((shift_figures.when(row["time_s"]), _move_cells(row, gained, study)))
    heads = ["Split", "Gave up work in", "Back after", "Away", "Cost", "Brought"]
    with st.expander(
        f"Every move ({len(outcome.moves)} workers in {len(rows)} decisions)", expanded=len(rows) <= 12
    ):
        pieces.table("Decisions to move, by time", heads, lines, scroll=True)
        st.caption(
            "Brought: requests within the limits over the whole time, against the same run without this one "
            "decision."
        )


def worth_of_moves(study: Study, outcome: Outcome) -> Job | None:
    """Return the work on what the next decision brought; None when all are known."""
    worth = _worth(study, outcome)
    total = min(len(outcome.decisions), MOST_DECISIONS)
    missing = [place for place in range(total) if place not in worth]
    if not missing:
        return None
    place = missing[0]

    def work(progress: Callable[[float], None]) -> None:
        worth[place] = brought_by(study, outcome, place, progress)

    return Job("What each move brought", total - len(missing), total, work)


def _move_cells(row: Mapping[str, Any], gained: int | None, study: Study) -> list[str | Cell]:
    before, after, workers = row["prefill_workers_before"], row["prefill_workers_after"], study.workers
    return [
        f"{before}P{workers - before}D → {after}P{workers - after}D",
        _seconds(row["drained_after_s"]),
        _seconds(row["ready_after_s"]),
        quantity(60 * row["accelerator_hours"], "device-min"),
        quantity(row["cost_usd"], "USD", 2) if math.isfinite(row["cost_usd"]) else "–",
        _brought(gained),
    ]


def _brought(gained: int | None) -> str | Cell:
    """Return how many requests more a decision has brought within the limits."""
    if not gained:
        return "…" if gained is None else "0"
    return Cell(f"{'+' if gained > 0 else '−'}{abs(gained):,}", pieces.good_or_bad(gained > 0))


def _seconds(value_s: float) -> str:
    return quantity(value_s, "s") if math.isfinite(value_s) else "not by the end"


_worths: Remembered[Any, dict[int, int]] = Remembered(64)


def _worth(study: Study, outcome: Outcome) -> dict[int, int]:
    """Return what is known of what each decision brought; it grows as more is worked out."""
    return _worths.put((study.scenario, study.trace, outcome.name), {})
