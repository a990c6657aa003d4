"""Rooms: nothing is lost or counted twice, nothing foreign comes in, and nothing stays behind."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sql

from sim_core import catalogue
from sim_core.questions.teaching import rate_limits, room, rooms
from sim_core.questions.teaching.rate_limits import RateLimit, RateLimits
from sim_core.questions.teaching.room import LOBBY, NotNow, Room, RoomError, new_token, read_code, too_few
from sim_core.questions.teaching.room_file import StoreError
from sim_core.questions.teaching.room_tables import tables
from sim_core.questions.teaching.rooms import MOST_PARTICIPANTS, PAUSE_S, Rooms
from tests.databases import postgres_url, sqlite_url
from tests.places import ROOT

NUMBER = ("01-reading-and-writing", 1)  # a step that asks for a number
CHOICE = ("01-reading-and-writing", 2)  # and one with choices
THREADS = 50


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1e9

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Yield the address of a server of one's own."""
    with postgres_url() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the address of an empty database of either kind."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path)
        return
    url = request.getfixturevalue("postgres")
    yield url
    engine = sql.create_engine(url)
    tables.drop_all(engine)
    engine.dispose()


@pytest.fixture
def opened(url: str) -> Iterator[Callable[..., Rooms]]:
    """Yield a function that opens the store; what it opens is closed at the end."""
    engines = []

    def make(clock: Callable[[], float]) -> Rooms:
        engines.append(sql.create_engine(url))
        return Rooms(engines[-1], clock)

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(opened: Callable[..., Rooms], clock: Clock) -> Rooms:
    return opened(clock)


def rows(store: Rooms) -> int:
    """Return how many rows the store holds, of whatever kind."""
    with store._engine.begin() as connection:
        return sum(
            connection.scalar(sql.select(sql.func.count()).select_from(table))
            for table in tables.sorted_tables
        )


def begun(store: Rooms) -> tuple[str, str]:
    """Return code and key of a room whose first question has been asked."""
    code, key = store.open()
    store.show(code, key, *NUMBER)
    return code, key


def at_once(work: Callable[[int], None], count: int = THREADS) -> list[BaseException]:
    """Let threads start together, and return what went wrong in any."""
    gate, errors = threading.Barrier(count), []

    def run(number: int) -> None:
        try:
            gate.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


# --- one room -------------------------------------------------------------------------------------


def test_a_room_from_beginning_to_end(store: Rooms) -> None:
    """By hand: predict, change one's mind, reveal, go on, delete."""
    code, key = store.open()
    assert store.room(code) == Room(code, *NUMBER, LOBBY, None, "", False)
    one = store.join(code)
    assert store.here(code) == 1
    other = store.join(code)
    with pytest.raises(RoomError, match="not asked"):
        store.send(code, one, NUMBER, 10.0)
    store.show(code, key, *NUMBER)
    store.send(code, one, NUMBER, 10.0)
    store.send(code, other, NUMBER, 30.0)
    assert store.guesses(store.room(code)) == [10.0, 30.0]
    assert store.guess(store.room(code), one) == 10.0
    assert store.here(code) == 2
    store.show(code, key, *NUMBER, "reveal")
    with pytest.raises(RoomError, match="closed"):
        store.send(code, one, NUMBER, 20.0)
    store.show(code, key, *CHOICE)
    with pytest.raises(RoomError, match="moved on"):
        store.send(code, other, NUMBER, 20.0)
    assert store.guesses(store.room(code)) == []
    store.show(code, key, *NUMBER)  # back: what was predicted is still there
    assert store.guesses(store.room(code)) == [10.0, 30.0]
    store.delete(code, key)
    assert rows(store) == 0
    with pytest.raises(RoomError, match=f"no room '{code}'"):
        store.room(code)


def test_a_mind_may_be_changed_but_not_too_often(store: Rooms, clock: Clock) -> None:
    """By hand: the second prediction replaces the first; one within half a second is refused."""
    code, _ = begun(store)
    me = store.join(code)
    store.send(code, me, NUMBER, 1.0)
    clock.now_s += 0.9 * PAUSE_S
    with pytest.raises(RoomError, match="quick"):
        store.send(code, me, NUMBER, 2.0)
    clock.now_s += 0.2 * PAUSE_S
    store.send(code, me, NUMBER, 3.0)
    assert store.guesses(store.room(code)) == [3.0]


def test_the_countdown_closes_predictions(store: Rooms, clock: Clock) -> None:
    """By hand: open for 30 s, then closed; a new question has no countdown."""
    code, key = begun(store)
    store.count_down(code, key, 30)
    clock.now_s += 29
    store.send(code, store.join(code), NUMBER, 1.0)
    clock.now_s += 1
    with pytest.raises(RoomError, match="closed"):
        store.send(code, store.join(code), NUMBER, 1.0)
    store.show(code, key, *CHOICE)
    store.send(code, store.join(code), CHOICE, 1)
    assert store.guesses(store.room(code)) == [1.0]


def test_who_has_gone_is_not_here(store: Rooms, clock: Clock) -> None:
    """By hand: seen within 15 s counts; asking again keeps one here."""
    code, _ = store.open()
    one, _ = store.join(code), store.join(code)
    clock.now_s += 10
    store.attend(code, one)
    clock.now_s += 10
    assert store.here(code) == 1


def test_rooms_end_by_themselves(store: Rooms, clock: Clock) -> None:
    """By hand: after eight hours a room is gone, and with the next one that is opened all it held."""
    code, _ = begun(store)
    store.send(code, store.join(code), NUMBER, 1.0)
    me = store.join(code)
    for _ in range(8 * 6 - 1):
        clock.now_s += 600
        store.attend(code, me)
    clock.now_s += 599
    assert store.room(code).code == code
    clock.now_s += 2
    with pytest.raises(RoomError, match="no room"):
        store.room(code)
    with pytest.raises(RoomError, match="no room"):
        store.send(code, me, NUMBER, 1.0)
    store.open()
    assert rows(store) == 1


def test_only_the_host_may(store: Rooms) -> None:
    """Oracle: the key; every host's act with another key changes nothing."""
    code, key = store.open()
    for wrong in ("", "0" * 32, key[:-1], key.upper() + "'; drop table batchscope_rooms; --"):
        assert not store.is_host(code, wrong)
        for act in (
            lambda wrong=wrong: store.show(code, wrong, *CHOICE),
            lambda wrong=wrong: store.count_down(code, wrong, 1),
            lambda wrong=wrong: store.show_view(code, wrong, "?v=1"),
            lambda wrong=wrong: store.hide(code, wrong, True),
            lambda wrong=wrong: store.lock(code, wrong, True),
            lambda wrong=wrong: store.clear(code, wrong),
            lambda wrong=wrong: store.keep_open(code, wrong),
            lambda wrong=wrong: store.results(code, wrong),
        ):
            with pytest.raises(RoomError, match="Only the host"):
                act()
        store.delete(code, wrong)
    assert store.is_host(code, key)
    assert store.room(code) == Room(code, *NUMBER, LOBBY, None, "", False)


def test_the_key_is_not_stored(store: Rooms) -> None:
    """Oracle: the table; who reads the database cannot host a room."""
    code, key = store.open()
    with store._engine.begin() as connection:
        kept = connection.execute(sql.text("select * from batchscope_rooms")).one()
    assert code in kept and key not in kept


# --- hostile and careless -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "ABC", "ABCDEFG", "<script>", "ABC1EF", "'; drop table", "ÄBCDEF", "K" * 1_000_000, "AB\x00DEF"],
    ids=range(9),
)
def test_what_is_no_code(text: str) -> None:
    """Oracle: six letters of the alphabet of codes; the message is short."""
    with pytest.raises(RoomError) as caught:
        read_code(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "No room code is given. Type the one that the host shows: 6 letters"),
        (" - ", "No room code is given"),
        ("kwmt", "it has 4 characters; a code has 6 letters, such as KWMTAB."),
        ("KWMTABX", "it has 7 characters; a code has 6 letters"),
        ("K" * 1_000, "it has far more characters; a code has 6 letters"),
        ("KWMTA1", "such as KWMTAB, none of them I, L or O, and no digits."),
    ],
)
def test_what_is_wrong_with_a_code(text: str, words: str) -> None:
    """Oracle: by hand: nothing, too short, too long, a digit."""
    with pytest.raises(RoomError) as caught:
        read_code(text)
    assert words in str(caught.value)


def test_codes_as_people_type_them() -> None:
    """By hand."""
    assert read_code(" kwm tab ") == read_code("KWM-TAB") == "KWMTAB"


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -1.0, 2e9, "<script>alert(1)</script>", None, b"1", [1]],
    ids=range(8),
)
def test_what_is_no_prediction(store: Rooms, value: object) -> None:
    """Oracle: nothing is stored; no text can ever be."""
    code, _ = begun(store)
    with pytest.raises(RoomError):
        store.send(code, store.join(code), NUMBER, value)
    assert store.guesses(store.room(code)) == []


@pytest.mark.parametrize("value", [3.0, 0.5, -1.0, 1e9])
def test_what_is_no_choice(store: Rooms, value: float) -> None:
    """Oracle: the step has three choices."""
    assert len(catalogue.lesson(CHOICE[0]).steps[CHOICE[1] - 1].choices) == 3
    code, key = store.open()
    store.show(code, key, *CHOICE)
    with pytest.raises(RoomError):
        store.send(code, store.join(code), CHOICE, value)


@pytest.mark.parametrize(
    "word",
    ["", "me", "<script>", "0" * 16, "0" * 16 + "." + "0" * 32, "G" * 16, "\x00", "0" * 1_000_000, "é." * 9],
    ids=range(9),
)
def test_what_is_no_participant(store: Rooms, word: str) -> None:
    """Oracle: what the room has not signed is nobody, and nothing of it is stored."""
    code, _ = begun(store)
    for act in (
        lambda: store.attend(code, word),
        lambda: store.send(code, word, NUMBER, 1.0),
        lambda: store.guess(store.room(code), word),
    ):
        with pytest.raises(RoomError, match="no participant"):
            act()
    assert not store.knows(code, word)
    assert rows(store) == 1


def test_a_token_belongs_to_one_room(store: Rooms) -> None:
    """Oracle: HMAC: that of another room, with another secret, is refused; so is one with a digit changed."""
    code, _ = store.open()
    other, _ = store.open()
    token = store.join(other)
    changed = ("1" if token[0] == "0" else "0") + token[1:]
    for wrong, there in ((token, code), (changed, other), (new_token("guessed"), other)):
        with pytest.raises(RoomError, match="no participant"):
            store.attend(there, wrong)
    assert store.knows(other, token)
    assert store.here(other) == 1


def test_what_is_no_step(store: Rooms) -> None:
    """Oracle: the lessons; a view's link may not be endless."""
    code, key = store.open()
    for lesson, step, stage in (
        ("../x", 1, "ask"),
        (NUMBER[0], 0, "ask"),
        (NUMBER[0], 99, "ask"),
        (*NUMBER, "x"),
    ):
        with pytest.raises(RoomError):
            store.show(code, key, lesson, step, stage)
    with pytest.raises(RoomError, match="characters"):
        store.show_view(code, key, "?" + "x" * 10_000)


def test_a_flood_of_rooms(store: Rooms, clock: Clock) -> None:
    """By hand: 20 a minute, 200 in all; then old ones must end first."""
    for _ in range(rooms.MOST_OPENED_PER_MIN):
        store.open()
    with pytest.raises(RoomError, match="minute"):
        store.open()
    while rows(store) < rooms.MOST_ROOMS:
        clock.now_s += 61
        for _ in range(min(rooms.MOST_OPENED_PER_MIN, rooms.MOST_ROOMS - rows(store))):
            store.open()
    clock.now_s += 61
    with pytest.raises(RoomError, match="200 rooms"):
        store.open()
    clock.now_s += rooms.LIFETIME_S
    store.open()


def test_a_flood_of_participants(store: Rooms, clock: Clock) -> None:
    """By hand: the room holds 200, not one more, even if 50 come at the last place together."""
    code, _ = store.open()
    for _ in range(MOST_PARTICIPANTS - 1):
        clock.now_s += 0.1
        store.join(code)
    clock.now_s += 10
    errors = at_once(lambda _: store.join(code))
    assert len(errors) == THREADS - 1
    assert all(isinstance(error, RoomError) and "full" in str(error) for error in errors)
    assert rows(store) == 1 + MOST_PARTICIPANTS


def test_who_left_makes_room(store: Rooms, clock: Clock) -> None:
    """By hand: a full room; after half a minute those who have gone make room, but no prediction is lost."""
    code, _ = begun(store)
    stays = store.join(code)
    store.send(code, stays, NUMBER, 1.0)
    for _ in range(2):
        for _ in range((MOST_PARTICIPANTS - 1) // 2):
            store.join(code)
        clock.now_s += 10
    store.join(code)
    clock.now_s += rooms.GONE_S - 20
    with pytest.raises(RoomError, match="full"):
        store.join(code)
    clock.now_s += 21
    store.join(code)
    assert rows(store) == 1 + 2 + 1  # the room; who predicted, and who came; the prediction
    assert store.guess(store.room(code), stays) == 1.0


def test_other_databases_are_refused() -> None:
    """Oracle: the sentence names what can be used."""
    engine = sql.create_mock_engine("mysql://", lambda *_: None)
    with pytest.raises(RoomError, match="SQLite or PostgreSQL, not in mysql"):
        Rooms(engine)


# --- many at once ---------------------------------------------------------------------------------


def test_fifty_threads(opened: Callable[..., Rooms]) -> None:
    """By hand: each thread changes its mind twice; the room has each one's last prediction, once."""
    ticks = itertools.count(1e9)
    store = opened(lambda: float(next(ticks)))  # nobody is ever too quick
    code, _ = begun(store)

    def predict(number: int) -> None:
        me = store.join(code)
        for turn in range(3):
            store.send(code, me, NUMBER, 1000.0 * turn + number)

    assert at_once(predict) == []
    assert store.guesses(store.room(code)) == [2000.0 + number for number in range(THREADS)]


def test_one_participant_in_many_windows(store: Rooms) -> None:
    """By hand: the same word at the same time is one participant with one prediction."""
    code, _ = begun(store)
    me = store.join(code)
    errors = at_once(lambda number: store.send(code, me, NUMBER, float(number)))
    assert all(isinstance(error, RoomError) for error in errors)
    assert len(errors) == THREADS - 1  # the others were too quick
    assert len(store.guesses(store.room(code))) == 1


PROCESS = """
import sys, threading
import sqlalchemy as sql
from sim_core.questions.teaching.rooms import Rooms
url, code, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = Rooms(sql.create_engine(url))
def predict(number):
    me = store.join(code)
    store.send(code, me, ("01-reading-and-writing", 1), float(number))
threads = [threading.Thread(target=predict, args=(first + k,)) for k in range(25)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_two_processes(opened: Callable[..., Rooms], url: str) -> None:
    """By hand: two app processes with 25 participants each; all 50 predictions are there, once."""
    import time

    store = opened(time.time)
    code, _ = begun(store)
    command = [sys.executable, "-W", "error", "-c", PROCESS, url, code]
    processes = [subprocess.Popen([*command, str(first)], cwd=ROOT) for first in (0, 25)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert store.guesses(store.room(code)) == [float(number) for number in range(50)]


def test_sqlite_is_never_busy(tmp_path: Path) -> None:
    """Oracle: another program that holds the file for a while; the store waits for it."""
    import sqlite3

    engine = sql.create_engine(sqlite_url(tmp_path))
    store = Rooms(engine)
    code, _ = begun(store)
    me = store.join(code)
    with closing(
        sqlite3.connect(tmp_path / "rooms.sqlite", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.5, lambda: other.execute("COMMIT"))
        release.start()
        store.send(code, me, NUMBER, 1.0)
        release.join()
    assert store.guesses(store.room(code)) == [1.0]
    engine.dispose()


# --- a flood, and what the host can do ------------------------------------------------------------


def test_a_flood_leaves_real_people_in(store: Rooms, clock: Clock) -> None:
    """By hand: 25 people, 1,000 joins within ten seconds, 25 more: all 50 are in and predict.

    Some 100 of the flood are let in; having done nothing, they make room after half a minute.
    """
    code, key = begun(store)
    people, refused = [store.join(code) for _ in range(25)], 0
    for number in range(1000):
        clock.now_s += 0.01
        try:
            store.join(code)
        except NotNow:
            refused += 1
        if number == 500:
            assert {store.attend(code, me).code for me in people} == {code}
    assert refused == 1000 - (rooms.MOST_JOINS - 25)
    for _ in range(2):
        clock.now_s += 20
        for me in people:
            store.attend(code, me)
    people += [store.join(code) for _ in range(25)]
    for number, me in enumerate(people):
        store.send(code, me, NUMBER, float(number))
    assert store.guesses(store.room(code)) == [float(number) for number in range(50)]
    store.lock(code, key, True)
    assert store.clear(code, key) == rooms.MOST_JOINS - 25
    assert store.here(code) == 50


def test_a_full_room_is_kept_by_those_who_are_there(
    store: Rooms, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: a flood that stays fills the room; who was there stays, and lock and clear end it."""
    monkeypatch.setattr(rooms, "MOST_PARTICIPANTS", 30)
    code, key = begun(store)
    people = [store.join(code) for _ in range(10)]
    flood: list[str] = []
    for _ in range(2):
        clock.now_s += 6
        with contextlib.suppress(NotNow):
            for _ in range(100):
                flood.append(store.join(code))
        for token in (*people, *flood):
            store.attend(code, token)
    assert len(flood) == 30 - 10
    with pytest.raises(NotNow, match="full"):
        store.join(code)
    for me in people:
        store.send(code, me, NUMBER, 7.0)
    store.lock(code, key, True)
    assert store.clear(code, key) == len(flood)
    for token in flood:
        with pytest.raises(NotNow, match="locked"):
            store.attend(code, token)
    for me in people:
        assert store.attend(code, me).locked
    assert store.here(code) == 10


def test_a_locked_room_lets_nobody_new_in(store: Rooms, clock: Clock) -> None:
    """By hand: who is in stays and predicts; who is new waits until it is unlocked."""
    code, key = begun(store)
    me = store.join(code)
    store.lock(code, key, True)
    with pytest.raises(NotNow, match="locked"):
        store.join(code)
    store.send(code, me, NUMBER, 1.0)
    store.lock(code, key, False)
    store.join(code)
    assert store.here(code) == 2


def test_clearing_takes_a_first_question(store: Rooms) -> None:
    """By hand: without any prediction all would go, and the message says what to do first."""
    code, key = begun(store)
    me, _ = store.join(code), store.join(code)
    with pytest.raises(RoomError, match="Ask a question first"):
        store.clear(code, key)
    store.send(code, me, NUMBER, 1.0)
    assert store.clear(code, key) == 1
    assert store.here(code) == 1


def test_an_empty_room_ends(store: Rooms, clock: Clock) -> None:
    """By hand: fifteen minutes after the last of host and participants was seen."""
    code, key = store.open()
    clock.now_s += 800
    store.keep_open(code, key)
    clock.now_s += 800
    me = store.join(code)
    for _ in range(4):
        clock.now_s += 400
        store.attend(code, me)
    clock.now_s += 901
    for gone in (
        lambda: store.room(code),
        lambda: store.attend(code, me),
        lambda: store.keep_open(code, key),
    ):
        with pytest.raises(RoomError):
            gone()
    store.end_old()
    assert rows(store) == 0


def test_a_reveal_is_taken_back(store: Rooms, clock: Clock) -> None:
    """By hand: predictions are taken again, and those from before are still there."""
    code, key = begun(store)
    me = store.join(code)
    store.send(code, me, NUMBER, 1.0)
    store.show(code, key, *NUMBER, "reveal")
    store.show(code, key, *NUMBER, "ask")
    assert store.guesses(store.room(code)) == [1.0]
    clock.now_s += 1
    store.send(code, me, NUMBER, 2.0)
    assert store.guesses(store.room(code)) == [2.0]


def test_the_results_of_a_room(store: Rooms, clock: Clock) -> None:
    """By hand: every prediction once, in the order of questions and of those who came."""
    code, key = begun(store)
    people = []
    for _ in range(3):
        clock.now_s += 1
        people.append(store.join(code))
    store.send(code, people[2], NUMBER, 5.0)
    store.send(code, people[0], NUMBER, 7.0)
    store.show(code, key, *CHOICE)
    clock.now_s += 1
    store.send(code, people[2], CHOICE, 1)
    assert store.results(code, key) == [(*NUMBER, 1, 7.0), (*NUMBER, 3, 5.0), (*CHOICE, 3, 1.0)]


@pytest.mark.parametrize(
    "predicted, here, few", [(0, 3, True), (1, 3, True), (2, 3, False), (5, 10, False), (0, 0, False)]
)
def test_when_few_have_predicted(predicted: int, here: int, few: bool) -> None:
    """By hand: fewer than half of those who are here; alone with an empty room nothing is given away."""
    assert too_few(predicted, here) == few


def test_codes_resist_guessing() -> None:
    """By hand: 23 letters to the sixth are 148 million; of 200 rooms one guess in 740,000 finds one."""
    assert len(room.LETTERS) ** room.CODE_LENGTH / rooms.MOST_ROOMS > 700_000
    assert len({room.new_code() for _ in range(1000)}) == 1000


def test_allowances() -> None:
    """By hand: three within ten seconds; the first is forgotten after ten; others are not kept waiting."""
    clock = Clock()
    allowances = RateLimits({"codes": RateLimit(3, 10.0)}, clock)
    for _ in range(3):
        allowances.check("codes", "me")
        allowances.note("codes", "me")
        clock.now_s += 1
    with pytest.raises(
        NotNow, match=r"Too many codes from here: 3 within 10 s are taken\. Try again in 7 s\."
    ):
        allowances.check("codes", "me")
    allowances.check("codes", "other")
    clock.now_s += 7
    allowances.check("codes", "me")


def test_allowances_stay_small() -> None:
    """Oracle: as many visitors as the limit says are remembered, not more."""
    allowances = RateLimits({"codes": RateLimit(1, 10.0)})
    for number in range(rate_limits.MOST_KNOWN + 10):
        allowances.note("codes", str(number))
    assert len(allowances._done) == rate_limits.MOST_KNOWN


@pytest.mark.slow
def test_older_tables_in_postgres(postgres: str) -> None:
    """Oracle: tables without a column are those of another version; the message says which to drop."""
    engine = sql.create_engine(postgres)
    with engine.begin() as connection:
        connection.execute(sql.text("CREATE TABLE batchscope_rooms (code VARCHAR(6) PRIMARY KEY)"))
    try:
        with pytest.raises(StoreError, match=r"another version.*drop batchscope_predictions"):
            Rooms(engine)
    finally:
        tables.drop_all(engine)
        engine.dispose()


@pytest.mark.slow
def test_tables_that_vanish_in_postgres(postgres: str) -> None:
    """Oracle: tables dropped while the app runs: nothing is taken, and the message says what to do."""
    engine = sql.create_engine(postgres)
    store = Rooms(engine)
    code, _ = begun(store)
    me = store.join(code)
    tables.drop_all(engine)
    with pytest.raises(StoreError, match="missing or those of another version"):
        store.send(code, me, NUMBER, 1.0)
    engine.dispose()
