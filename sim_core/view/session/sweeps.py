"""What the pages simulate: a sweep planned from scenario and view, first quickly, then finely.

The first answer comes from about 2,000 requests a point and is remembered for all visitors. When the chart
has rested, the same points are run with many more requests on the process-wide thread pool; the visitor's
next move interrupts that.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from sim_core import catalogue
from sim_core.engine.work import seated
from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.memory import memory
from sim_core.questions.speculation import SUPPOSED_DRAFTS, supposed
from sim_core.scenario.scenario import FIELDS, SPECS, Scenario, accelerator_of
from sim_core.sweep.frontier import evaluate_all, on_frontier, refine, tabulate
from sim_core.sweep.points import LOAD, TENSOR_PARALLEL, Point, steps_of, sweep_key, sweep_points
from sim_core.sweep.remembered import Remembered
from sim_core.sweep.saturation import saturation_per_s
from sim_core.view.drawing.figures import Row, X, Y, drawable
from sim_core.view.drawing.words import Along, number
from sim_core.view.session import state
from sim_core.view.session.preparation import FIRST, KERNELS, PARTS, Progress

ALONG = {  # what runs along a curve: the column that tells its points apart, and how to say one
    LOAD: Along("arrival_per_s", "{} req/s", "request rate", "Request rate [req/s]"),
    "concurrency": Along("concurrency", "{} clients", "number of clients", "Clients"),
    "max_batch": Along("max_batch", "batch limit {}", "batch limit", "Batch limit"),
}
VARY = {  # what may tell curves apart, in words
    key: FIELDS[key].label.lower()
    for key in ("tensor_parallel", "policy", "weight_dtype", "accelerator", "max_batch", "spec_tokens")
} | {"weight_dtype": "precision", "spec_tokens": "speculation"}
REMEMBERED = 64
USUAL = {"chunked", "prefill_first"}  # the policies that need no other kernels than the first chart
TELL_S = 0.25  # between two words on how far the preparation is
NOT_PREPARED = (
    "The simulator could not be compiled: {} Reload the page to try again. If that does not help, let the "
    "environment variable NUMBA_CACHE_DIR name an empty folder that can be written, and start the app again."
)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One set of curves: the scenario, what tells the curves apart, and what runs along them."""

    scenario: Scenario
    by: str
    values: tuple[Any, ...]
    along: str

    @property
    def vary(self) -> dict[str, Sequence[Any]]:
        """The keys and values that `frontier` varies."""
        return {self.by: self.values, self.along: steps_of(self.along)}

    @property
    def own(self) -> str:
        """The label of the curve the scenario lies on."""
        return self.label(getattr(self.scenario, self.by))

    def label(self, value: object) -> str:
        """Return the name of a curve; an accelerator with other specs than its datasheet's is so called."""
        if self.by == "accelerator" and value == self.scenario.accelerator:
            return accelerator_of(self.scenario).name
        return curve_label(self.by, value)

    def points(self) -> list[Point]:
        """Return the points; a changed accelerator keeps its changes, the others are as sold."""
        if self.by != "accelerator":
            return sweep_points(self.scenario, self.vary)
        sold = self.scenario.replace(**dict.fromkeys(SPECS))
        points = []
        for name in self.values:
            base = self.scenario if name == self.scenario.accelerator else sold
            points += sweep_points(base, self.vary | {"accelerator": (name,)})
        return points


class Result(NamedTuple):
    """The points of a sweep and the scenario's own setting, one row each; not to be changed by readers."""

    rows: list[dict[str, Any]]
    here: dict[str, Any]
    fine: bool

    def table(self) -> pd.DataFrame:
        """Return the points as a table."""
        return tabulate(self.rows)


def curve_label(key: str, value: Any) -> str:
    """Return the name of a curve."""
    if key == "tensor_parallel":
        return f"TP {value}"
    if key == "accelerator":
        return catalogue.accelerator(value).name
    if key == "max_batch":
        return f"batch ≤ {number(value)}"
    if key == "spec_tokens":
        return counted(value, "draft") if value else "no speculation"
    return str(value).replace("_", " ")


def look(sweep: Sweep, value: Any) -> int:
    """Return the look of a curve; it follows the entity from chart to chart."""
    if sweep.by in ("tensor_parallel", "max_batch"):
        return int(math.log2(value)) // (1 if sweep.by == "tensor_parallel" else 2)
    by_place = sweep.by in ("accelerator", "spec_tokens")
    known: tuple[Any, ...] = sweep.values if by_place else FIELDS[sweep.by].choices
    return known.index(value)


def plan(scenario: Scenario) -> Sweep:
    """Return the sweep that scenario and view ask for."""
    by, along = state.view("vary"), sweep_key(scenario)
    if by == along:
        by = "tensor_parallel"
    if by == "spec_tokens":
        return _with_and_without(scenario, along)
    own = getattr(scenario, by)
    values: dict[str, tuple[Any, ...]] = {
        "tensor_parallel": TENSOR_PARALLEL,
        "policy": ("chunked", "prefill_first", "static"),
        "weight_dtype": ("bf16", "fp8", "fp4"),
        "max_batch": (16, 64, 256, 1024),
    }
    chosen: tuple[Any, ...] = tuple(state.among(scenario)) if by == "accelerator" else values[by]
    if by == "tensor_parallel" and not fits(scenario, chosen[-1]):
        chosen = next(((*chosen, n) for n in (16, 32, 64) if fits(scenario, n)), chosen)
    if own not in chosen:
        chosen = (*chosen, own)
    return Sweep(scenario, by, tuple(sorted(chosen)) if isinstance(own, int) else chosen, along)


def _with_and_without(scenario: Scenario, along: str) -> Sweep:
    """Return the sweep of a scenario with speculation and without, as it is or as it would be set up."""
    try:
        how = supposed(scenario)
    except ScenarioError:  # no engine speculates so: the curve with drafts says why
        return Sweep(scenario, "spec_tokens", (0, SUPPOSED_DRAFTS), along)
    return Sweep(scenario.replace(draft=how.scenario.draft), "spec_tokens", (0, how.drafts), along)


def fits(scenario: Scenario, devices: int) -> bool:
    """Return whether the scenario's model fits a tensor-parallel group of that many devices."""
    try:
        return memory(scenario.replace(tensor_parallel=devices, expert_parallel=1))["kv_tokens"] > 0
    except ScenarioError:
        return False


def load_sweep(scenario: Scenario) -> Sweep:
    """Return the sweep of the load curve: request rates up to saturation, Poisson unless bursty."""
    arrivals = scenario.arrivals if scenario.arrivals == "gamma" else "poisson"
    return Sweep(scenario.replace(arrivals=arrivals), "tensor_parallel", (scenario.tensor_parallel,), LOAD)


_quick: Remembered[Sweep, Result] = Remembered(REMEMBERED)
_fine: Remembered[Sweep, Result] = Remembered(REMEMBERED)


def result(sweep: Sweep) -> Result:
    """Return the fine result where it is known, else the quick one."""
    return _fine.get(sweep) or quick_result(sweep)


def quick_result(sweep: Sweep) -> Result:
    """Return a sweep with the scenario's own number of requests a point."""
    return _quick.of(sweep, lambda: _quickly(sweep))


def _quickly(sweep: Sweep) -> Result:
    with seated():
        rows = evaluate_all([*sweep.points(), _own_point(sweep)])
    return _result(sweep, rows, fine=False)


def _own_point(sweep: Sweep) -> Point:
    """Return the scenario itself as a point."""
    keys = {sweep.by: getattr(sweep.scenario, sweep.by)}
    column = ALONG[sweep.along].column
    return Point(keys | {column: getattr(sweep.scenario, column)}, sweep.scenario)


def _result(sweep: Sweep, rows: list[dict[str, Any]], fine: bool) -> Result:
    """Return the rows as a result: labelled, badged, the frontier marked, the scenario's own row apart."""
    rows = [
        {"curve": sweep.label(row[sweep.by]), "look": look(sweep, row[sweep.by]), **BLANK, **row}
        | trust.columns(sweep.scenario, row)
        for row in rows
    ]
    places = np.array([(row[X], row[Y]) for row in rows[:-1]], float)
    for row, chosen in zip(rows, on_frontier(places[:, 0], places[:, 1]).tolist(), strict=False):
        row["on_frontier"] = chosen
    return Result(rows[:-1], rows[-1], fine)


BLANK = {X: math.nan, Y: math.nan, "saturated": False, "meets_slo": False, "on_frontier": False, "limit": ""}


def refined(sweep: Sweep) -> Result:
    """Return a sweep with many more requests and bands; the visitor's next move interrupts it."""
    known = _fine.get(sweep)
    if known is None:
        points = [*sweep.points(), _own_point(sweep)]
        rows: list[dict[str, Any]] = [{} for _ in points]
        for index, row in interruptible(refine(points)):
            rows[index] = row
        known = _fine.put(sweep, _result(sweep, rows, fine=True))
    return known


def interruptible(items: Iterator[Any]) -> Iterator[Any]:
    """Yield items; before each, give Streamlit the chance to stop this run for a newer one."""
    try:
        for item in items:
            st.session_state.get("scenario")
            yield item
    finally:
        if isinstance(items, Generator):
            items.close()


def best_within_limits(rows: Iterable[Row]) -> Row | None:
    """Return the point with the most throughput per accelerator within the limits."""
    return max((row for row in drawable(rows) if row["meets_slo"]), key=lambda row: row[Y], default=None)


def peak(rows: Iterable[Row]) -> Row | None:
    """Return the point with the most throughput per accelerator, limits or not."""
    return max(drawable(rows), key=lambda row: row[Y], default=None)


def knee(sweep: Sweep) -> float | None:
    """Return the request rate at which the scenario saturates. [req/s]"""
    try:
        return saturation_per_s(sweep.scenario)
    except ScenarioError:
        return None


_preparation = KERNELS


def prepare() -> None:
    """Begin to compile the kernels, once a process, and return at once."""
    _preparation.begin()


def is_ready() -> bool:
    """Return whether all kernels are compiled."""
    return _preparation.is_ready()


def wait_until_ready(sweep: Sweep | None = None) -> None:
    """Wait until kernels are compiled, those that a sweep needs or all, and tell the visitor meanwhile."""
    wanted = _parts_for(sweep)
    if not _preparation.is_ready(wanted):
        _tell(wanted)


def _parts_for(sweep: Sweep | None) -> int | None:
    """Return how many parts a sweep needs; None for all."""
    if sweep is None:
        return None
    policies = sweep.values if sweep.by == "policy" else (sweep.scenario.policy,)
    usual = sweep.scenario.replicas == 1 and set(policies) <= USUAL
    return len(FIRST) if usual else None


def _tell(wanted: int | None) -> None:
    """Tell the visitor how far the preparation is until it is far enough; a move of theirs ends that."""
    place = st.empty()
    _preparation.begin()
    while not _preparation.wait(wanted, TELL_S):
        now = _preparation.now
        if now.failure:
            place.error(NOT_PREPARED.format(now.failure), icon=":material/error:")
            st.stop()
        place.progress(_done_frac(now), _preparing_words(now))
    place.empty()


def _done_frac(now: Progress) -> float:
    return min(now.functions / now.of, 1.0) if now.of else 0.0


def _preparing_words(now: Progress) -> str:
    part = PARTS[min(now.parts, len(PARTS) - 1)].name
    return (
        f"Preparing the simulator: **{part}**, part {now.parts + 1} of {len(PARTS)}; "
        f"{now.functions} of {now.of or '…'} functions are compiled. Needed once after installation."
    )
