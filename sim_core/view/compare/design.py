"""Design an accelerator: the view of the Compare page for a part of one's own beside real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.accelerators import PEAKS
from sim_core.fields.errors import ScenarioError
from sim_core.questions import compare, design
from sim_core.questions.design import GPU, SRAM
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of, model_of
from sim_core.sweep.points import own_vary, sweep_key
from sim_core.view.compare import design_words, results
from sim_core.view.drawing import figures
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.verdicts import Limits
from sim_core.view.drawing.words import literal, quantity, spoken
from sim_core.view.frontier.figures import pareto, pareto_sentence
from sim_core.view.parts import actions, controls, pieces, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.views import choose_accelerators, dial, scales
from sim_core.view.session import shell, state, sweeps

KINDS = {GPU: "GPU type: HBM", SRAM: "SRAM type: all on chip"}
ROWS = (
    tuple(PEAKS.values()),
    ("hbm_gb_per_s", "hbm_gb", "link_gb_per_s", "tdp_w", "price_usd_per_hour"),
)
USERS = (0.0, *(10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0))
RATES = (0.0, *(100.0, 200.0, 300.0, 500.0, 750.0, 1e3, 1.5e3, 2e3, 3e3, 5e3, 7.5e3, 1e4, 1.5e4, 2e4, 5e4))
HALF_MORE = 1.5  # times today's throughput: the target one begins with


def show_design(scenario: Scenario) -> None:
    """Show the design, its frontier beside real parts, and what a target would take."""
    names = state.among(scenario)
    sides = [scenario, *design.rivals(scenario, names)]
    curves = [compare.curve(side) for side in sides]
    rows = design_rows(sides, curves)
    pieces.say(design_words.design_finding(sides, curves), *design_words.design_notes(sides))
    trust_badge.badge(scenario)
    _specs(scenario)
    _chart(sides, rows, names)
    for side, points in zip(sides, curves, strict=True):
        if not any(row["feasible"] for row in points):
            st.caption(
                literal(f"{design_words.name(side, scenario)} cannot run: {spoken(points[0]['reason'])}")
            )
    heads = [design_words.name(side, scenario) for side in sides]
    results.side_by_side("Each at its best point within the limits", heads, sides)
    if not scenario.step_profile:
        _what_it_takes(scenario, curves[0])
    commands = "\n".join(command_for(side, "frontier", vary=own_vary(side)) for side in sides)
    actions.take_away("design", [*actions.table_files(rows, "design"), _file(scenario)], commands)
    st.caption(
        "The link holds the design. The file Accelerator has the keys of presets/accelerators: put it there "
        "under a name of your own, and it is a part like any other."
    )


def _file(scenario: Scenario) -> actions.File:
    """Return the design as a file to take away."""
    return actions.File(
        "Accelerator",
        "own-design.toml",
        "application/toml",
        lambda: design.part_toml(design.part_of(scenario)),
    )


# What it is


def _specs(scenario: Scenario) -> None:
    """Draw where the design starts from, and its specs: fields beside the sidebar's sliders."""
    kind, part = design.kind(scenario), accelerator_of(scenario)
    names = {name: catalogue.accelerator(name).name for name in design.starts(kind)}
    with st.expander("The design", expanded=True):
        left, right = st.columns(2)
        with left:
            controls.pick_button(
                "template", "Template", KINDS, kind, lambda kind: _start(design.STARTS[kind])
            )
        with right:
            controls.pick(
                "start", "Starts from", list(names), names.__getitem__, scenario.accelerator, _start
            )
        for keys in ROWS:
            for column, key in zip(st.columns(len(keys), vertical_alignment="bottom"), keys, strict=True):
                with column:
                    label = f"{results.spec_label(key, scenario)} [{FIELDS[key].unit}]"
                    controls.amount(key, label, getattr(part, key), _write_spec)
        if kind == SRAM:
            _spread(scenario)
        else:
            st.caption("On-chip memory of a GPU type is a cache, smaller than the weights: it plays no part.")


def _write_spec(key: str, value: float | None) -> None:
    """Write a spec; the datasheet's own value, or none, is no override. An SRAM design is spread anew."""
    sheet = getattr(catalogue.accelerator(st.session_state.scenario.accelerator), key)
    if state.change(**{key: None if value == sheet else value}):
        state.change(**design.spread_out(st.session_state.scenario))
    shell.rerun_page()


def _start(name: str) -> None:
    """Start anew from a part; a GPU-type one begins on one device where an SRAM one had many."""
    scenario = st.session_state.scenario
    many = design.kind(scenario) == SRAM
    _change(
        **({"tensor_parallel": 1, "expert_parallel": 1} if many else {}) | design.start_keys(scenario, name)
    )


def _change(**changes: object) -> None:
    state.change(**changes)
    shell.rerun_page()


def _spread(scenario: Scenario) -> None:
    """Say over how many devices an SRAM design is spread, and why; offer what is left to do."""
    try:
        found = design.spread(scenario)
    except ScenarioError as error:
        st.caption(literal(spoken(str(error))))
        return
    st.markdown(design_words.device_spread_words(scenario, found))
    wanted = found.devices or found.most
    with st.container(horizontal=True):
        if scenario.tensor_parallel != wanted:
            st.button(
                f"Spread over {design_words.devices(wanted)}",
                key="spread",
                on_click=_change,
                kwargs={"tensor_parallel": wanted},
            )
        if not found.devices and found.room:
            st.button(
                f"Lower the batch limit to {found.room}",
                key="lower_batch",
                on_click=_change,
                kwargs={"max_batch": found.room},
            )


# Beside real parts


def design_rows(sides: Sequence[Scenario], curves: Sequence[Sequence[Row]]) -> list[dict[str, Any]]:
    """Return all points with the name of their curve, and how to draw it; the design comes first."""
    return results.labelled([design_words.name(side, sides[0]) for side in sides], sides, curves)


def _chart(sides: Sequence[Scenario], rows: list[dict[str, Any]], names: Sequence[str]) -> None:
    """Draw the frontiers under the choice of parts and axes."""
    with st.container(horizontal=True, vertical_alignment="center"):
        choose_accelerators(names[: design.RIVALS], design.RIVALS)
        scales()
    drawn = figures.drawable(rows)
    if not drawn:
        return
    scenario, scale = sides[0], state.view("axes")
    along = sweeps.ALONG[sweep_key(scenario)]
    frame = figures.frame_around(rows, scale in ("log-x", "log"), scale in ("log-y", "log"))
    best = _best(sides)
    figure = pareto(
        rows,
        frame,
        along=along,
        own=rows[0]["curve"],
        limits=Limits(scenario.slo_ttft_ms, scenario.slo_tpot_ms),
        best=best,
    )
    chart(
        figure,
        "design",
        pareto_sentence(rows, best, along),
        heading=Heading("A design beside real parts", f"{model_of(scenario).name} · simulated"),
    )


def _best(sides: Sequence[Scenario]) -> dict[str, Any] | None:
    """Return the best point of all parts within the limits, with the name of its curve."""
    tops = [(side, compare.best_within(side)) for side in sides]
    named = [{"curve": design_words.name(side, sides[0]), **top} for side, top in tops if top is not None]
    return max(named, key=lambda row: row[compare.Y], default=None)


# What a target takes


def _what_it_takes(scenario: Scenario, rows: Sequence[Row]) -> None:
    """Show, on demand, the smallest change of one spec that reaches a target."""
    with st.expander("What would it take?", key="in_takes", on_change="rerun") as more:
        if not more.open:
            return
        user, rate = target(scenario, rows)
        for column, (key, steps, none) in zip(st.columns(2), _dials(user, rate), strict=True):
            with column:
                dial(key, steps, _said(none))
        with st.spinner("Looking for the smallest change…"):
            found = compare.needed(scenario, rate, user)
        st.markdown(design_words.takes(scenario, found, user, rate))
        results.show_needed(
            "One spec alone, everything else as it is; to 2%, on the requests of one seed", scenario, found
        )


def _dials(user: float, rate: float) -> tuple[tuple[str, Sequence[float], str], ...]:
    """Return the dials of the target: key, steps, and what no value means."""
    return (
        ("target_user", USERS, f"the limit on TPOT: {quantity(user, 'tok/s')}"),
        ("target_rate", RATES, f"half as much again: {quantity(rate, 'tok/s')}"),
    )


def _said(none: str) -> Any:
    return lambda value: quantity(value, "tok/s") if value else none


def target(scenario: Scenario, rows: Sequence[Row]) -> tuple[float, float]:
    """Return the target: tok/s for each user, tok/s per accelerator; what is not set follows the scenario.

    That is half as much again as today at that speed; where the design does not reach it, its best.
    """
    user = state.view_number("target_user") or 1000 / scenario.slo_tpot_ms
    today = compare.throughput_within(scenario, user)
    best = max((row[compare.Y] for row in figures.drawable(rows)), default=1.0)
    return user, state.view_number("target_rate") or (best if math.isnan(today) else HALF_MORE * today)
