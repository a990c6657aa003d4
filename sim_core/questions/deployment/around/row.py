"""Around the first row of a plan: devices at other rates, the cost of other limits, the regret of a choice.

Most of it is arithmetic, the estimate that a plan begins with, scaled to the nearest runs. Simulated are the
steps of the staircase next to the row, and whether the row keeps its limits as it stands.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from sim_core.engine.work import accounted
from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.answer import Deployment
from sim_core.questions.deployment.plan import plans
from sim_core.questions.deployment.question import Question
from sim_core.questions.deployment.search.candidates import Candidate, Field, weight_of
from sim_core.questions.deployment.search.fleet import MOST_REPLICAS, alone_of
from sim_core.questions.deployment.search.trials import Trials, plain_point
from sim_core.results.classes import has_common_limits
from sim_core.scenario.mixes import has_flat_class
from sim_core.scenario.scenario import FIELDS, accelerator_of
from sim_core.sweep.secant import Reach, highest

OFF = 0.2  # how far load or lengths may be off
BEYOND = 2  # times the planned rate that a staircase goes to
MOST_STEPS = 400
NEXT = 1  # replicas less and more that are simulated
WIDE = 4.0  # times what its part of the row's capacity is, that a neighbour may serve
NEAR, TOLERANCE = 0.04, 0.01  # of a rate: the first step of a search, and how close it ends
LAST_MS = 10.0
LIMITS = (0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0)  # times the limit on TPOT
CHANGES = ("arrival_per_s", "prompt_tokens", "output_tokens")


class Stair(NamedTuple):
    """So many devices serve up to a rate; `simulated` where runs have found it."""

    devices: int
    rate_per_s: float
    simulated: bool


def staircase(question: Question, row: Deployment) -> list[Stair]:
    """Return the devices of a row's engine over the rate, spares included, to twice the planned rate.

    Runs find what the row's neighbours serve, too: a replica less and a replica more. All other steps are
    estimated by what replicas gain from one router, scaled to what the nearest of the three serves.
    """
    (candidate,) = Field(_engine_of(question, row)).found
    needed, plain = row.replicas - row.spare, alone_of(candidate)
    known = {needed: row.capacity_per_s * needed}
    trials = Trials(question)
    for count in (needed - NEXT, needed + NEXT):
        if 0 < count <= MOST_REPLICAS - row.spare:
            known[count] = _served(trials, candidate, count, known[needed] * count / needed)
    scales = {count: per_s / plain.fleet_per_s(count) for count, per_s in known.items()}
    scaled = plain.times(scales[max(scales)])
    last = min(
        scaled.replicas_for(BEYOND * question.planned_per_s) or MOST_STEPS, max(MOST_STEPS, BEYOND * needed)
    )
    counts = sorted({*range(1, last + 1, max(last // MOST_STEPS, 1)), *known, last})
    stairs, most_per_s = [], 0.0
    for count in counts:
        nearest = min(scales, key=lambda one: abs(one - count))
        most_per_s = max(known.get(count, scales[nearest] * plain.fleet_per_s(count)), most_per_s)
        stairs.append(Stair((count + row.spare) * candidate.devices, most_per_s, count in known))
    return stairs


def _served(trials: Trials, candidate: Candidate, count: int, guess_per_s: float) -> float:
    """Return what so many replicas serve within the limits by long runs. [1/s]"""

    def miss(rate_per_s: float) -> float:
        return trials.miss(candidate, (count,), long=True, rate_per_s=rate_per_s)

    reach = Reach(guess_per_s / WIDE, guess_per_s * WIDE, NEAR, TOLERANCE, slope=2.0)
    return highest(miss, guess_per_s, reach).low


class Cost(NamedTuple):
    """What the cheapest deployment is worth under a limit on TPOT; None where there is none."""

    limit_ms: float
    worth: float | None
    row: Deployment | None


def costs_over_limits(question: Question) -> list[Cost]:
    """Return the cost of the best deployment, by the estimate, under shorter and longer limits on TPOT.

    Raises
    ------
    ScenarioError
        If every class of the mix has a limit of its own.
    """
    if not has_common_limits(question.scenario):
        raise ScenarioError(
            "every class of the mix has limits of its own, so slo_tpot_ms changes nothing; leave a class out "
            "of class_limits to see what its limit costs."
        )
    asked_ms = question.scenario.slo_tpot_ms
    limits = {factor * asked_ms for factor in LIMITS} | {asked_ms - LAST_MS}
    info = FIELDS["slo_tpot_ms"]
    found = []
    for limit_ms in sorted(limit for limit in limits if limit > 0 and info.low <= limit <= info.high):
        row = estimated_best(_changed(question, slo_tpot_ms=limit_ms))
        found.append(Cost(limit_ms, worth_of(question, row) if row else None, row))
    return found


class Regret(NamedTuple):
    """What a choice costs if load or lengths come otherwise.

    Attributes
    ----------
    key, factor
        What comes otherwise, and how many times as large.
    meets_slo : bool
        Whether the deployment as it stands keeps the limits then; simulated.
    worth, best_worth : float or None
        Of the chosen engine with as many replicas as are needed then, and of the best one then; estimated.
    """

    key: str
    factor: float
    meets_slo: bool
    worth: float | None
    best_worth: float | None

    @property
    def regret_frac(self) -> float | None:
        """Share that the chosen engine costs more than the best one."""
        return self.worth / self.best_worth - 1 if self.worth and self.best_worth else None


def regrets(question: Question, row: Deployment) -> list[Regret]:
    """Return what a row costs more than the best if load or lengths are 20% lower or higher.

    Lengths that are recorded, or come from a mix alone, are not the scenario's to change: of these nothing is
    said.
    """
    mix = question.scenario.mix
    recorded = question.replays or question.trace or (mix and not has_flat_class(mix))
    keys = CHANGES[:1] if recorded else CHANGES
    return [regret(question, row, key, factor) for key in keys for factor in (1 - OFF, 1 + OFF)]


def regret(question: Question, row: Deployment, key: str, factor: float) -> Regret:
    """Return what a row costs more than the best if one thing comes so many times as large."""
    value = getattr(row.scenario, key) * factor
    value = value if key == "arrival_per_s" else max(round(value), 1)
    kept = bool(plain_point(question, row.scenario.replace(**{key: value}))["meets_slo"])
    other = (
        dataclasses.replace(question, rate_per_s=factor * question.rate_per_s)
        if key == "arrival_per_s"
        else _changed(question, **{key: value})
    )
    best, own = estimated_best(other), estimated_best(_engine_of(other, row, **{key: value}))
    worths = [worth_of(question, found) if found else None for found in (own, best)]
    return Regret(key, factor, kept, *worths)


def estimated_best(question: Question) -> Deployment | None:
    """Return the best deployment by arithmetic alone; None where no deployment serves."""
    with accounted():
        rows = next(plans(question)).rows
    return min(rows, key=lambda row: worth_of(question, row)) if rows else None


def worth_of(question: Question, row: Deployment) -> float:
    """Return what a row costs, in the objective's unit."""
    return weight_of(question.objective, accelerator_of(row.scenario), row.accelerators) or 0.0


def _engine_of(question: Question, row: Deployment, **changes: Any) -> Question:
    """Return the question of how many of a row's engine there must be."""
    if row.scenario.split:
        raise ScenarioError(
            "the first row has two pools, whose numbers only runs say; leave two pools out to see it."
        )
    scenario = row.scenario.replace(**changes)
    parts = (row.scenario.accelerator,)
    return dataclasses.replace(question, scenario=scenario, accelerators=parts, models=(), free=())


def _changed(question: Question, **changes: Any) -> Question:
    return dataclasses.replace(question, scenario=question.scenario.replace(**changes))
