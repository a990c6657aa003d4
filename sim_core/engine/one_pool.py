"""One pool on given requests and prices: one engine, replicas behind a router, or dealt in turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sim_core.engine.groups import run_ranks, turns_of
from sim_core.engine.kernels.one_pool import run_balanced, run_continuous, run_routed
from sim_core.engine.kernels.pools.stages import run_pipelined
from sim_core.engine.kernels.records import IN_TURN, NOBODY, STATE, TO_LEAST_LOADED, Times
from sim_core.engine.kernels.static import run_static
from sim_core.engine.memory import (
    TABLES,
    TOTALS,
    arrays_for,
    check_ended,
    kernel_columns,
    merged,
    result_of,
    runs_of,
)
from sim_core.engine.results import EngineResult, EngineResults, Usage
from sim_core.engine.rules import RunRules
from sim_core.engine.work import shared
from sim_core.price.step_cost import StepCost
from sim_core.traffic.requests import Requests
from sim_core.traffic.texts import has_sequels

COUNTED = ("gap_counts", *TABLES)
NOT_WANTED = np.empty((1, 0))


def run_engine(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run requests through the engine.

    Parameters
    ----------
    step : StepCost
        Prices of a step; the row table has at least `max_running` + 1 entries.
    requests : Requests
        Each fits the KV cache alone. Arrivals are those at the engine.
    rules : RunRules
    """
    routed = rules.router != "session" and rules.stages == 1 and has_sequels(requests)
    if rules.replicas > 1 and not routed and not rules.balanced:
        return _run_dealt(step, requests, rules)
    if rules.ranks > 1:
        return run_ranks(step, requests, rules)
    if rules.replicas == 1:
        return _run_one(step, requests, rules)
    return (_run_routed if routed else _run_balanced)(step, requests, rules)


def _run_one(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run one engine."""
    if rules.stages > 1:
        return _run_pipelined(step, requests, rules)
    own = rules.kernel_for(requests)
    arrival_s, *lengths = kernel_columns(requests)
    for states, arrays in runs_of(own, step, requests):
        if rules.policy == "static":
            run_static(states, arrays, step, own, arrival_s, *lengths, rules.concurrency)
        else:
            tables = {name: getattr(arrays, name)[None] for name in COUNTED}
            times = Times(arrival_s[None], NOT_WANTED, NOT_WANTED, np.zeros(1, np.int64))
            clients = np.array([rules.concurrency])
            run_continuous(states, arrays._replace(**tables), step, own, times, *lengths, clients)
    return result_of(states, arrays, own)


def run_engines(
    step: StepCost, requests: Requests, arrival_s: np.ndarray, clients: np.ndarray, rules: RunRules
) -> EngineResults:
    """Run the same requests through one engine several times, with other arrivals or other clients.

    The runs share their working memory, for an engine leaves its rings as they were. No request may follow
    another, and none meets what others have left in a cache.

    Parameters
    ----------
    arrival_s : ndarray, shape (runs, n)
        Written to in a closed loop. [s]
    clients : ndarray of int64, shape (runs,)
        Of a closed loop, or 0 for an open one.
    """
    own = rules.kernel_for(requests)
    runs, lengths = len(arrival_s), kernel_columns(requests)[1:]
    arrays = arrays_for(own, step, requests, (0, 0))
    tables = {name: np.zeros((runs, getattr(arrays, name).size), np.int64) for name in COUNTED}
    arrays = arrays._replace(turns=np.repeat(arrays.turns, runs), **tables)
    answered_s = np.empty_like(arrival_s), np.empty_like(arrival_s)
    states, times = np.zeros(runs, STATE), Times(arrival_s, *answered_s, np.zeros(runs, np.int64))
    run_continuous(states, arrays, step, own, times, *lengths, clients)
    check_ended(arrays)
    counted: dict[str, Any] = {name: np.ascontiguousarray(states[name]) for name in TOTALS}
    counted |= {name: tables[name].astype(float) for name in TABLES}  # for the products that follow
    return EngineResults(**times._asdict(), gap_counts=tables["gap_counts"], usage=Usage(**counted))


def _run_pipelined(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run one engine of several stages, whose groups share its memory and its log."""
    own = rules.kernel_for(requests)
    for states, stacked in runs_of(own, step, requests, (rules.stages,)):
        run_pipelined(states, stacked, step, own, *kernel_columns(requests), rules.concurrency)
    return result_of(states, stacked._replace(log=stacked.log[0], events=stacked.events[0]), own)


def _run_balanced(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run replicas behind a least-loaded router; the drain after the last arrival is not measured."""
    own = rules.kernel_for(requests)
    drain = own if rules.whole else own._replace(measure_until=NOBODY)
    for states, stacked in runs_of(own, step, requests, (rules.replicas,)):
        run_balanced(states, stacked, step, own, drain, *kernel_columns(requests))
    return result_of(states, stacked, own)


def _run_routed(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run replicas behind a router, where requests follow others."""
    routed = IN_TURN if rules.router == "round_robin" else TO_LEAST_LOADED
    own = rules.kernel_for(requests)._replace(routed=routed)
    for states, stacked in runs_of(own, step, requests, (rules.replicas,)):
        run_routed(states, stacked, step, own, *kernel_columns(requests), rules.concurrency)
    return result_of(states, stacked, own)


def _run_dealt(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run replicas that share nothing: requests or sessions, and the clients of a closed loop, are dealt in
    turn.
    """
    most = min(rules.replicas, len(requests), rules.concurrency or rules.replicas)
    dealt = _deal(requests, most, by_session=rules.router == "session" or has_sequels(requests))
    used = len(dealt)
    parts = []
    with shared(used):
        for replica, numbers in enumerate(dealt):
            clients = len(range(replica, rules.concurrency, used))
            own = replace(rules, replicas=1, concurrency=clients, warm=rules.warm // used)
            parts.append(run_engine(step, requests.take(numbers), own))
    return merged(parts, dealt, rules.replicas, rules.ranks)


def _deal(requests: Requests, replicas: int, by_session: bool) -> list[np.ndarray]:
    """Return the numbers of the requests that each replica gets, or that those get which get any."""
    numbers = np.arange(len(requests))
    if not by_session or requests.session is None:
        return [numbers[replica::replicas] for replica in range(replicas)]
    turn = turns_of(requests) % replicas
    dealt = (numbers[turn == replica] for replica in range(replicas))
    return [some for some in dealt if some.size]
