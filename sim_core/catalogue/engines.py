"""Serving engines: which rules each has unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from sim_core.catalogue.reader import load_preset, preset_ids
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
