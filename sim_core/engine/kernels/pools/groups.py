"""One pool whose engines are groups of ranks: a router sends each request to a group, and there to a rank."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim_core.engine.compiling import Entry, inlined, inner
from sim_core.engine.kernels.one_pool import choose_replica, load_requests, open_engine
from sim_core.engine.kernels.pools.group import advance_group_here, next_group_step_s
from sim_core.engine.kernels.queue import append_to_queue, next_coming_s, send_first, take_coming
from sim_core.engine.kernels.records import IN_TURN, NOBODY, ZERO, Arrays, Rules, is_over
from sim_core.price.step_cost import StepCost


class Groups(NamedTuple):
    """Groups of ranks: the states of groups and of their ranks, their arrays, what steps cost, their rules.

    `ranks` has a row for each group; the arrays of all ranks lie one after the other.
    """

    states: np.ndarray
    ranks: np.ndarray
    stacked: Arrays
    cost: StepCost
    rules: Rules


class Sent(NamedTuple):
    """The requests: when they are sent, lengths, and the rank of each, or NOBODY: the router chooses."""

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    rest: np.ndarray
    rank: np.ndarray


@inner
def open_group(g, ranks, rules, number):
    """Set a group and its ranks to their empty state at time 0; records come zeroed."""
    open_engine(g, rules)
    g.engine = number
    for r in range(ranks.size):
        s = ranks[r]
        open_engine(s, rules)
        s.engine = number * ranks.size + r
        s.released = np.int64(1) << 60  # no rank lets clients send by itself


@inlined
def group_behind(groups, requests, event_s):
    """Return the group whose next step starts first, before an event; else NOBODY."""
    found, found_s = NOBODY, event_s
    for k in range(groups.states.size):
        step_s = next_group_step_s(groups.ranks[k], requests)
        if step_s < found_s:
            found, found_s = np.int64(k), step_s
    return found


@inlined
def send_to_rank(groups, sent, i, number, in_turn):
    """Send a request to a group, and there to the rank that it is meant for, or that the router chooses."""
    k = choose_replica(groups.states, number, in_turn)
    g, ranks = groups.states[k], groups.ranks[k]
    r = np.int64(sent.rank[i])
    if r == NOBODY:
        r = choose_replica(ranks, g.sent, in_turn)
    sent.rank[i] = k * ranks.size + r
    append_to_queue(ranks[r], groups.stacked.requests, i)
    ranks[r].unfinished += 1
    g.unfinished += 1
    g.sent += 1


@Entry
def run_groups(groups, drain_rules, sent, concurrency, one_at_a_time):
    """Run groups of ranks side by side; each request goes to a rank when it is sent.

    The router sees every group after all steps that start before. Where a step of one group may bring a
    request to another, steps run `one_at_a_time`, that of the group furthest behind first. After the last
    request, `drain_rules` hold, which may measure no more.
    """
    stacked, requests = groups.stacked, groups.stacked.requests
    load_requests(requests, sent.arrival_s, sent.prompt_tokens, sent.rest)
    for k in range(groups.states.size):
        open_group(groups.states[k], groups.ranks[k], groups.rules, k)
    send_first(stacked.coming, requests, stacked.sessions, concurrency)
    in_turn, number = groups.rules.routed == IN_TURN, ZERO
    while not is_over(stacked.turns, stacked.stop, 1 + (groups.ranks.size >> 5)):
        event_s = next_coming_s(stacked.coming)
        waiting = event_s < math.inf
        k = group_behind(groups, requests, event_s)
        if k != NOBODY:
            g, ranks = groups.states[k], groups.ranks[k]
            own = groups.rules if waiting else drain_rules
            until_s = (
                math.nextafter(next_group_step_s(ranks, requests), math.inf) if one_at_a_time else event_s
            )
            advance_group_here(g, ranks, stacked, groups.cost, own, until_s)
        elif waiting:
            i = take_coming(stacked.coming, requests, stacked.sessions)
            send_to_rank(groups, sent, i, number, in_turn)
            number += 1
        else:
            return
