"""Benchmark rules like MLPerf's: what Offline, Server and Interactive do to the throughput of one system.

Offline asks for everything at once and has no latency limit. Server and Interactive let requests arrive
as a Poisson process and ask that the 99th percentiles of TTFT and TPOT stay within limits: their
throughput is that of the highest rate which does. All figures here are simulated, none is an MLPerf result.

How a system is searched
------------------------
A *candidate* is one way to use the devices: tensor parallelism (times expert parallelism) and replicas.
For each, `saturated` runs a batch limit with the batch always full; that gives the most it can do and the
longest TPOT it can have. `loaded` runs a batch limit at a share of that rate. Both are kept for all who
ask, since neither depends on the limits: the answer for any pair of limits is read from the same runs.
The best batch limit is a little above the largest whose full batch keeps the TPOT limit: above, a rate
below saturation must keep it. The winner's rate is then found by bisection with longer runs.

References
----------
Reddi et al. (2020), "MLPerf inference benchmark", section 3 (scenarios).
mlcommons/inference_policies: inference_rules.adoc (scenarios, limits at the 99th percentile).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.benchmarks import Benchmark
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.price.cost import price
from sim_core.price.work import DoesNotFit
from sim_core.results import metrics
from sim_core.scenario.scenario import DIMENSIONS, FIELDS, Scenario, accelerator_of, model_of
from sim_core.traffic.draws import draw, mean_lengths

RULES = ("offline", "server", "interactive")
TENSOR_PARALLEL = (1, 2, 4, 8, 16)
BATCHES = tuple(sorted({round(2 * 1.15**power) for power in range(57)}))  # 2 .. 5,000, in steps of 15 %
LEVELS = (0.1, 0.3, 0.5, 0.64, 0.74, 0.82, 0.88, 0.92, 0.95, 0.97, 0.985, 1.0)  # of the saturated rate
ABOVE = 3  # batch limits tried above the largest whose full batch keeps the TPOT limit
BELOW = 3  # and below: where the KV cache is short, a full batch may be slower than a smaller one
HALVING = 5  # places from a batch limit to about half of it
OFFLINE_BATCHES = 100  # requests of an Offline run, in full batches
BUDGETS = (2048, 8192)  # tokens a step
QUICK_S = 400.0  # least time that a quick run covers: close to saturation queues build up slowly
TURNS = 10  # requests of a quick run, in full batches
FULL_TURNS = 20  # the same where the batch is always full
SURE_TURNS = 80  # the same where that bounds an answer
FEWEST, QUICK_MOST, MOST, OFFLINE_MOST = 3_000, 40_000, 60_000, 150_000  # requests of a run
FINALISTS = 2
TOLERANCE = 0.005
WARM_UP = 0.2
TRADEMARK = (
    "MLPerf is a trademark of MLCommons. The simulated figures are MLPerf-like: simulated, not MLPerf "
    "results, and not to be compared with any."
)


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system does under one rule.

    Attributes
    ----------
    rule : str
        One of `RULES`, or ``own``.
    limits : Limits or None
        None where there are none.
    scenario : Scenario
        The setting that was found best; running it gives `point`.
    point : dict
        All metrics, as in a row of a frontier.
    output_tok_per_s_per_accelerator : float
        Throughput. Offline: over the whole run; else what the rate asks for.
    bound_by : str
        What keeps the rate from rising: ``tpot``, ``ttft``, ``both`` (TPOT caps the batch, and TTFT the
        queue for a place in it) or ``stability``; ``""`` for Offline.
    """

    rule: str
    limits: Limits | None
    scenario: Scenario
    point: dict[str, Any]
    output_tok_per_s_per_accelerator: float
    bound_by: str


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
        mix=benchmark.workload,
        slo_percentile=benchmark.percentile,
        warmup_frac=0.1,
        arrivals="poisson",
        request_list="",
    )


def tuned(benchmark: Benchmark, scenario: Scenario) -> Scenario:
    """Return the system as a submission would set it up: the narrowest precision, an 8-bit KV cache."""
    found = system(benchmark, scenario)
    chosen = precision(accelerator_of(found), model_of(found))
    return found.replace(weight_dtype=chosen, kv_dtype="fp8", policy="chunked", router="least_loaded")


def candidates(scenario: Scenario, devices: int) -> list[Scenario]:
    """Return the ways to use a number of devices that hold the model.

    Raises
    ------
    ScenarioError
        If none does; the message is that of the largest group.
    """
    found, reason = [], ScenarioError(f"{devices} devices cannot be divided among replicas.")
    for tp in TENSOR_PARALLEL:
        if devices % tp:
            continue
        experts = model_of(scenario).experts
        for ep in sorted({1, tp}) if experts and experts % tp == 0 else (1,):
            layout = {"tensor_parallel": tp, "expert_parallel": ep, "replicas": devices // tp}
            try:
                trial = scenario.replace(**layout)
                _require_room(trial)
            except ScenarioError as error:
                reason = error
            else:
                found.append(trial)
    if not found:
        raise reason
    return found


def _require_room(scenario: Scenario) -> None:
    """Raise a `ScenarioError` unless at least two average requests fit the KV cache of a replica."""
    if held(scenario.replace(max_batch=BATCHES[0])) < BATCHES[0]:
        raise DoesNotFit(
            f"{model_of(scenario).name} fits {scenario.tensor_parallel} x "
            f"{accelerator_of(scenario).name} but leaves no room for two requests. "
            "Use more devices or a narrower precision."
        )


def held(scenario: Scenario) -> int:
    """Return how many requests a replica's KV cache holds, on average half-way through their answers."""
    found = price(scenario)
    room = found.kv_blocks * found.kv_block_tokens
    return int(room / (_tokens_held(scenario.mix) + found.kv_block_tokens / 2))


@lru_cache(maxsize=64)
def _tokens_held(mix: str) -> float:
    """Return the mean tokens of a request in the batch; long answers count for as long as they stay."""
    traffic = draw(Scenario(mix=mix, requests=8000))
    outputs = traffic.output_tokens.astype(float)
    return float(np.average(traffic.prompt_tokens + outputs / 2, weights=outputs))


# --- runs, each kept for all ----------------------------------------------------------------------


def _neutral(scenario: Scenario, **changes: Any) -> Scenario:
    """Return a scenario without what does not change its run, so that runs are shared."""
    return scenario.replace(slo_ttft_ms=1.0, slo_tpot_ms=1.0, **changes)


def saturated(scenario: Scenario, batch: int, turns: int = FULL_TURNS) -> Saturated:
    """Return what one replica does when its batch is always full, over so many full batches of requests."""
    requests = min(max(FEWEST, turns * batch), MOST)
    return _saturated(_neutral(scenario, max_batch=batch, replicas=1, arrival_per_s=1.0, requests=requests))


@lru_cache(maxsize=8192)
def _saturated(scenario: Scenario) -> Saturated:
    clients = scenario.max_batch + max(2, scenario.max_batch // 8)
    full = scenario.replace(
        arrivals="closed",
        concurrency=clients,
        requests=max(scenario.requests, 3 * clients),
        warmup_frac=WARM_UP,
    )
    found = metrics.point_of(run(full))
    return Saturated(found["request_per_s"], found["output_tok_per_s"], found["slo_tpot_ms_reached"])


def loaded(scenario: Scenario, batch: int, level: float) -> Loaded:
    """Return the latencies of a system at a share of the rate that saturates it."""
    rate = level * saturated(scenario, batch).request_per_s * scenario.replicas
    places = batch * scenario.replicas
    requests = min(max(FEWEST, TURNS * places, round(QUICK_S * rate)), QUICK_MOST)
    return _loaded(
        _neutral(scenario, max_batch=batch, arrival_per_s=rate, requests=requests, warmup_frac=WARM_UP)
    )


@lru_cache(maxsize=32768)
def _loaded(scenario: Scenario) -> Loaded:
    point = metrics.point_of(run(scenario))
    return Loaded(point["slo_ttft_ms_reached"], point["slo_tpot_ms_reached"], not point["saturated"])


# --- any pair of limits, from these runs ----------------------------------------------------------


class Found(NamedTuple):
    """The best of the quick runs for a pair of limits: the setting, and its rate. [req/s]"""

    scenario: Scenario
    rate_per_s: float
    bound_by: str


def batches(scenario: Scenario) -> list[int]:
    """Return the batch limits that a replica's KV cache can fill."""
    most = max(1.2 * held(scenario.replace(max_batch=BATCHES[0])), BATCHES[0])
    return [batch for batch in BATCHES if batch <= min(most, FIELDS["max_batch"].high)]


def quick(options: Sequence[Scenario], limits: Limits, sizes: Sequence[int] = ()) -> Found | None:
    """Return the best setting within the limits by the quick runs, or None if not even a trickle keeps them.

    Parameters
    ----------
    options : sequence of Scenario
        The ways to use the devices.
    limits : Limits
    sizes : sequence of int
        Batch limits to choose from; those that the KV cache can fill, if not given.
    """
    found = _ranked(options, limits, sizes)
    return found[-1] if found else None


def _ranked(options: Sequence[Scenario], limits: Limits, sizes: Sequence[int]) -> list[Found]:
    """Return settings within the limits, each better than the one before, the best last."""
    tries = []
    for option in options:
        known = list(sizes) or batches(option)
        first = _largest_within(option, known, limits.tpot_ms)
        for batch in _near(known, first):
            tries.append((saturated(option, batch).request_per_s * option.replicas, option, batch))
    found: list[Found] = []
    for bound, option, batch in sorted(tries, key=lambda item: -item[0]):
        beat_per_s = found[-1].rate_per_s if found else 0.0
        if found and bound <= beat_per_s * (1 + TOLERANCE):
            break
        rate, bound_by = _rate_within(option, batch, limits, beat_per_s)
        if rate > beat_per_s:
            found.append(Found(option.replace(max_batch=batch), rate, bound_by))
    return found


def _near(known: Sequence[int], first: int) -> list[int]:
    """Return the batch limits to try: those about a place, and below it some that shorten steps and TTFT."""
    places = {*range(max(0, first - BELOW), min(first + ABOVE + 1, len(known))), *range(first, -1, -HALVING)}
    return [known[place] for place in sorted(places)]


def _largest_within(option: Scenario, known: Sequence[int], tpot_ms: float) -> int:
    """Return the place of the largest batch limit whose full batch keeps the TPOT limit, else 0."""
    low, high = 0, len(known)
    while high - low > 1:
        middle = (low + high) // 2
        if saturated(option, known[middle]).tpot_ms <= tpot_ms:
            low = middle
        else:
            high = middle
    return low


def _rate_within(option: Scenario, batch: int, limits: Limits, beat_per_s: float) -> tuple[float, str]:
    """Return the highest rate of one batch limit that keeps the limits [req/s], and what binds.

    One that does not beat `beat_per_s` is given up after one run, and its rate is 0.
    """
    top = saturated(option, batch).request_per_s * option.replicas
    low, high = -1, len(LEVELS)
    beats = next((place for place, level in enumerate(LEVELS) if level * top > beat_per_s), len(LEVELS))
    if beat_per_s and (beats == len(LEVELS) or not _keeps(loaded(option, batch, LEVELS[beats]), limits)):
        return 0.0, ""
    if beat_per_s:
        low = beats
    while high - low > 1:
        middle = (low + high) // 2
        if _keeps(loaded(option, batch, LEVELS[middle]), limits):
            low = middle
        else:
            high = middle
    if low < 0:
        return 0.0, _binding(loaded(option, batch, LEVELS[0]), limits)
    if high == len(LEVELS):
        return LEVELS[-1] * top, "stability"
    below, above = loaded(option, batch, LEVELS[low]), loaded(option, batch, LEVELS[high])
    share = min(
        _share(below.ttft_ms, above.ttft_ms, limits.ttft_ms),
        _share(below.tpot_ms, above.tpot_ms, limits.tpot_ms),
    )
    return (LEVELS[low] + share * (LEVELS[high] - LEVELS[low])) * top, _binding(above, limits)


def _keeps(found: Loaded, limits: Limits) -> bool:
    return found.stable and found.ttft_ms <= limits.ttft_ms and not found.tpot_ms > limits.tpot_ms


def _binding(found: Loaded, limits: Limits) -> str:
    """Return what a run that fails breaks: the limit it exceeds by the larger factor."""
    over_ttft, over_tpot = found.ttft_ms / limits.ttft_ms, found.tpot_ms / limits.tpot_ms
    if max(over_ttft, over_tpot) <= 1:
        return "stability"
    return "tpot" if over_tpot > over_ttft else "ttft"


def _share(below: float, above: float, limit: float) -> float:
    """Return how far from `below` to `above` a latency meets its limit, in the logarithm."""
    if not above > limit or not above > below > 0:
        return 1.0
    return min(max(math.log(limit / below) / math.log(above / below), 0.0), 1.0)


# --- the three scenarios --------------------------------------------------------------------------


def offline(options: Sequence[Scenario], sizes: Sequence[int] = ()) -> Answer:
    """Return the best throughput when all requests are there at the start.

    Long enough, `OFFLINE_BATCHES` full batches, that ramp and drain hardly matter. Replicas share
    nothing, so one is simulated; its throughput per accelerator is that of all.
    """
    tries = [(option, batch) for option in options for batch in sizes or batches(option)[-14::2]]
    option, batch = max(tries, key=lambda item: saturated(*item).output_tok_per_s / item[0].tensor_parallel)
    requests = min(max(FEWEST, OFFLINE_BATCHES * batch), OFFLINE_MOST)
    scenario = option.replace(
        arrivals="offline", max_batch=batch, requests=requests, replicas=1, warmup_frac=0.0
    )
    point = metrics.point_of(run(scenario))
    return Answer("offline", None, scenario, point, point["output_tok_per_s_per_accelerator"], "")


def within(
    options: Sequence[Scenario],
    limits: Limits,
    rule: str = "own",
    sizes: Sequence[int] = (),
    min_duration_s: float = 0.0,
) -> Answer | None:
    """Return the highest throughput within the limits, found by bisection, or None if there is none.

    The best settings of the quick runs are tried, `FINALISTS` of them: close to saturation the 99th
    percentile of a run is sure to a few percent only, and the second may be the better one.
    """
    finalists = [
        _answer(found, limits, rule, sizes, min_duration_s)
        for found in _ranked(options, limits, sizes)[-FINALISTS:]
    ]
    kept = [answer for answer in finalists if answer is not None]
    return max(kept, key=lambda answer: answer.output_tok_per_s_per_accelerator, default=None)


def _answer(
    found: Found, limits: Limits, rule: str, sizes: Sequence[int], min_duration_s: float
) -> Answer | None:
    """Return what one setting does within the limits in long runs, or None if no rate keeps them."""
    places = found.scenario.max_batch * found.scenario.replicas
    requests = max(FEWEST, TURNS * places, math.ceil(found.rate_per_s * min_duration_s))
    scenario = found.scenario.replace(
        arrivals="poisson",
        requests=min(requests, MOST),
        warmup_frac=WARM_UP,
        slo_ttft_ms=limits.ttft_ms,
        slo_tpot_ms=limits.tpot_ms,
        arrival_per_s=found.rate_per_s,
    )
    top = saturated(scenario, scenario.max_batch, SURE_TURNS).request_per_s * scenario.replicas
    rate, point, bound_by = highest_rate(scenario, found.rate_per_s, top)
    if point is None:
        return None
    if bound_by in ("stability", "ttft") and _is_capped(scenario, limits, sizes):
        bound_by = "tpot" if bound_by == "stability" else "both"
    scenario = scenario.replace(arrival_per_s=rate)
    throughput = rate * mean_lengths(scenario)[1] / scenario.accelerators
    return Answer(rule, limits, scenario, point, throughput, bound_by)


def _is_capped(scenario: Scenario, limits: Limits, sizes: Sequence[int]) -> bool:
    """Return whether a larger full batch that the KV cache can hold would break the TPOT limit."""
    room = held(scenario)
    larger = [batch for batch in sizes or batches(scenario) if scenario.max_batch < batch <= room]
    return bool(larger) and saturated(scenario, larger[0]).tpot_ms > limits.tpot_ms


def highest_rate(
    scenario: Scenario, guess_per_s: float, most_per_s: float = math.inf, tolerance: float = TOLERANCE
) -> tuple[float, dict[str, Any] | None, str]:
    """Return the highest rate within the scenario's limits [req/s], its point, and what binds just above.

    Bisection, from a bracket that opens around a guess until it holds the answer. More than `most_per_s`,
    what a full batch can keep up, is never right: it only looks so where a run ends before the queue grows.
    """

    def trial(rate: float) -> dict[str, Any]:
        return metrics.point_of(run(scenario.replace(arrival_per_s=rate)))

    best, failed = None, None
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
        else _binding(reached, limits),
    )


def counted(answer: Answer, duration_s: float) -> float:
    """Return the throughput per accelerator as LoadGen counts it: over the time until the last answer.

    A run of `duration_s` issues requests until its end and then waits for the answer to the last one, on
    average as long as any answer takes; the completed tokens are divided by all that time. Offline
    figures are whole runs already.

    References
    ----------
    .. [1] mlcommons/inference: loadgen/results.cc, completed samples and tokens per second (Server).
    """
    throughput = answer.output_tok_per_s_per_accelerator
    if answer.rule == "offline":
        return throughput
    return throughput * duration_s / (duration_s + answer.point["e2e_ms_mean"] / 1e3)


def answers(
    benchmark: Benchmark, options: Sequence[Scenario], sizes: Sequence[int] = ()
) -> dict[str, Answer | None]:
    """Return what a system does under each rule of a benchmark; a rule the benchmark lacks is left out."""
    found: dict[str, Answer | None] = {"offline": offline(options, sizes)}
    for rule in RULES[1:]:
        limits = benchmark.limits_ms(rule)
        if limits is not None:
            found[rule] = within(options, Limits(*limits), rule, sizes, benchmark.min_duration_s)
    return found


# --- what a limit costs ---------------------------------------------------------------------------

TPOT_STEPS_MS = tuple(float(f"{5 * 2 ** (step / 3):.3g}") for step in range(-3, 20))  # 2.5 ms .. 400 ms
TTFT_STEPS_MS = tuple(float(f"{50 * 2 ** (step / 2):.3g}") for step in range(-2, 17))  # 25 ms .. 12.8 s


def limit_curve(
    options: Sequence[Scenario],
    steps_ms: Iterable[float],
    *,
    along: str,
    other_ms: float,
    sizes: Sequence[int] = (),
) -> list[dict[str, Any]]:
    """Return the throughput within one limit that varies and another that stays, by the quick runs.

    Parameters
    ----------
    options, sizes
        As in `quick`.
    steps_ms : iterable of float
        Values of the limit that varies. [ms]
    along : str
        ``tpot`` or ``ttft``: which limit varies.
    other_ms : float
        The limit that stays. [ms]

    Returns
    -------
    list of dict
        ``ttft_ms``, ``tpot_ms`` (the limits), ``request_per_s``, ``output_tok_per_s_per_accelerator`` (0
        where not even a trickle keeps them), the layout and batch limit chosen, ``bound_by``.
    """
    rows, best = [], None
    for step in sorted(set(steps_ms)):
        limits = Limits(other_ms, step) if along == "tpot" else Limits(step, other_ms)
        found = quick(options, limits, sizes)
        if best is None or (found is not None and found.rate_per_s > best.rate_per_s):
            best = found  # what keeps a limit keeps a looser one
        rows.append(_curve_row(limits, best))
    return rows


def _curve_row(limits: Limits, found: Found | None) -> dict[str, Any]:
    row: dict[str, Any] = {"ttft_ms": limits.ttft_ms, "tpot_ms": limits.tpot_ms}
    if found is None:
        blank = dict.fromkeys(("tensor_parallel", "expert_parallel", "replicas", "max_batch"))
        return row | {
            "request_per_s": 0.0,
            "output_tok_per_s_per_accelerator": 0.0,
            **blank,
            "bound_by": "floor",
        }
    chosen = found.scenario
    throughput = found.rate_per_s * mean_lengths(chosen)[1] / chosen.accelerators
    return row | {
        "request_per_s": found.rate_per_s,
        "output_tok_per_s_per_accelerator": throughput,
        "tensor_parallel": chosen.tensor_parallel,
        "expert_parallel": chosen.expert_parallel,
        "replicas": chosen.replicas,
        "max_batch": chosen.max_batch,
        "bound_by": found.bound_by,
    }
