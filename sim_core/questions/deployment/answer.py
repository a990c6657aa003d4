"""What a plan answers: ranked deployments, and why the others lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sim_core.price.pools import decode_of, prefill_of
from sim_core.questions.deployment.question import Question
from sim_core.scenario.link.write import to_query
from sim_core.scenario.scenario import Scenario

HOURS_A_MONTH = 730.0
ESTIMATED, CONFIRMED = "estimate", "confirmed"
KEYS = (  # of the scenario, as a row shows them
    "accelerator",
    "weight_dtype",
    "kv_dtype",
    "engine",
    "policy",
    "tensor_parallel",
    "attention_data_parallel",
    "expert_parallel",
    "pipeline_parallel",
)


def layout_name(scenario: Scenario) -> str:
    """Return what people call the layout of one engine."""
    tp, ranks = scenario.tensor_parallel, scenario.attention_data_parallel
    parts = [f"TP{tp}"] if ranks < tp or ranks == 1 else []
    for name, count in (("DP", ranks), ("EP", scenario.expert_parallel), ("PP", scenario.pipeline_parallel)):
        parts += [f"{name}{count}"] if count > 1 else []
    return " ".join(parts)


def pools_name(scenario: Scenario) -> str:
    """Return what people call the layout of two pools, prefill first."""
    pools = (prefill_of(scenario), decode_of(scenario))
    return " + ".join(f"{pool.replicas} × {layout_name(pool)}" for pool in pools)


def layout_called(scenario: Scenario) -> str:
    """Return what people call the layout, of one pool or of two."""
    return pools_name(scenario) if scenario.split else layout_name(scenario)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One deployment that serves the rate within the limits.

    Attributes
    ----------
    rank : int
        From 1; deployments of equal worth have one rank.
    tie : bool
        Whether another row is as good, within the error.
    scenario : Scenario
        The deployment under the planned rate: running it gives the row's latencies.
    accelerators, accelerators_low, accelerators_high : int
        Devices, and the least and the most of them by the band of a step's time; the last is None where a
        slow step may not keep the limits with any number.
    capacity_per_s : float
        The highest rate within the limits, a replica (of two pools: all of them but the spare ones). [1/s]
    spare : int
        Replicas, or workers of either pool, beyond those that the rate needs.
    ttft_ms, tpot_ms : float
        At the percentile of the limits. [ms]
    limit : str
        What binds just above the capacity.
    equal : tuple of str
        Settings that make no difference, such as ``max_batch=1024``.
    stage : str
        ``confirmed`` by long runs, or an ``estimate`` by arithmetic.
    """

    rank: int
    tie: bool
    scenario: Scenario
    accelerators: int
    accelerators_low: int
    accelerators_high: int | None
    capacity_per_s: float
    spare: int = 0
    usd_per_hour: float | None
    badge: str
    usd_per_mtok: float | None = None
    joule_per_tok: float | None = None
    ttft_ms: float = math.nan
    tpot_ms: float = math.nan
    limit: str = ""
    reasons: tuple[str, ...] = ()
    equal: tuple[str, ...] = ()
    stage: str = CONFIRMED
    launch: str = ""

    @property
    def replicas(self) -> int:
        """Whole engines behind the router; two pools are one."""
        return 1 if self.scenario.split else self.scenario.replicas

    @property
    def layout(self) -> str:
        """What people call the layout, such as ``TP4``, ``DP8 EP8`` or ``4 × TP1 + 1 × TP4``."""
        return layout_called(self.scenario)

    @property
    def usd_per_month(self) -> float | None:
        """Rent of 730 hours. [USD]"""
        return None if self.usd_per_hour is None else HOURS_A_MONTH * self.usd_per_hour

    @property
    def headroom_frac(self) -> float:
        """Share of the planned rate that it could serve beyond it, without its spare ones."""
        needed = 1 if self.scenario.split else self.replicas - self.spare
        return self.capacity_per_s * needed / self.scenario.arrival_per_s - 1

    def as_dict(self, names_model: bool = False) -> dict[str, Any]:
        """Return it as the command line prints it."""
        shown, split = self.scenario, self.scenario.split
        return {
            "rank": self.rank,
            "tie": self.tie,
            **({"model": shown.model} if names_model else {}),
            **{key: getattr(shown, key) for key in KEYS},
            "prefill_workers": shown.prefill_workers if split else None,
            "decode_workers": shown.decode_workers if split else None,
            "replicas": self.replicas,
            **{name: getattr(self, name) for name in _FIGURES},
            "scenario": to_query(shown),
            "launch": self.launch,
        }


_FIGURES = (
    "accelerators",
    "accelerators_low",
    "accelerators_high",
    "capacity_per_s",
    "usd_per_hour",
    "usd_per_mtok",
    "joule_per_tok",
    "ttft_ms",
    "tpot_ms",
    "limit",
    "badge",
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Candidates of one model that lost for one reason, on one accelerator.

    Attributes
    ----------
    limit : str
        Why: ``memory``, ``scenario``, ``rejected``, ``ttft``, ``tpot``, ``devices``, ``rank`` or ``equal``.
    model, accelerator : str
    count : int
        Candidates.
    reason : str
        A sentence about the nearest of them.
    nearest : Scenario or None
        That one.
    """

    limit: str
    model: str
    accelerator: str
    count: int
    reason: str
    nearest: Scenario | None = None

    def as_dict(self, names_model: bool = False) -> dict[str, Any]:
        """Return it as the command line prints it."""
        shown = "" if self.nearest is None else to_query(self.nearest)
        return {
            "limit": self.limit,
            **({"model": self.model} if names_model else {}),
            "accelerator": self.accelerator,
            "count": self.count,
            "reason": self.reason,
            "scenario": shown,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer to a question: the sentence, the ranking, the losers by reason, and what was looked at.

    Attributes
    ----------
    question : Question
    sentence : str
        What to take, by how much, why, how sure; without rows: what is nearest to possible.
    rows : tuple of Deployment
        Best first.
    rejected : tuple of Rejected
    counts : mapping
        Candidates by the stage at which they left the search; `all` of them.
    stage : str
        ``estimate`` of what is painted at once, or ``confirmed``.
    """

    question: Question
    sentence: str
    rows: tuple[Deployment, ...]
    rejected: tuple[Rejected, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    stage: str = CONFIRMED

    def row_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as the command line prints them, with their models where several were asked for."""
        return [row.as_dict(self.question.compares_models) for row in self.rows]

    def as_dict(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        asked = self.question
        return {
            "sentence": self.sentence,
            "rate_per_s": asked.planned_per_s,
            "objective": asked.objective,
            "ranking": asked.ranking,
            "free": list(asked.free),
            **({} if asked.trace is None else {"trace": asked.trace.name}),
            "candidates": dict(self.counts),
            "rows": self.row_dicts(),
            "rejected": [group.as_dict(asked.compares_models) for group in self.rejected],
        }
