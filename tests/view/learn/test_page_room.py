"""The Room page as Streamlit runs it: host and participants, hostile addresses, and no database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from sim_core import catalogue
from sim_core.questions.teaching import lessons
from sim_core.questions.teaching.rooms import Room, Rooms, new_participant
from sim_core.view.learn import room as view
from sim_core.view.learn import room_figures
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


def press(app: AppTest, key: str) -> AppTest:
    return healthy(app.button(key=key).click().run())


def hosts(store: Rooms) -> tuple[AppTest, str, str]:
    """Return a host's page with the code and key of its room."""
    app = press(healthy(open_page(PAGE)), "open_room")
    place = app.session_state["room_place"]
    assert store.is_host(place.code, place.key)
    return app, place.code, place.key


def follows(code: str, me: str = "", **more: str) -> AppTest:
    """Return a participant's page; who they are stands in the address, since no browser can tell it."""
    return healthy(open_page(PAGE, room=code, me=me or new_participant(), **more))


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
    code, _ = store.open()
    me = new_participant()
    store.send(code, me, NUMBER, 1234.0)
    app = follows(code, me=me)
    assert "1.23" in app.markdown[0].value
    assert store.here(code) == 1


@pytest.mark.parametrize(
    "query",
    [
        {"room": "<script>alert(1)</script>"},
        {"room": "A" * 100_000},
        {"room": "KWMTA"},
        {"room": "KWMTA", "host": "x"},
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
    assert "room_next" not in [button.key for button in app.button]
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
    app = healthy(open_page(PAGE, room="KWMTA", host="f" * 32))
    assert "not available" in finding(app) and room_store.SETTING in said(app)
    assert address(app) == {"room": "KWMTA", "host": "f" * 32}
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
    room = Room("KWMTA", *NUMBER, "ask", None, "", False)
    assert view.neighbour(room, -1) is None
    seen = [(room.lesson, room.step, room.stage)]
    while (following := view.neighbour(room, 1)) is not None:
        seen.append(following)
        room = Room("KWMTA", *following, None, "", False)
    assert len(seen) == len(set(seen)) == 3 * sum(len(item.steps) for item in catalogue.lessons().values())
