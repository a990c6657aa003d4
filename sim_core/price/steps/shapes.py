"""Steps of any size, many at once: their time by piece and part, and what they need of a device.

Everything rests on the work and the constants that price a simulated step (`sim_core.price.price`), evaluated
for any batch and context, whether or not the KV cache has room for it. FLOP, bytes and rates are those of one
device; all devices of a tensor-parallel group work alike.

Decodes are those of a whole engine. Of several ranks of attention the one with the most sequences is shown,
experts see the tokens of all. Of several stages a step is a round, in which each has every batch once
(`sim_core.price.steps.rounds`): as many batches as stages, or as sequences where those are fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.calibrations import calibration
from sim_core.catalogue.kernels import Amount
from sim_core.catalogue.models import Model
from sim_core.price.kernels import kernels_of
from sim_core.price.parts import (
    PARTS,
    Rates,
    Terms,
    end_parts,
    group_parts,
    rate_parts,
    stage_row_parts,
    terms,
    token_parts,
    with_switch,
)
from sim_core.price.price import Method, method_of, method_under, on_engine
from sim_core.price.speculation import (
    Drafting,
    Speculation,
    draft_rate_parts,
    draft_row_parts,
    draft_terms,
    speculation_of,
)
from sim_core.price.steps.one_step import window_pairs
from sim_core.price.work import Layout, attention_flop_per_s, layout_of, precisions, work
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of

COMPUTE_FIELDS = (
    "dense_compute_s",
    "kept_compute_s",
    "expert_compute_s",
    "head_compute_s",
    "context_compute_s",
    "window_compute_s",
    "pair_compute_s",
    "window_pair_compute_s",
    "state_compute_s",
)
READ_FIELDS = (
    "dense_read_s",
    "kept_read_s",
    "expert_read_s",
    "expert_copied_s",
    "head_read_s",
    "activation_s",
    "context_read_s",
    "window_read_s",
    "state_read_s",
)


class StepShape(NamedTuple):
    """One step or several, each field a number or an array: decodes at a context, and a chunk of one prompt.

    `last` is 1 where the chunk is the prompt's last, which yields a token, else 0.
    """

    decodes: Amount
    context: Amount
    chunk: Amount = 0
    start: Amount = 0
    last: Amount = 0


def decode(batch: ArrayLike, context_tokens: ArrayLike) -> StepShape:
    """Return the step in which each of `batch` sequences makes one token."""
    return StepShape(np.asarray(batch, float), np.asarray(context_tokens, float))


def prefill(scenario: Scenario, prompt_tokens: int) -> StepShape:
    """Return the steps that prefill one prompt alone, cut to chunks where the policy does so."""
    size = scenario.token_budget if scenario.policy == "chunked" else prompt_tokens
    start = np.arange(0, prompt_tokens, size, dtype=float)
    chunk = np.minimum(size, prompt_tokens - start)
    return StepShape(0.0, 0.0, chunk, start, (start + chunk >= prompt_tokens).astype(float))


class Pricing(NamedTuple):
    """What prices a step of one device: its terms, and the peaks."""

    terms: Terms
    window_tokens: int
    dense_flop_per_s: float
    expert_flop_per_s: float
    head_flop_per_s: float
    attention_flop_per_s: float
    byte_per_s: float
    speculation: Speculation | None = None
    drafting: Drafting | None = None  # of a pass of the layer that drafts
    stages: int = 1

    @property
    def ranks(self) -> int:
        """Return into how many ranks of attention an engine deals its sequences."""
        return int(self.terms.work.ranks)

    def drafts(self, sequences: Amount) -> Amount:
        """Return the drafts of each of so many sequences."""
        return self.speculation.drafts_at(np.asarray(sequences)) if self.speculation else 0

    def made(self, sequences: Amount) -> Amount:
        """Return the tokens that each of so many sequences makes in a step, on average."""
        return self.speculation.lengths_at(np.asarray(sequences)) if self.speculation else 1.0


def pricing_of(scenario: Scenario, calibration_name: str = "") -> Pricing:
    """Return what prices the scenario's steps, under its own calibration unless another one is named.

    Raises
    ------
    ScenarioError
        If the layout does not divide the model, or the device has no figure for the precision.
    """
    named = method_under(calibration(calibration_name)) if calibration_name else method_of(scenario)
    method = on_engine(named, scenario)
    layout, switch_ms = layout_of(scenario), scenario.prefill_switch_ms
    speculation = speculation_of(scenario)
    return _pricing(model_of(scenario), accelerator_of(scenario), layout, method, switch_ms, speculation)


@lru_cache(maxsize=256)
def _pricing(
    model: Model,
    part: Accelerator,
    layout: Layout,
    method: Method,
    switch_ms: float | None,
    speculation: Speculation | None,
) -> Pricing:
    dense, expert, _ = precisions(model, layout.weight_dtype)
    found = terms(work(model, part, layout), kernels_of(model, part, layout), *method)
    return Pricing(
        found._replace(constants=with_switch(found.constants, switch_ms)),
        model.reach_tokens,
        part.flop_per_s(dense),
        part.flop_per_s(expert),
        part.attention_flop_per_s,
        attention_flop_per_s(part, layout.kv_dtype),
        part.hbm_byte_per_s,
        speculation,
        draft_terms(model, part, layout, speculation.drafter, found) if speculation else None,
        layout.pipeline_parallel,
    )


def scaled(pricing: Pricing, flops: Amount, bandwidth: Amount) -> Pricing:
    """Return a pricing whose device has `flops` times the arithmetic and `bandwidth` times the bandwidth.

    The factors may be arrays that broadcast; then so are all times. The peaks stay numbers of the unscaled.
    """
    drafting = pricing.drafting and pricing.drafting._replace(
        terms=_scaled(pricing.drafting.terms, flops, bandwidth)
    )
    return pricing._replace(terms=_scaled(pricing.terms, flops, bandwidth), drafting=drafting)


def _scaled(priced_from: Terms, flops: Amount, bandwidth: Amount) -> Terms:
    load = priced_from.work
    changes = {name: getattr(load, name) / flops for name in COMPUTE_FIELDS}
    changes |= {name: getattr(load, name) / bandwidth for name in READ_FIELDS}
    return priced_from._replace(work=load._replace(**changes))


class _Dealt(NamedTuple):
    """What a stage of the rank with the most sequences sees of a step: the largest batch, and how many."""

    sequences: Amount  # of the rank
    decodes: Amount  # of the batch
    together: Amount  # of the batch, on all ranks
    batches: Amount  # that follow one another in a round

    @classmethod
    def of(cls, pricing: Pricing, steps: StepShape) -> _Dealt:
        own, stages = steps.decodes, pricing.stages
        if pricing.ranks > 1:
            own = np.ceil(np.asarray(own) / pricing.ranks)
        if stages == 1:
            return cls(own, own, steps.decodes, 1)
        largest = np.ceil(np.asarray(own) / stages)
        return cls(own, largest, largest, np.clip(own, 1, stages))


class Counts(NamedTuple):
    """What attention sums up in a step, over the layers that see all and over those with a window."""

    seen: Amount
    seen_window: Amount
    pairs: Amount
    window_pairs: Amount


def _counts(pricing: Pricing, steps: StepShape, decodes: Amount) -> Counts:
    window, end = pricing.window_tokens, steps.start + steps.chunk
    return Counts(
        decodes * steps.context,
        decodes * np.minimum(steps.context, window),
        (end**2 - steps.start**2) / 2,
        window_pairs(steps.start, end, window),
    )


Pieces = dict[str, dict[str, Amount]]


def seconds(pricing: Pricing, steps: StepShape) -> Pieces:
    """Return the time of each step [s], by piece and within it by part (`parts.PARTS`).

    The piece `weights` holds all products with weights and their activations, `attention` what grows with the
    context, `rest` communication and fixed latencies, `drafts` all that drafting takes, where that is done.
    The parts of all pieces add up to the step. Of several stages, the decodes of a step pass all of them, and
    the chunks of a prompt, which lie on the first axis, follow one another through them.
    """
    dealt = _Dealt.of(pricing, steps)
    stage, end = _of_stage(pricing, steps, dealt), _of_end(pricing, steps, dealt)
    ends = np.where(
        np.asarray(dealt.batches) < pricing.stages, 1, pricing.stages
    )  # alone, it waits for others
    passed = 1 if pricing.stages == 1 else _passed(pricing.stages, steps, sum(map(_total, stage.values())))
    return {
        piece: {
            part: passed * by_part.get(part, 0.0) + ends * end.get(piece, {}).get(part, 0.0)
            for part in {**by_part, **end.get(piece, {})}
        }
        for piece, by_part in stage.items()
    }


def _total(by_part: dict[str, Amount]) -> Amount:
    return sum(by_part.values())


def _passed(stages: int, steps: StepShape, stage_s: Amount) -> Amount:
    """Return how often the time of one stage counts in each step.

    A batch of decodes takes it in every stage. The chunks of a prompt follow one another closely, so each
    counts once, and the slowest of them at every further stage: the last chunk leaves after
    sum + (stages - 1) x slowest.

    References
    ----------
    Pinedo, "Scheduling: theory, algorithms, and systems", proportionate permutation flow shops: the makespan
    of jobs that take equally long on every machine.
    """
    times_s = np.asarray(stage_s)
    chunked = (np.asarray(steps.chunk) > 0) & (np.asarray(steps.decodes) == 0)
    if times_s.ndim == 0 or not chunked.any():
        return stages
    place = np.arange(times_s.shape[0]).reshape(-1, *(1 for _ in times_s.shape[1:]))
    return np.where(chunked, 1 + (stages - 1) * (place == times_s.argmax(axis=0)), stages)


def _of_stage(pricing: Pricing, steps: StepShape, dealt: _Dealt) -> Pieces:
    """Return what a batch takes in each stage, by piece and part. [s]"""
    found, drafts = pricing.terms, pricing.drafts(dealt.decodes)
    tokens, rows = dealt.decodes * (1 + drafts) + steps.chunk, dealt.decodes + steps.last
    token = _all_ranks(found, tokens, dealt.together * (1 + drafts) + steps.chunk)
    row = _sampled(stage_row_parts, found, rows, drafts)
    rates, counts = rate_parts(found, drafts), _counts(pricing, steps, dealt.decodes)
    attention = _per_count(rates, counts)
    state = found.work.state_compute_s / found.kernels.row.prefill_frac * tokens
    prompts = np.where(np.asarray(steps.chunk) > 0, 1.0, 0.0)
    drafted = {"drafts": _drafts(pricing, steps, dealt, tokens)} if pricing.speculation else {}
    return drafted | {
        "weights": {"weights": token["weights"], "compute": token["compute"] - state},
        "attention": {"kv": attention["kv"] + row["kv"], "compute": attention["compute"] + state},
        "rest": {
            "communication": token["communication"] + row["communication"],
            "all_to_all": token["all_to_all"],
            "fixed": token["fixed"]
            + (rates.prefill_requests["fixed"] + rates.prefill_steps["fixed"]) * prompts,
        },
    }


def _of_end(pricing: Pricing, steps: StepShape, dealt: _Dealt) -> Pieces:
    """Return what a batch takes in the last stage alone: the LM head, and the host for its rows. [s]"""
    row = _sampled(end_parts, pricing.terms, dealt.decodes + steps.last, pricing.drafts(dealt.decodes))
    return {
        "weights": {part: row[part] for part in ("weights", "compute")},
        "rest": {part: row[part] for part in ("communication", "fixed")},
    }


def _sampled(
    price: Callable[[Terms, np.ndarray, Amount], dict[str, np.ndarray]],
    found: Terms,
    rows: Amount,
    drafts: Amount,
) -> dict[str, np.ndarray]:
    """Return a price over sampled rows, nothing where there are none. [s]"""
    samples = np.where(rows > 0, 1.0, 0.0)
    return {part: samples * time_s for part, time_s in price(found, np.maximum(rows, 1), drafts).items()}


def _all_ranks(found: Terms, tokens: Amount, together: Amount) -> dict[str, np.ndarray]:
    """Return the time by part of the new tokens of the fullest rank, and of those of all together. [s]"""
    own, shared = token_parts(found, np.asarray(tokens)), group_parts(found, np.asarray(together))
    return {part: time_s + shared.get(part, 0.0) for part, time_s in own.items()}


def _per_count(rates: Rates[dict[str, Amount]], counts: Counts) -> dict[str, Amount]:
    """Return what attention takes, by part. [s]"""
    per_count = (rates.context_tokens, rates.window_tokens, rates.prefill_pairs, rates.window_pairs)
    return {
        part: sum(rate.get(part, 0.0) * count for rate, count in zip(per_count, counts, strict=True))
        for part in ("kv", "compute")
    }


def _drafts(pricing: Pricing, steps: StepShape, dealt: _Dealt, tokens: Amount) -> dict[str, Amount]:
    """Return what drafting takes in each step, by part. [s]"""
    if pricing.speculation is None:
        return {}
    draft, rows = pricing.speculation.drafter.draft, dealt.decodes + steps.last
    drafts, sampled = np.asarray(pricing.drafts(rows)), np.maximum(rows, 1)
    samples = np.where(np.asarray(rows) > 0, 1.0, 0.0)
    together = dealt.together * (1 + np.asarray(pricing.drafts(dealt.decodes))) + steps.chunk
    drafting = pricing.drafting
    passed = drafting is not None and drafting.takes_tokens
    token = _all_ranks(drafting.terms, tokens, together) if drafting and passed else {}
    row = draft_row_parts(pricing.drafting, pricing.terms, draft, sampled, drafts)
    rates = draft_rate_parts(pricing.drafting, draft, drafts)
    context = _per_count(rates, _counts(pricing, steps, dealt.decodes))
    return {
        part: token.get(part, 0.0) + samples * row.get(part, 0.0) + context.get(part, 0.0) for part in PARTS
    }


def parts(pricing: Pricing, steps: StepShape) -> dict[str, Amount]:
    """Return the time of each step [s] by part, in the order of `parts.PARTS`."""
    found = seconds(pricing, steps)
    return {part: sum(piece.get(part, 0.0) for piece in found.values()) for part in PARTS}


def step_s(pricing: Pricing, steps: StepShape) -> Amount:
    """Return the time of each step. [s]"""
    return sum(parts(pricing, steps).values())


class Need(NamedTuple):
    """What a piece of a step needs: FLOP, bytes, and the time its arithmetic takes at the peak. [s]"""

    flop: Amount
    bytes: Amount
    compute_s: Amount


def needs(pricing: Pricing, steps: StepShape) -> dict[str, Need]:
    """Return what the products with weights and the attention of each step need of one device.

    Weights are read once for each batch; a decode reads its KV cache, a prompt writes its own. Of several
    ranks the device is one of the fullest, of several stages one of the last.
    """
    load, dealt = pricing.terms.work, _Dealt.of(pricing, steps)
    decodes, queries = dealt.sequences, 1 + pricing.drafts(dealt.decodes)
    counts = _counts(pricing, steps, decodes)
    tokens, sequences = decodes * queries + steps.chunk, decodes + steps.last
    rows, together = decodes * queries + steps.last, steps.decodes * queries + steps.chunk
    touched = -np.expm1(together / dealt.batches * load.expert_miss_log)
    computed_s = np.array(
        np.broadcast_arrays(
            load.dense_compute_s * tokens,
            load.expert_compute_s * together,
            load.head_compute_s * rows + load.kept_compute_s * tokens,
        )
    )
    peaks = np.array([pricing.dense_flop_per_s, pricing.expert_flop_per_s, pricing.head_flop_per_s])
    read_s = dealt.batches * (
        load.dense_read_s + load.kept_read_s + load.expert_read_s * touched + load.head_read_s * (rows > 0)
    )
    fields = (load.context_compute_s, load.window_compute_s, load.pair_compute_s, load.window_pair_compute_s)
    asked = (queries, queries, 1, 1)
    attention_s = sum(rate * count * times for rate, count, times in zip(fields, counts, asked, strict=True))
    attention_s = attention_s + load.state_compute_s * tokens
    cache_s = load.context_read_s * (counts.seen + steps.chunk) + load.window_read_s * (
        counts.seen_window + steps.chunk
    )
    cache_s = cache_s + load.state_read_s * (sequences + rows) / 2  # read once, written behind every row
    return {
        "weights": Need(
            np.tensordot(peaks, computed_s, 1), read_s * pricing.byte_per_s, computed_s.sum(axis=0)
        ),
        "attention": Need(
            attention_s * pricing.attention_flop_per_s, cache_s * pricing.byte_per_s, attention_s
        ),
    }
