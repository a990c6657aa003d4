"""Dataclasses whose fields say what they are: `described` makes them, `fields_of` reads, `build` fills them.

The annotation of a field is its type: ``int | None`` is an optional whole number, ``tuple[float, ...]`` a
list of numbers. Everything else that is known about it (limits, unit, words) stands beside it, once.

Examples
--------
>>> @dataclasses.dataclass(frozen=True, kw_only=True)
... class Part:
...     hbm_gb: float = described("Memory capacity", unit="GB", low=0.0, high=1e6)
>>> build(Part, {"hbm_gb": 80})
Part(hbm_gb=80.0)
>>> fields_of(Part)["hbm_gb"].unit
'GB'
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar

from sim_core.fields.errors import ScenarioError, check_known
from sim_core.fields.field import FieldInfo, check


class IsDataclass(Protocol):
    """Any dataclass, as a type checker knows it."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Made = TypeVar("Made", bound=IsDataclass)


def described(help: str, default: object = dataclasses.MISSING, **about: object) -> Any:
    """Return a dataclass field that carries its description; without a default it must be given.

    Parameters
    ----------
    help : str
        What it is, in a line.
    default : optional
        A text that is empty by default may be empty, whatever its reader says.
    **about
        Anything else of a `FieldInfo` but its type, which the annotation says. `choices` may be a mapping, of
        each choice to what people call it.
    """
    return dataclasses.field(
        default=default, metadata={"about": {"help": help, "empty": default == "", **about}}
    )


@cache
def fields_of(kind: type) -> Mapping[str, FieldInfo]:
    """Return the descriptions of a dataclass's fields by name, in their order; others have none."""
    hints = typing.get_type_hints(kind)
    return types.MappingProxyType(
        {
            field.name: _info(field.name, hints[field.name], field.metadata["about"])
            for field in dataclasses.fields(kind)
            if "about" in field.metadata
        }
    )


def _info(name: str, hint: Any, about: Mapping[str, Any]) -> FieldInfo:
    """Return the description of a field from its annotation and what was said about it."""
    optional = type(None) in typing.get_args(hint)
    if optional:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    many = typing.get_origin(hint) is tuple
    words = {"label": about.get("label") or _words(name), **_labelled(about.get("choices", ()))}
    return FieldInfo(
        kind=typing.get_args(hint)[0] if many else hint,
        optional=optional,
        many=many,
        **{"group": "", **about, **words},
    )


def _labelled(choices: Mapping[str, str] | tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return choices, and what people call them."""
    labels = choices.values() if isinstance(choices, Mapping) else map(_words, choices)
    return {"choices": tuple(choices), "choice_labels": tuple(labels)}


def _words(name: str) -> str:
    return name.replace("_", " ")


def build(kind: type[Made], table: Mapping[str, Any], **given: object) -> Made:
    """Return a dataclass from a TOML table and what stands in no table; lists become tuples.

    Raises
    ------
    ScenarioError
        If a key of the table is unknown, missing or of the wrong type, or a value outside its limits.
    """
    infos = fields_of(kind)
    check_known(table, infos)
    for field in dataclasses.fields(kind):
        if field.name in infos and field.default is dataclasses.MISSING and field.name not in table:
            raise ScenarioError(f"the key {field.name} is missing; add it.")
    return kind(**given, **{key: checked_value(key, value, infos[key]) for key, value in table.items()})


def checked_value(key: str, value: Any, info: FieldInfo) -> Any:
    """Return one value of a table, checked and in its final type."""
    if isinstance(value, list):
        value = tuple(value)
    check(key, value, info)
    if info.kind is not float:
        return value
    return tuple(float(number) for number in value) if info.many else float(value)
