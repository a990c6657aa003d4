"""The load curve: latency against request rate, up to the knee, and its sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sim_core.results.classes import class_column
from sim_core.view.drawing.figures import (
    COLOURS,
    DASHES,
    INK,
    LAYOUT,
    MUTED,
    PAPER,
    SHADE,
    Figure,
    Row,
    faded,
    linear_axis,
    plain,
    short,
)
from sim_core.view.drawing.marks import horizontal, note
from sim_core.view.drawing.verdicts import OVERLOADED, held_words
from sim_core.view.drawing.words import duration, number

ROOM_FOR_WORDS = 0.3  # of the width, left of a rate, on a phone


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
    data += _classes(shown, "ttft", "y2") + _classes(shown, "tpot", "y")
    limits = (("y2", slo_ttft_ms), ("y", slo_tpot_ms))
    shapes = [_limit_line(axis, limit_ms) for axis, limit_ms in limits]
    annotations = [_limit_text(axis, limit_ms) for axis, limit_ms in limits]
    if knee is not None:
        shapes.append(_rate_shape("rect", knee, knee * 1e6, {"fillcolor": SHADE, "line": {"width": 0}}))
        words = f"saturates at {number(knee)} req/s"
        annotations.append(_rate_text(frame, knee, words, yanchor="top") | {"bgcolor": PAPER})
    if here_per_s is not None:
        shapes.append(_rate_shape("line", here_per_s, here_per_s, {"line": {"color": INK, "width": 1.5}}))
        here = _rate_text(frame, here_per_s, "this setting", yanchor="bottom")
        annotations.append(here | {"font": {"color": INK, "size": 13}})
    layout = LAYOUT | {
        "xaxis": linear_axis(frame.rate_per_s, False, "Request rate [req/s]") | {"anchor": "y"},
        "yaxis": linear_axis(frame.tpot_ms, True, "TPOT [ms]") | {"domain": [0, 0.45]},
        "yaxis2": linear_axis(frame.ttft_ms, True, "TTFT [ms]") | {"domain": [0.55, 1]},
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


def _rate_text(frame: LoadFrame, rate_per_s: float, text: str, yanchor: str) -> dict:
    """Return words between the two charts, left of a rate; right of one that has no room on its left."""
    low, high = frame.rate_per_s
    left = (rate_per_s - low) / (high - low) > ROOM_FOR_WORDS
    side, shift = ("right", -6) if left else ("left", 6)
    return note(text, rate_per_s, 0.5, xref="x", yref="paper", yanchor=yanchor, xanchor=side, xshift=shift)


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


def _classes(rows: list[Row], latency: str, axis: str) -> list[dict]:
    """Return the p99 of a latency for each class of a mix, one thin line a class."""
    start = class_column(latency, "p99", "")
    names = dict.fromkeys(key.removeprefix(start) for row in rows for key in row if key.startswith(start))
    found = []
    for place, name in enumerate(names):
        words = f"{latency.upper()} p99 {plain(name)}"
        found.append(
            {
                "type": "scatter",
                "mode": "lines",
                "xaxis": "x",
                "yaxis": axis,
                "name": words,
                "x": short(row["arrival_per_s"] for row in rows),
                "y": short(row.get(f"{start}{name}", math.nan) for row in rows),
                "line": {"color": COLOURS[1 + place % 4], "width": 1.5, "dash": DASHES[1 + place % 4]},
                "hovertemplate": f"{words} %{{y:,.3~r}} ms at %{{x:,.3~r}} req/s<extra></extra>",
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
