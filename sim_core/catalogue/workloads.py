"""Workloads: prompt and output lengths of one kind of traffic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import MappingProxyType

from sim_core.catalogue.reader import load_preset, preset_ids
from sim_core.fields.described import described
from sim_core.fields.errors import ScenarioError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPreset:
    """Prompt and output lengths of one kind of traffic.

    Either parametric (mean and cv; lognormal, or fixed where cv is 0) or empirical (quantiles at
    `probabilities`, linear between). `rank_correlation` ties prompt and output of one request together.
    """

    id: str
    title: str = described("Name")
    prompt_tokens: float | None = described("Mean prompt length", None, unit="tokens", low=0.0, high=1e6)
    prompt_cv: float = described("Variation of prompt length", 0.0, low=0.0, high=10.0)
    output_tokens: float | None = described("Mean output length", None, unit="tokens", low=0.0, high=1e6)
    output_cv: float = described("Variation of output length", 0.0, low=0.0, high=10.0)
    probabilities: tuple[float, ...] = described("Where the quantiles stand", (), low=0.0, high=1.0)
    prompt_quantiles: tuple[float, ...] = described("Prompt lengths", (), low=0.0, high=1e7)
    output_quantiles: tuple[float, ...] = described("Output lengths", (), low=0.0, high=1e7)
    rank_correlation: float = described("Spearman correlation", 0.0, low=-0.99, high=0.99)
    source: str = described("Where the lengths come from")
    licence: str = described("Licence of the source", "")
    citation: str = described("What to cite", "")
    notes: str = described("What to know", "")

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


@cache
def workloads() -> Mapping[str, WorkloadPreset]:
    """Return all workloads by id, in alphabetical order."""
    return MappingProxyType({name: workload(name) for name in preset_ids("workloads")})


@cache
def workload(name: str) -> WorkloadPreset:
    """Return one workload by id."""
    return load_preset("workloads", name, WorkloadPreset)
