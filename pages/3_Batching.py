"""Batching: what does the scheduler do, step by step?"""

import streamlit as st

from sim_core.view import batching, controls, shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show the scheduler at work on what the controls say."""
    batching.show(st.session_state.scenario)
    state.publish()


controls.sidebar(shell.begin())
answer()
