"""Two phases: why are prefill and decode so different?"""

import streamlit as st

from sim_core.view import controls, phases, shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show the two phases of what the controls say."""
    phases.show(st.session_state.scenario)
    state.publish()


controls.sidebar(shell.begin())
answer()
