"""Ranks in lockstep in plain Python, one step after another: the oracle of the compiled groups.

Each rank is an engine of `naive.py` or `naive_cache.py` that plans and hands out tokens by itself; what they
share is the clock. All is asked anew in every step: who has a prompt, whose attention takes longest, how long
each would have taken alone.
"""

from __future__ import annotations

import math
from collections import deque

from tests.engine.naive import Engine, NaiveResult, Request, Totals, Work, requests_of, result_of, step_s
from tests.engine.naive_cache import CachingEngine, Texts, link_turns


def attention_s(cost, work: Work) -> float:
    """Return what contexts and pairs take [s]."""
    return (
        cost.decode_context_s * work.context_tokens
        + cost.window_context_s * work.window_tokens
        + cost.prefill_pair_s * work.prefill_pairs
        + cost.window_pair_s * work.window_pairs
    )


def shared_s(cost, tokens: int) -> float:
    """Return what the tokens of all ranks take together [s]."""
    last = len(cost.group_s) - 1
    return cost.group_s[min(tokens, last)] + cost.group_slope_s * max(tokens - last, 0)


def most(works: list[Work], cost) -> Work:
    """Return the step that all wait for: of each count the most, of attention the rank that takes longest."""
    longest = max((work for work in works if work.shares), key=lambda work: attention_s(cost, work))
    return Work(
        prefill_tokens=max(work.tokens for work in works),
        rows=max(work.rows for work in works),
        prompts=max(work.prompts for work in works),
        swapped_tokens=max(work.swapped_tokens for work in works),
        context_tokens=longest.context_tokens,
        window_tokens=longest.window_tokens,
        prefill_pairs=longest.prefill_pairs,
        window_pairs=longest.window_pairs,
        sent_tokens=sum(work.sent_tokens for work in works),
        reused_tokens=sum(work.reused_tokens for work in works),
        loaded_tokens=sum(work.loaded_tokens for work in works),
    )


class Group:
    """Ranks with one clock."""

    def __init__(self, ranks: list[Engine], wait_steps: int, counted: range):
        self.ranks, self.wait_steps, self.counted = ranks, wait_steps, counted
        self.cost = ranks[0].cost
        self.waited = self.sent = 0
        self.lockstep_s: list[float] = [0.0, 0.0]  # of all steps, and of those that count
        self.group_tokens: list[list[int]] = [[], []]
        self.totals = [Totals([0] * len(self.cost.token_s), [0] * len(self.cost.row_s)) for _ in range(2)]
        for rank in ranks:
            rank.counting = self.counting

    @property
    def unfinished(self) -> int:
        return sum(rank.unfinished for rank in self.ranks)

    def measuring(self) -> list[int]:
        newest = max(rank.newest for rank in self.ranks)
        return [0, 1] if newest in self.counted else [0]

    def counting(self) -> list[Totals]:
        return [self.totals[place] for place in self.measuring()]

    def next_start_s(self) -> float:
        return min(rank.next_start_s() for rank in self.ranks)

    def busy(self) -> list[Engine]:
        return [rank for rank in self.ranks if rank.running or rank.head()]

    def step(self) -> None:
        """One step of all ranks."""
        start_s = self.next_start_s()
        if not self.busy():
            for rank in self.ranks:
                rank.share.reset()
        for totals in self.counting():
            totals.elapsed_s += start_s - self.ranks[0].clock_s
        for rank in self.ranks:
            rank.clock_s = start_s
        works = self.plan()
        everybody = most(works, self.cost)
        own_s = step_s(self.cost, everybody)
        tokens = sum(work.tokens for work in works)
        duration_s = own_s + shared_s(self.cost, tokens)
        running = sum(len(rank.running) for rank in self.ranks)
        for place in self.measuring():
            self.totals[place].add(everybody, duration_s, running, 0)
            self.group_tokens[place].append(tokens)
            for work in works:
                self.lockstep_s[place] += own_s - (step_s(self.cost, work) if work.shares else 0.0)
        for rank, work in zip(self.ranks, works, strict=True):
            if work.shares:
                rank.note(work, duration_s)
        for rank, work in zip(self.ranks, works, strict=True):
            rank.carry_out(work, duration_s)

    def plan(self) -> list[Work]:
        """Let each rank plan; under `prefill_first` with drafts, decodes wait for the prompts of others."""
        busy = self.busy()
        barred = self.wait_steps > 0 and self.has_to_wait()
        for rank in self.ranks:
            rank.barred = barred
        apart = self.ranks[0].policy == "prefill_first" and self.ranks[0].draft_slots > 0
        prefilling = [rank for rank in busy if not barred and has_prompt(rank)] if apart else []
        return [rank.plan() if rank in (prefilling or busy) else Work() for rank in self.ranks]

    def has_to_wait(self) -> bool:
        """Return whether prompts wait in this step for those of other ranks."""
        for rank in self.ranks:
            rank.barred = False
        decoding = all(any(request.decoding for request in rank.running) for rank in self.ranks)
        if not decoding or all(has_prompt(rank) for rank in self.ranks):
            self.waited = 0
            return False
        self.waited += 1
        if self.waited < self.wait_steps:
            return True
        self.waited = 0
        return False


def has_prompt(rank: Engine) -> bool:
    """Return whether a rank goes on with a prompt, or one is next in its queue that can join its decodes."""
    if any(not request.decoding for request in rank.running):
        return True
    request = rank.head()
    if request is None or request.decoding:
        return False
    if rank.policy == "prefill_first":
        return rank.can_admit(request, request.target - request.computed - request.found, Work())
    drafts, advance, _ = rank.pace()
    more = rank.passes(advance)
    taken = sum(rank.blocks_for(one.computed + more) - one.blocks for one in rank.running)
    tokens = request.share(rank.token_budget - len(rank.running) * (1 + drafts), rank.long_prompt)
    if tokens <= 0 or taken > rank.free_blocks:
        return False
    rank.free_blocks -= taken
    fits = rank.can_admit(request, tokens, Work())
    rank.free_blocks += taken
    return fits


def simulate_naive_ranks(
    cost, sent, *, ranks, replicas=1, router="least_loaded", wait_steps=0, concurrency=0, warm=0,
    caching=False, **rules
) -> tuple[NaiveResult, list[Group]]:  # fmt: skip
    """Return the run of groups of ranks behind a router, and the groups."""
    columns = (sent.arrival_s, sent.prompt_tokens, sent.output_tokens)
    requests = requests_of(*(column.tolist() for column in columns), sent.clock_tokens)
    rules = {**rules, "warm": warm, "last": len(requests) - 1}
    own = {"texts": Texts(sent), "names": {}} if caching else {}
    kind = CachingEngine if caching else Engine
    engines = [kind(cost, **own, **rules) for _ in range(ranks * replicas)]
    counted = range(warm, len(requests) - 1)
    groups = [Group(engines[k * ranks : (k + 1) * ranks], wait_steps, counted) for k in range(replicas)]
    first = list(link_turns(requests, sent))
    later = deque(first[concurrency:] if concurrency else [])
    first = first[:concurrency] if concurrency else first
    for engine in engines:
        engine.unreleased, engine.send = later, first.append
    fixed = sessions_in_turn(sent) if router == "session" else None
    rank = route(first, groups, router, len(requests), fixed)
    assert all(engine.free_blocks == engine.kv_blocks for engine in engines), "blocks are lost"
    return result_of(requests, engines, rank), groups


def sessions_in_turn(sent) -> list[int]:
    """Return the turn at which each request's session is dealt."""
    turns: dict[object, int] = {}
    names = range(len(sent)) if sent.session is None else sent.session.tolist()
    own = [("alone", i) if name < 0 else name for i, name in enumerate(names)]
    return [turns.setdefault(name, len(turns)) for name in own]


def route(
    coming: list[Request], groups: list[Group], router: str, count: int, fixed: list[int] | None
) -> list[int]:
    """Send each request as it comes, after all steps that start before; return the rank of each."""
    rank, number = [0] * count, 0
    while True:
        coming.sort(key=lambda one: (one.arrival_s, one.index))
        event_s = coming[0].arrival_s if coming else math.inf
        behind = min(groups, key=lambda group: group.next_start_s())
        if behind.next_start_s() < event_s:
            behind.step()
            continue
        if not coming:
            return rank
        request = coming.pop(0)
        k = chosen([group.unfinished for group in groups], router, number)
        group = groups[k]
        r = chosen([one.unfinished for one in group.ranks], router, group.sent)
        if fixed:
            r = fixed[request.index] % len(group.ranks)
        group.ranks[r].submit(request)
        rank[request.index] = k * len(group.ranks) + r
        group.sent += 1
        number += 1


def chosen(loads: list[int], router: str, number: int) -> int:
    """Return the place to send a request to: in turn, or with the fewest unfinished requests."""
    return loads.index(min(loads)) if router == "least_loaded" else number % len(loads)
