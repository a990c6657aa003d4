"""Figures: pure functions from rows of points to a Plotly figure, with a sentence that says the same.

A figure is Plotly's own JSON, `{"data": ..., "layout": ...}`: building `go.Figure` objects would cost more
than the simulation behind them. The tests hand every figure to `go.Figure`, which checks it.

Conventions: interactivity to the right, throughput per accelerator up; one colour, dash and marker per curve,
the same on every page; points nobody would choose are faint but can be hovered; straight segments, since a
spline would invent points. Colours that depend on light or dark are left to the chart (`INK`, `SOFT`).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import numpy as np

from sim_core.view.drawing.words import number

Row = Mapping[str, Any]
Figure = dict[str, Any]
X, Y = "tok_per_s_per_user", "output_tok_per_s_per_accelerator"
INK = "#010203"  # stands for the theme's text colour; chart.js replaces it
PAPER = "#030201"  # stands for the theme's background
SOFT = "#020103"  # stands for the theme's colour of words that come second
MUTED = "#80868b"  # of lines and areas, seen on light and dark; as words it is too pale on light
SHADE = "rgba(128,134,139,0.13)"
HALO = "rgba(128,134,139,0.28)"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe-Ito
DASHES = ("solid", "dash", "dashdot", "dot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "hexagon")
FAINT = 0.3
BREAK = "<br>"  # between the lines of a text in a figure
MARGIN = {"l": 8, "r": 16, "t": 34, "b": 8}
LEGEND = {"orientation": "h", "x": 0, "y": 1.015, "xanchor": "left", "yanchor": "bottom"}
LAYOUT: Figure = {"margin": MARGIN, "hovermode": "closest", "dragmode": "zoom", "legend": LEGEND}
TALL_MARGIN, TALL_LEGEND = MARGIN | {"t": 40}, LEGEND | {"y": 1.02}  # for a legend with large markers
TALL_LAYOUT = LAYOUT | {"margin": TALL_MARGIN, "legend": TALL_LEGEND}
LIMITS = {  # what may limit a point: words, colour
    "weights": ("reading weights", "#0072B2"),
    "kv": ("reading the KV cache", "#56B4E9"),
    "compute": ("arithmetic", "#E69F00"),
    "communication": ("communication", "#CC79A7"),
    "all_to_all": ("tokens on their way to experts", "#882255"),
    "lockstep": ("waiting for the fullest rank", "#999933"),
    "bubbles": ("waiting for other stages", "#aa4499"),
    "fixed": ("fixed overhead", "#9aa0a6"),
    "measured": ("the measured step time", "#0072B2"),
    "queueing": ("waiting for a place in the batch", "#D55E00"),
    "kv_capacity": ("room for the KV cache", "#009E73"),
    "token_budget": ("the token budget of a step", "#b5651d"),
}


class Axis(NamedTuple):
    """What a chart has along one axis: a column of its rows, its title, and the unit of a value."""

    column: str
    title: str
    unit: str
    more_is_better: bool = True
    best: str = "best within the limits"  # what the point with the most of it is called


USER = Axis(X, "Interactivity [tok/s/user]", "tok/s/user")
DEVICE = Axis(Y, "Throughput [tok/s per accelerator]", "tok/s per accelerator")


@dataclass(frozen=True, slots=True)
class Frame:
    """Axis ranges in data units, kept while sliders move, so that a change can be seen."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_x: bool = False
    log_y: bool = False
    across: Axis = USER
    up: Axis = DEVICE

    def place(self, row: Row) -> tuple[float, float]:
        """Return what is drawn of a row, in data units."""
        return row[self.across.column], row[self.up.column]

    def drawable(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows that have a place between these axes."""
        return _placed_between(rows, self.across, self.up)

    def holds(self, row: Row) -> bool:
        """Return whether a row lies within the axes."""
        x, y = self.place(row)
        return self.x[0] <= x <= self.x[1] and self.y[0] <= y <= self.y[1]

    def at(self, row: Row) -> tuple[float, float]:
        """Return where a row is drawn, in the axes' own coordinates."""
        x, y = self.place(row)
        return (math.log10(x) if self.log_x else x), (math.log10(y) if self.log_y else y)

    def share(self, row: Row) -> tuple[float, float]:
        """Return where a row is drawn, as a share of the frame from its lower left corner."""
        x, y = self.place(row)
        return along_axis(x, self.x, self.log_x), along_axis(y, self.y, self.log_y)

    def distance(self, first: Row, second: Row) -> float:
        """Return how far apart two rows are drawn, as a share of the frame."""
        return math.dist(self.share(first), self.share(second))


def along_axis(value: float, span: tuple[float, float], log: bool) -> float:
    """Return where a value lies on an axis, as a share of it from its low end."""
    if log:
        return math.log(value / span[0]) / math.log(span[1] / span[0])
    return (value - span[0]) / (span[1] - span[0])


def frame_around(
    rows: Iterable[Row], log_x: bool = False, log_y: bool = False, across: Axis = USER, up: Axis = DEVICE
) -> Frame:
    """Return a frame that holds all points, with room to grow."""
    rows = _placed_between(rows, across, up)
    x, y = ([row[axis.column] for row in rows] for axis in (across, up))
    return Frame(_span(x, log_x), _span(y, log_y), log_x, log_y, across, up)


def _span(values: list[float], log: bool) -> tuple[float, float]:
    if not values:
        return (1.0, 1000.0) if log else (0.0, 1.0)
    return (min(values) / 1.5, max(values) * 1.6) if log else (0.0, max(values) * 1.15)


def drawable(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that have a place on the Pareto chart."""
    return _placed_between(rows, USER, DEVICE)


def _placed_between(rows: Iterable[Row], across: Axis, up: Axis) -> list[Row]:
    return [row for row in rows if row["feasible"] and row[across.column] > 0 and row[up.column] > 0]


def style(index: int) -> tuple[str, str, str]:
    """Return colour, dash and marker of a look; three channels, so colour is not needed."""
    return COLOURS[index % 6], DASHES[index % 6], SYMBOLS[index % 6]


def halo(rows: list[Row], frame: Frame) -> dict:
    """Return the frontier over all curves, a broad pale line beneath them."""
    way = 1 if frame.across.more_is_better else -1  # the envelope's better side is its right
    x, y = envelope([_line(points, frame, way) for points in curves(rows).values()])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "frontier",
        "x": short(way * x),
        "y": short(y),
        "line": {"color": HALO, "width": 11},
        "hoverinfo": "skip",
    }


def _line(rows: list[Row], frame: Frame, way: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a curve towards what is better across."""
    places = sorted((way * x, y) for x, y in map(frame.place, rows))
    return np.array([x for x, _ in places]), np.array([y for _, y in places])


def in_lines(*texts: str) -> str:
    """Return texts one beneath the other, as Plotly wants them; empty ones are left out."""
    return BREAK.join(text for text in texts if text)


def lines_of(text: str) -> list[str]:
    """Return the lines of such a text."""
    return [line for line in text.split(BREAK) if line]


def wrapped(text: str, width: int = 60) -> str:
    """Return text in lines, as hovers want them."""
    return in_lines(*textwrap.wrap(text, width))


def plain(text: str) -> str:
    """Return a text, such as a visitor's, in which Plotly finds no mark-up."""
    return escape(text, quote=False)


def short(values: Iterable[float], digits: int = 5) -> list[float | None]:
    """Return values with a few significant digits: enough for any screen, and half the bytes."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values]


def linear_axis(span: tuple[float, float], log: bool, title: str) -> dict:
    axis = {"title": {"text": title}, "range": list(span)}
    if log:
        return axis | ticks(round_values(span)) | {"type": "log", "range": [math.log10(end) for end in span]}
    return axis | {"separatethousands": True, "exponentformat": "none"}


def round_values(span: tuple[float, float]) -> list[float]:
    """Return 1, 2, 5, 10 and so on within a range; whole decades only where it is wide."""
    wide = math.ceil(math.log10(span[1])) - math.floor(math.log10(span[0])) > 4
    return log_ticks(*span, (1.0,) if wide else (1.0, 2.0, 5.0))


def log_ticks(low: float, high: float, steps: Sequence[float] = (1.0, 2.0, 5.0)) -> list[float]:
    """Return the values of a decade series between two ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (float(f"{step * 10.0**power:.1g}") for power in powers for step in steps)
    return [value for value in values if low <= value <= high]


def ticks(values: Iterable[float], text: Callable[[float], str] = number) -> dict:
    """Return ticks at chosen values, said in words."""
    values = list(values)
    return {"tickvals": values, "ticktext": [text(value) for value in values]}


def figure_layout(frame: Frame) -> dict:
    return {
        "xaxis": linear_axis(frame.x, frame.log_x, frame.across.title),
        "yaxis": linear_axis(frame.y, frame.log_y, frame.up.title),
        **LAYOUT,
    }


def faded(colour: str, alpha: float) -> str:
    """Return a hex colour with some transparency."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def curves(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each curve, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["curve"], []).append(row)
    return found


def envelope(lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the upper edge of piecewise linear curves, from its highest point to the right.

    Examples
    --------
    >>> flat = np.array([0.0, 4.0]), np.array([1.0, 1.0])
    >>> steep = np.array([0.0, 2.0]), np.array([2.0, 0.0])
    >>> [side.tolist() for side in envelope([flat, steep])]
    [[0.0, 1.0, 2.0, 4.0], [2.0, 1.0, 1.0, 1.0]]
    """
    lines = [line for line in lines if line[0].size]
    if not lines:
        return np.empty(0), np.empty(0)
    x = np.unique(np.concatenate([line[0] for line in lines]))
    x = np.unique(np.concatenate([x, _crossings(x, _heights(x, lines))]))
    y = _heights(x, lines).max(axis=0)
    start = int(np.argmax(y))
    return x[start:], y[start:]


def _heights(x: np.ndarray, lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.array([np.interp(x, *line, left=-np.inf, right=-np.inf) for line in lines])


def _crossings(x: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Return where two curves cross between neighbouring places of `x`."""
    found = [np.empty(0)]
    for first in range(len(heights)):
        for second in range(first):
            with np.errstate(invalid="ignore", divide="ignore"):
                gap = heights[first] - heights[second]
                left, right = gap[:-1], gap[1:]
                crosses = np.isfinite(left) & np.isfinite(right) & (left * right < 0)
                found.append((x[:-1] + np.diff(x) * left / (left - right))[crosses])
    return np.concatenate(found)
