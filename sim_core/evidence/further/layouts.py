"""How far predictions of layouts of many devices were off: figures that others published, in series.

`benchmarks/validate.py --layouts` writes `presets/validation/layouts.csv`. A series holds the figures of one
layout of one model and accelerator, or of one network; nothing is fitted to them but where `seen` says so.
"""

from __future__ import annotations

import csv
from functools import cache
from typing import NamedTuple

from sim_core.evidence.published import FOLDER

LAYOUTS_FILE = FOLDER / "layouts.csv"


class Series(NamedTuple):
    """Figures of one layout: what they are, how many, from the least to the largest, and the median ratio.

    `ratio` is predicted over measured. `seen` says that constants come from these very figures.
    """

    kind: str
    figure: str
    model: str
    accelerator: str
    layout: str
    rows: int
    measured_low: float
    measured_high: float
    predicted_low: float
    predicted_high: float
    ratio: float
    seen: bool
    source: str


@cache
def published_series() -> tuple[Series, ...]:
    """Return the series of the file."""
    with LAYOUTS_FILE.open(encoding="utf-8", newline="") as lines:
        return tuple(_series(row) for row in csv.DictReader(lines))


def _series(row: dict[str, str]) -> Series:
    return Series(
        kind=row["kind"],
        figure=row["figure"],
        model=row["model"],
        accelerator=row["accelerator"],
        layout=row["layout"],
        rows=int(row["rows"]),
        measured_low=float(row["measured_low"]),
        measured_high=float(row["measured_high"]),
        predicted_low=float(row["predicted_low"]),
        predicted_high=float(row["predicted_high"]),
        ratio=float(row["ratio"]),
        seen=row["seen"] == "yes",
        source=row["source"],
    )
