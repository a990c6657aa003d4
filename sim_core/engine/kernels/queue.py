"""The waiting queue and the running list, both linked through the requests."""

from __future__ import annotations

from sim_core.engine.compiling import inlined
from sim_core.engine.kernels.records import NOBODY


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
def target_of(r):
    """Return the tokens that must be in the KV cache before the next token can be made."""
    return r.prompt + r.output - r.left


@inlined
def is_returning_decode(r, rules):
    """Return whether a waiting request is a decode: its KV cache lies in host memory, or came from a pool."""
    return r.left < r.output and r.computed > 0
