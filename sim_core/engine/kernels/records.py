"""The records of the engine: a request, its state, its log, its rules, and the arrays it works in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim_core.engine.compiling import inlined

CHUNKED, PREFILL_FIRST, STATIC = 0, 1, 2
FULL_PROMPT, FIRST_CHUNK, RESERVE_OUTPUT, RESERVE_SHARE = 0, 1, 2, 3
NO_CACHE, FIXED_SHARE, BY_SESSION, BY_BLOCK = 0, 1, 2, 3
UNROUTED, TO_LEAST_LOADED, IN_TURN = 0, 1, 2
ZERO, ONE = np.int64(0), np.int64(1)  # a bare 0 or 1 is a type of its own, and compiles its callee again
CHUNK, PREEMPTED, RETURNED = np.int64(0), np.int64(1), np.int64(2)
PREFILLS, DECODES = 0, 1
IDLE, OF_PROMPTS, PLANNED, OF_DECODES = 0, 1, 2, 3  # steps of a rank
NOBODY = np.int64(-1)
REQUEST = np.dtype(
    [
        ("arrival_s", np.float64),
        ("first_token_s", np.float64),
        ("finished_s", np.float64),
        ("last_token_s", np.float64),  # kept only while the request does not decode
        ("itl_max_s", np.float64),
        ("joined_s", np.float64),  # start of the step in which it joined the decodes of another pool
        ("due", np.int64),  # tick of its last token, while it decodes
        ("rest", np.int64),  # by how much the token clock has still to go on for it, while it does not decode
        ("since", np.int64),  # first tick whose common gap counts for this request
        ("prompt", np.int32),
        ("output", np.int32),  # as the token clock counts it
        ("target", np.int32),  # tokens that must be in the KV cache before it can make its next token
        ("computed", np.int32),  # tokens in the KV cache; of a decode, those that it holds in the end
        ("next", np.int32),  # in the queue or among the running
        ("previous", np.int32),  # among the running
        ("chain", np.int32),  # next request due at the same tick
        ("preemptions", np.int32),
    ],
    align=True,
)
STATE = np.dtype(
    [
        # whoever looks for the next of many engines reads these, so they lie side by side
        ("clock_s", np.float64),
        ("opens_s", np.float64),  # pooled: from when on it takes requests; infinite while it takes none
        ("running", np.int64),
        ("queue_head", np.int64),
        ("unfinished", np.int64),
        # the rest
        ("last_decode_s", np.float64),  # end of the last step in which decodes advanced
        ("tick", np.int64),
        ("fraction", np.int64),  # of the next tick, in parts of a token
        ("ahead", np.int64),  # ticks of the last step
        ("context", np.int64),  # tokens in the KV caches of all decodes
        ("window", np.int64),  # the same, each at most window_tokens
        ("growing", np.int64),  # decodes still within the window
        ("decodes", np.int64),
        ("fresh", np.int64),  # decodes at the tail that have not yet taken a decode step (prefill_first)
        ("free_blocks", np.int64),
        ("queue_tail", np.int64),
        ("running_head", np.int64),
        ("running_tail", np.int64),
        ("partial", np.int64),  # running request whose prompt is unfinished
        ("joining", np.int64),  # first request that takes prompt tokens in this step
        ("released", np.int64),  # closed loop: next request to be released
        ("joins", np.int64),  # prompts from another pool that it took over since a pool's driver looked last
        ("handed_head", np.int64),  # those that it has still to take over, in order
        ("handed_tail", np.int64),
        ("done", np.int64),  # finished requests that a pool's driver has not seen yet, linked by `next`
        ("newest", np.int64),  # highest index admitted so far
        # the step being planned
        ("tokens", np.int64),
        ("rows", np.int64),
        ("prompts", np.int64),
        ("returned", np.int64),  # decodes that come back from host memory
        ("step_context", np.float64),  # as many tokens as cost the same by the first of the paces
        ("step_window", np.float64),
        ("swapped", np.int64),
        ("shortage", np.int64),  # 1 once something was preempted in this step
        ("measured", np.int64),  # 1 while the step counts in the statistics
        ("step_pairs", np.float64),
        ("step_window_pairs", np.float64),
        # the prefix cache: what of a waiting request it holds, as looked up last [blocks]
        ("looked", np.int64),  # whose prompt that is, while it is as it was found, or NOBODY
        ("shared", np.int64),  # in use by others
        ("idle", np.int64),  # in device memory, used by nobody
        ("on_host", np.int64),
        ("dropped", np.int64),  # of what was found, computed anew all the same
        ("piece", np.int64),  # whose text its own blocks are of, or NOBODY
        # and what it holds in all
        ("cached", np.int64),  # blocks with content that nobody uses; those above `free_blocks` are lost
        ("oldest", np.int64),  # pieces of such blocks, by when they were used last
        ("latest", np.int64),
        ("host_blocks", np.int64),  # blocks in host memory, and their pieces
        ("host_oldest", np.int64),
        ("host_latest", np.int64),
        ("system_users", np.int64),  # running requests that share the system prompt
        ("system_blocks", np.int64),  # those of it in memory, while somebody uses it
        ("engine", np.int64),  # its number among replicas, or among all ranks of all groups
        ("step_sent", np.int64),  # of the prompts that join in this step: all tokens,
        ("step_reused", np.int64),  # those found in device memory,
        ("step_loaded", np.int64),  # and those found in host memory
        # what the run reports
        ("elapsed_s", np.float64),
        ("busy_s", np.float64),
        ("running_s", np.float64),
        ("kv_used_s", np.float64),
        ("kv_blocked_s", np.float64),
        ("batch_blocked_s", np.float64),
        ("steps", np.int64),
        ("context_tokens", np.float64),
        ("window_tokens", np.float64),
        ("prefill_pairs", np.float64),
        ("window_pairs", np.float64),
        ("prefill_requests", np.int64),
        ("prefill_steps", np.int64),
        ("extra_tokens", np.int64),
        ("swapped_tokens", np.int64),
        ("sent_tokens", np.int64),
        ("reused_tokens", np.int64),
        ("loaded_tokens", np.int64),
        ("evicted_blocks", np.int64),
        ("free_blocks_low", np.int64),
        ("bubble_s", np.float64),
        ("gap_first", np.int64),
        ("gap_last", np.int64),
        ("log_rows", np.int64),
        ("log_events", np.int64),
        # a group of an engine in stages
        ("elsewhere", np.int64),  # requests that run in the other groups
        ("under_way", np.int64),  # not 0 while a batch of its own passes the stages,
        ("returns_s", np.float64),  # and when that leaves the last one
        ("free_s", np.float64),  # from when on the stage of the same number is free
        ("waits", np.int64),  # 1 while it can do nothing until a batch of another group leaves
        # what admission keeps
        ("reserved_blocks", np.int64),  # reserve_output: of the prompts and whole answers of the running
        ("share", np.float64),  # reserve_share: of what may still be made, `eased` decode steps ago
        ("eased", np.int64),
        # of a rank: what it does in the next step, its place among the paces, whether prompts may not begin
        ("kind", np.int64),
        ("pace", np.int64),
        ("barred", np.int64),
        # of a group of ranks: steps since prompts could begin, and requests sent to it so far
        ("waited", np.int64),
        ("sent", np.int64),
        ("lockstep_s", np.float64),  # what its ranks waited for the one with the most, all together
        ("group_extra_tokens", np.int64),
    ],
    align=True,
)
LOG = np.dtype(
    [
        ("start_s", np.float64),
        ("duration_s", np.float64),
        ("growth_s", np.float64),  # each of the equal steps lasts this much longer than the one before
        ("count", np.int64),
        ("decodes", np.int64),
        ("drafts", np.int64),  # tokens drafted for them, all together
        ("prefill_tokens", np.int64),
        ("prompts", np.int64),
        ("running", np.int64),
        ("kv_blocks_used", np.int64),
        ("cached_blocks", np.int64),
        ("context_tokens", np.int64),
        ("admitted", np.int64),
        ("swapped_tokens", np.int64),
        ("reused_tokens", np.int64),
        ("loaded_tokens", np.int64),
        ("engine", np.int64),
    ],
    align=True,
)
EVENT = np.dtype(
    [
        ("row", np.int64),  # of the log: the step in which it happens
        ("kind", np.int64),  # CHUNK, PREEMPTED or RETURNED
        ("request", np.int64),
        ("computed", np.int64),  # tokens in its KV cache before
        ("tokens", np.int64),  # prompt tokens of the chunk
    ],
    align=True,
)
TURN = np.dtype(
    [
        ("before", np.int32),  # the session's request before, or NOBODY
        ("next", np.int32),  # the one after, if it is sent when this one has ended
        ("known", np.int32),  # leading tokens of the prompt that are text of the one before
        ("follows_s", np.float64),  # after the end of the one before; NaN if sent by its own time
    ],
    align=True,
)
COMING = np.dtype(
    [
        ("arrival_s", np.float64),  # infinite while that is not known
        ("request", np.int64),
    ],
    align=True,
)


class Rules(NamedTuple):
    """Limits of one engine, the traffic loop around it, and what to measure."""

    policy: int
    admission: int
    output_limit: int  # longest answer that admission reserves; 0 = each one's own length
    max_running: int
    batch_running: int  # most of them in one batch; of one stage, all
    stages: int  # of a prefill worker; one engine in stages has a state for each
    token_budget: int
    long_prompt_tokens: int  # most tokens of one prompt in a step; 0 = no limit
    kv_blocks: int
    block_tokens: int
    draft_slots: int  # of the KV cache that a running request holds beyond its tokens, for drafts
    wait_steps: int  # most steps that a prompt waits until all ranks of a group have one; 0 = none
    swap: bool
    turnaround_s: float
    batch_wait_s: float
    measure_from: int
    measure_until: int
    track_itl_max: bool
    keep_log: bool
    pooled: bool
    sequels: bool  # requests follow others: they are sent by and by
    routed: int  # by a router as they come; else to the one engine
    caching: int
    hit_frac: float  # of every prompt, under FIXED_SHARE
    system_blocks: int  # that all prompts share, under BY_SESSION
    text_tokens: int  # of a piece of text that is hashed, under BY_BLOCK
    host_blocks: int
    last_lost: bool  # the last block that is found is computed anew


class Times(NamedTuple):
    """Arrivals of some runs, one row each, and the answers' times; rows as long as those that are wanted."""

    arrival_s: np.ndarray
    first_token_s: np.ndarray
    finished_s: np.ndarray
    preemptions: np.ndarray  # of all requests together, one entry a run


class Arrays(NamedTuple):
    """The arrays of one engine: the requests, its rings of coming events and its counters.

    Of several engines, along a first axis; all count into the same tables.
    """

    requests: np.ndarray  # REQUEST, one each
    due_first: np.ndarray  # first request due at a tick, by tick modulo the ring
    due_bits: np.ndarray  # uint64 words: which ticks of the ring are due
    crossings: np.ndarray  # decodes whose context reaches the window at a tick
    crossing_bits: np.ndarray
    phases: np.ndarray  # decodes by the phase in which they take a new block
    gap_ticks: np.ndarray  # monotone stack of common gaps, for itl_max_s
    gap_values_s: np.ndarray
    gap_counts: np.ndarray  # histogram of all gaps
    steps_by_tokens: np.ndarray
    steps_by_rows: np.ndarray
    steps_by_group_tokens: np.ndarray
    log: np.ndarray  # LOG
    events: np.ndarray  # EVENT
    sessions: np.ndarray  # TURN, one for each request where some follow others
    coming: (
        np.ndarray
    )  # COMING, a heap of requests that will be sent, from place 1 on; at 0 how many they are,
    #                     and in the last place the request with which the next session begins
    pieces: np.ndarray  # PIECE, one for each request and for the system prompt of each replica
    chains: np.ndarray | None  # CHAIN, one for each request; None where no texts are kept
    chain_ids: np.ndarray  # numbers of the pieces of text of all chains
    blocks: np.ndarray  # BLOCK, those of each piece of text one after the other
    turns: np.ndarray  # one entry: how many turns its loops may still take, those of all replicas together
    stop: np.ndarray  # one entry: not 0 once nobody waits for the run


@inlined
def group_of(stacked, group, engine):
    """Return the arrays of one group of requests, and the memory and the log of the engine that it is in; all
    engines share the requests and the tables that they count into.
    """
    return Arrays(
        stacked.requests,
        stacked.due_first[group],
        stacked.due_bits[group],
        stacked.crossings[group],
        stacked.crossing_bits[group],
        stacked.phases[group],
        stacked.gap_ticks[group],
        stacked.gap_values_s[group],
        stacked.gap_counts,
        stacked.steps_by_tokens,
        stacked.steps_by_rows,
        stacked.steps_by_group_tokens,
        stacked.log[engine],
        stacked.events[engine],
        stacked.sessions,
        stacked.coming,
        stacked.pieces,
        stacked.chains,
        stacked.chain_ids,
        stacked.blocks[engine],
        stacked.turns,
        stacked.stop,
    )


@inlined
def run_of(arrays, run):
    """Return the arrays of one of several runs, one after the other; each counts into tables of its own."""
    return Arrays(
        arrays.requests,
        arrays.due_first,
        arrays.due_bits,
        arrays.crossings,
        arrays.crossing_bits,
        arrays.phases,
        arrays.gap_ticks,
        arrays.gap_values_s,
        arrays.gap_counts[run],
        arrays.steps_by_tokens[run],
        arrays.steps_by_rows[run],
        arrays.steps_by_group_tokens[run],
        arrays.log,
        arrays.events,
        arrays.sessions,
        arrays.coming,
        arrays.pieces,
        arrays.chains,
        arrays.chain_ids,
        arrays.blocks,
        arrays.turns[run : run + 1],
        arrays.stop,
    )


@inlined
def replica_of(stacked, replica):
    """Return the arrays of a replica: an engine with one group of requests."""
    return group_of(stacked, replica, replica)


@inlined
def is_over(left, stop, turns):
    """Count turns of a loop, and return whether the run ends before its time: it has used up those it has,
    or nobody waits for it.
    """
    left[0] -= turns
    return left[0] < 0 or stop[0] != 0


@inlined
def scan_turns(states):
    """Return as how many turns a look at every engine counts."""
    return 1 + (states.size >> 5)
