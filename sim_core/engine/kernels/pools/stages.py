"""One engine in stages: as many groups of requests as stages, each with one batch on its way at a time.

Rules, exact in the plain twin:

- *Groups.* Whoever is admitted belongs to a group and decodes in its batches. A group's next batch is planned
  once its last one has left the last stage, so a request is in one batch at a time. The groups share the
  queue, the KV cache and the budget of a step's tokens; each has its part of the sequences that may run.
- *Stages.* A batch starts when the first stage is free, the group whose start is first before others, at one
  moment in turn. Each later stage takes it up as soon as it is there and the batch before has left. All
  stages take equally long, but for what the last one does alone for each row of a batch, the LM head.
- *Prompts.* The chunks of one prompt need not wait for one another's tokens: each next batch, of whichever
  group, takes the next chunk, so that chunks of one prompt are in several stages. The group of the last chunk
  decodes the request.
- *Memory.* Blocks are taken when a batch is planned, and given back when it has left the last stage. A group
  that finds none preempts its own, the newest first. A group that can do nothing waits for the next batch to
  leave.

References
----------
vLLM, `vllm/v1/engine/core.py` (`step_with_batch_queue`: as many batches in flight as stages) and
`vllm/v1/core/sched/scheduler.py` (`_update_after_schedule`: a prompt may be scheduled again before its chunk
returns). SGLang, `scheduler_pp_mixin.py` (a running batch for each place in the pipeline,
`pp_max_micro_batch_size`).
"""

from __future__ import annotations

import math

from sim_core.engine.compiling import Entry, inlined, inner, written_in
from sim_core.engine.kernels.batch import complete_joining, finish_due
from sim_core.engine.kernels.clock import move_on, pace_of
from sim_core.engine.kernels.gaps import count_decode_gaps
from sim_core.engine.kernels.log import log_steps, report_steps
from sim_core.engine.kernels.memory.blocks import reset_share
from sim_core.engine.kernels.one_pool import load_requests, open_engine
from sim_core.engine.kernels.queue import (
    append_to_queue,
    bring_coming,
    join_running,
    leave_running,
    send_first,
)
from sim_core.engine.kernels.records import (
    NOBODY,
    ONE,
    PREFILL_FIRST,
    ZERO,
    group_of,
    is_over,
)
from sim_core.engine.kernels.step_time import planned_time_s
from sim_core.engine.kernels.steps import plan_prompts, plan_step, wants_prefill_step

AT_REST, DECODING, PREFILLING = 0, 1, 2  # what a group's batch does that is on its way


@inlined
def hand_on(s, t):
    """Give what the groups of an engine share from the one that had it last to another."""
    t.queue_head, t.queue_tail = s.queue_head, s.queue_tail
    t.unfinished, t.released, t.newest, t.partial = s.unfinished, s.released, s.newest, s.partial
    t.free_blocks, t.reserved_blocks, t.share, t.eased = (
        s.free_blocks,
        s.reserved_blocks,
        s.share,
        s.eased,
    )
    t.log_rows, t.log_events = s.log_rows, s.log_events
    t.cached, t.oldest, t.latest = s.cached, s.oldest, s.latest
    t.host_blocks, t.host_oldest, t.host_latest = s.host_blocks, s.host_oldest, s.host_latest
    t.system_users, t.system_blocks = s.system_users, s.system_blocks
    t.looked = NOBODY
    t.elsewhere = s.elsewhere + s.running - t.running


@inlined
def move_prompt(s, t, requests):
    """Let the unfinished prompt go on in another group's batch, behind those that decode there."""
    i = s.partial
    if s.joining == i:
        s.joining = requests[i].next
    leave_running(s, requests, i)
    join_running(t, requests, i)
    t.elsewhere -= 1


@inlined
def first_back(states):
    """Return the group whose batch leaves the last stage first, or NOBODY where none is on its way."""
    found, found_s = NOBODY, math.inf
    for g in range(states.size):
        if states[g].under_way != AT_REST and states[g].returns_s < found_s:
            found, found_s = ONE * g, states[g].returns_s
    return found


@inlined
def start_of(s, shared, requests, free_s):
    """Return when a group could start a batch as things stand [s]; infinite while it has nothing to do."""
    if s.under_way != AT_REST or s.waits == 1:
        return math.inf
    start_s = max(free_s, s.clock_s)
    if s.running > 0 or shared.partial != NOBODY:
        return start_s
    if shared.queue_head == NOBODY:
        return math.inf
    return max(start_s, requests[shared.queue_head].arrival_s)


@inlined
def next_to_start(states, shared, requests, last, free_s):
    """Return the group that can start a batch first, at one moment the next in turn, or NOBODY."""
    found, found_s = NOBODY, math.inf
    g = last
    for _ in range(states.size):
        g = g + 1 if g + 1 < states.size else 0
        start_s = start_of(states[g], shared, requests, free_s)
        if start_s < found_s:
            found, found_s = ONE * g, start_s
    return found


@inlined
def pass_stages(s, stages, stage_s, whole_s):
    """Let a batch that starts now pass all stages; return the time in which the last one waits for it, and
    how much of that the pipeline was empty.
    """
    arrives_s = s.clock_s
    for k in range(stages.size - 1):
        arrives_s = max(arrives_s, stages[k].free_s) + stage_s
        stages[k].free_s = arrives_s
    last = stages[stages.size - 1]
    starts_s = max(arrives_s, last.free_s)
    waited_s = starts_s - last.free_s
    empty_s = max(s.clock_s - last.free_s, 0.0)
    s.returns_s = last.free_s = starts_s + whole_s
    return waited_s, min(empty_s, waited_s)


@inlined
def report_bubble(s, rules, waited_s, empty_s):
    """Count the time in which the last stage waited for a batch that was planned now."""
    if s.measured == 0:
        return
    bubble_s = waited_s - empty_s
    s.elapsed_s += waited_s
    s.bubble_s += bubble_s
    s.running_s += bubble_s * (s.running + s.elsewhere)
    s.kv_used_s += bubble_s * (rules.kv_blocks - s.free_blocks)


@written_in
def start_batch(s, stages, arrays, cost, rules):
    """Plan a group's next batch, and send it through the stages; without work, the group waits."""
    if s.running + s.elsewhere == 0:
        reset_share(s)
    prompts_alone = wants_prefill_step(s, arrays, rules)
    pace = pace_of(s, cost)
    if prompts_alone:
        plan_prompts(s, arrays, cost, rules)
    else:
        plan_step(s, arrays, cost, rules, pace)
    if s.tokens == 0:
        s.waits = 1
        return
    whole_s = planned_time_s(s, cost)
    waited_s, empty_s = pass_stages(s, stages, whole_s - cost.end_s[s.rows], whole_s)
    report_steps(s, arrays, rules, ONE, s.step_context, s.step_window, ZERO, whole_s)
    report_bubble(s, rules, waited_s, empty_s)
    decodes = ZERO if prompts_alone else s.decodes
    drafted = decodes * pace.drafts
    log_steps(s, arrays, rules, ONE, decodes + s.returned, drafted, s.returns_s - s.clock_s, 0.0)
    if decodes + s.returned > 0:
        s.eased += 1 - s.shortage
    s.under_way = PREFILLING if prompts_alone else DECODING


@written_in
def end_batch(s, arrays, cost, rules):
    """Hand out the tokens of a group's batch that has left the last stage."""
    started_s, s.clock_s = s.clock_s, s.returns_s
    decoding = s.under_way == DECODING
    s.under_way = AT_REST
    if decoding and s.decodes > 0:
        since_s = started_s if rules.policy == PREFILL_FIRST else s.last_decode_s
        stalled_s = started_s - s.last_decode_s if rules.policy == PREFILL_FIRST else 0.0
        ticks = move_on(s, arrays, pace_of(s, cost), ONE, 0.0)
        count_decode_gaps(s, arrays, rules, stalled_s, s.clock_s - since_s, 0.0, ONE, ticks)
        finish_due(s, arrays, cost, rules)
    complete_joining(s, arrays, cost, rules)
    if decoding:
        s.last_decode_s = s.clock_s


@inner
def let_all_try(states):
    """Let the groups that could do nothing look again."""
    for g in range(states.size):
        states[g].waits = 0


@inner
def open_groups(states, stacked, rules, concurrency):
    """Set the groups to their empty state, and the requests that are there before the queue."""
    for g in range(states.size):
        open_engine(states[g], rules)
    s, requests = states[0], stacked.requests
    s.unfinished = requests.size
    if rules.sequels:
        send_first(stacked.coming, requests, stacked.sessions, concurrency)
    else:
        s.released = min(concurrency, requests.size) if concurrency > 0 else requests.size
        for i in range(s.released):
            append_to_queue(s, requests, i)


@Entry
def run_pipelined(states, stacked, cost, rules, arrival_s, prompt_tokens, rest, concurrency):
    """Run one engine of several stages to the end, a state for each group, which also says when the stage of
    its number is free. A concurrency of 0 means open loop.
    """
    requests = stacked.requests
    load_requests(requests, arrival_s, prompt_tokens, rest)
    open_groups(states, stacked, rules, concurrency)
    last = holder = ZERO
    turn = NOBODY
    while states[last].unfinished > 0 and not is_over(stacked.turns, stacked.stop, ONE):
        if rules.sequels:
            bring_coming(states[last], stacked)
        back = first_back(states)
        g = next_to_start(states, states[last], requests, turn, states[0].free_s)
        start_s = start_of(states[g], states[last], requests, states[0].free_s) if g != NOBODY else math.inf
        if back != NOBODY and states[back].returns_s <= start_s:
            s = states[back]
            if back != last:
                hand_on(states[last], s)
            last = back
            end_batch(s, group_of(stacked, back, ZERO), cost, rules)
            let_all_try(states)
            continue
        if g == NOBODY:
            let_all_try(states)
            continue
        s = states[g]
        if g != last:
            hand_on(states[last], s)
        if s.partial != NOBODY and holder != g:
            move_prompt(states[holder], s, requests)
        last = turn = holder = g
        s.clock_s = start_s
        if rules.sequels:
            bring_coming(s, stacked)
        start_batch(s, states, group_of(stacked, g, ZERO), cost, rules)
