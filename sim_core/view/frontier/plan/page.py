"""The pieces of the Plan page: which accelerators, how many, laid out how, for the rate and the limits?

The ranking by arithmetic is drawn at once; it gives way to the one that runs at the rate confirm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sim_core.catalogue.accelerators import accelerator
from sim_core.engine.work import SpentUp
from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.answer import CONFIRMED, Deployment, Plan
from sim_core.questions.deployment.launch.text import expected, launches
from sim_core.questions.deployment.plan import plans
from sim_core.questions.deployment.question import (
    DEFAULT_FREE,
    MOST_DEVICES,
    Question,
    with_a_price,
)
from sim_core.questions.deployment.search.losers import LIMITS
from sim_core.scenario.link.write import command_for, value_text
from sim_core.scenario.scenario import DEFAULTS, Scenario, accelerator_of, model_of
from sim_core.sweep.capacity import open_loop
from sim_core.sweep.remembered import Remembered
from sim_core.view.drawing.words import duration, literal, number, percent, quantity, spoken
from sim_core.view.frontier.plan import around, asking
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts.views import choose, choose_accelerators, dial, toggle
from sim_core.view.session import state, sweeps

OFFERED = 3
WIDTH = 156  # of a slider, in pixels: two fit beside one another on a phone, all in a window of 1024
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
SPARES = (0, 1, 2, 3, 4)
DEVICES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
COLUMNS = (
    "Layout",
    "Devices",
    "by the band",
    "USD/h",
    "USD/month",
    "USD/Mtok",
    "J/tok",
    "TTFT",
    "TPOT",
    "Headroom",
    "Then binds",
    "Trust",
)
READING = (
    "Each row is a deployment that keeps both limits at the request rate: whole engines, simulated "
    "together behind a router. Its devices lie between the two numbers by the band of a step's time. Rows of "
    "one rank are worth the same; = marks a row that another one equals within the error of the runs."
)
_plans: Remembered[Question, Plan] = Remembered(sweeps.REMEMBERED)


def show(scenario: Scenario) -> None:
    """Show the ranking for the scenario's rate and limits."""
    asking.question_field(scenario)
    place = st.empty()
    _controls(scenario)
    try:
        question = _question(scenario)
        found = _plans.get(question) or _worked_out(question, st.empty())
    except ScenarioError as error:
        with place:
            pieces.say_why(error)
        return
    with place.container():
        pieces.say(found.sentence)
        trust_badge.badge(found.rows[0].scenario if found.rows else scenario)
    _ranking(found)
    _offers(found.rows)
    files: list[actions.File] = []
    words = ""
    if found.stage == CONFIRMED:
        files, words = around.show(found)
        _launch(found.rows)
        _losers(found)
        st.caption(READING)
    files = [*actions.table_files([row.as_dict() for row in found.rows], "plan"), *files]
    actions.take_away("", files, _command(question, words))


def _question(scenario: Scenario) -> Question:
    """Return what the page asks: the scenario's model, lengths and limits at its rate."""
    plain = open_loop(scenario) if scenario.arrivals != "trace" else scenario
    keys = ("replicas", "requests", "prefill_workers", "decode_workers", "max_batch")
    free = {*DEFAULT_FREE}
    free |= {"policy"} if state.view("plan_pools") == "on" else set()
    free |= {"weight_dtype"} if state.view("plan_precision") == "on" else set()
    most = int(state.view_number("plan_most"))
    return Question(
        scenario=plain.replace(**{key: DEFAULTS[key] for key in keys}),
        rate_per_s=plain.arrival_per_s,
        accelerators=_parts(scenario),
        free=tuple(sorted(free)),
        objective=state.view("plan_by"),
        max_devices=min(most, MOST_DEVICES) or None,
        ranking=state.view("plan_rank"),
        growth_frac=state.view_number("plan_growth"),
        margin_frac=state.view_number("plan_margin"),
        spare=int(state.view_number("plan_spare")),
    )


def _parts(scenario: Scenario) -> tuple[str, ...]:
    """Return the accelerators to consider."""
    asked = state.view("plan_parts")
    if asked == "chosen":
        return tuple(state.among(scenario))
    return (scenario.accelerator,) if asked == "mine" else with_a_price(scenario.prices)


def _worked_out(question: Question, place: DeltaGenerator) -> Plan:
    """Return the final ranking; the estimate stands at a place meanwhile.

    It stays, and is remembered, where a view may not run as much as would confirm it: nor may the next one.
    """
    sweeps.wait_until_ready(ranks=model_of(question.scenario).is_moe)
    estimate, bar = None, st.empty()
    try:
        for found in plans(question, lambda done: _tell(bar, done)):
            if found.stage == CONFIRMED:
                return _plans.put(question, found)
            estimate = found
            with place.container():
                st.caption(f":material/pending: {found.sentence}")
                _ranking(found)
    except SpentUp:
        if estimate is None:
            raise
        return _plans.put(question, replace(estimate, sentence=_unconfirmed(question)))
    finally:
        place.empty()
        bar.empty()
    raise AssertionError("the last answer is a confirmed one")


def _tell(bar: DeltaGenerator, done_frac: float) -> None:
    bar.progress(done_frac, "Runs at the rate, those that may win first…")


def _unconfirmed(question: Question) -> str:
    """Return why a ranking is by arithmetic alone, and what confirms it."""
    why = "The runs that would confirm it take longer than a page may"
    if question.scenario.turns > 1:
        why += ", because every turn of a conversation waits for an answer"
    return f"This ranking is an estimate by arithmetic. {why}; the command under the table runs them all."


def _controls(scenario: Scenario) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        choose("plan_by", named=True)
        choose("plan_rank", named=True)
        choose("plan_parts", named=True)
        toggle("plan_pools")
        toggle("plan_precision")
    if state.view("plan_parts") == "chosen":
        choose_accelerators(state.among(scenario), state.AMONG_LIMIT)
    with st.container(horizontal=True):
        for key, steps, format in (
            ("plan_growth", SHARES, percent),
            ("plan_margin", SHARES, percent),
            ("plan_spare", SPARES, number),
            ("plan_most", DEVICES, lambda count: f"{count:,.0f}" if count else "any number"),
        ):
            with st.container(width=WIDTH):
                dial(key, steps, format)


# --- the ranking ----------------------------------------------------------------------------------


def _ranking(found: Plan) -> None:
    """Show the rows, best first."""
    if not found.rows:
        return
    lines = [(_name(row), _cells(row)) for row in found.rows]
    how = "simulated" if found.stage == CONFIRMED else "estimated"
    caption = f"Deployments for {number(found.question.planned_per_s)} requests/s, {how}"
    pieces.table(caption, COLUMNS, lines, scroll=True)


def _name(row: Deployment) -> str:
    """Return a row's rank and accelerator; with a dot, lest it reads as a number of devices."""
    tie = " =" if row.tie else ""
    return f"{row.rank}.{tie} {accelerator_of(row.scenario).name}"


def _cells(row: Deployment) -> list[str]:
    times = "" if row.scenario.split or row.replicas == 1 else f"{row.replicas} × "
    high = "?" if row.accelerators_high is None else f"{row.accelerators_high:,}"
    done = row.stage == CONFIRMED
    return [
        f"{times}{row.layout}, {row.scenario.weight_dtype}",
        f"{row.accelerators:,}",
        f"{row.accelerators_low:,} to {high}",
        number(row.usd_per_hour),
        number(row.usd_per_month),
        number(row.usd_per_mtok),
        number(row.joule_per_tok),
        duration(row.ttft_ms) if done else "…",
        duration(row.tpot_ms) if done else "…",
        percent(row.headroom_frac) if done else "…",
        row.limit.upper() if row.limit in ("ttft", "tpot") else row.limit,
        row.badge,
    ]


def _offers(rows: Sequence[Deployment]) -> None:
    """Draw buttons that set the best rows for all pages, or put them beside the present setting."""
    for place, row in enumerate(rows[:OFFERED]):
        with st.container(horizontal=True):
            st.button(
                f"Use {place + 1}: {accelerator_of(row.scenario).name}, {row.layout}",
                key=f"use_plan_{place}",
                icon=":material/check:",
                on_click=_use,
                args=(row,),
                help="Sets this deployment for all pages; traffic and limits stay as they are.",
            )
            st.button(
                f"Add {place + 1} to compare",
                key=f"compare_plan_{place}",
                icon=":material/ac_unit:",
                on_click=_compare,
                args=(row,),
                type="tertiary",
                help="Keeps this deployment for the Compare page, beside the present setting.",
            )


def _as_looked_at(row: Deployment) -> Scenario:
    """Return a deployment with as many requests as pages run: its own are those that rank it."""
    return row.scenario.replace(requests=st.session_state.scenario.requests)


def _use(row: Deployment) -> None:
    state.replace(_as_looked_at(row))
    devices = quantity(row.accelerators, "devices")
    st.toast(literal(f"All pages show {devices} of {accelerator_of(row.scenario).name} now."))


def _compare(row: Deployment) -> None:
    state.freeze(_as_looked_at(row))
    st.toast(literal(f"Compare shows {accelerator_of(row.scenario).name}, {row.layout}, beside the setting."))


def _launch(rows: Sequence[Deployment]) -> None:
    """Show how the best row is served and tested, by each engine and client."""
    if not rows:
        return
    best = rows[0]
    with st.expander("Serve and test the first row", key="in_serve", on_change="rerun") as more:
        if not more.open:  # what colours code weighs more than the chart: for those who look
            return
        st.caption(expected(best.scenario, best.ttft_ms, best.tpot_ms))
        found = launches(best.scenario)
        for tab, text in zip(st.tabs(list(found)), found.values(), strict=True):
            tab.code(text, language="bash", wrap_lines=True)


def _losers(found: Plan) -> None:
    """Show why the other candidates lost."""
    if not found.rejected:
        return
    lost = sum(group.count for group in found.rejected)
    with st.expander(f"Why the other {lost:,} of {found.counts['all']:,} candidates lost"):
        lines = [
            (
                LIMITS[group.limit],
                [accelerator(group.accelerator).name, f"{group.count:,}", spoken(group.reason)],
            )
            for group in found.rejected
        ]
        pieces.table("Nearest of each", ("Accelerator", "Candidates", "Nearest"), lines, scroll=True)


def _command(question: Question, rates: str = "") -> str:
    """Return the command that gives the same ranking, for the rate or for other `rates`."""
    own = f"--rate {value_text('arrival_per_s', question.rate_per_s)}"
    words = [command_for(question.scenario, "plan"), rates or own]
    if question.accelerators != with_a_price(question.scenario.prices):
        words.append(f"--accelerators {','.join(question.accelerators)}")
    if set(question.free) != set(DEFAULT_FREE):
        words.append(f"--free {','.join(question.free)}")
    if question.objective != "usd_per_hour":
        words.append(f"--objective {question.objective}")
    if question.max_devices:
        words.append(f"--max-devices {question.max_devices}")
    if question.ranking != "plain":
        words.append(f"--ranking {question.ranking}")
    added = (("growth", question.growth_frac), ("margin", question.margin_frac), ("spare", question.spare))
    return " ".join([*words, *(f"--{name} {value_text(name, value)}" for name, value in added if value)])
