"""The scenario's keys of speculative decoding: who drafts, how many tokens, and how many are accepted."""

from __future__ import annotations

from dataclasses import dataclass

from sim_core.scenario.cache_keys import CacheKeys
from sim_core.scenario.engine_keys import keys_of

MOST_DRAFTS = 16

_speculation = keys_of("speculation")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationKeys(CacheKeys):
    """How decodes are sped up by drafts that the model verifies, several tokens in one step."""

    spec_tokens: int = _speculation(
        "Draft tokens",
        "Tokens drafted for each decode in a step and verified in it (speculative decoding); 0 = off",
        0,
        low=0,
        high=MOST_DRAFTS,
    )
    acceptance_length: float | None = _speculation(
        "Acceptance length",
        "Mean tokens that a decode makes in a verified step, its own among them; empty = as measured for the "
        "model, where known. It depends on the workload",
        None,
        unit="tokens",
        low=1.0,
        high=MOST_DRAFTS + 1.0,
    )
    draft: str = _speculation(
        "Drafts by",
        "Who drafts: the model's own extra layers, one token after another; a small head; a head that drafts "
        "all tokens at once; or a look-up in the text",
        "mtp",
        choices={
            "mtp": "the model's MTP layers",
            "eagle": "EAGLE head",
            "parallel": "parallel head",
            "ngram": "n-grams of the text",
        },
    )
    draft_params_b: float | None = _speculation(
        "Size of the draft model",
        "Parameters read for a draft token; empty = one layer of the model and its LM head",
        None,
        unit="10^9",
        low=0.0,
        high=1000.0,
    )
    spec_by_batch: str = _speculation(
        "",
        "Draft tokens by the number of decodes, FROM-TO:TOKENS each, such as `1-4:5,5-64:3,65-:0`; empty = "
        "spec_tokens at any number",
        "",
    )
