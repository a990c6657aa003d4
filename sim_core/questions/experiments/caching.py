"""Prefix caching: what is found of a scenario's prompts, how many users fit, what more room brings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim_core.engine.results import Run
from sim_core.engine.rules import counted_requests
from sim_core.engine.run import run
from sim_core.engine.work import kept
from sim_core.fields.errors import ScenarioError
from sim_core.price.memory import memory
from sim_core.questions.experiments.common import REMEMBERED, Row, continuous_policy, one_engine
from sim_core.results.metrics import point_of
from sim_core.results.reuse import Reuse, reuse_of
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent

REQUESTS = 3000
TURNS_EACH = 12  # requests of each user in a run, at least: the first find nothing
USERS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
MOMENTS = 300  # of a run at which the account is drawn
HOST_GB = (100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)  # what servers have beside eight devices or fewer


class Account(NamedTuple):
    """KV blocks over time [s], as shares of all: used by requests that run, and cached for those to come."""

    time_s: np.ndarray
    used_frac: np.ndarray
    cached_frac: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Caching:
    """What a prefix cache does for a scenario.

    Attributes
    ----------
    scenario : Scenario
        What was simulated, with its cache: on one engine.
    reuse : Reuse
        What of its prompts could be found again.
    now : dict
        The scenario's own point.
    account : Account
        What the KV blocks of its run are for, over time.
    users : list of dict
        The same by the number of users; empty where requests are not in sessions.
    options : dict of str to dict
        What more room brings: a point each, by name.
    """

    scenario: Scenario
    reuse: Reuse
    now: Row
    account: Account
    users: list[Row]
    options: Mapping[str, Row]

    @property
    def fits(self) -> float:
        """How many sessions fit: the pool over what one takes between its turns, a rule of thumb."""
        return sessions_that_fit(self.now["kv_tokens"], self.reuse)


def sessions_that_fit(kv_tokens: float, reuse: Reuse) -> float:
    """Return how many sessions of mean length a pool keeps at once; infinite where there are none."""
    return kv_tokens / reuse.kept_tokens if reuse.kept_tokens else math.inf


def draws_sessions(scenario: Scenario) -> bool:
    """Return whether the scenario draws sessions."""
    return scenario.turns > 1 and scenario.arrivals != "trace"


def shares_prefixes(scenario: Scenario) -> bool:
    """Return whether prompts of the scenario have anything in common that a cache could find."""
    return scenario.turns > 1 or scenario.system_tokens > 0


def cached(scenario: Scenario) -> Scenario:
    """Return the scenario with its cache, on one engine that batches continuously."""
    one = one_engine(scenario, scenario.requests)
    policy = continuous_policy(scenario)
    return one.replace(prefix_caching="on", prefix_hit_frac=0.0, policy=policy)


def of_users(scenario: Scenario, users: int) -> Scenario:
    """Return the scenario for so many users, with enough requests for each."""
    requests = max(min(scenario.requests, REQUESTS), TURNS_EACH * users)
    return scenario.replace(arrivals="closed", concurrency=users, requests=requests)


@kept(REMEMBERED, unit="requests")
def caching(scenario: Scenario) -> Caching:
    """Return what a prefix cache does for a scenario.

    Raises
    ------
    ScenarioError
        If the scenario cannot run.
    """
    base = cached(scenario)
    sized = base.replace(requests=min(base.requests, REQUESTS))
    if base.arrivals == "closed" and draws_sessions(base):
        sized = of_users(base, base.concurrency)
    now = point(sized)
    if not now["feasible"]:
        raise ScenarioError(now["reason"])
    counted = counted_requests(sized, sized.requests)
    reuse = reuse_of(requests_sent(sized), sized.kv_block_tokens, counted[0] if counted else 0)
    options = {name: point(case) for name, case in options_of(sized).items()}
    users = []
    if draws_sessions(base):
        fits = sessions_that_fit(now["kv_tokens"], reuse)
        users = [point(of_users(base, many)) | {"users": many} for many in users_tried(fits)]
    return Caching(sized, reuse, now, account_of(run(sized, log=True)), users, options)


def users_tried(fits: float) -> list[int]:
    """Return numbers of users, closer together where sessions cease to fit."""
    near = (round(fits * share) for share in (0.8, 0.9, 1.0, 1.1, 1.25))
    return sorted({*USERS, *(many for many in near if 1 <= many <= USERS[-1])})


def account_of(found: Run) -> Account:
    """Return what KV blocks are for at even moments of a logged run."""
    log, blocks = found.engine.log, found.price.kv_blocks
    times_s = np.linspace(0.0, float(log["start_s"][-1] + log["duration_s"][-1]), MOMENTS)
    rows = np.maximum(np.searchsorted(log["start_s"], times_s, side="right") - 1, 0)
    return Account(times_s, log["kv_blocks_used"][rows] / blocks, log["cached_blocks"][rows] / blocks)


def options_of(scenario: Scenario) -> dict[str, Scenario]:
    """Return what would give the cache more room, or none, by name."""
    options = {"as set": scenario, "no cache": scenario.replace(prefix_caching="off", host_cache_gb=0.0)}
    if scenario.kv_dtype == "bf16":
        options["fp8 KV cache"] = scenario.replace(kv_dtype="fp8")
    options["twice the devices"] = scenario.replace(tensor_parallel=2 * scenario.tensor_parallel)
    larger = next((size for size in HOST_GB if size > scenario.host_cache_gb), None)
    if larger is not None:
        options[f"host cache of {larger:,.0f} GB"] = scenario.replace(host_cache_gb=larger)
    return options


def point(scenario: Scenario) -> Row:
    """Return the figures of a run and what its cache found; a reason where it cannot run."""
    room = memory(scenario)
    host = 1e9 * scenario.host_cache_gb / room["kv_bytes_per_token"]
    keys: Row = {"kv_tokens": room["kv_tokens"], "host_tokens": host}
    try:
        found = run(scenario)
    except ScenarioError as error:
        return keys | {"feasible": False, "reason": str(error)}
    return keys | {"feasible": True, "reason": ""} | _without_cache(found) | point_of(found)


def _without_cache(found: Run) -> Row:
    """Return the figures of a cache for a run without one: all that is sent is computed."""
    prompts = found.prompt_tokens[~found.rejected]
    counted = None if found.whole else counted_requests(found.scenario, prompts.size)
    sent = int(prompts[slice(*counted) if counted else slice(None)].sum())
    shares = dict.fromkeys(("hit_frac", "device_hit_frac", "host_hit_frac"), 0.0)
    return shares | {"prompt_tokens_sent": sent, "prompt_tokens_computed": sent, "evicted_blocks": 0}
