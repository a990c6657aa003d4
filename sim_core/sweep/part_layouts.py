"""How a part is best laid out for a scenario: the tensor-parallel group that serves most on each device.

Parts differ in memory and links: the group that suits one leaves another with too little room, or waiting.
The groups are ranked by the estimate of their capacity within the limits (`sim_core.sweep.estimate`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sim_core.engine.work import kept
from sim_core.fields.errors import ScenarioError
from sim_core.price.priced import priced
from sim_core.scenario.link.changes import with_changes
from sim_core.scenario.scenario import Scenario
from sim_core.sweep import estimate
from sim_core.sweep.capacity import comparable
from sim_core.sweep.points import TENSOR_PARALLEL
from sim_core.traffic.draws import requests_sent

WIDER = (16, 32, 64)  # groups that are looked at where none of the usual ones has room
SAMPLE = 500  # requests whose lengths the estimate knows


def best_group(scenario: Scenario) -> Scenario:
    """Return the scenario with the tensor-parallel group that serves most requests on each device.

    The scenario as it is where no estimate holds for it (two pools, static batches) or no group has room; the
    smallest group with room where none keeps the limits, and of equals.
    """
    if not estimate.has_estimate(scenario):
        return scenario
    size = _best_size(comparable(scenario))
    return with_group(scenario, size) if size else scenario


@kept(512)
def _best_size(scenario: Scenario) -> int:
    """Return how many devices the group has that serves most on each; 0 where none has room."""
    sizes = sorted({*TENSOR_PARALLEL, scenario.tensor_parallel})
    found = _worth(scenario, sizes) or _worth(scenario, WIDER)
    return max(found, key=lambda size: found[size], default=0)


def _worth(scenario: Scenario, sizes: Sequence[int]) -> dict[int, float]:
    """Return the groups that have room, with the requests a second that each device of theirs serves."""
    found = {}
    for size in sizes:
        try:
            side = with_group(scenario, size)
            known = estimate.estimate_of(priced(side), requests_sent(side.replace(requests=SAMPLE)))
        except ScenarioError:
            continue
        if known is not None:
            found[size] = known.per_s / side.accelerators
    return found


def with_group(scenario: Scenario, size: int) -> Scenario:
    """Return the scenario with groups of a size; experts lie on the whole group where they did, or fewer."""
    whole = scenario.expert_parallel == scenario.tensor_parallel
    experts = size if whole and scenario.expert_parallel > 1 else min(scenario.expert_parallel, size)
    return with_changes(scenario, tensor_parallel=size, expert_parallel=experts)
