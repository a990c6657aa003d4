"""Latency by class of a mix: each class's own, against its own limits."""

from __future__ import annotations

import math

from sim_core.results.classes import class_column, classes_of, limits_of_classes
from sim_core.scenario.mixes import FLAT_CLASS
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.figures import Row
from sim_core.view.drawing.verdicts import WITHHELD, is_withheld
from sim_core.view.drawing.words import duration, number
from sim_core.view.parts import pieces

COLUMNS = {  # of the table: latency and percentile
    ("ttft", "p50"): "TTFT p50",
    ("ttft", "p99"): "TTFT p99",
    ("tpot", "p50"): "TPOT p50",
    ("tpot", "p99"): "TPOT p99",
    ("e2e", "p50"): "E2E p50",
    ("e2e", "p99"): "E2E p99",
}


def show_classes(scenario: Scenario, row: Row, title: str) -> None:
    """Show the latencies of each class at a point, and its limits; nothing where there is one class."""
    names = classes_of(scenario)
    if not names or not row["feasible"]:
        return
    limits = limits_of_classes(scenario)
    lines: list[pieces.Line] = []
    for name in names:
        words = f"{duration(limits[name].ttft_ms)} / {duration(limits[name].tpot_ms)}"
        shown = f"{name}: lengths set here" if name == FLAT_CLASS else name
        lines.append((shown, [*(_cell(row, *column, name) for column in COLUMNS), words]))
    heads = [*COLUMNS.values(), f"Limits at p{number(scenario.slo_percentile)}"]
    pieces.table(f"Latency by class of traffic, {title}", heads, lines, scroll=True)


def _cell(row: Row, latency: str, part: str, name: str) -> str:
    if is_withheld(row, f"{latency}_ms"):
        return WITHHELD
    return duration(row.get(class_column(latency, part, name), math.nan))


def class_columns(scenario: Scenario) -> dict[str, str]:
    """Return the columns that the table of points has for each class, with their headings."""
    return {
        class_column(latency, "p99", name): f"{latency.upper()} p99 {name} [ms]"
        for name in classes_of(scenario)
        for latency in ("ttft", "tpot")
    }
