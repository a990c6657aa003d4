"""Bands: where a measurement of a campaign that nobody has seen lies in four cases of five.

A campaign is one model on one accelerator under one engine in one precision. Its points share an error of
level, so a hundred points of one campaign say little more of the next one than ten do: campaigns, not points,
are what is drawn. The typical error of a kind of scenario is the mean over the closest campaigns of the size
of log (measured / predicted), each campaign counting once. A band is as many typical errors to each side of
the prediction as hold four fifths of the campaigns left out in turn, each against the typical error of the
others.

References
----------
Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (2005), chapters 2 and 4: conformal
prediction, and scores in units of an expected error. Dunn, Wasserman, Ramdas, "Distribution-free prediction
sets for two-layer hierarchical models", J. Am. Stat. Assoc. 118 (2023): groups that count once.
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
KINDS = {  # of blind rows that are run by themselves, in words
    "pools": (" of two pools", "which no fit has used"),
    "ranks": (" with ranks of attention", "each predicted without its accelerator"),
}
Campaigns = frozenset[Hashable]


# --- the closest campaigns ------------------------------------------------------------------------


class Evidence(NamedTuple):
    """Blind rows that speak for a scenario, and in words which they are.

    `unseen` is what their predictions have not seen, `without` which campaigns were left aside.
    """

    rows: tuple[Blind, ...]
    words: str
    unseen: str
    without: Campaigns
    typical: Mapping[str, float]  # error of each metric; NaN where no row tells

    def band(self, metric: str, held_frac: float = HELD_FRAC) -> Band:
        """Return the band of a metric: measured over predicted."""
        half = factor(self.unseen, metric, held_frac, self.without) * self.typical[metric]
        return Band(math.exp(-half), math.exp(half))

    def bands(self, held_frac: float = HELD_FRAC) -> dict[str, Band]:
        """Return the bands of all metrics."""
        return {metric: self.band(metric, held_frac) for metric in METRICS}


def _sizes(rows: Iterable[Blind], metric: str) -> dict[Hashable, list[float]]:
    """Return the sizes of logarithmic errors by campaign, where the metric is known."""
    found: dict[Hashable, list[float]] = {}
    for row in rows:
        ratio = getattr(row, metric)
        if ratio > 0 and math.isfinite(ratio):
            found.setdefault(campaign(row.point), []).append(abs(math.log(ratio)))
    return found


@cache
def closest(family: str, generation: str, unseen: str, without: Campaigns = frozenset()) -> Evidence:
    """Return the closest blind rows that are of enough campaigns.

    These are, in this order, the rows of the family on parts of the generation, of the family, all.

    Parameters
    ----------
    family, generation : str
    unseen : str
        What the rows' predictions have not seen: ``accelerator``, ``model``, two ``pools``, or (those with)
        ``ranks`` of attention.
    without : set of campaigns, optional
        Those left aside, to see whether the band of the others holds them.
    """
    rows = [row for row in blind() if row.unseen == unseen and campaign(row.point) not in without]
    same = [row for row in rows if row.point.family == family]
    here = [row for row in same if generation_of(row.point.accelerator) == generation]
    words = FAMILY_WORDS[family]
    choices = (
        (here, f" of {words} on {GENERATION_WORDS.get(generation, generation)} parts"),
        (same, f" of {words}"),
        (rows, ""),
    )
    found, which = next((item for item in choices if _campaigns(item[0]) >= FEWEST_CAMPAIGNS), choices[-1])
    pools, blindly = KINDS.get(unseen, ("", f"each predicted without its {unseen}"))
    words = f"{len(found)} published points{pools}{which} in {_campaigns(found)} campaigns, {blindly}"
    typical = {metric: _typical(found, metric) for metric in METRICS}
    return Evidence(tuple(found), words, unseen, without, typical)


def _typical(rows: Iterable[Blind], metric: str) -> float:
    """Return the mean over campaigns of the mean size of the logarithmic error; NaN without any."""
    sizes = _sizes(rows, metric).values()
    return float(np.mean([np.mean(own) for own in sizes])) if sizes else math.nan


def _campaigns(rows: Iterable[Blind]) -> int:
    return len({campaign(row.point) for row in rows})


# --- how many typical errors a band is wide -------------------------------------------------------


@cache
def factor(unseen: str, metric: str, held_frac: float, without: Campaigns = frozenset()) -> float:
    """Return how many typical errors hold a share of the campaigns that are left out in turn.

    Of k campaigns drawn alike, the next one lies below the r-th smallest score with probability r / (k + 1).
    """
    rows = [row for row in blind() if row.unseen == unseen and campaign(row.point) not in without]
    scores, weights = [], []
    for name, sizes in _sizes(rows, metric).items():
        typical = _others(rows, name, unseen, without).typical[metric]
        scores += [size / typical for size in sizes]
        weights += [1 / len(sizes)] * len(sizes)
    order = np.argsort(scores)
    reached = np.cumsum(np.array(weights)[order])
    place = int(np.searchsorted(reached, held_frac * (reached[-1] + 1) - 1e-9))
    return float(np.array(scores)[order][min(place, len(order) - 1)])


def _others(rows: Iterable[Blind], name: Hashable, unseen: str, without: Campaigns) -> Evidence:
    """Return the evidence that speaks for a campaign without its own rows."""
    point = next(row.point for row in rows if campaign(row.point) == name)
    return closest(point.family, generation_of(point.accelerator), unseen, without | {name})


@cache
def left_out_coverage(*unseen: str, held_frac: float = HELD_FRAC) -> Mapping[str, float]:
    """Return the share of measurements inside the band of all campaigns but their own, by metric.

    A campaign counts as one, however many points it has. ``model`` stands for what lies in the validated
    region, ``accelerator`` and ``pools`` for what is extrapolated.
    """
    held: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for kind in unseen:
        rows = [row for row in blind() if row.unseen == kind]
        for metric, shares in held.items():
            for name, sizes in _sizes(rows, metric).items():
                edge = math.log(_others(rows, name, kind, frozenset()).band(metric, held_frac).high)
                shares.append(float(np.mean(np.array(sizes) <= edge)))
    return {metric: float(np.mean(shares)) for metric, shares in held.items()}


# --- where each ratio stands for itself -----------------------------------------------------------


def ranked(ratios: Sequence[float], held_frac: float = HELD_FRAC) -> Band:
    """Return the band that holds a new ratio with a probability of `held_frac`, where each stands for itself.

    Of n drawn alike, the next one lies below the r-th smallest with probability r / (n + 1). So from the
    lowest to the highest ratio lie no more than (n - 1) / (n + 1) of the next ones: fewer than nine cannot
    hold four of five by their ranks. Their band reaches at least as far as Student's interval for the next
    one, which takes their logarithms for normally distributed. Of a single ratio there is no band.

    References
    ----------
    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (2005), chapter 2: conformal prediction.
    Geisser, "Predictive Inference" (1993), chapter 2: the interval for the next one of a normal distribution.

    Examples
    --------
    >>> ranked([0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 2.0, 4.0])
    Band(low=0.5, high=4.0)
    """
    known = [ratio for ratio in ratios if math.isfinite(ratio)]
    if len(known) < 2:
        return NO_BAND
    edge = (1 - held_frac) / 2
    by_rank = Band(*np.quantile(known, [edge, 1 - edge], method="weibull").tolist())
    enough = len(known) - 1 >= held_frac * (len(known) + 1) - 1e-9
    return by_rank if enough else union(by_rank, _of_few(known, held_frac))


def _of_few(ratios: Sequence[float], held_frac: float) -> Band:
    """Return the interval for the next ratio, of two or more whose logarithms are normally distributed."""
    logs, count = np.log(ratios), len(ratios)
    half = student((1 + held_frac) / 2, count - 1) * logs.std(ddof=1) * math.sqrt(1 + 1 / count)
    return Band(math.exp(logs.mean() - half), math.exp(logs.mean() + half))


def student(below_frac: float, freedom: int) -> float:
    """Return the quantile of Student's distribution, from its expansion about the normal one.

    Within 0.2% from three degrees of freedom on, 4% too small at one.

    References
    ----------
    Abramowitz, Stegun, "Handbook of Mathematical Functions" (1964), 26.7.5.

    Examples
    --------
    >>> [round(student(0.9, freedom), 2) for freedom in (4, 7)]
    [1.53, 1.41]
    """
    x = NormalDist().inv_cdf(below_frac)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
    )
    return x + sum(term / freedom**power for power, term in enumerate(terms, start=1))


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
    """Return the throughput band of a part that was never fitted, from the medians of its own campaigns."""
    if accelerator in coverage().accelerators:
        return None
    own = [row for row in blind() if row.unseen == "all" and row.point.accelerator == accelerator]
    known: dict[Hashable, list[float]] = {}
    for row in own:
        if math.isfinite(row.throughput):
            known.setdefault(campaign(row.point), []).append(1 / row.throughput)
    if len(known) < FEWEST_CAMPAIGNS:
        return None
    return ranked([float(np.median(ratios)) for ratios in known.values()], held_frac)


def union(first: Band, second: Band) -> Band:
    return Band(min(first.low, second.low), max(first.high, second.high))
