"""Coming and going: a request completes its prompt, is preempted, makes its last token."""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.clock import (
    clear_bit,
    forget_due,
    start_decoding,
    stop_decoding,
    suspend,
    tokens_held,
)
from sim_core.engine.kernels.gaps import count_own_gap, largest_gap_since
from sim_core.engine.kernels.log import log_event
from sim_core.engine.kernels.memory.blocks import blocks_held, release_blocks
from sim_core.engine.kernels.memory.prefix import leave_text
from sim_core.engine.kernels.queue import (
    append_to_queue,
    join_running,
    leave_running,
    recall_coming,
    return_to_queue,
    send_sequel,
)
from sim_core.engine.kernels.records import NO_CACHE, NOBODY, PREEMPTED, PREFILL_FIRST, UNROUTED, ZERO
from sim_core.price.step_cost import TOKEN


@inner
def preempt(s, arrays, cost, rules, i):
    """Take a running request's blocks and send it to the head of the queue."""
    r = arrays.requests[i]
    if i == s.partial:
        s.partial = NOBODY
        log_event(s, arrays, PREEMPTED, i, np.int64(r.computed), ZERO)
    else:
        log_event(s, arrays, PREEMPTED, i, tokens_held(s, r), ZERO)
        stop_decoding(s, arrays, cost, rules, i)
        suspend(s, r)
        if s.fresh > 0:
            s.fresh -= 1
        else:
            r.last_token_s = s.last_decode_s
            if rules.track_itl_max:
                r.itl_max_s = max(r.itl_max_s, largest_gap_since(s, arrays, r.since))
        forget_due(arrays, i)
    give_back(s, arrays, rules, i, np.int64(r.computed))
    if rules.swap:
        s.swapped += r.computed
    else:
        r.computed = 0
    r.preemptions += 1
    leave_running(s, arrays.requests, i)
    if rules.sequels and rules.routed == UNROUTED:
        recall_coming(s, arrays.coming, arrays.requests)  # else those sent before it would wait behind it
    return_to_queue(s, arrays.requests, i)
    s.shortage = 1


@inlined
def give_back(s, arrays, rules, i, tokens):
    """Give the blocks of a request that holds so many tokens back, but for those that others still use."""
    held = blocks_held(tokens, rules)
    if rules.caching != NO_CACHE:
        held -= leave_text(s, arrays, rules, i, tokens)
    s.free_blocks += held
    release_blocks(s, rules, arrays.requests[i])


@inlined
def finish(s, arrays, rules, i, held):
    """Give a finished request's slot and blocks back; in a closed loop its client sends the next one."""
    r = arrays.requests[i]
    r.finished_s = s.clock_s
    give_back(s, arrays, rules, i, held)
    leave_running(s, arrays.requests, i)
    s.unfinished -= 1
    if rules.sequels:
        send_sequel(s, arrays, rules, i)
    elif s.released < arrays.requests.size:
        arrays.requests[s.released].arrival_s = s.clock_s + rules.turnaround_s
        append_to_queue(s, arrays.requests, s.released)
        s.released += 1
    elif rules.pooled:
        r.next = s.done
        s.done = i


@inlined
def link_in_order(requests, i):
    """Link those that are due at one tick in the order in which they joined; return the first of them.

    They lie there the other way round, and whoever leaves first, loses its blocks first.
    """
    before = NOBODY
    while i != NOBODY:
        following = np.int64(requests[i].chain)
        requests[i].chain = before
        before, i = i, following
    return before


@inlined
def finish_due(s, arrays, cost, rules):
    """Finish all decodes that made their last token in the last step, by the tick at which they did."""
    for tick in range(s.tick - s.ahead, s.tick):
        position = tick & (arrays.due_first.size - 1)
        i = np.int64(arrays.due_first[position])
        if i == NOBODY:
            continue
        arrays.due_first[position] = NOBODY
        clear_bit(arrays.due_bits, position)
        if rules.caching != NO_CACHE:
            i = link_in_order(arrays.requests, i)
        while i != NOBODY:
            r = arrays.requests[i]
            if rules.track_itl_max:
                r.itl_max_s = max(r.itl_max_s, largest_gap_since(s, arrays, r.since))
            stop_decoding(s, arrays, cost, rules, i)
            finish(s, arrays, rules, i, tokens_held(s, r))
            i = np.int64(r.chain)


@inlined
def complete(s, arrays, cost, rules, i):
    """Let a request that took its last prompt token make a token now, then decode or finish."""
    r = arrays.requests[i]
    if r.target == r.prompt:
        r.first_token_s = s.clock_s
    else:
        count_own_gap(s, arrays, rules, r, s.clock_s)
        r.rest -= TOKEN
    if r.rest <= 0:
        finish(s, arrays, rules, i, np.int64(r.computed))
        return
    r.last_token_s = s.clock_s
    start_decoding(s, arrays, cost, rules, i)
    if rules.policy == PREFILL_FIRST and s.prompts > 0:
        s.fresh += 1


@inlined
def complete_joining(s, arrays, cost, rules):
    """Complete all requests that joined in this step, except a prompt that is still unfinished."""
    i = s.joining
    while i != NOBODY and i != s.partial:
        following = arrays.requests[i].next
        complete(s, arrays, cost, rules, i)
        i = following
    if rules.long_prompt_tokens > 0 and i != NOBODY:
        complete_behind(s, arrays, cost, rules, i)
    s.joining = NOBODY


@inner
def complete_behind(s, arrays, cost, rules, partial):
    """Complete the requests that passed an unfinished prompt in this step, and let it count as the last."""
    i = np.int64(arrays.requests[partial].next)
    while i != NOBODY:
        following = np.int64(arrays.requests[i].next)
        complete(s, arrays, cost, rules, i)
        i = following
    leave_running(s, arrays.requests, partial)
    join_running(s, arrays.requests, partial)
