"""What drafting takes of one device: the layer that drafts, its weights, its cache and its work.

An MTP layer is one of the model's own, with experts where they have some, behind a matrix that joins a token
to the state before it (DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 2.2). Other heads are a
dense layer in bf16 as wide as what a token visits of the model's, behind a matrix that joins three of its
states (Li et al., "EAGLE-3", 2025, section 3). All sample with an LM head as large as the model's.

Models that come with layers for a block (`block_layers`) draft by these: the model's own but for attention,
which sees a window and the block. Only the places of the block pass them; of all other tokens they keep keys
and values of that window, whose projections are counted for the block's places alone (vLLM 0.32,
`models/deepseek_v4/nvidia/dspark.py`: `DeepSeekV4DSparkLayer`, `precompute_dspark_context_kv`).
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.models import Model
from sim_core.catalogue.models.attention import COMPRESSED
from sim_core.price.work.attention import kv_token_bytes
from sim_core.price.work.layout import Layout, precisions, weight_byte, weight_bytes
from sim_core.price.work.work import Work, work

STATES_JOINED = {"mtp": 2, "eagle": 3, "parallel": 3}
NO_ROWS = 1_000_000  # tokens compressed to one row: as good as none


class Drafter(NamedTuple):
    """Who drafts: the scenario's `draft`, and the size it states, if any."""

    draft: str
    params_b: float | None

    @property
    def has_layer(self) -> bool:
        """Whether a layer drafts, with weights and a KV cache of its own; a look-up has none."""
        return self.draft != "ngram"

    @property
    def is_own_layer(self) -> bool:
        """Whether it is one layer more, such as the model's own."""
        return self.draft == "mtp" and not self.params_b

    def drafts_block(self, model: Model) -> bool:
        """Whether layers of the model's own draft a block at once, so that no other tokens pass them."""
        return self.draft == "parallel" and not self.params_b and model.block_layers > 0

    def has_own_layers(self, model: Model) -> bool:
        """Whether it is layers such as the model's own."""
        return self.is_own_layer or self.drafts_block(model)


def draft_model(model: Model, drafter: Drafter) -> Model:
    """Return the layers that draft, mostly one, as a model."""
    layers = model.block_layers if drafter.drafts_block(model) else 1
    main = dataclasses.replace(model.main, layers=layers)
    if drafter.drafts_block(model) and main.kind in COMPRESSED:
        main = dataclasses.replace(
            main, kind="hca", compress_tokens=NO_ROWS, chosen_tokens=0, index_heads=0, index_dim=0
        )
    one: dict[str, Any] = {
        "layers": layers,
        "attention": (main,),
        "first_dense_layers": 0,
        "moe_every": 1,
        "ffn_layers": 0,
    }
    if drafter.has_own_layers(model):
        return dataclasses.replace(model, **one)
    visited = model.expert_ffn_dim * (model.experts_per_token + model.shared_experts)
    no_experts: dict[str, Any] = dict.fromkeys(
        ("experts", "experts_per_token", "expert_ffn_dim", "shared_experts", "latent_expert_dim"), 0
    )
    return dataclasses.replace(model, **one, **no_experts, ffn_dim=visited or model.ffn_dim)


def draft_layout(model: Model, layout: Layout, drafter: Drafter) -> Layout:
    """Return how the layer that drafts is spread, and its format: a head in bf16, a copy for each rank."""
    if drafter.has_own_layers(model):
        return layout
    return layout._replace(
        tensor_parallel=layout.rank_devices,
        attention_data_parallel=1,
        expert_parallel=1,
        redundant_experts=0,
        weight_dtype="bf16",
    )


def draft_work(model: Model, accelerator: Accelerator, layout: Layout, drafter: Drafter) -> Work:
    """Return the work of one pass of the layer that drafts, on one device."""
    one, spread = draft_model(model, drafter), draft_layout(model, layout, drafter)
    found = work(one, accelerator, spread)
    dtype = precisions(one, spread.weight_dtype)[0]
    params = _stated(drafter) or _joining(one, drafter)
    compute_s = 2 * params / layout.rank_devices / accelerator.flop_per_s(dtype)
    read_s = params / layout.rank_devices * weight_byte(one, dtype) / accelerator.hbm_byte_per_s
    if _stated(drafter):
        return found._replace(
            dense_compute_s=compute_s, dense_read_s=read_s, head_compute_s=0.0, head_read_s=0.0
        )
    return found._replace(
        dense_compute_s=found.dense_compute_s + compute_s, dense_read_s=found.dense_read_s + read_s
    )


def draft_weight_bytes(model: Model, layout: Layout, drafter: Drafter) -> tuple[float, float]:
    """Return the bytes of the weights that only drafting needs, and of those one device holds. [bytes]

    A model that comes with several MTP layers loads them all; embedding and LM head are the model's.
    """
    if not drafter.has_layer:
        return 0.0, 0.0
    one, spread = draft_model(model, drafter), draft_layout(model, layout, drafter)
    each = weight_byte(one, precisions(one, spread.weight_dtype)[0])
    if _stated(drafter):
        return _stated(drafter) * each, _stated(drafter) * each / layout.rank_devices
    total, device = weight_bytes(dataclasses.replace(one, vocab=1), spread)
    joining = _joining(one, drafter) * each
    layers = max(model.mtp_layers, 1) if drafter.is_own_layer else 1
    return layers * (total + joining), layers * (device + joining / layout.rank_devices)


def draft_token_bytes(model: Model, layout: Layout, drafter: Drafter) -> float:
    """Return the KV cache of one token in the layer that drafts, on one device. [bytes]"""
    if not drafter.has_layer:
        return 0.0
    return kv_token_bytes(draft_model(model, drafter).attention, layout)


def _stated(drafter: Drafter) -> float:
    return (drafter.params_b or 0.0) * 1e9


def _joining(one: Model, drafter: Drafter) -> float:
    """Return the parameters of the matrix in front of the layer that drafts."""
    return float(STATES_JOINED[drafter.draft] * one.hidden**2)
