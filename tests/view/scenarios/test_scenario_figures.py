"""Figures of the MLPerf-like page: Plotly accepts them, and they show the rows they were given."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import pytest

from sim_core import catalogue
from sim_core.questions.benchmark.rules import LAYOUT, chosen_keys
from sim_core.scenario.scenario import Scenario
from sim_core.view.scenarios import figures, points_figures
from sim_core.view.scenarios.figures import BOUND, LimitCurve, Mark
from sim_core.view.scenarios.published import published_rows
from sim_core.view.scenarios.published_figures import published_offline, published_ratios

SPEEDS = [0.0, 20.0, 60.0, 98.0]
PUBLISHED = (0.5, 0.6, 0.7, 3)


def curve_row(tpot_ms: float, ttft_ms: float, speed: float) -> dict:
    chosen = dict.fromkeys(LAYOUT, 2 if speed else None)
    return {"tpot_ms": tpot_ms, "ttft_ms": ttft_ms, "request_per_s": speed / 10, **chosen,
            "output_tok_per_s_per_accelerator": speed, "bound_by": "tpot" if speed else "floor"}  # fmt: skip


def line(rule: str, other_ms: float, along: str = "tpot") -> LimitCurve:
    steps = zip((5.0, 10.0, 40.0, 200.0), SPEEDS, strict=True)
    rows = [curve_row(*((x, other_ms) if along == "tpot" else (other_ms, x)), y) for x, y in steps]
    return LimitCurve(rule, other_ms, rows)


MARKS = [
    Mark("server", 2000.0, 200.0, 0.98, "stability", PUBLISHED),
    Mark("interactive", 450.0, 40.0, 0.6, "both", None),
    Mark("own", 2000.0, 20.0, 0.3, "tpot"),
]


def scenario_row(rule: str, kept: float, **more) -> dict:
    return {"rule": rule, "kept_frac": kept, "output_tok_per_s_per_accelerator": 100 * kept,
            "bound_by": "tpot" if kept else "floor", "limits": "TPOT 40 ms", "setting": "1 × TP 1",
            "published": PUBLISHED if rule == "server" else None, "tpot_ms_p99": 39.0,
            "tpot_limit_ms": None if rule == "offline" else 40.0} | more  # fmt: skip


ROWS = [scenario_row(rule, kept) for rule, kept in (("offline", 1.0), ("server", 0.9), ("own", 0.0))]


@pytest.mark.parametrize("along", ["tpot", "ttft"])
def test_plotly_accepts_the_kept_chart(along):
    """Oracle: Plotly's own validation; one line a rule, shares of Offline."""
    lines = [line("server", 2000.0, along), line("interactive", 450.0, along)]
    figure = figures.kept(lines, MARKS, 100.0, along=along)
    go.Figure(figure)
    drawn = {trace["name"]: trace["y"] for trace in figure["data"] if trace.get("customdata")}
    assert len(drawn) == 2
    assert all(y == [0.2, 0.6, 0.98] for y in drawn.values())


def test_marks_stand_at_their_limits():
    """Oracle: the marks given; published ones a little to the right, with their range."""
    figure = figures.kept([line("server", 2000.0)], MARKS, 100.0, along="tpot")
    [disc] = [trace for trace in figure["data"] if trace.get("name") == "Interactive"]
    assert (disc["x"], disc["y"]) == ([40.0], [0.6])
    [diamond] = [trace for trace in figure["data"] if trace.get("error_y")]
    assert diamond["y"] == [0.6] and diamond["x"][0] > 200
    assert diamond["error_y"]["array"] == [0.1] and diamond["error_y"]["arrayminus"] == [0.1]
    texts = [word["text"] for word in figure["layout"]["annotations"]]
    assert any("Interactive 60" in text for text in texts)


def test_same_limits_are_drawn_once():
    """Oracle: two rules with one TTFT limit share a line."""
    figure = figures.kept([line("server", 2000.0), line("own", 2000.0)], MARKS, 100.0, along="tpot")
    assert sum("customdata" in trace for trace in figure["data"]) == 1


def test_nothing_kept_anywhere():
    """Oracle: no exception, no line."""
    blocked = LimitCurve("server", 1.0, [curve_row(tpot, 1.0, 0.0) for tpot in (5.0, 10.0)])
    figure = figures.kept([blocked], [Mark("server", 1.0, 5.0, 0.0, "floor")], 100.0, along="tpot")
    go.Figure(figure)


def test_plotly_accepts_bars_and_points():
    """Oracle: Plotly's own validation; heights as given."""
    bars = figures.shares_figure(ROWS)
    go.Figure(bars)
    assert bars["data"][0]["x"] == [1.0, 0.9, 0.0]
    points = points_figures.operating_points_figure(line("server", 2000.0).rows, ROWS[:2])
    go.Figure(points)
    assert points["data"][0]["x"] == [100.0, 25.0, 5.0]
    go.Figure(points_figures.operating_points_figure([], ROWS[:1]))


def test_words_on_bars_can_be_read():
    """Oracle: WCAG's 4.5:1, computed here; a bar of nothing has them behind it."""
    bars = figures.shares_figure(ROWS)["data"][0]
    assert bars["textposition"] == ["inside", "inside", "outside"]
    pairs = zip(bars["marker"]["color"], bars["insidetextfont"]["color"], strict=True)
    for pair in pairs:
        dark, light = sorted(map(luminance, pair))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, pair


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb`: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    red, green, blue = (part / 255 for part in bytes.fromhex(colour[1:]))
    part = lambda c: c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4  # noqa: E731
    return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue)


@pytest.mark.parametrize("name", catalogue.preset_ids("published"))
def test_plotly_accepts_published_results(name):
    """Oracle: Plotly's own validation; every spread is drawn, its range about its median."""
    rows = published_rows(catalogue.benchmark(name))
    for figure in (published_ratios(rows), published_offline(rows)):
        go.Figure(figure)
        for trace in figure["data"]:
            error = trace.get("error_x", {})
            assert all(value >= 0 for value in [*error.get("array", []), *error.get("arrayminus", [])])
    offline = published_offline(rows)["data"][0]
    assert len(offline["y"]) == sum(bool(row["offline_count"]) for row in rows)


def test_missing_values_are_not_drawn():
    """Oracle: a row without simulated figures, and none at all."""
    row = {"name": "X", "offline_count": 1, "offline_simulated": None, "server_simulated": math.nan,
           "interactive_simulated": None, "server_count": 1, "interactive_count": 0}  # fmt: skip
    row |= {f"{rule}_{key}": 0.9 for rule in ("offline", "server") for key in ("min", "median", "max")}
    row |= {f"interactive_{key}": None for key in ("min", "median", "max")}
    assert published_ratios([row])["data"][1]["x"] == []
    assert published_offline([row])["data"][1]["x"] == []
    go.Figure(published_ratios([]))


def test_every_binding_has_words():
    """Oracle: the words a search may give back."""
    assert {"ttft", "tpot", "both", "stability", "floor", ""} == BOUND.keys()


def test_sentences():
    """Oracle: the figures they name."""
    assert "Server 98" in figures.kept_sentence([], MARKS, "tpot")
    assert "Offline 100" in figures.shares_sentence(ROWS)
    assert "39" in points_figures.points_sentence(ROWS)
    assert "no layout" not in figures.layout_words({"tensor_parallel": None})
    pools = Scenario(
        policy="disaggregated",
        prefill_workers=2,
        decode_workers=7,
        tensor_parallel=1,
        prefill_tensor_parallel=4,
        decode_tensor_parallel=8,
        prefill_expert_parallel=4,
        decode_expert_parallel=1,
        prefill_attention_data_parallel=4,
        decode_attention_data_parallel=1,
    )
    assert figures.layout_words(chosen_keys(pools)) == "2 × TP 4 DP 4 EP 4 prefill, 7 × TP 8 decode"


def test_what_reads_more_than_offline_is_not_cut_off():
    """Oracle: the largest share given, which must lie below the end of its axis."""
    top = figures.kept([line("server", 2000.0)], MARKS, 50.0, along="tpot")["layout"]["yaxis"]["range"][1]
    assert top > 98.0 / 50.0
    bars = figures.shares_figure([scenario_row("offline", 1.0), scenario_row("server", 1.26)])
    assert bars["layout"]["xaxis"]["range"][1] > 1.26
