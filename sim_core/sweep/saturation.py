"""Saturation: the request rate at which a scenario can keep up no more."""

from __future__ import annotations

import numpy as np

from sim_core.engine.run import run
from sim_core.engine.work import affordable_requests, kept
from sim_core.price.pools import decode_of
from sim_core.price.price import price_of
from sim_core.results.answers import answer_of
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import Requests

SATURATION_REQUESTS = 2_000
TURNOVERS = 6  # requests of each client
RUNS = 8  # as one of so many a view counts each
LEAST_ENGINES = 8  # of a pool that is halved although that leaves one over


def saturation_per_s(
    scenario: Scenario, trace: Requests | None = None, profile: EngineProfile | None = None
) -> float:
    """Return the highest request rate that the engine can keep up [1/s].

    That is its rate in a closed loop with the batch always full; or, where the KV cache cannot hold a full
    batch and preemptions cost time, with as many clients as it can hold, if that is faster.
    """
    closed = scenario.replace(
        arrivals="closed",
        warmup_frac=0.2,
        requests=SATURATION_REQUESTS,  # so that a refined sweep keeps its rates
        # these do not matter in a closed loop
        arrival_per_s=1.0,
        arrival_cv=1.0,
        slo_ttft_ms=1.0,
        slo_tpot_ms=1.0,
        slo_percentile=99.0,
        class_limits="",
    )
    return _saturation_per_s(closed, trace, profile)


@kept(256, RUNS)
def _saturation_per_s(scenario: Scenario, trace: Requests | None, profile: EngineProfile | None) -> float:
    smaller = _of_fewer_engines(scenario, trace)
    share = smaller.engines / scenario.engines
    return _of_all_engines_per_s(smaller, trace, profile) / share


def _of_fewer_engines(scenario: Scenario, trace: Requests | None) -> Scenario:
    """Return a scenario with so few of its engines that a view may run it with its batch full.

    Engines that share their work evenly saturate together, each at the same rate; of two pools, only as many
    are left out of one as of the other, so that the same pool binds.
    """
    names = ("prefill_workers", "decode_workers") if scenario.split else ("replicas",)
    counts = {name: getattr(scenario, name) for name in names}
    smaller, parts = scenario, 2
    while affordable_requests(smaller, trace) < TURNOVERS * _places(smaller):
        if any(count % parts and count // parts < LEAST_ENGINES for count in counts.values()):
            break
        if min(counts.values()) < parts:
            break
        smaller = scenario.replace(**{name: count // parts for name, count in counts.items()})
        parts *= 2
    return smaller


def _places(scenario: Scenario) -> int:
    return scenario.max_running * scenario.engines * (2 if scenario.policy == "static" else 1)


def _of_all_engines_per_s(scenario: Scenario, trace: Requests | None, profile: EngineProfile | None) -> float:
    places = _places(scenario)
    found = _closed_loop_per_s(scenario, places + max(8, places // 4), trace, profile)
    if scenario.policy == "static":
        return found
    held = _requests_held(scenario, trace, profile)
    return max(found, _closed_loop_per_s(scenario, held, trace, profile)) if held < places else found


def _closed_loop_per_s(
    scenario: Scenario, clients: int, trace: Requests | None, profile: EngineProfile | None
) -> float:
    """Return the rate at which requests finish if there are always as many as there are clients [1/s]."""
    clients = min(clients, int(FIELDS["concurrency"].high))
    requests = min(max(scenario.requests, TURNOVERS * clients), FIELDS["requests"].high)
    found = run(scenario.replace(concurrency=clients, requests=requests), trace=trace, profile=profile)
    return answer_of(found).request_per_s


def _requests_held(scenario: Scenario, trace: Requests | None, profile: EngineProfile | None) -> int:
    """Return how many requests, on average half-way through their answers, nine tenths of the KV cache hold.

    Answers count by their length: those that take long are met more often.
    """
    found = price_of(decode_of(scenario) if scenario.split else scenario, profile)
    traffic = requests_sent(scenario, trace)
    outputs = traffic.output_tokens.astype(float)
    tokens = np.average(traffic.prompt_tokens + outputs / 2, weights=outputs) + found.kv_block_tokens / 2
    return max(1, int(0.9 * found.kv_blocks * found.kv_block_tokens / tokens)) * scenario.engines
