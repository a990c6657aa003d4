"""Static batching: collect, prefill together, decode padded until the longest answer is done."""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import Entry, inlined, inner
from sim_core.engine.kernels.clock import clear_bit, set_bit, ticks_to_next
from sim_core.engine.kernels.gaps import count_gaps
from sim_core.engine.kernels.log import log_event, log_steps, report_steps
from sim_core.engine.kernels.memory.blocks import blocks_of
from sim_core.engine.kernels.memory.prefix import fixed_blocks
from sim_core.engine.kernels.one_pool import load_requests, open_engine
from sim_core.engine.kernels.plan import clear_plan
from sim_core.engine.kernels.records import CHUNK, NO_CACHE, NOBODY, ONE, ZERO, is_over
from sim_core.engine.kernels.step_time import (
    decode_time_s,
    pairs_between,
    planned_time_s,
    token_time_s,
    window_pairs_between,
)
from sim_core.engine.kernels.steps import wait_until


@inlined
def batch_start_s(s, requests, rules, first):
    """Return when the batch starts: once it can be full, or the first request has waited long enough."""
    start_s = requests[first].arrival_s + rules.batch_wait_s
    last = first + rules.max_running - 1
    if last < s.released:
        start_s = min(start_s, requests[last].arrival_s)
    return max(start_s, s.clock_s)


@inlined
def batch_end(s, requests, rules, first, start_s):
    """Return the end of the batch from `first` on: all who have arrived, as far as slots and KV allow."""
    prompt = output = ZERO
    end = first
    while end < min(s.released, first + rules.max_running) and requests[end].arrival_s <= start_s:
        prompt = max(prompt, requests[end].prompt)
        output = max(output, requests[end].output)
        if (
            end > first
            and (end - first + 1) * blocks_of(prompt + output, rules.block_tokens) > rules.kv_blocks
        ):
            break
        end += 1
    return end


@inlined
def context_sum(prompt, steps):
    """Return the tokens that one padded slot reads over its first `steps` decode steps."""
    return steps * prompt + steps * (steps - 1) // 2


@inlined
def window_sum(prompt, steps, window):
    """Return the same sum where each step reads at most `window` tokens."""
    inside = min(max(window - prompt, 0), steps)
    return context_sum(prompt, inside) + (steps - inside) * window


@inlined
def padded_time_s(cost, slots, prompt, steps):
    """Return the time of the first `steps` decode steps of a padded batch [s]."""
    window = window_sum(prompt, steps, cost.window_tokens) if cost.window_tokens > 0 else 0
    return (
        steps * (token_time_s(cost, slots) + cost.row_s[slots])
        + cost.decode_context_s * (slots * context_sum(prompt, steps))
        + cost.window_context_s * (slots * window)
    )


@inlined
def count_padded_gaps(s, arrays, cost, prompt, slots, done, steps, live):
    """Count the gaps of `live` requests over the decode steps from `done` to `steps`, cut at the window."""
    if not s.measured:
        return
    cut = steps
    if cost.window_tokens > 0:
        cut = min(max(cost.window_tokens - prompt, done), steps)
    for start, end in ((done, cut), (cut, steps)):
        if end > start:
            reach = min(prompt + start, cost.window_tokens)
            first_s = decode_time_s(cost, slots, slots, float(slots * (prompt + start)), float(slots * reach))
            growth_s = cost.decode_context_s * slots
            if prompt + start < cost.window_tokens:
                growth_s += cost.window_context_s * slots
            count_gaps(arrays.gap_counts, first_s, growth_s, end - start, live)


@inlined
def prefill_batch(s, arrays, cost, rules, first, end, prompt):
    """Prefill all prompts of a batch together, padded to the longest; each yields its first token."""
    slots = end - first
    start = fixed_blocks(rules, prompt) * rules.block_tokens
    clear_plan(s)
    s.tokens = slots * (prompt - start)
    s.rows = s.prompts = s.running = slots
    s.step_pairs = slots * pairs_between(start, prompt)
    if cost.window_tokens > 0:
        s.step_window_pairs = slots * window_pairs_between(start, prompt, cost.window_tokens)
    for i in range(first, end):
        own = np.int64(arrays.requests[i].prompt)
        reused = fixed_blocks(rules, own) * rules.block_tokens
        if rules.caching != NO_CACHE:
            arrays.pieces[i].reused = fixed_blocks(rules, own)
            s.step_sent += own
            s.step_reused += reused
        log_event(s, arrays, CHUNK, i, reused, own - reused)
    duration_s = planned_time_s(s, cost)
    report_steps(s, arrays, rules, ONE, 0.0, 0.0, ZERO, duration_s)
    log_steps(s, arrays, rules, ONE, ZERO, ZERO, duration_s, 0.0)
    s.clock_s += duration_s


@inner
def sort_by_end(arrays, first, end):
    """Enter the requests of a batch in the ring by the number of their decode steps."""
    for i in range(first, end):
        r = arrays.requests[i]
        r.due = r.output - 1
        r.chain = arrays.due_first[r.due]
        arrays.due_first[r.due] = i
        set_bit(arrays.due_bits, r.due)


@inlined
def finish_padded(s, arrays, cost, rules, first, prompt, slots, steps):
    """Finish all requests of a batch that make their last token after `steps` decode steps."""
    i = arrays.due_first[steps]
    finished = 0
    finished_s = s.clock_s + padded_time_s(cost, slots, prompt, steps)
    arrays.due_first[steps] = NOBODY
    clear_bit(arrays.due_bits, steps)
    while i != NOBODY:
        r = arrays.requests[i]
        r.first_token_s = s.clock_s
        r.finished_s = finished_s
        if rules.track_itl_max and steps > 0:
            reach = prompt + steps - 1
            seen = min(reach, cost.window_tokens)
            r.itl_max_s = decode_time_s(cost, slots, slots, float(slots * reach), float(slots * seen))
        if s.released < arrays.requests.size:
            arrays.requests[s.released].arrival_s = finished_s + rules.turnaround_s
            s.released += 1
        finished += 1
        i = r.chain
    return finished


@inner
def decode_batch(s, arrays, cost, rules, first, end, prompt):
    """Decode a padded batch until its longest answer is done; every slot is held to the end."""
    slots = end - first
    sort_by_end(arrays, first, end)
    done = ZERO
    live = slots
    while live > 0:
        steps = done + ticks_to_next(arrays.due_bits, done)
        count_padded_gaps(s, arrays, cost, prompt, slots, done, steps, live)
        live -= finish_padded(s, arrays, cost, rules, first, prompt, slots, steps)
        done = steps
    if done > 0:
        clear_plan(s)
        s.tokens = s.rows = slots
        s.step_context = slots * prompt
        window = window_sum(prompt, done, cost.window_tokens) if cost.window_tokens > 0 else 0
        duration_s = padded_time_s(cost, slots, prompt, done)
        context = float(slots * context_sum(prompt, done))
        report_steps(s, arrays, rules, done, context, float(slots * window), ZERO, duration_s)
        log_padded_steps(s, arrays, cost, rules, prompt, slots, done)


@inlined
def log_padded_steps(s, arrays, cost, rules, prompt, slots, steps):
    """Log the decode steps of a padded batch, in two rows where the sliding window is reached, and pass them.

    A batch's time is the sum over all its steps; the clock takes that, not the sum of two rows.
    """
    end_s = s.clock_s + padded_time_s(cost, slots, prompt, steps)
    cut = 0
    if cost.window_tokens > 0:
        cut = min(max(cost.window_tokens - prompt, 0), steps)
    growth_s = (cost.decode_context_s + cost.window_context_s) * slots
    if cut > 0:
        duration_s = padded_time_s(cost, slots, prompt, cut)
        log_steps(s, arrays, rules, cut, slots, ZERO, duration_s, growth_s)
        s.clock_s += duration_s
    if cut < steps:
        s.step_context = slots * (prompt + cut)
        growth_s = cost.decode_context_s * slots
        log_steps(s, arrays, rules, steps - cut, slots, ZERO, end_s - s.clock_s, growth_s)
    s.clock_s = end_s


@inlined
def report_left_out(s, requests, rules, first, end, start_s):
    """Count the time in which the first request after a batch waited: for KV blocks, or for a place."""
    if s.measured == 0 or end >= s.released:
        return
    arrival_s = requests[end].arrival_s
    waited_s = s.clock_s - max(arrival_s, start_s)
    if waited_s > 0.0:
        if arrival_s <= start_s and end - first < rules.max_running:
            s.kv_blocked_s += waited_s
        else:
            s.batch_blocked_s += waited_s


@Entry
def run_static(states, arrays, cost, rules, arrival_s, prompt_tokens, rest, concurrency):
    """Run one engine to the end with static batches; a concurrency of 0 means open loop."""
    load_requests(arrays.requests, arrival_s, prompt_tokens, rest)
    s = states[0]
    open_engine(s, rules)
    count = arrays.requests.size
    s.released = min(concurrency, count) if concurrency > 0 else count
    first = ZERO
    while first < count and not is_over(arrays.turns, arrays.stop, ONE):
        start_s = batch_start_s(s, arrays.requests, rules, first)
        wait_until(s, rules, start_s)
        end = batch_end(s, arrays.requests, rules, first, start_s)
        prompt = output = ZERO
        for i in range(first, end):
            prompt = max(prompt, arrays.requests[i].prompt)
            output = max(output, arrays.requests[i].output)
        s.newest = end - 1
        s.free_blocks = rules.kv_blocks - (end - first) * blocks_of(prompt + output, rules.block_tokens)
        prefill_batch(s, arrays, cost, rules, first, end, prompt)
        decode_batch(s, arrays, cost, rules, first, end, prompt)
        report_left_out(s, arrays.requests, rules, first, end, start_s)
        arrays.turns[0] -= end - first
        first = end
