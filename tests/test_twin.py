"""The compiled kernel against its plain-Python twin on thousands of small, hostile runs.

Oracle: `tests/naive.py`. Costs and times are whole numbers, so sums in closed form and sums in a loop
must agree bit for bit, whatever their order; with fractions they agree to 1e-9.
"""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core import kernels
from tests.naive import blocks_for
from tests.runs import make_cost, run_kernel, run_twin

POLICIES = ("chunked", "prefill_first", "static")
POWERS = [2**k + d for k in range(1, 7) for d in (-1, 0, 1)]
NO_LIMIT = 10**7


@dataclasses.dataclass(frozen=True)
class Case:
    """Costs, requests as (arrival, prompt, output), and rules of one run."""

    cost: object
    requests: list
    rules: dict

    @property
    def columns(self):
        return list(zip(*self.requests, strict=True))


@st.composite
def costs(draw, max_running):
    """Draw whole-number prices; those of pairs are even because half pairs occur."""
    rng = random.Random(draw(st.integers(0, 999)))
    price = st.integers(0, 9).map(float)
    even = st.integers(0, 4).map(lambda half: 2.0 * half)
    return make_cost(
        token_s=[0.0] + [float(rng.randint(1, 60)) for _ in range(draw(st.integers(1, 40)))],
        row_s=[float(rng.randint(0, 20)) for _ in range(max_running + 1)],
        token_slope_s=draw(price),
        decode_context_s=draw(price),
        window_context_s=draw(price),
        window_tokens=draw(st.one_of(st.just(0), st.integers(1, 60), st.just(NO_LIMIT))),
        prefill_pair_s=draw(even),
        window_pair_s=draw(even),
        prefill_request_s=draw(price),
        swap_token_s=draw(price),
    )


@st.composite
def request_lists(draw):
    """Draw requests: together, apart or far apart; short, long, of equal length, or at powers of two."""
    gap = draw(st.sampled_from([st.just(0), st.integers(0, 60), st.integers(0, 900), st.just(10**6)]))
    gap = st.one_of(gap, gap, gap, st.just(0), st.integers(0, 3000))
    prompt = draw(st.sampled_from([st.integers(1, 8), st.integers(1, 90), st.just(draw(st.integers(1, 40)))]))
    output = draw(
        st.sampled_from(
            [st.just(1), st.integers(1, 6), st.integers(1, 70), st.sampled_from(POWERS), st.just(16)]
        )
    )
    rows = draw(st.lists(st.tuples(gap, prompt, output), min_size=1, max_size=30))
    arrivals = np.cumsum([row[0] for row in rows]).tolist()
    return [(arrival, *lengths) for arrival, (_, *lengths) in zip(arrivals, rows, strict=True)]


@st.composite
def cases(draw, policy):
    """Draw a run: tight or ample KV blocks, tight or ample budget, open or closed loop."""
    requests = draw(request_lists())
    budget = draw(st.one_of(st.integers(1, 12), st.integers(1, 100)))
    max_running = draw(st.one_of(st.integers(1, 4), st.integers(1, 24)))
    block = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 16]))
    need = max(blocks_for(prompt + output, block) for _, prompt, output in requests)
    spare = draw(st.one_of(st.integers(0, 3), st.integers(0, 3 * need), st.just(NO_LIMIT)))
    max_running = min(max_running, budget) if policy == "chunked" else max_running
    concurrency = draw(st.one_of(st.just(0), st.just(0), st.integers(1, len(requests) + 1)))
    if concurrency:
        start = draw(st.sampled_from([0, 7]))
        requests = [(start, prompt, output) for _, prompt, output in requests]
    rules = {
        "policy": policy,
        "max_running": max_running,
        "token_budget": budget,
        "kv_blocks": need + spare,
        "kv_block_tokens": block,
        "preemption": draw(st.sampled_from(["recompute", "swap"])),
        "concurrency": concurrency,
        "turnaround_s": float(draw(st.one_of(st.just(0), st.integers(0, 500)))),
        "batch_wait_s": float(draw(st.one_of(st.just(0), st.integers(0, 2000)))),
        "warm": draw(st.integers(0, len(requests) - 1)),
    }
    return Case(draw(costs(max_running)), requests, rules)


def binned(gaps_s):
    """Return the kernel's histogram of gaps."""
    counts = np.zeros(kernels.GAP_BINS, np.int64)
    for gap_s in gaps_s:
        counts[kernels.gap_bin(gap_s)] += 1
    return counts


def same(case, rel=0.0):
    """Assert that twin and kernel agree: exactly, or times and prices to `rel`."""
    twin = run_twin(case.cost, *case.columns, **case.rules)
    for whole, totals in ((True, twin.total[0]), (False, twin.kept[0])):
        kernel = run_kernel(case.cost, *case.columns, whole=whole, **case.rules)
        same_requests(twin, kernel, rel)
        same_totals(totals, kernel.usage, rel)
        assert kernel.gap_counts.sum() == len(totals.gaps_s)
        if not rel:
            np.testing.assert_array_equal(kernel.gap_counts, binned(totals.gaps_s))
        same_log(twin.log[0], kernel.log, rel)


def same_requests(twin, kernel, rel):
    for name in ("arrival_s", "first_token_s", "finished_s", "itl_max_s"):
        expected, actual = getattr(twin, name), getattr(kernel, name)
        np.testing.assert_allclose(actual, expected, rtol=rel, err_msg=name)
    assert kernel.preemptions.tolist() == twin.preemptions


def same_totals(totals, usage, rel):
    for field in dataclasses.fields(totals):
        if field.name not in ("gaps_s", "kv_used_s"):
            expected, actual = getattr(totals, field.name), getattr(usage, field.name)
            np.testing.assert_allclose(actual, expected, rtol=rel, err_msg=field.name)


def same_log(steps, log, rel):
    """Assert that the kernel's rows, each a run of equal steps, cover the twin's steps one by one."""
    first = 0
    for row in log:
        covered = steps[first : first + row["count"]]
        for step in covered:
            assert step.decodes + step.prefill_tokens == row["decodes"] + row["prefill_tokens"]
            for name in ("prompts", "running", "admitted"):
                assert getattr(step, name) == row[name], name
        duration_s = sum(step.duration_s for step in covered)
        np.testing.assert_allclose(
            [row["start_s"], row["duration_s"]], [covered[0].start_s, duration_s], rtol=rel
        )
        assert row["context_tokens"] == covered[0].context_tokens
        assert row["kv_blocks_used"] == covered[-1].kv_blocks_used
        assert row["swapped_tokens"] == sum(step.swapped_tokens for step in covered)
        first += row["count"]
    assert first == len(steps)


@pytest.mark.parametrize("policy", POLICIES)
def test_whole_numbers_agree_exactly(policy):
    """Oracle: the twin, bit for bit."""

    @given(cases(policy))
    def agree(case):
        same(case)

    agree()


@pytest.mark.parametrize("policy", POLICIES)
def test_fractions_agree(policy):
    """Oracle: the twin to 1e-9: closed forms and loops round differently, some 1e-12 over these runs."""

    @settings(max_examples=60)
    @given(cases(policy), st.integers(0, 10**6))
    def agree(case, seed):
        same(fractional(case, seed), rel=1e-9)

    agree()


def fractional(case, seed):
    """Return the case with every price and arrival moved by a little, so that none are whole numbers."""
    rng = random.Random(seed)

    def moved(value):
        if isinstance(value, np.ndarray):
            return np.array([moved(float(item)) for item in value])
        return value * (1 + 0.01 * rng.random()) if isinstance(value, float) else value

    cost = case.cost._replace(**{name: moved(value) for name, value in case.cost._asdict().items()})
    arrival = {a: a * (1 + 1e-3 * seed / 10**6) for a, _, _ in case.requests}
    requests = [(arrival[a], prompt, output) for a, prompt, output in case.requests]
    return Case(cost, requests, case.rules)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_whole_numbers_agree_exactly_at_depth(policy):
    """Oracle: the twin, bit for bit, over thousands of fresh cases."""

    @settings(settings.get_profile("slow"))
    @given(cases(policy))
    def agree(case):
        same(case)

    agree()
