"""The pieces of the Room page: a host shows questions in large type, participants follow and predict.

The address names the room alone. Who a visitor is, the host with a key or a participant with a token that
the room has signed, is kept by their browser (`identity.js`): a reload loses nothing, and who opens a copied
address is somebody else. A fragment
that draws nothing asks the store every other second what the room shows; the page is drawn again only when
something has changed, so a half-typed number stays.
"""

from __future__ import annotations

import time
from pathlib import Path

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from sim_core.questions.teaching.room import NotNow, RoomError, read_code
from sim_core.questions.teaching.room_file import StoreError
from sim_core.questions.teaching.rooms import Rooms
from sim_core.view.learn.room.host import host
from sim_core.view.learn.room.participant import follow
from sim_core.view.parts import pieces
from sim_core.view.session import room_store, shell, state
from sim_core.view.session.room_store import ADDRESS, SESSION, Place, rate_limited

AGAIN_S = 5.0  # how often the store is asked when it is silent, or lets nobody in
_identity = st.components.v2.component(
    "batchscope_identity", js=(Path(__file__).parent / "identity.js").read_text(encoding="utf-8")
)


def show() -> None:
    """Show the way in, the host's view or the participants'; where that cannot be, the reason."""
    try:
        _show(room_store.rooms())
    except NotNow as error:
        pieces.say(str(error), "This page tries again by itself.")
        st.button("Another room", key="room_other", on_click=room_store.leave)
        _again_later(time.monotonic())
    except RoomError as error:
        pieces.say(str(error))
        st.button("Another room", key="room_other", on_click=room_store.leave)
        state.publish()
    except SQLAlchemyError as error:
        reason = str(error) if isinstance(error, StoreError) else "Their database does not answer."
        pieces.say(
            "Rooms are not available. This page keeps trying.",
            reason,
            f"All other pages work. {room_store.SETTING} names the database, else it is a file of the app.",
        )
        _try_again()


def _show(store: Rooms) -> None:
    asked, place = st.query_params, room_store.place()
    if "room" in asked:
        code = read_code(asked["room"])
        if place is None or place.code != code:
            place = _recognised(store, code)
            if place is None:
                st.caption("Joining…")
                return
        st.session_state.room_place = place
    if place is None:
        entrance(store)
        state.publish()
        return
    (host if place.key else follow)(store, place)
    _remember(place)
    state.publish(room=place.code)


def _recognised(store: Rooms, code: str) -> Place | None:
    """Return who a visitor is, as the address or else their browser says; None before that has answered."""
    with rate_limited("wrong codes", SESSION, ADDRESS, counted=RoomError):
        store.room(code)
    key = st.query_params.get("host", "")[:64]
    if key and store.is_host(code, key):
        return Place(code, key=key)
    kept = _identity(data={"code": code}, key=f"room_who_{code}", on_kept_change=lambda: None).kept
    found = kept or st.session_state.get(f"room_kept_{code}")
    if not found:
        return None
    st.session_state[f"room_kept_{code}"] = found  # if the room lets nobody in now, it is asked again
    who, _, word = str(found.get("who", ""))[:80].partition(" ")
    st.session_state.room_host_again = str(found.get("host", ""))[:64]
    if who == "host" and store.is_host(code, word):
        return Place(code, key=word)
    return Place(code, me=word) if store.knows(code, word) else _joined(store, code)


def _joined(store: Rooms, code: str) -> Place:
    """Let a visitor in as somebody new, as often as one connection and one address may."""
    with rate_limited("joins", SESSION, ADDRESS):
        return Place(code, me=store.join(code))


def _remember(place: Place) -> None:
    """Let the visitor's browser keep who they are."""
    _identity(data={"code": place.code, "who": place.who, "host": place.key}, key="room_who")


@st.fragment(run_every=AGAIN_S)
def _again_later(since_s: float) -> None:
    """Draw the page again after a while; this fragment is drawn once with the page, too."""
    if time.monotonic() - since_s > AGAIN_S / 2:
        shell.rerun_page()


@st.fragment(run_every=AGAIN_S)
def _try_again() -> None:
    """Draw the page again once the database answers."""
    try:
        room_store.rooms().end_old()
    except SQLAlchemyError:
        return
    shell.rerun_page()


# The way in


def entrance(store: Rooms) -> None:
    """Show how to join a room and how to open one."""
    pieces.say(
        "A room predicts together, then looks.",
        "The host shows one question at a time; everybody sends a prediction from their own device, without "
        "a name; then the simulator answers.",
    )
    left, right = st.columns(2)
    with left.container(border=True), st.form("join_room", border=False):
        st.markdown("**Join a room**")
        st.text_input("Code", key="in_room_code", max_chars=40, placeholder="six letters", width=200)
        if st.form_submit_button("Join", type="primary"):
            code = read_code(st.session_state.in_room_code)
            with rate_limited("wrong codes", SESSION, ADDRESS, counted=RoomError):
                store.room(code)
            _enter(_joined(store, code))
    with right.container(border=True):
        st.markdown("**Open a room**")
        st.markdown(
            "The questions are those of the lessons. The room ends by itself: after eight hours, or fifteen "
            "minutes after the last has left."
        )
        if st.button("Open a room", key="open_room"):
            with rate_limited("rooms", SESSION, ADDRESS):
                opened = store.open()
            _enter(Place(*opened))


def _enter(place: Place) -> None:
    st.session_state.room_place = place
    st.query_params.from_dict({"room": place.code})
    st.rerun()
