"""The sidebar: what is asked, from model to latency limits, in the order in which people think of it."""

from __future__ import annotations

from collections.abc import Callable, Collection

import streamlit as st

from sim_core import catalogue
from sim_core.catalogue.accelerators import PEAKS
from sim_core.catalogue.models import OWN
from sim_core.fields.texts import counted
from sim_core.results.classes import classes_of
from sim_core.scenario.scenario import (
    DEFAULTS,
    DIMENSIONS,
    FIELDS,
    Scenario,
    arithmetic_dtype,
    at_list_price,
    model_of,
)
from sim_core.traffic.replay import is_scaled
from sim_core.view.drawing.words import duration, entry_label, number, percent, quantity
from sim_core.view.parts.controls import (
    POWERS,
    RATES,
    SPECS,
    count,
    decades,
    ladder,
    seed,
    select,
    spec,
    whole_spec,
    words_of,
)
from sim_core.view.parts.engine_words import help_of, set_words
from sim_core.view.parts.lengths import lengths, sessions
from sim_core.view.parts.own_model import own_model_controls
from sim_core.view.session import shell, state
from sim_core.view.session.mine.panel import mine_button
from sim_core.view.session.mine.reset import reset_button

BOTH_LIMITS = frozenset({"slo_ttft_ms", "slo_tpot_ms"})  # of all requests
NO_LIMITS = frozenset(key for key, info in FIELDS.items() if info.group == "limits")  # where none counts


def sidebar(scenario: Scenario, beside: Collection[str] = (), words: str = "") -> None:
    """Draw all controls of the scenario in the sidebar, but those that a page has `beside` its chart, or not
    at all: keys, `pools`, `split`, `layout`, `stages`, `load`, `specs`, or the `workers` of pools
    that it finds itself, whose link stays; with a page's `words` under the accelerator.
    """
    with st.sidebar:
        gallery_button()
        own_buttons()
        system_controls(scenario, beside, words)
        _traffic(scenario, beside)
        _engine(scenario, beside)
        _limits(beside)
        advanced(scenario, beside)


def gallery_button() -> None:
    """Draw the button that goes to the ready scenarios."""
    if st.button("Gallery of ready scenarios", icon=":material/apps:", width="stretch", key="gallery"):
        shell.open_page("Gallery")


def own_buttons() -> None:
    """Draw the buttons of what is kept and of the ways back, beside one another."""
    left, right = st.columns(2)
    with left:
        mine_button()
    with right:
        reset_button()


def system_controls(scenario: Scenario, beside: Collection[str] = (), words: str = "") -> None:
    """Draw the model and the accelerator."""
    _model(scenario, beside)
    _accelerator(scenario, beside, words)


def _model(scenario: Scenario, beside: Collection[str]) -> None:
    heading("Model", help_of("model"))
    model_choice()
    dtypes = [key for key in ("weight_dtype", "kv_dtype") if key not in beside]
    for column, key in zip(st.columns(len(dtypes)), dtypes, strict=True):
        with column:
            select(key, format=str)
    if scenario.model == OWN:
        own_model_controls(scenario)
    if scenario.model == "custom" or any(getattr(scenario, key) is not None for key in DIMENSIONS):
        _model_dimensions(scenario)


def model_choice(hide: bool = True) -> None:
    """Draw the choice of the model: those that are known, one's own, or dimensions."""
    names = {key: entry_label(item.name, item.year, key) for key, item in catalogue.models().items()}
    names = {OWN: "your own model (config.json)"} | names | {"custom": "custom dimensions"}
    select("model", list(names), names.__getitem__, hide=hide)


def _model_dimensions(scenario: Scenario) -> None:
    with st.expander("Dimensions", expanded=True):
        if scenario.model == "custom":
            st.caption("All layers are alike, gated, and without a limit of context.")
        for key in DIMENSIONS:
            count(key)


def _accelerator(scenario: Scenario, beside: Collection[str], words: str) -> None:
    heading("Accelerator", help_of("accelerator"))
    accelerator_choice()
    if words:
        st.caption(words)
    if "layout" not in beside:
        ladder("tensor_parallel", POWERS[:8], _devices)
    _ranks_and_stages(scenario, beside)
    if "specs" not in beside:
        spec_sliders(scenario)


def _devices(value: int) -> str:
    return counted(value, "device")


PARALLEL = (  # keys of the layout that most scenarios leave alone
    "attention_data_parallel",
    "expert_parallel",
    "expert_imbalance",
    "redundant_experts",
    "pipeline_parallel",
    "context_parallel",
    "node_devices",
    "node_link_gb_per_s",
)
IMBALANCES = (None, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 2.0)
DOMAINS = (1, 2, 4, 8, 16, 32, 64, 72, 144)


def _ranks_and_stages(scenario: Scenario, beside: Collection[str]) -> None:
    """Draw how attention, experts, layers and contexts are divided, and over which nodes; quiet where not."""
    used = any(getattr(scenario, key) != DEFAULTS[key] for key in PARALLEL)
    with st.expander("Ranks, stages, nodes", expanded=used, key="in_parallel", on_change="rerun") as more:
        if not (more.open or used):
            return
        divisors = _divisors(scenario.tensor_parallel)
        if model_of(scenario).is_moe:
            _experts(scenario, divisors, beside)
        if "stages" not in beside:
            ladder("pipeline_parallel", POWERS[:5], lambda value: counted(value, "stage"))
            ladder("context_parallel", divisors, lambda value: counted(value, "part"))
        if "specs" not in beside:
            part = catalogue.accelerator(scenario.accelerator)
            whole_spec("node_devices", part, DOMAINS)
            spec("node_link_gb_per_s", part)


def _experts(scenario: Scenario, divisors: list[int], beside: Collection[str]) -> None:
    """Draw how attention and experts of a mixture are divided among the devices of a group."""
    if "layout" not in beside:
        ladder("attention_data_parallel", divisors, lambda value: counted(value, "rank"))
        ladder("expert_parallel", divisors, _devices)
    if scenario.attention_data_parallel > 1:
        ladder("prefill_wait_steps", (0, 5, 10, 20, 30, 50, 100), lambda value: counted(value, "step"))
    if scenario.expert_parallel > 1:
        ladder("expert_imbalance", IMBALANCES, _imbalance_words)
        ladder("redundant_experts", (0, 8, 16, 32, 64, 128), number)
        select("two_batch_overlap")


def _imbalance_words(imbalance: float | None) -> str:
    return "as at random" if imbalance is None else f"{number(imbalance)}× the mean"


def _divisors(devices: int) -> list[int]:
    return [count for count in range(1, devices + 1) if devices % count == 0]


def accelerator_choice(hide: bool = True) -> None:
    """Draw the choice of the accelerator."""
    names = {key: entry_label(part.name, part.year, key) for key, part in catalogue.accelerators().items()}
    select("accelerator", list(names), names.__getitem__, hide=hide)


def spec_sliders(scenario: Scenario) -> None:
    """Draw the accelerator's specs as sliders: four in front, the others on demand."""
    part = at_list_price(scenario)
    dtype = arithmetic_dtype(scenario, part)
    main = [PEAKS[dtype], "hbm_gb_per_s", "hbm_gb", "link_gb_per_s"]
    for key in main:
        spec(key, part)
    with st.expander("More specs", key="in_more_specs", on_change="rerun") as more:
        if more.open:
            for key in SPECS:
                if key not in (*main, *PARALLEL):
                    spec(key, part)
    if any(getattr(scenario, key) is not None for key in SPECS):
        st.button("Reset to datasheet", on_click=_reset_specs, type="tertiary", icon=":material/undo:")


def _reset_specs() -> None:
    state.change(**dict.fromkeys(SPECS))


def _traffic(scenario: Scenario, beside: Collection[str] = ()) -> None:
    heading("Traffic")
    lengths(scenario)
    if "load" not in beside:
        _load(scenario, beside)
    sessions(scenario)


def _load(scenario: Scenario, beside: Collection[str]) -> None:
    """Draw how requests arrive, and how many."""
    select("arrivals", [name for name in FIELDS["arrivals"].choices if name != "trace"])
    if scenario.arrivals == "trace":
        select("trace_times")
    if (scenario.arrivals in ("poisson", "gamma") or is_scaled(scenario)) and "arrival_per_s" not in beside:
        ladder("arrival_per_s", RATES, lambda value: quantity(value, "req/s"))
    if scenario.arrivals == "gamma":
        ladder("arrival_cv", (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0), number)
    if scenario.arrivals == "closed":
        ladder("concurrency", POWERS[:13], number)


def _engine(scenario: Scenario, beside: Collection[str] = ()) -> None:
    heading("Engine", help_of("engine"))
    engine_choice(scenario)
    pools = scenario.split or "workers" in beside
    if "policy" not in beside:
        select("policy")
    if "max_batch" not in beside:
        ladder("max_batch", POWERS[:12], number)
    if scenario.policy == "static":
        ladder("batch_wait_ms", (0.0, *decades(10, 10_000)), duration)
    if pools and "split" not in beside:
        _pools(scenario, beside)
    if scenario.policy != "static":
        _speculation(scenario)
    _caching(scenario, pools)


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
        words_of("spec_by_batch")
        if scenario.draft != "ngram":
            ladder("draft_params_b", DRAFT_SIZES, _size_words)


def _length_words(length: float | None) -> str:
    return "as published" if length is None else quantity(length, "tokens")


def _size_words(params_b: float | None) -> str:
    return "one layer" if params_b is None else f"{number(params_b)} B"


HOSTS = (0.0, *decades(10, 10_000))


def _caching(scenario: Scenario, pools: bool) -> None:
    """Draw what of prompts is kept and reused; quiet where nothing is."""
    used = scenario.prefix_caching == "on" or scenario.prefix_hit_frac > 0
    with st.expander("Prefix cache", expanded=used, key="in_caching", on_change="rerun") as more:
        if not (more.open or used):
            return
        select("prefix_caching")
        if scenario.prefix_caching == "on":
            if pools:
                select("router")
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


def pool_sizes(on_page: bool = True) -> None:
    """Draw the sizes of both pools and the link between them, beside a chart or in the sidebar."""
    ladder("prefill_workers", WORKERS, number, on_page)
    ladder("decode_workers", WORKERS, number, on_page)
    _link(on_page)


def _link(on_page: bool) -> None:
    ladder("kv_link_gb_per_s", LINKS, lambda value: quantity(value, "GB/s"), on_page)


def _pools(scenario: Scenario, beside: Collection[str]) -> None:
    """Draw both pools and the way of the KV cache between them."""
    if "workers" in beside:
        _link(on_page=False)
    elif "pools" not in beside:
        pool_sizes(on_page=False)
    with st.expander("More on the pools", key="in_more_pools", on_change="rerun") as more:
        if more.open:
            ladder("kv_link_latency_ms", (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0), duration)
            select("kv_overlap")
            for column, pool in zip(st.columns(2), ("prefill", "decode"), strict=True):
                with column:
                    _worker(scenario, pool, beside)


def _worker(scenario: Scenario, pool: str, beside: Collection[str]) -> None:
    """Draw how a worker of a pool is laid out; what is empty is as in one pool."""
    if "layout" not in beside:
        count(f"{pool}_tensor_parallel")
        if model_of(scenario).is_moe:
            count(f"{pool}_attention_data_parallel")
            count(f"{pool}_expert_parallel")
    count(f"{pool}_pipeline_parallel")


def _limits(beside: Collection[str]) -> None:
    """Draw the latency limits, and those of single classes."""
    if not BOTH_LIMITS.issubset(beside):
        heading("Latency limits")
        limit_sliders(on_page=False, beside=beside)
    if "class_limits" not in beside:
        _limits_by_class()


def _limits_by_class() -> None:
    """Draw the limits of single classes, where the traffic has several."""
    scenario = st.session_state.scenario
    names = classes_of(scenario)
    if not names:
        return
    seed("in_class_limits", scenario.class_limits)
    st.text_input(
        "Limits by class",
        key="in_class_limits",
        on_change=_write_class_limits,
        placeholder=",".join(f"{name}:1000/30" for name in names),
        help="A class's own limits on TTFT and TPOT in ms, each at the percentile of that class: "
        "`CLASS:TTFT/TPOT`, separated by commas. The other classes have the limits above.",
    )


def _write_class_limits() -> None:
    state.change(class_limits=st.session_state.in_class_limits.strip())


def limit_sliders(on_page: bool = True, beside: Collection[str] = ()) -> None:
    """Draw the latency limits, beside a chart or in the sidebar."""
    for key, low, high in (("slo_ttft_ms", 50, 50_000), ("slo_tpot_ms", 1, 1000)):
        if key not in beside:
            ladder(key, decades(low, high), duration, on_page)


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


def advanced(scenario: Scenario, beside: Collection[str] = ()) -> None:
    """Draw the keys that are seldom changed, on demand."""
    with st.expander("Advanced", key="in_advanced", on_change="rerun") as more:
        if not more.open:
            return
        if "slo_percentile" not in beside:
            ladder("slo_percentile", (50.0, 75.0, 90.0, 95.0, 99.0, 99.9), lambda value: f"p{number(value)}")
        ladder("token_budget", POWERS[6:], lambda value: quantity(value, "tokens"))
        ladder("kv_memory_frac", (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.95, 1.0), percent)
        ladder("kv_block_tokens", POWERS[:8], lambda value: quantity(value, "tokens"))
        select("preemption")
        if scenario.weight_dtype in ("fp8", "native"):
            select("fp8_scaling")
        engine_rules()
        ladder("replicas", POWERS[:7], number)
        if scenario.replicas > 1 and not scenario.split:
            select("router")
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


def heading(text: str, help: str = "") -> None:
    """Draw the heading of a group of controls, with the help of the one that has no label of its own."""
    st.markdown(f"###### {text}", help=help or None)
