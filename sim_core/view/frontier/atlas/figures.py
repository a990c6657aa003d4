"""The map of the Atlas page: a heat map of the best within limits, and a sentence for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sim_core import catalogue
from sim_core.questions.deployment.atlas import HeatMap
from sim_core.scenario.scenario import FIELDS
from sim_core.view.drawing.figures import BREAK, LAYOUT, SOFT, Figure
from sim_core.view.drawing.words import number

SCALE = [[0, "rgba(31,122,153,0.08)"], [1, "rgba(31,122,153,1)"]]  # stronger on light and on dark
ROW_PX, HEAD_PX = 24, 150
COLUMN_PX, SIDES_PX = 20, 240  # a column that can still be told apart; names of rows, and the scale
REASONS = {
    "absent": "not in the table",
    "impossible": "cannot be: does not fit, or the layout does not divide the model",
    "limits": "nothing keeps the limits",
}


class CellUnit(NamedTuple):
    """What the cells show: its name in a list, and its unit."""

    name: str
    unit: str


MEASURES = {
    "device": CellUnit("per accelerator", "tok/s per accelerator"),
    "usd": CellUnit("per dollar", "tokens per USD"),
    "watt": CellUnit("per watt", "tok/s per watt"),
}


def words_of_key(key: str) -> Callable[[Any], str]:
    """Return what a value of a key is called: a model or a part by its name, a number with its unit."""
    if key in ("model", "accelerator"):
        items = catalogue.models() if key == "model" else catalogue.accelerators()
        return lambda value: items[value].name if value in items else str(value)
    if key == "mix":
        return lambda value: str(value).partition(":")[0] or "lengths of the table"
    if key not in FIELDS or FIELDS[key].kind is str:
        return lambda value: f"{number(value)}" if isinstance(value, float) else str(value)
    return lambda value: f"{number(value)} {FIELDS[key].unit}".strip()


def label_of_key(key: str) -> str:
    """Return what a key is called."""
    return "Load" if key == "load_frac" else "Workload" if key == "mix" else FIELDS[key].label or key


def heat_figure(found: HeatMap, x: str, y: str, metric: str) -> Figure:
    """Draw the best of each cell, stronger where it is better; a logarithmic scale, as costs differ by tens.

    A cell without a value is empty, and says why when pointed at.
    """
    across, down = (
        [words_of_key(key)(value) for value in values] for key, values in ((x, found.x), (y, found.y))
    )
    with np.errstate(invalid="ignore"):
        colour = np.log10(found.value)
    known = colour[np.isfinite(colour)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    hover = [
        [_hover(found, i, j, (down[i], across[j]), metric) for j in range(len(across))]
        for i in range(len(down))
    ]
    heat = {
        "type": "heatmap",
        "x": list(range(len(across))),
        "y": list(range(len(down))),
        "z": [[value if math.isfinite(value) else None for value in line] for line in colour.tolist()],
        "zmin": low,
        "zmax": max(high, low + 0.1),
        "colorscale": SCALE,
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": True,
        "customdata": hover,
        "hovertemplate": "%{customdata}<extra></extra>",
        "colorbar": _bar(low, max(high, low + 0.1), MEASURES[metric].unit),
    }
    ticks = {"showgrid": False, "zeroline": False, "tickmode": "array"}
    sides = {
        "xaxis": ticks | {"tickvals": heat["x"], "ticktext": across, "side": "top", "tickangle": -50},
        "yaxis": ticks | {"tickvals": heat["y"], "ticktext": down, "autorange": "reversed"},
    }
    margin = {"l": 8, "r": 8, "t": 8, "b": 8}
    meta = {"least_px": SIDES_PX + COLUMN_PX * len(across)}
    return {"data": [heat], "layout": LAYOUT | {"margin": margin, "meta": meta} | sides}


def height_px(found: HeatMap) -> int:
    """Return the height that leaves each row its line. [px]"""
    return HEAD_PX + ROW_PX * max(len(found.y), 4)


def heat_sentence(found: HeatMap, x: str, y: str, metric: str) -> str:
    """Return the map in a sentence."""
    best = best_cell(found)
    if best is None:
        return "A map without a cell that keeps the limits."
    i, j = best
    where = f"{words_of_key(y)(found.y[i])} on {words_of_key(x)(found.x[j])}"
    kept = int((found.row >= 0).sum())
    return (
        f"{label_of_key(y)} down, {label_of_key(x).lower()} across: the best cell is {where} with "
        f"{cell_words_of(found, i, j, metric)}; {kept} of {found.row.size} cells keep the limits."
    )


def best_cell(found: HeatMap) -> tuple[int, int] | None:
    """Return the place of the best cell, None if no cell has a value."""
    if not (found.row >= 0).any():
        return None
    i, j = np.unravel_index(np.nanargmax(found.value), found.value.shape)
    return int(i), int(j)


def cell_words_of(found: HeatMap, i: int, j: int, metric: str) -> str:
    """Return a cell's value with its unit, or why it has none."""
    if found.row[i, j] < 0:
        return REASONS[str(found.reason[i, j])]
    return f"{number(found.value[i, j])} {MEASURES[metric].unit}"


def _hover(found: HeatMap, i: int, j: int, names: tuple[str, str], metric: str) -> str:
    return f"<b>{names[0]}</b> on <b>{names[1]}</b>{BREAK}{cell_words_of(found, i, j, metric)}"


def _bar(low: float, high: float, unit: str) -> dict:
    """Return the colour bar, with the figures of its decades."""
    marks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in (1, 3)]
    shown = [mark for mark in marks if low <= math.log10(mark) <= high]
    return {
        "title": {"text": unit, "side": "right", "font": {"color": SOFT}},
        "tickvals": [math.log10(mark) for mark in shown],
        "ticktext": [number(mark) for mark in shown],
        "thickness": 12,
        "outlinewidth": 0,
    }
