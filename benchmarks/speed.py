"""How fast the engine is, in one table: `python -m benchmarks.speed` (`--quick` for a shorter run).

Times are the best of several repeats, with the median beside them, and every row has a ratio to
something measured in the same run: absolute times depend on the machine and on what else it does.
Each call sees a fresh seed, because repeating one lets the processor learn its branches.
Nothing is asserted; targets stand beside the figures.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sim_core import load_scenario, simulate
from sim_core.engine import one_pool
from sim_core.engine import run as simulator
from sim_core.engine.rules import RunRules
from sim_core.price.price import Price, price_of
from sim_core.questions import disaggregation
from sim_core.questions.deployment.plan import plans
from sim_core.questions.deployment.question import LAYOUT, Question, with_a_price
from sim_core.questions.shift import strategies
from sim_core.questions.shift.study import Study
from sim_core.results import timeline
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.frontier import evaluate, evaluate_in_turn, frontier, refine, tabulate
from sim_core.sweep.points import sweep_points
from sim_core.sweep.saturation import saturation_per_s
from sim_core.traffic import draws
from sim_core.traffic.requests import requests_of
from sim_core.traffic.trace_files.read import read_trace
from tests.engine.naive import simulate_naive
from tests.runs import listed

ROOT = Path(__file__).parent.parent
SEEDS = itertools.count()
INPUT_BYTES = 24  # arrival, prompt and output of a request: three columns of 8 bytes
LARGE = 50_000
MILLION = 1_000_000
FIRST_CALL = """
import time
from sim_core.view.session.preparation import FIRST, KERNELS, PARTS
start_s = time.perf_counter()
KERNELS.begin()
KERNELS.wait(len(FIRST), 600)
first_s = time.perf_counter()
KERNELS.wait(None, 600)
ready_s = time.perf_counter()
for part in PARTS:
    part.use()
print(first_s - start_s, ready_s - start_s, time.perf_counter() - ready_s)
"""


class Row(NamedTuple):
    """One line of the table, as text."""

    what: str
    best: str
    median: str = ""
    ratio: str = ""
    target: str = ""


class Timing(NamedTuple):
    """Seconds a call: the best repeat, the median one, and the best inside the compiled engine."""

    best_s: float
    median_s: float
    kernel_s: float

    @property
    def kernel_share(self) -> str:
        return f"kernel {self.kernel_s / self.best_s:.0%}"


@contextmanager
def kernel_clock() -> Iterator[list[float]]:
    """Collect the seconds of every call of the compiled engine."""
    spent_s: list[float] = []
    engine = one_pool.run_continuous

    def timed(*arguments: Any) -> None:
        start_s = time.perf_counter()
        engine(*arguments)
        spent_s.append(time.perf_counter() - start_s)

    one_pool.run_continuous = timed
    try:
        yield spent_s
    finally:
        one_pool.run_continuous = engine


def timing(job: Callable[[int], Any], repeats: int, calls: int = 1) -> Timing:
    """Return the time of `job(seed)`; a repeat makes several calls."""
    totals_s, kernels_s = [], []
    for _ in range(repeats):
        with kernel_clock() as spent_s:
            start_s = time.perf_counter()
            for seed in itertools.islice(SEEDS, calls):
                job(seed)
            totals_s.append((time.perf_counter() - start_s) / calls)
        kernels_s.append(sum(spent_s) / calls)
    return Timing(min(totals_s), statistics.median(totals_s), min(kernels_s))


def at_load(load: float, **changes: Any) -> Scenario:
    """Return the default scenario, lengths with a variation of 1, at a share of the saturating rate."""
    scenario = load_scenario("", prompt_cv=1.0, output_cv=1.0, **changes)
    return scenario.replace(arrival_per_s=load * saturation_per_s(scenario))


def running(scenario: Scenario) -> Callable[[int], Any]:
    """Return a job that simulates the scenario with a seed."""
    return lambda seed: simulator.run(scenario.replace(seed=seed))


def rules_of(scenario: Scenario, priced: Price) -> dict[str, Any]:
    """Return the engine's rules, as `run_engine` and the twin take them."""
    return {
        "policy": scenario.policy,
        "max_running": scenario.max_running,
        "token_budget": scenario.token_budget,
        "kv_blocks": priced.kv_blocks,
        "kv_block_tokens": priced.kv_block_tokens,
        "preemption": scenario.preemption,
        "warm": 0,
    }


# The sections of the table ------------------------------------------------------------------------


def kernel_rows(quick: bool) -> Iterator[Row]:
    """Time the compiled engine alone, by load, answer length and number of requests."""

    def nanoseconds(requests: int, load: float, **changes: Any) -> float:
        scenario = at_load(load, requests=requests, **changes)
        calls = max(1, min(64, 200_000 // requests))
        return timing(running(scenario), 3 if quick else 15, calls).kernel_s / requests * 1e9

    def rows(values: dict[Any, float], base: Any, what: str, per: str, target: str = "") -> Iterator[Row]:
        for key, value in values.items():
            ratio = f"{value / values[base]:.2f} x {per}"
            yield Row(what.format(key), f"{value:.0f} ns", "", ratio, target)

    loads = {load: nanoseconds(2_000, load) for load in (0.1, 0.5, 0.7, 0.9, 1.2)}
    yield from rows(loads, 0.7, "a request, 2,000 at {:.0%} load", "70% load")
    outputs = {tokens: nanoseconds(2_000, 0.7, output_tokens=tokens) for tokens in (50, 250, 1000)}
    yield from rows(outputs, 250, "a request, answers of {:,} tokens", "250 tokens", "nearly flat")
    turns = {"turns": 5, "think_s": 1.0}
    cached = {"prefix_caching": "on", "system_tokens": 500}
    drafts = {"spec_tokens": 3, "acceptance_length": 2.4, "draft": "ngram"}
    kinds: dict[str, tuple[dict[str, Any], str]] = {
        "alone": ({}, ""),
        "with 3 drafts": (drafts, "1.3 x alone"),
        "in sessions": (turns, "2 x alone"),
        "in sessions, cached": (turns | cached, "2 x alone"),
    }
    times = {kind: nanoseconds(10_000, 0.7, **changes) for kind, (changes, _) in kinds.items()}
    found = rows(times, "alone", "a request {} of 10,000", "alone")
    for row, (_, target) in zip(found, kinds.values(), strict=True):
        yield row._replace(target=target)
    counts = {count: nanoseconds(count, 0.7) for count in (10_000, 100_000, MILLION)}
    yield from rows(counts, 10_000, "a request of {:,}", "10,000 requests", "linear")


def twin_rows(quick: bool) -> Iterator[Row]:
    """Time the plain-Python twin of the tests and the engine on 1,000 requests."""
    scenario = at_load(0.7, requests=1_000)
    step, plain = price_of(scenario).step, listed(price_of(scenario).step)
    rules = rules_of(scenario, price_of(scenario))

    def requests(seed: int) -> tuple[np.ndarray, ...]:
        return draws.requests_sent(scenario.replace(seed=seed)).columns()

    def naive(seed: int) -> np.ndarray:
        return np.array(simulate_naive(plain, *map(list, requests(seed)), **rules).finished_s)

    def compiled(seed: int) -> np.ndarray:
        return one_pool.run_engine(step, requests_of(*requests(seed)), RunRules(**rules)).finished_s

    twin = timing(naive, 2 if quick else 10)
    engine = timing(compiled, 5 if quick else 50, 16)
    ratio, ratio_outside = (f"{twin.best_s / time_s:,.0f} x" for time_s in (engine.kernel_s, engine.best_s))
    yield Row("1,000 requests, plain Python", ms(twin.best_s), ms(twin.median_s), "1")
    yield Row("the same, compiled engine", ms(engine.kernel_s), "", ratio, "2,000 x")
    yield Row("the same, traffic drawn", ms(engine.best_s), ms(engine.median_s), ratio_outside)
    gap = np.max(np.abs(compiled(0) / naive(0) - 1))
    yield Row("the same, largest relative difference", f"{gap:.0e}", target="1e-9")


def frontier_rows(quick: bool) -> Iterator[Row]:
    """Time a frontier of 48 points: percentiles, shares, cost and the table included."""
    scenario = load_scenario("", prompt_cv=1.0, output_cv=1.0)
    repeats = 5 if quick else 64

    def large(seed: int) -> None:
        for point in sweep_points(scenario.replace(seed=seed)):
            evaluate(point, requests=LARGE, bands=True)

    def large_pooled(seed: int) -> None:
        for _ in refine(sweep_points(scenario.replace(seed=seed)), LARGE):
            pass

    def alone(seed: int, vary: dict[str, list[float]] | None = None) -> None:
        tabulate(evaluate_in_turn(sweep_points(scenario.replace(seed=seed), vary)))

    def one_by_one(seed: int) -> None:
        tabulate([evaluate(point) for point in sweep_points(scenario.replace(seed=seed))])

    small, apart = timing(alone, repeats), timing(one_by_one, repeats)
    shared = timing(lambda seed: frontier(scenario.replace(seed=seed)), repeats)
    again = timing(lambda seed: frontier(scenario), repeats)
    for name, found, target in (
        ("48 points x 2,000, one thread", small, "17 ms"),
        ("the same, each point by itself", apart, ""),
        ("the same, a second thread helps", shared, "10 ms"),
        ("the same, a seed seen before", again, "10 ms"),
    ):
        ratio = f"{found.best_s / small.best_s:.2f} x the first, {found.kernel_share}"
        yield Row(name, ms(found.best_s), ms(found.median_s), ratio, target)
    rates = {"arrival_per_s": np.linspace(1.0, 20.0, 200 if quick else 2_000).tolist()}
    many = timing(lambda seed: alone(seed, rates), 1 if quick else 3)
    ratio = f"{many.best_s / small.best_s:.1f} x the first, {many.kernel_share}"
    name = f"{len(rates['arrival_per_s']):,} points x 2,000, one thread"
    yield Row(name, s(many.best_s), s(many.median_s), ratio, "" if quick else "0.65 s")
    for name, job in (("one thread", large), ("the pool", large_pooled)):
        found = timing(job, 1 if quick else 5)
        ratio = f"{found.best_s / small.best_s:.1f} x the first, {found.kernel_share}"
        yield Row(f"48 points x {LARGE:,}, {name}", s(found.best_s), s(found.median_s), ratio, "0.5 s")


def rank_rows(repeats: int) -> Iterator[Row]:
    """Time groups of ranks in lockstep, few requests and many at once."""
    layout = {"tensor_parallel": 8, "expert_parallel": 8, "attention_data_parallel": 8, "accelerator": "h200"}
    lengths = {"prompt_tokens": 1000, "output_tokens": 250, "requests": 2000}
    for clients in (32, 256):
        traffic = {"arrivals": "closed", "concurrency": clients}
        scenario = load_scenario("model=deepseek-r1&weight_dtype=fp8", **layout, **lengths, **traffic)
        found = timing(running(scenario), repeats)
        yield Row(
            f"8 ranks x 2,000 requests of {clients} clients", ms(found.best_s), ms(found.median_s), "", "5 ms"
        )


def pool_rows(quick: bool) -> Iterator[Row]:
    """Time two pools: one point, all splits of 17 workers, and hours of shifting traffic."""
    scenario = load_scenario("policy=disaggregated", arrival_per_s=100.0)
    wide = scenario.replace(prefill_workers=8, decode_workers=9, arrival_per_s=200.0, requests=4000)
    shifting = load_scenario("slo_tpot_ms=15", demand_hours=0.25 if quick else 3.5)
    repeats = 5 if quick else 32

    def splits(seed: int) -> None:
        rows = disaggregation.split_rows(wide.replace(seed=seed, arrivals="closed", concurrency=512), 0.8)
        assert len(rows) == 16

    point = timing(running(scenario), repeats)
    map_of_16 = timing(splits, 1 if quick else 5)
    yield Row("8 workers x 2,000 requests", ms(point.best_s), ms(point.median_s), "1", "5 ms")
    yield from rank_rows(repeats)
    ratio = f"{map_of_16.best_s / point.best_s:.0f} x a point"
    yield Row(
        "16 splits of 17 workers x 4,000", ms(map_of_16.best_s), ms(map_of_16.median_s), ratio, "200 ms"
    )
    study = Study(shifting)
    requests = len(study.demand.requests)
    fixed = timing(lambda seed: study.fixed(study.mean_split), 1 if quick else 3)
    moving = timing(
        lambda seed: study.drive(strategies.Reactive(study.load, study.scenario), "reactive"),
        1 if quick else 3,
    )
    yield Row(f"shifting traffic, {requests:,} requests", s(fixed.best_s), s(fixed.median_s), "1", "a few s")
    ratio = f"{moving.best_s / fixed.best_s:.2f} x a fixed split"
    yield Row("the same, workers move", s(moving.best_s), s(moving.median_s), ratio)


def plan_rows(quick: bool) -> Iterator[Row]:
    """Time a plan: the ranking by arithmetic and the final one, and one of many candidates."""
    scenario = load_scenario("")
    long = timing(running(scenario.replace(requests=20_000)), 2 if quick else 5)
    yield Row("a run of 20,000 requests, one engine", ms(long.best_s), ms(long.median_s), "1")
    keys = ("weight_dtype", "kv_dtype", "token_budget", *LAYOUT, "max_batch")
    asked = [("", (*LAYOUT, "max_batch"), "1 s", "4 s")]
    asked += [] if quick else [("model=mixtral-8x7b", keys, "", "8 s for 16,000")]
    for text, free, first, target in asked:
        served = load_scenario(text)
        question = Question(scenario=served, rate_per_s=12.0, accelerators=with_a_price(served), free=free)
        start_s = time.perf_counter()
        found = plans(question)
        count = next(found).counts["all"]
        ready_s = time.perf_counter() - start_s
        *_, _ = found
        all_s = time.perf_counter() - start_s
        for name, spent_s, limit in (("estimate", ready_s, first), ("final ranking", all_s, target)):
            ratio = f"{spent_s / long.best_s:,.0f} x the run"
            yield Row(f"{name} of {count:,} candidates", s(spent_s), "", ratio, limit)


def timeline_rows(quick: bool) -> Iterator[Row]:
    """Time the step log and the timelines read from it: 60 requests under three policies, and a long run."""
    few = load_scenario("", requests=60, arrival_per_s=40.0, max_batch=8, token_budget=512, prompt_tokens=900)
    many = load_scenario("", requests=10_000, token_budget=2048)
    repeats = 5 if quick else 32

    def logged(seed: int) -> None:
        simulator.run(many.replace(seed=seed), log=True)

    def windowed(seed: int) -> None:
        timeline.timeline(many, None, 100.0 + seed % 50, 102.0 + seed % 50)

    drawn = timing(lambda seed: timeline.timelines(few.replace(seed=seed)), repeats)
    plain, log = timing(running(many), repeats), timing(logged, repeats)
    whole = timing(lambda seed: timeline.timeline(many.replace(seed=seed)), 2 if quick else 8)
    part = timing(windowed, repeats)
    yield Row("60 requests x 3 policies, as timelines", ms(drawn.best_s), ms(drawn.median_s), "1", "50 ms")
    yield Row("10,000 requests, no log", ms(plain.best_s), ms(plain.median_s), "1")
    yield Row(
        "the same, logged", ms(log.best_s), ms(log.median_s), f"{log.best_s / plain.best_s:.1f} x no log"
    )
    yield Row(
        "the same, as a timeline",
        ms(whole.best_s),
        ms(whole.median_s),
        f"{whole.best_s / plain.best_s:.0f} x no log",
    )
    yield Row(
        "a window of 2 s of it",
        ms(part.best_s),
        ms(part.median_s),
        f"{part.best_s / whole.best_s:.3f} x the whole",
    )


def million_rows(quick: bool) -> Iterator[Row]:
    """Time and weigh one run of a million requests."""
    scenario = at_load(0.7, requests=MILLION)
    repeats = 2 if quick else 7
    engine = timing(running(scenario), repeats).kernel_s
    face = timing(lambda seed: simulate(scenario.replace(seed=seed)), repeats)
    yield Row("1,000,000 requests, compiled engine", s(engine), "", "1", "0.15 s")
    yield Row("the same, longest gaps kept", s(face.kernel_s), "", f"{face.kernel_s / engine:.2f} x")
    yield Row("simulate()", s(face.best_s), s(face.median_s), f"{face.best_s / engine:.2f} x", "0.2 s")
    for name, beyond_bytes in memory_bytes(scenario).items():
        share = beyond_bytes / MILLION
        yield Row(name, f"{share:.0f} B", "", f"{share / INPUT_BYTES:.1f} x its inputs", "200 B")


def memory_bytes(scenario: Scenario) -> dict[str, float]:
    """Return the most memory that a run holds at one time, beyond its requests."""
    priced, requests = price_of(scenario), draws.requests_sent(scenario)
    rules = RunRules(**rules_of(scenario, priced))
    inputs = INPUT_BYTES * MILLION
    return {
        "memory a request, engine": peak_bytes(lambda: one_pool.run_engine(priced.step, requests, rules)),
        "memory a request, simulate()": peak_bytes(lambda: simulate(scenario)) - inputs,
    }


def peak_bytes(job: Callable[[], Any]) -> int:
    """Return the most memory that Python and NumPy held for a job at one time."""
    tracemalloc.start()
    try:
        job()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def traffic_rows(quick: bool) -> Iterator[Row]:
    """Time how requests are drawn, and how a trace of a million rows is read."""
    few, mixed = load_scenario(""), load_scenario("mix=chat:1,rag:1", requests=MILLION)
    repeats = 2 if quick else 7
    small = timing(lambda seed: draws.requests_sent(few.replace(seed=seed)), repeats, calls=30)
    large = timing(lambda seed: draws.requests_sent(mixed.replace(seed=seed)), repeats)
    rows = "".join(f"{0.1 * row:.6f},{row % 5000 + 1},7\n" for row in range(MILLION))
    data = f"arrival_s,prompt_tokens,output_tokens\n{rows}".encode()
    trace = timing(lambda seed: read_trace(data, max_bytes=len(data)), repeats)
    yield Row("2,000 requests drawn", ms(small.best_s), ms(small.median_s), "1", "1 ms")
    ratio = f"{large.best_s / small.best_s:.0f} x the first"
    yield Row("1,000,000 of two classes", s(large.best_s), s(large.median_s), ratio, "0.5 s")
    yield Row("a trace of 1,000,000 rows", s(trace.best_s), s(trace.median_s), "", "1 s")


def start_rows(quick: bool) -> Iterator[Row]:
    """Time the first call in a fresh process, with an empty cache and with a filled one, and the second."""
    command = [sys.executable, "-c", FIRST_CALL]
    with tempfile.TemporaryDirectory() as folder:
        options = {"cwd": ROOT, "env": {**os.environ, "NUMBA_CACHE_DIR": folder}, "text": True}
        runs = [subprocess.check_output(command, **options).split() for _ in range(2 if quick else 5)]
    chart_s, all_s, second_s = zip(*(map(float, run) for run in runs), strict=True)
    cached_s = min(all_s[1:])
    for name, times_s, target in (
        ("compiling what the first chart needs", chart_s, "7 s"),
        ("compiling all", all_s, "14 s"),
    ):
        yield Row(name, s(times_s[0]), "", f"{times_s[0] / cached_s:.0f} x from the cache", target)
    yield Row("all from the cache on disk", s(cached_s), "", "1")
    yield Row("a second time", ms(min(second_s)), "", f"{min(second_s) / cached_s:.3f} x")


SECTIONS = {
    "Compiled engine alone": kernel_rows,
    "Against plain Python": twin_rows,
    "Frontier": frontier_rows,
    "Two pools": pool_rows,
    "Plan": plan_rows,
    "Timeline": timeline_rows,
    "A million requests": million_rows,
    "Traffic": traffic_rows,
    "Start": start_rows,
}


# The table ----------------------------------------------------------------------------------------


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def s(seconds: float) -> str:
    return f"{seconds:.3g} s"


def machine() -> str:
    """Return what the figures were measured on, with a fixed loop to compare machines by."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    loop = timing(lambda seed: sum(i * i % 7 for i in range(1_000_000)), 5)
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{load}; "
        f"Python {platform.python_version()}, in which a loop of a million squares takes {ms(loop.best_s)}."
    )


def show(row: Row) -> None:
    print(f"{row.what:<40} {row.best:>9} {row.median:>9}  {row.ratio:<28} {row.target}".rstrip(), flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats, less than a minute")
    quick = parser.parse_args().quick
    for part in simulator.PARTS:
        part.use()
    print(machine())
    for title, rows in SECTIONS.items():
        print()
        show(Row(title, "best", "median", "ratio", "target"))
        for row in rows(quick):
            show(row)


if __name__ == "__main__":
    main()
