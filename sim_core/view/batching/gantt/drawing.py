"""The timeline as a picture: what each request did, under one scheduling policy beneath the other.

`draw` takes logs (`sim_core.results.timeline.Timeline`) and draws what they hold; it computes nothing about
serving. One panel a policy, all on one time axis, and beneath them four small panels with one step-line a
policy. Colour says what a request does; height, edge and hatching say it again for eyes that see no colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim_core.fields.texts import counted
from sim_core.price.memory import limit_words
from sim_core.results.story import KINDS, QUEUED
from sim_core.results.timeline import Timeline
from sim_core.view.batching.gantt.late import Late, Panel, hover_data, late_marks
from sim_core.view.batching.gantt.metrics import METRICS, metrics_panels
from sim_core.view.batching.gantt.parts import (
    BARS,
    FOUND,
    GANTT_PX,
    GAP_PX,
    HOVERS,
    LEAST_PX,
    LOOKS,
    MARGIN,
    METRIC_PX,
    METRIC_TITLE_PX,
    QUEUE_ROW,
    QUEUE_ROWS,
    ROW_PX,
    ROWS,
    TITLE_PX,
    PanelFrame,
    in_order,
    policy_style,
    policy_words,
)
from sim_core.view.batching.gantt.player import player
from sim_core.view.drawing.figures import INK, MUTED, PAPER, SOFT, Figure
from sim_core.view.drawing.marks import axis, bar, horizontal, note, scatter
from sim_core.view.drawing.words import duration, number


@dataclass(frozen=True, slots=True)
class TimelinesDrawing:
    """A figure as Plotly's JSON, what the player needs, the same in a sentence, and the height. [px]"""

    figure: Figure
    player: dict[str, Any] | None
    alt: str
    height: int


def draw_timelines(
    timelines: Mapping[str, Timeline], *, rows: str = "slots", revision: str = ""
) -> TimelinesDrawing:
    """Draw timelines of the same requests, one panel a policy.

    Parameters
    ----------
    timelines : mapping of policy to Timeline
        What happened, on one clock.
    rows : str
        What a row is: "slots" of the batch and places in the queue, or "requests".
    revision : str
        While it stays the same the visitor's zoom is kept.
    """
    shown = {policy: timeline for policy, timeline in timelines.items() if timeline.segments.size}
    if not shown:
        return _nothing()
    panels = [_panel(policy, line, rows, index) for index, (policy, line) in enumerate(shown.items())]
    frame = _frame(panels)
    height = _place(panels, frame)
    data, annotations, shapes = [], [], []
    for panel in panels:
        late = Late(panel)
        data += [*_bars(panel, frame, late), *late_marks(panel, frame, late)]
        data += [*_found(panel, frame), *_never_fit(panel, frame, rows)]
        annotations += _panel_words(panel, frame, rows)
        if panel.divide is not None:
            shapes.append(_divider(panel))
    _name_once(data)
    metrics = metrics_panels(panels, frame, height)
    layout = _layout(panels, frame, revision) | metrics["axes"]
    layout["annotations"] = annotations + metrics["annotations"]
    layout["shapes"] = shapes + metrics["shapes"]
    figure = {"data": data + metrics["data"], "layout": layout}
    return TimelinesDrawing(figure, player(panels, frame), timelines_sentence(timelines), height)


def _nothing() -> TimelinesDrawing:
    text = "Nothing happens in this stretch of time."
    words = note(text, 0.5, 0.5, size=15, xref="paper", yref="paper")
    hidden = {"visible": False, "range": [0, 1]}
    layout = {"xaxis": hidden, "yaxis": hidden, "annotations": [words]}
    return TimelinesDrawing({"data": [], "layout": layout}, None, text, 160)


# Panels


def _panel(policy: str, timeline: Timeline, rows: str, index: int) -> Panel:
    """Return a panel with its bars, at most `BARS`, on at most `ROWS` rows."""
    make = _by_request if rows == "requests" else _by_slot
    panel = make(policy, timeline, "y" if index == 0 else f"y{index + 1}")
    if panel.bars.size > BARS:
        lasts_s = panel.bars["end_s"] - panel.bars["start_s"]
        kept = np.sort(np.argpartition(-lasts_s, BARS - 1)[:BARS])
        panel.notes.append(f"the {number(BARS)} longest of {number(panel.bars.size)} bars drawn")
        panel.bars, panel.row = panel.bars[kept], panel.row[kept]
    return panel


def _by_request(policy: str, timeline: Timeline, axis: str) -> Panel:
    bars = in_order(timeline.segments)
    first = min([int(bars["request"].min()), *map(int, timeline.rejected)])
    last = max([int(bars["request"].max()), *map(int, timeline.rejected)])
    notes = []
    if last - first >= ROWS:
        last = first + ROWS - 1
        bars = bars[bars["request"] <= last]
        notes.append(f"requests {number(first)} to {number(last)} drawn")
    step = _nice(max((last - first + 1) / 8, 1))
    values: list[float] = [
        first,
        *(value for value in range(0, last + 1, step) if value - first >= 0.7 * step),
    ]
    ticks = (values, [f"req. {first}", *map(str, values[1:])])
    return Panel(policy, timeline, axis, bars, bars["request"], (first - 0.6, last + 0.6), ticks, None, notes)


def _by_slot(policy: str, timeline: Timeline, axis: str) -> Panel:
    """Return a panel of slots that were used, and below them places of the queue."""
    bars = in_order(timeline.segments)
    queued = bars["lane"] >= timeline.slots
    used = int(bars["lane"][~queued].max(initial=-1)) + 1
    places = int(bars["lane"][queued].max(initial=timeline.slots - 1)) + 1 - timeline.slots
    slots, queue = min(used, ROWS), min(places, QUEUE_ROWS)
    notes = [f"{number(slots)} of {number(used)} slots drawn"] if used > slots else []
    if places > queue:
        notes.append(f"{number(queue)} of {number(places)} places in the queue drawn")
    kept = np.where(queued, bars["lane"] < timeline.slots + queue, bars["lane"] < slots)
    gap = 0.5 if slots and queue else 0.0
    places_row = slots + gap + QUEUE_ROW * (bars["lane"] - timeline.slots + 0.5) - 0.5
    row = np.where(queued, places_row, bars["lane"])[kept]
    rejected = 1.0 if len(timeline.rejected) else 0.0
    end = slots + gap + QUEUE_ROW * queue - 0.4 + rejected
    ticks = _slot_ticks(slots, slots + gap + QUEUE_ROW * queue / 2 - 0.5 if queue else None)
    divide = slots - 0.5 + gap / 2 if gap else None
    return Panel(
        policy, timeline, axis, bars[kept], row, (-0.6, end), ticks, divide, notes, QUEUE_ROW, end - 0.6
    )


def _slot_ticks(slots: int, queue: float | None) -> tuple[list[float], list[str]]:
    step = _nice(max(slots / 4, 1))
    used = [0, *(slot - 1 for slot in range(step, slots + 1, step) if slot > 1)] if slots else []
    texts = [f"slot {used[0] + 1}", *(str(value + 1) for value in used[1:])] if used else []
    values: list[float] = [*used]
    return ([*values, queue], [*texts, "queue"]) if queue is not None else (values, texts)


def _nice(value: float) -> int:
    """Return the next of 1, 2, 4, 5, 10, 20, 40, 50 and so on."""
    power = 10 ** math.floor(math.log10(value))
    return int(next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value - 1e-9))


def _frame(panels: Sequence[Panel]) -> PanelFrame:
    start_s = min(panel.timeline.start_s for panel in panels)
    end_s = max(panel.timeline.end_s for panel in panels)
    span_s = max(end_s - start_s, 1e-6)
    rows = sum(panel.count for panel in panels)
    usual, most = (pixels / rows for pixels in GANTT_PX)
    row_px = min(max(usual, min(ROW_PX[1], most), ROW_PX[0]), ROW_PX[2])
    return PanelFrame(start_s, start_s + span_s, max(0, math.ceil(5 - math.log10(span_s))), row_px)


def _place(panels: Sequence[Panel], frame: PanelFrame) -> int:
    """Give each panel its share of the height, from the top down; return the height of the figure. [px]"""
    for panel in panels:
        panel.rows = panel.rows[0], max(panel.rows[1], panel.rows[0] + LEAST_PX / frame.row_px)
    heights = [panel.count * frame.row_px for panel in panels]
    metrics = len(METRICS) * (METRIC_PX + METRIC_TITLE_PX) + GAP_PX
    inner = sum(heights) + TITLE_PX * len(panels) + metrics
    top = 0.0
    for panel, height in zip(panels, heights, strict=True):
        top += TITLE_PX
        panel.domain = (1 - (top + height) / inner, 1 - top / inner)
        top += height
    return round(inner + MARGIN["t"] + MARGIN["b"])


# Bars


def _bars(panel: Panel, frame: PanelFrame, late: Late) -> Iterator[dict]:
    """Yield one trace a kind; its bars are the segments of that kind."""
    for index, kind in enumerate(KINDS):
        of_kind = panel.bars["kind"] == index
        if of_kind.any():
            yield _bar_trace(panel, frame, late, kind, of_kind)


def _bar_trace(panel: Panel, frame: PanelFrame, late: Late, kind: str, of_kind: np.ndarray) -> dict:
    look, bars = LOOKS[kind], panel.bars[of_kind]
    start_s, end_s = frame.short(bars["start_s"]), frame.short(bars["end_s"])
    edge = {"color": PAPER, "width": 1 if frame.row_px > 4 else 0.5} if kind == "prefill" else {"width": 0}
    height = look.height * (panel.queue_row if KINDS.index(kind) in QUEUED else 1)
    marker = {"color": look.colour, "opacity": look.opacity, "line": edge}
    if look.hatch:
        marker["pattern"] = {"shape": look.hatch, "fillmode": "replace", "size": 5, "solidity": 0.35}
        marker["line"] = {"color": look.colour, "width": 0.75}
    return bar(
        frame.short(end_s - start_s).tolist(),
        panel.row[of_kind].tolist(),
        orientation="h",
        name=look.words,
        legendgroup=kind,
        yaxis=panel.axis,
        base=start_s.tolist(),
        width=height,
        offset=-height / 2,
        marker=marker,
        customdata=hover_data(kind, bars, late, np.flatnonzero(of_kind)),
        hovertemplate=HOVERS[kind] + "<extra></extra>",
        legendrank=100 + KINDS.index(kind),
    )


def _found(panel: Panel, frame: PanelFrame) -> Iterator[dict]:
    """Yield a mark where a prompt begins after what the prefix cache had of it."""
    places = np.flatnonzero(panel.bars["found"] > 0)
    if not len(places):
        return
    bars = panel.bars[places]
    whole = panel.timeline.story.run.prompt_tokens[bars["request"]]
    words = [
        [request, f"{found:,}", f"{tokens:,}"]
        for request, found, tokens in zip(
            bars["request"].tolist(), bars["found"].tolist(), whole.tolist(), strict=True
        )
    ]
    yield scatter(
        frame.short(bars["start_s"]).tolist(),
        panel.row[places].tolist(),
        mode="markers",
        name="found in the prefix cache",
        legendgroup="found",
        legendrank=290,
        yaxis=panel.axis,
        cliponaxis=False,
        customdata=words,
        marker={"symbol": "triangle-right", "size": min(9, max(frame.row_px, 4)), **FOUND},
        hovertemplate="<b>Request %{customdata[0]} · prefix cache</b><br>%{customdata[1]} of its prompt's "
        "%{customdata[2]} tokens found<extra></extra>",
    )


def _never_fit(panel: Panel, frame: PanelFrame, rows: str) -> Iterator[dict]:
    """Yield a cross where a request arrives that never fits."""
    rejected = [int(request) for request in panel.timeline.rejected]
    if not rejected:
        return
    run = panel.timeline.story.run
    times_s = frame.short(np.clip(panel.timeline.rejected_s, frame.start_s, frame.end_s))
    row = rejected if rows == "requests" else [panel.never] * len(rejected)
    texts = [f"\u2002request {request} never fits\u2002" for request in rejected]
    if len(rejected) > 3 and rows != "requests":
        texts = [f"\u2002{len(rejected)} requests never fit\u2002", *[""] * (len(rejected) - 1)]
    right = times_s > frame.start_s + 0.8 * (frame.end_s - frame.start_s)
    yield scatter(
        times_s.tolist(),
        row,
        mode="markers+text",
        name="never fits",
        legendgroup="never",
        yaxis=panel.axis,
        text=texts,
        legendrank=300,
        textposition=["middle left" if side else "middle right" for side in right.tolist()],
        textfont={"size": 12, "color": INK},
        cliponaxis=False,
        customdata=rejected,
        marker={"symbol": "x-thin", "size": 8, "line": {"width": 2, "color": INK}},
        hovertemplate="<b>Request %{customdata} never fits</b><br>its prompt and answer are longer than "
        f"{limit_words(run.priced.model, run.price.request_limit_tokens)}<extra></extra>",
    )


def _name_once(data: list[dict]) -> None:
    """Let each kind stand in the legend once."""
    named: set[str] = set()
    for trace in data:
        trace["showlegend"] = trace["name"] not in named
        named.add(trace["name"])


# Words and lines on the panels


def _panel_words(panel: Panel, frame: PanelFrame, rows: str) -> list[dict]:
    """Return a panel's title: the policy, how it fared, and what is left out."""
    colour, _, _ = policy_style(panel.policy)
    common = {"xref": "paper", "yref": "paper", "y": panel.domain[1], "yanchor": "bottom", "showarrow": False}
    name = f'<span style="color:{colour}">▌</span><b>{policy_words(panel.policy)}</b>'
    left = common | {"text": name, "x": 0, "xanchor": "left", "yshift": 3, "xshift": -4, "font": {"size": 15}}
    right = common | {
        "text": " · ".join([*_fared(panel), *panel.notes]),
        "x": 1,
        "xanchor": "right",
        "yshift": 4,
        "font": {"size": 12, "color": SOFT},
        "name": "wide",
    }
    return [left, right]


def _fared(panel: Panel) -> list[str]:
    """Return how a policy fared, in a few words."""
    metrics = panel.timeline.summary.get("metrics", {})
    words = [
        f"{name} p99 {duration(metrics[key]['p99'])}"
        for key, name in (("ttft_ms", "TTFT"), ("itl_ms", "ITL"))
        if key in metrics
    ]
    if "output_tok_per_s" in metrics:
        words.append(f"{number(metrics['output_tok_per_s'])} tok/s")
    if panel.timeline.padding_frac > 0:
        words.append(f"{number(100 * panel.timeline.padding_frac, 2)} % padding")
    return words


def _divider(panel: Panel) -> dict:
    return horizontal(panel.divide, {"color": MUTED, "width": 1}, yref=panel.axis, layer="below")


def _layout(panels: Sequence[Panel], frame: PanelFrame, revision: str) -> dict:
    pad_s = 0.012 * (frame.end_s - frame.start_s)
    limits = [frame.start_s - pad_s, frame.end_s + pad_s]
    last = len(panels) + len(METRICS)
    layout = {
        "margin": MARGIN,
        "hovermode": "closest",
        "dragmode": "zoom",
        "barmode": "overlay",
        "uirevision": revision,
        "hoverdistance": 12,
        "xaxis": axis(
            "Time [s]",
            autorange=True,
            minallowed=limits[0],
            maxallowed=limits[1],
            autorangeoptions={"minallowed": limits[0], "maxallowed": limits[1]},
            anchor=f"y{last}",
            separatethousands=True,
            exponentformat="none",
        ),
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1,
            "xanchor": "left",
            "yanchor": "bottom",
            "tracegroupgap": 2,
            "itemsizing": "constant",
            "font": {"size": 12},
            "itemwidth": 30,
        },
    }
    return layout | {"yaxis" + panel.axis[1:]: _row_axis(panel) for panel in panels}


def _row_axis(panel: Panel) -> dict:
    """Return the axis of a panel's rows, the first one on top."""
    values, texts = panel.ticks
    return {
        "domain": list(panel.domain),
        "range": [panel.rows[1], panel.rows[0]],
        "fixedrange": True,
        "tickvals": values,
        "ticktext": texts,
        "showgrid": False,
        "tickfont": {"size": 11},
        "anchor": "x",
        "automargin": False,
    }


# Words


def timelines_sentence(timelines: Mapping[str, Timeline]) -> str:
    """Return the picture in one sentence."""
    if not timelines:
        return "Nothing to show."
    parts = []
    for policy, timeline in timelines.items():
        late = len(timeline.late)
        end = duration(1000 * timeline.end_s)
        parts.append(f"{policy_words(policy)} ends at {end} with {counted(late, 'late token')}")
    requests = max(len(np.unique(timeline.segments["request"])) for timeline in timelines.values())
    return f"What {counted(requests, 'request')} do over time, by scheduling policy: {'; '.join(parts)}."
