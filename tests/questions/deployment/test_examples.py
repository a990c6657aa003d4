"""Published answers beside ours: their figures against the table of facts, ours against their advice."""

from __future__ import annotations

import csv

import pytest

from sim_core.questions.deployment.around.examples import (
    ONE,
    POOLS,
    Beside,
    answered_here,
    examples_sentence,
    most_within,
)
from sim_core.questions.deployment.around.published import Example, examples
from sim_core.questions.deployment.curves import closed_loop, simulated_row
from sim_core.questions.deployment.layouts import own_layout
from sim_core.scenario.link.load import load_scenario
from tests.places import SHARED

TABLE = SHARED / "reference/search_worked_examples.csv"
NEAR = {"a": 0.25, "b": 0.15, "c": 0.1}  # of two pools, by which predictions of ours and theirs may differ


@pytest.fixture(scope="module")
def found() -> dict[str, Beside]:
    """Return all published answers with ours."""
    return {name: answered_here(example) for name, example in examples().items()}


@pytest.mark.skipif(not TABLE.exists(), reason="the table of published examples is not here")
@pytest.mark.parametrize("name", examples())
def test_figures_are_those_that_the_source_states(name: str) -> None:
    """Oracle: the table of facts: devices, limits, tokens a second and latencies stand in its words."""
    with TABLE.open(encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == name.upper())
    example = examples()[name]
    assert f"{example.devices} x {load_scenario(example.scenario).accelerator.upper()}" == row["hardware"]
    assert example.measured == ("measured" in row["source"])
    words = f"{row['recommended']} {row['runner_up']} {row['remark']}".replace(",", "")
    assert f"{example.pools_tpot_ms:g}" in words
    if example.measured:
        total = f"{example.pools_tok_per_s_per_device * example.devices:.0f}"
        assert total in words
        assert f"TTFT {example.pools_ttft_ms / 1e3:g} s" in words
        return
    stated = (example.pools_tok_per_s_per_device, example.one_tok_per_s_per_device, example.pools_ttft_ms)
    assert all(f"{value:.2f}" in words for value in stated if value is not None)
    assert f"{example.ratio}x" in words


@pytest.mark.parametrize("name", examples())
def test_the_family_that_is_recommended_is_best_here(name: str, found: dict[str, Beside]) -> None:
    """Oracle: the recommendations A to D: two pools, by more than the next family."""
    each = found[name]
    assert each.is_same_family
    assert [one.family for one in each.best] == [POOLS, ONE]
    assert each.ratio is not None
    assert each.ratio > 1.05


@pytest.mark.parametrize(("name", "off"), NEAR.items())
def test_two_pools_give_about_what_another_model_predicts(
    name: str, off: float, found: dict[str, Beside]
) -> None:
    """Oracle: AIConfigurator's tokens a second and device of its recommended layouts."""
    stated, ours = found[name].stated[0], found[name].best[0]
    assert ours.tok_per_s_per_device == pytest.approx(stated.tok_per_s_per_device, rel=off)


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_width_of_one_pool_that_is_recommended_is_best_here(name: str, found: dict[str, Beside]) -> None:
    """Oracle: AIConfigurator's best layout of one pool, TP4."""
    assert [one.layout for one in found[name].best if one.family == ONE] == ["TP4"]


def test_narrower_prefill_workers_are_quicker_as_was_measured(found: dict[str, Beside]) -> None:
    """Oracle: the remark on D: prefill on DP2 EP is faster per device than the DP4 EP that was run."""
    (same,), best = found["d"].same, found["d"].best[0]
    assert "DP2 EP2 +" in best.layout
    assert best.tok_per_s_per_device > same.tok_per_s_per_device


def test_one_client_more_misses_a_limit() -> None:
    """Oracle: runs by hand with the clients that were found, and with one more."""
    example: Example = examples()["b"]
    option = own_layout(load_scenario(f"{example.scenario}&{example.one_layout}"))
    at = most_within(example, option)
    assert at is not None
    assert example.tpot_ms is not None
    means = [
        simulated_row(closed_loop(option.unit, clients))["tpot_ms_mean"]
        for clients in (at.clients, at.clients + 1)
    ]
    assert means[0] == at.tpot_ms <= example.tpot_ms < means[1]


def test_the_sentence_has_the_ratios_of_both(found: dict[str, Beside]) -> None:
    """Oracle: the ratio that A states, and in how many answers the same family is best."""
    words = examples_sentence(list(found.values()))
    assert "here in 4 of them" in words
    assert "A: 1.61 times one pool here, 1.43 there" in words
