"""Traffic: a scenario to arrival times and request lengths, as arrays.

Common random numbers: each kind of draw has its own generator, seeded by the scenario's seed, and
yields unit values (gaps of mean 1, standard normals, uniforms) that the scenario's keys then stretch.
So another rate moves the arrivals without touching the lengths, another length leaves the arrivals
alone, and more requests continue the same sequence.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from sim_core.fields.errors import ScenarioError
from sim_core.scenario.lengths import LengthClass, Lognormal
from sim_core.scenario.mixes import FLAT_CLASS, parse_mix
from sim_core.scenario.request_lists import REQUEST_LIST_EXAMPLE, parse_request_list
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import Requests, listed

CACHED_REQUESTS = 65_536
GAPS, CLASSES, PROMPTS, OUTPUTS, KINDS = range(5)
ACCEPTED = 16


def requests_sent(scenario: Scenario, trace: Requests | None = None) -> Requests:
    """Return the requests of one run.

    Parameters
    ----------
    scenario : Scenario
        Its traffic and length keys are used, no others.
    trace : Requests, optional
        Its first `requests` rows give the lengths; under `arrivals = "trace"` also the arrival times. Without
        one, `arrivals = "trace"` replays the scenario's own `request_list`.

    Returns
    -------
    Requests
        Arrival times never fall. They are all 0 for offline (all at once) and for closed loop (where
        the engine's finishes set them).

    Raises
    ------
    ScenarioError
        If arrivals are to come from a trace and there is none.
    """
    trace = _given_trace(scenario, trace)
    if trace is not None:
        return _from_trace(scenario, trace)
    make = _kept if scenario.requests <= CACHED_REQUESTS else _drawn
    lengths = make(length_classes(scenario), scenario.seed, scenario.requests)
    return Requests(_arrivals(scenario, scenario.requests), *lengths)


def _drawn(classes: tuple[LengthClass, ...], seed: int, requests: int) -> tuple[np.ndarray, np.ndarray]:
    """Return prompt and output tokens of each request."""
    lengths = _lengths(classes, _class_ids(classes, seed, requests), seed)
    for column in lengths:
        column.flags.writeable = False  # they are kept, and shared by all who ask
    return lengths


_kept = lru_cache(maxsize=16)(_drawn)


def mean_lengths(scenario: Scenario, trace: Requests | None = None) -> tuple[float, float]:
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
    prompt = Lognormal(scenario.prompt_tokens, scenario.prompt_cv)
    output = Lognormal(scenario.output_tokens, scenario.output_cv)
    if not scenario.mix.strip():
        return (LengthClass(FLAT_CLASS, 1.0, prompt, output),)
    return tuple(
        replace(item, prompt=prompt, output=output) if item.name == FLAT_CLASS else item
        for item in parse_mix(scenario.mix)
    )


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


def _given_trace(scenario: Scenario, trace: Requests | None) -> Requests | None:
    """Return the trace that a scenario replays: the given one, or under arrivals=trace its own list."""
    if trace is not None and not trace.timed and scenario.arrivals == "trace":
        raise ScenarioError(
            f"{trace.name or 'the trace'} has lengths without times, so arrivals cannot be trace: choose "
            "arrivals=poisson with a rate, closed or offline."
        )
    if trace is not None or scenario.arrivals != "trace":
        return trace
    if not scenario.request_list:
        raise ScenarioError(
            "arrivals is trace but there is no trace: give one (--trace FILE, or request_list with entries "
            f"such as {REQUEST_LIST_EXAMPLE}), or choose arrivals=poisson."
        )
    return listed(parse_request_list(scenario.request_list))


def _from_trace(scenario: Scenario, trace: Requests) -> Requests:
    """Return the first rows of a trace; drawn or fixed arrival times unless arrivals is `trace`."""
    rows = _trace_rows(scenario, trace)
    sent = trace.take(slice(rows))
    if scenario.arrivals != "trace":
        return sent.arriving_at(_arrivals(scenario, rows))
    return sent.take(np.argsort(sent.arrival_s, kind="stable"))


def _trace_rows(scenario: Scenario, trace: Requests) -> int:
    """Return how many rows of a trace are used."""
    rows = min(scenario.requests, len(trace))
    if rows == 0:
        raise ScenarioError("the trace has no requests; give one with at least one row.")
    return rows


def unit_arrivals(seed: int, requests: int, cv: float) -> np.ndarray:
    """Return arrival times at rate 1, read-only: what `requests_sent` divides by a scenario's rate."""
    return _unit(GAPS, seed, requests, cv)


def unit_uniforms(seed: int, requests: int) -> np.ndarray:
    """Return uniform numbers between 0 and 1, read-only, that no other draw uses."""
    return _unit(KINDS, seed, requests)


def unit_normals(seed: int, requests: int) -> np.ndarray:
    """Return standard normals, read-only, that no other draw uses: whose drafts are accepted."""
    return _unit(ACCEPTED, seed, requests)


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
