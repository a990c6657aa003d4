"""Where rooms are kept: a file beside the app, or any database that one setting names."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from sim_core.rooms import Rooms

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
