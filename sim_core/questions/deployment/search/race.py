"""The race: which deployments are best, by whole replicas simulated at the rate itself.

Candidates run in the order of what they cost by the estimate. Each is skipped where even its bound costs
more than the worst deployment still in the ranking; else runs at the planned rate find its fewest replicas.
Every deployment is confirmed by a long run before it prunes others. Of the settings of one engine that need
as many replicas, the ranking shows one.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable

from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.question import Question
from sim_core.questions.deployment.search.candidates import SETTINGS, Candidate, name_of
from sim_core.questions.deployment.search.fleet import MOST_REPLICAS, alone_of, fewest
from sim_core.questions.deployment.search.losers import Losers
from sim_core.questions.deployment.search.trials import Contender, Standing, Trials
from sim_core.questions.shift.study import Progress, silent
from sim_core.scenario.scenario import accelerator_of
from sim_core.sweep.estimate import FEWEST

FAR = 0.12  # of the logarithm of a latency over its limit: the error of a short run
HOPE = 1.2  # times the end of the ranking by estimates: bounds below it are looked at first
MORE = 2  # times the replicas that nearly keep the limits in a short run: where these miss, more do, too
SAME = 1e-9


class Race:
    """The ranking as it stands, of at most `top` deployments and those as good as the last."""

    def __init__(self, question: Question, losers: Losers, trials: Trials, top: int) -> None:
        self.question, self.losers, self.trials, self.top = question, losers, trials, top
        self.standing: list[Standing] = []
        self._waiting: deque[Candidate] = deque()
        self._ready: list[tuple[float, int, Candidate]] = []
        self._hoped: list[float] = []

    # the order

    def prepare(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Take candidates in, and return those that could win, the cheapest by the estimate first."""
        self._waiting = deque(sorted(candidates, key=self.least))
        self._pull()
        return [candidate for _, _, candidate in sorted(self._ready)]

    def run(self, progress: Progress = silent) -> list[Standing]:
        """Return the ranking, best first; all others are entered among the losers.

        Progress is the share of the candidates that have been looked at; the last ones take no run.
        """
        count = len(self._ready) + len(self._waiting)
        while True:
            self._pull()
            left = len(self._ready) + len(self._waiting)
            if not self._ready:
                break
            progress(1 - left / count)
            candidate = heapq.heappop(self._ready)[2]
            if self.least(candidate) > self.allowed:
                self._outdone(candidate)
            else:
                self._try(candidate)
        for candidate in self._waiting:
            self._outdone(candidate)
        self._waiting.clear()
        progress(1.0)
        return self.standing

    def _pull(self) -> None:
        """Make those ready whose bound is as good as the ranking's end, by trials or by the estimate."""
        while self._waiting:
            least = self.least(self._waiting[0])
            hoped = self._hoped[self.top - 1] if len(self._hoped) >= self.top else math.inf
            if least > self.allowed or (self._ready and least > hoped + (HOPE - 1) * abs(hoped)):
                return
            candidate = self._waiting.popleft()
            cost = self.estimated(candidate)
            insort(self._hoped, cost)
            heapq.heappush(self._ready, (cost, len(self._hoped), candidate))

    @property
    def allowed(self) -> float:
        """The most that a deployment may cost to enter; infinite while there is room."""
        if len(self.standing) < self.top:
            return math.inf
        worth = self.standing[self.top - 1].worth
        return worth + SAME * abs(worth)

    def least(self, candidate: Candidate) -> float:
        """Return what a candidate costs at least."""
        return candidate.worth((fewest(candidate, self.trials.rate_per_s),))

    def estimated(self, candidate: Candidate) -> float:
        """Return what a candidate costs by the estimate; infinite where that takes it for impossible."""
        replicas = self.guess(candidate)
        return math.inf if replicas is None else candidate.worth((replicas,))

    def guess(self, candidate: Candidate) -> int | None:
        """Return the replicas by the estimate; None where more than may be are needed."""
        replicas = alone_of(candidate).replicas_for(self.trials.rate_per_s)
        return None if replicas is None or replicas > self.most(candidate) else replicas

    def most(self, candidate: Candidate) -> int:
        """Return the most replicas that may be beside the spare ones."""
        most = min(MOST_REPLICAS, self.question.device_limit // candidate.devices)
        return max(most - candidate.spare, 0)

    # one candidate

    def _try(self, candidate: Candidate) -> None:
        """Enter a candidate into the ranking, or among the losers."""
        most, low = self.most(candidate), fewest(candidate, self.trials.rate_per_s)
        if not math.isinf(self.allowed):
            most = min(most, math.floor(self.allowed / candidate.weight) - candidate.spare)
        sister = self.sister(candidate)
        if sister is not None:
            most = min(most, sister.counts[0] - 1)
            if low > most or _cannot_differ(candidate, sister):
                self.same(candidate, sister)
                return
        if low > most:
            self._outdone(candidate)
            return
        try:
            trickles = not self.question.replays  # a trace has its bursts at any rate
            if self.guess(candidate) is None and trickles and self._fails_alone(candidate):
                return
            found = self._fewest(candidate, low, most)
        except ScenarioError as error:
            self.losers.add("scenario", candidate.scenario, str(error))
            return
        if not self.entered(candidate, found, sister):
            self._lose_by_trial(candidate, most)

    def _fails_alone(self, candidate: Candidate) -> bool:
        """Return whether an engine misses the limits with hardly a request in it, and enter it then.

        Asked where the estimate says so: a run of the most replicas would take long to say the same.
        """
        least_per_s = min(candidate.sizing.engine.rate_per_s(FEWEST), self.trials.rate_per_s)
        fails = self.trials.miss(candidate, (1,), rate_per_s=least_per_s) > 0
        if fails:
            kind, over = self.trials.failure(candidate, (1,), least_per_s)
            words = (
                f"{name_of(candidate.scenario)}: with hardly a request in it, {kind.upper()} is {over:.3g} x"
            )
            self.losers.add(kind, candidate.scenario, f"{words} the limit.", over)
        return fails

    def _fewest(self, candidate: Candidate, low: int, high: int) -> Standing | None:
        """Return a candidate with its fewest replicas between two numbers, None if even the larger fails."""
        trials, guess = self.trials, min(max(self.guess(candidate) or low, low), high)

        def is_near(count: int) -> bool:
            return trials.miss(candidate, (count,)) <= FAR

        found = fewest_that(lambda count: trials.miss(candidate, (count,)) <= 0, low, high, guess)
        if found is None and not is_near(high):
            return None
        near = fewest_that(is_near, low, found or high, found or high)
        assert near
        most = min(high, MORE * near + 1)
        count = fewest_that(lambda count: trials.sure_miss(candidate, (count,)) <= 0, near, most, near)
        if count is None:
            return None
        return trials.stood(candidate, (count,), trials.sure_miss(candidate, (count,)))

    # the ranking

    def sister(self, candidate: Contender) -> Standing | None:
        """Return what stands in the ranking of the same engine with other settings."""
        return next((each for each in self.standing if each.candidate.family == candidate.family), None)

    def entered(self, candidate: Contender, found: Standing | None, sister: Standing | None) -> bool:
        """Enter what was found of a candidate, or that its sister is as good; False if there is neither."""
        if found is not None:
            self.enter(found)
        elif sister is not None:
            self.same(candidate, sister)
        return found is not None or sister is not None

    def enter(self, found: Standing) -> None:
        """Put a deployment into the ranking; worse settings of it leave, and what is no tie of its end."""
        sister = self.sister(found.candidate)
        if sister is not None:
            self.standing.remove(sister)
            self.same(sister.candidate, found)
        self.standing.append(found)
        self.standing.sort(key=lambda each: each.order)
        allowed = self.allowed
        for each in [each for each in self.standing if each.worth > allowed]:
            self.standing.remove(each)
            words = f"{self.called(each)} serve the rate, at {each.worth:.4g} {self.unit}."
            self.losers.add("rank", each.candidate.scenario, words, each.worth)

    def same(self, candidate: Contender, sister: Standing) -> None:
        """Enter settings that need as many replicas as others of the same engine, or more."""
        settings = ", ".join(f"{key}={getattr(candidate.scenario, key)}" for key in SETTINGS)
        sister.candidate.equal.append(settings)
        words = f"{name_of(candidate.scenario)} with {settings} needs no fewer replicas than as it is ranked."
        self.losers.add("equal", candidate.scenario, words)

    def called(self, found: Standing) -> str:
        """Return a deployment in words."""
        shown = found.candidate.scenario
        if shown.split:
            return f"{'+'.join(map(str, found.counts))} workers on {accelerator_of(shown).name}"
        return f"{found.counts[0]} of {name_of(shown)}"

    # why others lost

    def _outdone(self, candidate: Candidate) -> None:
        """Enter a candidate that cannot be better than the last of the ranking."""
        low, worth = fewest(candidate, self.trials.rate_per_s), self.least(candidate)
        name, most_per_s, unit = name_of(candidate.scenario), candidate.bound_per_s, self.unit
        if low > self.most(candidate):
            self.lose_by_devices(candidate, candidate.devices_of((low,)))
            return

        def words() -> str:
            return (
                f"{name}: at best {most_per_s:.3g} requests/s an engine, so at least {low} of them and "
                f"{worth:.4g} {unit}."
            )

        self.losers.add("rank", candidate.scenario, words, worth)

    def lose_by_devices(self, candidate: Contender, devices: int) -> None:
        """Enter a candidate that needs more devices than there may be."""
        limit = f"max_devices is {self.question.device_limit:,}"
        if devices <= self.question.device_limit:
            limit = f"a router has at most {MOST_REPLICAS} replicas"
        spare = f", {candidate.spare} of its engines spare" if candidate.spare else ""
        words = f"{name_of(candidate.scenario)}: at least {devices:,} devices are needed{spare}; {limit}."
        self.losers.add("devices", candidate.scenario, words, devices)

    def _lose_by_trial(self, candidate: Candidate, replicas: int) -> None:
        """Enter a candidate that fails with as many replicas as it may have."""
        worth, why = candidate.worth((replicas,)), self.trials.why(candidate, (replicas,))
        words = f"{name_of(candidate.scenario)}: with {replicas} of them ({worth:.4g} {self.unit}), {why}."
        limit = "devices" if replicas == self.most(candidate) else "rank"
        self.losers.add(limit, candidate.scenario, words, worth)

    @property
    def unit(self) -> str:
        """What a worth is counted in."""
        return self.question.unit


def _cannot_differ(candidate: Candidate, sister: Standing) -> bool:
    """Return whether a larger batch limit changes nothing: nobody waited for a place under the lower one."""
    mine, theirs = candidate.scenario, sister.candidate.scenario
    return (
        theirs.replace(max_batch=mine.max_batch) == mine
        and mine.max_batch > theirs.max_batch
        and sister.point["batch_blocked_frac"] == 0
    )


def fewest_that(fits: Callable[[int], bool], low: int, high: int, guess: int) -> int | None:
    """Return the smallest number from `low` to `high` that fits, beginning at a guess; None if none does.

    What fits a number is thought to fit all larger ones. Steps double, so that a good guess needs two trials.
    """
    failing, fitting, step = low - 1, high + 1, 1
    if fits(guess):
        fitting = guess
        while fitting - step > failing:
            if not fits(fitting - step):
                failing = fitting - step
                break
            fitting, step = fitting - step, 2 * step
    else:
        failing = guess
        while failing < high:
            trial = min(failing + step, high)
            if fits(trial):
                fitting = trial
                break
            failing, step = trial, 2 * step
        if fitting > high:
            return None
    while fitting - failing > 1:
        middle = (fitting + failing) // 2
        fitting, failing = (middle, failing) if fits(middle) else (fitting, middle)
    return fitting
