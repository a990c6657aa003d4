"""The scheduler in plain Python, one step after another: the oracle of the compiled simulator.

Nothing here is clever: every running request is visited in every step, every gap between two tokens is
kept, every sum is summed. Read `Engine` and the three `schedule_*` functions; they are the rules.

Decodes make tokens together: a clock that they share goes on by the mean number a step (of 2.5: two, then
three), and each makes as many as it passes. How far it has to go on for an answer is given.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from tests.engine.naive_admission import ADMISSIONS, Share, blocks_for

TOKEN = 2**20  # parts of a token in which the clock counts


@dataclass(eq=False)
class Request:
    """One request and how far it has come; a time that has not happened is nan."""

    index: int
    arrival_s: float
    prompt: int
    rest: int  # parts of a token that the clock goes on until it is done, from its first token on
    target: int = 0  # tokens to compute before the next output token: prompt, plus output so far if redone
    computed: int = 0  # tokens in the KV cache
    generated: int = 0
    blocks: int = 0
    decoding: bool = False
    swapped: bool = False
    first_token_s: float = math.nan
    last_token_s: float = math.nan
    finished_s: float = math.nan
    preemptions: int = 0
    itl_max_s: float = 0
    joined_s: float = math.nan  # last admission to an engine
    follows_s: float = math.nan  # after the end of the one before; nan if it is sent at `arrival_s`
    sequel: Request | None = None  # the next turn of its session
    found: int = 0  # tokens that a prefix cache has, as looked up last, some of them in host memory
    on_host: int = 0
    shared: int = 0  # blocks of these that others use
    dropped: int = 0  # blocks that it finds and computes anew, in their place
    copied: int = 0  # blocks that come from host memory, with such a one
    reused_tokens: int = 0  # found when it first joined
    loaded_tokens: int = 0

    def __post_init__(self):
        self.target = self.prompt
        self.output = self.left()

    def left(self) -> int:
        """Return the tokens it has still to make: one for its prompt, and the rest, rounded up."""
        return (not self.generated) + -(-self.rest // TOKEN)

    def share(self, budget: int, most: float = math.inf) -> int:
        """Return the tokens this request takes in a step with `budget` tokens left, `most` of a prompt."""
        return 1 if self.decoding else min(self.target - self.computed - self.found, budget, most)


@dataclass
class Work:
    """What one step does: the sums that price it, and who takes part with how many tokens."""

    decodes: int = 0
    drafts: int = 0
    advance: int = 0  # parts of a token by which the clock goes on
    prefill_tokens: int = 0
    prompts: int = 0
    rows: int = 0
    context_tokens: float = 0
    window_tokens: float = 0
    prefill_pairs: float = 0
    window_pairs: float = 0
    swapped_tokens: int = 0
    sent_tokens: int = 0
    reused_tokens: int = 0
    loaded_tokens: int = 0
    shares: list[tuple[Request, int]] = field(default_factory=list)
    joined: list[Request] = field(default_factory=list)  # those in the step that do not decode yet
    chunks: list[tuple[int, int, int]] = field(default_factory=list)  # request, tokens before, tokens
    preempted: list[tuple[int, int, int]] = field(default_factory=list)  # request, tokens it held, 0
    returned: list[tuple[int, int, int]] = field(default_factory=list)  # request, tokens it holds, 0

    @property
    def tokens(self) -> int:
        return self.decodes + self.drafts + self.prefill_tokens


@dataclass
class Totals:
    """Counters over steps, as a run reports them."""

    steps_by_tokens: list[int]
    steps_by_rows: list[int]
    steps: int = 0
    busy_s: float = 0
    context_tokens: int = 0
    window_tokens: int = 0
    prefill_pairs: float = 0
    window_pairs: float = 0
    prefill_requests: int = 0
    prefill_steps: int = 0
    extra_tokens: int = 0
    swapped_tokens: int = 0
    sent_tokens: int = 0
    reused_tokens: int = 0
    loaded_tokens: int = 0
    elapsed_s: float = 0
    running_s: float = 0
    kv_used_s: float = 0
    bubble_s: float = 0
    gaps_s: list[float] = field(default_factory=list)  # between two tokens of one request, as they end

    def add(self, work: Work, duration_s: float, running: int, kv_blocks_used: int) -> None:
        last = len(self.steps_by_tokens) - 1
        self.elapsed_s += duration_s
        self.running_s += duration_s * running
        self.kv_used_s += duration_s * kv_blocks_used
        self.steps_by_tokens[min(work.tokens, last)] += 1
        self.steps_by_rows[work.rows] += 1
        self.steps += 1
        self.busy_s += duration_s
        self.context_tokens += work.context_tokens
        self.window_tokens += work.window_tokens
        self.prefill_pairs += work.prefill_pairs
        self.window_pairs += work.window_pairs
        self.prefill_requests += work.prompts
        self.prefill_steps += 1 if work.prompts else 0
        self.extra_tokens += max(work.tokens - last, 0)
        self.swapped_tokens += work.swapped_tokens
        self.sent_tokens += work.sent_tokens
        self.reused_tokens += work.reused_tokens
        self.loaded_tokens += work.loaded_tokens


@dataclass(frozen=True)
class Step:
    """One line of the step log."""

    start_s: float
    duration_s: float
    decodes: int
    drafts: int
    prefill_tokens: int
    prompts: int
    running: int
    waiting: int
    kv_blocks_used: int
    context_tokens: int
    admitted: int
    swapped_tokens: int
    reused_tokens: int
    loaded_tokens: int
    cached_blocks: int
    chunks: list[tuple[int, int, int]]
    preempted: list[tuple[int, int, int]]
    returned: list[tuple[int, int, int]]


def step_s(cost, work: Work) -> float:
    """Return the time of one step [s]: the sum of its priced parts."""
    last = len(cost.token_s) - 1
    return (
        cost.token_s[min(work.tokens, last)]
        + cost.token_slope_s * max(work.tokens - last, 0)
        + cost.row_s[work.rows]
        + cost.decode_context_s * work.context_tokens
        + cost.window_context_s * work.window_tokens
        + cost.prefill_pair_s * work.prefill_pairs
        + cost.window_pair_s * work.window_pairs
        + cost.prefill_request_s * work.prompts
        + (cost.prefill_step_s if work.prompts else 0)
        + cost.swap_token_s * work.swapped_tokens
    )


def pairs(start: int, end: int) -> float:
    """Return the (query, key) pairs of a chunk: the integral of x from `start` to `end`."""
    return (end * end - start * start) / 2


def window_pairs(start: int, end: int, window: int) -> float:
    """Return the pairs of a chunk under a sliding window: the integral of min(x, window)."""
    below = pairs(min(start, window), min(end, window))
    return below + window * (max(end, window) - max(start, window))


class Engine:
    """One engine: a clock, a queue, the running requests in order of admission, free KV blocks."""

    def __init__(self, cost, *, policy, max_running, token_budget, kv_blocks, kv_block_tokens, **options):
        self.cost = cost
        self.schedule = SCHEDULES[policy]
        self.policy = policy
        self.max_running = max_running
        self.token_budget = token_budget
        self.kv_blocks = self.free_blocks = kv_blocks
        self.block = kv_block_tokens
        self.draft_slots = options.get("draft_slots", 0)
        self.parts = 0  # of tokens that the clock has counted
        self.swap = options["preemption"] == "swap"
        self.admission = ADMISSIONS[options.get("admission", "full_prompt")]
        self.max_output_tokens = options.get("max_output_tokens", 0)
        self.share = Share()
        self.long_prompt = options.get("long_prefill_token_threshold", 0) or math.inf
        self.turnaround_s = options.get("turnaround_s", 0)
        self.hit_frac = options.get("hit_frac", 0.0)
        self.batch_wait_s = options.get("batch_wait_s", 0)
        self.counted = range(options["warm"], options["last"])  # from this admission until that one
        self.clock_s = 0
        self.unreleased: deque[Request] = deque()  # closed loop: not sent yet
        self.arrivals: deque[Request] = deque()
        self.preempted: list[Request] = []  # a stack; its top is the head of the queue
        self.running: list[Request] = []
        self.newest = -1  # highest index admitted so far
        self.barred = False  # no prompt may begin in this step
        self.unfinished = 0
        self.sessions = False  # whether requests follow others
        self.send = self.submit  # where requests go that are sent later
        self.total, self.kept = (Totals([0] * len(cost.token_s), [0] * (max_running + 1)) for _ in range(2))
        self.log: list[Step] = []

    # The queue -----------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        self.arrivals.append(request)
        self.unfinished += 1

    def release_next(self, arrival_s: float) -> None:
        """Closed loop: the client whose answer is complete sends the next request."""
        if self.unreleased:
            request = self.unreleased.popleft()
            request.arrival_s = arrival_s + (request.follows_s if request.follows_s > 0 else 0.0)
            self.send(request)

    def visible(self) -> list[Request]:
        """Return the waiting requests in order: the preempted before the arrivals."""
        return self.preempted[::-1] + [r for r in self.arrivals if r.arrival_s <= self.clock_s]

    def head(self) -> Request | None:
        request = None
        if self.preempted:
            request = self.preempted[-1]
        elif self.arrivals and self.arrivals[0].arrival_s <= self.clock_s:
            request = self.arrivals[0]
        if request:
            self.find(request)
        return request

    def go_on(self, request: Request) -> None:
        """Send the next turn of a finished request's session; without one, a client begins a new session."""
        if request.sequel is None:
            self.release_next(self.clock_s + self.turnaround_s)
        else:
            request.sequel.arrival_s = self.clock_s + self.turnaround_s + request.sequel.follows_s
            self.send(request.sequel)
        if self.sessions:
            self.arrivals = deque(sorted(self.arrivals, key=lambda one: (one.arrival_s, one.index)))

    # What a prefix cache has, here one without a cache --------------------------------------------

    def find(self, request: Request) -> None:
        """Look up which tokens of a waiting request need not be computed: the same share of every prompt."""
        request.found = 0 if request.computed else self.share_of(request.prompt)

    def share_of(self, prompt: int) -> int:
        """Return the tokens of a prompt that are cached where the same share of every prompt is."""
        return int(self.hit_frac * (prompt - 1)) // self.block * self.block

    def take_found(self, request: Request, work: Work) -> None:
        if self.hit_frac:
            self.count_found(request, work)
        if not request.computed:
            request.computed, request.found = request.found, 0

    def count_found(self, request: Request, work: Work) -> None:
        if not request.preemptions:
            work.sent_tokens += request.prompt
            request.loaded_tokens = request.on_host
            request.reused_tokens = request.found - request.on_host
            work.reused_tokens += request.reused_tokens
            work.loaded_tokens += request.loaded_tokens
        work.swapped_tokens += request.on_host

    def hold(self, request: Request, needed: int) -> None:
        request.blocks += needed
        self.free_blocks -= needed

    def release(self, request: Request) -> None:
        self.free_blocks += request.blocks
        request.blocks = 0

    def share_prompt(self, request: Request, end: int) -> None:
        """Let others use what a prompt has by the end of this step."""

    def cached_blocks(self) -> int:
        return 0

    # The clock of the decodes --------------------------------------------------------------------

    def pace(self) -> tuple[int, int, float]:
        """Return drafts, advance and what contexts cost, by the number of decodes."""
        decodes = sum(request.decoding for request in self.running)
        return self.cost.paces[min(decodes, len(self.cost.paces) - 1)]

    def passes(self, advance: int) -> int:
        """Return the whole tokens that the clock passes when it goes on."""
        return (self.parts + advance) // TOKEN - self.parts // TOKEN

    def ends(self, request: Request, work: Work) -> float:
        """Return the order in which requests leave a step: by the token that is their last, then joining."""
        return request.rest if request.decoding and request not in work.joined else math.inf

    # Slots and blocks ----------------------------------------------------------------------------

    def blocks_for(self, tokens: int) -> int:
        """Return the blocks that a request holds with so many tokens, and with room for drafts."""
        return blocks_for(tokens + self.draft_slots, self.block)

    def can_admit(self, request: Request, tokens: int, work: Work) -> bool:
        free = len(self.running) < self.max_running
        if self.long_prompt == math.inf or self.admission is ADMISSIONS["first_chunk"]:
            return free and self.admission(self, request, tokens, work.joined)
        wanted = sum(self.blocks_for(r.target) - r.blocks for r in self.unfinished_prompts(work))
        self.free_blocks -= wanted
        fits = free and self.admission(self, request, tokens, work.joined)
        self.free_blocks += wanted
        return fits

    def unfinished_prompts(self, work: Work) -> list[Request]:
        """Return the prompts that this step does not finish."""
        return [r for r, tokens in work.shares if not r.decoding and r.computed + tokens < r.target]

    def admit(self, request: Request, work: Work) -> None:
        (self.preempted.pop if self.preempted else self.arrivals.popleft)()
        self.running.append(request)
        work.joined.append(request)
        self.newest = max(self.newest, request.index)
        request.joined_s = self.clock_s
        self.take_found(request, work)
        if request.swapped:
            work.swapped_tokens += request.computed
            request.swapped = False
            if request.decoding:
                work.returned.append((request.index, request.computed, 0))

    def preempt_newest(self, work: Work) -> Request:
        request = self.running.pop()
        self.preempted.append(request)
        self.release(request)
        request.preemptions += 1
        work.preempted.append((request.index, request.computed, 0))
        if self.swap:
            work.swapped_tokens += request.computed
            request.swapped = True
        else:
            request.computed = 0
            request.target = request.prompt + request.generated
            request.decoding = False
        return request

    def make_room(self, request: Request, tokens: int, work: Work) -> bool:
        """Preempt from the tail until `tokens` more fit; return False if that cost the request its place."""
        while self.blocks_for(request.computed + tokens) - request.blocks > self.free_blocks:
            if self.preempt_newest(work) is request:
                return False
        return True

    def take(self, request: Request, tokens: int, work: Work) -> None:
        """Give the request its blocks for `tokens` more and enter them into the step's sums."""
        start, end, window = request.computed, request.computed + tokens, self.cost.window_tokens
        self.hold(request, self.blocks_for(end) - request.blocks)
        if not request.decoding:
            self.share_prompt(request, end)
        work.shares.append((request, tokens))
        if request.decoding:
            work.decodes += 1
            work.rows += 1
            work.context_tokens += start
            work.window_tokens += min(start, window)
        else:
            work.prefill_tokens += tokens
            work.prompts += 1
            work.chunks.append((request.index, start, tokens))
            work.rows += end == request.target
            work.prefill_pairs += pairs(start, end)
            work.window_pairs += window_pairs(start, end, window)

    def decode(self, request: Request, pace: tuple[int, int, float], work: Work) -> None:
        """Let a decode take part with its drafts: as many tokens as the clock will pass."""
        drafts, advance, scale = pace
        start, window = request.computed, self.cost.window_tokens
        started = self.parts % TOKEN / TOKEN  # of the next token
        self.hold(request, self.blocks_for(start + self.passes(advance)) - request.blocks)
        work.shares.append((request, self.passes(advance)))
        work.advance = advance
        work.decodes += 1
        work.drafts += drafts
        work.rows += 1
        work.context_tokens += (start + started) * scale
        work.window_tokens += (start + started if start < window else window) * scale

    # Time ----------------------------------------------------------------------------------------

    def next_start_s(self) -> float:
        """Return when the next step starts [s], inf if nothing is known to do."""
        if self.running or self.preempted:
            return self.clock_s
        if not self.arrivals:
            return math.inf
        if self.policy == "static":
            return static_start_s(self)
        return max(self.clock_s, self.arrivals[0].arrival_s)

    def step(self) -> None:
        """One step: schedule at its start, pass its time, hand out its tokens at its end."""
        for totals in self.counting():
            totals.elapsed_s += self.next_start_s() - self.clock_s
        if not self.running and not self.head():
            self.share.reset()
        self.clock_s = self.next_start_s()
        work = self.plan()
        assert work.shares, "a step without work: the scheduler would hang"
        duration_s = step_s(self.cost, work)
        self.record(work, duration_s)
        self.carry_out(work, duration_s)

    def plan(self) -> Work:
        """Schedule at the start of a step."""
        work = Work()
        self.schedule(self, work)
        self.share.after(self, work)
        return work

    def carry_out(self, work: Work, duration_s: float) -> None:
        """Pass the time of a step and hand out its tokens at its end."""
        self.clock_s += duration_s
        self.parts += work.advance
        for request, tokens in sorted(work.shares, key=lambda share: self.ends(share[0], work)):
            decoded = request.decoding and request not in work.joined
            request.computed += tokens
            if request.decoding or request.computed == request.target:
                self.emit(request, tokens if decoded else 1)
            if not decoded and request.decoding and request.rest > 0:
                request.rest = max(self.passes(request.rest), 1) * TOKEN  # from here it counts whole tokens
        if self.policy == "static":
            static_disband(self)
        else:
            self.running.sort(key=lambda request: not request.decoding)  # an unfinished prompt counts as last

    def emit(self, request: Request, tokens: int) -> None:
        """The request gets tokens now; after its last one it is finished and gives back what it held."""
        request.decoding = True
        request.generated += tokens
        if math.isnan(request.first_token_s):
            request.first_token_s = self.clock_s
        else:
            request.rest -= tokens * TOKEN
            gap_s = self.clock_s - request.last_token_s
            request.itl_max_s = max(request.itl_max_s, gap_s)
            for totals in self.counting():
                totals.gaps_s.append(gap_s)
        request.last_token_s = self.clock_s
        if request.rest <= 0:
            request.finished_s = self.clock_s
            self.unfinished -= 1
            self.go_on(request)
            if self.policy != "static":
                self.running.remove(request)
                self.release(request)

    def everyone(self) -> list[Request]:
        """Return all that run."""
        return self.running

    def record(self, work: Work, duration_s: float) -> None:
        """Enter the step into the counters and the log."""
        for totals in self.counting():
            totals.add(work, duration_s, len(self.everyone()), self.kv_blocks - self.free_blocks)
        self.note(work, duration_s)

    def note(self, work: Work, duration_s: float) -> None:
        """Enter the step into the log."""
        running, used = len(self.everyone()), self.kv_blocks - self.free_blocks
        line = Step(
            start_s=self.clock_s,
            duration_s=duration_s,
            decodes=work.decodes,
            drafts=work.drafts,
            prefill_tokens=work.prefill_tokens,
            prompts=work.prompts,
            running=running,
            waiting=len(self.visible()),
            kv_blocks_used=used,
            context_tokens=work.context_tokens,
            admitted=self.newest + 1,
            swapped_tokens=work.swapped_tokens,
            reused_tokens=work.reused_tokens,
            loaded_tokens=work.loaded_tokens,
            cached_blocks=self.cached_blocks(),
            chunks=work.chunks,
            preempted=work.preempted,
            returned=work.returned,
        )
        self.log.append(line)

    def counting(self) -> list[Totals]:
        return [self.total, self.kept] if self.newest in self.counted else [self.total]

    def run(self, until_s: float = math.inf) -> None:
        """Run all steps that start before `until_s`."""
        while self.next_start_s() < until_s:
            self.step()


# The three policies --------------------------------------------------------------------------------


def schedule_chunked(engine: Engine, work: Work) -> None:
    """Running requests first, in order of admission; then the queue takes what is left of the budget."""
    budget, pace = engine.token_budget, engine.pace()
    for request in list(engine.running):
        if not request.blocks:
            return  # preempted for one before it, and so is everything behind it
        if request.decoding:
            if not engine.make_room(request, engine.passes(pace[1]), work):
                return
            engine.decode(request, pace, work)
            budget -= 1 + pace[0]
            continue
        tokens = request.share(budget, engine.long_prompt)
        if not engine.make_room(request, tokens, work):
            return
        engine.take(request, tokens, work)
        budget -= tokens
        work.joined.append(request)
    while not work.preempted and budget > 0 and (request := engine.head()):
        if engine.barred and not request.decoding:
            return
        tokens = request.share(budget, engine.long_prompt)
        if (
            engine.unfinished_prompts(work)
            and not request.decoding
            and tokens < request.target - request.computed - request.found
        ):
            return  # one prompt at a time is unfinished
        if not engine.can_admit(request, tokens, work):
            return
        engine.admit(request, work)
        engine.take(request, tokens, work)
        budget -= tokens


def schedule_prefill_first(engine: Engine, work: Work) -> None:
    """Whole prompts alone whenever some wait and fit; otherwise every running request decodes."""
    while (request := engine.head()) and not request.swapped and not engine.barred:
        tokens = request.target - request.found
        if not engine.can_admit(request, tokens, work):
            break
        if work.shares and work.tokens + tokens > engine.token_budget:
            break
        engine.admit(request, work)
        engine.take(request, tokens, work)
    if work.shares:
        return
    pace = engine.pace()
    for request in list(engine.running):
        if not request.blocks or not engine.make_room(request, engine.passes(pace[1]), work):
            return
        engine.decode(request, pace, work)
    while not work.preempted and (request := engine.head()) and request.swapped:
        if not engine.can_admit(request, 1, work):
            return
        engine.admit(request, work)
        engine.take(request, 1, work)


def schedule_static(engine: Engine, work: Work) -> None:
    """A new batch prefills, padded to its longest prompt; a batch under way decodes, all slots alike."""
    if not engine.running:
        for _ in range(static_count(engine)):
            engine.admit(engine.head(), work)
    batch = engine.running
    count, longest = len(batch), max(r.prompt for r in batch)
    reserved = count * blocks_for(longest + max(r.output for r in batch), engine.block)
    engine.free_blocks = engine.kv_blocks - reserved
    window = engine.cost.window_tokens
    work.rows = count
    if all(r.generated == 0 for r in batch):
        start = engine.share_of(longest)
        work.prefill_tokens, work.prompts = count * (longest - start), count
        work.prefill_pairs = count * pairs(start, longest)
        work.window_pairs = count * window_pairs(start, longest, window)
        work.shares = [(r, r.prompt - r.computed) for r in batch]
        work.chunks = [(r.index, r.computed, r.prompt - r.computed) for r in batch]
    else:
        context = longest + max(r.generated for r in batch) - 1
        work.decodes, work.context_tokens = count, count * context
        work.window_tokens = count * min(context, window)
        work.shares = [(r, 1) for r in batch if r.rest > 0]


def static_start_s(engine: Engine) -> float:
    """Return when the next static batch starts [s]: full, or the first has waited long enough."""
    waiting = engine.arrivals
    start_s = waiting[0].arrival_s + engine.batch_wait_s
    if len(waiting) >= engine.max_running:
        start_s = min(start_s, waiting[engine.max_running - 1].arrival_s)
    return max(engine.clock_s, start_s)


def static_count(engine: Engine) -> int:
    """Return how many from the head of the queue form the batch: arrived, in slots, within the KV blocks."""
    waiting = engine.visible()[: engine.max_running]
    count = 1
    while count < len(waiting):
        batch = waiting[: count + 1]
        padded = max(r.prompt for r in batch) + max(r.output for r in batch)
        if len(batch) * blocks_for(padded, engine.block) > engine.kv_blocks:
            break
        count += 1
    return count


def static_disband(engine: Engine) -> None:
    """End the batch when its last request is finished; until then every slot is held."""
    if all(r.finished_s == r.finished_s for r in engine.running):
        engine.running = []
        engine.free_blocks = engine.kv_blocks


SCHEDULES = {"chunked": schedule_chunked, "prefill_first": schedule_prefill_first, "static": schedule_static}


# Whole runs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NaiveResult:
    """What a run gives: one entry a request, in order of the requests, and totals over the steps."""

    arrival_s: list[float]
    first_token_s: list[float]
    finished_s: list[float]
    itl_max_s: list[float]
    preemptions: list[int]
    reused_tokens: list[int]
    loaded_tokens: list[int]
    replica: list[int]
    total: list[Totals]
    kept: list[Totals]
    log: list[list[Step]]


def simulate_naive(cost, arrival_s, prompt_tokens, output_tokens, **rules) -> NaiveResult:
    """Return the run of one engine; the rules are those of `simulate_naive_replicas`."""
    return simulate_naive_replicas(
        cost, arrival_s, prompt_tokens, output_tokens, replicas=1, router="round_robin", **rules
    )


def requests_of(arrival_s, prompt_tokens, output_tokens, clock_tokens=None) -> list[Request]:
    """Return requests; the clock counts of an answer what it is told, else every token after the first."""
    counted = [tokens - 1 for tokens in output_tokens] if clock_tokens is None else clock_tokens
    rows = zip(arrival_s, prompt_tokens, counted, strict=True)
    return [Request(i, a, int(p), round(c * TOKEN)) for i, (a, p, c) in enumerate(rows)]


def simulate_naive_replicas(
    cost, arrival_s, prompt_tokens, output_tokens, *, replicas, router, concurrency=0, warm=0,
    clock_tokens=None, **rules
) -> NaiveResult:  # fmt: skip
    """Return the run of several engines behind a router.

    Parameters
    ----------
    cost : StepCost or any object with its fields
    arrival_s, prompt_tokens, output_tokens : sequence, shape (n,)
        In order of arrival; of a closed loop, only the arrivals of the first `concurrency` count.
    replicas, router : int, str
        `round_robin` deals in turn, `least_loaded` to the fewest unfinished requests.
    concurrency : int
        Clients of a closed loop, 0 for an open loop.
    warm : int
        Counters in `kept` start at the admission of this request and end at that of the last.
    **rules
        policy, max_running, token_budget, kv_blocks, kv_block_tokens, preemption, turnaround_s, batch_wait_s,
        admission, max_output_tokens, draft_slots.
    """
    requests = requests_of(arrival_s, prompt_tokens, output_tokens, clock_tokens)
    engines = [Engine(cost, warm=warm, last=len(requests) - 1, **rules) for _ in range(replicas)]
    dealt = deal_closed if concurrency else deal_open
    replica = dealt(requests, engines, concurrency or router)
    for engine in engines:
        engine.run()
    return result_of(requests, engines, replica)


def result_of(requests: list[Request], engines: list[Engine], replica: list[int]) -> NaiveResult:
    """Return what a run gives that is over."""
    return NaiveResult(
        [r.arrival_s for r in requests],
        [r.first_token_s for r in requests],
        [r.finished_s for r in requests],
        [r.itl_max_s for r in requests],
        [r.preemptions for r in requests],
        [r.reused_tokens for r in requests],
        [r.loaded_tokens for r in requests],
        replica,
        [engine.total for engine in engines],
        [engine.kept for engine in engines],
        [engine.log for engine in engines],
    )


def deal_open(requests: list[Request], engines: list[Engine], router: str) -> list[int]:
    """Send each request at its arrival; return the replica of each."""
    replica = []
    for request in requests:
        for engine in engines:
            engine.run(until_s=request.arrival_s)
        loads = [engine.unfinished for engine in engines]
        turn = request.index % len(engines)
        replica.append(turn if router == "round_robin" else loads.index(min(loads)))
        engines[replica[-1]].submit(request)
    return replica


def deal_closed(requests: list[Request], engines: list[Engine], concurrency: int) -> list[int]:
    """Deal requests and clients in turn; each client sends one request, the rest wait for answers."""
    engines = engines[:concurrency]  # a replica without a client gets no request
    for request in requests:
        engines[request.index % len(engines)].unreleased.append(request)
    for first in requests[:concurrency]:
        engines[first.index % len(engines)].release_next(first.arrival_s)
    return [request.index % len(engines) for request in requests]
