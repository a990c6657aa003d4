"""Pieces of text whose KV blocks nobody uses: in device memory or on the host, in order of their last use.

A request that leaves lets go of its full blocks, tail first, so that what it leaves is one piece of its
text: `start` to `end` in device memory, from there to `stop` on the host. Whoever continues the text takes
blocks off the front, and who needs room takes them off the end of the piece that lies there longest. So a
piece never has a hole, and two numbers say what a list of its blocks would.

Blocks are taken for other content when somebody needs them, but that is entered late: as long as nobody
looks, `cached` may be more than the free blocks, and what is above them is lost already.

References
----------
vLLM, vllm/v1/core/block_pool.py and kv_cache_manager.py: a queue of free blocks, freed in reverse order,
those without content first; a hit takes them out of it.
TensorRT-LLM, "KV Cache System", on host offloading: a block that is evicted goes to host memory, is reusable
until it is evicted there too, and is copied back when it is reused.
"""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import inlined
from sim_core.engine.kernels.records import NOBODY

PIECE = np.dtype(
    [
        ("start", np.int32),
        ("end", np.int32),
        ("stop", np.int32),
        ("older", np.int32),  # in device memory
        ("newer", np.int32),
        ("host_older", np.int32),
        ("host_newer", np.int32),
        ("engine", np.int32),  # the replica that has it; NOBODY before there is one
        ("reused", np.int32),  # blocks that its request found when it first joined, in device memory
        ("loaded", np.int32),  # and on the host
    ],
    align=True,
)


@inlined
def append_piece(s, pieces, p):
    """Put a piece last among those in device memory: it was used last."""
    pieces[p].older = s.latest
    pieces[p].newer = NOBODY
    if s.latest == NOBODY:
        s.oldest = p
    else:
        pieces[s.latest].newer = p
    s.latest = p


@inlined
def unlink_piece(s, pieces, p):
    """Take a piece out of those in device memory."""
    piece = pieces[p]
    if piece.older == NOBODY:
        s.oldest = piece.newer
    else:
        pieces[piece.older].newer = piece.newer
    if piece.newer == NOBODY:
        s.latest = piece.older
    else:
        pieces[piece.newer].older = piece.older


@inlined
def append_on_host(s, pieces, p):
    """Put a piece last among those on the host."""
    pieces[p].host_older = s.host_latest
    pieces[p].host_newer = NOBODY
    if s.host_latest == NOBODY:
        s.host_oldest = p
    else:
        pieces[s.host_latest].host_newer = p
    s.host_latest = p


@inlined
def unlink_on_host(s, pieces, p):
    """Take a piece out of those on the host."""
    piece = pieces[p]
    if piece.host_older == NOBODY:
        s.host_oldest = piece.host_newer
    else:
        pieces[piece.host_older].host_newer = piece.host_newer
    if piece.host_newer == NOBODY:
        s.host_latest = piece.host_older
    else:
        pieces[piece.host_newer].host_older = piece.host_older


@inlined
def leave_piece(s, pieces, p, start, end):
    """Leave the blocks of a text from `start` to `end` to whoever continues it, or needs room."""
    piece = pieces[p]
    take_from_piece(s, pieces, p, np.int64(piece.stop))  # a piece of the same text takes its place
    piece.start = start
    piece.end = piece.stop = max(start, end)
    piece.engine = s.engine
    if end > start:
        s.cached += end - start
        append_piece(s, pieces, p)


@inlined
def take_from_piece(s, pieces, p, until):
    """Take the blocks of a piece up to `until` out of it, from device and host."""
    piece = pieces[p]
    here = min(until, np.int64(piece.end)) - piece.start
    if here > 0:
        s.cached -= here
        piece.start += here
        if piece.start == piece.end:
            unlink_piece(s, pieces, p)
    there = min(until, np.int64(piece.stop)) - piece.end
    if there > 0:
        s.host_blocks -= there
        piece.end += there
        piece.start = piece.end
        if piece.end == piece.stop:
            unlink_on_host(s, pieces, p)


@inlined
def enter_losses(s, arrays, rules, free_blocks):
    """Enter which blocks with content have been taken for other content, where so many are free."""
    if s.cached > free_blocks:
        evict(s, arrays.pieces, rules.host_blocks, s.cached - max(free_blocks, 0))


@inlined
def evict(s, pieces, host_blocks, count):
    """Take blocks off the ends of the oldest pieces; where there is host memory, they go there."""
    s.looked = NOBODY
    s.cached -= count
    s.evicted_blocks += count
    while count > 0:
        p = s.oldest
        piece = pieces[p]
        taken = min(count, np.int64(piece.end - piece.start))
        count -= taken
        if host_blocks > 0:
            if piece.end == piece.stop:
                append_on_host(s, pieces, p)
            s.host_blocks += taken
        else:
            piece.stop -= taken
        piece.end -= taken
        if piece.start == piece.end:
            unlink_piece(s, pieces, p)
    if s.host_blocks > host_blocks:
        drop_on_host(s, pieces, s.host_blocks - host_blocks)


@inlined
def drop_on_host(s, pieces, count):
    """Drop blocks on the host, off the ends of the oldest pieces."""
    s.host_blocks -= count
    while count > 0:
        p = s.host_oldest
        piece = pieces[p]
        dropped = min(count, np.int64(piece.stop - piece.end))
        count -= dropped
        piece.stop -= dropped
        if piece.end == piece.stop:
            unlink_on_host(s, pieces, p)
