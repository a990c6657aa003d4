"""Figures of speculation: where it pays, and the speed-up of each number of drafts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sim_core.fields.texts import counted
from sim_core.view.drawing.figures import (
    COLOURS,
    INK,
    LAYOUT,
    MARGIN,
    MUTED,
    Figure,
    Row,
    faded,
    short,
    style,
    ticks,
)
from sim_core.view.drawing.marks import axis, horizontal, note, scatter
from sim_core.view.drawing.words import number
from sim_core.view.phases.figures import sequences

GAIN, LOSS = COLOURS[0], COLOURS[5]
SCALE = [[0.0, LOSS], [0.5, "rgba(128,134,139,0.12)"], [1.0, GAIN]]
MOST = 3.0  # times as fast, or as slow, as the strongest colour
LINE = math.log2(1.25)
DRAWN = (1, 2, 3, 5, 7)  # numbers of drafts that have a line


def drafts_words(count: int) -> str:
    """Return a number of drafts in words."""
    return counted(count, "draft") if count else "no drafts"


def times(speed_up: float) -> str:
    """Return a speed-up as it is written."""
    return f"{number(speed_up, 3)}×"


# Where it pays


def pays_figure(
    found: Mapping[str, Any], here: tuple[int, float], span: tuple[float, float] | None, revision: str = ""
) -> Figure:
    """Draw the speed-up over sequences and acceptance length, with the line where nothing is won.

    Parameters
    ----------
    found : mapping
        As `speculation.pays_map` makes it.
    here : tuple of int and float
        Sequences and acceptance length of the present setting; a length that is not known is NaN.
    span : tuple of float or None
        The range of published lengths.
    revision : str
        A word that changes when the chart should forget the visitor's zoom.
    """
    decodes, lengths = found["decodes"], found["lengths"]
    speed_up = np.array(found["speed_up"], float)
    data = [_heights(decodes, lengths, speed_up), _even(found)]
    if span is not None and span[0] < span[1]:
        data.append(_published(here[0], span))
    if math.isfinite(here[1]):
        ring = {"size": 17, "symbol": "circle-open", "color": INK, "line": {"width": 2, "color": INK}}
        data.append(scatter([here[0]], [here[1]], mode="markers", marker=ring, hoverinfo="skip"))
    across = {"type": "log", "showgrid": False} | ticks(decodes if len(decodes) < 14 else decodes[::2])
    layout = LAYOUT | {
        "margin": MARGIN | {"t": 14},
        "xaxis": axis("Sequences that decode", range=_log_span(decodes), **across),
        "yaxis": axis("Acceptance length [tokens/step]", range=[1, lengths[-1]], showgrid=False),
        "showlegend": False,
        "uirevision": revision,
        "annotations": _corner_words(speed_up),
    }
    return {"data": data, "layout": layout}


def _log_span(decodes: Sequence[int]) -> list[float]:
    low, high = math.log10(decodes[0]), math.log10(decodes[-1])
    return [low, high] if high > low else [low - 0.3, high + 0.3]


def _heights(decodes: Sequence[int], lengths: Sequence[float], speed_up: np.ndarray) -> dict:
    heights = np.clip(np.log2(speed_up), -math.log2(MOST), math.log2(MOST))
    words = [[f"<b>{times(value)}</b> as fast" for value in row] for row in speed_up]
    return {
        "type": "contour",
        "x": short(decodes),
        "y": short(lengths),
        "z": [short(row, 6) for row in np.log2(speed_up)],
        "zmin": -math.log2(MOST),
        "zmax": math.log2(MOST),
        "showscale": False,
        "colorscale": SCALE,
        "contours": {
            "coloring": "heatmap",
            "start": LINE * math.ceil(float(heights.min()) / LINE),
            "end": LINE * math.floor(float(np.log2(speed_up).max()) / LINE + 1e-9),
            "size": LINE,
        },
        "line": {"width": 0.6, "color": MUTED},
        "autocontour": False,
        "text": words,
        "hovertemplate": "%{x:,} sequences, %{y:.3~g} tokens a step<br>%{text}<extra></extra>",
    }


def _even(found: Mapping[str, Any]) -> dict:
    """Return the line of no gain: the length at which nothing is won, for each number of sequences."""
    top = found["lengths"][-1]
    y = [length if math.isfinite(length) else 10 * top for length in found["break_even"]]
    look = {"color": INK, "width": 3}
    hover = "%{x:,} sequences: nothing is won at %{y:.3~g} tokens a step<extra></extra>"
    return scatter(short(found["decodes"]), short(y), mode="lines", line=look, hovertemplate=hover)


def _published(decodes: int, span: tuple[float, float]) -> dict:
    """Return the range of published lengths, upright through the present setting."""
    look = {"color": INK, "width": 1.5}
    caps = {"symbol": "line-ew-open", "size": 11, "color": INK, "line": {"width": 1.5, "color": INK}}
    hover = "published: %{y:.3~g} tokens a step<extra></extra>"
    place = [decodes, decodes]
    return scatter(place, list(span), mode="lines+markers", line=look, marker=caps, hovertemplate=hover)


def _corner_words(speed_up: np.ndarray) -> list[dict]:
    words: list[dict] = []
    look: Any = {"xref": "paper", "yref": "paper", "color": INK}
    if speed_up.max() > 1:
        words.append(note("faster", 0.02, 0.98, **look, xanchor="left", yanchor="top"))
    if speed_up.min() < 1:
        words.append(note("slower", 0.98, 0.02, **look, xanchor="right", yanchor="bottom"))
    return words


def pays_sentence(found: Mapping[str, Any], drafts: int) -> str:
    """Return the figure in one sentence."""
    pairs = zip(found["decodes"], found["break_even"], strict=True)
    words = [
        f"{number(length)} at {sequences(decodes)}"
        if length <= found["lengths"][-1]
        else f"none at {sequences(decodes)}"
        for decodes, length in pairs
    ]
    return f"With {drafts_words(drafts)} the acceptance length at which nothing is won: {', '.join(words)}."


# By number of drafts


def by_drafts_figure(rows: Sequence[Row], own: int, here: int, revision: str = "") -> Figure:
    """Draw the speed-up over sequences, a line for each number of drafts, the line of no gain at 1.

    `rows` are those of `speculation_rows`, `own` is the scenario's number of drafts, `here` are the sequences
    looked at.
    """
    shown = sorted({drafts for row in rows if (drafts := row["drafts"]) in {*DRAWN, own}})
    lines = [_drafts_line(rows, drafts, place, own) for place, drafts in enumerate(shown)]
    decodes = sorted({row["decodes"] for row in rows})
    lowest, highest = (pick(row["speed_up"] for row in rows) for pick in (min, max))
    bottom, top = min(0.5, lowest * 0.9), max(1.15 * highest, 1.2)
    dotted = {"color": MUTED, "width": 1, "dash": "dot"}
    layout = LAYOUT | {
        "xaxis": axis("Sequences that decode", type="log", range=_wider(decodes), **ticks(decodes)),
        "yaxis": axis("Speed-up", range=[bottom, top], ticksuffix="×"),
        "uirevision": revision,
        "shapes": [
            horizontal(1, {"color": INK, "width": 2.5}),
            {
                "type": "rect",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": bottom,
                "y1": 1,
                "fillcolor": faded(LOSS, 0.10),
                "line": {"width": 0},
                "layer": "below",
            },
            {"type": "line", "x0": here, "x1": here, "yref": "paper", "y0": 0, "y1": 1, "line": dotted},
        ],
        "annotations": _best_words(rows, shown),
    }
    return {"data": lines, "layout": layout}


def _wider(decodes: Sequence[int]) -> list[float]:
    return [math.log10(decodes[0] / 1.15), math.log10(decodes[-1] * 1.15)]


def _drafts_line(rows: Sequence[Row], drafts: int, place: int, own: int) -> dict:
    mine = [row for row in rows if row["drafts"] == drafts]
    colour, dash, symbol = style(place)
    return scatter(
        [row["decodes"] for row in mine],
        short(row["speed_up"] for row in mine),
        mode="lines+markers",
        name=drafts_words(drafts),
        line={"color": colour, "dash": dash, "width": 3.5 if drafts == own else 2},
        marker={"symbol": symbol, "size": 8 if drafts == own else 6, "color": colour},
        text=[number(row["acceptance_length"]) for row in mine],
        hovertemplate=f"<b>{drafts_words(drafts)}</b>, %{{text}} tokens a step<br>"
        "%{x:,} sequences: <b>%{y:.3~g}×</b><extra></extra>",
    )


def _best_words(rows: Sequence[Row], shown: Iterable[int]) -> list[dict]:
    """Return the best number of drafts where it changes, above the lines."""
    words, last = [], None
    for decodes, best in best_by_load(rows):
        if best != last:
            top = max(row["speed_up"] for row in rows if row["decodes"] == decodes)
            text = f"best: {best or 'none'}" if last is None else str(best or "none")
            y = max(top, 1.0)
            words.append(note(text, math.log10(decodes), y, color=INK, yanchor="bottom", yshift=5))
            last = best
    return words


def best_by_load(rows: Iterable[Row]) -> list[tuple[int, int]]:
    """Return the best number of drafts for each number of sequences; 0 where every one loses."""
    found: dict[int, int] = {}
    for row in rows:
        found.setdefault(row["decodes"], 0)
        if row["is_best"]:
            found[row["decodes"]] = row["drafts"]
    return sorted(found.items())


def by_drafts_sentence(rows: Sequence[Row]) -> str:
    """Return the figure in one sentence."""
    parts = [f"{drafts_words(best)} at {sequences(decodes)}" for decodes, best in best_by_load(rows)]
    return f"The fastest number of drafts: {', '.join(parts)}."
