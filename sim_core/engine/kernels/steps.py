"""The three kinds of step: planned ones, whole prompts alone, and runs of equal decode steps."""

from __future__ import annotations

import math

from sim_core.engine.compiling import inlined, written_in
from sim_core.engine.kernels.batch import complete_joining, finish_due
from sim_core.engine.kernels.clock import (
    TOKENS_A_PART,
    move_on,
    started_tokens,
    steps_to,
    ticks_of,
    ticks_to_next,
    tokens_of_decodes,
)
from sim_core.engine.kernels.gaps import count_decode_gaps
from sim_core.engine.kernels.log import log_steps, report_steps
from sim_core.engine.kernels.memory.blocks import (
    blocks_at_once,
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
from sim_core.engine.kernels.queue import is_full, is_returning_decode, target_of, waiting_head
from sim_core.engine.kernels.records import NO_CACHE, NOBODY, ONE, PREFILL_FIRST, RESERVE_SHARE, ZERO
from sim_core.engine.kernels.step_time import decode_time_s, planned_time_s, series_s, steps_until

# --- steps in which prompts, or decodes from host memory, join the decodes --------------------------


@written_in
def planned_step(s, arrays, cost, rules, pace):
    """Run one step of decodes, the unfinished prompt and whoever can join."""
    plan_step(s, arrays, cost, rules, pace)
    if s.tokens == 0:
        return
    duration_s = planned_time_s(s, cost)
    report_steps(s, arrays, rules, ONE, s.step_context, s.step_window, ZERO, duration_s)
    carry_out_step(s, arrays, cost, rules, pace, duration_s)


@written_in
def plan_step(s, arrays, cost, rules, pace):
    """Plan one step of decodes, the unfinished prompt and whoever can join."""
    clear_plan(s)
    plan_decodes(s, arrays, cost, rules, pace)
    if s.partial != NOBODY:
        continue_prompt(s, arrays, cost, rules)
    if s.shortage == 1 and rules.admission == RESERVE_SHARE:
        raise_share(s, arrays, rules)
    while s.shortage == 0:
        chunk = tokens_to_join(s, arrays, rules, s.tokens, s.free_blocks)
        if chunk <= 0:
            break
        plan_admission(s, arrays, cost, rules, chunk)


@written_in
def carry_out_step(s, arrays, cost, rules, pace, duration_s):
    """Let the planned step pass: its decodes make tokens, then those who joined."""
    stalled_s = s.clock_s - s.last_decode_s if rules.policy == PREFILL_FIRST else 0.0
    drafted = s.decodes * pace.drafts
    log_steps(s, arrays, rules, ONE, s.decodes + s.returned, drafted, duration_s, 0.0)
    if s.decodes + s.returned > 0:
        s.eased += 1 - s.shortage
    if s.decodes > 0:
        ticks = move_on(s, arrays, pace, ONE, duration_s)
        count_decode_gaps(s, arrays, rules, stalled_s, duration_s, 0.0, ONE, ticks)
        finish_due(s, arrays, cost, rules)
    else:
        s.clock_s += duration_s
    complete_joining(s, arrays, cost, rules)
    s.last_decode_s = s.clock_s


# --- steps of whole prompts ------------------------------------------------------------------------


@written_in
def prefill_step(s, arrays, cost, rules):
    """Run one step of whole prompts, at least one and up to the token budget; decodes wait."""
    plan_prompts(s, arrays, cost, rules)
    duration_s = planned_time_s(s, cost)
    report_steps(s, arrays, rules, ONE, 0.0, 0.0, ZERO, duration_s)
    carry_out_prompts(s, arrays, cost, rules, duration_s)


@written_in
def plan_prompts(s, arrays, cost, rules):
    """Plan one step of whole prompts."""
    clear_plan(s)
    while not is_full(s, rules):
        i = waiting_head(s, arrays.requests)
        if i == NOBODY or is_returning_decode(arrays.requests[i], rules):
            break
        if rules.caching != NO_CACHE:
            look_up(s, arrays, rules, i, s.free_blocks)
        rest = target_of(arrays.requests[i]) - tokens_found(s, rules)
        over_budget = s.tokens > 0 and s.tokens + rest > rules.token_budget
        if over_budget or not has_room(s, arrays, rules, arrays.requests[i], rest, s.free_blocks):
            break
        plan_admission(s, arrays, cost, rules, rest)


@written_in
def carry_out_prompts(s, arrays, cost, rules, duration_s):
    """Let the planned step of whole prompts pass."""
    log_steps(s, arrays, rules, ONE, ZERO, ZERO, duration_s, 0.0)
    s.clock_s += duration_s
    complete_joining(s, arrays, cost, rules)


# --- runs of equal steps of decodes ----------------------------------------------------------------


@written_in
def decode_run(s, arrays, cost, rules, pace, limit, until_s):
    """Run up to `limit` equal steps of decodes alone; stop where somebody who could join arrives."""
    plan_run(s, pace)
    grown, grown_window = grown_a_step(s, pace)
    first_s = decode_time_s(cost, s.tokens, s.decodes, s.step_context, s.step_window)
    growth_s = cost.decode_context_s * grown + cost.window_context_s * grown_window
    stop_s = until_s
    if s.queue_head != NOBODY and not is_full(s, rules):
        arrival_s = arrays.requests[s.queue_head].arrival_s
        if arrival_s > s.clock_s:
            stop_s = min(stop_s, arrival_s)
    steps = limit if stop_s == math.inf else steps_until(first_s, growth_s, stop_s - s.clock_s, limit)
    duration_s = series_s(first_s, growth_s, steps)
    blocks = take_blocks_of_run(s, arrays, pace, steps)
    context = series_s(s.step_context, grown, steps)
    window = series_s(s.step_window, grown_window, steps)
    report_steps(s, arrays, rules, steps, context, window, blocks, duration_s)
    carry_out_run(s, arrays, cost, rules, pace, steps, first_s, growth_s)


@inlined
def plan_run(s, pace):
    """Plan a step of decodes alone."""
    clear_plan(s)
    s.tokens = tokens_of_decodes(s, pace)
    s.rows = s.decodes
    s.step_context = (s.context + started_tokens(s, s.decodes)) * pace.context_scale
    s.step_window = (s.window + started_tokens(s, s.growing)) * pace.context_scale


@inlined
def grown_a_step(s, pace):
    """Return by how much the contexts of a step of decodes grow from step to step, all and in the window."""
    a_step = pace.advance * TOKENS_A_PART * pace.context_scale
    return s.decodes * a_step, s.growing * a_step


@inlined
def take_blocks_of_run(s, arrays, pace, steps):
    """Take the blocks that the decodes need in so many steps; return how many."""
    blocks = blocks_taken(s, arrays, ticks_of(s, pace, steps))
    s.free_blocks -= blocks
    return blocks


@written_in
def carry_out_run(s, arrays, cost, rules, pace, steps, first_s, growth_s):
    """Let equal steps of decodes pass, the first of `first_s`, each `growth_s` longer than the one before."""
    duration_s = series_s(first_s, growth_s, steps)
    stalled_s = s.clock_s - s.last_decode_s if rules.policy == PREFILL_FIRST else 0.0
    log_steps(s, arrays, rules, steps, s.decodes, s.decodes * pace.drafts, duration_s, growth_s)
    ticks = move_on(s, arrays, pace, steps, duration_s)
    count_decode_gaps(s, arrays, rules, stalled_s, first_s, growth_s, steps, ticks)
    s.eased += steps
    finish_due(s, arrays, cost, rules)
    s.last_decode_s = s.clock_s


@written_in
def run_limit(s, arrays, cost, rules, pace):
    """Return the steps until something changes: a finish, a context at the window, a block shortage."""
    ticks = ticks_to_next(arrays.due_bits, s.tick) + 1
    if cost.window_tokens > 0 and s.growing > 0:
        ticks = min(ticks, max(ticks_to_next(arrays.crossing_bits, s.tick), 1))
    limit = steps_to(s, pace, ticks)
    if may_join_any_step(s, arrays, rules):
        limit = min(limit, 1)
    return steps_with_blocks(s, arrays, pace, limit)


# --- which of them comes next ----------------------------------------------------------------------


@written_in
def wants_planned_step(s, arrays, rules, pace):
    """Return whether prompt tokens, or a decode from host memory, go into the next step of decodes."""
    if s.partial != NOBODY:
        return True
    if waiting_head(s, arrays.requests) == NOBODY:
        return False
    free_blocks = s.free_blocks - blocks_at_once(s, arrays, ticks_of(s, pace, ONE))
    return tokens_to_join(s, arrays, rules, tokens_of_decodes(s, pace), free_blocks) > 0


@written_in
def wants_prefill_step(s, arrays, rules):
    """Return whether `prefill_first` stops the decodes for whole prompts now."""
    i = waiting_head(s, arrays.requests)
    if rules.policy != PREFILL_FIRST or i == NOBODY or is_full(s, rules) or s.barred == 1:
        return False
    r = arrays.requests[i]
    if rules.caching != NO_CACHE:
        look_up(s, arrays, rules, i, s.free_blocks)
    rest = target_of(r) - tokens_found(s, rules)
    return not is_returning_decode(r, rules) and has_room(s, arrays, rules, r, rest, s.free_blocks)


@inlined
def wait_until(s, rules, arrival_s):
    """Let the idle engine wait for the next arrival."""
    if rules.measure_from <= s.newest < rules.measure_until:
        s.elapsed_s += arrival_s - s.clock_s
    s.clock_s = arrival_s
    reset_share(s)
