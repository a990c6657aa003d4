"""Systems for a benchmark: what each can do flat out, and the highest rate within limits."""

from __future__ import annotations

import math
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.benchmarks import Benchmark
from sim_core.engine.run import run
from sim_core.engine.work import kept, shared
from sim_core.price.memory import DoesNotFit
from sim_core.price.pools import decode_of, prefill_of
from sim_core.price.price import price_of
from sim_core.questions.disaggregation import Matched, matched
from sim_core.results.metrics import point_of
from sim_core.scenario.keys.caching import ALONE
from sim_core.scenario.keys.speculation import NO_DRAFTING
from sim_core.scenario.scenario import DIMENSIONS, FIELDS, Scenario, accelerator_of, model_of
from sim_core.traffic.draws import requests_sent

QUICK_S = 400.0  # least time that a quick run covers: close to saturation queues build up slowly

ONE_STAGE = MappingProxyType({"pipeline_parallel": 1, "context_parallel": 1})  # of every layout tried
BATCHES = tuple(sorted({round(2 * 1.15**power) for power in range(57)}))  # 2 .. 5,000, in steps of 15 %
LEVELS = (0.1, 0.3, 0.5, 0.64, 0.74, 0.82, 0.88, 0.92, 0.95, 0.97, 0.985, 1.0)  # of the saturated rate
ABOVE = 3  # batch limits tried above the largest whose full batch keeps the TPOT limit
BELOW = 3  # and below: where the KV cache is short, a full batch may be slower than a smaller one
HALVING = 5  # places from a batch limit to about half of it
OFFLINE_BATCHES = 100  # requests of an Offline run, in full batches
TURNS = 10  # requests of a quick run, in full batches
FULL_TURNS = 20  # the same where the batch is always full
SURE_TURNS = 80  # the same where that bounds an answer
FEWEST, QUICK_MOST, MOST, OFFLINE_MOST = 3_000, 40_000, 60_000, 150_000  # requests of a run
QUICK_USUAL = 10_000  # of a quick run, where replicas are many
RUNS, TRIALS = 40, 24  # as one of so many a page counts each run, each trial of an answer
TOLERANCE = 0.005
SAFE = 1.05  # times rate matching, which goes by means
WARM_UP = 0.2
ENGINE = ("tensor_parallel", "expert_parallel", "attention_data_parallel")  # its layout
STEADY_TURNS = 3.0  # times as long as a request stays: a run that is shorter tells nothing


class Limits(NamedTuple):
    """What latencies a scenario allows, at its percentile. [ms]"""

    ttft_ms: float
    tpot_ms: float


class Saturated(NamedTuple):
    """One replica with its batch always full."""

    request_per_s: float
    output_tok_per_s: float
    tpot_ms: float  # at the percentile of the limits


class Loaded(NamedTuple):
    """A system at one request rate: the latencies at the percentile of the limits."""

    ttft_ms: float
    tpot_ms: float
    stable: bool


# --- the system -----------------------------------------------------------------------------------


def precision(accelerator: catalogue.Accelerator, model: catalogue.Model) -> str:
    """Return the weights' precision that a submission would choose.

    The narrowest the part computes in, 8 bit where it has no fp8 either; a checkpoint published with 4-bit
    experts stays as it is.
    """
    if model.native_expert_dtype == "fp4":
        return "native"
    return "fp4" if accelerator.fp4_tflop_per_s else "fp8"


def system(benchmark: Benchmark, scenario: Scenario) -> Scenario:
    """Return a scenario with the benchmark's model and lengths; engine, layout and precision are its own."""
    return scenario.replace(
        **dict.fromkeys(DIMENSIONS),
        model=benchmark.model,
        own_model="",
        mix=benchmark.workload,
        slo_percentile=benchmark.percentile,
        warmup_frac=0.1,
        arrivals="poisson",
        request_list="",
        **ALONE,
    )


def tuned(benchmark: Benchmark, scenario: Scenario) -> Scenario:
    """Return the system as a submission would set it up: the narrowest precision, an 8-bit KV cache.

    Without drafts: those that a rule allows are `with_drafts`.
    """
    found = system(benchmark, scenario)
    chosen = precision(accelerator_of(found), model_of(found))
    return found.replace(
        weight_dtype=chosen, kv_dtype="fp8", policy="chunked", router="least_loaded", **NO_DRAFTING
    )


def batch_places(scenario: Scenario) -> int:
    """Return how many requests run at once where the batch of every rank that decodes is full."""
    if scenario.split:
        return batch_places(decode_of(scenario))
    return scenario.max_batch * scenario.attention_data_parallel * scenario.replicas


def require_room(scenario: Scenario) -> None:
    """Raise a `ScenarioError` unless at least two average requests fit the KV cache of each engine."""
    if scenario.split:
        for pool in (prefill_of(scenario), decode_of(scenario)):
            require_room(pool)
        return
    if sequences_held(scenario.replace(max_batch=BATCHES[0])) < BATCHES[0]:
        raise DoesNotFit(
            f"{model_of(scenario).name} fits {scenario.tensor_parallel} x "
            f"{accelerator_of(scenario).name} but leaves no room for two requests. "
            "Use more devices or a narrower precision."
        )


def sequences_held(scenario: Scenario) -> int:
    """Return how many requests the KV cache of an engine that decodes holds, half-way through on average."""
    if scenario.split:
        return sequences_held(decode_of(scenario))
    found = price_of(scenario)
    room = found.kv_blocks * found.kv_block_tokens
    return int(room / (_tokens_held(scenario.mix) + found.kv_block_tokens / 2))


@lru_cache(maxsize=64)
def _tokens_held(mix: str) -> float:
    """Return the mean tokens of a request in the batch; long answers count for as long as they stay."""
    traffic = requests_sent(Scenario(mix=mix, requests=8000))
    outputs = traffic.output_tokens.astype(float)
    return float(np.average(traffic.prompt_tokens + outputs / 2, weights=outputs))


# --- runs, each kept for all ----------------------------------------------------------------------


def _neutral(scenario: Scenario, **changes: object) -> Scenario:
    """Return a scenario without what does not change its run, so that runs are shared."""
    return scenario.replace(slo_ttft_ms=1.0, slo_tpot_ms=1.0, **changes)


def saturated(scenario: Scenario, batch: int, turns: int = FULL_TURNS) -> Saturated:
    """Return what one replica does when its batch is always full, over so many full batches of requests."""
    full = _neutral(scenario, max_batch=batch, replicas=1, arrival_per_s=1.0)
    return _saturated(full.replace(requests=min(max(FEWEST, turns * batch_places(full)), MOST)))


@kept(8192, RUNS)
def _saturated(scenario: Scenario) -> Saturated:
    places = batch_places(scenario)
    clients = min(places + max(2, places // 8), int(FIELDS["concurrency"].high))
    full = scenario.replace(
        arrivals="closed",
        concurrency=clients,
        requests=max(scenario.requests, 3 * clients),
        warmup_frac=WARM_UP,
    )
    found = point_of(run(full))
    return Saturated(found["request_per_s"], found["output_tok_per_s"], found["slo_tpot_ms_reached"])


def top_per_s(scenario: Scenario, batch: int, turns: int = FULL_TURNS) -> float:
    """Return the rate that saturates a system: all batches full, or the work of one of two pools. [req/s]"""
    if scenario.split:
        return SAFE * matched_per_s(scenario, math.inf, batch)
    return saturated(scenario, batch, turns).request_per_s * scenario.replicas


def matched_per_s(scenario: Scenario, tpot_ms: float, batch: int | None = None) -> float:
    """Return the rate that the workers of neither pool exceed, by their mean work within a limit. [req/s]"""
    prefill_s = pool_work(scenario, "prefill", tpot_ms, batch).prefill_s
    decode_s = pool_work(scenario, "decode", tpot_ms, batch).decode_s
    return min(scenario.prefill_workers / prefill_s, scenario.decode_workers / decode_s)


def pool_work(scenario: Scenario, pool: str, tpot_ms: float, batch: int | None = None) -> Matched:
    """Return what rate matching says of a pool's workers, whatever the other pool is.

    With a batch limit, or the largest that their KV cache fills.
    """
    layout = {key: getattr(scenario, f"{pool}_{key}") for key in ENGINE}
    alike = {f"{name}_{key}": value for name in ("prefill", "decode") for key, value in layout.items()}
    return _matched(scenario.replace(prefill_workers=1, decode_workers=1, **alike), tpot_ms, batch)


@lru_cache(maxsize=4096)
def _matched(pair: Scenario, tpot_ms: float, batch: int | None) -> Matched:
    limit_ms, most = min(tpot_ms, FIELDS["slo_tpot_ms"].high), batch
    if most is None:
        held = round(1.2 * sequences_held(pair.replace(max_batch=BATCHES[0])))
        most = min(max(held, BATCHES[0]), BATCHES[-1])
    return matched(pair.replace(slo_tpot_ms=limit_ms, max_batch=most))


def with_full_batches(scenario: Scenario, most: int) -> Scenario:
    """Return a scenario with so few of its engines that so many requests fill their batches several times.

    Half of the replicas, or of the workers of either pool, share half of the rate. Of a system that starts
    empty, a run that ends before its batches fill says nothing of how it goes on.
    """
    names = ("prefill_workers", "decode_workers") if scenario.split else ("replicas",)
    some = scenario
    while TURNS * batch_places(some) > most:
        counts = {name: getattr(some, name) for name in names}
        if any(count % 2 for count in counts.values()):
            break
        halves = {name: count // 2 for name, count in counts.items()}
        some = some.replace(**halves, arrival_per_s=some.arrival_per_s / 2)
    return some


def loaded_latencies(scenario: Scenario, batch: int, level: float) -> Loaded:
    """Return the latencies of a system at a share of the rate that saturates it."""
    rate = level * top_per_s(scenario, batch)
    some = with_full_batches(scenario.replace(max_batch=batch, arrival_per_s=rate), QUICK_USUAL)
    requests = max(FEWEST, TURNS * batch_places(some), round(QUICK_S * some.arrival_per_s))
    return _loaded(_neutral(some, requests=min(requests, QUICK_MOST), warmup_frac=WARM_UP))


@kept(32768, RUNS)
def _loaded(scenario: Scenario) -> Loaded:
    point, lasts = _measured(scenario)
    is_stable = lasts and not point["saturated"]
    return Loaded(point["slo_ttft_ms_reached"], point["slo_tpot_ms_reached"], is_stable)


def _measured(scenario: Scenario) -> tuple[dict[str, Any], bool]:
    """Return the metrics of a run, and whether it lasts long enough to tell how the system goes on.

    It begins empty: until requests have come for as long as one stays, batches are not yet what they will be.
    """
    found = run(scenario)  # a page may run fewer requests than were asked for
    point = point_of(found)
    lasts_s = found.scenario.requests / scenario.arrival_per_s
    return point, lasts_s >= STEADY_TURNS * point["e2e_ms_mean"] / 1e3


def bound_by(found: Loaded, limits: Limits) -> str:
    """Return what a run that fails breaks: the limit it exceeds by the larger factor."""
    over_ttft, over_tpot = found.ttft_ms / limits.ttft_ms, found.tpot_ms / limits.tpot_ms
    if max(over_ttft, over_tpot) <= 1:
        return "stability"
    return "tpot" if over_tpot > over_ttft else "ttft"


def share_of(below: float, above: float, limit: float) -> float:
    """Return how far from `below` to `above` a latency meets its limit, in the logarithm."""
    if not above > limit or not above > below > 0:
        return 1.0
    return min(max(math.log(limit / below) / math.log(above / below), 0.0), 1.0)


def highest_rate(
    scenario: Scenario, guess_per_s: float, most_per_s: float = math.inf, tolerance: float = TOLERANCE
) -> tuple[float, dict[str, Any] | None, str]:
    """Return the highest rate within the scenario's limits [req/s], its point, and what binds just above.

    Bisection, from a bracket that opens around a guess until it holds the answer. More than `most_per_s`,
    what a full batch can keep up, is never right: it only looks so where a run ends before the queue grows.
    """

    def trial(rate: float) -> dict[str, Any]:
        with shared(TRIALS):
            point, lasts = _measured(scenario.replace(arrival_per_s=rate))
            return point | {"meets_slo": lasts and point["meets_slo"]}

    best: dict[str, Any] | None = None
    failed: dict[str, Any] = {}  # filled before the bracket closes
    low, high, width = 0.0, math.inf, 0.02
    rate = min(guess_per_s, most_per_s)
    while math.isinf(high) or (high - low > tolerance * high and high > 1e-3 * guess_per_s):
        point = trial(rate)
        if point["meets_slo"]:
            low, best = rate, point
            if rate >= most_per_s:
                return rate, best, "stability"
        else:
            high, failed = rate, point
        if math.isinf(high):
            rate = min(low * (1 + width), most_per_s)
        elif low == 0.0:
            rate = high / (1 + width)
        else:
            rate = 0.5 * (low + high)
        width *= 2 if math.isinf(high) or low == 0.0 else 1
    limits = Limits(scenario.slo_ttft_ms, scenario.slo_tpot_ms)
    reached = Loaded(failed["slo_ttft_ms_reached"], failed["slo_tpot_ms_reached"], True)
    return (
        low,
        best,
        "stability"
        if failed["saturated"] and reached.ttft_ms <= limits.ttft_ms
        else bound_by(reached, limits),
    )
