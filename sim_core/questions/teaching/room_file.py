"""The file in which SQLite keeps rooms: its owner's alone, durable, and never mistaken for another.

A connection to a file that has been deleted goes on as if nothing had happened, and all it takes is lost. So
who uses the file looks at it before and after each transaction: whether the name still leads to it and its
log, and, where anything has written to it since, whether it is whole (`PRAGMA quick_check`).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from contextlib import closing
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from sim_core.questions.teaching.room_tables import VERSION, tables

WAIT_S = 2.0  # for other programs that write
TURN_S = 10.0  # and for a place in the queue of this one, which moves: a room sends all at once


class StoreError(sql.exc.SQLAlchemyError):
    """The store does not hold what it should; the message says what, and the way out."""


class RoomFile:
    """The file.

    Parameters
    ----------
    name : str
        Its path.
    """

    def __init__(self, name: str) -> None:
        self.path = Path(name).absolute()
        self._log = Path(f"{self.path}-wal")
        self._known: tuple | None = None  # device and number of the file and of its log
        self._written: tuple[int, int] = (0, 0)  # when the file was written last, and its size
        self._looking = threading.Lock()

    def open(self) -> None:
        """Make the file if there is none, check it, and keep it open.

        Raises
        ------
        StoreError, sqlite3.Error
            If it cannot be made, is damaged, or was made by another version.
        """
        self._own()
        try:
            self._fill()
            self._check()
            keeper = self.connect()  # while one connection is open, the log stays where it is
            weakref.finalize(self, keeper.close)
            keeper.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise StoreError(self.busy() if "locked" in str(error) else self.damaged()) from error
        self._known = self._names()

    def connect(self) -> sqlite3.Connection:
        """Return a connection to the file, which must be there; transactions begin as they are told to."""
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw", uri=True, timeout=WAIT_S, check_same_thread=False
        )
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def look(self) -> None:
        """Raise a `StoreError` unless the file is the one that was opened, and whole."""
        try:
            state = self.path.stat()
            if self._names() != self._known:
                raise StoreError(self.gone())
        except OSError as error:
            raise StoreError(self.gone()) from error
        if (state.st_mtime_ns, state.st_size) == self._written:
            return
        with self._looking:
            try:
                self._check()
            except sqlite3.Error as error:
                raise StoreError(self.busy() if "locked" in str(error) else self.damaged()) from error

    def _own(self) -> None:
        """Make the file, readable by nobody else; its log gets the same mode from SQLite."""
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            if self.path.stat().st_mode & 0o077:
                self.path.chmod(0o600)
        except OSError as error:
            raise StoreError(self.failed(error.strerror or str(error))) from error

    def _fill(self) -> None:
        """Make the tables in an empty file; of several processes that start at once, one does."""
        dialect = sqlite.dialect()
        with closing(self.connect()) as store:
            store.execute("BEGIN IMMEDIATE")
            if not store.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for table in tables.sorted_tables:
                    store.execute(str(CreateTable(table).compile(dialect=dialect)))
                    for index in table.indexes:
                        store.execute(str(CreateIndex(index).compile(dialect=dialect)))
                store.execute(f"PRAGMA user_version={VERSION}")
            store.execute("COMMIT")
            store.execute("PRAGMA journal_mode=WAL")

    def _check(self) -> None:
        """Check the whole file by a connection of its own, which remembers nothing of it."""
        state = self.path.stat()
        with closing(self.connect()) as store:
            if store.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise StoreError(self.damaged())
            if store.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                raise StoreError(self.older())
        self._written = state.st_mtime_ns, state.st_size

    def _names(self) -> tuple:
        """Return which files the names of the file and of its log lead to."""
        found = (self.path.stat(), self._log.stat())
        return tuple((state.st_dev, state.st_ino) for state in found)

    # --- what there is to say -------------------------------------------------------------------------

    def gone(self) -> str:
        """Return what to say of a file that is no longer there."""
        return (
            f"The file of the rooms, {self.path}, was deleted or exchanged while the app was running, so "
            "nothing more is taken. Put it back, with its -wal, or restart the app, which begins anew "
            "without the rooms it held."
        )

    def damaged(self) -> str:
        """Return what to say of a file that cannot be read."""
        return f"The file of the rooms, {self.path}, is damaged, so nothing more is taken. {self._way_out()}"

    def older(self) -> str:
        """Return what to say of a file of another version."""
        return f"The file of the rooms, {self.path}, is of another version of the app. {self._way_out()}"

    def busy(self) -> str:
        """Return what to say while another program holds the file."""
        return f"The file of the rooms, {self.path}, is held by another program. Try again in a moment."

    def crowded(self) -> str:
        """Return what to say while many of this process write."""
        return f"Too many are writing to the file of the rooms, {self.path}. Try again in a moment."

    def failed(self, why: str) -> str:
        """Return what to say where the system refuses something."""
        return (
            f"The file of the rooms, {self.path}, cannot be used: {why}. Let its folder exist, be writable "
            "and have room."
        )

    def _way_out(self) -> str:
        return (
            f"Move it away, with {self.path.name}-wal and {self.path.name}-shm if they are there, and "
            "restart the app, which makes a new one; or put a backup in its place."
        )
