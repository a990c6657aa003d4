"""Figures of the Validation page: what is drawn follows from the rows, and Plotly accepts it."""

from __future__ import annotations

import itertools
import math

import plotly.graph_objects as go
import pytest

from sim_core.evidence import published as measured
from sim_core.evidence import trust
from sim_core.evidence.blind import Band
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.scenario.scenario import Scenario
from sim_core.view.drawing import trust_words
from sim_core.view.drawing.words import THIN
from sim_core.view.parts import trust_badge
from sim_core.view.trust import validation, validation_figures
from sim_core.view.trust.validation_figures import METRICS, ErrorSpread
from tests.loops import each

NARROW = THIN


def rows(kind: str = "closed") -> list[dict]:
    return [row for row in validation.every_row() if row["pools"] == "one" and row["traffic"] == kind]


@each(list(itertools.product(measured.TRAFFIC, METRICS, SETTINGS["valcolour"].choices)))
def test_plotly_accepts_every_scatter(kind: str, metric: str, by: str) -> None:
    """Oracle: Plotly's own validation; as many marks as there are rows with both values."""
    shown = validation_figures.comparable_rows(rows(kind), metric)
    figure = validation_figures.against(shown, metric, by, validation.looks(by))
    go.Figure(figure)
    marks = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    assert sum(len(trace["x"]) for trace in marks) == len(shown)


def test_the_scatter_shows_its_rows() -> None:
    """Oracle: one row, by hand; the line of equality has equal ends; the bands are 10, 20 and 30% wide."""
    row = next(row for row in rows() if not row["status"])
    figure = validation_figures.against([row], "tpot", "family", validation.looks("family"))
    (mark,) = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    assert mark["x"] == pytest.approx([row["tpot_ms"]], rel=1e-4)
    assert mark["y"] == pytest.approx([row["predicted_tpot_ms"]], rel=1e-4)
    assert row["entry"][:20] in mark["customdata"][0][7] or "…" in mark["customdata"][0][7]
    line = next(trace for trace in figure["data"] if trace.get("line", {}).get("color") == "#010203")
    assert line["x"] == line["y"]
    bands = [trace for trace in figure["data"] if trace.get("fill") == "toself"]
    assert [band["y"][3] / band["x"][3] for band in bands] == pytest.approx([1.3, 1.2, 1.1], rel=1e-3)


def test_points_that_do_not_count_are_hollow() -> None:
    """Oracle: the status of the rows."""
    hollow = [row for row in rows() if row["status"]]
    figure = validation_figures.against(hollow, "tpot", "family", validation.looks("family"))
    symbols = {symbol for trace in figure["data"] if trace["mode"] == "markers"
               for symbol in trace["marker"]["symbol"]}  # fmt: skip
    assert symbols and all(symbol.endswith("-open") for symbol in symbols)


def test_a_group_keeps_its_look() -> None:
    """Oracle: looks come from the whole table; no two of one colour share a mark."""
    for by in SETTINGS["valcolour"].choices:
        found = validation.looks(by)
        assert len({(look.colour, look.symbol) for look in found.values()}) == len(found)
    figure = validation_figures.against(
        [row for row in rows() if row["accelerator"] == "h200"], "tpot", "accelerator",
        validation.looks("accelerator"),
    )  # fmt: skip
    (mark,) = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    assert mark["marker"]["color"] == validation.looks("accelerator")["h200"].colour


def test_spreads_are_drawn_where_they_are() -> None:
    """Oracle: the numbers handed over."""
    spread = ErrorSpread("dense", 40, (0.8, 1.0, 1.3), (0.9, 1.01, 1.1))
    figure = validation_figures.spreads([spread], "ttft", validation.looks("family"))
    go.Figure(figure)
    lines = [trace["x"] for trace in figure["data"] if trace["mode"] == "lines"]
    assert lines == [[0.8, 1.3], [0.9, 1.1]]
    sentence = validation_figures.spreads_sentence([spread], "ttft", validation.looks("family"))
    assert "Dense" in sentence.title() and "0.8× to 1.3×" in sentence


def test_empty_figures_are_valid() -> None:
    """Oracle: Plotly's own validation."""
    go.Figure(validation_figures.against([], "tpot", "family", validation.looks("family")))
    go.Figure(validation_figures.spreads([], "tpot", validation.looks("family")))


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(1.0, "exact"), (1.12, f"12{NARROW}% too high"), (0.5, f"50{NARROW}% too low"),
     (4.0, "4 times too high"), (0.2, "5 times too low"), (math.nan, "–")],
)  # fmt: skip
def test_ratios_in_words(ratio: float, words: str) -> None:
    """Oracle: by hand."""
    assert validation_figures.error_ratio_words(ratio) == words


def test_the_sentence_counts() -> None:
    """Oracle: the rows, by hand."""
    chosen = [row | {"tpot_ms": 10.0, "predicted_tpot_ms": value}
              for row, value in zip(rows(), (9.0, 11.9, 12.5, 30.0), strict=False)]  # fmt: skip
    assert f"4 points: 50{NARROW}% lie within" in validation_figures.against_sentence(chosen, "tpot")


def test_the_badge_says_badge_band_and_reasons() -> None:
    """Oracle: the trust it shows."""
    found = trust.trust(Scenario(accelerator="mi300x", policy="static"))
    text = trust_badge.badge_line(found)
    assert found.badge in text and "MI300X" in text and "Static batching" in text and "TPOT" in text
    assert trust_words.band_words(Band(0.875, 1.2)) == f"−12 to +20{NARROW}%"
    assert trust_words.band_words(Band(0.4, 3.0)) == "0.4× to 3×"
