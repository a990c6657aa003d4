"""What published runs with speculation say of a prediction."""

from __future__ import annotations

import pytest

from sim_core.evidence import trust
from sim_core.evidence.further import speculated
from sim_core.evidence.further.speculated import Speculated, draft_tables, speculated_words
from sim_core.evidence.published import POOLS
from sim_core.scenario.scenario import Scenario

MARK_PCT = 15.0


def test_speculation_is_predicted_better_than_by_a_constant() -> None:
    """Oracle: the mark: TPOT within 15% in the median, without the accelerator, and below the constant's."""
    every = speculated.speculated()[0]
    assert every.name == "all" and every.rows >= 50
    assert every.median_pct <= MARK_PCT and every.has_skill


def test_groups_are_those_of_all() -> None:
    """Oracle: the rows of engines and parts add up, and so do those of one pool and two.

    Of groups over several nodes none is fitted.
    """
    every, *groups = speculated.speculated()
    pools = sum(group.rows for group in groups if group.name in POOLS.values())
    assert pools == every.rows == sum(group.rows for group in groups) - pools
    assert draft_tables()["rows"] < every.rows


@pytest.mark.parametrize(("median", "words"), [(9.4, "less than"), (12.0, "no less than")])
def test_a_prediction_without_skill_says_so(
    monkeypatch: pytest.MonkeyPatch, median: float, words: str
) -> None:
    """Oracle: a constant that is off by 12%."""
    made_up = (Speculated("all", 40, median, 30.0, 12.0),)
    monkeypatch.setattr(speculated, "speculated", lambda: made_up)
    assert f"off by {median:.0f} % in TPOT (median), {words} by the usual speed-up" in speculated_words()


def test_the_badge_says_what_was_checked() -> None:
    """Oracle: the errors of the file, in the reasons of a scenario that speculates."""
    scenario = Scenario(model="deepseek-r1", accelerator="h200", tensor_parallel=8, weight_dtype="native")
    found = trust.trust(scenario.replace(spec_tokens=2, acceptance_length=2.2))
    assert found.badge == trust.EXTRAPOLATED
    assert speculated_words() in " ".join(found.reasons)


def test_a_table_of_drafts_alone_is_no_speculation() -> None:
    """Oracle: the scenario without the table, which does the same: nothing is drafted."""
    scenario = Scenario(model="deepseek-r1", accelerator="h200", tensor_parallel=8, weight_dtype="native")
    assert trust.trust(scenario.replace(spec_by_batch="1-4:2,5-:0")) == trust.trust(scenario)
