"""Traffic shift: and when the mix changes?"""

import streamlit as st

from sim_core.view import shell, shift, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show what adapting the pools brings, for what the controls say."""
    shift.show(st.session_state.scenario)
    state.publish()


shift.sidebar(shell.begin())
answer()
