"""A step profile from measured steps: a line with few bends, and what contexts and prompts add."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # of which `optimize` is loaded when it is first used

from sim_core.evidence.own.cases import Case, predict_cases
from sim_core.evidence.own.fit import FOLDS
from sim_core.evidence.own.formats.points import OwnSteps
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.profiles import EngineProfile, thinned, write_profile

MAX_STEPS = 20_000
FEWEST_STEPS = 10
MAX_KNOTS = 40
FEWEST_AT_KNOT = 3
ROBUST_ROUNDS = 4
LEAST_SHARE = 0.01


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


class StepLine(NamedTuple):
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

    def profile(self) -> EngineProfile:
        """Return the line as a step profile."""
        return EngineProfile(
            step_tokens=tuple(int(knot) for knot in self.knots),
            step_time_ms=tuple(float(max(time, 1e-6)) for time in self.times_ms),
            decode_context_ms_per_token=self.context_ms,
            prefill_context_ms_per_pair=self.pair_ms,
        )


def line_of(steps: OwnSteps, knots: np.ndarray, requests: np.ndarray | None = None) -> StepLine:
    """Return the best line by least squares of relative errors, far-off steps with less weight (Huber's).

    Parameters
    ----------
    steps : OwnSteps
    knots : ndarray
        Where the line may bend, rising. [tokens]
    requests : ndarray, optional
        Requests whose way to the engine and back is part of each time; without, there are none.
    """
    requests = np.zeros(steps.tokens.size) if requests is None else requests
    hats = np.column_stack([np.interp(steps.tokens, knots, unit) for unit in np.eye(knots.size)])
    columns = [hats, steps.decode_context, steps.prefill_pairs, requests]
    design = np.column_stack(columns) / steps.time_ms[:, None]
    norms = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    weights = np.ones(steps.time_ms.size)
    for _ in range(ROBUST_ROUNDS):
        found = scipy.optimize.nnls(design / norms * weights[:, None], weights)[0] / norms
        errors = np.abs(design @ found - 1)
        usual = max(2.0 * float(np.median(errors)), 1e-9)
        weights = np.sqrt(np.minimum(1.0, usual / np.maximum(errors, 1e-12)))
    return StepLine(knots, found[:-3], *(float(value) for value in found[-3:]))


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


def _untold(steps: OwnSteps, line: StepLine) -> tuple[str, ...]:
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
    predicted_ms = predict_cases([quiet._replace(scenario=quiet.scenario.replace(step_profile=text))])[0, 0]
    extra_ms = quiet.point.ttft_ms - predicted_ms
    half_ms = extra_ms / 2 if extra_ms > 0 else 0.0
    return dataclasses.replace(profile, request_before_ms=half_ms, request_after_ms=half_ms)
