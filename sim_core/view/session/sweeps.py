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
import streamlit as st

from sim_core.engine.work import seated
from sim_core.evidence import trust
from sim_core.evidence.coverage import most_ranks, most_stages
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import memory
from sim_core.questions.deployment.curves import best_of_families
from sim_core.questions.deployment.layouts import LAYOUT_KEYS, own_layout
from sim_core.questions.speculation import SUPPOSED_DRAFTS, supposed
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.scenario import FIELDS, SPECS, Scenario, accelerator_of
from sim_core.sweep.frontier import evaluate_all, on_frontier, refine
from sim_core.sweep.part_layouts import best_group
from sim_core.sweep.points import LOAD, TENSOR_PARALLEL, Point, steps_of, sweep_key, sweep_points
from sim_core.sweep.remembered import Remembered
from sim_core.sweep.saturation import saturation_per_s
from sim_core.view.drawing.figures import Row, X, Y, drawable
from sim_core.view.drawing.names import SAID
from sim_core.view.drawing.words import Along
from sim_core.view.session import preparation, state
from sim_core.view.session.preparation import KERNELS, PARTS, Progress

LAYOUT = "layout"  # of `vary`: no key of a scenario, but many at once
LAYOUT_DEVICES = 8  # of its curves where the scenario has one device
ALONG = {  # what runs along a curve: the column that tells its points apart, and how to say one
    LOAD: Along("arrival_per_s", "{} req/s", "request rate", "Request rate [req/s]"),
    "concurrency": Along("concurrency", "{} clients", "number of clients", "Clients"),
    "max_batch": Along("max_batch", "batch limit {}", "batch limit", "Batch limit"),
}
VARY = {  # what may tell curves apart, in words
    key: FIELDS[key].label.lower()
    for key in ("tensor_parallel", "policy", "weight_dtype", "accelerator", "max_batch", "spec_tokens")
} | {"weight_dtype": "precision", "spec_tokens": "speculation", LAYOUT: "kind of layout"}
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
        return self.label(self.own_value)

    @property
    def setting(self) -> str:
        """The label of the scenario as it is set; its curve has another layout where that has no room."""
        return _on_part(self.scenario) if self.by == "accelerator" else self.own

    @property
    def own_value(self) -> Any:
        """What tells the scenario's own curve from the others."""
        return own_layout(self.scenario).name if self.by == LAYOUT else getattr(self.scenario, self.by)

    def label(self, value: object) -> str:
        """Return the name of a curve; that of an accelerator has its layout in it, and says if it is as sold,
        two pools that have sizes of their own are called by these.
        """
        if self.by == "tensor_parallel" and _has_sizes_of_both_pools(self.scenario):
            return own_layout(self.scenario).name
        if self.by != "accelerator":
            return curve_label(self.by, value)
        try:
            side = self.base(value)
        except ScenarioError:  # it cannot be, and its points say why
            return curve_label(self.by, value)
        return _on_part(side)

    def points(self) -> list[Point]:
        """Return the points; a changed accelerator keeps its changes, the others are as sold."""
        if self.by == LAYOUT:
            return _layout_points(self)
        if self.by != "accelerator":
            return sweep_points(self.scenario, self.vary)
        points = []
        for name in self.values:
            try:
                base = self.base(name)
            except ScenarioError:
                base = self.scenario.replace(**dict.fromkeys(SPECS))
            keys = {key: getattr(base, key) for key in ("tensor_parallel", "expert_parallel")}
            along = sweep_points(base, {"accelerator": (name,), self.along: steps_of(self.along)})
            points += [point._replace(keys=keys | point.keys) for point in along]
        return points

    def base(self, value: Any) -> Scenario:
        """Return the scenario of a curve, at the load of the present setting.

        Another accelerator than the scenario's has the layout that is best for it. So has the scenario's own
        where the model does not fit the one that is set.

        Raises
        ------
        ScenarioError
            If the curve cannot be.
        """
        if self.by == LAYOUT:
            return layouts_on(self.scenario)[value]
        if self.by == "accelerator":
            if value != self.scenario.accelerator:
                return best_group(_sold(self.scenario, value))
            if not fits(self.scenario, self.scenario.tensor_parallel):
                return best_group(self.scenario)
        return with_changes(self.scenario, **{self.by: value})

    def scenario_at(self, row: Row) -> Scenario:
        """Return the scenario of a row, with a request rate of few digits that is not above the row's."""
        column = ALONG[self.along].column
        load = row[column]
        return self.base(row[self.by]).replace(**{column: load if isinstance(load, int) else cut(load)})


def _on_part(scenario: Scenario) -> str:
    """Return the label of a scenario among accelerators."""
    layout = "two pools" if scenario.split else f"TP {scenario.tensor_parallel}"
    return f"{accelerator_of(scenario).name} {layout}"


def _sold(scenario: Scenario, accelerator: str) -> Scenario:
    """Return a scenario on another accelerator as it is sold, at the load by which layouts are the same."""
    return with_changes(scenario.replace(**dict.fromkeys(SPECS)), accelerator=accelerator)


def cut(value: float, digits: int = 4) -> float:
    """Return a value with a few significant digits, not above it: a rate within the limits stays within.

    Examples
    --------
    >>> cut(12.34567), cut(0.0019999), cut(64.0)
    (12.34, 0.001999, 64.0)
    """
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - digits)
    return float(f"{math.floor(value / unit * (1 + 1e-12)) * unit:.{digits}g}")


_known_layouts: Remembered[Scenario, dict[str, Scenario]] = Remembered(REMEMBERED)


def layouts_on(scenario: Scenario) -> dict[str, Scenario]:
    """Return the best layout of each kind on the scenario's devices, and its own: scenarios by name."""
    return _known_layouts.of(scenario, lambda: _find_layouts(scenario))


def _find_layouts(scenario: Scenario) -> dict[str, Scenario]:
    devices = scenario.accelerators if scenario.accelerators > 1 else LAYOUT_DEVICES
    found = {option.name: option.scenario for option in best_of_families(scenario, devices)}
    return found | {own_layout(scenario).name: scenario}


def _layout_points(sweep: Sweep) -> list[Point]:
    """Return the points of a sweep over layouts, each with the keys of its own."""
    points = []
    for name, base in layouts_on(sweep.scenario).items():
        own = {LAYOUT: name} | {key: getattr(base, key) for key in (*LAYOUT_KEYS, "policy")}
        along = sweep_points(base, {sweep.along: steps_of(sweep.along)})
        points += [point._replace(keys=own | point.keys) for point in along]
    return points


class Result(NamedTuple):
    """The points of a sweep and the scenario's own setting, one row each; not to be changed by readers."""

    rows: list[dict[str, Any]]
    here: dict[str, Any]
    fine: bool


def curve_label(key: str, value: Any) -> str:
    """Return the name of a curve, as names of scenarios say what differs."""
    return SAID[key](value) if key in SAID else str(value)


def look(sweep: Sweep, value: Any) -> int:
    """Return the look of a curve; it follows the entity from chart to chart."""
    if sweep.by in ("tensor_parallel", "max_batch"):
        return int(math.log2(value)) // (1 if sweep.by == "tensor_parallel" else 2)
    by_place = sweep.by in ("accelerator", "spec_tokens", LAYOUT)
    known: tuple[Any, ...] = sweep.values if by_place else FIELDS[sweep.by].choices
    return known.index(value)


def asked_sweep(scenario: Scenario) -> Sweep:
    """Return the sweep that scenario and view ask for."""
    by, along = state.view("vary"), sweep_key(scenario)
    if by == along:
        by = "tensor_parallel"
    if by == "spec_tokens":
        return _with_and_without(scenario, along)
    if by == LAYOUT:
        return Sweep(scenario, LAYOUT, tuple(layouts_on(scenario)), along)
    own = getattr(scenario, by)
    if by == "tensor_parallel" and _has_sizes_of_both_pools(scenario):
        return Sweep(scenario, by, (own,), along)
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


def _has_sizes_of_both_pools(scenario: Scenario) -> bool:
    """Return whether both pools say the devices of a worker, so that the common number changes nothing."""
    sizes = (scenario.prefill_tensor_parallel, scenario.decode_tensor_parallel)
    return scenario.split and all(size is not None for size in sizes)


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
    keys = {sweep.by: sweep.own_value}
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


def wait_until_ready(
    sweep: Sweep | None = None, ranks: bool = False, beside: Iterable[Scenario] = ()
) -> None:
    """Wait until kernels are compiled, those that a sweep needs or all usual ones, and those of scenarios
    `beside` it, and tell the visitor meanwhile; those of ranks and stages only where a scenario, or the page,
    has `ranks`.
    """
    needs = [_parts_for(sweep, ranks), *map(_parts_of, beside)]
    wanted = None if None in needs else max(filter(None, needs))
    if not _preparation.is_ready(wanted):
        _tell(wanted)


def _parts_for(sweep: Sweep | None, ranks: bool = False) -> int | None:
    """Return how many parts are needed; None for all."""
    scenario = st.session_state.scenario if sweep is None else sweep.scenario
    parts = _parts_of(scenario, ranks or (sweep is not None and sweep.by in (LAYOUT, "pipeline_parallel")))
    if sweep is None or parts != len(preparation.USUAL) or scenario.prefix_caching == "on":
        return parts
    policies = sweep.values if sweep.by == "policy" else (scenario.policy,)
    usual = scenario.replicas == 1 and set(policies) <= USUAL
    return len(preparation.FIRST) if usual else len(preparation.USUAL)


def _parts_of(scenario: Scenario, laid_out: bool = False) -> int | None:
    """Return how many parts any run of a scenario may need; None for all."""
    laid_out = laid_out or most_ranks(scenario) > 1 or most_stages(scenario) > 1
    if scenario.prefix_caching == "on" and (laid_out or scenario.policy == "disaggregated"):
        return None
    if laid_out:
        return len(preparation.LAID_OUT)
    return len(preparation.USUAL)


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
