"""Traffic shift: and when the mix changes?"""

import streamlit as st

from sim_core.view.session import shell, state
from sim_core.view.shift import page as shift


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show what adapting the pools brings, for what the controls say."""
    shift.show(st.session_state.scenario)
    state.publish()


shift.sidebar(shell.begin())
answer()
