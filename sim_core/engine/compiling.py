"""How kernels are compiled: entry points, which Python calls, and inner functions, which only kernels call.

What compiling costs is wrappers, an optimisation and a cache file for each function, most of which Python
never calls. So inner functions have none of them: they are compiled into the entry points that use them.

    An inner function must never be called from Python: without a wrapper, the process ends.

The cache on disk lies in a folder named after all that the machine code follows from, so that an edit
anywhere in the kernels is noticed (Numba itself looks only at a function's own file). Its files are listed
with their digests once they are whole; a folder that does not agree with its list is dropped and compiled
anew, and where nothing can be written, kernels are compiled for this process alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numba
import numba.extending

_ENGINE = Path(__file__).parent
_SOURCES = (_ENGINE / "compiling.py", _ENGINE.parent / "price" / "step_cost.py")
_LIST = "files.json"
_LISTED_AFTER_S = 600.0  # by then, a process has listed what it has compiled
_ROOM_BYTES = 32_000_000  # what must be free for a cache to be begun

# The kernels allocate nothing, so they are compiled without reference counting (`_nrt`): handing `Arrays`
# from function to function is then free, which is worth a factor of ten. Nothing calls them from C.
_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
_INNER = {**_OPTIONS, "no_cpython_wrapper": True, "no_rewrites": True}

# A function says whether it is written into its callers: what says nothing takes that from whoever calls it.
inner = numba.njit(**_INNER, forceinline=False)
inlined = numba.njit(**_INNER, forceinline=True)
written_in = numba.njit(**_INNER, inline="always")  # large, and called once: not compiled by itself as well


def by_type(choose: Callable) -> Callable:
    """Make an inner function that the types of its arguments choose.

    `choose` has the parameters of the function, gets the types of its arguments and returns what is to be
    compiled for them. What it does not return takes no time to compile.
    """

    @functools.wraps(choose)
    def chosen(*arguments: object) -> NoReturn:
        raise TypeError(f"{choose.__name__} is called by kernels alone.")

    numba.extending.overload(chosen, jit_options={**_INNER, "forceinline": True})(choose)
    return chosen


def holds(record: numba.types.BaseNamedTuple, name: str) -> bool:
    """Return whether records of a type, as Numba tells it, hold something by a name, and not None."""
    return not isinstance(record.types[record.fields.index(name)], numba.types.NoneType)


class _Compiled(threading.local):
    """What compiling has taken on this thread, the first run of each function with it. [s]"""

    seconds = 0.0


_compiled = _Compiled()


def worked_s() -> float:
    """Return the time of a core that this thread has taken for anything but compiling [s]."""
    return time.thread_time() - _compiled.seconds


class Entry:
    """A compiled function that Python may call.

    Attributes
    ----------
    py_func : callable
        The function as it is written.
    """

    def __init__(self, function: Callable) -> None:
        self.py_func = function
        self._compiled = _cached(function) if FOLDER else numba.njit(**_OPTIONS)(function)
        self._plain = FOLDER is None  # without a cache

    def __call__(self, *arguments: Any) -> Any:
        """Call the function; it is compiled for each set of types, or loaded from the cache."""
        known, start_s = len(self._compiled.overloads), time.thread_time()
        try:
            result = self._compiled(*arguments)
        except Exception:  # a full disk, or a file that was changed since it was looked at
            if self._plain:
                raise
            self._compiled, self._plain = numba.njit(**_OPTIONS)(self.py_func), True
            result = self._compiled(*arguments)
        if len(self._compiled.overloads) > known:
            _seal()
            _compiled.seconds += time.thread_time() - start_s
        return result

    @property
    def signatures(self) -> list[tuple]:
        """The argument types for which it has been compiled."""
        return self._compiled.signatures


def _cached(function: Callable) -> Any:
    """Return a function that is compiled with a cache in `FOLDER`."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(FOLDER)
    try:
        return numba.njit(**_OPTIONS, cache=True)(function)
    finally:
        numba.config.CACHE_DIR = before


# --- the folder of the cache ----------------------------------------------------------------------


def _source_hash() -> str:
    """Return a word for all that the machine code follows from: the sources and how they are compiled."""
    digest = hashlib.sha256(f"{numba.config.OPT} {sorted(_INNER)}".encode())
    for path in sorted([*_SOURCES, *(_ENGINE / "kernels").rglob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _places() -> Iterator[Path]:
    """Yield where a cache may lie: where the user says, beside the code, among the user's caches."""
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
    yield _ENGINE / "__pycache__"
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        if os.environ.get(name):
            yield Path(os.environ[name]) / "batchscope"
    try:
        yield Path.home() / ".cache" / "batchscope"
    except RuntimeError:  # there is no home
        return


def _folder(places: Iterable[Path]) -> Path | None:
    """Return the folder of the cache in the first place that can be written, whole or empty; None without."""
    name = f"kernels-{_source_hash()}"
    for place in places:
        folder = place / name
        try:
            _drop_damaged(folder)
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            if shutil.disk_usage(folder).free < _ROOM_BYTES:
                continue
        except OSError:
            continue
        if place == _ENGINE / "__pycache__":
            for old in place.glob("kernels-*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)
        return folder
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.nb*") if path.is_file())


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(folder)
    }


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of the files of a folder."""
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in _files(folder)]


def _drop_damaged(folder: Path) -> None:
    """Remove a folder whose files are not those of its list; another process may just be adding some."""
    if not folder.exists():
        return
    try:
        listed = dict(json.loads((folder / _LIST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        listed = {}
    found = _digests(folder)
    unlisted = [folder / name for name in found.keys() - listed.keys()]
    young = all(time.time() - path.stat().st_mtime < _LISTED_AFTER_S for path in unlisted)
    if listed.items() - found.items() or not young:
        shutil.rmtree(folder)


FOLDER = _folder(_places())
_sealing = threading.Lock()
_sealed = _state(FOLDER) if FOLDER else []


def _seal() -> None:
    """List the files of the cache with their digests, if they have changed; a cache may as well not last."""
    global _sealed
    if FOLDER is None:
        return
    with _sealing:
        try:
            state = _state(FOLDER)
            if state == _sealed:
                return
            fresh = FOLDER / f"{_LIST}.{os.getpid()}"
            fresh.write_text(json.dumps(_digests(FOLDER)), encoding="utf-8")
            fresh.replace(FOLDER / _LIST)
            _sealed = state
        except OSError:
            return
