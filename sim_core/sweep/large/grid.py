"""What a large sweep runs: every combination of some values, counted and never all held at once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sim_core import __version__
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.link.write import to_query
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.points import value_lists
from sim_core.traffic.requests import Requests

MOST_POINTS = 100_000_000
_PROGRAM = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All combinations of the values of some keys, the last key running fastest.

    Raises
    ------
    ScenarioError
        If a key is unknown or has no values, or there are more than `MOST_POINTS` combinations.
    """

    scenario: Scenario
    vary: Mapping[str, Sequence[Any]]
    trace: Requests | None = None
    profile: EngineProfile | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vary", value_lists(self.vary))
        count = math.prod(map(len, self.vary.values()))  # `len` itself cannot be as large as that may
        if count > MOST_POINTS:
            raise ScenarioError(
                f"the sweep has {count:,} points; the limit is {MOST_POINTS:,}. Give fewer values."
            )

    def __len__(self) -> int:
        return math.prod(map(len, self.vary.values()))

    def keys(self, index: int) -> dict[str, Any]:
        """Return the combination at a place of the sweep, counted from 0."""
        found = {}
        for key, values in reversed(list(self.vary.items())):
            index, place = divmod(index, len(values))
            found[key] = values[place]
        return dict(reversed(list(found.items())))

    def about(self) -> dict[str, Any]:
        """Return what a table of its rows says of itself, so that each can be run again."""
        return {"scenario": to_query(self.scenario), "vary": list(self.vary), "version": __version__}

    def digest(self) -> str:
        """Return a digest of what the rows follow from: scenario, values, trace, profile and program."""
        stated = [__version__, _program_digest(), self.scenario.as_dict(), list(self.vary.items())]
        found = hashlib.sha256(json.dumps(stated, default=str).encode())
        for part in _flat((self.trace, self.profile)):
            found.update(part)
        return found.hexdigest()


def _flat(value: object) -> Iterator[bytes]:
    """Yield what a record of records, arrays and plain values holds."""
    if isinstance(value, np.ndarray):
        yield str((value.dtype, value.shape)).encode() + value.tobytes()
    elif is_dataclass(value):
        yield from _flat([getattr(value, field.name) for field in fields(value)])
    elif isinstance(value, (tuple, list)):
        yield str(len(value)).encode()
        for item in value:
            yield from _flat(item)
    else:
        yield repr(value).encode()


@cache
def _program_digest() -> str:
    """Return a digest of the program and its presets: another version answers otherwise."""
    found = hashlib.sha256()
    presets = _PROGRAM.parent / "presets"
    for path in sorted([*_PROGRAM.rglob("*.py"), *presets.rglob("*.toml"), *presets.rglob("*.csv")]):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()
