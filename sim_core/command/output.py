"""What commands print and write: JSON, CSV, tables; one line on standard error where something is wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sim_core.command.inputs import LOAD
from sim_core.fields.errors import ScenarioError
from sim_core.results import text as report
from sim_core.results.text import LATENCIES, RATES, STATISTICS
from sim_core.scenario.link.write import to_query
from sim_core.scenario.scenario import FIELDS, Scenario

TOLD_EVERY_S = 5.0  # how far long work is
METRICS = (*RATES, "tok_per_s_per_user")
FRONTIER_TABLE = (
    "tok_per_s_per_user",
    "output_tok_per_s_per_accelerator",
    "request_per_s",
    "ttft_ms_p50",
    "ttft_ms_p99",
    "tpot_ms_p50",
    "tpot_ms_p99",
    "mean_batch",
    "limit",
    "saturated",
    "meets_slo",
    "on_frontier",
    "badge",
)


def emit(text: str) -> None:
    """Write a result to standard output; a reader that has gone away (`| head`) is no error."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        raise SystemExit(0) from None
    except OSError as error:
        _drop_output()
        raise ScenarioError(f"the output cannot be written: {error.strerror}.") from None


def _drop_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail over it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def report_text(summary: Mapping[str, Any], form: str) -> str:
    """Return one result as JSON, as `key,value` lines, or as tables."""
    if form == "json":
        return report.json_text(summary)
    if form == "csv":
        return report.csv_text([{"key": key, "value": value} for key, value in report.flat(summary).items()])
    return _tables(summary)


def _tables(summary: Mapping[str, Any]) -> str:
    """Return one result as text: the scenario, the latencies, then every other number."""
    rest = dict(summary)
    point = dict(rest.pop("point", None) or {})
    metrics = dict(rest.pop("metrics", None) or point.pop("metrics", {}))
    warnings = list(rest.pop("warnings", ()))
    trust = dict(rest.pop("trust", None) or {})
    reasons, _ = trust.pop("reasons", ()), trust.pop("evidence", "")
    warnings += reasons if trust.get("badge") != "validated region" else ()
    scenario = rest.pop("scenario", None)
    overloaded = rest.get("saturated") or point.get("saturated")
    latencies = [
        {"latency": key} | metrics.pop(key) | ({"": _growing(key)} if overloaded else {})
        for key in LATENCIES
        if key in metrics
    ]
    numbers = (
        report.flat(rest) | metrics | report.flat(point) | report.flat({"trust": trust} if trust else {})
    )
    blocks = [f"scenario  {to_query(Scenario(**scenario))}"] if scenario else []
    blocks += [report.table_text(latencies)] if latencies else []
    blocks.append(lines_of(numbers))
    blocks += ["\n".join(f"Note: {warning}" for warning in warnings)] if warnings else []
    return "\n\n".join(blocks)


def _growing(latency: str) -> str:
    """Return what stands behind a latency of an overloaded run, where it grows with the run."""
    return "overloaded: grows with the run" if latency in ("ttft_ms", "e2e_ms") else ""


def lines_of(values: Mapping[str, Any]) -> str:
    """Return keys and values, one line each."""
    numbers = report.flat(values)
    width = max(map(len, numbers))
    return "\n".join(f"{key:<{width}}  {report.cell(value)}" for key, value in numbers.items())


def rows_of_table(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a DataFrame; counts that pandas turned into floats are whole again."""
    rows = [report.plain(row) for row in table.to_dict("records")]
    counts = {key for key in table if key.endswith("_n") or (key in FIELDS and FIELDS[key].kind is int)}
    for row in rows:
        row.update({key: int(row[key]) for key in counts if row[key] is not None})
    return rows


def points_text(rows: list[dict[str, Any]], form: str, vary: Mapping[str, Any]) -> str:
    """Return the points of a sweep as JSON (metrics nested as `run` does), CSV or a table."""
    if form == "json":
        return report.json_text([nested(row) for row in rows])
    if form == "csv":
        return report.csv_text(rows)
    keys = [key for key in rows[0] if key in (*FIELDS, LOAD) and (key != "requests" or key in vary)]
    reason = ["reason"] if any(row["reason"] for row in rows) else []
    said = [row | {"saturated": "overloaded"} if row["saturated"] else row for row in rows]
    return report.table_text(said, [*keys, *FRONTIER_TABLE, *reason])


def nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point with its metrics under one key, in the shape of `run`."""
    metrics = report.metrics_of(row, METRICS)
    moved = {*METRICS, *(f"{name}_{part}" for name in LATENCIES for part in STATISTICS)}
    rest = {key: value for key, value in row.items() if key not in moved}
    return rest | {"metrics": metrics}


class Teller:
    """Says on standard error how far long work is, every few seconds; nothing of short work.

    Parameters
    ----------
    words : str
        What is said, with the share that is done in the place of ``{:.0%}``.
    notes : iterable of str
        What is said once, before it.
    """

    def __init__(self, words: str, notes: Iterable[str] = ()) -> None:
        self._words, self._notes = words, list(notes)
        self._told_s = time.monotonic()

    def tell(self, done_frac: float) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            for line in (*self._notes, self._words.format(done_frac)):
                say_on_stderr(line)
            self._notes.clear()


def time_words(seconds: float) -> str:
    """Return how long work takes, in the unit that people would say it in."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def say_on_stderr(line: str) -> None:
    """Write a line to standard error, where there is one; nothing in it can control a terminal."""
    if sys.stderr is not None:
        shown = "".join(mark if mark.isprintable() else "?" for mark in line)
        print(shown, file=sys.stderr, flush=True)
