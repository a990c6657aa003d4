"""The pieces of the Lessons page: predict, move the control, see.

What a learner answered stands in the address, so a step is a link and a reload loses nothing. Nothing that a
step shows is typed in: see `sim_core.questions.teaching.lessons`.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.lessons import Lesson, LessonStep
from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.lessons import MEASURES, Answered
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.view.drawing.templates import render
from sim_core.view.learn import lesson_figures, lesson_summary
from sim_core.view.learn.lesson_figures import control_words
from sim_core.view.learn.lesson_words import explained, filled, guess_verdict
from sim_core.view.parts import actions, pieces
from sim_core.view.parts.chart import Heading, chart
from sim_core.view.parts.views import views
from sim_core.view.session import shell, state, sweeps

COLUMNS = 2


def show(_: Scenario) -> None:
    """Show all lessons, or the one that is open; a step brings its own scenario."""
    name = state.view("lesson")
    if not name:
        overview()
        return
    sweeps.wait_until_ready()
    item = catalogue.lesson(name)
    number = min(int(state.view_number("step")), len(item.steps))
    one_step(item, number)


def _answers() -> dict[tuple[int, int], float]:
    return lessons.parse_answers(state.view(state.ANSWERS))[0]


def _keep(answers: Mapping[tuple[int, int], float]) -> None:
    state.set_view(state.ANSWERS, lessons.answers_text(answers))


# All lessons


def overview() -> None:
    """Show every lesson with how far one has come, and the answers so far."""
    pieces.say(
        "Predict first, then look: short lessons on why fast answers cost throughput.",
        "Each step asks for a number or a choice, lets you move one control, and shows the simulator's "
        "answer. Your answers stay in the address.",
    )
    answers = _answers()
    every = list(catalogue.lessons().values())
    for start in range(0, len(every), COLUMNS):  # row by row, so that they are in order on a phone too
        for column, item in zip(st.columns(COLUMNS), every[start : start + COLUMNS], strict=False):
            with column.container(border=True, height="stretch"):
                _card(item, answers)
    if answers:
        lesson_summary.show_answers(answers)
        st.button("Forget all answers", on_click=_keep, args=({},), type="tertiary", key="forget_answers")


def _card(item: Lesson, answers: Mapping[tuple[int, int], float]) -> None:
    """Draw what a lesson asks, how far one has come, and the button that opens it there."""
    done = sum((lessons.lesson_number(item), step) in answers for step in range(1, len(item.steps) + 1))
    st.markdown(f"**{lessons.lesson_number(item)}. {item.title}**  \n{item.question}")
    with st.container(horizontal=True, vertical_alignment="center"):
        first = 1 if done in (0, len(item.steps)) else done + 1
        word = "Start" if done == 0 else "Again" if done == len(item.steps) else "Go on"
        st.button(word, key=f"open_{item.id}", on_click=_open, args=(item.id, first))
        st.caption(f"{item.minutes} minutes · {done} of {len(item.steps)} answered")


def _open(name: str, step: int) -> None:
    state.set_view("lesson", name)
    state.set_number("step", step)
    st.session_state.pop("lesson_at", None)


# One step


def one_step(item: Lesson, number: int) -> None:
    """Show one step: text, question, prediction, then the control to move and what it shows."""
    step = item.steps[number - 1]
    guess = _answers().get((lessons.lesson_number(item), number))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("All lessons", icon=":material/arrow_back:", on_click=_open, args=("", 1), type="tertiary")
        views("level")
    st.subheader(f"{lessons.lesson_number(item)}. {item.title}", anchor=False)
    st.caption(f"Step {number} of {len(item.steps)}: {step.title}")
    found = lessons.answered(step, guess)
    told = getattr(step, state.view("level"))
    st.html(render("learn/lesson.html", text=explained(told)))
    pieces.say(filled(step.question, step, found), after=told)
    if guess is None:
        _predict(item, number, step)
        _figure(step, [step.start], None)
    else:
        _see(item, number, step, guess, found)
    _navigation(item, number)


def _predict(item: Lesson, number: int, step: LessonStep) -> None:
    """Draw the field for a prediction."""
    with st.form(f"predict_{item.id}_{number}", border=False):
        guess_field(step, f"guess_{item.id}_{number}")
        st.form_submit_button("Predict", type="primary", on_click=_take, args=(item, number))


def guess_field(step: LessonStep, key: str) -> None:
    """Draw the field for a prediction: a choice or a number."""
    if step.choices:
        st.radio("Your prediction", list(step.choices), index=None, key=key)
        return
    st.number_input(
        f"Your prediction [{MEASURES[step.measure].unit}]",
        value=None,
        min_value=0.0,
        max_value=1e9,
        width=260,
        key=key,
        placeholder="a rough guess will do",
    )


def guess_in(step: LessonStep, key: str) -> float | None:
    """Return what a prediction's field holds: the number of a choice, or a figure; None if it is empty."""
    given = st.session_state.get(key)
    if given is None:
        return None
    return float(step.choices.index(given)) if step.choices else float(given)


def _take(item: Lesson, number: int) -> None:
    """Keep the prediction, and let the control begin at its start."""
    step = item.steps[number - 1]
    guess = guess_in(step, f"guess_{item.id}_{number}")
    if guess is None:
        return
    _keep(_answers() | {(lessons.lesson_number(item), number): guess})
    st.session_state.lesson_at = (item.id, number, step.start)


def _see(item: Lesson, number: int, step: LessonStep, guess: float, found: Answered) -> None:
    """Draw the control to move, the chart, and once the control is there, the verdict."""
    at = _at(item, number, step)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        key = f"move_{item.id}_{number}"
        if st.session_state.get(key) not in step.values:
            st.session_state[key] = at
        st.select_slider(
            f"Now move it: {FIELDS[step.control].label.lower()}",
            list(step.values),
            format_func=lambda value: control_words(step, value),
            key=key,
            on_change=_move,
            args=(item.id, number, key),
        )
        if at != step.ask:
            where = control_words(step, step.ask)
            st.button(f"Go to {where}", on_click=_go, args=(item.id, number, step.ask, key), type="primary")
    values = lesson_figures.seen(step, at)
    _figure(step, values, None if step.choices else guess)
    if step.ask in values:
        st.html(
            render("parts/say.html", finding=guess_verdict(step, guess, found), notes=(), more="", after=None)
        )
        st.html(render("learn/lesson.html", text=explained(filled(step.why, step, found))))
    with st.container(horizontal=True):
        if st.button(f"Go on with this on the {step.page} page", type="tertiary", key="lesson_free"):
            state.replace(lessons.scenario_at(step, at))
            shell.open_page(step.page)
        st.button("Predict again", on_click=_forget, args=(item, number), type="tertiary", key="lesson_again")


def _at(item: Lesson, number: int, step: LessonStep) -> str:
    """Return where the control stands: where it was moved to, else where the question asks."""
    known = st.session_state.get("lesson_at")
    return known[2] if known and known[:2] == (item.id, number) else step.ask


def _move(name: str, number: int, key: str) -> None:
    st.session_state.lesson_at = (name, number, st.session_state[key])


def _go(name: str, number: int, value: str, key: str) -> None:
    st.session_state[key] = value
    _move(name, number, key)


def _forget(item: Lesson, number: int) -> None:
    answers = _answers()
    answers.pop((lessons.lesson_number(item), number), None)
    _keep(answers)


def _figure(step: LessonStep, values: list[str], guess: float | None) -> None:
    """Draw what may be seen."""
    with st.spinner("Simulating…"):
        shown = {value: lessons.figure_at(step, value) for value in values}
    chart(
        lesson_figures.lesson_figure(step, shown, guess),
        f"lesson_{step.id}",
        lesson_figures.lesson_sentence(step, shown, guess),
        height=360,
        heading=Heading(step.title, "simulated", False),
    )


def _navigation(item: Lesson, number: int) -> None:
    """Draw the ways to the step before and after, and the link."""
    with st.container(horizontal=True):
        if number > 1:
            st.button("Back", icon=":material/chevron_left:", on_click=_open, args=(item.id, number - 1))
        if number < len(item.steps):
            st.button("Next", icon=":material/chevron_right:", on_click=_open, args=(item.id, number + 1))
        else:
            following = _after(item)
            if following:
                st.button("Next lesson", icon=":material/chevron_right:", on_click=_open, args=(following, 1))
        actions.share()


def _after(item: Lesson) -> str:
    names = list(catalogue.lessons())
    place = names.index(item.id) + 1
    return names[place] if place < len(names) else ""
