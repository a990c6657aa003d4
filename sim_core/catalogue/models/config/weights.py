"""The weights of a configuration: in which formats its checkpoint stores them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from sim_core.catalogue.models.config.entries import MODEL, Entries
from sim_core.fields.errors import shown
from sim_core.fields.field import FieldInfo

_PARTS = ("quantization_config", "quantization", "compression_config")
_BITS = ("gptq", "awq", "auto-round", "auto_round", "autoround", "hqq")
_STORED_BITS = FieldInfo(int, "model", "Bits of a stored weight", low=1, high=64)
_FORMATS = (  # a mark in the name of a format, and the format: the first that fits
    *(("nvfp4", "nvfp4"), ("mxfp4", "mxfp4"), ("w4a16", "int4"), ("w4a8", "int4"), ("int4", "int4")),
    *(("awq", "int4"), ("fp4", "nvfp4"), ("w8a8", "int8"), ("int8", "int8"), ("w8a16", "int8")),
    *(("fp8", "fp8"), ("float8", "fp8"), ("e4m3", "fp8")),
)
_PLAIN = ("auto", "bfloat16", "bf16", "float16", "fp16", "half", "float32", "fp32", "float")  # served in bf16
_LEFT_OUT = ("ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers")
_INPUTS = frozenset({"q_proj", "q_b_proj", "kv_b_proj", "k_proj", "qkv_proj"})
_OUTPUTS = frozenset({"o_proj", "dense", "out_proj"})
_ATTENTION = re.compile(r"attn|attention")
_EXPERT = re.compile(r"(?<!shared_)expert")
_FEED_FORWARD = re.compile(r"mlp|ffn|feed_forward")


class Stored(NamedTuple):
    """A format: empty where it is not understood; how many integers share a scale, 0 where none do."""

    format: str
    group: int = 0


class Rule(NamedTuple):
    """Layers that a checkpoint stores in a format, by parts of their names; no names are all layers."""

    names: tuple[str, ...]
    stored: Stored

    def holds(self, mark: re.Pattern[str]) -> int:
        """Return how many of its layers have a mark in their names."""
        return sum(bool(mark.search(name)) for name in self.names)


def weights_of(entries: Entries, has_experts: bool) -> dict[str, Any]:
    """Return the fields of a `Model` that say in which formats its checkpoint is stored; none for bf16."""
    stated = entries.text("expert_dtype") if has_experts else ""
    config = next((part for key in _PARTS if (part := entries.part(key)) is not None), None)
    if config is None:
        _check_plain(entries)
        return {}
    rules = _rules(config)
    most = _of(rules, _EXPERT if has_experts else _FEED_FORWARD)
    if not most.format:
        name = next(
            (config.get(key) for key in ("quant_algo", "quant_method", "format") if config.has(key)), ""
        )
        bits = config.get("bits", "nbits", "w_bit")
        width = f" of {bits} bits" if isinstance(bits, int) else ""
        entries.assumed.append(
            f"quantisation {shown(name)}{width} is not known here: weights are counted as bf16"
        )
        return {}
    dense = _of(rules, _ATTENTION) if has_experts else most
    if has_experts and _leaves_out_attention(config):
        dense = Stored("bf16")
    experts = Stored(_named(stated) or most.format, most.group)
    if stated and "fp4" in stated.lower() and most.format == "fp8":
        experts = Stored("mxfp4")  # scales of powers of two, as its 8-bit weights have
    fields = _fields(config, dense if dense.format else Stored("bf16"), experts, has_experts)
    kept = _kept_attention(config, has_experts)
    return fields | ({"native_attention": kept} if kept and fields.get("native_weight_dtype") else {})


def _check_plain(entries: Entries) -> None:
    """Say where weights that are not quantised are of a type that is not known."""
    kind = entries.text("torch_dtype", "dtype")
    if kind and kind.lower().removeprefix("torch.") not in _PLAIN:
        entries.assumed.append(f"torch_dtype {shown(kind)} is not known here: weights are counted as bf16")


def _fields(config: Entries, dense: Stored, experts: Stored, has_experts: bool) -> dict[str, Any]:
    used = (dense, experts) if has_experts else (dense,)
    fields: dict[str, Any] = {}
    for name, stored in zip(("native_weight_dtype", "native_expert_dtype"), used, strict=False):
        if stored.format != "bf16":
            fields[name] = "fp4" if stored.format.endswith("fp4") else stored.format
    if any(stored.format == "mxfp4" for stored in used):
        fields["native_fp4"] = "mxfp4"
    if config.has("weight_block_size") and any(stored.format == "fp8" for stored in used):
        fields["fp8_scaling"] = "block"
    group = next((stored.group for stored in used if stored.format == "int4" and stored.group), 0)
    return fields | ({"int4_group": group} if group else {})


def _of(rules: list[Rule], mark: re.Pattern[str]) -> Stored:
    """Return the format of layers with a mark: of the rule that names most, else of that for all."""
    named = [rule for rule in rules if rule.names]
    most = max(named, key=lambda rule: rule.holds(mark), default=None)
    if most is not None and most.holds(mark):
        return most.stored
    return next((rule.stored for rule in rules if not rule.names), Stored(""))


def _rules(config: Entries) -> list[Rule]:
    groups, layers = config.get("config_groups"), config.get("quantized_layers")
    if isinstance(layers, dict) and layers:
        return _by_format(layers)
    if isinstance(groups, dict) and groups:
        return [_of_group(group) for group in groups.values() if isinstance(group, dict)]
    return [Rule((), _of_all(config))]


def _by_format(layers: dict[str, Any]) -> list[Rule]:
    """Return one rule a format of layers that are listed by name (NVIDIA ModelOpt)."""
    names: dict[str, list[str]] = {}
    for name, layer in layers.items():
        algorithm = layer.get("quant_algo") if isinstance(layer, dict) else layer
        names.setdefault(_named(str(algorithm)), []).append(name)
    return [Rule(tuple(listed), Stored(stored)) for stored, listed in names.items()]


def _of_group(group: dict[str, Any]) -> Rule:
    """Return a group of layers with its format (compressed-tensors); `Linear` names all."""
    targets, weights = group.get("targets"), group.get("weights")
    named = tuple(name for name in targets if isinstance(name, str)) if isinstance(targets, list) else ()
    names = () if "Linear" in named else named
    if not isinstance(weights, dict):
        return Rule(names, Stored(""))
    bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    if (kind, bits) == ("float", 4):
        return Rule(names, Stored("mxfp4" if "mxfp4" in str(group.get("format")) or size == 32 else "nvfp4"))
    known = {("float", 8): "fp8", ("int", 4): "int4", ("int", 8): "int8"}
    return Rule(names, Stored(known.get((str(kind), bits if isinstance(bits, int) else 0), ""), _group(size)))


def _group(size: object) -> int:
    low, high = MODEL["int4_group"].low, MODEL["int4_group"].high
    return size if isinstance(size, int) and not isinstance(size, bool) and low <= size <= high else 0


def _of_all(config: Entries) -> Stored:
    """Return the format that all layers have, by the method's name and its bits."""
    method = config.text("quant_method").lower()
    size = _group(config.get("group_size", "q_group_size"))
    if method in _BITS:
        bits = config.whole(_STORED_BITS, "bits", "nbits", "w_bit", default=4)
        return Stored({4: "int4", 8: "int8"}.get(bits, ""), size)
    if method == "bitsandbytes":
        return Stored("int4", 64) if config.switch("load_in_4bit") else Stored("int8")
    names = (config.text("quant_algo"), config.text("moe_quant_algo"), method, config.text("format"))
    return Stored(next((found for name in names if (found := _named(name))), ""), size)


def _named(name: str) -> str:
    """Return the format that a name stands for, empty if none is known."""
    text = name.lower()
    return next((stored for mark, stored in _FORMATS if mark in text), "")


def _leaves_out_attention(config: Entries) -> bool:
    """Return whether most of the layers that stay as they are, by name or pattern, are of attention."""
    return any(_whole_attention(name) for key in _LEFT_OUT for name in _texts(config.get(key)))


def _kept_attention(config: Entries, has_experts: bool) -> str:
    """Return what of attention stays in bf16 by itself: its inputs, all of it, or nothing.

    NVIDIA lists projections one by one: those of queries, keys and values, in some checkpoints that of the
    output, too. Beside experts, attention that is left out as a whole stands for all weights but theirs.
    """
    names = [name.rstrip("*.") for key in _LEFT_OUT for name in _texts(config.get(key))]
    if not has_experts and any(_whole_attention(name) for name in names):
        return "all"
    last = {name.rpartition(".")[2] for name in names if _ATTENTION.search(name)}
    if not last & _INPUTS:
        return ""
    return "all" if last & _OUTPUTS else "inputs"


def _texts(listed: object) -> Iterable[str]:
    return (name for name in listed if isinstance(name, str)) if isinstance(listed, list) else ()


def _whole_attention(name: str) -> bool:
    """Return whether a name stands for a layer's whole attention, or that of all layers."""
    bare = name.removeprefix("re:").rstrip("*.$")
    return bool(re.search(r"(attn|attention)$", bare))
