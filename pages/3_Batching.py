"""Batching: what does the scheduler do, step by step?"""

import streamlit as st

from sim_core.view.batching import page as batching
from sim_core.view.parts.sidebar import sidebar
from sim_core.view.session import shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show the scheduler at work on what the controls say."""
    batching.show(st.session_state.scenario)
    state.publish()


sidebar(shell.begin())
answer()
