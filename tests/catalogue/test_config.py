"""Configurations as hubs publish them: models against published sizes and presets, and refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core import catalogue
from sim_core.catalogue.models import KINDS, own_model, own_text
from sim_core.catalogue.models.config import read_config, read_config_text
from sim_core.catalogue.models.sizes import known_as, layer_lines, sizes
from sim_core.fields.errors import ScenarioError
from tests.places import ROOT

ROWS = [
    json.loads(line)
    for line in (ROOT / "tests" / "catalogue" / "configs.jsonl").read_text(encoding="utf-8").splitlines()
]
TINY = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 256}


def model_of(**changes: Any):
    return read_config({**TINY, **changes}).model


# --- against what is published --------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=[row["model"] for row in ROWS])
def test_published_models_have_their_sizes(row: dict[str, Any]) -> None:
    """Oracles: published totals, within 2%; layers and parameters of the preset of that name, exactly.

    The entries are facts of the file that `source` names, without those that say nothing of sizes.
    """
    found = read_config(row["config"])
    assert found.model.total_params / 1e9 == pytest.approx(row["published_b"], rel=0.02)
    assert found.unknown == ()
    preset = catalogue.models().get(row["model"])
    if preset is not None:
        assert sorted(found.model.attention, key=repr) == sorted(preset.attention, key=repr)
        assert found.model.kv_bytes_per_token() == preset.kv_bytes_per_token()
        assert found.model.total_params == preset.total_params
        assert found.model.active_params == preset.active_params


def test_a_known_model_is_known() -> None:
    """Oracle: the preset of that name; three generations of Llama have the same dimensions at 70 billion."""
    named = {row["model"]: {item.id for item in known_as(read_config(row["config"]).model)} for row in ROWS}
    assert named["llama-3.1-8b"] == {"llama-3-8b", "llama-3.1-8b"}
    assert named["llama-3.1-70b"] == {"llama-3-70b", "llama-3.1-70b", "llama-3.3-70b"}
    assert named["deepseek-v4-pro"] == {"deepseek-v4-pro"}
    assert known_as(model_of()) == []


def test_enough_models_are_checked() -> None:
    """The aim by hand: thirty published configurations, of every kind of attention that there is."""
    kinds = {group.kind for row in ROWS for group in read_config(row["config"]).model.attention}
    assert len(ROWS) >= 30
    assert kinds == set(KINDS)


@pytest.mark.parametrize("row", ROWS, ids=[row["model"] for row in ROWS])
def test_a_text_carries_a_model_whole(row: dict[str, Any]) -> None:
    """Oracle: equality: a model written and read is the same; the text leaves a link room for the rest."""
    model = read_config(row["config"]).model
    text = own_text(model)
    found = own_model(text)
    assert found.attention == model.attention and own_text(found) == text
    assert sizes(found) == sizes(model)
    assert len(text) < 1000


# --- kinds of layers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "windowed"),
    [
        ({"sliding_window": 128}, 8),
        ({"sliding_window": 128, "use_sliding_window": False}, 0),
        ({"sliding_window": 128, "use_sliding_window": True, "max_window_layers": 6}, 2),
        ({"sliding_window": 4096}, 0),  # as long as the longest sequence
        ({"sliding_window": 128, "sliding_window_pattern": 4}, 6),
        ({"sliding_window": 128, "sliding_window_pattern": "LLLG"}, 6),
        ({"sliding_window": 128, "model_type": "gemma2"}, 4),
        ({"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 4}, 4),
        ({"attention_chunk_size": 128, "model_type": "llama4_text"}, 6),
        ({"attention_chunk_size": 128, "model_type": "llama4_text", "no_rope_layers": [1, 0] * 4}, 4),
        ({"sliding_window": 128, "hybrid_layer_pattern": [0, 1, 1, 1] * 2}, 6),
        ({"sliding_window": None}, 0),
    ],
)
def test_layers_with_a_window_are_counted(changes: dict[str, Any], windowed: int) -> None:
    """Counting by hand, by the rule of each family's configuration class."""
    assert model_of(**changes).window_layers == windowed


@pytest.mark.parametrize(
    ("changes", "states"),
    [
        ({"full_attention_interval": 4, "linear_num_value_heads": 8, "linear_num_key_heads": 4,
          "linear_value_head_dim": 64, "linear_key_head_dim": 64}, ("gdn", 6)),
        ({"attn_type_list": [0, 0, 0, 1] * 2}, ("gdn", 6)),
        ({"model_type": "bailing_moe_linear", "layer_group_size": 4}, ("gdn", 6)),
        ({"linear_attn_config": {"kda_layers": [1, 2, 3, 5, 6, 7], "num_heads": 8, "head_dim": 64}},
         ("kda", 6)),
        ({"layer_types": ["mamba", "attention"] * 4, "mamba_n_heads": 16, "mamba_d_head": 64,
          "mamba_d_state": 128, "mamba_n_groups": 1}, ("mamba2", 4)),
        ({"attn_layer_period": 4, "attn_layer_offset": 2, "mamba_d_state": 16, "mamba_expand": 2},
         ("mamba2", 6)),
        ({"attn_layer_indices": [3], "mamba_n_heads": 16, "mamba_d_head": "auto", "mamba_d_state": 64},
         ("mamba2", 7)),
    ],
)  # fmt: skip
def test_layers_with_a_state_are_counted(changes: dict[str, Any], states: tuple[str, int]) -> None:
    """Counting by hand: Qwen3-Next, MiniMax-01, Ring, Kimi Linear, Granite 4, Jamba and Bamba."""
    model = model_of(**changes)
    assert [(group.kind, group.layers) for group in model.attention if group.kind != "full"] == [states]
    assert model.linear_attention_layers == states[1] and model.state_bytes() > 0


@pytest.mark.parametrize(
    ("changes", "experts"),
    [
        ({}, 8),
        ({"first_k_dense_replace": 3}, 5),
        ({"decoder_sparse_step": 2}, 4),
        ({"decoder_sparse_step": 1, "mlp_only_layers": [0, 3]}, 6),
        ({"interleave_moe_layer_step": 2}, 4),
        ({"moe_layer_freq": [0, 1, 1, 1, 1, 1, 1, 1]}, 7),
        ({"moe_layer_freq": 2, "first_k_dense_replace": 1}, 4),
        ({"mlp_layer_types": ["dense", "sparse"] * 4}, 4),
        ({"moe_layers_enum": "4,5,6,7"}, 4),
        ({"is_moe_layer": [False] + [True] * 7}, 7),
        ({"moe_layer_start_index": 1, "moe_layer_end_index": 5}, 5),
        ({"expert_layer_period": 2, "expert_layer_offset": 1}, 4),
        ({"moe_layer_start_index": 3, "moe_layer_interval": 1}, 5),
    ],
)
def test_layers_with_experts_are_counted(changes: dict[str, Any], experts: int) -> None:
    """Counting by hand, by the rule of each family's configuration class."""
    model = model_of(**EXPERTS, **changes)
    assert (model.moe_layers, model.dense_layers) == (experts, 8 - experts)
    assert model.ffn_dim == (1024 if experts < 8 else 0)


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"n_shared_experts": 2}, (2, 0)),
        ({"shared_expert_intermediate_size": 1024}, (1, 1024)),
        ({"n_shared_experts": 1, "moe_shared_expert_intermediate_size": 512}, (1, 512)),
        ({"shared_intermediate_size": 0}, (0, 0)),
        ({"num_shared_expert": [1] * 8, "moe_topk": [2] * 8}, (1, 0)),  # an entry a layer
        ({"enable_moe_block": True}, (1, 1024)),  # a dense block beside the experts
    ],
)
def test_shared_experts_are_found(changes: dict[str, Any], shared: tuple[int, int]) -> None:
    """By hand: a count, or a width that stands for one."""
    model = model_of(**EXPERTS, **changes)
    assert (model.shared_experts, model.shared_expert_ffn_dim) == shared


def test_old_names_are_read() -> None:
    """By hand: GPT-2's names, its two matrices of four times the hidden size, and its tied vocabulary."""
    table = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024}
    found = read_config({**table, "vocab_size": 50257})
    assert found.model.total_params == pytest.approx(124e6, rel=0.02)
    assert any("4 times" in words for words in found.assumed)


def test_experts_of_inner_tables_are_read() -> None:
    """Oracle: DBRX as published, 132 billion parameters, 36 billion active."""
    table = {
        "model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, "max_seq_len": 32768,
        "vocab_size": 100352, "tie_word_embeddings": False, "attn_config": {"kv_n_heads": 8},
        "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4},
    }  # fmt: skip
    model = read_config(table).model
    assert model.total_params / 1e9 == pytest.approx(132, rel=0.01)
    assert model.active_params / 1e9 == pytest.approx(36, rel=0.02)


# --- formats of weights ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantization", "stored", "more"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 64}, "int4", {"int4_group": 64}),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, "int8", {}),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4", {"int4_group": 128}),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4", {"int4_group": 64}),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", {}),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", {"fp8_scaling": "block"}),
        ({"quant_method": "fbgemm_fp8"}, "fp8", {"fp8_scaling": "tensor"}),
        ({"quant_method": "mxfp4"}, "fp4", {"native_fp4": "mxfp4"}),
        ({"quant_algo": "NVFP4", "group_size": 16}, "fp4", {"native_fp4": "nvfp4"}),
        ({"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8", {}),
        ({"quant_algo": "W4A16_AWQ"}, "int4", {}),
        ({"config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int",
          "group_size": 32}}}}, "int4", {"int4_group": 32}),
        ({"config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int"}}}},
         "int8", {}),
        ({"config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float"}}}},
         "fp8", {}),
        ({"quant_method": "modelopt", "quantized_layers": {"layers.0.mlp.up_proj": {"quant_algo": "NVFP4"},
          "layers.0.self_attn.q_proj": {"quant_algo": "FP8"}}}, "fp4", {}),
    ],
)  # fmt: skip
def test_formats_of_weights_are_read(quantization: dict[str, Any], stored: str, more: dict[str, Any]) -> None:
    """By hand, from the entries that each tool writes."""
    model = model_of(quantization_config=quantization)
    assert model.native_weight_dtype == stored
    assert {key: getattr(model, key) for key in more} == more


def test_attention_beside_quantised_experts_stays_as_it_is() -> None:
    """Oracle: Kimi-K2.5 and gpt-oss, whose attention is left out by name, DeepSeek-V3, where nothing is."""
    named = {row["model"]: read_config(row["config"]).model.stored_dtypes("native") for row in ROWS}
    assert named["kimi-k2.5"] == ("bf16", "int4")
    assert named["gpt-oss-120b"] == ("bf16", "fp4")
    assert named["deepseek-r1"] == ("fp8", "fp8")
    assert named["deepseek-v4-pro"] == ("fp8", "fp4")
    assert named["llama-3.1-8b"] == ("bf16", "bf16")


@pytest.mark.parametrize(
    ("left_out", "kept"),
    [
        (
            [
                "lm_head",
                *(f"model.layers.{n}.self_attn.{part}_proj" for n in (0, 1) for part in ("q", "k", "v")),
            ],
            "inputs",
        ),
        (
            [f"model.layers.0.self_attn.{part}" for part in ("q_a_proj", "q_b_proj", "kv_b_proj", "o_proj")],
            "all",
        ),
        (["model.layers.0.self_attn.kv_a_proj_with_mqa", "model.layers.0.self_attn.q_b_proj"], "inputs"),
        (["model.layers.0.mlp.gate", "lm_head"], ""),
    ],
)
def test_projections_left_out_one_by_one_stay_as_they_are(left_out: list[str], kept: str) -> None:
    """Oracle: NVIDIA's 4-bit checkpoints of DeepSeek-V3.1 (inputs), GLM-5 (all) and Qwen3 (none); a list of
    projections leaves feed-forward blocks in 4 bits.
    """
    for name in ("ignore", "exclude_modules"):
        config = {"quant_method": "modelopt", "quant_algo": "NVFP4", name: left_out}
        model = model_of(quantization_config=config, num_local_experts=8, num_experts_per_tok=2)
        assert (model.native_weight_dtype, model.native_attention) == ("fp4", kept)


def test_a_dense_model_can_keep_its_attention() -> None:
    """Oracle: NVIDIA's Gemma-4-31B in 4 bits leaves out attention as a whole, by pattern."""
    config = {"quant_algo": "NVFP4", "ignore": ["model.language_model.layers.0.self_attn*", "lm_head"]}
    model = model_of(quantization_config=config)
    assert (model.native_weight_dtype, model.native_attention) == ("fp4", "all")


def test_an_unknown_format_is_said() -> None:
    """By hand: nothing is guessed of a method that nobody here knows."""
    found = read_config({**TINY, "quantization_config": {"quant_method": "quipx"}})
    assert found.model.native_weight_dtype == "bf16"
    assert any("quipx" in words and "bf16" in words for words in found.assumed)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"torch_dtype": "int3"}, "torch_dtype 'int3' is not known here: weights are counted as bf16"),
        ({"dtype": "float8_e4m3fn"}, "torch_dtype 'float8_e4m3fn' is not known"),
        ({"torch_dtype": "bfloat16"}, ""),
        ({"torch_dtype": "torch.float32"}, ""),
        ({"torch_dtype": "int3", "quantization_config": {"quant_method": "fp8"}}, ""),
        ({"num_experts": 0, "num_experts_per_tok": 2}, "num_experts is 0, though num_experts_per_tok is 2"),
        (
            {"ffn_config": {"moe_num_experts": 0, "moe_top_k": 4}},
            "moe_num_experts is 0, though moe_top_k is 4",
        ),
        ({"num_local_experts": 0, "num_experts_per_tok": 0}, ""),  # Granite's dense models
        ({"num_experts": 1, "moe_topk": [2] * 8}, "num_experts is 1, though moe_topk is [2, 2"),
        ({"num_experts": 1, "moe_topk": [1] * 8, "moe_intermediate_size": 64}, ""),  # Hunyuan's dense models
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, "'gptq' of 3 bits is not known here"),
    ],
)
def test_weights_and_experts_that_are_doubtful_are_said(changes: dict[str, Any], said: str) -> None:
    """Oracle: vLLM serves the known types as 16 bits unless it is told otherwise; no other is guessed."""
    assumed = read_config({**TINY, **changes}).assumed
    assert any(said in words for words in assumed) if said else assumed == ()


def test_a_list_stands_for_its_value_where_it_has_an_entry_a_layer() -> None:
    """By hand: 8 layers; OpenELM and Hunyuan list an entry a layer."""
    assert model_of(num_key_value_heads=[2] * 8) == model_of()
    for values in ([2], [2] * 7, [2] * 7 + [4]):
        with pytest.raises(
            ScenarioError, match=r"num_key_value_heads is .*one for each of 8 layers, all alike"
        ):
            model_of(num_key_value_heads=values)
    for key, value in (("hidden_size", [512]), ("num_hidden_layers", [8, 8])):
        with pytest.raises(ScenarioError, match=rf"{key} is \[.*it must be a whole number"):
            model_of(**{key: value})


def test_what_is_not_understood_is_named() -> None:
    """By hand: an entry that sounds like arithmetic is named, one that is off or tunes training is not."""
    found = read_config({**TINY, "engram_memory_layers": [1, 2], "attention_dropout": 0.1, "use_moe": False})
    assert found.unknown == ("engram_memory_layers",)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON"),
        ("hidden_size = 4096", "not valid JSON"),
        ("[" * 100_000, "nested too deeply|not valid JSON"),
        ("[1, 2]", "a configuration is a table"),
        ("{}", "num_hidden_layers is missing"),
        (f'{{"hidden_size": {"9" * 5000}}}', "not valid JSON"),
        ('{"num_hidden_layers": 8, "hidden_size": NaN}', "hidden_size is nan; it must be a whole number"),
        ('{"num_hidden_layers": 8, "hidden_size": Infinity}', "hidden_size is inf"),
        ('{"num_hidden_layers": 8, "hidden_size": 1e300}', "hidden_size is"),
        ('{"text_config": [1]}', "text_config is"),
        ("x" * 4_000_001, "the limit is 4,000,000"),
    ],
)  # fmt: skip
def test_files_that_are_no_configuration_are_refused(text: str, says: str) -> None:
    """By hand: the message names the file, the entry and the value."""
    with pytest.raises(ScenarioError, match=says) as error:
        read_config_text(text, "mine.json")
    assert str(error.value).startswith("mine.json") and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden_size": "512"}, "hidden_size is '512'; it must be a whole number"),
        ({"hidden_size": 512.5}, "must be a whole number"),
        ({"hidden_size": True}, "must be a whole number"),
        ({"hidden_size": -512}, "hidden_size is -512; it must lie between 1 and 200,000"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"num_hidden_layers": 10**30}, "must lie between 1 and 1,000"),
        ({"num_hidden_layers": 0}, "must lie between 1 and 1,000"),
        ({"vocab_size": [1, 2]}, "vocab_size is"),
        ({"num_key_value_heads": 3}, "Choose kv_heads that divides 8"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types .*3 .*8"),
        ({"layer_types": ["warp_attention"] * 8}, "'warp_attention', a kind that is not known"),
        ({"layer_types": "full_attention"}, "layer_types lists"),
        ({"layer_types": ["linear_attention"] * 8}, "no layer that keeps anything of its tokens"),
        ({"layer_types": ["sliding_attention"] * 8}, "no sliding_window; add it"),
        ({"layer_types": {"0": "full_attention"}}, "layer_types is"),
        ({"kv_lora_rank": 512}, "qk_nope_head_dim is missing"),
        ({"kv_lora_rank": 512, "index_topk": 4, "qk_nope_head_dim": 1, "qk_rope_head_dim": 1,
          "v_head_dim": 1},
         "index_n_heads is missing"),
        ({"num_experts": 16}, "num_experts_per_tok is missing"),
        ({**EXPERTS, "num_experts_per_tok": 17}, "experts_per_token is 17 but there are 16"),
        ({**EXPERTS, "moe_layer_freq": [1]}, "moe_layer_freq has 1 entries for 8 layers"),
        ({**EXPERTS, "mlp_only_layers": 3}, "mlp_only_layers is 3; it must be a list"),
        ({**EXPERTS, "mlp_only_layers": [1, "a"]}, r"mlp_only_layers is .*'a'.*a list of layers by number"),
        ({"quantization_config": {"quant_method": "gptq", "bits": "8"}}, "bits is '8'; it must be a whole"),
        ({**EXPERTS, "moe_layers_enum": "a,b"}, "moe_layers_enum is 'a,b'"),
        ({"quantization_config": "fp8"}, "quantization_config is 'fp8'; it must be a table"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'; it must be true or false"),
        ({"model_type": 5}, "model_type is 5; it must be text"),
        ({"compress_ratios": [4, "x"] * 4}, "compress_ratios has 'x'"),
        ({"block_configs": [1] * 8}, "block_configs has an entry without attention"),
        ({"hybrid_override_pattern": "M" * 2000}, "hybrid_override_pattern lists 2,000 layers"),
        ({"linear_attn_config": {"kda_layers": "all"}}, "kda_layers is 'all'"),
        ({"hybrid_override_pattern": "*-*-", "num_hidden_layers": 4, "block_configs": ["a"] * 4}, "without"),
    ],
)  # fmt: skip
def test_entries_that_cannot_be_used_are_named(changes: dict[str, Any], says: str) -> None:
    """By hand: the message names the file, the entry, the value and the limit."""
    with pytest.raises(ScenarioError, match=says) as error:
        read_config({**TINY, **changes}, "mine.json")
    assert str(error.value).startswith("mine.json") and len(str(error.value)) < 400


class Compared(int):
    """A number that counts how often any of its kind is compared."""

    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return int(self) == other

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    "changes",
    [
        {"linear_attn_config": {"kda_layers": [Compared(5000)] * 2000, "num_heads": 8, "head_dim": 64}},
        {"mamba_d_state": 16, "attn_layer_indices": [0] + [Compared(5000)] * 2000},
        {**EXPERTS, "mlp_only_layers": [Compared(5000)] * 2000},
        {**EXPERTS, "moe_layers": [Compared(5000)] * 2000},
    ],
)
def test_long_lists_of_layers_are_looked_through_once(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a few comparisons for each entry; looking up each of 1,000 layers takes two million."""
    monkeypatch.setattr(Compared, "times", 0)
    read_config({**TINY, "num_hidden_layers": 1000, **changes})
    assert Compared.times < 5 * 2000


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_KEYS = sorted({key for row in ROWS for key in row["config"]} | set(TINY) | set(EXPERTS))


@given(st.dictionaries(st.sampled_from(_KEYS), _values, max_size=4))
def test_nothing_but_a_refusal_comes_of_any_entries(changes: dict[str, Any]) -> None:
    """Property: whatever an entry holds, a model or a `ScenarioError` comes of it, and a model has a text."""
    try:
        found = read_config({**TINY, **changes})
    except ScenarioError as error:
        assert str(error).startswith("config.json") and len(str(error)) < 500
    else:
        assert own_model(own_text(found.model)).total_params == found.model.total_params
        assert layer_lines(found.model)


# --- the text -------------------------------------------------------------------------------------


GOOD = "layers:2,hidden:512,ffn_dim:1024,vocab:1000/full,layers:2,heads:8,kv_heads:2,head_dim:64"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x", "0 kinds of attention layers"),
        (GOOD + "/full" * 20, "21 kinds"),
        (GOOD.replace("full", "warp"), "'warp' is no kind of attention"),
        (GOOD.replace("layers:2,hidden", "hidden"), "the key layers is missing"),
        (GOOD.replace("hidden:512", "hidden:5e2"), "hidden is '5e2'; it must be a whole number"),
        (GOOD.replace("hidden:512", "hidden:-1"), "hidden is '-1'"),
        (GOOD.replace("hidden:512", "hidden:999999"), "must lie between 1 and 200,000"),
        (GOOD.replace("hidden:512", "hidden:512,hidden:512"), "hidden is given twice"),
        (GOOD.replace("hidden:512", "hidden"), "'hidden' is no pair"),
        (GOOD.replace("hidden:512", "hidden:512,source:me"), "unknown key 'source'"),
        (GOOD.replace("hidden:512", "hidden:512,__class__:1"), "unknown key '__class__'"),
        (GOOD.replace("hidden:512", "hidden:512,tied_embeddings:yes"), "it must be true or false"),
        ("name:<b>x," + GOOD, "letters, digits"),
        ("name:" + "x" * 61 + "," + GOOD, "at most 60 letters"),
        (GOOD.replace("full,layers:2", "full,layers:3"), "2 layers but 3 with attention"),
        (GOOD.replace("full,", "csa,q_lora:8,window_tokens:8,chosen_tokens:8,"), "no compress_tokens"),
        ("x" * 2501, "the limit is 2,500"),
    ],
)
def test_texts_that_are_no_model_are_refused(text: str, says: str) -> None:
    """By hand: the message names the key, the value and the limit."""
    with pytest.raises(ScenarioError, match=says) as error:
        own_model(text)
    assert str(error.value).startswith("own_model")
