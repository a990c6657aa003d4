"""Two pools on given requests and prices, run to the end or driven through time (rules: `price.pools`)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sim_core.engine.groups import turns_of
from sim_core.engine.kernels.pools.links import LINK, SENDER, STAGE, Links
from sim_core.engine.kernels.pools.moves import MOVE, MovePlan, Moving
from sim_core.engine.kernels.pools.two_pools import (
    CLERK,
    Clients,
    Workers,
    advance_pools,
    advance_pools_of_ranks,
    open_pools,
)
from sim_core.engine.kernels.records import FIXED_SHARE, NO_CACHE, NOBODY, STATE, Rules
from sim_core.engine.memory import arrays_for, check_ended, kernel_columns, result_of, texts_for
from sim_core.engine.results import EngineResult, SplitResult
from sim_core.engine.rules import SplitRules, pool_rules
from sim_core.price.step_cost import StepCost, Transfer
from sim_core.traffic.requests import Requests

STAY = MovePlan(0.0, False, False)  # of pools whose workers never move


def run_split_engine(
    prefill_step: StepCost, step: StepCost, transfer: Transfer, requests: Requests, rules: SplitRules
) -> tuple[EngineResult, SplitResult]:
    """Run requests through two pools; the first result is the decode pool's.

    Every prompt fits a prefill worker alone, every request a decode worker.
    """
    prefill, decode = pool_rules(rules, requests)
    engine = SplitEngine(
        workers_of(
            prefill, prefill_step, requests, rules.prefill_workers, decode=False, ranks=rules.prefill_ranks
        ),
        workers_of(decode, step, requests, rules.decode.replicas, ranks=rules.decode.ranks),
        transfer,
        requests,
        clients=rules.decode.concurrency,
        by_session=rules.by_session,
    )
    engine.run()
    return engine.results()


def workers_of(
    rules: Rules, step: StepCost, requests: Requests, workers: int, decode: bool = True, ranks: int = 1
) -> Workers:
    """Return the working memory of a pool's workers, each of so many ranks of attention; those that make
    prompts alone need little of it, but what a share of every prompt, or a prefix cache, spares them.
    """
    states = np.zeros(int(workers), STATE)
    own = np.zeros((states.size, 0 if decode and ranks == 1 else int(ranks)), STATE)
    engines = (max(own.size, states.size),)
    if decode:
        return Workers(states, own, arrays_for(rules, step, requests, (0, 0), engines), step, rules)
    if rules.caching == NO_CACHE and rules.hit_frac > 0:
        rules = rules._replace(caching=FIXED_SHARE)
    arrays = arrays_for(rules, step, requests.take(slice(0)), (0, 0), engines)
    arrays = arrays._replace(**texts_for(rules, requests, engines))
    return Workers(states, own, arrays, step, rules)


def pool_result(pool: Workers) -> EngineResult:
    """Return what the workers of a pool report."""
    if pool.ranks.size:
        return result_of(pool.ranks.ravel(), pool.stacked, pool.rules, pool.states)
    return result_of(pool.states, pool.stacked, pool.rules)


class SplitEngine:
    """Two pools that can be driven through time, and whose workers can move from one to the other.

    Attributes
    ----------
    prefill, decode : Workers
        Both share the request records. Where workers move, each has as many entries as there are workers,
        and worker w is entry w of both.
    senders, stages, moves : ndarray of the kernels' `SENDER`, `STAGE`, `MOVE`
        Moves that have been asked for come first; `moved` says how many.
    """

    def __init__(
        self,
        prefill: Workers,
        decode: Workers,
        transfer: Transfer,
        requests: Requests,
        clients: int = 0,
        plan: MovePlan = STAY,
        most_moves: int = 0,
        by_session: bool = False,
    ) -> None:
        count = len(requests)
        self.requests, self.decode, self.plan = requests, decode, plan
        self.transfer = Transfer(
            float(transfer.token_s), float(transfer.latency_s), int(transfer.layers), bool(transfer.overlap)
        )
        shared = {name: getattr(decode.stacked, name) for name in ("requests", "coming", "turns", "stop")}
        self.prefill = prefill._replace(stacked=prefill.stacked._replace(**shared))
        self.stages = np.zeros(count, STAGE)
        self.stages["sender"] = self.stages["rank"] = NOBODY
        if by_session:  # all turns of a session by one worker and one of its ranks, sessions in turn
            turns, (workers, ranks) = turns_of(requests), prefill.ranks.shape
            self.stages["sender"], self.stages["rank"] = turns % workers, turns // workers % ranks
        for name in ("prefill_start_s", "prefill_end_s", "transfer_end_s"):
            self.stages[name] = np.nan
        self.senders = np.zeros(prefill.states.size, SENDER)
        self._links = Links(self.senders, np.zeros(prefill.ranks.size, LINK), self.stages, self.transfer)
        self.moves = np.zeros(most_moves, MOVE)
        self._clerk, self._heap = np.zeros(1, CLERK), np.empty(count)
        arrival_s, prompts, rest = kernel_columns(requests)
        self._sent_s = arrival_s.copy()
        open_pools(self._clerk, self.prefill, decode, self._links, self._sent_s, prompts, rest, int(clients))

    @property
    def moved(self) -> int:
        """Number of moves asked for so far."""
        return int(self._clerk["moves"][0])

    def run(self) -> None:
        """Let everything happen."""
        self.advance(math.inf)

    def advance(self, untils_s: float | np.ndarray) -> None:
        """Let everything happen before a moment on the engines' clock, or before several in turn [s]."""
        moments_s = np.atleast_1d(np.asarray(untils_s, float))
        clients, moving = Clients(self._sent_s, self._heap), Moving(self.moves, self.plan)
        advance = advance_pools_of_ranks if self.decode.ranks.size else advance_pools
        advance(self._clerk, self.prefill, self.decode, self._links, clients, moving, moments_s)
        check_ended(self.decode.stacked)

    def ask_move(self, worker: int, to: int, now_s: float) -> None:
        """Let a worker leave its pool for the other one, the kernels' `PREFILLS` or `DECODES`.

        It does so when time goes on from here.
        """
        self.moves[self.moved] = (worker, to, now_s, math.nan, math.nan, math.nan)
        self._clerk["moves"] += 1

    def results(self) -> tuple[EngineResult, SplitResult]:
        """Return what each pool reports."""
        transfer, stages, decode = self.transfer, self.stages, self.decode
        decode.stacked.requests["arrival_s"] = self._sent_s
        sent = np.isfinite(stages["transfer_end_s"])
        travel_s = _sending_s(transfer, self.requests.prompt_tokens, stages)[sent]
        prefilled = pool_result(self.prefill)
        result = SplitResult(
            usage=prefilled.usage,
            link_busy_s=float(transfer.latency_s * sent.sum() + travel_s.sum()),
            stages=stages,
            joined_s=decode.stacked.requests["joined_s"].copy(),
        )
        found = {name: getattr(prefilled, name) for name in ("reused_tokens", "loaded_tokens")}
        return replace(pool_result(decode), **found), result


def _sending_s(transfer: Transfer, prompt_tokens: np.ndarray, stages: np.ndarray) -> np.ndarray:
    """Return how long each prompt's KV cache keeps its link busy after the step that made it [s]."""
    whole_s = transfer.token_s * prompt_tokens
    if not transfer.overlap:
        return whole_s
    hidden_s = (stages["prefill_end_s"] - stages["prefill_start_s"]) * (transfer.layers - 1) / transfer.layers
    return np.maximum(whole_s / transfer.layers, whole_s - hidden_s)


def whole(rules: SplitRules) -> SplitRules:
    """Return the rules with all steps counted."""
    return replace(rules, decode=replace(rules.decode, whole=True))
