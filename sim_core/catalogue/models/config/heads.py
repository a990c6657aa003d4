"""The attention of a configuration: its layers in groups that are alike, each with its heads and widths."""

from __future__ import annotations

import dataclasses
from typing import Any

from sim_core.catalogue.models.attention import Attention
from sim_core.catalogue.models.config.entries import ATTENTION, Entries, block_part
from sim_core.catalogue.models.config.layers import FULL, MAMBA, STATE, WINDOW, window_of
from sim_core.fields.errors import ScenarioError

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS = (
    "num_key_value_heads",
    "num_kv_heads",
    "n_head_kv",
    "multi_query_group_num",
    "num_attention_groups",
)
CHOSEN_RATIO = 16  # tokens of a row up to which an index chooses among the rows; of wider ones all are read
_HEAD_DIM = ("head_dim", "attention_head_dim", "kv_channels", "head_size")


def attention_of(entries: Entries, kinds: list[str], hidden: int) -> tuple[Attention, ...]:
    """Return the groups of layers with attention, those that see the whole context first.

    Raises
    ------
    ScenarioError
        If an entry that a kind needs is missing or cannot be used, or no layer has attention.
    """
    groups = []
    for kind, read in ((FULL, _seeing_all), (WINDOW, _windowed), (STATE, _state), (MAMBA, _mamba)):
        if count := kinds.count(kind):
            groups += read(entries, count, hidden)
    if not groups:
        raise ScenarioError(f"{entries.file} describes no layer with attention, which every model here has.")
    return tuple(groups)


def _seeing_all(entries: Entries, layers: int, hidden: int) -> list[Attention]:
    if entries.has("compress_ratios"):
        return _compressed(entries, layers)
    if entries.has("kv_lora_rank"):
        return _latent(entries, layers)
    if entries.has("block_configs"):
        return _searched(entries, hidden)
    full = _grouped(entries, layers, hidden)
    if entries.has("global_head_dim"):  # Gemma 4: wider heads, fewer of keys, where a layer sees everything
        kv_heads = entries.whole(ATTENTION["kv_heads"], "num_global_key_value_heads", default=full.kv_heads)
        wide = entries.whole(ATTENTION["head_dim"], "global_head_dim")
        alike = entries.switch("attention_k_eq_v")
        full = dataclasses.replace(full, kv_heads=kv_heads, head_dim=wide, values_are_keys=alike)
    sparse = entries.part("sparse_attention_config")
    return [full] if sparse is None else _blocks(sparse, full)


def _grouped(entries: Entries, layers: int, hidden: int, prefix: str = "") -> Attention:
    """Return layers with key/value heads; entries of their own begin with a prefix."""

    def whole(field: str, keys: tuple[str, ...], default: int | None = None) -> int:
        own = tuple(prefix + key for key in keys if prefix) + keys
        return entries.whole(ATTENTION[field], *own, default=default)

    heads = whole("heads", _HEADS)
    return Attention(
        kind="full",
        layers=layers,
        heads=heads,
        kv_heads=_kv_heads(entries, heads, whole),
        head_dim=whole("head_dim", _HEAD_DIM, max(hidden // heads, 1)),
        v_dim=whole("v_dim", ("v_head_dim",), 0),
        gated=entries.switch("attn_output_gate", "attention_output_gate", default=_gated(entries)),
    )


def _gated(entries: Entries) -> bool:
    """Return whether a family gates the output of attention without an entry that says so."""
    return entries.text("model_type").startswith("qwen3_next")


def _kv_heads(entries: Entries, heads: int, whole: Any) -> int:
    one = entries.switch("multi_query") and not entries.switch("new_decoder_architecture")
    if one and not entries.has("num_key_value_heads"):
        return 1
    inner = entries.part("attn_config")  # DBRX, MPT
    if inner is not None and inner.has("kv_n_heads"):
        return inner.whole(ATTENTION["kv_heads"], "kv_n_heads")
    if not entries.has(*_KV_HEADS):
        entries.assumed.append("key/value heads are not given: taken as many as query heads")
    return int(whole("kv_heads", _KV_HEADS, heads))


def _windowed(entries: Entries, layers: int, hidden: int) -> list[Attention]:
    group = _grouped(entries, layers, hidden, prefix="swa_")
    other = entries.part("attention_other_setting")  # Step: more query heads where there is a window
    if other is not None:
        group = dataclasses.replace(
            group, heads=other.whole(ATTENTION["heads"], *_HEADS, default=group.heads)
        )
    window = window_of(entries)
    if not window:
        raise ScenarioError(
            f"{entries.file} has {layers} layers with a sliding window but no sliding_window; add it."
        )
    return [dataclasses.replace(group, window_tokens=window)]


def _latent(entries: Entries, layers: int) -> list[Attention]:
    """Return latent attention, with an index where there is one; some layers may share its choice."""

    def whole(field: str, key: str, default: int | None = None) -> int:
        return entries.whole(ATTENTION[field], key, default=default)

    chosen = whole("chosen_tokens", "index_topk", 0)
    group = Attention(
        kind="dsa" if chosen else "mla",
        layers=layers,
        heads=entries.whole(ATTENTION["heads"], *_HEADS),
        q_lora=whole("q_lora", "q_lora_rank", 0),
        kv_lora=whole("kv_lora", "kv_lora_rank"),
        qk_nope=whole("qk_nope", "qk_nope_head_dim"),
        qk_rope=whole("qk_rope", "qk_rope_head_dim"),
        v_dim=whole("v_dim", "v_head_dim"),
        gated=entries.switch("mla_use_output_gate"),
        chosen_tokens=chosen,
        index_heads=whole("index_heads", "index_n_heads") if chosen else 0,
        index_dim=whole("index_dim", "index_head_dim") if chosen else 0,
    )
    shared = (entries.each("indexer_types", layers) or []).count("shared") if chosen else 0
    if not shared:
        return [group]
    own = dataclasses.replace(group, layers=layers - shared)
    return [own, dataclasses.replace(group, layers=shared, index_heads=0, index_dim=0)]


def _blocks(sparse: Entries, full: Attention) -> list[Attention]:
    """Return layers that choose blocks of keys and values, and those that read all (MiniMax-M3)."""
    if not sparse.switch("use_sparse_attention", default=True):
        return [full]
    flags = sparse.each("sparse_attention_freq", full.layers) or [1] * full.layers
    chosen = sum(bool(flag) for flag in flags)
    block = sparse.whole(ATTENTION["compress_tokens"], "sparse_block_size")
    group = dataclasses.replace(
        full,
        kind="msa",
        layers=chosen,
        chosen_tokens=block * sparse.whole(ATTENTION["heads"], "sparse_topk_blocks"),
        index_heads=sparse.whole(ATTENTION["index_heads"], "sparse_num_index_heads"),
        index_dim=sparse.whole(ATTENTION["index_dim"], "sparse_index_dim"),
    )
    rest = dataclasses.replace(full, layers=full.layers - chosen)
    return [group] if not rest.layers else [rest, group] if chosen else [full]


def _compressed(entries: Entries, layers: int) -> list[Attention]:
    """Return layers that keep few rows of many tokens (DeepSeek-V4), by how many tokens a row holds."""
    ratios = [_ratio(entries, ratio) for ratio in entries.each("compress_ratios", layers) or []]

    def whole(field: str, *keys: str) -> int:
        return entries.whole(ATTENTION[field], *keys)

    alike: dict[str, Any] = {
        "heads": whole("heads", *_HEADS),
        "head_dim": whole("head_dim", "head_dim"),
        "q_lora": whole("q_lora", "q_lora_rank"),
        "o_lora": whole("o_lora", "o_lora_rank"),
        "o_groups": whole("o_groups", "o_groups"),
        "window_tokens": whole("window_tokens", "sliding_window"),
    }
    rows = whole("chosen_tokens", "index_topk")
    index = {
        "index_heads": whole("index_heads", "index_n_heads"),
        "index_dim": whole("index_dim", "index_head_dim"),
    }
    groups = []
    for ratio in sorted(set(ratios), key=lambda one: (one == 0, one)):
        few = 0 < ratio <= CHOSEN_RATIO
        own = {"chosen_tokens": rows * ratio, **index} if few else {}
        groups.append(
            Attention(
                kind="csa" if few else "hca",
                layers=ratios.count(ratio),
                compress_tokens=ratio,
                **(alike | own),
            )
        )
    return groups


def _ratio(entries: Entries, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000:
        raise ScenarioError(
            f"{entries.name('compress_ratios')} has {value!r}; it must be tokens a row, from 0 to 1,000,000."
        )
    return value


def _searched(entries: Entries, hidden: int) -> list[Attention]:
    """Return layers of a searched architecture (Nemotron NAS), by how many queries share a key."""
    heads = entries.whole(ATTENTION["heads"], *_HEADS)
    found: dict[int, int] = {}
    for block in entries.each("block_configs") or []:
        own = Entries(block_part(entries, block, "attention"), entries.file, "block_configs.attention.")
        if own.switch("no_op"):
            continue
        shared = own.whole(ATTENTION["heads"], "n_heads_in_group", default=1)
        kv_heads = own.whole(ATTENTION["kv_heads"], "num_key_value_heads", default=max(heads // shared, 1))
        found[kv_heads] = found.get(kv_heads, 0) + 1
    size = max(hidden // heads, 1)
    return [
        Attention(kind="full", layers=count, heads=heads, kv_heads=kv_heads, head_dim=size)
        for kv_heads, count in found.items()
    ]


def _state(entries: Entries, layers: int, hidden: int) -> list[Attention]:
    """Return layers that keep a state: gated delta, Kimi delta, or else plain linear attention."""
    kimi = entries.part("linear_attn_config")
    if kimi is not None:
        heads = kimi.whole(ATTENTION["heads"], "num_heads")
        size = kimi.whole(ATTENTION["head_dim"], "head_dim")
        return [Attention(kind="kda", layers=layers, heads=heads, head_dim=size)]
    if entries.has("linear_num_value_heads"):
        return [
            Attention(
                kind="gdn",
                layers=layers,
                heads=entries.whole(ATTENTION["heads"], "linear_num_value_heads"),
                key_heads=entries.whole(ATTENTION["key_heads"], "linear_num_key_heads"),
                head_dim=entries.whole(ATTENTION["head_dim"], "linear_value_head_dim"),
                state_dim=entries.whole(ATTENTION["state_dim"], "linear_key_head_dim"),
            )
        ]
    entries.assumed.append("linear attention is counted as gated delta with heads as in other layers")
    heads = entries.whole(ATTENTION["heads"], *_HEADS)
    size = entries.whole(ATTENTION["head_dim"], *_HEAD_DIM, default=max(hidden // heads, 1))
    return [Attention(kind="gdn", layers=layers, heads=heads, key_heads=heads, head_dim=size, state_dim=size)]


def _mamba(entries: Entries, layers: int, hidden: int) -> list[Attention]:
    """Return state-space layers; those without heads (Mamba-1) as if their channels were in heads."""
    state = entries.whole(ATTENTION["state_dim"], "ssm_state_size", "mamba_d_state", "mamba_state_dim")
    if not entries.has("mamba_num_heads", "mamba_n_heads"):
        entries.assumed.append("Mamba layers without heads are counted as Mamba-2 with heads of 64")
    inner = entries.whole(ATTENTION["heads"], "mamba_expand", "expand", default=2) * hidden
    heads = entries.whole(ATTENTION["heads"], "mamba_num_heads", "mamba_n_heads", default=max(inner // 64, 1))
    if entries.table.get("mamba_d_head") == "auto":
        entries.taken.add("mamba_d_head")
        size = max(inner // heads, 1)
    else:
        size = entries.whole(
            ATTENTION["head_dim"], "mamba_head_dim", "mamba_d_head", default=max(inner // heads, 1)
        )
    groups = entries.whole(ATTENTION["key_heads"], "n_groups", "mamba_n_groups", default=1)
    return [
        Attention(
            kind="mamba2",
            layers=layers,
            heads=heads,
            key_heads=groups,
            head_dim=size,
            state_dim=state,
        )
    ]
