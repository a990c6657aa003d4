"""A slider's value, typed: the browser sends which slider and what was typed, and here it is read."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from sim_core.fields.amounts import amount_of
from sim_core.fields.errors import ScenarioError
from sim_core.fields.field import FieldInfo, check
from sim_core.scenario.link.page_settings import PAGE_DEFAULTS, SETTINGS
from sim_core.scenario.scenario import FIELDS
from sim_core.view.session import server, state

_HERE = Path(__file__).parent
_JS, _CSS = ((_HERE / f"exact.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
_component = st.components.v2.component(
    "batchscope_exact", js=server.script("exact", _JS, _CSS), isolate_styles=False
)


def typed_values() -> None:
    """Let the values of the page's sliders be typed: a click on one, or Enter on its handle."""
    _component(key="exact", on_typed_change=_write)


def _write() -> None:
    """Write what was typed; what cannot be read, or lies outside its limits, is said and changes nothing."""
    typed = st.session_state.exact.typed or {}
    slider, text = str(typed.get("slider", "")), str(typed.get("text", ""))
    key = slider.partition("_")[2]
    if not text.strip():
        _put_back(key)
    elif key in FIELDS:
        value = typed_value(key, text, FIELDS[key])
        if value is not None:
            state.change(**{key: value})
    elif key in SETTINGS:
        value = typed_value(key, text, SETTINGS[key])
        if value is not None:
            state.set_number(key, value)


def _put_back(key: str) -> None:
    """Put a control back whose value was emptied."""
    if key in FIELDS:
        state.put_back(key)
    elif key in SETTINGS:
        state.set_number(key, float(PAGE_DEFAULTS[key]))


def typed_value(key: str, text: str, info: FieldInfo) -> float | int | None:
    """Return a typed value of a key, or None where it cannot be, with the reason on the page."""
    try:
        value = amount_of(text, info.unit)
    except ScenarioError as error:
        st.session_state.problem = f"{info.label or key}: {error}"
        return None
    try:
        found = int(value) if info.kind is int and value.is_integer() else value
        check(key, found, info)
    except ScenarioError as error:
        st.session_state.problem = str(error)
        return None
    return found
