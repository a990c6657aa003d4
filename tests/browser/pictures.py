"""Take the pictures of README and docs of the running app: `python -m tests.browser.pictures http://localhost:8501`.

With names of pages behind the address, only theirs: `... http://localhost:8501 plan atlas`.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.places import ROOT

DOCS = ROOT / "docs"
FIRST, SIZE = {"width": 1400, "height": 1130}, {"width": 1200, "height": 820}
REFINED = (
    "[...document.querySelectorAll('.bs-figure .note')].some((note) => /\\d–\\d/.test(note.textContent))"
)
CHART, FINDING = ".js-plotly-plot .main-svg", ".bs-finding"
HIDE_START = "localStorage.setItem('batchscope-start-hidden', '1')"  # the line for first visitors
REST_MS = 9_000  # after which a page has drawn what it refines


class Page(NamedTuple):
    """A page as its picture shows it: its address, what tells that it is there, a button to press."""

    path: str
    shows: str = CHART
    press: str = ""


PAGES = {
    "plan": Page("/Plan?model=llama-3.1-70b&weight_dtype=fp8&plan_parts=chosen&among=h200,b200", FINDING),
    "layouts": Page("/Layouts?model=llama-3.1-70b&weight_dtype=fp8"),
    "atlas": Page("/Atlas"),
    "compare": Page("/Compare?versus=kv_dtype%3Dbf16&kv_dtype=fp8"),
    "calibrate": Page("/Calibrate", FINDING, "Try it with an example"),
    "two-phases": Page("/Two_phases"),
    "batching": Page("/Batching"),
    "mlperf-like": Page("/Scenarios"),
    "disaggregation": Page("/Disaggregation?preset=two-pools-or-one"),
    "traffic-shift": Page("/Traffic_shift?preset=shift-chats-and-documents"),
    "gallery": Page("/Gallery", "svg.bs-thumbnail polyline"),
    "lessons": Page("/Lessons?lesson=03-why-batching-works&answers=3.1=1000"),
    "room": Page("/Room", FINDING, "Open a room"),
    "validation": Page("/Validation"),
    "mine": Page("/Mine?prices=h100-sxm:2.1", FINDING),
    "method": Page("/Method", "[role=tabpanel] table"),
}


def main(url: str, names: Sequence[str]) -> None:
    """Save the Frontier page in light and dark, once it has been refined, and each other page as it rests."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    (DOCS / "pages").mkdir(parents=True, exist_ok=True)
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport=SIZE, color_scheme=scheme)
            context.add_init_script(HIDE_START)
            for name in names or PAGES:
                _page(context.new_page(), url, name, scheme)
            if not names:
                _first(browser.new_page(viewport=FIRST, color_scheme=scheme), url, scheme)
        browser.close()


def _first(page: Any, url: str, scheme: str) -> None:
    page.goto(url)
    page.wait_for_selector(CHART, timeout=240_000)
    page.wait_for_function(f"() => {REFINED}", timeout=120_000)
    page.mouse.move(1390, 1100)
    page.wait_for_timeout(1000)
    page.screenshot(path=DOCS / f"frontier-{scheme}.png")


def _page(page: Any, url: str, name: str, scheme: str) -> None:
    shown = PAGES[name]
    page.goto(url + shown.path)
    page.wait_for_selector(shown.shows, timeout=240_000)
    if shown.press:
        page.get_by_role("button", name=shown.press).click()
    page.mouse.move(1190, 810)
    page.wait_for_timeout(REST_MS)
    picture = Image.open(io.BytesIO(page.screenshot(timeout=120_000))).convert("RGB")
    few = picture.quantize(
        256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )  # a quarter of the size
    few.save(DOCS / "pages" / f"{name}-{scheme}.png", optimize=True)
    page.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8501", sys.argv[2:])
