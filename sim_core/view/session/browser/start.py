"""The line for a first visit: what this is, and three ways in. Whether it is shown, the browser remembers."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import streamlit as st

from sim_core.view.drawing.templates import render
from sim_core.view.session import server

_HERE = Path(__file__).parent
_JS, _CSS = ((_HERE / f"start.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))


class WayIn(NamedTuple):
    """A way in: what a visitor wants, the title of the page that does it, and its address."""

    wish: str
    page: str
    address: str = ""


WAYS = (
    WayIn("Choose a deployment", "Plan"),
    WayIn("Understand why", "Two phases"),
    WayIn("Learn or teach", "Lessons"),
)
_component = st.components.v2.component(
    "batchscope_start", js=server.script("start", _JS, _CSS), isolate_styles=False
)


def ways_in(addresses: dict[str, str]) -> str:
    """Draw the line, hidden until the browser shows it; return the page that was asked for, "" for none.

    Parameters
    ----------
    addresses : dict of str
        Where each page is, by its title, for those who open it in a window of its own.
    """
    ways = [way._replace(address=addresses[way.page]) for way in WAYS]
    found = _component(data=str(render("session/start.html", ways=ways)), key="start", on_go_change=_nothing)
    asked = str(getattr(found, "go", None) or "")  # nothing comes where no browser is
    return asked if asked in addresses else ""


def _nothing() -> None:
    """Let Streamlit draw the page again, which then turns to the page that was asked for."""
