"""MLPerf-like benchmarks: their rules, published results, and how simulated ones compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from sim_core.catalogue.reader import (
    build_tables,
    count_key,
    key_of,
    limit_ms_key,
    load_preset,
    naming_file,
    preset_ids,
    rate_key,
    ratio_key,
    read_preset,
    required_count,
    text_key,
    texts_key,
    tokens_key,
)
from sim_core.fields.errors import ScenarioError


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyLimit:
    """What a benchmark demands of interactive serving."""

    id: str
    name: str = text_key("Name")
    model: str = text_key("Model preset the benchmark runs")
    ttft_ms: float = key_of(float, "Limit on TTFT", unit="ms", low=0.0, high=1e8)
    tpot_ms: float = key_of(float, "Limit on TPOT", unit="ms", low=0.0, high=1e7)
    percentile: float = key_of(float, "Percentile that must meet the limits", unit="%", low=50.0, high=99.9)
    first_round: str = text_key("Round of the benchmark that first had it")
    source: str = text_key("Where the figures come from")
    notes: str = text_key("What to know", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """The rules of one MLPerf-like benchmark: model, data set, and the latency limits of its scenarios.

    A benchmark without an interactive scenario has no interactive limits.
    """

    id: str
    title: str = text_key("Name")
    model: str = text_key("Model preset")
    workload: str = text_key("Workload preset with the data set's lengths")
    dataset: str = text_key("Data set")
    samples: int = required_count("Samples of the data set", 10_000_000)
    max_output_tokens: int = required_count("Longest answer", 1_000_000)
    prompt_tokens_mean: float = tokens_key("Mean prompt")
    prompt_tokens_p50: float = tokens_key("Median prompt")
    prompt_tokens_p90: float = tokens_key("90th percentile of the prompts")
    prompt_tokens_p99: float = tokens_key("99th percentile of the prompts")
    prompt_tokens_max: float = tokens_key("Longest prompt")
    reference_output_tokens_mean: float | None = rate_key("Mean answer of the reference model", "tokens", 1e7)
    measured_output_tokens_mean: float = tokens_key("Mean answer of submitted runs")
    offline_min_queries: int = required_count("Fewest queries of an Offline run", 10_000_000)
    min_duration_s: float = key_of(float, "Shortest run", unit="s", low=0.0, high=1e6)
    percentile: float = key_of(float, "Percentile that must meet the limits", unit="%", low=50.0, high=99.9)
    arrivals: str = text_key("How requests arrive")
    server_ttft_ms: float = limit_ms_key("Server: limit on TTFT")
    server_tpot_ms: float = limit_ms_key("Server: limit on TPOT")
    first_round: str = text_key("Round that first had the benchmark")
    interactive_ttft_ms: float | None = rate_key("Interactive: limit on TTFT", "ms", 1e8)
    interactive_tpot_ms: float | None = rate_key("Interactive: limit on TPOT", "ms", 1e8)
    interactive_first_round: str = text_key("Round that first had Interactive", "")
    interactive_speculative: str = text_key("Whether speculative decoding is allowed in Interactive", "")
    source: str = text_key("Where the figures come from")
    notes: str = text_key("What to know", "")

    def limits_ms(self, rule: str) -> tuple[float, float] | None:
        """Return the limits on TTFT and TPOT of `server` or `interactive` [ms]; None where there are none."""
        ttft_ms, tpot_ms = (getattr(self, f"{rule}_{name}_ms", None) for name in ("ttft", "tpot"))
        return None if ttft_ms is None or tpot_ms is None else (ttft_ms, tpot_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSpread:
    """Published results of one benchmark on one accelerator: count, median and range, with what to cite.

    Throughput is per accelerator; ratios to Offline are of one entry each, derived here, not official.
    """

    id: str
    accelerator: str = text_key("Accelerator preset")
    weight_dtypes: tuple[str, ...] = texts_key("Precisions as the entries state them")
    offline_count: int = count_key("Distinct Offline results", default=dataclasses.MISSING)
    offline_median: float | None = rate_key("Median Offline throughput per accelerator", "tok/s", 1e7)
    offline_min: float | None = rate_key("Lowest", "tok/s", 1e7)
    offline_max: float | None = rate_key("Highest", "tok/s", 1e7)
    server_count: int = count_key("Entries with Offline and Server", default=dataclasses.MISSING)
    server_median: float | None = rate_key("Median of Server / Offline", "", 100)
    server_min: float | None = rate_key("Lowest", "", 100)
    server_max: float | None = rate_key("Highest", "", 100)
    interactive_count: int = count_key("Entries with Offline and Interactive", default=dataclasses.MISSING)
    interactive_median: float | None = rate_key("Median of Interactive / Offline", "", 100)
    interactive_min: float | None = rate_key("Lowest", "", 100)
    interactive_max: float | None = rate_key("Highest", "", 100)
    rounds: tuple[str, ...] = texts_key("Rounds")
    division: str = text_key("Division")
    submitters: tuple[str, ...] = texts_key("Submitters")
    entry_ids: tuple[str, ...] = texts_key("Entry ids; v4.1 has none in its repository and is cited by path")
    sources: tuple[str, ...] = texts_key("Repositories and paths")
    retrieved: str = text_key("Date of retrieval")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedError:
    """How far simulated figures lie from published ones, for one rule and a set of rows."""

    id: str
    rule: str = text_key("Offline, Server or Interactive, and how it is counted")
    rows: str = text_key("Which rows")
    count: int = count_key("Rows", default=dataclasses.MISSING)
    measure: str = text_key("What the error is")
    goal: float = key_of(float, "Error aimed at", low=0.0, high=10.0)
    error: float = key_of(float, "Error", low=0.0, high=100.0)
    bias: float = key_of(float, "Median of the signed errors", low=-100.0, high=100.0)
    constant: float | None = rate_key("Error of the best constant guess", "", 100.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSystem:
    """What was simulated for one published kind of system: throughput per accelerator, and ratios to it."""

    id: str
    benchmark: str = text_key("Benchmark")
    accelerator: str = text_key("Accelerator preset")
    devices: int = required_count("Accelerators", 1024)
    weight_dtype: str = text_key("Precision of the weights")
    entries: int = count_key("Published figures it stands for", default=dataclasses.MISSING)
    offline: float = key_of(float, "Offline", unit="tok/s", low=0.0, high=1e7)
    server: float | None = ratio_key("Server / Offline")
    server_counted: float | None = ratio_key("The same, counted as LoadGen counts")
    interactive: float | None = ratio_key("Interactive / Offline")
    interactive_counted: float | None = ratio_key("The same, counted as LoadGen counts")


@dataclass(frozen=True, slots=True)
class Check:
    """A comparison with published results as it was last made, with its date and calibration."""

    date: str
    calibration: str
    command: str
    goals: tuple[CheckedError, ...]
    systems: tuple[CheckedSystem, ...]


@cache
def limits() -> Mapping[str, LatencyLimit]:
    """Return all benchmark limits by id, in alphabetical order."""
    return MappingProxyType(
        {name: load_preset("limits", name, LatencyLimit) for name in preset_ids("limits")}
    )


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """Return all benchmarks by id, in alphabetical order."""
    return MappingProxyType({name: benchmark(name) for name in preset_ids("benchmarks")})


@cache
def benchmark(name: str) -> Benchmark:
    """Return the rules of one benchmark by id."""
    return load_preset("benchmarks", name, Benchmark)


@cache
def published(name: str) -> tuple[PublishedSpread, ...]:
    """Return the published results of one benchmark, one spread per accelerator; () if there are none."""
    if name not in preset_ids("published"):
        return ()
    data = read_preset("published", name)
    with naming_file("published", name):
        rows = data.pop("spread", None)
        if data or not isinstance(rows, list):
            raise ScenarioError("the file must hold [[spread]] tables and nothing else.")
        return build_tables(PublishedSpread, name, rows)


@cache
def published_check(name: str) -> Check:
    """Return a comparison with published results by its name, such as `mlperf`."""
    data = read_preset("checks", name)
    with naming_file("checks", name):
        wanted = {"date", "calibration", "command", "goal", "system"}
        if data.keys() != wanted:
            raise ScenarioError(f"the file must hold {', '.join(sorted(wanted))} and nothing else.")
        return Check(
            date=data["date"],
            calibration=data["calibration"],
            command=data["command"],
            goals=build_tables(CheckedError, name, data["goal"]),
            systems=build_tables(CheckedSystem, name, data["system"]),
        )
