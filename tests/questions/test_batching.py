"""The scheduler's experiments: waiting for a batch, too little KV cache, prompts among decodes, endings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim_core.catalogue.calibrations import calibration
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import memory
from sim_core.price.price import Price, price_of
from sim_core.questions.experiments import preemption
from sim_core.questions.experiments.endings import SPREADS, endings
from sim_core.questions.experiments.interference import interference
from sim_core.questions.experiments.waiting import waiting
from sim_core.results.use import padding_frac
from sim_core.scenario.link.load import load_scenario
from sim_core.scenario.link.write import to_query
from sim_core.scenario.ready import ready_scenarios
from sim_core.scenario.scenario import Scenario
from tests.loops import each

FIXED = Scenario(prompt_cv=0.0, output_cv=0.0)
SMALL = FIXED.replace(requests=200, arrival_per_s=2.0, output_tokens=100)
EDGES = {
    "one place": {"max_batch": 1},
    "one token": {"output_tokens": 1, "output_cv": 0.0},
    "one request": {"requests": 1},
    "two engines": {"replicas": 2},
    "closed loop": {"arrivals": "closed", "concurrency": 3},
    "all at once": {"arrivals": "offline"},
    "bursts": {"arrivals": "gamma", "arrival_cv": 4.0},
    "a list": {"arrivals": "trace", "request_list": "0:1000:50x3,1:4000:20"},
    "static": {"policy": "static"},
    "prompts first": {"policy": "prefill_first"},
    "small budget": {"token_budget": 16, "max_batch": 64},
    "a trickle": {"arrival_per_s": 1e-5},
    "a flood": {"arrival_per_s": 1e4},
    "little cache": {"kv_memory_frac": 0.23},
    "long prompts": {"prompt_tokens": 100_000, "prompt_cv": 2.0},
    "a mix": {"mix": "chat:0.7,rag:0.3"},
}
SCENARIOS = {name: preset.build() for name, preset in ready_scenarios().items()}
SCENARIOS |= {name: Scenario(requests=300).replace(**changes) for name, changes in EDGES.items()}
PRESSED = {"llama-3.1-8b-on-h100", "kv-pressure", *EDGES}  # the others run the same code, more slowly


def step_s(price: Price, tokens: int, rows: int, context: int = 0, pairs: float = 0.0, prompts: int = 0):
    """Return the time of one step straight from the price list [s]."""
    step = price.step
    return (
        step.token_s[tokens]
        + step.row_s[rows]
        + step.decode_context_s * context
        + step.prefill_pair_s * pairs
        + step.prefill_request_s * prompts
        + step.prefill_step_s * (prompts > 0)
    )


# Waiting for a batch


def test_a_lone_request_waits_out_the_whole_wait() -> None:
    """Oracle: arithmetic: the way there, the wait, one prefill step from the price list, the way back."""
    found = waiting(FIXED.replace(requests=1, arrival_per_s=0.1, max_batch=8))
    price = price_of(found.scenario)
    way_s = price.before_s(np.array([1000])) + price.request_after_s
    bare_s = way_s + step_s(price, 1000, 1, pairs=1000**2 / 2, prompts=1)
    for row in found.rows:
        wait_ms = row["batch_wait_ms"] if row["max_batch"] > 1 else 0.0  # a batch of one is full at once
        assert row["ttft_ms_mean"] == pytest.approx(wait_ms + 1e3 * bare_s)
        assert row["batch_requests"] == 1
    assert found.best["batch_wait_ms"] == 0
    assert found.continuous["ttft_ms_mean"] == pytest.approx(1e3 * bare_s)


def test_the_load_is_the_scenarios_own_if_it_can_be_served() -> None:
    """Oracle: the rule: the scenario's rate (of one engine), else 60 % of what static batching can serve."""
    own = waiting(SMALL)
    assert own.scenario.arrival_per_s == SMALL.arrival_per_s and not own.lowered
    assert waiting(SMALL.replace(replicas=2)).scenario.arrival_per_s == SMALL.arrival_per_s / 2
    flood = waiting(SMALL.replace(arrival_per_s=1e4))
    assert flood.lowered and flood.load_frac == pytest.approx(0.6, rel=0.01)
    closed = waiting(SMALL.replace(arrivals="closed"))
    assert closed.asked_per_s is None and not closed.lowered
    assert closed.scenario.arrivals == "poisson" and closed.load_frac == pytest.approx(0.6, rel=0.01)


def test_a_wait_longer_than_the_gaps_fills_every_batch() -> None:
    """Oracle: a limit: whoever waits for ever starts full batches only (but the last)."""
    found = waiting(SMALL.replace(max_batch=4, arrival_per_s=1.0))
    patient = found.curve(4)[-1]
    assert patient["batch_wait_ms"] == 30_000 and patient["batches"] == math.ceil(200 / 4)
    assert found.curve(4)[0]["batches"] > patient["batches"]


def test_waiting_makes_each_second_of_work_yield_more() -> None:
    """Oracle: a step reads the weights once, however many share it: larger batches make more per second."""
    found = waiting(SMALL)
    curve = found.curve(SMALL.max_batch)
    assert curve[-1]["batch_requests"] > 2 * curve[0]["batch_requests"]
    assert curve[-1]["busy_tok_per_s"] > 1.2 * curve[0]["busy_tok_per_s"]
    assert curve[-1]["ttft_ms_mean"] > found.best["ttft_ms_mean"]


# Running out of KV cache


def test_swapping_is_priced_by_hand() -> None:
    """Oracle: arithmetic: 32 layers x 2 x 8 heads x 128 x 2 bytes = 131,072 bytes a token, out and in, over
    75 % of 64 GB/s: 1,000 tokens take 2 x 1000 x 131,072 / 48e9 s = 5.461 ms.
    """
    assert preemption.swap_s(price_of(Scenario()), 1000) == pytest.approx(5.461e-3, rel=1e-3)


@pytest.mark.parametrize(("tokens", "chunks"), [(1000, [1000]), (1500, [992, 508]), (1984, [992, 992])])
def test_recomputing_is_priced_by_hand(tokens: int, chunks: list[int]) -> None:
    """Oracle: the price list: beside 32 decodes a budget of 1,024 (1,032) leaves 992 (1,000)."""
    budget = 1024 if len(chunks) > 1 else 1032
    scenario = Scenario(token_budget=budget)
    price = price_of(scenario)
    added_s = sum(price.step.token_s[32 + chunk] - price.step.token_s[32] for chunk in chunks)
    added_s -= price.step.token_s[33] - price.step.token_s[32]  # it would have decoded in the last of them
    added_s += len(chunks) * price.step.prefill_request_s + price.step.prefill_pair_s * tokens**2 / 2
    added_s -= price.step.decode_context_s * tokens
    assert preemption.recompute_s(price, scenario, tokens, 32) == pytest.approx(added_s)


def test_prompts_that_go_first_are_recomputed_in_a_step_of_their_own() -> None:
    """Oracle: the price list: the whole step is extra."""
    scenario = Scenario(policy="prefill_first")
    price = price_of(scenario)
    alone_s = step_s(price, 3000, 1, pairs=3000**2 / 2, prompts=1)
    assert preemption.recompute_s(price, scenario, 3000, 32) == pytest.approx(alone_s)


def test_the_engine_pays_the_prices_of_the_crossover() -> None:
    """Oracle: two runs of the engine. Two requests outgrow the cache; one leaves and comes back when the
    other is done. The runs differ by recomputing against swapping and by nothing else (but the read of one
    token's cache: the engine also computes the token that a swapped request has yet to feed in).
    """
    base = Scenario(arrivals="trace", request_list="0:1000:200x2", warmup_frac=0.0)
    held = memory(base)
    beside_gb = held["weights_gb"] + held["activations_gb"] + held["context_gb"]
    needed_gb = beside_gb + 2200 * held["kv_bytes_per_token"] / 1e9
    base = base.replace(kv_memory_frac=round(needed_gb / held["fitted_gb"], 6))
    again, moved = (run(base.replace(preemption=way), log=True) for way in preemption.WAYS)
    assert again.preemptions.sum() == moved.preemptions.sum() == 1
    held = int(moved.engine.log["swapped_tokens"].sum()) // 2
    assert preemption.extra_work(again)["extra_tokens"] == held + 1
    differ_s = preemption.recompute_s(again.price, base, held + 1, 0) - preemption.swap_s(moved.price, held)
    assert again.finished_s.max() - moved.finished_s.max() == pytest.approx(differ_s, rel=1e-5)


def test_extra_work_is_the_engines_own_account() -> None:
    """Oracle: the engine's counters, which count every step if all requests are there at once."""
    scenario = Scenario(arrivals="offline", requests=300, kv_memory_frac=0.25)
    moved = run(scenario.replace(preemption="swap"), log=True)
    assert preemption.extra_work(moved)["extra_tokens"] == moved.engine.usage.swapped_tokens > 0
    again = run(scenario, log=True)
    usage = again.engine.usage
    tokens = int(usage.steps_by_tokens @ np.arange(usage.steps_by_tokens.size)) + usage.extra_tokens
    first, decoded = again.prompt_tokens.sum(), usage.steps_by_rows @ np.arange(usage.steps_by_rows.size)
    decoded -= 300 + again.preemptions.sum()  # rows of prompts: each samples one when it is done
    extra = preemption.extra_work(again)["extra_tokens"]
    assert extra > 0 and tokens - first - decoded == pytest.approx(extra, rel=0.02)


def test_less_cache_preempts_and_costs() -> None:
    """Oracle: limits: with the full share nobody leaves; with room for one request, throughput falls."""
    found = preemption.pressure(Scenario(requests=500, arrival_per_s=12.0))
    for way in preemption.WAYS:
        curve = found.curve(way)
        assert curve[-1]["preemptions"] == curve[-1]["extra_tokens"] == curve[-1]["extra_s"] == 0
        assert curve[0]["preemptions"] > 0 and curve[0]["extra_s"] > 0
        assert curve[0]["output_tok_per_s"] < 0.5 * curve[-1]["output_tok_per_s"]
        assert [row["kv_tokens"] for row in curve] == sorted(row["kv_tokens"] for row in curve)
    assert found.curve("swap")[-1]["output_tok_per_s"] == found.curve("recompute")[-1]["output_tok_per_s"]


def test_the_smallest_cache_just_fits_the_longest_request() -> None:
    """Oracle: the engine: with the smallest share nobody is turned away, with a little less somebody is."""
    scenario = Scenario(requests=300)
    least = preemption.kv_shares(scenario)[0]
    assert not run(scenario.replace(kv_memory_frac=least)).rejected.any()
    assert run(scenario.replace(kv_memory_frac=least - 2e-4)).rejected.any()


def test_the_slider_keeps_its_ends() -> None:
    """Oracle: the steps must not depend on the step that is chosen."""
    scenario = Scenario(requests=300)
    assert preemption.kv_shares(scenario) == preemption.kv_shares(scenario.replace(kv_memory_frac=0.3))


def test_where_recompute_and_swap_cross() -> None:
    """Oracle: definition: over the break-even link, swapping takes as long as recomputing."""
    found = preemption.crossover(Scenario(), 2000, 32)
    assert found.host_gb_per_s == 64
    for factor, even in found.even_gb_per_s.items():
        price = price_of(Scenario(pcie_gb_per_s=even))
        assert 1e3 * preemption.swap_s(price, 2000) == pytest.approx(found.recompute_here_ms[factor])
    assert found.even_gb_per_s[0.5] < found.even_gb_per_s[1.0] < found.even_gb_per_s[2.0]


def test_twice_the_flops_halve_the_arithmetic() -> None:
    """Oracle: under the datasheet calibration a long prompt is arithmetic alone: half the time."""
    found = preemption.crossover(Scenario(calibration="datasheet"), 4000, 1)
    assert found.recompute_here_ms[2.0] / found.recompute_here_ms[1.0] == pytest.approx(0.5, rel=0.15)


# Prompts among decodes


@pytest.mark.parametrize("calibration", ["typical", "submission"])
def test_one_prompt_delays_all_decodes_by_its_own_step(calibration: str) -> None:
    """Oracle: the price list: under `prefill_first` a gap grows by the step of the prompts in it."""
    found = interference(FIXED.replace(arrival_per_s=2.0, calibration=calibration), 8, 500)
    first = found.ways[0]
    assert first.variant.policy == "prefill_first"
    price = price_of(first.mixed)
    one_ms = 1e3 * step_s(price, 1000, 1, pairs=1000**2 / 2, prompts=1)
    delay_ms = first.mixed_ms - first.alone_ms
    alone = delay_ms[delay_ms > 1e-6].min()
    assert alone == pytest.approx(one_ms)
    assert first.row["itl_ms_max"] >= one_ms
    chunks, stalled = first.row["chunks"], int((delay_ms > 1e-6).sum())  # by a step with prompts, or more
    each_ms, once_ms = 1e3 * price.step.prefill_request_s, 1e3 * price.step.prefill_step_s
    switch_ms = first.row["switch_frac"] * first.row["extra_ms"]
    assert (once_ms > 0) == (calibration == "submission")
    assert chunks * each_ms + stalled * once_ms <= switch_ms * (1 + 1e-9)
    assert switch_ms <= chunks * (each_ms + once_ms) * (1 + 1e-9)


@pytest.mark.parametrize("calibration", ["typical", "submission"])
def test_a_chunk_delays_decodes_by_what_it_adds_to_their_step(calibration: str) -> None:
    """Oracle: the price list: a step of 8 decodes and the prompt, less the step of the 8 alone."""
    found = interference(FIXED.replace(arrival_per_s=2.0, calibration=calibration), 8, 500)
    chunked = next(way for way in found.ways if way.variant == ("chunked", 8192))
    price = price_of(chunked.mixed)
    added_s = step_s(price, 1008, 9, pairs=1000**2 / 2, prompts=1) - step_s(price, 8, 8)
    delay_ms = chunked.mixed_ms - chunked.alone_ms
    assert delay_ms[delay_ms > 1e-6].min() == pytest.approx(1e3 * added_s)


def test_gaps_are_the_engines_own() -> None:
    """Oracle: the longest gap that the engine keeps for each request, where all decodes begin together."""
    found = interference(FIXED.replace(arrival_per_s=4.0), 8, 500)
    for way in (found.ways[0], found.ways[-1]):
        engine = run(way.mixed, itl_max=True)
        assert way.row["itl_ms_max"] == pytest.approx(1e3 * engine.itl_max_s[:8].max())
        assert way.row["extra_ms"] == pytest.approx(float((way.mixed_ms - way.alone_ms).sum()))


def test_small_budgets_cap_the_gap_and_cost_the_prompts() -> None:
    """Oracle: a step of 512 tokens is shorter than one of 8,192; the prompt needs more of them."""
    found = interference(Scenario(arrival_per_s=4.0, prompt_tokens=4000), 16, 1000)
    small, large = (
        next(way.row for way in found.ways if way.variant == ("chunked", budget)) for budget in (512, 8192)
    )
    assert small["itl_ms_max"] < large["itl_ms_max"]
    assert small["prompt_ttft_ms_mean"] > large["prompt_ttft_ms_mean"]


def test_the_switch_cost_is_the_scenarios() -> None:
    """Oracle: without a fixed cost its share is 0; else the calibration's own, with launches of 32 layers."""
    host = calibration("typical").base
    own_ms = 1e3 * (host.prefill_request_s + 32 * host.prefill_layer_s)
    assert interference(SMALL, 8, 500).switch_ms == pytest.approx(own_ms)
    found = interference(SMALL.replace(prefill_switch_ms=0.0), 8, 500)
    assert found.switch_ms == 0 and {way.row["switch_frac"] for way in found.ways} == {0.0}


def test_a_link_reproduces_the_run() -> None:
    """Oracle: the log of the scenario that the query of the command gives."""
    way = interference(Scenario(), 8, 500).ways[1]
    again = run(load_scenario(to_query(way.mixed)), log=True)
    assert np.array_equal(again.engine.log, run(way.mixed, log=True).engine.log)


def test_more_decodes_than_fit_are_fewer() -> None:
    """Oracle: the memory: all of them and a prompt fit the cache, and nobody is preempted."""
    found = interference(Scenario(), 5000, 4000)
    assert found.asked == 5000 > found.decodes > 1
    for way in found.ways:
        assert run(way.mixed).preemptions.sum() == 0


# Endings


def test_padding_by_hand() -> None:
    """Oracle: arithmetic: three answers of 10, 4 and 1 tokens hold 3 x 10 slot-steps and use 15 of them."""
    scenario = Scenario(
        arrivals="trace", request_list="0:100:10,0:100:4,0:100:1", policy="static", max_batch=3
    )
    assert padding_frac(run(scenario)) == pytest.approx(0.5)
    two = scenario.replace(max_batch=2)  # batches (10, 4) and (1): 21 slot-steps, 15 used
    assert padding_frac(run(two)) == pytest.approx(6 / 21)


def test_padding_is_what_the_engine_holds() -> None:
    """Oracle: the engine's steps by rows: every row of a static batch is a slot held for a step."""
    found = run(Scenario(arrivals="offline", policy="static", requests=200, max_batch=16))
    rows = found.engine.usage.steps_by_rows
    held = int(rows @ np.arange(rows.size))
    assert padding_frac(found) == pytest.approx(1 - found.output_tokens.sum() / held)


def test_equal_answers_leave_no_padding() -> None:
    """Oracle: a limit: answers that end together pad nothing; the more they differ, the more is padded."""
    found = endings(Scenario(max_batch=16))
    padding = [found.row("static", spread)["padding_frac"] for spread in SPREADS]
    assert padding[0] == 0 and padding == sorted(padding) and padding[-1] > 0.5
    assert {found.row("chunked", spread)["padding_frac"] for spread in SPREADS} == {0.0}


def test_the_samples_have_one_mean() -> None:
    """Oracle: the samples themselves: within 1 % of one another, and all policies see the same requests."""
    found = endings(Scenario(max_batch=16))
    means = [row["mean_output_tokens"] for row in found.rows]
    assert max(means) < 1.01 * min(means)
    assert all(row["rejected"] == 0 for row in found.rows)


def test_spread_costs_static_batching_only() -> None:
    """Oracle: a freed slot is used at once under continuous batching; the mean alone counts."""
    found = endings(Scenario(max_batch=16))
    lost = {
        policy: 1 - found.row(policy, 1.0)["output_tok_per_s"] / found.row(policy, 0.0)["output_tok_per_s"]
        for policy in ("static", "chunked")
    }
    assert lost["static"] > 0.4 and abs(lost["chunked"]) < 0.1


# Everything


@each(SCENARIOS)
def test_every_scenario_gives_numbers_or_a_reason(name: str) -> None:
    """Oracle: each experiment returns sane numbers or says what to change; warnings are errors."""
    scenario = SCENARIOS[name]
    if scenario.turns > 1 or scenario.spec_tokens:  # static batches know neither
        for experiment in (waiting, endings):
            try:
                experiment(scenario)
            except ScenarioError as error:
                assert "static batches" in str(error)
        return
    found = waiting(scenario)
    assert found.best is None or found.best["ttft_ms_mean"] > 0
    assert found.load_frac > 0
    if name in PRESSED:
        assert all(
            row["output_tok_per_s"] > 0 for row in preemption.pressure(scenario).rows if row["feasible"]
        )
    crossover = preemption.crossover(scenario, preemption.mean_context(scenario), 32)
    assert crossover.swap_here_ms > 0 and crossover.contexts
    try:
        shared = interference(scenario, 8, preemption.mean_context(scenario))
    except ScenarioError as error:
        assert name in ("little cache", "long prompts"), error
    else:
        assert all(way.row["itl_ms_mean"] >= 0.99 * way.row["alone_ms_mean"] for way in shared.ways)
    ends = endings(scenario)
    assert all(0 <= row["padding_frac"] < 1 for row in ends.rows if row["feasible"])


@pytest.mark.parametrize("experiment", [waiting, preemption.pressure, endings])
def test_a_model_that_does_not_fit_says_so(experiment) -> None:
    """Oracle: the message of the memory, which names the sizes."""
    with pytest.raises(ScenarioError, match="GB"):
        experiment(Scenario(model="llama-3.1-405b"))
    with pytest.raises(ScenarioError, match="GB"):
        interference(Scenario(model="llama-3.1-405b"), 8, 500)
    with pytest.raises(ScenarioError, match="GB"):
        preemption.crossover(Scenario(model="llama-3.1-405b"), 500, 8)
