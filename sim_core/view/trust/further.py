"""How far predictions were off of what no band rests on: speculation, and layouts of many devices."""

from __future__ import annotations

from sim_core import catalogue
from sim_core.evidence.further.layouts import Series, published_series
from sim_core.evidence.further.speculated import Speculated, speculated
from sim_core.evidence.published import POOLS
from sim_core.view.drawing.words import number, percent
from sim_core.view.parts import pieces

SERIES_HEADS = ("figure", "layout", "measured", "predicted", "predicted / measured", "rows", "source")
IN_SAMPLE = "in sample"
HEADS = ("runs", "median error in TPOT", "nine of ten within", "a constant's median", "skill")


def speculated_table() -> None:
    """Show the errors of runs with speculation, by engine and accelerator."""
    lines = [(_name(item), _cells(item)) for item in speculated()]
    caption = (
        "Speculative decoding: TPOT of InferenceX's runs of DeepSeek-R1 with MTP, each predicted "
        "without its accelerator; the constant is the same run predicted without speculation, over the usual "
        "speed-up of its engine on other accelerators"
    )
    pieces.table(caption, HEADS, lines, scroll=True)


def _name(item: Speculated) -> str:
    if item.name == "all" or item.name in POOLS.values():
        return item.name
    engine, part = item.name.rsplit(" ", 1)
    return f"{engine} on {catalogue.accelerator(part).name}"


def _cells(item: Speculated) -> tuple[str, ...]:
    median, p90, constant = (
        percent(value / 100) for value in (item.median_pct, item.p90_pct, item.constant_pct)
    )
    return number(item.rows), median, p90, constant, "yes" if item.has_skill else "none"


def layouts_table() -> None:
    """Show published layouts and networks in series, as measured and as predicted."""
    lines = [(f"{item.model}, {item.accelerator}", _series_cells(item)) for item in published_series()]
    caption = (
        "Parallel layouts and networks, as published: predicted over measured is the median of a series; "
        "nothing is fitted to these figures but what is marked in sample"
    )
    pieces.table(caption, SERIES_HEADS, lines, scroll=True)


def _series_cells(item: Series) -> tuple[str, ...]:
    rows = f"{number(item.rows)}, {IN_SAMPLE}" if item.seen else number(item.rows)
    measured = _range(item.measured_low, item.measured_high)
    predicted = _range(item.predicted_low, item.predicted_high)
    figure = f"{item.kind}: {item.figure}"
    return figure, item.layout, measured, predicted, number(item.ratio), rows, item.source


def _range(low: float, high: float) -> str:
    return number(low) if low == high else f"{number(low)} to {number(high)}"
