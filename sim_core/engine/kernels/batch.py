"""Coming and going: a request completes its prompt, is preempted, makes its last token."""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.blocks import blocks_of
from sim_core.engine.kernels.clock import (
    clear_bit,
    forget_due,
    left_to_generate,
    start_decoding,
    stop_decoding,
    tokens_held,
)
from sim_core.engine.kernels.gaps import count_own_gap, largest_gap_since
from sim_core.engine.kernels.log import log_event
from sim_core.engine.kernels.queue import append_to_queue, leave_running, return_to_queue
from sim_core.engine.kernels.records import NOBODY, PREEMPTED, PREFILL_FIRST, ZERO


@inner
def preempt(s, room, cost, rules, i):
    """Take a running request's blocks and send it to the head of the queue."""
    r = room.requests[i]
    if i == s.partial:
        s.partial = NOBODY
        log_event(s, room, PREEMPTED, i, np.int64(r.computed), ZERO)
    else:
        log_event(s, room, PREEMPTED, i, tokens_held(s, r), ZERO)
        r.left = left_to_generate(s, r)
        r.computed = tokens_held(s, r)
        if s.fresh > 0:
            s.fresh -= 1
        else:
            r.last_token_s = s.last_decode_s
            if rules.track_itl_max:
                r.itl_max_s = max(r.itl_max_s, largest_gap_since(s, room, r.since))
        stop_decoding(s, room, cost, i)
        forget_due(room, i)
    s.free_blocks += blocks_of(np.int64(r.computed), rules.block_tokens)
    if rules.swap:
        s.swapped += r.computed
    else:
        r.computed = 0
    r.preemptions += 1
    leave_running(s, room.requests, i)
    return_to_queue(s, room.requests, i)
    s.shortage = 1


@inlined
def finish(s, room, rules, i):
    """Give a finished request's slot and blocks back; in a closed loop its client sends the next one."""
    r = room.requests[i]
    r.finished_s = s.clock_s
    s.free_blocks += blocks_of(r.prompt + r.output - 1, rules.block_tokens)
    leave_running(s, room.requests, i)
    s.unfinished -= 1
    if s.released < room.requests.size:
        room.requests[s.released].arrival_s = s.clock_s + rules.turnaround_s
        append_to_queue(s, room.requests, s.released)
        s.released += 1
    elif rules.pooled:
        r.next = s.done
        s.done = i


@inlined
def finish_due(s, room, cost, rules):
    """Finish all decodes that made their last token in the step before this tick."""
    position = (s.tick - 1) & (room.due_first.size - 1)
    i = np.int64(room.due_first[position])
    if i == NOBODY:
        return
    room.due_first[position] = NOBODY
    clear_bit(room.due_bits, position)
    while i != NOBODY:
        r = room.requests[i]
        if rules.track_itl_max:
            r.itl_max_s = max(r.itl_max_s, largest_gap_since(s, room, r.since))
        stop_decoding(s, room, cost, i)
        finish(s, room, rules, i)
        i = np.int64(r.chain)


@inlined
def complete(s, room, cost, rules, i):
    """Let a request that took its last prompt token make a token now, then decode or finish."""
    r = room.requests[i]
    if r.left == r.output:
        r.first_token_s = s.clock_s
    else:
        count_own_gap(s, room, rules, r, s.clock_s)
    r.left -= 1
    if r.left == 0:
        finish(s, room, rules, i)
        return
    r.last_token_s = s.clock_s
    start_decoding(s, room, cost, i)
    if rules.policy == PREFILL_FIRST and s.prompts > 0:
        s.fresh += 1


@inlined
def complete_joining(s, room, cost, rules):
    """Complete all requests that joined in this step, except a prompt that is still unfinished."""
    i = s.joining
    while i != NOBODY and i != s.partial:
        following = room.requests[i].next
        complete(s, room, cost, rules, i)
        i = following
