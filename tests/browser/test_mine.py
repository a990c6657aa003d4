"""What a visitor keeps in their browser: over a reload, on another page, in another tab."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.visit import Visit

pytestmark = pytest.mark.browser


def keep(one: Visit, name: str) -> None:
    """Keep the present limits under a name, from the panel in the sidebar."""
    one.page.get_by_role("button", name="Mine").first.click()
    one.page.get_by_label("Keep of this setting").click()
    one.page.get_by_role("option", name="its set of limits").click()
    one.page.get_by_label("Under the name").fill(name)
    one.page.keyboard.press("Tab")
    one.page.get_by_role("button", name="Keep", exact=True).click()


def test_what_is_kept_is_there_after_a_reload_and_used_by_two_presses(visit: Callable[..., Visit]) -> None:
    """By hand: limits kept, a bare address opened, two presses, and the link has them again."""
    one = visit("/?fine=off&slo_tpot_ms=25")
    keep(one, "Fast chat")
    one.until(lambda: "Fast chat" in (one.page.evaluate("localStorage.getItem('batchscope-mine')") or ""))
    one.open("/?fine=off")
    assert "slo_tpot_ms" not in one.address()
    one.page.get_by_role("button", name="Mine").first.click()
    one.page.get_by_role("button", name="Fast chat").click()
    one.until(lambda: one.address().get("slo_tpot_ms") == "25")
    assert one.complaints == [] and one.outside == []


def test_another_tab_hears_of_it(visit: Callable[..., Visit]) -> None:
    """What one tab keeps, the Mine page in another one shows without a reload."""
    one = visit("/?fine=off&slo_tpot_ms=25")
    other = Visit(one.page.context.new_page(), one.url)
    other.open("/Mine", shows=".bs-finding")
    keep(one, "Fast chat")
    other.page.get_by_text("You keep 1 set of limits").wait_for()
