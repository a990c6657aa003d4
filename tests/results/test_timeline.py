"""Timelines read from the step log: worked by hand, and what must hold for any of them.

In the tables a step of T tokens takes 100 + T seconds, so a duration tells how many tokens its step had.
A row of a table is `request kind start end tokens lane`; what led to it stands beside it.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings

from sim_core import Scenario, ScenarioError
from sim_core.engine.results import Run
from sim_core.engine.run import run
from sim_core.results.story import DECODE, IDLE, KINDS, PREFILL, QUEUED, STALLED, WAITING, Story
from sim_core.results.timeline import POLICIES, Timeline, _cut, logged_scenario, timeline, timelines
from sim_core.traffic.requests import requests_of
from tests.engine.test_invariants import scenarios
from tests.runs import RULES, make_cost, run_kernel

PLAIN = make_cost(token_s=[100.0 + tokens for tokens in range(64)])


def play(requests, cost=PLAIN, **rules) -> Timeline:
    """Return the timeline of a bare engine's run; requests are (arrival, prompt, output)."""
    rules = RULES | rules
    arrival_s, prompt, output = (np.array(column) for column in zip(*requests, strict=True))
    engine = run_kernel(cost, arrival_s, prompt, output, **rules)
    columns = {name: getattr(engine, name) for name in ("arrival_s", "first_token_s", "finished_s")}
    scenario = Scenario(policy=rules["policy"], preemption=rules["preemption"])
    price = SimpleNamespace(step=cost, kv_blocks=rules["kv_blocks"])
    found = Run(
        priced=SimpleNamespace(scenario=scenario, price=price),
        sent=requests_of(columns.pop("arrival_s"), prompt, output),
        itl_max_s=engine.itl_max_s,
        preemptions=engine.preemptions,
        rejected=np.zeros(prompt.size, bool),
        engine=engine,
        **columns,
    )
    story = Story(found)
    return _cut(story, 0.0, story.end_s)


def table(found: Timeline) -> set[tuple]:
    return {
        (row["request"], KINDS[row["kind"]], row["start_s"], row["end_s"], row["tokens"], row["lane"])
        for row in found.segments
    }


def read(text: str) -> set[tuple]:
    """Return the rows of a table; what stands after `#` is arithmetic."""
    rows = (line.partition("#")[0].split() for line in text.strip().splitlines())
    return {
        (int(r), kind, float(s), float(e), int(n), int(lane)) for r, kind, s, e, n, lane in filter(None, rows)
    }


def late(found: Timeline) -> list[tuple]:
    names = ("request", "token", "time_s", "gap_ms", "usual_ms", "delay_ms", "cause", "cause_tokens")
    return [tuple(row[name] for name in names) for row in found.late]


def test_chunked_a_prompt_crosses_two_steps_and_one_arrives_within_a_step():
    """Oracle: by hand, budget 8, 3 slots.

    t=0    5 of r0, 3 of r1's 6            T=8  -> 108   r0 token 1
    t=108  r0 decodes, the other 3 of r1   T=4  -> 212   r0 token 2, r1 token 1; r2 came at 150
    t=212  r0, r1 decode, 2 of r2          T=4  -> 316   r0 token 3: done, r1 token 2: done, r2 token 1: done
    """
    found = play([(0, 5, 3), (0, 6, 2), (150, 2, 1)], token_budget=8, max_running=3)
    assert table(found) == read("""
        0 prefill   0 108 5 0
        1 prefill   0 108 3 1   # what r0 leaves of the budget
        0 decode  108 316 2 0   # two steps without a break
        1 prefill 108 212 3 1   # the rest
        2 waiting 150 212 0 3   # until the step ends; the one place of the queue, behind 3 slots
        1 decode  212 316 1 1
        2 prefill 212 316 2 2
    """)
    assert (found.slots, found.queue_lanes, found.padding_frac) == (3, 1, 0.0)
    assert found.steps["step_tokens"].tolist() == [8, 4, 4]
    assert found.steps["waiting"].tolist() == [0, 0, 0]  # r2 is admitted in the step that starts at 212


def test_prefill_first_stalls_the_decodes():
    """Oracle: by hand, budget 8.

    t=0    r0's 5                T=5  105 -> 105   r0 token 1
    t=105  r0 decodes            T=1  101 -> 206   r0 token 2; r1 came at 150, r2 at 160
    t=206  r1's 6 alone (6 + 4 > 8): 106 -> 312    r1 token 1
    t=312  r2's 4                104 -> 416        r2 token 1: done
    t=416  r0, r1 decode         102 -> 518        r0 token 3: 106 + 104 late; r1 token 2: 104 late; r1 done
    t=518  r0 decodes            101 -> 619        r0 token 4: done
    """
    found = play([(0, 5, 4), (150, 6, 2), (160, 4, 1)], policy="prefill_first", token_budget=8)
    assert table(found) == read("""
        0 prefill   0 105 5 0
        0 decode  105 206 1 0
        1 waiting 150 206 0 3
        2 waiting 160 312 0 4
        0 stalled 206 416 0 0   # two prefill steps: 106 + 104
        1 prefill 206 312 6 1
        1 stalled 312 416 0 1   # the second one
        2 prefill 312 416 4 2
        0 decode  416 619 2 0
        1 decode  416 518 1 1
    """)
    assert late(found) == [
        (0, 3, 518.0, 312e3, 102e3, 210e3, 1, 6),  # the larger of the two prompts is to blame
        (1, 2, 518.0, 206e3, 102e3, 104e3, 2, 4),
    ]


def test_static_pads_to_the_longest_and_waits_for_company():
    """Oracle: by hand, 2 slots, wait up to 50 s.

    t=0..40  r0 waits; r1 comes at 40: the batch is full
    t=40   prompts padded to 5: T=10  110 -> 150   r0, r1 token 1
    t=150  T=2  102 -> 252                         r0 token 2, r1 token 2: r1 done, its slot is held
    t=252  T=2  102 -> 354                         r0 token 3: done; r2 came at 200
    t=354  r2 alone, waited long enough: T=3  103 -> 457   r2 token 1: done
    """
    found = play(
        [(0, 5, 3), (40, 4, 2), (200, 3, 1)], policy="static", max_running=2, batch_wait_s=50, token_budget=64
    )
    assert table(found) == read("""
        0 waiting   0  40 0 2
        0 prefill  40 150 5 0
        1 prefill  40 150 4 1   # its own tokens; padding makes 10 of 9
        0 decode  150 354 2 0
        1 decode  150 252 1 1
        2 waiting 200 354 0 2
        1 idle    252 354 0 1   # done, but nobody may join
        2 prefill 354 457 3 0
    """)
    assert found.padding_frac == pytest.approx(1 / 7)  # 2 slots x 3 steps and 1 x 1, 6 tokens made
    assert late(found) == []


SHORTAGE = [(0, 4, 4), (0, 4, 3)]
POOL = {"kv_blocks": 5, "kv_block_tokens": 2, "token_budget": 16, "max_running": 4}


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_preempted_and_computed_again(policy):
    """Oracle: by hand, 5 blocks of 2 tokens: the timeline of `test_timelines.SHORTAGE`."""
    found = play(SHORTAGE, policy=policy, preemption="recompute", **POOL)
    assert table(found) == read("""
        0 prefill   0 108 4 0
        1 prefill   0 108 4 1
        0 decode  108 411 3 0   # 101 each; at 108 r1 finds no block for its fifth token
        1 paused  108 411 0 2   # until r0 is done
        1 prefill 411 516 5 0   # 4 + the token it had made: T=5; the lowest free slot
        1 decode  516 617 1 0
    """)


@pytest.mark.parametrize("policy", ["chunked", "prefill_first"])
def test_preempted_and_swapped(policy):
    """Oracle: by hand, as above with 3 s for each token moved; nothing is computed again."""
    cost = make_cost(token_s=[100.0 + tokens for tokens in range(64)], swap_token_s=3.0)
    found = play(SHORTAGE, cost, policy=policy, preemption="swap", **POOL)
    assert table(found) == read("""
        0 prefill   0 108 4 0
        1 prefill   0 108 4 1
        0 decode  108 423 3 0   # 113 (4 tokens leave: 12 s more), 101, 101
        1 swapped 108 423 0 2
        1 decode  423 637 2 0   # back with 12 s more: 113; then 101
    """)


def test_a_long_prompt_makes_decodes_late_under_chunked():
    """Oracle: by hand. 100 + T s, so 60 prompt tokens beside 1 decode: 161 s, usually 101: 1.594 times."""
    found = play([(0, 2, 4), (110, 60, 1)], token_budget=64)
    # t=0 r0's 2: 102; t=102 decode: 101 -> 203; t=203 decode + 60: 161 -> 364; t=364 decode: 101 -> 465
    assert late(found) == [(0, 3, 364.0, 161e3, 101e3, 60e3, 1, 60)]


def test_lanes_are_the_lowest_free_ones():
    """Oracle: by hand. One slot; the second request moves up when the first is admitted."""
    found = play([(0, 2, 1), (0, 2, 1), (0, 2, 1)], max_running=1)
    waits = found.segments[found.segments["kind"] == WAITING]
    assert [(row["request"], row["end_s"], row["lane"]) for row in waits] == [(1, 102.0, 1), (2, 204.0, 2)]
    assert found.segments["lane"][found.segments["kind"] == PREFILL].tolist() == [0, 0, 0]


# What must hold for any timeline


def every(policy, check, examples=40):
    @settings(max_examples=examples)
    @given(scenarios(policy))
    def one(scenario):
        try:
            check(Story(run(logged_scenario(scenario, policy), itl_max=True, log=True)))
        except ScenarioError as error:
            assert "no request fits" in str(error)

    one()


@pytest.mark.parametrize("policy", POLICIES)
def test_tokens_come_when_the_engine_says(policy):
    """Oracle: the engine's own first token, last token and longest gap of every request."""

    def check(story):
        engine = story.run.engine
        for place, times in enumerate(story.token_times().values()):
            assert times.size == story.run.output_tokens[story.ids[place]]
            assert times[0] == engine.first_token_s[place]
            assert times[-1] == pytest.approx(engine.finished_s[place], rel=1e-12)
            assert np.diff(times).max(initial=0) == pytest.approx(engine.itl_max_s[place], rel=1e-9, abs=1e-9)

    every(policy, check)


@pytest.mark.parametrize("policy", POLICIES)
def test_bars_cover_each_request_without_gap_or_overlap(policy):
    """Oracle: a request always waits, computes, decodes, or is held up, from arrival to last token."""

    def check(story):
        found, engine = _cut(story, 0.0, story.end_s), story.run.engine
        for place, request in enumerate(story.ids):
            bars = found.segments[(found.segments["request"] == request) & (found.segments["kind"] != IDLE)]
            assert bars["start_s"][0] == max(engine.arrival_s[place], 0.0)
            assert bars["end_s"][-1] == pytest.approx(engine.finished_s[place], rel=1e-12)
            np.testing.assert_allclose(bars["start_s"][1:], bars["end_s"][:-1], rtol=0, atol=1e-8)
            made = bars["tokens"][bars["kind"] == DECODE].sum()
            redone = (
                int(story.run.engine.preemptions[place]) if story.run.scenario.preemption != "swap" else 0
            )
            assert story.run.output_tokens[request] - 1 - redone <= made < story.run.output_tokens[request]

    every(policy, check)


@pytest.mark.parametrize("policy", POLICIES)
def test_no_two_bars_share_a_lane(policy):
    """Oracle: a slot holds one request at a time, and no more slots are used than the batch has."""

    def check(story):
        found = _cut(story, 0.0, story.end_s)
        assert found.slots <= story.run.scenario.max_running
        assert (found.segments["lane"][np.isin(found.segments["kind"], QUEUED)] >= found.slots).all()
        for lane in range(found.slots + found.queue_lanes):
            bars = found.segments[found.segments["lane"] == lane]
            assert bars.size
            assert (bars["start_s"][1:] >= bars["end_s"][:-1] - 1e-8).all()

    every(policy, check)


@pytest.mark.parametrize("policy", ["prefill_first", "chunked"])
def test_late_tokens_are_true(policy):
    """Oracle: the gap between the tokens themselves; without its delay a token would come as usual."""

    def check(story):
        times = story.token_times()
        late = _cut(story, 0.0, story.end_s).late
        assert story.late_tokens == late.size
        for row in late:
            own = times[row["request"]]
            assert own[row["token"] - 1] == pytest.approx(row["time_s"], rel=1e-12)
            gap_ms = (own[row["token"] - 1] - own[row["token"] - 2]) * 1e3
            assert row["gap_ms"] == pytest.approx(gap_ms, rel=1e-6)
            assert row["gap_ms"] == pytest.approx(row["usual_ms"] + row["delay_ms"])
            assert row["gap_ms"] >= 1.5 * row["usual_ms"] * (1 - 1e-9)
            assert row["cause"] != row["request"]

    every(policy, check)
    tuned = Scenario(calibration="submission", requests=80, arrival_per_s=20.0)  # launches once a step
    check(Story(run(logged_scenario(tuned, policy), itl_max=True, log=True)))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_window_is_a_cut_through_the_whole(policy):
    """Oracle: the whole timeline's bars, clipped; lanes aside."""
    scenario = Scenario(requests=200, arrival_per_s=30.0, max_batch=16, token_budget=512)
    whole = timeline(scenario, policy)
    start_s, end_s = 0.4 * whole.end_s, 0.45 * whole.end_s
    part = whole.window(start_s, end_s)
    bars = whole.segments[(whole.segments["end_s"] > start_s) & (whole.segments["start_s"] < end_s)]
    assert part.segments.size == bars.size
    assert part.segments["start_s"].min() >= start_s and part.segments["end_s"].max() <= end_s
    total = np.minimum(bars["end_s"], end_s) - np.maximum(bars["start_s"], start_s)
    assert (part.segments["end_s"] - part.segments["start_s"]).sum() == pytest.approx(total.sum())
    inside = (whole.late["time_s"] > start_s) & (whole.late["time_s"] <= end_s)
    assert part.late.tolist() == whole.late[inside].tolist()
    assert part.summary is whole.summary


def test_all_policies_see_the_same_requests():
    """Oracle: the requests themselves."""
    found = timelines(Scenario(requests=30, replicas=4))
    assert tuple(found) == POLICIES
    first, *others = (
        item.requests[["request_id", "prompt_tokens", "output_tokens"]] for item in found.values()
    )
    assert all(first.equals(other) for other in others)
    assert len(first) == 30


@pytest.mark.parametrize(
    "query",
    [
        "requests=1",
        "arrivals=offline&requests=20",
        "requests=1&output_tokens=1&output_cv=0",
        "requests=5&prompt_tokens=5000&prompt_cv=0&token_budget=512",
        "arrivals=closed&concurrency=4&requests=20",
        "requests=20&window_tokens=64",
    ],
)
def test_extreme_inputs(query):
    """Oracle: every request is drawn from arrival to end under every policy."""
    from sim_core import load_scenario

    for found in timelines(load_scenario(query)).values():
        assert found.requests["finished_s"].notna().all()
        assert np.isfinite(found.segments["end_s"]).all()
        assert not (found.policy == "chunked" and (found.segments["kind"] == STALLED).any())


def test_a_request_that_never_fits_is_named():
    """Oracle: by hand: Llama 3.1 8B has no more than 131,072 positions."""
    scenario = Scenario(arrivals="trace", request_list="0:100:5,0:140000:5,0:100:5")
    for found in timelines(scenario).values():
        assert found.rejected.tolist() == [1]
        assert found.requests["request_id"].tolist() == [0, 2]
        assert found.summary["requests"] == {"arrived": 3, "finished": 2, "rejected": 1, "preemptions": 0}


def test_ranks_are_refused_in_plain_text() -> None:
    """Oracle: a page shows a message as it is written, also its marks of code."""
    ranks = Scenario(model="deepseek-r1", tensor_parallel=8, attention_data_parallel=8, expert_parallel=8)
    with pytest.raises(ScenarioError, match=r"each rank has its own scheduler.* with --steps-out") as refused:
        logged_scenario(ranks, "chunked")
    assert "`" not in str(refused.value)
