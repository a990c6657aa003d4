"""What one device must do and hold for a model in a layout: FLOP, bytes and memory, before any efficiency.

Assumptions stand in `sim_core.price.price`, which turns this work into seconds.
"""

from sim_core.price.work.attention import (
    TERMS,
    AttentionPiece,
    attention_flop_per_s,
    attention_pieces,
    kv_token_bytes,
    state_bytes,
)
from sim_core.price.work.contexts import check_contexts
from sim_core.price.work.drafts import (
    Drafter,
    draft_layout,
    draft_model,
    draft_token_bytes,
    draft_weight_bytes,
    draft_work,
)
from sim_core.price.work.held import Held, cache_held, weights_held
from sim_core.price.work.layout import (
    BYTES_PER_VALUE,
    Layout,
    Parameters,
    check_layout,
    group_sizes,
    kept_held,
    layout_of,
    padded,
    parameters,
    pool_keys,
    precisions,
    stage_frac,
    weight_byte,
    weight_bytes,
)
from sim_core.price.work.notes import layout_warnings
from sim_core.price.work.stages import check_stages, crosses_nodes, handed_on
from sim_core.price.work.work import Work, bf16_products, products, work

__all__ = [
    "BYTES_PER_VALUE",
    "TERMS",
    "AttentionPiece",
    "Drafter",
    "Held",
    "Layout",
    "Parameters",
    "Work",
    "attention_flop_per_s",
    "attention_pieces",
    "bf16_products",
    "cache_held",
    "check_contexts",
    "check_layout",
    "check_stages",
    "crosses_nodes",
    "draft_layout",
    "draft_model",
    "draft_token_bytes",
    "draft_weight_bytes",
    "draft_work",
    "group_sizes",
    "handed_on",
    "kept_held",
    "kv_token_bytes",
    "layout_of",
    "layout_warnings",
    "padded",
    "parameters",
    "pool_keys",
    "precisions",
    "products",
    "stage_frac",
    "state_bytes",
    "weight_byte",
    "weight_bytes",
    "weights_held",
    "work",
]
