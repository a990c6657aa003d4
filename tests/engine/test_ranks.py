"""Groups of ranks in lockstep against their plain-Python twin, to the last bit, on small hostile runs.

Oracle: `tests/engine/naive_ranks.py`. Prices are whole numbers, so sums agree whatever their order.
"""

from __future__ import annotations

import dataclasses
import random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import strategies as st

from sim_core.engine.groups import run_ranks
from sim_core.engine.one_pool import run_engine
from sim_core.engine.rules import RunRules
from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.results.timeline import timeline
from sim_core.results.use import prefill_frac
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.requests import requests_of
from tests.engine.naive_admission import ADMISSIONS
from tests.engine.naive_ranks import simulate_naive_ranks
from tests.engine.test_prefix import conversations, drawn_rules, hashed, interleaved
from tests.engine.test_speculation import CONTINUOUS, counts, drafting_rules, paces
from tests.engine.test_twin import (
    Case,
    agree,
    binned,
    cases,
    close,
    crowded,
    few_or_many,
    fractional,
    priced,
    same_events,
    same_log,
    same_requests,
)
from tests.runs import RULES, listed, make_cost, on_the_clock

ROUTERS = ("least_loaded", "least_loaded", "round_robin", "session")
TIMES = ("arrival_s", "first_token_s", "finished_s", "itl_max_s", "preemptions", "gap_counts")


@st.composite
def groups(draw, policy):
    """Draw a run of a group: prices of all ranks' tokens, how many ranks, who goes where, who waits."""
    case = draw(cases(policy))
    price = st.integers(0, 30).map(float)
    cost = case.cost._replace(
        group_s=np.array([0.0, *draw(st.lists(price, max_size=30))]), group_slope_s=draw(price)
    )
    rules = {
        **case.rules,
        "ranks": draw(st.sampled_from([1, 2, 4, 8])),
        "wait_steps": draw(st.sampled_from([0, 0, 0, 1, 3, 20])),
        "router": draw(st.sampled_from(ROUTERS)),
    }
    return Case(cost, case.requests, rules)


@st.composite
def drafting_groups(draw, policy):
    """Draw the same where decodes make several tokens a step."""
    case = draw(groups(policy))
    chosen = draw(paces())
    counted = draw(counts(case.requests, chosen))
    more = drafting_rules(draw, case.requests, case.rules, chosen, counted)
    return Case(case.cost._replace(paces=chosen), case.requests, {**case.rules, **more})


def grouped(rng, cost):
    """Return a cost whose steps also take what the tokens of all ranks do, and rules of a group."""
    table = np.array([0.0, *(float(rng.randrange(30)) for _ in range(rng.randrange(60)))])
    cost = cost._replace(group_s=table, group_slope_s=float(rng.randrange(4)))
    wait_steps = rng.choice([0, 0, 2, 7, 50])
    return cost, {
        "ranks": rng.choice([1, 2, 3, 4, 8]),
        "router": rng.choice(ROUTERS),
        "wait_steps": wait_steps,
    }


def sent_of(case):
    """Return the requests and the rules of a case."""
    rules = {**RULES, **case.rules}
    return on_the_clock(requests_of(*case.columns), rules.pop("clock_tokens", None)), rules


def run_of(cost, sent, whole=True, **rules):
    """Return the kernel's run of groups, logged."""
    return run_ranks(cost, sent, RunRules(itl_max=True, log=True, whole=whole, **rules))


def same_ranks(case, rel=0.0):
    """Assert that twin and kernel agree on a case."""
    sent, rules = sent_of(case)
    return same_sent(case.cost, sent, rules, rel)


def same_sent(cost, sent, rules, rel=0.0):
    """Assert that twin and kernel agree: requests, the group's counters, each rank's log; return both."""
    twin, (group,) = simulate_naive_ranks(
        listed(cost)._replace(group_s=cost.group_s.tolist()), sent, **{"replicas": 1, **rules}
    )
    for place, whole in ((1, False), (0, True)):
        kernel = run_of(cost, sent, whole, **rules)
        same_requests(twin, kernel, rel)
        assert kernel.rank.tolist() == twin.replica
        same_counts(group, place, kernel, rel)
        if not rel:
            np.testing.assert_array_equal(kernel.gap_counts, binned(group.totals[place].gaps_s))
        for number, steps in enumerate(twin.log):
            own = of_rank(kernel, number)
            same_log(steps, own.log, rel)
            same_events(steps, own)
    return kernel, group


def same_counts(group, place, kernel, rel):
    """Assert that the counters of a group are those of its twin."""
    totals, tokens = group.totals[place], np.array(group.group_tokens[place], int)
    for field in dataclasses.fields(totals):
        if field.name not in ("gaps_s", "kv_used_s"):
            close(getattr(kernel.usage, field.name), getattr(totals, field.name), rel, field.name)
    last = len(group.cost.group_s) - 1
    table = np.bincount(np.minimum(tokens, last), minlength=last + 1)
    assert kernel.usage.steps_by_group_tokens.tolist() == table.tolist()
    assert kernel.usage.group_extra_tokens == np.maximum(tokens - last, 0).sum()
    waited_s = group.lockstep_s[place] / len(group.ranks)
    np.testing.assert_allclose(kernel.usage.lockstep_s, waited_s, rtol=1e-12 + 1e3 * rel, atol=1e3 * rel)


def of_rank(kernel, number):
    """Return the log and the events of one rank."""
    mine = kernel.log["engine"] == number
    place = np.cumsum(mine) - 1
    events = kernel.events[mine[kernel.events["row"]]]
    events["row"] = place[events["row"]]
    return SimpleNamespace(log=kernel.log[mine], events=events)


@pytest.mark.parametrize("policy", CONTINUOUS)
@pytest.mark.parametrize("drawn", [groups, drafting_groups])
def test_groups_agree_exactly(policy, drawn):
    """Oracle: the twin, bit for bit."""
    agree(policy, examples=25, check=same_ranks, drawn=drawn)


@pytest.mark.slow
@pytest.mark.parametrize("policy", CONTINUOUS)
@pytest.mark.parametrize("drawn", [groups, drafting_groups])
def test_groups_agree_exactly_at_depth(policy, drawn):
    """Oracle: the twin, bit for bit, over many fresh cases; each has several engines, and takes as long."""
    agree(policy, examples=200, check=same_ranks, drawn=drawn)


def test_groups_agree_on_fractions():
    """Oracle: the twin to 1e-9; see `test_twin`."""
    agree("chunked", check=lambda case: same_ranks(fractional(case), rel=1e-9), drawn=groups)


@pytest.mark.parametrize("admission", sorted(ADMISSIONS))
@pytest.mark.parametrize("policy", CONTINUOUS)
@few_or_many(6, 60)
def test_groups_agree_exactly_in_a_crowd(policy, admission, crowds):
    """Oracle: the twin, bit for bit, where forty requests wait for room and some are preempted."""
    rng = random.Random(f"ranks {policy} {admission}")
    preempted = 0
    for _ in range(crowds):
        case = crowded(rng, policy, admission)
        cost, more = grouped(rng, case.cost)
        kernel, _ = same_ranks(Case(cost, case.requests, {**case.rules, **more}))
        preempted += kernel.preemptions.sum()
    assert (preempted == 0) == (admission == "reserve_output")


@pytest.mark.parametrize("policy", CONTINUOUS)
@pytest.mark.parametrize("draw", [conversations, interleaved, hashed])
def test_ranks_cache_what_they_served(policy, draw):
    """Oracle: the twin, bit for bit: each rank has a prefix cache of its own, block by block."""
    rng = random.Random(f"ranks {policy} {draw.__name__}")
    reused = 0
    for _ in range(40):
        sent = draw(rng)
        rules = {**RULES, **drawn_rules(rng, sent, policy, loop=draw is not interleaved), "caching": True}
        cost, more = grouped(rng, priced(rules["max_running"]))
        kernel, group = same_sent(cost, sent, {**rules, **more})
        assert kernel.usage.evicted_blocks == sum(rank.cache.evicted for rank in group.ranks)
        reused += kernel.usage.reused_tokens
    assert reused > 0


@pytest.mark.parametrize("policy", CONTINUOUS)
@pytest.mark.parametrize("draw", [conversations, None])
@few_or_many(10, 100)
def test_groups_side_by_side_agree_exactly(policy, draw, crowds):
    """Oracle: the twin, bit for bit: a router sends each request to a group, and there to a rank."""
    rng = random.Random(f"groups {policy} {draw and draw.__name__}")
    for _ in range(crowds):
        if draw:
            sent = draw(rng)
            rules = {**RULES, **drawn_rules(rng, sent, policy, loop=False), "caching": rng.random() < 0.5}
            cost = priced(rules["max_running"])
        else:
            case = crowded(rng, policy, rng.choice(sorted(ADMISSIONS)))
            cost, (sent, rules) = case.cost, sent_of(case)
            rules["concurrency"] = 0
        cost, more = grouped(rng, cost)
        rules |= more | {"replicas": rng.choice([2, 3]), "router": rng.choice(ROUTERS[1:3])}
        own = listed(cost)._replace(group_s=cost.group_s.tolist())
        twin, found = simulate_naive_ranks(own, sent, **rules)
        kernel = run_of(cost, sent, **rules)
        same_requests(twin, kernel, rel=0)
        assert kernel.rank.tolist() == twin.replica
        for name in ("steps", "context_tokens", "prefill_pairs", "busy_s", "running_s"):
            assert getattr(kernel.usage, name) == sum(getattr(one.totals[0], name) for one in found), name


@pytest.mark.parametrize("policy", CONTINUOUS)
def test_a_group_of_one_rank_is_an_engine(policy):
    """Oracle: an engine without ranks, bit for bit: requests, gaps and all that the steps add up to.

    Only who waits at the head of the queue, and how many blocks are used, is looked at in other runs of equal
    steps: a router ends them where it sends something.
    """
    for examples in range(60):
        rng = random.Random(f"one {policy} {examples}")
        case = crowded(rng, policy, rng.choice(sorted(ADMISSIONS)))
        sent, rules = sent_of(case)
        if rules["concurrency"]:
            sent.arrival_s[:] = 0.0  # whose clients begin later stand in an engine's queue from the start
        group = run_of(case.cost, sent, False, **rules)
        engine = run_engine(case.cost, sent, RunRules(itl_max=True, log=True, **rules))
        for name in TIMES:
            np.testing.assert_array_equal(getattr(group, name), getattr(engine, name), name)
        for name in type(engine.usage).__slots__:
            if not any(word in name for word in ("group", "blocked", "kv_used")):
                close(getattr(group.usage, name), getattr(engine.usage, name), 1e-12, name)
        assert group.usage.lockstep_s == 0


# --- by hand ----------------------------------------------------------------------------------------

A_TOKEN = [0.0, *(1.0 + tokens for tokens in range(1, 40))]  # a step takes 1 s, and 1 s for each new token


def by_hand(requests, cost, session=None, **rules):
    """Return a run of two ranks that are sent requests in turn, or by session."""
    sent = requests_of(*zip(*requests, strict=True))
    if session:
        nothing = {
            "known_tokens": np.zeros(len(session), np.int32),
            "follows_s": np.full(len(session), np.nan),
        }
        sent = dataclasses.replace(sent, session=np.array(session, np.int32), **nothing)
    router = "session" if session else "round_robin"
    return run_of(cost, sent, **{**RULES, "ranks": 2, "router": router, **rules})


def test_a_prompt_of_one_rank_is_a_step_of_all():
    """Oracle: by hand; contexts take 1 s a token.

    Both prompts (2 and 4 tokens) take a step of 1 + 4 = 5 s. Rank 0 then decodes with 2 tokens of context,
    rank 1 with 4: 1 + 1 + 4 = 6 s, to 11 s. Then a prompt of 10 tokens is on rank 0, which decodes beside it:
    11 tokens; rank 1 has the longest context, 5: 1 + 11 + 5 = 17 s, to 28 s, for rank 1 as well.
    """
    run = by_hand([(0.0, 2, 3), (0.0, 4, 3), (11.0, 10, 1)], make_cost(A_TOKEN, decode_context_s=1.0))
    assert run.first_token_s.tolist() == [5.0, 5.0, 28.0]
    assert run.finished_s.tolist() == [28.0, 28.0, 28.0]
    assert run.rank.tolist() == [0, 1, 0]
    assert (run.usage.busy_s, run.usage.steps) == (28.0, 3)
    # alone: 3 and 5 of 5 s; 1 + 1 + 2 = 4 and 6 of 6 s; 1 + 11 + 3 = 15 and 1 + 1 + 5 = 7 of 17 s
    assert run.usage.lockstep_s == (2 + 0 + 2 + 0 + 2 + 10) / 2


def test_experts_see_the_tokens_of_all_ranks():
    """Oracle: by hand. Prompts of 2 and 4 tokens: 1 + 4 s of the fuller rank, and 0.5 s for each of 6."""
    cost = make_cost(A_TOKEN, group_s=np.array([0.0, 0.5]), group_slope_s=0.5)
    run = by_hand([(0.0, 2, 1), (0.0, 4, 1)], cost)
    assert run.finished_s.tolist() == [8.0, 8.0]
    assert run.usage.steps_by_group_tokens.tolist() == [0, 1]
    assert run.usage.group_extra_tokens == 5


@pytest.mark.parametrize(("draft_slots", "second_s"), [(0, 7.0), (1, 9.0)])
def test_decodes_go_on_beside_prompts_of_others_but_where_drafts_are_verified(draft_slots, second_s):
    """Oracle: by hand, by SGLang's rule.

    The first prompt (2 tokens) takes 3 s; by then another one (3) is on rank 1. Without drafts rank 0 decodes
    in that step, of 1 + 3 s: to 7 s. With drafts it waits, and has a step of 1 + 1 s afterwards, to 9 s.
    """
    rules = {"policy": "prefill_first", "draft_slots": draft_slots}
    run = by_hand([(0.0, 2, 2), (2.0, 3, 1)], make_cost(A_TOKEN), **rules)
    assert run.finished_s.tolist() == [second_s, 7.0]


@pytest.mark.parametrize("policy", CONTINUOUS)
@pytest.mark.parametrize(("wait_steps", "first_s"), [(0, 3.0), (3, 4.0), (50, 6.0)])
def test_prompts_wait_for_one_another(policy, wait_steps, first_s):
    """Oracle: by hand, by TensorRT-LLM's rule.

    Steps take 1 s. Both ranks decode from 1 s on; at 2 s a prompt comes. It joins at once; or in the third
    step since then, those at 1, 2 and 3 s; or with the other rank's prompt, which comes at 5 s.
    """
    requests = [(0.0, 1, 20), (0.0, 1, 20), (2.0, 1, 1), (5.0, 1, 1)]
    run = by_hand(requests, make_cost([0.0, *(40 * [1.0])]), wait_steps=wait_steps, policy=policy)
    assert run.first_token_s[2] == first_s


def test_nobody_waits_for_a_rank_without_decodes():
    """Oracle: by hand, by TensorRT-LLM's rule: rank 1 has nothing to do, so the prompt joins at once."""
    run = by_hand([(0.0, 1, 20), (2.0, 1, 9)], make_cost(A_TOKEN), wait_steps=50)
    assert run.first_token_s.tolist() == [2.0, 4.0]


def test_a_run_ends_where_the_contexts_of_another_rank_take_longest():
    """Oracle: by hand. A decode with 10 tokens of context on rank 0, three with 3 each on rank 1.

    They take 10, 11, 12, 13 and 9, 12, 15, 18 s, so the longest are 10, 12, 15 and 18 s. All steps take 1 s
    besides, that of the prompts too.
    """
    requests = [(0.0, 10, 5), (0.0, 3, 5), (0.0, 3, 5), (0.0, 3, 5)]
    cost = make_cost([0.0, *(40 * [1.0])], decode_context_s=1.0)
    run = by_hand(requests, cost, session=[0, 1, 1, 1])
    assert run.rank.tolist() == [0, 1, 1, 1]
    assert run.finished_s.tolist() == 4 * [1 + 11 + 13 + 16 + 19]
    assert run.usage.context_tokens == 10 + 12 + 15 + 18
    assert run.log["count"].tolist() == [1, 1, 1, 1, 3, 3]


# --- a scenario ---------------------------------------------------------------------------------------

WIDE = {
    "model": "deepseek-r1",
    "weight_dtype": "fp8",
    "accelerator": "h200",
    "tensor_parallel": 8,
    "expert_parallel": 8,
    "attention_data_parallel": 8,
    "arrivals": "closed",
    "concurrency": 24,
    "requests": 80,
    "output_tokens": 60,
}


def test_a_scenario_with_ranks_serves_every_request_once_on_one_of_them():
    """Oracle: conservation: who arrived at a rank has finished, waits or runs; tokens are those asked for."""
    found = run(Scenario(**WIDE), log=True)
    steps = found.steps()
    assert np.isfinite(found.finished_s).all()
    assert set(found.engine.rank) == set(steps["rank"]) == set(range(8))
    assert (steps["waiting"] >= 0).all()
    assert steps["prefill_tokens"].sum() == found.prompt_tokens.sum()
    assert (steps["decodes"] * steps["count"]).sum() == (found.output_tokens - 1).sum()
    assert 0 < found.engine.usage.lockstep_s < found.engine.usage.busy_s


def test_a_timeline_follows_one_scheduler():
    """Oracle: the message: the key, its value and the way out."""
    with pytest.raises(
        ScenarioError, match=r"attention_data_parallel is 8: .* Set attention_data_parallel to 1"
    ):
        timeline(Scenario(**WIDE))


def test_long_answers_of_ranks_are_no_work_of_prompts():
    """Oracle: prompts of 10 tokens before answers of 500 are some 2% of the tokens, and of the steps."""
    found = run(Scenario(**WIDE | {"prompt_tokens": 10, "output_tokens": 500}))
    assert 0 <= prefill_frac(found) < 0.1
