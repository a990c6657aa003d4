"""A model told: its sizes and its kinds of layers, as pages and commands show them."""

from __future__ import annotations

from typing import Any

from sim_core.catalogue.models.attention import KINDS, Attention
from sim_core.catalogue.models.known import models
from sim_core.catalogue.models.model import Model
from sim_core.fields.texts import counted


def sizes(model: Model) -> dict[str, Any]:
    """Return what a reader checks a model by: parameters, KV cache in bf16, state, kinds and formats."""
    return {
        "name": model.name,
        "total_params_b": model.total_params / 1e9,
        "active_params_b": model.active_params / 1e9,
        "kv_kb_per_token": model.kv_bytes_per_token() / 1e3,
        "state_mb_per_sequence": model.state_bytes() / 1e6,
        "layers": model.layers,
        "kinds": kinds_of(model),
        "weights": model.native_weight_dtype,
        "experts": model.native_expert_dtype if model.is_moe else "",
        "max_position": model.max_position,
    }


def kinds_of(model: Model) -> list[str]:
    """Return a line for each kind of layer that a model has: of attention, and of feed-forward blocks."""
    found = [_attention(group) for group in model.attention]
    without = model.layers - model.attention_layers
    if without > 0:
        found.append(f"{counted(without, 'layer')} without attention")
    if model.is_moe:
        found.append(_experts(model))
    if model.dense_layers:
        found.append(f"{counted(model.dense_layers, 'layer')} with a dense block {model.ffn_dim:,} wide")
    return found


def _attention(group: Attention) -> str:
    heads = counted(group.heads, "head")
    if group.kv_heads:
        heads += f", {group.kv_heads} for keys and values"
    more = [heads]
    if group.window_tokens:
        more.append(f"a window of {counted(group.window_tokens, 'token')}")
    if group.compress_tokens:
        more.append(f"{counted(group.compress_tokens, 'token')} in a row")
    if group.chosen_tokens:
        more.append(f"{group.chosen_tokens:,} chosen")
    return (
        f"{counted(group.layers, 'layer')} of {group.kind} attention ({KINDS[group.kind]}): {'; '.join(more)}"
    )


def _experts(model: Model) -> str:
    shared = f", {model.shared_experts} shared" if model.shared_experts else ""
    return (
        f"{counted(model.moe_layers, 'layer')} with {model.experts:,} experts {model.expert_ffn_dim:,} wide, "
        f"{model.experts_per_token} a token{shared}"
    )


def known_as(model: Model) -> list[Model]:
    """Return the presets that are a model: alike in depth, width, vocabulary, parameters and memory."""
    return [item for item in models().values() if _measures(item) == _measures(model)]


def _measures(model: Model) -> tuple[float, ...]:
    counts = (model.layers, model.hidden, model.vocab, model.total_params, model.active_params)
    return (*counts, model.kv_bytes_per_token(), model.state_bytes())
