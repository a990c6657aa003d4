"""Predict published points that are each run as a scenario of their own, as the Validation page shows them.

python -m benchmarks.alone  # writes presets/validation/alone.csv; a minute
"""

from __future__ import annotations

import csv

import numpy as np

from sim_core.evidence.errors import PREDICTED, score
from sim_core.evidence.predicted import alone
from sim_core.evidence.published import FOLDER, points


def main() -> None:
    """Write what the typical calibration says of them."""
    chosen = [point for point in points() if alone(point)]
    with (FOLDER / "alone.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("id", *PREDICTED))
        for point, values in zip(chosen, score(chosen).predicted, strict=True):
            table.writerow((point.id, *("" if np.isnan(value) else f"{value:.6g}" for value in values)))


if __name__ == "__main__":
    main()
