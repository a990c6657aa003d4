"""Figures of running out of KV cache: less and less room, and where recomputing and swapping cross."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sim_core.fields.texts import counted
from sim_core.questions.experiments.preemption import Crossover
from sim_core.view.batching.figures import axis_from_0, column, line, log_axis
from sim_core.view.drawing.figures import INK, LAYOUT, LIMITS, Figure, Row, short
from sim_core.view.drawing.marks import note, scatter, upright, vertical
from sim_core.view.drawing.words import duration, number, quantity

WAYS = {"recompute": ("recompute", LIMITS["compute"][1]), "swap": ("swap out", LIMITS["communication"][1])}
FLOP_DASHES = {0.5: "dot", 1.0: "solid", 2.0: "dash"}


# Running out of KV cache


def pressure_curves(curves: Mapping[str, Sequence[Row]], *, here_tokens: float, revision: str = "") -> Figure:
    """Draw throughput, TPOT p99 and the tokens done again against the KV cache, a curve for each way.

    `here_tokens` is the KV cache of the present setting. [tokens]
    """
    data: list[dict] = []
    panels = (("y3", "output_tok_per_s"), ("y2", "tpot_ms_p99"), ("y", "again_frac"))
    values: dict[str, list[float]] = {name: [] for _, name in panels}
    places = [row["kv_tokens"] for rows in curves.values() for row in rows if row["feasible"]]
    for way, points in curves.items():
        feasible = (row for row in points if row["feasible"])
        rows = [{**row, "again_frac": 100 * again_frac(row)} for row in feasible]
        for ref, name in panels:
            values[name] += column(rows, name)
            data.append(_pressure_curve(way, rows, name, ref))
    shape = vertical(here_tokens, {"color": INK, "width": 1.5}, xref="x", layer="below")
    words = note(
        "this setting",
        math.log10(max(here_tokens, 1)),
        1,
        yref="paper",
        xanchor="right",
        yanchor="bottom",
        xshift=6,
        color=INK,
        size=13,
    )
    layout = LAYOUT | {
        "xaxis": log_axis("KV cache [tokens]", places) | {"anchor": "y"},
        "yaxis": axis_from_0("Done again [% of all]", values["again_frac"]) | {"domain": [0, 0.27]},
        "yaxis2": axis_from_0("TPOT p99 [ms]", values["tpot_ms_p99"]) | {"domain": [0.35, 0.62]},
        "yaxis3": axis_from_0("Output [tok/s]", values["output_tok_per_s"]) | {"domain": [0.7, 1]},
        "shapes": [shape],
        "annotations": [words],
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def again_frac(row: Row) -> float:
    """Return the tokens computed again, or moved out and in, as a share of all tokens of the requests."""
    return row["extra_tokens"] / row["asked_tokens"]


PRESSURE_HOVER = (
    "<b>%{customdata[0]}, %{customdata[1]} KV tokens</b><br>"
    "%{customdata[2]} tok/s · TPOT p99 %{customdata[3]}<br>"
    "%{customdata[4]} preemptions · %{customdata[5]}<br>"
    "about %{customdata[6]} for that%{customdata[7]}<extra></extra>"
)


def extra_words(row: Row) -> str:
    """Return the tokens done again, in words."""
    what = "computed again" if row["preemption"] == "recompute" else "moved out and in"
    return f"{number(float(row['extra_tokens']))} tokens {what}"


def _pressure_curve(way: str, rows: Sequence[Row], name: str, ref: str) -> dict:
    text, colour = WAYS[way]
    symbol = "circle" if way == "recompute" else "square"
    hover = [
        [
            text,
            number(row["kv_tokens"]),
            number(row["output_tok_per_s"]),
            duration(row["tpot_ms_p99"]),
            number(row["preemptions"]),
            extra_words(row),
            duration(1e3 * row["extra_s"]),
            "<br>overloaded" if row["saturated"] else "",
        ]
        for row in rows
    ]
    marks = [symbol + ("-open" if row["saturated"] else "") for row in rows]
    return line(
        text,
        column(rows, "kv_tokens"),
        column(rows, name),
        colour,
        yaxis=ref,
        legendgroup=way,
        showlegend=ref == "y3",
        customdata=hover,
        hovertemplate=PRESSURE_HOVER,
        dash="solid" if way == "recompute" else "dash",
        marker={"color": colour, "size": 8, "symbol": marks, "line": {"width": 1.5, "color": colour}},
    )


def crossing_contexts(found: Crossover, revision: str = "") -> Figure:
    """Draw the time to bring a preempted request back over its length; `found`: a `preemption.Crossover`."""
    data = []
    for factor, times in found.recompute_ms.items():
        data.append(_crossing_line(f"recompute, {flops(factor)}", found.contexts, times, "recompute", factor))
    host = quantity(found.host_gb_per_s, "GB/s")
    data.append(_crossing_line(f"swap over {host}", found.contexts, found.swap_ms, "swap", 1.0))
    times = [value for trace in data for value in trace["y"]]
    layout = LAYOUT | {
        "xaxis": log_axis("Tokens that the preempted request holds", found.contexts, 1.1),
        "yaxis": log_axis("Time to bring it back [ms]", times),
        "shapes": [upright(found.tokens)],
        "uirevision": revision,
        "annotations": [_beside(found.tokens, counted(found.tokens, "token"))],
    }
    return {"data": data, "layout": layout}


def crossing_links(found: Crossover, links_gb_per_s: Sequence[float], revision: str = "") -> Figure:
    """Draw the same over the host link for one length, with the links at which both take equally long."""
    links = sorted({*links_gb_per_s, found.host_gb_per_s})
    swap = [found.swap_here_ms * found.host_gb_per_s / link for link in links]
    data = []
    for factor, time in found.recompute_here_ms.items():
        data.append(
            _crossing_line(f"recompute, {flops(factor)}", links, [time] * len(links), "recompute", factor)
        )
    data.append(_crossing_line("swap", links, swap, "swap", 1.0))
    even = {factor: link for factor, link in found.even_gb_per_s.items() if math.isfinite(link)}
    data.append(
        scatter(
            short(even.values()),
            short(found.recompute_here_ms[factor] for factor in even),
            mode="markers+text",
            showlegend=False,
            hoverinfo="skip",
            text=[f" {quantity(link, 'GB/s')}" for link in even.values()],
            textposition="top right",
            textfont={"color": INK, "size": 12},
            cliponaxis=False,
            marker={"symbol": "circle-open", "size": 11, "color": INK, "line": {"width": 2, "color": INK}},
        )
    )
    times = [value for trace in data for value in trace["y"]]
    layout = LAYOUT | {
        "xaxis": log_axis("Host link, one direction [GB/s]", [*links, *even.values()], 1.1),
        "yaxis": log_axis("Time to bring it back [ms]", times),
        "shapes": [upright(found.host_gb_per_s)],
        "annotations": [_beside(found.host_gb_per_s, "this device")],
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def flops(factor: float) -> str:
    """Return a factor on the FLOP/s in words."""
    return "FLOP/s as is" if factor == 1 else f"{number(factor)}× FLOP/s"


def _crossing_line(name: str, x: Sequence[float], y: Sequence[float], way: str, factor: float) -> dict:
    template = f"<b>{name}</b><br>%{{x:,.3~r}} · %{{y:,.3~r}} ms<extra></extra>"
    return line(
        name,
        x,
        y,
        WAYS[way][1],
        mode="lines",
        dash=FLOP_DASHES[factor] if way == "recompute" else "solid",
        width=3 if way == "swap" else 2,
        hovertemplate=template,
    )


def _beside(x: float, text: str) -> dict:
    return note(
        text, math.log10(x), 0.01, yref="paper", xanchor="left", yanchor="bottom", textangle=-90, xshift=2
    )


def pressure_sentence(curves: Mapping[str, Sequence[Row]]) -> str:
    """Return the chart of less and less KV cache in one sentence."""
    parts = []
    for way, points in curves.items():
        rows = [row for row in points if row["feasible"]]
        if rows:
            low, high = (number(rows[place]["output_tok_per_s"]) for place in (0, -1))
            parts.append(f"{WAYS[way][0]} from {high} down to {low} tok/s")
    return f"Throughput, TPOT and work done again as the KV cache shrinks: {'; '.join(parts)}."


def crossing_sentence(found: Crossover) -> str:
    """Return where recomputing and swapping cross, in one sentence."""
    again, moved = duration(found.recompute_here_ms[1.0]), duration(found.swap_here_ms)
    return (
        f"To bring a request of {counted(found.tokens, 'token')} back takes {again} by recomputing and "
        f"{moved} by "
        f"swapping over {quantity(found.host_gb_per_s, 'GB/s')}."
    )
