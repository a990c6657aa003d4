"""How sure a capacity is: the same search with other seeds, and which of several are alike.

`SEEDS` seeds give as many capacities. Their median lies between the smallest and the largest of five with a
chance of 1 - 2 / 2^5 = 94%, whatever their distribution: that is the range. Two capacities are compared seed
by seed, so that what their requests have in common cancels out (common random numbers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SEEDS = 5
T_95 = 2.776  # Student's t for 4 degrees of freedom, two-sided 95%
ALIKE_FRAC = 0.005  # closer than the search looks: no difference


class Estimate(NamedTuple):
    """A relative change, and half of its 95% interval; NaN where it is not known."""

    frac: float
    error_frac: float

    @property
    def is_sure(self) -> bool:
        """Return whether the change is larger than its error."""
        return abs(self.frac) > self.error_frac


UNKNOWN = Estimate(math.nan, math.nan)


def estimate(changes: Sequence[float]) -> Estimate:
    """Return the mean of the changes that `SEEDS` seeds gave, and its error by Student's t.

    Examples
    --------
    >>> [round(value, 3) for value in estimate([0.1, 0.1, 0.1, 0.2, 0.2])]
    [0.14, 0.068]
    """
    spread = float(np.std(changes, ddof=1))
    return Estimate(float(np.mean(changes)), T_95 * spread / math.sqrt(SEEDS))


def are_alike(first: Sequence[float], second: Sequence[float]) -> bool:
    """Return whether the second may be as good as the first, pair by pair of seeds.

    Examples
    --------
    >>> are_alike([600, 610, 590, 605, 600], [599, 612, 588, 604, 601])
    True
    >>> are_alike([600, 610, 590, 605, 600], [580, 590, 570, 585, 580])
    False
    """
    if min(first) <= 0 or min(second) <= 0:
        return False
    lead = estimate([ours / theirs - 1 for ours, theirs in zip(first, second, strict=True)])
    return lead.frac - lead.error_frac <= ALIKE_FRAC
