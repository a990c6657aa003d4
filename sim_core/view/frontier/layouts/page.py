"""The pieces of the Layouts page: how should the model be laid out over the devices?

What arithmetic says of all layouts is drawn at once; when the chart has rested, those that may matter are
simulated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import streamlit as st

from sim_core.engine.work import SpentUp, shared
from sim_core.questions.deployment import curves as deployment
from sim_core.questions.deployment.curves import Curve, Ranked, row_at
from sim_core.questions.deployment.layouts import FAMILIES, LAYOUT_KEYS, Option, without_layout
from sim_core.scenario.link.write import command_for
from sim_core.scenario.scenario import DEFAULTS, Scenario, accelerator_of, model_of
from sim_core.sweep.frontier import REFINED_TIMES, as_done
from sim_core.sweep.remembered import Remembered
from sim_core.view.drawing import figures, trust_words
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.verdicts import holding
from sim_core.view.drawing.words import duration, literal, number
from sim_core.view.frontier.figures import limit_words
from sim_core.view.frontier.layouts import words
from sim_core.view.frontier.layouts.figures import layouts_figure, layouts_sentence
from sim_core.view.frontier.layouts.placement import show_placement
from sim_core.view.parts import actions, pieces, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.sidebar import sidebar
from sim_core.view.parts.views import dial, fit_button, scales
from sim_core.view.session import state, sweeps

DEVICES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 72, 96, 128, 144, 256)
USERS = (
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
    80.0,
    100.0,
    125.0,
    150.0,
    200.0,
    300.0,
    500.0,
    1000.0,
)
LISTED, OFFERED = 12, 3
LINK_KEYS = ("kv_link_gb_per_s", "kv_link_latency_ms")  # of two pools: as measured
SEEN_NOWHERE = (
    "arrivals",
    "arrival_per_s",
    "arrival_cv",
    "concurrency",
    "requests",
    "slo_ttft_ms",
    "slo_tpot_ms",
)


class OnDevices(NamedTuple):
    """What the page answers: a scenario without layout, load and limits, and the devices."""

    scenario: Scenario
    devices: int


def show(scenario: Scenario) -> None:
    """Show all layouts on the devices: estimated after a move, simulated once the chart has rested."""
    asked = _asked(scenario)
    found = _curves(asked)
    target = user_target(scenario)
    simulated = [curve for curve in found if curve.simulated]
    kept = deployment.ranking(simulated or found, target, scenario.slo_ttft_ms)
    ranked = kept or deployment.ranking(simulated or found, target)
    pieces.say(*_said(scenario, asked.devices, found, ranked, bool(kept)))
    trust_badge.badge(ranked[0].curve.option.unit if ranked else scenario)
    _dials(scenario, found)
    _chart(asked, found, ranked, scenario.slo_ttft_ms if kept else math.inf, target)
    _table(ranked, target)
    _offers(ranked)
    if ranked:
        best = ranked[0].curve.option
        show_placement(best.scenario, f"Layout: {best.name}")
    blocked = words.reasons(found)
    if blocked:
        st.html(render("frontier/blocked.html", reasons=blocked))
    st.caption(READING)
    _take_away(found, ranked)


def _said(
    scenario: Scenario, devices: int, found: Sequence[Curve], ranked: Sequence[Ranked], is_kept: bool
) -> list[str]:
    """Return the finding, and notes on how it was found and which limit it does not keep."""
    if not any(curve.rows for curve in found):
        return [words.none_can_run(scenario, devices)]
    texts = [words.layout_finding(scenario, devices, ranked, user_target(scenario))]
    if not any(curve.simulated for curve in found):
        texts.append("Estimated by arithmetic; simulated as soon as the page rests.")
    return texts if is_kept or not ranked else [*texts, words.late_words(scenario)]


TRIED = "All layouts are tried here, each from few clients to many."
READING = (
    "Each curve is a layout of all devices, from few clients to many; a client sends its next request when "
    "the last is answered. Dotted: estimated by arithmetic, for layouts that are beaten by far or not "
    "simulated yet. DEP: each device computes the attention of requests of its own, experts are spread over "
    "all; TEP: attention is divided, experts are spread; PP: stages of layers; →: prompts on the first "
    "workers, answers on the others. One part that serves by itself is simulated with its share of the "
    "clients. The best, and the bold frontier, are of points that keep the limit on TTFT, where simulated; "
    "hollow points break it."
)


def layouts_sidebar(scenario: Scenario) -> None:
    """Draw the sidebar without what the page tries itself: every layout, from few clients to many."""
    load = {"load"} if scenario.arrivals != "trace" else set()
    sidebar(scenario, {"layout", "stages", "split", *load}, TRIED)


def _asked(scenario: Scenario) -> OnDevices:
    return OnDevices(basis_of(scenario), int(state.view_number("layout_devices")))


def basis_of(scenario: Scenario) -> Scenario:
    """Return a scenario without what plays no part: layout, limits, and any load but that of a trace."""
    plain = without_layout(scenario)
    if plain.arrivals == "trace":
        return plain
    return plain.replace(**{key: DEFAULTS[key] for key in SEEN_NOWHERE})


def user_target(scenario: Scenario) -> float:
    """Return what each user is to get: as set on the page, else by the limit on TPOT. [tok/s/user]"""
    return state.view_number("target_user") or 1000 / scenario.slo_tpot_ms


_estimated: Remembered[OnDevices, list[Curve]] = Remembered(sweeps.REMEMBERED)
_simulated: Remembered[OnDevices, list[Curve]] = Remembered(sweeps.REMEMBERED)


def _curves(asked: OnDevices) -> list[Curve]:
    """Return the curves as they are known: simulated where the chart has rested on them."""
    if state.is_settled(asked) and _simulated.get(asked) is None:
        sweeps.wait_until_ready(ranks=model_of(asked.scenario).is_moe)
        _simulated.put(asked, _simulate(_guess(asked)))
    state.note_shown(asked)
    return _simulated.get(asked) or _guess(asked)


def _guess(asked: OnDevices) -> list[Curve]:
    return _estimated.of(asked, lambda: deployment.estimated_curves(*asked))


def _simulate(guess: list[Curve]) -> list[Curve]:
    """Return the curves, those that may matter simulated as far as a page may; a move interrupts that."""
    found = {curve.option.name: curve for curve in guess}
    worth = deployment.worth_simulating(guess)
    try:
        with shared(len(worth) * deployment.CLIENTS / REFINED_TIMES):
            done = as_done([partial(deployment.simulated, curve) for curve in worth])
            for _, curve in sweeps.interruptible(done):
                found[curve.option.name] = curve
    except SpentUp:  # the others stay estimates, and are drawn as such
        pass
    return list(found.values())


def _dials(scenario: Scenario, found: Sequence[Curve]) -> None:
    """Draw the sliders beside the chart, and its axes."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        dial("layout_devices", DEVICES, lambda count: number(int(count)))
        steps = (0.0, *USERS)
        dial("target_user", steps, lambda user: f"{number(user)} tok/s" if user else _by_limit(scenario))
    with st.container(horizontal=True, vertical_alignment="center"):
        scales()
        frame, _ = _frame(found)
        fit_button(any(not frame.holds(row) for curve in found for row in curve.rows))


def _by_limit(scenario: Scenario) -> str:
    return f"{number(1000 / scenario.slo_tpot_ms)} tok/s, the TPOT limit"


def _frame(found: Sequence[Curve]) -> tuple[figures.Frame, str]:
    scale = state.view("axes")
    logs = scale in ("log-x", "log"), scale in ("log-y", "log")
    rows = [row for curve in found for row in curve.rows]
    return state.frame(f"layouts {scale}", lambda: figures.frame_around(rows, *logs))


def _chart(
    asked: OnDevices, found: Sequence[Curve], ranked: Sequence[Ranked], ttft_ms: float, target: float
) -> None:
    """Draw the frontiers of all layouts."""
    frame, revision = _frame(found)
    done = any(curve.simulated for curve in found) or not any(curve.rows for curve in found)
    chart(
        layouts_figure(found, frame, target, ranked[0] if ranked else None, revision, ttft_ms),
        "layouts",
        layouts_sentence(found, ranked, target),
        height=560,
        heading=_titles(asked),
        on={} if done else {"settled": state.settle},
    )


def _titles(asked: OnDevices) -> Heading:
    scenario = asked.scenario
    lengths = scenario.mix or f"{scenario.prompt_tokens:,} → {scenario.output_tokens:,} tokens"
    subtitle = f"{scenario.weight_dtype} weights · {lengths} · {scenario.calibration} calibration · simulated"
    return Heading(
        f"Layouts of {model_of(scenario).name} on {asked.devices} × {accelerator_of(scenario).name}",
        figures.in_lines(subtitle, trust_words.caption(scenario)),
    )


# --- the table ------------------------------------------------------------------------------------

COLUMNS = (
    "Family",
    "tok/s per acc.",
    "Clients",
    "TTFT p50",
    "TTFT p99",
    "TPOT p99",
    "Limited by",
    "Within the error",
)
LATENCIES = ("ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p99")


def _table(ranked: Sequence[Ranked], target: float) -> None:
    """Show the best layouts where each user gets so much."""
    if ranked:
        lines = [(unbroken(item.curve.option.name), _cells(item, target)) for item in ranked[:LISTED]]
        caption = f"Layouts that give each user {number(target)} tok/s, the best first"
        pieces.table(caption, COLUMNS, lines, scroll=True)


def _cells(item: Ranked, target: float) -> list[str]:
    row: dict[str, Any] = row_at(item.curve, target) or {}
    latencies = (
        holding(row, key) if key in row else None for key in ("ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p99")
    )
    return [
        unbroken(FAMILIES[item.curve.option.family]),
        number(item.tok_per_s_per_accelerator),
        number(round(row["clients"])) if row else "–",
        *map(duration, latencies),
        limit_words(row["limit"]) if "limit" in row else "estimated",
        "yes" if item.is_tie else "no",
    ]


def unbroken(text: str) -> str:
    """Return a text that stays on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _offers(ranked: Sequence[Ranked]) -> None:
    """Draw buttons that set the best layouts for all pages."""
    with st.container(horizontal=True):
        for at, item in enumerate(ranked[:OFFERED]):
            name = item.curve.option.name
            st.button(
                f"Use {name}",
                key=f"use_layout_{at}",
                icon=":material/check:",
                on_click=_use,
                args=(item.curve.option,),
                help="Sets this layout for all pages; traffic and limits stay as they are.",
            )


def _use(option: Option) -> None:
    names = (*LAYOUT_KEYS, *(LINK_KEYS if option.scenario.split else ()))
    keys = {key: getattr(option.scenario, key) for key in names}
    if state.change(**keys, policy=option.scenario.policy):
        st.toast(f"All pages show {literal(option.name)} now.")


# --- to take away ---------------------------------------------------------------------------------


def _take_away(found: Sequence[Curve], ranked: Sequence[Ranked]) -> None:
    """Draw what can be taken away; the command runs the best layout's curve."""
    rows = [
        {"layout": curve.option.name, "devices": curve.option.devices, "simulated": curve.simulated, **row}
        for curve in found
        for row in curve.rows
    ]
    command = ""
    if ranked:
        points = [point.scenario for point in deployment.points_of(ranked[0].curve) if point.scenario]
        counts = tuple(point.concurrency for point in points)
        command = command_for(points[0], "frontier", vary={"concurrency": counts})
    actions.take_away("layouts", actions.table_files(rows, "layouts"), command)
