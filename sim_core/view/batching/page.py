"""The Batching page: the timeline of the scheduler at work, and the switch to the experiments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import streamlit as st

from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.questions.experiments.common import one_engine
from sim_core.results.timeline import Timeline, logged_scenario, policies_for, run_ends_s, timelines
from sim_core.scenario.link.write import command_for
from sim_core.scenario.ready import ScenarioPreset, ready_id, ready_scenario, ready_scenarios
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.view.batching import request_editor
from sim_core.view.batching.caching.page import show_caching
from sim_core.view.batching.endings import show_endings
from sim_core.view.batching.engines import show_engines
from sim_core.view.batching.experiments import replica_note
from sim_core.view.batching.gantt.drawing import draw_timelines
from sim_core.view.batching.gantt.parts import policy_words
from sim_core.view.batching.interference import show_interference
from sim_core.view.batching.preemption import preemption
from sim_core.view.batching.waiting import wait
from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import in_lines
from sim_core.view.drawing.templates import Markup, render
from sim_core.view.drawing.words import duration, literal, number, percent, quantity, spoken
from sim_core.view.parts import actions, controls, pieces, trust_badge
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.pieces import Cell
from sim_core.view.parts.sidebar import NO_LIMITS, sidebar
from sim_core.view.parts.views import dial, views
from sim_core.view.session import shell, state, sweeps

MOST_REQUESTS = 20_000
NUMBERS = {2: "two", 3: "three"}
IN_WINDOW = 40  # requests that arrive in a window of the usual width
FIGURES = (  # latency or rate, statistic, what it is called, unit, whether more is better
    ("output_tok_per_s", "", "Throughput", "tok/s", True),
    ("ttft_ms", "p50", "TTFT p50", "", False),
    ("ttft_ms", "p99", "TTFT p99", "", False),
    ("tpot_ms", "p50", "TPOT p50", "", False),
    ("tpot_ms", "p99", "TPOT p99", "", False),
    ("itl_ms", "p50", "ITL p50", "", False),
    ("itl_ms", "p99", "ITL p99", "", False),
    ("itl_ms", "max", "ITL longest", "", False),
    ("e2e_ms", "mean", "E2E mean", "", False),
)


def batching_sidebar(scenario: Scenario) -> None:
    """Draw the sidebar without latency limits: no view of the page asks whether they are kept."""
    sidebar(scenario, beside=NO_LIMITS)


def show(scenario: Scenario) -> None:
    """Show the view that was asked for."""
    views("batching")
    sweeps.wait_until_ready()
    try:
        match state.view("batching"):
            case "timeline":
                show_timelines(scenario)
            case "wait":
                wait(scenario)
            case "preemption":
                preemption(scenario)
            case "interference":
                show_interference(scenario)
            case "endings":
                show_endings(scenario)
            case "engines":
                show_engines(scenario)
            case "caching":
                show_caching(scenario)
    except ScenarioError as error:
        st.warning(literal(spoken(str(error))), icon=":material/block:")


def show_timelines(scenario: Scenario) -> None:
    """Show the same requests under each policy, step by step."""
    chosen = followed(scenario)
    found = timelines(chosen, *window(chosen))
    pieces.say(timelines_finding(found), replica_note(scenario), more=_story(scenario))
    trust_badge.badge(scenario)
    _choices(scenario)
    drawing = draw_timelines(found, rows=state.view("rows"), revision=_revision(chosen))
    count = found["chunked"].summary["requests"]["finished"]
    chart(
        drawing.figure,
        key="timeline",
        alt=drawing.alt,
        height=drawing.height,
        player=drawing.player,
        export=(1200, drawing.height + 60),
        heading=Heading(
            f"{count:,} requests under {NUMBERS[len(found)]} scheduling policies",
            in_lines(_setting_words(chosen), trust_words.caption(scenario)),
        ),
    )
    st.caption(
        "Each bar is read from the engine's step log. Point at a marked token to see what delayed it. "
        "Drag to zoom, double-click to see all; the player works with the space bar and the arrow keys."
    )
    rows = policy_rows(found)
    show_comparison(chosen, rows)
    actions.take_away(
        "timeline",
        [*actions.table_files(rows, "timeline", scenario), _log_file(found, scenario)],
        step_log_commands(chosen),
    )


def followed(scenario: Scenario) -> Scenario:
    """Return what the timeline follows: the scenario's first few requests, or all of them, on one engine.

    One of several replicas has its share of the traffic.
    """
    most = MOST_REQUESTS if state.view("extent") == "run" else int(state.view_number("shown"))
    return one_engine(scenario, most)


def window(scenario: Scenario) -> tuple[float, float]:
    """Return the stretch of time that the view asks for, not beyond the end of the longest run. [s]"""
    if state.view("extent") == "first":
        return 0.0, math.inf
    width_s = span_s(scenario)
    last_s = max(max(run_ends_s(scenario).values()) - width_s, 0.0)
    start_s = min(state.view_number("from_s"), last_s)
    return start_s, start_s + width_s


def span_s(scenario: Scenario) -> float:
    """Return the width of the window: the chosen one, or one in which some forty requests are served. [s]"""
    chosen = state.view_number("span_s")
    end_s = min(run_ends_s(scenario).values())
    return chosen if chosen > 0 else float(f"{end_s * min(1.0, IN_WINDOW / scenario.requests):.2g}")


def _setting_words(scenario: Scenario) -> str:
    return (
        f"{model_of(scenario).name} on {accelerator_of(scenario).name}, "
        f"batch limit {number(scenario.max_batch)}, token budget {number(scenario.token_budget)}"
    )


def _revision(scenario: Scenario) -> str:
    if state.view("extent") == "first":
        return f"{state.view('rows')} {scenario.requests}"
    return f"{state.view('rows')} {state.view_number('from_s')} {state.view_number('span_s')}"


# What to look at


def _story(scenario: Scenario) -> Markup | None:
    """Return the story of the ready example, if one is shown unchanged."""
    name = ready_id(scenario)
    preset = ready_scenario(name) if name else None
    if preset is None or preset.page != "Batching":
        return None
    return render("parts/story.html", title=preset.title, text=f"{preset.story} {preset.expected}")


def _examples() -> Mapping[str, ScenarioPreset]:
    """Return the ready scenarios that the timeline shows best."""
    found = ready_scenarios()
    return {name: item for name, item in found.items() if item.page == "Batching" and not item.view}


def _choices(scenario: Scenario) -> None:
    """Draw the controls of the timeline."""
    with st.container(horizontal=True, vertical_alignment="center"):
        examples = _examples()
        st.menu_button(
            "Examples",
            list(examples),
            format_func=lambda name: examples[name].title,
            key="example",
            icon=":material/school:",
            on_click=_open_example,
        )
        request_editor.popover(scenario, followed(scenario))
        views("extent")
        views("rows")
    left, right = st.columns(2)
    with left:
        controls.ladder(
            "token_budget", controls.POWERS[5:], lambda value: quantity(value, "tokens"), on_page=True
        )
    with right:
        if state.view("extent") == "first":
            dial("shown", (1, 2, 3, *range(4, 61, 4)), number)
        else:
            _window_slider(followed(scenario))


def _open_example() -> None:
    state.replace(_examples()[st.session_state.example].build())
    state.set_view("extent", "first")
    shell.rerun_page()


def _window_slider(scenario: Scenario) -> None:
    """Draw what moves the window over the whole run."""
    width_s, end_s = span_s(scenario), max(run_ends_s(scenario).values())
    steps = [float(f"{place * end_s / 200:.4g}") for place in range(201)]
    dial("from_s", steps, lambda value: duration(1e3 * value, 4))
    with st.container(horizontal=True):
        for by_s, key, icon, words in (
            (-width_s, "back", "chevron_left", "One window back"),
            (width_s, "on", "chevron_right", "One window on"),
        ):
            st.button("", icon=f":material/{icon}:", key=key, help=words, on_click=_move, args=(by_s,))
        for factor, icon, words in ((0.5, "zoom_in", "Half the time"), (2.0, "zoom_out", "Twice the time")):
            st.button(
                "",
                icon=f":material/{icon}:",
                key=f"in_{icon}",
                help=words,
                on_click=state.set_number,
                args=("span_s", float(f"{width_s * factor:.3g}")),
            )
        st.caption(f"{duration(1e3 * width_s)} of {duration(1e3 * end_s)}")


def _move(by_s: float) -> None:
    state.set_number("from_s", float(f"{max(state.view_number('from_s') + by_s, 0.0):.6g}"))


# In words and numbers


def timelines_finding(found: Mapping[str, Timeline]) -> str:
    """Return what the timelines say, in two sentences."""
    count = found["chunked"].summary["requests"]["finished"]
    ends = ", ".join(
        f"{policy_words(policy)} in {duration(1e3 * line.story.end_s)}" for policy, line in found.items()
    )
    requests = "one request is" if count == 1 else f"same {count:,} requests are"
    first = f"The {requests} done under {ends}.{_preempted(found)}"
    worst = worst_late(found)
    if worst is None:
        padding = max(line.padding_frac for line in found.values())
        more = (
            f" Static batches hold finished slots for {percent(padding)} of their steps."
            if padding > 0.005
            else ""
        )
        return f"{first} No prompt delays anybody's token by half a step.{more}"
    policy, row = worst
    return (
        f"{first} Under {policy_words(policy)} a token of request {row['request']} comes "
        f"{duration(row['delay_ms'])} late, because the prompt of request {row['cause']} "
        f"({counted(row['cause_tokens'], 'token')}) goes first. {_in_chunks(found, row['delay_ms'])}"
    )


def _preempted(found: Mapping[str, Timeline]) -> str:
    """Return how often a request had to give way, and a space before it; "" if none had."""
    times = found["chunked"].summary["requests"]["preemptions"]
    if not times:
        return ""
    often = "once" if times == 1 else f"{times:,} times"
    return f" The KV cache runs out: {often} a request must give way."


def _in_chunks(found: Mapping[str, Timeline], delay_ms: float) -> str:
    """Return what serving prompts in chunks makes of the longest delay."""
    late = found["chunked"].late
    if not late.size:
        return "Under chunked no token is late."
    worst_ms = late["delay_ms"].max()
    if worst_ms > 0.95 * delay_ms:
        return "Chunked is no better here: its token budget is as large as the prompt. Lower it."
    return f"Under chunked no token is more than {duration(worst_ms)} late."


def worst_late(found: Mapping[str, Timeline]) -> tuple[str, Any] | None:
    """Return the policy and the token that a prompt delayed most, if any is late."""
    rows = [
        (policy, line.late[line.late["delay_ms"].argmax()])
        for policy, line in found.items()
        if line.late.size
    ]
    return max(rows, key=lambda item: item[1]["delay_ms"], default=None)


def policy_rows(found: Mapping[str, Timeline]) -> list[dict[str, Any]]:
    """Return the figures of each policy on the same requests, one row a policy."""
    rows = []
    for policy, line in found.items():
        metrics = line.summary["metrics"]
        values = {
            f"{name}_{part}" if part else name: metrics[name][part] if part else metrics[name]
            for name, part, *_ in FIGURES
        }
        counts = {
            "requests": line.summary["requests"]["finished"],
            "preemptions": line.summary["requests"]["preemptions"],
        }
        late = {"late_tokens": line.story.late_tokens, "padding_frac": line.padding_frac}
        rows.append({"policy": policy, "ends_s": line.story.end_s, **values, **late, **counts})
    return rows


def _badge(scenario: Scenario) -> Cell:
    """Return a policy's badge and its band of TPOT as a cell; all reasons in its hint."""
    found = trust.trust(scenario)
    band = f"TPOT {trust_words.band_words(found.tpot_band)}" if found.tpot_band.low > 0 else ""
    return Cell(found.badge, hint=" ".join(found.reasons), small=band)


def show_comparison(scenario: Scenario, rows: list[dict[str, Any]]) -> None:
    """Show the figures as a table, one column a policy; differences are against the first one."""
    lines: list[pieces.Line] = [
        (title, pieces.cells([row[f"{name}_{part}" if part else name] for row in rows], _words(unit), more))
        for name, part, title, unit, more in FIGURES
    ]
    lines.append(("Padding", [percent(row["padding_frac"]) for row in rows]))
    lines.append(("Late tokens", [number(row["late_tokens"]) for row in rows]))
    lines.append(("Preemptions", [number(row["preemptions"]) for row in rows]))
    lines.append(("Badge", [_badge(scenario.replace(policy=row["policy"])) for row in rows]))
    caption = "The same requests, all of them counted; differences are against the first"
    pieces.table(caption, [policy_words(row["policy"]) for row in rows], lines)


def _words(unit: str) -> Callable[[float], str]:
    return partial(quantity, unit=unit) if unit else duration


# To take away


def _log_file(whole: Mapping[str, Timeline], scenario: Scenario) -> actions.File:
    """Return the step log of the scenario's own policy as a file; of two pools no timeline is drawn."""
    policy = scenario.policy if scenario.policy in whole else "chunked"
    steps = whole[policy].story.run.steps
    name = actions.named(f"steps-{policy}", "csv")
    return actions.File(
        "Step log", name, "text/csv", lambda: steps().to_csv(index=False, lineterminator="\n")
    )


def step_log_commands(scenario: Scenario) -> str:
    """Return the shell commands that write the three step logs."""
    return "\n".join(
        f"{command_for(logged_scenario(scenario, policy))} --steps-out steps-{policy}.csv"
        for policy in policies_for(scenario)
    )
