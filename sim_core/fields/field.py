"""What is known about one value of a scenario, preset or profile, and the check of a value against it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sim_core.fields.errors import ScenarioError, shown


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """What is known about one value: its kind, limits and unit, and what it is for.

    `reads` is the reader of a text that has a grammar of its own; it raises a `ScenarioError` for a text
    that it cannot read.
    """

    kind: type
    group: str
    help: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False
    zero: bool = False  # whether an optional number may be 0
    longest: int = 1000  # characters of a text
    reads: Callable[[str], object] | None = None
    empty: bool = False  # whether a text with a reader may be empty


def check(name: str, value: Any, info: FieldInfo) -> None:
    """Raise a `ScenarioError` unless `value` has the right type and lies within its limits."""
    if value is None and info.optional:
        return
    if info.kind is str:
        _check_text(name, value, info)
        return
    if isinstance(value, bool) or not isinstance(value, int if info.kind is int else (int, float)):
        kind = "a whole number" if info.kind is int else "a number"
        raise ScenarioError(f"{name} is {shown(value)}; it must be {kind}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ScenarioError(f"{name} is {value}; it must be a finite number.")
    above_zero = info.optional and not info.zero
    if not info.low <= value <= info.high or (above_zero and value <= 0):
        unit = f" {info.unit}" if info.unit else ""
        low = "above 0" if above_zero and info.low <= 0 else f"{info.low:,.15g}"
        raise ScenarioError(
            f"{name} is {_number_text(value)}{unit}; it must lie between {low} and {info.high:,.15g}{unit}."
        )


def _check_text(name: str, value: Any, info: FieldInfo) -> None:
    if not isinstance(value, str):
        raise ScenarioError(f"{name} is {shown(value)}; it must be text.")
    if info.choices and value not in info.choices:
        raise ScenarioError(f"{name} is {shown(value)}; choose one of {', '.join(info.choices)}.")
    if len(value) > info.longest:
        raise ScenarioError(f"{name} has {len(value):,} characters; the limit is {info.longest:,}.")
    if info.reads and (value or not info.empty):
        info.reads(value)


def _number_text(value: float) -> str:
    return shown(value) if abs(value) > 1e300 else f"{value:,.15g}"
