"""The entries of a configuration: taken by any of their names, checked, and remembered as taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sim_core.catalogue.models.attention import Attention
from sim_core.catalogue.models.model import Model
from sim_core.fields.described import fields_of
from sim_core.fields.errors import ScenarioError, shown
from sim_core.fields.field import FieldInfo, check

MODEL: Mapping[str, FieldInfo] = fields_of(Model)
ATTENTION: Mapping[str, FieldInfo] = fields_of(Attention)
MOST_LAYERS = int(MODEL["layers"].high)


class Entries:
    """One table of a configuration, whose values are checked where they are taken.

    An entry that is missing, or null, is not given. `assumed` collects what was taken in its place.
    """

    def __init__(self, table: Mapping[str, Any], file: str, prefix: str = "", layers: int = 0) -> None:
        self.table = table
        self.file = file
        self.prefix = prefix
        self.layers = layers  # of the model; 0 before they are counted
        self.taken: set[str] = set()
        self.assumed: list[str] = []

    def name(self, key: str) -> str:
        """Return what messages call an entry."""
        return f"{self.file}: {self.prefix}{key}"

    def has(self, *keys: str) -> bool:
        """Return whether any of some entries is given."""
        return any(self.table.get(key) is not None for key in keys)

    def get(self, *keys: str) -> Any:
        """Return the first given of some entries as it stands, None if none is."""
        return self._first(keys)[1]

    def _first(self, keys: Iterable[str]) -> tuple[str, Any]:
        names = tuple(keys)
        self.taken.update(names)
        found = next((key for key in names if self.table.get(key) is not None), "")
        return found, self.table.get(found)

    def whole(self, info: FieldInfo, *keys: str, default: int | None = None) -> int:
        """Return the first given of some entries as a whole number within the limits of a field.

        A list, an entry a layer, stands for its value where all are alike.

        Raises
        ------
        ScenarioError
            If the value is no such number, or none is given and there is no default.
        """
        key, value = self._first(keys)
        if isinstance(value, list):
            value = self._alike(key, value)
        if value is None:
            if default is None:
                raise ScenarioError(
                    f"{self.name(keys[0])} is missing, and no model can be read without it. Add it."
                )
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        check(self.name(key), value, info)
        return int(value)

    def _alike(self, key: str, values: list[Any]) -> Any:
        """Return the one value of a list of an entry a layer."""
        own = values[: self.layers]
        if not own or len(own) < self.layers or any(value != own[0] for value in own):
            each = f", or a list of one for each of {self.layers:,} layers, all alike" if self.layers else ""
            raise ScenarioError(f"{self.name(key)} is {shown(values)}; it must be a whole number{each}.")
        return own[0]

    def given(self, info: FieldInfo, *keys: str) -> int:
        """Return an entry as `whole` does, 0 where it is not given."""
        return self.whole(info, *keys, default=0)

    def switch(self, *keys: str, default: bool = False) -> bool:
        """Return the first given of some entries as true or false."""
        key, value = self._first(keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ScenarioError(f"{self.name(key)} is {shown(value)}; it must be true or false.")
        return value

    def text(self, *keys: str) -> str:
        """Return the first given of some entries as text, empty where none is."""
        key, value = self._first(keys)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ScenarioError(f"{self.name(key)} is {shown(value)}; it must be text.")
        return value

    def each(self, key: str, layers: int = MOST_LAYERS) -> list[Any] | None:
        """Return a list of one value a layer, without those of layers beyond; None where there is none."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise ScenarioError(f"{self.name(key)} is {shown(value)}; it must be a list, an entry a layer.")
        if layers < MOST_LAYERS and len(value) < layers:
            raise ScenarioError(
                f"{self.name(key)} has {len(value):,} entries for {layers:,} layers; give one a layer."
            )
        return value[:layers]

    def part(self, key: str) -> Entries | None:
        """Return a table within, None where there is none."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ScenarioError(f"{self.name(key)} is {shown(value)}; it must be a table.")
        return Entries(value, self.file, f"{self.prefix}{key}.", self.layers)


def block_part(entries: Entries, block: object, part: str) -> dict[str, Any]:
    """Return a part of one of the blocks of a searched architecture, as `block_configs` lists them."""
    found = block.get(part) if isinstance(block, dict) else None
    if not isinstance(found, dict):
        raise ScenarioError(f"{entries.name('block_configs')} has an entry without {part}; give it.")
    return found
