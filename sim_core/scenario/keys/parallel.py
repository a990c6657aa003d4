"""The scenario's keys of layouts for large models: ranks of attention, stages, and contexts in parts."""

from __future__ import annotations

from dataclasses import dataclass

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.keys.engine import keys_of
from sim_core.scenario.keys.shift import ShiftKeys

MOST_RANKS, MOST_STAGES = 1024, 64

_layout, _pools = map(keys_of, ("layout", "pools"))


def _of_pool(label: str, help: str, key: str, high: int) -> int | None:
    return _pools(label, f"{help}; empty = {key}", None, low=1, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelKeys(ShiftKeys):
    """How attention, experts, layers and contexts are divided among the devices of a group and its nodes."""

    attention_data_parallel: int = _layout(
        "Attention data parallel",
        "Ranks of attention: so many groups of the tensor_parallel devices, each with requests, KV cache and "
        "a copy of attention of its own; 1 = all devices share attention",
        1,
        low=1,
        high=MOST_RANKS,
    )
    expert_imbalance: float | None = _layout(
        "Imbalance of experts",
        "Tokens of the fullest device's experts over the mean; empty = as tokens that choose at random",
        None,
        low=1.0,
        high=64.0,
    )
    redundant_experts: int = _layout(
        "Redundant experts",
        "Copies of the busiest experts of each layer, spread over the devices beside the experts themselves",
        0,
        low=0,
        high=4096,
    )
    two_batch_overlap: str = _layout(
        "Two-batch overlap",
        "Compute one half of a step's tokens while those of the other half travel between experts",
        "off",
        choices=("off", "on"),
    )
    prefill_wait_steps: int = _layout(
        "Wait for prompts of others",
        "Most steps that a rank with a prompt waits until all ranks have one (TensorRT-LLM's balance); "
        "0 = none",
        0,
        unit="steps",
        low=0,
        high=10_000,
    )
    pipeline_parallel: int = _layout(
        "Pipeline parallel",
        "Stages of layers, each on tensor_parallel devices of its own",
        1,
        low=1,
        high=MOST_STAGES,
    )
    context_parallel: int = _layout(
        "Context parallel",
        "Parts into which the devices of a group divide each KV cache while they decode",
        1,
        low=1,
        high=1024,
    )

    prefill_attention_data_parallel: int | None = _of_pool(
        "Ranks of a prefill worker",
        "Ranks of attention of a prefill worker",
        "attention_data_parallel",
        MOST_RANKS,
    )
    decode_attention_data_parallel: int | None = _of_pool(
        "Ranks of a decode worker",
        "Ranks of attention of a decode worker",
        "attention_data_parallel",
        MOST_RANKS,
    )
    prefill_expert_parallel: int | None = _of_pool(
        "Expert parallel, prefill",
        "Devices of a prefill worker over which the experts are spread",
        "expert_parallel",
        1024,
    )
    decode_expert_parallel: int | None = _of_pool(
        "Expert parallel, decode",
        "Devices of a decode worker over which the experts are spread",
        "expert_parallel",
        1024,
    )
    prefill_pipeline_parallel: int | None = _of_pool(
        "Stages of a prefill worker", "Stages of layers of a prefill worker", "pipeline_parallel", MOST_STAGES
    )
    decode_pipeline_parallel: int | None = _of_pool(
        "Stages of a decode worker", "Stages of layers of a decode worker", "pipeline_parallel", MOST_STAGES
    )

    @property
    def prefill_stages(self) -> int:
        """Stages of a prefill worker."""
        return self._of_pool("prefill_", "pipeline_parallel")

    @property
    def decode_stages(self) -> int:
        """Stages of a decode worker."""
        return self._of_pool("decode_", "pipeline_parallel")

    @property
    def prefill_ranks(self) -> int:
        """Ranks of attention that a prefill worker is asked to have."""
        return self._of_pool("prefill_", "attention_data_parallel")

    @property
    def decode_ranks(self) -> int:
        """Ranks of attention that a decode worker is asked to have."""
        return self._of_pool("decode_", "attention_data_parallel")

    def _of_pool(self, pool: str, key: str) -> int:
        """Return a key of one pool, or what both share."""
        stated: int | None = getattr(self, f"{pool}{key}")
        shared: int = getattr(self, key)
        return shared if stated is None else stated

    def check_stages(self) -> None:
        """Raise a `ScenarioError` where several stages meet what is not simulated with them."""
        for pool in ("prefill_", "decode_") if self.policy == "disaggregated" else ("",):
            key, stages = f"{pool}pipeline_parallel", self._of_pool(pool, "pipeline_parallel")
            if stages == 1:
                continue
            ranks = self._of_pool(pool, "attention_data_parallel")
            if ranks > 1:
                raise ScenarioError(
                    f"{key} is {stages} and {pool}attention_data_parallel is {ranks}, but ranks of attention "
                    "are not simulated in stages. Set one of them to 1."
                )
            if self.policy == "static":
                raise ScenarioError(
                    f"{key} is {stages}, but static batches are not simulated in stages. Choose "
                    f"policy=chunked or prefill_first, or set {key} to 1."
                )
            if self.spec_tokens:
                raise ScenarioError(
                    f"{key} is {stages} and spec_tokens is {self.spec_tokens}, but drafts are not simulated "
                    f"in stages, and few engines offer them. Set spec_tokens to 0, or {key} to 1."
                )
