"""The scenario's keys of speculative decoding: who drafts, how many tokens, and how many are accepted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sim_core.fields.errors import ScenarioError, shown
from sim_core.scenario.keys.caching import CacheKeys
from sim_core.scenario.keys.engine import keys_of

MOST_DRAFTS = 16
SPEC_BY_BATCH_EXAMPLE = "1-4:5,5-64:3,65-:0"

_RANGE = re.compile(r"\s*(\d{1,6})\s*-\s*(\d{0,6})\s*:\s*(\d{1,3})\s*")
_speculation = keys_of("speculation")


@lru_cache(maxsize=64)
def parse_spec_by_batch(text: str) -> tuple[tuple[int, int], ...]:
    """Return a table of draft tokens by batch: from how many decodes on, and how many drafts each has.

    The ranges follow one another from 1 on; the last one holds for all above it.

    Examples
    --------
    >>> parse_spec_by_batch("1-4:5,5-64:3,65-:0")
    ((1, 5), (5, 3), (65, 0))

    Raises
    ------
    ScenarioError
        If it cannot be read, has a gap or drafts more than engines do.
    """
    if not text.strip():
        return ()
    levels, following = [], 1
    parts = text.split(",")
    for number, part in enumerate(parts, start=1):
        first, last, drafts = _range_of(part)
        if first != following or (last is None and number < len(parts)) or (last or first) < first:
            raise ScenarioError(
                f"spec_by_batch has the range {shown(part.strip())}, which should begin with {following} and "
                f"end no lower, for the ranges follow one another; write it such as {SPEC_BY_BATCH_EXAMPLE}."
            )
        levels.append((first, drafts))
        following = (last or first) + 1
    return tuple(levels)


def _range_of(part: str) -> tuple[int, int | None, int]:
    """Return the first and last number of decodes of a range, None where it is open, and its drafts."""
    found = _RANGE.fullmatch(part)
    if not found:
        raise ScenarioError(
            f"spec_by_batch has {shown(part.strip())}, which is no FROM-TO:TOKENS; write it such as "
            f"{SPEC_BY_BATCH_EXAMPLE}."
        )
    first, last, drafts = found.groups()
    if int(drafts) > MOST_DRAFTS:
        raise ScenarioError(
            f"spec_by_batch drafts {int(drafts)} tokens in {shown(part.strip())}; the limit is {MOST_DRAFTS}."
        )
    return int(first), int(last) if last else None, int(drafts)


NO_DRAFTING: Mapping[str, Any] = MappingProxyType(  # keys of decodes that make a token a step
    {"spec_tokens": 0, "acceptance_length": None, "draft": "mtp", "draft_params_b": None, "spec_by_batch": ""}
)


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
        "Drafts by batch",
        "Draft tokens by the number of decodes, FROM-TO:TOKENS each, such as "
        f"`{SPEC_BY_BATCH_EXAMPLE}`; empty = spec_tokens at any number",
        "",
        reads=parse_spec_by_batch,
    )

    @property
    def drafts_by_batch(self) -> tuple[tuple[int, int], ...]:
        """From how many decodes on how many tokens are drafted for each; one row of 0 without drafts."""
        if not self.spec_tokens:
            return ((1, 0),)
        return parse_spec_by_batch(self.spec_by_batch) or ((1, self.spec_tokens),)

    def drafts_at(self, decodes: int) -> int:
        """Return how many tokens are drafted for each of so many decodes; 0 for none."""
        return next((drafts for first, drafts in self.drafts_by_batch[::-1] if first <= decodes), 0)

    def decodes_within(self, tokens: int, most: int) -> int:
        """Return how many decodes, `most` at most, fit a step of so many tokens: each with its drafts."""
        levels = self.drafts_by_batch
        lasts = [first - 1 for first, _ in levels[1:]] + [most]
        fitting = 0
        for (first, drafts), last in zip(levels, lasts, strict=True):
            if first > most:
                break
            held = min(last, most, tokens // (1 + drafts))
            if held < min(last, most):
                return max(held, first - 1)  # what fits of the first range that does not fit as a whole
            fitting = held
        return fitting

    def check_drafts(self) -> None:
        """Raise a `ScenarioError` if the keys of speculation contradict one another."""
        if not self.spec_tokens:
            return
        most = max(drafts for _, drafts in self.drafts_by_batch)
        if most > self.spec_tokens:
            raise ScenarioError(
                f"spec_by_batch drafts {most} tokens, but spec_tokens is {self.spec_tokens}, the most that "
                f"are drafted. Raise spec_tokens to {most}, or lower the table."
            )
        if self.acceptance_length is not None and self.acceptance_length > self.spec_tokens + 1:
            raise ScenarioError(
                f"acceptance_length is {self.acceptance_length:g}, but with spec_tokens={self.spec_tokens} a "
                f"step makes at most {self.spec_tokens + 1} tokens: the drafts and one more. Lower it to "
                f"{self.spec_tokens + 1}, or draft more."
            )
        if self.policy == "static":
            raise ScenarioError(
                f"spec_tokens is {self.spec_tokens}, but static batches do not speculate here. Choose "
                "policy=chunked or prefill_first, or set spec_tokens to 0."
            )
        if self.policy != "prefill_first" and not self.decodes_within(self.token_budget, 1):
            drafts = self.drafts_by_batch[0][1]
            raise ScenarioError(
                f"token_budget is {self.token_budget}, but one decode with {drafts} drafts takes "
                f"{drafts + 1} tokens of a step. Raise token_budget to at least {drafts + 1}, or lower "
                "spec_tokens."
            )
