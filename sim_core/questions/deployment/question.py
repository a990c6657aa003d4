"""What is asked of a plan: model, traffic and limits, what may vary, and what is best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any

from sim_core.catalogue.accelerators import accelerator
from sim_core.catalogue.engines import engines
from sim_core.catalogue.prices import parse_prices
from sim_core.catalogue.reader import check_id, preset_ids
from sim_core.fields.errors import ScenarioError, did_you_mean
from sim_core.fields.field import FieldInfo, check
from sim_core.questions.deployment import recorded
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.scenario import FIELDS, Scenario, accelerator_of
from sim_core.traffic.requests import Requests
from sim_core.traffic.texts import has_sequels

OBJECTIVES: Mapping[str, str] = MappingProxyType(
    {
        "usd_per_hour": "USD per hour",
        "devices": "devices",
        "usd_per_mtok": "USD per million output tokens",
        "joule_per_tok": "joule per output token",
        "headroom": "load beyond the rate, on max_devices",
    }
)
RANKINGS: Mapping[str, str] = MappingProxyType(
    {
        "plain": "as predicted",
        "trusted": "those in the validated region first",
        "pessimistic": "as if each step took as long as its band allows",
    }
)
LAYOUT = ("tensor_parallel", "attention_data_parallel", "expert_parallel")
DEFAULT_FREE = (*LAYOUT, "max_batch")
FREE: Mapping[str, tuple[Any, ...]] = MappingProxyType(  # the keys that may vary, and their values
    {
        "weight_dtype": ("bf16", "fp8", "fp4"),
        "kv_dtype": ("bf16", "fp8"),
        "engine": ("", *engines()),
        "policy": ("chunked", "prefill_first", "disaggregated"),
        "tensor_parallel": (1, 2, 4, 8, 16, 32),
        "attention_data_parallel": (),  # the whole group, or none
        "expert_parallel": (),
        "pipeline_parallel": (1, 2, 4),
        "token_budget": (2048, 8192, 16_384),
        "max_batch": (64, 256, 1024),
    }
)
ALL = "all"
TOP = 10
MOST_DEVICES = 65_536
_LIMITS = {
    "max_devices": FieldInfo(int, "plan", "Most devices of a deployment", low=1, high=MOST_DEVICES),
    "top": FieldInfo(int, "plan", "Rows of the ranking", low=1, high=100),
    "spare": FieldInfo(int, "plan", "Replicas beyond those that the rate needs", low=0, high=16),
    "growth_frac": FieldInfo(float, "plan", "Growth of the rate to plan for", low=0.0, high=100.0),
    "margin_frac": FieldInfo(float, "plan", "Safety margin on the rate", low=0.0, high=100.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which accelerators, how many, laid out how, for a model, its traffic and its limits?

    Attributes
    ----------
    scenario : Scenario
        Model, lengths, limits and engine; what is not free stays as it says.
    rate_per_s : float
        Requests a second, now. [1/s]
    accelerators : tuple of str
        The candidates, presets' ids.
    free : tuple of str
        Keys of `FREE` that may vary.
    objective : str
        One of `OBJECTIVES`.
    max_devices : int or None
        The most devices of a deployment.
    top : int
        How many deployments to rank.
    growth_frac, margin_frac : float
        By what share the rate grows, and how much more than that it shall be able to serve.
    spare : int
        Replicas beyond those needed, or workers of either pool.
    ranking : str
        One of `RANKINGS`.
    models : tuple of str
        Models that would do, presets' ids; without any, the scenario's.
    trace : Requests or None
        Requests to replay in place of drawn ones, all of them. Under `arrivals = "trace"` in their own
        pattern, scaled to the rate; else their lengths alone.

    Raises
    ------
    ScenarioError
        If a value cannot be.
    """

    scenario: Scenario
    rate_per_s: float
    accelerators: tuple[str, ...]
    free: tuple[str, ...] = DEFAULT_FREE
    objective: str = "usd_per_hour"
    max_devices: int | None = None
    top: int = TOP
    growth_frac: float = 0.0
    margin_frac: float = 0.0
    spare: int = 0
    ranking: str = "plain"
    models: tuple[str, ...] = ()
    trace: Requests | None = None

    def __post_init__(self) -> None:
        check("rate", self.rate_per_s, FIELDS["arrival_per_s"])
        for name, info in _LIMITS.items():
            if getattr(self, name) is not None:
                check(name, getattr(self, name), info)
        _check_choice("objective", self.objective, OBJECTIVES)
        _check_choice("ranking", self.ranking, RANKINGS)
        for key in self.free:
            if key not in FREE:
                raise ScenarioError(f"cannot leave {key!r} free. {did_you_mean(key, FREE)}")
        if not self.accelerators:
            raise ScenarioError("there is no accelerator to consider; give some, or all.")
        for name in self.accelerators:
            check_id("accelerators", name)
        self.check_models()
        if self.objective == "headroom" and self.max_devices is None:
            raise ScenarioError(
                "objective is headroom, the load that given devices can take: set max_devices."
            )
        if self.scenario.policy == "static":
            raise ScenarioError(
                "policy is static, which a plan does not size; choose policy=chunked or prefill_first."
            )
        check("rate with growth and margin", self.planned_per_s, FIELDS["arrival_per_s"])

    @property
    def planned_per_s(self) -> float:
        """The rate that a deployment must serve: grown, with its margin. [1/s]"""
        return float(self.rate_per_s * (1 + self.growth_frac) * (1 + self.margin_frac))

    def check_models(self) -> None:
        """Raise a `ScenarioError` where a model is unknown, or cannot be what the scenario says."""
        for name in self.models:
            check_id("models", name, (self.scenario.model,))
            self.with_model(name)

    def with_model(self, name: str) -> Scenario:
        """Return the scenario with one of the models; its own keeps its dimensions."""
        return self.scenario if name == self.scenario.model else with_changes(self.scenario, model=name)

    @property
    def compares_models(self) -> bool:
        """Whether rows may differ in their models."""
        return len(self.models) > 1

    @property
    def replays(self) -> bool:
        """Whether recorded requests come in their own pattern, scaled to the rate."""
        return recorded.keeps_pattern(self.scenario)

    @property
    def in_turns(self) -> bool:
        """Whether requests follow answers, so that runs go step by step."""
        return self.scenario.turns > 1 if self.trace is None else has_sequels(self.trace)

    def requests_of_run(self, wanted: int) -> int:
        """Return the requests of a run that should have so many: of a trace, whole passes."""
        return recorded.requests_of_run(self.scenario, self.trace, wanted)

    def stated(self, scenario: Scenario) -> Scenario:
        """Return a scenario with drawn requests, of the trace's mean lengths where there is one."""
        return recorded.by_means(scenario, self.trace)

    @property
    def unit(self) -> str:
        """What a deployment's worth is counted in."""
        units = {"usd_per_hour": "USD/h", "usd_per_mtok": "USD/h", "joule_per_tok": "W"}
        return units.get(self.objective, "devices")

    @property
    def has_pools(self) -> bool:
        """Whether two pools are candidates, too."""
        return "policy" in self.free or self.scenario.split

    @property
    def device_limit(self) -> int:
        """The most devices of a deployment."""
        return MOST_DEVICES if self.max_devices is None else self.max_devices


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ScenarioError(f"{name} is {value!r}. {did_you_mean(str(value), choices)}")


def with_a_price(scenario: Scenario) -> tuple[str, ...]:
    """Return the accelerators that have a price: the scenario's own, one of its `prices`, or as published."""
    own = parse_prices(scenario.prices)

    def has_one(name: str) -> bool:
        part = accelerator_of(scenario) if name == scenario.accelerator else accelerator(name)
        return name in own or bool(part.price_usd_per_hour)

    return tuple(filter(has_one, preset_ids("accelerators")))


def accelerators_named(text: str | Iterable[str], scenario: Scenario) -> tuple[str, ...]:
    """Return the accelerators that a list names: ids, and `all` for those with a price."""
    names = [part.strip() for part in text.split(",")] if isinstance(text, str) else list(text)
    names = [name for name in names if name]
    each = (with_a_price(scenario) if name == ALL else (name,) for name in names)
    return tuple(dict.fromkeys(chain.from_iterable(each)))


def models_named(text: str | Iterable[str]) -> tuple[str, ...]:
    """Return the models that a list of ids names, each once."""
    names = [part.strip() for part in text.split(",")] if isinstance(text, str) else list(text)
    return tuple(dict.fromkeys(name for name in names if name))


def keys_named(text: str | Iterable[str]) -> tuple[str, ...]:
    """Return the keys that a list names, in the order of `FREE`; unknown ones are left for the check."""
    names = [part.strip() for part in text.split(",")] if isinstance(text, str) else list(text)
    order = list(FREE)
    known = {name for name in names if name}
    return tuple(sorted(known, key=lambda name: order.index(name) if name in FREE else len(order)))
