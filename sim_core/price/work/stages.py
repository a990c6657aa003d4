"""Pipelines: what one stage holds and does of a model whose layers are dealt to several groups of devices.

Engines deal layers evenly, so a stage holds the same share of every kind of layer, the largest one more of
them where they do not divide; the embedding lies with the first stage, the LM head with the last one. All
stages are priced as the largest, which sets the pace.

References
----------
vLLM, `distributed/parallel_state.py`, `send_tensor_dict` (with an `all_gather_group` each device of a group
sends its part and the receivers gather the whole); SGLang, `scheduler_pp_mixin.py`. Both send hidden states
and residual sums in bf16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.models import Model
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.work.layout import Layout, pool_keys
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of

SENT_VALUES = 2  # for each number of a hidden state: itself, and the residual sum
SENT_BYTES = 2.0
# What a message takes beside its bytes, both sides and, over the network, its switches: assumed, the order of
# an all-reduce of two devices within a server (`presets/kernels/all_reduce.csv`) and twice that between two.
SEND_S, NETWORK_SEND_S = 15e-6, 30e-6

PER_LAYER = (  # of `Work`: what grows with the layers
    *("dense_compute_s", "dense_read_s", "kept_compute_s", "kept_read_s"),
    *("expert_compute_s", "expert_read_s", "expert_copied_s"),
    *("activation_s", "link_s", "network_s", "collectives", "exchanges", "exchange_link_s"),
    *("exchange_network_s", "merged_link_s", "merged_network_s"),
    *("gathers", "gather_link_s", "gather_network_s"),
    *("context_read_s", "context_compute_s", "window_read_s", "window_compute_s"),
    *("pair_compute_s", "window_pair_compute_s", "state_read_s", "state_compute_s"),
    *("layers", "latent_layers", "moe_layers", "expert_slots", "products", "bf16_products", "eager_layers"),
    *("context_collectives", "context_link_s", "swap_s"),
)


def check_stages(model: Model, layout: Layout) -> None:
    """Raise a `ScenarioError` if there are more stages than layers."""
    if layout.pipeline_parallel > model.layers:
        raise ScenarioError(
            f"pipeline_parallel is {layout.pipeline_parallel}, but {model.name} has {model.layers} layers, "
            f"of which each stage needs one. Choose {model.layers} or less."
        )


def crosses_nodes(accelerator: Accelerator, layout: Layout) -> bool:
    """Return whether a stage lies on another node than the one before it."""
    return accelerator.near(layout.devices) < layout.devices


def stage_warnings(scenario: Scenario) -> list[str]:
    """Return what a reader of a prediction should know of how layers are dealt, one sentence each."""
    shared = {"tensor_parallel": scenario.tensor_parallel, "pipeline_parallel": scenario.pipeline_parallel}
    pools = ("prefill", "decode") if scenario.split else ()
    engines = [shared | pool_keys(scenario, pool) for pool in pools] or [shared]
    notes = [note for keys in engines for note in _of_stages(scenario, keys)]
    if scenario.split and scenario.decode_stages > 1:
        notes.append(
            "Decode workers of several stages go by rounds of even batches, within 6% of groups of their own."
        )
    if scenario.pipeline_parallel > 1 and scenario.replicas > 1 and not scenario.split:
        notes.append("Replicas of several stages: requests are dealt to them in turn.")
    return notes


def _of_stages(scenario: Scenario, keys: dict[str, int]) -> Iterator[str]:
    """Yield what is to know of the stages of an engine, or of a worker with these keys."""
    model, part = model_of(scenario), accelerator_of(scenario)
    stages, devices = keys["pipeline_parallel"], keys["tensor_parallel"]
    if stages == 1:
        return
    if model.layers % stages:
        largest = math.ceil(model.layers / stages)
        yield (
            f"{model.layers} layers do not divide among {stages} stages: the largest has {largest}, and all "
            "are taken to be as slow."
        )
    if part.near(devices * stages) < devices * stages:
        yield (
            f"{counted(stages, 'stage')} of {counted(devices, 'device')} span several nodes of "
            f"{part.near(devices * stages)}: hidden states go over the network, "
            f"{part.network_byte_per_s / 1e9:g} GB/s a device."
        )


def sent_between(model: Model, accelerator: Accelerator, layout: Layout) -> dict[str, float]:
    """Return what a stage takes to hand a step on: once a step, and for each token. [s]"""
    if layout.pipeline_parallel == 1:
        return {"send_s": 0.0, "send_link_s": 0.0}
    far = crosses_nodes(accelerator, layout)
    return {
        "send_s": NETWORK_SEND_S if far else SEND_S,
        "send_link_s": sum(handed_on(model, accelerator, layout)),
    }


def handed_on(model: Model, accelerator: Accelerator, layout: Layout) -> tuple[float, float]:
    """Return how long a token travels to the next stage: within nodes, and over the network. [s]

    Each device of a group sends its part of the hidden states to its like in the next one, over the link
    within a node or, where some stage lies on another node, over the network; the receivers gather the parts.
    """
    if layout.pipeline_parallel == 1:
        return 0.0, 0.0
    tp = layout.tensor_parallel
    bytes_each = SENT_VALUES * SENT_BYTES * model.hidden
    within = accelerator.link(accelerator.near(max(tp, 2))).byte_per_s
    gathered_s = bytes_each * (tp - 1) / tp / within
    if crosses_nodes(accelerator, layout):
        return gathered_s, bytes_each / tp / accelerator.network_byte_per_s
    return bytes_each / tp / within + gathered_s, 0.0
