"""Times a slider, from key to painted chart: `python -m benchmarks.paint` (two minutes; needs Chromium).

Every move stands beside one on a bare Streamlit page (a slider, a chart of four curves) in the same
browser, a moment later, so that the ratio says more about the code than about the machine and what else it
does. A move is a key on the focused slider, to a value that was not shown before; the next begins when
nothing has come and nothing was drawn for a while, before the page refines its answer. `--url` times an app
that runs already. Nothing is asserted.

A move's times are those of the browser, from the key: `sent` to the server, `answered` at the first and
`complete` at the last message of the answer, `painted` in the first frame after the chart was last changed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.page_weight import BROWSERS, LOADED_MS, PLOTTED, running
from benchmarks.workshop import served

SLIDERS = ("Memory bandwidth", "Answer length")
BARE_SLIDER = "Rate"
BARE_PAGE = f'''
import numpy as np
import plotly.graph_objects as go
import streamlit as st

rate = st.slider("{BARE_SLIDER}", 0, 1000, 500)
x = np.linspace(1, 100, 12)
curves = [go.Scatter(x=x, y=(rate + k) * x, mode="lines+markers") for k in range(4)]
st.plotly_chart(go.Figure(curves), key="chart")
'''
KINDS = ("sent", "answered", "complete", "painted")
QUIET_MS, LATE_MS = 350, 15_000
RESTING_MS = 3_000  # after a page was opened
WARM_UP = 2  # moves that are not counted
SEEN = """
(() => {
  const seen = window.seen = [];
  const note = (kind, bytes = 0) => seen.push([kind, performance.now(), bytes]);
  const Socket = window.WebSocket, send = Socket.prototype.send;
  Socket.prototype.send = function (data) { note("sent"); return send.call(this, data); };
  window.WebSocket = new Proxy(Socket, { construct(kind, given) {
    const socket = new kind(...given);
    const size = ({ data }) => data.byteLength ?? data.size ?? data.length;
    socket.addEventListener("message", (message) => note("answered", size(message)));
    return socket;
  } });
  addEventListener("keydown", () => note("key"), { capture: true });
  const isChart = (node) => (node.nodeType === 1 ? node : node.parentElement)?.closest?.(".js-plotly-plot");
  const hasChart = (node) => node.nodeType === 1 && (isChart(node) || node.querySelector(".js-plotly-plot"));
  new MutationObserver((changes) => {
    if (!changes.some(({ target, addedNodes }) => isChart(target) || [...addedNodes].some(hasChart))) return;
    note("changed");
    requestAnimationFrame(() => setTimeout(() => note("painted")));
  }).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
})();
"""
RUNNING = "document.querySelector('.stApp').dataset.testScriptState === 'running'"
Move = dict[str, float]


def move(page: object, slider: object, key: str) -> Move | None:
    """Press a key on a slider; return what `timed` does once all is quiet."""
    slider.focus()
    page.evaluate("() => { seen.length = 0; }")
    page.keyboard.press(key)
    late_s = time.monotonic() + LATE_MS / 1000
    while time.monotonic() < late_s:
        page.wait_for_timeout(25)
        seen, now, running = page.evaluate(f"() => [seen, performance.now(), {RUNNING}]")
        if not running and now - max(at for _, at, _ in seen) > QUIET_MS:
            break
    return timed(seen)


def timed(seen: Sequence[tuple[str, float, float]]) -> Move | None:
    """Return a move's times [ms], messages and bytes, of what was seen; None at the slider's end."""
    start = max(at for kind, at, _ in seen if kind == "key")

    def times(name: str) -> list[float]:
        return [at - start for kind, at, _ in seen if kind == name and at >= start]

    sent, answers, frames = times("sent"), times("answered"), times("painted")
    if not (sent and answers and frames):
        return None
    size = sum(bytes_ for kind, _, bytes_ in seen if kind == "answered")
    found = dict(zip(KINDS, (sent[0], answers[0], answers[-1], frames[-1]), strict=True))
    return found | {"messages": len(answers), "bytes": size}


def walk(pages: Sequence[tuple[object, str, str]], key: str, moves: int) -> list[list[Move]]:
    """Open pages by their addresses and move the slider of each in turn; return the moves of each."""
    sliders = []
    for page, url, label in pages:
        page.goto(url)
        page.wait_for_selector(PLOTTED, timeout=LOADED_MS)
        sliders.append(page.get_by_role("slider", name=label).first)
    pages[-1][0].wait_for_timeout(RESTING_MS)
    found: list[list[Move]] = [[] for _ in pages]
    for count in range(WARM_UP + moves):
        for (page, *_), slider, kept in zip(pages, sliders, found, strict=True):
            seen = move(page, slider, key)
            if seen and count >= WARM_UP:
                kept.append(seen)
    return found


def rows(name: str, moves: Sequence[Move]) -> str:
    """Return a line of the table: medians and 95th percentiles."""
    cells = [f"{name:24s}{len(moves):4d}"]
    cells += [f"{middle(moves, kind):6.0f} {high(moves, kind):6.0f}" for kind in KINDS]
    return "  ".join([*cells, f"{middle(moves, 'messages'):6.0f}", f"{middle(moves, 'bytes') / 1e3:6.1f}"])


def middle(moves: Sequence[Move], kind: str) -> float:
    return statistics.median(move[kind] for move in moves)


def high(moves: Sequence[Move], kind: str) -> float:
    return sorted(move[kind] for move in moves)[round(0.95 * (len(moves) - 1))]


@contextlib.contextmanager
def bare_page() -> Iterator[str]:
    """Run the bare page; yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(BARE_PAGE, encoding="utf-8")
        with served(str(script), {}) as (host, _):
            yield f"http://{host}"


def main() -> None:
    """Print how long the moves of each slider take, beside those of the bare page."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="of an app that runs already")
    parser.add_argument("--path", default="/", help="of the page that is timed, with its query")
    parser.add_argument("--sliders", nargs="+", default=SLIDERS, help="labels of its sliders")
    parser.add_argument("--moves", type=int, default=12, help="of a slider, to each side")
    given = parser.parse_args()
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    print(" " * 28, *(f"{kind:>15s}" for kind in KINDS), "messages  kB", "  (p50 and p95, ms)")
    with running(given.url) as url, bare_page() as bare, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for label in given.sliders:
            here, there = (browser.new_page(viewport={"width": 1400, "height": 900}) for _ in range(2))
            for page in (here, there):
                page.add_init_script(SEEN)
            pages = [(here, url + given.path, label), (there, bare, BARE_SLIDER)]
            found = [walk(pages, key, given.moves) for key in ("ArrowRight", "ArrowLeft")]
            ours, theirs = (found[0][k] + found[1][k] for k in range(2))
            if not (ours and theirs):
                sys.exit(f"{label} did not move: it has too few steps, or another name.")
            print(rows(label, ours), rows("a bare page", theirs), sep="\n")
            ratios = (at(ours, "painted") / at(theirs, "painted") for at in (middle, high))
            print("  painted: {:.2f} of the bare page at the median, {:.2f} at p95".format(*ratios))
            here.close()
            there.close()
        browser.close()


if __name__ == "__main__":
    main()
