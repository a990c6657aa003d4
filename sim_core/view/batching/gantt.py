"""The timeline as a picture: what each request did, under one scheduling policy beneath the other.

`draw` takes logs (`sim_core.results.timeline.Timeline`) and draws what they hold; it computes nothing about
serving. One panel a policy, all on one time axis, and beneath them four small panels with one step-line a
policy. Colour says what a request does; height, edge and hatching say it again for eyes that see no colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from sim_core.results.story import DECODE, IDLE, KINDS, PREFILL, QUEUED, STALLED
from sim_core.results.timeline import Timeline
from sim_core.scenario.scenario import FIELDS
from sim_core.view.drawing.figures import INK, MUTED, PAPER, Figure, style
from sim_core.view.drawing.words import duration, number

BARS = 4000  # bars in a panel; the shortest beyond that are left out
ROWS = 160  # rows in a panel
QUEUE_ROWS, QUEUE_ROW = 40, 0.6  # places of the queue that are drawn, each lower than a slot
LATE_MARKS = 120  # marks in a panel; with more, only the worst token of each chunk is marked
POINTS = 3000  # steps of a line; with more, the highest of each stretch
PLAYED_ROWS = 20_000  # rows of the step logs that the player can follow
GANTT_PX = (490, 720)  # height that all rows share: usual, and most for many rows
ROW_PX = (2.0, 3.4, 15.0)  # of a row: least, least unless there are many, most
METRIC_PX, TITLE_PX, METRIC_TITLE_PX, LEAST_PX = 52, 34, 26, 44
MARGIN = {"l": 58, "r": 14, "t": 44, "b": 46}
# Late tokens and their cause: Okabe-Ito's yellow.
_ALARM = {"color": "#F0E442", "line": {"width": 0.75, "color": "#8a6d00"}}
GAP_PX = 18  # between the bars and the lines
SAME_S = 1e-6  # two times closer than this are the same moment


class Look(NamedTuple):
    """How one kind of bar looks: legend, colour, share of the row's height, opacity, hatching."""

    words: str
    colour: str
    height: float
    opacity: float = 1.0
    hatch: str = ""


LOOKS = {
    "waiting": Look("waiting", MUTED, 0.4, 0.45),
    "prefill": Look("prefill", "#D55E00", 0.94),
    "decode": Look("decode", "#0072B2", 0.66),
    "stalled": Look("held up by a prefill", "#56B4E9", 0.2),
    "paused": Look("preempted, to recompute", "#CC79A7", 0.66, 1.0, "/"),
    "swapped": Look("preempted, swapped out", "#E69F00", 0.66, 1.0, "x"),
    "idle": Look("padding", MUTED, 0.66, 0.6, "\\"),
}
_LASTS = "%{customdata[1]:,.3~r} ms"
HOVERS = {
    "waiting": f"<b>Request %{{customdata[0]}} waits</b><br>{_LASTS} in the queue",
    "prefill": "<b>Request %{customdata[0]} · prefill</b><br>%{customdata[2]} of %{customdata[3]} tokens"
    "%{customdata[4]}<br>" + _LASTS + "%{customdata[5]}",
    "decode": "<b>Request %{customdata[0]} · decode</b><br>%{customdata[2]:,} tokens in "
    + _LASTS
    + "<br>one every %{customdata[3]:,.3~r} ms",
    "stalled": f"<b>Request %{{customdata[0]}} is held up</b><br>{_LASTS} without a token: prompts go first",
    "paused": "<b>Request %{customdata[0]} is preempted</b><br>its KV cache was dropped and will be computed "
    f"again<br>out for {_LASTS}",
    "swapped": "<b>Request %{customdata[0]} is preempted</b><br>its KV cache lies in host memory<br>"
    f"out for {_LASTS}",
    "idle": "<b>Request %{customdata[0]} is done</b><br>its slot is held for the batch: "
    f"{_LASTS} of padding",
}
METRICS = (  # column of the steps, title, what the hover counts
    ("step_tokens", "Tokens per step, logarithmic", "tokens in a step"),
    ("waiting", "Requests in the queue", "in the queue"),
    ("kv_blocks_used", "KV blocks in use", "KV blocks in use"),
    ("running", "Requests in the batch", "in the batch"),
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as Plotly's JSON, what the player needs, the same in a sentence, and the height. [px]"""

    figure: Figure
    player: dict[str, Any] | None
    alt: str
    height: int


@dataclass(slots=True)
class Panel:
    """What one policy's panel shows: bars with their rows, marks, and words about what is left out."""

    policy: str
    timeline: Timeline
    axis: str
    bars: np.ndarray
    row: np.ndarray
    rows: tuple[float, float]
    ticks: tuple[list[float], list[str]]
    divide: float | None = None
    notes: list[str] = field(default_factory=list)
    queue_row: float = 1.0
    never: float = 0.0  # the row of what never fits
    domain: tuple[float, float] = (0.0, 1.0)

    @property
    def count(self) -> float:
        """Number of rows."""
        return self.rows[1] - self.rows[0]


@dataclass(frozen=True, slots=True)
class Frame:
    """The time axis that all panels share, and the height of a row."""

    start_s: float
    end_s: float
    decimals: int
    row_px: float = 10.0

    def short(self, times_s: np.ndarray) -> np.ndarray:
        """Return times with as many decimals as can be seen."""
        return np.round(np.asarray(times_s, float), self.decimals)


def draw(timelines: Mapping[str, Timeline], *, rows: str = "slots", revision: str = "") -> Drawing:
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
        data += [*_bars(panel, frame, late), *_late_marks(panel, frame, late)]
        data += _never_fit(panel, frame, rows)
        annotations += _panel_words(panel, frame, rows)
        if panel.divide is not None:
            shapes.append(_divider(panel))
    _name_once(data)
    metrics = _metrics(panels, frame, height)
    layout = _layout(panels, frame, revision) | metrics["axes"]
    layout["annotations"] = annotations + metrics["annotations"]
    layout["shapes"] = shapes + metrics["shapes"]
    figure = {"data": data + metrics["data"], "layout": layout}
    return Drawing(figure, _player(panels, frame), sentence(timelines), height)


def _nothing() -> Drawing:
    text = "Nothing happens in this stretch of time."
    note = {"text": text, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False,
            "font": {"color": MUTED, "size": 15}}  # fmt: skip
    axis = {"visible": False, "range": [0, 1]}
    layout = {"xaxis": axis, "yaxis": axis, "annotations": [note]}
    return Drawing({"data": [], "layout": layout}, None, text, 160)


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
    bars = _in_order(timeline.segments)
    first = min([int(bars["request"].min()), *map(int, timeline.rejected)])
    last = max([int(bars["request"].max()), *map(int, timeline.rejected)])
    notes = []
    if last - first >= ROWS:
        last = first + ROWS - 1
        bars = bars[bars["request"] <= last]
        notes.append(f"requests {number(first)} to {number(last)} drawn")
    step = _nice(max((last - first + 1) / 8, 1))
    values = [first, *(value for value in range(0, last + 1, step) if value - first >= 0.7 * step)]
    ticks = (values, [f"req. {first}", *map(str, values[1:])])
    return Panel(policy, timeline, axis, bars, bars["request"], (first - 0.6, last + 0.6), ticks, None, notes)


def _by_slot(policy: str, timeline: Timeline, axis: str) -> Panel:
    """Return a panel of slots that were used, and below them places of the queue."""
    bars = _in_order(timeline.segments)
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
    values = [0, *(slot - 1 for slot in range(step, slots + 1, step) if slot > 1)] if slots else []
    texts = [f"slot {values[0] + 1}", *(str(value + 1) for value in values[1:])] if values else []
    return ([*values, queue], [*texts, "queue"]) if queue is not None else (values, texts)


def _nice(value: float) -> int:
    """Return the next of 1, 2, 4, 5, 10, 20, 40, 50 and so on."""
    power = 10 ** math.floor(math.log10(value))
    return int(next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value - 1e-9))


def _in_order(segments: np.ndarray) -> np.ndarray:
    return segments[np.lexsort((segments["start_s"], segments["request"]))]


def _frame(panels: Sequence[Panel]) -> Frame:
    start_s = min(panel.timeline.start_s for panel in panels)
    end_s = max(panel.timeline.end_s for panel in panels)
    span_s = max(end_s - start_s, 1e-6)
    rows = sum(panel.count for panel in panels)
    usual, most = (pixels / rows for pixels in GANTT_PX)
    row_px = min(max(usual, min(ROW_PX[1], most), ROW_PX[0]), ROW_PX[2])
    return Frame(start_s, start_s + span_s, max(0, math.ceil(5 - math.log10(span_s))), row_px)


def _place(panels: Sequence[Panel], frame: Frame) -> int:
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


def _bars(panel: Panel, frame: Frame, late: Late) -> Iterator[dict]:
    """Yield one trace a kind; its bars are the segments of that kind."""
    for index, kind in enumerate(KINDS):
        of_kind = panel.bars["kind"] == index
        if of_kind.any():
            yield _bar_trace(panel, frame, late, kind, of_kind)


def _bar_trace(panel: Panel, frame: Frame, late: Late, kind: str, of_kind: np.ndarray) -> dict:
    look, bars = LOOKS[kind], panel.bars[of_kind]
    start_s, end_s = frame.short(bars["start_s"]), frame.short(bars["end_s"])
    edge = {"color": PAPER, "width": 1 if frame.row_px > 4 else 0.5} if kind == "prefill" else {"width": 0}
    height = look.height * (panel.queue_row if KINDS.index(kind) in QUEUED else 1)
    marker = {"color": look.colour, "opacity": look.opacity, "line": edge}
    if look.hatch:
        marker["pattern"] = {"shape": look.hatch, "fillmode": "replace", "size": 5, "solidity": 0.35}
        marker["line"] = {"color": look.colour, "width": 0.75}
    return {
        "type": "bar", "orientation": "h", "name": look.words, "legendgroup": kind, "yaxis": panel.axis,
        "base": start_s.tolist(), "x": frame.short(end_s - start_s).tolist(),
        "y": panel.row[of_kind].tolist(), "width": height, "offset": -height / 2, "marker": marker,
        "customdata": _hover_data(kind, bars, late, np.flatnonzero(of_kind)),
        "hovertemplate": HOVERS[kind] + "<extra></extra>", "legendrank": 100 + KINDS.index(kind),
    }  # fmt: skip


def _hover_data(kind: str, bars: np.ndarray, late: Late, index: np.ndarray) -> list[tuple]:
    lasts_ms = [float(f"{value:.4g}") for value in (1000 * (bars["end_s"] - bars["start_s"])).tolist()]
    columns: list[list] = [bars["request"].tolist(), lasts_ms]
    if kind == "decode":
        tokens = bars["tokens"].tolist()
        gaps = [float(f"{ms / max(count, 1):.4g}") for ms, count in zip(lasts_ms, tokens, strict=True)]
        columns += [tokens, gaps]
    if kind == "prefill":
        columns += _chunk_words(bars, late, index)
    return list(zip(*columns, strict=True))


def _chunk_words(bars: np.ndarray, late: Late, index: np.ndarray) -> list[list[str]]:
    """Return for each chunk its tokens, those of its prompt, which ones they are, and whom it delayed."""
    targets = late.targets[index].tolist()
    tokens, places = bars["tokens"].tolist(), bars["position"].tolist()
    which = [
        "" if count >= target else f" ({place + 1:,} to {place + count:,})"
        for count, place, target in zip(tokens, places, targets, strict=True)
    ]
    return [[f"{count:,}" for count in tokens], [f"{target:,}" for target in targets], which,
            late.delays(bars, index)]  # fmt: skip


class Late:
    """The late tokens of a panel, each with the bar it lies on and the chunk that delayed it."""

    def __init__(self, panel: Panel) -> None:
        bars, found = panel.bars, panel.timeline.late
        self.steps = panel.timeline.steps
        self.bars = bars
        self.targets = _targets(bars, panel.timeline.requests)
        on = _bar_at(bars, np.arange(bars.size), found["request"], found["time_s"])
        chunks = np.flatnonzero(bars["kind"] == PREFILL)
        cause = _bar_at(bars, chunks, found["cause"], found["time_s"])
        self.tokens, self.on, self.cause = found[on >= 0], on[on >= 0], cause[on >= 0]
        seen = self.cause >= 0  # the chunk may lie before the window
        self.count = np.bincount(self.cause[seen], minlength=bars.size)
        self.worst_ms = np.zeros(bars.size)
        np.maximum.at(self.worst_ms, self.cause[seen], self.tokens["delay_ms"][seen])
        stalled = bars[bars["kind"] == STALLED]
        self.stalls = np.sort(stalled["start_s"]), np.sort(stalled["end_s"])

    def marked(self) -> np.ndarray:
        """Return the tokens to mark: all, or the worst of each chunk, or the worst of those."""
        order = np.argsort(-self.tokens["delay_ms"], kind="stable")
        if order.size > LATE_MARKS:
            _, first = np.unique(self.cause[order], return_index=True)
            order = order[np.sort(first)][:LATE_MARKS]
        return order

    def delays(self, chunks: np.ndarray, index: np.ndarray) -> list[str]:
        """Return in words how many decodes each chunk delayed, and by how much."""
        start_s = chunks["start_s"] + SAME_S
        held = np.searchsorted(self.stalls[0], start_s, "right") - np.searchsorted(self.stalls[1], start_s)
        step = np.searchsorted(self.steps["start_s"].to_numpy(), start_s, "right") - 1
        beside = np.where(step >= 0, self.steps["decodes"].to_numpy()[step], 0)
        counts, worst = self.count[index].tolist(), self.worst_ms[index].tolist()
        return list(map(_delay_words, counts, worst, held.tolist(), beside.tolist()))


def _delay_words(late: int, worst_ms: float, held: int, beside: int) -> str:
    if late:
        return f"<br>delayed {_count(late, 'decode')} by {'' if late == 1 else 'up to '}{duration(worst_ms)}"
    if held:
        return f"<br>{_count(held, 'decode')} stood still meanwhile"
    return f"<br>with {_count(beside, 'decode')} in the step, none late" if beside else ""


def _count(amount: int, word: str) -> str:
    return f"{amount:,} {word}" + ("" if amount == 1 else "s")


def _targets(bars: np.ndarray, requests: Any) -> np.ndarray:
    """Return how many tokens each bar's prefill computes in all: more than the prompt after a preemption."""
    ids = requests["request_id"].to_numpy()
    prompts = np.zeros(max(bars["request"].max(initial=0), ids.max(initial=0)) + 1, np.int64)
    prompts[ids] = requests["prompt_tokens"].to_numpy()
    targets = np.maximum(prompts[bars["request"]], bars["position"] + bars["tokens"])
    chunk = np.flatnonzero(bars["kind"] == PREFILL)
    for here, following in zip(chunk[-2::-1], chunk[:0:-1], strict=True):  # a later chunk knows better
        if bars["request"][here] == bars["request"][following] and bars["position"][following] > 0:
            targets[here] = max(targets[here], targets[following])
    return targets


def _bar_at(bars: np.ndarray, among: np.ndarray, request: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """Return which of the bars `among` of a request began last before a time; -1 if none."""
    if not among.size or not request.size:
        return np.full(request.size, -1)
    chosen = bars[among]
    first_s = min(chosen["start_s"].min(), time_s.min())
    reach_s = max(chosen["start_s"].max(), time_s.max()) - first_s + 1.0
    keys = chosen["request"] * reach_s + (chosen["start_s"] - first_s)
    place = np.searchsorted(keys, request * reach_s + (time_s - first_s) - SAME_S, "right") - 1
    return np.where((place >= 0) & (chosen["request"][place] == request), among[place], -1)


# Marks


def _late_marks(panel: Panel, frame: Frame, late: Late) -> Iterator[dict]:
    """Yield a diamond on the bar for each late token, and a triangle above each chunk that caused some."""
    marked = late.marked()
    if not marked.size:
        return
    if marked.size < late.tokens.size:
        panel.notes.append("late tokens: the worst of each chunk")
    size = min(max(frame.row_px * 0.5, 3.5), 7)
    tokens, on, cause = late.tokens[marked], late.on[marked], late.cause[marked]
    of_chunk = np.where(cause >= 0, late.count[cause], 1)
    yield {
        "type": "scatter", "mode": "markers", "name": "late token", "legendgroup": "late",
        "yaxis": panel.axis, "x": frame.short(tokens["time_s"]).tolist(), "y": panel.row[on].tolist(),
        "legendrank": 200,
        "marker": {"symbol": "diamond", "size": size, **_ALARM},
        "text": _late_words(tokens, of_chunk, marked.size < late.tokens.size, panel.policy),
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    causes = np.unique(cause[cause >= 0])
    chunks = panel.bars[causes]
    yield {
        "type": "scatter", "mode": "markers", "name": "its cause", "legendgroup": "cause",
        "yaxis": panel.axis, "x": frame.short((chunks["start_s"] + chunks["end_s"]) / 2).tolist(),
        "legendrank": 201,
        "y": (panel.row[causes] - 0.5 - 0.3 * size / frame.row_px).tolist(), "cliponaxis": False,
        "marker": {"symbol": "triangle-down", "size": 1.25 * size, **_ALARM},
        "customdata": _hover_data("prefill", chunks, late, causes),
        "hovertemplate": HOVERS["prefill"] + "<extra></extra>",
    }  # fmt: skip


def _late_words(tokens: np.ndarray, of_chunk: np.ndarray, capped: bool, policy: str) -> list[str]:
    how = "went first" if policy == "prefill_first" else "was in the same step"
    texts = []
    for row, count in zip(tokens.tolist(), of_chunk.tolist(), strict=True):
        request, token, _, _, _, delay_ms, cause, cause_tokens = row
        text = (
            f"<b>Request {request}: token {token:,} came {duration(delay_ms)} late</b><br>"
            f"the prompt of request {cause} ({cause_tokens:,} tokens) {how}"
        )
        texts.append(text + (f"<br>and delayed {count - 1:,} more" if capped and count > 1 else ""))
    return texts


def _never_fit(panel: Panel, frame: Frame, rows: str) -> Iterator[dict]:
    """Yield a cross where a request arrives that never fits."""
    rejected = [int(request) for request in panel.timeline.rejected]
    if not rejected:
        return
    times_s = frame.short(np.clip(panel.timeline.rejected_s, frame.start_s, frame.end_s))
    row = rejected if rows == "requests" else [panel.never] * len(rejected)
    texts = [f"\u2002request {request} never fits\u2002" for request in rejected]
    if len(rejected) > 3 and rows != "requests":
        texts = [f"\u2002{len(rejected)} requests never fit\u2002", *[""] * (len(rejected) - 1)]
    right = times_s > frame.start_s + 0.8 * (frame.end_s - frame.start_s)
    yield {
        "type": "scatter", "mode": "markers+text", "name": "never fits", "legendgroup": "never",
        "yaxis": panel.axis, "x": times_s.tolist(), "y": row, "text": texts, "legendrank": 300,
        "textposition": ["middle left" if side else "middle right" for side in right.tolist()],
        "textfont": {"size": 12, "color": INK}, "cliponaxis": False,
        "customdata": rejected,
        "marker": {"symbol": "x-thin", "size": 8, "line": {"width": 2, "color": INK}},
        "hovertemplate": "<b>Request %{customdata} never fits</b><br>its prompt and answer need "
                         "more KV cache than there is<extra></extra>",
    }  # fmt: skip


def _name_once(data: list[dict]) -> None:
    """Let each kind stand in the legend once."""
    named: set[str] = set()
    for trace in data:
        trace["showlegend"] = trace["name"] not in named
        named.add(trace["name"])


# Words and lines on the panels


def policy_style(policy: str) -> tuple[str, str, str]:
    """Return colour, dash and marker of a policy, the same on every page."""
    return style(FIELDS["policy"].choices.index(policy))


def policy_words(policy: str) -> str:
    """Return a policy's name for people."""
    return policy.replace("_", " ")


def _panel_words(panel: Panel, frame: Frame, rows: str) -> list[dict]:
    """Return a panel's title: the policy, how it fared, and what is left out."""
    colour, _, _ = policy_style(panel.policy)
    common = {"xref": "paper", "yref": "paper", "y": panel.domain[1], "yanchor": "bottom", "showarrow": False}
    name = f'<span style="color:{colour}">▌</span><b>{policy_words(panel.policy)}</b>'
    left = common | {"text": name, "x": 0, "xanchor": "left", "yshift": 3, "xshift": -4,
                     "font": {"size": 15}}  # fmt: skip
    right = common | {"text": " · ".join([*_fared(panel), *panel.notes]), "x": 1, "xanchor": "right",
                      "yshift": 4, "font": {"size": 12, "color": MUTED}, "name": "wide"}  # fmt: skip
    return [left, right]


def _fared(panel: Panel) -> list[str]:
    """Return how a policy fared, in a few words."""
    metrics = panel.timeline.summary.get("metrics", {})
    words = [f"{name} p99 {duration(metrics[key]['p99'])}" for key, name in
             (("ttft_ms", "TTFT"), ("itl_ms", "ITL")) if key in metrics]  # fmt: skip
    if "output_tok_per_s" in metrics:
        words.append(f"{number(metrics['output_tok_per_s'])} tok/s")
    if panel.timeline.padding_frac > 0:
        words.append(f"{number(100 * panel.timeline.padding_frac, 2)} % padding")
    return words


def _divider(panel: Panel) -> dict:
    return {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": panel.axis, "y0": panel.divide,
        "y1": panel.divide, "line": {"color": MUTED, "width": 1}, "layer": "below",
    }  # fmt: skip


def _layout(panels: Sequence[Panel], frame: Frame, revision: str) -> dict:
    pad_s = 0.012 * (frame.end_s - frame.start_s)
    limits = [frame.start_s - pad_s, frame.end_s + pad_s]
    last = len(panels) + len(METRICS)
    layout = {
        "margin": MARGIN, "hovermode": "closest", "dragmode": "zoom", "barmode": "overlay",
        "uirevision": revision, "hoverdistance": 12,
        "xaxis": {
            "title": {"text": "Time [s]"}, "autorange": True, "minallowed": limits[0],
            "maxallowed": limits[1],  # a range of its own would take the visitor's zoom away when runs differ
            "autorangeoptions": {"minallowed": limits[0], "maxallowed": limits[1]},
            "anchor": f"y{last}", "separatethousands": True, "exponentformat": "none",
        },
        "legend": {"orientation": "h", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom",
                   "tracegroupgap": 2, "itemsizing": "constant", "font": {"size": 12}, "itemwidth": 30},
    }  # fmt: skip
    for panel in panels:
        values, texts = panel.ticks
        layout["yaxis" + panel.axis[1:]] = {
            "domain": list(panel.domain), "range": [panel.rows[1], panel.rows[0]], "fixedrange": True,
            "tickvals": values, "ticktext": texts, "showgrid": False, "tickfont": {"size": 11},
            "anchor": "x", "automargin": False,
        }  # fmt: skip
    return layout


# Lines beneath


def _metrics(panels: Sequence[Panel], frame: Frame, height: int) -> dict[str, Any]:
    """Return axes, traces and words of the small panels, one step-line a policy in each."""
    inner = height - MARGIN["t"] - MARGIN["b"]
    top = 1 - panels[-1].domain[0] + GAP_PX / inner
    found: dict[str, Any] = {"axes": {"legend2": _policy_legend(1 - top)}, "data": []}
    found |= {"annotations": [], "shapes": []}
    for index, (column, title, unit) in enumerate(METRICS):
        name = f"y{len(panels) + index + 1}"
        top += (METRIC_TITLE_PX + METRIC_PX) / inner
        domain = (max(1 - top, 0.0), 1 - top + METRIC_PX / inner)
        lines = {panel.policy: _step_line(panel.timeline, column) for panel in panels}
        highest = max(float(values.max(initial=1)) for _, values in lines.values())
        if column == "kv_blocks_used":
            blocks = panels[0].timeline.kv_blocks
            title += f", of {number(blocks)}"
            if highest >= 0.3 * blocks:
                found["shapes"].append(_capacity(name, blocks))
                title, highest = title + " (dotted)", max(highest, blocks)
        axis = _logarithmic(highest) if column == "step_tokens" else _linear(highest)
        found["axes"]["yaxis" + name[1:]] = axis | {"domain": list(domain)}
        found["annotations"].append(_metric_title(title, domain[1]))
        for policy, line in lines.items():
            found["data"].append(_metric_trace(policy, line, unit, name, frame, index == 0))
    return found


_METRIC_AXIS = {
    "fixedrange": True, "tickfont": {"size": 11}, "anchor": "x", "automargin": False,
    "separatethousands": True, "exponentformat": "none",
}  # fmt: skip


def _linear(highest: float) -> dict:
    ticks = {"dtick": 1} if highest <= 3 else {"nticks": 3}
    return _METRIC_AXIS | {"range": [-0.05 * highest, 1.1 * highest]} | ticks


def _logarithmic(highest: float) -> dict:
    """Return an axis from 1 on: one token in a step and a hundred thousand are both to be seen."""
    powers = math.ceil(math.log10(highest * 1.3))
    ticks = [10**power for power in range(0, powers + 1, math.ceil(powers / 3) or 1)]
    words = {"tickvals": ticks, "ticktext": [number(tick) for tick in ticks]}
    return _METRIC_AXIS | {"type": "log", "range": [-0.1, math.log10(highest * 1.5)]} | words


def _metric_title(text: str, y: float) -> dict:
    return {
        "text": text, "xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": y, "xshift": -2,
        "yanchor": "bottom", "showarrow": False, "font": {"size": 12, "color": MUTED},
    }  # fmt: skip


def _policy_legend(y: float) -> dict:
    return {
        "orientation": "h", "x": 1, "xanchor": "right", "y": y, "yanchor": "top", "font": {"size": 12},
        "bgcolor": "rgba(0,0,0,0)",
    }  # fmt: skip


def _capacity(axis: str, blocks: int) -> dict:
    return {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": axis, "y0": blocks, "y1": blocks,
        "line": {"color": MUTED, "width": 1.5, "dash": "dot"},
    }  # fmt: skip


def _step_line(timeline: Timeline, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a line: each row of the log from its start on, nought while nothing runs.

    The queue changes within a row of equal steps, so its line comes from the bars that wait.
    """
    if column == "waiting":
        return _thinned(*queue_line(timeline))
    steps = timeline.steps
    start_s = steps["start_s"].to_numpy()
    end_s = start_s + steps["duration_s"].to_numpy()
    rests_s = end_s[np.append(start_s[1:], np.inf) > end_s + SAME_S]
    times_s = np.concatenate([start_s, rests_s])
    values = np.concatenate([steps[column].to_numpy(), np.zeros(rests_s.size, np.int64)])
    order = np.argsort(times_s, kind="stable")
    return _thinned(times_s[order], values[order])


def queue_line(timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """Return when the number of requests outside the batch changes, and to what."""
    return _count_line(timeline, QUEUED)


def _count_line(timeline: Timeline, kinds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return when the number of bars of some kinds changes, and to what."""
    bars = timeline.segments[np.isin(timeline.segments["kind"], kinds)]
    ends_s = [timeline.start_s, timeline.end_s]
    times_s = np.round(np.concatenate([bars["start_s"], bars["end_s"], ends_s]), 7)
    moments, place = np.unique(times_s, return_inverse=True)
    change = np.concatenate([np.ones(bars.size), -np.ones(bars.size), [0, 0]])
    return moments, np.cumsum(np.bincount(place, change)).astype(np.int64)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a line's corners: all, or the highest of each of many stretches."""
    if x.size <= POINTS:
        return x, y
    edges = np.linspace(0, x.size, POINTS + 1).astype(np.int64).tolist()
    kept = np.array([start + int(np.argmax(y[start:end])) for start, end in pairwise(edges)])
    return x[kept], y[kept]


def _metric_trace(
    policy: str, line: tuple[np.ndarray, np.ndarray], unit: str, axis: str, frame: Frame, named: bool
) -> dict:
    colour, dash, _ = policy_style(policy)
    words = policy_words(policy)
    return {
        "type": "scatter", "mode": "lines", "name": words, "legendgroup": f"policy {policy}",
        "legend": "legend2", "showlegend": named, "yaxis": axis, "x": frame.short(line[0]).tolist(),
        "y": line[1].tolist(), "line": {"color": colour, "width": 1.75, "dash": dash, "shape": "hv"},
        "hovertemplate": f"<b>{words}</b><br>%{{y:,}} {unit} at %{{x:,.4~r}} s<extra></extra>",
    }  # fmt: skip


# The player


def _player(panels: Sequence[Panel], frame: Frame) -> dict[str, Any] | None:
    """Return what the player needs to say what happens at any moment; None if the run is too long for it."""
    if sum(len(panel.timeline.steps) for panel in panels) > PLAYED_ROWS:
        return None
    policies = [_played(panel.timeline, panel.policy) for panel in panels]
    return {"start": _moment(frame.start_s), "end": _moment(frame.end_s), "policies": policies}


def _moment(time_s: float) -> float:
    return round(float(time_s), 7)


def _moments(times_s: Any) -> list[float]:
    return np.round(np.asarray(times_s, float), 7).tolist()


def _played(timeline: Timeline, policy: str) -> dict[str, Any]:
    """Return a policy's steps as columns, whose prompts they hold, and how many decode, pad and wait when."""
    steps, done_s = timeline.steps, timeline.requests["finished_s"].to_numpy()
    count, growth_s = steps["count"].to_numpy(), steps["growth_s"].to_numpy()
    first_s = steps["duration_s"].to_numpy() / count - 0.5 * growth_s * (count - 1)
    over = done_s <= timeline.end_s + SAME_S
    found: dict[str, Any] = {name: steps[name].tolist() for name in ("count", "decodes", "prefill_tokens")}
    for name, kinds in (("decoding", [DECODE]), ("padding", [IDLE]), ("queue", QUEUED)):
        times_s, values = _count_line(timeline, kinds)
        found[name] = [_moments(times_s), values.tolist()]
    return found | {
        "name": policy_words(policy), "colour": policy_style(policy)[0], "start": _moments(steps["start_s"]),
        "first": [float(f"{value:.9g}") for value in first_s.tolist()],
        "growth": [float(f"{value:.9g}") for value in growth_s.tolist()],
        "who": _largest_prompt(timeline), "prompt_ends": _moments(prompt_ends_s(timeline)),
        "done": _moments(np.sort(done_s[over & (done_s > timeline.start_s)])), "over": bool(over.all()),
        "from": _moment(max(timeline.requests["arrival_s"].min(), timeline.start_s)),
        "end": _moment(timeline.end_s),
    }  # fmt: skip


def _largest_prompt(timeline: Timeline) -> dict[str, list[int]]:
    """Return for each row of steps with prompts the request with the most tokens, and how many prompts."""
    chunks = timeline.segments[timeline.segments["kind"] == PREFILL]
    row = np.searchsorted(timeline.steps["start_s"].to_numpy(), chunks["start_s"] + SAME_S, "right") - 1
    found: dict[str, list[int]] = {}
    order = np.lexsort((chunks["request"], -chunks["tokens"]))
    for index, request in zip(row[order].tolist(), chunks["request"][order].tolist(), strict=True):
        found.setdefault(str(index), [request, 0])[1] += 1
    return found


def prompt_ends_s(timeline: Timeline) -> np.ndarray:
    """Return when prefills were complete, each of which gives a token [s]."""
    bars = _in_order(timeline.segments)
    chunk = bars["kind"] == PREFILL
    followed = np.append((bars["request"][1:] == bars["request"][:-1]) & chunk[1:], False)
    whole = bars["position"] + bars["tokens"] >= _targets(bars, timeline.requests)
    return np.sort(bars["end_s"][chunk & ~followed & whole])


# Words


def sentence(timelines: Mapping[str, Timeline]) -> str:
    """Return the picture in one sentence."""
    if not timelines:
        return "Nothing to show."
    parts = []
    for policy, timeline in timelines.items():
        late = len(timeline.late)
        end = duration(1000 * timeline.end_s)
        parts.append(f"{policy_words(policy)} ends at {end} with {_count(late, 'late token')}")
    requests = max(len(np.unique(timeline.segments["request"])) for timeline in timelines.values())
    return f"What {_count(requests, 'request')} do over time, by scheduling policy: {'; '.join(parts)}."
