"""Two pools: prices of prefill and decode workers, and of the way of a KV cache between them.

Rules of `disaggregated`, exact in `sim_core.engine.kernels.pools` and its plain twin:

- *Prefill.* One queue in order of arrival. A free worker (the first of them) takes whole prompts from its
  head: as many as have arrived, fit the token budget and the worker's memory, at least one, in one step. The
  first token leaves at the end of that step; an answer of one token is complete.
- *Ranks.* Each prompt lives on one of a worker's ranks of attention, which computes it alone, with memory and
  token budget of its own: of those with room the one with the fewest tokens in the step, of equals the one
  with the most free memory, then the first. All ranks take each step together
  (`sim_core.engine.kernels.pools.group`), so a lone prompt takes as long as on one rank's devices.
- *Back-pressure.* A worker holds the KV cache of a prompt until a decode worker has taken the request into a
  step. While the prompt at the head finds no room on any free worker, nothing starts.
- *Prefix cache.* Each rank keeps the prompts that have left it, by the rules of one pool, and computes of a
  prompt what it does not find; all of its KV cache is sent. By `session` or `round_robin` each worker has a
  queue of its own, to which requests go as they are sent; else there is the one.
- *Transfer.* Each rank of a prefill worker sends in order of completion over a link of its own: latency +
  bytes / bandwidth each. With `kv_overlap`, layers leave as they are computed, and only what the step cannot
  hide remains: the last layer, or whole - step x (layers - 1) / layers where the link is slower than the
  arithmetic.
- *Decode.* At the end of the transfer the request joins the queue of the decode worker with the fewest
  unfinished requests (the first of them), and there of the rank with the fewest, as engines route in two
  steps; from there on it lives in an engine with chunked prefill: in its first step it makes its second
  token. A preempted request is computed again there, or swapped, as always.

The bytes of a prompt are those of its KV cache in all layers; a window does not shorten what is sent.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from sim_core.catalogue.models import Model
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import nothing_fits
from sim_core.price.price import Method, Price, price_of
from sim_core.price.speculation import speculation_of
from sim_core.price.step_cost import Transfer
from sim_core.price.steps.rounds import of_rounds
from sim_core.price.work import BYTES_PER_VALUE, draft_model, pool_keys
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import DEFAULTS, FIELDS, Scenario, accelerator_of, model_of

NO_DRAFTS = "1-:0"


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
    """Return the prefill pool as one pool of its own: workers as replicas.

    Nothing is drafted there, but a layer that drafts reads the prompts: decode workers go on with its cache.
    Contexts are in parts for decodes alone.
    """
    alone = scenario.replace(spec_by_batch=NO_DRAFTS) if scenario.spec_tokens else scenario
    return _pool(alone, "prefill", scenario.prefill_workers).replace(context_parallel=1)


def decode_of(scenario: Scenario) -> Scenario:
    """Return the decode pool as one pool of its own: workers as replicas."""
    return _pool(scenario, "decode", scenario.decode_workers)


def _pool(scenario: Scenario, pool: str, workers: int) -> Scenario:
    return scenario.replace(policy="chunked", replicas=workers, **pool_keys(scenario, pool))


def one_pool_of(scenario: Scenario) -> Scenario:
    """Return the same number of devices as one pool: engines with chunked prefill behind a router.

    They are as wide as a decode worker, or where that does not divide the devices, one device wide; of ranks
    of attention as many as divide the workers of both pools.
    """
    alike = decode_of(scenario)
    if scenario.accelerators % (alike.tensor_parallel * alike.pipeline_parallel):
        alike = _narrower(alike.replace(pipeline_parallel=1), prefill_of(scenario))
    devices = alike.tensor_parallel * alike.pipeline_parallel
    engines = scenario.accelerators // devices
    most = int(FIELDS["replicas"].high)
    if engines > most:
        raise ScenarioError(
            f"{scenario.prefill_workers} prefill and {scenario.decode_workers} decode workers are "
            f"{engines} engines as one pool; the limit is {most}. Take fewer."
        )
    return alike.replace(replicas=engines, router="least_loaded")


def _narrower(decode: Scenario, prefill: Scenario) -> Scenario:
    """Return an engine that divides the devices of both pools, laid out as a decode worker."""
    spread = decode.attention_data_parallel > 1
    devices = math.gcd(decode.tensor_parallel, prefill.tensor_parallel) if spread else 1
    layout = ("expert_parallel", "attention_data_parallel")
    return decode.replace(
        tensor_parallel=devices, **{key: math.gcd(devices, getattr(decode, key)) for key in layout}
    )


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
        of_rounds(price_of(decode_of(scenario), profile, method)),
        transfer_of(scenario),
    )


class MeasuredSend(NamedTuple):
    """How an engine was measured to send KV caches: start-up, and share of the network links."""

    startup_ms: float
    link_frac: float


# 20 MB to 12.6 GB from one worker to another over four links of 50 GB/s each (H800; Mooncake, documentation,
# performance of vLLM and SGLang): 9 sizes each, within 5% (vLLM) and 11% (SGLang).
SENDS = MappingProxyType({"vllm": MeasuredSend(0.4, 0.71)})
USUAL_SEND = MeasuredSend(2.0, 0.825)


def measured_link(scenario: Scenario) -> dict[str, float]:
    """Return the keys of a scenario's way between its pools, as engines were measured to use it.

    A request lies on the devices of one rank, of all stages, which all send, or receive, over a network link
    of their own; the side with fewer sets the pace. Where both pools are in one node, its links take the
    network's place.
    """
    send, part = SENDS.get(scenario.engine, USUAL_SEND), accelerator_of(scenario)
    pools = (prefill_of(scenario), decode_of(scenario))
    devices = min(
        pool.tensor_parallel * pool.pipeline_parallel // pool.attention_data_parallel for pool in pools
    )
    near = part.nodes(scenario.accelerators) == 1 and part.node_devices is not None
    each = part.link(scenario.accelerators).byte_per_s if near else part.network_byte_per_s
    return {
        "kv_link_gb_per_s": send.link_frac * devices * each / 1e9,
        "kv_link_latency_ms": send.startup_ms,
    }


def with_measured_link(scenario: Scenario) -> Scenario:
    """Return two pools with the way between them as measured, unless another is stated."""
    stated = any(
        getattr(scenario, key) != DEFAULTS[key] for key in ("kv_link_gb_per_s", "kv_link_latency_ms")
    )
    return scenario if stated else scenario.replace(**measured_link(scenario))


def transfer_of(scenario: Scenario) -> Transfer:
    """Return what sending a KV cache takes; where a layer drafts, that layer's is sent, too.

    References
    ----------
    SGLang, `disaggregation/prefill.py`: the buffers that are sent are those of the model, then of the drafts.
    """
    model, speculation = model_of(scenario), speculation_of(scenario)
    value_bytes, byte_per_s = BYTES_PER_VALUE[scenario.kv_dtype], scenario.kv_link_gb_per_s * 1e9
    drafting = []
    if speculation and speculation.drafter.has_layer:
        drafting = [draft_model(model, speculation.drafter)]
    token_bytes = sum(each.kv_bytes_per_token(value_bytes) for each in (model, *drafting))
    return Transfer(
        token_s=token_bytes / byte_per_s,
        latency_s=scenario.kv_link_latency_ms * 1e-3 + model.state_bytes(value_bytes) / byte_per_s,
        layers=model.layers + len(drafting),
        overlap=scenario.kv_overlap == "on",
    )
