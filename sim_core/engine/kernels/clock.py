"""The token clock: **every decode makes exactly one token per tick**, and ticks are counted.

Without drafts a step is a tick. Where drafts are verified, a step makes several tokens at once, the same
mean number for every decode, and moves the clock by so many ticks: the whole ones of a sum in parts of a
token (`TOKEN`). That some requests have more drafts accepted than others is drawn beforehand: their answers
are shorter on the clock.

All that is quick in the engine rests on this. A decode with `left` tokens to go is due at a known tick, so
it is touched when it joins and when it is due, and not between: what it holds, and when it takes a block,
follow from the tick. Coming events lie in a ring of ticks with a bit each, and the next one is a bit scan
away.
"""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.records import NOBODY
from sim_core.price.step_cost import TOKEN, TOKEN_BITS

TOKENS_A_PART = 1.0 / TOKEN

# --- steps and ticks --------------------------------------------------------------------------------


@inlined
def pace_of(s, cost):
    """Return how the decodes that there are go on."""
    return cost.paces[min(s.decodes, cost.paces.size - 1)]


@inlined
def ticks_of(s, pace, steps):
    """Return the ticks that the next `steps` steps move the clock by."""
    return (s.fraction + steps * pace.advance) >> TOKEN_BITS


@inlined
def steps_to(s, pace, ticks):
    """Return the fewest steps that move the clock by at least so many ticks."""
    if pace.advance == TOKEN:
        return ticks
    return ((ticks << TOKEN_BITS) - s.fraction + pace.advance - 1) // pace.advance


@inlined
def steps_within(s, pace, ticks):
    """Return the most steps that move the clock by at most so many ticks."""
    if pace.advance == TOKEN:
        return ticks
    return (((ticks + 1) << TOKEN_BITS) - 1 - s.fraction) // pace.advance


@inlined
def tokens_of_decodes(s, pace):
    """Return the tokens that the decodes take in a step: one each, and the drafts to be verified."""
    return s.decodes * (1 + pace.drafts)


@inlined
def started_tokens(s, count):
    """Return what `count` decodes hold beyond whole ticks: a share of the token that is being made."""
    return count * (s.fraction * TOKENS_A_PART)


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


@inlined
def left_to_generate(s, r):
    """Return the output tokens that a decode has still to make."""
    return r.due - s.tick + 1


@inlined
def tokens_held(s, r):
    """Return the tokens that a decode holds in the KV cache."""
    return r.computed - left_to_generate(s, r)


@inlined
def phase_of(s, r, rules):
    """Return the tick, modulo the block size, at which a decode takes a new block."""
    return (s.tick - tokens_held(s, r) - rules.draft_slots) % rules.block_tokens


# --- joining and leaving the decodes --------------------------------------------------------------


@inlined
def start_decoding(s, arrays, cost, rules, i):
    """Count a request among the decodes, from the current tick on until the clock has gone on by its rest."""
    r = arrays.requests[i]
    left = max((s.fraction + r.rest) >> TOKEN_BITS, 1)
    held = np.int64(r.computed)
    r.due = s.tick + left - 1
    r.computed = held + left
    r.since = s.tick
    ring = arrays.due_first.size - 1
    r.chain = arrays.due_first[r.due & ring]
    arrays.due_first[r.due & ring] = i
    set_bit(arrays.due_bits, r.due & ring)
    s.decodes += 1
    s.context += held
    arrays.phases[phase_of(s, r, rules)] += 1
    if cost.window_tokens > 0:
        enter_window(s, arrays, cost, r, held)


@inner
def enter_window(s, arrays, cost, r, held):
    """Count a decode in the window sums, and note the tick at which its context outgrows the window."""
    s.window += min(held, cost.window_tokens)
    if held < cost.window_tokens:
        s.growing += 1
        if r.computed >= cost.window_tokens:
            position = (s.tick + cost.window_tokens - held) & (arrays.crossings.size - 1)
            arrays.crossings[position] += 1
            set_bit(arrays.crossing_bits, position)


@inner
def leave_window(s, arrays, cost, r, held):
    if r.computed < cost.window_tokens:  # it never gets there, though its last step may pass its end
        s.window -= held
        s.growing -= 1
        return
    s.window -= min(held, cost.window_tokens)
    if held < cost.window_tokens:
        s.growing -= 1
        position = (s.tick + cost.window_tokens - held) & (arrays.crossings.size - 1)
        arrays.crossings[position] -= 1
        if arrays.crossings[position] == 0:
            clear_bit(arrays.crossing_bits, position)


@inlined
def cross_window(s, arrays):
    """Let the decodes whose contexts reached the window in the last step grow no further."""
    for tick in range(s.tick - s.ahead + 1, s.tick + 1):
        position = tick & (arrays.crossings.size - 1)
        if arrays.crossings[position] > 0:
            s.growing -= arrays.crossings[position]
            s.window -= arrays.crossings[position] * (s.tick - tick)
            arrays.crossings[position] = 0
            clear_bit(arrays.crossing_bits, position)


@inlined
def stop_decoding(s, arrays, cost, rules, i):
    """Take a decode out of all sums; its place in the ring is left to the caller."""
    r = arrays.requests[i]
    held = tokens_held(s, r)
    s.decodes -= 1
    s.context -= held
    arrays.phases[phase_of(s, r, rules)] -= 1
    if cost.window_tokens > 0:
        leave_window(s, arrays, cost, r, held)


@inlined
def suspend(s, r):
    """Note how far a decode has come that stops before its last token; what is left counts in whole ticks."""
    left = left_to_generate(s, r)
    held = tokens_held(s, r)
    r.rest = left << TOKEN_BITS
    r.target = held + 1
    r.computed = held


@inner
def forget_due(arrays, i):
    """Take a request out of the ring of due ticks."""
    ring = arrays.due_first.size - 1
    position = arrays.requests[i].due & ring
    if arrays.due_first[position] == i:
        arrays.due_first[position] = arrays.requests[i].chain
        if arrays.due_first[position] == NOBODY:
            clear_bit(arrays.due_bits, position)
        return
    j = arrays.due_first[position]
    while arrays.requests[j].chain != i:
        j = arrays.requests[j].chain
    arrays.requests[j].chain = arrays.requests[i].chain


@inlined
def move_on(s, arrays, pace, steps, duration_s):
    """Move the clock, and all decodes by the tokens of `steps` steps; return the ticks."""
    ticks = ticks_of(s, pace, steps)
    s.ahead = ticks - ticks_of(s, pace, steps - 1)
    s.fraction = (s.fraction + steps * pace.advance) & (TOKEN - 1)
    s.clock_s += duration_s
    s.tick += ticks
    s.context += s.decodes * ticks
    s.window += s.growing * ticks
    cross_window(s, arrays)
    return ticks
