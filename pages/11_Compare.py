"""Compare: A or B?"""

import streamlit as st

from sim_core.view.compare import page as compare
from sim_core.view.parts.sidebar import sidebar
from sim_core.view.session import shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show the present scenario beside the frozen ones."""
    compare.show(st.session_state.scenario)
    state.publish()


sidebar(shell.begin())
answer()
