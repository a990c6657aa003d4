"""Disaggregation: does splitting the phases pay?"""

import streamlit as st

from sim_core.view import controls, disaggregation, shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show one pool against two, for what the controls say."""
    disaggregation.show(st.session_state.scenario)
    state.publish()


controls.sidebar(shell.begin())
answer()
