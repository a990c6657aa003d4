"""The simulator's face: draw the traffic, price the steps, run the engine, return what clients see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim_core.engine import work
from sim_core.engine.one_pool import run_engine, run_engines
from sim_core.engine.results import EngineResult, EngineResults, Run, RunsAtLoads, SplitResult
from sim_core.engine.rules import counted_requests, rules_of, split_rules_of, windows_too_short
from sim_core.engine.two_pools import run_split_engine, whole
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import nothing_fits
from sim_core.price.price import Price
from sim_core.price.priced import Priced, priced
from sim_core.price.speculation import speculation_of
from sim_core.price.step_cost import TOKEN
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario, steps_to_first_seen
from sim_core.traffic.acceptance import steps_drawn
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import Requests
from sim_core.traffic.sessions import has_sessions
from sim_core.traffic.texts import has_sequels
from sim_core.traffic.units import arrivals_of

MOST_TOGETHER = 8_000  # requests of each of several runs: more take long enough by themselves
SAMPLE = 5_000  # of the requests of a scenario, where a share of them is asked for


def simulate(
    scenario: Scenario, *, trace: Requests | None = None, profile: EngineProfile | None = None
) -> pd.DataFrame:
    """Return the simulated requests of a scenario, one row each.

    Parameters
    ----------
    scenario : Scenario
    trace : Requests, optional
        Requests to replay instead of drawn ones.
    profile : EngineProfile, optional
        Measured step times instead of a calibration.

    Returns
    -------
    DataFrame
        Columns ``request_id, arrival_s, prompt_tokens, output_tokens, first_token_s, finished_s,
        itl_max_s, preemptions, status``; times in seconds from the start, NaN where nothing happened.

    Raises
    ------
    ScenarioError
        If the scenario cannot run: the model does not fit, the layout does not divide it.
    """
    return run(scenario, trace=trace, profile=profile, itl_max=True).requests()


def run(
    scenario: Scenario,
    *,
    trace: Requests | None = None,
    profile: EngineProfile | None = None,
    price: Price | None = None,
    itl_max: bool = False,
    log: bool = False,
) -> Run:
    """Simulate a scenario and return the run; `itl_max` and `log` cost extra time and are off by default.

    A `price` stands in place of the scenario's own and of a profile. Where an allowance is open, a run that
    would cost more has fewer requests: those of its scenario.
    """
    return run_known(priced(scenario, profile, price), trace, itl_max, log)


def run_known(known: Priced, trace: Requests | None = None, itl_max: bool = False, log: bool = False) -> Run:
    """Simulate a scenario whose prices are known; see `run`."""
    scenario = work.affordable(known.scenario, trace, log)
    while True:
        try:
            return work.costed(scenario, trace, log, partial(_run, known, scenario, trace, itl_max, log))
        except work.UsedUp:
            scenario = work.fewer(scenario, trace, work.requests_of(known.scenario, trace))


def _run(known: Priced, scenario: Scenario, trace: Requests | None, itl_max: bool, log: bool) -> Run:
    return run_priced(known.at(scenario), requests_sent(scenario, trace), itl_max, log)


def run_priced(known: Priced, sent: Requests, itl_max: bool = False, log: bool = False) -> Run:
    """Run requests through the engine of a scenario whose prices are known.

    Raises
    ------
    ScenarioError
        If no request fits context window and KV cache, or turns of sessions wait for one another where the
        engine cannot let them.
    """
    check_prefixes(known.scenario, sent)
    rejected = cannot_fit(known, sent)
    kept = sent.take(~rejected) if rejected.any() else sent
    if not len(kept):
        raise ScenarioError(_nothing_fits(known, sent))
    before_s, after_s = known.price.before_s(kept.prompt_tokens), known.price.request_after_s
    clocked = on_the_clock(known.scenario, known.price.request_limit_tokens, kept)
    arriving = clocked.arriving_at(kept.arrival_s + before_s)
    run_on = _on_two_pools if known.pools else _on_one_pool
    engine, split, counts = run_on(known, kept, arriving, itl_max, log)
    columns = {
        "arrival_s": engine.arrival_s - before_s,
        "first_token_s": first_seen_s(known.scenario, kept, engine, split) + after_s,
        "finished_s": engine.finished_s + after_s,
        "itl_max_s": engine.itl_max_s,
        "preemptions": engine.preemptions,
    }
    if len(kept) < len(sent):
        columns = {name: _spread(values, rejected) for name, values in columns.items()}
        columns["arrival_s"] = _rejected_arrivals(known.scenario, columns["arrival_s"], sent.arrival_s)
    sent = sent.arriving_at(columns.pop("arrival_s"))
    return Run(known, sent, rejected=rejected, engine=engine, split=split, whole=counts, **columns)


def runs_together(scenario: Scenario, trace: Requests | None = None) -> bool:
    """Return whether runs of a scenario under several loads may be made side by side, by `run_at_loads`.

    They are made one by one where more than the load differs between them, or a run is more than one engine
    that serves requests which have nothing in common.
    """
    return (
        scenario.arrivals in ("poisson", "gamma", "closed")
        and scenario.policy in ("chunked", "prefill_first")
        and scenario.replicas == scenario.pipeline_parallel == scenario.attention_data_parallel == 1
        and scenario.prefix_caching == "off"
        and scenario.prefix_hit_frac == 0
        and not has_sessions(scenario)
        and (trace is None or trace.session is None)
        and work.requests_of(scenario, trace) <= MOST_TOGETHER
    )


def run_at_loads(
    known: Priced, scenarios: Sequence[Scenario], trace: Requests | None = None
) -> RunsAtLoads | None:
    """Return runs of scenarios that differ in their load alone, side by side; see `runs_together`.

    The load is the request rate of an open loop and the number of clients of a closed one. None where that
    cannot be: some request is rejected, all requests count in some of the runs alone, or one takes more turns
    than it may.

    Parameters
    ----------
    known : Priced
        One of the scenarios, with the prices of all.
    """
    scenario = work.affordable(known.scenario, trace)
    make = partial(_run_at_loads, known.at(scenario), scenarios, trace)
    try:
        return work.costed(scenario, trace, False, make, len(scenarios))
    except work.UsedUp:
        return None


def _run_at_loads(known: Priced, scenarios: Sequence[Scenario], trace: Requests | None) -> RunsAtLoads | None:
    scenario, price = known.scenario, known.price
    sent = requests_sent(scenario, trace)
    count_all = {counted_requests(each, len(sent)) is None for each in scenarios}
    if len(count_all) > 1 or cannot_fit(known, sent).any():
        return None
    closed = scenario.arrivals == "closed"
    clients = np.array([each.concurrency if closed else 0 for each in scenarios])
    sent_s = np.array([arrivals_of(each, len(sent)) for each in scenarios])
    clocked = on_the_clock(scenario, price.request_limit_tokens, sent)
    before_s = price.before_s(sent.prompt_tokens)
    arriving_s = sent_s + before_s
    engine = run_engines(price.step, clocked, arriving_s, clients, rules_of(known, sent))
    return RunsAtLoads(
        known,
        scenarios,
        sent,
        arrival_s=engine.arrival_s - before_s,
        first_token_s=first_seen_s(scenario, sent, engine) + price.request_after_s,
        finished_s=engine.finished_s + price.request_after_s,
        engine=engine,
    )


def on_the_clock(scenario: Scenario, limit_tokens: int, sent: Requests) -> Requests:
    """Return requests with what the token clock counts of their answers, where drafts are verified.

    How many steps each takes is drawn; the clock goes on by the mean number of tokens in each. A draw is cut
    where prompt and answer would exceed `limit_tokens`, the longest request that an engine can hold.
    """
    speculation = speculation_of(scenario)
    if speculation is None:
        return sent
    length = round(speculation.most.length * TOKEN) / TOKEN
    steps = steps_drawn(sent.output_tokens - 1, length, scenario.seed)
    room = limit_tokens - sent.prompt_tokens
    return replace(sent, clock_tokens=np.minimum(steps * length, room))


def check_prefixes(scenario: Scenario, sent: Requests) -> None:
    """Raise a `ScenarioError` where a policy has no way to serve what prompts have in common."""
    if scenario.policy == "static" and has_sequels(sent):
        asked = f"turns={scenario.turns}" if scenario.turns > 1 else f"think_s={scenario.think_s:g}"
        raise ScenarioError(
            f"policy is static, but requests of {sent.name or asked} follow the answers before: static "
            "batches are simulated for requests that wait for no other. Choose policy=chunked, prefill_first "
            "or disaggregated, turns=1 without think_s, or a trace whose turns have times; prefix_hit_frac "
            "states what they reuse."
        )


def first_seen_s(
    scenario: Scenario,
    sent: Requests,
    engine: EngineResult | EngineResults,
    split: SplitResult | None = None,
) -> np.ndarray:
    """Return when first tokens are shown: steps late at each answer's pace, at most to its end. [s]

    A named engine answers its clients from the decode pool: what the prefill pool has made is shown once a
    decode worker has taken the request over.

    References
    ----------
    SGLang, `disaggregation/decode.py` (the decode server streams what it was sent); vLLM,
    `disaggregated_prefill` proxies (the answer of the prefill server is dropped); NVIDIA Dynamo, TensorRT-LLM
    backend (`generation_only` requests return the context's first token).
    """
    rest = sent.output_tokens - 1
    made_s = engine.first_token_s
    if split is not None and scenario.engine:
        made_s = np.fmax(made_s, split.joined_s)  # an answer of one token joins no decodes
    late_steps = steps_to_first_seen(scenario)
    if not late_steps:
        return made_s
    late = np.minimum(late_steps, rest)
    seen_s = made_s + late / np.maximum(rest, 1) * (engine.finished_s - made_s)
    return np.minimum(seen_s, engine.finished_s)  # rounding may carry it past the end


def cannot_fit(known: Priced, sent: Requests) -> np.ndarray:
    """Return which requests are longer than context or KV cache, as a mask; they are rejected at the door."""
    rejected = sent.prompt_tokens + sent.output_tokens > known.price.request_limit_tokens
    if known.pools:
        rejected |= sent.prompt_tokens > known.pools.prefill.request_limit_tokens
    return rejected


def rejected_frac(scenario: Scenario) -> float:
    """Return the share of the first `SAMPLE` requests that are rejected; 0 where that cannot be told."""
    try:
        known = priced(scenario.replace(requests=min(scenario.requests, SAMPLE)))
        return float(cannot_fit(known, requests_sent(known.scenario)).mean())
    except ScenarioError:
        return 0.0


def _on_one_pool(
    known: Priced, sent: Requests, arriving: Requests, itl_max: bool, log: bool
) -> tuple[EngineResult, None, bool]:
    """Run requests on one engine or on replicas; say whether all steps count."""
    rules = rules_of(known, sent, itl_max, log)
    found = run_engine(known.price.step, arriving, rules)
    counts = not rules.whole and (found.usage.busy_s == 0 or _holds_little(known, found, arriving))
    if counts:
        found = run_engine(known.price.step, arriving, replace(rules, whole=True))
    return found, None, counts


def _on_two_pools(
    known: Priced, sent: Requests, arriving: Requests, itl_max: bool, log: bool
) -> tuple[EngineResult, SplitResult, bool]:
    """Run requests through two pools; say whether all steps count."""
    if log:
        raise ScenarioError(
            "there is no step log of two pools; simulate one pool (policy=chunked), or leave --steps-out out."
        )
    rules, pools = split_rules_of(known, sent, itl_max), known.both_pools
    steps = (pools.prefill.step, pools.decode.step, pools.transfer)
    found, result = run_split_engine(*steps, arriving, rules)
    idle = found.usage.busy_s == 0 or result.usage.busy_s == 0  # no step between the first and last admission
    counts = not rules.decode.whole and (idle or _holds_little(known, found, arriving))
    if counts:
        found, result = run_split_engine(*steps, arriving, whole(rules))
    return found, result, counts


def _holds_little(known: Priced, found: EngineResult, sent: Requests) -> bool:
    """Return whether the window of the statistics is too short, or holds no gap between tokens."""
    if not found.gap_counts.any() and (sent.output_tokens > 1).any():
        return True
    arrival_s = found.arrival_s - known.price.before_s(sent.prompt_tokens)
    answered_s = (column + known.price.request_after_s for column in (found.first_token_s, found.finished_s))
    times = (column[None] for column in (arrival_s, *answered_s))
    return bool(windows_too_short([known.scenario], *times)[0])


def hold_little(runs: RunsAtLoads) -> np.ndarray:
    """Return which windows of runs side by side are too short, or hold no step: these runs are made anew."""
    made_s = runs.engine.first_token_s + runs.price.request_after_s
    too_short = windows_too_short(runs.scenarios, runs.arrival_s, made_s, runs.finished_s)
    return too_short | (runs.engine.usage.busy_s == 0)


def _nothing_fits(known: Priced, sent: Requests) -> str:
    if known.pools:
        return known.pools.nothing_fits(known.model, sent.prompt_tokens, sent.output_tokens)
    shortest = int((sent.prompt_tokens + sent.output_tokens).min())
    return nothing_fits(known.model, known.price.request_limit_tokens, shortest)


def _spread(values: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Return a column over all requests from one over those that were not rejected."""
    full = np.zeros(rejected.size, values.dtype)
    if values.dtype.kind == "f":
        full[:] = np.nan
    full[~rejected] = values
    return full


def _rejected_arrivals(scenario: Scenario, arrival_s: np.ndarray, drawn_s: np.ndarray) -> np.ndarray:
    """Return arrivals with those of rejected requests: as drawn, or in a closed loop as the next one."""
    missing = np.isnan(arrival_s)
    if scenario.arrivals != "closed":
        return np.where(missing, drawn_s, arrival_s)
    return pd.Series(arrival_s).bfill().ffill().to_numpy()


class Part(NamedTuple):
    """Some of the compiled code: what it is for, and something that uses it."""

    name: str
    use: Callable[[], object]


def _part(name: str, **changes: Any) -> Part:
    base: dict[str, Any] = {
        "requests": 4,
        "arrivals": "offline",
        "prompt_cv": 0.0,
        "output_cv": 0.0,
        "output_tokens": 2,
    }
    return Part(name, lambda: run(Scenario(**base | changes)))


TWO_RANKS: Mapping[str, Any] = {
    "model": "gpt-oss-20b",
    "tensor_parallel": 2,
    "attention_data_parallel": 2,
    "expert_parallel": 2,
}


PARTS = (  # in the order in which they are wanted
    _part("continuous batching"),
    _part("static batching", policy="static"),
    _part("replicas", replicas=2, arrivals="poisson"),
    _part("two pools", policy="disaggregated"),
    _part("ranks", **TWO_RANKS),
    _part("two pools of ranks", **TWO_RANKS, policy="disaggregated"),
    _part("stages", pipeline_parallel=2),
)
