"""Lessons: what a step asks, what the simulator answers, and what the learner's guess is worth.

A lesson is a preset (`presets/lessons/*.toml`). Each step moves one control of a scenario from a start to a
value at which it asks for a figure; every figure that it shows is computed here, none stands in the file. A
step's claim is the range of the ratio truth : start in which its text is true.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.lessons import Lesson, LessonStep
from sim_core.engine.results import Run
from sim_core.engine.run import run
from sim_core.questions.shift.study import Study
from sim_core.results.metrics import point_of
from sim_core.scenario.link.changes import parse_value, with_changes
from sim_core.scenario.link.load import load_scenario
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.sweep.capacity import capacity
from sim_core.sweep.remembered import Remembered

CLOSE = 1.25  # a guess within this factor of the truth is close
NEAR_POINTS = 3.0  # and one of a share within so many points
LETTERS = "abcdefgh"  # of choices, in links
MOST_ANSWERS = 100
_ANSWER = re.compile(r"(\d{1,3})\.(\d{1,3})=(?:([a-h])|([+-]?\d{1,12}(?:\.\d{1,6})?))", re.ASCII)


class Measure(NamedTuple):
    """A figure that steps ask for: its name, its unit, and how it is found.

    `scale` takes the simulator's figure to the unit: 100 for shares, which people give in percent. A
    `difference` may be negative; it is compared with its start by difference, not by ratio.
    """

    name: str
    unit: str
    find: Callable[[Scenario], float]
    scale: float = 1.0
    difference: bool = False


def _point(key: str) -> Callable[[Scenario], float]:
    return lambda scenario: float(point_of(_run(scenario))[key])


@lru_cache(maxsize=64)
def _run(scenario: Scenario) -> Run:
    return run(scenario, itl_max=True)


def _longest_gap_ms(scenario: Scenario) -> float:
    return 1e3 * float(np.nanmax(_run(scenario).itl_max_s))


def _capacity(scenario: Scenario) -> float:
    point = capacity(scenario)["point"]
    return 0.0 if point is None else float(point["output_tok_per_s"])


def _reactive_gain(scenario: Scenario) -> float:
    study = Study(scenario)
    return study.outcome("reactive").attainment_frac - study.outcome("fixed").attainment_frac


MEASURES = {
    "ttft_ms_p50": Measure("Median TTFT", "ms", _point("ttft_ms_p50")),
    "tpot_ms_p50": Measure("Median TPOT", "ms", _point("tpot_ms_p50")),
    "tpot_ms_p99": Measure("TPOT, p99", "ms", _point("tpot_ms_p99")),
    "itl_ms_p99": Measure("Gap between tokens, p99", "ms", _point("itl_ms_p99")),
    "itl_ms_max": Measure("Longest gap between tokens", "ms", _longest_gap_ms),
    "e2e_ms_p50": Measure("Time of a whole answer", "ms", _point("e2e_ms_p50")),
    "output_tok_per_s": Measure("Throughput", "tok/s", _point("output_tok_per_s")),
    "capacity_tok_per_s": Measure("Throughput within the limits", "tok/s", _capacity),
    "mean_batch": Measure("Requests running at once", "requests", _point("mean_batch")),
    "mfu_frac": Measure("Arithmetic used (MFU)", "%", _point("mfu_frac"), 100.0),
    "mbu_frac": Measure("Bandwidth used (MBU)", "%", _point("mbu_frac"), 100.0),
    "hit_frac": Measure("Found in the prefix cache", "%", _point("hit_frac"), 100.0),
    "within_frac": Measure("Requests within both limits", "%", _point("slo_attainment_frac"), 100.0),
    "reactive_gain_frac": Measure("Gain by reacting", "points", _reactive_gain, 100.0, True),
}


def scenario_at(step: LessonStep, value: str) -> Scenario:
    """Return the step's scenario with its control at a value."""
    return with_changes(load_scenario(step.scenario), **{step.control: parse_value(step.control, value)})


_figures: Remembered[tuple[LessonStep, str], float] = Remembered(512)


def figure_at(step: LessonStep, value: str) -> float:
    """Return the figure that a step asks for, with its control at a value, in the measure's unit."""
    measure = MEASURES[step.measure]
    return _figures.of((step, value), lambda: measure.scale * measure.find(scenario_at(step, value)))


class Answered(NamedTuple):
    """A step's figures, and what a guess is worth: `close`, `off` by a factor, or a choice right or wrong."""

    start: float
    truth: float
    ratio: float
    right: bool | None
    factor: float


def answered(step: LessonStep, guess: float | int | None) -> Answered:
    """Return a step's figures with the verdict on a guess: a number in the measure's unit, or a choice."""
    start, truth = figure_at(step, step.start), figure_at(step, step.ask)
    ratio = compared(step, start, truth)
    if guess is None:
        return Answered(start, truth, ratio, None, math.nan)
    if step.choices:
        return Answered(start, truth, ratio, int(guess) == right_choice(step), math.nan)
    factor = guess / truth if truth > 0 and guess > 0 else math.nan
    near = MEASURES[step.measure].scale == 100 and abs(guess - truth) <= NEAR_POINTS
    return Answered(start, truth, ratio, near or 1 / CLOSE <= factor <= CLOSE, factor)


def compared(step: LessonStep, start: float, truth: float) -> float:
    """Return the truth against the start: as a ratio, or for gains as their difference, as a share."""
    measure = MEASURES[step.measure]
    if measure.difference:
        return truth / measure.scale
    return truth / start if start > 0 else math.nan


def right_choice(step: LessonStep) -> int:
    """Return the number of the right choice."""
    return int(np.searchsorted(step.edges, answered(step, None).ratio))


def parse_answers(text: str) -> tuple[dict[tuple[int, int], float], int]:
    """Return answers of a link such as ``1.1=5000,1.2=b`` by lesson and step, and how many make no sense.

    A choice is its number from 0 on. What answers no question, or not in its way, makes no sense.
    """
    found: dict[tuple[int, int], float] = {}
    parts = [part for part in text.split(",") if part]
    for part in parts[:MOST_ANSWERS]:
        match = _ANSWER.fullmatch(part)
        place = (int(match[1]), int(match[2])) if match else (0, 0)
        guess = _read_answer(_steps().get(place), match)
        if guess is not None:
            found[place] = guess
    return found, len(parts) - len(found)


def _read_answer(step: LessonStep | None, match: re.Match | None) -> float | None:
    """Return a letter as the number of a choice, a figure as it is; None where the step asks for no such."""
    if step is None or match is None:
        return None
    letter, figure = match[3], match[4]
    if step.choices:
        choice = LETTERS.index(letter) if letter else len(step.choices)
        return float(choice) if choice < len(step.choices) else None
    return float(figure) if figure and float(figure) >= 0 else None


def answers_text(answers: Mapping[tuple[int, int], float]) -> str:
    """Return answers by lesson and step as a link holds them, in order."""
    parts = []
    for place, guess in sorted(answers.items()):
        choice = _steps()[place].choices
        text = LETTERS[int(guess)] if choice else f"{guess:.6f}".rstrip("0").rstrip(".")
        parts.append(f"{place[0]}.{place[1]}={text}")
    return ",".join(parts)


@cache
def every_step() -> Sequence[tuple[Lesson, int, LessonStep]]:
    """Return lesson, number and step of every step, in order."""
    return [
        (item, number, step)
        for item in catalogue.lessons().values()
        for number, step in enumerate(item.steps, 1)
    ]


@cache
def _steps() -> Mapping[tuple[int, int], LessonStep]:
    """Return every step by the numbers of lesson and step."""
    return {(lesson_number(item), number): step for item, number, step in every_step()}


def is_number(step: LessonStep) -> bool:
    """Return whether the step's control is a number, and has a place on an axis."""
    return FIELDS[step.control].kind is not str


def lesson_number(lesson: Lesson) -> int:
    """Return a lesson's number, with which its file name begins."""
    return int(lesson.id.split("-", 1)[0])


def as_dicts() -> list[dict[str, Any]]:
    """Return all lessons as rows, for a list."""
    return [
        {
            "id": item.id,
            "title": item.title,
            "question": item.question,
            "minutes": item.minutes,
            "steps": len(item.steps),
        }
        for item in catalogue.lessons().values()
    ]
