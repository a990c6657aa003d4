"""The time no engine can beat for one step, counted straight from the model's dimensions."""

from __future__ import annotations

from sim_core.price.one_step import window_pairs
from sim_core.price.work import (
    attention_flop,
    attention_flop_per_s,
    kv_bytes_per_layer,
    layout_of,
    parameters,
    precisions,
    weight_byte,
)
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of


def floor_step_s(
    scenario: Scenario, decode_batch: int, context: float, prefill_tokens: int = 0, prefill_start: int = 0
) -> float:
    """Return the time no engine can beat for one step [s]: the larger of bytes / bandwidth and FLOP / peak.

    Counted straight from the model's dimensions, all devices as one, and independent of the tables above.
    Weights and KV cache are read once, nothing else moves; the embedding table is not read.
    """
    model, accelerator = model_of(scenario), accelerator_of(scenario)
    dense, expert, head = precisions(model, scenario.weight_dtype)
    count = parameters(model)
    tokens = decode_batch + prefill_tokens
    rows = decode_batch + (1 if prefill_tokens else 0)
    always = count.shared + count.replicated + count.key_value
    used = model.experts_per_token / model.experts if count.expert else 0.0
    full, windowed = model.full_layers, model.window_layers
    seen = full * context + windowed * min(context, model.window_tokens)
    kv_bytes = (
        decode_batch * seen * kv_bytes_per_layer(model, layout_of(scenario)._replace(tensor_parallel=1))
    )
    moved = (
        always * weight_byte(model, dense)
        + count.expert * weight_byte(model, expert) * (1 - (1 - used) ** tokens)
        + (count.head * weight_byte(model, head) if rows else 0)
        + kv_bytes
    )
    end = prefill_start + prefill_tokens
    pairs = full * (end**2 - prefill_start**2) / 2
    pairs += windowed * float(window_pairs(prefill_start, end, model.window_tokens))
    decode_flop, prefill_flop = attention_flop(model)
    seen_flop = decode_flop * decode_batch * seen + prefill_flop * pairs
    computed_s = (
        2 * always * tokens / accelerator.flop_per_s(dense)
        + 2 * count.expert * used * tokens / accelerator.flop_per_s(expert)
        + 2 * count.head * rows / accelerator.attention_flop_per_s
        + seen_flop / attention_flop_per_s(accelerator, scenario.kv_dtype)
    )
    return max(moved / accelerator.hbm_byte_per_s, computed_s) / scenario.tensor_parallel
