"""A model by its dimensions; parameter counts and KV sizes follow."""

from __future__ import annotations

from dataclasses import dataclass

from sim_core.catalogue.accelerators import CONFIDENCES, WEIGHT_DTYPES
from sim_core.fields.described import described
from sim_core.fields.errors import ScenarioError


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
    name: str = described("Name")
    family: str = described("Family")
    layers: int = described("Transformer layers", low=1, high=1000)
    hidden: int = described("Hidden size", low=1, high=200_000)
    heads: int = described("Query heads", low=1, high=4096)
    kv_heads: int = described("Key/value heads (full attention)", 0, low=0, high=4096)
    head_dim: int = described("Size of one head (full attention)", 0, low=0, high=4096)
    ffn_dim: int = described("Width of the dense feed-forward block", 0, low=0, high=10_000_000)
    vocab: int = described("Vocabulary size", low=1, high=10_000_000)
    tied_embeddings: bool = described("One matrix for embedding and LM head", False)
    attention: str = described("Kind of attention", "full", choices=("full", "mla"))
    gated_mlp: bool = described("Three matrices (SwiGLU, GeGLU) instead of two", True)
    window_tokens: int = described("Sliding window or chunk of attention", 0, low=0, high=10_000_000)
    window_layers: int = described("Layers with that window", 0, low=0, high=1000)
    linear_attention_layers: int = described(
        "Layers with linear attention, without a KV cache", 0, low=0, high=1000
    )
    linear_key_heads: int = described("Linear attention: key heads", 0, low=0, high=4096)
    linear_value_heads: int = described("Linear attention: value heads", 0, low=0, high=4096)
    linear_head_dim: int = described("Linear attention: size of one head", 0, low=0, high=4096)
    attention_gate: bool = described("Queries are twice as wide; half of them gate the output", False)
    experts: int = described("Experts per MoE layer", 0, low=0, high=10_000)
    experts_per_token: int = described("Experts each token visits", 0, low=0, high=1000)
    shared_experts: int = described("Experts every token visits", 0, low=0, high=1000)
    expert_ffn_dim: int = described("Width of one expert", 0, low=0, high=1_000_000)
    shared_expert_ffn_dim: int = described(
        "Width of one shared expert; 0 = as the others", 0, low=0, high=1_000_000
    )
    first_dense_layers: int = described("Layers before the first MoE layer", 0, low=0, high=1000)
    moe_every: int = described("Every n-th of the other layers is MoE", 1, low=1, high=1000)
    mla_q_lora: int = described("MLA: rank of the query projection; 0 = full rank", 0, low=0, high=200_000)
    mla_kv_lora: int = described("MLA: rank of the latent KV vector", 0, low=0, high=200_000)
    mla_qk_nope: int = described(
        "MLA: head size of the compressed part of queries and keys", 0, low=0, high=4096
    )
    mla_qk_rope: int = described("MLA: head size of the rotary part of queries and keys", 0, low=0, high=4096)
    mla_v: int = described("MLA: head size of values", 0, low=0, high=4096)
    max_position: int = described("Longest sequence", low=1, high=100_000_000)
    total_params_b: float | None = described("Published parameters", None, unit="10^9", low=0.0, high=1e6)
    active_params_b: float | None = described(
        "Published active parameters", None, unit="10^9", low=0.0, high=1e6
    )
    native_weight_dtype: str = described(
        "What the published checkpoint stores", "bf16", choices=WEIGHT_DTYPES
    )
    native_expert_dtype: str = described("What it stores for experts", "bf16", choices=WEIGHT_DTYPES)
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
        """Parameters of the attention projections of one layer that keeps a KV cache."""
        if self.attention == "full":
            heads = (3 if self.attention_gate else 2) * self.heads + 2 * self.kv_heads
            return self.hidden * heads * self.head_dim
        query_dim = self.heads * (self.mla_qk_nope + self.mla_qk_rope)
        query = self.mla_q_lora * (self.hidden + query_dim) if self.mla_q_lora else self.hidden * query_dim
        latent = self.hidden * self.kv_elements
        expand = self.mla_kv_lora * self.heads * (self.mla_qk_nope + self.mla_v)
        return query + latent + expand + self.heads * self.mla_v * self.hidden

    @property
    def linear_attention_params(self) -> int:
        """Parameters of one layer with linear attention: queries, keys, values, gates, decays and output.

        Yang, Kautz, Hatamizadeh, "Gated delta networks", 2024, section 3.4, without the short convolution,
        under 0.1%; as other layers where the heads are not known.
        """
        if not self.linear_value_heads:
            return self.attention_params
        wide = 2 * self.linear_key_heads + 3 * self.linear_value_heads
        return self.hidden * (wide * self.linear_head_dim + 2 * self.linear_value_heads)

    @property
    def all_attention_params(self) -> int:
        """Parameters of the attention projections of all layers."""
        linear = self.linear_attention_layers
        return (self.layers - linear) * self.attention_params + linear * self.linear_attention_params

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
            + self.all_attention_params
            + self.dense_layers * self.dense_ffn_params
            + self.moe_layers * moe_layer
        )


def _check_attention(model: Model) -> None:
    """Raise a `ScenarioError` where the dimensions of attention contradict one another."""
    latent = ("mla_kv_lora", "mla_qk_nope", "mla_qk_rope", "mla_v")
    needs = latent if model.attention == "mla" else ("kv_heads", "head_dim")
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
