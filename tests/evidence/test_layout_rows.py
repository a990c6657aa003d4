"""Published runs with ranks of attention, and over several nodes, become scenarios of their layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.ranks import configurations, decodes_with_ranks, layout_lines, layout_scores
from benchmarks.runs import BY_RECIPE, HIDDEN, RUNS, Run, read_runs
from benchmarks.speculation import drafts_of, length_of, told_by_gaps
from sim_core.evidence.assumed import BALANCE_STEPS, scenario_of
from sim_core.evidence.published import PublishedPoint, campaign, recipe_of
from sim_core.price.pools import pool_prices
from tests.evidence.test_speculation_rows import RUN, SPLIT, table

PLAIN = {"spec": "none"}
GB200 = SPLIT | PLAIN | {"gpu": "gb200", "precision": "fp4", "framework": "dynamo-trt"}


def read(folder: Path, *changes: dict[str, str]) -> list[Run]:
    base = dict.fromkeys(("e2e_s_p50", "tok_s_per_gpu_out", "itl_ms_mean", *SPLIT), "") | RUN
    return read_runs(table(folder / RUNS, base, *changes) / RUNS, Counter())


def only(folder: Path, change: dict[str, str]) -> PublishedPoint:
    (found,) = read(folder, change)
    return found.point


# One pool


@pytest.mark.parametrize(("rate", "devices"), [("", 8), ("400", 8), ("50", 64)])
def test_devices_of_spread_experts_are_those_that_the_rate_tells(
    tmp_path: Path, rate: str, devices: int
) -> None:
    """Oracle: by hand: 32 clients x 921.6 tokens in 9.2 s are 3,200 a second: 400 each of 8, 50 each of 64.

    The benchmark prints tensor x expert parallelism as the devices of a group: 64; with ranks or without.
    """
    run = PLAIN | {"decode_dpattn": "True", "decode_ep": "8", "decode_gpus": "64", "conc": "32"}
    point = only(tmp_path, run | {"e2e_s_p50": "9.216", "tok_s_per_gpu_out": rate})
    assert (point.devices, point.tensor_parallel, point.ranks, point.expert_parallel) == (devices, 8, 8, 8)
    scenario = scenario_of(point)
    assert (scenario.attention_data_parallel, scenario.tensor_parallel) == (8, 8)
    assert not point.fitted and campaign(point)[0] == "closed, ranks"
    alone = only(tmp_path, run | {"decode_dpattn": "False", "e2e_s_p50": "9.216", "tok_s_per_gpu_out": rate})
    assert (alone.devices, alone.tensor_parallel, alone.ranks, alone.expert_parallel) == (devices, 8, 0, 8)


def test_ranks_wait_for_prompts_where_the_recipe_says_so(tmp_path: Path) -> None:
    """Oracle: `timeout_iters: 60` under `enable_balance` in the recipes of TensorRT-LLM; SGLang has none."""
    run = PLAIN | {"decode_dpattn": "True", "decode_ep": "8", "framework": "trt"}
    assert scenario_of(only(tmp_path, run)).prefill_wait_steps == BALANCE_STEPS == 60
    assert scenario_of(only(tmp_path, run | {"framework": "sglang"})).prefill_wait_steps == 0
    assert scenario_of(only(tmp_path, run | {"decode_dpattn": "False"})).prefill_wait_steps == 0


# Two pools


def test_two_pools_keep_their_layouts(tmp_path: Path) -> None:
    """Oracle: the row: 2 x DEP4 prefill, 1 x DEP32 decodes; 10 tok/s on each of 32 devices are 320 in all."""
    point = only(tmp_path, GB200 | {"conc": "100", "tok_s_per_gpu_out": "10"})
    scenario = scenario_of(point)
    assert (point.devices, point.output_tok_per_s) == (40, 320.0)
    assert scenario.accelerators == 40
    assert (scenario.prefill_attention_data_parallel, scenario.decode_attention_data_parallel) == (4, 32)
    assert (scenario.prefill_expert_parallel, scenario.decode_expert_parallel) == (4, 32)


def test_a_hidden_layout_is_that_of_the_recipe(tmp_path: Path) -> None:
    """Oracle: the comments of the recipes: DEP8 prefill and DEP32 decodes at high throughput, else TP4."""
    hidden = GB200 | {"framework": "dynamo-sglang", "prefill_tp": "1", "prefill_ep": "1", "decode_tp": "1"}
    hidden |= {"decode_ep": "1", "prefill_gpus": "16", "conc": "2048"}
    wide = only(tmp_path, hidden)
    assert (wide.prefill_devices, wide.prefill_ranks, wide.decode_devices, wide.decode_ranks) == (
        8,
        8,
        32,
        32,
    )
    assert wide.note == BY_RECIPE
    narrow = only(tmp_path, hidden | {"prefill_gpus": "8", "decode_workers": "8", "conc": "8"})
    assert (narrow.prefill_devices, narrow.prefill_ranks, narrow.decode_devices, narrow.decode_ranks) == (
        4,
        1,
        4,
        1,
    )


def test_experts_that_devices_do_not_divide_have_copies(tmp_path: Path) -> None:
    """Oracle: 256 experts and 32 copies are 6 each on 48 devices; prefill workers share theirs as ever."""
    wide = {"decode_tp": "48", "decode_ep": "48", "decode_gpus": "48", "prefill_ep": "1"}
    scenario = scenario_of(only(tmp_path, GB200 | wide | {"prefill_dpattn": "False"}))
    assert scenario.redundant_experts == 32
    prices = pool_prices(scenario)
    assert prices.prefill.kv_blocks > 0 and prices.decode.kv_blocks > 0
    assert scenario_of(only(tmp_path, GB200)).redundant_experts == 0


def test_fewer_devices_than_a_worker_has_hide_a_layout(tmp_path: Path) -> None:
    """Oracle: by hand: one decode worker of 32 devices whose tensor parallelism is 4 is none that is told."""
    left_out: Counter[str] = Counter()
    folder = table(tmp_path / RUNS, RUN | SPLIT, {"decode_tp": "4"})
    assert not read_runs(folder / RUNS, left_out) and dict(left_out) == {HIDDEN: 1}


def test_prefill_workers_of_a_recipe_have_ranks_where_nobody_says_otherwise(tmp_path: Path) -> None:
    """Oracle: InferenceX's records of TensorRT-LLM on two pools: a prefill worker has a rank of attention a
    device, unless a row says that it has not.
    """
    row = GB200 | {"isl": "8192", "prefill_workers": "1", "prefill_gpus": "4", "decode_workers": "4"}
    row |= {"decode_tp": "8", "decode_ep": "8", "decode_gpus": "32", "conc": "44"}
    point = only(tmp_path, row)
    asked = [scenario_of(point._replace(prefill_ranks=ranks)) for ranks in (0, 1, 4)]
    assert [each.prefill_attention_data_parallel for each in asked] == [4, 1, 4]
    unknown = scenario_of(point._replace(prefill_ranks=0, prefill_expert_parallel=0, clients=45))
    assert unknown.prefill_attention_data_parallel is None


def test_a_recipe_tells_batch_drafts_and_ranks(tmp_path: Path) -> None:
    """Oracle: the names of recipes: `ctx1_gen4_tep8_batch16` has no ranks, whatever the record says, and
    `ctx3_gen1_dep32_batch64_eplb288_mtp1` drafts one token, of 288 places for 256 experts."""
    plain = GB200 | {"isl": "8192", "prefill_workers": "1", "prefill_gpus": "4", "decode_workers": "4"}
    plain |= {"decode_tp": "8", "decode_ep": "8", "decode_gpus": "32", "conc": "44"}
    point = only(tmp_path, plain)
    assert (point.decode_ranks, scenario_of(point).max_batch) == (1, 16)
    mtp = GB200 | {"spec": "mtp", "prefill_workers": "3", "prefill_gpus": "12", "conc": "2253"}
    fast = only(tmp_path, mtp)
    recipe = recipe_of(fast, speculates=True)
    assert recipe is not None and recipe_of(fast) is None
    assert (recipe.decode_batch, recipe.redundant_experts, recipe.decode_ranks) == (64, 32, 32)
    assert drafts_of(fast) == 1


# Scores


def test_runs_of_several_days_are_one_configuration(tmp_path: Path) -> None:
    """Oracle: by hand: of 10, 12 and 30 ms the median counts; another number of clients is another one."""
    days = [GB200 | {"date": f"2026-01-0{day}", "tpot_ms_p50": tpot} for day, tpot in enumerate("abc", 1)]
    for day, tpot in zip(days, ("10", "12", "30"), strict=True):
        day["tpot_ms_p50"] = tpot
    points = [run.point for run in read(tmp_path, *days, GB200 | {"conc": "9"})]
    found = configurations(points)
    assert sorted(point.tpot_ms for point in found) == [9.0, 12.0]
    assert max(point.date for point in found) == "2026-01-03"


def test_ranks_and_nodes_are_scored_apart(tmp_path: Path) -> None:
    """Oracle: by hand: of four runs two have decodes in ranks, two are on two pools; speculation counts in
    neither, and a run whose layout only a recipe tells stands apart."""
    ranks = PLAIN | {"decode_dpattn": "True", "decode_ep": "8"}
    plain = GB200 | {"decode_dpattn": "False", "decode_tp": "8", "decode_gpus": "8", "decode_ep": "1"}
    hidden = GB200 | {"decode_tp": "1", "decode_ep": "1"}
    runs = read(tmp_path, ranks, plain, GB200, GB200 | {"spec": "mtp"}, PLAIN, hidden)
    assert sum(decodes_with_ranks(run.point) for run in runs) == 4
    found = layout_scores(runs)
    assert (found["dp_attention"]["n"], found["multi_node"]["n"]) == (2, 2)
    assert found["multi_node"]["groups"]["layout by recipe"]["n"] == 1
    assert {"tpot", "throughput", "ttft"} <= set(found["dp_attention"])
    assert found["dp_attention"]["tpot"]["n"] == 2
    assert layout_lines(found["multi_node"], "multi node")[1].split()[:2] == ["all", "2"]


def test_gaps_tell_what_is_accepted(tmp_path: Path) -> None:
    """Oracle: by hand: gaps of 21.4 tokens, streamed every 10 steps, are 2.14 a step of two drafts."""
    gaps = {"tpot_ms_mean": "10", "tpot_ms_p50": "10"}
    runs = read(tmp_path, *(gaps | {"conc": f"{c}", "itl_ms_mean": f"{210 + c}"} for c in (1, 4, 64)))
    told = told_by_gaps(runs)
    assert length_of(runs[0].point, 2, told=told) == pytest.approx(2.14)
    assert length_of(runs[0].point._replace(precision="fp4"), 2, told=told) == length_of(runs[0].point, 2)
