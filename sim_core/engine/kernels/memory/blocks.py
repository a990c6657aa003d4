"""KV blocks: how many tokens take, how many ticks find all they need, and who may take some and join."""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.clock import left_to_generate, steps_within, ticks_of
from sim_core.engine.kernels.queue import is_full, left_to_wait, target_of, waiting_head
from sim_core.engine.kernels.records import FIRST_CHUNK, FULL_PROMPT, NOBODY, RESERVE_OUTPUT, RESERVE_SHARE

# the share of an answer's limit for which SGLang keeps room: python/sglang/srt/environ.py
FIRST_SHARE, LEAST_SHARE = 0.7, 0.7 * 0.14
EASED_A_STEP = (FIRST_SHARE - LEAST_SHARE) / 600
STEPS_AFTER_SHORTAGE = 20
MOST_RESERVED = 4096  # tokens of one answer


@inlined
def blocks_of(tokens, block_tokens):
    """Return the KV blocks that hold `tokens` tokens."""
    return (tokens + block_tokens - 1) // block_tokens


@inlined
def blocks_held(tokens, rules):
    """Return the KV blocks that a running request holds with so many tokens, and room for drafts."""
    return blocks_of(tokens + rules.draft_slots, rules.block_tokens)


@inlined
def blocks_at_once(s, arrays, ticks):
    """Return the new blocks that all decodes together take in one step of so many ticks."""
    phase = s.tick % arrays.phases.size
    taken = arrays.phases[phase]
    for _ in range(ticks - 1):  # counts the phase up: a division a tick costs more than the sum
        phase = phase + 1 if phase + 1 < arrays.phases.size else 0
        taken += arrays.phases[phase]
    return taken


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
def steps_with_blocks(s, arrays, pace, limit):
    """Return how many of the next `limit` steps of decodes find all the blocks they need."""
    block_tokens = arrays.phases.size
    ticks = ticks_of(s, pace, limit)
    if s.free_blocks >= s.decodes * blocks_of(ticks, block_tokens):
        return limit
    cycles = s.free_blocks // s.decodes
    free = s.free_blocks - cycles * s.decodes
    count = cycles * block_tokens
    while count < ticks:
        free -= arrays.phases[(s.tick + count) % block_tokens]
        if free < 0:
            break
        count += 1
    return limit if count >= ticks else steps_within(s, pace, count)


# --- admission: the room that a waiting request must find, by the rule of the engine -----------------


@inlined
def has_room(s, arrays, rules, r, chunk, free_blocks):
    """Return whether the head of the queue may be admitted with its next `chunk` tokens.

    The blocks that it shares with others are there; those that it finds idle are among the free ones.
    """
    whole = blocks_held(target_of(r), rules) - s.shared
    if rules.admission == FULL_PROMPT and rules.long_prompt_tokens == 0:
        return whole <= free_blocks
    if rules.admission == FIRST_CHUNK:
        start = r.computed + (s.shared + s.idle + s.on_host - s.dropped) * rules.block_tokens
        return blocks_held(start + chunk, rules) - s.shared <= free_blocks
    return whole <= free_blocks and has_room_beside(s, arrays, rules, r, free_blocks)


@inner
def has_room_beside(s, arrays, rules, r, free_blocks):
    """Return whether a request has room beside the prompt that is unfinished, and what answers may need.

    A request that would run alone needs room for its prompt only: it fits the KV cache, as whoever does not
    is rejected at the door.
    """
    if rules.long_prompt_tokens > 0 and s.partial != NOBODY:
        unfinished = arrays.requests[s.partial]
        free_blocks += blocks_held(np.int64(unfinished.computed), rules)
        free_blocks -= blocks_held(target_of(unfinished), rules)
        if blocks_held(target_of(r), rules) - s.shared > free_blocks:
            return False
    if rules.admission == FULL_PROMPT or s.running + s.elsewhere == 0:
        return True
    if rules.admission == RESERVE_OUTPUT:
        return s.reserved_blocks + answer_blocks(r, rules) <= rules.kv_blocks
    return fits_with_shares(s, arrays, rules, r, free_blocks)


# --- prompt and whole answer ------------------------------------------------------------------------


@inlined
def answer_blocks(r, rules):
    """Return the blocks of a prompt and the longest answer it may have."""
    return blocks_held(r.prompt + max(r.output, rules.output_limit), rules)


@inlined
def reserve_blocks(s, rules, r):
    """Keep the blocks of a request that is admitted, to its end."""
    if rules.admission == RESERVE_OUTPUT:
        s.reserved_blocks += answer_blocks(r, rules)


@inlined
def release_blocks(s, rules, r):
    """Give the blocks of a request that leaves to others."""
    if rules.admission == RESERVE_OUTPUT:
        s.reserved_blocks -= answer_blocks(r, rules)


# --- prompt and a share of the answer ---------------------------------------------------------------


@inner
def fits_with_shares(s, arrays, rules, r, free_blocks):
    """Return whether a request fits beside what those that run may still need.

    The newcomer counts with the limit of its answer, and so do those admitted in this step, with a block
    each for what a part of a block wastes; all others with a share of what they may still make.

    References
    ----------
    SGLang, python/sglang/srt/managers/schedule_policy.py: `PrefillAdder.add_one_req`.
    """
    older = newer = 0
    arrays.turns[0] -= s.running >> 3  # a look at a request takes a fraction of a turn
    i = s.running_head
    while i != NOBODY and i != s.joining:
        other = arrays.requests[i]
        left = left_to_wait(other) if i == s.partial else left_to_generate(s, other)
        older += may_make(other, left, rules)
        i = np.int64(other.next)
    while i != NOBODY:
        other = arrays.requests[i]
        newer += may_make(other, left_to_wait(other), rules) + rules.block_tokens
        i = np.int64(other.next)
    wanted = target_of(r) + may_make(r, left_to_wait(r), rules) + (1 - s.shared) * rules.block_tokens
    return wanted < free_blocks * rules.block_tokens - newer - share_now(s) * older


@inlined
def may_make(r, left, rules):
    """Return the tokens that a request with `left` to go may still make, as far as its limit says."""
    return min(left + max(rules.output_limit - r.output, 0), MOST_RESERVED)


@inlined
def share_now(s):
    """Return the share of the answers' limits for which there is room now."""
    return max(s.share - EASED_A_STEP * s.eased, LEAST_SHARE)


@inlined
def reset_share(s):
    """Start with the first share, as an engine does that was idle."""
    s.share = FIRST_SHARE
    s.eased = 0


@inner
def raise_share(s, arrays, rules):
    """After a shortage, keep as large a share as those that run have made, and some steps more.

    References
    ----------
    SGLang, `NewTokenRatioTracker.estimate_new_token_ratio_after_retract`.
    """
    made = limits = 0
    i = s.running_head
    while i != NOBODY:
        r = arrays.requests[i]
        left = left_to_wait(r) if i == s.partial else left_to_generate(s, r)
        made += r.output - left + STEPS_AFTER_SHORTAGE
        limits += max(r.output, rules.output_limit)
        i = np.int64(r.next)
    s.share = min(made / (limits + 1), 1.0)
    s.eased = 0


@inlined
def may_join_any_step(s, arrays, rules):
    """Return whether the head of the queue, without room now, may find some in any step: shares shrink."""
    if rules.admission != RESERVE_SHARE or is_full(s, rules):
        return False
    return waiting_head(s, arrays.requests) != NOBODY
