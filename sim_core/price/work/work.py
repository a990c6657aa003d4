"""What one device must do for a model in a layout: FLOP and bytes, before any efficiency."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import NamedTuple

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.models import Model
from sim_core.price.work.attention import attention_pieces, kv_token_bytes
from sim_core.price.work.layout import (
    Layout,
    check_layout,
    key_value_held,
    padded,
    parameters,
    precisions,
    weight_byte,
)

# Formats by the share of peak that a calibration states for them: in the order of `DTYPES`.
_PLACES = MappingProxyType({"bf16": 0, "fp8": 1, "fp4": 2, "int8": 1, "int4": 0})


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
    state_read_s: float  # per decode: states read and written, short windows
    state_compute_s: float  # per token
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
    held = count.shared / tp + count.replicated + key_value_held(model, tp)
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
        latent_layers=float(model.latent_layers),
        moe_layers=float(model.moe_layers),
        expert_slots=model.moe_layers * model.experts / layout.expert_parallel,
        products=float(products(model)),
        bf16_products=float(bf16_products(model)),
        eager_layers=0.0 if layout.cuda_graphs == "on" else float(model.layers),
    )


def products(model: Model) -> int:
    """Return the products of a step with matrices in the weights' format, each a launch.

    Beside those of attention, a feed-forward block and the shared experts have two each (gate and up
    together, and down), and two lead into the space of latent experts and back.
    """
    attention = sum(group.layers * group.products for group in model.attention)
    shared = model.moe_layers if model.shared_experts else 0
    latent = model.moe_layers if model.latent_expert_dim else 0
    return attention + 2 * (model.dense_layers + shared + latent)


def bf16_products(model: Model) -> int:
    """Return the products of a step that stay in bf16: those absorbed by latent kinds, and routers."""
    absorbed = sum(group.layers * group.bf16_products for group in model.attention)
    return absorbed + model.moe_layers


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
    pieces = attention_pieces(model, accelerator, layout)

    def total(term: str, what: str) -> float:
        return sum(getattr(piece, what) for piece in pieces if piece.term == term)

    return {
        "context_read_s": total("context", "read_s"),
        "context_compute_s": total("context", "decode_s"),
        "window_read_s": total("window", "read_s"),
        "window_compute_s": total("window", "decode_s"),
        "pair_compute_s": total("context", "prefill_s"),
        "window_pair_compute_s": total("window", "prefill_s"),
        "state_read_s": total("row", "read_s"),
        "state_compute_s": total("row", "prefill_s"),
        "swap_s": kv_token_bytes(model.attention, layout) / accelerator.pcie_byte_per_s,
    }


def _activation_bytes(model: Model, layout: Layout) -> float:
    """Return the bytes one token moves through memory between kernels, all layers, on one device.

    In bf16: the hidden state, in all its copies, at two norms and two residual sums, queries and attention
    output, and the inner states of dense feed-forward blocks and shared experts. Each is written by one
    kernel and read by another; half of that is within the measured time of the products, and all that routed
    experts move.
    """
    wide = model.dense_layers * model.ffn_dim
    wide += model.moe_layers * model.shared_experts * (model.shared_expert_ffn_dim or model.expert_ffn_dim)
    inner = (
        2 * sum(group.layers * group.inner_values for group in model.attention)
        + (3 if model.gated_mlp else 2) * wide
    )
    return 2.0 * (4 * model.residual_streams * model.hidden * model.layers + inner / layout.tensor_parallel)
