"""How an engine was used: utilisation, the mean batch, where the time went, what was wasted."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from sim_core.engine.results import Run, RunsAtLoads, Usage
from sim_core.engine.rules import counted_requests
from sim_core.price.price import Price
from sim_core.price.step_cost import going, group_tokens_s, tokens_s
from sim_core.price.use import at_least, at_most, mean_power_w, ratio, shares, utilisation
from sim_core.results.reuse import reuse_of
from sim_core.scenario.scenario import Scenario

USE = (
    "mfu_frac",
    "mbu_frac",
    "mean_batch",
    "idle_frac",
    "kv_used_frac",
    "kv_blocked_frac",
    "batch_blocked_frac",
    "budget_full_frac",
    "prefill_frac",
    "power_w_per_accelerator",
)


def enter_use(point: dict[str, Any], scenario: Scenario, run: Run | RunsAtLoads | None) -> None:
    """Enter utilisation, mean batch, power, and where the time of the steps went.

    A pool that had nothing to do, as the decoding one where answers have one token, counts for power alone.
    """
    pools = _pools(run) if run is not None else []
    working = [pool for pool in pools if np.any(pool.usage.elapsed_s > 0)]
    if run is None or not working:
        point.update(dict.fromkeys(USE, math.nan))
        return
    usage: Usage = run.engine.usage
    devices = sum(pool.price.accelerators for pool in working)
    for name, at in (("mfu_frac", 0), ("mbu_frac", 1)):
        point[name] = sum(pool.use[at] * pool.price.accelerators for pool in working) / devices
    point["mean_batch"] = ratio(usage.running_s, usage.elapsed_s) * scenario.engines
    idle = sum((1.0 - pool.busy_frac) * pool.price.accelerators for pool in working) / devices
    point["idle_frac"] = at_least(idle, 0.0)
    point["kv_used_frac"] = ratio(usage.kv_used_s, usage.elapsed_s) / run.price.kv_blocks
    point["kv_blocked_frac"] = ratio(usage.kv_blocked_s, usage.elapsed_s)
    point["batch_blocked_frac"] = ratio(usage.batch_blocked_s, usage.elapsed_s)
    point["budget_full_frac"] = budget_full_frac(run)
    point["prefill_frac"] = prefill_frac(run)
    point["power_w_per_accelerator"] = _power_w(run, pools)
    busy_s = sum(pool.usage.busy_s + pool.usage.bubble_s for pool in pools)
    parts = dict.fromkeys(part for pool in pools for part in pool.spent_s)  # a pool may have one of its own
    for part in parts:
        point[f"share_{part}"] = ratio(sum(pool.spent_s.get(part, 0.0) for pool in pools), busy_s)


def _power_w(run: Run | RunsAtLoads, pools: list[PoolUse]) -> float:
    """Return the mean power of a device over all pools [W]."""
    part, devices = run.priced.accelerator, sum(pool.price.accelerators for pool in pools)
    watts = (
        pool.price.accelerators * mean_power_w(part, pool.spent_s, pool.usage.elapsed_s) for pool in pools
    )
    return sum(watts) / devices


def spent_s(price: Price, usage: Usage) -> dict[str, float]:
    """Return the busy seconds of a run by part, of a mean device; they add up to the run's busy time.

    A step of several ranks lasts as the one with the most: what the others wait is a part of its own
    (``lockstep``), and what the steps hold is less by as much. Of several stages, what they wait for one
    another comes on top (``bubbles``).
    """
    spent = shares(price, usage)
    if price.stages > 1:
        return spent | {"bubbles": usage.bubble_s}
    if price.ranks == 1:
        return spent
    working = 1 - ratio(usage.lockstep_s, usage.busy_s)
    return {part: working * seconds for part, seconds in spent.items()} | {"lockstep": usage.lockstep_s}


class PoolUse(NamedTuple):
    """One pool of a run: prices, usage, MFU and MBU, the share of the time its workers are busy, and their
    busy seconds by part.
    """

    price: Price
    usage: Usage
    use: tuple[float, float]
    busy_frac: float
    spent_s: dict[str, float]


def _pools(run: Run | RunsAtLoads) -> list[PoolUse]:
    """Return the one pool of a run, or prefill and decode pool."""
    found = []
    usages = [run.split.usage, run.engine.usage] if run.split else [run.engine.usage]
    for price, usage in zip(run.priced.by_pool(), usages, strict=True):
        use = utilisation(price, usage, usage.elapsed_s / price.replicas)
        busy_frac = ratio(usage.busy_s, usage.elapsed_s)
        found.append(PoolUse(price, usage, use, busy_frac, spent_s(price, usage)))
    return found


def pool_use(run: Run) -> dict[str, Any]:
    """Return how two pools are used: busy shares of workers and links, MFU, MBU, mean times of the stages.

    Empty for one pool.
    """
    if run.split is None or (stages := run.stages()) is None:
        return {}
    prefill, decode = _pools(run)
    links = prefill.price.replicas * prefill.price.ranks
    span_s = float(run.engine.finished_s.max() - run.engine.arrival_s.min())
    counted = None if run.whole else counted_requests(run.scenario, run.engine.arrival_s.size)
    stages = stages.iloc[slice(*counted) if counted else slice(None)]
    return {
        "prefill": {"busy_frac": prefill.busy_frac, "mfu_frac": prefill.use[0], "mbu_frac": prefill.use[1]},
        "decode": {"busy_frac": decode.busy_frac, "mfu_frac": decode.use[0], "mbu_frac": decode.use[1]},
        "link": {"busy_frac": ratio(run.split.link_busy_s, span_s * links)},
        "stage_ms": {name.replace(" ", "_"): 1e3 * float(stages[name].mean()) for name in stages},
    }


def cache_use(run: Run | RunsAtLoads) -> dict[str, Any]:
    """Return what the prefix cache found of the prompts that were sent while usage counts; empty without one.

    Shares are of the tokens of those prompts: found in device memory, in host memory, and in all.
    """
    scenario, usage = run.scenario, run.split.usage if run.split else run.engine.usage
    if scenario.prefix_caching == "off" and not scenario.prefix_hit_frac:
        return {}
    device, host = usage.reused_tokens, usage.loaded_tokens
    return {
        "hit_frac": ratio(device + host, usage.sent_tokens),
        "device_hit_frac": ratio(device, usage.sent_tokens),
        "host_hit_frac": ratio(host, usage.sent_tokens),
        "prompt_tokens_sent": usage.sent_tokens,
        "prompt_tokens_computed": usage.sent_tokens - device - host,
        "evicted_blocks": usage.evicted_blocks,
    }


def cache_summary(run: Run) -> dict[str, Any]:
    """Return the same, and what share of the prompts a cache without limit would find."""
    found = cache_use(run)
    if run.scenario.prefix_caching == "off" or not found:
        return found
    counted = None if run.whole else counted_requests(run.scenario, len(run.sent))
    reuse = reuse_of(run.sent, run.scenario.kv_block_tokens, counted[0] if counted else 0)
    return {"hit_frac": found.pop("hit_frac"), "ideal_hit_frac": reuse.ideal_frac, **found}


def budget_full_frac(run: Run | RunsAtLoads) -> float:
    """Return the share of the step time in steps that are full: as many tokens as the budget lets in.

    They count as steps of prompts alone, of one rank where there are several: the least that they take.
    """
    usage, budget = run.engine.usage, run.scenario.token_budget
    if run.split is not None or run.scenario.policy != "chunked" or budget >= usage.steps_by_tokens.shape[-1]:
        return 0.0
    step = run.price.step
    full_s = usage.steps_by_tokens[..., budget] * float(
        step.token_s[budget] + group_tokens_s(step, np.array(budget))
    )
    return at_most(ratio(full_s, usage.busy_s), 1.0)


def prefill_frac(run: Run | RunsAtLoads) -> float:
    """Return the share of the step time that prompts cost: what steps of the same decodes would not need.

    A step that holds prompts costs its tokens, pairs and prompts beyond what its sampled rows alone
    would. Where prompts have steps of their own, those steps count as a whole (steps with more tokens than
    decodes there can be; short prompts are missed).
    """
    usage, step = run.engine.usage, run.price.step
    if run.split is not None:
        return ratio(run.split.usage.busy_s, run.split.usage.busy_s + run.engine.usage.busy_s)
    rows = usage.steps_by_rows.astype(float)
    if run.scenario.policy != "chunked":
        alone = usage.steps_by_tokens[..., run.scenario.max_running + 1 :].sum(axis=-1, keepdims=True)
        prompts = np.rint(np.reshape(usage.prefill_requests, alone.shape) / np.maximum(alone, 1)).astype(int)
        place = np.minimum(prompts, rows.shape[-1] - 1)
        np.put_along_axis(rows, place, np.take_along_axis(rows, place, -1) - alone, -1)
    decode_s = np.vecdot(rows, _decodes_s(run.price))
    decode_s += step.decode_context_s * usage.context_tokens + step.window_context_s * usage.window_tokens
    decode_s += step.swap_token_s * usage.swapped_tokens + usage.steps * _group_decodes_s(run)
    return at_most(at_least(1.0 - ratio(decode_s, usage.busy_s), 0.0), 1.0)


@lru_cache(maxsize=256)
def _decodes_s(price: Price) -> np.ndarray:
    """Return what steps of decodes alone take, by how many there are, contexts aside [s]."""
    step = price.step
    return tokens_s(step, going(step, np.arange(step.row_s.size)).tokens) + step.row_s


def _group_decodes_s(run: Run | RunsAtLoads) -> float:
    """Return what the decodes of all ranks take together in a mean step, beside the fullest rank [s]."""
    usage, step, ranks = run.engine.usage, run.price.step, run.price.ranks
    if ranks == 1:
        return 0.0
    decodes = np.array([ratio(usage.running_s, usage.busy_s) / ranks])
    tokens = ranks * going(step, decodes).tokens[0]
    last = step.group_s.size - 1
    return float(step.group_s[min(round(tokens), last)] + step.group_slope_s * max(tokens - last, 0.0))


def padding_frac(run: Run) -> float:
    """Return the share of the slot-steps of static batches that requests already finished hold.

    A batch runs from the step that prefills it until its longest answer is done, and makes a token for each
    of its requests in every one of these steps, the first included; a slot that has made its own is held
    until then. 0 under the other policies, which give a slot away at once.
    """
    if run.scenario.policy != "static":
        return 0.0
    served = ~run.rejected
    first_s, outputs = run.engine.first_token_s, run.output_tokens[served]
    _, batch, sizes = np.unique(first_s, return_inverse=True, return_counts=True)
    longest = np.zeros(sizes.size, np.int64)
    np.maximum.at(longest, batch, outputs)
    held = int((sizes * longest).sum())
    return 1 - int(outputs.sum()) / held if held else 0.0
