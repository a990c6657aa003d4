"""The database of rooms: SQLite in a file or PostgreSQL, of which nothing is taken on trust.

What a transaction has written counts only once the store is known to hold it: the file of SQLite is looked
at before and after. One that was deleted, exchanged, damaged or made by another version is said to be so,
with the way out, and nothing more is taken.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from sim_core.questions.teaching.room import RoomError
from sim_core.questions.teaching.room_file import TURN_S, RoomFile, StoreError
from sim_core.questions.teaching.room_tables import tables

Insert = Callable[[sql.Table], sqlite.Insert | postgresql.Insert]
_INSERTS: dict[str, Insert] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_MISSING = re.compile(r"no such (table|column)|has no column|does not exist")
_DAMAGED = re.compile(r"malformed|not a database|encrypted|corrupt")


class RoomDatabase:
    """Transactions that read, and transactions that write.

    Parameters
    ----------
    engine : sqlalchemy.Engine

    Raises
    ------
    RoomError
        If the database is of another kind.
    sqlalchemy.exc.SQLAlchemyError
        If it does not answer or does not hold the tables of rooms; from every transaction, too.
    """

    def __init__(self, engine: sql.Engine) -> None:
        kind = engine.dialect.name
        if kind not in _INSERTS:
            raise RoomError(f"Rooms are kept in SQLite or PostgreSQL, not in {kind}.")
        self.engine, self.insert = engine, _INSERTS[kind]
        self._file = _sqlite_file(engine) if kind == "sqlite" else None
        self._turn = threading.Lock()
        with self._said():
            if self._file is None:
                _create(engine)
            else:
                self._file.open()
            _check_columns(engine, self._older())

    @contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        """Run a transaction that only reads: no writer keeps it waiting, and it keeps none."""
        with self._said(), self._looked_after(), self.engine.begin() as store:
            yield store

    @contextmanager
    def writing(self) -> Iterator[sql.Connection]:
        """Run a transaction that writes; when it ends without an error, the store holds what was written."""
        writes = self.engine.execution_options(room_writes=True)
        with self._said(), self._looked_after(), self._in_turn(), writes.begin() as store:
            yield store

    @contextmanager
    def _looked_after(self) -> Iterator[None]:
        """Look at the file of SQLite before and after."""
        if self._file is not None:
            self._file.look()
        yield
        if self._file is not None:
            self._file.look()

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Let the threads of this process write to SQLite one after the other, in the order they come."""
        if self._file is None:
            yield
            return
        if not self._turn.acquire(timeout=TURN_S):
            raise StoreError(self._file.crowded())
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Say what a database has come to, where that can be told from its error."""
        try:
            yield
        except sql.exc.DBAPIError as error:
            words = str(error.orig)
            if _MISSING.search(words):
                raise StoreError(self._older()) from error
            if self._file is None:
                raise
            if _DAMAGED.search(words):
                raise StoreError(self._file.damaged()) from error
            raise StoreError(self._file.busy() if "locked" in words else self._file.failed(words)) from error

    def _older(self) -> str:
        if self._file is not None:
            return self._file.older()
        names = ", ".join(table.name for table in reversed(tables.sorted_tables))
        return (
            "The tables of rooms in the database are missing or those of another version. While no room is "
            f"in use, drop {names}, and restart the app, which makes them anew."
        )


def _sqlite_file(engine: sql.Engine) -> RoomFile:
    """Return the file of a SQLite engine, whose connections are from now on those of the file."""
    name = engine.url.database
    if not name or name == ":memory:" or name.startswith("file:"):
        raise RoomError("Rooms in SQLite need a file, as in sqlite:////var/lib/batchscope/rooms.sqlite.")
    file = RoomFile(name)

    @sql.event.listens_for(engine, "do_connect")
    def connect(*_: object) -> object:
        return file.connect()

    @sql.event.listens_for(engine, "begin")
    def begun(connection: sql.Connection) -> None:
        """Begin; who will write takes the right to at once: having read, it could not get it any more."""
        writes = connection.get_execution_options().get("room_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return file


def _create(engine: sql.Engine) -> None:
    """Create the tables; of several processes that start at once, one does."""
    try:
        tables.create_all(engine)
    except sql.exc.SQLAlchemyError:  # another process was quicker: then they are there
        tables.create_all(engine)


def _check_columns(engine: sql.Engine, older: str) -> None:
    """Raise a `StoreError` unless the tables have the columns they should have."""
    found = sql.inspect(engine)
    for table in tables.sorted_tables:
        there = found.get_columns(table.name) if found.has_table(table.name) else []
        if {column["name"] for column in there} != set(table.columns.keys()):
            raise StoreError(older)
