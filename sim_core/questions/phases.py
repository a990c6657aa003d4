"""The two phases of serving taken apart: what prefill and decode compute, read and wait for.

Everything rests on the work and the constants that price a simulated step (`sim_core.price.price`), evaluated
for any batch and context, whether or not the KV cache has room for it. FLOP, bytes and rates are those of one
device of a tensor-parallel group; all devices of a group work alike.

References
----------
Williams, Waterman, Patterson (2009), "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52(4).
Pope et al. (2022), "Efficiently scaling transformer inference", section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sim_core.catalogue.accelerators import WEIGHT_DTYPES, Accelerator
from sim_core.catalogue.calibrations import calibration
from sim_core.catalogue.kernels import Amount
from sim_core.catalogue.models import Model
from sim_core.price.kernels import kernels_of
from sim_core.price.memory import engine_of, kv_blocks
from sim_core.price.one_step import window_pairs
from sim_core.price.parts import (
    PARTS,
    Rates,
    Terms,
    rate_parts,
    row_parts,
    slower,
    terms,
    token_parts,
    with_switch,
)
from sim_core.price.price import Method, method_of, method_under
from sim_core.price.speculation import (
    Speculation,
    draft_rate_parts,
    draft_row_parts,
    draft_terms,
    draft_token_parts,
    speculation_of,
)
from sim_core.price.work import Layout, attention_flop_per_s, layout_of, parameters, precisions, work
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.traffic.draws import mean_lengths

FURTHEST_BATCH = 1e7
COMPUTE_FIELDS = (
    "dense_compute_s",
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
    "expert_read_s",
    "head_read_s",
    "activation_s",
    "context_read_s",
    "window_read_s",
    "state_read_s",
)


class Setting(NamedTuple):
    """What is looked at: a prompt to prefill, and a batch that decodes at one context."""

    prompt_tokens: int
    batch: int
    context_tokens: float


def setting(scenario: Scenario, batch: int = 1, context_tokens: float = 0) -> Setting:
    """Return the scenario's mean prompt, and a batch at a context no longer than the model allows.

    A context of 0 means the scenario's own mean: the prompt and half the answer.
    """
    prompt, output = mean_lengths(scenario)
    context = context_tokens or prompt + output / 2
    return Setting(
        max(1, round(prompt)), int(batch), min(float(context), float(model_of(scenario).max_position))
    )


# --- steps and what prices them -------------------------------------------------------------------


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
    drafting: Terms | None = None  # of a pass of the layer that drafts

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
    method = method_under(calibration(calibration_name)) if calibration_name else method_of(scenario)
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
    )


def scaled(pricing: Pricing, flops: Amount, bandwidth: Amount) -> Pricing:
    """Return a pricing whose device has `flops` times the arithmetic and `bandwidth` times the bandwidth.

    The factors may be arrays that broadcast; then so are all times. The peaks stay numbers of the unscaled.
    """
    drafting = pricing.drafting and _scaled(pricing.drafting, flops, bandwidth)
    return pricing._replace(terms=_scaled(pricing.terms, flops, bandwidth), drafting=drafting)


def _scaled(priced_from: Terms, flops: Amount, bandwidth: Amount) -> Terms:
    load = priced_from.work
    changes = {name: getattr(load, name) / flops for name in COMPUTE_FIELDS}
    changes |= {name: getattr(load, name) / bandwidth for name in READ_FIELDS}
    return priced_from._replace(work=load._replace(**changes))


class Counts(NamedTuple):
    """What attention sums up in a step, over the layers that see all and over those with a window."""

    seen: Amount
    seen_window: Amount
    pairs: Amount
    window_pairs: Amount


def _counts(pricing: Pricing, steps: StepShape) -> Counts:
    window, end = pricing.window_tokens, steps.start + steps.chunk
    return Counts(
        steps.decodes * steps.context,
        steps.decodes * np.minimum(steps.context, window),
        (end**2 - steps.start**2) / 2,
        window_pairs(steps.start, end, window),
    )


def seconds(pricing: Pricing, steps: StepShape) -> dict[str, dict[str, Amount]]:
    """Return the time of each step [s], by piece and within it by part (`price.PARTS`).

    The piece `weights` holds all products with weights and their activations, `attention` what grows with the
    context, `rest` communication and fixed latencies, `drafts` all that drafting takes, where that is done.
    The parts of all pieces add up to the step.
    """
    found, drafts = pricing.terms, pricing.drafts(steps.decodes)
    tokens, rows = steps.decodes * (1 + drafts) + steps.chunk, steps.decodes + steps.last
    token = token_parts(found, np.asarray(tokens))
    samples = np.where(rows > 0, 1.0, 0.0)
    row = {part: samples * s for part, s in row_parts(found, np.maximum(rows, 1), drafts).items()}
    rates, counts = rate_parts(found, drafts), _counts(pricing, steps)
    attention = _per_count(rates, counts)
    state = found.work.state_compute_s / found.kernels.row.prefill_frac * tokens
    attention = {"kv": attention["kv"] + row["kv"], "compute": attention["compute"] + state}
    products = {part: token[part] + row[part] for part in ("weights", "compute")}
    prompts = np.where(np.asarray(steps.chunk) > 0, 1.0, 0.0)
    drafted = {"drafts": _drafts(pricing, steps, tokens, rows)} if pricing.speculation else {}
    return drafted | {
        "weights": products | {"compute": products["compute"] - state},
        "attention": attention,
        "rest": {
            "communication": token["communication"] + row["communication"],
            "fixed": token["fixed"] + row["fixed"] + rates.prefill_requests["fixed"] * prompts,
        },
    }


def _per_count(rates: Rates[dict[str, Amount]], counts: Counts) -> dict[str, Amount]:
    """Return what attention takes, by part. [s]"""
    per_count = (rates.context_tokens, rates.window_tokens, rates.prefill_pairs, rates.window_pairs)
    return {
        part: sum(rate.get(part, 0.0) * count for rate, count in zip(per_count, counts, strict=True))
        for part in ("kv", "compute")
    }


def _drafts(pricing: Pricing, steps: StepShape, tokens: Amount, rows: Amount) -> dict[str, Amount]:
    """Return what drafting takes in each step, by part. [s]"""
    if pricing.speculation is None:
        return {}
    draft, sampled = pricing.speculation.drafter.draft, np.maximum(rows, 1)
    drafts = np.asarray(pricing.drafts(rows))
    samples = np.where(np.asarray(rows) > 0, 1.0, 0.0)
    token = draft_token_parts(pricing.drafting, np.asarray(tokens))
    row = draft_row_parts(pricing.drafting, pricing.terms, draft, sampled, drafts)
    rates = draft_rate_parts(pricing.drafting, draft, drafts)
    context = _per_count(rates, _counts(pricing, steps))
    return {
        part: token.get(part, 0.0) + samples * row.get(part, 0.0) + context.get(part, 0.0) for part in PARTS
    }


def parts(pricing: Pricing, steps: StepShape) -> dict[str, Amount]:
    """Return the time of each step [s] by part, in the order of `cost.PARTS`."""
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
    """Return what the products with weights and the attention of each step need.

    Weights are read once a step; a decode reads its KV cache, a prompt writes its own.
    """
    load, counts = pricing.terms.work, _counts(pricing, steps)
    queries = 1 + pricing.drafts(steps.decodes)
    tokens, sequences = steps.decodes * queries + steps.chunk, steps.decodes + steps.last
    rows = steps.decodes * queries + steps.last
    touched = -np.expm1(tokens * load.expert_miss_log)
    computed_s = np.array(
        [load.dense_compute_s * tokens, load.expert_compute_s * tokens, load.head_compute_s * rows]
    )
    peaks = np.array([pricing.dense_flop_per_s, pricing.expert_flop_per_s, pricing.head_flop_per_s])
    read_s = load.dense_read_s + load.expert_read_s * touched + load.head_read_s * (rows > 0)
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


def require_fit(scenario: Scenario) -> int:
    """Return the KV blocks of one replica.

    Raises
    ------
    DoesNotFit
        If there is no room for one.
    """
    return kv_blocks(model_of(scenario), accelerator_of(scenario), layout_of(scenario), engine_of(scenario))


def largest_batch(scenario: Scenario, context_tokens: float) -> int:
    """Return how many sequences of a length the KV cache of one replica holds, as the simulator counts it."""
    blocks = math.ceil(max(context_tokens, 1) / scenario.kv_block_tokens)
    return require_fit(scenario) // blocks


# --- roofline -------------------------------------------------------------------------------------


class Roof(NamedTuple):
    """The roof of one device: its peak in one precision, and its bandwidth."""

    dtype: str
    flop_per_s: float
    byte_per_s: float

    @property
    def ridge_flop_per_byte(self) -> float:
        """Where the two meet: below it memory limits, above it arithmetic. [FLOP/byte]"""
        return self.flop_per_s / self.byte_per_s

    def at(self, flop_per_byte: Amount) -> np.ndarray:
        """Return the most FLOP/s at an intensity."""
        return np.minimum(self.flop_per_s, self.byte_per_s * np.asarray(flop_per_byte))


def roof(scenario: Scenario) -> Roof:
    """Return the roof in the precision in which the model does most of its products with weights."""
    model, part = model_of(scenario), accelerator_of(scenario)
    dense, expert, _ = precisions(model, scenario.weight_dtype)
    dtype = part.compute_dtype(expert if _mostly_experts(scenario) else dense)
    return Roof(dtype, part.flop_per_s(dtype), part.hbm_byte_per_s)


def _mostly_experts(scenario: Scenario) -> bool:
    """Return whether a token does more arithmetic in routed experts than in all other layers."""
    model = model_of(scenario)
    count = parameters(model)
    routed = count.expert * model.experts_per_token / model.experts if model.experts else 0
    return routed > count.shared + count.replicated + count.key_value


def other_roofs(scenario: Scenario) -> list[Roof]:
    """Return the roofs of the other precisions that the model's products and attention run in."""
    model, part, top = model_of(scenario), accelerator_of(scenario), roof(scenario)
    dense, expert, _ = precisions(model, scenario.weight_dtype)
    used = {part.compute_dtype(dense), part.attention_dtype}
    used |= {part.compute_dtype(expert)} if model.is_moe else set()
    used |= {"fp8"} if scenario.kv_dtype == "fp8" and part.fp8_tflop_per_s else set()
    roofs = [
        Roof(dtype, part.flop_per_s(dtype), part.hbm_byte_per_s) for dtype in WEIGHT_DTYPES if dtype in used
    ]
    return [other for other in roofs if other.flop_per_s != top.flop_per_s]


def reached_roof(scenario: Scenario, flop_per_byte: np.ndarray, calibration_name: str = "") -> np.ndarray:
    """Return the FLOP/s that a calibration's shares of peak leave at each intensity, overlap included."""
    found, top = pricing_of(scenario, calibration_name).terms, roof(scenario)
    product = found.kernels.experts if _mostly_experts(scenario) else found.kernels.dense
    compute_s = 1 / (top.flop_per_s * product.peak_frac)
    memory_s = 1 / (top.byte_per_s * product.read_frac * np.asarray(flop_per_byte))
    return 1 / np.sum(slower(compute_s, memory_s, found.smooth), axis=0)


def roofline(scenario: Scenario, batches: Sequence[int], context_tokens: float) -> list[dict[str, Any]]:
    """Return the scenario's mean prompt and its decode steps as rows, one for each piece.

    Parameters
    ----------
    batches : sequence of int
        Sequences that decode together, one step each.
    context_tokens : float
        Tokens each of them has in its KV cache.

    Returns
    -------
    list of dict
        `phase` (``prefill``, ``decode``), `piece` (``all``, ``weights``, ``attention``), `batch`,
        `tokens` (new ones in the step), `context_tokens`, `flop`, `bytes`, `flop_per_byte`, `time_ms`,
        `flop_per_s` (reached; of the piece ``all`` over the whole step, of the others over their own time),
        `roof_flop_per_s`, `mfu_frac` and `mbu_frac` (shares of the peaks), `fits` (the KV cache holds the
        batch). FLOP and bytes are those of one device. The chunks of a prompt are added up.

    Raises
    ------
    DoesNotFit
        If the weights and one KV block exceed the devices' memory.
    """
    room = largest_batch(scenario, context_tokens)
    prompt = setting(scenario).prompt_tokens
    pricing, top = pricing_of(scenario), roof(scenario)
    rows = []
    for piece, measures in _measured(pricing, prefill(scenario, prompt)).items():
        row = {"phase": "prefill", "piece": piece, "batch": 1, "tokens": prompt, "context_tokens": 0.0}
        rows.append(row | _ratios(top, *(float(np.sum(column)) for column in measures)) | {"fits": True})
    for piece, measures in _measured(pricing, decode(batches, context_tokens)).items():
        for batch, values in zip(batches, zip(*measures, strict=True), strict=True):
            row = {"phase": "decode", "piece": piece, "batch": int(batch), "tokens": int(batch)}
            row |= {"context_tokens": float(context_tokens)} | _ratios(top, *map(float, values))
            rows.append(row | {"fits": bool(batch <= room)})
    return rows


def _measured(pricing: Pricing, steps: StepShape) -> dict[str, tuple[np.ndarray, ...]]:
    """Return FLOP, bytes, arithmetic at the peak [s] and time [s] of each step, by piece, and of all."""
    needed, timed = needs(pricing, steps), seconds(pricing, steps)
    total = [sum(column) for column in zip(*needed.values(), strict=True)]
    columns = {"all": [*total, step_s(pricing, steps)]}
    columns |= {piece: [*need, sum(timed[piece].values())] for piece, need in needed.items()}
    return {piece: np.broadcast_arrays(*values) for piece, values in columns.items()}


def _ratios(top: Roof, flop: float, moved: float, compute_s: float, time_s: float) -> dict[str, float]:
    intensity = flop / moved if moved else math.nan
    return {
        "flop": flop,
        "bytes": moved,
        "flop_per_byte": intensity,
        "time_ms": 1e3 * time_s,
        "flop_per_s": flop / time_s if time_s else math.nan,
        "roof_flop_per_s": float(top.at(intensity)),
        "mfu_frac": compute_s / time_s if time_s else math.nan,
        "mbu_frac": moved / top.byte_per_s / time_s if time_s else math.nan,
    }


def compute_bound_batch(scenario: Scenario, context_tokens: float) -> float:
    """Return the batch from which arithmetic at its peak takes longer than reading; infinite if none does.

    Compute time grows in proportion to the batch, reading more and more slowly (experts are touched only
    once), so the two cross at most once.
    """
    pricing = pricing_of(scenario)

    def excess_s(batch: float) -> float:
        needed = needs(pricing, decode(batch, context_tokens)).values()
        return float(sum(need.compute_s - need.bytes / pricing.byte_per_s for need in needed))

    low, high = 0.0, 1.0
    while excess_s(high) < 0:
        low, high = high, 2 * high
        if high > FURTHEST_BATCH:
            return math.inf
    while high - low > 1e-9 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess_s(middle) < 0 else (low, middle)
    return high


def compute_bound_context(scenario: Scenario) -> float:
    """Return the context beyond which no batch makes decode compute-bound; infinite if there is none.

    There, a sequence takes longer to read its KV cache, and its state, than the arithmetic of its token;
    0 where the state alone takes longer. [tokens]
    """
    pricing = pricing_of(scenario)
    load, window = pricing.terms.work, float(pricing.window_tokens)
    token_s = load.dense_compute_s + load.expert_compute_s + load.head_compute_s
    token_s = max(token_s + load.state_compute_s - load.state_read_s, 0.0)
    full_s = load.context_read_s - load.context_compute_s
    window_s = load.window_read_s - load.window_compute_s
    within = token_s / (full_s + window_s) if full_s + window_s > 0 else math.inf
    if window_s == 0 or within <= window:
        return within
    beyond_s = token_s - window * window_s
    return beyond_s / full_s if full_s > 0 and beyond_s > 0 else math.inf


# --- one step -------------------------------------------------------------------------------------


def step_rows(scenario: Scenario, steps: Sequence[tuple[str, float, float]]) -> list[dict[str, Any]]:
    """Return the time of steps by part, and how much of the device each uses.

    Parameters
    ----------
    steps : sequence of (phase, size, context)
        A ``prefill`` of one prompt of `size` tokens, or a ``decode`` of `size` sequences at a context.

    Returns
    -------
    list of dict
        `phase`, `size`, `context_tokens`, `time_ms`, the parts `weights_ms` ... `fixed_ms` that add up to it,
        `mfu_frac`, `mbu_frac`, and `fits` (the KV cache holds the sequences).
    """
    pricing, top = pricing_of(scenario), roof(scenario)
    block = scenario.kv_block_tokens
    blocks = require_fit(scenario)
    rows = []
    for phase, size, context in steps:
        work_of = prefill(scenario, int(size)) if phase == "prefill" else decode(size, context)
        by_part = {part: float(np.sum(value)) for part, value in parts(pricing, work_of).items()}
        measures = (float(np.sum(column)) for column in _measured(pricing, work_of)["all"])
        held = math.ceil(size / block) if phase == "prefill" else size * math.ceil(max(context, 1) / block)
        found = _ratios(top, *measures)
        rows.append(
            {"phase": phase, "size": int(size), "context_tokens": float(context)}
            | {"time_ms": found["time_ms"]}
            | {f"{part}_ms": 1e3 * value for part, value in by_part.items()}
            | {name: found[name] for name in ("flop_per_byte", "mfu_frac", "mbu_frac")}
            | {"fits": held <= blocks}
        )
    return rows
