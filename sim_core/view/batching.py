"""The Batching page: the timeline and four experiments with the scheduler."""

from __future__ import annotations

from sim_core.scenario import Scenario
from sim_core.view import controls

VIEWS = {
    "timeline": "Timeline",
    "wait": "Waiting for a batch",
    "preemption": "Out of KV cache",
    "interference": "Interference",
    "endings": "Irregular endings",
}


def show(scenario: Scenario) -> None:
    """Show the view that was asked for."""
    controls.views("batching", VIEWS)
