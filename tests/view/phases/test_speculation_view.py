"""The view that asks whether speculation pays: figures that Plotly accepts, findings that follow the rows."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import pytest

from sim_core.questions import speculation
from sim_core.questions.speculation import Trade, supposed
from sim_core.scenario.scenario import Scenario
from sim_core.view.phases import speculation as view
from sim_core.view.phases import speculation_figures as figures
from tests.visits import address, finding, healthy, open_page, said

PAGE = "2_Two_phases.py"
KIMI = Scenario(
    model="kimi-k2.5", accelerator="b200", tensor_parallel=8, weight_dtype="native", draft="eagle"
)


def rows_of(*best: tuple[int, int]) -> list[dict]:
    """Return rows of which some number of drafts is best for each number of sequences."""
    return [
        {"decodes": size, "drafts": drafts, "speed_up": 1.5 if drafts == most else 0.9}
        | {"acceptance_length": 2.0, "is_best": drafts == most}
        for size, most in best
        for drafts in (1, 3, 5)
    ]


def test_plotly_accepts_the_figures() -> None:
    """Oracle: Plotly's own check; the line of no gain is the break-even of the rows."""
    found = speculation.pays_map(KIMI, 24)
    figure = figures.pays_figure(found, (24, 2.88), (2.75, 2.88))
    go.Figure(figure)
    assert 24 in found["decodes"]
    line = next(trace for trace in figure["data"] if trace.get("mode") == "lines")
    assert line["y"] == pytest.approx(found["break_even"], rel=1e-4)
    rows = speculation.speculation_rows(KIMI, 24)
    drawn = figures.by_drafts_figure(rows, 3, 24)
    go.Figure(drawn)
    assert drawn["layout"]["shapes"][0]["y0"] == 1
    go.Figure(figures.pays_figure(found, (24, math.nan), None))


def test_a_gain_and_a_loss_are_said_as_such() -> None:
    """By hand: 2 tokens in 1.2 times the time are 1.67 times as fast; in 2.5 times they are 20% slower."""
    how = supposed(KIMI.replace(spec_tokens=3, acceptance_length=2.0))
    gain = Trade(8, 3, {"weights": 10e-3}, {"weights": 12e-3}, 0.0, 0.0)
    assert (
        "decode with 8 sequences is 1.67 times as fast: a step verifies 4 times the tokens in 1.2"
        in view.finding(how, gain, rows_of((8, 3)), 8)
    )
    loss = Trade(8, 3, {"weights": 10e-3}, {"weights": 5e-3, "compute": 20e-3}, 0.0, 0.0)
    said_of = view.finding(how, loss, rows_of((8, 0)), 8)
    assert "8 sequences loses 20" in said_of and "arithmetic" in said_of
    assert "would gain from 2.5 tokens a step on" in said_of
    assert "No number of drafts pays" in said_of
    even = Trade(8, 3, {"weights": 10e-3}, {"weights": 20e-3}, 0.0, 0.0)
    assert "neither gains nor loses" in view.finding(how, even, rows_of((8, 1)), 8)


def test_best_numbers_are_said_by_load() -> None:
    """By hand: 5 for 1 and 2 sequences, 3 for 4, none for 8."""
    how = supposed(KIMI.replace(spec_tokens=3))
    trade = Trade(1, 3, {"weights": 10e-3}, {"weights": 12e-3}, 0.0, 0.0)
    text = view.finding(how, trade, rows_of((1, 5), (2, 5), (4, 3), (8, 0)), 1)
    assert text.endswith("The best number of drafts is 5 up to 2 sequences, 3 up to 4 sequences, then none.")


def test_many_stretches_are_said_as_a_range() -> None:
    """By hand: 5, 3, 5, 3, 1 drafts are five stretches, more than a sentence should list."""
    how = supposed(KIMI.replace(spec_tokens=3))
    trade = Trade(1, 3, {"weights": 10e-3}, {"weights": 12e-3}, 0.0, 0.0)
    text = view.finding(how, trade, rows_of((1, 5), (2, 3), (4, 5), (8, 3), (16, 1)), 1)
    assert text.endswith(
        "The best number of drafts is 5 for 1 sequence, 1 for 16, and between 1 and 5 for all."
    )


def test_drafts_that_no_step_can_hold() -> None:
    """By hand: 1,024 sequences with 3 drafts are 4,096 tokens of a step of 2,048."""
    app = healthy(open_page(PAGE, phases="speculation", spec_tokens="3", acceptance_length="2",
                            at_batch="1024", max_batch="1024", token_budget="2048"))  # fmt: skip
    assert "4,096 tokens, and the token budget is 2,048" in finding(app)


def test_it_can_be_turned_on_where_it_is_off() -> None:
    """Oracle: the address; a length that nobody published begins at two tokens."""
    app = healthy(open_page(PAGE, phases="speculation", model="qwen2-7b"))
    assert "Speculation is off" in said(app) and "is faster from" in finding(app)
    assert "Qwen2-7B comes without an MTP layer" in said(app)
    app.button(key="speculate").click()
    healthy(app.run())
    assert (address(app)["spec_tokens"], address(app)["acceptance_length"]) == ("3", "2")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (((1, 3),), "3"),
        (((1, 2), (64, 1)), "2 up to 63 sequences, then 1"),
        (((1, 5), (5, 3), (65, 0)), "5 up to 4 sequences, 3 up to 64, then none"),
    ],
)
def test_a_table_of_drafts_is_said_in_words(steps: tuple[tuple[int, int], ...], words: str) -> None:
    """By hand: each number of drafts holds up to one sequence less than where the next begins."""
    assert view.steps_words(steps) == words
