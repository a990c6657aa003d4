"""What is asked of a run, and the answer."""

from __future__ import annotations

from typing import NamedTuple, get_type_hints

import numpy as np

from sim_core.engine.kernels.answers.select import BINS

LATENCIES = ("ttft", "tpot", "e2e", "itl")  # the rows of the table of percentiles


class Findings(NamedTuple):
    """What is found beside percentiles."""

    first: int  # the requests that statistics use
    last: int
    start_s: float  # the time that rates use
    end_s: float
    finished: int  # in that time
    good: int  # those of them within both limits
    tokens: float
    met: int  # of the requests, those within both limits
    many: int  # those of more than one token
    gaps: int  # between their tokens
    gaps_counted: int  # in the histogram of a run
    gaps_mean_ms: float  # of these
    whole: int  # 1: the window that was asked for is too short, so that all of the run counts
    slo_ttft_ms: float  # reached at the percentile of the limits; infinite where a rejected request is
    slo_tpot_ms: float
    saturated: int
    at_ttft: int  # 1: the limit lies inside the 95% interval
    at_tpot: int
    ttft_p99_low_ms: float  # 95% intervals, where they are asked for
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


_KINDS = {int: np.int64, float: np.float64}
ANSWER = np.dtype([(name, _KINDS[kind]) for name, kind in get_type_hints(Findings).items()], align=True)


class Asked(NamedTuple):
    """What decides on answers beside the rows and the requests that statistics use.

    Whether the run was counted as a whole all the same; whether requests come whatever happens to those
    before (an open loop); the limits; and whether p99 gets intervals.
    """

    whole: bool
    open: bool
    slo_ttft_ms: float
    slo_tpot_ms: float
    slo_percentile: float
    banded: bool


class Rows(NamedTuple):
    """The finished requests of a run, in order of arrival, as their clients see them; times in seconds.

    Of several runs of the same requests, times have a row for each.
    """

    arrival_s: np.ndarray
    output_tokens: np.ndarray
    first_token_s: np.ndarray
    finished_s: np.ndarray


class Work(NamedTuple):
    """Working memory: latencies, for each run a row as long as there are requests; a selection of values; the
    bin of each value; bins.
    """

    ttft_ms: np.ndarray
    tpot_ms: np.ndarray
    e2e_ms: np.ndarray
    chosen: np.ndarray
    places: np.ndarray
    bins: np.ndarray


def work_for(requests: int, runs: int = 1) -> Work:
    """Return working memory for so many requests of each run."""
    chosen = np.empty(requests + 1)  # a value beyond those chosen may be written
    latencies = (np.empty((runs, requests)) for _ in range(3))
    return Work(*latencies, chosen, np.empty(requests, np.int16), np.empty(BINS, np.int64))
