"""The three kinds of step: planned ones, whole prompts alone, and runs of equal decode steps."""

from __future__ import annotations

import math

from sim_core.engine.compiling import inlined
from sim_core.engine.kernels.batch import complete_joining, finish_due
from sim_core.engine.kernels.clock import move_on, ticks_to_next
from sim_core.engine.kernels.gaps import count_decode_gaps
from sim_core.engine.kernels.log import log_steps, report_steps
from sim_core.engine.kernels.memory.blocks import (
    blocks_taken,
    has_room,
    may_join_any_step,
    raise_share,
    reset_share,
    steps_with_blocks,
)
from sim_core.engine.kernels.memory.prefix import look_up, tokens_found
from sim_core.engine.kernels.plan import (
    clear_plan,
    continue_prompt,
    plan_admission,
    plan_decodes,
    tokens_to_join,
)
from sim_core.engine.kernels.queue import is_returning_decode, target_of, waiting_head
from sim_core.engine.kernels.records import NO_CACHE, NOBODY, ONE, PREFILL_FIRST, RESERVE_SHARE, ZERO
from sim_core.engine.kernels.step_time import decode_time_s, planned_time_s, series_s, steps_until


@inlined
def planned_step(s, arrays, cost, rules):
    """Run one step of decodes, the unfinished prompt and whoever can join."""
    clear_plan(s)
    plan_decodes(s, arrays, cost, rules)
    if s.partial != NOBODY:
        continue_prompt(s, arrays, cost, rules)
    if s.shortage == 1 and rules.admission == RESERVE_SHARE:
        raise_share(s, arrays, rules)
    while s.shortage == 0:
        chunk = tokens_to_join(s, arrays, rules, s.tokens, s.free_blocks)
        if chunk <= 0:
            break
        plan_admission(s, arrays, cost, rules, chunk)
    if s.tokens == 0:
        return
    duration_s = planned_time_s(s, cost)
    stalled_s = s.clock_s - s.last_decode_s if rules.policy == PREFILL_FIRST else 0.0
    report_steps(s, arrays, rules, ONE, s.step_context, s.step_window, ZERO, duration_s)
    log_steps(s, arrays, rules, ONE, s.decodes + s.returned, duration_s, 0.0)
    move_on(s, arrays, ONE, duration_s)
    if s.decodes > 0:
        count_decode_gaps(s, arrays, rules, stalled_s, duration_s, 0.0, ONE)
    if s.decodes + s.returned > 0:
        s.eased += 1 - s.shortage
    finish_due(s, arrays, cost, rules)
    complete_joining(s, arrays, cost, rules)
    s.last_decode_s = s.clock_s


@inlined
def prefill_step(s, arrays, cost, rules):
    """Run one step of whole prompts, at least one and up to the token budget; decodes wait."""
    clear_plan(s)
    while s.running < rules.max_running:
        i = waiting_head(s, arrays.requests)
        if i == NOBODY or is_returning_decode(arrays.requests[i], rules):
            break
        if rules.caching != NO_CACHE:
            look_up(s, arrays, rules, i)
        rest = target_of(arrays.requests[i]) - tokens_found(s, rules)
        over_budget = s.tokens > 0 and s.tokens + rest > rules.token_budget
        if over_budget or not has_room(s, arrays, rules, arrays.requests[i], rest, s.free_blocks):
            break
        plan_admission(s, arrays, cost, rules, rest)
    duration_s = planned_time_s(s, cost)
    report_steps(s, arrays, rules, ONE, ZERO, ZERO, ZERO, duration_s)
    log_steps(s, arrays, rules, ONE, ZERO, duration_s, 0.0)
    s.clock_s += duration_s
    complete_joining(s, arrays, cost, rules)


@inlined
def decode_run(s, arrays, cost, rules, limit, until_s):
    """Run up to `limit` equal steps of decodes alone; stop where somebody who could join arrives."""
    clear_plan(s)
    s.tokens = s.rows = s.decodes
    s.step_context = s.context
    first_s = decode_time_s(cost, s.decodes, s.context, s.window)
    growth_s = cost.decode_context_s * s.decodes + cost.window_context_s * s.growing
    stop_s = until_s
    if s.queue_head != NOBODY and s.running < rules.max_running:
        arrival_s = arrays.requests[s.queue_head].arrival_s
        if arrival_s > s.clock_s:
            stop_s = min(stop_s, arrival_s)
    steps = limit if stop_s == math.inf else steps_until(first_s, growth_s, stop_s - s.clock_s, limit)
    duration_s = series_s(first_s, growth_s, steps)
    blocks = blocks_taken(s, arrays, steps)
    s.free_blocks -= blocks
    more = steps * (steps - 1) // 2
    context = steps * s.context + more * s.decodes
    window = steps * s.window + more * s.growing
    stalled_s = s.clock_s - s.last_decode_s if rules.policy == PREFILL_FIRST else 0.0
    report_steps(s, arrays, rules, steps, context, window, blocks, duration_s)
    log_steps(s, arrays, rules, steps, s.decodes, duration_s, growth_s)
    move_on(s, arrays, steps, duration_s)
    count_decode_gaps(s, arrays, rules, stalled_s, first_s, growth_s, steps)
    s.eased += steps
    finish_due(s, arrays, cost, rules)
    s.last_decode_s = s.clock_s


@inlined
def run_limit(s, arrays, cost, rules):
    """Return the steps until something changes: a finish, a context at the window, a block shortage."""
    limit = ticks_to_next(arrays.due_bits, s.tick) + 1
    if cost.window_tokens > 0 and s.growing > 0:
        limit = min(limit, max(ticks_to_next(arrays.crossing_bits, s.tick), 1))
    if may_join_any_step(s, arrays, rules):
        limit = min(limit, 1)
    return steps_with_blocks(s, arrays, limit)


# --- which of them comes next ----------------------------------------------------------------------


@inlined
def wants_planned_step(s, arrays, rules):
    """Return whether prompt tokens, or a decode from host memory, go into the next step of decodes."""
    if s.partial != NOBODY:
        return True
    free_blocks = s.free_blocks - arrays.phases[s.tick % rules.block_tokens]
    return tokens_to_join(s, arrays, rules, s.decodes, free_blocks) > 0


@inlined
def wants_prefill_step(s, arrays, rules):
    """Return whether `prefill_first` stops the decodes for whole prompts now."""
    i = waiting_head(s, arrays.requests)
    if rules.policy != PREFILL_FIRST or i == NOBODY or s.running >= rules.max_running:
        return False
    r = arrays.requests[i]
    if rules.caching != NO_CACHE:
        look_up(s, arrays, rules, i)
    rest = target_of(r) - tokens_found(s, rules)
    return not is_returning_decode(r, rules) and has_room(s, arrays, rules, r, rest, s.free_blocks)


@inlined
def wait_until(s, rules, arrival_s):
    """Let the idle engine wait for the next arrival."""
    if rules.measure_from <= s.newest < rules.measure_until:
        s.elapsed_s += arrival_s - s.clock_s
    s.clock_s = arrival_s
    reset_share(s)
