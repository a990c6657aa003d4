"""Interference: what prompts add to the gaps of those who decode, by how the two share the accelerator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim_core.engine.results import Run
from sim_core.engine.run import run
from sim_core.engine.steps import Steps, each_step
from sim_core.engine.work import kept
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.memory import memory
from sim_core.price.price import price_of
from sim_core.price.use import ratio
from sim_core.questions.experiments.common import REMEMBERED, Row, drawn, one_engine, rounded
from sim_core.questions.experiments.preemption import step_of_one_s
from sim_core.questions.experiments.waiting import WAIT_REQUESTS
from sim_core.results.answers import answer_of
from sim_core.scenario.request_lists import write_request_list
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario, calibration_of
from sim_core.traffic.draws import requests_sent

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


@kept(REMEMBERED, unit="requests")
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
    room = int(min(memory(base)["kv_tokens"] // context, FIELDS["max_batch"].high - PLACES))
    count = max(1, min(decodes, room))
    base = base.replace(max_batch=max(base.max_batch, count + PLACES))
    plan = _plan(base, count, context)
    ways = [_share(base, variant, plan) for variant in variants(base, plan.decodes)]
    return Interference(decodes, plan.decodes, plan.context, rate, own_rate, _switch_ms(base), ways)


def _prompt_rate(scenario: Scenario) -> tuple[float, bool]:
    """Return the rate at which prompts arrive, and whether the scenario states it."""
    if scenario.arrivals in ("poisson", "gamma"):
        return scenario.arrival_per_s, True
    served = answer_of(run(scenario)).request_per_s
    return rounded(served if served > 0 else scenario.arrival_per_s), False


def variants(scenario: Scenario, decodes: int) -> list[Variant]:
    """Return the ways to share: whole prompts first, and chunks under several budgets that leave room.

    A step of more tokens needs more memory; a budget that would take half of the KV cache is left out.
    """
    enough = memory(scenario)["kv_tokens"] / 2
    budgets = {scenario.token_budget}
    budgets |= {size for size in BUDGETS if _kv_tokens(scenario, size) > enough}
    fitting = sorted(size for size in budgets if size >= 2 * decodes) or [4 * decodes]
    return [
        Variant("prefill_first", scenario.token_budget),
        *(Variant("chunked", budget) for budget in fitting),
    ]


def _kv_tokens(scenario: Scenario, token_budget: int) -> int:
    return int(memory(scenario.replace(token_budget=token_budget))["kv_tokens"])


class DecodeLoad(NamedTuple):
    """So many decodes, the tokens each holds at first, and how many tokens each makes while it is watched."""

    decodes: int
    context: int
    tokens: int


def _plan(scenario: Scenario, decodes: int, context: int) -> DecodeLoad:
    """Return as many of the decodes as there is room for beside a prompt, and how long they are watched."""
    price = price_of(scenario)
    least, most = DECODE_TOKENS
    step_s = step_of_one_s(price, decodes, context)
    wanted = min(max(math.ceil(PROMPTS_WANTED / (scenario.arrival_per_s * step_s)), least), most)
    limit = price.request_limit_tokens - 1
    context = max(1, min(context, limit - LEAST_TOKENS))
    tokens = min(wanted, limit - context)
    prompts = requests_sent(scenario).prompt_tokens
    spare = int(prompts[prompts < limit].max(initial=1)) + scenario.kv_block_tokens
    budgets = [variant.token_budget for variant in variants(scenario, decodes)]
    held = context + tokens + _stagger(decodes, context, min(budgets)) + scenario.kv_block_tokens
    kv_tokens = min(_kv_tokens(scenario, size) for size in budgets)
    room = (kv_tokens - spare) // held
    if tokens < LEAST_TOKENS or room < 1:
        raise ScenarioError(
            f"The KV cache holds {counted(kv_tokens, 'token')}: no room for one sequence of {held:,} beside "
            f"a prompt of {spare:,}. Shorten the context, or give the cache more memory."
        )
    return DecodeLoad(min(decodes, room), context, tokens)


def _stagger(decodes: int, context: int, token_budget: int) -> int:
    """Return the steps, at most, between the first and the last decode's start under chunked prefill."""
    return math.ceil(decodes * context / max(token_budget - decodes, 1)) + 1


def _share(scenario: Scenario, variant: Variant, plan: DecodeLoad) -> Shared:
    """Return one way to share: the decodes alone, then the same with prompts from when all of them run."""
    base = scenario.replace(**variant._asdict(), warmup_frac=0.0)
    length = plan.tokens
    if variant.policy == "chunked":
        length += _stagger(plan.decodes, plan.context, variant.token_budget)
    length = min(length, price_of(base).request_limit_tokens - plan.context)
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
    limit = price_of(scenario).request_limit_tokens
    traffic = requests_sent(scenario)
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
    step, with_prompts = found.price.step, int(log["count"][log["prompts"] > 0].sum())
    switch_ms = 1e3 * (counts["prompts"] * step.prefill_request_s + with_prompts * step.prefill_step_s)
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
        "extra_us_per_token": ratio(1e3 * extra_ms, counts["prefill_tokens"]),
        "switch_frac": ratio(switch_ms, extra_ms),
        "prompt_ttft_ms_mean": ratio(float(ttft_ms.sum()), ttft_ms.size),
    }
    return Shared(variant, alone[0], mixed[0], alone_ms, mixed_ms, row)


def _gap_statistics(name: str, gaps_ms: np.ndarray) -> Row:
    mean, p99, most = gaps_ms.mean(), np.percentile(gaps_ms, 99), gaps_ms.max()
    return {f"{name}_mean": float(mean), f"{name}_p99": float(p99), f"{name}_max": float(most)}


def switch_sources(scenario: Scenario) -> tuple[float, str]:
    """Return the calibration's fixed cost of a prompt in a step [ms], and where it comes from."""
    constant = next(item for item in calibration_of(scenario).constants if item.name == "prefill_request")
    return _switch_ms(scenario.replace(prefill_switch_ms=None)), constant.source


def _switch_ms(scenario: Scenario) -> float:
    """Return what one prompt adds to a step beside its tokens and pairs. [ms]"""
    step = price_of(scenario).step
    return 1e3 * (step.prefill_request_s + step.prefill_step_s)
