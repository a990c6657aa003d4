"""Two pools: the compiled driver against its plain twin, by hand, and against theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_core import load_scenario, summarize
from sim_core.engine.results import STAGES
from sim_core.engine.run import run, simulate
from sim_core.fields.errors import ScenarioError
from sim_core.price import pools
from sim_core.price.step_cost import Transfer
from sim_core.scenario.scenario import Scenario
from tests.engine.naive_admission import ADMISSIONS, blocks_for
from tests.engine.naive_pools import Pools
from tests.engine.naive_ranks import Group
from tests.engine.test_twin import costs, request_lists
from tests.runs import assert_same_times, listed, make_cost, run_pools

SPLIT = Scenario(policy="disaggregated", prefill_workers=1, decode_workers=1)
RULES = {
    "prefill_workers": 1,
    "decode_workers": 1,
    "max_running": 4,
    "prefill_max_running": 4,
    "token_budget": 64,
    "kv_blocks": 10**6,
    "prefill_kv_blocks": 10**6,
    "kv_block_tokens": 16,
}


# --- the twin -------------------------------------------------------------------------------------


@st.composite
def cases(draw, ranks=False):
    """Draw prices, requests, rules: tight or ample memory on either side, any link, any loop; decode workers
    of several ranks or of one.
    """
    requests = draw(request_lists())
    budget = draw(st.one_of(st.integers(1, 12), st.integers(1, 100)))
    max_running = min(draw(st.one_of(st.integers(1, 4), st.integers(1, 24))), budget)
    block = draw(st.sampled_from([1, 2, 3, 5, 8, 16]))
    need = max(blocks_for(prompt + output, block) for _, prompt, output in requests)
    longest = max(blocks_for(prompt, block) for _, prompt, _ in requests)
    spare = st.one_of(st.integers(0, 3), st.integers(0, 3 * need), st.just(10**6))
    concurrency = draw(st.one_of(st.just(0), st.just(0), st.integers(1, len(requests) + 1)))
    if concurrency:
        requests = [(0, prompt, output) for _, prompt, output in requests]
    transfer = Transfer(
        float(draw(st.integers(0, 9))), float(draw(st.integers(0, 60))),
        draw(st.sampled_from([1, 2, 4])), draw(st.booleans()),
    )  # fmt: skip
    rules = {
        "prefill_workers": draw(st.integers(1, 4)),
        "decode_workers": draw(st.integers(1, 4)),
        "max_running": max_running,
        "prefill_max_running": draw(st.integers(1, 8)),
        "token_budget": budget,
        "kv_blocks": need + draw(spare),
        "prefill_kv_blocks": longest + draw(spare),
        "kv_block_tokens": block,
        "preemption": draw(st.sampled_from(["recompute", "swap"])),
        "hit_frac": draw(st.sampled_from([0.0, 0.0, 0.4, 1.0])),
        "admission": draw(st.sampled_from(sorted(ADMISSIONS))),
        "max_output_tokens": draw(st.sampled_from([0, 60])),
        "concurrency": concurrency,
        "turnaround_s": float(draw(st.one_of(st.just(0), st.integers(0, 500)))),
        "prefill_ranks": draw(st.sampled_from([1, 1, 2, 3, 8])),
    }
    if rules["prefill_ranks"] == 1:
        rules["prefill_stages"] = draw(st.sampled_from([1, 1, 2, 4]))
    if ranks:
        rules["ranks"] = draw(st.sampled_from([2, 3, 8]))
    prices = draw(group_costs(max_running)), draw(group_costs(rules["prefill_max_running"]))
    return (*prices, transfer, requests, rules)


@st.composite
def group_costs(draw, max_running):
    """Draw whole-number prices of ranks that share experts, or of one that has its own."""
    shared = [0.0, *draw(st.lists(st.integers(1, 90).map(float), max_size=60))]
    slope_s = float(draw(st.integers(0, 9)))
    return draw(costs(max_running))._replace(group_s=np.array(shared), group_slope_s=slope_s)


def agree(case):
    """Assert that twin and kernel say the same of every request and both pools, exactly."""
    cost, prefill_cost, transfer, requests, rules = case
    columns = list(zip(*requests, strict=True))
    twin = Pools(listed(prefill_cost), listed(cost), transfer, *columns, **rules).run()
    kernel, split = run_pools(prefill_cost, cost, transfer, columns, **rules)
    np.testing.assert_array_equal(kernel.arrival_s, twin.sent_s)
    assert_same_times(twin, kernel, split)
    np.testing.assert_array_equal(split.joined_s, [stage.joined_s for stage in twin.stages])
    totals = [worker.totals[0] if isinstance(worker, Group) else worker.total for worker in twin.workers]
    for name in ("steps", "busy_s", "context_tokens", "window_tokens", "swapped_tokens", "prefill_pairs"):
        assert getattr(kernel.usage, name) == sum(getattr(total, name) for total in totals), name
    served = sum(request.prompt for request in twin.requests)
    tokens = np.arange(split.usage.steps_by_group_tokens.size) @ split.usage.steps_by_group_tokens
    assert tokens + split.usage.group_extra_tokens == served - split.usage.reused_tokens


@settings(max_examples=40, deadline=None)
@given(cases())
def test_whole_numbers_agree_exactly(case):
    """Oracle: the twin, bit for bit."""
    agree(case)


@settings(max_examples=40, deadline=None)
@given(cases(ranks=True))
def test_ranks_agree_exactly(case):
    """Oracle: the twin, bit for bit, where decode workers have ranks of attention."""
    agree(case)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.one_of(cases(), cases(ranks=True)))
def test_many_whole_numbers_agree_exactly(case):
    """Oracle: the twin, bit for bit, at depth."""
    agree(case)


# --- by hand --------------------------------------------------------------------------------------


INSTANT = Transfer(0.0, 0.0, 1, False)


def split_run(requests, transfer=INSTANT, **rules):
    """Return engine result and split result of a small run: a prefill token 1 s, a decode step 2 s."""
    prefill, decode = make_cost(np.arange(200.0)), make_cost([0.0] + [2.0] * 100)
    return run_pools(prefill, decode, transfer, zip(*requests, strict=True), **{**RULES, **rules})


def test_a_worker_that_frees_as_a_prompt_arrives_takes_the_next() -> None:
    """Oracle: by hand; four workers of one block each, 1 s a prompt or a token.

    At 0 s they take four prompts. Two of them are answers of one token: their workers take the next two at
    1 s. The third prompt goes to the decode worker at 1 s, which gives room for the seventh. The fourth is
    held until 3 s. At 2 s the seventh arrives at the decode pool, and the first worker takes the last prompt.
    """
    cost = make_cost([0.0, 1.0])
    columns = [np.array(values) for values in ([0.0] * 8, [1] * 8, [1, 1, 3, 2, 1, 1, 2, 1])]
    rules = {**RULES, "prefill_workers": 4, "max_running": 1, "prefill_max_running": 1, "token_budget": 1,
             "prefill_kv_blocks": 1, "kv_block_tokens": 1}  # fmt: skip
    _, split = run_pools(cost, cost, INSTANT, columns, **rules)
    assert split.stages["prefill_start_s"].tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    assert split.joined_s[[2, 3]].tolist() == [1, 3]


def test_a_request_passes_every_stage() -> None:
    """Oracle: by hand: a prompt of 10 takes 10 s, its KV cache 3 + 10 x 0.5 s, three more tokens 2 s each."""
    found, split = split_run([(1, 10, 4)], Transfer(0.5, 3.0, 1, False))
    assert found.first_token_s[0] == 11
    assert split.stages["transfer_end_s"][0] == 19
    assert split.joined_s[0] == 19
    assert found.finished_s[0] == 25


def test_overlap_leaves_what_the_step_cannot_hide() -> None:
    """Oracle: by hand: of 10 s of sending in 4 layers, a step of 10 s hides 7.5 s; of 20 s also 7.5 s."""
    _, quick = split_run([(0, 10, 2)], Transfer(1.0, 0.0, 4, True))
    assert quick.stages["transfer_end_s"][0] == 10 + 2.5
    _, slow = split_run([(0, 10, 2)], Transfer(2.0, 0.0, 4, True))
    assert slow.stages["transfer_end_s"][0] == 10 + 12.5


def test_a_link_sends_one_after_the_other() -> None:
    """Oracle: by hand: two prompts of one step share the link: 5 s each, so the second waits."""
    _, split = split_run([(0, 5, 2), (0, 5, 2)], Transfer(1.0, 0.0, 1, False))
    assert split.stages["prefill_end_s"].tolist() == [10, 10]
    assert split.stages["transfer_end_s"].tolist() == [15, 20]


def test_two_workers_share_the_queue() -> None:
    """Oracle: by hand: a budget of one prompt: two workers take one each, the first to be free the next."""
    _, split = split_run([(0, 8, 1), (0, 4, 1), (0, 6, 1)], prefill_workers=2, token_budget=8)
    assert split.stages["sender"].tolist() == [0, 1, 1]
    assert split.stages["prefill_start_s"].tolist() == [0, 0, 4]


def test_a_full_decode_pool_stops_the_prefill_pool() -> None:
    """Oracle: by hand: a sender with memory for one prompt waits until it decodes, 7 s of sending later."""
    requests = [(0, 16, 2), (0, 16, 2)]
    _, split = split_run(requests, Transfer(0.0, 7.0, 1, False), prefill_kv_blocks=1, token_budget=16)
    assert split.joined_s[0] == 23
    assert split.stages["prefill_start_s"].tolist() == [0, 23]


def test_answers_of_one_token_never_leave_the_prefill_pool() -> None:
    """Oracle: by hand: finished with the first token, no transfer."""
    found, split = split_run([(0, 5, 1), (0, 5, 3)])
    assert found.finished_s[0] == found.first_token_s[0] == 10
    assert math.isnan(split.stages["transfer_end_s"][0])
    assert found.finished_s[1] == 10 + 2 * 2


# --- theory and invariants ------------------------------------------------------------------------


def test_a_prefill_worker_alone_is_a_queue() -> None:
    """Oracle: M/D/1 at load 0.6, one prompt a step of time D: mean wait 0.6 D / (2 (1 - 0.6)) = 0.75 D."""
    draw = np.random.default_rng(0)
    arrival_s = np.cumsum(draw.exponential(10.0 / 0.6, 200_000))
    ones = np.ones(arrival_s.size, int)
    cost = make_cost(np.arange(200.0))
    columns = (arrival_s, 10 * ones, ones)
    _, split = run_pools(cost, cost, INSTANT, columns, **{**RULES, "token_budget": 10})
    wait_s = split.stages["prefill_start_s"] - arrival_s
    assert wait_s.mean() == pytest.approx(7.5, rel=0.03)


@pytest.mark.parametrize("query", [
    "arrival_per_s=20&prefill_workers=2&decode_workers=3",
    "arrivals=closed&concurrency=200&prefill_workers=3&decode_workers=2&kv_overlap=on",
    "arrivals=offline&prefill_workers=2&decode_workers=2&requests=500",
    "arrival_per_s=30&model=gemma-3-12b&prefill_workers=2&decode_workers=6",
    "arrival_per_s=9&kv_link_gb_per_s=0.5",
])  # fmt: skip
def test_stages_add_up(query: str) -> None:
    """Oracle: the request's own times: no stage is negative, and together they are its time in the engine."""
    done = run(load_scenario(f"policy=disaggregated&{query}"))
    stages = done.stages()
    assert tuple(stages.columns) == STAGES
    assert (stages.to_numpy() >= -1e-9).all()
    np.testing.assert_allclose(stages.sum(axis=1), done.engine.finished_s - done.engine.arrival_s, rtol=1e-9)
    assert np.isfinite(done.finished_s).all()


def test_an_instant_link_and_one_pool_give_the_same_first_token() -> None:
    """Oracle: one prefill-first engine that never decodes: answers of one token."""
    one = run(
        Scenario(policy="prefill_first", output_tokens=1, output_cv=0.0, arrival_per_s=20.0, requests=500)
    )
    two = run(SPLIT.replace(output_tokens=1, output_cv=0.0, arrival_per_s=20.0, requests=500))
    np.testing.assert_allclose(two.first_token_s, one.first_token_s, rtol=1e-12)


def test_a_slower_link_delays_the_second_token_only() -> None:
    """Oracle: the first token leaves before the transfer; light load."""
    quick, slow = (
        run(SPLIT.replace(arrival_per_s=0.5, requests=300, kv_link_gb_per_s=link)) for link in (500.0, 1.0)
    )
    np.testing.assert_allclose(quick.first_token_s, slow.first_token_s)
    assert (slow.finished_s > quick.finished_s).all()
    bytes_each = 131_072 * slow.prompt_tokens.mean()  # 32 layers x 2 x 8 heads x 128 x 2 bytes
    assert slow.stages()["transfer"].mean() == pytest.approx(1e-3 + bytes_each / 1e9, rel=0.2)


def test_devices_of_both_pools_count() -> None:
    """Oracle: by hand: 3 x 2 + 2 x 4 devices; throughput per accelerator divides by them."""
    scenario = SPLIT.replace(
        prefill_workers=3, decode_workers=2, prefill_tensor_parallel=2, decode_tensor_parallel=4, requests=400
    )
    assert scenario.accelerators == 14
    found = summarize(simulate(scenario), scenario)["metrics"]
    each = found["output_tok_per_s_per_accelerator"]
    assert each == pytest.approx(found["output_tok_per_s"] / 14)
    assert 0 < found["mfu_frac"] < 1
    assert 0 < found["mbu_frac"] < 1
    whole = pools.one_pool_of(scenario)
    assert (whole.accelerators, whole.tensor_parallel, whole.policy) == (14, 1, "chunked")


def test_what_cannot_fit_either_pool_is_rejected() -> None:
    """Oracle: a prompt beyond what a prefill worker can hold, counted and not served."""
    scenario = SPLIT.replace(model="llama-3.1-70b", weight_dtype="fp8", hbm_gb=90.0, prompt_tokens=60_000,
                             prompt_cv=1.0, output_cv=0.0, requests=100, arrival_per_s=0.1)  # fmt: skip
    done = run(scenario)
    limits = pools.pool_prices(scenario)
    too_long = done.prompt_tokens > limits.prefill.request_limit_tokens
    too_long |= done.prompt_tokens + done.output_tokens > limits.decode.request_limit_tokens
    assert 0 < too_long.sum() < 100
    np.testing.assert_array_equal(done.rejected, too_long)
    assert np.isnan(done.finished_s[too_long]).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt_tokens": 200_000}, "more than the context window of Llama-3.1-8B, 131,072 tokens. Shorten"),
        ({"prompt_tokens": 200_000, "kv_memory_frac": 0.3}, "or choose a model with a longer context."),
        ({"prompt_tokens": 100_000, "kv_memory_frac": 0.3}, "or give the KV cache more memory."),
        ({"prompt_tokens": 200_000, "policy": "disaggregated"}, "or choose a model with a longer context."),
        (
            {"prompt_tokens": 100_000, "policy": "disaggregated", "kv_memory_frac": 0.3,
             "decode_tensor_parallel": 2, "prefill_tensor_parallel": 1},
            "(prompt alone, in the prefill pool), more than what the KV cache can hold of one request",
        ),
    ],
)  # fmt: skip
def test_what_no_request_fits_is_named_with_the_way_out(changes: dict[str, object], says: str) -> None:
    """By hand: 131,072 tokens of context; a third of 80 GB leaves some 8 GB, 131,072 bytes a token."""
    exact = {"prompt_cv": 0.0, "output_cv": 0.0, "requests": 20, "arrival_per_s": 0.01}
    with pytest.raises(ScenarioError) as caught:
        run(Scenario(**(exact | changes)))
    assert str(caught.value).startswith("no request fits: the shortest has ") and says in str(caught.value)
    assert ("more memory" in str(caught.value)) == (changes["prompt_tokens"] == 100_000)


def test_there_is_no_step_log_of_two_pools() -> None:
    """Oracle: a clear line instead of half a log."""
    with pytest.raises(ScenarioError, match="no step log of two pools"):
        run(SPLIT, log=True)
