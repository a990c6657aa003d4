"""A control stands once on a page. Oracle: the labels of its sliders."""

from __future__ import annotations

import pytest

from sim_core.view.frontier.layouts import page as layouts
from tests.visits import healthy, open_page, said

LIMITS = ["First token within", "Each token within"]
PAGES = [
    *(("5_Disaggregation.py", {"pools": view}) for view in ("ratio", "stages", "link")),
    ("6_Traffic_shift.py", {"demand_hours": "0.03"}),
]


@pytest.mark.parametrize(("page", "view"), PAGES)
def test_no_slider_stands_twice(page: str, view: dict[str, str]) -> None:
    """Oracle: the limits and the batch limit have one slider each."""
    app = healthy(open_page(page, requests="400", fine="off", **view))
    labels = [slider.label for slider in app.select_slider]
    for label in (*LIMITS, "Batch limit"):
        assert labels.count(label) == 1


@pytest.mark.parametrize("view", ["timeline", "wait", "preemption", "interference", "endings", "engines"])
def test_batching_has_no_limit_that_does_nothing(view: str) -> None:
    """Oracle: what the page says of the same requests within other limits, word for word, in every view."""
    asked = {"requests": "400", "batching": view}
    app = healthy(open_page("3_Batching.py", **asked))
    tight = healthy(
        open_page("3_Batching.py", **asked, slo_ttft_ms="60", slo_tpot_ms="2", slo_percentile="50")
    )
    assert said(app) == said(tight)
    app.session_state["in_advanced"] = True
    app = healthy(app.run())
    labels = [slider.label for slider in app.select_slider]
    assert labels.count("Batch limit") == 1 and not {*LIMITS, "Percentile"} & {*labels}


LIMITS_OF = {"specs": LIMITS, "floor": LIMITS[1:]}


@pytest.mark.parametrize("view", ["roofline", "step", "specs", "kv", "floor", "speculation"])
def test_two_phases_has_the_limits_of_its_view_alone(view: str) -> None:
    """Oracle: what the view says within other limits, which differs where it has their sliders alone."""
    texts = {}
    for limit in (30, 3):
        app = healthy(open_page("2_Two_phases.py", phases=view, slo_tpot_ms=str(limit)))
        texts[limit] = said(app)
        assert [slider.label for slider in app.select_slider if "within" in slider.label] == LIMITS_OF.get(
            view, []
        )
    assert (texts[30] != texts[3]) == (view in LIMITS_OF)


def test_the_limits_come_and_go_with_the_view() -> None:
    """Oracle: the sliders of the view that was turned to."""
    app = healthy(open_page("2_Two_phases.py"))
    assert not [slider for slider in app.select_slider if slider.label in LIMITS]
    turned = healthy(app.button_group(key="in_phases").set_value("floor").run())
    assert [slider.label for slider in turned.select_slider if slider.label in LIMITS] == LIMITS_OF["floor"]


@pytest.mark.parametrize("view", ["ratio", "stages", "link", "pays"])
def test_the_sizes_of_two_pools_stand_once(view: str) -> None:
    """Oracle: the pools of a scenario that is split have one slider each, and what is rarer stays at hand."""
    app = healthy(open_page("5_Disaggregation.py", requests="400", policy="disaggregated", pools=view))
    labels = [slider.label for slider in app.select_slider]
    for label in ("Prefill workers", "Decode workers", "KV link"):
        assert labels.count(label) == 1
    assert "More on the pools" in [item.label for item in app.expander]


def test_disaggregation_has_no_rate_that_does_nothing() -> None:
    """Oracle: the page's load replaces the request rate."""
    app = healthy(open_page("5_Disaggregation.py", requests="400"))
    labels = [slider.label for slider in app.select_slider]
    assert "Request rate" not in labels and "Load" in labels


def test_pages_have_no_control_of_what_they_set_themselves() -> None:
    """Oracle: one pool and two are compared whatever the scheduling is; a step has as many sequences as the
    page says, whatever arrives.
    """
    pools = healthy(open_page("5_Disaggregation.py", requests="400"))
    assert "in_policy" not in {str(control.key) for control in pools.selectbox}
    steps = healthy(open_page("2_Two_phases.py"))
    keys = {str(control.key) for control in (*steps.select_slider, *steps.selectbox)}
    assert not keys & {"in_arrivals", "in_arrival_per_s"} and {"in_policy", "in_prompt_tokens"} <= keys


def test_where_the_rate_is_searched_for_there_is_no_load() -> None:
    """Oracle: the map of where two pools pay finds the highest rate of every cell."""
    app = healthy(open_page("5_Disaggregation.py", requests="400", pools="pays"))
    labels = [slider.label for slider in app.select_slider]
    assert "Load" not in labels and "KV link" in labels


def test_layouts_has_no_control_that_does_nothing() -> None:
    """Oracle: the answer. It is the same one whatever these keys say, so no control sets them; it
    follows those that are shown."""
    app = healthy(open_page("14_Layouts.py", requests="400"))
    keys = {str(control.key) for control in (*app.select_slider, *app.selectbox)}
    other = {"tensor_parallel": 4, "pipeline_parallel": 2, "arrivals": "closed", "arrival_per_s": 3.0}
    scenario = app.session_state.scenario
    for key, value in other.items():
        assert layouts.basis_of(scenario.replace(**{key: value})) == layouts.basis_of(scenario)
        assert f"in_{key}" not in keys
    for key, value in {"max_batch": 8, "prompt_tokens": 50, "policy": "prefill_first"}.items():
        assert layouts.basis_of(scenario.replace(**{key: value})) != layouts.basis_of(scenario)
        assert f"in_{key}" in keys


@pytest.mark.parametrize("rules", ["limits", "bars", "points", "published", "rounds"])
def test_published_results_have_no_controls_of_a_system_that_is_not_simulated(rules: str) -> None:
    """Oracle: what the views take. Results over all accelerators take a benchmark alone, those over rounds
    an accelerator too, and only what is simulated here takes specs and a setup.
    """
    app = healthy(open_page("4_Scenarios.py", rules=rules))
    keys = {str(control.key) for control in (*app.select_slider, *app.selectbox, *app.toggle)}
    assert "in_bench" in keys
    assert ("in_accelerator" in keys) == (rules != "published")
    assert ("in_tuned" in keys) == ("in_devices" in keys) == (rules in ("limits", "bars", "points"))


@pytest.mark.parametrize("page", ["1_Frontier.py", "4_Scenarios.py", "8_Calibrate.py", "15_Plan.py"])
def test_the_way_back_and_what_is_kept_are_on_every_page_with_a_sidebar(page: str) -> None:
    """Oracle: the labels of both buttons."""
    app = healthy(open_page(page, requests="400", fine="off"))
    assert {"Mine", "Reset"} <= {item.proto.popover.label for item in app.sidebar.get("popover")}
