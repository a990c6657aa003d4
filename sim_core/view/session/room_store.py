"""Where rooms are kept, in a file beside the app or a named database; who is in which; how often they may."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from sim_core.questions.teaching.rate_limits import RateLimit, RateLimits
from sim_core.questions.teaching.room import RoomError
from sim_core.questions.teaching.room_file import StoreError
from sim_core.questions.teaching.rooms import Rooms
from sim_core.view.drawing.words import literal

SETTING = "BATCHSCOPE_ROOMS_URL"  # such as postgresql+psycopg://user:password@host/database
FILE = Path(__file__).parent.parent.parent.parent / "rooms.sqlite"
SESSION, ADDRESS = "session", "address"
LIMITS = {  # of one connection, and of one address, behind which a whole school may be
    SESSION: {
        "joins": RateLimit(5, 600.0),
        "wrong codes": RateLimit(10, 60.0),
        "rooms": RateLimit(5, 600.0),
        "predictions": RateLimit(60, 60.0),
    },
    ADDRESS: {
        "joins": RateLimit(240, 60.0),
        "wrong codes": RateLimit(120, 60.0),
        "rooms": RateLimit(20, 600.0),
    },
}


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
    """Which room a visitor is in, as its host (with its key) or as a participant (with their token)."""

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


def leave() -> None:
    """Forget the room in this browser."""
    st.session_state.pop("room_place", None)
    st.query_params.clear()


@st.cache_resource(show_spinner=False)
def allowances() -> dict[str, RateLimits]:
    """Return what connections and addresses have done lately in this process."""
    return {kind: RateLimits(allowed) for kind, allowed in LIMITS.items()}


@contextmanager
def rate_limited(what: str, *kinds: str, counted: type[Exception] | None = None) -> Iterator[None]:
    """Do something of `LIMITS` as often as this visitor may, by `kinds` of limits.

    What succeeds counts, or what fails with the error that is `counted`.

    Raises
    ------
    NotNow
        If the visitor has done it too often.
    """
    who = {SESSION: _session(), ADDRESS: st.context.ip_address or "this machine"}
    for kind in kinds:
        allowances()[kind].check(what, who[kind])
    failed: Exception | None = None
    try:
        yield
    except Exception as error:
        failed = error
        raise
    finally:
        if (failed is None) if counted is None else isinstance(failed, counted):
            for kind in kinds:
                allowances()[kind].note(what, who[kind])


def _session() -> str:
    """Return a word for this connection."""
    return st.session_state.setdefault("room_session", secrets.token_hex(8))


def guarded(act: Callable[[], object]) -> bool:
    """Do something with a room, and return whether it was done; where it is refused, say why."""
    try:
        act()
    except RoomError as error:
        st.toast(literal(str(error)), icon=":material/info:")
    except StoreError as error:
        st.toast(literal(str(error)), icon=":material/info:")
    except SQLAlchemyError:
        st.toast("The room's database did not answer. Try again in a moment.", icon=":material/info:")
    else:
        return True
    return False
