"""The sidebar: every control is made from the scenario's own field descriptions and the presets.

A control shows one scenario key. It is seeded from the session's scenario before it is drawn and writes
back through `state.change`, so a refused value springs back and the reason is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.models import OWN, custom_dimensions, own_text
from sim_core.fields.texts import counted
from sim_core.scenario.link.write import value_text
from sim_core.scenario.scenario import FIELDS, model_of
from sim_core.view.drawing.words import number, quantity, rate
from sim_core.view.parts.engine_words import help_of
from sim_core.view.session import shell, state
from sim_core.view.session.browser import exact

SPECS: dict[str, tuple[Callable[[float], str], float]] = {  # format, and a start where no datasheet says
    "bf16_tflop_per_s": (lambda value: rate(value, "FLOP/s", ("T", "P", "E")), 500.0),
    "fp8_tflop_per_s": (lambda value: rate(value, "FLOP/s", ("T", "P", "E")), 1000.0),
    "fp4_tflop_per_s": (lambda value: rate(value, "FLOP/s", ("T", "P", "E")), 2000.0),
    "int8_top_per_s": (lambda value: rate(value, "OP/s", ("T", "P", "E")), 1000.0),
    "hbm_gb_per_s": (lambda value: rate(value, "B/s"), 2000.0),
    "hbm_gb": (lambda value: rate(value, "B"), 80.0),
    "link_gb_per_s": (lambda value: rate(value, "B/s"), 64.0),
    "pcie_gb_per_s": (lambda value: rate(value, "B/s"), 64.0),
    "node_devices": (lambda value: counted(int(value), "device"), 8.0),
    "node_link_gb_per_s": (lambda value: rate(value, "B/s"), 50.0),
    "tdp_w": (lambda value: rate(value, "W", ("", "k", "M")), 500.0),
    "price_usd_per_hour": (lambda value: quantity(value, "USD/h"), 2.0),
}

QUIET = {  # keys whose change leaves all other controls as they are
    *SPECS,
    "arrival_per_s",
    "arrival_cv",
    "concurrency",
    "prompt_tokens",
    "output_tokens",
    "prompt_cv",
    "output_cv",
    "max_batch",
    "batch_wait_ms",
    "slo_ttft_ms",
    "slo_tpot_ms",
    "slo_percentile",
    "token_budget",
    "kv_memory_frac",
    "kv_block_tokens",
    "preemption",
    "requests",
    "warmup_frac",
    "calibration",
    "seed",
    "kv_dtype",
    "router",
    "think_s",
    "host_cache_gb",
    "expert_imbalance",
    "two_batch_overlap",
    "prefill_wait_steps",
}

DIVISORS = ("expert_parallel", "attention_data_parallel", "context_parallel")  # of tensor_parallel
OCTAVES = range(-16, 25)  # a spec slider runs from a quarter to eight times the datasheet, in steps of 9 %
POWERS = tuple(2**power for power in range(15))
LARGEST_JS_INTEGER = 2**53 - 1
HANDY = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5)  # the figures of a decade that people set


# One control


def select(
    key: str,
    options: Sequence[str] | None = None,
    format: Callable[[str], str] | None = None,
    hide: bool = False,
) -> None:
    """Draw the choice of a key among words."""
    options = list(options or FIELDS[key].choices)
    value = getattr(st.session_state.scenario, key)
    if value not in options:
        options.append(value)
    seed(f"in_{key}", value)
    st.selectbox(
        FIELDS[key].label,
        options,
        format_func=format or FIELDS[key].label_of,
        key=f"in_{key}",
        on_change=_write,
        args=(key,),
        help=None if hide else help_of(key),
        label_visibility="collapsed" if hide else "visible",
    )


def pick(
    key: str,
    label: str,
    options: Sequence[str],
    format: Callable[[str], str],
    value: str,
    write: Callable[[str], Any],
) -> None:
    """Draw a choice that stands for several scenario keys, which `write` sets."""
    seed(f"in_{key}", value)
    st.selectbox(
        label,
        options,
        format_func=format,
        key=f"in_{key}",
        on_change=lambda: write(st.session_state[f"in_{key}"]),
    )


def pick_button(
    key: str, label: str, names: Mapping[str, str], value: str, write: Callable[[str], Any]
) -> None:
    """Draw a choice that stands for several scenario keys, which `write` sets, one button a choice."""
    seed(f"in_{key}", value)
    st.segmented_control(
        label,
        list(names),
        required=True,
        format_func=names.__getitem__,
        key=f"in_{key}",
        on_change=lambda: write(st.session_state[f"in_{key}"]),
    )


def amount(key: str, label: str, value: float | None, write: Callable[[str, float | None], Any]) -> None:
    """Draw the field of a number that `write` sets with its key; it is typed as a slider's value is, units
    understood; an empty one is not known.
    """
    seed(f"in_own_{key}", "" if value is None else value_text(key, value))
    st.text_input(
        label,
        key=f"in_own_{key}",
        help=help_of(key),
        placeholder="not known",
        on_change=_write_amount,
        args=(key, write),
    )


def _write_amount(key: str, write: Callable[[str, float | None], Any]) -> None:
    text = st.session_state[f"in_own_{key}"].strip()
    value = exact.typed_value(key, text, FIELDS[key]) if text else None
    if text and value is None:
        shell.rerun_page()  # it springs back, and the reason is shown
    else:
        write(key, value)


def ladder(
    key: str, steps: Iterable[float | None], format: Callable[[Any], str], on_page: bool = False
) -> None:
    """Draw the slider of a key over chosen steps; a value between two steps is a step of its own.

    A slider `on_page` stands beside a chart, as a twin of the one in the sidebar, which follows it.
    """
    value = getattr(st.session_state.scenario, key)
    if on_page:
        beside(key, steps, value, format)
    else:
        _slider(key, value, with_value(steps, value, format), format)


def beside(
    key: str, steps: Iterable[Any], value: Any, format: Callable[[Any], str], label: str = "", help: str = ""
) -> None:
    """Draw a slider beside a chart that writes a key and has its words from there or its own."""
    seed(f"page_{key}", value)
    st.select_slider(
        label or FIELDS[key].label,
        with_value(steps, value, format),
        format_func=format,
        key=f"page_{key}",
        on_change=_write_beside,
        args=(key,),
        help=help or help_of(key),
    )


def spec(key: str, part: catalogue.Accelerator) -> None:
    """Draw the slider of an accelerator spec, from a quarter to eight times what the datasheet says."""
    format, start = SPECS[key]
    sheet = getattr(part, key)
    value = getattr(st.session_state.scenario, key)
    base = start if sheet is None else sheet
    steps = [float(f"{base * 2 ** (octave / 8):.4g}") for octave in OCTAVES if octave] + [base]
    shown_value = sheet if value is None else value
    options = with_value(steps, shown_value, format) if shown_value else [None, *sorted(steps)]
    if sheet is None and shown_value:
        options = [None, *options]

    def text(option: float | None) -> str:
        if option is None:
            return "not known"
        return format(option) if sheet in (None, option) else f"{format(option)} · {number(option / sheet)}×"

    _slider(key, shown_value, options, text, to_none=sheet)


def whole_spec(key: str, part: catalogue.Accelerator, steps: Iterable[int]) -> None:
    """Draw the slider of an accelerator spec that counts, over chosen steps and the datasheet's own."""
    sheet, value = getattr(part, key), getattr(st.session_state.scenario, key)
    shown_value = sheet if value is None else value
    format = SPECS[key][0]

    def text(option: int | None) -> str:
        return "not known" if option is None else format(option)

    options: list[Any] = with_value([*steps, *([sheet] if sheet else [None])], shown_value, text)
    _slider(key, shown_value, options, text, to_none=sheet)


def _slider(
    key: str, value: object, options: list[Any], format: Callable[[Any], str], to_none: float | None = None
) -> None:
    seed(f"in_{key}", value)
    st.select_slider(
        FIELDS[key].label,
        options,
        format_func=format,
        key=f"in_{key}",
        on_change=_write,
        args=(key, to_none),
        help=help_of(key),
    )


def _write_beside(key: str) -> None:
    """Write the value of a slider beside a chart; the whole page is drawn again, for its twin's sake."""
    state.change(**{key: st.session_state[f"page_{key}"]})
    shell.rerun_page()


def count(key: str) -> None:
    """Draw the number field of a key; an empty one means "as the preset says"."""
    info = FIELDS[key]
    seed(f"in_{key}", getattr(st.session_state.scenario, key))
    st.number_input(
        info.label[0].upper() + info.label[1:],
        min_value=int(info.low),
        max_value=min(int(info.high), LARGEST_JS_INTEGER),
        step=1,
        key=f"in_{key}",
        on_change=_write,
        args=(key,),
        help=help_of(key),
        placeholder="as the preset",
        value=None if info.optional else "min",
    )


def words_of(key: str) -> None:
    """Draw the text field of a key; what cannot be read is refused as in links."""
    info = FIELDS[key]
    seed(f"in_{key}", getattr(st.session_state.scenario, key))
    st.text_input(info.label, key=f"in_{key}", on_change=_write, args=(key,), help=help_of(key))


def seed(widget: str, value: object) -> None:
    """Give a widget its value, unless it has it: writing again would fight with a hand that is dragging."""
    if widget not in st.session_state or st.session_state[widget] != value:
        st.session_state[widget] = value


def _write(key: str, to_none: float | None = None) -> None:
    """Write a widget's value to the scenario; the datasheet's own value is no override."""
    value = st.session_state[f"in_{key}"]
    if to_none is not None and value == to_none:
        value = None
    before = st.session_state.scenario
    changes = {key: value}
    if key == "model" and value == "custom":  # its fields open with what the present model has
        changes |= custom_dimensions(model_of(before))
    if key == "model" and value == OWN:  # it opens as a copy
        changes["own_model"] = own_text(model_of(before))
    if key == "tensor_parallel":  # what divides the devices of a group goes on dividing them
        changes |= {name: math.gcd(value, getattr(before, name)) for name in DIVISORS}
    if key == "spec_tokens" and (before.acceptance_length or 0) > value + 1:  # no more than are drafted
        changes["acceptance_length"] = value + 1.0 if value else None
    quiet = key in QUIET and not st.session_state.problem
    quiet = quiet and (getattr(before, key) is None) == (value is None) and not before.step_profile
    if state.change(**changes) and quiet:
        shell.rerun_answer()


def with_value(steps: Iterable[Any], value: Any, format: Callable[[Any], str]) -> list[Any]:
    """Return the steps in order with `value` among them, and none that reads the same; None comes first."""
    by_text = {format(step): step for step in steps}
    by_text[format(value)] = value
    return sorted(by_text.values(), key=lambda step: (step is not None, step or 0))


def decades(low: float, high: float) -> list[float]:
    """Return the handy values between two ends."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = (float(f"{step * 10.0**power:.3g}") for power in range(first, last + 1) for step in HANDY)
    return [value for value in values if low <= value <= high]


RATES = tuple(decades(0.1, 1000))
