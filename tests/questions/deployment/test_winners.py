"""Who wins where: maps of plans over two inputs."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sim_core.command.main import main
from sim_core.engine import work
from sim_core.engine.work import SpentUp
from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.answer import CONFIRMED
from sim_core.questions.deployment.around import winners
from sim_core.questions.deployment.around.winners import confirmed_map, estimated_map, winners_sentence
from sim_core.questions.deployment.plan import final_plan
from sim_core.questions.deployment.question import Question
from sim_core.scenario.scenario import Scenario, accelerator_of
from tests.loops import each

SCENARIO = Scenario(prompt_tokens=800, output_tokens=100)
QUESTION = Question(
    scenario=SCENARIO,
    rate_per_s=60.0,
    accelerators=("h100-sxm", "l40s", "h200"),
    free=("tensor_parallel",),
)


@pytest.fixture(scope="module")
def found() -> winners.WinnerMap:
    return confirmed_map(estimated_map(QUESTION, "rate", "tpot"))


def test_each_cell_is_a_plan_of_its_own(found) -> None:
    """Oracle: the plan of the cell's rate and limit over all accelerators: its first row, or a tie of it."""
    assert found.waiting == 0
    assert found.cells[found.asked].x == 60
    for cell in list(found.cells.values())[::4]:
        alone = dataclasses.replace(
            QUESTION, rate_per_s=cell.x, scenario=SCENARIO.replace(slo_tpot_ms=cell.y), top=5
        )
        rows = final_plan(alone).rows
        if not rows:
            assert not cell.accelerator and cell.reason
            continue
        assert cell.worth == pytest.approx(rows[0].usd_per_hour)
        assert cell.accelerator in {row.scenario.accelerator for row in rows if row.rank == 1}
        assert cell.devices in {row.accelerators for row in rows if row.rank == 1}


def only_asked(question: Question) -> winners.WinnerMap:
    """Return the map of the one cell that the question itself asks for."""
    whole = estimated_map(question, "rate", "tpot")
    return dataclasses.replace(whole, cells={whole.asked: whole.cells[whole.asked]})


def test_energy_is_counted_as_in_a_ranking() -> None:
    """Oracle: the first row of the plan of the cell; by estimate rated power, of which runs take no more."""
    question = dataclasses.replace(QUESTION, objective="joule_per_tok")
    estimated = only_asked(question)
    guess, [cell] = estimated.cells[estimated.asked], confirmed_map(estimated).cells.values()
    first = final_plan(question).rows[0]
    assert (cell.accelerator, cell.devices) == (first.scenario.accelerator, first.accelerators)
    assert cell.worth == first.joule_per_tok
    assert 0.4 < first.joule_per_tok / guess.worth < 1
    assert estimated.as_dict()["unit"] == "J/token"


def test_a_map_says_that_it_compares_single_pools() -> None:
    """Oracle: the words are there where the question allows two pools, and only there."""
    both = dataclasses.replace(QUESTION, free=("tensor_parallel", "policy"))
    assert "Compared are single pools" in winners_sentence(only_asked(both))
    assert "single pools" not in winners_sentence(only_asked(QUESTION))


def test_a_view_that_has_spent_all_leaves_cells_for_later() -> None:
    """Oracle: nothing is estimated, nothing raised, and the words say so."""
    with work.allowed(work.Allowance(1.0, 10**9, spent_s=100.0)):
        found = estimated_map(QUESTION, "rate", "tpot")
    assert {cell.stage for cell in found.cells.values()} == {winners.UNSEEN}
    assert winners_sentence(found) == "No cell has been looked at yet."
    assert confirmed_map(found) == found


def test_a_higher_rate_never_costs_less(found) -> None:
    """Oracle: what serves a rate serves a lower one; what keeps a limit keeps a longer one."""
    for y in found.ys:
        worths = [found.cells[x, y].worth for x in found.xs if found.cells[x, y].accelerator]
        assert worths == sorted(worths)
    for x in found.xs:
        worths = [found.cells[x, y].worth for y in found.ys if found.cells[x, y].accelerator]
        assert worths == sorted(worths, reverse=True)


def test_equal_devices_are_a_tie() -> None:
    """Oracle: by hand: at a trickle one device of either is enough, so both are as good by devices."""
    question = dataclasses.replace(
        QUESTION, rate_per_s=0.1, objective="devices", accelerators=("h100-sxm", "h200")
    )
    cell = (answer := confirmed_map(estimated_map(question, "rate", "ttft"))).cells[answer.asked]
    assert {cell.accelerator, *cell.ties} == {"h100-sxm", "h200"}
    assert (cell.devices, cell.second_frac, cell.stage) == (1, 0, CONFIRMED)
    assert "as good as" in winners_sentence(answer) and "ties within the error" in winners_sentence(answer)


def test_a_cheaper_and_faster_part_wins() -> None:
    """Oracle: the cheapest price wins a cell that the dearest loses, and no cell goes the other way."""
    question = dataclasses.replace(QUESTION, accelerators=("l40s", "h200"))
    answer = confirmed_map(estimated_map(question, "price", "bandwidth"))
    assert "h100-sxm" in answer.question.accelerators
    price = accelerator_of(SCENARIO).price_usd_per_hour
    assert answer.asked == (price, accelerator_of(SCENARIO).hbm_gb_per_s)
    won = [[answer.cells[x, y].accelerator == "h100-sxm" for x in answer.xs] for y in answer.ys]
    assert any(map(any, won))
    assert all(row == sorted(row, reverse=True) for row in won)
    cheap = answer.cells[answer.xs[0], answer.asked[1]]
    assert cheap.worth == pytest.approx(cheap.devices * answer.xs[0])
    assert cheap.scenario.price_usd_per_hour == answer.xs[0]


def test_a_cell_that_cannot_be_says_why() -> None:
    """Oracle: the sentence of a plan without rows."""
    question = dataclasses.replace(QUESTION, scenario=SCENARIO.replace(slo_tpot_ms=0.6))
    answer = confirmed_map(estimated_map(question, "rate", "tpot"))
    assert not answer.winners and answer.waiting == 0
    assert all("even alone, TPOT" in cell.reason for cell in answer.cells.values())
    assert winners_sentence(answer).startswith(
        "Nothing serves any of the 35 cells that were tried. No deployment serves"
    )


def test_rates_end_where_their_growth_does() -> None:
    """Oracle: the limit on rates: a million requests/s, so 250,000 of those that grow fourfold."""
    grown = dataclasses.replace(QUESTION, rate_per_s=200_000.0, growth_frac=3.0)
    assert estimated_map(grown, "rate", "tpot").xs == (25_000, 50_000, 100_000, 200_000)


def test_what_a_budget_leaves_stays_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the cells nearest to the place asked for come first; the others wait, and say so."""
    real, calls = winners._confirmed_cell, []

    def twice(*given):
        calls.append(given)
        if len(calls) > 2:
            raise SpentUp("enough")
        return real(*given)

    monkeypatch.setattr(winners, "_confirmed_cell", twice)
    before = estimated_map(QUESTION, "rate", "ttft")
    after = confirmed_map(before)
    assert after.waiting == before.waiting - 2
    assert calls[0][1] == before.cells[before.asked]
    assert "an estimate that runs may change" in winners_sentence(after)


def test_arithmetic_keeps_within_the_budget() -> None:
    """Oracle: one cell, the one asked for, where nothing may be spent; the others follow where it may."""
    with work.allowed(work.Allowance(1e-9, 10**9)):
        begun = estimated_map(QUESTION, "rate", "tpot")
    seen = [cell for cell in begun.cells.values() if cell.stage != winners.UNSEEN]
    assert [(cell.x, cell.y) for cell in seen] == [begun.asked]
    assert begun.waiting == 35 and "34 cells wait for their turn" in winners_sentence(begun)
    assert winners.more_estimated(begun) == estimated_map(QUESTION, "rate", "tpot")


def test_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a view that was given up stops between two cells."""
    with work.allowed(work.Allowance(3.0, 10**9)) as given:
        given.stop[0] = 1
        with pytest.raises(work.Stopped):
            estimated_map(QUESTION, "rate", "tpot")


@each(
    [
        (QUESTION, "rate", "moon", "no side 'moon'"),
        (QUESTION, "rate", "rate", "both sides of the map are rate"),
        (
            dataclasses.replace(QUESTION, scenario=SCENARIO.replace(mix="chat:1")),
            "prompt",
            "rate",
            "lengths come from the mix",
        ),
        (dataclasses.replace(QUESTION, objective="headroom", max_devices=8), "rate", "tpot", "headroom"),
    ]
)
def test_sides_that_cannot_be_are_refused(question: Question, x: str, y: str, words: str) -> None:
    """Oracle: the sentences."""
    with pytest.raises(ScenarioError, match=words):
        estimated_map(question, x, y)


def test_the_command_prints_the_map(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: what is asked for: 7 x 5 cells; each names its scenario, which reproduces it."""
    words = ["plan", "prompt_tokens=800&output_tokens=100", "--accelerators", "h100-sxm,l40s"]
    words += ["--free", "tensor_parallel", "--rate", "60", "--map", "rate,tpot"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["x"], found["y"], len(found["cells"])) == ("arrival_per_s", "slo_tpot_ms", 35)
    assert all(cell["scenario"] or cell["reason"] for cell in found["cells"])
    assert main([*words, "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("arrival_per_s,slo_tpot_ms,accelerator")
    assert main([*words, "--format", "table"]) == 0
    assert "wins" in capsys.readouterr().out
    assert main([*words[:-3], "60", "--map", "rate,"]) != 0
    assert main([*words[:-4], "--day", "1,2", "--map", "rate,tpot"]) != 0
    assert "leave one of them out" in capsys.readouterr().err


@pytest.mark.parametrize("side", ["ttft", "tpot"])
def test_a_limit_that_no_class_has_is_no_side(side: str) -> None:
    """By hand: where every class has limits of its own nobody has those of all; one without is enough."""
    mixed = SCENARIO.replace(mix="rag:1,chat:1", class_limits="rag:5000/50,chat:1000/30", requests=200)
    asked = dataclasses.replace(QUESTION, scenario=mixed, accelerators=("h100-sxm",))
    with pytest.raises(ScenarioError, match="every class of the mix has limits of its own"):
        estimated_map(asked, side, "rate")
    one = dataclasses.replace(asked, scenario=mixed.replace(class_limits="rag:5000/50"))
    assert estimated_map(one, side, "rate").cells
