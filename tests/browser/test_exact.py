"""A slider's value can be typed: with the mouse, by keyboard, on a phone; units are understood."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.visit import Visit

pytestmark = pytest.mark.browser
FIELD = ".bs-exact"


def shown(visit: Visit, slider: str):
    return visit.page.locator(f".st-key-{slider} [data-testid=stSliderThumbValue]").first


def enter(visit: Visit, text: str, query: str) -> None:
    visit.page.locator(FIELD).wait_for()
    visit.page.keyboard.type(text)
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_function(f"location.search.includes({query!r})")
    assert not visit.page.locator(FIELD).count()


def test_a_value_is_typed_with_its_unit(visit: Callable[..., Visit]) -> None:
    """Oracle: 27.5T of a memory bandwidth are 27,500 GB/s, in the address and in the slider."""
    here = visit("/")
    shown(here, "in_hbm_gb_per_s").click()
    enter(here, "27.5T", "hbm_gb_per_s=27500")
    assert shown(here, "in_hbm_gb_per_s").inner_text().startswith("27.5")
    here.page.locator(".st-key-in_max_batch input[type=range]").focus()
    here.page.keyboard.press("Enter")
    enter(here, "77", "max_batch=77")
    assert here.page.evaluate("document.activeElement.type") == "range"  # where the keyboard was


def test_what_is_no_number_changes_nothing(visit: Callable[..., Visit]) -> None:
    """Oracle: the message names the slider and what was typed; Escape says nothing."""
    here = visit("/")
    before = shown(here, "in_prompt_tokens").inner_text()
    shown(here, "in_prompt_tokens").click()
    here.page.keyboard.type("7")
    here.page.keyboard.press("Escape")
    assert not here.page.locator(FIELD).count()
    shown(here, "in_prompt_tokens").click()
    here.page.keyboard.type("many")
    here.page.keyboard.press("Enter")
    here.page.get_by_text("Prompt length: 'many' is no number").wait_for()
    assert shown(here, "in_prompt_tokens").inner_text() == before


def test_a_tap_opens_the_field_on_a_phone(visit: Callable[..., Visit]) -> None:
    """Oracle: the address; the slider beside the chart is not dragged by the tap."""
    here = visit("/Two_phases", viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    shown(here, "in_at_batch").tap()
    enter(here, "48", "at_batch=48")
    assert shown(here, "in_at_batch").inner_text().startswith("48")


def test_an_emptied_value_puts_the_slider_back(visit: Callable[..., Visit]) -> None:
    """By hand: the default has no key in the address."""
    here = visit("/?max_batch=77&fine=off")
    shown(here, "in_max_batch").click()
    here.page.locator(FIELD).wait_for()
    here.page.keyboard.press("Delete")
    here.page.keyboard.press("Enter")
    here.page.wait_for_function("!location.search.includes('max_batch')")


def test_a_share_and_a_multiple_are_typed_as_they_are_shown(visit: Callable[..., Visit]) -> None:
    """By hand: 73 over 50 % is 73 %; twice 989 TFLOP/s are 1978."""
    here = visit("/?mix=chat:0.5,rag:0.5&fine=off")
    shown(here, "in_share").click()
    enter(here, "73", "0.73")
    here.open("/Two_phases?phases=specs")
    shown(here, "in_more_flops").click()
    enter(here, "2", "bf16_tflop_per_s=1978")


def test_enter_on_words_that_have_not_changed_says_nothing(visit: Callable[..., Visit]) -> None:
    """Oracle: the slider's words, which are no number, and no message about them."""
    here = visit("/Two_phases")
    assert shown(here, "in_at_context").inner_text().startswith("mean")
    shown(here, "in_at_context").click()
    here.page.locator(FIELD).wait_for()
    here.page.keyboard.press("Enter")
    here.page.wait_for_timeout(1000)
    assert not here.page.locator(FIELD).count() and not here.page.get_by_text("is no number").count()
