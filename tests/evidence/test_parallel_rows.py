"""Scores of layouts of many devices: rows of a small table, against arithmetic and the simulator."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import validate
from benchmarks.parallel import PARALLEL, parallel_lines, parallel_scores, read_parallel
from benchmarks.parallel_kinds import ALL_TO_ALL, TRANSFER, Shape, prompt_rate, shape_of
from benchmarks.series import series_of
from benchmarks.step_curve import STEP_CURVE, draft_ms, step_curve_lines, step_curve_scores, verify_ms
from sim_core.engine.run import run
from sim_core.evidence.further.layouts import published_series
from sim_core.price.price import price_of
from sim_core.price.steps.one_step import step_parts
from sim_core.scenario.scenario import Scenario
from tests.places import SHARED

REFERENCE = SHARED / "reference"
HEAD = (
    "id", "source", "date", "kind", "model", "gpu", "n_gpus", "layout", "engine", "precision", "isl", "osl",
    "concurrency", "metric", "value", "compared_with", "note",
)  # fmt: skip
COPY_BYTES = 7168 * (1 + 1 / 32 + 2)  # of a token of DeepSeek's: 8 bits and scales out, bf16 back


def row(**cells: Any) -> dict[str, str]:
    """Return a row of the table, blank but for some cells."""
    return {name: str(cells.get(name, "")) for name in HEAD}


def scored(folder: Path, *rows: dict[str, str]) -> dict[str, Any]:
    lines = [",".join(HEAD), *(",".join(f'"{each[name]}"' for name in HEAD) for each in rows)]
    (folder / PARALLEL).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return parallel_scores(folder)


SENT = row(kind=ALL_TO_ALL, gpu="h100_sxm", n_gpus=16, concurrency=256, value=1)
WIDE = row(
    kind="wide EP decode", model="DeepSeek-V3 class", gpu="H200", n_gpus=32, layout="DP32 EP32",
    engine="vLLM", precision="fp8", isl=2000, osl=2000, concurrency="256 per rank", value=1,
)  # fmt: skip
PROMPTS = row(
    kind="prefill layouts", model="GLM-5.2-NVFP4", gpu="B300", n_gpus=2, layout="TP1 DP2 EP",
    engine="vLLM 0.26", precision="nvfp4", isl=8192, value=1,
)  # fmt: skip
STAGES = row(
    kind="pipeline, prefill throughput over PP1 TP8", model="DeepSeek-V3.1", gpu="H20", n_gpus=32,
    layout="PP4 TP8, chunk 4k", engine="SGLang", isl=131_072, value=1,
)  # fmt: skip
MOVED = row(
    kind=TRANSFER, model="larger model, 200 GB/s", gpu="H800", note="789 MB, 122.7 GB/s", value=1,
    source="Mooncake docs/performance/sglang/results.md",
)  # fmt: skip
CHIPS = row(
    kind="TPU v7 serving", source="SemiAnalysisAI/InferenceX-app", model="Qwen3.5-397B-A17B", gpu="TPU v7",
    layout="TP8", engine="vLLM TPU", precision="fp8", isl=256, osl=32, concurrency=2, value=1,
    note="TTFT mean 30 ms, TPOT mean 7 ms",
)  # fmt: skip
POOLS = row(
    kind="multi-node disaggregated", model="DeepSeek-V4-Pro", gpu="GB200", n_gpus=16, engine="Dynamo vLLM",
    layout="P 8 GPUs TP8 + D 8 GPUs EP8", precision="fp4", isl=256, osl=32, concurrency=2, value=1,
    note="TPOT 13.26 ms",
)  # fmt: skip
EVEN = row(
    kind="expert imbalance", model="DeepSeek-V4-Pro", gpu="MI355X", n_gpus=8, engine="ATOM", isl=256, osl=1,
    layout="dp-attn EPLB naive, 64 redundant", concurrency=8, metric="req/s", value=1,
)  # fmt: skip
LIMITS = row(
    kind="disaggregated, multi-node, SLO (mean TPOT <= 20 ms)", model="GLM-5.2-NVFP4", gpu="B300", n_gpus=24,
    layout="4P (TP1 DP4 EP) + 1D (TP1 DP8 EP), MTP 3 / 1", engine="vLLM", precision="nvfp4", isl=256,
    value=1000, note="TTFT mean 0.1 s, TPOT mean 10 ms",
)  # fmt: skip
EACH = (SENT, WIDE, PROMPTS, STAGES, MOVED, CHIPS, POOLS, EVEN, LIMITS)


# --- as predicted -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        ("DP32 EP32 + TBO + EPLB", Shape(32, 32, 32, 1, 0)),
        ("4 x DP2 EP2", Shape(2, 2, 2, 1, 0)),
        ("TP2 DP1 EP", Shape(2, 1, 2, 1, 0)),
        ("TP2", Shape(2, 1, 1, 1, 0)),
        ("PP4 TP8, chunk 4k", Shape(8, 1, 1, 4, 0)),
        ("TP8 EP8 dp-attn MTP1", Shape(8, 8, 8, 1, 1)),
    ],
)
def test_layouts_are_read_as_engines_word_them(layout: str, told: Shape) -> None:
    """By hand: TP devices of each of DP ranks; EP alone spreads experts over all of them."""
    assert shape_of(layout) == told


def test_networks_by_hand(tmp_path: Path) -> None:
    """By hand: half of what 16 H100 exchange crosses nodes; 2 ms and 789 MB at 82.5% of 200 GB/s."""
    sent_us = 27 + 15 + 4.1 + 256 * 8 * COPY_BYTES * 8 / 16 / (0.92 * 50e9) * 1e6
    moved_ms = 2.0 + 789 / (0.825 * 200)
    found = scored(tmp_path, {**SENT, "value": f"{sent_us}"}, {**MOVED, "value": f"{moved_ms / 1.1}"})
    assert found[ALL_TO_ALL]["median"] == 0 and found[ALL_TO_ALL]["seen"]
    assert found[TRANSFER]["median"] == pytest.approx(10) and found[TRANSFER]["n"] == 1


def test_decodes_of_all_ranks_are_the_simulators_step(tmp_path: Path) -> None:
    """Oracle: the price of one step of the simulator, 256 decodes of 3,000 tokens on each of 32 ranks."""
    layout = dict.fromkeys(("tensor_parallel", "expert_parallel", "attention_data_parallel"), 32)
    scenario = Scenario(
        model="deepseek-v3", accelerator="h200", weight_dtype="fp8", engine="vllm", max_batch=512, **layout
    )
    each = 256 / sum(step_parts(price_of(scenario), 256, 3000).values())
    found = scored(tmp_path, {**WIDE, "value": f"{each}"})["wide EP decode"]
    assert found["n"] == 1 and found["median"] == pytest.approx(0, abs=0.01)
    assert not found["seen"]


@pytest.mark.parametrize(("ranks", "prompt_tokens"), [(1, 2048), (1, 20_000), (4, 8192)])
def test_prompt_rates_are_the_simulators(ranks: int, prompt_tokens: int) -> None:
    """Oracle: the simulator, as many prompts waiting, whose answers are one token; but for a last step."""
    layout = {"tensor_parallel": 4, "expert_parallel": ranks, "attention_data_parallel": ranks}
    many = 16 * ranks
    scenario = Scenario(
        model="qwen3-235b-a22b", accelerator="b200", weight_dtype="fp8", policy="chunked", token_budget=8192,
        max_batch=many, arrivals="offline", requests=many, prompt_tokens=prompt_tokens, prompt_cv=0.0,
        output_tokens=1, output_cv=0.0, **layout,
    )  # fmt: skip
    engine_s = float(run(scenario).finished_s.max()) - price_of(scenario).request_after_s
    simulated = many * prompt_tokens / engine_s / 4
    assert prompt_rate(scenario, prompt_tokens) == pytest.approx(simulated, rel=0.03)


def test_a_speed_up_is_that_of_lone_prompts(tmp_path: Path) -> None:
    """Oracle: the simulator, one prompt at a time in chunks of 4,096 through one stage and through four."""

    def lone_s(accelerator: str, stages: int) -> float:
        scenario = Scenario(
            model="deepseek-v3", accelerator=accelerator, tensor_parallel=8, pipeline_parallel=stages,
            weight_dtype="native", engine="sglang", policy="chunked", token_budget=4096, requests=1,
            max_batch=1, concurrency=1, arrivals="closed", prompt_tokens=131_072, prompt_cv=0.0,
            output_tokens=1, output_cv=0.0,
        )  # fmt: skip
        price = price_of(scenario)
        outside_s = price.before_s(run(scenario).prompt_tokens) + price.request_after_s
        return float(run(scenario).finished_s[0]) - outside_s

    ratio = lone_s("h20-141", 1) / lone_s("h20", 4)
    found = scored(tmp_path, {**STAGES, "value": f"{ratio}"})["pipeline, prefill throughput"]
    assert found["n"] == 1 and found["median"] == pytest.approx(0, abs=1.0)


def test_serving_rows_have_a_figure_each(tmp_path: Path) -> None:
    """By hand: a total in the value, latencies in the note; ten times the total is ten times too high."""
    times = 1 + scored(tmp_path, CHIPS)["TPU v7 serving"]["bias"] / 100
    found = scored(tmp_path, CHIPS, {**CHIPS, "value": "10"}, POOLS, EVEN, LIMITS)
    rate = found["TPU v7 serving"]
    assert rate["n"] == 2
    assert rate["mean"] == pytest.approx(100 * (abs(times - 1) + abs(times / 10 - 1)) / 2, rel=1e-3)
    assert found["TPU v7 serving, TTFT"]["n"] == found["TPU v7 serving, TPOT"]["n"] == 2
    assert "multi-node disaggregated, TTFT" not in found
    assert found["multi-node disaggregated, TPOT"]["n"] == 1
    assert found["expert imbalance"]["n"] == 1
    assert found["disaggregated, multi-node, SLO, TPOT"]["n"] == 1
    assert found["rows"] == 5 and not found["left_out"]
    assert "TPU v7 serving, TTFT" in "\n".join(parallel_lines(found))


def test_even_experts_are_those_of_a_stated_balance(tmp_path: Path) -> None:
    """Oracle: ranks of eight H200 in overlapping halves; the second of two figures is of even experts."""
    layout = dict.fromkeys(("tensor_parallel", "expert_parallel", "attention_data_parallel"), 8)
    scenario = Scenario(
        model="deepseek-v3", accelerator="h200", weight_dtype="native", engine="sglang", token_budget=8192,
        two_batch_overlap="on", expert_imbalance=1.0, **layout,
    )  # fmt: skip
    node = 8 * prompt_rate(scenario, 4096)
    even = row(
        kind="expert imbalance", model="DeepSeek-V3", gpu="H200", n_gpus=8, engine="SGLang", isl=4096,
        metric="tok/s per node, default experts / simulated perfect balance", value=f"1 / {round(node)}",
    )  # fmt: skip
    found = scored(tmp_path, even, {**even, "value": "1"})
    assert found["expert imbalance, experts even"]["median"] == pytest.approx(0, abs=0.01)
    assert found["left_out"] == {"no figure, or one in words": 1}


# --- as left out ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({**WIDE, "model": "A model of mine"}, "model or accelerator not told, or without a preset"),
        ({**WIDE, "value": "about 3"}, "no figure, or one in words"),
        ({**WIDE, "value": "-3"}, "value is not a number above 0"),
        ({**WIDE, "isl": ""}, "isl is blank or no number"),
        ({**STAGES, "layout": "PP4 TP8, dynamic 12k"}, "chunks that become shorter along a prompt"),
        ({**CHIPS, "layout": "TP1 DP8"}, "a rank of attention is half an accelerator"),
        ({**EVEN, "layout": "dp-attn ep, no EPLB"}, "how unevenly experts are chosen is not told"),
        (
            {**POOLS, "layout": "P 8 GPUs TP8 + D 32 GPUs EP1"},
            "two pools, one of which has more devices than its layout tells",
        ),
        ({**POOLS, "layout": "two of them"}, "two pools whose layouts are not told"),
        ({**LIMITS, "note": ""}, "no latency beside the rate that was sent"),
        ({**MOVED, "note": "some"}, "no bytes, or no rate of the links"),
        ({**WIDE, "kind": "pipeline, open loop 3 req/s"}, "pipeline, open loop: lengths are not told"),
        ({**WIDE, "kind": "vibes"}, "no layout is modelled by such rows: vibes"),
        (
            {**WIDE, "layout": "DP3 EP2"},
            "cannot be run as stated: expert_parallel is 2 but tensor_parallel is 3",
        ),
    ],
)
def test_a_row_that_cannot_be_set_up_is_counted_with_its_reason(
    tmp_path: Path, cells: dict[str, str], reason: str
) -> None:
    """By hand: one row, one reason in words, nothing scored."""
    found = scored(tmp_path, cells)
    assert found["rows"] == 0
    ((said, count),) = found["left_out"].items()
    assert said.startswith(reason) and count == 1


@pytest.mark.parametrize("cells", EACH, ids=lambda cells: cells["kind"][:20])
@pytest.mark.parametrize("column", HEAD)
def test_whatever_a_cell_holds_ends_nothing(tmp_path: Path, cells: dict[str, str], column: str) -> None:
    """Invariant: every row is used or left out with a reason, however strange one of its cells is."""
    rows = [{**cells, column: text} for text in ("", "nonsense", "0", "-1", "1.2.3 TP DP0 EP0", "nan")]
    found = scored(tmp_path, *rows)
    assert found["rows"] + sum(found["left_out"].values()) == len(rows)
    assert all(found["left_out"])


def test_a_folder_without_the_tables_has_no_such_scores(tmp_path: Path) -> None:
    """By hand: the sections stand where the tables do."""
    runner = CliRunner()
    bare = json.loads(runner.invoke(validate.main, [str(tmp_path), "--score", "--json"]).output)
    assert not {"parallel", "step_curve"} & set(bare)
    scored(tmp_path, SENT)
    (tmp_path / STEP_CURVE).write_text("kind,x,ms,source\nverify: tokens in the step,1,5,\n")
    more = json.loads(runner.invoke(validate.main, [str(tmp_path), "--score", "--json"]).output)
    assert {name: more[name] for name in bare} == bare
    assert more["parallel"]["rows"] == more["step_curve"]["rows"] == 1
    assert "within_20" in runner.invoke(validate.main, [str(tmp_path), "--score"]).output


# --- steps ------------------------------------------------------------------------------------------


def test_a_verification_is_a_step_of_the_simulator(tmp_path: Path) -> None:
    """Oracle: the price of a step of 16 decodes with seven drafts each, which are looked up for nothing."""
    scenario = Scenario(
        model="deepseek-v4-flash", accelerator="b300", tensor_parallel=4, expert_parallel=4,
        weight_dtype="native", kv_dtype="fp8", engine="vllm", spec_tokens=7, acceptance_length=2.0,
        draft="ngram", constants="sequence:0",
    )  # fmt: skip
    by_price_ms = 1e3 * sum(step_parts(price_of(scenario), 16, 8192).values())
    assert verify_ms(128) == pytest.approx(by_price_ms)
    drafted = scenario.replace(draft="parallel", constants="sequence:0,draft:0,draft_sequence:0")
    both_ms = 1e3 * sum(step_parts(price_of(drafted), 16, 8192).values())
    assert draft_ms(16) == pytest.approx(both_ms - by_price_ms)
    lines = ["kind,x,ms", f"verify: tokens,128,{by_price_ms / 1.5}", f"draft: requests,16,{draft_ms(16)}"]
    lines += [
        "verify: tokens,2047,1",
        "verify: tokens,some,1",
        "sleep,1,1",
        "draft: requests,1,",
        "draft,9e8,1",
    ]
    (tmp_path / STEP_CURVE).write_text("\n".join(lines))
    found = step_curve_scores(tmp_path)
    assert found["verify"]["median"] == pytest.approx(50) and found["draft"]["median"] == 0
    assert found["verify_beyond_graphs"]["n"] == 1
    assert found["rows"] == 3 and sum(found["left_out"].values()) == 4
    assert "draft" in "\n".join(step_curve_lines(found))


def test_rows_are_shown_in_series_of_a_layout(tmp_path: Path) -> None:
    """By hand: three figures of one network are a series from least to largest, another is its own."""
    half = [{**MOVED, "value": f"{value}"} for value in (4, 2, 8)]
    scored(tmp_path, *half, {**SENT, "value": "100"})
    moved, sent = series_of(read_parallel(tmp_path / PARALLEL, Counter()))
    assert (moved.rows, moved.measured_low, moved.measured_high) == (3, 2.0, 8.0)
    assert moved.predicted_low == moved.predicted_high == pytest.approx(2 + 789 / 165)
    assert moved.ratio == pytest.approx(moved.predicted_low / 4) and moved.seen
    assert sent.rows == 1 and sent.accelerator == "h100_sxm"


def test_what_is_shown_is_what_is_predicted() -> None:
    """Oracle: the steps of the curve as they are predicted now; every series counts and has a source."""
    shown = {series.figure: series for series in published_series()}
    assert shown["seven drafts, ms"].predicted_high == pytest.approx(draft_ms(256), rel=1e-3)
    assert shown["verification, ms"].predicted_low == pytest.approx(verify_ms(1), rel=1e-3)
    assert all(series.rows > 0 and series.source and series.ratio > 0 for series in published_series())


@pytest.mark.skipif(not (REFERENCE / PARALLEL).exists(), reason="the tables lie beside the checkout")
def test_every_published_row_is_used_or_left_out_with_a_reason() -> None:
    """Oracle: the tables' own rows; what is measured of networks is met within 5% in the median."""
    found = parallel_scores(REFERENCE)
    assert found["rows"] + sum(found["left_out"].values()) == 198
    assert found["rows"] >= 160
    assert found[ALL_TO_ALL]["median"] <= 5 and found[TRANSFER]["median"] <= 5
    assert found["wide EP decode"]["median"] <= 10 and found["prefill layouts"]["median"] <= 30
    steps = step_curve_scores(REFERENCE)
    assert steps["rows"] == 123 and not steps["left_out"]
