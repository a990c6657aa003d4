"""What a run of the engine returns, and the tables made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sim_core.engine.kernels.records import CHUNK, PREEMPTED, RETURNED
from sim_core.engine.steps import events_by_row
from sim_core.price.price import Price
from sim_core.price.priced import Priced
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import Requests

FINISHED, REJECTED = "finished", "rejected"


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """What the measured steps of a run add up to.

    Attributes
    ----------
    steps_by_tokens, steps_by_rows : ndarray of int
        Steps by their new tokens (the last entry counts all longer ones) and by the rows they sample.
    extra_tokens, prefill_requests, prefill_steps, swapped_tokens : int
    context_tokens, window_tokens : float
        Sums over the steps of the counts that `StepCost` prices.
    sent_tokens, reused_tokens, loaded_tokens : int
        With a prefix cache: tokens of the prompts that joined for the first time, and those of them that were
        found in device memory and in host memory; the rest is computed.
    evicted_blocks : int
        Cached KV blocks that were taken for other content, over the whole run.
    prefill_pairs, window_pairs : float
        Query-key pairs of prompt chunks, all and within the sliding window.
    busy_s, elapsed_s, running_s, kv_used_s, kv_blocked_s, batch_blocked_s : float
        Time in steps; time in all; sequences times time; KV blocks times time; and the time in which
        the head of the queue waited for KV blocks, or for a place in the batch. Summed over replicas.
    bubble_s : float
        Of several stages, the time in which the last one waited for a batch while the engine had work.
    steps_by_group_tokens : ndarray of int
        Where ranks of attention share their experts: steps by the new tokens of all ranks of a group (the
        last entry counts all longer ones). All other counts are then those that price a step, of the rank
        with the most, once for each group.
    group_extra_tokens : int
        Tokens of all ranks beyond that table.
    lockstep_s : float
        Of the busy time, what a rank on average waited for the one with the most, or had nothing to do. KV
        blocks and waiting heads of queues are also those of a mean rank; sequences are those of all ranks.
    """

    steps_by_tokens: np.ndarray
    steps_by_rows: np.ndarray
    steps_by_group_tokens: np.ndarray
    steps: int
    extra_tokens: int
    group_extra_tokens: int
    context_tokens: float
    window_tokens: float
    prefill_pairs: float
    window_pairs: float
    prefill_requests: int
    prefill_steps: int
    swapped_tokens: int
    sent_tokens: int
    reused_tokens: int
    loaded_tokens: int
    evicted_blocks: int
    busy_s: float
    elapsed_s: float
    lockstep_s: float
    running_s: float
    kv_used_s: float
    kv_blocked_s: float
    batch_blocked_s: float
    bubble_s: float


@dataclass(frozen=True, slots=True, eq=False)
class EngineResult:
    """What the engine returns, one entry a request in order of arrival; times on the engine's clock [s].

    `kv_blocks_peak` is the most KV blocks in use on any replica; `log` holds one row per run of equal steps,
    `events` what happened to which request in which row: chunks, preemptions, returns from the host.
    `rank` is the rank of attention that served each, of all ranks of all groups; empty where there are none.
    `reused_tokens` and `loaded_tokens` are those that prompts found in the prefix cache when they first
    joined, in device and in host memory; empty without a cache.
    """

    arrival_s: np.ndarray
    first_token_s: np.ndarray
    finished_s: np.ndarray
    itl_max_s: np.ndarray
    preemptions: np.ndarray
    gap_counts: np.ndarray
    usage: Usage
    kv_blocks_peak: int
    log: np.ndarray
    events: np.ndarray
    reused_tokens: np.ndarray
    loaded_tokens: np.ndarray
    rank: np.ndarray


COLUMNS = (  # of a result, one entry a request
    "arrival_s",
    "first_token_s",
    "finished_s",
    "itl_max_s",
    "preemptions",
    "reused_tokens",
    "loaded_tokens",
    "rank",
)


@dataclass(frozen=True, slots=True, eq=False)
class SplitResult:
    """What a run of two pools reports beside its decode pool's `EngineResult`.

    Attributes
    ----------
    usage : Usage
        Of the prefill pool.
    link_busy_s : float
        Time in which the links of all prefill workers were sending.
    stages : ndarray of `pools.links.STAGE`, shape (n,)
        When each request was prefilled and arrived at the decode pool, on the engines' clock, else NaN.
    joined_s : ndarray, shape (n,)
        Start of the decode step that took it over; NaN for answers of one token.
    """

    usage: Usage
    link_busy_s: float
    stages: np.ndarray
    joined_s: np.ndarray


STAGES = ("queue", "prefill", "transfer", "decode queue", "decode")


class OfPriced:
    """What was priced to be run: what is simulated, and what its steps cost."""

    __slots__ = ()
    priced: Priced

    @property
    def scenario(self) -> Scenario:
        """What was simulated; of several loads, under one of them."""
        return self.priced.scenario

    @property
    def price(self) -> Price:
        """What the steps cost; those of the decode pool, where there are two."""
        return self.priced.price


@dataclass(frozen=True, slots=True, eq=False)
class Run(OfPriced):
    """A simulated scenario: one entry a request in order of arrival, as the client sees it.

    Attributes
    ----------
    priced : Priced
        The scenario, what it names, and what its steps cost.
    sent : Requests
        All requests, the rejected ones too, when their clients sent them.
    first_token_s, finished_s, itl_max_s, preemptions : ndarray, shape (n,)
        What became of each; NaN and 0 for the rejected ones. [s]
    rejected : ndarray of bool, shape (n,)
    engine : EngineResult
        What the engine reports; where prefill and decode have pools of their own, the decode pool.
    split : SplitResult or None
        What the prefill pool and the links report.
    whole : bool
        All requests and steps count: the window that the scenario asks for holds too little.
    """

    priced: Priced
    sent: Requests
    first_token_s: np.ndarray
    finished_s: np.ndarray
    itl_max_s: np.ndarray
    preemptions: np.ndarray
    rejected: np.ndarray
    engine: EngineResult
    split: SplitResult | None = None
    whole: bool = False

    def __deepcopy__(self, memo: dict) -> Run:
        """Return itself: a run never changes, and pandas copies what is attached to a table."""
        return self

    @property
    def all_preemptions(self) -> int:
        """Preemptions of all requests together."""
        return int(self.preemptions.sum())

    @property
    def arrival_s(self) -> np.ndarray:
        """When the clients sent the requests [s]."""
        return self.sent.arrival_s

    @property
    def prompt_tokens(self) -> np.ndarray:
        """Prompt lengths."""
        return self.sent.prompt_tokens

    @property
    def output_tokens(self) -> np.ndarray:
        """Answer lengths."""
        return self.sent.output_tokens

    def requests(self) -> pd.DataFrame:
        """Return the requests as a table, with this run attached for `sim_core.summarize`."""
        table = pd.DataFrame(
            {
                "request_id": np.arange(self.arrival_s.size),
                "arrival_s": self.arrival_s,
                "prompt_tokens": self.prompt_tokens,
                "output_tokens": self.output_tokens,
                "first_token_s": self.first_token_s,
                "finished_s": self.finished_s,
                "itl_max_s": self.itl_max_s,
                "preemptions": self.preemptions,
                "status": pd.Categorical.from_codes(self.rejected.astype(np.int8), [FINISHED, REJECTED]),
            }
        )
        table.attrs["run"] = self
        return table

    def stages(self) -> pd.DataFrame | None:
        """Return how long each served request spends in each of `STAGES` [s]; None for one pool.

        The stages add up to its end-to-end time, but for the ways to the engine and back.
        """
        if self.split is None:
            return None
        stages, joined_s = self.split.stages, self.split.joined_s
        arrived_s, ended_s = self.engine.arrival_s, self.engine.finished_s
        alone = np.isnan(joined_s)  # answers of one token
        sent_s = np.where(alone, stages["prefill_end_s"], stages["transfer_end_s"])
        taken_s = np.where(alone, stages["prefill_end_s"], joined_s)
        moments = (arrived_s, stages["prefill_start_s"], stages["prefill_end_s"], sent_s, taken_s, ended_s)
        spans = np.diff(np.column_stack(moments), axis=1)
        return pd.DataFrame(spans, columns=STAGES, index=np.flatnonzero(~self.rejected))

    def steps(self) -> pd.DataFrame:
        """Return the step log, one row per run of equal steps; of ranks, one for each that takes part.

        Columns beside those of the kernels' log: requests `arrived` by the start; how many of them are
        `waiting` while the step runs (one engine only, else empty); and what happens to whom, by request id:
        `prefilled` (``7:512+300`` are 300 prompt tokens after 512), `preempted`, `returned` (from the host).
        Where an engine has ranks of attention, `rank` is the one, of all replicas in turn, `waiting` its own.
        """
        log = self.engine.log
        table = pd.DataFrame(log).drop(columns="engine")
        if self.engine.rank.size:
            table["rank"] = log["engine"]
        table["arrived"] = np.searchsorted(np.sort(self.engine.arrival_s), log["start_s"], side="right")
        table["waiting"] = self.waiting() if self.scenario.replicas == 1 else None
        events = self.events()
        for name, kind in (("prefilled", CHUNK), ("preempted", PREEMPTED), ("returned", RETURNED)):
            table[name] = events_by_row(events[events["kind"] == kind], log.size, detailed=kind == CHUNK)
        return table

    def events(self) -> np.ndarray:
        """Return the events of the step log of the kernels, requests by their ids in the tables."""
        events = self.engine.events.copy()
        events["request"] = np.flatnonzero(~self.rejected)[events["request"]]
        return events

    def waiting(self) -> np.ndarray:
        """Return the requests that wait in the queue of the one engine while each row of the log runs.

        Of ranks of attention, those in the queue of the row's rank.
        """
        log, engine = self.engine.log, self.engine
        if self.scenario.policy == "static":
            arrived = np.searchsorted(np.sort(engine.arrival_s), log["start_s"], side="right")
            return arrived - log["admitted"]
        waiting = np.zeros(log.size, np.int64)
        for number in np.unique(log["engine"]):
            rows = log["engine"] == number
            mine = engine.rank == number if engine.rank.size else slice(None)
            for times, sign in ((engine.arrival_s[mine], 1), (engine.finished_s[mine], -1)):
                waiting[rows] += sign * np.searchsorted(np.sort(times), log["start_s"][rows], side="right")
        return waiting - log["running"]


@dataclass(frozen=True, slots=True, eq=False)
class EngineResults:
    """What the engine returns of runs of the same requests under other loads, one row a run.

    Times on the engine's clock [s]; preemptions of all requests of a run together; each figure of `usage` is
    an array along a first axis.
    """

    arrival_s: np.ndarray
    first_token_s: np.ndarray
    finished_s: np.ndarray
    preemptions: np.ndarray
    gap_counts: np.ndarray
    usage: Usage


@dataclass(frozen=True, slots=True, eq=False)
class RunsAtLoads(OfPriced):
    """Runs of one scenario at several request rates, or with several numbers of clients, side by side.

    None of their requests is rejected.

    Attributes
    ----------
    priced : Priced
        The scenario under one of the loads, and what all of them share.
    scenarios : sequence of Scenario
        With the load of each run.
    sent : Requests
        The requests, whose lengths all runs share.
    arrival_s, first_token_s, finished_s : ndarray, shape (runs, n)
        As the clients see them. [s]
    engine : EngineResults
    """

    priced: Priced
    scenarios: Sequence[Scenario]
    sent: Requests
    arrival_s: np.ndarray
    first_token_s: np.ndarray
    finished_s: np.ndarray
    engine: EngineResults
    split: None = None

    @property
    def all_preemptions(self) -> np.ndarray:
        """Preemptions of all requests of each run together."""
        return self.engine.preemptions
