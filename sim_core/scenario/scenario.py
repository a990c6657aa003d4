"""The scenario: one frozen, validated value that the whole product passes around.

Every field carries its limits, unit and one line of help. The address bar, the command line, the
widgets and the Method page read that same description, so they cannot disagree.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from sim_core.catalogue.accelerators import DTYPES, Accelerator, accelerator
from sim_core.catalogue.calibrations import (
    CONSTANTS_EXAMPLE,
    NAMES,
    Calibration,
    calibration,
    check_constants,
)
from sim_core.catalogue.models import Model, changed_model, custom_model, model
from sim_core.catalogue.reader import preset_ids
from sim_core.fields.errors import ScenarioError, did_you_mean, shown
from sim_core.fields.field import FieldInfo, check
from sim_core.scenario.lengths import MOST_CV, MOST_TOKENS
from sim_core.scenario.mixes import MIX_EXAMPLE, mix_classes
from sim_core.scenario.profiles import MAX_TEXT, STEP_PROFILE_EXAMPLE, parse_profile
from sim_core.scenario.request_lists import REQUEST_LIST_EXAMPLE, parse_request_list

SCHEMA_VERSION = 1
OTHER_MIX = "4000~0.5/50~0.5"  # read much, answer briefly: the other end of changing traffic


def _field(
    default: Any, group: str, help: str, *, kind: type | None = None, optional: bool = False, **limits: Any
) -> Any:
    """Return a dataclass field that carries its `FieldInfo`; a default of None means "as the preset"."""
    info = FieldInfo(kind or type(default), group, help, optional=optional or default is None, **limits)
    return dataclasses.field(default=default, metadata={"info": info})


def _spec(help: str, unit: str, high: float, low: float = 0.0) -> Any:
    return _field(None, "accelerator", help, kind=float, unit=unit, low=low, high=high)


def _dimension(help: str, high: int) -> Any:
    return _field(None, "model", help, kind=int, low=1, high=high)


def _known_model(name: str) -> None:
    _check_id("model", name, ("custom", *preset_ids("models")))


def _known_accelerator(name: str) -> None:
    _check_id("accelerator", name, preset_ids("accelerators"))


def _check_id(key: str, name: str, known: tuple[str, ...]) -> None:
    """Raise a `ScenarioError` unless a name is a known id."""
    if name not in known:
        raise ScenarioError(f"unknown {key} {shown(name)}. {did_you_mean(name[:60], known)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One configuration to simulate: model, accelerator, layout, traffic, engine and limits.

    A value of None in an override (an accelerator spec, a model dimension) means "as the preset says".

    Raises
    ------
    ScenarioError
        If a value has the wrong type, lies outside its limits or contradicts another one.
    """

    model: str = _field(
        "llama-3.1-8b", "model", "Model preset, or `custom` with its dimensions", reads=_known_model
    )
    layers: int | None = _dimension("Transformer layers", 1000)
    hidden: int | None = _dimension("Hidden size", 200_000)
    heads: int | None = _dimension("Query heads", 4096)
    kv_heads: int | None = _dimension("Key/value heads", 4096)
    head_dim: int | None = _dimension("Size of one head", 4096)
    ffn_dim: int | None = _dimension("Width of the dense feed-forward block", 1_000_000)
    vocab: int | None = _dimension("Vocabulary size", 10_000_000)
    experts: int | None = _dimension("Experts per MoE layer", 10_000)
    experts_per_token: int | None = _dimension("Experts each token visits", 1000)
    expert_ffn_dim: int | None = _dimension("Width of one expert", 1_000_000)
    window_tokens: int | None = _dimension("Sliding window of every layer", 10_000_000)

    accelerator: str = _field("h100-sxm", "accelerator", "Accelerator preset", reads=_known_accelerator)
    bf16_tflop_per_s: float | None = _spec("Dense bf16 peak", "TFLOP/s", 1e7)
    fp8_tflop_per_s: float | None = _spec("Dense fp8 peak", "TFLOP/s", 1e7)
    fp4_tflop_per_s: float | None = _spec("Dense fp4 peak", "TFLOP/s", 1e7)
    hbm_gb_per_s: float | None = _spec("Memory bandwidth", "GB/s", 1e8)
    hbm_gb: float | None = _spec("Memory capacity", "GB", 1e6)
    link_gb_per_s: float | None = _spec("Link bandwidth, one direction, per device", "GB/s", 1e6)
    pcie_gb_per_s: float | None = _spec("Host link bandwidth, one direction", "GB/s", 1e5)
    tdp_w: float | None = _spec("Power per device", "W", 1e6)
    price_usd_per_hour: float | None = _spec("Price per device and hour", "USD/h", 1e5)

    tensor_parallel: int = _field(1, "layout", "Devices that share each layer", low=1, high=1024)
    expert_parallel: int = _field(1, "layout", "Devices over which the experts are spread", low=1, high=1024)
    replicas: int = _field(1, "layout", "Independent copies behind a router", low=1, high=256)
    router: str = _field(
        "least_loaded",
        "layout",
        "How requests are dealt to replicas (in turn under static batches and in a closed loop)",
        choices=("least_loaded", "round_robin"),
    )
    weight_dtype: str = _field(
        "bf16",
        "layout",
        "Precision of weights and their arithmetic; `native` is the published checkpoint's",
        choices=(*DTYPES, "native"),
    )
    kv_dtype: str = _field("bf16", "layout", "Precision of the KV cache", choices=("bf16", "fp8"))

    arrivals: str = _field(
        "poisson",
        "traffic",
        "How requests arrive",
        choices=("poisson", "gamma", "closed", "offline", "trace"),
    )
    arrival_per_s: float = _field(
        12.0, "traffic", "Request rate (open loop)", unit="req/s", low=1e-6, high=1e6
    )
    arrival_cv: float = _field(
        2.0, "traffic", "Variation of the gaps between arrivals (gamma)", low=0.01, high=100.0
    )
    concurrency: int = _field(
        64, "traffic", "Clients that always have one request open (closed loop)", low=1, high=100_000
    )
    request_list: str = _field(
        "",
        "traffic",
        f"Requests of arrivals=trace, ARRIVAL_S:PROMPT:OUTPUT each, such as `{REQUEST_LIST_EXAMPLE}`",
        longest=4000,
        reads=parse_request_list,
        empty=True,
    )
    requests: int = _field(2000, "traffic", "Requests to simulate", low=1, high=5_000_000)
    seed: int = _field(0, "traffic", "Seed of all random draws", low=0, high=2**53)

    prompt_tokens: int = _field(1000, "lengths", "Mean prompt length", unit="tokens", low=1, high=MOST_TOKENS)
    prompt_cv: float = _field(
        0.5, "lengths", "Variation of prompt length (0 = fixed, else lognormal)", low=0.0, high=MOST_CV
    )
    output_tokens: int = _field(250, "lengths", "Mean output length", unit="tokens", low=1, high=MOST_TOKENS)
    output_cv: float = _field(
        0.5, "lengths", "Variation of output length (0 = fixed, else lognormal)", low=0.0, high=MOST_CV
    )
    mix: str = _field(
        "",
        "lengths",
        f"Traffic classes and weights, such as `{MIX_EXAMPLE}`; empty = the one class of the lengths above",
        reads=mix_classes,
        empty=True,
    )

    policy: str = _field(
        "chunked",
        "engine",
        "Scheduling policy; `disaggregated` splits prefill and decode over two pools of workers",
        choices=("static", "prefill_first", "chunked", "disaggregated"),
    )
    max_batch: int = _field(256, "engine", "Most sequences running at once", low=1, high=16_384)
    token_budget: int = _field(8192, "engine", "Most tokens in one step", unit="tokens", low=1, high=262_144)
    batch_wait_ms: float = _field(
        100.0, "engine", "Longest wait to fill a static batch", unit="ms", low=0.0, high=3.6e6
    )
    kv_memory_frac: float = _field(
        0.9, "engine", "Share of device memory the engine may use", low=0.01, high=1.0
    )
    kv_block_tokens: int = _field(16, "engine", "Tokens per KV block", unit="tokens", low=1, high=4096)
    preemption: str = _field(
        "recompute",
        "engine",
        "What happens to a request when KV blocks run out",
        choices=("recompute", "swap"),
    )
    prefill_switch_ms: float | None = _field(
        None,
        "engine",
        "Fixed time that each prompt adds to a step it joins; empty = as the calibration says",
        kind=float,
        unit="ms",
        low=0.0,
        high=10_000.0,
        zero=True,
    )

    prefill_workers: int = _field(4, "pools", "Workers that prefill (disaggregated)", low=1, high=256)
    decode_workers: int = _field(4, "pools", "Workers that decode (disaggregated)", low=1, high=256)
    prefill_tensor_parallel: int | None = _field(
        None, "pools", "Devices of a prefill worker; empty = tensor_parallel", kind=int, low=1, high=1024
    )
    decode_tensor_parallel: int | None = _field(
        None, "pools", "Devices of a decode worker; empty = tensor_parallel", kind=int, low=1, high=1024
    )
    kv_link_gb_per_s: float = _field(
        50.0,
        "pools",
        "Link over which a prefill worker sends KV caches; 50 GB/s are a 400 Gb/s network card",
        unit="GB/s",
        low=1e-3,
        high=1e6,
    )
    kv_link_latency_ms: float = _field(
        1.0, "pools", "Fixed time of sending one KV cache", unit="ms", low=0.0, high=1e5
    )
    kv_overlap: str = _field(
        "off", "pools", "Send layers while the prompt is still computed", choices=("off", "on")
    )

    demand: str = _field(
        "markov",
        "demand",
        "How traffic changes over time (traffic shift): between the lengths above and those of mix_other",
        choices=("steady", "daily", "step", "spike", "markov", "trace"),
    )
    demand_hours: float = _field(
        1.0, "demand", "How long the traffic lasts", unit="h", low=0.001, high=1000.0
    )
    dwell_s: float = _field(
        600.0,
        "demand",
        "Mean time in one state (markov), half a cycle (daily) or length of the spike",
        unit="s",
        low=0.1,
        high=1e7,
    )
    mix_other: str = _field(
        "",
        "demand",
        f"Lengths at the other end of the change, a mix; empty = {OTHER_MIX}",
        reads=mix_classes,
        empty=True,
    )
    mix_swing_frac: float = _field(
        1.0, "demand", "How far the mix swings between both ends; 0 stays half-way", low=0.0, high=1.0
    )
    rate_swing_frac: float = _field(
        0.0,
        "demand",
        "How far the load rises towards the other end and falls towards this one, as a share of its mean",
        low=-0.95,
        high=0.95,
    )
    demand_load_frac: float | None = _field(
        0.8,
        "demand",
        "Share of the workers that the traffic needs, at any mix; empty = arrival_per_s, or the trace's rate",
        optional=True,
        low=0.0,
        high=5.0,
    )

    drain: str = _field(
        "finish",
        "reallocation",
        "What a worker that leaves the decode pool does with its requests",
        choices=("finish", "migrate"),
    )
    init_s: float = _field(17.0, "reallocation", "Start of process and device", unit="s", low=0.0, high=1e5)
    storage_gb_per_s: float = _field(
        7.0, "reallocation", "Bandwidth at which a worker loads its weights", unit="GB/s", low=1e-3, high=1e6
    )
    warm_up_s: float = _field(
        26.0, "reallocation", "Warm-up: graph capture, first kernels", unit="s", low=0.0, high=1e5
    )
    sync_s: float = _field(
        2.5, "reallocation", "Joining the cluster: router, links", unit="s", low=0.0, high=1e5
    )

    control_s: float = _field(
        5.0, "strategy", "How often a strategy looks and decides", unit="s", low=0.1, high=1e5
    )
    observe_s: float = _field(
        60.0, "strategy", "Window over which the reactive strategy observes", unit="s", low=0.1, high=1e6
    )
    threshold_frac: float = _field(
        0.9, "strategy", "Load of the busier pool above which a strategy looks for another split",
        low=0.0, high=10.0,
    )  # fmt: skip
    hysteresis_frac: float = _field(
        0.1, "strategy", "By how much another split must lower that load", low=0.0, high=10.0
    )
    cooldown_s: float = _field(
        120.0, "strategy", "Least time between two decisions to move", unit="s", low=0.0, high=1e6
    )
    forecast_s: float = _field(
        180.0, "strategy", "How far the predictive strategy looks ahead", unit="s", low=0.1, high=1e6
    )
    forecast_error_frac: float = _field(
        0.2, "strategy", "Error of its forecast of each pool's load", low=0.0, high=10.0
    )

    slo_ttft_ms: float = _field(2000.0, "limits", "Limit on TTFT", unit="ms", low=0.01, high=1e8)
    slo_tpot_ms: float = _field(40.0, "limits", "Limit on TPOT", unit="ms", low=0.001, high=1e7)
    slo_percentile: float = _field(
        99.0, "limits", "Percentile that must meet the limits", unit="%", low=50.0, high=99.9
    )

    calibration: str = _field("typical", "method", "Step-time calibration", choices=NAMES)
    constants: str = _field(
        "",
        "method",
        f"Constants of your own in the calibration, in its units, such as `{CONSTANTS_EXAMPLE}`",
        reads=check_constants,
        empty=True,
    )
    step_profile: str = _field(
        "",
        "method",
        "Measured step times in place of the calibration, TOKENS:MS each and what contexts and requests add, "
        f"such as `{STEP_PROFILE_EXAMPLE}`",
        longest=MAX_TEXT,
        reads=parse_profile,
        empty=True,
    )
    warmup_frac: float = _field(
        0.1, "method", "Share of first requests left out of statistics", low=0.0, high=0.9
    )

    def __post_init__(self) -> None:
        for name, info in FIELDS.items():
            check(name, getattr(self, name), info)
        self._check_together()

    def _check_together(self) -> None:
        """Raise a `ScenarioError` if keys that are fine alone contradict each other."""
        if self.tensor_parallel % self.expert_parallel:
            raise ScenarioError(
                f"expert_parallel is {self.expert_parallel} but tensor_parallel is {self.tensor_parallel}: "
                "the experts are spread over the devices of one tensor-parallel group. "
                f"Choose a divisor of {self.tensor_parallel}."
            )
        model_of(self)

    @property
    def max_running(self) -> int:
        """Most sequences that run at once; where prompts join decodes, each needs a token of the budget."""
        shared = self.policy in ("chunked", "disaggregated")
        return min(self.max_batch, self.token_budget) if shared else self.max_batch

    @property
    def split(self) -> bool:
        """Whether prefill and decode have pools of their own; `replicas` and `router` then play no part."""
        return self.policy == "disaggregated"

    @property
    def engines(self) -> int:
        """Engines that decode: replicas, or the workers of the decode pool."""
        return self.decode_workers if self.split else self.replicas

    @property
    def accelerators(self) -> int:
        """Devices in use, all replicas or both pools together."""
        if not self.split:
            return self.tensor_parallel * self.replicas
        sizes = (self.prefill_tensor_parallel, self.decode_tensor_parallel)
        prefill, decode = (self.tensor_parallel if size is None else size for size in sizes)
        return self.prefill_workers * prefill + self.decode_workers * decode

    def replace(self, **changes: Any) -> Scenario:
        """Return a copy with some keys changed; what has changed is checked (a sweep makes thousands)."""
        copy = object.__new__(Scenario)
        for name in FIELDS:
            object.__setattr__(copy, name, getattr(self, name))
        for name, value in changes.items():
            if name not in FIELDS:
                raise ScenarioError(f"unknown key {name!r}. {did_you_mean(name, FIELDS)}")
            check(name, value, FIELDS[name])
            object.__setattr__(copy, name, value)
        copy._check_together()
        return copy

    def as_dict(self) -> dict[str, Any]:
        """Return all keys with their values, in the order of definition."""
        return {name: getattr(self, name) for name in FIELDS}

    def changed(self) -> dict[str, Any]:
        """Return the keys whose values differ from the defaults."""
        return {name: value for name, value in self.as_dict().items() if value != DEFAULTS[name]}


FIELDS: MappingProxyType[str, FieldInfo] = MappingProxyType(
    {field.name: field.metadata["info"] for field in dataclasses.fields(Scenario)}
)
DEFAULTS: MappingProxyType[str, Any] = MappingProxyType(
    {field.name: field.default for field in dataclasses.fields(Scenario)}
)
SPECS: tuple[str, ...] = tuple(  # overrides of the accelerator's datasheet
    name for name, info in FIELDS.items() if info.group == "accelerator" and info.optional
)
DIMENSIONS: tuple[str, ...] = tuple(  # overrides of the model's dimensions
    name for name, info in FIELDS.items() if info.group == "model" and info.optional
)


# --- the records that a scenario names ------------------------------------------------------------


def accelerator_of(scenario: Scenario) -> Accelerator:
    """Return the scenario's accelerator with the scenario's own specs in place of the datasheet's.

    Raises
    ------
    ScenarioError
        If there is no preset of that id.
    """
    part = accelerator(scenario.accelerator)
    changes = _overrides(scenario, "accelerator")
    return dataclasses.replace(part, name=f"{part.name} (changed)", **changes) if changes else part


def model_of(scenario: Scenario) -> Model:
    """Return the scenario's model with the scenario's own dimensions in place of the preset's.

    Raises
    ------
    ScenarioError
        If there is no preset of that id, a custom model lacks a dimension, or dimensions disagree.
    """
    changes = _overrides(scenario, "model")
    if scenario.model == "custom":
        return custom_model(changes)
    item = model(scenario.model)
    return changed_model(item, changes) if changes else item


_NAMES = {"accelerator": SPECS, "model": DIMENSIONS}
_OVERRIDES = {group: attrgetter(*names) for group, names in _NAMES.items()}


def _overrides(scenario: Scenario, group: str) -> dict[str, Any]:
    """Return the set overrides of one group of scenario keys."""
    values = _OVERRIDES[group](scenario)
    if not any(value is not None for value in values):
        return {}
    return {name: value for name, value in zip(_NAMES[group], values, strict=True) if value is not None}


def arithmetic_dtype(scenario: Scenario, part: Accelerator) -> str:
    """Return the precision in which a part multiplies a scenario's weights; theirs where no peak is known."""
    stored = model_of(scenario).stored_dtypes(scenario.weight_dtype)[0]
    try:
        return part.compute_dtype(stored)
    except ScenarioError:
        return stored


def calibration_of(scenario: Scenario) -> Calibration:
    """Return the calibration of a scenario, with the constants of its own."""
    return calibration(scenario.calibration, scenario.constants)
