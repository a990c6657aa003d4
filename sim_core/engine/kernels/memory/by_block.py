"""The prefix cache of texts that are hashed piece by piece, as traces have them: one look-up a block.

Each block of such a text is counted by the requests that use it. One that nobody uses lies in the piece of
the request that let go of it last. No block is kept twice: who has computed what is there already goes over
to it, as requests do in SGLang's tree.
"""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.memory.pieces import enter_losses, leave_piece, take_from_piece
from sim_core.engine.kernels.records import NOBODY, ZERO

BLOCK = np.dtype(
    [
        ("users", np.int32),
        ("holder", np.int32),  # one more than the piece that it lies in, or lay in
    ]
)
CHAIN = np.dtype(
    [
        ("first", np.int64),  # where its numbers of text begin
        ("blocks", np.int32),  # full ones whose text is known
        ("held", np.int32),  # those of them that the request uses
    ],
    align=True,
)


@inlined
def block_at(arrays, rules, i, k):
    """Return the number of the k-th block of a request's text: that of the text at its last token."""
    slots = rules.text_tokens // rules.block_tokens + 1
    place = ((k + 1) * rules.block_tokens - 1) // rules.text_tokens
    text = arrays.chain_ids[arrays.chains[i].first + place]
    return text * slots + k - place * rules.text_tokens // rules.block_tokens


@inlined
def holder_of(arrays, rules, i, k):
    """Return the piece in which the k-th block of a text lies if nobody uses it, or NOBODY."""
    if k >= arrays.chains[i].blocks:
        return np.int64(i)  # of an answer: nobody else has made it
    return np.int64(arrays.blocks[block_at(arrays, rules, i, k)].holder) - 1


@inlined
def is_here(arrays, rules, i, k):
    """Return whether the k-th block of a text lies in device memory, used by nobody."""
    p = holder_of(arrays, rules, i, k)
    return p != NOBODY and arrays.pieces[p].start <= k < arrays.pieces[p].end


@inlined
def is_on_host(arrays, rules, i, k):
    """Return whether the k-th block of a text lies in host memory."""
    p = holder_of(arrays, rules, i, k)
    return p != NOBODY and arrays.pieces[p].end <= k < arrays.pieces[p].stop


@inner
def look_up_chain(s, arrays, rules, i, reach):
    """Enter which of the first `reach` blocks of a request the cache holds."""
    chain = arrays.chains[i]
    known = min(np.int64(chain.blocks), reach)
    if arrays.requests[i].preemptions == 0:
        reach = known
    arrays.turns[0] -= known >> 6  # a look at a block takes a small part of a turn
    k = ZERO
    while k < known and arrays.blocks[block_at(arrays, rules, i, k)].users > 0:
        k += 1
    s.shared = k
    while k < reach and is_here(arrays, rules, i, k):
        k += 1
    s.idle = k - s.shared
    while k < reach and is_on_host(arrays, rules, i, k):
        k += 1
    s.on_host = k - s.shared - s.idle


@inner
def take_chain(s, arrays, rules, i):
    """Take what a request has found."""
    chain = arrays.chains[i]
    found = s.shared + s.idle + s.on_host
    for k in range(found):
        if k >= s.shared:
            take_from_piece(s, arrays.pieces, holder_of(arrays, rules, i, k), k + 1)
        if k < chain.blocks:
            arrays.blocks[block_at(arrays, rules, i, k)].users += 1
    chain.held = min(found, np.int64(chain.blocks))


@inner
def share_blocks(s, arrays, rules, i, end):
    """Let others use the full blocks of a request of `end` tokens; what is there already, it uses itself."""
    chain = arrays.chains[i]
    full = min(end // rules.block_tokens, np.int64(chain.blocks))
    if chain.held >= full:
        return
    enter_losses(s, arrays, rules, s.free_blocks)
    for k in range(np.int64(chain.held), full):
        block = arrays.blocks[block_at(arrays, rules, i, k)]
        if block.users > 0:
            s.free_blocks += 1
        elif is_here(arrays, rules, i, k) or is_on_host(arrays, rules, i, k):
            take_from_piece(s, arrays.pieces, np.int64(block.holder) - 1, k + 1)
        block.users += 1
    chain.held = full


@inner
def leave_chain(s, arrays, rules, i, tokens):
    """Leave the full blocks of a request to others; return how many of them they still use."""
    share_blocks(s, arrays, rules, i, tokens)
    chain = arrays.chains[i]
    used = ZERO
    for k in range(np.int64(chain.held)):
        block = arrays.blocks[block_at(arrays, rules, i, k)]
        block.users -= 1
        if block.users > 0:
            used = k + 1
        else:
            block.holder = i + 1
    chain.held = 0
    leave_piece(s, arrays.pieces, i, used, tokens // rules.block_tokens)
    return used
