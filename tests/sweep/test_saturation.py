"""The rate at which a scenario saturates, where a run of all of its engines costs too much."""

from __future__ import annotations

import pytest

from sim_core.engine.work import Allowance, allowed
from sim_core.scenario.scenario import Scenario
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

    with allowed(Allowance(seconds=0.3, most_bytes=3 * 10**8)) as given:
        assert saturation_per_s(wide) == pytest.approx(whole, rel=0.03)

    assert given.cuts == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"prefill_workers": 1, "decode_workers": 32, "prompt_tokens": 8000, "output_tokens": 100},
        {"prefill_workers": 3, "decode_workers": 9},
        {"prefill_workers": 33, "decode_workers": 64},
    ],
)
def test_pools_of_any_sizes_saturate_on_a_page_as_in_the_command(changes: dict[str, int]) -> None:
    """Oracle: the same search with all engines and requests; on a page some may be left out, to 5%."""
    scenario = Scenario(model="llama-3.1-8b", policy="disaggregated", max_batch=256, **changes)
    alone = saturation_per_s(scenario)
    with allowed(Allowance(seconds=3.0, most_bytes=3 * 10**8)):
        assert saturation_per_s(scenario) == pytest.approx(alone, rel=0.05)
