"""A slider's value, typed: the browser sends which slider and what was typed, and here it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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


MOST_SHARE = 1.5  # a number alone typed over a share is one up to here, and in percent above
_ALONE = re.compile(r"[\d.,_ ]+")


class Taker(NamedTuple):
    """What reads a typed value that is neither a key of the scenario nor a setting, and writes it."""

    info: FieldInfo
    write: Callable[[float], object]


def typed_by(
    key: str, label: str, write: Callable[[float], object], low: float, high: float, unit: str
) -> None:
    """Let the value of a slider be typed that is neither a key of the scenario nor a page's setting."""
    info = FieldInfo(float, "", "", label, unit, low, high)
    st.session_state[f"typed_{key}"] = Taker(info, write)


def typed_values() -> None:
    """Let the values of the page's sliders be typed: a click on one, or Enter on its handle."""
    _component(key="exact", on_typed_change=_write)


def _write() -> None:
    """Write what was typed; what cannot be read, or lies outside its limits, is said and changes nothing."""
    typed = st.session_state.exact.typed or {}
    key = str(typed.get("slider", "")).partition("_")[2]
    text = in_percent(str(typed.get("text", "")), str(typed.get("shown", "")))
    if not text.strip():
        _put_back(key)
        return
    taker: Taker | None = st.session_state.get(f"typed_{key}")
    info = FIELDS.get(key) or SETTINGS.get(key) or (taker and taker.info)
    value = typed_value(key, text, info) if info else None
    if value is None:
        return
    if key in FIELDS:
        state.change(**{key: value})
    elif key in SETTINGS:
        state.set_number(key, value)
    elif taker:
        taker.write(value)


def in_percent(text: str, shown: str) -> str:
    """Return a typed text; in percent where it is a number alone, too large for a share, over a value in %.

    Examples
    --------
    >>> in_percent("80", "75 %"), in_percent("0.8", "75 %"), in_percent("80", "75")
    ('80 %', '0.8', '80')
    """
    if not ("%" in shown and _ALONE.fullmatch(text)):
        return text
    try:
        return f"{text} %" if amount_of(text) > MOST_SHARE else text
    except ScenarioError:
        return text


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
