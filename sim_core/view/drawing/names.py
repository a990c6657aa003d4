"""Names of scenarios side by side: what differs between them, in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sim_core import catalogue
from sim_core.catalogue.models import own_model
from sim_core.fields.texts import counted
from sim_core.questions import compare
from sim_core.scenario.scenario import FIELDS, Scenario, model_of
from sim_core.view.drawing.words import number, quantity

MOST_WORDS = 3  # inputs in a name
SAID: Mapping[str, Callable[[Any], str]] = {  # inputs that people say otherwise than by their label
    "accelerator": lambda value: catalogue.accelerator(value).name,
    "tensor_parallel": "TP {}".format,
    "expert_parallel": "EP {}".format,
    "pipeline_parallel": "PP {}".format,
    "replicas": lambda value: counted(value, "replica"),
    "weight_dtype": "{} weights".format,
    "kv_dtype": "KV {}".format,
    "max_batch": lambda value: f"batch ≤ {number(value)}",
    "concurrency": lambda value: "1 client" if value == 1 else f"{number(value)} clients",
    "prefill_workers": "{}P".format,
    "decode_workers": "{}D".format,
    "policy": lambda value: str(value).replace("_", " "),
    "spec_tokens": lambda value: counted(value, "draft") if value else "no speculation",
}


def names_of(scenarios: Sequence[Scenario]) -> list[str]:
    """Return a name for each scenario: the inputs in which they differ, those that matter most first.

    Scenarios that differ in nothing are called by their model.
    """
    differ = compare.differences(scenarios)
    keys = [*(key for key in SAID if key in differ), *(key for key in differ if key not in SAID)]
    keys = [key for key in keys if not _follows(key, keys)]
    own = _own_names(scenarios)
    return [_name(scenario, keys, own) or model_of(scenario).name for scenario in scenarios]


def _own_names(scenarios: Sequence[Scenario]) -> Mapping[str, str]:
    """Return what models of one's own are called, by their texts; those of one name are numbered."""
    found: dict[str, str] = {}
    texts = dict.fromkeys(scenario.own_model for scenario in scenarios if scenario.own_model)
    same = Counter[str]()
    for text in texts:
        name = own_model(text).name
        same[name] += 1
        found[text] = name if same[name] == 1 else f"{name} {same[name]}"
    return found


FOLLOWS: Mapping[str, tuple[str, ...]] = {  # long texts that come with another key
    "own_model": ("model",),
    "own_bands": ("calibration", "constants", "step_profile"),
}


def _follows(key: str, keys: Sequence[str]) -> bool:
    """Return whether a difference says no more than others do: the size of a run, or an own model's data."""
    return (key in ("requests", "seed") and len(keys) > 1) or any(
        other in keys for other in FOLLOWS.get(key, ())
    )


def _name(scenario: Scenario, keys: Sequence[str], own: Mapping[str, str]) -> str:
    words = [
        own.get(scenario.own_model, "")
        if key in ("model", "own_model") and scenario.own_model
        else in_words(scenario, key)
        for key in keys[:MOST_WORDS]
    ]
    more = len(keys) - MOST_WORDS
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def in_words(scenario: Scenario, key: str) -> str:
    """Return one input of a scenario in words."""
    value, info = getattr(scenario, key), FIELDS[key]
    label = (info.label or key.replace("_", " ")).lower()
    if key in ("model", "own_model"):
        return model_of(scenario).name
    if value is None or value == "":
        return f"{label} as the preset" if value is None else f"no {label}"
    if key in SAID:
        return SAID[key](value)
    if info.kind is str:
        return f"{label} {info.label_of(value)[:40]}"
    if key == "arrival_per_s":
        return quantity(value, "req/s", 4)
    return f"{label} {quantity(value, info.unit)}"
