"""Figures of the Disaggregation page: pure functions from rows to Plotly's JSON, each with a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sim_core.engine.results import STAGES
from sim_core.questions.disaggregation import Axes
from sim_core.scenario.scenario import FIELDS
from sim_core.view.drawing.figures import (
    COLOURS,
    INK,
    LAYOUT,
    MUTED,
    TALL_LAYOUT,
    Figure,
    Row,
    faded,
    log_ticks,
    plain,
    short,
    ticks,
)
from sim_core.view.drawing.marks import axis, bar, note, scatter, upright
from sim_core.view.drawing.verdicts import held_words
from sim_core.view.drawing.words import duration, number, quantity, spoken

ONE, TWO = COLOURS[1], COLOURS[0]
STAGE_COLOURS = dict(zip(STAGES, (MUTED, COLOURS[1], COLOURS[3], "#c9ccd1", COLOURS[0]), strict=True))
STAGE_NAMES = {
    "queue": "waiting for prefill",
    "prefill": "prefill",
    "transfer": "KV transfer",
    "decode queue": "waiting for decode",
    "decode": "decode",
}
SCALE = [  # pale enough for the words in the cells on light and on dark
    [0.0, faded(ONE, 0.5)],
    [0.5, "rgba(128,134,139,0.12)"],
    [1.0, faded(TWO, 0.65)],
]
MOST_GAIN = 1.0  # beyond it the colour says no more


def ratio_name(row: Row) -> str:
    """Return a split as people write it: 2P6D are two prefill and six decode workers."""
    return f"{row['prefill_workers']}P{row['decode_workers']}D"


# The ratio


def _one_pool(ends: Sequence[float | None], level: float, **more: object) -> dict:
    """Return what one pool reaches, a line from end to end."""
    line = {"color": ONE, "width": 2.5, "dash": "dash"}
    name = "One pool, chunked prefill"
    return scatter(ends, short([level, level]), mode="lines", name=name, line=line, **more)


def splits_figure(
    rows: Sequence[Row], one: Row, devices: int, best: Row | None, matched: float, here: int
) -> Figure:
    """Draw what each split of the workers serves within the limits, one pool as a line.

    Parameters
    ----------
    rows : sequence of mappings
        As `disaggregation.ratios` makes them.
    one : mapping
        The point of one pool on as many `devices`.
    best : mapping, optional
        The best of the rows.
    matched : float
        Prefill workers that rate matching asks for.
    here : int
        Prefill workers of the scenario.
    """
    places = list(range(1, len(rows) + 1))
    heights = [row["served_per_s"] / row["accelerators"] if row["feasible"] else math.nan for row in rows]
    colours = [TWO if row["feasible"] and row["meets_slo"] else faded(TWO, 0.35) for row in rows]
    level = one["served_per_s"] / devices
    edges = [2.5 if row["prefill_workers"] == here else 0 for row in rows]
    data = [
        bar(
            places,
            short(heights),
            name="Two pools",
            showlegend=False,
            marker={"color": colours, "line": {"width": edges, "color": INK}},
            customdata=[split_hover(row) for row in rows],
            hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{customdata[2]}<extra></extra>",
        ),
        _one_pool(
            [0.4, len(rows) + 0.6],
            level,
            hovertemplate=f"one pool: {number(level)} req/s per accelerator<extra></extra>",
        ),
        _legend("Every limit kept", TWO),
        _legend("p99 over a limit", faded(TWO, 0.35)),
    ]
    top = max([level, *(height for height in heights if math.isfinite(height))], default=1.0)
    words = [note(" theory", matched, 1.0, yref="paper", yanchor="top", xanchor="left")]
    if best is not None:
        workers = best["prefill_workers"]
        words.append(note("best", workers + 0.07, heights[workers - 1], xanchor="left", yanchor="bottom"))
    layout = LAYOUT | {
        "xaxis": axis(
            "Workers that prefill (P) and decode (D)",
            tickvals=places,
            ticktext=[ratio_name(row) for row in rows],
            showgrid=False,
            range=[0.4, len(rows) + 0.6],
        ),
        "yaxis": axis("Within the limits, per accelerator [req/s]", range=[0, 1.15 * top]),
        "shapes": [upright(matched)],
        "annotations": words,
        "bargap": 0.25,
    }
    return {"data": data, "layout": layout}


def _legend(name: str, colour: str) -> dict:
    return scatter(
        [None], [None], mode="markers", name=name, marker={"color": colour, "size": 11, "symbol": "square"}
    )


def split_hover(row: Row) -> list[str]:
    """Return the words over a split."""
    if not row["feasible"]:
        return [ratio_name(row), plain(spoken(row["reason"])), ""]
    good = row["served_per_s"] / row["accelerators"]
    return [
        ratio_name(row),
        f"{number(good)} req/s per accelerator within the limits",
        f"TTFT p99 {held_words(row, 'ttft_ms_p99')}, TPOT p99 {duration(row['tpot_ms_p99'])}",
    ]


def ratios_sentence(rows: Sequence[Row], one: Row, devices: int, best: Row | None) -> str:
    """Return the figure in one sentence."""
    level = number(one["served_per_s"] / devices)
    if best is None:
        return (
            f"No split of the workers meets the limits; one pool has {level} good requests a second per "
            "accelerator."
        )
    good = number(best["served_per_s"] / best["accelerators"])
    return (
        f"Served within the limits, per accelerator, over {len(rows)} splits: best {good} req/s at "
        f"{ratio_name(best)}; one pool "
        f"{level}."
    )


# The stages


def stages_figure(rows: Sequence[Row]) -> Figure:
    """Draw how long requests spend in each stage, as stacked bars: on average and near percentiles."""
    names = [row["what"] for row in reversed(rows)]
    data = [
        bar(
            short(row[stage] for row in reversed(rows)),
            names,
            orientation="h",
            name=STAGE_NAMES[stage],
            marker={"color": STAGE_COLOURS[stage]},
            customdata=[duration(row[stage]) for row in reversed(rows)],
            hovertemplate=f"<b>%{{y}}</b>: {STAGE_NAMES[stage]} %{{customdata}}<extra></extra>",
        )
        for stage in STAGES
    ]
    layout = LAYOUT | {
        "barmode": "stack",
        "bargap": 0.35,
        "xaxis": axis("Time of a request [ms]", rangemode="tozero"),
        "yaxis": {"type": "category", "showgrid": False},
        "legend": {**LAYOUT["legend"], "traceorder": "normal"},
    }
    return {"data": data, "layout": layout}


def stages_sentence(rows: Sequence[Row]) -> str:
    """Return the figure in one sentence."""
    mean = rows[0]
    parts = [f"{STAGE_NAMES[stage]} {duration(mean[stage])}" for stage in STAGES]
    return f"A request on two pools takes, on average: {', '.join(parts)}."


# When it pays


class Scale(NamedTuple):
    """How an axis of the map is called, and how its values are written."""

    title: str
    words: Callable[[float], str]


SCALES = {
    "prompt_tokens": Scale("Mean prompt [tokens]", number),
    "output_tokens": Scale("Mean answer [tokens]", number),
    "slo_ttft_ms": Scale(FIELDS["slo_ttft_ms"].label, duration),
    "slo_tpot_ms": Scale(FIELDS["slo_tpot_ms"].label, duration),
}


def gains(rows: Sequence[Row], axes: Axes, here: tuple[float, float]) -> Figure:
    """Draw the gain of two pools over lengths or limits; a line where it changes sign, a ring at (y, x)."""
    ys, xs = axes.y_values, axes.x_values
    by_cell = {(row[axes.y], row[axes.x]): row for row in rows}
    cells = [[by_cell[down, across] for across in xs] for down in ys]
    colour = [[_colour(row) for row in line] for line in cells]
    x, y = list(range(len(xs))), list(range(len(ys)))
    data = [
        {
            "type": "heatmap",
            "x": x,
            "y": y,
            "z": colour,
            "zmin": -1,
            "zmax": 1,
            "colorscale": SCALE,
            "showscale": False,
            "xgap": 2,
            "ygap": 2,
            "text": [[gain_text(row) for row in line] for line in cells],
            "texttemplate": "%{text}",
            "textfont": {"color": INK},
            "customdata": [[cell_words(row, axes) for row in line] for line in cells],
            "hovertemplate": "%{customdata}<extra></extra>",
        },
        *_even(x, y, colour),
        _ring(_place(here[1], xs), _place(here[0], ys)),
    ]
    layout = TALL_LAYOUT | {
        side: axis(
            SCALES[key].title,
            tickvals=places,
            ticktext=[SCALES[key].words(value) for value in values],
            showgrid=False,
        )
        for side, key, places, values in (("xaxis", axes.x, x, xs), ("yaxis", axes.y, y, ys))
    }
    return {"data": data, "layout": layout}


def _ring(x: float, y: float) -> dict:
    """Return the mark of the present setting, wide enough for the words of its cell."""
    look = {"size": 46, "symbol": "circle-open", "color": INK, "line": {"width": 2, "color": INK}}
    quiet = {"hoverinfo": "skip", "showlegend": False, "cliponaxis": False}
    return scatter([x], [y], mode="markers", marker=look, **quiet)


def _even(x: list[int], y: list[int], gains: Sequence[Sequence[float | None]]) -> list[dict]:
    """Return the line where the gain changes its sign, if it does."""
    known = [value for line in gains for value in line if value is not None]
    if not (any(value < 0 for value in known) and any(value > 0 for value in known)):
        return []
    return [
        {
            "type": "contour",
            "x": x,
            "y": y,
            "z": gains,
            "hoverinfo": "skip",
            "showscale": False,
            "contours": {"coloring": "none", "start": 0, "end": 0, "size": 1},
            "line": {"color": INK, "width": 2},
            "opacity": 0.5,  # it crosses the words of cells
            "connectgaps": True,
            "showlegend": False,
        }
    ]


def _colour(row: Row) -> float | None:
    gain = row["gain_frac"]
    if math.isnan(gain):
        return None
    return float(
        np.clip(math.log2(1 + max(gain, -0.9)) if math.isfinite(gain) else 1.0, -MOST_GAIN, MOST_GAIN)
    )


def _place(value: float, steps: Sequence[float]) -> float:
    """Return where a value lies among evenly drawn steps."""
    return float(np.interp(math.log(value), np.log(steps), np.arange(len(steps))))


def gain_text(row: Row) -> str:
    """Return the gain as a cell shows it."""
    gain = row["gain_frac"]
    if math.isnan(gain):
        return "×"
    if gain >= 1.5:
        return f"{number(1 + gain, 2)}×" if gain < 99 else ">100×"
    return f"{'+' if gain > 0.005 else '−' if gain < -0.005 else '±'}{abs(100 * gain):.0f}%"


def cell_words(row: Row, axes: Axes) -> str:
    """Return the words over a cell."""
    sides = (
        f"{SCALES[key].title.partition(' [')[0]} {SCALES[key].words(row[key])}" for key in (axes.y, axes.x)
    )
    title = f"<b>{', '.join(sides)}</b><br>"
    if not row["feasible"]:
        return title + plain(spoken(row["reason"]))
    if math.isnan(row["gain_frac"]):
        return f"{title}neither one pool nor two keep the limits"
    return (
        f"{title}within the limits: one pool {quantity(row['one_per_s'], 'req/s')}, "
        f"two pools {quantity(row['two_per_s'], 'req/s')}<br>{row['prefill_workers']} workers prefill"
    )


def gains_sentence(rows: Sequence[Row]) -> str:
    """Return the figure in one sentence."""
    known = [row["gain_frac"] for row in rows if not math.isnan(row["gain_frac"])]
    better = sum(gain > 0.05 for gain in known)
    worse = sum(gain < -0.05 for gain in known)
    return f"Of {len(rows)} cells two pools serve more within the limits at {better}, less at {worse}."


# The link


def link_figure(rows: Sequence[Row], one_served_per_s: float, break_even: float, here: float) -> Figure:
    """Draw what two pools serve within the limits over the bandwidth of the KV link, one pool as a line."""
    x = [row["kv_link_gb_per_s"] for row in rows]
    span = [math.log10(x[0]), math.log10(x[-1])]
    data = [
        scatter(
            short(x),
            short(row["served_per_s"] for row in rows),
            mode="lines+markers",
            name="Two pools",
            line={"color": TWO, "width": 2.5},
            marker={"size": 6},
            customdata=[[held_words(row, key) for key in ("ttft_ms_p99", "tpot_ms_p99")] for row in rows],
            hovertemplate="%{x:.3~g} GB/s: %{y:.3~g} req/s<br>TTFT p99 %{customdata[0]}, TPOT p99 "
            "%{customdata[1]}<extra></extra>",
        ),
        _one_pool(short([x[0], x[-1]]), one_served_per_s, hoverinfo="skip"),
    ]
    marks, words = [], []
    if math.isfinite(break_even) and break_even > 0:
        marks.append(upright(break_even))
        text = f" break-even {number(break_even)} GB/s"
        words.append(note(text, math.log10(break_even), 0.1, yref="paper", xanchor="left"))
    log = {"type": "log", "range": span, **ticks(log_ticks(x[0], x[-1]))}
    layout = LAYOUT | {
        "xaxis": axis("KV link of each prefill worker [GB/s]", **log),
        "yaxis": axis("Served within the limits [req/s]", rangemode="tozero"),
        "shapes": marks,
        "annotations": words,
    }
    return {"data": data, "layout": layout}


def link_sentence(rows: Sequence[Row], one_served_per_s: float, break_even: float) -> str:
    """Return the figure in one sentence."""
    top = max((row["served_per_s"] for row in rows if row["feasible"]), default=math.nan)
    if math.isnan(break_even):
        return (
            f"No link makes two pools as good as one: at most {number(top)} against "
            f"{number(one_served_per_s)} req/s."
        )
    if break_even == 0:
        return (
            f"Over the whole range two pools serve at least as much as one, {number(one_served_per_s)} req/s."
        )
    return (
        f"Two pools are as good as one from {number(break_even)} GB/s on; with a quick link they serve "
        f"{number(top)} req/s."
    )
