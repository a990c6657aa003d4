"""Speculative decoding in the engine: several tokens a step, and what that changes.

Oracle: the twin in plain Python, to the last bit, on random small runs.
"""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.price.step_cost import PACE, TOKEN
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.acceptance import steps_drawn
from tests.engine import test_pools, test_prefix
from tests.engine.naive_admission import blocks_for
from tests.engine.test_twin import agree, cases, run_kernel, run_twin, same_requests
from tests.runs import make_cost

CONTINUOUS = ("chunked", "prefill_first")


@st.composite
def paces(draw):
    """Draw how decodes go on by their number: drafts, tokens a step in 64ths, and what contexts cost."""
    rows = []
    for _ in range(draw(st.sampled_from([1, 1, 2, 5]))):
        drafts = draw(st.integers(0, 7))
        tokens = 1 + draw(st.integers(0, 64 * drafts)) / 64
        rows.append((drafts, round(tokens * TOKEN), draw(st.sampled_from([1.0, 1.0, 2.0]))))
    return np.array(rows, PACE)


@st.composite
def counts(draw, requests, chosen):
    """Draw what the clock counts of each answer: whole steps, or anything near its length."""
    steps = chosen["advance"][-1] / TOKEN
    whole = draw(st.booleans())
    tokens = [math.ceil((output - 1) / steps) * steps for *_, output in requests]
    more = [0.0 if whole else draw(st.integers(0, 192)) / 64 for _ in requests]
    return [t + m if t else 0.0 for t, m in zip(tokens, more, strict=True)]


def drafting_rules(draw, requests, rules, chosen, counted):
    """Return rules that leave room for drafts: in the KV cache, and in the token budget."""
    block, most = rules["kv_block_tokens"], math.ceil(chosen["advance"].max() / TOKEN)
    slots = draw(st.integers(0, 6))
    plain = max(blocks_for(prompt + output, block) for _, prompt, output in requests)
    longest = max(prompt + math.ceil(c) for c, (_, prompt, _) in zip(counted, requests, strict=True))
    return {
        "clock_tokens": counted,
        "draft_slots": slots,
        "kv_blocks": rules["kv_blocks"] - plain + blocks_for(longest + most + 1 + slots, block),
        "token_budget": rules["token_budget"] + rules["max_running"] * int(chosen["drafts"].max()),
    }


@st.composite
def drafted(draw, policy):
    """Draw a run whose decodes are drafted for: answers as the clock counts them, and room for drafts."""
    case, chosen = draw(cases(policy)), draw(paces())
    counted = draw(counts(case.requests, chosen))
    rules = case.rules | drafting_rules(draw, case.requests, case.rules, chosen, counted)
    return dataclasses.replace(case, cost=case.cost._replace(paces=chosen), rules=rules)


@pytest.mark.parametrize("policy", CONTINUOUS)
def test_whole_numbers_agree_exactly(policy):
    """Oracle: the twin, bit for bit, across admissions, preemption, windows and tables by batch."""
    agree(policy, examples=120, drawn=drafted)


@pytest.mark.slow
@pytest.mark.parametrize("policy", CONTINUOUS)
def test_whole_numbers_agree_exactly_at_depth(policy):
    """Oracle: the twin, bit for bit, over thousands of fresh cases."""
    agree(policy, "slow", drawn=drafted)


@pytest.mark.parametrize("router", ["round_robin", "least_loaded"])
@pytest.mark.parametrize("policy", CONTINUOUS)
def test_replicas_agree_exactly(policy, router):
    """Oracle: the twin, bit for bit."""

    def check(case):
        rules = {**case.rules, "replicas": 2 + len(case.requests) % 4}
        twin = run_twin(case.cost, *case.columns, router=router, **rules)
        kernel = run_kernel(case.cost, *case.columns, router=router, whole=True, **rules)
        same_requests(twin, kernel, rel=0)

    agree(policy, examples=60, check=check, drawn=drafted)


# --- two pools, and a prefix cache ------------------------------------------------------------------


@st.composite
def drafted_pools(draw):
    """Draw two pools, the second of which verifies drafts."""
    cost, prefill_cost, transfer, requests, rules = draw(test_pools.cases())
    chosen = draw(paces())
    counted = draw(counts(requests, chosen))
    rules = rules | drafting_rules(draw, requests, rules, chosen, counted)
    return cost._replace(paces=chosen), prefill_cost, transfer, requests, rules


@settings(max_examples=80, deadline=None)
@given(drafted_pools())
def test_two_pools_agree_exactly(case):
    """Oracle: the twin of two pools, bit for bit."""
    test_pools.agree(case)


@pytest.mark.parametrize("policy", CONTINUOUS)
def test_conversations_agree_exactly(policy):
    """Oracle: the twin with a prefix cache, bit for bit: drafts and reuse of blocks together."""
    rng, reused = random.Random(policy), 0
    for _ in range(60):
        sent = test_prefix.conversations(rng)
        drafts = rng.randint(1, 5)
        length = 1 + rng.randrange(64 * drafts) / 64
        counted = np.ceil((sent.output_tokens - 1) / length) * length
        sent = dataclasses.replace(sent, clock_tokens=counted)
        rules = test_prefix.drawn_rules(rng, sent, policy, draft_slots=rng.randrange(5))
        longest = int((sent.prompt_tokens + counted).max()) + 20
        rules["kv_blocks"] += blocks_for(longest, rules["kv_block_tokens"])
        rules["token_budget"] += rules["max_running"] * drafts
        chosen = np.array([(drafts, round(length * TOKEN), 1.0)], PACE)
        reused += test_prefix.same(sent, paces=chosen, **rules).usage.reused_tokens
    assert reused > 0


# --- what is drawn ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1.0, 1.3, 2.0, 2.43, 3.9])
def test_steps_are_those_of_explicit_draws(length):
    """Oracle: steps one by one, all but the last token sure and one more by chance; mean and 99th percentile
    of 20,000 answers of each length within 1%, or a fifth of a step.
    """
    rng, sure = np.random.default_rng(3), math.floor(length)
    for later in (1, 2, 5, 40, 400):
        tokens = sure + (rng.random((20_000, later)) < length - sure)
        explicit = 1 + (np.cumsum(tokens, axis=1) < later).sum(axis=1)
        drawn = steps_drawn(np.full(20_000, later), length, seed=4)
        assert drawn.mean() == pytest.approx(explicit.mean(), rel=0.01, abs=0.2)
        assert np.percentile(drawn, 99) == pytest.approx(np.percentile(explicit, 99), rel=0.01, abs=1.0)
        assert drawn.min() >= math.ceil(later / (sure + 1))
        assert drawn.max() <= math.ceil(later / sure)


def test_tails_are_those_of_explicit_draws():
    """Oracle: a loop over steps in which every request of a closed loop accepts by its own draw: mean, median
    and 99th percentile of the time per token within 2%, as published engines' own spread is wider.
    """
    rng = np.random.default_rng(5)
    outputs = np.maximum(rng.lognormal(np.log(200), 0.4, 3000).astype(int), 2)
    for length, clients in ((1.6, 1), (2.43, 16), (3.1, 64)):
        cost = make_cost(
            [0.0] + [10.0 + 0.01 * n for n in range(1, 700)], row_s=[0.02 * n for n in range(65)]
        )
        cost = cost._replace(paces=np.array([(3, round(length * TOKEN), 1.0)], PACE))
        counted = steps_drawn(outputs - 1, round(length * TOKEN) / TOKEN, 7) * length
        rules = {"max_running": clients, "token_budget": 512, "concurrency": clients, "whole": True}
        found = run_kernel(cost, np.zeros(3000), np.full(3000, 8), outputs, clock_tokens=counted, **rules)
        tpot_s = (found.finished_s - found.first_token_s) / (outputs - 1)
        explicit_s = explicit_loop(cost, outputs, length, clients, rng)
        for percentile in (50, 99):
            expected = np.percentile(explicit_s, percentile)
            assert np.percentile(tpot_s, percentile) == pytest.approx(expected, rel=0.02)
        assert tpot_s.mean() == pytest.approx(explicit_s.mean(), rel=0.02)


def explicit_loop(cost, outputs, length, clients, rng):
    """Return the time per token of each answer; prompts of 8 tokens join in the step after an answer."""
    sure, waiting, clock_s = math.floor(length), list(range(len(outputs)))[::-1], 0.0
    left, first_s, tpot_s, joining = {}, {}, np.zeros(len(outputs)), []
    while waiting or left or joining:
        while waiting and len(left) + len(joining) < clients:
            joining.append(waiting.pop())
        tokens, rows = 4 * len(left) + 8 * len(joining), len(left) + len(joining)
        clock_s += cost.token_s[tokens] + cost.row_s[rows]
        for request in list(left):
            left[request] -= sure + (rng.random() < length - sure)
            if left[request] <= 0:
                tpot_s[request] = (clock_s - first_s[request]) / (outputs[request] - 1)
                del left[request]
        for request in joining:
            left[request], first_s[request] = outputs[request] - 1, clock_s
        joining = []
    return tpot_s


# --- scenarios --------------------------------------------------------------------------------------


DRAFTED = Scenario(requests=300, spec_tokens=3, acceptance_length=2.4)


def test_an_answer_alone_takes_a_step_for_each_acceptance_length():
    """Oracle: by hand; 241 tokens, the first with the prompt, 240 later ones by 3 a step: 80 steps."""
    alone = DRAFTED.replace(
        requests=1, arrivals="offline", acceptance_length=3.0, output_tokens=241, output_cv=0.0, prompt_cv=0.0
    )
    assert run(alone).engine.usage.steps == 81
    plain = run(alone.replace(spec_tokens=0))
    assert plain.engine.usage.steps == 241


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"acceptance_length": 4.5}, "at most 4"),
        ({"policy": "static"}, "static batches do not speculate"),
        ({"token_budget": 3}, "at least 4"),
        ({"spec_by_batch": "1-8:5,9-:0"}, "Raise spec_tokens to 5"),
        ({"spec_by_batch": "2-:3"}, "begin with 1"),
        ({"spec_by_batch": "1-4:3,6-:1"}, "begin with 5"),
        ({"spec_by_batch": "1-4:3;5-:1"}, "FROM-TO:TOKENS"),
    ],
)
def test_contradictions_are_refused_with_a_way_out(changes, words):
    """Oracle: the rules of engines; a message names the key, the value, the limit and what to do."""
    with pytest.raises(ScenarioError, match=words):
        DRAFTED.replace(**changes)


def test_an_unknown_acceptance_length_is_asked_for():
    """Oracle: nothing is published for the model, and a made-up number would be taken for knowledge."""
    with pytest.raises(ScenarioError, match="Give acceptance_length"):
        run(DRAFTED.replace(acceptance_length=None))


def test_drafts_leave_fewer_places_and_no_request_grows_beyond_the_cache():
    """Oracle: by hand; 64 tokens a step are 16 decodes of 4; requests that just fit a small cache all end."""
    small = DRAFTED.replace(token_budget=64)
    assert small.max_running == 16
    assert small.replace(spec_by_batch="1-8:3,9-:0").max_running == 64
    tight = DRAFTED.replace(
        kv_memory_frac=0.26, requests=60, output_cv=1.0, prompt_tokens=4000, arrivals="offline"
    )
    found = run(tight)
    assert np.isfinite(found.finished_s[~found.rejected]).all()
    assert found.preemptions.sum() > 0


def test_a_useless_drafter_loses():
    """Oracle: the arithmetic; drafts of which none is accepted cost time and bring nothing."""
    base = DRAFTED.replace(arrivals="closed", concurrency=64)
    drafted, plain = (run(base.replace(spec_tokens=drafts, acceptance_length=1.0)) for drafts in (3, 0))
    assert drafted.finished_s.max() > 1.1 * plain.finished_s.max()
