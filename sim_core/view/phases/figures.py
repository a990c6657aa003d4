"""Figures of the Two phases page: pure functions from rows to Plotly's JSON, each with a sentence.

Prefill is vermillion and decode blue throughout; the parts of a step have the colours they have elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import (
    COLOURS,
    INK,
    LAYOUT,
    LEGEND,
    LIMITS,
    MARGIN,
    MUTED,
    PAPER,
    SHADE,
    Figure,
    Row,
    faded,
    log_ticks,
    note,
    short,
    ticks,
    upright,
    wrapped,
)
from sim_core.view.drawing.words import duration, number, percent, quantity, rate

PREFILL, DECODE = COLOURS[5], COLOURS[0]
PHASES = {"prefill": PREFILL, "decode": DECODE}
MEMORY, ARITHMETIC = LIMITS["weights"][1], LIMITS["compute"][1]
PARTS = ("weights", "kv", "compute", "communication", "fixed")
RING = {"symbol": "circle-open", "size": 19, "color": INK, "line": {"width": 2, "color": INK}}


def log_axis(title: str, low: float, high: float, **more: Any) -> dict:
    """Return a logarithmic axis with one tick a decade."""
    span = [math.log10(low), math.log10(high)]
    return {"type": "log", "title": {"text": title}, "range": span, "dtick": 1} | more


def pointed(text: str, x: float, y: float, ax: float, ay: float) -> dict:
    """Return words that point to a place from some pixels away."""
    return {
        "text": text, "x": x, "y": y, "ax": ax, "ay": ay, "xanchor": "left" if ax > 0 else "right",
        "arrowcolor": MUTED, "arrowwidth": 1, "arrowhead": 0, "standoff": 9,
        "font": {"size": 13, "color": INK},
    }  # fmt: skip


# Roofline


def roofline(
    rows: Sequence[Row], roof: Any, others: Sequence[Any], reached: Callable[[np.ndarray], np.ndarray], *,
    batch: int, split: bool = False, reached_name: str = "", revision: str = "",
) -> Figure:  # fmt: skip
    """Draw what prefill and decode reach against the FLOP they do for each byte.

    Parameters
    ----------
    rows : sequence of mappings
        As `phases.roofline` makes them.
    roof, others : Roof
        The roof, and those of other precisions in use.
    reached : callable
        FLOP/byte to the FLOP/s that an engine's shares of peak leave. [FLOP/s]
    batch : int
        The batch that is ringed.
    split : bool
        Draw products with weights and attention apart.
    reached_name : str
        What the thinner roof is called; "" draws none.
    """
    whole = [row for row in rows if row["piece"] == "all"]
    left, right = _intensities(rows, roof)
    bottom = min(row["flop_per_s"] for row in rows if row["flop_per_s"] > 0) / 4
    top = 2.2 * max(roof.flop_per_s, *(other.flop_per_s for other in others), 0)
    data = [*_regions(roof, left, right, bottom), *_roofs(roof, others, reached, reached_name, left, right)]
    data += [_decode_line(whole), _prefill_point(whole), _ring(whole, batch)]
    data += _pieces(rows, batch) if split else []
    ridge = math.log10(roof.ridge_flop_per_byte)
    middle = 0.5 * (math.log10(left) + ridge), 0.5 * (ridge + math.log10(right))
    words = {"yref": "paper", "yanchor": "bottom"}
    annotations = [
        note("memory sets the pace", middle[0], 0.015, **words),
        note("arithmetic sets the pace", middle[1], 0.015, **words, name="wide"),
        _ridge_words(roof),
        *_point_words(whole, batch),
        *(_piece_words(rows, batch) if split else []),
    ]
    shape = {"type": "line", "xref": "x", "yref": "paper", "x0": roof.ridge_flop_per_byte, "y0": 0, "y1": 1}
    layout = LAYOUT | {
        "xaxis": log_axis("Arithmetic for each byte read [FLOP/byte]", left, right, tickformat="~g"),
        "yaxis": log_axis("Reached arithmetic [FLOP/s per device]", bottom, top, **_decades(bottom, top)),
        "annotations": annotations, "uirevision": revision,
        "shapes": [shape | {"x1": roof.ridge_flop_per_byte, "layer": "below",
                            "line": {"color": MUTED, "width": 1, "dash": "dot"}}],
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _decades(low: float, high: float) -> dict:
    """Return a tick a decade, said with its prefix: 100 T, 1 P."""
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    return ticks((10.0**power for power in powers), lambda value: rate(value / 1e9, "").strip())


def _intensities(rows: Sequence[Row], roof: Any) -> tuple[float, float]:
    """Return the range of FLOP/byte that holds all points and the ridge in its right half."""
    values = [row["flop_per_byte"] for row in rows if row["flop_per_byte"] > 0]
    return min(*values, roof.ridge_flop_per_byte / 50) / 2.5, max(*values, roof.ridge_flop_per_byte * 5) * 2.5


def _regions(roof: Any, left: float, right: float, bottom: float) -> list[dict]:
    """Return the ground under the roof, in the colours of memory and arithmetic."""
    ridge, peak, floor = roof.ridge_flop_per_byte, roof.flop_per_s, bottom / 1e3
    left, right = left / 10, right * 10
    corners = (
        (MEMORY, [left, left, ridge, ridge, left], [floor, float(roof.at(left)), peak, floor, floor]),
        (ARITHMETIC, [ridge, ridge, right, right, ridge], [floor, peak, peak, floor, floor]),
    )
    return [
        {
            "type": "scatter", "mode": "lines", "x": short(x), "y": short(y), "fill": "toself",
            "fillcolor": faded(colour, 0.08), "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False,
        }
        for colour, x, y in corners
    ]  # fmt: skip


def _roofs(
    roof: Any, others: Sequence[Any], reached: Callable, reached_name: str, left: float, right: float
) -> list[dict]:
    x = np.array([left / 10, roof.ridge_flop_per_byte, right * 10])
    data = []
    if reached_name:
        dense = np.geomspace(left / 10, right * 10, 60)
        data.append(_line(f"{reached_name} engine", dense, reached(dense), MUTED, 1.5))
    for other in others:
        flat = np.array([other.ridge_flop_per_byte, right * 10])
        data.append(_line(f"{other.dtype} peak", flat, other.at(flat), INK, 1, "dot"))
    return [*data, _line(f"roof, {roof.dtype}", x, roof.at(x), INK, 2.5)]


def _line(name: str, x: Any, y: Any, colour: str, width: float, dash: str = "solid") -> dict:
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": short(x), "y": short(y), "hoverinfo": "skip",
        "line": {"color": colour, "width": width, "dash": dash},
    }  # fmt: skip


ROOF_HOVER = (
    "<b>%{customdata[0]}</b><br>%{customdata[1]} FLOP per byte<br>"
    "%{customdata[2]} of at most %{customdata[3]} here<br>"
    "uses %{customdata[4]} of the arithmetic, %{customdata[5]} of the bandwidth<br>"
    "%{customdata[6]}<extra></extra>"
)


def step_words(row: Row) -> str:
    """Return what one step does, in words."""
    if row["phase"] == "prefill":
        return f"prefill of {number(row['tokens'])} tokens"
    return f"decode, {sequences(row['batch'])}"


def sequences(count: int) -> str:
    """Return a number of sequences in words."""
    return f"{number(count)} sequence" + ("" if count == 1 else "s")


def _hover(row: Row) -> list[str]:
    name = step_words(row) + {"all": "", "weights": ": weights", "attention": ": attention"}[row["piece"]]
    if row["phase"] == "decode":
        name += f" at {number(round(row['context_tokens']))} tokens"
    rates = (rate(row[key] / 1e9, "FLOP/s") for key in ("flop_per_s", "roof_flop_per_s"))
    uses = (percent(row["mfu_frac"]), percent(row["mbu_frac"]))
    fits = "" if row["fits"] else " · does not fit the KV cache"
    return [name, number(row["flop_per_byte"]), *rates, *uses, duration(row["time_ms"]) + fits]


def _points(name: str, rows: Sequence[Row], **more: Any) -> dict:
    return {
        "type": "scatter", "name": name, "mode": "markers", "hovertemplate": ROOF_HOVER,
        "x": short(row["flop_per_byte"] for row in rows), "y": short(row["flop_per_s"] for row in rows),
        "customdata": [_hover(row) for row in rows],
    } | more  # fmt: skip


def _decode_line(rows: Sequence[Row]) -> dict:
    """Return decode over the batch; hollow where the batch does not fit."""
    rows = [row for row in rows if row["phase"] == "decode"]
    marker = {
        "size": 8, "color": [DECODE if row["fits"] else PAPER for row in rows],
        "line": {"width": 1.5, "color": DECODE},
    }  # fmt: skip
    line = {"color": DECODE, "width": 2.5}
    return _points("decode, batch by batch", rows, mode="lines+markers", marker=marker, line=line)


def _prefill_point(rows: Sequence[Row]) -> dict:
    rows = [row for row in rows if row["phase"] == "prefill"]
    return _points("prefill", rows, marker={"size": 15, "color": PREFILL, "symbol": "circle"})


def _ring(rows: Sequence[Row], batch: int) -> dict:
    rows = [row for row in rows if row["phase"] == "decode" and row["batch"] == batch]
    return _points("this batch", rows, marker=RING, hoverinfo="skip", hovertemplate=None, showlegend=False)


def _pieces(rows: Sequence[Row], batch: int) -> list[dict]:
    """Return products with weights and attention apart: decode's weights as a line, the rest as points."""
    found = []
    for piece, symbol in (("weights", "square"), ("attention", "diamond")):
        for phase, colour in PHASES.items():
            own = [row for row in rows if row["phase"] == phase and row["piece"] == piece]
            own = [row for row in own if row["flop_per_s"] > 0]
            sized = [12 if row["batch"] == batch or phase == "prefill" else 4 for row in own]
            marker = {"symbol": symbol, "size": sized, "color": PAPER, "line": {"width": 2, "color": colour}}
            mode = "lines+markers" if phase == "decode" and piece == "weights" else "markers"
            line = {"color": colour, "width": 1.25, "dash": "dot"}
            look = {"mode": mode, "marker": marker, "line": line, "showlegend": phase == "decode"}
            found.append(_points(f"{piece} alone", own, **look))
    return found


def _piece_words(rows: Sequence[Row], batch: int) -> list[dict]:
    """Return the words at the pieces of this batch's step."""
    return [
        pointed(row["piece"], math.log10(row["flop_per_byte"]), math.log10(row["flop_per_s"]), -34, -26)
        for row in rows
        if row["phase"] == "decode" and row["batch"] == batch and row["piece"] != "all"
        and row["flop_per_s"] > 0
    ]  # fmt: skip


def _point_words(rows: Sequence[Row], batch: int) -> list[dict]:
    """Return the words at the points that matter: prefill, one sequence, this batch."""
    found = []
    for row in rows:
        x, y = math.log10(row["flop_per_byte"]), math.log10(row["flop_per_s"])
        if row["phase"] == "prefill":
            found.append(pointed(step_words(row), x, y, 1, 44) | {"xanchor": "center", "ax": 0})
        elif row["batch"] == batch:
            found.append(pointed(sequences(batch), x, y, 34, 34))
        elif row["batch"] == 1:
            found.append(pointed("decode, 1 sequence", x, y, 34, 30))
    return found


def _ridge_words(roof: Any) -> dict:
    text = f"ridge: {number(roof.ridge_flop_per_byte)} FLOP/byte"
    return note(text, math.log10(roof.ridge_flop_per_byte), math.log10(roof.flop_per_s), xanchor="right",
                yanchor="bottom", xshift=-8, yshift=4, font={"color": INK, "size": 13})  # fmt: skip


def roofline_sentence(rows: Sequence[Row], roof: Any, batch: int) -> str:
    """Return the roofline in one sentence."""
    whole = {(row["phase"], row["batch"]): row for row in rows if row["piece"] == "all"}
    prefill, decode = whole["prefill", 1], whole["decode", batch]
    return (
        f"A roofline that rises to {rate(roof.flop_per_s / 1e9, 'FLOP/s')} at "
        f"{number(roof.ridge_flop_per_byte)} FLOP per byte; the prefill lies at "
        f"{number(prefill['flop_per_byte'])} FLOP per byte and reaches {percent(prefill['mfu_frac'])} of the "
        f"arithmetic, decode with {sequences(batch)} lies at {number(decode['flop_per_byte'])} and reaches "
        f"{percent(decode['mfu_frac'])}."
    )


# One step


def step_bars(
    rows: Sequence[Row], labels: Sequence[str], here: int | None, title: str, revision: str = ""
) -> Figure:
    """Draw the time of steps as stacked bars, one part a colour; the present setting is bold.

    On the page one legend serves several charts; the chart has its own when it stands alone (`figure.js`).

    Parameters
    ----------
    rows : sequence of mappings
        As `phases.step_rows` makes them.
    labels : sequence of str
        What stands under each bar.
    here : int or None
        The bar of the present setting.
    title : str
        What grows to the right.
    """
    data = []
    for part in PARTS:
        words, colour = LIMITS[part]
        values = [row[f"{part}_ms"] for row in rows]
        if not any(values):
            continue
        shown = [1.0 if place == here else 0.5 if row["fits"] else 0.2 for place, row in enumerate(rows)]
        data.append({
            "type": "bar", "name": words, "x": list(labels), "y": short(values),
            "marker": {"color": colour, "opacity": shown, "line": {"width": 0}},
            "customdata": [
                [duration(value), percent(value / row["time_ms"]), duration(row["time_ms"]),
                 "" if row["fits"] else "<br>does not fit the KV cache"]
                for value, row in zip(values, rows, strict=True)
            ],
            "hovertemplate": f"<b>%{{x}}</b>: {words} %{{customdata[0]}}<br>%{{customdata[1]}} of "
                             "%{customdata[2]}%{customdata[3]}<extra></extra>",
        })  # fmt: skip
    layout = LAYOUT | {
        "barmode": "stack", "bargap": 0.22, "margin": MARGIN | {"t": 8},
        "xaxis": {"title": {"text": title}, "type": "category", "fixedrange": True, "tickangle": 0,
                  "tickfont": {"size": 11}},
        "yaxis": {"title": {"text": "One step [ms]"}, "rangemode": "tozero", "exponentformat": "none",
                  "separatethousands": True},
        "uirevision": revision, "showlegend": False, "meta": {"legend_alone": True},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def bars_sentence(rows: Sequence[Row], labels: Sequence[str], what: str) -> str:
    """Return stacked bars in one sentence."""
    first, last = rows[0], rows[-1]
    ends = (f"{duration(row['time_ms'])}, mostly {LIMITS[largest_part(row)][0]}," for row in (first, last))
    low, high = ends
    return f"{what}: from {low} at {labels[0]} to {high} at {labels[-1]}."


def largest_part(row: Row) -> str:
    """Return the part that takes the largest share of a step."""
    return max(PARTS, key=lambda part: row[f"{part}_ms"])


# More of each


def returns_map(
    values: np.ndarray, flops: Sequence[float], bandwidth: Sequence[float], *, here: tuple[float, float],
    others: Sequence[Row], hover: Callable[[float], str], colour: str, less_is_better: bool = False,
    revision: str = "",
) -> Figure:  # fmt: skip
    """Draw a measure over arithmetic and bandwidth, a contour line for every 25 % more; darker is better.

    Parameters
    ----------
    values : ndarray, shape (bandwidth, flops)
        The measure; what is not above 0 stays blank.
    flops, bandwidth : sequence of float
        Multiples of the datasheet's.
    here : tuple of float
        Where the present setting lies.
    others : sequence of mappings
        Accelerators with their `name`, `flops` and `bandwidth`; those outside are left out.
    hover : callable
        Says a value.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        heights = np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), np.nan)
    shades = (faded(colour, 0.04), faded(colour, 0.8))
    contour = {
        "type": "contour", "x": short(flops), "y": short(bandwidth),
        "z": [short(row, 6) for row in heights], "connectgaps": False, "showscale": False,
        "colorscale": list(zip((0.0, 1.0), shades[::-1] if less_is_better else shades, strict=True)),
        "contours": _levels(heights),
        "line": {"width": 0.75, "color": MUTED}, "autocontour": False,
        "text": [[hover(value) for value in row] for row in values],
        "hovertemplate": "%{x:.3~g}× arithmetic, %{y:.3~g}× bandwidth<br><b>%{text}</b><extra></extra>",
    }  # fmt: skip
    span = (
        (math.log10(flops[0]), math.log10(flops[-1])),
        (math.log10(bandwidth[0]), math.log10(bandwidth[-1])),
    )
    inside = [row for row in others if _inside(row, flops, bandwidth)]
    words = _part_words(inside, here)
    data = [contour, _parts_as_dots(inside, [word["text"] for word in words]), _place(here)]
    axes = {"type": "log", "showgrid": False} | ticks((0.25, 0.5, 1, 2, 4, 8))
    layout = LAYOUT | {
        "margin": MARGIN | {"t": 14},
        "xaxis": axes | {"title": {"text": "Arithmetic [× datasheet]"}, "range": list(span[0])},
        "yaxis": axes | {"title": {"text": "Bandwidth [× datasheet]"}, "range": list(span[1])},
        "annotations": words, "uirevision": revision, "showlegend": False,
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _levels(heights: np.ndarray) -> dict:
    """Return the contour lines: one for every 25 % more."""
    size, known = math.log(1.25), heights[np.isfinite(heights)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    start = size * math.ceil(low / size + 1e-9)
    return {"coloring": "heatmap", "start": start, "end": max(high, start), "size": size}


def _inside(row: Row, flops: Sequence[float], bandwidth: Sequence[float]) -> bool:
    return flops[0] <= row["flops"] <= flops[-1] and bandwidth[0] <= row["bandwidth"] <= bandwidth[-1]


def _parts_as_dots(rows: Sequence[Row], named: Sequence[str]) -> dict:
    """Return the accelerators as dots; those without words are smaller."""
    return {
        "type": "scatter", "mode": "markers", "x": short(row["flops"] for row in rows),
        "y": short(row["bandwidth"] for row in rows),
        "marker": {"size": [8 if row["name"] in named else 5 for row in rows], "color": PAPER,
                   "line": {"width": 1.25, "color": INK}},
        "text": [row["name"] for row in rows],
        "customdata": [[trust_words.hover(row, reasons=False)] for row in rows],
        "hovertemplate": "<b>%{text}</b><br>%{x:.3~g}× arithmetic, %{y:.3~g}× bandwidth%{customdata[0]}"
                         "<extra></extra>",
    }  # fmt: skip


def _place(here: tuple[float, float]) -> dict:
    return {"type": "scatter", "mode": "markers", "x": [here[0]], "y": [here[1]], "hoverinfo": "skip",
            "marker": RING, "cliponaxis": False}  # fmt: skip


KNOWN = (
    "b200",
    "a100-80-sxm",
    "h200",
    "h100-sxm",
    "mi300x",
    "mi355x",
    "l40s",
    "tpu-v6e",
    "h100-pcie",
    "gaudi3",
)
APART = (0.62, 0.13)  # two words nearer than this, in decades to the right and up, would overlap


def _part_words(rows: Sequence[Row], here: tuple[float, float]) -> list[dict]:
    """Return the names of a few well-known accelerators, where they do not overlap."""
    by_id = {row["id"]: row for row in rows}
    found, taken = [], [(math.log10(here[0]), math.log10(here[1]))]
    for name in KNOWN:
        if name not in by_id:
            continue
        x, y = (math.log10(by_id[name][key]) for key in ("flops", "bandwidth"))
        own = abs(x - taken[0][0]) < 0.03 and abs(y - taken[0][1]) < 0.03
        if own or all(abs(x - a) > APART[0] or abs(y - b) > APART[1] for a, b in taken[1:]):
            right = x < 0.5
            side = {"xanchor": "left" if right else "right", "xshift": 9 if right else -9, "yshift": 9}
            found.append(note(by_id[name]["name"], x, y, **side, font={"color": INK, "size": 11}))
            taken.append((x, y))
    return found


def map_sentence(what: str, now: str, flops: float, bandwidth: float) -> str:
    """Return one map in one sentence."""
    return (
        f"{what} over arithmetic and bandwidth, each from a quarter to eight times the datasheet: {now} at "
        f"the present setting; twice the arithmetic changes it by {signed(flops)}, twice the bandwidth by "
        f"{signed(bandwidth)}."
    )


def signed(change: float) -> str:
    """Return a relative change with its sign; a dash where there is none."""
    if not math.isfinite(change):
        return "–"
    if abs(change) < 0.0005:
        return percent(0.0)
    return ("+" if change > 0 else "−") + percent(abs(change))


# KV cache

KINDS = {  # name, colour, dash
    "full": ("every head cached", "#E69F00", "solid"),
    "grouped": ("grouped heads", "#009E73", "dash"),
    "window": ("sliding window", "#CC79A7", "dashdot"),
    "latent": ("latent vector", "#56B4E9", "longdash"),
}


def kv_lines(
    contexts: Sequence[float], batch_gb: Mapping[str, Sequence[float]], rows: Sequence[Row], *,
    room_gb: float, context: float, batch: int, revision: str = "",
) -> Figure:  # fmt: skip
    """Draw the KV cache of a batch over the context for each kind of attention, and the room there is.

    Parameters
    ----------
    contexts : sequence of float
        Context lengths. [tokens]
    batch_gb : mapping of kind to sequence of float
        KV cache of the batch at each context. [GB]
    rows : sequence of mappings
        As `whatif.kv_rows` makes them.
    room_gb : float
        Memory left beside the weights; 0 if there is none. [GB]
    """
    by_kind = {row["kind"]: row for row in rows}
    data = [_kv_line(kind, contexts, batch_gb[kind], by_kind[kind], batch) for kind in KINDS]
    values = [value for line in batch_gb.values() for value in line]
    low, high = min(values) / 1.5, max(*values, room_gb) * 1.8
    ends = contexts[0], contexts[-1]
    shapes, annotations = [upright(context)], [_upright_words(context)]
    if room_gb > 0:
        data.append(_kv_ends(rows, room_gb, contexts[-1]))
        shapes += _room_shapes(room_gb, high)
        text = f"room beside the weights: {quantity(room_gb, 'GB')}"
        annotations.append(note(text, 0.004, math.log10(room_gb), xref="paper", xanchor="left",
                                yanchor="bottom", font={"color": INK, "size": 13}))  # fmt: skip
    layout = LAYOUT | {
        "xaxis": log_axis("Context of each sequence [tokens]", *ends, **_powers(contexts)),
        "yaxis": log_axis(f"KV cache of {sequences(batch)} [GB]", low, high, tickformat="~g"),
        "shapes": shapes, "annotations": annotations, "uirevision": revision,
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _powers(contexts: Sequence[float]) -> dict:
    """Return ticks at powers of four, as context lengths are said: 1k, 4k, 16k."""
    values = [4.0**power for power in range(2, 13) if contexts[0] <= 4.0**power <= contexts[-1]]
    return ticks(values, tokens_short)


def tokens_short(value: float) -> str:
    """Return a context length as people say it: 512, 4k, 128k, 1M."""
    for size, unit in ((1024 * 1024, "M"), (1024, "k")):
        if value >= size and value % size == 0:
            return f"{value / size:g}{unit}"
    if value >= 10_000:
        return f"{number(value / 1000)}k"
    return number(value)


def _kv_line(kind: str, contexts: Sequence[float], values: Sequence[float], row: Row, batch: int) -> dict:
    name, colour, dash = KINDS[kind]
    return {
        "type": "scatter", "mode": "lines", "name": name + (" (this model)" if row["own"] else ""),
        "x": short(contexts), "y": short(values),
        "line": {"color": colour, "width": 4.5 if row["own"] else 2, "dash": "solid" if row["own"] else dash},
        "customdata": [[number(value / batch), number(value)] for value in values],
        "hovertemplate": f"<b>{name}</b>, %{{x:,.0f}} tokens<br>%{{customdata[0]}} GB a sequence<br>"
                         f"%{{customdata[1]}} GB for {sequences(batch)}<extra></extra>",
    }  # fmt: skip


def _kv_ends(rows: Sequence[Row], room_gb: float, last: float) -> dict:
    """Return where each line meets the room: the longest context of the batch."""
    rows = [row for row in rows if 0 < row["longest_context"] < last]
    return {
        "type": "scatter", "mode": "markers", "x": [row["longest_context"] for row in rows],
        "y": [room_gb for _ in rows], "showlegend": False,
        "marker": {"size": 9, "color": [KINDS[row["kind"]][1] for row in rows],
                   "line": {"width": 1.5, "color": INK}},
        "customdata": [[KINDS[row["kind"]][0], number(row["longest_context"])] for row in rows],
        "hovertemplate": "<b>%{customdata[0]}</b>: full at %{customdata[1]} tokens each<extra></extra>",
    }  # fmt: skip


def _upright_words(context: float) -> dict:
    return note(f"{number(round(context))} tokens", math.log10(context), 0.015, yref="paper", xanchor="left",
                yanchor="bottom", textangle=-90)  # fmt: skip


def _room_shapes(room_gb: float, high: float) -> list[dict]:
    common = {"xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": room_gb, "layer": "below"}
    return [
        common | {"type": "rect", "y1": high * 10, "fillcolor": SHADE, "line": {"width": 0}},
        common | {"type": "line", "y1": room_gb, "line": {"color": INK, "width": 1.5}},
    ]


def kv_sentence(rows: Sequence[Row], context: float, room_gb: float) -> str:
    """Return the KV chart in one sentence."""
    sizes = ", ".join(f"{KINDS[row['kind']][0]} {number(row['largest_batch'])}" for row in rows)
    return (
        f"KV cache over the context for four kinds of attention, with {quantity(room_gb, 'GB')} of room: at "
        f"{number(round(context))} tokens the largest batch is: {sizes}."
    )


# The floor


def floor_dots(rows: Sequence[Row], limits: Sequence[tuple[float, str, bool]], revision: str = "") -> Figure:
    """Draw the floor on the time per token and its prediction for each accelerator, fastest on top.

    Parameters
    ----------
    rows : sequence of mappings
        As `whatif.floor_rows` makes them.
    limits : sequence of (ms, words, own)
        Limits on TPOT; the visitor's own is drawn in ink.
    """
    timed = [row for row in rows if row["floor_ms"] > 0]
    groups = (("", [row for row in timed if row["fits"]]),
              ("does not fit", [row for row in timed if not row["fits"]]))  # fmt: skip
    data = [_spans(timed)]
    for suffix, members in groups:
        for key, name, symbol in (
            ("floor_ms", "floor", "circle-open"),
            ("typical_ms", "typical engine", "circle"),
        ):
            if members:
                data.append(
                    _dots(members, key, f"{name}, {suffix}" if suffix else name, symbol, bool(suffix))
                )
                data[-1] |= _whiskers(members) if key == "typical_ms" else {}
    ends = [row[key] for row in timed for key in ("floor_ms", "typical_ms")] + [ms for ms, _, _ in limits]
    low, high = min(ends) / 1.4, max(ends) * 2
    names = [row["name"] for row in rows][::-1]
    layout = LAYOUT | {
        "margin": MARGIN | {"t": 12 + 16 * len(limits)}, "legend": LEGEND_LOW,
        "xaxis": log_axis("Time per token, one sequence [ms]", low, high, **ticks(log_ticks(low, high))),
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": names, "fixedrange": True,
                  "tickvals": names, "ticktext": [_bold(row) for row in rows][::-1],
                  "range": [-0.7, len(names) - 0.3], "tickfont": {"size": 11.5}},
        "shapes": [_limit_line(ms, own) for ms, _, own in limits],
        "annotations": [*_limit_words(limits), *_unknown_words(rows)], "uirevision": revision,
    }  # fmt: skip
    return {"data": data, "layout": layout}


LEGEND_LOW = LEGEND | {"y": -0.06, "yanchor": "top"}


def _bold(row: Row) -> str:
    return f"<b>{row['name']}</b>" if row["own"] else row["name"]


def _spans(rows: Sequence[Row]) -> dict:
    """Return the lines between floor and prediction."""
    x = [value for row in rows for value in (row["floor_ms"], row["typical_ms"], math.nan)]
    y = [name for row in rows for name in (row["name"], row["name"], None)]
    return {"type": "scatter", "mode": "lines", "x": short(x), "y": y, "hoverinfo": "skip",
            "showlegend": False, "line": {"color": faded(MUTED, 0.6), "width": 2}}  # fmt: skip


def _dots(rows: Sequence[Row], key: str, name: str, symbol: str, faint: bool) -> dict:
    colour = MUTED if faint else DECODE
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": short(row[key] for row in rows),
        "y": [row["name"] for row in rows],
        "marker": {"symbol": "x-thin" if faint and key == "floor_ms" else symbol, "size": 9, "color": colour,
                   "line": {"width": 2, "color": colour}, "opacity": 0.6 if faint else 1.0},
        "customdata": [
            [duration(row["floor_ms"]), duration(row["typical_ms"]), _why_not(row)] for row in rows
        ],
        "hovertemplate": "<b>%{y}</b><br>floor %{customdata[0]} · typical engine %{customdata[1]}"
                         "%{customdata[2]}<extra></extra>",
    }  # fmt: skip


def _whiskers(rows: Sequence[Row]) -> dict:
    """Return the bars that hold measured values beside a prediction, where it has a band."""
    ends = {
        side: [row["typical_ms"] * row.get(f"tpot_band_{side}_frac", math.nan) for row in rows]
        for side in ("low", "high")
    }
    beyond = {
        side: short(abs(end - row["typical_ms"]) for end, row in zip(values, rows, strict=True))
        for side, values in ends.items()
    }
    look = {"type": "data", "symmetric": False, "thickness": 1, "width": 3, "color": MUTED}
    return {"error_x": look | {"array": beyond["high"], "arrayminus": beyond["low"]}}


def _why_not(row: Row) -> str:
    text = f"<br>{wrapped(row['reason'])}" if row["reason"] else ""
    return text + (
        trust_words.hover(row)
        or ("<br>announced figures, not measured by others" if row["announced"] else "")
    )


def _limit_line(ms: float, own: bool) -> dict:
    look = {"color": INK, "width": 2} if own else {"color": MUTED, "width": 1.25, "dash": "dot"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": ms, "x1": ms, "y0": 0, "y1": 1,
            "layer": "below", "line": look}  # fmt: skip


def _limit_words(limits: Sequence[tuple[float, str, bool]]) -> list[dict]:
    """Return the limits' words above their lines, each in a row of its own."""
    return [
        note(text, math.log10(ms), 1.0, yref="paper", yanchor="bottom", xanchor="center",
             yshift=3 + 16 * place, font={"color": INK if own else MUTED, "size": 12})
        for place, (ms, text, own) in enumerate(sorted(limits))
    ]  # fmt: skip


def _unknown_words(rows: Sequence[Row]) -> list[dict]:
    """Return why a part without times has none, in its line."""
    return [
        note("its arithmetic in this precision is not known", 0.01, row["name"], xref="paper", xanchor="left",
             font={"color": MUTED, "size": 11})
        for row in rows if not row["floor_ms"] > 0
    ]  # fmt: skip


def floor_sentence(rows: Sequence[Row], limit_ms: float) -> str:
    """Return the floor in one sentence."""
    timed = [row for row in rows if row["fits"] and row["floor_ms"] > 0]
    if not timed:
        return "Time per token of one sequence: the model fits none of the accelerators at this layout."
    ends = [f"{duration(row['floor_ms'])} on {row['name']}" for row in (timed[0], timed[-1])]
    below = sum(row["floor_ms"] <= limit_ms for row in timed)
    return (
        f"The least time per token on {number(len(timed))} accelerators that hold the model: from "
        f"{ends[0]} to {ends[1]}; "
        f"{number(below)} of them could keep {duration(limit_ms)}."
    )
