"""The four experiments of the Batching page, one function a view: a finding, a chart, a table."""

from __future__ import annotations

import math

from sim_core.questions.experiments import preemption as no_blocks
from sim_core.questions.experiments.common import replays
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import in_lines
from sim_core.view.drawing.words import duration, number, quantity
from sim_core.view.parts import controls
from sim_core.view.parts.chart import Heading
from sim_core.view.parts.views import dial
from sim_core.view.session import state

CONTEXTS = (0, *(2**power for power in range(7, 18)))

# What the views share


def dial_batch(label: str) -> None:
    """Draw the slider of how many sequences decode."""
    dial("at_batch", controls.POWERS[:10], number, label)


def dial_context(label: str, own: int) -> None:
    """Draw the slider of a length; 0 is the scenario's own."""

    def words(value: float) -> str:
        return quantity(int(value), "tokens") if value else f"as in this traffic: {quantity(own, 'tokens')}"

    dial("at_context", CONTEXTS, words, label)


def context_of(scenario: Scenario) -> int:
    """Return the length that the view is about. [tokens]"""
    return int(state.view_number("at_context")) or no_blocks.mean_context(scenario)


def titles(scenario: Scenario, what: str) -> Heading:
    """Return title and subtitle under which an exported chart stands alone."""
    part = accelerator_of(scenario).name
    lengths = scenario.mix or f"{scenario.prompt_tokens:,} → {scenario.output_tokens:,} tokens"
    return Heading(
        f"{what}: {model_of(scenario).name} on {part}",
        in_lines(
            f"{lengths} · {scenario.calibration} calibration · simulated", trust_words.caption(scenario)
        ),
    )


def drawn_note(scenario: Scenario, rate: bool = True) -> str:
    """Return that requests were drawn where the scenario has a list of its own; "" where it has none."""
    if not replays(scenario):
        return ""
    lengths = scenario.mix or f"{scenario.prompt_tokens:,} → {scenario.output_tokens:,} tokens"
    at = f", at {quantity(scenario.arrival_per_s, 'req/s')}" if rate else ""
    return (
        "This scenario's own list of requests is not replayed here: the experiment needs many requests, "
        f"which are drawn from the scenario's lengths ({lengths}){at}."
    )


def replica_note(scenario: Scenario) -> str:
    """Return that one of several replicas is shown, and what it is sent; "" where there is one."""
    if scenario.replicas == 1 or scenario.split:
        return ""
    sent = "all of its requests" if replays(scenario) else "its share of the traffic"
    return f"Shown is one of {scenario.replicas} replicas, with {sent}; no router is simulated."


def setting_notes(scenario: Scenario, rate: bool = True) -> tuple[str, str]:
    """Return what an experiment takes otherwise than the scenario has it; see the notes."""
    return drawn_note(scenario, rate), replica_note(scenario)


def micro(value_us: float) -> str:
    """Return a time given in microseconds."""
    return duration(value_us / 1e3) if value_us >= 1000 else quantity(value_us, "µs")


def rate_words(value: float) -> str:
    """Return a throughput in words."""
    return quantity(value, "tok/s") if math.isfinite(value) else "–"
