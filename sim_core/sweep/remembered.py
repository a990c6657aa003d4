"""Results of late, shared by all visitors: a mapping that forgets what was used longest ago."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """At most `most` values by key; safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._known: OrderedDict[Key, Value] = OrderedDict()
        self._making: dict[Key, tuple[threading.Lock, int]] = {}  # a gate, and how many want through

    def get(self, key: Key) -> Value | None:
        """Return the value under a key, or None."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def put(self, key: Key, value: Value) -> Value:
        """Keep a value and return it; of two that come at once, all get the first."""
        with self._lock:
            value = self._known.setdefault(key, value)
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return value

    def replace(self, key: Key, value: Value) -> Value:
        """Keep a value in place of the one known, and return it."""
        with self._lock:
            self._known.pop(key, None)
        return self.put(key, value)

    def of(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value under a key; where there is none, one of those who ask at once makes it."""
        known = self.get(key)
        if known is not None:
            return known
        with self._lock:
            gate, askers = self._making.get(key, (threading.Lock(), 0))
            self._making[key] = gate, askers + 1
        try:
            with gate:
                known = self.get(key)
                return self.put(key, make()) if known is None else known
        finally:
            self._leave(key)

    def _leave(self, key: Key) -> None:
        """Forget the gate before a key when the last one who asked has gone."""
        with self._lock:
            gate, askers = self._making.pop(key)
            if askers > 1:
                self._making[key] = gate, askers - 1
