"""Changes of a scenario: values from text, checked, and what else a change means."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from sim_core.catalogue.models import OWN
from sim_core.catalogue.reader import listed_by
from sim_core.fields.errors import check_known
from sim_core.fields.field import FieldInfo, check
from sim_core.scenario.mixes import has_flat_class
from sim_core.scenario.scenario import DIMENSIONS, FIELDS, SPECS, Scenario, set_by_engine

NO_SPEED = ("hbm_gb", "tdp_w", "price_usd_per_hour")  # specs on which the time of a step does not depend
FLAT_LENGTHS = frozenset({"prompt_tokens", "prompt_cv", "output_tokens", "output_cv"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


# Text to values, strictly


def parse_value(key: str, text: str) -> Any:
    """Return the value of one key from text, checked; `none` takes an override back to the preset's value.

    Raises
    ------
    ScenarioError
        If the key is unknown, or the value is not of its type, outside its limits or an unknown id.
    """
    check_known([key], FIELDS, listed_by("keys"))
    return value_of(key, text, FIELDS[key])


def value_of(name: str, text: str, info: FieldInfo) -> Any:
    """Return a value from text by its description, checked."""
    value = _typed(text, info)
    check(name, value, info)
    return value


def _typed(text: str, info: FieldInfo) -> Any:
    """Return text as the kind the key wants; text that is no number stays text, for the check to refuse."""
    if info.kind is str:
        return text
    word = text.strip()
    if info.optional and word == "none":
        return None
    if len(word) > 40 or not _NUMBER.fullmatch(word):
        return float(word) if word.lower().lstrip("+-") in ("nan", "inf", "infinity") else text
    number = float(word)
    if info.kind is int and number.is_integer():
        return int(word) if word.lstrip("+-").isdigit() else int(number)
    return number


def with_changes(scenario: Scenario, /, **changes: object) -> Scenario:
    """Return the scenario with some keys changed, as a person means it.

    Six rules beyond `Scenario.replace`, all overruled by naming the key itself:

    - A flat length (`prompt_tokens`, `prompt_cv`, `output_tokens`, `output_cv`) is meant to count: a mix
      without the class `flat` is set back to the one flat class.
    - Another `accelerator` comes with its own specs, another `model` with its own dimensions: overrides
      of the old one are dropped.
    - A model of one's own (`own_model`) is meant to be the model; another `model` drops it.
    - Another `engine` comes with the rules that it sets; two pools stay two pools.
    - Measured step times hold for what they were measured on: another model, device, layout or precision
      drops the `step_profile`, and the calibration predicts again.
    - The bands of an engine of one's own (`own_bands`) go with it.

    Raises
    ------
    ScenarioError
        If a key is unknown or a value cannot be used.
    """
    check_known(changes, FIELDS, listed_by("keys"))
    for key, value in changes.items():
        check(key, value, FIELDS[key])
    implied: dict[str, Any] = {}
    if FLAT_LENGTHS & changes.keys() and not has_flat_class(scenario.mix):
        implied["mix"] = ""
    for key, overrides in (("accelerator", SPECS), ("model", DIMENSIONS), ("own_model", DIMENSIONS)):
        if changes.get(key, getattr(scenario, key)) != getattr(scenario, key):
            implied |= dict.fromkeys(overrides)
    if changes.get("own_model"):
        implied["model"] = OWN
    elif changes.get("model", OWN) != OWN:
        implied["own_model"] = ""
    if changes.get("engine", scenario.engine) != scenario.engine:
        implied |= set_by_engine(str(changes["engine"])) | (
            {"policy": scenario.policy} if scenario.split else {}
        )
    if scenario.step_profile and any(changes.get(key, old) != old for key, old in _measured_on(scenario)):
        implied["step_profile"] = ""
    now = implied | changes
    if scenario.own_bands and any(now.get(key, old) != old for key, old in _of_own_engine(scenario)):
        implied["own_bands"] = ""
    return scenario.replace(**(implied | changes))


def _of_own_engine(scenario: Scenario) -> list[tuple[str, Any]]:
    return [(key, getattr(scenario, key)) for key in ("calibration", "constants", "step_profile")]


def with_engine(scenario: Scenario, name: str, given: Collection[str] = ()) -> Scenario:
    """Return the scenario on an engine that a measurement names; what has been set by hand stays as it is.

    That is another engine, and each rule that an engine sets but that differs from the default or is among
    the keys that were `given`.
    """
    if not name or scenario.engine or "engine" in given:
        return scenario
    set_by_hand = {*given, *scenario.changed()}
    own = {key: getattr(scenario, key) for key in set_by_engine("") if key in set_by_hand}
    return with_changes(scenario, engine=name, **own)


def _measured_on(scenario: Scenario) -> list[tuple[str, Any]]:
    """Return the keys, with their values, that decide how long a step takes."""
    keys = ("model", "own_model", *DIMENSIONS, "accelerator", *(key for key in SPECS if key not in NO_SPEED))
    keys += ("tensor_parallel", "expert_parallel", "weight_dtype", "kv_dtype", "calibration", "constants")
    return [(key, getattr(scenario, key)) for key in keys]
