"""Points that run side by side.

Oracle: each point by itself, which knows of no other, to the last bit; otherwise stated in the test.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from sim_core.engine import work
from sim_core.engine.kernels.answers.describe import describe_runs
from sim_core.engine.kernels.one_pool import run_continuous
from sim_core.engine.work import Allowance, Stopped, allowed, shared
from sim_core.scenario.scenario import Scenario
from sim_core.sweep import batches
from sim_core.sweep.batches import MOST_POINTS, MOST_REQUESTS, in_batches
from sim_core.sweep.frontier import evaluate, evaluate_all, evaluate_in_turn
from sim_core.sweep.points import Point, sweep_points
from sim_core.traffic.requests import Requests, requests_of

CHOICES: dict[str, tuple[Any, ...]] = {  # of what may run side by side
    "policy": ("chunked", "prefill_first"),
    "arrivals": ("poisson", "gamma", "closed"),
    "engine": ("", "vllm", "sglang", "tensorrt-llm"),
    "model": ("llama-3.1-8b", "mistral-7b", "qwen3-30b-a3b"),
    "requests": (1, 2, 30, 150, 400),
    "prompt_tokens": (1, 200, 3000),
    "output_tokens": (1, 40, 900),
    "prompt_cv": (0.0, 0.7, 3.0),
    "output_cv": (0.0, 0.7, 3.0),
    "max_batch": (2, 64, 256),
    "token_budget": (300, 2048),
    "preemption": ("recompute", "swap"),
    "kv_memory_frac": (0.3, 0.9),
    "warmup_frac": (0.0, 0.1, 0.5),
    "spec_tokens": (0, 0, 3),
    "step_profile": ("", "", "1:15.1,256:220,context:0.0003"),
    "slo_percentile": (50.0, 99.0),
    "seed": tuple(range(9)),
}
ALONE: dict[str, dict[str, Any]] = {  # what cannot, or of what some points cannot
    "static": {"policy": "static"},
    "two pools": {"policy": "disaggregated"},
    "replicas": {"replicas": 2},
    "stages": {"pipeline_parallel": 2},
    "a cache": {"prefix_caching": "on", "system_tokens": 100},
    "a share of prompts known": {"prefix_hit_frac": 0.3},
    "sessions": {"turns": 3},
    "clients who think": {"arrivals": "closed", "think_s": 1.0},
    "all at once": {"arrivals": "offline"},
    "classes": {"mix": "chat:0.7,rag:0.3"},
}
SOME_ALONE: dict[str, dict[str, Any]] = {  # of these a batch is made, and then some run by themselves
    "some rejected": {"model": "gpt-j-6b", "prompt_cv": 2.0},
    "windows too short": {"arrival_per_s": 1.0, "output_tokens": 2000, "requests": 20},
}


def same_rows(points: list[Point], **given: Any) -> None:
    """Compare what a sweep says of points with what each says alone: names, order, types and values."""
    alone = [evaluate(point, **given) for point in points]
    for found in (evaluate_all(points, **given), evaluate_in_turn(points, **given)):
        for row, expected in zip(found, alone, strict=True):
            assert list(row) == list(expected)
            assert list(map(type, row.values())) == list(map(type, expected.values()))
            np.testing.assert_equal(row, expected)


def points_of(scenario: Scenario) -> list[Point]:
    """Return some points along the load of a scenario, all with as many requests."""
    if scenario.arrivals == "closed":
        return [Point({"c": n}, scenario.replace(concurrency=n)) for n in (1, 3, 20, 150)]
    if scenario.arrivals == "offline":
        return [Point({"b": n}, scenario.replace(max_batch=n)) for n in (2, 9, 64)]
    rates = [rate * scenario.arrival_per_s / 12 for rate in (0.3, 2.0, 9.0, 40.0)]
    return [Point({"r": rate}, scenario.replace(arrival_per_s=rate)) for rate in rates]


@pytest.mark.parametrize("seed", range(40))
def test_points_side_by_side_say_what_each_says_alone(seed: int) -> None:
    """Oracle: each point alone, of a scenario drawn from all that may run side by side."""
    chance = random.Random(seed)
    drawn = {key: chance.choice(values) for key, values in CHOICES.items()}
    if drawn["spec_tokens"]:
        drawn["draft"] = "ngram"
    points = points_of(Scenario(**drawn))
    assert [len(batch) for batch in in_batches(points)] == [2, 2]
    same_rows(points)


@pytest.mark.parametrize("kind", ALONE)
def test_points_that_are_not_alike_enough_run_alone(kind: str) -> None:
    """Oracle: each point alone; and by hand: they share no batch."""
    points = points_of(Scenario(**{"requests": 120} | ALONE[kind]))
    assert all(len(batch) == 1 for batch in in_batches(points))
    same_rows(points)


@pytest.mark.parametrize("kind", SOME_ALONE)
def test_points_that_turn_out_otherwise_run_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: each point alone; and some rows of batches are missing, so they were needed."""
    missing: list[bool] = []
    together = batches.rows_together
    points = points_of(Scenario(**{"requests": 120} | SOME_ALONE[kind]))
    for batch in in_batches(points):
        assert len(batch) > 1
        missing += [row is None for row in together([points[index] for index in batch])]
    assert any(missing)
    same_rows(points)


def test_lengths_of_a_trace_side_by_side() -> None:
    """Oracle: each point alone. A trace of lengths without sessions is as good as drawn ones."""
    random_numbers = np.random.default_rng(0)
    trace: Requests = requests_of(
        np.arange(90.0), random_numbers.integers(1, 2000, 90), random_numbers.integers(1, 300, 90)
    )
    points = points_of(Scenario(requests=200))
    assert [len(batch) for batch in in_batches(points, trace)] == [2, 2]
    same_rows(points, trace=trace)


def test_batches_hold_each_point_once_and_are_bounded() -> None:
    """Oracle: by hand. Two curves of 40 points one after the other, turn by turn, a point that cannot be, and
    one that takes long by itself.
    """
    scenario = Scenario(requests=3000)
    rates = np.linspace(1.0, 9.0, 40).tolist()
    points = sweep_points(scenario, {"arrival_per_s": rates, "max_batch": (8, 16)})
    points += [Point({}, None, "no", "memory"), Point({}, scenario.replace(requests=MOST_REQUESTS))]
    found = in_batches(points)
    assert sorted(number for batch in found for number in batch) == list(range(82))
    assert [80] in found and [81] in found
    for batch in found:
        assert batch == sorted(batch) and len(batch) <= MOST_POINTS
        assert sum(points[number].scenario.requests for number in batch if number != 80) <= MOST_REQUESTS
        assert len({number % 2 for number in batch}) == 1 or len(batch) == 1
    assert [len(batch) for batch in found].count(10) == 8


def test_a_batch_keeps_within_an_allowance() -> None:
    """Oracle: the points alone, each with the same part of the same allowance, and what that notes."""
    points = points_of(Scenario(requests=8000))
    given: dict[str, Any] = {"seconds": 0.004, "most_bytes": 10**8}
    with allowed(Allowance(**given)) as alone, shared(len(points)):
        expected = [evaluate(point) for point in points]
    with allowed(Allowance(**given)) as together:
        found = evaluate_all(points)
    assert expected[0]["requests"] < 8000
    np.testing.assert_equal(found, expected)
    assert together.cuts == alone.cuts and together.spent_s > 0


def test_a_batch_that_was_estimated_too_low_is_run_point_by_point() -> None:
    """Oracle: each point alone. Decodes take all of the budget but one token, so that prompts take long."""
    full = Scenario(requests=2000, token_budget=64, max_batch=64, output_cv=1.0)
    points = [Point({}, full.replace(arrival_per_s=rate)) for rate in (900.0, 1000.0, 1100.0)]
    given: dict[str, Any] = {"seconds": 0.02, "most_bytes": 10**8}
    with allowed(Allowance(**given)) as alone, shared(len(points)):
        expected = [evaluate(point) for point in points]
    with allowed(Allowance(**given)), shared(len(points)):
        assert batches.rows_together(points) == [None] * 3
    with allowed(Allowance(**given)) as together:
        np.testing.assert_equal(evaluate_all(points), expected)
    assert together.cuts == alone.cuts


def test_a_batch_ends_when_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the flag is set, and nobody has looked at it before the kernel does."""
    given = Allowance(seconds=1e6, most_bytes=10**12)
    given.stop[0] = 1
    monkeypatch.setattr(work, "raise_if_stopped", lambda: None)
    with allowed(given), pytest.raises(Stopped):
        batches.rows_together(points_of(Scenario(requests=400)))


def test_a_batch_compiles_nothing_of_its_own() -> None:
    """Oracle: the kernels' signatures: one run is a batch of one."""
    point = Point({}, Scenario(requests=50))
    evaluate(point)
    known = [list(kernel.signatures) for kernel in (run_continuous, describe_runs)]
    evaluate_in_turn([point] * 4)
    assert [list(kernel.signatures) for kernel in (run_continuous, describe_runs)] == known
