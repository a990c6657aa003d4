"""Run the same requests through the plain-Python twin and the compiled kernel."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest

from tests.engine.naive import simulate_naive_replicas
from tests.engine.naive_stages import simulate_naive_staged

RULES = {
    "policy": "chunked",
    "max_running": 4,
    "token_budget": 64,
    "kv_blocks": 1_000_000,
    "kv_block_tokens": 16,
    "preemption": "recompute",
    "concurrency": 0,
    "turnaround_s": 0.0,
    "batch_wait_s": 0.0,
    "warm": 0,
}


def make_cost(token_s, row_s=(0.0,) * 65, **prices):
    """Return a StepCost; a price that is not named is zero."""
    from sim_core.price.step_cost import NO_GROUP, PLAIN_PACE, StepCost

    zero = dict.fromkeys(StepCost._fields, 0.0)
    arrays = {"token_s": np.array(token_s, float), "row_s": np.array(row_s, float)}
    own = {"window_tokens": 0, "paces": PLAIN_PACE, "group_s": NO_GROUP}
    arrays["end_s"] = np.array(prices.pop("end_s", row_s), float)
    return StepCost(**{**zero, **own, **prices, **arrays})


def run_twin(cost, arrival_s, prompt_tokens, output_tokens, *, replicas=1, router="round_robin", **rules):
    """Return the twin's result; rules that are not named are those of `RULES`."""
    if rules.get("stages", 1) > 1:
        columns = (arrival_s, prompt_tokens, output_tokens)
        return simulate_naive_staged(listed(cost), *columns, **{**RULES, **rules})
    return simulate_naive_replicas(
        listed(cost),
        arrival_s,
        prompt_tokens,
        output_tokens,
        replicas=replicas,
        router=router,
        **{**RULES, **rules},
    )


def listed(cost):
    """Return the cost with plain lists and numbers, so that the twin sums in plain Python."""
    tables = {
        name: list(map(float, getattr(cost, name))) for name in ("token_s", "row_s", "group_s", "end_s")
    }
    return cost._replace(**tables, paces=cost.paces.tolist())


def on_the_clock(requests, clock_tokens):
    """Return requests of whose answers the token clock counts what is given, if anything is."""
    if clock_tokens is None:
        return requests
    return dataclasses.replace(requests, clock_tokens=np.asarray(clock_tokens, float))


def run_pools(prefill_cost, cost, transfer, requests, **rules):
    """Return both results of a run of two pools, all steps counted; `requests` may be columns."""
    from sim_core.engine.rules import RunRules, SplitRules
    from sim_core.engine.two_pools import run_split_engine
    from sim_core.traffic.requests import Requests, requests_of

    rules = {**RULES, "prefill_workers": 1, "prefill_kv_blocks": 1_000_000, **rules}
    own = {key: rules.pop(key) for key in tuple(rules) if key.startswith("prefill_")}
    own.setdefault("prefill_max_running", rules["max_running"])
    sent = requests if isinstance(requests, Requests) else requests_of(*requests)
    sent = on_the_clock(sent, rules.pop("clock_tokens", None))
    decode = RunRules(itl_max=True, whole=True, replicas=rules.pop("decode_workers", 1), **rules)
    split = SplitRules(decode=decode, **own)
    return run_split_engine(prefill_cost, cost, transfer, sent, split)


def assert_same_times(twin, kernel, split, names=("first_token_s", "finished_s", "itl_max_s", "preemptions")):
    """Assert that the twin of two pools and the kernel say the same of every request, exactly."""
    for name in names:
        expected = [getattr(request, name) for request in twin.requests]
        np.testing.assert_array_equal(getattr(kernel, name), expected, err_msg=name)
    for name in ("prefill_start_s", "prefill_end_s", "transfer_end_s", "sender", "rank", "receiver"):
        expected = [getattr(stage, name) for stage in twin.stages]
        np.testing.assert_array_equal(split.stages[name], expected, err_msg=name)


def run_kernel(cost, arrival_s, prompt_tokens, output_tokens, clock_tokens=None, **rules):
    """Return the kernel's result; rules that are not named are those of `RULES`."""
    if importlib.util.find_spec("sim_core.engine.run") is None:
        pytest.skip("the kernel does not exist yet")
    from sim_core.traffic.requests import requests_of

    sent = on_the_clock(requests_of(arrival_s, prompt_tokens, output_tokens), clock_tokens)
    return run_sent(cost, sent, **rules)


def run_sent(cost, sent, **rules):
    """Return the kernel's result on requests; rules that are not named are those of `RULES`."""
    from sim_core.engine.one_pool import run_engine
    from sim_core.engine.rules import RunRules

    return run_engine(cost, sent, RunRules(itl_max=True, log=True, **{**RULES, **rules}))
