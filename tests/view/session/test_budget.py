"""What a view may cost, what it says of that, and that it ends when nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qsl

import pytest
import streamlit as st
from streamlit.proto.WidgetStates_pb2 import WidgetStates
from streamlit.runtime.scriptrunner import RerunException, StopException
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests
from streamlit.testing.v1 import AppTest

from sim_core.engine import work
from sim_core.engine.run import run
from sim_core.engine.work import Allowance
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.sweep import frontier
from sim_core.sweep.points import sweep_points
from sim_core.view.session import budget
from sim_core.view.session.budget import Budget, budget_of, nobody_waits, words
from tests.places import ROOT
from tests.turns import count_turns
from tests.visits import address, healthy, open_page

PAGES = ("1_Frontier", "3_Batching", "5_Disaggregation", "6_Traffic_shift", "11_Compare", "2_Two_phases")
MANY = {
    "pools": "policy=disaggregated&prefill_workers=256&decode_workers=256&arrival_per_s=1000",
    "long answers": "policy=disaggregated&prefill_workers=256&decode_workers=256&output_tokens=2000",
    "closed pools": "policy=disaggregated&prefill_workers=256&decode_workers=256&arrivals=closed",
    "replicas": "replicas=256&arrival_per_s=1000",
}
SMALL = Budget(seconds=0.05)
LINKS = {
    "many": "requests=4900000",
    "long": "token_budget=1&prompt_tokens=90000&output_tokens=1&hbm_gb=900000&requests=50000",
    "wide": "policy=disaggregated&prefill_workers=255&decode_workers=255",
    "hours": "demand_hours=900&demand_load_frac=none&arrival_per_s=0.6&control_s=0.1",
}


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> list[Allowance]:
    """Return the allowances of all views that are drawn, each a small one that counts turns."""
    monkeypatch.setattr(budget, "BUDGET", SMALL)
    count_turns(monkeypatch)
    return costs(monkeypatch)


def costs(monkeypatch: pytest.MonkeyPatch) -> list[Allowance]:
    """Return the allowances of all views that are drawn, each as the app gives them."""
    seen: list[Allowance] = []
    whole = budget.of_view

    @contextmanager
    def watched() -> Iterator[Allowance]:
        with whole() as given:
            seen.append(given)
            yield given

    monkeypatch.setattr(budget, "of_view", watched)
    return seen


def captions(app: AppTest) -> str:
    return " ".join(caption.value for caption in app.caption)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("page", PAGES)
def test_a_link_costs_no_more_than_some_budgets(page: str, link: str, views: list[Allowance]) -> None:
    """Oracle: the turns that the kernels count: no more than a view may take before it makes no further run;
    without a budget these take minutes to days.
    """
    app = healthy(open_page(f"{page}.py", **dict(parse_qsl(LINKS[link]))))
    assert len(views) < 5
    assert max(view.spent_s for view in views) <= work.ENOUGH * SMALL.seconds
    for key, value in parse_qsl(LINKS[link]):
        assert address(app).get(key, value) == value  # the link stays as it is


@pytest.mark.parametrize("page", ["1_Frontier", "11_Compare"])
@pytest.mark.parametrize("link", MANY)
def test_many_engines_keep_near_the_budget(link: str, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the turns that the kernels count beside a budget of 1 s, with a third more for rough estimates;
    half of the estimate leads to 2.5 s. And the page ends with an answer, not with the word that it has run
    for too long.
    """
    monkeypatch.setattr(budget, "BUDGET", Budget(seconds=1.0))
    count_turns(monkeypatch)
    views = costs(monkeypatch)
    app = healthy(open_page(f"{page}.py", **dict(parse_qsl(MANY[link]))))
    assert max(view.spent_s for view in views) <= 4 / 3
    assert not any("its budget is" in warning.value for warning in app.warning)


def test_what_is_made_afterwards_keeps_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the allowance that is open meanwhile; what it refuses is said in its own words, as text."""
    asked = Scenario(requests=4)
    run(asked)

    def spent() -> object:
        given = work.allowance()
        assert given is not None and given.seconds == budget.BUDGET.seconds
        given.spend(4 * given.seconds)
        return run(asked)

    def given_up() -> object:
        raise work.Stopped

    refused = ScenarioError("the reason, and the way out")
    assert budget.made_or_why_not(lambda: 7) == 7
    assert "its budget is 3 s" in str(budget.made_or_why_not(spent))
    assert "Ask for it again" in str(budget.made_or_why_not(given_up))
    assert budget.made_or_why_not(Mock(side_effect=refused)) == str(refused)


def test_a_page_says_what_it_leaves_out(views: list[Allowance]) -> None:
    """Oracle: the sentence, again where the results are known, and the command, which leaves out nothing."""
    app = healthy(open_page("1_Frontier.py", requests="4800000"))
    found = captions(app)
    assert "of 4,800,000 requests; the command runs them all." in found
    assert any("requests=4800000" in block.value for block in app.code)
    assert "of 4,800,000 requests" in captions(healthy(open_page("1_Frontier.py", requests="4800000")))
    assert views[1].cuts == {}  # all was known


def test_what_is_left_out_belongs_to_one_address_and_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: known again at the same address, unknown in another view and under another budget."""
    cut, wide = {("requests", 200.0): 100.0}, {"requests": "200", "vary": "replicas"}
    assert budget.cuts("A", wide, cut) == cut
    assert budget.cuts("A", wide, {}) == cut
    assert budget.cuts("A", {"requests": "200"}, {}) == {}
    assert budget.cuts("B", wide, {}) == {}
    monkeypatch.setattr(budget, "BUDGET", SMALL)
    assert budget.cuts("A", wide, {}) == {}


def test_the_default_hours_of_traffic_are_run_whole() -> None:
    """Oracle: the usual budget, and no word of it; so it is on other pages, `tests/view/test_pages.py`."""
    assert "the command runs them all" not in captions(healthy(open_page("6_Traffic_shift.py")))


def test_traffic_that_lasts_too_long_is_cut_in_hours(views: list[Allowance]) -> None:
    """Oracle: the sentence, the command with all hours, and the offer to go on with the rest."""
    app = healthy(open_page("6_Traffic_shift.py", **dict(parse_qsl(LINKS["hours"]))))
    assert "of 900 hours" in captions(app)
    assert any("demand_hours=900" in block.value for block in app.code)
    assert any(button.label == "Go on" for button in app.button)


def test_the_operator_sets_the_budget() -> None:
    """Oracle: the environment."""
    assert budget_of({}) == Budget(3.0, 300.0)
    given = {"BATCHSCOPE_VIEW_SECONDS": "0.5", "BATCHSCOPE_VIEW_MB": "1000"}
    assert budget_of(given) == Budget(0.5, 1000.0)


@pytest.mark.parametrize("text", ["three", "nan", "-1", "0", "1e9"])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    """Oracle: the message names the variable, the value and the limits."""
    with pytest.raises(ScenarioError, match=rf"BATCHSCOPE_VIEW_SECONDS is '{text}'.*from 0\.01 to 3,600"):
        budget_of({"BATCHSCOPE_VIEW_SECONDS": text})


def test_every_whole_run_keeps_the_place_of_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: Streamlit, which lets a fragment fill no place that the last whole run has not written to."""
    written: list[str] = []
    place = SimpleNamespace(empty=lambda: written.append(""), caption=written.append)
    monkeypatch.setattr(st, "empty", lambda: place)
    app = healthy(open_page("10_Lessons.py"))
    healthy(app.run())
    assert written == ["", ""]


def test_what_is_left_out_is_said_once() -> None:
    """Oracle: by hand; the runs of the most that was asked for."""
    assert words({}) == ""
    left_out = {("requests", 5e6): 50_000.0, ("requests", 2e3): 70.0, ("hours", 1000.0): 2.5}
    assert words(left_out) == (
        "This page runs 50,000 of 5,000,000 requests and 2.5 of 1,000 hours; the command runs them all."
    )


def test_who_still_waits() -> None:
    """Oracle: Streamlit's own requests; what a page asks for by the clock is no move of its visitor."""
    requests = ScriptRequests()
    assert not nobody_waits(requests)
    requests.request_rerun(RerunData(widget_states=WidgetStates(), is_auto_rerun=True))
    assert not nobody_waits(requests)
    requests = ScriptRequests()
    requests.request_rerun(RerunData(widget_states=WidgetStates()))
    assert nobody_waits(requests)
    requests = ScriptRequests()
    requests.request_stop()
    assert nobody_waits(requests)
    assert not nobody_waits(object())  # a Streamlit that says nothing of it


def test_a_run_ends_for_the_move_that_waits() -> None:
    """Oracle: Streamlit's own requests: the move of a control in a fragment is taken, once."""
    requests = ScriptRequests()
    requests.request_rerun(RerunData(widget_states=WidgetStates(), fragment_id="answer"))
    ended = budget.ending(requests)
    assert isinstance(ended, RerunException)
    assert ended.rerun_data.fragment_id_queue == ["answer"]
    assert not nobody_waits(requests)
    assert isinstance(budget.ending(requests), StopException)
    requests.request_stop()
    assert isinstance(budget.ending(requests), StopException)


def test_a_view_that_nobody_waits_for_ends(views: list[Allowance], monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the flag is up before the first run; none is made, and the page shows no error."""
    ran: list[object] = []
    whole, costed = budget.of_view, work.costed

    def noted(*given: Any) -> Any:
        if work.allowance() is None:  # kernels are prepared beside the page
            return costed(*given)
        return ran.append(given)

    @contextmanager
    def left() -> Iterator[Allowance]:
        with whole() as given:
            given.stop[0] = 1
            yield given

    monkeypatch.setattr(budget, "of_view", left)
    monkeypatch.setattr(work, "costed", noted)
    healthy(open_page("1_Frontier.py", requests="4700000"))
    assert ran == [] and views[0].spent_s == 0


def test_a_view_that_has_ended_stops_what_it_has_left_running() -> None:
    """Oracle: the flag that its runs look at."""
    with budget.of_view() as given:
        assert given.stop[0] == 0
    assert given.stop[0] == 1


def test_a_refinement_makes_one_heavy_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the points begun are never more than one ahead of those that were handed on."""
    begun: list[object] = []
    whole = frontier.evaluate
    monkeypatch.setattr(
        frontier, "evaluate", lambda point, **more: begun.append(point) or whole(point, **more)
    )
    points = sweep_points(Scenario(), {"max_batch": (8, 16, 32), "tensor_parallel": (1, 2)})
    with budget.of_view():
        for done, _ in enumerate(frontier.refine(points, requests=100), 1):
            assert len(begun) == done
    assert len(begun) == len(points)


def test_no_budget_outside_of_pages() -> None:
    """Oracle: none is open."""
    assert work.allowance() is None


@pytest.mark.slow
def test_the_dos_links_that_are_kept_stay_within_the_budget(views: list[Allowance]) -> None:
    """Oracle: as above, for the links that were found to take a server, where they are at hand."""
    listed = ROOT.parent / "shared" / "hostile" / "links_dos.txt"
    if not Path(listed).exists():
        pytest.skip("needs ../shared")
    for line in listed.read_text(encoding="utf-8").splitlines():
        path, _, query = line.partition("?")
        page = next((name for name in PAGES if path and name.endswith(path.strip("/"))), "1_Frontier")
        healthy(open_page(f"{page}.py", **dict(parse_qsl(query))))
    assert all(view.spent_s <= work.ENOUGH * SMALL.seconds for view in views)
