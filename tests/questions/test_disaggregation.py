"""One pool against two, and the page that shows it."""

from __future__ import annotations

import json
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from sim_core import load_scenario
from sim_core.command.main import main
from sim_core.engine.run import run
from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.price.pools import decode_of, one_pool_of, pool_prices
from sim_core.price.price import price_of
from sim_core.questions import disaggregation
from sim_core.scenario.link.page_settings import SETTINGS
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.saturation import saturation_per_s
from sim_core.view.disaggregation import figures as disaggregation_figures
from sim_core.view.disaggregation import page
from tests.visits import FINDING, address, finding, healthy, open_page, said

visit = partial(open_page, "5_Disaggregation.py")
BASE = Scenario(prompt_tokens=2000, output_tokens=100, requests=1500)


# --- the comparison -------------------------------------------------------------------------------


def test_both_ways_have_the_same_devices_and_requests() -> None:
    """Oracle: the scenarios: devices, arrivals and lengths are equal."""
    found = disaggregation.ways(BASE, 0.7)
    assert found.one.accelerators == found.two.accelerators == 8
    np.testing.assert_array_equal(found.one_run.prompt_tokens, found.two_run.prompt_tokens)
    np.testing.assert_allclose(found.one_run.arrival_s, found.two_run.arrival_s)


def test_the_load_is_a_share_of_what_saturates_one_pool() -> None:
    """Oracle: by hand: the rate over the saturation; a closed loop keeps its clients."""
    found = disaggregation.ways(BASE, 0.7)
    assert found.two.arrival_per_s / found.saturation_per_s == pytest.approx(0.7, rel=1e-3)
    closed, rate = disaggregation.loaded(BASE.replace(arrivals="closed", concurrency=40), 0.7)
    assert (closed.arrivals, closed.concurrency) == ("closed", 40)
    assert math.isnan(rate)


def test_what_is_served_is_the_share_within_the_limits_times_the_rate() -> None:
    """Oracle: counted by hand from the requests of the run after the warm-up."""
    found = disaggregation.ways(BASE.replace(prefill_workers=6, decode_workers=2, slo_ttft_ms=160.0), 0.8)
    done, first = found.two_run, int(0.1 * found.two_run.arrival_s.size)
    ttft_ms = 1e3 * (done.first_token_s - done.arrival_s)[first:]
    tpot_ms = (1e3 * (done.finished_s - done.first_token_s)[first:]) / np.maximum(
        done.output_tokens[first:] - 1, 1
    )
    within = (ttft_ms <= 160.0) & (tpot_ms <= found.two.slo_tpot_ms)
    assert 0 < within.mean() < 1
    assert found.two_point["served_per_s"] == pytest.approx(within.mean() * found.two.arrival_per_s)


def test_interference_is_gone_with_two_pools() -> None:
    """Oracle: the reason for splitting: no prompt stretches a gap between tokens."""
    found = disaggregation.ways(BASE.replace(prefill_workers=6, decode_workers=2), 0.6)
    assert found.two_point["itl_ms_p99"] < 1.5 * found.two_point["tpot_ms_p50"]
    assert found.one_point["itl_ms_p99"] > 3 * found.one_point["tpot_ms_p50"]


def test_the_best_ratio_moves_with_the_lengths() -> None:
    """Oracle: longer prompts need more prefill, longer answers more decode; theory agrees."""
    prefill, theory = [], []
    for prompt, output in ((4000, 50), (1000, 250), (250, 500)):
        scenario = BASE.replace(prompt_tokens=prompt, output_tokens=output)
        prefill.append(disaggregation.best_of(disaggregation.split_rows(scenario, 0.85))["prefill_workers"])
        theory.append(disaggregation.matched(scenario).workers)
    assert prefill == sorted(prefill, reverse=True) and prefill[0] > prefill[-1]
    assert theory == sorted(theory, reverse=True)
    assert np.abs(np.array(prefill) - theory).max() < 2


def test_rate_matching_by_hand() -> None:
    """Oracle: round figures of a measured engine.

    Eight prompts of 100 tokens, the batch limit, make a step of 800 tokens; between 20 ms at 8 and 1,000 ms
    at 1,000 that is 20 + 980 x 792 / 992 = 802.4 ms, so 100.3 ms each. Eight answers of 51 tokens take 50
    steps of 20 ms, so 125 ms each. Of 9 workers, 9 x 100.3 / 225.3 = 4.007 prefill.
    """
    scenario = Scenario(
        policy="disaggregated", prompt_tokens=100, output_tokens=51, prompt_cv=0.0, output_cv=0.0,
        step_profile="1:20,8:20,1000:1000,blocks:10000", token_budget=1000, max_batch=8, slo_tpot_ms=20.0,
        prefill_workers=4, decode_workers=5,
    )  # fmt: skip
    found = disaggregation.matched(scenario)
    assert found.batch == 8
    assert found.prefill_s == pytest.approx(0.1003, rel=1e-3)
    assert found.decode_s == pytest.approx(0.125)
    assert found.workers == pytest.approx(4.007, rel=1e-3)


def test_rate_matching_shares_the_launches_of_a_step_among_its_prompts() -> None:
    """Oracle: by hand: 32 layers of 0.1 ms a step, which takes eight prompts of 100 tokens."""
    scenario = Scenario(
        policy="disaggregated", prompt_tokens=100, prompt_cv=0.0, token_budget=1000, max_batch=8,
        calibration="submission",
    )  # fmt: skip
    found, without = (
        disaggregation.matched(scenario.replace(constants=own)) for own in ("", "prefill_step_layer:0")
    )
    assert found.prefill_s - without.prefill_s == pytest.approx(32 * 0.1e-3 / 8)


def test_rate_matching_counts_what_a_cache_has() -> None:
    """Oracle: round figures of a measured engine, and the system prompt by hand.

    Of eight prompts of 100 tokens 50 each are new: 20 + 980 x 392 / 992 = 407.3 ms, so 50.9 ms each. Where
    all 1,000 prompts begin with the same 64 tokens, 4 blocks, all but the first find them: 63.94%.
    """
    measured = Scenario(
        policy="disaggregated", prompt_tokens=100, output_tokens=51, prompt_cv=0.0, output_cv=0.0,
        step_profile="1:20,8:20,1000:1000,blocks:10000", token_budget=1000, max_batch=8, requests=1000,
    )  # fmt: skip
    stated = disaggregation.matched(measured.replace(prefix_hit_frac=0.5))
    assert stated.prefill_s == pytest.approx((20 + 980 * 392 / 992) / 8e3)
    shared = measured.replace(prompt_tokens=36, system_tokens=64, prefix_caching="on")
    found = disaggregation.matched(shared)
    assert found == disaggregation.matched(measured.replace(prefix_hit_frac=0.64 * 999 / 1000))
    assert disaggregation.matched(shared.replace(prefix_caching="off")) == disaggregation.matched(measured)


def test_rate_matching_counts_the_stages_of_a_decode_worker() -> None:
    """Oracle: the prices that two pools run on, in which a round of two stages takes twice as long.

    A token passes both stages, so fewer sequences keep the limit than by the step of one stage alone.
    """
    split = Scenario(
        policy="disaggregated", decode_pipeline_parallel=2, decode_tensor_parallel=1, max_batch=64
    )
    found, prices = disaggregation.matched(split), pool_prices(split)
    by_hand = disaggregation.matched_at(split, prices.prefill, prices.decode)
    assert found == by_hand
    one_stage = price_of(decode_of(split))
    assert found.decode_s > disaggregation.matched_at(split, prices.prefill, one_stage).decode_s


def test_the_trials_of_ranks_are_long_enough() -> None:
    """Oracle: eight ranks hold the sequences of eight engines, so a run must have eight times as many."""
    wide = {"model": "deepseek-r1", "tensor_parallel": 8, "attention_data_parallel": 8, "expert_parallel": 8}
    ranks = Scenario(policy="disaggregated", accelerator="h200", max_batch=16, requests=10, **wide)
    alone = ranks.replace(attention_data_parallel=1, expert_parallel=1)
    assert disaggregation._enough(ranks, 1e6) == 8 * disaggregation._enough(alone, 1e6)


def test_the_highest_rate_keeps_the_limits_and_a_higher_one_does_not() -> None:
    """Oracle: runs at the rate found and 15% above it."""
    two = disaggregation.split_of(BASE).replace(requests=3000, warmup_frac=0.3)
    top = disaggregation.ways(BASE, 0.7).saturation_per_s
    rate = disaggregation.highest_per_s(two, top)
    assert disaggregation._keeps(two, rate)
    assert not disaggregation._keeps(two, 1.15 * rate)


def test_the_map_compares_both_ways_cell_by_cell() -> None:
    """Oracle: the rates of one cell, searched for by themselves; the gain is their ratio."""
    axes = disaggregation.LENGTHS._replace(y_values=(1000, 4000), x_values=(32,))
    rows = disaggregation.gain_map(BASE, axes, 1500)
    assert [(row["prompt_tokens"], row["output_tokens"]) for row in rows] == [(1000, 32), (4000, 32)]
    for row in rows:
        assert row["gain_frac"] == pytest.approx(row["two_per_s"] / row["one_per_s"] - 1)
    assert rows[1]["gain_frac"] > 0.1  # long prompts and short answers are what splitting is for


def test_the_map_takes_the_split_that_serves_most() -> None:
    """Oracle: all splits by trying, within a step of the search (4%). At the rate of one pool three prefill
    workers keep the limits as well as four, which serve more."""
    base = Scenario(prompt_tokens=2000)
    axes = disaggregation.LIMITS._replace(y_values=(2000,), x_values=(15, 20, 25))
    for row in disaggregation.gain_map(base, axes):
        two = disaggregation.split_of(base).replace(slo_tpot_ms=row["slo_tpot_ms"])
        top = saturation_per_s(one_pool_of(two))
        requests = disaggregation._enough(two, top)
        splits = [disaggregation.split_of(two, count).replace(requests=requests) for count in (2, 3, 4, 5, 6)]
        assert row["two_per_s"] > 0.95 * max(disaggregation.highest_per_s(split, top) for split in splits)


def test_the_map_over_limits_rises_with_them() -> None:
    """Oracle: a looser limit forbids nothing: the highest rates cannot fall, but for the 4% of the search."""
    axes = disaggregation.LIMITS._replace(y_values=(500,), x_values=(12, 20, 70))
    rows = disaggregation.gain_map(BASE, axes, 1500)
    assert [row["slo_tpot_ms"] for row in rows] == [12, 20, 70]
    for way in ("one_per_s", "two_per_s"):
        rates = [row[way] for row in rows]
        assert all(after >= 0.95 * before for before, after in pairwise(rates))
        assert rates[-1] > 1.2 * rates[0]


@pytest.mark.parametrize(
    ("goodputs", "one", "expected"),
    [([1, 2, 3, 4], 2.5, math.sqrt(2 * 4)), ([3, 3, 3, 3], 2.0, 0.0), ([1, 1, 1, 1], 2.0, math.nan)],
)
def test_break_even_by_hand(goodputs: list[float], one: float, expected: float) -> None:
    """Oracle: by hand: on links of 1, 2, 4, 8 GB/s, between 2 and 4 in the logarithm; always; never."""
    rows = [{"kv_link_gb_per_s": 2.0**place, "served_per_s": value} for place, value in enumerate(goodputs)]
    assert disaggregation.break_even_gb_per_s(rows, one) == pytest.approx(expected, nan_ok=True)


def test_a_slow_link_eats_the_gain() -> None:
    """Oracle: the sweep: little is served over the slowest link, and the break-even lies within it."""
    scenario = BASE.replace(prefill_workers=5, decode_workers=3, slo_tpot_ms=25.0)
    found = disaggregation.ways(scenario, 0.8)
    rows = disaggregation.link_sweep(scenario, 0.8)
    even = disaggregation.break_even_gb_per_s(rows, found.one_point["served_per_s"])
    assert rows[0]["served_per_s"] < 0.5 * rows[-1]["served_per_s"]
    assert rows[0]["kv_link_gb_per_s"] < even < rows[-1]["kv_link_gb_per_s"]


def test_stage_rows_are_the_runs_own() -> None:
    """Oracle: the stages of the run, averaged."""
    found = disaggregation.ways(BASE, 0.7)
    rows = disaggregation.stage_rows(found)
    assert [row["what"] for row in rows] == ["mean", "p50", "p99"]
    assert rows[0]["prefill"] == pytest.approx(1e3 * found.two_run.stages()["prefill"].mean())
    assert sum(v for k, v in rows[2].items() if k != "what") > sum(
        v for k, v in rows[1].items() if k != "what"
    )


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", SETTINGS["pools"].choices)
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"over": "limits", "prefill_workers": "2", "decode_workers": "2"},
        {"arrivals": "closed", "concurrency": "300"},
        {"slo_tpot_ms": "1"},
    ],
)
def test_every_view_runs(view: str, query: dict[str, str]) -> None:
    """Oracle: no exception, a finding, a badge that names the two pools, an address with the view."""
    app = healthy(visit(pools=view, **query))
    assert FINDING in said(app)
    assert "two pools (policy)" in said(app).lower()
    assert address(app).get("pools", "ratio") == view


@pytest.mark.slow
@pytest.mark.parametrize("query", [
    {"model": "llama-3.1-405b"}, {"prefill_workers": "1", "decode_workers": "1"}, {"arrivals": "trace"},
    {"arrivals": "offline"},
    {"model": "deepseek-r1", "accelerator": "h200", "tensor_parallel": "8", "weight_dtype": "fp8"},
    {"step_profile": "1:15.1,256:220,blocks:9000"}, {"prefill_workers": "64", "decode_workers": "64"},
    {"pool_load": "1.2", "kv_link_gb_per_s": "0.01"},
])  # fmt: skip
def test_extreme_links_are_answered(query: dict[str, str]) -> None:
    """Oracle: no exception, and the finding."""
    assert FINDING in said(healthy(visit(**query)))


def test_the_finding_states_the_best_ratio() -> None:
    """Oracle: the rows behind the chart."""
    app = healthy(visit(slo_tpot_ms="20", prompt_tokens="2000"))
    scenario = load_scenario("slo_tpot_ms=20&prompt_tokens=2000")
    best = disaggregation.best_of(disaggregation.split_rows(page._neutral(scenario), 0.8))
    assert disaggregation_figures.ratio_name(best) in finding(app)


def test_figures_have_sentences() -> None:
    """Oracle: the figures' own rows."""
    found = disaggregation.ways(BASE, 0.8)
    rows = disaggregation.split_rows(BASE, 0.8)
    best = disaggregation.best_of(rows)
    assert "7 splits" in disaggregation_figures.ratios_sentence(rows, found.one_point, 8, best)
    assert "prefill" in disaggregation_figures.stages_sentence(disaggregation.stage_rows(found))
    figure = disaggregation_figures.splits_figure(rows, found.one_point, 8, best, 3.8, 4)
    assert len(figure["data"][0]["x"]) == 7
    json.dumps(figure)


@pytest.mark.parametrize(
    ("gain", "text"),
    [(math.nan, "×"), (0.0, "±0%"), (0.34, "+34%"), (-0.2, "−20%"), (2.0, "3×"), (math.inf, ">100×")],
)
def test_gains_as_cells_show_them(gain: float, text: str) -> None:
    """Oracle: by hand."""
    assert disaggregation_figures.gain_text({"gain_frac": gain}) == text


def test_the_command_line_runs_two_pools(capsys: pytest.CaptureFixture) -> None:
    """Oracle: the Python face; pools and stages are told, and the badge names what is not validated."""
    assert main(["run", "policy=disaggregated&requests=300"]) == 0
    found = json.loads(capsys.readouterr().out)
    done = run(load_scenario("policy=disaggregated&requests=300"))
    ttft_ms = 1e3 * (done.first_token_s - done.arrival_s)[30:].mean()
    assert found["metrics"]["ttft_ms"]["mean"] == pytest.approx(ttft_ms)
    assert set(found["pools"]) == {"prefill", "decode", "link", "stage_ms"}
    assert found["trust"]["badge"] == trust.EXTRAPOLATED
    assert main(["capacity", "policy=disaggregated&requests=300"]) == 0
    assert json.loads(capsys.readouterr().out)["arrival_per_s"] > 0


def test_one_pool_of_any_split_has_its_devices() -> None:
    """Oracle: by hand: 3 x 4 + 2 x 8 = 28 devices: engines of 8 do not divide them, engines of one do."""
    split = Scenario(
        policy="disaggregated", prefill_workers=3, decode_workers=2, prefill_tensor_parallel=4,
        decode_tensor_parallel=8,
    )  # fmt: skip
    assert (one_pool_of(split).tensor_parallel, one_pool_of(split).replicas) == (1, 28)


def test_too_many_workers_for_one_pool_are_named_as_they_are_set() -> None:
    """Oracle: the fields of the sidebar, 256 each, and the limit of one pool's engines."""
    wide = load_scenario("policy=disaggregated&prefill_workers=256&decode_workers=256")
    with pytest.raises(
        ScenarioError, match=r"256 prefill and 256 decode workers are 512 engines .* limit is 256"
    ):
        disaggregation.one_pool_of(wide)
