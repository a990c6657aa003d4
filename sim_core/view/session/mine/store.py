"""What a visitor keeps: one TOML text in their browser, which a session has for as long as it lasts."""

from __future__ import annotations

import uuid
from pathlib import Path

import streamlit as st

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.kept import NOTHING, Kept, count_of, kept_toml, read_kept, with_all_of
from sim_core.view.session import server

_JS = (Path(__file__).parent / "store.js").read_text(encoding="utf-8")
_component = st.components.v2.component(
    "batchscope_mine", js=server.script("mine", _JS), isolate_styles=False
)
TEXT, WRITE = "mine_text", "mine_write"  # what the browser keeps, as far as known; what it is to keep
READ = "mine_read"  # the text that was read last, what it holds, and why it cannot be read
UNREADABLE = "What this browser keeps cannot be read, and stays as it is"
FULL = "This browser keeps nothing, or has no room left: export what you have, else it ends with this tab."


def connect() -> None:
    """Let the session know what the browser keeps, and the browser keep what the session wants kept."""
    text, turn = st.session_state.get(WRITE, (None, ""))
    data = {"known": st.session_state.get(TEXT), "write": text, "turn": turn}
    _component(data=data, key="mine_store", on_kept_change=_hear, height=0)


def _hear() -> None:
    told: dict[str, object] = st.session_state.mine_store.kept or {}
    st.session_state[TEXT] = str(told.get("text", ""))
    st.session_state.mine_full = bool(told.get("failed"))


def all_kept() -> Kept:
    """Return what the visitor keeps; nothing where that is not known yet or cannot be read."""
    return _read()[0]


def problem() -> str:
    """Return why what the browser keeps cannot be used or kept; "" if it can."""
    if st.session_state.get("mine_full"):
        return FULL
    why = _read()[1]
    return f"{UNREADABLE}: {why}" if why else ""


def _read() -> tuple[Kept, str]:
    """Return what the browser keeps, and why it cannot be read; read once for each text."""
    text = st.session_state.get(TEXT) or ""
    known = st.session_state.get(READ)
    if known is None or known[0] != text:
        known = st.session_state[READ] = text, *_kept_or_why(text)
    return known[1:]


def _kept_or_why(text: str) -> tuple[Kept, str]:
    try:
        return read_kept(text, "it"), ""
    except ScenarioError as error:
        return NOTHING, str(error)


def put(kept: Kept) -> None:
    """Let the browser keep this in place of what it has."""
    text = kept_toml(kept) if count_of(kept) else ""
    st.session_state[TEXT] = text
    st.session_state[WRITE] = (text, uuid.uuid4().hex)


def add(more: Kept) -> None:
    """Let the browser keep more than it has.

    Raises
    ------
    ScenarioError
        If there is too much of it, or what the browser has is not known, or cannot be read.
    """
    if not is_known():
        raise ScenarioError("the browser has not yet told what it keeps. Try again.")
    put(with_all_of(read_kept(st.session_state[TEXT], UNREADABLE), more))


def is_known() -> bool:
    """Return whether the browser has told what it keeps."""
    return st.session_state.get(TEXT) is not None


def text() -> str:
    """Return what the browser keeps as it stands there, which is a file to carry."""
    return st.session_state.get(TEXT) or kept_toml(NOTHING)


def forget() -> None:
    """Let the browser keep nothing, whatever it has."""
    put(NOTHING)
