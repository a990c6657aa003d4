"""The words of lessons: texts with the simulator's figures in place, guesses, verdicts, explained terms."""

from __future__ import annotations

import math
import re

from sim_core.catalogue.lessons import LessonStep
from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.lessons import Answered
from sim_core.view.drawing.templates import Markup, render
from sim_core.view.drawing.words import quantity
from sim_core.view.learn.lesson_figures import figure_words, ratio_words


def filled(text: str, step: LessonStep, found: Answered) -> str:
    """Return a text of a step with the simulator's figures in their places."""
    values = {
        "start": _start_words(step, found.start),
        "truth": figure_words(step, found.truth),
        "ratio": ratio_words(found.ratio),
    }
    return re.sub(r"\{(start|truth|ratio)\}", lambda match: values[match[1]], text)


def _start_words(step: LessonStep, start: float) -> str:
    """Return what a step begins with, in the unit in which its field asks for a number."""
    unit = lessons.MEASURES[step.measure].unit
    if step.choices or unit != "ms":
        return figure_words(step, start)
    return quantity(float(f"{start:.3g}"), unit)


def guess_words(step: LessonStep, guess: float) -> str:
    """Return a guess in words."""
    return step.choices[int(guess)] if step.choices else figure_words(step, guess)


def guess_verdict(step: LessonStep, guess: float, found: Answered) -> str:
    """Return how good a guess was, in one sentence."""
    truth = figure_words(step, found.truth)
    if step.choices:
        right = step.choices[lessons.right_choice(step)]
        right = right[0].lower() + right[1:]
        if found.right:
            return f"Right: {right}."
        return f"You said: {guess_words(step, guess)}. The simulator says: {right} ({truth})."
    if found.right:
        return f"Well predicted: you said {figure_words(step, guess)}, the simulator says {truth}."
    if math.isnan(found.factor):
        return f"You said {figure_words(step, guess)}, the simulator says {truth}."
    off = max(found.factor, 1 / found.factor)
    way = "much" if found.factor > 1 else "little"
    said = f"You said {figure_words(step, guess)}, the simulator says {truth}"
    return f"{said}: {ratio_words(off)} times too {way}."


def explained(text: str) -> Markup:
    """Return a text as HTML in which each known term, where it first appears, carries its explanation."""
    return render("learn/explained.html", text=text)


def truth_words(step: LessonStep, found: Answered) -> str:
    """Return what the simulator says, as an answer."""
    truth = figure_words(step, found.truth)
    return f"{step.choices[lessons.right_choice(step)]} ({truth})" if step.choices else truth
