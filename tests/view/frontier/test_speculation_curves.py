"""Curves with speculation and without on the Frontier page, and its name where scenarios are compared."""

from __future__ import annotations

import math

import pytest

from sim_core.questions import sensitivity
from sim_core.scenario.scenario import Scenario
from sim_core.view.compare.page import _value, short_name
from sim_core.view.session.sweeps import Result, Sweep, curve_label, quick_result
from tests.visits import finding, healthy, open_page, said

KIMI = Scenario(
    model="kimi-k2.5",
    accelerator="b200",
    tensor_parallel=8,
    weight_dtype="native",
    draft="eagle",
    requests=100,
)


def ends(scenario: Scenario, drafts: int) -> Result:
    """Return both ends of the curves with drafts and without: one client, and 16."""
    return quick_result(Sweep(scenario.replace(arrivals="closed"), "spec_tokens", (0, drafts), "concurrency"))


def test_curves_have_names() -> None:
    """Oracle: the contract: no speculation, and K with its number."""
    assert [curve_label("spec_tokens", count) for count in (0, 3)] == ["no speculation", "3 drafts"]


def test_one_client_gains_what_is_accepted() -> None:
    """Bound: a step of one client reads the same weights, so tokens come up to 2.88 times as fast."""
    rows = {(row["curve"], row["concurrency"]): row for row in ends(KIMI, 3).rows}
    slow, fast = (rows[name, 1]["tpot_ms_p50"] for name in ("no speculation", "3 drafts"))
    assert 1.5 < slow / fast < 2.88


def test_a_loss_is_drawn_as_a_loss() -> None:
    """Bound: where every draft is rejected (1 token a step) each step only costs more."""
    rows = {
        (row["curve"], row["concurrency"]): row for row in ends(KIMI.replace(acceptance_length=1.0), 3).rows
    }
    for clients in (1, 16, 128):
        with_drafts, plain = (rows[name, clients] for name in ("3 drafts", "no speculation"))
        assert with_drafts["output_tok_per_s"] < plain["output_tok_per_s"]
        assert with_drafts["tpot_ms_p50"] > plain["tpot_ms_p50"]


def test_the_page_draws_both_and_says_where_the_length_comes_from() -> None:
    """Oracle: the finding names a curve; the caption the workload and its range."""
    app = healthy(open_page("1_Frontier.py", vary="spec_tokens", model="kimi-k2.5", accelerator="b200",
                            tensor_parallel="8", weight_dtype="native", requests="100"))  # fmt: skip
    captions = " ".join(caption.value for caption in app.caption)
    assert "coding, thinking" in captions and "does not carry over" in captions
    assert "3 drafts" in finding(app) or "no speculation" in finding(app)


def test_a_curve_that_cannot_be_says_why() -> None:
    """Oracle: the message of the price, beneath the chart, and that of the scenario."""
    app = healthy(open_page("1_Frontier.py", vary="spec_tokens", requests="100", model="qwen2-7b"))
    assert "no acceptance length is published" in said(app)
    assert "Qwen2-7B comes without an MTP layer" in " ".join(caption.value for caption in app.caption)
    static = Sweep(Scenario(policy="static", arrivals="closed"), "spec_tokens", (0, 3), "concurrency")
    reasons = {point.keys["spec_tokens"]: point.reason for point in static.points()}
    assert not reasons[0] and "static batches" in reasons[3]


def test_compared_scenarios_say_whether_they_speculate() -> None:
    """Oracle: the contract: K with its number, nothing for none."""
    assert short_name(KIMI.replace(spec_tokens=3)) == "Kimi-K2.5 on 8 × B200, 3 drafts"
    assert short_name(KIMI) == "Kimi-K2.5 on 8 × B200"
    assert [_value(KIMI, key) for key in ("spec_tokens", "draft")] == ["no speculation", "–"]
    speculating = KIMI.replace(spec_tokens=3)
    assert _value(speculating, "acceptance_length") == "as published: 2.88"
    assert _value(speculating, "draft") == "EAGLE head"


def test_acceptance_is_a_lever() -> None:
    """By hand: 2.88 published; 10% more and less; never above K + 1, and no lever without drafts."""
    scenario = KIMI.replace(spec_tokens=3)
    assert "acceptance_length" in sensitivity.levers(scenario, "tpot")
    assert sensitivity.moved(scenario, "acceptance_length", 1.1) == pytest.approx(3.168)
    assert sensitivity.moved(scenario.replace(acceptance_length=4.0), "acceptance_length", 1.1) == 4.0
    assert "acceptance_length" not in sensitivity.levers(KIMI, "tpot")
    unknown = Scenario(model="qwen2-7b", spec_tokens=3)
    assert math.isnan(sensitivity.moved(unknown, "acceptance_length", 1.1))
