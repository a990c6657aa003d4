"""Advice with a handle: what a finding says to change, as buttons that change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import streamlit as st

from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import DoesNotFit, memory
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.scenario import Scenario
from sim_core.view.session import shell, state

GROUPS = (1, 2, 4, 8, 16, 32, 64)
NARROWER = ("fp8", "fp4")  # weight formats, from the wider
NO_CHANGES: Mapping[str, Any] = MappingProxyType({})


class Advice(NamedTuple):
    """A change that a finding speaks of: the button's words, keys of the scenario, settings of the page."""

    label: str
    changes: Mapping[str, Any] = NO_CHANGES
    views: Mapping[str, str] = NO_CHANGES
    help: str | None = None


def offer(found: Iterable[Advice], key: str = "advice") -> None:
    """Draw a button for each piece of advice; its place stays empty where there is none."""
    found = list(found)
    if not found or state.embedded():
        st.empty()
        return
    with st.container(horizontal=True):
        for place, advice in enumerate(found):
            st.button(
                advice.label,
                key=f"{key}_{place}",
                icon=":material/lightbulb:",
                on_click=_follow,
                args=(advice,),
                help=advice.help,
            )


def _follow(advice: Advice) -> None:
    for key, value in advice.views.items():
        state.set_view(key, value)
    if advice.changes:
        state.change(**advice.changes)
    shell.rerun_page()


def room_advice(scenario: Scenario) -> list[Advice]:
    """Return the smallest change of the group, and of the weights, that makes room for a model."""
    if _has_room(scenario):
        return []
    wider = ({"tensor_parallel": size} for size in GROUPS if size > scenario.tensor_parallel)
    narrower = ({"weight_dtype": name} for name in _narrower(scenario.weight_dtype))
    found = (_first_with_room(scenario, options) for options in (wider, narrower))
    return [Advice(_words(changes), changes) for changes in found if changes]


def _narrower(dtype: str) -> tuple[str, ...]:
    return NARROWER[NARROWER.index(dtype) + 1 :] if dtype in NARROWER else NARROWER


def _words(changes: Mapping[str, Any]) -> str:
    ((key, value),) = changes.items()
    return f"Use TP {value}" if key == "tensor_parallel" else f"Choose {value} weights"


def _first_with_room(scenario: Scenario, options: Iterable[dict[str, Any]]) -> dict[str, Any]:
    for changes in options:
        try:
            if _has_room(with_changes(scenario, **changes)):
                return changes
        except ScenarioError:  # no such layout, or no such arithmetic
            continue
    return {}


def _has_room(scenario: Scenario) -> bool:
    """Return whether the model and a KV cache fit the devices."""
    try:
        return memory(scenario)["kv_tokens"] > 0
    except DoesNotFit:
        return False
    except ScenarioError:  # it fails for another reason, which no room would heal
        return True
