"""A first visit: what this is and three ways in, hidden for good, back by a key; the chart in sight."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.visit import CHART, Visit

pytestmark = pytest.mark.browser
LINE = ".bs-start"


def test_the_first_line_goes_for_good_and_a_key_brings_it_back(visit: Callable[..., Visit]) -> None:
    """Oracle: the page before and after a reload; a `?` that is typed into a field is a letter."""
    here = visit("/Gallery", shows=LINE)
    here.page.get_by_role("button", name="Hide this").click()
    here.until(lambda: not here.page.locator(LINE).count())
    here.open("/Gallery", shows=".bs-finding")
    here.page.get_by_role("textbox", name="Words").press_sequentially("?")
    assert not here.page.locator(LINE).count()
    here.page.get_by_role("textbox", name="Words").blur()
    here.page.keyboard.press("?")
    assert "shows or hides this" in here.page.locator(LINE).inner_text()
    here.page.keyboard.press("?")
    assert not here.page.locator(LINE).count()


def test_a_way_in_goes_there_with_the_scenario(visit: Callable[..., Visit]) -> None:
    """Oracle: the address after the click: the page's, and the key that was set."""
    here = visit("/?max_batch=64")
    here.page.get_by_role("link", name="Choose a deployment").click()
    here.page.wait_for_url("**/Plan?*max_batch=64*")
    assert not visit("/?embed=true").page.locator(LINE).count()


@pytest.mark.parametrize(("width", "height", "screens"), [(1024, 768, 1.0), (400, 800, 1.5)])
def test_a_first_visitor_sees_the_chart(
    visit: Callable[..., Visit], width: int, height: int, screens: float
) -> None:
    """Oracle: where the plot ends, with the line for first visitors above it."""
    here = visit("/", viewport={"width": width, "height": height})
    here.page.wait_for_selector(LINE)
    ends = f"document.querySelector('{CHART} .nsewdrag').getBoundingClientRect().bottom"
    here.until(lambda: 0 < here.page.evaluate(ends) <= screens * height)


@pytest.mark.parametrize("path", ["/?fine=off", "/Plan"])
def test_a_page_prints_whole(visit: Callable[..., Visit], path: str) -> None:
    """Oracle: on paper everything lies within the width of A4, the page is as high as its answer, and no
    control is left."""
    here = visit(path, shows=".bs-figures, .bs-compare", viewport={"width": 794, "height": 400})
    here.page.wait_for_timeout(2000)
    here.page.emulate_media(media="print")
    here.page.wait_for_timeout(500)
    sizes = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    width, height = here.page.evaluate(sizes)
    assert width <= 794 and height > 500
    for control in ("stSidebar", "stHeader", "stSlider", "stSelectbox", "stExpander"):
        assert not here.page.get_by_test_id(control).first.is_visible()


def test_cards_stay_on_paper(visit: Callable[..., Visit]) -> None:
    """Oracle: the cards on the screen, whose buttons leave the paper without them."""
    here = visit("/Gallery", shows=".bs-thumbnail")
    cards = here.page.locator(".bs-thumbnail")
    here.until(lambda: cards.count() > 20)
    here.page.emulate_media(media="print")
    here.until(lambda: all(card.is_visible() for card in cards.all()))


def test_the_timeline_stands_on_one_sheet(visit: Callable[..., Visit]) -> None:
    """Oracle: the height of A4 between its margins, with the finding above; the player's keys are gone."""
    here = visit("/Batching", shows=".bs-player-said", viewport={"width": 703, "height": 800})
    here.page.emulate_media(media="print")
    ends = f"document.querySelector('{CHART}').getBoundingClientRect().bottom + scrollY"
    here.until(lambda: 600 < here.page.evaluate(ends) <= 1032)
    assert not here.page.locator(".bs-player-controls").first.is_visible()


def test_no_choice_of_a_view_is_cut_on_a_phone(visit: Callable[..., Visit]) -> None:
    """Oracle: the last button of the row ends within the 400 pixels there are."""
    row = ".stMain [role=radiogroup]"
    here = visit("/Validation", shows=row, viewport={"width": 400, "height": 800})
    last = f"document.querySelector('{row} > :last-child')?.getBoundingClientRect().right"
    here.until(lambda: 0 < (here.page.evaluate(last) or 0) <= 400)


def test_the_row_above_the_chart_is_one(visit: Callable[..., Visit]) -> None:
    """Oracle: at 1024 pixels its first and its last control stand at one height."""
    here = visit("/?fine=off", viewport={"width": 1024, "height": 768})
    tops = [
        here.page.get_by_role(role, name=name).first.bounding_box()["y"]
        for role, name in (("button", "Axes"), ("button", "Fit"))
    ]
    assert abs(tops[0] - tops[1]) < 10
