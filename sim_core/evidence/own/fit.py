"""An engine of one's own: a few constants from its operating points, or a step profile from its steps.

From points
-----------
A benchmark run says little about each of the calibration's constants, so a few `LEVERS` are moved, each a
factor on constants that act alike. Every point is simulated as it was run (same loop, rate, lengths, number
of requests), and the factors are those that explain best what was measured: the sum of squared log errors of
TPOT, TTFT and throughput, each by what such data scatter (`SCALES`), plus the squared log factors by how far
engines differ (a lever's `spread`). The latter holds a factor near 1 unless the points speak against it; the
loss is soft L1, so that neither an odd point nor a bound pulls without end.

How far a lever is known follows from the curvature at the solution: the share of its prior variance that the
points take away (`Lever.told_frac`). Below a half, the points cannot tell it, and its value is mostly the
calibration's.

Errors on points that the fit has seen flatter it, so points are also held out in turn: each is predicted by a
fit to the others.

From steps
----------
A step's time is piecewise linear in its tokens, plus so much per token of decode context and per query-key
pair of prompt chunks; no term is negative. Every fifth step is held out of a second fit to state the error.

Speed factor
------------
The factor on all step times that makes predicted TPOT right on average. A slower or faster device moves it; a
wrong schedule (order, token budget, batch limit) shows in what is left of TTFT once the factor is in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sim_core.catalogue.calibrations import Constant, calibration, own_limits, write_constants
from sim_core.engine.run import run
from sim_core.evidence.own.formats import OwnPoint, OwnSteps
from sim_core.fields.errors import ScenarioError
from sim_core.price import cost
from sim_core.price.work import precisions
from sim_core.scenario.profiles import EngineProfile, thinned, write_profile
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of

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
FEWEST_TO_HOLD_OUT = 4
FOLDS = 5
TOLD = 0.5
DIFFERENCE = 0.02  # step of the derivatives, in the logarithm
EVALUATIONS = 25
MAX_STEPS = 20_000
FEWEST_STEPS = 10
MAX_KNOTS = 40
FEWEST_AT_KNOT = 3
ROBUST_ROUNDS = 4
LEAST_SHARE = 0.01


# --- what is simulated ----------------------------------------------------------------------------


class Case(NamedTuple):
    """A measured point, ready to be simulated, and what had to be assumed for it."""

    point: OwnPoint
    scenario: Scenario
    assumed: str


def case_of(point: OwnPoint, base: Scenario) -> Case:
    """Return a point as a scenario: model, device and engine of `base`, traffic of the point.

    A point with rows is replayed request by request. A closed loop whose clients are not stated has as many
    as requests are open on average: rate x end-to-end time (Little's law).

    Raises
    ------
    ScenarioError
        If the point does not say what was sent, or a value lies outside the scenario's limits.
    """
    changes, assumed = _traffic(point)
    lengths, more = _lengths(point)
    rows = min(len(point.rows.prompt_tokens), MAX_REQUESTS) if point.rows is not None else 0
    count = rows or min(point.requests, MAX_REQUESTS) or 10 * changes.get("concurrency", 100)
    changes |= lengths | {"requests": int(count), "request_list": "", "warmup_frac": 0.0}
    return Case(point, base.replace(**changes), "; ".join(filter(None, (assumed, more))))


def _lengths(point: OwnPoint) -> tuple[dict[str, object], str]:
    """Return the lengths of a point, and what was assumed about them; without any, those of `base` stay."""
    prompt, output = point.prompt_tokens, point.output_tokens
    if not (prompt > 0 and output > 0):
        return {}, "lengths as in the scenario; the file does not state them"
    found = {"prompt_tokens": max(round(prompt), 1), "output_tokens": max(round(output), 1), "mix": ""}
    return found | {"prompt_cv": point.prompt_cv, "output_cv": point.output_cv}, ""


def _traffic(point: OwnPoint) -> tuple[dict[str, object], str]:
    """Return the arrivals of a point, and what was assumed about them."""
    if point.arrivals == "closed" and point.concurrency:
        return {"arrivals": "closed", "concurrency": point.concurrency}, ""
    if point.arrivals in ("poisson", "gamma") and point.arrival_per_s > 0:
        changes = {"arrivals": point.arrivals, "arrival_per_s": point.arrival_per_s}
        return changes | ({"arrival_cv": point.arrival_cv} if point.arrivals == "gamma" else {}), ""
    if point.arrivals == "offline":
        return {"arrivals": "offline"}, ""
    if point.rows is not None and np.isfinite(point.rows.arrival_s).all():
        return {"arrivals": "trace"}, ""
    clients = _little(point)
    if not clients:
        raise ScenarioError(
            f"{point.name} does not say how requests were sent: give the clients or the request rate."
        )
    words = f"{clients:,} clients, from rate and end-to-end time (Little's law); the file does not state them"
    return {"arrivals": "closed", "concurrency": clients}, words


def _little(point: OwnPoint) -> int:
    """Return the requests open on average, 0 where the point does not tell."""
    open_requests = point.request_per_s * point.e2e_ms * 1e-3
    return max(round(open_requests), 1) if math.isfinite(open_requests) else 0


def predict(cases: Sequence[Case], constants: str = "", steps_take: float = 1.0) -> np.ndarray:
    """Return what each case comes out at, shape (cases, METRICS): ms, and output tokens per second.

    Parameters
    ----------
    constants : str
        In place of the calibration's; empty for each case's own.
    steps_take : float
        Factor on the time of every step.
    """
    found = np.full((len(cases), len(METRICS)), np.nan)
    for place, case in enumerate(cases):
        scenario = case.scenario.replace(constants=constants) if constants else case.scenario
        try:
            found[place] = _simulated(case, scenario, steps_take)
        except ScenarioError:  # does not fit the memory, or no request does
            continue
    return found


def _simulated(case: Case, scenario: Scenario, steps_take: float) -> tuple[float, ...]:
    """Return the metrics of one case; means or medians as its point has them, of all requests."""
    price = cost.price(scenario)
    done = run(
        scenario,
        trace=case.point.rows,
        price=price if steps_take == 1.0 else cost.slowed(price, steps_take),
    )
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


def measured(cases: Sequence[Case]) -> np.ndarray:
    """Return what was measured, in the shape of `predict`; NaN where a file does not give it."""
    return np.array([[getattr(case.point, name) for name in METRICS] for case in cases], dtype=float).reshape(
        -1, len(METRICS)
    )


def ratios(cases: Sequence[Case], predicted: np.ndarray) -> np.ndarray:
    """Return predicted over measured, NaN where either is missing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = predicted / measured(cases)
    return np.where(np.isfinite(found) & (found > 0), found, np.nan)


def counted(cases: Sequence[Case]) -> np.ndarray:
    """Return which metrics are evidence, shape (cases, METRICS).

    TTFT and TPOT; gaps where there is no TPOT, end-to-end time where there is neither; throughput only in a
    closed loop or offline, where the engine sets it.
    """
    known = np.isfinite(measured(cases))
    ttft, tpot, itl, e2e, _ = (known[:, place] for place in range(len(METRICS)))
    driven = np.array([case.scenario.arrivals in ("closed", "offline") for case in cases], dtype=bool)
    return known & np.column_stack(
        [np.full(len(cases), True), tpot, itl & ~tpot, e2e & ~(ttft & (tpot | itl)), driven]
    )


# --- what is fitted -------------------------------------------------------------------------------


class Lever(NamedTuple):
    """A factor on constants that act alike, and how far engines differ in it (a standard deviation, log)."""

    name: str
    title: str
    constants: tuple[str, ...]
    spread: float


def levers_of(scenario: Scenario) -> tuple[Lever, ...]:
    """Return the levers that act on a scenario's steps."""
    model, part = model_of(scenario), accelerator_of(scenario)
    used = dict.fromkeys(part.compute_dtype(dtype) for dtype in precisions(model, scenario.weight_dtype)[:2])
    layers = ("layer", "latent_layer") if model.attention == "mla" else ("layer",)
    found = [
        Lever("memory", "bandwidth reached when reading weights", ("weight_read",), 0.2),
        Lever("kv", "bandwidth reached by decode attention", ("kv_read",), 0.3),
        Lever("compute", "arithmetic reached by matrix products", tuple(used), 0.3),
        Lever("steps", "fixed time of a step and its layers", ("step", *layers), 0.6),
        Lever("sequences", "time of each sequence in a step", ("sequence",), 0.6),
        Lever("prompts", "fixed time of each prompt in a step", ("prefill_request",), 0.8),
        Lever("requests", "time between client and engine", ("request_before", "request_after"), 1.0),
    ]
    if scenario.tensor_parallel > 1:
        found.append(Lever("links", "latency of collectives", ("collective",), 0.5))
    return tuple(found)


class FittedLever(NamedTuple):
    """A lever with its factor, the factor's standard deviation (log), and how far the points tell it.

    `told_frac` is the share of the prior variance that the points took away, from 0 to 1.
    """

    lever: Lever
    factor: float
    deviation: float
    told_frac: float

    @property
    def told(self) -> bool:
        """Whether the points, rather than the calibration, decide the factor."""
        return self.told_frac >= TOLD


class Fit(NamedTuple):
    """An engine of one's own, fitted to points.

    Attributes
    ----------
    constants : str
        For a scenario's `constants`.
    levers : tuple of FittedLever
    before, after, held_out : ndarray, shape (cases, METRICS)
        Predicted over measured: by the calibration, by the fit, and by a fit to the other points; the last is
        NaN throughout where there are too few points.
    """

    constants: str
    levers: tuple[FittedLever, ...]
    before: np.ndarray
    after: np.ndarray
    held_out: np.ndarray


def fit(cases: Sequence[Case], hold_out: bool = True) -> Fit:
    """Return the engine that explains the cases best; all must have the same model, device and layout.

    Raises
    ------
    ScenarioError
        If there is no case with a TTFT, a TPOT, an end-to-end time or a throughput, or none can run.
    """
    cases = list(cases)
    before = ratios(cases, predict(cases))
    usable = (counted(cases) & np.isfinite(before)).any(axis=1)
    if not usable.any():
        raise ScenarioError(
            "no point can be fitted: each needs a TTFT, TPOT, end-to-end time or throughput, and must fit "
            "the memory of the chosen accelerator and layout."
        )
    factors, deviations = _solve([case for case, good in zip(cases, usable, strict=True) if good])
    levers = levers_of(cases[0].scenario)
    fitted = tuple(
        FittedLever(lever, math.exp(log), deviation, 1 - min(deviation / lever.spread, 1.0) ** 2)
        for lever, log, deviation in zip(levers, factors, deviations, strict=True)
    )
    constants = constants_text(cases[0].scenario, factors)
    return Fit(
        constants=constants,
        levers=fitted,
        before=before,
        after=ratios(cases, predict(cases, constants)),
        held_out=_held_out(cases, usable) if hold_out else np.full(before.shape, np.nan),
    )


def constants_text(scenario: Scenario, log_factors: Sequence[float]) -> str:
    """Return a scenario's calibration under factors on its levers, as its `constants` would hold it."""
    own: dict[str, float] = {}
    known = {item.name: item for item in calibration(scenario.calibration).constants}
    for lever, log_factor in zip(levers_of(scenario), log_factors, strict=True):
        for name in lever.constants:
            low, high = own_limits(known[name])
            own[name] = min(max(known[name].value * math.exp(log_factor), low), high)
    return write_constants(own, digits=6)


def _limits(scenario: Scenario, levers: Sequence[Lever]) -> tuple[list[float], list[float]]:
    """Return the lowest and highest log factor of each lever: nothing is faster than the datasheet."""
    known = {item.name: item for item in calibration(scenario.calibration).constants}
    lows, highs = [], []
    for lever in levers:
        share = max(known[name].value for name in lever.constants) if _is_share(known, lever) else 0.0
        lows.append(-4 * lever.spread - 1)
        highs.append(max(math.log(1 / share), 1e-3) if share else 4 * lever.spread + 1)
    return lows, highs


def _is_share(known: Mapping[str, Constant], lever: Lever) -> bool:
    return known[lever.constants[0]].unit == "frac"


def _solve(cases: Sequence[Case]) -> tuple[np.ndarray, np.ndarray]:
    """Return the log factors of the levers and their standard deviations."""
    from scipy.optimize import least_squares

    scenario = cases[0].scenario
    levers = levers_of(scenario)
    spreads = np.array([lever.spread for lever in levers])
    scales = np.array(list(SCALES.values()))
    evidence = counted(cases)

    def residuals(log_factors: np.ndarray) -> np.ndarray:
        found = ratios(cases, predict(cases, constants_text(scenario, log_factors)))
        errors = np.nan_to_num(np.log(found) / scales, nan=0.0)[evidence]
        return np.concatenate([errors, log_factors / spreads])

    lows, highs = _limits(scenario, levers)
    best = least_squares(
        residuals,
        np.zeros(len(levers)),
        jac=lambda at: _slopes(residuals, at, np.asarray(highs)),
        bounds=(lows, highs),
        loss="soft_l1",
        max_nfev=EVALUATIONS,
        xtol=1e-3,
        ftol=1e-4,
    )
    spread = np.linalg.inv(best.jac.T @ best.jac)
    return best.x, np.sqrt(np.diag(spread))


def _slopes(residuals: Callable[[np.ndarray], np.ndarray], at: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """Return the derivatives of residuals by differences wide enough to see through rounding."""
    middle = residuals(at)
    columns = []
    for place in range(at.size):
        step = np.zeros(at.size)
        step[place] = DIFFERENCE if at[place] + DIFFERENCE <= highs[place] else -DIFFERENCE
        columns.append((residuals(at + step) - middle) / step[place])
    return np.column_stack(columns)


def _held_out(cases: Sequence[Case], usable: np.ndarray) -> np.ndarray:
    """Return predicted over measured of each case by a fit to others, in up to `FOLDS` turns."""
    found = np.full((len(cases), len(METRICS)), np.nan)
    places = np.flatnonzero(usable)
    if places.size < FEWEST_TO_HOLD_OUT:
        return found
    folds = min(FOLDS, places.size)
    for turn in range(folds):
        left_out = places[turn::folds]
        seen = [cases[place] for place in places if place not in left_out]
        constants = constants_text(cases[0].scenario, _solve(seen)[0])
        chosen = [cases[place] for place in left_out]
        found[left_out] = ratios(chosen, predict(chosen, constants))
    return found


def speed_factor(cases: Sequence[Case], constants: str = "") -> float:
    """Return the factor on all step times that makes predicted TPOT right on average; NaN without TPOT."""
    from scipy.optimize import brentq

    evidence = counted(cases)[:, 1:3]
    if not evidence.any():
        return math.nan

    def bias(log_factor: float) -> float:
        found = ratios(cases, predict(cases, constants, math.exp(log_factor)))[:, 1:3]
        known = evidence & np.isfinite(found)
        return float(np.log(found[known]).mean()) if known.any() else 0.0

    low, high = -2.0, 2.0
    while bias(low) > 0 and low > -12:
        low -= 2.0
    while bias(high) < 0 and high < 12:
        high += 2.0
    if bias(low) > 0 or bias(high) < 0:
        return math.nan
    return math.exp(brentq(bias, low, high, xtol=1e-3))


# --- from steps -----------------------------------------------------------------------------------


class StepFit(NamedTuple):
    """A step profile fitted to measured steps, and how well it predicts steps held out of the fit.

    Attributes
    ----------
    profile : EngineProfile
        Fitted to all steps.
    tokens, measured_ms, predicted_ms : ndarray
        The steps held out, predicted by a fit to the others.
    untold : tuple of str
        What the steps cannot tell, one sentence each.
    """

    profile: EngineProfile
    tokens: np.ndarray
    measured_ms: np.ndarray
    predicted_ms: np.ndarray
    untold: tuple[str, ...]

    @property
    def error_frac(self) -> float:
        """Median absolute error of a held-out step, as a share."""
        return float(np.median(np.abs(self.predicted_ms / self.measured_ms - 1)))

    @property
    def bias_frac(self) -> float:
        """Error of the total time of the held-out steps, as a share."""
        return float(self.predicted_ms.sum() / self.measured_ms.sum() - 1)


def fit_steps(steps: OwnSteps) -> StepFit:
    """Return the step profile that explains measured steps best.

    Parameters
    ----------
    steps : OwnSteps
        Of more than `MAX_STEPS`, evenly spaced ones are used.

    Raises
    ------
    ScenarioError
        If there are fewer than `FEWEST_STEPS`.
    """
    count = steps.time_ms.size
    if count < FEWEST_STEPS:
        raise ScenarioError(
            f"there are {count} steps; a profile needs at least {FEWEST_STEPS}. Record more of them."
        )
    steps = OwnSteps(*(np.asarray(column, float)[:: -(-count // MAX_STEPS)] for column in steps))
    held = np.arange(steps.time_ms.size) % FOLDS == FOLDS - 1
    rest = OwnSteps(*(column[~held] for column in steps))
    seen = line_of(rest, _knots(rest.tokens))
    checked = OwnSteps(*(column[held] for column in steps))
    line = line_of(steps, _knots(steps.tokens))
    return StepFit(line.profile(), checked.tokens, checked.time_ms, seen.at(checked), _untold(steps, line))


class Line(NamedTuple):
    """Times at the knots, and per token of context, per pair and per request. [ms]"""

    knots: np.ndarray
    times_ms: np.ndarray
    context_ms: float
    pair_ms: float
    request_ms: float

    def at(self, steps: OwnSteps) -> np.ndarray:
        """Return the time of each step. [ms]"""
        slope = 0.0
        if self.knots.size > 1:
            slope = max(np.diff(self.times_ms[-2:])[0] / np.diff(self.knots[-2:])[0], 0.0)
        beyond = np.maximum(steps.tokens - self.knots[-1], 0.0)
        found = np.interp(steps.tokens, self.knots, self.times_ms) + slope * beyond
        return found + self.context_ms * steps.decode_context + self.pair_ms * steps.prefill_pairs

    def profile(self, **more: object) -> EngineProfile:
        """Return the line as a step profile."""
        return EngineProfile(
            step_tokens=tuple(int(knot) for knot in self.knots),
            step_time_ms=tuple(float(max(time, 1e-6)) for time in self.times_ms),
            decode_context_ms_per_token=self.context_ms,
            prefill_context_ms_per_pair=self.pair_ms,
            **more,
        )


def line_of(steps: OwnSteps, knots: np.ndarray, requests: np.ndarray | None = None) -> Line:
    """Return the best line by least squares of relative errors, far-off steps with less weight (Huber's).

    Parameters
    ----------
    steps : OwnSteps
    knots : ndarray
        Where the line may bend, rising. [tokens]
    requests : ndarray, optional
        Requests whose way to the engine and back is part of each time; without, there are none.
    """
    from scipy.optimize import nnls

    requests = np.zeros(steps.tokens.size) if requests is None else requests
    hats = np.column_stack([np.interp(steps.tokens, knots, unit) for unit in np.eye(knots.size)])
    columns = [hats, steps.decode_context, steps.prefill_pairs, requests]
    design = np.column_stack(columns) / steps.time_ms[:, None]
    norms = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    weights = np.ones(steps.time_ms.size)
    for _ in range(ROBUST_ROUNDS):
        found = nnls(design / norms * weights[:, None], weights)[0] / norms
        errors = np.abs(design @ found - 1)
        usual = max(2.0 * float(np.median(errors)), 1e-9)
        weights = np.sqrt(np.minimum(1.0, usual / np.maximum(errors, 1e-12)))
    return Line(knots, found[:-3], *(float(value) for value in found[-3:]))


def _knots(tokens: np.ndarray) -> np.ndarray:
    """Return where the line may bend: at every number of tokens if these are few, else spaced by ratios."""
    values, counts = np.unique(tokens, return_counts=True)
    if values.size <= MAX_KNOTS:
        return values
    wanted = np.geomspace(values[0], values[-1], MAX_KNOTS)
    near = values[np.unique(np.abs(np.log(values[None, :] / wanted[:, None])).argmin(axis=1))]
    edges = np.concatenate([[0.0], np.sqrt(near[1:] * near[:-1]), [np.inf]])
    supported = np.histogram(values, edges, weights=counts)[0] >= FEWEST_AT_KNOT
    supported[[0, -1]] = True
    return near[supported]


def _untold(steps: OwnSteps, line: Line) -> tuple[str, ...]:
    """Return what the steps cannot tell."""
    found = []
    if np.unique(steps.tokens).size < 3:
        found.append("The steps have fewer than three different numbers of tokens: others are a guess.")
    for values, what, per_ms in (
        (steps.decode_context, "decode contexts", line.context_ms),
        (steps.prefill_pairs, "query-key pairs of prompts", line.pair_ms),
    ):
        share = per_ms * float(np.ptp(values)) / float(np.median(steps.time_ms))
        if np.ptp(values) == 0:
            found.append(f"The {what} do not vary: their time is not told and counts as 0.")
        elif share < LEAST_SHARE:
            found.append(f"The {what} vary too little, or cost too little, to tell their time from 0.")
    return tuple(found)


def with_overhead(profile: EngineProfile, cases: Sequence[Case]) -> EngineProfile:
    """Return a step profile with the time between client and engine that a quiet point shows.

    It is what the TTFT of the quickest case lasts longer than predicted, half before and half after; without
    a TTFT the profile stays as it is.
    """
    known = [case for case in cases if math.isfinite(case.point.ttft_ms)]
    if not known:
        return profile
    quiet = min(known, key=lambda case: case.point.ttft_ms)
    text = write_profile(thinned(profile)[0])
    predicted_ms = predict([quiet._replace(scenario=quiet.scenario.replace(step_profile=text))])[0, 0]
    extra_ms = quiet.point.ttft_ms - predicted_ms
    half_ms = extra_ms / 2 if extra_ms > 0 else 0.0
    return dataclasses.replace(profile, request_before_ms=half_ms, request_after_ms=half_ms)


# --- errors ---------------------------------------------------------------------------------------


def median_error(found: np.ndarray, metric: str) -> float:
    """Return the median absolute error of predicted over measured, as a share; NaN where there is none."""
    column = found[:, METRICS.index(metric)]
    known = column[np.isfinite(column)]
    return float(np.median(np.abs(known - 1))) if known.size else math.nan
