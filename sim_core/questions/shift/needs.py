"""How many workers a stretch of traffic needs: each request in seconds of a prefill and of a decode worker.

A prefill worker computes a prompt as part of a full step; its seconds are the prompt's share of the step. A
decode worker runs the largest batch of requests like this one that its places, its KV cache and the limit on
TPOT allow; the request's seconds are its share of that batch's steps, of which there are as many as it has
tokens after the first.

So the seconds of all requests add up, whatever the mix, and traffic that arrives at a rate needs rate x mean
seconds of workers. That is what a fluid would need. Requests come at random and have to keep limits, so a
worker carries less: each pool's seconds are multiplied by a factor, found once by simulating half of the
workers as that pool with more than enough of the other, at the mean traffic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from sim_core.engine.work import shared
from sim_core.fields.errors import ScenarioError
from sim_core.price.pools import PoolPrices, pool_prices
from sim_core.price.step_cost import going, group_tokens_s, tokens_s
from sim_core.questions.disaggregation import highest_per_s, prefill_need_s
from sim_core.results.reuse import best_hit_frac
from sim_core.scenario.scenario import Scenario, model_of
from sim_core.traffic import demand as demands
from sim_core.traffic.draws import mean_lengths
from sim_core.traffic.requests import Requests, joined

FIT_REQUESTS = 12_000
REQUESTS_AN_ENGINE = 1500  # at least, of each rank of each worker
FIT_RUNS = 20  # about
SHUFFLE = 21  # stream of random numbers
WARM_UP = 0.3  # share of a trial's first requests that find the workers emptier than later ones


@dataclass(frozen=True, slots=True)
class Needs:
    """What requests take of the workers of each pool; the factors say how much more than a fluid would.

    A decode step of n sequences takes `base_s` + n `token_s`, and what reading their contexts takes; it makes
    `made` tokens of each. Of a worker with ranks of attention, each decodes so many, and prefills as much.
    """

    scenario: Scenario
    pools: PoolPrices
    base_s: float
    token_s: float
    prefill_factor: float = 1.0
    decode_factor: float = 1.0
    made: float = 1.0

    def __call__(self, prompt_tokens: np.ndarray, output_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the seconds that each request takes of a prefill worker and of a decode worker."""
        prompts, outputs = np.asarray(prompt_tokens, float), np.asarray(output_tokens, float)
        return (
            self.prefill_factor * self._prefill_s(prompts),
            self.decode_factor * self._decode_s(prompts, outputs),
        )

    def _prefill_s(self, prompts: np.ndarray) -> np.ndarray:
        """Return a prompt's share of the prefill step that it is part of [s]."""
        return prefill_need_s(self.pools.prefill, self.scenario, prompts, self.scenario.prefix_hit_frac)

    def _decode_s(self, prompts: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Return a request's share of the decode steps that it is part of [s]."""
        step, price = self.pools.decode.step, self.pools.decode
        limit_s = 1e-3 * self.scenario.slo_tpot_ms * self.made
        context = prompts + outputs / 2
        seen = np.minimum(context, step.window_tokens) if step.window_tokens else 0.0
        added_s = self.token_s + step.decode_context_s * context + step.window_context_s * seen
        held = price.kv_blocks * price.kv_block_tokens / (prompts + outputs)
        batch = np.minimum(np.minimum(held, (limit_s - self.base_s) / added_s), self.scenario.max_running)
        each_s = (self.base_s / np.maximum(batch, 1) + added_s) / price.ranks
        return np.maximum(outputs - 1, 0) / self.made * each_s


def needs_of(scenario: Scenario) -> Needs:
    """Return what requests take of the workers of a scenario's two pools, as a fluid would.

    Raises
    ------
    ScenarioError
        If the model does not fit a worker.
    """
    pools = pool_prices(scenario)
    step = pools.decode.step
    most = min(scenario.max_running, step.row_s.size - 1, step.token_s.size - 1)
    ends = np.array([1, most])
    verified, made, _ = going(step, ends)
    shared_s = group_tokens_s(step, pools.decode.ranks * verified)
    one_s, all_s = (tokens_s(step, verified) + step.row_s[ends] + shared_s).tolist()
    token_s = (all_s - one_s) / (most - 1) if most > 1 else 0.0
    return Needs(scenario, pools, one_s - token_s, max(token_s, 1e-9), made=float(made[1]))


def fitted(needs: Needs, lengths: Requests) -> Needs:
    """Return the needs with the factors at which a pool that has what it needs keeps the limits.

    `lengths` are requests of the mean traffic, in random order (their arrivals mean nothing).

    Raises
    ------
    ScenarioError
        If the limits are kept at no rate at all.
    """
    model = model_of(needs.scenario)
    lengths = lengths.take(needs.pools.holds(model, lengths.prompt_tokens, lengths.output_tokens))
    taken = [float(need.mean()) for need in needs(lengths.prompt_tokens, lengths.output_tokens)]
    scenario = needs.scenario
    workers = scenario.prefill_workers + scenario.decode_workers
    some, ample = max(workers // 2, 1), min(2 * workers, 256)
    sizes = {"prefill": (some, ample), "decode": (ample, some)}
    factors = []
    for (pool, (prefill, decode)), need_s in zip(sizes.items(), taken, strict=True):
        split = scenario.replace(
            prefill_workers=prefill,
            decode_workers=decode,
            arrivals="poisson",
            request_list="",
            requests=len(lengths),
            warmup_frac=WARM_UP,
            replicas=1,
        )
        fluid_per_s = some / need_s
        rate = highest_per_s(split, fluid_per_s, lengths)
        if rate == 0:
            raise ScenarioError(
                f"the {pool} pool keeps the limits at no rate: even alone, requests take longer. Allow more "
                f"than {scenario.slo_ttft_ms:g} ms to the first token and {scenario.slo_tpot_ms:g} ms per "
                "token, or choose a faster device."
            )
        factors.append(max(fluid_per_s / rate, 1.0))
    return replace(needs, prefill_factor=factors[0], decode_factor=factors[1])


@lru_cache(maxsize=32)
def fitted_needs(scenario: Scenario, trace: Requests | None = None) -> Needs:
    """Return what requests take of the workers, fitted to both kinds of traffic alike or to a trace."""
    engines = (
        scenario.prefill_workers * scenario.prefill_ranks + scenario.decode_workers * scenario.decode_ranks
    )
    count = max(FIT_REQUESTS, REQUESTS_AN_ENGINE * engines)
    random = np.random.default_rng((scenario.seed, SHUFFLE))
    if trace is None:
        drawn = [demands.sample(kind, count // 2) for kind in demands.kinds(scenario)]
        order = random.permutation(2 * (count // 2))
        mean = joined(drawn).take(order)
    else:
        mean = demands.by_themselves(trace).take(random.integers(0, len(trace), count))
    with shared(FIT_RUNS):
        return fitted(needs_of(scenario), mean.arriving_at(np.arange(float(len(mean)))))


def hit_frac_of(scenario: Scenario, trace: Requests | None) -> float:
    """Return the share of the prompts that a cache has at best, of both kinds of traffic alike."""
    if trace is not None:
        return float(f"{best_hit_frac(scenario, trace):.4g}")
    kinds = demands.kinds(scenario)
    sent = np.array([mean_lengths(kind)[0] for kind in kinds])
    return float(f"{np.average([best_hit_frac(kind) for kind in kinds], weights=sent):.4g}")


def utilisations(
    need_prefill: float | np.ndarray, need_decode: float | np.ndarray, workers: int
) -> np.ndarray:
    """Return the load of the busier pool for each number of prefill workers from 0 on, as a share.

    They lie along the last axis, after those of the needs. A pool without workers has infinite load.
    """
    split = np.arange(workers + 1, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        loads = np.maximum(
            np.asarray(need_prefill)[..., None] / split,
            np.asarray(need_decode)[..., None] / (workers - split),
        )
    loads[..., [0, -1]] = math.inf
    return loads
