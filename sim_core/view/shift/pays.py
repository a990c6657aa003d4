"""When adapting pays: the strategies over ever slower change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sim_core.fields.errors import ScenarioError
from sim_core.questions.shift.cluster import reallocation_s
from sim_core.questions.shift.report import sharing_words, summary_row
from sim_core.questions.shift.study import STRATEGIES, as_two_pools
from sim_core.questions.shift.volatility import SWEEP, SWEEP_DWELLS, break_even, sweep_row
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.sweep.remembered import Remembered
from sim_core.view.drawing.words import literal, number, percent, span_words, spoken
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.shift import figures as shift_figures
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

# All strategies


def all_strategies(scenario: Scenario, top: DeltaGenerator) -> None:
    """Show all strategies side by side; the finding stands at the `top`."""
    with top:
        study = study_of(scenario)
        first_work(study, ["fixed"])
        known = known_outcome(study)
        sharing = sharing_words(scenario, study.scenario, study.trace)
        pieces.say(adapting_finding(study, known), move_words(study.scenario), *sharing)
        trust_badge.badge(study.scenario)
        pieces.nothing()
    chart(
        shift_figures.strategies(known),
        "strategies",
        shift_figures.strategies_sentence(known),
        height=380,
        heading=shift_titles(study, "Strategies"),
    )
    show_strategies(study, known)
    load_caption(study)
    rows = [summary_row(study, outcome) for outcome in known.values()]
    actions.take_away(
        "strategies", actions.table_files(rows, "shift-strategies", study.scenario), command_of(study, "all")
    )
    do_work(lambda: rest_of_work(study))


# When adapting pays


_rows: Remembered[Any, dict[str, Any]] = Remembered(256)


def _sweep_key(scenario: Scenario, times: float) -> Any:
    return as_two_pools(scenario).replace(demand="markov", dwell_s=1.0, demand_hours=1.0), times


def known_row(scenario: Scenario, times: float) -> dict[str, Any] | None:
    """Return a point of the sweep if it has been worked out."""
    return _rows.get(_sweep_key(scenario, times))


def show_when_it_pays(scenario: Scenario, top: DeltaGenerator) -> None:
    """Show what adapting brings over how slowly traffic changes, filling in as it is worked out."""
    if scenario.demand == "trace":
        raise ScenarioError("A trace changes as it does: choose another kind of traffic to vary its speed.")
    rows = [row for times in SWEEP if (row := known_row(scenario, times))]
    even = {name: break_even(rows, name) for name in ("reactive", "predictive")}
    complete = len(rows) == len(SWEEP)
    with top:
        shown = as_two_pools(scenario)
        sharing = sharing_words(scenario, shown)
        pieces.say(pays_finding(scenario, rows, even, complete), move_words(scenario), *sharing)
        trust_badge.badge(shown)
        pieces.nothing(3)
    here = scenario.dwell_s / max(reallocation_s(scenario), scenario.control_s)
    figure = shift_figures.benefits(rows, SWEEP, even, here if scenario.demand == "markov" else None)
    model, part = model_of(scenario), accelerator_of(scenario)
    chart(
        figure,
        "benefits",
        shift_figures.benefits_sentence(rows, even),
        height=480,
        heading=Heading(
            f"When adapting pays: {model.name} on {part.name}",
            f"random switching, reallocation {span_words(reallocation_s(scenario))}, forecast error "
            f"{percent(scenario.forecast_error_frac)} · simulated",
        ),
    )
    reasons = sorted({row["reason"] for row in rows if "reason" in row})
    if reasons:
        st.caption(literal(spoken(" ".join(reasons))))
    st.caption(
        f"Traffic switches at random between both ends. Every point lasts {SWEEP_DWELLS} mean times "
        "between switches, the same switches stretched. Above the line a strategy keeps the limits for more "
        "requests than the fixed split that is best for the mean."
    )
    actions.take_away("benefits", actions.table_files(rows, "shift-volatility"), _command_sweep(scenario))
    do_work(lambda: next_point(scenario))


def next_point(scenario: Scenario) -> Job | None:
    """Return the work on the next point of the sweep; None when all are known."""
    missing = [times for times in SWEEP if known_row(scenario, times) is None]
    if not missing:
        return None
    times = missing[0]

    def work(progress: Callable[[float], None]) -> None:
        _rows.put(_sweep_key(scenario, times), sweep_row(scenario, times, progress))

    name = f"Traffic that changes every {span_words(times * reallocation_s(scenario))}"
    return Job(name, len(SWEEP) - len(missing), len(SWEEP), work)


def pays_finding(
    scenario: Scenario, rows: Sequence[Mapping[str, Any]], even: Mapping[str, float], complete: bool
) -> str:
    """Return from which speed of change on adapting pays."""
    if not any("fixed_frac" in row for row in rows):
        return "Does moving workers between the pools pay, and for how slow a change?"
    unit_s = max(reallocation_s(scenario), scenario.control_s)
    parts = []
    for name, value in even.items():
        who = STRATEGIES[name].lower()
        if math.isnan(value):
            parts.append(
                f"{who} adaptation does not pay at any speed {'tried' if complete else 'tried so far'}"
            )
        elif value == 0:
            parts.append(f"{who} adaptation pays at every speed tried")
        else:
            parts.append(
                f"{who} adaptation pays once traffic stays for {number(value, 2)} times a reallocation, "
                f"{span_words(float(f'{value * unit_s:.2g}'))}"
            )
    text = f"{'; '.join(parts)}."
    return text[0].upper() + text[1:]


def _command_sweep(scenario: Scenario) -> str:
    return f"{command_for(as_two_pools(scenario), 'shift')} --volatility"
