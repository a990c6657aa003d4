"""What a visitor has measured, on the charts of predictions: the points of the files that calibrated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import streamlit as st

from sim_core.scenario.link.changes import NO_SPEED
from sim_core.scenario.scenario import SPECS, Scenario
from sim_core.traffic.draws import mean_lengths
from sim_core.view.drawing.figures import INK, X, Y, plain, short
from sim_core.view.drawing.marks import Piece, scatter
from sim_core.view.drawing.words import number

if TYPE_CHECKING:
    from sim_core.evidence.own.engine import MeasuredPoint, OwnEngine

NAMES = {True: "measured", False: "measured, other lengths"}
SPEEDS = tuple(key for key in SPECS if key not in NO_SPEED)
SAME = ("model", "own_model", "accelerator", *SPEEDS, "weight_dtype", "kv_dtype")  # on which one measured
NEAR = 0.1  # lengths within this of the scenario's are the same


def measured_marks(scenarios: Iterable[Scenario]) -> list[Piece]:
    """Return the measured points of the engine in use as markers; none where no scenario has it."""
    found = {(row["name"], row[X], row[Y]): row for each in scenarios for row in measured_rows(each)}
    rows = list(found.values())
    return [_trace([row for row in rows if row["same"] == same], same) for same in NAMES if _any(rows, same)]


def _any(rows: list[dict[str, Any]], same: bool) -> bool:
    return any(row["same"] == same for row in rows)


def measured_rows(scenario: Scenario) -> list[dict[str, Any]]:
    """Return the points that calibrated a scenario's engine, where they lie between the usual axes."""
    kept = st.session_state.get("own_kept")
    if kept is None or not _is_of(scenario, kept[1]):
        return []
    return [row for entry in kept[1].entries for row in _row(scenario, entry)]


def _is_of(scenario: Scenario, engine: OwnEngine) -> bool:
    """Return whether a scenario predicts by an engine that was fitted in this session."""
    profile = engine.profile
    if profile.constants:
        return (scenario.constants, scenario.calibration) == (profile.constants, profile.calibration)
    return bool(scenario.step_profile) and scenario.own_bands == profile.bands


def _row(scenario: Scenario, entry: MeasuredPoint) -> Iterator[dict[str, Any]]:
    """Yield the place of a point; one on another model or accelerator, or without both figures, has none."""
    case, point = entry.case, entry.point
    if case is None or any(getattr(case.scenario, key) != getattr(scenario, key) for key in SAME):
        return
    token_ms = point.tpot_ms if math.isfinite(point.tpot_ms) else point.itl_ms
    if token_ms > 0 and point.output_tok_per_s > 0:
        yield {
            "name": point.name,
            X: 1000 / token_ms,
            Y: point.output_tok_per_s / case.scenario.accelerators,
            "same": _lengths_alike(case.scenario, scenario),
            "lengths": _lengths(case.scenario),
        }


def _lengths_alike(one: Scenario, other: Scenario) -> bool:
    return all(
        abs(math.log(a / b)) <= NEAR for a, b in zip(mean_lengths(one), mean_lengths(other), strict=True)
    )


def _lengths(scenario: Scenario) -> str:
    """Return the mean lengths of a scenario in words."""
    prompt, answer = (number(round(tokens)) for tokens in mean_lengths(scenario))
    return f"{prompt} → {answer} tokens"


def _trace(rows: list[dict[str, Any]], same: bool) -> Piece:
    """Return measured points as diamonds, hollow where they have other lengths than the scenario."""
    text = [f"<b>{plain(row['name'])}</b><br>{row['lengths']}" for row in rows]
    return scatter(
        short(row[X] for row in rows),
        short(row[Y] for row in rows),
        mode="markers",
        name=NAMES[same],
        marker={
            "symbol": f"diamond{'' if same else '-open'}",
            "size": 11,
            "color": INK,
            "line": {"width": 2},
        },
        text=text,
        hovertemplate="%{text}<br>measured: %{x:,.3~r} tok/s/user · %{y:,.3~r} tok/s per accelerator"
        "<extra></extra>",
    )
