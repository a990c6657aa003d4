"""The rate at which a scenario saturates, where a run of all of its engines costs too much."""

from __future__ import annotations

import pytest

from sim_core.engine.work import Allowance, allowed
from sim_core.scenario.scenario import Scenario
from sim_core.sweep import saturation
from sim_core.sweep.saturation import saturation_per_s


@pytest.mark.parametrize(
    "wide",
    [
        Scenario(policy="disaggregated", prefill_workers=16, decode_workers=16),
        Scenario(replicas=32, max_batch=32),
    ],
    ids=["two pools", "replicas"],
)
def test_fewer_engines_saturate_at_their_share_of_the_rate(wide: Scenario) -> None:
    """Oracle: the run of all engines; those of a part of them differ by what so many requests scatter."""
    whole = saturation_per_s(wide)
    saturation._saturation_per_s.cache_clear()
    with allowed(Allowance(seconds=0.3, most_bytes=3 * 10**8)) as given:
        assert saturation_per_s(wide) == pytest.approx(whole, rel=0.03)
    saturation._saturation_per_s.cache_clear()
    assert given.cuts == {}
