"""Memory: what weights and activations leave for the KV cache, and what to change if nothing is left."""

from __future__ import annotations

import math
from typing import NamedTuple

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.models import Model
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.work import Layout, check_layout, group_sizes, kv_bytes_per_layer, layout_of, weight_bytes
from sim_core.scenario.scenario import DEFAULTS, Scenario, accelerator_of, model_of


class DoesNotFit(ScenarioError):
    """The weights, or weights and one KV block, exceed the memory of the devices."""


# --- memory ---------------------------------------------------------------------------------------


class Engine(NamedTuple):
    """The engine's keys that memory and the price tables depend on."""

    kv_memory_frac: float
    kv_block_tokens: int
    token_budget: int
    max_batch: int
    replicas: int
    prefill_switch_ms: float | None


def engine_of(scenario: Scenario) -> Engine:
    """Return the part of a scenario that sets memory and table sizes."""
    return Engine(*(getattr(scenario, name) for name in Engine._fields))


class Memory(NamedTuple):
    """Memory of one device [bytes], and the tokens of KV cache that one replica holds."""

    usable_bytes: float
    weight_bytes: float
    reserve_bytes: float
    token_bytes: float
    window_bytes: float
    kv_tokens: int


def _memory(model: Model, accelerator: Accelerator, layout: Layout, engine: Engine) -> Memory:
    """Return how a device's memory is used.

    Sliding-window layers keep only their window: that much is set aside for each of `max_batch` sequences,
    unless caching every token in every layer leaves more room.
    """
    usable = accelerator.hbm_bytes * engine.kv_memory_frac
    weights = weight_bytes(model, layout)[1]
    reserve = _activation_reserve_bytes(model, layout, engine)
    full, windowed = model.full_layers, model.window_layers
    layer_bytes = kv_bytes_per_layer(model, layout)
    rest = usable - weights - reserve
    token_bytes, window_bytes = (full + windowed) * layer_bytes, 0.0
    if full and windowed:
        set_aside = windowed * layer_bytes * engine.max_batch * model.window_tokens
        if (rest - set_aside) / full > rest / (full + windowed):
            token_bytes, window_bytes = full * layer_bytes, set_aside
    tokens = math.floor(max(rest - window_bytes, 0.0) / token_bytes)
    return Memory(usable, weights, reserve, token_bytes, window_bytes, tokens)


def _activation_reserve_bytes(model: Model, layout: Layout, engine: Engine) -> float:
    """Return the memory set aside for the activations of the largest step on one device.

    One layer's hidden states (six copies) and inner states in bf16, and the logits of all rows in fp32.
    """
    tp = layout.tensor_parallel
    wide = max(model.ffn_dim, model.experts_per_token * model.expert_ffn_dim)
    per_token = 2.0 * (6 * model.hidden + 3 * wide / tp)
    rows = min(engine.max_batch, engine.token_budget)
    return per_token * engine.token_budget + 4.0 * rows * model.vocab / tp


def kv_blocks(model: Model, accelerator: Accelerator, layout: Layout, engine: Engine) -> int:
    """Return the KV blocks of one replica; raises `DoesNotFit` with what would help."""
    found = _memory(model, accelerator, layout, engine)
    blocks = found.kv_tokens // engine.kv_block_tokens
    if blocks >= 1:
        return blocks
    total = weight_bytes(model, layout)[0]
    tp = layout.tensor_parallel
    devices = f"{tp} x {accelerator.name} {'has' if tp == 1 else 'have'}"
    usable, fitted = tp * found.usable_bytes / 1e9, tp * accelerator.hbm_gb
    need = f"{model.name} needs {_figure(total / 1e9)} GB for weights"
    if found.usable_bytes > found.weight_bytes:
        need += f" and {_figure(tp * found.reserve_bytes / 1e9)} GB for activations, which leaves no KV block"
    raise DoesNotFit(
        f"{need}; {devices} {_figure(usable)} GB usable of {_figure(fitted)} GB. "
        f"{_what_would_fit(model, accelerator, layout, engine)}"
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _what_would_fit(model: Model, accelerator: Accelerator, layout: Layout, engine: Engine) -> str:
    """Return a computed way out: the engine's usual sizes, more devices, or fewer bytes per weight."""

    def fits(candidate: Layout, engine: Engine = engine) -> bool:
        return _memory(model, accelerator, candidate, engine).kv_tokens >= engine.kv_block_tokens

    wider = [tp for tp in group_sizes(model, layout.expert_parallel) if tp > layout.tensor_parallel]
    devices = next((tp for tp in wider if fits(layout._replace(tensor_parallel=tp))), None)
    total = weight_bytes(model, layout)[0]
    lighter = [
        dtype
        for dtype in ("fp8", "fp4")
        if weight_bytes(model, layout._replace(weight_dtype=dtype))[0] < total
    ]
    dtype = next((name for name in lighter if fits(layout._replace(weight_dtype=name))), None)
    ways = [
        f"{'raise' if key == 'kv_memory_frac' else 'lower'} {key} to {DEFAULTS[key]:,}"
        for key in ("kv_memory_frac", "token_budget", "max_batch")
        if fits(layout, engine._replace(**{key: DEFAULTS[key]}))
    ]
    ways += [f"raise tensor_parallel to at least {devices}"] if devices else []
    ways += [f"choose weight_dtype={dtype}"] if dtype else []
    if not ways:
        return "Choose a smaller model or a device with more memory."
    text = ", or ".join(ways)
    return f"{text[0].upper()}{text[1:]}."


def limit_words(model: Model, limit_tokens: int) -> str:
    """Return what sets the longest request an engine can hold, with its length."""
    if limit_tokens >= model.max_position:
        return f"the context window of {model.name}, {counted(model.max_position, 'token')}"
    return f"what the KV cache can hold of one request, {counted(limit_tokens, 'token')}"


def longer_than(model: Model, limit_tokens: int, tokens: int) -> tuple[str, str]:
    """Return what a request of so many tokens, which is refused, is too long for, and the way out.

    More memory does not help where the context window is too short as well.
    """
    if tokens > model.max_position:
        words = limit_words(model, model.max_position)
        return words, "Shorten the requests, or choose a model with a longer context."
    return limit_words(model, limit_tokens), "Shorten the requests, or give the KV cache more memory."


def nothing_fits(model: Model, limit_tokens: int, shortest: int, of: str = "prompt and answer") -> str:
    """Return why no request fits an engine, the shortest of which has so many tokens, and the way out."""
    limit, way_out = longer_than(model, limit_tokens, shortest)
    return (
        f"no request fits: the shortest has {counted(shortest, 'token')} ({of}), more than {limit}. {way_out}"
    )


def memory(scenario: Scenario) -> dict[str, float]:
    """Return how one replica's memory is used: GB over its devices together, and tokens of KV cache.

    Works for scenarios that do not fit, too: `kv_tokens` is then 0.
    """
    model, accelerator, layout = model_of(scenario), accelerator_of(scenario), layout_of(scenario)
    check_layout(model, layout)
    found = _memory(model, accelerator, layout, engine_of(scenario))
    group_gb = layout.tensor_parallel / 1e9
    kv_bytes = found.usable_bytes - found.weight_bytes - found.reserve_bytes
    return {
        "fitted_gb": accelerator.hbm_gb * layout.tensor_parallel,
        "usable_gb": found.usable_bytes * group_gb,
        "weights_gb": found.weight_bytes * group_gb,
        "activations_gb": found.reserve_bytes * group_gb,
        "kv_gb": max(kv_bytes, 0.0) * group_gb,
        "kv_bytes_per_token": found.token_bytes * layout.tensor_parallel,
        "kv_tokens": found.kv_tokens // scenario.kv_block_tokens * scenario.kv_block_tokens,
    }
