"""Mixes: traffic classes and their weights as one line of text, such as `chat:0.7,rag:0.3`."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

from sim_core import catalogue
from sim_core.fields.errors import ScenarioError, did_you_mean, shown
from sim_core.scenario.lengths import (
    MOST_CV,
    MOST_TOKENS,
    UNKNOWN,
    LengthClass,
    Lengths,
    Lognormal,
    Quantiles,
    UniformIntegers,
)

MIX_EXAMPLE = "chat:0.7,rag:0.3"
LIMITS_EXAMPLE = "chat:1000/30,rag:5000/50"
HIGHEST_LIMIT_MS = 1e8
FLAT_CLASS = "flat"
MAX_CLASSES = 8
MAX_WEIGHT = 1e9
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_LENGTH = re.compile(rf"(?P<low>[0-9]+)\.\.(?P<high>[0-9]+)|(?P<mean>{_NUMBER})(?:~(?P<cv>{_NUMBER}))?")
_LENGTH_FORMS = "1024 (fixed), 512..1024 (uniform) or 1000~0.8 (lognormal, mean~cv)"


def mix_classes(text: str) -> tuple[LengthClass, ...]:
    """Return the classes of a mix, none for a blank one (the one class of the flat lengths).

    Raises
    ------
    ScenarioError
        As `parse_mix`.
    """
    return parse_mix(text) if text.strip() else ()


class ClassLimits(NamedTuple):
    """The latency limits of one class of traffic. [ms]"""

    ttft_ms: float
    tpot_ms: float


@lru_cache(maxsize=256)
def class_limits(text: str) -> tuple[tuple[str, ClassLimits], ...]:
    """Return the limits of classes such as `chat:1000/30,rag:5000/50`, each `CLASS:TTFT_MS/TPOT_MS`.

    Raises
    ------
    ScenarioError
        If the text does not follow that form, or names a class twice.
    """
    entries = [entry.strip() for entry in text.split(",")] if text.strip() else []
    if len(entries) > MAX_CLASSES:
        raise ScenarioError(f"class_limits has {len(entries):,} classes; the limit is {MAX_CLASSES}.")
    found = dict(map(_limits_of_class, entries))
    if len(found) < len(entries):
        raise ScenarioError("class_limits names a class twice; give each its limits once.")
    return tuple(found.items())


def _limits_of_class(entry: str) -> tuple[str, ClassLimits]:
    name, _, text = entry.rpartition(":")
    parts = text.split("/")
    if not name or len(parts) != 2 or not all(re.fullmatch(_NUMBER, part.strip()) for part in parts):
        raise ScenarioError(
            f"class_limits has {shown(entry)}; write CLASS:TTFT_MS/TPOT_MS, such as {LIMITS_EXAMPLE}."
        )
    limits = ClassLimits(*(float(part) for part in parts))
    if not all(0 < limit <= HIGHEST_LIMIT_MS for limit in limits):
        raise ScenarioError(
            f"class_limits gives {shown(name)} the limits {shown(text)}; each must lie above 0 and up to "
            f"{HIGHEST_LIMIT_MS:,.0f} ms."
        )
    return name.strip(), limits


def class_names(mix: str) -> tuple[str, ...]:
    """Return the names of the classes of a mix; of a blank one, that of the flat lengths."""
    return tuple(item.name for item in mix_classes(mix)) or (FLAT_CLASS,)


def limits_in(text: str, mix: str) -> str:
    """Return the limits of those classes that a mix has."""
    names = class_names(mix)
    return ",".join(entry for entry in text.split(",") if entry.rpartition(":")[0].strip() in names)


def has_flat_class(text: str) -> bool:
    """Return whether a mix has the class of the flat lengths."""
    return any(item.name == FLAT_CLASS for item in mix_classes(text))


@lru_cache(maxsize=256)
def parse_mix(text: str) -> tuple[LengthClass, ...]:
    """Return the classes of a mix such as `chat:0.7,rag:0.3` or `1024/256:2,512..1024/100~0.5:1`.

    Comma-separated `CLASS:WEIGHT`. A class is a workload preset, `flat` (the scenario's flat length
    keys), or `PROMPT/OUTPUT`, where each is a fixed length, `LOW..HIGH` (uniform whole numbers) or
    `MEAN~CV` (lognormal). Weights are relative; a single class needs none.

    Raises
    ------
    ScenarioError
        If the text does not follow that form, or names a preset that does not exist.
    """
    entries = text.split(",")
    if len(entries) > MAX_CLASSES:
        raise ScenarioError(f"mix has {len(entries):,} classes; the limit is {MAX_CLASSES}.")
    return tuple(_parse_class(entry.strip(), alone=len(entries) == 1) for entry in entries)


def _parse_class(entry: str, alone: bool) -> LengthClass:
    """Return one class of a mix."""
    name, colon, weight = (part.strip() for part in entry.partition(":"))
    if not name:
        raise ScenarioError(f"mix has a class without a name in {shown(entry)}; write CLASS:WEIGHT.")
    if not colon and not alone:
        raise ScenarioError(f"mix class {shown(name)} has no weight; write {name[:60]}:1 or another weight.")
    share = _parse_weight(name, weight) if colon else 1.0
    if name == FLAT_CLASS:
        return LengthClass(name, share, UNKNOWN, UNKNOWN)
    if "/" in name:
        prompt, _, output = name.partition("/")
        return LengthClass(name, share, _parse_length(name, prompt), _parse_length(name, output))
    known = catalogue.preset_ids("workloads")
    if name not in known:
        hint = did_you_mean(name[:60], (FLAT_CLASS, *known), catalogue.listed_by("workloads"))
        raise ScenarioError(
            f"unknown class {shown(name)} in mix. {hint} A class is a workload preset, flat, or "
            "PROMPT/OUTPUT such as 1024/256."
        )
    preset = catalogue.workload(name)
    return LengthClass(name, share, _side(preset, "prompt"), _side(preset, "output"), preset.rank_correlation)


def _parse_weight(name: str, text: str) -> float:
    weight = float(text) if re.fullmatch(_NUMBER, text) else math.nan
    if not 0 < weight <= MAX_WEIGHT:
        raise ScenarioError(
            f"mix class {shown(name)} has the weight {shown(text)}; it must be a number above 0 and "
            f"at most {MAX_WEIGHT:,.0f}. Leave the class out to give it none."
        )
    return weight


def _parse_length(name: str, text: str) -> Lengths:
    """Return one side of an inline class."""
    match = _LENGTH.fullmatch(text.strip())
    if match is None:
        raise ScenarioError(f"mix class {shown(name)}: {shown(text)} is no length; write {_LENGTH_FORMS}.")
    if match["low"]:
        low, high = int(match["low"]), int(match["high"])
        _check_length(name, low, "length")
        _check_length(name, high, "length")
        if low > high:
            raise ScenarioError(
                f"mix class {shown(name)}: {low}..{high} runs backwards; write {high}..{low}."
            )
        return UniformIntegers(low, high)
    mean, cv = float(match["mean"]), float(match["cv"] or 0)
    _check_length(name, mean, "length")
    _check_length(name, cv, "variation")
    return Lognormal(mean, cv)


def _check_length(name: str, value: float, what: str) -> None:
    """Raise a `ScenarioError` unless a number of an inline class lies within its limits."""
    low, high = (0.0, MOST_CV) if what == "variation" else (1, MOST_TOKENS)
    if not low <= value <= high:
        raise ScenarioError(
            f"mix class {shown(name)} has the {what} {float(value):,.6g}; "
            f"it must lie between {low:,g} and {high:,.0f}."
        )


def _side(preset: catalogue.WorkloadPreset, side: str) -> Lengths:
    """Return the prompt or output lengths of a workload preset."""
    if preset.is_empirical(side):
        return Quantiles(preset.probabilities, getattr(preset, f"{side}_quantiles"))
    return Lognormal(getattr(preset, f"{side}_tokens"), getattr(preset, f"{side}_cv"))
