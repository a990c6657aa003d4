"""The pieces of the Plan page: which accelerators, how many, laid out how, for the rate and the limits?

The ranking by arithmetic is drawn at once; it gives way to the one that runs at the rate confirm.
"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from sim_core import catalogue
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
from sim_core.questions.deployment.recorded import default_rate_per_s
from sim_core.questions.deployment.search.losers import LIMITS
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.scenario.link.write import command_for, value_text
from sim_core.scenario.scenario import DEFAULTS, Scenario, accelerator_of, model_of
from sim_core.sweep.capacity import open_loop
from sim_core.sweep.remembered import Remembered
from sim_core.traffic.requests import Requests
from sim_core.view.drawing.words import duration, literal, number, percent, quantity, spoken
from sim_core.view.frontier.plan import around, asking
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts.controls import seed
from sim_core.view.parts.lengths import trace_upload, uploaded
from sim_core.view.parts.sidebar import sidebar
from sim_core.view.parts.views import choose, choose_accelerators, dial, toggle
from sim_core.view.session import shell, state, sweeps

PAGE = "plan"  # whose trace it is
MODELS = "in_plan_models"
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
FOUND = {  # what a plan finds itself, as the sidebar calls what it leaves out
    "layout": "the layout",
    "max_batch": "the batch limit",
    "workers": "the workers of two pools",
    "policy": "the policy",
    "weight_dtype": "the precision of weights",
}
NOT_CHOSEN = "is not among the chosen accelerators, so its specs would change nothing here."
NO_PRICE = "has no price, so the plan leaves it out: set one under More specs."
_plans: Remembered[Question, Plan] = Remembered(sweeps.REMEMBERED)


def show(scenario: Scenario) -> None:
    """Show the ranking for the scenario's rate and limits."""
    asking.question_field(scenario)
    place = st.empty()
    _controls(scenario)
    if state.view("plan_traffic") == "trace":
        _trace_field(scenario)
    try:
        question = _question(scenario)
        found = _plans.get(question) or _worked_out(question, st.empty())
    except ScenarioError as error:
        with place.container():
            pieces.say_why(error)
        return
    with place.container():
        pieces.say(found.sentence)
        trust_badge.badge(found.question.stated(found.rows[0].scenario if found.rows else scenario))
    _ranking(found)
    _offers(found)
    files: list[actions.File] = []
    words = ""
    if found.stage == CONFIRMED:
        files, words = around.show(found)
        _launch(found)
        _losers(found)
        st.caption(READING)
    files = [*actions.table_files(found.row_dicts(), "plan"), *files]
    actions.take_away("", files, _command(question, words))


def plan_sidebar(scenario: Scenario) -> None:
    """Draw the sidebar without what a plan finds itself, and without specs of a part that it leaves out."""
    beside = _found(scenario)
    words = f"The plan finds {_listed([words for key, words in FOUND.items() if key in beside])}."
    if scenario.accelerator not in _parts(scenario):
        name = literal(accelerator(scenario.accelerator).name)
        chosen = state.view("plan_parts") == "chosen"
        words += f" {name} {NOT_CHOSEN if chosen else NO_PRICE}"
        beside |= {"specs"} if chosen else set()
    sidebar(scenario, beside, words)


def _found(scenario: Scenario) -> set[str]:
    """Return what a plan finds itself, of `FOUND`.

    Static batches are refused while their policy is in sight, and the map of winners is of one policy.
    """
    free = _free()
    found = {"layout", "max_batch"} | free & {"policy", "weight_dtype"}
    found |= {"workers"} if "policy" in free or scenario.split else set()
    stays = scenario.policy == "static" or state.view("plan_around") == "map"
    return found - {"policy"} if stays else found


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _free() -> set[str]:
    """Return the keys that the plan may vary."""
    asked = {"policy": "plan_pools", "weight_dtype": "plan_precision"}
    return {*DEFAULT_FREE, *(key for key, setting in asked.items() if state.view(setting) == "on")}


def _question(scenario: Scenario) -> Question:
    """Return what the page asks: the scenario's model, lengths and limits at its rate."""
    plain, trace = _traffic(scenario)
    keys = ("replicas", "requests", "prefill_workers", "decode_workers", "max_batch")
    most = int(state.view_number("plan_most"))
    return Question(
        scenario=plain.replace(**{key: DEFAULTS[key] for key in keys}),
        rate_per_s=plain.arrival_per_s,
        models=_models(scenario),
        trace=trace,
        accelerators=_parts(scenario),
        free=tuple(sorted(_free())),
        objective=state.view("plan_by"),
        max_devices=min(most, MOST_DEVICES) or None,
        ranking=state.view("plan_rank"),
        growth_frac=state.view_number("plan_growth"),
        margin_frac=state.view_number("plan_margin"),
        spare=int(state.view_number("plan_spare")),
    )


def _traffic(scenario: Scenario) -> tuple[Scenario, Requests | None]:
    """Return the scenario at the rate to plan for, and the visitor's trace if that is to be replayed."""
    if state.view("plan_traffic") == "trace":
        known = uploaded(PAGE)
        if known is None:
            raise ScenarioError("Upload a trace, or choose the requests as set.")
        plain = scenario.replace(request_list="")
        return plain.replace(arrivals="trace") if known.requests.timed else open_loop(plain), known.requests
    if scenario.arrivals != "trace":
        return open_loop(scenario), None
    recorded = scenario.trace_times == "recorded"
    return scenario.replace(arrival_per_s=_rounded_rate(scenario)) if recorded else scenario, None


def _trace_field(scenario: Scenario) -> None:
    """Draw the field for a trace; a new one sets the request rate to its own."""
    is_new, known = trace_upload(PAGE), uploaded(PAGE)
    if is_new and known is not None and known.requests.timed:
        rate_per_s = _rounded_rate(scenario.replace(arrivals="trace"), known.requests)
        if state.change(arrival_per_s=rate_per_s):
            shell.rerun_page()


def _rounded_rate(scenario: Scenario, trace: Requests | None = None) -> float:
    """Return the mean rate of what is replayed, short enough for a slider and a link. [1/s]"""
    return float(f"{default_rate_per_s(scenario, trace):.4g}")


def _parts(scenario: Scenario) -> tuple[str, ...]:
    """Return the accelerators to consider."""
    asked = state.view("plan_parts")
    if asked == "chosen":
        return tuple(state.among(scenario))
    return (scenario.accelerator,) if asked == "mine" else with_a_price(scenario)


def _models(scenario: Scenario) -> tuple[str, ...]:
    """Return the models to consider, the present one first; none where it is the only one."""
    others = [name for name in state.view(state.PLAN_MODELS).split(",") if name and name != scenario.model]
    return (scenario.model, *others) if others else ()


def _worked_out(question: Question, place: DeltaGenerator) -> Plan:
    """Return the final ranking; the estimate stands at a place meanwhile.

    It stays, and is remembered, where a view may not run as much as would confirm it: nor may the next one.
    """
    models = question.models or (question.scenario.model,)
    sweeps.wait_until_ready(ranks=any(model_of(question.with_model(name)).is_moe for name in models))
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
    if question.in_turns:
        why += ", because every turn of a conversation waits for an answer"
    return f"This ranking is an estimate by arithmetic. {why}; the command under the table runs them all."


def _controls(scenario: Scenario) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        choose("plan_by", named=True)
        choose("plan_rank", named=True)
        choose("plan_parts", named=True, then=shell.rerun_page)  # the sidebar has what counts
        choose("plan_traffic", named=True)
        toggle("plan_pools", then=shell.rerun_page)
        toggle("plan_precision", then=shell.rerun_page)
    if state.view("plan_parts") == "chosen":
        choose_accelerators(state.among(scenario), state.AMONG_LIMIT, then=shell.rerun_page)
    _choose_models(scenario)
    with st.container(horizontal=True):
        for key, steps, format in (
            ("plan_growth", SHARES, percent),
            ("plan_margin", SHARES, percent),
            ("plan_spare", SPARES, number),
            ("plan_most", DEVICES, lambda count: f"{count:,.0f}" if count else "any number"),
        ):
            with st.container(width=WIDTH):
                dial(key, steps, format)


def _choose_models(scenario: Scenario) -> None:
    """Draw the choice of models beside the present one."""
    names = {name: item.name for name, item in catalogue.models().items() if name != scenario.model}
    seed(MODELS, [name for name in state.view(state.PLAN_MODELS).split(",") if name in names])
    st.multiselect(
        SETTINGS[state.PLAN_MODELS].label,
        list(names),
        format_func=names.__getitem__,
        key=MODELS,
        on_change=_write_models,
        max_selections=state.AMONG_LIMIT,
        placeholder="the present one alone",
        help="One ranking over all of them. Models differ in quality, which no figure here knows.",
    )


def _write_models() -> None:
    state.set_view(state.PLAN_MODELS, ",".join(st.session_state[MODELS]))


# --- the ranking ----------------------------------------------------------------------------------


def _ranking(found: Plan) -> None:
    """Show the rows, best first."""
    if not found.rows:
        return
    several = found.question.compares_models
    lines = [(_name(row), [*_model_cell(row.scenario, several), *_cells(row)]) for row in found.rows]
    how = "simulated" if found.stage == CONFIRMED else "estimated"
    caption = f"Deployments for {number(found.question.planned_per_s)} requests/s, {how}"
    pieces.table(caption, (*_model_head(several), *COLUMNS), lines, scroll=True)


def _model_head(several: bool) -> list[str]:
    return ["Model"] if several else []


def _model_cell(scenario: Scenario | None, several: bool) -> list[str]:
    return [model_of(scenario).name] if several and scenario is not None else []


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


def _offers(found: Plan) -> None:
    """Draw buttons that set the best rows for all pages, or put them beside the present setting."""
    several, traffic = found.question.compares_models, "traffic and limits stay as they are."
    if found.question.trace is not None:
        traffic = "requests are drawn there with the mean lengths of the trace, and limits stay as they are."
        st.caption("Other pages do not have the trace: there, requests are drawn with its mean lengths.")
    for place, row in enumerate(found.rows[:OFFERED]):
        shown, part = _as_looked_at(found.question, row), accelerator_of(row.scenario).name
        with st.container(horizontal=True):
            st.button(
                f"Use {place + 1}: {', '.join([*_model_cell(shown, several), part, row.layout])}",
                key=f"use_plan_{place}",
                icon=":material/check:",
                on_click=_use,
                args=(row, shown),
                help=f"Sets this deployment for all pages; {traffic}",
            )
            st.button(
                f"Add {place + 1} to compare",
                key=f"compare_plan_{place}",
                icon=":material/ac_unit:",
                on_click=_compare,
                args=(row, shown),
                type="tertiary",
                help="Keeps this deployment for the Compare page, beside the present setting.",
            )


def _as_looked_at(question: Question, row: Deployment) -> Scenario:
    """Return a deployment with as many requests as pages run: its own are those that rank it.

    Other pages have no trace: they draw requests of its mean lengths.
    """
    shown = row.scenario if question.trace is None else question.stated(row.scenario)
    return shown.replace(requests=st.session_state.scenario.requests)


def _use(row: Deployment, shown: Scenario) -> None:
    state.replace(shown)
    devices = quantity(row.accelerators, "devices")
    st.toast(literal(f"All pages show {devices} of {accelerator_of(row.scenario).name} now."))


def _compare(row: Deployment, shown: Scenario) -> None:
    state.freeze(shown)
    st.toast(literal(f"Compare shows {accelerator_of(row.scenario).name}, {row.layout}, beside the setting."))


def _launch(found: Plan) -> None:
    """Show how the best row is served and tested, by each engine and client."""
    if not found.rows:
        return
    best = found.rows[0]
    shown = found.question.stated(best.scenario)
    with st.expander("Serve and test the first row", key="in_serve", on_change="rerun") as more:
        if not more.open:  # what colours code weighs more than the chart: for those who look
            return
        st.caption(expected(shown, best.ttft_ms, best.tpot_ms))
        texts = launches(shown)
        for tab, text in zip(st.tabs(list(texts)), texts.values(), strict=True):
            tab.code(text, language="bash", wrap_lines=True)


def _losers(found: Plan) -> None:
    """Show why the other candidates lost."""
    if not found.rejected:
        return
    lost, several = sum(group.count for group in found.rejected), found.question.compares_models
    with st.expander(f"Why the other {lost:,} of {found.counts['all']:,} candidates lost"):
        lines = [
            (
                LIMITS[group.limit],
                [
                    *_model_cell(group.nearest, several),
                    accelerator(group.accelerator).name,
                    f"{group.count:,}",
                    spoken(group.reason),
                ],
            )
            for group in found.rejected
        ]
        heads = (*_model_head(several), "Accelerator", "Candidates", "Nearest")
        pieces.table("Nearest of each", heads, lines, scroll=True)


def _command(question: Question, rates: str = "") -> str:
    """Return the command that gives the same ranking, for the rate or for other `rates`."""
    own = f"--rate {value_text('arrival_per_s', question.rate_per_s)}"
    known = uploaded(PAGE) if question.trace is not None else None
    trace = "" if known is None else f" --trace FILE{known.window.options}"
    words = [command_for(question.scenario, "plan") + trace, rates or own]
    if question.compares_models:
        words.append(f"--model {','.join(question.models)}")
    if question.accelerators != with_a_price(question.scenario):
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
