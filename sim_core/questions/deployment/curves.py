"""What each layout is worth: throughput per accelerator over interactivity, by arithmetic and by simulation.

Clients send their next request when the last is answered, as benchmarks do; more and more of them run along a
curve. The smallest part of a layout that serves by itself is looked at, with its share of the clients.

*Estimate.* B sequences decode together (`sim_core.sweep.estimate`): a user gets 1 / T(B) tokens a second and
an engine makes B / T(B), with T the mean time of a token, prompts of others included. Two pools take no more
requests than rate matching lets through their prefill workers.

*Simulation.* Only layouts that may matter: those whose estimate comes within `NEAR` of the best one at some
interactivity, and the best of each family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sim_core.engine.work import kept
from sim_core.evidence import trust
from sim_core.fields.errors import ScenarioError
from sim_core.price.priced import priced
from sim_core.questions import disaggregation
from sim_core.questions.deployment.layouts import FAMILIES, Option, layouts_of
from sim_core.scenario.scenario import Scenario
from sim_core.sweep import estimate
from sim_core.sweep.capacity import Y
from sim_core.sweep.frontier import evaluate
from sim_core.sweep.points import Point
from sim_core.traffic.draws import requests_sent

X = "tok_per_s_per_user"
PLACES = 24  # of an estimate
CLIENTS = 9  # steps of a simulated curve
SAMPLE = 2000  # requests whose lengths an estimate knows
REQUESTS, PER_CLIENT = 1500, 5  # of a simulated point, at least
NEAR = 0.7  # of the best estimate at the same interactivity
MOST_SIMULATED = 24
GRID = 64  # places where estimates are compared


class Curve(NamedTuple):
    """A layout with its points, from few clients to many.

    Each row has the metrics of `frontier` where it is simulated, else only `X`, `Y` and `clients`.
    """

    option: Option
    rows: tuple[dict[str, Any], ...]
    simulated: bool = False
    reason: str = ""


def estimated_curves(scenario: Scenario, devices: int) -> list[Curve]:
    """Return all layouts of a scenario's model on so many devices, each with its estimated curve."""
    return [curve_of(option) for option in layouts_of(scenario, devices)]


def curve_of(option: Option) -> Curve:
    """Return a layout with its estimated curve; without points where it cannot be."""
    if option.reason:
        return Curve(option, (), reason=option.reason)
    try:
        places = _estimated_places(option.unit)
    except ScenarioError as error:
        return Curve(option, (), reason=str(error))
    return Curve(option, tuple(_row(option, *place) for place in places))


def _row(option: Option, clients: float, user: float, throughput: float) -> dict[str, Any]:
    return {
        "curve": option.name,
        "family": option.family,
        "clients": clients * option.units,
        X: user,
        Y: throughput / (option.devices / option.units),
        "feasible": True,
    }


def _estimated_places(unit: Scenario) -> list[tuple[float, float, float]]:
    """Return clients, output tok/s of each, and of all, from few to as many as there is room for."""
    known, lengths = priced(unit), requests_sent(closed_loop(unit, 1).replace(requests=SAMPLE))
    engine = estimate.Engine(known, lengths)
    answer = engine.lengths.output
    if not answer > 0:
        raise ScenarioError("answers of one token have no time per token; set output_tokens to at least 2.")
    most_per_s = _prompts_per_s(unit)
    found = []
    for decodes in np.geomspace(min(1.0, engine.most), engine.most, PLACES).tolist():
        token_s = _token_s(engine, unit, decodes)
        per_s = unit.engines * decodes / (answer * token_s)
        if per_s > most_per_s:  # what more decodes could take, prompts cannot bring
            break
        found.append((unit.engines * decodes, 1 / token_s, per_s * (answer + 1)))
    return found


def _token_s(engine: estimate.Engine, unit: Scenario, decodes: float) -> float:
    """Return the mean time of an output token; decode workers have no prompts beside them. [s]"""
    if unit.split:
        return engine.decode_s(decodes) / engine.going(decodes)[1]
    return engine.token_s(decodes)


def _prompts_per_s(unit: Scenario) -> float:
    """Return how many requests the prefill workers take; as many as come where there are none. [1/s]"""
    return unit.prefill_workers / disaggregation.matched(unit).prefill_s if unit.split else math.inf


def closed_loop(unit: Scenario, clients: int) -> Scenario:
    """Return a part of a layout with so many clients of its own, in a closed loop."""
    lengths = {"request_list": ""} if unit.arrivals != "trace" else {}
    requests = max(REQUESTS, PER_CLIENT * clients)
    return unit.replace(arrivals="closed", concurrency=clients, requests=requests, **lengths)


# --- simulated ------------------------------------------------------------------------------------


def worth_simulating(curves: Sequence[Curve]) -> list[Curve]:
    """Return the curves that may matter, the best of each family among them, those nearest to the best first.

    Where a budget ends before all are simulated, the ones that stay estimates matter least.
    """
    drawn = [curve for curve in curves if curve.rows]
    if not drawn:
        return []
    shares = _shares_of_best(drawn)
    order = np.argsort(-shares, kind="stable").tolist()
    firsts = {drawn[at].option.family: at for at in reversed(order)}
    kept_ones = {at for at in order[:MOST_SIMULATED] if shares[at] >= NEAR} | set(firsts.values())
    return [drawn[at] for at in order if at in kept_ones]


def _shares_of_best(curves: Sequence[Curve]) -> np.ndarray:
    """Return how near each curve comes to the best of all, at the interactivity where it comes nearest."""
    ends = [row[X] for curve in curves for row in curve.rows]
    grid = np.geomspace(min(ends), max(ends), GRID)
    heights = np.array([_heights(curve, grid) for curve in curves])
    return (heights / heights.max(axis=0)).max(axis=1)


def _heights(curve: Curve, grid: np.ndarray) -> np.ndarray:
    """Return what a curve gives at least at each interactivity of a grid; 0 beyond its quickest point."""
    x, y = np.array(sorted((row[X], row[Y]) for row in curve.rows)).T
    best = np.maximum.accumulate(y[::-1])[::-1]  # a user may always be quicker than asked for
    return np.interp(grid, x, best, right=0.0)


def best_of_families(scenario: Scenario, devices: int) -> list[Option]:
    """Return of each family the layout whose estimate comes nearest to the best of all somewhere."""
    drawn = [curve for curve in estimated_curves(scenario, devices) if curve.rows]
    if not drawn:
        return []
    found: dict[str, Option] = {}
    for at in np.argsort(-_shares_of_best(drawn), kind="stable").tolist():
        found.setdefault(drawn[at].option.family, drawn[at].option)
    return [found[family] for family in FAMILIES if family in found]


def points_of(curve: Curve) -> list[Point]:
    """Return the points of a layout to simulate: from one client to a quarter more than there is room for."""
    most = curve.rows[-1]["clients"] / curve.option.units
    steps = np.unique(np.geomspace(1, max(1.25 * most, 2), CLIENTS).round().astype(int)).tolist()
    return [
        Point({"clients": step * curve.option.units}, closed_loop(curve.option.unit, step)) for step in steps
    ]


@kept(2048, MOST_SIMULATED * CLIENTS)
def simulated_row(scenario: Scenario) -> dict[str, Any]:
    """Return the metrics of a scenario as a point of a curve has them."""
    return evaluate(Point({}, scenario))


def simulated(curve: Curve) -> Curve:
    """Return a layout with its simulated curve, as far as it runs."""
    rows, reason = [], ""
    for point in points_of(curve):
        if point.scenario is None:
            continue
        found = simulated_row(point.scenario)
        reason = reason or str(found["reason"])
        if found["feasible"] and found[X] > 0:
            named = {"curve": curve.option.name, "family": curve.option.family}
            rows.append(named | point.keys | dict(found))
    return Curve(curve.option, tuple(rows), True, "" if rows else reason)


# --- the best one at an interactivity -------------------------------------------------------------


def value_at(curve: Curve, user_tok_per_s: float) -> float:
    """Return the throughput per accelerator that a layout gives while each user gets at least so much.

    Between two points it lies on the straight line between them; 0 where no point is quick enough.
    [tok/s per accelerator]
    """
    return float(_heights(curve, np.array([user_tok_per_s]))[0]) if curve.rows else 0.0


def best_of_all(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Return the frontier over some layouts: interactivities, and the most that any gives at least there.

    It begins where a layout gives most of all, and falls from there.
    [tok/s/user], [tok/s per accelerator]
    """
    drawn = [curve for curve in curves if curve.rows]
    if not drawn:
        return np.empty(0), np.empty(0)
    ends = np.array([row[X] for curve in drawn for row in curve.rows])
    grid = np.unique(np.concatenate([ends, np.geomspace(ends.min(), ends.max(), GRID)]))
    best = np.max([_heights(curve, grid) for curve in drawn], axis=0)
    start = int(np.flatnonzero(best == best.max())[-1])
    return grid[start:], best[start:]


def row_at(curve: Curve, user_tok_per_s: float) -> dict[str, Any] | None:
    """Return the point of a layout with the most throughput while each user gets at least so much."""
    quick = [row for row in curve.rows if row[X] >= user_tok_per_s]
    return max(quick, key=lambda row: row[Y], default=None)


def timely(curve: Curve, ttft_ms: float) -> Curve:
    """Return a curve without the points at which first tokens take longer; what is not simulated stays.

    Of the percentile that must meet the limits.
    """
    kept_rows = tuple(row for row in curve.rows if row.get("slo_ttft_ms_reached", 0.0) <= ttft_ms)
    return curve._replace(rows=kept_rows)


class Ranked(NamedTuple):
    """A layout at an interactivity: what it gives, and whether it may be as good as the best one."""

    curve: Curve
    tok_per_s_per_accelerator: float
    is_tie: bool


def ranking(curves: Sequence[Curve], user_tok_per_s: float, ttft_ms: float = math.inf) -> list[Ranked]:
    """Return the layouts that give each user so much, the best first, with those within the error of it.

    Only points whose first tokens come within `ttft_ms` count, where that is known. Two layouts are a tie
    where the middle halves of what is measured for such predictions overlap.
    """
    prompt = [timely(curve, ttft_ms) for curve in curves]
    values = [(value_at(curve, user_tok_per_s), curve) for curve in prompt]
    values = sorted((pair for pair in values if pair[0] > 0), key=lambda pair: -pair[0])
    if not values:
        return []
    low, high = half_band(values[0][1].option.unit)
    least = values[0][0] * low / high
    return [Ranked(curve, value, value >= least) for value, curve in values]


def half_band(unit: Scenario) -> tuple[float, float]:
    """Return between which multiples of a prediction half of measured throughputs lie; 1, 1 if unknown."""
    low, high = trust.trust(unit).halves[-1]
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (1.0, 1.0)
