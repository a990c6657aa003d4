"""One writer at a time: a lock that the system lets go when its process ends, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sim_core.fields.errors import ScenarioError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def one_writer(out: Path) -> Iterator[None]:
    """Let nobody else write the same table meanwhile; a file beside it is locked, and goes in the end.

    What is left of a process that was killed is no lock. Where a file system knows no locks, there is none.

    Raises
    ------
    ScenarioError
        If somebody writes it already.
    """
    place = out.with_name(f"{out.name}.lock")
    place.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _taken(handle):
            raise ScenarioError(
                f"another sweep is writing {str(out)[-100:]!r}. Wait until it has ended, or choose another "
                "--out."
            )
        try:
            yield
        finally:
            if sys.platform != "win32":  # while it is locked, so that nobody else has it
                place.unlink(missing_ok=True)
    finally:
        os.close(handle)
        if sys.platform == "win32":
            with suppress(OSError):
                place.unlink()


if sys.platform == "win32":

    def _taken(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def _taken(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # this file system has none
            return True
        return os.fstat(handle).st_nlink > 0  # else it is the file of one who has just ended
