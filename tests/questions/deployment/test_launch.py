"""Launch texts: flags that exist, with the values of the scenario."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from sim_core.questions.deployment.launch.bench import BENCHES, vllm_bench
from sim_core.questions.deployment.launch.drafts import DRAFTER
from sim_core.questions.deployment.launch.engines import (
    COMMANDS,
    UNKNOWN,
    checkpoint_of,
    notes_of,
    trtllm_options,
)
from sim_core.questions.deployment.launch.pools import dynamo_graph, llmd_values
from sim_core.questions.deployment.launch.text import expected, launch_text
from sim_core.scenario.scenario import Scenario, model_of

FACTS = tomllib.loads(Path(__file__).with_name("launch_flags.toml").read_text(encoding="utf-8"))
PLAIN = Scenario(model="llama-3.1-70b", weight_dtype="fp8", tensor_parallel=4, replicas=3)
MOST = PLAIN.replace(
    model="deepseek-r1",
    accelerator="b200",
    tensor_parallel=8,
    expert_parallel=8,
    attention_data_parallel=8,
    kv_dtype="fp8",
    spec_tokens=1,
    draft="mtp",
    long_prefill_token_threshold=512,
    stream_interval_steps=5,
    cuda_graphs="off",
    kv_memory_frac=0.85,
    kv_block_tokens=64,
    two_batch_overlap="on",
    redundant_experts=32,
    prefill_wait_steps=10,
)
POOLS = PLAIN.replace(policy="disaggregated", prefill_workers=4, decode_workers=1, prefill_tensor_parallel=1)


def words(command: str) -> list[str]:
    """Return the words of the last command of a script, as a shell reads them."""
    return shlex.split(command.replace("\\\n", " ").rsplit("END\n", 1)[-1])


def flags(command: str) -> set[str]:
    return {word for word in words(command) if word.startswith("--")}


def known(*tools: str, key: str = "flags") -> set[str]:
    return {word for tool in tools for word in FACTS[tool][key].split()}


def value_of(command: str, flag: str) -> str:
    found = words(command)
    return found[found.index(flag) + 1]


@pytest.mark.parametrize("engine", COMMANDS)
@pytest.mark.parametrize("scenario", [PLAIN, MOST], ids=["plain", "most"])
def test_commands_have_only_flags_that_the_engine_documents(engine: str, scenario: Scenario) -> None:
    """Oracle: the flags listed in the sample, each from the engine's own documentation."""
    assert flags(COMMANDS[engine](scenario)) <= known(engine)


def test_options_of_tensorrt_llm_are_those_it_documents() -> None:
    """Oracle: the keys listed in the sample."""
    keys = set(re.findall(r"^\s*(\w+):", trtllm_options(MOST), re.MULTILINE))
    assert keys <= known("tensorrt-llm", key="options")
    assert "enable_attention_dp: true" in trtllm_options(MOST)


def test_a_group_with_ranks_of_attention_is_said_as_each_engine_says_it() -> None:
    """Oracle: by hand: 8 devices, 8 ranks: to vLLM 8 engines of 1 device, to the others one group of 8."""
    vllm, sglang, trtllm = (COMMANDS[name](MOST) for name in ("vllm", "sglang", "tensorrt-llm"))
    assert (value_of(vllm, "--tensor-parallel-size"), value_of(vllm, "--data-parallel-size")) == ("1", "8")
    assert "--enable-expert-parallel" in flags(vllm)
    assert (value_of(sglang, "--tp-size"), value_of(sglang, "--attn-dp-size")) == ("8", "8")
    assert "--enable-two-batch-overlap" in flags(sglang)
    assert (value_of(trtllm, "--tp_size"), value_of(trtllm, "--ep_size")) == ("8", "8")


DRAFTS = {  # what vLLM, SGLang and TensorRT-LLM call each way of drafting
    "mtp": ("mtp", "EAGLE", "MTP"),
    "eagle": ("eagle3", "EAGLE3", "Eagle"),
    "parallel": ("eagle3", "DFLASH", "Eagle"),
    "ngram": ("ngram", "NGRAM", "NGram"),
}


@pytest.mark.parametrize("draft", DRAFTS)
def test_each_way_of_drafting_has_its_name(draft: str) -> None:
    """Oracle: the names of the engines' documentation; only a head is a checkpoint of its own."""
    scenario = PLAIN.replace(spec_tokens=3, draft=draft, acceptance_length=2.0)
    vllm = json.loads(value_of(COMMANDS["vllm"](scenario), "--speculative-config"))
    sglang, options = COMMANDS["sglang"](scenario), trtllm_options(scenario)
    named = value_of(sglang, "--speculative-algorithm"), re.search(r"decoding_type: (\w+)", options)[1]
    assert (vllm["method"], *named) == DRAFTS[draft]
    assert (vllm["num_speculative_tokens"], value_of(sglang, "--speculative-num-draft-tokens")) == (3, "4")
    assert re.search(r"(max_draft_len|num_nextn_predict_layers): 3", options)
    assert flags(sglang) <= known("sglang")
    head = draft in ("eagle", "parallel")
    assert (DRAFTER in sglang, DRAFTER in options, "model" in vllm) == (head, head, head)
    assert any("head that drafts" in note for note in notes_of(scenario)) == head


def test_copies_of_experts_are_said_as_each_engine_says_it() -> None:
    """Oracle: by hand: 32 copies beside the 256 experts of DeepSeek-R1 are 288 slots."""
    vllm = COMMANDS["vllm"](MOST)
    assert json.loads(value_of(vllm, "--eplb-config")) == {"num_redundant_experts": 32}
    assert "--enable-eplb" in flags(vllm)
    assert value_of(COMMANDS["sglang"](MOST), "--ep-num-redundant-experts") == "32"
    assert "num_slots: 288" in trtllm_options(MOST)
    assert "--eplb-config" not in flags(COMMANDS["vllm"](MOST.replace(redundant_experts=0)))


def test_two_batches_overlap_where_the_exchange_can() -> None:
    """Oracle: vLLM takes --enable-dbo with the exchanges of DeepEP or NIXL alone."""
    assert value_of(COMMANDS["vllm"](MOST), "--all2all-backend") == "deepep_low_latency"


def test_lengths_that_do_not_vary_have_no_spread_where_none_may_be_0() -> None:
    """Oracle: GuideLLM takes a spread above 0 alone."""
    assert "stdev" not in BENCHES["GuideLLM"](PLAIN.replace(prompt_cv=0.0, output_cv=0.0))
    assert "prompt_tokens_stdev=500" in BENCHES["GuideLLM"](PLAIN)


def test_limits_of_the_engine_are_the_scenarios() -> None:
    """Oracle: the scenario's keys."""
    for engine, batch, budget in (
        ("vllm", "--max-num-seqs", "--max-num-batched-tokens"),
        ("sglang", "--max-running-requests", "--chunked-prefill-size"),
        ("tensorrt-llm", "--max_batch_size", "--max_num_tokens"),
    ):
        command = COMMANDS[engine](PLAIN.replace(max_batch=96, token_budget=4096))
        assert (value_of(command, batch), value_of(command, budget)) == ("96", "4096")


def test_two_pools_have_workers_of_their_own_sizes() -> None:
    """Oracle: by hand: four prefill workers on one device, one decode worker on four."""
    for text, key in ((dynamo_graph(POOLS), "gpu"), (llmd_values(POOLS), "nvidia.com/gpu")):
        assert re.findall(r"replicas: (\d+)", text)[-2:] == ["1", "4"]
        assert list(dict.fromkeys(re.findall(rf'{key}: "(\d+)"', text))) == ["4", "1"]
        used = set(re.findall(r'- "(--[a-z-]+)"', text))
        assert used <= known("vllm", "dynamo")
        assert re.findall(r'"--tensor-parallel-size"\n\s+- "(\d)"', text) == ["4", "1"]


@pytest.mark.parametrize(
    ("name", "tool"), [("vLLM", "vllm-bench"), ("AIPerf", "aiperf"), ("GuideLLM", "guidellm")]
)
def test_benchmarks_send_the_scenarios_traffic(name: str, tool: str) -> None:
    """Oracle: the flags of the sample; lengths and rate of the scenario."""
    command = BENCHES[name](PLAIN.replace(arrival_per_s=7.5, arrivals="gamma", arrival_cv=2.0))
    assert flags(command) <= known(tool)
    assert {"7.5", "4500"} <= set(re.split(r"[ ,=]", command))  # ten minutes
    assert "1000" in command and "250" in command


def test_checkpoints_come_from_where_the_model_was_read() -> None:
    """Oracle: by hand, from the sources of two presets; a custom model names none."""
    assert checkpoint_of(model_of(MOST)) == "deepseek-ai/DeepSeek-R1"
    assert checkpoint_of(model_of(PLAIN)) == "meta-llama/Meta-Llama-3.1-70B"
    custom = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 4, "head_dim": 16, "ffn_dim": 128}
    own = Scenario(model="custom", vocab=1000, **custom)
    assert checkpoint_of(model_of(own)) == UNKNOWN
    assert "fill in" in notes_of(own)[0]


def test_a_narrow_checkpoint_is_asked_for_where_engines_make_none() -> None:
    """Oracle: fp8 is made while loading, fp4 is not; a checkpoint that is fp8 needs no flag."""
    assert "--quantization" in flags(COMMANDS["vllm"](PLAIN))
    assert "--quantization" not in flags(COMMANDS["vllm"](MOST))
    assert "fp4" in notes_of(PLAIN.replace(weight_dtype="fp4"))[0]


def test_the_text_says_what_to_expect_and_within_which_band() -> None:
    """Oracle: figures by hand: 100 ms between 100 times the band's ends."""
    text = launch_text(PLAIN, 100.0, 20.0)
    assert "# 3 of these" in text
    assert expected(PLAIN, 100.0, 20.0) in text
    low, high = map(float, re.search(r"TTFT 100 ms \(([\d.]+) to ([\d.]+)\)", text).groups())
    assert low < 100 < high
    assert "kind: DynamoGraphDeployment" in launch_text(POOLS, 100.0, 20.0)


def test_goodput_is_asked_for_by_the_limits_of_the_classes() -> None:
    """By hand: a client knows no classes: the shortest TPOT of any, the longest TTFT."""
    mixed = Scenario(mix="chat:0.7,rag:0.3", class_limits="chat:1000/30,rag:5000/50")
    assert "--goodput ttft:5000 tpot:30 " in vllm_bench(mixed)
