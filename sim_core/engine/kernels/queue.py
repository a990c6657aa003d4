"""The waiting queue and the running list, both linked through the requests."""

from __future__ import annotations

import math

from sim_core.engine.compiling import inlined
from sim_core.engine.kernels.records import NOBODY
from sim_core.price.step_cost import TOKEN, TOKEN_BITS


@inlined
def append_to_queue(s, requests, i):
    requests[i].next = NOBODY
    if s.queue_head == NOBODY:
        s.queue_head = i
    else:
        requests[s.queue_tail].next = i
    s.queue_tail = i


@inlined
def return_to_queue(s, requests, i):
    """Put a preempted request before everybody who waits."""
    requests[i].next = s.queue_head
    if s.queue_head == NOBODY:
        s.queue_tail = i
    s.queue_head = i


@inlined
def waiting_head(s, requests):
    """Return the request at the head of the queue if it has arrived, else NOBODY."""
    i = s.queue_head
    if i != NOBODY and requests[i].arrival_s <= s.clock_s:
        return i
    return NOBODY


@inlined
def next_step_s(s, requests):
    """Return when an engine's next step starts [s]; infinite while it has nothing to do."""
    if s.running > 0 or waiting_head(s, requests) != NOBODY:
        return s.clock_s
    return math.inf if s.queue_head == NOBODY else requests[s.queue_head].arrival_s


@inlined
def admit(s, requests):
    """Move the head of the queue to the tail of the running list; return it."""
    i = s.queue_head
    s.queue_head = requests[i].next
    join_running(s, requests, i)
    s.newest = max(s.newest, i)
    return i


@inlined
def join_running(s, requests, i):
    r = requests[i]
    r.previous = s.running_tail
    r.next = NOBODY
    if s.running_tail == NOBODY:
        s.running_head = i
    else:
        requests[s.running_tail].next = i
    s.running_tail = i
    s.running += 1


@inlined
def leave_running(s, requests, i):
    r = requests[i]
    if r.previous == NOBODY:
        s.running_head = r.next
    else:
        requests[r.previous].next = r.next
    if r.next == NOBODY:
        s.running_tail = r.previous
    else:
        requests[r.next].previous = r.previous
    s.running -= 1


@inlined
def left_to_wait(r):
    """Return the output tokens that a request has still to make while it does not decode."""
    later = (r.rest + TOKEN - 1) >> TOKEN_BITS
    return later + 1 if r.target == r.prompt else later


@inlined
def is_returning_decode(r, rules):
    """Return whether a waiting request is a decode: its KV cache lies in host memory, or came from a pool."""
    return r.target > r.prompt and r.computed > 0
