"""The prefix cache of the engine: conversations, chains of hashed text, host memory, a share of prompts.

Oracle: `tests/engine/naive_cache.py`, which keeps every block and compares tokens.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

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
from tests.runs import RULES, listed, run_sent


def same(sent, caching=True, cost=None, **rules):
    """Assert that twin and kernel agree to the last bit; return the kernel's run."""
    cost = priced(rules["max_running"]) if cost is None else cost
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
        follows_s = np.nan if first or (timed and rng.random() < 0.6) else float(rng.choice([0, 50, 900]))
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


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_conversations_agree_exactly(policy):
    """Oracle: the twin, bit for bit, over random sessions, rules and sizes of device and host memory."""
    rng = random.Random(policy)
    reused = loaded = evicted = 0
    for _ in range(150):
        sent = conversations(rng)
        used = same(sent, **drawn_rules(rng, sent, policy)).usage
        reused, loaded = reused + used.reused_tokens, loaded + used.loaded_tokens
        evicted += used.evicted_blocks
    assert min(reused, loaded, evicted) > 0


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
