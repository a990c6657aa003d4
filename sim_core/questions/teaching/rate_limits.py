"""How often a visitor may do what costs others something: so many times within so long."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from sim_core.questions.teaching.room import NotNow

MOST_KNOWN = 10_000  # visitors; who came first is forgotten first


class RateLimit(NamedTuple):
    """So many times within so long."""

    most: int
    within_s: float


class RateLimits:
    """What visitors have done lately, in this process.

    Parameters
    ----------
    allowed : mapping of str to RateLimit
        By what is done.
    clock : callable
        Returns the time. [s]
    """

    def __init__(self, allowed: Mapping[str, RateLimit], clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed, self._clock = allowed, clock
        self._done: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, what: str, who: str) -> None:
        """Raise `NotNow` if a visitor has done something as often as they may."""
        most, within_s = self._allowed[what]
        with self._lock:
            times = self._done.get((what, who), deque())
            while times and times[0] <= self._clock() - within_s:
                times.popleft()
            if len(times) >= most:
                left_s = times[0] + within_s - self._clock()
                raise NotNow(
                    f"Too many {what} from here: {most} within {_period(within_s)} are taken. "
                    f"Try again in {max(1.0, left_s):.0f} s."
                )

    def note(self, what: str, who: str) -> None:
        """Note that a visitor has done something."""
        with self._lock:
            self._done.setdefault((what, who), deque(maxlen=self._allowed[what].most)).append(self._clock())
            self._done.move_to_end((what, who))
            while len(self._done) > MOST_KNOWN:
                self._done.popitem(last=False)


def _period(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} minutes"
