"""What a page offers to take away: it holds what the page has said and drawn, and the scenario."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from html import escape
from xml.etree import ElementTree

import pytest
from streamlit.testing.v1 import AppTest

from sim_core import __version__
from sim_core.engine import work
from sim_core.scenario.link.write import to_query
from sim_core.scenario.scenario import Scenario
from sim_core.view.compare import design
from sim_core.view.compare import page as compare
from sim_core.view.parts import actions
from sim_core.view.session import record, state
from tests.visits import finding, healthy, open_page, said

VIEWS = (
    ("1_Frontier.py", {"requests": "300"}, 1),
    ("1_Frontier.py", {"requests": "300", "show": "table"}, 0),
    ("2_Two_phases.py", {}, 1),
    ("2_Two_phases.py", {"phases": "step"}, 3),
    ("3_Batching.py", {}, 1),
    ("4_Scenarios.py", {"rules": "bars"}, 1),
    ("5_Disaggregation.py", {"requests": "300"}, 1),
    ("6_Traffic_shift.py", {"demand_hours": "0.03", "slo_tpot_ms": "20"}, 1),
    ("7_Validation.py", {}, 1),
    ("11_Compare.py", {"requests": "300", "versus": "max_batch=64&requests=300"}, 1),
)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    """Yield the Frontier page after its run, whose session the functions under test see."""
    app = healthy(open_page("1_Frontier.py", requests="300", hbm_gb_per_s="5000"))
    monkeypatch.setattr(actions.st, "session_state", app.session_state)
    yield app


@pytest.mark.parametrize(("page", "query", "charts"), VIEWS)
def test_every_page_leaves_a_record(page: str, query: dict[str, str], charts: int) -> None:
    """Oracle: what the page itself shows: finding, badge, and as many charts as the view has."""
    app = healthy(open_page(page, **query))
    shown = app.session_state.shown_now
    assert shown.finding and escape(shown.finding) in finding(app)
    assert shown.badge.badge in said(app)
    assert len(shown.drawings) == charts
    assert all(drawing.alt and drawing.title for drawing in shown.drawings)


def test_a_run_begins_its_record_anew() -> None:
    """Oracle: the charts of the view that is shown, after views with others."""
    app = open_page("2_Two_phases.py", phases="step")
    app.session_state.view = app.session_state.view | {"phases": "kv"}
    app.run()
    assert [key for key, _ in healthy(app).session_state.shown_now.charts] == ["kv"]


def test_a_file_is_written_within_the_budget_of_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what the button is given: it makes the text of a refusal, where the app would raise."""
    given: list[Callable[[], str]] = []
    monkeypatch.setattr(actions.st, "download_button", lambda label, make, *args, **more: given.append(make))

    def make() -> str:
        allowance = work.allowance()
        assert allowance is not None
        raise work.SpentUp("the budget is spent")

    actions.downloads([actions.File("CSV", "x.csv", "text/csv", make)])
    assert given[0]() == "the budget is spent"


def test_the_report_holds_the_view(session: AppTest) -> None:
    """Oracle: the page: finding, badge, points, scenario, command, version."""
    file = actions._report(actions.table_files([{"time_ms": 1.5}], "x"), "python -m sim_core <&>")
    text = file.make()
    shown = session.session_state.shown_now
    for part in (
        shown.finding, shown.badge.badge.capitalize(), "hbm_gb_per_s = 5000", "python -m sim_core <&>",
        f"Batchscope {__version__}", "not an MLPerf result", "?v=1",
    ):  # fmt: skip
        assert escape(part) in text
    assert "time_<wbr>ms" in text
    assert text.count('<script type="application/json">') == 1
    assert file.name.endswith(".html")


def test_a_report_keeps_what_was_seen(session: AppTest) -> None:
    """Oracle: the finding of the run in which the button was drawn, whatever is shown later."""
    shown = session.session_state.shown_now.finding
    file = actions._report([], "")
    record.begin_record("Something else.")
    assert escape(shown) in file.make()
    assert "Something else." not in file.make()


def test_rows_name_their_scenario(session: AppTest) -> None:
    """Oracle: the page's scenario, the row's own before it, and none for published rows; no drawing keys."""
    rows = [{"time_ms": 1.0, "look": 0}, {"time_ms": 2.0, "scenario": "v=1&max_batch=8"}]
    text, words, _ = (file.make() for file in actions.table_files(rows, "x"))
    query = to_query(session.session_state.scenario)
    found = list(csv.DictReader(io.StringIO(text)))
    assert [row["scenario"] for row in found] == [query, "v=1&max_batch=8"]
    assert [row["scenario"] for row in json.loads(words)] == [query, "v=1&max_batch=8"]
    assert list(found[0]) == ["time_ms", "scenario"]
    assert "scenario" not in actions.table_files(rows[:1], "x", published=True)[0].make()


def test_compared_rows_name_their_own_scenarios() -> None:
    """Oracle: the two scenarios."""
    sides = [Scenario(requests=300), Scenario(requests=300, max_batch=64)]
    for rows_of in (compare.side_rows, design.design_rows):
        rows = rows_of(sides, [[{"feasible": True}], [{"feasible": True}]])
        assert [row["scenario"] for row in rows] == [to_query(side) for side in sides]


def test_an_embedded_page_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same page as a page of its own."""
    assert open_page("1_Frontier.py", requests="300").get("download_button")
    monkeypatch.setattr(state, "embedded", lambda: True)
    app = healthy(open_page("1_Frontier.py", requests="300"))
    assert not app.get("download_button")
    assert finding(app)


def test_the_frame_holds_the_link_whatever_it_has() -> None:
    """Oracle: XML: an attribute with an ampersand and quotes comes back from it as it was."""
    link = 'http://localhost/?v=1&mix="a"&embed=true'
    assert ElementTree.fromstring(actions.iframe(link)).get("src") == link


def test_a_link_too_long_for_a_code() -> None:
    """Oracle: a valid link of more than the 2,953 bytes that a QR code holds: the panel opens and says so."""
    listed = ",".join(f"{k}:1000:{100 + k % 7}" for k in range(250))
    app = open_page("1_Frontier.py", arrivals="trace", request_list=listed, fine="off")
    app.session_state["in_share_open"] = True
    app = healthy(app.run())
    assert any("too long for a code" in caption.value for caption in app.caption)
