"""One pool on given requests and prices whose engines are groups of ranks with schedulers of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim_core.engine.kernels.pools.groups import Groups, Sent, run_groups
from sim_core.engine.kernels.records import IN_TURN, NOBODY, STATE, TO_LEAST_LOADED
from sim_core.engine.memory import kernel_columns, result_of, runs_of
from sim_core.engine.results import EngineResult
from sim_core.engine.rules import RunRules
from sim_core.price.step_cost import StepCost
from sim_core.traffic.requests import Requests
from sim_core.traffic.texts import has_sequels


def run_ranks(step: StepCost, requests: Requests, rules: RunRules) -> EngineResult:
    """Run requests through groups of ranks, all of them behind one router.

    `least_loaded` sends a request to the group with the fewest unfinished requests, and there to the rank
    with the fewest; `round_robin` deals groups and ranks in turn; `session` keeps all turns of a session on
    one rank, sessions dealt in turn. That also holds for the clients of a closed loop.

    References
    ----------
    vLLM, "Data Parallel Deployment": the API server of a group balances over its ranks by their requests,
    whatever balances over groups. SGLang's `DataParallelController` does the same.
    """
    routed = TO_LEAST_LOADED if rules.router == "least_loaded" else IN_TURN
    own = rules.kernel_for(requests)._replace(sequels=True, routed=routed)
    drain = own if rules.whole or rules.replicas == 1 else own._replace(measure_until=NOBODY)
    rank = ranks_of_sessions(requests, rules)
    for states, stacked in runs_of(own, step, requests, (rules.replicas * rules.ranks,)):
        ranks = states.reshape(rules.replicas, rules.ranks)
        groups = Groups(np.zeros(rules.replicas, STATE), ranks, stacked, step, own)
        sent = Sent(*kernel_columns(requests), rank.copy())
        one_at_a_time = rules.replicas > 1 and has_sequels(requests)
        run_groups(groups, drain, sent, rules.concurrency, one_at_a_time)
    return replace(result_of(states, stacked, own, groups.states), rank=sent.rank)


def ranks_of_sessions(requests: Requests, rules: RunRules) -> np.ndarray:
    """Return the rank of each request where sessions stay on one, else `NOBODY`."""
    if rules.router != "session":
        return np.full(len(requests), NOBODY, np.int64)
    return turns_of(requests) % rules.ranks


def turns_of(requests: Requests) -> np.ndarray:
    """Return at which turn each request's session is dealt, the first ones first."""
    numbers = np.arange(len(requests))
    if requests.session is None:
        return numbers
    names = np.where(requests.session < 0, -1 - numbers, requests.session)
    _, first, mine = np.unique(names, return_index=True, return_inverse=True)
    turns: np.ndarray = np.argsort(np.argsort(first))[mine]
    return turns
