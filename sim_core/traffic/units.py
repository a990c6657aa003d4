"""Unit draws: what chance there is in traffic, before a scenario's keys stretch it.

Common random numbers: each kind of draw has its own generator, seeded by the scenario's seed, and
yields unit values (gaps of mean 1, standard normals, uniforms) that the scenario's keys then stretch.
So another rate moves the arrivals without touching the lengths, another length leaves the arrivals
alone, and more requests continue the same sequence.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sim_core.scenario.scenario import Scenario

CACHED_REQUESTS = 65_536
GAPS, CLASSES, PROMPTS, OUTPUTS, KINDS, TURNS, MET, THINKS, ACCEPTED = range(9)


def arrivals_of(scenario: Scenario, requests: int) -> np.ndarray:
    """Return the arrival times of drawn traffic. [s]"""
    if scenario.arrivals in ("closed", "offline"):
        return np.zeros(requests)
    cv = scenario.arrival_cv if scenario.arrivals == "gamma" else 1.0
    return unit(GAPS, scenario.seed, requests, cv) / scenario.arrival_per_s


def unit_arrivals(seed: int, requests: int, cv: float) -> np.ndarray:
    """Return arrival times at rate 1, read-only: what is divided by a scenario's rate."""
    return unit(GAPS, seed, requests, cv)


def unit_uniforms(seed: int, requests: int) -> np.ndarray:
    """Return uniform numbers between 0 and 1, read-only, that no other draw uses."""
    return unit(KINDS, seed, requests)


def unit(stream: int, seed: int, requests: int, cv: float = 1.0) -> np.ndarray:
    """Return the unit draws of one stream, read-only; short ones are kept for the next scenario."""
    make = _unit_draws if requests <= CACHED_REQUESTS else _unit_draws.__wrapped__
    return make(stream, seed, requests, cv)


@lru_cache(maxsize=64)
def _unit_draws(stream: int, seed: int, requests: int, cv: float) -> np.ndarray:
    """Return arrival times at rate 1, uniforms, waits of mean 1 (think times) or standard normals."""
    random = np.random.default_rng((seed, stream))
    if stream == GAPS:
        shape = 1 / cv**2
        gaps = random.standard_exponential(requests) if cv == 1 else random.standard_gamma(shape, requests)
        draws = np.cumsum(gaps / shape)
    elif stream in (CLASSES, KINDS, TURNS, MET):
        draws = random.random(requests)
    elif stream == THINKS:
        draws = random.standard_exponential(requests)
    else:
        draws = random.standard_normal(requests)
    draws.flags.writeable = False
    return draws
