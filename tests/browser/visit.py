"""A visitor of the running app, for tests marked `browser`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

CHART = ".js-plotly-plot"
PLOTTED = f"{CHART} .main-svg"
# The first visitor may wait for the kernels to be compiled.
PATIENCE_MS = 240_000
# Streamlit asks for its own address below every path it is opened at; the wrong guesses are answered 404.
EXPECTED_NOISE = re.compile(r"404 \(Not Found\)")


class Visit:
    """One page of one visitor, with all it complained about."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        self.outside: list[str] = []
        page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note_outside)

    def _note_outside(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname != "localhost":
            self.outside.append(request.url)

    def open(self, path: str = "/", shows: str = PLOTTED) -> Visit:
        self.page.goto(self.url + path)
        try:
            self.page.wait_for_selector(shows, timeout=PATIENCE_MS)
        except Exception as error:
            seen = self.page.inner_text("body")[:2000]
            raise AssertionError(f"{path} shows no {shows}, but: {seen!r}; {self.complaints}") from error
        self.page.wait_for_timeout(300)
        return self

    def turn_to(self, title: str) -> None:
        """Go to another page by its link, or by the section of the navigation behind which it is."""
        link = self.page.get_by_role("link", name=title, exact=True)
        hidden = self.page.get_by_role("menuitem", name=title, exact=True)
        sections = self.page.get_by_test_id("stTopNavSection")
        for section in range(sections.count()):
            if link.count() or hidden.count():
                break
            sections.nth(section).click()
            self.page.wait_for_timeout(300)
        (link if link.count() else hidden).first.click()

    def chart(self, expression: str) -> Any:
        """Return a value of the chart; `chart` in the expression is Plotly's element."""
        find = f"const chart = document.querySelector('{CHART}')"
        return self.page.evaluate(f"() => {{ {find}; return {expression}; }}")

    def curve(self) -> list[float]:
        return self.chart("Array.from(chart.data.find((trace) => trace.name === 'TP 1').y)")

    def ranges(self) -> list[float]:
        return self.chart("[...chart._fullLayout.xaxis.range, ...chart._fullLayout.yaxis.range]")

    def slider(self, label: str) -> Any:
        return self.page.get_by_role("slider", name=label).first

    def nudge(self, label: str, times: int = 1, key: str = "ArrowRight") -> None:
        """Move a slider by keys, each time until chart and address have followed."""
        for _ in range(times):
            before, link = self.curve(), self.page.url
            self.slider(label).focus()
            self.page.keyboard.press(key)
            self.until(lambda before=before, link=link: self.curve() != before and self.page.url != link)

    def zoom(self) -> None:
        """Draw a rectangle in the middle of the chart."""
        box = self.page.locator(f"{CHART} .nsewdrag").first.bounding_box()
        self.page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.7 * box["height"], steps=5)
        self.page.mouse.up()
        self.page.wait_for_timeout(200)

    def until(self, done: Callable[[], bool], seconds: float = 20) -> None:
        for _ in range(int(seconds * 20)):
            if done():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("nothing happened in time")

    def address(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(urlsplit(self.page.url).query).items()}
