"""Rooms: what a workshop is asked, and what it predicts.

A room has a code, which is read aloud, and a key, which only its host has. It shows one step of a lesson at a
time; each participant sends one prediction and may change it until the host reveals the truth or the time is
up. Nobody has a name: a participant is a random word of their own browser, a prediction is a number. A room
ends by itself, and takes all it holds with it when it ends or is deleted.

The store is SQLite or PostgreSQL. Every public method is one transaction, so several threads and several
processes may share a store.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import sqlite3
import time
from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from sim_core import catalogue
from sim_core.catalogue.lessons import LessonStep
from sim_core.fields.errors import ScenarioError, shown

LIFETIME_S = 8 * 3600.0
MOST_ROOMS = 200
MOST_OPENED_PER_MIN = 20  # by all hosts together
MOST_PARTICIPANTS = 200  # of one room
PAUSE_S = 0.5  # between two predictions of one participant
HERE_S = 15.0  # a participant who has been seen within so long is here
GONE_S = 300.0  # who has not, for so long, and has predicted nothing, makes room for others
MOST_COUNTDOWN_S = 3600
MOST_VIEW_CHARACTERS = 8_000
MOST_VALUE = 1e9
STAGES = ("ask", "reveal", "look")
LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ"  # none that is mistaken for another, or for a digit
CODE_LENGTH = 5
_CODE = re.compile(f"[{LETTERS}]{{{CODE_LENGTH}}}", re.ASCII)
_PARTICIPANT = re.compile(r"[0-9a-f]{16}", re.ASCII)

_tables = sql.MetaData()
_ROOMS = sql.Table(
    "batchscope_rooms",
    _tables,
    sql.Column("code", sql.String(CODE_LENGTH), primary_key=True),
    sql.Column("key_hash", sql.String(64), nullable=False),
    sql.Column("opened_s", sql.Double, nullable=False, index=True),
    sql.Column("expires_s", sql.Double, nullable=False, index=True),
    sql.Column("lesson", sql.String(80), nullable=False),
    sql.Column("step", sql.Integer, nullable=False),
    sql.Column("stage", sql.String(8), nullable=False),
    sql.Column("closes_s", sql.Double),
    sql.Column("view", sql.String(MOST_VIEW_CHARACTERS), nullable=False),
    sql.Column("hidden", sql.Boolean, nullable=False),
)


def _of_a_room() -> sql.Column:
    owner = sql.ForeignKey(_ROOMS.c.code, ondelete="CASCADE")
    return sql.Column("code", sql.String(CODE_LENGTH), owner, primary_key=True)


_PEOPLE = sql.Table(
    "batchscope_participants",
    _tables,
    _of_a_room(),
    sql.Column("participant", sql.String(16), primary_key=True),
    sql.Column("seen_s", sql.Double, nullable=False),
    sql.Column("sent_s", sql.Double, nullable=False),
)
_GUESSES = sql.Table(
    "batchscope_predictions",
    _tables,
    _of_a_room(),
    sql.Column("lesson", sql.String(80), primary_key=True),
    sql.Column("step", sql.Integer, primary_key=True),
    sql.Column("participant", sql.String(16), primary_key=True),
    sql.Column("value", sql.Double, nullable=False),
)


Insert = Callable[[sql.Table], sqlite.Insert | postgresql.Insert]
_INSERTS: dict[str, Insert] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class RoomError(ScenarioError):
    """Something that a room does not take; the message says what, and the way out."""


class Room(NamedTuple):
    """What a room shows.

    Attributes
    ----------
    code : str
    lesson : str
        Id of a lesson.
    step : int
        Number of its step, from 1.
    stage : str
        One of `STAGES`: predictions are taken, the truth is revealed, the whole curve is shown.
    closes_s : float or None
        When predictions are taken no more, as the store's clock says. [s]
    view : str
        A page of the app that the host shows: its title, a question mark, the query of a link; "" for none.
    hidden : bool
        Whether predictions are to be seen only once they are revealed.
    """

    code: str
    lesson: str
    step: int
    stage: str
    closes_s: float | None
    view: str
    hidden: bool

    @property
    def question(self) -> LessonStep:
        """The step that the room shows."""
        return catalogue.lesson(self.lesson).steps[self.step - 1]

    def takes(self, now_s: float) -> bool:
        """Return whether predictions are taken at a time."""
        return self.stage == "ask" and (self.closes_s is None or now_s < self.closes_s)


class Opened(NamedTuple):
    """A room that has just been opened: its code, and the key that only its host gets."""

    code: str
    key: str


def new_participant() -> str:
    """Return a word for one more participant, which says nothing about them."""
    return secrets.token_hex(8)


def read_code(text: str) -> str:
    """Return a code as people type it: small letters and blanks do not matter.

    Raises
    ------
    RoomError
        If it cannot be a code.
    """
    code = re.sub(r"[\s-]", "", text[:40]).upper()
    if not _CODE.fullmatch(code):
        raise RoomError(f"{shown(text)} is no room code. A code has {CODE_LENGTH} letters, such as KWMTA.")
    return code


def check_guess(step: LessonStep, value: float) -> float:
    """Return a prediction as it is kept: the number of a choice, or a figure in the measure's unit.

    Raises
    ------
    RoomError
        If the step has no such choice, or the figure is out of range.
    """
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RoomError(f"A prediction is a number, not {shown(str(value))}.")
    if step.choices and value not in range(len(step.choices)):
        raise RoomError(f"There is no choice {value:g}: there are {len(step.choices)}.")
    if not 0 <= value <= MOST_VALUE:
        raise RoomError(f"A prediction lies between 0 and {MOST_VALUE:,.0f}, not at {value:g}.")
    return float(value)


class Rooms:
    """The store.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    clock : callable
        Returns the time; that of all processes that share a store should agree within a second. [s]

    Raises
    ------
    RoomError
        If the database is of another kind.
    sqlalchemy.exc.SQLAlchemyError
        If it does not answer; from every method, too.
    """

    def __init__(self, engine: sql.Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self.now_s, kind = engine, clock, engine.dialect.name
        if kind not in _INSERTS:
            raise RoomError(f"Rooms are kept in SQLite or PostgreSQL, not in {kind}.")
        if kind == "sqlite":
            _prepare_sqlite(engine)
        self._insert = _INSERTS[kind]
        _create(engine)
        self.end_old()

    # --- for everybody ----------------------------------------------------------------------------

    def room(self, code: str) -> Room:
        """Return what a room shows.

        Raises
        ------
        RoomError
            If there is no such room, or no longer.
        """
        with self._engine.begin() as store:
            return self._room(store, code)

    def guesses(self, room: Room) -> list[float]:
        """Return all predictions for what a room shows, in order of size."""
        with self._engine.begin() as store:
            found = sql.select(_GUESSES.c.value).where(*_asked(room)).order_by(_GUESSES.c.value)
            return list(store.scalars(found))

    def guess(self, room: Room, participant: str) -> float | None:
        """Return what a participant predicted for what a room shows, if anything."""
        with self._engine.begin() as store:
            found = sql.select(_GUESSES.c.value).where(*_asked(room), _GUESSES.c.participant == participant)
            return store.scalar(found)

    def here(self, code: str) -> int:
        """Return how many participants are in a room now."""
        with self._engine.begin() as store:
            here = sql.select(sql.func.count()).select_from(_PEOPLE)
            return _count(store, here.where(_PEOPLE.c.code == code, _PEOPLE.c.seen_s > self.now_s() - HERE_S))

    # --- for participants -------------------------------------------------------------------------

    def attend(self, code: str, participant: str) -> Room:
        """Note that a participant is here, and return what the room shows.

        Raises
        ------
        RoomError
            If there is no such room, or it is full.
        """
        _check_participant(participant)
        with self._engine.begin() as store:
            room = self._room(store, code)
            seen_s = store.scalar(sql.select(_PEOPLE.c.seen_s).where(*_person(code, participant)))
            if seen_s is None:
                self._room(store, code, lock=True)
                self._admit(store, code, participant)
            elif seen_s < self.now_s() - HERE_S / 3:
                store.execute(
                    sql.update(_PEOPLE).where(*_person(code, participant)).values(seen_s=self.now_s())
                )
            return room

    def send(self, code: str, participant: str, asked: tuple[str, int], value: float) -> None:
        """Take a participant's prediction; a later one replaces it.

        Parameters
        ----------
        code, participant : str
        asked : tuple
            Lesson and step that the participant saw.
        value : float
            The number of a choice, or a figure in the measure's unit.

        Raises
        ------
        RoomError
            If the room shows something else by now, takes no predictions any more or is full, if the value
            makes no sense, or if the participant's last one came a moment ago.
        """
        _check_participant(participant)
        with self._engine.begin() as store:
            room = self._room(store, code, lock=True)
            if (room.lesson, room.step) != asked:
                raise RoomError("The room has moved on to another question.")
            if not room.takes(self.now_s()):
                raise RoomError("Predictions are closed for this question.")
            value = check_guess(room.question, value)
            sent_s = store.scalar(sql.select(_PEOPLE.c.sent_s).where(*_person(code, participant)))
            if sent_s is None:
                self._admit(store, code, participant)
            elif self.now_s() - sent_s < PAUSE_S:
                raise RoomError("That was quick. Send it again in a second.")
            now_s = self.now_s()
            store.execute(
                sql.update(_PEOPLE).where(*_person(code, participant)).values(seen_s=now_s, sent_s=now_s)
            )
            row = {"code": code, "lesson": room.lesson, "step": room.step, "participant": participant}
            insert = self._insert(_GUESSES).values(**row, value=value)
            store.execute(insert.on_conflict_do_update(index_elements=list(row), set_={"value": value}))

    def _admit(self, store: sql.Connection, code: str, participant: str) -> None:
        """Add a participant to a locked room, unless it is full."""
        count = sql.select(sql.func.count()).select_from(_PEOPLE).where(_PEOPLE.c.code == code)
        if _count(store, count) >= MOST_PARTICIPANTS:
            self._forget_the_gone(store, code)
        if _count(store, count) >= MOST_PARTICIPANTS:
            raise RoomError(
                f"The room is full: it has {MOST_PARTICIPANTS} participants. Follow on the projector."
            )
        row = {"code": code, "participant": participant, "seen_s": self.now_s(), "sent_s": 0.0}
        store.execute(self._insert(_PEOPLE).values(**row).on_conflict_do_nothing())

    def _forget_the_gone(self, store: sql.Connection, code: str) -> None:
        """Forget participants who left long ago without a prediction."""
        predicted = sql.select(_GUESSES.c.participant).where(_GUESSES.c.code == code)
        store.execute(
            sql.delete(_PEOPLE).where(
                _PEOPLE.c.code == code,
                _PEOPLE.c.seen_s < self.now_s() - GONE_S,
                _PEOPLE.c.participant.not_in(predicted),
            )
        )

    # --- for hosts --------------------------------------------------------------------------------

    def open(self) -> Opened:
        """Open a room at the first step of the first lesson.

        Raises
        ------
        RoomError
            If there are too many rooms already.
        """
        self.end_old()
        opened = Opened("".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH)), secrets.token_hex(16))
        now_s = self.now_s()
        with self._engine.begin() as store:
            count = sql.select(sql.func.count()).select_from(_ROOMS)
            if _count(store, count) >= MOST_ROOMS:
                raise RoomError(
                    f"There are {MOST_ROOMS} rooms already. Old ones end by themselves; try later."
                )
            if _count(store, count.where(_ROOMS.c.opened_s > now_s - 60)) >= MOST_OPENED_PER_MIN:
                raise RoomError("Too many rooms were opened in the last minute. Try again in a minute.")
            store.execute(
                sql.insert(_ROOMS).values(
                    code=opened.code,
                    key_hash=_hash(opened.key),
                    opened_s=now_s,
                    expires_s=now_s + LIFETIME_S,
                    lesson=next(iter(catalogue.lessons())),
                    step=1,
                    stage="ask",
                    closes_s=None,
                    view="",
                    hidden=False,
                )
            )
        return opened

    def is_host(self, code: str, key: str) -> bool:
        """Return whether a key is that of a room's host."""
        with self._engine.begin() as store:
            kept = store.scalar(sql.select(_ROOMS.c.key_hash).where(_ROOMS.c.code == code))
        return kept is not None and secrets.compare_digest(kept, _hash(key))

    def show(self, code: str, key: str, lesson: str, step: int, stage: str = "ask") -> None:
        """Show a step of a lesson to the room; its countdown ends.

        Raises
        ------
        RoomError
            If there is no such step, or the key is not the host's.
        """
        if lesson not in catalogue.lessons() or not 1 <= step <= len(catalogue.lesson(lesson).steps):
            raise RoomError(f"There is no step {step} of a lesson {shown(lesson)}.")
        if stage not in STAGES:
            raise RoomError(f"A room has no stage {shown(stage)}.")
        self._change(code, key, lesson=lesson, step=step, stage=stage, closes_s=None)

    def count_down(self, code: str, key: str, seconds: float) -> None:
        """Close the predictions after some seconds."""
        left_s = min(max(float(seconds), 0.0), MOST_COUNTDOWN_S)
        self._change(code, key, closes_s=self.now_s() + left_s)

    def show_view(self, code: str, key: str, view: str) -> None:
        """Show a page of the app, given as path and query of a link, beside the question; "" ends it."""
        if len(view) > MOST_VIEW_CHARACTERS:
            raise RoomError(f"This view's link has {len(view):,} characters; {MOST_VIEW_CHARACTERS:,} fit.")
        self._change(code, key, view=view)

    def hide(self, code: str, key: str, hidden: bool) -> None:
        """Show predictions only once they are revealed, or as they come."""
        self._change(code, key, hidden=hidden)

    def delete(self, code: str, key: str) -> None:
        """Delete a room with all it holds."""
        with self._engine.begin() as store:
            store.execute(sql.delete(_ROOMS).where(_ROOMS.c.code == code, _ROOMS.c.key_hash == _hash(key)))

    def end_old(self) -> None:
        """Delete the rooms whose time is over."""
        with self._engine.begin() as store:
            store.execute(sql.delete(_ROOMS).where(_ROOMS.c.expires_s < self.now_s()))

    def _change(self, code: str, key: str, **values: object) -> None:
        with self._engine.begin() as store:
            found = store.execute(
                sql.update(_ROOMS)
                .where(_ROOMS.c.code == code, _ROOMS.c.key_hash == _hash(key))
                .values(**values)
            )
            if not found.rowcount:
                raise RoomError("Only the host can do that, and only while the room is open.")

    def _room(self, store: sql.Connection, code: str, lock: bool = False) -> Room:
        """Return a room; with `lock`, others wait to change it until the transaction ends."""
        wanted = sql.select(*(_ROOMS.c[name] for name in Room._fields)).where(
            _ROOMS.c.code == code, _ROOMS.c.expires_s > self.now_s()
        )
        row = store.execute(wanted.with_for_update() if lock else wanted).first()
        if row is None:
            raise RoomError(f"There is no room {shown(code)}. Rooms end after {LIFETIME_S / 3600:g} hours.")
        return Room(*row)


def _person(code: str, participant: str) -> tuple:
    return _PEOPLE.c.code == code, _PEOPLE.c.participant == participant


def _asked(room: Room) -> tuple:
    return _GUESSES.c.code == room.code, _GUESSES.c.lesson == room.lesson, _GUESSES.c.step == room.step


def _check_participant(participant: str) -> None:
    """Raise a `RoomError` if this is no participant's word."""
    if not _PARTICIPANT.fullmatch(participant):
        raise RoomError("This link belongs to no participant. Join the room by its code.")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _count(store: sql.Connection, count: sql.Select) -> int:
    return store.scalar(count) or 0


def _create(engine: sql.Engine) -> None:
    """Create the tables; of several processes that start at once, one does."""
    try:
        _tables.create_all(engine)
    except sql.exc.SQLAlchemyError:  # another process was quicker: then they are there
        _tables.create_all(engine)


def _prepare_sqlite(engine: sql.Engine) -> None:
    """Make SQLite wait for others instead of failing, and delete with a room what belongs to it.

    A transaction takes the right to write when it begins: one that reads first and writes then could not get
    it if another came between.
    """

    @sql.event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions itself, below
        for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sql.event.listens_for(engine, "begin")
    def begun(connection: sql.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
