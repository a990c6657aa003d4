"""Calibrate: what is my own engine like?"""

import streamlit as st

from sim_core.view.session import shell, state
from sim_core.view.trust.calibrate import show, sidebar


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show the visitor's measurements and the engine that they make."""
    show(st.session_state.scenario)
    state.publish()


sidebar(shell.begin())
answer()
