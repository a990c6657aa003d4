"""Where rooms are kept, a file beside the app or the database that one setting names, and who is in which."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from sim_core.questions.teaching.rooms import RoomError, Rooms
from sim_core.view.drawing.words import literal

SETTING = "BATCHSCOPE_ROOMS_URL"  # such as postgresql+psycopg://user:password@host/database
FILE = Path(__file__).parent.parent.parent.parent / "rooms.sqlite"


@st.cache_resource(show_spinner=False)
def rooms() -> Rooms:
    """Return the store, the same for all visitors; it is opened when a room is first asked for.

    Raises
    ------
    RoomError
        If the setting names a database that cannot hold rooms, or one whose package is not installed.
    sqlalchemy.exc.SQLAlchemyError
        If the database cannot be reached.
    """
    url = os.environ.get(SETTING) or f"sqlite:///{FILE}"
    try:
        connection = st.connection("rooms", type="sql", url=url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise RoomError(f"Rooms cannot be kept as {SETTING} says: {error}") from error
    try:
        return Rooms(connection.engine)
    except SQLAlchemyError:
        connection.reset()  # the next visitor opens it anew
        raise


class Place(NamedTuple):
    """Which room a visitor is in, as its host (with its key) or as a participant (with their word)."""

    code: str
    key: str = ""
    me: str = ""

    @property
    def who(self) -> str:
        """Who the visitor is, as their browser keeps it."""
        return f"host {self.key}" if self.key else f"me {self.me}"


def place() -> Place | None:
    """Return the room in which this visitor was last, if any."""
    return st.session_state.get("room_place")


def guarded(act: Callable[[], None]) -> bool:
    """Do something with a room, and return whether it was done; where it is refused, say why."""
    try:
        act()
    except RoomError as error:
        st.toast(literal(str(error)), icon=":material/info:")
    except SQLAlchemyError:
        st.toast("The room's database did not answer. Try again in a moment.", icon=":material/info:")
    else:
        return True
    return False
