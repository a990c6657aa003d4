"""What the simulator says about published operating points.

Points of one pool are priced together, one table over tokens for each, with the simulator's own formulas and
engine; those of two pools are run as any other scenario.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.calibrations import Constants
from sim_core.catalogue.engines import ServingEngine
from sim_core.engine.one_pool import run_engine
from sim_core.engine.rules import RunRules
from sim_core.engine.run import run
from sim_core.engine.work import estimated
from sim_core.evidence.assumed import (
    KV_BLOCK_TOKENS,
    TOKEN_BUDGET,
    at_once,
    given_requests,
    has_deepgemm,
    late_steps,
    loop_of,
    scenario_of,
)
from sim_core.evidence.published import PublishedPoint
from sim_core.fields.errors import ScenarioError
from sim_core.price.kernels import Kernels, experts_of, kernels_of
from sim_core.price.memory import memory
from sim_core.price.parts import Rates, Terms, rate_parts, row_parts, terms, token_parts
from sim_core.price.price import step_cost
from sim_core.price.step_cost import StepCost
from sim_core.price.work import Layout, Work, layout_of, work
from sim_core.scenario.scenario import Scenario, admission_of, model_of
from sim_core.traffic.draws import mean_lengths

CLIENTS = frozenset({"closed", "burst", "server"})  # measured by a client, outside of the engine
Row = TypeVar("Row", bound=tuple[Any, ...])
GRID = np.unique(np.round(np.concatenate([np.arange(1, 65), np.geomspace(65, 16384, 110)])))


# --- the prediction of many points ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bench:
    """Points with all that does not depend on the constants, ready to be priced together.

    `work` and `kernels` have one column a field, shape (points, 1); a point without room for one request has
    no KV blocks.
    """

    points: tuple[PublishedPoint, ...]
    scenarios: tuple[Scenario, ...]
    work: Work
    kernels: Kernels
    kv_blocks: tuple[int, ...]
    windows: tuple[int, ...]

    def part(self, chosen: Iterable[bool]) -> Bench:
        """Return the bench of some points."""
        places = [place for place, inside in enumerate(chosen) if inside]
        return Bench(
            tuple(self.points[place] for place in places),
            tuple(self.scenarios[place] for place in places),
            _part(self.work, places),
            _part(self.kernels, places),
            tuple(self.kv_blocks[place] for place in places),
            tuple(self.windows[place] for place in places),
        )


def bench_of(points: Sequence[PublishedPoint]) -> Bench:
    """Return the bench of points of one pool."""
    scenarios = tuple(map(scenario_of, points))
    columns = zip(*map(_described, points, scenarios), strict=True) if points else ((), (), (), ())
    works, kernels, blocks, windows = columns
    return Bench(tuple(points), scenarios, _columns(works), _columns(kernels), blocks, windows)


def _columns(rows: Sequence[Row]) -> Row:
    """Return tuples of numbers, or of such tuples, as one whose every number is a column of many."""
    kind = type(rows[0])
    return kind(
        *(
            _columns(values) if isinstance(values[0], tuple) else np.array(values)[:, None]
            for values in zip(*rows, strict=True)
        )
    )


def _part(columns: Row, places: list[int]) -> Row:
    """Return some rows of what `_columns` returns."""
    kind = type(columns)
    return kind(
        *(
            _part(values, places) if isinstance(values, tuple) else np.asarray(values)[places]
            for values in columns
        )
    )


def _described(point: PublishedPoint, scenario: Scenario) -> tuple[Work, Kernels, int, int]:
    """Return the work of a point's scenario, its kernels, its KV blocks and its window."""
    model = model_of(scenario)
    load, kernels = _device(scenario.model, scenario.accelerator, layout_of(scenario), has_deepgemm(point))
    held = int(memory(scenario)["kv_tokens"]) // scenario.kv_block_tokens
    needed = -(-int(sum(mean_lengths(scenario))) // scenario.kv_block_tokens)
    return load, kernels, held if held >= needed else 0, model.reach_tokens


@lru_cache(maxsize=1024)
def _device(model: str, accelerator: str, layout: Layout, deepgemm: bool) -> tuple[Work, Kernels]:
    known = catalogue.model(model), catalogue.accelerator(accelerator), layout
    return work(*known), kernels_of(*known)._replace(experts=experts_of(*known, deepgemm))


def predict(
    bench: Bench,
    constants: Constants,
    smooth: bool = True,
    engines: Mapping[str, ServingEngine] | None = None,
) -> np.ndarray:
    """Return mean TTFT [ms], mean TPOT [ms] and output tokens per second of each point, shape (points, 3).

    Parameters
    ----------
    bench : Bench
    constants : Constants
        Of a calibration; `smooth` is the calibration's too.
    engines : mapping, optional
        Engines by id whose lags of first tokens stand in place of the catalogue's.

    Returns
    -------
    ndarray of float, shape (points, 3)
        NaN where a point does not fit its devices, or has no such figure.
    """
    found = np.full((len(bench.points), 3), np.nan)
    batches = [scenario.max_batch for scenario in bench.scenarios]
    shares = np.array([[_sequence_share(scenario, engines)] for scenario in bench.scenarios])
    felt = constants._replace(sequence_s=cast(float, constants.sequence_s * shares))  # a column, as of `work`
    rated = terms(bench.work, bench.kernels, felt, smooth)
    for place, step in enumerate(step_costs(rated, bench.windows, batches)):
        if bench.kv_blocks[place]:
            found[place] = _simulated(bench, place, step, constants)
    late = [late_steps(point, engines) if point.traffic in CLIENTS else 0.0 for point in bench.points]
    found[:, 0] += np.array(late) * np.nan_to_num(found[:, 1])
    return found


def _sequence_share(scenario: Scenario, engines: Mapping[str, ServingEngine] | None) -> float:
    """Return the host's time for a sequence under a scenario's engine, in shares of an engine in Python."""
    known = engines or catalogue.engines()
    return known[scenario.engine].sequence_host_frac if scenario.engine else 1.0


def step_costs(rated: Terms, windows: Sequence[int], batches: Sequence[int]) -> Iterator[StepCost]:
    """Yield the price list of each row of terms, whose fields are columns, up to its largest batch."""
    shape = (len(windows), GRID.size)
    token_s, row_s = (
        np.broadcast_to(sum(parts(rated, GRID).values()), shape) for parts in (token_parts, row_parts)
    )
    rates = [
        np.broadcast_to(sum(np.asarray(seconds) for seconds in parts.values()), (shape[0], 1))[:, 0]
        for parts in rate_parts(rated)
    ]
    for place, (window, batch) in enumerate(zip(windows, batches, strict=True)):
        tokens = np.interp(np.arange(TOKEN_BUDGET + 1.0), GRID, token_s[place])
        rows = np.interp(np.arange(batch + 1.0), GRID, row_s[place])
        tokens[0] = rows[0] = 0.0
        counts = Rates(*(float(rate[place]) for rate in rates))
        yield step_cost(tokens, rows, counts, window)


def _simulated(bench: Bench, place: int, step: StepCost, constants: Constants) -> tuple[float, float, float]:
    """Return mean TTFT, as first tokens are made, and TPOT [ms] and output tokens per second of one point."""
    point, scenario = bench.points[place], bench.scenarios[place]
    given, (clients, replicas) = given_requests(point, scenario), loop_of(point)
    before_s, after_s = 0.0, 0.0
    if point.traffic in CLIENTS:
        before_s = constants.request_before_s + constants.prompt_token_before_s * given.prompt_tokens.mean()
        after_s = constants.request_after_s
    rules = RunRules(
        policy=scenario.policy,
        admission=admission_of(scenario),
        max_running=scenario.max_batch,
        token_budget=scenario.token_budget,
        kv_blocks=bench.kv_blocks[place],
        kv_block_tokens=KV_BLOCK_TOKENS,
        concurrency=clients,
        turnaround_s=before_s + after_s,
        replicas=replicas,
    )
    with estimated():  # published points are few, and none is long
        found = run_engine(step, given.arriving_at(given.arrival_s + before_s), rules)
    many = given.output_tokens > 1
    first = int(scenario.warmup_frac * len(given))
    ttft_s = (found.first_token_s - found.arrival_s)[first:] + before_s + after_s
    tpot_s = (found.finished_s - found.first_token_s)[many] / (given.output_tokens[many] - 1)
    elapsed_s = found.finished_s.max() + after_s
    copies = point.replicas if point.traffic == "offline" else 1
    rate = math.nan if point.traffic == "server" else copies * given.output_tokens.sum() / elapsed_s
    tpot_ms = 1e3 * tpot_s[first:].mean() if many.any() else math.nan
    return 1e3 * ttft_s.mean(), tpot_ms, rate


def alone(point: PublishedPoint) -> bool:
    """Return whether a point is run as a scenario of its own: on two pools, or with ranks of attention."""
    return point.pools == "split" or point.has_ranks


def predict_alone(
    points: Sequence[PublishedPoint],
    calibration: str = "typical",
    engines: Mapping[str, ServingEngine] | None = None,
    constants: str = "",
) -> np.ndarray:
    """Return the same as `predict` for points that are each run as a scenario of its own.

    `constants` are a scenario's own in place of the calibration's.
    """
    changes = {"calibration": calibration, "constants": constants}
    found = [_run_alone(point, changes, engines) for point in points]
    return np.array(found, dtype=float).reshape(-1, 3)


def _run_alone(
    point: PublishedPoint, changes: Mapping[str, Any], engines: Mapping[str, ServingEngine] | None
) -> tuple[float, float, float]:
    scenario = scenario_of(point).replace(**changes)
    if engines and scenario.engine:
        model = model_of(scenario)
        lag = engines[scenario.engine].lag_steps(model.is_moe, model.latent, is_split=scenario.split)
        scenario = scenario.replace(first_token_lag_steps=lag)
    sent = at_once(point, scenario.requests)
    try:
        with estimated():  # a prediction is of all its requests, whoever waits for it
            found = run(scenario, trace=sent)
    except ScenarioError:  # it does not fit
        return (math.nan,) * 3
    ttft_s = found.first_token_s - found.arrival_s
    tpot_s = (found.finished_s - found.first_token_s) / np.maximum(sent.output_tokens - 1, 1)
    return 1e3 * ttft_s.mean(), 1e3 * tpot_s.mean(), sent.output_tokens.sum() / found.finished_s.max()
