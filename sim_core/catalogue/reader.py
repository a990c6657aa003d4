"""Presets: TOML files to checked, read-only dataclasses.

The file name is the id. Numbers stand in the units a datasheet prints; the conversion to base units
happens here, once, in properties such as `Accelerator.hbm_byte_per_s`.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from sim_core.scenario.scenario import (
    DIMENSIONS,
    DTYPES,
    SPECS,
    FieldInfo,
    Scenario,
    ScenarioError,
    did_you_mean,
    shown,
)
from sim_core.scenario.scenario import check as check_value

PRESETS = Path(__file__).parent.parent.parent / "presets"
GIGA = 1e9
TERA = 1e12
UNKNOWN_MAX_POSITION = 10_000_000
CONFIDENCES = ("high", "medium", "low")
MAX_QUANTILES = 256
CUSTOM_NEEDS = ("layers", "hidden", "heads", "ffn_dim", "vocab")
Preset = TypeVar("Preset")


def _key(kind: type, help: str, *, default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """Return a dataclass field that carries its limits; a key without a default must be in the file."""
    info = FieldInfo(kind, "", help, optional=default is None, **limits)
    return dataclasses.field(default=default, metadata={"info": info})


def _text(help: str, default: Any = dataclasses.MISSING, choices: tuple[str, ...] = ()) -> Any:
    return _key(str, help, default=default, choices=choices)


def _rate(help: str, unit: str, high: float, default: Any = None) -> Any:
    return _key(float, help, default=default, unit=unit, low=0.0, high=high)


def _count(help: str, high: int = 10_000_000, low: int = 0, default: Any = 0) -> Any:
    return _key(int, help, default=default, low=low, high=high)


def _required_count(help: str, high: int) -> Any:
    return _key(int, help, low=1, high=high)


def _tokens(help: str) -> Any:
    return _key(float, help, unit="tokens", low=0.0, high=1e7)


def _limit_ms(help: str) -> Any:
    return _key(float, help, unit="ms", low=0.0, high=1e8)


def _ratio(help: str) -> Any:
    return _key(float, help, default=None, low=0.0, high=100.0, zero=True)


def _texts(help: str) -> Any:
    return _key(list, help)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One accelerator as its datasheet prints it: dense peaks, decimal units, one device.

    A spec the source does not give is None. `flop_per_s` says what is used instead, or that a figure
    is missing.
    """

    id: str
    name: str = _text("Name")
    vendor: str = _text("Vendor")
    bf16_tflop_per_s: float | None = _rate("Dense bf16 peak", "TFLOP/s", 1e7)
    fp8_tflop_per_s: float | None = _rate("Dense fp8 peak", "TFLOP/s", 1e7)
    fp4_tflop_per_s: float | None = _rate("Dense fp4 peak", "TFLOP/s", 1e7)
    int8_top_per_s: float | None = _rate("Dense int8 peak", "TOP/s", 1e7)
    hbm_gb_per_s: float = _rate("Memory bandwidth", "GB/s", 1e8, default=dataclasses.MISSING)
    hbm_gb: float = _rate("Memory capacity", "GB", 1e6, default=dataclasses.MISSING)
    link_gb_per_s: float | None = _rate("Link bandwidth, one direction, per device", "GB/s", 1e6)
    interconnect: str = _text("Link between devices", "")
    pcie_gb_per_s: float = _rate("Host link bandwidth, one direction", "GB/s", 1e5, default=32.0)
    tdp_w: float | None = _rate("Power per device", "W", 1e6)
    year: int = _key(int, "Year of introduction", low=2000, high=2100)
    price_usd_per_hour: float | None = _rate("Price per device and hour", "USD/h", 1e5)
    price_note: str = _text("Where the price comes from", "")
    sram_mb: float | None = _rate("Cache or on-chip memory", "MB", 1e9)
    confidence: str = _text("How well the figures are known", choices=CONFIDENCES)
    announced: bool = _key(bool, "Figures announced, not measured by others", default=False)
    source: str = _text("Where the figures come from")
    notes: str = _text("What to know", "")

    @property
    def hbm_bytes(self) -> float:
        """Memory capacity. [bytes]"""
        return self.hbm_gb * GIGA

    @property
    def memory_on_chip(self) -> bool:
        """Whether the memory is the on-chip one: SRAM, and no HBM beside it."""
        return self.sram_mb is not None and self.sram_mb >= 1000 * self.hbm_gb

    @property
    def hbm_byte_per_s(self) -> float:
        """Memory bandwidth. [bytes/s]"""
        return self.hbm_gb_per_s * GIGA

    @property
    def pcie_byte_per_s(self) -> float:
        """Host link bandwidth, one direction. [bytes/s]"""
        return self.pcie_gb_per_s * GIGA

    @property
    def link_byte_per_s(self) -> float:
        """Link bandwidth per device, one direction; over the host link where no other is known. [bytes/s]"""
        return (self.link_gb_per_s or self.pcie_gb_per_s) * GIGA

    @property
    def link_name(self) -> str:
        """What carries traffic between devices, in words."""
        return (self.interconnect or "direct link") if self.link_gb_per_s else "PCIe (no direct link known)"

    def compute_dtype(self, dtype: str) -> str:
        """Return the precision in which weights of `dtype` are multiplied here.

        Without hardware for a narrow format its weights are widened first: fp4 to fp8, fp8 to bf16.

        Raises
        ------
        ScenarioError
            If no peak is known for `dtype` or any wider format.
        """
        for wider in reversed(DTYPES[: DTYPES.index(dtype) + 1]):
            if getattr(self, f"{wider}_tflop_per_s") is not None:
                return wider
        known = [narrow for narrow in DTYPES if getattr(self, f"{narrow}_tflop_per_s") is not None]
        other = f" or choose weight_dtype={known[0]}" if known else ""
        raise ScenarioError(f"{self.name} has no {dtype} figure; set {dtype}_tflop_per_s{other}.")

    def flop_per_s(self, dtype: str) -> float:
        """Return the dense peak at which weights of `dtype` are multiplied. [FLOP/s]"""
        return getattr(self, f"{self.compute_dtype(dtype)}_tflop_per_s") * TERA

    @property
    def attention_dtype(self) -> str:
        """Precision of attention arithmetic: bf16, or the widest format with a known peak."""
        for dtype in DTYPES:
            if getattr(self, f"{dtype}_tflop_per_s") is not None:
                return dtype
        return self.compute_dtype("bf16")

    @property
    def attention_flop_per_s(self) -> float:
        """Dense peak of attention arithmetic. [FLOP/s]"""
        return getattr(self, f"{self.attention_dtype}_tflop_per_s") * TERA

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of a prediction for this part should know."""
        found = []
        if self.announced:
            found.append(f"{self.name}: figures are announced, not measured by others.")
        peaks = [getattr(self, f"{dtype}_tflop_per_s") for dtype in DTYPES]
        if peaks[0] is None and any(peaks):
            found.append(
                f"{self.name} has no bf16 figure: attention is computed at its {self.attention_dtype} peak, "
                "an optimistic bound."
            )
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One transformer by its dimensions; parameter and KV sizes are computed from them.

    A count of 0 means "has none": `experts` = 0 is a dense model, `window_layers` = 0 has no sliding
    window. Attention is `full` (every key and value head cached: MHA, GQA, MQA) or `mla` (one latent
    vector per token).

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2: A strong, economical, and efficient mixture-of-experts language
       model", 2024, section 2.1 (multi-head latent attention).
    """

    id: str
    name: str = _text("Name")
    family: str = _text("Family")
    layers: int = _required_count("Transformer layers", 1000)
    hidden: int = _required_count("Hidden size", 200_000)
    heads: int = _required_count("Query heads", 4096)
    kv_heads: int = _count("Key/value heads (full attention)", 4096)
    head_dim: int = _count("Size of one head (full attention)", 4096)
    ffn_dim: int = _count("Width of the dense feed-forward block")
    vocab: int = _required_count("Vocabulary size", 10_000_000)
    tied_embeddings: bool = _key(bool, "One matrix for embedding and LM head", default=False)
    attention: str = _text("Kind of attention", "full", ("full", "mla"))
    gated_mlp: bool = _key(bool, "Three matrices (SwiGLU, GeGLU) instead of two", default=True)
    window_tokens: int = _count("Sliding window or chunk of attention")
    window_layers: int = _count("Layers with that window", 1000)
    linear_attention_layers: int = _count("Layers with linear attention, without a KV cache", 1000)
    experts: int = _count("Experts per MoE layer", 10_000)
    experts_per_token: int = _count("Experts each token visits", 1000)
    shared_experts: int = _count("Experts every token visits", 1000)
    expert_ffn_dim: int = _count("Width of one expert", 1_000_000)
    shared_expert_ffn_dim: int = _count("Width of one shared expert; 0 = as the others", 1_000_000)
    first_dense_layers: int = _count("Layers before the first MoE layer", 1000)
    moe_every: int = _count("Every n-th of the other layers is MoE", 1000, low=1, default=1)
    mla_q_lora: int = _count("MLA: rank of the query projection; 0 = full rank", 200_000)
    mla_kv_lora: int = _count("MLA: rank of the latent KV vector", 200_000)
    mla_qk_nope: int = _count("MLA: head size of the compressed part of queries and keys", 4096)
    mla_qk_rope: int = _count("MLA: head size of the rotary part of queries and keys", 4096)
    mla_v: int = _count("MLA: head size of values", 4096)
    max_position: int = _required_count("Longest sequence", 100_000_000)
    total_params_b: float | None = _rate("Published parameters", "10^9", 1e6)
    active_params_b: float | None = _rate("Published active parameters", "10^9", 1e6)
    native_weight_dtype: str = _text("What the published checkpoint stores", "bf16", DTYPES)
    native_expert_dtype: str = _text("What it stores for experts", "bf16", DTYPES)
    confidence: str = _text("How well the dimensions are known", choices=CONFIDENCES)
    not_modelled: str = _text("What predictions leave out", "")
    source: str = _text("Where the dimensions come from")
    notes: str = _text("What to know", "")

    def __post_init__(self) -> None:
        _check_attention(self)
        _check_feed_forward(self)

    @property
    def is_moe(self) -> bool:
        """Whether any layer has experts."""
        return self.experts > 0

    @property
    def moe_layers(self) -> int:
        """Layers with experts."""
        return (self.layers - self.first_dense_layers) // self.moe_every if self.is_moe else 0

    @property
    def dense_layers(self) -> int:
        """Layers with a dense feed-forward block."""
        return self.layers - self.moe_layers

    @property
    def kv_layers(self) -> int:
        """Layers that keep a KV cache."""
        return self.layers - self.linear_attention_layers

    @property
    def full_layers(self) -> int:
        """Layers whose attention sees the whole context."""
        return self.kv_layers - self.window_layers

    @property
    def attention_params(self) -> int:
        """Parameters of the attention projections of one layer."""
        if self.attention == "full":
            return 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim
        query_dim = self.heads * (self.mla_qk_nope + self.mla_qk_rope)
        query = self.mla_q_lora * (self.hidden + query_dim) if self.mla_q_lora else self.hidden * query_dim
        latent = self.hidden * self.kv_elements
        expand = self.mla_kv_lora * self.heads * (self.mla_qk_nope + self.mla_v)
        return query + latent + expand + self.heads * self.mla_v * self.hidden

    @property
    def dense_ffn_params(self) -> int:
        """Parameters of the feed-forward block of one dense layer."""
        return self._ffn_matrices * self.hidden * self.ffn_dim

    @property
    def expert_params(self) -> int:
        """Parameters of one routed expert of one layer."""
        return self._ffn_matrices * self.hidden * self.expert_ffn_dim

    @property
    def shared_expert_params(self) -> int:
        """Parameters of all shared experts of one MoE layer."""
        width = self.shared_expert_ffn_dim or self.expert_ffn_dim
        return self._ffn_matrices * self.hidden * width * self.shared_experts

    @property
    def router_params(self) -> int:
        """Parameters of the router of one MoE layer."""
        return self.hidden * self.experts

    @property
    def embedding_params(self) -> int:
        """Parameters of one vocabulary matrix: the embedding table, and as many in the LM head."""
        return self.vocab * self.hidden

    @property
    def total_params(self) -> int:
        """All parameters, biases and norms left out."""
        return self._common_params + self.moe_layers * self.experts * self.expert_params

    @property
    def active_params(self) -> int:
        """Parameters one token uses, the embedding table included, biases and norms left out."""
        return self._common_params + self.moe_layers * self.experts_per_token * self.expert_params

    @property
    def kv_elements(self) -> int:
        """Numbers one token adds to the KV cache of one layer."""
        if self.attention == "mla":
            return self.mla_kv_lora + self.mla_qk_rope
        return 2 * self.kv_heads * self.head_dim

    def kv_bytes_per_token(self, element_bytes: float = 2) -> float:
        """Return what one token adds to the KV cache of all layers, windows not yet cut off. [bytes]"""
        return self.kv_layers * self.kv_elements * element_bytes

    def stored_dtypes(self, weight_dtype: str) -> tuple[str, str]:
        """Return the precision of the weights, and of the routed experts, under `weight_dtype`."""
        if weight_dtype == "native":
            return self.native_weight_dtype, self.native_expert_dtype
        return weight_dtype, weight_dtype

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of a prediction for this model should know."""
        return (f"{self.name}: not modelled: {self.not_modelled}.",) if self.not_modelled else ()

    @property
    def _ffn_matrices(self) -> int:
        return 3 if self.gated_mlp else 2

    @property
    def _common_params(self) -> int:
        """Parameters every token uses: all but the routed experts."""
        moe_layer = self.shared_expert_params + self.router_params
        return (
            self.embedding_params * (1 if self.tied_embeddings else 2)
            + self.layers * self.attention_params
            + self.dense_layers * self.dense_ffn_params
            + self.moe_layers * moe_layer
        )


def _check_attention(model: Model) -> None:
    """Raise a `ScenarioError` where the dimensions of attention contradict one another."""
    needs = ("mla_kv_lora", "mla_qk_nope", "mla_qk_rope", "mla_v")
    needs = needs if model.attention == "mla" else ("kv_heads", "head_dim")
    missing = [name for name in needs if not getattr(model, name)]
    if missing:
        raise ScenarioError(f"{model.name} has {model.attention} attention but no {missing[0]}; give it.")
    if model.attention == "full" and model.heads % model.kv_heads:
        raise ScenarioError(
            f"{model.name} has {model.heads} heads and {model.kv_heads} kv_heads; each key/value head serves "
            f"the same number of query heads. Choose kv_heads that divides {model.heads}."
        )
    if bool(model.window_tokens) != bool(model.window_layers):
        raise ScenarioError(f"{model.name} needs both window_tokens and window_layers, or neither.")
    if model.window_layers + model.linear_attention_layers > model.layers:
        raise ScenarioError(
            f"{model.name} has {model.layers} layers but {model.window_layers} with a window and "
            f"{model.linear_attention_layers} with linear attention; lower those."
        )


def _check_feed_forward(model: Model) -> None:
    """Raise a `ScenarioError` where the dimensions of the feed-forward blocks contradict one another."""
    for name in ("experts_per_token", "expert_ffn_dim"):
        if bool(getattr(model, name)) != model.is_moe:
            raise ScenarioError(
                f"{model.name} needs experts, experts_per_token and expert_ffn_dim all given, or none."
            )
    if model.experts_per_token > model.experts:
        raise ScenarioError(
            f"{model.name}: experts_per_token is {model.experts_per_token} but there are {model.experts} "
            f"experts. Choose at most {model.experts}."
        )
    if model.first_dense_layers > model.layers:
        raise ScenarioError(
            f"{model.name} has {model.layers} layers but first_dense_layers is {model.first_dense_layers}."
        )
    if model.dense_layers and not model.ffn_dim:
        raise ScenarioError(f"{model.name} has {model.dense_layers} dense layers but no ffn_dim; give it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPreset:
    """Prompt and output lengths of one kind of traffic.

    Either parametric (mean and cv; lognormal, or fixed where cv is 0) or empirical (quantiles at
    `probabilities`, linear between). `rank_correlation` ties prompt and output of one request together.
    """

    id: str
    title: str = _text("Name")
    prompt_tokens: float | None = _rate("Mean prompt length", "tokens", 1e6)
    prompt_cv: float = _key(float, "Variation of prompt length", default=0.0, low=0.0, high=10.0)
    output_tokens: float | None = _rate("Mean output length", "tokens", 1e6)
    output_cv: float = _key(float, "Variation of output length", default=0.0, low=0.0, high=10.0)
    probabilities: tuple[float, ...] = _key(tuple, "Where the quantiles stand", default=(), low=0.0, high=1.0)
    prompt_quantiles: tuple[float, ...] = _key(tuple, "Prompt lengths", default=(), low=0.0, high=1e7)
    output_quantiles: tuple[float, ...] = _key(tuple, "Output lengths", default=(), low=0.0, high=1e7)
    rank_correlation: float = _key(float, "Spearman correlation", default=0.0, low=-0.99, high=0.99)
    source: str = _text("Where the lengths come from")
    licence: str = _text("Licence of the source", "")
    citation: str = _text("What to cite", "")
    notes: str = _text("What to know", "")

    def __post_init__(self) -> None:
        for side in ("prompt", "output"):
            _check_lengths(self, side)

    def is_empirical(self, side: str) -> bool:
        """Return whether the `prompt` or `output` lengths come from quantiles."""
        return bool(getattr(self, f"{side}_quantiles"))


def _check_lengths(workload: WorkloadPreset, side: str) -> None:
    """Raise a `ScenarioError` unless one side has a mean, or quantiles that never fall."""
    quantiles = getattr(workload, f"{side}_quantiles")
    if bool(quantiles) == (getattr(workload, f"{side}_tokens") is not None):
        raise ScenarioError(f"give either {side}_tokens or {side}_quantiles.")
    if not quantiles:
        return
    grid = workload.probabilities
    if len(grid) < 2 or grid[0] != 0 or grid[-1] != 1 or not _rises(grid, strictly=True):
        raise ScenarioError("probabilities must rise from 0 to 1.")
    if len(quantiles) != len(grid):
        raise ScenarioError(
            f"{side}_quantiles has {len(quantiles)} values but probabilities has {len(grid)}; give as many."
        )
    if not _rises(quantiles, strictly=False):
        raise ScenarioError(f"{side}_quantiles must not fall.")


def _rises(values: tuple[float, ...], strictly: bool) -> bool:
    return all(low < high or (low == high and not strictly) for low, high in pairwise(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyLimit:
    """What a benchmark demands of interactive serving."""

    id: str
    name: str = _text("Name")
    model: str = _text("Model preset the benchmark runs")
    ttft_ms: float = _key(float, "Limit on TTFT", unit="ms", low=0.0, high=1e8)
    tpot_ms: float = _key(float, "Limit on TPOT", unit="ms", low=0.0, high=1e7)
    percentile: float = _key(float, "Percentile that must meet the limits", unit="%", low=50.0, high=99.9)
    first_round: str = _text("Round of the benchmark that first had it")
    source: str = _text("Where the figures come from")
    notes: str = _text("What to know", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """The rules of one MLPerf-like benchmark: model, data set, and the latency limits of its scenarios.

    A benchmark without an interactive scenario has no interactive limits.
    """

    id: str
    title: str = _text("Name")
    model: str = _text("Model preset")
    workload: str = _text("Workload preset with the data set's lengths")
    dataset: str = _text("Data set")
    samples: int = _required_count("Samples of the data set", 10_000_000)
    max_output_tokens: int = _required_count("Longest answer", 1_000_000)
    prompt_tokens_mean: float = _tokens("Mean prompt")
    prompt_tokens_p50: float = _tokens("Median prompt")
    prompt_tokens_p90: float = _tokens("90th percentile of the prompts")
    prompt_tokens_p99: float = _tokens("99th percentile of the prompts")
    prompt_tokens_max: float = _tokens("Longest prompt")
    reference_output_tokens_mean: float | None = _rate("Mean answer of the reference model", "tokens", 1e7)
    measured_output_tokens_mean: float = _tokens("Mean answer of submitted runs")
    offline_min_queries: int = _required_count("Fewest queries of an Offline run", 10_000_000)
    min_duration_s: float = _key(float, "Shortest run", unit="s", low=0.0, high=1e6)
    percentile: float = _key(float, "Percentile that must meet the limits", unit="%", low=50.0, high=99.9)
    arrivals: str = _text("How requests arrive")
    server_ttft_ms: float = _limit_ms("Server: limit on TTFT")
    server_tpot_ms: float = _limit_ms("Server: limit on TPOT")
    first_round: str = _text("Round that first had the benchmark")
    interactive_ttft_ms: float | None = _rate("Interactive: limit on TTFT", "ms", 1e8)
    interactive_tpot_ms: float | None = _rate("Interactive: limit on TPOT", "ms", 1e8)
    interactive_first_round: str = _text("Round that first had Interactive", "")
    interactive_speculative: str = _text("Whether speculative decoding is allowed in Interactive", "")
    source: str = _text("Where the figures come from")
    notes: str = _text("What to know", "")

    def limits_ms(self, rule: str) -> tuple[float, float] | None:
        """Return the limits on TTFT and TPOT of `server` or `interactive` [ms]; None where there are none."""
        ttft_ms, tpot_ms = (getattr(self, f"{rule}_{name}_ms", None) for name in ("ttft", "tpot"))
        return None if ttft_ms is None or tpot_ms is None else (ttft_ms, tpot_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSpread:
    """Published results of one benchmark on one accelerator: count, median and range, with what to cite.

    Throughput is per accelerator; ratios to Offline are of one entry each, derived here, not official.
    """

    id: str
    accelerator: str = _text("Accelerator preset")
    weight_dtypes: tuple[str, ...] = _texts("Precisions as the entries state them")
    offline_count: int = _count("Distinct Offline results", default=dataclasses.MISSING)
    offline_median: float | None = _rate("Median Offline throughput per accelerator", "tok/s", 1e7)
    offline_min: float | None = _rate("Lowest", "tok/s", 1e7)
    offline_max: float | None = _rate("Highest", "tok/s", 1e7)
    server_count: int = _count("Entries with Offline and Server", default=dataclasses.MISSING)
    server_median: float | None = _rate("Median of Server / Offline", "", 100)
    server_min: float | None = _rate("Lowest", "", 100)
    server_max: float | None = _rate("Highest", "", 100)
    interactive_count: int = _count("Entries with Offline and Interactive", default=dataclasses.MISSING)
    interactive_median: float | None = _rate("Median of Interactive / Offline", "", 100)
    interactive_min: float | None = _rate("Lowest", "", 100)
    interactive_max: float | None = _rate("Highest", "", 100)
    rounds: tuple[str, ...] = _texts("Rounds")
    division: str = _text("Division")
    submitters: tuple[str, ...] = _texts("Submitters")
    entry_ids: tuple[str, ...] = _texts("Entry ids; v4.1 has none in its repository and is cited by path")
    sources: tuple[str, ...] = _texts("Repositories and paths")
    retrieved: str = _text("Date of retrieval")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedError:
    """How far simulated figures lie from published ones, for one rule and a set of rows."""

    id: str
    rule: str = _text("Offline, Server or Interactive, and how it is counted")
    rows: str = _text("Which rows")
    count: int = _count("Rows", default=dataclasses.MISSING)
    measure: str = _text("What the error is")
    goal: float = _key(float, "Error aimed at", low=0.0, high=10.0)
    error: float = _key(float, "Error", low=0.0, high=100.0)
    bias: float = _key(float, "Median of the signed errors", low=-100.0, high=100.0)
    constant: float | None = _rate("Error of the best constant guess", "", 100.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSystem:
    """What was simulated for one published kind of system: throughput per accelerator, and ratios to it."""

    id: str
    benchmark: str = _text("Benchmark")
    accelerator: str = _text("Accelerator preset")
    devices: int = _required_count("Accelerators", 1024)
    weight_dtype: str = _text("Precision of the weights")
    entries: int = _count("Published figures it stands for", default=dataclasses.MISSING)
    offline: float = _key(float, "Offline", unit="tok/s", low=0.0, high=1e7)
    server: float | None = _ratio("Server / Offline")
    server_counted: float | None = _ratio("The same, counted as LoadGen counts")
    interactive: float | None = _ratio("Interactive / Offline")
    interactive_counted: float | None = _ratio("The same, counted as LoadGen counts")


@dataclass(frozen=True, slots=True)
class Check:
    """A comparison with published results as it was last made, with its date and calibration."""

    date: str
    calibration: str
    command: str
    goals: tuple[CheckedError, ...]
    systems: tuple[CheckedSystem, ...]


PAGES_OF_PRESETS = ("Frontier", "Two phases", "Batching", "Disaggregation", "Traffic shift")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioPreset:
    """A ready scenario with its one-line story and the finding to expect."""

    id: str
    title: str = _text("Name")
    story: str = _text("What happens")
    expected: str = _text("What to look for")
    page: str = _text("Page that shows it best", "Frontier", PAGES_OF_PRESETS)
    scenario: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, **changes: Any) -> Scenario:
        """Return the scenario with `changes` on top."""
        return Scenario(**self.scenario).replace(**changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonStep:
    """One question of a lesson: a scenario, the one control to move, and what to predict.

    Nothing is typed in that the simulator can say: `why` holds places for the figures at the start, where
    the question asks and as a ratio, and `claim` is the range of that ratio in which the text is true.
    """

    id: str
    title: str = _text("Name")
    newcomer: str = _text("What to know, for newcomers")
    engineer: str = _text("The same for engineers")
    scenario: str = _text("Query of the scenario", "")
    control: str = _text("Scenario key to move")
    values: tuple[str, ...] = _texts("Its values, in order")
    start: str = _text("The value one starts from")
    ask: str = _text("The value at which to predict")
    measure: str = _text("What is predicted, one of `lessons.MEASURES`")
    question: str = _text("The question")
    choices: tuple[str, ...] = _key(list, "Answers to choose from; none: a number is asked for", default=())
    edges: tuple[float, ...] = _key(
        tuple, "Ratios between which each choice is right", default=(), low=-100.0, high=1e9
    )
    claim: tuple[float, ...] = _key(
        tuple, "Lowest and highest ratio for which the text is true", low=-100.0, high=1e9
    )
    why: str = _text("What it shows, with {start}, {truth} and {ratio}")
    page: str = _text("Page on which to go on", "Frontier", PAGES_OF_PRESETS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A lesson: a question and the steps that answer it."""

    id: str
    title: str = _text("Name")
    question: str = _text("The question it answers")
    minutes: int = _required_count("How long it takes", 120)
    steps: tuple[LessonStep, ...] = ()


@cache
def lesson(name: str) -> Lesson:
    """Return one lesson by id."""
    data = _read("lessons", name)
    with _named("lessons", name):
        steps = _tables(LessonStep, name, data.pop("steps", []))
        found = _build(Lesson, name, data)
        for step in steps:
            _check_step(step)
    return dataclasses.replace(found, steps=steps)


def _check_step(step: LessonStep) -> None:
    """Raise a `ScenarioError` if the parts of a step contradict one another."""
    for key in ("start", "ask"):
        if getattr(step, key) not in step.values:
            raise ScenarioError(
                f"{step.title}: {key} is {getattr(step, key)!r}, which is not among its values."
            )
    if len(step.claim) != 2 or step.claim[0] >= step.claim[1]:
        raise ScenarioError(f"{step.title}: claim must be the lowest and the highest ratio.")
    if step.choices and len(step.edges) != len(step.choices) - 1:
        raise ScenarioError(f"{step.title}: {len(step.choices)} choices have {len(step.choices) - 1} edges.")


@cache
def lessons() -> Mapping[str, Lesson]:
    """Return all lessons by id, in their order."""
    return MappingProxyType({name: lesson(name) for name in preset_ids("lessons")})


@cache
def glossary() -> Mapping[str, str]:
    """Return the terms that lessons explain, each in a sentence."""
    return MappingProxyType(tomllib.loads((PRESETS / "glossary.toml").read_text(encoding="utf-8")))


def preset_ids(kind: str) -> tuple[str, ...]:
    """Return the ids of one kind of preset, from the file names alone, in alphabetical order."""
    return tuple(sorted(path.stem for path in (PRESETS / kind).glob("*.toml")))


@cache
def accelerators() -> Mapping[str, Accelerator]:
    """Return all accelerators by id: by vendor, then year, then name."""
    found = [accelerator(name) for name in preset_ids("accelerators")]
    found.sort(key=lambda part: (part.vendor.lower(), part.year, part.name.lower()))
    return MappingProxyType({part.id: part for part in found})


@cache
def models() -> Mapping[str, Model]:
    """Return all models by id: by family, then size."""
    found = [model(name) for name in preset_ids("models")]
    found.sort(key=lambda item: (item.family.lower(), item.total_params, item.name.lower()))
    return MappingProxyType({item.id: item for item in found})


@cache
def workloads() -> Mapping[str, WorkloadPreset]:
    """Return all workloads by id, in alphabetical order."""
    return MappingProxyType({name: workload(name) for name in preset_ids("workloads")})


@cache
def limits() -> Mapping[str, LatencyLimit]:
    """Return all benchmark limits by id, in alphabetical order."""
    return MappingProxyType({name: _load("limits", name, LatencyLimit) for name in preset_ids("limits")})


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """Return all benchmarks by id, in alphabetical order."""
    return MappingProxyType({name: benchmark(name) for name in preset_ids("benchmarks")})


@cache
def scenarios() -> Mapping[str, ScenarioPreset]:
    """Return all ready scenarios by id, in alphabetical order."""
    return MappingProxyType({name: scenario_preset(name) for name in preset_ids("scenarios")})


@cache
def accelerator(name: str) -> Accelerator:
    """Return one accelerator by id."""
    return _load("accelerators", name, Accelerator)


@cache
def model(name: str) -> Model:
    """Return one model by id."""
    return _load("models", name, Model)


@cache
def workload(name: str) -> WorkloadPreset:
    """Return one workload by id."""
    return _load("workloads", name, WorkloadPreset)


@cache
def benchmark(name: str) -> Benchmark:
    """Return the rules of one benchmark by id."""
    return _load("benchmarks", name, Benchmark)


@cache
def published(name: str) -> tuple[PublishedSpread, ...]:
    """Return the published results of one benchmark, one spread per accelerator; () if there are none."""
    if name not in preset_ids("published"):
        return ()
    data = _read("published", name)
    with _named("published", name):
        rows = data.pop("spread", None)
        if data or not isinstance(rows, list):
            raise ScenarioError("the file must hold [[spread]] tables and nothing else.")
        return _tables(PublishedSpread, name, rows)


@cache
def check(name: str) -> Check:
    """Return a comparison with published results by its name, such as `mlperf`."""
    data = _read("checks", name)
    with _named("checks", name):
        wanted = {"date", "calibration", "command", "goal", "system"}
        if data.keys() != wanted:
            raise ScenarioError(f"the file must hold {', '.join(sorted(wanted))} and nothing else.")
        return Check(
            date=data["date"],
            calibration=data["calibration"],
            command=data["command"],
            goals=_tables(CheckedError, name, data["goal"]),
            systems=_tables(CheckedSystem, name, data["system"]),
        )


def _tables(preset: type[Preset], name: str, rows: Any) -> tuple[Preset, ...]:
    """Return a list of TOML tables as checked dataclasses."""
    if not isinstance(rows, list):
        raise ScenarioError(f"{shown(rows)} must be a list of tables.")
    return tuple(_build(preset, f"{name}-{index}", row) for index, row in enumerate(rows))


@cache
def scenario_preset(name: str) -> ScenarioPreset:
    """Return one ready scenario by id."""
    data = _read("scenarios", name)
    with _named("scenarios", name):
        texts = {key: data.pop(key) for key in ("title", "story", "expected", "page") if key in data}
        preset = _build(ScenarioPreset, name, texts)
        Scenario().replace(**data)
    return dataclasses.replace(preset, scenario=MappingProxyType(data))


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
        return _custom_model(changes)
    item = model(scenario.model)
    return _changed_model(item, changes) if changes else item


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


def _custom_model(given: dict[str, Any]) -> Model:
    """Return a model made of the scenario's dimensions alone: every layer alike, gated, untied."""
    missing = [name for name in CUSTOM_NEEDS if name not in given]
    if missing:
        raise ScenarioError(f"model is custom, which also needs {', '.join(missing)}; set them.")
    defaults = {"kv_heads": given["heads"], "head_dim": max(1, given["hidden"] // given["heads"])}
    if "experts" in given:
        defaults["expert_ffn_dim"] = given["ffn_dim"]
    if "window_tokens" in given:
        defaults["window_layers"] = given["layers"]
    return Model(
        id="custom",
        name="custom model",
        family="custom",
        max_position=UNKNOWN_MAX_POSITION,
        confidence="low",
        source="dimensions of the scenario",
        **(defaults | given),
    )


def _changed_model(item: Model, changes: dict[str, Any]) -> Model:
    """Return a preset model with some dimensions changed; layer patterns keep their proportions."""
    lost = [name for name in ("kv_heads", "head_dim") if name in changes and item.attention == "mla"]
    if lost:
        raise ScenarioError(
            f"{lost[0]} is set but {item.name} caches one latent vector per token (MLA). "
            f"Leave {lost[0]} unset, or use model=custom."
        )
    layers = changes.get("layers", item.layers)
    patterns = {
        name: round(getattr(item, name) * layers / item.layers)
        for name in ("window_layers", "linear_attention_layers")
    }
    patterns["first_dense_layers"] = min(item.first_dense_layers, layers)
    if item.window_tokens and not patterns["window_layers"]:
        patterns["window_layers"] = 1
    if "window_tokens" in changes:
        patterns["window_layers"] = layers - patterns["linear_attention_layers"]
    return dataclasses.replace(
        item,
        name=f"{item.name} (changed)",
        total_params_b=None,
        active_params_b=None,
        **(patterns | changes),
    )


def _load(kind: str, name: str, preset: type[Preset]) -> Preset:
    """Return one preset of `kind`, checked."""
    data = _read(kind, name)
    with _named(kind, name):
        return _build(preset, name, data)


def _read(kind: str, name: str) -> dict[str, Any]:
    """Return the keys of one preset file; `name` is looked up among the known ids, never used as a path."""
    known = preset_ids(kind)
    if name not in known:
        raise ScenarioError(
            f"unknown {kind[:-1]} {shown(name)}. {did_you_mean(str(name)[:100], known)} "
            f"`python -m sim_core list {kind}` shows all."
        )
    try:
        return tomllib.loads((PRESETS / kind / f"{name}.toml").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"presets/{kind}/{name}.toml is not valid TOML: {error}.") from None


class _named:
    """Puts the file name in front of a `ScenarioError` raised inside."""

    def __init__(self, kind: str, name: str) -> None:
        self.file = f"presets/{kind}/{name}.toml"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ScenarioError):
            raise ScenarioError(f"{self.file}: {error}") from None


def _build(preset: type[Preset], name: str, data: dict[str, Any]) -> Preset:
    """Return a preset dataclass from the keys of its file; unknown, missing and wrong keys are errors."""
    fields = {field.name: field for field in dataclasses.fields(preset) if "info" in field.metadata}
    unknown = [key for key in data if key not in fields]
    if unknown:
        raise ScenarioError(f"unknown key {shown(unknown[0])}. {did_you_mean(unknown[0], fields)}")
    missing = [key for key, field in fields.items() if _is_required(field) and key not in data]
    if missing:
        raise ScenarioError(f"the key {missing[0]} is missing; add it.")
    return preset(id=name, **{key: _value(key, data[key], fields[key].metadata["info"]) for key in data})


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(key: str, value: Any, info: FieldInfo) -> Any:
    """Return one value of a preset file, checked and in its final type."""
    if info.kind is bool:
        if not isinstance(value, bool):
            raise ScenarioError(f"{key} is {shown(value)}; it must be true or false.")
        return value
    if info.kind is tuple:
        return _numbers(key, value, info)
    if info.kind is list:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ScenarioError(f"{key} is {shown(value)}; it must be a list of texts.")
        return tuple(value)
    check_value(key, value, info)
    return float(value) if info.kind is float else value


def _numbers(key: str, value: Any, info: FieldInfo) -> tuple[float, ...]:
    """Return a list of numbers of a preset file as a tuple of floats."""
    if not isinstance(value, list) or len(value) > MAX_QUANTILES:
        raise ScenarioError(f"{key} is {shown(value)}; it must be a list of at most {MAX_QUANTILES} numbers.")
    entry = dataclasses.replace(info, kind=float, optional=False)
    for position, number in enumerate(value):
        check_value(f"{key}[{position}]", number, entry)
    return tuple(float(number) for number in value)
