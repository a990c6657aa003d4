"""A large table of simulations as a map: the best of each cell within limits, and the scenario behind it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.link.read import from_query
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.sweep.large.parts import ABOUT

MOST_ROWS, MOST_COLUMNS, MOST_BYTES = 2_000_000, 300, 800_000_000
TTFT, TPOT = "slo_ttft_ms_reached", "slo_tpot_ms_reached"
METRICS: Mapping[str, str] = {  # what a cell shows: the column it is of
    "device": "output_tok_per_s_per_accelerator",
    "usd": "usd_per_mtok",
    "watt": "joule_per_tok",
}
NEEDED = (*METRICS.values(), TTFT, TPOT, "tok_per_s_per_user", "saturated", "feasible")
MADE = ("point", "load_frac", "arrival_per_s")  # what a sweep adds to the keys that it varies


@dataclass(frozen=True, slots=True, eq=False)
class Atlas:
    """A table of simulations, with the scenario of which its rows are changes.

    Attributes
    ----------
    table : DataFrame
        One row a simulation: the varied keys and the metrics of a frontier.
    keys : tuple of str
        The keys that are varied, and have more than one value.
    scenario : Scenario
        All other keys.
    name : str
    """

    table: pd.DataFrame
    keys: tuple[str, ...]
    scenario: Scenario
    name: str = ""

    def values(self, key: str) -> list[Any]:
        """Return the values that a key has in the table, in order."""
        return sorted(self.table[key].dropna().unique().tolist(), key=_order)

    def scenario_of(self, row: int) -> Scenario:
        """Return the scenario of a row of the table.

        Raises
        ------
        ScenarioError
            If its keys contradict one another, as those of a row that is not feasible may.
        """
        found = self.table.iloc[row]
        names = [key for key in self.table if key in FIELDS and key in {*self.keys, *MADE, "requests"}]
        return with_changes(self.scenario, **{key: _value(key, found[key]) for key in names})


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """The best of each cell.

    Attributes
    ----------
    x, y : list
        The values of the two keys along the axes.
    value : ndarray of float64, shape (y, x)
        The best value: larger is better; NaN where nothing keeps the limits.
    row : ndarray of int64, shape (y, x)
        The row of the table behind it, -1 for none.
    reason : ndarray of str, shape (y, x)
        Why there is none: ``absent``, ``impossible``, or ``limits``.
    """

    x: list[Any]
    y: list[Any]
    value: np.ndarray
    row: np.ndarray
    reason: np.ndarray


def heat_map(atlas: Atlas, x: str, y: str, metric: str, ttft_ms: float, tpot_ms: float) -> HeatMap:
    """Return the best of each cell of two varied keys within limits on TTFT and TPOT.

    Parameters
    ----------
    metric : str
        One of `METRICS`: output per device [tok/s], per US dollar [tokens], or per joule [tokens].
    ttft_ms, tpot_ms : float
        What the percentile of the table's scenario may take. [ms]
    """
    table = atlas.table
    columns, rows = atlas.values(x), atlas.values(y)
    places = table[y].map(rows.index), table[x].map(columns.index)
    flat = (places[0] * len(columns) + places[1]).to_numpy()
    possible = table["feasible"].to_numpy(bool)
    kept = possible & ~table["saturated"].to_numpy(bool)
    kept &= (table[TTFT] <= ttft_ms).to_numpy() & ~(table[TPOT] > tpot_ms).to_numpy()
    worth = _worth(table, metric)
    kept &= np.isfinite(worth)
    count = len(columns) * len(rows)
    best = (
        pd.Series(np.where(kept, worth, -np.inf)).groupby(flat).idxmax().reindex(range(count), fill_value=-1)
    )
    row = best.to_numpy(np.int64)
    row = np.where((row >= 0) & kept[row], row, -1)
    reason = np.full(count, "limits", dtype="<U10")
    reason[~np.isin(np.arange(count), flat[possible])] = "impossible"
    reason[~np.isin(np.arange(count), flat)] = "absent"
    reason[row >= 0] = ""
    shape = len(rows), len(columns)
    value = np.where(row >= 0, worth[row], np.nan)
    return HeatMap(columns, rows, value.reshape(shape), row.reshape(shape), reason.reshape(shape))


def filtered(atlas: Atlas, only: Mapping[str, Any]) -> Atlas:
    """Return the part of an atlas in which some keys have one value."""
    kept = np.ones(len(atlas.table), bool)
    for key, value in only.items():
        kept &= (atlas.table[key] == value).to_numpy()
    return replace(atlas, table=atlas.table[kept].reset_index(drop=True))


def _worth(table: pd.DataFrame, metric: str) -> np.ndarray:
    """Return a metric such that larger is better: tok/s per device, tokens per dollar, tokens per joule."""
    column = table[METRICS[metric]].to_numpy(float)
    if metric == "device":
        return column
    with np.errstate(divide="ignore"):
        return np.where(column > 0, (1e6 if metric == "usd" else 1.0) / column, np.nan)


def _order(value: object) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _value(key: str, found: Any) -> Any:
    """Return a value of a table as its key has it; a whole number may have become a float."""
    if found is None or found != found:
        return None
    kind = FIELDS[key].kind
    return str(found) if kind is str else int(found) if kind is int else float(found)


# --- from a file ----------------------------------------------------------------------------------


def read_atlas(source: Path | bytes, name: str) -> Atlas:
    """Return the atlas of a table that `sweep` has written.

    Raises
    ------
    ScenarioError
        If it is no Parquet file, is too large, was not written by `sweep`, or lacks a column.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source)
        about = _about(file, name)
        names = file.schema_arrow.names
        wanted = [
            column for column in names if column in {*about["vary"], *NEEDED, *MADE, "requests", "limit"}
        ]
        _check_columns(names, about["vary"], name)
        table = file.read(columns=wanted).to_pandas()
        _check_kinds(table, name)
    except ScenarioError:  # which says what is wrong
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ScenarioError(f"{name} cannot be read as a Parquet file: {str(error)[:200]}") from None
    scenario, notes = from_query(about["scenario"])
    if notes:
        raise ScenarioError(f"{name} was written for a scenario that cannot be read: {notes[0]}")
    keys = tuple(key for key in about["vary"] if table[key].nunique() > 1)
    if len(keys) < 2:
        raise ScenarioError(
            f"{name} varies {counted(len(keys), 'key')}; a map needs two. Give `sweep` two --vary."
        )
    return Atlas(table, keys, scenario, name)


def _about(file: pq.ParquetFile, name: str) -> dict[str, Any]:
    """Return what a table says of itself, after a look at how large it is."""
    meta = file.metadata
    size = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
    for what, count, most in (
        ("rows", meta.num_rows, MOST_ROWS),
        ("columns", meta.num_columns, MOST_COLUMNS),
        ("bytes", size, MOST_BYTES),
    ):
        if count > most:
            raise ScenarioError(f"{name} has {count:,} {what}; the limit is {most:,}. Sweep fewer values.")
    said = (file.schema_arrow.metadata or {}).get(ABOUT.encode())
    if said is None:
        raise ScenarioError(f"{name} was not written by `python -m sim_core sweep`; write the table with it.")
    about = json.loads(said)
    ok = (
        isinstance(about, dict)
        and isinstance(about.get("scenario"), str)
        and isinstance(about.get("vary"), list)
    )
    if not ok or not all(isinstance(key, str) for key in about["vary"]):
        raise ScenarioError(
            f"{name} does not say what it varies; write it anew with `python -m sim_core sweep`."
        )
    return about


def _check_kinds(table: pd.DataFrame, name: str) -> None:
    """Make figures numbers and marks truth values, in place; raises a `ScenarioError` where they are not."""
    for column in NEEDED:
        kind = bool if column in ("saturated", "feasible") else float
        try:
            filled = table[column].fillna(False) if kind is bool else table[column]
            table[column] = filled.astype(kind)
        except (TypeError, ValueError):
            raise ScenarioError(
                f"{name} holds something else than numbers in {column}; write it anew with "
                "`python -m sim_core sweep`."
            ) from None


def _check_columns(names: list[str], vary: list[str], name: str) -> None:
    known = {*FIELDS, "load_frac"}
    missing = [column for column in (*NEEDED, *vary) if column not in names]
    unknown = [key for key in vary if key not in known]
    if missing or unknown:
        what = f"no column {missing[0]!r}" if missing else f"a key {unknown[0][:40]!r} that is none"
        raise ScenarioError(f"{name} has {what}; write it anew with `python -m sim_core sweep`.")
