"""Any table of measurements is scored, whatever stands in it."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import scores, validate
from benchmarks.tables import KINDS, read_serving
from sim_core.evidence import errors
from sim_core.evidence.published import FAMILIES

CLOSED = next(kind for kind, traffic in KINDS.items() if traffic == "closed")
ROW = {
    "row_id": "A1", "source": "a list of my own", "date": "20260102", "engine": "vLLM",
    "engine_version": "0.12", "gpu": "H100-SXM", "n_gpus": "1", "tp": "1", "pp": "1", "dp_attention": "False",
    "ep": "1", "mode": "agg", "model": "Llama-3.1-8B", "precision": "fp8", "spec_decoding": "", "isl": "1024",
    "osl": "128", "length_note": "fixed", "concurrency_or_qps": "8", "metric_kind": CLOSED,
    "output_tok_s_total": "900", "ttft_ms_mean": "100", "tpot_ms_mean": "8", "notes": "",
}  # fmt: skip
TWO_POOLS = {
    "mode": "disagg", "tp": "", "prefill_workers": "1", "prefill_gpus_per_worker": "1", "decode_workers": "1",
    "decode_gpus_per_worker": "1",
}  # fmt: skip
HOSTILE = [
    ({"tp": ""}, "tp is blank or no number"),
    ({"tp": "two"}, "tp is blank or no number"),
    ({"tp": "2.5"}, "tp is not a whole number above 0"),
    ({"tp": "-1"}, "tp is not a whole number above 0"),
    ({"isl": ""}, "isl is blank or no number"),
    ({"osl": "inf"}, "osl is not a whole number above 0"),
    ({"concurrency_or_qps": ""}, "no TPOT or no concurrency"),
    ({"concurrency_or_qps": "inf"}, "concurrency_or_qps is not a whole number above 0"),
    ({"tpot_ms_mean": ""}, "no TPOT or no concurrency"),
    ({"tpot_ms_mean": "-3"}, "tpot_ms_unspecified is not a number above 0"),
    ({"model": "Llama-9"}, "model or accelerator without a preset"),
    ({"gpu": ""}, "model or accelerator without a preset"),
    ({"precision": "int3"}, "refused: the row: precision 'int3' is unknown."),
    ({"metric_kind": "vibes"}, "the source does not say what its figure counts"),
    ({"spec_decoding": "mtp"}, "speculative decoding (more than one token a step)"),
    ({"spec_decoding": "suspected"}, "speculative decoding suspected"),
    (
        {"dp_attention": "True", "mode": "disagg"},
        "two pools: which of them divides attention into ranks is not stated",
    ),
    ({"pp": "2"}, "pipeline parallelism (no such layout here)"),
    ({"mode": "disagg"}, "two pools, but not how many workers of how many devices"),
    ({"mode": "multi-node"}, "one replica on more than one node"),
    ({"tpot_ms_mean": "0.01"}, "faster than the datasheet allows, or of a campaign that mostly is"),
    ({"model": "DeepSeek-R1"}, "weights and one request do not fit the memory"),
    ({"metric_kind": "offline max throughput"}, "no closed loop: everything at once"),
]


def folder_of(tmp_path: Path, *changes: dict[str, str], without: str = "") -> Path:
    """Return a folder with a table of these rows."""
    keys = [key for key in dict.fromkeys([*ROW, *TWO_POOLS]) if key != without]
    with (tmp_path / "measured_serving.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, keys, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(ROW | {"row_id": f"A{place}"} | change for place, change in enumerate(changes))
    return tmp_path


def used(found: dict[str, Any]) -> int:
    return found["one_pool"]["tpot"]["n"] + found["two_pools"]["tpot"]["n"]


@pytest.mark.parametrize(("change", "reason"), HOSTILE)
def test_a_row_that_cannot_be_used_is_counted_with_its_reason(
    tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    """Oracle: the table above, each row beside a good one."""
    found = scores.scores(
        folder_of(tmp_path, {}, change | ({"engine": "SGLang"} if "0.01" in change.values() else {}))
    )
    assert used(found) == 1
    assert found["left_out"] == {reason: 1}


@pytest.mark.parametrize(
    "change",
    [
        {
            "ep": "",
            "n_gpus": "",
            "pp": "",
            "dp_attention": "",
            "mode": "",
            "precision": "",
            "length_note": "",
        },
        {"row_id": "", "date": "", "engine_version": "", "source": "", "ttft_ms_mean": ""},
        {"precision": "int4"},
        {"precision": "bfloat16"},
        {"ttft_ms_mean": "n/a", "output_tok_s_total": ""},
        {
            "model": "Kimi-K2.5",
            "gpu": "H200",
            "tp": "8",
            "n_gpus": "8",
            "precision": "int4",
            "tpot_ms_mean": "20",
        },
        {"spec_decoding": "none"},
        {"tp": "1", "n_gpus": "3"},
        TWO_POOLS,
    ],
)
def test_a_row_with_gaps_is_scored(tmp_path: Path, change: dict[str, str]) -> None:
    """Oracle: none of these cells is needed to price a step."""
    found = scores.scores(folder_of(tmp_path, change))
    assert (used(found), found["left_out"]) == (1, {})


@pytest.mark.parametrize(
    "layout", [{"tp": "3", "n_gpus": "3"}, {"model": "Qwen2-7B", "tp": "8", "n_gpus": "8"}]
)
def test_heads_that_do_not_divide_end_nothing(tmp_path: Path, layout: dict[str, str]) -> None:
    """Oracle: each row is used, or counted: 32 heads on 3 devices, 28 on 8."""
    found = scores.scores(folder_of(tmp_path, {}, layout))
    assert used(found) + sum(found["left_out"].values()) == 2


@pytest.mark.parametrize("column", sorted(ROW))
def test_a_missing_column_ends_nothing(tmp_path: Path, column: str) -> None:
    """Oracle: both rows are used, or counted, whatever column is not there."""
    found = scores.scores(folder_of(tmp_path, {}, {"concurrency_or_qps": "16"}, without=column))
    assert used(found) + sum(found["left_out"].values()) == 2


def test_a_run_printed_once_more_has_the_lengths_of_the_run(tmp_path: Path) -> None:
    """Oracle: ids of a source that copies InferenceX's runs, whose lengths are drawn, and of its own."""
    ids = ("kimi_k2_5_gap_analysis_h200_sxm_vllm", "kimi_k2_5_h200_sxm_vllm")
    folder = folder_of(
        tmp_path, *({"source": f"ai-dynamo/aiconfigurator: table.csv, id {name}"} for name in ids)
    )
    points, _ = read_serving(folder / "measured_serving.csv")
    assert [point.lengths for point in points] == ["80-100%", "fixed"]


@pytest.mark.parametrize("text", [None, "", "\n\n", "row_id\n", "a,b\n1,2,3\n", '"open', "\x00,\x00\n\x00\n"])
def test_a_table_without_rows_is_scored_as_nothing(tmp_path: Path, text: str | None) -> None:
    """Oracle: no row is used, and JSON holds no NaN."""
    if text is not None:
        (tmp_path / "measured_serving.csv").write_text(text, encoding="utf-8")
    for options in ([], ["--json"]):
        done = CliRunner().invoke(validate.main, [str(tmp_path), "--score", *options])
        assert done.exit_code == 0, done.output
    found = json.loads(done.output, parse_constant=pytest.fail)
    assert used(found) == 0 and found["one_pool"]["mla"]["ttft"]["median"] is None


def test_scores_by_hand(tmp_path: Path) -> None:
    """Oracle: predictions 1.5, 1.3, 1.1, 1 and 0.9 times the measured values, whose order they keep."""
    clients = [1, 2, 4, 8, 16]
    folder = folder_of(tmp_path, *({"concurrency_or_qps": str(count)} for count in clients))
    points, _ = read_serving(folder / "measured_serving.csv")
    predicted = errors.score(points).predicted
    ratios = (1.5, 1.3, 1.1, 1.0, 0.9)
    rows = [
        {
            "concurrency_or_qps": str(count),
            "ttft_ms_mean": str(row[0] / ratio),
            "tpot_ms_mean": str(row[1] / ratio),
        }
        | {"output_tok_s_total": ""}
        for count, row, ratio in zip(clients, predicted, ratios, strict=True)
    ]
    found = scores.scores(folder_of(tmp_path, *rows))
    tpot = found["one_pool"]["tpot"]
    assert (tpot["n"], tpot["median"], tpot["mean"], tpot["within_20"]) == (5, 10.0, 20.0, 60.0)
    assert tpot == found["one_pool"]["dense"]["tpot"] and tpot["rank"] == 1
    assert found["bands"]["validated"]["n"] == 5


def test_the_calibration_before_is_kept() -> None:
    """Oracle: another fingerprint on another day makes what was there the one before; else it stays."""
    families = ("all", *FAMILIES)
    old = ['date = "2026-01-01"', 'fingerprint = "a"', "[before]", 'date = "2025-12-01"']
    old += [
        f"[{kind}.{family}]\nrows = {rows}"
        for kind, rows in (("before", 1), ("model", 3))
        for family in families
    ]
    for mark, today, date, rows in (
        ("b", "2026-02-01", "2026-01-01", 3),
        ("a", "2026-02-01", "2025-12-01", 1),
        ("b", "2026-01-01", "2025-12-01", 1),
    ):
        found = tomllib.loads("\n".join(scores.before_lines("\n".join(old), mark, today)))["before"]
        assert (found["date"], found["all"]["rows"], found["mla"]["rows"]) == (date, rows, rows)
