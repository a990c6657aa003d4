"""Two pools in time: prefill workers, a link each, decode workers, and clients that send again."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim_core.engine.compiling import Entry, inlined, written_in
from sim_core.engine.kernels.one_pool import advance_here, furthest_behind, load_requests
from sim_core.engine.kernels.pools.group import advance_group_here, next_group_step_s
from sim_core.engine.kernels.pools.groups import group_behind, open_group
from sim_core.engine.kernels.pools.links import (
    deliver,
    let_senders_try,
    next_arriving,
    next_start,
    prefill_prompts,
    release_taken_over,
    send_to_prefill,
)
from sim_core.engine.kernels.pools.moves import begin_moves, finish_moves
from sim_core.engine.kernels.queue import next_coming_s, next_step_s, send_first, take_coming
from sim_core.engine.kernels.records import (
    BY_BLOCK,
    BY_SESSION,
    NOBODY,
    ZERO,
    Arrays,
    Rules,
    is_over,
    replica_of,
    scan_turns,
)
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
    """The workers of one pool: their states and arrays, what their steps cost, and their rules.

    A worker is a group of ranks, which have a row each of `ranks` and arrays one after the other; or, where
    it decodes and has one, an engine by itself, and its row is empty.
    """

    states: np.ndarray
    ranks: np.ndarray
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
        ("released", np.int64),  # requests that have been sent
        ("returning", np.int64),  # clients in the heap of those that will send again
        ("blocked", np.int64),  # 1 while some prefill worker has no room for the head of its queue
        ("moves", np.int64),  # moves asked for so far
        ("begun", np.int64),  # those whose worker has been told
        ("draining", np.int64),  # those whose worker has not yet given up its work
    ],
    align=True,
)


@inlined
def next_in_turn(states, requests, d, event_s):
    """Return the first engine from the d-th on whose next step starts before an event, else NOBODY."""
    while d < states.size:
        if next_step_s(states[d], requests) < event_s:
            return d
        d += 1
    return NOBODY


@written_in
def decode_until(c, prefill, decode, links, heap, event_s):
    """Run the decode workers up to an event; return whether a step has run that may bring an earlier one.

    While a step may let a client send again, make room for a waiting prompt, leave texts to a prefix cache or
    end a worker's work in its pool, steps run one at a time, that of the worker furthest behind first. Where
    no step of one worker concerns another or brings an event, each runs up to the event in its turn.
    """
    stacked, requests = decode.stacked, decode.stacked.requests
    closed = c.released < requests.size
    one_by_one = c.blocked == 1 or closed or c.draining > 0 or keeps_texts(prefill.rules)
    d = NOBODY
    while True:  # one call of `advance` for both: it is compiled into this loop
        if one_by_one:
            d = furthest_behind(decode.states, requests, event_s)
        else:
            d = next_in_turn(decode.states, requests, d + 1, event_s)
        if d == NOBODY:
            return False
        s = decode.states[d]
        step_until_s = event_s
        if one_by_one:
            if is_over(stacked.turns, stacked.stop, scan_turns(decode.states)):
                return False
            c.now_s = max(c.now_s, next_step_s(s, requests))
            step_until_s = math.nextafter(c.now_s, math.inf)
        unfinished = s.unfinished
        advance_here(s, replica_of(decode.stacked, d), decode.cost, decode.rules, step_until_s)
        joins = s.joins
        release_taken_over(s, prefill, links)
        if not one_by_one:
            continue
        if closed:
            c.returning = collect_done(s, requests, heap, c.returning, decode.rules.turnaround_s)
        if joins > 0:
            let_senders_try(c, links.senders)
        if joins > 0 or s.unfinished < unfinished:
            return True


@inlined
def keeps_texts(rules):
    """Return whether it matters in which order prompts leave a prefill worker: its cache keeps them so."""
    return rules.caching == BY_SESSION or rules.caching == BY_BLOCK


@inlined
def send_again(c, prefill, links, clients):
    """Send the request that comes first: of a session, or the next of the list by the next client."""
    requests, i = prefill.stacked.requests, c.released
    if prefill.rules.sequels:
        i = take_coming(prefill.stacked.coming, requests, prefill.stacked.sessions)
    else:
        requests[i].arrival_s = clients.again_s[0]
        pop(clients.again_s, c.returning)
        c.returning -= 1
    clients.sent_s[i] = requests[i].arrival_s
    send_to_prefill(c, prefill, links.stages, i)


@inlined
def start_prefill(c, prefill, links, p, heap):
    """Let a prefill worker take prompts, or note that it has no room."""
    if not prefill_prompts(prefill, links, p, c):
        c.blocked = links.senders[p].waits = 1
        return
    let_senders_try(c, links.senders)  # there is another head
    requests, turnaround_s = prefill.stacked.requests, prefill.rules.turnaround_s
    c.returning = collect_done(prefill.states[p], requests, heap, c.returning, turnaround_s)


# --- decode workers of several ranks ----------------------------------------------------------------


@inlined
def next_group_in_turn(decode, d, event_s):
    """Return the first worker from the d-th on whose next step starts before an event, else NOBODY."""
    while d < decode.states.size:
        if next_group_step_s(decode.ranks[d], decode.stacked.requests) < event_s:
            return d
        d += 1
    return NOBODY


@written_in
def decode_groups_until(c, prefill, decode, links, heap, event_s):
    """Run decode workers of several ranks up to an event, as `decode_until` does those of one."""
    stacked, requests = decode.stacked, decode.stacked.requests
    closed = c.released < requests.size
    one_by_one = c.blocked == 1 or closed or c.draining > 0 or keeps_texts(prefill.rules)
    d = NOBODY
    while True:  # one call of `advance_group` for both: it is compiled into this loop
        if one_by_one:
            d = group_behind(decode, requests, event_s)
        else:
            d = next_group_in_turn(decode, d + 1, event_s)
        if d == NOBODY:
            return False
        g, ranks = decode.states[d], decode.ranks[d]
        step_until_s = event_s
        if one_by_one:
            if is_over(stacked.turns, stacked.stop, scan_turns(decode.states)):
                return False
            c.now_s = max(c.now_s, next_group_step_s(ranks, requests))
            step_until_s = math.nextafter(c.now_s, math.inf)
        unfinished, joins = g.unfinished, ZERO
        advance_group_here(g, ranks, stacked, decode.cost, decode.rules, step_until_s)
        for r in range(ranks.size):
            joins += ranks[r].joins
            release_taken_over(ranks[r], prefill, links)
            if closed:
                c.returning = collect_done(ranks[r], requests, heap, c.returning, decode.rules.turnaround_s)
        if not one_by_one:
            continue
        if joins > 0:
            let_senders_try(c, links.senders)
        if joins > 0 or g.unfinished < unfinished:
            return True


# --- events ----------------------------------------------------------------------------------------


class Event(NamedTuple):
    """What happens next: when; when a client sends again, when a prompt arrives, and on whose link; and which
    prefill worker starts if neither does before.
    """

    time_s: float
    again_s: float
    arrival_s: float
    arriving: int
    worker: int


@written_in
def next_event(c, prefill, links, clients):
    """Return what happens next as things stand; infinite times where nothing does."""
    arriving, arrival_s = next_arriving(links)
    again_s = math.inf
    if prefill.rules.sequels:
        again_s = next_coming_s(prefill.stacked.coming)
    elif c.returning > 0 and c.released < clients.sent_s.size:
        again_s = clients.again_s[0]
    worker, start_s = next_start(c, prefill, links.senders)
    return Event(min(start_s, arrival_s, again_s), again_s, arrival_s, arriving, worker)


@written_in
def let_happen(c, event, prefill, decode, links, clients):
    """Let an event happen; of those at one moment first a client's, then the network's, then a worker's."""
    c.now_s = max(c.now_s, event.time_s)
    if event.again_s <= event.time_s:
        send_again(c, prefill, links, clients)
    elif event.arrival_s <= event.time_s:
        deliver(decode, links, event.arriving, c.now_s)
    else:
        start_prefill(c, prefill, links, event.worker, clients.again_s)


@written_in
def let_happen_before(c, event, until_s, prefill, decode, links, clients):
    """Let an event happen that comes before a moment; else let the moment pass, and return that it has."""
    if event.time_s < until_s:
        let_happen(c, event, prefill, decode, links, clients)
        return False
    if until_s < math.inf:
        c.now_s = max(c.now_s, until_s)
    return True


# --- from Python -----------------------------------------------------------------------------------


@Entry
def open_pools(clerks, prefill, decode, links, sent_s, prompts, rest, clients):
    """Set both pools to their empty state at time 0, every worker open; no `clients` mean an open loop."""
    requests, c = decode.stacked.requests, clerks[0]
    load_requests(requests, sent_s, prompts, rest)
    for p in range(prefill.states.size):
        open_group(prefill.states[p], prefill.ranks[p], prefill.rules, p)
    for k in range(links.each.size):
        links.each[k].sent_head = links.each[k].sent_tail = NOBODY
    for d in range(decode.states.size):
        g, ranks = decode.states[d], decode.ranks[d]
        open_group(g, ranks, decode.rules, d)
        g.released = requests.size
        g.handed_head = g.handed_tail = NOBODY
        for r in range(ranks.size):
            ranks[r].handed_head = ranks[r].handed_tail = NOBODY
    if prefill.rules.sequels:
        send_first(prefill.stacked.coming, requests, prefill.stacked.sessions, clients)
        return
    for i in range(min(clients, requests.size) if clients > 0 else requests.size):
        send_to_prefill(c, prefill, links.stages, i)


@Entry
def advance_pools(clerks, prefill, decode, links, clients, moving, untils_s):
    """Run prefill and decode workers side by side, everything that happens before each of `untils_s` in turn.

    First the workers leave that have been asked to. Then events in order of time: a client sends again, a
    prompt arrives at the decode pool, a prefill worker starts; decode workers run all steps that start
    before. `clients.sent_s` holds the arrivals; in a closed loop it is completed here.
    """
    stacked, c = decode.stacked, clerks[0]
    begin_moves(c, decode, links, moving)
    part = 0
    while part < untils_s.size and not is_over(stacked.turns, stacked.stop, scan_turns(decode.states)):
        if c.draining > 0:
            finish_moves(c, links, decode, moving)
        event, until_s = next_event(c, prefill, links, clients), untils_s[part]
        if decode_until(c, prefill, decode, links, clients.again_s, min(event.time_s, until_s)):
            continue
        if let_happen_before(c, event, until_s, prefill, decode, links, clients):
            part += 1


@Entry
def advance_pools_of_ranks(clerks, prefill, decode, links, clients, moving, untils_s):
    """Do as `advance_pools` where decode workers have several ranks."""
    stacked, c = decode.stacked, clerks[0]
    begin_moves(c, decode, links, moving)
    part = 0
    while part < untils_s.size and not is_over(stacked.turns, stacked.stop, scan_turns(decode.states)):
        if c.draining > 0:
            finish_moves(c, links, decode, moving)
        event, until_s = next_event(c, prefill, links, clients), untils_s[part]
        if decode_groups_until(c, prefill, decode, links, clients.again_s, min(event.time_s, until_s)):
            continue
        if let_happen_before(c, event, until_s, prefill, decode, links, clients):
            part += 1
