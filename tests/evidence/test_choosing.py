"""How often the layout measured best would have been chosen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.choosing import Layout, Swept, _chosen, _summary, choice_lines, choice_scores, layouts_by_cell
from benchmarks.runs import BY_RECIPE, RUNS, read_runs
from tests.evidence.test_layout_rows import PLAIN, read
from tests.places import SHARED


def test_a_sweep_is_read_between_its_clients() -> None:
    """Oracle: by hand: at 30 tokens a second, half-way from 40 to 20, 150 of 100 and 200; nobody gets 50."""
    swept = Swept(np.array([40.0, 20.0]), np.array([100.0, 200.0]))
    assert (swept.best(30.0), swept.best(20.0), swept.best(40.0), swept.best(50.0)) == (
        150.0,
        200.0,
        100.0,
        0.0,
    )


def test_choices_by_hand() -> None:
    """Oracle: by hand: the best of four is the model's second: a first choice of half, none lost in three."""
    found = _chosen(np.array([5.0, 10.0, 1.0, 2.0]), np.array([9.0, 8.0, 7.0, 6.0]))
    assert (found.place, found.loss, found.loss_of_shown) == (1, 0.5, 0.0)
    assert _summary([found]) == {
        "n": 1, "top_3": 100.0, "first": 0.0, "loss_median": 50.0, "loss_mean": 50.0, "loss_of_3_mean": 0.0,
    }  # fmt: skip
    assert _summary([]) == {"n": 0}


def test_layouts_are_told_apart_by_what_they_share(tmp_path: Path) -> None:
    """Oracle: by hand: three layouts of one cell, one of them at two numbers of clients; 1000 / 9 tok/s."""
    runs = read(
        tmp_path, PLAIN, PLAIN | {"conc": "8"}, PLAIN | {"decode_tp": "4", "decode_gpus": "4"}, {"conc": "2"}
    )
    (layouts,) = layouts_by_cell(runs).values()
    assert sorted(len(layout.measured) for layout in layouts) == [1, 1, 2]
    assert all(isinstance(layout, Layout) for layout in layouts)
    pace, rate = layouts[0].measured[0]
    assert pace == pytest.approx(1000 / 9)
    assert rate == pytest.approx(4 * 1024 / (0.150 + 1023 * 0.009) / 8)


def test_a_layout_known_by_its_recipe_is_no_other(tmp_path: Path) -> None:
    """Oracle: by hand: two runs of one layout, which only one of them states."""
    (stated,) = read(tmp_path, PLAIN)
    guessed = stated._replace(point=stated.point._replace(note=BY_RECIPE, tpot_ms=20.0))
    ((layout,),) = layouts_by_cell([stated, guessed]).values()
    assert len(layout.measured) == 2


def test_cells_of_few_layouts_tell_nothing(tmp_path: Path) -> None:
    """Oracle: the definition: of three layouts the first three always hold the best."""
    found = choice_scores(read(tmp_path, PLAIN))
    assert found == {"n": 0, "within": {"n": 0}} and len(choice_lines(found)) == 1


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "reference" / RUNS).exists(), reason="the measured layouts are not here")
def test_the_layout_measured_best_is_among_the_first_three() -> None:
    """Oracle: InferenceX's layouts, which no constant that all models share has seen: 60% of cells, 15%."""
    found = choice_scores(read_runs(SHARED / "reference" / RUNS, Counter()))
    assert found["n"] > 100
    assert found["top_3"] >= 60.0
    assert found["loss_median"] <= 15.0
