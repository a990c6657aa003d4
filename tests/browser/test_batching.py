"""The Batching page's player in a real browser: by itself, by hand and by keys, without the server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim_core import load_scenario
from sim_core.results.timeline import POLICIES, Timeline, timelines
from sim_core.view.batching.gantt.drawing import draw_timelines
from sim_core.view.batching.gantt.parts import policy_words
from tests.browser.visit import Visit
from tests.places import ROOT

pytestmark = pytest.mark.browser

PLAYER = ROOT / "sim_core" / "view" / "parts" / "assets" / "player.js"
RUN = "requests=12&arrival_per_s=10&max_batch=4&output_tokens=40"
SEVERAL = (
    RUN,
    "requests=1&output_tokens=5",
    "requests=4&prompt_tokens=5000&token_budget=512&output_tokens=10",
    "requests=30&arrivals=offline&max_batch=32&kv_memory_frac=0.24&preemption=swap",
)


class Player:
    """The player on the page, and what it shows."""

    def __init__(self, one: Visit) -> None:
        self.one, self.page = one, one.page
        one.page.wait_for_selector(".bs-player [data-action=play]")

    def share(self) -> float:
        """Return where the slider stands, from 0 to 1."""
        return self.page.evaluate("() => document.querySelector('.bs-player input').value / 10000")

    def clock_s(self) -> float:
        return float(self.page.locator(".bs-player-clock").inner_text().split("\u202f")[0].replace(",", ""))

    def cursor(self) -> dict[str, Any]:
        """Return whether the cursor is visible, and its middle. [px]"""
        return self.page.evaluate("""() => {
            const cursor = document.querySelector('.bs-player-cursor'), box = cursor.getBoundingClientRect();
            return { visible: getComputedStyle(cursor).visibility === 'visible', x: box.x + box.width / 2 };
        }""")

    def veil(self) -> dict[str, float]:
        return self.page.evaluate("""() => {
            const box = document.querySelector('.bs-player-veil').getBoundingClientRect();
            return { left: box.left, right: box.right };
        }""")

    def place(self, time_s: float) -> float:
        """Return where Plotly draws a time. [px]"""
        return self.one.chart(
            "chart.getBoundingClientRect().left + chart._fullLayout.xaxis._offset"
            f" + chart._fullLayout.xaxis.d2p({time_s})"
        )

    def press(self, action: str) -> None:
        self.page.click(f".bs-player [data-action={action}]")

    def toggle(self) -> None:
        self.page.locator(".bs-player-controls button").nth(1).click()

    def scrub(self, share: float) -> None:
        """Move the slider as a hand does."""
        box = self.page.locator(".bs-player input").bounding_box()
        self.page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


@pytest.fixture
def player(visit: Callable[..., Visit]) -> Player:
    return Player(visit(f"/Batching?{RUN}&shown=12"))


def moments(found: dict[str, Timeline]) -> np.ndarray:
    """Return all boundaries between steps, of all policies [s]."""
    stories = [line.story for line in found.values()]
    return np.unique(np.concatenate(
        [part for story in stories for part in (story.steps.end_s, story.row_end_s, story.log["start_s"])]
    ))  # fmt: skip


def test_the_whole_picture_is_there_before_anything_is_played(player: Player) -> None:
    """Oracle: three panels, the slider at its end, no cursor and no veil."""
    shown = player.one.chart("chart.layout.annotations.map((note) => note.text).join(' ')")
    assert all(policy_words(policy) in shown for policy in POLICIES)
    assert player.share() == 1
    assert not player.cursor()["visible"]
    assert player.page.locator(".bs-player-said > div").count() == len(POLICIES)


def test_play_moves_the_cursor_and_pause_stops_it(player: Player) -> None:
    """Oracle: the clock, and Plotly's own axis for the place of cursor and veil."""
    player.toggle()
    player.one.until(lambda: 0.02 < player.share() < 1)  # it stands at its end until the first frame
    assert player.cursor()["visible"]
    player.toggle()
    before = player.share()
    player.page.wait_for_timeout(300)
    assert player.share() == before
    assert player.cursor()["x"] == pytest.approx(player.place(player.clock_s()), abs=3)
    assert player.veil()["left"] == pytest.approx(player.cursor()["x"], abs=2)


def test_steps_go_from_boundary_to_boundary(player: Player) -> None:
    """Oracle: the step logs of the three policies."""
    known = moments(timelines(load_scenario(RUN)))
    player.scrub(0.3)
    for action, direction in (("forward", 1), ("forward", 1), ("back", -1)):
        before = player.clock_s()
        player.press(action)
        assert np.abs(known - player.clock_s()).min() < 2e-3
        assert (player.clock_s() - before) * direction >= 0


def test_scrubbing_asks_no_server(player: Player) -> None:
    """Oracle: the frames of the page's websocket, counted, while the player is used in every way."""
    frames: list[int] = []
    player.page.on("websocket", lambda socket: socket.on("framesent", lambda _: frames.append(1)))
    player.page.reload()
    Player(player.one)
    player.page.wait_for_timeout(1500)
    assert frames
    frames.clear()
    for share in (0.2, 0.6, 0.4):
        player.scrub(share)
        assert player.share() == pytest.approx(share, abs=0.03)
    player.toggle()
    player.page.wait_for_timeout(500)
    player.toggle()
    player.press("forward")
    assert not frames


def test_keys_work_where_the_player_has_the_focus(player: Player) -> None:
    """Oracle: what each key is for; elsewhere they do nothing to the player."""
    keys = player.page.keyboard
    player.scrub(0.5)
    before = player.share()
    keys.press("Shift+ArrowRight")
    assert player.share() == pytest.approx(before + 0.05, abs=0.002)
    keys.press("Home")
    assert player.share() == 0
    keys.press("ArrowRight")
    assert player.clock_s() > 0
    keys.press("Space")
    player.one.until(lambda: player.share() > 0.03)
    keys.press("Space")
    keys.press("End")
    assert player.share() == 1
    player.one.slider("Memory bandwidth").focus()
    keys.press("Home")
    assert player.share() == 1


def test_the_cursor_follows_a_zoom(player: Player) -> None:
    """Oracle: Plotly's axis after the zoom."""
    player.scrub(0.5)
    before = player.cursor()["x"]
    player.one.zoom()
    player.page.wait_for_timeout(300)
    assert abs(player.cursor()["x"] - before) > 2
    assert player.cursor()["x"] == pytest.approx(player.place(player.clock_s()), abs=4)


def test_a_finished_run_says_what_it_gave(player: Player) -> None:
    """Oracle: the number of steps and requests of each policy."""
    found = timelines(load_scenario(RUN))
    said = player.page.locator(".bs-player-said").inner_text()
    for timeline in found.values():
        assert f"12 requests · {timeline.steps['count'].sum():,} steps" in said


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_player_wraps_on_a_narrow_screen(visit: Callable[..., Visit], scheme: str) -> None:
    """Oracle: nothing is wider than the 400 pixels there are."""
    one = visit(f"/Batching?{RUN}", viewport={"width": 400, "height": 800}, color_scheme=scheme)
    player = Player(one)
    player.toggle()
    assert one.page.evaluate("() => document.querySelector('.stMain').scrollWidth") <= 400
    assert one.chart("chart.getBoundingClientRect().right") <= 400


def test_little_motion_is_respected(visit: Callable[..., Visit]) -> None:
    """Oracle: with reduced motion the cursor moves twice a second, not sixty times."""
    player = Player(visit(f"/Batching?{RUN}", reduced_motion="reduce"))
    player.toggle()
    places = set()
    for _ in range(30):
        places.add(player.share())
        player.page.wait_for_timeout(40)
    assert 2 <= len(places) <= 5


@pytest.mark.parametrize("query", SEVERAL)
def test_the_player_counts_as_the_log_does(chromium: Any, query: str) -> None:
    """Oracle: tokens one by one, and boundaries between steps, from the log."""
    found = timelines(load_scenario(query))
    page = chromium.new_page()
    page.add_script_tag(content=PLAYER.read_text(encoding="utf-8"))
    for log, timeline in zip(draw_timelines(found).player["policies"], found.values(), strict=True):
        came_s = np.sort(np.concatenate(list(timeline.story.token_times().values())))
        times_s = np.random.default_rng(1).uniform(0, timeline.end_s, 100)
        apart = np.abs(came_s[:, None] - times_s).min(axis=0) > 1e-6  # the page rounds to 1e-7 s
        times_s = times_s[apart]
        known = moments({"": timeline})
        tokens, following = page.evaluate(
            "([log, times]) => { prepareLog(log);"
            " return [times.map((t) => tokensAt(log, t)), times.map((t) => boundary(log, t, 1))]; }",
            [json.loads(json.dumps(log)), times_s.tolist()],
        )
        assert tokens == np.searchsorted(came_s, times_s, "right").tolist()
        expected = known[np.searchsorted(known, times_s)]
        np.testing.assert_allclose(following, expected, atol=1e-5)
    page.close()


@pytest.mark.parametrize("width", [400, 1024])
def test_no_table_is_cut_off(visit: Callable[..., Visit], width: int) -> None:
    """Oracle: the window's edge; what is wider scrolls in a region of its own, which the Tab key reaches."""
    one = visit("/Batching?batching=interference", viewport={"width": width, "height": 900})
    beyond = "(table) => !table.closest('[role=region]') && table.getBoundingClientRect().right > innerWidth"
    for view in ("timeline", "wait", "preemption", "interference", "endings", "engines"):
        one.open(f"/Batching?batching={view}", ".bs-compare")
        cut = one.page.evaluate(f"[...document.querySelectorAll('.bs-compare')].filter({beyond}).length")
        assert cut == 0, view
