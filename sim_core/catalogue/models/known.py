"""The models that are known: one TOML file each in `presets/models`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from sim_core.catalogue.models.model import Model
from sim_core.catalogue.reader import load_preset, preset_ids


@cache
def models() -> Mapping[str, Model]:
    """Return all models by id: by family, then size."""
    found = [model(name) for name in preset_ids("models")]
    found.sort(key=lambda item: (item.family.lower(), item.total_params, item.name.lower()))
    return MappingProxyType({item.id: item for item in found})


@cache
def model(name: str) -> Model:
    """Return one model by id."""
    return load_preset("models", name, Model)
