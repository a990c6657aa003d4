"""Figures of the Frontier page: the Pareto chart and the load curve, each with a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sim_core.view.drawing.figures import (
    COLOURS,
    FAINT,
    INK,
    LAYOUT,
    LIMITS,
    MUTED,
    SHADE,
    Figure,
    Frame,
    Row,
    X,
    Y,
    curves,
    drawable,
    faded,
    figure_layout,
    halo,
    linear_axis,
    plain,
    short,
    style,
    wrapped,
)
from sim_core.view.drawing.marks import horizontal, note, pointer, scatter, spread
from sim_core.view.drawing.trust_words import badge_hover
from sim_core.view.drawing.verdicts import OVERLOADED, Limits, held_words, hollow_words, marker, verdict
from sim_core.view.drawing.words import Along, duration, number

LABELLED = 4  # points of the operating curve that carry a label
LABELS_APART = 0.12
LABEL = (0.045, 0.026)  # half the width and height of such a label, as a share of the frame
CLOSE = 0.09  # two marks nearer than this, as a share of the frame, would share their words


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
    limits: Limits,
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
    limits : Limits
        The side that breaks the one on TPOT is shaded; a point that breaks either is hollow and says so. [ms]
    here, best : mapping, optional
        The point of the present setting, and the best one within the limits.
    revision : str
        While it stays the same the visitor's zoom is kept.
    """
    shown = drawable(rows)
    data, several = [halo(shown)], len(curves(rows)) > 1
    for name, points in curves(rows).items():
        hover = [_hover(row, name, along, limits) for row in drawable(points)]
        drawn = _pareto_curve(drawable(points), name, style(points[0]["look"]), hover)
        if several:
            drawn["marker"]["opacity"] = [1.0 if row["on_frontier"] else FAINT for row in drawable(points)]
        data.append(drawn)
    data += _ends(rows)
    marks = [
        (row, look) for row, look in ((best, _BEST), (here, _HERE)) if row is not None and drawable([row])
    ]
    data += [_mark(row, look) for row, look in marks]
    edge = 1000 / limits.tpot_ms
    annotations = _labels(rows, own, along, [row for row, _ in marks], frame)
    annotations += [_edge_words(frame, edge, limits.tpot_ms), *_corner_words(shown, limits)]
    annotations += _mark_words(marks, frame)
    layout = figure_layout(frame) | {
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
    return note(
        f"TPOT limit {duration(slo_tpot_ms)}",
        math.log10(edge) if frame.log_x else edge,
        0.015,
        yref="paper",
        textangle=-90,
        xanchor="left",
        yanchor="bottom",
    )


def _pareto_curve(rows: list[Row], name: str, look: tuple[str, str, str], hover: list[list[str]]) -> dict:
    colour, dash, symbol = look
    return scatter(
        short(row[X] for row in rows),
        short(row[Y] for row in rows),
        mode="lines+markers",
        name=name,
        line={"color": colour, "width": 2.25, "dash": dash},
        marker={
            "color": colour,
            "size": 8,
            "line": {"width": 1.5, "color": colour},
            "symbol": [marker(row, symbol) for row in rows],
        },
        customdata=hover,
        hovertemplate=PARETO_HOVER,
    )


def _corner_words(shown: Sequence[Row], limits: Limits) -> list[dict]:
    """Return the words in the corner no curve reaches: what is better, and what a hollow marker means."""
    place: dict[str, Any] = {
        "xref": "paper",
        "yref": "paper",
        "xanchor": "right",
        "yanchor": "top",
        "align": "right",
    }
    hollow = hollow_words(shown, limits)
    better = note("better ↗", 0.995, 0.985, size=13, **place)
    return [better, *([note(hollow, 0.995, 0.985, yshift=-20, **place)] if hollow else [])]


def _hover(row: Row, name: str, along: Along, limits: Limits) -> list[str]:
    latencies = ("ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p50", "tpot_ms_p99")
    return [
        f"{name} · {along.text(row)}",
        *(held_words(row, latency) for latency in latencies),
        f"limited by {limit_words(row['limit'])}",
        verdict(row, limits),
        badge_hover(row, reasons=False),
    ]


def _ends(rows: Sequence[Row]) -> list[dict]:
    """Return a cross where a curve ends because its next point cannot run."""
    found = []
    for name, points in curves(rows).items():
        blocked, runs = [row for row in points if not row["feasible"]], drawable(points)
        if blocked and runs:
            last = min(runs, key=lambda row: row[X])
            found.append(
                scatter(
                    [last[X]],
                    [last[Y]],
                    mode="markers",
                    showlegend=False,
                    marker={"symbol": "x-thin", "size": 13, "line": {"width": 2, "color": INK}},
                    text=[f"<b>{name} ends here</b><br>{wrapped(plain(blocked[0]['reason']))}"],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    return found


def _mark(row: Row, look: tuple[str, str, int]) -> dict:
    """Return one point's mark in the text colour, with a bar over its range where that is known."""
    _, symbol, size = look
    known = "range_low" in row
    ends = ([row[name]] for name in ("range_low", Y, "range_high")) if known else ()
    bars = {"error_y": spread(*ends, color=INK, thickness=1.5, width=5)} if known else {}
    return scatter(
        [row[X]],
        [row[Y]],
        mode="markers",
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
        marker={"symbol": symbol, "size": size, "color": INK, "line": {"width": 2, "color": INK}},
        **bars,
    )


def _mark_words(marks: list[tuple[Row, tuple[str, str, int]]], frame: Frame) -> list[dict]:
    """Return the marks' words, up and right where no curve can be; the second goes left if the two meet."""
    close = len(marks) == 2 and frame.distance(marks[0][0], marks[1][0]) < CLOSE
    found = []
    for index, (row, (text, _, _)) in enumerate(marks):
        right = not (close and index)
        x, y = frame.at(row)
        found.append(
            pointer(
                text,
                x,
                y,
                color=INK,
                size=13,
                ax=38 if right else -46,
                ay=-28 if right else 34,
                xanchor="left" if right else "right",
            )
        )
    return found


def _labels(rows: Sequence[Row], own: str, along: Along, marks: list[Row], frame: Frame) -> list[dict]:
    """Return words at a few points of one curve, each where neither curves nor marks are in the way."""
    taken = _covered(rows, frame)
    for x, y in map(frame.share, marks):  # a mark has its words up and right
        taken += [(x + 0.05, y + 0.06), (x + 0.1, y + 0.07), (x + 0.16, y + 0.07)]
    found: list[dict] = []
    apart = list(marks)
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
    return note(
        text,
        place[0],
        place[1],
        size=11.5,
        xanchor="left" if side > 0 else "right",
        yanchor="bottom" if side > 0 else "top",
        xshift=5 * side,
        yshift=3 * side,
    )


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
        "xaxis": linear_axis(frame.rate_per_s, False, "Request rate [req/s]") | {"anchor": "y"},
        "yaxis": linear_axis(frame.tpot_ms, True, "TPOT [ms]") | {"domain": [0, 0.47]},
        "yaxis2": linear_axis(frame.ttft_ms, True, "TTFT [ms]") | {"domain": [0.53, 1]},
        "shapes": shapes,
        "annotations": annotations,
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def _rate_shape(kind: str, left: float, right: float, look: dict) -> dict:
    return {
        "type": kind,
        "xref": "x",
        "yref": "paper",
        "x0": left,
        "x1": right,
        "y0": 0,
        "y1": 1,
        "layer": "below",
    } | look


def _rate_text(rate_per_s: float, text: str) -> dict:
    return note(text, rate_per_s, 0.5, xref="x", yref="paper", yanchor="middle", xanchor="right", xshift=-6)


def _percentiles(rows: list[Row], name: str, axis: str, colour: str, symbol: str) -> list[dict]:
    """Return p99 and p50 of one latency, with the band of p99 where it is known."""
    word, x = name.upper(), short(row["arrival_per_s"] for row in rows)
    common = {"type": "scatter", "yaxis": axis, "xaxis": "x"}
    found = [common | band for band in _band(rows, f"{name}_ms_p99", colour)]
    for percentile, dash in (("p99", "solid"), ("p50", "dot")):
        values = [row[f"{name}_ms_{percentile}"] for row in rows]
        found.append(
            common
            | {
                "name": f"{word} {percentile}",
                "mode": "lines+markers",
                "x": x,
                "y": short(values),
                "line": {"color": colour, "width": 2.25, "dash": dash},
                "marker": {
                    "size": 7,
                    "symbol": [symbol + ("-open" if row["saturated"] else "") for row in rows],
                },
                "customdata": [
                    [held_words(row, f"{name}_ms_{percentile}"), OVERLOADED if row["saturated"] else "stable"]
                    for row in rows
                ],
                "hovertemplate": f"{word} {percentile} %{{customdata[0]}} at %{{x:,.3~r}} req/s<br>"
                "%{customdata[1]}<extra></extra>",
            }
        )
    return found


def _band(rows: list[Row], name: str, colour: str) -> list[dict]:
    """Return the band of a percentile as a filled outline, where it is known."""
    known = [row for row in rows if math.isfinite(row.get(f"{name}_low", math.nan))]
    x = [row["arrival_per_s"] for row in known]
    if not known:
        return []
    outline = [row[f"{name}_high"] for row in known] + [row[f"{name}_low"] for row in reversed(known)]
    return [
        {
            "mode": "lines",
            "x": short(x + x[::-1]),
            "y": short(outline),
            "fill": "toself",
            "fillcolor": faded(colour, 0.2),
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]


def _limit_line(axis: str, limit_ms: float) -> dict:
    return horizontal(limit_ms, {"color": MUTED, "width": 1.5, "dash": "dot"}, yref=axis, layer="below")


def _limit_text(axis: str, limit_ms: float) -> dict:
    return note(
        f"limit {duration(limit_ms)}",
        0.004,
        math.log10(limit_ms),
        xref="paper",
        yref=axis,
        xanchor="left",
        yanchor="bottom",
    )


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
