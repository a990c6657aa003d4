"""Presets: TOML files to checked, read-only dataclasses.

The file name is the id. Numbers stand in the units a datasheet prints; the conversion to base units
happens here, once, in properties such as `Accelerator.hbm_byte_per_s`.
"""

from __future__ import annotations

import csv
import tomllib
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from sim_core.fields.described import IsDataclass, build
from sim_core.fields.errors import ScenarioError, did_you_mean, shown

PRESETS = Path(__file__).parent.parent.parent / "presets"
Preset = TypeVar("Preset", bound=IsDataclass)


def preset_ids(kind: str) -> tuple[str, ...]:
    """Return the ids of one kind of preset, from the file names alone, in alphabetical order."""
    return _ids_in(PRESETS / kind)


def check_id(kind: str, name: str, others: tuple[str, ...] = ()) -> None:
    """Raise a `ScenarioError` unless a name is the id of a preset of one kind, or one of some others."""
    known = (*others, *preset_ids(kind))
    if name not in known:
        hint = did_you_mean(name[:60], known, listed_by(kind))
        raise ScenarioError(f"unknown {kind[:-1]} {shown(name)}. {hint}")


def listed_by(kind: str) -> str:
    """Return the command that lists the presets of one kind, or the keys of a scenario."""
    return f"python -m sim_core list {kind}"


@cache
def _ids_in(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


@cache
def with_measurements(kind: str) -> tuple[str, ...]:
    """Return the models, or accelerators, with published measurements; reads one column and checks no row."""
    with (PRESETS / "validation" / "measured.csv").open(encoding="utf-8", newline="") as lines:
        return tuple(sorted({row[kind] for row in csv.DictReader(lines)}))


def build_tables(preset: type[Preset], name: str, rows: object) -> tuple[Preset, ...]:
    """Return a list of TOML tables as checked dataclasses."""
    if not isinstance(rows, list):
        raise ScenarioError(f"{shown(rows)} must be a list of tables.")
    return tuple(build(preset, row, id=f"{name}-{index}") for index, row in enumerate(rows))


def load_preset(kind: str, name: str, preset: type[Preset]) -> Preset:
    """Return one preset of `kind`, checked."""
    data = read_preset(kind, name)
    with naming_file(kind, name):
        return build(preset, data, id=name)


def read_preset(kind: str, name: str) -> dict[str, Any]:
    """Return the keys of one preset file; `name` is looked up among the known ids, never used as a path."""
    known = preset_ids(kind)
    if name not in known:
        hint = did_you_mean(str(name)[:100], known, listed_by(kind))
        raise ScenarioError(f"unknown {kind[:-1]} {shown(name)}. {hint}")
    try:
        return tomllib.loads((PRESETS / kind / f"{name}.toml").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"presets/{kind}/{name}.toml is not valid TOML: {error}.") from None


class naming_file:
    """Puts the file name in front of a `ScenarioError` raised inside."""

    def __init__(self, kind: str, name: str) -> None:
        self.file = f"presets/{kind}/{name}.toml"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, ScenarioError):
            raise ScenarioError(f"{self.file}: {error}") from None
