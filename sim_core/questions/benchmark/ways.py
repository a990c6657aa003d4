"""Ways to use a number of devices as submitters do: replicas, ranks of attention, drafts, and two pools."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from sim_core import catalogue
from sim_core.catalogue.benchmarks import Benchmark
from sim_core.fields.errors import ScenarioError
from sim_core.questions.benchmark.search import ENGINE, ONE_STAGE, require_room
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of

TENSOR_PARALLEL = (1, 2, 4, 8, 16)
BOARD = 8  # devices that a board joins; where more are joined, a rack is
SHARES = 8  # parts in which devices are dealt to two pools
MOST_TOGETHER = 16  # devices of two pools that share their requests; larger systems repeat them


def submitted_ways(benchmark: Benchmark, scenario: Scenario, devices: int) -> list[Scenario]:
    """Return every way that is tried: one pool, then two, then each with the drafts that the rules allow."""
    return with_drafts(benchmark, with_pools(candidates(scenario, devices)))


def with_pools(options: Sequence[Scenario]) -> list[Scenario]:
    """Return ways to use the devices, and behind them those with a pool for each phase.

    Racks are submitted so, for models with experts and in Interactive [1]_; nothing is added for others. Each
    pool has workers of one of the layouts that hold the model, and some eighths of the devices, in a ratio
    that repeats every `MOST_TOGETHER` devices; KV caches go over the links of the rack, while the prompt is
    still computed.

    References
    ----------
    .. [1] mlcommons/inference_results_v6.0: closed/NVIDIA/configs/GB200-NVL72_GB200-186GB_aarch64x72,
       Interactive has pools for gpt-oss-120b and DeepSeek-R1; Offline, Server and llama2-70b have none.
    """
    base = options[0]
    part, devices = accelerator_of(base), base.accelerators
    in_rack = (part.node_devices or 0) > BOARD and part.near(devices) == devices >= BOARD
    if not in_rack or not part.link_gb_per_s or not model_of(base).experts:
        return list(options)
    shared = base.replace(
        policy="disaggregated",
        kv_link_gb_per_s=part.link_gb_per_s,
        kv_overlap="on",
        **dict.fromkeys((*ENGINE, "replicas"), 1),
    )
    found = list(options)
    for prefill, decode in itertools.product(options, repeat=2):
        for sizes in _splits(devices, prefill.tensor_parallel, decode.tensor_parallel):
            pools = {"prefill": (sizes[0], prefill), "decode": (sizes[1], decode)}
            try:
                trial = shared.replace(**_workers(pools))
                require_room(trial)
            except ScenarioError:
                continue
            found.append(trial)
    return found


def _splits(devices: int, prefill_devices: int, decode_devices: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers of prefill and of decode workers that use all devices, some eighths each."""
    for part in range(1, SHARES):
        first = devices * part // SHARES
        if first % prefill_devices or (devices - first) % decode_devices:
            continue
        workers = first // prefill_devices, (devices - first) // decode_devices
        if devices <= MOST_TOGETHER * math.gcd(*workers):
            yield workers


def _workers(pools: Mapping[str, tuple[int, Scenario]]) -> dict[str, int]:
    """Return the keys of both pools: so many workers with the layout of a way to use all devices."""
    sizes = {f"{pool}_workers": count for pool, (count, _) in pools.items()}
    layouts = {f"{pool}_{key}": getattr(worker, key) for pool, (_, worker) in pools.items() for key in ENGINE}
    return sizes | layouts


def candidates(scenario: Scenario, devices: int) -> list[Scenario]:
    """Return the ways to use a number of devices that hold the model.

    Latent attention is also divided into ranks, as engines serve such models for throughput: devices that
    share it would each hold a copy of the whole cache. Stages and contexts in parts are not tried.

    Raises
    ------
    ScenarioError
        If none does; the message is that of the largest group.
    """
    found, reason = [], ScenarioError(f"{devices} devices cannot be divided among replicas.")
    for tp in TENSOR_PARALLEL:
        if devices % tp:
            continue
        for ep, ranks in _shared(model_of(scenario), tp):
            layout = {"tensor_parallel": tp, "expert_parallel": ep, "attention_data_parallel": ranks}
            copies = scenario.redundant_experts if ep > 1 else 0
            try:
                trial = scenario.replace(
                    **layout, **ONE_STAGE, redundant_experts=copies, replicas=devices // tp
                )
                require_room(trial)
            except ScenarioError as error:
                reason = error
            else:
                found.append(trial)
    if not found:
        raise reason
    return found


def with_drafts(benchmark: Benchmark, options: Sequence[Scenario]) -> list[Scenario]:
    """Return ways to use the devices, and behind them the same with the drafts that Interactive allows.

    Drafts come from layers of the model's own, as in submissions [1]_. Where there are none, or no room for
    them, nothing is added.

    References
    ----------
    .. [1] mlcommons/inference_results_v6.0: closed/NVIDIA/configs, DeepSeek-R1 Interactive on GB200 has
       `decoding_type: MTP` and `num_nextn_predict_layers: 3`.
    """
    most = benchmark.interactive_spec_tokens
    found = list(options)
    if not most or not model_of(options[0]).mtp_layers:
        return found
    for option in options:
        drafting = option.replace(spec_tokens=most)
        try:
            require_room(drafting)
        except ScenarioError:
            continue
        found.append(drafting)
    return found


def _shared(model: catalogue.Model, devices: int) -> list[tuple[int, int]]:
    """Return how a group's devices may share a model: expert parallelism, and ranks of attention."""
    if not model.experts or model.experts % devices or devices == 1:
        return [(1, 1)]
    return [(1, 1), (devices, 1), *([(devices, devices)] if model.latent else [])]
