"""Two pools in plain Python, one event after another: the oracle of the compiled `advance_pools`.

Every decode worker is the plain twin's `Engine`. Time goes on by the earliest thing that can happen; nothing
runs ahead. Read `Pools.step`: it is the rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.engine.naive import Engine, Request, Work, pairs, requests_of, step_s, window_pairs
from tests.engine.naive_admission import blocks_for
from tests.engine.naive_ranks import Group, most, shared_s


@dataclass(eq=False)
class Sender:
    """A prefill worker: when it is free, and of each of its ranks what it holds, and what is on its link."""

    ranks: int
    free_s: float = 0.0
    back_s: float = 0.0  # when its last step has left the last of its stages
    held: list[list[Request]] = field(init=False)
    link_free_s: list[float] = field(init=False)
    on_link: list[list[tuple[float, Request]]] = field(init=False)

    def __post_init__(self):
        self.link_free_s = [0.0] * self.ranks
        self.held, self.on_link = ([[] for _ in range(self.ranks)] for _ in range(2))

    def holds(self) -> list[Request]:
        return [request for held in self.held for request in held]


@dataclass(eq=False)
class Stage:
    """When a request passed which stage."""

    prefill_start_s: float = math.nan
    prefill_end_s: float = math.nan
    transfer_end_s: float = math.nan
    joined_s: float = math.nan
    sender: int = 0
    rank: int = 0  # of the sender
    receiver: int = 0
    engine: int = 0  # of all ranks of the receivers


class Pools:
    """Both pools and the clients in front of them."""

    def __init__(
        self, prefill_cost, cost, transfer, arrival_s, prompts, outputs, *, prefill_workers, decode_workers,
        max_running, prefill_max_running, token_budget, kv_blocks, prefill_kv_blocks, kv_block_tokens,
        preemption="recompute", admission="full_prompt", max_output_tokens=0, concurrency=0, turnaround_s=0.0,
        hit_frac=0.0, draft_slots=0, clock_tokens=None, ranks=1, prefill_ranks=1, prefill_stages=1,
    ):  # fmt: skip
        self.requests = requests_of(arrival_s, prompts, outputs, clock_tokens)
        self.sent_s = list(arrival_s)
        self.stages = [Stage() for _ in self.requests]
        self.prefill_cost, self.transfer, self.block = prefill_cost, transfer, kv_block_tokens
        self.budget, self.most, self.room = token_budget, prefill_max_running, prefill_kv_blocks
        self.turnaround_s, self.hit_frac = turnaround_s, hit_frac
        self.prefill_stages = prefill_stages
        self.senders = [Sender(prefill_ranks) for _ in range(prefill_workers)]
        rules = {
            "policy": "chunked", "max_running": max_running, "token_budget": token_budget,
            "kv_blocks": kv_blocks, "kv_block_tokens": kv_block_tokens, "preemption": preemption,
            "admission": admission, "max_output_tokens": max_output_tokens,
            "draft_slots": draft_slots, "warm": 0, "last": len(self.requests),
        }  # fmt: skip
        self.engines = [Engine(cost, **rules) for _ in range(decode_workers * ranks)]
        self.workers = self.engines
        if ranks > 1:
            groups = [self.engines[d * ranks : (d + 1) * ranks] for d in range(decode_workers)]
            self.workers = [Group(group, 0, range(len(self.requests))) for group in groups]
        first = concurrency or len(self.requests)
        self.queue = self.requests[:first]
        self.unsent = self.requests[first:]
        self.returns: list[float] = []  # when clients send again
        self.seen_done: set[int] = set()
        self.now_s = 0.0

    def run(self) -> Pools:
        while self.step():
            pass
        return self

    def step(self) -> bool:
        """Let the earliest thing happen; at one moment first a client, then the network, then a worker."""
        again_s = self.next_again_s()
        arriving = min(self.coming(), default=(math.inf, -1, -1))
        start_s, sender = self.next_start()
        worker = min(self.workers, key=lambda worker: worker.next_start_s())
        happening = min(again_s, arriving[0], start_s)
        if worker.next_start_s() < happening:
            self.now_s = max(self.now_s, worker.next_start_s())
            worker.step()
            self.note_joined()
            self.note_done()
            return True
        if happening == math.inf:
            return False
        self.now_s = max(self.now_s, happening)
        if again_s == happening:
            self.send_again(again_s)
        elif arriving[0] == happening:
            self.hand_over(*arriving[1:])
        else:
            self.prefill(sender)
        return True

    def coming(self) -> list[tuple[float, int, int]]:
        """Return when the first prompt on each link arrives, and the worker and rank whose link it is."""
        links = ((p, rank, sent) for p, s in enumerate(self.senders) for rank, sent in enumerate(s.on_link))
        return [(sent[0][0], p, rank) for p, rank, sent in links if sent]

    def next_again_s(self) -> float:
        """Return when a client sends its next request."""
        return min(self.returns, default=math.inf) if self.unsent else math.inf

    def send_again(self, time_s: float) -> None:
        self.returns.remove(time_s)
        request = self.unsent.pop(0)
        request.arrival_s = self.sent_s[request.index] = time_s
        self.queue.append(request)

    def hand_over(self, sender: int, rank: int) -> None:
        """Give the prompt that has arrived to the decode worker with the fewest unfinished requests, and
        there to the rank with the fewest.
        """
        time_s, request = self.senders[sender].on_link[rank].pop(0)
        receiver = min(self.opened(), key=lambda worker: self.workers[worker].unfinished)
        self.stages[request.index].receiver = receiver
        request.arrival_s = time_s
        request.joined_s = math.nan
        rank = min(self.ranks_of(receiver), key=lambda rank: rank.unfinished)
        self.stages[request.index].engine = self.engines.index(rank)
        rank.submit(request)

    def opened(self) -> list[int]:
        """Return the decode workers that take requests."""
        return list(range(len(self.workers)))

    def ranks_of(self, worker: int) -> list[Engine]:
        """Return the ranks of a decode worker, or the engine that it is."""
        found = self.workers[worker]
        return found.ranks if isinstance(found, Group) else [found]

    def next_start(self) -> tuple[float, int]:
        """Return when the next prefill step can start as things stand, and on which worker."""
        best_s, best = math.inf, -1
        for p, sender in enumerate(self.senders):
            queue = self.queue_of(p)
            if not queue or not any(self.has_room(p, rank, queue[0]) for rank in range(len(sender.held))):
                continue  # only a decode step can make room
            start_s = max(self.now_s, queue[0].arrival_s, sender.free_s)
            if start_s < best_s:
                best_s, best = start_s, p
        return best_s, best

    def queue_of(self, p: int) -> list[Request]:
        """Return the queue from which a worker takes prompts."""
        return self.queue

    def has_room(self, p: int, rank: int, request: Request) -> bool:
        return blocks_for(request.prompt, self.block) <= self.free(p, rank)

    def free(self, p: int, rank: int) -> int:
        """Return the blocks that a worker's rank has free."""
        return self.room - sum(blocks_for(r.prompt, self.block) for r in self.senders[p].held[rank])

    def start_of(self, p: int, rank: int, request: Request) -> int:
        """Return the tokens of a prompt that need not be computed."""
        return int(self.hit_frac * (request.prompt - 1)) // self.block * self.block

    def take_in(self, p: int, rank: int, request: Request, work: Work) -> int:
        """Let a rank hold a prompt; return the tokens of it that need not be computed."""
        self.senders[p].held[rank].append(request)
        return self.start_of(p, rank, request)

    def let_go(self, p: int, rank: int, request: Request) -> None:
        """Give the memory of a prompt back."""
        self.senders[p].held[rank].remove(request)

    def rank_for(self, p: int, works: list[Work], request: Request) -> int | None:
        """Return the rank with the fewest tokens in this step, then the most free blocks, that has room."""

        def may(rank: int) -> bool:
            work, tokens = works[rank], request.prompt - self.start_of(p, rank, request)
            fits = work.prefill_tokens + tokens <= self.budget and work.prompts < self.most
            return self.has_room(p, rank, request) and (work.prompts == 0 or fits)

        ranks = [rank for rank in range(len(works)) if may(rank)]
        return min(ranks, key=lambda r: (works[r].prefill_tokens, -self.free(p, r)), default=None)

    def prefill(self, p: int) -> None:
        """One step of whole prompts, each on one of the ranks, then each goes on the link in turn."""
        sender, queue, batch = self.senders[p], self.queue_of(p), []
        works = [Work() for _ in sender.held]
        while queue and queue[0].arrival_s <= self.now_s:
            request = queue[0]
            rank = self.rank_for(p, works, request)
            if rank is None:
                break
            batch.append(queue.pop(0))
            work = works[rank]
            start = self.take_in(p, rank, request, work)
            self.stages[request.index].rank = rank
            work.prefill_tokens += request.prompt - start
            work.prefill_pairs += pairs(start, request.prompt)
            work.window_pairs += window_pairs(start, request.prompt, self.prefill_cost.window_tokens)
            work.prompts += 1
            work.rows += 1
            work.shares.append((request, request.prompt - start))
        everybody = step_s(self.prefill_cost, most(works, self.prefill_cost))
        duration_s = everybody + shared_s(self.prefill_cost, sum(work.tokens for work in works))
        sender.free_s = self.now_s + duration_s
        through_s = (self.prefill_stages - 1) * self.last_chunk_s(works, duration_s)
        sender.back_s = max(sender.free_s + through_s, sender.back_s + duration_s)
        for request in batch:
            self.send(p, request, sender.back_s - self.now_s)
        self.note_done()

    def last_chunk_s(self, works: list[Work], duration_s: float) -> float:
        """Return what a stage takes for the last chunk of a step; prompts above the budget come in chunks."""
        cost, work = self.prefill_cost, max(works, key=lambda work: work.tokens)
        if work.prefill_tokens <= self.budget:
            return duration_s - cost.end_s[work.rows]
        prompt = work.shares[0][0].prompt
        chunk = Work(prefill_tokens=self.budget, prompts=1, prefill_pairs=pairs(prompt - self.budget, prompt))
        chunk.rows = work.rows
        chunk.window_pairs = window_pairs(prompt - self.budget, prompt, cost.window_tokens)
        return step_s(cost, chunk) - cost.end_s[work.rows]

    def send(self, p: int, request: Request, step_time_s: float) -> None:
        sender, stage = self.senders[p], self.stages[request.index]
        stage.sender, stage.prefill_start_s, stage.prefill_end_s = p, self.now_s, sender.back_s
        request.first_token_s = request.last_token_s = sender.back_s
        request.generated, request.computed, request.decoding = 1, request.prompt, True
        if request.rest == 0:
            request.finished_s = sender.back_s
            self.let_go(p, stage.rank, request)
            return
        rest_s = self.transfer.token_s * request.prompt
        if self.transfer.overlap:
            layers = self.transfer.layers
            rest_s = max(rest_s / layers, rest_s - step_time_s * (layers - 1) / layers)
        end_s = max(sender.back_s, sender.link_free_s[stage.rank]) + self.transfer.latency_s + rest_s
        sender.link_free_s[stage.rank] = stage.transfer_end_s = end_s
        sender.on_link[stage.rank].append((end_s, request))

    def note_joined(self) -> None:
        """Senders give back the memory of what a decode worker has taken into a step, rank after rank."""
        held = [(p, request) for p, sender in enumerate(self.senders) for request in sender.holds()]
        for p, request in sorted(held, key=lambda one: self.stages[one[1].index].engine):
            stage = self.stages[request.index]
            if (
                request.generated > 1
                or request.preemptions
                or any(request in e.running for e in self.engines)
            ):
                stage.joined_s = request.joined_s
                self.let_go(p, stage.rank, request)

    def note_done(self) -> None:
        for request in self.requests:
            if request.index not in self.seen_done and not math.isnan(request.finished_s):
                self.seen_done.add(request.index)
                self.returns.append(request.finished_s + self.turnaround_s)
