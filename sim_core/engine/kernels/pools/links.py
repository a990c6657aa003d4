"""Prefill workers: steps of whole prompts, and the links over which their KV caches are sent.

A worker is a group of ranks of attention, mostly of one: every prompt lives on one of them, with its KV
cache, and leaves over that one's link; all take each step together.

All workers take prompts from one queue, or each has its own. With a prefix cache each rank keeps the blocks
of the prompts that have left it. What it finds it does not compute, but it sends the KV cache of the whole
prompt. Answers are made elsewhere: the next turn of a session finds only the prompt of the turn before.

References
----------
NVIDIA Dynamo, discussion 7861: a prefill worker sends all of a prompt's KV cache, whatever the decode worker
has. vLLM, pull request 48758: the prefill worker sends all, whatever it has found in its own cache.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim_core.engine.compiling import inlined
from sim_core.engine.kernels.log import report_held
from sim_core.engine.kernels.memory.blocks import blocks_of
from sim_core.engine.kernels.memory.prefix import leave_text, look_up, share_text, take_found, tokens_found
from sim_core.engine.kernels.one_pool import choose_replica
from sim_core.engine.kernels.plan import clear_plan
from sim_core.engine.kernels.pools.group import arrays_of, enter_most, report_together, wait_together
from sim_core.engine.kernels.queue import append_to_queue, send_sequel
from sim_core.engine.kernels.records import IN_TURN, NO_CACHE, NOBODY, ONE, ZERO
from sim_core.engine.kernels.step_time import (
    attention_s,
    group_time_s,
    pairs_between,
    planned_time_s,
    token_time_s,
    window_pairs_between,
)
from sim_core.price.step_cost import Transfer

STAGE = np.dtype(
    [
        ("prefill_start_s", np.float64),
        ("prefill_end_s", np.float64),
        ("transfer_end_s", np.float64),
        ("sender", np.int32),
        ("receiver", np.int32),
        # next one on the sender's link, then among the receiver's prompts to take over
        ("next_sent", np.int32),
        ("rank", np.int32),  # of the sender that holds its KV cache
    ],
    align=True,
)
SENDER = np.dtype(
    [
        ("free_s", np.float64),  # end of the worker's step; infinite while it takes no prompts
        ("released_s", np.float64),  # when a decode worker last took over a KV cache that it held
        ("held", np.int64),  # prompts whose KV cache it holds
        ("waits", np.int64),  # 1 while it has no room for the head of its queue
    ],
    align=True,
)
LINK = np.dtype(
    [
        ("free_s", np.float64),
        ("sent_head", np.int64),  # prompts on their way, in order of arrival
        ("sent_tail", np.int64),
    ],
    align=True,
)


class Links(NamedTuple):
    """The links from prefill to decode workers: who sends, over which links (one for each rank of each
    worker), how far each request is, what sending takes.
    """

    senders: np.ndarray
    each: np.ndarray
    stages: np.ndarray
    transfer: Transfer


@inlined
def sending_s(transfer, tokens, step_s):
    """Return the time that sending a prompt's KV cache takes after the step of `step_s` that made it [s]."""
    whole_s = transfer.token_s * tokens
    if not transfer.overlap:
        return whole_s
    last_s = whole_s / transfer.layers
    return max(last_s, whole_s - step_s * (transfer.layers - 1) / transfer.layers)


@inlined
def release_taken_over(s, prefill, links):
    """Give back, at their senders, the blocks of prompts that a decode worker has taken into a step.

    It takes them in the order in which they were handed to it.
    """
    requests = prefill.stacked.requests
    while s.joins > 0:
        i = s.handed_head
        s.handed_head = links.stages[i].next_sent
        s.joins -= 1
        p = np.int64(links.stages[i].sender)
        sender = links.senders[p]
        leave_rank(prefill, p, np.int64(links.stages[i].rank), i)
        sender.held -= 1
        sender.released_s = max(sender.released_s, requests[i].joined_s)


@inlined
def leave_rank(prefill, p, r, i):
    """Give back the blocks of a prompt that has left a rank of a prefill worker; its cache may keep them."""
    g, ranks, rules = prefill.states[p], prefill.ranks[p], prefill.rules
    prompt = np.int64(prefill.stacked.requests[i].prompt)
    held = blocks_of(prompt, rules.block_tokens)
    if rules.caching != NO_CACHE:
        held -= leave_text(ranks[r], arrays_of(g, ranks, prefill.stacked, r), rules, i, prompt)
    ranks[r].free_blocks += held


# --- the queue, or the queues -----------------------------------------------------------------------


@inlined
def queue_of(prefill, p):
    """Return the record whose queue a worker takes prompts from: its own, or one for all."""
    return prefill.states[p if prefill.rules.routed == IN_TURN else 0]


@inlined
def send_to_prefill(c, prefill, stages, i):
    """Put a request that is sent in its queue: that of its session's worker, else of each worker in turn."""
    p = ZERO
    if prefill.rules.routed == IN_TURN:
        p = np.int64(stages[i].sender)
        if p == NOBODY:
            p = c.released % prefill.states.size
    append_to_queue(prefill.states[p], prefill.stacked.requests, i)
    c.released += 1


@inlined
def next_start(c, prefill, senders):
    """Return which prefill worker can start its next step first as things stand, or NOBODY; and when [s]."""
    found, found_s = NOBODY, math.inf
    if prefill.rules.routed != IN_TURN and prefill.states[0].queue_head == NOBODY:
        return found, found_s
    for p in range(senders.size):
        head = queue_of(prefill, p).queue_head
        if head == NOBODY or senders[p].waits == 1:
            continue
        start_s = max(senders[p].free_s, prefill.stacked.requests[head].arrival_s, c.now_s)
        if start_s < found_s:
            found, found_s = np.int64(p), start_s
        if found_s <= c.now_s:  # none starts before
            break
    return found, found_s


@inlined
def let_senders_try(c, senders):
    """Let workers that had no room for the heads of their queues look again."""
    if c.blocked == 1:
        c.blocked = 0
        for p in range(senders.size):
            senders[p].waits = 0


# --- a step -----------------------------------------------------------------------------------------


@inlined
def rank_for(g, ranks, prefill, wanted, i):
    """Return the rank that takes the next prompt into the step: of those with room, the one with the fewest
    tokens in it, of equals the one with the most free memory, then the first; or NOBODY.

    A rank takes at least one prompt, and more while they fit its token budget. A session stays on the rank
    that is `wanted`, if one is.
    """
    rules, chosen = prefill.rules, NOBODY
    prompt = np.int64(prefill.stacked.requests[i].prompt)
    blocks = blocks_of(prompt, rules.block_tokens)
    for r in range(ranks.size):
        s = ranks[r]
        if wanted != NOBODY and r != wanted:
            continue
        if rules.caching != NO_CACHE:
            look_up(s, arrays_of(g, ranks, prefill.stacked, r), rules, i, s.free_blocks)
        if blocks - s.shared > s.free_blocks:
            continue
        tokens = s.tokens + prompt - tokens_found(s, rules)
        if s.tokens > 0 and (tokens > rules.token_budget or s.prompts >= rules.max_running):
            continue
        if (
            chosen == NOBODY
            or s.tokens < ranks[chosen].tokens
            or (s.tokens == ranks[chosen].tokens and s.free_blocks > ranks[chosen].free_blocks)
        ):
            chosen = np.int64(r)
    return chosen


@inlined
def plan_whole(s, arrays, prefill, i):
    """Plan a whole prompt on a rank, but for what its cache holds of it."""
    rules, r = prefill.rules, arrays.requests[i]
    if rules.caching != NO_CACHE:
        take_found(s, arrays, rules, i)
    start, prompt = np.int64(r.computed), np.int64(r.prompt)
    s.free_blocks -= blocks_of(prompt, rules.block_tokens) - s.shared
    s.tokens += prompt - start
    s.step_pairs += pairs_between(start, prompt)
    if prefill.cost.window_tokens > 0:
        s.step_window_pairs += window_pairs_between(start, prompt, prefill.cost.window_tokens)
    s.prompts += 1
    s.rows += 1
    s.running += 1
    r.computed = prompt
    if rules.caching != NO_CACHE:
        share_text(s, arrays, rules, i)


@inlined
def plan_from_queue(prefill, stages, p, now_s):
    """Plan the step of a prefill worker: as many of its queue as have arrived and find room on its ranks.

    Return the first request that is not in it, or NOBODY, and the highest number of those that are.
    """
    g, ranks, requests = prefill.states[p], prefill.ranks[p], prefill.stacked.requests
    for r in range(ranks.size):
        clear_plan(ranks[r])
    i, newest = np.int64(queue_of(prefill, p).queue_head), NOBODY
    while i != NOBODY and requests[i].arrival_s <= now_s:
        r = rank_for(g, ranks, prefill, np.int64(stages[i].rank), i)
        if r == NOBODY:
            break
        plan_whole(ranks[r], arrays_of(g, ranks, prefill.stacked, r), prefill, i)
        stages[i].rank = r
        newest = max(newest, i)
        i = np.int64(requests[i].next)
    return i, newest


@inlined
def prefill_prompts(prefill, links, p, c):
    """Run one step of whole prompts on a prefill worker and put them on its link; return whether any has
    found room.
    """
    now_s, rules, requests = c.now_s, prefill.rules, prefill.stacked.requests
    g, ranks, queue = prefill.states[p], prefill.ranks[p], queue_of(prefill, p)
    end, newest = plan_from_queue(prefill, links.stages, p, now_s)
    if newest == NOBODY:
        return False
    wait_together(g, ranks, rules, max(now_s, g.clock_s))
    g.newest = max(g.newest, newest)
    duration_s = run_prompts(g, ranks, prefill)
    leave_stages(g, prefill.cost, rules, duration_s)
    links.senders[p].free_s = g.clock_s
    while queue.queue_head != end:
        i = np.int64(queue.queue_head)
        queue.queue_head = requests[i].next
        send_prompt(prefill, links, p, i, now_s, g.returns_s - now_s)
    return True


@inlined
def leave_stages(g, cost, rules, duration_s):
    """Enter when the planned step, which the first stage has done now, leaves the last one, behind the step
    before it.
    """
    if rules.stages == 1:
        g.returns_s = g.clock_s
        return
    through_s = (rules.stages - 1) * last_chunk_s(g, cost, rules, duration_s)
    g.returns_s = max(g.clock_s + through_s, g.returns_s + duration_s)


@inlined
def last_chunk_s(g, cost, rules, duration_s):
    """Return what a stage takes for the last chunk of the planned step, but for its end; a prompt above the
    token budget passes the stages in chunks of that size.
    """
    if g.tokens <= rules.token_budget:
        return duration_s - cost.end_s[g.rows]
    end = np.int64(
        g.step_pairs / g.tokens + 0.5 * g.tokens + 0.25
    )  # the sum of all positions over their number
    start = end - rules.token_budget
    return (
        token_time_s(cost, rules.token_budget)
        + cost.prefill_pair_s * pairs_between(start, end)
        + cost.window_pair_s * window_pairs_between(start, end, cost.window_tokens)
        + cost.prefill_request_s
        + cost.prefill_step_s
        + (cost.row_s[g.rows] - cost.end_s[g.rows])
    )


@inlined
def run_prompts(g, ranks, prefill):
    """Run the planned step of all ranks of a prefill worker; return how long it lasts [s]."""
    tokens = enter_ranks(g, ranks, prefill.cost)
    own_s = planned_time_s(g, prefill.cost)
    duration_s = own_s + group_time_s(prefill.cost, tokens)
    report_together(g, prefill.stacked, prefill.rules, ONE, 0.0, 0.0, tokens, duration_s)
    for r in range(ranks.size):
        s = ranks[r]
        s.measured = g.measured
        report_held(s, arrays_of(g, ranks, prefill.stacked, r), prefill.rules, ONE, ZERO, duration_s)
        if g.measured:
            g.lockstep_s += own_s - planned_time_s(s, prefill.cost) if s.tokens > 0 else own_s
        s.clock_s += duration_s
        s.running = 0
    g.clock_s += duration_s
    return duration_s


@inlined
def enter_ranks(g, ranks, cost):
    """Enter what all ranks have planned in the step of their group; return their tokens, all together."""
    clear_plan(g)
    tokens, longest_s = ZERO, -1.0
    for r in range(ranks.size):
        if ranks[r].tokens == 0:
            continue
        tokens += ranks[r].tokens
        own_s = attention_s(ranks[r], cost)
        enter_most(g, ranks[r], own_s > longest_s)
        longest_s = max(longest_s, own_s)
    return tokens


@inlined
def send_prompt(prefill, links, p, i, start_s, step_s):
    """Note a prompt's first token, and put its KV cache on the sender's link if there is more to make."""
    r, stage, g, ranks = prefill.stacked.requests[i], links.stages[i], prefill.states[p], prefill.ranks[p]
    stage.sender = p
    stage.prefill_start_s = start_s
    stage.prefill_end_s = g.returns_s
    r.first_token_s = r.last_token_s = g.returns_s
    r.target = r.prompt + 1
    r.computed = r.prompt
    if r.rest == 0:
        r.finished_s = g.returns_s
        leave_rank(prefill, p, np.int64(stage.rank), i)
        if prefill.rules.sequels:
            send_sequel(g, arrays_of(g, ranks, prefill.stacked, ZERO), prefill.rules, i)
            return
        r.next = g.done
        g.done = i
        return
    travel_s = links.transfer.latency_s + sending_s(links.transfer, r.prompt, step_s)
    put_on_link(links.each[p * ranks.size + stage.rank], links.stages, i, g.returns_s, travel_s)
    links.senders[p].held += 1


@inlined
def put_on_link(link, stages, i, ready_s, travel_s):
    """Send a KV cache once it is ready and those before it on the link have gone."""
    link.free_s = max(ready_s, link.free_s) + travel_s
    stages[i].transfer_end_s = link.free_s
    stages[i].next_sent = NOBODY
    if link.sent_head == NOBODY:
        link.sent_head = i
    else:
        stages[link.sent_tail].next_sent = i
    link.sent_tail = i


@inlined
def next_arriving(links):
    """Return the link whose next prompt arrives first at the decode pool, or NOBODY; and when [s]."""
    found, found_s = NOBODY, math.inf
    for k in range(links.each.size):
        i = links.each[k].sent_head
        if i != NOBODY and links.stages[i].transfer_end_s < found_s:
            found, found_s = np.int64(k), links.stages[i].transfer_end_s
    return found, found_s


@inlined
def deliver(decode, links, k, now_s):
    """Hand the next prompt on a link to the open decode worker with the fewest unfinished requests, and there
    to the rank with the fewest.
    """
    stages, requests, states = links.stages, decode.stacked.requests, decode.states
    i = links.each[k].sent_head
    links.each[k].sent_head = stages[i].next_sent
    chosen = NOBODY
    for d in range(states.size):
        if states[d].opens_s <= now_s and (
            chosen == NOBODY or states[d].unfinished < states[chosen].unfinished
        ):
            chosen = d
    stages[i].receiver = chosen
    requests[i].arrival_s = stages[i].transfer_end_s
    states[chosen].unfinished += 1
    if decode.ranks.shape[1] == 0:
        receive(states[chosen], requests, stages, i)
        return
    ranks = decode.ranks[chosen]
    s = ranks[choose_replica(ranks, ZERO, False)]
    s.unfinished += 1
    receive(s, requests, stages, i)


@inlined
def receive(s, requests, stages, i):
    """Put a prompt in the queue of an engine, or of a rank, and among those that it has to take over."""
    append_to_queue(s, requests, i)
    if math.isnan(requests[i].joined_s):
        hand_over(s, stages, i)


@inlined
def hand_over(s, stages, i):
    """Put a prompt last among those that a decode worker has still to take over."""
    stages[i].next_sent = NOBODY
    if s.handed_head == NOBODY:
        s.handed_head = i
    else:
        stages[s.handed_tail].next_sent = i
    s.handed_tail = i
