"""What is assumed of published points where their sources leave it open, alike for all.

`presets/validation/measured.csv` holds facts only: what was run, what was measured, and where it is
printed. Everything a source leaves open is assumed here, alike for all rows (`scenario_of`):

- SGLang, and vLLM before its version 1, run prompts in steps of their own (`prefill_first`); all others
  mix them with decodes (`chunked`). Clients are the only limit of the batch, 1,024 sequences where there
  are none.
- The token budget is 8,192, as InferenceX sets it; in closed loops of fixed lengths, run by others, 2,048
  under vLLM and TensorRT-LLM. No source states the latter: of the budgets tried it fits best.
- InferenceX serves DeepSeek by SGLang with an fp8 KV cache, looks for new requests every 10 steps (30 from
  16 clients on) and streams every 10 tokens: the first token is seen that much later.
- Engines show first tokens of models with experts late, as `presets/engines` says; measured so where lengths
  are drawn, and not found where they are fixed.
- A checkpoint whose precision is not stated has its native one; gpt-oss always does.
- KV caches are fp8 under TensorRT-LLM, and under vLLM on Blackwell devices, where weights are 8 or 4 bits
  wide; else bf16.
- Clients of a closed loop start at once and send ten requests each; the source's means hold that burst,
  and so do the simulated ones.
- MLPerf entries are simulated with the `submission` calibration, all others with `typical`.
- Batches, offline runs and single prefills are measured inside the engine: no request overhead.
- MLPerf entries do not state their layout: the fewest devices for a replica that leave room for 64
  requests.
- Two pools: prompts wait in one queue for whole-prompt steps of up to 8,192 tokens, each prefill worker has a
  KV link of 50 GB/s, and a decode worker takes as many requests as its memory holds.

Points of one pool are priced together, one table over tokens for each, with the simulator's own formulas and
engine; those of two pools are run as any other scenario.
"""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType

import numpy as np

from sim_core import catalogue
from sim_core.evidence.published import PublishedPoint, weight_dtype
from sim_core.price.memory import memory
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import mean_lengths, requests_sent
from sim_core.traffic.requests import Requests

TOKEN_BUDGET, DEFAULT_BUDGET = 8192, 2048
POLL_STEPS, POLL_STEPS_MANY, POLL_CLIENTS, STREAM_TOKENS = 10, 30, 16, 10
KV_MEMORY_FRAC = 0.95  # recipes set 0.90 to 0.95; some count it from what the weights leave
KV_BLOCK_TOKENS = 16
REQUESTS_PER_CLIENT = 10
UNLIMITED_BATCH = 1024
OFFLINE_REQUESTS = 2000
SERVER_REQUESTS = 3000
SERVER_WARM_UP = 0.2
SERVER_ROOM = 64
SEED = 7
ENGINES = MappingProxyType({"vLLM": "vllm", "SGLang": "sglang", "TensorRT-LLM": "tensorrt-llm"})
BLACKWELL = frozenset({"b200", "b300", "gb200", "gb300"})


# --- what is simulated for a point ----------------------------------------------------------------


def kv_dtype(point: PublishedPoint) -> str:
    """Return the assumed precision of a point's KV cache."""
    narrow = point.model.startswith("gpt-oss") or point.precision in ("fp8", "fp4")
    if point.engine == "SGLang" and point.pools == "one":
        return "fp8" if polls_slowly(point) else "bf16"
    wide = point.engine == "vLLM" and point.accelerator not in BLACKWELL
    return "fp8" if narrow and not wide else "bf16"


def token_budget(point: PublishedPoint) -> int:
    """Return the assumed token budget of a point's engine. [tokens]"""
    default = point.traffic == "closed" and point.lengths == "fixed" and point.engine != "SGLang"
    return DEFAULT_BUDGET if default else TOKEN_BUDGET


def polls_slowly(point: PublishedPoint) -> bool:
    """Return whether a point's engine looks for new requests only every so many steps, by its recipe.

    References
    ----------
    SemiAnalysisAI/InferenceX, benchmarks/dsr1_fp4_b200_docker.sh and dsr1_fp8_b200_docker.sh:
    `--scheduler-recv-interval`, `--stream-interval`, `--kv-cache-dtype`.
    """
    recipe = point.pools == "one" and point.traffic == "closed" and point.lengths == "80-100%"
    recipe = recipe and point.engine == "SGLang" and point.accelerator in BLACKWELL
    return recipe and point.model.startswith("deepseek")


def late_steps(point: PublishedPoint) -> float:
    """Return how many decode steps later than made the first token is seen, on average."""
    if not polls_slowly(point):
        if point.lengths != "80-100%" or point.engine not in ENGINES:
            return 0.0
        engine, model = catalogue.engine(ENGINES[point.engine]), catalogue.model(point.model)
        return engine.lag_steps(model.is_moe, model.latent)
    return (POLL_STEPS if point.clients < POLL_CLIENTS else POLL_STEPS_MANY) / 2 + STREAM_TOKENS


def policy(point: PublishedPoint) -> str:
    """Return the assumed scheduling of a point's engine."""
    old = point.engine == "vLLM" and point.date < "2025"
    return "prefill_first" if old or point.engine == "SGLang" else "chunked"


def scenario_of(point: PublishedPoint) -> Scenario:
    """Return the scenario of a point; lengths drawn between 80% and 100% stand as their mean."""
    share = 0.9 if point.lengths == "80-100%" else 1.0
    arrivals = {"server": "poisson", "closed": "closed", "burst": "closed"}.get(point.traffic, "offline")
    batch = point.clients or UNLIMITED_BATCH
    found = Scenario(
        model=point.model,
        accelerator=point.accelerator,
        tensor_parallel=max(point.tensor_parallel, point.prefill_devices, point.decode_devices, 1),
        expert_parallel=max(point.expert_parallel, 1),
        replicas=point.replicas,
        weight_dtype=weight_dtype(point),
        kv_dtype=kv_dtype(point),
        arrivals=arrivals,
        arrival_per_s=point.arrival_per_s if point.traffic == "server" else 12.0,
        concurrency=batch,
        requests=_request_count(point),
        prompt_tokens=max(round(share * point.prompt_tokens), 1),
        output_tokens=max(round(share * point.output_tokens), 1),
        prompt_cv=0.0,
        output_cv=0.0,
        mix=point.lengths if point.traffic == "server" else "",
        engine=ENGINES.get(point.engine, ""),
        policy=policy(point),
        max_batch=batch,
        token_budget=token_budget(point),
        kv_memory_frac=KV_MEMORY_FRAC,
        warmup_frac=SERVER_WARM_UP if point.traffic == "server" else 0.0,
    )
    if point.pools == "split":
        return _with_pools(found, point)
    return _with_layout(found) if point.traffic == "server" else found


def _with_pools(scenario: Scenario, point: PublishedPoint) -> Scenario:
    """Return a scenario on a point's two pools."""
    return scenario.replace(
        policy="disaggregated",
        replicas=1,
        prefill_workers=point.prefill_workers,
        prefill_tensor_parallel=point.prefill_devices,
        decode_workers=point.decode_workers,
        decode_tensor_parallel=point.decode_devices,
        token_budget=TOKEN_BUDGET,
    )


def _request_count(point: PublishedPoint) -> int:
    if point.traffic == "closed":
        return point.clients * REQUESTS_PER_CLIENT
    return {"offline": OFFLINE_REQUESTS, "server": SERVER_REQUESTS}.get(point.traffic, point.clients)


def _with_layout(scenario: Scenario) -> Scenario:
    """Return a scenario on one replica's devices: the fewest that leave room for some requests."""
    devices = scenario.accelerators
    needed = SERVER_ROOM * sum(mean_lengths(scenario))
    for tp in (1, 2, 4, 8):
        found = scenario.replace(tensor_parallel=min(tp, devices), replicas=max(devices // tp, 1))
        if tp >= devices or memory(found)["kv_tokens"] >= needed:
            return found
    return found


def given_requests(point: PublishedPoint, scenario: Scenario) -> Requests:
    """Return the requests that one replica's engine is given, or all replicas of a loop of clients."""
    if point.traffic == "server":
        rate = scenario.arrival_per_s / scenario.replicas
        return requests_sent(scenario.replace(arrival_per_s=rate, replicas=1))
    count = scenario.requests
    if point.traffic == "offline":
        count = max(count // point.replicas, 1)  # replicas are alike: one is simulated
    return at_once(point, count)


def loop_of(point: PublishedPoint) -> tuple[int, int]:
    """Return the clients of a point's loop and the replicas that they share; none and one without a loop."""
    return (point.clients, point.replicas) if point.traffic in ("closed", "burst") else (0, 1)


def at_once(point: PublishedPoint, count: int) -> Requests:
    """Return so many requests of a point's lengths, all at time 0."""
    return Requests(np.zeros(count), *drawn_lengths(point, count), name=point.id)


def drawn_lengths(point: PublishedPoint, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths drawn between 80% and 100% of the nominal ones, or all equal."""
    share = np.ones((2, count))
    if point.lengths == "80-100%":
        share = _shares(count)
    prompt, output = np.round(share * [[point.prompt_tokens], [point.output_tokens]]).astype(np.int64)
    return np.maximum(prompt, 1), np.maximum(output, 1)


@lru_cache(maxsize=64)
def _shares(count: int) -> np.ndarray:
    return np.random.default_rng(SEED).uniform(0.8, 1.0, (2, count))
