"""What limits cost over the rounds: published ratios, the limits, and where simulated ones have no skill."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from statistics import median

import pytest

from sim_core import catalogue
from sim_core.catalogue.benchmarks import Check, CheckedError
from sim_core.catalogue.rounds import rounds
from sim_core.evidence import entries
from sim_core.view.scenarios.rounds import limit_rows, medians, round_rows, rounds_finding
from sim_core.view.scenarios.rounds_figures import limits_over_rounds, ratios_over_rounds, rounds_sentence
from sim_core.view.scenarios.skill import no_skill_words
from tests.loops import each
from tests.places import SHARED

RATIOS = SHARED / "reference" / "mlperf_scenario_ratios.csv"
BENCHMARKS = catalogue.preset_ids("benchmarks")


def row(name: str, part: str, count: int, ratio: float, simulated: float) -> dict[str, object]:
    found = {"round": name, "accelerator": part, "name": part, "interactive_count": 0, "server_count": count}
    return (
        found | {f"server_{key}": ratio for key in ("min", "median", "max")} | {"server_simulated": simulated}
    )


@pytest.mark.skipif(not RATIOS.exists(), reason="the reference tables are not here")
def test_ratios_by_round_are_those_of_the_table() -> None:
    """Oracle: the table of ratios, grouped by hand: Llama 2 70B on H200 in v5.1, each run once."""
    with RATIOS.open(encoding="utf-8", newline="") as lines:
        mine = [
            line
            for line in csv.DictReader(lines)
            if (line["round"], line["gpu"], line["division"]) == ("v5.1", "H200", "closed")
            and line["model"].startswith("llama2-70b")
            and line["server_over_offline"]
        ]
    same = ("submitter", "system", "accelerators_total", "offline", "server", "interactive")
    distinct = {tuple(line[key] for key in same): float(line["server_over_offline"]) for line in mine}
    (found,) = [item for item in rounds("llama2-70b") if (item.round, item.accelerator) == ("v5.1", "h200")]
    assert found.server_count == len(distinct)
    assert found.server_median == pytest.approx(median(distinct.values()), abs=1e-4)


@each(BENCHMARKS, name=str)
def test_every_round_can_be_cited(benchmark: str) -> None:
    """Oracle: a submitter, a source and a day stand with every row; ratios lie between their ends."""
    for item in rounds(benchmark):
        assert item.submitters and item.sources and item.retrieved
        assert item.server_count + item.interactive_count > 0
        for rule in ("server", "interactive"):
            low, middle, high = (getattr(item, f"{rule}_{part}") for part in ("min", "median", "max"))
            assert math.isnan(middle) if not getattr(item, f"{rule}_count") else 0 < low <= middle <= high


def test_medians_by_hand() -> None:
    """Oracle: by hand: three entries at 0.9 and one at 0.5 have the median 0.9; what is missing is not."""
    rows = [row("v1", "a", 3, 0.9, 0.8), row("v1", "b", 1, 0.5, math.nan), row("v2", "b", 1, 0.6, math.nan)]
    first, second = medians(rows, "server")
    assert first == {"round": "v1", "count": 4, "published": 0.9, "simulated": 0.8}
    assert second["published"] == 0.6 and math.isnan(second["simulated"])
    assert medians(rows, "interactive") == []


def test_limits_are_those_of_the_rules() -> None:
    """Oracle: the presets of rules: Llama 2 70B had 200 ms first, 40 ms when Interactive came."""
    mine = {item["rule"]: item for item in limit_rows() if item["benchmark"] == "Llama 2 70B"}
    assert (mine["server"]["tpot_ms"], mine["server"]["round"]) == (200, "v4.0")
    assert (mine["interactive"]["tpot_ms"], mine["interactive"]["round"]) == (40, "v5.0")
    finding = rounds_finding(catalogue.benchmark("llama2-70b"), round_rows(catalogue.benchmark("llama2-70b")))
    assert "fell from 200 ms in v4.0 to 15 ms" in finding


def test_every_published_ratio_is_drawn_once() -> None:
    """Oracle: the rows: one mark for each with a ratio, one more for the chosen accelerator's."""
    rows = round_rows(catalogue.benchmark("llama2-70b"))
    figure = ratios_over_rounds(rows, "server", "h200", medians(rows, "server"))
    drawn = {trace["name"]: len(trace["y"]) for trace in figure["data"]}
    assert drawn["published, by accelerator"] == sum(bool(item["server_count"]) for item in rows)
    assert drawn["H200, published"] == sum(item["accelerator"] == "h200" for item in rows)
    assert "v5.1" in rounds_sentence(medians(rows, "server"), "server", "Llama 2 70B")
    assert "No published" in rounds_sentence([], "server", "Llama 3.1 405B")


def test_limits_that_share_a_place_share_a_mark() -> None:
    """Oracle: the limits: as many marks as there are pairs of round and limit of a rule."""
    places = defaultdict(set)
    for item in limit_rows():
        places[item["rule"]].add((item["round"], item["tpot_ms"]))
    drawn = [len(trace["y"]) for trace in limits_over_rounds(limit_rows())["data"]]
    assert drawn == [len(places["server"]), len(places["interactive"])]


def goal(rows: str, error: float, constant: float) -> CheckedError:
    return CheckedError(id="m", rule="interactive counted", rows=rows, count=9, measure="mean", goal=0.1,
                        error=error, bias=0.0, constant=constant)  # fmt: skip


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ((("all", 0.1, 0.12), ("others", 0.1, 0.12)), ""),
        (
            (("all", 0.19, 0.14), ("others", 0.1, 0.12)),
            "off by 0.19 on average, one constant for all of them by 0.14",
        ),
        ((("all", 0.1, 0.12), ("others", 0.2, 0.15)), "of benchmarks that nothing was fitted to"),
    ],
)
def test_no_skill_is_said_while_a_constant_errs_less(
    monkeypatch: pytest.MonkeyPatch, errors: tuple[tuple[str, float, float], ...], said: str
) -> None:
    """Oracle: the errors of the comparison: no word where the simulated ratio errs less than a constant."""
    check = Check("2026-01-01", "submission", "", tuple(goal(*item) for item in errors), ())
    monkeypatch.setattr(entries.catalogue, "published_check", lambda name: check)
    words = no_skill_words()
    assert said in words and bool(words) == bool(said)
    assert not words or words.startswith("**Interactive / Offline: no skill yet.**")
