"""The pieces of the Compare page: the present scenario beside up to two frozen ones.

The page's other views, one's own accelerator and what matters most, are in `design` and `sensitivity`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import streamlit as st

from sim_core.fields.errors import ScenarioError
from sim_core.questions import compare
from sim_core.questions.compare import Gain, LimitsGain
from sim_core.questions.speculation import brief, supposed
from sim_core.scenario.link.page_settings import PAGE_KEYS
from sim_core.scenario.link.read import from_query
from sim_core.scenario.link.write import command_for, value_text
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of, model_of
from sim_core.sweep.points import own_vary, sweep_key
from sim_core.view.compare import design, results, sensitivity
from sim_core.view.compare import figures as compare_figures
from sim_core.view.drawing import figures
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.verdicts import Limits
from sim_core.view.drawing.words import literal, number, percent, quantity
from sim_core.view.frontier.figures import pareto, pareto_sentence
from sim_core.view.frontier.words import limits_words
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.views import scales, views
from sim_core.view.session import shell, state, sweeps

NAMES = ("A", "B", "C")


def show(scenario: Scenario) -> None:
    """Show the view that was asked for."""
    sweeps.wait_until_ready()
    views("compare")
    {"sides": show_sides, "design": design.show_design, "sensitivity": sensitivity.show_sensitivity}[
        state.view("compare")
    ](scenario)


def show_sides(scenario: Scenario) -> None:
    """Show the present scenario (A) beside the frozen ones, or how to begin."""
    sides = [scenario, *state.frozen()]
    _sides(sides)
    if len(sides) == 1:
        pieces.say(
            "Freeze this scenario, then change a control: both stay on the chart.",
            "Up to three scenarios, from any page (Add to compare) or from a link. One link holds them all.",
        )
    else:
        pieces.say(*_gains(sides))
    trust_badge.badge(scenario)
    curves = [compare.curve(side) for side in sides]
    rows = side_rows(sides, curves)
    if figures.drawable(rows):
        _chart(sides, rows)
    for name, side, points in zip(NAMES, sides, curves, strict=False):
        why = results.why_none(side, points)
        if why:
            st.caption(literal(f"{name} {why}"))
    tables(sides)
    if len(sides) > 1:
        what_it_takes(sides)
    commands = "\n".join(command_for(side, "frontier", vary=own_vary(side)) for side in sides)
    actions.take_away("compare", actions.table_files(rows, "compare"), commands)


def side_rows(sides: Sequence[Scenario], curves: Sequence[Sequence[Row]]) -> list[dict[str, Any]]:
    """Return all points with the name of their curve, and how to draw it."""
    names = [f"{NAMES[k]} {short_name(side)}" for k, side in enumerate(sides)]
    return results.labelled(names, sides, curves)


def short_name(side: Scenario) -> str:
    """Return a scenario in a few words."""
    try:
        part = accelerator_of(side).name
    except ScenarioError:
        part = side.accelerator
    model = model_of(side).name
    return ", ".join(filter(None, (f"{model} on {side.accelerators} × {part}", brief(side))))


def _sides(sides: Sequence[Scenario]) -> None:
    """Draw who is compared, with what can be done with each."""
    columns = st.columns(compare.MOST)
    for k, side in enumerate(sides):
        with columns[k].container(border=True):
            st.markdown(f"**{NAMES[k]}** {literal(short_name(side))}")
            own = [key for key in side.changed() if key not in ("model", "accelerator")]
            words = ", ".join(f"{_label(key)} {_value(side, key)}" for key in own[:6])
            st.caption(literal(words) or "defaults")
            with st.container(horizontal=True):
                if k == 0:
                    full = len(sides) == compare.MOST
                    st.button(
                        "Freeze",
                        key="freeze",
                        icon=":material/ac_unit:",
                        on_click=state.freeze,
                        disabled=full,
                        help="Keeps this scenario while you change A.",
                    )
                else:
                    st.button("Make it A", key=f"swap_{k}", on_click=_swap, args=(k,))
                    st.button("Remove", key=f"remove_{k}", on_click=state.thaw, args=(k,), type="tertiary")
    if len(sides) < compare.MOST:
        with columns[len(sides)]:
            st.text_input(
                "Or paste a link", key="in_paste", on_change=_paste, placeholder="https://…?v=1&max_batch=64"
            )


def _swap(place: int) -> None:
    state.swap(place)
    shell.rerun_page()


def _paste() -> None:
    text = st.session_state.get("in_paste", "")
    if not text.strip():
        return
    side, notes = from_query(text, ignore=PAGE_KEYS)
    if notes:
        st.session_state.problem = " ".join(notes[:3])
    state.freeze(side)
    st.session_state.in_paste = ""


def _chart(sides: Sequence[Scenario], rows: list[dict[str, Any]]) -> None:
    scenario, scale = sides[0], state.view("axes")
    logs = scale in ("log-x", "log"), scale in ("log-y", "log")
    along = sweeps.ALONG[sweep_key(scenario)]
    top = compare.best_within(scenario)
    best = None if top is None else {**rows[0], **top}
    ghost = _ghost(sides)
    figure = pareto(
        rows,
        figures.frame_around([*rows, *ghost], *logs),
        along=along,
        own=rows[0]["curve"],
        limits=Limits(results.shared(side.slo_ttft_ms for side in sides), scenario.slo_tpot_ms),
        best=best,
    )
    figure["data"][1:1] = compare_figures.ghost(ghost)
    with st.container(horizontal=True, vertical_alignment="center"):
        scales()
        if ghost:
            st.button(
                "Forget A before",
                key="forget",
                on_click=state.forget_before,
                type="tertiary",
                icon=":material/close:",
                help="Takes the grey dotted curve off the chart.",
            )
    sentence = pareto_sentence(rows, best, along) + compare_figures.ghost_sentence(ghost)
    chart(
        figure,
        "compare",
        sentence,
        heading=Heading(
            "Side by side", "; ".join(dict.fromkeys(row["curve"] for row in rows)) + " · simulated"
        ),
    )


def _ghost(sides: Sequence[Scenario]) -> list[Row]:
    """Return the points of A as it was before its last change; none where another curve shows the same."""
    before = state.before()
    if before is None or before in sides:
        return []
    changed = list(compare.differences([before, sides[0]]))
    words = ", ".join(f"{_label(key).lower()} {_value(before, key)}" for key in changed[:2])
    more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
    rows = [{"curve": f"A before: {words}{more}", **row} for row in compare.curve(before)]
    return figures.drawable(rows)


def _gains(sides: Sequence[Scenario]) -> list[str]:
    """Return how each frozen scenario compares with A: at the same speed, and within the same limits."""
    first, *others = sides
    named = list(zip(NAMES[1:], others, strict=False))
    speed = [gain_words(name, compare.gain(first, side)) for name, side in named]
    within = [limits_gain_words(name, compare.gain_within(first, side), first) for name, side in named]
    return [text for pair in zip(speed, within, strict=True) for text in pair]


def limits_gain_words(name: str, found: LimitsGain, first: Scenario) -> str:
    """Return in words how much better a scenario is than A within A's limits, with cost and energy."""
    limits = f"A’s {limits_words(first)}"
    keeps = {"A": found.first_keeps, name: found.second_keeps}
    never = [side for side, runs in keeps.items() if not runs]
    if len(never) == 2:
        return f"Neither A nor {name} can keep {limits}, at any load."
    if never:
        return f"Within {limits} there is nothing to compare: {never[0]} cannot keep them, at any load."
    seldom = [side for side, runs in keeps.items() if runs < compare.SEEDS]
    if seldom:
        runs = ", ".join(f"{side} in {keeps[side]}" for side in seldom)
        return f"{limits} are a close call: of {compare.SEEDS} runs each, {runs} keep them at some load."
    price = _per_token_words(found)
    error = f"±{percent(found.gain.error_frac)}"
    if not found.gain.is_sure:
        same = f"Within {limits} {name} and A give the same throughput per accelerator, as far as can be told"
        return f"{same} ({error}){price}."
    change = found.gain.frac
    much = f"{number(1 + change, 2)} times the" if change >= 1 else f"{percent(abs(change))} "
    much += "" if change >= 1 else "more" if change > 0 else "less"
    sure = f" ({error})" if found.gain.error_frac >= 0.005 else ""
    return f"Within {limits} {name} gives {much} throughput per accelerator{sure}{price}."


def _per_token_words(found: LimitsGain) -> str:
    """Return cost and energy of a token against A's, as far as they are known."""
    known = [(found.usd_ratio, "cost"), (found.joule_ratio, "energy")]
    words = [f"{number(ratio, 2)}× the {what}" for ratio, what in known if math.isfinite(ratio)]
    return f", and {' and '.join(words)} per token" if words else ""


def gain_words(name: str, found: Gain) -> str:
    """Return in one sentence how much better a scenario is than A."""
    change, error_frac = found.gain
    if math.isnan(change):
        return f"{name} and A have no interactivity in common: they cannot be compared at the same speed."
    where = f"At {quantity(found.interactivity, 'tok/s/user')}"
    if not found.gain.is_sure:
        return (
            f"{where} {name} and A give the same throughput per accelerator, as far as can be told "
            f"(±{percent(error_frac)})."
        )
    sure = f" (±{percent(error_frac)})" if error_frac >= 0.005 else ""
    if change >= 1:
        return f"{where} {name} gives {number(1 + change, 2)} times the throughput of A{sure}."
    way = "more" if change > 0 else "less"
    return f"{where} {name} gives {percent(abs(change))} {way} throughput per accelerator than A{sure}."


def tables(sides: Sequence[Scenario]) -> None:
    """Show in which inputs the scenarios differ, and in which results."""
    heads = NAMES[: len(sides)]
    results.side_by_side("Results, at each one's best point within its limits", heads, sides)
    found = compare.differences(sides)
    if found:
        rows = [(_label(key), [_value(side, key) for side in sides]) for key in found]
        pieces.table("Inputs that differ", heads, rows, scroll=True)


def what_it_takes(sides: Sequence[Scenario]) -> None:
    """Show, on demand, by how much one spec of the weakest would have to grow to match the best."""
    tops = enumerate(compare.best_within(side) for side in sides)
    known = {place: top[compare.Y] for place, top in tops if top is not None}
    if len(known) < 2:
        return
    best, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    what = f"What would {NAMES[least]} need to match {NAMES[best]}?"
    if sides[least].step_profile:
        st.caption(f"{what} That cannot be told: {results.MEASURED}.")
        return
    with st.expander(what, key="in_needed", on_change="rerun") as more:
        if not more.open or best == least:
            return
        with st.spinner("Looking for the smallest change…"):
            found = compare.needed(sides[least], known[best])
        results.show_needed(
            f"One spec of {NAMES[least]} alone, everything else as it is", sides[least], found
        )


def _label(key: str) -> str:
    return FIELDS[key].label


def _value(side: Scenario, key: str) -> str:
    value = getattr(side, key)
    if key == "spec_tokens" and not value:
        return "no speculation"
    if key == "acceptance_length" and value is None:
        found = supposed(side).published
        return f"published: {number(found.length)}" if found and side.spec_tokens else "none"
    if value is None:
        return "as the preset"
    if FIELDS[key].kind is str:
        return FIELDS[key].label_of(value)[:40] or "none"
    if FIELDS[key].unit:
        return quantity(value, FIELDS[key].unit)
    return f"{value:,}" if isinstance(value, int) else value_text(key, value)
