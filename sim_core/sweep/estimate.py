"""An estimate of the capacity, by arithmetic alone: where a search for it begins.

An engine is looked at through B, the mean number of sequences that decode together, so that no equation has
to be solved. With o the tokens of an answer after its first, p those of a prompt, and context the cached
tokens that a decoding sequence reads:

    a(B)     tokens that each decode makes in a step: 1, or the acceptance length where drafts are verified
    d(B)     a step of B decodes alone, with their drafts
    m        = a B / mean(o), prompts that a step takes on; some in q = 1 - exp(-m) of the steps (Poisson)
    c(B)     what the prompts of such a step add to it
    T(B)     = (d + q c) / a, the mean time of an output token
    rate(B)  = B / (mean(o) T), by Little's law

The estimate is the rate at the largest B for which

1. the TPOT of the percentile asked for keeps its limit. T varies with B, whose variance is that of a queue
   with an unlimited number of servers that slow each other down, and with the prompts that an answer
   happens to meet; answers of n tokens average both over n / a steps, some of which make a token more than
   others. The time is taken as lognormal;
2. a prompt of that percentile, after the wait in a queue for prompts, keeps the limit on TTFT. The wait is
   that of heavy traffic (Kingman), an exponential tail;
3. so does one that finds all places, or the KV cache, taken: the chance of that is Halfin's and Whitt's.

Replicas behind a router that looks at them get more out of each: what one leaves below the bound without
tails shrinks with the number of replicas to the power `POOLING`, a fit.

Where ranks of attention share their experts, B counts the decodes of all of them. A step takes as long as the
rank with the most: its decodes are the mean, its contexts and its prompts the highest of as many.

It leaves out: bursts but for the wait for prompts, preemption, and who follows whom. It is 10% above the
simulated capacity in the median, 1 to 2 times where prompts fill the limit on TTFT; only a search starts
here.

References
----------
Kingman (1961), "The single server queue in heavy traffic".
Halfin, Whitt (1981), "Heavy-traffic limits for queues with many exponential servers".
Little (1961), "A proof for the queuing formula L = lambda W".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from sim_core.engine.run import cannot_fit
from sim_core.price.priced import Priced
from sim_core.price.step_cost import TOKEN, StepCost
from sim_core.price.steps.rounds import of_rounds
from sim_core.results.classes import limits_of_engine
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import Requests
from sim_core.traffic.texts import known_before

FEWEST = 0.02  # decodes in a step: a trickle
HALVINGS = 12
QUANTILES = (np.arange(24) + 0.5) / 24
POOLING = -0.45
POOLED_LIMIT = 1.02  # of the bound, that many replicas reach
NORMAL = NormalDist()


@dataclass(frozen=True)
class Lengths:
    """What the estimate needs to know of the requests' lengths; all means but where said. [tokens]

    Attributes
    ----------
    prompt, prompt_square, prompt_cv
        Of prompts as far as they are computed: without what a prefix cache may hold of them at best; the
        square is that of the pairs of tokens, half of which attention computes. `prompt_long` is the one
        at the percentile of the limits.
    output, output_cv, outputs
        Of the answers after their first token, and some quantiles.
    context, window
        Cached tokens that a decoding sequence reads, and those of them within the attention's window.
    held, held_cv
        KV cache that a decoding sequence holds.
    """

    prompt: float
    prompt_square: float
    prompt_cv: float
    prompt_long: float
    output: float
    output_cv: float
    outputs: np.ndarray
    context: float
    window: float
    held: float
    held_cv: float


def lengths_of(scenario: Scenario, sent: Requests, step: StepCost, block_tokens: int) -> Lengths:
    """Return what the lengths of some requests amount to."""
    caching = scenario.prefix_caching == "on"
    hit_frac = 0.0 if caching else scenario.prefix_hit_frac
    return _lengths(sent, step.window_tokens, block_tokens, scenario.slo_percentile, hit_frac, caching)


def _found(sent: Requests, hit_frac: float, caching: bool) -> np.ndarray:
    """Return the tokens of each prompt that a cache may hold at best: all that was said before."""
    prompts = sent.prompt_tokens.astype(float)
    if not caching:
        return hit_frac * prompts
    if sent.blocks is not None:
        return np.minimum(known_before(sent), prompts - 1)
    known = np.zeros_like(prompts) if sent.known_tokens is None else sent.known_tokens.astype(float)
    return np.minimum(np.maximum(known, sent.system_tokens), prompts - 1)


@lru_cache(maxsize=32)
def _lengths(
    sent: Requests,
    window_tokens: int,
    block_tokens: int,
    percentile: float,
    hit_frac: float,
    caching: bool,
) -> Lengths:
    whole, outputs = sent.prompt_tokens.astype(float), sent.output_tokens - 1.0
    found = _found(sent, hit_frac, caching)
    prompts = np.maximum(whole - found, 1.0)
    weights = outputs if outputs.any() else np.ones_like(outputs)
    held = whole + 0.5 * outputs
    context = float(np.average(held, weights=weights))
    spread = float(np.average((held - context) ** 2, weights=weights))
    return Lengths(
        prompt=float(prompts.mean()),
        prompt_square=float((whole**2 - found**2).mean()),
        prompt_cv=float(prompts.std() / prompts.mean()),
        prompt_long=float(np.percentile(prompts, percentile)),
        output=float(outputs.mean()),
        output_cv=float(outputs.std() / outputs.mean()) if outputs.any() else 0.0,
        outputs=np.maximum(np.quantile(outputs, QUANTILES), 1.0),
        context=context,
        window=float(np.average(np.minimum(held, window_tokens), weights=weights)),
        held=context + 0.5 * block_tokens,
        held_cv=math.sqrt(spread) / context,
    )


@lru_cache(maxsize=32)
def gap_cv(sent: Requests) -> float:
    """Return how much the gaps between arrivals vary; 1, as of Poisson's, where there are none."""
    gaps_s = np.diff(sent.arrival_s)
    return float(gaps_s.std() / gaps_s.mean()) if gaps_s.any() else 1.0


class Engine:
    """One engine under Poisson traffic, by the formulas above."""

    def __init__(self, known: Priced, sent: Requests) -> None:
        scenario, price = known.scenario, of_rounds(known.price)
        self.stages = known.price.stages
        self.scenario, self.step = scenario, price.step
        self.lengths = lengths_of(scenario, sent, price.step, price.kv_block_tokens)
        self.limits = limits_of_engine(scenario)
        self.ttft_s, self.tpot_s = self.limits.ttft_ms / 1e3, self.limits.tpot_ms / 1e3
        self.over_s = price.before_s(sent.prompt_tokens) + price.request_after_s
        self.miss_frac = 1 - scenario.slo_percentile / 100
        self.places = float(price.ranks * scenario.max_running)
        self.ranks = price.ranks
        self.held_places = self.ranks * price.kv_blocks * price.kv_block_tokens / self.lengths.held
        self.chunked = scenario.policy == "chunked"
        self.bursts = scenario.arrival_cv**2 if scenario.arrivals == "gamma" else 1.0
        if scenario.arrivals == "trace":
            self.bursts = gap_cv(sent) ** 2
        self.paces = [
            (1 + drafts, advance / TOKEN, scale) for drafts, advance, scale in self.step.paces.tolist()
        ]

    @cached_property
    def most(self) -> float:
        """The most sequences that can decode together."""
        most, size = min(self.places, self.held_places), self.lengths
        if self.chunked:
            verified, made, _ = self.going(most)
            answers = verified / most * size.output
            most = min(most, self.budget * size.output / (made * size.prompt + answers))
        return max(most, FEWEST)

    @property
    def budget(self) -> float:
        """Tokens that all ranks may take in a step, or all stages in a round."""
        return float(self.ranks * self.stages * self.scenario.token_budget)

    def going(self, decodes: float) -> tuple[float, float, float]:
        """Return the tokens of a step of decodes, those that each makes, and what their contexts cost."""
        tokens, made, scale = self.paces[min(int(decodes / self.ranks), len(self.paces) - 1)]
        return tokens * decodes, made, scale

    def step_s(self, decodes: float, prompts: float, verified: float, prompt_tokens: float) -> float:
        """Return what the new tokens and sampled rows of a step take, contexts apart.

        Of several ranks those of the fullest count, and the tokens of all for what ranks share.
        """
        together = verified + prompt_tokens
        if self.ranks == 1:
            return self.tokens_s(together, decodes + prompts)
        step, full = self.step, fullest(prompts, self.ranks)
        fewest = verified / max(decodes, 1.0)  # a decode is on one rank as a whole
        tokens = max(verified / self.ranks, fewest) + (full / prompts * prompt_tokens if prompts else 0.0)
        beyond = max(together - (len(step.group_s) - 1), 0.0) * step.group_slope_s
        shared_s = _read(step.group_s, together) + beyond
        return self.tokens_s(tokens, max(decodes / self.ranks + full, 1.0)) + shared_s

    def tokens_s(self, tokens: float, rows: float) -> float:
        """Return what new tokens and sampled rows of one rank take."""
        token_s, row_s = self.step.token_s, self.step.row_s
        beyond = max(tokens - (len(token_s) - 1), 0.0) * self.step.token_slope_s
        return _read(token_s, tokens) + beyond + _read(row_s, rows)

    def context_s(self, decodes: float) -> float:
        size, step = self.lengths, self.step
        scale = self.going(decodes)[2]
        each_s = step.decode_context_s * size.context + step.window_context_s * size.window
        if self.ranks == 1:
            return scale * decodes * each_s
        own = decodes / self.ranks
        full = own + highest_of(self.ranks) * math.sqrt(own) * size.held_cv
        return scale * max(full, min(decodes, 1.0)) * each_s

    def decode_s(self, decodes: float) -> float:
        """Return d, a step without prompts; there is none without a decode."""
        decodes = max(decodes, 1.0)
        return self.step_s(decodes, 0.0, self.going(decodes)[0], 0.0) + self.context_s(decodes)

    def room(self, decodes: float) -> float:
        """Return how many tokens of prompts a step takes."""
        return max(self.budget - (self.going(decodes)[0] if self.chunked else 0.0), 1.0)

    def prompts_s(self, decodes: float, alone_s: float | None = None) -> tuple[float, float]:
        """Return q, the share of steps with prompts, and c, what those add to them.

        `alone_s` is a step without prompts, where that is known already.
        """
        size, step = self.lengths, self.step
        _, made, _ = self.going(decodes)
        per_step = decodes * made / size.output
        share = -math.expm1(-per_step)
        each = per_step / share
        if each * size.prompt > self.room(decodes):
            each = self.room(decodes) / size.prompt
            share = per_step / each if not self.chunked else min(per_step / each, 1.0)
        own = fullest(each, self.ranks)
        own_s = own * (step.prefill_pair_s * size.prompt_square / 2 + step.prefill_request_s)
        own_s += step.prefill_step_s * (1.0 if self.chunked else min(each, 1.0))  # a long prompt is one step
        prompts, prompt_tokens = max(each, 1.0), each * size.prompt
        if self.chunked:
            beside = max(decodes, 1.0)
            whole_s = self.step_s(beside, prompts, self.going(beside)[0], prompt_tokens)
            whole_s += self.context_s(beside)
            return share, whole_s - (self.decode_s(decodes) if alone_s is None else alone_s) + own_s
        return share, self.step_s(0.0, prompts, 0.0, prompt_tokens) + own_s

    def token_s(self, decodes: float) -> float:
        """Return T, the mean time of an output token."""
        alone_s = self.decode_s(decodes)
        share, more_s = self.prompts_s(decodes, alone_s)
        return (alone_s + share * more_s) / self.going(decodes)[1]

    def rate_per_s(self, decodes: float) -> float:
        return decodes / (self.lengths.output * self.token_s(decodes))

    def lone_s(self, decodes: float) -> float:
        """Return the time to the first token of a long prompt that waits for nobody."""
        step, long = self.step, self.lengths.prompt_long
        beside = decodes if self.chunked else 0.0
        tokens = self.going(beside)[0]
        room = self.room(decodes) / self.ranks
        full, rest = divmod(long, room)
        chunks = [room] * int(full) + ([rest] if rest >= 1 else [])
        steps_s = sum(self.step_s(beside, 1, tokens, chunk) + self.context_s(beside) for chunk in chunks)
        own_s = step.prefill_pair_s * long**2 / 2 + step.prefill_request_s
        own_s += step.prefill_step_s * (len(chunks) if self.chunked else 1)
        return self.over_s + self.decode_s(decodes) + steps_s + own_s

    # the conditions

    @cached_property
    def bound_decodes(self) -> float:
        """The most decodes whose mean keeps the limits; 0 if not even a trickle does."""
        return _most(self.fits_mean, self.most)

    @cached_property
    def decodes(self) -> float:
        """The most decodes of which the percentile keeps the limits; 0 if not even a trickle does."""
        return _most(self.fits_tails, min(self.most, self.bound_decodes)) if self.bound_decodes else 0.0

    @cached_property
    def _first_s(self) -> float:
        """The time to the first token of a mean prompt that is alone."""
        return self.over_s + self.tokens_s(self.lengths.prompt, 1.0)

    def fits_mean(self, decodes: float) -> bool:
        """Return whether the mean keeps the limits: a bound on the capacity, but for luck."""
        return self.token_s(decodes) <= self.tpot_s and self._first_s <= self.ttft_s

    def fits_tails(self, decodes: float) -> bool:
        """Return whether the percentile keeps the limits, too."""
        return self.fits_mean(decodes) and self._keeps_tpot(decodes) and self._keeps_ttft(decodes)

    def _keeps_tpot(self, decodes: float) -> bool:
        size, mean_s = self.lengths, self.token_s(decodes)
        step_s, slope_s = self.decode_s(decodes), _slope(self.decode_s, decodes)
        share, more_s = self.prompts_s(decodes)
        pull = min(decodes * slope_s / step_s, 0.95)
        variance = decodes / (1 - pull) * (1 + pull * size.held_cv**2)
        memory = size.outputs * (1 - pull) / size.output
        averaged = 2 * (memory + np.expm1(-memory)) / memory**2
        met = share * more_s**2 * (1 + 0.8 * size.prompt_cv**2) - (share * more_s) ** 2
        made = self.going(decodes)[1]
        lucky = (made % 1) * (1 - made % 1) / made * mean_s**2  # of a token, whose steps make more or less
        own = (met / made + lucky) / size.outputs
        total = (slope_s * mean_s / step_s) ** 2 * variance * averaged + own
        log_variance = np.log1p(np.maximum(total, 1e-12 * mean_s**2) / mean_s**2)
        scores = (math.log(self.tpot_s / mean_s) + log_variance / 2) / np.sqrt(log_variance)
        return sum(NORMAL.cdf(-score) for score in scores.tolist()) / scores.size <= self.miss_frac

    def _keeps_ttft(self, decodes: float) -> bool:
        size, rate_per_s = self.lengths, self.rate_per_s(decodes)
        share, more_s = self.prompts_s(decodes)
        service_s = share * more_s * size.output / (decodes * self.going(decodes)[1])
        busy = rate_per_s * service_s
        if busy >= 1:
            return False
        wait_s = rate_per_s * service_s**2 * (self.bursts + size.prompt_cv**2) / (2 * (1 - busy))
        tail = math.log(max(busy / self.miss_frac, 1.0)) if self.miss_frac else 10.0
        slack_s = self.ttft_s - self.lone_s(decodes) - wait_s * tail
        return slack_s >= 0 and all(
            self._is_full(decodes, places, slack_s) <= self.miss_frac
            for places in (self.places, self.held_places)
        )

    def _is_full(self, decodes: float, places: float, slack_s: float) -> float:
        """Return the chance that a request waits for a place for longer than there is time."""
        free = places - decodes
        if free <= 0:
            return 1.0
        margin = free / math.sqrt(decodes)
        waits = 1 / (1 + margin * NORMAL.cdf(margin) / NORMAL.pdf(margin)) if margin < 30 else 0.0
        life_s = self.lengths.output * self.token_s(decodes)
        return waits * math.exp(-free * slack_s / life_s * 2 / (1 + self.lengths.output_cv**2))


def fullest(count: float, ranks: int) -> float:
    """Return how many of some prompts the rank with the most of them has, on average, about."""
    if ranks == 1:
        return count
    mean = count / ranks
    return min(count, max(mean + highest_of(ranks) * math.sqrt(mean), 1.0))


# The mean of the highest of 1, 2, 4 ... 64 normal variables, in their standard deviations (Tippett, "On the
# extreme individuals", Biometrika 17, 1925).
HIGHEST = (0.0, 0.564, 1.029, 1.424, 1.766, 2.070, 2.343)


@lru_cache(maxsize=64)
def highest_of(count: int) -> float:
    """Return by how many standard deviations the highest of some normal variables lies above their mean."""
    return float(np.interp(math.log2(count), np.arange(len(HIGHEST)), HIGHEST))


def _read(table: np.ndarray, at: float) -> float:
    """Return a table between its entries; its last one beyond."""
    below = min(int(at), len(table) - 1)
    above = min(below + 1, len(table) - 1)
    return float(table[below] + min(at - below, 1.0) * (table[above] - table[below]))


def _slope(function: Callable[[float], float], at: float) -> float:
    return (function(1.05 * at) - function(0.95 * at)) / (0.1 * at)


def _most(fits: Callable[[float], bool], most: float) -> float:
    """Return the largest number of decodes that fits, 0 if not even a trickle does."""
    if not fits(FEWEST):
        return 0.0
    if fits(most):
        return most
    low, high = math.log(FEWEST), math.log(most)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fits(math.exp(middle)) else (low, middle)
    return math.exp(low)


def has_estimate(scenario: Scenario) -> bool:
    """Return whether the formulas hold: one pool with continuous batching."""
    return scenario.policy in ("chunked", "prefill_first")


class CapacityEstimate(NamedTuple):
    """What arithmetic alone says of a scenario's capacity.

    Attributes
    ----------
    per_s : float
        The capacity of all replicas; 0 where not even a trickle keeps the limits. [1/s]
    decodes : float
        Sequences that then decode together, in all engines.
    trickle_per_s : float
        A rate at which a request is nearly always alone. [1/s]
    """

    per_s: float
    decodes: float
    trickle_per_s: float


def estimate_of(known: Priced, sent: Requests) -> CapacityEstimate | None:
    """Return the estimate for an engine that serves requests of such lengths.

    None where no request fits it, or no answer has a second token.
    """
    kept = sent.take(~cannot_fit(known, sent))
    if not len(kept) or not (kept.output_tokens > 1).any():
        return None
    engine, count = Engine(known, kept), known.scenario.engines
    decodes = _most(engine.fits_tails, engine.most)
    per_s = _pooled_per_s(engine, decodes) if decodes else 0.0
    return CapacityEstimate(count * per_s, count * decodes, count * engine.rate_per_s(FEWEST))


def _pooled_per_s(engine: Engine, decodes: float) -> float:
    """Return the capacity of one engine among the replicas."""
    alone_per_s, count = engine.rate_per_s(decodes), engine.scenario.engines
    if count == 1 or engine.scenario.router != "least_loaded":
        return alone_per_s
    bound_per_s = engine.rate_per_s(_most(engine.fits_mean, engine.most))
    return pooled_per_s(bound_per_s, alone_per_s, count)


def pooled_per_s(bound_per_s: float, alone_per_s: float, count: int) -> float:
    """Return the capacity of one of so many engines behind a router that looks at them; see the module."""
    together_per_s = max(POOLED_LIMIT * bound_per_s, alone_per_s)
    return together_per_s - (together_per_s - alone_per_s) * count**POOLING
