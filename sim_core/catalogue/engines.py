"""Serving engines: which rules each has unless told otherwise."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from sim_core.catalogue.reader import PRESETS, load_preset, preset_ids
from sim_core.fields.described import described


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingEngine:
    """The rules of one serving engine as it comes; the scenario's keys of the same names hold them."""

    id: str
    name: str = described("Name")
    vendor: str = described("Vendor of the parts that it runs on; empty = of several", "")
    policy: str = described("Scheduling", choices=("chunked", "prefill_first"))
    admission: str = described("Admission", choices=("full_prompt", "reserve_output", "reserve_share"))
    token_budget: int = described("Token budget", unit="tokens", low=1, high=262_144)
    first_token_lag_steps: float = described("First token seen late", unit="steps", low=0.0, high=1000.0)
    moe_first_token_lag_steps: float = described(
        "First token of a model with experts seen late", unit="steps", low=0.0, high=1000.0
    )
    latent_first_token_lag_steps: float = described(
        "First token of a model with latent attention seen late", unit="steps", low=0.0, high=1000.0
    )
    split_latent_first_token_lag_steps: float = described(
        "The same from two pools, counted from when a decode worker takes the request over",
        unit="steps",
        low=0.0,
        high=1000.0,
    )
    sends_first_token_at_once: bool = described("Whether a first token waits for no streaming interval")
    sequence_host_frac: float = described(
        "Share of the host's time for a sequence in an engine that loops in Python",
        1.0,
        low=0.0,
        high=1.0,
        zero=True,
    )
    draft_host_frac: float = described(
        "Share of the host's time for drafts that is not hidden", 1.0, low=0.0, high=1.0, zero=True
    )
    source: str = described("Where the rules come from")
    notes: str = described("What to know", "")

    def lag_steps(self, has_experts: bool, is_latent: bool = False, is_split: bool = False) -> float:
        """Return how many decode steps late a client sees a first token, by kind of model and pools."""
        if is_latent:
            return self.split_latent_first_token_lag_steps if is_split else self.latent_first_token_lag_steps
        return self.moe_first_token_lag_steps if has_experts else self.first_token_lag_steps


@cache
def engines() -> Mapping[str, ServingEngine]:
    """Return all engines by id, in alphabetical order."""
    return MappingProxyType({name: engine(name) for name in preset_ids("engines")})


@cache
def engine(name: str) -> ServingEngine:
    """Return one engine by id."""
    return load_preset("engines", name, ServingEngine)


class Flag(NamedTuple):
    """What an engine calls a key: the flag of its command or the option of its file, and its own default."""

    flag: str
    default: str


class KeyEffect(NamedTuple):
    """What a key does to latency and throughput, and its flag by the id of each engine that has one."""

    effect: str
    flags: Mapping[str, Flag]


@cache
def key_effects() -> Mapping[str, KeyEffect]:
    """Return what is known of each key of a scenario beside its meaning: its effect and its flags."""
    tables = tomllib.loads((PRESETS / "controls.toml").read_text(encoding="utf-8"))
    del tables["source"]
    return MappingProxyType({key: _effect(**about) for key, about in tables.items()})


def _effect(effect: str, **flags: Mapping[str, str]) -> KeyEffect:
    return KeyEffect(effect, MappingProxyType({name: Flag(**flag) for name, flag in flags.items()}))
