"""The search for deployments: against an exhaustive one, by runs of its rows, and its refusals."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_core import capacity, load_scenario, plan
from sim_core.command.main import main
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.price import price, tables
from sim_core.price.priced import priced
from sim_core.questions.deployment.plan import final_plan, plans
from sim_core.questions.deployment.question import DEFAULT_FREE, Question, accelerators_named, with_a_price
from sim_core.questions.deployment.search.candidates import Candidate, Field, weight_of
from sim_core.questions.deployment.search.fleet import Alone
from sim_core.questions.deployment.search.losers import LIMITS, Losers
from sim_core.questions.deployment.search.pools import pairs_of
from sim_core.questions.deployment.search.race import Race, fewest_that
from sim_core.questions.deployment.search.trials import Trials
from sim_core.questions.deployment.words import more_or_less, sentence
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import Scenario, accelerator_of
from tests.places import SHARED

TABLE = SHARED / "reference/search_worked_examples.csv"
BASE = Scenario(prompt_tokens=800, output_tokens=120)
FEW = ("h100-sxm", "l40s", "mi300x")
PROBLEMS = int(os.environ.get("BATCHSCOPE_PROBLEMS", "40"))
KEYS = [
    "rank",
    "tie",
    "accelerator",
    "weight_dtype",
    "kv_dtype",
    "engine",
    "policy",
    "tensor_parallel",
    "attention_data_parallel",
    "expert_parallel",
    "pipeline_parallel",
    "prefill_workers",
    "decode_workers",
    "replicas",
    "accelerators",
    "accelerators_low",
    "accelerators_high",
    "capacity_per_s",
    "usd_per_hour",
    "usd_per_mtok",
    "joule_per_tok",
    "ttft_ms",
    "tpot_ms",
    "limit",
    "badge",
    "scenario",
    "launch",
]


def ask(rate: float = 20.0, scenario: Scenario = BASE, **more: object) -> Question:
    given = {"accelerators": FEW, "free": ("tensor_parallel", "max_batch"), "top": 3} | more
    return Question(scenario=scenario, rate_per_s=rate, **given)  # type: ignore[arg-type]


def final(question: Question):
    *_, last = plans(question)
    return last


# --- against an exhaustive search -----------------------------------------------------------------


def problem(seed: int) -> Question:
    """Return a question whose best answer has few replicas."""
    draw = random.Random(seed)
    scenario = BASE.replace(
        prompt_tokens=draw.choice((200, 800, 2000)),
        output_tokens=draw.choice((60, 120, 250)),
        slo_ttft_ms=draw.choice((400.0, 1000.0, 2000.0)),
        slo_tpot_ms=draw.choice((15.0, 25.0, 40.0)),
        seed=seed,
    )
    parts = tuple(draw.sample(("h100-sxm", "l40s", "mi300x", "a100-80-sxm", "h200", "gaudi3", "l4"), 3))
    return ask(draw.choice((3.0, 10.0, 30.0)), scenario, accelerators=parts, top=1)


def everything(question: Question) -> dict[tuple[str, int, int], float]:
    """Return the cost of the fewest replicas of every engine, as far as one may be the best, one by one."""
    trials, best, found = Trials(question), math.inf, {}
    sent = Field(question).sent
    for part, devices, batch in itertools.product(question.accelerators, (1, 2, 4, 8), (64, 256, 1024)):
        scenario = question.scenario.replace(
            accelerator=part,
            tensor_parallel=devices,
            max_batch=batch,
            arrival_per_s=question.planned_per_s,
        )
        try:
            known = priced(scenario)
        except ScenarioError:
            continue
        weight = weight_of(question.objective, accelerator_of(scenario), devices)
        assert weight
        candidate = Candidate(scenario, known, sent, devices, weight)
        for count in range(1, int(min(best * 1.001, 40 * weight) / weight) + 1):
            if trials.sure_miss(candidate, (count,)) <= 0:
                found[part, devices, batch] = count * weight
                best = min(best, count * weight)
                break
    return {key: cost for key, cost in found.items() if cost <= best * 1.001}


def agrees(seed: int) -> None:
    question = problem(seed)
    cheapest = everything(question)
    rows = [row for row in final(question).rows if row.rank == 1]
    assert {row.usd_per_hour for row in rows} == set(cheapest.values())
    engines = {(row.scenario.accelerator, row.scenario.tensor_parallel) for row in rows}
    assert engines <= {key[:2] for key in cheapest}


@pytest.mark.parametrize("seed", range(2))
def test_the_search_finds_what_an_exhaustive_one_finds(seed: int) -> None:
    """Oracle: every engine with every number of replicas up to the best cost, one after the other."""
    agrees(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 2 + PROBLEMS))
def test_the_search_finds_what_an_exhaustive_one_finds_on_many_problems(seed: int) -> None:
    """Oracle: as above. 200 problems take ten minutes of a core: BATCHSCOPE_PROBLEMS=200."""
    agrees(seed)


def test_budgets_share_the_tables_of_a_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a table a layout that fits, however many budgets there are."""
    price._price.cache_clear()
    tables.longest_tables.cache_clear()
    made: list[int] = []
    plain = tables._tables
    monkeypatch.setattr(tables, "_tables", lambda *terms: made.append(terms[-1]) or plain(*terms))
    field = Field(ask(free=("tensor_parallel", "token_budget", "max_batch")))
    engines = {(each.scenario.accelerator, each.scenario.tensor_parallel) for each in field.found}
    assert made
    assert len(made) <= len(engines) + len(field.question.accelerators)


# --- rows -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    return final(ask(40.0, growth_frac=0.5))


def test_devices_times_capacity_cover_the_grown_rate(found) -> None:
    """Oracle: the question: 40 requests/s that grow by half."""
    assert found.rows
    for row in found.rows:
        assert row.scenario.arrival_per_s == 60.0
        assert row.replicas * row.capacity_per_s >= 60.0
        assert row.accelerators == row.scenario.accelerators
        assert row.accelerators_low <= row.accelerators <= (row.accelerators_high or math.inf)


def test_the_scenario_of_a_row_gives_its_latencies_again(found) -> None:
    """Oracle: a run of the printed scenario, which keeps the limits."""
    for row in found.rows:
        point = point_of(run(load_scenario(row.as_dict()["scenario"])))
        assert point["meets_slo"]
        assert (point["ttft_ms_p99"], point["tpot_ms_p99"]) == (row.ttft_ms, row.tpot_ms)
        assert point["joule_per_tok"] == row.joule_per_tok


def test_one_replica_fewer_misses_the_limits(found) -> None:
    """Oracle: a run of the best row without one of its replicas."""
    best = found.rows[0]
    fewer = best.scenario.replace(replicas=best.replicas - 1)
    assert not point_of(run(fewer))["meets_slo"]


def test_rows_stand_in_the_order_of_the_objective(found) -> None:
    """Oracle: USD an hour by hand: accelerators times price."""
    costs = [row.accelerators * accelerator_of(row.scenario).price_usd_per_hour for row in found.rows]
    assert costs == [row.usd_per_hour for row in found.rows] == sorted(costs)


def test_every_candidate_is_ranked_or_has_a_reason(found) -> None:
    """Oracle: three accelerators, four widths, three batch limits are 36 candidates."""
    assert found.counts["all"] == 36
    assert len(found.rows) + sum(group.count for group in found.rejected) == 36
    assert all(group.limit in LIMITS and len(group.reason) > 20 for group in found.rejected)


def test_the_estimate_comes_first_and_names_itself_one() -> None:
    """Oracle: the order of the answers."""
    first, last = plans(ask(40.0))
    assert (first.stage, last.stage) == ("estimate", "confirmed")
    assert {row.stage for row in first.rows} == {"estimate"}
    assert "stimate" in first.sentence
    assert first.rows[0].accelerators == pytest.approx(last.rows[0].accelerators, rel=0.5)


# --- reasons --------------------------------------------------------------------------------------


def limits(question: Question) -> set[str]:
    return {group.limit for group in final(question).rejected}


def test_each_way_to_lose_has_its_reason() -> None:
    """Oracle: questions made so that one thing fails."""
    large = BASE.replace(model="llama-3.1-70b")
    assert "memory" in limits(ask(5.0, large))
    assert limits(ask(5.0, BASE.replace(slo_tpot_ms=0.5))) == {"tpot"}
    assert limits(ask(5.0, BASE.replace(slo_ttft_ms=1.0))) == {"ttft"}
    assert "devices" in limits(ask(400.0, max_devices=2))
    assert "rejected" in limits(ask(1.0, BASE.replace(prompt_tokens=200_000, prompt_cv=0.0)))
    assert "price" in limits(ask(5.0, accelerators=("h100-sxm", "h800")))


def test_an_impossible_question_names_what_is_nearest() -> None:
    """Oracle: the sentences: value, limit and the candidate that came nearest."""
    words = final(ask(5.0, BASE.replace(slo_tpot_ms=0.5))).sentence
    assert "even alone, TPOT is" in words
    assert "0.5 ms" in words
    words = final(ask(400.0, max_devices=2)).sentence
    assert "max_devices is 2" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "0"], "rate is 0 req/s; it must lie between 1e-06 and 1,000,000 req/s."),
        (["--max-devices", "1000000000"], "max_devices is 1,000,000,000; it must lie between 1 and 65,536."),
        (["--accelerators", "h100"], "h100-sxm"),
        (["--accelerators", ","], "there is no accelerator to consider"),
        (["--free", "tensor"], "cannot leave 'tensor' free. Did you mean tensor_parallel?"),
        (["--objective", "usd"], "objective is 'usd'. Known: usd_per_hour"),
        (["--objective", "headroom"], "set max_devices"),
        (["--set", "policy=static"], "choose policy=chunked"),
        (["--set", "output_tokens=1", "--set", "output_cv=0"], "raise output_tokens to 2 or more"),
        (["--rate", "nan"], "rate is nan; it must be a finite number"),
        (["--set", "slo_tpot_ms=0.1", "--accelerators", "l4"], "even alone, TPOT is"),
        (["--set", "spec_tokens=3"], "No deployment can be run as asked: spec_tokens is 3, but no"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_way_out(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: exit status 2 and one line that names the nearest possible."""
    assert main(["plan", "", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_progress_rises_to_all_that_is_looked_at() -> None:
    """Oracle: shares that never fall, the last of them 1, and some on the way."""
    told: list[float] = []
    final_plan(ask(), told.append)
    assert told == sorted(told)
    assert told[-1] == 1 and 0 <= told[0] < 1 and len(set(told)) > 3


def test_a_long_search_says_how_far_it_is(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the words on standard error; the answer alone is on standard output."""
    monkeypatch.setattr("sim_core.command.output.TOLD_EVERY_S", 0.0)
    question = ["--rate", "20", "--accelerators", "h100-sxm", "--top", "1", "--format", "csv"]
    assert main(["plan", "prompt_tokens=800&turns=2", *question]) == 0
    said = capsys.readouterr()
    assert (
        "100% of the engines looked at" in said.err and said.err.count("conversations wait for answers") == 1
    )
    assert "looked at" not in said.out


# --- objectives, rankings -------------------------------------------------------------------------


def test_fewest_devices_and_lowest_cost_are_different_questions() -> None:
    """Oracle: by its own measure, each is at least as good as the other."""
    cheap, few = (final(ask(60.0, objective=name, top=1)).rows[0] for name in ("usd_per_hour", "devices"))
    assert cheap.usd_per_hour <= few.usd_per_hour
    assert few.accelerators <= cheap.accelerators


def test_energy_ranks_by_what_runs_take() -> None:
    """Oracle: the order of the rows' own joule per token."""
    found = [row.joule_per_tok for row in final(ask(60.0, objective="joule_per_tok")).rows]
    assert found == sorted(found)


def test_headroom_uses_the_devices_given_and_serves_the_most() -> None:
    """Oracle: a run at the rate it names keeps the limits; eight devices are used."""
    rows = final(ask(20.0, objective="headroom", max_devices=8)).rows
    assert {row.accelerators for row in rows} == {8}
    served = [row.replicas * row.capacity_per_s for row in rows]
    assert served[0] == pytest.approx(max(served), rel=0.03)
    assert point_of(run(rows[0].scenario.replace(arrival_per_s=served[0])))["meets_slo"]


def test_slow_steps_need_no_fewer_devices() -> None:
    """Oracle: more time for each step cannot help (the same engine)."""
    plain, slow = (
        final(ask(60.0, accelerators=("mi300x",), free=("tensor_parallel",), top=8, ranking=name)).rows
        for name in ("plain", "pessimistic")
    )
    counts = {row.scenario.tensor_parallel: row.replicas for row in plain}
    assert slow
    assert all(row.replicas >= counts[row.scenario.tensor_parallel] for row in slow)


def test_the_validated_region_stands_first_on_request() -> None:
    """Oracle: the badges of the rows."""
    badges = [row.badge for row in final(ask(60.0, ranking="trusted", top=2)).rows]
    assert badges == sorted(badges, key=lambda badge: badge != "validated region")
    assert len(set(badges)) == 2


def test_a_spare_engine_is_bought_beside_those_needed() -> None:
    """Oracle: the same question without one."""
    needed, spare = (final(ask(60.0, spare=count, top=1)).rows[0] for count in (0, 1))
    assert spare.replicas == needed.replicas + 1


def test_two_pools_are_the_cheapest_grid_point() -> None:
    """Oracle: all small numbers of workers of either pool, one after the other."""
    scenario = BASE.replace(model="llama-3.1-70b", weight_dtype="fp8", prompt_tokens=2000)
    question = ask(8.0, scenario, accelerators=("mi300x",), free=("policy",), top=5)
    rows = [row for row in final(question).rows if row.scenario.split]
    kept = []
    for prefill, decode in itertools.product(range(1, 5), repeat=2):
        shown = rows[0].scenario.replace(prefill_workers=prefill, decode_workers=decode)
        if point_of(run(shown))["meets_slo"]:
            kept.append(prefill + decode)
    assert rows[0].accelerators == min(kept)


@pytest.mark.parametrize(
    "present",
    [
        {"prefill_tensor_parallel": 4},
        {"decode_tensor_parallel": 2, "decode_expert_parallel": 2},
        {"tensor_parallel": 8, "attention_data_parallel": 8, "expert_parallel": 8},
    ],
    ids=str,
)
def test_pools_are_found_whatever_layout_is_set(present: dict[str, int]) -> None:
    """Oracle: the pairs of a scenario that says nothing of its layout."""

    def pairs(**layout: int) -> list[str]:
        scenario = BASE.replace(model="qwen3-30b-a3b", **layout)
        question = ask(scenario=scenario, accelerators=("h200",), free=(*DEFAULT_FREE, "policy"))
        return [str(pair.scenario) for pair in pairs_of(question, Losers())]

    assert pairs(**present) == pairs()


# --- the command ----------------------------------------------------------------------------------


def test_json_rows_carry_exactly_the_keys_that_are_promised(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the list of keys, and `rejected` with reasons."""
    arguments = ["plan", "prompt_tokens=800", "--rate", "9", "--accelerators", "h100-sxm,l4", "--top", "2"]
    assert main([*arguments, "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [list(row) for row in answer["rows"]] == [KEYS, KEYS]
    assert all(group["reason"] and group["count"] for group in answer["rejected"])
    for form in ("table", "csv"):
        assert main([*arguments, "--format", form]) == 0
        assert "h100-sxm" in capsys.readouterr().out


def test_all_accelerators_and_one_without_a_price_are_asked_for_together() -> None:
    """Oracle: those with a price, then the others that are named, each once."""
    priced_ones = with_a_price(BASE)
    assert "ascend-910c" not in priced_ones and "h200" in priced_ones
    assert accelerators_named("all, ascend-910c,h200", BASE) == (*priced_ones, "ascend-910c")
    assert accelerators_named("all", BASE) == priced_ones and accelerators_named("h200", BASE) == ("h200",)


def test_python_asks_as_the_command_does() -> None:
    """Oracle: the same question put together by hand."""
    found = plan(BASE, 20.0, accelerators="l40s,h100-sxm", free="max_batch", top=2)
    assert found.question == ask(20.0, accelerators=("l40s", "h100-sxm"), free=("max_batch",), top=2)
    with pytest.raises(ScenarioError, match="trace"):
        plan(BASE.replace(arrivals="trace", request_list="0:10:10"), 1.0)


# --- arithmetic -----------------------------------------------------------------------------------


@given(low=st.integers(1, 40), width=st.integers(0, 60), guess=st.integers(0, 99), first=st.integers(1, 120))
def test_the_smallest_number_that_fits_is_found_from_any_guess(
    low: int, width: int, guess: int, first: int
) -> None:
    """Oracle: a scan; and no more trials than three times the logarithm, and two."""
    high, tried = low + width, []
    guess = min(max(guess, low), high)

    def fits(number: int) -> bool:
        tried.append(number)
        return number >= first

    expected = next((number for number in range(low, high + 1) if number >= first), None)
    assert fewest_that(fits, low, high, guess) == expected
    assert len(tried) <= 3 * math.log2(width + 2) + 2


@given(bound=st.floats(0.1, 50.0), share=st.floats(0.2, 1.0), rate=st.floats(0.05, 500.0))
def test_replicas_for_a_rate_are_the_first_that_serve_it(bound: float, share: float, rate: float) -> None:
    """Oracle: a scan over the pooled capacity."""
    engine = Alone(bound, share * bound)
    count = engine.replicas_for(rate)
    assert count is not None
    assert engine.fleet_per_s(count) >= rate * (1 - 1e-12)
    assert count == 1 or engine.fleet_per_s(count - 1) < rate


def test_replicas_that_change_nothing_are_not_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: short runs allow 8 replicas, long ones none: at most the 17 beyond, in few runs."""
    tried: list[int] = []
    monkeypatch.setattr(Trials, "miss", lambda self, candidate, counts: 8.0 - counts[0])
    monkeypatch.setattr(Trials, "sure_miss", lambda self, candidate, counts: tried.append(counts[0]) or 0.01)
    field = Field(ask())
    race = Race(field.question, field.losers, Trials(field.question), top=1)
    assert race._fewest(field.found[0], 1, 256) is None
    assert (tried[0], max(tried)) == (8, 17)
    assert len(tried) <= 6


@pytest.mark.parametrize(
    ("over", "miss", "says"),
    [
        (1.5, 0.4, "TTFT is 1.5 x the limit"),
        (0.8, math.inf, "the queue grows"),
        (0.8, -0.2, "a short run keeps the limits, but longer ones do not"),
    ],
)
def test_why_a_deployment_fails(monkeypatch: pytest.MonkeyPatch, over: float, miss: float, says: str) -> None:
    """Oracle: what a short run misses: a latency, an end, or nothing, where only longer ones fail."""
    monkeypatch.setattr(Trials, "failure", lambda self, candidate, counts: ("ttft", over))
    monkeypatch.setattr(Trials, "miss", lambda self, candidate, counts: miss)
    field = Field(ask())
    assert Trials(field.question).why(field.found[0], (1,)) == says


# --- published examples ---------------------------------------------------------------------------

EXAMPLES = {  # what is asked, a rate that some 20 devices serve, and the best decode worker of others
    "A": ({"prompt_tokens": 3000, "output_tokens": 512, "slo_ttft_ms": 1000.0, "slo_tpot_ms": 10.0}, 40.0, 4),
    "B": (
        {"prompt_tokens": 4000, "output_tokens": 500, "slo_ttft_ms": 300.0, "slo_tpot_ms": 10.0}
        | {"prefix_hit_frac": 0.125},
        25.0,
        4,
    ),
    "C": ({"prompt_tokens": 4000, "output_tokens": 500, "slo_ttft_ms": 4000.0, "slo_tpot_ms": 22.0}, 25.0, 0),
}


@pytest.mark.slow
@pytest.mark.skipif(not TABLE.exists(), reason="the published examples are not here")
@pytest.mark.parametrize("name", EXAMPLES)
def test_published_examples_choose_the_same_family(name: str) -> None:
    """Oracle: the layouts that AIConfigurator recommends: two pools, prefill on single devices.

    The medians of an open loop stand for its means of a closed one. C states no decode worker.
    """
    with TABLE.open() as file:
        stated = next(row for row in csv.DictReader(file) if row["id"] == name)
    assert "disagg" in stated["recommended"]
    changes, rate, decode = EXAMPLES[name]
    scenario = Scenario(model="qwen3-32b", accelerator="h200", weight_dtype="fp8", kv_dtype="fp8")
    scenario = scenario.replace(prompt_cv=0.1, output_cv=0.1, slo_percentile=50.0, **changes)
    free = ("tensor_parallel", "policy", "max_batch")
    best = final(ask(rate, scenario, accelerators=("h200",), free=free, objective="devices")).rows[0]
    assert best.scenario.split
    assert best.scenario.prefill_tensor_parallel in (None, 1)
    assert not decode or best.scenario.decode_tensor_parallel == decode


@pytest.mark.parametrize(
    "changes",
    [
        {"prefix_hit_frac": 0.9, "prompt_tokens": 6000},
        {"prefix_caching": "on", "turns": 6, "prompt_tokens": 3000, "think_s": 5.0},
        {"prefix_caching": "on", "system_tokens": 5000, "prompt_tokens": 200},
    ],
    ids=["share", "sessions", "system prompt"],
)
def test_a_bound_counts_what_a_cache_may_hold_of_prompts(changes: dict[str, object]) -> None:
    """Oracle: runs: an engine at its simulated capacity is not above its bound."""
    found = Field(ask(5.0, BASE.replace(**changes), free=("tensor_parallel",))).found
    assert found
    for candidate in found[:2]:
        scenario = candidate.scenario.replace(arrival_per_s=0.97 * candidate.bound_per_s, requests=6000)
        served = capacity(scenario, requests=6000)["arrival_per_s"]
        assert 0 < served <= candidate.bound_per_s


def test_a_number_that_the_band_leaves_alone_is_said_once() -> None:
    """Oracle: the sentence: not from a number to the same."""
    found = final(ask(5.0))
    best = found.rows[0]
    sure = dataclasses.replace(best, accelerators_low=best.accelerators, accelerators_high=best.accelerators)
    words = sentence(found.question, [sure])
    assert "at both ends of the band" in words
    assert f"{best.accelerators} to {best.accelerators}" not in words


def test_the_next_best_of_headroom_is_compared_by_what_it_serves() -> None:
    """Oracle: by hand from the rows: what both serve, on as many devices."""
    found = final(ask(20.0, objective="headroom", max_devices=8))
    served = [row.replicas * row.capacity_per_s for row in found.rows]
    other = next(
        place
        for place, row in enumerate(found.rows)
        if row.scenario.accelerator != found.rows[0].scenario.accelerator
    )
    less = 100 * (1 - served[other] / served[0])
    assert found.rows[other].tie or f"serves {less:.0f}% less." in found.sentence


@pytest.mark.parametrize(
    ("times", "words"), [(1.037, "3.7% more"), (2.0, "100% more"), (0.71, "29% less"), (1.0, "as much")]
)
def test_shares_read_as_words(times: float, words: str) -> None:
    """Oracle: by hand."""
    assert more_or_less(times) == words
