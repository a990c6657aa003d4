"""What runs may cost where somebody waits for them: time of a core, memory, and whether anybody still does.

A page opens an `Allowance` for all it computes. Each run is estimated before it starts, in turns of the
engine's loops and in bytes, and cut to fewer requests where it would take more than its part. The kernels
count their turns, so an estimate that was too low ends there, and the run is repeated with fewer requests.
They also look at a flag that says that nobody waits any more. Without an allowance nothing is cut.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import lru_cache, partial, wraps
from threading import BoundedSemaphore, Lock, current_thread
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from sim_core.engine.compiling import worked_s
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import mean_lengths
from sim_core.traffic.replay import is_scaled
from sim_core.traffic.requests import Requests
from sim_core.traffic.texts import has_sequels, is_interleaved, numbers_a_request

# Measured on one core (`python -m benchmarks.visitors`), rounded up:
TURN_S = 5e-8  # of the engine's loops: a step, or a run of equal ones
REQUEST_S = 5e-7  # to draw a request and to measure what became of it
REQUEST_TURNS = 4.0
OUTPUT_TURNS = 1 / 200  # for each token of an answer: long runs of steps are counted bin by bin
REQUEST_BYTES = 200
PIECE_BYTES = 32  # of each piece of a text that is numbered, the numbering itself included
BLOCK_BYTES = 8  # of each block of it, in each of many engines
RING_BYTES = 32  # of each decoding engine, for each token of a mean answer: some are longer
ENGINE_BYTES = 2_000
TABLES_BYTES = 200_000  # what engines count into, together where they run side by side
SCAN_TURNS = 1 / 4  # to look at one of many engines, for each request
WAKES = 2.0  # turns that each of many engines takes for each request, if its answers last that long
RANK_TURNS = 1.2  # of a rank, in a step of its group
RANK_WAKES = 2.5  # runs of equal steps of a group for each request beside its prompt, if answers last so long
RANK_STEP_S, RANK_PROMPT_S = 8e-3, 3e-2  # that a step of ranks lasts, about: of decodes, and with a prompt
FEWEST_STEPS = 0.8  # of a group for each request, however many begin and end together
TOKEN_S = 3e-5  # that a token of a prompt takes on one rank, about
STEP_TURNS = 1.5  # of a step that runs by itself
STEP_SCAN_TURNS = 1 / 64  # to look at one of many engines for the next such step
DEALT_S = 1.5e-4  # to begin a run of each replica by itself
BYTE_S = 3e-10  # to have the system hand out working memory
LOGGED = 50.0  # times as much as a turn costs one that is logged, and drawn
ESTIMATED = 0.0  # in place of a number of runs
RUNS = 8  # that a view makes if nobody says how many
HEAVY_S = 0.5  # a view that has cost more stands back behind those of other visitors
LEEWAY = 2.0  # times its part of the allowance before a run ends: with many workers estimates are that wide
ENOUGH = 3.0  # times its allowance, and a view makes no further run
STAND_BACK = 3  # about half as much of a busy core as who does not
POLL_S = 0.05
SEAT_POLL_S = 0.5  # who looks loses its place in the queue
NEVER = 1 << 62
_PREFIX = "sweep"
Given = ParamSpec("Given")
Result = TypeVar("Result")
Cuts = dict[tuple[str, float], float]  # unit and how much was asked for: how much is run


class Stopped(Exception):
    """Nobody waits any more for what was being worked out."""


class TooMuch(ScenarioError):
    """More than a page may run; the command line runs it."""


class SpentUp(Exception):
    """A view has run for far more than its budget; what it asks for next would depend on what came before, so
    this is no property of a scenario, and nothing keeps it.
    """


class UsedUp(Exception):
    """A run took more turns than it may."""


class Turns(NamedTuple):
    """What the kernels look at: the turns that a run may still take, and whether to stop, one entry each."""

    left: np.ndarray
    stop: np.ndarray


_GO_ON = np.zeros(1, np.int64)


@dataclass(eq=False)
class Allowance:
    """What all runs of a view may cost together.

    Attributes
    ----------
    seconds : float
        Of one core.
    most_bytes : int
        Working memory of one run.
    stop : ndarray of int64, shape (1,)
        Not 0 once nobody waits for the view any more.
    seated : bool
        Whether it has one of the seats for light views.
    cuts : dict
        What was cut, its unit and how much was asked for, and how much is run at least.
    """

    seconds: float
    most_bytes: int
    stop: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    cuts: Cuts = field(default_factory=dict)
    spent_s: float = 0.0
    seated: bool = False
    _lock: Lock = field(default_factory=Lock)

    def leave_seat(self) -> None:
        """Let another view have the seat, if this one has one; see `seated`."""
        with self._lock:
            if self.seated:
                self.seated = False
                _seats().release()

    def note(self, unit: str, asked: float, runs: float) -> None:
        """Note that less is run than was asked for."""
        with self._lock:
            for cuts in (self.cuts, *_recorders.get()):
                cuts[unit, asked] = min(runs, cuts.get((unit, asked), runs))

    def spend(self, seconds: float) -> None:
        """Note what a run has cost."""
        with self._lock:
            self.spent_s += seconds


_allowance: ContextVar[Allowance | None] = ContextVar("allowance", default=None)
_runs: ContextVar[float | None] = ContextVar("runs", default=None)
_unit: ContextVar[str] = ContextVar("unit", default="requests")  # of what is cut
_recorders: ContextVar[tuple[Cuts, ...]] = ContextVar("recorders", default=())


def allowance() -> Allowance | None:
    """Return what the present view may cost; None where nobody waits."""
    return _allowance.get()


@contextmanager
def allowed(given: Allowance) -> Iterator[Allowance]:
    """Let all that is run meanwhile keep within an allowance; what still runs at the end is stopped."""
    token = _allowance.set(given)
    try:
        yield given
    finally:
        _allowance.reset(token)
        given.stop[0] = 1


@contextmanager
def shared(runs: float) -> Iterator[None]:
    """Let each run that is made meanwhile cost one of so many parts of the allowance."""
    outer = _runs.get()
    token = _runs.set((1.0 if outer is None else outer) * max(runs, 1.0))
    try:
        yield
    finally:
        _runs.reset(token)


@contextmanager
def _apart(runs: float, unit: str, cuts: Cuts) -> Iterator[None]:
    """Let each run made meanwhile cost one of so many parts of the allowance, and enter what is cut."""
    shares, units, recorders = _runs.set(runs), _unit.set(unit), _recorders.set((*_recorders.get(), cuts))
    try:
        yield
    finally:
        _runs.reset(shares)
        _unit.reset(units)
        _recorders.reset(recorders)


def kept(
    most: int, runs: float = RUNS, unit: str = "requests a trial"
) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Let a function remember its latest results, which must not depend on who asks first.

    Each of its runs may cost one of so many parts of the allowance, whatever else shares that; results under
    another budget, or none, are kept apart; and what a result leaves out is noted for everybody who gets it.
    """

    def decorate(function: Callable[Given, Result]) -> Callable[Given, Result]:
        @lru_cache(most)
        def found(budget: object, *args: Any, **more: Any) -> tuple[Result, Cuts]:
            cuts: Cuts = {}
            with _apart(runs, unit, cuts):
                return function(*args, **more), cuts

        @wraps(function)
        def asked(*args: Given.args, **more: Given.kwargs) -> Result:
            given = _allowance.get()
            budget = None if given is None else (given.seconds, given.most_bytes)
            result, cuts = found(budget, *args, **more)  # type: ignore[arg-type]
            if given is not None:
                for (what, number), ran in cuts.items():
                    given.note(what, number, ran)
            return result

        asked.cache_clear = found.cache_clear  # type: ignore[attr-defined]
        return asked

    return decorate


@contextmanager
def estimated() -> Iterator[None]:
    """Let no run be cut that is made meanwhile: all together have been estimated."""
    token = _runs.set(ESTIMATED)
    try:
        yield
    finally:
        _runs.reset(token)


def raise_if_stopped() -> None:
    """Raise `Stopped` if nobody waits any more; loops call it between two points."""
    given = _allowance.get()
    if given is not None and given.stop[0]:
        raise Stopped


def turns(log: bool = False) -> Turns:
    """Return the turns that one run may take, for the kernels."""
    given = _allowance.get()
    if given is None:
        return Turns(np.array([NEVER], np.int64), _GO_ON)
    most = min(LEEWAY * _run_s(given) / TURN_S / (LOGGED if log else 1.0), NEVER)
    return Turns(np.array([max(int(most), 1000)], np.int64), given.stop)


def check_turns(taken: Turns) -> None:
    """Raise `Stopped` or `UsedUp` if that is why a run ended."""
    if taken.stop[0]:
        raise Stopped
    if (taken.left < 0).any():
        raise UsedUp


def _run_s(given: Allowance) -> float:
    runs = _runs.get()
    if runs == ESTIMATED:
        return math.inf
    return given.seconds / (RUNS if runs is None else runs)


# --- the estimate ---------------------------------------------------------------------------------


def turns_per_request(scenario: Scenario, trace: Requests | None = None) -> float:
    """Return the turns of the engine's loops that a request takes, about.

    A request joins, is due once, and leaves; its prompt takes a turn for each chunk, its answer some for the
    bins of its gaps; and whoever hands it on looks at every engine, and lets each take the steps before. In a
    closed loop of two pools, or behind a router, each step may let a client send again, and runs by itself.
    So it does where it may leave a prompt to the cache of a prefill worker.
    """
    prompt, output = mean_lengths(scenario, trace)
    chunk = scenario.token_budget - min(scenario.max_running, scenario.token_budget // 2)
    chunks = prompt / max(chunk, 1) if scenario.policy == "chunked" else 0.0
    own = REQUEST_TURNS + chunks + output * OUTPUT_TURNS
    if ranks_of(scenario) > 1:
        return own + RANK_TURNS * ranks_of(scenario) * _group_steps(scenario, trace, chunks, prompt, output)
    if not side_by_side(scenario, trace):
        return own
    closed = scenario.arrivals == "closed"
    if closed or _routes_sequels(scenario, trace) or _keeps_prompts(scenario):
        batch = max(scenario.concurrency / scenario.engines, 1.0) if closed else 1.0
        return own + output / batch * (STEP_TURNS + scenario.engines * STEP_SCAN_TURNS)
    return own + SCAN_TURNS * _workers(scenario) + min(WAKES * scenario.engines, output)


def _group_steps(
    scenario: Scenario, trace: Requests | None, chunks: float, prompt: float, output: float
) -> float:
    """Return the steps that groups of ranks take for each request, runs of equal ones as one.

    A group takes every step with a chunk of a prompt, and a run of equal ones until something happens to one
    of its ranks or, of many groups, to another: at most as many steps as a request is there for, shared with
    all that are there with it. Where a step may bring a request to another group, they run one by one.
    """
    prompt_steps = max(chunks, 1.0)
    together = _together(scenario, prompt_steps, prompt, output)
    beside = (prompt_steps + output) / max(together, 1.0)
    closed = scenario.arrivals == "closed" and scenario.concurrency < scenario.requests
    if not side_by_side(scenario, trace) or not (
        closed or scenario.arrivals in ("poisson", "gamma", "trace")
    ):
        return max(min(prompt_steps + RANK_WAKES, beside), FEWEST_STEPS)
    if closed or _routes_sequels(scenario, trace) or _keeps_prompts(scenario):
        return STEP_TURNS * beside
    wakes = RANK_WAKES + WAKES * scenario.engines * min(together, 1.0)
    return max(min(prompt_steps + wakes, beside), FEWEST_STEPS)


def _together(scenario: Scenario, prompt_steps: float, prompt: float, output: float) -> float:
    """Return how many requests are in a group at once, about; of two pools those that decode.

    Where prompts come often, each step takes as long as one with a prompt.
    """
    prompt_s, decode_s = max(prompt * TOKEN_S, prompt_steps * RANK_PROMPT_S), output * RANK_STEP_S
    requests = float(scenario.requests)
    if scenario.arrivals in ("closed", "offline"):
        sent = min(float(scenario.concurrency) if scenario.arrivals == "closed" else requests, requests)
    elif scenario.arrivals == "trace":
        sent = 1.0
    elif scenario.split:
        sent = scenario.arrival_per_s * (prompt_s + decode_s)
    else:
        busy_frac = min(scenario.arrival_per_s / scenario.engines * prompt_s, 1.0)
        sent = scenario.arrival_per_s * (prompt_s + decode_s + output * busy_frac * prompt_s / prompt_steps)
    if scenario.split:  # the others are in the prefill pool, whose workers send no more than they compute
        sent *= decode_s / (decode_s + prompt_s)
        sent = min(sent, scenario.prefill_workers * scenario.prefill_ranks * decode_s / prompt_s)
    return min(sent, requests) / scenario.engines


def ranks_of(scenario: Scenario) -> int:
    """Return the ranks of attention of each engine that decodes."""
    return scenario.decode_ranks if scenario.split else scenario.attention_data_parallel


def side_by_side(scenario: Scenario, trace: Requests | None = None) -> bool:
    """Return whether several engines run through time together; those that are dealt requests run alone."""
    dealt = scenario.router != "least_loaded" or scenario.policy == "static" or scenario.arrivals == "closed"
    return scenario.split or (scenario.replicas > 1 and (not dealt or _routes_sequels(scenario, trace)))


def _routes_sequels(scenario: Scenario, trace: Requests | None) -> bool:
    """Return whether a router sends requests that follow others: step by step, as each may bring one."""
    several = scenario.turns > 1 if trace is None else has_sequels(trace)
    return several and (scenario.split or scenario.router != "session")


def _keeps_prompts(scenario: Scenario) -> bool:
    """Return whether prefill workers cache prompts: steps run one by one, as each may leave some to them."""
    return scenario.split and scenario.prefix_caching == "on"


def _workers(scenario: Scenario) -> int:
    return scenario.engines + (scenario.prefill_workers if scenario.split else 0)


def seconds_per_request(scenario: Scenario, trace: Requests | None = None, log: bool = False) -> float:
    """Return the time of a core that one request of a run takes, about [s]."""
    return REQUEST_S + TURN_S * (LOGGED if log else 1.0) * turns_per_request(scenario, trace)


def bytes_of_workers(scenario: Scenario, trace: Requests | None = None) -> float:
    """Return the working memory that a run takes whatever its requests are, about."""
    _, output = mean_lengths(scenario) if scenario.arrivals != "trace" else (0.0, 0.0)
    tables = (1 + scenario.split) if side_by_side(scenario, trace) else scenario.replicas
    shared_bytes = tables * (TABLES_BYTES + 8 * scenario.token_budget)
    ranks = ranks_of(scenario)
    return shared_bytes + ranks * (_workers(scenario) * ENGINE_BYTES + scenario.engines * RING_BYTES * output)


def bytes_per_request(scenario: Scenario, trace: Requests | None = None) -> float:
    """Return the working memory of a request, about: more where a cache compares texts block by block."""
    if scenario.prefix_caching == "off" or scenario.policy == "static":
        return REQUEST_BYTES
    block = scenario.kv_block_tokens
    if trace is not None and (trace.blocks is not None or is_interleaved(trace)):
        pieces, slots = numbers_a_request(trace, min(scenario.requests, len(trace)), block)
    elif scenario.system_tokens and scenario.long_prefill_token_threshold:
        pieces, slots = sum(mean_lengths(scenario, trace)) / block, 2
    else:
        return REQUEST_BYTES
    copies = (scenario.replicas if side_by_side(scenario, trace) else 1) * ranks_of(scenario)
    if scenario.split:
        copies = scenario.prefill_workers * scenario.prefill_ranks
    return REQUEST_BYTES + pieces * (PIECE_BYTES + BLOCK_BYTES * slots * copies)


def seconds_to_begin(scenario: Scenario, trace: Requests | None = None) -> float:
    """Return the time of a core that a run takes whatever its requests are, about [s]."""
    dealt = 0 if side_by_side(scenario, trace) else scenario.replicas
    return DEALT_S * dealt + BYTE_S * bytes_of_workers(scenario, trace)


def affordable(scenario: Scenario, trace: Requests | None = None, log: bool = False) -> Scenario:
    """Return a scenario with as many of its requests as a run of it may have.

    Raises
    ------
    Stopped
        If nobody waits any more.
    TooMuch
        If not even one may run.
    SpentUp
        If the view has run enough.
    """
    given = _allowance.get()
    if given is None:
        return scenario
    raise_if_stopped()
    if _runs.get() == ESTIMATED:
        return scenario
    _raise_if_spent(given)
    room = given.most_bytes - bytes_of_workers(scenario, trace)
    request_bytes = bytes_per_request(scenario, trace)
    if room < request_bytes:
        least_mb = (bytes_of_workers(scenario, trace) + request_bytes) / 1e6
        raise TooMuch(
            f"the engines need about {least_mb:,.0f} MB of this server's memory; a page may use "
            f"{given.most_bytes / 1e6:,.0f} MB. Take fewer workers, a smaller token_budget or shorter "
            "requests, or use the command, which has no such limit."
        )
    asked = requests_of(scenario, trace)
    most = min(affordable_requests(scenario, trace, log), room / request_bytes)
    return scenario if most >= asked else _cut(given, scenario, asked, round_down(most))


def _raise_if_spent(given: Allowance) -> None:
    if given.spent_s > ENOUGH * given.seconds:
        raise SpentUp(
            f"This page has run for {given.spent_s:.1f} s of a core; its budget is {given.seconds:g} s. "
            "Shorten the requests or take fewer of them, or use the command, which has no such limit."
        )


@contextmanager
def accounted() -> Iterator[None]:
    """Count what is worked out meanwhile by arithmetic alone, which no kernel counts.

    Raises
    ------
    Stopped
        If nobody waits any more.
    SpentUp
        If the view has run enough before.
    """
    given = _allowance.get()
    if given is None:
        yield
        return
    raise_if_stopped()
    _raise_if_spent(given)
    start_s = worked_s()
    try:
        yield
    finally:
        given.spend(worked_s() - start_s)


def requests_of(scenario: Scenario, trace: Requests | None) -> int:
    """Return how many requests a run has."""
    return scenario.requests if trace is None or is_scaled(scenario) else min(scenario.requests, len(trace))


def seconds_of_run(scenario: Scenario, trace: Requests | None = None, log: bool = False) -> float:
    """Return the time of a core that a run takes, about [s]."""
    each_s = seconds_per_request(scenario, trace, log)
    return seconds_to_begin(scenario, trace) + requests_of(scenario, trace) * each_s


def affordable_requests(scenario: Scenario, trace: Requests | None = None, log: bool = False) -> float:
    """Return how many requests a run may have for the time it takes, about.

    At least half of that time is for requests, whatever it takes to begin.
    """
    given = _allowance.get()
    if given is None:
        return math.inf
    run_s = _run_s(given)
    return max(run_s - seconds_to_begin(scenario, trace), run_s / 2) / seconds_per_request(
        scenario, trace, log
    )


def fewer(scenario: Scenario, trace: Requests | None, asked: int) -> Scenario:
    """Return a scenario with a quarter of its requests, after a run that took more turns than it may."""
    given, ran = _allowance.get(), requests_of(scenario, trace)
    if given is None or ran <= 1:
        raise TooMuch(
            "a single one of these requests takes more steps of the engine than a page may run. Raise "
            "token_budget or shorten the requests, or use the command, which has no such limit."
        )
    return affordable(_cut(given, scenario, asked, round_down(ran / 4)), trace)


def _cut(given: Allowance, scenario: Scenario, asked: int, requests: int) -> Scenario:
    requests = max(requests, 1)
    given.note(_unit.get(), asked, requests)
    return scenario.replace(requests=requests)


def round_down(value: float) -> int:
    """Return the number of one digit below a value."""
    if value < 1:
        return 0
    digit = 10 ** int(math.log10(value))
    return int(value // digit) * digit


# --- light views take seats, heavy runs stand back --------------------------------------------------


@lru_cache(maxsize=1)
def _seats() -> BoundedSemaphore:
    return BoundedSemaphore(os.cpu_count() or 2)


@contextmanager
def seated() -> Iterator[None]:
    """Wait for one of as many seats as there are cores, and keep it meanwhile.

    Kernels release the interpreter's lock and want it back: with a dozen views at once, each of the hundreds
    of calls of a sweep would wait for all the others. A view that turns out to be heavy leaves its seat.

    Raises
    ------
    Stopped
        If nobody waits any more.
    """
    given = _allowance.get()
    if given is None or given.seated or is_heavy():
        yield
        return
    while not _seats().acquire(timeout=SEAT_POLL_S):
        raise_if_stopped()
    given.seated = True
    try:
        yield
    finally:
        given.leave_seat()


@lru_cache(maxsize=1)
def pool() -> ThreadPoolExecutor:
    """Return the process-wide threads for heavy runs, one less than there are cores; the kernels release the
    GIL. They stand back behind the threads that draw pages.
    """
    return ThreadPoolExecutor(_threads(), thread_name_prefix=_PREFIX, initializer=_stand_back)


def _threads() -> int:
    return max(1, (os.cpu_count() or 2) - 1)


def _stand_back() -> None:
    """Lower the priority of this thread somewhat, where the system lets threads have one of their own."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), STAND_BACK)


def costed(
    scenario: Scenario, trace: Requests | None, log: bool, make: Callable[[], Result], runs: int = 1
) -> Result:
    """Return what one run makes, or several alike, and count the cost; what is heavy stands back."""
    given = _allowance.get()
    if given is None:
        return make()
    seconds = runs * requests_of(scenario, trace) * seconds_per_request(scenario, trace, log)
    made = partial(_measured, given, make)
    if given.spent_s + seconds <= HEAVY_S or current_thread().name.startswith(_PREFIX):
        return made()
    given.leave_seat()
    return awaited(pool().submit(copy_context().run, made))


def _measured(given: Allowance, make: Callable[[], Result]) -> Result:
    start_s = worked_s()
    try:
        return make()
    finally:
        given.spend(worked_s() - start_s)


def is_heavy() -> bool:
    """Return whether the present view has cost so much that what it has still to run stands back."""
    given = _allowance.get()
    return given is not None and given.spent_s > HEAVY_S


def awaited(future: Future[Result]) -> Result:
    """Return what a future brings; it is given up once nobody waits for it."""
    while True:
        try:
            return future.result(POLL_S if _allowance.get() else None)
        except TimeoutError:
            if future.done():
                return future.result()
            try:
                raise_if_stopped()
            except Stopped:
                future.cancel()
                raise
