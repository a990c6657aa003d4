"""What requests take of the workers: against rate matching, by hand, and against the simulator."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim_core import load_scenario
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.questions import disaggregation
from sim_core.questions.shift import needs
from sim_core.questions.shift.needs import fitted_needs
from sim_core.questions.shift.study import as_two_pools
from sim_core.results.metrics import point_of
from sim_core.traffic import demand, draws
from sim_core.traffic.requests import BlockChains, Requests


@pytest.mark.parametrize(
    "query",
    [
        "mix=1000/250:1", "mix=4000/50:1", "mix=2048/1:1", "mix=8000/100:1&slo_tpot_ms=15",
        "mix=500/300:1&max_batch=16", "mix=1000/400:1&model=llama-3.1-70b&tensor_parallel=4&slo_tpot_ms=60",
        "mix=2000/300:1&model=gemma-3-27b&tensor_parallel=2&slo_tpot_ms=80",
        "mix=2000/300:1&model=gpt-oss-20b&tensor_parallel=4&expert_parallel=4&attention_data_parallel=4",
    ],
)  # fmt: skip
def test_fixed_lengths_take_what_rate_matching_says(query: str) -> None:
    """Oracle: `disaggregation.matched`, which works on means; batches differ by less than a request."""
    scenario = load_scenario(query, policy="disaggregated")
    lengths = [np.array([value]) for value in draws.mean_lengths(scenario)]
    prefill, decode = (float(taken[0]) for taken in needs.needs_of(scenario)(*lengths))
    theory = disaggregation.matched(scenario)
    assert prefill == pytest.approx(theory.prefill_s, rel=0.02)
    assert decode == pytest.approx(theory.decode_s, rel=0.03, abs=1e-9)


def test_every_request_has_its_own_need() -> None:
    """Oracle: one by one."""
    found = needs.needs_of(load_scenario("", policy="disaggregated"))
    prompts, outputs = np.array([10, 1000, 30_000]), np.array([1, 300, 20])
    together = found(prompts, outputs)
    for k in range(3):
        alone = found(prompts[k : k + 1], outputs[k : k + 1])
        assert [float(part[k]) for part in together] == [float(part[0]) for part in alone]
    assert together[1][0] == 0  # one token: no decode worker


def test_loads_of_the_busier_pool() -> None:
    """Oracle: by hand: 2 and 3 workers' worth of work on 1 and 3, 2 and 2, 3 and 1 workers."""
    loads = needs.utilisations(2.0, 3.0, 4)
    assert loads.tolist() == [math.inf, 2.0, 1.5, 3.0, math.inf]


@pytest.mark.parametrize("query", ["", "slo_ttft_ms=300", "slo_tpot_ms=20", "prefix_hit_frac=0.8"])
def test_a_split_that_has_what_it_needs_keeps_the_limits(query: str) -> None:
    """Oracle: the simulator: at 85% of what the needs say the limits hold, at 1.5 times they break."""
    scenario = load_scenario(query, policy="disaggregated", mix="1500/120:1")
    scenario = as_two_pools(scenario.replace(mix_other="1500/120:1"))
    found = fitted_needs(scenario)
    assert found.prefill_factor >= 1 and found.decode_factor >= 1
    prefill, decode = (float(part[0]) for part in found(np.array([1500]), np.array([120])))
    split = disaggregation.split_of(scenario, 5)
    carried = min(5 / prefill, 3 / decode)
    lengths = Requests(np.arange(12_000.0), np.full(12_000, 1500), np.full(12_000, 120), "alike")
    trial = split.replace(requests=12_000, warmup_frac=0.3)

    def keeps(share: float) -> bool:
        return point_of(run(trial.replace(arrival_per_s=share * carried), trace=lengths))["meets_slo"]

    assert keeps(0.85)
    assert not keeps(1.5)


def test_limits_that_nothing_keeps_are_said() -> None:
    """Oracle: by hand."""
    with pytest.raises(ScenarioError, match="keeps the limits at no rate"):
        fitted_needs(as_two_pools(load_scenario("slo_tpot_ms=1")))


def test_a_prefix_cache_is_the_share_that_it_has_at_best() -> None:
    """Oracle: by hand: 64 of 100 tokens of one kind and 64 of 200 of the other, of all but the first prompts.

    Of a trace, what its hash_ids say: the second prompt begins with the first one's 512 tokens.
    """
    query = "mix=36/20:1&mix_other=136/20:1&system_tokens=64&prompt_cv=0&prefix_caching=on&requests=1000"
    shared = load_scenario(query)
    shown = as_two_pools(shared)
    assert shown.prefix_hit_frac == pytest.approx(128 / 300 * 3999 / 4000, rel=1e-3)
    assert shown.prefix_caching == "off" and as_two_pools(shown) == shown
    chains = BlockChains(np.array([0, 1, 3]), np.array([7, 7, 8]), 512)
    trace = Requests(np.array([0.0, 1.0]), np.array([512, 1024]), np.array([5, 5]), blocks=chains)
    assert as_two_pools(shared, trace).prefix_hit_frac == pytest.approx(512 / 1536, rel=1e-3)


def test_turns_need_what_their_prompts_need() -> None:
    """Oracle: the same prompts and answers as requests of which none follows another."""
    turns = as_two_pools(load_scenario("turns=4&mix_other=1000/100:1&mix=1000/100:1"))
    found = fitted_needs(turns)
    assert 1 <= found.prefill_factor < 1.5
    assert demand.sample(turns, 500).session is None
    assert demand.sample(turns, 500).prompt_tokens.mean() > 2000
