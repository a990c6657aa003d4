"""What matters most: elasticities by arithmetic, noise, what is left out, the figure, the view."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import pytest

from sim_core import load_scenario
from sim_core.questions import compare, sensitivity
from sim_core.questions.sensitivity import FIGURES, is_sure, size, tornado
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.capacity import seeded
from sim_core.sweep.ranges import SEEDS
from sim_core.view.compare import figures as compare_figures
from sim_core.view.compare import sensitivity as view
from sim_core.view.drawing.words import duration
from sim_core.view.session import sweeps
from tests.visits import address, finding, healthy, open_page, said

PAGE = "11_Compare.py"
BASE = load_scenario("requests=400")
ALONE = BASE.replace(
    calibration="datasheet", arrivals="closed", concurrency=1, prompt_cv=0.0, output_cv=0.0, requests=100
)
STEPS = "1:8,256:30,context:0.00003"


def by_key(rows: list[dict]) -> dict[str, dict]:
    return {row["key"]: row for row in rows}


def test_one_user_decodes_at_the_memory_bandwidth() -> None:
    """Arithmetic: a step of one short sequence is bytes / bandwidth, so 10% more bandwidth takes 1 / 1.1 of
    the time (-9.09%), 10% less 1 / 0.9 (+11.1%): elasticity -1. No other spec has a part in it."""
    rows = by_key(tornado(ALONE.replace(prompt_tokens=16, output_tokens=200), "tpot"))
    assert rows["hbm_gb_per_s"]["more_frac"] == pytest.approx(1 / 1.1 - 1, abs=1e-4)
    assert rows["hbm_gb_per_s"]["less_frac"] == pytest.approx(1 / 0.9 - 1, abs=1e-4)
    assert rows["hbm_gb_per_s"]["elasticity"] == pytest.approx(-1, abs=1e-3)
    assert rows["bf16_tflop_per_s"]["more_frac"] == pytest.approx(0, abs=1e-6)
    assert rows["hbm_gb"]["elasticity"] == 0


def test_a_long_prompt_is_read_at_the_peak() -> None:
    """Arithmetic: the prefill of 8,000 tokens is FLOP / peak: elasticity -1 of TTFT, and of the prompt's
    length above 1, since attention grows with its square."""
    rows = by_key(tornado(ALONE.replace(prompt_tokens=8000, output_tokens=1), "ttft"))
    assert rows["bf16_tflop_per_s"]["elasticity"] == pytest.approx(-1, abs=0.01)
    assert rows["hbm_gb_per_s"]["elasticity"] == pytest.approx(0, abs=0.01)
    assert 1 < rows["prompt_tokens"]["elasticity"] < 2


def test_what_an_open_loop_pays() -> None:
    """Arithmetic: tokens a second are those asked for, so a token costs price / rate: 1 and -1."""
    rows = by_key(tornado(BASE.replace(requests=2000), "usd"))
    assert rows["price_usd_per_hour"]["elasticity"] == pytest.approx(1)
    assert rows["arrival_per_s"]["elasticity"] == pytest.approx(-1, abs=0.01)
    assert abs(rows["hbm_gb"]["elasticity"]) < 0.01


@pytest.mark.parametrize("figure", FIGURES)
def test_rows_are_sorted_and_complete(figure: str) -> None:
    """Oracle: the order of sizes; a change with its error for every lever; no link on one device."""
    rows = tornado(BASE, figure)
    sizes = [size(row) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert "link_gb_per_s" not in by_key(rows)
    assert ("arrival_per_s" in by_key(rows)) == (figure != "throughput")
    assert all(math.isfinite(row["more_error_frac"]) and row["base"] > 0 for row in rows)
    assert sorted(by_key(rows)) == sorted(sensitivity.levers(BASE, figure))
    assert "link_gb_per_s" in sensitivity.levers(BASE.replace(tensor_parallel=2), figure)


def test_two_devices_have_a_link() -> None:
    """Oracle: a row of its own."""
    assert "link_gb_per_s" in by_key(tornado(BASE.replace(tensor_parallel=2), "tpot"))


def test_noise_is_no_change() -> None:
    """Oracle: Student's interval: 5 changes that scatter around nothing are not sure, 5 alike are."""
    row = {"more_frac": 0.01, "more_error_frac": 0.02, "less_frac": -0.03, "less_error_frac": 0.02}
    assert not is_sure(row, "more") and is_sure(row, "less")
    rounding = {"more_frac": 1e-15, "more_error_frac": 0.0}
    assert not is_sure(rounding, "more")
    exact = {"more_frac": 0.0, "more_error_frac": 0.0, "less_frac": math.nan, "less_error_frac": math.nan}
    assert not is_sure(exact, "more") and not is_sure(exact, "less")


def test_levers_that_cannot_move_by_a_tenth_are_left_out() -> None:
    """By hand: one client more is twice as many; 256 ± 10% are 282 and 230; a mix has no flat length."""
    assert sensitivity.too_small(ALONE, "tpot") == ["concurrency"]
    assert "concurrency" not in sensitivity.levers(ALONE, "tpot")
    assert [sensitivity.moved(BASE, "max_batch", factor) for factor in (1.1, 0.9)] == [282, 230]
    assert sensitivity.moved(BASE.replace(hbm_gb=1e6), "hbm_gb", 1.1) == 1e6
    assert "prompt_tokens" not in sensitivity.levers(BASE.replace(mix="chat:1"), "tpot")
    assert "prompt_tokens" in sensitivity.levers(BASE.replace(mix="flat:0.5,chat:0.5"), "tpot")


def test_a_change_that_does_not_fit_has_no_bar() -> None:
    """Arithmetic: Llama-3.1-8B holds 16.1 GB; 20 GB x 0.85 = 17 leave no room with 10% less."""
    tight = BASE.replace(hbm_gb=20.0, token_budget=512, max_batch=8)
    row = by_key(tornado(tight, "tpot"))["hbm_gb"]
    assert math.isfinite(row["more_frac"]) and math.isnan(row["less_frac"]) and math.isnan(row["elasticity"])
    assert "cannot run" in view._moves(row, view.FIGURES["tpot"])[1]


def test_progress_reaches_from_nothing_and_is_remembered() -> None:
    """Oracle: the shares told, and the same list the second time."""
    told: list[float] = []
    scenario = BASE.replace(seed=77)
    rows = tornado(scenario, "tpot", told.append)
    assert told[0] == 0 and told == sorted(told) and told[-1] < 1
    assert tornado(scenario, "tpot") is rows is sensitivity.known_tornado(scenario, "tpot")


@pytest.mark.parametrize(
    ("profile", "fixed"),
    [
        (STEPS, ["bf16_tflop_per_s", "hbm_gb_per_s"]),
        (f"{STEPS},blocks:2000", ["bf16_tflop_per_s", "hbm_gb_per_s", "hbm_gb"]),
    ],
)
def test_measured_steps_do_not_follow_the_specs(profile: str, fixed: list[str]) -> None:
    """Oracle: the same run with half of a spec; what makes a difference stays, as do price and power."""
    scenario = BASE.replace(step_profile=profile, max_batch=1024, arrivals="offline", hbm_gb=40.0)
    assert sensitivity.without_effect(scenario) == fixed and sensitivity.without_effect(BASE) == []
    as_it_is = sensitivity.figure_of(scenario, "ttft")
    for key in ("bf16_tflop_per_s", "hbm_gb_per_s", "hbm_gb"):
        less = scenario.replace(**{key: sensitivity.moved(scenario, key, 0.5)})
        assert (sensitivity.figure_of(less, "ttft") == as_it_is) == (key in fixed)
        assert (key in sensitivity.levers(scenario, "ttft")) != (key in fixed)
    assert "price_usd_per_hour" in sensitivity.levers(scenario, "usd")
    assert "tdp_w" in sensitivity.levers(scenario, "joule")


def test_the_largest_seeds_are_no_end() -> None:
    """Oracle: every change is known."""
    rows = tornado(BASE.replace(seed=2**53 - 2), "tpot")
    assert all(math.isfinite(row["more_frac"]) for row in rows)


def test_the_figure_is_valid_and_noise_is_hollow() -> None:
    """Oracle: Plotly's own check; a clear fill for what is not sure; both moves have a mark of their own."""
    rows = tornado(BASE, "tpot")
    figure = compare_figures.tornado_figure(rows, view._label, "TPOT p99")
    go.Figure(figure)
    bars = figure["data"][:2]
    for bar, move in zip(bars, compare_figures.MOVES, strict=True):
        fills = dict(zip(bar["y"], bar["marker"]["color"], strict=True))
        for row in rows:
            assert (fills[view._label(row["key"])] != compare_figures.CLEAR) == is_sure(row, move)
    assert {text[0] for text in bars[0]["text"]} == {"▼"} and {text[0] for text in bars[1]["text"]} == {"▲"}
    assert bars[0]["y"][-1] == view._label(rows[0]["key"])  # the last category is drawn on top
    sentence = compare_figures.tornado_sentence(rows, view._label, "TPOT p99")
    assert all(view._label(row["key"]) in sentence for row in rows)


# --- the view -------------------------------------------------------------------------------------


def test_the_view_says_what_matters_most() -> None:
    """Oracle: the core's first row; the table; the address."""
    app = healthy(open_page(PAGE, requests="400", compare="sensitivity", sense="tpot"))
    first = tornado(BASE, "tpot")[0]
    assert view._label(first["key"]).lower() in finding(app)
    assert "elasticity" in said(app) and f"{SEEDS} runs" in said(app)
    assert address(app)["sense"] == "tpot"
    app.button_group(key="in_sense").set_value("usd").run()
    assert "open loop" in said(healthy(app))


def test_the_figure_is_that_on_which_frontier_settles() -> None:
    """Oracle: the present setting among the refined points of the Frontier page; the words that say so."""
    settled = sweeps.refined(sweeps.Sweep(BASE, "tensor_parallel", (1,), "load_frac")).here
    assert settled["requests"] > BASE.requests
    assert tornado(BASE, "tpot")[0]["base"] == settled["tpot_ms_p99"]
    shown = healthy(open_page(PAGE, requests="400", compare="sensitivity", sense="tpot"))
    assert duration(settled["tpot_ms_p99"]) in finding(shown)
    assert any("on which Frontier settles; these have 400" in item.value for item in shown.caption)


@pytest.mark.parametrize(
    "changes",
    [
        {"arrivals": "offline", "requests": 100},
        {"arrivals": "trace", "request_list": "0:100:20,1:200:30,2:100:50"},
        {"requests": 50_000},
    ],
)
def test_a_run_that_would_not_be_better_longer_is_told_itself(changes: dict) -> None:
    """Oracle: the figure of the scenario's own requests, and no word of a longer run."""
    scenario = BASE.replace(**changes)
    assert sensitivity.settled(scenario, "ttft") == sensitivity.figure_of(scenario, "ttft")
    assert "longer" not in view._reading(scenario, "ttft")


@pytest.mark.parametrize("figure", ["throughput", "tpot", "ttft"])
def test_what_cannot_run_has_no_figure(figure: str) -> None:
    """Oracle: the promise of the docstring: NaN, and no error, where the model does not fit."""
    rows = tornado(Scenario(model="llama-3.1-70b", accelerator="l4", requests=400), figure)
    assert rows and all(math.isnan(row["base"]) for row in rows)


def test_a_close_call_is_said() -> None:
    """Oracle: the core's best points: some of the runs have one, not all; no lever is called noise."""
    close = BASE.replace(requests=300, slo_ttft_ms=69.5)
    runs = sum(compare.best_within(seeded(close, turn)) is not None for turn in range(SEEDS))
    assert 1 < runs < SEEDS
    app = healthy(open_page(PAGE, requests="300", slo_ttft_ms="69.5", compare="sensitivity"))
    assert f"are a close call: of {SEEDS} runs, {runs} keep them at some load." in finding(app)
    assert "noise" not in said(app)


def test_a_lever_that_breaks_the_limits_is_no_noise() -> None:
    """By hand: 10% less is not within the limits in all runs; 10% more changes nothing."""
    row = {"key": "hbm_gb", "base": 100.0, "value": 80.0, "more_value": 88.0, "less_value": 72.0}
    row |= {"more_frac": 0.0, "more_error_frac": 0.0, "less_frac": math.nan, "less_error_frac": math.nan}
    assert "where it has a value" in view.sensitivity_finding([row], view.FIGURES["throughput"])
    assert "not within the limits in all runs" in view._moves(row, view.FIGURES["throughput"])[1]
    assert not any("No difference" in note for note in view._notes(BASE, "throughput", [row]))


def test_the_view_says_what_measured_steps_leave_out() -> None:
    """By hand: arithmetic and bandwidth are left out, not called noise."""
    app = healthy(open_page(PAGE, requests="400", compare="sensitivity", step_profile=STEPS))
    text = said(app)
    assert "measured step times do not follow the specs: bf16 arithmetic, memory bandwidth." in text
    assert text.lower().count("memory bandwidth") == 1


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"sense": "throughput", "slo_tpot_ms": "1"}, "No point keeps"),
        ({"sense": "usd", "accelerator": "groq-lpu-v1"}, "cannot run"),
        ({"sense": "usd", "accelerator": "tpu-v7"}, "no price is known"),
        ({"sense": "tpot", "output_tokens": "1", "output_cv": "0"}, "second token"),
        ({"sense": "nonsense"}, "depends most on"),
    ],
)
def test_what_has_no_figure_is_said(query: dict[str, str], words: str) -> None:
    """Oracle: no exception, and the reason."""
    app = healthy(open_page(PAGE, requests="400", compare="sensitivity", **query))
    assert words in said(app)


def test_the_network_is_a_lever_where_a_group_spans_nodes() -> None:
    """By definition: sixteen devices in nodes of eight use it, eight do not, nor one in either pool."""
    wide = Scenario(model="deepseek-r1", accelerator="h200", weight_dtype="fp8", tensor_parallel=16)
    key = "node_link_gb_per_s"
    assert key in sensitivity.movable_keys(wide, "throughput")
    assert key not in sensitivity.movable_keys(wide.replace(tensor_parallel=8), "throughput")
    pools = wide.replace(policy="disaggregated", prefill_tensor_parallel=8)
    assert key in sensitivity.movable_keys(pools, "throughput")
    assert key not in sensitivity.movable_keys(pools.replace(decode_tensor_parallel=8), "throughput")
