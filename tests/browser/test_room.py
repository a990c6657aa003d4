"""A workshop in real browsers: a host with arrow keys, participants with phones, no key in what they see."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.test_own_and_pools import fits
from tests.browser.visit import CHART, Visit

pytestmark = pytest.mark.browser

ROOM = ".bs-finding"
PHONE = {"viewport": {"width": 400, "height": 800}}


def text(one: Visit) -> str:
    return one.page.locator(".stMain").inner_text()


def predict(one: Visit, value: str) -> None:
    """Type a prediction and send it, by keys alone."""
    one.page.get_by_role("spinbutton").focus()
    one.page.keyboard.type(value)
    one.page.keyboard.press("Enter")
    one.until(lambda: "You predicted" in text(one))


def test_large_type_folds_no_page_of_the_navigation_away(visit: Callable[..., Visit]) -> None:
    """Oracle: the navigation's own mark of what it shows, on a screen on which all pages fit."""
    host = visit("/Room", ROOM, viewport={"width": 1400, "height": 900})
    host.page.get_by_role("button", name="Open a room").click()
    host.page.wait_for_selector(".bs-code")
    folded = "[data-testid='stTopNav'] > .rc-overflow-item[aria-hidden='true']:not(.rc-overflow-item-rest)"
    host.until(lambda: host.page.locator(folded).count() == 0)


def test_a_room_predicts_and_looks(visit: Callable[..., Visit]) -> None:
    """Oracle: everybody's page follows the host's within a few seconds; the truth comes with the reveal."""
    host = visit("/Room", ROOM)
    host.page.get_by_role("button", name="Open a room").click()
    host.page.wait_for_selector(".bs-code")
    code = host.page.locator(".bs-code").inner_text()
    assert host.address() == {"room": code}
    one, other = (
        visit(f"/Room?room={code}", ROOM, color_scheme=scheme, **PHONE) for scheme in ("light", "dark")
    )
    host.until(lambda: "2 here" in text(host))
    one.until(lambda: "You are in" in text(one))
    host.page.keyboard.press("ArrowRight")
    predict(one, "1000")
    host.until(lambda: "1 predicted" in text(host))
    predict(other, "7000")
    host.until(lambda: "2\u00a0predicted" in text(host).replace(" ", "\u00a0"))
    assert all("simulator says" not in text(visitor) for visitor in (host, one, other))
    host.page.keyboard.press("ArrowRight")
    for visitor in (host, one, other):
        visitor.until(lambda visitor=visitor: "simulator says" in text(visitor))
        visitor.page.wait_for_selector(f"{CHART} .main-svg")
        assert visitor is host or fits(visitor)
    for visitor, words in ((other, "you said 7"), (host, "2 here")):  # a reload changes nobody
        visitor.page.reload()
        visitor.until(lambda visitor=visitor, words=words: words in text(visitor))
    host.until(lambda: host.page.get_by_role("button", name="Show the curve").count() == 1)
    for _ in range(2):
        before = text(host)
        host.page.keyboard.press("ArrowRight")
        host.until(lambda before=before: text(host) != before)
    one.until(lambda: one.page.get_by_role("radio").count() > 1)
    host.page.get_by_role("button", name="30 s").click()
    host.page.wait_for_selector(".bs-countdown")
    one.page.wait_for_selector(".bs-countdown")
    host.page.get_by_test_id("stPopoverButton").click()
    host.page.get_by_role("button", name="End the room").click()
    one.until(lambda: "There is no room" in text(one))
    host.until(lambda: "room" not in host.address())


def test_a_half_typed_number_stays(visit: Callable[..., Visit]) -> None:
    """Oracle: the field, over several polls of the room."""
    host = visit("/Room", ROOM)
    host.page.get_by_role("button", name="Open a room").click()
    host.page.wait_for_selector(".bs-code")
    host.page.get_by_role("button", name="Start").click()
    one = visit(f"/Room?room={host.page.locator('.bs-code').inner_text()}", ROOM, **PHONE)
    field = one.page.get_by_role("spinbutton")
    field.focus()
    one.page.keyboard.type("12")
    one.page.wait_for_timeout(5000)
    one.page.keyboard.type("34")
    assert field.input_value().replace(",", "").startswith("1234")


def test_a_reveal_to_few_wants_a_second_word(visit: Callable[..., Visit]) -> None:
    """Oracle: an arrow key reveals nothing to people who have not predicted, however often; a button does."""
    host = visit("/Room", ROOM)
    host.page.get_by_role("button", name="Open a room").click()
    host.page.wait_for_selector(".bs-code")
    one = visit(f"/Room?room={host.page.locator('.bs-code').inner_text()}", ROOM, **PHONE)
    host.until(lambda: "1 here" in text(host))
    host.page.keyboard.press("ArrowRight")
    one.until(lambda: one.page.get_by_role("spinbutton").count() == 1)
    for _ in range(3):
        host.page.keyboard.press("ArrowRight")
        host.until(lambda: "Only 0 of 1 have predicted" in text(host))
    assert "simulator says" not in text(host) + text(one)
    host.page.get_by_role("button", name="Reveal it").click()
    one.until(lambda: "simulator says" in text(one))
    host.page.get_by_role("button", name="Take the reveal back").click()
    one.until(lambda: one.page.get_by_role("spinbutton").count() == 1)


def test_a_copied_link_is_somebody_else(visit: Callable[..., Visit]) -> None:
    """Oracle: the counts: a participant's address, opened elsewhere, joins as one more; a reload does not."""
    host = visit("/Room", ROOM)
    host.page.get_by_role("button", name="Open a room").click()
    host.page.wait_for_selector(".bs-code")
    one = visit(f"/Room?room={host.page.locator('.bs-code').inner_text()}", ROOM, **PHONE)
    host.until(lambda: "1 here" in text(host))
    assert set(one.address()) == {"room"}
    one.page.reload()
    one.until(lambda: "You are in" in text(one))
    copied = visit("/Room" + one.page.url.partition("/Room")[2], ROOM, **PHONE)
    host.until(lambda: "2 here" in text(host))
    stored = "Object.values(sessionStorage).join()"
    assert one.page.evaluate(stored) != copied.page.evaluate(stored)
