"""Frontier: what throughput can I have, at what latency?"""

import streamlit as st

from sim_core.view.frontier import page as panels
from sim_core.view.parts import actions, trust_badge
from sim_core.view.parts.sidebar import sidebar
from sim_core.view.parts.views import above_chart
from sim_core.view.session import shell, state, sweeps


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Simulate what the controls say, and show it."""
    sweep = sweeps.plan(st.session_state.scenario)
    found = actions.simulate(sweep)

    panels.headline(sweep, found)
    trust_badge.badge(sweep.scenario)
    panels.key_figures(sweep, found)
    above_chart(sweep, panels.leaves_frame(found))
    match state.view("show"):
        case "frontier":
            panels.frontier(sweep, found)
            panels.limit_strip(sweep, found)
        case "load":
            sweep = sweeps.load_sweep(sweep.scenario)
            found = panels.load(sweep, st.session_state.scenario)
        case "table":
            panels.table(sweep, found)
    panels.reading_help(sweep)
    actions.take_away(
        "" if state.view("show") == "table" else state.view("show"),
        actions.table_files(found.rows, "frontier"),
        actions.frontier_command(sweep, found.fine),
    )
    state.publish()


sidebar(shell.begin())
answer()
