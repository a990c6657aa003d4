"""What the devices of a group hold: which parts of a model are copied, and which are split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sim_core.catalogue.models import GROUPED, Model
from sim_core.price.work.layout import (
    Layout,
    copied_experts,
    kept_held,
    key_value_held,
    padded,
    parameters,
    precisions,
    stage_frac,
    weight_byte,
)


class Held(NamedTuple):
    """One part of a model on the devices of a group: so many copies, each split over so many devices."""

    what: str
    device_bytes: float
    copies: float
    parts: float


def weights_held(model: Model, layout: Layout) -> list[Held]:
    """Return what weights each device of a group holds; what a model lacks is left out. [bytes]

    Ranks of attention have a copy each of all but the routed experts, split over their devices; what cannot
    be split (routers, down-projections of latent kinds, indices) is on every device. Of several stages these
    are the devices of the largest.
    """
    *layers, end = _parts(model, layout)
    share = stage_frac(model, layout)
    held = [part._replace(device_bytes=part.device_bytes * share) for part in layers]
    return [part for part in (*held, end) if part.device_bytes]


def _parts(model: Model, layout: Layout) -> Iterator[Held]:
    devices, ranks, own = layout.tensor_parallel, layout.ranks, layout.rank_devices
    dense, expert, head = (weight_byte(model, dtype) for dtype in precisions(model, layout.weight_dtype))
    whole, count = parameters(padded(model, own)), parameters(model)
    blocks = model.dense_layers * model.dense_ffn_params + model.moe_layers * model.shared_expert_params
    key_value = key_value_held(model, own)
    kept = kept_held(model, layout) * (weight_byte(model, "bf16") - dense)
    yield Held("attention", (whole.shared - blocks) / own * dense + kept, ranks, own)
    if key_value:
        copies = ranks * own * key_value / count.key_value
        yield Held("keys and values", key_value * dense, copies, devices / copies)
    yield Held("dense blocks and shared experts", blocks / own * dense, ranks, own)
    yield Held("routers and down-projections", count.replicated * dense, devices, 1)
    copied = copied_experts(model, layout)
    yield Held("routed experts", count.expert * copied / devices * expert, copied, devices / copied)
    ends = max if layout.pipeline_parallel > 1 else sum
    yield Held("LM head and embedding", ends((count.head, count.embedding)) / own * head, ranks, own)


def cache_held(model: Model, layout: Layout, device_bytes: float) -> Held:
    """Return how the KV cache is split: each request on one rank, its heads over the devices of that.

    Latent vectors, and heads fewer than these devices, are on several of them, unless they divide contexts.
    """
    own = layout.rank_devices
    heads = [group.kv_heads for group in model.attention if group.kind in GROUPED]
    latent = any(group.kind not in GROUPED and group.cached_values for group in model.attention)
    copies = float(own) if latent or not heads else max(1.0, own / max(heads))
    copies /= layout.context_parallel
    return Held("KV cache", device_bytes, copies, layout.tensor_parallel / copies)
