"""A Plotly chart that is updated in place: no flicker, the visitor's zoom survives, themes switch live.

Streamlit's own `st.plotly_chart` rebuilds the chart whenever its data change. This component keeps one
chart and hands it new data. It needs plotly.js from our server (`server.py`); where that is missing,
Streamlit's chart is shown instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from sim_core import __version__
from sim_core.view.session import record, server, state

REFINING = "refining with more requests …"
REST_MS = 700  # the chart has rested when nothing was pressed for this long
_HERE = Path(__file__).parent / "assets"
_PARTS = ("figure.js", "export.js", "player.js", "chart.js")
_JS = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _PARTS)
_CSS = """
.bs-chart { position: relative; width: 100%; }
.bs-chart-mark { position: absolute; right: 0.5rem; bottom: 0.25rem; font-size: 0.8rem; opacity: 0.65;
                 pointer-events: none; }
@media (hover: none) { /* the toolbar stays, so it stands beneath the chart, not on its legend */
  .bs-chart { display: flow-root; }
  .bs-chart > .js-plotly-plot { margin-bottom: 32px; }
  .bs-chart .modebar-container { top: 100% !important; }
  .bs-chart .modebar-container .modebar { left: 0; right: auto; }
}
""" + (_HERE / "player.css").read_text(encoding="utf-8")
_component = st.components.v2.component(
    "batchscope_chart", js=server.script("figure", _JS, _CSS), isolate_styles=False
)


class Heading(NamedTuple):
    """The heading of the exported image, beside the page's finding and the version."""

    title: str = ""
    subtitle: str = ""


NO_HEADING = Heading()


def chart(
    figure: dict[str, Any],
    key: str,
    alt: str,
    height: int = 520,
    heading: Heading = NO_HEADING,
    on_settled: Callable[[], None] | None = None,
    player: dict[str, Any] | None = None,
    export: tuple[int, int] = (1100, 590),
) -> None:
    """Show `figure` in place.

    Parameters
    ----------
    figure : dict
        The figure as Plotly's JSON; what the theme should colour has no colour, or `figures.INK`.
    key : str
        Identity of the chart on its page.
    alt : str
        The chart in one sentence, for people who cannot see it.
    height : int
        Height. [px]
    heading : Heading
        Of the exported image.
    on_settled : callable, optional
        Called once per figure when the visitor has rested; the script runs again after it. From then until
        the next figure, a quiet mark says that the figure is refined.
    player : dict, optional
        What `player.js` plays on the chart, as `gantt.draw` makes it.
    export : tuple of int
        Width of the exported image, and its height beneath the heading; a PNG has twice as many. [px]
    """
    record.add_chart(key, record.Drawing(figure, alt, heading.title, heading.subtitle, height))
    if not server.serves_plotly():
        given = (
            figure if figure["data"] else figure | {"data": [{}]}
        )  # Plotly refuses a figure without traces
        st.plotly_chart(given, key=key, height=height, alt=alt, config={"displaylogo": False})
        return
    drawing = json.dumps(figure, separators=(",", ":"), ensure_ascii=False)
    spec = _surroundings() | {
        "key": key,
        "alt": alt,
        "height": height,
        "title": heading.title,
        "subtitle": heading.subtitle,
        "filename": f"batchscope-{key}",
        "busy": REFINING,
        "settle_ms": REST_MS if on_settled else 0,
        "export": export,
        "player": player,
        "revision": hashlib.blake2b(drawing.encode(), digest_size=6).hexdigest(),
    }
    callbacks: dict[str, Any] = {"on_settled_change": on_settled} if on_settled else {}
    text = f'{{"figure":{drawing},{json.dumps(spec, separators=(",", ":"), ensure_ascii=False)[1:]}'
    _component(data=text.encode(), key=key, height="content", **callbacks)


def _surroundings() -> dict[str, Any]:
    """Return what a chart must know of the page it stands on."""
    return {
        "plotly": server.PLOTLY_PATH,
        "finding": record.now().finding,
        "version": __version__,
        "fill": state.embedded(),
    }
