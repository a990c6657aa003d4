"""What runs cost in the turns that kernels count: the same on every machine, whatever else it does.

A clock would also tell how busy the machine is. `benchmarks/visitors.py` measures how long a turn takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim_core.engine import work
from sim_core.engine.work import Turns
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import Requests


class _Counted(threading.local):
    """What the runs of this thread have taken, and the turns that the present one may still take."""

    seconds = 0.0
    turn_s = work.TURN_S
    most = 0

    def __init__(self) -> None:
        self.left: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by identity; as they were looked at last


def count_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs cost what `work` says of their requests and beginning, and the turns they really take."""
    counted = _Counted()
    turns, check, costed = work.turns, work.check_turns, work.costed

    def given(log: bool = False) -> Turns:
        taken = turns(log)
        counted.left, counted.most = {}, int(taken.left[0])
        counted.turn_s = work.TURN_S * (work.LOGGED if log else 1.0)
        return taken

    def checked(taken: Turns) -> None:
        _, before = counted.left.get(id(taken.left), (None, counted.most))
        counted.seconds += counted.turn_s * float(np.sum(before - taken.left))
        counted.left[id(taken.left)] = taken.left, taken.left.copy()
        check(taken)

    def cost(
        scenario: Scenario, trace: Requests | None, log: bool, make: Callable[[], Any], runs: int = 1
    ) -> Any:
        def made() -> Any:
            requests = runs * work.requests_of(scenario, trace)
            counted.seconds += work.seconds_to_begin(scenario, trace) + requests * work.REQUEST_S
            return make()

        return costed(scenario, trace, log, made, runs)

    monkeypatch.setattr("sim_core.engine.memory.turns", given)
    monkeypatch.setattr("sim_core.engine.memory.check_turns", checked)
    monkeypatch.setattr(work, "costed", cost)
    monkeypatch.setattr(work, "worked_s", lambda: counted.seconds)
