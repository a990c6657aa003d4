"""Weighs a first visit: `python -m benchmarks.page_weight` (half a minute; needs Chromium and playwright).

A browser that has never been here opens a page, waits for its chart and for what refines it. What comes
over the wire is counted as Chromium counts it: the bodies and headers of answers, compressed where they
are, and the frames of the websocket. `--url` weighs an app that runs already, of another version as well.
Nothing is asserted.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.workshop import app

PLOTTED = ".js-plotly-plot .main-svg"
PAGES = ("/", "/Plan")
BROWSERS = ("chromium", "google-chrome")
LOADED_MS = 240_000
AT_REST_MS = 15_000  # after the first chart: time for the refined one
SHOWN = 8


@dataclass
class Weight:
    """What came over the wire. [bytes]"""

    files: dict[str, int] = field(default_factory=dict)
    messages: list[int] = field(default_factory=list)

    def rows(self) -> list[str]:
        """Return the totals and the heaviest files, as lines."""
        heaviest = sorted(self.files.items(), key=lambda item: -item[1])[:SHOWN]
        files, messages = sum(self.files.values()), sum(self.messages)
        return [
            f"  {(files + messages) / 1e6:.2f} MB",
            f"  {files / 1e6:.2f} MB in {len(self.files)} files",
            *(f"    {size / 1e3:8,.0f} kB  {name}" for name, size in heaviest),
            f"  {messages / 1e3:,.0f} kB in {len(self.messages)} messages",
        ]


def weigh(browser: object, url: str) -> tuple[Weight, int]:
    """Open a page as a first visitor; return its weight at rest, and of messages up to its chart [bytes].

    Parameters
    ----------
    browser : playwright.sync_api.Browser
    url : str
        Of the page.
    """
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    wire, weight, names = context.new_cdp_session(page), Weight(), {}
    wire.send("Network.enable")

    def note_name(told: dict) -> None:
        names[told["requestId"]] = told["request"]["url"]

    def note_file(told: dict) -> None:
        name = names.get(told["requestId"], "?").split("?")[0].rsplit("/", 1)[-1] or "page"
        weight.files[name] = weight.files.get(name, 0) + int(told["encodedDataLength"])

    def note_message(told: dict) -> None:
        frame = told["response"]
        body = frame["payloadData"]
        weight.messages.append(len(base64.b64decode(body) if frame["opcode"] == 2 else body.encode()))

    wire.on("Network.requestWillBeSent", note_name)
    wire.on("Network.loadingFinished", note_file)
    wire.on("Network.webSocketFrameReceived", note_message)
    page.goto(url)
    page.wait_for_selector(f"{PLOTTED}, .bs-finding", timeout=LOADED_MS)
    first = sum(weight.messages)
    page.wait_for_timeout(AT_REST_MS)
    context.close()
    return weight, first


@contextlib.contextmanager
def running(url: str | None) -> Iterator[str]:
    """Yield the address of the app: the one given, or that of an app of its own."""
    if url:
        yield url.rstrip("/")
        return
    with tempfile.NamedTemporaryFile(suffix=".sqlite") as rooms, app(f"sqlite:///{rooms.name}") as (host, _):
        yield f"http://{host}"


def main() -> None:
    """Weigh the first page, and that of a plan."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="of an app that runs already")
    parser.add_argument("--pages", nargs="+", default=PAGES)
    given = parser.parse_args()
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with running(given.url) as url, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for page in given.pages:
            weight, first = weigh(browser, url + page)
            print(page, *weight.rows(), f"  {first / 1e3:,.0f} kB of them up to the first chart", sep="\n")
        browser.close()


if __name__ == "__main__":
    main()
