"""A plan over the day: how many devices each part of a day needs, and what ways of scaling cost and lose.

The engine is one row of a ranking, found at the day's peak. How many of it each rate needs is found by the
search of the plan itself, whole replicas simulated at that rate. Rates between two that need as many need as
many, too: they are not simulated.

A replica takes some time to start: process, weights, warm-up. While it starts it costs and serves nobody.

- ``fixed``: as many as the peak needs, always.
- ``scheduled``: the day is known, so that each starts just in time; paid for at a moment is the most that
  is needed from then until a start-up time later. Nothing is lost, and none stops that is needed sooner.
- ``reactive``: each starts when the rate rises, and is late; what serves at a moment is the least that was
  needed during a start-up time before. Of what arrives then, only the share is served that these are of the
  replicas needed, without the spare ones: the others are lost, turned away so that the limits hold for those
  that are served.
- ``ideal``: replicas that start in no time, the least that scaling can cost.

Within a part of the day the rate is its mean; the day comes again after its end; what stops, stops at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sim_core.fields.errors import ScenarioError, did_you_mean
from sim_core.fields.field import FieldInfo, check
from sim_core.questions.deployment.answer import Deployment
from sim_core.questions.deployment.question import Question
from sim_core.questions.deployment.search.candidates import Field
from sim_core.questions.deployment.search.pools import ONE_EACH, PoolPair, enter_pairs
from sim_core.questions.deployment.search.race import Race
from sim_core.questions.deployment.search.trials import Counts, Standing, Trials, with_spares
from sim_core.questions.shift.cluster import REALLOCATIONS, phases_s, reallocation_keys
from sim_core.questions.shift.study import Progress, silent
from sim_core.scenario.scenario import FIELDS, accelerator_of
from sim_core.traffic.day import Day

FIXED, SCHEDULED, REACTIVE, IDEAL = WAYS = ("fixed", "scheduled", "reactive", "ideal")
STARTS = {kind: name for kind, (name, _) in REALLOCATIONS.items() if kind != "flip"}
START = "node"
RIVALS = 3  # rows beside the first whose engines are sized over the day
START_UPS_S = (0.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14_400.0)
_START_INFO = FieldInfo(float, "plan", "Start-up time of a replica", unit="s", low=0.0, high=86_400.0)


class DayPart(NamedTuple):
    """A part of the day: what its rate needs.

    Attributes
    ----------
    counts : tuple of int
        Replicas, or prefill and decode workers, spares included; 0 where nothing arrives.
    scheduled, reactive : float
        Devices paid for under a schedule, and devices that serve where replicas start when the rate rises:
        means over the part.
    """

    start_h: float
    rate_per_s: float
    counts: Counts
    devices: int
    scheduled: float
    reactive: float


class Way(NamedTuple):
    """What a way of scaling costs over the day, and what it loses.

    Attributes
    ----------
    usd : float or None
        None where the accelerator has no price. [USD]
    lost : float
        Requests that must be turned away.
    late : float
        Requests that arrive while fewer serve than are needed; all of them are at risk.
    """

    name: str
    device_hours: float
    usd: float | None
    lost: float = 0.0
    late: float = 0.0

    @property
    def worth(self) -> float:
        """What it costs: dollars, or accelerator-hours where there is no price."""
        return self.device_hours if self.usd is None else self.usd


class Start(NamedTuple):
    """What a start-up time costs a schedule, and what it loses without one."""

    start_up_s: float
    scheduled: Way
    reactive: Way


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DayPlan:
    """The answer for a day: devices of each part, and what each way of scaling costs and loses.

    Attributes
    ----------
    row : Deployment
        The engine, as many as the peak needs.
    start_up_s : float
    phases_s : mapping
        Its parts, `typed` where there are none. [s]
    steps : mapping
        Of the ways that change: the hours from which so many devices are paid for, or serve (``reactive``).
    simulated : int
        Rates that were simulated.
    """

    row: Deployment
    day: Day
    start_up_s: float
    phases_s: Mapping[str, float]
    parts: tuple[DayPart, ...]
    ways: Mapping[str, Way]
    starts: tuple[Start, ...]
    steps: Mapping[str, tuple[tuple[float, int], ...]]
    simulated: int

    def saved_frac(self, name: str) -> float:
        """Share of what the fixed fleet costs that a way saves."""
        return 1 - self.ways[name].device_hours / self.ways[FIXED].device_hours


def check_start(kind: str, typed_s: float | None) -> None:
    """Raise a `ScenarioError` unless a start is one of `STARTS`, and a typed time of one can be."""
    if typed_s is not None:
        check("start-up time", typed_s, _START_INFO)
    if kind not in STARTS:
        raise ScenarioError(f"a replica starts from {kind[:40]!r}. {did_you_mean(kind, STARTS)}")


def start_phases_s(row: Deployment, kind: str, typed_s: float | None = None) -> dict[str, float]:
    """Return how long a replica of a row takes to start, by its phases, or as one where it is typed. [s]"""
    check_start(kind, typed_s)
    if typed_s is not None:
        return {"typed": typed_s}
    return phases_s(row.scenario.replace(**reallocation_keys(kind)))


def day_plan(
    question: Question,
    row: Deployment,
    day: Day,
    kind: str = START,
    typed_s: float | None = None,
    progress: Progress = silent,
) -> DayPlan:
    """Return what a day needs of the engine of a row, and what each way of scaling costs and loses.

    Parameters
    ----------
    question : Question
        What the ranking was asked; its rate gives way to those of the day.
    row : Deployment
        Of the ranking at the day's peak.
    kind : str
        What a start means, one of `STARTS`.
    typed_s : float, optional
        How long it takes instead. [s]
    """
    phases = start_phases_s(row, kind, typed_s)
    fleets = _Fleets(question, row)
    found = fleets.of_rates(day.rates_per_s, progress)
    counts = np.array([found[rate] for rate in day.rates_per_s])
    usd_per_hour = accelerator_of(row.scenario).price_usd_per_hour
    fleet = _Needs(day, counts, fleets.sizes, usd_per_hour, question.spare)
    start_up_s = sum(phases.values())
    times_s = sorted({*START_UPS_S, start_up_s})
    return DayPlan(
        row=row,
        day=day,
        start_up_s=start_up_s,
        phases_s=phases,
        parts=fleet.parts(start_up_s),
        ways=fleet.ways(start_up_s),
        starts=tuple(Start(each, fleet.scheduled(each), fleet.reactive(each)) for each in times_s),
        steps={
            SCHEDULED: fleet.steps(start_up_s, ahead=True),
            REACTIVE: fleet.steps(start_up_s, ahead=False),
            IDEAL: fleet.steps(0.0, ahead=True),
        },
        simulated=fleets.simulated,
    )


# --- how many each rate needs ---------------------------------------------------------------------


class _Fleets:
    """The fewest of one engine for each rate, by the search of a plan."""

    def __init__(self, question: Question, row: Deployment) -> None:
        base = row.scenario.replace(**(ONE_EACH if row.scenario.split else {"replicas": 1}))
        self.question = dataclasses.replace(
            question,
            scenario=base,
            accelerators=(base.accelerator,),
            models=(),
            free=(),
            objective="devices",
            ranking="pessimistic" if question.ranking == "pessimistic" else "plain",
            top=1,
        )
        self.simulated = 0
        self.sizes = np.array(_pair(self.question).sizes if base.split else (base.accelerators,))

    def of_rates(self, rates_per_s: Sequence[float], progress: Progress = silent) -> dict[float, Counts]:
        """Return the counts of each rate, spares included, the outer rates first and then between them."""
        rates = sorted({rate for rate in rates_per_s if rate > 0})
        found = {rates[-1]: self._fewest(rates[-1])}
        if len(rates) > 1:
            found[rates[0]] = self._fewest(rates[0], found[rates[-1]])
        waiting = [(0, len(rates) - 1)]
        while waiting:
            low, high = waiting.pop()
            least, most = found[rates[low]], found[rates[high]]
            middle = (low + high) // 2
            if least == most or middle == low:
                found.update(dict.fromkeys(rates[low + 1 : high], most))
            else:
                found[rates[middle]] = self._fewest(rates[middle], most)
                waiting += [(low, middle), (middle, high)]
            progress(len(found) / len(rates))
        fleets = {rate: with_spares(counts, self.question.spare) for rate, counts in found.items()}
        return fleets | {0.0: (0,) * len(self.sizes)}

    def _fewest(self, rate_per_s: float, most: Counts | None = None) -> Counts:
        """Return the fewest that serve a rate, no more than those of a higher one."""
        least_per_s = float(FIELDS["arrival_per_s"].low or 0.0)
        standing = standing_for(dataclasses.replace(self.question, rate_per_s=max(rate_per_s, least_per_s)))
        self.simulated += 1
        if standing is None:
            if most is None:
                raise ScenarioError(
                    f"the row does not serve the day's peak of {rate_per_s:.4g} requests/s; plan for that."
                )
            return most
        devices = int(np.dot(standing.counts, self.sizes))
        return standing.counts if most is None or devices <= np.dot(most, self.sizes) else most


def standing_for(question: Question) -> Standing | None:
    """Return the fewest of the one engine that a question leaves; None where no number serves the rate."""
    field = Field(question)
    race = Race(question, field.losers, Trials(question), top=1)
    if question.scenario.split:
        enter_pairs(race, [_pair(question)])
    else:
        race.prepare(field.found)
        race.run()
    return race.standing[0] if race.standing else None


def _pair(question: Question) -> PoolPair:
    pools = question.scenario.replace(arrival_per_s=question.planned_per_s)
    return PoolPair(pools, question)


# --- what ways of scaling cost --------------------------------------------------------------------


class _Needs(NamedTuple):
    """What each part of a day needs: counts of each pool, with the devices of one of each.

    Of the counts `spare` are beyond those that the rate needs: where only these are late, nothing is lost.
    """

    day: Day
    counts: np.ndarray
    sizes: np.ndarray
    usd_per_hour: float | None
    spare: int = 0

    def parts(self, start_up_s: float) -> tuple[DayPart, ...]:
        """Return the parts of the day."""
        paid, served = (self._devices(self._mean(start_up_s, ahead)) for ahead in (True, False))
        part_h = self.day.part_s / 3600
        devices = self._devices(self.counts)
        return tuple(
            DayPart(place * part_h, rate, tuple(counts.tolist()), int(need), float(pays), float(serves))
            for place, (rate, counts, need, pays, serves) in enumerate(
                zip(self.day.rates_per_s, self.counts, devices, paid, served, strict=True)
            )
        )

    def ways(self, start_up_s: float) -> dict[str, Way]:
        """Return all ways of scaling."""
        peak = np.broadcast_to(self.counts.max(axis=0), self.counts.shape)
        return {
            FIXED: self._way(FIXED, peak),
            SCHEDULED: self.scheduled(start_up_s),
            REACTIVE: self.reactive(start_up_s),
            IDEAL: self._way(IDEAL, self.counts),
        }

    def scheduled(self, start_up_s: float) -> Way:
        """Return the cost of starting each replica just in time."""
        return self._way(SCHEDULED, self._mean(start_up_s, ahead=True))

    def reactive(self, start_up_s: float) -> Way:
        """Return the cost and the loss of starting replicas when the rate rises."""
        lost = late = 0.0
        needed = np.maximum(self.counts - self.spare, 0)
        for lasts_s, serving in self._windows(start_up_s, ahead=False):
            with np.errstate(invalid="ignore", divide="ignore"):
                share = np.where(needed > serving, serving / needed, 1.0).min(axis=1)
            sent = lasts_s * np.array(self.day.rates_per_s)
            lost += float((sent * (1 - share)).sum())
            late += float(sent[share < 1].sum())
        return self._way(REACTIVE, self.counts, lost, late)

    def _way(self, name: str, counts: np.ndarray, lost: float = 0.0, late: float = 0.0) -> Way:
        hours = float(self._devices(counts).sum()) * self.day.part_s / 3600
        return Way(name, hours, self.usd_per_hour and hours * self.usd_per_hour, lost, late)

    def _devices(self, counts: np.ndarray) -> np.ndarray:
        found: np.ndarray = counts @ self.sizes
        return found

    def _mean(self, start_up_s: float, ahead: bool) -> np.ndarray:
        """Return the mean over each part of the most needed ahead, or of the least needed before."""
        windows = self._windows(start_up_s, ahead)
        return np.add(*(lasts_s / self.day.part_s * counts for lasts_s, counts in windows))

    def steps(self, start_up_s: float, ahead: bool) -> tuple[tuple[float, int], ...]:
        """Return hours and the devices from then on, the end of the day last."""
        windows = self._windows(start_up_s, ahead)
        first, second = windows if ahead else reversed(windows)
        places = [
            ((place * self.day.part_s + after_s) / 3600, int(counts[place] @ self.sizes))
            for place in range(len(self.counts))
            for after_s, counts in ((0.0, first[1]), (first[0], second[1]))
        ]
        return (*places, (self.day.hours, places[-1][1]))

    def _windows(self, start_up_s: float, ahead: bool) -> list[tuple[float, np.ndarray]]:
        """Return how long of each part which counts hold: two stretches, as a window reaches one part more.

        A window of q parts and r seconds reaches, from a moment in a part, q parts further, and from the last
        r seconds of it q + 1 parts; backwards it is the first r seconds.
        """
        part_s, count = self.day.part_s, len(self.counts)
        whole, rest_s = divmod(min(start_up_s, part_s * count), part_s)
        best, step = (np.maximum, -1) if ahead else (np.minimum, 1)
        reach = self.counts
        for shift in range(1, min(int(whole), count) + 1):
            reach = best(reach, np.roll(self.counts, step * shift, axis=0))
        further = best(reach, np.roll(self.counts, step * (int(whole) + 1), axis=0))
        return [(part_s - rest_s, reach), (rest_s, further)]


class Rival(NamedTuple):
    """Another row of the ranking, and what the day costs with its engine."""

    row: Deployment
    fixed: Way
    scheduled: Way


def rivals_of(
    question: Question,
    rows: Sequence[Deployment],
    found: DayPlan,
    kind: str = START,
    typed_s: float | None = None,
) -> list[Rival]:
    """Return what a day costs with the engines of the next rows: small ones follow the rate more closely."""
    rivals = []
    for row in [row for row in rows if row.rank != found.row.rank][:RIVALS]:
        other = day_plan(question, row, found.day, kind, typed_s)
        rivals.append(Rival(row, other.ways[FIXED], other.ways[SCHEDULED]))
    return rivals


def rivals_sentence(found: DayPlan, rivals: Sequence[Rival]) -> str:
    """Return which engine is cheapest over the day, where it is another than at the peak."""
    if not rivals:
        return ""
    best = min(rivals, key=lambda rival: rival.scheduled.worth)
    share = best.scheduled.worth / found.ways[SCHEDULED].worth - 1
    name = f"{accelerator_of(best.row.scenario).name}, {best.row.layout}"
    if share < 0:
        return f"Over the day {name} is {-100 * share:.2g}% cheaper when scheduled, though not at the peak."
    return f"The first row stays the cheapest over the day; next is {name}, {100 * share:.2g}% more."


def day_dict(found: DayPlan, rivals: Sequence[Rival] = ()) -> dict[str, Any]:
    """Return a day as the command line prints it."""
    return {
        "sentence": day_sentence(found),
        "hours": found.day.hours,
        "requests": found.day.requests,
        "peak_per_s": found.day.peak_per_s,
        "mean_per_s": found.day.mean_per_s,
        "start_up_s": found.start_up_s,
        "start_up_phases_s": dict(found.phases_s),
        "rates_simulated": found.simulated,
        "ways": [_way_dict(found, way) for way in found.ways.values()],
        "parts": [part_dict(part) for part in found.parts],
        "start_ups": [_start_dict(found, start) for start in found.starts],
        "rivals_sentence": rivals_sentence(found, rivals),
        "rivals": [_rival_dict(rival) for rival in rivals],
    }


def _rival_dict(rival: Rival) -> dict[str, Any]:
    return {
        "rank": rival.row.rank,
        "accelerator": rival.row.scenario.accelerator,
        "layout": rival.row.layout,
        "accelerators": rival.row.accelerators,
        "fixed_accelerator_hours": rival.fixed.device_hours,
        "fixed_usd": rival.fixed.usd,
        "scheduled_accelerator_hours": rival.scheduled.device_hours,
        "scheduled_usd": rival.scheduled.usd,
    }


def part_dict(part: DayPart) -> dict[str, Any]:
    """Return a part of the day as the command line prints it."""
    return {
        "start_h": part.start_h,
        "rate_per_s": part.rate_per_s,
        "replicas": sum(part.counts) if len(part.counts) == 1 else None,
        "prefill_workers": part.counts[0] if len(part.counts) > 1 else None,
        "decode_workers": part.counts[1] if len(part.counts) > 1 else None,
        "accelerators": part.devices,
        "accelerators_scheduled": part.scheduled,
        "accelerators_reactive": part.reactive,
    }


def _way_dict(found: DayPlan, way: Way) -> dict[str, Any]:
    requests = found.day.requests
    return {
        "way": way.name,
        "accelerator_hours": way.device_hours,
        "usd": way.usd,
        "saved_frac": found.saved_frac(way.name),
        "lost_requests": way.lost,
        "lost_frac": way.lost / requests,
        "late_frac": way.late / requests,
    }


def _start_dict(found: DayPlan, start: Start) -> dict[str, Any]:
    requests = found.day.requests
    return {
        "start_up_s": start.start_up_s,
        "scheduled_accelerator_hours": start.scheduled.device_hours,
        "scheduled_usd": start.scheduled.usd,
        "reactive_usd": start.reactive.usd,
        "reactive_lost_frac": start.reactive.lost / requests,
        "reactive_late_frac": start.reactive.late / requests,
    }


def day_sentence(found: DayPlan) -> str:
    """Return what scaling over the day saves, what the start-up time costs, and what it loses."""
    day, ways = found.day, found.ways
    least, most = (end(part.devices for part in found.parts) for end in (min, max))
    name = accelerator_of(found.row.scenario).name
    span = "the day" if day.hours == 24 else f"the {day.hours:.4g} hours"
    if least == most:
        return f"All of {span} needs {most} {name}: there is nothing to scale, {_cost(ways[FIXED])}."
    return (
        f"Over {span} {least} to {most} {name} are needed: fixed at the peak costs {_cost(ways[FIXED])}, "
        f"scheduled {_cost(ways[SCHEDULED])} ({100 * found.saved_frac(SCHEDULED):.0f}% less); "
        f"{_of_start(found)}"
    )


def _of_start(found: DayPlan) -> str:
    """Return what the start-up time costs a schedule and loses without one."""
    more = found.ways[SCHEDULED].device_hours / found.ways[IDEAL].device_hours - 1
    lost = found.ways[REACTIVE].lost / found.day.requests
    start = f"{found.start_up_s:.0f} s" if found.start_up_s < 120 else f"{found.start_up_s / 60:.3g} min"
    return (
        f"a start of {start} costs the schedule {100 * more:.2g}%, and loses {100 * lost:.2g}% of the "
        "requests where replicas start as the rate rises."
    )


def _cost(way: Way) -> str:
    """Return what a way costs, in three digits as the tables have it."""
    unit = "accelerator-hours" if way.usd is None else "USD"
    return f"{float(f'{way.worth:.3g}'):,g} {unit}"
