"""What is sent: one or two kinds of traffic and the slider between them, sessions, or a visitor's trace."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import streamlit as st

from sim_core import catalogue
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.scenario.mixes import FLAT_CLASS, mix_classes
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import Requests
from sim_core.traffic.sessions import has_sessions
from sim_core.traffic.trace_files.read import MAX_UPLOAD_BYTES, read_trace
from sim_core.traffic.trace_files.windows import Window
from sim_core.view.drawing.words import duration, literal, quantity, spoken
from sim_core.view.parts.controls import decades, ladder, seed
from sim_core.view.session import state
from sim_core.view.session.browser import exact

SAMPLE = 5_000  # requests from which is said how prompts grow

# Traffic classes


def _drop_mix() -> None:
    state.change(mix="")


def lengths(scenario: Scenario) -> None:
    """Draw the choice of one or two kinds of traffic, and the slider between them."""
    classes = _shares(scenario.mix)
    if len(classes) > 2:
        st.caption(literal(f"Mix: {scenario.mix}"))
        st.button("Choose another mix", on_click=_drop_mix, type="tertiary")
        return
    names = list(classes) or [FLAT_CLASS]
    titles = {name: name for name in names} | {FLAT_CLASS: "lengths set here"}
    titles |= {name: item.title for name, item in catalogue.workloads().items()}
    second = names[1] if len(names) > 1 else ""
    seed("in_first", names[0])
    help = "What is asked and answered: your own lengths, or those of a kind of traffic."
    st.selectbox(
        "Lengths",
        list(titles),
        format_func=titles.__getitem__,
        key="in_first",
        on_change=_write_mix,
        help=help,
    )
    seed("in_second", second)
    st.selectbox(
        "mixed with",
        ["", *(name for name in titles if name != names[0])],
        format_func=lambda name: titles.get(name, "nothing else"),
        key="in_second",
        on_change=_write_mix,
        help="A second kind of traffic.",
    )
    if second:
        share = round(100 * classes[names[0]] / sum(classes.values()))
        seed("in_share", share)
        st.select_slider(
            "Share of the first",
            sorted({*range(5, 100, 5), share}),  # at 0 or 100 % one kind would be gone, and this with it
            key="in_share",
            on_change=_write_mix,
            format_func=lambda value: f"{value} %",
        )
        exact.typed_by("share", "Share of the first", _write_share, low=1, high=99, unit="%")
    if FLAT_CLASS in names:
        for key in ("prompt_tokens", "output_tokens"):
            ladder(key, map(int, decades(20, 100_000)), lambda value: quantity(value, "tokens"))


def sessions(scenario: Scenario) -> None:
    """Draw what requests carry on from one another; quiet where each stands alone."""
    used = has_sessions(scenario) or scenario.system_tokens > 0
    with st.expander("Conversations", expanded=used, key="in_sessions", on_change="rerun") as more:
        if not (more.open or used):
            return
        ladder("turns", (1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 65, 100, 200), _turns)
        if scenario.turns > 1:
            ladder("turn_tokens", (None, *map(int, decades(20, 100_000))), _added)
        if scenario.turns > 1 or scenario.arrivals == "closed":
            ladder("think_s", (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0), _wait)
        ladder(
            "system_tokens",
            (0, *map(int, decades(20, 100_000))),
            lambda value: quantity(value, "tokens"),
        )
        if scenario.turns > 1 and scenario.arrivals != "trace":
            st.caption(prompts_said(scenario))


def prompts_said(scenario: Scenario) -> str:
    """Return how long the prompts of a scenario's sessions are, from the first turn to the last."""
    sent = requests_sent(scenario.replace(requests=min(scenario.requests, SAMPLE)))
    prompts = sent.prompt_tokens
    first = prompts[sent.known_tokens == 0]
    return (
        f"Prompts grow from {quantity(np.median(first), 'tokens')} to {quantity(prompts.max(), 'tokens')}, "
        f"{quantity(prompts.mean(), 'tokens')} on average."
    )


def _turns(turns: int) -> str:
    return counted(turns, "turn") if turns > 1 else "1: none"


def _added(tokens: int | None) -> str:
    return "as the first prompt" if tokens is None else quantity(tokens, "tokens")


def _wait(wait_s: float) -> str:
    return duration(1e3 * wait_s)


def _shares(mix: str) -> dict[str, float]:
    """Return the class weights of a mix."""
    return {item.name: item.weight for item in mix_classes(mix)}


def _write_share(percent: float) -> None:
    st.session_state.in_share = round(percent)
    _write_mix()


def _write_mix() -> None:
    """Write the three traffic widgets to the scenario's `mix`."""
    first, second = st.session_state.in_first, st.session_state.get("in_second", "")
    if second and second != first:
        share = st.session_state.get("in_share", 50)
        first_part = [f"{first}:{share / 100:g}"] if share > 0 else []
        second_part = [f"{second}:{1 - share / 100:g}"] if share < 100 else []
        state.change(mix=",".join(first_part + second_part))
    else:
        state.change(mix="" if first == FLAT_CLASS else f"{first}:1")


# A trace of one's own


class Uploaded(NamedTuple):
    """A visitor's trace: its requests, and which window of the file they are."""

    requests: Requests
    window: Window


def uploaded(page: str) -> Uploaded | None:
    """Return the trace that a visitor has given a page; None without one."""
    known = st.session_state.get(f"{page}_trace")
    return None if known is None else Uploaded(known[1], known[0][1])


def trace_upload(page: str) -> bool:
    """Draw the field for a trace, which stays in the session; return whether it is another than before."""
    file = st.file_uploader(
        "Trace",
        type=["csv", "jsonl", "txt"],
        key=f"in_{page}_file",
        help="Azure, BurstGPT, Vidur or splitwise-sim CSV, Mooncake JSON lines, or "
        "arrival_s,prompt_tokens,output_tokens. Up to 5 MB; it stays in this session's memory. Of longer "
        f"files the command takes a part: {page} --trace FILE --from WHEN --hours HOURS.",
    )
    if file is None:
        return False
    asked = (file.file_id, _window(page))
    known = st.session_state.get(f"{page}_trace")
    is_new = known is None or known[0] != asked
    if is_new:
        st.session_state.pop(f"{page}_trace", None)  # what is refused is not replaced by what was before
        try:
            trace = read_trace(file.getvalue(), file.name, MAX_UPLOAD_BYTES, asked[1])
        except ScenarioError as error:
            st.error(literal(spoken(str(error))))
            return False
        st.session_state[f"{page}_trace"] = (asked, trace)
    st.caption(literal(" ".join(st.session_state[f"{page}_trace"][1].notes)))
    return is_new


def _window(page: str) -> Window:
    """Draw which part of the trace is used, and return it."""
    left, right = st.columns(2)
    start = left.text_input(
        "From",
        key=f"in_{page}_from",
        placeholder="the first request",
        help="Hours after the first request, or a date and time such as 2024-05-12T08:00.",
    )
    hours = right.number_input(
        "Hours", value=None, min_value=0.0, step=1.0, key=f"in_{page}_hours", placeholder="to the end"
    )
    return Window(start or "", math.inf if hours is None else float(hours))
