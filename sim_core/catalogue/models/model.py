"""A model by its dimensions; parameter counts and KV sizes follow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sim_core.catalogue.accelerators import CONFIDENCES, WEIGHT_DTYPES
from sim_core.catalogue.models.attention import LATENT, STATE_BYTES, STATES, Attention
from sim_core.fields.described import described
from sim_core.fields.errors import ScenarioError

KEPT = ("", "inputs", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One transformer by its dimensions; parameter and KV sizes are computed from them.

    A count of 0 means "has none": `experts` = 0 is a dense model. `attention` lists the layers by kind, that
    which sees the whole context first; layers in none of them have no attention.
    """

    id: str
    attention: tuple[Attention, ...]
    name: str = described("Name")
    family: str = described("Family")
    year: int | None = described("Year of release", None, low=2017, high=2100)
    layers: int = described("Transformer layers", low=1, high=1000)
    hidden: int = described("Hidden size", low=1, high=200_000)
    ffn_dim: int = described("Width of the dense feed-forward block", 0, low=0, high=10_000_000)
    vocab: int = described("Vocabulary size", low=1, high=10_000_000)
    tied_embeddings: bool = described("One matrix for embedding and LM head", False)
    gated_mlp: bool = described("Three matrices (SwiGLU, GeGLU) instead of two", True)
    experts: int = described("Experts per MoE layer", 0, low=0, high=10_000)
    experts_per_token: int = described("Experts each token visits", 0, low=0, high=1000)
    shared_experts: int = described("Experts every token visits", 0, low=0, high=1000)
    expert_ffn_dim: int = described("Width of one expert", 0, low=0, high=1_000_000)
    shared_expert_ffn_dim: int = described(
        "Width of one shared expert; 0 = as the others", 0, low=0, high=1_000_000
    )
    latent_expert_dim: int = described(
        "Width of the space that routed experts work in; 0 = the hidden size", 0, low=0, high=200_000
    )
    ffn_layers: int = described("Layers with a feed-forward block or experts; 0 = all", 0, low=0, high=1000)
    first_dense_layers: int = described("Layers before the first MoE layer", 0, low=0, high=1000)
    moe_every: int = described("Every n-th of the other layers is MoE", 1, low=1, high=1000)
    residual_streams: int = described("Copies of the hidden state between layers", 1, low=1, high=64)
    mtp_layers: int = described(
        "Layers that predict further tokens, beside the model's own", 0, low=0, high=100
    )
    block_layers: int = described(
        "Layers of its own that draft a block of tokens at once, as the model's are built", 0, low=0, high=100
    )
    max_position: int = described("Longest sequence", low=1, high=100_000_000)
    total_params_b: float | None = described("Published parameters", None, unit="10^9", low=0.0, high=1e6)
    active_params_b: float | None = described(
        "Published active parameters", None, unit="10^9", low=0.0, high=1e6
    )
    native_weight_dtype: str = described(
        "What the published checkpoint stores", "bf16", choices=WEIGHT_DTYPES
    )
    native_expert_dtype: str = described("What it stores for experts", "bf16", choices=WEIGHT_DTYPES)
    native_attention: str = described(
        "What of attention it keeps in bf16 beside narrower weights", "", choices=KEPT
    )
    fp4_attention: str = described("What of attention its 4-bit checkpoints keep in bf16", "", choices=KEPT)
    layer_collectives: int = described("All-reduces of one tensor-parallel layer", 2, low=1, high=10)
    fp8_scaling: str = described(
        "What shares a scale in its 8-bit checkpoint", "tensor", choices=("tensor", "block")
    )
    native_fp4: str = described("4-bit floats of its checkpoint", "nvfp4", choices=("nvfp4", "mxfp4"))
    int4_group: int = described("4-bit integers that share a scale of 16 bits", 128, low=8, high=10_000)
    confidence: str = described("How well the dimensions are known", choices=CONFIDENCES)
    not_modelled: str = described("What predictions leave out", "")
    source: str = described("Where the dimensions come from")
    notes: str = described("What to know", "")

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
        if not self.is_moe:
            return 0
        return ((self.ffn_layers or self.layers) - self.first_dense_layers) // self.moe_every

    @property
    def dense_layers(self) -> int:
        """Layers with a dense feed-forward block."""
        return (self.ffn_layers or self.layers) - self.moe_layers

    @property
    def attention_layers(self) -> int:
        """Layers with attention of any kind."""
        return sum(group.layers for group in self.attention)

    @property
    def kv_layers(self) -> int:
        """Layers that keep a KV cache."""
        return _count(group for group in self.attention if group.has_cache)

    @property
    def window_layers(self) -> int:
        """Layers that keep no more than a sliding window."""
        return _count(group for group in self.attention if group.forgets)

    @property
    def full_layers(self) -> int:
        """Layers that keep the whole context, whatever they read of it."""
        return self.kv_layers - self.window_layers

    @property
    def latent_layers(self) -> int:
        """Layers that keep one latent vector a token."""
        return _count(group for group in self.attention if group.kind in LATENT)

    @property
    def sparse(self) -> bool:
        """Whether any layer reads chosen or compressed tokens, or keeps a state in place of a cache."""
        return any(group.kind not in ("full", "mla") for group in self.attention)

    @property
    def linear_attention_layers(self) -> int:
        """Layers that keep a state in place of a KV cache."""
        return _count(group for group in self.attention if group.kind in STATES)

    @property
    def main(self) -> Attention:
        """The layers that see the whole context, or the first where none do."""
        return self.attention[0]

    @property
    def latent(self) -> bool:
        """Whether attention caches one latent vector a token."""
        return self.main.kind in LATENT

    @property
    def heads(self) -> int:
        """Heads that tensor parallelism must divide: the fewest of any kind of layer."""
        return math.gcd(*(group.heads for group in self.attention))

    @property
    def kv_heads(self) -> int:
        """Key/value heads of the layers that see the whole context; 0 where they have none."""
        return self.main.kv_heads

    @property
    def head_dim(self) -> int:
        """Size of one head of the layers that see the whole context; 0 for latent ones."""
        return self.main.head_dim

    @property
    def reach_tokens(self) -> int:
        """Tokens that a query of a layer with a limited view reads at most; 0 = every layer reads all."""
        return max(group.reach_tokens for group in self.attention)

    @property
    def window_tokens(self) -> int:
        """The longest sliding window of any layer; 0 = there is none."""
        return max(group.window_tokens if group.forgets else 0 for group in self.attention)

    @property
    def attention_params(self) -> int:
        """Parameters of the attention projections of one layer that sees the whole context."""
        return self.main.projections(self.hidden).total

    @property
    def all_attention_params(self) -> int:
        """Parameters of the attention projections of all layers."""
        return sum(group.layers * group.projections(self.hidden).total for group in self.attention)

    @property
    def dense_ffn_params(self) -> int:
        """Parameters of the feed-forward block of one dense layer."""
        return self._ffn_matrices * self.hidden * self.ffn_dim

    @property
    def expert_params(self) -> int:
        """Parameters of one routed expert of one layer."""
        return self._ffn_matrices * (self.latent_expert_dim or self.hidden) * self.expert_ffn_dim

    @property
    def latent_params(self) -> int:
        """Parameters of the projections of one MoE layer into the space of its experts and back."""
        return 2 * self.hidden * self.latent_expert_dim

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

    def kv_bytes_per_token(self, element_bytes: float = 2) -> float:
        """Return what one token adds to the KV cache of all layers, windows not yet cut off. [bytes]"""
        return sum(
            group.layers * (group.cached_values * element_bytes + group.index_bytes)
            for group in self.attention
        )

    def state_bytes(self, element_bytes: float = 2) -> float:
        """Return what one sequence keeps in all layers whatever its length. [bytes]"""
        return sum(
            group.layers * (group.state_values * STATE_BYTES + group.kept_values * element_bytes)
            for group in self.attention
        )

    def stored_dtypes(self, weight_dtype: str) -> tuple[str, str]:
        """Return the precision of the weights, and of the routed experts, under `weight_dtype`."""
        if weight_dtype == "native":
            return self.native_weight_dtype, self.native_expert_dtype
        return weight_dtype, weight_dtype

    def kept_attention(self, weight_dtype: str) -> str:
        """Return what of attention stays in bf16 under `weight_dtype`: nothing, ``inputs`` or ``all``."""
        return {"native": self.native_attention, "fp4": self.fp4_attention}.get(weight_dtype, "")

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
        moe_layer = self.shared_expert_params + self.router_params + self.latent_params
        return (
            self.embedding_params * (1 if self.tied_embeddings else 2)
            + self.all_attention_params
            + self.dense_layers * self.dense_ffn_params
            + self.moe_layers * moe_layer
        )


def _count(groups: Iterable[Attention]) -> int:
    return sum(group.layers for group in groups)


def _check_attention(model: Model) -> None:
    """Raise a `ScenarioError` where the layers of attention contradict the model's."""
    if not model.attention:
        raise ScenarioError(f"{model.name} has no attention; list its layers by kind.")
    if model.attention_layers > model.layers:
        raise ScenarioError(
            f"{model.name} has {model.layers} layers but {model.attention_layers} with attention; "
            "lower those."
        )
    for group in model.attention:
        group.check(model.name)
    if model.kv_bytes_per_token() <= 0:
        raise ScenarioError(
            f"{model.name} has no layer that keeps anything of its tokens, but memory is divided into blocks "
            "of tokens here. Give a layer with a KV cache."
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
    if model.first_dense_layers > (model.ffn_layers or model.layers) or model.ffn_layers > model.layers:
        raise ScenarioError(
            f"{model.name} has {model.layers} layers but first_dense_layers is {model.first_dense_layers} "
            f"and ffn_layers {model.ffn_layers}; lower those."
        )
    if model.dense_layers and not model.ffn_dim:
        raise ScenarioError(f"{model.name} has {model.dense_layers} dense layers but no ffn_dim; give it.")
