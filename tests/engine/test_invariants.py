"""What must hold for any run of the public simulator, whatever the scenario.

Oracle: conservation (nobody and no token is lost), causality (nothing happens before its cause) and
capacity (slots, tokens, KV blocks, clients), over random scenarios of every policy.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core import Scenario, simulate
from sim_core.engine.run import run

POLICIES = ("chunked", "prefill_first", "static")
ROUNDING_S = 1e-9  # of clocks that reach some 1e3 s


def scenarios(policy):
    """Draw scenarios from idle to hopelessly loaded, with KV caches from ample to a few thousand tokens."""
    pick = st.sampled_from
    return st.builds(
        Scenario,
        policy=st.just(policy),
        hbm_gb=pick([21.0, 22.0, 26.0, 80.0]),
        kv_memory_frac=st.just(0.95),
        kv_block_tokens=pick([1, 16, 48]),
        arrivals=pick(["poisson", "gamma", "closed", "offline"]),
        arrival_per_s=pick([0.5, 5.0, 20.0, 80.0]),
        concurrency=pick([1, 7, 100]),
        requests=st.integers(1, 300),
        seed=st.integers(0, 10**6),
        prompt_tokens=pick([1, 300, 1500]),
        prompt_cv=pick([0.0, 0.5, 2.0]),
        output_tokens=pick([1, 2, 60, 300]),
        output_cv=pick([0.0, 0.5, 2.0]),
        max_batch=pick([1, 8, 64, 256]),
        token_budget=pick([256, 512, 8192]),
        batch_wait_ms=pick([0.0, 100.0, 5000.0]),
        preemption=pick(["recompute", "swap"]),
        replicas=pick([1, 1, 3]),
        router=pick(["least_loaded", "round_robin"]),
    )


def every(policy, check, examples=60):
    """Apply a check to the run of random scenarios."""

    @settings(max_examples=examples)
    @given(scenarios(policy))
    def one(scenario):
        check(scenario, run(scenario, itl_max=True, log=True))

    one()


def finished_rows(result):
    table = result.requests()
    return table[table["status"] == "finished"]


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_is_lost(policy):
    """Oracle: arrived = finished + rejected; those rejected could never fit, and nothing happened to them."""

    def check(scenario, result):
        table = result.requests()
        assert table["request_id"].tolist() == list(range(scenario.requests))
        if scenario.arrivals != "closed" or scenario.replicas == 1:  # else each replica has its own clients
            assert (np.diff(table["arrival_s"]) >= 0).all()
        too_long = table["prompt_tokens"] + table["output_tokens"] > result.price.request_limit_tokens
        assert ((table["status"] == "rejected") == too_long).all()
        times = table[["first_token_s", "finished_s"]]
        assert (times.isna().all(axis=1) == too_long).all()
        assert (times.notna().all(axis=1) != too_long).all()

    every(policy, check)


@pytest.mark.parametrize("policy", POLICIES)
def test_causes_come_first(policy):
    """Oracle: arrival < first token <= finished, with room for at least the cheapest steps between them."""

    def check(scenario, result):
        rows, price = finished_rows(result), result.price
        shortest_s = price.step.token_s[1:].min() + price.step.row_s[1:].min() - ROUNDING_S
        before_after_s = price.before_s(rows["prompt_tokens"]) + price.request_after_s
        assert (rows["first_token_s"] - rows["arrival_s"] >= before_after_s + shortest_s).all()
        decoding_s = rows["finished_s"] - rows["first_token_s"]
        assert (decoding_s >= (rows["output_tokens"] - 1) * shortest_s - ROUNDING_S).all()
        assert (decoding_s[rows["output_tokens"] == 1] == 0).all()

    every(policy, check)


@pytest.mark.parametrize("policy", POLICIES)
def test_longest_gap_lies_between_mean_and_sum(policy):
    """Oracle: the largest of n gaps is at least their mean and at most their sum; no gaps, no longest."""

    def check(scenario, result):
        rows = finished_rows(result)
        gaps, total_s = rows["output_tokens"] - 1, rows["finished_s"] - rows["first_token_s"]
        assert (rows["itl_max_s"] <= total_s + ROUNDING_S).all()
        assert (rows["itl_max_s"] * gaps >= total_s - ROUNDING_S).all()
        assert (rows["itl_max_s"][gaps == 0] == 0).all()

    every(policy, check)


@pytest.mark.parametrize("policy", POLICIES)
def test_clock_runs_forward(policy):
    """Oracle: one step ends before the next starts; all tokens come out of steps."""

    def check(scenario, result):
        steps = result.steps()
        if scenario.replicas == 1:
            end_s = steps["start_s"] + steps["duration_s"]
            assert (steps["start_s"].to_numpy()[1:] >= end_s.to_numpy()[:-1] - ROUNDING_S).all()
        last_s = (steps["start_s"] + steps["duration_s"]).max() + result.price.request_after_s
        assert finished_rows(result)["finished_s"].max() <= last_s + ROUNDING_S

    every(policy, check)


@pytest.mark.parametrize("policy", POLICIES)
def test_no_step_is_shorter_than_its_cost(policy):
    """Oracle: the price list. The log lacks rows and pairs of prompts, so the bound leaves these out."""

    def check(scenario, result):
        steps, price = result.steps(), result.price.step
        tokens = (steps["decodes"] + steps["prefill_tokens"]).to_numpy()
        beyond = np.maximum(tokens - (len(price.token_s) - 1), 0)
        least_s = price.token_s[tokens - beyond] + price.token_slope_s * beyond
        least_s = least_s + price.decode_context_s * steps["context_tokens"]
        least_s += price.prefill_request_s * steps["prompts"] + price.row_s[steps["decodes"]]
        assert (steps["duration_s"] >= steps["count"] * least_s * (1 - 1e-9)).all()

    every(policy, check)


@pytest.mark.parametrize("policy", POLICIES)
def test_limits_hold_in_every_step(policy):
    """Oracle: slots, KV blocks and, where it applies, the token budget are never exceeded."""

    def check(scenario, result):
        steps = result.steps()
        assert steps["kv_blocks_used"].between(1, result.price.kv_blocks).all()
        assert steps["running"].between(1, scenario.max_running).all()
        assert (steps["decodes"] <= steps["running"]).all()
        if policy == "chunked":
            assert (steps["decodes"] + steps["prefill_tokens"] <= scenario.token_budget).all()
        if policy == "prefill_first":
            alone = steps[
                steps["swapped_tokens"] == 0
            ]  # a decode that returns from the host is logged as joining
            assert (alone["prefill_tokens"] * alone["decodes"] == 0).all()

    every(policy, check)


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_every_token_is_computed_once(policy):
    """Oracle: without preemption, prompts are prefilled once and every later token decoded once."""

    def check(scenario, result):
        rows, steps = finished_rows(result), result.steps()
        decodes = (steps["decodes"] * steps["count"]).sum()
        if not rows["preemptions"].any():
            assert (steps["prefill_tokens"] * steps["count"]).sum() == rows["prompt_tokens"].sum()
            assert decodes == (rows["output_tokens"] - 1).sum()

    every(policy, check)


@pytest.mark.parametrize("policy", POLICIES)
def test_closed_loop_never_has_more_open_than_clients(policy):
    """Oracle: each client has one request open at a time."""

    def check(scenario, result):
        if scenario.arrivals != "closed":
            return
        rows = finished_rows(result)
        arrivals, ends = np.sort(rows["arrival_s"].to_numpy()), np.sort(rows["finished_s"].to_numpy())
        done = np.searchsorted(ends, arrivals + ROUNDING_S)
        assert (np.arange(1, len(rows) + 1) - done <= scenario.concurrency).all()

    every(policy, check)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_seed_gives_one_answer(policy):
    """Oracle: the same scenario again, and with neither step log nor longest gaps."""

    def check(scenario, result):
        again = simulate(scenario)
        pd.testing.assert_frame_equal(again, result.requests(), check_exact=True)
        plain = run(scenario).requests()
        pd.testing.assert_frame_equal(plain.drop(columns="itl_max_s"), again.drop(columns="itl_max_s"))

    every(policy, check, examples=20)
