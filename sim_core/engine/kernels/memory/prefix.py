"""The prefix cache: what of a waiting request's prompt is there already, and what of others is kept for it.

Only full blocks are kept, and of a prompt at least one token is computed. Blocks that are found come out of
the pool, not out of the token budget. Prompts are shared from the step that computes them on, answers once
their request leaves. What a request has copied back from the host after a preemption is its own.
Where drafts are made from the states of the model, these are wanted of the last token before the prompt
goes on, so that the last block that is found is computed anew, in its place.

References
----------
vLLM, vllm/v1/core/kv_cache_manager.py: `get_computed_blocks`, `allocate_slots`;
single_type_kv_cache_manager.py: `find_longest_cache_hit`, `drop_eagle_block`.
"""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import by_type, holds, inlined
from sim_core.engine.kernels.memory.by_block import leave_chain, look_up_chain, share_blocks, take_chain
from sim_core.engine.kernels.memory.by_session import (
    leave_turn,
    look_up_turn,
    share_system,
    system_piece,
    take_turn,
)
from sim_core.engine.kernels.memory.pieces import enter_losses
from sim_core.engine.kernels.queue import target_of
from sim_core.engine.kernels.records import BY_SESSION, FIXED_SHARE, NOBODY, ONE, ZERO


@inlined
def open_cache(s):
    """Start with nothing in the cache."""
    s.oldest = s.latest = s.host_oldest = s.host_latest = s.piece = s.looked = NOBODY


@inlined
def is_private(rules, r):
    """Return whether a request's blocks came back from the host, where others do not see them."""
    return rules.swap and r.preemptions > 0


@inlined
def fixed_blocks(rules, prompt):
    """Return the blocks of a prompt that are in the cache where the same share of every prompt is."""
    return int(rules.hit_frac * (prompt - 1)) // rules.block_tokens


@inlined
def look_up(s, arrays, rules, i, free_blocks):
    """Enter which blocks of a waiting request the cache holds, where so many blocks are free."""
    r = arrays.requests[i]
    if r.computed == 0 and rules.caching != FIXED_SHARE:
        find_text(s, arrays, rules, i, free_blocks)
        return
    forget_found(s, NOBODY)
    if r.computed == 0:
        s.idle = fixed_blocks(rules, np.int64(r.prompt))


@inlined
def forget_found(s, i):
    """Start to look for what the cache holds of a request."""
    s.looked = i
    s.shared = s.idle = s.on_host = s.dropped = 0
    s.piece = NOBODY


@inlined
def tokens_found(s, rules):
    """Return the tokens of the request that was looked up last that need not be computed."""
    return (s.shared + s.idle + s.on_host - s.dropped) * rules.block_tokens


@inlined
def take_found(s, arrays, rules, i):
    """Let a request that is admitted start behind what it has found."""
    r = arrays.requests[i]
    if r.preemptions == 0:
        loaded = max(s.on_host - s.dropped, ZERO)
        reused = s.shared + s.idle + s.on_host - s.dropped - loaded
        piece = arrays.pieces[i]
        piece.reused = reused
        piece.loaded = loaded
        s.step_sent += r.prompt
        s.step_reused += reused * rules.block_tokens
        s.step_loaded += loaded * rules.block_tokens
    s.swapped += max(s.on_host - s.dropped, ZERO) * rules.block_tokens
    if r.computed > 0:
        return
    r.computed = tokens_found(s, rules)
    take_text(s, arrays, rules, i)


# --- the texts that a cache keeps -------------------------------------------------------------------
#
# They are most of what there is to compile. Where none are kept (NO_CACHE, FIXED_SHARE), `Arrays.chains` is
# None, and the functions below are compiled as if they were empty.


def of_texts(arrays):
    """Return whether an engine with arrays of this type keeps texts."""
    return holds(arrays, "chains")


@by_type
def find_text(s, arrays, rules, i, free_blocks):
    """Enter which blocks of the text of a waiting request the cache holds.

    It is asked again and again while it waits, so what was found stands until the cache changes.
    """

    def look_up_kept(s, arrays, rules, i, free_blocks):
        enter_losses(s, arrays, rules, free_blocks)
        if s.looked == i:
            return
        forget_found(s, i)
        reach = (target_of(arrays.requests[i]) - 1) // rules.block_tokens
        if rules.caching == BY_SESSION:
            look_up_turn(s, arrays, rules, i, reach)
        else:
            look_up_chain(s, arrays, rules, i, reach)
        if rules.last_lost:
            s.dropped = min(s.shared + s.idle + s.on_host, ONE)

    return look_up_kept if of_texts(arrays) else lambda s, arrays, rules, i, free_blocks: None


@by_type
def take_text(s, arrays, rules, i):
    """Use the blocks that were found for a request that is admitted."""

    def take_kept(s, arrays, rules, i):
        s.looked = NOBODY
        if rules.caching == BY_SESSION:
            take_turn(s, arrays.pieces, system_piece(s, arrays.requests), rules.system_blocks)
        else:
            take_chain(s, arrays, rules, i)

    return take_kept if of_texts(arrays) else lambda s, arrays, rules, i: None


@by_type
def share_text(s, arrays, rules, i):
    """Let others use what a prompt has computed so far, and will have by the end of this step."""

    def share_kept(s, arrays, rules, i):
        r = arrays.requests[i]
        if is_private(rules, r):
            return
        s.looked = NOBODY
        if rules.caching == BY_SESSION:
            share_system(s, rules, r.computed)
        else:
            share_blocks(s, arrays, rules, i, np.int64(r.computed))

    return share_kept if of_texts(arrays) else lambda s, arrays, rules, i: None


@by_type
def leave_text(s, arrays, rules, i, tokens):
    """Keep the full blocks of a request that leaves with `tokens`; return how many others still use."""

    def leave_kept(s, arrays, rules, i, tokens):
        s.looked = NOBODY
        enter_losses(s, arrays, rules, s.free_blocks)
        if is_private(rules, arrays.requests[i]):
            return ZERO
        if rules.caching == BY_SESSION:
            return leave_turn(s, arrays, rules, i, tokens)
        return leave_chain(s, arrays, rules, i, tokens)

    return leave_kept if of_texts(arrays) else lambda s, arrays, rules, i, tokens: ZERO
