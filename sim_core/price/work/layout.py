"""How a model is spread over devices: what is divided, what every device holds, and what cannot be."""

from __future__ import annotations

import dataclasses
import math
from types import MappingProxyType
from typing import NamedTuple

from sim_core.catalogue.accelerators import LINK_SHAPES, Accelerator
from sim_core.catalogue.kernels import LARGEST_GROUP
from sim_core.catalogue.models import GROUPED, Model
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of, model_of

# 4-bit weights carry an 8-bit scale per 32 values (OCP Microscaling formats, 2023); NVFP4, per 16, adds 6%.
BYTES_PER_VALUE = MappingProxyType({"bf16": 2.0, "fp8": 1.0, "fp4": 0.5 + 1 / 32, "int8": 1.0})


class Parameters(NamedTuple):
    """Parameters by how tensor parallelism treats them; norms and biases, under 0.1%, are left out."""

    shared: int  # divided among the devices
    replicated: int  # router, down-projections of latent kinds, indices: on every device
    key_value: int  # KV projections: divided by heads, at least one head per device
    expert: int  # routed experts: divided
    head: int  # LM head: divided by vocabulary
    embedding: int  # embedding table, where it is not the LM head's matrix: divided, never read as a whole


def parameters(model: Model) -> Parameters:
    """Return the parameter counts of a model from its dimensions."""
    own = [(group.layers, group.projections(model.hidden)) for group in model.attention]
    return Parameters(
        shared=sum(layers * each.shared for layers, each in own)
        + model.dense_layers * model.dense_ffn_params
        + model.moe_layers * model.shared_expert_params,
        replicated=sum(layers * each.replicated for layers, each in own)
        + model.moe_layers * (model.router_params + model.latent_params),
        key_value=sum(layers * each.key_value for layers, each in own),
        expert=model.moe_layers * model.experts * model.expert_params,
        head=model.embedding_params,
        embedding=0 if model.tied_embeddings else model.embedding_params,
    )


def weight_byte(model: Model, dtype: str) -> float:
    """Return what one weight takes in a format, its share of the scales included [bytes].

    4-bit integers carry a scale of 16 bits per group (Frantar et al., "GPTQ", 2022, section 4).
    """
    return 0.5 + 2 / model.int4_group if dtype == "int4" else BYTES_PER_VALUE[dtype]


class Layout(NamedTuple):
    """How a model is spread over devices, and by whose kernels: what sets the work of one device."""

    tensor_parallel: int
    expert_parallel: int
    weight_dtype: str
    kv_dtype: str
    fp8_scaling: str = ""
    engine: str = ""
    cuda_graphs: str = "on"


def layout_of(scenario: Scenario) -> Layout:
    """Return the part of a scenario that sets the work and the kernels of one device."""
    return Layout(*(getattr(scenario, name) for name in Layout._fields))


def precisions(model: Model, weight_dtype: str) -> tuple[str, str, str]:
    """Return the precision of the dense matrices, of the experts and of the LM head."""
    return *model.stored_dtypes(weight_dtype), "bf16"


def check_layout(model: Model, layout: Layout) -> None:
    """Raise a `ScenarioError` if the model cannot be divided as asked."""
    tp, ep = layout.tensor_parallel, layout.expert_parallel
    if not _can_pad(model, tp):
        choices = ", ".join(str(n) for n in range(1, min(model.heads, 64) + 1) if model.heads % n == 0)
        counts = " and ".join(str(count) for count in sorted({group.heads for group in model.attention}))
        raise ScenarioError(
            f"tensor_parallel is {tp}, but {model.name} has {counts} attention heads, "
            f"which it must divide. Choose one of {choices}."
        )
    if ep > 1 and not model.experts:
        raise ScenarioError(
            f"expert_parallel is {ep}, but {model.name} has no experts. Set expert_parallel to 1."
        )
    if ep > 1 and model.experts % ep:
        raise ScenarioError(
            f"expert_parallel is {ep}, but {model.name} has {model.experts} experts, which it must divide."
        )


def _can_pad(model: Model, tensor_parallel: int) -> bool:
    """Return whether the query heads divide, or can be filled up: each key/value head on whole devices."""
    if model.heads % tensor_parallel == 0:
        return True
    return model.heads > tensor_parallel and all(
        group.kind in GROUPED and tensor_parallel % group.kv_heads == 0 for group in model.attention
    )


def padded(model: Model, tensor_parallel: int) -> Model:
    """Return the model that a group computes: its query heads filled up to a multiple of the devices.

    Engines that serve such a layout add heads of zeros (vllm-project/tpu-inference#206, on CPUs
    sgl-project/sglang#6771): 28 heads on 8 devices are 4 on each, and an eighth of the arithmetic is in vain.
    """
    if model.heads % tensor_parallel == 0:
        return model
    groups = (
        dataclasses.replace(group, heads=math.ceil(group.heads / tensor_parallel) * tensor_parallel)
        for group in model.attention
    )
    return dataclasses.replace(model, attention=tuple(groups))


def layout_warnings(scenario: Scenario) -> list[str]:
    """Return what a reader of a prediction should know of how the model is divided."""
    model, part = model_of(scenario), accelerator_of(scenario)
    pools = (scenario.prefill_tensor_parallel, scenario.decode_tensor_parallel) if scenario.split else ()
    groups = {devices or scenario.tensor_parallel for devices in pools} or {scenario.tensor_parallel}
    wide = [
        f"All-reduces over {tp:,} devices are extrapolated: they were measured on up to {LARGEST_GROUP}, and "
        "no slower network between servers is counted."
        for tp in sorted(groups)
        if tp > LARGEST_GROUP
    ]
    filled = [
        f"{model.name} has {model.heads} attention heads, filled up to {padded(model, tp).heads} to divide "
        f"among {tp} devices; vLLM and SGLang refuse that on GPUs."
        for tp in sorted(groups)
        if model.heads % tp
    ]
    slow = [_slow_link(part, tp) for tp in sorted(groups) if tp > 1 and part.link_gb_per_s]
    return [*wide, *filled, *filter(None, slow)]


def _slow_link(part: Accelerator, devices: int) -> str:
    """Return that a group cannot use all of a device's links; "" where it can."""
    link, whole = part.link(devices), part.link_gb_per_s or 0.0
    used = link.byte_per_s / 1e9
    if used >= whole:
        return ""
    if link.kind == "pcie":
        joined = (part.link_peers or 1) + 1
        return f"{part.name}'s links join {joined} devices; {devices} use PCIe, {used:g} of {whole:g} GB/s."
    shape = LINK_SHAPES[part.link_shape]
    return f"Of {part.name}'s {whole:g} GB/s of links, {devices} devices use {used:g}: {shape}."


def group_sizes(model: Model, expert_parallel: int) -> list[int]:
    """Return the numbers of devices that divide a model without filling up its heads, in order."""
    most = min(model.heads, FIELDS["tensor_parallel"].high)
    return [tp for tp in range(1, int(most) + 1) if model.heads % tp == 0 and tp % expert_parallel == 0]


def weight_bytes(model: Model, layout: Layout) -> tuple[float, float]:
    """Return the bytes of all weights [bytes], and of those one device holds [bytes]."""
    count = parameters(model)
    tp = layout.tensor_parallel
    dense, expert, head = (weight_byte(model, dtype) for dtype in precisions(model, layout.weight_dtype))
    divided = count.shared * dense + count.expert * expert + (count.head + count.embedding) * head
    total = divided + (count.key_value + count.replicated) * dense
    divided += (parameters(padded(model, tp)).shared - count.shared) * dense
    device = (divided + key_value_held(model, tp) * tp * dense) / tp + count.replicated * dense
    return total, device


def key_value_held(model: Model, tensor_parallel: int) -> float:
    """Return the parameters of KV projections on one device: at least one key/value head of every layer."""
    by_heads: dict[int, int] = {}
    for group in model.attention:
        count = group.layers * group.projections(model.hidden).key_value
        by_heads[group.kv_heads] = by_heads.get(group.kv_heads, 0) + count
    return sum(
        count * (math.ceil(heads / tensor_parallel) / heads) for heads, count in by_heads.items() if count
    )
