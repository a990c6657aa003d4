"""The view of the prefix cache: its words and figures follow from the rows, and Plotly accepts them."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import plotly.graph_objects as go
import pytest

from sim_core.questions.experiments.caching import Caching, caching
from sim_core.results.timeline import timelines
from sim_core.scenario.ready import ready_scenario
from sim_core.scenario.scenario import Scenario
from sim_core.view.batching.caching.figures import account_areas, capacity_curve, user_curves
from sim_core.view.batching.caching.page import caching_finding, caching_notes
from sim_core.view.batching.gantt.drawing import draw_timelines
from tests.visits import FINDING, address, healthy, open_page, said

visit = partial(open_page, "3_Batching.py")
AGENTS = Scenario(
    turns=10, turn_tokens=400, prompt_tokens=2000, output_tokens=100, think_s=2.0, system_tokens=500,
    arrivals="closed", concurrency=6, requests=300, prefix_caching="on", hbm_gb=24.0,
)  # fmt: skip


@cache
def found() -> Caching:
    return caching(AGENTS)


@pytest.mark.parametrize("draw", [capacity_curve, user_curves, account_areas])
def test_plotly_accepts_the_figures(draw) -> None:
    """Oracle: Plotly's own check of every figure."""
    assert go.Figure(draw(found())).data


def test_the_curve_rises_to_what_there_is() -> None:
    """Oracle: a larger LRU cache finds no less, and the dotted line is what one without limit finds."""
    curve = capacity_curve(found())["data"][0]["y"]
    assert (np.diff(curve) >= -1e-9).all()
    assert curve[-1] == pytest.approx(100 * found().reuse.ideal_frac, rel=1e-3)


def test_axes_have_the_words_of_the_field() -> None:
    """By hand: the share that is found is the hit rate, as in engines' logs and in the glossary."""
    axes = [capacity_curve(found())["layout"]["yaxis"], user_curves(found())["layout"]["yaxis3"]]
    assert ["Hit rate [%]" in str(axis) for axis in axes] == [True, True]


def test_areas_fill_the_pool() -> None:
    """Oracle: used, cached and free blocks are all there are, at every moment."""
    assert sum(np.array(area["y"]) for area in account_areas(found())["data"]) == pytest.approx(100, abs=0.2)


def test_the_finding_says_what_the_rows_say() -> None:
    """Oracle: the rows."""
    text = caching_finding(found()).replace("\u2009", " ")
    assert f"By rule of thumb {found().fits:.2g} sessions fit" in text
    assert "keep their hits" in text
    assert any("off" in note for note in caching_notes(AGENTS.replace(prefix_caching="off"), found()))


def test_the_timeline_marks_what_was_found() -> None:
    """Oracle: the run: as many marks as prompts that found something, at the beginning of their prefill."""
    lines = timelines(AGENTS.replace(requests=40))
    run = lines["chunked"].story.run
    reused = run.engine.reused_tokens + run.engine.loaded_tokens
    drawing = draw_timelines({"chunked": lines["chunked"]}, rows="requests")
    (marks,) = (trace for trace in drawing.figure["data"] if trace.get("name") == "found in the prefix cache")
    assert len(marks["x"]) == np.count_nonzero(reused) > 0
    words = {request: found for request, found, _ in marks["customdata"]}
    assert words == {row: f"{tokens:,}" for row, tokens in enumerate(reused.tolist()) if tokens}
    go.Figure(drawing.figure)


@pytest.mark.parametrize("name", ["agents-that-fit", "agents-with-host-memory"])
def test_the_page_opens(name: str) -> None:
    """Oracle: no exception, a finding, and the view in the address."""
    keys = {key: str(value) for key, value in ready_scenario(name).scenario.items()} | {"requests": "400"}
    app = healthy(visit(batching="caching", **keys))
    assert "sessions fit" in said(app)
    assert address(app)["batching"] == "caching"


def test_requests_alone_are_told_what_to_do() -> None:
    """Oracle: the way out is on the page: examples to open."""
    app = healthy(visit(batching="caching"))
    assert FINDING in said(app)
    assert "nothing in common" in said(app)
    app.button(key="open_agents-that-fit").click().run()
    assert healthy(app).session_state.scenario == ready_scenario("agents-that-fit").build()
