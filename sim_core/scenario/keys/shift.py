"""The scenario's keys of traffic that changes over time, and of the workers that move with it."""

from __future__ import annotations

from dataclasses import dataclass

from sim_core.scenario.keys.engine import keys_of
from sim_core.scenario.keys.speculation import SpeculationKeys
from sim_core.scenario.mixes import mix_classes

OTHER_MIX = "4000~0.5/50~0.5"  # read much, answer briefly: the other end of changing traffic

_demand, _reallocation, _strategy = map(keys_of, ("demand", "reallocation", "strategy"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftKeys(SpeculationKeys):
    """How traffic changes over time, what it takes to move a worker, and who decides that one moves."""

    demand: str = _demand(
        "Traffic over time",
        "How traffic changes over time (traffic shift): between the lengths above and those of mix_other",
        "markov",
        choices={
            "steady": "steady",
            "daily": "cycle",
            "step": "step",
            "spike": "spike",
            "markov": "random switching",
            "trace": "trace",
        },
    )
    demand_hours: float = _demand("Lasts", "How long the traffic lasts", 1.0, unit="h", low=0.001, high=1e3)
    dwell_s: float = _demand(
        "Mean time in a state",
        "Mean time in one state (markov), half a cycle (daily) or length of the spike",
        600.0,
        unit="s",
        low=0.1,
        high=1e7,
    )
    mix_other: str = _demand(
        "Lengths at the other end",
        f"Lengths at the other end of the change, a mix; empty = {OTHER_MIX}",
        "",
        reads=mix_classes,
    )
    mix_swing_frac: float = _demand(
        "Swing of the mix",
        "How far the mix swings between both ends; 0 stays half-way",
        1.0,
        low=0.0,
        high=1.0,
    )
    rate_swing_frac: float = _demand(
        "Swing of the load",
        "How far the load rises towards the other end and falls towards this one, as a share of its mean",
        0.0,
        low=-0.95,
        high=0.95,
    )
    demand_load_frac: float | None = _demand(
        "Load",
        "Share of the workers that the traffic needs, at any mix; empty = arrival_per_s, or the trace's rate",
        0.8,
        low=0.0,
        high=5.0,
    )

    drain: str = _reallocation(
        "Requests of a leaving worker",
        "What a worker that leaves the decode pool does with its requests",
        "finish",
        choices={"finish": "finish there", "migrate": "migrate"},
    )
    init_s: float = _reallocation("Start", "Start of process and device", 17.0, unit="s", low=0.0, high=1e5)
    storage_gb_per_s: float = _reallocation(
        "Loading weights",
        "Bandwidth at which a worker loads its weights",
        7.0,
        unit="GB/s",
        low=1e-3,
        high=1e6,
    )
    warm_up_s: float = _reallocation(
        "Warm-up", "Warm-up: graph capture, first kernels", 26.0, unit="s", low=0.0, high=1e5
    )
    sync_s: float = _reallocation(
        "Joining", "Joining the cluster: router, links", 2.5, unit="s", low=0.0, high=1e5
    )

    control_s: float = _strategy(
        "Decides every", "How often a strategy looks and decides", 5.0, unit="s", low=0.1, high=1e5
    )
    observe_s: float = _strategy(
        "Observes", "Window over which the reactive strategy observes", 60.0, unit="s", low=0.1, high=1e6
    )
    threshold_frac: float = _strategy(
        "Moves above",
        "Load of the busier pool above which a strategy looks for another split",
        0.9,
        low=0.0,
        high=10.0,
    )
    hysteresis_frac: float = _strategy(
        "And gains", "By how much another split must lower that load", 0.1, low=0.0, high=10.0
    )
    cooldown_s: float = _strategy(
        "Cool-down", "Least time between two decisions to move", 120.0, unit="s", low=0.0, high=1e6
    )
    forecast_s: float = _strategy(
        "Looks ahead", "How far the predictive strategy looks ahead", 180.0, unit="s", low=0.1, high=1e6
    )
    forecast_error_frac: float = _strategy(
        "Forecast error", "Error of its forecast of each pool's load", 0.2, low=0.0, high=10.0
    )
