"""What layouts are worth: estimates against simulation, and the best one at an interactivity."""

from itertools import pairwise

import pytest

from sim_core.questions.deployment.curves import (
    Curve,
    X,
    Y,
    best_of_all,
    estimated_curves,
    half_band,
    ranking,
    simulated,
    value_at,
    worth_simulating,
)
from sim_core.questions.deployment.layouts import Option
from sim_core.scenario.scenario import Scenario

DENSE = Scenario(model="llama-3.1-8b", prompt_tokens=500, output_tokens=200)


def made(name: str, *places: tuple[float, float]) -> Curve:
    """Return a curve through some places."""
    option = Option("tensor", name, DENSE, 8, DENSE, 8)
    return Curve(option, tuple({X: x, Y: y, "clients": 1, "feasible": True} for x, y in places))


def named(curves: list[Curve], name: str) -> Curve:
    return next(curve for curve in curves if curve.option.name == name)


@pytest.mark.parametrize("name", ["8 × TP 1", "2 × TP 4"])
def test_an_estimate_is_close_to_the_simulation(name: str) -> None:
    """By simulation, 1,500 requests and more a point: within 15% where users get half of the best."""
    guess = named(estimated_curves(DENSE, 8), name)
    found = simulated(guess)
    assert found.simulated
    for share in (0.5, 0.7):
        user = share * max(row[X] for row in found.rows)
        assert value_at(guess, user) == pytest.approx(value_at(found, user), rel=0.15)


def test_an_estimate_of_ranks_is_close_to_the_simulation() -> None:
    """By simulation, rank by rank: within 15% where an eighth and half of the clients are there."""
    large = Scenario(model="deepseek-r1", accelerator="h200", weight_dtype="fp8")
    guess = named(estimated_curves(large, 8), "DEP 8")
    rows = simulated(guess).rows
    for row in (rows[2], rows[4]):
        assert value_at(guess, row[X]) == pytest.approx(row[Y], rel=0.15)


def test_two_pools_take_no_more_than_their_prefill_workers() -> None:
    """By rate matching: where one of eight workers prefills long prompts, few decodes are all there are."""
    long = DENSE.replace(prompt_tokens=8000, output_tokens=20)
    pools = [curve for curve in estimated_curves(long, 8) if curve.option.family == "pools" and curve.rows]
    one = [curve for curve in estimated_curves(long, 8) if curve.option.name == "8 × TP 1"]
    most = max(row[Y] for row in one[0].rows)
    assert pools
    assert all(row[Y] < 1.3 * most for curve in pools for row in curve.rows)


def test_what_cannot_be_has_no_points_and_a_reason() -> None:
    """By hand: 141 GB of weights on one device of 80 GB."""
    curve = named(estimated_curves(Scenario(model="llama-3.1-70b"), 8), "8 × TP 1")
    assert curve.rows == ()
    assert "needs 141 GB" in curve.reason


def test_between_points_a_curve_is_straight_and_a_user_may_be_quicker() -> None:
    """By hand: halfway between (20, 100) and (40, 60) lie 80; below 20 still 100; beyond 40 nothing."""
    curve = made("a", (40.0, 60.0), (20.0, 100.0), (10.0, 90.0))
    assert value_at(curve, 30.0) == 80.0
    assert value_at(curve, 5.0) == 100.0
    assert value_at(curve, 41.0) == 0.0
    assert value_at(made("empty"), 1.0) == 0.0


def test_the_best_of_all_falls_from_where_a_layout_gives_most() -> None:
    """By hand: at 20 the first gives 100; the other never falls below 70 up to its point at 50."""
    x, y = best_of_all([made("a", (20.0, 100.0), (40.0, 60.0)), made("b", (50.0, 70.0)), made("none")])
    assert (x[0], y[0]) == (20.0, 100.0)
    assert (x[-1], y[-1]) == (50.0, 70.0)
    assert all(after <= before for before, after in pairwise(y.tolist()))
    assert best_of_all([])[0].size == 0


def test_layouts_within_the_error_are_ties() -> None:
    """By hand: those above the best times the lower end of the band over its upper end."""
    low, high = half_band(DENSE)
    edge = low / high
    curves = [made("worse", (50.0, 99 * edge)), made("best", (50.0, 100.0)), made("tie", (50.0, 101 * edge))]
    found = ranking([*curves, made("slow", (20.0, 500.0))], 40.0)
    assert [(item.curve.option.name, item.is_tie) for item in found] == [
        ("best", True),
        ("tie", True),
        ("worse", False),
    ]


def test_what_is_far_from_the_best_is_not_simulated_but_for_the_best_of_a_family() -> None:
    """By hand: half as good everywhere, and not the first of its family."""
    curves = [made("best", (10.0, 100.0), (50.0, 50.0)), made("worse", (10.0, 40.0), (50.0, 20.0))]
    stages = made("stages", (10.0, 20.0), (50.0, 10.0))
    stages = stages._replace(option=stages.option._replace(family="stages"))
    kept = worth_simulating([*curves, stages, made("nothing")])
    assert [curve.option.name for curve in kept] == ["best", "stages"]


def test_the_nearest_to_the_best_is_simulated_first() -> None:
    """By hand: 80 and 100 of 100 at 10 tok/s/user; a budget that ends early leaves out the lower one."""
    kept = worth_simulating([made("near", (10, 80), (20, 40)), made("best", (10, 100), (20, 50))])
    assert [curve.option.name for curve in kept] == ["best", "near"]


def test_what_is_late_with_the_first_token_is_no_winner() -> None:
    """By hand: the best layout gives 100 with first tokens after 3 s and 60 within 1 s, the other 80 within
    2 s; estimates know no first tokens.
    """
    best, other = made("best", (30.0, 100.0), (50.0, 60.0)), made("other", (40.0, 80.0))
    for curve, waits in ((best, (3000.0, 1000.0)), (other, (2000.0,))):
        for row, wait_ms in zip(curve.rows, waits, strict=True):
            row["slo_ttft_ms_reached"] = wait_ms
    curves = [best, other, made("estimate", (45.0, 10.0))]
    found = {
        limit_ms: [
            (item.curve.option.name, item.tok_per_s_per_accelerator) for item in ranking(curves, 30, limit_ms)
        ]
        for limit_ms in (5000, 2500, 1500)
    }
    assert found[5000] == [("best", 100), ("other", 80), ("estimate", 10)]
    assert found[2500] == [("other", 80), ("best", 60), ("estimate", 10)]
    assert found[1500] == [("best", 60), ("estimate", 10)]
