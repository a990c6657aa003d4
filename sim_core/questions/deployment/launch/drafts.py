"""Who drafts, as each engine is told: the model's own layers, a head, or a look-up in the text.

References
----------
vLLM, `SpeculativeConfig` (https://docs.vllm.ai/en/latest/api/vllm/config/).
SGLang, speculative decoding (https://docs.sglang.io/advanced_features/speculative_decoding.html).
TensorRT-LLM, speculative decoding (https://nvidia.github.io/TensorRT-LLM/features/speculative-decoding.html).
"""

from __future__ import annotations

import json

from sim_core.scenario.scenario import Scenario

DRAFTER = "/path/to/drafter"
LOOK_UP = 4  # tokens of the text that a draft by n-grams may follow
_SGLANG = {"mtp": "EAGLE", "eagle": "EAGLE3", "parallel": "DFLASH", "ngram": "NGRAM"}


def has_head(scenario: Scenario) -> bool:
    """Return whether drafts come of a checkpoint beside the model's."""
    return scenario.spec_tokens > 0 and scenario.draft in ("eagle", "parallel")


def vllm_drafts(scenario: Scenario) -> str | None:
    """Return the value of `--speculative-config`; None without drafts."""
    if not scenario.spec_tokens:
        return None
    config: dict[str, object] = {"num_speculative_tokens": scenario.spec_tokens}
    if scenario.draft == "ngram":
        return json.dumps({"method": "ngram", "prompt_lookup_max": LOOK_UP} | config)
    if has_head(scenario):
        parallel = {"parallel_drafting": True} if scenario.draft == "parallel" else {}
        return json.dumps({"method": "eagle3", "model": DRAFTER} | config | parallel)
    return json.dumps({"method": "mtp"} | config)


def sglang_drafts(scenario: Scenario) -> tuple[tuple[str, object], ...]:
    """Return flags of `sglang.launch_server` with their values; of verified tokens one is the model's own."""
    if not scenario.spec_tokens:
        return ()
    chain = (("--speculative-num-steps", scenario.spec_tokens), ("--speculative-eagle-topk", 1))
    return (
        ("--speculative-algorithm", _SGLANG[scenario.draft]),
        ("--speculative-draft-model-path", DRAFTER if has_head(scenario) else None),
        *(chain if scenario.draft in ("mtp", "eagle") else ()),
        ("--speculative-num-draft-tokens", scenario.spec_tokens + 1),
    )


def trtllm_drafts(scenario: Scenario) -> list[str]:
    """Return lines of the options of `trtllm-serve`."""
    if not scenario.spec_tokens:
        return []
    if scenario.draft == "mtp":
        lines = ["decoding_type: MTP", f"num_nextn_predict_layers: {scenario.spec_tokens}"]
    elif scenario.draft == "ngram":
        lines = ["decoding_type: NGram", f"max_matching_ngram_size: {LOOK_UP}"]
        lines.append(f"max_draft_len: {scenario.spec_tokens}")
    else:
        lines = ["decoding_type: Eagle", f"max_draft_len: {scenario.spec_tokens}"]
        lines.append(f"speculative_model_dir: {DRAFTER}")
    return ["speculative_config:", *(f"  {line}" for line in lines)]
