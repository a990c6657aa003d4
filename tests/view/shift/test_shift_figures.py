"""Figures of the Traffic shift page: what is drawn follows from the runs, and Plotly accepts it."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
import pytest

from sim_core import load_scenario
from sim_core.questions.shift.cluster import Span
from sim_core.questions.shift.study import STRATEGIES, Study
from sim_core.questions.shift.volatility import break_even
from sim_core.view.shift import figures as shift_figures

SMALL = "demand_hours=0.03&dwell_s=30&prefill_workers=2&decode_workers=2&cooldown_s=20&observe_s=10&init_s=2"


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(load_scenario(SMALL, slo_tpot_ms=20.0))


@pytest.mark.parametrize("name", STRATEGIES)
def test_plotly_accepts_every_run(study: Study, name: str) -> None:
    """Oracle: Plotly's own validation."""
    go.Figure(shift_figures.over_time_figure(study, study.outcome(name), study.outcome("fixed")))


@pytest.mark.parametrize("demand", ["steady", "daily", "step", "spike"])
def test_plotly_accepts_every_shape(demand: str) -> None:
    """Oracle: Plotly's own validation."""
    one = Study(load_scenario(SMALL, demand=demand))
    go.Figure(shift_figures.over_time_figure(one, one.outcome("reactive"), one.outcome("fixed")))


def test_the_pools_add_up_to_all_workers(study: Study) -> None:
    """Oracle: four workers, whatever they do."""
    outcome = study.outcome("reactive")
    assert outcome.decisions
    figure = shift_figures.over_time_figure(study, outcome, study.outcome("fixed"))
    stack = [trace["y"] for trace in figure["data"] if trace.get("stackgroup")]
    np.testing.assert_allclose(np.sum(stack, axis=0), 4.0, rtol=1e-4)


def test_the_share_within_limits_is_the_runs(study: Study) -> None:
    """Oracle: the mean over time, weighted by arrivals, is the run's attainment."""
    outcome = study.outcome("reactive")
    figure = shift_figures.over_time_figure(study, outcome, None)
    (line,) = [trace for trace in figure["data"] if trace.get("yaxis") == "y3"]
    share = np.array([math.nan if y is None else y for y in line["y"]])
    arrived = outcome.timeline.arrived
    mean = np.nansum(share * arrived) / arrived.sum()
    assert mean == pytest.approx(outcome.attainment_frac, abs=1e-3)


def test_hover_says_what_each_worker_does() -> None:
    """Oracle: by hand."""
    spans = [
        Span(0, "prefill", 0, 10), Span(1, "prefill", 0, 10), Span(2, "load", 0, 5), Span(2, "decode", 5, 10),
        Span(3, "decode", 0, 10),
    ]  # fmt: skip
    assert shift_figures.doing(spans, 1.0) == "prefilling: 1–2, decoding: 4, loading weights: 3"
    assert shift_figures.doing(spans, 5.0) == "prefilling: 1–2, decoding: 3–4"


def test_moments_as_clocks_show_them() -> None:
    """Oracle: by hand."""
    assert [shift_figures.when(value) for value in (0, 59.6, 3725)] == ["0:00:00", "0:01:00", "1:02:05"]


ROWS = [
    {"dwell_reallocations": 1.0, "dwell_s": 50.0, "fixed_frac": 0.5, "reactive_frac": 0.4,
     "predictive_frac": 0.6,
     "oracle_frac": 0.7, "free_frac": 0.9, "one_pool_frac": 0.8},
    {"dwell_reallocations": 4.0, "dwell_s": 200.0, "fixed_frac": 0.5, "reactive_frac": 0.6,
     "predictive_frac": 0.7, "oracle_frac": 0.8, "free_frac": 0.9, "one_pool_frac": 0.8},
    {"dwell_reallocations": 8.0, "dwell_s": 400.0, "reason": "too many requests"},
]  # fmt: skip


def test_the_benefit_is_in_points() -> None:
    """Oracle: differences by hand; a point that cannot be is left out of the lines."""
    even = {name: break_even(ROWS, name) for name in ("reactive", "predictive")}
    figure = shift_figures.benefits(ROWS, (1.0, 4.0, 8.0), even, 2.0)
    go.Figure(figure)
    lines = {trace["name"]: trace for trace in figure["data"]}
    assert lines["Reactive"]["y"] == [-10.0, 10.0]
    assert lines["One pool, no split"]["x"] == [1.0, 4.0]
    assert even == {"reactive": pytest.approx(2.0), "predictive": 0.0}
    words = " ".join(note["text"] for note in figure["layout"]["annotations"])
    assert "reactive breaks even" in words
    assert "predictive breaks even" not in words
    assert "from 2 reallocation times on" in shift_figures.benefits_sentence(ROWS, even)


def test_bars_wait_for_what_is_not_known(study: Study) -> None:
    """Oracle: known shares are drawn, the others are empty and say so."""
    known = {"fixed": study.outcome("fixed")}
    figure = shift_figures.strategies(known)
    go.Figure(figure)
    bars = dict(zip(figure["data"][0]["y"], figure["data"][0]["x"], strict=True))
    assert bars["Fixed, best for the mean"] == pytest.approx(known["fixed"].attainment_frac, rel=1e-4)
    assert bars["Oracle"] is None
    assert figure["data"][0]["text"].count("…") == len(STRATEGIES) - 1
