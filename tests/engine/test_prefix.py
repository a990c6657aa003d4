"""The prefix cache of the engine: conversations, chains of hashed text, host memory, a share of prompts.

Oracle: `tests/engine/naive_cache.py`, which keeps every block and compares tokens.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from sim_core.engine.rules import stated
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.price.step_cost import PACE, PLAIN_PACE, TOKEN
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import BlockChains, Requests
from tests.engine.naive_admission import ADMISSIONS, blocks_for
from tests.engine.naive_cache import simulate_naive_sent
from tests.engine.test_twin import (
    binned,
    priced,
    rules_for,
    same_events,
    same_log,
    same_requests,
    same_totals,
)
from tests.runs import RULES, listed, make_cost, run_sent


def same(sent, caching=True, cost=None, paces=PLAIN_PACE, **rules):
    """Assert that twin and kernel agree to the last bit; return the kernel's run."""
    cost = priced(rules["max_running"], paces=paces) if cost is None else cost
    twin = simulate_naive_sent(listed(cost), sent, caching=caching, **{**RULES, **rules})
    for whole, totals in ((False, twin.kept[0]), (True, twin.total[0])):
        kernel = run_sent(cost, sent, whole=whole, caching=caching, **rules)
        same_requests(twin, kernel, rel=0)
        same_totals(totals, kernel.usage, rel=0)
        np.testing.assert_array_equal(kernel.gap_counts, binned(totals.gaps_s))
        same_log(twin.log[0], kernel.log, rel=0)
        same_events(twin.log[0], kernel)
    return kernel


def drawn_rules(rng, sent, policy, loop=True, **changes):
    """Draw rules with a cache in which a few of the requests find room."""
    block = rng.choice([1, 2, 4, 16])
    need = max(blocks_for(int(n), block) for n in sent.prompt_tokens + sent.output_tokens)
    concurrency = rng.choice([0, 0, 1, 4]) if loop else 0
    if concurrency:
        sent.arrival_s[:] = 0.0
    rules = {
        "admission": rng.choice(sorted(ADMISSIONS)),
        "max_output_tokens": rng.choice([0, 0, 30]),
        "max_running": rng.choice([2, 5, 24]),
        "token_budget": rng.choice([24, 64, 100, 512]),
        "preemption": rng.choice(["recompute", "recompute", "swap"]),
        "kv_blocks": rng.randint(need, 3 * need) + rng.choice([0, 0, 4000 // block]),
        "kv_block_tokens": block,
        "turnaround_s": float(rng.choice([0, 7])),
        "concurrency": concurrency,
        "warm": rng.randrange(len(sent)),
        "host_blocks": rng.choice([0, 0, 3, need, 8 * need]),
        "last_lost": rng.random() < 0.3,
    }
    return rules_for(policy, **{**rules, **changes})


def conversations(rng, timed=False, system=None) -> Requests:
    """Draw requests of a few sessions whose turns come in some order, and some that are alone."""
    sessions, count = rng.randint(1, 8), rng.randint(2, 40)
    system = rng.choice([0, 0, 5, 33]) if system is None else system
    text, rows, now = {}, [], 0
    for _ in range(count):
        now += rng.choice([0, 0, rng.randrange(300), rng.randrange(3000)])
        session = rng.randrange(-1, sessions)
        known = text.get(session, 0)
        if rng.random() < 0.2:
            known = rng.randint(0, known)  # what was thought is left out, or all begins anew
        new, output = rng.choice([1, rng.randint(1, 60)]), rng.choice([1, 15, rng.randint(1, 40)])
        first = session < 0 or session not in text
        prompt = max(known, system) + new
        at_its_time = rng.random() < (0.7 if first else 0.6 * timed)
        follows_s = np.nan if at_its_time else float(rng.choice([0, 50, 900]))
        rows.append((now, prompt, output, session, 0 if first else known, follows_s))
        if session >= 0:
            text[session] = prompt + output
    kinds = (np.float64, np.int64, np.int64, np.int32, np.int32, np.float64)
    arrival, prompt, output, session, known, follows = (
        np.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)
    )
    return Requests(
        arrival, prompt, output, session=session, known_tokens=known, follows_s=follows, system_tokens=system
    )


def hashed(rng) -> Requests:
    """Draw requests whose prompts are paths of a small tree of pieces of text."""
    tokens, count = rng.choice([1, 5, 8, 16, 32, 48]), rng.randint(2, 40)
    paths = [[rng.randrange(9)]]
    rows, now = [], 0
    for _ in range(count):
        now += rng.choice([0, 0, rng.randrange(300), rng.randrange(3000)])
        path = rng.choice(paths)
        path = path[: rng.randint(1, len(path))] + [100 + rng.randrange(3)] * rng.randint(0, 2)
        path = path[: max(1, 120 // tokens)]
        paths.append(path)
        prompt = (len(path) - 1) * tokens + rng.choice([tokens, rng.randint(1, tokens)])
        rows.append((now, prompt, rng.choice([1, 15, rng.randint(1, 40)])))
    ids = [piece for path in paths[1:] for piece in path]
    offsets = np.cumsum([0, *(len(path) for path in paths[1:])])
    arrival, prompt, output = (
        np.array(column, kind)
        for column, kind in zip(zip(*rows, strict=True), (np.float64, np.int64, np.int64), strict=True)
    )
    return Requests(arrival, prompt, output, blocks=BlockChains(offsets, np.array(ids), tokens))


def interleaved(rng) -> Requests:
    """Draw sessions whose turns may be sent before the one before has ended."""
    return conversations(rng, timed=True)


def totals(draw, policy, cases=100, **changes):
    """Hold random cases against the twin; return how many tokens and blocks of each kind there were."""
    rng = random.Random(f"{policy} {draw.__name__}")
    names = ("reused_tokens", "loaded_tokens", "evicted_blocks")
    added = dict.fromkeys(names, 0)
    for _ in range(cases):
        sent = draw(rng)
        rules = drawn_rules(rng, sent, policy, loop=draw is not interleaved, **changes)
        used = same(sent, **rules).usage
        added = {name: added[name] + getattr(used, name) for name in names}
    return added


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
@pytest.mark.parametrize("draw", [conversations, interleaved, hashed])
def test_prefixes_agree_exactly(policy, draw):
    """Oracle: the twin, bit for bit, over random texts, rules and sizes of device and host memory."""
    assert min(totals(draw, policy).values()) > 0


@pytest.mark.parametrize("draw", [conversations, interleaved, hashed])
def test_prompts_that_pass_others_agree_exactly(draw):
    """Oracle: the twin, bit for bit. Two prompts may then compute the same text at the same time."""
    assert min(totals(draw, "chunked", long_prefill_token_threshold=20).values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
@pytest.mark.parametrize("draw", [conversations, interleaved, hashed])
def test_prefixes_agree_exactly_at_depth(policy, draw):
    """Oracle: the twin, bit for bit, over two thousand cases of each kind."""
    totals(draw, policy, cases=2000)


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_turns_follow_one_another_without_a_cache(policy):
    """Oracle: the twin, bit for bit; a stated share of prompts may be cached."""
    rng = random.Random(policy)
    for hit_frac in (0.0, 0.0, 0.6, 1.0) * 10:
        sent = conversations(rng)
        same(sent, caching=False, hit_frac=hit_frac, **drawn_rules(rng, sent, policy))


@pytest.mark.parametrize("draw", [conversations, hashed])
def test_drafts_and_prefixes_agree_exactly(draw):
    """Oracle: the twin, bit for bit, where decodes make several tokens a step and the cache is on."""
    rng = random.Random(draw.__name__)
    for _ in range(60):
        sent = draw(rng)
        sent = replace(sent, clock_tokens=np.array([rng.randint(0, 160) / 4 for _ in range(len(sent))]))
        rules = drawn_rules(rng, sent, rng.choice(["chunked", "prefill_first"]), draft_slots=2)
        rules["token_budget"] += 3 * rules["max_running"]  # each decode takes one token and two drafts
        block = rules["kv_block_tokens"]
        most = sent.prompt_tokens + 50 + sent.clock_tokens
        rules["kv_blocks"] += blocks_for(int(most.max()), block)
        same(sent, paces=drafted(rng), **rules)


def drafted(rng):
    """Return two drafts a step, of which some are accepted: 2.25 tokens a step, say."""
    return np.array([(2, rng.randint(4, 12) * TOKEN // 4, 1.0)], PACE)


# --- replicas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["round_robin", "least_loaded"])
def test_routed_turns_agree_exactly(router):
    """Oracle: the twin, bit for bit. Sessions hop, and find what they left where they were before."""
    rng = random.Random(router)
    reused = 0
    for case in range(60):
        sent = conversations(rng, timed=case % 3 == 0)
        rules = drawn_rules(rng, sent, rng.choice(["chunked", "prefill_first"]), loop=case % 3 > 0)
        rules |= {"replicas": rng.choice([2, 3]), "router": router, "caching": case % 5 > 0}
        if not np.isfinite(sent.follows_s).any():
            continue
        cost = priced(rules["max_running"])
        twin = simulate_naive_sent(listed(cost), sent, **{**RULES, **rules})
        kernel = run_sent(cost, sent, whole=True, **rules)
        same_requests(twin, kernel, rel=0)
        reused += kernel.usage.reused_tokens
    assert reused > 0


def test_a_session_stays_where_it_is():
    """Oracle: each replica by itself, with the sessions that are its turn."""
    rng = random.Random("session")
    sent = conversations(rng)
    while len(sent) < 20 or (sent.session < 0).any():
        sent = conversations(rng)
    rules = drawn_rules(rng, sent, "chunked", concurrency=0, warm=0)
    together = run_sent(priced(), sent, whole=True, caching=True, replicas=2, router="session", **rules)
    _, first = np.unique(sent.session, return_index=True)
    order = sent.session[np.sort(first)]
    for replica in (0, 1):
        mine = np.flatnonzero(np.isin(sent.session, order[replica::2]))
        alone = run_sent(priced(), sent.take(mine), whole=True, caching=True, **rules)
        np.testing.assert_array_equal(together.finished_s[mine], alone.finished_s)
        np.testing.assert_array_equal(together.reused_tokens[mine], alone.reused_tokens)


# --- by hand ----------------------------------------------------------------------------------------


def two_turns(**changes) -> Requests:
    """A prompt of 40 tokens and its answer of 9, then 20 more after 5 s."""
    columns = {
        "session": np.zeros(2, np.int32),
        "known_tokens": np.array([0, 49], np.int32),
        "follows_s": np.array([np.nan, 5.0]),
    }
    lengths = (np.zeros(2), np.array([40, 69]), np.array([9, 1]))
    return Requests(*lengths, **{**columns, **changes})


def test_a_turn_finds_the_text_before_it():
    """Oracle: by hand. Of 49 tokens the last has no KV yet, so that 48 are held: 3 blocks of 16.

    The first turn computes 40 tokens in a step of 40 s and makes 8 more in steps of 1 s, the second is sent
    5 s later and computes 69 - 48 = 21.
    """
    cost = make_cost([float(tokens) for tokens in range(100)])
    rules = {"kv_blocks": 20, "token_budget": 99, "whole": True}
    run = run_sent(cost, two_turns(), caching=True, **rules)
    assert run.reused_tokens.tolist() == [0, 48]
    assert run.arrival_s.tolist() == [0, 53]
    assert run.finished_s.tolist() == [48, 74]
    assert (run.usage.sent_tokens, run.usage.reused_tokens) == (109, 48)
    assert run_sent(cost, two_turns(), **rules).finished_s.tolist() == [48, 53 + 69]


def test_the_last_block_found_is_computed_anew_where_drafts_want_its_states():
    """Oracle: by hand. Of the 3 blocks of the turn before the last one counts as new: 69 - 32 tokens.

    It is computed in its place: 3 blocks are shared in memory, and 5 hold all of both turns.
    """
    cost = make_cost([float(tokens) for tokens in range(100)])
    rules = {"kv_blocks": 5, "token_budget": 99, "whole": True, "caching": True}
    run = run_sent(cost, two_turns(), last_lost=True, **rules)
    assert run.reused_tokens.tolist() == [0, 32]
    assert run.finished_s.tolist() == [48, 53 + 69 - 32]
    assert run.usage.evicted_blocks == 0


@pytest.mark.parametrize(
    ("draft", "lost"), [("mtp", True), ("eagle", True), ("parallel", True), ("ngram", False)]
)
def test_who_drafts_from_states_loses_the_last_block(draft, lost):
    """Oracle: vLLM's `use_eagle_block_drop`: all ways of drafting but by the text alone."""
    drafting = {"model": "llama-3.1-8b", "draft": draft, "spec_tokens": 3, "acceptance_length": 2.0}
    assert stated(Scenario(**drafting))["last_lost"] is lost
    assert not stated(Scenario(draft=draft))["last_lost"]


def test_what_is_on_the_host_is_copied_before_it_is_used():
    """Oracle: by hand. A stranger of 5 blocks drives 4 of 5 blocks out, of which the 3 cached go to the host.

    A token from there costs 0.5 s: 48 of them and 21 that are computed take 24 + 21 s.
    """
    cost = make_cost([float(tokens) for tokens in range(100)], swap_token_s=0.5)
    alone = two_turns(
        session=np.array([0, -1, 0], np.int32),
        known_tokens=np.array([0, 0, 49], np.int32),
        follows_s=np.array([np.nan, np.nan, 105.0]),
    )
    sent = replace(
        alone,
        arrival_s=np.array([0.0, 50.0, 50.0]),
        prompt_tokens=np.array([40, 79, 69]),
        output_tokens=np.array([9, 1, 1]),
    )
    rules = {"kv_blocks": 5, "token_budget": 99, "whole": True, "caching": True}
    run = run_sent(cost, sent, host_blocks=3, **rules)
    assert (run.reused_tokens.tolist(), run.loaded_tokens.tolist()) == ([0, 0, 0], [0, 0, 48])
    assert run.finished_s[2] == 153 + 24 + 21
    assert run.usage.swapped_tokens == 48
    assert run_sent(cost, sent, host_blocks=2, **rules).loaded_tokens[2] == 32
    assert run_sent(cost, sent, **rules).finished_s[2] == 153 + 69


def test_a_system_prompt_is_held_once():
    """Oracle: by hand. Four requests of 4 + 1 blocks at once, of which 4 are the same: 8 blocks, not 20."""
    lengths = (np.zeros(4), np.full(4, 70), np.full(4, 10))
    cost = make_cost([float(tokens) for tokens in range(200)])
    rules = {"kv_blocks": 20, "token_budget": 199, "whole": True}
    run = run_sent(cost, Requests(*lengths, system_tokens=64), caching=True, **rules)
    assert run.kv_blocks_peak == 4 + 4
    assert run.reused_tokens.tolist() == [0, 64, 64, 64]
    assert run.finished_s.tolist() == [70 + 3 * 6 + 9 * 4] * 4


def test_blocks_used_cached_and_free_are_all_there_are():
    """Oracle: the sum, at every row of the log; the twin counts each of them."""
    rng = random.Random("all")
    for _ in range(20):
        sent = conversations(rng)
        rules = drawn_rules(rng, sent, "chunked")
        log = run_sent(priced(), sent, whole=True, caching=True, **rules).log
        free = rules["kv_blocks"] - log["kv_blocks_used"] - log["cached_blocks"]
        assert (free >= 0).all()
        assert (log["cached_blocks"] >= 0).all()


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_nothing_in_common_changes_nothing(policy):
    """Oracle: the same run without a cache: no time differs where no prompt finds anything."""
    rng = np.random.default_rng(3)
    lengths = (rng.uniform(0, 9000, 60).round().cumsum(), rng.integers(1, 90, 60), rng.integers(1, 40, 60))
    rules = rules_for(policy, kv_blocks=40, whole=True, admission="reserve_output")
    plain = run_sent(priced(), Requests(*lengths), **rules)
    cached = run_sent(priced(), Requests(*lengths), caching=True, **rules)
    assert plain.preemptions.sum() == 0
    assert cached.usage.evicted_blocks > 0
    np.testing.assert_array_equal(cached.reused_tokens, 0)
    np.testing.assert_array_equal(cached.finished_s, plain.finished_s)


@pytest.mark.parametrize("seed", [1, 3])
def test_no_turn_is_lost_where_others_wait_for_the_same_moment(seed):
    """Oracle: every request of a run to the end is answered."""
    scenario = Scenario(
        turns=2, system_tokens=1000, prompt_cv=0.0, policy="prefill_first", requests=1000, seed=seed
    )
    assert np.isfinite(run(scenario).finished_s).all()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"policy": "static", "turns": 3}, "requests of turns=3"),
        ({"policy": "static", "arrivals": "closed", "concurrency": 2, "think_s": 2.0}, "of think_s=2"),
    ],
)
def test_policies_without_turns_name_the_key_and_the_way_out(changes, named):
    """Oracle: the key that makes requests follow others, in the message; and what to set in its place."""
    with pytest.raises(ScenarioError, match=named) as refused:
        run(Scenario(requests=10, **changes))
    assert "policy=chunked" in str(refused.value)
