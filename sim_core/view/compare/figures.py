"""Figures of the Compare page: the curve that was there before, and what changes a figure most."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence

from sim_core.questions.sensitivity import is_sure
from sim_core.view.drawing.figures import BREAK, COLOURS, INK, LAYOUT, MARGIN, MUTED, Figure, Row, X, Y, short
from sim_core.view.drawing.marks import axis, bar, scatter
from sim_core.view.drawing.words import number, signed

CLEAR = "rgba(0,0,0,0)"
TITLE_CHARACTERS = 40  # a line of an axis title on a phone
MOVES = {"less": ("▼", "10 % less", COLOURS[1]), "more": ("▲", "10 % more", COLOURS[0])}


# --- the curve before -----------------------------------------------------------------------------


def ghost(rows: Sequence[Row]) -> list[dict]:
    """Return the curve that was there before as one thin dotted line; none where there are no rows."""
    if not rows:
        return []
    return [
        scatter(
            short(row[X] for row in rows),
            short(row[Y] for row in rows),
            mode="lines",
            name=rows[0]["curve"],
            line={"color": MUTED, "width": 1.25, "dash": "dot"},
            hovertemplate=f"<b>{rows[0]['curve']}</b><br>%{{x:,.3~r}} tok/s/user · %{{y:,.3~r}} tok/s per "
            "accelerator<extra></extra>",
        )
    ]


def ghost_sentence(rows: Sequence[Row]) -> str:
    """Return the curve before in a sentence that follows another; "" where there is none."""
    if not rows:
        return ""
    return f" A dotted line shows {rows[0]['curve']}, up to {number(max(row[Y] for row in rows))} tok/s."


# --- what matters most ----------------------------------------------------------------------------


def tornado_figure(rows: Sequence[Row], name: Callable[[str], str], title: str) -> Figure:
    """Draw what 10% more and 10% less of each lever change, the largest on top; noise is hollow.

    Parameters
    ----------
    rows : sequence of mappings
        As `sensitivity.tornado` makes them.
    name : callable
        Says a key.
    title : str
        What changes.
    """
    drawn = [row for row in rows if math.isfinite(row["more_frac"]) or math.isfinite(row["less_frac"])][::-1]
    values = [
        abs(100 * row[f"{move}_frac"])
        for row in drawn
        for move in MOVES
        if math.isfinite(row[f"{move}_frac"])
    ]
    reach = 1.45 * max([*values, 1.0])  # room for the words at the ends of bars
    layout = LAYOUT | {
        "barmode": "group",
        "bargap": 0.3,
        "bargroupgap": 0.08,
        "margin": MARGIN | {"t": 40},
        "xaxis": axis(
            BREAK.join(textwrap.wrap(f"Change of {title} [%]", TITLE_CHARACTERS)),
            range=[-reach, reach],
            zeroline=True,
            zerolinecolor=MUTED,
            zerolinewidth=1.5,
            ticksuffix="",
            fixedrange=True,
        ),
        "yaxis": {"type": "category", "automargin": True, "fixedrange": True},
    }
    return {"data": [*(_bars(drawn, move, name) for move in MOVES), *_key()], "layout": layout}


def _key() -> list[dict]:
    """Return what the legend shows: both moves, and what a hollow bar means."""
    looks = [(f"{mark} {words}", colour, "square") for mark, words, colour in MOVES.values()][::-1]
    return [
        scatter(
            [None],
            [None],
            mode="markers",
            name=words,
            marker={"symbol": symbol, "size": 12, "color": colour, "line": {"width": 1.5, "color": colour}},
        )
        for words, colour, symbol in (*looks, ("hollow: noise", MUTED, "square-open"))
    ]


def _bars(rows: Sequence[Row], move: str, name: Callable[[str], str]) -> dict:
    """Return the bars of one move, each with its mark and value in words."""
    mark, words, colour = MOVES[move]
    known = [row for row in rows if math.isfinite(row[f"{move}_frac"])]
    changes = [row[f"{move}_frac"] for row in known]
    sure = [is_sure(row, move) for row in known]
    return bar(
        short(100 * change for change in changes),
        [name(row["key"]) for row in known],
        orientation="h",
        name=f"{mark} {words}",
        showlegend=False,
        text=[f"{mark} {signed(change)}" for change in changes],
        textposition="outside",
        textfont={"color": INK, "size": 12},
        cliponaxis=False,
        marker={
            "color": [colour if certain else CLEAR for certain in sure],
            "line": {"color": colour, "width": 1.5},
        },
        customdata=[
            [
                signed(change),
                signed(row[f"{move}_error_frac"]).lstrip("+"),
                "more than noise" if certain else "no more than noise",
            ]
            for row, change, certain in zip(known, changes, sure, strict=True)
        ],
        hovertemplate=f"<b>{words} of %{{y}}</b><br>%{{customdata[0]}} ± %{{customdata[1]}}: "
        "%{customdata[2]}<extra></extra>",
    )


def tornado_sentence(rows: Sequence[Row], name: Callable[[str], str], title: str) -> str:
    """Return the chart in a sentence: each lever with both changes."""
    parts = [
        f"{name(row['key'])} {signed(row['more_frac'])} and {signed(row['less_frac'])}"
        + ("" if is_sure(row, "more") or is_sure(row, "less") else " (noise)")
        for row in rows
    ]
    return f"Change of {title} for 10% more and 10% less of each, largest first: {'; '.join(parts)}."
