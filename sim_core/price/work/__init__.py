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
from sim_core.price.work.drafts import (
    Drafter,
    draft_layout,
    draft_model,
    draft_token_bytes,
    draft_weight_bytes,
    draft_work,
)
from sim_core.price.work.layout import (
    BYTES_PER_VALUE,
    Layout,
    Parameters,
    check_layout,
    group_sizes,
    layout_of,
    layout_warnings,
    padded,
    parameters,
    precisions,
    weight_byte,
    weight_bytes,
)
from sim_core.price.work.work import Work, bf16_products, products, work

__all__ = [
    "BYTES_PER_VALUE",
    "TERMS",
    "AttentionPiece",
    "Drafter",
    "Layout",
    "Parameters",
    "Work",
    "attention_flop_per_s",
    "attention_pieces",
    "bf16_products",
    "check_layout",
    "draft_layout",
    "draft_model",
    "draft_token_bytes",
    "draft_weight_bytes",
    "draft_work",
    "group_sizes",
    "kv_token_bytes",
    "layout_of",
    "layout_warnings",
    "padded",
    "parameters",
    "precisions",
    "products",
    "state_bytes",
    "weight_byte",
    "weight_bytes",
    "work",
]
