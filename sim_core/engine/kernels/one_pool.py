"""One pool: an engine by itself, or replicas behind a router that sends each arrival to the least loaded."""

from __future__ import annotations

import math

import numpy as np

from sim_core.engine.compiling import Entry, inlined, inner, written_in
from sim_core.engine.kernels.clock import pace_of
from sim_core.engine.kernels.memory.blocks import reset_share
from sim_core.engine.kernels.memory.prefix import open_cache
from sim_core.engine.kernels.queue import (
    append_to_queue,
    bring_coming,
    next_coming_s,
    next_step_s,
    send_first,
    take_coming,
    waiting_head,
)
from sim_core.engine.kernels.records import (
    IN_TURN,
    NOBODY,
    ONE,
    UNROUTED,
    ZERO,
    is_over,
    replica_of,
    run_of,
    scan_turns,
)
from sim_core.engine.kernels.steps import (
    decode_run,
    planned_step,
    prefill_step,
    run_limit,
    wait_until,
    wants_planned_step,
    wants_prefill_step,
)
from sim_core.price.step_cost import TOKEN, TOKEN_BITS


def _advance(s, arrays, cost, rules, until_s):
    """Run all steps that start before `until_s`, one at a time or all equal ones up to the next event.

    This is the one place that calls the three kinds of step, and they are compiled into it: a call that
    passes all arrays costs forty times what it does.
    """
    while s.unfinished > 0 and not is_over(arrays.turns, arrays.stop, ONE):
        if rules.sequels and rules.routed == UNROUTED:
            bring_coming(s, arrays)
        if s.running == 0 and waiting_head(s, arrays.requests) == NOBODY:
            if s.queue_head == NOBODY or arrays.requests[s.queue_head].arrival_s >= until_s:
                return
            wait_until(s, rules, arrays.requests[s.queue_head].arrival_s)
            if rules.sequels and rules.routed == UNROUTED:
                bring_coming(s, arrays)
        if s.clock_s >= until_s:
            return
        if wants_prefill_step(s, arrays, rules):
            prefill_step(s, arrays, cost, rules)
            continue
        pace = pace_of(s, cost)
        limit = 0 if wants_planned_step(s, arrays, rules, pace) else run_limit(s, arrays, cost, rules, pace)
        if limit > 0:
            decode_run(s, arrays, cost, rules, pace, limit, until_s)
        else:
            planned_step(s, arrays, cost, rules, pace)


advance = inner(_advance)
advance_here = written_in(_advance)  # compiled into the loop that calls it: a call costs more than a step


@inner
def load_requests(requests, arrival_s, prompt_tokens, rest):
    """Write the traffic into the request records; `rest` is each answer after its first token, as the token
    clock counts it.
    """
    for i in range(requests.size):
        r = requests[i]
        r.arrival_s = arrival_s[i]
        r.first_token_s = math.nan
        r.finished_s = math.nan
        r.last_token_s = 0.0
        r.itl_max_s = 0.0
        r.joined_s = math.nan
        r.prompt = prompt_tokens[i]
        r.rest = rest[i]
        r.output = 1 + ((rest[i] + TOKEN - 1) >> TOKEN_BITS)
        r.target = prompt_tokens[i]
        r.computed = 0
        r.preemptions = 0


@inner
def open_engine(s, rules):
    """Set an engine to its empty state at time 0; records come zeroed."""
    s.free_blocks = rules.kv_blocks
    s.free_blocks_low = rules.kv_blocks
    reset_share(s)
    s.queue_head = s.queue_tail = NOBODY
    s.running_head = s.running_tail = NOBODY
    s.partial = s.joining = s.newest = s.done = NOBODY
    open_cache(s)


@inner
def open_run(s, arrays, rules, arrival_s, prompt_tokens, rest, concurrency):
    """Set an empty engine before its requests; a concurrency of 0 means open loop."""
    load_requests(arrays.requests, arrival_s, prompt_tokens, rest)
    open_engine(s, rules)
    count = arrays.requests.size
    s.unfinished = count
    if rules.sequels:
        send_first(arrays.coming, arrays.requests, arrays.sessions, concurrency)
        return
    s.released = min(concurrency, count) if concurrency > 0 else count
    for i in range(s.released):
        append_to_queue(s, arrays.requests, i)


@inner
def take_down(requests, arrival_s, first_token_s, finished_s):
    """Write when requests came and answers began and ended; return how often all together were preempted.

    It is given columns of one run: with the bundle of all, the loop around it takes 1.3 times as long.
    """
    preemptions = ZERO
    for i in range(finished_s.size):
        arrival_s[i] = requests[i].arrival_s
        first_token_s[i] = requests[i].first_token_s
        finished_s[i] = requests[i].finished_s
        preemptions += requests[i].preemptions
    return preemptions


@Entry
def run_continuous(states, arrays, cost, rules, times, prompt_tokens, rest, concurrency):
    """Run one engine to the end under `chunked` or `prefill_first`; a concurrency of 0 means open loop.

    One run after the other, each with arrivals, or a number of clients, of its own: they share the memory
    that an engine leaves as it was.
    """
    for run in range(states.size):
        s, own = states[run], run_of(arrays, run)
        open_run(s, own, rules, times.arrival_s[run], prompt_tokens, rest, concurrency[run])
        advance_here(s, own, cost, rules, math.inf)
        if own.turns[0] < 0 or own.stop[0] != 0:
            return
        answered_s = times.first_token_s[run], times.finished_s[run]
        times.preemptions[run] = take_down(own.requests, times.arrival_s[run], *answered_s)


@inlined
def furthest_behind(states, requests, event_s):
    """Return the engine whose next step starts first, before an event; else NOBODY."""
    found, found_s = NOBODY, event_s
    for d in range(states.size):
        step_s = next_step_s(states[d], requests)
        if step_s < found_s:
            found, found_s = np.int64(d), step_s
    return found


@inlined
def choose_replica(states, sent, in_turn):
    """Return the replica to which the next request goes: in turn, or with the fewest unfinished requests."""
    if in_turn:
        return sent % states.size
    chosen = ZERO
    for replica in range(states.size):
        if states[replica].unfinished < states[chosen].unfinished:
            chosen = np.int64(replica)
    return chosen


@Entry
def run_routed(states, stacked, cost, rules, arrival_s, prompt_tokens, rest, concurrency):
    """Run replicas side by side whose requests follow one another; a router sends each one as it comes.

    A step of one replica may bring a request to another. So steps run one at a time, that of the replica
    furthest behind first.
    """
    requests = stacked.requests
    load_requests(requests, arrival_s, prompt_tokens, rest)
    for replica in range(states.size):
        open_engine(states[replica], rules)
        states[replica].engine = replica
    send_first(stacked.coming, requests, stacked.sessions, concurrency)
    sent = ZERO
    while not is_over(stacked.turns, stacked.stop, scan_turns(states)):
        event_s = next_coming_s(stacked.coming)
        d = furthest_behind(states, requests, event_s)
        if d != NOBODY:
            until_s = math.nextafter(next_step_s(states[d], requests), math.inf)
            advance(states[d], replica_of(stacked, d), cost, rules, until_s)
        elif event_s < math.inf:
            d = choose_replica(states, sent, rules.routed == IN_TURN)
            append_to_queue(states[d], requests, take_coming(stacked.coming, requests, stacked.sessions))
            states[d].unfinished += 1
            sent += 1
        else:
            return


@Entry
def run_balanced(states, stacked, cost, rules, drain_rules, arrival_s, prompt_tokens, rest):
    """Run replicas side by side; each arrival goes to the one with the fewest unfinished requests.

    The router sees every replica after all steps that start before the arrival. After the last one,
    `drain_rules` hold, which may measure no more.
    """
    load_requests(stacked.requests, arrival_s, prompt_tokens, rest)
    for replica in range(states.size):
        open_engine(states[replica], rules)
        states[replica].engine = replica
        states[replica].released = stacked.requests.size
    count = stacked.requests.size
    for i in range(count + 1):  # at last, to the end: one call, compiled into this loop
        if is_over(stacked.turns, stacked.stop, scan_turns(states)):
            return
        until_s, own = (arrival_s[i], rules) if i < count else (math.inf, drain_rules)
        chosen = 0
        for replica in range(states.size):
            if next_step_s(states[replica], stacked.requests) < until_s:
                advance_here(states[replica], replica_of(stacked, replica), cost, own, until_s)
            if states[replica].unfinished < states[chosen].unfinished:
                chosen = replica
        if i < count:
            append_to_queue(states[chosen], stacked.requests, i)
            states[chosen].unfinished += 1
