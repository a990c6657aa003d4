"""The pieces of the Two phases page."""

from __future__ import annotations

from sim_core.scenario import Scenario
from sim_core.view import controls

VIEWS = {"roofline": "Roofline", "step": "One step", "specs": "More FLOPs or bandwidth?", "kv": "KV cache",
         "floor": "The floor"}  # fmt: skip


def show(scenario: Scenario) -> None:
    """Show the view that was asked for."""
    controls.views("phases", VIEWS)
