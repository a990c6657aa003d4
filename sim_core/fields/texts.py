"""Small text files and TOML: read with clear errors, written with proper quotes.

The keys of all files that are read here are flat, so a key of many parts is refused before the text is
parsed: Python's parser takes quadratic time and memory for the parts of a key.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from typing import Any

from sim_core.fields.errors import ScenarioError, shown

MAX_TOML_CHARACTERS = 200_000
MAX_JSON_CHARACTERS = 4_000_000
MAX_NOTE_CHARACTERS = 400
_QUOTED = re.compile(  # comments and strings, also such as never end: what is in them is no key
    r"""#[^\n]*|"{3}(?:\\.|[^\\])*?(?:"{3,5}|\Z)|'{3}.*?(?:'{3,5}|\Z)|"(?:\\.|[^"\\\n])*"?|'[^'\n]*'?""",
    re.DOTALL,
)
_DOTTED = re.compile(r"[\w\"-][ \t]*\.[ \t]*[\w\"-]+[ \t]*\.")  # no number has two dots


def toml_text(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are TOML's, apart from DEL and lone surrogates."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_toml(text: str, name: str) -> dict[str, Any]:
    """Return the table of a TOML text, or raise a `ScenarioError` that names the file and the place."""
    if len(text) > MAX_TOML_CHARACTERS:
        raise ScenarioError(f"{name} is {len(text):,} characters long; the limit is {MAX_TOML_CHARACTERS:,}.")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _check_flat(text, name)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError is also what an over-long number raises
        raise ScenarioError(f"{name} is not valid TOML: {one_line(error)}") from None


def read_json(text: str, name: str) -> Any:
    """Return the value of a JSON text, or raise a `ScenarioError` that names the file and the place."""
    if len(text) > MAX_JSON_CHARACTERS:
        raise ScenarioError(f"{name} is {len(text):,} characters long; the limit is {MAX_JSON_CHARACTERS:,}.")
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ScenarioError(
            f"{name} is nested too deeply to be read. Give the file as it is published."
        ) from None
    except ValueError as error:  # a ValueError is also what an over-long number raises
        raise ScenarioError(f"{name} is not valid JSON: {one_line(error)}. Give the whole file.") from None


def _check_flat(text: str, name: str) -> None:
    """Raise a `ScenarioError` at a key of several parts."""
    bare = _QUOTED.sub(lambda found: "" if found[0].startswith("#") else '""', text)
    found = _DOTTED.search(bare)
    if found is not None:
        raise ScenarioError(
            f"{name} has a key of several parts, {shown(found[0])}; keys are flat here. Write NAME = VALUE."
        )


def read_text(path: str | os.PathLike[str], what: str, most_bytes: int = 4 * MAX_TOML_CHARACTERS) -> str:
    """Return a small UTF-8 text file, or raise a `ScenarioError` that says why it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(most_bytes + 1)
        if len(data) > most_bytes:
            raise ScenarioError(
                f"{what} {shown(str(path))} is longer than {most_bytes / 1e6:g} MB, the limit."
            )
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ScenarioError(f"{what} {shown(str(path))} is not UTF-8 text. Save it as UTF-8.") from None
    except ScenarioError:
        raise
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


def toml_value(value: object) -> str:
    """Return a text, a number or a tuple of them as TOML writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, str):
        return toml_text(value)
    return repr(float(value)) if isinstance(value, float) else repr(value)
