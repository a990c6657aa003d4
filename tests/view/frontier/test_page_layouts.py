"""The Layouts page, run as Streamlit runs it but without a browser."""

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from sim_core.questions.deployment.curves import estimated_curves, ranking
from sim_core.questions.deployment.layouts import FAMILIES
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing.figures import frame_around
from sim_core.view.frontier.layouts import words
from sim_core.view.frontier.layouts.figures import layouts_figure, layouts_sentence
from tests.visits import address, finding, healthy, open_page, said

PAGE = "14_Layouts.py"
LARGE = {"model": "deepseek-r1", "accelerator": "h200", "weight_dtype": "fp8"}


def settled(app: AppTest) -> AppTest:
    """Return the app after its chart has rested."""
    app.session_state.sweep_settled = app.session_state.sweep_shown
    return healthy(app.run(timeout=600))  # the first one compiles all kernels


def test_all_layouts_are_estimated_at_once_and_simulated_when_the_chart_rests() -> None:
    """Oracle: the words of each state."""
    app = healthy(open_page(PAGE, **LARGE))
    assert "Estimated by arithmetic" in said(app)
    app = settled(app)
    assert "Estimated by arithmetic" not in said(app)
    assert "gives most at" in finding(app)


def test_the_best_layouts_can_be_used_on_all_pages() -> None:
    """Oracle: the address holds the layout's keys."""
    app = healthy(open_page(PAGE, **LARGE))
    button = app.button("use_layout_0")
    assert button.label.startswith("Use ")
    healthy(button.click().run())
    assert "tensor_parallel" in address(app)


def test_what_cannot_be_says_why() -> None:
    """Oracle: the reason of the price."""
    assert "DeepSeek-R1 needs" in said(healthy(open_page(PAGE, **LARGE)))


def test_a_target_that_nobody_reaches_is_said() -> None:
    """By hand: no layout gives a user 1,000 tok/s of a model of 671 billion parameters."""
    app = healthy(open_page(PAGE, target_user="1000", **LARGE))
    assert "no layout of DeepSeek-R1 gives" in finding(app)


def test_a_model_that_fits_nowhere_is_said() -> None:
    """By hand: 671 billion parameters of 2 bytes are more than 8 x 151 GB, however they are laid out."""
    app = healthy(open_page(PAGE, model="deepseek-r1", accelerator="h200"))
    assert "no layout of DeepSeek-R1 can run" in finding(app)
    assert "tensor_parallel" not in said(app) and "Estimated by arithmetic" not in said(app)


@pytest.mark.parametrize("devices", ["1", "7", "1024"])
def test_any_number_of_devices_can_be_asked(devices: str) -> None:
    """Oracle: no exception."""
    healthy(open_page(PAGE, layout_devices=devices))


def test_the_figure_is_one_plotly_draws() -> None:
    """Oracle: Plotly's own checks; one entry of the legend for each family."""
    curves = estimated_curves(Scenario(), 8)
    frame = frame_around([row for curve in curves for row in curve.rows])
    ranked = ranking(curves, 50.0)
    figure = go.Figure(layouts_figure(curves, frame, 50.0, ranked[0]))
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert named == [FAMILIES["tensor"], FAMILIES["stages"], FAMILIES["pools"]]
    assert ranked[0].curve.option.name in layouts_sentence(curves, ranked, 50.0)


def test_a_point_beyond_the_limit_is_hollow_and_a_simulated_curve_in_the_legend() -> None:
    """By hand: of three points, the first keeps 500 ms, the second does not; the third is an estimate."""
    curves = [
        curve._replace(rows=curve.rows[:3])
        for curve in estimated_curves(Scenario(), 8)
        if curve.option.family == "tensor"
    ]
    told = tuple(
        row | {"slo_ttft_ms_reached": ms, "limit": "weights"}
        for row, ms in zip(curves[1].rows, (400, 600), strict=False)
    )
    curves[1] = curves[1]._replace(simulated=True, rows=told)
    figure = layouts_figure(curves, frame_around(curves[0].rows), 50.0, None, ttft_ms=500.0)
    drawn = [trace for trace in figure["data"] if trace.get("marker", {}).get("symbol")]
    named = next(trace for trace in drawn if trace["showlegend"])
    assert named["line"]["dash"] == "solid"
    assert [symbol.endswith("-open") for symbol in named["marker"]["symbol"]] == [False, True]


def test_the_finding_names_ties_and_the_gain_over_tensor_parallelism() -> None:
    """By hand, from the ranking itself."""
    ranked = ranking(estimated_curves(Scenario(), 8), 50.0)
    text = words.layout_finding(Scenario(), 8, ranked, 50.0)
    assert ranked[0].curve.option.name in text
    assert any(item.is_tie for item in ranked[1:]) == ("Within the error" in text)


def test_winners_keep_the_limit_on_the_first_token_or_the_page_says_that_none_does() -> None:
    """Oracle: no prompt of an 8B model is done within a hundredth of a millisecond, all within an hour."""
    for limit, none in (("0.01", True), ("3600000", False)):
        app = settled(healthy(open_page(PAGE, slo_ttft_ms=limit, layout_devices="2")))
        assert ("None of them keeps the limit on TTFT" in said(app)) == none
        assert "gives most at" in finding(app)
