"""Whether requests wait longer and longer: the drift of the queue over a run, against its noise."""

from __future__ import annotations

import math

import numpy as np

from sim_core.engine.compiling import inner
from sim_core.engine.kernels.answers.select import BLOCKS, STUDENT
from sim_core.engine.kernels.records import ZERO

END = np.int64(BLOCKS)  # a bare number would be a type of its own
DRIFT = 0.0005
FILLING = 0.02
FAST = 0.2
MANY = 10  # requests a block: fewer may be less than a batch
STABLE_LOAD = 0.97
SURE = 4.0


@inner
def mean_of(values, first, last):
    added = 0.0
    for i in range(first, last):
        added += values[i]
    return added / (last - first)


@inner
def noise_of_growth(values):
    """Return the standard error of the growth over all blocks, from that of each step."""
    steps = BLOCKS - 1
    mean = (values[steps] - values[0]) / steps
    squares = 0.0
    for block in range(steps):
        squares += (values[block + 1] - values[block] - mean) ** 2
    return math.sqrt(steps * squares / (steps - 1))


@inner
def is_undrained(ttft_ms, count):
    """Return whether no request of the last third waits as little as those of the first tenth on average."""
    early_ms = mean_of(ttft_ms, ZERO, count // 10)
    lowest_ms = math.inf
    for i in range(count - count // 3, count):
        lowest_ms = min(lowest_ms, ttft_ms[i])
    return lowest_ms > early_ms


@inner
def is_steady_growth(means_ms):
    """Return whether each third of the blocks waits longer than the one before."""
    third = BLOCKS // 3
    early_ms, late_ms = mean_of(means_ms, ZERO, third), mean_of(means_ms, BLOCKS - third, END)
    return early_ms < mean_of(means_ms, third, BLOCKS - third) < late_ms


@inner
def queue_grows(arrival_s, count, work):
    """Return whether the TTFT of successive requests, in order of arrival, drifts upwards beyond its noise.

    The queue of an overloaded engine is a random walk with a drift: from one of 20 blocks of requests to the
    next the mean TTFT grows by independent steps. It drifts if it grows by more than such steps do by chance,
    by Student's t; or, since steps from batch to batch look like more chance than they are, from third to
    third and by a fifth of the time, as at a load of 125%, or by all of it where requests are few. In a long
    run less is enough. Where the queue has not drained for a third of the run, the load is 100% as far as can
    be told, provided that the noise rules out the drift that it has at 97%. Growth below half a thousandth of
    the time, or a fiftieth of the time that a request takes, is a batch that still fills up.

    References
    ----------
    Asmussen (2003), "Applied Probability and Queues", chapter X: waiting times as a reflected random walk.
    Schmeiser (1982), "Batch size effects in the analysis of simulation output": 10 to 30 blocks.
    """
    size, last = count // BLOCKS, BLOCKS - 1
    means_ms = work.chosen
    for block in range(BLOCKS):
        means_ms[block] = mean_of(work.ttft_ms, block * size, (block + 1) * size)
    span_ms = (mean_of(arrival_s, last * size, BLOCKS * size) - mean_of(arrival_s, ZERO, size)) * 1e3
    growth_ms = means_ms[last] - means_ms[0]
    if span_ms <= 0.0 or growth_ms <= max(DRIFT * span_ms, FILLING * mean_of(work.e2e_ms, ZERO, count)):
        return False
    noise_ms = noise_of_growth(means_ms)
    if growth_ms > STUDENT * noise_ms:
        return True
    fast = FAST if size >= MANY else 1.0
    if growth_ms > fast * span_ms and is_steady_growth(means_ms):
        return True
    ruled_out = growth_ms + (1.0 - STABLE_LOAD) * span_ms > SURE * noise_ms
    return ruled_out and is_undrained(work.ttft_ms, count)
