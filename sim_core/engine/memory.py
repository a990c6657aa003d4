"""The working memory of engines: made for a run, and read when it is over."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np

from sim_core.engine.kernels.gaps import GAP_BINS
from sim_core.engine.kernels.memory.by_block import BLOCK, CHAIN
from sim_core.engine.kernels.memory.pieces import PIECE
from sim_core.engine.kernels.queue import link_turns
from sim_core.engine.kernels.records import (
    BY_BLOCK,
    BY_SESSION,
    COMING,
    EVENT,
    LOG,
    NO_CACHE,
    NOBODY,
    REQUEST,
    STATE,
    TURN,
    Arrays,
    Rules,
)
from sim_core.engine.results import COLUMNS, EngineResult, Usage
from sim_core.engine.work import Turns, check_turns, turns
from sim_core.price.step_cost import TOKEN, TOKEN_BITS, StepCost
from sim_core.traffic.requests import Requests
from sim_core.traffic.texts import session_numbers, texts_of

TABLES = ("steps_by_tokens", "steps_by_rows", "steps_by_group_tokens")
TOTALS = tuple(name for name in Usage.__slots__ if name not in TABLES)
OF_A_RANK = ("lockstep_s", "kv_used_s", "kv_blocked_s", "batch_blocked_s")  # told of a mean rank
NO_GROUPS = np.zeros(0, STATE)
_totals_of = itemgetter(*map(STATE.names.index, TOTALS))  # of the record of an engine, as a tuple


def arrays_for(
    rules: Rules,
    step: StepCost,
    requests: Requests,
    log_sizes: tuple[int, int],
    replicas: tuple[int, ...] = (),
) -> Arrays:
    """Return the working memory of one engine, or of several along a first axis."""
    may_take = turns(rules.keep_log)
    count = len(requests)
    ring = max(64, 1 << (_longest_ticks(step, requests) + 1).bit_length())
    gaps = ring if rules.track_itl_max else 1
    return Arrays(
        requests=np.empty(count, REQUEST),
        due_first=np.full((*replicas, ring), NOBODY, np.int32),
        due_bits=np.zeros((*replicas, ring // 64), np.uint64),
        crossings=np.zeros((*replicas, ring), np.int32),
        crossing_bits=np.zeros((*replicas, ring // 64), np.uint64),
        phases=np.zeros((*replicas, rules.block_tokens), np.int64),
        gap_ticks=np.zeros((*replicas, gaps), np.int64),
        gap_values_s=np.zeros((*replicas, gaps)),
        gap_counts=np.zeros(GAP_BINS, np.int64),
        steps_by_tokens=np.zeros(step.token_s.size, np.int64),
        steps_by_rows=np.zeros(step.row_s.size, np.int64),
        steps_by_group_tokens=np.zeros(step.group_s.size, np.int64),
        log=np.zeros((*replicas, log_sizes[0]), LOG),
        events=np.zeros((*replicas, log_sizes[1]), EVENT),
        **texts_for(rules, requests, replicas),
        turns=may_take.left,
        stop=may_take.stop,
    )


def kernel_columns(requests: Requests) -> tuple[np.ndarray, ...]:
    """Return arrivals, prompts and what the token clock counts of each answer, in the kernels' types."""
    arrival_s, prompts, outputs = requests.columns()
    if requests.clock_tokens is None:
        return arrival_s, prompts, (outputs - 1) << TOKEN_BITS
    return arrival_s, prompts, np.rint(requests.clock_tokens * TOKEN).astype(np.int64)


def _longest_ticks(step: StepCost, requests: Requests) -> int:
    """Return the most ticks between now and a coming event: of an answer, and of a step beyond its end."""
    beyond = math.ceil(int(step.paces["advance"].max()) / TOKEN) - 1
    if requests.clock_tokens is None:
        return int(requests.output_tokens.max(initial=1)) + beyond
    return math.ceil(requests.clock_tokens.max(initial=0.0)) + 1 + beyond


def texts_for(rules: Rules, requests: Requests, replicas: tuple[int, ...]) -> dict[str, np.ndarray | None]:
    """Return the arrays of what requests have in common; empty ones where nobody asks."""
    by_session, by_block = rules.caching == BY_SESSION, rules.caching == BY_BLOCK
    count = len(requests) if rules.caching != NO_CACHE else 0
    pieces = np.zeros(count + max(replicas, default=1), PIECE)
    pieces["engine"] = NOBODY
    chains = np.zeros(count if by_block else 0, CHAIN) if by_session or by_block else None
    ids, blocks = np.zeros(0, np.int64), 0
    if chains is not None and by_block:
        texts = texts_of(requests, rules.block_tokens)
        chains["first"], chains["blocks"], ids = texts.offsets[:-1], texts.blocks, texts.numbers
        blocks = int(ids.max(initial=-1) + 1) * (rules.text_tokens // rules.block_tokens + 1)
    return {
        "sessions": session_turns(requests) if rules.sequels or by_session else np.zeros(0, TURN),
        "coming": np.zeros(len(requests) + 2 if rules.sequels else 1, COMING),
        "pieces": pieces,
        "chains": chains,
        "chain_ids": ids,
        "blocks": np.zeros((*replicas, blocks), BLOCK),
    }


def session_turns(requests: Requests) -> np.ndarray:
    """Return the place of each request in its session, in the kernels' types."""
    count = len(requests)
    names, known, follows_s = session_numbers(requests), requests.known_tokens, requests.follows_s
    told = (
        np.require(names, np.int32, ["C", "W"]),
        np.zeros(count, np.int32) if known is None else np.require(known, np.int32, ["C", "W"]),
        np.full(count, np.nan) if follows_s is None else np.require(follows_s, np.float64, ["C", "W"]),
    )
    turns = np.empty(count, TURN)
    last = np.full(names.max(initial=NOBODY) + 1, NOBODY)
    link_turns(turns, last, *told, requests.columns()[1])
    return turns


def runs_of(
    rules: Rules, step: StepCost, requests: Requests, engines: tuple[int, ...] = ()
) -> Iterator[tuple[np.ndarray, Arrays]]:
    """Yield empty engines and their working memory for each run that there must be; the last one counts.

    A run to be logged is run twice, first to count its rows.
    """
    sizes = (0, 0)
    for _ in range(1 + rules.keep_log):
        states = np.zeros(engines or 1, STATE)
        arrays = arrays_for(rules, step, requests, sizes, engines)
        yield states, arrays
        check_ended(arrays)
        sizes = log_sizes(states)


def check_ended(arrays: Arrays) -> None:
    """Raise why a run has ended before its time, if it has; see `sim_core.engine.work`."""
    check_turns(Turns(arrays.turns, arrays.stop))


def result_of(
    states: np.ndarray, arrays: Arrays, rules: Rules, groups: np.ndarray = NO_GROUPS
) -> EngineResult:
    """Return the result of one engine, or of replicas, from its working memory.

    Of groups, `states` are those of all ranks; a group counts its steps, its ranks what they hold meanwhile.
    """
    tables = {name: getattr(arrays, name) for name in TABLES}
    counted = map(_totals_of, [*states.tolist(), *groups.tolist()])
    totals: dict[str, Any] = dict(zip(TOTALS, map(sum, zip(*counted, strict=True)), strict=True))
    for name in OF_A_RANK:
        totals[name] /= states.size / groups.size if groups.size else 1
    log, events = logs_of(states, arrays)
    found = arrays.pieces[: len(arrays.requests) if rules.caching != NO_CACHE else 0]
    return EngineResult(
        **{name: np.ascontiguousarray(arrays.requests[name]) for name in COLUMNS[:5]},
        reused_tokens=found["reused"] * rules.block_tokens,
        loaded_tokens=found["loaded"] * rules.block_tokens,
        rank=np.zeros(0, np.int64),
        gap_counts=arrays.gap_counts,
        usage=Usage(**tables, **totals),
        kv_blocks_peak=rules.kv_blocks - int(states["free_blocks_low"].min()),
        log=log,
        events=events,
    )


def log_sizes(states: np.ndarray) -> tuple[int, int]:
    """Return the rows and events that a log must have room for."""
    return int(states["log_rows"].max()), int(states["log_events"].max())


def logs_of(states: np.ndarray, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return step log and events of one engine, or of all replicas in order of time."""
    if arrays.log.ndim == 1 or not arrays.log.size:
        return arrays.log.ravel(), arrays.events.ravel()
    logs = [log[:count] for log, count in zip(arrays.log, states["log_rows"], strict=True)]
    events = [event[:count] for event, count in zip(arrays.events, states["log_events"], strict=True)]
    return _in_order(logs, events)


def _in_order(logs: list[np.ndarray], events: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the logs of replicas as one in order of time, and their events with the rows they then have."""
    log = np.concatenate(logs)
    order = np.argsort(log["start_s"], kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    firsts = np.cumsum([0, *(part.size for part in logs[:-1])])
    moved = np.concatenate(events)
    moved["row"] = place[moved["row"] + np.repeat(firsts, [part.size for part in events])]
    return log[order], moved[np.argsort(moved["row"], kind="stable")]


def merged(parts: list[EngineResult], dealt: list[np.ndarray], replicas: int, ranks: int = 1) -> EngineResult:
    """Return the results of replicas to which requests were dealt, by their numbers, as one.

    Each may be a group of so many ranks. Time also passes for replicas that got no request.
    """
    parts = [numbered_from(part, ranks * replica) for replica, part in enumerate(parts)]
    columns, count = {}, sum(len(numbers) for numbers in dealt)
    for name in COLUMNS:
        column = np.empty(count if len(getattr(parts[0], name)) else 0, getattr(parts[0], name).dtype)
        for numbers, part in zip(dealt, parts, strict=True):
            if column.size:
                column[numbers] = getattr(part, name)
        columns[name] = column
    usage = {name: sum(getattr(p.usage, name) for p in parts) for name in Usage.__slots__}
    usage["elapsed_s"] *= replicas / len(parts)
    events = [part.events.copy() for part in parts]
    for numbers, own in zip(dealt, events, strict=True):
        own["request"] = numbers[own["request"]]
    log, in_order = _in_order([part.log for part in parts], events)
    return EngineResult(
        **columns,
        gap_counts=np.sum([part.gap_counts for part in parts], axis=0),
        usage=Usage(**usage),
        kv_blocks_peak=max(part.kv_blocks_peak for part in parts),
        log=log,
        events=in_order,
    )


def numbered_from(part: EngineResult, first: int) -> EngineResult:
    """Return a result whose engines, or ranks, are numbered from another number on."""
    log = part.log.copy()
    log["engine"] += first
    return replace(part, rank=part.rank + first, log=log)
