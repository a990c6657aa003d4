"""The in-place chart: it outlasts a clean-up that comes too late, ends with its element, and can be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sim_core.view.parts import chart
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser

LIFE = """async (code) => {
  const nothing = async () => {};
  window.Plotly = { react: nothing, purge() {}, Icons: { camera: {} }, Plots: { resize: nothing } };
  const { default: call } = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const element = document.body.appendChild(document.createElement("div"));
  const spec = { figure: { data: [], layout: {} }, key: "one", alt: "a chart", height: 300, export: [1, 1] };
  const data = new TextEncoder().encode(JSON.stringify(spec));
  const ask = () => call({ data, parentElement: element, setTriggerValue() {} });
  const wait = () => new Promise((go) => setTimeout(go, 1200));
  const stands = () => element.querySelectorAll(".bs-chart").length;
  const seen = [];
  ask();
  const clean = ask();
  clean();
  await wait();
  seen.push(stands());
  element.remove();
  clean();
  await wait();
  seen.push(stands());
  return seen;
}"""


def test_a_late_clean_up_leaves_the_chart(chromium: Any) -> None:
    """By hand: two calls and a clean-up of the later one leave a chart on the page; off it, none stays."""
    page = chromium.new_page()
    page.goto("about:blank")
    assert page.evaluate(LIFE, chart._JS) == [1, 0]
    page.close()


WORDS = """() => {
  const words = [...document.querySelectorAll('.annotation-text')].map((text) => getComputedStyle(text));
  const paper = getComputedStyle(document.querySelector('.stApp')).backgroundColor;
  return [paper, words.map((look) => [look.fill, Number(look.fillOpacity)])];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/?fine=off", "/Validation"])
def test_words_in_a_chart_can_be_read(visit: Callable[..., Visit], path: str, scheme: str) -> None:
    """Oracle: contrast as WCAG 2.2 defines it, of every word against the page: at least 4.5."""
    paper, words = visit(path, color_scheme=scheme).page.evaluate(WORDS)
    assert len(words) >= 2
    ground = parts(paper)
    for fill, opacity in words:
        mixed = [opacity * of + (1 - opacity) * on for of, on in zip(parts(fill), ground, strict=True)]
        assert contrast(mixed, ground) >= 4.5


def parts(colour: str) -> list[float]:
    return [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: Sequence[float]) -> float:
    """Return the relative luminance of WCAG 2.2 of red, green and blue from 0 to 255."""
    shares = [part / 255 for part in colour]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
