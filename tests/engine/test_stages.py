"""Engines in stages: by hand, and equal to their plain twin.

Oracle: `tests/engine/naive_stages.py`; the rules stand in `sim_core/engine/kernels/pipeline.py`.
"""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import strategies as st

from sim_core.engine.run import run
from sim_core.price.price import price_of
from sim_core.price.steps.rounds import of_rounds
from sim_core.scenario.scenario import Scenario
from tests.engine.naive_admission import ADMISSIONS
from tests.engine.test_twin import agree, cases, crowded, few_or_many, same
from tests.runs import make_cost, run_kernel


@st.composite
def staged_cases(draw, policy):
    """Draw a run of one engine of several stages."""
    case = draw(cases(policy))
    own = {"stages": draw(st.integers(2, 5)), "even": draw(st.booleans())}
    return dataclasses.replace(case, rules=case.rules | own)


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_stages_agree_exactly(policy):
    """Oracle: the twin, bit for bit."""
    agree(policy, examples=30, drawn=staged_cases)


@pytest.mark.parametrize("admission", sorted(ADMISSIONS))
@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
@few_or_many(5, 60)
def test_stages_agree_exactly_in_a_crowd(policy, admission, crowds):
    """Oracle: the twin, bit for bit, where requests wait for room and some are preempted."""
    rng = random.Random(f"stages {policy} {admission}")
    for _ in range(crowds):
        case = crowded(rng, policy, admission)
        rules = {"stages": rng.randint(2, 5), "even": rng.random() < 0.5}
        same(dataclasses.replace(case, rules=case.rules | rules))


def staged(stages, requests, token_s, **rules):
    """Return the run of some requests (arrival, prompt, output) whose steps cost by their tokens alone."""
    return run_kernel(make_cost(token_s), *zip(*requests, strict=True), stages=stages, whole=True, **rules)


def test_chunks_of_a_prompt_are_in_several_stages():
    """By hand: 6 chunks of 10 tokens, 5 s in each of 3 stages: the last one starts after 5 of them and
    leaves after 3 more, (6 + 3 - 1) x 5 = 40 s; of one stage of 15 s it takes 90.
    """
    run = staged(3, [(0, 60, 1)], [0.0] + [5.0] * 10, token_budget=10)
    assert run.first_token_s.tolist() == [40.0]
    assert run.usage.bubble_s == 10.0  # until the first chunk is at the last stage
    assert run.usage.busy_s == 30.0
    whole = staged(1, [(0, 60, 1)], [0.0] + [15.0] * 10, token_budget=10)
    assert whole.first_token_s.tolist() == [90.0]


def test_a_token_passes_all_stages():
    """By hand: a decode alone makes a token every 3 x 5 s, while two of three stages are empty."""
    run = staged(3, [(0, 1, 5)], [0.0, 5.0])
    assert run.first_token_s.tolist() == [15.0]
    assert run.finished_s.tolist() == [75.0]
    assert run.usage.bubble_s == 50.0


def test_decodes_fill_the_stages():
    """By hand: three prompts, one a batch, follow one another through 3 stages of 5 s: each makes a token
    every 15 s, and together one every 5 s.
    """
    run = staged(3, [(0, 1, 11)] * 3, [0.0, 5.0], token_budget=1)
    assert run.first_token_s.tolist() == [15.0, 20.0, 25.0]
    np.testing.assert_array_equal(run.finished_s - run.first_token_s, 150.0)
    assert run.usage.bubble_s == 10.0


@pytest.mark.parametrize("clients", [1, 3, 16, 64, 200])
def test_a_round_is_what_groups_of_decodes_take(clients):
    """Oracle: the engine of explicit groups, on requests that only decode: within 6% in time per token, since
    explicit groups are not quite even: those that come together decode together.
    """
    scenario = Scenario(
        **{"model": "llama-3.1-70b", "weight_dtype": "fp8", "pipeline_parallel": 4, "max_batch": 256},
        **{"arrivals": "closed", "concurrency": clients, "requests": 4 * clients + 40, "token_budget": 256},
        **{"prompt_tokens": 2, "prompt_cv": 0.0, "output_tokens": 400, "output_cv": 0.5, "warmup_frac": 0.0},
    )
    price = price_of(scenario)
    explicit = run(scenario)
    rounds = run(scenario, price=of_rounds(price))

    def token_s(found):
        return (found.finished_s - found.first_token_s).sum() / found.sent.output_tokens.sum()

    assert token_s(rounds) == pytest.approx(token_s(explicit), rel=0.06)


@pytest.mark.parametrize("tokens", [2000, 60_000])
def test_a_prefill_worker_passes_its_chunks_as_one_pool_does(tokens):
    """Oracle: one pool of the same stages, which computes the prompt in chunks: within 5%."""
    one = Scenario(
        **{"model": "llama-3.1-70b", "weight_dtype": "fp8", "tensor_parallel": 2, "pipeline_parallel": 4},
        **{"arrivals": "closed", "concurrency": 1, "requests": 3, "warmup_frac": 0.0, "token_budget": 4096},
        **{"prompt_tokens": tokens, "prompt_cv": 0.0, "output_tokens": 10, "output_cv": 0.0},
    )
    pools = one.replace(policy="disaggregated", prefill_workers=1, decode_workers=1)

    def ttft_s(scenario):
        found = run(scenario)
        return found.first_token_s[0] - found.sent.arrival_s[0]

    assert ttft_s(pools) == pytest.approx(ttft_s(one), rel=0.05)
