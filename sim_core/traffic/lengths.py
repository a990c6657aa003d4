"""Lengths of prompts and answers: the classes of a scenario's mix, and what is drawn of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim_core.scenario.lengths import LengthClass, Lognormal
from sim_core.scenario.mixes import FLAT_CLASS, parse_mix
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.units import CLASSES, OUTPUTS, PROMPTS, unit


def length_classes(scenario: Scenario) -> tuple[LengthClass, ...]:
    """Return the classes of the scenario's mix, with the flat keys filled in."""
    prompt = Lognormal(scenario.prompt_tokens, scenario.prompt_cv)
    output = Lognormal(scenario.output_tokens, scenario.output_cv)
    if not scenario.mix.strip():
        return (LengthClass(FLAT_CLASS, 1.0, prompt, output),)
    return tuple(
        replace(item, prompt=prompt, output=output) if item.name == FLAT_CLASS else item
        for item in parse_mix(scenario.mix)
    )


def class_ids(classes: tuple[LengthClass, ...], seed: int, requests: int) -> np.ndarray:
    """Return the class of each request."""
    if len(classes) == 1:
        return np.zeros(requests, dtype=np.int64)
    edges = np.cumsum([item.weight for item in classes])
    chosen = np.searchsorted(edges[:-1] / edges[-1], unit(CLASSES, seed, requests), side="right")
    return chosen.astype(np.int64, copy=False)


def normals(seed: int, requests: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard normals from which prompt and output lengths are made."""
    return unit(PROMPTS, seed, requests), unit(OUTPUTS, seed, requests)


def lengths_by_class(
    classes: tuple[LengthClass, ...], class_id: np.ndarray, prompt_z: np.ndarray, output_z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return prompt and output tokens of each request, from its class and its standard normals."""
    if len(classes) == 1:
        return classes[0].draw(prompt_z, output_z)
    prompt_tokens, output_tokens = np.empty(len(class_id), np.int64), np.empty(len(class_id), np.int64)
    for number, item in enumerate(classes):
        mine = np.flatnonzero(class_id == number)
        prompt_tokens[mine], output_tokens[mine] = item.draw(prompt_z[mine], output_z[mine])
    return prompt_tokens, output_tokens
