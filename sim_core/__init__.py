"""Batchscope: an iteration-level simulator of LLM serving, usable without a browser.

The names below are imported on first use, so that reading a link or listing presets stays quick.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

if sys.version_info < (3, 11):  # noqa: UP036  (older Pythons do read this line, and nothing after it)
    raise SystemExit("Batchscope needs Python 3.11 or newer; this is " + sys.version.split()[0] + ".")

__version__ = "0.1.0"

_HOMES = {
    "Scenario": "scenario",
    "ScenarioError": "scenario",
    "load_scenario": "address",
    "simulate": "simulator",
    "summarize": "metrics",
    "frontier": "frontier",
    "capacity": "frontier",
}
__all__ = ["Scenario", "ScenarioError", "__version__", "capacity", "frontier", "load_scenario"]
__all__ += ["simulate", "summarize"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package, whose public functions are not hidden by modules of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the module sim_core.frontier would put it in the place of the function `frontier`.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
