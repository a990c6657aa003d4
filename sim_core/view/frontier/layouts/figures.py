"""The figure of the Layouts page: the frontier of every layout, a colour a family, and a sentence for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sim_core.questions.deployment.curves import Curve, Ranked, best_of_all, row_at, timely
from sim_core.questions.deployment.layouts import FAMILIES
from sim_core.view.drawing.figures import (
    HALO,
    INK,
    Figure,
    Frame,
    X,
    Y,
    figure_layout,
    short,
    style,
)
from sim_core.view.drawing.marks import note, scatter
from sim_core.view.drawing.verdicts import held_words
from sim_core.view.drawing.words import number
from sim_core.view.frontier.figures import edge_words, limit_words, slow_side

LOOKS = {family: at for at, family in enumerate(FAMILIES)}
HOVER = (
    "<b>%{customdata[0]}</b><br>%{x:,.3~r} tok/s/user · %{y:,.3~r} tok/s per accelerator<br>"
    "%{customdata[1]}<extra></extra>"
)


def layouts_figure(
    curves: Sequence[Curve],
    frame: Frame,
    target: float,
    best: Ranked | None,
    revision: str = "",
    ttft_ms: float = math.inf,
) -> Figure:
    """Draw throughput per accelerator against interactivity, one curve a layout, the frontier of all bold.

    Parameters
    ----------
    curves : sequence of Curve
        Estimated ones are dotted and have no markers.
    frame : Frame
        Axis ranges. [tok/s/user], [tok/s per accelerator]
    target : float
        What each user gets at least; the side that is slower is shaded. [tok/s/user]
    best : Ranked, optional
        The best layout there.
    revision : str
        While it stays the same the visitor's zoom is kept.
    ttft_ms : float
        Limit that points of the bold frontier keep; others are hollow.
    """
    shown = [curve for curve in curves if curve.rows]
    named: set[str] = set()
    data = [_envelope([timely(curve, ttft_ms) for curve in shown])]
    for curve in sorted(shown, key=lambda curve: (LOOKS[curve.option.family], not curve.simulated)):
        data.append(_curve(curve, curve.option.family not in named, ttft_ms))
        named.add(curve.option.family)
    annotations = [note("better ↗", 0.995, 0.985, size=13, xref="paper", yref="paper", xanchor="right")]
    annotations.append(edge_words(frame, target, f"at least {number(target)} tok/s/user"))
    if best:
        data.append(_star(best, target))
    layout = figure_layout(frame) | {
        "uirevision": revision,
        "annotations": annotations,
        "shapes": slow_side(frame, target),
    }
    return {"data": data, "layout": layout}


def _envelope(shown: Sequence[Curve]) -> dict:
    """Return the frontier over all layouts; once some are simulated, over those."""
    x, y = best_of_all([curve for curve in shown if curve.simulated] or shown)
    line = {"color": HALO, "width": 11}
    return scatter(short(x), short(y), mode="lines", name="best of all", line=line, hoverinfo="skip")


def _curve(curve: Curve, first: bool, ttft_ms: float) -> dict:
    """Return the trace of a layout; the first of its family stands in the legend."""
    kept = timely(curve, ttft_ms).rows
    colour, _, symbol = style(LOOKS[curve.option.family])
    line = {"color": colour, "width": 2 if curve.simulated else 1.25}
    return scatter(
        short(row[X] for row in curve.rows),
        short(row[Y] for row in curve.rows),
        mode="lines+markers" if curve.simulated else "lines",
        name=FAMILIES[curve.option.family],
        legendgroup=curve.option.family,
        showlegend=first,
        line=line | {"dash": "solid" if curve.simulated else "dot"},
        marker={
            "color": colour,
            "size": 6,
            "symbol": [symbol if row in kept else f"{symbol}-open" for row in curve.rows],
        },
        opacity=0.9 if curve.simulated else 0.6,
        customdata=[[_title(curve, row), _details(curve, row)] for row in curve.rows],
        hovertemplate=HOVER,
    )


def _title(curve: Curve, row: dict) -> str:
    return f"{curve.option.name} · {_clients(row)}"


def _clients(row: dict) -> str:
    count = round(row["clients"])
    return "1 client" if count <= 1 else f"{number(count)} clients"


def _details(curve: Curve, row: dict) -> str:
    """Return what a point is: its devices, its latencies and what binds it; or that it is an estimate."""
    devices = f"{curve.option.devices} devices"
    if not curve.simulated:
        return f"{devices} · estimated by arithmetic"
    ttft, tpot = (held_words(row, name) for name in ("ttft_ms_p99", "tpot_ms_p99"))
    return f"{devices} · TTFT p99 {ttft} · TPOT p99 {tpot}<br>limited by {limit_words(row['limit'])}"


def _star(best: Ranked, target: float) -> dict:
    row = row_at(best.curve, target)
    x = target if row is None or best.tok_per_s_per_accelerator > row[Y] else row[X]
    return scatter(
        [x],
        [best.tok_per_s_per_accelerator],
        mode="markers",
        name=f"best: {best.curve.option.name}",
        marker={"symbol": "star", "size": 16, "color": INK},
        hoverinfo="skip",
    )


def layouts_sentence(curves: Sequence[Curve], ranked: Sequence[Ranked], target: float) -> str:
    """Return the chart in a sentence."""
    count = sum(bool(curve.rows) for curve in curves)
    if not ranked:
        return f"{count} layouts; none gives each user {number(target)} tok/s."
    best = ranked[0]
    return (
        f"Throughput per accelerator over interactivity for {count} layouts; with {number(target)} tok/s for "
        f"each user {best.curve.option.name} gives most, {number(best.tok_per_s_per_accelerator)} tok/s per "
        "accelerator."
    )
