"""MLPerf-like benchmarks: their rules, published results, and how simulated ones compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from sim_core.catalogue.reader import build_tables, load_preset, naming_file, preset_ids, read_preset
from sim_core.fields.described import described
from sim_core.fields.errors import ScenarioError


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyLimit:
    """What a benchmark demands of interactive serving."""

    id: str
    name: str = described("Name")
    model: str = described("Model preset the benchmark runs")
    ttft_ms: float = described("Limit on TTFT", unit="ms", low=0.0, high=1e8)
    tpot_ms: float = described("Limit on TPOT", unit="ms", low=0.0, high=1e7)
    percentile: float = described("Percentile that must meet the limits", unit="%", low=50.0, high=99.9)
    first_round: str = described("Round of the benchmark that first had it")
    source: str = described("Where the figures come from")
    notes: str = described("What to know", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """The rules of one MLPerf-like benchmark: model, data set, and the latency limits of its scenarios.

    A benchmark without an interactive scenario has no interactive limits.
    """

    id: str
    title: str = described("Name")
    model: str = described("Model preset")
    workload: str = described("Workload preset with the data set's lengths")
    dataset: str = described("Data set")
    samples: int = described("Samples of the data set", low=1, high=10_000_000)
    max_output_tokens: int = described("Longest answer", low=1, high=1_000_000)
    prompt_tokens_mean: float = described("Mean prompt", unit="tokens", low=0.0, high=1e7)
    prompt_tokens_p50: float = described("Median prompt", unit="tokens", low=0.0, high=1e7)
    prompt_tokens_p90: float = described("90th percentile of the prompts", unit="tokens", low=0.0, high=1e7)
    prompt_tokens_p99: float = described("99th percentile of the prompts", unit="tokens", low=0.0, high=1e7)
    prompt_tokens_max: float = described("Longest prompt", unit="tokens", low=0.0, high=1e7)
    reference_output_tokens_mean: float | None = described(
        "Mean answer of the reference model", None, unit="tokens", low=0.0, high=1e7
    )
    measured_output_tokens_mean: float = described(
        "Mean answer of submitted runs", unit="tokens", low=0.0, high=1e7
    )
    offline_min_queries: int = described("Fewest queries of an Offline run", low=1, high=10_000_000)
    min_duration_s: float = described("Shortest run", unit="s", low=0.0, high=1e6)
    percentile: float = described("Percentile that must meet the limits", unit="%", low=50.0, high=99.9)
    arrivals: str = described("How requests arrive")
    server_ttft_ms: float = described("Server: limit on TTFT", unit="ms", low=0.0, high=1e8)
    server_tpot_ms: float = described("Server: limit on TPOT", unit="ms", low=0.0, high=1e8)
    first_round: str = described("Round that first had the benchmark")
    interactive_ttft_ms: float | None = described(
        "Interactive: limit on TTFT", None, unit="ms", low=0.0, high=1e8
    )
    interactive_tpot_ms: float | None = described(
        "Interactive: limit on TPOT", None, unit="ms", low=0.0, high=1e8
    )
    interactive_first_round: str = described("Round that first had Interactive", "")
    interactive_speculative: str = described("Whether speculative decoding is allowed in Interactive", "")
    interactive_spec_tokens: int = described("Interactive: drafts a step, at most", 0, low=0, high=16)
    source: str = described("Where the figures come from")
    notes: str = described("What to know", "")

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
    accelerator: str = described("Accelerator preset")
    weight_dtypes: tuple[str, ...] = described("Precisions as the entries state them")
    offline_count: int = described("Distinct Offline results", low=0, high=10_000_000)
    offline_median: float | None = described(
        "Median Offline throughput per accelerator", None, unit="tok/s", low=0.0, high=1e7
    )
    offline_min: float | None = described("Lowest", None, unit="tok/s", low=0.0, high=1e7)
    offline_max: float | None = described("Highest", None, unit="tok/s", low=0.0, high=1e7)
    server_count: int = described("Entries with Offline and Server", low=0, high=10_000_000)
    server_median: float | None = described("Median of Server / Offline", None, low=0.0, high=100)
    server_min: float | None = described("Lowest", None, low=0.0, high=100)
    server_max: float | None = described("Highest", None, low=0.0, high=100)
    interactive_count: int = described("Entries with Offline and Interactive", low=0, high=10_000_000)
    interactive_median: float | None = described("Median of Interactive / Offline", None, low=0.0, high=100)
    interactive_min: float | None = described("Lowest", None, low=0.0, high=100)
    interactive_max: float | None = described("Highest", None, low=0.0, high=100)
    rounds: tuple[str, ...] = described("Rounds")
    division: str = described("Division")
    submitters: tuple[str, ...] = described("Submitters")
    entry_ids: tuple[str, ...] = described("Entry ids; v4.1 has none in its repository and is cited by path")
    sources: tuple[str, ...] = described("Repositories and paths")
    retrieved: str = described("Date of retrieval")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedError:
    """How far simulated figures lie from published ones, for one rule and a set of rows."""

    id: str
    rule: str = described("Offline, Server or Interactive, and how it is counted")
    rows: str = described("Which rows")
    count: int = described("Rows", low=0, high=10_000_000)
    measure: str = described("What the error is")
    goal: float = described("Error aimed at", low=0.0, high=10.0)
    error: float = described("Error", low=0.0, high=100.0)
    bias: float = described("Median of the signed errors", low=-100.0, high=100.0)
    constant: float | None = described("Error of the best constant guess", None, low=0.0, high=100.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSystem:
    """What was simulated for one published kind of system: throughput per accelerator, and ratios to it."""

    id: str
    benchmark: str = described("Benchmark")
    accelerator: str = described("Accelerator preset")
    devices: int = described("Accelerators", low=1, high=1024)
    weight_dtype: str = described("Precision of the weights")
    entries: int = described("Published figures it stands for", low=0, high=10_000_000)
    offline: float = described("Offline", unit="tok/s", low=0.0, high=1e7)
    server: float | None = described("Server / Offline", None, low=0.0, high=100.0, zero=True)
    server_counted: float | None = described(
        "The same, counted as LoadGen counts", None, low=0.0, high=100.0, zero=True
    )
    interactive: float | None = described("Interactive / Offline", None, low=0.0, high=100.0, zero=True)
    interactive_counted: float | None = described(
        "The same, counted as LoadGen counts", None, low=0.0, high=100.0, zero=True
    )


@dataclass(frozen=True, slots=True)
class Check:
    """A comparison with published results as it was last made, with its date and calibration."""

    date: str
    calibration: str
    command: str
    goals: tuple[CheckedError, ...]
    systems: tuple[CheckedSystem, ...]


@cache
def latency_limits() -> Mapping[str, LatencyLimit]:
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
