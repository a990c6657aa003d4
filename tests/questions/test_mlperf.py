"""Benchmark rules: limits against their sources, the search against theory, published facts complete."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections import defaultdict

import numpy as np
import pytest

from benchmarks.mlperf import counted
from sim_core import catalogue, load_scenario
from sim_core.catalogue import reader
from sim_core.catalogue.models.own import EXAMPLE
from sim_core.engine.run import run
from sim_core.engine.work import Allowance, allowed
from sim_core.evidence import entries
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import DoesNotFit
from sim_core.questions.benchmark import rules as benchmark_rules
from sim_core.questions.benchmark import search as benchmark_search
from sim_core.questions.benchmark.search import (
    Limits,
    batch_places,
    highest_rate,
    loaded_latencies,
    require_room,
    saturated,
    sequences_held,
    system,
    top_per_s,
    tuned,
    with_full_batches,
)
from sim_core.questions.benchmark.ways import candidates, submitted_ways, with_drafts, with_pools
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of
from sim_core.traffic import draws
from tests.loops import each
from tests.places import SHARED

REFERENCE = SHARED / "reference"
BENCHMARKS = catalogue.preset_ids("benchmarks")
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference tables are not here")


def rules() -> list[dict[str, str]]:
    with (REFERENCE / "mlperf_rules.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def small(part: str = "h100-sxm", **changes) -> Scenario:
    """Return the 8B benchmark's system on one accelerator."""
    benchmark = catalogue.benchmark("llama3.1-8b")
    return tuned(benchmark, Scenario(accelerator=part)).replace(**changes)


# Rules as data


@needs_reference
@each(rules() if REFERENCE.is_dir() else [], name=lambda row: row["category"])
def test_rules_are_those_of_the_reference_table(row):
    """Oracle: the table of rules, limit by limit; Mixtral has no Interactive."""
    found = catalogue.benchmark(row["benchmark"])
    assert found.dataset == row["dataset"]
    assert (found.samples, found.max_output_tokens) == (
        int(row["qsl_samples"]),
        int(row["max_output_tokens"]),
    )
    if row["category"] == "Offline":
        assert found.offline_min_queries == int(row["offline_min_queries"])
        return
    expected = float(row["server_ttft_p99_ms"]), float(row["server_tpot_p99_ms"])
    assert found.limits_ms(row["category"].lower()) == expected
    assert found.min_duration_s == float(row["server_min_duration_s"])


def test_what_a_benchmark_lacks():
    """Oracle: Mixtral's rules have no interactive scenario, and Offline has no limits anywhere."""
    assert catalogue.benchmark("mixtral-8x7b").limits_ms("interactive") is None
    assert all(catalogue.benchmark(name).limits_ms("offline") is None for name in BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_lengths_have_the_means_of_the_data_set(name):
    """Oracle: the data set's mean prompt (3%: a table of 35 quantiles), and the answers' mean of submitted
    runs (12%: gpt-oss and DeepSeek runs differ from the stored answers)."""
    benchmark = catalogue.benchmark(name)
    prompt, output = draws.mean_lengths(Scenario(mix=benchmark.workload))
    assert prompt == pytest.approx(benchmark.prompt_tokens_mean, rel=0.03)
    assert output == pytest.approx(benchmark.measured_output_tokens_mean, rel=0.12)


def test_a_wrong_benchmark_file_is_refused(monkeypatch, tmp_path):
    """Oracle: the message names file and key."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "x.toml").write_text('title = "X"\nlimit = 3\n', encoding="utf-8")
    monkeypatch.setattr(reader, "PRESETS", tmp_path)
    with pytest.raises(ScenarioError, match=r"benchmarks/x.toml: unknown key 'limit'"):
        reader.load_preset("benchmarks", "x", catalogue.Benchmark)


# The search


def queue_quantile(load: float, share: float) -> float:
    """Return the wait of M/D/1, in service times, that `share` of the arrivals do not exceed.

    The distribution of the wait is (1 - load) sum_j ((load (j - t))^j / j!) e^(load (t - j)), j <= t.
    Crommelin (1932), "Delay probability formulae when the holding times are constant".
    """

    def below(t: float) -> float:
        terms = (
            (load * (j - t)) ** j / math.factorial(j) * math.exp(load * (t - j)) for j in range(int(t) + 1)
        )
        return (1 - load) * sum(terms)

    low, high = 0.0, 14.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < share else (low, middle)
    return low


@pytest.mark.parametrize("load", [0.4, 0.6, 0.7])
def test_bisection_finds_the_capacity_of_a_queue_that_theory_knows(load):
    """Oracle: M/D/1. One slot, fixed lengths, one prompt a step: every request holds the engine equally long.

    The limit on TTFT is the 99th percentile that theory gives at a load; the rate found must be that
    load's within 3% (60,000 requests leave the tail of the queue about 2%).
    """
    scenario = Scenario(
        max_batch=1, prompt_cv=0.0, output_cv=0.0, prompt_tokens=400, output_tokens=40, requests=60_000,
        warmup_frac=0.0, slo_tpot_ms=1e6,
    )  # fmt: skip
    alone = point_of(run(scenario.replace(arrival_per_s=1e-3, requests=50)))
    found = run(scenario.replace(requests=2))
    way_s = found.price.before_s(found.prompt_tokens) + found.price.request_after_s
    service_s = (alone["e2e_ms_p50"] / 1e3) - way_s
    limit_ms = alone["ttft_ms_p50"] + 1e3 * service_s * queue_quantile(load, 0.99)
    rate, point, bound_by = highest_rate(
        scenario.replace(slo_ttft_ms=limit_ms), 0.5 / service_s, 1 / service_s
    )
    assert rate * service_s == pytest.approx(load, rel=0.03)
    assert point["meets_slo"] and bound_by == "ttft"


def test_the_queue_quantile_by_hand():
    """Oracle: nobody waits with chance 1 - load; and P(W <= t) = (1 - load) e^(load t) below one service."""
    assert queue_quantile(0.5, 0.5) == pytest.approx(0.0, abs=1e-9)
    assert queue_quantile(0.5, 0.6) == pytest.approx(math.log(0.6 / 0.5) / 0.5)


def test_bisection_from_far_away():
    """Oracle: guesses a hundred times too low or too high lead to the same rate."""
    scenario = small(requests=3000, slo_ttft_ms=500.0, slo_tpot_ms=15.0, max_batch=256)
    rates = [highest_rate(scenario, guess)[0] for guess in (0.2, 20.0, 2000.0)]
    assert max(rates) / min(rates) < 1.015


def test_no_rate_within_impossible_limits():
    """Oracle: less than one request's own prefill."""
    assert benchmark_rules.within([small()], Limits(0.01, 1.0)) is None
    assert highest_rate(small(requests=500, slo_ttft_ms=0.01), 1.0)[:2] == (0.0, None)


def test_a_batch_limit_that_is_given_is_kept():
    """Oracle: the setting found."""
    answer = benchmark_rules.within([small()], Limits(2000.0, 100.0), sizes=(96,))
    assert answer.scenario.max_batch == 96
    assert benchmark_rules.offline([small()], sizes=(96,)).scenario.max_batch == 96


@pytest.fixture(scope="module")
def found():
    benchmark = catalogue.benchmark("llama3.1-8b")
    return benchmark_rules.answers(benchmark, candidates(small(), 4))


def test_answers_keep_their_limits(found):
    """Oracle: the percentiles of the run that is given back; running its scenario again repeats it."""
    for rule in ("server", "interactive"):
        answer = found[rule]
        assert answer.point["ttft_ms_p99"] <= answer.limits.ttft_ms
        assert answer.point["tpot_ms_p99"] <= answer.limits.tpot_ms
        assert point_of(run(answer.scenario)) == pytest.approx(answer.point, nan_ok=True)


def test_scenarios_are_ordered(found):
    """Oracle: tighter limits never give more; Offline is not beaten by more than its drain, 2%."""
    offline, server, tight = (found[rule].output_tok_per_s_per_accelerator for rule in benchmark_rules.RULES)
    assert tight <= server <= 1.02 * offline


def test_offline_is_long_enough(found):
    """Oracle: at least ten full batches; and twice as many requests change the throughput by under 1.5%."""
    answer = found["offline"]
    assert answer.scenario.requests >= 10 * answer.scenario.max_batch
    twice = run(answer.scenario.replace(requests=2 * answer.scenario.requests))
    longer = point_of(twice)["output_tok_per_s_per_accelerator"]
    assert longer == pytest.approx(answer.output_tok_per_s_per_accelerator, rel=0.015)


def test_the_layout_found_is_as_good_as_any(found):
    """Oracle: each candidate searched alone; the quick runs may misjudge by 3%."""
    limits = found["interactive"].limits
    alone = [
        benchmark_rules.within([option], limits, min_duration_s=600.0) for option in candidates(small(), 4)
    ]
    best = max(answer.output_tok_per_s_per_accelerator for answer in alone if answer)
    assert found["interactive"].output_tok_per_s_per_accelerator >= 0.97 * best


@pytest.mark.parametrize("along", ["tpot", "ttft"])
def test_a_looser_limit_never_costs(along, found):
    """Oracle: monotony, 0 at a limit that nothing keeps, and the answer at the benchmark's own limit."""
    options, limits = candidates(small(), 4), found["interactive"].limits
    own, other = (limits.tpot_ms, limits.ttft_ms) if along == "tpot" else (limits.ttft_ms, limits.tpot_ms)
    rows = benchmark_rules.limit_curve(
        options, (0.1, own / 4, own / 2, own, 2 * own), along=along, other_ms=other
    )
    speeds = [row["output_tok_per_s_per_accelerator"] for row in rows]
    assert speeds[0] == 0.0 and rows[0]["bound_by"] == "floor"
    assert speeds == sorted(speeds)
    assert speeds[3] == pytest.approx(found["interactive"].output_tok_per_s_per_accelerator, rel=0.04)


def test_counting_by_hand():
    """Arithmetic by hand: 600 s and 60 s for the last answer leave 600/660 of the rate."""
    answer = benchmark_rules.Answer(
        "server", None, Scenario(), Scenario(), {"e2e_ms_mean": 60_000.0}, 110.0, ""
    )
    assert counted(answer, 600.0) == pytest.approx(100.0)
    assert counted(dataclasses.replace(answer, rule="offline"), 600.0) == 110.0


# Systems


def test_candidates_do_not_depend_on_the_layout_they_start_from():
    """Oracle: those of the same system without stages, contexts in parts or redundant experts."""
    plain = Scenario(model="deepseek-r1", accelerator="h200", weight_dtype="fp8", tensor_parallel=8)
    for layout in ({"pipeline_parallel": 2}, {"context_parallel": 8}):
        assert candidates(plain.replace(**layout), 16) == candidates(plain, 16)
    spread = plain.replace(expert_parallel=8)
    redundant = candidates(spread.replace(redundant_experts=16), 16)
    assert {option.accelerators for option in redundant} == {16}
    assert [option.replace(redundant_experts=0) for option in redundant] == candidates(spread, 16)


def test_drafts_are_for_interactive_where_the_model_has_layers_that_draft():
    """Oracle: the rules (three drafts, in Interactive), and that a choice of more is never worse."""
    rules = catalogue.benchmark("deepseek-r1")
    system_ = tuned(rules, Scenario(accelerator="gb200", calibration="submission"))
    plain = candidates(system_, 8)
    options = with_drafts(rules, plain)
    assert options[: len(plain)] == plain
    assert {option.spec_tokens for option in options[len(plain) :]} == {3}
    visitors = {"spec_tokens": 1, "draft": "ngram", "acceptance_length": 1.5, "spec_by_batch": "1-4:1,5-:0"}
    assert tuned(rules, system_.replace(**visitors)) == system_
    full = candidates(tuned(rules, Scenario(accelerator="h100-nvl")), 8)
    assert with_drafts(rules, full) == full  # the weights leave no room for a layer more
    for name in ("gpt-oss-120b", "llama2-70b"):
        others = candidates(tuned(catalogue.benchmark(name), Scenario(accelerator="gb200")), 8)
        assert with_drafts(catalogue.benchmark(name), others) == others
    found, before = benchmark_rules.answers(rules, options), benchmark_rules.answers(rules, plain)
    for rule in ("offline", "server"):
        assert found[rule] == before[rule]
    tight = found["interactive"]
    assert tight.scenario.spec_tokens == 3
    assert tight.output_tok_per_s_per_accelerator > before["interactive"].output_tok_per_s_per_accelerator


def test_racks_may_have_a_pool_for_each_phase_in_interactive():
    """Oracle: what submissions do (racks, experts, Interactive), and that a choice of more is never worse."""
    rules = catalogue.benchmark("gpt-oss-120b")
    rack = tuned(rules, Scenario(accelerator="gb200", calibration="submission"))
    plain = candidates(rack, 8)
    options = submitted_ways(rules, rack, 8)
    pools = [option for option in options if option.split]
    assert options[: len(plain)] == plain and pools
    assert {option.accelerators for option in options} == {8}
    assert {option.kv_link_gb_per_s for option in pools} == {accelerator_of(rack).link_gb_per_s}
    found, before = benchmark_rules.answers(rules, options), benchmark_rules.answers(rules, plain)
    for rule in ("offline", "server"):
        assert found[rule] == before[rule]
    tight = found["interactive"]
    assert tight.scenario.split
    assert (
        tight.output_tok_per_s_per_accelerator > 1.2 * before["interactive"].output_tok_per_s_per_accelerator
    )
    again = point_of(run(tight.scenario))  # the answer's own run
    assert again["slo_tpot_ms_reached"] <= tight.limits.tpot_ms and not again["saturated"]


@pytest.mark.parametrize(
    ("part", "benchmark", "devices"),
    [("b200", "gpt-oss-120b", 8), ("gb200", "gpt-oss-120b", 4), ("gb200", "llama2-70b", 8)],
    ids=["a board", "few devices", "no experts"],
)
def test_others_have_one_pool(part, benchmark, devices):
    """Oracle: the published configurations, none of which has two."""
    scenario = tuned(catalogue.benchmark(benchmark), Scenario(accelerator=part))
    options = candidates(scenario, devices)
    assert with_pools(options) == options


def test_the_pools_that_are_run_hold_the_best():
    """Oracle: every pair of pools run by itself; the quick runs may misjudge by 3%."""
    rules = catalogue.benchmark("gpt-oss-120b")
    limits = Limits(*rules.limits_ms("interactive"))
    scenario = tuned(rules, Scenario(accelerator="gb200", calibration="submission"))
    pools = [option for option in submitted_ways(rules, scenario, 8) if option.split]
    alone = [found.rate_per_s for option in pools if (found := benchmark_rules.quick([option], limits))]
    assert benchmark_rules.quick(pools, limits).rate_per_s >= 0.97 * max(alone)


def test_a_run_fills_the_batches_of_the_replicas_that_it_has():
    """Oracle: by hand; and a run of all replicas four times as long, whose latencies are within 10%."""
    scenario = Scenario(replicas=8, max_batch=1000, arrival_per_s=80.0, requests=60_000)
    some = with_full_batches(scenario, 60_000)
    assert (some.replicas, some.arrival_per_s) == (4, 40.0)  # 10 turns of 4,000 places
    assert with_full_batches(scenario, 100_000) == scenario
    assert with_full_batches(scenario.replace(replicas=6), 10_000).replicas == 3  # no half of a replica
    tuned_ = tuned(catalogue.benchmark("llama2-70b"), Scenario(accelerator="b300", calibration="submission"))
    whole = tuned_.replace(replicas=8, max_batch=1885, arrival_per_s=330.0, requests=240_000, warmup_frac=0.2)
    part = with_full_batches(whole, 60_000)
    assert part.replicas == 2
    reached = [
        [point[f"slo_{name}_ms_reached"] for name in ("ttft", "tpot")]
        for point in (point_of(run(whole)), point_of(run(part.replace(requests=60_000))))
    ]
    assert reached[1] == pytest.approx(reached[0], rel=0.10)


def test_a_run_that_ends_before_its_batches_fill_is_no_answer():
    """Oracle: the same load with as many requests as it takes; a page may cut runs shorter than one stays."""
    scenario = Scenario(mix="500/4000", max_batch=256)
    assert loaded_latencies(scenario, 256, 0.5).stable
    with allowed(Allowance(0.001, 10**8)):
        assert not loaded_latencies(scenario, 256, 0.5).stable


def test_rate_matching_bounds_two_pools():
    """Oracle: runs: just above the bound the queue grows, well below it does not."""
    rules = catalogue.benchmark("gpt-oss-120b")
    scenario = tuned(rules, Scenario(accelerator="gb200", calibration="submission"))
    pools = next(option for option in submitted_ways(rules, scenario, 8) if option.split)
    pools = pools.replace(max_batch=256, requests=20_000, warmup_frac=0.2)
    top = top_per_s(pools, 256)
    low, high = (point_of(run(pools.replace(arrival_per_s=share * top))) for share in (0.7, 1.1))
    assert not low["saturated"] and high["saturated"]


def test_places_and_room_of_two_pools():
    """Oracle: the decode pool as one pool; and a prefill worker without room, which is refused."""
    two = Scenario(
        model="gpt-oss-120b",
        accelerator="gb200",
        weight_dtype="native",
        policy="disaggregated",
        prefill_workers=2,
        decode_workers=3,
        prefill_tensor_parallel=1,
        decode_tensor_parallel=2,
        max_batch=10,
    )
    assert batch_places(two) == 30
    one = two.replace(policy="chunked", tensor_parallel=2)
    assert sequences_held(two) == sequences_held(one)
    require_room(two)
    with pytest.raises(DoesNotFit):
        require_room(two.replace(model="llama-3.1-405b", weight_dtype="fp4", decode_tensor_parallel=8))


def test_pairs_of_pools_are_halved_together():
    """Oracle: by hand: 16 and 24 workers are 2 and 3, eight times; these cannot be halved."""
    many = Scenario(
        model="gpt-oss-120b",
        accelerator="gb200",
        weight_dtype="native",
        policy="disaggregated",
        prefill_workers=16,
        decode_workers=24,
        max_batch=1000,
        arrival_per_s=80.0,
    )
    some = with_full_batches(many, 10_000)
    assert (some.prefill_workers, some.decode_workers, some.arrival_per_s) == (2, 3, 10.0)


def test_clients_of_a_full_system_are_as_many_as_a_closed_loop_may_have(monkeypatch):
    """Oracle: the range of the key; 16 ranks of 16,384 requests are 262,144 places."""
    wide = Scenario(model="deepseek-r1", accelerator="gb300", tensor_parallel=16, attention_data_parallel=16)
    ran: list[Scenario] = []
    monkeypatch.setattr(benchmark_search, "run", ran.append)
    monkeypatch.setattr(benchmark_search, "point_of", lambda _: defaultdict(float))
    saturated(wide.replace(seed=4711), 16_384)
    assert ran[0].concurrency == FIELDS["concurrency"].high


def test_pairs_of_pools_are_matched_at_the_batch_that_they_may_run():
    """Oracle: the search chooses the batch limit, so that of the scenario plays no part."""
    rules = catalogue.benchmark("gpt-oss-120b")
    scenario = tuned(rules, Scenario(accelerator="gb200", calibration="submission"))
    found = []
    for batch in (2, 5000):
        options = [option.replace(max_batch=batch) for option in submitted_ways(rules, scenario, 8)]
        best = benchmark_rules.quick([option for option in options if option.split], Limits(3000, 80))
        found.append(best.scenario.replace(max_batch=1))
    assert found[0] == found[1]


def test_candidates_use_every_device():
    """Oracle: devices = tensor parallel x replicas; experts whole or divided."""
    scenario = tuned(catalogue.benchmark("gpt-oss-120b"), Scenario(accelerator="b200"))
    options = candidates(scenario, 8)
    assert {option.tensor_parallel * option.replicas for option in options} == {8}
    assert {option.expert_parallel for option in options} == {1, 2, 4, 8}


def test_a_model_that_does_not_fit_says_so():
    """Oracle: the message of memory."""
    scenario = tuned(catalogue.benchmark("llama3.1-405b"), Scenario(accelerator="l4"))
    with pytest.raises(ScenarioError, match="needs"):
        candidates(scenario, 1)


@pytest.mark.parametrize(
    ("part", "benchmark", "dtype"),
    [("h200", "llama2-70b", "fp8"), ("b200", "llama2-70b", "fp4"), ("a100-80-sxm", "llama2-70b", "fp8"),
     ("h200", "gpt-oss-120b", "native")],
)  # fmt: skip
def test_precision_of_a_submission(part, benchmark, dtype):
    """Oracle: the narrowest format the part computes in; gpt-oss stays as published."""
    assert tuned(catalogue.benchmark(benchmark), Scenario(accelerator=part)).weight_dtype == dtype


def test_a_system_forgets_the_custom_model():
    """Oracle: no dimension of another model is left over."""
    custom = load_scenario("model=llama-3.1-8b&layers=2")
    assert system(catalogue.benchmark("llama2-70b"), custom).layers is None


def test_held_by_hand():
    """Arithmetic by hand: KV tokens / (prompt + half the answer + half a block), lengths fixed."""
    scenario = Scenario(mix="1000/200")
    room = run(scenario.replace(requests=2)).price.kv_blocks * 16
    assert sequences_held(scenario) == int(room / (1000 + 100 + 8))


# Published facts


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name in catalogue.preset_ids("published")])
def test_published_facts_can_be_cited(name):
    """Oracle: what MLCommons' messaging rules ask for: round, division, submitters, entries, date, source."""
    spreads = catalogue.published(name)
    assert spreads
    for spread in spreads:
        assert spread.rounds and all(text.startswith("v") for text in spread.rounds)
        assert spread.division == "closed"
        assert spread.submitters and spread.sources
        assert spread.entry_ids or spread.rounds == ("v4.1",) or "v4.0" in spread.rounds
        assert len(spread.retrieved) == 10
        assert spread.accelerator in catalogue.preset_ids("accelerators")
        for rule in benchmark_rules.RULES:
            values = [getattr(spread, f"{rule}_{key}") for key in ("min", "median", "max")]
            count = getattr(spread, f"{rule}_count")
            assert all(value is None for value in values) if not count else values == sorted(values)


@needs_reference
def test_published_spreads_against_the_table():
    """Oracle: the table of ratios, counted anew: Llama 2 70B on H200, distinct closed entries."""
    pd = pytest.importorskip("pandas")
    table = pd.read_csv(REFERENCE / "mlperf_scenario_ratios.csv")
    table = table[table["division"].eq("closed") & table["gpu"].eq("H200")]
    table = table[table["model"].isin(["llama2-70b-99", "llama2-70b-99.9"])]
    keys = ["round", "submitter", "system", "accelerators_total", "offline", "server", "interactive"]
    ratios = table.drop_duplicates(keys)["interactive_over_offline"].dropna()
    [spread] = [row for row in catalogue.published("llama2-70b") if row.accelerator == "h200"]
    assert spread.interactive_count == len(ratios)
    assert spread.interactive_median == pytest.approx(np.median(ratios), abs=1e-4)


def test_the_stored_comparison():
    """Oracle: the goals: Offline is met, Server beats the best constant; Interactive does, or is named."""
    check = catalogue.published_check("mlperf")
    goals = {(goal.rule, goal.rows): goal for goal in check.goals}
    assert goals["offline", "all"].error <= 0.15
    assert goals["server counted", "all"].error < goals["server counted", "all"].constant
    interactive = goals["interactive counted", "all"]
    assert interactive.error < interactive.constant or interactive in entries.without_skill("interactive")
    assert check.calibration == "submission"


def test_the_stored_comparison_repeats():
    """Oracle: today's search of one stored system, within 1% (the searches take the same runs)."""
    key = ("llama3.1-8b", "h100-sxm", 1)
    systems = catalogue.published_check("mlperf").systems
    [stored] = [row for row in systems if (row.benchmark, row.accelerator, row.devices) == key]
    benchmark = catalogue.benchmark("llama3.1-8b")
    found = benchmark_rules.answers(benchmark, candidates(small(calibration="submission"), 1))
    assert found["offline"].output_tok_per_s_per_accelerator == pytest.approx(stored.offline, rel=0.01)
    ratio = found["server"].output_tok_per_s_per_accelerator / stored.offline
    assert ratio == pytest.approx(stored.server, rel=0.01)


def test_a_system_is_the_benchmarks_whatever_model_and_mix_one_had() -> None:
    """Oracle: the benchmark's own model and mix; limits of classes that it lacks go with them."""
    benchmark = catalogue.benchmark("llama2-70b")
    had = Scenario(mix="chat:0.7,rag:0.3", class_limits="rag:5000/50")
    assert tuned(benchmark, had).class_limits == "" == had.replace(mix="chat:1").class_limits
    assert had.replace(mix="rag:1").class_limits == "rag:5000/50"
    own = Scenario(model="own", own_model=EXAMPLE)
    assert (tuned(benchmark, own).model, tuned(benchmark, own).own_model) == (benchmark.model, "")
