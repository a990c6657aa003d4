"""KV blocks: how many tokens take, and how many ticks find all they need."""

from __future__ import annotations

from sim_core.engine.compiling import inlined


@inlined
def blocks_of(tokens, block_tokens):
    """Return the KV blocks that hold `tokens` tokens."""
    return (tokens + block_tokens - 1) // block_tokens


@inlined
def blocks_taken(s, arrays, count):
    """Return the new blocks that all decodes together take in the next `count` ticks."""
    block_tokens = arrays.phases.size
    taken = count // block_tokens * s.decodes
    phase = s.tick % block_tokens
    for _ in range(count % block_tokens):  # counts the phase up: a division a tick costs more than the sum
        taken += arrays.phases[phase]
        phase = phase + 1 if phase + 1 < block_tokens else 0
    return taken


@inlined
def steps_with_blocks(s, arrays, limit):
    """Return how many of the next `limit` steps of decodes find all the blocks they need."""
    block_tokens = arrays.phases.size
    if s.free_blocks >= s.decodes * blocks_of(limit, block_tokens):
        return limit
    cycles = s.free_blocks // s.decodes
    free = s.free_blocks - cycles * s.decodes
    count = cycles * block_tokens
    while count < limit:
        free -= arrays.phases[(s.tick + count) % block_tokens]
        if free < 0:
            break
        count += 1
    return min(count, limit)
