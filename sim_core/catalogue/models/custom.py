"""Models by the scenario's own dimensions: made of them alone, or a known one with some changed."""

from __future__ import annotations

import dataclasses
from typing import Any

from sim_core.catalogue.models.model import Model
from sim_core.fields.errors import ScenarioError

UNKNOWN_MAX_POSITION = 10_000_000
CUSTOM_NEEDS = ("layers", "hidden", "heads", "ffn_dim", "vocab")


def custom_model(given: dict[str, Any]) -> Model:
    """Return a model made of the scenario's dimensions alone: every layer alike, gated, untied."""
    missing = [name for name in CUSTOM_NEEDS if name not in given]
    if missing:
        raise ScenarioError(f"model is custom, which also needs {', '.join(missing)}; set them.")
    defaults = {"kv_heads": given["heads"], "head_dim": max(1, given["hidden"] // given["heads"])}
    if "experts" in given:
        defaults["expert_ffn_dim"] = given["ffn_dim"]
    if "window_tokens" in given:
        defaults["window_layers"] = given["layers"]
    return Model(
        id="custom",
        name="custom model",
        family="custom",
        max_position=UNKNOWN_MAX_POSITION,
        confidence="low",
        source="dimensions of the scenario",
        **(defaults | given),
    )


def custom_dimensions(item: Model) -> dict[str, int]:
    """Return what `custom_model` takes of a model: it comes as near as layers that are all alike can.

    A latent KV vector becomes one key/value head of the same size in the cache. Left out are windows of some
    layers, shared experts, and dense layers before the experts.
    """
    found = {
        "layers": item.layers,
        "hidden": item.hidden,
        "heads": item.heads,
        "kv_heads": item.kv_heads if item.attention == "full" else 1,
        "head_dim": item.head_dim if item.attention == "full" else item.kv_elements // 2,
        "ffn_dim": item.ffn_dim or item.expert_ffn_dim,
        "vocab": item.vocab,
    }
    if item.is_moe:
        found |= {name: getattr(item, name) for name in ("experts", "experts_per_token", "expert_ffn_dim")}
    if item.window_layers == item.layers:
        found["window_tokens"] = item.window_tokens
    return found


def changed_model(item: Model, changes: dict[str, Any]) -> Model:
    """Return a preset model with some dimensions changed; layer patterns keep their proportions."""
    lost = [name for name in ("kv_heads", "head_dim") if name in changes and item.attention == "mla"]
    if lost:
        raise ScenarioError(
            f"{lost[0]} is set but {item.name} caches one latent vector per token (MLA). "
            f"Leave {lost[0]} unset, or use model=custom."
        )
    layers = changes.get("layers", item.layers)
    patterns = {
        name: round(getattr(item, name) * layers / item.layers)
        for name in ("window_layers", "linear_attention_layers")
    }
    patterns["first_dense_layers"] = min(item.first_dense_layers, layers)
    if item.window_tokens and not patterns["window_layers"]:
        patterns["window_layers"] = 1
    if "window_tokens" in changes:
        patterns["window_layers"] = layers - patterns["linear_attention_layers"]
    return dataclasses.replace(
        item,
        name=f"{item.name} (changed)",
        total_params_b=None,
        active_params_b=None,
        **(patterns | changes),
    )
