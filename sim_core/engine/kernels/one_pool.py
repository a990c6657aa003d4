"""Everything compiled: the batching engine, from admission to the last token.

The engine follows the scheduler's rules one step at a time, but walks nothing that does not change:

* A decode is due at a known tick (ticks count the steps in which decodes advance), so the next finish is
  a look-up in a ring of due ticks, and the tokens a decode holds follow from its due tick.
* Between two events (a finish, an arrival that can join, a block shortage, a context that outgrows the
  sliding window) all steps have the same batch, and their times form an arithmetic series.
* A decode takes a new KV block every `block_tokens` ticks, always in the same phase, so the demand of a
  tick is a look-up in a histogram of phases.

The kernels know no physics: `StepCost` prices a step from a few counts. They draw no random numbers
and check no input; `sim_core.engine.run` does that. All of them live in this one file because Numba's
cache on disk only notices edits in a function's own file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np

CHUNKED, PREFILL_FIRST, STATIC = 0, 1, 2
CHUNK, PREEMPTED, RETURNED = 0, 1, 2
GAP_BINS_PER_OCTAVE = 64
GAP_EXPONENT_LOW = -40
GAP_BINS = (70 - GAP_EXPONENT_LOW) * GAP_BINS_PER_OCTAVE
PREFILLS, DECODES = 0, 1
NOBODY = -1

REQUEST = np.dtype(
    [
        ("arrival_s", np.float64),
        ("first_token_s", np.float64),
        ("finished_s", np.float64),
        ("last_token_s", np.float64),  # kept only while the request does not decode
        ("itl_max_s", np.float64),
        ("joined_s", np.float64),  # start of the step in which it joined the decodes of another pool
        ("due", np.int64),  # tick of its last token, while it decodes
        ("since", np.int64),  # first tick whose common gap counts for this request
        ("prompt", np.int32),
        ("output", np.int32),
        ("left", np.int32),  # output tokens to go, while it does not decode
        ("computed", np.int32),  # tokens in the KV cache, while it does not decode
        ("next", np.int32),  # in the queue or among the running
        ("previous", np.int32),  # among the running
        ("chain", np.int32),  # next request due at the same tick
        ("preemptions", np.int32),
    ],
    align=True,
)

STATE = np.dtype(
    [
        ("clock_s", np.float64),
        ("last_decode_s", np.float64),  # end of the last step in which decodes advanced
        ("tick", np.int64),
        ("context", np.int64),  # tokens in the KV caches of all decodes
        ("window", np.int64),  # the same, each at most window_tokens
        ("growing", np.int64),  # decodes still within the window
        ("decodes", np.int64),
        ("running", np.int64),
        ("fresh", np.int64),  # decodes at the tail that have not yet taken a decode step (prefill_first)
        ("free_blocks", np.int64),
        ("queue_head", np.int64),
        ("queue_tail", np.int64),
        ("running_head", np.int64),
        ("running_tail", np.int64),
        ("partial", np.int64),  # running request whose prompt is unfinished
        ("joining", np.int64),  # first request that takes prompt tokens in this step
        ("opens_s", np.float64),  # pooled: from when on it takes requests; infinite while it takes none
        ("released", np.int64),  # closed loop: next request to be released
        ("joins", np.int64),  # requests from another pool that have joined the decodes
        ("done", np.int64),  # finished requests that a pool's driver has not seen yet, linked by `next`
        ("unfinished", np.int64),
        ("newest", np.int64),  # highest index admitted so far
        # the step being planned
        ("tokens", np.int64),
        ("rows", np.int64),
        ("prompts", np.int64),
        ("returned", np.int64),  # decodes that come back from host memory
        ("step_context", np.int64),
        ("step_window", np.int64),
        ("swapped", np.int64),
        ("shortage", np.int64),  # 1 once something was preempted in this step
        ("measured", np.int64),  # 1 while the step counts in the statistics
        ("step_pairs", np.float64),
        ("step_window_pairs", np.float64),
        # what the run reports
        ("elapsed_s", np.float64),
        ("busy_s", np.float64),
        ("running_s", np.float64),
        ("kv_used_s", np.float64),
        ("kv_blocked_s", np.float64),
        ("batch_blocked_s", np.float64),
        ("steps", np.int64),
        ("context_tokens", np.int64),
        ("window_tokens", np.int64),
        ("prefill_pairs", np.float64),
        ("window_pairs", np.float64),
        ("prefill_requests", np.int64),
        ("extra_tokens", np.int64),
        ("swapped_tokens", np.int64),
        ("free_blocks_low", np.int64),
        ("gap_first", np.int64),
        ("gap_last", np.int64),
        ("log_rows", np.int64),
        ("log_events", np.int64),
    ],
    align=True,
)

LOG = np.dtype(
    [
        ("start_s", np.float64),
        ("duration_s", np.float64),
        ("growth_s", np.float64),  # each of the equal steps lasts this much longer than the one before
        ("count", np.int64),
        ("decodes", np.int64),
        ("prefill_tokens", np.int64),
        ("prompts", np.int64),
        ("running", np.int64),
        ("kv_blocks_used", np.int64),
        ("context_tokens", np.int64),
        ("admitted", np.int64),
        ("swapped_tokens", np.int64),
    ],
    align=True,
)

EVENT = np.dtype(
    [
        ("row", np.int64),  # of the log: the step in which it happens
        ("kind", np.int64),  # CHUNK, PREEMPTED or RETURNED
        ("request", np.int64),
        ("computed", np.int64),  # tokens in its KV cache before
        ("tokens", np.int64),  # prompt tokens of the chunk
    ],
    align=True,
)


class StepCost(NamedTuple):
    """Price list of one engine step; every time in seconds, tables C-contiguous float64.

    `token_s[T]` prices the T new tokens of the step, `row_s[R]` the R rows it samples; the rest are
    coefficients of sums over the step: KV tokens read by decodes (`decode_context_s`, and
    `window_context_s` where each context counts at most `window_tokens`), query-key pairs of prompt
    chunks (`prefill_pair_s`, `window_pair_s`), prompts given a chunk, tokens swapped to or from the host.
    """

    token_s: np.ndarray
    row_s: np.ndarray
    token_slope_s: float
    decode_context_s: float
    window_context_s: float
    window_tokens: int
    prefill_pair_s: float
    window_pair_s: float
    prefill_request_s: float
    swap_token_s: float


class Rules(NamedTuple):
    """Limits of one engine, the traffic loop around it, and what to measure."""

    policy: int
    max_running: int
    token_budget: int
    kv_blocks: int
    block_tokens: int
    swap: bool
    turnaround_s: float
    batch_wait_s: float
    measure_from: int
    measure_until: int
    track_itl_max: bool
    keep_log: bool
    pooled: bool


class Room(NamedTuple):
    """The arrays of one engine: the requests, its rings of coming events and its counters."""

    requests: np.ndarray  # REQUEST, one each
    due_first: np.ndarray  # first request due at a tick, by tick modulo the ring
    due_bits: np.ndarray  # uint64 words: which ticks of the ring are due
    crossings: np.ndarray  # decodes whose context reaches the window at a tick
    crossing_bits: np.ndarray
    phases: np.ndarray  # decodes by the phase in which they take a new block
    gap_ticks: np.ndarray  # monotone stack of common gaps, for itl_max_s
    gap_values_s: np.ndarray
    gap_counts: np.ndarray  # histogram of all gaps
    steps_by_tokens: np.ndarray
    steps_by_rows: np.ndarray
    log: np.ndarray  # LOG
    events: np.ndarray  # EVENT


def jit(**options: bool) -> Callable:
    """Return a decorator that compiles, with a cache on disk where a directory for it can be written.

    The kernels allocate nothing, so they are compiled without reference counting (`_nrt`): handing a
    `Room` of arrays from function to function is then free, which is worth a factor of ten.
    """
    options = {"nogil": True, "error_model": "numpy", "_nrt": False, **options}

    def decorate(function: Callable) -> Callable:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no directory for the cache is writable
            return numba.njit(**options)(function)

    return decorate


compiled = jit()
inlined = jit(forceinline=True)


# --- the price of a step --------------------------------------------------------------------------


@inlined
def token_time_s(cost, tokens):
    """Return the time that grows with the new tokens of a step [s]."""
    last = cost.token_s.size - 1
    if tokens <= last:
        return cost.token_s[tokens]
    return cost.token_s[last] + cost.token_slope_s * (tokens - last)


@inlined
def decode_time_s(cost, decodes, context, window):
    """Return the time of a step of decodes alone [s]."""
    return (
        token_time_s(cost, decodes)
        + cost.row_s[decodes]
        + cost.decode_context_s * context
        + cost.window_context_s * window
    )


@inlined
def planned_time_s(s, cost):
    """Return the time of the planned step [s]: decodes, prompt chunks and swaps together."""
    return (
        token_time_s(cost, s.tokens)
        + cost.row_s[s.rows]
        + cost.decode_context_s * s.step_context
        + cost.window_context_s * s.step_window
        + cost.prefill_pair_s * s.step_pairs
        + cost.window_pair_s * s.step_window_pairs
        + cost.prefill_request_s * s.prompts
        + cost.swap_token_s * s.swapped
    )


@inlined
def series_s(first_s, growth_s, count):
    """Return the sum of `count` step times that start at `first_s` and grow by `growth_s` a step."""
    return count * first_s + growth_s * (count * (count - 1) // 2)


@inlined
def steps_until(first_s, growth_s, wait_s, limit):
    """Return the fewest steps of the series that take at least `wait_s`, at most `limit`."""
    if series_s(first_s, growth_s, limit) < wait_s:
        return limit
    half = 0.5 * growth_s
    slope = first_s - half
    if half > 0.0:
        count = int((math.sqrt(slope * slope + 4.0 * half * wait_s) - slope) / (2.0 * half))
    else:
        count = int(wait_s / first_s)
    count = min(max(count, 1), limit)
    while count > 1 and series_s(first_s, growth_s, count - 1) >= wait_s:
        count -= 1
    while count < limit and series_s(first_s, growth_s, count) < wait_s:
        count += 1
    return count


@inlined
def pairs_between(start, end):
    """Return the query-key pairs of the prompt tokens from `start` to `end`: (end^2 - start^2) / 2."""
    return 0.5 * float((end - start) * (end + start))


@inlined
def window_pairs_between(start, end, window):
    """Return the same pairs where no query looks back further than `window` tokens."""
    inside = min(max(window, start), end)
    return pairs_between(start, inside) + float(window) * float(end - inside)


# --- the ring of coming events --------------------------------------------------------------------


@inlined
def set_bit(bits, position):
    bits[position >> 6] |= np.uint64(1) << np.uint64(position & 63)


@inlined
def clear_bit(bits, position):
    bits[position >> 6] &= ~(np.uint64(1) << np.uint64(position & 63))


@inlined
def lowest_bit(word):
    """Return the position of the lowest set bit of a word that is not 0."""
    alone = np.float64(word & (~word + np.uint64(1)))
    return (alone.view(np.int64) >> 52) - 1023  # its exponent; a shift is quicker than `math.frexp`


@inlined
def ticks_to_next(bits, tick):
    """Return how many ticks after `tick` the next event of the ring lies (0 = at it), or the ring's size."""
    words = bits.size
    size = words << 6
    position = tick & (size - 1)
    index = position >> 6
    word = (bits[index] >> np.uint64(position & 63)) << np.uint64(position & 63)
    for _ in range(words + 1):
        if word != 0:
            return ((index << 6) + lowest_bit(word) - position) & (size - 1)
        index = (index + 1) & (words - 1)
        word = bits[index]
    return size


# --- queue and running list, both linked through the requests -------------------------------------


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


@inlined
def waiting_head(s, requests):
    """Return the request at the head of the queue if it has arrived, else NOBODY."""
    i = s.queue_head
    if i != NOBODY and requests[i].arrival_s <= s.clock_s:
        return i
    return NOBODY


@inlined
def admit(s, requests):
    """Move the head of the queue to the tail of the running list; return it."""
    i = s.queue_head
    r = requests[i]
    s.queue_head = r.next
    r.previous = s.running_tail
    r.next = NOBODY
    if s.running_tail == NOBODY:
        s.running_head = i
    else:
        requests[s.running_tail].next = i
    s.running_tail = i
    s.running += 1
    s.newest = max(s.newest, i)
    return i


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


# --- KV blocks ------------------------------------------------------------------------------------


@inlined
def blocks_of(tokens, block_tokens):
    """Return the KV blocks that hold `tokens` tokens."""
    return (tokens + block_tokens - 1) // block_tokens


@inlined
def left_to_generate(s, r):
    """Return the output tokens that a decode has still to make."""
    return r.due - s.tick + 1


@inlined
def tokens_held(s, r):
    """Return the tokens that a decode holds in the KV cache."""
    return r.prompt + r.output - 1 - left_to_generate(s, r)


@inlined
def phase_of(s, r, block_tokens):
    """Return the tick, modulo the block size, at which a decode takes a new block."""
    return (s.tick - tokens_held(s, r)) % block_tokens


@inlined
def blocks_taken(s, room, count):
    """Return the new blocks that all decodes together take in the next `count` ticks."""
    block_tokens = room.phases.size
    taken = count // block_tokens * s.decodes
    phase = s.tick % block_tokens
    for _ in range(count % block_tokens):  # counts the phase up: a division a tick costs more than the sum
        taken += room.phases[phase]
        phase = phase + 1 if phase + 1 < block_tokens else 0
    return taken


@inlined
def steps_with_blocks(s, room, limit):
    """Return how many of the next `limit` steps of decodes find all the blocks they need."""
    block_tokens = room.phases.size
    if s.free_blocks >= s.decodes * blocks_of(limit, block_tokens):
        return limit
    cycles = s.free_blocks // s.decodes
    free = s.free_blocks - cycles * s.decodes
    count = cycles * block_tokens
    while count < limit:
        free -= room.phases[(s.tick + count) % block_tokens]
        if free < 0:
            break
        count += 1
    return min(count, limit)


# --- joining and leaving the decodes --------------------------------------------------------------


@inlined
def start_decoding(s, room, cost, i):
    """Count a request with `left` tokens to go among the decodes, from the current tick on."""
    r = room.requests[i]
    r.due = s.tick + r.left - 1
    r.since = s.tick
    ring = room.due_first.size - 1
    r.chain = room.due_first[r.due & ring]
    room.due_first[r.due & ring] = i
    set_bit(room.due_bits, r.due & ring)
    held = tokens_held(s, r)
    s.decodes += 1
    s.context += held
    room.phases[phase_of(s, r, room.phases.size)] += 1
    if cost.window_tokens > 0:
        enter_window(s, room, cost, r, held)


@compiled
def enter_window(s, room, cost, r, held):
    """Count a decode in the window sums, and note the tick at which its context outgrows the window."""
    s.window += min(held, cost.window_tokens)
    if held < cost.window_tokens:
        s.growing += 1
        if r.prompt + r.output - 1 >= cost.window_tokens:
            position = (s.tick + cost.window_tokens - held) & (room.crossings.size - 1)
            room.crossings[position] += 1
            set_bit(room.crossing_bits, position)


@compiled
def leave_window(s, room, cost, r, held):
    s.window -= min(held, cost.window_tokens)
    if held < cost.window_tokens:
        s.growing -= 1
        if r.prompt + r.output - 1 >= cost.window_tokens:
            position = (s.tick + cost.window_tokens - held) & (room.crossings.size - 1)
            room.crossings[position] -= 1
            if room.crossings[position] == 0:
                clear_bit(room.crossing_bits, position)


@inlined
def cross_window(s, room):
    """Let the decodes whose contexts reach the window at this tick grow no further."""
    position = s.tick & (room.crossings.size - 1)
    if room.crossings[position] > 0:
        s.growing -= room.crossings[position]
        room.crossings[position] = 0
        clear_bit(room.crossing_bits, position)


@inlined
def stop_decoding(s, room, cost, i):
    """Take a decode out of all sums; its place in the ring is left to the caller."""
    r = room.requests[i]
    held = tokens_held(s, r)
    s.decodes -= 1
    s.context -= held
    room.phases[phase_of(s, r, room.phases.size)] -= 1
    if cost.window_tokens > 0:
        leave_window(s, room, cost, r, held)


@compiled
def forget_due(room, i):
    """Take a request out of the ring of due ticks."""
    ring = room.due_first.size - 1
    position = room.requests[i].due & ring
    if room.due_first[position] == i:
        room.due_first[position] = room.requests[i].chain
        if room.due_first[position] == NOBODY:
            clear_bit(room.due_bits, position)
        return
    j = room.due_first[position]
    while room.requests[j].chain != i:
        j = room.requests[j].chain
    room.requests[j].chain = room.requests[i].chain


@compiled
def preempt(s, room, cost, rules, i):
    """Take a running request's blocks and send it to the head of the queue."""
    r = room.requests[i]
    if i == s.partial:
        s.partial = NOBODY
        log_event(s, room, PREEMPTED, i, r.computed, 0)
    else:
        log_event(s, room, PREEMPTED, i, tokens_held(s, r), 0)
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
    s.free_blocks += blocks_of(r.computed, rules.block_tokens)
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
    i = room.due_first[position]
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
        i = r.chain


# --- gaps between tokens --------------------------------------------------------------------------


@inlined
def gap_bin(gap_s):
    """Return the bin of a gap: 64 equal bins in each octave, about 1% wide."""
    if gap_s <= 0.0:
        return 0
    leading = np.float64(gap_s).view(np.int64) >> 46  # exponent and the first 6 bits of the mantissa
    return leading - (1022 + GAP_EXPONENT_LOW) * GAP_BINS_PER_OCTAVE


@inlined
def count_gaps(gap_counts, first_s, growth_s, steps, decodes):
    """Count the gaps of a run of steps, one for each decode and step."""
    step = 0
    while step < steps:
        here = gap_bin(first_s + growth_s * step)
        if growth_s <= 0.0 or gap_bin(first_s + growth_s * (steps - 1)) == here:
            end = steps
        else:
            octave, inside = divmod(here, GAP_BINS_PER_OCTAVE)
            edge_s = math.ldexp(0.5 + 0.5 * (inside + 1) / GAP_BINS_PER_OCTAVE, octave + GAP_EXPONENT_LOW)
            end = max(step + 1, min(steps, math.ceil((edge_s - first_s) / growth_s)))
            while end > step + 1 and gap_bin(first_s + growth_s * (end - 1)) != here:
                end -= 1
            while end < steps and gap_bin(first_s + growth_s * end) == here:
                end += 1
        gap_counts[here] += (end - step) * decodes
        step = end


@compiled
def note_common_gap(s, room, tick, gap_s):
    """Remember the gap that all decodes share at a tick; gaps that a later one exceeds are forgotten."""
    ring = room.gap_ticks.size - 1
    while s.gap_last > s.gap_first and room.gap_values_s[(s.gap_last - 1) & ring] <= gap_s:
        s.gap_last -= 1
    if s.gap_last - s.gap_first > ring:
        s.gap_first += 1
    room.gap_ticks[s.gap_last & ring] = tick
    room.gap_values_s[s.gap_last & ring] = gap_s
    s.gap_last += 1


@compiled
def largest_gap_since(s, room, tick):
    """Return the largest common gap at or after a tick [s], 0 if there was none."""
    ring = room.gap_ticks.size - 1
    low, high = s.gap_first, s.gap_last
    while low < high:
        middle = (low + high) // 2
        if room.gap_ticks[middle & ring] < tick:
            low = middle + 1
        else:
            high = middle
    return room.gap_values_s[low & ring] if low < s.gap_last else 0.0


@inlined
def count_own_gap(s, room, rules, r, token_s):
    """Count the gap that only this request had before its token at `token_s`: it paused or just joined."""
    gap_s = token_s - r.last_token_s
    if s.measured:
        room.gap_counts[gap_bin(gap_s)] += 1
    if rules.track_itl_max:
        r.itl_max_s = max(r.itl_max_s, gap_s)


@inlined
def count_decode_gaps(s, room, rules, stalled_s, first_s, growth_s, steps):
    """Count the gaps of all decodes over `steps` steps that end now; `stalled_s` of waiting came before.

    Tick and clock have moved on already; nobody has joined or finished yet.
    """
    if s.fresh == 0 and stalled_s == 0.0:
        if s.measured:
            count_gaps(room.gap_counts, first_s, growth_s, steps, s.decodes)
    else:
        count_stalled_gaps(s, room, rules, stalled_s, first_s, growth_s, steps)
    if rules.track_itl_max:
        if stalled_s > 0.0:
            note_common_gap(s, room, s.tick - steps, stalled_s + first_s)
        if steps > 1 or stalled_s == 0.0:
            note_common_gap(s, room, s.tick - 1, first_s + growth_s * (steps - 1))


@compiled
def count_stalled_gaps(s, room, rules, stalled_s, first_s, growth_s, steps):
    """Count gaps where prefill steps came between: longer for the old decodes, their own for the fresh."""
    if s.measured:
        room.gap_counts[gap_bin(stalled_s + first_s)] += s.decodes - s.fresh
    first_end_s = s.clock_s - series_s(first_s + growth_s, growth_s, steps - 1)
    i = s.running_tail if s.joining == NOBODY else room.requests[s.joining].previous
    for _ in range(s.fresh):
        r = room.requests[i]
        count_own_gap(s, room, rules, r, first_end_s)
        r.since = s.tick - steps + 1
        i = r.previous
    s.fresh = 0
    if steps > 1 and s.measured:
        count_gaps(room.gap_counts, first_s + growth_s, growth_s, steps - 1, s.decodes)


# --- what a run reports ---------------------------------------------------------------------------


@inlined
def report_steps(s, room, rules, steps, context, window, blocks, duration_s):
    """Add `steps` equal steps to the counters.

    `context` and `window` are sums over the steps, `blocks` the new KV blocks they took one after another.
    """
    s.free_blocks_low = min(s.free_blocks_low, s.free_blocks)
    s.measured = rules.measure_from <= s.newest < rules.measure_until
    if not s.measured:
        return
    last = room.steps_by_tokens.size - 1
    room.steps_by_tokens[min(s.tokens, last)] += steps
    room.steps_by_rows[s.rows] += steps
    s.extra_tokens += max(s.tokens - last, 0) * steps
    s.steps += steps
    s.context_tokens += context
    s.window_tokens += window
    s.prefill_pairs += s.step_pairs
    s.window_pairs += s.step_window_pairs
    s.prefill_requests += s.prompts
    s.swapped_tokens += s.swapped
    s.busy_s += duration_s
    s.elapsed_s += duration_s
    s.running_s += duration_s * s.running
    s.kv_used_s += duration_s * (rules.kv_blocks - s.free_blocks - blocks * (steps - 1) / (2.0 * steps))
    report_blocked(s, room, rules, duration_s)


@inlined
def report_blocked(s, room, rules, duration_s):
    """Count the time in which the head of the queue waited for a place in the batch, or for KV blocks.

    A head that waits for its turn in the token budget alone is not blocked: the steps are merely full.
    """
    if s.queue_head == NOBODY:
        return
    r = room.requests[s.queue_head]
    waited_s = min(s.clock_s + duration_s - r.arrival_s, duration_s)
    if waited_s <= 0.0:
        return
    if s.running >= rules.max_running:
        s.batch_blocked_s += waited_s
        return
    chunk = target_of(r) - r.computed
    if rules.policy == CHUNKED:
        chunk = min(chunk, rules.token_budget)
    if s.shortage == 1 or blocks_of(r.computed + chunk, rules.block_tokens) > s.free_blocks:
        s.kv_blocked_s += waited_s


@compiled
def log_steps(s, room, rules, steps, decodes, duration_s, growth_s):
    """Append one row to the step log if it has room; count it in any case.

    The contexts are those of the first step, the KV blocks those of the last.
    """
    if s.log_rows < room.log.size:
        row = room.log[s.log_rows]
        row.start_s = s.clock_s
        row.duration_s = duration_s
        row.growth_s = growth_s
        row.count = steps
        row.decodes = decodes
        row.prefill_tokens = s.tokens - decodes
        row.prompts = s.prompts
        row.running = s.running
        row.kv_blocks_used = rules.kv_blocks - s.free_blocks
        row.context_tokens = s.step_context
        row.admitted = s.newest + 1
        row.swapped_tokens = s.swapped
    s.log_rows += 1


@inlined
def log_event(s, room, kind, i, computed, tokens):
    """Note what happens to a request in the step being planned, if the log has room; count it in any case."""
    if s.log_events < room.events.size:
        event = room.events[s.log_events]
        event.row = s.log_rows
        event.kind = kind
        event.request = i
        event.computed = computed
        event.tokens = tokens
    s.log_events += 1


# --- planning one step ----------------------------------------------------------------------------


@inlined
def clear_plan(s):
    """Start the plan of a step with nothing in it."""
    s.tokens = 0
    s.rows = 0
    s.prompts = 0
    s.returned = 0
    s.step_context = 0
    s.step_window = 0
    s.swapped = 0
    s.shortage = 0
    s.step_pairs = 0.0
    s.step_window_pairs = 0.0
    s.joining = NOBODY


@inlined
def plan_decodes(s, room, cost, rules):
    """Give every decode one token, and a block where it needs one; preempt from the tail if none is left."""
    block_tokens = rules.block_tokens
    phase = s.tick % block_tokens
    if room.phases[phase] <= s.free_blocks:
        s.free_blocks -= room.phases[phase]
    else:
        take_blocks_in_order(s, room, cost, rules, phase)
    s.tokens += s.decodes
    s.rows += s.decodes
    s.step_context += s.context
    s.step_window += s.window


@compiled
def take_blocks_in_order(s, room, cost, rules, phase):
    """Give blocks to decodes in admission order, preempting from the tail; stop if one preempts itself."""
    i = s.running_head
    while i != NOBODY and i != s.partial:
        if phase_of(s, room.requests[i], rules.block_tokens) == phase:
            while s.free_blocks == 0:
                victim = s.running_tail
                preempt(s, room, cost, rules, victim)
                if victim == i:
                    return
            s.free_blocks -= 1
        i = room.requests[i].next


@inlined
def target_of(r):
    """Return the tokens that must be in the KV cache before the next token can be made."""
    return r.prompt + r.output - r.left


@inlined
def is_returning_decode(r, rules):
    """Return whether a waiting request is a decode: its KV cache lies in host memory, or came from a pool."""
    return r.left < r.output and r.computed > 0


@inlined
def plan_chunk(s, room, cost, i, r, chunk):
    """Plan the next `chunk` tokens of a prompt; its last one yields an output token."""
    log_event(s, room, CHUNK, i, r.computed, chunk)
    end = r.computed + chunk
    s.tokens += chunk
    s.prompts += 1
    s.step_pairs += pairs_between(r.computed, end)
    if cost.window_tokens > 0:
        s.step_window_pairs += window_pairs_between(r.computed, end, cost.window_tokens)
    r.computed = end
    if end == target_of(r):
        s.rows += 1
        s.partial = NOBODY
    else:
        s.partial = i


@inlined
def plan_return(s, room, cost, i, r):
    """Plan one token of a decode that comes back from host memory."""
    log_event(s, room, RETURNED, i, r.computed, 0)
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
def plan_admission(s, room, cost, rules, chunk):
    """Admit the head of the queue and plan its first `chunk` tokens."""
    i = admit(s, room.requests)
    r = room.requests[i]
    s.free_blocks -= blocks_of(r.computed + chunk, rules.block_tokens)
    if s.joining == NOBODY:
        s.joining = i
    if rules.swap and r.preemptions > 0:
        s.swapped += r.computed
    if is_returning_decode(r, rules):
        plan_return(s, room, cost, i, r)
    else:
        plan_chunk(s, room, cost, i, r, chunk)


@compiled
def continue_prompt(s, room, cost, rules):
    """Plan the next chunk of the unfinished prompt; without blocks for it, it is preempted itself."""
    i = s.partial
    r = room.requests[i]
    chunk = min(target_of(r) - r.computed, rules.token_budget - s.tokens)
    needed = blocks_of(r.computed + chunk, rules.block_tokens) - blocks_of(r.computed, rules.block_tokens)
    if needed > s.free_blocks:
        preempt(s, room, cost, rules, i)
        return
    s.free_blocks -= needed
    s.joining = i
    plan_chunk(s, room, cost, i, r, chunk)


@inlined
def tokens_to_join(s, room, rules, tokens, free_blocks):
    """Return the tokens that the head of the queue takes in a step of `tokens` so far, 0 if it cannot join.

    Under `prefill_first` only a decode that comes back from host memory joins a step of decodes.
    """
    i = waiting_head(s, room.requests)
    if i == NOBODY or s.running >= rules.max_running:
        return 0
    r = room.requests[i]
    chunk = target_of(r) - r.computed
    if rules.policy == CHUNKED:
        chunk = min(chunk, rules.token_budget - tokens)
    elif not is_returning_decode(r, rules):
        return 0
    return chunk if blocks_of(r.computed + chunk, rules.block_tokens) <= free_blocks else 0


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


@inlined
def move_on(s, room, steps, duration_s):
    """Move the clock, and all decodes by `steps` tokens."""
    s.clock_s += duration_s
    s.tick += steps
    s.context += s.decodes * steps
    s.window += s.growing * steps
    cross_window(s, room)


# --- the three kinds of step ----------------------------------------------------------------------


@compiled
def planned_step(s, room, cost, rules):
    """Run one step of decodes, the unfinished prompt and whoever can join."""
    clear_plan(s)
    plan_decodes(s, room, cost, rules)
    if s.partial != NOBODY:
        continue_prompt(s, room, cost, rules)
    while s.shortage == 0:
        chunk = tokens_to_join(s, room, rules, s.tokens, s.free_blocks)
        if chunk <= 0:
            break
        plan_admission(s, room, cost, rules, chunk)
    if s.tokens == 0:
        return
    duration_s = planned_time_s(s, cost)
    stalled_s = s.clock_s - s.last_decode_s if rules.policy == PREFILL_FIRST else 0.0
    report_steps(s, room, rules, 1, s.step_context, s.step_window, 0, duration_s)
    log_steps(s, room, rules, 1, s.decodes + s.returned, duration_s, 0.0)
    move_on(s, room, 1, duration_s)
    if s.decodes > 0:
        count_decode_gaps(s, room, rules, stalled_s, duration_s, 0.0, 1)
    finish_due(s, room, cost, rules)
    complete_joining(s, room, cost, rules)
    s.last_decode_s = s.clock_s


@compiled
def prefill_step(s, room, cost, rules):
    """Run one step of whole prompts, at least one and up to the token budget; decodes wait."""
    clear_plan(s)
    while s.running < rules.max_running:
        i = waiting_head(s, room.requests)
        if i == NOBODY or is_returning_decode(room.requests[i], rules):
            break
        target = target_of(room.requests[i])
        over_budget = s.tokens > 0 and s.tokens + target > rules.token_budget
        if over_budget or blocks_of(target, rules.block_tokens) > s.free_blocks:
            break
        plan_admission(s, room, cost, rules, target)
    duration_s = planned_time_s(s, cost)
    report_steps(s, room, rules, 1, 0, 0, 0, duration_s)
    log_steps(s, room, rules, 1, 0, duration_s, 0.0)
    s.clock_s += duration_s
    complete_joining(s, room, cost, rules)


@compiled
def decode_run(s, room, cost, rules, limit, until_s):
    """Run up to `limit` equal steps of decodes alone; stop where somebody who could join arrives."""
    clear_plan(s)
    s.tokens = s.rows = s.decodes
    s.step_context = s.context
    first_s = decode_time_s(cost, s.decodes, s.context, s.window)
    growth_s = cost.decode_context_s * s.decodes + cost.window_context_s * s.growing
    stop_s = until_s
    if s.queue_head != NOBODY and s.running < rules.max_running:
        arrival_s = room.requests[s.queue_head].arrival_s
        if arrival_s > s.clock_s:
            stop_s = min(stop_s, arrival_s)
    steps = limit if stop_s == math.inf else steps_until(first_s, growth_s, stop_s - s.clock_s, limit)
    duration_s = series_s(first_s, growth_s, steps)
    blocks = blocks_taken(s, room, steps)
    s.free_blocks -= blocks
    more = steps * (steps - 1) // 2
    context = steps * s.context + more * s.decodes
    window = steps * s.window + more * s.growing
    stalled_s = s.clock_s - s.last_decode_s if rules.policy == PREFILL_FIRST else 0.0
    report_steps(s, room, rules, steps, context, window, blocks, duration_s)
    log_steps(s, room, rules, steps, s.decodes, duration_s, growth_s)
    move_on(s, room, steps, duration_s)
    count_decode_gaps(s, room, rules, stalled_s, first_s, growth_s, steps)
    finish_due(s, room, cost, rules)
    s.last_decode_s = s.clock_s


@inlined
def run_limit(s, room, cost):
    """Return the steps until something changes: a finish, a context at the window, a block shortage."""
    limit = ticks_to_next(room.due_bits, s.tick) + 1
    if cost.window_tokens > 0 and s.growing > 0:
        limit = min(limit, max(ticks_to_next(room.crossing_bits, s.tick), 1))
    return steps_with_blocks(s, room, limit)


# --- the policies ---------------------------------------------------------------------------------


@inlined
def wants_planned_step(s, room, rules):
    """Return whether prompt tokens, or a decode from host memory, go into the next step of decodes."""
    if s.partial != NOBODY:
        return True
    free_blocks = s.free_blocks - room.phases[s.tick % rules.block_tokens]
    return tokens_to_join(s, room, rules, s.decodes, free_blocks) > 0


@inlined
def wants_prefill_step(s, room, rules):
    """Return whether `prefill_first` stops the decodes for whole prompts now."""
    i = waiting_head(s, room.requests)
    if rules.policy != PREFILL_FIRST or i == NOBODY or s.running >= rules.max_running:
        return False
    r = room.requests[i]
    return not is_returning_decode(r, rules) and blocks_of(target_of(r), rules.block_tokens) <= s.free_blocks


@inlined
def next_step(s, room, cost, rules, until_s):
    """Run the next step, or all equal steps up to the next event."""
    if wants_prefill_step(s, room, rules):
        prefill_step(s, room, cost, rules)
    elif wants_planned_step(s, room, rules):
        planned_step(s, room, cost, rules)
    else:
        limit = run_limit(s, room, cost)
        if limit > 0:
            decode_run(s, room, cost, rules, limit, until_s)
        else:
            planned_step(s, room, cost, rules)


@compiled
def advance(s, room, cost, rules, until_s):
    """Run all steps that start before `until_s`."""
    while s.unfinished > 0:
        if s.running == 0 and waiting_head(s, room.requests) == NOBODY:
            if s.queue_head == NOBODY or room.requests[s.queue_head].arrival_s >= until_s:
                return
            wait_until(s, rules, room.requests[s.queue_head].arrival_s)
        if s.clock_s >= until_s:
            return
        next_step(s, room, cost, rules, until_s)


@inlined
def wait_until(s, rules, arrival_s):
    """Let the idle engine wait for the next arrival."""
    if rules.measure_from <= s.newest < rules.measure_until:
        s.elapsed_s += arrival_s - s.clock_s
    s.clock_s = arrival_s


# --- whole runs -----------------------------------------------------------------------------------


@compiled
def load_requests(requests, arrival_s, prompt_tokens, output_tokens):
    """Write the traffic into the request records."""
    for i in range(requests.size):
        r = requests[i]
        r.arrival_s = arrival_s[i]
        r.first_token_s = math.nan
        r.finished_s = math.nan
        r.last_token_s = 0.0
        r.itl_max_s = 0.0
        r.joined_s = math.nan
        r.prompt = prompt_tokens[i]
        r.output = output_tokens[i]
        r.left = output_tokens[i]
        r.computed = 0
        r.preemptions = 0


@compiled
def open_engine(s, rules):
    """Set an engine to its empty state at time 0; records come zeroed."""
    s.free_blocks = rules.kv_blocks
    s.free_blocks_low = rules.kv_blocks
    s.queue_head = s.queue_tail = NOBODY
    s.running_head = s.running_tail = NOBODY
    s.partial = s.joining = s.newest = s.done = NOBODY


@compiled
def run_continuous(states, room, cost, rules, arrival_s, prompt_tokens, output_tokens, concurrency):
    """Run one engine to the end under `chunked` or `prefill_first`; a concurrency of 0 means open loop."""
    load_requests(room.requests, arrival_s, prompt_tokens, output_tokens)
    s = states[0]
    open_engine(s, rules)
    count = room.requests.size
    s.unfinished = count
    s.released = min(concurrency, count) if concurrency > 0 else count
    for i in range(s.released):
        append_to_queue(s, room.requests, i)
    advance(s, room, cost, rules, math.inf)


@inlined
def room_of(rooms, replica):
    """Return one replica's room; all replicas share the requests."""
    return Room(
        rooms.requests,
        rooms.due_first[replica],
        rooms.due_bits[replica],
        rooms.crossings[replica],
        rooms.crossing_bits[replica],
        rooms.phases[replica],
        rooms.gap_ticks[replica],
        rooms.gap_values_s[replica],
        rooms.gap_counts[replica],
        rooms.steps_by_tokens[replica],
        rooms.steps_by_rows[replica],
        rooms.log[replica],
        rooms.events[replica],
    )


@compiled
def run_balanced(states, rooms, cost, rules, drain_rules, arrival_s, prompt_tokens, output_tokens):
    """Run replicas side by side; each arrival goes to the one with the fewest unfinished requests.

    The router sees every replica after all steps that start before the arrival. After the last one,
    `drain_rules` hold, which may measure no more.
    """
    load_requests(rooms.requests, arrival_s, prompt_tokens, output_tokens)
    for replica in range(states.size):
        open_engine(states[replica], rules)
        states[replica].released = rooms.requests.size
    for i in range(rooms.requests.size):
        chosen = 0
        for replica in range(states.size):
            advance(states[replica], room_of(rooms, replica), cost, rules, arrival_s[i])
            if states[replica].unfinished < states[chosen].unfinished:
                chosen = replica
        append_to_queue(states[chosen], rooms.requests, i)
        states[chosen].unfinished += 1
    for replica in range(states.size):
        advance(states[replica], room_of(rooms, replica), cost, drain_rules, math.inf)


# --- two pools: prefill workers, a link each, decode workers ----------------------------------------


class Transfer(NamedTuple):
    """What sending a prompt's KV cache to the decode pool takes.

    Without overlap a prompt of T tokens takes `token_s` x T after its step. Where layers are sent as they
    are done, only what the step could not hide remains: the last layer, or more where the link is slower.
    """

    token_s: float
    latency_s: float
    layers: int
    overlap: bool


STAGE = np.dtype(
    [
        ("prefill_start_s", np.float64),
        ("prefill_end_s", np.float64),
        ("transfer_end_s", np.float64),
        ("sender", np.int32),
        ("receiver", np.int32),
        ("following", np.int32),  # next one whose KV cache the sender holds
        ("next_sent", np.int32),  # next one on the sender's link
    ],
    align=True,
)

SENDER = np.dtype(
    [
        ("free_s", np.float64),  # end of the worker's step; infinite while it takes no prompts
        ("link_free_s", np.float64),
        ("released_s", np.float64),  # when a decode worker last took over a KV cache that it held
        ("held_head", np.int64),  # prompts whose KV cache it holds, in no order
        ("sent_head", np.int64),  # prompts on their way, in order of arrival
        ("sent_tail", np.int64),
    ],
    align=True,
)


@inlined
def sending_s(transfer, tokens, step_s):
    """Return the time that sending a prompt's KV cache takes after the step of `step_s` that made it [s]."""
    whole_s = transfer.token_s * tokens
    if not transfer.overlap:
        return whole_s
    last_s = whole_s / transfer.layers
    return max(last_s, whole_s - step_s * (transfer.layers - 1) / transfer.layers)


@compiled
def release_held(s, sender, requests, stages, rules, now_s):
    """Give back the blocks of prompts that a decode worker has taken over by now."""
    last = NOBODY
    i = sender.held_head
    while i != NOBODY:
        following = stages[i].following
        if requests[i].joined_s <= now_s:
            sender.released_s = max(sender.released_s, requests[i].joined_s)
            s.free_blocks += blocks_of(requests[i].prompt, rules.block_tokens)
            if last == NOBODY:
                sender.held_head = following
            else:
                stages[last].following = following
        else:
            last = i
        i = following


@inlined
def free_sender(states, senders, requests, stages, rules, first, now_s):
    """Return the first worker that is free now and has room for the prompt at the head, or NOBODY."""
    needed = blocks_of(requests[first].prompt, rules.block_tokens)
    for p in range(senders.size):
        if senders[p].free_s <= now_s:
            release_held(states[p], senders[p], requests, stages, rules, now_s)
            if needed <= states[p].free_blocks:
                return p
    return NOBODY


@inlined
def next_free_s(senders, after_s):
    """Return when the next worker becomes free after a moment [s]."""
    found = math.inf
    for p in range(senders.size):
        if after_s < senders[p].free_s < found:
            found = senders[p].free_s
    return found


@compiled
def prefill_prompts(s, room, sender, stages, cost, rules, transfer, p, first, released, now_s):
    """Run one step of whole prompts on a prefill worker and put them on its link; return the next one.

    As many as have arrived, fit the token budget and the worker's memory; at least one.
    """
    wait_until(s, rules, max(now_s, s.clock_s))
    clear_plan(s)
    end = first
    while end < released and room.requests[end].arrival_s <= now_s:
        r = room.requests[end]
        blocks = blocks_of(r.prompt, rules.block_tokens)
        if s.tokens > 0 and (s.tokens + r.prompt > rules.token_budget or end - first >= rules.max_running):
            break
        if blocks > s.free_blocks:
            break
        s.free_blocks -= blocks
        s.tokens += r.prompt
        s.step_pairs += pairs_between(0, r.prompt)
        if cost.window_tokens > 0:
            s.step_window_pairs += window_pairs_between(0, r.prompt, cost.window_tokens)
        end += 1
    s.rows = s.prompts = s.running = end - first
    s.newest = end - 1
    duration_s = planned_time_s(s, cost)
    report_steps(s, room, rules, 1, 0, 0, 0, duration_s)
    s.clock_s += duration_s
    sender.free_s = s.clock_s
    for i in range(first, end):
        send_prompt(s, room.requests, sender, stages, rules, transfer, p, i, now_s, duration_s)
    s.running = 0
    return end


@inlined
def send_prompt(s, requests, sender, stages, rules, transfer, p, i, start_s, step_s):
    """Note a prompt's first token, and put its KV cache on the sender's link if there is more to make."""
    r = requests[i]
    stages[i].sender = p
    stages[i].prefill_start_s = start_s
    stages[i].prefill_end_s = s.clock_s
    r.first_token_s = r.last_token_s = s.clock_s
    r.left -= 1
    r.computed = r.prompt
    if r.left == 0:
        r.finished_s = s.clock_s
        s.free_blocks += blocks_of(r.prompt, rules.block_tokens)
        r.next = s.done
        s.done = i
        return
    put_on_link(sender, stages, i, s.clock_s, transfer.latency_s + sending_s(transfer, r.prompt, step_s))
    stages[i].following = sender.held_head
    sender.held_head = i


@inlined
def put_on_link(sender, stages, i, ready_s, travel_s):
    """Send a KV cache once it is ready and those before it on the link have gone."""
    sender.link_free_s = max(ready_s, sender.link_free_s) + travel_s
    stages[i].transfer_end_s = sender.link_free_s
    stages[i].next_sent = NOBODY
    if sender.sent_head == NOBODY:
        sender.sent_head = i
    else:
        stages[sender.sent_tail].next_sent = i
    sender.sent_tail = i


@inlined
def next_arriving(senders, stages):
    """Return the worker whose next prompt is the first to arrive at the decode pool, or NOBODY."""
    found = NOBODY
    for p in range(senders.size):
        i = senders[p].sent_head
        if i != NOBODY and (
            found == NOBODY or stages[i].transfer_end_s < stages[senders[found].sent_head].transfer_end_s
        ):
            found = p
    return found


@inlined
def deliver(states, requests, senders, stages, p, now_s):
    """Hand the next prompt on a link to the open decode worker with the fewest unfinished requests."""
    i = senders[p].sent_head
    senders[p].sent_head = stages[i].next_sent
    chosen = NOBODY
    for d in range(states.size):
        if states[d].opens_s <= now_s and (
            chosen == NOBODY or states[d].unfinished < states[chosen].unfinished
        ):
            chosen = d
    stages[i].receiver = chosen
    requests[i].arrival_s = stages[i].transfer_end_s
    append_to_queue(states[chosen], requests, i)
    states[chosen].unfinished += 1


@inlined
def push(heap, size, value):
    """Add a value to a heap of `size` values."""
    place = size
    while place > 0 and heap[(place - 1) // 2] > value:
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = value


@inlined
def pop(heap, size):
    """Take the smallest value off a heap of `size` values, which then has one less."""
    last = heap[size - 1]
    place = 0
    while 2 * place + 1 < size - 1:
        child = 2 * place + 1
        if child + 1 < size - 1 and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= last:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = last


@inlined
def collect_done(s, requests, heap, size, turnaround_s):
    """Move a worker's finished requests to the heap of moments at which their clients send again."""
    i = s.done
    while i != NOBODY:
        push(heap, size, requests[i].finished_s + turnaround_s)
        size += 1
        i = requests[i].next
    s.done = NOBODY
    return size


@inlined
def next_step_s(s, requests):
    """Return when a decode worker's next step starts [s]; infinite while it has nothing to do."""
    if s.running > 0 or waiting_head(s, requests) != NOBODY:
        return s.clock_s
    return math.inf if s.queue_head == NOBODY else requests[s.queue_head].arrival_s


class Pool(NamedTuple):
    """The workers of one pool: their states and rooms, what their steps cost, and their rules."""

    states: np.ndarray
    rooms: Room
    cost: StepCost
    rules: Rules


CLERK = np.dtype(
    [
        ("now_s", np.float64),  # time of the last event
        ("taken", np.int64),  # requests that a prefill worker has taken
        ("released", np.int64),  # requests that have been sent
        ("returning", np.int64),  # clients in the heap of those that will send again
        ("blocked", np.int64),  # 1 while no free prefill worker has room for the head of the queue
        ("blocked_s", np.float64),  # when that was found last
        ("moves", np.int64),  # moves asked for so far
        ("draining", np.int64),  # those whose worker has not yet given up its work
    ],
    align=True,
)


@inlined
def next_start_s(c, senders, sent_s):
    """Return when a prefill worker can start its next step as things stand [s]."""
    if c.taken >= c.released:
        return math.inf
    if c.blocked == 1:
        return next_free_s(senders, c.blocked_s)
    free_s = math.inf
    for p in range(senders.size):
        free_s = min(free_s, senders[p].free_s)
    return max(free_s, sent_s[c.taken], c.now_s)


@compiled
def decode_until(c, decode, heap, event_s):
    """Run the decode workers up to an event; return whether one step has run that may bring an earlier one.

    Such steps, which let a client send again, make room for a waiting prompt or end a worker's work in its
    pool, run one at a time, that of the worker furthest behind first.
    """
    requests = decode.rooms.requests
    behind = NOBODY
    for d in range(decode.states.size):
        s = decode.states[d]
        if c.blocked == 0 and c.released == requests.size and c.draining == 0:
            advance(s, room_of(decode.rooms, d), decode.cost, decode.rules, event_s)
        elif next_step_s(s, requests) < event_s and (
            behind == NOBODY or next_step_s(s, requests) < next_step_s(decode.states[behind], requests)
        ):
            behind = d
    if behind == NOBODY:
        return False
    s = decode.states[behind]
    c.now_s = max(c.now_s, next_step_s(s, requests))
    joins = s.joins
    just_after_s = math.nextafter(c.now_s, math.inf)
    advance(s, room_of(decode.rooms, behind), decode.cost, decode.rules, just_after_s)
    c.returning = collect_done(s, requests, heap, c.returning, decode.rules.turnaround_s)
    if s.joins > joins:
        c.blocked = 0
    return True


@inlined
def send_again(c, requests, heap, sent_s):
    """Let the next client send the next request of the list."""
    sent_s[c.released] = requests[c.released].arrival_s = heap[0]
    pop(heap, c.returning)
    c.returning -= 1
    c.released += 1


@inlined
def start_prefill(c, prefill, senders, stages, transfer, heap):
    """Let a prefill worker take prompts, or note that none has room."""
    requests = prefill.rooms.requests
    p = free_sender(prefill.states, senders, requests, stages, prefill.rules, c.taken, c.now_s)
    c.blocked = 1 if p == NOBODY else 0
    if p == NOBODY:
        c.blocked_s = c.now_s
        return
    s, room = prefill.states[p], room_of(prefill.rooms, p)
    sender, taken, sent = senders[p], c.taken, c.released
    c.taken = prefill_prompts(
        s, room, sender, stages, prefill.cost, prefill.rules, transfer, p, taken, sent, c.now_s
    )
    c.returning = collect_done(s, requests, heap, c.returning, prefill.rules.turnaround_s)


@compiled
def open_pools(clerks, prefill, senders, decode, sent_s, prompts, outputs, clients):
    """Set both pools to their empty state at time 0, every worker open; no `clients` mean an open loop."""
    requests, c = decode.rooms.requests, clerks[0]
    load_requests(requests, sent_s, prompts, outputs)
    for p in range(senders.size):
        open_engine(prefill.states[p], prefill.rules)
        senders[p].held_head = senders[p].sent_head = senders[p].sent_tail = NOBODY
    for d in range(decode.states.size):
        open_engine(decode.states[d], decode.rules)
        decode.states[d].released = requests.size
    c.released = min(clients, requests.size) if clients > 0 else requests.size


@compiled
def advance_pools(clerks, prefill, senders, decode, stages, heap, moves, plan, transfer, sent_s, until_s):
    """Run prefill and decode workers side by side, everything that happens before `until_s`.

    Events in order of time: a client sends again, a prompt arrives at the decode pool, a prefill worker
    starts; decode workers run all steps that start before. `sent_s` holds the arrivals; in a closed loop it
    is completed here.
    """
    requests, c = decode.rooms.requests, clerks[0]
    while True:
        if c.draining > 0:
            finish_moves(c, senders, decode, stages, moves, plan)
        arriving = next_arriving(senders, stages)
        arrival_s = math.inf if arriving == NOBODY else stages[senders[arriving].sent_head].transfer_end_s
        again_s = heap[0] if c.returning > 0 and c.released < requests.size else math.inf
        event_s = min(next_start_s(c, senders, sent_s), arrival_s, again_s)
        if decode_until(c, decode, heap, min(event_s, until_s)):
            continue
        if event_s >= until_s:
            break
        c.now_s = max(c.now_s, event_s)
        if again_s <= event_s:
            send_again(c, requests, heap, sent_s)
        elif arrival_s <= event_s:
            deliver(decode.states, requests, senders, stages, arriving, c.now_s)
        else:
            start_prefill(c, prefill, senders, stages, transfer, heap)
    if until_s < math.inf:
        c.now_s = max(c.now_s, until_s)


# --- workers that move between the pools ------------------------------------------------------------


MOVE = np.dtype(
    [
        ("worker", np.int64),
        ("to", np.int64),  # PREFILLS or DECODES
        ("asked_s", np.float64),
        ("step_end_s", np.float64),  # of the step it was in
        ("drained_s", np.float64),  # when it had given up its work; NaN until then
        ("ready_s", np.float64),  # when it takes work in the other pool
    ],
    align=True,
)


class Plan(NamedTuple):
    """What a move takes: after the worker's work is done or sent away, so long it serves nobody.

    Where decodes `migrate`, their KV caches travel over the worker's own link to the other decode workers.
    An `instant` leave waits for no link and for nobody to take over what the worker holds.
    """

    reallocation_s: float
    migrate: bool
    instant: bool


@compiled
def ask_move(clerks, senders, decode, stages, moves, plan, transfer, worker, to, now_s):
    """Let a worker leave its pool: it takes no more work and gives up what it has."""
    c = clerks[0]
    move = moves[c.moves]
    move.worker = worker
    move.to = to
    move.asked_s = now_s
    move.drained_s = move.ready_s = math.nan
    sender = senders[worker]
    if to == DECODES:
        move.step_end_s = max(sender.free_s, now_s)
        sender.free_s = math.inf
    else:
        s = decode.states[worker]
        s.opens_s = math.inf
        move.step_end_s = max(s.clock_s, now_s)
        if plan.migrate:
            send_away(s, room_of(decode.rooms, worker), decode, sender, stages, transfer, move.step_end_s)
    c.moves += 1
    c.draining += 1


@compiled
def send_away(s, room, decode, sender, stages, transfer, now_s):
    """Send the KV caches of all of a decode worker's requests to the other decode workers."""
    requests = room.requests
    while s.running_head != NOBODY:
        i = s.running_head
        r = requests[i]
        if i == s.partial:
            s.partial = NOBODY
            s.free_blocks += blocks_of(r.computed, decode.rules.block_tokens)
            r.computed = 0
        else:
            r.left = left_to_generate(s, r)
            r.computed = tokens_held(s, r)
            r.last_token_s = s.last_decode_s
            stop_decoding(s, room, decode.cost, i)
            forget_due(room, i)
            s.free_blocks += blocks_of(r.computed, decode.rules.block_tokens)
        leave_running(s, requests, i)
        put_on_link(sender, stages, i, now_s, transfer.latency_s + transfer.token_s * r.computed)
    while s.queue_head != NOBODY:
        i = s.queue_head
        s.queue_head = requests[i].next
        put_on_link(sender, stages, i, now_s, transfer.latency_s + transfer.token_s * requests[i].computed)
    s.unfinished = 0


@inlined
def handed_over_s(sender, requests, stages):
    """Return when the last KV cache that a prefill worker held was taken over; infinite if one is not yet."""
    if sender.sent_head != NOBODY:
        return math.inf
    last_s = max(sender.released_s, sender.link_free_s)
    i = sender.held_head
    while i != NOBODY:
        if math.isnan(requests[i].joined_s):
            return math.inf
        last_s = max(last_s, requests[i].joined_s)
        i = stages[i].following
    return last_s


@inlined
def given_up_s(move, senders, decode, stages, plan):
    """Return when a leaving worker had no more work; infinite while it has."""
    sender, s = senders[move.worker], decode.states[move.worker]
    if plan.instant:
        return move.step_end_s
    if move.to == DECODES:
        return max(move.step_end_s, handed_over_s(sender, decode.rooms.requests, stages))
    if s.unfinished > 0:
        return math.inf
    return max(move.step_end_s, s.clock_s, sender.link_free_s)


@compiled
def finish_moves(c, senders, decode, stages, moves, plan):
    """Open the workers that have given up their work in the other pool, from when they are ready."""
    for m in range(c.moves):
        move = moves[m]
        if not math.isnan(move.drained_s):
            continue
        drained_s = given_up_s(move, senders, decode, stages, plan)
        if drained_s == math.inf:
            continue
        move.drained_s = drained_s
        move.ready_s = drained_s + plan.reallocation_s
        c.draining -= 1
        if move.to == DECODES:
            decode.states[move.worker].opens_s = move.ready_s
        else:
            senders[move.worker].free_s = move.ready_s
            c.blocked = 0


# --- static batching ------------------------------------------------------------------------------


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
    prompt = output = 0
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
def count_padded_gaps(s, room, cost, prompt, slots, done, steps, live):
    """Count the gaps of `live` requests over the decode steps from `done` to `steps`, cut at the window."""
    if not s.measured:
        return
    cut = steps
    if cost.window_tokens > 0:
        cut = min(max(cost.window_tokens - prompt, done), steps)
    for start, end in ((done, cut), (cut, steps)):
        if end > start:
            reach = min(prompt + start, cost.window_tokens)
            first_s = decode_time_s(cost, slots, slots * (prompt + start), slots * reach)
            growth_s = cost.decode_context_s * slots
            if prompt + start < cost.window_tokens:
                growth_s += cost.window_context_s * slots
            count_gaps(room.gap_counts, first_s, growth_s, end - start, live)


@inlined
def prefill_batch(s, room, cost, rules, first, end, prompt):
    """Prefill all prompts of a batch together, padded to the longest; each yields its first token."""
    slots = end - first
    clear_plan(s)
    s.tokens = slots * prompt
    s.rows = s.prompts = s.running = slots
    s.step_pairs = slots * pairs_between(0, prompt)
    if cost.window_tokens > 0:
        s.step_window_pairs = slots * window_pairs_between(0, prompt, cost.window_tokens)
    for i in range(first, end):
        log_event(s, room, CHUNK, i, 0, room.requests[i].prompt)
    duration_s = planned_time_s(s, cost)
    report_steps(s, room, rules, 1, 0, 0, 0, duration_s)
    log_steps(s, room, rules, 1, 0, duration_s, 0.0)
    s.clock_s += duration_s


@compiled
def sort_by_end(room, first, end):
    """Enter the requests of a batch in the ring by the number of their decode steps."""
    for i in range(first, end):
        r = room.requests[i]
        r.due = r.output - 1
        r.chain = room.due_first[r.due]
        room.due_first[r.due] = i
        set_bit(room.due_bits, r.due)


@inlined
def finish_padded(s, room, cost, rules, first, prompt, slots, steps):
    """Finish all requests of a batch that make their last token after `steps` decode steps."""
    i = room.due_first[steps]
    finished = 0
    finished_s = s.clock_s + padded_time_s(cost, slots, prompt, steps)
    room.due_first[steps] = NOBODY
    clear_bit(room.due_bits, steps)
    while i != NOBODY:
        r = room.requests[i]
        r.first_token_s = s.clock_s
        r.finished_s = finished_s
        if rules.track_itl_max and steps > 0:
            reach = prompt + steps - 1
            r.itl_max_s = decode_time_s(cost, slots, slots * reach, slots * min(reach, cost.window_tokens))
        if s.released < room.requests.size:
            room.requests[s.released].arrival_s = finished_s + rules.turnaround_s
            s.released += 1
        finished += 1
        i = r.chain
    return finished


@compiled
def decode_batch(s, room, cost, rules, first, end, prompt):
    """Decode a padded batch until its longest answer is done; every slot is held to the end."""
    slots = end - first
    sort_by_end(room, first, end)
    done = 0
    live = slots
    while live > 0:
        steps = done + ticks_to_next(room.due_bits, done)
        count_padded_gaps(s, room, cost, prompt, slots, done, steps, live)
        live -= finish_padded(s, room, cost, rules, first, prompt, slots, steps)
        done = steps
    if done > 0:
        clear_plan(s)
        s.tokens = s.rows = slots
        s.step_context = slots * prompt
        window = window_sum(prompt, done, cost.window_tokens) if cost.window_tokens > 0 else 0
        duration_s = padded_time_s(cost, slots, prompt, done)
        context = slots * context_sum(prompt, done)
        report_steps(s, room, rules, done, context, slots * window, 0, duration_s)
        log_padded_steps(s, room, cost, rules, prompt, slots, done)


@inlined
def log_padded_steps(s, room, cost, rules, prompt, slots, steps):
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
        log_steps(s, room, rules, cut, slots, duration_s, growth_s)
        s.clock_s += duration_s
    if cut < steps:
        s.step_context = slots * (prompt + cut)
        log_steps(s, room, rules, steps - cut, slots, end_s - s.clock_s, cost.decode_context_s * slots)
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


@compiled
def run_static(states, room, cost, rules, arrival_s, prompt_tokens, output_tokens, concurrency):
    """Run one engine to the end with static batches; a concurrency of 0 means open loop."""
    load_requests(room.requests, arrival_s, prompt_tokens, output_tokens)
    s = states[0]
    open_engine(s, rules)
    count = room.requests.size
    s.released = min(concurrency, count) if concurrency > 0 else count
    first = 0
    while first < count:
        start_s = batch_start_s(s, room.requests, rules, first)
        wait_until(s, rules, start_s)
        end = batch_end(s, room.requests, rules, first, start_s)
        prompt = output = 0
        for i in range(first, end):
            prompt = max(prompt, room.requests[i].prompt)
            output = max(output, room.requests[i].output)
        s.newest = end - 1
        s.free_blocks = rules.kv_blocks - (end - first) * blocks_of(prompt + output, rules.block_tokens)
        prefill_batch(s, room, cost, rules, first, end, prompt)
        decode_batch(s, room, cost, rules, first, end, prompt)
        report_left_out(s, room.requests, rules, first, end, start_s)
        first = end


# --- from rows to latencies -------------------------------------------------------------------------


@inlined
def tokens_until(first_token_s, finished_s, output_tokens, time_s):
    """Return the tokens of a request made by a time; they lie evenly from its first to its last."""
    if time_s < first_token_s:
        return 0.0
    if time_s >= finished_s:
        return float(output_tokens)
    return 1.0 + (output_tokens - 1) * (time_s - first_token_s) / (finished_s - first_token_s)


@compiled
def tally(
    arrival_s,
    output_tokens,
    first_token_s,
    finished_s,
    first,
    last,
    start_s,
    end_s,
    slo_ttft_ms,
    slo_tpot_ms,
    ttft_ms,
    tpot_ms,
    e2e_ms,
):
    """Write the latencies of the requests from `first` to `last`; count what the time of the window holds.

    Return the entries of `tpot_ms`, the gaps, the requests within both limits; and what the time holds:
    requests finished, those of them within both limits, and tokens made.
    """
    many = gaps = met = finished = good = 0
    tokens = 0.0
    for i in range(arrival_s.size):
        ttft = (first_token_s[i] - arrival_s[i]) * 1e3
        within = ttft <= slo_ttft_ms
        tpot = 0.0
        if output_tokens[i] > 1:
            tpot = (finished_s[i] - first_token_s[i]) * 1e3 / (output_tokens[i] - 1)
            within = within and tpot <= slo_tpot_ms
        inside = start_s < finished_s[i] <= end_s
        finished += inside
        good += inside and within
        tokens += tokens_until(first_token_s[i], finished_s[i], output_tokens[i], end_s)
        tokens -= tokens_until(first_token_s[i], finished_s[i], output_tokens[i], start_s)
        if first <= i < last:
            ttft_ms[i - first] = ttft
            e2e_ms[i - first] = (finished_s[i] - arrival_s[i]) * 1e3
            met += within
            if output_tokens[i] > 1:
                tpot_ms[many] = tpot
                gaps += output_tokens[i] - 1
                many += 1
    return many, gaps, met, finished, good, tokens
