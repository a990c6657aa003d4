"""Lessons in a real browser: predict, move by keys, see; reload keeps the answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.test_own_and_pools import finding, fits
from tests.browser.visit import PLOTTED, Visit

pytestmark = pytest.mark.browser


def test_a_step_by_keyboard_alone(visit: Callable[..., Visit]) -> None:
    """Oracle: the address has the guess; the verdict comes with the control; reload keeps both."""
    one = visit("/Lessons?lesson=03-why-batching-works", viewport={"width": 400, "height": 800})
    field = one.page.get_by_role("spinbutton")
    field.focus()
    one.page.keyboard.type("1000")
    one.page.keyboard.press("Enter")  # sends the form
    one.until(lambda: one.address().get("answers") == "3.1=1000")
    one.page.get_by_role("slider").focus()
    one.page.keyboard.press("End")
    one.until(lambda: "simulator says" in one.page.locator(".stMain").inner_text())
    assert fits(one)
    assert one.chart("chart.getAttribute('aria-label')")
    one.page.reload()
    one.page.wait_for_selector(PLOTTED)
    one.until(lambda: "simulator says" in one.page.locator(".stMain").inner_text())
    assert "1,000" in one.page.locator(".stMain").inner_text()


def test_from_the_list_into_a_lesson_and_back(visit: Callable[..., Visit]) -> None:
    """Oracle: the address names the lesson and the step; the list says what has been answered."""
    one = visit("/Lessons?lesson=01-reading-and-writing&answers=1.1=5000")
    one.page.get_by_role("button", name="Next", exact=True).click()
    one.until(lambda: one.address().get("step") == "2")
    one.page.get_by_role("button", name="All lessons").click()
    one.until(lambda: "lesson" not in one.address())
    one.until(lambda: "1 of 2 answered" in one.page.locator(".stMain").inner_text())
    assert finding(one)


def test_lessons_stand_in_order_on_a_phone(visit: Callable[..., Visit]) -> None:
    """Oracle: their numbers, from the top of the page down."""
    one = visit("/Lessons", shows=".bs-finding", viewport={"width": 400, "height": 850})
    one.page.wait_for_selector("text=/^12[.] /")
    numbers = """() => [...document.querySelectorAll(".stMain strong")].map((title) =>
        [title.getBoundingClientRect().top, parseInt(title.innerText)]).filter(([, number]) => number)
        .sort((one, other) => one[0] - other[0]).map(([, number]) => number)"""
    found = one.page.evaluate(numbers)
    assert found == list(range(1, len(found) + 1)) and len(found) >= 12
