"""Files that commands write: whole or not at all.

A file is written beside its place under another name and then renamed, so that whoever reads the place finds
the old file or the new one, never half of one, and a full disk costs no file that was there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim_core.fields.errors import ScenarioError
from sim_core.results.text import disarmed


def try_place(path: str) -> None:
    """Raise a `ScenarioError` if nothing can be written at a path; leaves what is there as it is.

    Commands call it before the work whose result they would otherwise have nowhere to put.
    """
    try:
        place = Path(os.path.realpath(path))
        if place.is_dir():
            raise IsADirectoryError(None, "Is a directory")
        if _is_special(place):
            return
        _beside(place).unlink()
    except (OSError, ValueError) as error:
        raise _cannot(path, error) from None


def write_text(text: str, path: str) -> None:
    """Write a text to a file, whole or not at all."""
    _write(path, lambda place: place.write_text(text, encoding="utf-8", newline="\n"))


def write_csv(table: Any, path: str) -> None:
    """Write a DataFrame to a file, whole or not at all."""
    texts = {key: table[key].map(disarmed) for key in table.select_dtypes(exclude=["number", "bool"])}
    safe = table.assign(**texts)
    _write(path, lambda place: safe.to_csv(place, index=False, lineterminator="\n", encoding="utf-8"))


def _write(path: str, fill: Callable[[Path], object]) -> None:
    try:
        place = Path(os.path.realpath(path))  # a link keeps pointing at what it points at
        if _is_special(place):
            fill(place)
            return
        beside = _beside(place)
        try:
            fill(beside)
            beside.chmod(_mode_of(place))
            beside.replace(place)
        finally:
            beside.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise _cannot(path, error) from None


def _beside(place: Path) -> Path:
    """Return a new, empty file in the folder of a place, if that place may be written at all."""
    if place.exists() and not os.access(place, os.W_OK):
        raise PermissionError(None, "Permission denied")
    handle, name = tempfile.mkstemp(prefix=".batchscope-", dir=place.parent)
    os.close(handle)
    return Path(name)


def _is_special(place: Path) -> bool:
    """Return whether a place is a device or a pipe, which cannot be replaced by a file."""
    return place.exists() and not place.is_file() and not place.is_dir()


def _mode_of(place: Path) -> int:
    """Return the rights of a file that is replaced, or those that a new one gets."""
    if place.exists():
        return place.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _cannot(path: str, error: Exception) -> ScenarioError:
    reason = getattr(error, "strerror", None) or str(error)
    return ScenarioError(f"{path[:100]!r} cannot be written: {reason}.")
