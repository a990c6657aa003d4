"""Whether speculation pays: the arithmetic of a speed-up, what is assumed, and the best number of drafts."""

from __future__ import annotations

import math

import pytest

from sim_core import simulate, summarize
from sim_core.price.speculation import chance, geometric
from sim_core.questions import speculation
from sim_core.questions.speculation import Trade, length_at, supposed
from sim_core.scenario.scenario import Scenario

KIMI = Scenario(model="kimi-k2.5", accelerator="b200", tensor_parallel=8)


def _trade(plain_s: float, verified_s: float, prompt_s: float = 0.0) -> Trade:
    return Trade(8, 3, {"weights": plain_s}, {"weights": verified_s}, prompt_s, prompt_s)


def test_speed_up_by_hand() -> None:
    """By hand: 2 tokens in 12 ms are 1.67 times as fast as 1 in 10 ms, and 1.2 tokens are as fast."""
    trade = _trade(10e-3, 12e-3)
    assert trade.speed_up(2) == pytest.approx(2 * 10 / 12)
    assert trade.break_even == pytest.approx(1.2)
    assert trade.speed_up(trade.break_even) == pytest.approx(1)


def test_prompts_are_not_shortened() -> None:
    """By hand: 40 ms of prompts a token leave 2 (10 + 40) / (12 + 80) = 1.087; lost drafts lose less, too."""
    trade = _trade(10e-3, 12e-3, 40e-3)
    assert trade.speed_up(2) == pytest.approx(100 / 92)
    assert trade.break_even == pytest.approx(1.2)
    assert trade.prompt_frac(2) == pytest.approx(80 / 92)
    assert _trade(10e-3, 12e-3).speed_up(1) < trade.speed_up(1) < 1


def test_no_length_may_be_enough() -> None:
    """By hand: where prompts take longer beside drafts than all a token took, no length wins."""
    trade = Trade(8, 3, {"weights": 1e-3}, {"weights": 2e-3}, 1e-3, 3e-3)
    assert trade.break_even == math.inf
    assert trade.speed_up(1e9) < 1


def test_a_scenario_without_speculation_is_supposed_to_have_the_published() -> None:
    """Oracle: the golden curve of Kimi-K2.5 with EAGLE-3: 2.88 tokens a step with 3 drafts."""
    how = supposed(KIMI)
    assert (how.scenario.draft, how.drafts, how.length, how.is_own) == ("eagle", 3, 2.88, False)
    assert supposed(KIMI.replace(spec_tokens=5, draft="eagle")).length == 3.46
    assert [length_at(how, drafts) for drafts in (0, 1, 5, 8)] == [1.0, 1.83, 3.46, 3.77]


def test_an_own_length_counts_and_says_those_of_other_numbers() -> None:
    """By hand: 1.75 tokens with 2 drafts are accepted by halves, so 4 drafts make 1.9375; 1.5 with one."""
    how = supposed(KIMI.replace(spec_tokens=2, draft="eagle", acceptance_length=1.75))
    assert how.is_own and how.published is not None
    assert length_at(how, 4) == pytest.approx(1.9375)
    assert length_at(how, 1) == pytest.approx(1.5)


def test_a_length_between_published_numbers_follows_the_nearest() -> None:
    """Oracle: gpt-oss-20b with P-EAGLE is published for 3 and 7 drafts; 4 follow the chance of 3."""
    how = supposed(Scenario(model="gpt-oss-20b"))
    assert (how.scenario.draft, how.drafts) == ("eagle", 3)
    assert length_at(how, 4) == pytest.approx(geometric(chance(2.65, 3), 4))
    assert length_at(how, 7) == 3.03


def test_what_nobody_published_is_not_supposed() -> None:
    """Oracle: no row of Llama-3.1-8B with MTP layers, and none with 3 drafts of an EAGLE head."""
    how = supposed(Scenario().replace(model="qwen2-7b"))
    assert how.published is None and math.isnan(how.length) and math.isnan(length_at(how, 2))
    assert supposed(Scenario()).drafts == 7  # Llama-3.1-8B: published with 7 alone
    assert speculation.speculation_rows(Scenario(model="qwen2-7b")) == []


def test_drafts_count_against_the_budget() -> None:
    """By hand: 64 sequences with 3 drafts are 256 tokens; two-phase policies know no budget of a step."""
    assert speculation.fits_budget(Scenario(token_budget=256), 64, 3)
    assert not speculation.fits_budget(Scenario(token_budget=255), 64, 3)
    assert speculation.fits_budget(Scenario(token_budget=255, policy="prefill_first"), 64, 3)


@pytest.mark.parametrize("clients", [4, 64])
def test_the_priced_speed_up_is_that_of_the_simulator(clients: int) -> None:
    """Oracle: the simulator in a closed loop, whose clients decode nearly all of the time. The price knows no
    waiting and one mean context, so 5%."""
    scenario = KIMI.replace(
        weight_dtype="native", arrivals="closed", concurrency=clients, requests=10 * clients
    )
    scenario = scenario.replace(prompt_tokens=500, output_tokens=1000, prompt_cv=0.0, output_cv=0.3)
    speculating = supposed(scenario).scenario
    plain, drafting = (summarize(simulate(side), side)["metrics"] for side in (scenario, speculating))
    simulated = drafting["output_tok_per_s"] / plain["output_tok_per_s"]
    rows = speculation.speculation_rows(speculating, clients)
    row = next(row for row in rows if (row["decodes"], row["drafts"]) == (clients, 3))
    assert row["speed_up"] == pytest.approx(simulated, rel=0.05)


def test_two_pools_decode_on_their_own_devices() -> None:
    """Oracle: one pool of as many devices as a decode worker has, whose prompts are computed elsewhere."""
    split = KIMI.replace(
        policy="disaggregated", tensor_parallel=4, decode_tensor_parallel=8, weight_dtype="fp4"
    )
    one = KIMI.replace(weight_dtype="fp4")
    trade, alone = (speculation.trades(side, [16], 1000.0, 3)[0] for side in (split, one))
    assert trade.verified == pytest.approx(alone.verified)
    assert trade.prompt_s == 0 < alone.prompt_s
