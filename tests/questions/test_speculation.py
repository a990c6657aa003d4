"""Whether speculation pays: the arithmetic of a speed-up, what is assumed, and the best number of drafts."""

from __future__ import annotations

import math

import pytest

from sim_core.questions import speculation
from sim_core.questions.speculation import Trade, chance, geometric_length, length_at, supposed
from sim_core.scenario.scenario import Scenario

KIMI = Scenario(model="kimi-k2.5", accelerator="b200", tensor_parallel=8)


@pytest.mark.parametrize(("accepted", "drafts"), [(0.3, 1), (0.7, 3), (0.9, 8), (0.0, 4), (1.0, 2)])
def test_length_of_drafts_accepted_alike(accepted: float, drafts: int) -> None:
    """Leviathan et al. (2023), equation 1: (1 - a^(K+1)) / (1 - a), K + 1 if all are; `chance` inverts it."""
    closed = (1 - accepted ** (drafts + 1)) / (1 - accepted) if accepted < 1 else drafts + 1
    assert geometric_length(accepted, drafts) == pytest.approx(closed)
    assert chance(closed, drafts) == pytest.approx(accepted, abs=1e-6)


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
    assert length_at(how, 4) == pytest.approx(geometric_length(chance(2.65, 3), 4))
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
