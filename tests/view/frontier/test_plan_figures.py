"""The figures of a day, of devices over the rate, and of a map of winners."""

from __future__ import annotations

import dataclasses

import plotly.graph_objects as go
import pytest

from sim_core.questions.deployment.answer import CONFIRMED
from sim_core.questions.deployment.around.day import day_plan
from sim_core.questions.deployment.around.row import Stair
from sim_core.questions.deployment.around.winners import Winner, WinnerMap
from sim_core.questions.deployment.plan import final_plan
from sim_core.questions.deployment.question import Question
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.day import Day
from sim_core.view.frontier.plan.around import stairs_figure
from sim_core.view.frontier.plan.day import day_figure
from sim_core.view.frontier.plan.winners import winner_figure

QUESTION = Question(
    scenario=Scenario(prompt_tokens=800, output_tokens=100),
    rate_per_s=60.0,
    accelerators=("h100-sxm",),
    free=("tensor_parallel",),
    top=1,
)


def test_the_figure_of_a_day() -> None:
    """Oracle: by hand: a schedule with a start of 2 h rises 2 h before the need, what serves 2 h after it."""
    row = final_plan(QUESTION).rows[0]
    found = day_plan(QUESTION, row, Day((5.0, 60.0)), typed_s=7200.0)
    drawn = go.Figure(day_figure(found))
    assert [trace.name.split(",")[0] for trace in drawn.data] == [
        "Ideal",
        "Started as the rate rises",
        "Scheduled",
        "Fixed at the peak",
    ]
    low, high = found.parts[0].devices, found.parts[1].devices
    served, paid = (dict(zip(line.x, line.y, strict=True)) for line in drawn.data[1:3])
    assert paid == {0: low, 10: high, 12: high, 22: high, 24: high}
    assert served == {0: low, 2: low, 12: low, 14: high, 24: high}
    assert set(drawn.data[3].y) == {row.accelerators}


def winner(x: float, y: float, name: str, **more: object) -> Winner:
    """Return a cell that runs have decided."""
    return Winner(x, y, name, "TP1", 3, 9.0, **({"stage": CONFIRMED} | more))  # type: ignore[arg-type]


@pytest.fixture
def found() -> WinnerMap:
    cells = [
        winner(1.0, 10.0, "h100-sxm"),
        winner(2.0, 10.0, "gh200-144", ties=("h200",)),
        winner(1.0, 20.0, "h100-sxm", stage="estimate", ties=("h200",)),
        Winner(2.0, 20.0, reason="even alone, TPOT is 20 ms.", stage=CONFIRMED),
    ]
    return WinnerMap(
        question=QUESTION,
        x="rate",
        y="tpot",
        xs=(1.0, 2.0),
        ys=(10.0, 20.0),
        asked=(2.0, 20.0),
        cells={(cell.x, cell.y): cell for cell in cells},
    )


def test_the_figure_of_a_map(found: WinnerMap) -> None:
    """Oracle: by hand: names, devices, a mark on a tie and on what is open, the reason of an empty cell."""
    drawn = go.Figure(winner_figure(found))
    (heat,) = drawn.data
    assert heat.text[0][0].endswith("<br>3")
    assert heat.text[0][1].endswith("144<br>3 =")
    assert heat.text[1][0].endswith(" ?") and heat.text[1][1] == ""
    assert "even alone" in heat.customdata[1][1] and "As good: H200" in heat.customdata[0][1]
    assert "May be better: H200" in heat.customdata[1][0]
    assert heat.z[0][0] == heat.z[1][0] != heat.z[0][1] and heat.z[1][1] is None
    paths = [shape for shape in drawn.layout.shapes if shape.type == "path"]
    (frame,) = [shape for shape in drawn.layout.shapes if shape.type == "rect"]
    assert len(paths) == 1 and paths[0].path.startswith("M 0.5,")  # the one tie that runs have found
    assert (frame.x0, frame.y0) == (0.5, 0.5)


def test_a_map_where_nothing_serves(found: WinnerMap) -> None:
    """Oracle: Plotly takes the figure of it."""
    nobody = {place: Winner(*place, reason="no", stage=CONFIRMED) for place in found.cells}
    assert go.Figure(winner_figure(dataclasses.replace(found, cells=nobody))).data


def test_there_is_no_half_of_a_device() -> None:
    """Oracle: a line for each of few devices; of many, Plotly chooses."""
    few, many = ([Stair(count, 10.0 * count, True) for count in range(1, most + 1)] for most in (2, 40))
    assert go.Figure(stairs_figure(few, 12.0)).layout.yaxis.dtick == 1
    assert go.Figure(stairs_figure(many, 12.0)).layout.yaxis.dtick is None


def test_what_was_asked_is_named_on_its_line() -> None:
    """By hand: the line at 12 requests a second says so."""
    layout = stairs_figure([Stair(1, 10.0, True), Stair(2, 20.0, True)], 12.0)["layout"]
    (words,) = layout["annotations"]
    assert words["text"] == "asked: 12 requests/s" and words["x"] == layout["shapes"][0]["x0"] == 12.0
