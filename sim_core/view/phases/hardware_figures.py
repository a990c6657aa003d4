"""Figures of the hardware: the map of returns, KV caches, floors on the time per token."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import (
    INK,
    LAYOUT,
    LEGEND,
    MARGIN,
    MUTED,
    PAPER,
    SHADE,
    SOFT,
    Figure,
    Row,
    faded,
    log_ticks,
    plain,
    short,
    ticks,
    wrapped,
)
from sim_core.view.drawing.marks import axis, note, scatter, upright, vertical
from sim_core.view.drawing.words import duration, number, quantity, signed, spoken
from sim_core.view.phases.figures import DECODE, RING, decade_axis, powers, sequences

# More of each


def returns_map(
    values: np.ndarray,
    flops: Sequence[float],
    bandwidth: Sequence[float],
    *,
    here: tuple[float, float],
    others: Sequence[Row],
    hover: Callable[[float], str],
    colour: str,
    less_is_better: bool = False,
) -> Figure:
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
    shades = (faded(colour, 0.04), faded(colour, 0.8))
    contour = _contour(values, flops, bandwidth, shades[::-1] if less_is_better else shades, hover)
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
        "xaxis": axis("Arithmetic [× datasheet]", range=list(span[0]), **axes),
        "yaxis": axis("Bandwidth [× datasheet]", range=list(span[1]), **axes),
        "annotations": words,
        "uirevision": "",
        "showlegend": False,
    }
    return {"data": data, "layout": layout}


def _contour(
    values: np.ndarray,
    flops: Sequence[float],
    bandwidth: Sequence[float],
    shades: tuple[str, str],
    hover: Callable[[float], str],
) -> dict:
    """Return the measure as heights, from the first shade to the second."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heights = np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), np.nan)
    return {
        "type": "contour",
        "x": short(flops),
        "y": short(bandwidth),
        "z": [short(row, 6) for row in heights],
        "connectgaps": False,
        "showscale": False,
        "colorscale": list(zip((0.0, 1.0), shades, strict=True)),
        "contours": _levels(heights),
        "line": {"width": 0.75, "color": MUTED},
        "autocontour": False,
        "text": [[hover(value) for value in row] for row in values],
        "hovertemplate": "%{x:.3~g}× arithmetic, %{y:.3~g}× bandwidth<br><b>%{text}</b><extra></extra>",
    }


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
    return scatter(
        short(row["flops"] for row in rows),
        short(row["bandwidth"] for row in rows),
        mode="markers",
        marker={
            "size": [8 if row["name"] in named else 5 for row in rows],
            "color": PAPER,
            "line": {"width": 1.25, "color": INK},
        },
        text=[row["name"] for row in rows],
        customdata=[[trust_words.badge_hover(row, reasons=False)] for row in rows],
        hovertemplate="<b>%{text}</b><br>%{x:.3~g}× arithmetic, %{y:.3~g}× bandwidth%{customdata[0]}"
        "<extra></extra>",
    )


def _place(here: tuple[float, float]) -> dict:
    return scatter([here[0]], [here[1]], mode="markers", hoverinfo="skip", marker=RING, cliponaxis=False)


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
            found.append(note(by_id[name]["name"], x, y, **side, color=INK, size=11))
            taken.append((x, y))
    return found


def map_sentence(what: str, now: str, flops: float, bandwidth: float) -> str:
    """Return one map in one sentence."""
    return (
        f"{what} over arithmetic and bandwidth, each from a quarter to eight times the datasheet: {now} at "
        f"the present setting; twice the arithmetic changes it by {signed(flops)}, twice the bandwidth by "
        f"{signed(bandwidth)}."
    )


# KV cache

KINDS = {  # name, colour, dash
    "own": ("its own kinds of layers", "#0072B2", "solid"),
    "full": ("every head cached", "#E69F00", "solid"),
    "grouped": ("grouped heads", "#009E73", "dash"),
    "window": ("sliding window", "#CC79A7", "dashdot"),
    "latent": ("latent vector", "#56B4E9", "longdash"),
}


def kv_lines(
    contexts: Sequence[float],
    batch_gb: Mapping[str, Sequence[float]],
    rows: Sequence[Row],
    *,
    room_gb: float,
    context: float,
    batch: int,
    revision: str = "",
) -> Figure:
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
    data = [_kv_line(kind, contexts, batch_gb[kind], row, batch) for kind, row in by_kind.items()]
    values = [value for line in batch_gb.values() for value in line]
    low, high = min(values) / 1.5, max(*values, room_gb) * 1.8
    ends = contexts[0], contexts[-1]
    shapes, annotations = [upright(context)], [_upright_words(context)]
    if room_gb > 0:
        data.append(_kv_ends(rows, room_gb, contexts[-1]))
        shapes += _room_shapes(room_gb, high)
        text = f"room beside the weights: {quantity(room_gb, 'GB')}"
        annotations.append(
            note(
                text,
                0.004,
                math.log10(room_gb),
                xref="paper",
                xanchor="left",
                yanchor="bottom",
                color=INK,
                size=13,
            )
        )
    layout = LAYOUT | {
        "xaxis": decade_axis("Context of each sequence [tokens]", *ends, **powers(contexts)),
        "yaxis": decade_axis(f"KV cache of {sequences(batch)} [GB]", low, high, tickformat=",~g"),
        "shapes": shapes,
        "annotations": annotations,
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def _kv_line(kind: str, contexts: Sequence[float], values: Sequence[float], row: Row, batch: int) -> dict:
    name, colour, dash = KINDS[kind]
    return scatter(
        short(contexts),
        short(values),
        mode="lines",
        name=name + (" (this model)" if row["own"] else ""),
        line={"color": colour, "width": 4.5 if row["own"] else 2, "dash": "solid" if row["own"] else dash},
        customdata=[[number(value / batch), number(value)] for value in values],
        hovertemplate=f"<b>{name}</b>, %{{x:,.0f}} tokens<br>%{{customdata[0]}} GB a sequence<br>"
        f"%{{customdata[1]}} GB for {sequences(batch)}<extra></extra>",
    )


def _kv_ends(rows: Sequence[Row], room_gb: float, last: float) -> dict:
    """Return where each line meets the room: the longest context of the batch."""
    rows = [row for row in rows if 0 < row["longest_context"] < last]
    return scatter(
        [row["longest_context"] for row in rows],
        [room_gb for _ in rows],
        mode="markers",
        showlegend=False,
        marker={
            "size": 9,
            "color": [KINDS[row["kind"]][1] for row in rows],
            "line": {"width": 1.5, "color": INK},
        },
        customdata=[[KINDS[row["kind"]][0], number(row["longest_context"])] for row in rows],
        hovertemplate="<b>%{customdata[0]}</b>: full at %{customdata[1]} tokens each<extra></extra>",
    )


def _upright_words(context: float) -> dict:
    return note(
        f"{number(round(context))} tokens",
        math.log10(context),
        0.015,
        yref="paper",
        xanchor="left",
        yanchor="bottom",
        textangle=-90,
    )


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
        f"KV cache over the context for {len(rows)} kinds of attention, with "
        f"{quantity(room_gb, 'GB')} of room: at "
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
    groups = (
        ("", [row for row in timed if row["fits"]]),
        ("does not fit", [row for row in timed if not row["fits"]]),
    )
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
        "margin": MARGIN | {"t": 12 + 16 * len(limits)},
        "legend": LEGEND_LOW,
        "xaxis": decade_axis("Time per token, one sequence [ms]", low, high, **ticks(log_ticks(low, high))),
        "yaxis": {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": names,
            "fixedrange": True,
            "tickvals": names,
            "ticktext": [_bold(row) for row in rows][::-1],
            "range": [-0.7, len(names) - 0.3],
            "tickfont": {"size": 11.5},
        },
        "shapes": [_limit_line(ms, own) for ms, _, own in limits],
        "annotations": [*_limit_words(limits), *_unknown_words(rows)],
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


LEGEND_LOW = LEGEND | {"y": -0.06, "yanchor": "top"}


def _bold(row: Row) -> str:
    return f"<b>{row['name']}</b>" if row["own"] else row["name"]


def _spans(rows: Sequence[Row]) -> dict:
    """Return the lines between floor and prediction."""
    x = [value for row in rows for value in (row["floor_ms"], row["typical_ms"], math.nan)]
    y = [name for row in rows for name in (row["name"], row["name"], None)]
    return scatter(
        short(x),
        y,
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        line={"color": faded(MUTED, 0.6), "width": 2},
    )


def _dots(rows: Sequence[Row], key: str, name: str, symbol: str, faint: bool) -> dict:
    colour = MUTED if faint else DECODE
    return scatter(
        short(row[key] for row in rows),
        [row["name"] for row in rows],
        mode="markers",
        name=name,
        marker={
            "symbol": "x-thin" if faint and key == "floor_ms" else symbol,
            "size": 9,
            "color": colour,
            "line": {"width": 2, "color": colour},
            "opacity": 0.6 if faint else 1.0,
        },
        customdata=[[duration(row["floor_ms"]), duration(row["typical_ms"]), _why_not(row)] for row in rows],
        hovertemplate="<b>%{y}</b><br>floor %{customdata[0]} · typical engine %{customdata[1]}"
        "%{customdata[2]}<extra></extra>",
    )


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
    text = f"<br>{wrapped(plain(spoken(row['reason'])))}" if row["reason"] else ""
    return text + (
        trust_words.badge_hover(row)
        or ("<br>announced figures, not measured by others" if row["announced"] else "")
    )


def _limit_line(ms: float, own: bool) -> dict:
    look = {"color": INK, "width": 2} if own else {"color": MUTED, "width": 1.25, "dash": "dot"}
    return vertical(ms, look, xref="x", layer="below")


def _limit_words(limits: Sequence[tuple[float, str, bool]]) -> list[dict]:
    """Return the limits' words above their lines, each in a row of its own."""
    return [
        note(
            text,
            math.log10(ms),
            1.0,
            yref="paper",
            yanchor="bottom",
            xanchor="center",
            yshift=3 + 16 * place,
            color=INK if own else SOFT,
        )
        for place, (ms, text, own) in enumerate(sorted(limits))
    ]


def _unknown_words(rows: Sequence[Row]) -> list[dict]:
    """Return why a part without times has none, in its line."""
    return [
        note(
            "its arithmetic in this precision is not known",
            0.01,
            row["name"],
            xref="paper",
            xanchor="left",
            size=11,
            bgcolor=PAPER,  # limits cross it on a phone
        )
        for row in rows
        if not row["floor_ms"] > 0
    ]


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
