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

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from sim_core.evidence import entries
from sim_core.evidence.bands import closest, own_band, union, widened
from sim_core.evidence.blind import HELD_FRAC, NO_BAND, Band, interval
from sim_core.evidence.coverage import STEEP_LOAD, Outside, changed_specs, outside, scheduling
from sim_core.evidence.published import family_of
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.profiles import EngineProfile
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.traffic.requests import Requests

VALIDATED, EXTRAPOLATED, ANNOUNCED = "validated region", "extrapolated", "announced hardware"


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
        return Trust(VALIDATED, measured, NO_BAND, NO_BAND, NO_BAND, "your own measurement")
    if scenario.calibration == "submission" and not scenario.constants:
        return _of_entries(scenario)
    found = outside(scenario, trace, load_frac, context_tokens)
    reasons = tuple(_sentence(item.words) for item in found)
    badge = ANNOUNCED if part.announced else EXTRAPOLATED if found else VALIDATED
    if part.announced:
        reasons = (f"The figures of {part.name} are announced, not measured by others.", *reasons)
    if scenario.constants:
        reasons = ("Some constants are your own, not those that the published points test.", *reasons)
        return Trust(badge, reasons, NO_BAND, NO_BAND, NO_BAND, "your own measurement")
    if any(item.what == "calibration" for item in found):
        return Trust(badge, reasons, NO_BAND, NO_BAND, NO_BAND, "none")
    missing = {item.what for item in found}
    unseen = "accelerator" if "accelerator" in missing else "model"
    held, words = closest(family_of(model_of(scenario)), scenario.accelerator, unseen)
    if not reasons:
        reasons = (f"Covered by {words}.",)
    further = len(missing) - bool(missing & {"accelerator", "model"}) + part.announced
    bands = {metric: widened(band, further) for metric, band in held.items()}
    own = own_band(scenario.accelerator)
    if own is not None:
        bands["throughput"] = union(bands["throughput"], own)
        bands["tpot"] = union(bands["tpot"], Band(1 / own.high, 1 / own.low))
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
    found = [Outside(*item) for item in entries.outside_entries(scenario)]
    return [*found, *changed_specs(scenario), *scheduling(scenario)]


def entry_band(scenario: Scenario, rule: str = "offline") -> Band:
    """Return the band of throughput under a benchmark's rule, as `trust` has it for Offline.

    Other calibrations than `submission` have one band of throughput, whatever the rule.
    """
    if scenario.calibration != "submission" or scenario.constants or scenario.step_profile:
        return trust(scenario).throughput_band
    further = len(_beside_entries(scenario)) + accelerator_of(scenario).announced
    return widened(interval(entries.entry_ratios(scenario.model, rule)), further)


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
