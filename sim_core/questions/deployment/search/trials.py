"""Runs of deployments, each made once: what a race knows of them.

All deployments of a question see the same requests. A run is long enough where it is many lives of a request;
where a long one is close to the limit that it keeps, the mean over paired seeds counts beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sim_core.engine.run import run, run_known
from sim_core.evidence.trust import Trust
from sim_core.price.priced import Priced
from sim_core.questions.deployment.question import Question
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.capacity import (
    CAPACITY_REQUESTS,
    LIVES,
    MOST_REQUESTS,
    SHORT_LIVES,
    SHORT_REQUESTS,
    miss_of,
    seeded,
)

CLOSE = 0.05  # of the logarithm of a latency over its limit: the error of a long run
SEEDS = 4
MORE = 2  # times as many stand in a race whose order only runs decide
Counts = tuple[int, ...]


def with_spares(counts: Counts, spare: int) -> Counts:
    """Return so many replicas, or workers of each pool, with the spare ones."""
    return tuple(count + spare for count in counts)


class Contender(Protocol):
    """What may be deployed, as often as the rate needs: an engine, or workers of two pools."""

    @property
    def scenario(self) -> Scenario:
        """With one of each, under the planned rate."""

    @property
    def equal(self) -> list[str]:
        """Settings that make no difference."""

    @property
    def slow(self) -> float:
        """Times as long as predicted that its steps take in the ranking."""

    @property
    def family(self) -> Scenario:
        """It without its settings, of which a ranking shows the best."""

    @property
    def trust(self) -> Trust:
        """How far predictions of it can be trusted."""

    def deployed(self, counts: Counts, **changes: Any) -> Priced:
        """Return so many of it, priced as the ranking counts."""

    @property
    def spare(self) -> int:
        """How many more of each there are than the rate needs."""

    def devices_of(self, counts: Counts) -> int:
        """Return the accelerators of so many and the spare ones."""

    def worth(self, counts: Counts) -> float:
        """Return what so many and the spare ones cost, in the objective's unit."""

    def together(self, counts: Counts) -> float:
        """Return how many requests they decode at once at most."""


@dataclass(eq=False)
class Standing:
    """A deployment in the ranking.

    Attributes
    ----------
    candidate : Contender
    counts : tuple of int
        Replicas, or prefill and decode workers.
    worth : float
        What it costs, in the objective's unit: less is better.
    miss : float
        The logarithm of the larger latency over its limit at the planned rate; not above 0.
    point : mapping
        Of the long run, which has as many `requests`.
    error : float
        How much more it may cost, within the error of the runs: another replica where it is close to a limit.
    fleet_per_s : float or None
        What all serve together, where that is known already. [1/s]
    """

    candidate: Contender
    counts: Counts
    worth: float
    miss: float
    point: Mapping[str, Any]
    requests: int
    error: float = 0.0
    fleet_per_s: float | None = None

    @property
    def order(self) -> tuple[float, float, int]:
        """By worth, then by the margin to the limits, then by devices."""
        return self.worth, self.miss, self.devices

    @property
    def devices(self) -> int:
        """All accelerators."""
        return self.candidate.devices_of(self.counts)


class Trials:
    """Runs of deployments of one question; each is made once."""

    def __init__(self, question: Question) -> None:
        self.question, self.rate_per_s = question, question.planned_per_s
        self._points: dict[tuple[Contender, Counts, int, int, float], Mapping[str, Any]] = {}

    def requests(self, candidate: Contender, counts: Counts, long: bool) -> int:
        """Return the requests of a run: many lives of one, of a trace in whole passes."""
        most, lives = (CAPACITY_REQUESTS, LIVES) if long else (SHORT_REQUESTS, SHORT_LIVES)
        wanted = max(most, min(math.ceil(lives * candidate.together(counts)), MOST_REQUESTS))
        return self.question.requests_of_run(wanted)

    def point(
        self, candidate: Contender, counts: Counts, requests: int, turn: int = 0, rate_per_s: float = 0.0
    ) -> Mapping[str, Any]:
        """Return the point of a deployment at a rate, by default the planned one."""
        rate_per_s = rate_per_s or self.rate_per_s
        key = candidate, counts, requests, turn, rate_per_s
        if key not in self._points:
            known = candidate.deployed(counts, requests=requests, arrival_per_s=rate_per_s)
            known = known.at(seeded(known.scenario, turn)) if turn else known
            self._points[key] = point_of(run_known(known, self.question.trace))
        return self._points[key]

    def miss(
        self,
        candidate: Contender,
        counts: Counts,
        long: bool = False,
        turn: int = 0,
        rate_per_s: float = 0.0,
    ) -> float:
        """Return the logarithm of the larger latency over its limit, by default at the planned rate."""
        point = self.point(candidate, counts, self.requests(candidate, counts, long), turn, rate_per_s)
        return miss_of(candidate.scenario, point)

    def sure_miss(self, candidate: Contender, counts: Counts) -> float:
        """Return the miss of a long run; where it is close to a limit that it keeps, over paired seeds.

        No seed changes what is replayed.
        """
        miss = self.miss(candidate, counts, long=True)
        if not -CLOSE < miss <= 0 or self.question.replays:
            return miss
        more = (self.miss(candidate, counts, True, turn) for turn in range(1, SEEDS))
        return (miss + sum(more)) / SEEDS

    def stood(self, candidate: Contender, counts: Counts, miss: float) -> Standing:
        """Return a deployment that a long run has confirmed."""
        requests = self.requests(candidate, counts, long=True)
        point = self.point(candidate, counts, requests)
        worth = candidate.worth(counts)
        error = worth / sum(with_spares(counts, candidate.spare)) if miss > -CLOSE else 0.0
        return Standing(candidate, counts, worth, miss, point, requests, error)

    def failure(self, candidate: Contender, counts: Counts, rate_per_s: float = 0.0) -> tuple[str, float]:
        """Return which limit a deployment misses by the larger factor in a short run, and that factor."""
        point = self.point(candidate, counts, self.requests(candidate, counts, False), rate_per_s=rate_per_s)
        over = {
            name: point[f"slo_{name}_ms_reached"] / getattr(candidate.scenario, f"slo_{name}_ms")
            for name in ("ttft", "tpot")
        }
        kind = "ttft" if over["ttft"] >= over["tpot"] or math.isnan(over["tpot"]) else "tpot"
        return kind, over[kind]

    def why(self, candidate: Contender, counts: Counts) -> str:
        """Return what a deployment misses by a short run, in words."""
        kind, over = self.failure(candidate, counts)
        if over > 1:
            return f"{kind.upper()} is {over:.3g} x the limit"
        grows = self.miss(candidate, counts) > 0
        return "the queue grows" if grows else "a short run keeps the limits, but longer ones do not"


def rank_by_energy(trials: Trials, standing: list[Standing]) -> None:
    """Order deployments that were chosen by rated power by what runs take: their worth in J a token."""
    for each in standing:
        counts = with_spares(each.counts, each.candidate.spare)
        each.worth = trials.point(each.candidate, counts, each.requests)["joule_per_tok"]
        each.error = 0.0
    standing.sort(key=lambda each: each.order)


def plain_point(question: Question, scenario: Scenario) -> Mapping[str, Any]:
    """Return the point of a deployment as predicted, whatever the ranking counts on."""
    return point_of(run(scenario, trace=question.trace))
