"""Attention by its kinds: what one layer holds, keeps of each token and of each sequence, reads and computes.

A model lists its layers by kind (`Attention`). Everything else that depends on the kind follows from what is
here: parameters, KV cache, state, the work of a step, the floor and what pages tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from sim_core.fields.described import described
from sim_core.fields.errors import ScenarioError

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "full": "keys and values of every key/value head",
        "mla": "one latent vector a token",
        "dsa": "one latent vector a token, of which an index chooses",
        "msa": "keys and values in blocks, of which an index chooses",
        "csa": "tokens compressed to few rows, of which an index chooses, beside a window",
        "hca": "tokens compressed to very few rows, all read, beside a window",
        "gdn": "gated delta rule: a state in place of a cache",
        "kda": "Kimi delta attention: a state in place of a cache",
        "mamba2": "state-space layers (Mamba-2): a state in place of a cache",
    }
)
LATENT = ("mla", "dsa")
GROUPED = ("full", "msa")
COMPRESSED = ("csa", "hca")
CHOOSING = ("dsa", "msa", "csa")
STATES = ("gdn", "kda", "mamba2")
_NEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(GROUPED, ("heads", "kv_heads", "head_dim")),
        **dict.fromkeys(LATENT, ("heads", "kv_lora", "qk_nope", "qk_rope", "v_dim")),
        "csa": ("heads", "head_dim", "q_lora", "window_tokens", "compress_tokens"),
        "hca": ("heads", "head_dim", "q_lora", "window_tokens"),
        **dict.fromkeys(("gdn", "mamba2"), ("key_heads", "heads", "head_dim", "state_dim")),
        "kda": ("heads", "head_dim"),
    }
)

# Bytes of one number of an index's key, and of its scale: DSA keeps 8 bits and a scale of 32 a token (vLLM,
# `DeepseekV32IndexerCache`); the index of MSA reads as fast from an 8-bit cache as from one of 16 bits
# (`presets/kernels/sources.toml`, msa). That of CSA has the cache's format.
INDEX_BYTES: Mapping[str, tuple[int, int]] = MappingProxyType({"dsa": (1, 4), "msa": (2, 0)})
STATE_BYTES = 4.0  # of one number of a recurrent state: float32, as configurations say (`mamba_ssm_dtype`)
LEAST_HEADS = 64
CONVOLUTION = 4  # tokens that the short convolution of Mamba-2 keeps


class Projections(NamedTuple):
    """Parameters of one layer's projections, by how tensor parallelism treats them."""

    shared: int  # divided among the devices
    replicated: int  # on every device
    key_value: int  # divided by key/value heads, at least one a device

    @property
    def total(self) -> int:
        """All of them."""
        return self.shared + self.replicated + self.key_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Layers of a model whose attention is alike. A size of 0 means "has none".

    References
    ----------
    DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1 (mla); "DeepSeek-V3.2", 2025, section 2 (dsa);
    "DeepSeek-V4", 2026 (csa, hca). Yang, Kautz, Hatamizadeh, "Gated delta networks", 2024, section 3.4 (gdn).
    Kimi Team, "Kimi Linear", 2025 (kda). Dao, Gu, "Transformers are SSMs", 2024, section 7 (mamba2).
    """

    kind: str = described("Kind of attention", choices=KINDS)
    layers: int = described("Layers of that kind", low=0, high=1000)
    heads: int = described("Query heads; value heads of a state", low=1, high=4096)
    kv_heads: int = described("Key/value heads", 0, low=0, high=4096)
    head_dim: int = described("Size of one head", 0, low=0, high=4096)
    v_dim: int = described("Size of a value head; 0 = as keys", 0, low=0, high=4096)
    window_tokens: int = described("Sliding window or chunk", 0, low=0, high=10_000_000)
    gated: bool = described("Queries are twice as wide; half of them gate the output", False)
    values_are_keys: bool = described("Values are projected as keys are", False)
    q_lora: int = described("Rank of the query projection; 0 = full rank", 0, low=0, high=200_000)
    kv_lora: int = described("Rank of the latent KV vector", 0, low=0, high=200_000)
    qk_nope: int = described("Head size of the compressed part of queries and keys", 0, low=0, high=4096)
    qk_rope: int = described("Head size of the rotary part of queries and keys", 0, low=0, high=4096)
    o_lora: int = described("Rank of a group of the output projection", 0, low=0, high=200_000)
    o_groups: int = described("Groups of the output projection", 0, low=0, high=4096)
    compress_tokens: int = described("Tokens in one row of a compressed cache", 0, low=0, high=1_000_000)
    chosen_tokens: int = described("Tokens that a query reads at most", 0, low=0, high=10_000_000)
    index_heads: int = described("Heads of the index; 0 = uses another layer's choice", 0, low=0, high=4096)
    index_dim: int = described("Size of one key of the index", 0, low=0, high=4096)
    key_heads: int = described("Key heads of a state; groups of Mamba-2", 0, low=0, high=4096)
    state_dim: int = described("Rows of a head's state", 0, low=0, high=4096)

    def check(self, name: str) -> None:
        """Raise a `ScenarioError` where the dimensions of a model's layers contradict one another."""
        chooses = ("chosen_tokens",) if self.kind in CHOOSING else ()
        missing = [key for key in (*_NEEDS[self.kind], *chooses) if not getattr(self, key)]
        if missing:
            raise ScenarioError(f"{name} has {self.kind} attention but no {missing[0]}; give it.")
        if self.kind in GROUPED and self.heads % self.kv_heads:
            raise ScenarioError(
                f"{name} has {self.heads} heads and {self.kv_heads} kv_heads; each key/value head serves the "
                f"same number of query heads. Choose kv_heads that divides {self.heads}."
            )

    # --- what it holds

    @property
    def value_dim(self) -> int:
        """Size of one value head."""
        return self.v_dim or self.head_dim

    def projections(self, hidden: int) -> Projections:
        """Return the parameters of one layer's projections; norms, biases and convolutions are left out."""
        if self.kind in STATES:
            return Projections(self._state_params(hidden), 0, 0)
        own = self._compressed(hidden) if self.kind in COMPRESSED else self._cached(hidden)
        return own._replace(replicated=own.replicated + self._index_params(hidden))

    def output_params(self, hidden: int) -> int:
        """Return the parameters of one layer's output projection, of kinds with one matrix for it."""
        return self.heads * self.value_dim * hidden if self.kind in (*GROUPED, *LATENT) else 0

    def _cached(self, hidden: int) -> Projections:
        if self.kind in GROUPED:
            queries = (2 if self.gated else 1) * self.heads * self.head_dim + self.heads * self.value_dim
            pair = self.head_dim + (0 if self.values_are_keys else self.value_dim)
            return Projections(hidden * queries, 0, hidden * self.kv_heads * pair)
        query_dim, out_dim = self.heads * (self.qk_nope + self.qk_rope), self.heads * self.v_dim
        query = (self.q_lora or hidden) * query_dim
        expand = self.kv_lora * self.heads * (self.qk_nope + self.v_dim)
        down = hidden * (self.q_lora + self.kv_lora + self.qk_rope)
        return Projections(query + expand + (2 if self.gated else 1) * out_dim * hidden, down, 0)

    def _compressed(self, hidden: int) -> Projections:
        """Return DeepSeek-V4's: one latent key/value head, gates over a row's tokens, outputs by group."""
        wide = self.heads * self.head_dim
        shared = self.q_lora * wide + wide * self.o_lora + self.o_groups * self.o_lora * hidden
        rows = 0 if not self.compress_tokens else 4 if self.kind == "csa" else 2  # csa's rows overlap
        return Projections(shared, hidden * (self.q_lora + (1 + rows) * self.head_dim), 0)

    def _index_params(self, hidden: int) -> int:
        """Return the parameters of the index: its queries, its keys and, but for msa, a weight a head."""
        if not self.index_heads:
            return 0
        if self.kind == "msa":
            return hidden * (self.index_heads + 1) * self.index_dim
        keys = 4 if self.kind == "csa" else 1
        queries = (self.q_lora or hidden) * self.index_heads * self.index_dim
        return queries + hidden * (keys * self.index_dim + self.index_heads)

    def _state_params(self, hidden: int) -> int:
        """Return the projections to queries, keys, values, gates and decays, and of the output."""
        wide = self.heads * self.head_dim
        if self.kind == "gdn":
            return hidden * (2 * self.key_heads * self.state_dim + 3 * wide + 2 * self.heads)
        if self.kind == "kda":  # its decay has a rank of one head
            return hidden * (5 * wide + self.heads + self.head_dim) + self.head_dim * wide
        return hidden * (3 * wide + 2 * self.key_heads * self.state_dim + self.heads)

    # --- what it keeps

    @property
    def cached_values(self) -> float:
        """Numbers that one token adds to the KV cache of one layer, in the cache's precision."""
        if self.kind in STATES:
            return 0.0
        if self.kind in LATENT:
            return float(self.kv_lora + self.qk_rope)
        if self.kind in COMPRESSED:
            rows = self.head_dim / self.compress_tokens if self.compress_tokens else 0.0
            return rows + self.scanned_values
        return float(self.kv_heads * (self.head_dim + self.value_dim))

    @property
    def index_bytes(self) -> float:
        """Bytes of one token's key in an index whose format is its own, whatever the cache's. [bytes]"""
        if not self.index_heads or self.kind not in INDEX_BYTES:
            return 0.0
        value_bytes, scale_bytes = INDEX_BYTES[self.kind]
        return float(value_bytes * self.index_dim + scale_bytes)

    @property
    def state_values(self) -> float:
        """Numbers one sequence keeps in one layer whatever its length, in the precision of states."""
        if self.kind == "mamba2":
            channels = self.heads * self.head_dim + 2 * self.key_heads * self.state_dim
            return float(self.heads * self.head_dim * self.state_dim + CONVOLUTION * channels)
        if self.kind in STATES:
            return float(self.heads * self.head_dim * (self.state_dim or self.head_dim))
        return 0.0

    @property
    def kept_values(self) -> float:
        """Numbers of a window that one sequence keeps beside compressed rows, in the cache's precision."""
        return float(self.window_tokens * self.head_dim) if self.kind in COMPRESSED else 0.0

    @property
    def has_cache(self) -> bool:
        """Whether the layer keeps something of every token, or of those in its window."""
        return self.kind not in STATES

    @property
    def forgets(self) -> bool:
        """Whether the layer keeps no more than its window."""
        return self.window_tokens > 0 and self.kind not in COMPRESSED

    # --- what a query does

    @property
    def reach_tokens(self) -> int:
        """Tokens before it that a query reads at most; 0 = all, or none where there is no cache."""
        if self.kind in COMPRESSED:
            return self.chosen_tokens
        reaches = [tokens for tokens in (self.window_tokens, self.chosen_tokens) if tokens]
        return min(reaches, default=0)

    @property
    def read_values(self) -> float:
        """Numbers a query reads of each token within its reach, in the cache's precision."""
        return self.cached_values - self.scanned_values

    @property
    def scanned_values(self) -> float:
        """Numbers of an index a query reads of every token, in the cache's precision."""
        return self.index_dim / self.compress_tokens if self.kind == "csa" else 0.0

    @property
    def decode_flop(self) -> float:
        """FLOP of a decode for each token within reach, all heads: latent kinds in their absorbed form."""
        if self.kind in STATES:
            return 0.0
        if self.kind in LATENT:
            return 2.0 * (2 * self.kv_lora + self.qk_rope) * self.heads
        if self.kind in COMPRESSED:
            return 4.0 * self.head_dim * self.heads / self.compress_tokens if self.compress_tokens else 0.0
        return 2.0 * (self.head_dim + self.value_dim) * self.heads

    @property
    def pair_flop(self) -> float:
        """FLOP of a prefill for each pair within reach, all heads: mla in its plain form."""
        if self.kind == "mla":
            return 2.0 * (self.qk_nope + self.qk_rope + self.v_dim) * self.heads
        return self.decode_flop

    @property
    def scan_flop(self) -> float:
        """FLOP of the index for each pair of a query and a token, all its heads."""
        if not self.index_heads:
            return 0.0
        return 2.0 * self.index_heads * self.index_dim / (self.compress_tokens or 1)

    @property
    def token_flop(self) -> float:
        """FLOP of each token whatever the context: a state is read, corrected and written; a window seen."""
        if self.kind in STATES:
            return 6.0 * self.heads * self.head_dim * (self.state_dim or self.head_dim)
        if self.kind in COMPRESSED:
            return 4.0 * self.head_dim * self.heads * self.window_tokens
        return 0.0

    # --- how it is launched

    @property
    def products(self) -> int:
        """Products of one layer with matrices in the weights' format, each a launch.

        Queries, keys and values together, and the output; latent kinds the down-projections together, the
        queries, and the output; compressed ones a group's output besides.
        """
        if self.kind in LATENT:
            return 3
        return 4 if self.kind in COMPRESSED else 2

    @property
    def bf16_products(self) -> int:
        """Products that stay in bf16: the two absorbed ones of latent kinds."""
        return 2 if self.kind in LATENT else 0

    @property
    def least_heads(self) -> int:
        """Query heads that a kernel computes at least on one device: chosen rows fill tiles of 64 heads.

        FlashMLA pads fewer with zeros (vLLM, `flashmla_sparse.py`), and so it is measured.
        """
        return LEAST_HEADS if self.kind in ("dsa", *COMPRESSED) else 1

    @property
    def index_kernel(self) -> str:
        """The kind of the index's kernel in `presets/kernels/attention.csv`."""
        return "index-msa" if self.kind == "msa" else "index"

    @property
    def inner_values(self) -> int:
        """Numbers of a token's queries, or of its output, before the output projection: all heads."""
        if self.kind in LATENT:
            return self.heads * self.v_dim
        return self.heads * self.head_dim


def with_layers(groups: tuple[Attention, ...], own: int, layers: int) -> tuple[Attention, ...]:
    """Return groups of a model of `own` layers for one of `layers`: the first takes the rest."""
    first, *others = groups
    room = max(round(sum(group.layers for group in groups) * layers / own), 1) - 1
    scaled = []
    for group in others:
        count = min(round(group.layers * layers / own), room)
        room -= count
        scaled.append(dataclasses.replace(group, layers=count))
    return (dataclasses.replace(first, layers=room + 1), *scaled)
