"""A model of one's own as a short text, which links and files carry: its dimensions, then its layers by kind.

`layers:2,hidden:512,ffn_dim:1024,vocab:1000/full,layers:2,heads:8,kv_heads:2,head_dim:64` is a whole model:
`KEY:VALUE` parts, and after each `/` a kind of attention with its own. The keys are those of `Model` and
`Attention`, with their limits; what is as by default is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Any

from sim_core.catalogue.models.attention import KINDS, Attention
from sim_core.catalogue.models.custom import UNKNOWN_MAX_POSITION
from sim_core.catalogue.models.model import Model
from sim_core.fields.described import build, fields_of
from sim_core.fields.errors import ScenarioError, did_you_mean, shown
from sim_core.fields.field import FieldInfo

OWN = "own"
MOST_CHARACTERS = 2500
MOST_KINDS = 12
EXAMPLE = "layers:2,hidden:512,ffn_dim:1024,vocab:1000/full,layers:2,heads:8,kv_heads:2,head_dim:64"
_ELSEWHERE = (
    "family",
    "year",
    "confidence",
    "source",
    "notes",
    "not_modelled",
    "total_params_b",
    "active_params_b",
)
_DEFAULTS: dict[type, dict[str, Any]] = {
    kind: {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    for kind in (Model, Attention)
}
_DEFAULTS[Model]["max_position"] = UNKNOWN_MAX_POSITION
_NAME = re.compile(r"[^A-Za-z0-9 ._+-]+")
_MOST_NAME = 60


def own_text(model: Model) -> str:
    """Return the text of a model; `own_model` makes an equal one of it."""
    parts = [_pairs(model, Model)]
    parts += [f"{group.kind},{_pairs(group, Attention)}" for group in model.attention]
    return "/".join(parts)


def _pairs(item: Model | Attention, kind: type) -> str:
    usual = _DEFAULTS[kind]
    values = {key: getattr(item, key) for key in fields_of(kind) if key not in (*_ELSEWHERE, "kind")}
    if "name" in values:
        values["name"] = plain_name(values["name"]) or OWN
    pairs = (f"{key}:{_plain(value)}" for key, value in values.items() if value != usual.get(key, MISSING))
    return ",".join(pairs)


def _plain(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def plain_name(name: str) -> str:
    """Return a name without what a text of this kind cannot hold."""
    return _NAME.sub(" ", name).strip()[:_MOST_NAME].strip()


@lru_cache(maxsize=64)
def own_model(text: str) -> Model:
    """Return the model of a text.

    Raises
    ------
    ScenarioError
        If a part is no pair, a key is unknown or missing, a value lies outside its limits, or the dimensions
        contradict one another.
    """
    if len(text) > MOST_CHARACTERS:
        raise ScenarioError(f"own_model has {len(text):,} characters; the limit is {MOST_CHARACTERS:,}.")
    head, *rest = text.split("/")
    if not rest or len(rest) > MOST_KINDS:
        raise ScenarioError(
            f"own_model lists {len(rest)} kinds of attention layers, each after a slash; it must list 1 to "
            f"{MOST_KINDS}. Write for example {EXAMPLE}."
        )
    try:
        groups = tuple(build(Attention, _group(part)) for part in rest)
        given = {"name": OWN, "max_position": UNKNOWN_MAX_POSITION, **_table(head, fields_of(Model))}
        if len(given["name"]) > _MOST_NAME or plain_name(given["name"]) != given["name"]:
            raise ScenarioError(
                f"name is {shown(given['name'])}; it must be at most {_MOST_NAME} letters, digits, spaces "
                "and any of ._+-."
            )
        about = {"family": OWN, "confidence": "low", "source": "own_model of the scenario"}
        return build(Model, {**given, **about}, id=OWN, attention=groups)
    except ScenarioError as error:
        raise ScenarioError(f"own_model: {error}") from None


def _group(text: str) -> dict[str, Any]:
    kind, _, pairs = text.partition(",")
    if kind not in KINDS:
        raise ScenarioError(f"{shown(kind)} is no kind of attention. {did_you_mean(kind[:60], KINDS)}")
    return {"kind": kind, **_table(pairs, fields_of(Attention))}


def _table(text: str, infos: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Return pairs of keys and values, in the types of their fields."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, mark, value = part.partition(":")
        if not mark:
            raise ScenarioError(f"{shown(part)} is no pair; write KEY:VALUE.")
        if key in found:
            raise ScenarioError(f"{key} is given twice; give it once.")
        if key in _ELSEWHERE or key not in infos or key == "kind":
            raise ScenarioError(f"unknown key {shown(key)}. {did_you_mean(key[:60], infos)}")
        found[key] = _typed(value, infos[key])
    return found


def _typed(text: str, info: FieldInfo) -> object:
    """Return a value in the type of its field; text that is none stays text, for the check to refuse."""
    if info.kind is int and re.fullmatch(r"\d{1,12}", text, re.ASCII):
        return int(text)
    if info.kind is bool and text in ("0", "1"):
        return text == "1"
    return text
