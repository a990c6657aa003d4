"""Compiling the kernels beside the server, and how far it is.

Numba holds the interpreter while it compiles, and a visitor's page would come late. So where the cache on
disk is empty, another process fills it, telling line by line what it has done: the names of functions, and of
parts. This one loads each part when it is there. What that process leaves out is compiled here; so is
everything where nothing can be kept.

Run as a module, this file is that process. Where there is a second core, it has one of its own, which
compiles meanwhile parts whose machine code hardly any other part needs (`BESIDE`). No entry point is compiled
by both, since whichever wrote its list of machine codes last would drop the other's.
"""

from __future__ import annotations

import atexit
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sim_core.engine import progress
from sim_core.engine import run as engine
from sim_core.engine.run import Part
from sim_core.results.answers import Rows, answer_of_rows
from sim_core.results.reuse import reuse_of
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.frontier import frontier
from sim_core.traffic.draws import requests_sent

_ROOT = Path(__file__).parent.parent.parent.parent
_WORD = "beside"  # to the process that compiles those parts
_SESSIONS = Scenario(requests=4, output_tokens=2, turns=2, prefix_caching="on")


def _one_point() -> None:
    """Simulate one point of a sweep, as the first chart has many."""
    frontier(Scenario(requests=4, output_tokens=2), {"max_batch": (1,)})


def _percentiles() -> None:
    """Describe three requests that no engine has run."""
    times_s = np.arange(3.0)
    answer_of_rows(Scenario(requests=3), Rows(times_s, np.full(3, 2), times_s + 1.0, times_s + 2.0))


def _conversations() -> None:
    """Keep the texts of sessions, in one engine and among replicas, and see what they have in common."""
    for replicas in (1, 2):
        engine.run(_SESSIONS.replace(replicas=replicas))
    reuse_of(requests_sent(_SESSIONS), _SESSIONS.kv_block_tokens)


_OF_ENGINE = {part.name: part for part in engine.PARTS}


def _of_engine(*names: str) -> tuple[Part, ...]:
    return tuple(_OF_ENGINE[name] for name in names)


_IN_TWO_POOLS = Part(
    "conversations in two pools", lambda: engine.run(_SESSIONS.replace(policy="disaggregated"))
)
_ON_STAGES = Part("conversations on stages", lambda: engine.run(_SESSIONS.replace(pipeline_parallel=2)))

FIRST = (*_of_engine("continuous batching"), Part("percentiles", _one_point))  # what the first chart needs
USUAL = (
    *FIRST,
    *_of_engine("static batching", "replicas"),
    Part("conversations", _conversations),
    *_of_engine("two pools"),
)
LAID_OUT = (*USUAL, *_of_engine("ranks", "two pools of ranks", "stages"))  # with the layouts of large models
PARTS = (
    *LAID_OUT,
    Part("conversations on ranks", lambda: engine.run(_SESSIONS.replace(**engine.TWO_RANKS))),
    _IN_TWO_POOLS,
    _ON_STAGES,
)
BESIDE = (
    Part("percentiles", _percentiles),
    *_of_engine("two pools", "two pools of ranks", "stages"),
    _IN_TWO_POOLS,
    _ON_STAGES,
)


class Progress(NamedTuple):
    """How far the preparation is."""

    parts: int = 0  # ready, in the order of `PARTS`
    functions: int = 0  # compiled
    of: int = 0  # functions there are; 0 before they have been counted
    failure: str = ""  # why the last attempt ended, if it failed


class Preparation:
    """The compiling of some parts, once a process, for all who wait for it."""

    def __init__(self, parts: Sequence[Part] = PARTS) -> None:
        self._parts = parts
        self._changed = threading.Condition()
        self._now = Progress()
        self._thread: threading.Thread | None = None
        self._compiled: set[str] = set()

    @property
    def now(self) -> Progress:
        """How far it is."""
        return self._now

    def is_ready(self, parts: int | None = None) -> bool:
        """Return whether some first parts can be used, or all."""
        return self._now.parts >= (len(self._parts) if parts is None else parts)

    def begin(self) -> None:
        """Begin, unless that has been done; after a failure, try again."""
        with self._changed:
            if self.is_ready() or (self._thread and self._thread.is_alive() and not self._now.failure):
                return
            self._compiled.clear()
            self._now = self._now._replace(functions=0, failure="")
            self._thread = threading.Thread(target=self._prepare, name="preparation", daemon=True)
            self._thread.start()

    def wait(self, parts: int | None, timeout_s: float) -> bool:
        """Wait for some first parts or all, but for a time at most, and return whether they can be used."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_ready(parts) or self._now.failure, timeout_s)
            return self.is_ready(parts)

    def _note(self, **changes: Any) -> None:
        with self._changed:
            self._now = self._now._replace(**changes)
            self._changed.notify_all()

    def _count(self, function: str) -> None:
        self._compiled.add(function)
        self._note(functions=len(self._compiled))

    def _prepare(self) -> None:
        try:
            with _process() as lines, progress.told(self._count):
                self._note(of=progress.count_functions())
                for number, part in enumerate(self._parts[self._now.parts :], self._now.parts + 1):
                    _follow(lines, part, self._count)
                    part.use()
                    self._note(parts=number)
        except Exception as error:  # whatever it is, those who wait must hear of it
            self._note(failure=f"{type(error).__name__}: {error}")


KERNELS = Preparation()  # of this process


def _follow(lines: Iterable[str], part: Part, compiled: Callable[[str], None]) -> None:
    """Tell what another process compiles until it has done a part, or ends."""
    for line in lines:
        if line == part.name:
            return
        compiled(line)


@contextmanager
def _process(*words: str) -> Iterator[Iterator[str]]:
    """Yield what a process says that fills the cache; nothing where that is of no use."""
    if progress.has_cache() or not progress.can_cache():
        yield iter(())
        return
    try:
        helper = _start(*words)
    except (OSError, TypeError, ValueError):  # no process can be had: everything is compiled here
        yield iter(())
        return
    atexit.register(helper.kill)  # a thread that waits here does not outlive the server, nor should this
    try:
        with helper:
            try:
                yield (line.rstrip("\n") for line in helper.stdout or ())
            finally:
                helper.kill()
    finally:
        atexit.unregister(helper.kill)


def _start(*words: str) -> subprocess.Popen[str]:
    """Start the process where this one stands, so that both find the same cache."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", __spec__.name, *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _say(word: str) -> None:
    """Print a line at once; where nobody listens any more, end."""
    try:
        print(word, flush=True)
    except OSError:
        os._exit(0)


def _compile(parts: Sequence[Part], theirs: Sequence[Part] = (), lines: Iterable[str] = ()) -> None:
    """Compile parts in their order, and say so; those that another process does are loaded once it has."""
    gc.disable()  # a tenth of the time; this process ends soon
    names = {part.name for part in theirs}
    with progress.told(_say):
        for part in parts:
            if part.name in names:
                _follow(lines, part, _say)
            part.use()
            _say(part.name)
            if part.name == FIRST[-1].name and hasattr(os, "nice"):
                os.nice(10)  # the first chart is drawn meanwhile


def _compile_all() -> None:
    """Compile all parts, some of them by a process of its own where there is a core for it."""
    if (os.cpu_count() or 1) == 1:
        _compile(PARTS)
        return
    with _process(_WORD) as lines:
        _compile(PARTS, BESIDE, lines)


if __name__ == "__main__":
    if sys.argv[1:] == [_WORD]:
        _compile(BESIDE)
    else:
        _compile_all()
