"""Deployments that others recommend or run for a stated question: facts of `presets/examples`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from sim_core.catalogue.reader import load_preset, preset_ids
from sim_core.fields.described import described


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A published answer to which layout serves best within limits on mean latencies.

    Scenario and layouts are keys as a link has them. A figure that the source does not state is None.
    """

    id: str
    title: str = described("What is asked")
    source: str = described("Where the figures come from")
    measured: bool = described("Whether the figures were measured; else they were predicted")
    scenario: str = described("Model, accelerator, precision and lengths")
    devices: int = described("Devices", low=1, high=1024)
    ttft_ms: float = described("Limit on the mean TTFT", unit="ms", low=0.0, high=1e8)
    tpot_ms: float | None = described("Limit on the mean TPOT", None, unit="ms", low=0.0, high=1e7)
    request_ms: float | None = described("Limit on a request as a whole", None, unit="ms", low=0.0, high=1e8)
    pools_layout: str = described("Two pools: one part of the devices, of parts that are alike", "")
    pools_tok_per_s_per_device: float = described(
        "Two pools: output tokens", unit="tok/s per device", low=0.0, high=1e6
    )
    pools_ttft_ms: float = described("Two pools: mean TTFT", unit="ms", low=0.0, high=1e8)
    pools_tpot_ms: float = described("Two pools: mean TPOT", unit="ms", low=0.0, high=1e7)
    one_layout: str = described("One pool: an engine", "")
    one_tok_per_s_per_device: float | None = described(
        "One pool: output tokens", None, unit="tok/s per device", low=0.0, high=1e6
    )
    one_ttft_ms: float | None = described("One pool: mean TTFT", None, unit="ms", low=0.0, high=1e8)
    one_tpot_ms: float | None = described("One pool: mean TPOT", None, unit="ms", low=0.0, high=1e7)
    ratio: float | None = described("Two pools over one, as stated", None, unit="x", low=0.0, high=100.0)
    notes: str = described("What to know", "")


@cache
def examples() -> Mapping[str, Example]:
    """Return all published examples by id."""
    return MappingProxyType({name: load_preset("examples", name, Example) for name in preset_ids("examples")})
