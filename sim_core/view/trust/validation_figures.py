"""Figures of the Validation page: pure functions from rows to Plotly's JSON, each with a sentence.

A row is one published point with its prediction, as `validation.as_rows` makes them. Blind means: predicted
by a fit that has not seen the point's model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sim_core.fields.texts import counted
from sim_core.view.drawing.figures import (
    BREAK,
    COLOURS,
    INK,
    MUTED,
    SOFT,
    SYMBOLS,
    TALL_LAYOUT,
    TALL_MARGIN,
    Figure,
    Row,
    faded,
    log_ticks,
    plain,
    short,
    ticks,
)
from sim_core.view.drawing.marks import axis, scatter
from sim_core.view.drawing.words import duration, number, percent, quantity

METRICS = {  # name, column, unit of the axis
    "tpot": ("TPOT", "tpot_ms", "ms"),
    "ttft": ("TTFT", "ttft_ms", "ms"),
    "throughput": ("Throughput", "throughput_tok_per_s", "tok/s"),
}
BANDS = ((0.3, 0.05), (0.2, 0.06), (0.1, 0.08))  # relative width, and how strongly it is drawn


def inside(metric: str) -> str:
    """Return the name of a metric as it stands inside a sentence."""
    return METRICS[metric][0] if metric != "throughput" else "throughput"


def value_words(metric: str, value: float) -> str:
    """Return a measured or predicted value in words."""
    return quantity(value, "tok/s") if metric == "throughput" else duration(value)


def error_ratio_words(ratio: float) -> str:
    """Return predicted / measured in words.

    Examples
    --------
    >>> error_ratio_words(1.12).replace("\\N{NARROW NO-BREAK SPACE}", " ")
    '12 % too high'
    >>> [error_ratio_words(ratio) for ratio in (1.0, 4.0)]
    ['exact', '4 times too high']
    """
    if not math.isfinite(ratio):
        return "–"
    if abs(ratio - 1) < 0.005:
        return "exact"
    if ratio >= 2.5 or ratio <= 0.4:
        return f"{number(max(ratio, 1 / ratio), 2)} times too {'high' if ratio > 1 else 'low'}"
    return f"{percent(abs(ratio - 1))} too {'high' if ratio > 1 else 'low'}"


class Style(NamedTuple):
    """What a group of points looks like: its place in the table decides, so it stays the same everywhere."""

    name: str
    colour: str
    symbol: str


def styles(groups: Mapping[str, str]) -> dict[str, Style]:
    """Return the look of each group, from ids to names in the order of the whole table."""
    return {
        key: Style(name, COLOURS[place % 6], SYMBOLS[(place + place // 6) % 6])
        for place, (key, name) in enumerate(groups.items())
    }


# Predicted against measured

HOVER = (
    "<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{customdata[2]}<br>"
    "measured %{customdata[3]}, predicted %{customdata[4]}: %{customdata[5]}<br>"
    "<i>%{customdata[6]}</i><br>%{customdata[7]}<extra></extra>"
)


def against(
    rows: Sequence[Row], metric: str, by: str, looks: Mapping[str, Style], *, revision: str = ""
) -> Figure:
    """Draw predicted against measured values, with the line of equality and bands around it.

    Parameters
    ----------
    rows : sequence of mappings
        As `validation.as_rows` makes them.
    metric : str
        One of `METRICS`.
    by : str
        The column that decides the look of a point.
    looks : mapping of str to Style
        Of all groups of the table; those without a row are left out.
    revision : str
        While it stays the same the visitor's zoom is kept.
    """
    _, column, unit = METRICS[metric]
    shown = comparable_rows(rows, metric)
    values = [row[key] for row in shown for key in (column, f"predicted_{column}")] or [1.0, 100.0]
    low, high = min(values) / 1.6, max(values) * 1.6
    data = [*bands(low, high), equal(low, high)]
    for key, look in looks.items():
        group = sorted((row for row in shown if row[by] == key), key=lambda row: row["status"])
        data += [_marks(group, metric, look)] if group else []
    span = [math.log10(low), math.log10(high)]
    log = {"type": "log", "range": span, **ticks(square_ticks(low, high))}
    layout = TALL_LAYOUT | {
        "xaxis": axis(f"Measured {inside(metric)} [{unit}]", **log),
        "yaxis": axis(f"Predicted {inside(metric)} [{unit}]", **log),
        "annotations": _sides(metric),
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def comparable_rows(rows: Iterable[Row], metric: str) -> list[Row]:
    """Return the rows that have a measured and a predicted value."""
    column = METRICS[metric][1]
    return [row for row in rows if row[column] > 0 and row[f"predicted_{column}"] > 0]


def bands(low: float, high: float) -> list[dict]:
    """Return the ground within some percent of equality, the widest first."""
    left, right = low / 10, high * 10
    return [
        scatter(
            short([left, right, right, left, left]),
            short(
                [
                    left * (1 - width),
                    right * (1 - width),
                    right * (1 + width),
                    left * (1 + width),
                    left * (1 - width),
                ]
            ),
            mode="lines",
            fill="toself",
            hoverinfo="skip",
            showlegend=False,
            fillcolor=faded(MUTED, 2 * strength),
            line={"width": 0},
        )
        for width, strength in BANDS
    ]


def equal(low: float, high: float) -> dict:
    """Return the line on which prediction and measurement are equal."""
    ends = short([low / 10, high * 10])
    return scatter(
        ends, ends, mode="lines", hoverinfo="skip", showlegend=False, line={"color": INK, "width": 1.25}
    )


def _marks(rows: Sequence[Row], metric: str, look: Style) -> dict:
    column = METRICS[metric][1]
    return scatter(
        short(row[column] for row in rows),
        short(row[f"predicted_{column}"] for row in rows),
        mode="markers",
        name=look.name,
        hovertemplate=HOVER,
        marker={
            "size": 8,
            "opacity": 0.75,
            "color": look.colour,
            "line": {"width": 1.25, "color": look.colour},
            "symbol": [look.symbol + ("-open" if row["status"] else "") for row in rows],
        },
        customdata=[point_hover(row, metric) for row in rows],
    )


def point_hover(row: Row, metric: str) -> list[str]:
    """Return the words over one point: what was run, how, both values, and where it is printed."""
    column = METRICS[metric][1]
    measured, predicted = row[column], row[f"predicted_{column}"]
    return [
        f"{row['model_name']} on {row_devices_words(row)}",
        f"{row['engine']} {row['engine_version']}, {row['precision']}, {row['date']}",
        load_words(row),
        value_words(metric, measured),
        value_words(metric, predicted),
        error_ratio_words(predicted / measured),
        _short(row["source_title"]),
        _short(f"{row['id']}: {row['entry']}") + (f"{BREAK}{row['status']}" if row["status"] else ""),
    ]


def row_devices_words(row: Row) -> str:
    """Return the devices of a row in words."""
    if not row["devices"]:
        return row["accelerator_name"]
    layout = f" (TP {row['tensor_parallel']})" if 0 < row["tensor_parallel"] < row["devices"] else ""
    return f"{row['devices']} × {row['accelerator_name']}{layout}"


def load_words(row: Row) -> str:
    """Return lengths and load of a row in words."""
    lengths = f"{row['prompt_tokens']:,} → {row['output_tokens']:,} tokens"
    if row["traffic"] == "server":
        return f"{lengths}, {quantity(row['arrival_per_s'], 'req/s')}"
    if row["traffic"] == "prefill":
        return f"{counted(row['prompt_tokens'], 'token')} of prompt"
    if not row["clients"]:
        return lengths
    what = {"batch": "a batch of {}", "offline": "batch limit {}", "burst": "{} at once"}
    return f"{lengths}, {what.get(row['traffic'], '{} clients').format(number(row['clients']))}"


def _short(text: str, most: int = 90) -> str:
    return plain(text if len(text) <= most else f"{text[: most - 25]} … {text[-20:]}")


def square_ticks(low: float, high: float) -> list[float]:
    return log_ticks(low, high, (1, 2, 5) if high / low < 200 else (1, 3) if high / low < 3000 else (1,))


def _sides(metric: str) -> list[dict]:
    """Return what lies on which side of the line."""
    word = {"xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": 13, "color": SOFT}}
    above, below = "too slow", "too fast"
    if metric == "throughput":
        above, below = below, above
    return [
        word | {"text": f"predicted {above}", "x": 0.012, "y": 0.985, "xanchor": "left", "yanchor": "top"},
        word | {"text": f"predicted {below}", "x": 0.988, "y": 0.02, "xanchor": "right", "yanchor": "bottom"},
    ]


def against_sentence(rows: Sequence[Row], metric: str) -> str:
    """Return the chart of predicted against measured in one sentence."""
    name, column = inside(metric), METRICS[metric][1]
    shown = comparable_rows(rows, metric)
    if not shown:
        return f"No published point has a {name} here."
    near = sum(abs(row[f"predicted_{column}"] / row[column] - 1) <= 0.2 for row in shown) / len(shown)
    points = "1 point" if len(shown) == 1 else f"{number(len(shown))} points"
    return f"Predicted against measured {name} of {points}: {percent(near)} lie within 20 %."


# Errors by group


class ErrorSpread(NamedTuple):
    """The errors of one group: predicted / measured at 10, 50 and 90%, blind and with all rows fitted."""

    group: str
    rows: int
    blind: tuple[float, float, float]
    fitted: tuple[float, float, float]


def spreads(
    rows: Sequence[ErrorSpread], metric: str, looks: Mapping[str, Style], *, revision: str = ""
) -> Figure:
    """Draw where four fifths of the ratios predicted / measured of each group lie, with their median.

    Parameters
    ----------
    rows : sequence of Spread
        From top to bottom.
    metric : str
        One of `METRICS`.
    looks : mapping of str to Style
        Names and colours of the groups.
    """
    ends = [edge for row in rows for edge in (*row.blind, *row.fitted) if edge > 0] or [1.0]
    low, high = min(0.6, *ends) / 1.15, max(1.6, *ends) * 1.15
    names = [looks[row.group].name for row in rows]
    data = []
    for row, name in zip(rows, names, strict=True):
        colour = looks[row.group].colour
        data += [_span(name, row.blind, colour, 0.35, 13), _span(name, row.fitted, colour, 1.0, 4)]
    data += [_median(rows, names, looks, "blind"), _median(rows, names, looks, "fitted")]
    layout = TALL_LAYOUT | {
        "xaxis": axis(
            f"Predicted {inside(metric)} against measured",
            type="log",
            range=[math.log10(low), math.log10(high)],
            **ticks(_ratio_ticks(low, high), _times),
            zeroline=False,
        ),
        "yaxis": axis(
            "",
            autorange="reversed",
            automargin=True,
            type="category",
            categoryorder="array",
            categoryarray=names,
        ),
        "shapes": _ratio_shapes(),
        "uirevision": revision,
        "showlegend": False,
        "margin": TALL_MARGIN | {"t": 12},
    }
    return {"data": data, "layout": layout}


def _span(name: str, edges: tuple[float, float, float], colour: str, opacity: float, width: float) -> dict:
    return scatter(
        short([edges[0], edges[2]]),
        [name, name],
        mode="lines",
        line={"color": faded(colour, opacity), "width": width},
        hoverinfo="skip",
        showlegend=False,
    )


def _median(rows: Sequence[ErrorSpread], names: Sequence[str], looks: Mapping[str, Style], kind: str) -> dict:
    edges = [getattr(row, kind) for row in rows]
    blind = kind == "blind"
    what = "model never seen by the fit" if blind else "with all rows fitted"
    return scatter(
        short(edge[1] for edge in edges),
        list(names),
        mode="markers",
        name=what,
        showlegend=False,
        marker={
            "symbol": "diamond" if blind else "line-ns",
            "size": 11,
            "color": INK,
            "line": {"width": 2, "color": INK},
        },
        customdata=[
            [number(row.rows), error_ratio_words(edge[1]), _times(edge[0]), _times(edge[2]), what]
            for row, edge in zip(rows, edges, strict=True)
        ],
        hovertemplate="<b>%{y}</b>, %{customdata[0]} points<br>%{customdata[4]}<br>median %{customdata[1]}"
        "<br>four of five from %{customdata[2]} to %{customdata[3]}<extra></extra>",
    )


def _ratio_shapes() -> list[dict]:
    """Return the line of equality and the ground within 20%."""
    tall = {"yref": "paper", "y0": 0, "y1": 1, "xref": "x", "layer": "below"}
    return [
        tall | {"type": "rect", "x0": 0.8, "x1": 1.2, "fillcolor": faded(MUTED, 0.14), "line": {"width": 0}},
        tall | {"type": "line", "x0": 1, "x1": 1, "line": {"color": INK, "width": 1.25}},
    ]


def _ratio_ticks(low: float, high: float) -> list[float]:
    if high / low > 30:
        steps: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
    else:
        steps = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
    return [tick for tick in steps if low <= tick <= high]


def _times(ratio: float) -> str:
    return f"{number(ratio, 2)}×"


def spreads_sentence(rows: Sequence[ErrorSpread], metric: str, looks: Mapping[str, Style]) -> str:
    """Return the chart of errors by group in one sentence."""
    name = inside(metric)
    parts = [f"{looks[row.group].name} from {_times(row.blind[0])} to {_times(row.blind[2])}" for row in rows]
    return f"Four of five predictions of {name}, against measured, by group: {'; '.join(parts) or 'none'}."
