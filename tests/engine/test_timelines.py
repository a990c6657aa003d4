"""Timelines worked by hand, against the plain-Python twin and the compiled kernel.

Oracle: arithmetic beside each expected number. Unless a test says otherwise a step of T tokens takes
100 + T seconds, so a duration tells how many tokens its step had.
"""

from __future__ import annotations

import math

import pytest

from tests.engine.naive import Step
from tests.runs import make_cost, run_kernel, run_twin

PLAIN = make_cost(token_s=[100.0 + tokens for tokens in range(64)])


@pytest.fixture(params=[run_twin, run_kernel], ids=["twin", "kernel"])
def run(request):
    """Return a runner: (cost, requests as (arrival, prompt, output), **rules) -> result."""

    def play(requests, cost=PLAIN, **rules):
        return request.param(cost, *zip(*requests, strict=True), **rules)

    return play


def check(result, *, first, finished, itl_max, preemptions=None):
    assert list(result.first_token_s) == first
    assert list(result.finished_s) == finished
    assert list(result.itl_max_s) == itl_max
    assert list(result.preemptions) == (preemptions or [0] * len(first))


CROSSING = [(0, 5, 3), (0, 6, 2), (150, 2, 1)]


def test_chunked_prompt_crosses_two_steps_and_an_arrival_waits_for_the_boundary(run):
    """Oracle: by hand, budget 8.

    t=0    prompts 5 + 3 of 6                   T=8  108 -> 108  r0 token 1
    t=108  r0 decodes, the other 3 of r1        T=4  104 -> 212  r0 token 2, r1 token 1; r2 came at 150
    t=212  r0, r1 decode, prompt 2 of r2        T=4  104 -> 316  r0 token 3, r1 token 2, r2 token 1
    """
    result = run(CROSSING, token_budget=8, max_running=4)
    check(result, first=[108, 212, 316], finished=[316, 316, 316], itl_max=[104, 104, 0])


def test_every_priced_part_enters_the_step(run):
    """Oracle: by hand, the timeline above with every price switched on and a window of 4 tokens.

    step 1  T=8: 108; 1 row: 50; pairs 25/2 + 9/2 = 17, times 2: 34; window pairs [0,5] 8 + 4 and
            [0,3] 4.5 = 16.5, times 4: 66; 2 prompts: 2000, once 500                   = 2758 -> 2758
    step 2  (r2 has arrived) T = 1 + 3 + 2 = 6: 106; 3 rows (r0, r1 and r2 done): 70; context 5 x 3 = 15;
            window 4 x 10 = 40; pairs (36-9)/2 + 2 = 15.5, times 2: 31; window pairs [3,6] 3.5 + 8 and
            [0,2] 2 = 13.5, times 4: 54; 2 prompts: 2000, once 500                     = 2816 -> 5574
    step 3  T=2: 102; 2 rows: 60; context 6 + 6 = 12 x 3 = 36; window 4 + 4 = 8 x 10 = 80 = 278 -> 5852
    """
    cost = make_cost(
        token_s=[100.0 + tokens for tokens in range(64)],
        row_s=[0.0, 50.0, 60.0, 70.0, 80.0],
        decode_context_s=3.0,
        window_context_s=10.0,
        window_tokens=4,
        prefill_pair_s=2.0,
        window_pair_s=4.0,
        prefill_request_s=1000.0,
        prefill_step_s=500.0,
    )
    result = run(CROSSING, cost, token_budget=8, max_running=4)
    check(result, first=[2758, 5574, 5574], finished=[5852, 5852, 5574], itl_max=[2816, 278, 0])


def test_tokens_beyond_the_table_pay_the_slope(run):
    """Oracle: by hand. Table for 0, 1, 2 tokens, slope 7: 5 tokens cost 20 + 3 x 7 = 41, a decode 10."""
    cost = make_cost(token_s=[0.0, 10.0, 20.0], token_slope_s=7.0)
    result = run([(0, 5, 2)], cost, token_budget=8, max_running=4)
    check(result, first=[41], finished=[51], itl_max=[10])


SHORTAGE = [(0, 4, 4), (0, 4, 3)]
POOL = {"kv_blocks": 5, "kv_block_tokens": 2, "token_budget": 16, "max_running": 4}


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_preempted_request_recomputes(run, policy):
    """Oracle: by hand, 5 blocks of 2 tokens.

    t=0    prompts 4 + 4, blocks 2 + 2          T=8  108 -> 108  r0, r1 token 1
    t=108  r0 decodes into the 5th block; r1 finds none, is the last admitted itself: preempted
                                                T=1  101 -> 209  r0 token 2
    t=209  r0 decodes; r1 must redo 4 + 1 tokens: 3 blocks, 2 free
                                                T=1  101 -> 310  r0 token 3
    t=310  r0 takes a block                     T=1  101 -> 411  r0 token 4, finished
    t=411  r1 redoes 5                          T=5  105 -> 516  r1 token 2, gap 516 - 108 = 408
    t=516  r1 decodes                           T=1  101 -> 617  r1 token 3, finished
    """
    result = run(SHORTAGE, policy=policy, preemption="recompute", **POOL)
    check(result, first=[108, 108], finished=[411, 617], itl_max=[101, 408], preemptions=[0, 1])


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_preempted_request_swaps_out_and_back(run, policy):
    """Oracle: by hand, as above with 3 s for each token moved and nothing recomputed.

    t=108  r1 leaves with 4 tokens, r0 decodes  T=1  101 + 12 -> 221  r0 token 2, its longest gap 113
    t=221  r0; r1 needs blocks for 4 + 1: 3, 2 free     101 -> 322    r0 token 3
    t=322  r0                                           101 -> 423    r0 token 4, finished
    t=423  r1 returns with 4 and decodes at once 101 + 12 -> 536      r1 token 2, gap 536 - 108 = 428
    t=536  r1 decodes                                   101 -> 637    r1 token 3, finished
    """
    cost = make_cost(token_s=[100.0 + tokens for tokens in range(64)], swap_token_s=3.0)
    result = run(SHORTAGE, cost, policy=policy, preemption="swap", **POOL)
    check(result, first=[108, 108], finished=[423, 637], itl_max=[113, 428], preemptions=[0, 1])


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_earlier_request_takes_the_place_of_the_last_admitted(run, policy):
    """Oracle: by hand, 4 blocks of 2 tokens; the third request is small but may not overtake.

    t=0    prompts 4 + 4 fill all blocks        T=8  108 -> 108  r0, r1 token 1
    t=108  r0 needs a block: r1 is preempted    T=1  101 -> 209  r0 token 2
    t=209  r0; r1 needs 3 blocks of 1, r2 waits T=1  101 -> 310  r0 token 3, finished
    t=310  r1 redoes 5, prompt 1 of r2          T=6  106 -> 416  r1 token 2 (gap 308), r2 finished
    t=416  r1                                   T=1  101 -> 517  r1 token 3, finished
    """
    requests = [(0, 4, 3), (0, 4, 3), (0, 1, 1)]
    result = run(requests, policy=policy, preemption="recompute", **{**POOL, "kv_blocks": 4})
    check(
        result, first=[108, 108, 416], finished=[310, 517, 416], itl_max=[101, 308, 0], preemptions=[0, 1, 0]
    )


def test_swapped_prompt_keeps_its_chunk(run):
    """Oracle: by hand, 4 blocks of 2 tokens, budget 4, 3 s for each token moved.

    t=0    prompt 2 of r0, 2 of 6 of r1         T=4  104 -> 104  r0 token 1; blocks 1 + 1
    t=104  r0 decodes (block 2); r1 takes 3: 5 tokens need 3 blocks, 2 more, 1 free: swapped out with 2
                                                T=1  101 + 6 -> 211  r0 token 2
    t=211  r0 decodes in its block; r1 needs ceil((2 + 3) / 2) = 3 blocks, 2 free
                                                T=1  101 -> 312  r0 token 3, finished
    t=312  r1 returns with 2 and takes 4        T=4  104 + 6 -> 422  r1 token 1, finished
    """
    cost = make_cost(token_s=[100.0 + tokens for tokens in range(64)], swap_token_s=3.0)
    rules = {**POOL, "kv_blocks": 4, "token_budget": 4}
    result = run([(0, 2, 3), (0, 6, 1)], cost, preemption="swap", **rules)
    check(result, first=[104, 422], finished=[312, 422], itl_max=[107, 0], preemptions=[0, 1])


def test_prefill_first_lets_decodes_wait(run):
    """Oracle: by hand, budget 8.

    t=0    prompt 4 of r0; 4 + 6 exceeds 8      T=4  104 -> 104  r0 token 1
    t=104  prompt 6 of r1                       T=6  106 -> 210  r1 token 1; r2 came at 110
    t=210  prompt 3 of r2                       T=3  103 -> 313  r2 token 1, finished
    t=313  r0, r1 decode                        T=2  102 -> 415  r0 token 2 (gap 311), r1 token 2 (gap 205)
    t=415  r0 decodes                           T=1  101 -> 516  r0 token 3, finished
    """
    requests = [(0, 4, 3), (0, 6, 2), (110, 3, 1)]
    result = run(requests, policy="prefill_first", token_budget=8, max_running=4)
    check(result, first=[104, 210, 313], finished=[516, 415, 313], itl_max=[311, 205, 0])


def test_prefill_first_takes_one_prompt_beyond_the_budget(run):
    """Oracle: by hand. A first prompt of 9 runs alone with budget 8: 109; the next of 1: 101 -> 210."""
    result = run([(0, 9, 1), (0, 1, 1)], policy="prefill_first", token_budget=8, max_running=4)
    check(result, first=[109, 210], finished=[109, 210], itl_max=[0, 0])


def test_static_pads_and_holds_its_slots(run):
    """Oracle: by hand, batches of 2, at most 50 s after the first.

    r0 at 0 waits until 50 or a second: r1 at 20
    t=20    2 prompts padded to 6               T=12 112 -> 132   r0 token 1, r1 token 1, finished
    t=132   2 slots, 2 decode steps of 102           204 -> 336   r0 tokens 2 and 3, finished
    t=336   r2, since 30, waited beyond 80; prompt 2  102 -> 438   then one decode 101 -> 539
    t=1050  r3, at 1000, waits 50; prompt 1           101 -> 1151
    """
    requests = [(0, 4, 3), (20, 6, 1), (30, 2, 2), (1000, 1, 1)]
    result = run(requests, policy="static", max_running=2, batch_wait_s=50)
    finished = [336, 132, 539, 1151]
    check(result, first=[132, 132, 438, 1151], finished=finished, itl_max=[102, 0, 101, 0])


def test_static_batch_is_limited_by_its_padded_blocks(run):
    """Oracle: by hand, 5 blocks of 2 tokens.

    Both together need 2 x ceil((4 + 2) / 2) = 6 blocks of 5, so r0 runs alone:
    t=0    prompt 2: 102, decode 101            -> 203
    t=203  prompt 4: 104 -> 307, decode 101     -> 408
    """
    result = run([(0, 2, 2), (0, 4, 2)], policy="static", **{**POOL, "max_running": 2})
    check(result, first=[102, 307], finished=[203, 408], itl_max=[101, 101])


def test_static_context_is_padded(run):
    """Oracle: by hand, context 1 s a token, window 5 tokens at 10 s, pairs 2 s and window pairs 4 s.

    prefill 2 x 4: T=8 108; pairs 2 x 8 x 2 = 32; window pairs 2 x 8 x 4 = 64            -> 204
    decode 1: T=2 102; context 2 x 4 = 8; window 2 x 4 x 10 = 80                          = 190 -> 394
    decode 2: T=2 102; context 2 x 5 = 10; window 2 x 5 x 10 = 100                        = 212 -> 606
    decode 3: T=2 102; context 2 x 6 = 12; window 2 x 5 x 10 = 100                        = 214 -> 820
    """
    cost = make_cost(
        token_s=[100.0 + tokens for tokens in range(64)],
        decode_context_s=1.0,
        window_context_s=10.0,
        window_tokens=5,
        prefill_pair_s=2.0,
        window_pair_s=4.0,
    )
    result = run([(0, 4, 2), (0, 1, 4)], cost, policy="static", max_running=2)
    check(result, first=[204, 204], finished=[394, 820], itl_max=[190, 214])


@pytest.mark.parametrize("policy", ["chunked", "prefill_first", "static"])
def test_closed_loop_sends_the_next_after_the_turnaround(run, policy):
    """Oracle: by hand, one client, 7 s to think: 102 + 101 = 203; sent at 210; prompt 3: 103 -> 313."""
    requests = [(0, 2, 2), (0, 3, 1)]
    result = run(requests, policy=policy, max_running=1, concurrency=1, turnaround_s=7)
    check(result, first=[102, 313], finished=[203, 313], itl_max=[101, 0])


def test_idle_engine_jumps_to_the_next_arrival(run):
    """Oracle: by hand. One prompt token takes 101, whenever it comes; 10**9 idle seconds cost nothing."""
    result = run([(5, 1, 1), (10**9, 1, 1)])
    check(result, first=[106, 10**9 + 101], finished=[106, 10**9 + 101], itl_max=[0, 0])


def test_twin_counts_from_the_first_kept_admission_to_the_last():
    """Oracle: by hand, the first timeline: admissions of r1 in step 1, of r2 in step 3; kept: steps 1, 2.

    tokens 8 and 4, rows 1 and 2, context 5, pairs (25 + 9)/2 + (36 - 9)/2 = 30.5, 2 + 1 prompts.
    """
    result = run_twin(PLAIN, *zip(*CROSSING, strict=True), token_budget=8, max_running=4, warm=1)
    (kept,) = result.kept
    assert (kept.steps, kept.busy_s) == (2, 108 + 104)
    assert {tokens for tokens, steps in enumerate(kept.steps_by_tokens) if steps} == {8, 4}
    assert kept.steps_by_rows == [0, 1, 1, 0, 0]
    assert (kept.context_tokens, kept.prefill_pairs, kept.prefill_requests) == (5, 30.5, 3)
    assert result.total[0].steps == 3
    assert (kept.gaps_s, result.total[0].gaps_s) == ([104], [104, 104, 104])


def test_twin_logs_each_step():
    """Oracle: by hand, the shortage timeline's first two steps (108 at 0, 101 at 108)."""
    result = run_twin(PLAIN, *zip(*SHORTAGE, strict=True), preemption="recompute", **POOL)
    common = {"admitted": 2, "swapped_tokens": 0, "returned": [], "drafts": 0}
    common |= {"reused_tokens": 0, "loaded_tokens": 0, "cached_blocks": 0}
    first = {"running": 2, "waiting": 0, "kv_blocks_used": 4, "context_tokens": 0}
    first |= {"chunks": [(0, 0, 4), (1, 0, 4)], "preempted": []}
    second = {
        "running": 1,
        "waiting": 1,
        "kv_blocks_used": 3,
        "context_tokens": 4,
        "chunks": [],
        "preempted": [(1, 4, 0)],
    }
    first = Step(start_s=0, duration_s=108, decodes=0, prefill_tokens=8, prompts=2, **first, **common)
    second = Step(start_s=108, duration_s=101, decodes=1, prefill_tokens=0, prompts=0, **second, **common)
    assert result.log[0][:2] == [first, second]


def test_twin_router_sees_what_the_steps_begun_before_have_done():
    """Oracle: by hand, two replicas, least loaded.

    r0 at 0: no loads, replica 0. r1 at 10: loads 1, 0, replica 1. r2 at 20: r1's only step began at 10
    and counts as done, loads 1, 0: replica 1. r3 at 20: loads 1, 1: replica 0.
    """
    requests = [(0, 4, 3), (10, 1, 1), (20, 1, 1), (20, 1, 1)]
    result = run_twin(PLAIN, *zip(*requests, strict=True), replicas=2, router="least_loaded")
    assert result.replica == [0, 1, 1, 0]
    assert result.first_token_s == [104, 111, 212, 206]  # r3 joins r0's second step: 104 + 102
    assert not math.isnan(sum(result.finished_s))
