"""The Room page as Streamlit runs it: host and participants, hostile addresses, and no database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from sim_core import catalogue
from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.room import LOBBY, Prediction, Room
from sim_core.questions.teaching.rooms import Rooms
from sim_core.view.learn.room import figures as room_figures
from sim_core.view.learn.room import host as view
from sim_core.view.learn.room import results
from sim_core.view.session import room_store
from tests.databases import sqlite_url
from tests.visits import address, finding, healthy, open_page, said

PAGE = "12_Room.py"
NUMBER = ("01-reading-and-writing", 1)
CHOICE = ("01-reading-and-writing", 2)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rooms]:
    """Yield the store that the page uses, empty."""
    monkeypatch.setenv(room_store.SETTING, sqlite_url(tmp_path))
    room_store.rooms.clear()
    found = room_store.rooms()
    yield found
    found._engine.dispose()
    room_store.rooms.clear()
    room_store.allowances.clear()


def press(app: AppTest, key: str) -> AppTest:
    return healthy(app.button(key=key).click().run())


def hosts(store: Rooms) -> tuple[AppTest, str, str]:
    """Return a host's page with the code and key of its room, in which the first question is asked."""
    app = press(press(healthy(open_page(PAGE)), "open_room"), "room_start")
    place = app.session_state["room_place"]
    assert store.is_host(place.code, place.key)
    return app, place.code, place.key


def follows(code: str, me: str = "", **more: str) -> AppTest:
    """Return a participant's page; the session holds who they are, since no browser can tell it."""
    app = open_page(PAGE, room=code, **more)
    app.session_state["room_place"] = room_store.Place(code, me=me or room_store.rooms().join(code))
    return healthy(app.run())


def test_predict_reveal_look(store: Rooms) -> None:
    """Oracle: the store has the prediction; both pages say what the simulator says, but not before."""
    host, code, _ = hosts(store)
    one = follows(code)
    step = catalogue.lesson(NUMBER[0]).steps[0]
    truth = lessons.answered(step, None).truth
    one.number_input[0].set_value(round(truth))
    one = healthy(one.button(key="FormSubmitter:room_guess-Predict").click().run())
    assert store.guesses(store.room(code)) == [round(truth)]
    assert "You predicted" in one.markdown[0].value
    assert "simulator says" not in said(one) + said(host)
    host = press(host, "room_next")
    assert store.room(code).stage == "reveal"
    assert "1 of 1 came within a quarter" in said(host)
    assert "Well predicted" in said(healthy(one.run()))
    host = press(host, "room_next")
    assert store.room(code).stage == "look"
    assert 'class="bs-lesson"' in said(host)
    host = press(host, "room_next")
    assert (store.room(code).lesson, store.room(code).step) == CHOICE
    assert healthy(one.run()).radio
    press(press(host, "room_back"), "room_delete")
    assert "There is no room" in finding(healthy(one.run()))


def test_join_by_code(store: Rooms) -> None:
    """Oracle: the address has the room and a word of one's own; a second one is another participant."""
    code, _ = store.open()
    words = set()
    for _ in range(2):
        app = healthy(open_page(PAGE))
        app.text_input(key="in_room_code").set_value(f" {code.lower()}")
        app = healthy(app.button(key="FormSubmitter:join_room-Join").click().run())
        assert address(app) == {"room": code}
        words.add(app.session_state["room_place"].me)
    assert len(words) == 2
    assert store.here(code) == 2


def test_a_reload_is_the_same_participant(store: Rooms) -> None:
    """Oracle: the store: the address brings back one's own prediction, and counts nobody twice."""
    code, key = store.open()
    store.show(code, key, *NUMBER)
    me = store.join(code)
    store.send(code, me, NUMBER, 1234.0)
    app = follows(code, me=me)
    assert "1.23" in app.markdown[0].value
    assert store.here(code) == 1


@pytest.mark.parametrize(
    "query",
    [
        {"room": "<script>alert(1)</script>"},
        {"room": "A" * 100_000},
        {"room": "KWMTAB"},
        {"room": "KWMTAB", "host": "x"},
    ],
    ids=range(4),
)
def test_rooms_that_do_not_exist(store: Rooms, query: dict[str, str]) -> None:
    """Oracle: a short message without the script, and a way out."""
    app = healthy(open_page(PAGE, **query))
    assert "room" in finding(app) and len(finding(app)) < 400
    assert "<script>" not in said(app)
    assert "Open a room" in [button.label for button in press(app, "room_other").button]


def test_a_wrong_key_hosts_nothing(store: Rooms) -> None:
    """Oracle: the page is a participant's; a hostile word for oneself is refused."""
    code, _ = store.open()
    app = follows(code, host="0" * 32)
    assert not {"room_start", "room_next"} & {button.key for button in app.button}
    assert "no participant" in finding(follows(code, me="<script>"))


def test_the_address_tells_only_the_room(store: Rooms) -> None:
    """Oracle: what the host's page shows, and its address: neither has the key, which a room could read."""
    app, code, key = hosts(store)
    shown = said(app) + " ".join(item.value for kind in (app.markdown, app.caption) for item in kind)
    assert code in shown and key not in shown
    assert address(app) == {"room": code}
    assert address(follows(code)) == {"room": code}
    moved = healthy(open_page("1_Frontier.py", room=code, host=key, me="x", fine="off"))
    assert not {"room", "host", "me"} & address(moved).keys()


def test_without_an_answer_of_the_browser(store: Rooms) -> None:
    """Oracle: nobody is a participant before their browser has said who they are."""
    code, _ = store.open()
    app = healthy(open_page(PAGE, room=code))
    assert "Joining" in app.caption[0].value
    assert store.here(code) == 0


def test_a_host_hides_the_predictions(store: Rooms) -> None:
    """Oracle: the store, and a page opened anew: they stay hidden until they are revealed."""
    app, code, key = hosts(store)
    assert not store.room(code).hidden
    healthy(app.toggle(key="in_room_hide").set_value(True).run())
    assert store.room(code).hidden
    anew = healthy(open_page(PAGE, room=code, host=key))
    assert anew.toggle(key="in_room_hide").value
    assert any("hidden until" in caption.value for caption in anew.caption)


def test_a_view_is_shown_to_the_room(store: Rooms) -> None:
    """Oracle: the host's button, and the link that participants get: the page and its state, no key."""
    host, code, key = hosts(store)
    app = open_page("2_Two_phases.py", phases="step", max_batch="64")
    app.session_state["room_place"] = room_store.Place(code, key)
    app.session_state["in_share_open"] = True
    press(healthy(app.run()), "share_to_room")
    assert store.room(code).view.endswith("?v=1&max_batch=64&phases=step")
    store.show_view(code, key, "Two phases?v=1&max_batch=64")
    links = [element.proto.url for element in follows(code).get("link_button")]
    assert links == ["/Two_phases?v=1&max_batch=64"]
    press(healthy(host.run()), "room_hide_view")
    assert not follows(code).get("link_button")


def test_without_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a folder that does not exist yet: the page keeps its address; once it is there, rooms work."""
    monkeypatch.setenv(room_store.SETTING, f"sqlite:///{tmp_path}/later/rooms.sqlite")
    room_store.rooms.clear()
    app = healthy(open_page(PAGE, room="KWMTAB", host="f" * 32))
    assert "not available" in finding(app) and room_store.SETTING in said(app)
    assert address(app) == {"room": "KWMTAB", "host": "f" * 32}
    (tmp_path / "later").mkdir()
    assert "no room" in finding(healthy(app.run()))
    assert healthy(open_page(PAGE)).button(key="open_room")
    room_store.rooms()._engine.dispose()
    room_store.rooms.clear()


@pytest.mark.parametrize("url", ["mysql://here/rooms", "nonsense", "postgresql+nothing://here/rooms"])
def test_a_wrong_setting(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: no exception; the page says what it needs."""
    monkeypatch.setenv(room_store.SETTING, url)
    room_store.rooms.clear()
    assert "ooms" in finding(healthy(open_page(PAGE)))
    room_store.rooms.clear()


# --- what the host decides ------------------------------------------------------------------------


def test_a_room_begins_in_its_lobby(store: Rooms) -> None:
    """Oracle: the store, and that no page shows a question before the host starts."""
    host = press(healthy(open_page(PAGE)), "open_room")
    code = host.session_state["room_place"].code
    one = follows(code)
    assert store.room(code).stage == LOBBY
    assert "You are in" in finding(one) and not one.number_input
    assert "Join the room" in finding(host)
    press(host, "room_start")
    assert store.room(code).stage == "ask"
    assert healthy(one.run()).number_input


def test_a_reveal_to_few_wants_a_second_word(store: Rooms) -> None:
    """By hand: of three none, then one has predicted: only the second button reveals; two are enough."""
    host, code, _ = hosts(store)
    people = [store.join(code) for _ in range(3)]
    assert not pressed(press(host, "room_next"), store, code)
    assert any("the arrow keys wait" in markdown.value for markdown in host.markdown)
    store.send(code, people[0], NUMBER, 1.0)
    assert not pressed(press(host, "room_next"), store, code)
    assert pressed(press(host, "room_reveal_anyway"), store, code)
    press(host, "room_back")
    assert store.room(code).stage == "ask"
    press(press(host, "room_next"), "room_reveal_wait")
    assert "room_sure" not in str(host.main)
    store.send(code, people[1], NUMBER, 1.0)
    assert pressed(press(host, "room_next"), store, code)


def pressed(host: AppTest, store: Rooms, code: str) -> bool:
    """Return whether the truth is shown, to the store and on the host's page alike."""
    shown = store.room(code).stage == "reveal"
    assert ("simulator says" in said(host)) == shown
    return shown


def test_a_host_locks_and_clears(store: Rooms) -> None:
    """Oracle: the store: who never predicted is gone, and the page of somebody new says why it waits."""
    host, code, _ = hosts(store)
    me, _ = store.join(code), store.join(code)
    store.send(code, me, NUMBER, 1.0)
    healthy(host.toggle(key="in_room_lock").set_value(True).run())
    assert store.room(code).locked
    press(host, "room_clear")
    assert store.here(code) == 1
    app = healthy(open_page(PAGE))
    app.text_input(key="in_room_code").set_value(code)
    app = healthy(app.button(key="FormSubmitter:join_room-Join").click().run())
    assert "locked" in said(app) and "tries again" in said(app)


def test_the_address_makes_nobody_a_participant(store: Rooms) -> None:
    """Oracle: `me` of a copied link, even a real token, is no identity: it is dropped, and counts nobody."""
    code, _ = store.open()
    app = healthy(open_page(PAGE, room=code, me=store.join(code)))
    assert "room_place" not in app.session_state
    assert "Joining" in app.caption[0].value


def test_codes_are_not_guessed(store: Rooms) -> None:
    """Oracle: the limits of a connection: after so many wrong codes not even the right one is looked at."""
    code, _ = store.open()
    app = healthy(open_page(PAGE))
    most = room_store.LIMITS[room_store.SESSION]["wrong codes"].most
    for number in range(most + 1):
        app.query_params["room"] = f"KWMT{'ABCDEFGHJKM'[number]}Z" if number < most else code
        app = healthy(app.run())
    assert "Too many wrong codes" in finding(app)
    assert store.here(code) == 0


def test_one_connection_joins_few_times(store: Rooms) -> None:
    """Oracle: the limits of a connection: it joins five times, not six."""
    code, _ = store.open()
    app = healthy(open_page(PAGE))
    most = room_store.LIMITS[room_store.SESSION]["joins"].most
    for _ in range(most + 1):
        app.session_state["room_place"] = None
        app.query_params.clear()
        app = healthy(app.run())
        app.text_input(key="in_room_code").set_value(code)
        app = healthy(app.button(key="FormSubmitter:join_room-Join").click().run())
    assert "Too many joins" in said(app)
    assert store.here(code) == most


def test_the_results_are_taken_away(store: Rooms) -> None:
    """By hand: a number and a choice; no cell is a formula to a spreadsheet; the report loads nothing."""
    _, code, key = hosts(store)
    me = store.join(code)
    truth = lessons.answered(ASKED, None).truth
    store.send(code, me, NUMBER, truth)
    store.show(code, key, *CHOICE)
    time.sleep(0.6)
    store.send(code, me, CHOICE, 1)
    first, second = results.rows(store.results(code, key))
    assert (first["question"], first["participant"], first["predicted"], first["close"]) == (
        "1.1",
        1,
        truth,
        "yes",
    )
    assert (second["question"], second["predicted"]) == ("1.2", CHOSEN.choices[1])
    page = results.report_of(code, store.results(code, key))
    assert f"Room {code}: 2 predictions by 1 participants on 2 questions." in page
    assert CHOSEN.choices[1] in page and "default-src" in page
    every = [
        Prediction(item.id, number, 1, value)
        for item, number, step in lessons.every_step()
        for value in range(max(1, len(step.choices)))
    ]
    cells = [cell for row in results.rows(every) for cell in row.values() if isinstance(cell, str)]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_a_lost_file_is_said(store: Rooms, tmp_path: Path) -> None:
    """Oracle: the pages of host and participant name the file and the way out, and say nothing was taken."""
    host, code, _ = hosts(store)
    one = follows(code)
    (tmp_path / "rooms.sqlite").unlink()
    one.number_input[0].set_value(7)
    one = healthy(one.button(key="FormSubmitter:room_guess-Predict").click().run())
    for page in (one, healthy(host.run())):
        assert "not available" in finding(page) and "Put it back" in said(page)
        assert str(tmp_path / "rooms.sqlite") in said(page)
        assert "You predicted" not in str([item.value for item in page.markdown])


# --- figures and words ----------------------------------------------------------------------------

ASKED = catalogue.lesson(NUMBER[0]).steps[0]
CHOSEN = catalogue.lesson(CHOICE[0]).steps[1]


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("guesses", [[], [0.0], [5.0], [1.0, 1e9], [0.0, 0.0, 7000.0], [7000.0] * 200])
def test_the_picture_of_numbers(guesses: list[float], shown: bool) -> None:
    """Oracle: Plotly takes it; every prediction is in a bar; the truth is in it only once it is shown."""
    figure = room_figures.predictions(ASKED, guesses, shown)
    go.Figure(figure)
    assert sum(figure["data"][0]["y"]) == len(guesses)
    assert len(figure["layout"]["shapes"]) == bool(guesses) + shown
    low, high = figure["layout"]["xaxis"]["range"]
    assert all(low <= shape["x0"] <= high for shape in figure["layout"]["shapes"][int(bool(guesses)) :])
    truth = lessons.answered(ASKED, None).truth
    assert ("simulator" in str(figure)) == shown
    assert (f"{truth:.5g}" in str(figure)) <= shown


def test_the_picture_of_choices() -> None:
    """By hand: counts by choice; the right one is marked by a sign, not by colour alone, once it is shown."""
    hidden, open_ = (room_figures.predictions(CHOSEN, [0, 1, 1, 2, 1], shown) for shown in (False, True))
    assert hidden["data"][0]["x"] == open_["data"][0]["x"] == [1, 3, 1]
    assert "✓" not in str(hidden)
    marks = ["✓" in name for name in open_["layout"]["yaxis"]["ticktext"]]
    assert marks.index(True) == lessons.right_choice(CHOSEN) and sum(marks) == 1


def test_what_is_said_of_a_room() -> None:
    """By hand: half and twice the truth, and the truth: one of three is close, the middle is the truth."""
    truth = lessons.answered(ASKED, None).truth
    words = room_figures.room_verdict(ASKED, [truth / 2, truth, 2 * truth])
    assert words.endswith("1 of 3 came within a quarter of it.") and "middle" not in words
    assert "2 times too much" in room_figures.room_verdict(ASKED, [2 * truth])
    share = next(
        step
        for item in catalogue.lessons().values()
        for step in item.steps
        if not step.choices and lessons.answered(step, None).truth == 0
    )
    assert (
        room_figures.room_verdict(share, [40.0, 50.0])
        == "The simulator says 0\N{NARROW NO-BREAK SPACE}%. 0 of 2 came close to it."
    )
    assert room_figures.room_verdict(share, [2.0]).endswith("1 of 1 came close to it.")
    assert "–" not in room_figures.room_verdict(ASKED, [0.0])
    right = lessons.right_choice(CHOSEN)
    assert "2 of 3 said so." in room_figures.room_verdict(CHOSEN, [right, right, (right + 1) % 3])
    assert room_figures.room_sentence(ASKED, [], True) == "Nobody has predicted anything yet."


def test_the_order_of_a_workshop() -> None:
    """Oracle: every step of every lesson, each asked, revealed and looked at; on from an end is nothing."""
    room = Room("KWMTAB", *NUMBER, "ask", None, "", False)
    assert view.neighbour(room, -1) is None
    seen = [(room.lesson, room.step, room.stage)]
    while (following := view.neighbour(room, 1)) is not None:
        seen.append(following)
        room = Room("KWMTAB", *following, None, "", False)
    assert len(seen) == len(set(seen)) == 3 * sum(len(item.steps) for item in catalogue.lessons().values())
