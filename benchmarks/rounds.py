"""Published ratios of benchmark entries by round and accelerator, as the MLPerf-like page shows them."""

from __future__ import annotations

import csv
import io

import pandas as pd

from sim_core.catalogue.rounds import PATH, RoundSpread

SHARES = {"server": "server_over_offline", "interactive": "interactive_over_offline"}


def write(ratios: pd.DataFrame, retrieved: str) -> None:
    """Write what a table of ratios says of each benchmark, round and accelerator; distinct closed entries."""
    out = io.StringIO()
    writer = csv.DictWriter(out, RoundSpread._fields, lineterminator="\n")
    writer.writeheader()
    for (benchmark, name, part), group in ratios.groupby(["benchmark", "round", "part"]):
        row = {"benchmark": benchmark, "round": name, "accelerator": part}
        for rule, column in SHARES.items():
            row |= _spread(rule, group[column].dropna())
        used = group[group[list(SHARES.values())].gt(0).any(axis=1)]
        row |= {"entries": _texts(used["entry_id"]), "submitters": _texts(used["submitter"])}
        writer.writerow(row | {"sources": _texts(used["source_repo"]), "retrieved": retrieved})
    PATH.write_text(out.getvalue(), encoding="utf-8")


def _spread(rule: str, values: pd.Series) -> dict[str, object]:
    """Return count, lowest, median and highest of ratios; blank where there is none."""
    found: dict[str, object] = {f"{rule}_count": len(values)}
    if len(values):
        middle = {"min": values.min(), "median": values.median(), "max": values.max()}
        found |= {f"{rule}_{key}": f"{value:.4f}" for key, value in middle.items()}
    return found


def _texts(column: pd.Series) -> str:
    return "; ".join(sorted({str(value) for value in column if str(value)}))
