"""Two phases: why are prefill and decode so different?"""

import streamlit as st

from sim_core.view.parts import controls
from sim_core.view.phases import page as phases
from sim_core.view.session import shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show the two phases of what the controls say."""
    phases.show(st.session_state.scenario)
    state.publish()


controls.sidebar(shell.begin())
answer()
