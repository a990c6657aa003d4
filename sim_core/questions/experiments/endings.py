"""Irregular endings: what the spread of answer lengths does under static and continuous batching."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sim_core.engine.run import run
from sim_core.engine.work import kept
from sim_core.fields.errors import ScenarioError
from sim_core.price.price import price_of
from sim_core.questions.experiments.common import (
    REMEMBERED,
    Row,
    continuous_policy,
    drawn,
    one_engine,
    rounded,
)
from sim_core.questions.experiments.preemption import PRESSURE_REQUESTS
from sim_core.questions.experiments.waiting import batch_sizes
from sim_core.results.use import padding_frac
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.scenario import FIELDS, Scenario
from sim_core.sweep.frontier import row_of
from sim_core.traffic.draws import requests_sent

# --- answers that end at different times ----------------------------------------------------------

SPREADS = (0.0, 0.5, 1.0, 3.0)
TURNS = 12  # requests for each client, on average
ENDING_REQUESTS = (1000, 8000)


@dataclass(frozen=True, slots=True, eq=False)
class Endings:
    """Answers of the same mean length and different spread, under static and continuous batching.

    Attributes
    ----------
    scenarios : dict of float to Scenario
        By spread (coefficient of variation): the closed loop, without its policy.
    policy : str
        The continuous policy compared.
    rows : list of dict
        One for each spread and policy: metrics as `frontier` gives them, `mean_output_tokens` of the sample,
        `longest_output_tokens`, `rejected`, `batch_requests` and `padding_frac`.
    """

    scenarios: dict[float, Scenario]
    policy: str
    rows: list[Row]

    def row(self, policy: str, spread: float) -> Row:
        """Return the row of a policy and a spread."""
        return next(row for row in self.rows if row["policy"] == policy and row["spread_cv"] == spread)


@kept(REMEMBERED, unit="requests")
def endings(scenario: Scenario) -> Endings:
    """Return what the spread of answer lengths does, at the same mean, for as many clients as places.

    Prompts are those of the scenario; a mix counts as one class with its mean lengths.

    Raises
    ------
    ScenarioError
        If the scenario cannot run.
    """
    price_of(scenario)  # a model that does not fit has nothing to show
    policy = continuous_policy(scenario)
    base = _crowd(scenario)
    target = float(requests_sent(base).output_tokens.mean())
    cases = {spread: _with_spread(base, spread, target) for spread in SPREADS}
    rows = [
        _ending_row(spread, case.replace(policy=name))
        for spread, case in cases.items()
        for name in ("static", policy)
    ]
    return Endings(cases, policy, rows)


def _crowd(scenario: Scenario) -> Scenario:
    """Return the scenario as a closed loop of as many clients as places in the batch, of one class."""
    base = one_engine(drawn(scenario), int(FIELDS["requests"].high))
    clients = base.max_running
    if base.mix:
        traffic = requests_sent(base.replace(arrivals="offline", requests=PRESSURE_REQUESTS))
        prompts = traffic.prompt_tokens
        base = with_changes(
            base,
            mix="",
            prompt_tokens=max(1, round(float(prompts.mean()))),
            prompt_cv=min(rounded(float(prompts.std() / prompts.mean()), 2), FIELDS["prompt_cv"].high),
            output_tokens=max(1, round(float(traffic.output_tokens.mean()))),
            output_cv=0.0,
        )
    least, most = ENDING_REQUESTS
    requests = min(max(TURNS * clients, least), most)
    requests = max(requests, 2 * clients)
    return base.replace(arrivals="closed", concurrency=clients, requests=requests, output_cv=0.0)


def _with_spread(scenario: Scenario, spread: float, target: float) -> Scenario:
    """Return the scenario with answers of a spread whose sample mean is as near to the target as can be."""
    mean, best = target, (math.inf, scenario)
    for _ in range(6):
        tokens = min(max(1, round(mean)), FIELDS["output_tokens"].high)
        case = scenario.replace(output_cv=spread, output_tokens=tokens)
        sample = float(requests_sent(case).output_tokens.mean())
        if abs(sample - target) < best[0]:
            best = (abs(sample - target), case)
        mean = tokens * target / sample
        if round(mean) == tokens:
            break
    return best[1]


def _ending_row(spread: float, scenario: Scenario) -> Row:
    keys = {"spread_cv": spread, "policy": scenario.policy, "output_tokens": scenario.output_tokens}
    try:
        found = run(scenario)
    except ScenarioError as error:
        return {**keys, "feasible": False, "reason": str(error)}
    outputs = found.output_tokens
    row = row_of(keys, found)
    row["mean_output_tokens"] = float(outputs.mean())
    row["longest_output_tokens"] = int(outputs.max())
    row["rejected"] = int(found.rejected.sum())
    static = scenario.policy == "static"
    row["batch_requests"] = float(batch_sizes(found).mean()) if static else row["mean_batch"]
    row["padding_frac"] = padding_frac(found)
    return row
