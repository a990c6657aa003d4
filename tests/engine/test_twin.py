"""The compiled kernel against its plain-Python twin on thousands of small, hostile runs.

Oracle: `tests/engine/naive.py`. Costs and times are whole numbers, so sums in closed form and sums in a loop
must agree bit for bit, whatever their order; with fractions they agree to 1e-9.
"""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core.engine.kernels import gaps, records
from tests.engine.naive_admission import ADMISSIONS, blocks_for
from tests.places import ROOT
from tests.runs import RULES, make_cost, run_kernel, run_twin

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
    if draw(st.integers(0, 9)) == 0:  # all steps alike: arrivals fall on the boundaries between steps
        return make_cost([0.0, draw(st.sampled_from([1.0, 5.0, 10.0]))], [0.0] * (max_running + 1))
    price = st.integers(0, 9).map(float)
    even = st.integers(0, 4).map(lambda half: 2.0 * half)
    token_s = [0.0] + [float(rng.randint(1, 60)) for _ in range(draw(st.integers(1, 40)))]
    row_s = [float(rng.randint(0, 20)) for _ in range(max_running + 1)]
    return make_cost(
        token_s=token_s,
        row_s=row_s,
        end_s=[float(rng.randint(0, int(time_s))) for time_s in row_s],
        token_slope_s=draw(price),
        decode_context_s=draw(price),
        window_context_s=draw(price),
        window_tokens=draw(st.one_of(st.just(0), st.integers(1, 60), st.just(NO_LIMIT))),
        prefill_pair_s=draw(even),
        window_pair_s=draw(even),
        prefill_request_s=draw(price),
        prefill_step_s=draw(price),
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
        "long_prefill_token_threshold": draw(st.sampled_from([0, 0, 3, 20])),
        "preemption": draw(st.sampled_from(["recompute", "swap"])),
        "admission": draw(st.sampled_from(sorted(ADMISSIONS))),
        "max_output_tokens": draw(st.sampled_from([0, 0, 5, 60, 5000])),
        "concurrency": concurrency,
        "turnaround_s": float(draw(st.one_of(st.just(0), st.integers(0, 500)))),
        "batch_wait_s": float(draw(st.one_of(st.just(0), st.integers(0, 2000)))),
        "warm": draw(st.integers(0, len(requests) - 1)),
        "hit_frac": draw(st.sampled_from([0.0, 0.0, 0.3, 0.75, 1.0])),
    }
    return Case(draw(costs(max_running)), requests, rules)


def binned(gaps_s):
    """Return the kernel's histogram of gaps."""
    counts = np.zeros(gaps.GAP_BINS, np.int64)
    for gap_s in gaps_s:
        counts[gaps.gap_bin.py_func(gap_s)] += 1
    return counts


def same(case, rel=0.0):
    """Assert that twin and kernel agree: exactly, or times and prices to `rel`; return the twin's run."""
    twin = run_twin(case.cost, *case.columns, **case.rules)
    for whole, totals in ((True, twin.total[0]), (False, twin.kept[0])):
        kernel = run_kernel(case.cost, *case.columns, whole=whole, **case.rules)
        same_requests(twin, kernel, rel)
        same_totals(totals, kernel.usage, rel)
        assert kernel.gap_counts.sum() == len(totals.gaps_s)
        if not rel:
            np.testing.assert_array_equal(kernel.gap_counts, binned(totals.gaps_s))
        same_log(twin.log[0], kernel.log, rel)
        same_events(twin.log[0], kernel)
    return twin


def same_requests(twin, kernel, rel):
    for name in ("arrival_s", "first_token_s", "finished_s", "itl_max_s"):
        expected, actual = getattr(twin, name), getattr(kernel, name)
        close(actual, expected, rel, name)
    assert kernel.preemptions.tolist() == twin.preemptions
    if kernel.reused_tokens.size:
        assert kernel.reused_tokens.tolist() == twin.reused_tokens
        assert kernel.loaded_tokens.tolist() == twin.loaded_tokens


def same_totals(totals, usage, rel):
    for field in dataclasses.fields(totals):
        if field.name not in ("gaps_s", "kv_used_s"):
            expected, actual = getattr(totals, field.name), getattr(usage, field.name)
            close(actual, expected, rel, field.name)


def close(actual, expected, rel, name):
    """Assert that two columns or numbers agree to `rel`; NumPy's own way to say so takes its time."""
    if not np.array_equal(actual, expected):
        np.testing.assert_allclose(actual, expected, rtol=rel, err_msg=name)


def same_log(steps, log, rel):
    """Assert that the kernel's rows, each a run of equal steps, cover the twin's steps one by one."""
    first = 0
    logged, expected = [], []
    for row in log:
        covered = steps[first : first + row["count"]]
        for step in covered:
            for name in ("decodes", "drafts", "prefill_tokens", "prompts", "running", "admitted"):
                assert getattr(step, name) == row[name], name
        duration_s = sum(step.duration_s for step in covered)
        grown_s = covered[0].duration_s + row["growth_s"] * (row["count"] - 1)
        logged.append((row["start_s"], row["duration_s"], grown_s))
        expected.append((covered[0].start_s, duration_s, covered[-1].duration_s))
        assert row["context_tokens"] == int(covered[0].context_tokens)
        assert row["kv_blocks_used"] == covered[-1].kv_blocks_used
        assert row["cached_blocks"] == covered[-1].cached_blocks
        for name in ("swapped_tokens", "reused_tokens", "loaded_tokens"):
            assert row[name] == sum(getattr(step, name) for step in covered), name
        first += row["count"]
    close(logged, expected, rel, "start, duration, duration of the last step")
    assert first == len(steps)


def same_events(steps, kernel):
    """Assert that each step says the same of the same requests; of equal steps only the first may speak."""
    rows = np.repeat(np.arange(kernel.log.size), kernel.log["count"])
    for kind, name in (("CHUNK", "chunks"), ("PREEMPTED", "preempted"), ("RETURNED", "returned")):
        expected = [
            (row, *event) for row, step in zip(rows, steps, strict=True) for event in getattr(step, name)
        ]
        events = kernel.events[kernel.events["kind"] == getattr(records, kind)]
        assert events[["row", "request", "computed", "tokens"]].tolist() == expected, name


def agree(policy, profile="quick", examples=None, check=same, drawn=cases):
    """Check random cases of one policy; a failure shows the smallest case that still fails."""
    chosen = settings.get_profile(profile)

    @settings(chosen, max_examples=examples or chosen.max_examples)
    @given(drawn(policy))
    def every(case):
        check(case)

    every()


def few_or_many(few, many):
    """Return the mark of a test that checks a few random cases by default, and many among the slow ones."""
    return pytest.mark.parametrize("crowds", [few, pytest.param(many, marks=pytest.mark.slow)])


@pytest.mark.parametrize("policy", POLICIES)
def test_whole_numbers_agree_exactly(policy):
    """Oracle: the twin, bit for bit."""
    agree(policy, examples=120)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_whole_numbers_agree_exactly_at_depth(policy):
    """Oracle: the twin, bit for bit, over thousands of fresh cases."""
    agree(policy, "slow")


@pytest.mark.parametrize("policy", POLICIES)
def test_fractions_agree(policy):
    """Oracle: the twin to 1e-9: closed forms and loops round differently, some 1e-12 over these runs."""
    agree(policy, check=lambda case: same(fractional(case), rel=1e-9))


def fractional(case):
    """Return the case with every price and arrival moved by up to 1%, so that none are whole numbers."""
    rng = random.Random(repr(case.requests))

    def moved(value):
        if isinstance(value, np.ndarray) and value.dtype == float:
            return np.array([moved(float(item)) for item in value])
        return value * (1 + 0.01 * rng.random()) if isinstance(value, float) else value

    cost = case.cost._replace(**{name: moved(value) for name, value in case.cost._asdict().items()})
    late = 1 + 0.01 * rng.random()
    requests = [(arrival * late, prompt, output) for arrival, prompt, output in case.requests]
    return Case(cost, requests, case.rules)


# --- replicas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["round_robin", "least_loaded"])
@pytest.mark.parametrize("policy", POLICIES)
def test_replicas_agree_exactly(policy, router):
    """Oracle: the twin, bit for bit. Static batches are always dealt in turn."""

    def check(case):
        rules = {**case.rules, "replicas": 2 + len(case.requests) % 4}
        twin_router = "round_robin" if policy == "static" else router
        twin = run_twin(case.cost, *case.columns, router=twin_router, **rules)
        kernel = run_kernel(case.cost, *case.columns, router=router, whole=True, **rules)
        same_requests(twin, kernel, rel=0)
        for name in (
            "steps",
            "context_tokens",
            "prefill_pairs",
            "prefill_steps",
            "swapped_tokens",
            "busy_s",
            "running_s",
        ):
            assert getattr(kernel.usage, name) == sum(getattr(total, name) for total in twin.total), name

    agree(policy, check=check)


# --- cases that random ones do not reach ------------------------------------------------------------


def rules_for(policy, **changes):
    """Return ample rules, with the named ones changed."""
    return {**RULES, "policy": policy, "max_running": 64, "token_budget": 512, **changes}


def priced(max_running=64, **changes):
    """Return a cost with every price on."""
    prices = {
        "token_s": [0.0] + [40.0 + 3 * tokens for tokens in range(1, 200)],
        "row_s": [float(rows) for rows in range(max_running + 1)],
        "token_slope_s": 4.0,
        "decode_context_s": 2.0,
        "window_context_s": 3.0,
        "window_tokens": 50,
        "prefill_pair_s": 2.0,
        "window_pair_s": 4.0,
        "prefill_request_s": 7.0,
        "prefill_step_s": 9.0,
        "swap_token_s": 5.0,
    }
    return make_cost(**{**prices, **changes})


def drain(policy, lengths):
    """One request of every output length, all at once, and room for all."""
    requests = [(0, 1 + 7 * i % 23, output) for i, output in enumerate(lengths)]
    rules = rules_for(policy, max_running=len(requests), token_budget=8192)
    return Case(priced(len(requests)), requests, rules)


def tight(policy, preemption, block):
    """A pool that only just holds the largest request, and thirty of them."""
    requests = [(3 * i, 5 + i % 7, 12 + i % 5) for i in range(30)]
    blocks = blocks_for(11 + 16, block)
    return Case(
        priced(), requests, rules_for(policy, preemption=preemption, kv_blocks=blocks, kv_block_tokens=block)
    )


def crowded(rng, policy, admission):
    """Draw forty requests that come close together and share a cache of a few of them."""
    block = rng.choice([1, 4, 16])
    longest = rng.choice([20, 90, 900])
    span = rng.choice([600, 600, 10**6])  # the engine is idle between requests that are far apart
    requests = sorted((rng.randrange(span), rng.randint(1, 120), rng.randint(1, longest)) for _ in range(40))
    need = max(blocks_for(prompt + output, block) for _, prompt, output in requests)
    rules = rules_for(
        policy,
        admission=admission,
        max_output_tokens=rng.choice([0, 0, longest, 2 * longest, 9000]),
        preemption=rng.choice(["recompute", "swap"]),
        kv_blocks=rng.randint(need, 4 * need) + rng.choice([0, 0, 5000 // block]),
        kv_block_tokens=block,
        token_budget=rng.choice([64, 100, 512]),
        long_prefill_token_threshold=rng.choice([0, 10, 40]),
        concurrency=rng.choice([0, 0, 12]),
    )
    return Case(priced(), requests, rules)


@pytest.mark.parametrize("admission", sorted(ADMISSIONS))
@pytest.mark.parametrize("policy", POLICIES[:2])
@few_or_many(20, 100)
def test_admission_agrees_exactly_in_a_crowd(policy, admission, crowds):
    """Oracle: the twin, bit for bit, where requests wait for room and some are preempted."""
    rng = random.Random(f"{policy} {admission}")
    preempted = sum(sum(same(crowded(rng, policy, admission)).preemptions) for _ in range(crowds))
    assert (preempted == 0) == (admission == "reserve_output")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("backwards", [False, True])
def test_long_drain_of_different_lengths(policy, backwards):
    """Oracle: the twin. Every step of a long drain ends a request; a stack sized by habit would overrun."""
    same(drain(policy, range(400, 0, -1) if backwards else range(1, 401)))


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_longer_drain_of_different_lengths(policy):
    """Oracle: the twin, over 3,000 lengths in a shuffled order."""
    same(drain(policy, random.Random(1).sample(range(1, 3001), 3000)))


@pytest.mark.parametrize("policy", POLICIES)
def test_all_at_once_and_all_alike(policy):
    """Oracle: the twin. A hundred equal requests at the same moment finish together."""
    same(Case(priced(), [(5, 17, 33)] * 100, rules_for(policy)))
    same(Case(priced(), [(5, 17, 1)] * 100, rules_for(policy)))


@pytest.mark.parametrize("policy", POLICIES)
def test_huge_gaps_between_arrivals(policy):
    """Oracle: the twin. Idle times of 10**12 against steps of some 50 still add up exactly."""
    same(Case(priced(), [(i * 10**12, 9, 20) for i in range(12)], rules_for(policy)))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("power", [64, 128, 1024])
def test_outputs_around_powers_of_two(policy, power):
    """Oracle: the twin. Rings of coming events have a power of two of places; lengths lie on either side."""
    for longest in (power - 2, power - 1, power, power + 1):
        requests = [(100 * i, 3, longest - 2 * (i % 2)) for i in range(6)]
        same(Case(priced(), requests, rules_for(policy)))


@pytest.mark.parametrize("policy", POLICIES)
def test_contexts_cross_the_window_at_a_finish(policy):
    """Oracle: the twin. The window lies at the first, the last and just beyond the last context."""
    requests = [(0, 20, 10), (0, 20, 11), (30, 25, 10), (90, 30, 1), (400, 29, 2)]
    for window in range(18, 36):
        same(Case(priced(window_tokens=window), requests, rules_for(policy)))
        same(Case(priced(window_tokens=window), requests, rules_for(policy, kv_blocks=40, kv_block_tokens=1)))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_pool_of_one_request(policy, preemption):
    """Oracle: the twin. Requests take each other's blocks over and over; nothing hangs."""
    for block in (1, 2, 3, 16):
        same(tight(policy, preemption, block))


@pytest.mark.parametrize("policy", POLICIES)
def test_realistic_run_in_whole_picoseconds(policy):
    """Oracle: the twin, bit for bit, with the magnitudes of a real engine: steps of 8 ms, 300 requests."""
    rng = np.random.default_rng(11)
    prompts, outputs = (rng.lognormal(np.log(mean), 0.5, 300).astype(int) + 1 for mean in (900, 220))
    arrivals = rng.exponential(1.2e11, 300).astype(np.int64).cumsum()
    cost = make_cost(
        token_s=[0.0] + [7.0e9 + 2.5e7 * max(tokens - 150, 0) for tokens in range(1, 2049)],
        row_s=[1e5 * rows for rows in range(129)],
        decode_context_s=39_123.0,
        prefill_pair_s=162_000.0,
        prefill_request_s=5e7,
    )
    rules = rules_for(policy, max_running=128, token_budget=2048, kv_blocks=2500, batch_wait_s=1e11)
    same(Case(cost, list(zip(arrivals.tolist(), prompts, outputs, strict=True)), rules))


# --- the machine ------------------------------------------------------------------------------------


def examples(policy, count):
    """Return some random cases of one policy."""
    found = []
    agree(policy, examples=count, check=found.append)
    return found


def check_with_bounds():
    """Run a few cases of each kind; called in a process in which kernels check their indices."""
    assert numba.config.BOUNDSCHECK == 1
    for policy in POLICIES:
        agree(policy, examples=40)
        same(drain(policy, range(1, 200)))
        same(tight(policy, "swap", 2))


@pytest.mark.slow
def test_no_index_leaves_its_array(request):
    """Oracle: Numba's own bounds checks, switched on in a process of its own, with a cache of its own."""
    cache = request.config.cache.mkdir("numba_boundscheck")
    changes = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(cache)}
    code = "import tests.conftest, tests.engine.test_twin as t; t.check_with_bounds()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **changes}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def test_eight_threads_get_the_answers_of_one():
    """Oracle: the same runs one after another. Visitors share one process; kernels share nothing."""
    runs = [case for policy in POLICIES for case in examples(policy, 40)]

    def finished(case):
        return run_kernel(case.cost, *case.columns, **case.rules).finished_s.tolist()

    alone = [finished(case) for case in runs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(finished, runs * 4))
    assert together == alone * 4
