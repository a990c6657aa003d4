"""Figures of the Scenarios page: pure functions from rows to Plotly's JSON, each with a sentence.

Offline is blue, Server green and Interactive vermillion throughout; simulated figures are lines, bars and
discs, published ones diamonds with their range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sim_core.view.drawing.figures import (
    COLOURS,
    INK,
    MUTED,
    PAPER,
    SHADE,
    TALL_LAYOUT,
    TALL_LEGEND,
    Figure,
    Row,
    faded,
    log_ticks,
    short,
    ticks,
)
from sim_core.view.drawing.words import duration, number, percent, quantity

RULES = {  # words, colour
    "offline": ("Offline", COLOURS[0]),
    "server": ("Server", COLOURS[2]),
    "interactive": ("Interactive", COLOURS[5]),
    "own": ("your limits", INK),
}
BOUND = {
    "ttft": "the TTFT limit binds",
    "tpot": "the TPOT limit binds",
    "both": "both limits bind: TPOT caps the batch, TTFT the queue for it",
    "stability": "the batch is full, no limit binds",
    "floor": "not even one request at a time is fast enough",
    "": "no limit: the batch is always full",
}
NAMES = {"tpot": "TPOT", "ttft": "TTFT"}
Y_TOP = 1.12


class Mark(NamedTuple):
    """One scenario's place on a chart: its limits [ms], what it keeps of Offline, and what is published."""

    rule: str
    ttft_ms: float
    tpot_ms: float
    kept_frac: float
    bound_by: str
    published: tuple[float, float, float, int] | None = None  # lowest, median, highest, entries

    def along_ms(self, along: str) -> float:
        """Return the limit that a chart runs along. [ms]"""
        return self.tpot_ms if along == "tpot" else self.ttft_ms


class Line(NamedTuple):
    """One curve: the scenario whose other limit it keeps, that limit [ms], and its rows."""

    rule: str
    other_ms: float
    rows: Sequence[Row]


def layout_words(row: Row) -> str:
    """Return a layout in words: `4 × TP 2, batch ≤ 200`."""
    if row.get("tensor_parallel") is None:
        return ""
    experts = f" EP {row['expert_parallel']}" if row["expert_parallel"] > 1 else ""
    return f"{row['replicas']} × TP {row['tensor_parallel']}{experts}, batch ≤ {number(row['max_batch'])}"


# Throughput kept against a limit


def kept(
    lines: Sequence[Line], marks: Sequence[Mark], offline: float, *, along: str, revision: str = ""
) -> Figure:
    """Draw the share of Offline throughput that is left against one latency limit.

    Parameters
    ----------
    lines : sequence of Line
        Rows as `mlperf.limit_curve` makes them; each line has its own value of the other limit.
    marks : sequence of Mark
        The benchmark's limits, and the visitor's own.
    offline : float
        Offline throughput, which is 100 %. [tok/s per accelerator]
    along : str
        ``tpot`` or ``ttft``: the limit on the horizontal axis.
    """
    lines = _distinct(lines)
    low, high = _span(lines, along)
    data = [_area(lines[0], offline, along), *(_kept_line(line, offline, along) for line in reversed(lines))]
    data += _published(marks, along) + [_disc(mark, along, offline) for mark in marks]
    annotations = [
        {"text": f"Offline: {quantity(offline, 'tok/s')} per accelerator", "xref": "paper", "x": 0.005,
         "y": 1.0, "yanchor": "bottom", "xanchor": "left", "showarrow": False,
         "font": {"size": 12, "color": MUTED}},
        *_floor_words(lines, along, low),
        *(word for index, mark in enumerate(marks) for word in _mark_words(mark, along, index, marks, high)),
    ]  # fmt: skip
    shapes = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "layer": "below",
         "line": {"color": RULES["offline"][1], "width": 1.5, "dash": "dot"}},
        *_drops(marks, along), *_floor_shade(lines, along, low),
    ]  # fmt: skip
    other = NAMES["ttft" if along == "tpot" else "tpot"]
    title = f"Limit on {NAMES[along]}, 99 % of requests [ms] · looser →"
    layout = TALL_LAYOUT | {
        "xaxis": {"type": "log", "title": {"text": title}, "range": [math.log10(low), math.log10(high)],
                  **ticks(log_ticks(low, high))},
        "yaxis": {"title": {"text": "Throughput kept [share of Offline]"}, "range": [0, Y_TOP],
                  "tickformat": ".0%", "dtick": 0.2},
        "annotations": annotations, "shapes": shapes, "uirevision": revision,
        "legend": TALL_LEGEND | {"title": {"text": f"{other} limit  "}},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _distinct(lines: Sequence[Line]) -> list[Line]:
    """Return the lines with different other limits; the first of each stays."""
    found: dict[float, Line] = {}
    for line in lines:
        found.setdefault(line.other_ms, line)
    return list(found.values())


def _span(lines: Sequence[Line], along: str) -> tuple[float, float]:
    """Return the horizontal range: from a little left of where anything is kept."""
    values = [row[f"{along}_ms"] for line in lines for row in line.rows]
    kept_from = [row[f"{along}_ms"] for line in lines for row in line.rows if _speed(row) > 0]
    return max(min(values), min(kept_from, default=min(values)) / 2), max(values)


def _speed(row: Row) -> float:
    return row["output_tok_per_s_per_accelerator"]


def _area(line: Line, offline: float, along: str) -> dict:
    """Return the ground under the loosest line."""
    return {
        "type": "scatter", "mode": "lines", "fill": "tozeroy", "fillcolor": faded(RULES[line.rule][1], 0.08),
        "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False,
        "x": short(row[f"{along}_ms"] for row in line.rows),
        "y": short(_speed(row) / offline for row in line.rows),
    }  # fmt: skip


KEPT_HOVER = (
    "<b>%{customdata[0]} of Offline</b><br>%{customdata[1]}<br>TPOT ≤ %{customdata[2]} · "
    "TTFT ≤ %{customdata[3]}<br>%{customdata[4]}<br>%{customdata[5]}<extra></extra>"
)


def _kept_line(line: Line, offline: float, along: str) -> dict:
    name, colour = RULES[line.rule]
    rows = [row for row in line.rows if _speed(row) > 0]
    title = (
        f"{duration(line.other_ms)} ({name})" if line.rule != "own" else f"{duration(line.other_ms)} (yours)"
    )
    return {
        "type": "scatter", "mode": "lines+markers", "name": title,
        "x": short(row[f"{along}_ms"] for row in rows), "y": short(_speed(row) / offline for row in rows),
        "line": {"color": colour, "width": 3 if line.rule != "own" else 2,
                 "dash": {"server": "solid", "interactive": "dash"}.get(line.rule, "dot")},
        "marker": {"color": colour, "size": 5},
        "customdata": [_kept_hover(row, offline) for row in rows], "hovertemplate": KEPT_HOVER,
    }  # fmt: skip


def _kept_hover(row: Row, offline: float) -> list[str]:
    return [
        percent(_speed(row) / offline),
        f"{quantity(_speed(row), 'tok/s')} per accelerator",
        duration(row["tpot_ms"]), duration(row["ttft_ms"]), layout_words(row), BOUND[row["bound_by"]],
    ]  # fmt: skip


def _disc(mark: Mark, along: str, offline: float) -> dict:
    name, colour = RULES[mark.rule]
    own = mark.rule == "own"
    text = (
        f"<b>{name}: {percent(mark.kept_frac)} of Offline</b><br>"
        f"{quantity(mark.kept_frac * offline, 'tok/s')} per accelerator<br>"
        f"TPOT ≤ {duration(mark.tpot_ms)} · TTFT ≤ {duration(mark.ttft_ms)}<br>{BOUND[mark.bound_by]}"
    )
    return {
        "type": "scatter", "mode": "markers", "name": name, "showlegend": False, "cliponaxis": False,
        "x": [mark.along_ms(along)], "y": [mark.kept_frac], "text": [text],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": "circle-open" if own else "circle", "size": 17 if own else 15, "color": colour,
                   "line": {"width": 2.5, "color": colour if own else PAPER}},
    }  # fmt: skip


def _published(marks: Sequence[Mark], along: str) -> list[dict]:
    """Return the published medians and ranges at the benchmark's limits, a little to the right."""
    shown = [mark for mark in marks if mark.published]
    if not shown:
        return []
    low, middle, high = ([mark.published[index] for mark in shown] for index in range(3))
    text = [
        f"<b>published, {RULES[mark.rule][0]}: median {percent(mark.published[1])}</b><br>"
        f"{percent(mark.published[0])} to {percent(mark.published[2])}, {entry_words(mark.published[3])}<br>"
        "ratios derived from closed-division entries<br>on this accelerator"
        for mark in shown
    ]
    return [{
        "type": "scatter", "mode": "markers", "name": "published entries: median, range",
        "x": short(mark.along_ms(along) * 1.07 for mark in shown), "y": short(middle), "text": text,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": "diamond", "size": 10, "color": MUTED, "line": {"width": 1, "color": PAPER}},
        "error_y": {"type": "data", "symmetric": False, "color": MUTED, "thickness": 2, "width": 5,
                    "array": short(h - m for h, m in zip(high, middle, strict=True)),
                    "arrayminus": short(m - lo for m, lo in zip(middle, low, strict=True))},
    }]  # fmt: skip


def entry_words(count: int) -> str:
    return f"{count} entr" + ("y" if count == 1 else "ies")


def _mark_words(mark: Mark, along: str, index: int, marks: Sequence[Mark], high: float) -> list[dict]:
    """Return a mark's words: up and left, the visitor's own down and right."""
    name, colour = RULES[mark.rule]
    left = mark.rule != "own"
    return [{
        "text": f"<b>{name} {percent(mark.kept_frac)}</b>", "x": math.log10(mark.along_ms(along)),
        "y": mark.kept_frac, "ax": -46 if left else 46, "ay": -30 if left else 34,
        "xanchor": "right" if left else "left", "arrowcolor": MUTED, "arrowwidth": 1, "arrowhead": 0,
        "standoff": 9, "font": {"size": 14, "color": colour},
    }]  # fmt: skip


def _drops(marks: Sequence[Mark], along: str) -> list[dict]:
    """Return a line from each mark down to its limit."""
    return [
        {"type": "line", "x0": mark.along_ms(along), "x1": mark.along_ms(along), "y0": 0,
         "y1": mark.kept_frac, "layer": "below",
         "line": {"color": RULES[mark.rule][1], "width": 1, "dash": "dot"}}
        for mark in marks
    ]  # fmt: skip


def _floor_ms(lines: Sequence[Line], along: str) -> float:
    """Return the largest limit that nothing keeps; 0 if all are kept."""
    return max((row[f"{along}_ms"] for row in lines[0].rows if not _speed(row) > 0), default=0.0)


def _floor_shade(lines: Sequence[Line], along: str, low: float) -> list[dict]:
    edge = _floor_ms(lines, along)
    if edge <= low:
        return []
    return [{"type": "rect", "x0": low / 10, "x1": edge, "yref": "paper", "y0": 0, "y1": 1,
             "fillcolor": SHADE, "line": {"width": 0}, "layer": "below"}]  # fmt: skip


def _floor_words(lines: Sequence[Line], along: str, low: float) -> list[dict]:
    edge = _floor_ms(lines, along)
    if edge <= low * 1.2:
        return []
    return [{"text": "out of reach", "x": math.log10(edge), "y": 0.5, "yref": "paper", "textangle": -90,
             "xanchor": "right", "showarrow": False, "font": {"size": 12, "color": MUTED}}]  # fmt: skip


def kept_sentence(lines: Sequence[Line], marks: Sequence[Mark], along: str) -> str:
    """Return the chart in one sentence."""
    parts = [f"{RULES[mark.rule][0]} {percent(mark.kept_frac)}" for mark in marks]
    return (
        f"Throughput kept, as a share of Offline, against the {NAMES[along]} limit: {', '.join(parts)}; "
        f"it rises with the limit until the batch is full."
    )


# The scenarios as bars


def bars(rows: Sequence[Row]) -> Figure:
    """Draw the scenarios below one another, as shares of Offline, published ratios beside them.

    Parameters
    ----------
    rows : sequence of mappings
        ``rule``, ``kept_frac``, ``output_tok_per_s_per_accelerator``, ``bound_by``, ``limits`` (words),
        ``setting`` (words) and ``published`` (lowest, median, highest, entries; or None).
    """
    names = [_bar_name(row) for row in rows]
    colours = [RULES[row["rule"]][1] for row in rows]
    data = [{
        "type": "bar", "orientation": "h", "y": names, "x": short(row["kept_frac"] for row in rows),
        "marker": {"color": [MUTED if colour == INK else colour for colour in colours]}, "width": 0.6,
        "text": [f"<b>{percent(row['kept_frac'])}</b> {number(_speed(row))}" for row in rows],
        "textposition": "inside", "insidetextanchor": "start", "textangle": 0, "name": "simulated",
        "textfont": {"color": "#ffffff", "size": 14}, "constraintext": "none",
        "showlegend": False, "hovertemplate": "%{customdata}<extra></extra>",
        "customdata": [_bar_hover(row) for row in rows],
    }]  # fmt: skip
    shown = [row for row in rows if row["published"]]
    if shown:
        data.append(_bar_published(shown))
    most = 1.05 * max((row["published"][2] for row in shown), default=0)
    layout = TALL_LAYOUT | {
        "yaxis": {"type": "category", "title": {"text": ""}, "autorange": "reversed"},
        "xaxis": {"title": {"text": "Share of Offline [bars: tok/s per acc.]"},
                  "tickformat": ".0%", "range": [0, max(1.05, most)]},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _bar_name(row: Row) -> str:
    return f"<b>{RULES[row['rule']][0]}</b><br>{row['limits']}"


def _bar_hover(row: Row) -> str:
    return (
        f"<b>{RULES[row['rule']][0]}: {percent(row['kept_frac'])} of Offline</b><br>"
        f"{quantity(_speed(row), 'tok/s')} per accelerator, simulated<br>{row['setting']}<br>"
        f"{BOUND[row['bound_by']]}"
    )


def _bar_published(rows: Sequence[Row]) -> dict:
    low, middle, high = ([row["published"][index] for row in rows] for index in range(3))
    return {
        "type": "scatter", "mode": "markers", "name": "published entries: median, range",
        "y": [_bar_name(row) for row in rows], "x": short(middle),
        "marker": {"symbol": "diamond", "size": 12, "color": INK, "line": {"width": 1.5, "color": PAPER}},
        "error_x": {"type": "data", "symmetric": False, "color": INK, "thickness": 2, "width": 8,
                    "array": short(h - m for h, m in zip(high, middle, strict=True)),
                    "arrayminus": short(m - lo for m, lo in zip(middle, low, strict=True))},
        "text": [f"<b>published: median {percent(row['published'][1])} of Offline</b><br>"
                 f"{percent(row['published'][0])} to {percent(row['published'][2])}, "
                 f"{entry_words(row['published'][3])}" for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def bars_sentence(rows: Sequence[Row]) -> str:
    """Return the chart in one sentence."""
    return (
        "Simulated throughput: "
        + ", ".join(
            f"{RULES[row['rule']][0]} {quantity(_speed(row), 'tok/s')} per accelerator, "
            f"{percent(row['kept_frac'])} of Offline"
            for row in rows
        )
        + "."
    )


# Operating points


def points(line: Sequence[Row], rows: Sequence[Row], revision: str = "") -> Figure:
    """Draw throughput per accelerator against the speed that 99 % of the users get.

    Parameters
    ----------
    line : sequence of mappings
        The trade-off: rows of `mlperf.limit_curve` along the TPOT limit.
    rows : sequence of mappings
        The scenarios: ``rule``, ``tpot_ms_p99``, ``output_tok_per_s_per_accelerator``, ``bound_by``,
        ``limits``, ``setting``, ``tpot_limit_ms`` or None.
    """
    line = [row for row in line if _speed(row) > 0]
    data = [{
        "type": "scatter", "mode": "lines+markers", "name": "best within any TPOT limit",
        "x": short(1000 / row["tpot_ms"] for row in line), "y": short(_speed(row) for row in line),
        "line": {"color": MUTED, "width": 2.5}, "marker": {"size": 5, "color": MUTED},
        "customdata": [_point_hover(row) for row in line],
        "hovertemplate": "%{customdata}<extra></extra>",
    }]  # fmt: skip
    data += [_point(row) for row in rows]
    right = max([1000 / row["tpot_ms"] for row in line] + [1000 / row["tpot_ms_p99"] for row in rows])
    top = max([_speed(row) for row in line] + [_speed(row) for row in rows])
    layout = TALL_LAYOUT | {
        "xaxis": {"title": {"text": "Speed that 99 % of the users get [tok/s/user]"},
                  "range": [0, 1.05 * right]},
        "yaxis": {"title": {"text": "Throughput [tok/s per accelerator]"}, "range": [0, 1.15 * top],
                  "separatethousands": True, "exponentformat": "none"},
        "annotations": [_point_words(row) for row in rows] + [_BETTER],
        "shapes": [_point_limit(row) for row in rows if row["tpot_limit_ms"]], "uirevision": revision,
    }  # fmt: skip
    return {"data": data, "layout": layout}


_BETTER = {
    "text": "better ↗", "xref": "paper", "yref": "paper", "x": 0.995, "y": 0.985, "xanchor": "right",
    "yanchor": "top", "showarrow": False, "font": {"color": MUTED, "size": 13},
}  # fmt: skip


def _point_hover(row: Row) -> str:
    return (
        f"<b>{quantity(_speed(row), 'tok/s')} per accelerator</b><br>"
        f"at TPOT ≤ {duration(row['tpot_ms'])}<br>"
        f"{layout_words(row)}<br>{BOUND[row['bound_by']]}"
    )


def _point(row: Row) -> dict:
    name, colour = RULES[row["rule"]]
    own = row["rule"] == "own"
    return {
        "type": "scatter", "mode": "markers", "name": name, "showlegend": False, "cliponaxis": False,
        "x": [1000 / row["tpot_ms_p99"]], "y": [_speed(row)],
        "text": [f"<b>{name}</b>: {quantity(_speed(row), 'tok/s')} per accelerator<br>TPOT p99 "
                 f"{duration(row['tpot_ms_p99'])} · {row['limits']}<br>{row['setting']}<br>"
                 f"{BOUND[row['bound_by']]}"],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": "circle-open" if own else "circle", "size": 16, "color": colour,
                   "line": {"width": 2.5, "color": colour if own else PAPER}},
    }  # fmt: skip


def _point_words(row: Row) -> dict:
    name, colour = RULES[row["rule"]]
    ax, ay = {"offline": (30, -40), "server": (52, -12), "own": (-42, 34)}.get(row["rule"], (40, -28))
    return {
        "text": f"<b>{name}</b>", "x": 1000 / row["tpot_ms_p99"], "y": _speed(row), "ax": ax, "ay": ay,
        "xanchor": "left" if ax > 0 else "right", "arrowcolor": MUTED, "arrowwidth": 1, "arrowhead": 0,
        "standoff": 9, "font": {"size": 14, "color": colour},
    }  # fmt: skip


def _point_limit(row: Row) -> dict:
    place = 1000 / row["tpot_limit_ms"]
    return {"type": "line", "x0": place, "x1": place, "yref": "paper", "y0": 0, "y1": 1, "layer": "below",
            "line": {"color": RULES[row["rule"]][1], "width": 1, "dash": "dot"}}  # fmt: skip


def points_sentence(rows: Sequence[Row]) -> str:
    """Return the chart in one sentence."""
    return (
        "Throughput against speed per user: "
        + ", ".join(
            f"{RULES[row['rule']][0]} {quantity(_speed(row), 'tok/s')} per accelerator at TPOT p99 "
            f"{duration(row['tpot_ms_p99'])}"
            for row in rows
        )
        + "."
    )
