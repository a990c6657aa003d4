"""How many steps an answer takes when drafts are accepted by chance: drawn once for each request."""

from __future__ import annotations

import math

import numpy as np

from sim_core.traffic.units import ACCEPTED, unit


def steps_drawn(later_tokens: np.ndarray, length: float, seed: int) -> np.ndarray:
    """Return the verified steps in which requests make their later tokens.

    Engines that make acceptance up do it with the least variance, which is taken here: all but the last of
    `length` tokens come in every step, and one more by chance. The number of steps until there are n tokens
    is then nearly normal, with the mean and the variance of a renewal process of such steps, and lies between
    what the best and the worst luck would give. One number is drawn for each request, whatever its length.

    Parameters
    ----------
    later_tokens : ndarray of int, shape (n,)
        Tokens of each answer after its first.
    length : float
        Mean tokens of a step (acceptance length), at least 1.
    seed : int

    References
    ----------
    vLLM 0.32, `v1/sample/rejection_sampler.py`: synthetic acceptance of minimum variance.
    Cox (1962), "Renewal theory", section 4.2: mean and variance of the number of renewals.
    """
    sure = math.floor(length)
    more = length - sure
    square = sure * sure + more * (2 * sure + 1)  # mean of the squared number of tokens in a step
    beyond = (square / length - 1) / 2  # what the last step makes too much, on average
    spread = np.sqrt(later_tokens * (more * (1 - more) / length**3))
    steps = (later_tokens + beyond) / length + spread * unit(ACCEPTED, seed, later_tokens.size)
    fewest = -(-later_tokens // (sure + 1 if more else sure))
    return np.clip(np.rint(steps), fewest, -(-later_tokens // sure))
