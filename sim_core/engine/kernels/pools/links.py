"""Prefill workers: steps of whole prompts, and the links over which their KV caches are sent."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.log import report_steps
from sim_core.engine.kernels.memory.blocks import blocks_of
from sim_core.engine.kernels.memory.prefix import fixed_blocks
from sim_core.engine.kernels.plan import clear_plan
from sim_core.engine.kernels.queue import append_to_queue
from sim_core.engine.kernels.records import NOBODY, ONE, ZERO
from sim_core.engine.kernels.step_time import pairs_between, planned_time_s, window_pairs_between
from sim_core.engine.kernels.steps import wait_until
from sim_core.price.step_cost import Transfer

STAGE = np.dtype(
    [
        ("prefill_start_s", np.float64),
        ("prefill_end_s", np.float64),
        ("transfer_end_s", np.float64),
        ("sender", np.int32),
        ("receiver", np.int32),
        (
            "next_sent",
            np.int32,
        ),  # next one on the sender's link, then among the receiver's prompts to take over
    ],
    align=True,
)
SENDER = np.dtype(
    [
        ("free_s", np.float64),  # end of the worker's step; infinite while it takes no prompts
        ("link_free_s", np.float64),
        ("released_s", np.float64),  # when a decode worker last took over a KV cache that it held
        ("held", np.int64),  # prompts whose KV cache it holds
        ("sent_head", np.int64),  # prompts on their way, in order of arrival
        ("sent_tail", np.int64),
    ],
    align=True,
)


class Links(NamedTuple):
    """The links from prefill to decode workers: who sends, how far each request is, what sending takes."""

    senders: np.ndarray
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
        p = links.stages[i].sender
        sender = links.senders[p]
        blocks = blocks_of(np.int64(requests[i].prompt), prefill.rules.block_tokens)
        prefill.states[p].free_blocks += blocks
        sender.held -= 1
        sender.released_s = max(sender.released_s, requests[i].joined_s)


@inlined
def free_sender(prefill, senders, first, now_s):
    """Return the first worker that is free now and has room for the prompt at the head, or NOBODY."""
    prompt = np.int64(prefill.stacked.requests[first].prompt)
    needed = blocks_of(prompt, prefill.rules.block_tokens)
    for p in range(senders.size):
        if senders[p].free_s <= now_s and needed <= prefill.states[p].free_blocks:
            return p
    return NOBODY


@inlined
def next_free_s(senders, after_s):
    """Return when the next worker becomes free after a moment [s]."""
    found = math.inf
    for p in range(senders.size):
        if after_s < senders[p].free_s < found:
            found = senders[p].free_s
    return found


@inner
def prefill_prompts(s, arrays, cost, rules, links, p, c):
    """Run one step of whole prompts on a prefill worker and put them on its link; return the next one.

    As many as have arrived, fit the token budget and the worker's memory; at least one.
    """
    now_s, first = c.now_s, c.taken
    wait_until(s, rules, max(now_s, s.clock_s))
    clear_plan(s)
    end = first
    while end < c.released and arrays.requests[end].arrival_s <= now_s:
        r = arrays.requests[end]
        prompt = np.int64(r.prompt)
        blocks = blocks_of(prompt, rules.block_tokens)
        start = fixed_blocks(rules, prompt) * rules.block_tokens
        if s.tokens > 0 and (
            s.tokens + prompt - start > rules.token_budget or end - first >= rules.max_running
        ):
            break
        if blocks > s.free_blocks:
            break
        s.free_blocks -= blocks
        s.tokens += prompt - start
        s.step_pairs += pairs_between(start, prompt)
        if cost.window_tokens > 0:
            s.step_window_pairs += window_pairs_between(start, prompt, cost.window_tokens)
        s.step_sent += prompt
        s.step_reused += start
        end += 1
    s.rows = s.prompts = s.running = end - first
    s.newest = end - 1
    duration_s = planned_time_s(s, cost)
    report_steps(s, arrays, rules, ONE, 0.0, 0.0, ZERO, duration_s)
    s.clock_s += duration_s
    links.senders[p].free_s = s.clock_s
    for i in range(first, end):
        send_prompt(s, arrays.requests, rules, links, p, i, now_s, duration_s)
    s.running = 0
    return end


@inlined
def send_prompt(s, requests, rules, links, p, i, start_s, step_s):
    """Note a prompt's first token, and put its KV cache on the sender's link if there is more to make."""
    r, stage, sender = requests[i], links.stages[i], links.senders[p]
    stage.sender = p
    stage.prefill_start_s = start_s
    stage.prefill_end_s = s.clock_s
    r.first_token_s = r.last_token_s = s.clock_s
    r.target = r.prompt + 1
    r.computed = r.prompt
    if r.rest == 0:
        r.finished_s = s.clock_s
        s.free_blocks += blocks_of(np.int64(r.prompt), rules.block_tokens)
        r.next = s.done
        s.done = i
        return
    travel_s = links.transfer.latency_s + sending_s(links.transfer, r.prompt, step_s)
    put_on_link(sender, links.stages, i, s.clock_s, travel_s)
    sender.held += 1


@inlined
def put_on_link(sender, stages, i, ready_s, travel_s):
    """Send a KV cache once it is ready and those before it on the link have gone."""
    sender.link_free_s = max(ready_s, sender.link_free_s) + travel_s
    stages[i].transfer_end_s = sender.link_free_s
    stages[i].next_sent = NOBODY
    if sender.sent_head == NOBODY:
        sender.sent_head = i
    else:
        stages[sender.sent_tail].next_sent = i
    sender.sent_tail = i


@inlined
def next_arriving(links):
    """Return the worker whose next prompt is the first to arrive at the decode pool, or NOBODY."""
    senders, stages = links.senders, links.stages
    found = NOBODY
    for p in range(senders.size):
        i = senders[p].sent_head
        if i != NOBODY and (
            found == NOBODY or stages[i].transfer_end_s < stages[senders[found].sent_head].transfer_end_s
        ):
            found = p
    return found


@inlined
def deliver(states, requests, links, p, now_s):
    """Hand the next prompt on a link to the open decode worker with the fewest unfinished requests."""
    stages, sender = links.stages, links.senders[p]
    i = sender.sent_head
    sender.sent_head = stages[i].next_sent
    chosen = NOBODY
    for d in range(states.size):
        if states[d].opens_s <= now_s and (
            chosen == NOBODY or states[d].unfinished < states[chosen].unfinished
        ):
            chosen = d
    stages[i].receiver = chosen
    requests[i].arrival_s = stages[i].transfer_end_s
    append_to_queue(states[chosen], requests, i)
    states[chosen].unfinished += 1
    if math.isnan(requests[i].joined_s):
        hand_over(states[chosen], stages, i)


@inlined
def hand_over(s, stages, i):
    """Put a prompt last among those that a decode worker has still to take over."""
    stages[i].next_sent = NOBODY
    if s.handed_head == NOBODY:
        s.handed_head = i
    else:
        stages[s.handed_tail].next_sent = i
    s.handed_tail = i
