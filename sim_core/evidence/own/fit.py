"""An engine of one's own: a few constants from its operating points, or a step profile from its steps.

From points
-----------
A benchmark run says little about each of the calibration's constants, so a few levers (`levers_of`) are
moved, each a factor on constants that act alike. Every point is simulated as it was run (same loop, rate,
lengths, number of requests), and the factors are those that explain best what was measured: the sum of
squared log errors of TPOT, TTFT and throughput, each by what such data scatter (`SCALES`), plus the squared
log factors by how far engines differ (a lever's `spread`). The latter holds a factor near 1 unless the points
speak against it; the loss is soft L1, so that neither an odd point nor a bound pulls without end.

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

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy  # of which `optimize` is loaded when it is first used

from sim_core.catalogue.calibrations import calibration
from sim_core.evidence.own.cases import METRICS, SCALES, Case, case_ratios, is_evidence, predict_cases
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario, model_of

FEWEST_TO_HOLD_OUT = 4
FOLDS = 5
TOLD = 0.5
DIFFERENCE = 0.02  # step of the derivatives, in the logarithm
EVALUATIONS = 25
WAY = ("request_before", "prompt_token_before", "request_after")
PROMPTS = ("prefill_request", "prefill_layer", "prefill_step_layer")


# --- what is fitted -------------------------------------------------------------------------------


class Lever(NamedTuple):
    """A factor on constants that act alike, and how far engines differ in it (a standard deviation, log)."""

    name: str
    title: str
    constants: tuple[str, ...]
    spread: float


def levers_of(scenario: Scenario) -> tuple[Lever, ...]:
    """Return the levers that act on a scenario's steps."""
    model = model_of(scenario)
    layers = ("layer", "latent_layer") if model.latent else ("layer",)
    found = [
        Lever("memory", "time of reading weights", ("reads",), 0.2),
        Lever("kv", "time of attention over contexts", ("contexts",), 0.3),
        Lever("compute", "time of arithmetic in dense products", ("dense",), 0.3),
        Lever("steps", "fixed time of a step and its layers", ("step", *layers), 0.6),
        Lever("launches", "time of launching kernels", ("launches",), 0.5),
        Lever("sequences", "time of each sequence in a step", ("sequence",), 0.6),
        Lever("prompts", "fixed time of each prompt in a step", PROMPTS, 0.8),
        Lever("requests", "time between client and engine", WAY, 1.0),
    ]
    if model.is_moe:
        found.append(Lever("experts", "time of the experts", ("experts",), 0.5))
    if scenario.tensor_parallel > 1:
        found.append(Lever("links", "latency of collectives", ("collective_gap", "links"), 0.5))
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
    constants : mapping of str to float
        In place of the calibration's, in its units.
    levers : tuple of FittedLever
    before, after, held_out : ndarray, shape (cases, METRICS)
        Predicted over measured: by the calibration, by the fit, and by a fit to the other points; the last is
        NaN throughout where there are too few points.
    """

    constants: Mapping[str, float]
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
    before = case_ratios(cases, predict_cases(cases))
    usable = (is_evidence(cases) & np.isfinite(before)).any(axis=1)
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
    constants = own_constants(cases[0].scenario, factors)
    return Fit(
        constants=constants,
        levers=fitted,
        before=before,
        after=case_ratios(cases, predict_cases(cases, constants)),
        held_out=_held_out(cases, usable) if hold_out else np.full(before.shape, np.nan),
    )


def own_constants(scenario: Scenario, log_factors: Iterable[float]) -> dict[str, float]:
    """Return the constants that a scenario's calibration has under factors on its levers.

    However low the factor, no kernel is faster than the device (`price.kernels.as_calibrated`).
    To six digits: finer ones are no finding, and would let the last bits of a machine's exp steer the fit.
    """
    own: dict[str, float] = {}
    known = {item.name: item for item in calibration(scenario.calibration).constants}
    for lever, log_factor in zip(levers_of(scenario), log_factors, strict=True):
        for name in lever.constants:
            limits = known[name].own_info
            value = min(max(known[name].stated * math.exp(log_factor), limits.low), limits.high)
            own[name] = float(f"{value:.6g}")
    return own


def _solve(cases: Sequence[Case]) -> tuple[np.ndarray, np.ndarray]:
    """Return the log factors of the levers and their standard deviations."""
    scenario = cases[0].scenario
    levers = levers_of(scenario)
    spreads = np.array([lever.spread for lever in levers])
    scales = np.array(list(SCALES.values()))
    evidence = is_evidence(cases)

    def residuals(log_factors: np.ndarray) -> np.ndarray:
        found = case_ratios(cases, predict_cases(cases, own_constants(scenario, log_factors)))
        errors = np.nan_to_num(np.log(found) / scales, nan=0.0)[evidence]
        return np.concatenate([errors, log_factors / spreads])

    most = 4 * spreads + 1
    best = scipy.optimize.least_squares(
        residuals,
        np.zeros(len(levers)),
        jac=lambda at: _slopes(residuals, at, most),
        bounds=(-most, most),
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


def _held_out(cases: list[Case], usable: np.ndarray) -> np.ndarray:
    """Return predicted over measured of each case by a fit to others, in up to `FOLDS` turns."""
    found = np.full((len(cases), len(METRICS)), np.nan)
    places = np.flatnonzero(usable)
    if places.size < FEWEST_TO_HOLD_OUT:
        return found
    folds = min(FOLDS, places.size)
    for turn in range(folds):
        left_out = places[turn::folds]
        seen = [cases[place] for place in places if place not in left_out]
        constants = own_constants(cases[0].scenario, _solve(seen)[0])
        chosen = [cases[place] for place in left_out]
        found[left_out] = case_ratios(chosen, predict_cases(chosen, constants))
    return found


def speed_factor(cases: Sequence[Case]) -> float:
    """Return the factor on all step times that makes predicted TPOT right on average; NaN without TPOT."""
    evidence = is_evidence(cases)[:, 1:3]
    if not evidence.any():
        return math.nan

    def bias(log_factor: float) -> float:
        found = case_ratios(cases, predict_cases(cases, steps_take=math.exp(log_factor)))[:, 1:3]
        known = evidence & np.isfinite(found)
        return float(np.log(found[known]).mean()) if known.any() else 0.0

    low, high = -2.0, 2.0
    while bias(low) > 0 and low > -12:
        low -= 2.0
    while bias(high) < 0 and high < 12:
        high += 2.0
    if bias(low) > 0 or bias(high) < 0:
        return math.nan
    return math.exp(scipy.optimize.brentq(bias, low, high, xtol=1e-3))
