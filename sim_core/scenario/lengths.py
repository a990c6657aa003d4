"""Distributions of prompt and output lengths, each a function of a standard normal value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

MOST_TOKENS = 1_000_000
MOST_CV = 10.0
_Z_LIMIT = 8.5  # a standard normal lies beyond once in 10^16 draws
_Z_PER_UNIT = 200
_Z = np.linspace(-_Z_LIMIT, _Z_LIMIT, round(2 * _Z_LIMIT * _Z_PER_UNIT) + 1)
_PHI = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in _Z])


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Lengths with a given mean and coefficient of variation; a cv of 0 is a fixed length."""

    mean: float
    cv: float

    def at(self, z: np.ndarray) -> np.ndarray:
        """Return the length at each standard normal value. [tokens]"""
        if self.cv == 0:
            return np.full(len(z), float(self.mean))
        variance = math.log1p(self.cv**2)
        return np.exp(z * math.sqrt(variance) + (math.log(self.mean) - variance / 2))


@dataclass(frozen=True, slots=True)
class UniformIntegers:
    """Whole lengths from `low` to `high`, both included, all equally likely."""

    low: int
    high: int

    @property
    def mean(self) -> float:
        """Mean length. [tokens]"""
        return (self.low + self.high) / 2

    def at(self, z: np.ndarray) -> np.ndarray:
        """Return the length at each standard normal value. [tokens]"""
        steps = np.floor(_look_up(_PHI, z) * (self.high - self.low + 1))
        return np.minimum(self.low + steps, self.high)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Lengths from a table of quantiles, linear between them."""

    probabilities: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean length. [tokens]"""
        centres = (np.array(self.values[1:]) + np.array(self.values[:-1])) / 2
        return float(np.dot(np.diff(self.probabilities), centres))

    def at(self, z: np.ndarray) -> np.ndarray:
        """Return the length at each standard normal value. [tokens]"""
        return _look_up(_quantile_table(self), z)


Lengths = Lognormal | UniformIntegers | Quantiles
UNKNOWN = Lognormal(math.nan, 0.0)


@dataclass(frozen=True, slots=True)
class LengthClass:
    """One class of a mix: its share of the requests and how long they are.

    Those of the class `flat` are `UNKNOWN` until the scenario's flat keys take their place.
    """

    name: str
    weight: float
    prompt: Lengths
    output: Lengths
    rank_correlation: float = 0.0

    def draw(self, prompt_z: np.ndarray, output_z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return prompt and output tokens for pairs of independent standard normals.

        A Gaussian copula ties the two: normals of correlation 2 sin(pi s / 6) have rank correlation s.

        References
        ----------
        .. [1] Kruskal, "Ordinal measures of association", Journal of the American Statistical
           Association 53, 1958, section 5.
        """
        if self.rank_correlation:
            shared = 2 * math.sin(math.pi * self.rank_correlation / 6)
            output_z = shared * prompt_z + math.sqrt(1 - shared**2) * output_z
        return _whole(self.prompt.at(prompt_z)), _whole(self.output.at(output_z))


@lru_cache(maxsize=64)
def _quantile_table(lengths: Quantiles) -> np.ndarray:
    """Return the lengths at the grid of standard normal values."""
    return np.interp(_PHI, lengths.probabilities, lengths.values)


def _look_up(table: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return a function of a standard normal from its table over the even grid `_Z`, linear between."""
    position = np.clip((z + _Z_LIMIT) * _Z_PER_UNIT, 0, len(table) - 1.000001)
    left = position.astype(np.int32)
    position -= left
    return table[left] + position * (table[left + 1] - table[left])


def _whole(lengths: np.ndarray) -> np.ndarray:
    """Return lengths as whole tokens, at least 1."""
    np.rint(lengths, out=lengths)
    return np.maximum(lengths, 1.0, out=lengths).astype(np.int64)
