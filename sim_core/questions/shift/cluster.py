"""A cluster of equal workers in two pools, whose split changes while traffic goes on.

The engine is that of two pools (`sim_core.price.pools`), ranks of attention included, of which a worker may
have other numbers in either pool; a worker is in one of them or on its way to the other. Its way has phases,
one after another:

1. *drain*: it takes no new work. A prefill worker ends its step, sends its KV caches and waits until they are
   taken over. A decode worker finishes its requests, or migrates them: their KV caches travel over its link
   to the other decode workers, one after another, and decoding goes on there.
2. *init*, *load*, *warm-up*, *sync*: it serves nobody. Loading takes the bytes of the worker's weights over
   the bandwidth of its storage.

One worker that is ready stays in each pool, whatever is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from sim_core.engine.kernels.pools.moves import MovePlan
from sim_core.engine.kernels.records import DECODES, NOBODY, PREFILLS
from sim_core.engine.rules import RunRules, stated, worker_rules
from sim_core.engine.run import on_the_clock
from sim_core.engine.two_pools import SplitEngine, workers_of
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.memory import memory
from sim_core.price.pools import PoolPrices, decode_of, prefill_of
from sim_core.price.step_cost import Transfer
from sim_core.scenario.scenario import DEFAULTS, Scenario, model_of
from sim_core.traffic.demand import Demand

PHASES = ("init", "load", "warm-up", "sync")  # of a reallocation, after the drain
STATES = ("prefill", "decode", "drain", *PHASES)
DEFAULT_SOURCES = {  # where the defaults of the reallocation keys come from
    "init_s": "Llama-2-13B on A100, vLLM 0.10.1: 10 s bootstrap and 7 s not attributed (Breaking the Ice: "
    "Analyzing Cold Start Latency in vLLM, MLSys 2026, arXiv 2606.07362)",
    "storage_gb_per_s": "753 GB in about 104 s from a local disk, 2 x 8 H200 (vllm-conf, pd_role_switch)",
    "warm_up_s": "26.4 s with a warm compile cache, 15 to 34 s seen, 145 s without (Breaking the Ice, as "
    "above; vLLM issue 19824)",
    "sync_s": "NCCL initialisation on 8 H100: 2.46 s (NCCL issue 534)",
    "control_s": "NVIDIA Dynamo planner, load-based scaling: 5 s; Kubernetes HPA: 15 s",
    "forecast_s": "NVIDIA Dynamo planner, throughput-based scaling: 180 s",
    "cooldown_s": "assumption; NVIDIA Dynamo's earlier planner waited 90 s, Kubernetes HPA 300 s before "
    "scaling down",
}

REALLOCATIONS = {  # what moving a worker may mean: name, and the keys it sets
    "flip": (
        "Role flip, weights stay",
        {"init_s": 0.0, "storage_gb_per_s": 1e6, "warm_up_s": 0.0, "sync_s": 0.4},
    ),
    "memory": ("Restart, weights in host memory", {"storage_gb_per_s": 20.0}),
    "disk": ("Restart, weights on local disk", {}),
    "node": (
        "New node, weights from storage",
        {"init_s": 362.0, "storage_gb_per_s": 3.5, "warm_up_s": 145.0, "sync_s": 12.0},
    ),
}
PHASE_KEYS = ("init_s", "storage_gb_per_s", "warm_up_s", "sync_s")


def reallocation_keys(kind: str) -> dict[str, float]:
    """Return the values of `PHASE_KEYS` for one of `REALLOCATIONS`; the rest are the defaults."""
    return {key: DEFAULTS[key] for key in PHASE_KEYS} | REALLOCATIONS[kind][1]


def reallocation_kind(scenario: Scenario) -> str:
    """Return which of `REALLOCATIONS` a scenario has, "" if it has values of its own."""
    own = {key: getattr(scenario, key) for key in PHASE_KEYS}
    return next((kind for kind in REALLOCATIONS if reallocation_keys(kind) == own), "")


def phases_s(scenario: Scenario) -> dict[str, float]:
    """Return how long each of `PHASES` takes [s]; of two layouts of a worker the larger one is loaded."""
    weights_gb = max(memory(pool(scenario))["weights_gb"] for pool in (prefill_of, decode_of))
    load_s = weights_gb / scenario.storage_gb_per_s
    return dict(zip(PHASES, (scenario.init_s, load_s, scenario.warm_up_s, scenario.sync_s), strict=True))


def reallocation_s(scenario: Scenario) -> float:
    """Return how long a worker on its way serves nobody [s], after it has drained."""
    return sum(phases_s(scenario).values())


def plan_of(scenario: Scenario, free: bool = False) -> MovePlan:
    """Return what a move takes; a free one takes nothing, and its requests go on elsewhere at once."""
    if free:
        return MovePlan(0.0, True, True)
    return MovePlan(float(reallocation_s(scenario)), scenario.drain == "migrate", False)


def check_workers(scenario: Scenario) -> int:
    """Return the workers of both pools.

    Raises
    ------
    ScenarioError
        If the workers of the two pools are of different sizes.
    """
    prefill, decode = (pool(scenario).tensor_parallel for pool in (prefill_of, decode_of))
    if scenario.prefill_stages != scenario.decode_stages:
        raise ScenarioError(
            f"prefill workers have {counted(scenario.prefill_stages, 'stage')} and decode workers "
            f"{scenario.decode_stages}: a worker that moves between the pools keeps its devices, and its "
            "layers. Set pipeline_parallel, and leave prefill_pipeline_parallel and decode_pipeline_parallel "
            "empty."
        )
    if prefill != decode:
        raise ScenarioError(
            f"prefill workers have {prefill} devices and decode workers {decode}: a "
            "worker that moves between the pools keeps its devices. Leave prefill_tensor_parallel and "
            "decode_tensor_parallel empty."
        )
    return scenario.prefill_workers + scenario.decode_workers


class Decision(NamedTuple):
    """A split that was asked for: at which time, from how many prefill workers to how many, which move."""

    time_s: float
    before: int
    after: int
    moves: tuple[int, ...]


class Cluster:
    """The workers, their requests and their moves, driven through time.

    Requests that fit no worker are left out; `kept` says which are served. Times are those of clients.
    """

    def __init__(
        self, scenario: Scenario, pools: PoolPrices, demand: Demand, prefill_workers: int, free: bool = False
    ) -> None:
        self.workers = check_workers(scenario)
        sent = demand.requests
        self.kept = pools.holds(model_of(scenario), sent.prompt_tokens, sent.output_tokens)
        served = on_the_clock(scenario, pools.decode.request_limit_tokens, sent.take(self.kept))
        served = served.arriving_at(served.arrival_s + pools.decode.before_s(served.prompt_tokens))
        rules = RunRules(
            **stated(scenario),
            kv_blocks=pools.decode.kv_blocks,
            kv_block_tokens=pools.decode.kv_block_tokens,
        )
        decode = worker_rules(rules)
        decode = decode._replace(measure_until=NOBODY)  # nobody asks a strategy for gaps and step counters
        prefill = decode._replace(
            max_running=scenario.max_batch,
            kv_blocks=pools.prefill.kv_blocks,
            stages=pools.prefill.stages,
        )
        self.engine = SplitEngine(
            workers_of(
                prefill, pools.prefill.step, served, self.workers, decode=False, ranks=pools.prefill.ranks
            ),
            workers_of(decode, pools.decode.step, served, self.workers, ranks=pools.decode.ranks),
            Transfer(0.0, 0.0, 1, False) if free else pools.transfer,
            served,
            plan=plan_of(scenario, free),
            most_moves=64,
        )
        self.heading = np.where(np.arange(self.workers) < prefill_workers, PREFILLS, DECODES)
        self.start = self.heading.copy()
        self.engine.senders["free_s"][prefill_workers:] = math.inf
        self.engine.decode.states["opens_s"][:prefill_workers] = math.inf
        self._way = np.full(self.workers, -1)  # each worker's last move
        self.decisions: list[Decision] = []

    @property
    def prefill_workers(self) -> int:
        """Workers that prefill or are on their way to it."""
        return int(np.count_nonzero(self.heading == PREFILLS))

    def advance(self, untils_s: np.ndarray | float) -> None:
        """Let everything happen that happens before a moment, or before each of several in turn [s]."""
        self.engine.advance(untils_s)

    def ask(self, prefill_workers: int, now_s: float) -> None:
        """Move workers until so many prefill, or as near to it as those that are ready allow."""
        before = self.prefill_workers
        missing = prefill_workers - before
        own, to = (DECODES, PREFILLS) if missing > 0 else (PREFILLS, DECODES)
        ready = np.flatnonzero((self.heading == own) & self._is_ready(now_s))
        leaving = self._least_busy(ready, own)[: min(abs(missing), ready.size - 1)]
        if leaving.size == 0:
            return
        first = self.engine.moved
        for worker in leaving:
            self._move(worker, to, now_s)
        moves = tuple(range(first, self.engine.moved))
        self.decisions.append(Decision(now_s, before, self.prefill_workers, moves))

    def _is_ready(self, now_s: float) -> np.ndarray:
        """Return which workers are not on their way."""
        ready_s = np.where(self._way >= 0, self.engine.moves["ready_s"][self._way], 0.0)
        return ready_s <= now_s  # not while it is NaN

    def _least_busy(self, workers: np.ndarray, pool: int) -> np.ndarray:
        """Return workers in the order in which they will have given up their work, as far as one can tell."""
        busy = self.engine.senders["free_s"] if pool == PREFILLS else self.engine.decode.states["unfinished"]
        return workers[np.argsort(busy[workers], kind="stable")]

    def _move(self, worker: int, to: int, now_s: float) -> None:
        if self.engine.moved == self.engine.moves.size:
            self.engine.moves = np.resize(self.engine.moves, 2 * self.engine.moves.size)
        self._way[worker] = self.engine.moved
        self.heading[worker] = to
        self.engine.ask_move(worker, to, now_s)

    def moves(self) -> np.ndarray:
        """Return all moves asked for so far (`moves.MOVE`)."""
        return self.engine.moves[: self.engine.moved]


class Span(NamedTuple):
    """A worker in one state (one of `STATES`) for some time [s]; serving includes waiting for work."""

    worker: int
    state: str
    start_s: float
    end_s: float


def spans(cluster: Cluster, scenario: Scenario, end_s: float, free: bool = False) -> list[Span]:
    """Return what every worker did from 0 to the end, without gaps, by worker and time."""
    lengths_s = dict.fromkeys(PHASES, 0.0) if free else phases_s(scenario)
    found: list[Span] = []
    moves = cluster.moves()
    for worker in range(cluster.workers):
        state, start_s = STATES[cluster.start[worker]], 0.0
        for move in moves[moves["worker"] == worker]:
            drained_s = math.inf if math.isnan(move["drained_s"]) else float(move["drained_s"])
            moments = [float(move["asked_s"]), drained_s]
            for length_s in lengths_s.values():
                moments.append(moments[-1] + length_s)
            for name, moment_s in zip((state, "drain", *PHASES), moments, strict=True):
                found.append(Span(worker, name, start_s, moment_s))
                start_s = moment_s
            state = STATES[move["to"]]
        found.append(Span(worker, state, start_s, end_s))
    cut = [span._replace(end_s=min(span.end_s, end_s)) for span in found if span.start_s < end_s]
    return [span for span in cut if span.end_s > span.start_s]


def state_s(found: Iterable[Span]) -> dict[str, float]:
    """Return for how long workers were in each of `STATES`, all together [s]."""
    total = dict.fromkeys(STATES, 0.0)
    for span in found:
        total[span.state] += span.end_s - span.start_s
    return total
