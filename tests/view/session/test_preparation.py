"""The preparation of the simulator: how far it is, what the page says meanwhile, and where it fails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sim_core.engine import progress
from sim_core.engine.run import Part
from sim_core.scenario.scenario import Scenario
from sim_core.view.session import preparation, sweeps
from sim_core.view.session.preparation import FIRST, LAID_OUT, PARTS, USUAL, Preparation
from sim_core.view.session.sweeps import Sweep
from tests.places import ROOT
from tests.visits import APP, FINDING, finding, healthy, open_page, said

PATIENCE_S = 20.0


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cache hold kernels already, so that no other process is asked to fill it."""
    monkeypatch.setattr(progress, "has_cache", lambda: True)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, filled: None) -> threading.Event:
    """Put a preparation in place whose first part is not done before the event is set."""
    gate = threading.Event()
    parts = [Part("the first thing", lambda: gate.wait(PATIENCE_S)), *PARTS[1:]]
    monkeypatch.setattr(sweeps, "_preparation", Preparation(parts))
    return gate


@pytest.mark.usefixtures("filled")
def test_parts_are_ready_in_their_order() -> None:
    """Oracle: the parts by hand. What is ready is said before the next one is begun."""
    gates = [threading.Event() for _ in range(3)]
    one = Preparation([Part(str(i), lambda gate=gate: gate.wait(PATIENCE_S)) for i, gate in enumerate(gates)])
    one.begin()
    for number, gate in enumerate(gates, 1):
        assert not one.wait(number, 0.01)
        gate.set()
        assert one.wait(number, PATIENCE_S)
        assert one.is_ready() == (number == len(gates))
    assert one.now.of == progress.count_functions() > 90


@pytest.mark.usefixtures("filled")
def test_a_failure_is_said_and_tried_again() -> None:
    """Oracle: the error itself; the second attempt goes on with the part that failed."""
    done = []

    def fail_once() -> None:
        done.append("second")
        if done.count("second") == 1:
            raise OSError("no space left")

    one = Preparation([Part("one", lambda: done.append("first")), Part("two", fail_once)])
    one.begin()
    assert not one.wait(None, PATIENCE_S)
    assert (one.now.parts, one.now.failure) == (1, "OSError: no space left")
    while one._thread.is_alive():
        one._thread.join(PATIENCE_S)
    one.begin()
    assert one.wait(None, PATIENCE_S)
    assert (done, one.now.failure) == (["first", "second", "second"], "")


def test_without_another_process_it_prepares_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a machine that has no process to give: nothing is told, nothing fails."""

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(progress, "has_cache", lambda: False)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    one = Preparation([Part("one", lambda: None)])
    one.begin()
    assert one.wait(None, PATIENCE_S)
    assert one.now.failure == ""


def test_a_page_says_how_far_it_is(held: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what was drawn while the first part was held: the words, and every control of the sidebar."""
    shown = []
    words = sweeps._preparing_words

    def note(now: preparation.Progress) -> str:
        shown.append(words(now))
        held.set()
        return shown[-1]

    monkeypatch.setattr(sweeps, "_preparing_words", note)
    app = healthy(open_page(APP, fine="off"))
    assert shown[0].startswith("Preparing the simulator: **continuous batching**, part 1 of 12; 0 of ")
    assert "Within p99 limits" in finding(app)


def test_controls_are_there_while_it_prepares(held: threading.Event) -> None:
    """Oracle: the sliders of a page that is ready; there is no chart yet, and no empty page."""
    sweeps._preparation._parts[0] = Part("nothing", _fails)
    app = healthy(open_page(APP, fine="off"))
    labels = {slider.label for slider in app.sidebar.get("select_slider")}
    assert {"Memory bandwidth", "Tensor parallel", "Batch limit"} <= labels
    assert FINDING not in said(app)
    (error,) = app.error
    assert error.value.startswith("The simulator could not be compiled: ValueError: broken.")
    assert "NUMBA_CACHE_DIR" in error.value


def _fails() -> None:
    raise ValueError("broken.")


@pytest.mark.parametrize(
    ("by", "values", "changes", "parts"),
    [
        ("tensor_parallel", (1, 2), {}, len(FIRST)),
        ("tensor_parallel", (1, 2), {"policy": "static"}, len(USUAL)),
        ("tensor_parallel", (1, 2), {"replicas": 2}, len(USUAL)),
        ("tensor_parallel", (8, 16), {"tensor_parallel": 8, "attention_data_parallel": 8}, len(LAID_OUT)),
        ("tensor_parallel", (1, 2), {"pipeline_parallel": 2}, len(LAID_OUT)),
        ("pipeline_parallel", (1, 2), {}, len(LAID_OUT)),
        ("tensor_parallel", (1, 2), {"pipeline_parallel": 2, "prefix_caching": "on"}, len(PARTS)),
        ("tensor_parallel", (1, 2), {"prefix_caching": "on"}, len(USUAL)),
        ("tensor_parallel", (1, 2), {"prefix_caching": "on", "policy": "disaggregated"}, len(PARTS)),
        ("policy", ("chunked", "prefill_first"), {}, len(FIRST)),
        ("policy", ("chunked", "static"), {}, len(USUAL)),
    ],
)
def test_a_chart_waits_for_what_it_needs(by: str, values: tuple, changes: dict, parts: int) -> None:
    """Oracle: which kernels run it: the first two parts the usual policies on one replica; ranks and stages
    those of layouts, all parts where they or two pools keep texts; others all but those of layouts.
    """
    wanted = sweeps._parts_for(Sweep(Scenario(**changes), by, values, "max_batch"))
    assert (wanted or len(PARTS)) == parts


def test_what_is_compiled_beside_ends_as_it_would_alone() -> None:
    """Oracle: the parts by hand: a process that has done its own in time, in part, and not at all."""
    parts = [Part(name, lambda: None) for name in ("one", "two", "three")]
    for theirs, told in (
        (["f", "one", "g", "two"], ["f", "g"]),
        (["f", "one", "g"], ["f", "g"]),
        ([], []),
    ):
        lines, heard = iter(theirs), []
        for part in parts[:2]:
            preparation._follow(lines, part, heard.append)
        assert heard == told


def test_parts_beside_are_parts_of_all() -> None:
    """Oracle: the list of parts: what another process says it has done is awaited under the same name."""
    names, beside = [part.name for part in PARTS], [part.name for part in preparation.BESIDE]
    assert [name for name in names if name in beside] == beside
    assert names[0] not in beside


@pytest.mark.slow
def test_another_process_tells_what_it_compiles(tmp_path: Path) -> None:
    """Oracle: the kernels' functions, and the parts in order; from a cache, which lacks none, none is.

    Where two processes had written to one entry point's list of machine codes at once, one would be missing.
    """
    command = [sys.executable, "-W", "error", "-m", "sim_core.view.session.preparation"]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    counts = []
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        lines, names = done.stdout.splitlines(), [part.name for part in PARTS]
        assert [line for line in lines if line in names] == names
        counts.append(len(set(lines) - set(names)))
    assert counts == [progress.count_functions(), 0]
