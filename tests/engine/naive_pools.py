"""Two pools in plain Python, one event after another: the oracle of the compiled `advance_pools`.

Every decode worker is the plain twin's `Engine`. Time goes on by the earliest thing that can happen; nothing
runs ahead. Read `Pools.step`: it is the rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.engine.naive import Engine, Request, Work, pairs, requests_of, step_s, window_pairs
from tests.engine.naive_admission import blocks_for


@dataclass(eq=False)
class Sender:
    """A prefill worker: when it is free, what it holds, and what is on its link."""

    free_s: float = 0.0
    link_free_s: float = 0.0
    held: list[Request] = field(default_factory=list)
    on_link: list[tuple[float, Request]] = field(default_factory=list)


@dataclass(eq=False)
class Stage:
    """When a request passed which stage."""

    prefill_start_s: float = math.nan
    prefill_end_s: float = math.nan
    transfer_end_s: float = math.nan
    joined_s: float = math.nan
    sender: int = 0
    receiver: int = 0


class Pools:
    """Both pools and the clients in front of them."""

    def __init__(
        self, prefill_cost, cost, transfer, arrival_s, prompts, outputs, *, prefill_workers, decode_workers,
        max_running, prefill_max_running, token_budget, kv_blocks, prefill_kv_blocks, kv_block_tokens,
        preemption="recompute", admission="full_prompt", max_output_tokens=0, concurrency=0, turnaround_s=0.0,
        hit_frac=0.0, draft_slots=0, clock_tokens=None,
    ):  # fmt: skip
        self.requests = requests_of(arrival_s, prompts, outputs, clock_tokens)
        self.sent_s = list(arrival_s)
        self.stages = [Stage() for _ in self.requests]
        self.prefill_cost, self.transfer, self.block = prefill_cost, transfer, kv_block_tokens
        self.budget, self.most, self.room = token_budget, prefill_max_running, prefill_kv_blocks
        self.turnaround_s, self.hit_frac = turnaround_s, hit_frac
        self.senders = [Sender() for _ in range(prefill_workers)]
        rules = {
            "policy": "chunked", "max_running": max_running, "token_budget": token_budget,
            "kv_blocks": kv_blocks, "kv_block_tokens": kv_block_tokens, "preemption": preemption,
            "admission": admission, "max_output_tokens": max_output_tokens,
            "draft_slots": draft_slots, "warm": 0, "last": len(self.requests),
        }  # fmt: skip
        self.engines = [Engine(cost, **rules) for _ in range(decode_workers)]
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
        again_s = min(self.returns, default=math.inf) if self.unsent else math.inf
        coming = [(s.on_link[0][0], p) for p, s in enumerate(self.senders) if s.on_link]
        arriving = min(coming, default=(math.inf, -1))
        start_s, sender = self.next_start()
        engine = min(self.engines, key=Engine.next_start_s)
        happening = min(again_s, arriving[0], start_s)
        if engine.next_start_s() < happening:
            self.now_s = max(self.now_s, engine.next_start_s())
            engine.step()
            self.note_joined()
            self.note_done()
            return True
        if happening == math.inf:
            return False
        self.now_s = max(self.now_s, happening)
        if again_s == happening:
            self.send_again(again_s)
        elif arriving[0] == happening:
            self.hand_over(arriving[1])
        else:
            self.prefill(sender)
        return True

    def send_again(self, time_s: float) -> None:
        self.returns.remove(time_s)
        request = self.unsent.pop(0)
        request.arrival_s = self.sent_s[request.index] = time_s
        self.queue.append(request)

    def hand_over(self, sender: int) -> None:
        """Give the prompt that has arrived to the decode worker with the fewest unfinished requests."""
        time_s, request = self.senders[sender].on_link.pop(0)
        loads = [engine.unfinished for engine in self.engines]
        receiver = loads.index(min(loads))
        self.stages[request.index].receiver = receiver
        request.arrival_s = time_s
        request.joined_s = math.nan
        self.engines[receiver].submit(request)

    def next_start(self) -> tuple[float, int]:
        """Return when the next prefill step can start as things stand, and on which worker."""
        if not self.queue:
            return math.inf, -1
        head = self.queue[0]
        time_s = max(self.now_s, head.arrival_s)
        for moment_s in (time_s, *sorted(s.free_s for s in self.senders if s.free_s > time_s)):
            for p, sender in enumerate(self.senders):
                if sender.free_s <= moment_s and self.has_room(p, head.prompt):
                    return moment_s, p
        return math.inf, -1  # only a decode step can make room

    def has_room(self, sender: int, prompt: int) -> bool:
        return self.held_blocks(sender) + blocks_for(prompt, self.block) <= self.room

    def held_blocks(self, sender: int) -> int:
        return sum(blocks_for(r.prompt, self.block) for r in self.senders[sender].held)

    def prefill(self, p: int) -> None:
        """One step of whole prompts, then each goes on the link in turn."""
        sender, work, batch = self.senders[p], Work(), []
        while self.queue and self.queue[0].arrival_s <= self.now_s:
            request = self.queue[0]
            start = int(self.hit_frac * (request.prompt - 1)) // self.block * self.block
            tokens = request.prompt - start
            full = work.prefill_tokens + tokens > self.budget or len(batch) >= self.most
            if (batch and full) or not self.has_room(p, request.prompt):
                break
            batch.append(self.queue.pop(0))
            sender.held.append(request)
            work.prefill_tokens += tokens
            work.prefill_pairs += pairs(start, request.prompt)
            work.window_pairs += window_pairs(start, request.prompt, self.prefill_cost.window_tokens)
        work.prompts = work.rows = len(batch)
        duration_s = step_s(self.prefill_cost, work)
        sender.free_s = self.now_s + duration_s
        for request in batch:
            self.send(p, request, duration_s)
        self.note_done()

    def send(self, p: int, request: Request, step_time_s: float) -> None:
        sender, stage = self.senders[p], self.stages[request.index]
        stage.sender, stage.prefill_start_s, stage.prefill_end_s = p, self.now_s, sender.free_s
        request.first_token_s = request.last_token_s = sender.free_s
        request.generated, request.computed, request.decoding = 1, request.prompt, True
        if request.rest == 0:
            request.finished_s = sender.free_s
            sender.held.remove(request)
            return
        rest_s = self.transfer.token_s * request.prompt
        if self.transfer.overlap:
            layers = self.transfer.layers
            rest_s = max(rest_s / layers, rest_s - step_time_s * (layers - 1) / layers)
        end_s = max(sender.free_s, sender.link_free_s) + self.transfer.latency_s + rest_s
        sender.link_free_s = stage.transfer_end_s = end_s
        sender.on_link.append((end_s, request))

    def note_joined(self) -> None:
        """Senders give back the memory of what a decode worker has taken into a step."""
        for sender in self.senders:
            for request in list(sender.held):
                stage = self.stages[request.index]
                if (
                    request.generated > 1
                    or request.preemptions
                    or any(request in e.running for e in self.engines)
                ):
                    stage.joined_s = request.joined_s
                    sender.held.remove(request)

    def note_done(self) -> None:
        for request in self.requests:
            if request.index not in self.seen_done and not math.isnan(request.finished_s):
                self.seen_done.add(request.index)
                self.returns.append(request.finished_s + self.turnaround_s)
