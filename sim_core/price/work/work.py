"""What one device must do for a model in a layout: FLOP and bytes, before any efficiency."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import NamedTuple

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.models import Model
from sim_core.price.work.attention import attention_pieces, kv_token_bytes
from sim_core.price.work.contexts import check_contexts, exchanging
from sim_core.price.work.exchange import exchange, reducing, travels
from sim_core.price.work.layout import (
    Layout,
    check_layout,
    copied_experts,
    kept_held,
    key_value_held,
    padded,
    parameters,
    precisions,
    stage_frac,
    weight_byte,
)
from sim_core.price.work.stages import PER_LAYER, check_stages, sent_between

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
    kept_compute_s: float  # per token: of attention that stays in bf16 beside narrower weights
    kept_read_s: float  # per step
    expert_compute_s: float  # per token, all its experts
    expert_read_s: float  # per step, if every expert is touched
    expert_copied_s: float  # per token: its copies for experts, each value a byte
    expert_dtype: int
    expert_ratio: float  # experts / experts per token
    expert_miss_log: float  # log of the chance that a token leaves an expert alone
    expert_spread: float  # relative excess of the most loaded device, times sqrt(tokens)
    expert_load_max: float
    expert_times: float  # tokens of the most loaded device over the mean, as stated; 0: not stated
    head_compute_s: float  # per row
    head_read_s: float  # per step that samples
    head_dtype: int
    head_link_s: float  # per row, within a node
    head_network_s: float  # per row, between nodes
    activation_s: float  # per token
    link_s: float  # per token, within a node
    network_s: float  # per token, between nodes
    collectives: float  # per step
    exchanges: float  # per step: all-to-alls of tokens with the experts of other ranks, there and back
    exchange_link_s: float  # per token of a rank
    exchange_network_s: float
    merged_link_s: float  # the same with one copy for all experts of a device, and of a node
    merged_network_s: float
    overlaps: float  # 1 where half of the tokens are computed while the other half travels
    nodes: float  # over which a group is spread
    gathers: float  # per step: the tokens of all ranks gathered on every device, and their sums brought back
    gather_link_s: float  # per token of all ranks
    gather_network_s: float
    context_read_s: float  # per cached token of a decode, full layers
    context_compute_s: float
    window_read_s: float  # the same, sliding-window layers
    window_compute_s: float
    pair_compute_s: float  # per pair of a prefill, full layers
    window_pair_compute_s: float
    state_read_s: float  # per decode: states read and written, short windows
    state_compute_s: float  # per token
    swap_s: float  # per token, to or from the host
    ranks: float  # of attention; what experts take is counted over the tokens of all
    layers: float
    latent_layers: float  # layers with MLA
    moe_layers: float
    expert_slots: float  # experts that one device holds, all MoE layers together
    products: float  # launches of products in the weights' format, per step
    bf16_products: float  # and of those that stay in bf16
    eager_layers: float  # layers whose kernels the host launches one by one, without a graph
    context_collectives: float = 0.0  # per step with decodes: contexts in parts
    context_link_s: float = 0.0  # per row
    send_s: float = 0.0  # per step, to the next stage
    send_link_s: float = 0.0  # per token


def work(model: Model, accelerator: Accelerator, layout: Layout) -> Work:
    """Return the work of one device for a model in a layout, of its largest stage [s at peak rates].

    Raises
    ------
    ScenarioError
        If the layout does not divide the model.
    """
    check_layout(model, layout)
    check_stages(model, layout)
    check_contexts(model, layout)
    model = padded(model, layout.rank_devices)
    kept_products = attention_kept(model, layout)
    dense, expert, head = (_PLACES[dtype] for dtype in precisions(model, layout.weight_dtype))
    whole = Work(
        dense_dtype=dense,
        expert_dtype=expert,
        head_dtype=head,
        **_dense_work(model, accelerator, layout),
        **_expert_work(model, accelerator, layout),
        activation_s=_activation_bytes(model, layout) / accelerator.hbm_byte_per_s,
        **reducing(model, accelerator, layout),
        **exchange(model, accelerator, layout)._asdict(),
        overlaps=1.0 if layout.two_batch_overlap == "on" and travels(model, layout) else 0.0,
        **_attention_work(model, accelerator, layout),
        ranks=float(layout.ranks),
        layers=float(model.layers),
        latent_layers=float(model.latent_layers),
        moe_layers=float(model.moe_layers),
        expert_slots=model.moe_layers * (model.experts + layout.redundant_experts) / layout.expert_parallel,
        products=float(products(model) - kept_products),
        bf16_products=float(bf16_products(model) + kept_products),
        eager_layers=0.0 if layout.cuda_graphs == "on" else float(model.layers),
        **exchanging(model, accelerator, layout),
        **sent_between(model, accelerator, layout),
    )
    return whole if layout.pipeline_parallel == 1 else _of_stage(whole, stage_frac(model, layout))


def _dense_work(model: Model, accelerator: Accelerator, layout: Layout) -> dict[str, float]:
    """Return the figures in `Work` of all weights but routed experts."""
    devices, bandwidth, count = layout.rank_devices, accelerator.hbm_byte_per_s, parameters(model)
    dense, _, head = precisions(model, layout.weight_dtype)
    kept = kept_held(model, layout)
    held = count.shared / devices + count.replicated + key_value_held(model, devices) - kept
    return {
        "dense_compute_s": 2 * held / accelerator.flop_per_s(dense),
        "dense_read_s": held * weight_byte(model, dense) / bandwidth,
        "kept_compute_s": 2 * kept / accelerator.attention_flop_per_s,
        "kept_read_s": kept * weight_byte(model, head) / bandwidth,
        "head_compute_s": 2 * count.head / devices / accelerator.attention_flop_per_s,
        "head_read_s": count.head / devices * weight_byte(model, head) / bandwidth,
    }


def _of_stage(whole: Work, frac: float) -> Work:
    """Return the work of a stage that holds a share of all layers, with the LM head."""
    return whole._replace(**{name: getattr(whole, name) * frac for name in PER_LAYER})


def products(model: Model) -> int:
    """Return the products of a step with matrices in the weights' format, each a launch.

    Beside those of attention, a feed-forward block has two (gate and up together, and down), and two lead
    into the space of latent experts and back. Shared experts wait for no launch of their own: small batches
    run them beside the routed ones, on another stream, or as one more of them.

    References
    ----------
    vllm-project/vllm#26440 (a stream of their own: 23.35 to 22.09 ms a token, DeepSeek-R1, fp8, 8 B200) and
    #28406 (up to 256 tokens); sgl-project/sglang#29142 (fused with the routed ones, or a stream).
    """
    attention = sum(group.layers * group.products for group in model.attention)
    latent = model.moe_layers if model.latent_expert_dim else 0
    return attention + 2 * (model.dense_layers + latent)


def attention_kept(model: Model, layout: Layout) -> int:
    """Return the products of attention that stay in bf16 beside narrower weights."""
    kept = model.kept_attention(layout.weight_dtype)
    left = {"inputs": 1, "all": 0}.get(kept)
    return 0 if left is None else sum(group.layers * (group.products - left) for group in model.attention)


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
            "expert_copied_s": 0.0,
            "expert_ratio": 1.0,
            "expert_miss_log": 0.0,
            "expert_spread": 0.0,
            "expert_load_max": 1.0,
            "expert_times": 0.0,
        }
    held = parameters(model).expert / layout.tensor_parallel
    copied = copied_experts(model, layout)
    experts, chosen, groups = (
        model.experts + layout.redundant_experts,
        model.experts_per_token,
        layout.expert_parallel,
    )
    # Balls in bins: the fullest of e bins exceeds its mean m by about sqrt(2 m (1 - 1/e) ln e)
    # (Raab and Steger 1998, "Balls into bins", theorem 1), here relative to m = tokens * chosen / groups.
    spread = math.sqrt(2 * (1 - 1 / groups) * math.log(groups) * groups / chosen)
    missed = 1 - chosen / experts
    copied_values = chosen / groups * (model.latent_expert_dim or model.hidden)
    return {
        "expert_compute_s": 2 * held * chosen / model.experts / accelerator.flop_per_s(dtype),
        "expert_read_s": held * copied * weight_byte(model, dtype) / accelerator.hbm_byte_per_s,
        "expert_copied_s": model.moe_layers * copied_values / accelerator.hbm_byte_per_s,
        "expert_ratio": experts / chosen,
        "expert_miss_log": math.log(missed) if missed > 0 else -1e9,
        "expert_spread": spread,
        "expert_load_max": groups * min(chosen, experts / groups) / chosen,
        "expert_times": layout.expert_imbalance or 0.0,
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

    In bf16: the hidden state at two norms and two residual sums, queries and attention output, and the inner
    states of dense feed-forward blocks and shared experts. Each is written by one kernel and read by another;
    half of that is within the measured time of the products; what routed experts move is counted with them.
    Where there are n hidden states, they are mixed to one before attention and before the experts, and back
    afterwards: n read and 1 written, n + 1 read and n written (Xie et al., "mHC: manifold-constrained
    hyper-connections", 2025, section 4).
    """
    wide = model.dense_layers * model.ffn_dim
    wide += model.moe_layers * model.shared_experts * (model.shared_expert_ffn_dim or model.expert_ffn_dim)
    inner = (
        2 * sum(group.layers * group.inner_values for group in model.attention)
        + (3 if model.gated_mlp else 2) * wide
    )
    streams = model.residual_streams
    mixed = 2 * (3 * streams + 2) if streams > 1 else 0
    return 2.0 * ((4 + mixed) * model.hidden * model.layers + inner / layout.rank_devices)
