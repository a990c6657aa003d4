"""The scenario's keys of the engine: which one it is, and each of its rules by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sim_core.catalogue.reader import check_id
from sim_core.fields.described import described
from sim_core.scenario.lengths import MOST_TOKENS


def keys_of(group: str) -> Callable[..., Any]:
    """Return the maker of a group's keys, each with its label, its help and its default."""
    return lambda label, help, default, **about: described(help, default, group=group, label=label, **about)


_engine = keys_of("engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKeys:
    """What an engine is and does: its name, which sets some of its rules, and the rules."""

    engine: str = _engine(
        "Engine",
        "Serving engine, which sets scheduling, admission, token budget and when a first token is seen, and "
        "chooses its own kernels where measured; empty = as these keys say, kernels of open engines",
        "",
        reads=partial(check_id, "engines"),
    )
    policy: str = _engine(
        "Scheduling",
        "Which requests share a step; `disaggregated` splits prefill and decode over two pools of workers",
        "chunked",
        choices=("static", "prefill_first", "chunked", "disaggregated"),
    )
    max_batch: int = _engine("Batch limit", "Most sequences running at once", 256, low=1, high=16_384)
    token_budget: int = _engine(
        "Token budget", "Most tokens in one step", 8192, unit="tokens", low=1, high=262_144
    )
    batch_wait_ms: float = _engine(
        "Batch wait", "Longest wait to fill a static batch", 100.0, unit="ms", low=0.0, high=3.6e6
    )
    kv_memory_frac: float = _engine(
        "Usable memory", "Share of device memory the engine may use", 0.9, low=0.01, high=1.0
    )
    kv_block_tokens: int = _engine("KV block", "Tokens per KV block", 16, unit="tokens", low=1, high=4096)
    preemption: str = _engine(
        "When KV runs out",
        "What happens to a request when KV blocks run out",
        "recompute",
        choices={"recompute": "recompute", "swap": "swap out"},
    )
    prefill_switch_ms: float | None = _engine(
        "Switch cost of a prompt",
        "Fixed time that each prompt adds to a step it joins; empty = as the calibration says",
        None,
        unit="ms",
        low=0.0,
        high=10_000.0,
        zero=True,
    )
    admission: str = _engine(
        "Admission",
        "What a waiting request needs room for in the KV cache: the prompt, its first chunk, or prompt and "
        "answer (whole, or a share that adapts); empty = as the engine does, else the whole prompt",
        "",
        choices={
            "": "as the engine does",
            "full_prompt": "whole prompt",
            "first_chunk": "first chunk",
            "reserve_output": "prompt and whole answer",
            "reserve_share": "prompt and a share of the answer",
        },
    )
    max_output_tokens: int = _engine(
        "Answer limit",
        "Longest answer that requests ask for, which admission may reserve; 0 = each answer's own length",
        0,
        unit="tokens",
        low=0,
        high=MOST_TOKENS,
    )
    long_prefill_token_threshold: int = _engine(
        "Long prompt",
        "Most tokens of one prompt in a step (chunked), so that short ones pass a long one; 0 = no limit",
        0,
        unit="tokens",
        low=0,
        high=262_144,
    )
    stream_interval_steps: int = _engine(
        "Streaming interval", "Tokens of an answer that are sent to the client at once", 1, low=1, high=1000
    )
    first_token_lag_steps: float | None = _engine(
        "First token seen late",
        "Decode steps from a first token to the moment when its client sees it; empty = as the engine does",
        None,
        unit="steps",
        low=0.0,
        high=1000.0,
        zero=True,
    )
    cuda_graphs: str = _engine(
        "CUDA graphs",
        "Whether decode steps are replayed as captured graphs; without, each kernel's launch takes its time",
        "on",
        choices=("on", "off"),
    )
