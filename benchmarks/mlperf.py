"""Compare simulated Offline, Server and Interactive throughput with published MLPerf results; development only.

    python -m benchmarks.mlperf ../shared/reference            # prints the goal table
    python -m benchmarks.mlperf ../shared/reference --write    # also writes presets/published and presets/checks

The folder holds `mlperf_llm_results.csv` and `mlperf_scenario_ratios.csv`. Entries: closed division, one
benchmark and target counted once (99 and 99.9 that repeat the same run are one), parts known here.
"""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import pandas as pd

from sim_core import mlperf, presets
from sim_core.scenario import Scenario, ScenarioError

ROOT = Path(__file__).parent.parent
CONSTANTS = {"server": 0.95, "interactive": 0.65}  # the best constant guesses to beat
GOALS = {"offline": 0.20, "server": 0.04, "interactive": 0.12}
FIT = "llama2-70b"  # the only benchmark that the submission calibration was fitted to
KEY = ["round", "submitter", "system", "accelerators_total", "benchmark"]


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return distinct closed-division Offline results, and distinct ratios, of benchmarks and parts known here."""
    results = _known(pd.read_csv(folder / "mlperf_llm_results.csv"))
    results = results[results["scenario"].eq("Offline") & results["result_per_accelerator"].gt(0)]
    results = results.drop_duplicates([*KEY, "result"])
    ratios = _known(pd.read_csv(folder / "mlperf_scenario_ratios.csv"))
    ratios = ratios.drop_duplicates([*KEY, "offline", "server", "interactive"])
    return results.reset_index(drop=True), ratios.reset_index(drop=True)


def _known(table: pd.DataFrame) -> pd.DataFrame:
    table = table[table["division"].eq("closed")].copy()
    table["benchmark"] = table["model"].str.replace(r"-99(\.9)?$", "", regex=True)
    table["part"] = table["gpu"].fillna("").str.lower()
    known = table["benchmark"].isin(presets.preset_ids("benchmarks"))
    known &= table["part"].isin(presets.preset_ids("accelerators"))
    table["devices"] = table["accelerators_total"].map(devices)
    table["dtype"] = table["weight_dtype"].where(table["weight_dtype"].isin(["fp8", "fp4"]), "")
    return table[known]


def devices(total: float) -> int:
    """Return how many accelerators to simulate: a node's eight of a larger system, which repeats them."""
    return int(total) if total < 8 else 8


def simulate(rows: pd.DataFrame, calibration: str) -> dict[tuple, dict[str, Any]]:
    """Return the simulated scenarios of each distinct system in the rows."""
    found = {}
    for key in sorted(set(system_keys(rows))):
        started = time.perf_counter()
        try:
            answers = mlperf.answers(presets.benchmark(key[0]), options_of(key, calibration))
        except ScenarioError as error:
            found[key] = {"reason": str(error)}
            continue
        top = answers["offline"].output_tok_per_s_per_accelerator
        found[key] = {
            rule: (answer.output_tok_per_s_per_accelerator if answer else 0.0)
            / (1 if rule == "offline" else top)
            for rule, answer in answers.items()
        } | {"seconds": time.perf_counter() - started, "answers": answers}
    return found


def system_keys(rows: pd.DataFrame) -> list[tuple]:
    """Return benchmark, part, devices and precision of each row; an entry's label counts if it is fp8 or fp4."""
    keys = []
    for row in rows.itertuples():
        part, model = presets.accelerator(row.part), presets.model(presets.benchmark(row.benchmark).model)
        own = mlperf.precision(part, model)
        keys.append((row.benchmark, row.part, row.devices, own if own == "native" else row.dtype or own))
    return keys


def options_of(key: tuple, calibration: str) -> list[Scenario]:
    """Return the candidates of one system."""
    benchmark, part, count, dtype = key
    scenario = mlperf.tuned(presets.benchmark(benchmark), Scenario(accelerator=part, calibration=calibration))
    return mlperf.candidates(scenario.replace(weight_dtype=dtype), count)


def compare(folder: Path, calibration: str) -> tuple[pd.DataFrame, dict[tuple, dict[str, Any]]]:
    """Return one row per published figure with its simulated one."""
    results, ratios = read(folder)
    found = simulate(pd.concat([results, ratios]), calibration)
    rows = []
    for rule, table, column in (
        ("offline", results, "result_per_accelerator"),
        ("server", ratios, "server_over_offline"),
        ("interactive", ratios, "interactive_over_offline"),
    ):
        table = table[table[column].notna()]
        for key, row in zip(system_keys(table), table.itertuples(), strict=True):
            simulated = found[key].get(rule, float("nan"))
            rows.append({"rule": rule, "benchmark": key[0], "accelerator": key[1], "devices": key[2],
                         "dtype": key[3], "published": getattr(row, column), "simulated": simulated})  # fmt: skip
    return pd.DataFrame(rows), found


def error_of(rule: str, rows: pd.DataFrame) -> pd.Series:
    """Return the error of each row: relative for Offline, the difference for ratios."""
    gap = rows["simulated"] - rows["published"]
    return gap / rows["published"] if rule == "offline" else gap


def goal_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the goal table: errors over all rows, and over those the calibration never saw."""
    table = []
    for rule, goal in GOALS.items():
        part = rows[rows["rule"].eq(rule) & rows["simulated"].notna()]
        for name, used in (
            ("all", part),
            (f"without {FIT}", part[part["benchmark"].ne(FIT)]),
            (FIT, part[part["benchmark"].eq(FIT)]),
        ):
            error = error_of(rule, used)
            size = error.abs()
            guess = CONSTANTS.get(rule)
            table.append({
                "rule": rule, "rows": name, "count": len(used), "goal": goal,
                "error": round(float(size.median() if rule == "offline" else size.mean()), 4),
                "bias": round(float(error.median()), 4),
                **({"constant": round(float((used["published"] - guess).abs().mean()), 4)} if guess else {}),
            })  # fmt: skip
    return table


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--calibration", default="submission", show_default=True)
@click.option("--write", is_flag=True, help="Write presets/published and presets/checks/mlperf.toml.")
@click.option("--groups", is_flag=True, help="Print medians by benchmark and accelerator.")
def main(folder: Path, calibration: str, write: bool, groups: bool) -> None:
    """Print the goal table."""
    rows, found = compare(folder, calibration)
    print(pd.DataFrame(goal_rows(rows)).to_string(index=False))
    seconds = [item["seconds"] for item in found.values() if "seconds" in item]
    print(
        f"search: median {sorted(seconds)[len(seconds) // 2]:.2f} s, longest {max(seconds):.2f} s, {len(seconds)} systems"
    )
    for key, item in found.items():
        if "reason" in item:
            print(key, item["reason"])
    if groups:
        middle = rows.groupby(["rule", "benchmark", "accelerator", "devices", "dtype"])[
            ["published", "simulated"]
        ]
        table = middle.median().assign(count=middle.size())
        print(table.to_string())


if __name__ == "__main__":
    main()
