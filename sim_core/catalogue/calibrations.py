"""Calibrations: the global constants that turn peak rates into a real engine's, with bounds and origin.

Files in `presets/calibrations`: `datasheet`, where achieved = peak; `typical`, fitted once over all models
and accelerators together by `benchmarks/validate.py --fit`, never per row; `submission`, for tuned benchmark
entries. A scenario may put constants of its own in their place (`layer:9.5,weight_read:0.71`), within wider
limits: an engine may be slower than any that the files rest on, but never faster than the datasheet.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from sim_core.fields.described import build, described
from sim_core.fields.errors import ScenarioError, did_you_mean, shown
from sim_core.fields.field import FieldInfo, check, is_within

CONSTANTS_EXAMPLE = "layer:9.5,weight_read:0.71"
NAMES = ("typical", "datasheet", "submission")
CALIBRATIONS = Path(__file__).parent.parent.parent / "presets" / "calibrations"
UNITS = MappingProxyType({"us": 1e-6, "ms": 1e-3, "frac": 1.0, "tokens": 1.0, "passes": 1.0, "times": 1.0})
OWN_LIMITS = MappingProxyType(  # of constants of one's own, by unit; fractions stay at or below the datasheet
    {
        "frac": (0.01, 1.2),
        "us": (0.0, 1e5),
        "ms": (0.0, 1e4),
        "tokens": (0.0, 4096.0),
        "passes": (0.1, 100.0),
        "times": (0.02, 50.0),
    }
)


class Constants(NamedTuple):
    """The global constants of a calibration, in base units: fractions, tokens, passes, factors, seconds.

    Those that may be None stand in the place of a measured kernel's, for all kernels alike; None leaves
    each its own (`presets/kernels`). Factors lengthen what the kernels take: 1 = as measured.
    """

    weight_read_frac: float | None
    kv_read_frac: float | None
    bf16_frac: float | None
    fp8_frac: float | None
    fp4_frac: float | None
    attention_frac: float | None
    fill_tokens: float | None
    link_frac: float | None
    collective_s: float | None
    reads_times: float
    dense_times: float
    experts_times: float
    contexts_times: float
    launches_times: float
    links_times: float
    activation_passes: float
    pcie_frac: float
    expert_imbalance_frac: float
    layer_s: float
    latent_layer_s: float
    eager_layer_s: float
    collective_gap_s: float
    step_s: float
    rank_sync_s: float
    sequence_s: float
    draft_s: float
    draft_sequence_s: float
    prefill_request_s: float
    prefill_layer_s: float
    prefill_step_layer_s: float
    request_before_s: float
    prompt_token_before_s: float
    request_after_s: float


GONE = ("expert_half_width", "moe_layer", "expert", "expert_product")  # of former links; kernels tell them


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One constant as the calibration file states it, with its physical bounds and its origin."""

    name: str = described("Name, without its unit")
    value: float | None = described("Value; none: each kernel's own, as measured", None, zero=True)
    low: float = described("Lowest physical value")
    high: float = described("Highest physical value")
    unit: str = described("Unit", choices=tuple(UNITS))
    meaning: str = described("What it is")
    source: str = described("Where it comes from")

    @property
    def field(self) -> str:
        """Its name among `Constants`, with its base unit."""
        return f"{self.name}_s" if self.unit in ("us", "ms") else f"{self.name}_{self.unit}"

    @property
    def base(self) -> float | None:
        """Its value in base units."""
        return None if self.value is None else self.value * UNITS[self.unit]

    @property
    def stated(self) -> float:
        """Its value, of a constant that has one."""
        if self.value is None:
            raise ScenarioError(f"{self.name} has no value: each kernel has its own, as measured.")
        return self.value

    @property
    def info(self) -> FieldInfo:
        """What is known about its value, as about that of any other field."""
        return FieldInfo(float, "method", self.meaning, unit=self.unit, low=self.low, high=self.high)

    @property
    def own_info(self) -> FieldInfo:
        """What is known about a value of one's own: the limits of its unit, a share of peak at most 1."""
        low, high = OWN_LIMITS[self.unit]
        high = max(self.high, 1.0) if self.unit == "frac" else high
        return dataclasses.replace(self.info, low=low, high=high)


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


@lru_cache(maxsize=64)
def calibration(name: str, own: str = "") -> Calibration:
    """Return a calibration from `presets/calibrations`, checked against its own bounds.

    Parameters
    ----------
    name : str
    own : str, optional
        Constants in place of the file's, as a scenario's `constants` holds them.

    Raises
    ------
    ScenarioError
        If there is no such calibration, or its file misses a constant or breaks a bound, or `own` does.
    """
    if own:
        return with_constants(calibration(name), parse_constants(own))
    path = CALIBRATIONS / f"{name}.toml"
    if not path.is_file():
        raise ScenarioError(f"there is no calibration {name!r}. Choose typical, submission or datasheet.")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    constants = tuple(build(Constant, row) for row in table["constants"])
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


def with_constants(chosen: Calibration, own: Mapping[str, float]) -> Calibration:
    """Return a calibration with some constants replaced, and with limits for one's own on these.

    Those that are `GONE` are passed over; `constants_note` says so.

    Raises
    ------
    ScenarioError
        If a constant is unknown or its value lies outside the limits of its `own_info`.
    """
    names = [constant.name for constant in chosen.constants]
    for name in own:
        if name not in (*names, *GONE):
            raise ScenarioError(f"constants names {shown(name)}. {did_you_mean(name[:60], names)}")
    constants = tuple(
        _own(constant, own[constant.name]) if constant.name in own else constant
        for constant in chosen.constants
    )
    base = _base_units(chosen.name, constants)
    return dataclasses.replace(chosen, constants=constants, base=base)


def constants_note(own: Mapping[str, float]) -> str:
    """Return that some constants of one's own no longer count; "" where all do."""
    gone = [name for name in GONE if name in own]
    if not gone:
        return ""
    verb = "is" if len(gone) == 1 else "are"
    return (
        f"{', '.join(gone)} of `constants` {verb} left out: what experts take is measured by kernel now. "
        "Factors on it are `experts` and `launches`."
    )


def _own(constant: Constant, value: float) -> Constant:
    info = constant.own_info
    if not is_within(value, info):
        raise ScenarioError(
            f"constants sets {constant.name} to {value:g} {info.unit}; "
            f"it must lie between {info.low:g} and {info.high:g} {info.unit}."
        )
    return dataclasses.replace(constant, value=value, low=info.low, high=info.high, source="your own")


def parse_constants(text: str) -> dict[str, float]:
    """Return the constants of a text such as `layer:9.5,weight_read:0.71`.

    Raises
    ------
    ScenarioError
        If an entry has another form, is no finite number, or stands there twice.
    """
    found: dict[str, float] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, mark, number = entry.partition(":")
        try:
            value = float(number) if len(number) < 30 else math.nan
        except ValueError:
            value = math.nan
        if not mark or not math.isfinite(value):
            raise ScenarioError(
                f"constants has the entry {shown(entry)}; write NAME:NUMBER, such as {CONSTANTS_EXAMPLE!r}."
            )
        if name in found:
            raise ScenarioError(f"constants sets {shown(name)} twice; keep one.")
        found[name] = value
    return found


@lru_cache(maxsize=64)
def check_constants(text: str) -> None:
    """Raise a `ScenarioError` unless a text holds constants that may stand in a calibration's place."""
    with_constants(calibration("typical"), parse_constants(text))


def write_constants(own: Mapping[str, float], digits: int = 4) -> str:
    """Return constants as the text that `parse_constants` reads.

    Examples
    --------
    >>> write_constants({"layer": 9.5, "weight_read": 0.7123456})
    'layer:9.5,weight_read:0.7123'
    """
    return ",".join(f"{name}:{value:.{digits}g}" for name, value in own.items())


def _base_units(name: str, constants: tuple[Constant, ...]) -> Constants:
    """Return the constants in base units; each must be known, present and within its bounds."""
    values: dict[str, float | None] = {}
    for constant in constants:
        if constant.value is not None:
            check(f"calibration {name}: {constant.name}", constant.value, constant.info)
        values[constant.field] = constant.base
    wrong = sorted(set(values) ^ set(Constants._fields))
    if wrong:
        raise ScenarioError(f"calibration {name}: {wrong[0]} is missing or unknown.")
    return Constants(**values)  # type: ignore[arg-type]  # None where kernels have their own
