"""Four experiments with the scheduler: waiting for a batch, running out of KV cache, prompts among decodes,
answers that end at different times.

Each takes a scenario, changes what its question asks for and nothing else, and returns rows of numbers. All
runs of an experiment see the same requests (common random numbers), on one engine. Results are kept, for
all who ask; nobody changes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim_core.engine.results import Run
from sim_core.engine.run import run
from sim_core.engine.work import kept
from sim_core.price.price import price_of
from sim_core.questions.experiments.common import REMEMBERED, Row, drawn, one_engine, rounded
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.frontier import evaluate, row_of
from sim_core.sweep.points import Point, sweep_points
from sim_core.sweep.saturation import saturation_per_s

# --- waiting for a batch --------------------------------------------------------------------------

WAITS_MS = (0.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)
WAIT_REQUESTS = 4000
LOAD_FRAC = 0.6
BEYOND_FRAC = 0.95
BATCH_STEPS = (64, 16, 4, 1)  # the batch limits compared: the scenario's own divided by these
FLAT_FRAC = 0.05  # a change of TTFT below this is no reason to wait


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """Static batching over batch limit and wait at one load, and continuous batching at the same.

    Attributes
    ----------
    scenario : Scenario
        Static, one engine, at the load.
    vary : mapping
        The keys of the sweep, as `frontier` takes them.
    rows : list of dict
        The points, as `frontier` gives them, with `batches` (started), `batch_requests` (in one, on average)
        and `busy_tok_per_s` (output tokens per second of work).
    continuous : dict
        The same requests under continuous batching.
    saturation_per_s : float
        The highest rate that static batching can serve with one of the batch limits.
    asked_per_s : float or None
        The scenario's own rate; None if it has none (closed loop, all at once).
    """

    scenario: Scenario
    vary: Mapping[str, tuple[Any, ...]]
    rows: list[Row]
    continuous: Row
    saturation_per_s: float
    asked_per_s: float | None

    @property
    def load_frac(self) -> float:
        """Load as a share of what static batching can serve."""
        return self.scenario.arrival_per_s / self.saturation_per_s

    @property
    def lowered(self) -> bool:
        """Whether the scenario's own rate is beyond what static batching can serve."""
        return self.asked_per_s is not None and self.asked_per_s > BEYOND_FRAC * self.saturation_per_s

    def curve(self, max_batch: int) -> list[Row]:
        """Return the points of one batch limit, shortest wait first."""
        return [row for row in self.rows if row["max_batch"] == max_batch]

    @property
    def best(self) -> Row | None:
        """The lowest mean TTFT of the batch limits that keep up; of waits that are as good the shortest."""
        shown = [row for row in self.rows if row["feasible"] and math.isfinite(row["ttft_ms_mean"])]
        steady = {row["max_batch"] for row in shown if not row["saturated"]}
        shown = [row for row in shown if row["max_batch"] in steady]
        if not shown:
            return None
        lowest = min(shown, key=lambda row: row["ttft_ms_mean"])
        good = (1 + FLAT_FRAC) * lowest["ttft_ms_mean"]
        return next(row for row in self.curve(lowest["max_batch"]) if row["ttft_ms_mean"] <= good)

    @property
    def harmless_ms(self) -> float:
        """The longest wait that costs the best batch limit no more than 5 % of its mean TTFT [ms]."""
        best = self.best
        if best is None:
            return 0.0
        longest = best["batch_wait_ms"]
        for row in self.curve(best["max_batch"]):
            if row["batch_wait_ms"] > longest:
                if row["ttft_ms_mean"] > (1 + FLAT_FRAC) * best["ttft_ms_mean"]:
                    break
                longest = row["batch_wait_ms"]
        return longest


@kept(REMEMBERED, unit="requests")
def waiting(scenario: Scenario) -> Waiting:
    """Return what waiting for a batch does: static batching over wait and batch limit, at one load.

    The load is the scenario's request rate if static batching can serve it, else 60 % of what it can.
    A closed loop and requests that are all there at once become Poisson arrivals at that load.

    Raises
    ------
    ScenarioError
        If the scenario cannot run.
    """
    base = one_engine(drawn(scenario), WAIT_REQUESTS).replace(policy="static")
    price_of(base)  # a model that does not fit has no load to offer
    asked = base.arrival_per_s if base.arrivals in ("poisson", "gamma") else None
    base = base.replace(arrivals=base.arrivals if base.arrivals == "gamma" else "poisson")
    batches = tuple(sorted({max(1, base.max_batch // step) for step in BATCH_STEPS}))
    top = max(saturation_per_s(base.replace(max_batch=batch)) for batch in batches)
    beyond = asked is None or asked > BEYOND_FRAC * top
    load = base.replace(arrival_per_s=rounded(LOAD_FRAC * top) if beyond else asked)
    waits = sorted({*WAITS_MS, base.batch_wait_ms})
    vary = {"max_batch": batches, "batch_wait_ms": tuple(waits)}
    rows = [_static_row(point) for point in sweep_points(load, vary)]
    continuous = load.replace(policy="chunked")
    return Waiting(load, vary, rows, evaluate(Point({"policy": "chunked"}, continuous)), top, asked)


def _static_row(point: Point) -> Row:
    """Return a point of the sweep as `frontier` gives it, with what its batches were."""
    if point.scenario is None:
        return evaluate(point)
    found = run(point.scenario)
    row = row_of(point.keys, found)
    sizes = batch_sizes(found)
    row["batches"], row["batch_requests"] = int(sizes.size), float(sizes.mean())
    work_frac = 1 - row["idle_frac"]
    row["busy_tok_per_s"] = row["output_tok_per_s"] / work_frac if work_frac > 0 else math.nan
    return row


def batch_sizes(found: Run) -> np.ndarray:
    """Return how many requests each static batch held, in order; their first tokens come at one time."""
    return np.unique(found.engine.first_token_s, return_counts=True)[1]
