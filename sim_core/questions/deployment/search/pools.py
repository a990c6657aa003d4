"""Two pools for a rate: how many prefill and how many decode workers, of which sizes.

Rate matching gives the seconds that a request takes of a worker of either pool, and with them the fewest
workers there can be. From somewhat more, runs at the rate go up by a worker of the pool that misses its
limit until both are kept, then down again while they are. No sweep over splits is needed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from sim_core.engine.work import raise_if_stopped
from sim_core.evidence.trust import Trust, trust
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import DoesNotFit
from sim_core.price.pools import PoolPrices
from sim_core.price.price import Price, slowed
from sim_core.price.priced import Priced, priced
from sim_core.questions.deployment.answer import pools_name
from sim_core.questions.deployment.layouts import Shape
from sim_core.questions.deployment.question import LAYOUT, Question
from sim_core.questions.deployment.recorded import means_with_reuse
from sim_core.questions.deployment.search.candidates import scenarios_of, shapes_for, weight_of
from sim_core.questions.deployment.search.fleet import Between
from sim_core.questions.deployment.search.losers import Losers
from sim_core.questions.deployment.search.race import SAME, Race
from sim_core.questions.deployment.search.trials import Counts, Standing, with_spares
from sim_core.questions.disaggregation import Matched, matched_at
from sim_core.results.classes import limits_of_engine
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of
from sim_core.traffic.draws import mean_lengths

MOST_WORKERS = int(FIELDS["prefill_workers"].high)
SAFE = 1.05  # times what rate matching says that a worker can do at most
PREFILL_LOAD, DECODE_LOAD = 0.8, 0.97  # of the workers where the search begins
IDLE = 0.5  # below such a load it is not the prefill pool that lets first tokens wait
ONE_EACH = {"prefill_workers": 1, "decode_workers": 1, **dict.fromkeys(LAYOUT, 1)}
PART = 12  # a step is one worker, or one in so many
MOST_STEPS = 40


class PoolPair:
    """Workers of one size that prefill, workers of another that decode, on one kind of accelerator.

    Attributes
    ----------
    scenario : Scenario
        One worker of each, under the planned rate.
    known : Priced
    equal : list of str
        Settings that make no difference: none.
    slow : float
        Times as long as predicted that its steps take in the ranking.
    spare : int
        How many more workers than the rate needs there are in either pool.
    """

    def __init__(self, scenario: Scenario, question: Question) -> None:
        self.scenario, self.equal, self.slow, self.spare = scenario, list[str](), 1.0, question.spare
        self.known = priced(scenario)
        self.stated = question.stated(scenario)
        self.means_with_reuse = means_with_reuse(scenario, question.trace)
        weight = weight_of(question.objective, self.known.accelerator, 1)
        self.device_weight = math.nan if weight is None else weight
        high = self.trust.tpot_band.high if question.ranking == "pessimistic" else 1.0
        self.slow = high if math.isfinite(high) and high > 1 else 1.0
        self.matched = self.matched_at(self.slow)

    @property
    def family(self) -> Scenario:
        """The pair itself."""
        return self.scenario

    @cached_property
    def trust(self) -> Trust:
        """How far predictions of it can be trusted."""
        return trust(self.stated)

    @property
    def sizes(self) -> tuple[int, int]:
        """Devices of a prefill and of a decode worker."""
        pools = self.known.both_pools
        return pools.prefill.accelerators, pools.decode.accelerators

    def matched_at(self, factor: float) -> Matched:
        """Return rate matching with steps that take so many times as long as predicted."""
        pools = self.known.both_pools
        return matched_at(
            self.means_with_reuse, *(_slowed(price, factor) for price in (pools.prefill, pools.decode))
        )

    def deployed(self, counts: Counts, **changes: Any) -> Priced:
        """Return so many workers, priced as the ranking counts."""
        workers = {"prefill_workers": counts[0], "decode_workers": counts[1]}
        known = priced(self.scenario.replace(**workers, **changes))
        if self.slow == 1.0:
            return known
        pools = known.both_pools
        slower = PoolPrices(
            _slowed(pools.prefill, self.slow), _slowed(pools.decode, self.slow), pools.transfer
        )
        return dataclasses.replace(known, price=slower.decode, pools=slower)

    def devices_of(self, counts: Counts) -> int:
        """Return the accelerators of so many workers and the spare ones."""
        return sum(
            count * size for count, size in zip(with_spares(counts, self.spare), self.sizes, strict=True)
        )

    def worth(self, counts: Counts) -> float:
        """Return what so many workers and the spare ones cost, in the objective's unit."""
        return self.device_weight * self.devices_of(counts)

    def together(self, counts: Counts) -> float:
        """Return how many requests decode at once: Little's law at the TPOT limit."""
        life_s = self.matched.decode_s * self.matched.batch
        return self.scenario.arrival_per_s * life_s

    def workers(self, rate_per_s: float, loads: tuple[float, float], factor: float | None = None) -> Counts:
        """Return the workers that serve a rate at some loads by rate matching."""
        found = self.matched if factor is None else self.matched_at(factor)
        seconds = found.prefill_s, found.decode_s
        return tuple(
            max(math.ceil(rate_per_s * each_s / load), 1) for each_s, load in zip(seconds, loads, strict=True)
        )

    def fewest(self, rate_per_s: float) -> Counts:
        """Return workers of which neither may be fewer."""
        return self.workers(rate_per_s, (SAFE, SAFE))

    @property
    def over(self) -> float:
        """Times the limit that TPOT takes where a decode worker has one sequence; at most 1 where it can."""
        return self.over_at(self.matched)

    def over_at(self, found: Matched) -> float:
        """Return the same by some rate matching."""
        if found.batch > 1:
            return 0.0
        output = max(mean_lengths(self.stated)[1] - 1, 1.0)
        return 1e3 * found.decode_s / output / limits_of_engine(self.scenario).tpot_ms


def _slowed(price: Price, factor: float) -> Price:
    return price if factor == 1.0 else slowed(price, factor)


def pairs_of(question: Question, losers: Losers) -> list[PoolPair]:
    """Return the pairs of worker sizes that may vary as asked; the others are entered among the losers."""
    found = []
    for base in scenarios_of(question):
        split = _one_each(base, question.free)
        shapes = [shape for shape in shapes_for(base, question.free) if shape.stages == 1]
        for prefill, decode in itertools.product(shapes, shapes):
            raise_if_stopped()
            try:
                pair = PoolPair(
                    split.replace(**_keys(prefill, "prefill"), **_keys(decode, "decode")), question
                )
            except ScenarioError as error:
                limit = "memory" if isinstance(error, DoesNotFit) else "scenario"
                losers.add(limit, split, str(error), 1.0)
                continue
            if pair.over > 1:
                words = f"{name_of_pair(pair)}: even alone, TPOT is {pair.over:.3g} x the limit."
                losers.add("tpot", pair.scenario, words, pair.over)
            elif math.isnan(pair.device_weight):
                losers.add("price", pair.scenario, f"{pair.known.accelerator.name} has no price.")
            else:
                found.append(pair)
    return found


def _one_each(base: Scenario, free: Sequence[str]) -> Scenario:
    """Return two pools of one worker each, of one device where their layouts are to be found."""
    found = {f"{pool}_{key}": None for pool in ("prefill", "decode") for key in LAYOUT if key in free}
    return base.replace(policy="disaggregated", **ONE_EACH, **found)


def _keys(shape: Shape, pool: str) -> dict[str, int]:
    """Return a shape as keys of the workers of a pool; those of 1 are what both pools share."""
    return {key: value for key, value in shape.keys(pool).items() if value > 1}


def name_of_pair(pair: PoolPair, counts: Counts | None = None) -> str:
    """Return the workers of a pair in words."""
    shown = pair.scenario
    if counts is not None:
        shown = shown.replace(prefill_workers=counts[0], decode_workers=counts[1])
    return f"{accelerator_of(shown).name}, {pools_name(shown)}"


def enter_pairs(race: Race, pairs: Iterable[PoolPair]) -> None:
    """Let pairs of pools into a race, the cheapest by their bound first."""
    rate_per_s = race.trials.rate_per_s
    for pair in sorted(pairs, key=lambda each: each.worth(each.fewest(rate_per_s))):
        search = _Search(race, pair)
        try:
            found = search.found()
        except ScenarioError as error:
            race.losers.add("scenario", pair.scenario, str(error))
            continue
        if found is None:
            limit, words = search.reason
            race.losers.add(limit, pair.scenario, words, search.worth)
        else:
            race.enter(found)


class _Search:
    """The search for the fewest workers of one pair."""

    def __init__(self, race: Race, pair: PoolPair) -> None:
        self.race, self.pair, self.trials = race, pair, race.trials
        self.least = pair.fewest(self.trials.rate_per_s)
        self.worth, self.reason = pair.worth(self.least), ("rank", "")

    def found(self) -> Standing | None:
        """Return the pair with its fewest workers, None if it is worse than the ranking's end."""
        if not self._allowed(self.least):
            return None
        rate_per_s = self.trials.rate_per_s
        counts = self._upwards(self.pair.workers(rate_per_s, (PREFILL_LOAD, DECODE_LOAD)), long=False)
        if counts is None:
            return None
        counts = self._upwards(self._downwards(counts), long=True)
        return None if counts is None else self.trials.stood(self.pair, counts, self._miss(counts, True))

    def _allowed(self, counts: Counts) -> bool:
        """Return whether so many workers may be, and enter the reason if not."""
        devices, limit = self.pair.devices_of(counts), self.race.question.device_limit
        name, worth = name_of_pair(self.pair), self.pair.worth(counts)
        if devices > limit or max(counts) + self.pair.spare > MOST_WORKERS:
            limit = min(limit, MOST_WORKERS * max(self.pair.sizes))
            self.reason = "devices", f"{name}: {devices:,} devices are needed; the limit is {limit:,}."
            return False
        if worth > self.race.allowed:
            needed = f"{counts[0]} prefill and {counts[1]} decode workers"
            self.reason = "rank", f"{name}: needs at least {needed}, {worth:.4g} {self.race.unit}."
            return False
        return True

    def _miss(self, counts: Counts, long: bool) -> float:
        return self.trials.sure_miss(self.pair, counts) if long else self.trials.miss(self.pair, counts)

    def _upwards(self, counts: Counts, long: bool) -> Counts | None:
        """Return the first counts that keep the limits, None where they cost more than may be."""
        for _ in range(MOST_STEPS):
            if not self._allowed(counts):
                return None
            if self._miss(counts, long) <= 0:
                return counts
            counts = self._more(counts)
        kind, over = self.trials.failure(self.pair, counts)
        self.reason = kind, f"{name_of_pair(self.pair, counts)}: {kind.upper()} is {over:.3g} x the limit."
        return None

    def _more(self, counts: Counts) -> Counts:
        """Return a worker more of the pool that misses its limit; of the busier one where the queue grows."""
        prefill, decode = counts
        matched, rate_per_s = self.pair.matched, self.trials.rate_per_s
        loads = rate_per_s * matched.prefill_s / prefill, rate_per_s * matched.decode_s / decode
        kind, over = self.trials.failure(self.pair, counts)
        if over <= 1:
            kind = "ttft" if loads[0] / PREFILL_LOAD > loads[1] / DECODE_LOAD else "tpot"
        if kind == "ttft" and loads[0] > IDLE:
            return prefill + max(1, prefill // PART), decode
        return prefill, decode + max(1, decode // PART)

    def _downwards(self, counts: Counts) -> Counts:
        """Return the cheapest counts near some that keep the limits."""
        steps: Sequence[tuple[int, int]] = ((-1, 0), (0, -1), (-1, 1), (1, -1))
        while True:
            nearby = [(counts[0] + more[0], counts[1] + more[1]) for more in steps]
            worth = self.pair.worth(counts) * (1 - SAME)
            cheaper = [each for each in nearby if min(each) >= 1 and self.pair.worth(each) < worth]
            cheaper.sort(key=self.pair.worth)
            fitting = (each for each in cheaper if self._miss(each, False) <= 0)
            found = next(fitting, None)
            if found is None:
                return counts
            counts = found


def banded_pair(pair: PoolPair, counts: Counts, rate_per_s: float) -> tuple[Between, Between]:
    """Return between which numbers of workers of either pool the answer lies by the band of a step's time."""
    band = pair.trust.tpot_band
    if not (math.isfinite(band.low) and math.isfinite(band.high)):
        return Between(counts[0], counts[0]), Between(counts[1], counts[1])
    loads = pair.workers(rate_per_s, (1.0, 1.0))
    spans: list[Between] = []
    may_fail = pair.over_at(pair.matched_at(band.high)) > 1
    ends = [pair.workers(rate_per_s, (1.0, 1.0), factor) for factor in (band.low, band.high)]
    for place, count in enumerate(counts):
        low, high = (math.ceil(count * end[place] / loads[place]) for end in ends)
        spans.append(Between(max(min(low, count), 1), None if may_fail else max(high, count)))
    return spans[0], spans[1]
