"""An engine in stages, in plain Python: groups of requests whose batches follow one another through them.

A batch is planned when it starts on the first stage, by the rules of one engine, and hands its tokens out
when it leaves the last one. What a group may not do is left to the group that comes next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.engine.naive import (
    Engine,
    NaiveResult,
    Request,
    Work,
    deal_closed,
    requests_of,
    result_of,
    step_s,
)


@dataclass(eq=False)
class Batch:
    """A batch on its way: its work, whose prompt it completes, when it started and when it is back."""

    work: Work
    completes: set[int]
    start_s: float
    back_s: float
    newest: int


@dataclass(eq=False)
class Group:
    """Requests that are in one batch together, and that batch while it is on its way."""

    running: list[Request] = field(default_factory=list)
    batch: Batch | None = None
    back_s: float = 0  # when its last one came back
    waits: bool = False


class Staged(Engine):
    """One engine of several stages: a group for each, one queue, one memory."""

    def __init__(self, cost, *, stages, even=True, **rules):
        super().__init__(cost, **rules)
        self.batch_running = -(-self.max_running // stages) if even else self.max_running
        self.groups = [Group() for _ in range(stages)]
        self.free_s = [0.0] * stages
        self.last = -1  # the group that started last
        self.carried: list[tuple[int, int, int]] = []  # preempted where nobody was left to take part

    def everyone(self) -> list[Request]:
        return [request for group in self.groups for request in group.running]

    def can_admit(self, request: Request, tokens: int, work: Work) -> bool:
        full = len(self.everyone()) >= self.max_running or len(self.running) >= self.batch_running
        return not full and super().can_admit(request, tokens, work)

    def unfinished_prompt(self) -> tuple[Group, Request] | None:
        for group in self.groups:
            for request in group.running:
                if not request.decoding and request.computed < request.target:
                    return group, request
        return None

    def start_s(self, group: Group) -> float:
        """Return when a group could start its next batch as things stand."""
        if group.batch or group.waits:
            return math.inf
        soonest = max(self.free_s[0], group.back_s)
        if group.running or self.unfinished_prompt() or self.preempted:
            return soonest
        return max(soonest, self.arrivals[0].arrival_s) if self.arrivals else math.inf

    def run(self, until_s: float = math.inf) -> None:
        """Run to the end: batches come back and start in order of time."""
        while self.unfinished:
            turns = [*self.groups[self.last + 1 :], *self.groups[: self.last + 1]]
            starting = min(turns, key=self.start_s)
            away = [group for group in self.groups if group.batch]
            back = min(away, key=lambda group: group.batch.back_s, default=None)
            if back and back.batch.back_s <= self.start_s(starting):
                self.come_back(back)
            elif self.start_s(starting) < math.inf:
                self.start(starting)
            else:
                assert any(group.waits for group in self.groups), "nothing is left to do"
                self.let_all_try()

    def let_all_try(self) -> None:
        for group in self.groups:
            group.waits = False

    def start(self, group: Group) -> None:
        """Plan a group's next batch and send it through the stages."""
        self.clock_s = self.start_s(group)
        self.last, self.running = self.groups.index(group), group.running
        if not self.everyone():
            self.share.reset()
        if found := self.unfinished_prompt():
            found[0].running.remove(found[1])
            group.running.append(found[1])
        work = Work()
        self.schedule(self, work)
        self.share.after(self, work)
        if not work.shares:
            group.waits = True
            self.carried += work.preempted
            return
        work.preempted = self.carried + work.preempted
        self.carried = []
        completes = set()
        for request, tokens in work.shares:
            if not request.decoding:
                request.computed += tokens
                if request.computed == request.target:
                    completes.add(request.index)
        back_s = self.through(work)
        group.batch = Batch(work, completes, self.clock_s, back_s, self.newest)

    def through(self, work: Work) -> float:
        """Pass all stages and count the time of the last one; return when the batch leaves it."""
        whole_s, empty_since_s = step_s(self.cost, work), self.free_s[-1]
        *first, final = range(len(self.free_s))
        there_s = self.clock_s
        for stage in first:
            there_s = max(there_s, self.free_s[stage]) + whole_s - self.cost.end_s[work.rows]
            self.free_s[stage] = there_s
        begun_s = max(there_s, self.free_s[final])
        self.free_s[final] = begun_s + whole_s
        empty_s = max(self.clock_s - empty_since_s, 0.0)
        bubble_s = begun_s - empty_since_s - min(empty_s, begun_s - empty_since_s)
        self.note(work, self.free_s[final] - self.clock_s)
        for totals in self.counting():
            totals.add(work, whole_s, len(self.everyone()), self.kv_blocks - self.free_blocks)
            totals.elapsed_s += begun_s - empty_since_s
            totals.bubble_s += bubble_s
            totals.running_s += bubble_s * len(self.everyone())
            totals.kv_used_s += bubble_s * (self.kv_blocks - self.free_blocks)
        return self.free_s[final]

    def come_back(self, group: Group) -> None:
        """Hand out the tokens of a batch that has left the last stage."""
        batch, group.batch, self.running = group.batch, None, group.running
        self.clock_s = group.back_s = batch.back_s
        newest, self.newest = self.newest, batch.newest  # whether it counts was known when it was planned
        work = batch.work
        for request, tokens in sorted(work.shares, key=lambda share: self.ends(share[0], work)):
            decoded = request.decoding and request not in work.joined
            if request.decoding:
                request.computed += tokens
                self.emit(request, tokens if decoded else 1)
            elif request.index in batch.completes:
                self.emit(request, 1)
        group.running.sort(key=lambda request: not request.decoding)
        self.newest = newest
        self.let_all_try()


def simulate_naive_staged(
    cost, arrival_s, prompt_tokens, output_tokens, *, stages, even=True, concurrency=0, warm=0, **rules
) -> NaiveResult:
    """Return the run of one engine of several stages; the other rules are those of one engine."""
    requests = requests_of(arrival_s, prompt_tokens, output_tokens)
    engine = Staged(cost, stages=stages, even=even, warm=warm, last=len(requests) - 1, **rules)
    if concurrency:
        deal_closed(requests, [engine], concurrency)
    else:
        for request in requests:
            engine.submit(request)
    engine.run()
    return result_of(requests, [engine], [0] * len(requests))
