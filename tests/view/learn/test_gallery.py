"""The Gallery page and its thumbnails."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import pytest

from sim_core import load_scenario
from sim_core.questions import compare
from sim_core.scenario.link.page_settings import PAGE_KEYS
from sim_core.scenario.link.read import from_query
from sim_core.scenario.ready import ready_scenario, ready_scenarios
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.figures import X, Y
from sim_core.view.learn import gallery, thumbnails
from sim_core.view.session import shell
from tests.visits import healthy, open_page

ROWS = [
    {X: 100.0, Y: 500.0, "feasible": True, "meets_slo": True},
    {X: 50.0, Y: 2000.0, "feasible": True, "meets_slo": True},
    {X: 20.0, Y: 4000.0, "feasible": True, "meets_slo": False},
    {X: float("nan"), Y: float("nan"), "feasible": False, "meets_slo": False},
]


def elements(svg: str, name: str) -> list[ElementTree.Element]:
    return [item for item in ElementTree.fromstring(svg).iter() if item.tag == name]


def test_a_thumbnail_shows_the_points_the_limit_and_the_best() -> None:
    """Oracle: by hand: three points run, two keep the limits; 40 ms are 25 tok/s, of 106 that are drawn."""
    svg = thumbnails.curve_svg(ROWS, slo_tpot_ms=40.0)
    *dots, ring = elements(svg, "circle")
    assert [dot.get("fill") != "none" for dot in dots] == [True, True, False]
    assert (ring.get("cx"), ring.get("cy")) == (dots[1].get("cx"), dots[1].get("cy"))
    [shade] = elements(svg, "rect")
    width = thumbnails.WIDTH - thumbnails.LEFT - thumbnails.RIGHT
    assert float(shade.get("x")) == pytest.approx(thumbnails.LEFT + width * 25 / 106, abs=0.1)
    assert "2,000" in ElementTree.fromstring(svg).get("aria-label")


def test_one_of_many_visitors_draws_a_thumbnail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a count of drawings while all others wait; the same text for all."""
    drawn = []

    def slowly(rows: list, slo_tpot_ms: float) -> str:
        drawn.append(slo_tpot_ms)
        time.sleep(0.1)
        return f"<svg>{len(drawn)}</svg>"

    monkeypatch.setattr(thumbnails, "curve_svg", slowly)
    scenario = load_scenario("requests=123")
    with ThreadPoolExecutor(8) as visitors:
        found = list(visitors.map(thumbnails.of, [scenario] * 8))
    assert len(drawn) == 1 and set(found) == {"<svg>1</svg>"} == {thumbnails.known_thumbnail(scenario)}


def test_a_thumbnail_without_a_point_says_so() -> None:
    """Oracle: the words; texts are escaped."""
    assert "does not fit" in thumbnails.curve_svg(ROWS[3:], 40.0)
    assert "no point keeps the limits" in thumbnails.curve_svg(ROWS[2:3], 40.0)
    assert elements(thumbnails.placeholder("<b> & more"), "text")[0].text == "<b> & more"


def test_traffic_that_shifts_is_drawn_as_its_change() -> None:
    """Oracle: by hand: a step in the middle of two hours, from none of the other lengths to all."""
    svg = thumbnails.change_svg(Scenario(demand="step", demand_hours=2.0, mix_swing_frac=1.0))
    [line] = elements(svg, "polyline")
    points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
    middle = (thumbnails.LEFT + thumbnails.WIDTH - thumbnails.RIGHT) / 2
    assert [across for across, _ in points[1:3]] == [middle, middle]
    assert points[0][1] == points[1][1] > points[2][1] == points[3][1]
    assert "over 2" in ElementTree.fromstring(svg).get("aria-label")


def test_a_thumbnail_is_drawn_once_for_everybody() -> None:
    """Oracle: the simulated curve: one dot a point that runs, and one ring."""
    scenario = ready_scenario("kv-pressure").build()
    svg = thumbnails.of(scenario)
    assert thumbnails.known_thumbnail(scenario) is svg
    runs = sum(row["feasible"] for row in compare.curve(scenario))
    assert len(elements(svg, "circle")) == runs + 1


def test_every_ready_scenario_has_a_card_with_its_link() -> None:
    """Oracle: the presets; the short link is the scenario, the page one of the app's."""
    app = healthy(open_page("13_Gallery.py"))
    ready = ready_scenarios()
    cards = [button.key for button in app.button if button.label == "Open"]
    assert sorted(cards) == sorted(f"ready_{id}" for id in ready)
    assert ready[cards[0].removeprefix("ready_")].build() == Scenario()  # the first stop comes first
    for name, preset in ready.items():
        assert from_query(f"?preset={name}", ignore=PAGE_KEYS) == (preset.build(), [])
        assert preset.page in {title for _, title in shell.PAGES}
    assert [group.value for group in app.subheader] == [
        title for _, title in shell.PAGES if title in {preset.page for preset in ready.values()}
    ]


def test_the_filter_finds_words_of_title_and_story() -> None:
    """Oracle: by hand: two words in any order; a word that nobody uses."""
    app = open_page("13_Gallery.py")
    app.text_input(key="page_filter").set_value("cache KV runs").run()
    assert "ready_kv-pressure" in {button.key for button in healthy(app).button}
    assert "ready_static-batching" not in {button.key for button in app.button}
    app.text_input(key="page_filter").set_value("nonsense").run()
    assert healthy(app).caption[0].value == "No ready scenario has these words, or is of this kind."
    assert len(gallery.matching(list(ready_scenarios().values()), " ")) == len(ready_scenarios())


def test_the_filters_leave_scenarios_of_a_model_a_part_and_an_audience() -> None:
    """Oracle: the presets, each by itself; what is offered is what there is."""
    app = healthy(open_page("13_Gallery.py"))
    ready = ready_scenarios()
    app.selectbox(key="page_filter_accelerator").set_value("h100-sxm").run()
    app.selectbox(key="page_filter_audience").set_value("learn").run()
    left = {button.key.removeprefix("ready_") for button in healthy(app).button if button.label == "Open"}
    assert left == {
        name
        for name, preset in ready.items()
        if preset.build().accelerator == "h100-sxm" and preset.audience == "learn"
    }
    assert 3 < len(left) < len(ready)


def test_pages_have_the_paths_that_streamlit_gives_them() -> None:
    """Oracle: Streamlit's own rule for the files of pages."""
    from streamlit.source_util import page_icon_and_name

    for file, title in shell.PAGES[1:]:
        _, name = page_icon_and_name(shell.ROOT / "pages" / file)
        assert shell.path_of(title) == name
    assert shell.path_of(shell.PAGES[0][1]) == ""
    assert re.fullmatch(r"\w+", shell.path_of("Two phases"))
