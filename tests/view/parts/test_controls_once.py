"""A control stands once on a page. Oracle: the labels of its sliders."""

from __future__ import annotations

import pytest

from tests.visits import healthy, open_page

PAGES = [
    *(("5_Disaggregation.py", {"pools": view}) for view in ("ratio", "stages", "link")),
    *(("3_Batching.py", {"batching": view}) for view in ("timeline", "wait", "endings", "engines")),
    ("6_Traffic_shift.py", {"demand_hours": "0.03"}),
]


@pytest.mark.parametrize(("page", "view"), PAGES)
def test_no_slider_stands_twice(page: str, view: dict[str, str]) -> None:
    """Oracle: the limits and the batch limit have one slider each."""
    app = healthy(open_page(page, requests="400", fine="off", **view))
    labels = [slider.label for slider in app.select_slider]
    for label in ("First token within", "Each token within", "Batch limit"):
        assert labels.count(label) == 1


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
