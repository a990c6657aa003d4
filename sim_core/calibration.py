"""Calibrations: the global constants that turn peak rates into a real engine's, with bounds and origin.

Two files in `presets/calibrations`: `datasheet`, where achieved = peak, and `typical`, fitted once over all
models and accelerators together by `benchmarks/fit_typical.py`, never per row.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from sim_core.scenario import ScenarioError

CALIBRATIONS = Path(__file__).parent.parent / "presets" / "calibrations"
UNITS = MappingProxyType({"us": 1e-6, "ms": 1e-3, "frac": 1.0, "tokens": 1.0, "passes": 1.0, "columns": 1.0})


class Constants(NamedTuple):
    """The global constants of a calibration, in base units: fractions of peak, tokens, passes, seconds."""

    weight_read_frac: float
    kv_read_frac: float
    bf16_frac: float
    fp8_frac: float
    fp4_frac: float
    expert_half_width_columns: float
    attention_frac: float
    fill_tokens: float
    activation_passes: float
    link_frac: float
    pcie_frac: float
    expert_imbalance_frac: float
    layer_s: float
    latent_layer_s: float
    moe_layer_s: float
    expert_s: float
    collective_s: float
    step_s: float
    sequence_s: float
    prefill_request_s: float
    request_before_s: float
    request_after_s: float


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant as the calibration file states it, with its physical bounds and its origin."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    meaning: str
    source: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """A named set of constants, with the data they rest on and their cross-validated errors.

    Attributes
    ----------
    constants : tuple of Constant
        For display, in the units of the file.
    base : Constants
        The same values in base units, for the formulas.
    smooth : bool
        True: (a^4 + b^4)^(1/4) of compute and memory time; False: the plain maximum.
    errors : mapping of str to mapping
        Error tables by name, as the file states them; empty when nothing was fitted.
    """

    name: str
    title: str
    description: str
    date: str
    data: str
    smooth: bool
    constants: tuple[Constant, ...]
    base: Constants
    errors: MappingProxyType[str, Any]


@lru_cache(maxsize=8)
def calibration(name: str) -> Calibration:
    """Return a calibration from `presets/calibrations`, checked against its own bounds.

    Raises
    ------
    ScenarioError
        If there is no such calibration, or its file misses a constant or breaks a bound.
    """
    path = CALIBRATIONS / f"{name}.toml"
    if not path.is_file():
        raise ScenarioError(f"there is no calibration {name!r}. Choose typical, submission or datasheet.")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    constants = tuple(Constant(**row) for row in table["constants"])
    return Calibration(
        name=name,
        title=table["title"],
        description=table["description"],
        date=table["date"],
        data=table["data"],
        smooth=table["smooth"],
        constants=constants,
        base=_base_units(name, constants),
        errors=MappingProxyType(table.get("errors", {})),
    )


def _base_units(name: str, constants: tuple[Constant, ...]) -> Constants:
    """Return the constants in base units; each must be known, present and within its bounds."""
    values = {}
    for constant in constants:
        if not constant.low <= constant.value <= constant.high:
            raise ScenarioError(
                f"calibration {name}: {constant.name} is {constant.value} {constant.unit}; "
                f"its bounds are {constant.low} to {constant.high}."
            )
        field = f"{constant.name}_s" if constant.unit in ("us", "ms") else f"{constant.name}_{constant.unit}"
        values[field] = constant.value * UNITS[constant.unit]
    wrong = sorted(set(values) ^ set(Constants._fields))
    if wrong:
        raise ScenarioError(f"calibration {name}: {wrong[0]} is missing or unknown.")
    return Constants(**values)
