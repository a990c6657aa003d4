"""What Streamlit's own markup leaves out for keyboards and screen readers."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from sim_core.view.session import server

_JS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_CSS = ".st-key-access { display: none; }"  # there is nothing to see
_component = st.components.v2.component(
    "batchscope_access", js=server.script("access", _JS, _CSS), isolate_styles=False
)


def mend() -> None:
    """Let the Tab key go from a button into the panel that it has opened, and lists be lists to readers."""
    _component(key="access")
