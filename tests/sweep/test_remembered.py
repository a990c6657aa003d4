"""Results of late: what is kept, what is forgotten, and many threads at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sim_core.sweep.remembered import Remembered


def test_what_was_used_longest_ago_is_forgotten() -> None:
    """By hand: room for two; reading counts as use."""
    kept: Remembered[str, int] = Remembered(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)


def test_of_two_at_once_all_get_the_first() -> None:
    """Oracle: identity, over 50 threads."""
    kept: Remembered[str, list] = Remembered(4)
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda k: kept.put("same", [k]), range(200)))
    assert all(value is found[0] for value in found)


def test_of_many_who_ask_at_once_one_works() -> None:
    """Oracle: a count of the work, over 50 threads; different keys do not wait for one another."""
    kept: Remembered[str, list] = Remembered(4)
    made, both = [], threading.Barrier(2)

    def work() -> list:
        time.sleep(0.05)
        made.append(1)
        return made

    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda _: kept.of("same", work), range(50)))
        assert len(made) == 1 and all(value is made for value in found)
        assert list(pool.map(lambda key: kept.of(key, lambda: both.wait(5) + 1), "xy")) in ([1, 2], [2, 1])


def test_work_that_fails_is_tried_by_the_next_one_alone() -> None:
    """Oracle: how many work at the same time: never two, though the first of ten fails."""
    busy, most, tries = threading.Semaphore(1), [], []

    def work() -> int:
        most.append(busy.acquire(blocking=False))
        tries.append(1)
        time.sleep(0.02)
        busy.release()
        if len(tries) == 1:
            raise ZeroDivisionError
        return 7

    def ask(delay_s: float) -> int:
        time.sleep(delay_s)
        try:
            return kept.of("a", work)
        except ZeroDivisionError:
            return 0

    kept: Remembered[str, int] = Remembered(4)
    with ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(ask, np.linspace(0, 0.04, 10))) == [0, *[7] * 9]
    assert all(most) and len(tries) == 2


def test_work_that_fails_leaves_nothing() -> None:
    """By hand."""
    kept: Remembered[str, int] = Remembered(4)
    with pytest.raises(ZeroDivisionError):
        kept.of("a", lambda: 1 // 0)
    assert kept.of("a", lambda: 7) == kept.of("a", lambda: 8) == 7
