"""A Plotly chart that is updated in place: no flicker, the visitor's zoom survives, themes switch live.

Streamlit's own `st.plotly_chart` rebuilds the chart whenever its data change. This component keeps one
chart and hands it new data. It needs plotly.js from our server (`server.py`); where that is missing,
Streamlit's chart is shown instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import streamlit as st

from sim_core import __version__
from sim_core.scenario.link.file_names import file_name
from sim_core.view.drawing.terms import explained_in
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
@media (max-width: 640px) { /* no room beside the title of the axis */
  .bs-chart { margin-bottom: 0.8rem; }
  .bs-chart-mark { bottom: -1.1rem; }
}
@media (hover: none) { /* the toolbar stays, so it stands beneath the chart, not on its legend */
  .bs-chart { display: flow-root; }
  .bs-chart > .js-plotly-plot { margin-bottom: 32px; }
  .bs-chart-mark { bottom: 0.25rem; }
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
    of_scenario: bool = True  # what is published, or of a lesson, is of no scenario of the visitor's
    slide: tuple[str, ...] = ()  # lines that a slide has beneath the finding


NO_HEADING = Heading()
NOTHING: Mapping[str, Callable[[], None]] = MappingProxyType({})


def chart(
    figure: dict[str, Any],
    key: str,
    alt: str,
    height: int = 520,
    heading: Heading = NO_HEADING,
    on: Mapping[str, Callable[[], None]] = NOTHING,
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
    on : mapping of str to callable
        What is called, and the script run again after it, when something happens. ``settled``: once per
        figure, when the visitor has rested; from then until the next figure, a quiet mark says that the
        figure is refined. ``picked``: a point was clicked or tapped that has a name, the last of its
        `customdata` (`picked` returns it).
    player : dict, optional
        What `player.js` plays on the chart, as `drawing.draw_timelines` makes it.
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
    spec = _surroundings(figure, heading) | {
        "key": key,
        "alt": alt,
        "height": height,
        "filename": _file_name(key, heading),
        "busy": REFINING,
        "settle_ms": REST_MS if "settled" in on else 0,
        "picks": "picked" in on,
        "export": export,
        "player": player,
        "revision": hashlib.blake2b(drawing.encode(), digest_size=6).hexdigest(),
    }
    callbacks: dict[str, Any] = {f"on_{event}_change": call for event, call in on.items()}
    text = f'{{"figure":{drawing},{json.dumps(spec, separators=(",", ":"), ensure_ascii=False)[1:]}'
    _component(data=text.encode(), key=key, height="content", **callbacks)


def _explained(figure: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts at the axes and in the legend that hold terms of the glossary, with their meaning."""
    axes = [axis for name, axis in figure["layout"].items() if name[1:5] == "axis"]
    texts = [*map(_title, axes), *map(_name, figure["data"])]
    return {text: explained_in(text) for text in texts if explained_in(text)}


def _title(axis: Mapping[str, Any]) -> str:
    title = axis.get("title") or ""
    return title if isinstance(title, str) else str(title.get("text") or "")


def _name(trace: Mapping[str, Any]) -> str:
    return str(trace.get("name") or "") if trace.get("showlegend", True) else ""


def picked(key: str) -> str:
    """Return the name of the point that was clicked or tapped on a chart; "" if none was."""
    return str(st.session_state[key].picked or "")


def _file_name(key: str, heading: Heading) -> str:
    scenario = st.session_state.get("scenario")
    if scenario is None or not heading.of_scenario:
        return f"batchscope-{key}"
    return f"batchscope-{key}-{file_name(scenario)}"


def _surroundings(figure: Mapping[str, Any], heading: Heading) -> dict[str, Any]:
    """Return what a chart must know of the page it stands on, and what its words mean."""
    return {
        **heading._asdict(),
        "terms": _explained(figure),
        "plotly": server.PLOTLY_PATH,
        "finding": record.now().finding,
        "version": __version__,
        "fill": state.embedded(),
    }
