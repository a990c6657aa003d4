"""The figure of the scenarios as operating points: throughput against the speed that users get."""

from __future__ import annotations

from collections.abc import Sequence

from sim_core.view.drawing.figures import MUTED, PAPER, TALL_LAYOUT, Figure, Row, short
from sim_core.view.drawing.marks import axis, note, pointer, scatter, vertical
from sim_core.view.drawing.words import duration, quantity
from sim_core.view.scenarios.figures import BOUND, RULES, layout_words, speed_of


def operating_points_figure(line: Sequence[Row], rows: Sequence[Row], revision: str = "") -> Figure:
    """Draw throughput per accelerator against the speed that 99 % of the users get.

    Parameters
    ----------
    line : sequence of mappings
        The trade-off: rows of `rules.limit_curve` along the TPOT limit.
    rows : sequence of mappings
        The scenarios: ``rule``, ``tpot_ms_p99``, ``output_tok_per_s_per_accelerator``, ``bound_by``,
        ``limits``, ``setting``, ``tpot_limit_ms`` or None.
    """
    line = [row for row in line if speed_of(row) > 0]
    data = [
        scatter(
            short(1000 / row["tpot_ms"] for row in line),
            short(speed_of(row) for row in line),
            mode="lines+markers",
            name="best within any TPOT limit",
            line={"color": MUTED, "width": 2.5},
            marker={"size": 5, "color": MUTED},
            customdata=[_point_hover(row) for row in line],
            hovertemplate="%{customdata}<extra></extra>",
        )
    ]
    data += [_point(row) for row in rows]
    right = max([1000 / row["tpot_ms"] for row in line] + [1000 / row["tpot_ms_p99"] for row in rows])
    top = max([speed_of(row) for row in line] + [speed_of(row) for row in rows])
    layout = TALL_LAYOUT | {
        "xaxis": axis("Speed that 99 % of the users get [tok/s/user]", range=[0, 1.05 * right]),
        "yaxis": axis(
            "Throughput [tok/s per accelerator]",
            range=[0, 1.15 * top],
            separatethousands=True,
            exponentformat="none",
        ),
        "annotations": [_point_words(row) for row in rows] + [_BETTER],
        "shapes": [_point_limit(row) for row in rows if row["tpot_limit_ms"]],
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


_BETTER = note("better ↗", 0.995, 0.985, size=13, xref="paper", yref="paper", xanchor="right", yanchor="top")


def _point_hover(row: Row) -> str:
    return (
        f"<b>{quantity(speed_of(row), 'tok/s')} per accelerator</b><br>"
        f"at TPOT ≤ {duration(row['tpot_ms'])}<br>"
        f"{layout_words(row)}<br>{BOUND[row['bound_by']]}"
    )


def _point(row: Row) -> dict:
    name, colour = RULES[row["rule"]]
    own = row["rule"] == "own"
    return scatter(
        [1000 / row["tpot_ms_p99"]],
        [speed_of(row)],
        mode="markers",
        name=name,
        showlegend=False,
        cliponaxis=False,
        text=[
            f"<b>{name}</b>: {quantity(speed_of(row), 'tok/s')} per accelerator<br>TPOT p99 "
            f"{duration(row['tpot_ms_p99'])} · {row['limits']}<br>{row['setting']}<br>"
            f"{BOUND[row['bound_by']]}"
        ],
        hovertemplate="%{text}<extra></extra>",
        marker={
            "symbol": "circle-open" if own else "circle",
            "size": 16,
            "color": colour,
            "line": {"width": 2.5, "color": colour if own else PAPER},
        },
    )


def _point_words(row: Row) -> dict:
    name, colour = RULES[row["rule"]]
    ax, ay = {"offline": (30, -40), "server": (52, -12), "own": (-42, 34)}.get(row["rule"], (40, -28))
    return pointer(
        f"<b>{name}</b>",
        1000 / row["tpot_ms_p99"],
        speed_of(row),
        color=colour,
        ax=ax,
        ay=ay,
        xanchor="left" if ax > 0 else "right",
    )


def _point_limit(row: Row) -> dict:
    place = 1000 / row["tpot_limit_ms"]
    return vertical(place, {"color": RULES[row["rule"]][1], "width": 1, "dash": "dot"}, layer="below")


def points_sentence(rows: Sequence[Row]) -> str:
    """Return the chart in one sentence."""
    return (
        "Throughput against speed per user: "
        + ", ".join(
            f"{RULES[row['rule']][0]} {quantity(speed_of(row), 'tok/s')} per accelerator at TPOT p99 "
            f"{duration(row['tpot_ms_p99'])}"
            for row in rows
        )
        + "."
    )
