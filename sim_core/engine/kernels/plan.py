"""Planning one step: who takes how many tokens, by the scheduler's rules."""

from __future__ import annotations

import math

import numpy as np

from sim_core.engine.compiling import inlined, inner, written_in
from sim_core.engine.kernels.batch import preempt
from sim_core.engine.kernels.clock import started_tokens, ticks_of, tokens_held, tokens_of_decodes
from sim_core.engine.kernels.log import log_event
from sim_core.engine.kernels.memory.blocks import blocks_at_once, blocks_held, has_room, reserve_blocks
from sim_core.engine.kernels.memory.prefix import look_up, share_text, take_found, tokens_found
from sim_core.engine.kernels.queue import admit, is_full, is_returning_decode, target_of, waiting_head
from sim_core.engine.kernels.records import CHUNK, CHUNKED, NO_CACHE, NOBODY, ONE, RETURNED, ZERO
from sim_core.engine.kernels.step_time import pairs_between, window_pairs_between


@inlined
def clear_plan(s):
    """Start the plan of a step with nothing in it."""
    s.tokens = 0
    s.rows = 0
    s.prompts = 0
    s.returned = 0
    s.step_context = 0.0
    s.step_window = 0.0
    s.swapped = 0
    s.step_sent = 0
    s.step_reused = 0
    s.step_loaded = 0
    s.shortage = 0
    s.step_pairs = 0.0
    s.step_window_pairs = 0.0
    s.joining = NOBODY


@inlined
def plan_decodes(s, arrays, cost, rules, pace):
    """Give every decode its token and its drafts, and blocks where it needs some; preempt from the tail if
    none are left.
    """
    ticks = ticks_of(s, pace, ONE)
    blocks = blocks_at_once(s, arrays, ticks)
    if blocks <= s.free_blocks:
        s.free_blocks -= blocks
    else:
        take_blocks_in_order(s, arrays, cost, rules, ticks)
    s.tokens += tokens_of_decodes(s, pace)
    s.rows += s.decodes
    s.step_context += (s.context + started_tokens(s, s.decodes)) * pace.context_scale
    s.step_window += (s.window + started_tokens(s, s.growing)) * pace.context_scale


@inner
def take_blocks_in_order(s, arrays, cost, rules, ticks):
    """Give blocks to decodes in admission order, preempting from the tail; stop if one preempts itself."""
    i = s.running_head
    arrays.turns[0] -= s.running >> 3  # a look at a request takes a fraction of a turn
    while i != NOBODY and i != s.partial:
        held = tokens_held(s, arrays.requests[i])
        needed = blocks_held(held + ticks, rules) - blocks_held(held, rules)
        while s.free_blocks < needed:
            victim = s.running_tail
            preempt(s, arrays, cost, rules, victim)
            if victim == i:
                return
        s.free_blocks -= needed
        i = arrays.requests[i].next


@inlined
def chunk_of(rules, rest, room):
    """Return how many of a prompt's tokens go into a step with room for so many."""
    chunk = min(rest, room)
    return min(chunk, rules.long_prompt_tokens) if rules.long_prompt_tokens > 0 else chunk


@inlined
def plan_chunk(s, arrays, cost, i, r, chunk):
    """Plan the next `chunk` tokens of a prompt; its last one yields an output token."""
    start = np.int64(r.computed)
    end = start + chunk
    log_event(s, arrays, CHUNK, i, start, chunk)
    s.tokens += chunk
    s.prompts += 1
    s.step_pairs += pairs_between(start, end)
    if cost.window_tokens > 0:
        s.step_window_pairs += window_pairs_between(start, end, cost.window_tokens)
    r.computed = end
    if end < target_of(r):
        s.partial = i
        return
    s.rows += 1
    if s.partial == i:
        s.partial = NOBODY


@inlined
def plan_return(s, arrays, cost, i, r):
    """Plan one token of a decode that comes back from host memory."""
    log_event(s, arrays, RETURNED, i, np.int64(r.computed), ZERO)
    if r.preemptions == 0 and math.isnan(r.joined_s):
        r.joined_s = s.clock_s
        s.joins += 1
    s.tokens += 1
    s.rows += 1
    s.returned += 1
    s.step_context += r.computed
    if cost.window_tokens > 0:
        s.step_window += min(r.computed, cost.window_tokens)
    r.computed += 1


@inlined
def plan_admission(s, arrays, cost, rules, chunk):
    """Admit the head of the queue and plan its first `chunk` tokens."""
    i = admit(s, arrays.requests)
    r = arrays.requests[i]
    returning = is_returning_decode(r, rules)
    if rules.caching != NO_CACHE:
        take_found(s, arrays, rules, i)
    s.free_blocks -= blocks_held(r.computed + chunk, rules) - s.shared
    reserve_blocks(s, rules, r)
    if s.joining == NOBODY:
        s.joining = i
    if rules.swap and r.preemptions > 0:
        s.swapped += r.computed
    if returning:
        plan_return(s, arrays, cost, i, r)
        return
    plan_chunk(s, arrays, cost, i, r, chunk)
    if rules.caching != NO_CACHE:
        share_text(s, arrays, rules, i)


@written_in
def continue_prompt(s, arrays, cost, rules):
    """Plan the next chunk of the unfinished prompt; without blocks for it, it is preempted itself."""
    i = s.partial
    r = arrays.requests[i]
    chunk = chunk_of(rules, target_of(r) - r.computed, rules.token_budget - s.tokens)
    start = np.int64(r.computed)
    needed = blocks_held(start + chunk, rules) - blocks_held(start, rules)
    if needed > s.free_blocks:
        preempt(s, arrays, cost, rules, i)
        return
    s.free_blocks -= needed
    s.joining = i
    plan_chunk(s, arrays, cost, i, r, chunk)
    if rules.caching != NO_CACHE:
        share_text(s, arrays, rules, i)


@inlined
def tokens_to_join(s, arrays, rules, tokens, free_blocks):
    """Return the tokens that the head of the queue takes in a step of `tokens` so far, 0 if it cannot join.

    Under `prefill_first` only a decode that comes back from host memory joins a step of decodes.
    """
    i = waiting_head(s, arrays.requests)
    if i == NOBODY or is_full(s, rules):
        return 0
    r = arrays.requests[i]
    if s.barred == 1 and not is_returning_decode(r, rules):
        return 0
    if rules.caching != NO_CACHE:
        look_up(s, arrays, rules, i, free_blocks)
    chunk = target_of(r) - r.computed - tokens_found(s, rules)
    if rules.policy == CHUNKED:
        rest = chunk
        chunk = chunk_of(rules, rest, rules.token_budget - tokens)
        if s.partial != NOBODY and chunk < rest:
            return 0  # one prompt at a time is unfinished
    elif not is_returning_decode(r, rules):
        return 0
    return chunk if has_room(s, arrays, rules, r, chunk, free_blocks) else 0
