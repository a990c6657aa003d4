"""The scenario: one frozen, validated value that the whole product passes around.

Every field carries its limits, unit and one line of help. The address bar, the command line, the
widgets and the Method page read that same description, so they cannot disagree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from sim_core.catalogue.accelerators import WEIGHT_DTYPES, Accelerator, accelerator
from sim_core.catalogue.calibrations import (
    CONSTANTS_EXAMPLE,
    NAMES,
    Calibration,
    calibration,
    check_constants,
)
from sim_core.catalogue.engines import ServingEngine, engine
from sim_core.catalogue.models import OWN, Model, changed_model, custom_model, model, own_model
from sim_core.catalogue.models.own import EXAMPLE as OWN_EXAMPLE
from sim_core.catalogue.models.own import MOST_CHARACTERS as MOST_OWN_CHARACTERS
from sim_core.catalogue.prices import PRICES_EXAMPLE, parse_prices
from sim_core.catalogue.reader import check_id, listed_by
from sim_core.fields.described import fields_of
from sim_core.fields.errors import ScenarioError, check_known, shown
from sim_core.fields.field import FieldInfo, check
from sim_core.scenario.keys.engine import keys_of
from sim_core.scenario.keys.parallel import ParallelKeys
from sim_core.scenario.lengths import MOST_CV, MOST_TOKENS
from sim_core.scenario.mixes import (
    LIMITS_EXAMPLE,
    MIX_EXAMPLE,
    class_limits,
    class_names,
    limits_in,
    mix_classes,
)
from sim_core.scenario.own_bands import OWN_BANDS_EXAMPLE, parse_own_bands
from sim_core.scenario.profiles import MAX_TEXT, STEP_PROFILE_EXAMPLE, parse_profile
from sim_core.scenario.request_lists import REQUEST_LIST_EXAMPLE, parse_request_list

SCHEMA_VERSION = 1

GROUPS = (
    *(
        "model",
        "accelerator",
        "layout",
        "traffic",
        "lengths",
        "caching",
        "engine",
        "speculation",
        "pools",
        "demand",
        "reallocation",
    ),
    *("strategy", "limits", "method"),
)
_model, _accelerator, _layout, _traffic = map(keys_of, ("model", "accelerator", "layout", "traffic"))
_lengths, _pools, _limits, _method = map(keys_of, ("lengths", "pools", "limits", "method"))


def _spec(name: str) -> Any:
    """Return the override of an accelerator's spec, with the description that the datasheet's has."""
    spec = fields_of(Accelerator)[name]
    return _accelerator(spec.label, spec.help, None, unit=spec.unit, low=spec.low, high=spec.high)


def _dimension(help: str, high: int) -> Any:
    return _model("", help, None, low=1, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario(ParallelKeys):
    """One configuration to simulate: model, accelerator, layout, traffic, engine and limits.

    A value of None in an override (an accelerator spec, a model dimension) means "as the preset says".

    Every key is taken as it is given, and the others stay at their defaults; `load_scenario(engine="sglang")`
    also sets what the choice of an engine sets (`policy`, `token_budget`), as controls and links do.

    Raises
    ------
    ScenarioError
        If a value has the wrong type, lies outside its limits or contradicts another one.
    """

    model: str = _model(
        "Model",
        "What is served: a preset, `own` with own_model, or `custom` with its dimensions",
        "llama-3.1-8b",
        reads=partial(check_id, "models", others=(OWN, "custom")),
    )
    layers: int | None = _dimension(
        "How many blocks of attention and feed-forward follow one another", high=1000
    )
    hidden: int | None = _dimension("Width of what one block hands to the next (hidden size)", high=200_000)
    heads: int | None = _dimension("Query heads of attention in each layer", high=4096)
    kv_heads: int | None = _dimension("Key/value heads", high=4096)
    head_dim: int | None = _dimension("Size of one head", high=4096)
    ffn_dim: int | None = _dimension("Width of the dense feed-forward block", high=1_000_000)
    vocab: int | None = _dimension("Vocabulary size", high=10_000_000)
    experts: int | None = _dimension("Experts per MoE layer", high=10_000)
    experts_per_token: int | None = _dimension("Experts each token visits", high=1000)
    expert_ffn_dim: int | None = _dimension("Width of one expert", high=1_000_000)
    window_tokens: int | None = _dimension("Sliding window of every layer", high=10_000_000)
    own_model: str = _model(
        "",
        "A model of your own (model=own), as a `config.json` describes it: its dimensions, then its kinds of "
        f"layers, such as `{OWN_EXAMPLE}`",
        "",
        longest=MOST_OWN_CHARACTERS,
        reads=own_model,
    )

    accelerator: str = _accelerator(
        "Accelerator",
        "Device that serves, as its datasheet prints it: a preset",
        "h100-sxm",
        reads=partial(check_id, "accelerators"),
    )
    bf16_tflop_per_s: float | None = _spec("bf16_tflop_per_s")
    fp8_tflop_per_s: float | None = _spec("fp8_tflop_per_s")
    fp4_tflop_per_s: float | None = _spec("fp4_tflop_per_s")
    int8_top_per_s: float | None = _spec("int8_top_per_s")
    hbm_gb_per_s: float | None = _spec("hbm_gb_per_s")
    hbm_gb: float | None = _spec("hbm_gb")
    link_gb_per_s: float | None = _spec("link_gb_per_s")
    pcie_gb_per_s: float | None = _spec("pcie_gb_per_s")
    node_devices: int | None = _spec("node_devices")
    node_link_gb_per_s: float | None = _spec("node_link_gb_per_s")
    tdp_w: float | None = _spec("tdp_w")
    price_usd_per_hour: float | None = _spec("price_usd_per_hour")
    prices: str = _accelerator(
        "",
        "Prices of your own per device and hour, of any accelerators (price_usd_per_hour goes first), such "
        f"as `{PRICES_EXAMPLE}`",
        "",
        longest=3000,
        reads=parse_prices,
    )

    tensor_parallel: int = _layout("Tensor parallel", "Devices that share each layer", 1, low=1, high=1024)
    expert_parallel: int = _layout(
        "Expert parallel", "Devices over which the experts are spread", 1, low=1, high=1024
    )
    replicas: int = _layout("Replicas", "Independent copies behind a router", 1, low=1, high=256)
    router: str = _layout(
        "Router",
        "How requests are dealt to replicas (in turn under static batches and in a closed loop), and to "
        "prefill workers with a prefix cache",
        "least_loaded",
        choices=("least_loaded", "round_robin", "session"),
    )
    weight_dtype: str = _layout(
        "Weights",
        "Precision of weights and their arithmetic (int4: stored alone, computed in bf16); `native` is the "
        "published checkpoint's",
        "bf16",
        choices=(*WEIGHT_DTYPES, "native"),
    )
    fp8_scaling: str = _layout(
        "Scales of 8-bit weights",
        "What shares a scale: a whole matrix or each block of it; empty = as the model's checkpoint",
        "",
        choices={"": "as the checkpoint", "tensor": "per tensor", "block": "per block"},
    )
    kv_dtype: str = _layout(
        "KV cache", "Format in which keys and values of the context are kept", "bf16", choices=("bf16", "fp8")
    )

    arrivals: str = _traffic(
        "Arrivals",
        "When requests come: at random, in bursts, after answers, all at once",
        "poisson",
        choices={
            "poisson": "Poisson",
            "gamma": "bursty",
            "closed": "closed loop",
            "offline": "all at once",
            "trace": "trace",
        },
    )
    trace_times: str = _traffic(
        "Times of a trace",
        "As recorded, or scaled to the request rate; then a trace shorter than `requests` begins anew",
        "recorded",
        choices={"recorded": "as recorded", "scaled": "scaled to the rate"},
    )
    arrival_per_s: float = _traffic(
        "Request rate",
        "Requests that come in a second, answered or not (open loop)",
        12.0,
        unit="req/s",
        low=1e-6,
        high=1e6,
    )
    arrival_cv: float = _traffic(
        "Burstiness", "Variation of the gaps between arrivals (gamma)", 2.0, low=0.01, high=100.0
    )
    concurrency: int = _traffic(
        "Clients", "Clients that always have one request open (closed loop)", 64, low=1, high=100_000
    )
    request_list: str = _traffic(
        "",
        f"Requests of arrivals=trace, ARRIVAL_S:PROMPT:OUTPUT each, such as `{REQUEST_LIST_EXAMPLE}`",
        "",
        longest=4000,
        reads=parse_request_list,
    )
    requests: int = _traffic(
        "Requests per point", "How many are drawn and simulated", 2000, low=1, high=5_000_000
    )
    seed: int = _traffic("Seed", "Seed of all random draws", 0, low=0, high=2**53)

    prompt_tokens: int = _lengths(
        "Prompt length", "Tokens of a prompt, in the mean", 1000, unit="tokens", low=1, high=MOST_TOKENS
    )
    prompt_cv: float = _lengths(
        "Prompt variation",
        "Variation of prompt length (0 = fixed, else lognormal)",
        0.5,
        low=0.0,
        high=MOST_CV,
    )
    output_tokens: int = _lengths(
        "Answer length", "Tokens of an answer, in the mean", 250, unit="tokens", low=1, high=MOST_TOKENS
    )
    output_cv: float = _lengths(
        "Answer variation",
        "Variation of output length (0 = fixed, else lognormal)",
        0.5,
        low=0.0,
        high=MOST_CV,
    )
    mix: str = _lengths(
        "",
        f"Traffic classes and weights, such as `{MIX_EXAMPLE}`; empty = the one class of the lengths above",
        "",
        reads=mix_classes,
    )

    prefill_workers: int = _pools(
        "Prefill workers", "How many read prompts alone (disaggregated)", 4, low=1, high=256
    )
    decode_workers: int = _pools(
        "Decode workers", "How many write answers alone (disaggregated)", 4, low=1, high=256
    )
    prefill_tensor_parallel: int | None = _pools(
        "Devices of a prefill worker",
        "Devices of a prefill worker; empty = tensor_parallel",
        None,
        low=1,
        high=1024,
    )
    decode_tensor_parallel: int | None = _pools(
        "Devices of a decode worker",
        "Devices of a decode worker; empty = tensor_parallel",
        None,
        low=1,
        high=1024,
    )
    kv_link_gb_per_s: float = _pools(
        "KV link",
        "Link over which a prefill worker, or each of its ranks, sends KV caches; 50 GB/s: a 400 Gb/s card",
        50.0,
        unit="GB/s",
        low=1e-3,
        high=1e6,
    )
    kv_link_latency_ms: float = _pools(
        "KV latency", "Fixed time of sending one KV cache", 1.0, unit="ms", low=0.0, high=1e5
    )
    kv_overlap: str = _pools(
        "Layer-wise sending", "Send layers while the prompt is still computed", "off", choices=("off", "on")
    )

    slo_ttft_ms: float = _limits(
        "First token within",
        "Longest time to the first token (TTFT) that is still good",
        2000.0,
        unit="ms",
        low=0.01,
        high=1e8,
    )
    slo_tpot_ms: float = _limits(
        "Each token within",
        "Longest time per token (TPOT) that is still good",
        40.0,
        unit="ms",
        low=0.001,
        high=1e7,
    )
    class_limits: str = _limits(
        "",
        "Limits of single classes of a mix, CLASS:TTFT_MS/TPOT_MS, at the percentile of the class itself, "
        f"such as `{LIMITS_EXAMPLE}`; the other classes have the limits above",
        "",
        reads=class_limits,
    )
    slo_percentile: float = _limits(
        "Percentile", "Share of requests that must keep the limits", 99.0, unit="%", low=50.0, high=99.9
    )

    calibration: str = _method(
        "Calibration",
        "Which measured share of the datasheet steps reach",
        "typical",
        choices=dict(zip(NAMES, ("typical", "datasheet", "benchmark submission"), strict=True)),
    )
    constants: str = _method(
        "",
        f"Constants of your own in the calibration, in its units, such as `{CONSTANTS_EXAMPLE}`",
        "",
        reads=check_constants,
    )
    step_profile: str = _method(
        "",
        "Measured step times in place of the calibration, TOKENS:MS each and what contexts and requests add, "
        f"such as `{STEP_PROFILE_EXAMPLE}`",
        "",
        longest=MAX_TEXT,
        reads=parse_profile,
    )
    own_bands: str = _method(
        "",
        "How far off your own constants or step times have been on points that no fit had seen, such as "
        f"`{OWN_BANDS_EXAMPLE}`",
        "",
        reads=parse_own_bands,
    )
    warmup_frac: float = _method(
        "Warm-up left out",
        "Share of first requests left out of statistics; 0 counts all, as tools do, a closed loop's last too",
        0.1,
        low=0.0,
        high=0.9,
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
        if self.own_model and self.model != OWN:
            raise ScenarioError(
                f"own_model is given, but model is {self.model}. Set model={OWN}, or leave own_model out."
            )
        self._check_class_limits()
        self.check_drafts()
        self.check_stages()
        model_of(self)

    def _check_class_limits(self) -> None:
        """Refuse limits of classes that the mix does not have."""
        known = class_names(self.mix) if self.class_limits else ()
        for name, _ in class_limits(self.class_limits):
            if name not in known:
                raise ScenarioError(
                    f"class_limits names {shown(name)}, which the mix does not have. Its classes are "
                    f"{', '.join(known)}."
                )

    @property
    def max_running(self) -> int:
        """Most sequences that run at once; where prompts join decodes, each needs a token of the budget, and
        one for each draft.
        """
        shared = self.policy in ("chunked", "disaggregated")
        return self.decodes_within(self.token_budget, self.max_batch) if shared else self.max_batch

    @property
    def split(self) -> bool:
        """Whether prefill and decode have pools of their own; `replicas` then plays no part, and `router`
        only with a prefix cache.
        """
        return self.policy == "disaggregated"

    @property
    def engines(self) -> int:
        """Engines that decode: replicas, or the workers of the decode pool."""
        return self.decode_workers if self.split else self.replicas

    @property
    def accelerators(self) -> int:
        """Devices in use, all replicas or both pools together."""
        if not self.split:
            return self.tensor_parallel * self.pipeline_parallel * self.replicas
        sizes = (self.prefill_tensor_parallel, self.decode_tensor_parallel)
        prefill, decode = (self.tensor_parallel if size is None else size for size in sizes)
        prefill, decode = prefill * self.prefill_stages, decode * self.decode_stages
        return self.prefill_workers * prefill + self.decode_workers * decode

    def replace(self, **changes: object) -> Scenario:
        """Return a copy with some keys changed; what has changed is checked (a sweep makes thousands).

        Limits of classes go with their classes where another mix lacks these.
        """
        copy = object.__new__(Scenario)
        for put, value in zip(_PUTS, _VALUES(self), strict=True):
            put(copy, value)
        check_known(changes, FIELDS, listed_by("keys"))
        if self.class_limits and "mix" in changes:
            changes = {"class_limits": limits_in(self.class_limits, str(changes["mix"]))} | changes
        for name, value in changes.items():
            check(name, value, FIELDS[name])
            object.__setattr__(copy, name, value)
        copy._check_together()
        return copy

    def as_dict(self) -> dict[str, Any]:
        """Return all keys with their values, in the order of definition."""
        return {name: getattr(self, name) for name in FIELDS}

    def changed(self) -> dict[str, Any]:
        """Return the keys whose values differ from the defaults, or from what the engine sets."""
        usual = DEFAULTS | set_by_engine(self.engine)
        return {name: value for name, value in self.as_dict().items() if value != usual[name]}


FIELDS: Mapping[str, FieldInfo] = MappingProxyType(
    dict(sorted(fields_of(Scenario).items(), key=lambda item: GROUPS.index(item[1].group)))
)
_VALUES = attrgetter(*FIELDS)
_PUTS = tuple(getattr(Scenario, name).__set__ for name in FIELDS)  # past the frozen class
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Scenario)}
DEFAULTS: MappingProxyType[str, Any] = MappingProxyType({name: _DEFAULTS[name] for name in FIELDS})
SPECS: tuple[str, ...] = tuple(  # overrides of the accelerator's datasheet
    name for name, info in FIELDS.items() if info.group == "accelerator" and info.optional
)
DIMENSIONS: tuple[str, ...] = tuple(  # overrides of the model's dimensions
    name for name, info in FIELDS.items() if info.group == "model" and info.optional
)


# --- the records that a scenario names ------------------------------------------------------------


def set_by_engine(name: str) -> dict[str, Any]:
    """Return the keys that the choice of an engine sets, with their values; its others wait for it, empty."""
    return {key: getattr(engine(name), key) if name else DEFAULTS[key] for key in ("policy", "token_budget")}


def named_engine(scenario: Scenario) -> ServingEngine | None:
    """Return the scenario's engine, if it names one."""
    return engine(scenario.engine) if scenario.engine else None


def admission_of(scenario: Scenario) -> str:
    """Return the rule by which a scenario's engine admits requests."""
    named = named_engine(scenario)
    return scenario.admission or (named.admission if named else "full_prompt")


def first_token_lag_of(scenario: Scenario) -> float:
    """Return how late a scenario's engine shows first tokens. [decode steps]"""
    if scenario.first_token_lag_steps is not None:
        return scenario.first_token_lag_steps
    named = named_engine(scenario)
    if named is None:
        return 0.0
    item = model_of(scenario)
    return named.lag_steps(item.is_moe, item.latent, scenario.split)


def steps_to_first_seen(scenario: Scenario) -> float:
    """Return after how many decode steps a client sees a first token: late, and with those sent along."""
    named = named_engine(scenario)
    at_once = named is not None and named.sends_first_token_at_once
    return first_token_lag_of(scenario) + (0 if at_once else scenario.stream_interval_steps - 1)


def accelerator_of(scenario: Scenario) -> Accelerator:
    """Return the scenario's accelerator with the scenario's own specs in place of the datasheet's.

    Raises
    ------
    ScenarioError
        If there is no preset of that id.
    """
    changes = _overrides(scenario, "accelerator")
    part = at_list_price(scenario)
    return part.changed(changes) if changes else part


def at_list_price(scenario: Scenario) -> Accelerator:
    """Return a scenario's accelerator as its datasheet has it, at the price that `prices` gives."""
    name, prices = scenario.accelerator, scenario.prices
    return _at_own_price(name, prices) if prices else accelerator(name)


@lru_cache(maxsize=256)
def _at_own_price(name: str, prices: str) -> Accelerator:
    part = accelerator(name)
    price = parse_prices(prices).get(name)
    if price is None:
        return part
    return dataclasses.replace(part, price_usd_per_hour=price, price_note="your own price")


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
    item = _own(scenario) if scenario.model == OWN else model(scenario.model)
    return changed_model(item, changes) if changes else item


def _own(scenario: Scenario) -> Model:
    """Return the model that a scenario describes itself."""
    if not scenario.own_model:
        raise ScenarioError(
            "model is own, which also needs own_model; give a config.json, on the command line "
            "with --model FILE, or choose a preset."
        )
    return own_model(scenario.own_model)


_NAMES = {"accelerator": SPECS, "model": DIMENSIONS}
_OVERRIDES = {group: attrgetter(*names) for group, names in _NAMES.items()}


def _overrides(scenario: Scenario, group: str) -> dict[str, Any]:
    """Return the set overrides of one group of scenario keys."""
    values = _OVERRIDES[group](scenario)
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
