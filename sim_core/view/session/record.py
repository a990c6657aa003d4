"""What the present run of a page has said and drawn, so that it can be taken away as one whole.

`pieces.say` begins the record, for a page says its finding first; badge and charts follow as they are drawn.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import streamlit as st

from sim_core.evidence.trust import Trust


@dataclass(frozen=True, slots=True)
class Drawing:
    """One chart as it was drawn: Plotly's JSON, the same in one sentence, heading, and height in pixels."""

    figure: dict[str, Any]
    alt: str
    title: str = ""
    subtitle: str = ""
    height: int = 520


@dataclass(frozen=True, slots=True)
class Shown:
    """Finding, notes, badge and charts by key of one run; a value, so that later files hold what was seen."""

    finding: str = ""
    notes: tuple[str, ...] = ()
    badge: Trust | None = None
    charts: tuple[tuple[str, Drawing], ...] = ()

    @property
    def drawings(self) -> list[Drawing]:
        """The charts in the order in which they were drawn."""
        return [drawing for _, drawing in self.charts]


def now() -> Shown:
    """Return what has been shown so far."""
    return st.session_state.get("shown_now", Shown())


def begin_record(finding: str = "", notes: tuple[str, ...] = ()) -> None:
    """Begin anew, with the finding."""
    st.session_state.shown_now = Shown(finding, notes)


def add_note(words: str) -> None:
    """Keep what is said beneath the finding."""
    shown = now()
    st.session_state.shown_now = dataclasses.replace(shown, notes=(*shown.notes, words))


def add_badge(found: Trust) -> None:
    """Keep how far the predictions can be trusted; the first badge of a page counts."""
    shown = now()
    st.session_state.shown_now = dataclasses.replace(shown, badge=shown.badge or found)


def add_chart(key: str, drawing: Drawing) -> None:
    """Keep a chart."""
    shown = now()
    others = tuple(item for item in shown.charts if item[0] != key)
    st.session_state.shown_now = dataclasses.replace(shown, charts=(*others, (key, drawing)))
