"""The small panels beneath a timeline: batch, queue, KV cache and step time, one line a policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sim_core.results.story import QUEUED
from sim_core.results.timeline import Timeline
from sim_core.view.batching.gantt.late import Panel
from sim_core.view.batching.gantt.parts import (
    GAP_PX,
    MARGIN,
    METRIC_PX,
    METRIC_TITLE_PX,
    SAME_S,
    PanelFrame,
    policy_style,
    policy_words,
)
from sim_core.view.drawing.figures import MUTED
from sim_core.view.drawing.marks import horizontal, note, scatter
from sim_core.view.drawing.words import number

POINTS = 3000  # steps of a line; with more, the highest of each stretch

METRICS = (  # column of the steps, title, what the hover counts
    ("step_tokens", "Tokens per step, logarithmic", "tokens in a step"),
    ("waiting", "Requests in the queue", "in the queue"),
    ("kv_blocks_used", "KV blocks in use", "KV blocks in use"),
    ("running", "Requests in the batch", "in the batch"),
)


# Lines beneath


def metrics_panels(panels: Sequence[Panel], frame: PanelFrame, height: int) -> dict[str, Any]:
    """Return axes, traces and words of the small panels, one step-line a policy in each."""
    inner = height - MARGIN["t"] - MARGIN["b"]
    top = 1 - panels[-1].domain[0] + GAP_PX / inner
    found: dict[str, Any] = {"axes": {"legend2": _policy_legend(1 - top)}, "data": []}
    found |= {"annotations": [], "shapes": []}
    for index, (column, title, unit) in enumerate(METRICS):
        name = f"y{len(panels) + index + 1}"
        top += (METRIC_TITLE_PX + METRIC_PX) / inner
        domain = (max(1 - top, 0.0), 1 - top + METRIC_PX / inner)
        lines = {panel.policy: _step_line(panel.timeline, column) for panel in panels}
        highest = max(float(values.max(initial=1)) for _, values in lines.values())
        if column == "kv_blocks_used":
            blocks = panels[0].timeline.kv_blocks
            title += f", of {number(blocks)}"
            if highest >= 0.3 * blocks:
                found["shapes"].append(_capacity(name, blocks))
                title, highest = title + " (dotted)", max(highest, blocks)
        axis = _logarithmic(highest) if column == "step_tokens" else _linear(highest)
        found["axes"]["yaxis" + name[1:]] = axis | {"domain": list(domain)}
        found["annotations"].append(_metric_title(title, domain[1]))
        for policy, line in lines.items():
            found["data"].append(_metric_trace(policy, line, unit, name, frame, index == 0))
    return found


_METRIC_AXIS = {
    "fixedrange": True,
    "tickfont": {"size": 11},
    "anchor": "x",
    "automargin": False,
    "separatethousands": True,
    "exponentformat": "none",
}


def _linear(highest: float) -> dict:
    ticks = {"dtick": 1} if highest <= 3 else {"nticks": 3}
    return _METRIC_AXIS | {"range": [-0.05 * highest, 1.1 * highest]} | ticks


def _logarithmic(highest: float) -> dict:
    """Return an axis from 1 on: one token in a step and a hundred thousand are both to be seen."""
    powers = math.ceil(math.log10(highest * 1.3))
    ticks = [10**power for power in range(0, powers + 1, math.ceil(powers / 3) or 1)]
    words = {"tickvals": ticks, "ticktext": [number(tick) for tick in ticks]}
    return _METRIC_AXIS | {"type": "log", "range": [-0.1, math.log10(highest * 1.5)]} | words


def _metric_title(text: str, y: float) -> dict:
    return note(text, 0, y, xref="paper", xanchor="left", yref="paper", xshift=-2, yanchor="bottom")


def _policy_legend(y: float) -> dict:
    return {
        "orientation": "h",
        "x": 1,
        "xanchor": "right",
        "y": y,
        "yanchor": "top",
        "font": {"size": 12},
        "bgcolor": "rgba(0,0,0,0)",
    }


def _capacity(axis: str, blocks: int) -> dict:
    return horizontal(blocks, {"color": MUTED, "width": 1.5, "dash": "dot"}, yref=axis)


def _step_line(timeline: Timeline, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a line: each row of the log from its start on, nought while nothing runs.

    The queue changes within a row of equal steps, so its line comes from the bars that wait.
    """
    if column == "waiting":
        return _thinned(*queue_line(timeline))
    steps = timeline.steps
    start_s = steps["start_s"].to_numpy()
    end_s = start_s + steps["duration_s"].to_numpy()
    rests_s = end_s[np.append(start_s[1:], np.inf) > end_s + SAME_S]
    times_s = np.concatenate([start_s, rests_s])
    values = np.concatenate([steps[column].to_numpy(), np.zeros(rests_s.size, np.int64)])
    order = np.argsort(times_s, kind="stable")
    return _thinned(times_s[order], values[order])


def queue_line(timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """Return when the number of requests outside the batch changes, and to what."""
    return count_line(timeline, QUEUED)


def count_line(timeline: Timeline, kinds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return when the number of bars of some kinds changes, and to what."""
    bars = timeline.segments[np.isin(timeline.segments["kind"], kinds)]
    ends_s = [timeline.start_s, timeline.end_s]
    times_s = np.round(np.concatenate([bars["start_s"], bars["end_s"], ends_s]), 7)
    moments, place = np.unique(times_s, return_inverse=True)
    change = np.concatenate([np.ones(bars.size), -np.ones(bars.size), [0, 0]])
    return moments, np.cumsum(np.bincount(place, change)).astype(np.int64)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a line's corners: all, or the highest of each of many stretches."""
    if x.size <= POINTS:
        return x, y
    edges = np.linspace(0, x.size, POINTS + 1).astype(np.int64).tolist()
    kept = np.array([start + int(np.argmax(y[start:end])) for start, end in pairwise(edges)])
    return x[kept], y[kept]


def _metric_trace(
    policy: str, line: tuple[np.ndarray, np.ndarray], unit: str, axis: str, frame: PanelFrame, named: bool
) -> dict:
    colour, dash, _ = policy_style(policy)
    words = policy_words(policy)
    return scatter(
        frame.short(line[0]).tolist(),
        line[1].tolist(),
        mode="lines",
        name=words,
        legendgroup=f"policy {policy}",
        legend="legend2",
        showlegend=named,
        yaxis=axis,
        line={"color": colour, "width": 1.75, "dash": dash, "shape": "hv"},
        hovertemplate=f"<b>{words}</b><br>%{{y:,}} {unit} at %{{x:,.4~r}} s<extra></extra>",
    )
