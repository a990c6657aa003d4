"""What host and participants of a room both see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from sim_core import catalogue
from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.room import Room, RoomError
from sim_core.questions.teaching.room_file import StoreError
from sim_core.questions.teaching.rooms import Rooms
from sim_core.view.drawing.templates import render
from sim_core.view.learn import lesson_figures
from sim_core.view.learn.lesson_words import explained, filled
from sim_core.view.learn.room import figures
from sim_core.view.parts import pieces
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.session import shell

_countdown = st.components.v2.component(
    "batchscope_countdown",
    js=(Path(__file__).parent / "countdown.js").read_text(encoding="utf-8"),
    css=".bs-countdown { font-size: 2.2rem; font-weight: 600; font-variant-numeric: tabular-nums; }",
    isolate_styles=False,
)


def room_heading(room: Room) -> None:
    """Draw the question; what one should know to answer it goes with the answer."""
    lesson, step = catalogue.lesson(room.lesson), room.question
    st.caption(f"Lesson {lessons.lesson_number(lesson)}: {lesson.title} · {step.title}")
    if room.stage == "ask":
        st.html(render("learn/lesson.html", text=explained(step.newcomer)))
    pieces.say(filled(step.question, step, lessons.answered(step, None)))


def answer(room: Room, words: str) -> None:
    """Draw what the simulator says; with the curve, also why."""
    step = room.question
    st.html(render("learn/answer.html", text=words))
    if room.stage == "look":
        why = explained(filled(step.why, step, lessons.answered(step, None)))
        st.html(render("learn/lesson.html", text=why))


def predictions(room: Room, guesses: list[float], size: int) -> None:
    """Draw what the room predicts; with the truth once that has been revealed."""
    step, shown = room.question, room.stage != "ask"
    chart(
        figures.predictions(step, guesses, shown, size),
        "room",
        figures.room_sentence(step, guesses, shown),
        height=20 * size,
        heading=Heading(step.title, "predictions of a room · simulated", False),
    )


def curve(room: Room, guess: float | None, whose: str, size: int) -> None:
    """Draw the figure asked for over the whole control."""
    step = room.question
    with st.spinner("Simulating…"):
        shown = {value: lessons.figure_at(step, value) for value in step.values}
    guess = None if step.choices else guess
    figure = lesson_figures.lesson_figure(step, shown, guess, whose)
    figure["layout"] |= {"font": {"size": size}}
    chart(
        figure,
        "room_curve",
        lesson_figures.lesson_sentence(step, shown, guess, whose),
        height=20 * size,
        heading=Heading(step.title, "simulated", False),
    )


def revealed(room: Room, guesses: list[float], words: str, mark: tuple[float | None, str], size: int) -> None:
    """Draw the answer in words with the room's predictions, or later the curve with a mark (value, whose)."""
    answer(room, words)
    if room.stage == "reveal":
        predictions(room, guesses, size)
    else:
        curve(room, *mark, size)


def clock(store: Rooms, room: Room) -> None:
    """Draw the countdown, if one runs."""
    if room.stage == "ask" and room.closes_s is not None:
        left_s = room.closes_s - store.now_s()
        if left_s > 0:
            data = {"id": str(room.closes_s), "left_s": left_s}
            _countdown(data=data, key="room_clock", height="content", on_over_change=lambda: None)
        else:
            st.markdown("**Time is up.**")


@contextmanager
def patience() -> Iterator[None]:
    """Draw the page again if the room or its store has ended; where that is silent, wait a while."""
    try:
        yield
    except RoomError:
        shell.rerun_page()
    except StoreError:
        shell.rerun_page()
    except SQLAlchemyError:
        st.caption("The room's database does not answer. This page keeps trying.")
