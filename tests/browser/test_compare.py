"""Compare in a real browser: freeze on one page, change, see both; one link brings all back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sim_core.questions.sensitivity import tornado
from sim_core.scenario.link.load import load_scenario
from sim_core.view.compare.sensitivity import _label
from tests.browser.test_own_and_pools import finding, fits
from tests.browser.visit import PLOTTED, Visit

pytestmark = pytest.mark.browser


def test_freeze_change_compare_and_return(visit: Callable[..., Visit]) -> None:
    """Oracle: two curves, a gain in words; the link opens with both."""
    one = visit("/?requests=400&fine=off")
    one.page.get_by_role("button", name="Add to compare").click()
    one.until(lambda: "versus" in one.address())
    one.turn_to("Compare")
    # The chart and the slider of the page before stay until then; a key that they get takes back the turn.
    one.page.get_by_role("button", name="Freeze").wait_for()
    one.page.wait_for_timeout(3000)
    one.slider("Batch limit").focus()
    one.page.keyboard.press("ArrowLeft")
    one.until(lambda: "max_batch" in one.address())
    one.until(lambda: "throughput" in finding(one))
    names = "chart.data.map(trace => trace.name || '')"
    one.until(lambda: any(name.startswith("Before") for name in one.chart(names)))
    one.page.goto(one.page.url)
    one.page.wait_for_selector(PLOTTED)
    one.until(lambda: any(name.startswith("Before") for name in one.chart(names)))


def test_three_fit_a_narrow_screen(visit: Callable[..., Visit]) -> None:
    """Oracle: nothing is wider than the 400 pixels there are."""
    one = visit("/Compare?versus=max_batch%3D64%7Caccelerator%3Db200", viewport={"width": 400, "height": 800})
    assert finding(one)
    assert fits(one)


def test_design_an_accelerator(visit: Callable[..., Visit]) -> None:
    """Oracle: the address holds the design, its curve is drawn, its file has a preset's keys; it fits."""
    one = visit("/Compare?requests=400&compare=design")
    one.page.get_by_text("SRAM type", exact=False).first.click()
    one.until(lambda: one.address().get("accelerator") == "corsair")
    field = one.page.get_by_role("textbox", name="On-chip SRAM [GB]")
    field.fill("8")
    field.press("Enter")
    one.until(lambda: one.address().get("tensor_parallel") == "16")
    names = "chart.data.map(trace => trace.name || '')"
    one.until(lambda: any("your design" in name for name in one.chart(names)))
    with one.page.expect_download() as download:
        one.page.get_by_role("button", name="Accelerator", exact=False).last.click()
    assert "hbm_gb = 8" in Path(download.value.path()).read_text(encoding="utf-8")
    narrow = visit(one.page.url.removeprefix(one.url), viewport={"width": 400, "height": 800})
    assert fits(narrow)


def test_what_matters_most(visit: Callable[..., Visit]) -> None:
    """Oracle: the core's largest lever, named in the finding; a bar for each; it fits a narrow screen."""
    one = visit(
        "/Compare?requests=400&compare=sensitivity&sense=tpot", viewport={"width": 400, "height": 800}
    )
    largest = tornado(load_scenario("requests=400"), "tpot")[0]["key"]
    assert f"depends most on {_label(largest).lower()}" in finding(one)
    assert one.chart("chart.data[0].y.length") >= 6
    assert fits(one)
