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
- ``all_to_all``: tokens on their way to the experts of other ranks of attention, and back, if there are any;
- ``fixed``: latencies of launches, of the host, of each sequence and of each prompt.

Assumptions
-----------
- Layers are dealt evenly to the stages of a pipeline; all stages take as long as the largest
  (`sim_core.price.work.stages`). Devices that divide contexts do so for decodes alone (`contexts`).
- All devices of a group work alike; tensor parallelism divides every matrix but the router and MLA's
  down-projections, which every device holds, as it holds at least one KV head or MLA's latent cache.
- Query heads that do not divide are filled up to the next multiple (`padded`), as some engines do.
- Memory is what a device reports; of it the driver and the collectives keep 2.2 GB on one device and 3.6 GB
  on each of a group, and the largest step its activations or the logits of the rows it samples.
- A group sees the links it has: in a mesh of seven wires two devices use one (`Accelerator.link`).
- Under expert parallelism and one rank of attention the activations are already on every device of the group
  (attention is tensor-parallel), so experts add no all-to-all: the all-reduce after the layer combines them.
  The most loaded device sets the pace.
- Of several ranks, each has its part of the devices, requests, a KV cache and a copy of all but the routed
  experts. Their steps go together: what one rank does is priced for the fullest, experts see the tokens of
  all, and once a step they wait for one another (`sim_core.price.work.exchange` has what they send).
- Two-batch overlap computes one half of a step's tokens while the other half travels, where that gains.
- A prompt chunk reads the KV cache of the tokens before it behind its own arithmetic (true from about
  a hundred tokens per chunk).
- A part whose power limit lowers its clock in large products keeps `sustained_frac` of the shares of peak;
  its memory, links and launches are as fast as ever.
- Weights in a format that a device lacks are widened and multiply in bf16. An engine that is not named
  runs the kernels of open ones; a generation that nobody measured those of the closest.
- Without CUDA graphs the host launches one kernel after another, ahead of the device until it falls behind;
  decode attention hides no launches, so long contexts are priced too high then, by the launches at most.
- Where 4-bit checkpoints keep attention in bf16, so do steps; DeepSeek's pack the output projection alone.
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
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sim_core.catalogue.accelerators import Accelerator
from sim_core.catalogue.calibrations import Calibration, Constants, calibration
from sim_core.catalogue.models import Model
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import Engine, engine_of, kv_blocks
from sim_core.price.parts import (
    Ledger,
    Rates,
    by_heading,
    with_switch,
)
from sim_core.price.speculation import (
    PLAIN,
    Speculation,
    felt_by,
    paces_of,
    speculation_of,
)
from sim_core.price.step_cost import NO_GROUP, PLAIN_PACE, StepCost
from sim_core.price.tables import (
    NEEDS,
    TABLE_TOKENS_MAX,
    context_scales,
    longest_tables,
    rate_needs,
    rates_with,
    row_tables,
)
from sim_core.price.work import Layout, layout_of
from sim_core.scenario.keys.speculation import MOST_DRAFTS
from sim_core.scenario.profiles import EngineProfile, parse_profile
from sim_core.scenario.scenario import Scenario, accelerator_of, calibration_of, model_of

MEASURED = ("measured",)
TABLE_TOKENS_MIN = 2048


# --- the price ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Price:
    """What a scenario's steps cost, how much KV cache there is, and why. Compared and hashed by identity.

    Attributes
    ----------
    step : StepCost
        For the simulator's kernel; of one stage, where there are several.
    kv_blocks, kv_block_tokens : int
        KV cache of one replica; of several ranks of attention, that of each.
    request_limit_tokens : int
        Longest prompt plus answer that one replica, or one of its ranks, can ever hold.
    request_before_s, prompt_token_before_s, request_after_s : float
        From the client to the engine, for each prompt token of that, and back. [s]
    accelerators, replicas, stages, ranks : int
        Devices of all replicas together, the replicas, and of each its stages and ranks of attention.
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
    prompt_token_before_s: float
    request_after_s: float
    accelerators: int
    replicas: int
    ledger: Ledger
    needs: Ledger | None
    stages: int = 1
    ranks: int = 1

    def before_s(self, prompt_tokens: np.ndarray) -> float:
        """Return the time from a client to the engine: that of the mean prompt, for all alike. [s]"""
        return self.request_before_s + self.prompt_token_before_s * float(np.mean(prompt_tokens))


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
    _check_policy(scenario)
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
        on_engine(method or method_of(scenario), scenario),
        speculation_of(scenario),
    )


def _check_policy(scenario: Scenario) -> None:
    """Raise a `ScenarioError` where ranks of attention would run by rules that are not simulated."""
    if scenario.attention_data_parallel > 1 and scenario.policy == "static":
        raise ScenarioError(
            f"attention_data_parallel is {scenario.attention_data_parallel}, but policy is static: ranks go "
            "on together step by step, while a static batch waits for its last answer. Choose policy=chunked "
            "or policy=prefill_first, or set attention_data_parallel to 1."
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


def on_engine(method: Method, scenario: Scenario) -> Method:
    """Return a method whose sequences and drafts keep the host as the scenario's engine lets them."""
    return method._replace(
        constants=felt_by(scenario.engine, method.constants, scenario.attention_data_parallel > 1)
    )


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
    longest = longest_tables(model, accelerator, layout, method, drafter)
    blocks = kv_blocks(model, accelerator, layout, engine)  # before tables are made of what does not fit
    tables = longest.up_to(_table_tokens(engine))
    rated = tables.terms._replace(constants=with_switch(method.constants, engine.prefill_switch_ms))
    rows = row_tables(tables, engine.max_batch, speculation)
    rates = {
        level.drafts: by_heading(tables.names, rates_with(rated, tables.drafting, speculation, level.drafts))
        for level in (speculation.levels if speculation else (PLAIN,))
    }
    rate_parts_s = next(iter(rates.values()))
    paces = paces_of(speculation, engine.max_batch, context_scales(rates))
    group = tables.group
    ledger = Ledger(
        tables.names, tables.token_parts_s, rows.parts, rate_parts_s, *group.parts, rows.end_parts
    )
    rate_needs_s = by_heading(NEEDS, rate_needs(tables.terms.work, next(iter(rates))))
    needs = Ledger(NEEDS, tables.token_needs_s, rows.needs, rate_needs_s, *group.needs, rows.end_needs)
    return Price(
        step=_ledger_cost(ledger, tables.token_s, model.reach_tokens, paces),
        kv_blocks=blocks,
        kv_block_tokens=engine.kv_block_tokens,
        request_limit_tokens=_limit_tokens(blocks * engine.kv_block_tokens, model, speculation),
        request_before_s=method.constants.request_before_s,
        prompt_token_before_s=method.constants.prompt_token_before_s,
        request_after_s=method.constants.request_after_s,
        accelerators=layout.devices * engine.replicas,
        replicas=engine.replicas,
        stages=layout.pipeline_parallel,
        ledger=ledger,
        needs=needs,
        ranks=layout.ranks,
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
    group: tuple[np.ndarray, float] = (NO_GROUP, 0.0),
    end_s: np.ndarray | None = None,
) -> StepCost:
    """Return the kernel's price list: tables over tokens and rows [s], and seconds per unit of each rate.

    `group` is the table over the tokens of all ranks, and the seconds of each token beyond it; `end_s` the
    part of `row_s` that the last of several stages takes alone, by default all of it.
    """
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
        prefill_step_s=rates.prefill_steps,
        swap_token_s=rates.swapped_tokens,
        paces=paces,
        group_s=group[0],
        group_slope_s=group[1],
        end_s=row_s if end_s is None else end_s,
    )


def _ledger_cost(
    ledger: Ledger, token_s: np.ndarray, window_tokens: int, paces: np.ndarray = PLAIN_PACE
) -> StepCost:
    """Return the price list whose figures are the sums of a ledger's headings."""
    rates = Rates(*(float(value) for value in ledger.rate_s.sum(axis=0)))
    row_s, end_s = (np.ascontiguousarray(table_s.sum(axis=0)) for table_s in (ledger.row_s, ledger.end_s))
    return step_cost(token_s, row_s, rates, window_tokens, paces, _group_sums(ledger), end_s)


def _group_sums(ledger: Ledger) -> tuple[np.ndarray, float]:
    return np.ascontiguousarray(ledger.group_s.sum(axis=0)), float(ledger.group_slope_s.sum())


def slowed(found: Price, factor: float) -> Price:
    """Return a price list in which every step takes `factor` times as long; requests' overheads stay."""
    own = found.ledger
    times = (own.token_s, own.row_s, own.rate_s, own.group_s, own.group_slope_s, own.end_s)
    ledger = Ledger(own.headings, *(factor * time_s for time_s in times))
    step = _ledger_cost(ledger, found.step.token_s * factor, found.step.window_tokens, found.step.paces)
    return dataclasses.replace(found, step=step, ledger=ledger)


def _measured_price(scenario: Scenario, profile: EngineProfile) -> Price:
    """Return the price list of a measured engine profile; all its time stands under ``measured``."""
    if scenario.pipeline_parallel > 1:
        raise ScenarioError(
            f"pipeline_parallel is {scenario.pipeline_parallel}, but measured step times do not say what of "
            "them each stage takes. Set pipeline_parallel to 1, or leave step_profile out."
        )
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
    rates = Rates(slope_s, context_s, 0.0, pair_s, 0.0, prompt_ms * 1e-3, 0.0, 0.0)
    none = np.zeros((1, scenario.max_batch + 1)), np.zeros((1, 1)), np.zeros(1)
    ledger = Ledger(MEASURED, token_s[None, :], none[0], np.array([rates]), *none[1:], none[0])
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
        prompt_token_before_s=0.0,
        request_after_s=profile.request_after_ms * 1e-3,
        accelerators=scenario.accelerators,
        replicas=scenario.replicas,
        ledger=ledger,
        needs=None,
        ranks=scenario.attention_data_parallel,
    )
