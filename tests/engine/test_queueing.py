"""Queueing theory against the compiled kernel.

Oracle: the Lindley recursion, the Pollaczek-Khinchine formula, Little's law, the response-time law of
closed systems, and plain service times at light load.
"""

from __future__ import annotations

import numpy as np
import pytest

from sim_core import Scenario, simulate
from sim_core.price.price import price_of
from tests.runs import make_cost, run_kernel

POLICIES = ("chunked", "prefill_first", "static")
COST = make_cost(token_s=[0.0] + [0.5 + 0.01 * tokens for tokens in range(1, 65)], row_s=[0.0] * 65)
PREFILL_S = 0.5 + 0.01 * 50  # a prompt of 50 tokens in one step: 1 s
DECODE_S = 0.5 + 0.01


def poisson_arrivals_s(requests, per_s, seed):
    return np.cumsum(np.random.default_rng(seed).exponential(1 / per_s, requests))


def waits_s(arrival_s, service_s):
    """Return the waits in a queue with one server by Lindley (1952): w' = max(0, w + service - gap)."""
    ahead_s = np.concatenate([[0.0], np.cumsum(service_s[:-1] - np.diff(arrival_s))])
    return ahead_s - np.minimum.accumulate(ahead_s)


def one_at_a_time(policy, arrival_s, output_tokens):
    prompts = np.full(len(arrival_s), 50)
    return run_kernel(COST, arrival_s, prompts, output_tokens, policy=policy, max_running=1)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_slot_is_the_lindley_recursion(policy):
    """Oracle: Lindley, request by request. Tolerance 1e-9 of the run's 50,000 s: rounding only."""
    outputs = np.random.default_rng(3).geometric(1 / 8, 10_000)
    service_s = PREFILL_S + (outputs - 1) * DECODE_S
    arrival_s = poisson_arrivals_s(10_000, 0.8 / service_s.mean(), seed=4)
    result = one_at_a_time(policy, arrival_s, outputs)
    finished_s = arrival_s + waits_s(arrival_s, service_s) + service_s
    np.testing.assert_allclose(result.finished_s, finished_s, rtol=1e-9)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("load", "tolerance"), [(0.3, 0.025), (0.6, 0.03), (0.8, 0.07)])
def test_mean_wait_of_m_d_1(policy, load, tolerance):
    """Oracle: Pollaczek-Khinchine with constant service D: mean wait = load D / (2 (1 - load)).

    300,000 requests. The tolerance is four standard deviations of that mean over seeds (0.6, 0.7 and
    1.8%, measured on the recursion): waits are correlated over a busy period, which grows with the load.
    """
    arrival_s = poisson_arrivals_s(300_000, load / PREFILL_S, seed=1)
    result = one_at_a_time(policy, arrival_s, np.ones(300_000, int))
    wait_s = np.mean(result.first_token_s - arrival_s) - PREFILL_S
    assert wait_s == pytest.approx(load * PREFILL_S / (2 * (1 - load)), rel=tolerance)


@pytest.mark.parametrize("policy", POLICIES)
def test_mean_wait_of_m_g_1(policy):
    """Oracle: Pollaczek-Khinchine, mean wait = rate E[S^2] / (2 (1 - load)), geometric answers, load 0.6.

    Moments of the drawn services, 300,000 requests; tolerance 3%: four standard deviations over seeds.
    """
    outputs = np.random.default_rng(5).geometric(1 / 20, 300_000)
    service_s = PREFILL_S + (outputs - 1) * DECODE_S
    per_s = 0.6 / service_s.mean()
    arrival_s = poisson_arrivals_s(300_000, per_s, seed=6)
    result = one_at_a_time(policy, arrival_s, outputs)
    wait_s = np.mean(result.finished_s - arrival_s - service_s)
    assert wait_s == pytest.approx(per_s * np.mean(service_s**2) / (2 * (1 - 0.6)), rel=0.03)


@pytest.mark.parametrize("policy", POLICIES)
def test_closed_loop_response_time_law(policy):
    """Oracle: clients = throughput x (response time + time to think), of any closed system.

    20,000 requests of 40 clients: at the end up to 40 wait for nobody, 40 / 20,000 = 0.2%; tolerance 0.4%.
    """
    outputs = np.random.default_rng(7).geometric(1 / 30, 20_000)
    prompts = np.full(20_000, 50)
    rules = {"policy": policy, "max_running": 24, "concurrency": 40, "turnaround_s": 3.0}
    result = run_kernel(COST, np.zeros(20_000), prompts, outputs, **rules)
    per_s = 20_000 / result.finished_s.max()
    response_s = np.mean(result.finished_s - result.arrival_s)
    assert per_s * (response_s + 3.0) == pytest.approx(40, rel=0.004)


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_running_requests_are_rate_times_time_in_engine(policy):
    """Oracle: Little (1961), L = rate x time, from admission to finish, in a run that starts and ends empty.

    Both sides are read off the same steps by different roads, so they agree to rounding, 1e-9. A static
    batch holds slots of finished requests and is left out.
    """
    rng = np.random.default_rng(8)
    outputs, prompts = rng.geometric(1 / 30, 5000), rng.integers(1, 200, 5000)
    rules = {"policy": policy, "max_running": 16, "token_budget": 64, "whole": True}
    result = run_kernel(COST, poisson_arrivals_s(5000, 0.2, seed=9), prompts, outputs, **rules)
    steps = np.searchsorted(result.log["admitted"], np.arange(5000), side="right")
    in_engine_s = result.finished_s - result.log["start_s"][steps]
    per_s = 5000 / result.usage.elapsed_s
    mean_running = result.usage.running_s / result.usage.elapsed_s
    assert mean_running == pytest.approx(per_s * in_engine_s.mean(), rel=1e-9)


@pytest.mark.parametrize("policy", POLICIES)
def test_light_load_gives_the_bare_service_time(policy):
    """Oracle: the price list, summed by hand for one request alone. Tolerance 2e-9 s: clocks reach 2e6 s.

    1000 prompt tokens: one step with 1 row and 1000^2 / 2 pairs; then 49 steps of one token whose
    contexts are 1000, 1001, ..., 1048, together 49 x 1024 tokens.
    """
    lone = {"arrival_per_s": 1e-4, "requests": 200, "prompt_cv": 0.0, "output_cv": 0.0, "output_tokens": 50}
    scenario = Scenario(policy=policy, max_batch=1, **lone)
    price = price_of(scenario)
    step = price.step
    first_s = step.token_s[1000] + step.row_s[1] + step.prefill_pair_s * 1000**2 / 2 + step.prefill_request_s
    later_s = 49 * (step.token_s[1] + step.row_s[1] + 1024 * step.decode_context_s)
    way_s = price.before_s(np.array([1000])) + price.request_after_s
    rows = simulate(scenario)
    assert rows["arrival_s"].diff().min() > way_s + first_s + later_s
    ttft_s, e2e_s = rows["first_token_s"] - rows["arrival_s"], rows["finished_s"] - rows["arrival_s"]
    np.testing.assert_allclose(ttft_s, way_s + first_s, rtol=0, atol=2e-9)
    np.testing.assert_allclose(e2e_s, way_s + first_s + later_s, rtol=0, atol=2e-9)


@pytest.mark.parametrize("lengths", [{"prompt_cv": 0.0}, {"mix": "chat:0.5,rag:0.5"}])
@pytest.mark.parametrize("traffic", [{"arrival_per_s": 0.01}, {"arrivals": "closed", "concurrency": 1}])
def test_a_tokenizer_reads_a_prompt_before_the_engine_sees_it(traffic, lengths):
    """Oracle: by hand. 4 us a token of the mean prompt, for all requests alike: 4 ms of 1,000."""
    scenario = Scenario(requests=20, **traffic, **lengths)
    free, read = (simulate(scenario.replace(constants=f"prompt_token_before:{us}")) for us in (0, 4))
    ttft_s = [rows["first_token_s"] - rows["arrival_s"] for rows in (free, read)]
    expected_s = 4e-6 * free["prompt_tokens"].mean()
    assert "mix" in lengths or expected_s == pytest.approx(4e-3)
    np.testing.assert_allclose(ttft_s[1] - ttft_s[0], expected_s, rtol=0, atol=2e-9)
