"""The app in a real browser: what paints, what moves, what stays, and that nothing leaves the machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.browser.visit import PLOTTED, Visit

pytestmark = pytest.mark.browser


def test_the_chart_paints_and_says_what_it_shows(visit: Callable[..., Visit]) -> None:
    """Oracle: four curves by tensor parallelism, and a text alternative."""
    one = visit("/?fine=off")
    names = one.chart("chart.data.map((trace) => trace.name)")
    assert {"frontier", "TP 1", "TP 2", "TP 4", "TP 8"} <= set(names)
    assert "the best point within the limits is" in one.chart("chart.getAttribute('aria-label')")
    assert one.page.locator(".bs-finding").inner_text().startswith("Within p99 limits of")


def test_a_slider_redraws_in_place(visit: Callable[..., Visit]) -> None:
    """Oracle: the same element with other points on the same axes, and the address that says so."""
    one = visit("/?fine=off")
    one.chart("chart.dataset.mark = 'kept'")
    ranges, before = one.ranges(), one.curve()
    one.nudge("Memory bandwidth", 4)
    assert one.chart("chart.dataset.mark") == "kept"
    assert one.ranges() == ranges
    assert max(one.curve()) > max(before)
    one.until(lambda: "hbm_gb_per_s" in one.address())
    assert one.page.locator(".bs-good").count() > 0


def test_a_link_restores_the_view_elsewhere(visit: Callable[..., Visit]) -> None:
    """Oracle: the first visitor's chart."""
    one = visit("/?fine=off")
    one.nudge("Memory bandwidth", 3)
    one.until(lambda: "hbm_gb_per_s" in one.address())
    link = urlsplit(one.page.url)
    other = visit(f"{link.path}?{link.query}")
    assert other.curve() == one.curve()
    assert other.slider("Memory bandwidth").get_attribute("aria-valuetext") == one.slider(
        "Memory bandwidth"
    ).get_attribute("aria-valuetext")


def test_zoom_survives_a_slider_and_fit_takes_it_back(visit: Callable[..., Visit]) -> None:
    """Oracle: the ranges before, between and after."""
    one = visit("/?fine=off")
    full = one.ranges()
    one.zoom()
    zoomed = one.ranges()
    assert zoomed != full
    one.nudge("Memory bandwidth", 2)
    assert one.ranges() == zoomed
    one.page.get_by_role("button", name="Fit").click()
    one.until(lambda: one.ranges() != zoomed)
    assert one.ranges()[0] == full[0] == 0


def test_back_undoes_a_change(visit: Callable[..., Visit]) -> None:
    """Oracle: the chart before the change."""
    one = visit("/?fine=off")
    before = one.curve()
    one.nudge("Memory bandwidth", 1)
    one.until(lambda: "hbm_gb_per_s" in one.address())
    one.page.go_back()
    one.until(lambda: one.curve() == before)
    assert "hbm_gb_per_s" not in one.address()


def test_a_rested_chart_is_refined_and_a_move_interrupts_it(visit: Callable[..., Visit]) -> None:
    """Oracle: the interval under p99 that only the finer simulation knows."""
    one = visit("/?seed=5")
    notes = one.page.locator(".bs-figure .note")
    one.until(lambda: any(re.search(r"\d–\d", text) for text in notes.all_inner_texts()), 120)
    one.nudge("Memory bandwidth", 1)
    assert any("n = " in text for text in notes.all_inner_texts())


def test_the_theme_follows_without_a_reload(visit: Callable[..., Visit]) -> None:
    """Oracle: light text on dark, dark text on light."""
    one = visit("/?fine=off", color_scheme="dark")
    dark = one.chart("chart._fullLayout.font.color")
    one.page.emulate_media(color_scheme="light")
    one.until(lambda: one.chart("chart._fullLayout.font.color") != dark)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_holds_everything(visit: Callable[..., Visit], scheme: str) -> None:
    """Oracle: nothing is wider than the 400 pixels there are."""
    one = visit("/?fine=off", viewport={"width": 400, "height": 800}, color_scheme=scheme)
    main = "document.querySelector('.stMain')"
    assert one.page.evaluate(f"() => {main}.scrollWidth") <= 400
    assert one.chart("chart.getBoundingClientRect().right") <= 400


def test_the_png_stands_alone(visit: Callable[..., Visit]) -> None:
    """Oracle: 1100 x 660 at double resolution, opaque."""
    from PIL import Image

    one = visit("/?fine=off")
    with one.page.expect_download() as waiting:
        one.page.get_by_role("button", name="PNG", exact=True).click()
    picture = Image.open(waiting.value.path())
    assert waiting.value.suggested_filename == "batchscope-frontier.png"
    assert picture.size == (2200, 1320)
    assert picture.convert("RGBA").getpixel((5, 5))[3] == 255


def test_the_data_can_be_taken_away(visit: Callable[..., Visit]) -> None:
    """Oracle: one row a point, 4 curves of 12 points; the scenario is the page's own."""
    one = visit("/?fine=off&hbm_gb_per_s=5000")
    with one.page.expect_download() as waiting:
        one.page.get_by_role("button", name="CSV").click()
    lines = waiting.value.path().read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 4 * 12
    assert "output_tok_per_s_per_accelerator" in lines[0]
    with one.page.expect_download() as waiting:
        one.page.get_by_role("button", name="Scenario", exact=True).click()
    assert "hbm_gb_per_s = 5000" in waiting.value.path().read_text(encoding="utf-8")


def test_the_state_survives_a_move_between_pages(visit: Callable[..., Visit]) -> None:
    """Oracle: the address on both pages."""
    one = visit("/?fine=off&hbm_gb_per_s=5000")
    one.page.get_by_role("link", name="Method").click()
    one.page.wait_for_selector("text=Cost of a step")
    one.until(lambda: one.address().get("hbm_gb_per_s") == "5000")
    one.page.get_by_role("link", name="Frontier").click()
    one.page.wait_for_selector(PLOTTED)
    one.until(lambda: one.address().get("hbm_gb_per_s") == "5000")


def test_the_share_panel_holds_link_and_code(visit: Callable[..., Visit]) -> None:
    """Oracle: the address bar."""
    one = visit("/?fine=off&hbm_gb_per_s=5000")
    one.page.get_by_role("button", name="Share").click()
    one.page.wait_for_selector("text=Copy link")
    one.page.wait_for_selector("[data-testid=stImage] img, [data-testid=stImage] svg")
    code = one.page.get_by_test_id("stPopoverBody").locator("code")
    assert code.inner_text() == f"{one.url}/?v=1&hbm_gb_per_s=5000&fine=off"


def test_a_ready_scenario_opens(visit: Callable[..., Visit]) -> None:
    """Oracle: the story of the scenario, and its address."""
    one = visit("/?fine=off")
    one.page.get_by_role("button", name="Ready scenarios").click()
    one.page.wait_for_selector("text=Every control stays yours")
    one.page.locator(".st-key-ready_kv-pressure button").click()
    one.until(lambda: "When the KV cache runs out" in one.page.locator(".bs-story").inner_text())
    one.until(lambda: one.address().get("arrivals") == "closed")


def test_controls_keep_their_values_from_page_to_page(visit):
    """Oracle: the address: a changed setting shows on every page's slider, and going back changes nothing."""
    one = visit().open("/?prompt_tokens=3000&max_batch=64")
    for name in ("Batching", "Two phases", "Batching", "Frontier"):
        one.page.get_by_role("link", name=name, exact=True).click()
        one.until(lambda: one.page.locator(".bs-finding").count() > 0)
        slider = one.slider("Prompt length")
        one.until(lambda slider=slider: "3,000" in (slider.get_attribute("aria-valuetext") or ""))
        one.until(lambda: one.address() == {"v": "1", "prompt_tokens": "3000", "max_batch": "64"})
