"""What the times of a run's requests say: one compiled call from rows to counts, sums and percentiles."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim_core.engine.kernels.answers.describe import STABLE_FRAC as STABLE_FRAC
from sim_core.engine.kernels.answers.describe import describe_run
from sim_core.engine.kernels.answers.records import (
    ANSWER,
    CLOSED,
    LATENCIES,
    OFFLINE,
    OPEN,
    Asked,
    Rows,
    work_for,
)
from sim_core.engine.results import Run
from sim_core.scenario.scenario import Scenario

QUANTILES = (50.0, 90.0, 95.0, 99.0)
LABELS = tuple(f"_p{quantile:.0f}" for quantile in QUANTILES)
LOOPS = {"closed": CLOSED, "offline": OFFLINE}
_QUANTILES = np.array(QUANTILES)
NO_GAPS = np.zeros(1, np.int64)


class Answer(NamedTuple):
    """The kernels' answer in Python's own numbers; see `ANSWER` for each field.

    `percentiles_ms` has those of `QUANTILES` for ``ttft``, ``tpot``, ``e2e`` and ``itl``, NaN of nothing;
    `sums_ms` the sums of the first three.
    """

    served: int
    rejected: int
    percentiles_ms: dict[str, list[float]]
    sums_ms: dict[str, float]
    first: int
    last: int
    start_s: float
    end_s: float
    finished: int
    good: int
    tokens: float
    met: int
    many: int
    gaps: int
    gaps_counted: int
    slo_ttft_ms: float
    slo_tpot_ms: float
    saturated: int
    at_ttft: int
    at_tpot: int
    ttft_p99_low_ms: float
    ttft_p99_high_ms: float
    tpot_p99_low_ms: float
    tpot_p99_high_ms: float

    @property
    def used(self) -> int:
        """Number of requests that statistics use."""
        return self.last - self.first

    @property
    def window_s(self) -> float:
        """Time that rates use [s]."""
        return self.end_s - self.start_s

    @property
    def request_per_s(self) -> float:
        """Rate at which requests finish in the window [1/s]."""
        return ratio(self.finished, self.window_s)


def answer_of(run: Run, banded: bool = False) -> Answer:
    """Return what a run says under its scenario's window and limits, with 95% intervals where asked."""
    columns = (run.arrival_s, run.output_tokens, run.first_token_s, run.finished_s)
    rejected = int(np.count_nonzero(run.rejected))
    if rejected:
        columns = tuple(column[~run.rejected] for column in columns)
    return answer_of_rows(run.scenario, Rows(*columns), rejected, run.engine.gap_counts, banded)


def answer_of_rows(
    scenario: Scenario,
    rows: Rows,
    rejected: int = 0,
    gap_counts: np.ndarray = NO_GAPS,
    banded: bool = False,
) -> Answer:
    """Return the same for rows alone; without a histogram of gaps their percentiles are NaN.

    Open loop: after the warm-up, until the last arrival. Closed loop: the same, without the requests that
    end in the drain. Offline, and where nothing is left otherwise: everything.
    """
    answers, percentiles_ms = np.zeros(1, ANSWER), np.empty((len(LATENCIES), len(QUANTILES)))
    types = (np.float64, np.int64, np.float64, np.float64)
    columns = Rows(*(np.require(column, kind, ["C", "W"]) for column, kind in zip(rows, types, strict=True)))
    served = columns.arrival_s.size
    asked = Asked(
        loop=LOOPS.get(scenario.arrivals, OPEN),
        concurrency=int(scenario.concurrency),
        warmup_frac=float(scenario.warmup_frac),
        slo_ttft_ms=float(scenario.slo_ttft_ms),
        slo_tpot_ms=float(scenario.slo_tpot_ms),
        slo_percentile=float(scenario.slo_percentile),
        rejected=int(rejected),
        banded=bool(banded),
    )
    work = work_for(served)
    describe_run(answers, asked, columns, gap_counts, _QUANTILES, percentiles_ms, work)
    used, many = int(answers["last"][0] - answers["first"][0]), int(answers["many"][0])
    counts = (used, many, used)
    sums_ms = [np.add.reduce(column[:count]).item() for column, count in zip(work, counts, strict=False)]
    return Answer(
        served,
        rejected,
        dict(zip(LATENCIES, percentiles_ms.tolist(), strict=True)),
        dict(zip(LATENCIES, sums_ms, strict=False)),
        *answers.item(),
    )


def ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan
