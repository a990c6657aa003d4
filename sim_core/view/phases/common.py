"""What the views of the Two phases page share: the step they look at, its titles and its dials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import streamlit as st

from sim_core.catalogue.models import attention_words, reads_everything
from sim_core.evidence import trust
from sim_core.price.work import layout_warnings
from sim_core.questions import phases
from sim_core.questions.phases import Setting
from sim_core.questions.speculation import brief
from sim_core.scenario.link.write import to_query
from sim_core.scenario.scenario import Scenario, accelerator_of, model_of
from sim_core.view.drawing import trust_words
from sim_core.view.drawing.figures import Row, in_lines
from sim_core.view.drawing.words import literal, number
from sim_core.view.parts import actions, pieces
from sim_core.view.parts.chart import Heading
from sim_core.view.parts.pieces import KeyFigure
from sim_core.view.parts.views import dial, toggle
from sim_core.view.phases.figures import tokens_short
from sim_core.view.session import state

BATCHES = tuple(2**power for power in range(15))
CONTEXTS = (0, *(2**power for power in range(7, 20)))

LINE = 4096  # decode is drawn for batches up to this


# What the views share


def own_setting(scenario: Scenario) -> Setting:
    return phases.setting(scenario, int(state.view_number("at_batch")), state.view_number("at_context"))


def one_trust(scenario: Scenario, at: Setting) -> trust.Trust:
    """Return how far a step of what is looked at can be trusted."""
    return trust.of_step(scenario, at.batch, at.context_tokens)


def step_trust(scenario: Scenario, row: Row) -> trust.Trust:
    """Return how far the step of one row can be trusted: a prompt alone, or a batch at a context."""
    if row["phase"] == "prefill":
        return trust.of_step(scenario)
    return trust.of_step(scenario, row.get("batch") or row["size"], row["context_tokens"])


def dials(scenario: Scenario, batch: bool = True, split: bool = False) -> None:
    """Draw the sliders of batch and context."""
    mean = phases.setting(scenario).context_tokens
    longest = model_of(scenario).max_position

    def context(value: float) -> str:
        return f"mean: {number(round(mean))}" if value == 0 else f"{tokens_short(value)} tokens"

    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        if batch:
            dial("at_batch", BATCHES, number, "Sequences in the batch")
        steps = [step for step in CONTEXTS if step <= longest]
        help = "Tokens each sequence has cached; the mean is this scenario's prompt and half its answer."
        dial("at_context", steps, context, "Context of each", help)
        if split:
            toggle("split")


def numbers_row(cells: Iterable[tuple[str, str, str]]) -> None:
    """Show key numbers: name, value, note."""
    pieces.figures(KeyFigure(*cell) for cell in cells)


def phase_titles(scenario: Scenario) -> Heading:
    """Return title and subtitle under which an exported chart stands alone."""
    model, part = model_of(scenario), accelerator_of(scenario)
    lengths = scenario.mix or f"{scenario.prompt_tokens:,} → {scenario.output_tokens:,} tokens"
    precision = f"weights {scenario.weight_dtype}, KV cache {scenario.kv_dtype}"
    parts = (lengths, precision, brief(scenario), scenario.calibration)
    subtitle = " · ".join(filter(None, parts))
    return Heading(
        f"{model.name} on {devices_words(scenario, part.name)}",
        in_lines(subtitle, trust_words.caption(scenario)),
    )


def devices_words(scenario: Scenario, name: str) -> str:
    """Return what an engine runs on: devices of all its stages, and how they are laid out; of two pools whose
    workers differ, those of both.
    """
    prefill, decode = (
        _engine_words(engine, name) for engine in (phases.prefilling(scenario), phases.decoding(scenario))
    )
    return decode if prefill == decode else f"{prefill} to prefill, {decode} to decode"


def _engine_words(scenario: Scenario, name: str) -> str:
    stages, ranks, parts = (
        scenario.pipeline_parallel,
        scenario.attention_data_parallel,
        scenario.context_parallel,
    )
    devices = scenario.tensor_parallel * stages
    layout = [
        f"{count} {what}"
        for count, what in ((stages, "stages"), (ranks, "ranks"), (parts, "parts of contexts"))
        if count > 1
    ]
    words = name if devices == 1 else f"{devices} × {name}"
    return f"{words} in {', '.join(layout)}" if layout else words


def give_away(
    scenario: Scenario,
    key: str,
    rows: Sequence[Row],
    imports: str,
    call: str,
    files: Sequence[actions.File] = (),
    predicted: Callable[[Row], trust.Trust] | None = None,
) -> None:
    """Draw what can be taken away: files of the rows, and the Python that gives the same rows."""
    code = (
        f"from sim_core import {imports}\n\n"
        f"scenario = load_scenario({to_query(scenario)!r})\nfor row in {call}:\n    print(row)"
    )
    actions.take_away(key, [*actions.table_files(rows, key, predicted or scenario), *files], code, "python")


def caption_with_warnings(scenario: Scenario, text: str) -> None:
    """Show a caption, and after it what is to know of the layout, the device and the model's attention."""
    model = model_of(scenario)
    kinds = [] if reads_everything(model) else [f"Attention of {model.name}: {attention_words(model)}"]
    notes = [*kinds, *layout_warnings(scenario), *accelerator_of(scenario).warnings, *model.warnings]
    st.caption(f"{text} {literal(' '.join(notes))}")


def one_device(scenario: Scenario) -> str:
    """Return whose FLOP and bytes are shown, and what a step is where an engine deals its sequences."""
    prefill, decode = phases.prefilling(scenario), phases.decoding(scenario)
    if _engine_words(prefill, "") == _engine_words(decode, ""):
        return _one_device(decode)
    name = accelerator_of(scenario).name
    return (
        f" The prompt is computed by a prefill worker, {_engine_words(prefill, name)}, sequences decode on a "
        f"decode worker, {_engine_words(decode, name)}.{_one_device(decode)}"
    )


def _one_device(scenario: Scenario) -> str:
    count, stages, ranks = (
        scenario.tensor_parallel,
        scenario.pipeline_parallel,
        scenario.attention_data_parallel,
    )
    if count * stages == 1:
        return ""
    if stages > 1:
        return (
            f" Sequences are dealt to {stages} batches, one a stage: a step is the time in which each of "
            f"them passes all stages, so each stage reads its weights {stages} times. Figures are those "
            "of one device of the last stage, which also has the LM head."
        )
    if ranks > 1:
        return (
            f" Sequences are dealt to {ranks} ranks of attention, whose experts see the tokens of all; a "
            "prompt is computed by one rank while the others wait. Figures are those of one device of the "
            "rank with the most."
        )
    return f" Figures are those of one of the {count} devices, which all work alike."


def setting_revision(scenario: Scenario) -> str:
    """Return a word that changes when the chart should forget the visitor's zoom."""
    return f"{scenario.model} {scenario.accelerator} {st.session_state.get('fits', 0)}"
