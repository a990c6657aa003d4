"""What the times of a run's requests say: one compiled call from rows to counts, sums and percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sim_core.engine.kernels.answers.describe import describe_runs
from sim_core.engine.kernels.answers.records import (
    ANSWER,
    LATENCIES,
    Asked,
    Findings,
    Rows,
    Work,
    work_for,
)
from sim_core.engine.results import Run, RunsAtLoads
from sim_core.engine.rules import counted_requests
from sim_core.price.use import either, ratio
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import own_column

QUANTILES = (50.0, 90.0, 95.0, 99.0)
LABELS = tuple(f"_p{quantile:.0f}" for quantile in QUANTILES)
EDGES_FRAC = 0.1  # of the gaps: further apart, two counts are not of the same gaps
MANY_GAPS = 10_000
NO_GAPS = np.zeros(1, np.int64)


class Answer(NamedTuple):
    """What a run's requests say; of runs side by side, each figure is an array with one entry a run.

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
        edges = EDGES_FRAC * gaps * (gaps > MANY_GAPS)
        others = (counted > 0) & (abs(counted - gaps) > edges)
        exact_ms = ratio(self.sums_ms["e2e"] - self.sums_ms["ttft"], gaps)
        return either(others, self.found.gaps_mean_ms, exact_ms)

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
    asked = _asked(scenario, whole, banded)
    types = (np.float64, np.int64, np.float64, np.float64)
    arrival_s, output_tokens, *answered_s = map(own_column, rows, types)
    columns = Rows(arrival_s[None], output_tokens, *(column[None] for column in answered_s))
    # who is rejected waits for ever: among all, the percentile of the limits is a higher one of the served
    quantiles = np.array([*QUANTILES, scenario.slo_percentile / (served / (served + rejected))])
    answers, percentiles_ms = _blank([scenario], served), np.empty((1, len(LATENCIES), quantiles.size))
    work = work_for(served)
    describe_runs(answers, asked, columns, gap_counts[None], quantiles, percentiles_ms, work)
    found = Findings(*answers.item())
    sums_ms = [column.item() for column in _sums_ms(work, np.array([found.used]), np.array([found.many]))]
    return Answer(
        served,
        rejected,
        dict(zip(LATENCIES, percentiles_ms[0, :, :-1].tolist(), strict=True)),
        dict(zip(LATENCIES, sums_ms, strict=False)),
        found,
    )


def _blank(scenarios: Sequence[Scenario], served: int) -> np.ndarray:
    """Return records of answers with the requests that statistics use, of so many."""
    answers = np.zeros(len(scenarios), ANSWER)
    ranges = [counted_requests(scenario, served) or (0, 0) for scenario in scenarios]
    answers["first"], answers["last"] = zip(*ranges, strict=True)
    return answers


def _asked(scenario: Scenario, whole: bool, banded: bool) -> Asked:
    return Asked(
        whole=whole,
        open=scenario.arrivals not in ("closed", "offline"),
        slo_ttft_ms=float(scenario.slo_ttft_ms),
        slo_tpot_ms=float(scenario.slo_tpot_ms),
        slo_percentile=float(scenario.slo_percentile),
        banded=bool(banded),
    )


def answers_of(runs: RunsAtLoads) -> Answer:
    """Return what runs side by side say: each figure as an array, one entry a run."""
    count, served = runs.arrival_s.shape
    asked, answers = _asked(runs.scenario, False, False), _blank(runs.scenarios, served)
    quantiles = np.array([*QUANTILES, runs.scenario.slo_percentile])
    percentiles_ms, work = np.empty((count, len(LATENCIES), quantiles.size)), work_for(served, count)
    outputs = own_column(runs.sent.output_tokens, np.int64)
    rows = Rows(runs.arrival_s, outputs, runs.first_token_s, runs.finished_s)
    describe_runs(answers, asked, rows, runs.engine.gap_counts, quantiles, percentiles_ms, work)
    found = Findings(*(answers[name] for name in ANSWER.names))
    by_latency = dict(zip(LATENCIES, percentiles_ms[:, :, :-1].transpose(1, 2, 0), strict=True))
    sums_ms = dict(zip(LATENCIES, _sums_ms(work, found.used, found.many), strict=False))
    return Answer(served, 0, by_latency, sums_ms, found)


def _sums_ms(work: Work, used: np.ndarray, many: np.ndarray) -> list[np.ndarray]:
    """Return the sums of TTFT, TPOT and E2E over the requests that count, one entry a run [ms]."""
    counts = (used, many, used)
    return [_row_sums(rows, count) for rows, count in zip(work, counts, strict=False)]


def _row_sums(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the sums of the first values of each row."""
    if (counts == counts[0]).all():
        return np.add.reduce(rows[:, : counts[0]], axis=1)
    return np.array([np.add.reduce(row[:count]) for row, count in zip(rows, counts, strict=True)])
