"""Measured points on the charts of predictions."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from streamlit.testing.v1 import AppTest

from sim_core.evidence.own.cases import METRICS
from sim_core.evidence.own.engine import OwnEngine
from sim_core.scenario.own_bands import parse_own_bands
from sim_core.view.session.mine import store
from tests.visits import APP, healthy, open_page, said

QUICK = {"requests": "200", "fine": "off"}


@cache
def calibrated() -> tuple[tuple[Any, OwnEngine], dict[str, str]]:
    """Return what a session keeps of a calibration, and the link of its engine in use."""
    app = healthy(open_page("8_Calibrate.py").button("own_example").click().run())
    app = healthy(app.button("own_use").click().run())
    return app.session_state.own_kept, {key: "".join(value) for key, value in app.query_params.items()}


def opened(page: object = APP, **query: str) -> AppTest:
    kept, link = calibrated()
    app = open_page(page, **(link | QUICK | query))
    app.session_state["own_kept"] = kept
    return healthy(app.run())


def traces(app: AppTest) -> dict[str, dict]:
    drawing = json.loads(app.get("plotly_chart")[0].proto.spec)
    return {trace.get("name"): trace for trace in drawing["data"] if "measured" in trace.get("name", "")}


def test_the_points_that_calibrated_are_on_the_frontier() -> None:
    """Oracle: the file's own figures: 1000 / TPOT across, its throughput on one device upwards."""
    shown = traces(opened(prompt_tokens="1000", output_tokens="250"))["measured"]
    points = [entry.point for entry in calibrated()[0][1].entries]
    assert shown["marker"]["symbol"] == "diamond" and len(shown["x"]) == len(points) > 4
    for point, x, y in zip(points, shown["x"], shown["y"], strict=True):
        assert abs(x / (1000 / point.tpot_ms) - 1) < 1e-3 and abs(y / point.output_tok_per_s - 1) < 1e-3


def test_points_of_other_lengths_are_hollow_and_say_so() -> None:
    """A scenario with four times the prompt: the points are no measurements of it."""
    shown = traces(opened(prompt_tokens="4000"))
    assert list(shown) == ["measured, other lengths"]
    assert shown["measured, other lengths"]["marker"]["symbol"] == "diamond-open"
    assert "1,000 → 250 tokens" in shown["measured, other lengths"]["text"][0]


def test_without_the_engine_or_on_another_accelerator_there_are_none() -> None:
    """The points are evidence of the engine in use, on what it was measured on."""
    assert traces(opened(constants="")) == {}
    assert traces(opened(accelerator="b200")) == {}


def test_they_are_on_compare_too() -> None:
    """One of the sides has the engine."""
    assert "measured" in traces(opened("11_Compare.py", prompt_tokens="1000", output_tokens="250"))


def test_the_figures_have_the_band_of_the_points_left_out() -> None:
    """The badge names what it rests on, the key figure its band.

    Oracle: measured over predicted by fits that had not seen the points: the band of TPOT in the link reaches
    from the lowest to the highest of them, of which there are few, and beyond.
    """
    (_, engine), link = calibrated()
    page = said(opened())
    assert f"{len(engine.entries)} points of your own" in page
    assert "80 % band" in page.replace("\u202f", " ")
    unseen = 1 / engine.unseen[:, METRICS.index("tpot_ms")]
    band = parse_own_bands(link["own_bands"]).edges["tpot"]
    assert band.low <= 1.005 * unseen.min() < 0.995 * unseen.max() <= band.high


def test_an_engine_is_kept_from_where_it_was_calibrated() -> None:
    """The form beside the button that uses it keeps constants and bands, used or not."""
    app = open_page("8_Calibrate.py")
    app.session_state[store.TEXT] = ""
    app.session_state["in_keep_engines_open"] = True
    app = healthy(app.run().button("own_example").click().run())
    app.text_input(key="in_keep_name_alone").input("Ours").run()
    app = healthy(app.button("in_keep_alone").click().run())
    text, _ = app.session_state[store.WRITE]
    assert '[engines."Ours"]' in text and "constants" in text and "own_bands" in text
