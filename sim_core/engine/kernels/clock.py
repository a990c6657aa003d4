"""The token clock: **every decode makes exactly one token per tick**, and ticks are counted.

All that is quick in the engine rests on this. A decode with `left` tokens to go is due at a known tick, so
it is touched when it joins and when it is due, and not between: what it holds, and when it takes a block,
follow from the tick. Coming events lie in a ring of ticks with a bit each, and the next one is a bit scan
away. A clock of another kind (several tokens a step, say) takes the place of this file and of
`memory/blocks`.
"""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.records import NOBODY

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
    return r.prompt + r.output - 1 - left_to_generate(s, r)


@inlined
def phase_of(s, r, block_tokens):
    """Return the tick, modulo the block size, at which a decode takes a new block."""
    return (s.tick - tokens_held(s, r)) % block_tokens


# --- joining and leaving the decodes --------------------------------------------------------------


@inlined
def start_decoding(s, arrays, cost, i):
    """Count a request with `left` tokens to go among the decodes, from the current tick on."""
    r = arrays.requests[i]
    r.due = s.tick + r.left - 1
    r.since = s.tick
    ring = arrays.due_first.size - 1
    r.chain = arrays.due_first[r.due & ring]
    arrays.due_first[r.due & ring] = i
    set_bit(arrays.due_bits, r.due & ring)
    held = tokens_held(s, r)
    s.decodes += 1
    s.context += held
    arrays.phases[phase_of(s, r, arrays.phases.size)] += 1
    if cost.window_tokens > 0:
        enter_window(s, arrays, cost, r, held)


@inner
def enter_window(s, arrays, cost, r, held):
    """Count a decode in the window sums, and note the tick at which its context outgrows the window."""
    s.window += min(held, cost.window_tokens)
    if held < cost.window_tokens:
        s.growing += 1
        if r.prompt + r.output - 1 >= cost.window_tokens:
            position = (s.tick + cost.window_tokens - held) & (arrays.crossings.size - 1)
            arrays.crossings[position] += 1
            set_bit(arrays.crossing_bits, position)


@inner
def leave_window(s, arrays, cost, r, held):
    s.window -= min(held, cost.window_tokens)
    if held < cost.window_tokens:
        s.growing -= 1
        if r.prompt + r.output - 1 >= cost.window_tokens:
            position = (s.tick + cost.window_tokens - held) & (arrays.crossings.size - 1)
            arrays.crossings[position] -= 1
            if arrays.crossings[position] == 0:
                clear_bit(arrays.crossing_bits, position)


@inlined
def cross_window(s, arrays):
    """Let the decodes whose contexts reach the window at this tick grow no further."""
    position = s.tick & (arrays.crossings.size - 1)
    if arrays.crossings[position] > 0:
        s.growing -= arrays.crossings[position]
        arrays.crossings[position] = 0
        clear_bit(arrays.crossing_bits, position)


@inlined
def stop_decoding(s, arrays, cost, i):
    """Take a decode out of all sums; its place in the ring is left to the caller."""
    r = arrays.requests[i]
    held = tokens_held(s, r)
    s.decodes -= 1
    s.context -= held
    arrays.phases[phase_of(s, r, arrays.phases.size)] -= 1
    if cost.window_tokens > 0:
        leave_window(s, arrays, cost, r, held)


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
def move_on(s, arrays, steps, duration_s):
    """Move the clock, and all decodes by `steps` tokens."""
    s.clock_s += duration_s
    s.tick += steps
    s.context += s.decodes * steps
    s.window += s.growing * steps
    cross_window(s, arrays)
