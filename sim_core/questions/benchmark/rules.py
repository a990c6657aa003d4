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
from typing import Any, NamedTuple

from sim_core.catalogue.benchmarks import Benchmark
from sim_core.engine.run import run
from sim_core.price.pools import decode_of, prefill_of
from sim_core.questions.benchmark.search import (
    ABOVE,
    BATCHES,
    BELOW,
    ENGINE,
    FEWEST,
    HALVING,
    LEVELS,
    MOST,
    OFFLINE_BATCHES,
    OFFLINE_MOST,
    SURE_TURNS,
    TOLERANCE,
    TURNS,
    WARM_UP,
    Limits,
    Loaded,
    batch_places,
    bound_by,
    highest_rate,
    loaded_latencies,
    matched_per_s,
    pool_work,
    saturated,
    sequences_held,
    share_of,
    top_per_s,
    with_full_batches,
)
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.traffic.draws import mean_lengths

RULES = ("offline", "server", "interactive")
LAYOUT = (
    *("tensor_parallel", "expert_parallel", "attention_data_parallel", "replicas", "max_batch"),
    "spec_tokens",
)
POOLS = ("policy", *(f"{pool}_{key}" for pool in ("prefill", "decode") for key in ("workers", *ENGINE)))
FINALISTS = 2
MATCHED = 6  # pairs of pools that are run
ROOM_TIMES = 2.0  # batch limit of a decode pool, over what keeps the TPOT limit by rate matching
TRADEMARK = (
    "MLPerf is a trademark of MLCommons. The simulated figures are MLPerf-like: simulated, not MLPerf "
    "results, and not to be compared with any."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system does under one rule.

    Attributes
    ----------
    rule : str
        One of `RULES`, or ``own``.
    limits : Limits or None
        None where there are none.
    setting : Scenario
        The setting that was found best.
    scenario : Scenario
        What was run of it, and gives `point`: of its replicas only so many as a run fills several times, at
        their share of the rate; Offline one.
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
    setting: Scenario
    scenario: Scenario
    point: dict[str, Any]
    output_tok_per_s_per_accelerator: float
    bound_by: str


# --- any pair of limits, from these runs ----------------------------------------------------------


class Found(NamedTuple):
    """The best of the quick runs for a pair of limits: the setting, and its rate. [req/s]"""

    scenario: Scenario
    rate_per_s: float
    bound_by: str


def batches(scenario: Scenario) -> list[int]:
    """Return the batch limits that the KV cache of a replica, or of a decode worker, can fill."""
    most = max(1.2 * sequences_held(scenario.replace(max_batch=BATCHES[0])), BATCHES[0])
    return [batch for batch in BATCHES if batch <= min(most, FIELDS["max_batch"].high)]


def _batches_under(option: Scenario, limits: Limits) -> list[int]:
    """Return the batch limits to choose from; of two pools one alone, which does not bind.

    What a decode pool runs at once follows from the rate: a limit would let requests wait between the pools.
    Twice what keeps the TPOT limit is never reached, and fills in runs that a page can afford.
    """
    known = batches(option)
    if not option.split:
        return known
    most = ROOM_TIMES * pool_work(option, "decode", limits.tpot_ms).batch / option.decode_ranks
    return [next((batch for batch in known if batch >= most), known[-1])]


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
    for option in _promising(options, limits):
        known = list(sizes) or _batches_under(option, limits)
        first = _largest_within(option, known, limits.tpot_ms)
        for batch in _near(known, first):
            tries.append((top_per_s(option, batch), option, batch))
    found: list[Found] = []
    for bound, option, batch in sorted(tries, key=lambda item: -item[0]):
        beat_per_s = found[-1].rate_per_s if found else 0.0
        if found and bound <= beat_per_s * (1 + TOLERANCE):
            break
        rate, bound_by = _rate_within(option, batch, limits, beat_per_s)
        if rate > beat_per_s:
            found.append(Found(option.replace(max_batch=batch), rate, bound_by))
    return found


def _promising(options: Sequence[Scenario], limits: Limits) -> list[Scenario]:
    """Return the ways with one pool, and of those with two the best by rate matching under the limits."""
    pairs = [option for option in options if option.split]
    best = sorted(pairs, key=lambda option: -matched_per_s(option, limits.tpot_ms))[:MATCHED]
    return [*(option for option in options if not option.split), *best]


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
    top = top_per_s(option, batch)
    low, high = -1, len(LEVELS)
    beats = next((place for place, level in enumerate(LEVELS) if level * top > beat_per_s), len(LEVELS))
    if beat_per_s and (
        beats == len(LEVELS) or not _keeps(loaded_latencies(option, batch, LEVELS[beats]), limits)
    ):
        return 0.0, ""
    if beat_per_s:
        low = beats
    while high - low > 1:
        middle = (low + high) // 2
        if _keeps(loaded_latencies(option, batch, LEVELS[middle]), limits):
            low = middle
        else:
            high = middle
    if low < 0:
        return 0.0, bound_by(loaded_latencies(option, batch, LEVELS[0]), limits)
    if high == len(LEVELS):
        return LEVELS[-1] * top, "stability"
    below, above = loaded_latencies(option, batch, LEVELS[low]), loaded_latencies(option, batch, LEVELS[high])
    share = min(
        share_of(below.ttft_ms, above.ttft_ms, limits.ttft_ms),
        share_of(below.tpot_ms, above.tpot_ms, limits.tpot_ms),
    )
    return (LEVELS[low] + share * (LEVELS[high] - LEVELS[low])) * top, bound_by(above, limits)


def _keeps(found: Loaded, limits: Limits) -> bool:
    return found.stable and found.ttft_ms <= limits.ttft_ms and not found.tpot_ms > limits.tpot_ms


# --- the three scenarios --------------------------------------------------------------------------


def offline(options: Sequence[Scenario], sizes: Sequence[int] = ()) -> Answer:
    """Return the best throughput when all requests are there at the start.

    Long enough, `OFFLINE_BATCHES` full batches, that ramp and drain hardly matter. Replicas share
    nothing, so one is simulated; its throughput per accelerator is that of all.
    """
    tries = [(option, batch) for option in options for batch in sizes or batches(option)[-14::2]]
    option, batch = max(tries, key=lambda item: saturated(*item).output_tok_per_s / item[0].tensor_parallel)
    requests = min(max(FEWEST, OFFLINE_BATCHES * batch * option.attention_data_parallel), OFFLINE_MOST)
    scenario = option.replace(
        arrivals="offline", max_batch=batch, requests=requests, replicas=1, warmup_frac=0.0
    )
    point = point_of(run(scenario))
    setting = option.replace(max_batch=batch)
    return Answer("offline", None, setting, scenario, point, point["output_tok_per_s_per_accelerator"], "")


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
    some = with_full_batches(found.scenario.replace(arrival_per_s=found.rate_per_s), MOST)
    requests = max(FEWEST, TURNS * batch_places(some), math.ceil(some.arrival_per_s * min_duration_s))
    scenario = some.replace(
        arrivals="poisson",
        requests=min(requests, MOST),
        warmup_frac=WARM_UP,
        slo_ttft_ms=limits.ttft_ms,
        slo_tpot_ms=limits.tpot_ms,
    )
    rate, point, bound_by = highest_rate(
        scenario, some.arrival_per_s, top_per_s(scenario, scenario.max_batch, SURE_TURNS)
    )
    if point is None:
        return None
    if bound_by in ("stability", "ttft") and _is_capped(scenario, limits, sizes):
        bound_by = "tpot" if bound_by == "stability" else "both"
    scenario = scenario.replace(arrival_per_s=rate)
    throughput = rate * mean_lengths(scenario)[1] / scenario.accelerators
    return Answer(rule, limits, found.scenario, scenario, point, throughput, bound_by)


def _is_capped(scenario: Scenario, limits: Limits, sizes: Sequence[int]) -> bool:
    """Return whether a larger full batch that the KV cache can hold would break the TPOT limit.

    Of two pools none is full: what they run at once follows from the rate.
    """
    if scenario.split:
        return False
    room = sequences_held(scenario)
    larger = [batch for batch in sizes or batches(scenario) if scenario.max_batch < batch <= room]
    return bool(larger) and saturated(scenario, larger[0]).tpot_ms > limits.tpot_ms


def answers(
    benchmark: Benchmark, options: Sequence[Scenario], sizes: Sequence[int] = ()
) -> dict[str, Answer | None]:
    """Return what a system does under each rule of a benchmark; a rule the benchmark lacks is left out."""
    found: dict[str, Answer | None] = {"offline": offline(options_under("offline", options), sizes)}
    for rule in RULES[1:]:
        limits = benchmark.limits_ms(rule)
        if limits is not None:
            found[rule] = within(
                options_under(rule, options), Limits(*limits), rule, sizes, benchmark.min_duration_s
            )
    return found


def options_under(rule: str, options: Sequence[Scenario]) -> tuple[Scenario, ...]:
    """Return the options of a rule: drafts and two pools, where only some have them, are Interactive's."""
    plain = tuple(option for option in options if not option.spec_tokens and not option.split)
    return tuple(options) if rule == "interactive" else plain or tuple(options)


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
        blank = dict.fromkeys(LAYOUT)
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
        **chosen_keys(chosen),
        "bound_by": found.bound_by,
    }


def chosen_keys(scenario: Scenario) -> dict[str, Any]:
    """Return the keys of a setting that a search chooses; of two pools theirs, too, as they are run."""
    found = {key: getattr(scenario, key) for key in LAYOUT}
    if not scenario.split:
        return found
    found["policy"] = scenario.policy
    for name, pool in (("prefill", prefill_of(scenario)), ("decode", decode_of(scenario))):
        found[f"{name}_workers"] = pool.replicas
        found |= {f"{name}_{key}": getattr(pool, key) for key in ENGINE}
    return found
