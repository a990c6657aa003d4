"""Scenarios: what do benchmark rules like MLPerf's do to throughput?"""

import streamlit as st

from sim_core.view.scenarios.page import show, sidebar
from sim_core.view.session import shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show what limits cost the system that the controls say."""
    show(st.session_state.scenario)
    state.publish()


sidebar(shell.begin())
answer()
