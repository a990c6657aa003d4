"""What a room has predicted, to take away: every prediction as CSV, and a report of all questions."""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import median
from typing import Any

import streamlit as st

from sim_core import __version__, catalogue
from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.lessons import MEASURES
from sim_core.questions.teaching.room import Prediction
from sim_core.questions.teaching.rooms import Rooms
from sim_core.results import text as report
from sim_core.view.learn.lesson_words import filled, guess_words, truth_words
from sim_core.view.learn.room.figures import predictions, room_sentence, room_verdict
from sim_core.view.parts import html_report
from sim_core.view.parts.actions import File, downloads
from sim_core.view.session.record import Drawing
from sim_core.view.session.room_store import Place

Row = dict[str, Any]
MOST_CHARTS = 12  # of a report


def take_results(store: Rooms, place: Place) -> None:
    """Draw the buttons for the results, which are read when one is pressed."""
    name = f"batchscope-room-{place.code.lower()}"

    def found() -> list[Prediction]:
        return store.results(place.code, place.key)

    with st.container(horizontal=True):
        downloads(
            (
                File("Results", f"{name}.csv", "text/csv", lambda: report.csv_text(rows(found()))),
                File("Report", f"{name}.html", "text/html", lambda: report_of(place.code, found())),
            )
        )


def rows(found: list[Prediction]) -> list[Row]:
    """Return every prediction as a row, beside what the simulator says."""
    return [_named(one) | {"participant": one.participant} | _said(one) for one in found]


def _named(one: Prediction) -> Row:
    lesson = catalogue.lesson(one.lesson)
    step = lesson.steps[one.step - 1]
    return {
        "question": f"{lessons.lesson_number(lesson)}.{one.step}",
        "title": step.title,
        "asked": filled(step.question, step, lessons.answered(step, None)),
    }


def _said(one: Prediction) -> Row:
    step = catalogue.lesson(one.lesson).steps[one.step - 1]
    found = lessons.answered(step, one.value)
    truth = lessons.right_choice(step) if step.choices else found.truth
    return {
        "predicted": guess_words(step, one.value) if step.choices else one.value,
        "simulator": guess_words(step, truth) if step.choices else truth,
        "unit": "" if step.choices else MEASURES[step.measure].unit,
        "close": "yes" if found.right else "no",
    }


def report_of(code: str, found: list[Prediction]) -> str:
    """Return the report of a room: a line for each question that was asked, with charts of the first."""
    asked: dict[tuple[str, int], list[Prediction]] = {}
    for one in found:
        asked.setdefault((one.lesson, one.step), []).append(one)
    people = len({one.participant for one in found})
    view = html_report.Report(
        page="Room",
        finding=f"Room {code}: {len(found)} predictions by {people} participants on {len(asked)} questions.",
        notes=("Nobody has a name: participants are numbered as they came, in the results as CSV.",),
        charts=[_chart(group) for group in list(asked.values())[:MOST_CHARTS]],
        rows=[_line(group) for group in asked.values()],
        version=__version__,
        date=datetime.now(UTC).date().isoformat(),
    )
    return html_report.report_html(view)


def _chart(group: list[Prediction]) -> Drawing:
    step, values = _step(group), [one.value for one in group]
    figure = predictions(step, values, True, 14)
    return Drawing(
        figure, room_sentence(step, values, True), step.title, "predictions of a room · simulated", 360
    )


def _line(group: list[Prediction]) -> Row:
    step, values = _step(group), [one.value for one in group]
    middle = "" if step.choices else guess_words(step, median(values))
    return _named(group[0]) | {
        "predictions": len(values),
        "middle": middle,
        "simulator": truth_words(step, lessons.answered(step, values[0])),
        "found": room_verdict(step, values),
    }


def _step(group: list[Prediction]) -> Any:
    return catalogue.lesson(group[0].lesson).steps[group[0].step - 1]
