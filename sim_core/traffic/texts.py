"""What the texts of requests have in common, numbered: which turns follow others, which blocks are equal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim_core.traffic.requests import BlockChains, Requests, turns_before

MOST_NUMBERS = 8  # a request: sessions of larger numbers are numbered anew


class Texts(NamedTuple):
    """Texts as numbers, equal ones where they are equal from their first token on.

    Attributes
    ----------
    offsets, numbers : ndarray of int64
        Where those of each request begin; the pieces of its text, numbered from 0 on.
    blocks : ndarray of int64, shape (n,)
        Full KV blocks of each request that are in them.
    """

    offsets: np.ndarray
    numbers: np.ndarray
    blocks: np.ndarray


def has_sequels(sent: Requests) -> bool:
    """Return whether some requests are sent only after others end."""
    return sent.follows_s is not None and bool(np.isfinite(sent.follows_s).any())


def is_interleaved(sent: Requests) -> bool:
    """Return whether turns of a session may be sent before the one before has ended."""
    if sent.session is None or sent.follows_s is None:
        return False
    names = session_numbers(sent)
    at_their_time = np.isnan(sent.follows_s)
    first = np.full(int(names.max(initial=-1)) + 1, -1)
    turns = np.flatnonzero(names >= 0)[::-1]
    first[names[turns]] = turns  # of equal ones the last is kept: the session's first turn
    beginnings = at_their_time[first[first >= 0]].sum() + at_their_time[names < 0].sum()
    return bool(at_their_time.sum() > beginnings)


def session_numbers(sent: Requests) -> np.ndarray:
    """Return a small number for each request's session, -1 for those in none."""
    if sent.session is None:
        return np.full(len(sent), -1, np.int32)
    if sent.session.max(initial=0) <= MOST_NUMBERS * len(sent):
        return sent.session
    _, numbers = np.unique(sent.session, return_inverse=True)
    return (numbers - int(sent.session.min() < 0)).astype(np.int32)


def texts_of(sent: Requests, block_tokens: int) -> Texts:
    """Return the texts of requests: those of their chains, or without them the blocks of their sessions."""
    if sent.blocks is None:
        return _texts_of_sessions(sent, block_tokens)
    chains = sent.blocks
    told = np.minimum(np.diff(chains.offsets) * chains.tokens, sent.prompt_tokens)
    return Texts(chains.offsets, _numbered(chains), told // block_tokens)


def _numbered(chains: BlockChains) -> np.ndarray:
    """Return a number for each piece of text that tells it and all before it from others.

    Piece by piece from the first on: equal ids after equal texts are equal texts.
    """
    offsets = chains.offsets
    sizes = np.diff(offsets)
    numbers = np.zeros(chains.ids.size, np.int64)
    before = np.zeros(sizes.size, np.int64)
    _, ids = np.unique(chains.ids, return_inverse=True)
    count, width = 0, int(ids.max(initial=0)) + 1
    order = np.argsort(-sizes, kind="stable")
    for place in range(int(sizes.max(initial=0))):
        order = order[: np.searchsorted(-sizes[order], -place)]
        at = offsets[order] + place
        _, found = np.unique(before[order] * width + ids[at], return_inverse=True)
        numbers[at] = before[order] = count + found
        count += int(found.max()) + 1
    return numbers


def known_before(sent: Requests) -> np.ndarray:
    """Return the tokens of each prompt that begin a text which was sent before, as chains tell it."""
    assert sent.blocks is not None
    chains = sent.blocks
    sizes = np.diff(chains.offsets)
    place = np.arange(chains.ids.size) - np.repeat(chains.offsets[:-1], sizes)
    prompt = np.repeat(sent.prompt_tokens, sizes)
    tokens = np.minimum((place + 1) * chains.tokens, prompt) - np.minimum(place * chains.tokens, prompt)
    _, first, numbers = np.unique(_numbered(chains), return_index=True, return_inverse=True)
    again = first[numbers] < np.arange(numbers.size)
    owner = np.repeat(np.arange(sizes.size), sizes)
    return np.bincount(owner, tokens * again, minlength=sizes.size)


def _texts_of_sessions(sent: Requests, block_tokens: int) -> Texts:
    """Return the full blocks of prompts and answers, after what they have in common."""
    whole = (sent.prompt_tokens + sent.output_tokens) // block_tokens
    offsets = np.concatenate(([0], np.cumsum(whole)))
    system = np.arange(sent.system_tokens // block_tokens)
    numbers = np.arange(offsets[-1]) + system.size
    before = np.full(len(sent), -1) if sent.session is None else turns_before(sent.session)
    for i, j in enumerate(before.tolist()):
        known = system
        if j >= 0 and sent.known_tokens is not None:
            tokens = max(min(int(sent.known_tokens[i]), int(sent.prompt_tokens[i]) - 1), sent.system_tokens)
            known = numbers[offsets[j] : offsets[j + 1]][: tokens // block_tokens]
        known = known[: whole[i]]
        numbers[offsets[i] : offsets[i] + known.size] = known
    return Texts(offsets, numbers, whole)


def numbers_a_request(sent: Requests, rows: int, block_tokens: int) -> tuple[float, float]:
    """Return how many pieces of text the first requests have on average, and how many blocks a piece may."""
    if sent.blocks is not None:
        return int(sent.blocks.offsets[rows]) / rows, sent.blocks.tokens // block_tokens + 1
    return float(np.mean(sent.prompt_tokens[:rows] + sent.output_tokens[:rows])) / block_tokens, 2
