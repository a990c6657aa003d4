"""The prefix cache: what of a waiting request's prompt is there already, and what of others is kept for it.

Only full blocks are kept, and of a prompt at least one token is computed. Blocks that are found come out of
the pool, not out of the token budget. Prompts are shared from the step that computes them on, answers once
their request leaves. What a request has copied back from the host after a preemption is its own.

References
----------
vLLM, vllm/v1/core/kv_cache_manager.py: `get_computed_blocks`, `allocate_slots`.
"""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.memory.by_block import leave_chain, look_up_chain, share_blocks, take_chain
from sim_core.engine.kernels.memory.by_session import leave_turn, look_up_turn, share_system, take_turn
from sim_core.engine.kernels.memory.pieces import enter_losses
from sim_core.engine.kernels.queue import target_of
from sim_core.engine.kernels.records import BY_SESSION, FIXED_SHARE, NOBODY, ZERO


@inlined
def open_cache(s):
    """Start with nothing in the cache."""
    s.oldest = s.latest = s.host_oldest = s.host_latest = s.piece = NOBODY


@inlined
def is_private(rules, r):
    """Return whether a request's blocks came back from the host, where others do not see them."""
    return rules.swap and r.preemptions > 0


@inlined
def fixed_blocks(rules, prompt):
    """Return the blocks of a prompt that are in the cache where the same share of every prompt is."""
    return int(rules.hit_frac * (prompt - 1)) // rules.block_tokens


@inner
def look_up(s, arrays, rules, i, free_blocks):
    """Enter which blocks of a waiting request the cache holds, where so many blocks are free."""
    r = arrays.requests[i]
    s.shared = s.idle = s.on_host = 0
    s.piece = NOBODY
    if r.computed > 0:
        return
    if rules.caching == FIXED_SHARE:
        s.idle = fixed_blocks(rules, np.int64(r.prompt))
        return
    enter_losses(s, arrays, rules, free_blocks)
    reach = (target_of(r) - 1) // rules.block_tokens
    if rules.caching == BY_SESSION:
        look_up_turn(s, arrays, rules, i, reach)
    else:
        look_up_chain(s, arrays, rules, i, reach)


@inlined
def tokens_found(s, rules):
    """Return the tokens of the request that was looked up last that need not be computed."""
    return (s.shared + s.idle + s.on_host) * rules.block_tokens


@inner
def take_found(s, arrays, rules, i):
    """Let a request that is admitted start behind what it has found."""
    r = arrays.requests[i]
    if r.preemptions == 0:
        piece = arrays.pieces[i]
        piece.reused = s.shared + s.idle
        piece.loaded = s.on_host
        s.step_sent += r.prompt
        s.step_reused += (s.shared + s.idle) * rules.block_tokens
        s.step_loaded += s.on_host * rules.block_tokens
    s.swapped += s.on_host * rules.block_tokens
    if r.computed > 0:
        return
    r.computed = tokens_found(s, rules)
    if rules.caching == BY_SESSION:
        take_turn(s, arrays, rules)
    elif rules.caching != FIXED_SHARE:
        take_chain(s, arrays, rules, i)


@inlined
def share_text(s, arrays, rules, i):
    """Let others use what a prompt has computed so far, and will have by the end of this step."""
    r = arrays.requests[i]
    if rules.caching == FIXED_SHARE or is_private(rules, r):
        return
    if rules.caching == BY_SESSION:
        share_system(s, rules, r.computed)
    else:
        share_blocks(s, arrays, rules, i, np.int64(r.computed))


@inner
def leave_text(s, arrays, rules, i, tokens):
    """Keep the full blocks of a request that leaves with `tokens`; return how many others still use."""
    enter_losses(s, arrays, rules, s.free_blocks)
    if rules.caching == FIXED_SHARE or is_private(rules, arrays.requests[i]):
        return ZERO
    if rules.caching == BY_SESSION:
        return leave_turn(s, arrays, rules, i, tokens)
    return leave_chain(s, arrays, rules, i, tokens)
