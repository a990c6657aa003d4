"""What the MLPerf-like page asks of the simulator: a benchmark's answers on a system, kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from sim_core import catalogue
from sim_core.catalogue.benchmarks import Benchmark
from sim_core.questions.benchmark import rules as benchmark_rules
from sim_core.questions.benchmark.rules import Answer
from sim_core.questions.benchmark.search import Limits, system, tuned
from sim_core.questions.benchmark.ways import submitted_ways
from sim_core.scenario.keys.caching import ALONE
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.figures import Row
from sim_core.view.session import state, sweeps

SIMULATED = "MLPerf-like: simulated, not an MLPerf result."

DEVICES = (1, 2, 4, 8, 16, 32, 64)


class SystemStudy(NamedTuple):
    """One system on the page: how it may be set up, and what it does under the rules."""

    benchmark: Benchmark
    options: tuple[Scenario, ...]
    sizes: tuple[int, ...]
    answers: dict[str, Answer | None]

    @property
    def offline(self) -> float:
        """Offline throughput. [tok/s per accelerator]"""
        answer = self.answers["offline"]
        return answer.output_tok_per_s_per_accelerator if answer else math.nan

    def under(self, rule: str) -> tuple[Scenario, ...]:
        """Return how the system may be set up under a rule, or for the visitor's own limits."""
        return benchmark_rules.options_under(rule, self.options)

    def kept(self, answer: Answer | None) -> float:
        """Return the share of Offline throughput that an answer keeps; 0 where there is none."""
        return answer.output_tok_per_s_per_accelerator / self.offline if answer else 0.0


# What is simulated


def study(scenario: Scenario) -> SystemStudy:
    """Return the system that scenario and view ask for, with its answers."""
    sweeps.wait_until_ready()
    if state.view("tuned") == "on":
        scenario = scenario.replace(calibration="submission")
    benchmark = catalogue.benchmark(state.view("bench"))
    own = state.view("setup") == "own"
    devices = scenario.accelerators if own else int(state.view_number("devices"))
    return _study(benchmark.id, _plain(scenario, own), devices, own)


def _plain(scenario: Scenario, own: bool) -> Scenario:
    """Return a scenario without what a study does not depend on, so that studies are shared."""
    kept = scenario.replace(
        slo_ttft_ms=1.0,
        slo_tpot_ms=1.0,
        arrival_per_s=1.0,
        arrival_cv=1.0,
        concurrency=1,
        requests=1,
        arrivals="poisson",
        mix="",
        request_list="",
        prompt_tokens=1,
        output_tokens=1,
        prompt_cv=0.0,
        output_cv=0.0,
        warmup_frac=0.1,
        slo_percentile=99.0,
        **ALONE,
    )
    if own:
        return kept
    return kept.replace(
        tensor_parallel=1,
        expert_parallel=1,
        replicas=1,
        weight_dtype="bf16",
        kv_dtype="bf16",
        policy="chunked",
        max_batch=256,
        token_budget=8192,
        router="least_loaded",
    )


@lru_cache(maxsize=128)
def _study(name: str, scenario: Scenario, devices: int, own: bool) -> SystemStudy:
    """Return one system's answers; kept for all visitors."""
    benchmark = catalogue.benchmark(name)
    if own:
        options: tuple[Scenario, ...] = (system(benchmark, scenario),)
    else:
        options = tuple(submitted_ways(benchmark, tuned(benchmark, scenario), devices))
    sizes = (scenario.max_batch,) if own else ()
    return SystemStudy(benchmark, options, sizes, benchmark_rules.answers(benchmark, options, sizes))


@lru_cache(maxsize=512)
def _within(
    options: tuple[Scenario, ...], sizes: tuple[int, ...], asked: Limits, min_duration_s: float
) -> Answer | None:
    return benchmark_rules.within(options, asked, "own", sizes, min_duration_s)


def own_answer(study: SystemStudy, asked: Limits) -> Answer | None:
    """Return what the system does within the visitor's limits, in runs as long as the benchmark's."""
    return _within(study.under("own"), study.sizes, asked, study.benchmark.min_duration_s)


@lru_cache(maxsize=512)
def own_curve(
    options: tuple[Scenario, ...],
    sizes: tuple[int, ...],
    along: str,
    other_ms: float,
    extra: tuple[float, ...],
) -> Sequence[Row]:
    steps = benchmark_rules.TPOT_STEPS_MS if along == "tpot" else benchmark_rules.TTFT_STEPS_MS
    return benchmark_rules.limit_curve(options, (*steps, *extra), along=along, other_ms=other_ms, sizes=sizes)


def own_limits(scenario: Scenario) -> Limits:
    """Return the visitor's limits. [ms]"""
    return Limits(scenario.slo_ttft_ms, scenario.slo_tpot_ms)
