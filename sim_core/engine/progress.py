"""How far compiling is: the functions there are, those compiled so far, and whether a cache holds any."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numba.core.event import Event, Listener, install_listener

from sim_core.engine import compiling, kernels


def count_functions() -> int:
    """Return how many functions the kernels have that are compiled by themselves, each once."""
    modules = (found.name for found in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}."))
    return sum(
        getattr(getattr(item, "py_func", None), "__module__", "") == name and not _is_written_in(item)
        for name in modules
        for item in vars(importlib.import_module(name)).values()
    )


def _is_written_in(item: object) -> bool:
    return getattr(item, "targetoptions", {}).get("inline") == "always"


def has_cache() -> bool:
    """Return whether some kernels are in the cache on disk."""
    return compiling.FOLDER is not None and any(compiling.FOLDER.rglob("*.nbi"))


def can_cache() -> bool:
    """Return whether kernels that this process or another one compiles are kept on disk."""
    return compiling.FOLDER is not None


@contextmanager
def told(compiled: Callable[[str], None]) -> Iterator[None]:
    """Call `compiled` with the name of each function of the kernels that this process compiles, once."""
    with install_listener("numba:compile", _Teller(compiled)):
        yield


class _Teller(Listener):
    def __init__(self, compiled: Callable[[str], None]) -> None:
        self._compiled = compiled
        self._seen: set[str] = set()

    def on_start(self, event: Event) -> None:
        """Do nothing yet."""

    def on_end(self, event: Event) -> None:
        """Tell of a function of the kernels, the first time; Numba compiles some of its own for them."""
        function = event.data["dispatcher"].py_func
        name = f"{function.__module__}.{function.__qualname__}"
        if name.startswith(kernels.__name__) and "<locals>" not in name and name not in self._seen:
            self._seen.add(name)
            self._compiled(name)
