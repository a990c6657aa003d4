"""The acceptance length that the gaps of measured streams tell, and the button that takes it."""

from __future__ import annotations

import streamlit as st

from sim_core.evidence.own.engine import OwnEngine, accepted_of
from sim_core.evidence.own.gaps import Accepted
from sim_core.fields.texts import counted
from sim_core.scenario.scenario import Scenario
from sim_core.view.parts.pieces import KeyFigure
from sim_core.view.session import shell, state

SAME = 0.005  # a length this near the scenario's is the scenario's


def figure(engine: OwnEngine) -> list[KeyFigure]:
    """Return the acceptance length with its range, where gaps tell one."""
    found = accepted_of(engine)
    if found is None:
        return []
    over = f"{found.low:.3g} to {found.high:.3g} over {counted(found.points, 'point')}"
    note = f"{over}; streamed every {counted(found.interval_steps, 'step')}"
    return [KeyFigure("Acceptance length, by gaps of the stream", f"{found.length:.3g}", note, wrap=True)]


def take(engine: OwnEngine, scenario: Scenario) -> None:
    """Draw the button that puts the acceptance length into the scenario, where it is another."""
    found = accepted_of(engine)
    if found is None or abs(found.length - (scenario.acceptance_length or 0.0)) <= SAME:
        return
    st.button(
        f"Use {found.length:.3g} as acceptance length",
        on_click=_take,
        args=(scenario, found),
        key="own_accepted",
        help=found.words,
    )


def with_accepted(scenario: Scenario, found: Accepted) -> Scenario:
    """Return a scenario that accepts what was measured; one without drafts has as few as that needs."""
    drafts = scenario.spec_tokens or max(-int(-found.length // 1) - 1, 1)
    return scenario.replace(
        spec_tokens=drafts,
        acceptance_length=round(min(found.length, drafts + 1), 3),
        stream_interval_steps=found.interval_steps,
    )


def _take(scenario: Scenario, found: Accepted) -> None:
    state.replace(with_accepted(scenario, found))
    shell.rerun_page()
