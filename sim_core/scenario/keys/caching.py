"""The scenario's keys of prefix caching: conversations that come again, and what is kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sim_core.scenario.keys.engine import EngineKeys, keys_of
from sim_core.scenario.lengths import MOST_TOKENS

ALONE: Mapping[str, Any] = MappingProxyType(  # keys of requests that have nothing in common, and no cache
    {
        "prefix_hit_frac": 0.0,
        "prefix_caching": "off",
        "turns": 1,
        "system_tokens": 0,
        "turn_tokens": None,
        "think_s": 0.0,
        "host_cache_gb": 0.0,
    }
)
_caching = keys_of("caching")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKeys(EngineKeys):
    """What prompts have in common with earlier ones, and what of that the engine keeps and reuses."""

    prefix_hit_frac: float = _caching(
        "Cached share of prompts",
        "Share of every prompt that is found in the prefix cache, without simulating the cache",
        0.0,
        low=0.0,
        high=1.0,
    )
    prefix_caching: str = _caching(
        "Prefix caching",
        "Keep the KV blocks of finished requests, and reuse them for prompts that begin alike",
        "off",
        choices=("off", "on"),
    )
    turns: int = _caching(
        "Turns of a session",
        "Requests of one conversation, each of which begins with all that was said before; 1 = no sessions",
        1,
        low=1,
        high=10_000,
    )
    system_tokens: int = _caching(
        "System prompt", "Tokens with which every prompt begins", 0, unit="tokens", low=0, high=MOST_TOKENS
    )
    turn_tokens: int | None = _caching(
        "Added a turn",
        "Tokens that each later turn adds to the conversation; empty = as many as the first prompt",
        None,
        unit="tokens",
        low=1,
        high=MOST_TOKENS,
    )
    think_s: float = _caching(
        "Think time",
        "Mean time from an answer to the next turn of its session",
        0.0,
        unit="s",
        low=0.0,
        high=1e6,
    )
    host_cache_gb: float = _caching(
        "Host cache",
        "Host memory of an engine in which KV blocks that leave the device are kept; 0 = none",
        0.0,
        unit="GB",
        low=0.0,
        high=1e6,
    )
