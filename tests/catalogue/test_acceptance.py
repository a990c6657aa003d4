"""The table of published acceptance lengths: every row is possible, and says where it comes from."""

from __future__ import annotations

import pytest

from sim_core.catalogue.acceptance import (
    MOST_MEASURED,
    acceptance_length,
    acceptance_rows,
    acceptance_sources,
    known_lengths,
    known_methods,
)
from sim_core.scenario.scenario import FIELDS

WAYS = FIELDS["draft"].choices


def test_every_row_is_possible_and_has_a_source() -> None:
    """Arithmetic: a step of K drafts makes 1 token at least and K + 1 at most; a source is known and used."""
    for row in acceptance_rows():
        assert row["source"] in acceptance_sources(), row
        assert row["draft"] in WAYS and row["workload"] and row["head"], row
        measured = {drafts: row[f"k{drafts}"] for drafts in range(1, MOST_MEASURED + 1) if row[f"k{drafts}"]}
        assert measured, row
        assert all(1 <= float(length) <= drafts + 1 for drafts, length in measured.items()), row
    assert {row["source"] for row in acceptance_rows()} == set(acceptance_sources())
    assert all(source["url"].startswith("https://") for source in acceptance_sources().values())


def test_a_row_has_a_key_of_its_own() -> None:
    """Oracle: the key of a row; models are written as ids of presets are."""
    keys = [(row["model"], row["draft"], row["head"], row["workload"]) for row in acceptance_rows()]
    assert len(set(keys)) == len(keys)
    assert all(model == model.lower().replace(" ", "-") for model, *_ in keys)


@pytest.mark.parametrize(
    ("model", "way", "drafts", "length", "low", "high"),
    [
        ("kimi-k2.5", "eagle", 3, 2.88, 2.75, 2.88),
        ("kimi-k3", "parallel", 7, 3.78, 1.18, 4.73),
        ("minimax-m3", "eagle", 3, 2.83, 2.01, 3.32),
        ("deepseek-r1", "mtp", 1, 1.81, 1.81, 1.81),
        ("gpt-oss-20b", "parallel", 7, 3.94, 3.38, 3.94),
    ],
)
def test_lengths_as_published(
    model: str, way: str, drafts: int, length: float, low: float, high: float
) -> None:
    """Oracle: golden curves of InferenceX, posts of vLLM and pull requests, read by hand."""
    found = acceptance_length(model, way, drafts)
    assert found is not None
    assert (found.length, found.low, found.high) == (length, low, high)


def test_what_nobody_published_is_not_made_up() -> None:
    """Oracle: no row of such a model, way or number of drafts."""
    assert acceptance_length("llama-3.1-8b", "eagle", 3) is None
    assert acceptance_length("llama-3.1-8b", "ngram", 7) is None
    assert acceptance_length("kimi-k3", "parallel", 9) is None
    assert acceptance_length("no-such-model", "mtp", 0) is None
    assert list(known_lengths("llama-3.1-8b", "eagle")) == [7]
    assert known_methods("deepseek-v4-pro") == ("mtp", "parallel")
