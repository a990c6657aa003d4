"""The axes of the Frontier: what they show of a point, what is better, and what a curve is missing for.

Oracles: units by hand; the frontier by its definition; the sentences.
"""

from __future__ import annotations

import math

import plotly.graph_objects as go
import pytest

from sim_core.scenario.link.page_settings import choice_names
from sim_core.view.drawing import figures
from sim_core.view.frontier.axes import ACROSS, UP, placed, placed_all
from tests.loops import each
from tests.view.frontier.test_figures import SWEEP, blocked, draw, point
from tests.visits import APP, healthy, open_page, said

COSTS = {"usd_per_mtok": 0.5, "joule_per_tok": 0.25, "e2e_ms_p50": 3000.0, "e2e_ms_p99": 5000.0}


def test_what_a_point_gives_per_dollar_watt_and_megawatt() -> None:
    """By hand: 0.5 USD a million tokens is 2 million a dollar; 0.25 J a token is 4 tok/s per watt."""
    row = placed(point(**COSTS))
    assert row["mtok_per_usd"] == 2 and row["tok_per_s_per_w"] == 4 and row["tok_per_s_per_mw"] == 4e6
    assert row["e2e_s_p50"] == 3 and row["e2e_s_p99"] == 5


@pytest.mark.parametrize("changes", [{"saturated": True}, dict.fromkeys(COSTS, None), {"usd_per_mtok": 0.0}])
def test_what_is_not_known_or_withheld_has_no_place(changes: dict) -> None:
    """Oracle: what the table withholds of an overloaded point; what has no price has no tokens per dollar."""
    row = placed(point(**(COSTS | changes)))
    frame = figures.frame_around([row], across=ACROSS["e2e"], up=UP["usd"])
    assert math.isnan(row["mtok_per_usd"]) and frame.drawable([row]) == []


@each([(across, up) for across in ACROSS for up in UP])
def test_plotly_accepts_every_pair_of_axes(across: str, up: str) -> None:
    """Oracle: Plotly's schema; the titles; a cross stands where a curve ends."""
    rows = placed_all([*(row | COSTS for row in SWEEP[:3]), blocked()], ACROSS[across], UP[up])
    frame = figures.frame_around(rows, across=ACROSS[across], up=UP[up])
    drawn = draw(rows, frame)
    go.Figure(drawn)
    assert drawn["layout"]["xaxis"]["title"]["text"] == ACROSS[across].title
    assert drawn["layout"]["yaxis"]["title"]["text"] == UP[up].title
    assert sum(trace.get("marker", {}).get("symbol") == "x-thin" for trace in drawn["data"]) == 1


def test_less_latency_is_better() -> None:
    """By hand: of three points only the slow and poor one is beaten."""
    rows = [point(x=100, y=y) | COSTS | {"e2e_ms_p50": e2e} for e2e, y in ((1000, 10), (3000, 5), (3000, 30))]
    found = placed_all(rows, ACROSS["e2e"], UP["device"])
    assert [row["on_frontier"] for row in found] == [True, False, True]
    frame = figures.frame_around(found, across=ACROSS["e2e"])
    pale = figures.halo(found, frame)
    assert pale["x"][0] == 3 and pale["x"][-1] == 1
    words = [note["text"] for note in draw(found, frame)["layout"]["annotations"]]
    assert "↖ better" in words and not any("TPOT limit" in text for text in words)


def test_words_over_a_latency_stand_where_no_curve_is() -> None:
    """By hand: curves rise from the left, so that the lower right is free; three lines lie under "better"."""
    rows = [point(x=100, y=y) | COSTS | {"e2e_ms_p50": e2e} for e2e, y in ((1000, 10), (3000, 30))]
    found = placed_all([row | {"meets_slo": False} for row in rows], ACROSS["e2e"], UP["device"])
    notes = draw(found, figures.frame_around(found, across=ACROSS["e2e"]))["layout"]["annotations"]
    corner = [note for note in notes if note["text"] == "↖ better" or note["text"].startswith("hollow")]
    assert len(corner) == 2 and corner[1]["text"].count("<br>") == 2
    for note in corner:
        assert note["x"] > 0.9 and note["y"] < 0.1 and note["xanchor"] == "right"
    assert corner[0]["yshift"] > 3 * corner[1]["font"]["size"] and not corner[1].get("yshift")


def test_settings_and_axes_are_the_same() -> None:
    """Oracle: the list of settings."""
    assert choice_names("across").keys() == ACROSS.keys() and choice_names("up").keys() == UP.keys()


@pytest.mark.parametrize(("across", "up"), [("e2e", "usd"), ("ttft_p99", "mw")])
def test_the_page_shows_them(across: str, up: str) -> None:
    """Oracle: the page has no error, and no curve is missing."""
    app = healthy(open_page(APP, requests="400", fine="off", across=across, up=up))
    assert '<ul class="bs-blocked">' not in said(app)


def test_the_table_at_a_speed() -> None:
    """Oracle: the speed of the link; the widest group is the quickest, and alone gives 300 tok/s a user."""
    app = open_page(APP, requests="400", fine="off", target_user="300")
    app.session_state["in_at_speed"] = True
    words = said(healthy(app.run()))
    assert "At 300" in words and "80 % band" in words.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "at most" in words.partition("At 300")[2]
