"""Percentiles of the gaps between tokens, from their histogram."""

from __future__ import annotations

import math

from sim_core.engine.compiling import inner
from sim_core.engine.kernels.gaps import GAP_BINS_PER_OCTAVE, GAP_EXPONENT_LOW
from sim_core.engine.kernels.records import ZERO


@inner
def gap_percentiles(gap_counts, quantiles, found_ms):
    """Write percentiles of gaps [ms], linear inside their bins; return how many gaps."""
    count = ZERO
    for place in range(gap_counts.size):
        count += gap_counts[place]
    found_ms[:] = math.nan
    k, before = 0, ZERO
    for place in range(gap_counts.size):
        here = gap_counts[place]
        if here == 0:
            continue
        while k < quantiles.size and quantiles[k] / 100 * float(count) <= before + here:
            inside = (quantiles[k] / 100 * float(count) - before) / here
            octave, step = divmod(place, GAP_BINS_PER_OCTAVE)
            mantissa = 0.5 + 0.5 * (step + inside) / GAP_BINS_PER_OCTAVE
            found_ms[k] = math.ldexp(mantissa, octave + GAP_EXPONENT_LOW) * 1e3
            k += 1
        before += here
    return count
