"""What is asked of a run, and the answer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim_core.engine.kernels.answers.select import BINS

OPEN, CLOSED, OFFLINE = 0, 1, 2
LATENCIES = ("ttft", "tpot", "e2e", "itl")  # the rows of the table of percentiles

ANSWER = np.dtype(
    [
        ("first", np.int64),  # the requests that statistics use
        ("last", np.int64),
        ("start_s", np.float64),  # the time that rates use
        ("end_s", np.float64),
        ("finished", np.int64),  # in that time
        ("good", np.int64),  # those of them within both limits
        ("tokens", np.float64),
        ("met", np.int64),  # of the requests, those within both limits
        ("many", np.int64),  # those of more than one token
        ("gaps", np.int64),  # between their tokens
        ("gaps_counted", np.int64),  # in the histogram of a run
        ("slo_ttft_ms", np.float64),  # reached at the percentile of the limits
        ("slo_tpot_ms", np.float64),
        ("saturated", np.int64),
        ("at_ttft", np.int64),  # 1: the limit lies inside the 95% interval
        ("at_tpot", np.int64),
        ("ttft_p99_low_ms", np.float64),  # 95% intervals, where they are asked for
        ("ttft_p99_high_ms", np.float64),
        ("tpot_p99_low_ms", np.float64),
        ("tpot_p99_high_ms", np.float64),
    ],
    align=True,
)


class Asked(NamedTuple):
    """What decides on an answer beside the rows: the window, the limits, and whether p99 gets intervals."""

    loop: int
    concurrency: int
    warmup_frac: float
    slo_ttft_ms: float
    slo_tpot_ms: float
    slo_percentile: float
    rejected: int
    banded: bool


class Rows(NamedTuple):
    """The finished requests of a run, in order of arrival, as their clients see them; times in seconds."""

    arrival_s: np.ndarray
    output_tokens: np.ndarray
    first_token_s: np.ndarray
    finished_s: np.ndarray


class Work(NamedTuple):
    """Working memory: latencies, each as long as there are requests; a selection of values; bins."""

    ttft_ms: np.ndarray
    tpot_ms: np.ndarray
    e2e_ms: np.ndarray
    chosen: np.ndarray
    bins: np.ndarray


def work_for(requests: int) -> Work:
    """Return working memory for so many requests."""
    chosen = np.empty(requests + 1)  # a value beyond those chosen may be written
    return Work(*(np.empty(requests) for _ in range(3)), chosen, np.empty(BINS, np.int64))
