"""Traffic: a scenario to arrival times and request lengths, as arrays.

Common random numbers: each kind of draw has its own generator, seeded by the scenario's seed, and
yields unit values (gaps of mean 1, standard normals, uniforms) that the scenario's keys then stretch.
So another rate moves the arrivals without touching the lengths, another length leaves the arrivals
alone, and more requests continue the same sequence.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from sim_core.catalogue import reader as presets
from sim_core.scenario.request_lists import parse_request_list
from sim_core.scenario.scenario import (
    FIELDS,
    REQUEST_LIST_EXAMPLE,
    Scenario,
    ScenarioError,
    did_you_mean,
    shown,
)

FLAT_CLASS = "flat"
MAX_CLASSES = 8
MAX_WEIGHT = 1e9
CACHED_REQUESTS = 65_536
GAPS, CLASSES, PROMPTS, OUTPUTS, KINDS = range(5)

_Z_LIMIT = 8.5  # a standard normal lies beyond once in 10^16 draws
_Z_PER_UNIT = 200
_Z = np.linspace(-_Z_LIMIT, _Z_LIMIT, round(2 * _Z_LIMIT * _Z_PER_UNIT) + 1)
_PHI = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in _Z])
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_LENGTH = re.compile(rf"(?P<low>[0-9]+)\.\.(?P<high>[0-9]+)|(?P<mean>{_NUMBER})(?:~(?P<cv>{_NUMBER}))?")
_LENGTH_FORMS = "1024 (fixed), 512..1024 (uniform) or 1000~0.8 (lognormal, mean~cv)"


class Workload(NamedTuple):
    """The requests of one run, one entry per request, in order of arrival."""

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    class_id: np.ndarray


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Lengths with a given mean and coefficient of variation; a cv of 0 is a fixed length."""

    mean: float
    cv: float

    def at(self, z: np.ndarray) -> np.ndarray:
        """Return the length at each standard normal value. [tokens]"""
        if self.cv == 0:
            return np.full(len(z), float(self.mean))
        variance = math.log1p(self.cv**2)
        return np.exp(z * math.sqrt(variance) + (math.log(self.mean) - variance / 2))


@dataclass(frozen=True, slots=True)
class UniformIntegers:
    """Whole lengths from `low` to `high`, both included, all equally likely."""

    low: int
    high: int

    @property
    def mean(self) -> float:
        """Mean length. [tokens]"""
        return (self.low + self.high) / 2

    def at(self, z: np.ndarray) -> np.ndarray:
        """Return the length at each standard normal value. [tokens]"""
        steps = np.floor(_look_up(_PHI, z) * (self.high - self.low + 1))
        return np.minimum(self.low + steps, self.high)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Lengths from a table of quantiles, linear between them."""

    probabilities: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean length. [tokens]"""
        centres = (np.array(self.values[1:]) + np.array(self.values[:-1])) / 2
        return float(np.dot(np.diff(self.probabilities), centres))

    def at(self, z: np.ndarray) -> np.ndarray:
        """Return the length at each standard normal value. [tokens]"""
        return _look_up(_quantile_table(self), z)


Lengths = Lognormal | UniformIntegers | Quantiles


@dataclass(frozen=True, slots=True)
class LengthClass:
    """One class of a mix: its share of the requests and how long they are.

    `prompt` and `output` are None for the class `flat`, whose lengths are the scenario's flat keys.
    """

    name: str
    weight: float
    prompt: Lengths | None
    output: Lengths | None
    rank_correlation: float = 0.0

    def draw(self, prompt_z: np.ndarray, output_z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return prompt and output tokens for pairs of independent standard normals.

        A Gaussian copula ties the two: normals of correlation 2 sin(pi s / 6) have rank correlation s.

        References
        ----------
        .. [1] Kruskal, "Ordinal measures of association", Journal of the American Statistical
           Association 53, 1958, section 5.
        """
        if self.rank_correlation:
            shared = 2 * math.sin(math.pi * self.rank_correlation / 6)
            output_z = shared * prompt_z + math.sqrt(1 - shared**2) * output_z
        return _whole(self.prompt.at(prompt_z)), _whole(self.output.at(output_z))


def draw(scenario: Scenario, trace: Any = None) -> Workload:
    """Return the requests of one run.

    Parameters
    ----------
    scenario : Scenario
        Its traffic and length keys are used, no others.
    trace : optional
        Anything with arrays `arrival_s`, `prompt_tokens` and `output_tokens`. Its first `requests` rows
        give the lengths; under `arrivals = "trace"` also the arrival times. Without one, `arrivals = "trace"`
        replays the scenario's own `request_list`.

    Returns
    -------
    Workload
        Arrival times never fall. They are all 0 for offline (all at once) and for closed loop (where
        the engine's finishes set them).

    Raises
    ------
    ScenarioError
        If the mix cannot be read, or arrivals are to come from a trace and there is none.
    """
    trace = _given_trace(scenario, trace)
    if trace is not None:
        return _from_trace(scenario, trace)
    make = _kept if scenario.requests <= CACHED_REQUESTS else _drawn
    columns = (column.copy() for column in make(length_classes(scenario), scenario.seed, scenario.requests))
    return Workload(_arrivals(scenario, scenario.requests), *columns)


def _drawn(classes: tuple[LengthClass, ...], seed: int, requests: int) -> tuple[np.ndarray, ...]:
    """Return prompt tokens, output tokens and class of each request."""
    class_id = _class_ids(classes, seed, requests)
    return *_lengths(classes, class_id, seed), class_id


_kept = lru_cache(maxsize=16)(_drawn)


def mean_lengths(scenario: Scenario, trace: Any = None) -> tuple[float, float]:
    """Return mean prompt and mean output length, rounding of single lengths left aside. [tokens]"""
    trace = _given_trace(scenario, trace)
    if trace is not None:
        rows = _trace_rows(scenario, trace)
        return float(np.mean(trace.prompt_tokens[:rows])), float(np.mean(trace.output_tokens[:rows]))
    classes = length_classes(scenario)
    total = sum(item.weight for item in classes)
    return (
        sum(item.weight * item.prompt.mean for item in classes) / total,
        sum(item.weight * item.output.mean for item in classes) / total,
    )


def length_classes(scenario: Scenario) -> tuple[LengthClass, ...]:
    """Return the classes of the scenario's mix, with the flat keys filled in."""
    flat = {
        "prompt": Lognormal(scenario.prompt_tokens, scenario.prompt_cv),
        "output": Lognormal(scenario.output_tokens, scenario.output_cv),
    }
    if not scenario.mix.strip():
        return (LengthClass(FLAT_CLASS, 1.0, **flat),)
    return tuple(replace(item, **flat) if item.prompt is None else item for item in parse_mix(scenario.mix))


@lru_cache(maxsize=256)
def parse_mix(text: str) -> tuple[LengthClass, ...]:
    """Return the classes of a mix such as `chat:0.7,rag:0.3` or `1024/256:2,512..1024/100~0.5:1`.

    Comma-separated `CLASS:WEIGHT`. A class is a workload preset, `flat` (the scenario's flat length
    keys), or `PROMPT/OUTPUT`, where each is a fixed length, `LOW..HIGH` (uniform whole numbers) or
    `MEAN~CV` (lognormal). Weights are relative; a single class needs none.

    Raises
    ------
    ScenarioError
        If the text does not follow that form, or names a preset that does not exist.
    """
    entries = text.split(",")
    if len(entries) > MAX_CLASSES:
        raise ScenarioError(f"mix has {len(entries)} classes; the limit is {MAX_CLASSES}.")
    return tuple(_parse_class(entry.strip(), alone=len(entries) == 1) for entry in entries)


def _parse_class(entry: str, alone: bool) -> LengthClass:
    """Return one class of a mix."""
    name, colon, weight = (part.strip() for part in entry.partition(":"))
    if not name:
        raise ScenarioError(f"mix has a class without a name in {shown(entry)}; write CLASS:WEIGHT.")
    if not colon and not alone:
        raise ScenarioError(f"mix class {shown(name)} has no weight; write {name[:60]}:1 or another weight.")
    share = _parse_weight(name, weight) if colon else 1.0
    if name == FLAT_CLASS:
        return LengthClass(name, share, None, None)
    if "/" in name:
        prompt, _, output = name.partition("/")
        return LengthClass(name, share, _parse_length(name, prompt), _parse_length(name, output))
    known = presets.preset_ids("workloads")
    if name not in known:
        raise ScenarioError(
            f"unknown class {shown(name)} in mix. {did_you_mean(name[:60], (FLAT_CLASS, *known))} "
            "A class is a workload preset, flat, or PROMPT/OUTPUT such as 1024/256."
        )
    preset = presets.workload(name)
    return LengthClass(name, share, _side(preset, "prompt"), _side(preset, "output"), preset.rank_correlation)


def _parse_weight(name: str, text: str) -> float:
    weight = float(text) if re.fullmatch(_NUMBER, text) else math.nan
    if not 0 < weight <= MAX_WEIGHT:
        raise ScenarioError(
            f"mix class {shown(name)} has the weight {shown(text)}; it must be a number above 0 and "
            f"at most {MAX_WEIGHT:,.0f}. Leave the class out to give it none."
        )
    return weight


def _parse_length(name: str, text: str) -> Lengths:
    """Return one side of an inline class."""
    match = _LENGTH.fullmatch(text.strip())
    if match is None:
        raise ScenarioError(f"mix class {shown(name)}: {shown(text)} is no length; write {_LENGTH_FORMS}.")
    if match["low"]:
        low, high = int(match["low"]), int(match["high"])
        _check_length(name, low, "prompt_tokens")
        _check_length(name, high, "prompt_tokens")
        if low > high:
            raise ScenarioError(
                f"mix class {shown(name)}: {low}..{high} runs backwards; write {high}..{low}."
            )
        return UniformIntegers(low, high)
    mean, cv = float(match["mean"]), float(match["cv"] or 0)
    _check_length(name, mean, "prompt_tokens")
    _check_length(name, cv, "prompt_cv")
    return Lognormal(mean, cv)


def _check_length(name: str, value: float, key: str) -> None:
    """Raise a `ScenarioError` unless a number of an inline class lies within the limits of a flat key."""
    low, high = FIELDS[key].low, FIELDS[key].high
    if not low <= value <= high:
        what = "variation" if key.endswith("cv") else "length"
        raise ScenarioError(
            f"mix class {shown(name)} has the {what} {float(value):,.6g}; "
            f"it must lie between {low:,g} and {high:,.0f}."
        )


def _side(preset: presets.WorkloadPreset, side: str) -> Lengths:
    """Return the prompt or output lengths of a workload preset."""
    if preset.is_empirical(side):
        return Quantiles(preset.probabilities, getattr(preset, f"{side}_quantiles"))
    return Lognormal(getattr(preset, f"{side}_tokens"), getattr(preset, f"{side}_cv"))


def _class_ids(classes: tuple[LengthClass, ...], seed: int, requests: int) -> np.ndarray:
    """Return the class of each request."""
    if len(classes) == 1:
        return np.zeros(requests, dtype=np.int64)
    edges = np.cumsum([item.weight for item in classes])
    chosen = np.searchsorted(edges[:-1] / edges[-1], _unit(CLASSES, seed, requests), side="right")
    return chosen.astype(np.int64, copy=False)


def _lengths(
    classes: tuple[LengthClass, ...], class_id: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return prompt and output tokens of each request."""
    requests = len(class_id)
    prompt_z, output_z = _unit(PROMPTS, seed, requests), _unit(OUTPUTS, seed, requests)
    if len(classes) == 1:
        return classes[0].draw(prompt_z, output_z)
    prompt_tokens, output_tokens = np.empty(requests, np.int64), np.empty(requests, np.int64)
    for number, item in enumerate(classes):
        mine = np.flatnonzero(class_id == number)
        prompt_tokens[mine], output_tokens[mine] = item.draw(prompt_z[mine], output_z[mine])
    return prompt_tokens, output_tokens


def _arrivals(scenario: Scenario, requests: int) -> np.ndarray:
    """Return the arrival times of drawn traffic. [s]"""
    if scenario.arrivals in ("closed", "offline"):
        return np.zeros(requests)
    cv = scenario.arrival_cv if scenario.arrivals == "gamma" else 1.0
    return _unit(GAPS, scenario.seed, requests, cv) / scenario.arrival_per_s


def _given_trace(scenario: Scenario, trace: Any) -> Any:
    """Return the trace that a scenario replays: the given one, or under arrivals=trace its own list."""
    if trace is not None or scenario.arrivals != "trace":
        return trace
    if not scenario.request_list:
        raise ScenarioError(
            "arrivals is trace but there is no trace: give one (--trace FILE, or request_list with entries "
            f"such as {REQUEST_LIST_EXAMPLE}), or choose arrivals=poisson."
        )
    return parse_request_list(scenario.request_list)


def _from_trace(scenario: Scenario, trace: Any) -> Workload:
    """Return the first rows of a trace; drawn or fixed arrival times unless arrivals is `trace`."""
    rows = _trace_rows(scenario, trace)
    prompt_tokens = np.array(trace.prompt_tokens[:rows], dtype=np.int64)
    output_tokens = np.array(trace.output_tokens[:rows], dtype=np.int64)
    class_id = np.zeros(rows, dtype=np.int64)
    if scenario.arrivals != "trace":
        return Workload(_arrivals(scenario, rows), prompt_tokens, output_tokens, class_id)
    arrival_s = np.array(trace.arrival_s[:rows], dtype=np.float64)
    order = np.argsort(arrival_s, kind="stable")
    return Workload(arrival_s[order], prompt_tokens[order], output_tokens[order], class_id)


def _trace_rows(scenario: Scenario, trace: Any) -> int:
    """Return how many rows of a trace are used."""
    rows = min(scenario.requests, len(trace.prompt_tokens))
    if rows == 0:
        raise ScenarioError("the trace has no requests; give one with at least one row.")
    return rows


def unit_arrivals(seed: int, requests: int, cv: float) -> np.ndarray:
    """Return arrival times at rate 1, read-only: what `draw` divides by a scenario's rate."""
    return _unit(GAPS, seed, requests, cv)


def unit_uniforms(seed: int, requests: int) -> np.ndarray:
    """Return uniform numbers between 0 and 1, read-only, that no other draw uses."""
    return _unit(KINDS, seed, requests)


def _unit(stream: int, seed: int, requests: int, cv: float = 1.0) -> np.ndarray:
    """Return the unit draws of one stream, read-only; short ones are kept for the next scenario."""
    make = _unit_draws if requests <= CACHED_REQUESTS else _unit_draws.__wrapped__
    return make(stream, seed, requests, cv)


@lru_cache(maxsize=64)
def _unit_draws(stream: int, seed: int, requests: int, cv: float) -> np.ndarray:
    """Return arrival times at rate 1, uniforms (classes) or standard normals (lengths)."""
    random = np.random.default_rng((seed, stream))
    if stream == GAPS:
        shape = 1 / cv**2
        gaps = random.standard_exponential(requests) if cv == 1 else random.standard_gamma(shape, requests)
        draws = np.cumsum(gaps / shape)
    elif stream in (CLASSES, KINDS):
        draws = random.random(requests)
    else:
        draws = random.standard_normal(requests)
    draws.flags.writeable = False
    return draws


@lru_cache(maxsize=64)
def _quantile_table(lengths: Quantiles) -> np.ndarray:
    """Return the lengths at the grid of standard normal values."""
    return np.interp(_PHI, lengths.probabilities, lengths.values)


def _look_up(table: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return a function of a standard normal from its table over the even grid `_Z`, linear between."""
    position = np.clip((z + _Z_LIMIT) * _Z_PER_UNIT, 0, len(table) - 1.000001)
    left = position.astype(np.int32)
    position -= left
    return table[left] + position * (table[left + 1] - table[left])


def _whole(lengths: np.ndarray) -> np.ndarray:
    """Return lengths as whole tokens, at least 1."""
    np.rint(lengths, out=lengths)
    return np.maximum(lengths, 1.0, out=lengths).astype(np.int64)
