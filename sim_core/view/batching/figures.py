"""Figures of the scheduler's experiments: pure functions from rows to Plotly's JSON, each with a sentence.

Batch limits, policies and the ways to preempt keep their colours from chart to chart; what continuous
batching gives, and what decodes alone would have, is drawn in the colour of the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sim_core.scenario.scenario import FIELDS
from sim_core.view.drawing.figures import (
    INK,
    LAYOUT,
    LIMITS,
    MUTED,
    Figure,
    Row,
    faded,
    log_ticks,
    short,
    style,
    ticks,
)
from sim_core.view.drawing.marks import Piece, axis, bar, horizontal, note, scatter
from sim_core.view.drawing.verdicts import OVERLOADED, held_words
from sim_core.view.drawing.words import THIN, duration, number, percent

TAIL_POINTS = 160
NO_WAIT = 1 / 3  # where on the logarithmic axis no wait stands, as a share of the shortest one


def policy_colour(policy: str) -> str:
    """Return the colour of a scheduling policy."""
    return style(FIELDS["policy"].choices.index(policy))[0]


def policy_name(policy: str) -> str:
    """Return the name of a scheduling policy."""
    return policy.replace("_", " ")


def log_axis(title: str, values: Iterable[float | None], room: float = 1.25, **more: object) -> dict:
    """Return a logarithmic axis over the positive values, with ticks in words."""
    known = [value for value in values if value is not None and math.isfinite(value) and value > 0] or [1.0]
    low, high = min(known) / room, max(known) * room
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1.0,) if last - first > 3 else (1.0, 3.0) if last - first > 1 else (1.0, 2.0, 5.0)
    span = {"type": "log", "range": [math.log10(low), math.log10(high)]}
    return axis(title, **span, **ticks(log_ticks(low, high, steps)), **more)


def axis_from_0(title: str, values: Iterable[float], **more: object) -> dict:
    """Return a linear axis from 0 that holds the values."""
    top = max((value for value in values if math.isfinite(value)), default=1.0) * 1.12 or 1.0
    return axis(title, range=[0, top], separatethousands=True, exponentformat="none", nticks=5, **more)


def line(name: str, x: Iterable[float], y: Iterable[float], colour: str, **more: object) -> dict:
    """Return a line with markers."""
    look = {"color": colour, "width": more.pop("width", 2.25), "dash": more.pop("dash", "solid")}
    return (
        scatter(
            short(x),
            short(y),
            mode="lines+markers",
            name=name,
            line=look,
            marker={"color": colour, "size": 7},
        )
        | more
    )


def column(rows: Sequence[Row], name: str) -> list[float]:
    """Return a column of rows; nan where a point could not run."""
    return [row.get(name, math.nan) if row["feasible"] else math.nan for row in rows]


# Waiting for a batch


def wait_curves(
    curves: Mapping[int, Sequence[Row]], *, best: Row | None, continuous: Row, revision: str = ""
) -> Figure:
    """Draw TTFT and throughput against the wait, one curve a batch limit.

    Parameters
    ----------
    curves : mapping of int to rows
        By batch limit: its points, shortest wait first, as `waiting.waiting` gives them.
    best : mapping or None
        The point to mark.
    continuous : mapping
        The same requests under continuous batching: a reference line in both panels.
    """
    waits = [row["batch_wait_ms"] for rows in curves.values() for row in rows]
    shortest = min((wait for wait in waits if wait > 0), default=10.0)
    data: list[dict] = []
    for batch, rows in curves.items():
        data += _wait_curve(batch, rows, shortest)
    shown = [row for rows in curves.values() for row in rows if row["feasible"]]
    calm = [row for row in shown if not row["saturated"]] or shown  # what is overloaded may leave the frame
    latencies = [row["ttft_ms_mean"] for row in (*calm, continuous)] + [row["ttft_ms_p99"] for row in calm]
    rates = [row[name] for row in shown for name in ("output_tok_per_s", "busy_tok_per_s")]
    shapes, notes = _references(continuous, len(curves) > 0)
    if best is not None:
        data.append(_best(best, shortest))
    layout = LAYOUT | {
        "xaxis": _wait_axis(waits, shortest) | {"anchor": "y"},
        "yaxis": axis_from_0("Output [tok/s]", [*rates, continuous["output_tok_per_s"]])
        | {"domain": [0, 0.36]},
        "yaxis2": log_axis("TTFT [ms]", latencies, 1.6) | {"domain": [0.44, 1]},
        "shapes": shapes,
        "annotations": notes,
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def _wait_axis(waits: Sequence[float], shortest: float) -> dict:
    steps = sorted({10.0**power for power in range(7) if shortest <= 10.0**power <= max(waits)} | {0.0})
    words = ["none", *(duration(step) for step in steps[1:])]
    places = [_place(step, shortest) for step in steps]
    found = log_axis("Longest wait for a batch to fill", [_place(wait, shortest) for wait in waits])
    return found | {"tickvals": places, "ticktext": words}


def _place(wait_ms: float, shortest: float) -> float:
    return wait_ms or shortest * NO_WAIT


def batch_words(batch: int) -> str:
    """Return a batch limit in words."""
    return f"batch ≤ {number(batch)}"


def _wait_curve(batch: int, rows: Sequence[Row], shortest: float) -> list[dict]:
    """Return one batch limit: mean and p99 of TTFT, output per second and per second of work."""
    colour, _, symbol = style(int(math.log2(batch)) // 2)
    x = [_place(row["batch_wait_ms"], shortest) for row in rows]
    name = batch_words(batch) + (", overloaded" if all(row.get("saturated") for row in rows) else "")
    marks = [symbol + ("-open" if row.get("saturated") else "") for row in rows]
    hover = {
        "customdata": [_wait_hover(row) for row in rows],
        "hovertemplate": WAIT_HOVER,
        "legendgroup": name,
    }
    main = hover | {
        "marker": {"color": colour, "size": 8, "symbol": marks, "line": {"width": 1.5, "color": colour}}
    }
    thin = hover | {"showlegend": False, "mode": "lines", "width": 1.25, "dash": "dot"}
    quiet = main | {"showlegend": False}
    return [
        line(name, x, column(rows, "ttft_ms_mean"), colour, yaxis="y2", **main),
        line(name, x, column(rows, "ttft_ms_p99"), colour, yaxis="y2", **thin),
        line(name, x, column(rows, "output_tok_per_s"), colour, **quiet),
        line(name, x, column(rows, "busy_tok_per_s"), colour, **thin),
    ]


WAIT_HOVER = (
    "<b>%{customdata[0]}</b><br>TTFT mean %{customdata[1]} · p99 %{customdata[2]}<br>"
    "%{customdata[3]} tok/s · %{customdata[4]} tok/s of work<br>"
    "%{customdata[5]} requests in a batch%{customdata[6]}<extra></extra>"
)


def _wait_hover(row: Row) -> list[str]:
    if not row["feasible"]:
        return [""] * 7
    wait = f"wait {duration(row['batch_wait_ms'])}" if row["batch_wait_ms"] else "no wait"
    return [
        f"{batch_words(row['max_batch'])}, {wait}",
        held_words(row, "ttft_ms_mean"),
        held_words(row, "ttft_ms_p99"),
        number(row["output_tok_per_s"]),
        number(row["busy_tok_per_s"]),
        number(row["batch_requests"], 2),
        f"<br>{OVERLOADED}" if row["saturated"] else "",
    ]


def _references(continuous: Row, drawn: bool) -> tuple[list[dict], list[dict]]:
    """Return the lines and words of continuous batching in both panels."""
    shapes, notes = [], []
    for ref, name, text in (
        ("y2", "ttft_ms_mean", f"continuous batching: mean {duration(continuous['ttft_ms_mean'])}"),
        ("y", "output_tok_per_s", ""),
    ):
        value = continuous[name]
        if not (drawn and value > 0):
            continue
        shapes.append(
            horizontal(value, {"color": INK, "width": 1.5, "dash": "dash"}, yref=ref, layer="below")
        )
        if text:
            place: Piece = {"xref": "paper", "yref": ref, "xanchor": "left", "yanchor": "bottom"}
            notes.append(note(text, 0.004, math.log10(value), **place, color=INK))
    return shapes, notes


def _best(best: Row, shortest: float) -> dict:
    wait = f"a wait of {duration(best['batch_wait_ms'])}" if best["batch_wait_ms"] else "no wait"
    return scatter(
        [_place(best["batch_wait_ms"], shortest)],
        short([best["ttft_ms_mean"]]),
        mode="markers+text",
        name="best",
        yaxis="y2",
        showlegend=False,
        text=[f"  best: {wait}"],
        textposition="bottom right",
        textfont={"color": INK, "size": 13},
        marker={"symbol": "star", "size": 16, "color": INK},
        hoverinfo="skip",
        cliponaxis=False,
    )


# Prompts among decodes


def gap_curves(
    alone_ms: np.ndarray,
    ways: Sequence[tuple[str, int, np.ndarray]],
    own: tuple[str, int] = ("", 0),
    revision: str = "",
) -> Figure:
    """Draw the share of tokens that come later than a time, for decodes alone and under each way to share.

    `ways` holds policy, token budget and the gap before each token [ms]; the line of the `own` one is bold.
    """
    data = [_tail("decodes alone", alone_ms, INK, "dot", 2.5)]
    budgets = sorted(budget for policy, budget, _ in ways if policy == "chunked")
    for policy, budget, gaps in ways:
        dash = (
            ("solid", "dash", "dashdot", "longdash")[budgets.index(budget) % 4]
            if policy == "chunked"
            else "solid"
        )
        width = 3.5 if (policy, budget) == own else 1.75
        data.append(_tail(way_words(policy, budget), gaps, policy_colour(policy), dash, width))
    fewest = min(gaps.size for gaps in (alone_ms, *(gaps for *_, gaps in ways)))
    times = [value for trace in data for value in trace["x"]]
    rule = horizontal(1, {"color": MUTED, "width": 1, "dash": "dot"}, yref="y", layer="below")
    words = note("p99", 0.998, 0, xref="paper", xanchor="right", yanchor="top")
    layout = LAYOUT | {
        "xaxis": log_axis("Gap before a token, ITL [ms]", times),
        "yaxis": log_axis("Tokens that wait longer [%]", [100 / max(fewest, 2), 100], 1.15),
        "shapes": [rule],
        "annotations": [words],
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def way_words(policy: str, budget: int) -> str:
    """Return a way to share the accelerator between the phases, in words."""
    return f"chunked, {number(budget)} tokens" if policy == "chunked" else "prefill first"


def _tail(name: str, gaps_ms: np.ndarray, colour: str, dash: str, width: float) -> dict:
    """Return the share of gaps above each time, down to a single one."""
    share = np.geomspace(1.0, 1 / gaps_ms.size, TAIL_POINTS)
    times = np.quantile(gaps_ms, 1 - share + 0.5 / gaps_ms.size * share)
    template = (
        f"<b>{name}</b><br>%{{y:,.3~r}} % of the tokens wait longer than %{{x:,.3~r}} ms<extra></extra>"
    )
    return line(
        name, times, 100 * share, colour, mode="lines", dash=dash, width=width, hovertemplate=template
    )


def cost_bars(rows: Sequence[Row], revision: str = "") -> Figure:
    """Draw what a prompt token costs all decodes under each way to share: its work, and the fixed cost."""
    names = [way_words(row["policy"], row["token_budget"]) for row in rows]
    fixed = [row["extra_us_per_token"] * row["switch_frac"] for row in rows]
    fixed = [value if math.isfinite(value) else 0.0 for value in fixed]
    work = [max(row["extra_us_per_token"] - part, 0.0) for row, part in zip(rows, fixed, strict=True)]
    parts = (
        ("its own work", work, LIMITS["compute"][1]),
        ("fixed cost of a switch", fixed, LIMITS["fixed"][1]),
    )
    data = [
        bar(
            short(values),
            names,
            orientation="h",
            name=name,
            marker={"color": colour},
            hovertemplate=f"<b>%{{y}}</b><br>{name}: %{{x:,.3~r}} µs for each prompt token<extra></extra>",
        )
        for name, values, colour in parts
    ]
    totals = [a + b for a, b in zip(work, fixed, strict=True)]
    layout = LAYOUT | {
        "barmode": "stack",
        "bargap": 0.35,
        "uirevision": revision,
        "xaxis": axis_from_0("Delay per prompt token [µs]", totals),
        "yaxis": {"autorange": "reversed", "type": "category"},
    }
    return {"data": data, "layout": layout}


# Answers that end at different times


def spread_words(spread: float) -> str:
    """Return a spread of answer lengths in words."""
    return "all equal" if spread == 0 else f"cv {number(spread)}" + (", heavy tail" if spread > 2 else "")


def ending_bars(rows: Sequence[Row], revision: str = "") -> Figure:
    """Draw throughput with what padding wastes, and E2E, a group of bars for each spread."""
    rows = [row for row in rows if row["feasible"]]
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    data = [trace for policy in policies for trace in _ending_traces(policy, rows)]
    tops = [row["output_tok_per_s"] + wasted_per_s(row) for row in rows]
    times = [row[f"e2e_ms_{part}"] / 1e3 for row in rows for part in ("mean", "p99")]
    layout = LAYOUT | {
        "xaxis": axis("Spread of the answers, same mean", type="category", anchor="y"),
        "yaxis": log_axis("E2E [s]", times) | {"domain": [0, 0.36]},
        "yaxis2": axis_from_0("Output and padding [tok/s]", tops) | {"domain": [0.46, 1]},
        "barmode": "group",
        "bargap": 0.3,
        "bargroupgap": 0.08,
        "uirevision": revision,
    }
    return {"data": data, "layout": layout}


def wasted_per_s(row: Row) -> float:
    """Return the tokens that held slots would have made in a second, had their answers gone on."""
    padded = row["padding_frac"]
    return row["output_tok_per_s"] * padded / (1 - padded)


def _ending_traces(policy: str, rows: Sequence[Row]) -> list[dict]:
    rows = [row for row in rows if row["policy"] == policy]
    name, colour = policy_name(policy), policy_colour(policy)
    x = [spread_words(row["spread_cv"]) for row in rows]
    common = {
        "legendgroup": policy,
        "customdata": [_ending_hover(row) for row in rows],
        "hovertemplate": ENDING_HOVER,
    }
    stack = common | {"offsetgroup": policy, "yaxis": "y2"}
    output = short(column(rows, "output_tok_per_s"))
    found = [bar(x, output, name=name, marker={"color": colour}, **stack)]
    if policy == "static":
        padding = short(wasted_per_s(row) for row in rows)
        found.append(bar(x, padding, name=f"{name}: padding", base=output, marker=_hatched(colour), **stack))
    for part, width, dash in (("mean", 2.25, "solid"), ("p99", 1.25, "dot")):
        latency = scatter(
            x,
            short(row[f"e2e_ms_{part}"] / 1e3 for row in rows),
            mode="lines+markers",
            name=f"{name}: E2E",
            showlegend=False,
            line={"color": colour, "width": width, "dash": dash},
            marker={"size": 8},
            **common,
        )
        found.append(latency)
    return found


def _hatched(colour: str) -> dict:
    """Return the look of a bar for tokens that nobody gets."""
    return {
        "color": faded(colour, 0.18),
        "line": {"color": colour, "width": 1},
        "pattern": {"shape": "/", "fgcolor": colour, "size": 7, "solidity": 0.25},
    }


def _ending_hover(row: Row) -> list[str]:
    return [
        policy_name(row["policy"]),
        number(row["output_tok_per_s"]),
        percent(row["padding_frac"]),
        duration(row["ttft_ms_mean"]),
        duration(row["e2e_ms_mean"]),
        duration(row["e2e_ms_p99"]),
        number(row["mean_output_tokens"]),
        number(row["longest_output_tokens"]),
    ]


ENDING_HOVER = (
    "<b>%{customdata[0]}, %{x}</b><br>%{customdata[1]} tok/s · padding %{customdata[2]}<br>"
    "TTFT mean %{customdata[3]} · E2E mean %{customdata[4]}, p99 %{customdata[5]}<br>"
    "answers: mean %{customdata[6]}, longest %{customdata[7]} tokens<extra></extra>"
)


# In one sentence


def wait_sentence(curves: Mapping[int, Sequence[Row]], best: Row | None, continuous: Row) -> str:
    """Return the chart of waits in one sentence."""
    limits = ", ".join(number(batch) for batch in curves)
    text = f"TTFT and throughput of static batching against the wait, for batch limits of {limits}"
    if best is None:
        return f"{text}: no point keeps up with the requests."
    wait = duration(best["batch_wait_ms"]) if best["batch_wait_ms"] else "none"
    return (
        f"{text}; the best wait is {wait}, with a mean TTFT of {duration(best['ttft_ms_mean'])}; "
        f"continuous batching needs {duration(continuous['ttft_ms_mean'])}."
    )


def gap_sentence(alone_ms: np.ndarray, ways: Sequence[tuple[str, int, np.ndarray]]) -> str:
    """Return the chart of gaps in one sentence."""
    parts = [f"{way_words(policy, budget)} {_p99(gaps)}" for policy, budget, gaps in ways]
    return f"p99 of the gap before a token: decodes alone {_p99(alone_ms)}; with prompts {', '.join(parts)}."


def _p99(gaps_ms: np.ndarray) -> str:
    return duration(float(np.percentile(gaps_ms, 99)))


def ending_sentence(rows: Sequence[Row]) -> str:
    """Return the chart of endings in one sentence."""
    parts = [
        f"{spread_words(row['spread_cv'])} {number(row['output_tok_per_s'])}{THIN}tok/s, "
        f"{percent(row['padding_frac'])} padding"
        for row in rows
        if row["feasible"] and row["policy"] == "static"
    ]
    return f"Static batching as answers spread: {'; '.join(parts)}."
