"""The star: the best point within the limits over the curves of a sweep.

Oracles: the capacity of each curve, one by one; the present setting's own figures; by hand.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from sim_core import capacity, load_scenario
from sim_core.engine.run import run
from sim_core.questions import compare, hardware, phases, sensitivity
from sim_core.sweep.capacity import Y
from sim_core.sweep.points import LOAD
from sim_core.sweep.ranges import SEEDS
from sim_core.view.drawing.words import Along, number, percent
from sim_core.view.frontier.words import alike_words, range_words, sweep_finding
from sim_core.view.session import stars, sweeps
from sim_core.view.session.sweeps import Result, Sweep
from tests.view.frontier.test_figures import SWEEP, draw, point
from tests.visits import APP, finding, healthy, open_page, said

B200 = {
    "model": "llama-3.3-70b", "accelerator": "b200", "weight_dtype": "fp8", "prompt_tokens": "3000",
    "output_tokens": "500", "slo_ttft_ms": "1000", "slo_tpot_ms": "30", "tensor_parallel": "2",
}  # fmt: skip
LINK = "&".join(f"{key}={value}" for key, value in B200.items())


def sweep_of(link: str, by: str = "tensor_parallel", values: tuple = (2, 4), along: str = LOAD) -> Sweep:
    return Sweep(load_scenario(link), by, values, along)


def rested(**address: str) -> AppTest:
    """Return the Frontier page after its chart has rested."""
    app = healthy(open_page(APP, **address))
    app.session_state.sweep_settled = app.session_state.sweep_shown
    return healthy(app.run())


def best_shown(app: AppTest) -> str:
    """Return the words of the key figure of the best point."""
    bodies = (element.proto.body for element in app.get("html"))
    body = next(body for body in bodies if "Best within the limits" in body)
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", body.split("This setting")[0])).strip()


def test_the_best_layout_is_that_of_the_highest_capacity() -> None:
    """Oracle: the capacity of each layout: two devices give more each than four, which points of the grid,
    farther from their limits here and nearer there, do not show."""
    link = LINK + "&arrival_per_s=1.9"
    base = load_scenario(link)
    points = {n: capacity(base.replace(tensor_parallel=n))["point"] for n in (1, 2, 4, 8)}
    best = max(points, key=lambda n: points[n][Y])
    assert best == 2
    app = rested(**B200, arrival_per_s="1.9", fine="off")
    assert f"{number(points[2][Y])} tok/s per accelerator" in best_shown(app)
    assert "TP 2, " in best_shown(app) and f"over {SEEDS} seeds" in best_shown(app)
    assert f"{number(points[2][Y])} tok/s per accelerator with TP 2" in finding(app)


def test_the_star_is_what_other_pages_name() -> None:
    """Oracle: what Compare and Design, Two phases and What matters most have for the scenario."""
    sweep = sweep_of(f"{LINK}&arrival_per_s=1.9", values=(2,))
    stars.settle(sweep)
    star = stars.best(sweep, sweeps.quick_result(sweep))
    assert star is not None
    assert (
        star[Y]
        == compare.best_within(sweep.scenario)[Y]
        == sensitivity.bases(sweep.scenario, "throughput")[0]
    )
    limits = hardware.returns(sweep.scenario, phases.setting(sweep.scenario), ("limits",))[0]
    assert star[Y] == limits["value"] == capacity(sweep.scenario)["point"][Y]


def test_until_the_chart_rests_the_star_is_a_point_that_settles() -> None:
    """Oracle: the best point of the grid, or the present setting where it keeps the limits and is better."""
    app = healthy(open_page(APP, **B200, arrival_per_s="2.2", seed="31"))
    found = sweeps.quick_result(app.session_state.sweep_shown)
    expected = max(row[Y] for row in (*found.rows, found.here) if row["feasible"] and row["meets_slo"])
    assert f"{number(expected)} tok/s" in best_shown(app) and "settling" in best_shown(app)


@pytest.mark.parametrize("rate", ["1.6", "1.9", "2.1"])
def test_the_best_is_never_below_a_setting_that_keeps_the_limits(rate: str) -> None:
    """Oracle: the figures of the setting itself, before and after the star has settled."""
    sweep = sweep_of(f"{LINK}&arrival_per_s={rate}&seed=32")
    found = sweeps.quick_result(sweep)
    assert found.here["meets_slo"]
    before = stars.best(sweep, found)
    stars.settle(sweep)
    after = stars.best(sweep, found)
    assert before is not None and after is not None
    assert min(before[Y], after[Y]) >= found.here[Y]
    better = Result(found.rows, found.here | {Y: 2 * after[Y]}, fine=True)
    top = stars.best(sweep, better)
    assert top is not None and top[Y] == top["range_high"] == 2 * after[Y]


def test_a_point_beyond_every_seed_that_keeps_the_limits_for_sure_is_the_best() -> None:
    """By hand: such a point of a fine sweep; not one at its limit, nor one of few requests."""
    sweep = sweep_of(f"{LINK}&arrival_per_s=1&seed=32")
    stars.settle(sweep)
    found = sweeps.quick_result(sweep)
    star = stars.best(sweep, found)
    assert star is not None
    odd = {**found.rows[0], "meets_slo": True, "at_limit": "", Y: 1.01 * star["range_high"]}

    def best(row: dict[str, Any], fine: bool = True) -> float:
        top = stars.best(sweep, Result([*found.rows, row], found.here, fine))
        assert top is not None
        return float(top[Y])

    assert best(odd) == odd[Y]
    assert best(odd, fine=False) == best(odd | {"at_limit": "tpot"}) == star[Y]
    assert best(odd | {Y: 0.999 * star["range_high"]}) == star[Y]


def test_the_star_is_that_of_all_loads_of_a_scenario() -> None:
    """Oracle: identity: another request rate has nothing to search."""
    first, second = (sweep_of(f"{LINK}&seed=33&arrival_per_s={rate}") for rate in (1, 2))
    stars.settle(first)
    assert stars.is_settled(second)
    assert not stars.is_settled(sweep_of(f"{LINK}&seed=33&arrival_per_s=1&token_budget=4096"))


@pytest.mark.parametrize(
    ("link", "column", "along"),
    [
        ("arrivals=closed&slo_tpot_ms=20", "concurrency", "concurrency"),
        ("slo_tpot_ms=20", "arrival_per_s", LOAD),
    ],
)
def test_the_star_lies_between_the_steps(link: str, column: str, along: str) -> None:
    """Oracle: the best step with the same requests; the star gives no less and lies beyond it."""
    sweep = sweep_of(link, values=(1, 2), along=along)
    stars.settle(sweep)
    same = Sweep(sweep.scenario.replace(requests=20_000), sweep.by, sweep.values, along)
    star = stars.best(sweep, sweeps.quick_result(sweep))
    step = sweeps.best_within_limits(sweeps.quick_result(same).rows)
    assert star is not None and step is not None
    assert star[Y] >= step[Y] and star[column] >= step[column]
    assert star["range_low"] <= star[Y] <= star["range_high"]


def test_curves_that_do_not_differ_are_alike() -> None:
    """Oracle: a batch limit of 1,024 that is never reached is one of 256; one of 16 gives less."""
    sweep = sweep_of("", by="max_batch", values=(16, 256, 1024))
    stars.settle(sweep)
    star = stars.best(sweep, sweeps.quick_result(sweep))
    assert star is not None and star["alike"] == ("batch ≤ 256", "batch ≤ 1,024")
    assert alike_words(star).startswith("Batch limits 256 and 1,024 are alike")


def test_a_curve_that_cannot_run_or_keep_the_limits_has_no_star() -> None:
    """Oracle: 70 GB of weights on a device of 85.5 GB, of which 77 are usable, leave room; 140 GB do not."""
    sweep = sweep_of("model=llama-3.3-70b&slo_ttft_ms=5000", by="weight_dtype", values=("bf16", "fp8"))
    stars.settle(sweep)
    star = stars.best(sweep, sweeps.quick_result(sweep))
    assert star is None or star["curve"] == "fp8"
    hopeless = sweep_of("slo_tpot_ms=1")
    stars.settle(hopeless)
    assert stars.is_settled(hopeless)
    assert stars.best(hopeless, sweeps.quick_result(hopeless)) is None


def test_a_table_settles_by_itself() -> None:
    """Oracle: the words; no chart says there that it has rested."""
    assert f"over {SEEDS} seeds" in best_shown(healthy(open_page(APP, **B200, show="table", seed="34")))


def test_a_load_curve_settles_the_star_above_it() -> None:
    """Oracle: the words."""
    assert f"over {SEEDS} seeds" in best_shown(rested(**B200, show="load", seed="35", fine="off"))


STAR = point("TP 1", 5, 70, 350) | {"range_low": 341.0, "range_high": 356.0, "alike": ("TP 1", "TP 2")}
CLIENTS = Along("concurrency", "{} clients", "clients", "Clients")


def test_the_words_of_a_star() -> None:
    """By hand: the range; who is alike; and the next step that breaks a limit, not one that keeps them by
    chance."""
    assert range_words(STAR) == f"341 to 356 over {SEEDS} seeds"
    assert alike_words(STAR).startswith("TP 1 and TP 2 are alike")
    assert alike_words({**STAR, "alike": ("TP 1",)}) == "" == range_words(SWEEP[0]) == range_words(None)
    rows: list[dict[str, Any]] = [*SWEEP[:2], point("TP 1", 6, 60, 380, at_limit="tpot"), *SWEEP[2:]]
    text = sweep_finding(rows, STAR, SWEEP[2], load_scenario("slo_tpot_ms=22"), CLIENTS)
    assert f"350 tok/s per accelerator with TP 1 at 5 clients (341 to 356 over {SEEDS} seeds)." in text
    assert "At 16 clients" in text and "just within" not in text


def test_the_range_is_drawn() -> None:
    """By hand: 6 above and 9 below the star; nothing at a point of the grid."""
    drawn = [
        next(
            trace
            for trace in draw(SWEEP, best=best)["data"]
            if trace.get("marker", {}).get("symbol") == "star"
        )
        for best in (STAR, SWEEP[1])
    ]
    assert (drawn[0]["error_y"]["array"], drawn[0]["error_y"]["arrayminus"]) == ([6.0], [9.0])
    assert "error_y" not in drawn[1]


def test_the_share_of_rejected_requests_stands_beside_this_setting() -> None:
    """Oracle: the run itself: as many of its requests are longer than the model's context."""
    link = {"prompt_tokens": "60000", "prompt_cv": "0.5", "arrival_per_s": "0.1", "requests": "500"}
    app = healthy(open_page("1_Frontier.py", **link))
    rejected = run(load_scenario("&".join(map("=".join, link.items())))).rejected.mean()
    assert 0 < rejected < 1
    words = f"{percent(rejected)} of the requests are rejected, too long for context or KV cache"
    assert words in said(app)
    assert "rejected" not in said(healthy(open_page("1_Frontier.py", requests="500")))
