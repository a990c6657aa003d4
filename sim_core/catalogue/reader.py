"""Presets: TOML files to checked, read-only dataclasses.

The file name is the id. Numbers stand in the units a datasheet prints; the conversion to base units
happens here, once, in properties such as `Accelerator.hbm_byte_per_s`.
"""

from __future__ import annotations

import dataclasses
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sim_core.fields.errors import ScenarioError, did_you_mean, shown
from sim_core.fields.field import FieldInfo
from sim_core.fields.field import check as check_value

PRESETS = Path(__file__).parent.parent.parent / "presets"
MAX_QUANTILES = 256
Preset = TypeVar("Preset")


def key_of(kind: type, help: str, *, default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """Return a dataclass field that carries its limits; a key without a default must be in the file."""
    info = FieldInfo(kind, "", help, optional=default is None, **limits)
    return dataclasses.field(default=default, metadata={"info": info})


def text_key(help: str, default: Any = dataclasses.MISSING, choices: tuple[str, ...] = ()) -> Any:
    return key_of(str, help, default=default, choices=choices)


def rate_key(help: str, unit: str, high: float, default: Any = None) -> Any:
    return key_of(float, help, default=default, unit=unit, low=0.0, high=high)


def count_key(help: str, high: int = 10_000_000, low: int = 0, default: Any = 0) -> Any:
    return key_of(int, help, default=default, low=low, high=high)


def required_count(help: str, high: int) -> Any:
    return key_of(int, help, low=1, high=high)


def tokens_key(help: str) -> Any:
    return key_of(float, help, unit="tokens", low=0.0, high=1e7)


def limit_ms_key(help: str) -> Any:
    return key_of(float, help, unit="ms", low=0.0, high=1e8)


def ratio_key(help: str) -> Any:
    return key_of(float, help, default=None, low=0.0, high=100.0, zero=True)


def texts_key(help: str) -> Any:
    return key_of(list, help)


def preset_ids(kind: str) -> tuple[str, ...]:
    """Return the ids of one kind of preset, from the file names alone, in alphabetical order."""
    return _ids_in(PRESETS / kind)


@cache
def _ids_in(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def build_tables(preset: type[Preset], name: str, rows: Any) -> tuple[Preset, ...]:
    """Return a list of TOML tables as checked dataclasses."""
    if not isinstance(rows, list):
        raise ScenarioError(f"{shown(rows)} must be a list of tables.")
    return tuple(build_preset(preset, f"{name}-{index}", row) for index, row in enumerate(rows))


def load_preset(kind: str, name: str, preset: type[Preset]) -> Preset:
    """Return one preset of `kind`, checked."""
    data = read_preset(kind, name)
    with naming_file(kind, name):
        return build_preset(preset, name, data)


def read_preset(kind: str, name: str) -> dict[str, Any]:
    """Return the keys of one preset file; `name` is looked up among the known ids, never used as a path."""
    known = preset_ids(kind)
    if name not in known:
        raise ScenarioError(
            f"unknown {kind[:-1]} {shown(name)}. {did_you_mean(str(name)[:100], known)} "
            f"`python -m sim_core list {kind}` shows all."
        )
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

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ScenarioError):
            raise ScenarioError(f"{self.file}: {error}") from None


def build_preset(preset: type[Preset], name: str, data: dict[str, Any]) -> Preset:
    """Return a preset dataclass from the keys of its file; unknown, missing and wrong keys are errors."""
    fields = {field.name: field for field in dataclasses.fields(preset) if "info" in field.metadata}
    unknown = [key for key in data if key not in fields]
    if unknown:
        raise ScenarioError(f"unknown key {shown(unknown[0])}. {did_you_mean(unknown[0], fields)}")
    missing = [key for key, field in fields.items() if _is_required(field) and key not in data]
    if missing:
        raise ScenarioError(f"the key {missing[0]} is missing; add it.")
    return preset(id=name, **{key: _value(key, data[key], fields[key].metadata["info"]) for key in data})


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(key: str, value: Any, info: FieldInfo) -> Any:
    """Return one value of a preset file, checked and in its final type."""
    if info.kind is bool:
        if not isinstance(value, bool):
            raise ScenarioError(f"{key} is {shown(value)}; it must be true or false.")
        return value
    if info.kind is tuple:
        return _numbers(key, value, info)
    if info.kind is list:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ScenarioError(f"{key} is {shown(value)}; it must be a list of texts.")
        return tuple(value)
    check_value(key, value, info)
    return float(value) if info.kind is float else value


def _numbers(key: str, value: Any, info: FieldInfo) -> tuple[float, ...]:
    """Return a list of numbers of a preset file as a tuple of floats."""
    if not isinstance(value, list) or len(value) > MAX_QUANTILES:
        raise ScenarioError(f"{key} is {shown(value)}; it must be a list of at most {MAX_QUANTILES} numbers.")
    entry = dataclasses.replace(info, kind=float, optional=False)
    for position, number in enumerate(value):
        check_value(f"{key}[{position}]", number, entry)
    return tuple(float(number) for number in value)
