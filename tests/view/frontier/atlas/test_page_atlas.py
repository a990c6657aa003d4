"""The Atlas page, run as Streamlit runs it but without a browser."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from sim_core.questions.deployment.atlas import heat_map
from sim_core.view.drawing.words import number
from sim_core.view.frontier.atlas.figures import MEASURES, best_cell, heat_figure, heat_sentence, words_of_key
from sim_core.view.frontier.atlas.page import ready
from tests.visits import address, finding, healthy, open_page

PAGE = "16_Atlas.py"


def test_the_finding_names_the_best_cell_and_a_limit_moves_it() -> None:
    """Oracle: within half a millisecond a token there is none."""
    assert "the most tokens per USD come from" in finding(healthy(open_page(PAGE)))
    assert "No cell keeps p99 limits" in finding(healthy(open_page(PAGE, slo_tpot_ms="0.5")))


def test_a_cell_s_setting_is_used_on_all_pages() -> None:
    """Oracle: the address holds the part and the workload of the table's row."""
    app = healthy(open_page(PAGE))
    healthy(app.button("atlas_use").click().run())
    assert {"accelerator", "mix", "arrivals"} <= set(address(app))


def test_other_axes_can_be_chosen() -> None:
    """Oracle: with workloads across, models stay down: the best cell of that map, over all accelerators."""
    app = healthy(open_page(PAGE))
    across = next(box for box in app.selectbox if box.label == "Across")
    healthy(across.set_value("mix").run())
    found = heat_map(ready(), "mix", "model", "usd", 2000.0, 40.0)
    i, j = best_cell(found)
    model, workload = words_of_key("model")(found.y[i]), words_of_key("mix")(found.x[j])
    assert f"come from {model} on {workload}: {number(found.value[i, j])}." in finding(app)
    filters = [box.label for box in app.selectbox if box.value is None]  # the best of all
    assert "Accelerator" in filters and "Workload" not in filters


@pytest.mark.parametrize("metric", MEASURES)
def test_the_figure_is_one(metric: str) -> None:
    """Oracle: Plotly checks it; a cell without a value has none, and the sentence counts the others."""
    found = heat_map(ready(), "accelerator", "model", metric, 2000.0, 40.0)
    figure = go.Figure(heat_figure(found, "accelerator", "model", metric))
    shown = [value is not None for line in figure.data[0].z for value in line]
    assert sum(shown) == (found.row >= 0).sum() > 0
    assert f"{sum(shown)} of {found.row.size} cells" in heat_sentence(found, "accelerator", "model", metric)
    assert found.row[best_cell(found)] >= 0
