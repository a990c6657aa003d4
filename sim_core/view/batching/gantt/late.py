"""Late tokens: the marks on a timeline, and the prompt that delayed each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sim_core.fields.texts import counted
from sim_core.results.story import PREFILL, STALLED
from sim_core.results.timeline import Timeline
from sim_core.view.batching.gantt.parts import ALARM, HOVERS, SAME_S, PanelFrame
from sim_core.view.drawing.marks import scatter
from sim_core.view.drawing.words import duration

LATE_MARKS = 120  # marks in a panel; with more, only the worst token of each chunk is marked


def _delay_words(late: int, worst_ms: float, held: int, beside: int) -> str:
    if late:
        most = "" if late == 1 else "up to "
        return f"<br>delayed {counted(late, 'decode')} by {most}{duration(worst_ms)}"
    if held:
        return f"<br>{counted(held, 'decode')} stood still meanwhile"
    return f"<br>with {counted(beside, 'decode')} in the step, none late" if beside else ""


def late_targets(bars: np.ndarray, requests: pd.DataFrame) -> np.ndarray:
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


def late_marks(panel: Panel, frame: PanelFrame, late: Late) -> Iterator[dict]:
    """Yield a diamond on the bar for each late token, and a triangle above each chunk that caused some."""
    marked = late.marked()
    if not marked.size:
        return
    if marked.size < late.tokens.size:
        panel.notes.append("late tokens: the worst of each chunk")
    size = min(max(frame.row_px * 0.5, 3.5), 7)
    tokens, on, cause = late.tokens[marked], late.on[marked], late.cause[marked]
    of_chunk = np.where(cause >= 0, late.count[cause], 1)
    yield scatter(
        frame.short(tokens["time_s"]).tolist(),
        panel.row[on].tolist(),
        mode="markers",
        name="late token",
        legendgroup="late",
        yaxis=panel.axis,
        legendrank=200,
        marker={"symbol": "diamond", "size": size, **ALARM},
        text=_late_words(tokens, of_chunk, marked.size < late.tokens.size, panel.policy),
        hovertemplate="%{text}<extra></extra>",
    )
    causes = np.unique(cause[cause >= 0])
    chunks = panel.bars[causes]
    yield scatter(
        frame.short((chunks["start_s"] + chunks["end_s"]) / 2).tolist(),
        (panel.row[causes] - 0.5 - 0.3 * size / frame.row_px).tolist(),
        mode="markers",
        name="its cause",
        legendgroup="cause",
        yaxis=panel.axis,
        legendrank=201,
        cliponaxis=False,
        marker={"symbol": "triangle-down", "size": 1.25 * size, **ALARM},
        customdata=hover_data("prefill", chunks, late, causes),
        hovertemplate=HOVERS["prefill"] + "<extra></extra>",
    )


def _late_words(tokens: np.ndarray, of_chunk: np.ndarray, capped: bool, policy: str) -> list[str]:
    how = "went first" if policy == "prefill_first" else "was in the same step"
    texts = []
    for row, count in zip(tokens.tolist(), of_chunk.tolist(), strict=True):
        request, token, _, _, _, delay_ms, cause, cause_tokens = row
        text = (
            f"<b>Request {request}: token {token:,} came {duration(delay_ms)} late</b><br>"
            f"the prompt of request {cause} ({counted(cause_tokens, 'token')}) {how}"
        )
        texts.append(text + (f"<br>and delayed {count - 1:,} more" if capped and count > 1 else ""))
    return texts


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


class Late:
    """The late tokens of a panel, each with the bar it lies on and the chunk that delayed it."""

    def __init__(self, panel: Panel) -> None:
        bars, found = panel.bars, panel.timeline.late
        self.steps = panel.timeline.steps
        self.bars = bars
        self.targets = late_targets(bars, panel.timeline.requests)
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


def hover_data(kind: str, bars: np.ndarray, late: Late, index: np.ndarray) -> list[tuple]:
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
    return [
        [f"{count:,}" for count in tokens],
        [f"{target:,}" for target in targets],
        which,
        late.delays(bars, index),
    ]
