"""What attention takes of one device, by kind of layer: KV cache, states, and the work of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.models import GROUPED, STATE_BYTES, Attention, Model
from sim_core.price.work.layout import BYTES_PER_VALUE, Layout

TERMS = ("context", "window", "row")


# --- what is kept ---------------------------------------------------------------------------------


def kv_token_bytes(groups: Iterable[Attention], layout: Layout) -> float:
    """Return the KV cache of one token in some layers of a model on one device. [bytes]

    Key/value heads are divided, at least one a device; latent vectors and indices are on every device. Where
    devices divide their contexts, each holds its part of what they would all hold.
    """
    each = BYTES_PER_VALUE[layout.kv_dtype]
    return sum(
        group.layers * ((_read_values(group, layout) + group.scanned_values) * each + group.index_bytes)
        for group in groups
    )


def state_bytes(model: Model, layout: Layout) -> float:
    """Return what one sequence keeps on one device whatever its length: states, and V4's windows. [bytes]"""
    kept = BYTES_PER_VALUE[layout.kv_dtype]
    return sum(
        group.layers * (group.state_values * STATE_BYTES / layout.rank_devices + group.kept_values * kept)
        for group in model.attention
    )


def _read_values(group: Attention, layout: Layout) -> float:
    """Return the numbers that one device keeps, and a query reads, of a token within reach."""
    if group.kind in GROUPED:
        heads = math.ceil(group.kv_heads / layout.rank_devices)
        return heads * (group.head_dim + group.value_dim) / layout.context_parallel
    return group.read_values / layout.context_parallel


def attention_flop_per_s(accelerator: Accelerator, kv_dtype: str) -> float:
    """Return the peak of attention arithmetic [FLOP/s]: bf16, or on an fp8 cache fp8 where it exists."""
    if kv_dtype == "fp8" and accelerator.fp8_tflop_per_s:
        return max(accelerator.flop_per_s("fp8"), accelerator.attention_flop_per_s)
    return accelerator.attention_flop_per_s


# --- the work of a step ---------------------------------------------------------------------------


class AttentionPiece(NamedTuple):
    """What one kernel of one kind of layer adds to a term of a step, in seconds at the device's peaks.

    The terms: ``context`` grows with every token of the context, ``window`` with those within reach, ``row``
    comes once for each decode (what it reads) and once for each token (what it computes).
    """

    term: str
    kernel: str  # a kind of `presets/kernels/attention.csv`
    read_s: float  # per token and decode; of a row: per decode
    decode_s: float  # arithmetic per token and decode
    prefill_s: float  # arithmetic per pair of a prefill; of a row: per token


def attention_pieces(model: Model, accelerator: Accelerator, layout: Layout) -> list[AttentionPiece]:
    """Return what the attention of all layers adds to a step of one device, by term and kernel."""
    found: list[AttentionPiece] = []
    for group in model.attention:
        if group.layers:
            found += _pieces(group, model.reach_tokens, accelerator, layout)
    return found


def _pieces(
    group: Attention, reach: int, accelerator: Accelerator, layout: Layout
) -> Iterator[AttentionPiece]:
    """Return what one kind of layer adds; the kernels know one reach, shorter ones are met by every row."""
    bandwidth, each = accelerator.hbm_byte_per_s, BYTES_PER_VALUE[layout.kv_dtype]
    whole = attention_flop_per_s(accelerator, layout.kv_dtype)
    divided, layers = whole * layout.rank_devices, group.layers
    lanes = max(group.heads, group.least_heads * layout.rank_devices) / group.heads
    gathered = layout.rank_devices / layout.context_parallel  # a decode brings the heads of all who share
    joined = max(group.heads, group.least_heads * gathered) / group.heads
    read_s = layers * (_read_values(group, layout) * each) / bandwidth
    decode_s, pair_s = (
        joined * layers * group.decode_flop / divided,
        lanes * layers * group.pair_flop / divided,
    )
    if group.reach_tokens and group.reach_tokens < reach:
        near = group.reach_tokens
        yield AttentionPiece("row", group.kind, near * read_s, 0.0, near * pair_s)
    elif group.read_values:
        yield AttentionPiece(
            "window" if group.reach_tokens else "context", group.kind, read_s, decode_s, pair_s
        )
    scanned = group.scanned_values * each + group.index_bytes
    if scanned:
        flop_s = layers * group.scan_flop / whole  # every device scans the whole index
        yield AttentionPiece("context", group.index_kernel, layers * scanned / bandwidth, flop_s, flop_s)
    moved = 2 * group.state_values * STATE_BYTES / layout.rank_devices + group.kept_values * each
    if moved:
        yield AttentionPiece(
            "row", group.kind, layers * moved / bandwidth, 0.0, lanes * layers * group.token_flop / divided
        )
