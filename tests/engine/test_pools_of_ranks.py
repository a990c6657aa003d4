"""Two pools whose workers have ranks of attention: by hand, conservation, and what ranks are good for."""

from __future__ import annotations

import numpy as np
import pytest

from sim_core.engine.rules import RunRules, worker_rules
from sim_core.engine.run import run
from sim_core.engine.two_pools import SplitEngine, workers_of
from sim_core.price.step_cost import Transfer
from sim_core.questions.disaggregation import matched
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import requests_of
from tests.engine.test_pools import INSTANT, RULES
from tests.runs import make_cost, run_pools

R1 = Scenario(
    policy="disaggregated", model="deepseek-r1", accelerator="h200", tensor_parallel=8, expert_parallel=8,
    weight_dtype="native", kv_dtype="fp8", prefill_workers=1, decode_workers=1, prompt_tokens=4000,
    prompt_cv=0.0, output_cv=0.0,
)  # fmt: skip


def ranks_run(requests, transfer=INSTANT, **rules):
    """Return both results of a small run: a prefill token of a rank 1 s, of all 0.5 s, a decode step 2 s."""
    prefill = make_cost(np.arange(200.0), group_slope_s=0.5)
    columns = zip(*requests, strict=True)
    own = {**RULES, "prefill_ranks": 2, **rules}
    return run_pools(prefill, make_cost([0.0] + [2.0] * 100), transfer, columns, **own)


def test_a_prompt_goes_to_the_rank_with_the_fewest_tokens() -> None:
    """Oracle: by hand: 5, then 3 and 4 beside it: 7 s for the rank with the most, 12 x 0.5 s for all."""
    _, split = ranks_run([(0, 5, 1), (0, 3, 1), (0, 4, 1)])
    assert split.stages["rank"].tolist() == [0, 1, 1]
    assert split.stages["prefill_end_s"].tolist() == [13, 13, 13]


def test_each_rank_has_a_token_budget_of_its_own() -> None:
    """Oracle: by hand: of four prompts of 8, a budget of 8 lets each of two ranks take one a step of 16 s."""
    _, split = ranks_run([(0, 8, 1)] * 4, token_budget=8)
    assert split.stages["rank"].tolist() == [0, 1, 0, 1]
    assert split.stages["prefill_start_s"].tolist() == [0, 0, 16, 16]


def test_each_rank_has_memory_of_its_own() -> None:
    """Oracle: by hand: a block a rank: two prompts at once in 32 s, the third when a decode worker has one of
    them, 7 s later, and on the rank that held it; though it is alone then, the rank computes it in 16 + 8 s.
    """
    _, split = ranks_run([(0, 16, 2)] * 3, Transfer(0.0, 7.0, 1, False), prefill_kv_blocks=1)
    assert split.stages["prefill_start_s"].tolist() == [0, 0, 39]
    assert split.stages["rank"].tolist() == [0, 1, 0]
    assert split.stages["prefill_end_s"].tolist() == [32, 32, 63]


def test_each_rank_sends_over_a_link_of_its_own() -> None:
    """Oracle: by hand: 5 s each, at once for prompts on two ranks, one after the other on one."""
    _, split = ranks_run([(0, 5, 2), (0, 5, 2), (0, 5, 2)], Transfer(1.0, 0.0, 1, False))
    assert split.stages["rank"].tolist() == [0, 1, 0]
    assert split.stages["prefill_end_s"].tolist() == [17.5] * 3
    assert split.stages["transfer_end_s"].tolist() == [22.5, 22.5, 27.5]


def test_a_decode_worker_steps_as_its_fullest_rank() -> None:
    """Oracle: by hand: three decodes on two ranks: steps of 3 s for the two rows of one."""
    decode = make_cost([0.0] + [1.0] * 100, [0.0, 1.0, 2.0, 3.0, 4.0])
    columns = zip(*[(0, 1, 4)] * 3, strict=True)
    found, _ = run_pools(make_cost([0.0, 1.0, 1.0, 1.0]), decode, INSTANT, columns, **RULES, ranks=2)
    assert found.finished_s.tolist() == [1 + 3 * 3] * 3
    assert found.usage.lockstep_s == pytest.approx((0 + 3) / 2)  # one of two ranks waits 1 s a step


def test_blocks_and_tokens_are_conserved_over_ranks() -> None:
    """Oracle: at the end all blocks of all ranks are free, and every token was made in some rank's step."""
    draw = np.random.default_rng(3)
    sent = requests_of(np.sort(draw.integers(0, 900, 200)), *draw.integers(1, 40, (2, 200)))
    own = worker_rules(RunRules(max_running=3, token_budget=48, kv_blocks=30, kv_block_tokens=8))
    cost = make_cost(np.arange(60.0), [0.0] * 4, group_s=np.zeros(40))
    tight = own._replace(kv_blocks=12)
    prefill = workers_of(tight, cost, sent, 2, decode=False, ranks=3)
    engine = SplitEngine(prefill, workers_of(own, cost, sent, 2, ranks=4), Transfer(0.5, 1.0, 1, False), sent)
    engine.run()
    found, split = engine.results()
    assert np.isfinite(found.finished_s).all()
    for pool, blocks in ((engine.prefill, 12), (engine.decode, 30)):
        assert (pool.ranks["free_blocks"] == blocks).all()
        assert (pool.ranks["unfinished"] == 0).all()
    made, computed = (
        np.arange(40) @ usage.steps_by_group_tokens + usage.group_extra_tokens
        for usage in (found.usage, split.usage)
    )
    assert computed == sent.prompt_tokens.sum()
    assert made == (sent.output_tokens - 1).sum()


def test_a_lone_prompt_waits_for_one_rank_and_many_for_none() -> None:
    """Oracle: one of eight devices computes attention and dense layers of a lone prompt, and all eight divide
    them under tensor parallelism, which in return reduces all activations in every layer: ranks take several
    times as long for one prompt, and make more of many.
    """
    prompts = R1.replace(output_tokens=1, requests=200)
    ranks = prompts.replace(prefill_attention_data_parallel=8)
    alone = [point_of(run(each.replace(arrival_per_s=0.05)))["ttft_ms_p50"] for each in (prompts, ranks)]
    assert 2 < alone[1] / alone[0] < 8
    many = [point_of(run(each.replace(arrivals="offline")))["request_per_s"] for each in (prompts, ranks)]
    assert many[1] > 1.2 * many[0]


def test_rate_matching_knows_ranks() -> None:
    """Oracle: the simulator: a pool of one worker that has all prompts at once turns them out at the rate
    that matching says; the last steps are not full.
    """
    for layout in ({}, {"prefill_attention_data_parallel": 8}):
        prompts = R1.replace(output_tokens=1, requests=640, arrivals="offline", token_budget=8192, **layout)
        rate_per_s = point_of(run(prompts))["request_per_s"]
        assert rate_per_s * matched(prompts).prefill_s == pytest.approx(1, rel=0.05)


def test_a_large_decode_pool_serves_more_with_ranks() -> None:
    """Oracle: latent attention copies its cache to all devices of a tensor-parallel group, and each device
    reads all of it: with many clients ranks make more tokens a second.
    """
    busy = R1.replace(arrivals="closed", concurrency=512, requests=1500, output_tokens=400, prefill_workers=4)
    found = [
        point_of(run(busy.replace(decode_attention_data_parallel=ranks, max_batch=512)))["tpot_ms_p50"]
        for ranks in (1, 8)
    ]
    assert found[1] < 0.8 * found[0]
