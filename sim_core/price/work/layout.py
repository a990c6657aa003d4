"""How a model is spread over devices: what is divided, what every device holds, and what cannot be."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from sim_core.catalogue.models import GROUPED, Model
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.scenario.scenario import FIELDS, Scenario

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
    attention_data_parallel: int = 1
    expert_imbalance: float | None = None
    redundant_experts: int = 0
    two_batch_overlap: str = "off"
    pipeline_parallel: int = 1
    context_parallel: int = 1

    @property
    def devices(self) -> int:
        """Devices of one replica: those of all its stages."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def ranks(self) -> int:
        """Ranks of attention, each with requests and a KV cache of its own."""
        return self.attention_data_parallel

    @property
    def rank_devices(self) -> int:
        """Devices that share the attention of one rank."""
        return self.tensor_parallel // self.attention_data_parallel


def layout_of(scenario: Scenario) -> Layout:
    """Return the part of a scenario that sets the work and the kernels of one device."""
    return Layout(*(getattr(scenario, name) for name in Layout._fields))


OF_POOLS = ("tensor_parallel", "expert_parallel", "attention_data_parallel", "pipeline_parallel")


def pool_keys(scenario: Scenario, pool: str) -> dict[str, int]:
    """Return how the workers of the ``prefill`` or the ``decode`` pool are laid out, as keys of one pool.

    What a pool does not state it shares with the other, as far as that divides its devices.

    Raises
    ------
    ScenarioError
        If its experts cannot be spread as it states.
    """
    stated = {key: getattr(scenario, f"{pool}_{key}", None) for key in OF_POOLS}
    own = {key: value for key, value in stated.items() if value is not None}
    devices = own.get("tensor_parallel", scenario.tensor_parallel)
    if devices % own.get("expert_parallel", 1):
        raise ScenarioError(
            f"{pool}_expert_parallel is {own['expert_parallel']}, but a {pool} worker has "
            f"{counted(devices, 'device')}, over which its experts are spread. "
            f"Choose {_either(_closest(own['expert_parallel'], _divisors(devices)))}."
        )
    divided = ("expert_parallel", "attention_data_parallel")
    shared = {key: math.gcd(devices, getattr(scenario, key)) for key in divided}
    found = {"tensor_parallel": devices, **shared, **own}
    copies = scenario.redundant_experts if found["expert_parallel"] > 1 else 0  # of the other pool's experts
    return found | {"redundant_experts": copies}


def precisions(model: Model, weight_dtype: str) -> tuple[str, str, str]:
    """Return the precision of the dense matrices, of the experts and of the LM head."""
    return *model.stored_dtypes(weight_dtype), "bf16"


def check_layout(model: Model, layout: Layout) -> None:
    """Raise a `ScenarioError` if the model cannot be divided as asked."""
    _check_ranks(model, layout)
    _check_heads(model, layout)
    _check_experts(model, layout)


def _check_ranks(model: Model, layout: Layout) -> None:
    """Raise a `ScenarioError` unless the devices can be dealt to ranks of attention that share experts."""
    devices, ranks = layout.tensor_parallel, layout.attention_data_parallel
    if ranks > 1 and not model.experts:
        raise ScenarioError(
            f"attention_data_parallel is {ranks}, but {model.name} has no experts that ranks would share. "
            "Set it to 1; copies that share nothing are replicas."
        )
    if devices % ranks:
        raise ScenarioError(
            f"attention_data_parallel is {ranks}, but tensor_parallel is {devices}: each rank has the same "
            f"number of these devices. Choose {_either(_closest(ranks, _divisors(devices)))}."
        )


def _check_heads(model: Model, layout: Layout) -> None:
    """Raise a `ScenarioError` unless the attention heads can be divided among the devices of a rank."""
    devices, ranks = layout.rank_devices, layout.ranks
    if _can_pad(model, devices):
        return
    sizes = [n for n in range(1, min(model.heads, 64) + 1) if model.heads % n == 0]
    counts = " and ".join(str(count) for count in sorted({group.heads for group in model.attention}))
    if ranks == 1:
        raise ScenarioError(
            f"tensor_parallel is {devices}, but {model.name} has {counts} attention heads, "
            f"which it must divide. Choose one of {', '.join(map(str, sizes))}."
        )
    fit = [n for n in _divisors(layout.tensor_parallel) if layout.tensor_parallel // n in sizes]
    raise ScenarioError(
        f"attention_data_parallel is {ranks}, so {devices} of {layout.tensor_parallel} devices share the "
        f"{counts} attention heads of {model.name}, which they must divide. "
        f"Set attention_data_parallel to {_either(_closest(ranks, fit))}."
    )


def _check_experts(model: Model, layout: Layout) -> None:
    """Raise a `ScenarioError` unless the experts, redundant ones among them, can be spread as asked."""
    spread, copies = layout.expert_parallel, layout.redundant_experts
    for key, value, alone in (("expert_parallel", spread, 1), ("redundant_experts", copies, 0)):
        if value > alone and not model.experts:
            raise ScenarioError(f"{key} is {value}, but {model.name} has no experts. Set {key} to {alone}.")
    if spread > 1 and (model.experts + copies) % spread:
        held = (
            f"{model.experts} experts and {copies} redundant ones" if copies else f"{model.experts} experts"
        )
        more = math.ceil((model.experts + copies) / spread) * spread - model.experts
        sizes = [n for n in _divisors(layout.tensor_parallel) if (model.experts + copies) % n == 0]
        raise ScenarioError(
            f"expert_parallel is {spread}, but {model.name} has {held}, which it must divide. "
            f"Choose {_either(_closest(spread, sizes))}, or redundant_experts={more}."
        )
    if copies and spread == 1:
        raise ScenarioError(
            f"redundant_experts is {copies}, but expert_parallel is 1: every device has a part of every "
            "expert already. Set redundant_experts to 0, or raise expert_parallel."
        )


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _closest(wanted: int, sizes: list[int]) -> list[int]:
    """Return the next smaller and the next larger of some sizes, in order."""
    below = [size for size in sizes if size < wanted][-1:]
    return below + [size for size in sizes if size > wanted][:1]


def _either(sizes: list[int]) -> str:
    return " or ".join(map(str, sizes)) if sizes else "1"


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


def group_sizes(model: Model, expert_parallel: int) -> list[int]:
    """Return the numbers of devices that divide a model without filling up its heads, in order."""
    most = min(model.heads, FIELDS["tensor_parallel"].high)
    return [tp for tp in range(1, int(most) + 1) if model.heads % tp == 0 and tp % expert_parallel == 0]


@lru_cache(maxsize=512)
def weight_bytes(model: Model, layout: Layout) -> tuple[float, float]:
    """Return the bytes of all weights, each once, and of those one device of the largest stage holds. [bytes]

    Every rank of attention has a copy of all but the routed experts, which all devices share. The first stage
    has the embedding, the last one the LM head; a matrix that is both is with both.
    """
    count = parameters(model)
    devices = layout.rank_devices
    dense, expert, head = (weight_byte(model, dtype) for dtype in precisions(model, layout.weight_dtype))
    rest = (count.head + count.embedding) * head
    total = count.shared * dense + count.expert * expert + rest + (count.key_value + count.replicated) * dense
    experts = count.expert * expert * copied_experts(model, layout) / layout.ranks
    divided = count.shared * dense + experts + rest
    divided += (parameters(padded(model, devices)).shared - count.shared) * dense
    held = divided + key_value_held(model, devices) * devices * dense
    wider = weight_byte(model, "bf16") - dense
    total += kept_held(model, layout._replace(tensor_parallel=1, attention_data_parallel=1)) * wider
    device = held / devices + count.replicated * dense + kept_held(model, layout) * wider
    if layout.pipeline_parallel == 1:
        return total, device
    end = max(count.head, count.embedding) * head
    return total, (device - rest / devices) * stage_frac(model, layout) + end / devices


def stage_frac(model: Model, layout: Layout) -> float:
    """Return the share of the layers that the largest stage holds; see `sim_core.price.work.stages`."""
    stages = layout.pipeline_parallel
    return 1.0 if stages == 1 else math.ceil(model.layers / stages) / model.layers


def kept_held(model: Model, layout: Layout) -> float:
    """Return the parameters of attention on one device that stay in bf16 beside narrower weights.

    Of ``inputs`` all projections but that of the output.
    """
    kept = model.kept_attention(layout.weight_dtype)
    if not kept:
        return 0.0
    devices, model = layout.rank_devices, padded(model, layout.rank_devices)
    held = key_value_held(model, devices)
    for group in model.attention:
        own = group.projections(model.hidden)
        outputs = group.output_params(model.hidden) if kept == "inputs" else 0
        held += group.layers * ((own.shared - outputs) / devices + own.replicated)
    return held


def copied_experts(model: Model, layout: Layout) -> float:
    """Return the routed experts held, redundant ones among them, over those the model has."""
    return 1 + layout.redundant_experts / model.experts if model.experts else 1.0


def key_value_held(model: Model, tensor_parallel: int) -> float:
    """Return the parameters of KV projections on one device: at least one key/value head of every layer."""
    by_heads: dict[int, int] = {}
    for group in model.attention:
        count = group.layers * group.projections(model.hidden).key_value
        by_heads[group.kv_heads] = by_heads.get(group.kv_heads, 0) + count
    return sum(
        count * (math.ceil(heads / tensor_parallel) / heads) for heads, count in by_heads.items() if count
    )
