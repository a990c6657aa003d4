"""Where rooms are kept, a file beside the app or the database that one setting names, and who is in which."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from sim_core.rooms import RoomError, Rooms

SETTING = "BATCHSCOPE_ROOMS_URL"  # such as postgresql+psycopg://user:password@host/database
FILE = Path(__file__).parent.parent.parent / "rooms.sqlite"


@st.cache_resource(show_spinner=False)
def rooms() -> Rooms:
    """Return the store, the same for all visitors; it is opened when a room is first asked for.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        If the database cannot be reached.
    """
    url = os.environ.get(SETTING) or f"sqlite:///{FILE}"
    return Rooms(st.connection("rooms", type="sql", url=url, pool_pre_ping=True).engine)


class Place(NamedTuple):
    """Which room a visitor is in, as its host (with its key) or as a participant (with their word)."""

    code: str
    key: str = ""
    me: str = ""

    def address(self) -> dict[str, str]:
        """Return what the address holds of it."""
        return {"room": self.code} | ({"host": self.key} if self.key else {"me": self.me})


def place() -> Place | None:
    """Return the room in which this visitor was last, if any."""
    return st.session_state.get("room_place")


def guarded(act: Callable[[], None]) -> None:
    """Do something with a room; where it is refused, the top of the page says why."""
    st.session_state.problem = ""
    try:
        act()
    except RoomError as error:
        st.session_state.problem = str(error)
    except SQLAlchemyError:
        st.session_state.problem = "The room's database did not answer. Try again in a moment."
