"""Out of KV cache: less and less room, and whether to recompute or to swap what was preempted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sim_core.catalogue.accelerators import PEAKS
from sim_core.engine.results import Run
from sim_core.engine.run import run
from sim_core.engine.work import kept
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import memory
from sim_core.price.price import Price, price_of
from sim_core.price.steps.one_step import step_parts, window_pairs
from sim_core.questions.experiments.common import (
    REMEMBERED,
    Row,
    continuous_policy,
    drawn,
    one_engine,
    rounded,
)
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario, accelerator_of
from sim_core.sweep.frontier import evaluate, row_of
from sim_core.sweep.points import Point, sweep_points
from sim_core.traffic.draws import requests_sent

# --- running out of KV cache ----------------------------------------------------------------------

PRESSURE_REQUESTS = 2000
PRESSURE_STEPS = 8
WAYS = ("recompute", "swap")


@dataclass(frozen=True, slots=True, eq=False)
class Pressure:
    """The same requests with less and less KV cache, recomputing or swapping what is preempted.

    Attributes
    ----------
    scenario : Scenario
        One engine, continuous batching.
    vary : mapping
        The keys of the sweep, as `frontier` takes them.
    rows : list of dict
        The points, as `frontier` gives them, with `kv_tokens`; `asked_tokens`, those of prompts and answers;
        `extra_tokens`, computed again or moved out and in; and `extra_s`, about how long that took.
    """

    scenario: Scenario
    vary: Mapping[str, tuple[Any, ...]]
    rows: list[Row]

    def curve(self, way: str) -> list[Row]:
        """Return the points of one way to preempt, least KV cache first."""
        return [row for row in self.rows if row["preemption"] == way]

    def at(self, kv_memory_frac: float) -> dict[str, Row]:
        """Return the points with one share of the memory, by the way to preempt."""
        return {row["preemption"]: row for row in self.rows if row["kv_memory_frac"] == kv_memory_frac}


@kept(REMEMBERED, unit="requests")
def pressure(scenario: Scenario) -> Pressure:
    """Return what less KV cache does, from room for the longest request alone to the scenario's full share.

    Raises
    ------
    ScenarioError
        If the scenario cannot run with its full share.
    """
    base = one_engine(drawn(scenario), PRESSURE_REQUESTS).replace(policy=continuous_policy(scenario))
    fracs = tuple(sorted({*kv_shares(scenario), scenario.kv_memory_frac}))
    vary = {"preemption": WAYS, "kv_memory_frac": fracs}
    return Pressure(base, vary, [_pressure_row(point) for point in sweep_points(base, vary)])


@lru_cache(maxsize=REMEMBERED)
def kv_shares(scenario: Scenario) -> tuple[float, ...]:
    """Return shares of the memory, evenly spaced on a log scale of KV tokens.

    From room for the longest of the scenario's requests to the usual share, or the scenario's if larger.
    """
    base = one_engine(drawn(scenario), PRESSURE_REQUESTS)
    full = base.replace(kv_memory_frac=max(base.kv_memory_frac, DEFAULTS["kv_memory_frac"]))
    limit = price_of(full).request_limit_tokens
    traffic = requests_sent(base)
    lengths = traffic.prompt_tokens + traffic.output_tokens
    lengths = lengths[lengths <= limit]
    most = memory(full)["kv_tokens"]
    least = min(int(lengths.max(initial=1)) + base.kv_block_tokens, most)
    wanted = np.geomspace(least, most, PRESSURE_STEPS)[:-1]
    shares = {_share_for(full, float(tokens)) for tokens in wanted}
    return tuple(sorted({*shares, full.kv_memory_frac}))


def _share_for(scenario: Scenario, kv_tokens: float) -> float:
    """Return the share of the memory, to five decimals, that holds so many KV tokens."""
    low, high = FIELDS["kv_memory_frac"].low, scenario.kv_memory_frac
    for _ in range(20):
        middle = 0.5 * (low + high)
        if memory(scenario.replace(kv_memory_frac=middle))["kv_tokens"] >= kv_tokens:
            high = middle
        else:
            low = middle
    return min(math.ceil(high * 1e5) / 1e5, scenario.kv_memory_frac)


def _pressure_row(point: Point) -> Row:
    """Return a point of the sweep as `frontier` gives it, with what preemption cost."""
    scenario = point.scenario
    if scenario is None:
        return evaluate(point)
    try:
        found = run(scenario, log=True)
    except ScenarioError as error:
        return {**point.keys, "feasible": False, "reason": str(error), "limit": "memory", "kv_tokens": 0}
    row = row_of(point.keys, found)
    row["kv_tokens"] = found.price.kv_blocks * found.price.kv_block_tokens
    row["rejected"] = int(found.rejected.sum())
    row["asked_tokens"] = int((found.prompt_tokens + found.output_tokens)[~found.rejected].sum())
    return row | extra_work(found)


def extra_work(found: Run) -> Row:
    """Return what preemption made a logged run do again: tokens, and about how long that took.

    Swapped tokens have their price. Recomputed ones are priced as requests of their mean length that are
    computed again beside the mean number of decodes.
    """
    log, price = found.engine.log, found.price
    if found.scenario.preemption == "swap":
        moved = int(log["swapped_tokens"].sum())
        return {"extra_tokens": moved, "extra_s": moved * price.step.swap_token_s}
    again = int((log["prefill_tokens"] * log["count"]).sum() - found.prompt_tokens[~found.rejected].sum())
    preemptions = int(found.preemptions.sum())
    if not preemptions or not again:
        return {"extra_tokens": again, "extra_s": 0.0}
    decodes = round(float(np.average(log["decodes"], weights=log["count"])))
    each_s = recompute_s(price, found.scenario, max(1, round(again / preemptions)), decodes)
    return {"extra_tokens": again, "extra_s": preemptions * each_s}


def recompute_s(price: Price, scenario: Scenario, tokens: int, decodes: int) -> float:
    """Return the time it takes to bring a preempted request of so many tokens back by computing it again [s].

    It is the time by which steps of `decodes` other sequences last longer, each with a chunk as large as the
    budget allows, than if the request had just decoded in the last of them. Under `prefill_first` it is a
    step of its own.
    """
    if scenario.policy == "prefill_first":
        return step_of_one_s(price, 0, 0, tokens)
    chunk = max(scenario.token_budget - decodes, 1)
    full = (tokens - 1) // chunk  # chunks before the last one, which alone is sampled
    rows_s = price.step.row_s[np.minimum([decodes, decodes + 1], price.step.row_s.size - 1)]
    spared_s = float(rows_s[1] - rows_s[0]) + (step_of_one_s(price, decodes, tokens) if decodes else 0.0)
    full_s = step_of_one_s(price, decodes, tokens, chunk) - _pairs_s(price, chunk) - spared_s
    rest = tokens - full * chunk
    last_s = step_of_one_s(price, decodes, tokens, rest) - _pairs_s(price, rest)
    return full * full_s + last_s + _pairs_s(price, tokens) - step_of_one_s(price, decodes + 1, tokens)


def step_of_one_s(price: Price, decodes: int, context: int, chunk: int = 0) -> float:
    """Return the time of one step in which a prompt's first chunk is its last [s]."""
    return sum(step_parts(price, decodes, context, chunk).values())


def _pairs_s(price: Price, tokens: int) -> float:
    """Return the time of a prompt's query-key pairs [s]; chunks share it out, but change nothing."""
    seen = float(window_pairs(0, tokens, price.step.window_tokens))
    return price.step.prefill_pair_s * tokens**2 / 2 + price.step.window_pair_s * seen


def swap_s(price: Price, tokens: int) -> float:
    """Return the time it takes to move the KV cache of `tokens` tokens to the host and back [s]."""
    return 2 * tokens * price.step.swap_token_s


# Recompute or swap: where the two cross over

FLOP_FACTORS = (0.5, 1.0, 2.0)
CONTEXTS = tuple(round(128 * 2 ** (step / 2)) for step in range(21))  # 128 .. 131,072
HOST_GB_PER_S = tuple(rounded(2 * 2 ** (step / 2)) for step in range(19))  # 2 .. 1,024


@dataclass(frozen=True, slots=True, eq=False)
class Crossover:
    """Time to bring a preempted request back, by computing again or from the host, and where they cross.

    Attributes
    ----------
    tokens : int
        Tokens that the request of the second chart holds.
    host_gb_per_s : float
        Bandwidth of the scenario's host link, one direction. [GB/s]
    contexts : list of int
        Tokens held. [tokens]
    recompute_ms : dict of float to list
        By factor on the FLOP/s: time over `contexts`. [ms]
    swap_ms : list
        Time over `contexts` with the scenario's host link. [ms]
    recompute_here_ms : dict of float to float
        The same for a request of `tokens` tokens. [ms]
    swap_here_ms : float
        With the scenario's host link. [ms]
    even_gb_per_s : dict of float to float
        By factor on the FLOP/s: the host link at which both take equally long. [GB/s]
    """

    tokens: int
    host_gb_per_s: float
    contexts: list[int]
    recompute_ms: dict[float, list[float]]
    swap_ms: list[float]
    recompute_here_ms: dict[float, float]
    swap_here_ms: float
    even_gb_per_s: dict[float, float]

    def rows(self) -> list[Row]:
        """Return both charts as rows: the time over the length, then over the host link at one length."""
        own = self.host_gb_per_s
        lengths = [
            {"host_gb_per_s": own, "tokens": tokens, "flops_times": factor}
            | {"recompute_ms": again, "swap_ms": moved}
            for factor, times in self.recompute_ms.items()
            for tokens, again, moved in zip(self.contexts, times, self.swap_ms, strict=True)
        ]
        return lengths + [
            {"host_gb_per_s": link, "tokens": self.tokens, "flops_times": factor}
            | {"recompute_ms": again, "swap_ms": self.swap_here_ms * own / link}
            for factor, again in self.recompute_here_ms.items()
            for link in HOST_GB_PER_S
        ]


@lru_cache(maxsize=REMEMBERED)
def crossover(scenario: Scenario, tokens: int, decodes: int) -> Crossover:
    """Return where recomputing and swapping a preempted request take equally long.

    Parameters
    ----------
    tokens : int
        Tokens that the preempted request holds.
    decodes : int
        Sequences beside which it is computed again.
    """
    base = one_engine(scenario, 1).replace(policy=continuous_policy(scenario))
    prices = {factor: price_of(_with_flops(base, factor)) for factor in FLOP_FACTORS}
    limit = max(prices[1.0].request_limit_tokens, CONTEXTS[0])
    contexts = [length for length in CONTEXTS if length <= limit]

    def again_ms(factor: float, length: int) -> float:
        return 1e3 * recompute_s(prices[factor], base, length, decodes)

    here_ms = {factor: again_ms(factor, tokens) for factor in FLOP_FACTORS}
    moved_ms = 1e3 * swap_s(prices[1.0], tokens)
    host = accelerator_of(base).pcie_gb_per_s
    return Crossover(
        tokens=tokens,
        host_gb_per_s=host,
        contexts=contexts,
        recompute_ms={factor: [again_ms(factor, length) for length in contexts] for factor in FLOP_FACTORS},
        swap_ms=[1e3 * swap_s(prices[1.0], length) for length in contexts],
        recompute_here_ms=here_ms,
        swap_here_ms=moved_ms,
        even_gb_per_s={
            factor: host * moved_ms / again if again > 0 else math.inf for factor, again in here_ms.items()
        },
    )


def _with_flops(scenario: Scenario, factor: float) -> Scenario:
    """Return the scenario with all peaks of arithmetic times a factor."""
    part = accelerator_of(scenario)
    changes = {name: value * factor for name in PEAKS.values() if (value := getattr(part, name))}
    return scenario.replace(**changes) if factor != 1 else scenario


def mean_context(scenario: Scenario) -> int:
    """Return the tokens that the scenario's requests hold half-way through their answers, on average."""
    traffic = requests_sent(one_engine(drawn(scenario), PRESSURE_REQUESTS))
    return max(1, round(float(traffic.prompt_tokens.mean() + traffic.output_tokens.mean() / 2)))
