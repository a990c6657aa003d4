"""Figures: pure functions from a table of points to a Plotly figure, with a sentence that says the same.

Conventions: interactivity to the right, throughput per accelerator up; one colour and one dash per curve,
the same on every page; points nobody would choose are faint but can be hovered; straight segments, since a
spline would invent points. Colours that depend on light or dark are left to the chart (`INK`, `PAPER`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sim_core.view.words import duration, number

INK = "#010203"  # stands for the theme's text colour; chart.js replaces it
PAPER = "#fdfcfb"  # stands for the theme's background
MUTED = "#80868b"  # readable on both
SHADE = "rgba(128,134,139,0.13)"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe-Ito
DASHES = ("solid", "dash", "dashdot", "dot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "hexagon")
FAINT = 0.3
LABELLED = 4  # points of the operating curve that carry a label

LIMITS = {
    "weights": ("reading weights", "#0072B2"),
    "kv": ("reading the KV cache", "#56B4E9"),
    "compute": ("arithmetic", "#E69F00"),
    "communication": ("communication", "#CC79A7"),
    "fixed": ("fixed overhead", "#9aa0a6"),
    "queueing": ("queueing", "#D55E00"),
    "kv_capacity": ("KV capacity", "#009E73"),
    "batch_limit": ("batch limit", "#F0E442"),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """Axis ranges in data units, kept while sliders move, so that a change can be seen."""

    x: tuple[float, float]
    y: tuple[float, float]

    def holds(self, x: pd.Series, y: pd.Series) -> bool:
        """Return whether at least half of the points lie inside."""
        inside = x.between(*self.x) & y.between(*self.y)
        return bool(inside.mean() >= 0.5) if len(x) else True


def fit(x: pd.Series, y: pd.Series, log_x: bool = False, log_y: bool = False) -> Frame:
    """Return ranges that hold all points, with room to grow and round ends."""
    return Frame(_span(x, log_x), _span(y, log_y))


def _span(values: pd.Series, log: bool) -> tuple[float, float]:
    values = values[np.isfinite(values) & (values > 0)]
    if values.empty:
        return (1.0, 1000.0) if log else (0.0, 1.0)
    high = values.max() * (1.5 if log else 1.15)
    return (values.min() / 1.5, high) if log else (0.0, high)


def style(index: int) -> tuple[str, str, str]:
    """Return colour, dash and marker of the curve at a place; three channels, so colour is not needed."""
    return COLOURS[index % 6], DASHES[index % 6], SYMBOLS[index % 6]


# Pareto


PARETO_HOVER = (
    "<b>%{customdata[0]}</b><br>"
    "%{x:,.3~r} tok/s/user · %{y:,.3~r} tok/s per accelerator<br>"
    "TTFT p50 %{customdata[1]} · p99 %{customdata[2]}<br>"
    "TPOT p50 %{customdata[3]} · p99 %{customdata[4]}<br>"
    "%{customdata[5]}<br>%{customdata[6]}<extra></extra>"
)


def pareto(
    table: pd.DataFrame,
    frame: Frame,
    *,
    point: str,
    point_word: str,
    slo_tpot_ms: float,
    here: pd.Series | None = None,
    best: pd.Series | None = None,
    log_x: bool = False,
    log_y: bool = False,
    revision: str = "",
) -> go.Figure:
    """Draw throughput per accelerator against interactivity, one curve per configuration.

    Parameters
    ----------
    table : pd.DataFrame
        One row a point, as `frontier` returns it.
    frame : Frame
        Axis ranges. [tok/s/user], [tok/s per accelerator]
    point, point_word : str
        The column that tells the points of a curve apart, and its name in words.
    slo_tpot_ms : float
        Limit on TPOT; the side that breaks it is shaded. [ms]
    here, best : pd.Series, optional
        The point of the present setting, and the best one within the limits.
    revision : str
        While it stays the same the visitor's zoom is kept.
    """
    figure = go.Figure()
    _shade_slow_side(figure, 1000 / slo_tpot_ms, f"TPOT limit {duration(slo_tpot_ms)}", frame)
    runs = table[table.feasible]
    _halo(figure, runs)
    for index, name in enumerate(table.curve.unique()):
        _pareto_curve(figure, runs[runs.curve == name], name, style(index), point, point_word)
    _ends(figure, table)
    _mark(figure, best, "best within limits", "star", 15, "bottom right")
    _mark(figure, here, "this setting", "circle-open", 17, "top left")
    figure.update_layout(uirevision=revision, **_layout(frame, log_x, log_y))
    figure.update_xaxes(title="Interactivity [tok/s/user]")
    figure.update_yaxes(title="Throughput [tok/s per accelerator]")
    figure.add_annotation(
        text="better ↗", xref="paper", yref="paper", x=0.995, y=0.985, xanchor="right", yanchor="top",
        showarrow=False, font={"color": MUTED, "size": 13},
    )  # fmt: skip
    return figure


def _shade_slow_side(figure: go.Figure, edge: float, label: str, frame: Frame) -> None:
    """Shade what is slower than the TPOT limit and label the edge."""
    figure.add_shape(
        type="rect", xref="x", yref="paper", x0=1e-9, x1=edge, y0=0, y1=1, layer="below",
        fillcolor=SHADE, line={"width": 0},
    )  # fmt: skip
    figure.add_shape(
        type="line", xref="x", yref="paper", x0=edge, x1=edge, y0=0, y1=1, layer="below",
        line={"color": MUTED, "width": 1.5, "dash": "dot"},
        label={"text": label, "textposition": "start", "textangle": -90, "xanchor": "right", "padding": 6,
               "font": {"size": 12, "color": MUTED}},
    )  # fmt: skip


def _halo(figure: go.Figure, runs: pd.DataFrame) -> None:
    """Draw the frontier over all curves as a broad pale line beneath them."""
    best = runs[runs.on_frontier].sort_values("tok_per_s_per_user")
    figure.add_scatter(
        x=best.tok_per_s_per_user, y=best.output_tok_per_s_per_accelerator, mode="lines", name="frontier",
        line={"color": "rgba(128,134,139,0.30)", "width": 11}, hoverinfo="skip",
    )  # fmt: skip


def _pareto_curve(
    figure: go.Figure, rows: pd.DataFrame, name: str, look: tuple[str, str, str], point: str, word: str
) -> None:
    colour, dash, symbol = look
    open_ = rows.saturated.map({True: "-open", False: ""})
    figure.add_scatter(
        x=_round(rows.tok_per_s_per_user), y=_round(rows.output_tok_per_s_per_accelerator), name=name,
        mode="lines+markers", line={"color": colour, "width": 2.25, "dash": dash},
        marker={"color": colour, "size": 8, "symbol": [symbol + end for end in open_],
                "opacity": np.where(rows.on_frontier, 1.0, FAINT), "line": {"width": 1.5, "color": colour}},
        customdata=_hover(rows, name, point, word), hovertemplate=PARETO_HOVER,
    )  # fmt: skip


def _hover(rows: pd.DataFrame, name: str, point: str, word: str) -> list[list[str]]:
    return [
        [
            f"{name} · {word} {number(getattr(row, point))}",
            duration(row.ttft_ms_p50),
            duration(row.ttft_ms_p99),
            duration(row.tpot_ms_p50),
            duration(row.tpot_ms_p99),
            f"limited by {LIMITS[row.limit][0]}" if row.limit in LIMITS else "",
            _verdict(row),
        ]
        for row in rows.itertuples()
    ]


def _verdict(row) -> str:
    if row.saturated:
        return "overloaded: latencies grow with the length of the run"
    if not row.meets_slo:
        return "misses the latency limits"
    return "on the frontier, within the limits" if row.on_frontier else "within the limits"


def _ends(figure: go.Figure, table: pd.DataFrame) -> None:
    """Mark with a cross where a curve ends because its next point cannot run."""
    for name, rows in table.groupby("curve", sort=False):
        blocked, runs = rows[~rows.feasible], rows[rows.feasible]
        if blocked.empty or runs.empty:
            continue
        last = runs.iloc[runs.tok_per_s_per_user.argmin()]
        figure.add_scatter(
            x=[last.tok_per_s_per_user], y=[last.output_tok_per_s_per_accelerator], mode="markers",
            marker={"symbol": "x-thin", "size": 13, "line": {"width": 2, "color": INK}},
            text=[f"<b>{name} ends here</b><br>{blocked.iloc[0].reason}"],
            hovertemplate="%{text}<extra></extra>", showlegend=False,
        )  # fmt: skip


def _mark(figure: go.Figure, row: pd.Series | None, text: str, symbol: str, size: int, place: str) -> None:
    """Mark one point with a symbol in the text colour and a word beside it."""
    if row is None:
        return
    figure.add_scatter(
        x=[row.tok_per_s_per_user], y=[row.output_tok_per_s_per_accelerator], mode="markers+text",
        text=[f" {text} "], textposition=place, textfont={"size": 12.5, "color": INK}, cliponaxis=False,
        marker={"symbol": symbol, "size": size, "color": INK, "line": {"width": 2, "color": INK}},
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def _round(values: pd.Series, digits: int = 5) -> np.ndarray:
    """Return values with a few significant digits: enough for any screen, and half the bytes."""
    array = np.asarray(values, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(array))))
        return np.where(np.isfinite(scale), np.round(array * scale) / scale, array)


def _axis(span: tuple[float, float], log: bool) -> dict:
    if log:
        return {"type": "log", "range": [math.log10(span[0]), math.log10(span[1])], "dtick": 1,
                "minor": {"showgrid": False, "ticks": "outside", "ticklen": 3}}  # fmt: skip
    return {"type": "linear", "range": list(span), "rangemode": "tozero", "separatethousands": True}


def _layout(frame: Frame, log_x: bool, log_y: bool) -> dict:
    return {
        "xaxis": _axis(frame.x, log_x),
        "yaxis": _axis(frame.y, log_y),
        "margin": {"l": 8, "r": 16, "t": 34, "b": 8},
        "hovermode": "closest",
        "dragmode": "zoom",
        "legend": {"orientation": "h", "x": 0, "y": 1.015, "xanchor": "left", "yanchor": "bottom"},
    }


# Load curve


def load_curve(
    table: pd.DataFrame, *, slo_ttft_ms: float, slo_tpot_ms: float, knee: float | None, revision: str = ""
) -> go.Figure:
    """Draw TTFT and TPOT, p50 and p99, against the request rate, with the knee where the queue grows.

    Parameters
    ----------
    table : pd.DataFrame
        One row a request rate, as `load_curve` of the core returns it.
    knee : float, optional
        Highest stable request rate; what lies beyond is shaded. [req/s]
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    rows = table[table.feasible].sort_values("arrival_per_s")
    _percentiles(figure, rows, "ttft", 1, COLOURS[0], "circle")
    _percentiles(figure, rows, "tpot", 2, COLOURS[5], "square")
    _limit_line(figure, slo_ttft_ms, 1)
    _limit_line(figure, slo_tpot_ms, 2)
    if knee is not None:
        _knee(figure, knee)
    figure.update_xaxes(type="log", title="Request rate [req/s]", row=2, col=1)
    figure.update_xaxes(type="log", row=1, col=1)
    figure.update_yaxes(type="log", title="TTFT [ms]", row=1, col=1)
    figure.update_yaxes(type="log", title="TPOT [ms]", row=2, col=1)
    figure.update_layout(
        uirevision=revision, hovermode="closest", margin={"l": 8, "r": 16, "t": 34, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.015, "yanchor": "bottom"},
    )  # fmt: skip
    return figure


def _percentiles(
    figure: go.Figure, rows: pd.DataFrame, name: str, row: int, colour: str, symbol: str
) -> None:
    """Draw p50 and p99 of one latency, with the band of p99 where it is known."""
    word = name.upper()
    low, high = f"{name}_ms_p99_low", f"{name}_ms_p99_high"
    if low in rows and rows[low].notna().any():
        figure.add_scatter(
            x=pd.concat([rows.arrival_per_s, rows.arrival_per_s[::-1]]),
            y=_round(pd.concat([rows[high], rows[low][::-1]])), fill="toself", mode="lines",
            line={"width": 0}, fillcolor=_alpha(colour, 0.2), hoverinfo="skip", showlegend=False,
            row=row, col=1,
        )  # fmt: skip
    for percentile, dash in (("p99", "solid"), ("p50", "dot")):
        values = rows[f"{name}_ms_{percentile}"]
        figure.add_scatter(
            x=rows.arrival_per_s, y=_round(values), name=f"{word} {percentile}", mode="lines+markers",
            line={"color": colour, "width": 2.25, "dash": dash},
            marker={"size": 7, "symbol": [symbol + ("-open" if full else "") for full in rows.saturated]},
            customdata=[[duration(value), "overloaded" if full else "stable"]
                        for value, full in zip(values, rows.saturated, strict=True)],
            hovertemplate=f"{word} {percentile} %{{customdata[0]}} at %{{x:,.3~r}} req/s<br>"
                          "%{customdata[1]}<extra></extra>",
            row=row, col=1,
        )  # fmt: skip


def _limit_line(figure: go.Figure, limit_ms: float, row: int) -> None:
    figure.add_hline(
        y=limit_ms, line={"color": MUTED, "width": 1.5, "dash": "dot"}, row=row, col=1,
        annotation={"text": f"limit {duration(limit_ms)}", "font": {"color": MUTED, "size": 12}},
        annotation_position="top left",
    )  # fmt: skip


def _knee(figure: go.Figure, knee: float) -> None:
    for row in (1, 2):
        figure.add_vrect(x0=knee, x1=knee * 1e6, fillcolor=SHADE, line_width=0, layer="below", row=row, col=1)
    figure.add_annotation(
        x=math.log10(knee), xref="x", y=1, yref="y domain", text=f" the queue grows beyond {number(knee)} req/s",
        showarrow=False, xanchor="left", yanchor="top", font={"color": MUTED, "size": 12},
    )  # fmt: skip


def _alpha(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
