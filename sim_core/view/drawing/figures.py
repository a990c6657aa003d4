"""Figures: pure functions from rows of points to a Plotly figure, with a sentence that says the same.

A figure is Plotly's own JSON, `{"data": ..., "layout": ...}`: building `go.Figure` objects would cost more
than the simulation behind them. The tests hand every figure to `go.Figure`, which checks it.

Conventions: interactivity to the right, throughput per accelerator up; one colour, dash and marker per curve,
the same on every page; points nobody would choose are faint but can be hovered; straight segments, since a
spline would invent points. Colours that depend on light or dark are left to the chart (`INK`).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sim_core.view.drawing.trust_words import hover
from sim_core.view.drawing.words import Along, duration, number

Row = Mapping[str, Any]
Figure = dict[str, Any]

X, Y = "tok_per_s_per_user", "output_tok_per_s_per_accelerator"
INK = "#010203"  # stands for the theme's text colour; chart.js replaces it
PAPER = "#030201"  # stands for the theme's background
MUTED = "#80868b"  # readable on light and dark
SHADE = "rgba(128,134,139,0.13)"
HALO = "rgba(128,134,139,0.28)"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe-Ito
DASHES = ("solid", "dash", "dashdot", "dot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "hexagon")
FAINT = 0.3
MARGIN = {"l": 8, "r": 16, "t": 34, "b": 8}
LEGEND = {"orientation": "h", "x": 0, "y": 1.015, "xanchor": "left", "yanchor": "bottom"}
LAYOUT = {"margin": MARGIN, "hovermode": "closest", "dragmode": "zoom", "legend": LEGEND}
TALL_MARGIN, TALL_LEGEND = MARGIN | {"t": 40}, LEGEND | {"y": 1.02}  # for a legend with large markers
TALL_LAYOUT = LAYOUT | {"margin": TALL_MARGIN, "legend": TALL_LEGEND}
LABELLED = 4  # points of the operating curve that carry a label
LABELS_APART = 0.12
LABEL = (0.045, 0.026)  # half the width and height of such a label, as a share of the frame
CLOSE = 0.09  # two marks nearer than this, as a share of the frame, would share their words

LIMITS = {  # what may limit a point: words, colour
    "weights": ("reading weights", "#0072B2"),
    "kv": ("reading the KV cache", "#56B4E9"),
    "compute": ("arithmetic", "#E69F00"),
    "communication": ("communication", "#CC79A7"),
    "fixed": ("fixed overhead", "#9aa0a6"),
    "measured": ("the measured step time", "#0072B2"),
    "queueing": ("waiting for a place in the batch", "#D55E00"),
    "kv_capacity": ("room for the KV cache", "#009E73"),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """Axis ranges in data units, kept while sliders move, so that a change can be seen."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_x: bool = False
    log_y: bool = False

    def holds(self, row: Row) -> bool:
        """Return whether a row lies within the axes."""
        return self.x[0] <= row[X] <= self.x[1] and self.y[0] <= row[Y] <= self.y[1]

    def at(self, row: Row) -> tuple[float, float]:
        """Return where a row is drawn, in the axes' own coordinates."""
        x, y = row[X], row[Y]
        return (math.log10(x) if self.log_x else x), (math.log10(y) if self.log_y else y)

    def share(self, row: Row) -> tuple[float, float]:
        """Return where a row is drawn, as a share of the frame from its lower left corner."""
        return _share(row[X], self.x, self.log_x), _share(row[Y], self.y, self.log_y)

    def distance(self, first: Row, second: Row) -> float:
        """Return how far apart two rows are drawn, as a share of the frame."""
        return math.dist(self.share(first), self.share(second))


def _share(value: float, span: tuple[float, float], log: bool) -> float:
    if log:
        return math.log(value / span[0]) / math.log(span[1] / span[0])
    return (value - span[0]) / (span[1] - span[0])


def fit(rows: Iterable[Row], log_x: bool = False, log_y: bool = False) -> Frame:
    """Return a frame that holds all points, with room to grow."""
    rows = drawable(rows)
    return Frame(_span([row[X] for row in rows], log_x), _span([row[Y] for row in rows], log_y), log_x, log_y)


def _span(values: list[float], log: bool) -> tuple[float, float]:
    if not values:
        return (1.0, 1000.0) if log else (0.0, 1.0)
    return (min(values) / 1.5, max(values) * 1.6) if log else (0.0, max(values) * 1.15)


def drawable(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that have a place on the Pareto chart."""
    return [row for row in rows if row["feasible"] and row[X] > 0 and row[Y] > 0]


def curves(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each curve, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["curve"], []).append(row)
    return found


def style(index: int) -> tuple[str, str, str]:
    """Return colour, dash and marker of a look; three channels, so colour is not needed."""
    return COLOURS[index % 6], DASHES[index % 6], SYMBOLS[index % 6]


def limit_words(limit: str) -> str:
    """Return what limits a point, in words."""
    return LIMITS.get(limit, ("other things",))[0]


# Pareto


def pareto(
    rows: Sequence[Row],
    frame: Frame,
    *,
    along: Along,
    own: str,
    slo_tpot_ms: float,
    here: Row | None = None,
    best: Row | None = None,
    revision: str = "",
) -> Figure:
    """Draw throughput per accelerator against interactivity, one curve per configuration.

    Parameters
    ----------
    rows : sequence of mappings
        One row a point, as `frontier` tabulates them, with the label of its `curve` and its `look`, a
        number that belongs to the entity, not to its place in this chart.
    frame : Frame
        Axis ranges. [tok/s/user], [tok/s per accelerator]
    along : Along
        What tells the points of a curve apart.
    own : str
        The curve of the present setting; a few of its points carry a label.
    slo_tpot_ms : float
        Limit on TPOT; the side that breaks it is shaded. [ms]
    here, best : mapping, optional
        The point of the present setting, and the best one within the limits.
    revision : str
        While it stays the same the visitor's zoom is kept.
    """
    shown = drawable(rows)
    data = [_halo(shown)]
    for name, points in curves(rows).items():
        data.append(_pareto_curve(drawable(points), name, style(points[0]["look"]), along))
    data += _ends(rows)
    marks = [
        (row, look) for row, look in ((best, _BEST), (here, _HERE)) if row is not None and drawable([row])
    ]
    data += [_mark(row, look) for row, look in marks]
    edge = 1000 / slo_tpot_ms
    annotations = _labels(rows, own, along, [row for row, _ in marks], frame)
    annotations += [_edge_words(frame, edge, slo_tpot_ms), _BETTER, *_mark_words(marks, frame)]
    layout = _layout(frame) | {
        "uirevision": revision,
        "annotations": annotations,
        "shapes": _slow(edge, frame),
    }
    return {"data": data, "layout": layout}


PARETO_HOVER = (
    "<b>%{customdata[0]}</b><br>"
    "%{x:,.3~r} tok/s/user · %{y:,.3~r} tok/s per accelerator<br>"
    "TTFT p50 %{customdata[1]} · p99 %{customdata[2]}<br>"
    "TPOT p50 %{customdata[3]} · p99 %{customdata[4]}<br>"
    "%{customdata[5]}<br>%{customdata[6]}%{customdata[7]}<extra></extra>"
)
_BETTER = {
    "text": "better ↗", "xref": "paper", "yref": "paper", "x": 0.995, "y": 0.985, "xanchor": "right",
    "yanchor": "top", "showarrow": False, "font": {"color": MUTED, "size": 13},
}  # fmt: skip
_BEST = ("best within the limits", "star", 16)
_HERE = ("this setting", "circle-open", 17)


def _slow(edge: float, frame: Frame) -> list[dict]:
    """Return the shade over what is slower than the TPOT limit, and its edge."""
    left = frame.x[0] * 1e-6 if frame.log_x else 0
    common = {"xref": "x", "yref": "paper", "x1": edge, "y0": 0, "y1": 1, "layer": "below"}
    return [
        common | {"type": "rect", "x0": left, "fillcolor": SHADE, "line": {"width": 0}},
        common | {"type": "line", "x0": edge, "line": {"color": MUTED, "width": 1.5, "dash": "dot"}},
    ]


def _edge_words(frame: Frame, edge: float, slo_tpot_ms: float) -> dict:
    return {
        "text": f"TPOT limit {duration(slo_tpot_ms)}", "x": math.log10(edge) if frame.log_x else edge,
        "y": 0.015, "yref": "paper", "textangle": -90, "xanchor": "left", "yanchor": "bottom",
        "showarrow": False, "font": {"color": MUTED, "size": 12},
    }  # fmt: skip


def _halo(rows: list[Row]) -> dict:
    """Return the frontier over all curves, a broad pale line beneath them."""
    x, y = envelope([_line(points) for points in curves(rows).values()])
    return {
        "type": "scatter", "mode": "lines", "name": "frontier", "x": short(x), "y": short(y),
        "line": {"color": HALO, "width": 11}, "hoverinfo": "skip",
    }  # fmt: skip


def _line(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return a curve from left to right."""
    places = sorted((row[X], row[Y]) for row in rows)
    return np.array([x for x, _ in places]), np.array([y for _, y in places])


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


def _pareto_curve(rows: list[Row], name: str, look: tuple[str, str, str], along: Along) -> dict:
    colour, dash, symbol = look
    return {
        "type": "scatter", "mode": "lines+markers", "name": name,
        "x": short(row[X] for row in rows), "y": short(row[Y] for row in rows),
        "line": {"color": colour, "width": 2.25, "dash": dash},
        "marker": {
            "color": colour, "size": 8, "line": {"width": 1.5, "color": colour},
            "symbol": [symbol + ("-open" if row["saturated"] else "") for row in rows],
            "opacity": [1.0 if row["on_frontier"] else FAINT for row in rows],
        },
        "customdata": [_hover(row, name, along) for row in rows], "hovertemplate": PARETO_HOVER,
    }  # fmt: skip


def _hover(row: Row, name: str, along: Along) -> list[str]:
    latencies = ("ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p50", "tpot_ms_p99")
    return [
        f"{name} · {along.text(row)}",
        *(duration(row[latency]) for latency in latencies),
        f"limited by {limit_words(row['limit'])}",
        _verdict(row),
        hover(row, reasons=False),
    ]


def _verdict(row: Row) -> str:
    if row["saturated"]:
        return "overloaded: latencies grow with the length of the run"
    if not row["meets_slo"]:
        return "misses the latency limits"
    return "on the frontier, within the limits" if row["on_frontier"] else "within the limits"


def _ends(rows: Sequence[Row]) -> list[dict]:
    """Return a cross where a curve ends because its next point cannot run."""
    found = []
    for name, points in curves(rows).items():
        blocked, runs = [row for row in points if not row["feasible"]], drawable(points)
        if blocked and runs:
            last = min(runs, key=lambda row: row[X])
            found.append({
                "type": "scatter", "mode": "markers", "x": [last[X]], "y": [last[Y]], "showlegend": False,
                "marker": {"symbol": "x-thin", "size": 13, "line": {"width": 2, "color": INK}},
                "text": [f"<b>{name} ends here</b><br>{wrapped(blocked[0]['reason'])}"],
                "hovertemplate": "%{text}<extra></extra>",
            })  # fmt: skip
    return found


def wrapped(text: str, width: int = 60) -> str:
    """Return text in lines, as hovers want them."""
    return "<br>".join(textwrap.wrap(text, width))


def _mark(row: Row, look: tuple[str, str, int]) -> dict:
    """Return one point's mark in the text colour."""
    _, symbol, size = look
    return {
        "type": "scatter", "mode": "markers", "x": [row[X]], "y": [row[Y]], "hoverinfo": "skip",
        "showlegend": False, "cliponaxis": False,
        "marker": {"symbol": symbol, "size": size, "color": INK, "line": {"width": 2, "color": INK}},
    }  # fmt: skip


def _mark_words(marks: list[tuple[Row, tuple[str, str, int]]], frame: Frame) -> list[dict]:
    """Return the marks' words, up and right where no curve can be; the second goes left if the two meet."""
    close = len(marks) == 2 and frame.distance(marks[0][0], marks[1][0]) < CLOSE
    found = []
    for index, (row, (text, _, _)) in enumerate(marks):
        right = not (close and index)
        x, y = frame.at(row)
        found.append({
            "text": text, "x": x, "y": y, "ax": 38 if right else -46, "ay": -28 if right else 34,
            "xanchor": "left" if right else "right", "arrowcolor": MUTED, "arrowwidth": 1, "arrowhead": 0,
            "standoff": 9, "font": {"size": 13, "color": INK},
        })  # fmt: skip
    return found


def _labels(rows: Sequence[Row], own: str, along: Along, marks: list[Row], frame: Frame) -> list[dict]:
    """Return words at a few points of one curve, each where neither curves nor marks are in the way."""
    taken = _covered(rows, frame)
    for x, y in map(frame.share, marks):  # a mark has its words up and right
        taken += [(x + 0.05, y + 0.06), (x + 0.1, y + 0.07), (x + 0.16, y + 0.07)]
    found, apart = [], list(marks)
    for row in reversed(drawable(curves(rows).get(own, []))):
        if len(found) == LABELLED or any(frame.distance(row, other) < LABELS_APART for other in apart):
            continue
        side = _free_side(frame.share(row), taken)
        if side:
            found.append(_label(frame.at(row), along.text(row), side))
            apart.append(row)
    return found


def _free_side(place: tuple[float, float], taken: list[tuple[float, float]]) -> int:
    """Return on which side of a place a label fits: 1 up and right, -1 down and left, 0 neither."""
    width, height = LABEL
    for side in (1, -1):
        x, y = place[0] + side * width * 1.1, place[1] + side * height * 1.2
        if not (width < x < 1 - width and height < y < 1 - height):
            continue
        if all(abs(x - other_x) > width or abs(y - other_y) > height for other_x, other_y in taken):
            return side
    return 0


def _covered(rows: Sequence[Row], frame: Frame) -> list[tuple[float, float]]:
    """Return places along all curves, dense enough to keep words off the lines. [share of the frame]"""
    found = []
    for points in curves(rows).values():
        places = [frame.share(row) for row in sorted(drawable(points), key=lambda row: row[X])]
        for (x1, y1), (x2, y2) in pairwise(places):
            steps = 1 + int(math.hypot(x2 - x1, y2 - y1) / 0.03)
            found += [(x1 + (x2 - x1) * i / steps, y1 + (y2 - y1) * i / steps) for i in range(steps + 1)]
    return found


def _label(place: tuple[float, float], text: str, side: int) -> dict:
    return {
        "text": text, "x": place[0], "y": place[1], "xanchor": "left" if side > 0 else "right",
        "yanchor": "bottom" if side > 0 else "top", "xshift": 5 * side, "yshift": 3 * side,
        "showarrow": False, "font": {"size": 11.5, "color": MUTED},
    }  # fmt: skip


def short(values: Iterable[float], digits: int = 5) -> list[float | None]:
    """Return values with a few significant digits: enough for any screen, and half the bytes."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values]


def _axis(span: tuple[float, float], log: bool, title: str) -> dict:
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


def note(text: str, x: float, y: float, **more: Any) -> dict:
    """Return words in a figure, without an arrow; `x` and `y` in the axes' own coordinates."""
    return {"text": text, "x": x, "y": y, "showarrow": False, "font": {"color": MUTED, "size": 12}} | more


def upright(x: float) -> dict:
    """Return a dotted line over the whole height."""
    return {
        "type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "layer": "below",
        "line": {"color": MUTED, "width": 1.5, "dash": "dot"},
    }  # fmt: skip


def _layout(frame: Frame) -> dict:
    return {
        "xaxis": _axis(frame.x, frame.log_x, "Interactivity [tok/s/user]"),
        "yaxis": _axis(frame.y, frame.log_y, "Throughput [tok/s per accelerator]"),
        **LAYOUT,
    }


def pareto_sentence(rows: Sequence[Row], best: Row | None, along: Along) -> str:
    """Return the Pareto chart in one sentence."""
    shown = drawable(rows)
    if not shown:
        return "Throughput per accelerator against interactivity: no point can run."
    high, far = (number(max(row[column] for row in shown)) for column in (Y, X))
    text = (
        f"Throughput per accelerator against interactivity for {', '.join(curves(shown))}: from {high} tok/s "
        f"per accelerator at one end to {far} tok/s per user at the other"
    )
    if best is None:
        return text + "; no point meets the latency limits."
    return text + f"; the best point within the limits is {best['curve']} at {along.text(best)}."


# Load curve


@dataclass(frozen=True, slots=True)
class LoadFrame:
    """Axis ranges of the load curve, in data units."""

    rate_per_s: tuple[float, float]
    ttft_ms: tuple[float, float]
    tpot_ms: tuple[float, float]


def fit_load(rows: Iterable[Row], slo_ttft_ms: float, slo_tpot_ms: float) -> LoadFrame:
    """Return ranges that hold the stable part of a load curve and its limits; overload may leave them."""
    rows = [row for row in rows if row["feasible"]]
    stable = [row for row in rows if not row["saturated"]] or rows

    def span(name: str, limit_ms: float) -> tuple[float, float]:
        values = [row[f"{name}_ms_{p}"] for row in stable for p in ("p50", "p99")]
        values = [value for value in values if value > 0] or [limit_ms]
        return min(values) / 1.4, max(*values, limit_ms) * 2

    top = max((row["arrival_per_s"] for row in rows), default=1.0)
    return LoadFrame((0.0, top * 1.06), span("ttft", slo_ttft_ms), span("tpot", slo_tpot_ms))


def load_curve(
    rows: Sequence[Row],
    frame: LoadFrame,
    *,
    slo_ttft_ms: float,
    slo_tpot_ms: float,
    knee: float | None,
    here_per_s: float | None = None,
    revision: str = "",
) -> Figure:
    """Draw TTFT and TPOT, p50 and p99, against the request rate, with the knee where the queue grows.

    Parameters
    ----------
    rows : sequence of mappings
        One row a request rate; with `ttft_ms_p99_low` and so on, p99 gets its band.
    frame : LoadFrame
        Axis ranges.
    knee : float, optional
        The request rate at which the engine saturates; what lies beyond is shaded. [req/s]
    here_per_s : float, optional
        The request rate of the present setting. [req/s]
    """
    shown = sorted((row for row in rows if row["feasible"]), key=lambda row: row["arrival_per_s"])
    data = _percentiles(shown, "ttft", "y2", COLOURS[0], "circle")
    data += _percentiles(shown, "tpot", "y", COLOURS[5], "square")
    limits = (("y2", slo_ttft_ms), ("y", slo_tpot_ms))
    shapes = [_limit_line(axis, limit_ms) for axis, limit_ms in limits]
    annotations = [_limit_text(axis, limit_ms) for axis, limit_ms in limits]
    if knee is not None:
        shapes.append(_rate_shape("rect", knee, knee * 1e6, {"fillcolor": SHADE, "line": {"width": 0}}))
        annotations.append(_rate_text(knee, f"saturates at {number(knee)} req/s"))
    if here_per_s is not None:
        shapes.append(_rate_shape("line", here_per_s, here_per_s, {"line": {"color": INK, "width": 1.5}}))
        annotations.append(_rate_text(here_per_s, "this setting") | {"font": {"color": INK, "size": 13}})
    layout = LAYOUT | {
        "xaxis": _axis(frame.rate_per_s, False, "Request rate [req/s]") | {"anchor": "y"},
        "yaxis": _axis(frame.tpot_ms, True, "TPOT [ms]") | {"domain": [0, 0.47]},
        "yaxis2": _axis(frame.ttft_ms, True, "TTFT [ms]") | {"domain": [0.53, 1]},
        "shapes": shapes, "annotations": annotations, "uirevision": revision,
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _rate_shape(kind: str, left: float, right: float, look: dict) -> dict:
    return {"type": kind, "xref": "x", "yref": "paper", "x0": left, "x1": right, "y0": 0, "y1": 1,
            "layer": "below"} | look  # fmt: skip


def _rate_text(rate_per_s: float, text: str) -> dict:
    return {
        "text": text, "x": rate_per_s, "xref": "x", "y": 0.5, "yref": "paper", "yanchor": "middle",
        "showarrow": False, "xanchor": "right", "xshift": -6, "font": {"color": MUTED, "size": 12},
    }  # fmt: skip


def _percentiles(rows: list[Row], name: str, axis: str, colour: str, symbol: str) -> list[dict]:
    """Return p99 and p50 of one latency, with the band of p99 where it is known."""
    word, x = name.upper(), short(row["arrival_per_s"] for row in rows)
    common = {"type": "scatter", "yaxis": axis, "xaxis": "x"}
    found = [common | band for band in _band(rows, f"{name}_ms_p99", colour)]
    for percentile, dash in (("p99", "solid"), ("p50", "dot")):
        values = [row[f"{name}_ms_{percentile}"] for row in rows]
        found.append(common | {
            "name": f"{word} {percentile}", "mode": "lines+markers", "x": x, "y": short(values),
            "line": {"color": colour, "width": 2.25, "dash": dash},
            "marker": {"size": 7, "symbol": [symbol + ("-open" if row["saturated"] else "") for row in rows]},
            "customdata": [[duration(value), "overloaded" if row["saturated"] else "stable"]
                           for value, row in zip(values, rows, strict=True)],
            "hovertemplate": f"{word} {percentile} %{{customdata[0]}} at %{{x:,.3~r}} req/s<br>"
                             "%{customdata[1]}<extra></extra>",
        })  # fmt: skip
    return found


def _band(rows: list[Row], name: str, colour: str) -> list[dict]:
    """Return the band of a percentile as a filled outline, where it is known."""
    known = [row for row in rows if math.isfinite(row.get(f"{name}_low", math.nan))]
    x = [row["arrival_per_s"] for row in known]
    if not known:
        return []
    outline = [row[f"{name}_high"] for row in known] + [row[f"{name}_low"] for row in reversed(known)]
    return [{
        "mode": "lines", "x": short(x + x[::-1]), "y": short(outline), "fill": "toself",
        "fillcolor": faded(colour, 0.2), "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False,
    }]  # fmt: skip


def _limit_line(axis: str, limit_ms: float) -> dict:
    return {
        "type": "line", "xref": "paper", "yref": axis, "x0": 0, "x1": 1, "y0": limit_ms, "y1": limit_ms,
        "line": {"color": MUTED, "width": 1.5, "dash": "dot"}, "layer": "below",
    }  # fmt: skip


def _limit_text(axis: str, limit_ms: float) -> dict:
    return {
        "text": f"limit {duration(limit_ms)}", "xref": "paper", "x": 0.004, "yref": axis,
        "y": math.log10(limit_ms), "xanchor": "left", "yanchor": "bottom", "showarrow": False,
        "font": {"color": MUTED, "size": 12},
    }  # fmt: skip


def faded(colour: str, alpha: float) -> str:
    """Return a hex colour with some transparency."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def load_sentence(rows: Sequence[Row], knee: float | None) -> str:
    """Return the load curve in one sentence."""
    stable = [row for row in rows if row["feasible"] and not row["saturated"]]
    if not stable:
        return "Latency against request rate: no rate can be served."
    first, last = stable[0], stable[-1]
    end = f"; the engine saturates at {number(knee)} req/s" if knee else ""
    return (
        f"As the request rate rises to {number(last['arrival_per_s'])} per second, TTFT p99 goes from "
        f"{duration(first['ttft_ms_p99'])} to {duration(last['ttft_ms_p99'])} and TPOT p99 from "
        f"{duration(first['tpot_ms_p99'])} to {duration(last['tpot_ms_p99'])}{end}."
    )
