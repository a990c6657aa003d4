"""Any tables of benchmark entries are scored, whatever stands in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks import mlperf

RESULT = {
    "entry_id": "9.9-0001", "round": "v9.9", "division": "closed", "submitter": "A", "system": "S",
    "gpu": "H100-SXM", "accelerators_total": "8.0", "weight_dtype": "fp8", "model": "llama3.1-8b",
    "scenario": "Offline", "result": "40000", "result_per_accelerator": "5000",
}  # fmt: skip
RATIO = {key: RESULT[key] for key in RESULT if key not in ("scenario", "result", "result_per_accelerator")}
RATIO |= {"offline": "40000", "server": "36000", "interactive": "20000"}
RATIO |= {"server_over_offline": "0.9", "interactive_over_offline": "0.5"}
HOSTILE = [
    ({"division": "open"}, "not of the closed division"),
    ({"model": "stable-diffusion-xl"}, "benchmark without a preset"),
    ({"gpu": ""}, "accelerator without a preset"),
    ({"accelerators_total": ""}, "no whole number of accelerators"),
    ({"accelerators_total": "2.5"}, "no whole number of accelerators"),
    ({"accelerators_total": "many"}, "no whole number of accelerators"),
    ({"accelerators_total": "inf"}, "no whole number of accelerators"),
    ({"accelerators_total": "0"}, "no whole number of accelerators"),
    ({"scenario": "Server"}, "a result of another scenario"),
    ({"result_per_accelerator": ""}, "no throughput"),
    ({"result_per_accelerator": "1e309"}, "no throughput"),
    ({"system": "S", "model": "llama3.1-8b-99.9"}, "the same figures under another target"),
]


def folder_of(tmp_path: Path, results: Sequence[dict[str, str]], ratios: Sequence[dict[str, str]]) -> Path:
    """Return a folder with both tables of these rows."""
    for name, usual, rows in ((mlperf.ENTRIES, RESULT, results), (mlperf.RATIOS, RATIO, ratios)):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(usual))
            writer.writeheader()
            writer.writerows(usual | row for row in rows)
    return tmp_path


def test_rows_that_cannot_be_used_are_counted_with_their_reason(tmp_path: Path) -> None:
    """Oracle: the table above; of all rows only the first can be used."""
    changed = [{"system": f"S{place}"} | change for place, (change, _) in enumerate(HOSTILE)]
    left_out = mlperf.Counter()
    results, ratios = mlperf.read(folder_of(tmp_path, [{}, *changed], [{}]), left_out)
    assert (len(results), len(ratios)) == (1, 1)
    expected = pd.Series([reason for _, reason in HOSTILE]).value_counts().to_dict()
    assert {reason: count for reason, count in left_out.items() if count} == expected


def test_scores_by_hand(tmp_path: Path) -> None:
    """Oracle: what is simulated for the system, as the goal table has it; two ratios about their median."""
    folder = folder_of(tmp_path, [{}], [{}, {"system": "T", "server_over_offline": "0.7"}])
    rows, _ = mlperf.compare(folder, "submission")
    simulated = rows.drop_duplicates("rule").set_index("rule")["simulated"]
    found = mlperf.scores(folder, "submission")
    assert found["offline"]["n"] == 1
    assert found["offline"]["median"] == pytest.approx(100 * abs(simulated["offline"] / 5000 - 1), abs=0.01)
    server = simulated["server counted"]
    assert found["server_over_offline"] == {
        "n": 2,
        "mean_abs": pytest.approx((abs(server - 0.9) + abs(server - 0.7)) / 2, abs=1e-4),
        "constant": pytest.approx(0.1),
    }
    assert found["interactive_over_offline"]["n"] == 2
    assert found["left_out"] == {}


@pytest.mark.parametrize(
    "change", [{"accelerators_total": "3"}, {"weight_dtype": "int4"}, {"weight_dtype": ""}]
)
def test_odd_systems_end_nothing(tmp_path: Path, change: dict[str, str]) -> None:
    """Oracle: the row is used, or counted with what the simulator says against it."""
    found = mlperf.scores(folder_of(tmp_path, [change], []), "submission")
    assert found["offline"]["n"] + sum(found["left_out"].values()) == 1


@pytest.mark.parametrize("text", [None, "", "\n", "entry_id\n1\n", "a,b\n1,2,3\n", "\x00\n"])
def test_tables_without_rows_are_scored_as_nothing(tmp_path: Path, text: str | None) -> None:
    """Oracle: no figure, and JSON holds no NaN."""
    for name in (mlperf.ENTRIES, mlperf.RATIOS) if text is not None else ():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for options in ([], ["--json"]):
        done = CliRunner().invoke(mlperf.main, [str(tmp_path), "--score", *options])
        assert done.exit_code == 0, done.output
    found = json.loads(done.output, parse_constant=pytest.fail)
    assert found["offline"] == {"n": 0, "median": None}
    assert found["server_over_offline"] == {"n": 0, "mean_abs": None, "constant": None}


def test_published_figures_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """Oracle: JSON has no infinity; the row with the infinite ratio to Offline has no other."""
    odd = {"system": "T", "server_over_offline": "inf", "interactive_over_offline": ""}
    found = mlperf.scores(folder_of(tmp_path, [{}], [{}, odd]), "submission")
    json.dumps(found, allow_nan=False)
    assert found["server_over_offline"]["n"] == 1
    assert found["left_out"] == {"no ratio to Offline": 1}
