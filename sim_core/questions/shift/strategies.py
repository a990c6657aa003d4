"""Who decides how many workers prefill: strategies, from what they know of the traffic to a split.

All know what a request takes of the workers (`sim_core.questions.shift.needs`), and so which split carries
a given traffic best: that in which the busier pool is least loaded. They differ in what they know of the
traffic, and when:

- *fixed*: the split that is best for the mean of the whole time; it never moves. *Best fixed in hindsight* is
  the fixed split that serves most, found by climbing from there.
- *reactive*: sees what has arrived in the last `observe_s`.
- *predictive*: sees what will arrive in the next `forecast_s`, each pool's load with an error: lognormal, of
  mean 1 and variation `forecast_error_frac`, drawn anew for each such stretch.
- *oracle*: knows all that will come and what a move costs. Several plans that use it are tried, and the best
  counts: one from dynamic programming over the control intervals, some that follow the next minutes, and what
  all strategies above did. *With free moves* it is the bound on what adapting could bring.

Reactive and predictive act alike on what they see: if the busier pool's load is above `threshold_frac`, and
another split lowers it by `hysteresis_frac`, they ask for the best one, `cooldown_s` after the last time at
the earliest.

The reactive strategy is given the lengths of answers as they turn out, as if each application's usual answer
were known when a request comes.
"""

from __future__ import annotations

import math

import numpy as np

from sim_core.questions.shift.needs import utilisations
from sim_core.scenario.scenario import Scenario

FORECASTS = 20  # stream of random numbers
LATE = 4.0  # how steeply a pool's overload costs served requests in the oracle's plan
MAX_SLOTS, MAX_CELLS, FEWEST_SLOTS = 2000, 2_000_000, 24


class Load:
    """The workers that both pools need over time, from the requests that arrive."""

    def __init__(
        self, arrival_s: np.ndarray, prefill_s: np.ndarray, decode_s: np.ndarray, workers: int
    ) -> None:
        self.arrival_s, self.workers = arrival_s, workers
        self._sums = np.concatenate(
            [np.zeros((1, 2)), np.cumsum(np.column_stack([prefill_s, decode_s]), axis=0)]
        )

    def between(self, start_s: np.ndarray | float, end_s: np.ndarray | float) -> np.ndarray:
        """Return the workers that prefill and decode need for what arrives from `start_s` to `end_s`."""
        edges = (np.searchsorted(self.arrival_s, moment) for moment in (end_s, start_s))
        after, before = (self._sums[edge] for edge in edges)
        span_s = np.maximum(np.asarray(end_s, float) - start_s, 1e-9)
        return (after - before) / span_s[..., None]

    def best_split(self, need: np.ndarray) -> int:
        """Return the number of prefill workers with which the busier pool is least loaded."""
        return int(np.argmin(utilisations(need[0], need[1], self.workers)))


class Strategy:
    """Decides about the split at every control interval; this one leaves it as it is."""

    def wish(self, times_s: np.ndarray, prefill_workers: int) -> tuple[int, int]:
        """Return how many of some moments pass until it wants another split, and the prefill workers of that.

        The moment of the wish counts; where there is none, all moments pass and the split stays.
        """
        wanted = self.wanted(times_s, prefill_workers)
        places = np.flatnonzero(wanted != prefill_workers)
        if places.size == 0:
            return times_s.size, prefill_workers
        self.decided(float(times_s[places[0]]))
        return int(places[0]) + 1, int(wanted[places[0]])

    def wanted(self, times_s: np.ndarray, prefill_workers: int) -> np.ndarray:
        """Return the prefill workers wanted at some moments, if until then they are as many as now."""
        return np.full(times_s.size, prefill_workers)

    def decided(self, now_s: float) -> None:
        """Take note of a wish."""


class Adaptive(Strategy):
    """Acts on a view of the traffic, with threshold, hysteresis and cool-down."""

    def __init__(self, load: Load, scenario: Scenario) -> None:
        self.load, self.scenario = load, scenario
        self.decided_s = -math.inf

    def need(self, times_s: np.ndarray) -> np.ndarray:
        """Return the workers that it believes both pools need, at some moments."""
        raise NotImplementedError

    def wanted(self, times_s: np.ndarray, prefill_workers: int) -> np.ndarray:
        """Return the splits that it wants at some moments."""
        need_prefill, need_decode = self.need(times_s).T
        loads = utilisations(need_prefill, need_decode, self.load.workers)
        present, best = loads[:, prefill_workers], loads.argmin(axis=1)
        worth = loads.min(axis=1) < present - self.scenario.hysteresis_frac
        free = times_s >= self.decided_s + self.scenario.cooldown_s
        return np.where(free & worth & (present > self.scenario.threshold_frac), best, prefill_workers)

    def decided(self, now_s: float) -> None:
        """Start the cool-down."""
        self.decided_s = now_s


class Reactive(Adaptive):
    """Sees what has arrived lately; waits until its window is full."""

    def need(self, times_s: np.ndarray) -> np.ndarray:
        """Return the workers that the last `observe_s` would have needed."""
        return self.load.between(np.maximum(times_s - self.scenario.observe_s, 0.0), times_s)

    def wanted(self, times_s: np.ndarray, prefill_workers: int) -> np.ndarray:
        """Return the splits that it wants at some moments."""
        wanted = super().wanted(times_s, prefill_workers)
        return np.where(times_s >= self.scenario.observe_s, wanted, prefill_workers)


class Predictive(Adaptive):
    """Sees what will arrive soon, with an error."""

    def need(self, times_s: np.ndarray) -> np.ndarray:
        """Return the workers that the next `forecast_s` will need, as forecast."""
        horizon_s = self.scenario.forecast_s
        stretches, places = np.unique(times_s // horizon_s, return_inverse=True)
        errors = np.array([forecast_error(self.scenario, int(stretch)) for stretch in stretches])
        return self.load.between(times_s, times_s + horizon_s) * errors[places]


def forecast_error(scenario: Scenario, stretch: int) -> np.ndarray:
    """Return the factors by which the forecast of both pools' load errs in one stretch of time."""
    if scenario.forecast_error_frac == 0:
        return np.ones(2)
    variance = math.log1p(scenario.forecast_error_frac**2)
    normals = np.random.default_rng((scenario.seed, FORECASTS, stretch)).standard_normal(2)
    return np.exp(normals * math.sqrt(variance) - variance / 2)


class Planned(Strategy):
    """Follows a plan: from each of some times on, so many prefill workers."""

    def __init__(self, times_s: np.ndarray, splits: np.ndarray) -> None:
        self.times_s, self.splits = times_s, splits

    def wanted(self, times_s: np.ndarray, prefill_workers: int) -> np.ndarray:
        """Return what the plan says for some moments; before it begins, the split stays."""
        places = np.searchsorted(self.times_s, times_s, side="right")
        return np.append(prefill_workers, self.splits)[places]


def best_plan(load: Load, scenario: Scenario, duration_s: float, away_s: float) -> Planned:
    """Return the plan that serves most if a worker is away for `away_s` whenever it moves.

    Dynamic programming backwards over time in slots of a control interval (longer if there would be more
    than `MAX_SLOTS`). In a slot in which the busier pool has a load of u, 1 - 4 (u - 1) of the requests keep
    the limits, all up to u = 1 and none from 1.25 on: overload makes a queue, and a queue makes all late.
    """
    slots = min(MAX_SLOTS, max(MAX_CELLS // load.workers**2, FEWEST_SLOTS))
    slot_s = max(scenario.control_s, duration_s / slots)
    starts_s = np.arange(0.0, duration_s, slot_s)
    workers, away = load.workers, round(away_s / slot_s)
    need = load.between(starts_s, starts_s + slot_s)
    arrived = np.diff(np.searchsorted(load.arrival_s, np.append(starts_s, duration_s)))
    served = arrived[:, None, None] * _served(need, workers)
    sums = np.concatenate([np.zeros((1, *served.shape[1:])), np.cumsum(served, axis=0)])
    splits = np.arange(1, workers)
    fewer_p, fewer_d = (
        np.minimum(splits[:, None], splits),
        np.minimum(workers - splits[:, None], workers - splits),
    )
    future = np.zeros((starts_s.size + 1, splits.size))
    choice = np.zeros((starts_s.size, splits.size), int)
    for slot in range(starts_s.size - 1, -1, -1):
        back = min(slot + max(away, 1), starts_s.size)
        moving = (sums[back] - sums[slot])[fewer_p, fewer_d] + future[back]
        staying = served[slot][splits, workers - splits] + future[slot + 1]
        moving[np.arange(splits.size), np.arange(splits.size)] = staying * (1 + 1e-9)
        choice[slot] = moving.argmax(axis=1)
        future[slot] = moving.max(axis=1)
    return _followed(starts_s, choice, splits, int(future[0].argmax()), away)


def _served(need: np.ndarray, workers: int) -> np.ndarray:
    """Return the share of requests that keep the limits, by slot, prefill workers and decode workers."""
    counts = np.arange(workers + 1, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        loads = np.maximum(need[:, 0, None, None] / counts[:, None], need[:, 1, None, None] / counts)
    return np.clip(1 - LATE * (np.nan_to_num(loads, nan=0.0, posinf=1e9) - 1), 0.0, 1.0)


def _followed(starts_s: np.ndarray, choice: np.ndarray, splits: np.ndarray, first: int, away: int) -> Planned:
    """Return the plan that follows the choices from one split on."""
    times, found, present, slot = [0.0], [int(splits[first])], first, 0
    while slot < starts_s.size:
        wanted = int(choice[slot, present])
        if wanted != present:
            times.append(float(starts_s[slot]))
            found.append(int(splits[wanted]))
        slot += max(away, 1) if wanted != present else 1
        present = wanted
    return Planned(np.array(times), np.array(found))
