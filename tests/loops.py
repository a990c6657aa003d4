"""One check on many things as one test, which names all that fail: for what is tiny and comes in hundreds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

LINES = 12  # of the reason of each failure


def each(
    things: Iterable[Any], name: Callable[[Any], object] = str, advice: str = ""
) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Return a decorator that makes one test of a check: it is called with each thing.

    A plain tuple is handed over as several arguments. No things at all are a failure, too: a loop over
    nothing would hold for ever. `advice` says, below the failures, what to do about them.
    """

    def decorated(check: Callable[..., None]) -> Callable[[], None]:
        def test() -> None:
            found = [(name(thing), _reason(check, thing)) for thing in things]
            assert found, "there is nothing to check"
            failed = [f"{thing}: {reason}" for thing, reason in found if reason]
            if failed:
                lines = [f"{len(failed)} of {len(found)} fail:", *failed, *filter(None, [advice])]
                pytest.fail("\n".join(lines), pytrace=False)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorated


def _reason(check: Callable[..., None], thing: Any) -> str:
    """Return why a check fails on a thing: "" if it does not."""
    try:
        check(*thing) if type(thing) is tuple else check(thing)
    except (Exception, pytest.fail.Exception) as error:
        return "\n".join([type(error).__name__, *str(error).splitlines()[:LINES]])
    return ""
