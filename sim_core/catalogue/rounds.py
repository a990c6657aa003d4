"""Published benchmark entries by round: what share of Offline throughput they keep under latency limits."""

from __future__ import annotations

import csv
from functools import cache
from typing import NamedTuple

from sim_core.catalogue.reader import PRESETS

PATH = PRESETS / "published" / "rounds.csv"


class RoundSpread(NamedTuple):
    """Distinct closed-division entries of one benchmark and round on one accelerator.

    Ratios are of Offline throughput, NaN where no entry states them; `entries`, `submitters` and `sources`
    are lists in one text, as they are cited.
    """

    benchmark: str
    round: str
    accelerator: str
    server_count: int
    server_min: float
    server_median: float
    server_max: float
    interactive_count: int
    interactive_min: float
    interactive_median: float
    interactive_max: float
    entries: str
    submitters: str
    sources: str
    retrieved: str


@cache
def rounds(benchmark: str) -> tuple[RoundSpread, ...]:
    """Return the spreads of one benchmark, by round and accelerator."""
    with PATH.open(encoding="utf-8", newline="") as lines:
        found = [_spread(row) for row in csv.DictReader(lines) if row["benchmark"] == benchmark]
    return tuple(sorted(found))


def _spread(row: dict[str, str]) -> RoundSpread:
    """Return one row with numbers where its fields are numbers."""
    values: dict[str, object] = dict(row)
    for rule in ("server", "interactive"):
        values[f"{rule}_count"] = int(row[f"{rule}_count"])
        for part in ("min", "median", "max"):
            values[f"{rule}_{part}"] = float(row[f"{rule}_{part}"] or "nan")
    return RoundSpread(**values)  # type: ignore[arg-type]
