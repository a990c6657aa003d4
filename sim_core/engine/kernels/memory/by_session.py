"""The prefix cache of conversations: each turn continues the text of the one before, after a system prompt.

What is kept of a conversation is the piece that its last turn left; the system prompt, which all share, is a
piece by itself once nobody uses it. A request that was preempted finds the piece that it left itself.
"""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import inlined
from sim_core.engine.kernels.memory.pieces import leave_piece, take_from_piece
from sim_core.engine.kernels.records import NOBODY, ZERO


@inlined
def system_piece(s, requests):
    """Return the piece of an engine's system prompt: they come after those of the requests."""
    return requests.size + s.engine


@inlined
def look_up_turn(s, arrays, rules, i, reach):
    """Enter which of the first `reach` blocks of a request the cache holds."""
    found = ZERO
    if rules.system_blocks > 0:
        found = look_up_system(s, arrays.pieces, system_piece(s, arrays.requests), reach)
    if found >= rules.system_blocks:
        again = arrays.requests[i].preemptions > 0
        look_up_text(s, arrays.sessions, arrays.pieces, i, again, rules.block_tokens, found, reach)


@inlined
def look_up_system(s, pieces, p, reach):
    """Enter, and return, which blocks of the system prompt, the piece `p`, the cache holds."""
    if s.system_users > 0:
        s.shared = min(s.system_blocks, reach)
        return s.shared
    system = pieces[p]
    s.idle = min(np.int64(system.end), reach)
    s.on_host = min(np.int64(system.stop), reach) - s.idle
    return s.idle + s.on_host


@inlined
def look_up_text(s, sessions, pieces, i, again, block_tokens, found, reach):
    """Enter which blocks of a request's own text the cache holds, after `found` ones.

    Where it joins `again`, that is what it has left itself.
    """
    p = np.int64(i)
    if not again:
        p = np.int64(sessions[i].before)
        known = np.int64(sessions[i].known)
        while p != NOBODY and pieces[p].engine != s.engine:  # the turn before went elsewhere
            known = min(known, np.int64(sessions[p].known))
            p = np.int64(sessions[p].before)
        reach = min(reach, known // block_tokens)
    if p == NOBODY:
        return
    s.piece = p
    piece = pieces[p]
    here = max(min(np.int64(piece.end), reach) - found, 0)
    s.idle += here
    s.on_host += max(min(np.int64(piece.stop), reach) - found - here, 0)


@inlined
def take_turn(s, pieces, p, system_blocks):
    """Take what a request has found; `p` is the system prompt's piece, if it has blocks."""
    if system_blocks > 0:
        if s.system_users == 0:
            system = pieces[p]
            s.system_blocks = np.int64(system.stop)
            take_from_piece(s, pieces, p, s.system_blocks)
            system.start = system.end = system.stop = 0
        s.system_users += 1
    if s.piece != NOBODY:
        take_from_piece(s, pieces, s.piece, s.shared + s.idle + s.on_host)


@inlined
def share_system(s, rules, end):
    """Let others use as much of the system prompt as a request of `end` tokens has."""
    s.system_blocks = max(s.system_blocks, min(rules.system_blocks, end // rules.block_tokens))


@inlined
def leave_turn(s, arrays, rules, i, tokens):
    """Leave the full blocks of a request to its next turn; return how many of them others still use."""
    full = tokens // rules.block_tokens
    leave_piece(s, arrays.pieces, i, rules.system_blocks, full)
    if rules.system_blocks == 0:
        return ZERO
    s.system_users -= 1
    if s.system_users > 0:  # a part of a block there is one that was computed anew
        return min(rules.system_blocks, (tokens + rules.block_tokens - 1) // rules.block_tokens)
    leave_piece(s, arrays.pieces, system_piece(s, arrays.requests), ZERO, min(s.system_blocks, full))
    return ZERO
