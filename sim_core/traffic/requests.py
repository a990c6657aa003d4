"""Requests: what is sent, whether drawn, replayed from a trace, listed or measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


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
    timed : bool
        Whether the arrival times are the requests' own; a list of lengths has none.
    clock_tokens : ndarray of float64, shape (n,), optional
        What the engine's token clock counts of each answer after its first token; by default, its tokens.
    """

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    name: str = ""
    notes: tuple[str, ...] = ()
    timed: bool = True
    clock_tokens: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)

    def columns(self) -> tuple[np.ndarray, ...]:
        """Return the columns in the one type and layout that kernels are compiled for."""
        return tuple(np.require(getattr(self, name), kind, ["C", "W"]) for name, kind in COLUMNS.items())

    def take(self, rows: slice | np.ndarray) -> Requests:
        """Return some of the requests: a slice, a mask or their numbers, in that order."""
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        if self.clock_tokens is not None:
            columns["clock_tokens"] = self.clock_tokens[rows]
        return dataclasses.replace(self, **columns)

    def arriving_at(self, arrival_s: np.ndarray) -> Requests:
        """Return the same requests at other times [s]."""
        return dataclasses.replace(self, arrival_s=arrival_s)


COLUMNS = {"arrival_s": np.float64, "prompt_tokens": np.int64, "output_tokens": np.int64}


def read_only(sent: Requests) -> Requests:
    """Return the same requests, to whose columns nobody can write: they are shared."""
    for name in COLUMNS:
        getattr(sent, name).flags.writeable = False
    return sent


def requests_of(
    arrival_s: ArrayLike, prompt_tokens: ArrayLike, output_tokens: ArrayLike, name: str = ""
) -> Requests:
    """Return requests from columns of any kind."""
    return Requests(
        np.asarray(arrival_s, np.float64),
        np.asarray(prompt_tokens, np.int64),
        np.asarray(output_tokens, np.int64),
        name,
    )


def joined(parts: Sequence[Requests]) -> Requests:
    """Return several requests as one after the other."""
    arrival_s, prompt_tokens, output_tokens = (
        np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS
    )
    return Requests(arrival_s, prompt_tokens, output_tokens)


def listed(rows: Iterable[tuple[float, int, int]], name: str = "") -> Requests:
    """Return requests from rows of arrival [s], prompt and output tokens."""
    arrival_s, prompt_tokens, output_tokens = zip(*rows, strict=True)
    return requests_of(arrival_s, prompt_tokens, output_tokens, name)
