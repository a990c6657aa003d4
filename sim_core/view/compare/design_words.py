"""What the design view says: how a design compares, where it is an extrapolation, and what a target takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sim_core import catalogue
from sim_core.fields.errors import ScenarioError
from sim_core.price.price import price_of
from sim_core.price.steps.one_step import step_parts
from sim_core.price.steps.shapes import pricing_of
from sim_core.questions import compare, design, phases
from sim_core.questions.design import SRAM, Spread
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.view.compare.results import MEASURED, spec_label
from sim_core.view.drawing.figures import Row, drawable
from sim_core.view.drawing.words import number, percent, quantity
from sim_core.view.parts.controls import SPECS

MEASURED_STEPS = (
    f"The step times of this design are those of an engine: {MEASURED}, so what a target would take cannot "
    "be told. Real parts are predicted by the calibration."
)


def name(side: Scenario, scenario: Scenario) -> str:
    """Return what a curve is called: the part, and over how many devices."""
    own = side == scenario and design.is_own(side)
    part = catalogue.accelerator(side.accelerator).name
    return f"{side.accelerators} × {'your design, from ' if own else ''}{part}"


# How it compares


def design_finding(sides: Sequence[Scenario], curves: Sequence[Sequence[Row]]) -> str:
    """Return how the design, the first side, compares with the best real part, per accelerator."""
    tops = [compare.best_within(side) for side in sides]
    if not any(row["feasible"] for row in curves[0]):
        return f"This design cannot run the model. {curves[0][0]['reason']}"
    if tops[0] is None:
        return "No point of this design keeps the latency limits, at any load."
    text = f"This design gives {quantity(tops[0][compare.Y], 'tok/s')} per accelerator within the limits"
    if tops[0]["usd_per_mtok"] > 0:
        text += f", at {quantity(tops[0]['usd_per_mtok'], 'USD')} per million tokens"
    if len(sides) == 1:
        return f"{text}."
    others = {place: top for place, top in enumerate(tops) if place and top is not None}
    if not others:
        return f"{text}; none of the real parts shown keeps them."
    best = max(others, key=lambda place: others[place][compare.Y])
    ratio = tops[0][compare.Y] / others[best][compare.Y]
    text += f", {number(ratio, 2)}× the best real part shown ({_part(sides[best])})"
    return f"{text}. {_fastest(sides, curves)}"


def _fastest(sides: Sequence[Scenario], curves: Sequence[Sequence[Row]]) -> str:
    """Return which part serves one user fastest."""
    reach = [max((row[compare.X] for row in drawable(rows)), default=0.0) for rows in curves]
    first = reach.index(max(reach))
    who = "it is" if first == 0 else f"{_part(sides[first])} is"
    return f"For a single user {who} the fastest: {quantity(reach[first], 'tok/s')}."


def _part(side: Scenario) -> str:
    return catalogue.accelerator(side.accelerator).name


def design_notes(sides: Sequence[Scenario]) -> list[str]:
    """Return what is assumed about the parts, and where the design's prediction is an extrapolation."""
    scenario = sides[0]
    parts = [catalogue.accelerator(side.accelerator) for side in sides]
    assumed = dict.fromkeys(part.name for part in parts if design.assumed_peaks(part))
    found = []
    if assumed:
        found.append(f"{', '.join(assumed)}: only int8 is printed; fp8 is taken as int8, bf16 as half of it.")
    if scenario.step_profile:
        return [*found, MEASURED_STEPS]
    if design.kind(scenario) == SRAM:
        found.append(_bounds(scenario))
    return [text for text in (*found, _collectives(scenario)) if text]


def _bounds(scenario: Scenario) -> str:
    """Return between which bounds one user's speed lies: an engine for GPUs, and the wires alone."""
    try:
        latency_us = _latency_us(scenario.replace(calibration="typical"))
        wires = {"calibration": "datasheet", "constants": f"collective:{latency_us:.4g}"}
        slow, fast = (1 / _token_s(scenario.replace(**own)) for own in ({"calibration": "typical"}, wires))
    except ScenarioError:
        return ""
    return (
        f"One user alone: {quantity(slow, 'tok/s')} with typical constants, whose latencies per layer and "
        f"step are those of engines on GPUs; {quantity(fast, 'tok/s')} at the datasheet's rates with no "
        "latency but that of all-reduces. A part that schedules its work ahead of time lies between the two."
    )


def _token_s(scenario: Scenario) -> float:
    """Return the time per token of one user whose context is the mean prompt. [s]"""
    context = phases.setting(scenario).prompt_tokens
    return sum(step_parts(price_of(scenario), 1, context, on_all_ranks=1).values())


def _collectives(scenario: Scenario) -> str:
    """Return that all-reduces over many devices are an extrapolation; "" where they are not, or none runs."""
    most, devices = design.fitted_devices(), scenario.tensor_parallel
    if devices <= most:
        return ""
    try:
        latency_us, count = _latency_us(scenario), pricing_of(scenario).terms.work.collectives
    except ScenarioError:
        return ""
    return (
        f"A step has {count:,.0f} all-reduces. Each takes {number(latency_us)} µs and its "
        f"bytes over the link. That was measured on up to {most} devices; for {devices} it is an "
        "extrapolation: latency goes on growing with the logarithm of the group."
    )


def _latency_us(scenario: Scenario) -> float:
    """Return the latency of one all-reduce of a scenario's group, and the gap around it. [us]"""
    found = pricing_of(scenario).terms
    return 1e6 * float(found.kernels.all_reduce.latency_s + found.constants.collective_gap_s)


# Over how many devices


def device_spread_words(scenario: Scenario, found: Spread) -> str:
    """Return over how many devices a model is spread, with the arithmetic, or what is impossible and why."""
    model, part = model_of(scenario), accelerator_of(scenario)
    text = (
        f"{model.name} needs {quantity(found.needed_gb, 'GB')} for its weights and the KV cache of "
        f"{number(found.sequences)} sequences of {number(found.sequence_tokens)} tokens. A device has "
        f"{quantity(found.usable_gb, 'GB')} to use ({percent(scenario.kv_memory_frac)} of "
        f"{quantity(part.hbm_gb, 'GB')}): by bytes alone that takes {devices(found.at_least)}. "
    )
    heads = f"its {model.heads} attention heads"
    if found.devices:
        group = devices(found.devices)
        return f"{text}**{group}** make the smallest group that {heads} allow and that holds it all."
    text += f"**No group holds it all**: {heads} allow {devices(found.most)} at most"
    if 0 < model.kv_heads < found.most:
        text += f", and in more than {model.kv_heads} each holds a whole key/value head, so that copies arise"
    room = f"They have room for {number(found.room)} sequences; the others wait."
    room = room if found.room else "Not even the weights fit."
    return f"{text}. {room} For all, a device would need {quantity(found.device_gb, 'GB')}."


def devices(count: int) -> str:
    """Return a number of devices in words."""
    return f"{number(count)} device{'' if count == 1 else 's'}"


# What a target takes


def takes(scenario: Scenario, found: Mapping[str, float], user: float, rate: float) -> str:
    """Return the smallest change of one spec that reaches a target, and which specs alone are not enough."""
    goal = f"{quantity(user, 'tok/s/user')} at {quantity(rate, 'tok/s')} per accelerator within the limits"
    if any(factor == 1 for factor in found.values()):
        return f"**{goal}** is reached as it is."
    part = accelerator_of(scenario)
    enough = {key: factor for key, factor in found.items() if math.isfinite(factor)}
    unknown = [key for key in found if getattr(part, key) is None]
    never = [spec_label(key, scenario).lower() for key in found if key not in enough and key not in unknown]
    if not enough:
        most = number(compare.MOST_FACTOR)
        return f"No change of one spec alone is enough for **{goal}**, even {most} times as much."
    key = min(enough, key=enough.__getitem__)
    text = (
        f"The smallest change that reaches **{goal}** is {number(enough[key])} times the "
        f"{spec_label(key, scenario).lower()}: {SPECS[key][0](getattr(part, key) * enough[key])}."
    )
    return text + (f" No change of {' or '.join(never)} alone is enough." if never else "")
