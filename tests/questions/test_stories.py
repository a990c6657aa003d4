"""Ready scenarios show what they tell people to expect. Oracle: the simulator, on each claim of a text.

Those of the Traffic shift page: `shift/test_shift.py`.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from sim_core import load_scenario, simulate
from sim_core.engine.run import run
from sim_core.questions import disaggregation
from sim_core.results.metrics import point_of

WITHIN = [
    "bursty-code-completion",
    "chat-and-documents",
    "consumer-card",
    "deepseek-r1-on-h200-x8",
    "gpt-oss-120b-on-b200",
    "llama-3.1-70b-on-h100-x4",
    "llama-3.1-8b-on-h100",
    "mlperf-like-interactive-llama2-70b",
    "mlperf-like-server-llama2-70b",
]


def point(name: str, **changes: Any) -> dict[str, Any]:
    """Return the point of a ready scenario with keys of it changed."""
    return point_of(run(load_scenario(name, **changes)))


def points(name: str, key: str, *values: Any) -> list[dict[str, Any]]:
    """Return a point for each value of a key, in their order."""
    return [point(name, **{key: value}) for value in values]


def requests(name: str, policy: str, **changes: Any) -> pd.DataFrame:
    """Return the rows of a timeline's requests, with the time of each one's first token."""
    rows = simulate(load_scenario(name, policy=policy, **changes))
    return rows.assign(ttft_s=rows.first_token_s - rows.arrival_s)


# --- one setting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITHIN)
def test_a_story_begins_within_its_limits(name: str) -> None:
    """A story about limits starts where both are kept, also over many more requests and another seed."""
    assert point(name, requests=20_000, seed=7)["meets_slo"]


def test_a_larger_batch_costs_little_until_something_steps_in() -> None:
    one, eight, many = points("arrivals=closed&requests=1200", "concurrency", 1, 8, 256)
    assert one["limit"] == "weights" and one["share_weights"] > 0.5
    assert eight["tpot_ms_p50"] < 1.3 * one["tpot_ms_p50"]
    assert many["limit"] == "compute" and many["tpot_ms_p50"] > 4 * one["tpot_ms_p50"]


def test_twice_the_bandwidth_gains_less_than_twice() -> None:
    twice, sold = points("twice-the-bandwidth", "hbm_gb_per_s", 6700.0, 3350.0)
    assert 1.2 < sold["tpot_ms_p50"] / twice["tpot_ms_p50"] < 1.8
    assert sold["ttft_ms_p50"] / twice["ttft_ms_p50"] < 1.1


def test_more_devices_shorten_a_step_by_less_than_their_number() -> None:
    four, eight = points("llama-3.1-70b-on-h100-x4", "tensor_parallel", 4, 8)
    assert 1.2 < four["tpot_ms_p50"] / eight["tpot_ms_p50"] < 1.8
    rate = "output_tok_per_s_per_accelerator"
    assert eight[rate] < 0.9 * four[rate]
    assert eight["share_communication"] > four["share_communication"]


def test_fixed_latencies_weigh_more_where_few_bytes_are_read() -> None:
    sparse = point("gpt-oss-120b-on-b200")
    dense = point("gpt-oss-120b-on-b200", model="llama-3.1-70b", weight_dtype="fp8", arrival_per_s=5.0)
    assert sparse["share_fixed"] > 1.5 * dense["share_fixed"]


def test_decode_carries_nearly_all_of_reasoning() -> None:
    few, many = points("deepseek-r1-on-h200-x8", "arrival_per_s", 0.1, 1.0)
    assert many["prefill_frac"] < 0.1
    assert many["preemptions"] == 0 and many["kv_used_frac"] < 0.7
    read_ms = [found["share_weights"] * found["tpot_ms_p50"] for found in (few, many)]
    assert read_ms[1] > 1.25 * read_ms[0]  # more sequences touch more experts


# --- traffic --------------------------------------------------------------------------------------


def test_bursts_set_the_first_token_and_not_the_rate() -> None:
    bursty, even = points("bursty-code-completion", "arrivals", "gamma", "poisson")
    assert bursty["idle_frac"] > 0.5
    assert bursty["ttft_ms_p99"] > 3 * even["ttft_ms_p99"]


def test_everyone_feels_the_documents() -> None:
    mixes = [f"chat:{1 - share:g},summarisation:{share:g}" for share in (0.1, 0.3, 0.6)]
    few, some, many = points("chat-and-documents", "mix", *mixes)
    for figure in ("ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p50", "tpot_ms_p99"):
        assert few[figure] < some[figure] < many[figure]


def test_a_consumer_card_leaves_its_limit_on_tokens_first() -> None:
    rates = (1.0, 2.0, 4.0, 4.5)
    calm, late, full, over = points("consumer-card", "arrival_per_s", *rates)
    limits = load_scenario("consumer-card")
    assert calm["meets_slo"]
    assert late["tpot_ms_p99"] > limits.slo_tpot_ms and late["ttft_ms_p99"] < limits.slo_ttft_ms
    assert late["preemptions"] == 0 < full["preemptions"]
    assert over["saturated"] and over["kv_blocked_frac"] > 0.5


def test_static_batches_cost_the_first_token_most() -> None:
    static, chunked = points("static-batching", "policy", "static", "chunked")
    assert static["ttft_ms_p50"] > 10 * chunked["ttft_ms_p50"]
    assert static["tpot_ms_p50"] < 2 * chunked["tpot_ms_p50"]


def test_offline_is_above_server_and_server_above_interactive() -> None:
    names = [f"mlperf-like-{name}-llama2-70b" for name in ("offline", "server", "interactive")]
    offline, server, interactive = (point(name)["output_tok_per_s"] for name in names)
    assert offline > server > interactive
    larger = point(names[0], max_batch=1024)
    assert larger["preemptions"] > 0 and larger["output_tok_per_s"] < 0.97 * offline


def test_the_limit_on_tokens_bounds_interactive() -> None:
    above = point("mlperf-like-interactive-llama2-70b", arrival_per_s=6.0)
    limits = load_scenario("mlperf-like-interactive-llama2-70b")
    assert above["tpot_ms_p99"] > limits.slo_tpot_ms and above["ttft_ms_p99"] < limits.slo_ttft_ms


# --- timelines and pools --------------------------------------------------------------------------


def test_a_long_prompt_stops_everybody_or_comes_in_pieces() -> None:
    name = "batching-a-long-prompt-arrives"
    rows = {policy: requests(name, policy) for policy in ("static", "prefill_first", "chunked")}
    pieces = requests(name, "chunked", token_budget=512)
    document = rows["chunked"].prompt_tokens == 16_000
    later = rows["static"].arrival_s > 0.8
    assert rows["static"].ttft_s[later].min() > 3 * rows["chunked"].ttft_s[later & ~document].max()
    assert rows["prefill_first"].itl_max_s.max() > 4 * rows["chunked"].itl_max_s.max()
    assert pieces.itl_max_s.max() < 0.5 * rows["chunked"].itl_max_s.max()
    assert pieces.ttft_s[document].item() > 1.2 * rows["chunked"].ttft_s[document].item()


def test_prompts_that_fill_up_steps_end_no_later_and_stop_nobody() -> None:
    first, chunked = (requests("batching-all-at-once", policy) for policy in ("prefill_first", "chunked"))
    assert chunked.finished_s.max() < 1.01 * first.finished_s.max()
    assert chunked.itl_max_s.max() < 0.4 * first.itl_max_s.max()


def test_irregular_endings_hold_a_static_batch() -> None:
    static, chunked = (requests("batching-irregular-endings", policy) for policy in ("static", "chunked"))
    assert chunked.finished_s.max() < 0.7 * static.finished_s.max()


def test_some_must_give_way_and_static_reserves() -> None:
    chunked, static = (requests("batching-out-of-kv-blocks", policy) for policy in ("chunked", "static"))
    assert chunked.preemptions.sum() > 0 == static.preemptions.sum()
    assert static.ttft_s.max() > 1.5 * chunked.ttft_s.max()


def test_two_pools_pay_under_a_tight_limit_on_tokens_alone() -> None:
    for limit_ms, pays in ((20.0, True), (40.0, False)):
        scenario = load_scenario("two-pools-or-one", slo_tpot_ms=limit_ms)
        one = disaggregation.ways(scenario, 0.8).one_point["served_per_s"]
        best = disaggregation.best_of(disaggregation.split_rows(scenario, 0.8))
        assert best is not None
        assert (best["served_per_s"] > 1.2 * one) is pays
