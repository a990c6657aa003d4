"""The Traffic shift page in a real browser: what paints, fills in, moves and stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.test_own_and_pools import finding, fits
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser

QUICK = "demand_hours=0.1&dwell_s=60&prefill_workers=2&decode_workers=2&slo_tpot_ms=20"
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
    """Oracle: after a stop something is left open; going on closes it."""
    one = visit("/Traffic_shift?demand_hours=2&slo_tpot_ms=15&shift=strategies&seed=5")
    one.page.get_by_role("button", name="Stop").click()
    one.page.wait_for_selector("text=Stopped")
    assert "…" in one.page.locator(".bs-compare").first.inner_text()
    one.page.get_by_role("button", name="Go on").click()
    one.until(lambda: "…" not in one.page.locator(".bs-compare").first.inner_text())
