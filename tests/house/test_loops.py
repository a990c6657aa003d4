"""A loop of checks as one test: it must fail where one of them would."""

from __future__ import annotations

import pytest

from tests.loops import each


def test_all_that_fail_are_named() -> None:
    """By hand: of four things two fail, one by an assertion and one by what `pytest.raises` did not see."""
    seen = []

    @each(
        [(1, "one"), (2, "two"), (3, "three"), (4, "four")], name=lambda thing: thing[1], advice="Mend them."
    )
    def check(number: int, word: str) -> None:
        """Check a number."""
        seen.append(number)
        assert number != 2, f"{word} is wrong"
        if number == 3:
            with pytest.raises(ValueError):
                pass

    with pytest.raises(pytest.fail.Exception) as caught:
        check()
    words = str(caught.value)
    assert seen == [1, 2, 3, 4]
    assert words.endswith("\nMend them.")
    assert words.startswith("2 of 4 fail:\ntwo: AssertionError\ntwo is wrong")
    assert "\nthree: Failed\n" in words and "one:" not in words and "four:" not in words
    assert (check.__name__, check.__doc__) == ("check", "Check a number.")


def test_nothing_to_check_is_a_failure() -> None:
    """Oracle: no things."""
    with pytest.raises(AssertionError, match="nothing"):
        each([])(print)()


def test_what_holds_passes() -> None:
    """Oracle: no exception, and every thing seen."""
    seen = []
    each(["a", "b"])(seen.append)()
    assert seen == ["a", "b"]
