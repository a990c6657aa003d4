"""What the times of a run's requests say: one compiled call from rows to counts, sums and percentiles."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim_core.engine.kernels.answers.describe import describe_run
from sim_core.engine.kernels.answers.records import ANSWER, LATENCIES, Asked, Findings, Rows, work_for
from sim_core.engine.results import Run
from sim_core.engine.rules import counted_requests
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import own_column

QUANTILES = (50.0, 90.0, 95.0, 99.0)
LABELS = tuple(f"_p{quantile:.0f}" for quantile in QUANTILES)
EDGES_FRAC = 0.1  # of the gaps: further apart, two counts are not of the same gaps
MANY_GAPS = 10_000
NO_GAPS = np.zeros(1, np.int64)


class Answer(NamedTuple):
    """What a run's requests say.

    `percentiles_ms` has those of `QUANTILES` for ``ttft``, ``tpot``, ``e2e`` and ``itl``, NaN of nothing;
    `sums_ms` the sums of the first three.
    """

    served: int
    rejected: int
    percentiles_ms: dict[str, list[float]]
    sums_ms: dict[str, float]
    found: Findings

    @property
    def itl_mean_ms(self) -> float:
        """Mean gap between tokens [ms], of the gaps that the percentiles are of.

        The window's requests and its time hold the same gaps but for those at its edges, and the requests
        give the exact mean. Where they do not, in a run that fills up or is overloaded, or where edges are
        much of a short run, it is that of the histogram, to half a percent.
        """
        gaps, counted = self.found.gaps, self.found.gaps_counted
        edges = EDGES_FRAC * gaps if gaps > MANY_GAPS else 0
        if counted and abs(counted - gaps) > edges:
            return self.found.gaps_mean_ms
        return ratio(self.sums_ms["e2e"] - self.sums_ms["ttft"], gaps)

    @property
    def request_per_s(self) -> float:
        """Rate at which requests finish in the window [1/s]."""
        return ratio(self.found.finished, self.found.window_s)


def answer_of(run: Run, banded: bool = False) -> Answer:
    """Return what a run says under its scenario's window and limits, with 95% intervals where asked."""
    columns = (run.arrival_s, run.output_tokens, run.first_token_s, run.finished_s)
    rejected = int(np.count_nonzero(run.rejected))
    if rejected:
        columns = tuple(column[~run.rejected] for column in columns)
    gap_counts = run.engine.gap_counts
    return answer_of_rows(run.scenario, Rows(*columns), rejected, gap_counts, banded, whole=run.whole)


def answer_of_rows(
    scenario: Scenario,
    rows: Rows,
    rejected: int = 0,
    gap_counts: np.ndarray = NO_GAPS,
    banded: bool = False,
    whole: bool = False,
) -> Answer:
    """Return the same for rows alone; without a histogram of gaps their percentiles are NaN.

    Open loop: after the warm-up, until the last arrival. Closed loop: the same, without the requests that
    end in the drain. Offline, and where that is too short a time: everything.
    """
    served = rows.arrival_s.size
    first, last = counted_requests(scenario, served) or (0, 0)
    asked = Asked(
        first=first,
        last=last,
        whole=whole,
        open=scenario.arrivals not in ("closed", "offline"),
        slo_ttft_ms=float(scenario.slo_ttft_ms),
        slo_tpot_ms=float(scenario.slo_tpot_ms),
        slo_percentile=float(scenario.slo_percentile),
        banded=bool(banded),
    )
    types = (np.float64, np.int64, np.float64, np.float64)
    columns = Rows(*map(own_column, rows, types))
    # who is rejected waits for ever: among all, the percentile of the limits is a higher one of the served
    quantiles = np.array([*QUANTILES, scenario.slo_percentile / (served / (served + rejected))])
    answers, percentiles_ms = np.zeros(1, ANSWER), np.empty((len(LATENCIES), quantiles.size))
    work = work_for(served)
    describe_run(answers, asked, columns, gap_counts, quantiles, percentiles_ms, work)
    found = Findings(*answers.item())
    counts = (found.used, found.many, found.used)
    sums_ms = [np.add.reduce(column[:count]).item() for column, count in zip(work, counts, strict=False)]
    return Answer(
        served,
        rejected,
        dict(zip(LATENCIES, percentiles_ms[:, :-1].tolist(), strict=True)),
        dict(zip(LATENCIES, sums_ms, strict=False)),
        found,
    )


def ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan
