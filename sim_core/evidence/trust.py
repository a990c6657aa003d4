"""How far a prediction can be trusted: a badge, the reasons, and the band that published points leave.

The evidence is `presets/validation`: published closed loops, each predicted by a fit that had not seen its
accelerator or its model (`blind.csv`). A scenario inside what these points cover is in the `validated
region`. One input outside, and it is `extrapolated`, with the input named. Parts whose figures are announced
are `announced hardware`, whatever else holds.

Bands
-----
A band holds the measured value in four cases of five, and a narrower one in half of them: predictive
intervals of measured / predicted over the blind campaigns closest to the scenario
(`sim_core.evidence.bands`). Those are, if there are enough of them, the campaigns of its model family on
parts of its generation, else of its family, else all.

- Inside, the ratios are those of fits without the row's model.
- If the accelerator or the model is outside, they are those of fits without the row's accelerator or model.
  A part that was never fitted, but has points of its own (one batch, offline), takes those into account.
- Two pools have campaigns of their own, which no fit has used, and so have ranks of attention, predicted
  without their accelerator.
- Every other input outside widens the band by half, in the logarithm; so do a vendor without any part in
  the fit, and figures that are only announced.

The `submission` calibration is held against published benchmark entries (`sim_core.evidence.entries`); they
state no latencies, so it has a band of throughput alone, in which each pair of a benchmark and an
accelerator stands for itself. The datasheet calibration is a bound and has no bands; a measured engine
profile is evidence of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import lru_cache
from typing import Any, NamedTuple

from sim_core.evidence import entries
from sim_core.evidence.bands import METRICS, Evidence, closest, own_band, ranked, union, widened
from sim_core.evidence.blind import HALF_FRAC, HELD_FRAC, NO_BAND, Band
from sim_core.evidence.coverage import (
    STEEP_LOAD,
    Outside,
    changed_specs,
    generation_of,
    kernel_words,
    most_ranks,
    outside,
    ranks_words,
    scheduling,
)
from sim_core.evidence.published import family_of
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.own_bands import UNKNOWN, parse_own_bands
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.traffic.requests import Requests

VALIDATED, EXTRAPOLATED, ANNOUNCED = "validated region", "extrapolated", "announced hardware"


class Trust(NamedTuple):
    """A badge, one sentence for each reason, the bands, and the rows they rest on in words.

    `halves` are the bands of half of the measurements, in the order of `METRICS`.
    """

    badge: str
    reasons: tuple[str, ...]
    tpot_band: Band
    ttft_band: Band
    throughput_band: Band
    evidence: str
    halves: tuple[Band, Band, Band] = (NO_BAND, NO_BAND, NO_BAND)

    def as_dict(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        found = {"badge": self.badge, "reasons": list(self.reasons), "evidence": self.evidence}
        halves = {f"{name}_half_band": band for name, band in zip(METRICS, self.halves, strict=True)}
        return found | self._bands() | {"band_holds_frac": HELD_FRAC} | _edges(halves)

    def columns(self) -> dict[str, Any]:
        """Return it as the columns of a row in tables and files."""
        return {"badge": self.badge, "badge_reasons": " ".join(self.reasons)} | self._bands()

    def _bands(self) -> dict[str, float]:
        return _edges({f"{name}_band": getattr(self, f"{name}_band") for name in METRICS})


def _edges(bands: Mapping[str, Band]) -> dict[str, float]:
    """Return the edges of bands by name and side."""
    return {
        f"{name}_{side}_frac": getattr(band, side) for name, band in bands.items() for side in Band._fields
    }


# --- the badge and the bands ----------------------------------------------------------------------


def trust(
    scenario: Scenario,
    *,
    profile: EngineProfile | None = None,
    trace: Requests | None = None,
    load_frac: float | None = None,
) -> Trust:
    """Return how far the predictions of a scenario can be trusted.

    Parameters
    ----------
    scenario : Scenario
    profile : EngineProfile, optional
        Measured step times: evidence of their own, without bands.
    trace : Requests, optional
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
    profile: EngineProfile | None,
    trace: Requests | None,
    load_frac: float | None,
    context_tokens: float | None = None,
) -> Trust:
    part = accelerator_of(scenario)
    if profile is not None or scenario.step_profile:
        measured = ("step times are measured, on an engine and a device of your own",)
        return _own(scenario, VALIDATED, measured, profile)
    if scenario.calibration == "submission" and not scenario.constants:
        return _of_entries(scenario)
    found = outside(scenario, trace, load_frac, context_tokens)
    reasons = tuple(_sentence(item.words) for item in found)
    badge = ANNOUNCED if part.announced else EXTRAPOLATED if found else VALIDATED
    if part.announced:
        reasons = (f"The figures of {part.name} are announced, not measured by others.", *reasons)
    if scenario.constants:
        reasons = ("Some constants are your own, not those that the published points test.", *reasons)
        return _own(scenario, badge, reasons)
    if any(item.what == "calibration" for item in found):
        return Trust(badge, reasons, NO_BAND, NO_BAND, NO_BAND, "none")
    missing = {item.what for item in found}
    rests_on, explained = _closest(scenario, missing)
    if not reasons and most_ranks(scenario) > 1:
        reasons = (f"Covered by {rests_on.words}.", _sentence(ranks_words()))
    elif not reasons:
        reasons = (f"Covered by {rests_on.words}.", _sentence(kernel_words(scenario)))
    further = len(missing) - explained + part.announced
    bands, halves = (
        _bands_of(rests_on, scenario.accelerator, further, share) for share in (HELD_FRAC, HALF_FRAC)
    )
    return Trust(badge, reasons, *bands, rests_on.words, halves)


def _own(
    scenario: Scenario, badge: str, reasons: tuple[str, ...], profile: EngineProfile | None = None
) -> Trust:
    """Return how far an engine of one's own can be trusted: as far as it has been off on points not seen.

    Another model or accelerator than was measured widens the bands by half each.
    """
    told = parse_own_bands(scenario.own_bands if profile is None else profile.bands)
    if not told.edges:
        return Trust(badge, reasons, NO_BAND, NO_BAND, NO_BAND, "your own measurement")
    others = [
        name
        for name, measured in (("model", told.model), ("accelerator", told.accelerator))
        if measured and measured != getattr(scenario, name)
    ]
    if others:
        reasons = (*reasons, f"Your points were measured on another {' and '.join(others)}.")
    known = [told.edges.get(metric, UNKNOWN) for metric in METRICS]
    tpot, ttft, throughput = (widened(Band(edges.low, edges.high), len(others)) for edges in known)
    halves = [widened(Band(edges.half_low, edges.half_high), len(others)) for edges in known]
    words = f"{told.points} points of your own, each predicted by a fit that had not seen it"
    return Trust(badge, reasons, tpot, ttft, throughput, words, (halves[0], halves[1], halves[2]))


def _closest(scenario: Scenario, missing: Set[str]) -> tuple[Evidence, int]:
    """Return the campaigns that speak for a scenario, and how many inputs outside they account for."""
    family, generation = family_of(model_of(scenario)), generation_of(scenario.accelerator)
    if most_ranks(scenario) > 1:
        return closest(family, generation, "ranks"), int("policy" in missing)
    if scenario.split:
        return closest(family, generation, "pools"), 1
    unseen = "accelerator" if "accelerator" in missing else "model"
    return closest(family, generation, unseen), int(bool(missing & {"accelerator", "model"}))


def _bands_of(
    rests_on: Evidence, accelerator: str, further: int, held_frac: float
) -> tuple[Band, Band, Band]:
    """Return the bands of TPOT, TTFT and throughput, with `further` inputs outside of what they rest on."""
    tpot, ttft, throughput = (widened(band, further) for band in rests_on.bands(held_frac).values())
    own = own_band(accelerator, held_frac)
    if own is not None:
        throughput, tpot = union(throughput, own), union(tpot, Band(1 / own.high, 1 / own.low))
    return tpot, ttft, throughput


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
    bands = [entry_band(scenario, held_frac=share) for share in (HELD_FRAC, HALF_FRAC)]
    halves = (NO_BAND, NO_BAND, bands[1])
    return Trust(badge, reasons, NO_BAND, NO_BAND, bands[0], entries.evidence(scenario.model), halves)


def _beside_entries(scenario: Scenario) -> list[Outside]:
    found = [Outside(*item) for item in entries.outside_entries(scenario)]
    return [*found, *changed_specs(scenario), *scheduling(scenario)]


def entry_band(scenario: Scenario, rule: str = "offline", held_frac: float = HELD_FRAC) -> Band:
    """Return the band of throughput under a benchmark's rule, as `trust` has it for Offline.

    Other calibrations than `submission` have one band of throughput, whatever the rule.
    """
    if scenario.calibration != "submission" or scenario.constants or scenario.step_profile:
        found = trust(scenario)
        return found.throughput_band if held_frac == HELD_FRAC else found.halves[-1]
    further = len(_beside_entries(scenario)) + accelerator_of(scenario).announced
    return widened(ranked(entries.entry_ratios(scenario.model, rule).tolist(), held_frac), further)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


NO_TRUST = Trust("", (), NO_BAND, NO_BAND, NO_BAND, "none")


def columns(
    scenario: Scenario,
    row: Mapping[str, Any],
    *,
    profile: EngineProfile | None = None,
    trace: Requests | None = None,
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
