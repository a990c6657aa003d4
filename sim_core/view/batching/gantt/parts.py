"""The pieces of a timeline: panels, rows, and how each kind of bar looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim_core.scenario.scenario import FIELDS
from sim_core.view.drawing.figures import MUTED, PAPER, style

GANTT_PX = (490, 720)  # height that all rows share: usual, and most for many rows
ROW_PX = (2.0, 3.4, 15.0)  # of a row: least, least unless there are many, most
METRIC_PX, TITLE_PX, METRIC_TITLE_PX, LEAST_PX = 52, 34, 26, 44
MARGIN = {"l": 58, "r": 14, "t": 44, "b": 46}

BARS = 4000  # bars in a panel; the shortest beyond that are left out
ROWS = 160  # rows in a panel
QUEUE_ROWS, QUEUE_ROW = 40, 0.6  # places of the queue that are drawn, each lower than a slot

# Late tokens and their cause: Okabe-Ito's yellow.
ALARM = {"color": "#F0E442", "line": {"width": 0.75, "color": "#8a6d00"}}
FOUND = {"color": "#009E73", "line": {"width": 0.5, "color": PAPER}}  # what the prefix cache had
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


@dataclass(frozen=True, slots=True)
class PanelFrame:
    """The time axis that all panels share, and the height of a row."""

    start_s: float
    end_s: float
    decimals: int
    row_px: float = 10.0

    def short(self, times_s: np.ndarray) -> np.ndarray:
        """Return times with as many decimals as can be seen."""
        return np.round(np.asarray(times_s, float), self.decimals)


def in_order(segments: np.ndarray) -> np.ndarray:
    return segments[np.lexsort((segments["start_s"], segments["request"]))]


def policy_style(policy: str) -> tuple[str, str, str]:
    """Return colour, dash and marker of a policy, the same on every page."""
    return style(FIELDS["policy"].choices.index(policy))


def policy_words(policy: str) -> str:
    """Return a policy's name for people."""
    return policy.replace("_", " ")
