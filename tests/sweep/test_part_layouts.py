"""The layout that a part is drawn with: the group that serves most on each device within the limits.

Oracles: the simulated capacity of each group; memory by hand.
"""

from __future__ import annotations

from sim_core import capacity, load_scenario
from sim_core.sweep.capacity import Y
from sim_core.sweep.part_layouts import best_group

BASE = (
    "model=llama-3.3-70b&accelerator=b200&weight_dtype=fp8&prompt_tokens=3000&output_tokens=500"
    "&slo_ttft_ms=1000&slo_tpot_ms=30"
)


def test_the_group_is_near_the_one_of_the_highest_capacity() -> None:
    """Oracle: the simulated capacity: the chosen group gives within a tenth of the best one's throughput."""
    base = load_scenario(BASE)
    found = {n: capacity(base.replace(tensor_parallel=n))["point"] for n in (1, 2, 4, 8)}
    worth = {n: 0.0 if point is None else point[Y] for n, point in found.items()}
    assert worth[best_group(base).tensor_parallel] > 0.9 * max(worth.values())


def test_a_model_gets_as_many_devices_as_it_needs() -> None:
    """By hand: 70 billion parameters of two bytes do not fit one device of 80 GB, nor 405 billion eight."""
    for model, least in (("llama-3.3-70b", 2), ("llama-3.1-405b", 16)):
        base = load_scenario("accelerator=h100-sxm", model=model)
        assert best_group(base).tensor_parallel >= least


def test_it_does_not_depend_on_the_load() -> None:
    """Oracle: the same group for every rate, which stays the scenario's own."""
    sides = [best_group(load_scenario(BASE, arrival_per_s=rate)) for rate in (0.1, 50.0)]
    assert sides[0].tensor_parallel == sides[1].tensor_parallel
    assert [side.arrival_per_s for side in sides] == [0.1, 50.0]


def test_two_pools_stay_as_they_are() -> None:
    """Oracle: there is no estimate for them here."""
    base = load_scenario("policy=disaggregated")
    assert best_group(base) == base
