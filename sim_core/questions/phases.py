"""The two phases of serving taken apart: what prefill and decode compute, read and wait for.

Everything rests on the work and the constants that price a simulated step (`sim_core.price.price`), evaluated
for any batch and context, whether or not the KV cache has room for it. FLOP, bytes and rates are those of one
device of a tensor-parallel group; all devices of a group work alike. Of two pools each phase is that of a
worker of its own pool.

References
----------
Williams, Waterman, Patterson (2009), "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52(4).
Pope et al. (2022), "Efficiently scaling transformer inference", section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sim_core.catalogue.accelerators import WEIGHT_DTYPES
from sim_core.catalogue.kernels import Amount
from sim_core.price.memory import engine_of, kv_blocks
from sim_core.price.parts import slower
from sim_core.price.pools import decode_of, prefill_of
from sim_core.price.steps.shapes import (
    Pricing,
    StepShape,
    decode,
    needs,
    parts,
    prefill,
    pricing_of,
    seconds,
    step_s,
)
from sim_core.price.work import layout_of, parameters, precisions
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.traffic.draws import mean_lengths

FURTHEST_BATCH = 1e7


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


# --- what is looked at


def prefilling(scenario: Scenario) -> Scenario:
    """Return the engine that computes prompts: of two pools, a worker of the first."""
    return prefill_of(scenario) if scenario.split else scenario


def decoding(scenario: Scenario) -> Scenario:
    """Return the engine that decodes: of two pools, a worker of the second."""
    return decode_of(scenario) if scenario.split else scenario


def require_fit(scenario: Scenario) -> int:
    """Return the KV blocks of one engine; of several ranks of attention, those of each.

    Raises
    ------
    DoesNotFit
        If there is no room for one.
    """
    return kv_blocks(model_of(scenario), accelerator_of(scenario), layout_of(scenario), engine_of(scenario))


def largest_batch(scenario: Scenario, context_tokens: float) -> int:
    """Return how many sequences of a length the KV cache of one engine holds, as the simulator counts it."""
    blocks = math.ceil(max(context_tokens, 1) / scenario.kv_block_tokens)
    return scenario.attention_data_parallel * (require_fit(scenario) // blocks)


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
    decodes = decoding(scenario)
    require_fit(prefilling(scenario))
    room = largest_batch(decodes, context_tokens)
    prompt, top, rows = setting(scenario).prompt_tokens, roof(scenario), []
    for piece, measures in _measured(pricing_of(prefilling(scenario)), prefill(scenario, prompt)).items():
        row = {"phase": "prefill", "piece": piece, "batch": 1, "tokens": prompt, "context_tokens": 0.0}
        rows.append(row | _ratios(top, *(float(np.sum(column)) for column in measures)) | {"fits": True})
    for piece, measures in _measured(pricing_of(decodes), decode(batches, context_tokens)).items():
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
    pricing = pricing_of(decoding(scenario))

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
    pricing = pricing_of(decoding(scenario))
    load, window = pricing.terms.work, float(pricing.window_tokens)
    experts_s = pricing.ranks * load.expert_compute_s  # each rank has one sequence more
    token_s = load.dense_compute_s + load.kept_compute_s + experts_s + load.head_compute_s
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
    top, block, rows = roof(scenario), scenario.kv_block_tokens, []
    engines = {"prefill": prefilling(scenario), "decode": decoding(scenario)}
    rooms = {phase: require_fit(engine) for phase, engine in engines.items()}
    for phase, size, context in steps:
        pricing = pricing_of(engines[phase])
        work_of = prefill(scenario, int(size)) if phase == "prefill" else decode(size, context)
        by_part = {part: float(np.sum(value)) for part, value in parts(pricing, work_of).items()}
        measures = (float(np.sum(column)) for column in _measured(pricing, work_of)["all"])
        own = math.ceil(size / pricing.ranks)
        held = math.ceil(size / block) if phase == "prefill" else own * math.ceil(max(context, 1) / block)
        found = _ratios(top, *measures)
        rows.append(
            {"phase": phase, "size": int(size), "context_tokens": float(context)}
            | {"time_ms": found["time_ms"]}
            | {f"{part}_ms": 1e3 * value for part, value in by_part.items()}
            | {name: found[name] for name in ("flop_per_byte", "mfu_frac", "mbu_frac")}
            | {"fits": held <= rooms[phase]}
        )
    return rows
