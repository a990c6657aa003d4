"""A run's log told request by request: when each waits, is prefilled, decodes, and which tokens are late."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from sim_core.engine.kernels import records
from sim_core.engine.results import Run
from sim_core.engine.steps import Steps, each_step
from sim_core.price.step_cost import tokens_s
from sim_core.price.steps.one_step import window_pairs
from sim_core.results.answers import QUANTILES

KINDS = ("waiting", "prefill", "decode", "stalled", "paused", "swapped", "idle")
WAITING, PREFILL, DECODE, STALLED, PAUSED, SWAPPED, IDLE = range(len(KINDS))
QUEUED = (WAITING, PAUSED, SWAPPED)
LATE_RATIO = 1.5
INSTANT_S = 1e-12


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
    """Prompt tokens that a request computes in a row of the log; the last of a prompt yields a token.

    The first chunk after a wait may follow tokens that were `found` in the prefix cache.
    """

    request: int
    row: int
    computed: int
    tokens: int
    last: bool
    found: int


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
            found = computed if in_queue and event == records.CHUNK else 0
            if in_queue:
                self.waits.append((request, kind, queued_s, start_s[row]))
                in_queue = False
            if event == records.RETURNED:
                decoding = (row - 1, start_s[row], made, False)
                continue
            whole = computed + tokens == target
            self.chunks.append(Chunk(request, row, computed, tokens, whole, found))
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
        _, row, start, tokens, last, _ = chunks.T
        end = start + tokens
        rows = _per_row(last, row, log.size).astype(np.int64)
        pairs = _per_row((end**2 - start**2) / 2, row, log.size)
        seen_pairs = _per_row(np.asarray(window_pairs(start, end, price.window_tokens)), row, log.size)
        decodes = log["decodes"]
        return (
            tokens_s(price, decodes + log["drafts"] + log["prefill_tokens"])
            - tokens_s(price, decodes + log["drafts"])
            + price.row_s[decodes + rows]
            - price.row_s[decodes]
            + price.prefill_pair_s * pairs
            + price.window_pair_s * seen_pairs
            + price.prefill_request_s * log["prompts"]
            + price.prefill_step_s * (log["prompts"] > 0)
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
        return later + sum(first_delay_s(self, decode) >= (LATE_RATIO - 1) * usual for decode, usual in fresh)

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


def _statistics(values: np.ndarray) -> dict[str, float]:
    """Return mean, percentiles and count; NaN without a value."""
    if not values.size:
        return {"mean": np.nan, **{f"p{q:.0f}": np.nan for q in QUANTILES}, "max": np.nan, "n": 0}
    found = np.percentile(values, QUANTILES).tolist()
    named = {f"p{q:.0f}": value for q, value in zip(QUANTILES, found, strict=True)}
    return {"mean": float(values.mean()), **named, "max": float(values.max()), "n": int(values.size)}


def first_delay_s(story: Story, decode: Decode) -> float:
    """Return what prompts add to the first gap of a stretch [s], its own prompt left aside."""
    first = decode.first
    stalled_s = story.steps.start_s[first] - decode.start_s
    instant_s = INSTANT_S + 1e-9 * story.step_s[first]
    return (stalled_s if stalled_s > instant_s else 0.0) + story.prompt_s[story.steps.row[first]]
