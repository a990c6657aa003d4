"""Tables that views of the Compare page share: results side by side, and what one spec would have to be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np

from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.questions import compare, design
from sim_core.questions.design import SRAM
from sim_core.scenario.link.write import to_query
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of
from sim_core.sweep import capacity
from sim_core.sweep.frontier import on_frontier
from sim_core.sweep.points import sweep_key
from sim_core.sweep.ranges import Estimate
from sim_core.view.drawing.figures import Row, X, Y
from sim_core.view.drawing.verdicts import OVERLOADED, Limits, broken
from sim_core.view.drawing.words import THIN, duration, number, percent, spoken
from sim_core.view.parts import pieces
from sim_core.view.parts.controls import SPECS
from sim_core.view.session import sweeps

RESULTS = (
    ("output_tok_per_s_per_accelerator", "Best within the limits [tok/s per accelerator]", number, True),
    ("tok_per_s_per_user", "Interactivity there [tok/s/user]", number, True),
    ("ttft_ms_p99", "TTFT p99 there", duration, False),
    ("tpot_ms_p99", "TPOT p99 there", duration, False),
    ("usd_per_mtok", "Cost [USD/Mtok]", number, False),
    ("joule_per_tok", "Energy [J/tok]", number, False),
)
MEASURED = "measured step times do not follow the specs"
LEAST_ERROR = 0.005  # below it a change is said without
ON_CHIP = {"hbm_gb_per_s": "SRAM bandwidth", "hbm_gb": "On-chip SRAM"}


def labelled(
    names: Sequence[str], sides: Sequence[Scenario], curves: Sequence[Sequence[Row]]
) -> list[dict[str, Any]]:
    """Return all points with the name of their curve, its look, how far to trust it, and its scenario.

    Those on the frontier over all curves are marked.
    """
    rows = [
        {"curve": name, "look": place, **sweeps.BLANK, **row}
        | trust.columns(side, row)
        | {"scenario": to_query(side)}
        for place, (name, side, rows) in enumerate(zip(names, sides, curves, strict=True))
        for row in rows
    ]
    places = np.array([(row[X], row[Y]) for row in rows], float).reshape(-1, 2)
    chosen = on_frontier(places[:, 0], places[:, 1]).tolist()
    return [row | {"on_frontier": kept} for row, kept in zip(rows, chosen, strict=True)]


def why_none(side: Scenario, points: Sequence[Row]) -> str:
    """Return why a side has no result, in words behind its name; "" where it has one."""
    able = [row for row in points if row["feasible"]]
    if not able:
        return f"cannot run: {spoken(points[0]['reason'])}"
    try:
        if capacity.best_within(side) is not None:
            return ""
    except ScenarioError as error:
        return f"has no result: {error}"
    limits = Limits(side.slo_ttft_ms, side.slo_tpot_ms)
    closest = min(able, key=partial(_beyond, limits))
    if closest["meets_slo"]:
        how = "keeps them in this run alone: a close call"
    else:
        how = " and ".join(broken(closest, limits)) or f"is {OVERLOADED}"
    where = sweeps.ALONG[sweep_key(side)].text(closest)
    return f"has no result within its limits: the point that comes closest, {where}, {how}."


def _beyond(limits: Limits, row: Row) -> float:
    """Return how far a point is beyond the limit that it breaks most; infinite for an overloaded one."""
    reached = (
        row.get("slo_ttft_ms_reached", math.nan) / (limits.ttft_ms or math.inf),
        row.get("slo_tpot_ms_reached", math.nan) / limits.tpot_ms,
    )
    return math.inf if row["saturated"] else max((value for value in reached if value > 0), default=0.0)


def shared(values: Iterable[float]) -> float | None:
    """Return the value that all sides have; None where they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def side_by_side(
    caption: str,
    names: Sequence[str],
    sides: Sequence[Scenario],
    gains: Sequence[Estimate | None] = (),
) -> None:
    """Show what each side reaches at its best point within its limits, against the first.

    Where the change of throughput is known with its error (`gains`), it is told so: the mean of several runs.
    """
    tops, lines = [compare.best_within(side) for side in sides], []
    for key, label, words, more_is_better in RESULTS:
        values = [math.nan if top is None or top[key] is None else top[key] for top in tops]
        lines.append((label, pieces.cells(values, words, more_is_better)))
    label, cells = lines[0]
    lines[0] = label, [_told(cell, gain) for cell, gain in zip_longest(cells, gains)]
    pieces.table(caption, names, lines, scroll=True)


def _told(cell: pieces.Cell, gain: Estimate | None) -> pieces.Cell:
    """Return a cell with its change as the finding tells it, in as many digits as the error leaves."""
    if gain is None or math.isnan(gain.frac):
        return cell
    if not gain.is_sure:
        return cell._replace(small=f"±{percent(gain.error_frac)}" if gain.error_frac else "", small_kind="")
    return cell._replace(small=signed_words(gain), small_kind=pieces.good_or_bad(gain.frac > 0))


def signed_words(gain: Estimate) -> str:
    """Return a change with its sign and its error, in as many digits as the error leaves.

    Examples
    --------
    >>> signed_words(Estimate(0.1337, 0.021)).replace(THIN, " ")
    '+13 % (±2 %)'
    >>> signed_words(Estimate(-0.4721, 0.0)).replace(THIN, " ")
    '−47 %'
    """
    if gain.frac >= 1:
        times = f"{number(1 + gain.frac, 2)} times the"
        return times if gain.error_frac < LEAST_ERROR else f"{times} (±{percent(gain.error_frac)})"
    sign = "+" if gain.frac > 0 else "−"
    if gain.error_frac < LEAST_ERROR:
        return f"{sign}{percent(abs(gain.frac))}"
    places = -math.floor(math.log10(100 * gain.error_frac))
    amount, error = (
        f"{round(100 * part, places):.{max(places, 0)}f}" for part in (abs(gain.frac), gain.error_frac)
    )
    return f"{sign}{amount}{THIN}% (±{error}{THIN}%)"


def show_needed(caption: str, scenario: Scenario, found: Mapping[str, float]) -> None:
    """Show what each spec alone would have to be, as `compare.needed` found it."""
    part = accelerator_of(scenario)
    lines = [
        (spec_label(key, scenario), [factor_words(key, value, getattr(part, key))])
        for key, value in found.items()
    ]
    pieces.table(caption, ["Needed"], lines, scroll=True)


def spec_label(key: str, scenario: Scenario) -> str:
    """Return the name of a spec; the memory of an SRAM part is its SRAM."""
    return ON_CHIP.get(key, FIELDS[key].label) if design.kind(scenario) == SRAM else FIELDS[key].label


def factor_words(key: str, value: float, spec: float | None) -> str:
    """Return what one spec would have to be."""
    if spec is None:
        return "not known"
    if math.isnan(value):
        return f"no change of this spec alone is enough, even {number(compare.MOST_FACTOR)}×"
    if value == 1:
        return "nothing: it is enough"
    return f"{number(value, 3)}×: {SPECS[key][0](spec * value)}"
