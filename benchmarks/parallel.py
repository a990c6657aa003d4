"""How far predictions are from published layouts of many devices and their networks; development only.

A row of `parallel_and_network.csv` tells one figure of one layout: a rate, a latency, or how much better one
layout was than another. A row that tells model, accelerator, layout, lengths and load is set up as it was run
(`benchmarks.parallel_kinds`); every other row is left out, with the reason in words. Nothing is fitted here,
but constants of two kinds come from rows of this very table (`SEEN`): their errors are in sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.parallel_kinds import ALL_TO_ALL, KINDS, NOT_TOLD, TRANSFER
from benchmarks.printed import Predicted, cell, error_table, left_out_lines
from benchmarks.tables import LeftOut, Row, read_rows
from sim_core.fields.errors import ScenarioError

PARALLEL = "parallel_and_network.csv"
SEEN = (ALL_TO_ALL, TRANSFER)  # in `presets/kernels/all_to_all.csv` and `sim_core.price.pools.SENDS`


class Compared(NamedTuple):
    """One row: what it tells of which layout, and each of its figures as predicted and as measured."""

    id: str
    kind: str
    source: str
    model: str
    accelerator: str
    layout: str
    metric: str
    figures: tuple[Predicted, ...]


def read_parallel(path: Path, left_out: Counter[str]) -> list[Compared]:
    """Return the rows that can be set up, as predicted; count the others by reason."""
    return read_rows(path, left_out, _compared)


def _compared(row: Row, number: int) -> Compared:
    """Return one row with its predictions; leave it out where it does not tell what was run."""
    kind = row.text("kind")
    for name, reason in NOT_TOLD.items():
        if kind.startswith(name):
            raise LeftOut(f"{name}: {reason}")
    known = next((name for name in KINDS if kind.startswith(name)), "")
    if not known:
        raise LeftOut(f"no layout is modelled by such rows: {kind or 'no kind'}")
    try:
        figures = KINDS[known](row, number)
    except ScenarioError as error:
        raise LeftOut(f"cannot be run as stated: {str(error).split('. ')[0]}") from None
    texts = (row.text(key) for key in ("source", "model", "gpu", "layout", "metric"))
    return Compared(row.text("id") or f"row {number}", known, *texts, tuple(figures))


def parallel_scores(folder: Path) -> dict[str, Any]:
    """Return the errors of layouts of many devices in a folder's table.

    Returns
    -------
    dict
        By kind of row, and by what was measured where that is several things, the errors in percent
        (`error_table`) and whether constants come from these rows (``seen``). ``rows`` counts those used,
        ``left_out`` the others by reason.
    """
    left_out: Counter[str] = Counter()
    rows = read_parallel(folder / PARALLEL, left_out)
    ratios: dict[str, list[float]] = {}
    for row in rows:
        for figure in row.figures:
            name = f"{row.kind}, {figure.what}" if figure.what else row.kind
            ratios.setdefault(name, []).append(figure.predicted / figure.measured)
    tables = {
        name: {**error_table(np.array(found)), "seen": name.startswith(SEEN)}
        for name, found in ratios.items()
    }
    return {**tables, "rows": len(rows), "left_out": dict(left_out)}


def parallel_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the scores as a table to read."""
    columns = ("n", "median", "mean", "within_20", "bias")
    lines = [f"{'parallel layouts and networks':<44}" + "".join(f"{name:>11}" for name in columns)]
    for name, table in found.items():
        if isinstance(table, dict) and "median" in table:
            cells = "".join(f"{cell(table[key]):>11}" for key in columns)
            lines.append(f"{name:<44}{cells}{'  in sample' if table['seen'] else ''}")
    return [*lines, "", *left_out_lines(found["left_out"])]
