"""What is assumed of published points where their sources leave it open, alike for all.

`presets/validation/measured.csv` holds facts only: what was run, what was measured, and where it is
printed. Everything a source leaves open is assumed here, alike for all rows (`scenario_of`):

- SGLang, and vLLM before its version 1, run prompts in steps of their own (`prefill_first`); all others
  mix them with decodes (`chunked`). Clients are the only limit of the batch, 1,024 sequences where there
  are none.
- The token budget is 8,192, as InferenceX sets it; in closed loops of fixed lengths, run by others, 2,048
  under vLLM and TensorRT-LLM. No source states the latter: of the budgets tried it fits best.
- InferenceX serves DeepSeek by SGLang with an fp8 KV cache and looks for new requests every 10 steps (30 from
  16 clients on): on average a request waits half of that. It streams every 10 tokens, the first one at once.
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
- TensorRT-LLM before its version 1.2 runs 8-bit experts by DeepGEMM, later with ranks of attention alone.
- Ranks of attention under TensorRT-LLM, one pool: one with a prompt waits up to 60 steps until all have one.
  Experts that their devices do not divide have 32 copies among them.
- Two pools: prompts wait in one queue for whole-prompt steps of up to 8,192 tokens, each prefill worker has a
  KV link of 50 GB/s, and a decode worker takes as many requests at once as the run's recipe says, where it is
  public (`presets/validation/recipes.csv`); more clients than that wait for it. Else its memory is the limit.
  Prefill workers of these recipes have a rank of attention a device, as InferenceX's records of them say;
  where a table leaves it open, so are they simulated.

Points of one pool are priced together, one table over tokens for each, with the simulator's own formulas and
engine; those of two pools are run as any other scenario.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.engines import ServingEngine
from sim_core.evidence.published import LENGTHS, PublishedPoint, recipe_of, weight_dtype
from sim_core.price.memory import memory
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import mean_lengths, requests_sent
from sim_core.traffic.requests import Requests

TOKEN_BUDGET, DEFAULT_BUDGET = 8192, 2048
POLL_CLIENTS = 16
# steps between two looks for new requests, with fewer clients and with that many or more: by how the names of
# model, precision and part begin
POLLS: Mapping[tuple[str, str, str], tuple[int, int]] = MappingProxyType(
    {
        ("deepseek", "", ""): (10, 30),
        ("qwen3.5", "fp4", "b200"): (30, 30),
        ("qwen3.5", "fp8", "b300"): (10, 10),
        ("qwen3.5", "", ""): (10, 30),
        ("glm-5", "fp4", ""): (10, 10),
    }
)
BALANCE_STEPS = 60
TRTLLM_GEN_SINCE = "2026-01-20"  # runs with TensorRT-LLM 1.1 end before, those with 1.2 begin afterwards
USUAL_REDUNDANT = 32
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
    """Return the assumed precision of a point's KV cache.

    References
    ----------
    SGLang, python/sglang/srt/server_args.py: "Setting KV cache dtype to fp8_e4m3 for DeepSeek DSA" from
    Blackwell on, bfloat16 before. SemiAnalysisAI/InferenceX, benchmarks/glm5_fp8_b200.sh, states the same.
    """
    narrow = point.model.startswith("gpt-oss") or point.precision in ("fp8", "fp4")
    if point.engine == "SGLang" and point.pools == "one":
        chooses = catalogue.model(point.model).main.kind == "dsa" and point.accelerator in BLACKWELL
        tuned = poll_steps(point) > 0 and (narrow or point.model.startswith("deepseek"))
        return "fp8" if chooses or tuned else "bf16"
    wide = point.engine == "vLLM" and point.accelerator not in BLACKWELL
    return "fp8" if narrow and not wide else "bf16"


def token_budget(point: PublishedPoint) -> int:
    """Return the assumed token budget of a point's engine. [tokens]"""
    default = point.traffic == "closed" and point.lengths == "fixed" and point.engine != "SGLang"
    return DEFAULT_BUDGET if default else TOKEN_BUDGET


def poll_steps(point: PublishedPoint) -> int:
    """Return after how many steps a point's engine looks for new requests, by its recipe; 0 for every step.

    References
    ----------
    SemiAnalysisAI/InferenceX, benchmarks and benchmarks/single_node: dsr1_fp4_b200, dsr1_fp8_b200, qwen3.5_*,
    glm5_*: `--scheduler-recv-interval`, `--stream-interval`, `--kv-cache-dtype`.
    """
    recipe = point.pools == "one" and point.traffic == "closed" and point.lengths == "80-100%"
    if not recipe or point.engine != "SGLang" or point.accelerator not in BLACKWELL:
        return 0
    run = (point.model, point.precision, point.accelerator)
    known = (steps for of, steps in POLLS.items() if all(map(str.startswith, run, of)))
    few, many = next(known, (0, 0))
    return few if point.clients < POLL_CLIENTS else many


def late_steps(point: PublishedPoint, engines: Mapping[str, ServingEngine] | None = None) -> float:
    """Return how many decode steps later than made the first token is seen, on average.

    Parameters
    ----------
    point : PublishedPoint
    engines : mapping, optional
        Engines by id in place of the catalogue's, whose lags were found on other points.
    """
    if point.lengths != LENGTHS[1] or point.engine not in ENGINES:
        return 0.0
    known, model = engines or catalogue.engines(), catalogue.model(point.model)
    lag = known[ENGINES[point.engine]].lag_steps(model.is_moe, model.latent)
    return lag + poll_steps(point) / 2


def has_deepgemm(point: PublishedPoint) -> bool:
    """Return whether a point's recipe has DeepGEMM run 8-bit experts of TensorRT-LLM.

    References
    ----------
    SemiAnalysisAI/InferenceX, benchmarks/dsr1_fp8_b200_trt_slurm.sh (2025): `MOE_BACKEND="DEEPGEMM"` for all
    runs; dsr1_fp8_b200_trt.sh (2026, TensorRT-LLM 1.2) has it for ranks of attention alone.
    """
    return point.ranks > 1 or (point.pools == "one" and point.date < TRTLLM_GEN_SINCE)


def wait_steps(point: PublishedPoint) -> int:
    """Return how many steps a rank with a prompt waits for the others to have one, by the recipe.

    References
    ----------
    SemiAnalysisAI/InferenceX, benchmarks/dsr1_fp4_b200_trt.sh and dsr1_fp8_b200_trt.sh:
    `attention_dp_config` with `enable_balance: true`, `timeout_iters: 60`, `batching_wait_iters: 0`.
    """
    balanced = point.engine == "TensorRT-LLM" and point.pools == "one" and point.lengths == LENGTHS[1]
    return BALANCE_STEPS if balanced and point.ranks > 1 else 0


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
        attention_data_parallel=max(point.ranks, 1),
        prefill_wait_steps=wait_steps(point),
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
    recipe = recipe_of(point)
    ranks = point.prefill_devices if recipe and not point.prefill_ranks else 0
    return scenario.replace(
        policy="disaggregated",
        max_batch=recipe.decode_batch if recipe else scenario.max_batch,
        redundant_experts=recipe.redundant_experts if recipe else _redundant(point),
        replicas=1,
        prefill_workers=point.prefill_workers,
        prefill_tensor_parallel=point.prefill_devices,
        decode_workers=point.decode_workers,
        decode_tensor_parallel=point.decode_devices,
        prefill_expert_parallel=point.prefill_expert_parallel or ranks or None,
        prefill_attention_data_parallel=point.prefill_ranks or ranks or None,
        decode_expert_parallel=point.decode_expert_parallel or None,
        decode_attention_data_parallel=point.decode_ranks or None,
        token_budget=TOKEN_BUDGET,
    )


def _redundant(point: PublishedPoint) -> int:
    """Return the copies of experts that spread them evenly: none where the experts themselves do.

    References
    ----------
    SGLang, docs/advanced_features/expert_parallelism: `--ep-num-redundant-experts 32`, as its runs of
    DeepSeek-R1 on 24, 48 and 72 devices have it.
    """
    experts = catalogue.model(point.model).experts
    spread = (point.prefill_expert_parallel, point.decode_expert_parallel)
    even = all(experts % devices == 0 for devices in spread if devices)
    return 0 if even else USUAL_REDUNDANT


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
