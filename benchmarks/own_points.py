"""How well 3 or 5 points of one engine predict its other points.

    python -m benchmarks.own_points ../shared/reference

Development only. Rows of the reference table that are one engine on one layout (model, accelerator, engine,
precision, devices) form a group. In each group 3, then 5 points are drawn, `sim_core.evidence.own.fit` fits
them as if a user had uploaded them, and the rest are predicted. Printed: median errors of TTFT, TPOT and
throughput on the rest, by the calibration alone and after the fit.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.tables import usable
from sim_core.evidence.assumed import policy, scenario_of, token_budget
from sim_core.evidence.errors import steady_tok_per_s
from sim_core.evidence.own.cases import METRICS, Case, case_of, case_ratios, median_error, predict_cases
from sim_core.evidence.own.fit import fit
from sim_core.evidence.own.formats.points import OwnPoint
from sim_core.evidence.published import PublishedPoint
from sim_core.fields.errors import ScenarioError

DRAWN_CV = 0.0642  # of lengths drawn evenly between 80% and 100%
REPORTED = ("ttft_ms", "tpot_ms", "output_tok_per_s")
FEWEST = 8


def engine_of(point: PublishedPoint) -> tuple[object, ...]:
    """Return what is the same for all points of one engine on one layout."""
    layout = (point.devices, point.tensor_parallel, point.expert_parallel)
    engine = (point.engine, point.engine_version, point.source, policy(point))
    return (point.model, point.accelerator, point.precision, *layout, *engine, token_budget(point))


def case(point: PublishedPoint) -> Case:
    """Return a published point as a user's own; lengths between 80% and 100% as their mean and variation."""
    scenario = scenario_of(point).replace(
        prompt_cv=DRAWN_CV if point.lengths == "80-100%" else 0.0,
        output_cv=DRAWN_CV if point.lengths == "80-100%" else 0.0,
        max_batch=1024,
    )
    rate = point.output_tok_per_s
    if math.isnan(rate):
        rate = steady_tok_per_s(point, point.ttft_ms, point.tpot_ms)
    own = OwnPoint(
        name=point.id,
        tool="reference",
        arrivals="closed",
        concurrency=point.clients,
        arrival_per_s=math.nan,
        arrival_cv=1.0,
        requests=scenario.requests,
        prompt_tokens=scenario.prompt_tokens,
        output_tokens=scenario.output_tokens,
        prompt_cv=scenario.prompt_cv,
        output_cv=scenario.output_cv,
        ttft_ms=point.ttft_ms,
        tpot_ms=point.tpot_ms,
        itl_ms=math.nan,
        e2e_ms=math.nan,
        output_tok_per_s=rate,
        request_per_s=math.nan,
        statistic="mean",
        rows=None,
    )
    return case_of(own, scenario)


def groups(points: Sequence[PublishedPoint]) -> list[list[PublishedPoint]]:
    """Return the engines with enough points."""
    found = defaultdict(list)
    for point in points:
        if point.traffic == "closed" and point.fitted and not math.isnan(point.ttft_ms):
            found[engine_of(point)].append(point)
    return [rows for rows in found.values() if len(rows) >= FEWEST]


def scored(
    rows: Sequence[PublishedPoint], count: int, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted over measured of a group's other points, before and after a fit to `count` of them."""
    cases = [case(point) for point in rows]
    chosen = set(draw.permutation(len(cases))[:count].tolist())
    rest = [item for place, item in enumerate(cases) if place not in chosen]
    found = fit([cases[place] for place in sorted(chosen)], hold_out=False)
    before, after = predict_cases(rest), predict_cases(rest, found.constants)
    return case_ratios(rest, before), case_ratios(rest, after)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path, help="the folder of measured_serving.csv")
    options.add_argument("--most", type=int, default=60, help="groups, drawn by chance")
    given = options.parse_args()
    draw = np.random.default_rng(0)
    every = groups(usable(given.folder)[0])
    places = draw.permutation(len(every))[: given.most]
    print(f"{len(every)} engines with at least {FEWEST} points; {len(places)} of them, drawn by chance")
    print(f"{'points':>6} {'rest':>5} " + " ".join(f"{name:>34}" for name in REPORTED))
    for count in (3, 5):
        start_s, pairs = time.perf_counter(), []
        for place in places:
            try:
                pairs.append(scored(every[place], count, draw))
            except ScenarioError as error:
                print(f"left out: {error}")
        before, after = (np.concatenate(side) for side in zip(*pairs, strict=True))
        cells = [
            f"{median_error(before, name):>12.1%} -> {median_error(after, name):>6.1%} "
            f"(mean {_mean_error(after, name):>5.1%})"
            for name in REPORTED
        ]
        print(f"{count:>6} {len(after):>5} " + " ".join(cells))
        print(f"       {(time.perf_counter() - start_s) / len(pairs):.2f} s a fit")


def _mean_error(found: np.ndarray, metric: str) -> float:
    return float(np.nanmean(np.abs(found[:, METRICS.index(metric)] - 1)))


if __name__ == "__main__":
    main()
