"""Figures of the Two phases page: pure functions from rows to Plotly's JSON, each with a sentence.

Prefill is vermillion and decode blue throughout; the parts of a step have the colours they have elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from sim_core.questions.phases import Roof
from sim_core.view.drawing.figures import (
    COLOURS,
    INK,
    LAYOUT,
    LIMITS,
    MARGIN,
    MUTED,
    PAPER,
    Figure,
    Row,
    faded,
    short,
    ticks,
)
from sim_core.view.drawing.marks import Piece, axis, bar, note, pointer, scatter, vertical
from sim_core.view.drawing.words import duration, number, percent, rate

PREFILL, DECODE = COLOURS[5], COLOURS[0]
PHASES = {"prefill": PREFILL, "decode": DECODE}
MEMORY, ARITHMETIC = LIMITS["weights"][1], LIMITS["compute"][1]
PARTS = ("weights", "kv", "compute", "communication", "all_to_all", "fixed")
RING = {"symbol": "circle-open", "size": 19, "color": INK, "line": {"width": 2, "color": INK}}


def decade_axis(title: str, low: float, high: float, **more: object) -> dict:
    """Return a logarithmic axis with one tick a decade."""
    span = [math.log10(low), math.log10(high)]
    return axis(title, type="log", range=span, dtick=1) | more


def pointed(text: str, x: float, y: float, ax: float, ay: float) -> dict:
    """Return words that point to a place from some pixels away."""
    return pointer(text, x, y, color=INK, size=13, ax=ax, ay=ay, xanchor="left" if ax > 0 else "right")


# Roofline


def roofline_figure(
    rows: Sequence[Row],
    roof: Roof,
    others: Sequence[Roof],
    reached: Callable[[np.ndarray], np.ndarray],
    *,
    batch: int,
    split: bool = False,
    reached_name: str = "",
    revision: str = "",
) -> Figure:
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
    words: Piece = {"yref": "paper", "yanchor": "bottom"}
    annotations = [
        note("memory sets the pace", middle[0], 0.015, **words, name="wide"),
        note("arithmetic sets the pace", middle[1], 0.015, **words, name="wide"),
        _ridge_words(roof),
        *_point_words(whole, batch),
        *(_piece_words(rows, batch) if split else []),
    ]
    dotted = {"color": MUTED, "width": 1, "dash": "dot"}
    layout = LAYOUT | {
        "xaxis": decade_axis("Arithmetic for each byte read [FLOP/byte]", left, right, tickformat=",~g"),
        "yaxis": decade_axis("Reached arithmetic [FLOP/s per device]", bottom, top, **_decades(bottom, top)),
        "annotations": annotations,
        "uirevision": revision,
        "shapes": [vertical(roof.ridge_flop_per_byte, dotted, xref="x", layer="below")],
    }
    return {"data": data, "layout": layout}


def _decades(low: float, high: float) -> dict:
    """Return a tick a decade, said with its prefix: 100 T, 1 P."""
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    return ticks((10.0**power for power in powers), lambda value: rate(value / 1e9, "").strip())


def _intensities(rows: Sequence[Row], roof: Roof) -> tuple[float, float]:
    """Return the range of FLOP/byte that holds all points and the ridge in its right half."""
    values = [row["flop_per_byte"] for row in rows if row["flop_per_byte"] > 0]
    return min(*values, roof.ridge_flop_per_byte / 50) / 2.5, max(*values, roof.ridge_flop_per_byte * 5) * 2.5


def _regions(roof: Roof, left: float, right: float, bottom: float) -> list[dict]:
    """Return the ground under the roof, in the colours of memory and arithmetic."""
    ridge, peak, floor = roof.ridge_flop_per_byte, roof.flop_per_s, bottom / 1e3
    left, right = left / 10, right * 10
    corners = (
        (MEMORY, [left, left, ridge, ridge, left], [floor, float(roof.at(left)), peak, floor, floor]),
        (ARITHMETIC, [ridge, ridge, right, right, ridge], [floor, peak, peak, floor, floor]),
    )
    return [
        scatter(
            short(x),
            short(y),
            mode="lines",
            fill="toself",
            fillcolor=faded(colour, 0.08),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        for colour, x, y in corners
    ]


def _roofs(
    roof: Roof, others: Sequence[Roof], reached: Callable, reached_name: str, left: float, right: float
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


def _line(
    name: str, x: Iterable[float], y: Iterable[float], colour: str, width: float, dash: str = "solid"
) -> dict:
    return scatter(
        short(x),
        short(y),
        mode="lines",
        name=name,
        hoverinfo="skip",
        line={"color": colour, "width": width, "dash": dash},
    )


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


def _points(name: str, rows: Sequence[Row], **more: object) -> dict:
    return (
        scatter(
            short(row["flop_per_byte"] for row in rows),
            short(row["flop_per_s"] for row in rows),
            name=name,
            mode="markers",
            hovertemplate=ROOF_HOVER,
            customdata=[_hover(row) for row in rows],
        )
        | more
    )


def _decode_line(rows: Sequence[Row]) -> dict:
    """Return decode over the batch; hollow where the batch does not fit."""
    rows = [row for row in rows if row["phase"] == "decode"]
    marker = {
        "size": 8,
        "color": [DECODE if row["fits"] else PAPER for row in rows],
        "line": {"width": 1.5, "color": DECODE},
    }
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
        if row["phase"] == "decode"
        and row["batch"] == batch
        and row["piece"] != "all"
        and row["flop_per_s"] > 0
    ]


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


def _ridge_words(roof: Roof) -> dict:
    text = f"ridge: {number(roof.ridge_flop_per_byte)} FLOP/byte"
    return note(
        text,
        math.log10(roof.ridge_flop_per_byte),
        math.log10(roof.flop_per_s),
        xanchor="right",
        yanchor="bottom",
        xshift=-8,
        yshift=4,
        color=INK,
        size=13,
    )


def roofline_sentence(rows: Sequence[Row], roof: Roof, batch: int) -> str:
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
        data.append(
            bar(
                list(labels),
                short(values),
                name=words,
                marker={"color": colour, "opacity": shown, "line": {"width": 0}},
                customdata=[
                    [
                        duration(value),
                        percent(value / row["time_ms"]),
                        duration(row["time_ms"]),
                        "" if row["fits"] else "<br>does not fit the KV cache",
                    ]
                    for value, row in zip(values, rows, strict=True)
                ],
                hovertemplate=f"<b>%{{x}}</b>: {words} %{{customdata[0]}}<br>%{{customdata[1]}} of "
                "%{customdata[2]}%{customdata[3]}<extra></extra>",
            )
        )
    layout = LAYOUT | {
        "barmode": "stack",
        "bargap": 0.22,
        "margin": MARGIN | {"t": 8},
        "xaxis": axis(title, type="category", fixedrange=True, tickfont={"size": 11}),
        "yaxis": axis("One step [ms]", rangemode="tozero", exponentformat="none", separatethousands=True),
        "uirevision": revision,
        "showlegend": False,
        "meta": {"legend_alone": True},
    }
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


def powers(contexts: Sequence[float]) -> dict:
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
