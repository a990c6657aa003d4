"""A participant of a room: what the host shows, and a field for one's own prediction."""

from __future__ import annotations

import streamlit as st

from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.room import LOBBY, Room
from sim_core.questions.teaching.rooms import Rooms
from sim_core.view.learn.lesson_words import guess_verdict, guess_words
from sim_core.view.learn.lessons import guess_field, guess_in
from sim_core.view.learn.room import figures
from sim_core.view.learn.room.shared import clock, patience, revealed, room_heading
from sim_core.view.parts import pieces
from sim_core.view.session import room_store, shell, sweeps
from sim_core.view.session.room_store import Place, guarded

FOLLOW_S = 2.0  # how often the store is asked
SMALL = 15  # type on participants' own screens [px]


def follow(store: Rooms, place: Place) -> None:
    """Show what the host shows, with a field for one's own prediction."""
    room = store.attend(place.code, place.me)
    st.caption(f"Room {place.code}. Nobody sees who predicts what.")
    if room.stage == LOBBY:
        pieces.say("You are in. The host begins in a moment.", "The first question appears here by itself.")
    else:
        _question(store, place, room)
    _explore(room)
    _watch(store, place, room)


def _question(store: Rooms, place: Place, room: Room) -> None:
    """Draw the question, with the field for a prediction or with the answer."""
    sweeps.wait_until_ready()
    room_heading(room)
    guess = store.guess(room, place.me)
    if room.stage == "ask":
        _own(store, place, room, guess)
    else:
        step, guesses = room.question, store.guesses(room)
        own = guess is not None and guess_verdict(step, guess, lessons.answered(step, guess))
        words = own or figures.room_verdict(step, guesses)
        revealed(room, guesses, words, (guess, "your prediction"), SMALL)


def _own(store: Rooms, place: Place, room: Room, guess: float | None) -> None:
    """Draw the field for a prediction, what was sent so far, and the time that is left."""
    clock(store, room)
    if guess is not None:
        st.markdown(f"You predicted **{guess_words(room.question, guess)}**.")
    if not room.takes(store.now_s()):
        st.caption("Predictions are closed. The host reveals the answer.")
        return
    key = f"in_room_guess_{room.lesson}_{room.step}"
    with st.form("room_guess", border=False):
        guess_field(room.question, key)
        st.form_submit_button(
            "Change it" if guess is not None else "Predict",
            type="primary",
            on_click=_send,
            args=(store, place, room, key),
        )


def _send(store: Rooms, place: Place, room: Room, key: str) -> None:
    guess = guess_in(room.question, key)
    if guess is not None:
        guarded(lambda: _sent(store, place, room, guess))


def _sent(store: Rooms, place: Place, room: Room, guess: float) -> None:
    """Send a prediction, as often as one connection may."""
    with room_store.rate_limited("predictions", room_store.SESSION):
        store.send(place.code, place.me, (room.lesson, room.step), guess)


def _explore(room: Room) -> None:
    """Draw the ways off: the same step alone, and what the host shows beside it."""
    with st.container(horizontal=True):
        if room.view:
            title, _, query = room.view.partition("?")
            link = f"{shell.address_of(title)}?{query}"
            st.link_button("Open what the host shows", link, icon=":material/open_in_new:")
        if room.stage == "look":
            st.link_button(
                "Explore it alone",
                f"{shell.address_of('Lessons')}?lesson={room.lesson}&step={room.step}",
                type="tertiary",
                icon=":material/open_in_new:",
            )
        st.button("Leave the room", on_click=room_store.leave, type="tertiary")
        if again := st.session_state.get("room_host_again"):
            st.button(
                "Host it again",
                key="room_host_back",
                on_click=_host_again,
                args=(room.code, again),
                type="tertiary",
            )


def _host_again(code: str, key: str) -> None:
    """Make the visitor, whose browser has opened the room, its host again."""
    st.session_state.room_host_again = ""
    st.session_state.room_place = Place(code, key=key)


@st.fragment(run_every=FOLLOW_S)
def _watch(store: Rooms, place: Place, drawn: Room) -> None:
    """Draw the page again when the host has gone on, or the room has ended."""
    with patience():
        if store.attend(place.code, place.me) != drawn:
            shell.rerun_page()
