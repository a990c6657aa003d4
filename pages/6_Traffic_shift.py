"""Traffic shift: and when the mix changes?"""

import streamlit as st

from sim_core.view.session import shell, state
from sim_core.view.shift.page import show
from sim_core.view.shift.sidebar import sidebar


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show what adapting the pools brings, for what the controls say."""
    show(st.session_state.scenario)
    state.publish()


sidebar(shell.begin())
answer()
