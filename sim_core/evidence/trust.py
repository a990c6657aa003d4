"""How far a prediction can be trusted: a badge, the reasons, and the band that published points leave.

The evidence is `presets/validation`: published closed loops, each predicted by a fit that had not seen its
accelerator or its model (`blind.csv`). A scenario inside what these points cover is in the `validated
region`. One input outside, and it is `extrapolated`, with the input named. Parts whose figures are announced
are `announced hardware`, whatever else holds.

Bands
-----
A band holds the measured value in four cases of five: the 10th and 90th percentile of measured / predicted
over the blind rows closest to the scenario. Those are, if there are enough of them, the rows of its model
family on its accelerator, else of its family, else all.

- Inside, the ratios are those of fits without the row's model.
- If the accelerator or the model is outside, they are those of fits without the row's accelerator or model.
  A part that was never fitted, but has points of its own (one batch, offline), takes those into account.
- Every other input outside widens the band by half, in the logarithm; so do a vendor without any part in
  the fit, and figures that are only announced.

The `submission` calibration is held against published benchmark entries (`sim_core.evidence.entries`); they
state no latencies, so it has a band of throughput alone. The datasheet calibration is a bound and has no
bands; a measured engine profile is evidence of its own.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from sim_core import catalogue
from sim_core.catalogue.calibrations import calibration
from sim_core.evidence import entries
from sim_core.evidence.published import FOLDER, Point, family_of, points, weight_dtype
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.traffic.draws import mean_lengths

VALIDATED, EXTRAPOLATED, ANNOUNCED = "validated region", "extrapolated", "announced hardware"
BADGES = (VALIDATED, EXTRAPOLATED, ANNOUNCED)
HELD_FRAC = 0.8
FEWEST_ROWS = 15
FEWEST_OWN = 8
SLACK = 1.25  # lengths and batches this far beyond the measured ones still count as covered
SIZE_SLACK = 1.5  # and models
WIDER = 0.5
STEEP_LOAD = 0.9
FAMILY_WORDS = {"dense": "dense models", "moe": "mixtures of experts", "mla": "models with latent attention"}


class Band(NamedTuple):
    """A ratio interval: 80% of measured values lie from `low` to `high` times the predicted one."""

    low: float
    high: float


NO_BAND = Band(math.nan, math.nan)


class Trust(NamedTuple):
    """A badge, one sentence for each reason, the bands, and the rows they rest on in words."""

    badge: str
    reasons: tuple[str, ...]
    tpot_band: Band
    ttft_band: Band
    throughput_band: Band
    evidence: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        found = {"badge": self.badge, "reasons": list(self.reasons), "evidence": self.evidence}
        return found | self._bands() | {"band_holds_frac": HELD_FRAC}

    def columns(self) -> dict[str, Any]:
        """Return it as the columns of a row in tables and files."""
        return {"badge": self.badge, "badge_reasons": " ".join(self.reasons)} | self._bands()

    def _bands(self) -> dict[str, float]:
        return {
            f"{name}_band_{side}_frac": getattr(getattr(self, f"{name}_band"), side)
            for name in ("tpot", "ttft", "throughput")
            for side in Band._fields
        }


class Blind(NamedTuple):
    """Ratios predicted / measured of a point by constants that have not seen it, NaN where unknown."""

    point: Point
    unseen: str
    ttft: float
    tpot: float
    throughput: float


@cache
def blind() -> tuple[Blind, ...]:
    """Return the blind predictions of the table's points."""
    known = {point.id: point for point in points()}
    with (FOLDER / "blind.csv").open(encoding="utf-8", newline="") as lines:
        return tuple(
            Blind(
                known[row["id"]],
                row["unseen"],
                *(float(row[metric] or "nan") for metric in ("ttft", "tpot", "throughput")),
            )
            for row in csv.DictReader(lines)
        )


def fingerprint() -> str:
    """Return a word that changes with the constants of the typical calibration."""
    text = repr(tuple(calibration("typical").base))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


# --- what is covered ------------------------------------------------------------------------------


class Coverage(NamedTuple):
    """What the published closed loops cover; sizes in parameters, lengths in tokens.

    `dtypes` holds the weights' precisions by accelerator and family.
    """

    accelerators: Mapping[str, int]
    models: Mapping[str, int]
    sizes: Mapping[str, tuple[float, float]]
    tensor_parallel: Mapping[str, int]
    expert_parallel: int
    dtypes: Mapping[tuple[str, str], frozenset[str]]
    prompt_tokens: tuple[float, float]
    output_tokens: tuple[float, float]
    context_tokens: float
    clients: int


@cache
def coverage() -> Coverage:
    """Return what the points cover that the fit may have used."""
    rows = [point for point in points() if point.fitted]
    families = {family: [point for point in rows if point.family == family] for family in FAMILY_WORDS}
    parts = sorted({point.accelerator for point in rows})
    return Coverage(
        accelerators={name: sum(point.accelerator == name for point in rows) for name in parts},
        models={point.model: sum(other.model == point.model for other in rows) for point in rows},
        sizes={
            family: _range(catalogue.model(p.model).total_params for p in of)
            for family, of in families.items()
        },
        tensor_parallel={family: max(p.tensor_parallel for p in of) for family, of in families.items()},
        expert_parallel=max(point.expert_parallel for point in rows),
        dtypes={
            (name, family): known
            for name in parts
            for family, of in families.items()
            if (known := frozenset(_stored(p) for p in of if p.accelerator == name))
        },
        prompt_tokens=_range(point.prompt_tokens for point in rows),
        output_tokens=_range(point.output_tokens for point in rows),
        context_tokens=max(point.prompt_tokens + point.output_tokens / 2 for point in rows),
        clients=max(point.clients // point.replicas for point in rows),
    )


def _range(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return min(found), max(found)


def _stored(point: Point) -> str:
    return _most_weights(catalogue.model(point.model), weight_dtype(point))


def _most_weights(model: catalogue.Model, dtype: str) -> str:
    """Return the precision of most weights: of the experts where there are any."""
    return model.stored_dtypes(dtype)[1 if model.experts else 0]


class Outside(NamedTuple):
    """One input that is not covered: which, and in words why."""

    what: str
    words: str


def outside(
    scenario: Scenario,
    trace: Any = None,
    load_frac: float | None = None,
    context_tokens: float | None = None,
) -> list[Outside]:
    """Return the inputs of a scenario that the published points do not cover.

    Where one step is looked at, its context counts in place of the lengths of the traffic.
    """
    covered, model = coverage(), model_of(scenario)
    checks = (
        _accelerator(scenario, covered),
        _model(scenario, model, covered),
        _layout(scenario, family_of(model), covered),
        _precision(scenario, covered),
        _lengths(scenario, covered, trace) if context_tokens is None else _context(covered, context_tokens),
        _clients(scenario, covered),
        _scheduling(scenario),
        _load(load_frac),
    )
    return [item for found in checks for item in found]


def _accelerator(scenario: Scenario, covered: Coverage) -> list[Outside]:
    name = catalogue.accelerator(scenario.accelerator).name
    if scenario.accelerator not in covered.accelerators:
        found = [Outside("accelerator", f"no published closed loop on {name} is in the table")]
        vendor = catalogue.accelerator(scenario.accelerator).vendor
        if vendor not in {catalogue.accelerator(part).vendor for part in covered.accelerators}:
            found.append(Outside("vendor", f"nor is one on any other part of {vendor}"))
        return found
    return _changed_specs(scenario)


def _changed_specs(scenario: Scenario) -> list[Outside]:
    """Return whether the accelerator is another one than is sold."""
    part, sold = accelerator_of(scenario), catalogue.accelerator(scenario.accelerator)
    names = (
        "bf16_tflop_per_s",
        "fp8_tflop_per_s",
        "fp4_tflop_per_s",
        "hbm_gb_per_s",
        "hbm_gb",
        "link_gb_per_s",
    )
    changed = [key for key in names if getattr(part, key) != getattr(sold, key)]
    if changed:
        return [Outside("accelerator", f"{sold.name} is changed: {', '.join(changed)}")]
    return []


def _model(scenario: Scenario, model: catalogue.Model, covered: Coverage) -> list[Outside]:
    if model.linear_attention_layers or scenario.model == "glm-5":
        return [Outside("model", f"the attention of {model.name} is not modelled")]
    if scenario.model in covered.models and model == catalogue.model(scenario.model):
        return []
    low, high = covered.sizes[family_of(model)]
    size, words = model.total_params, FAMILY_WORDS[family_of(model)]
    if low / SIZE_SLACK <= size <= high * SIZE_SLACK:
        return []
    return [
        Outside(
            "model",
            f"{model.name} has {size / 1e9:.3g} billion parameters; measured {words} have "
            f"{low / 1e9:.3g} to {high / 1e9:.3g}",
        )
    ]


def _layout(scenario: Scenario, family: str, covered: Coverage) -> list[Outside]:
    limits = (
        ("tensor_parallel", covered.tensor_parallel[family]),
        ("expert_parallel", covered.expert_parallel),
    )
    return [
        Outside(key, f"{asked} devices a group ({key}); measured {FAMILY_WORDS[family]} use up to {most}")
        for key, most in limits
        if (asked := getattr(scenario, key)) > most
    ]


def _precision(scenario: Scenario, covered: Coverage) -> list[Outside]:
    """Return whether the family was not measured on the accelerator, or not in this precision."""
    if scenario.accelerator not in covered.accelerators:
        return []
    model, name = model_of(scenario), catalogue.accelerator(scenario.accelerator).name
    family = family_of(model)
    known = covered.dtypes.get((scenario.accelerator, family))
    if known is None:
        return [
            Outside("model", f"no published closed loop of {FAMILY_WORDS[family]} on {name} is in the table")
        ]
    stored = _most_weights(model, scenario.weight_dtype)
    if stored in known:
        return []
    measured = ", ".join(sorted(known))
    words = f"weights of {FAMILY_WORDS[family]} in {stored} on {name} (weight_dtype); measured: {measured}"
    return [Outside("weight_dtype", words)]


def _lengths(scenario: Scenario, covered: Coverage, trace: Any) -> list[Outside]:
    found = []
    for key, mean in zip(("prompt_tokens", "output_tokens"), mean_lengths(scenario, trace), strict=True):
        low, high = getattr(covered, key)
        if not low / SLACK <= mean <= high * SLACK:
            what = "prompt" if key == "prompt_tokens" else "answer"
            words = f"the mean {what} has {mean:,.0f} tokens ({key}); measured {low:,.0f} to {high:,.0f}"
            found.append(Outside(key, words))
    return found


def _context(covered: Coverage, tokens: float) -> list[Outside]:
    """Return whether sequences hold more, or fewer, tokens than in any point half-way through its answers."""
    low = covered.prompt_tokens[0] + covered.output_tokens[0] / 2
    high = covered.context_tokens
    if low / SLACK <= tokens <= high * SLACK:
        return []
    return [Outside("context", f"a context of {tokens:,.0f} tokens; measured {low:,.0f} to {high:,.0f}")]


def _clients(scenario: Scenario, covered: Coverage) -> list[Outside]:
    """Return whether more sequences may run at once than were measured; in an open loop nobody can say."""
    if scenario.arrivals == "closed":
        key, most = "concurrency", min(-(-scenario.concurrency // scenario.replicas), scenario.max_running)
    elif scenario.arrivals == "offline":
        key, most = "max_batch", min(scenario.max_running, scenario.requests)
    else:
        return []
    if most <= covered.clients * SLACK:
        return []
    return [Outside(key, f"{most:,} sequences at once ({key}); measured up to {covered.clients:,}")]


@cache
def pools_words() -> str:
    """Return what the published points of two pools say of the predictions; no fit has used them."""
    rows = [row for row in blind() if row.unseen == "pools"]
    errors = {
        metric: 100 * float(np.nanmedian([abs(getattr(row, metric) - 1) for row in rows]))
        for metric in ("tpot", "throughput", "ttft")
    }
    tpot, throughput, ttft = (f"{error:.0f} %" for error in errors.values())
    return (
        f"{len(rows)} published points of two pools are off by {tpot} in TPOT, {throughput} in throughput "
        f"and {ttft} in TTFT (medians), and the band does not hold them"
    )


def _scheduling(scenario: Scenario) -> list[Outside]:
    found = []
    if scenario.policy == "static":
        found.append(Outside("policy", "static batching (policy); measured engines batch continuously"))
    if scenario.split:
        found.append(Outside("policy", f"two pools (policy); {pools_words()}"))
    if scenario.calibration == "datasheet":
        found.append(
            Outside("calibration", "the datasheet calibration is a physical bound, not a prediction")
        )
    return found


def _load(load_frac: float | None) -> list[Outside]:
    if load_frac is None or load_frac <= STEEP_LOAD:
        return []
    words = f"the load is {load_frac:.0%} of what saturates: there, a few percent of speed decide the waiting"
    return [Outside("load", words)]


# --- the badge and the bands ----------------------------------------------------------------------


def trust(
    scenario: Scenario, *, profile: Any = None, trace: Any = None, load_frac: float | None = None
) -> Trust:
    """Return how far the predictions of a scenario can be trusted.

    Parameters
    ----------
    scenario : Scenario
    profile : EngineProfile, optional
        Measured step times: evidence of their own, without bands.
    trace : Trace, optional
        Requests whose lengths count in place of the scenario's.
    load_frac : float, optional
        Request rate as a share of the rate that saturates, where it is known.
    """
    if trace is not None or profile is not None:
        return _trust(scenario, profile, trace, load_frac)
    steep = load_frac if load_frac is not None and load_frac > STEEP_LOAD else None
    return _cached(_neutral(scenario), steep)


def of_step(scenario: Scenario, batch: int = 1, context_tokens: float | None = None) -> Trust:
    """Return how far the time of one step can be trusted: of `batch` sequences with `context_tokens` each.

    Without a context, the lengths of the scenario count. Traffic and policy do not matter to a single step.
    """
    changes: dict[str, Any] = {"arrivals": "closed", "concurrency": batch, "replicas": 1, "request_list": ""}
    changes |= {"policy": "chunked", "max_batch": batch, "token_budget": max(batch, 8192)}
    if context_tokens is not None:
        changes |= {"mix": "", "prompt_tokens": 1, "output_tokens": 1, "prompt_cv": 0.0, "output_cv": 0.0}
    return _cached(_neutral(scenario.replace(**changes)), None, context_tokens)


def _neutral(scenario: Scenario) -> Scenario:
    """Return a scenario without what trust does not depend on, so that a sweep over it is one look-up."""
    changes: dict[str, Any] = {"seed": 0, "slo_ttft_ms": 1.0, "slo_tpot_ms": 1.0, "warmup_frac": 0.0}
    if scenario.arrivals in ("poisson", "gamma"):
        changes |= {"arrival_per_s": 1.0, "max_batch": 256, "requests": 1}
    return scenario.replace(**changes)


@lru_cache(maxsize=1024)
def _cached(scenario: Scenario, load_frac: float | None, context_tokens: float | None = None) -> Trust:
    return _trust(scenario, None, None, load_frac, context_tokens)


def _trust(
    scenario: Scenario,
    profile: Any,
    trace: Any,
    load_frac: float | None,
    context_tokens: float | None = None,
) -> Trust:
    part = accelerator_of(scenario)
    if profile is not None or scenario.step_profile:
        words = ("step times are measured, on an engine and a device of your own",)
        return Trust(VALIDATED, words, NO_BAND, NO_BAND, NO_BAND, "your own measurement")
    if scenario.calibration == "submission" and not scenario.constants:
        return _of_entries(scenario)
    found = outside(scenario, trace, load_frac, context_tokens)
    reasons = tuple(_sentence(item.words) for item in found)
    badge = ANNOUNCED if part.announced else EXTRAPOLATED if found else VALIDATED
    if part.announced:
        reasons = (f"The figures of {part.name} are announced, not measured by others.", *reasons)
    if scenario.constants:
        words = ("Some constants are your own, not those that the published points test.", *reasons)
        return Trust(badge, words, NO_BAND, NO_BAND, NO_BAND, "your own measurement")
    if any(item.what == "calibration" for item in found):
        return Trust(badge, reasons, NO_BAND, NO_BAND, NO_BAND, "none")
    missing = {item.what for item in found}
    unseen = "accelerator" if "accelerator" in missing else "model"
    held, words = _closest(family_of(model_of(scenario)), scenario.accelerator, unseen)
    if not reasons:
        reasons = (f"Covered by {words}.",)
    further = len(missing) - bool(missing & {"accelerator", "model"}) + part.announced
    bands = {metric: widened(band, further) for metric, band in held.items()}
    own = _own_band(scenario.accelerator)
    if own is not None:
        bands["throughput"] = _union(bands["throughput"], own)
        bands["tpot"] = _union(bands["tpot"], Band(1 / own.high, 1 / own.low))
    return Trust(badge, reasons, bands["tpot"], bands["ttft"], bands["throughput"], words)


def _of_entries(scenario: Scenario) -> Trust:
    """Return how far a prediction by the `submission` calibration can be trusted: what entries say."""
    part, found = accelerator_of(scenario), _beside_entries(scenario)
    reasons = tuple(_sentence(item.words) for item in found)
    if part.announced:
        reasons = (f"The figures of {part.name} are announced, not measured by others.", *reasons)
    badge = ANNOUNCED if part.announced else EXTRAPOLATED if found else VALIDATED
    if not reasons:
        name = model_of(scenario).name
        reasons = (f"Covered by published benchmark entries of {name} on {part.name}.",)
    return Trust(badge, reasons, NO_BAND, NO_BAND, entry_band(scenario), entries.evidence(scenario.model))


def _beside_entries(scenario: Scenario) -> list[Outside]:
    found = [Outside(*item) for item in entries.outside(scenario)]
    return [*found, *_changed_specs(scenario), *_scheduling(scenario)]


def entry_band(scenario: Scenario, rule: str = "offline") -> Band:
    """Return the band of throughput under a benchmark's rule, as `trust` has it for Offline.

    Other calibrations than `submission` have one band of throughput, whatever the rule.
    """
    if scenario.calibration != "submission" or scenario.constants or scenario.step_profile:
        return trust(scenario).throughput_band
    further = len(_beside_entries(scenario)) + accelerator_of(scenario).announced
    return widened(interval(entries.ratios(scenario.model, rule)), further)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


@cache
def _closest(family: str, accelerator: str, unseen: str) -> tuple[dict[str, Band], str]:
    """Return what holds measured / predicted in 80% of the closest blind rows, and which these are."""
    rows = [row for row in blind() if row.unseen == unseen]
    same = [row for row in rows if row.point.family == family]
    here = [row for row in same if row.point.accelerator == accelerator]
    name = catalogue.accelerator(accelerator).name
    left_out = f"each predicted without its {unseen}"
    if len(here) >= FEWEST_ROWS and unseen == "model":
        rows, words = here, f"{len(here)} published points of {FAMILY_WORDS[family]} on {name}, {left_out}"
    elif len(same) >= FEWEST_ROWS:
        rows, words = same, f"{len(same)} published points of {FAMILY_WORDS[family]}, {left_out}"
    else:
        words = f"{len(rows)} published points, {left_out}"
    metrics = ("tpot", "ttft", "throughput")
    return {name: interval(np.array([1 / getattr(row, name) for row in rows])) for name in metrics}, words


def interval(ratios: np.ndarray) -> Band:
    """Return the 10th and the 90th percentile of ratios, NaN left out."""
    known = ratios[np.isfinite(ratios)]
    if not known.size:
        return NO_BAND
    edge = 100 * (1 - HELD_FRAC) / 2
    return Band(*np.percentile(known, [edge, 100 - edge]).tolist())


def widened(band: Band, steps: int) -> Band:
    """Return a band that is wider by half for each step, in the logarithm, about its middle.

    Examples
    --------
    >>> [round(edge, 3) for edge in widened(Band(0.5, 2.0), 2)]
    [0.25, 4.0]
    """
    low, high = (math.log(edge) for edge in band)
    middle, half = (low + high) / 2, (high - low) / 2 * (1 + WIDER * steps)
    return Band(math.exp(middle - half), math.exp(middle + half))


@cache
def _own_band(accelerator: str) -> Band | None:
    """Return the throughput band of a part that was never fitted, from points of its own."""
    if accelerator in coverage().accelerators:
        return None
    own = [row for row in blind() if row.unseen == "all" and row.point.accelerator == accelerator]
    ratios = np.array([1 / row.throughput for row in own])
    return interval(ratios) if np.isfinite(ratios).sum() >= FEWEST_OWN else None


def _union(first: Band, second: Band) -> Band:
    return Band(min(first.low, second.low), max(first.high, second.high))


def with_load(scenario: Scenario, *, profile: Any = None, trace: Any = None) -> Trust:
    """Return `trust` with the load of an open loop worked out, which runs the engine once or twice."""
    load_frac = None
    if scenario.arrivals in ("poisson", "gamma"):
        from sim_core.sweep.frontier import saturation_per_s

        load_frac = scenario.arrival_per_s / saturation_per_s(scenario, trace, profile)
    return trust(scenario, profile=profile, trace=trace, load_frac=load_frac)


NO_TRUST = Trust("", (), NO_BAND, NO_BAND, NO_BAND, "none")


def columns(
    scenario: Scenario, row: Mapping[str, Any], *, profile: Any = None, trace: Any = None
) -> dict[str, Any]:
    """Return badge, reasons and bands of one point of a sweep, as its columns in tables and files.

    The row's own values of scenario keys, and its `load_frac`, count; a row that cannot be has a blank badge.
    """
    keys = {
        key: value for key, value in row.items() if key in Scenario.__dataclass_fields__ and key != "requests"
    }
    load_frac = row.get("load_frac")
    try:
        found = trust(
            with_changes(scenario, **keys),
            profile=profile,
            trace=trace,
            load_frac=None if load_frac is None else float(load_frac),
        )
    except ScenarioError:
        found = NO_TRUST
    return found.columns()
