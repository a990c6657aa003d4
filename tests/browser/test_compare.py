"""Compare in a real browser: freeze on one page, change, see both; one link brings all back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.test_own_and_pools import finding, fits
from tests.browser.visit import PLOTTED, Visit

pytestmark = pytest.mark.browser


def test_freeze_change_compare_and_return(visit: Callable[..., Visit]) -> None:
    """Oracle: two curves, a gain in words; the link opens with both."""
    one = visit("/?requests=400&fine=off")
    one.page.get_by_role("button", name="Add to compare").click()
    one.until(lambda: "versus" in one.address())
    one.page.get_by_role("link", name="Compare", exact=True).click()
    one.page.wait_for_selector(PLOTTED)
    one.slider("Batch limit").focus()
    one.page.keyboard.press("ArrowLeft")
    one.until(lambda: "max_batch" in one.address())
    one.until(lambda: "throughput" in finding(one))
    names = "chart.data.map(trace => trace.name || '')"
    one.until(lambda: any(name.startswith("B ") for name in one.chart(names)))
    one.page.goto(one.page.url)
    one.page.wait_for_selector(PLOTTED)
    one.until(lambda: any(name.startswith("B ") for name in one.chart(names)))


def test_three_fit_a_narrow_screen(visit: Callable[..., Visit]) -> None:
    """Oracle: nothing is wider than the 400 pixels there are."""
    one = visit("/Compare?versus=max_batch%3D64%7Caccelerator%3Db200", viewport={"width": 400, "height": 800})
    assert finding(one)
    assert fits(one)
