"""Engines by name: the same requests under the rules and kernels of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_core.catalogue.engines import ServingEngine, engines
from sim_core.engine.run import run
from sim_core.engine.work import kept
from sim_core.fields.errors import ScenarioError
from sim_core.price.price import price_of
from sim_core.questions.experiments.common import REMEMBERED, Row, one_engine
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.scenario import Scenario, admission_of, steps_to_first_seen
from sim_core.sweep.frontier import row_of

ENGINE_REQUESTS = 5000


@dataclass(frozen=True, slots=True, eq=False)
class EngineRuns:
    """The same requests under each engine's rules.

    Attributes
    ----------
    scenarios : dict of str to Scenario
        What runs, by the id of the engine.
    rows : list of dict
        Figures of each run, with the rules that the engine sets; where one cannot run, why.
    waits_s : dict of str to ndarray
        From sending each request to seeing its first token, in rising order. [s]
    """

    scenarios: dict[str, Scenario]
    rows: list[Row]
    waits_s: dict[str, np.ndarray]

    def row(self, name: str) -> Row:
        """Return the figures of one engine."""
        return next(row for row in self.rows if row["engine"] == name)


def under(scenario: Scenario, name: str) -> Scenario:
    """Return the scenario under an engine as it comes, whatever rules the scenario itself names."""
    free = scenario.replace(engine="", admission="", first_token_lag_steps=None)
    return with_changes(free, engine=name)


@kept(REMEMBERED, unit="requests")
def engine_runs(scenario: Scenario) -> EngineRuns:
    """Return what each engine makes of a scenario's requests, on one replica.

    Raises
    ------
    ScenarioError
        If the scenario cannot run.
    """
    price_of(scenario)  # a model that does not fit has nothing to show
    base = one_engine(scenario, ENGINE_REQUESTS)
    cases = {name: under(base, name) for name in engines()}
    found = EngineRuns(cases, [], {})
    for name, case in cases.items():
        found.rows.append(_row(case, engines()[name], found.waits_s))
    return found


def _row(scenario: Scenario, named: ServingEngine, waits_s: dict[str, np.ndarray]) -> Row:
    rules: Row = {
        "engine": named.id,
        "policy": scenario.policy,
        "admission": admission_of(scenario),
        "token_budget": scenario.token_budget,
        "first_seen_steps": steps_to_first_seen(scenario),
    }
    try:
        found = run(scenario)
    except ScenarioError as error:
        return {**rules, "feasible": False, "reason": str(error)}
    waits_s[named.id] = np.sort((found.first_token_s - found.arrival_s)[~found.rejected])
    return row_of(rules, found)
