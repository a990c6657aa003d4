"""Requests: what is sent, whether drawn, replayed from a trace, listed or measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Requests in order of arrival, one entry each; compared and hashed by identity, never written to.

    Attributes
    ----------
    arrival_s : ndarray of float64, shape (n,)
        Arrival times, non-decreasing; in a closed loop those of the first clients. [s]
    prompt_tokens, output_tokens : ndarray of int64, shape (n,)
        Lengths, at least 1. [tokens]
    name : str
        The file they come from; empty for drawn ones.
    notes : tuple of str
        What was changed while they were read.
    """

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    name: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival_s)

    def columns(self) -> tuple[np.ndarray, ...]:
        """Return the columns in the one type and layout that kernels are compiled for."""
        return tuple(np.require(getattr(self, name), kind, ["C", "W"]) for name, kind in COLUMNS.items())

    def take(self, rows: Any) -> Requests:
        """Return some of the requests: a slice, a mask or their numbers, in that order."""
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in COLUMNS})

    def arriving_at(self, arrival_s: np.ndarray) -> Requests:
        """Return the same requests at other times [s]."""
        return dataclasses.replace(self, arrival_s=arrival_s)


COLUMNS = {"arrival_s": np.float64, "prompt_tokens": np.int64, "output_tokens": np.int64}


def read_only(sent: Requests) -> Requests:
    """Return the same requests, to whose columns nobody can write: they are shared."""
    for name in COLUMNS:
        getattr(sent, name).flags.writeable = False
    return sent


def requests_of(arrival_s: Any, prompt_tokens: Any, output_tokens: Any, name: str = "") -> Requests:
    """Return requests from columns of any kind."""
    columns = zip(COLUMNS.values(), (arrival_s, prompt_tokens, output_tokens), strict=True)
    return Requests(*(np.asarray(column, kind) for kind, column in columns), name=name)


def joined(parts: Sequence[Requests]) -> Requests:
    """Return several requests as one after the other."""
    return Requests(*(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS))


def listed(rows: Iterable[tuple[float, int, int]], name: str = "") -> Requests:
    """Return requests from rows of arrival [s], prompt and output tokens."""
    return requests_of(*zip(*rows, strict=True), name=name)
