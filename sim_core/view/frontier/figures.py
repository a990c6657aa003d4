"""The Pareto chart of the Frontier page, and its sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sim_core.view.drawing.figures import (
    DEVICE,
    FAINT,
    INK,
    LIMITS,
    PAPER,
    SHADE,
    USER,
    Axis,
    Figure,
    Frame,
    Row,
    X,
    Y,
    along_axis,
    curves,
    drawable,
    figure_layout,
    halo,
    plain,
    short,
    style,
    wrapped,
)
from sim_core.view.drawing.marks import Piece, note, pointer, scatter, spread, upright
from sim_core.view.drawing.trust_words import badge_hover
from sim_core.view.drawing.verdicts import Limits, held_words, hollow_words, marker, verdict
from sim_core.view.drawing.words import Along, duration, number, spoken

LABELLED = 4  # points of the operating curve that carry a label
LABELS_APART = 0.12
EDGE_WORDS = (0.02, 0.3)  # width and height of the words along the edge of the limit, as a share of the frame
LABEL = (0.045, 0.026)  # half the width and height of such a label, as a share of the frame
LAST_RIGHT = 0.75  # where curves rise to the right, a mark further there has its words on its left
LINE_PX = 16  # of words in a corner, from one line to the next
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
    shown = frame.drawable(rows)
    data, several = [halo(shown, frame)], len(curves(rows)) > 1
    for name, points in curves(rows).items():
        drawn = frame.drawable(points)
        hover = [_hover(row, name, along, limits) for row in drawn]
        line = _pareto_curve(drawn, frame, style(points[0]["look"]), hover) | {"name": name}
        if several:
            line["marker"]["opacity"] = [1.0 if row["on_frontier"] else FAINT for row in drawn]
        data.append(line)
    data += _ends(rows, frame)
    looks = ((best, (frame.up.best, *_BEST)), (here, _HERE))
    marks = [(row, look) for row, look in looks if row is not None and frame.drawable([row])]
    data += [_mark(row, look, frame) | _told(row, along, limits, frame) for row, look in marks]
    words, shapes = limit_edge(frame, limits)
    layout = figure_layout(frame) | {
        "uirevision": revision,
        "annotations": [
            *_labels(rows, own, along, [row for row, _ in marks], frame, limits),
            *words,
            *_corner_words(shown, limits, frame),
            *_mark_words(marks, frame),
        ],
        "shapes": shapes,
    }
    return {"data": data, "layout": layout}


def pareto_hover(frame: Frame) -> str:
    """Return what a point says when it is pointed at."""
    return (
        "<b>%{customdata[0]}</b><br>"
        f"%{{x:,.3~r}} {frame.across.unit} · %{{y:,.3~r}} {frame.up.unit}<br>"
        "TTFT p50 %{customdata[1]} · p99 %{customdata[2]}<br>"
        "TPOT p50 %{customdata[3]} · p99 %{customdata[4]}<br>"
        "%{customdata[5]}<br>%{customdata[6]}%{customdata[7]}<extra></extra>"
    )


_BEST = ("star", 16)
_HERE = ("this setting", "circle-open", 17)


def limit_edge(frame: Frame, limits: Limits) -> tuple[list[Piece], list[Piece]]:
    """Return the words and the shade of the limit on speed; none where the axis shows another latency."""
    if frame.across != USER:
        return [], []
    edge = 1000 / limits.tpot_ms
    words = edge_words(frame, edge, f"TPOT limit {duration(limits.tpot_ms)}")
    return [words], slow_side(frame, edge)


def slow_side(frame: Frame, edge: float) -> list[Piece]:
    """Return the shade over what is slower than an interactivity [tok/s/user], and its edge."""
    left = frame.x[0] * 1e-6 if frame.log_x else 0
    over = {"xref": "x", "x0": left, "x1": edge, "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    return [over | {"type": "rect", "fillcolor": SHADE, "line": {"width": 0}}, upright(edge)]


def edge_words(frame: Frame, edge: float, words: str) -> Piece:
    """Return words that stand along the edge of what is too slow."""
    return note(
        words,
        math.log10(edge) if frame.log_x else edge,
        0.015,
        yref="paper",
        textangle=-90,
        xanchor="left",
        yanchor="bottom",
        bgcolor=PAPER,  # curves run beneath it
        opacity=0.85,
    )


def _pareto_curve(
    rows: list[Row], frame: Frame, look: tuple[str, str, str], hover: list[list[str]]
) -> dict[str, Any]:
    colour, dash, symbol = look
    return scatter(
        short(row[frame.across.column] for row in rows),
        short(row[frame.up.column] for row in rows),
        mode="lines+markers",
        line={"color": colour, "width": 2.25, "dash": dash},
        marker={
            "color": colour,
            "size": 8,
            "line": {"width": 1.5, "color": colour},
            "symbol": [marker(row, symbol) for row in rows],
        },
        customdata=hover,
        hovertemplate=pareto_hover(frame),
    )


def _corner_words(shown: Sequence[Row], limits: Limits, frame: Frame) -> list[dict]:
    """Return the words in the corner no curve reaches: what is better, and what a hollow marker means.

    Over a latency curves rise from the left: there it is the corner below, "better" on top.
    """
    hollow = hollow_words(shown, limits)
    below = not frame.across.more_is_better
    place: dict[str, Any] = {"xref": "paper", "yref": "paper", "xanchor": "right", "align": "right"}
    place |= (
        {"x": 0.995, "y": 0.02, "yanchor": "bottom"} if below else {"x": 0.995, "y": 0.985, "yanchor": "top"}
    )
    rise = LINE_PX * len(hollow.split("<br>")) if below and hollow else 0
    words = [note("↖ better" if below else "better ↗", size=13, yshift=rise, **place)]
    lower: dict[str, Any] = {} if below else {"yshift": -20, "name": "low"}
    return [*words, *([note(hollow, **lower, **place)] if hollow else [])]


def _hover(row: Row, name: str, along: Along, limits: Limits) -> list[str]:
    latencies = ("ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p50", "tpot_ms_p99")
    return [
        f"{name} · {along.text(row)}",
        *(held_words(row, latency) for latency in latencies),
        f"limited by {limit_words(row['limit'])}",
        verdict(row, limits),
        badge_hover(row, reasons=False),
        row.get("name", ""),
    ]


def _ends(rows: Sequence[Row], frame: Frame) -> list[dict]:
    """Return a cross where a curve ends because its next point cannot run."""
    found = []
    for name, points in curves(rows).items():
        blocked, runs = [row for row in points if not row["feasible"]], frame.drawable(points)
        if blocked and runs:
            x, y = frame.place(min(runs, key=lambda row: row[X]))
            found.append(
                scatter(
                    [x],
                    [y],
                    mode="markers",
                    showlegend=False,
                    marker={"symbol": "x-thin", "size": 13, "line": {"width": 2, "color": INK}},
                    text=[f"<b>{name} ends here</b><br>{wrapped(plain(spoken(blocked[0]['reason'])))}"],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    return found


def _mark(row: Row, look: tuple[str, str, int], frame: Frame) -> dict:
    """Return one point's mark in the text colour, with a bar over its range where that is known."""
    _, symbol, size = look
    x, y = frame.place(row)
    known = "range_low" in row and frame.up == DEVICE
    ends = ([row[name]] for name in ("range_low", Y, "range_high")) if known else ()
    bars = {"error_y": spread(*ends, color=INK, thickness=1.5, width=5)} if known else {}
    return scatter(
        [x],
        [y],
        mode="markers",
        showlegend=False,
        cliponaxis=False,
        marker={"symbol": symbol, "size": size, "color": INK, "line": {"width": 2, "color": INK}},
        **bars,
    )


def _told(row: Row, along: Along, limits: Limits, frame: Frame) -> dict:
    """Return what a mark says when it is pointed at: nothing, unless it has a name by which to choose it."""
    if not row.get("name"):
        return {"hoverinfo": "skip"}
    return {"customdata": [_hover(row, row["curve"], along, limits)], "hovertemplate": pareto_hover(frame)}


def _mark_words(marks: list[tuple[Row, tuple[str, str, int]]], frame: Frame) -> list[dict]:
    """Return the marks' words, up and right where no curve can be; of two that meet, one lies flatter."""
    close = len(marks) == 2 and frame.distance(marks[0][0], marks[1][0]) < CLOSE
    heights = [frame.share(row)[1] for row, _ in marks]
    found = []
    for index, (row, (text, _, _)) in enumerate(marks):
        right = frame.across.more_is_better or frame.share(row)[0] < LAST_RIGHT
        near = close and (index == heights.index(min(heights))) == right
        x, y = frame.at(row)
        found.append(
            pointer(
                text,
                x,
                y,
                color=INK,
                size=13,
                ax=38 if right else -46,
                ay=(-10 if near else -30) if right else (12 if near else 34),
                xanchor="left" if right else "right",
            )
        )
    return found


def _labels(
    rows: Sequence[Row], own: str, along: Along, marks: list[Row], frame: Frame, limits: Limits
) -> list[dict]:
    """Return words at a few points of one curve, each where nothing is in the way: curves, marks, words of
    the limit; a narrow chart has no room for them.
    """
    taken = _covered(rows, frame) + _covered_by_edge(frame, limits)
    for x, y in map(frame.share, marks):  # a mark has its words up and right
        taken += [(x + 0.05, y + 0.06), (x + 0.1, y + 0.07), (x + 0.16, y + 0.07)]
    found: list[dict] = []
    apart = list(marks)
    for row in reversed(frame.drawable(curves(rows).get(own, []))):
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
        places = sorted(map(frame.share, frame.drawable(points)))
        for (x1, y1), (x2, y2) in pairwise(places):
            steps = 1 + int(math.hypot(x2 - x1, y2 - y1) / 0.03)
            found += [(x1 + (x2 - x1) * i / steps, y1 + (y2 - y1) * i / steps) for i in range(steps + 1)]
    return found


def _covered_by_edge(frame: Frame, limits: Limits) -> list[tuple[float, float]]:
    """Return the places of the words along the edge of the limit on speed. [share of the frame]"""
    if frame.across != USER:
        return []
    edge = along_axis(1000 / limits.tpot_ms, frame.x, frame.log_x)
    return [(edge + EDGE_WORDS[0] / 2, EDGE_WORDS[1] * step / 4) for step in range(5)]


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
        name="wide",
    )


def pareto_sentence(
    rows: Sequence[Row], best: Row | None, along: Along, across: Axis = USER, up: Axis = DEVICE
) -> str:
    """Return the Pareto chart in one sentence."""
    shown = drawable(rows)
    if not shown:
        return "Throughput per accelerator against interactivity: no point can run."
    text = _axes_sentence(rows, across, up)
    if best is None:
        return text + "; no point meets the latency limits."
    return text + f"; the best point within the limits is {best['curve']} at {along.text(best)}."


def _axes_sentence(rows: Sequence[Row], across: Axis, up: Axis) -> str:
    if (across, up) != (USER, DEVICE):
        return f"{up.title} against {across.title} for {', '.join(curves(drawable(rows)))}"
    shown = drawable(rows)
    high, far = (number(max(row[column] for row in shown)) for column in (Y, X))
    return (
        f"Throughput per accelerator against interactivity for {', '.join(curves(shown))}: from {high} tok/s "
        f"per accelerator at one end to {far} tok/s per user at the other"
    )
