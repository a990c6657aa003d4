"""Take the README's pictures of the running app: `python -m tests.browser.pictures http://localhost:8501`."""

from __future__ import annotations

import os
import shutil
import sys

from playwright.sync_api import sync_playwright

from tests.places import ROOT

DOCS = ROOT / "docs"
SIZE = {"width": 1400, "height": 1130}
REFINED = (
    "[...document.querySelectorAll('.bs-figure .note')].some((note) => /\\d–\\d/.test(note.textContent))"
)


def main(url: str) -> None:
    """Save the Frontier page in light and dark, once it has been refined."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    DOCS.mkdir(exist_ok=True)
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto(url)
            page.wait_for_selector(".js-plotly-plot .main-svg", timeout=240_000)
            page.wait_for_function(f"() => {REFINED}", timeout=120_000)
            page.mouse.move(1390, 1100)
            page.wait_for_timeout(1000)
            page.screenshot(path=DOCS / f"frontier-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8501")
