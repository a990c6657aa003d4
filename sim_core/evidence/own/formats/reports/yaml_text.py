"""The plain YAML that tools write: nested mappings and lists of single values. Not the whole language.

Anchors, tags and several documents are left alone: their marks stay in the text of a value. Text over several
lines becomes one line.
"""

from __future__ import annotations

import math
import re

MAX_DEPTH = 60
MAX_LINES = 200_000

_KEY = re.compile(r"(?P<key>'[^']*'|\"[^\"]*\"|[^\s'\"\[\]{}#&*!|>%@`].*?):(?:\s+(?P<value>.*))?$")
_WORDS: dict[str, object] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    "[]": [],
    "{}": {},
}
_NUMBERS = {".inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}


def plain_yaml(text: str) -> object:
    """Return what a YAML text holds: mappings, lists and values, as JSON would have them.

    Raises
    ------
    ValueError
        If a line is neither a key nor an item, or the text is too long or nested too deeply.
    """
    lines = [
        (len(line) - len(line.lstrip(" ")), line.strip())
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith("#") and line.strip() not in ("---", "...")
    ]
    if len(lines) > MAX_LINES:
        raise ValueError(f"more than {MAX_LINES:,} lines")
    reader = _Reader(lines)
    found = reader.block(0)
    if reader.place < len(lines):
        raise ValueError(f"the line {lines[reader.place][1][:40]!r} stands out of place")
    return found


class _Reader:
    """The lines of a text, as indentation and words, and the place reached."""

    def __init__(self, lines: list[tuple[int, str]]) -> None:
        self.lines = lines
        self.place = 0

    def block(self, depth: int) -> object:
        """Return the mapping or list that begins here."""
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} times")
        if self.place >= len(self.lines):
            return None
        indent, words = self.lines[self.place]
        return self._list(indent, depth) if _is_item(words) else self._mapping(indent, depth)

    def _list(self, indent: int, depth: int) -> list[object]:
        found = []
        while self.place < len(self.lines):
            here, words = self.lines[self.place]
            if here != indent or not _is_item(words):
                break
            inner = words[1:].strip()
            if not inner:
                self.place += 1
                found.append(self._beneath(indent, depth))
            elif _is_item(inner) or _KEY.match(inner):
                self.lines[self.place] = (indent + words.index(inner, 1), inner)
                found.append(self.block(depth + 1))
            else:
                found.append(self._value(inner, indent))
        return found

    def _mapping(self, indent: int, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        while self.place < len(self.lines):
            here, words = self.lines[self.place]
            if here != indent or _is_item(words):
                break
            match = _KEY.match(words)
            if match is None:
                raise ValueError(f"the line {words[:40]!r} has no key")
            key, value = match["key"].strip().strip("'\""), (match["value"] or "").strip()
            if value and not value.startswith("#"):
                found[key] = self._value(value, indent)
            else:
                self.place += 1
                found[key] = self._beneath(indent, depth, lists=True)
        return found

    def _beneath(self, indent: int, depth: int, lists: bool = False) -> object:
        """Return the block beneath a key or an item; a key's list may stand as far left as the key."""
        if self.place >= len(self.lines):
            return None
        here, words = self.lines[self.place]
        deeper = here > indent or (lists and here == indent and _is_item(words))
        return self.block(depth + 1) if deeper else None

    def _value(self, words: str, indent: int) -> object:
        """Return a single value; deeper lines after it belong to its text."""
        self.place += 1
        parts = [words]
        while self.place < len(self.lines) and self.lines[self.place][0] > indent:
            parts.append(self.lines[self.place][1])
            self.place += 1
        return _scalar(" ".join(parts))


def _is_item(words: str) -> bool:
    return words == "-" or words.startswith("- ")


def _scalar(words: str) -> object:
    if words[0] in "'\"":
        return words.strip(words[0])
    words = words.partition(" #")[0].strip()
    if words.lower() in _WORDS:
        return _WORDS[words.lower()]
    if words.lower() in _NUMBERS:
        return _NUMBERS[words.lower()]
    if re.fullmatch(r"[-+]?[0-9][0-9_.]{0,30}([eE][-+]?[0-9]{1,4})?", words):
        try:
            return float(words) if set(words) & set(".eE") else int(words)
        except ValueError:
            return words
    return words
