"""What matters most: by how much one figure changes when one spec or setting is 10% larger or smaller.

Each lever is moved alone. Every pair of runs sees the same random draws (common random numbers), `SEEDS`
pairs a lever; a change smaller than its 95% error is noise and is said to be. Levers that count things
(tokens, the batch limit, clients) move by whole numbers; one that counts fewer than `FEWEST` cannot move by a
tenth and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sim_core.catalogue.accelerators import PEAKS
from sim_core.engine.work import kept
from sim_core.fields.errors import ScenarioError
from sim_core.price.pools import decode_of, prefill_of
from sim_core.price.price import measured_steps
from sim_core.questions.compare import best_within
from sim_core.questions.speculation import supposed
from sim_core.scenario.mixes import has_flat_class
from sim_core.scenario.scenario import FIELDS, SPECS, Scenario, accelerator_of, arithmetic_dtype
from sim_core.sweep.capacity import Y, seeded
from sim_core.sweep.frontier import REFINED_REQUESTS, evaluate, refine
from sim_core.sweep.points import Point
from sim_core.sweep.ranges import SEEDS, UNKNOWN, Estimate, estimate
from sim_core.sweep.remembered import Remembered
from sim_core.traffic.replay import is_scaled

MOVES = {"more": 1.1, "less": 0.9}
FIGURES = {  # what may be looked at: the column of a row, in the operating point or in the best one
    "throughput": Y,
    "ttft": "ttft_ms_p99",
    "tpot": "tpot_ms_p99",
    "usd": "usd_per_mtok",
    "joule": "joule_per_tok",
}
SMALLEST = 1e-4  # a hundredth of a percent
FEWEST = 5  # one more of five is a fifth
LOADS = {"poisson": "arrival_per_s", "gamma": "arrival_per_s", "closed": "concurrency"}


def levers(scenario: Scenario, figure: str) -> list[str]:
    """Return the keys that are moved: those of `candidates` that are known and not too small a count."""
    values = {key: _value(scenario, key) for key in movable_keys(scenario, figure)}
    return [key for key, value in values.items() if value is not None and not _too_few(key, value)]


def too_small(scenario: Scenario, figure: str) -> list[str]:
    """Return the keys that are left out because they count too few things to move by a tenth."""
    return [key for key in movable_keys(scenario, figure) if _too_few(key, _value(scenario, key))]


def _too_few(key: str, value: float | None) -> bool:
    return value is not None and FIELDS[key].kind is int and value < FEWEST


def movable_keys(scenario: Scenario, figure: str) -> list[str]:
    """Return the keys that could be moved: specs, lengths, acceptance, batch limit, load, price or power.

    The best throughput within the limits is sought over all loads, so no one load is a lever there.
    """
    fixed = without_effect(scenario)
    keys = [key for key in _specs(scenario) if key not in fixed]
    if scenario.arrivals != "trace" and (not scenario.mix.strip() or has_flat_class(scenario.mix)):
        keys += ["prompt_tokens", "output_tokens"]
    if scenario.spec_tokens:
        keys += ["acceptance_length"]
    keys += ["max_batch"]
    if figure != "throughput" and scenario.arrivals in LOADS:
        keys += [LOADS[scenario.arrivals]]
    if figure in ("usd", "joule"):
        keys += [{"usd": "price_usd_per_hour", "joule": "tdp_w"}[figure]]
    return keys


def _specs(scenario: Scenario) -> list[str]:
    """Return the specs in use: arithmetic, memory, between devices the link, between nodes the network."""
    part = accelerator_of(scenario)
    keys = [PEAKS[arithmetic_dtype(scenario, part)], "hbm_gb_per_s", "hbm_gb"]
    keys += ["link_gb_per_s"] if scenario.accelerators > scenario.replicas or scenario.split else []
    return keys + (["node_link_gb_per_s"] if _spans_nodes(scenario) else [])


def _spans_nodes(scenario: Scenario) -> bool:
    """Return whether a group of devices, or a worker of either pool, lies on several nodes."""
    pools = (prefill_of(scenario), decode_of(scenario)) if scenario.split else (scenario,)
    part = accelerator_of(scenario)
    return any(part.nodes(pool.tensor_parallel * pool.pipeline_parallel) > 1 for pool in pools)


def without_effect(scenario: Scenario) -> list[str]:
    """Return the specs that measured step times do not follow; the capacity is one if KV blocks are given."""
    profile = measured_steps(scenario)
    if profile is None:
        return []
    return [key for key in _specs(scenario) if key != "hbm_gb" or profile.kv_blocks]


def _value(scenario: Scenario, key: str) -> float:
    if key == "acceptance_length":
        return supposed(scenario).length
    return getattr(accelerator_of(scenario) if key in SPECS else scenario, key)


def moved(scenario: Scenario, key: str, factor: float) -> float:
    """Return a lever's value at a factor, within its limits; a count stays whole."""
    info, found = FIELDS[key], _value(scenario, key) * factor
    high = scenario.spec_tokens + 1 if key == "acceptance_length" else info.high
    return min(max(round(found) if info.kind is int else float(f"{found:.9g}"), info.low), high)


def figure_of(scenario: Scenario, figure: str) -> float:
    """Return a figure of a scenario: at its operating point, or the best throughput within its limits.

    NaN where it has none: the scenario cannot run, or no point keeps the limits.
    """
    if figure == "throughput":
        return _figure_in(best_within(scenario), figure)
    return _figure_in(evaluate(Point({}, scenario)), figure)


def settles(scenario: Scenario, figure: str) -> bool:
    """Return whether a longer run tells a figure better than one of the scenario's requests.

    The best throughput is searched for on many requests in any case; requests that are all there at once take
    as long as there are of them, and those that are listed are as many as they are.
    """
    as_many = scenario.arrivals == "offline" or (scenario.arrivals == "trace" and not is_scaled(scenario))
    return figure != "throughput" and not as_many and scenario.requests < REFINED_REQUESTS


def settled(scenario: Scenario, figure: str) -> float:
    """Return a figure of a scenario as the Frontier page settles on it: of many requests, under its own seed.

    The 99th percentile of a run that is compared with others, of few requests, may be 5% off.
    """
    if not settles(scenario, figure):
        return figure_of(scenario, figure)
    ((_, row),) = refine([Point({}, scenario)])
    return _figure_in(row, figure)


def _figure_in(row: Mapping[str, Any] | None, figure: str) -> float:
    return row[FIGURES[figure]] if row and row["feasible"] else math.nan


@kept(64)
def bases(scenario: Scenario, figure: str) -> tuple[float, ...]:
    """Return a figure of the scenario as it is in each of `SEEDS` runs, NaN where it has none."""
    return tuple(figure_of(seeded(scenario, turn), figure) for turn in range(SEEDS))


_known: Remembered[tuple[Scenario, str], list[dict[str, Any]]] = Remembered(64)


def known_tornado(scenario: Scenario, figure: str) -> list[dict[str, Any]] | None:
    """Return the rows of `tornado` where they have been worked out, or None."""
    return _known.get((scenario, figure))


def tornado(
    scenario: Scenario, figure: str, progress: Callable[[float], None] = lambda done_frac: None
) -> list[dict[str, Any]]:
    """Return what moving each lever by 10% changes, one row a lever, the largest change first.

    Parameters
    ----------
    scenario : Scenario
    figure : str
        One of `FIGURES`.
    progress : callable, optional
        Told the share that is done.

    Returns
    -------
    list of dict
        `key`; `base`, the figure as it is, which `settled` gives; `value` of the lever and
        `more_value`, `less_value`; `more_frac`, `more_error_frac`, `less_frac`, `less_error_frac`: the
        relative change of the figure and its 95% error, NaN where there is none; `elasticity`, its
        relative change for that of the lever. Not to be changed by readers.
    """
    found = known_tornado(scenario, figure)
    if found is not None:
        return found
    keys, rows = levers(scenario, figure), []
    base = settled(scenario, figure)
    for done, key in enumerate(keys):
        progress(done / len(keys))
        rows.append({"key": key, "base": base} | _row(scenario, key, figure, bases(scenario, figure)))
    # not `of`: who waits for another visitor would see no progress and could not be interrupted
    return _known.put((scenario, figure), sorted(rows, key=size, reverse=True))


def _row(scenario: Scenario, key: str, figure: str, bases: Sequence[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"value": _value(scenario, key)}
    for move, factor in MOVES.items():
        value = moved(scenario, key, factor)
        change = _change(scenario, {key: value}, figure, bases)
        row |= {f"{move}_value": value, f"{move}_frac": change.frac, f"{move}_error_frac": change.error_frac}
    return row | {"elasticity": _elasticity(row)}


def _change(scenario: Scenario, changes: dict[str, float], figure: str, bases: Sequence[float]) -> Estimate:
    """Return the relative change of a figure; NaN where the changed scenario cannot be or has none."""
    try:
        changed = scenario.replace(**changes)
        figures = [figure_of(seeded(changed, turn), figure) for turn in range(SEEDS)]
    except ScenarioError:
        return UNKNOWN
    return estimate(
        [now / base - 1 if base > 0 else math.nan for now, base in zip(figures, bases, strict=True)]
    )


def _elasticity(row: dict[str, Any]) -> float:
    """Return d log(figure) / d log(lever) over both moves: 1 where they go together, -1 where one halves."""
    span = math.log(row["more_value"] / row["less_value"]) if row["less_value"] > 0 else 0.0
    low, high = 1 + row["less_frac"], 1 + row["more_frac"]
    return math.log(high / low) / span if span and low > 0 and high > 0 else math.nan


def is_sure(row: Mapping[str, Any], move: str) -> bool:
    """Return whether the change of a move is larger than its error, and than what rounding may bring."""
    change = Estimate(row[f"{move}_frac"], row[f"{move}_error_frac"])
    return change.is_sure and not is_nothing(change.frac)


def is_nothing(change: float) -> bool:
    """Return whether a relative change is as good as none."""
    return abs(change) < SMALLEST


def size(row: Mapping[str, Any]) -> float:
    """Return the larger change of a row's two moves; 0 where neither is known."""
    return max(
        (abs(row[f"{move}_frac"]) for move in MOVES if math.isfinite(row[f"{move}_frac"])), default=0.0
    )
