"""Figures of the MLPerf-like page: pure functions from rows to Plotly's JSON, each with a sentence.

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
from sim_core.view.drawing.marks import axis, bar, horizontal, ink_on, note, pointer, scatter, segment, spread
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
    "stability": "the engines are full, no limit binds",
    "floor": "not even one request at a time is fast enough",
    "": "no limit: the batch is always full",
}
NAMES = {"tpot": "TPOT", "ttft": "TTFT"}
Y_TOP = 1.12  # of Offline, and of what reads more
WORDS_FRAC = 0.2  # a bar shorter than this share of the whole has its words behind it


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


class LimitCurve(NamedTuple):
    """One curve: the scenario whose other limit it keeps, that limit [ms], and its rows."""

    rule: str
    other_ms: float
    rows: Sequence[Row]


def layout_words(row: Row) -> str:
    """Return a layout in words: `4 × TP 2, batch ≤ 200`, or `2 × TP 1 prefill, 3 × TP 2 EP 2 decode`."""
    if row.get("tensor_parallel") is None:
        return ""
    drafts = f", {number(row['spec_tokens'])} drafts" if row["spec_tokens"] else ""
    if row.get("prefill_workers"):
        pools = (f"{_engines(row, f'{pool}_', 'workers')} {pool}" for pool in ("prefill", "decode"))
        return ", ".join(pools) + drafts
    return f"{_engines(row)}, batch ≤ {number(row['max_batch'])}{drafts}"


def _engines(row: Row, pool: str = "", count: str = "replicas") -> str:
    """Return how many engines of which layout there are, or of one pool: `2 × TP 8 DP 8 EP 8`."""
    names = {"DP": "attention_data_parallel", "EP": "expert_parallel"}
    sizes = {name: row[f"{pool}{key}"] for name, key in names.items()}
    more = "".join(f" {name} {size}" for name, size in sizes.items() if size > 1)
    return f"{row[f'{pool}{count}']} × TP {row[f'{pool}tensor_parallel']}{more}"


# Throughput kept against a limit


def kept(
    lines: Sequence[LimitCurve], marks: Sequence[Mark], offline: float, *, along: str, revision: str = ""
) -> Figure:
    """Draw the share of Offline throughput that is left against one latency limit.

    Parameters
    ----------
    lines : sequence of Line
        Rows as `rules.limit_curve` makes them; each line has its own value of the other limit.
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
        note(
            f"Offline: {quantity(offline, 'tok/s')} per accelerator",
            0.005,
            1.0,
            xref="paper",
            yanchor="bottom",
            xanchor="left",
        ),
        *_floor_words(lines, along, low),
        *(word for index, mark in enumerate(marks) for word in _mark_words(mark, along, index, marks, high)),
    ]
    shapes = [
        horizontal(1, {"color": RULES["offline"][1], "width": 1.5, "dash": "dot"}, layer="below"),
        *_drops(marks, along),
        *_floor_shade(lines, along, low),
    ]
    other = NAMES["ttft" if along == "tpot" else "tpot"]
    kept_most = max(speed_of(row) / offline for line in lines for row in line.rows)
    top = Y_TOP * max(1.0, kept_most, *(mark.kept_frac for mark in marks))
    title = f"Limit on {NAMES[along]}, 99 % of requests [ms] · looser →"
    layout = TALL_LAYOUT | {
        "xaxis": axis(
            title, type="log", range=[math.log10(low), math.log10(high)], **ticks(log_ticks(low, high))
        ),
        "yaxis": axis("Throughput kept [share of Offline]", range=[0, top], tickformat=".0%", dtick=0.2),
        "annotations": annotations,
        "shapes": shapes,
        "uirevision": revision,
        "legend": TALL_LEGEND | {"title": {"text": f"{other} limit  "}},
    }
    return {"data": data, "layout": layout}


def _distinct(lines: Sequence[LimitCurve]) -> list[LimitCurve]:
    """Return the lines with different other limits; the first of each stays."""
    found: dict[float, LimitCurve] = {}
    for line in lines:
        found.setdefault(line.other_ms, line)
    return list(found.values())


def _span(lines: Sequence[LimitCurve], along: str) -> tuple[float, float]:
    """Return the horizontal range: from a little left of where anything is kept."""
    values = [row[f"{along}_ms"] for line in lines for row in line.rows]
    kept_from = [row[f"{along}_ms"] for line in lines for row in line.rows if speed_of(row) > 0]
    return max(min(values), min(kept_from, default=min(values)) / 2), max(values)


def speed_of(row: Row) -> float:
    """Return a row's throughput. [tok/s per accelerator]"""
    return row["output_tok_per_s_per_accelerator"]


def _area(line: LimitCurve, offline: float, along: str) -> dict:
    """Return the ground under the loosest line."""
    return scatter(
        short(row[f"{along}_ms"] for row in line.rows),
        short(speed_of(row) / offline for row in line.rows),
        mode="lines",
        fill="tozeroy",
        fillcolor=faded(RULES[line.rule][1], 0.08),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


KEPT_HOVER = (
    "<b>%{customdata[0]} of Offline</b><br>%{customdata[1]}<br>TPOT ≤ %{customdata[2]} · "
    "TTFT ≤ %{customdata[3]}<br>%{customdata[4]}<br>%{customdata[5]}<extra></extra>"
)


def _kept_line(line: LimitCurve, offline: float, along: str) -> dict:
    name, colour = RULES[line.rule]
    rows = [row for row in line.rows if speed_of(row) > 0]
    title = (
        f"{duration(line.other_ms)} ({name})" if line.rule != "own" else f"{duration(line.other_ms)} (yours)"
    )
    return scatter(
        short(row[f"{along}_ms"] for row in rows),
        short(speed_of(row) / offline for row in rows),
        mode="lines+markers",
        name=title,
        line={
            "color": colour,
            "width": 3 if line.rule != "own" else 2,
            "dash": {"server": "solid", "interactive": "dash"}.get(line.rule, "dot"),
        },
        marker={"color": colour, "size": 5},
        customdata=[_kept_hover(row, offline) for row in rows],
        hovertemplate=KEPT_HOVER,
    )


def _kept_hover(row: Row, offline: float) -> list[str]:
    return [
        percent(speed_of(row) / offline),
        f"{quantity(speed_of(row), 'tok/s')} per accelerator",
        duration(row["tpot_ms"]),
        duration(row["ttft_ms"]),
        layout_words(row),
        BOUND[row["bound_by"]],
    ]


def _disc(mark: Mark, along: str, offline: float) -> dict:
    name, colour = RULES[mark.rule]
    own = mark.rule == "own"
    text = (
        f"<b>{name}: {percent(mark.kept_frac)} of Offline</b><br>"
        f"{quantity(mark.kept_frac * offline, 'tok/s')} per accelerator<br>"
        f"TPOT ≤ {duration(mark.tpot_ms)} · TTFT ≤ {duration(mark.ttft_ms)}<br>{BOUND[mark.bound_by]}"
    )
    return scatter(
        [mark.along_ms(along)],
        [mark.kept_frac],
        mode="markers",
        name=name,
        showlegend=False,
        cliponaxis=False,
        text=[text],
        hovertemplate="%{text}<extra></extra>",
        marker={
            "symbol": "circle-open" if own else "circle",
            "size": 17 if own else 15,
            "color": colour,
            "line": {"width": 2.5, "color": colour if own else PAPER},
        },
    )


def _published(marks: Sequence[Mark], along: str) -> list[dict]:
    """Return the published medians and ranges at the benchmark's limits, a little to the right."""
    shown = [(mark, mark.published) for mark in marks if mark.published]
    if not shown:
        return []
    low, middle, high = ([published[index] for _, published in shown] for index in range(3))
    text = [
        f"<b>published, {RULES[mark.rule][0]}: median {percent(published[1])}</b><br>"
        f"{percent(published[0])} to {percent(published[2])}, {entry_words(published[3])}<br>"
        "ratios derived from closed-division entries<br>on this accelerator"
        for mark, published in shown
    ]
    return [
        scatter(
            short(mark.along_ms(along) * 1.07 for mark, _ in shown),
            short(middle),
            mode="markers",
            name="published entries: median, range",
            text=text,
            hovertemplate="%{text}<extra></extra>",
            marker={"symbol": "diamond", "size": 10, "color": MUTED, "line": {"width": 1, "color": PAPER}},
            error_y=spread(low, middle, high, color=MUTED, thickness=2, width=5),
        )
    ]


def entry_words(count: int) -> str:
    return f"{count} entr" + ("y" if count == 1 else "ies")


def _mark_words(mark: Mark, along: str, index: int, marks: Sequence[Mark], high: float) -> list[dict]:
    """Return a mark's words: up and left, the visitor's own down and right."""
    name, colour = RULES[mark.rule]
    left = mark.rule != "own"
    return [
        pointer(
            f"<b>{name} {percent(mark.kept_frac)}</b>",
            math.log10(mark.along_ms(along)),
            mark.kept_frac,
            color=colour,
            ax=-46 if left else 46,
            ay=-30 if left else 34,
            xanchor="right" if left else "left",
        )
    ]


def _drops(marks: Sequence[Mark], along: str) -> list[dict]:
    """Return a line from each mark down to its limit."""
    return [
        segment(
            (mark.along_ms(along), mark.along_ms(along)),
            (0, mark.kept_frac),
            {"color": RULES[mark.rule][1], "width": 1, "dash": "dot"},
            layer="below",
        )
        for mark in marks
    ]


def _floor_ms(lines: Sequence[LimitCurve], along: str) -> float:
    """Return the largest limit that nothing keeps; 0 if all are kept."""
    return max((row[f"{along}_ms"] for row in lines[0].rows if not speed_of(row) > 0), default=0.0)


def _floor_shade(lines: Sequence[LimitCurve], along: str, low: float) -> list[dict]:
    edge = _floor_ms(lines, along)
    if edge <= low:
        return []
    return [
        {
            "type": "rect",
            "x0": low / 10,
            "x1": edge,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "fillcolor": SHADE,
            "line": {"width": 0},
            "layer": "below",
        }
    ]


def _floor_words(lines: Sequence[LimitCurve], along: str, low: float) -> list[dict]:
    edge = _floor_ms(lines, along)
    if edge <= low * 1.2:
        return []
    return [note("out of reach", math.log10(edge), 0.5, yref="paper", textangle=-90, xanchor="right")]


def kept_sentence(lines: Sequence[LimitCurve], marks: Sequence[Mark], along: str) -> str:
    """Return the chart in one sentence."""
    parts = [f"{RULES[mark.rule][0]} {percent(mark.kept_frac)}" for mark in marks]
    return (
        f"Throughput kept, as a share of Offline, against the {NAMES[along]} limit: {', '.join(parts)}; "
        f"it rises with the limit until the batch is full."
    )


# The scenarios as bars


def shares_figure(rows: Sequence[Row]) -> Figure:
    """Draw the scenarios below one another, as shares of Offline, published ratios beside them.

    Parameters
    ----------
    rows : sequence of mappings
        ``rule``, ``kept_frac``, ``output_tok_per_s_per_accelerator``, ``bound_by``, ``limits`` (words),
        ``setting`` (words) and ``published`` (lowest, median, highest, entries; or None).
    """
    names = [_bar_name(row) for row in rows]
    colours = [MUTED if row["rule"] == "own" else RULES[row["rule"]][1] for row in rows]
    data = [
        bar(
            short(row["kept_frac"] for row in rows),
            names,
            orientation="h",
            marker={"color": colours},
            width=0.6,
            text=[f"<b>{percent(row['kept_frac'])}</b> {number(speed_of(row))}" for row in rows],
            textposition=["inside" if row["kept_frac"] > WORDS_FRAC else "outside" for row in rows],
            insidetextanchor="start",
            textangle=0,
            name="simulated",
            insidetextfont={"color": [ink_on(colour) for colour in colours], "size": 14},
            outsidetextfont={"color": INK, "size": 14},
            constraintext="none",
            showlegend=False,
            hovertemplate="%{customdata}<extra></extra>",
            customdata=[_bar_hover(row) for row in rows],
        )
    ]
    shown = [row for row in rows if row["published"]]
    if shown:
        data.append(_bar_published(shown))
    most = max([*(row["kept_frac"] for row in rows), *(row["published"][2] for row in shown)])
    layout = TALL_LAYOUT | {
        "yaxis": axis("", type="category", autorange="reversed"),
        "xaxis": axis(
            "Share of Offline<br>[in bars: tok/s per acc.]",
            tickformat=".0%",
            range=[0, 1.05 * max(1.0, most)],
        ),
    }
    return {"data": data, "layout": layout}


def _bar_name(row: Row) -> str:
    return f"<b>{RULES[row['rule']][0]}</b><br>{row['limits']}"


def _bar_hover(row: Row) -> str:
    return (
        f"<b>{RULES[row['rule']][0]}: {percent(row['kept_frac'])} of Offline</b><br>"
        f"{quantity(speed_of(row), 'tok/s')} per accelerator, simulated<br>{row['setting']}<br>"
        f"{BOUND[row['bound_by']]}"
    )


def _bar_published(rows: Sequence[Row]) -> dict:
    low, middle, high = ([row["published"][index] for row in rows] for index in range(3))
    return scatter(
        short(middle),
        [_bar_name(row) for row in rows],
        mode="markers",
        name="published entries: median, range",
        marker={"symbol": "diamond", "size": 12, "color": INK, "line": {"width": 1.5, "color": PAPER}},
        error_x=spread(low, middle, high, color=INK, thickness=2, width=8),
        text=[
            f"<b>published: median {percent(row['published'][1])} of Offline</b><br>"
            f"{percent(row['published'][0])} to {percent(row['published'][2])}, "
            f"{entry_words(row['published'][3])}"
            for row in rows
        ],
        hovertemplate="%{text}<extra></extra>",
    )


def shares_sentence(rows: Sequence[Row]) -> str:
    """Return the chart in one sentence."""
    return (
        "Simulated throughput: "
        + ", ".join(
            f"{RULES[row['rule']][0]} {quantity(speed_of(row), 'tok/s')} per accelerator, "
            f"{percent(row['kept_frac'])} of Offline"
            for row in rows
        )
        + "."
    )
