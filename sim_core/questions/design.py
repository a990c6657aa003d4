"""An accelerator of one's own: where it starts, over how many devices it spreads a model, rivals, file.

A design is a scenario whose specs differ from its accelerator's datasheet, so that links, files and engine
need nothing new. Two kinds differ in what their memory is. A GPU-like part has HBM; its on-chip memory is a
cache too small for weights, and no part of the model. An SRAM part has on-chip memory only: the memory keys
(`hbm_gb`, `hbm_gb_per_s`) are its SRAM, weights and KV cache lie wholly in it, and a model is spread over as
many devices as that takes. Nothing is faster than bytes / bandwidth, as everywhere.

Assumptions
-----------
- A part that prints int8 figures only is given its int8 peak as fp8 and half of it as bf16 to start from.
- Devices of a group share each layer (tensor parallelism), so there are at most as many as attention heads;
  SRAM parts in service also form pipelines of hundreds of devices, which are not modelled.
- An all-reduce takes a fixed latency whatever the number of devices, beside its bytes over the link: fitted
  on groups of up to `fitted_devices`, optimistic beyond, where latency grows with the number of devices.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sim_core import catalogue
from sim_core.catalogue.accelerators import Accelerator
from sim_core.evidence.coverage import coverage
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import toml_text
from sim_core.price.memory import DoesNotFit, memory
from sim_core.price.work import group_sizes
from sim_core.questions.hardware import attention_kind, sequence_bytes
from sim_core.questions.phases import largest_batch
from sim_core.scenario.scenario import SPECS, Scenario, accelerator_of, model_of
from sim_core.traffic.draws import mean_lengths

GPU, SRAM = "gpu", "sram"
STARTS = {GPU: "h100-sxm", SRAM: "corsair"}  # what each kind starts from unless another part is chosen
RIVALS = 5  # real parts beside a design
# A group that divides every layer: what is left of other layouts where it is sought how large it must be.
ONE_GROUP = MappingProxyType({"attention_data_parallel": 1, "pipeline_parallel": 1, "context_parallel": 1})


# --- where a design starts ------------------------------------------------------------------------


def kind(scenario: Scenario) -> str:
    """Return which kind of part a design is: it follows the part that it started from."""
    return SRAM if catalogue.accelerator(scenario.accelerator).memory_on_chip else GPU


def starts(kind: str) -> list[str]:
    """Return the parts from which a design of a kind can start."""
    return [name for name, part in catalogue.accelerators().items() if part.memory_on_chip == (kind == SRAM)]


def start_keys(scenario: Scenario, name: str) -> dict[str, Any]:
    """Return the keys that make a part's datasheet the design; an SRAM part is spread as `spread` says."""
    changes = {"accelerator": name} | dict.fromkeys(SPECS) | assumed_peaks(catalogue.accelerator(name))
    return changes | spread_out(scenario.replace(**changes))


def assumed_peaks(part: Accelerator) -> dict[str, float]:
    """Return the peaks a part is given to start from where only int8 is printed: fp8 alike, bf16 half."""
    printed = (part.bf16_tflop_per_s, part.fp8_tflop_per_s, part.fp4_tflop_per_s)
    if any(printed) or part.int8_top_per_s is None:
        return {}
    return {"bf16_tflop_per_s": part.int8_top_per_s / 2, "fp8_tflop_per_s": part.int8_top_per_s}


# --- over how many devices ------------------------------------------------------------------------


class Spread(NamedTuple):
    """Over how many devices a model is spread so that the memory holds it all.

    Attributes
    ----------
    sequences, sequence_tokens : int
        What must have room at once: the batch limit, each of them a mean prompt with its answer.
    needed_gb : float
        Weights and their KV cache, once. [GB]
    usable_gb : float
        What the engine may use of one device. [GB]
    at_least : int
        Needed over usable, rounded up.
    devices : int
        The smallest group that holds it all; 0 if none does.
    most : int
        The largest group that divides the model.
    room : int
        Sequences for which `devices`, or `most`, have room; 0 where not even the weights fit.
    device_gb : float
        Memory that a device of `most` would need. [GB]
    """

    sequences: int
    sequence_tokens: int
    needed_gb: float
    usable_gb: float
    at_least: int
    devices: int
    most: int
    room: int
    device_gb: float


def spread(scenario: Scenario) -> Spread:
    """Return over how many devices the scenario's model is spread, as one group and by bytes alone.

    Raises
    ------
    ScenarioError
        If no group of devices divides the model.
    """
    scenario = scenario.replace(**ONE_GROUP)
    model, part = model_of(scenario), accelerator_of(scenario)
    tokens = min(math.ceil(sum(mean_lengths(scenario))), model.max_position)
    sequences, kind = scenario.max_running, attention_kind(model)
    whole = scenario.replace(tensor_parallel=1, expert_parallel=1, redundant_experts=0)
    kv_gb = sequences * float(sequence_bytes(whole, kind, tokens)) / 1e9
    needed_gb, usable_gb = memory(whole)["weights_gb"] + kv_gb, part.hbm_gb * scenario.kv_memory_frac
    groups = group_sizes(model, scenario.expert_parallel)
    if not groups:
        raise ScenarioError(
            f"no group of devices divides {model.name}'s {model.heads} attention heads and is a multiple of "
            f"expert_parallel, {scenario.expert_parallel}. Choose another expert_parallel."
        )
    rooms = {devices: _room(scenario.replace(tensor_parallel=devices), tokens) for devices in groups}
    devices = next((size for size in groups if rooms[size] >= sequences), 0)
    widest = scenario.replace(tensor_parallel=groups[-1])
    held = memory(widest)
    copies_gb = sequences * float(sequence_bytes(widest, kind, tokens)) / 1e9
    beside_gb = held["activations_gb"] + held["context_gb"]
    device_gb = (held["weights_gb"] + beside_gb + copies_gb) / groups[-1]
    return Spread(
        sequences,
        tokens,
        needed_gb,
        usable_gb,
        math.ceil(needed_gb / usable_gb),
        devices,
        groups[-1],
        rooms[devices or groups[-1]],
        device_gb / scenario.kv_memory_frac,
    )


def _room(scenario: Scenario, tokens: int) -> int:
    """Return for how many sequences of a length there is room; 0 where the weights do not fit."""
    try:
        return largest_batch(scenario, tokens)
    except DoesNotFit:
        return 0


def spread_out(scenario: Scenario) -> dict[str, Any]:
    """Return the keys that spread an SRAM part over the devices it takes, or over all there can be."""
    return {} if kind(scenario) == GPU else _group(scenario)


def _group(scenario: Scenario) -> dict[str, Any]:
    """Return the keys of the smallest group that holds it all, or of the largest; none if no group is."""
    try:
        found = spread(scenario)
    except ScenarioError:
        return {}
    return {**ONE_GROUP, "tensor_parallel": found.devices or found.most}


def is_own(scenario: Scenario) -> bool:
    """Return whether a design differs from the part that it started from."""
    sheet = assumed_peaks(catalogue.accelerator(scenario.accelerator))
    return any(getattr(scenario, key) != sheet.get(key) for key in SPECS)


def fitted_devices() -> int:
    """Return the largest tensor-parallel group among the measurements the calibration was fitted to."""
    return max(coverage().tensor_parallel.values())


# --- its rivals -----------------------------------------------------------------------------------


def rivals(scenario: Scenario, names: Sequence[str]) -> list[Scenario]:
    """Return real parts, as sold, in the same scenario; the design itself, where it is one, is left out.

    Beside a GPU-like design they have its layout; an SRAM part, or any part beside one, has the smallest
    group that holds the model and its batch. Step times measured on the design are not theirs.
    """
    others = [name for name in names if name != scenario.accelerator or is_own(scenario)]
    sold = scenario.replace(**dict.fromkeys(SPECS), step_profile="")
    found = [sold.replace(accelerator=name, **assumed_peaks(catalogue.accelerator(name))) for name in others]
    return [_laid_out(rival, kind(scenario)) for rival in found][:RIVALS]


def _laid_out(rival: Scenario, beside: str) -> Scenario:
    if beside == kind(rival) == GPU:
        return rival
    return rival.replace(**_group(rival))


# --- as a file ------------------------------------------------------------------------------------


def part_of(scenario: Scenario) -> Accelerator:
    """Return the design as a part of its own: its specs, and from what it started."""
    base, part = catalogue.accelerator(scenario.accelerator), accelerator_of(scenario)
    changed = [key for key in SPECS if getattr(scenario, key) is not None]
    return dataclasses.replace(
        part,
        id="own-design",
        name=f"Own design from {base.name}",
        vendor="own",
        confidence="low",
        announced=True,
        source=f"designed in Batchscope from {base.name} ({base.source})",
        notes=f"changed: {', '.join(changed)}" if changed else "",
    )


def part_toml(part: Accelerator) -> str:
    """Return a part as a file of `presets/accelerators`; keys that are not known are left out."""
    lines = []
    for field in dataclasses.fields(Accelerator):
        value = getattr(part, field.name)
        if field.name == "id" or value is None or value == "":
            continue
        text = toml_text(value) if isinstance(value, str) else str(value).lower()
        lines.append(f"{field.name} = {text}")
    return "\n".join(lines) + "\n"
