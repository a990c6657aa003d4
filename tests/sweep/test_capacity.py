"""The one search for the best point within the limits.

Oracles: the bisection of `naive_capacity`, in plain Python; a function whose crossing is known; runs one load
further; arithmetic.
"""

import math
from typing import Any

import pytest

from sim_core import ScenarioError, capacity, load_scenario
from sim_core.engine import work
from sim_core.engine.work import Allowance, allowed
from sim_core.price.memory import DoesNotFit
from sim_core.price.price import price_of
from sim_core.price.priced import priced
from sim_core.questions import compare, hardware, phases, sensitivity
from sim_core.scenario.scenario import Scenario
from sim_core.sweep import capacity as search
from sim_core.sweep.capacity import Y, best_within, seeded
from sim_core.sweep.estimate import estimate_of
from sim_core.sweep.frontier import frontier
from sim_core.sweep.ranges import SEEDS, are_alike
from sim_core.sweep.secant import Reach, highest
from sim_core.traffic.draws import requests_sent
from tests.sweep.naive_capacity import naive_capacity

B200 = (
    "model=llama-3.3-70b&accelerator=b200&weight_dtype=fp8&prompt_tokens=3000&output_tokens=500"
    "&slo_ttft_ms=1000&slo_tpot_ms=30"
)
LINKS = {
    "tpot": "",
    "ttft": "slo_ttft_ms=150",
    "loose": "slo_ttft_ms=1e6&slo_tpot_ms=1e4",
    "prefill first": "policy=prefill_first&slo_tpot_ms=20",
    "bursts": "arrivals=gamma&arrival_cv=3&slo_tpot_ms=100",
    "replicas": "replicas=4&slo_tpot_ms=20",
    "two pools": "policy=disaggregated&prefill_workers=1&slo_tpot_ms=20",
    "long prompts": B200 + "&tensor_parallel=1",
    "one token": "output_tokens=1&output_cv=0&max_batch=1",
    "few fit": "model=qwen3-32b&tensor_parallel=2&prompt_tokens=8000&output_tokens=1000",
}


@pytest.mark.parametrize("link", LINKS.values(), ids=list(LINKS))
def test_the_search_finds_what_bisection_finds(link: str) -> None:
    """Oracle: the naive bisection with the same requests, to the noise of a run of 20,000: 1.7%."""
    scenario = load_scenario(link)
    assert capacity(scenario)["arrival_per_s"] == pytest.approx(naive_capacity(scenario)[0], rel=0.017)


def test_the_search_costs_less_than_bisection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the requests that the naive bisection runs, over scenarios with a seed nobody has asked for."""
    costed, ran = work.costed, {capacity: 0, naive_capacity: 0}
    for find in ran:

        def counted(scenario: Scenario, trace: None, *more: Any, find: Any = find) -> object:
            ran[find] += work.requests_of(scenario, trace) * (more[2] if len(more) > 2 else 1)
            return costed(scenario, trace, *more)

        monkeypatch.setattr(work, "costed", counted)
        for link in ("", B200 + "&tensor_parallel=2", "slo_tpot_ms=15"):
            find(load_scenario(link).replace(seed=41))
    assert ran[capacity] < 0.5 * ran[naive_capacity]


@pytest.mark.parametrize("start", [0.01, 1.0, 9.0, 40.0, 900.0])
@pytest.mark.parametrize("kind", ["line", "steep", "jump", "queue"])
def test_the_secant_finds_a_crossing(kind: str, start: float) -> None:
    """Oracle: the crossing, at 10, of a power, of a jump, and of a queue that has no end from 12 on."""
    misses = {
        "line": lambda load: math.log(load / 10),
        "steep": lambda load: 30 * math.log(load / 10),
        "jump": lambda load: -4.0 if load <= 10 else 0.3,
        "queue": lambda load: math.log(2 / (12 - load)) if load < 12 else 20.0,
    }
    trials: list[float] = []

    def miss(load: float) -> float:
        trials.append(load)
        return misses[kind](load)

    found = highest(miss, start, Reach(1e-3, 1e6, 0.06, 0.005))
    assert found.low <= 10 < found.high <= found.low * 1.0051
    assert len(trials) == len(set(trials)) <= 26
    whole = highest(misses[kind], round(start), Reach(1, 1_000_000, 0.06, 0.005, whole=True))
    assert whole == (10, 11)


def test_the_secant_where_nothing_and_where_all_keeps_the_limits() -> None:
    """By hand: no load, the least one breaks it; the most that there is, nothing breaks it."""
    reach = Reach(0.1, 100.0, 0.06, 0.01)
    assert highest(lambda load: 1.0, 5.0, reach) == (0.0, 0.1)
    assert highest(lambda load: -1.0, 5.0, reach) == (100.0, math.inf)
    assert highest(lambda load: math.inf, 5.0, reach) == (0.0, 5.0)


@pytest.mark.parametrize("link", [B200 + f"&tensor_parallel={n}" for n in (2, 4, 8)] + ["", "replicas=4"])
def test_the_estimate_is_near(link: str) -> None:
    """Oracle: the simulated capacity; where tokens bind the estimate is known to be up to a quarter above."""
    scenario = load_scenario(link)
    found = estimate_of(priced(scenario), requests_sent(scenario.replace(requests=5000)))
    assert found is not None
    assert 0.95 < found.per_s / capacity(scenario)["arrival_per_s"] < 1.3


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_the_estimate_counts_the_launches_of_steps_with_prompts(policy: str) -> None:
    """Oracle: what the same launches cost in simulated capacity, here a twentieth of it or more."""
    tuned = Scenario(calibration="submission", policy=policy, slo_tpot_ms=15.0, prompt_tokens=300)
    kept, found = [], []
    for own in ("", "prefill_step_layer:0"):
        scenario = tuned.replace(constants=own)
        known = estimate_of(priced(scenario), requests_sent(scenario.replace(requests=5000)))
        assert known is not None
        found.append(known.per_s)
        kept.append(capacity(scenario)["arrival_per_s"])
    assert kept[0] < 0.95 * kept[1]
    assert found[0] / found[1] == pytest.approx(kept[0] / kept[1], abs=0.03)


def test_the_estimate_knows_what_cannot_be() -> None:
    """Oracle: physics, 16 GB take 4.8 ms at 3.35 TB/s; requests of one token have no time per token."""
    scenario = Scenario(slo_tpot_ms=2.0)
    sent = requests_sent(scenario)
    found = estimate_of(priced(scenario), sent)
    assert found is not None and found.per_s == 0 < found.trickle_per_s
    single = Scenario(output_tokens=1, output_cv=0.0)
    assert estimate_of(priced(single), requests_sent(single)) is None


def test_prompts_that_cost_nothing_have_a_capacity() -> None:
    """Oracle: the measured step takes 15.1 ms whatever is in it: an answer's tokens come so far apart."""
    flat = Scenario(step_profile="1:15.1", max_batch=4, output_tokens=50, output_cv=0.0, slo_tpot_ms=30.0)
    found = capacity(flat)
    assert 0 < found["arrival_per_s"] <= 4 / (49 * 15.1e-3)
    assert found["point"]["slo_tpot_ms_reached"] == pytest.approx(15.1, rel=0.05)


def test_a_run_is_as_long_as_many_lives() -> None:
    """By hand: 30 requests for each that is served together, more than 20,000 where many are."""
    few, many = (best_within(load_scenario(link)) for link in ("", "replicas=8&max_batch=512&slo_tpot_ms=60"))
    assert few is not None and many is not None
    assert few["requests"] == search.CAPACITY_REQUESTS
    assert many["requests"] > 1.3 * search.CAPACITY_REQUESTS
    assert many["requests"] >= 25 * many["mean_batch"]


@pytest.mark.parametrize("link", ["", "arrivals=closed&slo_tpot_ms=20", "arrivals=offline&slo_ttft_ms=6e5"])
def test_the_best_of_a_curve_is_no_worse_than_its_points(link: str) -> None:
    """Oracle: the points of the curve with the same requests; the next load breaks a limit or gives less."""
    scenario = load_scenario(link)
    top = best_within(scenario)
    assert top is not None and top["meets_slo"]
    same = scenario.replace(requests=top["requests"])
    good = [row for row in compare.curve(same) if row["feasible"] and row["meets_slo"]]
    assert top[Y] >= max(row[Y] for row in good)
    key = search.sweep_key(scenario)
    step = 1.02 * top[key] if key == "load_frac" else top[key] + 1
    beyond = frontier(same, {key: [step]}).iloc[0]
    assert not beyond["meets_slo"] or beyond[Y] < top[Y]


def test_many_clients_are_found_beyond_the_steps() -> None:
    """Oracle: Little's law, eight engines of 256 places hold more clients than the last step, 512."""
    found = best_within(load_scenario("arrivals=closed&replicas=8&slo_tpot_ms=50&requests=4000"))
    assert found is not None and found["concurrency"] > 1024


def test_one_search_for_all_loads() -> None:
    """Oracle: identity of the rate found, whatever rate, and clients, a scenario has."""
    scenario = load_scenario(B200 + "&tensor_parallel=2")
    asked = [scenario, scenario.replace(arrival_per_s=0.3), scenario.replace(arrival_per_s=7.0)]
    assert len({capacity(each)["arrival_per_s"] for each in asked}) == 1


def test_all_pages_name_one_best() -> None:
    """Oracle: the command's answer, at the same requests and seed: every question has it."""
    scenario = load_scenario(B200 + "&tensor_parallel=2&arrival_per_s=2.2")
    expected = capacity(scenario)["point"][Y]
    answers = {
        "compare and design": compare.best_within(scenario)[Y],
        "what would it take": compare.throughput_within(scenario),
        "two phases": hardware.returns(scenario, phases.setting(scenario), ("limits",))[0]["value"],
        "the map": hardware.limits_map(scenario, (1.0,), (1.0,)).item(),
        "what matters most": sensitivity.bases(scenario, "throughput")[0],
    }
    assert answers == dict.fromkeys(answers, expected)


def test_the_range_is_what_seeds_give() -> None:
    """Oracle: the capacities with the next four seeds, one by one; without more seeds none is told."""
    scenario = load_scenario("requests=400")
    rates = [capacity(seeded(scenario, turn))["arrival_per_s"] for turn in range(SEEDS)]
    found = capacity(scenario, seeds=SEEDS)
    assert found["range_per_s"] == {"low": min(rates), "high": max(rates)}
    assert found["arrival_per_s"] == rates[0]
    assert capacity(scenario)["range_per_s"] is None
    assert max(rates) / min(rates) < 1.1


def test_what_is_alike() -> None:
    """By hand: paired differences that all point one way are no tie, those that point both ways are; what
    keeps no limit is like nothing."""
    base = [100.0, 104.0, 97.0, 101.0, 99.0]
    assert are_alike(
        base, [value * (1 + step / 100) for value, step in zip(base, (1, -1, 2, 0, -1), strict=True)]
    )
    assert not are_alike(base, [0.97 * value for value in base])
    assert are_alike(base, [0.997 * value for value in base])
    assert not are_alike(base, [0.0, *base[1:]])


def test_what_cannot_run_has_no_best() -> None:
    """Oracle: 405B parameters in one device's memory; the search says why, the questions say none."""
    scenario = load_scenario("model=llama-3.1-405b")
    with pytest.raises(ScenarioError, match="needs 812"):
        best_within(scenario)
    assert compare.best_within(scenario) is None


@pytest.mark.parametrize("link", ["output_tokens=4000", "replicas=4", "arrivals=closed"])
def test_a_page_finds_what_the_command_finds(link: str) -> None:
    """Oracle: the same search without an allowance: these cost little enough to be cut nowhere."""
    scenario = load_scenario(link)
    alone = best_within(scenario)
    with allowed(Allowance(seconds=3.0, most_bytes=3 * 10**8)) as given:
        assert best_within(scenario) == alone
    assert given.cuts == {}


def test_batches_that_leave_no_cache_are_left_out():
    """Oracle: the memory of the widest step of the search, which is refused; the narrower ones answer."""
    scenario = load_scenario("batching-out-of-kv-blocks", slo_ttft_ms=1e6, slo_tpot_ms=1e4)
    with pytest.raises(DoesNotFit):
        price_of(scenario.replace(max_batch=512))
    best = best_within(scenario, requests=200)
    assert best is not None and best["max_batch"] < 512
