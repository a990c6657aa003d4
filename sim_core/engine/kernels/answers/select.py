"""Percentiles of many values, without sorting them all and without allocating; and how sure they are."""

from __future__ import annotations

import math

from sim_core.engine.compiling import inner
from sim_core.engine.kernels.records import ZERO

BINS = 512
BLOCKS = 20
STUDENT = 2.093  # 97.5th percentile of the t distribution with BLOCKS - 1 degrees of freedom


@inner
def bin_values(values, count, work):
    """Count values into equal bins from the lowest to the highest, and write the bin of each.

    One that is no number lies in the first.
    """
    low = high = values[0]
    for i in range(count):
        low = min(low, values[i])
        high = max(high, values[i])
    scale = BINS / (high - low) if high > low else 0.0
    work.bins[:] = 0
    for i in range(count):
        place = min(max(int((values[i] - low) * scale), 0), BINS - 1)
        work.places[i] = place
        work.bins[place] += 1


@inner
def settle(values, first, last, rank):
    """Reorder values from `first` to `last` until the one at a rank stands where sorting would put it.

    Hoare's selection, with the median of first, middle and last as pivot: larger values come after it.
    """
    while last > first:
        low, high, middle = first, last, (first + last) // 2
        a, b, c = values[first], values[middle], values[last]
        pivot = max(min(a, b), min(max(a, b), c))
        while low <= high:
            while values[low] < pivot:
                low += 1
            while values[high] > pivot:
                high -= 1
            if low <= high:
                values[low], values[high] = values[high], values[low]
                low += 1
                high -= 1
        if rank <= high:
            last = high
        elif rank >= low:
            first = low
        else:
            return


@inner
def lowest_beyond(values, count, place, work):
    """Return the lowest value of all bins after one."""
    found = math.inf
    for i in range(count):
        if work.places[i] > place:
            found = min(found, values[i])
    return found


@inner
def neighbours(values, count, rank, work):
    """Return the values at a rank (from 0) and at the next, of `count` values that have been binned.

    The bins say where the rank lies; only the values of that bin are looked at further.
    """
    place, before = ZERO, ZERO
    while before + work.bins[place] <= rank:
        before += work.bins[place]
        place += 1
    many, inside = ZERO, rank - before
    for i in range(count):  # without a branch, so that the processor need not guess
        work.chosen[many] = values[i]
        many += work.places[i] == place
    settle(work.chosen, ZERO, many - 1, inside)
    above = math.inf
    for i in range(inside + 1, many):
        above = min(above, work.chosen[i])
    if above == math.inf:
        above = lowest_beyond(values, count, place, work)
    return work.chosen[inside], above


@inner
def at(values, count, wanted, work):
    """Return one percentile, linear between ranks, of `count` values that have been binned."""
    rank = min(wanted / 100, 1.0) * (count - 1)
    whole = int(rank)
    here, above = neighbours(values, count, whole, work)
    if whole == count - 1:
        return here
    return here + (rank - whole) * (above - here)


@inner
def percentiles(values, count, wanted, found, work):
    """Write percentiles of the first `count` values to `found`; NaN of none.

    One that is asked for twice in a row is found once.
    """
    found[:] = math.nan
    if count > 0:
        bin_values(values, count, work)
        for k in range(wanted.size):
            again = k > 0 and wanted[k] == wanted[k - 1]
            found[k] = found[k - 1] if again else at(values, count, wanted[k], work)


@inner
def band(values, count, quantile, work):
    """Return a 95% interval of a percentile, as `limits.bands_of` describes it; NaN below 1,000 values."""
    length = count // BLOCKS
    if length < 50:
        return math.nan, math.nan
    bin_values(values, count, work)
    center = at(values, count, quantile, work)
    added = squares = ZERO  # of how many values of each block are not above
    for block in range(BLOCKS):
        many = ZERO
        for i in range(block * length, (block + 1) * length):
            many += values[i] <= center
        added += many
        squares += many * many
    variance = (squares - added * added / BLOCKS) / (BLOCKS - 1)
    error = 100 * STUDENT * math.sqrt(max(variance, 0.0)) / length / math.sqrt(BLOCKS)
    low = at(values, count, max(quantile - error, 0.0), work)
    return low, at(values, count, min(quantile + error, 100.0), work)
