"""What published benchmark entries say of the `submission` calibration: what they cover, how far off it is.

Entries state the throughput of whole systems and no latencies. They are compared as medians, one pair of a
benchmark and an accelerator at a time, with what `presets/checks` says was simulated for the usual system
of the pair. The constants were fitted to two benchmarks (`FITTED_TO`); their pairs say nothing of the others.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.benchmarks import CheckedError
from sim_core.scenario.scenario import Scenario, model_of

FITTED_TO = ("llama2-70b", "mixtral-8x7b")


class Pair(NamedTuple):
    """A benchmark on an accelerator: published over simulated throughput by rule, NaN if missing."""

    benchmark: str
    accelerator: str
    weight_dtype: str
    offline: float
    server: float
    interactive: float


@cache
def usual_system(benchmark: str, accelerator: str) -> catalogue.CheckedSystem | None:
    """Return what was simulated for most entries of a benchmark on an accelerator; None if nothing was."""
    mine = [
        item
        for item in catalogue.published_check("mlperf").systems
        if item.benchmark == benchmark and item.accelerator == accelerator
    ]
    return max(mine, key=lambda item: item.entries, default=None)


@cache
def pairs() -> tuple[Pair, ...]:
    """Return all pairs that have been published and simulated."""
    spreads = [(name, spread) for name in catalogue.benchmarks() for spread in catalogue.published(name)]
    return tuple(
        Pair(name, spread.accelerator, system.weight_dtype, *_ratios(spread, system))
        for name, spread in spreads
        if (system := usual_system(name, spread.accelerator)) is not None
    )


def _ratios(spread: catalogue.PublishedSpread, system: catalogue.CheckedSystem) -> list[float]:
    """Return published over simulated throughput of Offline, Server and Interactive, as each counts."""
    offline = _over(spread.offline_median, system.offline)
    shares = [(spread.server_median, system.server_counted)]
    shares += [(spread.interactive_median, system.interactive_counted)]
    return [offline, *(offline * _over(*share) for share in shares)]


def _over(published: float | None, simulated: float | None) -> float:
    return published / simulated if published and simulated else math.nan


def entry_ratios(model: str, rule: str = "offline") -> np.ndarray:
    """Return published over simulated throughput of the pairs that speak for a model, NaN left out.

    Models of the benchmarks that the constants were fitted to have the pairs of these, any other all others.
    """
    fitted = model in _fitted_models()
    found = [getattr(pair, rule) for pair in pairs() if (pair.benchmark in FITTED_TO) == fitted]
    return np.array([ratio for ratio in found if math.isfinite(ratio)])


def _fitted_models() -> set[str]:
    return {catalogue.benchmark(name).model for name in FITTED_TO}


def without_skill(rule: str) -> list[CheckedError]:
    """Return the comparisons in which a simulated ratio, as it is counted, errs more than one constant does.

    Those of benchmarks that no constant was fitted to come first: they say what to expect of another one.
    """
    goals = [goal for goal in catalogue.published_check("mlperf").goals if goal.rule == f"{rule} counted"]
    worse = [goal for goal in goals if goal.constant is not None and goal.error >= goal.constant]
    return sorted(worse, key=lambda goal: {"others": 0, "all": 1}.get(goal.rows, 2))


def evidence(model: str) -> str:
    """Return what the `ratios` of a model are, in words."""
    count = entry_ratios(model).size
    titles = " and ".join(catalogue.benchmark(name).title for name in FITTED_TO)
    which = f"of {titles}" if model in _fitted_models() else f"of other benchmarks than {titles}"
    return (
        f"the published Offline throughput {which} on {count} systems; the constants were fitted to {titles} "
        "alone, and entries state neither TPOT nor TTFT"
    )


def outside_entries(scenario: Scenario) -> list[tuple[str, str]]:
    """Return the inputs that published entries do not cover: which, and in words why."""
    model, part = model_of(scenario), catalogue.accelerator(scenario.accelerator)
    by_model = {item.model: item for item in catalogue.benchmarks().values()}
    benchmark = by_model.get(scenario.model) if model == catalogue.model(scenario.model) else None
    here = [pair for pair in pairs() if pair.accelerator == scenario.accelerator]
    if benchmark is None:
        found = [("model", f"no published entry of {model.name} is stored")]
        return found if here else [*found, ("accelerator", f"nor is one on {part.name}")]
    pair = next((pair for pair in here if pair.benchmark == benchmark.id), None)
    if pair is None:
        words = f"no published entry of {benchmark.title} on {part.name} is stored"
        found = [("accelerator", words)]
    else:
        asked, known = (model.stored_dtypes(name) for name in (scenario.weight_dtype, pair.weight_dtype))
        words = f"weights in {scenario.weight_dtype} (weight_dtype); most entries on {part.name}: {known[1]}"
        found = [] if asked == known else [("weight_dtype", words)]
    if scenario.mix != benchmark.workload:
        found.append(("mix", f"the requests (mix) are not those of {benchmark.title}"))
    return found
