"""Published figures of layouts of many devices, in series as a page shows them; development only."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.parallel import PARALLEL, SEEN, Compared, read_parallel
from benchmarks.printed import Predicted
from benchmarks.step_curve import BEYOND, DRAFT, STEP_CURVE, VERIFY, read_steps
from sim_core.evidence.further.layouts import LAYOUTS_FILE, Series

STEPS = {
    VERIFY: "verification, ms",
    BEYOND: "verification beyond CUDA graphs, ms",
    DRAFT: "seven drafts, ms",
}
STEP_SOURCE = "vllm-project.github.io, DSpark, 2026-08-14, fig2-costcurve.svg"


def write_layouts(folder: Path) -> str:
    """Write the series of a folder's tables, as predicted now, and return them."""
    left_out: Counter[str] = Counter()
    rows = read_parallel(folder / PARALLEL, left_out)
    steps = read_steps(folder / STEP_CURVE, left_out)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Series._fields)
    writer.writerows(_cells(each) for each in (*series_of(rows), *series_of_steps(steps)))
    LAYOUTS_FILE.write_text(out.getvalue(), encoding="utf-8")
    return out.getvalue()


def series_of(rows: Sequence[Compared]) -> list[Series]:
    """Return rows as series: those of one kind, model, accelerator, devices and layout, by figure."""
    found: dict[tuple[str, ...], list[Predicted]] = {}
    sources: dict[tuple[str, ...], str] = {}
    for row in rows:
        for figure in row.figures:
            in_ms = figure.what in ("TTFT", "TPOT")
            name = f"{figure.what}, ms" if in_ms else figure.what or row.metric
            key = (row.kind, name, row.model, row.accelerator, row.layout)
            found.setdefault(key, []).append(figure)
            sources.setdefault(key, row.source)
    return [
        _series((key[0], key[1], key[2], key[3], key[4]), figures, key[0] in SEEN, sources[key])
        for key, figures in found.items()
    ]


def series_of_steps(steps: Sequence[Predicted]) -> list[Series]:
    """Return the parts of a curve of steps as series."""
    return [
        _series(
            ("one step", words, "DeepSeek-V4-Flash", "B300", "TP4 EP4, context 8,192"),
            [step for step in steps if step.what == name],
            False,
            STEP_SOURCE,
        )
        for name, words in STEPS.items()
        if any(step.what == name for step in steps)
    ]


def _series(
    of: tuple[str, str, str, str, str], figures: Sequence[Predicted], seen: bool, source: str
) -> Series:
    measured, predicted = (
        np.array([getattr(figure, side) for figure in figures]) for side in ("measured", "predicted")
    )
    edges = [float(edge) for side in (measured, predicted) for edge in (side.min(), side.max())]
    return Series(*of, len(figures), *edges, float(np.median(predicted / measured)), seen, source)


def _cells(series: Series) -> list[str]:
    shown = (f"{value:.4g}" if isinstance(value, float) else value for value in series)
    return [("yes" if value else "no") if isinstance(value, bool) else str(value) for value in shown]
