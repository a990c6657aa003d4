"""Lessons: predict, move one control, see."""

import streamlit as st

from sim_core.view import lessons, shell, state


@st.fragment(key=shell.ANSWER)
def answer() -> None:
    """Show the lessons, or the one that is open."""
    lessons.show()
    state.publish()


shell.begin()
answer()
