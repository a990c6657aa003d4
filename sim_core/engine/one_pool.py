"""One pool on given requests and prices: one engine, replicas behind a router, or dealt in turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim_core.engine.kernels.one_pool import run_balanced, run_continuous, run_routed
from sim_core.engine.kernels.records import IN_TURN, NOBODY, STATE, TO_LEAST_LOADED
from sim_core.engine.kernels.static import run_static
from sim_core.engine.memory import arrays_for, check_ended, columns_of, log_sizes, merged, result_of
from sim_core.engine.results import EngineResult
from sim_core.engine.rules import RunRules
from sim_core.engine.work import shared
from sim_core.price.step_cost import StepCost
from sim_core.traffic.requests import Requests
from sim_core.traffic.texts import has_sequels


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
    if rules.replicas == 1:
        return _run_one(step, requests, rules)
    if rules.router != "session" and has_sequels(requests):
        return _run_routed(step, requests, rules)
    return (_run_balanced if rules.balanced else _run_dealt)(step, requests, rules)


def _run_one(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run one engine; a run to be logged is run twice, first to count its rows."""
    kernel = run_static if rules.policy == "static" else run_continuous
    own, sizes = rules.kernel_for(requests), (0, 0)
    for _ in range(1 + rules.log):
        states = np.zeros(1, STATE)
        arrays = arrays_for(own, step, requests, sizes)
        kernel(states, arrays, step, own, *columns_of(requests), rules.concurrency)
        check_ended(arrays)
        sizes = log_sizes(states)
    return result_of(states, arrays, own)


def _run_balanced(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run replicas behind a least-loaded router; the drain after the last arrival is not measured."""
    own, sizes = rules.kernel_for(requests), (0, 0)
    drain = own if rules.whole else own._replace(measure_until=NOBODY)
    for _ in range(1 + rules.log):
        states = np.zeros(rules.replicas, STATE)
        stacked = arrays_for(own, step, requests, sizes, (rules.replicas,))
        run_balanced(states, stacked, step, own, drain, *columns_of(requests))
        check_ended(stacked)
        sizes = log_sizes(states)
    return result_of(states, stacked, own)


def _run_routed(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run replicas behind a router, where requests follow others."""
    routed = IN_TURN if rules.router == "round_robin" else TO_LEAST_LOADED
    own, sizes = rules.kernel_for(requests)._replace(routed=routed), (0, 0)
    for _ in range(1 + rules.log):
        states = np.zeros(rules.replicas, STATE)
        stacked = arrays_for(own, step, requests, sizes, (rules.replicas,))
        run_routed(states, stacked, step, own, *columns_of(requests), rules.concurrency)
        check_ended(stacked)
        sizes = log_sizes(states)
    return result_of(states, stacked, own)


def _run_dealt(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run replicas that share nothing: requests or sessions, and the clients of a closed loop, are dealt in
    turn.
    """
    most = min(rules.replicas, len(requests), rules.concurrency or rules.replicas)
    dealt = _deal(requests, most, by_session=rules.router == "session")
    used = len(dealt)
    parts = []
    with shared(used):
        for replica, numbers in enumerate(dealt):
            clients = len(range(replica, rules.concurrency, used))
            own = replace(rules, replicas=1, concurrency=clients, warm=rules.warm // used)
            parts.append(_run_one(step, requests.take(numbers), own))
    return merged(parts, dealt, rules.replicas)


def _deal(requests: Requests, replicas: int, by_session: bool) -> list[np.ndarray]:
    """Return the numbers of the requests that each replica gets, or that those get which get any."""
    numbers = np.arange(len(requests))
    if not by_session or requests.session is None:
        return [numbers[replica::replicas] for replica in range(replicas)]
    names = np.where(requests.session < 0, -1 - numbers, requests.session)
    _, first, mine = np.unique(names, return_index=True, return_inverse=True)
    turn = np.argsort(np.argsort(first))[mine] % replicas
    dealt = (numbers[turn == replica] for replica in range(replicas))
    return [some for some in dealt if some.size]
