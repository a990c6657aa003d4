"""The error that a person's input raises, and the words such errors share."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


class ScenarioError(ValueError):
    """A scenario, preset, link or file that cannot be used; the message says what to change."""


def shown(value: object, limit: int = 60) -> str:
    """Return a value as short, printable text for a message."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a whole number of about {value.bit_length() * 3 // 10:,} digits"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number too long to be written, or lists in lists without end
        return f"a {type(value).__name__} that is too long to be shown"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def did_you_mean(word: str, known: Iterable[str], listed_by: str = "") -> str:
    """Return a hint that names the closest known words, all of them when few, or else what lists them."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    if len(names) <= 12:
        return f"Known: {', '.join(names)}."
    return f"{len(names)} are known." + (f" `{listed_by}` shows all." if listed_by else "")


def check_known(keys: Iterable[object], known: Collection[str], listed_by: str = "") -> None:
    """Raise a `ScenarioError` that names the first key that is not known, with a hint as `did_you_mean`."""
    for key in keys:
        if key not in known:
            raise ScenarioError(f"unknown key {shown(key)}. {did_you_mean(str(key)[:60], known, listed_by)}")
