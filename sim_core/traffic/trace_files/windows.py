"""A window of a trace: from an hour or a clock time on, so many hours."""

from __future__ import annotations

import math
import shlex
from datetime import UTC, datetime
from typing import NamedTuple

from sim_core.fields.errors import ScenarioError, shown


class Window(NamedTuple):
    """Which part of a trace is read.

    Attributes
    ----------
    start : str
        Hours after the first request, or a date and time where a trace has these; empty is its beginning.
    hours : float
        Length; endless by default.
    """

    start: str = ""
    hours: float = math.inf

    @property
    def options(self) -> str:
        """The options of the command line that ask for it, quoted for POSIX shells."""
        start = f" --from {shlex.quote(self.start.strip())}" if self.start.strip() else ""
        return start + (f" --hours {self.hours:g}" if self.hours != math.inf else "")

    @property
    def is_part(self) -> bool:
        """Whether anything is to be left out."""
        return bool(self.start.strip()) or self.hours != math.inf

    def bounds_s(self, origin: datetime | None, name: str) -> tuple[float, float]:
        """Return where the window begins and ends, after the first request. [s]

        Parameters
        ----------
        origin : datetime or None
            Clock time of the first request; None where a trace has no clock.
        name : str
            What messages call the trace.
        """
        if not self.hours > 0:
            raise ScenarioError(f"the window's hours are {self.hours:g}; they must be more than 0.")
        start_s = self._start_s(origin, name)
        return start_s, start_s + 3600 * self.hours

    def _start_s(self, origin: datetime | None, name: str) -> float:
        text = self.start.strip()
        if not text:
            return 0.0
        try:
            hours = float(text)
        except ValueError:
            return self._clock_s(text, origin, name)
        if not 0 <= hours < math.inf:
            raise ScenarioError(
                f"the window's start is {shown(text)}; it must be hours after the first request, at least 0."
            )
        return 3600 * hours

    def _clock_s(self, text: str, origin: datetime | None, name: str) -> float:
        try:
            stamp = datetime.fromisoformat(text)
        except ValueError:
            raise ScenarioError(
                f"the window's start is {shown(text)}; give hours after the first request, or a date and "
                "time such as 2024-05-12T08:00."
            ) from None
        stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
        if origin is None:
            raise ScenarioError(
                f"the window's start is {shown(text)}, a date and time, but {name} counts from its "
                "beginning: give hours."
            )
        return max(float((stamp - origin).total_seconds()), 0.0)


WHOLE = Window()


def nothing_within(window: Window, name: str, span_s: float) -> ScenarioError:
    """Return the refusal of a window that holds no request."""
    start = window.start.strip() or "0"
    lasts = f" for {window.hours:g} h" if math.isfinite(window.hours) else ""
    return ScenarioError(
        f"{name} has no request from {shown(start)} on{lasts}; it spans {span_s / 3600:,.4g} h. Choose a "
        "window within that."
    )


def without_times(name: str) -> ScenarioError:
    """Return the refusal of a window of a list of lengths."""
    return ScenarioError(f"{name} has lengths without times, so no window of it can be read: leave it out.")
