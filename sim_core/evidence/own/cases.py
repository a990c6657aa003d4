"""A measured point as a scenario, and what the simulator says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sim_core.catalogue.calibrations import calibration, with_constants
from sim_core.engine.run import run_known
from sim_core.evidence.own.formats.checks import open_requests
from sim_core.evidence.own.formats.points import NEARLY_EQUAL, OwnPoint
from sim_core.fields.errors import ScenarioError
from sim_core.fields.texts import counted
from sim_core.price.price import Method, method_under, price_of, slowed
from sim_core.price.priced import priced
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from sim_core.traffic.requests import Requests

METRICS = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms", "output_tok_per_s")
SCALES: Mapping[str, float] = {  # log errors that such measurements have; see `measured.about`
    "ttft_ms": 0.3,
    "tpot_ms": 0.05,
    "itl_ms": 0.05,
    "e2e_ms": 0.08,
    "output_tok_per_s": 0.06,
}
MAX_POINTS = 200
MAX_REQUESTS = 5_000


# --- what is simulated ----------------------------------------------------------------------------


class Case(NamedTuple):
    """A measured point, ready to be simulated, and what had to be assumed for it.

    `rows` are the very requests to send, where the scenario's keys do not say them all.
    """

    point: OwnPoint
    scenario: Scenario
    assumed: str
    rows: Requests | None = None


def case_of(point: OwnPoint, base: Scenario) -> Case:
    """Return a point as a scenario: model, device and engine of `base`, traffic of the point.

    A point with rows is replayed request by request. A closed loop whose clients are not stated has as many
    as requests are open on average: rate x end-to-end time (Little's law).

    Raises
    ------
    ScenarioError
        If the point is left out, does not say what was sent, or a value lies outside the scenario's limits.
    """
    if point.left_out:
        raise ScenarioError(f"{point.name}: {point.left_out}")
    changes, assumed = _traffic(point)
    lengths, more = _lengths(point, base)
    rows = min(len(point.rows), MAX_REQUESTS) if point.rows is not None else 0
    count = rows or min(point.requests, MAX_REQUESTS) or 10 * changes.get("concurrency", 100)
    if max(point.requests, len(point.rows or ())) > MAX_REQUESTS:
        more = "; ".join(filter(None, (more, f"the first {MAX_REQUESTS:,} requests are simulated")))
        if changes["arrivals"] == "offline":  # the more are sent at once, the longer each waits
            point = point._replace(ttft_ms=math.nan, e2e_ms=math.nan)
            more += ", so TTFT and end-to-end time, which grow with their number, are not compared"
    changes |= lengths | {"requests": int(count), "request_list": "", "warmup_frac": 0.0}
    scenario = base.replace(**changes)
    sent = point.rows if not point.ramp_per_s else _rising(scenario, point.ramp_per_s)
    return Case(point, scenario, "; ".join(filter(None, (assumed, more))), sent)


def _lengths(point: OwnPoint, base: Scenario) -> tuple[dict[str, Any], str]:
    """Return the lengths of a point, and what was assumed about them; those it does not state stay."""
    known = {"prompt": point.prompt_tokens, "output": point.output_tokens}
    missing = [name for name, tokens in known.items() if not tokens > 0]
    if len(missing) == len(known) or (missing and base.mix):
        return {}, "lengths as in the scenario; the file does not state them"
    changes: dict[str, Any] = {"mix": ""}
    for name, cv in (("prompt", point.prompt_cv), ("output", point.output_cv)):
        if name not in missing:
            changes[f"{name}_tokens"] = max(round(known[name]), 1)
            changes[f"{name}_cv"] = cv if math.isfinite(cv) else NEARLY_EQUAL
    words = [f"{name} lengths as in the scenario; the file does not state them" for name in missing]
    if point.rows is None and not all(map(math.isfinite, (point.prompt_cv, point.output_cv))):
        words.append(f"lengths drawn with a variation of {NEARLY_EQUAL:g} where the file states no spread")
    return changes, "; ".join(words)


def _traffic(point: OwnPoint) -> tuple[dict[str, Any], str]:
    """Return the arrivals of a point, and what was assumed about them."""
    if point.ramp_per_s:
        return {"arrivals": "trace"}, ""
    if point.arrivals == "closed" and point.concurrency:
        return {"arrivals": "closed", "concurrency": point.concurrency}, ""
    if point.arrivals in ("poisson", "gamma") and point.arrival_per_s > 0:
        changes = {"arrivals": point.arrivals, "arrival_per_s": point.arrival_per_s}
        return changes | ({"arrival_cv": point.arrival_cv} if point.arrivals == "gamma" else {}), ""
    if point.arrivals == "offline":
        return {"arrivals": "offline"}, ""
    if point.rows is not None and np.isfinite(point.rows.arrival_s).all():
        return {"arrivals": "trace"}, ""
    busy = open_requests(point)
    if not math.isfinite(busy):
        raise ScenarioError(
            f"{point.name} does not say how requests were sent: give the clients or the request rate."
        )
    clients = max(round(busy), 1)
    known = counted(clients, "client")
    words = f"{known}, from rate and end-to-end time (Little's law); the file does not state them"
    return {"arrivals": "closed", "concurrency": clients}, words


def _rising(scenario: Scenario, ramp_per_s: tuple[float, ...]) -> Requests:
    """Return a scenario's requests as a Poisson process whose rate changes from request to request.

    The gap before the i-th of n requests is drawn at the rate that stands i / n along the ramp, as
    `vllm bench serve --ramp-up-strategy` does.
    """
    steady = requests_sent(scenario.replace(arrivals="poisson", arrival_per_s=1.0))
    places = np.linspace(0.0, len(ramp_per_s) - 1, len(steady), endpoint=False)
    rates = np.interp(places, np.arange(len(ramp_per_s)), ramp_per_s)
    gaps_s = np.diff(steady.arrival_s, prepend=0.0) / rates
    return steady.arriving_at(np.cumsum(gaps_s))


def predict_cases(
    cases: Sequence[Case], constants: Mapping[str, float] | None = None, steps_take: float = 1.0
) -> np.ndarray:
    """Return what each case comes out at, shape (cases, METRICS): ms, and output tokens per second.

    Parameters
    ----------
    constants : mapping of str to float, optional
        In place of the calibration's, in its units; by default each case has its own.
    steps_take : float
        Factor on the time of every step.
    """
    methods = {}
    if constants:
        names = {case.scenario.calibration for case in cases}
        methods = {name: method_under(with_constants(calibration(name), constants)) for name in names}
    found = np.full((len(cases), len(METRICS)), np.nan)
    for place, case in enumerate(cases):
        try:
            found[place] = _simulated(case, methods.get(case.scenario.calibration), steps_take)
        except ScenarioError:  # does not fit the memory, or no request does
            continue
    return found


def _simulated(case: Case, method: Method | None, steps_take: float) -> tuple[float, ...]:
    """Return the metrics of one case; means or medians as its point has them, of all requests."""
    price = price_of(case.scenario, method=method)
    price = price if steps_take == 1.0 else slowed(price, steps_take)
    known = priced(case.scenario, price=price, method=method)
    done = run_known(known, case.rows)
    served = ~done.rejected
    first_s, finished_s = done.first_token_s[served], done.finished_s[served]
    outputs, arrival_s = done.output_tokens[served], done.arrival_s[served]
    middle = np.median if case.point.statistic == "median" else np.mean
    many = outputs > 1
    decoding_s, gaps = (finished_s - first_s)[many], outputs[many] - 1
    tpot_ms = itl_ms = math.nan
    if many.any():
        tpot_ms, itl_ms = 1e3 * middle(decoding_s / gaps), 1e3 * decoding_s.sum() / gaps.sum()
    return (
        1e3 * middle(first_s - arrival_s),
        tpot_ms,
        itl_ms,
        1e3 * middle(finished_s - arrival_s),
        outputs.sum() / (finished_s.max() - arrival_s.min()),
    )


def case_measurements(cases: Sequence[Case]) -> np.ndarray:
    """Return what was measured, in the shape of `predict`; NaN where a file does not give it."""
    return np.array([[getattr(case.point, name) for name in METRICS] for case in cases], dtype=float).reshape(
        -1, len(METRICS)
    )


def case_ratios(cases: Sequence[Case], predicted: np.ndarray) -> np.ndarray:
    """Return predicted over measured, NaN where either is missing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = predicted / case_measurements(cases)
    return np.where(np.isfinite(found) & (found > 0), found, np.nan)


def is_evidence(cases: Sequence[Case]) -> np.ndarray:
    """Return which metrics are evidence, shape (cases, METRICS).

    TTFT and TPOT; gaps where there is no TPOT, end-to-end time where there is neither; throughput only in a
    closed loop or offline, where the engine sets it.
    """
    known = np.isfinite(case_measurements(cases))
    ttft, tpot, itl, e2e, _ = (known[:, place] for place in range(len(METRICS)))
    driven = np.array([case.scenario.arrivals in ("closed", "offline") for case in cases], dtype=bool)
    return known & np.column_stack(
        [np.full(len(cases), True), tpot, itl & ~tpot, e2e & ~(ttft & (tpot | itl)), driven]
    )


# --- errors ---------------------------------------------------------------------------------------


def median_error(found: np.ndarray, metric: str) -> float:
    """Return the median absolute error of predicted over measured, as a share; NaN where there is none."""
    column = found[:, METRICS.index(metric)]
    known = column[np.isfinite(column)]
    return float(np.median(np.abs(known - 1))) if known.size else math.nan
