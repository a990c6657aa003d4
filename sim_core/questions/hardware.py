"""What would change with other hardware, another attention, or the hardware of others.

More FLOP/s or more bandwidth for one accelerator and what each brings; the KV cache of one model under other
kinds of attention; and the time per token that no batch and no engine can beat, for every accelerator.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.accelerators import PEAKS
from sim_core.catalogue.kernels import Amount
from sim_core.catalogue.models import COMPRESSED, LATENT, Attention, Model
from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import memory
from sim_core.price.steps.floor import floor_step_s
from sim_core.price.steps.shapes import decode, prefill, pricing_of, scaled, step_s
from sim_core.price.work import Layout, check_layout, kv_token_bytes, layout_of, stage_frac, state_bytes
from sim_core.questions.phases import Setting, decoding, prefilling, require_fit, roof
from sim_core.scenario.scenario import DEFAULTS, SPECS, Scenario, accelerator_of, model_of
from sim_core.sweep.capacity import CAPACITY_REQUESTS, Y, best_within
from sim_core.sweep.frontier import as_done

FLOP_KEYS = tuple(PEAKS.values())
BANDWIDTH_KEY = "hbm_gb_per_s"
OCTAVES = tuple(2.0**power for power in range(-2, 4))  # a quarter to eight times
FINE = np.geomspace(0.25, 8, 21).round(9)  # of the maps that are arithmetic
MEASURES = ("decode", "ttft", "limits")


# --- more FLOP/s, more bandwidth ------------------------------------------------------------------


class Factors(NamedTuple):
    """A device's arithmetic and bandwidth as multiples of its datasheet's."""

    flops: float
    bandwidth: float


def as_sold(scenario: Scenario) -> Scenario:
    """Return the scenario with arithmetic and bandwidth as the datasheet says; other specs stay changed."""
    return scenario.replace(**dict.fromkeys((*FLOP_KEYS, BANDWIDTH_KEY)))


def with_factors(scenario: Scenario, flops: float = 1.0, bandwidth: float = 1.0) -> Scenario:
    """Return the scenario with all peaks and the bandwidth at multiples of the datasheet's.

    Raises
    ------
    ScenarioError
        If a spec leaves its limits.
    """
    return scenario.replace(**specs_at(scenario, flops=flops), **specs_at(scenario, bandwidth=bandwidth))


def specs_at(
    scenario: Scenario, flops: float | None = None, bandwidth: float | None = None
) -> dict[str, float | None]:
    """Return the scenario keys that put the peaks, or the bandwidth, at a multiple of the datasheet's."""
    sheet = catalogue.accelerator(scenario.accelerator)
    found: dict[str, float | None] = {}
    for factor, keys in ((flops, FLOP_KEYS), (bandwidth, (BANDWIDTH_KEY,))):
        if factor is not None:
            found |= dict.fromkeys(keys) if factor == 1 else _times(sheet, keys, factor)
    return found


def _times(part: catalogue.Accelerator, keys: Sequence[str], factor: float) -> dict[str, float | None]:
    """Return specs of a part at a multiple; what it does not have stays so."""
    values = {key: getattr(part, key) for key in keys}
    return {key: None if value is None else float(f"{value * factor:.6g}") for key, value in values.items()}


def factors(scenario: Scenario) -> Factors:
    """Return where the scenario's accelerator lies, in the precision of its roof."""
    now, sheet = roof(scenario), roof(as_sold(scenario))
    return Factors(now.flop_per_s / sheet.flop_per_s, now.byte_per_s / sheet.byte_per_s)


def others(scenario: Scenario) -> list[dict[str, Any]]:
    """Return the accelerators as multiples of the scenario's datasheet: `id`, `name`, `flops`, `bandwidth`.

    Each peak is the one at which the scenario's weights are multiplied there; parts without any are left out.
    """
    rows, sheet = [], roof(as_sold(scenario))
    bare = scenario.replace(**dict.fromkeys(SPECS))
    for name, part in catalogue.accelerators().items():
        try:
            found = roof(bare.replace(accelerator=name))
        except ScenarioError:
            continue
        ratios = (found.flop_per_s / sheet.flop_per_s, found.byte_per_s / sheet.byte_per_s)
        row = {"id": name, "name": part.name, "dtype": found.dtype, "announced": part.announced}
        row |= trust.trust(bare.replace(accelerator=name)).columns()
        rows.append(row | dict(zip(Factors._fields, ratios, strict=True)))
    return rows


def decode_tok_per_s(scenario: Scenario, at: Setting, flops: Amount = 1.0, bandwidth: Amount = 1.0) -> Amount:
    """Return the output tokens per second of one decoding batch; factors are of the scenario's own specs."""
    pricing = scaled(pricing_of(decoding(scenario)), flops, bandwidth)
    return at.batch * pricing.made(at.batch) / step_s(pricing, decode(at.batch, at.context_tokens))


def ttft_s(scenario: Scenario, at: Setting, flops: Amount = 1.0, bandwidth: Amount = 1.0) -> Amount:
    """Return the time to the first token of the mean prompt, alone on the engine. [s]"""
    pricing = pricing_of(prefilling(scenario))
    steps = prefill(scenario, at.prompt_tokens)
    shape = np.broadcast_shapes(np.shape(flops), np.shape(bandwidth))
    chunks, starts, lasts = (
        np.asarray(column).reshape(-1, *(1 for _ in shape))
        for column in (steps.chunk, steps.start, steps.last)
    )
    steps = steps._replace(chunk=chunks, start=starts, last=lasts)
    busy_s = np.sum(step_s(scaled(pricing, flops, bandwidth), steps), axis=0)
    constants = pricing.terms.constants
    before_s = constants.request_before_s + constants.prompt_token_before_s * at.prompt_tokens
    return before_s + busy_s + constants.request_after_s


def within_limits(scenario: Scenario) -> float:
    """Return the most output tokens per second and accelerator within the latency limits; 0 if none.

    Simulated: the throughput at the capacity. NaN where the scenario cannot run.
    """
    try:
        found = best_within(scenario)
    except ScenarioError:
        return math.nan
    return found[Y] if found else 0.0


def specs_maps(scenario: Scenario, at: Setting) -> list[dict[str, Any]]:
    """Return the three measures over arithmetic and bandwidth, multiples of the datasheet's, one row a place.

    Returns
    -------
    list of dict
        `measure` as in `returns`, `flops`, `bandwidth`, `value` (NaN where the scenario cannot run there).
    """
    return [
        {"measure": measure, "flops": float(x), "bandwidth": float(y), "value": float(values[row, column])}
        for measure in MEASURES
        for steps, values in [measure_map(scenario, at, measure)]
        for row, y in enumerate(steps)
        for column, x in enumerate(steps)
    ]


def measure_map(scenario: Scenario, at: Setting, measure: str) -> tuple[Sequence[float], np.ndarray]:
    """Return the factors along both sides of the map of one measure, and its values (bandwidth, flops)."""
    if measure == "limits":
        return OCTAVES, limits_map(scenario, OCTAVES, OCTAVES)
    compute = decode_tok_per_s if measure == "decode" else ttft_s
    return FINE.tolist(), np.asarray(compute(as_sold(scenario), at, FINE[None, :], FINE[:, None]))


def limits_map(scenario: Scenario, flops: Sequence[float], bandwidth: Sequence[float]) -> np.ndarray:
    """Return `within_limits` for all factors of the datasheet, shape (len(bandwidth), len(flops))."""
    base = limits_scenario(scenario)

    def at(pair: tuple[float, float]) -> float:
        try:
            return within_limits(with_factors(base, *pair))
        except ScenarioError:
            return math.nan

    pairs = [(x, y) for y in bandwidth for x in flops]
    found = dict(as_done([partial(at, pair) for pair in pairs]))
    return np.array([found[place] for place in range(len(pairs))]).reshape(len(bandwidth), len(flops))


def limits_scenario(scenario: Scenario) -> Scenario:
    """Return the scenario with what cannot change `within_limits` at its default: one memory for all."""
    keys = ["arrival_per_s", "concurrency"]
    keys += ["batch_wait_ms"] if scenario.policy != "static" else []
    keys += ["requests"] if scenario.requests <= CAPACITY_REQUESTS else []
    arrivals = {} if scenario.arrivals == "gamma" else {"arrivals": "poisson", "request_list": ""}
    return scenario.replace(**{key: DEFAULTS[key] for key in keys} | arrivals)


def returns(scenario: Scenario, at: Setting, measures: Sequence[str] = MEASURES) -> list[dict[str, Any]]:
    """Return what doubling the FLOP/s or the bandwidth brings at the present setting.

    Returns
    -------
    list of dict
        `measure`: ``decode`` [tok/s], ``ttft`` [s], ``limits`` [tok/s per accelerator]; `value` at present;
        `more_flops` and `more_bandwidth`, the relative change of the value with twice of each.
    """
    rows = []
    for measure in measures:
        if measure == "limits":
            own = limits_scenario(scenario)
            now, *more = (within_limits(own), _limits_times(own, 2, 1), _limits_times(own, 1, 2))
        else:
            value = decode_tok_per_s if measure == "decode" else ttft_s
            now, *more = (float(value(scenario, at, *pair)) for pair in ((1, 1), (2, 1), (1, 2)))
        flops, bandwidth = (value / now - 1 if now > 0 else math.nan for value in more)
        rows.append({"measure": measure, "value": now, "more_flops": flops, "more_bandwidth": bandwidth})
    return rows


def _limits_times(scenario: Scenario, flops: float, bandwidth: float) -> float:
    """Return `within_limits` with multiples of the present specs; NaN where a spec leaves its limits."""
    part = accelerator_of(scenario)
    changes: dict[str, float | None] = {}
    for factor, keys in ((flops, FLOP_KEYS), (bandwidth, (BANDWIDTH_KEY,))):
        if factor != 1:
            changes |= _times(part, keys, factor)
    try:
        return within_limits(scenario.replace(**changes))
    except ScenarioError:
        return math.nan


# --- the KV cache under other kinds of attention --------------------------------------------------

KINDS = ("full", "grouped", "window", "latent")
OWN = "own"  # a kind of the model's own, beside those: sparse, compressed, with states
GROUPED_HEADS = 8
WINDOW_LIKE = "gemma-3-12b"  # where a model has no window: its share of windowed layers, and its window
LATENT_LIKE = "deepseek-v3"  # where a model has no latent cache: its ranks


def attention_kind(model: Model) -> str:
    """Return the kind of attention a model has: its own, where it is none that others are compared with."""
    if len(model.attention) == 1 and model.main.kind == "mla":
        return "latent"
    if any(group.kind != "full" for group in model.attention):
        return "own"
    if model.window_layers:
        return "window"
    return "full" if model.kv_heads == model.heads else "grouped"


def with_attention(model: Model, kind: str) -> Model:
    """Return a model of the same dimensions with another kind of attention; its own kind stays as it is."""
    if kind == attention_kind(model):
        return model
    layers = model.attention_layers
    if kind == "latent":
        like = catalogue.model(LATENT_LIKE).main
        latent = dataclasses.replace(like, layers=layers, heads=_query_heads(model))
        return dataclasses.replace(model, attention=(latent,))
    own = Attention(kind="full", layers=layers, heads=_query_heads(model), **_heads(model, kind))
    if kind != "window":
        return dataclasses.replace(model, attention=(own,))
    like_model = catalogue.model(WINDOW_LIKE)
    windowed = round(layers * like_model.window_layers / like_model.layers)
    window = dataclasses.replace(own, layers=windowed, window_tokens=like_model.window_tokens)
    own = dataclasses.replace(own, layers=layers - windowed)
    return dataclasses.replace(model, attention=(own, window))


def _query_heads(model: Model) -> int:
    return model.main.heads


def _heads(model: Model, kind: str) -> dict[str, Any]:
    """Return key/value heads and their size: all of them, or the model's own groups, or eight."""
    size, heads = model.head_dim, _query_heads(model)
    if model.main.kind in (*LATENT, *COMPRESSED):
        latent = model.main if model.latent else catalogue.model(LATENT_LIKE).main
        size = (latent.qk_nope + latent.qk_rope + latent.v_dim) // 2  # of a key and a value, on average
    groups = model.kv_heads or heads
    if groups == heads:
        groups = math.gcd(GROUPED_HEADS, heads)
    return {"kv_heads": heads if kind == "full" else groups, "head_dim": size}


def sequence_bytes(scenario: Scenario, kind: str, context_tokens: Amount) -> np.ndarray:
    """Return the KV cache of one sequence on all devices that keep it, under a kind of attention. [bytes]

    Of several ranks of attention, those of one. In whole blocks; layers with a window keep only their window,
    those with a state nothing else.
    """
    model, layout = with_attention(model_of(scenario), kind), layout_of(scenario)
    block = scenario.kv_block_tokens
    held = np.ceil(np.maximum(np.asarray(context_tokens, float), 1) / block) * block
    whole = kv_token_bytes([group for group in model.attention if not group.forgets], layout)
    device = state_bytes(model, layout) + whole * held
    for group in model.attention:
        if group.forgets:
            device = device + kv_token_bytes([group], layout) * np.minimum(held, group.window_tokens)
    return device * _keeping(model, layout)


def _keeping(model: Model, layout: Layout) -> float:
    """Return how many devices keep a sequence, each as much as the fullest would if it held all layers."""
    return layout.rank_devices * layout.pipeline_parallel * stage_frac(model, layout)


def room_gb(scenario: Scenario) -> float:
    """Return what is left for KV caches and states on the devices of one engine. [GB]"""
    found = memory(scenario)
    return float(found["kv_gb"] + found["state_gb"])


def kv_rows(scenario: Scenario, batch: int, context_tokens: float) -> list[dict[str, Any]]:
    """Return the KV cache of the scenario's model under each kind of attention, one row a kind.

    The batch and the room are those of an engine, whose ranks of attention each hold their share of both; of
    two pools, of a worker that decodes.

    Returns
    -------
    list of dict
        `kind`, `own` (the model has it), `kv_heads`, `window_tokens`, `kb_per_token` (one more token while
        all layers keep it), `sequence_gb` (one sequence at the context), `batch_gb`, `largest_batch` that
        fits beside the weights, `longest_context` at the batch [tokens].

    Raises
    ------
    ScenarioError
        If the layout does not divide the model.
    """
    scenario = decoding(scenario)
    model, layout, ranks = model_of(scenario), layout_of(scenario), scenario.attention_data_parallel
    room = 1e9 * room_gb(scenario) / ranks
    rows = []
    for kind in (*((OWN,) if attention_kind(model) == OWN else ()), *KINDS):
        other = with_attention(model, kind)
        sequence = float(sequence_bytes(scenario, kind, context_tokens))
        token = kv_token_bytes(other.attention, layout) * _keeping(model, layout)
        rows.append(
            {
                "kind": kind,
                "own": other is model,
                "kv_heads": other.kv_heads,
                "window_tokens": other.window_tokens,
                "kb_per_token": token / 1e3,
                "sequence_gb": sequence / 1e9,
                "batch_gb": batch * sequence / 1e9,
                "largest_batch": ranks * int(room // sequence) if sequence else 0,
                "longest_context": _longest(scenario, kind, room / math.ceil(batch / ranks)),
            }
        )
    return rows


def _longest(scenario: Scenario, kind: str, room_bytes: float) -> int:
    """Return the longest context of one sequence in some room, no longer than the model allows. [tokens]"""
    block, top = scenario.kv_block_tokens, model_of(scenario).max_position
    low, high = 0, top // block
    while low < high:
        middle = (low + high + 1) // 2
        fits = sequence_bytes(scenario, kind, middle * block) <= room_bytes
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * block


# --- the floor ------------------------------------------------------------------------------------


def floor_rows(scenario: Scenario) -> list[dict[str, Any]]:
    """Return the time per token of one sequence without context, for every accelerator, fastest first.

    Returns
    -------
    list of dict
        `accelerator`, `name`, `own`, `floor_ms` (every weight read once at the peak bandwidth, or its
        arithmetic at the peak, whichever is longer), `typical_ms` (what the typical calibration predicts),
        `fits` and `reason` (why it does not run at the scenario's tensor parallelism), `announced`, and how
        far to trust the prediction, as in `Trust.columns`. The scenario's own accelerator keeps its changed
        specs, the others are as sold. A part whose arithmetic is not known has no times.

    Raises
    ------
    ScenarioError
        If the layout does not divide the model.
    """
    scenario = decoding(scenario)
    check_layout(model_of(scenario), layout_of(scenario))
    sold = scenario.replace(**dict.fromkeys(SPECS))
    rows = []
    for name, part in catalogue.accelerators().items():
        own = name == scenario.accelerator
        there = scenario if own else sold.replace(accelerator=name)
        rows.append({"accelerator": name, "name": accelerator_of(there).name, "own": own} | _floor(there))
        typical = there.replace(calibration="typical", constants="", step_profile="")
        rows[-1] |= {"announced": part.announced} | trust.of_step(typical).columns()
    return sorted(rows, key=lambda row: (not row["floor_ms"] < math.inf, row["floor_ms"]))


def _floor(scenario: Scenario) -> dict[str, Any]:
    try:
        typical = pricing_of(scenario, "typical")
        floor_ms = 1e3 * floor_step_s(scenario, 1, 0) / float(typical.made(1))
        typical_ms = 1e3 * float(step_s(typical, decode(1, 0)) / typical.made(1))
    except ScenarioError as error:
        return {"floor_ms": math.nan, "typical_ms": math.nan, "fits": False, "reason": str(error)}
    found = {"floor_ms": floor_ms, "typical_ms": typical_ms, "fits": True, "reason": ""}
    try:
        require_fit(scenario)
    except ScenarioError as error:
        found |= {"fits": False, "reason": str(error)}
    return found
