"""What the browser needs to play a timeline without the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim_core.results.story import DECODE, IDLE, PREFILL, QUEUED
from sim_core.results.timeline import Timeline
from sim_core.view.batching.gantt.late import Panel, late_targets
from sim_core.view.batching.gantt.metrics import count_line
from sim_core.view.batching.gantt.parts import SAME_S, PanelFrame, in_order, policy_style, policy_words

PLAYED_ROWS = 20_000  # rows of the step logs that the player can follow

# The player


def player(panels: Sequence[Panel], frame: PanelFrame) -> dict[str, Any] | None:
    """Return what the player needs to say what happens at any moment; None if the run is too long for it."""
    if sum(len(panel.timeline.steps) for panel in panels) > PLAYED_ROWS:
        return None
    policies = [_played(panel.timeline, panel.policy) for panel in panels]
    return {"start": _moment(frame.start_s), "end": _moment(frame.end_s), "policies": policies}


def _moment(time_s: float) -> float:
    return round(float(time_s), 7)


def _moments(times_s: np.ndarray) -> list[float]:
    return np.round(np.asarray(times_s, float), 7).tolist()


def _played(timeline: Timeline, policy: str) -> dict[str, Any]:
    """Return a policy's steps as columns, whose prompts they hold, and how many decode, pad and wait when."""
    steps, done_s = timeline.steps, timeline.requests["finished_s"].to_numpy()
    count, growth_s = steps["count"].to_numpy(), steps["growth_s"].to_numpy()
    first_s = steps["duration_s"].to_numpy() / count - 0.5 * growth_s * (count - 1)
    over = done_s <= timeline.end_s + SAME_S
    found: dict[str, Any] = {name: steps[name].tolist() for name in ("count", "decodes", "prefill_tokens")}
    for name, kinds in (("decoding", [DECODE]), ("padding", [IDLE]), ("queue", QUEUED)):
        times_s, values = count_line(timeline, kinds)
        found[name] = [_moments(times_s), values.tolist()]
    return found | {
        "name": policy_words(policy),
        "colour": policy_style(policy)[0],
        "start": _moments(steps["start_s"]),
        "first": [float(f"{value:.9g}") for value in first_s.tolist()],
        "growth": [float(f"{value:.9g}") for value in growth_s.tolist()],
        "who": _largest_prompt(timeline),
        "prompt_ends": _moments(prompt_ends_s(timeline)),
        "done": _moments(np.sort(done_s[over & (done_s > timeline.start_s)])),
        "over": bool(over.all()),
        "from": _moment(max(timeline.requests["arrival_s"].min(), timeline.start_s)),
        "end": _moment(timeline.end_s),
    }


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
    bars = in_order(timeline.segments)
    chunk = bars["kind"] == PREFILL
    followed = np.append((bars["request"][1:] == bars["request"][:-1]) & chunk[1:], False)
    whole = bars["position"] + bars["tokens"] >= late_targets(bars, timeline.requests)
    return np.sort(bars["end_s"][chunk & ~followed & whole])
