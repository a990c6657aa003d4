"""Validation: can I trust it?"""

import streamlit as st

from sim_core.view.session import shell, state
from sim_core.view.trust import validation


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show predictions against published measurements."""
    validation.show(st.session_state.scenario)
    state.publish()


validation.sidebar(shell.begin())
answer()
