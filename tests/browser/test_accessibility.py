"""Every page in light and dark, wide and narrow, against axe: no serious finding, headings in order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.visit import PLOTTED, Visit

pytestmark = pytest.mark.browser

GALLERY = "/Gallery"
PAGES = (
    "/?fine=off", "/Two_phases", "/Batching", "/Scenarios", "/Layouts", "/Plan", "/Atlas",
    "/Disaggregation",
    "/Traffic_shift?demand_hours=0.03&slo_tpot_ms=20&shift=strategies", "/Compare?versus=max_batch%3D64",
    "/Compare?compare=design&accelerator=corsair&bf16_tflop_per_s=1200&tensor_parallel=16",
    "/Compare?compare=sensitivity&sense=tpot",
    "/Lessons?lesson=03-why-batching-works&answers=3.1=1000", "/Room", "/Validation", GALLERY,
    "/Mine?prices=h100-sxm:2.1", "/Calibrate", "/Method", "/Method?method=controls",
)  # fmt: skip
SHOWS = {
    "/Room": ".bs-finding",
    "/Plan": ".bs-finding",
    "/Mine?prices=h100-sxm:2.1": ".bs-finding",
    GALLERY: "svg.bs-thumbnail polyline",
    "/Calibrate": ".bs-finding",
    "/Method": "[role=tabpanel] table",
    "/Method?method=controls": "[data-testid=data-grid-canvas]",
}  # others show a chart


@pytest.mark.parametrize(("scheme", "wide", "narrow"), [("light", 1400, 400), ("dark", 1920, 1024)])
def test_no_page_has_a_serious_finding(
    visit: Callable[..., Visit], scheme: str, wide: int, narrow: int
) -> None:
    """Oracle: axe: contrast, names of controls, roles, keyboard; what was opened wide is then narrowed, which
    folds the sidebar away on a phone as opening it there does.
    """
    one = visit(PAGES[0], color_scheme=scheme)
    serious = {}
    for path in PAGES:
        one.page.set_viewport_size({"width": wide, "height": 900})
        one.open(path, SHOWS.get(path, PLOTTED))
        for width in (wide, narrow):
            one.page.set_viewport_size({"width": width, "height": 900})
            one.page.wait_for_timeout(1500 if width == wide else 700)
            if found := serious_findings(one):
                serious[path, width] = found
    assert serious == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_room_has_a_serious_finding(visit: Callable[..., Visit], scheme: str) -> None:
    """Oracle: the same, of the host's and a participant's view, while predictions come and once revealed."""
    host = visit("/Room", SHOWS["/Room"], color_scheme=scheme)
    host.page.get_by_role("button", name="Open a room").click()
    host.page.wait_for_selector(".bs-code")
    code = host.page.locator(".bs-code").inner_text()
    one = visit(f"/Room?room={code}", SHOWS["/Room"], color_scheme=scheme)
    assert [serious_findings(visitor) for visitor in (host, one)] == [[], []]
    host.page.get_by_role("button", name="Start").click()
    host.page.wait_for_selector("text=predicted")
    host.page.wait_for_timeout(1500)
    host.page.keyboard.press("ArrowRight")
    host.page.get_by_role("button", name="Reveal it").click()
    for visitor in (host, one):
        visitor.page.wait_for_selector(".bs-answer")
        visitor.page.wait_for_selector(PLOTTED)
    assert [serious_findings(visitor) for visitor in (host, one)] == [[], []]


def serious_findings(one: Visit) -> list[tuple[str, str]]:
    """Return what axe finds serious on a page, each with the first element it concerns."""
    from axe_playwright_python.sync_playwright import Axe  # a package of requirements-dev.txt

    found = Axe().run(one.page).response["violations"]
    return [(item["id"], item["nodes"][0]["html"][:200]) for item in found if is_serious(item)]


def is_serious(item: dict) -> bool:
    return item["impact"] in ("serious", "critical") or item["id"] == "heading-order"
