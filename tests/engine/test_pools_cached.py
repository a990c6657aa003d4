"""Conversations on two pools, prefix caches of prefill workers: against the plain twin, and by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest

from sim_core.engine.run import run
from sim_core.price.step_cost import Transfer
from sim_core.results.use import cache_use
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import BlockChains, Requests, turns_before
from tests.engine.naive_admission import ADMISSIONS, blocks_for
from tests.engine.naive_pools_cached import CachingPools
from tests.engine.test_prefix import conversations, hashed
from tests.engine.test_twin import priced
from tests.runs import assert_same_times, listed, make_cost, run_pools


def drawn_rules(rng, sent):
    """Draw two pools with memory for a few of the requests, or for all, and how prompts find their worker."""
    block = rng.choice([1, 2, 4, 16])
    need = max(blocks_for(int(n), block) for n in sent.prompt_tokens + sent.output_tokens)
    concurrency = rng.choice([0, 0, 1, 4])
    if concurrency:
        sent.arrival_s[:] = 0.0
    return {
        "prefill_workers": rng.randint(1, 4),
        "decode_workers": rng.randint(1, 3),
        "ranks": rng.choice([1, 1, 2]),
        "prefill_ranks": rng.choice([1, 1, 3]),
        "max_running": rng.choice([2, 5, 24]),
        "prefill_max_running": rng.randint(1, 8),
        "token_budget": rng.choice([24, 64, 512]),
        "kv_blocks": need + rng.choice([0, need, 4000]),
        "prefill_kv_blocks": need + rng.choice([0, rng.randint(0, 2 * need), 4000]),
        "kv_block_tokens": block,
        "preemption": rng.choice(["recompute", "swap"]),
        "admission": rng.choice(sorted(ADMISSIONS)),
        "concurrency": concurrency,
        "turnaround_s": float(rng.choice([0, 7])),
        "router": rng.choice(["least_loaded", "session", "round_robin"]),
        "caching": rng.random() < 0.8,
        "host_blocks": rng.choice([0, 0, need, 8 * need]),
        "last_lost": rng.random() < 0.3,
    }


def agree(sent, transfer, **rules):
    """Assert that twin and kernel say the same of every request and of the caches, exactly."""
    cost, prefill_cost = priced(rules["max_running"]), priced(rules["prefill_max_running"])
    twin = CachingPools(listed(prefill_cost), listed(cost), transfer, sent, **rules).run()
    kernel, split = run_pools(prefill_cost, cost, transfer, sent, **rules)
    np.testing.assert_array_equal(kernel.arrival_s, twin.sent_s)
    assert_same_times(twin, kernel, split)
    if rules["caching"]:
        copies = [twin.copies[i] for i in range(len(sent))]
        for name in ("reused_tokens", "loaded_tokens"):
            expected = [getattr(copy, name) for copy in copies]
            np.testing.assert_array_equal(getattr(kernel, name), expected, err_msg=name)
            assert getattr(split.usage, name) == sum(expected)
        evicted = sum(rank.cache.evicted for worker in twin.caches for rank in worker)
        assert split.usage.evicted_blocks == evicted
        assert split.usage.sent_tokens == sent.prompt_tokens.sum()
    return kernel


def drawn(seed):
    """Draw requests that follow others or share pieces of text, a link and rules."""
    rng = random.Random(seed)
    sent = rng.choice([conversations(rng), conversations(rng, timed=True), hashed(rng)])
    transfer = Transfer(
        float(rng.randrange(9)), float(rng.randrange(60)), rng.choice([1, 4]), rng.random() < 0.5
    )
    return sent, transfer, drawn_rules(rng, sent)


@pytest.mark.parametrize("part", range(4))
def test_sessions_and_caches_agree_exactly(part):
    """Oracle: the twin, which keeps every block, bit for bit."""
    hits = 0
    for seed in range(40 * part, 40 * part + 40):
        sent, transfer, rules = drawn(seed)
        hits += agree(sent, transfer, **rules).reused_tokens.sum()
    assert hits > 0


@pytest.mark.slow
def test_many_sessions_and_caches_agree_exactly():
    """Oracle: the twin, bit for bit, at depth."""
    for seed in range(10_000, 11_500):
        sent, transfer, rules = drawn(seed)
        agree(sent, transfer, **rules)


def two_turns(**rules):
    """Run a session of two turns on two pools: a token of a prompt takes 1 s, a decode step 2 s."""
    sent = Requests(
        np.zeros(2), np.array([32, 64]), np.array([17, 2]), session=np.zeros(2, np.int32),
        known_tokens=np.array([0, 49], np.int32), follows_s=np.array([np.nan, 5.0]),
    )  # fmt: skip
    prefill, decode = make_cost(np.arange(200.0)), make_cost([0.0] + [2.0] * 100)
    return run_pools(
        prefill, decode, Transfer(0.5, 3.0, 1, False), sent, kv_block_tokens=16, caching=True, **rules
    )


def test_the_next_turn_finds_the_prompt_before_and_computes_the_answer_again():
    """Oracle: by hand. The first prompt, 32 tokens, takes 32 s, its way 3 + 16 s, 16 more tokens 32 s: it
    ends at 83 s. 5 s later the next is sent, of 64 tokens. 49 are known, 32 of them where prompts are
    computed: the other 32 take 32 s, to 120 s. Sent are all 64, in 3 + 32 s, and the second token takes 2 s.
    """
    found, split = two_turns()
    assert found.finished_s[0] == 83.0
    assert found.arrival_s[1] == 88.0
    assert found.reused_tokens.tolist() == [0, 32]
    assert split.stages["prefill_end_s"].tolist() == [32.0, 120.0]
    assert split.stages["transfer_end_s"][1] == 155.0
    assert found.finished_s[1] == 157.0


def test_a_session_stays_on_the_worker_that_has_its_prompts():
    """Oracle: by hand. In turn, the second turn goes to the other of two workers, which has nothing of it."""
    found, split = two_turns(prefill_workers=2, router="session")
    assert split.stages["sender"].tolist() == [0, 0]
    assert found.reused_tokens.tolist() == [0, 32]
    found, split = two_turns(prefill_workers=2, router="round_robin")
    assert split.stages["sender"].tolist() == [0, 1]
    assert found.reused_tokens.tolist() == [0, 0]


def test_turns_with_times_of_their_own_stay_on_their_worker_too():
    """Oracle: by hand: of sessions a, b, a, c the first and the third go to one of two workers, c as well."""
    sent = Requests(
        np.array([0.0, 0.0, 900.0, 900.0]), np.full(4, 32), np.full(4, 2),
        session=np.array([0, 1, 0, 2], np.int32), known_tokens=np.array([0, 0, 31, 0], np.int32),
        follows_s=np.full(4, np.nan),
    )  # fmt: skip
    cost = make_cost(np.arange(200.0))
    rules = {"prefill_workers": 2, "router": "session", "kv_block_tokens": 16, "caching": True}
    _, split = run_pools(cost, cost, Transfer(0.0, 0.0, 1, False), sent, **rules)
    assert split.stages["sender"].tolist() == [0, 1, 0, 0]


def test_pieces_of_text_are_found_by_whoever_begins_with_them():
    """Oracle: by hand. Of three prompts of two pieces of 16 tokens, the second begins as the first does, and
    the third with another piece.
    """
    chains = BlockChains(np.array([0, 2, 4, 6]), np.array([1, 2, 1, 3, 4, 3]), 16)
    sent = Requests(np.array([0.0, 500.0, 1000.0]), np.full(3, 32), np.full(3, 2), blocks=chains)
    cost = make_cost(np.arange(200.0))
    found, _ = run_pools(cost, cost, Transfer(0.0, 0.0, 1, False), sent, kv_block_tokens=16, caching=True)
    assert found.reused_tokens.tolist() == [0, 16, 0]


def test_a_turn_is_sent_when_its_user_has_read_the_answer_and_thought():
    """Oracle: the rule of sessions, of a whole run: a turn is sent so long after the one before has ended."""
    found = run(Scenario(policy="disaggregated", turns=4, think_s=3.0, requests=60, prefix_caching="on"))
    follows_s, before = found.sent.follows_s, turns_before(found.sent.session)
    later = np.isfinite(follows_s)
    assert later.sum() > 30
    ended_s = found.finished_s[before[later]]
    np.testing.assert_allclose(found.arrival_s[later], ended_s + follows_s[later], rtol=1e-12)


def test_what_prefill_workers_find_is_reported():
    """Oracle: by hand: of 1,000 tokens, half of all but the last one, in blocks of 16, are 496."""
    alike = {"requests": 20, "prompt_tokens": 1000, "prompt_cv": 0.0}
    found = run(Scenario(policy="disaggregated", prefix_hit_frac=0.5, **alike))
    assert cache_use(found)["hit_frac"] == pytest.approx(0.496)
