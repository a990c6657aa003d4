"""Bands: where a measurement of a campaign that nobody has seen lies in four cases of five.

A campaign is one model on one accelerator under one engine in one precision. Its points share an error of
level, so a hundred points of one campaign say little more of the next one than ten do: campaigns, not points,
are what is drawn. A band is the predictive interval of a random-effects model: logarithms of measured over
predicted scatter by one variance from campaign to campaign, and by another inside of each.

References
----------
Higgins, Thompson, Spiegelhalter, "A re-evaluation of random-effects meta-analysis", J. R. Stat. Soc. A 172
(2009), section 4.1: the interval of a new study; here of a point of a new study, so the variance inside of it
is added. DerSimonian, Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 7 (1986): the
variance between studies from the moments. Abramowitz, Stegun, "Handbook of Mathematical Functions", 26.7.5:
quantiles of Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from sim_core.evidence.blind import HELD_FRAC, NO_BAND, Band, Blind, blind
from sim_core.evidence.coverage import FAMILY_WORDS, GENERATION_WORDS, coverage, generation_of
from sim_core.evidence.published import campaign

METRICS = ("tpot", "ttft", "throughput")
FEWEST_CAMPAIGNS = 5
WIDER = 0.5


# --- the interval ---------------------------------------------------------------------------------


def predictive(ratios: Iterable[float], campaigns: Iterable[Hashable], held_frac: float = HELD_FRAC) -> Band:
    """Return the band that holds a ratio of a new campaign with a probability of `held_frac`.

    Parameters
    ----------
    ratios : iterable of float
        Measured over predicted; NaN are left out.
    campaigns : iterable
        Of each ratio, the campaign that it is of.
    held_frac : float, optional

    Returns
    -------
    Band
        Of ratios; without two campaigns to compare, no band.
    """
    groups: dict[Hashable, list[float]] = {}
    for ratio, name in zip(ratios, campaigns, strict=True):
        if ratio > 0 and math.isfinite(ratio):
            groups.setdefault(name, []).append(math.log(ratio))
    if len(groups) < 2:
        return NO_BAND
    means = np.array([np.mean(group) for group in groups.values()])
    between, within = _variances(list(groups.values()), means)
    spread = math.sqrt(between * (1 + 1 / len(groups)) + within)
    half = student((1 + held_frac) / 2, len(groups) - 1) * spread
    return Band(*np.exp(means.mean() + np.array([-half, half])).tolist())


def _variances(groups: Sequence[Sequence[float]], means: np.ndarray) -> tuple[float, float]:
    """Return the variances between campaigns and within them, from their moments."""
    sizes = np.array([len(group) for group in groups])
    squares = sum(
        float(np.sum((np.array(group) - mean) ** 2)) for group, mean in zip(groups, means, strict=True)
    )
    within = squares / max(int(sizes.sum()) - len(groups), 1)
    return max(float(means.var(ddof=1)) - within * float(np.mean(1 / sizes)), 0.0), within


def student(probability: float, degrees: int) -> float:
    """Return a quantile of Student's t distribution; to a percent from four degrees of freedom on.

    Examples
    --------
    >>> round(student(0.9, 9), 3), round(student(0.9, 1000), 3)
    (1.383, 1.282)
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def ranked(ratios: Sequence[float], held_frac: float = HELD_FRAC) -> Band:
    """Return the band that holds a new ratio with a probability of `held_frac`, where each stands for itself.

    Of n drawn alike, the next one lies below the r-th smallest with probability r / (n + 1).

    References
    ----------
    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (2005), chapter 2: conformal prediction.

    Examples
    --------
    >>> ranked([0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 2.0, 4.0])
    Band(low=0.5, high=4.0)
    """
    known = [ratio for ratio in ratios if math.isfinite(ratio)]
    if not known:
        return NO_BAND
    edge = (1 - held_frac) / 2
    return Band(*np.quantile(known, [edge, 1 - edge], method="weibull").tolist())


# --- the closest campaigns ------------------------------------------------------------------------


class Evidence(NamedTuple):
    """Blind rows that speak for a scenario, and in words which they are."""

    rows: tuple[Blind, ...]
    words: str

    def band(self, metric: str, held_frac: float = HELD_FRAC) -> Band:
        """Return the band of a metric."""
        ratios = [1 / getattr(row, metric) for row in self.rows]
        return predictive(ratios, [campaign(row.point) for row in self.rows], held_frac)

    def bands(self, held_frac: float = HELD_FRAC) -> dict[str, Band]:
        """Return the bands of all metrics."""
        return {metric: self.band(metric, held_frac) for metric in METRICS}


@cache
def closest(family: str, generation: str, unseen: str, without: Hashable = None) -> Evidence:
    """Return the closest blind rows that are of enough campaigns.

    These are, in this order, the rows of the family on parts of the generation, of the family, all.

    Parameters
    ----------
    family, generation : str
    unseen : str
        What the rows' predictions have not seen: ``accelerator``, ``model``, or two ``pools``.
    without : campaign, optional
        One that is left out, to see whether the band of the others holds it.
    """
    rows = [row for row in blind() if row.unseen == unseen and campaign(row.point) != without]
    same = [row for row in rows if row.point.family == family]
    here = [row for row in same if generation_of(row.point.accelerator) == generation]
    words = FAMILY_WORDS[family]
    choices = (
        (here, f" of {words} on {GENERATION_WORDS.get(generation, generation)} parts"),
        (same, f" of {words}"),
        (rows, ""),
    )
    found, which = next((item for item in choices if _campaigns(item[0]) >= FEWEST_CAMPAIGNS), choices[-1])
    pools = " of two pools" if unseen == "pools" else ""
    blindly = ", which no fit has used" if unseen == "pools" else f", each predicted without its {unseen}"
    count = _campaigns(found)
    return Evidence(
        tuple(found), f"{len(found)} published points{pools}{which} in {count} campaigns{blindly}"
    )


def _campaigns(rows: Iterable[Blind]) -> int:
    return len({campaign(row.point) for row in rows})


@cache
def left_out_coverage(unseen: str) -> Mapping[str, float]:
    """Return the share of measurements inside the band of all campaigns but their own, by metric.

    A campaign counts as one, however many points it has.
    """
    held: dict[str, list[float]] = {metric: [] for metric in METRICS}
    rows = [row for row in blind() if row.unseen == unseen]
    for name in sorted({campaign(row.point) for row in rows}):
        own = [row for row in rows if campaign(row.point) == name]
        family, generation = own[0].point.family, generation_of(own[0].point.accelerator)
        for metric, band in closest(family, generation, unseen, name).bands().items():
            ratios = np.array([1 / getattr(row, metric) for row in own])
            known = ratios[np.isfinite(ratios)]
            if known.size:
                held[metric].append(float(np.mean((known >= band.low) & (known <= band.high))))
    return {metric: float(np.mean(shares)) for metric, shares in held.items()}


# --- further away ---------------------------------------------------------------------------------


def widened(band: Band, steps: int) -> Band:
    """Return a band that is wider by half for each step, in the logarithm, about its middle.

    Examples
    --------
    >>> [round(edge, 3) for edge in widened(Band(0.5, 2.0), 2)]
    [0.25, 4.0]
    """
    low, high = (math.log(edge) for edge in band)
    middle, half = (low + high) / 2, (high - low) / 2 * (1 + WIDER * steps)
    return Band(math.exp(middle - half), math.exp(middle + half))


@cache
def own_band(accelerator: str, held_frac: float = HELD_FRAC) -> Band | None:
    """Return the throughput band of a part that was never fitted, from campaigns of its own."""
    if accelerator in coverage().accelerators:
        return None
    own = [row for row in blind() if row.unseen == "all" and row.point.accelerator == accelerator]
    known = [row for row in own if math.isfinite(row.throughput)]
    if _campaigns(known) < FEWEST_CAMPAIGNS:
        return None
    return Evidence(tuple(known), "").band("throughput", held_frac)


def union(first: Band, second: Band) -> Band:
    return Band(min(first.low, second.low), max(first.high, second.high))
