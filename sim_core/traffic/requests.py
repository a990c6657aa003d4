"""Requests: what is sent, whether drawn, replayed from a trace, listed or measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class BlockChains(NamedTuple):
    """What prompts have in common, as traces tell it: the text of each, hashed piece by piece.

    Attributes
    ----------
    offsets : ndarray of int64, shape (n + 1,)
        Where the pieces of each request begin in `ids`.
    ids : ndarray of int64
        Hashes; equal ones stand for equal texts from the first token of the prompt on.
    tokens : int
        Tokens of a piece; the last one of a prompt may have fewer.
    """

    offsets: np.ndarray
    ids: np.ndarray
    tokens: int

    def take(self, numbers: np.ndarray) -> BlockChains:
        """Return the chains of some requests, by their numbers."""
        sizes = np.diff(self.offsets)[numbers]
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][numbers] - offsets[:-1], sizes)
        return BlockChains(offsets, self.ids[places], self.tokens)


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
    session : ndarray of int32, shape (n,), optional
        Which conversation each belongs to, -1 for none. Its requests stand in order, and each continues the
        text of the one before.
    known_tokens : ndarray of int32, shape (n,), optional
        With sessions: leading tokens of the prompt that equal the text, prompt and answer, of the session's
        request before; 0 for the first. At least one token of a prompt is new.
    follows_s : ndarray of float64, shape (n,), optional
        With sessions: time from the end of the session's request before until this one is sent, whose
        `arrival_s` then is no more than the earliest it could be; NaN for those sent at `arrival_s`. The
        first turn of a session in a closed loop follows the last one of its client. [s]
    system_tokens : int
        Tokens with which all prompts begin; fewer than any prompt has.
    blocks : BlockChains, optional
        What prompts have in common, in place of sessions and system prompt.
    """

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    name: str = ""
    notes: tuple[str, ...] = ()
    timed: bool = True
    clock_tokens: np.ndarray | None = None
    session: np.ndarray | None = None
    known_tokens: np.ndarray | None = None
    follows_s: np.ndarray | None = None
    system_tokens: int = 0
    blocks: BlockChains | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)

    def columns(self) -> tuple[np.ndarray, ...]:
        """Return the columns in the one type and layout that kernels are compiled for."""
        return tuple(own_column(getattr(self, name), kind) for name, kind in COLUMNS.items())

    def take(self, rows: slice | np.ndarray) -> Requests:
        """Return some of the requests: a slice, a mask or their numbers, in that order.

        A conversation of which turns are left out goes on without them.
        """
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in COLUMNS}
        if self.clock_tokens is not None:
            columns["clock_tokens"] = self.clock_tokens[rows]
        if self.session is not None or self.blocks is not None:
            numbers = np.arange(len(self))[rows]
            columns |= _turns_taken(self, numbers)
            columns["blocks"] = self.blocks and self.blocks.take(numbers)
        return dataclasses.replace(self, **columns)

    def arriving_at(self, arrival_s: np.ndarray) -> Requests:
        """Return the same requests at other times [s]."""
        return dataclasses.replace(self, arrival_s=arrival_s)


COLUMNS = {"arrival_s": np.float64, "prompt_tokens": np.int64, "output_tokens": np.int64}
TURN_COLUMNS = ("session", "known_tokens", "follows_s")


def own_column(values: np.ndarray, kind: type) -> np.ndarray:
    """Return a column in the one type and layout that kernels are compiled for, copied where it has another.

    `np.require` does the same, and takes ten times as long where there is nothing to do.
    """
    flags = values.flags
    if values.dtype == kind and flags.c_contiguous and flags.writeable:
        return values
    return np.array(values, kind)


def turns_before(session: np.ndarray) -> np.ndarray:
    """Return the number of each request's predecessor in its session, -1 where there is none."""
    before = np.full(session.size, -1)
    order = np.argsort(session, kind="stable")
    earlier, later = order[:-1], order[1:]
    follows = (session[earlier] == session[later]) & (session[later] >= 0)
    before[later[follows]] = earlier[follows]
    return before


def _turns_taken(sent: Requests, numbers: np.ndarray) -> dict[str, np.ndarray | None]:
    """Return the columns of sessions for some of the requests; nothing where their turns are in disorder."""
    if sent.session is None or sent.known_tokens is None or sent.follows_s is None:
        return dict.fromkeys(TURN_COLUMNS)
    session, known, follows_s = (getattr(sent, name)[numbers] for name in TURN_COLUMNS)
    places = turns_before(session)
    first = places < 0
    wanted = np.where(first, -1, numbers[places])
    if (wanted >= numbers).any():
        return dict.fromkeys(TURN_COLUMNS)
    order = np.argsort(sent.session, kind="stable")  # turn by turn
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    taken = np.argsort(place[numbers])
    since = np.append(0, place[numbers[taken]] + 1)[:-1]  # after the turn before of those that are taken
    if known.size:  # common with a turn further back is what all turns between have in common
        turns = order[: place[numbers[taken[-1]]] + 1]
        known[taken] = np.minimum.reduceat(sent.known_tokens[turns], np.minimum(since, turns.size - 1))
    known[first] = 0
    cut = first & (turns_before(sent.session)[numbers] >= 0)
    return {"session": session, "known_tokens": known, "follows_s": np.where(cut, np.nan, follows_s)}


def read_only(sent: Requests) -> Requests:
    """Return the same requests, to whose columns nobody can write: they are shared."""
    for name in (*COLUMNS, *TURN_COLUMNS):
        if (column := getattr(sent, name)) is not None:
            column.flags.writeable = False
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
    """Return several requests as one after the other, each for itself: in no session."""
    arrival_s, prompt_tokens, output_tokens = (
        np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS
    )
    return Requests(arrival_s, prompt_tokens, output_tokens)


def listed(rows: Iterable[tuple[float, int, int]], name: str = "") -> Requests:
    """Return requests from rows of arrival [s], prompt and output tokens."""
    arrival_s, prompt_tokens, output_tokens = zip(*rows, strict=True)
    return requests_of(arrival_s, prompt_tokens, output_tokens, name)
