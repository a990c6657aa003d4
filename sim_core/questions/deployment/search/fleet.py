"""From the capacity of an engine to whole replicas for a rate, and between which numbers they may lie.

Replicas behind a router that looks at them get more out of each than one alone can do; see `pooled_per_s`.
Throughput within limits is elastic in the time of a step, so a band of that time is no band of devices: the
engine is sized anew with steps that take as long, or as short, as the band allows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from sim_core.questions.deployment.search.candidates import Candidate
from sim_core.scenario.scenario import FIELDS
from sim_core.sweep.estimate import pooled_per_s

MOST_REPLICAS = int(FIELDS["replicas"].high)


class Alone(NamedTuple):
    """What one engine by itself serves, by its mean and at the percentile. [1/s]"""

    bound_per_s: float
    per_s: float

    def fleet_per_s(self, replicas: int) -> float:
        """Return what so many replicas serve together. [1/s]"""
        return replicas * pooled_per_s(self.bound_per_s, self.per_s, replicas)

    def replicas_for(self, rate_per_s: float) -> int | None:
        """Return the fewest replicas that serve a rate; None if no number does."""
        if self.per_s <= 0 or self.fleet_per_s(most := 1 << 30) < rate_per_s:
            return None
        low, high = 0, min(math.ceil(rate_per_s / self.per_s), most)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.fleet_per_s(middle) >= rate_per_s else (middle, high)
        return high

    def times(self, factor: float) -> Alone:
        """Return what serves so many times as much."""
        return Alone(factor * self.bound_per_s, factor * self.per_s)


def alone_of(candidate: Candidate) -> Alone:
    """Return what one engine serves by itself, by arithmetic."""
    return Alone(candidate.sizing.bound_per_s, candidate.estimate_per_s)


def fewest(candidate: Candidate, rate_per_s: float) -> int:
    """Return how many replicas are not enough but one: no fewer can serve the rate."""
    return max(math.ceil(rate_per_s / candidate.bound_per_s), 1)


class Between(NamedTuple):
    """Replicas by the band of a step's time; `high` is None where no number may keep the limits."""

    low: int
    high: int | None


def banded(candidate: Candidate, replicas: int, fleet_per_s: float, rate_per_s: float) -> Between:
    """Return between which numbers of replicas the answer lies by the band of a step's time.

    Parameters
    ----------
    replicas : int
        That serve the rate as predicted.
    fleet_per_s : float
        What they were found to serve together; the arithmetic is scaled to it. [1/s]
    """
    plain, band = alone_of(candidate), candidate.band
    if not plain.per_s or not (math.isfinite(band.low) and math.isfinite(band.high)):
        return Between(replicas, replicas)
    scale = fleet_per_s / plain.fleet_per_s(replicas)
    ends = [_at(candidate, factor).times(scale).replicas_for(rate_per_s) for factor in (band.low, band.high)]
    low = replicas if ends[0] is None else min(ends[0], replicas)
    return Between(low, None if ends[1] is None else max(ends[1], replicas))


def _at(candidate: Candidate, factor: float) -> Alone:
    found = candidate.sized(factor)
    return Alone(found.bound_per_s, found.estimate_per_s)
