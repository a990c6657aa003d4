"""The experiment on interference between the phases."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.price import price_of
from sim_core.questions.experiments import interference as mixed_phases
from sim_core.questions.experiments import preemption as no_blocks
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import Scenario
from sim_core.view.batching.experiments import (
    context_of,
    dial_batch,
    dial_context,
    micro,
    setting_notes,
    titles,
)
from sim_core.view.batching.figures import cost_bars, gap_curves, gap_sentence, way_words
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.words import duration, percent, quantity
from sim_core.view.parts import actions, controls, trust_badge
from sim_core.view.parts.chart import chart
from sim_core.view.parts.pieces import Line, cells, say, table
from sim_core.view.session import state
from sim_core.view.session.advice import Advice, offer

SWITCHES_MS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0)


# Prompts among decodes


def show_interference(scenario: Scenario) -> None:
    """Show what prompts do to the decodes beside them, and the share of the fixed cost of a switch."""
    try:
        found = mixed_phases.interference(scenario, int(state.view_number("at_batch")), context_of(scenario))
    except ScenarioError:
        _interference_controls(scenario)  # a smaller crowd may fit
        raise
    own = own_way(scenario, found)
    say(
        interference_finding(found, own),
        *setting_notes(scenario),
        interference_note(found),
    )
    offer(interference_advice(found, own))
    known = trust.of_step(own.alone, found.decodes, found.context)
    trust_badge.badge(known)
    _interference_controls(scenario)
    drawn = [(way.variant.policy, way.variant.token_budget, way.mixed_ms) for way in found.ways]
    chart(
        gap_curves(own.alone_ms, drawn, own.variant),
        key="interference",
        alt=gap_sentence(own.alone_ms, drawn),
        height=460,
        heading=titles(own.alone, "Prompts among decodes"),
    )
    st.caption(
        "The further to the right a line reaches, the longer the worst gaps; where it crosses the dotted "
        "line stands its p99. Bold is this setting. All lines hold the same tokens of the same sequences."
    )
    _interference_table(found)
    rows = [way.row for way in found.ways]
    chart(
        cost_bars(rows),
        key="interference_cost",
        height=110 + 40 * len(rows),
        alt=cost_sentence(rows),
        heading=titles(own.alone, "The price of a prompt token"),
    )
    st.caption(switch_words(scenario, found))
    actions.take_away(
        "interference",
        actions.table_files(rows, "interference", lambda row: known),
        interference_commands(found, own),
    )


def _interference_controls(scenario: Scenario) -> None:
    left, middle, right = st.columns(3)
    with left:
        dial_batch("Sequences that decode")
    with middle:
        dial_context("Tokens that each holds at first", no_blocks.mean_context(scenario))
    with right:
        _switch_slider(scenario)


def _switch_slider(scenario: Scenario) -> None:
    usual_ms, _ = mixed_phases.switch_sources(scenario)
    value = usual_ms if scenario.prefill_switch_ms is None else scenario.prefill_switch_ms

    def words(ms: float) -> str:
        return f"{duration(ms)}, as calibrated" if ms == usual_ms else duration(ms)

    steps = [ms for ms in SWITCHES_MS if abs(ms - usual_ms) > 0.05]
    label = "Fixed cost of a prompt in a step"
    controls.beside("prefill_switch_ms", [*steps, usual_ms], value, words, label)


def own_way(scenario: Scenario, found: mixed_phases.Interference) -> mixed_phases.Shared:
    """Return the scenario's own way to share; whole prompts first where it is static."""
    wanted = (scenario.policy, scenario.token_budget)
    return next((way for way in found.ways if way.variant == wanted), found.ways[0])


def interference_note(found: mixed_phases.Interference) -> str:
    """Return what was assumed about the sequences and the prompts, if anything was."""
    notes = []
    if found.decodes < found.asked:
        notes.append(f"The KV cache has room for {found.decodes:,} of {found.asked:,} sequences.")
    if not found.own_rate:
        notes.append(
            f"This traffic has no request rate of its own; prompts arrive at the rate at which it is served, "
            f"{quantity(found.prompt_per_s, 'req/s')}."
        )
    return " ".join(notes)


def interference_finding(found: mixed_phases.Interference, own: mixed_phases.Shared) -> str:
    """Return what prompts cost the decodes, under the scenario's way to share and the gentlest one."""
    row = own.row
    crowd = f"{found.decodes:,} sequences decode" if found.decodes > 1 else "One sequence decodes"
    start = f"{crowd} with {duration(row['alone_ms_mean'])} between tokens."
    if not row["prompt_tokens"]:
        return (
            f"{start} At {quantity(found.prompt_per_s, 'req/s')} no prompt arrives meanwhile; raise the rate."
        )
    text = (
        f"{start} Prompts at {quantity(found.prompt_per_s, 'req/s')} make that "
        f"{duration(row['itl_ms_mean'])} under {way_words(*own.variant)}, and the p99 "
        f"{duration(row['itl_ms_p99'])} instead of {duration(row['alone_ms_p99'])}: each prompt token makes "
        f"every decode {micro(row['extra_us_per_token'])} later."
    )
    gentle = min(found.ways, key=lambda way: way.row["itl_ms_max"])
    if gentle is own:
        return f"{text} No other way to share here has a shorter longest gap."
    ttft = duration(gentle.row["prompt_ttft_ms_mean"])  # of prompts that were served while all decode
    return (
        f"{text} Under {way_words(*gentle.variant)} the longest gap falls from {duration(row['itl_ms_max'])} "
        f"to {duration(gentle.row['itl_ms_max'])}, and a prompt waits {ttft} instead of "
        f"{duration(row['prompt_ttft_ms_mean'])}."
    )


def interference_advice(found: mixed_phases.Interference, own: mixed_phases.Shared) -> list[Advice]:
    """Return the way to share with the shortest longest gap, where it is another one."""
    gentle = min(found.ways, key=lambda way: way.row["itl_ms_max"])
    if gentle is own or not own.row["prompt_tokens"]:
        return []
    policy, budget = gentle.variant
    return [Advice(f"Use {way_words(policy, budget)}", {"policy": policy, "token_budget": budget})]


def _interference_table(found: mixed_phases.Interference) -> None:
    rows = [way.row for way in found.ways]
    alone = [rows[0]["alone_ms_mean"], rows[0]["alone_ms_p99"], rows[0]["alone_ms_max"]]
    heads = ["decodes alone", *(way_words(*way.variant) for way in found.ways)]
    lines: list[Line] = [
        (name, cells([base, *(row[f"itl_ms_{part}"] for row in rows)], duration, False))
        for name, part, base in zip(
            ("ITL mean", "ITL p99", "ITL longest"), ("mean", "p99", "max"), alone, strict=True
        )
    ]
    extra = [micro(row["extra_us_per_token"]) for row in rows]
    lines += [
        ("Later, per prompt token", ["", *extra]),
        ("of that, fixed cost", ["", *(percent(row["switch_frac"]) for row in rows)]),
        ("TTFT of the prompts", ["", *(duration(row["prompt_ttft_ms_mean"]) for row in rows)]),
    ]
    count = rows[0]["tokens"]
    table(f"{counted(count, 'token')} of each sequence; differences are against decodes alone", heads, lines)


def cost_sentence(rows: Sequence[Row]) -> str:
    """Return the bars of the price of a prompt token in one sentence."""
    parts = [
        f"{way_words(row['policy'], row['token_budget'])} {micro(row['extra_us_per_token'])} "
        f"({percent(row['switch_frac'])} of it fixed)"
        for row in rows
    ]
    return f"Each prompt token makes every decode later by: {', '.join(parts)}."


def switch_words(scenario: Scenario, found: mixed_phases.Interference) -> str:
    """Return where the fixed cost of a switch comes from."""
    usual_ms, source = mixed_phases.switch_sources(scenario)
    source = source.replace("fitted;", "fitted once on published measurements;")
    setting = (
        f"It is set to {duration(found.switch_ms)} here; the {scenario.calibration} calibration says "
        f"{duration(usual_ms)}"
        if scenario.prefill_switch_ms is not None
        else f"{duration(usual_ms)} is the {scenario.calibration} calibration's"
    )
    once_ms = 1e3 * price_of(found.ways[0].mixed).step.prefill_step_s
    once = f", {duration(once_ms)} of it once a step, however many prompts that holds" if once_ms else ""
    return (
        "Each prompt, or chunk of one, adds a fixed time to the step it joins: inputs, blocks, launches "
        f"without a graph. {setting} ({source}){once}, alike on all accelerators. It is the "
        "least certain part of this picture, so move it."
    )


def interference_commands(found: mixed_phases.Interference, own: mixed_phases.Shared) -> str:
    """Return the commands that write both step logs of the scenario's own way, and how to get the others."""
    others = [way.variant for way in found.ways if way is not own]
    lines = [
        f"{command_for(own.alone)} --steps-out alone.csv",
        f"{command_for(own.mixed)} --steps-out mixed.csv",
    ]
    lines += [
        f"# for {way_words(*way)} add --set policy={way.policy} --set token_budget={way.token_budget}"
        for way in others
    ]
    return "\n".join(lines)
