"""The step log one by one, and its events in words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Steps(NamedTuple):
    """The steps of a log one by one: the row of each, and when it starts and ends [s]."""

    row: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray

    def of(self, chosen: np.ndarray) -> Steps:
        """Return the steps of the chosen rows (a mask over the log)."""
        return Steps(*(column[chosen[self.row]] for column in self))


def each_step(log: np.ndarray) -> Steps:
    """Return the steps of a log one by one; step k of a row lasts `growth_s` longer than the one before."""
    count = log["count"]
    row = np.repeat(np.arange(log.size), count)
    place = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
    first_s = (log["duration_s"] / count - log["growth_s"] * (count - 1) / 2)[row]
    growth_s = log["growth_s"][row]
    start_s = log["start_s"][row] + place * first_s + growth_s * place * (place - 1) / 2
    ends = place + 1 == count[row]
    row_end_s = (log["start_s"] + log["duration_s"])[row]
    return Steps(row, start_s, np.where(ends, row_end_s, start_s + first_s + growth_s * place))


def events_by_row(events: np.ndarray, rows: int, detailed: bool) -> list[str]:
    """Return the events of each row of the log as text."""
    texts: list[list[str]] = [[] for _ in range(rows)]
    for row, _, request, computed, tokens in events.tolist():
        texts[row].append(f"{request}:{computed}+{tokens}" if detailed else str(request))
    return [" ".join(text) for text in texts]
