"""A plan: from a question to deployments simulated at the rate, ranked, with why the others lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sim_core.questions.deployment.answer import ESTIMATED, Deployment, Plan
from sim_core.questions.deployment.launch.text import launch_text
from sim_core.questions.deployment.question import (
    ALL,
    DEFAULT_FREE,
    Question,
    accelerators_named,
    keys_named,
    models_named,
)
from sim_core.questions.deployment.recorded import default_rate_per_s
from sim_core.questions.deployment.search.candidates import Candidate, Field
from sim_core.questions.deployment.search.fleet import Between, alone_of, banded
from sim_core.questions.deployment.search.headroom import HeadroomRace
from sim_core.questions.deployment.search.pools import PoolPair, banded_pair, enter_pairs, pairs_of
from sim_core.questions.deployment.search.race import SAME, Race
from sim_core.questions.deployment.search.trials import (
    MORE,
    Contender,
    Counts,
    Standing,
    Trials,
    plain_point,
    rank_by_energy,
    with_spares,
)
from sim_core.questions.deployment.words import impossible, sentence
from sim_core.questions.shift.study import Progress, silent
from sim_core.scenario.scenario import Scenario, accelerator_of
from sim_core.sweep.capacity import first_failure, miss_of
from sim_core.sweep.secant import Reach, highest
from sim_core.traffic.requests import Requests

TOLERANCE = 0.02  # of the capacity of a row
STEP = 0.04


def plan(
    scenario: Scenario,
    rate: float | None = None,
    *,
    trace: Requests | None = None,
    accelerators: str | Iterable[str] = ALL,
    free: str | Iterable[str] = DEFAULT_FREE,
    objective: str = "usd_per_hour",
    max_devices: int | None = None,
    **more: Any,
) -> Plan:
    """Return which accelerators, how many, laid out how, serve a rate within the limits: a ranking.

    Parameters
    ----------
    scenario : Scenario
        Model, lengths, limits and engine; what is not free stays as it says.
    rate : float, optional
        Requests a second; by default the scenario's, or the mean rate of what it replays. [1/s]
    trace : Requests, optional
        Requests to replay instead of drawn ones, as `simulate` takes them: in their own pattern where
        arrivals is `trace`, scaled to the rate and all of them; else their lengths.
    accelerators : str or list of str
        Presets' ids, with commas between them, or ``all`` that have a price.
    free : str or list of str
        Keys that may vary; see `question.FREE`.
    objective, max_devices, more
        See `Question`; `models` may be a text with commas between ids, too.

    Raises
    ------
    ScenarioError
        If the question cannot be asked.
    """
    more |= {"objective": objective, "max_devices": max_devices, "trace": trace}
    return final_plan(question_named(scenario, rate, accelerators, free, **more))


def question_named(
    scenario: Scenario,
    rate: float | None,
    accelerators: str | Iterable[str],
    free: str | Iterable[str],
    **more: Any,
) -> Question:
    """Return the question whose accelerators and free keys a list or a text names; else as `plan`."""
    rate = default_rate_per_s(scenario, more.get("trace")) if rate is None else rate
    more["models"] = models_named(more.get("models", ()))
    parts, keys = accelerators_named(accelerators, scenario), keys_named(free)
    return Question(scenario=scenario, rate_per_s=rate, accelerators=parts, free=keys, **more)


def final_plan(question: Question, progress: Progress = silent) -> Plan:
    """Return the final answer to a question; see `plans`."""
    *_, last = plans(question, progress)
    return last


def plans(question: Question, progress: Progress = silent) -> Iterator[Plan]:
    """Yield the answer as an estimate, which takes arithmetic alone, then as runs confirm it.

    `progress` is called with the share of the candidates that have been looked at; it may raise to stop.
    """
    field, trials = Field(question), Trials(question)
    kind = HeadroomRace if question.objective == "headroom" else Race
    top = MORE * question.top if question.objective == "joule_per_tok" else question.top
    groups = field.trusted() if question.ranking == "trusted" else (field.found,)
    races = [kind(question, field.losers, trials, top) for _ in groups]
    ready = [race.prepare(group) for race, group in zip(races, groups, strict=True)]
    yield _estimated(question, field, races, ready)
    if question.has_pools and question.objective != "headroom":
        before = sum(field.losers.counts().values())
        pairs = pairs_of(question, field.losers)
        field.count += len(pairs) + sum(field.losers.counts().values()) - before
        races[-1].run(progress)
        enter_pairs(races[-1], pairs)  # no two pools are in the validated region
    rows: list[Deployment] = []
    for race in races:
        race.run(progress)
        rows += _ranked(question, race, len(rows))
    counts = {"all": field.count, "ranked": len(rows)} | field.losers.counts()
    words = sentence(question, rows) if rows else impossible(question, field.losers)
    yield Plan(
        question=question,
        sentence=words,
        rows=tuple(rows),
        rejected=field.losers.groups(),
        counts=counts,
    )


def _ranked(question: Question, race: Race, before: int) -> list[Deployment]:
    """Return the rows of a race that was run, ranked after others; what finds no place is a loser, too."""
    standing = race.standing
    if question.objective == "joule_per_tok":
        rank_by_energy(race.trials, standing)
    for each in standing[question.top :]:
        words = f"{race.called(each)} are as good as the last of the ranking, with less margin."
        race.losers.add("rank", each.candidate.scenario, words, each.worth)
    return [_row(question, race.trials, each, standing, before) for each in standing[: question.top]]


# --- rows -----------------------------------------------------------------------------------------


def _estimated(
    question: Question, field: Field, races: Sequence[Race], ready: Sequence[Sequence[Candidate]]
) -> Plan:
    """Return the ranking by arithmetic alone."""
    rows: list[Deployment] = []
    for race, candidates in zip(races, ready, strict=True):
        families: set[Scenario] = set()
        for candidate in candidates:
            count = race.guess(candidate)
            if count is None or candidate.family in families or len(families) == question.top:
                continue
            families.add(candidate.family)
            rows.append(_one_pool(question, candidate, count, alone_of(candidate).fleet_per_s(count)))
    rows = [dataclasses.replace(row, rank=place + 1, stage=ESTIMATED) for place, row in enumerate(rows)]
    return Plan(
        question=question,
        sentence="Estimated by arithmetic; runs at the rate are to confirm it.",
        rows=tuple(rows),
        rejected=(),
        counts={"all": field.count} | field.losers.counts(),
        stage=ESTIMATED,
    )


def _one_pool(question: Question, candidate: Candidate, replicas: int, fleet_per_s: float) -> Deployment:
    """Return a row of replicas without what only a run says."""
    span = Between(replicas, replicas)
    if question.objective != "headroom":
        span = banded(candidate, replicas, fleet_per_s, question.planned_per_s)
    devices = candidate.devices_of((replicas,))
    return Deployment(
        rank=1,
        tie=False,
        scenario=candidate.scenario.replace(replicas=replicas + question.spare),
        accelerators=devices,
        accelerators_low=candidate.devices_of((span.low,)),
        accelerators_high=None if span.high is None else candidate.devices_of((span.high,)),
        capacity_per_s=fleet_per_s / replicas,
        spare=question.spare,
        usd_per_hour=_usd_per_hour(candidate, devices),
        badge=candidate.trust.badge,
        reasons=candidate.trust.reasons,
        equal=tuple(candidate.equal),
    )


def _bare(question: Question, candidate: Contender, counts: Counts, fleet_per_s: float) -> Deployment:
    """Return a row without what only a run says."""
    if isinstance(candidate, Candidate):
        return _one_pool(question, candidate, counts[0], fleet_per_s)
    assert isinstance(candidate, PoolPair)
    return _two_pools(question, candidate, counts, fleet_per_s)


def _two_pools(question: Question, pair: PoolPair, counts: Counts, fleet_per_s: float) -> Deployment:
    """Return a row of two pools without what only a run says; a spare is a worker of each."""
    whole, devices = with_spares(counts, question.spare), pair.devices_of(counts)
    spans = banded_pair(pair, counts, question.planned_per_s)
    high = [span.high for span in spans if span.high is not None]
    return Deployment(
        rank=1,
        tie=False,
        scenario=pair.scenario.replace(prefill_workers=whole[0], decode_workers=whole[1]),
        accelerators=devices,
        accelerators_low=pair.devices_of(tuple(span.low for span in spans)),
        accelerators_high=pair.devices_of(tuple(high)) if len(high) == len(spans) else None,
        capacity_per_s=fleet_per_s,
        spare=question.spare,
        usd_per_hour=_usd_per_hour(pair, devices),
        badge=pair.trust.badge,
        reasons=pair.trust.reasons,
    )


def _whole_point(question: Question, trials: Trials, found: Standing) -> Mapping[str, Any]:
    """Return the point of a deployment at the planned rate, its spare ones at work, too."""
    return trials.point(found.candidate, with_spares(found.counts, question.spare), found.requests)


def _usd_per_hour(candidate: Contender, devices: int) -> float | None:
    price = accelerator_of(candidate.scenario).price_usd_per_hour
    return devices * price if price else None


def _row(
    question: Question, trials: Trials, found: Standing, standing: Sequence[Standing], before: int
) -> Deployment:
    """Return a confirmed row: its latencies, what it can serve at most, and what binds there."""
    candidate = found.candidate
    fleet_per_s, limit = _capacity(trials, found)
    row = _bare(question, candidate, found.counts, fleet_per_s)
    shown = row.scenario.replace(requests=found.requests)
    point = plain_point(question, shown) if candidate.slow != 1.0 else _whole_point(question, trials, found)
    reached = point["slo_ttft_ms_reached"], point["slo_tpot_ms_reached"]
    stated = question.stated(shown)
    better = sum(each.worth < found.worth - SAME * abs(found.worth) for each in standing)
    return dataclasses.replace(
        row,
        launch=launch_text(stated, *reached, recorded=stated is not shown),
        rank=before + 1 + better,
        tie=any(_is_tie(found, each) for each in standing if each is not found),
        scenario=shown,
        joule_per_tok=point["joule_per_tok"],
        usd_per_mtok=point["usd_per_mtok"],
        ttft_ms=reached[0],
        tpot_ms=reached[1],
        limit=limit,
    )


def _is_tie(one: Standing, other: Standing) -> bool:
    """Return whether two are equally good within the error of the runs."""
    low, high = sorted((one, other), key=lambda each: each.worth)
    return high.worth <= low.worth + low.error + SAME * abs(low.worth)


def _capacity(trials: Trials, found: Standing) -> tuple[float, str]:
    """Return the highest rate that a deployment serves [1/s], and what binds just above.

    Runs that see the same requests as the one at the planned rate, which keeps the limits.
    """
    candidate, planned_per_s = found.candidate, trials.rate_per_s
    start_per_s = found.fleet_per_s or planned_per_s
    failed: dict[float, Any] = {}

    def miss(rate_per_s: float) -> float:
        point = trials.point(candidate, found.counts, found.requests, rate_per_s=rate_per_s)
        value = min(found.miss, 0.0) if rate_per_s == planned_per_s else miss_of(candidate.scenario, point)
        if value > 0:
            failed[rate_per_s] = point
        return value

    ends = highest(miss, start_per_s, Reach(planned_per_s, 100 * planned_per_s, STEP, TOLERANCE, slope=2.0))
    limit = first_failure(candidate.scenario, failed[ends.high]) if ends.high in failed else ""
    return max(ends.low, planned_per_s), limit
