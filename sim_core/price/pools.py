"""Two pools: prices of prefill and decode workers, and of the way of a KV cache between them.

Rules of `disaggregated`, exact in `sim_core.engine.kernels.pools` and its plain twin:

- *Prefill.* One queue in order of arrival. A free worker (the first of them) takes whole prompts from its
  head: as many as have arrived, fit the token budget and the worker's memory, at least one, in one step. The
  first token leaves at the end of that step; an answer of one token is complete.
- *Back-pressure.* A worker holds the KV cache of a prompt until a decode worker has taken the request into a
  step. While the prompt at the head finds no room on any free worker, nothing starts.
- *Transfer.* Each prefill worker sends in order of completion over its own link: latency + bytes / bandwidth
  each. With `kv_overlap`, layers leave as they are computed, and only what the step cannot hide remains: the
  last layer, or whole - step x (layers - 1) / layers where the link is slower than the arithmetic.
- *Decode.* At the end of the transfer the request joins the queue of the decode worker with the fewest
  unfinished requests (the first of them), and from there on lives in an engine with chunked prefill: in its
  first step it makes its second token. A preempted request is computed again there, or swapped, as always.

The bytes of a prompt are those of its KV cache in all layers; a window does not shorten what is sent.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim_core.catalogue.models import Model
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import nothing_fits
from sim_core.price.price import Method, Price, price_of
from sim_core.price.step_cost import Transfer
from sim_core.price.work import BYTES_PER_VALUE
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import FIELDS, Scenario, model_of


class PoolPrices(NamedTuple):
    """What the workers of both pools cost, and sending from one to the other."""

    prefill: Price
    decode: Price
    transfer: Transfer

    def holds(self, model: Model, prompt_tokens: np.ndarray, output_tokens: np.ndarray) -> np.ndarray:
        """Return which requests a worker of either pool can hold; the others are rejected.

        Raises
        ------
        ScenarioError
            If there is none.
        """
        whole = prompt_tokens + output_tokens <= self.decode.request_limit_tokens
        fits = whole & (prompt_tokens <= self.prefill.request_limit_tokens)
        if not fits.any():
            raise ScenarioError(self.nothing_fits(model, prompt_tokens, output_tokens))
        return fits

    def nothing_fits(self, model: Model, prompt_tokens: np.ndarray, output_tokens: np.ndarray) -> str:
        """Return why no request fits, where none does, and the way out."""
        whole, limit = prompt_tokens + output_tokens, self.decode.request_limit_tokens
        if (whole > limit).all():
            return nothing_fits(model, limit, int(whole.min()))
        longest = self.prefill.request_limit_tokens
        return nothing_fits(model, longest, int(prompt_tokens.min()), "prompt alone, in the prefill pool")


def prefill_of(scenario: Scenario) -> Scenario:
    """Return the prefill pool as one pool of its own: workers as replicas."""
    alone = scenario.replace(spec_tokens=0)  # prompts are not drafted for
    return _pool(alone, scenario.prefill_tensor_parallel, scenario.prefill_workers)


def decode_of(scenario: Scenario) -> Scenario:
    """Return the decode pool as one pool of its own: workers as replicas."""
    return _pool(scenario, scenario.decode_tensor_parallel, scenario.decode_workers)


def _pool(scenario: Scenario, devices: int | None, workers: int) -> Scenario:
    devices = devices or scenario.tensor_parallel
    spread = math.gcd(devices, scenario.expert_parallel)
    return scenario.replace(
        policy="chunked", tensor_parallel=devices, expert_parallel=spread, replicas=workers
    )


def one_pool_of(scenario: Scenario) -> Scenario:
    """Return the same number of devices as one pool: engines with chunked prefill behind a router.

    They are as wide as a decode worker, or one device wide where that does not divide the devices.
    """
    devices = decode_of(scenario).tensor_parallel
    devices = devices if scenario.accelerators % devices == 0 else 1
    most = int(FIELDS["replicas"].high)
    if scenario.accelerators // devices > most:
        raise ScenarioError(
            f"{scenario.prefill_workers} prefill and {scenario.decode_workers} decode workers are "
            f"{scenario.accelerators // devices} engines as one pool; the limit is {most}. Take fewer."
        )
    whole = _pool(scenario, devices, scenario.accelerators // devices)
    return whole.replace(router="least_loaded")


def pool_prices(
    scenario: Scenario, profile: EngineProfile | None = None, method: Method | None = None
) -> PoolPrices:
    """Return the prices of a scenario's two pools; a measured profile is that of a worker of either.

    A `method` stands in the place of the scenario's calibration.

    Raises
    ------
    DoesNotFit
        If the weights and one KV block exceed the memory of a worker of either pool.
    """
    return PoolPrices(
        price_of(prefill_of(scenario), profile, method),
        price_of(decode_of(scenario), profile, method),
        transfer_of(scenario),
    )


def transfer_of(scenario: Scenario) -> Transfer:
    """Return what sending a KV cache takes."""
    model = model_of(scenario)
    value_bytes, byte_per_s = BYTES_PER_VALUE[scenario.kv_dtype], scenario.kv_link_gb_per_s * 1e9
    return Transfer(
        token_s=model.kv_bytes_per_token(value_bytes) / byte_per_s,
        latency_s=scenario.kv_link_latency_ms * 1e-3 + model.state_bytes(value_bytes) / byte_per_s,
        layers=model.layers,
        overlap=scenario.kv_overlap == "on",
    )
