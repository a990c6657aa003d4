"""The cost of one engine step: from a scenario to a price list, by arithmetic alone.

Everything but attention depends on token counts alone, so a step is tabulated once over the tokens it
processes and the rows it samples; attention adds terms that are linear in sums of context lengths.
The simulator looks the price up and knows no physics; a measured engine profile is the same list.

How a step is priced
--------------------
For each block of the model (dense matrices, experts, LM head, decode attention) the step takes the
smooth maximum (a^4 + b^4)^(1/4) of its arithmetic and of its memory reading, each at the share of peak
that its kernel was measured to reach. `presets/kernels` holds these shares, with the tokens that tiles
compute in vain and the time of a launch, by generation of the device, kind of kernel and engine. Launches
are counted: so many products, attentions, expert layers and all-reduces a layer. A calibration adds what
the host takes (per step, layer, sequence and prompt), and may put values or factors in the kernels' place.
Blocks follow one another, so their times add up. The result is split into `PARTS`:

- ``weights``: reading weights (dense matrices, experts, LM head) from device memory;
- ``kv``: reading the KV cache;
- ``compute``: arithmetic, and the activations it moves through memory;
- ``communication``: collectives between the devices of a tensor-parallel group, and swapping to the host;
- ``fixed``: latencies of launches, of the host, of each sequence and of each prompt.

Assumptions
-----------
- All devices of a group work alike; tensor parallelism divides every matrix but the router and MLA's
  down-projections, which every device holds, as it holds at least one KV head or MLA's latent cache.
- Query heads that do not divide are filled up to the next multiple (`padded`), as some engines do.
- Memory is what a device reports; of it the driver and the collectives keep 2.2 GB on one device and 3.6 GB
  on each of a group, and the largest step its activations or the logits of the rows it samples.
- A group sees the links it has: in a mesh of seven wires two devices use one (`Accelerator.link`).
- Under expert parallelism the activations are already on every device of the group (attention is
  tensor-parallel), so experts add no all-to-all: the all-reduce after the layer combines them. The most
  loaded device sets the pace.
- A prompt chunk reads the KV cache of the tokens before it behind its own arithmetic (true from about
  a hundred tokens per chunk).
- Weights in a format that a device lacks are widened and multiply in bf16. An engine that is not named
  runs the kernels of open ones; a generation that nobody measured those of the closest.
- Without CUDA graphs the host launches one kernel after another, ahead of the device until it falls behind;
  decode attention hides no launches, so long contexts are priced too high then, by the launches at most.
- Embedding and LM head stay in bf16 when weights are fp8 or fp4, as in the published checkpoints; under
  `native` experts and the rest have the checkpoint's own precision.
- Layers that keep a state in place of a cache read and write it once a decode, and compute it once a token.
- Sparse kinds read at most the tokens their index chooses, and the whole index, which every device holds.

References
----------
Williams, Waterman, Patterson (2009), "Roofline: an insightful visual performance model".
Pope et al. (2022), "Efficiently scaling transformer inference", sections 2 and 3.
ai-dynamo/aiconfigurator 0.12.0 (Apache-2.0), tables of measured kernels (`presets/kernels/sources.toml`).
DeepSeek-AI (2024), "DeepSeek-V2", section 2.1 (multi-head latent attention and its absorbed form).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.calibrations import Calibration, Constants, calibration
from sim_core.catalogue.kernels import Amount
from sim_core.catalogue.models import Model
from sim_core.price.kernels import kernels_of
from sim_core.price.memory import Engine, engine_of, kv_blocks
from sim_core.price.parts import PARTS, Rates, Terms, rate_parts, row_parts, terms, token_parts, with_switch
from sim_core.price.speculation import (
    PLAIN,
    Speculation,
    added,
    draft_rate_parts,
    draft_row_parts,
    draft_terms,
    draft_token_parts,
    paces_of,
    speculation_of,
)
from sim_core.price.step_cost import PLAIN_PACE, StepCost
from sim_core.price.work import Drafter, Layout, Work, layout_of, work
from sim_core.scenario.profiles import EngineProfile, parse_profile
from sim_core.scenario.scenario import Scenario, accelerator_of, calibration_of, model_of
from sim_core.scenario.speculation_keys import MOST_DRAFTS

MEASURED = ("measured",)
NEEDS = ("compute", "memory")
TABLE_TOKENS_MIN = 2048
TABLE_TOKENS_MAX = 32_768


# --- the price ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """Seconds by heading: over the tokens of a step, over its sampled rows, and per unit of each rate.

    Attributes
    ----------
    token_s : ndarray, shape (headings, table length)
    row_s : ndarray, shape (headings, max_batch + 1)
    rate_s : ndarray, shape (headings, len(Rates._fields))
    """

    headings: tuple[str, ...]
    token_s: np.ndarray
    row_s: np.ndarray
    rate_s: np.ndarray

    def total_s(
        self, steps_by_tokens: np.ndarray, steps_by_rows: np.ndarray, counts: Rates[float]
    ) -> np.ndarray:
        """Return the seconds under each heading for histograms of steps and totals of the rates."""
        tokens = self.token_s[:, : len(steps_by_tokens)] @ np.asarray(steps_by_tokens, dtype=float)
        rows = self.row_s[:, : len(steps_by_rows)] @ np.asarray(steps_by_rows, dtype=float)
        return tokens + rows + self.rate_s @ np.asarray(counts, dtype=float)


@dataclass(frozen=True, slots=True, eq=False)
class Price:
    """What a scenario's steps cost, how much KV cache there is, and why. Compared and hashed by identity.

    Attributes
    ----------
    step : StepCost
        For the simulator's kernel.
    kv_blocks, kv_block_tokens : int
        KV cache of one replica.
    request_limit_tokens : int
        Longest prompt plus answer that one replica can ever hold.
    request_before_s, request_after_s : float
        From the client to the engine and back. [s]
    accelerators, replicas : int
        Devices of all replicas together, and the replicas.
    ledger : Ledger
        The same seconds as in `step`, split by `PARTS` (or all under ``measured``).
    needs : Ledger or None
        Seconds the model's FLOP and bytes take at the device's peaks; None for a measured profile.
    """

    step: StepCost
    kv_blocks: int
    kv_block_tokens: int
    request_limit_tokens: int
    request_before_s: float
    request_after_s: float
    accelerators: int
    replicas: int
    ledger: Ledger
    needs: Ledger | None


def price_of(scenario: Scenario, profile: EngineProfile | None = None, method: Method | None = None) -> Price:
    """Return the price list of a scenario's steps, from its calibration or from a measured engine profile.

    Prices are cached by the keys they depend on: a sweep over rates, lengths or limits computes one.

    Parameters
    ----------
    scenario : Scenario
    profile : EngineProfile, optional
        Measured step times, by default the scenario's `step_profile`; they replace the calibration.
    method : Method, optional
        In place of the scenario's calibration.

    Raises
    ------
    DoesNotFit
        If the weights and one KV block exceed the devices' memory.
    ScenarioError
        If the layout does not divide the model.
    """
    profile = profile or measured_steps(scenario)
    if profile is not None and profile.constants:
        own = method_under(calibration(profile.calibration, profile.constants))
        return price_of(scenario.replace(step_profile=""), method=own)
    if profile is not None:
        return _measured_price(scenario, profile)
    return _price(
        model_of(scenario),
        accelerator_of(scenario),
        layout_of(scenario),
        engine_of(scenario),
        method or method_of(scenario),
        speculation_of(scenario),
    )


def measured_steps(scenario: Scenario) -> EngineProfile | None:
    """Return the engine profile that a scenario carries in its `step_profile`, or None."""
    return parse_profile(scenario.step_profile) if scenario.step_profile else None


class Method(NamedTuple):
    """What the seconds rest on: the constants, and how compute and memory time are joined (see above)."""

    constants: Constants
    smooth: bool


def method_of(scenario: Scenario) -> Method:
    """Return what a scenario's seconds rest on: its calibration, with the constants of its own."""
    return method_under(calibration_of(scenario))


def method_under(chosen: Calibration) -> Method:
    """Return what seconds under a calibration rest on."""
    return Method(chosen.base, chosen.smooth)


def _table_tokens(engine: Engine) -> int:
    """Return the last entry of the table over tokens; beyond it, a step grows by a constant slope."""
    return min(max(engine.token_budget, engine.max_batch, TABLE_TOKENS_MIN), TABLE_TOKENS_MAX)


@lru_cache(maxsize=256)
def _price(
    model: Model,
    accelerator: Accelerator,
    layout: Layout,
    engine: Engine,
    method: Method,
    speculation: Speculation | None,
) -> Price:
    drafter = speculation.drafter if speculation else None
    tables = _tables(model, accelerator, layout, _table_tokens(engine), method, drafter)
    rated = tables.terms._replace(constants=with_switch(method.constants, engine.prefill_switch_ms))
    blocks = kv_blocks(model, accelerator, layout, engine)
    row_parts_s, row_needs_s = _row_tables(tables, engine.max_batch, speculation)
    rates = {
        level.drafts: by_heading(PARTS, _rates(rated, tables.drafting, speculation, level.drafts))
        for level in (speculation.levels if speculation else (PLAIN,))
    }
    rate_parts_s = next(iter(rates.values()))
    paces = paces_of(speculation, engine.max_batch, _context_scales(rates))
    ledger = Ledger(PARTS, tables.token_parts_s, row_parts_s, rate_parts_s)
    rate_needs_s = by_heading(NEEDS, _rate_needs(tables.terms.work, next(iter(rates))))
    needs = Ledger(NEEDS, tables.token_needs_s, row_needs_s, rate_needs_s)
    return Price(
        step=_ledger_cost(ledger, tables.token_s, model.reach_tokens, paces),
        kv_blocks=blocks,
        kv_block_tokens=engine.kv_block_tokens,
        request_limit_tokens=_limit_tokens(blocks * engine.kv_block_tokens, model, speculation),
        request_before_s=method.constants.request_before_s,
        request_after_s=method.constants.request_after_s,
        accelerators=layout.tensor_parallel * engine.replicas,
        replicas=engine.replicas,
        ledger=ledger,
        needs=needs,
    )


def _limit_tokens(kv_tokens: int, model: Model, speculation: Speculation | None) -> int:
    """Return the longest prompt plus answer that fits a KV cache and the context window."""
    return min(kv_tokens - (speculation.margin_tokens if speculation else 0), model.max_position)


def step_cost(
    token_s: np.ndarray,
    row_s: np.ndarray,
    rates: Rates[float],
    window_tokens: int,
    paces: np.ndarray = PLAIN_PACE,
) -> StepCost:
    """Return the kernel's price list: tables over tokens and rows [s], and seconds per unit of each rate."""
    return StepCost(
        token_s=token_s,
        row_s=row_s,
        token_slope_s=rates.extra_tokens,
        decode_context_s=rates.context_tokens,
        window_context_s=rates.window_tokens,
        window_tokens=int(window_tokens),
        prefill_pair_s=rates.prefill_pairs,
        window_pair_s=rates.window_pairs,
        prefill_request_s=rates.prefill_requests,
        swap_token_s=rates.swapped_tokens,
        paces=paces,
    )


def _ledger_cost(
    ledger: Ledger, token_s: np.ndarray, window_tokens: int, paces: np.ndarray = PLAIN_PACE
) -> StepCost:
    """Return the price list whose figures are the sums of a ledger's headings."""
    rates = Rates(*(float(value) for value in ledger.rate_s.sum(axis=0)))
    return step_cost(token_s, np.ascontiguousarray(ledger.row_s.sum(axis=0)), rates, window_tokens, paces)


def slowed(found: Price, factor: float) -> Price:
    """Return a price list in which every step takes `factor` times as long; requests' overheads stay."""
    own = found.ledger
    ledger = Ledger(own.headings, factor * own.token_s, factor * own.row_s, factor * own.rate_s)
    rates = Rates(*(float(value) for value in ledger.rate_s.sum(axis=0)))
    own_s = found.step.token_s * factor, found.step.row_s * factor
    step = step_cost(*own_s, rates, found.step.window_tokens, found.step.paces)
    return dataclasses.replace(found, step=step, ledger=ledger)


class _Tables(NamedTuple):
    """The tables that do not depend on `max_batch`, on memory or on how many drafts there are."""

    terms: Terms
    drafting: Terms | None  # of a pass of the layer that drafts, if one does
    token_s: np.ndarray
    token_parts_s: np.ndarray
    token_needs_s: np.ndarray


@lru_cache(maxsize=64)
def _tables(
    model: Model,
    accelerator: Accelerator,
    layout: Layout,
    length: int,
    method: Method,
    drafter: Drafter | None,
) -> _Tables:
    load = work(model, accelerator, layout)
    priced_from = terms(load, kernels_of(model, accelerator, layout), *method)
    drafting = draft_terms(model, accelerator, layout, drafter, priced_from) if drafter else None
    tokens = np.arange(1, length + 1, dtype=float)
    parts_s = _in_parts(length, token_parts(priced_from, tokens), draft_token_parts(drafting, tokens))
    needs_s = np.zeros((len(NEEDS), length + 1))
    needs_s[0, 1:] = (load.dense_compute_s + load.expert_compute_s + load.state_compute_s) * tokens
    needs_s[1, 1:] = load.dense_read_s - load.expert_read_s * np.expm1(tokens * load.expert_miss_log)
    return _Tables(
        priced_from,
        drafting,
        parts_s.sum(axis=0),
        parts_s,
        needs_s,
    )


def _in_parts(last: int, *prices: Mapping[str, Amount]) -> np.ndarray:
    """Return the sum of times by part as a table, nothing at 0. [s]"""
    parts_s = np.zeros((len(PARTS), last + 1))
    for price in prices:
        for part, seconds in price.items():
            parts_s[PARTS.index(part), 1:] += seconds
    return parts_s


def _row_tables(
    tables: _Tables, max_batch: int, speculation: Speculation | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return time by part, and needed time, over sampled sequences 0..max_batch [s]."""
    load, rows = tables.terms.work, np.arange(1, max_batch + 1, dtype=float)
    drafts = speculation.drafts_at(rows) if speculation else np.zeros(1)
    prices: list[Mapping[str, Amount]] = [row_parts(tables.terms, rows, drafts)]
    if speculation:
        draft = speculation.drafter.draft
        prices.append(draft_row_parts(tables.drafting, tables.terms, draft, rows, drafts))
    parts_s = _in_parts(max_batch, *prices)
    needs_s = np.zeros((len(NEEDS), max_batch + 1))
    needs_s[0, 1:] = load.head_compute_s * rows * (1 + drafts)
    needs_s[1, 1:] = load.head_read_s + load.state_read_s * rows * (1 + drafts / 2)
    return parts_s, needs_s


def _rate_needs(load: Work, drafts: int) -> Rates[dict[str, Amount]]:
    """Return the needed seconds per unit of each linear term, split by `NEEDS`; drafts are queries, too."""
    return Rates(
        extra_tokens={"compute": load.dense_compute_s + load.expert_compute_s + load.state_compute_s},
        context_tokens={"compute": (1 + drafts) * load.context_compute_s, "memory": load.context_read_s},
        window_tokens={"compute": (1 + drafts) * load.window_compute_s, "memory": load.window_read_s},
        prefill_pairs={"compute": load.pair_compute_s},
        window_pairs={"compute": load.window_pair_compute_s},
        prefill_requests={},
        swapped_tokens={},
    )


def _rates(
    priced_from: Terms, drafting: Terms | None, speculation: Speculation | None, drafts: int
) -> Rates[dict[str, Amount]]:
    """Return the seconds per unit of each linear term with so many drafts, split by part."""
    own = rate_parts(priced_from, drafts)
    if speculation is None:
        return own
    return added(own, draft_rate_parts(drafting, speculation.drafter.draft, drafts))


def _context_scales(rates: dict[int, np.ndarray]) -> dict[int, float]:
    """Return by drafts how many times as much a context costs to read as with the first of them."""
    contexts = slice(Rates._fields.index("context_tokens"), Rates._fields.index("window_tokens") + 1)
    costs = {drafts: float(parts_s[:, contexts].sum()) for drafts, parts_s in rates.items()}
    first = next(iter(costs.values()))
    return {drafts: cost / first if first else 1.0 for drafts, cost in costs.items()}


def by_heading(headings: tuple[str, ...], rates: Rates[dict[str, Amount]]) -> np.ndarray:
    """Return dictionaries of seconds per unit as an array, shape (headings, rates)."""
    return np.array([[float(rate.get(heading, 0.0)) for rate in rates] for heading in headings])


def _measured_price(scenario: Scenario, profile: EngineProfile) -> Price:
    """Return the price list of a measured engine profile; all its time stands under ``measured``."""
    engine_tokens = min(max(scenario.token_budget, scenario.max_batch), TABLE_TOKENS_MAX)
    points = np.asarray(profile.step_tokens, dtype=float)
    times_s = np.asarray(profile.step_time_ms, dtype=float) * 1e-3
    tokens = np.arange(engine_tokens + 1, dtype=float)
    slope_s = (
        max(float((times_s[-1] - times_s[-2]) / (points[-1] - points[-2])), 0.0) if len(points) > 1 else 0.0
    )
    token_s = np.interp(tokens, points, times_s) + slope_s * np.maximum(tokens - points[-1], 0.0)
    token_s[0] = 0.0
    context_s, pair_s = profile.decode_context_ms_per_token * 1e-3, profile.prefill_context_ms_per_pair * 1e-3
    switch_ms = scenario.prefill_switch_ms
    prompt_ms = profile.prefill_request_ms if switch_ms is None else switch_ms
    rates = Rates(slope_s, context_s, 0.0, pair_s, 0.0, prompt_ms * 1e-3, 0.0)
    ledger = Ledger(MEASURED, token_s[None, :], np.zeros((1, scenario.max_batch + 1)), np.array([rates]))
    speculation = speculation_of(scenario)
    paces = paces_of(speculation, scenario.max_batch, dict.fromkeys(range(MOST_DRAFTS + 1), 1.0))
    block_tokens = profile.kv_block_tokens or scenario.kv_block_tokens
    bare = scenario.replace(kv_block_tokens=block_tokens, step_profile="")
    blocks = profile.kv_blocks or price_of(bare).kv_blocks
    return Price(
        step=_ledger_cost(ledger, token_s, 0, paces),
        kv_blocks=int(blocks),
        kv_block_tokens=int(block_tokens),
        request_limit_tokens=_limit_tokens(int(blocks * block_tokens), model_of(scenario), speculation),
        request_before_s=profile.request_before_ms * 1e-3,
        request_after_s=profile.request_after_ms * 1e-3,
        accelerators=scenario.accelerators,
        replicas=scenario.replicas,
        ledger=ledger,
        needs=None,
    )
