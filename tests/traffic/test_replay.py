"""A trace at another rate: its times scaled, the trace begun anew, texts and think times kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sim_core.engine.run import run
from sim_core.fields.errors import ScenarioError
from sim_core.results.metrics import point_of
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import rate_recorded_per_s, requests_sent
from sim_core.traffic.replay import own_rate_per_s
from sim_core.traffic.requests import Requests, requests_of
from sim_core.traffic.trace_files.read import read_trace

TRACE = requests_of([1.0, 2.0, 4.0, 5.0], [10, 20, 30, 40], [5, 6, 7, 8], "four.csv")
SCALED = Scenario(arrivals="trace", trace_times="scaled", warmup_frac=0.0)


def test_the_rate_of_a_trace_by_hand() -> None:
    """Oracle: four requests in four seconds; of the first three, three in three."""
    assert own_rate_per_s(TRACE) == 1.0
    assert rate_recorded_per_s(Scenario(requests=3), TRACE) == 1.0
    assert rate_recorded_per_s(Scenario(request_list="0:10:5,1:10:5,8:10:5")) == 3 / 8


def test_times_are_scaled_from_the_first_request_on() -> None:
    """Oracle: twice the rate is half of each time after the first; lengths stay in order."""
    sent = requests_sent(SCALED.replace(arrival_per_s=2.0, requests=4), TRACE)
    assert sent.arrival_s.tolist() == [0.0, 0.5, 1.5, 2.0]
    assert sent.prompt_tokens.tolist() == [10, 20, 30, 40]
    kept = requests_sent(SCALED.replace(trace_times="recorded", requests=4), TRACE)
    assert kept.arrival_s.tolist() == TRACE.arrival_s.tolist()


def test_a_short_trace_begins_anew_a_period_later() -> None:
    """Oracle: by hand: a pass of four requests at two a second takes two seconds; the third is cut."""
    sent = requests_sent(SCALED.replace(arrival_per_s=2.0, requests=9), TRACE)
    assert sent.arrival_s.tolist() == [0.0, 0.5, 1.5, 2.0, 2.0, 2.5, 3.5, 4.0, 4.0]
    assert sent.output_tokens.tolist() == [5, 6, 7, 8, 5, 6, 7, 8, 5]


def test_what_comes_at_one_moment_has_no_rate() -> None:
    """Oracle: the refusal, with the way out."""
    with pytest.raises(ScenarioError, match=r"all come at one moment.*arrivals=poisson"):
        requests_sent(SCALED.replace(request_list="0:10:5x4"))


def conversation() -> Requests:
    """Return two sessions of two turns, 10 s apart, each second turn 3 s after the answer."""
    rows = [
        {"session_id": name, "input_length": 100 * turn, "output_length": 10, key: value}
        for name, start_ms in (("a", 0), ("b", 10_000))
        for turn, key, value in ((1, "timestamp", start_ms), (2, "delay", 3000))
    ]
    return read_trace("\n".join(json.dumps(row) for row in rows).encode(), name="chat.jsonl")


def test_think_times_are_not_scaled() -> None:
    """Oracle: by hand: sessions at 0 and 10 s, four requests: 0.4 a second; at 0.8 they begin at 0 and 5."""
    trace = conversation()
    assert own_rate_per_s(trace) == 0.4
    sent = requests_sent(SCALED.replace(arrival_per_s=0.8, requests=4), trace)
    first = np.isnan(sent.follows_s)
    assert sent.arrival_s[first].tolist() == [0.0, 5.0]
    assert sent.follows_s[~first].tolist() == [3.0, 3.0]
    assert (sent.arrival_s[~first] - sent.arrival_s[first]).tolist() == [3.0, 3.0]


def test_each_pass_has_conversations_of_its_own() -> None:
    """Oracle: two sessions in each of three passes are six, each with a first turn that follows nothing."""
    sent = requests_sent(SCALED.replace(arrival_per_s=0.8, requests=12), conversation())
    assert len(np.unique(sent.session)) == 6
    assert np.isnan(sent.follows_s).sum() == 6
    assert (np.diff(sent.arrival_s) >= 0).all()


def test_a_pass_does_not_find_the_one_before_in_the_cache() -> None:
    """Oracle: prompts with nothing in common find nothing, however often the trace begins anew."""
    rows = [
        {"timestamp": 1000 * i, "input_length": 1024, "output_length": 4, "hash_ids": [2 * i, 2 * i + 1]}
        for i in range(8)
    ]
    trace = read_trace("\n".join(json.dumps(row) for row in rows).encode(), name="texts.jsonl")
    scenario = SCALED.replace(arrival_per_s=1.0, requests=24, prefix_caching="on")
    sent = requests_sent(scenario, trace)
    assert sent.blocks is not None
    assert len(np.unique(sent.blocks.ids)) == 48
    assert point_of(run(scenario, trace=trace))["hit_frac"] == 0.0


def test_a_scaled_run_is_the_run_of_the_scaled_file() -> None:
    """Oracle: the same latencies as of a trace whose times were halved by hand."""
    half = requests_of(TRACE.arrival_s / 2 - 0.5, TRACE.prompt_tokens, TRACE.output_tokens)
    plain = Scenario(arrivals="trace", requests=4, warmup_frac=0.0)
    mine = point_of(run(SCALED.replace(arrival_per_s=2.0, requests=4), trace=TRACE))
    assert mine["ttft_ms_mean"] == point_of(run(plain, trace=half))["ttft_ms_mean"]
