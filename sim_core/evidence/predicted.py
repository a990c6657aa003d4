"""Published operating points, what the simulator says about each, and how far the two are apart.

`presets/validation/measured.csv` holds facts only: what was run, what was measured, and where it is
printed. Everything a source leaves open is assumed here, alike for all rows (`scenario_of`):

- SGLang, and vLLM before its version 1, run prompts in steps of their own (`prefill_first`); all others
  mix them with decodes (`chunked`). Clients are the only limit of the batch, 1,024 sequences where there
  are none.
- The token budget is 8,192, as InferenceX sets it; in closed loops of fixed lengths, run by others, 2,048
  under vLLM and TensorRT-LLM. No source states the latter: of the budgets tried it fits best.
- InferenceX serves DeepSeek by SGLang with an fp8 KV cache, looks for new requests every 10 steps (30 from
  16 clients on) and streams every 10 tokens: the first token is seen that much later.
- A checkpoint whose precision is not stated has its native one; gpt-oss always does.
- KV caches are fp8 under TensorRT-LLM, and under vLLM on Blackwell devices, where weights are 8 or 4 bits
  wide; else bf16.
- Clients of a closed loop start at once and send ten requests each; the source's means hold that burst,
  and so do the simulated ones.
- MLPerf entries are simulated with the `submission` calibration, all others with `typical`.
- Batches, offline runs and single prefills are measured inside the engine: no request overhead.
- MLPerf entries do not state their layout: the fewest devices for a replica that leave room for 64
  requests.
- Two pools: prompts wait in one queue for whole-prompt steps of up to 8,192 tokens, each prefill worker has a
  KV link of 50 GB/s, and a decode worker takes as many requests as its memory holds.

Points of one pool are priced together, one table over tokens for each, with the simulator's own formulas and
engine; those of two pools are run as any other scenario.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.calibrations import calibration as calibration_of
from sim_core.engine.run import run, run_engine
from sim_core.evidence.published import FOLDER, Point, points, weight_dtype
from sim_core.fields.errors import ScenarioError
from sim_core.price import cost
from sim_core.price.step_cost import StepCost
from sim_core.price.work import Layout, Work, layout_of, work
from sim_core.scenario.scenario import Scenario, model_of
from sim_core.traffic.draws import draw, mean_lengths
from sim_core.traffic.traces import Trace

METRICS = ("ttft", "tpot", "throughput")
SUBMISSION = "submission"

TOKEN_BUDGET, DEFAULT_BUDGET = 8192, 2048
POLL_STEPS, POLL_STEPS_MANY, POLL_CLIENTS, STREAM_TOKENS = 10, 30, 16, 10
KV_MEMORY_FRAC = 0.95  # recipes set 0.90 to 0.95; some count it from what the weights leave
KV_BLOCK_TOKENS = 16
REQUESTS_PER_CLIENT = 10
UNLIMITED_BATCH = 1024
OFFLINE_REQUESTS = 2000
SERVER_REQUESTS = 3000
SERVER_WARM_UP = 0.2
SERVER_ROOM = 64
SEED = 7
GRID = np.unique(np.round(np.concatenate([np.arange(1, 65), np.geomspace(65, 16384, 110)])))
BLACKWELL = frozenset({"b200", "b300", "gb200", "gb300"})
BANDS = (0.1, 0.2, 0.3)
RANKED = 5  # rows that a rank correlation needs


# --- what is simulated for a point ----------------------------------------------------------------


def kv_dtype(point: Point) -> str:
    """Return the assumed precision of a point's KV cache."""
    narrow = point.model.startswith("gpt-oss") or point.precision in ("fp8", "fp4")
    if point.engine == "SGLang" and point.pools == "one":
        return "fp8" if polls_slowly(point) else "bf16"
    wide = point.engine == "vLLM" and point.accelerator not in BLACKWELL
    return "fp8" if narrow and not wide else "bf16"


def token_budget(point: Point) -> int:
    """Return the assumed token budget of a point's engine. [tokens]"""
    default = point.traffic == "closed" and point.lengths == "fixed" and point.engine != "SGLang"
    return DEFAULT_BUDGET if default else TOKEN_BUDGET


def polls_slowly(point: Point) -> bool:
    """Return whether a point's engine looks for new requests only every so many steps, by its recipe.

    References
    ----------
    SemiAnalysisAI/InferenceX, benchmarks/dsr1_fp4_b200_docker.sh and dsr1_fp8_b200_docker.sh:
    `--scheduler-recv-interval`, `--stream-interval`, `--kv-cache-dtype`.
    """
    recipe = point.pools == "one" and point.traffic == "closed" and point.lengths == "80-100%"
    return recipe and point.engine == "SGLang" and point.model.startswith("deepseek")


def late_steps(point: Point) -> float:
    """Return how many decode steps later than made the first token is seen, on average."""
    if not polls_slowly(point):
        return 0.0
    return (POLL_STEPS if point.clients < POLL_CLIENTS else POLL_STEPS_MANY) / 2 + STREAM_TOKENS


def policy(point: Point) -> str:
    """Return the assumed scheduling of a point's engine."""
    old = point.engine == "vLLM" and point.date < "2025"
    return "prefill_first" if old or point.engine == "SGLang" else "chunked"


def scenario_of(point: Point) -> Scenario:
    """Return the scenario of a point; lengths drawn between 80% and 100% stand as their mean."""
    share = 0.9 if point.lengths == "80-100%" else 1.0
    arrivals = {"server": "poisson", "closed": "closed", "burst": "closed"}.get(point.traffic, "offline")
    batch = point.clients or UNLIMITED_BATCH
    found = Scenario(
        model=point.model,
        accelerator=point.accelerator,
        tensor_parallel=max(point.tensor_parallel, point.prefill_devices, point.decode_devices, 1),
        expert_parallel=max(point.expert_parallel, 1),
        replicas=point.replicas,
        weight_dtype=weight_dtype(point),
        kv_dtype=kv_dtype(point),
        arrivals=arrivals,
        arrival_per_s=point.arrival_per_s if point.traffic == "server" else 12.0,
        concurrency=batch,
        requests=_request_count(point),
        prompt_tokens=max(round(share * point.prompt_tokens), 1),
        output_tokens=max(round(share * point.output_tokens), 1),
        prompt_cv=0.0,
        output_cv=0.0,
        mix=point.lengths if point.traffic == "server" else "",
        policy=policy(point),
        max_batch=batch,
        token_budget=token_budget(point),
        kv_memory_frac=KV_MEMORY_FRAC,
        warmup_frac=SERVER_WARM_UP if point.traffic == "server" else 0.0,
    )
    if point.pools == "split":
        return _with_pools(found, point)
    return _with_layout(found) if point.traffic == "server" else found


def _with_pools(scenario: Scenario, point: Point) -> Scenario:
    """Return a scenario on a point's two pools."""
    return scenario.replace(
        policy="disaggregated",
        replicas=1,
        prefill_workers=point.prefill_workers,
        prefill_tensor_parallel=point.prefill_devices,
        decode_workers=point.decode_workers,
        decode_tensor_parallel=point.decode_devices,
        token_budget=TOKEN_BUDGET,
    )


def _request_count(point: Point) -> int:
    if point.traffic == "closed":
        return point.clients * REQUESTS_PER_CLIENT
    return {"offline": OFFLINE_REQUESTS, "server": SERVER_REQUESTS}.get(point.traffic, point.clients)


def _with_layout(scenario: Scenario) -> Scenario:
    """Return a scenario on one replica's devices: the fewest that leave room for some requests."""
    devices = scenario.accelerators
    needed = SERVER_ROOM * sum(mean_lengths(scenario))
    for tp in (1, 2, 4, 8):
        found = scenario.replace(tensor_parallel=min(tp, devices), replicas=max(devices // tp, 1))
        if tp >= devices or cost.memory(found)["kv_tokens"] >= needed:
            return found
    return found


class _Traffic(NamedTuple):
    """What one replica's engine is given."""

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    concurrency: int
    replicas: int


def _traffic(point: Point, scenario: Scenario) -> _Traffic:
    """Return the requests of a point."""
    if point.traffic == "server":
        rate = scenario.arrival_per_s / scenario.replicas
        drawn = draw(scenario.replace(arrival_per_s=rate, replicas=1))
        return _Traffic(*drawn[:3], 0, 1)
    count = scenario.requests
    if point.traffic == "offline":
        count = max(count // point.replicas, 1)  # replicas are alike: one is simulated
    prompt, output = _drawn_lengths(point, count)
    loop = point.traffic in ("closed", "burst")
    return _Traffic(
        np.zeros(count), prompt, output, point.clients if loop else 0, point.replicas if loop else 1
    )


def _drawn_lengths(point: Point, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths drawn between 80% and 100% of the nominal ones, or all equal."""
    share = np.ones((2, count))
    if point.lengths == "80-100%":
        share = _shares(count)
    prompt, output = np.round(share * [[point.prompt_tokens], [point.output_tokens]]).astype(np.int64)
    return np.maximum(prompt, 1), np.maximum(output, 1)


@lru_cache(maxsize=64)
def _shares(count: int) -> np.ndarray:
    return np.random.default_rng(SEED).uniform(0.8, 1.0, (2, count))


# --- the prediction of many points ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bench:
    """Points with all that does not depend on the constants, ready to be priced together.

    `work` has one column a field, shape (points, 1); a point without room for one request has no KV blocks.
    """

    points: tuple[Point, ...]
    scenarios: tuple[Scenario, ...]
    work: Any
    kv_blocks: tuple[int, ...]
    windows: tuple[int, ...]

    def part(self, chosen: Iterable[bool]) -> Bench:
        """Return the bench of some points."""
        places = [place for place, inside in enumerate(chosen) if inside]
        columns = [column[places] for column in self.work]
        tuples = (
            tuple(items[i] for i in places)
            for items in (self.points, self.scenarios, self.kv_blocks, self.windows)
        )
        chosen_points, scenarios, blocks, windows = tuples
        return Bench(chosen_points, scenarios, type(self.work)(*columns), blocks, windows)


def bench_of(points: Sequence[Point]) -> Bench:
    """Return the bench of points of one pool."""
    scenarios = tuple(map(scenario_of, points))
    works, blocks, windows = zip(*map(_described, scenarios), strict=True) if points else ((), (), ())
    columns = [np.array(column)[:, None] for column in zip(*works, strict=True)]
    return Bench(tuple(points), scenarios, Work(*columns), blocks, windows)


def _described(scenario: Scenario) -> tuple[Any, int, int]:
    """Return the work of a scenario, its KV blocks and its window."""
    model = model_of(scenario)
    load = _work(scenario.model, scenario.accelerator, *_layout(scenario))
    held = cost.memory(scenario)["kv_tokens"] // scenario.kv_block_tokens
    needed = -(-int(sum(mean_lengths(scenario))) // scenario.kv_block_tokens)
    return load, held if held >= needed else 0, model.window_tokens if model.window_layers else 0


def _layout(scenario: Scenario) -> tuple:
    return tuple(layout_of(scenario))


@lru_cache(maxsize=1024)
def _work(model: str, accelerator: str, *layout: Any) -> Any:
    return work(catalogue.model(model), catalogue.accelerator(accelerator), Layout(*layout))


def predict(bench: Bench, constants: Any, smooth: bool = True) -> np.ndarray:
    """Return mean TTFT [ms], mean TPOT [ms] and output tokens per second of each point, shape (points, 3).

    Parameters
    ----------
    bench : Bench
    constants : Constants
        Of a calibration; `smooth` is the calibration's too.

    Returns
    -------
    ndarray of float, shape (points, 3)
        NaN where a point does not fit its devices, or has no such figure.
    """
    found = np.full((len(bench.points), 3), np.nan)
    batches = [scenario.max_batch for scenario in bench.scenarios]
    for place, step in enumerate(step_costs(bench.work, bench.windows, batches, constants, smooth)):
        if bench.kv_blocks[place]:
            found[place] = _simulated(bench, place, step, constants)
    return found


def step_costs(
    load: Work, windows: Sequence[int], batches: Sequence[int], constants: Any, smooth: bool
) -> Iterator[StepCost]:
    """Yield the price list of each row of `load`, whose fields are columns, up to its largest batch."""
    shape = (len(windows), GRID.size)
    token_s, row_s = (
        np.broadcast_to(sum(parts(load, constants, smooth, GRID).values()), shape)
        for parts in (cost.token_parts, cost.row_parts)
    )
    rates = [
        np.broadcast_to(sum(np.asarray(seconds) for seconds in parts.values()), (shape[0], 1))[:, 0]
        for parts in cost.rate_parts(load, constants, smooth)
    ]
    for place, (window, batch) in enumerate(zip(windows, batches, strict=True)):
        tokens = np.interp(np.arange(TOKEN_BUDGET + 1.0), GRID, token_s[place])
        rows = np.interp(np.arange(batch + 1.0), GRID, row_s[place])
        tokens[0] = rows[0] = 0.0
        counts = cost.Rates(*(float(rate[place]) for rate in rates))
        yield cost.step_cost(tokens, rows, counts, window)


def _simulated(bench: Bench, place: int, step: Any, constants: Any) -> tuple[float, float, float]:
    """Return mean TTFT and TPOT [ms] and output tokens per second of one point."""
    point, scenario = bench.points[place], bench.scenarios[place]
    given = _traffic(point, scenario)
    client = point.traffic in ("closed", "burst", "server")
    before_s, after_s = (constants.request_before_s, constants.request_after_s) if client else (0.0, 0.0)
    found = run_engine(
        step,
        given.arrival_s + before_s,
        given.prompt_tokens,
        given.output_tokens,
        policy=scenario.policy,
        max_running=scenario.max_batch,
        token_budget=scenario.token_budget,
        kv_blocks=bench.kv_blocks[place],
        kv_block_tokens=KV_BLOCK_TOKENS,
        concurrency=given.concurrency,
        turnaround_s=before_s + after_s,
        replicas=given.replicas,
    )
    many = given.output_tokens > 1
    first = int(scenario.warmup_frac * given.arrival_s.size)
    ttft_s = (found.first_token_s - found.arrival_s)[first:] + before_s + after_s
    tpot_s = (found.finished_s - found.first_token_s)[many] / (given.output_tokens[many] - 1)
    elapsed_s = found.finished_s.max() + after_s
    copies = point.replicas if point.traffic == "offline" else 1
    rate = math.nan if point.traffic == "server" else copies * given.output_tokens.sum() / elapsed_s
    tpot_ms = 1e3 * tpot_s[first:].mean() if many.any() else math.nan
    late_ms = late_steps(point) * tpot_ms if client else 0.0
    return 1e3 * ttft_s.mean() + late_ms, tpot_ms, rate


def predict_pools(points: Sequence[Point], calibration: str = "typical") -> np.ndarray:
    """Return the same as `predict` for points of two pools, each run as a scenario of its own."""
    return np.array([_run_pools(point, calibration) for point in points], dtype=float).reshape(-1, 3)


def _run_pools(point: Point, calibration: str) -> tuple[float, float, float]:
    scenario = scenario_of(point).replace(calibration=calibration)
    prompt, output = _drawn_lengths(point, scenario.requests)
    try:
        found = run(scenario, trace=Trace(np.zeros(prompt.size), prompt, output, point.id))
    except ScenarioError:  # it does not fit
        return (math.nan,) * 3
    ttft_s = found.first_token_s - found.arrival_s
    tpot_s = (found.finished_s - found.first_token_s) / np.maximum(output - 1, 1)
    return 1e3 * ttft_s.mean(), 1e3 * tpot_s.mean(), output.sum() / found.finished_s.max()


def measured(points: Sequence[Point]) -> np.ndarray:
    """Return measured TTFT [ms], TPOT [ms] and throughput [tok/s], NaN where unknown, shape (points, 3)."""
    return np.array(
        [(point.ttft_ms, point.tpot_ms, point.output_tok_per_s) for point in points], dtype=float
    ).reshape(-1, 3)


def ratios(points: Sequence[Point], predicted: np.ndarray) -> np.ndarray:
    """Return predicted over measured, shape (points, 3); NaN where either is missing.

    Where a closed loop's source prints no throughput, both sides are `steady_tok_per_s`, which is no evidence
    beside TTFT and TPOT.
    """
    found = predicted / measured(points)
    for place, point in enumerate(points):
        if math.isnan(found[place, 2]) and point.traffic in ("closed", "burst"):
            ours = steady_tok_per_s(point, *predicted[place, :2])
            found[place, 2] = ours / steady_tok_per_s(point, point.ttft_ms, point.tpot_ms)
    return found


def steady_tok_per_s(point: Point, ttft_ms: float, tpot_ms: float) -> float:
    """Return what a steady closed loop with these latencies puts out [tok/s]: clients x output / E2E."""
    return 1e3 * point.clients * point.output_tokens / (ttft_ms + (point.output_tokens - 1) * tpot_ms)


# --- how far apart they are -----------------------------------------------------------------------


class Errors(NamedTuple):
    """How predictions compare with measurements. Percentages of the measured value.

    `median_pct` and `mean_pct` of the absolute error, `bias_pct` the median of the signed one (negative:
    predicted too low), `within_20_frac` the share of rows within 20%.
    """

    rows: int
    median_pct: float
    mean_pct: float
    bias_pct: float
    within_20_frac: float


def errors(ratio: Any) -> Errors:
    """Return the errors of ratios predicted / measured; NaN are left out.

    Examples
    --------
    >>> errors([0.9, 1.0, 1.1, 1.3, 1.5])
    Errors(rows=5, median_pct=10.0, mean_pct=20.0, bias_pct=10.0, within_20_frac=0.6)
    """
    values = np.asarray(ratio, dtype=float)
    error = values[np.isfinite(values)] - 1.0
    if not error.size:
        return Errors(0, math.nan, math.nan, math.nan, math.nan)
    size = np.abs(error)
    percents = (float(np.median(size)), float(size.mean()), float(np.median(error)))
    inside = float((size <= 0.2 + 1e-12).mean())
    return Errors(error.size, *(round(100 * value, 6) for value in percents), inside)


def rank(points: Sequence[Point], predicted: Any, observed: Any) -> float:
    """Return the median rank correlation (Spearman) within groups of one model, lengths and traffic.

    Groups of fewer than five rows are left out; NaN if there are no others.
    """
    groups: dict[tuple, list[int]] = {}
    predicted, observed = np.asarray(predicted, float), np.asarray(observed, float)
    for place, point in enumerate(points):
        if np.isfinite(predicted[place]) and np.isfinite(observed[place]):
            key = (point.model, point.prompt_tokens, point.output_tokens, point.lengths, point.traffic)
            groups.setdefault(key, []).append(place)
    found = [
        _spearman(predicted[places], observed[places]) for places in groups.values() if len(places) >= RANKED
    ]
    return float(np.median(found)) if found else math.nan


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of ranks; equal values share their mean rank."""

    def ranks(values: np.ndarray) -> np.ndarray:
        ordered = np.sort(values)
        low, high = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
        return 0.5 * (low + high)

    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / spread if spread else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Points with their predictions, in the same order; all arrays have shape (points, 3)."""

    points: tuple[Point, ...]
    predicted: np.ndarray
    measured: np.ndarray
    ratio: np.ndarray


@lru_cache(maxsize=4)
def scored(calibration: str = "typical") -> Scored:
    """Return all points of the table under one calibration."""
    return score(points(), calibration)


def score(chosen: Sequence[Point], calibration: str = "typical") -> Scored:
    """Return points with their predictions.

    MLPerf entries, tuned for one model and one benchmark, are predicted under `SUBMISSION` where the
    calibration is the typical one.
    """
    chosen = tuple(chosen)
    ways: dict[tuple[str, str], list[int]] = {}
    for place, point in enumerate(chosen):
        name = SUBMISSION if _tuned(point, calibration) else calibration
        ways.setdefault((point.pools, name), []).append(place)
    predicted = np.full((len(chosen), 3), np.nan)
    for (pools, name), places in ways.items():
        some = [chosen[place] for place in places]
        predicted[places] = predict_pools(some, name) if pools == "split" else _predict_one(some, name)
    return Scored(chosen, predicted, measured(chosen), ratios(chosen, predicted))


def _predict_one(points: Sequence[Point], calibration: str) -> np.ndarray:
    constants = calibration_of(calibration)
    return predict(bench_of(points), constants.base, constants.smooth)


def _tuned(point: Point, calibration: str) -> bool:
    return point.traffic == "server" and calibration == "typical"


def as_rows(found: Scored) -> list[dict[str, Any]]:
    """Return scored points as flat rows, for tables and files: facts, assumptions, predictions, errors.

    `throughput_tok_per_s` is the printed throughput, or where a closed loop's source prints none, the one
    that follows from its latencies (`throughput_derived`); the predicted one is made alike.
    """
    rows = []
    for place, point in enumerate(found.points):
        predicted, ratio = found.predicted[place].tolist(), found.ratio[place].tolist()
        derived = math.isnan(point.output_tok_per_s) and not math.isnan(ratio[2])
        throughput = point.output_tok_per_s
        if derived:
            throughput = steady_tok_per_s(point, point.ttft_ms, point.tpot_ms)
        rows.append(
            {
                **point._asdict(),
                "family": point.family,
                "status": point.status,
                "assumed_policy": "disaggregated" if point.pools == "split" else policy(point),
                "assumed_kv_dtype": kv_dtype(point),
                "assumed_token_budget": token_budget(point),
                "throughput_tok_per_s": throughput,
                "throughput_derived": derived,
                "predicted_ttft_ms": predicted[0],
                "predicted_tpot_ms": predicted[1],
                "predicted_throughput_tok_per_s": throughput * ratio[2],
                **{f"{name}_error_pct": 100 * (ratio[i] - 1) for i, name in enumerate(METRICS)},
            }
        )
    return rows


@cache
def error_tables() -> Mapping[str, Any]:
    """Return the errors over all closed loops of the full table, from which the points here are chosen.

    Tables ``model``, ``accelerator`` (each row predicted by a fit without its model or accelerator) and
    ``none`` (in sample), in each one for ``all`` and for every family.
    """
    return MappingProxyType(tomllib.loads((FOLDER / "errors.toml").read_text(encoding="utf-8")))
