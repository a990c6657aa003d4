"""Speculative decoding in a price: what is drafted, what drafts take, and by how much decodes go on.

A step verifies for each decode its K drafts and one token more: (K + 1) tokens and rows, over a context that
is read once. The drafts themselves are made by

- ``mtp`` and ``eagle``: one layer more, which takes all tokens of the step, so that its KV cache goes on, and
  K - 1 times a token of each sequence; K times the LM head;
- ``parallel``: the same layer once, over the tokens of the step and K - 1 places of each sequence; or layers
  of the model's own, over the K places of each sequence alone;
- ``ngram``: a look-up by the host, taken for as long as all else that the host does for a sequence.

Which layer that is, stands in `sim_core.price.work.drafts`. Where the size of the draft model is given, its
parameters are read for each draft, LM head included. A drafter reads all tokens of a step even where no
drafts are asked for: its KV cache goes on.

References
----------
Leviathan, Kalman, Matias (2023), "Fast inference from transformers via speculative decoding", section 3.1.
DeepSeek-AI (2024), "DeepSeek-V3 technical report", section 2.2 (multi-token prediction).
Li et al. (2025), "EAGLE-3", section 3 (one layer, its input three states of the model).
vLLM 0.32, `v1/spec_decode/eagle.py`: the first pass takes all tokens of the step, the others one a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.acceptance import closest_length
from sim_core.catalogue.calibrations import Constants
from sim_core.catalogue.engines import engine
from sim_core.catalogue.kernels import Amount
from sim_core.catalogue.models import Model
from sim_core.fields.errors import ScenarioError
from sim_core.price.kernels import kernels_of
from sim_core.price.parts import (
    Rates,
    Terms,
    group_parts,
    group_rate_parts,
    rate_parts,
    row_parts,
    terms,
    token_parts,
)
from sim_core.price.step_cost import PACE, PLAIN_PACE, TOKEN
from sim_core.price.work import Drafter, Layout, draft_layout, draft_model, draft_work
from sim_core.scenario.scenario import Scenario

ONE_BY_ONE = ("mtp", "eagle")  # drafts that follow from one another


class Level(NamedTuple):
    """How decodes go on from so many on: tokens drafted for each, and mean tokens that a step makes."""

    decodes: int
    drafts: int
    length: float


PLAIN = Level(1, 0, 1.0)


class Speculation(NamedTuple):
    """What prices depend on: who drafts, and how much at which batch."""

    drafter: Drafter
    levels: tuple[Level, ...]

    @property
    def most(self) -> Level:
        """The level with the most drafts."""
        return max(self.levels, key=lambda level: level.drafts)

    @property
    def slots(self) -> int:
        """KV slots that a decode holds beyond the tokens it has made, when a step has run.

        A step takes slots for K drafts and a token, and those who draft one by one for K more.

        References
        ----------
        vLLM 0.32, `v1/core/sched/scheduler.py`: `num_tokens_with_spec`, `num_lookahead_tokens`.
        """
        drafts, length = self.most.drafts, self.most.length
        ahead = drafts if self.drafter.draft in ONE_BY_ONE else 0
        return max(1 + drafts + ahead - math.floor(length), 0)

    @property
    def margin_tokens(self) -> int:
        """Tokens of a KV cache that the longest request leaves free: for drafts, and for its last step."""
        return self.slots + math.ceil(self.most.length) + 1

    def drafts_at(self, decodes: np.ndarray) -> np.ndarray:
        """Return the drafts of each of so many decodes."""
        return np.array([level.drafts for level in self.levels])[self._levels_at(decodes)]

    def lengths_at(self, decodes: np.ndarray) -> np.ndarray:
        """Return the mean tokens that each of so many decodes makes in a step."""
        return np.array([level.length for level in self.levels])[self._levels_at(decodes)]

    def _levels_at(self, decodes: np.ndarray) -> np.ndarray:
        firsts = [level.decodes for level in self.levels]
        return np.maximum(np.searchsorted(firsts, decodes, side="right") - 1, 0)

    def paces(self, most: int, scales: dict[int, float]) -> np.ndarray:
        """Return how up to `most` decodes go on; `scales` say for drafts how much dearer contexts are."""
        rows = [
            (level.drafts, round(level.length * TOKEN), scales[level.drafts])
            for level in self.levels
            for _ in range(level.decodes, self._last(level, most) + 1)
        ]
        return np.array([rows[0], *rows] if len(self.levels) > 1 else rows[:1], PACE)

    def _last(self, level: Level, most: int) -> int:
        """Return the most decodes at which a level holds, at least its first."""
        following = [other.decodes for other in self.levels if other.decodes > level.decodes]
        return max(min(following, default=most + 1) - 1, level.decodes)


def paces_of(speculation: Speculation | None, most: int, scales: dict[int, float]) -> np.ndarray:
    """Return how decodes go on by their number, up to `most`; without speculation a token each."""
    return speculation.paces(most, scales) if speculation else PLAIN_PACE


# --- what drafts take -------------------------------------------------------------------------------

Parts = Mapping[str, Amount]


class Drafting(NamedTuple):
    """What a pass of the layers that draft is priced from, and whether every token of a step passes them."""

    terms: Terms
    takes_tokens: bool


def draft_terms(
    model: Model, accelerator: Accelerator, layout: Layout, drafter: Drafter, method: Terms
) -> Drafting | None:
    """Return what a pass of the layer that drafts is priced from; None where none does.

    The step's own share of the host's time is the model's.
    """
    if not drafter.has_layer:
        return None
    one, spread = draft_model(model, drafter), draft_layout(model, layout, drafter)
    constants = method.constants._replace(
        step_s=0.0,
        rank_sync_s=0.0,
        sequence_s=0.0,
        prefill_request_s=0.0,
        prefill_layer_s=0.0,
        prefill_step_layer_s=0.0,
    )
    load = draft_work(model, accelerator, layout, drafter)
    found = terms(load, kernels_of(one, accelerator, spread), constants, method.smooth)
    return Drafting(found, not drafter.drafts_block(model))


def draft_token_parts(drafting: Drafting | None, tokens: np.ndarray) -> Parts:
    """Return the time by part of the pass over the tokens of a step, which makes the first drafts. [s]"""
    return token_parts(drafting.terms, tokens) if drafting and drafting.takes_tokens else {}


def draft_row_parts(
    drafting: Drafting | None, host: Terms, draft: str, sequences: np.ndarray, drafts: np.ndarray
) -> Parts:
    """Return the time by part of what drafts take beside that pass, over sequences and drafts of each. [s]

    The sequences are those of a rank; the experts of a layer that drafts see as many of every rank.
    """
    any_drafts = drafts > 0
    if drafting is None:
        return {"fixed": host.constants.sequence_s * sequences * any_drafts}
    passes: Parts
    layer = drafting.terms
    ranks = layer.work.ranks
    if draft in ONE_BY_ONE:
        again, heads, sampled = np.maximum(drafts - 1, 0), drafts, sequences
        passes = _one_pass(layer, sequences)
    elif not drafting.takes_tokens:
        again, heads, sampled = any_drafts, any_drafts, sequences * drafts
        passes = _one_pass(layer, np.maximum(sampled, 1))
    else:
        again, heads, sampled = np.maximum(drafts - 1, 0) * sequences, any_drafts, sequences * drafts
        each = {part: ranks * time_s for part, time_s in group_rate_parts(layer).items()}
        passes = (
            _summed(rate_parts(layer).extra_tokens, each) if ranks > 1 else rate_parts(layer).extra_tokens
        )
    head = row_parts(layer, np.maximum(sampled, 1))
    found = {part: again * passes.get(part, 0.0) + heads * head.get(part, 0.0) for part in {**passes, **head}}
    return found | {"fixed": found["fixed"] + draft_host_s(host, draft, sequences, drafts)}


def _one_pass(layer: Terms, tokens: np.ndarray) -> Parts:
    """Return the time by part of a pass over so many tokens of each rank. [s]"""
    return _summed(token_parts(layer, tokens), group_parts(layer, layer.work.ranks * tokens))


def _summed(one: Parts, other: Parts) -> Parts:
    return {part: one.get(part, 0.0) + other.get(part, 0.0) for part in {**one, **other}}


def felt_by(engine_name: str, constants: Constants, has_ranks: bool = False) -> Constants:
    """Return constants of which sequences and drafts keep the host as long as an engine's own does.

    Ranks of attention wait for one another's hosts in every step, so none of a sequence's time is hidden.
    """
    if not engine_name:
        return constants
    known = engine(engine_name)
    share = 1.0 if has_ranks else known.sequence_host_frac
    return constants._replace(
        sequence_s=share * constants.sequence_s,
        draft_s=known.draft_host_frac * constants.draft_s,
        draft_sequence_s=known.draft_host_frac * constants.draft_sequence_s,
    )


def draft_host_s(host: Terms, draft: str, sequences: np.ndarray, drafts: np.ndarray) -> np.ndarray:
    """Return how long drafts keep the host: a launch for each pass, and what is accepted of each. [s]"""
    launches = drafts if draft in ONE_BY_ONE else np.minimum(drafts, 1)
    each_s: np.ndarray = host.constants.draft_s * launches
    return each_s + host.constants.draft_sequence_s * drafts * sequences


def draft_rate_parts(drafting: Drafting | None, draft: str, drafts: Amount) -> Rates[dict[str, Amount]]:
    """Return the seconds per unit of each linear term that drafts add, split by part.

    Drafts that follow from one another read the context once each.
    """
    nothing: Rates[dict[str, Amount]] = Rates({}, {}, {}, {}, {}, {}, {}, {})
    if drafting is None:
        return nothing
    found = rate_parts(drafting.terms)
    passes = drafts if draft in ONE_BY_ONE else np.minimum(drafts, 1)
    return (found if drafting.takes_tokens else nothing)._replace(
        context_tokens={part: passes * s for part, s in found.context_tokens.items()},
        window_tokens={part: passes * s for part, s in found.window_tokens.items()},
    )


def added(one: Rates[dict[str, Amount]], other: Rates[dict[str, Amount]]) -> Rates[dict[str, Amount]]:
    """Return the sums of two prices of the linear terms."""
    return Rates(*(dict(_summed(first, second)) for first, second in zip(one, other, strict=True)))


# --- what is accepted -------------------------------------------------------------------------------


def speculation_of(scenario: Scenario) -> Speculation | None:
    """Return how a scenario speculates; None if it does not.

    Raises
    ------
    ScenarioError
        If its acceptance length is neither given nor published.
    """
    if not scenario.spec_tokens:
        return None
    levels = (
        Level(decodes, drafts, accepted(scenario, drafts)) for decodes, drafts in scenario.drafts_by_batch
    )
    return Speculation(Drafter(scenario.draft, scenario.draft_params_b), tuple(levels))


def accepted(scenario: Scenario, drafts: int) -> float:
    """Return the mean tokens of a step with so many drafts.

    What the scenario says holds for its `spec_tokens`; otherwise it is what is published for the model and
    its way of drafting, with the closest number of drafts. For another number, every draft is taken to be
    accepted with one chance.
    """
    if drafts == 0:
        return 1.0
    if scenario.acceptance_length is not None:
        return geometric(chance(scenario.acceptance_length, scenario.spec_tokens), drafts)
    found = closest_length(scenario.model, scenario.draft, drafts)
    if found and found.drafts == drafts:
        return found.length
    if found:
        return geometric(chance(found.length, found.drafts), drafts)
    raise ScenarioError(
        f"spec_tokens is {scenario.spec_tokens}, but no acceptance length is published for {scenario.model} "
        f"and draft={scenario.draft}. Give acceptance_length: the mean tokens of a step, 1 to "
        f"{scenario.spec_tokens + 1}, as the engine's metrics say."
    )


def geometric(chance: float, drafts: int) -> float:
    """Return the mean tokens of a step whose drafts are accepted alike, each after the one before it.

    Leviathan et al. (2023), equation 1: (1 - a^(K+1)) / (1 - a).
    """
    return sum(chance**place for place in range(drafts + 1))


@lru_cache(maxsize=256)
def chance(length: float, drafts: int) -> float:
    """Return the chance with which each draft is accepted where a step makes `length` tokens.

    Examples
    --------
    >>> round(chance(2.5, 3), 4)
    0.6914
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if geometric(middle, drafts) < length else (low, middle)
    return (low + high) / 2
