"""Lessons as files: questions, the control to move, and the range in which their text is true."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from sim_core.catalogue.reader import PRESETS, build_tables, naming_file, preset_ids, read_preset
from sim_core.fields.described import build, described
from sim_core.fields.errors import ScenarioError

PAGES_OF_PRESETS = (
    *("Frontier", "Plan", "Layouts", "Two phases", "Batching", "Disaggregation", "Traffic shift"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonStep:
    """One question of a lesson: a scenario, the one control to move, and what to predict.

    Nothing is typed in that the simulator can say: `why` holds places for the figures at the start, where
    the question asks and as a ratio, and `claim` is the range of that ratio in which the text is true.
    """

    id: str
    title: str = described("Name")
    newcomer: str = described("What to know, for newcomers")
    engineer: str = described("The same for engineers")
    scenario: str = described("Query of the scenario", "")
    control: str = described("Scenario key to move")
    values: tuple[str, ...] = described("Its values, in order")
    start: str = described("The value one starts from")
    ask: str = described("The value at which to predict")
    measure: str = described("What is predicted, one of `lessons.MEASURES`")
    question: str = described("The question")
    choices: tuple[str, ...] = described("Answers to choose from; none: a number is asked for", ())
    edges: tuple[float, ...] = described(
        "Ratios between which each choice is right", (), low=-100.0, high=1e9
    )
    claim: tuple[float, ...] = described(
        "Lowest and highest ratio for which the text is true", low=-100.0, high=1e9
    )
    why: str = described("What it shows, with {start}, {truth} and {ratio}")
    page: str = described("Page on which to go on", "Frontier", choices=PAGES_OF_PRESETS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A lesson: a question and the steps that answer it."""

    id: str
    title: str = described("Name")
    question: str = described("The question it answers")
    minutes: int = described("How long it takes", low=1, high=120)
    steps: tuple[LessonStep, ...] = ()


@cache
def lesson(name: str) -> Lesson:
    """Return one lesson by id."""
    data = read_preset("lessons", name)
    with naming_file("lessons", name):
        steps = build_tables(LessonStep, name, data.pop("steps", []))
        found = build(Lesson, data, id=name)
        for step in steps:
            check_step(step)
    return dataclasses.replace(found, steps=steps)


def check_step(step: LessonStep) -> None:
    """Raise a `ScenarioError` if the parts of a step contradict one another."""
    for key in ("start", "ask"):
        if getattr(step, key) not in step.values:
            raise ScenarioError(
                f"{step.title}: {key} is {getattr(step, key)!r}, which is not among its values."
            )
    if len(step.claim) != 2 or step.claim[0] >= step.claim[1]:
        raise ScenarioError(f"{step.title}: claim must be the lowest and the highest ratio.")
    if step.choices and len(step.edges) != len(step.choices) - 1:
        raise ScenarioError(f"{step.title}: {len(step.choices)} choices have {len(step.choices) - 1} edges.")


@cache
def lessons() -> Mapping[str, Lesson]:
    """Return all lessons by id, in their order."""
    return MappingProxyType({name: lesson(name) for name in preset_ids("lessons")})


@cache
def glossary() -> Mapping[str, str]:
    """Return the terms that lessons explain, each in a sentence."""
    return MappingProxyType(tomllib.loads((PRESETS / "glossary.toml").read_text(encoding="utf-8")))
