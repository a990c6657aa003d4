"""What drafts keep the host, found on published runs with speculation; development only.

Two constants are found, alike for all models, parts and engines: the time of each draft of a step, and of
each draft of a sequence. They lengthen a step that verifies K drafts of B sequences by
``K (draft + B draft_sequence)``, and so a token by that over the acceptance length: prompts between the steps
take what they took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runs import RUNS, read_runs
from benchmarks.speculation import (
    DRAFT_CONSTANTS,
    NO_HOST,
    Predicted,
    predicted,
    speculation_scores,
    unseen_constants,
)
from sim_core import catalogue
from sim_core.catalogue.engines import engine
from sim_core.evidence.assumed import ENGINES
from sim_core.evidence.further.speculated import DRAFTS_FILE
from sim_core.evidence.published import PublishedPoint, campaign

LOG_ERROR = 0.1  # at which the loss turns from squared to absolute


def write_drafts(folder: Path) -> str:
    """Fit the runs with speculation in a folder; write what was found, with its errors, and return it."""
    left_out: Counter[str] = Counter()
    rows = predicted(read_runs(folder / RUNS, left_out), left_out, NO_HOST)
    found = "\n".join(drafts_lines([row for row in rows if within_nodes(row.point)])) + "\n"
    DRAFTS_FILE.write_text(found, encoding="utf-8")
    unseen_constants.cache_clear()
    found += "\n".join(error_lines(speculation_scores(folder))) + "\n"
    DRAFTS_FILE.write_text(found, encoding="utf-8")
    return found


def error_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the errors of speculation as lines of TOML, over all and by engine and accelerator."""
    lines = ["", "[errors]  # TPOT in percent; without the row's accelerator"]
    for name, table in {"all": found, **found["groups"]}.items():
        tpot, constant = table["tpot"], table["constant"]
        figures = f"median_pct = {tpot['median']}, p90_pct = {tpot['p90']}, constant_pct = {constant}"
        lines.append(f'"{name}" = {{ rows = {tpot["n"]}, {figures} }}')
    return lines


def within_nodes(point: PublishedPoint) -> bool:
    """Return whether no group of a point's devices lies over several nodes.

    What drafts keep the host cannot be told from what the network takes of a step there, so such runs are
    predicted, but not fitted.
    """
    group = max(point.tensor_parallel, point.prefill_devices, point.decode_devices)
    return catalogue.accelerator(point.accelerator).nodes(group) == 1


def fit_drafts(rows: Sequence[Predicted]) -> dict[str, float]:
    """Return the constants [ms, us] that fit runs best, each campaign counting once.

    Parameters
    ----------
    rows : sequence of Predicted
        Predicted with both constants 0.
    """
    from scipy.optimize import least_squares

    rows = [row for row in rows if np.isfinite(row.with_ms)]
    columns = [(row.point.tpot_ms, row.with_ms, row.drafts, _sequences(row), row.length) for row in rows]
    seen_ms, bare_ms, drafts, sequences, lengths = np.array(columns).T
    shares = np.array([host_share(row.point) for row in rows])
    names = [campaign(row.point) for row in rows]
    weights = np.array([names.count(name) ** -0.5 for name in names])

    def residuals(found: np.ndarray) -> np.ndarray:
        more_ms = shares * drafts * (found[0] + 1e-3 * found[1] * sequences) / lengths
        return weights * np.log((bare_ms + more_ms) / seen_ms)

    start = np.array([0.5, 30.0])
    found = least_squares(
        residuals, start, bounds=(0.0, np.inf), loss="soft_l1", f_scale=LOG_ERROR, x_scale=start
    )
    return {name: float(f"{value:.3g}") for name, value in zip(DRAFT_CONSTANTS, found.x, strict=True)}


def host_share(point: PublishedPoint) -> float:
    """Return the share of the host's time for drafts that a point's engine does not hide."""
    name = ENGINES.get(point.engine)
    return engine(name).draft_host_frac if name else 1.0


def _sequences(row: Predicted) -> float:
    """Return how many sequences a step of the busiest device verifies: clients of one group, or rank."""
    point = row.point
    groups = point.decode_workers * max(point.decode_ranks, 1) if point.pools == "split" else 1
    return point.clients / max(groups * max(point.ranks, 1), 1)


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
