"""Gaps between tokens: a histogram of all, and the longest one of each request."""

from __future__ import annotations

import math

import numpy as np

from sim_core.engine.compiling import inlined, inner
from sim_core.engine.kernels.records import NOBODY
from sim_core.engine.kernels.step_time import series_s

GAP_BINS_PER_OCTAVE = 64
GAP_EXPONENT_LOW = -40
GAP_BINS = (70 - GAP_EXPONENT_LOW) * GAP_BINS_PER_OCTAVE


@inlined
def gap_bin(gap_s):
    """Return the bin of a gap: 64 equal bins in each octave, about 1% wide."""
    if gap_s <= 0.0:
        return 0
    leading = np.float64(gap_s).view(np.int64) >> 46  # exponent and the first 6 bits of the mantissa
    return leading - (1022 + GAP_EXPONENT_LOW) * GAP_BINS_PER_OCTAVE


@inlined
def count_gaps(gap_counts, first_s, growth_s, steps, decodes):
    """Count the gaps of a run of steps, one for each decode and step."""
    step = 0
    while step < steps:
        here = gap_bin(first_s + growth_s * step)
        if growth_s <= 0.0 or gap_bin(first_s + growth_s * (steps - 1)) == here:
            end = steps
        else:
            octave, inside = divmod(here, GAP_BINS_PER_OCTAVE)
            edge_s = math.ldexp(0.5 + 0.5 * (inside + 1) / GAP_BINS_PER_OCTAVE, octave + GAP_EXPONENT_LOW)
            end = max(step + 1, min(steps, math.ceil((edge_s - first_s) / growth_s)))
            while end > step + 1 and gap_bin(first_s + growth_s * (end - 1)) != here:
                end -= 1
            while end < steps and gap_bin(first_s + growth_s * end) == here:
                end += 1
        gap_counts[here] += (end - step) * decodes
        step = end


@inner
def note_common_gap(s, arrays, tick, gap_s):
    """Remember the gap that all decodes share at a tick; gaps that a later one exceeds are forgotten."""
    ring = arrays.gap_ticks.size - 1
    while s.gap_last > s.gap_first and arrays.gap_values_s[(s.gap_last - 1) & ring] <= gap_s:
        s.gap_last -= 1
    if s.gap_last - s.gap_first > ring:
        s.gap_first += 1
    arrays.gap_ticks[s.gap_last & ring] = tick
    arrays.gap_values_s[s.gap_last & ring] = gap_s
    s.gap_last += 1


@inner
def largest_gap_since(s, arrays, tick):
    """Return the largest common gap at or after a tick [s], 0 if there was none."""
    ring = arrays.gap_ticks.size - 1
    low, high = s.gap_first, s.gap_last
    while low < high:
        middle = (low + high) // 2
        if arrays.gap_ticks[middle & ring] < tick:
            low = middle + 1
        else:
            high = middle
    return arrays.gap_values_s[low & ring] if low < s.gap_last else 0.0


@inlined
def count_own_gap(s, arrays, rules, r, token_s):
    """Count the gap that only this request had before its token at `token_s`: it paused or just joined."""
    gap_s = token_s - r.last_token_s
    if s.measured:
        arrays.gap_counts[gap_bin(gap_s)] += 1
    if rules.track_itl_max:
        r.itl_max_s = max(r.itl_max_s, gap_s)


@inlined
def count_decode_gaps(s, arrays, rules, stalled_s, first_s, growth_s, steps, ticks):
    """Count the gaps of all decodes over `steps` steps that end now; `stalled_s` of waiting came before.

    A step is one gap, whatever it makes: its tokens are seen together. Tick and clock have moved on already;
    nobody has joined or finished yet.
    """
    if s.fresh == 0 and stalled_s == 0.0:
        if s.measured:
            count_gaps(arrays.gap_counts, first_s, growth_s, steps, s.decodes)
    else:
        count_stalled_gaps(s, arrays, rules, stalled_s, first_s, growth_s, steps, ticks)
    if rules.track_itl_max:
        if stalled_s > 0.0:
            note_common_gap(s, arrays, s.tick - ticks, stalled_s + first_s)
        if steps > 1 or stalled_s == 0.0:
            note_common_gap(s, arrays, s.tick - 1, first_s + growth_s * (steps - 1))


@inner
def count_stalled_gaps(s, arrays, rules, stalled_s, first_s, growth_s, steps, ticks):
    """Count gaps where prefill steps came between: longer for the old decodes, their own for the fresh."""
    if s.measured:
        arrays.gap_counts[gap_bin(stalled_s + first_s)] += s.decodes - s.fresh
    first_end_s = s.clock_s - series_s(first_s + growth_s, growth_s, steps - 1)
    i = s.running_tail if s.joining == NOBODY else arrays.requests[s.joining].previous
    for _ in range(s.fresh):
        r = arrays.requests[i]
        count_own_gap(s, arrays, rules, r, first_end_s)
        r.since = s.tick - ticks + 1
        i = r.previous
    s.fresh = 0
    if steps > 1 and s.measured:
        count_gaps(arrays.gap_counts, first_s + growth_s, growth_s, steps - 1, s.decodes)
