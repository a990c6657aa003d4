"""The feed-forward blocks of a configuration: how wide, in which layers experts, and how many of them."""

from __future__ import annotations

from typing import Any

from sim_core.catalogue.models.config.entries import MODEL, Entries, block_part
from sim_core.catalogue.models.config.layers import EXPERTS, FEED_FORWARD
from sim_core.fields.errors import ScenarioError, shown

_EXPERTS = (
    *("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts"),
    "num_routed_experts",
)
_CHOSEN = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_topk"),
    *("moe_k", "moe_top_k", "num_selected_experts"),
)
_WIDTH = ("intermediate_size", "ffn_hidden_size", "n_inner", "d_ff", "ffn_dim")
_EXPERT_WIDTH = (
    *("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", "expert_intermediate_size"),
)
_SHARED = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
_SHARED_WIDTH = (
    *("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size"),
    "share_expert_dim",
)
_PLAIN = (  # families whose feed-forward blocks have two matrices
    *("gpt2", "gptj", "gpt_neox", "gpt_bigcode", "falcon", "opt", "bloom", "mpt", "phi", "starcoder2"),
    *("nemotron", "nemotron_h"),
)
_SQUARED = ("relu2", "squared_relu")
_WIDER = 4  # times the hidden size, where no width is given


def feed_forward_of(entries: Entries, kinds: list[str], hidden: int) -> dict[str, Any]:
    """Return the fields of a `Model` that say what its feed-forward blocks are."""
    inner = entries.part("ffn_config")  # DBRX
    source = inner if inner is not None else entries
    experts = source.given(MODEL["experts"], *_EXPERTS)
    found: dict[str, Any] = {"gated_mlp": _gated(entries)}
    if entries.has("block_configs"):
        return found | _searched(entries, hidden)
    with_own = any(kind in (EXPERTS, FEED_FORWARD) for kind in kinds)
    blocks = sum(kind in (EXPERTS, FEED_FORWARD) for kind in kinds) if with_own else len(kinds)
    if blocks < len(kinds):
        found["ffn_layers"] = blocks
    if experts <= 1:
        if source.has(*_EXPERTS):
            _doubt_dense(entries, source, experts)
        entries.taken.update((*_CHOSEN, *_EXPERT_WIDTH))
        return found | {"ffn_dim": _dense_width(entries, hidden)}
    dense = blocks - (kinds.count(EXPERTS) if with_own else sum(_moe_layers(entries, blocks)))
    found |= {"experts": experts, "first_dense_layers": dense}
    found |= _experts(source, hidden)
    if dense:
        found["ffn_dim"] = _dense_width(entries, hidden)
    return found | _beside(entries, found["expert_ffn_dim"], hidden)


def _doubt_dense(entries: Entries, source: Entries, experts: int) -> None:
    """Say where other entries speak of more experts than the one or none that make blocks dense."""
    chosen = source.given(MODEL["experts_per_token"], *_CHOSEN)
    width = next((key for key in _EXPERT_WIDTH if not experts and source.table.get(key)), "")
    told = next((key for key in _CHOSEN if chosen > experts and source.has(key)), width)
    if told:
        few = next(key for key in _EXPERTS if source.has(key))
        entries.assumed.append(
            f"{few} is {experts}, though {told} is {shown(source.table[told])}: blocks are counted as dense"
        )


def _gated(entries: Entries) -> bool:
    kind = entries.text("model_type")
    act = entries.get(
        "mlp_hidden_act", "hidden_act", "hidden_activation", "activation_function", "activation"
    )
    return kind not in _PLAIN and act not in _SQUARED


def _dense_width(entries: Entries, hidden: int) -> int:
    keys = ("intermediate_size_mlp", "dense_intermediate_size", *_WIDTH)
    if not entries.has(*keys):
        entries.assumed.append(
            f"the width of feed-forward blocks is not given: {_WIDER} times the hidden size"
        )
    return entries.whole(MODEL["ffn_dim"], *keys, default=_WIDER * hidden)


def _experts(source: Entries, hidden: int) -> dict[str, Any]:
    """Return how many experts a token visits, and their width; some name it as a dense block's."""
    width = source.whole(MODEL["expert_ffn_dim"], *_EXPERT_WIDTH, *_WIDTH)
    found = {
        "experts_per_token": source.whole(MODEL["experts_per_token"], *_CHOSEN),
        "expert_ffn_dim": width,
    }
    latent = source.given(MODEL["latent_expert_dim"], "routed_expert_hidden_size", "moe_latent_size")
    return found | ({"latent_expert_dim": latent} if latent and latent != hidden else {})


def _beside(entries: Entries, width: int, hidden: int) -> dict[str, Any]:
    """Return the shared experts: counted, or by their width; blocks beside the experts count as one."""
    kind = entries.text("model_type")
    if entries.switch("enable_moe_block") or entries.text("model_type").startswith("llama4"):
        wide = entries.whole(MODEL["shared_expert_ffn_dim"], "intermediate_size")
        return _shared(1, wide, width)
    wide = entries.given(MODEL["shared_expert_ffn_dim"], *_SHARED_WIDTH)
    count = entries.given(MODEL["shared_experts"], *_SHARED)
    if entries.has(*_SHARED_WIDTH) and not wide and not count:
        return {}
    if wide and not count:
        count = 1
    if wide and count > 1 and kind.startswith(("nemotron", "ernie")):  # the width is of all together
        wide //= count
    return _shared(count, wide or width, width) if count else {}


def _shared(count: int, wide: int, width: int) -> dict[str, Any]:
    return {"shared_experts": count} | ({"shared_expert_ffn_dim": wide} if wide != width else {})


def _moe_layers(entries: Entries, layers: int) -> list[bool]:
    """Return for every layer whether it has experts."""
    listed = entries.each("mlp_layer_types", layers)
    if listed is not None:
        return [name in ("sparse", "moe") for name in listed]
    for key in ("is_moe_layer", "moe_layer_freq"):
        if isinstance(entries.table.get(key), list):
            return [bool(flag) for flag in entries.each(key, layers) or []]
    numbered = _numbered(entries)
    if numbered is not None:
        return [layer in numbered for layer in range(layers)]
    first = entries.given(
        MODEL["first_dense_layers"],
        *("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers", "first_k_dense_layers"),
    )
    every = entries.whole(
        MODEL["moe_every"],
        *("moe_layer_freq", "decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval"),
        *("expert_layer_period", "moe_every_n_layers"),
        default=1,
    )
    offset = entries.whole(MODEL["first_dense_layers"], "expert_layer_offset", default=every - 1)
    last = entries.whole(MODEL["layers"], "moe_layer_end_index", default=layers)
    plain = entries.get("mlp_only_layers") or []
    if not isinstance(plain, list) or not all(isinstance(layer, int) for layer in plain):
        raise ScenarioError(
            f"{entries.name('mlp_only_layers')} is {shown(plain)}; it must be a list of layers by number."
        )
    dense = set(plain)  # hostile files list a million
    return [
        first <= layer <= last and layer % every == offset % every and layer not in dense
        for layer in range(layers)
    ]


def _numbered(entries: Entries) -> frozenset[int] | None:
    """Return the layers with experts where they are listed by number, as a list or in a text."""
    key = "moe_layers_enum" if entries.has("moe_layers_enum") else "moe_layers"
    value = entries.get(key)
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",") if part.strip()]
        value = (
            [int(part) for part in parts]
            if all(part.isdigit() and len(part) < 6 for part in parts)
            else value
        )
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(isinstance(number, int) for number in value):
        raise ScenarioError(f"{entries.name(key)} is {shown(value)}; it must be a list of layers by number.")
    return frozenset(value)


def _searched(entries: Entries, hidden: int) -> dict[str, Any]:
    """Return the blocks of a searched architecture: as many of them, of their mean width."""
    widths = []
    for block in entries.each("block_configs") or []:
        own = Entries(block_part(entries, block, "ffn"), entries.file, "block_configs.ffn.")
        if own.switch("no_op"):
            continue
        given = own.given(MODEL["ffn_dim"], "intermediate_size")
        times = own.get("ffn_mult")
        if not given and not (isinstance(times, (int, float)) and 0 < times < 100):
            raise ScenarioError(f"{own.name('ffn_mult')} is {shown(times)}; it must lie between 0 and 100.")
        widths.append(given or _rounded(2 * times * hidden / 3))
    if not widths:
        raise ScenarioError(f"{entries.file} describes no layer with a feed-forward block.")
    entries.assumed.append("feed-forward blocks of different widths are counted by their mean")
    layers = len(entries.each("block_configs") or [])
    found = {"ffn_dim": round(sum(widths) / len(widths))}
    return found | ({"ffn_layers": len(widths)} if len(widths) < layers else {})


def _rounded(width: float) -> int:
    """Return a width as Nemotron NAS rounds it: up to a multiple of 256."""
    return -(-int(width) // 256) * 256
