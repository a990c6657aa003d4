"""An end for what would compute for ever.

This is no measurement. What is right takes a second at most, and what is wrong many minutes for the same
input, so that no machine, however slow or busy, makes one look like the other. Where a test can count instead
(calls, comparisons, characters that are looked at), it should. How fast something is, `benchmarks/` says.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

HANGS_S = 60  # of a core


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail what computes for a minute; where a system has no such timer, it computes to its end."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def end(*_: object) -> None:
        pytest.fail(f"this has computed for {HANGS_S} s and should take one")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, HANGS_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
