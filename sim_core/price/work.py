"""What one device must do and hold for a model in a layout: FLOP, bytes and memory, before any efficiency.

Assumptions stand in `sim_core.price.price`, which turns this work into seconds.
"""

from __future__ import annotations

import dataclasses
import math
from types import MappingProxyType
from typing import NamedTuple

from sim_core.catalogue.accelerators import LINK_SHAPES, Accelerator
from sim_core.catalogue.kernels import LARGEST_GROUP
from sim_core.catalogue.models import Model
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of, model_of

# 4-bit weights carry an 8-bit scale per 32 values (OCP Microscaling formats, 2023); NVFP4, per 16, adds 6%.
BYTES_PER_VALUE = MappingProxyType({"bf16": 2.0, "fp8": 1.0, "fp4": 0.5 + 1 / 32, "int8": 1.0})
# Formats by the share of peak that a calibration states for them: in the order of `DTYPES`.
_PLACES = MappingProxyType({"bf16": 0, "fp8": 1, "fp4": 2, "int8": 1, "int4": 0})


# --- what the model holds -------------------------------------------------------------------------


class Parameters(NamedTuple):
    """Parameters by how tensor parallelism treats them; norms and biases, under 0.1%, are left out."""

    shared: int  # divided among the devices
    replicated: int  # the router and MLA's down-projections: on every device
    key_value: int  # KV projections: divided by heads, at least one head per device
    expert: int  # routed experts: divided
    head: int  # LM head: divided by vocabulary
    embedding: int  # embedding table, where it is not the LM head's matrix: divided, never read as a whole


def parameters(model: Model) -> Parameters:
    """Return the parameter counts of a model from its dimensions."""
    latent = model.attention == "mla"
    key_value = 0 if latent else 2 * model.hidden * model.kv_heads * model.head_dim
    down = model.hidden * (model.mla_q_lora + model.kv_elements) if latent else 0
    return Parameters(
        shared=model.all_attention_params
        - model.kv_layers * (key_value + down)
        + model.dense_layers * model.dense_ffn_params
        + model.moe_layers * model.shared_expert_params,
        replicated=model.kv_layers * down + model.moe_layers * model.router_params,
        key_value=model.kv_layers * key_value,
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
        raise ScenarioError(
            f"tensor_parallel is {tp}, but {model.name} has {model.heads} attention heads, "
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
    return (
        model.attention == "full" and model.heads > tensor_parallel and tensor_parallel % model.kv_heads == 0
    )


def padded(model: Model, tensor_parallel: int) -> Model:
    """Return the model that a group computes: its query heads filled up to a multiple of the devices.

    Engines that serve such a layout add heads of zeros (vllm-project/tpu-inference#206, on CPUs
    sgl-project/sglang#6771): 28 heads on 8 devices are 4 on each, and an eighth of the arithmetic is in vain.
    """
    heads = math.ceil(model.heads / tensor_parallel) * tensor_parallel
    return model if heads == model.heads else dataclasses.replace(model, heads=heads)


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
    kv_copies = _kv_heads_per_device(model, tp) * tp / model.kv_heads if count.key_value else 1.0
    divided = count.shared * dense + count.expert * expert + (count.head + count.embedding) * head
    total = divided + (count.key_value + count.replicated) * dense
    divided += (parameters(padded(model, tp)).shared - count.shared) * dense
    device = (divided + count.key_value * dense * kv_copies) / tp + count.replicated * dense
    return total, device


def _kv_heads_per_device(model: Model, tensor_parallel: int) -> int:
    return math.ceil(model.kv_heads / tensor_parallel)


def kv_bytes_per_layer(model: Model, layout: Layout) -> float:
    """Return the KV cache of one token in one layer on one device [bytes]."""
    values = model.kv_elements
    if model.attention == "full":
        values = 2 * _kv_heads_per_device(model, layout.tensor_parallel) * model.head_dim
    return values * BYTES_PER_VALUE[layout.kv_dtype]


def attention_flop(model: Model) -> tuple[float, float]:
    """Return FLOP per layer and cached token of a decode, and per layer and pair of a prefill, all heads.

    MLA decodes in its absorbed form (dot products in the latent space) and prefills in the plain form.
    """
    if model.attention == "mla":
        decode = 2 * (2 * model.mla_kv_lora + model.mla_qk_rope)
        prefill = 2 * (model.mla_qk_nope + model.mla_qk_rope + model.mla_v)
        return decode * model.heads, prefill * model.heads
    return 4 * model.head_dim * model.heads, 4 * model.head_dim * model.heads


# --- the work of one device, before any efficiency ------------------------------------------------


class Work(NamedTuple):
    """What one device must do, in seconds at its peaks: times `_s` are FLOP / peak or bytes / bandwidth.

    Scalars for one scenario; the fitting script stacks them to columns, one row a measurement.
    `dense_dtype`, `expert_dtype`, `head_dtype` are positions in `DTYPES`.
    """

    dense_compute_s: float  # per token
    dense_read_s: float  # per step
    dense_dtype: int
    expert_compute_s: float  # per token, all its experts
    expert_read_s: float  # per step, if every expert is touched
    expert_dtype: int
    expert_ratio: float  # experts / experts per token
    expert_miss_log: float  # log of the chance that a token leaves an expert alone
    expert_spread: float  # relative excess of the most loaded device, times sqrt(tokens)
    expert_load_max: float
    head_compute_s: float  # per row
    head_read_s: float  # per step that samples
    head_dtype: int
    head_link_s: float  # per row
    activation_s: float  # per token
    link_s: float  # per token
    collectives: float  # per step
    context_read_s: float  # per cached token of a decode, full layers
    context_compute_s: float
    window_read_s: float  # the same, sliding-window layers
    window_compute_s: float
    pair_compute_s: float  # per pair of a prefill, full layers
    window_pair_compute_s: float
    swap_s: float  # per token, to or from the host
    layers: float
    latent_layers: float  # layers with MLA
    moe_layers: float
    expert_slots: float  # experts that one device holds, all MoE layers together
    products: float  # launches of products in the weights' format, per step
    bf16_products: float  # and of those that stay in bf16
    eager_layers: float  # layers whose kernels the host launches one by one, without a graph


def work(model: Model, accelerator: Accelerator, layout: Layout) -> Work:
    """Return the work of one device for a model in a layout [s at peak rates].

    Raises
    ------
    ScenarioError
        If the layout does not divide the model.
    """
    check_layout(model, layout)
    tp = layout.tensor_parallel
    model = padded(model, tp)
    bandwidth = accelerator.hbm_byte_per_s
    dense, expert, head = precisions(model, layout.weight_dtype)
    count = parameters(model)
    kv_share = _kv_heads_per_device(model, tp) / model.kv_heads if count.key_value else 0.0
    held = count.shared / tp + count.replicated + count.key_value * kv_share
    linked = tp > 1
    link = accelerator.link(tp)
    ring = 2 * (tp - 1) / tp if linked else 0.0
    return Work(
        dense_compute_s=2 * held / accelerator.flop_per_s(dense),
        dense_read_s=held * weight_byte(model, dense) / bandwidth,
        dense_dtype=_PLACES[dense],
        expert_dtype=_PLACES[expert],
        **_expert_work(model, accelerator, layout),
        head_compute_s=2 * count.head / tp / accelerator.attention_flop_per_s,
        head_read_s=count.head / tp * weight_byte(model, head) / bandwidth,
        head_dtype=_PLACES[head],
        head_link_s=ring / 2 * model.vocab * 2 / link.byte_per_s,
        activation_s=_activation_bytes(model, layout) / bandwidth,
        link_s=2 * model.layers * ring * model.hidden * 2 / link.byte_per_s,
        collectives=float(model.layer_collectives * model.layers) if linked else 0.0,
        **_attention_work(model, accelerator, layout),
        layers=float(model.layers),
        latent_layers=float(model.layers if model.attention == "mla" else 0),
        moe_layers=float(model.moe_layers),
        expert_slots=model.moe_layers * model.experts / layout.expert_parallel,
        products=float(products(model)),
        bf16_products=float(bf16_products(model)),
        eager_layers=0.0 if layout.cuda_graphs == "on" else float(model.layers),
    )


def products(model: Model) -> int:
    """Return the products of a step with matrices in the weights' format, each a launch.

    Attention has two (queries, keys and values together, and the output), latent attention three (both
    down-projections together, the queries, and the output); a feed-forward block or the shared experts two
    (gate and up together, and down).
    """
    attention = 3 if model.attention == "mla" else 2
    shared = model.moe_layers if model.shared_experts else 0
    return attention * model.layers + 2 * (model.dense_layers + shared)


def bf16_products(model: Model) -> int:
    """Return the products of a step that stay in bf16: a layer's two absorbed ones of MLA, and its router."""
    absorbed = 2 * model.layers if model.attention == "mla" else 0
    return absorbed + model.moe_layers


def attention_flop_per_s(accelerator: Accelerator, kv_dtype: str) -> float:
    """Return the peak of attention arithmetic [FLOP/s]: bf16, or on an fp8 cache fp8 where it exists."""
    if kv_dtype == "fp8" and accelerator.fp8_tflop_per_s:
        return max(accelerator.flop_per_s("fp8"), accelerator.attention_flop_per_s)
    return accelerator.attention_flop_per_s


def _expert_work(model: Model, accelerator: Accelerator, layout: Layout) -> dict[str, float]:
    """Return the figures of experts in `Work`; a model without experts has none to compute or read."""
    dtype = precisions(model, layout.weight_dtype)[1]
    if not model.moe_layers:
        return {
            "expert_compute_s": 0.0,
            "expert_read_s": 0.0,
            "expert_ratio": 1.0,
            "expert_miss_log": 0.0,
            "expert_spread": 0.0,
            "expert_load_max": 1.0,
        }
    held = parameters(model).expert / layout.tensor_parallel
    experts, chosen, groups = model.experts, model.experts_per_token, layout.expert_parallel
    # Balls in bins: the fullest of e bins exceeds its mean m by about sqrt(2 m (1 - 1/e) ln e)
    # (Raab and Steger 1998, "Balls into bins", theorem 1), here relative to m = tokens * chosen / groups.
    spread = math.sqrt(2 * (1 - 1 / groups) * math.log(groups) * groups / chosen)
    missed = 1 - chosen / experts
    return {
        "expert_compute_s": 2 * held * chosen / experts / accelerator.flop_per_s(dtype),
        "expert_read_s": held * weight_byte(model, dtype) / accelerator.hbm_byte_per_s,
        "expert_ratio": experts / chosen,
        "expert_miss_log": math.log(missed) if missed > 0 else -1e9,
        "expert_spread": spread,
        "expert_load_max": groups * min(chosen, experts / groups) / chosen,
    }


def _attention_work(model: Model, accelerator: Accelerator, layout: Layout) -> dict[str, float]:
    """Return the attention and KV fields of `Work`."""
    full, windowed = model.full_layers, model.window_layers
    token_bytes = kv_bytes_per_layer(model, layout)
    decode, prefill = attention_flop(model)
    flop_per_s = attention_flop_per_s(accelerator, layout.kv_dtype) * layout.tensor_parallel
    bandwidth = accelerator.hbm_byte_per_s
    return {
        "context_read_s": full * token_bytes / bandwidth,
        "context_compute_s": full * decode / flop_per_s,
        "window_read_s": windowed * token_bytes / bandwidth,
        "window_compute_s": windowed * decode / flop_per_s,
        "pair_compute_s": full * prefill / flop_per_s,
        "window_pair_compute_s": windowed * prefill / flop_per_s,
        "swap_s": (full + windowed) * token_bytes / accelerator.pcie_byte_per_s,
    }


def _activation_bytes(model: Model, layout: Layout) -> float:
    """Return the bytes one token moves through memory between kernels, all layers, on one device.

    In bf16: the hidden state at two norms and two residual sums, queries and attention output, and the inner
    states of dense feed-forward blocks and shared experts. Each is written by one kernel and read by another;
    half of that is within the measured time of the products, and all that routed experts move.
    """
    head_dim = model.mla_v if model.attention == "mla" else model.head_dim
    wide = model.dense_layers * model.ffn_dim
    wide += model.moe_layers * model.shared_experts * (model.shared_expert_ffn_dim or model.expert_ffn_dim)
    inner = 2 * model.layers * model.heads * head_dim + (3 if model.gated_mlp else 2) * wide
    return 2.0 * (4 * model.hidden * model.layers + inner / layout.tensor_parallel)
