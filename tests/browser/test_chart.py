"""The in-place chart's own life: it outlasts a clean-up that comes too late, and ends with its element."""

from __future__ import annotations

from typing import Any

import pytest

from sim_core.view.parts import chart

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
