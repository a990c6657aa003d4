"""What the prompts of a trace have in common: sessions, and chains of hashes."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim_core.fields.texts import counted
from sim_core.traffic.requests import BlockChains, Requests, turns_before

MOONCAKE_TOKENS = 512
BAILIAN_TOKENS = 16
USUAL_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048)
FITS_FRAC = 0.9  # of the rows: those that must have the ids which their prompts need
WHOLE_FRAC = 0.9  # of the later turns: those that must be longer than all that was said before


class Sharing(NamedTuple):
    """What prompts have in common, one entry a row: see `Requests`. None where a file does not say."""

    session: np.ndarray | None = None
    known_tokens: np.ndarray | None = None
    follows_s: np.ndarray | None = None
    blocks: BlockChains | None = None

    def take(self, places: np.ndarray) -> Sharing:
        """Return the same of some rows; a session goes on without turns that are left out."""
        nothing = np.zeros(self._rows())
        part = Requests(nothing, nothing, nothing, **self._asdict()).take(places)
        return Sharing(*(getattr(part, name) for name in self._fields))

    def _rows(self) -> int:
        if self.session is not None:
            return len(self.session)
        return 0 if self.blocks is None else len(self.blocks.offsets) - 1

    def whole(self, kept: np.ndarray) -> np.ndarray:
        """Return a mask of rows with sessions whole: a turn that follows another is kept as that one is."""
        if self.session is None or self.follows_s is None:
            return kept
        kept, before = kept.copy(), turns_before(self.session)
        for row in np.flatnonzero((before >= 0) & ~np.isnan(self.follows_s)):
            kept[row] = kept[before[row]]
        return kept


class Hashes:
    """Hashes of the pieces of prompts, gathered row by row."""

    def __init__(self) -> None:
        self._ids: array[int] = array("q")
        self._sizes: list[int] = []
        self._names: dict[int | str, int] = {}
        self.lacking = 0

    def add(self, ids: list[int | str]) -> None:
        """Add those of one row; one without any has nothing in common with others."""
        self.lacking += not ids
        self._sizes.append(len(ids))
        if self._names or not _extended(self._ids, ids):
            self._name_all()
            self._ids.extend(self._names.setdefault(word, len(self._names)) for word in ids)

    def _name_all(self) -> None:
        """Number what are no whole numbers of 64 bits, those that were read before among them."""
        if not self._names:
            self._ids = array("q", (self._names.setdefault(word, len(self._names)) for word in self._ids))

    def chains(self, prompt_tokens: np.ndarray, usual_tokens: int) -> tuple[BlockChains, str]:
        """Return the chains, without ids beyond the end of a prompt, and what must be said of them.

        Where the rows have the ids that pieces of one usual size need, they are of that size; else of the
        format's own.
        """
        sizes = np.array(self._sizes, np.int64)
        fits = {size: np.mean(sizes == -(-prompt_tokens // size)) for size in (usual_tokens, *USUAL_TOKENS)}
        best = max(fits, key=lambda size: fits[size])
        known = fits[best] >= FITS_FRAC
        tokens = best if known else usual_tokens
        used = np.minimum(sizes, -(-prompt_tokens // tokens)).astype(np.int64)
        offsets = np.concatenate(([0], np.cumsum(used)))
        starts = np.cumsum(sizes) - sizes
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], used)
        ids = np.frombuffer(self._ids, np.int64)[places] if len(places) else np.empty(0, np.int64)
        doubt = "" if known else ", though the rows have not as many as that needs"
        again = 1 - len(np.unique(ids)) / max(len(ids), 1)
        said = (
            f"hash_ids are read as pieces of {tokens} tokens{doubt}; {again:.1%} of them stood in an earlier"
        )
        return BlockChains(offsets, ids, tokens), f"{said} prompt"


def _extended(ids: array[int], found: list[Any]) -> bool:
    """Add whole numbers of 64 bits to others; nothing, and False, where one is none."""
    try:
        ids.extend(array("q", found))
    except (TypeError, OverflowError):
        return False
    return True


def numbered(keys: Sequence[object]) -> np.ndarray:
    """Return the session of each row as a number, in order of appearance; -1 for rows without a key."""
    codes, _ = pd.factorize(np.array([None if key is None else str(key) for key in keys], object))
    return codes.astype(np.int32)


def grown(session: np.ndarray, prompt_tokens: np.ndarray, output_tokens: np.ndarray) -> np.ndarray:
    """Return whole prompts of sessions whose later turns list only what they add. [tokens]"""
    whole = prompt_tokens.astype(np.float64)
    before = turns_before(session)
    for row in np.flatnonzero(before >= 0):
        whole[row] += whole[before[row]] + output_tokens[before[row]]
    return whole


def lists_whole_prompts(session: np.ndarray, prompt_tokens: np.ndarray, output_tokens: np.ndarray) -> bool:
    """Return whether later turns list whole prompts: nearly all are longer than what was said before.

    Not all need be: some models drop their reasoning from the text of the next turn.
    """
    before = turns_before(session)
    later = np.flatnonzero(before >= 0)
    said = prompt_tokens[before[later]] + output_tokens[before[later]]
    return bool((prompt_tokens[later] > said).sum() >= WHOLE_FRAC * later.size)


def known_of(session: np.ndarray, prompt_tokens: np.ndarray, output_tokens: np.ndarray) -> np.ndarray:
    """Return how much of each prompt is the text of the turn before it, at most all but a token. [tokens]"""
    before = turns_before(session)
    said = np.where(before >= 0, prompt_tokens[before] + output_tokens[before], 0)
    return np.minimum(said, np.maximum(prompt_tokens - 1, 0)).astype(np.int32)


def turns_said(session: np.ndarray) -> str:
    """Return how many turns and sessions there are, in words."""
    sizes = np.bincount(session[session >= 0])
    return f"{counted(int(sizes.sum()), 'turn')} of {counted(len(sizes), 'session')}"


def chats(pairs: Sequence[tuple[object, object]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the conversation of each chat, by its first one, and the row of its parent, -1 where none.

    `pairs` are each row's chat and its parent; a parent must stand before its children.
    """
    rows: dict[str, int] = {}
    session, before = np.empty(len(pairs), np.int32), np.full(len(pairs), -1)
    for row, (chat, parent) in enumerate(pairs):
        before[row] = rows.get(str(parent), -1) if parent is not None else -1
        session[row] = session[before[row]] if before[row] >= 0 else row
        if chat is not None:
            rows[str(chat)] = row
    return numbered(session.tolist()), before


def branches(
    session: np.ndarray, parent: np.ndarray, prompt_tokens: np.ndarray, output_tokens: np.ndarray
) -> np.ndarray:
    """Return what each prompt has in common with the row of its conversation before, parent or not. [tokens]

    Two rows have in common what the earlier one has with the parent of the later one.
    """
    before = turns_before(session)
    known = np.zeros(len(session), np.int64)
    low: dict[int, tuple[list[int], list[int]]] = {}  # rows with less in common than any later one, how much
    for row in np.flatnonzero(parent >= 0).tolist():
        said = prompt_tokens[parent[row]] + output_tokens[parent[row]]
        rows, least = low.setdefault(int(session[row]), ([], []))
        place = bisect_right(rows, parent[row])
        known[row] = min(said, prompt_tokens[row] - 1, *least[place : place + 1])
        while least and least[-1] >= known[row]:
            rows.pop()
            least.pop()
        rows.append(row)
        least.append(int(known[row]))
    return np.where(before >= 0, known, 0).astype(np.int32)
