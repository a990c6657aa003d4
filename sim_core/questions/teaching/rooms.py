"""Rooms: what a workshop is asked, and what it predicts.

A room has a code, which is read aloud, and a key, which only its host has. It begins with a lobby, then shows
one step of a lesson at a time; each participant sends one prediction and may change it until the host reveals
the truth or the time is up. Nobody has a name: a participant is a random word of their own browser, signed by
the room (`room.py`), a prediction is a number. A room ends by itself, sooner if nobody is there, and takes
all it holds with it when it ends or is deleted.

The store is SQLite or PostgreSQL. Every public method that changes something does so in one transaction, so
several threads and several processes may share a store; the others only read.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

import sqlalchemy as sql

from sim_core import catalogue
from sim_core.fields.errors import shown
from sim_core.questions.teaching.room import (
    LOBBY,
    STAGES,
    NotNow,
    Opened,
    Prediction,
    Room,
    RoomError,
    check_guess,
    new_code,
    new_token,
    participant_of,
)
from sim_core.questions.teaching.room_database import RoomDatabase
from sim_core.questions.teaching.room_tables import GUESSES, MOST_VIEW_CHARACTERS, PEOPLE, ROOMS

LIFETIME_S = 8 * 3600.0
EMPTY_S = 900.0  # a room in which nobody has been for so long ends
MOST_ROOMS = 200
MOST_OPENED_PER_MIN = 20  # by all hosts together
MOST_PARTICIPANTS = 200  # of one room
MOST_JOINS, JOINS_WITHIN_S = 100, 10.0  # of one room
PAUSE_S = 0.5  # between two predictions of one participant
HERE_S = 15.0  # a participant who has been seen within so long is here
GONE_S = 30.0  # who has not, for so long, and has predicted nothing, makes room for others
MOST_COUNTDOWN_S = 3600


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
        If it does not answer, or does not hold what it should; from every method, too.
    """

    def __init__(self, engine: sql.Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self.now_s = engine, clock
        self._database = RoomDatabase(engine)
        self.end_old()

    # --- for everybody ----------------------------------------------------------------------------

    def room(self, code: str) -> Room:
        """Return what a room shows.

        Raises
        ------
        RoomError
            If there is no such room, or no longer.
        """
        with self._database.reading() as store:
            return self._room(store, code)[0]

    def guesses(self, room: Room) -> list[float]:
        """Return all predictions for what a room shows, in order of size."""
        with self._database.reading() as store:
            found = sql.select(GUESSES.c.value).where(*_asked(room)).order_by(GUESSES.c.value)
            return list(store.scalars(found))

    def here(self, code: str) -> int:
        """Return how many participants are in a room now."""
        with self._database.reading() as store:
            here = sql.select(sql.func.count()).select_from(PEOPLE)
            return _count(store, here.where(PEOPLE.c.code == code, PEOPLE.c.seen_s > self.now_s() - HERE_S))

    # --- for participants -------------------------------------------------------------------------

    def join(self, code: str) -> str:
        """Let one more participant in, and return the token by which the room knows them from now on.

        Raises
        ------
        NotNow
            If the room is locked or full, or too many are joining.
        RoomError
            If there is no such room.
        """
        with self._database.reading() as store:
            token = new_token(self._room(store, code)[1])
        self.attend(code, token)
        return token

    def knows(self, code: str, token: str) -> bool:
        """Return whether a token is one that the room has made."""
        with self._database.reading() as store:
            _, secret = self._room(store, code)
        try:
            return bool(participant_of(secret, token))
        except RoomError:
            return False

    def attend(self, code: str, token: str) -> Room:
        """Note that a participant is here, and return what the room shows.

        Raises
        ------
        NotNow
            If the room has forgotten the participant, and is locked or full by now.
        RoomError
            If there is no such room, or it has not made the token.
        """
        with self._database.reading() as store:
            room, secret = self._room(store, code)
            participant = participant_of(secret, token)
            seen_s = store.scalar(sql.select(PEOPLE.c.seen_s).where(*_person(code, participant)))
            if seen_s is None:
                self._check_place(store, room)
        if seen_s is None or seen_s < self.now_s() - HERE_S / 3:
            with self._database.writing() as store:
                room, _ = self._room(store, code, lock=seen_s is None)
                self._note(store, room, participant)
        return room

    def guess(self, room: Room, token: str) -> float | None:
        """Return what a participant predicted for what a room shows, if anything."""
        with self._database.reading() as store:
            participant = participant_of(self._room(store, room.code)[1], token)
            found = sql.select(GUESSES.c.value).where(*_asked(room), GUESSES.c.participant == participant)
            return store.scalar(found)

    def send(self, code: str, token: str, asked: tuple[str, int], value: float) -> None:
        """Take a participant's prediction; a later one replaces it.

        Parameters
        ----------
        code, token : str
        asked : tuple
            Lesson and step that the participant saw.
        value : float
            The number of a choice, or a figure in the measure's unit.

        Raises
        ------
        RoomError
            If the room shows something else by now, takes no predictions or nobody new, if the value makes no
            sense, or if the participant's last one came a moment ago.
        """
        with self._database.writing() as store:
            room, secret = self._room(store, code, lock=True)
            participant = participant_of(secret, token)
            if room.stage == LOBBY:
                raise RoomError("The host has not asked the first question yet.")
            if (room.lesson, room.step) != asked:
                raise RoomError("The room has moved on to another question.")
            if not room.takes(self.now_s()):
                raise RoomError("Predictions are closed for this question.")
            value = check_guess(room.question, value)
            person = _person(code, participant)
            sent_s = store.scalar(sql.select(PEOPLE.c.sent_s).where(*person)) or 0.0
            if self.now_s() - sent_s < PAUSE_S:
                raise RoomError("That was quick. Send it again in a second.")
            self._note(store, room, participant)
            store.execute(sql.update(PEOPLE).where(*person).values(sent_s=self.now_s()))
            row = {"code": code, "lesson": room.lesson, "step": room.step, "participant": participant}
            insert = self._database.insert(GUESSES).values(**row, value=value)
            store.execute(insert.on_conflict_do_update(index_elements=list(row), set_={"value": value}))

    def _note(self, store: sql.Connection, room: Room, participant: str) -> None:
        """Note that a participant is here; let them in if they are new, for which the room must be locked."""
        now_s, person = self.now_s(), _person(room.code, participant)
        if not store.execute(sql.update(PEOPLE).where(*person).values(seen_s=now_s)).rowcount:
            if _count(store, _people(room.code)) >= MOST_PARTICIPANTS:
                self._forget_the_gone(store, room.code)
            self._check_place(store, room)
            row = {"code": room.code, "participant": participant, "joined_s": now_s, "seen_s": now_s}
            store.execute(sql.insert(PEOPLE).values(**row, sent_s=0.0))
        self._keep(store, room.code)

    def _check_place(self, store: sql.Connection, room: Room) -> None:
        """Raise `NotNow` unless a room lets in one more, or will once it has forgotten who is gone."""
        if room.locked:
            raise NotNow("The room is locked: its host lets nobody new in. Follow on the projector.")
        people = _people(room.code)
        if _count(store, people.where(PEOPLE.c.joined_s > self.now_s() - JOINS_WITHIN_S)) >= MOST_JOINS:
            raise NotNow("Many are joining at the same time.")
        if _count(store, people.where(sql.not_(self._gone(room.code)))) >= MOST_PARTICIPANTS:
            raise NotNow(
                f"The room is full: it has {MOST_PARTICIPANTS} participants. Follow on the projector."
            )

    def _gone(self, code: str) -> sql.ColumnElement[bool]:
        """Return who left a while ago without a prediction."""
        return sql.and_(PEOPLE.c.seen_s < self.now_s() - GONE_S, _silent(code))

    def _forget_the_gone(self, store: sql.Connection, code: str) -> None:
        store.execute(sql.delete(PEOPLE).where(PEOPLE.c.code == code, self._gone(code)))

    # --- for hosts --------------------------------------------------------------------------------

    def open(self) -> Opened:
        """Open a room: its lobby, before the first step of the first lesson.

        Raises
        ------
        RoomError
            If there are too many rooms already.
        """
        self.end_old()
        opened, now_s = Opened(new_code(), secrets.token_hex(16)), self.now_s()
        first = {"lesson": next(iter(catalogue.lessons())), "step": 1, "stage": LOBBY, "closes_s": None}
        times = {"opened_s": now_s, "active_s": now_s, "expires_s": now_s + LIFETIME_S}
        with self._database.writing() as store:
            count = sql.select(sql.func.count()).select_from(ROOMS)
            if _count(store, count) >= MOST_ROOMS:
                raise RoomError(
                    f"There are {MOST_ROOMS} rooms already. Old ones end by themselves; try later."
                )
            if _count(store, count.where(ROOMS.c.opened_s > now_s - 60)) >= MOST_OPENED_PER_MIN:
                raise RoomError("Too many rooms were opened in the last minute. Try again in a minute.")
            who = {"code": opened.code, "key_hash": _hash(opened.key), "secret": secrets.token_hex(32)}
            new = {**who, **first, **times, "view": "", "hidden": False, "locked": False}
            store.execute(sql.insert(ROOMS).values(new))
        return opened

    def is_host(self, code: str, key: str) -> bool:
        """Return whether a key is that of a room's host."""
        with self._database.reading() as store:
            kept = store.scalar(sql.select(ROOMS.c.key_hash).where(ROOMS.c.code == code))
        return kept is not None and secrets.compare_digest(kept, _hash(key))

    def keep_open(self, code: str, key: str) -> None:
        """Note that the host is here: the room is not empty."""
        with self._database.reading() as store:
            self._check_host(store, code, key)
            kept = sql.select(ROOMS.c.active_s).where(ROOMS.c.code == code)
            if (store.scalar(kept) or 0.0) > self.now_s() - EMPTY_S / 15:
                return
        with self._database.writing() as store:
            self._keep(store, code)

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

    def lock(self, code: str, key: str, locked: bool) -> None:
        """Let nobody new in, or let them in again; who is in stays in."""
        self._change(code, key, locked=locked)

    def clear(self, code: str, key: str) -> int:
        """Forget who never predicted anything, and return how many; a locked room does not let them back in.

        Raises
        ------
        RoomError
            If nobody has predicted anything, so that all would have to go, or the key is not the host's.
        """
        with self._database.writing() as store:
            self._check_host(store, code, key)
            predictions = sql.select(sql.func.count()).select_from(GUESSES).where(GUESSES.c.code == code)
            if not _count(store, predictions):
                raise RoomError("Nobody has predicted anything yet. Ask a question first, then clear.")
            return store.execute(sql.delete(PEOPLE).where(PEOPLE.c.code == code, _silent(code))).rowcount

    def results(self, code: str, key: str) -> list[Prediction]:
        """Return all predictions of a room, in the order of the lessons and of the participants."""
        number = sql.func.row_number().over(order_by=(PEOPLE.c.joined_s, PEOPLE.c.participant))
        people = sql.select(PEOPLE.c.participant, number.label("number")).where(PEOPLE.c.code == code)
        who = people.subquery()
        wanted = (
            sql.select(GUESSES.c.lesson, GUESSES.c.step, who.c.number, GUESSES.c.value)
            .join(who, who.c.participant == GUESSES.c.participant)
            .where(GUESSES.c.code == code)
            .order_by(GUESSES.c.lesson, GUESSES.c.step, who.c.number)
        )
        with self._database.reading() as store:
            self._check_host(store, code, key)
            return [Prediction(*row) for row in store.execute(wanted)]

    def delete(self, code: str, key: str) -> None:
        """Delete a room with all it holds."""
        with self._database.writing() as store:
            store.execute(sql.delete(ROOMS).where(*_hosted(code, key)))

    def end_old(self) -> None:
        """Delete the rooms whose time is over."""
        with self._database.writing() as store:
            store.execute(sql.delete(ROOMS).where(sql.not_(self._lives())))

    def _change(self, code: str, key: str, **values: object) -> None:
        with self._database.writing() as store:
            found = store.execute(
                sql.update(ROOMS).where(*_hosted(code, key)).values(**values, active_s=self.now_s())
            )
            if not found.rowcount:
                raise RoomError(_NOT_THE_HOST)

    def _keep(self, store: sql.Connection, code: str) -> None:
        """Note that somebody is in a room."""
        store.execute(sql.update(ROOMS).where(ROOMS.c.code == code).values(active_s=self.now_s()))

    def _check_host(self, store: sql.Connection, code: str, key: str) -> None:
        if store.scalar(sql.select(ROOMS.c.code).where(*_hosted(code, key), self._lives())) is None:
            raise RoomError(_NOT_THE_HOST)

    def _lives(self) -> sql.ColumnElement[bool]:
        """Return which rooms have neither reached their end nor been left by everybody."""
        now_s = self.now_s()
        return sql.and_(ROOMS.c.expires_s > now_s, ROOMS.c.active_s > now_s - EMPTY_S)

    def _room(self, store: sql.Connection, code: str, lock: bool = False) -> tuple[Room, str]:
        """Return a room and its secret; with `lock`, others wait to change it until the transaction ends."""
        wanted = sql.select(ROOMS.c.secret, *(ROOMS.c[name] for name in Room._fields)).where(
            ROOMS.c.code == code, self._lives()
        )
        row = store.execute(wanted.with_for_update() if lock else wanted).first()
        if row is None:
            raise RoomError(
                f"There is no room {shown(code)}. Rooms end after {LIFETIME_S / 3600:g} hours, and after "
                f"{EMPTY_S / 60:g} minutes in which nobody is there."
            )
        secret, *values = row
        return Room(*values), secret


_NOT_THE_HOST = "Only the host can do that, and only while the room is open."


def _person(code: str, participant: str) -> tuple:
    return PEOPLE.c.code == code, PEOPLE.c.participant == participant


def _people(code: str) -> sql.Select:
    return sql.select(sql.func.count()).select_from(PEOPLE).where(PEOPLE.c.code == code)


def _silent(code: str) -> sql.ColumnElement[bool]:
    """Return who has predicted nothing in a room."""
    return PEOPLE.c.participant.not_in(sql.select(GUESSES.c.participant).where(GUESSES.c.code == code))


def _asked(room: Room) -> tuple:
    return GUESSES.c.code == room.code, GUESSES.c.lesson == room.lesson, GUESSES.c.step == room.step


def _hosted(code: str, key: str) -> tuple:
    return ROOMS.c.code == code, ROOMS.c.key_hash == _hash(key)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _count(store: sql.Connection, count: sql.Select) -> int:
    return store.scalar(count) or 0
