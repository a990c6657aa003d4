"""Figures of the Calibrate page: pure functions from a fit to Plotly's JSON, each with a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sim_core.evidence.own.fit import FittedLever
from sim_core.evidence.own.steps import StepFit
from sim_core.fields.texts import counted
from sim_core.view.drawing.figures import (
    COLOURS,
    INK,
    MUTED,
    TALL_LAYOUT,
    Figure,
    Row,
    log_ticks,
    plain,
    short,
    ticks,
)
from sim_core.view.drawing.marks import axis, scatter, upright
from sim_core.view.drawing.words import duration, number, percent, quantity
from sim_core.view.trust.validation_figures import bands, equal, error_ratio_words, square_ticks

METRICS = {  # column: name, unit of the axis
    "tpot_ms": ("TPOT", "ms"),
    "ttft_ms": ("TTFT", "ms"),
    "itl_ms": ("ITL", "ms"),
    "e2e_ms": ("E2E", "ms"),
    "output_tok_per_s": ("Throughput", "tok/s"),
}
BEFORE, AFTER, OTHER = COLOURS[1], COLOURS[0], COLOURS[2]
HOVER = "<b>%{customdata[0]}</b><br>%{customdata[1]}<br>measured %{customdata[2]}, "
HOVER += "predicted %{customdata[3]}: %{customdata[4]}<extra></extra>"
LONGEST_STEPS = 3_000  # markers in the figure of steps


def metric_words(metric: str, value: float) -> str:
    """Return a value in words, with its unit."""
    return quantity(value, "tok/s") if metric == "output_tok_per_s" else duration(value)


# Points, before and after


def before_after(rows: Sequence[Row], metric: str, *, revision: str = "") -> Figure:
    """Draw predicted against measured: hollow as the calibration predicts, filled after the fit.

    Parameters
    ----------
    rows : sequence of mappings
        `name`, `load` (words), `fitted` (bool); `measured`, `before`, `after` of one metric, NaN if unknown.
    metric : str
        One of `METRICS`.
    revision : str
        While it stays the same the visitor's zoom is kept.
    """
    shown = comparable_points(rows)
    values = [row[key] for row in shown for key in ("measured", "before", "after")] or [1.0, 100.0]
    low, high = min(values) / 1.6, max(values) * 1.6
    fitted = [row for row in shown if row["fitted"]]
    others = [row for row in shown if not row["fitted"]]
    data = [*bands(low, high), equal(low, high), _moves(shown)]
    data.append(_marks(shown, metric, "before", "As the calibration predicts", BEFORE, "circle-open"))
    data += [_marks(fitted, metric, "after", "After the fit", AFTER, "circle")] if fitted else []
    data += (
        [_marks(others, metric, "after", "After, left out of the fit", OTHER, "diamond")] if others else []
    )
    name, unit = METRICS[metric]
    log = {"type": "log", "range": [math.log10(low), math.log10(high)], **ticks(square_ticks(low, high))}
    layout = TALL_LAYOUT | {
        "xaxis": axis(f"Measured {name} [{unit}]", **log),
        "yaxis": axis(f"Predicted {name} [{unit}]", **log),
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def comparable_points(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that were measured and predicted."""
    return [row for row in rows if all(row[key] > 0 for key in ("measured", "before", "after"))]


def _moves(rows: Sequence[Row]) -> dict:
    """Return the lines from each point before to the same one after."""
    x = [value for row in rows for value in (row["measured"], row["measured"], None)]
    y = [value for row in rows for value in (row["before"], row["after"], None)]
    return scatter(x, y, mode="lines", hoverinfo="skip", showlegend=False, line={"color": MUTED, "width": 1})


def _marks(rows: Sequence[Row], metric: str, column: str, name: str, colour: str, symbol: str) -> dict:
    return scatter(
        short(row["measured"] for row in rows),
        short(row[column] for row in rows),
        mode="markers",
        name=name,
        hovertemplate=HOVER,
        marker={"size": 9, "color": colour, "symbol": symbol, "line": {"width": 1.5, "color": colour}},
        customdata=[
            [
                plain(row["name"]),
                row["load"],
                metric_words(metric, row["measured"]),
                metric_words(metric, row[column]),
                error_ratio_words(row[column] / row["measured"]),
            ]
            for row in rows
        ],
    )


def before_after_sentence(rows: Sequence[Row], metric: str) -> str:
    """Return the figure in one sentence."""
    shown = comparable_points(rows)
    if not shown:
        return f"No point has a measured and a predicted {METRICS[metric][0]}."
    errors = [
        float(np.median([abs(row[key] / row["measured"] - 1) for row in shown]))
        for key in ("before", "after")
    ]
    return (
        f"{METRICS[metric][0]} of {len(shown)} points, predicted against measured: median error "
        f"{percent(errors[0])} before the fit, {percent(errors[1])} after it."
    )


# Constants


def levers_figure(found: Sequence[FittedLever], *, revision: str = "") -> Figure:
    """Draw each lever's factor on a log axis: where engines usually lie, and where this one does."""
    rows = list(reversed(found))
    names = [row.lever.title for row in rows]
    prior = [(math.exp(-row.lever.spread), math.exp(row.lever.spread)) for row in rows]
    posterior = [
        (row.factor * math.exp(-row.deviation), row.factor * math.exp(row.deviation)) for row in rows
    ]
    data = [_spans(names, prior, "Usual among engines", MUTED, 9, 0.3)]
    for told, text, colour, symbol in (
        (True, "This engine", AFTER, "circle"),
        (False, "Not told by the points: close to the calibration", BEFORE, "circle-open"),
    ):
        places = [place for place, row in enumerate(rows) if row.told == told]
        if not places:
            continue
        chosen = [names[place] for place in places]
        data.append(_spans(chosen, [posterior[place] for place in places], "", colour, 2.5, 1.0))
        data.append(_dots([rows[place] for place in places], chosen, text, colour, symbol))
    ends = [edge for pair in (*prior, *posterior) for edge in pair] + [0.5, 2.0]
    low, high = max(min(ends) / 1.15, 0.01), min(max(ends) * 1.15, 100.0)
    log = {"type": "log", "range": [math.log10(low), math.log10(high)]}
    log |= ticks(log_ticks(low, high), lambda value: f"{number(value)}×")
    layout = TALL_LAYOUT | {
        "xaxis": axis("Factor", **log),
        "yaxis": {"categoryorder": "array", "categoryarray": names, "automargin": True, "showgrid": False},
        "shapes": [upright(1.0)],
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def _spans(
    names: Sequence[str],
    spans: Sequence[tuple[float, float]],
    text: str,
    colour: str,
    width: float,
    alpha: float,
) -> dict:
    x = [value for low, high in spans for value in (*short([low, high]), None)]
    y = [value for name in names for value in (name, name, None)]
    return scatter(
        x,
        y,
        mode="lines",
        name=text,
        showlegend=bool(text),
        hoverinfo="skip",
        opacity=alpha,
        line={"color": colour, "width": width},
    )


def _dots(rows: Sequence[FittedLever], names: Sequence[str], text: str, colour: str, symbol: str) -> dict:
    return scatter(
        short(row.factor for row in rows),
        list(names),
        mode="markers",
        name=text,
        hovertemplate="<b>%{y}</b><br>%{customdata}<extra></extra>",
        customdata=[lever_words(row) for row in rows],
        marker={"size": 10, "color": colour, "symbol": symbol, "line": {"width": 1.5, "color": colour}},
    )


def lever_words(row: FittedLever) -> str:
    """Return a lever's factor and how well it is known."""
    low, high = (row.factor * math.exp(side * row.deviation) for side in (-1, 1))
    known = "" if row.told else "; the points hardly tell it"
    return f"{number(row.factor)}× ({number(low, 2)} to {number(high, 2)}){known}"


def levers_sentence(found: Sequence[FittedLever]) -> str:
    """Return the figure in one sentence."""
    told = [f"{row.lever.title} {number(row.factor)}×" for row in found if row.told]
    if not told:
        return "The points tell none of the constants by itself: all stay close to the calibration."
    return f"Factors that the points tell: {', '.join(told)}."


# Steps


def held_out_steps_figure(found: StepFit, *, revision: str = "") -> Figure:
    """Draw measured and predicted time of the steps that were held out, over their tokens."""
    chosen = slice(None, None, max(found.tokens.size // LONGEST_STEPS, 1))
    tokens = found.tokens[chosen]
    profile = found.profile
    look = {"size": 6, "opacity": 0.55}
    hover = "%{x:,} tokens: %{y:.4g} ms<extra>%{fullData.name}</extra>"
    data = [
        scatter(
            short(tokens),
            short(values[chosen]),
            mode="markers",
            name=name,
            hovertemplate=hover,
            marker=look | {"color": colour, "symbol": symbol, "line": {"width": 1, "color": colour}},
        )
        for name, values, colour, symbol in (
            ("Measured, held out of the fit", found.measured_ms, BEFORE, "circle-open"),
            ("Predicted", found.predicted_ms, AFTER, "x-thin"),
        )
    ]
    data.append(
        scatter(
            list(profile.step_tokens),
            short(profile.step_time_ms),
            mode="lines+markers",
            name="The profile, without contexts",
            hovertemplate=hover,
            line={"color": INK, "width": 1.5},
            marker={"size": 4},
        )
    )
    layout = TALL_LAYOUT | {
        "xaxis": axis("Tokens of the step", type="log"),
        "yaxis": axis("Time of the step [ms]", type="log"),
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def steps_sentence(found: StepFit) -> str:
    """Return the figure in one sentence."""
    return (
        f"{counted(found.tokens.size, 'step')} held out of the fit: predicted with a median error of "
        f"{percent(found.error_frac)}, their total time {error_ratio_words(1 + found.bias_frac)}."
    )
