"""What controls say when pointed at: meaning, effect on latency and throughput, and true names of flags."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest

from sim_core.catalogue import key_effects
from sim_core.questions.deployment.launch.engines import COMMANDS
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.view.drawing.words import spoken
from sim_core.view.parts.engine_words import engine_flags, help_of
from tests.places import ROOT
from tests.visits import open_page

DOCUMENTED = tomllib.loads(
    (ROOT / "tests" / "questions" / "deployment" / "launch_flags.toml").read_text(encoding="utf-8")
)
LARGE = {
    "model": "deepseek-r1",
    "accelerator": "b200",
    "weight_dtype": "fp8",
    "tensor_parallel": 8,
    "expert_parallel": 8,
}
CHANGES: dict[str, tuple[dict[str, Any], Any]] = {  # what a flag is written for: where, and the key's value
    "tensor_parallel": ({}, 2),
    "attention_data_parallel": (LARGE, 8),
    "expert_parallel": (LARGE | {"expert_parallel": 1}, 8),
    "redundant_experts": (LARGE, 32),
    "two_batch_overlap": (LARGE, "on"),
    "prefill_wait_steps": (LARGE | {"attention_data_parallel": 8}, 20),
    "pipeline_parallel": ({}, 2),
    "context_parallel": ({"tensor_parallel": 16}, 2),
    "weight_dtype": ({}, "fp8"),
    "kv_dtype": ({}, "fp8"),
    "prefix_caching": ({}, "on"),
    "policy": ({}, "prefill_first"),
    "max_batch": ({}, 77),
    "token_budget": ({}, 4096),
    "kv_memory_frac": ({}, 0.8),
    "kv_block_tokens": ({}, 32),
    "long_prefill_token_threshold": ({}, 512),
    "stream_interval_steps": ({}, 5),
    "cuda_graphs": ({}, "off"),
    "spec_tokens": (LARGE, 1),
}
NOT_LAUNCHED = {  # keys whose flags no launch text of one engine writes by itself
    "draft",
    "kv_overlap",
    "prefill_tensor_parallel",
    "decode_tensor_parallel",
}


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower()))


@pytest.mark.parametrize("key", FIELDS)
def test_no_help_repeats_its_label(key: str) -> None:
    """Oracle: the label's own words. Help says something else first, and then what the control does."""
    info = FIELDS[key]
    assert len(_words(info.help) - _words(info.label) - {"the", "all"}) >= 2, info.help
    effect = key_effects()[key].effect
    assert len(effect) > 40 and effect.endswith(".") and effect in help_of(key)


def test_every_key_has_its_effect_and_no_other() -> None:
    """Oracle: the scenario's keys, and the engines that are presets."""
    assert set(key_effects()) == set(FIELDS)
    engines = {name for words in key_effects().values() for name in words.flags}
    assert engines == set(COMMANDS)


@pytest.mark.parametrize("key", [key for key, words in key_effects().items() if words.flags])
def test_a_flag_is_the_one_that_launch_texts_write(key: str) -> None:
    """Oracle: the command that serves, before and after the key is changed; else the engine's own manual."""
    flags = key_effects()[key].flags
    if key in NOT_LAUNCHED:
        assert all(_is_documented(name, flag.flag) for name, flag in flags.items())
        return
    where, value = CHANGES[key]
    before, after = Scenario(**where), Scenario(**where).replace(**{key: value})
    for name, flag in flags.items():
        assert _is_documented(name, flag.flag)
        lines = [_lines_of(COMMANDS[name](scenario), flag.flag) for scenario in (before, after)]
        assert lines[0] != lines[1], f"{name} {flag.flag} does not follow {key}"
        assert f"`{flag.flag}`" in engine_flags(key)


def _is_documented(engine: str, flag: str) -> bool:
    facts: Mapping[str, str] = DOCUMENTED[engine]
    return flag in f"{facts['flags']} {facts.get('options', '')}".split()


def _lines_of(command: str, flag: str) -> list[str]:
    return [line for line in command.splitlines() if re.search(rf"(?<![\w-]){flag}(?![\w-])", line)]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("token_budget is 4, but one decode", "Token budget is 4, but one decode"),
        (
            "Set max_batch to 64, or choose policy=chunked.",
            "Set Batch limit to 64, or choose Scheduling: chunked.",
        ),
        ("kv_heads must divide heads; the model is small", "kv heads must divide heads; the model is small"),
        ("the states of 256 sequences (max_batch)", "the states of 256 sequences (Batch limit)"),
        ("at `?max_batch=4&seed=1` and max_batches", "at `?max_batch=4&seed=1` and max_batches"),
    ],
)
def test_messages_call_keys_as_controls_are_called(message: str, said: str) -> None:
    """Oracle: the labels by hand. Words that are keys by chance, links and other names stay."""
    assert spoken(message) == said


def test_a_refused_value_is_explained_in_words() -> None:
    """Oracle: a layout that does not fit says so by its controls' names, and by no key."""
    app = open_page("1_Frontier.py", model="llama-3.1-70b", vary="policy", fine="off")
    texts = " ".join(item.proto.body for item in app.get("html"))
    assert "Raise Tensor parallel to at least 2" in texts
    assert "tensor_parallel" not in texts
