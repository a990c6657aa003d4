"""The step log as a picture in time: which request does what, when, and what made a token late.

`timelines` runs the same requests under each policy on one engine and reads everything from the log: bars
of waiting, prefill and decode, lanes for them, and the tokens that a prompt delayed. `Timeline.window`
cuts a piece out of a long run. All times are on the engine's clock, in seconds from the start of the run;
a client sees a token a little later (`Price.request_after_s`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.results.lanes import deal_lanes
from sim_core.results.story import (
    DECODE,
    IDLE,
    INSTANT_S,
    LATE_RATIO,
    PREFILL,
    STALLED,
    Decode,
    Story,
    first_delay_s,
)
from sim_core.results.use import padding_frac
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.sessions import has_sessions

POLICIES = ("static", "prefill_first", "chunked")
SEGMENT = np.dtype(
    [
        ("request", np.int64),
        ("kind", np.int64),  # position in KINDS
        ("start_s", np.float64),
        ("end_s", np.float64),
        ("tokens", np.int64),  # of a prefill's chunk, made by a decode
        ("position", np.int64),  # of a prefill: tokens computed before the chunk
        ("lane", np.int64),  # a slot of the batch, or behind these a place in the queue
        ("found", np.int64),  # of a prefill: tokens before its first chunk that the prefix cache had
    ]
)
LATE = np.dtype(
    [
        ("request", np.int64),
        ("token", np.int64),  # which token of the answer, from 1
        ("time_s", np.float64),
        ("gap_ms", np.float64),
        ("usual_ms", np.float64),  # the same step without the prompts
        ("delay_ms", np.float64),
        ("cause", np.int64),  # the request with the largest chunk in between
        ("cause_tokens", np.int64),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """One policy at work, cut to a span of time.

    Attributes
    ----------
    segments : ndarray of SEGMENT
        Bars in order of their start. A prefill has one for each chunk; a decode one for each stretch
        without an interruption. `stalled` requests run, but the steps hold other prompts only; `paused`
        ones were preempted and compute again; `swapped` ones come back from host memory; `idle` slots are
        held by a static batch although their request has finished.
    late : ndarray of LATE
        Tokens whose gap prompts stretched to 1.5 times the usual one or more, in order of time.
    steps : DataFrame
        The step log, with `step_tokens` and `waiting`; rows are runs of equal steps.
    slots, queue_lanes : int
        Lanes 0 .. slots-1 are slots of the batch, the `queue_lanes` behind them places in the queue.
    requests : DataFrame
        The requests of the span: ``request_id, arrival_s, prompt_tokens, output_tokens, first_token_s,
        finished_s, preemptions``.
    rejected : ndarray of int
        Requests that can never fit, by id.
    summary : dict
        Latencies and rates over all requests of the run (no warm-up is left out), as `summarize` nests them.
    padding_frac : float
        Share of the slot-steps of static batches that finished requests held, as in `use.padding_frac`.
    """

    scenario: Scenario
    policy: str
    segments: np.ndarray
    late: np.ndarray
    steps: pd.DataFrame
    slots: int
    queue_lanes: int
    kv_blocks: int
    start_s: float
    end_s: float
    requests: pd.DataFrame
    rejected: np.ndarray
    summary: dict[str, Any]
    padding_frac: float
    story: Story = field(repr=False)

    @property
    def rejected_s(self) -> np.ndarray:
        """When the requests that can never fit arrive [s]."""
        return self.story.run.arrival_s[self.rejected]

    def window(self, start_s: float, end_s: float) -> Timeline:
        """Return the timeline from `start_s` to `end_s`; lanes are dealt anew."""
        return _cut(self.story, start_s, end_s)


def timelines(scenario: Scenario, start_s: float = 0.0, end_s: float = math.inf) -> dict[str, Timeline]:
    """Return the scenario's requests under each of `policies_for` it, on one engine, for a span of time.

    Raises
    ------
    ScenarioError
        If the model does not fit, or no request does.
    """
    return {policy: timeline(scenario, policy, start_s, end_s) for policy in policies_for(scenario)}


def policies_for(scenario: Scenario) -> tuple[str, ...]:
    """Return the policies under which a scenario's requests can run: static batches know no sessions."""
    return POLICIES[1:] if has_sessions(scenario) and scenario.arrivals != "trace" else POLICIES


def timeline(
    scenario: Scenario, policy: str | None = None, start_s: float = 0.0, end_s: float = math.inf
) -> Timeline:
    """Return the scenario's requests under a policy, its own unless another is named, on one engine."""
    story = _story(logged_scenario(scenario, policy or scenario.policy))
    return _cut(story, min(start_s, story.end_s), min(end_s, story.end_s))


def run_ends_s(scenario: Scenario) -> dict[str, float]:
    """Return when the scenario's requests are done under each policy [s]."""
    return {policy: _story(logged_scenario(scenario, policy)).end_s for policy in policies_for(scenario)}


def logged_scenario(scenario: Scenario, policy: str) -> Scenario:
    """Return the scenario whose step log a timeline shows: one replica, the named policy."""
    check_one_scheduler(scenario)
    return scenario.replace(policy=policy, replicas=1)


def check_one_scheduler(scenario: Scenario) -> None:
    """Raise a `ScenarioError` where a scenario's engine has several schedulers, each with its own steps."""
    ranks = scenario.attention_data_parallel
    if ranks > 1:
        raise ScenarioError(
            f"attention_data_parallel is {ranks}: each rank has its own scheduler, and this view shows one. "
            "Set attention_data_parallel to 1, or save the steps of all ranks with --steps-out."
        )


@lru_cache(maxsize=24)
def _story(scenario: Scenario) -> Story:
    return Story(run(scenario, itl_max=True, log=True))


# --- a span of time ---------------------------------------------------------------------------------


def _cut(story: Story, start_s: float, end_s: float) -> Timeline:
    """Return the part of a story from `start_s` to `end_s`."""
    segments = np.fromiter(_segments(story, start_s, end_s), SEGMENT)
    segments = segments[np.lexsort((segments["request"], segments["start_s"]))]
    slots, queue_lanes = deal_lanes(segments)
    _shorten(story, segments, start_s, end_s)
    late = np.fromiter(_late(story, start_s, end_s), LATE)
    inside = (story.row_end_s > start_s) & (story.log["start_s"] < end_s)
    found = story.run
    ids = np.flatnonzero(found.rejected)
    return Timeline(
        scenario=found.scenario,
        policy=found.scenario.policy,
        segments=segments,
        late=late[np.lexsort((late["request"], late["time_s"]))],
        steps=_steps(story)[inside],
        slots=slots,
        queue_lanes=queue_lanes,
        kv_blocks=found.price.kv_blocks,
        start_s=start_s,
        end_s=end_s,
        requests=_requests(story, np.unique(segments["request"])),
        rejected=ids[(found.arrival_s[ids] >= start_s) & (found.arrival_s[ids] <= end_s)],
        summary=story.summary,
        padding_frac=padding_frac(found),
        story=story,
    )


def _shorten(story: Story, segments: np.ndarray, start_s: float, end_s: float) -> None:
    """Cut bars to a span, in place; a decode that is cut keeps the tokens that came inside."""
    cut = (segments["start_s"] < start_s) | (segments["end_s"] > end_s)
    segments["start_s"] = np.maximum(segments["start_s"], start_s)
    segments["end_s"] = np.minimum(segments["end_s"], end_s)
    decodes = cut & (segments["kind"] == DECODE)
    until = (
        np.searchsorted(story.steps.end_s, segments[side][decodes] + INSTANT_S, "right")
        for side in ("end_s", "start_s")
    )
    segments["tokens"][decodes] = np.subtract(*until)


def _steps(story: Story) -> pd.DataFrame:
    table = pd.DataFrame(story.log)
    table["step_tokens"] = table["decodes"] + table["prefill_tokens"]
    table["waiting"] = story.run.waiting()
    return table


def _requests(story: Story, ids: np.ndarray) -> pd.DataFrame:
    """Return requests with the times of the engine's clock."""
    engine, place = story.run.engine, np.searchsorted(story.ids, ids)
    columns = ("arrival_s", "first_token_s", "finished_s", "preemptions")
    table = {name: getattr(engine, name)[place] for name in columns}
    lengths = {name: getattr(story.run, name)[ids] for name in ("prompt_tokens", "output_tokens")}
    return pd.DataFrame({"request_id": ids, **table, **lengths})


def _segments(story: Story, start_s: float, end_s: float) -> Iterator[tuple[Any, ...]]:
    """Yield the bars that overlap a span, uncut; those that take no time are left out."""

    def overlaps(first_s: float, last_s: float) -> bool:
        return last_s > first_s and last_s > start_s and first_s < end_s

    for request, kind, first_s, last_s in story.waits:
        if overlaps(first_s, last_s):
            yield request, kind, first_s, last_s, 0, 0, 0, 0
    log_start_s, row_end_s = story.log["start_s"], story.row_end_s
    for request, row, computed, tokens, _, found in story.chunks:
        if overlaps(log_start_s[row], row_end_s[row]):
            yield request, PREFILL, log_start_s[row], row_end_s[row], tokens, computed, 0, found
    stalls = np.flatnonzero(story.stall_s > 0)
    for decode in story.decodes:
        if overlaps(decode.start_s, decode.end_s):
            yield from (bar for bar in _stretch(story, decode, stalls) if overlaps(bar[2], bar[3]))
    if story.run.scenario.policy == "static":
        done_s = dict(zip(story.ids.tolist(), story.run.engine.finished_s.tolist(), strict=True))
        for request, last_s in story.batch_end_s.items():
            if overlaps(done_s[request], last_s):
                yield request, IDLE, done_s[request], last_s, 0, 0, 0, 0


def _stretch(story: Story, decode: Decode, stalls: np.ndarray) -> Iterator[tuple[Any, ...]]:
    """Yield the bars of a stretch: decode, and stalled where steps without decodes lie between."""
    first, last = decode.first, decode.last
    own = stalls[np.searchsorted(stalls, first + 1) : np.searchsorted(stalls, last)].tolist()
    edges = [first, *own, last]
    from_s = decode.start_s
    for start, end in pairwise(edges):
        start_s, end_s = story.steps.start_s[start], story.steps.end_s[end - 1]
        if start_s - from_s > INSTANT_S + 1e-9 * story.step_s[start]:
            yield decode.request, STALLED, from_s, start_s, 0, 0, 0, 0
            from_s = start_s
        yield decode.request, DECODE, from_s, end_s, end - start, 0, 0, 0
        from_s = end_s
    if decode.end_s - from_s > INSTANT_S + 1e-9 * story.step_s[last - 1]:
        yield decode.request, STALLED, from_s, decode.end_s, 0, 0, 0, 0


def _late(story: Story, start_s: float, end_s: float) -> Iterator[tuple[Any, ...]]:
    """Yield the tokens of a span that prompts made late."""
    usual_s = story.late_steps[1]
    request, tokens = story.biggest_chunk
    for decode, step, by_s, from_row in _late_places(story, start_s, end_s):
        at = from_row + int(np.argmax(tokens[from_row : story.steps.row[step] + 1]))
        yield (
            decode.request, decode.token + step - decode.first + 1, story.steps.end_s[step],
            (usual_s[step] + by_s) * 1e3, usual_s[step] * 1e3, by_s * 1e3, request[at], tokens[at],
        )  # fmt: skip


def _late_places(story: Story, start_s: float, end_s: float) -> Iterator[tuple[Decode, int, float, int]]:
    """Yield each late token of a span: its stretch and step, the delay [s], and the log row it starts from.

    The first step of a stretch knows only what came after its own prompt; all others share their delay.
    """
    delay_s, usual_s = story.late_steps
    slow = np.flatnonzero(delay_s >= (LATE_RATIO - 1) * usual_s)
    inside = (story.steps.end_s[slow] > start_s) & (story.steps.end_s[slow] <= end_s)
    slow = slow[inside]
    own_delay_s, row, from_row = (
        values.tolist() for values in (delay_s[slow], slow, story.steps.row[slow - 1] + 1)
    )
    for decode in story.decodes:
        if decode.end_s <= start_s or decode.start_s >= end_s:
            continue
        first = decode.first
        if decode.fresh and start_s < story.steps.end_s[first] <= end_s:
            by_s = first_delay_s(story, decode)
            if by_s >= (LATE_RATIO - 1) * usual_s[first] > 0:
                yield decode, first, by_s, decode.row + 1
        for place in range(bisect_left(row, first + 1), bisect_left(row, decode.last)):
            yield decode, row[place], own_delay_s[place], from_row[place]
