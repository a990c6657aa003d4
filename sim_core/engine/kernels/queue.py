"""The waiting queue and the running list, both linked through the requests."""

from __future__ import annotations

import math

import numpy as np

from sim_core.engine.compiling import Entry, inlined, inner
from sim_core.engine.kernels.records import NOBODY, ONE, UNROUTED
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


# --- requests that are sent by and by ---------------------------------------------------------------


@Entry
def link_turns(turns, last, session, known_tokens, follows_s, prompt_tokens):
    """Write for each request which turn it follows; at least one token of a prompt is new.

    `last` has a place for each session, first NOBODY.
    """
    for i in range(turns.size):
        turn = turns[i]
        turn.before = turn.next = NOBODY
        turn.known = 0
        turn.follows_s = follows_s[i]
        if session[i] < 0:
            continue
        before = last[session[i]]
        last[session[i]] = i
        if before == NOBODY:
            continue
        turn.before = before
        turn.known = min(np.int64(known_tokens[i]), prompt_tokens[i] - 1)
        if math.isfinite(follows_s[i]):
            turns[before].next = i


@inlined
def is_sent_before(requests, i, j):
    """Return whether a request is sent before another one; of those at one moment, the lower number."""
    one_s, other_s = requests[i].arrival_s, requests[j].arrival_s
    return one_s < other_s or (one_s == other_s and i < j)


@inner
def push_coming(coming, requests, i):
    """Add a request to the heap of those that will be sent."""
    coming[0] += 1
    place = coming[0]
    while place > 1 and is_sent_before(requests, i, coming[place >> 1]):
        coming[place] = coming[place >> 1]
        place >>= 1
    coming[place] = i


@inner
def pop_coming(coming, requests):
    """Take the request that is sent first off the heap; return it."""
    first, last = coming[1], coming[coming[0]]
    coming[0] -= 1
    place = ONE
    while 2 * place <= coming[0]:
        child = 2 * place
        if child < coming[0] and is_sent_before(requests, coming[child + 1], coming[child]):
            child += 1
        if is_sent_before(requests, last, coming[child]):
            break
        coming[place] = coming[child]
        place = child
    coming[place] = last
    return first


@inner
def bring_coming(s, arrays):
    """Put those that have been sent by now in the queue; where it is empty, the one that will be first."""
    while arrays.coming[0] > 0 and (
        s.queue_head == NOBODY or arrays.requests[arrays.coming[1]].arrival_s <= s.clock_s
    ):
        append_to_queue(s, arrays.requests, pop_coming(arrays.coming, arrays.requests))


@inner
def recall_coming(s, arrays):
    """Take a request out of the queue that has not been sent yet, where nobody else is."""
    head = np.int64(s.queue_head)
    if head != NOBODY and arrays.requests[head].arrival_s > s.clock_s:
        s.queue_head = NOBODY
        push_coming(arrays.coming, arrays.requests, head)


@inlined
def is_first(turn):
    """Return whether a request waits for no other one of its session before it is sent."""
    return turn.before == NOBODY or math.isnan(turn.follows_s)


@inner
def send_sequel(s, arrays, rules, i):
    """Let the session of a request that is finished go on; in a closed loop, a new one takes its place."""
    j = np.int64(arrays.sessions[i].next)
    if j != NOBODY:
        send_later(s, arrays, rules, j, s.clock_s + rules.turnaround_s + arrays.sessions[j].follows_s)
        return
    begin_session(s, arrays, rules, s.clock_s + rules.turnaround_s)


@inlined
def begin_session(s, arrays, rules, arrival_s):
    """Let the next session begin, if there is one, when its user has thought."""
    last = arrays.coming.size - 1
    i = arrays.coming[last]
    while i < arrays.sessions.size and not is_first(arrays.sessions[i]):
        i += 1
    if i < arrays.sessions.size:
        if arrays.sessions[i].follows_s > 0.0:
            arrival_s += arrays.sessions[i].follows_s
        send_later(s, arrays, rules, i, arrival_s)
        i += 1
    arrays.coming[last] = i


@inner
def send_later(s, arrays, rules, i, arrival_s):
    """Let a request be sent at a moment that has not passed."""
    arrays.requests[i].arrival_s = arrival_s
    head = np.int64(s.queue_head)
    while (
        rules.routed == UNROUTED  # a router has sent what is in the queue, and counted it
        and head != NOBODY
        and arrays.requests[head].arrival_s >= s.clock_s  # not sent yet, or just now
    ):
        s.queue_head = arrays.requests[head].next
        push_coming(arrays.coming, arrays.requests, head)
        head = np.int64(s.queue_head)
    push_coming(arrays.coming, arrays.requests, i)


# --- the head of the queue --------------------------------------------------------------------------


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
def target_of(r):
    """Return the tokens that must be in the KV cache before the next token can be made."""
    return np.int64(r.target)


@inlined
def left_to_wait(r):
    """Return the output tokens that a request has still to make while it does not decode."""
    later = (r.rest + TOKEN - 1) >> TOKEN_BITS
    return later + 1 if r.target == r.prompt else later


@inlined
def is_returning_decode(r, rules):
    """Return whether a waiting request is a decode: its KV cache lies in host memory, or came from a pool."""
    return r.target > r.prompt and r.computed > 0
