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
from sim_core.scenario.mixes import FLAT_CLASS, mix_classes
from sim_core.scenario.scenario import DIMENSIONS, FIELDS, Scenario, arithmetic_dtype, model_of
from sim_core.view.drawing.words import duration, number, percent, quantity, rate
from sim_core.view.session import shell, state, sweeps

OCTAVES = range(-16, 25)  # a spec slider runs from a quarter to eight times the datasheet, in steps of 9 %
POWERS = tuple(2**power for power in range(15))
LARGEST_JS_INTEGER = 2**53 - 1
E12 = (1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2)
E6 = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
E10 = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)

LABELS = {
    "model": "Model", "accelerator": "Accelerator", "tensor_parallel": "Tensor parallel",
    "expert_parallel": "Expert parallel", "replicas": "Replicas", "router": "Router",
    "weight_dtype": "Weights", "kv_dtype": "KV cache",
    "bf16_tflop_per_s": "bf16 arithmetic", "fp8_tflop_per_s": "fp8 arithmetic",
    "fp4_tflop_per_s": "fp4 arithmetic", "hbm_gb_per_s": "Memory bandwidth", "hbm_gb": "Memory capacity",
    "link_gb_per_s": "Link bandwidth", "pcie_gb_per_s": "Host link", "tdp_w": "Power",
    "price_usd_per_hour": "Price",
    "arrivals": "Arrivals", "arrival_per_s": "Request rate", "arrival_cv": "Burstiness",
    "concurrency": "Clients", "requests": "Requests per point", "seed": "Seed",
    "prompt_tokens": "Prompt length", "prompt_cv": "Prompt variation", "output_tokens": "Answer length",
    "output_cv": "Answer variation",
    "policy": "Scheduling", "max_batch": "Batch limit", "token_budget": "Token budget",
    "batch_wait_ms": "Batch wait", "prefill_switch_ms": "Switch cost of a prompt",
    "kv_memory_frac": "Usable memory", "kv_block_tokens": "KV block",
    "preemption": "When KV runs out",
    "slo_ttft_ms": "First token within", "slo_tpot_ms": "Each token within", "slo_percentile": "Percentile",
    "prefill_workers": "Prefill workers", "decode_workers": "Decode workers",
    "prefill_tensor_parallel": "Devices of a prefill worker",
    "decode_tensor_parallel": "Devices of a decode worker", "kv_link_gb_per_s": "KV link",
    "kv_link_latency_ms": "KV latency", "kv_overlap": "Layer-wise sending",
    "calibration": "Calibration", "warmup_frac": "Warm-up left out",
    "demand": "Traffic over time", "demand_hours": "Lasts", "dwell_s": "Mean time in a state",
    "mix_other": "Lengths at the other end", "mix_swing_frac": "Swing of the mix",
    "rate_swing_frac": "Swing of the load", "demand_load_frac": "Load",
    "drain": "Requests of a leaving worker", "init_s": "Start", "storage_gb_per_s": "Loading weights",
    "warm_up_s": "Warm-up", "sync_s": "Joining", "control_s": "Decides every", "observe_s": "Observes",
    "threshold_frac": "Moves above", "hysteresis_frac": "And gains", "cooldown_s": "Cool-down",
    "forecast_s": "Looks ahead", "forecast_error_frac": "Forecast error",
}  # fmt: skip

CHOICES = {
    "poisson": "Poisson", "gamma": "bursty", "closed": "closed loop", "offline": "all at once",
    "trace": "trace", "static": "static", "prefill_first": "prefill first", "chunked": "chunked",
    "recompute": "recompute", "swap": "swap out", "least_loaded": "least loaded",
    "round_robin": "round robin", "typical": "typical", "datasheet": "datasheet",
    "submission": "benchmark submission",
    "steady": "steady", "daily": "cycle", "step": "step", "spike": "spike", "markov": "random switching",
    "finish": "finish there", "migrate": "migrate",
}  # fmt: skip

SPECS: dict[str, tuple[Callable[[float], str], float]] = {  # format, and a start where no datasheet says
    "bf16_tflop_per_s": (lambda value: rate(value, "FLOP/s", ("T", "P", "E")), 500.0),
    "fp8_tflop_per_s": (lambda value: rate(value, "FLOP/s", ("T", "P", "E")), 1000.0),
    "fp4_tflop_per_s": (lambda value: rate(value, "FLOP/s", ("T", "P", "E")), 2000.0),
    "hbm_gb_per_s": (lambda value: rate(value, "B/s"), 2000.0),
    "hbm_gb": (lambda value: rate(value, "B"), 80.0),
    "link_gb_per_s": (lambda value: rate(value, "B/s"), 64.0),
    "pcie_gb_per_s": (lambda value: rate(value, "B/s"), 64.0),
    "tdp_w": (lambda value: rate(value, "W", ("", "k", "M")), 500.0),
    "price_usd_per_hour": (lambda value: quantity(value, "USD/h"), 2.0),
}
QUIET = {  # keys whose change leaves all other controls as they are
    *SPECS, "arrival_per_s", "arrival_cv", "concurrency", "prompt_tokens", "output_tokens", "prompt_cv",
    "output_cv", "max_batch", "batch_wait_ms", "slo_ttft_ms", "slo_tpot_ms", "slo_percentile",
    "token_budget", "kv_memory_frac", "kv_block_tokens", "preemption", "requests", "warmup_frac",
    "calibration", "seed", "kv_dtype", "router",
}  # fmt: skip


def sidebar(scenario: Scenario) -> None:
    """Draw all controls of the scenario in the sidebar."""
    with st.sidebar:
        gallery_button()
        system(scenario)
        _traffic(scenario)
        _engine(scenario)
        limits()
        advanced(scenario)


def gallery_button() -> None:
    """Draw the button that goes to the ready scenarios."""
    if st.button("Ready scenarios", icon=":material/apps:", width="stretch", key="gallery"):
        shell.open_page("Gallery")


def system(scenario: Scenario) -> None:
    """Draw the model and the accelerator."""
    _model(scenario)
    _accelerator(scenario)


def _model(scenario: Scenario) -> None:
    heading("Model")
    names = {name: item.name for name, item in catalogue.models().items()}
    select("model", [*names, "custom"], lambda name: names.get(name, "custom dimensions"), hide=True)
    left, right = st.columns(2)
    with left:
        select("weight_dtype", format=str)
    with right:
        select("kv_dtype", format=str)
    if scenario.model == "custom" or any(getattr(scenario, key) is not None for key in DIMENSIONS):
        _model_dimensions()


def _model_dimensions() -> None:
    with st.expander("Dimensions", expanded=True):
        for key in DIMENSIONS:
            count(key)


def _accelerator(scenario: Scenario) -> None:
    heading("Accelerator")
    names = {name: part.name for name, part in catalogue.accelerators().items()}
    select("accelerator", list(names), names.get, hide=True)
    ladder("tensor_parallel", POWERS[:7], lambda value: f"{value} device{'s' if value > 1 else ''}")
    specs(scenario)


def specs(scenario: Scenario) -> None:
    """Draw the accelerator's specs as sliders: four in front, the others on demand."""
    part = catalogue.accelerator(scenario.accelerator)
    dtype = arithmetic_dtype(scenario, part)
    main = [f"{dtype}_tflop_per_s", "hbm_gb_per_s", "hbm_gb", "link_gb_per_s"]
    for key in main:
        spec(key, part)
    with st.expander("More specs", key="in_more_specs", on_change="rerun") as more:
        if more.open:
            for key in SPECS:
                if key not in main:
                    spec(key, part)
    if any(getattr(scenario, key) is not None for key in SPECS):
        st.button("Reset to datasheet", on_click=_reset_specs, type="tertiary", icon=":material/undo:")


def _reset_specs() -> None:
    state.change(**dict.fromkeys(SPECS))


def _traffic(scenario: Scenario) -> None:
    heading("Traffic")
    lengths(scenario)
    select("arrivals", [name for name in FIELDS["arrivals"].choices if name != "trace"])
    if scenario.arrivals in ("poisson", "gamma"):
        ladder("arrival_per_s", RATES, lambda value: quantity(value, "req/s"))
    if scenario.arrivals == "gamma":
        ladder("arrival_cv", (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0), number)
    if scenario.arrivals == "closed":
        ladder("concurrency", POWERS[:13], number)


def _engine(scenario: Scenario) -> None:
    heading("Engine")
    select("policy")
    ladder("max_batch", POWERS[:12], number)
    if scenario.policy == "static":
        ladder("batch_wait_ms", (0.0, *_decades(E6, 10, 10_000)), duration)
    if scenario.split:
        pool_sizes(scenario)


WORKERS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64)
LINKS = (1.0, 2.0, 5.0, 10.0, 12.5, 25.0, 50.0, 100.0, 200.0, 450.0, 900.0)


def pool_sizes(scenario: Scenario) -> None:
    """Draw the sizes of both pools and the way of the KV cache between them."""
    ladder("prefill_workers", WORKERS, number)
    ladder("decode_workers", WORKERS, number)
    ladder("kv_link_gb_per_s", LINKS, lambda value: quantity(value, "GB/s"))
    with st.expander("More on the pools", key="in_more_pools", on_change="rerun") as more:
        if more.open:
            ladder("kv_link_latency_ms", (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0), duration)
            select("kv_overlap")
            count("prefill_tensor_parallel")
            count("decode_tensor_parallel")


def limits() -> None:
    """Draw the latency limits in the sidebar."""
    heading("Latency limits")
    own_limits(on_page=False)


def own_limits(on_page: bool = True) -> None:
    """Draw the latency limits, beside a chart or in the sidebar."""
    ladder("slo_ttft_ms", _decades(E6, 50, 50_000), duration, on_page)
    ladder("slo_tpot_ms", _decades(E12, 1, 1000), duration, on_page)


def own_limits_row() -> None:
    """Draw the latency limits in a row above a chart."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        own_limits()


def engine_setting(scenario: Scenario) -> None:
    """Draw layout, precision and engine keys: a system as one sets it up oneself."""
    ladder("tensor_parallel", POWERS[:7], lambda value: f"{value} device{'s' if value > 1 else ''}")
    ladder("replicas", POWERS[:7], number)
    for column, key in zip(st.columns(2), ("weight_dtype", "kv_dtype"), strict=True):
        with column:
            select(key, format=str)
    select("policy")
    ladder("max_batch", POWERS[:12], number)
    ladder("token_budget", POWERS[6:], lambda value: quantity(value, "tokens"))


def advanced(scenario: Scenario) -> None:
    """Draw the keys that are seldom changed, on demand."""
    with st.expander("Advanced", key="in_advanced", on_change="rerun") as more:
        if not more.open:
            return
        ladder("slo_percentile", (50.0, 75.0, 90.0, 95.0, 99.0, 99.9), lambda value: f"p{number(value)}")
        ladder("token_budget", POWERS[6:], lambda value: quantity(value, "tokens"))
        ladder("kv_memory_frac", (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.95, 1.0), percent)
        ladder("kv_block_tokens", POWERS[:8], lambda value: quantity(value, "tokens"))
        select("preemption")
        ladder("replicas", POWERS[:7], number)
        if scenario.replicas > 1:
            select("router")
        if model_of(scenario).is_moe:
            ladder("expert_parallel", [n for n in POWERS[:7] if scenario.tensor_parallel % n == 0], number)
        ladder("prompt_cv", (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0), number)
        ladder("output_cv", (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0), number)
        ladder("requests", (500, 1000, 2000, 5000, 10_000, 20_000, 50_000), number)
        ladder("warmup_frac", (0.0, 0.05, 0.1, 0.2, 0.3, 0.5), percent)
        select("calibration")
        count("seed")
        if scenario.model != "custom":
            for key in DIMENSIONS:
                count(key)


def heading(text: str) -> None:
    """Draw the heading of a group of controls."""
    st.markdown(f"###### {text}")


# Above the chart


SHOW = {"frontier": "Frontier", "load": "Load curve", "table": "Table"}


def above_chart(sweep: sweeps.Sweep, outside: bool) -> None:
    """Draw the row above the chart: what is shown, what tells the curves apart, the axes.

    `outside` says that points lie outside the axes, which stay where they are until asked to fit.
    """
    with st.container(horizontal=True, vertical_alignment="center"):
        show()
        if state.view("show") != "load":
            vary(sweep)
        axes(outside)


def show() -> None:
    """Draw the choice of what the page shows."""
    views("show", SHOW)


def views(key: str, names: Mapping[str, str], label: str = "Show") -> None:
    """Draw the choice of a view setting, one button a choice."""
    _seed(f"in_{key}", state.view(key))
    st.segmented_control(
        label, list(names), required=True, format_func=names.get, key=f"in_{key}", on_change=_write_view,
        args=(key,), label_visibility="collapsed",
    )  # fmt: skip


def choose(key: str, names: Mapping[str, str], label: str) -> None:
    """Draw the choice of a view setting as a list, for more choices than buttons can hold."""
    _seed(f"in_{key}", state.view(key))
    st.selectbox(
        label, list(names), format_func=names.get, key=f"in_{key}", on_change=_write_view, args=(key,),
        label_visibility="collapsed",
    )  # fmt: skip


def toggle(key: str, label: str, help: str | None = None) -> None:
    """Draw the switch of a view setting that is `off` or `on`."""
    _seed(f"in_{key}", state.view(key) == "on")
    st.toggle(label, key=f"in_{key}", on_change=_write_toggle, args=(key,), help=help)


def dial(
    key: str, label: str, steps: Iterable[float], format: Callable[[Any], str], help: str | None = None
) -> None:
    """Draw the slider of a numeric view setting; a value between two steps is a step of its own."""
    value = state.number(key)
    _seed(f"in_{key}", value)
    st.select_slider(
        label, _with_value(steps, value, format), format_func=format, key=f"in_{key}",
        on_change=_write_dial, args=(key,), help=help,
    )  # fmt: skip


FACTORS = tuple(float(f"{2 ** (octave / 4):.3g}") for octave in range(-8, 13))


def factor(key: str, label: str, value: float, specs: Callable[[float], Mapping[str, float | None]]) -> None:
    """Draw the slider of a multiple of the datasheet, which `specs` turns into scenario keys."""
    value = float(f"{value:.3g}")
    _seed(f"in_{key}", value)
    text = "{}× datasheet".format
    st.select_slider(
        label, _with_value(FACTORS, value, lambda step: text(number(step))), key=f"in_{key}",
        format_func=lambda step: text(number(step)), on_change=_write_factor, args=(key, specs),
    )  # fmt: skip


def _write_factor(key: str, specs: Callable[[float], Mapping[str, float | None]]) -> None:
    state.change(**specs(st.session_state[f"in_{key}"]))
    shell.rerun_page()


def vary(sweep: sweeps.Sweep) -> None:
    """Draw the choice of what tells the curves apart."""
    options = [key for key in sweeps.VARY if key != sweep.along]
    _seed("in_vary", sweep.by)
    st.selectbox(
        "Curves by", options, format_func=lambda key: f"Curves by {sweeps.VARY[key]}", key="in_vary",
        on_change=_write_view, args=("vary",), label_visibility="collapsed", width=240,
    )  # fmt: skip
    if sweep.by == "accelerator":
        among(sweep.values, state.AMONG_LIMIT)


def among(values: Iterable[str], most: int) -> None:
    """Draw the choice of accelerators that are compared."""
    names = {name: part.name for name, part in catalogue.accelerators().items()}
    _seed("in_among", list(values))
    st.multiselect(
        "Accelerators", list(names), format_func=names.get, key="in_among", on_change=_write_among,
        max_selections=most, label_visibility="collapsed", width=520,
    )  # fmt: skip


def axes(outside: bool) -> None:
    """Draw the toggles of the axes, and the button that fits them to the points."""
    if state.view("show") == "table":
        return
    if state.view("show") == "frontier":
        scales()
    st.button(
        "Fit: points lie outside" if outside else "Fit", icon=":material/fit_screen:", on_click=state.fit,
        help="Fit the axes to the points", key="fit", type="primary" if outside else "secondary",
    )  # fmt: skip


def scales() -> None:
    """Draw the toggles of logarithmic axes."""
    scale = state.view("axes")
    _seed("in_log_x", scale in ("log-x", "log"))
    _seed("in_log_y", scale in ("log-y", "log"))
    st.toggle("log x", key="in_log_x", on_change=_write_axes)
    st.toggle("log y", key="in_log_y", on_change=_write_axes)


def _write_toggle(key: str) -> None:
    state.set_view(key, "on" if st.session_state[f"in_{key}"] else "off")


def _write_dial(key: str) -> None:
    state.set_number(key, st.session_state[f"in_{key}"])


def _write_view(key: str) -> None:
    state.set_view(key, st.session_state[f"in_{key}"])


def _write_among() -> None:
    state.set_view(state.AMONG, ",".join(st.session_state.in_among))


def _write_axes() -> None:
    names = {(False, False): "linear", (True, False): "log-x", (False, True): "log-y", (True, True): "log"}
    state.set_view("axes", names[st.session_state.in_log_x, st.session_state.in_log_y])


# Traffic classes


def lengths(scenario: Scenario) -> None:
    """Draw the choice of one or two kinds of traffic, and the slider between them."""
    classes = _shares(scenario.mix)
    if len(classes) > 2:
        st.caption(f"Mix: {scenario.mix}")
        st.button("Choose another mix", on_click=state.change, kwargs={"mix": ""}, type="tertiary")
        return
    names = list(classes) or [FLAT_CLASS]
    titles = {name: name for name in names} | {FLAT_CLASS: "lengths set here"}
    titles |= {name: item.title for name, item in catalogue.workloads().items()}
    second = names[1] if len(names) > 1 else ""
    _seed("in_first", names[0])
    help = "What is asked and answered: your own lengths, or those of a kind of traffic."
    st.selectbox(
        "Lengths", list(titles), format_func=titles.get, key="in_first", on_change=_write_mix, help=help
    )
    _seed("in_second", second)
    st.selectbox(
        "mixed with",
        ["", *(name for name in titles if name != names[0])],
        format_func=lambda name: titles.get(name, "nothing else"),
        key="in_second",
        on_change=_write_mix,
        help="A second kind of traffic.",
    )
    if second:
        share = round(100 * classes[names[0]] / sum(classes.values()))
        _seed("in_share", share)
        st.select_slider(
            "Share of the first",
            sorted({*range(5, 100, 5), share}),  # at 0 or 100 % one kind would be gone, and this with it
            key="in_share",
            on_change=_write_mix,
            format_func=lambda value: f"{value} %",
        )
    if FLAT_CLASS in names:
        for key in ("prompt_tokens", "output_tokens"):
            ladder(key, map(int, _decades(E10, 20, 100_000)), lambda value: quantity(value, "tokens"))


def _shares(mix: str) -> dict[str, float]:
    """Return the class weights of a mix."""
    return {item.name: item.weight for item in mix_classes(mix)}


def _write_mix() -> None:
    """Write the three traffic widgets to the scenario's `mix`."""
    first, second = st.session_state.in_first, st.session_state.get("in_second", "")
    if second and second != first:
        share = st.session_state.get("in_share", 50)
        first_part = [f"{first}:{share / 100:g}"] if share > 0 else []
        second_part = [f"{second}:{1 - share / 100:g}"] if share < 100 else []
        state.change(mix=",".join(first_part + second_part))
    else:
        state.change(mix="" if first == FLAT_CLASS else f"{first}:1")


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
    _seed(f"in_{key}", value)
    st.selectbox(
        LABELS[key],
        options,
        format_func=format or (lambda name: CHOICES.get(name, name)),
        key=f"in_{key}",
        on_change=_write,
        args=(key,),
        help=None if hide else FIELDS[key].help,
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
    _seed(f"in_{key}", value)
    st.selectbox(
        label, options, format_func=format, key=f"in_{key}",
        on_change=lambda: write(st.session_state[f"in_{key}"]),
    )  # fmt: skip


def kinds(key: str, label: str, names: Mapping[str, str], value: str, write: Callable[[str], Any]) -> None:
    """Draw a choice that stands for several scenario keys, which `write` sets, one button a choice."""
    _seed(f"in_{key}", value)
    st.segmented_control(
        label, list(names), required=True, format_func=names.get, key=f"in_{key}",
        on_change=lambda: write(st.session_state[f"in_{key}"]),
    )  # fmt: skip


def amount(key: str, label: str, value: float | None, write: Callable[[str, float | None], Any]) -> None:
    """Draw the field of a number that `write` sets with its key; an empty one is not known."""
    _seed(f"in_own_{key}", value)
    st.number_input(
        label, value=None, key=f"in_own_{key}", help=FIELDS[key].help, format="%g", placeholder="not known",
        on_change=lambda: write(key, st.session_state[f"in_own_{key}"]),
    )  # fmt: skip


def ladder(key: str, steps: Iterable[float], format: Callable[[Any], str], on_page: bool = False) -> None:
    """Draw the slider of a key over chosen steps; a value between two steps is a step of its own.

    A slider `on_page` stands beside a chart, as a twin of the one in the sidebar, which follows it.
    """
    value = getattr(st.session_state.scenario, key)
    if on_page:
        beside(key, steps, value, format)
    else:
        _slider(key, value, _with_value(steps, value, format), format)


def beside(
    key: str,
    steps: Iterable[Any],
    value: Any,
    format: Callable[[Any], str],
    label: str = "",
    help: str = "",
) -> None:
    """Draw a slider beside a chart that writes a key and has its words from there or its own."""
    _seed(f"page_{key}", value)
    st.select_slider(
        label or LABELS[key], _with_value(steps, value, format), format_func=format, key=f"page_{key}",
        on_change=_write_beside, args=(key,), help=help or FIELDS[key].help,
    )  # fmt: skip


def spec(key: str, part: catalogue.Accelerator) -> None:
    """Draw the slider of an accelerator spec, from a quarter to eight times what the datasheet says."""
    format, start = SPECS[key]
    sheet = getattr(part, key)
    value = getattr(st.session_state.scenario, key)
    base = start if sheet is None else sheet
    steps = [float(f"{base * 2 ** (octave / 8):.4g}") for octave in OCTAVES if octave] + [base]
    shown_value = sheet if value is None else value
    options = _with_value(steps, shown_value, format) if shown_value else [None, *sorted(steps)]
    if sheet is None and shown_value:
        options = [None, *options]

    def text(option: float | None) -> str:
        if option is None:
            return "not known"
        return format(option) if sheet in (None, option) else f"{format(option)} · {number(option / sheet)}×"

    _slider(key, shown_value, options, text, to_none=sheet)


def _slider(
    key: str,
    value: Any,
    options: list[Any],
    format: Callable[[Any], str],
    to_none: float | None = None,
) -> None:
    _seed(f"in_{key}", value)
    st.select_slider(
        LABELS[key],
        options,
        format_func=format,
        key=f"in_{key}",
        on_change=_write,
        args=(key, to_none),
        help=FIELDS[key].help,
    )


def _write_beside(key: str) -> None:
    """Write the value of a slider beside a chart; the whole page is drawn again, for its twin's sake."""
    state.change(**{key: st.session_state[f"page_{key}"]})
    shell.rerun_page()


def count(key: str) -> None:
    """Draw the number field of a key; an empty one means "as the preset says"."""
    info = FIELDS[key]
    _seed(f"in_{key}", getattr(st.session_state.scenario, key))
    st.number_input(
        LABELS.get(key, key.replace("_", " ").capitalize()),
        min_value=int(info.low),
        max_value=min(int(info.high), LARGEST_JS_INTEGER),
        step=1,
        key=f"in_{key}",
        on_change=_write,
        args=(key,),
        help=info.help,
        placeholder="as the preset",
        value=None if info.optional else "min",
    )


def _seed(widget: str, value: Any) -> None:
    """Give a widget its value, unless it has it: writing again would fight with a hand that is dragging."""
    if widget not in st.session_state or st.session_state[widget] != value:
        st.session_state[widget] = value


def _write(key: str, to_none: Any = None) -> None:
    """Write a widget's value to the scenario; the datasheet's own value is no override."""
    value = st.session_state[f"in_{key}"]
    if to_none is not None and value == to_none:
        value = None
    before = st.session_state.scenario
    changes = {key: value}
    if key == "tensor_parallel" and value % before.expert_parallel:
        changes["expert_parallel"] = math.gcd(value, before.expert_parallel)
    quiet = key in QUIET and not st.session_state.problem
    quiet = quiet and (getattr(before, key) is None) == (value is None) and not before.step_profile
    if state.change(**changes) and quiet:
        shell.rerun_answer()


def _with_value(steps: Iterable[Any], value: Any, format: Callable[[Any], str]) -> list[Any]:
    """Return the steps in order with `value` among them, and none that reads the same."""
    by_text = {format(step): step for step in steps}
    by_text[format(value)] = value
    return sorted(by_text.values())


def _decades(series: Sequence[float], low: float, high: float) -> list[float]:
    """Return the values of a decade series between two ends."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = (float(f"{step * 10.0**power:.3g}") for power in range(first, last + 1) for step in series)
    return [value for value in values if low <= value <= high]


RATES = tuple(_decades(E12, 0.1, 1000))
