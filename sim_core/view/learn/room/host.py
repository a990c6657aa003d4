"""The host of a room: the question in large type, the predictions as they come, and the controls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

import streamlit as st

from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.room import LOBBY, STAGES, Room, too_few
from sim_core.questions.teaching.rooms import Rooms
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.words import literal
from sim_core.view.learn.room import figures, results
from sim_core.view.learn.room.shared import clock, patience, predictions, revealed, room_heading
from sim_core.view.parts import actions, pieces
from sim_core.view.session import room_store, shell, sweeps
from sim_core.view.session.room_store import Place, guarded

HOST_S = 1.0  # how often the store is asked
COUNTDOWN_S = (30, 60, 120)
BACK = {"ask": "Back", "reveal": "Take the reveal back", "look": "Back"}
NEXT = {"ask": "Reveal", "reveal": "Show the curve", "look": "Next question"}
LARGE_TYPE = Path(__file__).parent / "large_type.css"
ROOMS_MIDDLE = "the room's middle"
To = tuple[str, int, str]  # lesson, step and stage to turn to
SURE = "room_reveal_sure"  # the question for which the host is asked whether to reveal it to so few


def host(store: Rooms, place: Place) -> None:
    """Show the present question in large type, with the room's predictions, and the controls."""
    room = store.room(place.code)
    store.keep_open(place.code, place.key)
    st.html(LARGE_TYPE)
    left, right = st.columns([4, 1], gap="large")
    join = f"{shell.address_of('Room')}?room={place.code}"
    with right:
        st.image(actions.qr_code(join), width=170, alt="The address to join at, as a QR code")
        st.html(render("learn/code.html", code=place.code))
        _counts(store, place)
        clock(store, room)
    with left:
        if room.stage == LOBBY:
            _lobby(join)
        else:
            _question(store, place, room)
    if st.session_state.get(SURE) == (room.lesson, room.step) and room.stage == "ask":
        _ask_again(store, place, room)
    _controls(store, place, room)
    if room.stage != LOBBY:  # which shows it itself, large
        st.text(f"Join at {join}, code {place.code}.")
    if "//localhost" in join or "//127." in join:
        st.caption(
            "Other devices cannot reach “localhost”. Start the app with `--server.address 0.0.0.0` and open "
            "it by this machine's name or address."
        )


def _lobby(join: str) -> None:
    """Draw what people read while they come."""
    pieces.say("Join the room.", "Let your phone read the code, or open the Room page and type it.")
    st.code(join, language=None)


def _question(store: Rooms, place: Place, room: Room) -> None:
    """Draw the question with what the room predicts, or the answer."""
    sweeps.wait_until_ready()
    room_heading(room)
    if room.stage == "ask":
        _live(store, place)
        return
    guesses = store.guesses(room)
    words = figures.room_verdict(room.question, guesses)
    mark = median(guesses) if guesses else None, ROOMS_MIDDLE
    revealed(room, guesses, words, mark, figures.LARGE)


@st.fragment(run_every=HOST_S)
def _counts(store: Rooms, place: Place) -> None:
    """Say who is here and how many have predicted; the room is not empty meanwhile."""
    with patience():
        store.keep_open(place.code, place.key)
        here, sent = store.here(place.code), len(store.guesses(store.room(place.code)))
        st.markdown(f"**{here}** here  \n**{sent}** predicted")


@st.fragment(run_every=HOST_S)
def _live(store: Rooms, place: Place) -> None:
    """Draw the predictions as they come, unless the host hides them."""
    with patience():
        room = store.room(place.code)
        if room.hidden:
            st.caption("The predictions are hidden until they are revealed.")
            return
        predictions(room, store.guesses(room), figures.LARGE)


def _controls(store: Rooms, place: Place, room: Room) -> None:
    """Draw the ways on and back, by arrow keys too, the countdown, and behind a button the rest."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if room.stage == LOBBY:
            _way("Start", "room_start", "Right", store, place, (room.lesson, room.step, "ask"))
        else:
            _way(BACK[room.stage], "room_back", "Left", store, place, neighbour(room, -1))
            _way(NEXT[room.stage], "room_next", "Right", store, place, neighbour(room, 1))
        if room.stage == "ask":
            for seconds in COUNTDOWN_S:
                _count_down(store, place, seconds)
        with st.popover("More"):
            _more(store, place, room)


def _way(label: str, key: str, arrow: str, store: Rooms, place: Place, to: To | None) -> None:
    """Draw the button that leads on or back, which an arrow key presses, too."""
    st.button(
        label,
        key=key,
        shortcut=arrow,
        type="primary" if arrow == "Right" else "secondary",
        disabled=to is None,
        on_click=_turn,
        args=(store, place, to),
    )


def _ask_again(store: Rooms, place: Place, room: Room) -> None:
    """Ask whether a question is to be revealed to so few, which no arrow key answers."""
    with (
        st.container(border=True, key="room_sure"),
        st.container(horizontal=True, vertical_alignment="center"),
    ):
        _so_few(store, place)
        to = (room.lesson, room.step, "reveal")
        st.button("Reveal it", key="room_reveal_anyway", on_click=_turn, args=(store, place, to, True))
        st.button("Wait", key="room_reveal_wait", on_click=_wait, type="tertiary")


@st.fragment(run_every=HOST_S)
def _so_few(store: Rooms, place: Place) -> None:
    with patience():
        sent, here = len(store.guesses(store.room(place.code))), store.here(place.code)
        st.markdown(
            f"**Only {sent} of {here} have predicted.** Reveal the answer all the same? Press a button: the "
            "arrow keys wait."
        )


def _wait() -> None:
    st.session_state.pop(SURE, None)


def _tried(work: Callable[[], object]) -> None:
    """Do as `guarded` does, for a widget, which wants nothing back."""
    guarded(work)


def _count_down(store: Rooms, place: Place, seconds: int) -> None:
    """Draw the button that lets predictions close after so many seconds."""
    st.button(
        f"{seconds} s",
        key=f"room_count_{seconds}",
        icon=":material/timer:",
        type="tertiary",
        on_click=_tried,
        args=(lambda: store.count_down(place.code, place.key, seconds),),
        help="Predictions close when the time is up.",
    )


def _more(store: Rooms, place: Place, room: Room) -> None:
    """Draw what a host needs less often."""
    st.session_state.in_room_hide = room.hidden
    st.toggle(
        "Hide predictions until they are revealed",
        key="in_room_hide",
        on_change=_tried,
        args=(lambda: store.hide(place.code, place.key, st.session_state.in_room_hide),),
    )
    st.session_state.in_room_lock = room.locked
    st.toggle(
        "Lock the room",
        key="in_room_lock",
        on_change=_tried,
        args=(lambda: store.lock(place.code, place.key, st.session_state.in_room_lock),),
        help="Nobody new is let in; who is in stays.",
    )
    st.button(
        "Clear who never predicted",
        key="room_clear",
        icon=":material/person_remove:",
        on_click=_clear,
        args=(store, place),
        help="Who is still here comes back by itself, unless the room is locked.",
    )
    _jump(store, place, room)
    results.take_results(store, place)
    if room.view:
        st.button(
            "Stop showing the shared view",
            key="room_hide_view",
            on_click=_tried,
            args=(lambda: store.show_view(place.code, place.key, ""),),
        )
    st.button(
        "End the room and delete its data",
        key="room_delete",
        icon=":material/delete:",
        on_click=_end,
        args=(store, place),
    )


def _jump(store: Rooms, place: Place, room: Room) -> None:
    """Draw the choice of a question."""
    titles = {
        (item.id, number): f"{lessons.lesson_number(item)}.{number} {step.title}"
        for item, number, step in lessons.every_step()
    }
    st.session_state.in_room_step = (room.lesson, room.step)
    st.selectbox(
        "Question",
        list(titles),
        format_func=titles.__getitem__,
        key="in_room_step",
        on_change=lambda: _turn(store, place, (*st.session_state.in_room_step, "ask")),
    )


def neighbour(room: Room, by: int) -> To | None:
    """Return lesson, step and stage so many places after what a room shows; None beyond the ends."""
    every = [(item.id, number, stage) for item, number, _ in lessons.every_step() for stage in STAGES]
    wanted = every.index((room.lesson, room.step, room.stage)) + by
    return every[wanted] if 0 <= wanted < len(every) else None


def _turn(store: Rooms, place: Place, to: To, sure: bool = False) -> None:
    """Show the room something else; the truth to few only where the host is sure."""
    lesson, step, stage = to

    def turn() -> None:
        room = store.room(place.code)
        reveals = stage == "reveal" and (room.lesson, room.step, room.stage) == (lesson, step, "ask")
        if reveals and not sure and too_few(len(store.guesses(room)), store.here(place.code)):
            st.session_state[SURE] = (lesson, step)
            return
        _wait()
        store.show(place.code, place.key, *to)

    guarded(turn)


def _clear(store: Rooms, place: Place) -> None:
    def clear() -> None:
        gone = store.clear(place.code, place.key)
        st.toast(literal(f"{gone} who never predicted {'was' if gone == 1 else 'were'} cleared."))

    guarded(clear)


def _end(store: Rooms, place: Place) -> None:
    guarded(lambda: store.delete(place.code, place.key))
    room_store.leave()
