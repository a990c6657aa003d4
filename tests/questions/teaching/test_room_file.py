"""The file of rooms: its owner's alone, durable, and nothing is acknowledged that it does not hold."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sql

from sim_core.questions.teaching.room_file import StoreError
from sim_core.questions.teaching.rooms import Rooms
from tests.databases import sqlite_url

NUMBER = ("01-reading-and-writing", 1)
OLDER = """
CREATE TABLE batchscope_rooms (code VARCHAR(5) PRIMARY KEY, key_hash VARCHAR(64) NOT NULL,
    opened_s DOUBLE NOT NULL, expires_s DOUBLE NOT NULL, lesson VARCHAR(80) NOT NULL, step INTEGER NOT NULL,
    stage VARCHAR(8) NOT NULL, closes_s DOUBLE, view VARCHAR(8000) NOT NULL, hidden BOOLEAN NOT NULL);
CREATE TABLE batchscope_participants (code VARCHAR(5), participant VARCHAR(16), seen_s DOUBLE NOT NULL,
    sent_s DOUBLE NOT NULL, PRIMARY KEY (code, participant));
CREATE TABLE batchscope_predictions (code VARCHAR(5), lesson VARCHAR(80), step INTEGER,
    participant VARCHAR(16), value DOUBLE NOT NULL, PRIMARY KEY (code, lesson, step, participant));
"""


def older(path: Path) -> None:
    """Make a file as the version before made it."""
    with closing(sqlite3.connect(path)) as file:
        file.executescript(OLDER)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rooms.sqlite"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Rooms]]:
    """Yield a function that opens the store; what it opens is closed at the end."""
    engines = []

    def make() -> Rooms:
        engines.append(sql.create_engine(sqlite_url(tmp_path), pool_pre_ping=True))
        return Rooms(engines[-1])

    yield make
    for engine in engines:
        engine.dispose()


def asked(store: Rooms) -> tuple[str, str, str]:
    """Return code and key of a room that asks its first question, and a participant's token."""
    code, key = store.open()
    store.show(code, key, *NUMBER)
    return code, key, store.join(code)


def test_nobody_else_can_read_it(opened: Callable[[], Rooms], file: Path) -> None:
    """Oracle: the mode of the file and its log, whatever the umask, also of one that was open to all."""
    before = os.umask(0)
    try:
        file.touch(0o644)
        opened().open()
    finally:
        os.umask(before)
    found = sorted(file.parent.iterdir())
    assert {path.name for path in found} >= {"rooms.sqlite", "rooms.sqlite-wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}


def test_what_is_committed_is_on_the_disk(opened: Callable[[], Rooms]) -> None:
    """Oracle: SQLite's own answers: FULL (2), of every connection, which waits 2 s for other programs."""
    store = opened()
    connections = [store._engine.connect() for _ in range(3)]
    assert [one.exec_driver_sql("PRAGMA synchronous").scalar() for one in connections] == [2, 2, 2]
    assert [one.exec_driver_sql("PRAGMA busy_timeout").scalar() for one in connections] == [2000] * 3
    assert connections[0].exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    for one in connections:
        one.close()


def test_reading_waits_for_no_writer(
    opened: Callable[[], Rooms], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: another program holds the right to write all the time: pages go on, a prediction is refused."""
    monkeypatch.setattr("sim_core.questions.teaching.room_file.WAIT_S", 0.2)
    store = opened()
    code, key, me = asked(store)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.room(code) == store.attend(code, me)
        assert store.guesses(store.room(code)) == [] and store.here(code) == 1
        assert store.is_host(code, key) and store.guess(store.room(code), me) is None
        with pytest.raises(StoreError, match="held by another program"):
            store.send(code, me, NUMBER, 1.0)
    store.send(code, me, NUMBER, 1.0)


def test_a_crowd_waits_for_its_turn(opened: Callable[[], Rooms], monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: one of the same app writes for three times as long as another program may hold the file."""
    monkeypatch.setattr("sim_core.questions.teaching.room_file.WAIT_S", 0.2)
    store = opened()
    code, _, me = asked(store)
    writes = threading.Event()

    def write_long() -> None:
        with store._database.writing():
            writes.set()
            time.sleep(0.6)

    other = threading.Thread(target=write_long)
    other.start()
    assert writes.wait(10)
    store.send(code, me, NUMBER, 1.0)
    other.join()
    assert store.guesses(store.room(code)) == [1.0]


def test_a_queue_that_stands_still_is_said_to(
    opened: Callable[[], Rooms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: nobody else has the file, so no other program is blamed."""
    monkeypatch.setattr("sim_core.questions.teaching.room_database.TURN_S", 0.1)
    store = opened()
    code, _, me = asked(store)
    with store._database.writing(), pytest.raises(StoreError, match="Too many are writing"):
        store.send(code, me, NUMBER, 1.0)


def deleted(file: Path) -> None:
    file.unlink()


def exchanged(file: Path) -> None:
    """Put a copy in its place."""
    shutil.copy(file, f"{file}.copy")
    Path(f"{file}.copy").replace(file)


def without_log(file: Path) -> None:
    Path(f"{file}-wal").unlink()


def overwritten(file: Path) -> None:
    file.write_bytes(b"no database " * 1000)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 5000)


def scratched(file: Path) -> None:
    """Write nonsense over all but its beginning."""
    size = file.stat().st_size
    with file.open("r+b") as content:
        content.seek(4096)
        content.write(b"\xff" * (size - 4096))


def made_older(file: Path) -> None:
    """Write a file of the version before over it, as `cp` does."""
    older(file.parent / "older")
    file.write_bytes((file.parent / "older").read_bytes())
    Path(f"{file}-wal").write_bytes(b"")


@pytest.mark.parametrize(
    "harm", [deleted, exchanged, without_log, overwritten, emptied, cut_off, scratched, made_older]
)
def test_what_happens_to_it_while_it_runs(
    harm: Callable[[Path], None], opened: Callable[[], Rooms], file: Path
) -> None:
    """Oracle: nothing is acknowledged any more, not once; the message names the file and the way out."""
    store = opened()
    code, key, me = asked(store)
    harm(file)
    for act in (
        lambda: store.send(code, me, NUMBER, 1.0),
        lambda: store.show(code, key, *NUMBER, "reveal"),
        lambda: store.join(code),
        store.open,
        lambda: store.room(code),
        lambda: store.send(code, me, NUMBER, 1.0),
    ):
        with pytest.raises(StoreError) as caught:
            act()
        assert str(file) in str(caught.value)
        assert re.search(r"Put it back|Move it away", str(caught.value))


def test_what_is_deleted_during_a_transaction(opened: Callable[[], Rooms], file: Path) -> None:
    """Oracle: the prediction is written, then the file vanishes before it is acknowledged."""
    store = opened()
    code, _, me = asked(store)
    sql.event.listen(store._engine, "commit", lambda _: file.exists() and file.unlink())
    with pytest.raises(StoreError, match="deleted or exchanged"):
        store.send(code, me, NUMBER, 1.0)


def test_it_is_put_back(opened: Callable[[], Rooms], file: Path) -> None:
    """Oracle: moved away, everything is refused; moved back, everything is there."""
    store = opened()
    code, _, me = asked(store)
    store.send(code, me, NUMBER, 1.0)
    file.rename(f"{file}.away")
    with pytest.raises(StoreError):
        store.guesses(store.room(code))
    Path(f"{file}.away").rename(file)
    assert store.guesses(store.room(code)) == [1.0]


def test_a_file_of_another_version(opened: Callable[[], Rooms], file: Path) -> None:
    """Oracle: it is refused, and left as it is; without it the store begins anew."""
    older(file)
    before = file.read_bytes()
    with pytest.raises(StoreError, match=r"another version.*Move it away"):
        opened()
    with closing(sqlite3.connect(file)) as kept:
        assert kept.execute("SELECT count(*) FROM sqlite_master WHERE type='table'").fetchone() == (3,)
    assert len(before) == file.stat().st_size
    file.unlink()
    assert opened().open().code


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\x00" + b"\xff" * 5000], ids=range(2))
def test_a_file_that_is_none(content: bytes, opened: Callable[[], Rooms], file: Path) -> None:
    """Oracle: it is refused, and left as it is."""
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged.*Move it away"):
        opened()
    assert file.read_bytes() == content


def test_a_large_store_is_still_checked_quickly(opened: Callable[[], Rooms], file: Path) -> None:
    """Oracle: SQLite writes its log back by itself after some 1,000 pages; that is no harm."""
    store = opened()
    code, _, me = asked(store)
    with closing(sqlite3.connect(file)) as other:
        for _ in range(3):
            assert other.execute("PRAGMA wal_checkpoint(FULL)").fetchone()[0] == 0
            store.attend(code, me)
    store.send(code, me, NUMBER, 2.0)
    assert store.guesses(store.room(code)) == [2.0]
