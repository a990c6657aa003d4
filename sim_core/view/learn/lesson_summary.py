"""What a learner has predicted, to take away: a table, Markdown, and a page that prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import streamlit as st

from sim_core import __version__, catalogue
from sim_core.catalogue.lessons import LessonStep
from sim_core.questions.teaching import lessons
from sim_core.scenario.link.write import command_for
from sim_core.view.learn import lesson_figures
from sim_core.view.learn.lesson_words import filled, guess_words, truth_words
from sim_core.view.parts import html_report, pieces
from sim_core.view.parts.actions import File, downloads
from sim_core.view.session import shell, state
from sim_core.view.session.record import Drawing


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """One answered step, in words; `link` opens it with all answers."""

    step: str
    question: str
    you: str
    simulator: str
    why: str
    command: str
    link: str


def show_answers(answers: Mapping[tuple[int, int], float]) -> None:
    """Show all answers beside the truth, with the files to take away."""
    found = lines(answers, shell.address_of("Lessons"))
    st.subheader("Your answers")
    cells = [(line.step, [line.you, line.simulator]) for line in found]
    pieces.table("Predicted and simulated", ["You", "Simulator"], cells, scroll=True)
    link = state.link()
    files = (
        File("Summary", "batchscope-lessons.md", "text/markdown", lambda: markdown(found)),
        File("To print", "batchscope-lessons.html", "text/html", lambda: page(answers, found, link)),
    )
    with st.container(horizontal=True):
        downloads(files)


def lines(answers: Mapping[tuple[int, int], float], address: str) -> list[AnswerLine]:
    """Return every answered step in words, with its link at an address."""
    kept = quote(lessons.answers_text(answers), safe=",=.")
    found = []
    for lesson, number, step, guess in _answered(answers):
        truth = lessons.answered(step, guess)
        found.append(
            AnswerLine(
                f"{lessons.lesson_number(catalogue.lesson(lesson))}.{number} {step.title}",
                filled(step.question, step, truth),
                guess_words(step, guess),
                truth_words(step, truth),
                filled(step.why, step, truth),
                command_for(lessons.scenario_at(step, step.ask)),
                f"{address}?lesson={lesson}&step={number}&answers={kept}",
            )
        )
    return found


def _answered(answers: Mapping[tuple[int, int], float]) -> list[tuple[str, int, LessonStep, float]]:
    """Return lesson, number, step and guess of every answered step, in order."""
    return [
        (item.id, number, step, guess)
        for item, number, step in lessons.every_step()
        if (guess := answers.get((lessons.lesson_number(item), number))) is not None
    ]


def markdown(found: Sequence[AnswerLine]) -> str:
    """Return the answers as Markdown that reads well as it is."""
    parts = ["# Batchscope lessons: your answers", ""]
    for line in found:
        parts += [
            f"## {line.step}",
            "",
            line.question,
            "",
            f"- You: **{line.you}**",
            f"- Simulator: **{line.simulator}**",
            f"- Step: <{line.link}>",
            "",
            line.why,
            "",
            f"    {line.command}",
            "",
        ]
    return "\n".join(parts)


def page(answers: Mapping[tuple[int, int], float], found: Sequence[AnswerLine], link: str) -> str:
    """Return the answers as one HTML file with every step's chart, the guess on it; it opens offline."""
    charts = []
    for line, (_, _, step, guess) in zip(found, _answered(answers), strict=True):
        shown = {value: lessons.figure_at(step, value) for value in step.values}
        figure = lesson_figures.lesson_figure(step, shown, None if step.choices else guess)
        said = f"{line.step}. {line.question} You: {line.you}. Simulator: {line.simulator}. {line.why}"
        charts.append(Drawing(figure, said, height=300))
    return html_report.report_html(
        html_report.Report(
            page="Lessons: your answers",
            finding=f"{len(found)} of {len(lessons.every_step())} questions answered.",
            charts=charts,
            rows=[dataclasses.asdict(line) for line in found],
            link=link,
            version=__version__,
            date=datetime.now(UTC).date().isoformat(),
        )
    )
