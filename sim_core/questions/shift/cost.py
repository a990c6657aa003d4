"""What it costs to work out changing traffic, and how many hours of it a page may take."""

from __future__ import annotations

from sim_core.engine import work
from sim_core.questions.shift.cluster import check_workers
from sim_core.questions.shift.study import Study, as_two_pools, needs_for
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.traffic import demand as demands
from sim_core.traffic.requests import Requests

DRIVES = 2.0  # strategies that a view cannot do without; the others come one by one, and can be stopped
MOMENT_S = 1e-6  # to look at the traffic once, and for each worker as much as:
MOMENT_WORKER_S = 2.5e-7
DECISION_S = 3e-4  # to look again after a move
WORKER_TURNS = 0.5  # that a request takes for each worker that is looked at
GROUP_STEPS = 3.5  # of a worker of several ranks, for each request: runs of equal ones as one
REQUEST_BYTES = 300


def hours_of(scenario: Scenario, trace: Requests | None, given: work.Allowance) -> float:
    """Return how many hours of a scenario's traffic a view may work out, about.

    Each request is served, and at every control interval the strategy looks at what each split would bring.
    """
    workers = check_workers(scenario)
    request_per_s = demands.mean_rate_per_s(scenario, needs_for(scenario, trace), workers, trace)
    turns = work.REQUEST_TURNS + WORKER_TURNS * workers
    if scenario.decode_ranks > 1:
        turns += GROUP_STEPS * work.RANK_TURNS * scenario.decode_ranks
    request_s = work.REQUEST_S + work.TURN_S * turns
    moment_s = MOMENT_S + MOMENT_WORKER_S * workers
    pause_s = max(scenario.control_s, scenario.cooldown_s)
    cost_frac = request_per_s * request_s + moment_s / scenario.control_s + DECISION_S / pause_s
    most_s = min(given.seconds / DRIVES / cost_frac, given.most_bytes / REQUEST_BYTES / request_per_s)
    return most_s / 3600


def affordable(scenario: Scenario, trace: Requests | None = None) -> Scenario:
    """Return a scenario with as many hours of its traffic as a view may work out.

    Raises
    ------
    TooMuch
        If these are fewer than a scenario may have.
    """
    given = work.allowance()
    if given is None:
        return scenario
    hours = hours_of(as_two_pools(scenario, trace), trace, given)
    if hours >= scenario.demand_hours:
        return scenario
    hours = work.round_down(hours * 1000) / 1000
    if hours < FIELDS["demand_hours"].low:
        raise work.TooMuch(
            "a few seconds of this traffic take more than a page may run. Lower the request rate or the "
            "load, take fewer workers or a longer control_s, or use the command, which has no such limit."
        )
    given.note("hours", scenario.demand_hours, hours)
    return scenario.replace(demand_hours=hours)


def study(scenario: Scenario, trace: Requests | None = None) -> Study:
    """Return the study of a scenario's traffic, of fewer hours where a view may not work out all."""
    scenario = affordable(scenario, trace)
    with work.estimated():
        return Study(scenario, trace)


def whole_study(scenario: Scenario) -> Study:
    """Return the study of all of a scenario's traffic.

    Raises
    ------
    TooMuch
        If a view may not work out all.
    """
    if affordable(scenario) is not scenario:
        raise work.TooMuch(
            f"{scenario.demand_hours:,.3g} hours of this traffic take more than a page may run. Lower the "
            "request rate or the load, shorten the reallocation, or use the command."
        )
    with work.estimated():
        return Study(scenario)
