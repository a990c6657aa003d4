"""The way back: to the defaults, to the ready scenario that one came from, of one control."""

from __future__ import annotations

import streamlit as st

from sim_core.scenario.link.write import value_text
from sim_core.scenario.ready import ready_scenario
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.view.drawing.words import literal
from sim_core.view.session import shell, state

MOST_CHARACTERS = 40  # of a value


def reset_button() -> None:
    """Draw the button that opens the ways back."""
    with st.popover(
        "Reset", icon=":material/undo:", width="stretch", key="in_reset_open", on_change="rerun"
    ) as panel:
        if panel.open:
            _ways(st.session_state.scenario)


def _ways(scenario: Scenario) -> None:
    start = state.origin()
    st.button("To the defaults", key="reset_all", on_click=_put, args=(Scenario(),))
    if start and ready_scenario(start).build() != Scenario():
        preset = ready_scenario(start)
        words = f"To “{preset.title}”"
        st.button(literal(words), key="reset_preset", on_click=_put, args=(preset.build(),))
    usual = state.start_point()
    changed = [key for key in FIELDS if getattr(scenario, key) != getattr(usual, key)]
    st.caption("Only this:" if changed else "Nothing differs.")
    for key in changed:
        st.button(
            literal(f"{FIELDS[key].label or key}: {_words(scenario, key)} → {_words(usual, key)}"),
            key=f"reset_{key}",
            icon=":material/undo:",
            type="tertiary",
            on_click=state.put_back,
            args=(key,),
        )


def _words(scenario: Scenario, key: str) -> str:
    value = getattr(scenario, key)
    text = "as the preset" if value is None else FIELDS[key].label_of(value_text(key, value)) or "none"
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _put(scenario: Scenario) -> None:
    state.replace(scenario)
    shell.rerun_page()
