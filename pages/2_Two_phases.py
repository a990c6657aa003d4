"""Two phases: why are prefill and decode so different?"""

import streamlit as st

from sim_core.view.parts.sidebar import sidebar
from sim_core.view.phases.page import show
from sim_core.view.session import shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show the two phases of what the controls say."""
    show(st.session_state.scenario)
    state.publish()


sidebar(shell.begin())
answer()
