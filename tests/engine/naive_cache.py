"""A prefix cache in plain Python, block by block: the oracle of the compiled one.

Every KV block is a number. Its content is the chain of all tokens up to its end; blocks are counted by the
requests that use them, and those that nobody uses lie in one queue, from which whoever needs a block takes
the first: those without content, then those that were let go of first. A request lets go of its blocks tail
first. Where drafts are verified, an answer has as many tokens as the clock counts, and some to spare.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from itertools import count

from sim_core.traffic.requests import turns_before
from tests.engine.naive import Engine, NaiveResult, Request, requests_of, result_of


class Texts:
    """The tokens of all requests, prompt and answer, as numbers."""

    def __init__(self, sent):
        fresh = count()
        system = [next(fresh) for _ in range(sent.system_tokens)]
        told: dict[tuple[int, ...], list[int]] = {}
        last: dict[int, list[int]] = {}
        self.tokens: list[list[int]] = []
        for i in range(len(sent)):
            prompt, output = int(sent.prompt_tokens[i]), int(sent.output_tokens[i])
            text = list(system)
            if sent.blocks is not None:
                text = []
                offsets, ids, size = sent.blocks
                path = ids[offsets[i] : offsets[i + 1]].tolist()
                for end in range(1, len(path) + 1):
                    piece = [next(fresh) for _ in range(size)]
                    text = text + told.setdefault(tuple(path[:end]), piece)
            elif sent.session is not None and sent.session[i] in last:
                known = max(min(int(sent.known_tokens[i]), prompt - 1), sent.system_tokens)
                text = last[sent.session[i]][:known]
            text = text[:prompt]
            spare = 0 if sent.clock_tokens is None else 20 + 2 * int(sent.clock_tokens[i])
            text = text + [next(fresh) for _ in range(prompt + output + spare - len(text))]
            if sent.session is not None and sent.session[i] >= 0:
                last[sent.session[i]] = text
            self.tokens.append(text)


class Cache:
    """The blocks of one engine: which are free, what is in them, and what host memory keeps."""

    def __init__(self, blocks: int, host_blocks: int):
        self.total = blocks
        self.untouched = blocks
        self.empty: list[int] = []  # without content
        self.idle: OrderedDict[int, None] = (
            OrderedDict()
        )  # with content, used by nobody; first let go of first
        self.content: dict[int, tuple] = {}
        self.found: dict[tuple, int] = {}
        self.users: Counter[int] = Counter()
        self.host: OrderedDict[tuple, None] = OrderedDict()
        self.host_blocks = host_blocks
        self.evicted = 0

    def free(self) -> int:
        return self.untouched + len(self.empty) + len(self.idle)

    def take_free(self) -> int:
        """Take the first free block; content that it had goes to the host."""
        if self.empty:
            block = self.empty.pop()
        elif self.untouched:
            self.untouched -= 1
            block = self.total - self.untouched - 1
        else:
            block, _ = self.idle.popitem(last=False)
            key = self.content.pop(block)
            del self.found[key]
            self.evicted += 1
            if self.host_blocks:
                self.host[key] = None
                if len(self.host) > self.host_blocks:
                    self.host.popitem(last=False)
        self.users[block] = 1
        return block

    def use(self, block: int) -> None:
        self.idle.pop(block, None)
        self.users[block] += 1

    def forget(self, block: int) -> None:
        """Lose the content of a block that only its user knows of."""
        if block in self.content and self.users[block] == 1:
            del self.found[self.content.pop(block)]

    def let_go(self, block: int) -> None:
        self.users[block] -= 1
        if self.users[block]:
            return
        if block in self.content:
            self.idle[block] = None
        else:
            self.empty.append(block)

    def fill(self, block: int, key: tuple) -> int:
        """Give a full block its content, or take the one that has it; return the one to use."""
        if key in self.found:
            there = self.found[key]
            if there != block:
                self.use(there)
                self.let_go(block)
            return there
        self.host.pop(key, None)
        self.content[block], self.found[key] = key, block
        return block


class CachingEngine(Engine):
    """An engine whose requests leave their blocks to those that begin alike."""

    def __init__(self, cost, *, texts, names, **rules):
        super().__init__(cost, **rules)
        self.cache = Cache(self.kv_blocks, rules.get("host_blocks", 0))
        self.last_lost = rules.get("last_lost", False)
        self.texts, self.names = texts, names
        self.tables: dict[int, list[int]] = {}
        self.own: set[int] = set()  # requests with copies that came back from the host
        self.chains: dict[int, list[tuple]] = {}

    def keys(self, request: Request) -> list[int]:
        """Return the content of each full block of a request's text; a chain of tokens is named once."""
        if request.index not in self.chains:
            tokens, chain, before = self.texts.tokens[request.index], [], -1
            for start in range(0, len(tokens) - self.block + 1, self.block):
                key = (before, *tokens[start : start + self.block])
                before = self.names.setdefault(key, len(self.names))
                chain.append(before)
            self.chains[request.index] = chain
        return self.chains[request.index]

    def find(self, request: Request) -> None:
        request.shared = request.found = request.on_host = 0
        if request.computed:
            return
        keys = self.keys(request)[: (request.target - 1) // self.block]
        here = 0
        while here < len(keys) and keys[here] in self.cache.found:
            request.shared += self.cache.users[self.cache.found[keys[here]]] > 0
            here += 1
        there = here
        while there < len(keys) and keys[there] in self.cache.host:
            there += 1
        request.dropped = min(there, int(self.last_lost))
        on_host = max(there - here - request.dropped, 0)
        request.on_host = on_host * self.block
        request.found = (there - request.dropped) * self.block
        request.copied = there - here

    def take_found(self, request: Request, work) -> None:
        if request.swapped or request.computed:  # its copy in host memory becomes its own
            self.tables[request.index] = []
            self.own.add(request.index)
            return
        self.count_found(request, work)
        keys = self.keys(request)[: request.found // self.block + request.dropped]
        split = len(keys) - request.copied
        table = [self.cache.found[key] for key in keys[:split]]
        for block in table:
            self.cache.use(block)
        for key in keys[split:]:
            del self.cache.host[key]
        for key in keys[split:]:
            table.append(self.cache.fill(self.cache.take_free(), key))
        self.tables[request.index] = table
        request.blocks, request.computed = len(table), request.found
        self.free_blocks = self.cache.free()
        request.found = request.shared = 0

    def hold(self, request: Request, needed: int) -> None:
        table = self.tables[request.index]
        table.extend(self.cache.take_free() for _ in range(needed))
        super().hold(request, needed)

    def share_prompt(self, request: Request, end: int) -> None:
        self.fill(request, end)

    def fill(self, request: Request, end: int) -> None:
        """Let others use the full blocks of a request of `end` tokens."""
        if request.index in self.own:
            return
        table = self.tables[request.index]
        for k, key in enumerate(self.keys(request)[: end // self.block]):
            table[k] = self.cache.fill(table[k], key)
        self.free_blocks = self.cache.free()

    def release(self, request: Request) -> None:
        self.fill(request, request.computed)
        table = self.tables.pop(request.index)
        for block in table[request.computed // self.block :]:
            self.cache.forget(block)  # what it was still computing anew
        for block in reversed(table):
            self.cache.let_go(block)
        request.blocks = 0
        self.free_blocks = self.cache.free()

    def cached_blocks(self) -> int:
        assert self.free_blocks == self.cache.free()
        used = len(set().union(*self.tables.values())) if self.tables else 0
        assert used + self.cache.free() == self.kv_blocks
        return len(self.cache.idle)


def simulate_naive_sent(
    cost, sent, *, concurrency=0, warm=0, caching=True, replicas=1, router="least_loaded", **rules
) -> NaiveResult:
    """Return the run of requests with sessions or chains, with a prefix cache or without."""
    columns = (sent.arrival_s, sent.prompt_tokens, sent.output_tokens)
    requests = requests_of(*(column.tolist() for column in columns), sent.clock_tokens)
    rules = {**rules, "warm": warm, "last": len(requests) - 1}
    own = {"texts": Texts(sent), "names": {}} if caching else {}
    engines = [(CachingEngine if caching else Engine)(cost, **own, **rules) for _ in range(replicas)]
    first = link_turns(requests, sent)
    later = deque(first[concurrency:] if concurrency else [])
    first = first[:concurrency] if concurrency else first
    for engine in engines:
        engine.sessions, engine.unreleased = sent.session is not None, later
    if replicas == 1:
        for request in first:
            engines[0].submit(request)
        engines[0].run()
        replica = [0] * len(requests)
    else:
        replica = route(first, engines, router, len(requests))
    if caching:
        assert all(engine.cache.free() == engine.kv_blocks for engine in engines)
    return result_of(requests, engines, replica)


def route(coming: list[Request], engines: list[Engine], router: str, count: int) -> list[int]:
    """Send each request as it comes, after all steps that start before; return the replica of each."""
    replica, sent = [0] * count, 0
    for engine in engines:
        engine.send = coming.append
    while True:
        coming.sort(key=lambda one: (one.arrival_s, one.index))
        event_s = coming[0].arrival_s if coming else math.inf
        behind = min(engines, key=lambda engine: engine.next_start_s())
        if behind.next_start_s() < event_s:
            behind.step()
        elif coming:
            request = coming.pop(0)
            loads = [engine.unfinished for engine in engines]
            chosen = sent % len(engines) if router == "round_robin" else loads.index(min(loads))
            replica[request.index] = chosen
            engines[chosen].submit(request)
            sent += 1
        else:
            return replica


def link_turns(requests: list[Request], sent) -> list[Request]:
    """Let turns follow one another; return those that do not wait for others."""
    if sent.session is None:
        return requests
    first = []
    for request, before in zip(requests, turns_before(sent.session).tolist(), strict=True):
        request.follows_s = float(sent.follows_s[request.index])
        if before >= 0 and request.follows_s == request.follows_s:
            requests[before].sequel = request
        else:
            first.append(request)
    return first
