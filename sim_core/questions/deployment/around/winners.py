"""Who wins where: the best accelerator of a plan over two of its inputs, with ties as ties.

All cells are estimated first, by arithmetic, each accelerator between the replicas that it needs if its
engine can do a little more than estimated, and if it can do less (`OFF`). Those who may be the best by that
are simulated, as whole replicas at the rate, as in any plan: first the cells where these are several, then
those where runs only count the replicas. A cell that nothing can serve is asked in full, so that it says why.

After the runs, accelerators are a tie that cost the same, or are within the error of the runs: a replica more
of one that is close to a limit. Energy is estimated at rated power, of which devices at work draw from
`LEAST_DRAWN_FRAC` to all; where runs decide, it is what they take, as in a ranking.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sim_core.catalogue.accelerators import accelerator
from sim_core.engine.work import SpentUp, accounted, allowance, raise_if_stopped
from sim_core.fields.errors import ScenarioError, did_you_mean
from sim_core.fields.texts import counted
from sim_core.price.use import MEMORY_POWER_FRAC
from sim_core.questions.deployment.answer import CONFIRMED, ESTIMATED, layout_name
from sim_core.questions.deployment.question import TOP, Question
from sim_core.questions.deployment.search.candidates import Candidate, Field
from sim_core.questions.deployment.search.fleet import alone_of
from sim_core.questions.deployment.search.race import SAME, Race
from sim_core.questions.deployment.search.trials import MORE, Standing, Trials, rank_by_energy
from sim_core.questions.deployment.words import impossible
from sim_core.questions.shift.study import Progress, silent
from sim_core.results.classes import has_common_limits
from sim_core.scenario.link.write import to_query
from sim_core.scenario.mixes import has_flat_class
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of
from sim_core.sweep.remembered import Remembered

OFF = (0.95, 1.2)  # times the rate that replicas are estimated for: the middle four fifths of the estimates
# where most winners are are 0.99 to 1.11 times what long runs find, and some are further off
UNSEEN = "unseen"  # a cell that even arithmetic has not come to
ROWS = 3  # of the ranking of a cell: enough to see who is as good as the best
ENERGY = "joule_per_tok"
LEAST_DRAWN_FRAC = MEMORY_POWER_FRAC  # of the rated power, by who waits for memory most of the time
DOUBLES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
ROOTS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
SPECS = (0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0)


class Input(NamedTuple):
    """An input that a map may have along a side.

    Attributes
    ----------
    key : str
        The scenario's.
    label, unit : str
    factors : tuple of float
        Times the value asked for; the outer ones are left out down a side.
    """

    key: str
    label: str
    unit: str
    factors: tuple[float, ...]


INPUTS: Mapping[str, Input] = {
    "rate": Input("arrival_per_s", "Request rate", "requests/s", DOUBLES),
    "ttft": Input("slo_ttft_ms", "Limit on TTFT", "ms", ROOTS),
    "tpot": Input("slo_tpot_ms", "Limit on TPOT", "ms", ROOTS),
    "prompt": Input("prompt_tokens", "Prompt length", "tokens", DOUBLES),
    "output": Input("output_tokens", "Answer length", "tokens", DOUBLES),
    "price": Input("price_usd_per_hour", "Price of the present accelerator", "USD/h", SPECS),
    "bandwidth": Input("hbm_gb_per_s", "Memory bandwidth of the present accelerator", "GB/s", SPECS),
}
LENGTHS, LIMITS, OWN = ("prompt", "output"), ("ttft", "tpot"), ("price", "bandwidth")


class Winner(NamedTuple):
    """A cell of the map: the best deployment there, who is as good, or why there is none.

    Attributes
    ----------
    x, y : float
    accelerator, layout : str
        Empty where nothing serves.
    devices : int
    worth : float or None
        In the map's unit.
    ties : tuple of str
        Other accelerators that are as good within the error; in an estimate, those that may be better.
    second : str
        The best other accelerator; by what share it takes more is `second_frac`.
    reason : str
        Why nothing serves.
    stage : str
        `CONFIRMED` by runs, `ESTIMATED`, or `UNSEEN`.
    """

    x: float
    y: float
    accelerator: str = ""
    layout: str = ""
    devices: int = 0
    worth: float | None = None
    ties: tuple[str, ...] = ()
    second: str = ""
    second_frac: float | None = None
    reason: str = ""
    stage: str = ESTIMATED
    scenario: Scenario | None = None

    @property
    def waits(self) -> bool:
        """Whether runs may find another winner still."""
        return self.stage == ESTIMATED and (bool(self.ties) or not self.accelerator)

    def as_dict(self, x: str, y: str) -> dict[str, Any]:
        """Return it as the command line prints it; `x` and `y` are what the sides are called."""
        return {
            x: self.x,
            y: self.y,
            "accelerator": self.accelerator,
            "layout": self.layout,
            "accelerators": self.devices,
            "worth": self.worth,
            "ties": ",".join(self.ties),
            "second": self.second,
            "second_frac": self.second_frac,
            "stage": self.stage,
            "reason": self.reason,
            "scenario": to_query(self.scenario) if self.scenario else "",
        }


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WinnerMap:
    """Who wins over two inputs of a question.

    Attributes
    ----------
    x, y : str
        Two of `INPUTS`.
    xs, ys : tuple of float
        Their values, rising.
    asked : tuple of float
        Those of the question itself.
    cells : mapping of (float, float) to Winner
    one_pool : bool
        Whether the question allows two pools, too, which no map compares.
    """

    question: Question
    x: str
    y: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    asked: tuple[float, float]
    cells: Mapping[tuple[float, float], Winner]
    one_pool: bool = False

    @property
    def unit(self) -> str:
        """What the worth of a cell is counted in."""
        return "J/token" if self.question.objective == ENERGY else self.question.unit

    @property
    def waiting(self) -> int:
        """Cells that no run has looked at yet."""
        return sum(cell.stage != CONFIRMED for cell in self.cells.values())

    @property
    def winners(self) -> list[str]:
        """The accelerators that win somewhere, most often first."""
        counts = Counter(cell.accelerator for cell in self.cells.values() if cell.accelerator)
        return [name for name, _ in counts.most_common()]

    def as_dict(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        names = [INPUTS[side].key for side in (self.x, self.y)]
        return {
            "sentence": winners_sentence(self),
            "x": names[0],
            "y": names[1],
            "objective": self.question.objective,
            "unit": self.unit,
            "waiting": self.waiting,
            "cells": [cell.as_dict(*names) for cell in self.cells.values()],
        }


def estimated_map(question: Question, x: str, y: str, progress: Progress = silent) -> WinnerMap:
    """Return who wins over two inputs by arithmetic alone.

    Raises
    ------
    ScenarioError
        If the inputs cannot be sides of a map of this question.
    """
    for side in (x, y):
        _check_side(question, side)
    if x == y:
        raise ScenarioError(f"both sides of the map are {x}; choose two inputs.")
    if question.objective == "headroom":
        raise ScenarioError("objective is headroom, which has no winner of a cell; choose usd_per_hour.")
    one_pool, question = question.has_pools, _plain(question, bool({x, y} & {*OWN}))
    xs, ys = _values(question, x), _values(question, y, down=True)
    cells = {(here, there): Winner(here, there, stage=UNSEEN) for there in ys for here in xs}
    asked = _value(question, x, 1.0), _value(question, y, 1.0)
    empty = WinnerMap(question=question, x=x, y=y, xs=xs, ys=ys, asked=asked, cells=cells, one_pool=one_pool)
    return more_estimated(empty, progress)


def more_estimated(found: WinnerMap, progress: Progress = silent) -> WinnerMap:
    """Return a map with the cells estimated that are not yet, as many as the budget of a view allows."""
    cells, fields = dict(found.cells), dict[Question, Field | str]()
    unseen = [cell for cell in cells.values() if cell.stage == UNSEEN]
    for done, cell in enumerate(sorted(unseen, key=lambda cell: _far(found, cell))):
        raise_if_stopped()
        if done and _is_spent():
            break
        asked = _asked_at(found.question, (found.x, cell.x), (found.y, cell.y))
        try:
            with accounted():
                field = _field_of(asked, found.question.rate_per_s, fields)
                cells[cell.x, cell.y] = _estimated_cell(asked, field, cell.x, cell.y)
        except SpentUp:  # the others wait for their turn
            break
        progress((done + 1) / len(unseen))
    return dataclasses.replace(found, cells=cells)


def _is_spent() -> bool:
    """Return whether the view has worked out as much as its budget says."""
    given = allowance()
    return given is not None and given.spent_s > given.seconds


def confirmed_map(found: WinnerMap, progress: Progress = silent) -> WinnerMap:
    """Return a map whose cells are simulated, as many as the budget of a view allows, the open ones first."""
    cells = dict(found.cells)
    waiting = [cell for cell in cells.values() if cell.stage == ESTIMATED]
    waiting.sort(key=lambda cell: (not cell.waits, _far(found, cell)))
    for done, cell in enumerate(waiting):
        raise_if_stopped()
        try:
            cells[cell.x, cell.y] = _confirmed_cell(found, cell)
        except SpentUp:  # the others stay estimates, and are marked so
            break
        progress((done + 1) / len(waiting))
    return dataclasses.replace(found, cells=cells)


def _far(found: WinnerMap, cell: Winner) -> int:
    """Return how many cells lie between one and the place that was asked for."""
    places = [(found.xs, cell.x, found.asked[0]), (found.ys, cell.y, found.asked[1])]
    return sum(abs(side.index(here) - side.index(there)) for side, here, there in places)


# --- the sides ------------------------------------------------------------------------------------


def side_name(question: Question, side: str) -> str:
    """Return what an input is called, with the name of the accelerator that it is of."""
    own = accelerator_of(question.scenario).name
    return INPUTS[side].label.replace("the present accelerator", own)


def _check_side(question: Question, side: str) -> None:
    """Raise a `ScenarioError` unless an input can be a side of the map."""
    if side not in INPUTS:
        raise ScenarioError(f"a map has no side {side[:40]!r}. {did_you_mean(side, INPUTS)}")
    scenario = question.scenario
    if question.compares_models:
        raise ScenarioError("a map says which accelerator wins for one model; leave the other models out.")
    if side in LENGTHS and (question.replays or question.trace):
        raise ScenarioError(
            f"lengths come from the trace, so {INPUTS[side].key} changes nothing; choose another side of the "
            "map."
        )
    if side in LENGTHS and scenario.mix and not has_flat_class(scenario.mix):
        raise ScenarioError(
            f"lengths come from the mix, so {INPUTS[side].key} changes nothing; choose another side of the "
            "map, or set the lengths here."
        )
    if side in LIMITS and not has_common_limits(scenario):
        raise ScenarioError(
            f"every class of the mix has limits of its own, so {INPUTS[side].key} changes nothing; choose "
            "another side of the map, or leave a class out of class_limits."
        )
    if side in OWN and _present(question, side) is None:
        part = accelerator_of(scenario)
        raise ScenarioError(f"{part.name} has no {INPUTS[side].key}; set it, or choose another side.")


def _present(question: Question, side: str) -> float | None:
    """Return the value of an input, None for an accelerator's that is not known."""
    holder = accelerator_of(question.scenario) if side in OWN else question.scenario
    value: float | None = getattr(holder, INPUTS[side].key)
    return value


def _plain(question: Question, own: bool) -> Question:
    """Return the question in one pool, with the present accelerator among the candidates if it changes."""
    parts = question.accelerators
    if own and question.scenario.accelerator not in parts:
        parts = (*parts, question.scenario.accelerator)
    free = tuple(key for key in question.free if key != "policy")
    scenario = question.scenario
    if scenario.split:
        scenario = scenario.replace(policy="chunked")
    return dataclasses.replace(question, accelerators=parts, free=free, scenario=scenario)


def _values(question: Question, side: str, down: bool = False) -> tuple[float, ...]:
    factors = INPUTS[side].factors[1:-1] if down else INPUTS[side].factors
    values = {_value(question, side, factor) for factor in factors}
    if side == "rate":  # with growth and margin it may be no more than a rate can be
        grown = (1 + question.growth_frac, 1 + question.margin_frac)
        values = {value for value in values if value * grown[0] * grown[1] <= FIELDS["arrival_per_s"].high}
    return tuple(sorted(values))


def _value(question: Question, side: str, factor: float) -> float:
    """Return so many times what is asked for, within the limits of its key, of three digits."""
    info = FIELDS[INPUTS[side].key]
    base = question.rate_per_s if side == "rate" else _present(question, side)
    assert base is not None
    if factor == 1.0:
        return float(base)
    value = float(f"{factor * base:.3g}")
    value = min(max(value, info.low), info.high)
    return float(round(value)) if info.kind is int else value


def _asked_at(question: Question, *places: tuple[str, float]) -> Question:
    """Return the question with other values of some inputs."""
    for side, value in places:
        if side == "rate":
            question = dataclasses.replace(question, rate_per_s=value)
            continue
        info = FIELDS[INPUTS[side].key]
        changed = question.scenario.replace(**{INPUTS[side].key: info.kind(value)})
        question = dataclasses.replace(question, scenario=changed)
    return question


# --- one cell -------------------------------------------------------------------------------------


def _field_of(asked: Question, rate_per_s: float, known: dict[Question, Field | str]) -> Field | str:
    """Return the candidates of a cell, which do not depend on the rate; or in words why there are none."""
    key = dataclasses.replace(asked, rate_per_s=rate_per_s)
    if key not in known:
        try:
            known[key] = Field(key)
        except ScenarioError as error:
            known[key] = str(error)
    return known[key]


class _Guess(NamedTuple):
    """An accelerator by arithmetic: what it is worth if its engine can do more, as estimated, or less."""

    low: float
    worth: float
    high: float
    candidate: Candidate
    replicas: int


def _estimated_cell(asked: Question, field: Field | str, x: float, y: float) -> Winner:
    """Return who wins a cell by arithmetic."""
    if isinstance(field, str):
        return Winner(x, y, reason=field, stage=CONFIRMED)
    race = Race(asked, field.losers, Trials(asked), TOP)
    best: dict[str, _Guess] = {}
    for candidate in race.prepare(_candidates(asked, field)):
        guess = _guess(race, candidate)
        name = candidate.scenario.accelerator
        if guess is not None:
            before = best.get(name, guess)
            best[name] = min(before, guess, key=lambda each: each.worth)._replace(
                low=min(before.low, guess.low), high=min(before.high, guess.high)
            )
    if not best:
        return Winner(x, y, reason=impossible(asked, field.losers))
    order = sorted(best, key=lambda name: best[name].worth)
    a_token = 1 / (asked.planned_per_s * float(field.sent.output_tokens.mean()))
    first, surely = best[order[0]], min(guess.high for guess in best.values())
    return Winner(
        x,
        y,
        accelerator=order[0],
        layout=_layout(first.candidate.scenario, first.replicas + asked.spare),
        devices=first.candidate.devices_of((first.replicas,)),
        worth=first.worth * (a_token if asked.objective == ENERGY else 1.0),
        ties=tuple(name for name in order[1:] if best[name].low <= surely),
        second=order[1] if len(order) > 1 else "",
        second_frac=best[order[1]].worth / first.worth - 1 if len(order) > 1 else None,
        scenario=first.candidate.scenario.replace(
            replicas=first.replicas + asked.spare, arrival_per_s=asked.planned_per_s
        ),
    )


def _candidates(asked: Question, field: Field) -> list[Candidate]:
    """Return those that may win: where the ranking is `trusted`, of the validated region if there are any."""
    return field.trusted()[0] or field.found if asked.ranking == "trusted" else field.found


def _guess(race: Race, candidate: Candidate) -> _Guess | None:
    """Return a candidate by arithmetic, None where it needs more than may be."""
    count, alone = race.guess(candidate), alone_of(candidate)
    if count is None:
        return None
    ends = [alone.replicas_for(factor * race.trials.rate_per_s) for factor in OFF]
    low, high = (math.inf if end is None else candidate.worth((end,)) for end in ends)
    low *= LEAST_DRAWN_FRAC if race.question.objective == ENERGY else 1.0
    return _Guess(low, candidate.worth((count,)), high, candidate, count)


def _layout(scenario: Scenario, replicas: int) -> str:
    times = f"{replicas} × " if replicas > 1 else ""
    return f"{times}{layout_name(scenario)}"


_known: Remembered[tuple[Question, bool], Winner] = Remembered(2048)


def _confirmed_cell(found: WinnerMap, cell: Winner) -> Winner:
    """Return who wins a cell by runs of those that the estimate cannot tell apart, or of all for nobody."""
    asked = _asked_at(found.question, (found.x, cell.x), (found.y, cell.y))
    parts = (cell.accelerator, *cell.ties) if cell.accelerator else asked.accelerators
    asked = dataclasses.replace(asked, accelerators=parts)
    key = asked, allowance() is None
    answer = _known.get(key) or _known.put(key, _simulated(asked, cell))
    return answer._replace(x=cell.x, y=cell.y)  # another map may have come to the same question


def _simulated(asked: Question, cell: Winner) -> Winner:
    field = Field(asked)
    race = Race(asked, field.losers, Trials(asked), MORE * ROWS if asked.objective == ENERGY else ROWS)
    race.prepare(_candidates(asked, field))
    standing = race.run()
    if asked.objective == ENERGY:
        rank_by_energy(race.trials, standing)
    if not standing:
        return Winner(cell.x, cell.y, reason=impossible(asked, field.losers), stage=CONFIRMED)
    first, name = standing[0], standing[0].candidate.scenario.accelerator
    others: dict[str, Standing] = {}
    for each in standing[1:]:
        if each.candidate.scenario.accelerator != name:
            others.setdefault(each.candidate.scenario.accelerator, each)
    most = first.worth + first.error + SAME * abs(first.worth)
    second = next(iter(others), "")
    return Winner(
        cell.x,
        cell.y,
        accelerator=name,
        layout=_layout(first.candidate.scenario, first.counts[0] + asked.spare),
        devices=first.devices,
        worth=first.worth,
        ties=tuple(other for other, each in others.items() if each.worth <= most),
        second=second or cell.second,
        second_frac=others[second].worth / first.worth - 1 if second else None,
        stage=CONFIRMED,
        scenario=first.candidate.scenario.replace(
            replicas=first.counts[0] + asked.spare, requests=first.requests
        ),
    )


# --- in words -------------------------------------------------------------------------------------


def winners_sentence(found: WinnerMap) -> str:
    """Return who wins at the place that was asked for, and how much of the map, and where."""
    cells, winners = list(found.cells.values()), found.winners
    if not winners:
        seen = [cell for cell in cells if cell.stage != UNSEEN]
        if not seen:
            return "No cell has been looked at yet."
        return f"Nothing serves any of the {counted(len(seen), 'cell')} that were tried. {seen[0].reason}"
    parts = [_here(found)]
    for name in winners[:3]:
        won = [cell for cell in cells if cell.accelerator == name]
        parts.append(f"{_name(name)} wins {len(won)} of {len(cells)} cells{_where(found, won)}")
    counts = {
        "are ties within the error": sum(bool(cell.ties) and not cell.waits for cell in cells),
        "are an estimate that runs may change": sum(cell.waits for cell in cells),
        "cannot be served": sum(not cell.accelerator and cell.stage != UNSEEN for cell in cells),
        "wait for their turn": sum(cell.stage == UNSEEN for cell in cells),
    }
    parts += [f"{counted(count, 'cell')} {words}" for words, count in counts.items() if count]
    pools = " Compared are single pools; two pools, which the question allows, may take less."
    return f"{'; '.join(filter(None, parts))}.{pools if found.one_pool else ''}"


def _here(found: WinnerMap) -> str:
    cell = found.cells.get(found.asked)
    if cell is None or not cell.accelerator:
        return ""
    ties = ""
    if cell.ties:
        how = "if runs do not find" if cell.waits else "as good as"
        better = " better" if cell.waits else " within the error"
        ties = f", {how} {_named(cell.ties)}{better}"
    known = ", by estimate" if cell.stage == ESTIMATED else ""
    return f"As asked, {_name(cell.accelerator)} ({cell.layout}{known}) is best{ties}"


def _named(names: Sequence[str]) -> str:
    return " and ".join(_name(name) for name in names)


def _name(name: str) -> str:
    return accelerator(name).name


def _where(found: WinnerMap, won: Sequence[Winner]) -> str:
    """Return where on the map some cells lie, "" for all over it."""
    words = []
    sides: list[tuple[str, tuple[float, ...], Callable[[Winner], float]]] = [
        (found.x, found.xs, lambda cell: cell.x),
        (found.y, found.ys, lambda cell: cell.y),
    ]
    for side, values, of in sides:
        middle = (len(values) - 1) / 2
        mean = sum(values.index(of(cell)) for cell in won) / len(won)
        if abs(mean - middle) > len(values) / 6:
            name = side_name(found.question, side)
            words.append(f"a {'high' if mean > middle else 'low'} {name[0].lower()}{name[1:]}")
    return f", mostly at {' and '.join(words)}" if words else ""
