"""Workers that move between the pools: what they give up, and when they take work again."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.clock import forget_due, stop_decoding, suspend
from sim_core.engine.kernels.memory.blocks import blocks_held, release_blocks
from sim_core.engine.kernels.pools.group import arrays_of
from sim_core.engine.kernels.pools.links import let_senders_try, put_on_link
from sim_core.engine.kernels.queue import leave_running
from sim_core.engine.kernels.records import DECODES, NOBODY, replica_of

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


class MovePlan(NamedTuple):
    """What a move takes: after the worker's work is done or sent away, so long it serves nobody.

    Where decodes `migrate`, their KV caches travel over the worker's own links to the other decode workers.
    An `instant` leave waits for no link and for nobody to take over what the worker holds.
    """

    reallocation_s: float
    migrate: bool
    instant: bool


class Moving(NamedTuple):
    """The moves of workers between the pools: those asked for, and what a move takes."""

    moves: np.ndarray
    plan: MovePlan


@inner
def begin_moves(c, decode, links, moving):
    """Let the workers that have been asked to move leave their pools: they give up what they have."""
    while c.begun < c.moves:
        move = moving.moves[c.begun]
        sender = links.senders[move.worker]
        if move.to == DECODES:
            move.step_end_s = max(sender.free_s, move.asked_s)
            sender.free_s = math.inf
        else:
            s = decode.states[move.worker]
            s.opens_s = math.inf
            move.step_end_s = max(s.clock_s, move.asked_s)
            if moving.plan.migrate:
                send_all_away(decode, links, move.worker, move.step_end_s)
        c.begun += 1
        c.draining += 1


@inner
def send_all_away(decode, links, worker, now_s):
    """Send the KV caches of all of a decode worker's requests to the other decode workers.

    Each of its ranks sends over the link of the same number; beyond those that it has as a prefill worker,
    they share them in turn.
    """
    g, ranks = decode.states[worker], decode.ranks[worker]
    count = links.each.size // links.senders.size
    own = links.each[worker * count : (worker + 1) * count]
    if ranks.size == 0:
        send_away(g, replica_of(decode.stacked, worker), decode, links, own[0], now_s)
    for r in range(ranks.size):
        send_away(ranks[r], arrays_of(g, ranks, decode.stacked, r), decode, links, own[r % count], now_s)
    g.unfinished = 0


@inner
def send_away(s, arrays, decode, links, link, now_s):
    """Send the KV caches of all requests of a decode worker, or of one of its ranks, over a link."""
    requests, stages, transfer = arrays.requests, links.stages, links.transfer
    while s.running_head != NOBODY:
        i = s.running_head
        r = requests[i]
        if i == s.partial:
            s.partial = NOBODY
            s.free_blocks += blocks_held(np.int64(r.computed), decode.rules)
            r.computed = 0
        else:
            stop_decoding(s, arrays, decode.cost, decode.rules, i)
            suspend(s, r)
            r.last_token_s = s.last_decode_s
            forget_due(arrays, i)
            s.free_blocks += blocks_held(np.int64(r.computed), decode.rules)
        release_blocks(s, decode.rules, r)
        leave_running(s, requests, i)
        put_on_link(link, stages, i, now_s, transfer.latency_s + transfer.token_s * r.computed)
    while s.queue_head != NOBODY:
        i = s.queue_head
        s.queue_head = requests[i].next
        put_on_link(link, stages, i, now_s, transfer.latency_s + transfer.token_s * requests[i].computed)
    s.unfinished = 0
    s.handed_head = NOBODY


@inlined
def is_sending(links, worker):
    """Return whether something is on its way over a worker's links."""
    ranks = links.each.size // links.senders.size
    found = False
    for k in range(worker * ranks, (worker + 1) * ranks):
        found = found or links.each[k].sent_head != NOBODY
    return found


@inlined
def last_free_s(links, worker):
    """Return when the last of a worker's links has sent all that it was given [s]."""
    ranks = links.each.size // links.senders.size
    found_s = 0.0
    for k in range(worker * ranks, (worker + 1) * ranks):
        found_s = max(found_s, links.each[k].free_s)
    return found_s


@inlined
def given_up_s(move, links, decode, plan):
    """Return when a leaving worker had no more work; infinite while it has."""
    sender, s = links.senders[move.worker], decode.states[move.worker]
    if plan.instant:
        return move.step_end_s
    if move.to == DECODES:
        if sender.held > 0 or is_sending(links, move.worker):
            return math.inf
        return max(move.step_end_s, sender.released_s, last_free_s(links, move.worker))
    if s.unfinished > 0:
        return math.inf
    return max(move.step_end_s, s.clock_s, last_free_s(links, move.worker))


@inner
def finish_moves(c, links, decode, moving):
    """Open the workers that have given up their work in the other pool, from when they are ready."""
    m, draining = c.moves, c.draining
    while draining > 0:
        m -= 1
        move = moving.moves[m]
        if not math.isnan(move.drained_s):
            continue
        draining -= 1
        drained_s = given_up_s(move, links, decode, moving.plan)
        if drained_s == math.inf:
            continue
        move.drained_s = drained_s
        move.ready_s = drained_s + moving.plan.reallocation_s
        c.draining -= 1
        if move.to == DECODES:
            decode.states[move.worker].opens_s = move.ready_s
        else:
            links.senders[move.worker].free_s = move.ready_s
            let_senders_try(c, links.senders)
