"""What drafts keep the host, in the price of a step."""

from __future__ import annotations

import numpy as np

from sim_core.price.price import price_of
from sim_core.scenario.scenario import Scenario

BASE = Scenario(
    model="deepseek-r1", accelerator="h200", tensor_parallel=8, weight_dtype="native", max_batch=64
)


def test_each_draft_keeps_the_host() -> None:
    """Oracle: by hand: K (draft + B draft_sequence) more for B sequences with K drafts, nothing without."""
    free, host = "draft:0,draft_sequence:0", "draft:2,draft_sequence:30"
    sequences = np.arange(1, 65)
    for drafts in (1, 3):
        how = {"spec_tokens": drafts, "acceptance_length": 1.5}
        costs = [price_of(BASE.replace(constants=text, **how)).step.row_s[1:] for text in (free, host)]
        np.testing.assert_allclose(costs[1] - costs[0], drafts * (2e-3 + 30e-6 * sequences), rtol=1e-9)
    plain = [price_of(BASE.replace(constants=text)).step.row_s for text in (free, host)]
    np.testing.assert_array_equal(*plain)
