"""The candidates of a plan: every engine that may vary as asked, priced, with a bound on what it can serve.

They are made in the order of what prices depend on, so that tables are used again. Of batch limits, those
that the engine does not reach even at its bound, by six standard deviations of a Poisson number, are one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sim_core.catalogue.accelerators import Accelerator, accelerator
from sim_core.catalogue.engines import engine as serving_engine
from sim_core.engine.run import cannot_fit
from sim_core.engine.work import raise_if_stopped
from sim_core.evidence.blind import Band
from sim_core.evidence.trust import VALIDATED, Trust, trust
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import DoesNotFit
from sim_core.price.price import slowed
from sim_core.price.priced import Priced, priced
from sim_core.questions.deployment.answer import layout_name
from sim_core.questions.deployment.layouts import Shape, sensible_widths
from sim_core.questions.deployment.question import FREE, LAYOUT, Question
from sim_core.questions.deployment.recorded import by_means, keeps_pattern
from sim_core.questions.deployment.search.losers import Losers
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.scenario import DEFAULTS, Scenario, accelerator_of, model_of
from sim_core.sweep.capacity import SHORT_REQUESTS, open_loop
from sim_core.sweep.estimate import FEWEST, Engine
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import Requests

SAFE = 1.05  # times the bound that no engine was seen to exceed, nor its part of a pool of replicas
DEVIATIONS = 6
SETTINGS = {key: DEFAULTS[key] for key in ("max_batch", "token_budget", "policy")}
OUTER = ("weight_dtype", "kv_dtype", "engine")


@dataclass(slots=True, eq=False)
class Sizing:
    """An engine at some prices: what it can serve by arithmetic alone."""

    engine: Engine

    @property
    def bound_per_s(self) -> float:
        """The rate whose mean keeps the limits. [1/s]"""
        decodes = self.engine.bound_decodes
        return self.engine.rate_per_s(decodes) if decodes else 0.0

    @property
    def estimate_per_s(self) -> float:
        """The rate of which the percentile keeps them, about. [1/s]"""
        decodes = self.engine.decodes
        return self.engine.rate_per_s(decodes) if decodes else 0.0


@dataclass(eq=False)
class Candidate:
    """One engine, of which a deployment has as many as the rate needs.

    Attributes
    ----------
    scenario : Scenario
        One of it, under the planned rate.
    known : Priced
        With the prices that the ranking counts on.
    sent : Requests
        Requests that fit it, to size it by.
    devices : int
        Of one.
    weight : float
        What one is worth: USD an hour, devices or watts.
    slow : float
        Times as long as predicted that its steps take in the ranking.
    spare : int
        How many more than the rate needs there are, whatever the rate.
    trace : Requests or None
        What is replayed in place of drawn requests.
    bound_per_s : float
    """

    scenario: Scenario
    known: Priced
    sent: Requests
    devices: int
    weight: float
    slow: float = 1.0
    spare: int = 0
    trace: Requests | None = None
    equal: list[str] = field(default_factory=list)

    @cached_property
    def sizing(self) -> Sizing:
        return Sizing(Engine(self.known, self.sent))

    @cached_property
    def bound_per_s(self) -> float:
        """More than it can serve. [1/s]

        Of a trace, those that may miss the limits may all come at once: the others come at a lower rate.
        """
        within = self.scenario.slo_percentile / 100 if keeps_pattern(self.scenario) else 1.0
        return SAFE * self.sizing.bound_per_s / within

    @cached_property
    def estimate_per_s(self) -> float:
        """What it can serve alone, about. [1/s]"""
        return self.sizing.estimate_per_s

    @cached_property
    def trust(self) -> Trust:
        return trust(by_means(self.scenario, self.trace))

    @cached_property
    def family(self) -> Scenario:
        """The engine without its settings, of which a ranking shows the best."""
        return self.scenario.replace(**SETTINGS)

    @property
    def band(self) -> Band:
        """Times as long as predicted that a step may take."""
        return self.trust.tpot_band

    def sized(self, factor: float) -> Sizing:
        """Return it with steps that take so many times as long as predicted."""
        return Sizing(Engine(_slowed(self.known, factor / self.slow), self.sent))

    def deployed(self, counts: tuple[int, ...], **changes: Any) -> Priced:
        """Return so many replicas, priced as the ranking counts."""
        known = priced(self.scenario.replace(replicas=counts[0], **changes))
        return known if self.slow == 1.0 else _slowed(known, self.slow)

    def devices_of(self, counts: tuple[int, ...]) -> int:
        """Return the accelerators of so many replicas and the spare ones."""
        return (counts[0] + self.spare) * self.devices

    def worth(self, counts: tuple[int, ...]) -> float:
        """Return what so many replicas and the spare ones cost, in the objective's unit."""
        return (counts[0] + self.spare) * self.weight

    def together(self, counts: tuple[int, ...]) -> float:
        """Return how many requests they decode at once: no more than fit, nor than arrive in a life."""
        scenario, size = self.scenario, self.sizing.engine.lengths
        arrive = scenario.arrival_per_s * size.output * self.sizing.engine.tpot_s
        return min(counts[0] * self.sizing.engine.bound_decodes, arrive)


def _slowed(known: Priced, factor: float) -> Priced:
    return Priced(known.scenario, known.model, known.accelerator, slowed(known.price, factor))


class Field:
    """All candidates of a question: those that could serve something, and why the others cannot."""

    def __init__(self, question: Question) -> None:
        self.question, self.losers = question, Losers()
        self._sent: dict[str, Requests] = {}
        self._fitting: dict[tuple[str, int], tuple[Requests, float]] = {}
        self.sent = self.sent_to(question.scenario.model)
        self.found: list[Candidate] = []
        for scenario, batches in _engines(question, self.losers):
            raise_if_stopped()
            self._enter(scenario, batches)
        self.count = len(self.found) + sum(self.losers.counts().values())

    def sent_to(self, model: str) -> Requests:
        """Return requests to size an engine by; conversations end where the context of its model does."""
        asked = self.question
        if model not in self._sent:
            planned = _planned(asked, asked.with_model(model))
            wanted = 1 if asked.replays else SHORT_REQUESTS
            sent = requests_sent(planned.replace(requests=asked.requests_of_run(wanted)), asked.trace)
            if not (sent.output_tokens > 1).any():
                raise ScenarioError(
                    "all answers have one token, so there is no time between tokens to keep; "
                    "raise output_tokens to 2 or more."
                )
            self._sent[model] = sent
        return self._sent[model]

    def _enter(self, scenario: Scenario, batches: Sequence[int]) -> None:
        """Enter an engine with each batch limit that makes a difference."""
        for place, batch in enumerate(batches):
            left = len(batches) - place
            candidate = self._candidate(scenario, batch, left)
            if candidate is None:
                return
            self.found.append(candidate)
            decodes = candidate.sizing.engine.bound_decodes / scenario.attention_data_parallel
            if decodes + DEVIATIONS * math.sqrt(decodes) <= batch and left > 1:
                candidate.equal += [f"max_batch={other}" for other in batches[place + 1 :]]
                words = f"a batch limit of {batch} is not reached, so larger ones change nothing."
                self.losers.add("equal", candidate.scenario, words, count=left - 1)
                return

    def _candidate(self, scenario: Scenario, batch: int, left: int) -> Candidate | None:
        """Return the candidate with a batch limit, None if neither it nor one with a larger can be."""
        try:
            scenario = scenario.replace(max_batch=batch)
            known = priced(scenario)
        except ScenarioError as error:
            limit, words = "memory" if isinstance(error, DoesNotFit) else "scenario", str(error)
            self.losers.add(limit, scenario, words, 1 / scenario.accelerators, left)
            return None
        asked = self.question
        found = Candidate(scenario, known, *self._fits(known), 0.0, spare=asked.spare, trace=asked.trace)
        return self._sized(found, left)

    def _fits(self, known: Priced) -> tuple[Requests, int]:
        """Return the requests that fit an engine, and its devices."""
        key, sent = self._fitting_key(known), self.sent_to(known.scenario.model)
        if key not in self._fitting:
            rejected = cannot_fit(known, sent)
            share = float(rejected.mean())
            self._fitting[key] = sent.take(~rejected) if share else sent, share
        return self._fitting[key][0], known.price.accelerators

    @staticmethod
    def _fitting_key(known: Priced) -> tuple[str, int]:
        return known.scenario.model, known.price.request_limit_tokens

    def _sized(self, candidate: Candidate, left: int) -> Candidate | None:
        """Return a candidate with its worth and bound, None where it can serve nothing."""
        scenario, part = candidate.scenario, candidate.known.accelerator
        weight = weight_of(self.question.objective, part, candidate.devices)
        if weight is None:
            self.losers.add("price", scenario, _no_weight(self.question.objective, part), 0.0, left)
            return None
        candidate.weight = weight
        if self.question.ranking == "pessimistic":
            _slow_down(candidate)
        share = self._fitting[self._fitting_key(candidate.known)][1]
        if share > 1 - scenario.slo_percentile / 100:
            self.losers.add("rejected", scenario, lambda: _too_long(candidate, share), share, left)
            return None
        if not candidate.sizing.engine.bound_decodes:
            self._lose_by_floor(candidate, left)
            return None
        return candidate

    def _lose_by_floor(self, candidate: Candidate, left: int) -> None:
        """Enter a candidate that misses a limit even with nobody else in the engine."""
        engine, scenario = candidate.sizing.engine, candidate.scenario
        limits = engine.limits
        tpot_ms = 1e3 * engine.token_s(FEWEST)
        ttft_ms = 1e3 * (engine.over_s + engine.tokens_s(engine.lengths.prompt, 1.0))
        over = {"tpot": tpot_ms / limits.tpot_ms, "ttft": ttft_ms / limits.ttft_ms}
        limit = max(over, key=lambda name: over[name])
        value, allowed = (tpot_ms, limits.tpot_ms) if limit == "tpot" else (ttft_ms, limits.ttft_ms)
        name = name_of(scenario)
        words = f"{name}: even alone, {limit.upper()} is {value:.4g} ms; the limit is {allowed:.4g} ms."
        self.losers.add(limit, scenario, words, over[limit], left)

    def trusted(self) -> tuple[list[Candidate], list[Candidate]]:
        """Return the candidates in the validated region, and the others."""
        inside = [each for each in self.found if each.trust.badge == VALIDATED]
        return inside, [each for each in self.found if each.trust.badge != VALIDATED]


def _slow_down(candidate: Candidate) -> None:
    """Let a candidate's steps take as long as its band allows."""
    high = candidate.band.high
    candidate.slow = high if np.isfinite(high) and high > 1 else 1.0
    candidate.known = _slowed(candidate.known, candidate.slow)


def name_of(scenario: Scenario) -> str:
    """Return an engine on its accelerators in words, such as ``4 H100 SXM (TP4, fp8)``."""
    name, devices = accelerator_of(scenario).name, scenario.replace(replicas=1).accelerators
    return f"{devices} {name} ({layout_name(scenario)}, {scenario.weight_dtype})"


def _too_long(candidate: Candidate, share: float) -> str:
    limit = candidate.known.price.request_limit_tokens
    return (
        f"{name_of(candidate.scenario)}: {100 * share:.3g}% of the requests are longer than the "
        f"{limit:,} tokens that an engine can hold; {100 - candidate.scenario.slo_percentile:.3g}% may be."
    )


def weight_of(objective: str, part: Accelerator, devices: int) -> float | None:
    """Return what so many devices are worth: USD an hour, watts or themselves; None where it is not known."""
    if objective.startswith("usd"):
        return part.price_usd_per_hour and devices * part.price_usd_per_hour
    if objective == "joule_per_tok":
        return part.tdp_w and devices * part.tdp_w
    return float(devices)


def _no_weight(objective: str, part: Accelerator) -> str:
    key = "price_usd_per_hour" if objective.startswith("usd") else "tdp_w"
    return f"{part.name} has no {key}; set it, or choose objective=devices."


# --- what may vary --------------------------------------------------------------------------------


def _planned(question: Question, scenario: Scenario) -> Scenario:
    """Return a scenario under the planned rate, in an open loop and one pool."""
    scenario = scenario.replace(trace_times="scaled") if question.replays else open_loop(scenario)
    policy = "chunked" if scenario.policy in ("static", "disaggregated") else scenario.policy
    return scenario.replace(arrival_per_s=question.planned_per_s, replicas=1, policy=policy)


def _engines(question: Question, losers: Losers) -> Iterator[tuple[Scenario, Sequence[int]]]:
    """Yield the engines that may vary as asked, in the order of what prices depend on, with batch limits."""
    free, batches = question.free, _values(question, "max_batch")
    policies = [value for value in _values(question, "policy") if value != "disaggregated"]
    for base in scenarios_of(question):
        budgets = FREE["token_budget"] if "token_budget" in free else (base.token_budget,)
        for shape in shapes_for(base, free):
            _make_tables(base, shape, budgets, min(batches))
            for budget, policy in itertools.product(budgets, policies):
                keys = {"token_budget": budget} | ({"policy": policy} if "policy" in free else {})
                try:
                    yield base.replace(**shape.keys(), **keys), batches
                except ScenarioError as error:
                    losers.add("scenario", base, str(error), 1.0, len(batches))


def _make_tables(base: Scenario, shape: Shape, budgets: Sequence[int], batch: int) -> None:
    """Price the largest budget of an engine, of whose tables those of the others are beginnings."""
    if len(budgets) > 1:
        with suppress(ScenarioError):
            priced(base.replace(**shape.keys(), token_budget=max(budgets), max_batch=batch))


def scenarios_of(question: Question) -> Iterator[Scenario]:
    """Yield the scenario of each model on each accelerator, in each precision and on each engine."""
    models = question.models or (question.scenario.model,)
    plains = [_planned(question, question.with_model(name)) for name in models]
    for plain, name in itertools.product(plains, question.accelerators):
        for outer in itertools.product(*(_values(question, key) for key in OUTER)):
            changes = dict(zip(OUTER, outer, strict=True))
            if not changes["engine"] or _runs_on(changes["engine"], name):
                yield with_changes(plain, accelerator=name, **changes)


def _values(question: Question, key: str) -> Sequence[Any]:
    """Return the values that a key takes."""
    if key in question.free:
        return FREE[key]
    return (getattr(_planned(question, question.scenario), key),)


def _runs_on(engine: str, name: str) -> bool:
    vendor = serving_engine(engine).vendor
    return not vendor or vendor == accelerator(name).vendor


def shapes_for(scenario: Scenario, free: Sequence[str]) -> list[Shape]:
    """Return the shapes of an engine: within a node, and the narrowest that fits beyond where none does.

    Experts spread over all devices of a group with ranks of attention may lie on several nodes.
    """
    experts = model_of(scenario).experts or 0
    stages = FREE["pipeline_parallel"] if "pipeline_parallel" in free else (scenario.pipeline_parallel,)
    found = []
    inside = _widths(scenario, free)
    for width, count in itertools.product(inside, stages):
        spread = _spreads(scenario, free, width, experts)
        found += [Shape(width, ranks, experts_over, count) for ranks, experts_over in spread]
    if set(LAYOUT) <= set(free):  # ranks of attention keep off the network between nodes what can be kept
        wider = [width for width in FREE["tensor_parallel"] if width > max(inside)]
        found += [Shape(width, width, width) for width in wider if experts and experts % width == 0]
    return found


def _widths(scenario: Scenario, free: Sequence[str]) -> Sequence[int]:
    if "tensor_parallel" not in free:
        return (scenario.tensor_parallel,)
    return sensible_widths(scenario, FREE["tensor_parallel"])


def _spreads(scenario: Scenario, free: Sequence[str], width: int, experts: int) -> list[tuple[int, int]]:
    """Return how attention and experts may lie on a group: ranks, and devices that share the experts."""
    whole = {1, width} if experts and experts % width == 0 else {1}
    over = whole if "expert_parallel" in free else {scenario.expert_parallel}
    if "attention_data_parallel" not in free:
        return sorted(itertools.product({scenario.attention_data_parallel}, over))
    ranks = {(width, width)} if experts and width in over and width > 1 else set()
    return sorted({(1, count) for count in over} | ranks)
