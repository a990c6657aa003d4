"""One engine as the command line of vLLM, SGLang or TensorRT-LLM: a scenario's keys as its flags.

A group of `tensor_parallel` devices in `attention_data_parallel` ranks is, to vLLM, so many data-parallel
engines of the devices of a rank; to SGLang and TensorRT-LLM one group with attention by data. What the
scenario leaves at an engine's own default is not written.

References
----------
vLLM, `vllm serve --help` (https://docs.vllm.ai/en/latest/cli/serve.html).
SGLang, server arguments (https://docs.sglang.io/advanced_features/server_arguments.html).
TensorRT-LLM, `trtllm-serve` (https://nvidia.github.io/TensorRT-LLM/commands/trtllm-serve.html) and its
options in YAML (`LlmArgs`).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from sim_core.catalogue.models import Model
from sim_core.price.priced import priced
from sim_core.questions.deployment.launch.drafts import (
    has_head,
    sglang_drafts,
    trtllm_drafts,
    vllm_drafts,
)
from sim_core.scenario.scenario import Scenario, model_of

Flags = list[str]
_HUB = re.compile(r"huggingface\.co/([\w.-]+/[\w.-]+)|([\w.]+(?:-[\w.]+)*--[\w.-]+?)_config\.json")
UNKNOWN = "/path/to/checkpoint"
YAML_FILE = "options.yaml"
OVERLAPPING = "deepep_low_latency"  # of the ways in which vLLM exchanges tokens, one that overlaps batches


def checkpoint_of(model: Model) -> str:
    """Return the checkpoint that a model's preset was read from; a path to fill in where it names none."""
    found = _HUB.search(model.source or "")
    if not found:
        return UNKNOWN
    return (found[1] or found[2].replace("--", "/", 1)).removesuffix(".")


def longest_tokens(scenario: Scenario) -> int:
    """Return the longest prompt and answer that one engine can hold."""
    return priced(scenario.replace(replicas=1)).price.request_limit_tokens


def notes_of(scenario: Scenario) -> list[str]:
    """Return what no flag says: checkpoints to fill in or to have in a narrow format, drafts by batch."""
    model, dtype = model_of(scenario), scenario.weight_dtype
    found = [] if checkpoint_of(model) != UNKNOWN else [f"fill in a checkpoint of {model.name}"]
    if dtype in ("fp4", "int4", "int8") and dtype not in model.stored_dtypes("native"):
        found.append(f"take a checkpoint that is stored in {dtype}: engines do not make one while loading")
    if has_head(scenario):
        found.append(f"fill in a head that drafts for {model.name}")
    if scenario.spec_tokens and scenario.spec_by_batch:
        found.append(f"no flag says spec_by_batch: {scenario.spec_tokens} tokens are drafted at any batch")
    return found


def _quantizes(scenario: Scenario) -> bool:
    """Return whether an engine makes fp8 of a wider checkpoint while it loads."""
    return scenario.weight_dtype == "fp8" and "fp8" not in model_of(scenario).stored_dtypes("native")


def _flags(pairs: Iterable[tuple[str, object]]) -> Flags:
    """Return flags with their values; True is a flag alone, False and None are left out."""
    found: Flags = []
    for name, value in pairs:
        if value is None or value is False:
            continue
        found += [name] if value is True else [name, str(value)]
    return found


def _unless(value: float, usual: float) -> float | None:
    return None if value == usual else value


def vllm_flags(scenario: Scenario) -> Flags:
    """Return an engine as flags of `vllm serve`, or of a worker that takes the same."""
    ranks = scenario.attention_data_parallel
    copies = {"num_redundant_experts": scenario.redundant_experts}
    return _flags(
        (
            ("--tensor-parallel-size", scenario.tensor_parallel // ranks),
            ("--data-parallel-size", _unless(ranks, 1)),
            ("--pipeline-parallel-size", _unless(scenario.pipeline_parallel, 1)),
            ("--decode-context-parallel-size", _unless(scenario.context_parallel, 1)),
            ("--enable-expert-parallel", scenario.expert_parallel > 1),
            ("--enable-eplb", scenario.redundant_experts > 0),
            ("--eplb-config", json.dumps(copies) if scenario.redundant_experts else None),
            ("--enable-dbo", scenario.two_batch_overlap == "on"),
            ("--all2all-backend", OVERLAPPING if scenario.two_batch_overlap == "on" else None),
            ("--max-num-seqs", scenario.max_batch),
            ("--max-num-batched-tokens", scenario.token_budget),
            ("--max-model-len", longest_tokens(scenario)),
            ("--gpu-memory-utilization", _unless(scenario.kv_memory_frac, 0.9)),
            ("--block-size", _unless(scenario.kv_block_tokens, 16)),
            ("--quantization", "fp8" if _quantizes(scenario) else None),
            ("--kv-cache-dtype", "fp8" if scenario.kv_dtype == "fp8" else None),
            ("--no-enable-prefix-caching", scenario.prefix_caching == "off" and not scenario.prefix_hit_frac),
            ("--long-prefill-token-threshold", _unless(scenario.long_prefill_token_threshold, 0)),
            ("--stream-interval", _unless(scenario.stream_interval_steps, 1)),
            ("--enforce-eager", scenario.cuda_graphs == "off"),
            ("--speculative-config", vllm_drafts(scenario)),
        )
    )


def sglang_flags(scenario: Scenario) -> Flags:
    """Return an engine as flags of `python -m sglang.launch_server`."""
    ranks = scenario.attention_data_parallel
    return _flags(
        (
            ("--tp-size", scenario.tensor_parallel),
            ("--attn-dp-size", _unless(ranks, 1)),
            ("--pp-size", _unless(scenario.pipeline_parallel, 1)),
            ("--ep-size", _unless(scenario.expert_parallel, 1)),
            ("--ep-num-redundant-experts", _unless(scenario.redundant_experts, 0)),
            ("--enable-two-batch-overlap", scenario.two_batch_overlap == "on"),
            ("--max-running-requests", scenario.max_batch * ranks),
            ("--chunked-prefill-size", scenario.token_budget * ranks if ranks > 1 else scenario.token_budget),
            ("--context-length", longest_tokens(scenario)),
            ("--mem-fraction-static", scenario.kv_memory_frac),
            ("--quantization", "fp8" if _quantizes(scenario) else None),
            ("--kv-cache-dtype", "fp8_e4m3" if scenario.kv_dtype == "fp8" else None),
            ("--disable-radix-cache", scenario.prefix_caching == "off" and not scenario.prefix_hit_frac),
            ("--stream-interval", _unless(scenario.stream_interval_steps, 1)),
            ("--disable-prefill-cuda-graph", scenario.cuda_graphs == "off"),
            ("--disable-decode-cuda-graph", scenario.cuda_graphs == "off"),
            *sglang_drafts(scenario),
        )
    )


def trtllm_flags(scenario: Scenario) -> Flags:
    """Return an engine as flags of `trtllm-serve`; what these do not say stands in its options."""
    return _flags(
        (
            ("--tp_size", scenario.tensor_parallel),
            ("--pp_size", _unless(scenario.pipeline_parallel, 1)),
            ("--ep_size", _unless(scenario.expert_parallel, 1)),
            ("--max_batch_size", scenario.max_batch),
            ("--max_num_tokens", scenario.token_budget),
            ("--max_seq_len", longest_tokens(scenario)),
            ("--kv_cache_free_gpu_memory_fraction", scenario.kv_memory_frac),
            ("--extra_llm_api_options", YAML_FILE),
        )
    )


def trtllm_options(scenario: Scenario) -> str:
    """Return the options of `trtllm-serve` that stand in a YAML file."""
    lines = [
        f"enable_attention_dp: {_word(scenario.attention_data_parallel > 1)}",
        f"enable_chunked_prefill: {_word(scenario.policy != 'prefill_first')}",
        f"stream_interval: {scenario.stream_interval_steps}",
        "kv_cache_config:",
        f"  dtype: {'fp8' if scenario.kv_dtype == 'fp8' else 'auto'}",
        f"  enable_block_reuse: {_word(scenario.prefix_caching == 'on')}",
    ]
    if scenario.prefill_wait_steps:
        lines += [
            "attention_dp_config:",
            "  enable_balance: true",
            f"  timeout_iters: {scenario.prefill_wait_steps}",
        ]
    if scenario.redundant_experts:
        slots = (model_of(scenario).experts or 0) + scenario.redundant_experts
        lines += ["moe_config:", "  backend: WIDEEP", "  load_balancer:", f"    num_slots: {slots}"]
    return "\n".join(lines + trtllm_drafts(scenario))


def _word(value: bool) -> str:
    return "true" if value else "false"


def vllm_command(scenario: Scenario) -> str:
    """Return the command that serves one replica with vLLM."""
    return _command(["vllm", "serve", checkpoint_of(model_of(scenario))], vllm_flags(scenario))


def sglang_command(scenario: Scenario) -> str:
    """Return the command that serves one replica with SGLang."""
    start = ["python", "-m", "sglang.launch_server", "--model-path", checkpoint_of(model_of(scenario))]
    return _command(start, sglang_flags(scenario))


def trtllm_command(scenario: Scenario) -> str:
    """Return the commands that write the options and serve one replica with TensorRT-LLM."""
    serve = _command(["trtllm-serve", checkpoint_of(model_of(scenario))], trtllm_flags(scenario))
    return f"cat > {YAML_FILE} <<'END'\n{trtllm_options(scenario)}\nEND\n{serve}"


def _command(start: list[str], flags: Flags) -> str:
    """Return a command with a flag on each line, quoted for POSIX shells."""
    lines = [shlex.join(start)]
    for word in flags:
        if word.startswith("--"):
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n".join(lines)


COMMANDS: Mapping[str, Callable[[Scenario], str]] = MappingProxyType(
    {"vllm": vllm_command, "sglang": sglang_command, "tensorrt-llm": trtllm_command}
)
