"""How long prompts are read, and how late engines show first tokens; development only.

A lag is counted in decode steps, one for each engine and kind of model (`sim_core.catalogue.engines`). It is
the one of least median error in TTFT, so that single runs gone wrong do not pull. Whoever leaves rows out
finds the lags without them, and nothing in a fold has seen its rows.

What a tokenizer takes of a prompt's token is found likewise: the time of least mean error in TTFT, in which
an error counts 40% at most, beside the lags that are best with it. Squared errors would follow the few runs
whose TTFT was ten times any other's, as where requests queued.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.calibrations import Constants
from sim_core.catalogue.engines import ServingEngine
from sim_core.evidence import errors as evidence_errors
from sim_core.evidence.assumed import ENGINES, given_requests
from sim_core.evidence.predicted import Bench, predict
from sim_core.evidence.published import LENGTHS, PublishedPoint

FIELDS = {
    "dense": "first_token_lag_steps",
    "moe": "moe_first_token_lag_steps",
    "mla": "latent_first_token_lag_steps",
}
SPLIT_FIELD = "split_latent_first_token_lag_steps"
TRIED_STEPS = np.arange(0.0, 60.5, 0.5)
FEWEST_ROWS = 10
TOKENIZER, TRIED_US = "prompt_token_before", np.arange(0.0, 10.25, 0.25)
MOST_ERROR = 0.4

Lags = Mapping[str, Mapping[str, float]]  # by engine and field


def engines_with(lags: Lags) -> dict[str, ServingEngine]:
    """Return the engines of the catalogue with other lags; those that are not told are 0."""
    none = dict.fromkeys((*FIELDS.values(), SPLIT_FIELD), 0.0)
    known = catalogue.engines().items()
    return {name: dataclasses.replace(engine, **(none | dict(lags.get(name, {})))) for name, engine in known}


def find_lags(bench: Bench, constants: Constants) -> dict[str, dict[str, float]]:
    """Return the lags of least error in TTFT on a bench of one pool, under constants of a calibration.

    An engine without enough rows of a family takes the lag of that family under all engines, and where there
    are none either, that of the family before it.
    """
    predicted = predict(bench, constants, engines=engines_with({}))
    drawn = np.array([point.lengths == LENGTHS[1] for point in bench.points], bool)
    shared = _by_family(bench.points, predicted, drawn, dict.fromkeys(FIELDS, 0.0))
    return {
        name: _by_field(_by_family(bench.points, predicted, drawn & _under(label, bench.points), shared))
        for label, name in ENGINES.items()
    }


def find_tokenizer(bench: Bench, constants: Constants) -> dict[str, float]:
    """Return the tokenizer's time of least error in TTFT, by the name of its constant. [us]

    It is taken to add to TTFT alone: how a loop's load changes with it is simulated under `constants`.
    """
    predicted = predict(bench, constants, engines=engines_with({}))
    runs = zip(bench.points, bench.scenarios, strict=True)
    prompts = np.array([given_requests(*run).prompt_tokens.mean() for run in runs])
    bare_ms, tpot_ms = predicted[:, 0] - 1e3 * constants.prompt_token_before_s * prompts, predicted[:, 1]
    seen_ms = evidence_errors.measured(bench.points)[:, 0]
    kinds = [(p.engine, p.family) if p.lengths == LENGTHS[1] else None for p in bench.points]
    groups = [(kind, np.array([kind == other for other in kinds])) for kind in dict.fromkeys(kinds)]

    def error(token_us: float) -> float:
        ttft_ms = bare_ms + 1e-3 * token_us * prompts
        parts = ((ttft_ms[same], (kind is not None) * tpot_ms[same], seen_ms[same]) for kind, same in groups)
        return sum(_least_cut_error(*part) for part in parts)

    return {TOKENIZER: min(TRIED_US.tolist(), key=error)}


def _least_cut_error(ttft_ms: np.ndarray, tpot_ms: np.ndarray, seen_ms: np.ndarray) -> float:
    """Return the sum of errors in TTFT, each cut off, with the lag of which it is least."""
    size = np.abs((ttft_ms[:, None] + TRIED_STEPS * tpot_ms[:, None]) / seen_ms[:, None] - 1)
    return float(np.nansum(np.minimum(size, MOST_ERROR), axis=0).min())


def find_split_lags(points: Sequence[PublishedPoint], predicted: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the lags of least error in TTFT of latent attention on two pools, predicted without any lag.

    An engine without enough rows takes the lag of all.
    """
    latent = np.array([point.family == "mla" for point in points], bool)
    found = {"": latent} | {label: latent & _under(label, points) for label in ENGINES}
    lags = {
        label: least_error([p for p, ok in zip(points, same, strict=True) if ok], predicted[same])
        for label, same in found.items()
    }
    enough = {label for label, same in found.items() if same.sum() >= FEWEST_ROWS}
    return {name: {SPLIT_FIELD: lags[label if label in enough else ""]} for label, name in ENGINES.items()}


def _under(label: str, points: Sequence[PublishedPoint]) -> np.ndarray:
    return np.array([point.engine == label for point in points], bool)


def _by_family(
    points: Sequence[PublishedPoint],
    predicted: np.ndarray,
    chosen: np.ndarray,
    otherwise: Mapping[str, float],
) -> dict[str, float]:
    """Return the lag of each family of the chosen points; of too few, the one given, or of the one before."""
    found, last = {}, 0.0
    for family in FIELDS:
        same = np.array([point.family == family for point in points], bool) & chosen
        some = [point for point, ok in zip(points, same, strict=True) if ok]
        last = least_error(some, predicted[same]) if len(some) >= FEWEST_ROWS else otherwise[family] or last
        found[family] = last
    return found


def _by_field(lags: Mapping[str, float]) -> dict[str, float]:
    return {field: lags[family] for family, field in FIELDS.items()}


def least_error(points: Sequence[PublishedPoint], predicted: np.ndarray) -> float:
    """Return the lag [decode steps] with the least median error in TTFT, the one that is told.

    Parameters
    ----------
    points : sequence of PublishedPoint
    predicted : ndarray, shape (points, 3)
        Without a lag: TTFT [ms], TPOT [ms], throughput.
    """
    known = np.isfinite(predicted[:, 1])
    ttft_ms, tpot_ms = predicted[known, :1], predicted[known, 1:2]
    seen_ms = evidence_errors.measured(points)[known, :1]
    if not known.any():
        return 0.0
    size = np.abs((ttft_ms + TRIED_STEPS * tpot_ms) / seen_ms - 1)
    return float(TRIED_STEPS[int(np.nanmedian(size, axis=0).argmin())])


def lag_lines(lags: Lags) -> list[str]:
    """Return lags as lines of a table in TOML."""
    return [
        f"lags.{name}.{field} = {steps:g}" for name, fields in lags.items() for field, steps in fields.items()
    ]
