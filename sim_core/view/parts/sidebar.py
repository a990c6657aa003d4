"""The sidebar: what is asked, from model to latency limits, in the order in which people think of it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.accelerators import PEAKS
from sim_core.fields.texts import counted
from sim_core.scenario.scenario import DIMENSIONS, FIELDS, Scenario, arithmetic_dtype, model_of
from sim_core.view.drawing.words import duration, number, percent, quantity
from sim_core.view.parts.controls import (
    E6,
    E12,
    POWERS,
    RATES,
    SPECS,
    count,
    decades,
    ladder,
    select,
    spec,
    words,
)
from sim_core.view.parts.engine_words import set_words
from sim_core.view.parts.lengths import lengths, sessions
from sim_core.view.session import shell, state


def sidebar(scenario: Scenario) -> None:
    """Draw all controls of the scenario in the sidebar."""
    with st.sidebar:
        gallery_button()
        system_controls(scenario)
        _traffic(scenario)
        _engine(scenario)
        limits_in_sidebar()
        advanced(scenario)


def gallery_button() -> None:
    """Draw the button that goes to the ready scenarios."""
    if st.button("Ready scenarios", icon=":material/apps:", width="stretch", key="gallery"):
        shell.open_page("Gallery")


def system_controls(scenario: Scenario) -> None:
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
        _model_dimensions(scenario)


def _model_dimensions(scenario: Scenario) -> None:
    with st.expander("Dimensions", expanded=True):
        if scenario.model == "custom":
            st.caption("All layers are alike, gated, and without a limit of context.")
        for key in DIMENSIONS:
            count(key)


def _accelerator(scenario: Scenario) -> None:
    heading("Accelerator")
    names = {name: part.name for name, part in catalogue.accelerators().items()}
    select("accelerator", list(names), names.__getitem__, hide=True)
    ladder("tensor_parallel", POWERS[:7], lambda value: counted(value, "device"))
    spec_sliders(scenario)


def spec_sliders(scenario: Scenario) -> None:
    """Draw the accelerator's specs as sliders: four in front, the others on demand."""
    part = catalogue.accelerator(scenario.accelerator)
    dtype = arithmetic_dtype(scenario, part)
    main = [PEAKS[dtype], "hbm_gb_per_s", "hbm_gb", "link_gb_per_s"]
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
    sessions(scenario)


def _engine(scenario: Scenario) -> None:
    heading("Engine")
    engine_choice(scenario)
    select("policy")
    ladder("max_batch", POWERS[:12], number)
    if scenario.policy == "static":
        ladder("batch_wait_ms", (0.0, *decades(E6, 10, 10_000)), duration)
    if scenario.split:
        pool_sizes(scenario)
    if scenario.policy != "static":
        _speculation(scenario)
    _caching(scenario)


ACCEPTED = (None, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0, 5.0, 6.0)
DRAFT_SIZES = (None, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def _speculation(scenario: Scenario) -> None:
    """Draw how decodes are drafted for; quiet where they are not."""
    drafts = scenario.spec_tokens
    with st.expander("Speculation", expanded=drafts > 0, key="in_speculation", on_change="rerun") as more:
        if not (more.open or drafts):
            return
        ladder("spec_tokens", range(9), _tokens_or("off"))
        if not drafts:
            return
        select("draft")
        lengths = [length for length in ACCEPTED if length is None or length <= drafts + 1]
        ladder("acceptance_length", lengths, _length_words)
        words("spec_by_batch")
        if scenario.draft != "ngram":
            ladder("draft_params_b", DRAFT_SIZES, _size_words)


def _length_words(length: float | None) -> str:
    return "as published" if length is None else quantity(length, "tokens")


def _size_words(params_b: float | None) -> str:
    return "one layer" if params_b is None else f"{number(params_b)} B"


HOSTS = (0.0, *decades(E6, 10, 10_000))


def _caching(scenario: Scenario) -> None:
    """Draw what of prompts is kept and reused; quiet where nothing is."""
    used = scenario.prefix_caching == "on" or scenario.prefix_hit_frac > 0
    with st.expander("Prefix cache", expanded=used, key="in_caching", on_change="rerun") as more:
        if not (more.open or used):
            return
        select("prefix_caching")
        if scenario.prefix_caching == "on":
            ladder("host_cache_gb", HOSTS, lambda value: quantity(value, "GB") if value else "none")
        else:
            ladder("prefix_hit_frac", (0.0, *(step / 20 for step in range(1, 20)), 0.98, 1.0), percent)


def engine_choice(scenario: Scenario, hide: bool = True) -> None:
    """Draw the choice of the engine, its label hidden under a heading that says it, and what it sets."""
    names = {name: item.name for name, item in catalogue.engines().items()}
    select("engine", ["", *names], lambda name: names.get(name, "as set by its parts"), hide=hide)
    if scenario.engine:
        st.caption(set_words(scenario))


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


def limits_in_sidebar() -> None:
    """Draw the latency limits in the sidebar."""
    heading("Latency limits")
    limit_sliders(on_page=False)


def limit_sliders(on_page: bool = True) -> None:
    """Draw the latency limits, beside a chart or in the sidebar."""
    ladder("slo_ttft_ms", decades(E6, 50, 50_000), duration, on_page)
    ladder("slo_tpot_ms", decades(E12, 1, 1000), duration, on_page)


def limit_sliders_row() -> None:
    """Draw the latency limits in a row above a chart."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        limit_sliders()


def engine_setting(scenario: Scenario) -> None:
    """Draw layout, precision and engine keys: a system as one sets it up oneself."""
    ladder("tensor_parallel", POWERS[:7], lambda value: counted(value, "device"))
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
        if scenario.weight_dtype in ("fp8", "native"):
            select("fp8_scaling")
        engine_rules()
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


def engine_rules() -> None:
    """Draw the rules of an engine that its choice sets, or that are seldom changed."""
    select("admission")
    ladder("max_output_tokens", (0, *POWERS[6:]), _tokens_or("the answer's own length"))
    ladder("long_prefill_token_threshold", (0, *POWERS[7:]), _tokens_or("no limit"))
    ladder("stream_interval_steps", (1, 2, 5, 10, 20, 50), lambda value: counted(value, "token"))
    ladder("first_token_lag_steps", (None, 0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0), _steps_late)
    select("cuda_graphs")


def _tokens_or(zero: str) -> Callable[[int], str]:
    """Return how tokens are written where 0 means something of its own."""
    return lambda value: quantity(value, "tokens") if value else zero


def _steps_late(steps: float | None) -> str:
    return "as the engine does" if steps is None else f"{number(steps)} steps"


def heading(text: str) -> None:
    """Draw the heading of a group of controls."""
    st.markdown(f"###### {text}")
