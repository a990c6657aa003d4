"""Models by the scenario's own dimensions: made of them alone, or a known one with some changed."""

from __future__ import annotations

import dataclasses
from typing import Any

from sim_core.catalogue.models.attention import GROUPED, STATES, Attention, with_layers
from sim_core.catalogue.models.model import Model
from sim_core.fields.errors import ScenarioError

UNKNOWN_MAX_POSITION = 10_000_000
ATTENTION_KEYS = ("heads", "kv_heads", "head_dim", "window_tokens")
CUSTOM_NEEDS = ("layers", "hidden", "heads", "ffn_dim", "vocab")


def custom_model(given: dict[str, Any]) -> Model:
    """Return a model made of the scenario's dimensions alone: every layer alike, gated, untied."""
    missing = [name for name in CUSTOM_NEEDS if name not in given]
    if missing:
        raise ScenarioError(f"model is custom, which also needs {', '.join(missing)}; set them.")
    heads = {key: given[key] for key in ATTENTION_KEYS if key in given}
    defaults = {"kv_heads": given["heads"], "head_dim": max(1, given["hidden"] // given["heads"])}
    rest = {key: value for key, value in given.items() if key not in ATTENTION_KEYS}
    if "experts" in given:
        rest = {"expert_ffn_dim": given["ffn_dim"]} | rest
    return Model(
        id="custom",
        name="custom model",
        family="custom",
        attention=(Attention(kind="full", layers=given["layers"], **(defaults | heads)),),
        max_position=UNKNOWN_MAX_POSITION,
        confidence="low",
        source="dimensions of the scenario",
        **rest,
    )


def custom_dimensions(item: Model) -> dict[str, int]:
    """Return what `custom_model` takes of a model: it comes as near as layers that are all alike can.

    What a token keeps besides keys and values of heads becomes one key/value head of the same size in the
    cache. Left out are windows of some layers, states, shared experts, and dense layers before the experts.
    """
    grouped = item.main.kind in GROUPED
    found = {
        "layers": item.layers,
        "hidden": item.hidden,
        "heads": item.heads,
        "kv_heads": item.kv_heads if grouped else 1,
        "head_dim": item.head_dim if grouped else max(1, round(item.main.cached_values / 2)),
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
    layers = changes.get("layers", item.layers)
    groups = with_layers(item.attention, item.layers, layers)
    own = {key: changes[key] for key in ATTENTION_KEYS if key in changes}
    rest = {key: value for key, value in changes.items() if key not in ATTENTION_KEYS}
    ffn_layers = round(item.ffn_layers * layers / item.layers)
    return dataclasses.replace(
        item,
        name=f"{item.name} (changed)",
        attention=tuple(_changed(group, own) for group in groups) if own and _takes(item, own) else groups,
        ffn_layers=ffn_layers,
        first_dense_layers=min(item.first_dense_layers, ffn_layers or layers),
        total_params_b=None,
        active_params_b=None,
        **rest,
    )


def _changed(group: Attention, changes: dict[str, int]) -> Attention:
    """Return layers with what of the changes they know: a state has other heads, latent ones no sizes."""
    known: dict[str, Any] = {key: changes[key] for key in changes if key in _known_by(group)}
    return dataclasses.replace(group, **known)


def _known_by(group: Attention) -> tuple[str, ...]:
    """Return the keys of the scenario that mean something to a kind of attention."""
    if group.kind == "full":
        return ATTENTION_KEYS
    if group.kind == "mla":
        return ("heads", "window_tokens")
    if group.kind == "msa":
        return ("heads", "kv_heads", "head_dim")
    return () if group.kind in STATES else ("heads",)


def _takes(item: Model, changes: dict[str, int]) -> bool:
    """Return True; raise a `ScenarioError` where a change means nothing to any layer of a model."""
    for key in changes:
        if not any(key in _known_by(group) for group in item.attention):
            reason = (
                "caches one latent vector per token (MLA)"
                if item.latent
                else f"has {item.main.kind} attention"
            )
            raise ScenarioError(
                f"{key} is set but {item.name} {reason}. Leave {key} unset, or use model=custom."
            )
    return True
