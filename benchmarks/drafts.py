"""What drafts keep the host, found on published runs with speculation; development only.

Two constants are found, alike for all models, parts and engines: the time of each draft of a step, and of
each draft of a sequence. They lengthen a step that verifies K drafts of B sequences by
``K (draft + B draft_sequence)``, and so a token by that over the acceptance length: prompts between the steps
take what they took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.runs import RUNS, read_runs
from benchmarks.speculation import DRAFT_CONSTANTS, DRAFTS, NO_HOST, Predicted, length_of, predicted
from sim_core.evidence.published import campaign

LOG_ERROR = 0.1  # at which the loss turns from squared to absolute


def write_drafts(folder: Path) -> str:
    """Fit the runs with speculation in a folder's table; write the constants found, and return them."""
    left_out: Counter[str] = Counter()
    rows = predicted(read_runs(folder / RUNS, left_out), left_out, NO_HOST)
    text = "\n".join(drafts_lines(rows)) + "\n"
    DRAFTS.write_text(text, encoding="utf-8")
    return text


def fit_drafts(rows: Sequence[Predicted]) -> dict[str, float]:
    """Return the constants [ms, us] that fit runs best, each campaign counting once.

    Parameters
    ----------
    rows : sequence of Predicted
        Predicted with both constants 0.
    """
    from scipy.optimize import least_squares

    columns = [(row.point.tpot_ms, row.with_ms, row.drafts, row.point.clients, _length(row)) for row in rows]
    seen_ms, bare_ms, drafts, clients, lengths = np.array(columns).T
    names = [campaign(row.point) for row in rows]
    weights = np.array([names.count(name) ** -0.5 for name in names])

    def residuals(found: np.ndarray) -> np.ndarray:
        more_ms = drafts * (found[0] + 1e-3 * found[1] * clients) / lengths
        return weights * np.log((bare_ms + more_ms) / seen_ms)

    start = np.array([0.5, 30.0])
    found = least_squares(
        residuals, start, bounds=(0.0, np.inf), loss="soft_l1", f_scale=LOG_ERROR, x_scale=start
    )
    return {name: float(f"{value:.3g}") for name, value in zip(DRAFT_CONSTANTS, found.x, strict=True)}


def _length(row: Predicted) -> float:
    return length_of(row.point, row.drafts)


def drafts_lines(rows: Sequence[Predicted]) -> list[str]:
    """Return the constants found on all rows, and without each accelerator, as lines of TOML."""
    parts = sorted({row.point.accelerator for row in rows})
    lines = [
        "# What drafts keep the host: of all runs, and of those on other accelerators.",
        f"rows = {len(rows)}",
    ]
    for name in ("", *parts):
        some = [row for row in rows if row.point.accelerator != name]
        lines += ["", f'[without."{name}"]' if name else "[all]"]
        lines += [f"{key} = {value:g}" for key, value in fit_drafts(some).items()]
    return lines
