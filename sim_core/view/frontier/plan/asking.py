"""The question for a deployment as one text, and what of it was understood."""

from __future__ import annotations

import streamlit as st

from sim_core.catalogue.accelerators import accelerator
from sim_core.catalogue.models import model
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.link.asked import EXAMPLE, AskedFor, asked
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.names import in_words
from sim_core.view.drawing.words import literal, quantity
from sim_core.view.session import shell, state

FIELD = "in_plan_question"


def question_field(scenario: Scenario) -> None:
    """Draw the field of the question, and what was understood as long as the settings are that."""
    if state.embedded():
        return
    st.text_input("Your question", key=FIELD, placeholder=EXAMPLE, on_change=_take)
    text = st.session_state.get(FIELD, "").strip()
    try:
        said = asked(text, scenario.model) if text else None
    except ScenarioError:  # the page says why above
        return
    if said is not None and _is_set(said, scenario):
        st.caption(f":material/check: Understood: {literal(understood(said, scenario))}")


def understood(said: AskedFor, scenario: Scenario) -> str:
    """Return in words what a question has set."""
    words = [in_words(scenario, key) for key in said.changes if key != "model"]
    if said.models:
        others = f" (also so called: {', '.join(model(name).name for name in said.models[1:4])})"
        words.insert(0, model(said.models[0]).name + (others if said.models[1:] else ""))
    if said.accelerators:
        words.append(" or ".join(accelerator(name).name for name in said.accelerators))
    if said.max_devices:
        words.append(f"at most {quantity(said.max_devices, 'devices')}")
    return " · ".join(words)


def _is_set(said: AskedFor, scenario: Scenario) -> bool:
    """Return whether the settings are what a question says: no control was moved since."""
    chosen = not said.accelerators or state.view(state.AMONG) == ",".join(said.accelerators)
    return chosen and all(getattr(scenario, key) == value for key, value in said.changes.items())


def _take() -> None:
    """Set what the question says, or say what of it is not understood."""
    text = st.session_state[FIELD].strip()
    try:
        if text:
            _set(asked(text, st.session_state.scenario.model))
    except ScenarioError as error:
        st.session_state.problem = f"{str(error)[:1].upper()}{str(error)[1:]} Nothing is changed."
    shell.rerun_page()


def _set(said: AskedFor) -> None:
    if len(said.accelerators) > state.AMONG_LIMIT:
        raise ScenarioError(
            f"the question names {len(said.accelerators)} accelerators; the limit is {state.AMONG_LIMIT}. "
            "Name fewer, or none to consider all that have a price."
        )
    if not state.change(**said.changes):
        return
    if said.accelerators:
        state.set_view(state.AMONG, ",".join(said.accelerators))
        state.set_view("plan_parts", "chosen")
    if said.max_devices:
        state.set_number("plan_most", said.max_devices)
