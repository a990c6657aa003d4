"""Batchscope: an iteration-level simulator of LLM serving, usable without a browser.

The names below are imported on first use, so that reading a link or listing presets stays quick.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

if sys.version_info < (3, 11):  # noqa: UP036  (older Pythons do read this line, and nothing after it)
    raise SystemExit("Batchscope needs Python 3.11 or newer; this is " + sys.version.split()[0] + ".")

__version__ = "0.1.0"

_HOMES = {
    "Scenario": "scenario.scenario",
    "ScenarioError": "fields.errors",
    "load_scenario": "scenario.link.load",
    "simulate": "engine.run",
    "summarize": "results.metrics",
    "frontier": "sweep.frontier",
    "capacity": "sweep.capacity",
    "plan": "questions.deployment.plan",
    # what pages hand out to be run without a browser
    "roofline": "questions.phases",
    "step_rows": "questions.phases",
    "setting": "questions.phases",
    "returns": "questions.hardware",
    "specs_maps": "questions.hardware",
    "kv_rows": "questions.hardware",
    "floor_rows": "questions.hardware",
    "speculation_rows": "questions.speculation",
    "tornado": "questions.sensitivity",
    "crossover": "questions.experiments.preemption",
    "scored": "evidence.errors",
    "as_rows": "evidence.errors",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
