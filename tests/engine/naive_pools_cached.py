"""Two pools with conversations in plain Python: requests follow others, and prefill workers cache prompts.

Each rank of a prefill worker has the block-level cache of one pool's twin. It is asked with a copy of the
request: what the decode worker makes of it is no business of the prefill worker.
"""

from __future__ import annotations

import math
from collections import deque

from sim_core.traffic.texts import has_sequels
from tests.engine.naive import Request, Work
from tests.engine.naive_admission import blocks_for
from tests.engine.naive_cache import CachingEngine, Texts, link_turns
from tests.engine.naive_pools import Pools


class CachingPools(Pools):
    """Both pools, and sessions in front of them."""

    def __init__(
        self, prefill_cost, cost, transfer, sent, *, router="least_loaded", caching=True, host_blocks=0,
        last_lost=False, concurrency=0, **rules,
    ):  # fmt: skip
        columns = (sent.arrival_s.tolist(), sent.prompt_tokens.tolist(), sent.output_tokens.tolist())
        super().__init__(prefill_cost, cost, transfer, *columns, concurrency=concurrency, **rules)
        workers, ranks = len(self.senders), len(self.senders[0].held)
        self.router, self.homes, self.number = router, homes_of(sent), 0
        self.queues = [[] for _ in self.senders]
        self.copies: dict[int, Request] = {}
        self.caching = caching
        if caching:
            own = {
                "policy": "chunked", "max_running": 1, "token_budget": self.budget, "kv_blocks": self.room,
                "kv_block_tokens": self.block, "preemption": "recompute", "warm": 0, "last": 0,
                "host_blocks": host_blocks, "last_lost": last_lost, "texts": Texts(sent), "names": {},
            }  # fmt: skip
            self.caches = [[CachingEngine(prefill_cost, **own) for _ in range(ranks)] for _ in range(workers)]
        self.following: list[Request] = []  # those that are sent next, as far as is known
        self.sessions = has_sequels(sent)
        sent_first, self.queue = self.queue, []
        if not self.sessions:
            for request in sent_first:
                self.put_in_queue(request)
            return
        first = list(link_turns(self.requests, sent))
        later = deque(first[concurrency:] if concurrency else [])
        self.unsent, self.following = [], first[:concurrency] if concurrency else first
        for engine in self.engines:
            engine.unreleased, engine.turnaround_s = later, self.turnaround_s
            engine.send = self.following.append

    def next_again_s(self) -> float:
        if not self.sessions:
            return super().next_again_s()
        return min((request.arrival_s for request in self.following), default=math.inf)

    def send_again(self, time_s: float) -> None:
        if not self.sessions:
            self.returns.remove(time_s)
            request = self.unsent.pop(0)
            request.arrival_s = time_s
        else:
            request = min(self.following, key=lambda one: (one.arrival_s, one.index))
            self.following.remove(request)
        self.sent_s[request.index] = time_s
        self.put_in_queue(request)

    def put_in_queue(self, request: Request) -> None:
        if not self.caching or self.router == "least_loaded":
            self.queue.append(request)
        else:
            turn = self.homes[request.index] if self.router == "session" else self.number
            self.queues[turn % len(self.queues)].append(request)
        self.number += 1

    def queue_of(self, p: int) -> list[Request]:
        return self.queue if not self.caching or self.router == "least_loaded" else self.queues[p]

    def note_done(self) -> None:
        if not self.sessions:
            super().note_done()
            return
        for request in self.requests:
            if request.index not in self.seen_done and not math.isnan(request.finished_s):
                self.seen_done.add(request.index)
                if request.output == 1:  # no decode worker has it
                    self.go_on(request)

    def go_on(self, request: Request) -> None:
        sent_s = request.finished_s + self.turnaround_s
        if request.sequel is None:
            self.engines[0].release_next(sent_s)
        else:
            request.sequel.arrival_s = sent_s + request.sequel.follows_s
            self.following.append(request.sequel)

    # The caches ----------------------------------------------------------------------------------

    def found(self, p: int, rank: int, request: Request) -> Request:
        """Return a copy of a request as a rank's cache sees it."""
        copy = Request(request.index, request.arrival_s, request.prompt, request.rest)
        self.caches[p][rank].find(copy)
        return copy

    def free(self, p: int, rank: int) -> int:
        return self.caches[p][rank].cache.free() if self.caching else super().free(p, rank)

    def has_room(self, p: int, rank: int, request: Request) -> bool:
        if not self.caching:
            return super().has_room(p, rank, request)
        home = self.homes[request.index] // len(self.senders) % len(self.senders[p].held)
        if self.router == "session" and rank != home:
            return False
        wanted = blocks_for(request.prompt, self.block) - self.found(p, rank, request).shared
        return wanted <= self.free(p, rank)

    def start_of(self, p: int, rank: int, request: Request) -> int:
        return self.found(p, rank, request).found if self.caching else super().start_of(p, rank, request)

    def take_in(self, p: int, rank: int, request: Request, work: Work) -> int:
        if not self.caching:
            return super().take_in(p, rank, request, work)
        self.senders[p].held[rank].append(request)
        cache, copy = self.caches[p][rank], self.found(p, rank, request)
        self.copies[request.index] = copy
        cache.take_found(copy, work)
        start = copy.computed
        cache.hold(copy, blocks_for(copy.prompt, self.block) - copy.blocks)
        cache.share_prompt(copy, copy.prompt)
        copy.computed = copy.prompt
        return start

    def let_go(self, p: int, rank: int, request: Request) -> None:
        super().let_go(p, rank, request)
        if self.caching:
            self.caches[p][rank].release(self.copies[request.index])
            self.caches[p][rank].cached_blocks()  # used + cached + free = total


def homes_of(sent) -> list[int]:
    """Return at which turn each request's session was dealt; whoever is in none is one by itself."""
    names = range(len(sent)) if sent.session is None else sent.session.tolist()
    seen: dict[object, int] = {}
    keys = [name if sent.session is not None and name >= 0 else ("alone", i) for i, name in enumerate(names)]
    return [seen.setdefault(key, len(seen)) for key in keys]
