"""The strip beneath the chart: what limits each point of one curve, and where its step time goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st

from sim_core.view.drawing import figures
from sim_core.view.drawing.figures import LIMITS, Row, curves
from sim_core.view.drawing.templates import render
from sim_core.view.drawing.words import Along, number, percent, spoken
from sim_core.view.frontier.figures import limit_words
from sim_core.view.session import sweeps
from sim_core.view.session.sweeps import Result, Sweep

SHARES = (
    "weights",
    "kv",
    "compute",
    "communication",
    "all_to_all",
    "lockstep",
    "bubbles",
    "fixed",
    "measured",
)


def limit_strip(sweep: Sweep, found: Result) -> None:
    """Show where each point of one curve spends its step time, and above it what limits the point."""
    along = sweeps.ALONG[sweep.along]
    rows = curves(found.rows).get(sweep.own, [])
    if not figures.drawable(rows):
        return
    limits = {row["limit"] for row in rows}
    known = {name for row in rows for name in shares_of(row)}
    used = [name for name in LIMITS if name in known or name in limits]
    st.html(
        render(
            "frontier/limits.html",
            title=f"What limits {sweep.own} at each {along.name}, and where the time of its steps goes",
            sentence=strip_sentence(rows, along, sweep.own),
            columns=[_column(row, along) for row in rows],
            entries=[LIMITS[name] for name in used],
        )
    )


def shares_of(row: Row) -> list[str]:
    """Return the parts that a row's step time is split into: measured steps are not split."""
    return [name for name in SHARES if math.isfinite(row.get(f"share_{name}", math.nan))]


class Column(NamedTuple):
    """One point of the strip: what is said of it; if it runs, its limit's colour and the parts of a step."""

    tick: str
    hint: str
    runs: bool = False
    colour: str = ""
    parts: Sequence[tuple[str, str]] = ()  # percent of the step time, colour


def _column(row: Row, along: Along) -> Column:
    tick = number(row.get(along.column))
    if not row["feasible"]:
        return Column(tick, spoken(row["reason"]))
    text, colour = LIMITS.get(row["limit"], (row["limit"], "transparent"))
    names = shares_of(row)
    shares = ", ".join(f"{LIMITS[name][0]} {percent(row[f'share_{name}'])}" for name in names)
    hint = f"{along.text(row)}: limited by {text}. Step time: {shares}."
    parts = [(f"{100 * row[f'share_{name}']:.1f}", LIMITS[name][1]) for name in names]
    return Column(tick, hint, True, colour, parts)


def strip_sentence(rows: list[Row], along: Along, curve: str) -> str:
    """Return what limits the points of a curve, in one sentence."""
    runs = [row for row in rows if row["feasible"]]
    if not runs:
        return f"{curve}: no point can run."
    parts, last = [], None
    for row in runs:
        if row["limit"] != last:
            last = row["limit"]
            parts.append(f"from {along.text(row)} {limit_words(last)}")
    return f"What limits {curve}: {', '.join(parts)}."
