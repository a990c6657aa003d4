"""The sizes of a model and its kinds of layers, as a reader checks them, and which preset it is."""

from __future__ import annotations

from typing import Any

from sim_core.catalogue.models.known import models
from sim_core.catalogue.models.model import Model
from sim_core.catalogue.models.told import attention_lines
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
        "kinds": layer_lines(model),
        "weights": model.native_weight_dtype,
        "experts": model.native_expert_dtype if model.is_moe else "",
        "max_position": model.max_position,
    }


def layer_lines(model: Model) -> list[str]:
    """Return a line for each kind of layer that a model has: of attention, and of feed-forward blocks."""
    found = attention_lines(model)
    if model.is_moe:
        found.append(_experts(model))
    if model.dense_layers:
        found.append(f"{counted(model.dense_layers, 'layer')}: a dense block {model.ffn_dim:,} wide")
    return found


def _experts(model: Model) -> str:
    shared = f", {model.shared_experts} shared" if model.shared_experts else ""
    return (
        f"{counted(model.moe_layers, 'layer')}: {model.experts:,} experts {model.expert_ffn_dim:,} wide, "
        f"{model.experts_per_token} a token{shared}"
    )


def known_as(model: Model) -> list[Model]:
    """Return the presets that are a model: alike in depth, width, vocabulary, parameters and memory."""
    return [item for item in models().values() if _measures(item) == _measures(model)]


def _measures(model: Model) -> tuple[float, ...]:
    counts = (model.layers, model.hidden, model.vocab, model.total_params, model.active_params)
    return (*counts, model.kv_bytes_per_token(), model.state_bytes())
