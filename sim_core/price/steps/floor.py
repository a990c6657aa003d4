"""The time no engine can beat for one step, counted straight from the model's dimensions."""

from __future__ import annotations

from typing import NamedTuple

from sim_core.catalogue.models import STATE_BYTES
from sim_core.price.steps.one_step import window_pairs
from sim_core.price.work import (
    BYTES_PER_VALUE,
    Layout,
    attention_flop_per_s,
    kept_held,
    parameters,
    precisions,
    weight_byte,
)
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of


def floor_step_s(
    scenario: Scenario, decode_batch: float, context: float, prefill_tokens: int = 0, prefill_start: int = 0
) -> float:
    """Return the time no engine can beat for one step [s]: the larger of bytes / bandwidth and FLOP / peak.

    Counted straight from the model's dimensions, all devices of a group as one, and independent of the tables
    of the simulator. Weights and KV cache are read once, nothing else moves; the embedding table is not read.
    Drafts are verified, and cost nothing to make. A token passes the stages of an engine one after another,
    so one group alone works for it at a time; decodes may be dealt to as many batches as there are stages.
    """
    if decode_batch:
        decode_batch = max(decode_batch / scenario.pipeline_parallel, 1)
    model, accelerator = model_of(scenario), accelerator_of(scenario)
    dense, expert, head = precisions(model, scenario.weight_dtype)
    count = parameters(model)
    verified = decode_batch * (1 + scenario.drafts_at(int(decode_batch)))
    tokens = verified + prefill_tokens
    rows = verified + (1 if prefill_tokens else 0)
    kept = kept_held(model, Layout(1, 1, scenario.weight_dtype, scenario.kv_dtype))
    always = count.shared + count.replicated + count.key_value
    used = model.experts_per_token / model.experts if count.expert else 0.0
    seen = _attention(scenario, decode_batch, context, (prefill_start, prefill_start + prefill_tokens))
    moved = (
        (always - kept) * weight_byte(model, dense)
        + kept * weight_byte(model, head)
        + count.expert * weight_byte(model, expert) * (1 - (1 - used) ** tokens)
        + (count.head * weight_byte(model, head) if rows else 0)
        + seen.moved_bytes
    )
    computed_s = (
        2 * (always - kept) * tokens / accelerator.flop_per_s(dense)
        + 2 * kept * tokens / accelerator.attention_flop_per_s
        + 2 * count.expert * used * tokens / accelerator.flop_per_s(expert)
        + 2 * count.head * rows / accelerator.attention_flop_per_s
        + seen.flop / attention_flop_per_s(accelerator, scenario.kv_dtype)
    )
    return max(moved / accelerator.hbm_byte_per_s, computed_s) / scenario.tensor_parallel


class _Attention(NamedTuple):
    """What attention moves and computes in a step, all devices as one."""

    moved_bytes: float
    flop: float


def _attention(scenario: Scenario, decode_batch: float, context: float, chunk: tuple[int, int]) -> _Attention:
    """Return what the attention of all layers moves and computes: each kind by its own dimensions."""
    value_bytes, (start, end) = BYTES_PER_VALUE[scenario.kv_dtype], chunk
    moved = flop = 0.0
    for group in model_of(scenario).attention:
        reach = group.reach_tokens or context + end  # as good as none
        seen = decode_batch * min(context, reach)
        pairs = float(window_pairs(start, end, reach))
        scanned_bytes = group.scanned_values * value_bytes + group.index_bytes
        moved += group.layers * (
            seen * group.read_values * value_bytes
            + decode_batch * context * scanned_bytes
            + decode_batch * (2 * group.state_values * STATE_BYTES + group.kept_values * value_bytes)
        )
        every_pair = decode_batch * context + (end**2 - start**2) / 2
        flop += group.layers * (
            seen * group.decode_flop
            + pairs * group.pair_flop
            + every_pair * group.scan_flop
            + (decode_batch + end - start) * group.token_flop
        )
    return _Attention(moved, flop)
