"""Small text files and TOML: read with clear errors, written with proper quotes."""

from __future__ import annotations

import json
import os
import tomllib
from typing import Any

from sim_core.fields.errors import ScenarioError, shown

MAX_TOML_CHARACTERS = 200_000
MAX_NOTE_CHARACTERS = 400


def toml_text(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are TOML's, apart from DEL and lone surrogates."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_toml(text: str, name: str) -> dict[str, Any]:
    """Return the table of a TOML text, or raise a `ScenarioError` that names the file and the place."""
    if len(text) > MAX_TOML_CHARACTERS:
        raise ScenarioError(f"{name} is {len(text):,} characters long; the limit is {MAX_TOML_CHARACTERS:,}.")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError is also what an over-long number raises
        raise ScenarioError(f"{name} is not valid TOML: {one_line(error)}") from None


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """Return a small UTF-8 text file, or raise a `ScenarioError` that says why it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(4 * MAX_TOML_CHARACTERS + 1)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ScenarioError(f"{what} {shown(str(path))} is not UTF-8 text. Save it as UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ScenarioError(f"{what} {shown(str(path))} cannot be read: {reason}.") from None


def one_line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))


def counted(count: int, word: str) -> str:
    """Return a number with its noun: ``1 request``, ``12 requests``."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def printable(text: str) -> str:
    """Return text cut to a note's length, with what cannot be printed shown as `?`."""
    if len(text) > MAX_NOTE_CHARACTERS:
        text = text[: MAX_NOTE_CHARACTERS - 1] + "…"
    return "".join(character if character.isprintable() else "?" for character in text)
