"""The waiting queue and the running list, both linked through the requests."""

from __future__ import annotations

import math

import numpy as np

from sim_core.engine.compiling import Entry, inlined, inner
from sim_core.engine.kernels.records import NOBODY, ONE, UNROUTED, ZERO
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
def is_first(turn):
    """Return whether a request waits for no other one of its session before it is sent."""
    return turn.before == NOBODY or math.isnan(turn.follows_s)


@inlined
def next_first(sessions, i):
    """Return the first request from the i-th on that waits for no other one, or how many there are."""
    while i < sessions.size and not is_first(sessions[i]):
        i += 1
    return i


@inlined
def is_sent_before(arrival_s, i, other_s, j):
    """Return whether a request is sent before another one; of those at one moment, the lower number."""
    return arrival_s < other_s or (arrival_s == other_s and i < j)


@inlined
def next_coming_s(coming):
    """Return when the next request is sent [s]; infinite while none is known to be."""
    return min(coming[1].arrival_s, coming[coming.size - 1].arrival_s)


@inlined
def place_coming(one, arrival_s, i):
    one.arrival_s = arrival_s
    one.request = i


@inlined
def push_coming(coming, arrival_s, i):
    """Add a request to the heap of those that will be sent."""
    coming[0].request += 1
    place = coming[0].request
    while place > 1 and is_sent_before(
        arrival_s, i, coming[place >> 1].arrival_s, coming[place >> 1].request
    ):
        place_coming(coming[place], coming[place >> 1].arrival_s, coming[place >> 1].request)
        place >>= 1
    place_coming(coming[place], arrival_s, i)


@inlined
def pop_coming(coming, requests):
    """Take the request that is sent first off the heap, and enter when that is; return it."""
    first, count = coming[1].request, coming[0].request - 1
    requests[first].arrival_s = coming[1].arrival_s
    last_s, last = coming[count + 1].arrival_s, coming[count + 1].request
    coming[0].request = count
    place = ONE
    while 2 * place <= count:
        child = 2 * place
        if child < count and is_sent_before(
            coming[child + 1].arrival_s,
            coming[child + 1].request,
            coming[child].arrival_s,
            coming[child].request,
        ):
            child += 1
        if is_sent_before(last_s, last, coming[child].arrival_s, coming[child].request):
            break
        place_coming(coming[place], coming[child].arrival_s, coming[child].request)
        place = child
    place_coming(coming[place], last_s if count > 0 else math.inf, last)
    return first


@inlined
def take_coming(coming, requests, sessions):
    """Return the request that is sent next, and take it off those that will be."""
    begins = coming[coming.size - 1]
    if not is_sent_before(begins.arrival_s, begins.request, coming[1].arrival_s, coming[1].request):
        return pop_coming(coming, requests)
    first = begins.request
    following = next_first(sessions, first + 1)
    arrival_s = requests[following].arrival_s if following < sessions.size else math.inf
    place_coming(begins, arrival_s, following)
    return first


@inlined
def send_first(coming, requests, sessions, concurrency):
    """Let the sessions begin: each at its time, or in a closed loop as many as there are clients at once."""
    place_coming(coming[0], 0.0, ZERO)
    place_coming(coming[1], math.inf, NOBODY)
    i = next_first(sessions, ZERO)
    for _ in range(concurrency):
        if i < sessions.size:
            push_coming(coming, requests[i].arrival_s, i)
            i = next_first(sessions, i + 1)
    known = concurrency == 0 and i < sessions.size
    place_coming(coming[coming.size - 1], requests[i].arrival_s if known else math.inf, i)


@inlined
def bring_coming(s, arrays):
    """Put those that have been sent by now in the queue; where it is empty, the one that will be first."""
    next_s = next_coming_s(arrays.coming)
    if next_s <= s.clock_s or (s.queue_head == NOBODY and next_s < math.inf):
        bring_sent(s, arrays.coming, arrays.requests, arrays.sessions)


@inlined
def bring_sent(s, coming, requests, sessions):
    """Put the next request in the queue, and all that have been sent by now."""
    append_to_queue(s, requests, take_coming(coming, requests, sessions))
    while next_coming_s(coming) <= s.clock_s:
        append_to_queue(s, requests, take_coming(coming, requests, sessions))


@inner
def recall_coming(s, coming, requests):
    """Take a request out of the queue that has not been sent yet, where nobody else is."""
    head = np.int64(s.queue_head)
    if head != NOBODY and requests[head].arrival_s > s.clock_s:
        s.queue_head = NOBODY
        push_coming(coming, requests[head].arrival_s, head)


@inlined
def send_sequel(s, arrays, rules, i):
    """Let the session of a request that is finished go on; in a closed loop, a new one takes its place."""
    sent_s = arrays.requests[i].finished_s + rules.turnaround_s
    j = np.int64(arrays.sessions[i].next)
    if j != NOBODY:
        sent_s += arrays.sessions[j].follows_s
    else:
        j, sent_s = begin_session(arrays.coming, arrays.sessions, sent_s)
    if j != NOBODY:
        send_later(s, arrays.coming, arrays.requests, rules.routed == UNROUTED, j, sent_s)


@inlined
def begin_session(coming, sessions, sent_s):
    """Return the request with which the next session begins, or NOBODY, and when: its user has thought."""
    begins = coming[coming.size - 1]
    i = begins.request
    if begins.arrival_s < math.inf or i >= sessions.size:  # sessions begin by their own times, or all have
        return NOBODY, sent_s
    begins.request = next_first(sessions, i + 1)
    thinks_s = sessions[i].follows_s
    return i, sent_s + thinks_s if thinks_s > 0.0 else sent_s


@inlined
def send_later(s, coming, requests, unrouted, i, arrival_s):
    """Let a request be sent at a moment that has not passed.

    Where somebody in the queue is sent after it, all who have not been sent, or just now, leave the queue.
    What a router has sent stays there: it is counted.
    """
    push_coming(coming, arrival_s, i)
    head = np.int64(s.queue_head)
    if (
        not unrouted
        or head == NOBODY
        or not is_sent_before(arrival_s, i, requests[s.queue_tail].arrival_s, s.queue_tail)
    ):
        return
    while head != NOBODY and requests[head].arrival_s >= s.clock_s:
        s.queue_head = requests[head].next
        push_coming(coming, requests[head].arrival_s, head)
        head = np.int64(s.queue_head)


# --- the head of the queue --------------------------------------------------------------------------


@inlined
def waiting_head(s, requests):
    """Return the request at the head of the queue if it has arrived, else NOBODY."""
    i = s.queue_head
    if i != NOBODY and requests[i].arrival_s <= s.clock_s:
        return i
    return NOBODY


@inlined
def is_full(s, rules):
    """Return whether nobody else may run, in the engine or in this group of it."""
    return s.running >= rules.batch_running or s.running + s.elsewhere >= rules.max_running


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
