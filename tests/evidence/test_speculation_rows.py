"""Published runs with speculation are read and scored, whatever stands in their tables."""

from __future__ import annotations

import csv
import json
import math
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import speculation, validate
from benchmarks.drafts import drafts_lines, fit_drafts
from benchmarks.pairs import PAIRS, read_pairs
from benchmarks.runs import HIDDEN, RUNS, read_runs, without_speculation
from benchmarks.speculation import (
    DRAFT_CONSTANTS,
    DRAFTS_FILE,
    RANDOM_PROMPTS,
    Predicted,
    Simulated,
    drafts_of,
    length_of,
    speculation_scores,
    unseen_constants,
)
from sim_core.catalogue.calibrations import calibration
from sim_core.evidence import published as measured
from sim_core.evidence.published import PublishedPoint

RUN = {
    "file": "runs.json", "date": "2026-01-02", "model": "dsr1", "gpu": "h200", "framework": "sglang",
    "image": "v1", "precision": "fp8", "spec": "mtp", "disagg": "False", "multinode": "False",
    "decode_tp": "8", "decode_ep": "1", "decode_dpattn": "False", "decode_gpus": "8", "isl": "1024",
    "osl": "1024", "conc": "4", "ttft_ms_mean": "", "ttft_ms_p50": "150", "tpot_ms_mean": "",
    "tpot_ms_p50": "9", "run_url": "",
}  # fmt: skip
PAIR = {
    "id": "P1", "source": "InferenceX, a list", "date": "2026-01-02", "model": "DeepSeek-R1-0528",
    "gpu": "h200", "n_gpus": "8", "layout": "tp8 ep1", "engine": "sglang", "precision": "fp8",
    "method": "MTP", "spec_tokens": "", "acceptance_length": "", "workload": "random", "isl": "1024",
    "osl": "1024", "concurrency": "4", "metric": "median TPOT ms", "base": "12", "spec": "8", "speedup": "",
}  # fmt: skip
SPLIT = {
    "disagg": "True", "multinode": "True", "prefill_workers": "2", "prefill_gpus": "8", "prefill_tp": "4",
    "prefill_ep": "4", "prefill_dpattn": "True", "decode_workers": "1", "decode_gpus": "32",
    "decode_tp": "32", "decode_ep": "32", "decode_dpattn": "True",
}  # fmt: skip
BAD_RUNS = [
    ({"spec": ""}, "speculation not stated"),
    ({"spec": "eagle"}, "speculation not stated"),
    ({"disagg": "True"}, "two pools, but not how many workers of how many devices"),
    ({"disagg": "True", "prefill_workers": "0"}, "two pools, but not how many workers of how many devices"),
    ({"multinode": "True", "decode_gpus": "12"}, "one replica on more than one node, its layout not stated"),
    ({"decode_dpattn": "True", "decode_tp": "1"}, HIDDEN),
    ({"gpu": "z9"}, "model or accelerator without a preset"),
    ({"model": "nobody"}, "model or accelerator without a preset"),
    ({"tpot_ms_p50": ""}, "no TPOT or no concurrency"),
    ({"conc": ""}, "no TPOT or no concurrency"),
    ({"tpot_ms_p50": "-1"}, "tpot_ms_mean is not a number above 0"),
    ({"isl": ""}, "isl is blank or no number"),
    ({"decode_tp": "two"}, "decode_tp is blank or no number"),
    ({"precision": "int3"}, "refused: the row: precision 'int3' is unknown."),
]
BAD_PAIRS = [
    ({"method": "guessing"}, "speculation by a method that is not modelled"),
    ({"method": "DSpark adaptive"}, "speculation that adapts to what was accepted"),
    ({"metric": "ratio of output tok/s"}, "not held against a run without speculation"),
    ({"layout": "disagg tp8 ep8 decode x1"}, "more than one pool, or data-parallel attention"),
    ({"layout": "dp-attn ep16"}, "more than one pool, or data-parallel attention"),
    ({"model": "Nobody-1"}, "model or accelerator without a preset"),
    ({"gpu": ""}, "model or accelerator without a preset"),
    ({"base": "", "speedup": ""}, "no speed-up, nor what it follows from"),
    ({"concurrency": ""}, "concurrency is blank or no number"),
]


def table(path: Path, base: dict[str, str], *changes: dict[str, str], without: str = "") -> Path:
    """Write rows that differ from a good one, and return their folder."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [key for key in base if key != without], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(base | change for change in changes)
    return path.parent


@pytest.mark.parametrize(("change", "reason"), BAD_RUNS)
def test_a_run_that_cannot_be_used_is_counted(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    """Oracle: the table above, each row beside a good one."""
    left_out: Counter[str] = Counter()
    found = read_runs(table(tmp_path / RUNS, RUN, {}, change) / RUNS, left_out)
    assert ([run.method for run in found], dict(left_out)) == (["mtp"], {reason: 1})


def test_a_run_in_two_files_is_one(tmp_path: Path) -> None:
    """Oracle: alike in all that was measured; another image, another TTFT or no speculation is another."""
    rows: list[dict[str, str]] = [{}, {"file": "history.json"}, {"ttft_ms_p50": "151"}, {"spec": "none"}]
    left_out: Counter[str] = Counter()
    found = read_runs(table(tmp_path / RUNS, RUN, *rows) / RUNS, left_out)
    assert [run.method for run in found] == ["mtp", "mtp", ""]
    assert left_out == {"the same run a second time": 1}


@pytest.mark.parametrize("column", sorted(RUN))
def test_a_missing_column_ends_nothing(tmp_path: Path, column: str) -> None:
    """Oracle: both rows are used or counted, whatever column is not there."""
    left_out: Counter[str] = Counter()
    folder = table(tmp_path / RUNS, RUN, {}, {"conc": "8", "ttft_ms_p50": "9"}, without=column)
    found = read_runs(folder / RUNS, left_out)
    assert len(found) + sum(left_out.values()) == 2


def test_a_run_that_speculated_is_no_plain_one(tmp_path: Path) -> None:
    """Oracle: part, lengths, clients and TTFT to 0.02% are those of a run with speculation."""
    point = next(point for point in measured.points() if point.accelerator == "h200" and point.clients == 4)
    same = {"isl": str(point.prompt_tokens), "osl": str(point.output_tokens), "ttft_ms_p50": "100.01"}
    folder = table(tmp_path / RUNS, RUN, same)
    points = [point._replace(ttft_ms=ttft) for ttft in (100.0, 101.0, math.nan)]
    left_out: Counter[str] = Counter()
    assert len(without_speculation(points, folder / RUNS, left_out)) == 2
    assert left_out == {"speculative decoding (more than one token a step)": 1}
    assert without_speculation(points, tmp_path / "none.csv", left_out) == points


@pytest.mark.parametrize(("change", "reason"), BAD_PAIRS)
def test_a_pair_that_cannot_be_used_is_counted(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    """Oracle: the table above, each row beside a good one."""
    left_out: Counter[str] = Counter()
    found = read_pairs(table(tmp_path / PAIRS, PAIR, {}, change) / PAIRS, left_out)
    assert (len(found), dict(left_out)) == (1, {reason: 1})


@pytest.mark.parametrize(
    ("change", "speed_up", "of_user"),
    [
        ({}, 1.5, True),
        ({"metric": "output tok/s total", "base": "100", "spec": "80"}, 0.8, False),
        ({"metric": "tok/s/user", "base": "100", "spec": "180"}, 1.8, True),
        ({"base": "", "speedup": "1.9"}, 1.9, True),
    ],
)
def test_a_speed_up_is_above_one_where_speculation_gains(
    tmp_path: Path, change: dict[str, str], speed_up: float, of_user: bool
) -> None:
    """Oracle: by hand: times fall, rates rise."""
    (pair,) = read_pairs(table(tmp_path / PAIRS, PAIR, change) / PAIRS, Counter())
    assert (pair.speed_up, pair.of_user) == (pytest.approx(speed_up), of_user)
    assert (pair.point.model, pair.point.tensor_parallel, pair.point.lengths) == ("deepseek-r1", 8, "80-100%")


def test_what_a_recipe_drafts_and_what_is_accepted(tmp_path: Path) -> None:
    """Oracle: 2.50 tokens with three drafts; with two, each accepted with the same chance, 1 + p + p^2."""
    (run,) = read_runs(table(tmp_path / RUNS, RUN, {}) / RUNS, Counter())
    assert drafts_of(run.point) == 2
    assert drafts_of(run.point._replace(accelerator="mi355x")) == 3
    assert drafts_of(run.point._replace(engine="an engine")) == 0
    assert length_of(run.point, 3) == pytest.approx(RANDOM_PROMPTS[1])
    p = next(p / 1e4 for p in range(10_000) if 1 + p / 1e4 + (p / 1e4) ** 2 + (p / 1e4) ** 3 >= 2.5)
    assert length_of(run.point, 2) == pytest.approx(1 + p + p * p, abs=1e-3)


def made_up(monkeypatch: pytest.MonkeyPatch, gains: dict[int, float]) -> None:
    """Let runs without speculation take 12 ms a token, and those with it by clients so many times less."""

    def simulated(point: PublishedPoint, own: object = None, **changes: Any) -> Simulated:
        gain = gains[point.clients] if changes else 1.0
        return Simulated(12 / gain, 100 * gain)

    monkeypatch.setattr(speculation, "simulated", simulated)


def test_scores_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand. TPOT 8, 10 and 12 ms measured, 8.8, 10 and 9 predicted: 10, 0 and 25% off.

    Pairs of MI355X gain 1.5 and 1.2, in the median 1.35; H200's own 1.5 alone is not asked: 12 / 1.35 = 8.89
    ms is 11.1, 11.1 and 25.9% off.
    """
    made_up(monkeypatch, {4: 12 / 8.8, 8: 1.2, 16: 12 / 9})
    rows = [{"conc": c, "tpot_ms_p50": t} for c, t in (("4", "8"), ("8", "10"), ("16", "12"))]
    amd = {"gpu": "mi355x", "spec": "none"}
    rows += [amd | {"conc": "32", "tpot_ms_p50": t} for t in ("15",)]
    rows += [amd | {"conc": "64", "tpot_ms_p50": "12"}]
    rows += [{"spec": "none", "conc": "4", "tpot_ms_p50": "12"}]
    made_up(monkeypatch, {4: 12 / 8.8, 8: 1.2, 16: 12 / 9, 32: 1.5, 64: 1.2})
    rows += [amd | {"spec": "mtp", "conc": c, "tpot_ms_p50": "10"} for c in ("32", "64")]
    found = speculation_scores(table(tmp_path / RUNS, RUN, *rows))
    mine = found["groups"]["SGLang h200"]
    assert (mine["tpot"]["n"], mine["tpot"]["median"], mine["constant"]) == (3, 10.0, 11.11)
    assert found["n"] == 5 and found["pairs"] == {}


def test_a_loss_is_told_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: of four pairs three are predicted to the right side of 1."""
    made_up(monkeypatch, {4: 0.9, 8: 1.1, 16: 1.5, 32: 2.0})
    seen = {"4": "15", "8": "13", "16": "8", "32": "7"}
    rows = [{"concurrency": clients, "spec": tpot} for clients, tpot in seen.items()]
    found = speculation_scores(table(tmp_path / PAIRS, PAIR, *rows))
    assert found["pairs"]["all"]["same_sign"] == 75.0
    assert found["pairs"]["mtp deepseek-r1"]["n"] == 4 and found["n"] == 0


def host_ms(row: Predicted, draft_ms: float, sequence_ms: float) -> float:
    """Return a run's TPOT whose drafts keep the host so long."""
    length = row.length
    return row.with_ms + row.drafts * (draft_ms + sequence_ms * row.point.clients) / length


def test_planted_drafts_come_back(tmp_path: Path) -> None:
    """Oracle: 1.5 ms a draft and 60 us a draft of a sequence, in each fold as well; a tenth of the runs took
    three times as long, and pulls little."""
    changes = [{"conc": str(c), "gpu": gpu} for gpu in ("h200", "b200") for c in (1, 4, 16, 64, 128, 256)]
    runs = read_runs(table(tmp_path / RUNS, RUN, *changes) / RUNS, Counter())
    bare = [
        Predicted(run.point, 2, length_of(run.point, 2), 8.0 + 0.05 * run.point.clients, 12.0) for run in runs
    ]
    rows = [row._replace(point=row.point._replace(tpot_ms=host_ms(row, 1.5, 0.06))) for row in bare]
    assert fit_drafts(rows) == pytest.approx({"draft": 1.5, "draft_sequence": 60.0}, rel=0.01)
    rows[3] = rows[3]._replace(point=rows[3].point._replace(tpot_ms=3 * rows[3].point.tpot_ms))
    assert fit_drafts(rows)["draft"] == pytest.approx(1.5, rel=0.15)
    found = tomllib.loads("\n".join(drafts_lines(rows)))
    assert set(found["without"]) == {"b200", "h200"} and found["rows"] == len(rows)


def test_the_calibration_holds_what_all_runs_tell() -> None:
    """Oracle: `presets/validation/drafts.toml`; what is scored on a part comes from the others."""
    found = tomllib.loads(DRAFTS_FILE.read_text(encoding="utf-8"))
    typical = {item.name: item.value for item in calibration("typical").constants}
    assert {name: typical[name] for name in DRAFT_CONSTANTS} == found["all"]
    for name, constants in found["without"].items():
        assert dict(unseen_constants(name)).items() >= constants.items()
    assert unseen_constants("h200")["sequence"] != typical["sequence"]
    assert dict(unseen_constants("mi300x")) == {}


@pytest.mark.parametrize("name", [RUNS, PAIRS])
@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n1,2,3\n", '"open', "\x00,\x00\n\x00\n"])
def test_a_table_without_rows_is_scored_as_nothing(tmp_path: Path, name: str, text: str) -> None:
    """Oracle: no row is used, and JSON holds no NaN."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    for options in ([], ["--json"]):
        done = CliRunner().invoke(validate.main, [str(tmp_path), "--score", *options])
        assert done.exit_code == 0, done.output
    found = json.loads(done.output, parse_constant=pytest.fail)
    assert found["mtp"]["n"] == 0 and found["mtp"]["tpot"]["median"] is None


def test_a_folder_without_these_tables_says_nothing_of_speculation(tmp_path: Path) -> None:
    """Oracle: neither file is there."""
    done = CliRunner().invoke(validate.main, [str(tmp_path), "--score", "--json"])
    assert "mtp" not in json.loads(done.output)
