"""The visitor's own model: a config.json pasted or uploaded, what it says, and its way into the scenario."""

from __future__ import annotations

import streamlit as st

from sim_core.catalogue.models import Model, own_text
from sim_core.catalogue.models.config import ReadConfig, read_config_text
from sim_core.catalogue.models.sizes import known_as, layer_lines
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import MAX_JSON_CHARACTERS
from sim_core.scenario.scenario import Scenario, model_of
from sim_core.view.drawing.words import literal, number, quantity
from sim_core.view.session import state

MOST_NAME = 60  # characters of a file's name in a message


def own_model_controls(scenario: Scenario) -> None:
    """Draw the place for a configuration, what was read from it, and what the model in use is."""
    with st.expander("Your own model", expanded=True):
        pending: ReadConfig | None = st.session_state.get("own_pending")
        if pending is not None:
            _to_confirm(pending)
            return
        _intake()
        if problem := st.session_state.pop("own_model_problem", ""):
            st.error(literal(problem), icon=":material/error:")
        _told(model_of(scenario))


def _intake() -> None:
    turn = st.session_state.setdefault("own_model_turn", 0)
    st.text_area(
        "Paste a config.json",
        key=f"in_own_config_{turn}",
        height=90,
        placeholder='{"hidden_size": 4096, ...}',
        on_change=_take_text,
        args=(turn,),
        help="The file of that name in a model's repository. Then press Ctrl and Enter.",
    )
    st.file_uploader(
        "or upload it",
        type="json",
        key=f"in_own_file_{turn}",
        on_change=_take_file,
        args=(turn,),
        help="Read in memory, never stored; the link carries what it says.",
    )


def _take_text(turn: int) -> None:
    text = st.session_state.get(f"in_own_config_{turn}", "")
    if text.strip():
        _take(text, "config.json")


def _take_file(turn: int) -> None:
    file = st.session_state.get(f"in_own_file_{turn}")
    if file is None:
        return
    if file.size > MAX_JSON_CHARACTERS:
        limit = f"{MAX_JSON_CHARACTERS / 1e6:g} MB"
        st.session_state.own_model_problem = f"The file has {file.size / 1e6:.1f} MB; the limit is {limit}."
        return
    _take(file.getvalue().decode("utf-8", "replace"), file.name[-MOST_NAME:])


def _take(text: str, name: str) -> None:
    """Read a configuration and show it; what cannot be read is said, and stays where it was pasted."""
    try:
        st.session_state.own_pending = read_config_text(text, name)
    except ScenarioError as error:
        st.session_state.own_model_problem = str(error)
        return
    st.session_state.own_model_turn += 1


def _to_confirm(found: ReadConfig) -> None:
    st.markdown("**Is this your model?**")
    _told(found.model)
    if known := known_as(found.model):
        names = " or ".join(item.name for item in known[:3])
        st.caption(f":material/check: In the list as {literal(names)}, with what is measured of it.")
    for words in found.assumed:
        st.caption(f":material/help: {literal(_sentence(words))}")
    if found.unknown:
        st.caption(f":material/warning: Not understood, and left out: {literal(', '.join(found.unknown))}.")
    with st.container(horizontal=True):
        st.button("Use it", type="primary", on_click=_use, args=(found,), key="in_own_use")
        st.button("Discard", on_click=_drop, key="in_own_drop")


def _sentence(words: str) -> str:
    """Return words as a sentence; a key at their beginning stays as it is written."""
    first = words.split(" ", 1)[0]
    return f"{words}." if "_" in first else f"{words[0].upper()}{words[1:]}."


def _use(found: ReadConfig) -> None:
    native = {"weight_dtype": "native"} if found.model.stored_dtypes("native") != ("bf16", "bf16") else {}
    if state.change(own_model=own_text(found.model), **native):
        _drop()


def _drop() -> None:
    st.session_state.pop("own_pending", None)


def _told(model: Model) -> None:
    """Write a model's sizes and its kinds of layers."""
    active = f", {number(model.active_params / 1e9)} billion active" if model.is_moe else ""
    lines = [
        f"**{literal(model.name)}**",
        f"{number(model.total_params / 1e9)} billion parameters{active}",
        f"{quantity(model.kv_bytes_per_token() / 1e3, 'kB')} of KV cache a token, in bf16",
    ]
    if stored := sorted(set(model.stored_dtypes("native")) - {"bf16"}):
        lines.append(f"Stored as {' and '.join(stored)}")
    if model.state_bytes():
        lines.append(f"{quantity(model.state_bytes() / 1e6, 'MB')} of state a sequence")
    st.markdown("  \n".join(lines))
    for words in layer_lines(model):
        st.caption(literal(words))
