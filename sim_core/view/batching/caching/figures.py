"""Figures of the prefix cache: what caches of any size find, and what happens as more users come."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sim_core.questions.experiments.caching import Caching
from sim_core.view.batching.figures import axis_from_0, column, line, log_axis
from sim_core.view.drawing.figures import COLOURS, INK, LAYOUT, MUTED, Figure, Row, faded, short
from sim_core.view.drawing.marks import Piece, axis, horizontal, note, scatter, upright, vertical
from sim_core.view.drawing.words import duration, number, percent, quantity

SIZES = 160
DEVICE, HOST, IDEAL = COLOURS[0], COLOURS[2], MUTED
LATENCY, OUTPUT = COLOURS[1], INK
USER_HOVER = (
    "<b>%{customdata[0]}</b><br>%{customdata[1]} of the prompts found<br>"
    "TTFT p50 %{customdata[2]} · %{customdata[3]}<extra></extra>"
)


def capacity_curve(found: Caching, revision: str = "") -> Figure:
    """Draw the share of the prompts that a cache would find over its size, with what there is marked."""
    pool, host = found.now["kv_tokens"], found.now["host_tokens"]
    most = max(found.reuse.largest_tokens, pool + host) * 1.6
    least = max(min(found.reuse.largest_tokens, pool) / 300, 100.0)
    sizes = np.geomspace(least, most, SIZES)
    shares = [100 * found.reuse.hit_frac(size) for size in sizes]
    ideal = 100 * found.reuse.ideal_frac
    data = [
        line("an LRU cache of that size", sizes, shares, DEVICE, mode="lines", hovertemplate=_SIZE_HOVER)
        | {"customdata": [[quantity(size, "tokens")] for size in sizes]}
    ]
    data.append(_reached(found))
    marks = [vertical(pool, {"color": INK, "width": 1.5}, xref="x", layer="below")]
    notes = [_over(pool, "device")]
    if host > 0:
        marks.append(vertical(pool + host, {"color": HOST, "width": 1.5}, xref="x", layer="below"))
        notes.append(_over(pool + host, "with the host") | {"xanchor": "right"})
    marks.append(horizontal(ideal, {"color": IDEAL, "width": 1.5, "dash": "dot"}, yref="y"))
    notes.append(
        note(f"no limit: {percent(ideal / 100)}", 0, ideal, xref="paper", xanchor="left", yshift=-11)
    )
    layout = LAYOUT | {
        "xaxis": log_axis("Size of the cache [tokens]", [least, most], 1.0),
        "yaxis": axis_from_0("Hit rate [%]", [100.0 if ideal > 80 else ideal]),
        "shapes": marks,
        "annotations": notes,
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


_SIZE_HOVER = "<b>%{customdata[0]}</b><br>%{y:.1f} % found<extra></extra>"


def _reached(found: Caching) -> Piece:
    """Return the mark of what the engine reaches with the room it has."""
    now = found.now
    size = now["kv_tokens"] + (now["host_tokens"] if now["host_hit_frac"] > 0 else 0)
    return scatter(
        short([size]),
        short([100 * now["hit_frac"]]),
        mode="markers",
        name="reached by the engine",
        marker={"color": LATENCY, "size": 12, "symbol": "diamond", "line": {"color": INK, "width": 1}},
        hovertemplate="<b>reached</b><br>%{y:.1f} % of the prompts<extra></extra>",
    )


def _over(tokens: float, words: str) -> Piece:
    """Return words above the line of a size."""
    place = math.log10(max(tokens, 1))
    return note(words, place, 1, yref="paper", yanchor="bottom", color=INK, size=13)


def capacity_sentence(found: Caching) -> str:
    """Return what the curve shows, in a sentence."""
    tokens = found.now["kv_tokens"]
    return (
        f"A cache without limit would find {percent(found.reuse.ideal_frac)} of the prompts; one of "
        f"{number(tokens)} tokens, as here, {percent(found.reuse.hit_frac(tokens))}; the engine reaches "
        f"{percent(found.now['hit_frac'])}."
    )


def user_curves(found: Caching, revision: str = "") -> Figure:
    """Draw hit rate, TTFT and output over the number of users; a line stands where no more fit."""
    rows = [row for row in found.users if row["feasible"]]
    users = column(rows, "users")
    panels = (
        ("y3", [100 * value for value in column(rows, "hit_frac")], DEVICE),
        ("y2", column(rows, "ttft_ms_p50"), LATENCY),
        ("y", column(rows, "output_tok_per_s"), OUTPUT),
    )
    hover = [
        [
            quantity(row["users"], "users"),
            percent(row["hit_frac"]),
            duration(row["ttft_ms_p50"]),
            quantity(row["output_tok_per_s"], "tok/s"),
        ]
        for row in rows
    ]
    data = [
        line(
            "", users, values, colour, yaxis=ref, showlegend=False, customdata=hover, hovertemplate=USER_HOVER
        )
        for ref, values, colour in panels
    ]
    layout = LAYOUT | {
        "xaxis": log_axis("Users, each with one session", users) | {"anchor": "y"},
        "yaxis": axis_from_0("Output [tok/s]", panels[2][1]) | {"domain": [0, 0.3]},
        "yaxis2": log_axis("TTFT p50 [ms]", panels[1][1], 1.6) | {"domain": [0.37, 0.66]},
        "yaxis3": axis_from_0("Hit rate [%]", [100.0]) | {"domain": [0.73, 1]},
        "shapes": [],
        "annotations": [],
        "uirevision": revision,
    }
    if users and users[0] < found.fits < users[-1]:
        layout["shapes"] = [upright(found.fits)]
        layout["annotations"] = [_over(found.fits, f"{number(found.fits, 2)} sessions fit")]
    return {"data": data, "layout": layout}


def account_areas(found: Caching, revision: str = "") -> Figure:
    """Draw what the KV blocks are for over time, one area upon the other: used, cached, free."""
    account = found.account
    used, cached = 100 * account.used_frac, 100 * account.cached_frac
    parts = (
        ("used by requests that run", used, DEVICE),
        ("cached", cached, HOST),
        ("free", np.maximum(100 - used - cached, 0), MUTED),
    )
    data = [
        scatter(
            short(account.time_s),
            short(values),
            mode="lines",
            name=name,
            stackgroup="blocks",
            line={"width": 0, "color": colour},
            fillcolor=faded(colour, 0.25 if name == "free" else 0.75),
            hovertemplate="%{x:.1f} s: %{y:.0f} % " + name + "<extra></extra>",
        )
        for name, values, colour in parts
    ]
    layout = LAYOUT | {
        "xaxis": axis("Time [s]", exponentformat="none", separatethousands=True),
        "yaxis": axis("KV blocks [%]", range=[0, 100], nticks=5),
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def account_sentence(found: Caching) -> str:
    """Return the same in a sentence: what blocks are for on average."""
    used, cached = found.account.used_frac.mean(), found.account.cached_frac.mean()
    return (
        f"On average {percent(used)} of the KV blocks are used by requests that run, {percent(cached)} keep "
        f"what may be asked again, and {percent(max(1 - used - cached, 0.0))} are free."
    )


def user_sentence(rows: Sequence[Row]) -> str:
    """Return what the curves show at both ends, in a sentence."""
    shown = [row for row in rows if row["feasible"]]
    if not shown:
        return "Nothing here can run."
    ends = (
        f"with {quantity(row['users'], 'users')} {percent(row['hit_frac'])} of the prompts are found and "
        f"TTFT p50 is {duration(row['ttft_ms_p50'])}"
        for row in (shown[0], shown[-1])
    )
    first, last = ends
    return f"{first[0].upper()}{first[1:]}; {last}."
