"""Two pools in time: prefill workers, a link each, decode workers, and clients that send again."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim_core.engine.compiling import Entry, inlined
from sim_core.engine.kernels.one_pool import advance, furthest_behind, load_requests, open_engine
from sim_core.engine.kernels.pools.links import (
    deliver,
    free_sender,
    next_arriving,
    next_free_s,
    prefill_prompts,
    release_taken_over,
)
from sim_core.engine.kernels.pools.moves import begin_moves, finish_moves
from sim_core.engine.kernels.queue import next_step_s
from sim_core.engine.kernels.records import NOBODY, Arrays, Rules, is_over, replica_of, scan_turns
from sim_core.price.step_cost import StepCost


@inlined
def push(heap, size, value):
    """Add a value to a heap of `size` values."""
    place = size
    while place > 0 and heap[(place - 1) // 2] > value:
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = value


@inlined
def pop(heap, size):
    """Take the smallest value off a heap of `size` values, which then has one less."""
    last = heap[size - 1]
    place = 0
    while 2 * place + 1 < size - 1:
        child = 2 * place + 1
        if child + 1 < size - 1 and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= last:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = last


@inlined
def collect_done(s, requests, heap, size, turnaround_s):
    """Move a worker's finished requests to the heap of moments at which their clients send again."""
    i = s.done
    while i != NOBODY:
        push(heap, size, requests[i].finished_s + turnaround_s)
        size += 1
        i = requests[i].next
    s.done = NOBODY
    return size


class Workers(NamedTuple):
    """The workers of one pool: their states and arrays, what their steps cost, and their rules."""

    states: np.ndarray
    stacked: Arrays
    cost: StepCost
    rules: Rules


class Clients(NamedTuple):
    """Who sends: the moments at which requests are sent; in a closed loop, when clients will send again."""

    sent_s: np.ndarray
    again_s: np.ndarray  # a heap


CLERK = np.dtype(
    [
        ("now_s", np.float64),  # time of the last event
        ("taken", np.int64),  # requests that a prefill worker has taken
        ("released", np.int64),  # requests that have been sent
        ("returning", np.int64),  # clients in the heap of those that will send again
        ("blocked", np.int64),  # 1 while no free prefill worker has room for the head of the queue
        ("blocked_s", np.float64),  # when that was found last
        ("moves", np.int64),  # moves asked for so far
        ("begun", np.int64),  # those whose worker has been told
        ("draining", np.int64),  # those whose worker has not yet given up its work
    ],
    align=True,
)


@inlined
def next_start_s(c, senders, sent_s):
    """Return when a prefill worker can start its next step as things stand [s]."""
    if c.taken >= c.released:
        return math.inf
    if c.blocked == 1:
        return next_free_s(senders, c.blocked_s)
    free_s = math.inf
    for p in range(senders.size):
        free_s = min(free_s, senders[p].free_s)
    return max(free_s, sent_s[c.taken], c.now_s)


@inlined
def decode_in_turn(prefill, decode, links, event_s):
    """Run each decode worker up to an event, where no step of one concerns another or brings an event."""
    requests = decode.stacked.requests
    for d in range(decode.states.size):
        s = decode.states[d]
        if next_step_s(s, requests) < event_s:
            advance(s, replica_of(decode.stacked, d), decode.cost, decode.rules, event_s)
            release_taken_over(s, prefill, links)


@inlined
def decode_until(c, prefill, decode, links, heap, event_s):
    """Run the decode workers up to an event; return whether a step has run that may bring an earlier one.

    While a step may let a client send again, make room for a waiting prompt or end a worker's work in its
    pool, steps run one at a time, that of the worker furthest behind first.
    """
    stacked, requests = decode.stacked, decode.stacked.requests
    closed = c.released < requests.size
    if c.blocked == 0 and not closed and c.draining == 0:
        decode_in_turn(prefill, decode, links, event_s)
        return False
    while True:
        d = furthest_behind(decode.states, requests, event_s)
        if d == NOBODY or is_over(stacked.turns, stacked.stop, scan_turns(decode.states)):
            return False
        s = decode.states[d]
        c.now_s = max(c.now_s, next_step_s(s, requests))
        unfinished = s.unfinished
        step_until_s = math.nextafter(c.now_s, math.inf)
        advance(s, replica_of(decode.stacked, d), decode.cost, decode.rules, step_until_s)
        joins = s.joins
        release_taken_over(s, prefill, links)
        if closed:
            c.returning = collect_done(s, requests, heap, c.returning, decode.rules.turnaround_s)
        if joins > 0:
            c.blocked = 0
        if joins > 0 or s.unfinished < unfinished:
            return True


@inlined
def send_again(c, requests, clients):
    """Let the next client send the next request of the list."""
    clients.sent_s[c.released] = requests[c.released].arrival_s = clients.again_s[0]
    pop(clients.again_s, c.returning)
    c.returning -= 1
    c.released += 1


@inlined
def start_prefill(c, prefill, links, heap):
    """Let a prefill worker take prompts, or note that none has room."""
    p = free_sender(prefill, links.senders, c.taken, c.now_s)
    c.blocked = 1 if p == NOBODY else 0
    if p == NOBODY:
        c.blocked_s = c.now_s
        return
    s, arrays = prefill.states[p], replica_of(prefill.stacked, p)
    c.taken = prefill_prompts(s, arrays, prefill.cost, prefill.rules, links, p, c)
    c.returning = collect_done(s, arrays.requests, heap, c.returning, prefill.rules.turnaround_s)


@Entry
def open_pools(clerks, prefill, decode, senders, sent_s, prompts, rest, clients):
    """Set both pools to their empty state at time 0, every worker open; no `clients` mean an open loop."""
    requests, c = decode.stacked.requests, clerks[0]
    load_requests(requests, sent_s, prompts, rest)
    for p in range(senders.size):
        open_engine(prefill.states[p], prefill.rules)
        senders[p].sent_head = senders[p].sent_tail = NOBODY
    for d in range(decode.states.size):
        open_engine(decode.states[d], decode.rules)
        decode.states[d].handed_head = decode.states[d].handed_tail = NOBODY
        decode.states[d].released = requests.size
    c.released = min(clients, requests.size) if clients > 0 else requests.size


@Entry
def advance_pools(clerks, prefill, decode, links, clients, moving, untils_s):
    """Run prefill and decode workers side by side, everything that happens before each of `untils_s` in turn.

    First the workers leave that have been asked to. Then events in order of time: a client sends again, a
    prompt arrives at the decode pool, a prefill worker starts; decode workers run all steps that start
    before. `clients.sent_s` holds the arrivals; in a closed loop it is completed here.
    """
    stacked, requests = decode.stacked, decode.stacked.requests
    c, heap, senders, stages = clerks[0], clients.again_s, links.senders, links.stages
    begin_moves(c, decode, links, moving)
    part = 0
    while part < untils_s.size and not is_over(stacked.turns, stacked.stop, scan_turns(decode.states)):
        until_s = untils_s[part]
        if c.draining > 0:
            finish_moves(c, senders, decode, moving)
        arriving = next_arriving(links)
        arrival_s = math.inf if arriving == NOBODY else stages[senders[arriving].sent_head].transfer_end_s
        again_s = heap[0] if c.returning > 0 and c.released < requests.size else math.inf
        event_s = min(next_start_s(c, senders, clients.sent_s), arrival_s, again_s)
        if decode_until(c, prefill, decode, links, heap, min(event_s, until_s)):
            continue
        if event_s >= until_s:
            part += 1
            if until_s < math.inf:
                c.now_s = max(c.now_s, until_s)
            continue
        c.now_s = max(c.now_s, event_s)
        if again_s <= event_s:
            send_again(c, requests, clients)
        elif arrival_s <= event_s:
            deliver(decode.states, requests, links, arriving, c.now_s)
        else:
            start_prefill(c, prefill, links, heap)
