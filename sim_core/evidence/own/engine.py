"""From files of one's own measurements to an engine profile, with its errors: what page and command share."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim_core.catalogue.calibrations import write_constants
from sim_core.evidence.bands import ranked
from sim_core.evidence.blind import HALF_FRAC, HELD_FRAC
from sim_core.evidence.coverage import OVERLOAD, STEEP_LOAD
from sim_core.evidence.own.cases import (
    MAX_POINTS,
    METRICS,
    Case,
    case_of,
    case_ratios,
    median_error,
    predict_cases,
)
from sim_core.evidence.own.fit import FittedLever, fit, speed_factor
from sim_core.evidence.own.formats.points import OwnPoint, OwnSteps, Upload
from sim_core.evidence.own.gaps import Accepted, told_by_gaps
from sim_core.evidence.own.steps import StepFit, fit_steps, with_overhead
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.link.carry import carried_by
from sim_core.scenario.own_bands import Edges, OwnBands, write_own_bands
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario
from sim_core.sweep.saturation import saturation_per_s

POINTS, STEPS = "points", "steps"
FIT_POINTS = 24
STATED = {"tpot_ms": "TPOT", "ttft_ms": "TTFT", "output_tok_per_s": "throughput"}


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredPoint:
    """One measured point of a file; without a case it cannot be simulated, and `problem` says why."""

    file: str
    point: OwnPoint
    case: Case | None
    problem: str


@dataclass(frozen=True, slots=True, eq=False)
class OwnEngine:
    """An engine of one's own and what it rests on.

    Attributes
    ----------
    profile : EngineProfile
        For `--profile`, or for a scenario by `profile.carried_by`.
    kind : str
        `POINTS`: constants fitted to operating points; `STEPS`: a table of step times.
    entries : tuple of Entry
        All points of the files.
    fitted : ndarray of bool, shape (entries,)
        Which of them the fit has seen; under `STEPS` none.
    before, after, held_out : ndarray, shape (entries, METRICS)
        Predicted over measured: by the calibration, by the profile, and by fits to other points. NaN where a
        value is missing.
    levers : tuple of FittedLever
        Empty under `STEPS`.
    steps : StepFit or None
        None under `POINTS`.
    speed, speed_left : float
        The speed factor (`fitting.speed_factor`) of the points against the calibration, and against the
        profile; NaN without points.
    load_frac : ndarray, shape (entries,)
        Request rate over the rate that saturates, by the profile; NaN outside open loops.
    remark : str
        Why the files' steps were not used, where they were not.
    """

    profile: EngineProfile
    kind: str
    entries: tuple[MeasuredPoint, ...]
    fitted: np.ndarray
    before: np.ndarray
    after: np.ndarray
    held_out: np.ndarray
    levers: tuple[FittedLever, ...]
    steps: StepFit | None
    speed: float
    speed_left: float
    load_frac: np.ndarray
    remark: str = ""

    @property
    def unseen(self) -> np.ndarray:
        """Predicted over measured of each entry by an engine that has not seen it."""
        return np.where(self.fitted[:, None], self.held_out, self.after)

    @property
    def steep(self) -> np.ndarray:
        """Which entries lie so near saturation that waiting hangs on a few percent of speed."""
        return self.load_frac > STEEP_LOAD

    @property
    def overloaded(self) -> np.ndarray:
        """Which entries lie so far beyond saturation that their waiting is that of the run's length."""
        return self.load_frac > OVERLOAD


def entries_of(uploads: Sequence[Upload], base: Scenario) -> tuple[MeasuredPoint, ...]:
    """Return the points of all files as entries; model, device and engine are those of `base`."""
    bare = base.replace(constants="", step_profile="")
    found = []
    for upload in uploads:
        for point in upload.points:
            try:
                found.append(MeasuredPoint(upload.name, point, case_of(point, bare), ""))
            except ScenarioError as error:
                found.append(MeasuredPoint(upload.name, point, None, str(error)))
    return tuple(found[:MAX_POINTS])


def fitted_by_default(entries: Sequence[MeasuredPoint]) -> tuple[int, ...]:
    """Return the places of the entries to be fitted: all that can be, or `FIT_POINTS` spread over them."""
    places = [place for place, entry in enumerate(entries) if entry.case is not None]
    if len(places) <= FIT_POINTS:
        return tuple(places)
    return tuple(places[round(at)] for at in np.linspace(0, len(places) - 1, FIT_POINTS))


def kinds_of(uploads: Sequence[Upload]) -> tuple[str, ...]:
    """Return what the files allow to be fitted: steps first, they say more."""
    found = [STEPS] if any(upload.steps is not None for upload in uploads) else []
    return tuple(found + ([POINTS] if any(upload.points for upload in uploads) else []))


def calibrate(
    uploads: Sequence[Upload], base: Scenario, *, kind: str = "", fit_to: Collection[int] | None = None
) -> OwnEngine:
    """Return the engine that was measured.

    Parameters
    ----------
    uploads : sequence of Upload
        All of one model on one device, layout and engine.
    base : Scenario
        Which ones, and how the engine schedules.
    kind : str, optional
        `POINTS` or `STEPS`; by default steps if there are any, and points where those do not make a profile.
    fit_to : collection of int, optional
        Places of the entries (`entries_of`) to fit; by default `fitted_by_default`.

    Raises
    ------
    ScenarioError
        If the files hold nothing that can be fitted.
    """
    kinds = kinds_of(uploads)
    if not kinds:
        raise ScenarioError("no file holds an operating point or steps; upload a benchmark's result.")
    if kind and kind not in kinds:
        raise ScenarioError(f"the files hold no {kind}; they allow a fit to {' or '.join(kinds)}.")
    entries = entries_of(uploads, base)
    no_profile = ""
    if STEPS in (kind, kinds[0]) and kind != POINTS:
        try:
            return _from_steps(uploads, entries, base)
        except ScenarioError as error:
            if kind or len(kinds) == 1:
                raise
            no_profile = f"The steps make no profile, so points are fitted: {error}"
    chosen = fitted_by_default(entries) if fit_to is None else tuple(sorted(fit_to))
    return replace(_from_points(entries, chosen, base), remark=no_profile)


def _from_points(entries: tuple[MeasuredPoint, ...], chosen: tuple[int, ...], base: Scenario) -> OwnEngine:
    """Return the engine of constants fitted to the chosen entries."""
    cases = _cases_at(chosen, entries)
    if not cases:
        reasons = {entry.problem for entry in entries if entry.problem}
        raise ScenarioError("no point is left to fit. " + (next(iter(reasons)) if reasons else "Choose one."))
    found = fit(list(cases.values()))
    constants = write_constants(found.constants)  # with four digits each: more is not known of them
    profile = EngineProfile(
        name=_name(base), engine=base.engine, calibration=base.calibration, constants=constants
    )
    engine = _compared(entries, base, profile, POINTS)
    held_out = np.full(engine.before.shape, np.nan)
    held_out[list(cases)] = found.held_out
    fitted = np.isin(np.arange(len(entries)), list(cases))
    return _stated(replace(engine, fitted=fitted, held_out=held_out, levers=found.levers), base)


def _cases_at(places: Iterable[int], entries: Sequence[MeasuredPoint]) -> dict[int, Case]:
    """Return the cases of some entries by their place; those that cannot be simulated have none."""
    known = {place: entry.case for place, entry in enumerate(entries)}
    return {place: case for place in places if (case := known.get(place)) is not None}


def _from_steps(uploads: Sequence[Upload], entries: tuple[MeasuredPoint, ...], base: Scenario) -> OwnEngine:
    """Return the engine of measured steps."""
    columns = zip(*(upload.steps for upload in uploads if upload.steps is not None), strict=True)
    found = fit_steps(OwnSteps(*(np.concatenate(column) for column in columns)))
    cases = [entry.case for entry in entries if entry.case is not None]
    profile = replace(with_overhead(found.profile, cases), name=_name(base), engine=base.engine)
    return _stated(replace(_compared(entries, base, profile, STEPS), steps=found), base)


def _compared(
    entries: tuple[MeasuredPoint, ...], base: Scenario, profile: EngineProfile, kind: str
) -> OwnEngine:
    """Return an engine with its predictions of all entries beside those of the calibration."""
    known = _cases_at(range(len(entries)), entries)
    places, cases = list(known), list(known.values())
    own = [case._replace(scenario=carried_by(case.scenario, profile)[0]) for case in cases]
    before, after = (np.full((len(entries), len(METRICS)), np.nan) for _ in range(2))
    load_frac = np.full(len(entries), np.nan)
    if cases:
        before[places] = case_ratios(cases, predict_cases(cases))
        after[places] = case_ratios(own, predict_cases(own))
        load_frac[places] = [_load(case.scenario) for case in own]
    return OwnEngine(
        profile=profile,
        kind=kind,
        entries=entries,
        fitted=np.zeros(len(entries), bool),
        before=before,
        after=after,
        held_out=np.full(before.shape, np.nan),
        levers=(),
        steps=None,
        speed=speed_factor(cases),
        speed_left=speed_factor(own),
        load_frac=load_frac,
    )


def _load(scenario: Scenario) -> float:
    """Return the request rate over the one that saturates; NaN outside open loops, or where nothing runs."""
    if scenario.arrivals not in ("poisson", "gamma"):
        return math.nan
    try:
        return scenario.arrival_per_s / saturation_per_s(scenario)
    except ScenarioError:
        return math.nan


def _stated(engine: OwnEngine, base: Scenario) -> OwnEngine:
    """Return an engine whose profile says how well it fits."""
    bands = write_own_bands(own_bands_of(engine, base))
    return replace(engine, profile=replace(engine.profile, bands=bands, source=goodness(engine)))


BAND_METRICS = {"tpot": ("tpot_ms", "itl_ms"), "ttft": ("ttft_ms",), "throughput": ("output_tok_per_s",)}


def own_bands_of(engine: OwnEngine, base: Scenario) -> OwnBands:
    """Return where measurements lie beside predictions by engines that had not seen them.

    Of each metric, from the points that state it; of TTFT only those that do not hang on how near saturation
    is. Each point stands for itself (`sim_core.evidence.bands.ranked`); of fewer than two there is no band.
    """
    found, most = {}, 0
    for name, metrics in BAND_METRICS.items():
        ratios = max((_measured_over_predicted(engine, metric) for metric in metrics), key=len)
        whole, half = (ranked(ratios.tolist(), share) for share in (HELD_FRAC, HALF_FRAC))
        if whole.low > 0:
            found[name] = Edges(whole.low, max(half.low, whole.low), min(half.high, whole.high), whole.high)
            most = max(most, len(ratios))
    return OwnBands(found, most, base.model, base.accelerator)


def _measured_over_predicted(engine: OwnEngine, metric: str) -> np.ndarray:
    """Return the known ratios of points that the predicting engine had not seen."""
    ratios = engine.unseen[:, METRICS.index(metric)]
    usable = np.isfinite(ratios) & (ratios > 0)
    if metric == "ttft_ms":
        usable &= ~engine.steep
    return 1 / ratios[usable]


def _name(base: Scenario) -> str:
    layout = f" x{base.accelerators}" if base.accelerators > 1 else ""
    return f"{base.model} on {base.accelerator}{layout}, own measurement"


def goodness(engine: OwnEngine) -> str:
    """Return in one or two sentences what an engine was fitted to and how well."""
    words = []
    if engine.steps is not None:
        words.append(
            f"Fitted to measured steps: a fifth of them, held out, are predicted with a median error of "
            f"{engine.steps.error_frac:.1%}."
        )
    if engine.kind == POINTS:
        words.append(f"Fitted to {int(engine.fitted.sum())} operating points.")
    errors = []
    for name, title in STATED.items():
        unseen, seen = (median_error(found, name) for found in (engine.unseen, engine.after))
        if math.isfinite(unseen):
            errors.append(f"{title} {unseen:.1%}")
        elif math.isfinite(seen):
            errors.append(f"{title} {seen:.1%} (seen by the fit)")
    if errors:
        words.append(f"Median errors on points it has not seen: {', '.join(errors)}.")
    return " ".join(words)


def rows(engine: OwnEngine) -> list[dict[str, Any]]:
    """Return one row an entry: what was run, measured and predicted, and the errors in percent."""
    found = []
    for place, entry in enumerate(engine.entries):
        point = entry.point
        row: dict[str, Any] = {
            "name": point.name,
            "file": entry.file,
            "arrivals": entry.case.scenario.arrivals if entry.case else point.arrivals,
            "concurrency": _clients(entry),
            "arrival_per_s": point.arrival_per_s,
            "prompt_tokens": point.prompt_tokens,
            "output_tokens": point.output_tokens,
            "fitted": bool(engine.fitted[place]),
            "near_saturation": bool(engine.steep[place]),
        }
        for column, name in enumerate(METRICS):
            measured = getattr(point, name)
            row[name] = measured
            for label, ratio in (
                ("calibration", engine.before[place, column]),
                ("own", engine.after[place, column]),
            ):
                row[f"{name}_{label}"] = ratio * measured
                row[f"{name}_{label}_error_pct"] = 100 * (ratio - 1)
            row[f"{name}_unseen_error_pct"] = 100 * (engine.unseen[place, column] - 1)
        row["note"] = remark(entry)
        found.append(row)
    return found


def remark(entry: MeasuredPoint) -> str:
    """Return what must be said of an entry: why it is not simulated, or what was assumed and left out."""
    assumed = entry.case.assumed if entry.case else entry.problem
    return " ".join(filter(None, (f"{assumed[:1].upper()}{assumed[1:]}", *entry.point.notes)))


def _clients(entry: MeasuredPoint) -> int:
    if entry.case is None:
        return entry.point.concurrency
    return entry.case.scenario.concurrency if entry.case.scenario.arrivals == "closed" else 0


def accepted_of(engine: OwnEngine) -> Accepted | None:
    """Return the acceptance length that the gaps of an engine's points tell, if they do."""
    cases = [entry.case for entry in engine.entries if entry.case]
    return told_by_gaps([case.point for case in cases], cases[0].scenario) if cases else None


def summary(engine: OwnEngine) -> dict[str, Any]:
    """Return what the command line prints beside the rows: errors, speed factor, levers, what is not told."""
    errors = {}
    for name in METRICS:
        found = (engine.before, engine.after, engine.unseen)
        values = [100 * median_error(ratio, name) for ratio in found]
        if any(map(math.isfinite, values)):
            errors[name] = dict(zip(("calibration", "own_engine", "unseen_points"), values, strict=True))
    levers = {
        row.lever.name: {"factor": row.factor, "log_deviation": row.deviation, "told_frac": row.told_frac}
        for row in engine.levers
    }
    steps = engine.steps
    return {
        "engine": engine.profile.engine,
        "fitted_to": engine.kind,
        "median_error_pct": errors,
        "held_out_steps_error_pct": 100 * steps.error_frac if steps else math.nan,
        "speed_factor": engine.speed,
        "speed_factor_left": engine.speed_left,
        "levers": levers,
        "not_told": [row.lever.title for row in engine.levers if not row.told]
        + list(steps.untold if steps else ()),
        "constants": engine.profile.constants,
        "own_bands": engine.profile.bands,
        "acceptance_length": told._asdict() if (told := accepted_of(engine)) else None,
        "goodness": engine.profile.source,
    }
