"""`config.json` read: the model it describes, what was found, what was assumed and what is not understood."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sim_core.catalogue.models.config.entries import MODEL, Entries
from sim_core.catalogue.models.config.feed_forward import feed_forward_of
from sim_core.catalogue.models.config.heads import attention_of
from sim_core.catalogue.models.config.layers import layer_count, layer_kinds
from sim_core.catalogue.models.config.weights import weights_of
from sim_core.catalogue.models.custom import UNKNOWN_MAX_POSITION
from sim_core.catalogue.models.model import Model
from sim_core.catalogue.models.own import OWN, plain_name
from sim_core.fields.errors import ScenarioError, shown
from sim_core.fields.texts import read_json

_TEXT_PARTS = ("text_config", "llm_config", "language_config", "language_model_config", "thinker_config")
_TIED = (  # families whose configuration class ties both vocabulary matrices unless it says otherwise
    *(
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "gemma3n",
        "gemma3n_text",
        "gemma4",
        "gemma4_text",
        "gpt2",
        "opt",
        "bloom",
        "mpt",
    ),
    *("falcon", "cohere", "cohere2", "starcoder2", "gpt_bigcode"),
)
_TELLING = re.compile(  # entries that would change the arithmetic, if they are none of those taken
    r"attn|attention|mamba|ssm|linear_|lora_rank|compress|sparse|index_|expert|moe|window|kv_shared|hidden_size_per_layer"
    r"|use_cla|block_|hybrid|engram|memory",
)
_HARMLESS = re.compile(  # of those, what tunes training or positions, or costs next to nothing
    r"dropout|bias|_loss|coef|norm|rope|rotary|softcap|scal|rout(ing|er)_|scoring|topk_(group|method)|n_group$"
    r"|jitter|act(ivation)?$|capacity|output_|init|_eps|sink|conv|chunk_size$|time_step|dtype|overlap|implementation"
    r"|_flash|qk_head_dim|max_window_layers|residual|cross_attention|bidirectional|freq|offset|gate|group|softmax"
    r"|kernels|expand|logit|mtp|attn_res|beta|transform|sparse_(disable|score|local)|use_norm|interleave|parallel"
    r"|layer_idx|dt_rank|multi_query_attention|is_|fused|fusion|hidden_act"
)
MOST_UNKNOWN = 8


class ReadConfig(NamedTuple):
    """A configuration as it was read: its model, and what stood for entries that it does not have."""

    model: Model
    assumed: tuple[str, ...]
    unknown: tuple[str, ...]  # entries that may matter and are not understood


def read_config_text(text: str, file: str = "config.json") -> ReadConfig:
    """Return the model of a `config.json`.

    Raises
    ------
    ScenarioError
        If the text is no JSON table, or does not describe a model that can be simulated.
    """
    return read_config(read_json(text, file), file)


def read_config(table: object, file: str = "config.json") -> ReadConfig:
    """Return the model of the parsed table of a `config.json`, as `read_config_text` does."""
    if not isinstance(table, Mapping):
        raise ScenarioError(f"{file} is {shown(table)}; a configuration is a table, {{...}}.")
    entries = Entries(_text_part(table, file), file)
    layers = entries.layers = layer_count(entries)
    hidden = entries.whole(MODEL["hidden"], "hidden_size", "n_embd", "d_model", "dim", "model_dim")
    kinds = layer_kinds(entries, layers)
    attention = attention_of(entries, kinds, hidden)
    forward = feed_forward_of(entries, kinds, hidden)
    fields = {
        "layers": layers,
        "hidden": hidden,
        "vocab": entries.whole(MODEL["vocab"], "vocab_size", "padded_vocab_size", "n_vocab"),
        "tied_embeddings": _tied(entries),
        "attention": attention,
        "max_position": _longest(entries),
        "residual_streams": entries.whole(MODEL["residual_streams"], "hc_mult", default=1),
        "mtp_layers": _further(entries),
        **forward,
        **weights_of(entries, "experts" in forward),
    }
    try:
        model = Model(id=OWN, name=_name(table, entries), family=OWN, confidence="low", source=file, **fields)
    except ScenarioError as error:
        raise ScenarioError(f"{file}: {error}") from None
    return ReadConfig(model, tuple(dict.fromkeys(entries.assumed)), _unknown(entries))


def _text_part(table: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    """Return the language model's part of a configuration, with what the whole says for all its parts."""
    for key in _TEXT_PARTS:
        inner = table.get(key)
        if inner is not None:
            if not isinstance(inner, Mapping):
                raise ScenarioError(f"{file}: {key} is {shown(inner)}; it must be a table.")
            deeper = next(
                (inner[name] for name in _TEXT_PARTS if isinstance(inner.get(name), Mapping)), inner
            )
            kept = {name: value for name, value in table.items() if name in _OF_ALL}
            return {**kept, **{name: value for name, value in deeper.items() if value is not None}}
    return table


_OF_ALL = (
    *("tie_word_embeddings", "quantization_config", "quantization", "compression_config"),
    *("torch_dtype", "dtype"),
)


def _tied(entries: Entries) -> bool:
    if not entries.has("tie_word_embeddings"):
        kind = entries.text("model_type")
        one = kind in _TIED
        count = "one matrix" if one else "two matrices"
        entries.assumed.append(f"tie_word_embeddings is not given: {count} for embedding and LM head")
        return one
    return entries.switch("tie_word_embeddings")


def _longest(entries: Entries) -> int:
    keys = (
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "seq_length",
        "max_seq_len",
        "n_ctx",
    )
    if not entries.has(*keys, "model_max_length"):
        entries.assumed.append("the longest sequence is not given: no limit")
    return entries.whole(MODEL["max_position"], *keys, "model_max_length", default=UNKNOWN_MAX_POSITION)


def _further(entries: Entries) -> int:
    return entries.given(
        MODEL["mtp_layers"], "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules"
    )


def _name(table: Mapping[str, Any], entries: Entries) -> str:
    path = table.get("_name_or_path") or entries.table.get("_name_or_path")
    named = path.rstrip("/").rsplit("/", 1)[-1] if isinstance(path, str) else ""
    kind = entries.text("model_type")
    return plain_name(named) or plain_name(f"own {kind}" if kind else "") or "own model"


def _unknown(entries: Entries) -> tuple[str, ...]:
    """Return the entries that would change the arithmetic and were not taken."""
    found = [
        key
        for key, value in entries.table.items()
        if isinstance(key, str)
        and key not in entries.taken
        and value not in (None, False, 0, "", [], {})
        and _TELLING.search(key)
        and not _HARMLESS.search(key)
    ]
    more = [f"and {len(found) - MOST_UNKNOWN} more"] if len(found) > MOST_UNKNOWN else []
    return (*(key[:60] for key in found[:MOST_UNKNOWN]), *more)
