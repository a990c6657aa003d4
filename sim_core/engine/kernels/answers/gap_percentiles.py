"""Percentiles of the gaps between tokens, from their histogram."""

from __future__ import annotations

import math

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.gaps import GAP_BINS_PER_OCTAVE, GAP_EXPONENT_LOW
from sim_core.engine.kernels.records import ZERO


@inlined
def gap_ms(place, inside):
    """Return the gap that lies in a bin, by the share of the bin that is below it."""
    octave, step = divmod(place, GAP_BINS_PER_OCTAVE)
    mantissa = 0.5 + 0.5 * (step + inside) / GAP_BINS_PER_OCTAVE
    return math.ldexp(mantissa, octave + GAP_EXPONENT_LOW) * 1e3


@inner
def gap_percentiles(gap_counts, quantiles, found_ms):
    """Write percentiles of gaps [ms], linear inside their bins; return how many gaps, and their mean [ms]."""
    count = ZERO
    added_ms = 0.0
    for place in range(gap_counts.size):
        if gap_counts[place] > 0:
            count += gap_counts[place]
            added_ms += gap_counts[place] * gap_ms(place, 0.5)
    found_ms[:] = math.nan
    k, before = 0, ZERO
    for place in range(gap_counts.size):
        here = gap_counts[place]
        if here == 0:
            continue
        while k < quantiles.size and quantiles[k] / 100 * float(count) <= before + here:
            inside = (quantiles[k] / 100 * float(count) - before) / here
            found_ms[k] = gap_ms(place, inside)
            k += 1
        before += here
    return count, added_ms / count if count > 0 else math.nan
