"""The race for headroom: which deployment of given devices can serve the most beyond the rate."""

from __future__ import annotations

import math

from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.search.candidates import Candidate, name_of
from sim_core.questions.deployment.search.fleet import alone_of
from sim_core.questions.deployment.search.race import SAME, Race
from sim_core.questions.deployment.search.trials import Standing
from sim_core.sweep.secant import Reach, highest

TOLERANCE, STEP = 0.02, 0.06


class HeadroomRace(Race):
    """All devices are used; the worth of a deployment is what it serves, below zero."""

    @property
    def allowed(self) -> float:
        """The least that a deployment must serve to enter, below zero: the rate while there is room."""
        if len(self.standing) < self.top:
            return -self.trials.rate_per_s
        return self.standing[self.top - 1].worth * (1 - SAME)

    def least(self, candidate: Candidate) -> float:
        """Return what a candidate serves at most, below zero."""
        return -self.most(candidate) * candidate.bound_per_s

    def estimated(self, candidate: Candidate) -> float:
        """Return what a candidate serves by the estimate, below zero."""
        most = self.most(candidate)
        return -alone_of(candidate).fleet_per_s(most) if most and candidate.estimate_per_s else math.inf

    def guess(self, candidate: Candidate) -> int | None:
        """Return all replicas that may be."""
        return self.most(candidate) or None

    def _try(self, candidate: Candidate) -> None:
        counts, trials = (self.most(candidate),), self.trials
        sister = self.sister(candidate)
        needed_per_s = max(-self.allowed, -sister.worth if sister else 0.0)
        if not counts[0]:
            self.lose_by_devices(candidate, candidate.devices_of((1,)))
            return
        try:
            miss = trials.miss(candidate, counts, rate_per_s=needed_per_s)
            found = None if miss > 0 else self._stood(candidate, counts, needed_per_s)
        except ScenarioError as error:
            self.losers.add("scenario", candidate.scenario, str(error))
            return
        if not self.entered(candidate, found, sister):
            self._outdone(candidate)

    def _stood(self, candidate: Candidate, counts: tuple[int, ...], least_per_s: float) -> Standing | None:
        """Return a deployment with the rate that long runs find, None where it is below what is needed."""
        trials = self.trials
        reach = Reach(least_per_s, 100 * least_per_s, STEP, TOLERANCE, slope=2.0)

        def miss(rate_per_s: float) -> float:
            return trials.miss(candidate, counts, True, rate_per_s=rate_per_s)

        found = highest(miss, max(-self.estimated(candidate), least_per_s), reach)
        if not found.low or trials.miss(candidate, counts, long=True) > 0:
            return None
        stood = trials.stood(candidate, counts, trials.miss(candidate, counts, long=True))
        stood.worth, stood.fleet_per_s, stood.error = -found.low, found.low, TOLERANCE * found.low
        return stood

    def _outdone(self, candidate: Candidate) -> None:
        """Enter a candidate that cannot serve as much as the last of the ranking."""
        count = self.most(candidate)
        if not count:
            self.lose_by_devices(candidate, candidate.devices_of((1,)))
            return
        served = -self.least(candidate)
        words = f"{self.words_of(candidate)}: at best {served:.4g} requests/s."
        limit = "devices" if served < self.trials.rate_per_s else "rank"
        self.losers.add(limit, candidate.scenario, words, -served)

    def words_of(self, candidate: Candidate) -> str:
        """Return all engines of a candidate in words."""
        return f"{self.most(candidate)} of {name_of(candidate.scenario)}"

    @property
    def unit(self) -> str:
        """What a worth is counted in."""
        return "requests/s, below zero"
