"""The Traffic shift page in a real browser: what paints, fills in, moves and stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.test_own_and_pools import finding, fits
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser

QUICK = "demand_hours=0.1&dwell_s=60&prefill_workers=2&decode_workers=2&slo_tpot_ms=20"
WATCH = """
window.twice = new Set();
const look = () => {
  const seen = new Set();
  for (const label of document.querySelectorAll('[data-testid=stSlider] [data-testid=stWidgetLabel]')) {
    const place = label.closest('[data-testid=stSidebar]') ? 'sidebar' : 'page';
    const name = `${place}: ${label.innerText.trim()}`;
    if (seen.has(name)) window.twice.add(name);
    seen.add(name);
  }
};
new MutationObserver(look).observe(document, {subtree: true, childList: true, characterData: true});
"""  # looks each time the page has changed
FREE = "init_s=0&warm_up_s=0&storage_gb_per_s=1000000&control_s=5"


@pytest.mark.parametrize("view", ["time", "strategies", f"pays&{FREE}"])
def test_every_view_paints_and_fits(visit: Callable[..., Visit], view: str) -> None:
    """Oracle: a finding, a chart with a text alternative, and nothing wider than the screen."""
    one = visit(f"/Traffic_shift?{QUICK}&shift={view}", viewport={"width": 400, "height": 800})
    one.until(lambda: one.page.get_by_role("button", name="Stop").count() == 0)
    assert finding(one)
    assert one.chart("chart.getAttribute('aria-label')")
    assert fits(one)


def test_all_strategies_fill_in(visit: Callable[..., Visit]) -> None:
    """Oracle: no cell is left open, without a touch."""
    one = visit(f"/Traffic_shift?{QUICK}&shift=strategies")
    one.until(lambda: "…" not in one.page.locator(".bs-compare").first.inner_text())
    assert "One pool" in finding(one)


def test_another_strategy_moves_the_pools(visit: Callable[..., Visit]) -> None:
    """Oracle: the address names the strategy, and the pools are split in another way."""
    one = visit(f"/Traffic_shift?{QUICK}&strategy=fixed")
    pools = "chart.data.filter(trace => trace.stackgroup).map(trace => Array.from(trace.y))"
    before = one.chart(pools)
    one.page.get_by_role("combobox", name="Strategy").click()
    one.page.get_by_role("option", name="Oracle, free moves").click()
    one.until(lambda: one.address().get("strategy") == "free")
    one.until(lambda: one.chart(pools) != before)


def test_the_work_can_be_stopped_and_goes_on(visit: Callable[..., Visit]) -> None:
    """Oracle: after a stop points are missing; going on brings them. All take many seconds on any machine."""
    one = visit("/Traffic_shift?slo_tpot_ms=15&shift=pays&seed=5")
    points = "chart.data.reduce((sum, trace) => sum + Array.from(trace.y).filter(Number.isFinite).length, 0)"
    one.page.get_by_role("button", name="Stop").click()
    one.page.wait_for_selector("text=Stopped")
    some = one.chart(points)
    one.page.get_by_role("button", name="Go on").click()
    one.page.wait_for_selector("text=Stopped", state="hidden")
    one.until(lambda: one.page.get_by_role("button", name="Stop").count() == 0, seconds=120)
    one.until(lambda: one.chart(points) > some)


def test_what_waits_is_worked_out_when_asked_for(visit: Callable[..., Visit]) -> None:
    """Oracle: of seven hours a view leaves some out and something open; going on closes it."""
    one = visit("/Traffic_shift?demand_hours=7&slo_tpot_ms=15&shift=strategies&seed=5")
    one.page.wait_for_selector("text=Stopped")
    assert "…" in one.page.locator(".bs-compare").first.inner_text()
    one.page.get_by_role("button", name="Go on").click()
    one.until(lambda: "…" not in one.page.locator(".bs-compare").first.inner_text(), seconds=120)


def test_no_slider_ever_stands_twice(visit: Callable[..., Visit]) -> None:
    """Oracle: the labels on the page and in the sidebar, looked at whenever the page changes while strategies
    are worked out: when it opens, in another view, with other traffic, without a note."""
    one = visit(f"/Traffic_shift?{QUICK}")
    one.page.add_init_script(WATCH)
    for shown in ("time", "strategies"):
        one.open(f"/Traffic_shift?demand_hours=0.5&slo_tpot_ms=15&seed=17&shift={shown}&no_such_key=1")
        steps = (
            lambda: one.page.get_by_text("When adapting pays").click(),
            lambda: one.page.get_by_role("button", name="Got it").click(),
            lambda: one.page.get_by_text("Over time").first.click(),
            lambda: choose_traffic(one, "trace"),
            lambda: choose_traffic(one, "spike"),
            lambda: one.page.get_by_text("All strategies").click(),
            lambda: choose_traffic(one, "step"),
        )
        for step in steps:
            step()
            one.page.wait_for_timeout(700)
        one.until(lambda: one.page.get_by_role("button", name="Stop").count() == 0, seconds=120)
        assert one.page.evaluate("[...window.twice]") == []
        assert one.page.evaluate("document.querySelectorAll('[data-testid=stSlider]').length") > 10


def choose_traffic(one: Visit, kind: str) -> None:
    one.page.get_by_role("combobox", name="Traffic over time").first.click()
    one.page.get_by_role("option", name=kind, exact=True).click()
