"""The layers of a configuration by kind: which of them see everything or a window, or keep a state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sim_core.catalogue.models.config.entries import ATTENTION, MODEL, Entries, block_part
from sim_core.fields.errors import ScenarioError, shown

FULL, WINDOW, STATE, MAMBA, NONE = "full", "window", "state", "mamba", "none"
FEED_FORWARD, EXPERTS = "feed-forward", "experts"  # layers of their own, without attention
_NAMES = {
    **dict.fromkeys(
        ("full_attention", "attention", "global_attention", "deepseek_sparse_attention", "full", "*"), FULL
    ),
    **dict.fromkeys(("sliding_attention", "chunked_attention", "local_attention", "sliding"), WINDOW),
    **dict.fromkeys(("linear_attention", "linear"), STATE),
    **dict.fromkeys(("mamba", "mamba2", "M"), MAMBA),
    **dict.fromkeys(("mlp", "-"), FEED_FORWARD),
    **dict.fromkeys(("moe", "E"), EXPERTS),
}
PATTERNS = ("hybrid_override_pattern", "layers_block_type")
_ALTERNATE = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4}  # the last of so many sees everything
_LLAMA4_FULL = 4  # without rotary embedding, and without chunks


def layer_count(entries: Entries) -> int:
    """Return the layers of a configuration, which may only list them."""
    keys = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if not entries.has(*keys):
        for key in (*PATTERNS, "layer_types", "block_configs"):
            listed = entries.get(key)
            if isinstance(listed, (str, list)) and listed:
                entries.assumed.append(f"{keys[0]} is not given: counted by {key}")
                return _counted(entries, key, len(listed))
    return entries.whole(MODEL["layers"], *keys)


def _counted(entries: Entries, key: str, count: int) -> int:
    most = int(MODEL["layers"].high)
    if count > most:
        raise ScenarioError(f"{entries.name(key)} lists {count:,} layers; the limit is {most:,}.")
    return count


def layer_kinds(entries: Entries, layers: int) -> list[str]:
    """Return the kind of every layer, as whatever entry says it that the configuration has."""
    for reader in _READERS:
        found = reader(entries, layers)
        if found is not None:
            return found
    return [FULL] * layers


def _listed(entries: Entries, layers: int) -> list[str] | None:
    entries.get("full_attention_interval")  # the list says as much, layer by layer
    for key in ("layer_types", *PATTERNS):
        value = entries.get(key)
        if value is None:
            continue
        names: Sequence[Any] = value.strip() if isinstance(value, str) else entries.each(key, layers) or ()
        if len(names) != layers:
            raise ScenarioError(f"{entries.name(key)} lists {len(names):,} layers, but there are {layers:,}.")
        return [_kind(entries, key, name) for name in names]
    return None


def _kind(entries: Entries, key: str, name: object) -> str:
    if name == "conv":
        _once(
            entries,
            "convolution layers are counted as layers without attention, their own projections left out",
        )
        return NONE
    if isinstance(name, str) and name in _NAMES:
        return _NAMES[name]
    known = ", ".join(sorted(name for name in _NAMES if len(name) > 1))
    raise ScenarioError(
        f"{entries.name(key)} has a layer {shown(name)}, a kind that is not known here. Known: {known}."
    )


def _once(entries: Entries, words: str) -> None:
    if words not in entries.assumed:
        entries.assumed.append(words)


def _rows(entries: Entries, layers: int) -> list[str] | None:
    """Return layers that all keep rows of many tokens beside a window, which then tells none apart."""
    return [FULL] * layers if entries.has("compress_ratios") else None


def _numbered(entries: Entries, layers: int) -> list[str] | None:
    """Return layers of which some are listed by number, counted from one (Kimi Linear)."""
    config = entries.part("linear_attn_config")
    if config is None:
        return None
    states = _numbers(config, "kda_layers") or ()
    return [STATE if number in states else FULL for number in range(1, layers + 1)]


def _numbers(entries: Entries, key: str) -> frozenset[int] | None:
    found = entries.get(key)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(number, int) for number in found):
        raise ScenarioError(f"{entries.name(key)} is {shown(found)}; it must be a list of layers by number.")
    return frozenset(found)


def _flagged(entries: Entries, layers: int) -> list[str] | None:
    """Return layers that a list of 0 and 1 tells apart."""
    for key, zero, one in (("hybrid_layer_pattern", FULL, WINDOW), ("attn_type_list", STATE, FULL)):
        flags = entries.each(key, layers)
        if flags is not None:
            return [one if flag else zero for flag in flags]
    return None


def _among(entries: Entries, layers: int) -> list[str] | None:
    """Return states with attention at some numbers among them, or at every n-th."""
    listed = _numbers(entries, "attn_layer_indices")
    if listed is not None:
        return [FULL if layer in listed else MAMBA for layer in range(layers)]
    every = entries.given(MODEL["layers"], "attn_layer_period")
    if every:
        offset = entries.given(MODEL["layers"], "attn_layer_offset")
        return [FULL if layer % every == offset else MAMBA for layer in range(layers)]
    every = entries.given(MODEL["layers"], "full_attention_interval")
    if "linear" in entries.text("model_type"):  # Ring: the last of a group sees everything
        every = every or entries.given(MODEL["layers"], "layer_group_size")
    if every:
        return [FULL if (layer + 1) % every == 0 else STATE for layer in range(layers)]
    return None


def _windows(entries: Entries, layers: int) -> list[str] | None:
    """Return layers with a sliding window, or with chunks, and those that see everything."""
    if not window_of(entries):
        return None
    kind = entries.text("model_type")
    pattern = entries.get("sliding_window_pattern", "_sliding_window_pattern")
    if isinstance(pattern, str):  # one letter a layer: local, global
        letters = (pattern * layers)[:layers]
        return [FULL if letter == "G" else WINDOW for letter in letters]
    if entries.has("attention_chunk_size") and kind.startswith("llama4"):
        rotary = entries.get("no_rope_layers")
        if isinstance(rotary, list) and len(rotary) >= layers:
            return [WINDOW if flag else FULL for flag in rotary[:layers]]
        return [FULL if (layer + 1) % _LLAMA4_FULL == 0 else WINDOW for layer in range(layers)]
    every = entries.given(MODEL["layers"], "sliding_window_pattern", "_sliding_window_pattern")
    every = every or _ALTERNATE.get(kind, 0)
    if every:
        return [FULL if (layer + 1) % every == 0 else WINDOW for layer in range(layers)]
    if entries.has("use_sliding_window", "max_window_layers"):  # Qwen: the first of them see everything
        first = entries.given(MODEL["layers"], "max_window_layers")
        return [FULL if layer < first else WINDOW for layer in range(layers)]
    return [WINDOW] * layers


def window_of(entries: Entries) -> int:
    """Return the sliding window or chunk, 0 without one; one as long as the longest sequence is none."""
    info = ATTENTION["window_tokens"]
    window = entries.given(
        info, "sliding_window", "sliding_window_size", "attention_chunk_size", "window_size"
    )
    if not entries.switch("use_sliding_window", default=True):
        return 0
    longest = entries.given(MODEL["max_position"], "max_position_embeddings")
    return 0 if longest and window >= longest else window


def _nas(entries: Entries, layers: int) -> list[str] | None:
    """Return layers of a searched architecture, some of which have no attention."""
    blocks = entries.each("block_configs", layers)
    if blocks is None:
        return None
    return [NONE if block_part(entries, block, "attention").get("no_op") else FULL for block in blocks]


_READERS: tuple[Callable[[Entries, int], list[str] | None], ...] = (
    _rows, _listed, _numbered, _flagged, _nas, _among, _windows,
)  # fmt: skip
