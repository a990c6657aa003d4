"""Compare simulated throughput under benchmark rules with published MLPerf results; development only.

    python -m benchmarks.mlperf ../shared/reference            # prints the goal table
    python -m benchmarks.mlperf ../shared/reference --write    # also writes presets/published, /checks
    python -m benchmarks.mlperf ANY_FOLDER --score [--json]    # errors of any such tables

The folder holds `mlperf_llm_results.csv` and `mlperf_scenario_ratios.csv`. Entries: closed division, one
benchmark and target counted once (99 and 99.9 that repeat the same run are one), parts known here.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pandas as pd

from benchmarks import rounds
from benchmarks.printed import left_out_lines
from benchmarks.rounds import SHARES
from benchmarks.tables import rows_of
from sim_core import catalogue
from sim_core.evidence.entries import FITTED_TO
from sim_core.fields.errors import ScenarioError
from sim_core.questions.benchmark import rules as benchmark_rules
from sim_core.questions.benchmark.rules import Answer
from sim_core.questions.benchmark.search import precision, tuned
from sim_core.questions.benchmark.ways import BOARD, submitted_ways
from sim_core.scenario.scenario import Scenario

ROOT = Path(__file__).parent.parent
GOALS = {"offline": 0.20, "server": 0.04, "interactive": 0.12}
ENTRIES, RATIOS = "mlperf_llm_results.csv", "mlperf_scenario_ratios.csv"
TEXTS = (
    *("entry_id", "round", "division", "submitter", "system", "gpu", "framework", "weight_dtype", "model"),
    *("scenario", "source_repo", "source_path"),
)
NUMBERS = (
    *("accelerators_total", "result", "result_per_accelerator", "offline", "server", "interactive"),
    *SHARES.values(),
)
COMPARED = ["rule", "benchmark", "accelerator", "devices", "dtype", "published", "simulated", "reason"]
KEY = ["round", "submitter", "system", "accelerators_total", "benchmark"]


def read(folder: Path, left_out: Counter[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return distinct closed-division Offline results and ratios, of benchmarks and parts known here.

    Rows of both tables that cannot be used are counted in `left_out`, by reason.
    """
    left_out = Counter() if left_out is None else left_out
    results = _known(_table(folder / ENTRIES, left_out), left_out)
    results = _kept(results, results["scenario"].eq("Offline"), "a result of another scenario", left_out)
    results = _kept(results, results["result_per_accelerator"].gt(0), "no throughput", left_out)
    results = _distinct(results, [*KEY, "result"], left_out)
    ratios = _known(_table(folder / RATIOS, left_out), left_out)
    stated = ratios[list(SHARES.values())].gt(0).any(axis=1)
    ratios = _kept(ratios, stated, "no ratio to Offline", left_out)
    return results, _distinct(ratios, [*KEY, "offline", "server", "interactive"], left_out)


def _table(path: Path, left_out: Counter[str]) -> pd.DataFrame:
    """Return the columns of a table that are used here, as texts and finite numbers; blank where none."""
    rows = rows_of(path, left_out)
    texts = {key: pd.Series([row.text(key) for row in rows], dtype=str) for key in TEXTS}
    numbers = {key: pd.Series([row.number(key) for row in rows], dtype=float) for key in NUMBERS}
    return pd.DataFrame(texts | numbers).replace([math.inf, -math.inf], math.nan)


def _known(table: pd.DataFrame, left_out: Counter[str]) -> pd.DataFrame:
    """Return the rows of the closed division whose benchmark, part and devices are known here."""
    table["benchmark"] = table["model"].str.replace(r"-99(\.9)?$", "", regex=True)
    table["part"] = table["gpu"].str.lower()
    table = _kept(table, table["division"].eq("closed"), "not of the closed division", left_out)
    for reason, known in (
        ("benchmark without a preset", table["benchmark"].isin(catalogue.preset_ids("benchmarks"))),
        ("accelerator without a preset", table["part"].isin(catalogue.preset_ids("accelerators"))),
        ("no whole number of accelerators", table["accelerators_total"].map(_whole)),
    ):
        table = _kept(table, known.reindex(table.index), reason, left_out)
    table["devices"] = table["accelerators_total"].map(devices)
    table["dtype"] = table["weight_dtype"].where(table["weight_dtype"].isin(["fp8", "fp4"]), "")
    return table


def _kept(table: pd.DataFrame, kept: pd.Series, reason: str, left_out: Counter[str]) -> pd.DataFrame:
    """Return the rows to keep; count the others."""
    kept = kept.astype(bool)
    left_out[reason] += int((~kept).sum())
    return table[kept].copy()


def _distinct(table: pd.DataFrame, keys: list[str], left_out: Counter[str]) -> pd.DataFrame:
    again = table.duplicated(keys)
    return _kept(table, ~again, "the same figures under another target", left_out).reset_index(drop=True)


def _whole(total: float) -> bool:
    return 1 <= total < 1e6 and total == int(total)


def devices(total: float) -> int:
    """Return how many accelerators to simulate: of a larger system a board's, which it repeats."""
    return min(int(total), BOARD)


def simulate(rows: pd.DataFrame, calibration: str) -> dict[tuple, dict[str, Any]]:
    """Return the simulated scenarios of each distinct system in the rows, or why there are none."""
    found = {}
    for key in sorted(set(system_keys(rows))):
        started = time.perf_counter()
        try:
            answers = benchmark_rules.answers(catalogue.benchmark(key[0]), options_of(key, calibration))
        except ScenarioError as error:
            found[key] = {"reason": str(error)}
        else:
            found[key] = figures(catalogue.benchmark(key[0]), answers)
            found[key]["seconds"] = time.perf_counter() - started
    return found


def figures(benchmark: catalogue.Benchmark, answers: dict[str, Any]) -> dict[str, float]:
    """Return Offline throughput per accelerator, and ratios to it: steady, and as LoadGen counts."""
    top = answers["offline"].output_tok_per_s_per_accelerator
    found = {"offline": top}
    for rule in ("server", "interactive"):
        answer = answers.get(rule)
        if rule in answers:
            found[rule] = answer.output_tok_per_s_per_accelerator / top if answer else 0.0
            found[f"{rule} counted"] = counted(answer, benchmark.min_duration_s) / top if answer else 0.0
    return found


def counted(answer: Answer, duration_s: float) -> float:
    """Return the throughput per accelerator as LoadGen counts it: over the time until the last answer.

    A run of `duration_s` issues requests until its end and then waits for the answer to the last one, on
    average as long as any answer takes; the completed tokens are divided by all that time. Offline
    figures are whole runs already.

    References
    ----------
    .. [1] mlcommons/inference: loadgen/results.cc, completed samples and tokens per second (Server).
    """
    throughput = answer.output_tok_per_s_per_accelerator
    if answer.rule == "offline":
        return throughput
    return throughput * duration_s / (duration_s + answer.point["e2e_ms_mean"] / 1e3)


def system_keys(rows: pd.DataFrame) -> list[tuple]:
    """Return benchmark, part, devices and precision of each row; a label of fp8 or fp4 is believed."""
    keys = []
    for row in rows.itertuples():
        part, model = (
            catalogue.accelerator(row.part),
            catalogue.model(catalogue.benchmark(row.benchmark).model),
        )
        own = precision(part, model)
        keys.append((row.benchmark, row.part, row.devices, own if own == "native" else row.dtype or own))
    return keys


def options_of(key: tuple, calibration: str) -> list[Scenario]:
    """Return the candidates of one system."""
    benchmark, part, count, dtype = key
    rules = catalogue.benchmark(benchmark)
    scenario = tuned(rules, Scenario(accelerator=part, calibration=calibration))
    return submitted_ways(rules, scenario.replace(weight_dtype=dtype), count)


def compare(
    folder: Path, calibration: str, left_out: Counter[str] | None = None
) -> tuple[pd.DataFrame, dict[tuple, dict[str, Any]]]:
    """Return one row per published figure with its simulated one."""
    results, ratios = read(folder, left_out)
    found = simulate(pd.concat([results, ratios]), calibration)
    compared = {"offline": (results, "result_per_accelerator")}
    for rule, column in SHARES.items():
        compared |= {rule: (ratios, column), f"{rule} counted": (ratios, column)}
    rows = []
    for rule, (table, column) in compared.items():
        table = table[table[column].gt(0)]
        for key, row in zip(system_keys(table), table.itertuples(), strict=True):
            simulated = found[key].get(rule, float("nan"))
            rows.append({"rule": rule, "benchmark": key[0], "accelerator": key[1], "devices": key[2],
                         "dtype": key[3], "published": getattr(row, column), "simulated": simulated,
                         "reason": found[key].get("reason", "")})  # fmt: skip
    return pd.DataFrame(rows, columns=COMPARED), found


def error_of(rule: str, rows: pd.DataFrame) -> pd.Series:
    """Return the error of each row: relative for Offline, the difference for ratios."""
    gap = rows["simulated"] - rows["published"]
    return gap / rows["published"] if rule == "offline" else gap


def goal_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the goal table: errors over all rows, and apart those the calibration was fitted to."""
    table = []
    for rule in rows["rule"].unique():
        part = rows[rows["rule"].eq(rule) & rows["simulated"].notna()]
        fitted, seen = part["benchmark"].isin(FITTED_TO), f"{' and '.join(FITTED_TO)} (fitted to)"
        for name, used in (("all", part), (seen, part[fitted]), ("others", part[~fitted])):
            table.append({"rule": rule, "rows": name, "count": len(used), **_errors(rule, used)})
    return table


def _errors(rule: str, used: pd.DataFrame) -> dict[str, Any]:
    error, kind = error_of(rule, used), rule.removesuffix(" counted")
    offline = rule == "offline"
    size = error.abs().median() if offline else error.abs().mean()
    found = {
        "measure": "median relative error" if offline else "mean absolute difference",
        "goal": GOALS[kind],
        "error": round(float(size), 4),
        "bias": round(float(error.median()), 4),
    }
    if kind in SHARES:
        found["constant"] = round(best_constant_error(used["published"]), 4)
    return found


def scores(folder: Path, calibration: str) -> dict[str, Any]:
    """Return the errors of Offline throughput and of the ratios to it in a folder's tables.

    Returns
    -------
    dict
        ``offline``: ``n`` rows and their ``median`` relative error [%]; ``server_over_offline`` and
        ``interactive_over_offline``, as LoadGen counts: the mean absolute difference ``mean_abs``, and
        ``constant``, that of the one ratio for all these rows which errs least. ``left_out`` counts the
        other rows of both tables by reason. What no row tells is None.
    """
    left_out: Counter[str] = Counter()
    rows, _ = compare(folder, calibration, left_out)
    missing = rows[rows["simulated"].isna() & ~rows["rule"].str.endswith(" counted")]
    for row in missing.itertuples():
        left_out[f"{row.rule}: {row.reason or 'the benchmark has no such rule here'}"] += 1
    rows = rows[rows["simulated"].notna()]
    offline = rows[rows["rule"].eq("offline")]
    size = error_of("offline", offline).abs()
    found: dict[str, Any] = {"offline": {"n": len(offline), "median": _figure(100 * size.median(), 2)}}
    for rule, name in SHARES.items():
        part = rows[rows["rule"].eq(f"{rule} counted")]
        found[name] = {
            "n": len(part),
            "mean_abs": _figure(error_of(rule, part).abs().mean(), 4),
            "constant": _figure(best_constant_error(part["published"]), 4),
        }
    return found | {"left_out": {reason: count for reason, count in left_out.items() if count}}


def best_constant_error(published: pd.Series) -> float:
    """Return the mean absolute difference to the one constant that errs least: the median."""
    return float((published - published.median()).abs().mean())


def _figure(value: float, digits: int) -> float | None:
    return None if pd.isna(value) else round(float(value), digits)


def text_of(found: Mapping[str, Any]) -> str:
    """Return scores as lines to read."""
    offline = found["offline"]
    lines = [f"{'Offline per accelerator':<27}{offline['n']:>5} rows, median error {offline['median']} %"]
    for name in SHARES.values():
        row = found[name]
        words = f"mean absolute difference {row['mean_abs']}, of the best constant {row['constant']}"
        lines.append(f"{name.replace('_', ' '):<27}{row['n']:>5} rows, {words}")
    return "\n".join([*lines, "", *left_out_lines(found["left_out"])])


def spreads(folder: Path, retrieved: str) -> dict[str, list[dict[str, Any]]]:
    """Return published counts, medians and ranges by benchmark and accelerator, with what to cite."""
    results, ratios = read(folder)
    found: dict[str, list[dict[str, Any]]] = {}
    both = pd.concat([results, ratios])
    for (benchmark, part), group in both.groupby(["benchmark", "part"]):
        mine = [
            table[table["benchmark"].eq(benchmark) & table["part"].eq(part)] for table in (results, ratios)
        ]
        row: dict[str, Any] = {"accelerator": part, "weight_dtypes": _texts(group["weight_dtype"])}
        row |= _spread("offline", mine[0]["result_per_accelerator"], 1)
        row |= _spread("server", mine[1]["server_over_offline"], 4)
        row |= _spread("interactive", mine[1]["interactive_over_offline"], 4)
        row |= {
            "rounds": _texts(group["round"]), "division": "closed", "submitters": _texts(group["submitter"]),
            "entry_ids": _texts(group["entry_id"]), "sources": _sources(group), "retrieved": retrieved,
        }  # fmt: skip
        found.setdefault(benchmark, []).append(row)
    return found


def _spread(name: str, values: pd.Series, digits: int) -> dict[str, Any]:
    values = values.dropna()
    row: dict[str, Any] = {f"{name}_count": len(values)}
    if len(values):
        figures = {"median": values.median(), "min": values.min(), "max": values.max()}
        row |= {f"{name}_{key}": round(float(value), digits) for key, value in figures.items()}
    return row


def _texts(column: pd.Series) -> list[str]:
    return sorted({str(value) for value in column.dropna() if str(value)})


def _sources(group: pd.DataFrame) -> list[str]:
    """Return repository and folder of each entry, once."""
    found = set()
    for repository, path in zip(group["source_repo"], group["source_path"], strict=True):
        inside = re.search(r"(closed/[^,)]+?)/[^/,)]+\)?$", str(path))
        found.add(f"{repository}: {inside[1] if inside else path}")
    return sorted(found)


def toml(value: Any) -> str:
    """Return a value as TOML."""
    return json.dumps(value, ensure_ascii=False)


def table_text(name: str, row: Mapping[str, Any]) -> str:
    """Return one table of a TOML list; what is missing is left out."""
    lines = [f"{key} = {toml(value)}" for key, value in row.items() if value is not None]
    return "\n".join([f"[[{name}]]", *lines, ""])


def write_all(folder: Path, rows: pd.DataFrame, found: dict[tuple, dict[str, Any]], calibration: str) -> None:
    """Write the published spreads, over all rounds and by round, and this comparison."""
    date = datetime.date.today().isoformat()
    for benchmark, spread in spreads(folder, date).items():
        text = "\n".join(table_text("spread", row) for row in spread)
        path = ROOT / "presets" / "published" / f"{benchmark}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    rounds.write(read(folder)[1], date)
    counts = rows.groupby(["benchmark", "accelerator", "devices", "dtype"]).size()
    systems = [
        _system_row(key, item, int(counts.get(key, 0))) for key, item in found.items() if "offline" in item
    ]
    head = {"date": date, "calibration": calibration, "command": "python -m benchmarks.mlperf FOLDER --write"}
    parts = [f"{key} = {toml(value)}" for key, value in head.items()]
    parts += ["", *(table_text("goal", row) for row in goal_rows(rows))]
    parts += [table_text("system", row) for row in systems]
    path = ROOT / "presets" / "checks" / "mlperf.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")


def _system_row(key: tuple, item: Mapping[str, float], entries: int) -> dict[str, Any]:
    benchmark, part, count, dtype = key
    row: dict[str, Any] = {
        "benchmark": benchmark,
        "accelerator": part,
        "devices": count,
        "weight_dtype": dtype,
    }
    row |= {"entries": entries, "offline": round(item["offline"], 1)}
    for rule in ("server", "interactive"):
        for name in (rule, f"{rule} counted"):
            row[name.replace(" ", "_")] = round(item[name], 4) if name in item else None
    return row


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--calibration", default="submission", show_default=True)
@click.option("--write", is_flag=True, help="Write presets/published and presets/checks/mlperf.toml.")
@click.option("--groups", is_flag=True, help="Print medians by benchmark and accelerator.")
@click.option("--score", "scoring", is_flag=True, help="Print the errors of any such tables, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def main(folder: Path, calibration: str, write: bool, groups: bool, scoring: bool, as_json: bool) -> None:
    """Print the goal table."""
    if scoring:
        answer = scores(folder, calibration)
        print(json.dumps(answer, indent=2) if as_json else text_of(answer))
        return
    rows, found = compare(folder, calibration)
    print(pd.DataFrame(goal_rows(rows)).to_string(index=False))
    seconds = [item["seconds"] for item in found.values() if "seconds" in item]
    print(
        f"search: median {sorted(seconds)[len(seconds) // 2]:.2f} s, longest {max(seconds):.2f} s, "
        f"{len(seconds)} systems"
    )
    for key, item in found.items():
        if "reason" in item:
            print(key, item["reason"])
    if write:
        write_all(folder, rows, found, calibration)
    if groups:
        middle = rows.groupby(["rule", "benchmark", "accelerator", "devices", "dtype"])[
            ["published", "simulated"]
        ]
        table = middle.median().assign(count=middle.size())
        print(table.to_string())


if __name__ == "__main__":
    main()
