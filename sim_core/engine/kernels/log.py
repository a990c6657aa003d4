"""What a run reports: counters of its steps, and the log of steps and events where one is kept."""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.memory.blocks import has_room
from sim_core.engine.kernels.memory.prefix import look_up, tokens_found
from sim_core.engine.kernels.queue import is_full, target_of
from sim_core.engine.kernels.records import CHUNKED, NO_CACHE, NOBODY


@inlined
def report_steps(s, arrays, rules, steps, context, window, blocks, duration_s):
    """Add `steps` equal steps to the counters.

    `context` and `window` are sums over the steps, `blocks` the new KV blocks they took one after another.
    """
    s.measured = rules.measure_from <= s.newest < rules.measure_until
    if s.measured:
        report_work(s, arrays, steps, context, window, duration_s)
    report_held(s, arrays, rules, steps, blocks, duration_s)


@inlined
def report_work(s, arrays, steps, context, window, duration_s):
    """Count the steps and what their time is made of."""
    last = arrays.steps_by_tokens.size - 1
    arrays.steps_by_tokens[min(s.tokens, last)] += steps
    arrays.steps_by_rows[s.rows] += steps
    s.extra_tokens += max(s.tokens - last, 0) * steps
    s.steps += steps
    s.context_tokens += context
    s.window_tokens += window
    s.prefill_pairs += s.step_pairs
    s.window_pairs += s.step_window_pairs
    s.prefill_requests += s.prompts
    s.prefill_steps += 1 if s.prompts > 0 else 0
    s.swapped_tokens += s.swapped
    s.busy_s += duration_s
    s.elapsed_s += duration_s


@inlined
def report_held(s, arrays, rules, steps, blocks, duration_s):
    """Count what an engine holds meanwhile, what its prompts found, and who waits."""
    s.free_blocks_low = min(s.free_blocks_low, s.free_blocks)
    if not s.measured:
        return
    s.sent_tokens += s.step_sent
    s.reused_tokens += s.step_reused
    s.loaded_tokens += s.step_loaded
    s.running_s += duration_s * (s.running + s.elsewhere)
    s.kv_used_s += duration_s * (rules.kv_blocks - s.free_blocks - blocks * (steps - 1) / (2.0 * steps))
    report_blocked(s, arrays, rules, duration_s)


@inlined
def report_blocked(s, arrays, rules, duration_s):
    """Count the time in which the head of the queue waited for a place in the batch, or for KV blocks.

    A head that waits for its turn in the token budget alone is not blocked: the steps are merely full.
    """
    if s.queue_head == NOBODY:
        return
    r = arrays.requests[s.queue_head]
    waited_s = min(s.clock_s + duration_s - r.arrival_s, duration_s)
    if waited_s <= 0.0:
        return
    if is_full(s, rules):
        s.batch_blocked_s += waited_s
        return
    if rules.caching != NO_CACHE:
        look_up(s, arrays, rules, np.int64(s.queue_head), s.free_blocks)
    chunk = target_of(r) - r.computed - tokens_found(s, rules)
    if rules.policy == CHUNKED:
        chunk = min(chunk, rules.token_budget)
    if s.shortage == 1 or not has_room(s, arrays, rules, r, chunk, s.free_blocks):
        s.kv_blocked_s += waited_s


@inner
def log_steps(s, arrays, rules, steps, decodes, drafted, duration_s, growth_s):
    """Append one row to the step log if it has room; count it in any case.

    The contexts are those of the first step, the KV blocks those of the last.
    """
    if s.log_rows < arrays.log.size:
        row = arrays.log[s.log_rows]
        row.start_s = s.clock_s
        row.duration_s = duration_s
        row.growth_s = growth_s
        row.count = steps
        row.decodes = decodes
        row.drafts = drafted
        row.prefill_tokens = s.tokens - drafted - decodes
        row.prompts = s.prompts
        row.running = s.running + s.elsewhere
        row.kv_blocks_used = rules.kv_blocks - s.free_blocks
        row.cached_blocks = min(s.cached, s.free_blocks)
        row.context_tokens = np.int64(s.step_context)
        row.admitted = s.newest + 1
        row.swapped_tokens = s.swapped
        row.reused_tokens = s.step_reused
        row.loaded_tokens = s.step_loaded
        row.engine = s.engine
    s.log_rows += 1


@inlined
def log_event(s, arrays, kind, i, computed, tokens):
    """Note what happens to a request in the step being planned, if the log has room; count it in any case."""
    if s.log_events < arrays.events.size:
        event = arrays.events[s.log_events]
        event.row = s.log_rows
        event.kind = kind
        event.request = i
        event.computed = computed
        event.tokens = tokens
    s.log_events += 1
