"""Speculative decoding in the engine: several tokens a step, and what that changes.

Oracle: the twin in plain Python, to the last bit, on random small runs.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import strategies as st

from sim_core.price.step_cost import PACE, TOKEN
from tests.engine.naive_admission import blocks_for
from tests.engine.test_twin import agree, cases, run_kernel, run_twin, same_requests

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
def drafted(draw, policy):
    """Draw a run whose decodes are drafted for: answers as the clock counts them, and room for drafts."""
    case, chosen = draw(cases(policy)), draw(paces())
    steps = chosen["advance"][-1] / TOKEN
    whole = draw(st.booleans())  # so many steps each; else anything
    counted = []
    for _, _, output in case.requests:
        tokens = math.ceil((output - 1) / steps) * steps
        counted.append(tokens if whole else tokens + draw(st.integers(0, 192)) / 64)
    counted = [
        tokens if output > 1 else 0.0 for tokens, (*_, output) in zip(counted, case.requests, strict=True)
    ]
    slots, most = draw(st.integers(0, 6)), math.ceil(chosen["advance"].max() / TOKEN)
    spare = case.rules["kv_blocks"] - max(
        blocks_for(prompt + output, case.rules["kv_block_tokens"]) for _, prompt, output in case.requests
    )
    longest = max(prompt + math.ceil(c) for c, (_, prompt, _) in zip(counted, case.requests, strict=True))
    need = blocks_for(longest + most + 1 + slots, case.rules["kv_block_tokens"])
    rules = case.rules | {
        "clock_tokens": counted,
        "draft_slots": slots,
        "kv_blocks": spare + need,
        "token_budget": case.rules["token_budget"] + case.rules["max_running"] * int(chosen["drafts"].max()),
    }
    return dataclasses.replace(case, cost=case.cost._replace(paces=chosen), rules=rules)


@pytest.mark.parametrize("policy", CONTINUOUS)
def test_whole_numbers_agree_exactly(policy):
    """Oracle: the twin, bit for bit, across admissions, preemption, windows and tables by batch."""
    agree(policy, examples=300, drawn=drafted)


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

    agree(policy, check=check, drawn=drafted)
