"""Workers that move between the pools: the kernels against the plain twin, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core.engine.kernels.pools.moves import MovePlan
from sim_core.engine.kernels.records import DECODES, PREFILLS
from sim_core.engine.rules import RunRules, worker_rules
from sim_core.engine.two_pools import SplitEngine, workers_of
from sim_core.price.step_cost import Transfer
from sim_core.traffic.requests import listed as listed_requests
from tests.engine import test_pools
from tests.engine.naive_moves import MovingPools
from tests.runs import assert_same_times, listed, make_cost


def engine_of(prefill_cost, cost, transfer, requests, rules, plan, workers, first_prefill, most_moves=50):
    """Return a `SplitEngine` whose first workers prefill and whose others decode."""
    sent = listed_requests(requests)
    kept = ("max_running", "token_budget", "kv_blocks", "kv_block_tokens", "preemption")
    kept += ("admission", "max_output_tokens", "hit_frac")
    decode = worker_rules(RunRules(**{key: rules[key] for key in kept if key in rules}))
    prefill = decode._replace(max_running=rules["prefill_max_running"], kv_blocks=rules["prefill_kv_blocks"])
    engine = SplitEngine(
        workers_of(prefill, prefill_cost, sent, workers, decode=False, ranks=rules.get("prefill_ranks", 1)),
        workers_of(decode, cost, sent, workers, ranks=rules.get("ranks", 1)),
        transfer,
        sent,
        plan=plan,
        most_moves=most_moves,
    )
    engine.senders["free_s"][first_prefill:] = math.inf
    engine.decode.states["opens_s"][:first_prefill] = math.inf
    return engine


# --- the twin -------------------------------------------------------------------------------------


@st.composite
def cases(draw):
    """Draw two pools in an open loop, of workers with ranks or without, what a move takes, and when (in % of
    the run) who is asked to move.
    """
    cost, prefill_cost, transfer, requests, rules = draw(test_pools.cases(ranks=draw(st.booleans())))
    rules = {key: value for key, value in rules.items() if not key.endswith("_workers")}
    rules |= {"concurrency": 0, "turnaround_s": 0.0, "prefill_stages": 1}  # workers of stages do not move
    workers = draw(st.integers(2, 5))
    first_prefill = draw(st.integers(1, workers - 1))
    plan = MovePlan(
        float(draw(st.one_of(st.just(0), st.integers(0, 400)))), draw(st.booleans()), draw(st.booleans())
    )
    parts = sorted(draw(st.lists(st.integers(1, 99), min_size=1, max_size=12)))
    wishes = [(part, draw(st.integers(0, workers - 1))) for part in parts]
    return cost, prefill_cost, transfer, requests, rules, plan, workers, first_prefill, wishes


def may_leave(free_s, opens_s, worker, now_s):
    """Return to which pool a worker may go now: another worker that is ready must stay in its own."""
    ready = {PREFILLS: [s < math.inf for s in free_s], DECODES: [s <= now_s for s in opens_s]}
    for to, own in ((DECODES, PREFILLS), (PREFILLS, DECODES)):
        if ready[own][worker] and sum(ready[own]) > 1:
            return to
    return None


def agree(case):
    """Assert that twin and kernel say the same of every request and every move, exactly."""
    cost, prefill_cost, transfer, requests, rules, plan, workers, first_prefill, wishes = case
    columns = list(zip(*requests, strict=True))
    still = engine_of(prefill_cost, cost, transfer, requests, rules, plan, workers, first_prefill)
    still.advance(math.inf)
    end_s = float(still.results()[0].finished_s.max())
    twin = MovingPools(
        listed(prefill_cost), listed(cost), transfer, *columns, workers=workers,
        first_prefill=first_prefill, **plan._asdict(), **rules,
    )  # fmt: skip
    engine = engine_of(prefill_cost, cost, transfer, requests, rules, plan, workers, first_prefill)
    for part, worker in wishes:
        now_s = part * end_s // 100
        twin.run_until(now_s)
        engine.advance(now_s)
        to = may_leave([sender.free_s for sender in twin.senders], twin.opens_s, worker, now_s)
        if to is not None:
            twin.ask_move(worker, to, now_s)
            engine.ask_move(worker, to, now_s)
    twin.run_until(math.inf)
    engine.advance(math.inf)
    found, split = engine.results()
    assert_same_times(twin, found, split, ("first_token_s", "finished_s", "preemptions"))
    assert engine.moved == len(twin.moves)
    for name in ("worker", "to", "asked_s", "drained_s", "ready_s"):
        expected = [getattr(move, name) for move in twin.moves]
        np.testing.assert_array_equal(engine.moves[name][: engine.moved], expected, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(cases())
def test_several_moments_in_one_call_are_as_many_calls(case):
    """Oracle: one call a moment, bit for bit."""
    cost, prefill_cost, transfer, requests, rules, plan, workers, first_prefill, wishes = case
    engines = [
        engine_of(prefill_cost, cost, transfer, requests, rules, plan, workers, first_prefill)
        for _ in range(2)
    ]
    moments_s = np.cumsum([float(part) for part, _ in wishes])
    for now_s in moments_s:
        engines[0].advance(now_s)
    engines[1].advance(moments_s)
    for engine in engines:
        engine.advance(math.inf)
    one, other = (engine.results() for engine in engines)
    np.testing.assert_array_equal(one[0].finished_s, other[0].finished_s)
    for name in one[1].stages.dtype.names:
        np.testing.assert_array_equal(one[1].stages[name], other[1].stages[name])


def test_the_first_decode_after_a_transfer_eases_the_share():
    """Oracle: by hand, at one second a step. At 2 s the second prompt wants 20 + 1, 1 more and a block of 1:
    23 of the 37 free tokens, less a share of the 20 that the first may still make: 37 - 0.699 x 20 = 23.02.
    """
    cost = make_cost(token_s=[0.0, 1.0])
    rules = {"max_running": 2, "prefill_max_running": 1, "token_budget": 2, "kv_blocks": 59}
    rules |= {"prefill_kv_blocks": 20, "kv_block_tokens": 1, "preemption": "recompute"}
    rules |= {"admission": "reserve_share", "max_output_tokens": 0, "concurrency": 0, "turnaround_s": 0.0}
    requests, still = [(0, 20, 22), (0, 20, 2), (0, 20, 37)], MovePlan(0.0, False, False)
    agree((cost, cost, Transfer(0.0, 0.0, 1, False), requests, rules, still, 2, 1, []))
    engine = engine_of(cost, cost, Transfer(0.0, 0.0, 1, False), requests, rules, still, 2, 1)
    engine.advance(math.inf)
    assert engine.results()[0].finished_s.tolist()[:2] == [22.0, 3.0]


@settings(max_examples=30, deadline=None)
@given(cases())
def test_moving_workers_agree_with_the_twin_exactly(case):
    """Oracle: the twin, bit for bit."""
    agree(case)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(cases())
def test_many_moving_workers_agree_with_the_twin_exactly(case):
    """Oracle: the twin, bit for bit, at depth."""
    agree(case)
