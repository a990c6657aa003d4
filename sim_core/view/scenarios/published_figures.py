"""Figures of published results: ratios and throughputs of entries beside simulated ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sim_core.view.drawing.figures import MUTED, TALL_LAYOUT, TALL_MARGIN, Figure, Row, short
from sim_core.view.drawing.marks import axis, scatter, spread, vertical
from sim_core.view.drawing.words import number, percent, quantity
from sim_core.view.scenarios.figures import RULES, entry_words

# Published results


def published_ratios(rows: Sequence[Row]) -> Figure:
    """Draw published ratios by accelerator, with the simulated ones.

    Parameters
    ----------
    rows : sequence of mappings
        ``name``, and for ``server`` and ``interactive`` the keys ``_min``, ``_median``, ``_max``, ``_count``
        and ``_simulated``; None or NaN where there is none.
    """
    data: list[dict[str, Any]] = []
    for rule, shift in (("server", 0.16), ("interactive", -0.16)):
        data += _ratio_marks(rows, rule, shift)
    most = max((row[f"{rule}_max"] or 0 for row in rows for rule in ("server", "interactive")), default=1)
    return {
        "data": data,
        "layout": _dots_layout(rows, "Throughput [share of Offline]", max(1.08, most * 1.05)),
    }


def _ratio_marks(rows: Sequence[Row], rule: str, shift: float) -> list[dict]:
    name, colour = RULES[rule]
    shown = [(place + shift, row) for place, row in enumerate(rows) if row[f"{rule}_count"]]
    if not shown:
        return []
    median = [row[f"{rule}_median"] for _, row in shown]
    simulated = [(place, row) for place, row in shown if _given(row[f"{rule}_simulated"])]
    text = [
        f"<b>{row['name']}, {name}: median {percent(row[f'{rule}_median'])} of Offline</b><br>"
        f"{percent(row[f'{rule}_min'])} to {percent(row[f'{rule}_max'])}, "
        f"{entry_words(row[f'{rule}_count'])}, published"
        for _, row in shown
    ]
    return [
        scatter(
            short(median),
            short(y for y, _ in shown),
            mode="markers",
            name=f"{name}, published",
            text=text,
            hovertemplate="%{text}<extra></extra>",
            marker={"symbol": "diamond", "size": 10, "color": colour},
            error_x=spread(
                *([row[f"{rule}_{part}"] for _, row in shown] for part in ("min", "median", "max")),
                **_bar_look(colour),
            ),
        ),
        scatter(
            short(row[f"{rule}_simulated"] for _, row in simulated),
            short(y for y, _ in simulated),
            mode="markers",
            name=f"{name}, simulated",
            text=[
                f"<b>{row['name']}, {name}: {percent(row[f'{rule}_simulated'])} of Offline</b><br>simulated"
                for _, row in simulated
            ],
            hovertemplate="%{text}<extra></extra>",
            marker=_open(colour),
        ),
    ]


def _open(colour: str) -> dict:
    """Return the mark of a simulated value beside published ones."""
    return {"symbol": "circle-open", "size": 12, "color": colour, "line": {"width": 2, "color": colour}}


def _given(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _dots_layout(rows: Sequence[Row], title: str, right: float) -> dict[str, Any]:
    return TALL_LAYOUT | {
        "margin": TALL_MARGIN | {"t": 64},
        "xaxis": axis(title, range=[0, right], tickformat=".0%", side="bottom"),
        "yaxis": axis(
            "",
            tickvals=list(range(len(rows))),
            ticktext=[row["name"] for row in rows],
            range=[-0.6, len(rows) - 0.4],
            showgrid=False,
        ),
        "shapes": [vertical(1, {"color": MUTED, "width": 1, "dash": "dot"}, layer="below")],
    }


def _bar_look(colour: str) -> dict:
    return {"color": colour, "thickness": 3, "width": 0}


def published_offline(rows: Sequence[Row]) -> Figure:
    """Draw simulated Offline throughput as a share of published, with the published range.

    Parameters
    ----------
    rows : sequence of mappings
        ``name``, ``offline_min``, ``offline_median``, ``offline_max``, ``offline_count`` and
        ``offline_simulated``. [tok/s per accelerator]
    """
    shown = [(place, row) for place, row in enumerate(rows) if row["offline_count"]]
    both = [(place, row) for place, row in shown if _given(row["offline_simulated"])]
    colour = RULES["offline"][1]
    data = [
        scatter(
            [1.0 for _ in shown],
            [y for y, _ in shown],
            mode="markers",
            name="published: median, range",
            hovertemplate="%{text}<extra></extra>",
            text=[_published_words(row) for _, row in shown],
            marker={"symbol": "diamond", "size": 10, "color": colour},
            error_x=spread(
                [row["offline_min"] / row["offline_median"] for _, row in shown],
                [1.0 for _ in shown],
                [row["offline_max"] / row["offline_median"] for _, row in shown],
                **_bar_look(colour),
            ),
        ),
        scatter(
            short(row["offline_simulated"] / row["offline_median"] for _, row in both),
            [y for y, _ in both],
            mode="markers",
            name="simulated",
            text=[_simulated_words(row) for _, row in both],
            hovertemplate="%{text}<extra></extra>",
            marker=_open(colour),
        ),
    ]
    most = [1.2, *(row["offline_max"] / row["offline_median"] for _, row in shown)]
    most += [row["offline_simulated"] / row["offline_median"] for _, row in both]
    return {
        "data": data,
        "layout": _dots_layout(rows, "Offline [share of published median]", 1.08 * max(most)),
    }


def _published_words(row: Row) -> str:
    return (
        f"<b>{row['name']}: {quantity(row['offline_median'], 'tok/s')} per accelerator</b><br>"
        f"median, {number(row['offline_min'])} to {number(row['offline_max'])}, "
        f"{entry_words(row['offline_count'])}, published"
    )


def _simulated_words(row: Row) -> str:
    return (
        f"<b>{row['name']}: {quantity(row['offline_simulated'], 'tok/s')} per accelerator</b><br>"
        f"simulated, {percent(row['offline_simulated'] / row['offline_median'])} of the published median"
    )


def published_sentence(rows: Sequence[Row], benchmark: str) -> str:
    """Return the two charts in one sentence."""
    count = sum(row["offline_count"] for row in rows)
    return (
        f"Published closed-division results of {benchmark} on {len(rows)} accelerators "
        f"({number(count)} Offline results): medians and ranges, with the simulated value of each."
    )
