"""The step log as a picture in time: which request does what, when, and what made a token late.

`timelines` runs the same requests under each policy on one engine and reads everything from the log: bars
of waiting, prefill and decode, lanes for them, and the tokens that a prompt delayed. `Timeline.window`
cuts a piece out of a long run. All times are on the engine's clock, in seconds from the start of the run;
a client sees a token a little later (`Price.request_after_s`).
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim_core.engine.kernels import records
from sim_core.engine.run import Run, Steps, each_step, run
from sim_core.price import cost, step_cost
from sim_core.results.metrics import QUANTILES, padding_frac
from sim_core.scenario.scenario import Scenario

POLICIES = ("static", "prefill_first", "chunked")
KINDS = ("waiting", "prefill", "decode", "stalled", "paused", "swapped", "idle")
WAITING, PREFILL, DECODE, STALLED, PAUSED, SWAPPED, IDLE = range(len(KINDS))
QUEUED = (WAITING, PAUSED, SWAPPED)
LATE_RATIO = 1.5
INSTANT_S = 1e-12

SEGMENT = np.dtype(
    [
        ("request", np.int64),
        ("kind", np.int64),  # position in KINDS
        ("start_s", np.float64),
        ("end_s", np.float64),
        ("tokens", np.int64),  # of a prefill's chunk, made by a decode
        ("position", np.int64),  # of a prefill: tokens computed before the chunk
        ("lane", np.int64),  # a slot of the batch, or behind these a place in the queue
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
        Share of the slot-steps of static batches that finished requests held, as in `metrics.padding_frac`.
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
    """Return the scenario's requests under each of `POLICIES`, on one engine, from `start_s` to `end_s`.

    Raises
    ------
    ScenarioError
        If the model does not fit, or no request does.
    """
    return {policy: timeline(scenario, policy, start_s, end_s) for policy in POLICIES}


def timeline(
    scenario: Scenario, policy: str | None = None, start_s: float = 0.0, end_s: float = math.inf
) -> Timeline:
    """Return the scenario's requests under a policy, its own unless another is named, on one engine."""
    story = _story(logged_scenario(scenario, policy or scenario.policy))
    return _cut(story, min(start_s, story.end_s), min(end_s, story.end_s))


def run_ends_s(scenario: Scenario) -> dict[str, float]:
    """Return when the scenario's requests are done under each policy [s]."""
    return {policy: _story(logged_scenario(scenario, policy)).end_s for policy in POLICIES}


def logged_scenario(scenario: Scenario, policy: str) -> Scenario:
    """Return the scenario whose step log a timeline shows: one replica, the named policy."""
    return scenario.replace(policy=policy, replicas=1)


@lru_cache(maxsize=24)
def _story(scenario: Scenario) -> Story:
    return Story(run(scenario, itl_max=True, log=True))


class Decode(NamedTuple):
    """A stretch of decode steps of one request, from step `first` to before step `last`.

    `row` is the log row after which it starts, at `start_s`; `token` counts the request's tokens made until
    then. A stretch is `fresh` if that row made the token before, not if it returns from host memory.
    """

    request: int
    first: int
    last: int
    start_s: float
    end_s: float
    row: int
    token: int
    fresh: bool


class Chunk(NamedTuple):
    """Prompt tokens that a request computes in a row of the log; the last of a prompt yields a token."""

    request: int
    row: int
    computed: int
    tokens: int
    last: bool


class Story:
    """What a log says: its steps one by one, and the waits, chunks and stretches of decoding of each request.

    A step here is one in which decodes advance; steps are numbered over the whole run, rows are the log's.
    """

    def __init__(self, found: Run) -> None:
        self.run = found
        self.log = found.engine.log
        self.events = found.events()
        self.row_end_s = self.log["start_s"] + self.log["duration_s"]
        self.end_s = float(self.row_end_s[-1])
        decoding = self.log["decodes"] > 0
        self.steps_before = np.concatenate([[0], np.cumsum(np.where(decoding, self.log["count"], 0))])
        self.ids = np.flatnonzero(~found.rejected)
        self.waits: list[tuple[int, int, float, float]] = []  # request, kind, start, end
        self.chunks: list[Chunk] = []
        self.decodes: list[Decode] = []
        self._read()

    # From events to stretches

    def _read(self) -> None:
        """Follow every request through its events."""
        engine = self.run.engine
        order = np.argsort(self.events["request"], kind="stable")
        events = self.events[order].tolist()
        firsts = np.searchsorted(self.events["request"][order], self.ids).tolist()
        lasts = np.searchsorted(self.events["request"][order], self.ids, side="right").tolist()
        lengths = zip(
            self.run.prompt_tokens[self.ids].tolist(), self.run.output_tokens[self.ids].tolist(), strict=True
        )
        times = zip(engine.arrival_s.tolist(), engine.finished_s.tolist(), strict=True)
        start_s, row_end_s = self.log["start_s"].tolist(), self.row_end_s.tolist()
        for first, last, size, time in zip(firsts, lasts, lengths, times, strict=True):
            self._follow(events[first:last], size, time, start_s, row_end_s)

    def _follow(
        self,
        events: list[tuple[int, int, int, int, int]],
        size: tuple[int, int],
        time: tuple[float, float],
        start_s: list[float],
        row_end_s: list[float],
    ) -> None:
        """Enter one request's waits, chunks and stretches of decoding."""
        (prompt, output), (queued_s, finished_s) = size, time
        swap = self.run.scenario.preemption == "swap"
        kind, target, made, decoding = WAITING, prompt, 0, None
        in_queue = True
        for row, event, request, computed, tokens in events:
            if event == records.PREEMPTED:
                if decoding is not None:
                    made += self._close(request, decoding, int(self.steps_before[row]), start_s[row])
                    target = prompt + made
                kind, queued_s, decoding, in_queue = SWAPPED if swap else PAUSED, start_s[row], None, True
                continue
            if in_queue:
                self.waits.append((request, kind, queued_s, start_s[row]))
                in_queue = False
            if event == records.RETURNED:
                decoding = (row - 1, start_s[row], made, False)
                continue
            whole = computed + tokens == target
            self.chunks.append(Chunk(request, row, computed, tokens, whole))
            if whole:
                made += 1
                decoding = (row, row_end_s[row], made, True)
        if decoding is not None and made < output:
            first = int(self.steps_before[decoding[0] + 1])
            self._close(request, decoding, first + output - made, finished_s)

    def _close(self, request: int, decoding: tuple[int, float, int, bool], last: int, end_s: float) -> int:
        """Enter a stretch of decoding up to a step; return the tokens it made."""
        row, start_s, token, fresh = decoding
        first = int(self.steps_before[row + 1])
        if last > first:
            self.decodes.append(Decode(request, first, last, start_s, end_s, row, token, fresh))
        return last - first

    # Steps one by one

    @cached_property
    def steps(self) -> Steps:
        """The steps in which decodes advance."""
        return each_step(self.log).of(self.log["decodes"] > 0)

    @cached_property
    def step_s(self) -> np.ndarray:
        """The duration of each step [s]."""
        return self.steps.end_s - self.steps.start_s

    @cached_property
    def stall_s(self) -> np.ndarray:
        """How long steps without decodes held up each step [s]; 0 for the first step of a stretch of work."""
        _, start_s, end_s = self.steps
        gap_s = np.zeros(start_s.size)
        gap_s[1:] = start_s[1:] - end_s[:-1]
        gap_s[np.abs(gap_s) < INSTANT_S + 1e-9 * self.step_s] = 0.0
        return gap_s

    @cached_property
    def prompt_s(self) -> np.ndarray:
        """What the prompts add to the time of each log row [s], by the price list."""
        price, log = self.run.price.step, self.log
        chunks = np.array(self.chunks, np.int64).reshape(-1, len(Chunk._fields))
        _, row, start, tokens, last = chunks.T
        end = start + tokens
        rows = _per_row(last, row, log.size).astype(np.int64)
        pairs = _per_row((end**2 - start**2) / 2, row, log.size)
        window_pairs = _per_row(cost.window_pairs(start, end, price.window_tokens), row, log.size)
        decodes = log["decodes"]
        return (
            _token_s(price, decodes + log["prefill_tokens"])
            - _token_s(price, decodes)
            + price.row_s[decodes + rows]
            - price.row_s[decodes]
            + price.prefill_pair_s * pairs
            + price.window_pair_s * window_pairs
            + price.prefill_request_s * log["prompts"]
        )

    @cached_property
    def biggest_chunk(self) -> tuple[np.ndarray, np.ndarray]:
        """The request with the largest chunk of each log row (-1 without one), and the chunk's tokens."""
        request, tokens = np.full(self.log.size, -1), np.zeros(self.log.size, np.int64)
        chunks = self.events[self.events["kind"] == records.CHUNK]
        chunks = chunks[
            np.lexsort((-np.arange(chunks.size), chunks["tokens"]))
        ]  # the first of the largest wins
        request[chunks["row"]], tokens[chunks["row"]] = chunks["request"], chunks["tokens"]
        return request, tokens

    def token_times(self) -> dict[int, np.ndarray]:
        """Return when each request's tokens came, by request [s]."""
        parts: dict[int, list[np.ndarray]] = {int(request): [] for request in self.ids}
        for chunk in self.chunks:
            if chunk.last:
                parts[chunk.request].append(self.row_end_s[chunk.row : chunk.row + 1])
        for decode in self.decodes:
            parts[decode.request].append(self.steps.end_s[decode.first : decode.last])
        return {request: np.sort(np.concatenate(times)) for request, times in parts.items()}

    # What a whole run comes to

    @cached_property
    def batch_end_s(self) -> dict[int, float]:
        """When the static batch of each request ends [s]."""
        firsts = np.flatnonzero(self.log["prompts"] > 0)
        ends = np.append(firsts[1:], self.log.size) - 1
        place = np.searchsorted(firsts, [row for _, row, *_ in self.chunks], side="right") - 1
        return {
            chunk[0]: float(self.row_end_s[ends[at]]) for chunk, at in zip(self.chunks, place, strict=True)
        }

    @cached_property
    def late_steps(self) -> tuple[np.ndarray, np.ndarray]:
        """What prompts add to each step [s], with stalls before it; and what it takes without them [s]."""
        row = self.steps.row
        with_prompts_s = self.prompt_s[row]
        return self.stall_s + with_prompts_s, self.step_s - with_prompts_s

    @cached_property
    def late_tokens(self) -> int:
        """How many tokens of the whole run are late."""
        delay_s, usual_s = self.late_steps
        slow = delay_s >= (LATE_RATIO - 1) * usual_s
        before = np.concatenate([[0], np.cumsum(slow)])
        later = sum(int(before[decode.last] - before[decode.first + 1]) for decode in self.decodes)
        fresh = ((decode, usual_s[decode.first]) for decode in self.decodes if decode.fresh)
        return later + sum(
            _first_delay_s(self, decode) >= (LATE_RATIO - 1) * usual for decode, usual in fresh
        )

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The numbers of all requests, in the shape of `summarize`; nothing is left out as warm-up."""
        found, times = self.run, self.token_times()
        kept = ~found.rejected
        arrival_s, first_s, done_s = (
            column[kept] for column in (found.arrival_s, found.first_token_s, found.finished_s)
        )
        gaps = found.output_tokens[kept] - 1
        tpot_s = ((done_s - first_s) / np.maximum(gaps, 1))[gaps > 0]
        itl_s = np.concatenate([np.diff(request) for request in times.values()])
        span_s = float(done_s.max() - arrival_s.min())
        latencies = {"ttft": first_s - arrival_s, "tpot": tpot_s, "itl": itl_s, "e2e": done_s - arrival_s}
        return {
            "requests": {
                "arrived": int(found.arrival_s.size),
                "finished": int(kept.sum()),
                "rejected": int(found.rejected.sum()),
                "preemptions": int(found.preemptions.sum()),
            },
            "window_s": span_s,
            "metrics": {
                **{f"{name}_ms": _statistics(values * 1e3) for name, values in latencies.items()},
                "output_tok_per_s": float(found.output_tokens[kept].sum()) / span_s,
                "request_per_s": float(kept.sum()) / span_s,
            },
        }


def _per_row(values: np.ndarray, row: np.ndarray, rows: int) -> np.ndarray:
    return np.bincount(row, weights=values, minlength=rows)


def _token_s(price: step_cost.StepCost, tokens: np.ndarray) -> np.ndarray:
    last = price.token_s.size - 1
    return price.token_s[np.minimum(tokens, last)] + price.token_slope_s * np.maximum(tokens - last, 0)


def _statistics(values: np.ndarray) -> dict[str, float]:
    """Return mean, percentiles and count; NaN without a value."""
    if not values.size:
        return {"mean": np.nan, **{f"p{q:.0f}": np.nan for q in QUANTILES}, "max": np.nan, "n": 0}
    found = np.percentile(values, QUANTILES).tolist()
    named = {f"p{q:.0f}": value for q, value in zip(QUANTILES, found, strict=True)}
    return {"mean": float(values.mean()), **named, "max": float(values.max()), "n": int(values.size)}


# --- a span of time ---------------------------------------------------------------------------------


def _cut(story: Story, start_s: float, end_s: float) -> Timeline:
    """Return the part of a story from `start_s` to `end_s`."""
    segments = np.fromiter(_segments(story, start_s, end_s), SEGMENT)
    segments = segments[np.lexsort((segments["request"], segments["start_s"]))]
    slots, queue_lanes = _deal_lanes(segments)
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
            yield request, kind, first_s, last_s, 0, 0, 0
    log_start_s, row_end_s = story.log["start_s"], story.row_end_s
    for request, row, computed, tokens, _ in story.chunks:
        if overlaps(log_start_s[row], row_end_s[row]):
            yield request, PREFILL, log_start_s[row], row_end_s[row], tokens, computed, 0
    stalls = np.flatnonzero(story.stall_s > 0)
    for decode in story.decodes:
        if overlaps(decode.start_s, decode.end_s):
            yield from (bar for bar in _stretch(story, decode, stalls) if overlaps(bar[2], bar[3]))
    if story.run.scenario.policy == "static":
        done_s = dict(zip(story.ids.tolist(), story.run.engine.finished_s.tolist(), strict=True))
        for request, last_s in story.batch_end_s.items():
            if overlaps(done_s[request], last_s):
                yield request, IDLE, done_s[request], last_s, 0, 0, 0


def _stretch(story: Story, decode: Decode, stalls: np.ndarray) -> Iterator[tuple[Any, ...]]:
    """Yield the bars of a stretch: decode, and stalled where steps without decodes lie between."""
    first, last = decode.first, decode.last
    own = stalls[np.searchsorted(stalls, first + 1) : np.searchsorted(stalls, last)].tolist()
    edges = [first, *own, last]
    from_s = decode.start_s
    for start, end in pairwise(edges):
        start_s, end_s = story.steps.start_s[start], story.steps.end_s[end - 1]
        if start_s - from_s > INSTANT_S + 1e-9 * story.step_s[start]:
            yield decode.request, STALLED, from_s, start_s, 0, 0, 0
            from_s = start_s
        yield decode.request, DECODE, from_s, end_s, end - start, 0, 0
        from_s = end_s
    if decode.end_s - from_s > INSTANT_S + 1e-9 * story.step_s[last - 1]:
        yield decode.request, STALLED, from_s, decode.end_s, 0, 0, 0


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
            by_s = _first_delay_s(story, decode)
            if by_s >= (LATE_RATIO - 1) * usual_s[first] > 0:
                yield decode, first, by_s, decode.row + 1
        for place in range(bisect_left(row, first + 1), bisect_left(row, decode.last)):
            yield decode, row[place], own_delay_s[place], from_row[place]


def _first_delay_s(story: Story, decode: Decode) -> float:
    """Return what prompts add to the first gap of a stretch [s], its own prompt left aside."""
    first = decode.first
    stalled_s = story.steps.start_s[first] - decode.start_s
    instant_s = INSTANT_S + 1e-9 * story.step_s[first]
    return (stalled_s if stalled_s > instant_s else 0.0) + story.prompt_s[story.steps.row[first]]


# --- lanes ------------------------------------------------------------------------------------------


def _deal_lanes(segments: np.ndarray) -> tuple[int, int]:
    """Give every bar its lane, in place; return the slots and the places in the queue that are used.

    A request keeps its slot from its admission until it leaves the batch, and its place from joining the
    queue until it is admitted; each time it takes the lowest free one.
    """
    queued = np.isin(segments["kind"], QUEUED)
    slots = _deal(segments, np.flatnonzero(~queued), 0)
    places = _deal(segments, np.flatnonzero(queued), slots)
    return slots, places


def _deal(segments: np.ndarray, chosen: np.ndarray, base: int) -> int:
    """Deal the lanes from `base` on to the chosen bars, in order of time; return how many were needed."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    used = 0
    for stay in sorted(_stays(segments, chosen), key=lambda stay: (stay.start_s, stay.bars[0])):
        while busy and busy[0][0] <= stay.start_s + INSTANT_S:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, used = used, used + 1
        segments["lane"][stay.bars] = base + lane
        heapq.heappush(busy, (stay.end_s, lane))
    return used


@dataclass(slots=True)
class Stay:
    """Bars of one request that follow one another without a break."""

    start_s: float
    end_s: float
    bars: list[int]


def _stays(segments: np.ndarray, chosen: Iterable[int]) -> list[Stay]:
    """Return the stays that the chosen bars form."""
    stays: list[Stay] = []
    latest: dict[int, Stay] = {}
    request, start_s, end_s = (segments[name].tolist() for name in ("request", "start_s", "end_s"))
    for bar in chosen:
        stay = latest.get(request[bar])
        if stay is not None and start_s[bar] <= stay.end_s + 1e-9:
            stay.bars.append(int(bar))
            stay.end_s = max(stay.end_s, end_s[bar])
        else:
            stay = latest[request[bar]] = Stay(start_s[bar], end_s[bar], [int(bar)])
            stays.append(stay)
    return stays
