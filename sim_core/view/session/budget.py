"""What a view of a page may cost, what it left out for that, and who still waits for it.

The operator sets the budget by environment variables, which are read when the server starts:
`BATCHSCOPE_VIEW_SECONDS` of a core and `BATCHSCOPE_VIEW_MB` of memory. A view that costs more runs fewer
requests, says so, and the command that the page shows runs them all. One thread looks several times a second
whether anybody still waits for each view that is being worked out: a closed tab or the visitor's next move
stops it.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
import streamlit as st
from streamlit.runtime.scriptrunner import RerunException, StopException, get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequests, ScriptRequestType

from sim_core.engine.work import Allowance, SpentUp, Stopped, allowed
from sim_core.fields.errors import ScenarioError, shown
from sim_core.sweep.remembered import Remembered

LOOK_S = 0.1  # between two looks at who still waits
Cuts = Mapping[tuple[str, float], float]
Made = TypeVar("Made")
Address = frozenset[tuple[str, str]]


class Budget(NamedTuple):
    """What a view may cost: seconds of a core, all its runs together, and megabytes of working memory."""

    seconds: float = 3.0
    megabytes: float = 300.0


VARIABLES = {"seconds": "BATCHSCOPE_VIEW_SECONDS", "megabytes": "BATCHSCOPE_VIEW_MB"}
LIMITS = {"seconds": (0.01, 3600.0), "megabytes": (10.0, 1e6)}


def budget_of(environment: Mapping[str, str]) -> Budget:
    """Return the budget that an operator has set.

    Raises
    ------
    ScenarioError
        If a variable is no number within its limits.
    """
    given = {
        key: _number(name, environment[name], *LIMITS[key])
        for key, name in VARIABLES.items()
        if environment.get(name)
    }
    return Budget()._replace(**given)


def _number(name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ScenarioError(
            f"the environment variable {name} is {shown(text)}; it must be a number from {low:g} to "
            f"{high:,.0f}. Change it, or leave it out, and start the app again."
        )
    return value


BUDGET = budget_of(os.environ)


@contextmanager
def of_view() -> Iterator[Allowance]:
    """Open the allowance of a view: its runs keep within the budget, and stop when nobody waits for them."""
    given = Allowance(BUDGET.seconds, int(1e6 * BUDGET.megabytes))
    with _watched(given.stop), allowed(given):
        yield given


def made_or_why_not(make: Callable[[], Made]) -> Made | str:
    """Return what is made within the budget of a view, or in words why it is not.

    For what runs when no page is drawn: files that are written once they are asked for, and callbacks.
    """
    with of_view():
        try:
            return make()
        except Stopped:
            return "This was given up, for nobody waits for it any more. Ask for it again."
        except (ScenarioError, SpentUp) as error:
            return str(error)


# --- what was left out ----------------------------------------------------------------------------

# A later look at the same view finds its results, and must find what they leave out.
_known: Remembered[tuple[str, Address, Budget], Cuts] = Remembered(512)


def cuts(page: str, address: Mapping[str, str], found: Cuts) -> Cuts:
    """Return what a page leaves out at an address: as found now, else as found when it was worked out."""
    key = page, frozenset(address.items()), BUDGET
    before = _known.get(key) or {}
    if found.items() <= before.items():
        return before
    return _known.replace(key, {**before, **found})


def words(left_out: Cuts) -> str:
    """Return what a page left out, as a sentence; "" for nothing."""
    if not left_out:
        return ""
    parts = []
    for unit in dict.fromkeys(unit for unit, _ in left_out):
        asked = max(asked for kind, asked in left_out if kind == unit)
        runs = min(runs for (kind, number), runs in left_out.items() if (kind, number) == (unit, asked))
        parts.append(f"{runs:,.6g} of {asked:,.10g} {unit}")
    return f"This page runs {' and '.join(parts)}; the command runs them all."


# --- who still waits ------------------------------------------------------------------------------

_lock = threading.Lock()
_views: dict[int, tuple[Any, np.ndarray]] = {}
_watch: threading.Thread | None = None


@contextmanager
def _watched(stop: np.ndarray) -> Iterator[None]:
    """Let `stop` be set as soon as nobody waits any more for this run of the script."""
    global _watch
    requests = getattr(get_script_run_ctx(suppress_warning=True), "script_requests", None)
    if requests is None:
        yield
        return
    with _lock:
        _views[id(stop)] = requests, stop
        if _watch is None:
            _watch = threading.Thread(target=_look, name="who waits", daemon=True)
            _watch.start()
    try:
        yield
    finally:
        with _lock:
            del _views[id(stop)]


def _look() -> None:
    """Look who still waits until no view is being worked out."""
    global _watch
    while True:
        time.sleep(LOOK_S)
        with _lock:
            if not _views:
                _watch = None
                return
            views = list(_views.values())
        for requests, stop in views:
            if nobody_waits(requests):
                stop[0] = 1


def nobody_waits(requests: Any) -> bool:
    """Return whether a script's run has been overtaken: its tab is closed, or its visitor has moved on.

    Streamlit tells a script when it draws something, not while it computes. What a page asks for by the
    clock (`run_every`) is no move.
    """
    state = getattr(requests, "_state", None)
    if state == ScriptRequestType.RERUN:
        return not getattr(getattr(requests, "_rerun_data", None), "is_auto_rerun", False)
    return state == ScriptRequestType.STOP


def end_overtaken() -> NoReturn:
    """End a run that nobody waits for: for the visitor's next move where there is one."""
    st.session_state.get("scenario")  # a closed tab, or a move that concerns the whole page, ends it here
    raise ending(getattr(get_script_run_ctx(suppress_warning=True), "script_requests", None))


def ending(requests: ScriptRequests | None) -> RerunException | StopException:
    """Return what ends a run for the move that waits, or for nothing (`st.stop` would drop the move).

    A run of the answer alone that is merely stopped counts as finished: the browser then forgets every
    control that it did not draw, and shows them as if nothing had been chosen.
    """
    if requests is not None and getattr(requests, "_state", None) == ScriptRequestType.RERUN:
        waiting = requests.on_scriptrunner_ready()
        if waiting.type == ScriptRequestType.RERUN:
            return RerunException(waiting.rerun_data)
    return StopException()
