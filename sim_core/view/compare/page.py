"""The pieces of the Compare page: the present scenario beside up to two frozen ones.

The page's other views, one's own accelerator and what matters most, are in `design` and `sensitivity`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

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
from sim_core.sweep.ranges import Estimate
from sim_core.view.compare import design, results, sensitivity
from sim_core.view.compare import figures as compare_figures
from sim_core.view.drawing import figures
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.names import names_of
from sim_core.view.drawing.verdicts import Limits
from sim_core.view.drawing.words import literal, number, percent, quantity
from sim_core.view.frontier.figures import pareto, pareto_sentence
from sim_core.view.frontier.words import limits_words
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.views import scales, views
from sim_core.view.session import shell, state, sweeps
from sim_core.view.session.mine.measured_figures import measured_marks

NOW, BEFORE = "Now", "Before"
UNCHANGED = "Nothing is changed yet: the frozen setting is the present one. Move a control to see a change."
Value = TypeVar("Value")


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
            "Freeze this scenario, then change a control: before and now stay on the chart.",
            "Up to three scenarios, from any page (Add to compare) or from a link. One link holds them all.",
        )
    else:
        pieces.say(*_gains(sides))
    trust_badge.badge(scenario)
    curves = [compare.curve(side) for side in sides]
    rows = side_rows(sides, curves)
    if figures.drawable(rows):
        _chart(sides, rows)
    for name, side, points in zip(side_names(sides), sides, curves, strict=True):
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
    return results.labelled(side_names(sides), sides, curves)


def roles(sides: Sequence[Scenario]) -> list[str]:
    """Return what each side is: the present one is now, the frozen ones were before, the oldest first."""
    several = len(sides) > 2
    return [NOW, *(f"{BEFORE} {k}" if several else BEFORE for k in range(1, len(sides)))]


def side_names(sides: Sequence[Scenario]) -> list[str]:
    """Return the name of each side: what it is, and the inputs in which it differs from the others."""
    if len(sides) == 1:
        return [f"{NOW}: {short_name(sides[0])}"]
    return [f"{role}: {name}" for role, name in zip(roles(sides), names_of(sides), strict=True)]


def short_name(side: Scenario) -> str:
    """Return a scenario in a few words."""
    try:
        part = accelerator_of(side).name
    except ScenarioError:
        part = side.accelerator
    model = model_of(side).name
    return ", ".join(filter(None, (f"{model} on {side.accelerators} × {part}", brief(side))))


DATA = {  # inputs that are long texts, in words; bands come with the constants or the times that they are of
    "constants": "constants of your own",
    "step_profile": "measured step times",
    "own_bands": "",
    "request_list": "requests of your own",
}


def _input_words(side: Scenario, key: str) -> str:
    return DATA.get(key, f"{_label(key)} {_value(side, key)}")


def _sides(sides: Sequence[Scenario]) -> None:
    """Draw who is compared, with what can be done with each."""
    columns = st.columns(compare.MOST)
    for k, (side, role) in enumerate(zip(sides, roles(sides), strict=True)):
        with columns[k].container(border=True):
            st.markdown(f"**{role}** {literal(short_name(side))}")
            own = [key for key in side.changed() if key not in ("model", "accelerator")]
            words = ", ".join(filter(None, (_input_words(side, key) for key in own[:6])))
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
                        help="Keeps this scenario as it was before, while you change it.",
                    )
                else:
                    st.button("Make this my setting", key=f"swap_{k}", on_click=_swap, args=(k,))
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
    figure["data"] += measured_marks(sides)
    with st.container(horizontal=True, vertical_alignment="center"):
        scales()
        if ghost:
            st.button(
                "Forget the last change",
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
    rows = [{"curve": f"Last: {words}{more}", **row} for row in compare.curve(before)]
    return figures.drawable(rows)


def _gains(sides: Sequence[Scenario]) -> list[str]:
    """Return what each frozen scenario changed into: at the same speed, and within its limits."""
    now, *others = sides
    names = names_of(sides)
    found = []
    for name, side in zip(names[1:], others, strict=True):
        if side == now:
            found.append(UNCHANGED)
            continue
        change = Change(name, names[0])
        found += [
            gain_words(change, compare.gain(side, now)),
            limits_gain_words(change, compare.gain_within(side, now), side),
        ]
    return found


class Change(NamedTuple):
    """What was before and what is now, each by the inputs that differ."""

    before: str
    now: str


def limits_gain_words(change: Change, found: LimitsGain, before: Scenario) -> str:
    """Return in words what a change brings within the limits from before, with cost and energy."""
    limits = limits_words(before)
    keeps = {change.before: found.first_keeps, change.now: found.second_keeps}
    never = [side for side, runs in keeps.items() if not runs]
    if len(never) == len(keeps):
        return f"Neither {change.before} nor {change.now} can keep {limits}, at any load."
    if never:
        return f"Within {limits} there is nothing to compare: {never[0]} cannot keep them, at any load."
    seldom = [side for side, runs in keeps.items() if runs < compare.SEEDS]
    if seldom:
        runs = ", ".join(f"{side} in {keeps[side]}" for side in seldom)
        return f"The {limits} are a close call: of {compare.SEEDS} runs each, {runs} keep them at some load."
    price = _per_token_words(found)
    if not found.gain.is_sure:
        same = f"Within {limits} the throughput per accelerator is the same, as far as can be told"
        return f"{same} (±{percent(found.gain.error_frac)}){price}."
    return f"Within {limits}: {results.signed_words(found.gain)} throughput per accelerator{price}."


def _per_token_words(found: LimitsGain) -> str:
    """Return cost and energy of a token against those before, as far as they are known."""
    known = [(found.usd_ratio, "cost"), (found.joule_ratio, "energy")]
    words = [f"{number(ratio, 2)}× the {what}" for ratio, what in known if math.isfinite(ratio)]
    return f", and {' and '.join(words)} per token" if words else ""


def gain_words(change: Change, found: Gain) -> str:
    """Return in one sentence what a change brings at the same speed."""
    before, now = change
    if math.isnan(found.gain.frac):
        return (
            f"{before} and {now} have no interactivity in common: they cannot be compared at the same speed."
        )
    where = f"At {quantity(found.interactivity, 'tok/s/user')}"
    if not found.gain.is_sure:
        return (
            f"{where} {before} and {now} give the same throughput per accelerator, as far as can be told "
            f"(±{percent(found.gain.error_frac)})."
        )
    return f"{where} from {before} to {now}: {results.signed_words(found.gain)} throughput per accelerator."


def tables(sides: Sequence[Scenario]) -> None:
    """Show in which inputs the scenarios differ, and in which results."""
    heads, forwards = in_time(side_names(sides)), in_time(sides)
    results.side_by_side(
        "Results, at each one's best point within its limits", heads, forwards, _gains_in_table(forwards)
    )
    found = compare.differences(forwards)
    if found:
        rows = [(_label(key), [_value(side, key) for side in forwards]) for key in found]
        pieces.table("Inputs that differ", heads, rows, scroll=True)


def _gains_in_table(forwards: Sequence[Scenario]) -> list[Estimate | None]:
    """Return the change from the first to the present one as the finding has it; None where it has none."""
    first, now = forwards[0], forwards[-1]
    if len(forwards) < 2 or any(getattr(first, key) != getattr(now, key) for key in compare.LIMIT_KEYS):
        return []
    return [*(None for _ in forwards[1:]), compare.gain_within(first, now).gain]


def in_time(sides: Sequence[Value]) -> list[Value]:
    """Return sides as they came: those before in their order, the present one last."""
    return [*sides[1:], *sides[:1]]


def what_it_takes(sides: Sequence[Scenario]) -> None:
    """Show, on demand, by how much one spec of the weakest would have to grow to match the best."""
    tops = enumerate(compare.best_within(side) for side in sides)
    known = {place: top[compare.Y] for place, top in tops if top is not None}
    if len(known) < 2:
        return
    best, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    names = names_of(sides)
    what = f"What would {names[least]} need to match {names[best]}?"
    if sides[least].step_profile:
        st.caption(f"{what} That cannot be told: {results.MEASURED}.")
        return
    with st.expander(what, key="in_needed", on_change="rerun") as more:
        if not more.open or best == least:
            return
        with st.spinner("Looking for the smallest change…"):
            found = compare.needed(sides[least], known[best])
        results.show_needed(
            f"One spec of {names[least]} alone, everything else as it is", sides[least], found
        )


def _label(key: str) -> str:
    return FIELDS[key].label


def _value(side: Scenario, key: str) -> str:
    value = getattr(side, key)
    if key in ("model", "accelerator"):
        return (model_of(side) if key == "model" else accelerator_of(side)).name
    if FIELDS[key].group == "speculation" and not side.spec_tokens:
        return "no speculation" if key == "spec_tokens" else "–"
    if key == "acceptance_length" and value is None:
        return f"as published: {number(supposed(side).length)}"
    if value is None:
        return "as the preset"
    if FIELDS[key].kind is str:
        return FIELDS[key].label_of(value)[:40] or "none"
    if FIELDS[key].unit:
        return quantity(value, FIELDS[key].unit)
    return f"{value:,}" if isinstance(value, int) else value_text(key, value)
