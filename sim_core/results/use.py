"""How an engine was used: utilisation, the mean batch, where the time went, what was wasted."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from sim_core.engine.results import Run, Usage
from sim_core.engine.rules import counted_requests
from sim_core.price.price import Price
from sim_core.price.step_cost import going, tokens_s
from sim_core.price.use import mean_power_w, shares, utilisation
from sim_core.results.answers import ratio
from sim_core.scenario.scenario import Scenario

USE = (
    "mfu_frac",
    "mbu_frac",
    "mean_batch",
    "idle_frac",
    "kv_used_frac",
    "kv_blocked_frac",
    "batch_blocked_frac",
    "prefill_frac",
    "power_w_per_accelerator",
)


def enter_use(point: dict[str, Any], scenario: Scenario, run: Run | None) -> None:
    """Enter utilisation, mean batch, power, and where the time of the steps went.

    A pool that had nothing to do, as the decoding one where answers have one token, counts for power alone.
    """
    pools = _pools(run) if run is not None else []
    working = [pool for pool in pools if pool.usage.elapsed_s > 0]
    if run is None or not working:
        point.update(dict.fromkeys(USE, math.nan))
        return
    usage: Usage = run.engine.usage
    devices = sum(pool.price.accelerators for pool in working)
    for name, at in (("mfu_frac", 0), ("mbu_frac", 1)):
        point[name] = sum(pool.use[at] * pool.price.accelerators for pool in working) / devices
    point["mean_batch"] = ratio(usage.running_s, usage.elapsed_s) * scenario.engines
    idle = sum((1.0 - pool.busy_frac) * pool.price.accelerators for pool in working) / devices
    point["idle_frac"] = max(0.0, idle)
    point["kv_used_frac"] = ratio(usage.kv_used_s, usage.elapsed_s) / run.price.kv_blocks
    point["kv_blocked_frac"] = ratio(usage.kv_blocked_s, usage.elapsed_s)
    point["batch_blocked_frac"] = ratio(usage.batch_blocked_s, usage.elapsed_s)
    point["prefill_frac"] = prefill_frac(run)
    point["power_w_per_accelerator"] = _power_w(run, pools)
    busy_s = sum(pool.usage.busy_s for pool in pools)
    spent = [shares(pool.price, pool.usage) for pool in pools]
    for part in spent[0]:
        point[f"share_{part}"] = ratio(sum(seconds[part] for seconds in spent), busy_s)


def _power_w(run: Run, pools: list[PoolUse]) -> float:
    """Return the mean power of a device over all pools [W]."""
    part, devices = run.priced.accelerator, sum(pool.price.accelerators for pool in pools)
    watts = (
        pool.price.accelerators * mean_power_w(part, shares(pool.price, pool.usage), pool.usage.elapsed_s)
        for pool in pools
    )
    return sum(watts) / devices


class PoolUse(NamedTuple):
    """One pool of a run: prices, usage, MFU and MBU, and the share of the time its workers are busy."""

    price: Price
    usage: Usage
    use: tuple[float, float]
    busy_frac: float


def _pools(run: Run) -> list[PoolUse]:
    """Return the one pool of a run, or prefill and decode pool."""
    found = []
    usages = [run.split.usage, run.engine.usage] if run.split else [run.engine.usage]
    for price, usage in zip(run.priced.by_pool(), usages, strict=True):
        use = utilisation(price, usage, usage.elapsed_s / price.replicas)
        found.append(PoolUse(price, usage, use, ratio(usage.busy_s, usage.elapsed_s)))
    return found


def pool_use(run: Run) -> dict[str, Any]:
    """Return how two pools are used: busy shares of workers and links, MFU, MBU, mean times of the stages.

    Empty for one pool.
    """
    if run.split is None or (stages := run.stages()) is None:
        return {}
    prefill, decode = _pools(run)
    span_s = float(run.engine.finished_s.max() - run.engine.arrival_s.min())
    counted = None if run.whole else counted_requests(run.scenario, run.engine.arrival_s.size)
    stages = stages.iloc[slice(*counted) if counted else slice(None)]
    return {
        "prefill": {"busy_frac": prefill.busy_frac, "mfu_frac": prefill.use[0], "mbu_frac": prefill.use[1]},
        "decode": {"busy_frac": decode.busy_frac, "mfu_frac": decode.use[0], "mbu_frac": decode.use[1]},
        "link": {"busy_frac": ratio(run.split.link_busy_s, span_s * prefill.price.replicas)},
        "stage_ms": {name.replace(" ", "_"): 1e3 * float(stages[name].mean()) for name in stages},
    }


def cache_use(run: Run) -> dict[str, Any]:
    """Return what the prefix cache found of the prompts that were sent while usage counts; empty without one.

    Shares are of the tokens of those prompts: found in device memory, in host memory, and in all.
    """
    scenario, usage = run.scenario, run.engine.usage
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


def prefill_frac(run: Run) -> float:
    """Return the share of the step time that prompts cost: what steps of the same decodes would not need.

    A step that holds prompts costs its tokens, pairs and prompts beyond what its sampled rows alone
    would. Where prompts have steps of their own, those steps count as a whole (steps with more tokens than
    decodes there can be; short prompts are missed).
    """
    usage, step = run.engine.usage, run.price.step
    rows = usage.steps_by_rows.astype(float)
    if run.split is not None:
        return ratio(run.split.usage.busy_s, run.split.usage.busy_s + run.engine.usage.busy_s)
    if run.scenario.policy != "chunked":
        alone = int(usage.steps_by_tokens[run.scenario.max_running + 1 :].sum())
        rows[min(round(usage.prefill_requests / max(alone, 1)), rows.size - 1)] -= alone
    decode_s = rows @ (tokens_s(step, going(step, np.arange(rows.size)).tokens) + step.row_s)
    decode_s += step.decode_context_s * usage.context_tokens + step.window_context_s * usage.window_tokens
    decode_s += step.swap_token_s * usage.swapped_tokens
    return min(max(1.0 - ratio(decode_s, usage.busy_s), 0.0), 1.0)


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
