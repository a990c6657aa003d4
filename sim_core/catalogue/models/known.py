"""The models that are known: one TOML file each in `presets/models`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from sim_core.catalogue.models.attention import Attention
from sim_core.catalogue.models.model import Model
from sim_core.catalogue.reader import naming_file, preset_ids, read_preset
from sim_core.fields.described import build
from sim_core.fields.errors import ScenarioError


@cache
def models() -> Mapping[str, Model]:
    """Return all models by id: by family, then size."""
    found = [model(name) for name in preset_ids("models")]
    found.sort(key=lambda item: (item.family.lower(), item.total_params, item.name.lower()))
    return MappingProxyType({item.id: item for item in found})


@cache
def model(name: str) -> Model:
    """Return one model by id."""
    data = read_preset("models", name)
    with naming_file("models", name):
        return model_from(data, name)


def model_from(data: Mapping[str, Any], name: str) -> Model:
    """Return a model from its table: its dimensions, and under `attention` its layers by kind."""
    rows = data.get("attention", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ScenarioError("attention must be a list of tables, one a kind of layer.")
    groups = tuple(build(Attention, row) for row in rows)
    return build(Model, {key: data[key] for key in data if key != "attention"}, id=name, attention=groups)
