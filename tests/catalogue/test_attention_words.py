"""What is told of a model's layers."""

from __future__ import annotations

import pytest

from sim_core import catalogue
from sim_core.catalogue.models import attention_words, reads_everything

WORDS = {
    "llama-3.1-8b": "32 layers: 8 key/value heads of 128, reading the whole context.",
    "gemma-3-12b": "8 layers: 8 key/value heads of 256, reading the whole context; "
    "40 layers: 8 key/value heads of 256, reading the last 1,024 tokens.",
    "deepseek-v3": "61 layers: a latent vector of 576 numbers, reading the whole context.",
    "glm-5.2": "21 layers: a latent vector of 576 numbers, reading 2,048 tokens that an index over all "
    "chooses; 57 layers: a latent vector of 576 numbers, reading 2,048 tokens that another layer's index "
    "chose.",
    "deepseek-v4-flash": "21 layers: a row of 512 numbers every 4 tokens, reading 512 of them that an index "
    "chooses, and the last 128 tokens; 20 layers: a row of 512 numbers every 128 tokens, reading all of "
    "them, and the last 128 tokens; 2 layers: only the last 128 tokens.",
    "nvidia-nemotron-3-nano-30b-a3b-bf16": "6 layers: 2 key/value heads of 128, reading the whole context; "
    "23 layers: a state of 2.2 MB a sequence (Mamba-2), read and written by every token; "
    "23 layers: no attention.",
}


@pytest.mark.parametrize("name", WORDS)
def test_what_layers_keep_and_read(name: str) -> None:
    """By hand, from the dimensions."""
    assert attention_words(catalogue.model(name)) == WORDS[name]


def test_who_reads_everything() -> None:
    """Oracle: the kinds whose every query sees every token, in every layer."""
    everything = {model.id for model in catalogue.models().values() if reads_everything(model)}
    assert {"llama-3.1-8b", "deepseek-r1", "qwen3-32b"} <= everything
    assert not everything & {"gemma-3-12b", "glm-5", "qwen3.5-27b", "llama-3_3-nemotron-super-49b-v1"}
