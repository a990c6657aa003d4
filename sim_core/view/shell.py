"""What all pages share: the frame of the window, the navigation, the style."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from sim_core.scenario import Scenario
from sim_core.view import state

ROOT = Path(__file__).parent.parent.parent
PAGES = (("1_Frontier.py", "Frontier"), ("2_Method.py", "Method"))
ANSWER = "answer"  # key of the fragment that holds a page's answer; a slider reruns only that
_STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def run() -> None:
    """Draw the page that was asked for."""
    st.set_page_config("Batchscope", layout="wide", initial_sidebar_state="auto")
    pages = [
        st.Page(ROOT / "pages" / file, title=title, default=not index)
        for index, (file, title) in enumerate(PAGES)
    ]
    st.navigation(pages, position="top").run()


def begin() -> Scenario:
    """Start a page: the style, the session's scenario, and what there is to say about the address."""
    st.html(f"<style>{_STYLE}</style>")
    scenario = state.start()
    if st.session_state.notes:
        with st.container(border=True):
            st.markdown("**Not everything in this link could be used.**")
            for note in st.session_state.notes:
                st.text(note)
            st.button("Fine", on_click=_dismiss, key="dismiss_notes")
    if st.session_state.problem:
        st.warning(st.session_state.problem, icon=":material/info:")
    return scenario


def _dismiss() -> None:
    st.session_state.notes = []
