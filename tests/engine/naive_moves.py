"""Workers that move between the pools, in plain Python: the oracle of `SplitEngine.ask_move`.

Every worker is a sender and an engine at once; a closed one takes nothing. Read `settle`: it is the rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.engine.naive import Request
from tests.engine.naive_pools import Pools

PREFILLS, DECODES = 0, 1


@dataclass
class Move:
    """A worker on its way to the other pool."""

    worker: int
    to: int
    asked_s: float
    step_end_s: float
    drained_s: float = math.nan
    ready_s: float = math.nan


class MovingPools(Pools):
    """Both pools, with workers that leave one and join the other."""

    def __init__(self, *args, workers, first_prefill, reallocation_s, migrate, instant, **rules):
        super().__init__(*args, prefill_workers=workers, decode_workers=workers, **rules)
        self.opens_s = [math.inf if w < first_prefill else 0.0 for w in range(workers)]
        for sender in self.senders[first_prefill:]:
            sender.free_s = math.inf
        self.reallocation_s, self.migrate, self.instant = reallocation_s, migrate, instant
        self.moves: list[Move] = []
        self.taken_over_s = [0.0] * workers  # when the last KV cache of a prefill worker was taken over
        self.until_s = math.inf

    def run_until(self, until_s):
        """Let everything happen that happens before a moment."""
        self.until_s = until_s
        while self.step():
            pass
        if until_s < math.inf:
            self.now_s = max(self.now_s, until_s)

    def step(self):
        self.settle()
        engine_s = min(worker.next_start_s() for worker in self.workers)
        again_s = min(self.returns, default=math.inf) if self.unsent else math.inf
        coming = [arrival[0] for arrival in self.coming()]
        if min(engine_s, again_s, self.next_start()[0], min(coming, default=math.inf)) >= self.until_s:
            return False
        return super().step()

    def opened(self):
        return [w for w, opens_s in enumerate(self.opens_s) if opens_s <= self.now_s]

    def note_joined(self):
        before = [set(sender.holds()) for sender in self.senders]
        super().note_joined()
        for w, sender in enumerate(self.senders):
            for request in before[w] - set(sender.holds()):
                self.taken_over_s[w] = max(self.taken_over_s[w], self.stages[request.index].joined_s)

    def ask_move(self, worker, to, now_s):
        """Close a worker; its decodes go away at once if they migrate."""
        sender, ranks = self.senders[worker], self.ranks_of(worker)
        if to == DECODES:
            self.moves.append(Move(worker, to, now_s, max(sender.free_s, now_s)))
            sender.free_s = math.inf
            return
        self.opens_s[worker] = math.inf
        move = Move(worker, to, now_s, max(ranks[0].clock_s, now_s))
        self.moves.append(move)
        if not self.migrate:
            return
        for number, rank in enumerate(ranks):
            for request in [*rank.running, *rank.preempted[::-1], *rank.arrivals]:
                self.send_away(worker, number % len(sender.on_link), request, move.step_end_s)
            rank.running, rank.preempted, rank.unfinished = [], [], 0
            rank.arrivals.clear()
            rank.free_blocks = rank.kv_blocks

    def send_away(self, worker, link, request: Request, now_s):
        """Send one request's KV cache on; an unfinished recomputation starts anew elsewhere."""
        sender = self.senders[worker]
        request.blocks = 0
        if not request.decoding:
            request.computed = 0
        end_s = max(sender.link_free_s[link], now_s) + (
            self.transfer.latency_s + self.transfer.token_s * request.computed
        )
        sender.link_free_s[link] = self.stages[request.index].transfer_end_s = end_s
        sender.on_link[link].append((end_s, request))
        # the engine forgets how it was preempted: a decode that once lay in host memory comes from there
        request.swapped = bool(request.preemptions) and self.ranks_of(worker)[0].swap

    def settle(self):
        """Open the workers that have given up their work in the other pool."""
        for move in self.moves:
            if math.isnan(move.drained_s):
                move.drained_s = self.given_up_s(move)
                move.ready_s = move.drained_s + self.reallocation_s
                if math.isnan(move.drained_s):
                    continue
                if move.to == DECODES:
                    self.opens_s[move.worker] = move.ready_s
                else:
                    self.senders[move.worker].free_s = move.ready_s

    def given_up_s(self, move):
        """Return when a leaving worker had no more work; NaN while it has."""
        sender, engine = self.senders[move.worker], self.workers[move.worker]
        if self.instant:
            return move.step_end_s
        if move.to == DECODES:
            if any(sender.on_link) or sender.holds():
                return math.nan
            return max(move.step_end_s, self.taken_over_s[move.worker], *sender.link_free_s)
        if engine.unfinished:
            return math.nan
        return max(move.step_end_s, self.ranks_of(move.worker)[0].clock_s, *sender.link_free_s)
