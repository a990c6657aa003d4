"""Which curves a chart draws."""

from __future__ import annotations

import pytest

from sim_core.scenario.scenario import Scenario
from sim_core.view.session import state, sweeps


@pytest.mark.parametrize(("decode_tensor_parallel", "curves"), [(None, 4), (4, 1)])
def test_a_size_that_both_pools_override_draws_one_curve(
    decode_tensor_parallel: int | None, curves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the scenario: the common size is that of no worker where both pools have their own."""
    chosen = {"vary": "tensor_parallel"}
    monkeypatch.setattr(state, "view", chosen.__getitem__)
    pools = Scenario(
        policy="disaggregated", prefill_tensor_parallel=2, decode_tensor_parallel=decode_tensor_parallel
    )
    assert len(sweeps.asked_sweep(pools).values) == curves
