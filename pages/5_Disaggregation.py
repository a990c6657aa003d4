"""Disaggregation: does splitting the phases pay?"""

import streamlit as st

from sim_core.view.disaggregation import page as disaggregation
from sim_core.view.parts.sidebar import sidebar
from sim_core.view.session import shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show one pool against two, for what the controls say."""
    disaggregation.show(st.session_state.scenario)
    state.publish()


sidebar(shell.begin())
answer()
