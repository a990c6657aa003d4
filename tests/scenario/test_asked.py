"""A question for a deployment in everyday words."""

from __future__ import annotations

import pytest

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.link.asked import EXAMPLE, MOST_CHARACTERS, asked

WHOLE = {
    "weight_dtype": "fp8",
    "slo_ttft_ms": 1000.0,
    "slo_percentile": 99.0,
    "slo_tpot_ms": 30.0,
    "prompt_tokens": 3000,
    "output_tokens": 500,
    "arrival_per_s": 20.0,
}


@pytest.mark.parametrize(
    "text",
    [
        EXAMPLE,
        f"{EXAMPLE}: how many, which TP, what cost?",
        EXAMPLE.replace(",", ""),
        "20 requests per second; H200, B200; 3,000 in 500 out; llama 3.1 70b at fp8, TTFT p99 < 1000 ms "
        "and each token within 0.03 s",
    ],
)
def test_the_same_question_in_several_ways(text: str) -> None:
    """Oracle: the keys by hand."""
    said = asked(text, "llama-3.1-70b")
    assert said.changes == {"model": "llama-3.1-70b", **WHOLE}
    assert set(said.accelerators) == {"h200", "b200"}


@pytest.mark.parametrize(
    ("text", "changes", "accelerators"),
    [
        ("deepseek r1 fp8 kv bf16", {"model": "deepseek-r1", "weight_dtype": "fp8", "kv_dtype": "bf16"}, ()),
        ("fp8 kv cache", {"kv_dtype": "fp8"}, ()),
        ("qwen3 32b, tpu v6e, p95", {"model": "qwen3-32b", "slo_percentile": 95.0}, ("tpu-v6e",)),
        ("H100, 1.2k qps", {"arrival_per_s": 1200.0}, ("h100-nvl", "h100-pcie", "h100-sxm")),
        ("H100 SXM 2k prompts", {"prompt_tokens": 2000}, ("h100-sxm",)),
    ],
)
def test_what_single_words_mean(text: str, changes: dict[str, object], accelerators: tuple[str, ...]) -> None:
    """Oracle: by hand."""
    said = asked(text)
    assert (said.changes, said.accelerators) == (changes, accelerators)


def test_words_of_several_models_mean_the_present_one_or_the_newest() -> None:
    """Oracle: the presets' years; Llama-3.3 is the last of 2024 by its name, Llama-2 is of 2023."""
    assert asked("70B").models[0] == "llama-3.3-70b"
    assert asked("70B").models[-1] == "llama-2-70b"
    assert asked("70B", "llama-2-70b").models[0] == "llama-2-70b"


def test_the_most_devices() -> None:
    """Oracle: the number in the text."""
    assert asked("at most 16 GPUs").max_devices == 16


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7OB fp9 on H200", ["not understood: '7OB', 'fp9'", EXAMPLE]),
        ("8x H200, 20 req/s", ["'8x'"]),
        ("llama-3.1-71b", ["'llama-3.1-71b'", "Did you mean llama-3.1-70b"]),
        ("TTFT 1 s, TTFT 2 s", ["slo_ttft_ms is said twice, 1000.0 and 2000.0"]),
        ("70B or mixtral 8x7b", ["two models, ", "mixtral-8x7b"]),
        ("H100, at most 0 GPUs", ["at most 0 devices", "1 or more"]),
        ("at most 8 GPUs, up to 16 devices", ["max_devices is said twice, 8 and 16"]),
        ("0 req/s", ["arrival_per_s is 0 req/s; it must lie between"]),
        ("1.5/500", ["prompt_tokens is 1.5"]),
        ("how many?", ["says nothing yet", EXAMPLE]),
        ("a" * (MOST_CHARACTERS + 1), [f"the limit is {MOST_CHARACTERS}"]),
    ],
)
def test_what_cannot_be_understood_is_named(text: str, words: list[str]) -> None:
    """Oracle: the message names the words, the limit and the way out."""
    with pytest.raises(ScenarioError) as error:
        asked(text)
    for word in words:
        assert word in str(error.value)
