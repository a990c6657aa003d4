"""What is known about one value of a scenario, preset or profile, and the check of a value against it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from sim_core.fields.errors import ScenarioError, shown


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """What is known about one value: its kind, limits and unit, and what it is for.

    `label` is what a control is called; without one of its own, a field is called by its name. `reads` is
    the reader of a text that has a grammar of its own; it raises a `ScenarioError` for a text that it cannot
    read. Where `many`, the value is a tuple of such values.
    """

    kind: type
    group: str
    help: str
    label: str = ""
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    choice_labels: tuple[str, ...] = ()  # what people call them
    optional: bool = False
    zero: bool = False  # whether an optional number may be 0
    longest: int = 1000  # characters of a text
    reads: Callable[[str], object] | None = None
    empty: bool = False  # whether a text with a reader may be empty
    many: bool = False
    fewest: int = 0  # numbers of a list
    most: int = 256

    def label_of(self, choice: str) -> str:
        """Return what people call a choice; any other value stands for itself."""
        return dict(zip(self.choices, self.choice_labels, strict=False)).get(choice, choice)


def check(name: str, value: object, info: FieldInfo) -> None:
    """Raise a `ScenarioError` unless `value` has the right type and lies within its limits."""
    if value is None and info.optional:
        return
    if info.many:
        _check_list(name, value, info)
    elif info.kind is str:
        _check_text(name, value, info)
    elif info.kind is bool:
        if not isinstance(value, bool):
            raise ScenarioError(f"{name} is {shown(value)}; it must be true or false.")
    else:
        _check_number(name, value, info)


def is_within(value: float, info: FieldInfo) -> bool:
    """Return whether a number lies within its limits; an optional one is above 0 unless it may be 0."""
    return info.low <= value <= info.high and (value > 0 or info.zero or not info.optional)


def _check_number(name: str, value: object, info: FieldInfo) -> None:
    if isinstance(value, bool) or not isinstance(value, int if info.kind is int else (int, float)):
        kind = "a whole number" if info.kind is int else "a number"
        raise ScenarioError(f"{name} is {shown(value)}; it must be {kind}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ScenarioError(f"{name} is {value}; it must be a finite number.")
    if not is_within(value, info):
        unit = f" {info.unit}" if info.unit else ""
        above_zero = info.optional and not info.zero and info.low <= 0
        low = "be above 0 and at most" if above_zero else f"lie between {_limit_text(info.low)} and"
        high = _limit_text(info.high)
        raise ScenarioError(f"{name} is {_number_text(value)}{unit}; it must {low} {high}{unit}.")


def _check_list(name: str, value: object, info: FieldInfo) -> None:
    given = shown(list(value) if isinstance(value, tuple) else value)
    if info.kind is str:
        if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
            raise ScenarioError(f"{name} is {given}; it must be a list of texts.")
        return
    if not isinstance(value, tuple) or not info.fewest <= len(value) <= info.most:
        count = f"{info.fewest} to {info.most:,}" if info.fewest else f"at most {info.most:,}"
        raise ScenarioError(f"{name} is {given}; it must be a list of {count} numbers.")
    entry = dataclasses.replace(info, many=False, optional=False)
    for position, number in enumerate(value):
        check(f"{name}[{position}]", number, entry)


def _check_text(name: str, value: object, info: FieldInfo) -> None:
    if not isinstance(value, str):
        raise ScenarioError(f"{name} is {shown(value)}; it must be text.")
    if info.choices and value not in info.choices:
        empty = ", or leave it empty" if "" in info.choices else ""
        choices = ", ".join(filter(None, info.choices))
        raise ScenarioError(f"{name} is {shown(value)}; choose one of {choices}{empty}.")
    if len(value) > info.longest:
        raise ScenarioError(f"{name} has {len(value):,} characters; the limit is {info.longest:,}.")
    if info.reads and (value or not info.empty):
        info.reads(value)


def _number_text(value: float) -> str:
    return shown(value) if abs(value) > 1e300 else f"{value:,.15g}"


def _limit_text(value: float) -> str:
    """Return a limit with all its digits: sixteen of a whole number, and of another one as it was written."""
    return f"{value:,.{15 if value % 1 else 16}g}"
