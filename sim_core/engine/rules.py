"""How a run goes: the limits of an engine, the traffic loop around it, what is measured; as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim_core.engine.kernels.records import (
    BY_BLOCK,
    BY_SESSION,
    CHUNKED,
    FIRST_CHUNK,
    FIXED_SHARE,
    FULL_PROMPT,
    IN_TURN,
    NO_CACHE,
    NOBODY,
    PREFILL_FIRST,
    RESERVE_OUTPUT,
    RESERVE_SHARE,
    STATIC,
    TO_LEAST_LOADED,
    UNROUTED,
    Rules,
)
from sim_core.price.memory import host_blocks
from sim_core.price.pools import prefill_of
from sim_core.price.priced import Priced
from sim_core.price.speculation import speculation_of
from sim_core.scenario.scenario import Scenario, admission_of
from sim_core.traffic.requests import Requests
from sim_core.traffic.texts import has_sequels, is_interleaved

POLICIES = {"chunked": CHUNKED, "prefill_first": PREFILL_FIRST, "static": STATIC}
ADMISSIONS = {
    "full_prompt": FULL_PROMPT,
    "first_chunk": FIRST_CHUNK,
    "reserve_output": RESERVE_OUTPUT,
    "reserve_share": RESERVE_SHARE,
}
UNEVEN = ("vllm",)  # engines that limit what runs in all batches together, not in each
OF_A_CACHE = ("caching", "system_blocks", "text_tokens", "host_blocks")
STATED = (  # keys of a scenario that are rules of a run as they stand
    "max_output_tokens",
    "max_running",
    "token_budget",
    "long_prefill_token_threshold",
    "preemption",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRules:
    """The rules of one run.

    Attributes
    ----------
    policy, admission, preemption, router : str
        As the scenario's keys. Where no request follows another, `least_loaded` works in an open loop with
        continuous batching, otherwise all requests are dealt in turn.
    max_output_tokens : int
        Longest answer for which admission reserves room, 0 for each one's own length.
    long_prefill_token_threshold : int
        Most tokens of one prompt in a step of `chunked`, 0 for no limit.
    max_running, token_budget, kv_blocks, kv_block_tokens : int
        Limits of one engine.
    draft_slots : int
        Tokens of the KV cache that a running request holds beyond its own, for drafts.
    concurrency : int
        Clients of a closed loop, or 0 for an open one.
    turnaround_s, batch_wait_s : float
        From an answer to its client's next request; longest wait for a static batch. [s]
    warm : int
        Usage and gaps count from this request's admission to the last one's (least loaded: its arrival).
    whole : bool
        Count all steps instead.
    replicas : int
        Engines, or the workers of a decode pool.
    ranks, wait_steps : int
        Ranks of attention of one engine, each under the limits above, and most steps that a prompt waits
        until all of them have one, 0 for none.
    itl_max, log : bool
        Keep the longest gap of each request; keep the step log.
    hit_frac : float
        Share of every prompt that need not be computed, where no cache is simulated.
    caching : bool
        Keep the blocks of requests that leave, and reuse them; static batches never do. Of two pools, prefill
        workers do.
    host_blocks : int
        KV blocks that host memory keeps of those that leave the device.
    stages : int
        Of the engine's pipeline; as many groups of requests share its memory.
    even : bool
        Each group may have its part of `max_running` at most, else any of them all.
    last_lost : bool
        Compute the last block that a prompt finds in the cache anew.
    """

    policy: str = "chunked"
    admission: str = "full_prompt"
    max_output_tokens: int = 0
    max_running: int
    token_budget: int
    kv_blocks: int
    kv_block_tokens: int
    draft_slots: int = 0
    long_prefill_token_threshold: int = 0
    preemption: str = "recompute"
    concurrency: int = 0
    turnaround_s: float = 0.0
    batch_wait_s: float = 0.0
    warm: int = 0
    whole: bool = False
    replicas: int = 1
    router: str = "round_robin"
    ranks: int = 1
    wait_steps: int = 0
    itl_max: bool = False
    log: bool = False
    hit_frac: float = 0.0
    caching: bool = False
    host_blocks: int = 0
    stages: int = 1
    even: bool = True
    last_lost: bool = False

    @property
    def balanced(self) -> bool:
        """Whether a router looks at the replicas; else requests, or whole sessions, are dealt in turn."""
        looks = self.router == "least_loaded" and self.concurrency == 0
        return looks and self.policy != "static" and self.stages == 1

    def kernel(self, requests: int) -> Rules:
        """Return the rules of an engine that serves so many requests, in the kernels' types."""
        return Rules(
            policy=POLICIES[self.policy],
            admission=ADMISSIONS[self.admission],
            output_limit=int(self.max_output_tokens),
            max_running=int(self.max_running),
            stages=1,
            batch_running=-(-int(self.max_running) // (self.stages if self.even else 1)),
            token_budget=int(self.token_budget),
            long_prompt_tokens=int(self.long_prefill_token_threshold),
            kv_blocks=int(self.kv_blocks),
            block_tokens=int(self.kv_block_tokens),
            draft_slots=int(self.draft_slots),
            wait_steps=int(self.wait_steps),
            swap=self.preemption == "swap",
            turnaround_s=float(self.turnaround_s),
            batch_wait_s=float(self.batch_wait_s),
            measure_from=NOBODY if self.whole else int(self.warm),
            measure_until=requests if self.whole else requests - 1,
            track_itl_max=bool(self.itl_max),
            keep_log=bool(self.log),
            pooled=False,
            sequels=False,
            routed=UNROUTED,
            caching=FIXED_SHARE if self.hit_frac > 0 else NO_CACHE,
            hit_frac=float(self.hit_frac),
            system_blocks=0,
            text_tokens=1,
            host_blocks=int(self.host_blocks),
            last_lost=bool(self.last_lost),
        )

    def kernel_for(self, sent: Requests) -> Rules:
        """Return the rules of an engine that serves some requests, and how it caches what they share.

        Turns that wait for the one before are told apart by session. Those that may run at the same time,
        and prompts that may pass one which is still on the system prompt, are compared block by block.
        """
        own = self.kernel(len(sent))._replace(sequels=has_sequels(sent))
        if not self.caching or self.policy == "static":
            return own
        if sent.blocks is not None:
            return own._replace(caching=BY_BLOCK, text_tokens=sent.blocks.tokens)
        if is_interleaved(sent) or (sent.system_tokens > 0 and self.long_prefill_token_threshold > 0):
            return own._replace(caching=BY_BLOCK, text_tokens=own.block_tokens)
        return own._replace(caching=BY_SESSION, system_blocks=sent.system_tokens // own.block_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRules:
    """The rules of a run on two pools: those of the decode workers, and what differs for prefill workers.

    The limits are those of each of a worker's ranks of attention. A prefill worker of several stages takes
    its next step when the first stage is free.
    """

    decode: RunRules
    prefill_workers: int
    prefill_max_running: int
    prefill_kv_blocks: int
    prefill_ranks: int = 1
    prefill_stages: int = 1

    @property
    def own_queues(self) -> bool:
        """Whether each prefill worker has a queue of its own, so that what it has cached can be met again."""
        return self.decode.caching and self.decode.router != "least_loaded"

    @property
    def by_session(self) -> bool:
        """Whether all turns of a session go to one prefill worker."""
        return self.own_queues and self.decode.router == "session"


def worker_rules(rules: RunRules) -> Rules:
    """Return the rules of a pool's workers, in the kernels' types; all that they do counts."""
    everything = {"measure_from": NOBODY, "measure_until": np.iinfo(np.int64).max}
    return rules.kernel(0)._replace(pooled=True, caching=NO_CACHE, **everything)


def pool_rules(rules: SplitRules, sent: Requests) -> tuple[Rules, Rules]:
    """Return the rules of prefill and of decode workers that serve some requests, in the kernels' types.

    Prompts are cached where they are computed: by the prefill workers.
    """
    counted = rules.decode.kernel_for(sent)
    decode = worker_rules(rules.decode)._replace(
        measure_from=counted.measure_from,
        measure_until=counted.measure_until,
        sequels=counted.sequels,
        routed=TO_LEAST_LOADED,
        host_blocks=0,
    )
    prefill = decode._replace(
        max_running=int(rules.prefill_max_running),
        kv_blocks=int(rules.prefill_kv_blocks),
        stages=int(rules.prefill_stages),
        swap=False,
        routed=IN_TURN if rules.own_queues else TO_LEAST_LOADED,
        **{name: getattr(counted, name) for name in OF_A_CACHE},
    )
    return prefill, decode


def stated(scenario: Scenario) -> dict[str, Any]:
    """Return the rules of `RunRules` that a scenario states by itself, whatever pools it has."""
    found = {
        "admission": admission_of(scenario),
        "draft_slots": draft_slots(scenario),
        "hit_frac": scenario.prefix_hit_frac,
        "last_lost": needs_states(scenario),
    }
    return found | {name: getattr(scenario, name) for name in STATED}


def rules_of(priced: Priced, sent: Requests, itl_max: bool = False, log: bool = False) -> RunRules:
    """Return the rules of a scenario's run on the requests that its engine takes."""
    scenario, price = priced.scenario, priced.price
    closed = scenario.arrivals == "closed"
    counted = counted_requests(scenario, len(sent))
    first = counted[0] if counted else 0
    at_once = not closed and sent.arrival_s[first] == sent.arrival_s[-1]
    return RunRules(
        policy="chunked" if scenario.split else scenario.policy,
        **stated(scenario),
        kv_blocks=price.kv_blocks,
        kv_block_tokens=price.kv_block_tokens,
        concurrency=scenario.concurrency if closed else 0,
        turnaround_s=price.before_s(sent.prompt_tokens) + price.request_after_s,
        batch_wait_s=scenario.batch_wait_ms / 1e3,
        warm=first,
        whole=counted is None or at_once,
        replicas=scenario.engines,
        router=scenario.router,
        ranks=price.ranks,
        wait_steps=0 if scenario.split else scenario.prefill_wait_steps,
        itl_max=itl_max,
        log=log,
        caching=scenario.prefix_caching == "on",
        host_blocks=0 if scenario.split else host_blocks(scenario, price.kv_block_tokens),
        stages=price.stages,
        even=scenario.engine not in UNEVEN,
    )


def draft_slots(scenario: Scenario) -> int:
    """Return the KV slots that a decode of a scenario holds beyond its tokens, for drafts."""
    speculation = speculation_of(scenario)
    return speculation.slots if speculation else 0


def needs_states(scenario: Scenario) -> bool:
    """Return whether drafts follow from the model's states, so that the last block found is computed anew.

    References
    ----------
    vLLM 0.32, `config/speculative.py`: `use_eagle_block_drop`, all ways of drafting but by the text.
    """
    return scenario.draft != "ngram" and speculation_of(scenario) is not None


def split_rules_of(priced: Priced, sent: Requests, itl_max: bool = False) -> SplitRules:
    """Return the same for a scenario of two pools."""
    scenario, decode = priced.scenario, rules_of(priced, sent, itl_max)
    return SplitRules(
        decode=replace(decode, host_blocks=host_blocks(prefill_of(scenario), decode.kv_block_tokens)),
        prefill_workers=scenario.prefill_workers,
        prefill_max_running=scenario.max_batch,
        prefill_kv_blocks=priced.both_pools.prefill.kv_blocks,
        prefill_ranks=priced.both_pools.prefill.ranks,
        prefill_stages=priced.both_pools.prefill.stages,
    )


def counted_requests(scenario: Scenario, count: int) -> tuple[int, int] | None:
    """Return the range of requests that statistics use, of `count` that were not rejected.

    After the warm-up, and in a closed loop without those that end in the drain. None stands for the whole
    run: offline, where the range would be empty, and in a closed loop without a warm-up, in which benchmark
    tools count every request.
    """
    closed = scenario.arrivals == "closed"
    if scenario.arrivals == "offline" or (closed and scenario.warmup_frac == 0):
        return None
    first = int(scenario.warmup_frac * count)
    last = count - scenario.concurrency if closed else count
    return (first, last) if last > first else None


def windows_too_short(
    scenarios: Sequence[Scenario], arrival_s: np.ndarray, first_token_s: np.ndarray, finished_s: np.ndarray
) -> np.ndarray:
    """Return in which runs the time that statistics use is too short for rates, so that all of a run counts.

    It is shorter than an answer takes on average, or no request finishes in it: a trace that is shorter than
    its service. The times are those of the clients, one row a run.
    """
    times = arrival_s, first_token_s, finished_s
    ranges = {counted_requests(scenario, arrival_s.shape[1]) for scenario in scenarios}
    if len(ranges) > 1:
        runs = zip(scenarios, *(column[:, None] for column in times), strict=True)
        return np.concatenate([windows_too_short([scenario], *own) for scenario, *own in runs])
    (counted,) = ranges
    if counted is None:
        return np.zeros(len(scenarios), bool)
    used = slice(*counted)
    start_s, end_s = arrival_s[:, used.start], arrival_s.max(axis=1)
    inside = (finished_s > start_s[:, None]) & (finished_s <= end_s[:, None])
    answering_s = (finished_s[:, used] - first_token_s[:, used]).mean(axis=1)
    return ~inside.any(axis=1) | (end_s - start_s < answering_s)
