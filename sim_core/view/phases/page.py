"""The pieces of the Two phases page: six views of why prefill and decode differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import streamlit as st

from sim_core.fields.errors import ScenarioError
from sim_core.questions import phases
from sim_core.questions.phases import Setting
from sim_core.scenario.scenario import Scenario, model_of
from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import LIMITS, Row
from sim_core.view.drawing.templates import Markup, render
from sim_core.view.drawing.words import duration, number, percent, rate
from sim_core.view.parts import pieces, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.parts.sidebar import NO_LIMITS, sidebar
from sim_core.view.parts.views import views
from sim_core.view.phases import figures
from sim_core.view.phases import words as phase_words
from sim_core.view.phases.common import (
    BATCHES,
    LINE,
    caption_with_warnings,
    dials,
    give_away,
    numbers_row,
    one_device,
    one_trust,
    own_setting,
    phase_titles,
    setting_revision,
    step_trust,
)
from sim_core.view.phases.figures import PHASES, sequences, tokens_short
from sim_core.view.phases.hardware import show_floor, show_kv, show_specs
from sim_core.view.phases.speculation import show_speculation
from sim_core.view.session import shell, state

PROMPTS = tuple(2**power for power in range(7, 16))


def phases_sidebar(scenario: Scenario) -> None:
    """Draw the sidebar without the load: steps have the sequences of the page's own slider; and without the
    limits that the view has no use for.
    """
    load = set() if scenario.arrivals == "trace" else {"load"}
    used = {"specs": NO_LIMITS, "floor": {"slo_tpot_ms"}}.get(state.view("phases"), set())
    sidebar(scenario, beside=load | (NO_LIMITS - used))


def show(scenario: Scenario) -> None:
    """Show the view that was asked for; where it cannot be, the controls and the reason."""
    views("phases", then=shell.rerun_page)  # the sidebar has the limits that the view uses
    view = {
        "roofline": show_roofline,
        "step": show_step,
        "specs": show_specs,
        "kv": show_kv,
        "floor": show_floor,
        "speculation": show_speculation,
    }
    try:
        view[state.view("phases")](scenario)
    except ScenarioError as error:
        pieces.say_why(error)


# Roofline


def show_roofline(scenario: Scenario) -> None:
    """Show the roofline: what prefill and decode reach for the bytes they read."""
    at = own_setting(scenario)
    batches = sorted({*(batch for batch in BATCHES if batch <= max(LINE, at.batch)), at.batch})
    rows = phases.roofline(scenario, batches, at.context_tokens)
    whole = {(row["phase"], row["batch"]): row for row in rows if row["piece"] == "all"}
    prefill, decode = whole["prefill", 1], whole["decode", at.batch]
    room = phases.largest_batch(phases.decoding(scenario), at.context_tokens)
    without = phases.compute_bound_batch(scenario, 0)
    there = phases.compute_bound_batch(scenario, at.context_tokens)
    edge = phases.compute_bound_context(scenario)
    pieces.say(phase_words.roofline_finding(prefill, decode, without, there, edge, at.context_tokens, room))
    trust_badge.badge(one_trust(scenario, at))
    dials(scenario, split=True)
    top, typical = phases.roof(scenario), scenario.calibration
    figure = figures.roofline_figure(
        rows,
        top,
        phases.other_roofs(scenario),
        partial(phases.reached_roof, scenario),
        batch=at.batch,
        split=state.view("split") == "on",
        reached_name=typical if typical != "datasheet" else "",
        revision=setting_revision(scenario),
    )
    alt = figures.roofline_sentence(rows, top, at.batch)
    chart(figure, "roofline", alt, heading=phase_titles(scenario))
    _roofline_numbers(scenario, prefill, decode, room)
    peaks = f"{rate(top.flop_per_s / 1e9, 'FLOP/s')} in {top.dtype}, {rate(top.byte_per_s / 1e9, 'B/s')}"
    caption_with_warnings(
        scenario,
        f"Left of the ridge a step waits for memory, right of it for arithmetic: {peaks}. A larger "
        "batch moves "
        "decode right, for it reads the weights once for all; its KV cache it reads for each "
        "sequence. Hollow "
        f"points do not fit. Points include all fixed latencies.{one_device(scenario)}",
    )
    call = f"roofline(scenario, batches={batches}, context_tokens={at.context_tokens:g})"
    predicted = partial(step_trust, scenario)
    give_away(scenario, "roofline", rows, "load_scenario, roofline", call, predicted=predicted)


def _roofline_numbers(scenario: Scenario, prefill: Row, decode: Row, room: int) -> None:
    cells = []
    for name, row in (("Prefill", prefill), ("Decode", decode)):
        reached = rate(row["flop_per_s"] / 1e9, "FLOP/s")
        cells += [
            (f"{name}, intensity", f"{number(row['flop_per_byte'])} FLOP/byte", figures.step_words(row)),
            (f"{name}, reached", reached, f"{percent(row['mfu_frac'])} of the peak"),
        ]
    ridge = phases.roof(scenario).ridge_flop_per_byte
    cells.append(("Ridge", f"{number(ridge)} FLOP/byte", "peak over bandwidth"))
    cells.append(("Largest batch", number(room), "fits at this context"))
    numbers_row(cells)


# One step


def show_step(scenario: Scenario) -> None:
    """Show where the time of one step goes, prefill beside decode."""
    at = own_setting(scenario)
    both = phases.step_rows(
        scenario, [("prefill", at.prompt_tokens, 0.0), ("decode", at.batch, at.context_tokens)]
    )
    pieces.say(phase_words.step_finding(*both))
    trust_badge.badge(one_trust(scenario, at))
    dials(scenario)
    left, right = st.columns(2)
    left.html(_card(scenario, both[0], f"{number(at.prompt_tokens)} tokens of one prompt"))
    where = f"{sequences(at.batch)}, {phase_words.tokens(at.context_tokens)} of context each"
    right.html(_card(scenario, both[1], where))
    st.html(_legend(both))
    charts = _step_charts(scenario, at)
    rows = []
    for column, (key, title, axis, found, labels, here) in zip(st.columns(3), charts, strict=True):
        with column:
            st.html(render("parts/strip_title.html", title=title, apart=False))
            alt = figures.bars_sentence(found, labels, title)
            figure = figures.step_bars(found, labels, here, axis)
            chart(figure, f"step-{key}", alt, height=330, heading=phase_titles(scenario))
        rows += [row for row in found if row not in rows]
    caption_with_warnings(
        scenario,
        "The parts of a bar add up to the step; pale bars are other settings, the palest do not fit the KV "
        "cache. Dials show what the model needs against the peaks of the device, over the whole step."
        + one_device(scenario),
    )
    steps = [(row["phase"], row["size"], row["context_tokens"]) for row in rows]
    call, predicted = f"step_rows(scenario, {steps})", partial(step_trust, scenario)
    give_away(scenario, "step-batch", rows, "load_scenario, step_rows", call, predicted=predicted)


def _step_charts(scenario: Scenario, at: Setting) -> list[tuple[str, str, str, list[dict], list[str], int]]:
    """Return the three charts: key, title, axis, rows, labels, and which bar is the present one."""
    longest, context = model_of(scenario).max_position, at.context_tokens
    batches = _ladder((2**power for power in range(9 if at.batch <= 256 else 15)), at.batch, at.batch > 256)
    contexts = _ladder((0, *(2**power for power in range(10, 18) if 2**power <= longest)), context)
    near = (own := at.prompt_tokens) / 10, min(10 * own, longest)
    prompts = _ladder((prompt for prompt in PROMPTS if near[0] <= prompt <= near[1]), own)
    plans = (
        (
            "batch",
            f"Decode over the batch, {tokens_short(round(context))} tokens each",
            "Sequences",
            [("decode", size, context) for size in batches],
            [number(int(size)) for size in batches],
            batches.index(at.batch),
        ),
        (
            "context",
            f"Decode over the context, {sequences(at.batch)}",
            "Context of each [tokens]",
            [("decode", at.batch, size) for size in contexts],
            [tokens_short(round(size)) for size in contexts],
            contexts.index(context),
        ),
        (
            "prompt",
            "Prefill over the prompt",
            "Prompt [tokens]",
            [("prefill", size, 0.0) for size in prompts],
            [tokens_short(size) for size in prompts],
            prompts.index(own),
        ),
    )
    return [
        (key, title, axis, phases.step_rows(scenario, steps), labels, here)
        for key, title, axis, steps, labels, here in plans
    ]


def _ladder(steps: Iterable[float], own: float, coarse: bool = False) -> list[float]:
    """Return steps with one's own in place of one close to it; every second where there are too many."""
    steps = list(steps)[:: 2 if coarse else 1]
    return sorted({*(step for step in steps if abs(step - own) > 0.25 * own), own})


def _card(scenario: Scenario, row: Row, where: str) -> Markup:
    """Return one phase: how long a step takes, what works meanwhile, and what waits."""
    is_prefill = row["phase"] == "prefill"
    found = step_trust(scenario, row)
    band = found.ttft_band if is_prefill else found.tpot_band
    likely = trust_words.measured_words(row["time_ms"], band, partial(duration, digits=2))
    return render(
        "phases/card.html",
        colour=PHASES[row["phase"]],
        title=row["phase"].capitalize(),
        where=where,
        time=duration(row["time_ms"]),
        each="the prompt" if is_prefill else "a step, a token for each",
        rings=[_ring("arithmetic", row["mfu_frac"]), _ring("bandwidth", row["mbu_frac"])],
        notes=" · ".join(part for part in (likely, phase_words.idle_finding(row)) if part),
    )


def _ring(name: str, frac: float) -> tuple[str, str, str]:
    """Return a half ring that is filled to a fraction: its name, the fraction, and its angle [degrees]."""
    return name, percent(frac), f"{180 * min(max(frac, 0.0), 1.0):.1f}"


def _legend(rows: Sequence[Row]) -> Markup:
    used = [part for part in figures.PARTS if any(row[f"{part}_ms"] for row in rows)]
    return render("parts/legend.html", entries=[LIMITS[part] for part in used])
