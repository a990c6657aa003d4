"""A group of ranks in lockstep: each has requests, a queue, a KV cache and a token budget of its own.

Ranks compute attention for themselves and their experts for all, so they wait for one another in every
layer: a step lasts the same for all, whatever each has to do, and a rank without work runs along. Its time is

    t = token_s[most tokens of a rank] + row_s[most rows of a rank]
        + attention of the rank for which it takes longest (contexts and pairs together)
        + prefill_request_s x most prompts of a rank + prefill_step_s if a rank has any
        + swap_token_s x most tokens swapped by a rank
        + group_s[tokens of all ranks]

so one rank's prompt is everybody's step. The record `g` of a group is a `STATE` like that of a rank, with
these numbers as the step it plans; its counters count each step once. Ties go to the first rank that has
something to do.

What ranks may do in one step follows the engines:

* `chunked`: each plans by itself, as vLLM's ranks do, and waits only for the time.
* `prefill_first`: a rank that has decodes goes on with them while another computes prompts. Where drafts are
  verified it cannot and waits, as in SGLang (`get_next_batch_to_run`, `scheduler.py`).
* With `wait_steps`, prompts begin on all ranks together: once each has one, or one has no decodes, or after
  so many steps since they last could (TensorRT-LLM, `PyExecutor._balance_adp_requests`). A prompt that has
  begun goes on.

References
----------
vLLM, "Data Parallel Deployment": a scheduler and a KV cache a rank, dummy steps for ranks without requests.
"""

from __future__ import annotations

import math

import numpy as np

from sim_core.engine.compiling import inlined, written_in
from sim_core.engine.kernels.clock import pace_of
from sim_core.engine.kernels.log import report_held, report_work
from sim_core.engine.kernels.memory.blocks import reset_share
from sim_core.engine.kernels.plan import clear_plan
from sim_core.engine.kernels.queue import is_returning_decode, next_coming_s, next_step_s, waiting_head
from sim_core.engine.kernels.records import (
    IDLE,
    NOBODY,
    OF_DECODES,
    OF_PROMPTS,
    ONE,
    PLANNED,
    ZERO,
    is_over,
    replica_of,
)
from sim_core.engine.kernels.step_time import (
    attention_s,
    decode_time_s,
    group_time_s,
    planned_time_s,
    series_s,
    steps_until,
)
from sim_core.engine.kernels.steps import (
    carry_out_prompts,
    carry_out_run,
    carry_out_step,
    grown_a_step,
    plan_prompts,
    plan_run,
    plan_step,
    run_limit,
    take_blocks_of_run,
    wait_until,
    wants_planned_step,
    wants_prefill_step,
)

LONGEST = np.int64(1 << 60)  # steps: more than any run of equal ones


def _advance_group(g, ranks, stacked, cost, rules, until_s):
    """Run all steps of a group that start before `until_s`, and before whatever they let somebody send.

    `ranks` are its states; their arrays lie in `stacked` one after the other, those of all groups in order.
    """
    while g.unfinished > 0 and not is_over(stacked.turns, stacked.stop, ONE + ranks.size):
        start_s = next_group_step_s(ranks, stacked.requests)
        if start_s >= until_s:
            return
        if start_s > g.clock_s:
            wait_together(g, ranks, rules, start_s)
        limit = choose_steps(g, ranks, stacked, cost, rules)
        if limit > 0:
            run_decodes(g, ranks, stacked, cost, rules, limit, until_s)
        else:
            run_planned(g, ranks, stacked, cost, rules)
        if rules.sequels:
            until_s = min(until_s, next_coming_s(stacked.coming))


@inlined
def arrays_of(g, ranks, stacked, r):
    """Return the arrays of one rank of a group."""
    return replica_of(stacked, g.engine * ranks.size + r)


@inlined
def next_group_step_s(ranks, requests):
    """Return when a group's next step starts [s]; infinite while no rank has anything to do."""
    found_s = math.inf
    for r in range(ranks.size):
        found_s = min(found_s, next_step_s(ranks[r], requests))
    return found_s


@inlined
def wait_together(g, ranks, rules, arrival_s):
    """Let an idle group wait for the next arrival."""
    wait_until(g, rules, arrival_s)
    for r in range(ranks.size):
        ranks[r].clock_s = arrival_s
        reset_share(ranks[r])


# --- what each rank does in the next step ----------------------------------------------------------


@written_in
def choose_steps(g, ranks, stacked, cost, rules):
    """Enter what each rank does next; return how many equal steps of decodes follow at most, 0 if none."""
    limit = ZERO
    for barred in range(2):
        limit = enter_kinds(g, ranks, stacked, cost, rules, barred)
        if barred == 1 or rules.wait_steps == 0 or not has_to_wait(g, ranks, stacked.requests, rules):
            break
    if rules.wait_steps > 0 and ranks[0].barred == 1:
        limit = min(limit, rules.wait_steps - g.waited)
    if limit == 0 and rules.draft_slots > 0:
        hold_decodes(ranks)
    return limit


@written_in
def enter_kinds(g, ranks, stacked, cost, rules, barred):
    """Enter what each rank does next if prompts are barred from joining, or not."""
    limit = LONGEST
    for r in range(ranks.size):
        s, arrays = ranks[r], arrays_of(g, ranks, stacked, r)
        s.barred = barred
        s.pace = min(s.decodes, cost.paces.size - 1)
        pace = pace_of(s, cost)
        if s.running == 0 and waiting_head(s, arrays.requests) == NOBODY:
            s.kind = IDLE
        elif wants_prefill_step(s, arrays, rules):
            s.kind = OF_PROMPTS
            limit = ZERO
        elif wants_planned_step(s, arrays, rules, pace):
            s.kind = PLANNED
            limit = ZERO
        else:
            s.kind = OF_DECODES
            if limit > 0:
                limit = min(limit, run_limit(s, arrays, cost, rules, pace))
    return limit


@inlined
def has_prompt(s, requests, rules):
    """Return whether a rank's next step would hold a prompt: an unfinished one, or the next to join."""
    if s.kind == OF_PROMPTS:
        return True
    if s.kind != PLANNED:
        return False
    return s.partial != NOBODY or not is_returning_decode(requests[waiting_head(s, requests)], rules)


@inlined
def has_to_wait(g, ranks, requests, rules):
    """Count a step, and return whether no prompt may begin in it."""
    with_prompts = with_decodes = 0
    for r in range(ranks.size):
        with_prompts += 1 if has_prompt(ranks[r], requests, rules) else 0
        with_decodes += 1 if ranks[r].decodes > 0 else 0
    g.waited = g.waited + 1 if with_prompts < ranks.size == with_decodes else 0
    if g.waited == rules.wait_steps:
        g.waited = 0
    return g.waited > 0


@inlined
def hold_decodes(ranks):
    """Let ranks wait while others compute whole prompts."""
    prompts = 0
    for r in range(ranks.size):
        prompts += 1 if ranks[r].kind == OF_PROMPTS else 0
    if prompts > 0:
        for r in range(ranks.size):
            if ranks[r].kind != OF_PROMPTS:
                ranks[r].kind = IDLE


# --- one step of all ranks -------------------------------------------------------------------------


@written_in
def run_planned(g, ranks, stacked, cost, rules):
    """Run one step in which ranks compute prompts, or must look at each decode."""
    tokens = plan_together(g, ranks, stacked, cost, rules)
    if tokens == 0:
        return
    own_s = planned_time_s(g, cost)
    duration_s = own_s + group_time_s(cost, tokens)
    report_together(g, stacked, rules, ONE, g.step_context, g.step_window, tokens, duration_s)
    for r in range(ranks.size):
        s, arrays = ranks[r], arrays_of(g, ranks, stacked, r)
        s.measured = g.measured
        report_held(s, arrays, rules, ONE, ZERO, duration_s)
        if g.measured:
            g.lockstep_s += own_s - planned_time_s(s, cost) if s.tokens > 0 else own_s
        if s.tokens == 0:
            s.clock_s += duration_s
        elif s.kind == OF_PROMPTS:
            carry_out_prompts(s, arrays, cost, rules, duration_s)
        else:
            carry_out_step(s, arrays, cost, rules, cost.paces[s.pace], duration_s)
    pass_together(g, ranks, duration_s)


@written_in
def plan_together(g, ranks, stacked, cost, rules):
    """Plan the next step of all ranks; return their tokens, all together."""
    clear_plan(g)
    tokens, longest_s = ZERO, -1.0
    for r in range(ranks.size):
        s, arrays = ranks[r], arrays_of(g, ranks, stacked, r)
        if s.kind == IDLE:
            clear_plan(s)
        elif s.kind == OF_PROMPTS:
            plan_prompts(s, arrays, cost, rules)
        else:
            plan_step(s, arrays, cost, rules, cost.paces[s.pace])
        tokens += s.tokens
        own_s = attention_s(s, cost) if s.tokens > 0 else -1.0
        enter_most(g, s, own_s > longest_s)
        longest_s = max(longest_s, own_s)
    return tokens


@inlined
def enter_most(g, s, attends_longest):
    """Enter the step of a rank in its group's: of each count the most; of attention, whose takes longest."""
    g.newest = max(g.newest, s.newest)
    g.tokens = max(g.tokens, s.tokens)
    g.rows = max(g.rows, s.rows)
    g.prompts = max(g.prompts, s.prompts)
    g.swapped = max(g.swapped, s.swapped)
    if attends_longest:
        g.step_context = s.step_context
        g.step_window = s.step_window
        g.step_pairs = s.step_pairs
        g.step_window_pairs = s.step_window_pairs


@inlined
def report_together(g, stacked, rules, steps, context, window, tokens, duration_s):
    """Count steps of a group, each of so many tokens of all ranks."""
    g.measured = rules.measure_from <= g.newest < rules.measure_until
    if g.measured:
        report_work(g, stacked, steps, context, window, duration_s)
        last = stacked.steps_by_group_tokens.size - 1
        stacked.steps_by_group_tokens[min(tokens, last)] += steps
        g.group_extra_tokens += max(tokens - last, 0) * steps


@inlined
def pass_together(g, ranks, duration_s):
    """Let the group's clock follow those of its ranks, and count who is left."""
    g.clock_s += duration_s
    g.unfinished = 0
    for r in range(ranks.size):
        g.unfinished += ranks[r].unfinished


# --- runs of equal steps ---------------------------------------------------------------------------


@written_in
def run_decodes(g, ranks, stacked, cost, rules, limit, until_s):
    """Run up to `limit` steps of decodes alone, which end where another rank's contexts take longest."""
    chosen, tokens = plan_runs(g, ranks, cost)
    own_s = decode_time_s(cost, g.tokens, g.rows, g.step_context, g.step_window)
    first_s = own_s + group_time_s(cost, tokens)
    grown, grown_window = grown_a_step(ranks[chosen], cost.paces[ranks[chosen].pace])
    growth_s = cost.decode_context_s * grown + cost.window_context_s * grown_window
    limit = steps_of_longest(ranks, cost, chosen, growth_s, limit)
    steps = limit if until_s == math.inf else steps_until(first_s, growth_s, until_s - g.clock_s, limit)
    duration_s = series_s(first_s, growth_s, steps)
    context = series_s(g.step_context, grown, steps)
    window = series_s(g.step_window, grown_window, steps)
    report_together(g, stacked, rules, steps, context, window, tokens, duration_s)
    if rules.wait_steps > 0:
        count_waited(g, ranks, rules, steps)
    own_s = series_s(own_s, growth_s, steps)
    for r in range(ranks.size):
        s, arrays = ranks[r], arrays_of(g, ranks, stacked, r)
        s.measured = g.measured
        if s.kind == IDLE:
            report_held(s, arrays, rules, ONE, ZERO, duration_s)
            g.lockstep_s += own_s if g.measured else 0.0
            s.clock_s += duration_s
            continue
        pace = cost.paces[s.pace]
        blocks = take_blocks_of_run(s, arrays, pace, steps)
        report_held(s, arrays, rules, steps, blocks, duration_s)
        g.lockstep_s += own_s - run_time_s(s, cost, pace, steps) if g.measured else 0.0
        carry_out_run(s, arrays, cost, rules, pace, steps, first_s, growth_s)
    pass_together(g, ranks, duration_s)


@inlined
def plan_runs(g, ranks, cost):
    """Plan a step of decodes; return whose attention takes longest, and the tokens of all ranks."""
    clear_plan(g)
    chosen, tokens, longest_s = ZERO, ZERO, -1.0
    for r in range(ranks.size):
        s = ranks[r]
        if s.kind == IDLE:
            clear_plan(s)
            continue
        plan_run(s, cost.paces[s.pace])
        tokens += s.tokens
        own_s = attention_s(s, cost)
        enter_most(g, s, own_s > longest_s)
        if own_s > longest_s:
            chosen, longest_s = np.int64(r), own_s
    return chosen, tokens


@inlined
def growth_of(s, cost, pace):
    """Return by how much a rank's steps grow by themselves [s]."""
    grown, grown_window = grown_a_step(s, pace)
    return cost.decode_context_s * grown + cost.window_context_s * grown_window


@inlined
def run_time_s(s, cost, pace, steps):
    """Return what a rank's planned decodes would take by themselves, over so many steps [s]."""
    own_s = decode_time_s(cost, s.tokens, s.rows, s.step_context, s.step_window)
    return series_s(own_s, growth_of(s, cost, pace), steps)


@inlined
def steps_of_longest(ranks, cost, chosen, growth_s, limit):
    """Return for how many of the next `limit` steps the chosen rank's attention takes longest, at least 1."""
    longest_s = attention_s(ranks[chosen], cost)
    for r in range(ranks.size):
        s = ranks[r]
        if s.kind == IDLE or r == chosen:
            continue
        gain_s = growth_of(s, cost, cost.paces[s.pace]) - growth_s
        if gain_s > 0.0:
            limit = steps_behind(longest_s - attention_s(s, cost), gain_s, r < chosen, limit)
    return limit


@inlined
def steps_behind(ahead_s, gain_s, first, limit):
    """Return how many of the next `limit` steps pass before a rank that gains `gain_s` a step is ahead.

    The `first` of two ranks is so once it has caught up.
    """
    if gain_s * limit < ahead_s:
        return limit
    count = min(max(np.int64(ahead_s / gain_s), 1), limit)
    while count > 1 and (gain_s * (count - 1) > ahead_s or (first and gain_s * (count - 1) == ahead_s)):
        count -= 1
    while count < limit and (gain_s * count < ahead_s or (not first and gain_s * count == ahead_s)):
        count += 1
    return count


@inlined
def count_waited(g, ranks, rules, steps):
    """Count the steps of a run beyond its first, where steps count; see `has_to_wait`."""
    for r in range(ranks.size):
        if ranks[r].decodes == 0:
            return
    g.waited = (g.waited + steps - 1) % rules.wait_steps


advance_group_here = written_in(_advance_group)  # compiled into the loop that calls it
