"""Terms of the glossary in a text: which parts of it carry an explanation."""

from __future__ import annotations

import re
from functools import cache, lru_cache

from sim_core import catalogue


@lru_cache(maxsize=1024)
def pieces_of(text: str, after: str = "") -> tuple[tuple[str, str], ...]:
    """Return a text in pieces, each with the explanation of the term that it is, or with none.

    A term is explained where it first appears, and not if it does so in the text that this one comes
    `after`; of two that overlap, the longer one is.

    Examples
    --------
    >>> [piece for piece, note in pieces_of("Tokens and more tokens") if note]
    ['Token']
    """
    pieces: list[tuple[str, str]] = []
    here = 0
    for start, end, note in sorted(_terms(text, after)):
        pieces += [(text[here:start], ""), (text[start:end], note)]
        here = end
    return (*pieces, (text[here:], ""))


@lru_cache(maxsize=1024)
def explained_in(text: str) -> str:
    """Return the explanations of all terms of a text, in their order; "" for none.

    Examples
    --------
    >>> explained_in("J/tok over MBU")[:50]
    'J/tok: Joules for one token of an answer, all acce'
    """
    found = [(piece, note) for piece, note in pieces_of(text) if note]
    return " ".join(f"{piece}: {note}" for piece, note in found)


def _terms(text: str, after: str) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    for term, (pattern, note) in _patterns().items():
        if term[1:] not in text or pattern.search(after):
            continue
        for match in pattern.finditer(text):
            if all(match.end() <= start or end <= match.start() for start, end, _ in found):
                found.append((*match.span(), note))
                break
    return found


@cache
def _patterns() -> dict[str, tuple[re.Pattern[str], str]]:
    """Return how each term is found, also where it begins a sentence: longer ones first."""
    terms = sorted(catalogue.glossary().items(), key=lambda item: -len(item[0]))
    return {term: (re.compile(rf"(?<![\w=]){_either_case(term)}(?=s?(?!\w))"), note) for term, note in terms}


def _either_case(term: str) -> str:
    first = term[0]
    begin = f"[{first.upper()}{first}]" if first.islower() else re.escape(first)
    return begin + re.escape(term[1:])
