"""Results of late: what is kept, what is forgotten, and many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sim_core.remembered import Remembered


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
