"""A plan over the day: devices of each part, and what ways of scaling cost and lose."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sim_core.command.main import main
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.questions.deployment.around import day as days
from sim_core.questions.deployment.around.winners import INPUTS
from sim_core.questions.deployment.plan import final_plan
from sim_core.questions.deployment.question import Question
from sim_core.results.metrics import point_of
from sim_core.scenario.link.page_settings import choice_names
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.day import Day
from tests.places import ROOT

SCENARIO = Scenario(prompt_tokens=800, output_tokens=100)
RATES = (5.0, 20.0, 60.0, 59.0, 21.0, 0.0)


def needs(counts: list[int], rates: tuple[float, ...] = (1.0, 3.0, 2.0, 1.0)) -> days._Needs:
    """Return needs of replicas of two devices at 5 USD/h each."""
    return days._Needs(Day(rates), np.array(counts)[:, None], np.array([2]), 5.0)


def test_what_each_way_costs() -> None:
    """Oracle: by hand. Parts of 6 h need 1, 3, 2, 1 replicas of 2 devices at 5 USD/h; a start of 3 h.

    Fixed 3 x 24 h, ideal (1 + 3 + 2 + 1) x 6 h. The schedule pays for two more during the last 3 h of the
    first part.
    """
    found = needs([1, 3, 2, 1]).ways(3 * 3600.0)
    assert {name: way.device_hours for name, way in found.items()} == pytest.approx(
        {"fixed": 144, "scheduled": 96, "reactive": 84, "ideal": 84}
    )
    assert found["fixed"].usd == pytest.approx(720)


def test_a_cost_reads_as_in_the_tables() -> None:
    """Oracle: by hand. 384 accelerator-hours at 6 USD are 2,304 USD, in three digits 2,300."""
    way = needs([1, 3, 2, 1]).ways(0.0)["fixed"]
    assert days._cost(way._replace(usd=384 * 6.0)) == "2,300 USD"
    assert days._cost(way._replace(device_hours=1234.0, usd=None)) == "1,230 accelerator-hours"


def test_what_a_late_start_loses() -> None:
    """Oracle: by hand. One of three replicas serves for 3 h of the second part, at 3 requests/s:
    two thirds of 3 x 3 x 3600 requests are lost, all of them are at risk. At midnight 1 is enough.
    """
    found = needs([1, 3, 2, 1]).reactive(3 * 3600.0)
    assert (found.lost, found.late) == (pytest.approx(21_600), pytest.approx(32_400))
    assert needs([1, 3, 2, 1]).reactive(0.0).lost == 0


def test_spares_that_are_late_lose_nothing() -> None:
    """Oracle: by hand. With one spare, two of three serve all that needs two; of four, three are needed, so
    that one third of 3 h at 3 requests/s is lost."""
    assert needs([2, 3, 2, 2])._replace(spare=1).reactive(3 * 3600.0)[3:] == (0.0, 0.0)
    found = needs([2, 4, 3, 2])._replace(spare=1).reactive(3 * 3600.0)
    assert (found.lost, found.late) == (pytest.approx(10_800), pytest.approx(32_400))


def test_the_day_comes_again() -> None:
    """Oracle: by hand: what the first part needs starts in the last; and is late where nobody knows."""
    found = needs([2, 1, 1, 1])
    assert found.scheduled(3600.0).device_hours == pytest.approx(2 * (5 * 6 + 1))
    assert found.reactive(3600.0).lost == pytest.approx(0.5 * 3600)
    parts = found.parts(3600.0)
    assert [part.scheduled for part in parts] == pytest.approx([4, 2, 2, 2 + 2 / 6])
    assert [part.reactive for part in parts] == pytest.approx([4 - 2 / 6, 2, 2, 2])


def test_windows_against_a_fine_clock() -> None:
    """Oracle: the definition, moment by moment, on a clock of a minute."""
    random = np.random.default_rng(3)
    counts = random.integers(0, 9, 12)
    each = np.repeat(counts, 120)
    found = days._Needs(Day((1.0,) * 12), counts[:, None], np.array([1]), None)
    for minutes in (0, 7, 120, 250, 719, 1440, 9999):
        cells = min(minutes, 1439) + 1  # that a window touches, from any moment within a minute
        ahead = [np.roll(each, -at)[:cells].max() for at in range(1440)]
        assert found.scheduled(60.0 * minutes).device_hours == pytest.approx(sum(ahead) / 60)
        before = np.array([np.roll(each, cells - 1 - at)[:cells].min() for at in range(1440)])
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(each > 0, before / each, 1.0)
        assert found.reactive(60.0 * minutes).lost == pytest.approx(60 * (1 - share).sum())


def test_two_pools_wait_for_the_scarcer_one() -> None:
    """Oracle: by hand: 2 + 1 workers give way to 1 + 4; of four decode workers one serves for an hour."""
    counts = np.array([[2, 1], [1, 4]])
    found = days._Needs(Day((1.0, 1.0)), counts, np.array([1, 8]), None).reactive(3600.0)
    assert found.lost == pytest.approx(3600 * (3 / 4 + 1 / 2))  # and of two prefill workers one, at midnight


def test_what_is_lost_is_what_must_be_turned_away(row) -> None:
    """Oracle: runs: one replica too few keeps the limits for its share of the rate, and not for all of it."""
    fewer = row.scenario.replace(replicas=row.replicas - 1, requests=20_000)
    share = fewer.replicas / row.replicas
    assert point_of(run(fewer.replace(arrival_per_s=60.0 * share)))["meets_slo"]
    assert not point_of(run(fewer.replace(arrival_per_s=60.0)))["meets_slo"]


def test_each_part_is_a_plan_of_its_own(question, row) -> None:
    """Oracle: plans for that rate alone; so the cost of the day is the sum of independent plans."""
    found = days.day_plan(question, row, Day(RATES), typed_s=0.0)
    one = dataclasses.replace(
        question, accelerators=(row.scenario.accelerator,), scenario=row.scenario, free=(), top=1
    )
    for part in found.parts:
        if part.rate_per_s:
            alone = final_plan(dataclasses.replace(one, rate_per_s=part.rate_per_s)).rows[0]
            assert part.devices == alone.accelerators
    assert found.parts[-1].devices == 0
    assert max(part.devices for part in found.parts) == row.accelerators
    assert found.ways["ideal"].device_hours == 4 * sum(part.devices for part in found.parts)
    assert found.ways["ideal"] == found.ways["scheduled"]._replace(name="ideal")
    assert found.starts[0].start_up_s == 0


def test_rates_between_equals_are_not_simulated(question, row) -> None:
    """Oracle: as many searches as rates whose neighbours on both sides need different numbers, at most."""
    rates = tuple(np.linspace(55, 60, 24).tolist())
    found = days.day_plan(question, row, Day(rates))
    assert found.simulated < 12
    devices = [part.devices for part in found.parts]
    assert devices == sorted(devices)


def test_a_start_is_made_of_its_phases(question, row) -> None:
    """Oracle: by hand: 8.03e9 weights of 2 bytes at 3.5 GB/s, and start, warm-up and joining of a node."""
    found = days.day_plan(question, row, Day(RATES))
    assert found.phases_s["load"] == pytest.approx(16.06 / 3.5, rel=0.01)
    assert found.start_up_s == pytest.approx(362 + 145 + 12 + 16.06 / 3.5, rel=1e-3)
    memory = days.day_plan(question, row, Day(RATES), "memory")
    assert memory.start_up_s < found.start_up_s
    with pytest.raises(ScenarioError, match="start-up time"):
        days.day_plan(question, row, Day(RATES), typed_s=-1.0)


def test_spares_serve_always(question) -> None:
    """Oracle: one engine more in each part than without, none where nothing arrives."""
    spare = dataclasses.replace(question, spare=1)
    row = final_plan(spare).rows[0]
    found = days.day_plan(spare, row, Day(RATES))
    plain = days.day_plan(question, dataclasses.replace(row), Day(RATES))
    each = row.accelerators // row.replicas
    more = [one.devices - other.devices for one, other in zip(found.parts, plain.parts, strict=True)]
    assert more == [each] * 5 + [0]


def test_two_pools_are_sized_for_each_part() -> None:
    """Oracle: prefill and decode workers of each part; a higher rate needs no fewer devices."""
    question = Question(
        scenario=SCENARIO.replace(policy="disaggregated"),
        rate_per_s=60.0,
        accelerators=("h100-sxm",),
        free=("policy",),
        top=3,
    )
    row = next(row for row in final_plan(question).rows if row.scenario.split)
    found = days.day_plan(question, row, Day((10.0, 60.0)))
    low, high = found.parts
    assert len(low.counts) == 2 and low.devices < high.devices == row.accelerators


def test_the_next_rows_are_sized_over_the_same_day(question) -> None:
    """Oracle: a day of each row by itself; the sentence names the cheapest, and by hand, by how much."""
    ranking = final_plan(question)
    first = days.day_plan(question, ranking.rows[0], Day(RATES))
    (rival,) = days.rivals_of(question, ranking.rows, first)
    alone = days.day_plan(question, ranking.rows[1], Day(RATES))
    assert (rival.row, rival.scheduled) == (ranking.rows[1], alone.ways["scheduled"])
    assert "stays the cheapest over the day" in days.rivals_sentence(first, [rival])
    cost = first.ways["scheduled"].usd * 0.9
    cheaper = rival._replace(scheduled=rival.scheduled._replace(usd=cost))
    assert "is 10% cheaper when scheduled" in days.rivals_sentence(first, [cheaper])


def test_both_sides_of_a_map_have_a_name() -> None:
    """Oracle: the choices of the page's settings are the inputs of the map."""
    assert list(choice_names("plan_across")) == list(choice_names("plan_down")) == list(INPUTS)
    assert list(choice_names("plan_start")) == sorted(days.STARTS, reverse=True, key=list(days.STARTS).index)


def test_the_command_prints_the_day(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: what is asked for; the plan is for the day's peak."""
    words = ["plan", "prompt_tokens=800&output_tokens=100", "--accelerators", "h100-sxm", "--top", "1"]
    assert main([*words, "--day", "5,20,60", "--start-up", "600"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rate_per_s"] == 60
    day = found["day"]
    assert (day["hours"], day["peak_per_s"], day["start_up_s"]) == (24, 60, 600)
    assert [part["start_h"] for part in day["parts"]] == [0, 8, 16]
    assert [way["way"] for way in day["ways"]] == ["fixed", "scheduled", "reactive", "ideal"]
    assert day["ways"][0]["saved_frac"] == 0
    assert main([*words, "--day", "5,20,60", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("start_h,rate_per_s,replicas")
    assert main([*words, "--day", "5,20,60", "--format", "table"]) == 0
    assert "Over the day" in capsys.readouterr().out


def test_the_command_refuses_two_rates(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the sentences."""
    for more, words in (
        (["--day", "1,2", "--rate", "3"], "leave --rate out"),
        (["--start-up", "3"], "give --day"),
        (["--day", "1,2", "--start-from", "moon"], "moon"),
        (["--day", "1,b"], "'b'"),
        (["--day", "nowhere.csv"], "there is no file 'nowhere.csv'"),
        (["--day", "/nowhere/day"], "there is no file '/nowhere/day'. Give its path, or rates such as 5,20"),
        (["--day", str(ROOT / "tests")], "tests' is a folder. Give a file in it, or rates such as 5,20,60."),
        (["--day", "wave:5/20"], "1 to 1.95 times the mean"),
    ):
        assert main(["plan", *more]) != 0
        assert words in capsys.readouterr().err
