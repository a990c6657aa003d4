"""Prices of two pools: what is sent between them, and what their workers compute."""

from __future__ import annotations

import numpy as np
import pytest

from sim_core.price.pools import pool_prices, prefill_of, transfer_of
from sim_core.price.price import price_of
from sim_core.scenario.scenario import Scenario

R1 = Scenario(
    policy="disaggregated", model="deepseek-r1", accelerator="h200", tensor_parallel=8, weight_dtype="native",
    kv_dtype="fp8",
)  # fmt: skip
LAYER_BYTES = 512 + 64  # of a token in a layer of latent attention, 8 bits a number


@pytest.mark.parametrize(("draft", "layers"), [("mtp", 62), ("eagle", 62), ("ngram", 61)])
def test_the_cache_of_the_layer_that_drafts_is_sent_too(draft, layers):
    """Oracle: by hand: 576 bytes a token in each of 61 layers and in the one that drafts, over 50 GB/s."""
    drafted = R1.replace(spec_tokens=2, draft=draft, acceptance_length=2.0, kv_link_gb_per_s=50.0)
    found = transfer_of(drafted)
    assert found.token_s == pytest.approx(layers * LAYER_BYTES / 50e9)
    assert found.layers == layers
    assert found.latency_s == transfer_of(R1).latency_s


def test_prompts_pass_the_layer_that_drafts_and_nothing_is_drafted():
    """Oracle: layers alike: 58 with experts and one more take 1/61 to 1/58 more of a long prompt; rows as
    without drafts, and each decode of the price makes one token.
    """
    plain, drafted = (
        price_of(prefill_of(each)) for each in (R1, R1.replace(spec_tokens=2, acceptance_length=2.0))
    )
    more = drafted.step.token_s[4096] / plain.step.token_s[4096] - 1
    assert 1 / 61 < more < 1.3 / 58
    np.testing.assert_array_equal(drafted.step.row_s, plain.step.row_s)
    assert drafted.step.paces["drafts"].tolist() == [0]
    assert drafted.kv_blocks < plain.kv_blocks


def test_without_drafts_a_prefill_worker_costs_what_one_pool_of_it_costs():
    """Oracle: the same scenario as one pool."""
    alone = R1.replace(policy="chunked")
    assert pool_prices(R1).prefill is price_of(alone.replace(replicas=R1.prefill_workers))
