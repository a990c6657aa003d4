"""Lessons: predict, move one control, see."""

import streamlit as st

from sim_core.view.learn import lessons
from sim_core.view.session import shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show the lessons, or the one that is open."""
    lessons.show()
    state.publish()


shell.begin()
answer()
