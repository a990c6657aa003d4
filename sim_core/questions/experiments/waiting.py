"""Four experiments with the scheduler: waiting for a batch, running out of KV cache, prompts among decodes,
answers that end at different times.

Each takes a scenario, changes what its question asks for and nothing else, and returns rows of numbers. All
runs of an experiment see the same requests (common random numbers), on one engine. Results are kept, for
all who ask; nobody changes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from sim_core.engine.run import Run, Steps, each_step, run
from sim_core.fields.errors import ScenarioError
from sim_core.price import cost
from sim_core.results import metrics
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.request_lists import write_request_list
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario, accelerator_of, calibration_of
from sim_core.sweep.frontier import Point, evaluate, row_of, saturation_per_s, sweep_points
from sim_core.traffic.draws import draw

Row = dict[str, Any]
REMEMBERED = 32


def one_engine(scenario: Scenario, requests: int) -> Scenario:
    """Return the scenario on one engine with its share of the traffic, and at most so many requests."""
    copies = scenario.replicas
    return scenario.replace(
        replicas=1,
        arrival_per_s=max(scenario.arrival_per_s / copies, FIELDS["arrival_per_s"].low),
        concurrency=math.ceil(scenario.concurrency / copies),
        requests=min(scenario.requests, requests),
    )


def replays(scenario: Scenario) -> bool:
    """Return whether the scenario has requests of its own, a list or a trace, in place of drawn ones."""
    return scenario.arrivals == "trace"


def drawn(scenario: Scenario) -> Scenario:
    """Return the scenario with drawn requests where it `replays` its own."""
    changes = {"request_list": ""} if scenario.request_list else {}
    if scenario.arrivals == "trace":
        changes["arrivals"] = "poisson"
    return scenario.replace(**changes) if changes else scenario


def continuous_policy(scenario: Scenario) -> str:
    """Return the scenario's policy, or chunked prefill if it is static."""
    return "prefill_first" if scenario.policy == "prefill_first" else "chunked"


def rounded(value: float, digits: int = 3) -> float:
    """Return a value with few digits, so that links and commands read well."""
    return float(f"{value:.{digits}g}")


# --- waiting for a batch --------------------------------------------------------------------------

WAITS_MS = (0.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)
WAIT_REQUESTS = 4000
LOAD_FRAC = 0.6
BEYOND_FRAC = 0.95
BATCH_STEPS = (64, 16, 4, 1)  # the batch limits compared: the scenario's own divided by these
FLAT_FRAC = 0.05  # a change of TTFT below this is no reason to wait


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """Static batching over batch limit and wait at one load, and continuous batching at the same.

    Attributes
    ----------
    scenario : Scenario
        Static, one engine, at the load.
    vary : mapping
        The keys of the sweep, as `frontier` takes them.
    rows : list of dict
        The points, as `frontier` gives them, with `batches` (started), `batch_requests` (in one, on average)
        and `busy_tok_per_s` (output tokens per second of work).
    continuous : dict
        The same requests under continuous batching.
    saturation_per_s : float
        The highest rate that static batching can serve with one of the batch limits.
    asked_per_s : float or None
        The scenario's own rate; None if it has none (closed loop, all at once).
    """

    scenario: Scenario
    vary: Mapping[str, tuple[Any, ...]]
    rows: list[Row]
    continuous: Row
    saturation_per_s: float
    asked_per_s: float | None

    @property
    def load_frac(self) -> float:
        """Load as a share of what static batching can serve."""
        return self.scenario.arrival_per_s / self.saturation_per_s

    @property
    def lowered(self) -> bool:
        """Whether the scenario's own rate is beyond what static batching can serve."""
        return self.asked_per_s is not None and self.asked_per_s > BEYOND_FRAC * self.saturation_per_s

    def curve(self, max_batch: int) -> list[Row]:
        """Return the points of one batch limit, shortest wait first."""
        return [row for row in self.rows if row["max_batch"] == max_batch]

    @property
    def best(self) -> Row | None:
        """The lowest mean TTFT of the batch limits that keep up; of waits that are as good the shortest."""
        shown = [row for row in self.rows if row["feasible"] and math.isfinite(row["ttft_ms_mean"])]
        steady = {row["max_batch"] for row in shown if not row["saturated"]}
        shown = [row for row in shown if row["max_batch"] in steady]
        if not shown:
            return None
        lowest = min(shown, key=lambda row: row["ttft_ms_mean"])
        good = (1 + FLAT_FRAC) * lowest["ttft_ms_mean"]
        return next(row for row in self.curve(lowest["max_batch"]) if row["ttft_ms_mean"] <= good)

    @property
    def harmless_ms(self) -> float:
        """The longest wait that costs the best batch limit no more than 5 % of its mean TTFT [ms]."""
        best = self.best
        if best is None:
            return 0.0
        longest = best["batch_wait_ms"]
        for row in self.curve(best["max_batch"]):
            if row["batch_wait_ms"] > longest:
                if row["ttft_ms_mean"] > (1 + FLAT_FRAC) * best["ttft_ms_mean"]:
                    break
                longest = row["batch_wait_ms"]
        return longest


@lru_cache(maxsize=REMEMBERED)
def waiting(scenario: Scenario) -> Waiting:
    """Return what waiting for a batch does: static batching over wait and batch limit, at one load.

    The load is the scenario's request rate if static batching can serve it, else 60 % of what it can.
    A closed loop and requests that are all there at once become Poisson arrivals at that load.

    Raises
    ------
    ScenarioError
        If the scenario cannot run.
    """
    base = one_engine(drawn(scenario), WAIT_REQUESTS).replace(policy="static")
    cost.price(base)  # a model that does not fit has no load to offer
    asked = base.arrival_per_s if base.arrivals in ("poisson", "gamma") else None
    base = base.replace(arrivals=base.arrivals if base.arrivals == "gamma" else "poisson")
    batches = tuple(sorted({max(1, base.max_batch // step) for step in BATCH_STEPS}))
    top = max(saturation_per_s(base.replace(max_batch=batch)) for batch in batches)
    beyond = asked is None or asked > BEYOND_FRAC * top
    load = base.replace(arrival_per_s=rounded(LOAD_FRAC * top) if beyond else asked)
    waits = sorted({*WAITS_MS, base.batch_wait_ms})
    vary = {"max_batch": batches, "batch_wait_ms": tuple(waits)}
    rows = [_static_row(point) for point in sweep_points(load, vary)]
    continuous = load.replace(policy="chunked")
    return Waiting(load, vary, rows, evaluate(Point({"policy": "chunked"}, continuous)), top, asked)


def _static_row(point: Point) -> Row:
    """Return a point of the sweep as `frontier` gives it, with what its batches were."""
    if point.scenario is None:
        return evaluate(point)
    found = run(point.scenario)
    row = row_of(point.keys, found)
    sizes = batch_sizes(found)
    row["batches"], row["batch_requests"] = int(sizes.size), float(sizes.mean())
    work_frac = 1 - row["idle_frac"]
    row["busy_tok_per_s"] = row["output_tok_per_s"] / work_frac if work_frac > 0 else math.nan
    return row


def batch_sizes(found: Run) -> np.ndarray:
    """Return how many requests each static batch held, in order; their first tokens come at one time."""
    return np.unique(found.first_token_s[~found.rejected], return_counts=True)[1]


# --- running out of KV cache ----------------------------------------------------------------------

PRESSURE_REQUESTS = 2000
PRESSURE_STEPS = 8
WAYS = ("recompute", "swap")


@dataclass(frozen=True, slots=True, eq=False)
class Pressure:
    """The same requests with less and less KV cache, recomputing or swapping what is preempted.

    Attributes
    ----------
    scenario : Scenario
        One engine, continuous batching.
    vary : mapping
        The keys of the sweep, as `frontier` takes them.
    rows : list of dict
        The points, as `frontier` gives them, with `kv_tokens`; `asked_tokens`, those of prompts and answers;
        `extra_tokens`, computed again or moved out and in; and `extra_s`, about how long that took.
    """

    scenario: Scenario
    vary: Mapping[str, tuple[Any, ...]]
    rows: list[Row]

    def curve(self, way: str) -> list[Row]:
        """Return the points of one way to preempt, least KV cache first."""
        return [row for row in self.rows if row["preemption"] == way]

    def at(self, kv_memory_frac: float) -> dict[str, Row]:
        """Return the points with one share of the memory, by the way to preempt."""
        return {row["preemption"]: row for row in self.rows if row["kv_memory_frac"] == kv_memory_frac}


@lru_cache(maxsize=REMEMBERED)
def pressure(scenario: Scenario) -> Pressure:
    """Return what less KV cache does, from room for the longest request alone to the scenario's full share.

    Raises
    ------
    ScenarioError
        If the scenario cannot run with its full share.
    """
    base = one_engine(drawn(scenario), PRESSURE_REQUESTS).replace(policy=continuous_policy(scenario))
    fracs = tuple(sorted({*kv_shares(scenario), scenario.kv_memory_frac}))
    vary = {"preemption": WAYS, "kv_memory_frac": fracs}
    return Pressure(base, vary, [_pressure_row(point) for point in sweep_points(base, vary)])


@lru_cache(maxsize=REMEMBERED)
def kv_shares(scenario: Scenario) -> tuple[float, ...]:
    """Return shares of the memory, evenly spaced on a log scale of KV tokens.

    From room for the longest of the scenario's requests to the usual share, or the scenario's if larger.
    """
    base = one_engine(drawn(scenario), PRESSURE_REQUESTS)
    full = base.replace(kv_memory_frac=max(base.kv_memory_frac, DEFAULTS["kv_memory_frac"]))
    limit = cost.price(full).request_limit_tokens
    traffic = draw(base)
    lengths = traffic.prompt_tokens + traffic.output_tokens
    lengths = lengths[lengths <= limit]
    most = cost.memory(full)["kv_tokens"]
    least = min(int(lengths.max(initial=1)) + base.kv_block_tokens, most)
    wanted = np.geomspace(least, most, PRESSURE_STEPS)[:-1]
    shares = {_share_for(full, float(tokens)) for tokens in wanted}
    return tuple(sorted({*shares, full.kv_memory_frac}))


def _share_for(scenario: Scenario, kv_tokens: float) -> float:
    """Return the share of the memory, to five decimals, that holds so many KV tokens."""
    low, high = FIELDS["kv_memory_frac"].low, scenario.kv_memory_frac
    for _ in range(20):
        middle = 0.5 * (low + high)
        if cost.memory(scenario.replace(kv_memory_frac=middle))["kv_tokens"] >= kv_tokens:
            high = middle
        else:
            low = middle
    return min(math.ceil(high * 1e5) / 1e5, scenario.kv_memory_frac)


def _pressure_row(point: Point) -> Row:
    """Return a point of the sweep as `frontier` gives it, with what preemption cost."""
    scenario = point.scenario
    if scenario is None:
        return evaluate(point)
    try:
        found = run(scenario, log=True)
    except ScenarioError as error:
        return {**point.keys, "feasible": False, "reason": str(error), "limit": "memory", "kv_tokens": 0}
    row = row_of(point.keys, found)
    row["kv_tokens"] = found.price.kv_blocks * found.price.kv_block_tokens
    row["rejected"] = int(found.rejected.sum())
    row["asked_tokens"] = int((found.prompt_tokens + found.output_tokens)[~found.rejected].sum())
    return row | extra_work(found)


def extra_work(found: Run) -> Row:
    """Return what preemption made a logged run do again: tokens, and about how long that took.

    Swapped tokens have their price. Recomputed ones are priced as requests of their mean length that are
    computed again beside the mean number of decodes.
    """
    log, price = found.engine.log, found.price
    if found.scenario.preemption == "swap":
        moved = int(log["swapped_tokens"].sum())
        return {"extra_tokens": moved, "extra_s": moved * price.step.swap_token_s}
    again = int((log["prefill_tokens"] * log["count"]).sum() - found.prompt_tokens[~found.rejected].sum())
    preemptions = int(found.preemptions.sum())
    if not preemptions or not again:
        return {"extra_tokens": again, "extra_s": 0.0}
    decodes = round(float(np.average(log["decodes"], weights=log["count"])))
    each_s = recompute_s(price, found.scenario, max(1, round(again / preemptions)), decodes)
    return {"extra_tokens": again, "extra_s": preemptions * each_s}


def recompute_s(price: cost.Price, scenario: Scenario, tokens: int, decodes: int) -> float:
    """Return the time it takes to bring a preempted request of so many tokens back by computing it again [s].

    It is the time by which steps of `decodes` other sequences last longer, each with a chunk as large as the
    budget allows, than if the request had just decoded in the last of them. Under `prefill_first` it is a
    step of its own.
    """
    if scenario.policy == "prefill_first":
        return _step_s(price, 0, 0, tokens)
    chunk = max(scenario.token_budget - decodes, 1)
    full = (tokens - 1) // chunk  # chunks before the last one, which alone is sampled
    rows_s = price.step.row_s[np.minimum([decodes, decodes + 1], price.step.row_s.size - 1)]
    spared_s = float(rows_s[1] - rows_s[0]) + (_step_s(price, decodes, tokens) if decodes else 0.0)
    full_s = _step_s(price, decodes, tokens, chunk) - _pairs_s(price, chunk) - spared_s
    rest = tokens - full * chunk
    last_s = _step_s(price, decodes, tokens, rest) - _pairs_s(price, rest)
    return full * full_s + last_s + _pairs_s(price, tokens) - _step_s(price, decodes + 1, tokens)


def _step_s(price: cost.Price, decodes: int, context: int, chunk: int = 0) -> float:
    """Return the time of one step in which a prompt's first chunk is its last [s]."""
    return sum(cost.step_parts(price, decodes, context, chunk).values())


def _pairs_s(price: cost.Price, tokens: int) -> float:
    """Return the time of a prompt's query-key pairs [s]; chunks share it out, but change nothing."""
    seen = float(cost.window_pairs(0, tokens, price.step.window_tokens))
    return price.step.prefill_pair_s * tokens**2 / 2 + price.step.window_pair_s * seen


def swap_s(price: cost.Price, tokens: int) -> float:
    """Return the time it takes to move the KV cache of `tokens` tokens to the host and back [s]."""
    return 2 * tokens * price.step.swap_token_s


# Recompute or swap: where the two cross over

FLOP_FACTORS = (0.5, 1.0, 2.0)
CONTEXTS = tuple(round(128 * 2 ** (step / 2)) for step in range(21))  # 128 .. 131,072
HOST_GB_PER_S = tuple(rounded(2 * 2 ** (step / 2)) for step in range(19))  # 2 .. 1,024


@dataclass(frozen=True, slots=True, eq=False)
class Crossover:
    """Time to bring a preempted request back, by computing again or from the host, and where they cross.

    Attributes
    ----------
    tokens : int
        Tokens that the request of the second chart holds.
    host_gb_per_s : float
        Bandwidth of the scenario's host link, one direction. [GB/s]
    contexts : list of int
        Tokens held. [tokens]
    recompute_ms : dict of float to list
        By factor on the FLOP/s: time over `contexts`. [ms]
    swap_ms : list
        Time over `contexts` with the scenario's host link. [ms]
    recompute_here_ms : dict of float to float
        The same for a request of `tokens` tokens. [ms]
    swap_here_ms : float
        With the scenario's host link. [ms]
    even_gb_per_s : dict of float to float
        By factor on the FLOP/s: the host link at which both take equally long. [GB/s]
    """

    tokens: int
    host_gb_per_s: float
    contexts: list[int]
    recompute_ms: dict[float, list[float]]
    swap_ms: list[float]
    recompute_here_ms: dict[float, float]
    swap_here_ms: float
    even_gb_per_s: dict[float, float]

    def rows(self) -> list[Row]:
        """Return both charts as rows: the time over the length, then over the host link at one length."""
        own = self.host_gb_per_s
        lengths = [
            {"host_gb_per_s": own, "tokens": tokens, "flops_times": factor}
            | {"recompute_ms": again, "swap_ms": moved}
            for factor, times in self.recompute_ms.items()
            for tokens, again, moved in zip(self.contexts, times, self.swap_ms, strict=True)
        ]
        return lengths + [
            {"host_gb_per_s": link, "tokens": self.tokens, "flops_times": factor}
            | {"recompute_ms": again, "swap_ms": self.swap_here_ms * own / link}
            for factor, again in self.recompute_here_ms.items()
            for link in HOST_GB_PER_S
        ]


@lru_cache(maxsize=REMEMBERED)
def crossover(scenario: Scenario, tokens: int, decodes: int) -> Crossover:
    """Return where recomputing and swapping a preempted request take equally long.

    Parameters
    ----------
    tokens : int
        Tokens that the preempted request holds.
    decodes : int
        Sequences beside which it is computed again.
    """
    base = one_engine(scenario, 1).replace(policy=continuous_policy(scenario))
    prices = {factor: cost.price(_with_flops(base, factor)) for factor in FLOP_FACTORS}
    limit = max(prices[1.0].request_limit_tokens, CONTEXTS[0])
    contexts = [length for length in CONTEXTS if length <= limit]

    def again_ms(factor: float, length: int) -> float:
        return 1e3 * recompute_s(prices[factor], base, length, decodes)

    here_ms = {factor: again_ms(factor, tokens) for factor in FLOP_FACTORS}
    moved_ms = 1e3 * swap_s(prices[1.0], tokens)
    host = accelerator_of(base).pcie_gb_per_s
    return Crossover(
        tokens=tokens,
        host_gb_per_s=host,
        contexts=contexts,
        recompute_ms={factor: [again_ms(factor, length) for length in contexts] for factor in FLOP_FACTORS},
        swap_ms=[1e3 * swap_s(prices[1.0], length) for length in contexts],
        recompute_here_ms=here_ms,
        swap_here_ms=moved_ms,
        even_gb_per_s={
            factor: host * moved_ms / again if again > 0 else math.inf for factor, again in here_ms.items()
        },
    )


def _with_flops(scenario: Scenario, factor: float) -> Scenario:
    """Return the scenario with all peaks of arithmetic times a factor."""
    part = accelerator_of(scenario)
    names = ("bf16_tflop_per_s", "fp8_tflop_per_s", "fp4_tflop_per_s")
    changes = {name: value * factor for name in names if (value := getattr(part, name))}
    return scenario.replace(**changes) if factor != 1 else scenario


def mean_context(scenario: Scenario) -> int:
    """Return the tokens that the scenario's requests hold half-way through their answers, on average."""
    traffic = draw(one_engine(drawn(scenario), PRESSURE_REQUESTS))
    return max(1, round(float(traffic.prompt_tokens.mean() + traffic.output_tokens.mean() / 2)))


# --- prompts among decodes ------------------------------------------------------------------------

BUDGETS = (512, 2048, 8192)
DECODE_TOKENS = (500, 2000)  # at least and at most this many tokens of each decode are watched
PROMPTS = 200  # at most: a link carries them all
PROMPTS_WANTED = 60
PLACES = 8  # in the batch, beside the decodes
LEAST_TOKENS = 50
LATEST_S = 900_000.0  # an arrival in a list of requests


class Variant(NamedTuple):
    """One way to share the accelerator between the phases."""

    policy: str
    token_budget: int


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """One way to share, with prompts and without.

    Attributes
    ----------
    variant : Variant
    alone, mixed : Scenario
        The two runs.
    alone_ms, mixed_ms : ndarray
        Gap before each watched token, the same for all decodes, without and with prompts. [ms]
    row : dict
        `itl_ms_mean`, `itl_ms_p99`, `itl_ms_max`; `alone_ms_mean`, `alone_ms_p99`; `prompts` and
        `prompt_tokens` computed meanwhile; `extra_ms`, by which every decode is later in the end;
        `extra_us_per_token` of the prompts; `switch_frac`, the share of the fixed cost in it;
        `prompt_ttft_ms_mean` of the prompts.
    """

    variant: Variant
    alone: Scenario
    mixed: Scenario
    alone_ms: np.ndarray
    mixed_ms: np.ndarray
    row: Row


@dataclass(frozen=True, slots=True, eq=False)
class Interference:
    """Decodes with and without prompts that arrive beside them, under several ways to share.

    `asked` and `decodes` are the sequences wanted and those for which there is room, `context` the tokens
    each holds at first, `prompt_per_s` the rate of the prompts and `own_rate` whether the scenario states it.
    """

    asked: int
    decodes: int
    context: int
    prompt_per_s: float
    own_rate: bool
    switch_ms: float
    ways: list[Shared]


@lru_cache(maxsize=REMEMBERED)
def interference(scenario: Scenario, decodes: int, context: int) -> Interference:
    """Return what prompts do to the decodes beside them.

    `decodes` sequences start from `context` tokens and run on; prompts as long as the scenario's, with
    answers of one token, arrive at the scenario's rate (a closed loop, or requests that are all there at
    once: at the rate at which they are served).

    Raises
    ------
    ScenarioError
        If the scenario cannot run, or the KV cache has no room for one such sequence.
    """
    base = one_engine(drawn(scenario), WAIT_REQUESTS)
    rate, own_rate = _prompt_rate(base)
    base = base.replace(
        arrivals="gamma" if base.arrivals == "gamma" else "poisson", arrival_per_s=rate, requests=PROMPTS
    )
    count = max(1, min(decodes, cost.memory(base)["kv_tokens"] // context, FIELDS["max_batch"].high - PLACES))
    base = base.replace(max_batch=max(base.max_batch, count + PLACES))
    plan = _plan(base, count, context)
    ways = [_share(base, variant, plan) for variant in variants(base, plan.decodes)]
    switch_ms = 1e3 * cost.price(base).step.prefill_request_s
    return Interference(decodes, plan.decodes, plan.context, rate, own_rate, switch_ms, ways)


def _prompt_rate(scenario: Scenario) -> tuple[float, bool]:
    """Return the rate at which prompts arrive, and whether the scenario states it."""
    if scenario.arrivals in ("poisson", "gamma"):
        return scenario.arrival_per_s, True
    served = metrics.request_per_s(run(scenario))
    return rounded(served if served > 0 else scenario.arrival_per_s), False


def variants(scenario: Scenario, decodes: int) -> list[Variant]:
    """Return the ways to share: whole prompts first, and chunks under several budgets that leave room.

    A step of more tokens needs more memory; a budget that would take half of the KV cache is left out.
    """
    enough = cost.memory(scenario)["kv_tokens"] / 2
    budgets = {scenario.token_budget}
    budgets |= {size for size in BUDGETS if _kv_tokens(scenario, size) > enough}
    fitting = sorted(size for size in budgets if size >= 2 * decodes) or [4 * decodes]
    return [
        Variant("prefill_first", scenario.token_budget),
        *(Variant("chunked", budget) for budget in fitting),
    ]


def _kv_tokens(scenario: Scenario, token_budget: int) -> int:
    return int(cost.memory(scenario.replace(token_budget=token_budget))["kv_tokens"])


class Plan(NamedTuple):
    """So many decodes, the tokens each holds at first, and how many tokens each makes while it is watched."""

    decodes: int
    context: int
    tokens: int


def _plan(scenario: Scenario, decodes: int, context: int) -> Plan:
    """Return as many of the decodes as there is room for beside a prompt, and how long they are watched."""
    price = cost.price(scenario)
    least, most = DECODE_TOKENS
    step_s = _step_s(price, decodes, context)
    wanted = min(max(math.ceil(PROMPTS_WANTED / (scenario.arrival_per_s * step_s)), least), most)
    limit = price.request_limit_tokens - 1
    context = max(1, min(context, limit - LEAST_TOKENS))
    tokens = min(wanted, limit - context)
    prompts = draw(scenario).prompt_tokens
    spare = int(prompts[prompts < limit].max(initial=1)) + scenario.kv_block_tokens
    budgets = [variant.token_budget for variant in variants(scenario, decodes)]
    held = context + tokens + _stagger(decodes, context, min(budgets)) + scenario.kv_block_tokens
    kv_tokens = min(_kv_tokens(scenario, size) for size in budgets)
    room = (kv_tokens - spare) // held
    if tokens < LEAST_TOKENS or room < 1:
        raise ScenarioError(
            f"The KV cache holds {kv_tokens:,} tokens: no room for one sequence of {held:,} tokens beside "
            f"a prompt of {spare:,}. Shorten the context, or give the cache more memory."
        )
    return Plan(min(decodes, room), context, tokens)


def _stagger(decodes: int, context: int, token_budget: int) -> int:
    """Return the steps, at most, between the first and the last decode's start under chunked prefill."""
    return math.ceil(decodes * context / max(token_budget - decodes, 1)) + 1


def _share(scenario: Scenario, variant: Variant, plan: Plan) -> Shared:
    """Return one way to share: the decodes alone, then the same with prompts from when all of them run."""
    base = scenario.replace(**variant._asdict(), warmup_frac=0.0)
    length = plan.tokens
    if variant.policy == "chunked":
        length += _stagger(plan.decodes, plan.context, variant.token_budget)
    length = min(length, cost.price(base).request_limit_tokens - plan.context)
    crowd = [(0.0, plan.context, length)] * plan.decodes
    alone = listed(base, crowd)
    quiet = _full_steps(run(alone, log=True), plan.decodes)
    if quiet.end_s.size < LEAST_TOKENS:
        raise ScenarioError(
            f"{plan.decodes:,} sequences of {plan.context:,} tokens never decode together under a token "
            f"budget of {variant.token_budget:,}. Raise it, or choose fewer of them."
        )
    start_s = math.ceil(quiet.start_s[0] * 100) / 100
    mixed = listed(base, [*crowd, *_prompts(base, start_s)])
    return _compared(variant, (alone, quiet), (mixed, run(mixed, log=True)), start_s, plan.decodes)


def listed(scenario: Scenario, requests: list[tuple[float, int, int]]) -> Scenario:
    """Return the scenario with a list of requests (arrival [s], prompt, answer) in place of drawn ones.

    The list is cut where it grows longer than a scenario can carry.
    """
    text = write_request_list(requests)
    longest = FIELDS["request_list"].longest
    if len(text) > longest:
        text = text[: longest + 1].rpartition(",")[0]
    return scenario.replace(arrivals="trace", request_list=text, requests=DEFAULTS["requests"])


def _prompts(scenario: Scenario, start_s: float) -> list[tuple[float, int, int]]:
    """Return the prompts that arrive from a time on, each with an answer of one token."""
    limit = cost.price(scenario).request_limit_tokens
    traffic = draw(scenario)
    arrival_s = np.minimum(start_s + traffic.arrival_s, LATEST_S).round(3)
    rows = zip(arrival_s.tolist(), traffic.prompt_tokens.tolist(), strict=True)
    return [(arrival, prompt, 1) for arrival, prompt in rows if prompt < limit]


def _full_steps(found: Run, decodes: int) -> Steps:
    """Return the steps of a logged run in which a whole crowd decodes."""
    log = found.engine.log
    return each_step(log).of(log["decodes"] == decodes)


def _compared(
    variant: Variant,
    alone: tuple[Scenario, Steps],
    mixed: tuple[Scenario, Run],
    start_s: float,
    decodes: int,
) -> Shared:
    """Return the gaps of the same tokens with and without prompts.

    From `start_s` until all prompts are served or the first decode ends, whatever comes first.
    """
    found = mixed[1]
    steps = _full_steps(found, decodes)
    first = max(int(np.searchsorted(steps.start_s, start_s)), 1)
    served_s = float(found.engine.first_token_s[decodes:].max(initial=0.0))
    last = max(int(np.searchsorted(steps.start_s, served_s)) + 1, first + 1)
    ends = slice(first - 1, min(last, steps.end_s.size, alone[1].end_s.size))
    alone_ms, mixed_ms = (1e3 * np.diff(each.end_s[ends]) for each in (alone[1], steps))
    from_s, to_s = steps.end_s[ends][0], steps.end_s[ends][-1]
    log = found.engine.log
    log = log[(log["start_s"] >= from_s) & (log["start_s"] < to_s)]
    counts = {name: int((log[name] * log["count"]).sum()) for name in ("prefill_tokens", "prompts")}
    extra_ms = float(mixed_ms.sum() - alone_ms.sum())
    switch_ms = 1e3 * counts["prompts"] * found.price.step.prefill_request_s
    first_s = found.first_token_s[decodes:]
    ttft_ms = 1e3 * (first_s - found.arrival_s[decodes:])[first_s <= to_s]
    row = {
        **variant._asdict(),
        **_gap_statistics("itl_ms", mixed_ms),
        **_gap_statistics("alone_ms", alone_ms),
        "tokens": int(mixed_ms.size),
        "chunks": counts["prompts"],
        "prompt_tokens": counts["prefill_tokens"],
        "extra_ms": extra_ms,
        "extra_us_per_token": _ratio(1e3 * extra_ms, counts["prefill_tokens"]),
        "switch_frac": _ratio(switch_ms, extra_ms),
        "prompt_ttft_ms_mean": _ratio(float(ttft_ms.sum()), ttft_ms.size),
    }
    return Shared(variant, alone[0], mixed[0], alone_ms, mixed_ms, row)


def _gap_statistics(name: str, gaps_ms: np.ndarray) -> Row:
    mean, p99, most = gaps_ms.mean(), np.percentile(gaps_ms, 99), gaps_ms.max()
    return {f"{name}_mean": float(mean), f"{name}_p99": float(p99), f"{name}_max": float(most)}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


# --- answers that end at different times ----------------------------------------------------------

SPREADS = (0.0, 0.5, 1.0, 3.0)
TURNS = 12  # requests for each client, on average
ENDING_REQUESTS = (1000, 8000)


@dataclass(frozen=True, slots=True, eq=False)
class Endings:
    """Answers of the same mean length and different spread, under static and continuous batching.

    Attributes
    ----------
    scenarios : dict of float to Scenario
        By spread (coefficient of variation): the closed loop, without its policy.
    policy : str
        The continuous policy compared.
    rows : list of dict
        One for each spread and policy: metrics as `frontier` gives them, `mean_output_tokens` of the sample,
        `longest_output_tokens`, `rejected`, `batch_requests` and `padding_frac`.
    """

    scenarios: dict[float, Scenario]
    policy: str
    rows: list[Row]

    def row(self, policy: str, spread: float) -> Row:
        """Return the row of a policy and a spread."""
        return next(row for row in self.rows if row["policy"] == policy and row["spread_cv"] == spread)


@lru_cache(maxsize=REMEMBERED)
def endings(scenario: Scenario) -> Endings:
    """Return what the spread of answer lengths does, at the same mean, for as many clients as places.

    Prompts are those of the scenario; a mix counts as one class with its mean lengths.

    Raises
    ------
    ScenarioError
        If the scenario cannot run.
    """
    cost.price(scenario)  # a model that does not fit has nothing to show
    policy = continuous_policy(scenario)
    base = _crowd(scenario)
    target = float(draw(base).output_tokens.mean())
    cases = {spread: _with_spread(base, spread, target) for spread in SPREADS}
    rows = [
        _ending_row(spread, case.replace(policy=name))
        for spread, case in cases.items()
        for name in ("static", policy)
    ]
    return Endings(cases, policy, rows)


def _crowd(scenario: Scenario) -> Scenario:
    """Return the scenario as a closed loop of as many clients as places in the batch, of one class."""
    base = one_engine(drawn(scenario), FIELDS["requests"].high)
    clients = base.max_running
    if base.mix:
        traffic = draw(base.replace(arrivals="offline", requests=PRESSURE_REQUESTS))
        prompts = traffic.prompt_tokens
        base = with_changes(
            base,
            mix="",
            prompt_tokens=max(1, round(float(prompts.mean()))),
            prompt_cv=min(rounded(float(prompts.std() / prompts.mean()), 2), FIELDS["prompt_cv"].high),
            output_tokens=max(1, round(float(traffic.output_tokens.mean()))),
            output_cv=0.0,
        )
    least, most = ENDING_REQUESTS
    requests = min(max(TURNS * clients, least), most)
    requests = max(requests, 2 * clients)
    return base.replace(arrivals="closed", concurrency=clients, requests=requests, output_cv=0.0)


def _with_spread(scenario: Scenario, spread: float, target: float) -> Scenario:
    """Return the scenario with answers of a spread whose sample mean is as near to the target as can be."""
    mean, best = target, None
    for _ in range(6):
        tokens = min(max(1, round(mean)), FIELDS["output_tokens"].high)
        case = scenario.replace(output_cv=spread, output_tokens=tokens)
        sample = float(draw(case).output_tokens.mean())
        if best is None or abs(sample - target) < best[0]:
            best = (abs(sample - target), case)
        mean = tokens * target / sample
        if round(mean) == tokens:
            break
    return best[1]


def _ending_row(spread: float, scenario: Scenario) -> Row:
    keys = {"spread_cv": spread, "policy": scenario.policy, "output_tokens": scenario.output_tokens}
    try:
        found = run(scenario)
    except ScenarioError as error:
        return {**keys, "feasible": False, "reason": str(error)}
    outputs = found.output_tokens
    row = row_of(keys, found)
    row["mean_output_tokens"] = float(outputs.mean())
    row["longest_output_tokens"] = int(outputs.max())
    row["rejected"] = int(found.rejected.sum())
    static = scenario.policy == "static"
    row["batch_requests"] = float(batch_sizes(found).mean()) if static else row["mean_batch"]
    row["padding_frac"] = metrics.padding_frac(found)
    return row


def switch_sources(scenario: Scenario) -> tuple[float, str]:
    """Return the calibration's fixed cost of a prompt in a step [ms], and where it comes from."""
    constant = next(item for item in calibration_of(scenario).constants if item.name == "prefill_request")
    return constant.value, constant.source
