"""What the layers of a model keep and what a query reads, in words."""

from __future__ import annotations

from sim_core.catalogue.models.attention import COMPRESSED, GROUPED, STATE_BYTES, STATES, Attention
from sim_core.catalogue.models.model import Model
from sim_core.fields.texts import counted

_NAMES = {"gdn": "gated delta rule", "kda": "Kimi delta attention", "mamba2": "Mamba-2"}


def attention_words(model: Model) -> str:
    """Return one sentence on what each kind of layer of a model keeps and reads.

    Examples
    --------
    >>> from sim_core.catalogue.models import model
    >>> attention_words(model("llama-3.1-8b"))
    '32 layers: 8 key/value heads of 128, reading the whole context.'
    """
    return "; ".join(attention_lines(model)) + "."


def attention_lines(model: Model) -> list[str]:
    """Return what each kind of layer of a model keeps and reads, one after another."""
    parts = [
        f"{counted(group.layers, 'layer')}: {_words(group)}" for group in model.attention if group.layers
    ]
    without = model.layers - model.attention_layers
    return parts + ([f"{counted(without, 'layer')}: no attention"] if without else [])


def reads_everything(model: Model) -> bool:
    """Return whether every layer attends to every token of the context."""
    return model.attention_layers == model.layers and not model.reach_tokens and not model.state_bytes()


def _words(group: Attention) -> str:
    if group.kind in STATES:
        size_mb = group.state_values * STATE_BYTES / 1e6
        return (
            f"a state of {size_mb:.2g} MB a sequence ({_NAMES[group.kind]}), read and written by every token"
        )
    if group.kind in COMPRESSED:
        return _compressed(group)
    kept = (
        f"{counted(group.kv_heads, 'key/value head')} of {group.head_dim}"
        if group.kind in GROUPED
        else f"a latent vector of {group.cached_values:.0f} numbers"
    )
    return f"{kept}, reading {_reach(group)}"


def _reach(group: Attention) -> str:
    if not group.reach_tokens:
        return "the whole context"
    if group.forgets:
        return f"the last {group.window_tokens:,} tokens"
    whose = "an index over all chooses" if group.index_heads else "another layer's index chose"
    return f"{group.reach_tokens:,} tokens that {whose}"


def _compressed(group: Attention) -> str:
    near = f"the last {group.window_tokens:,} tokens"
    if not group.compress_tokens:
        return f"only {near}"
    chosen = group.reach_tokens // group.compress_tokens
    rows = f"{chosen:,} of them that an index chooses" if chosen else "all of them"
    kept = f"a row of {group.head_dim} numbers every {group.compress_tokens} tokens"
    return f"{kept}, reading {rows}, and {near}"
