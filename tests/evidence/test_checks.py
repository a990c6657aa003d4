"""How a measured load was sent, whatever tool it is from; failures, contradictions, spreads of lengths."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from sim_core.evidence.own.cases import METRICS, Case, case_of, is_evidence, predict_cases
from sim_core.evidence.own.engine import MeasuredPoint, calibrate, entries_of
from sim_core.evidence.own.formats.checks import checked
from sim_core.evidence.own.formats.points import OwnPoint, Upload
from sim_core.evidence.own.formats.read import read_upload
from sim_core.fields.errors import ScenarioError
from sim_core.scenario.scenario import Scenario
from sim_core.traffic.draws import requests_sent
from tests.places import SAMPLES, SHARED

ALONE = {"type_": "synchronous"}
E2E_S = 0.05 + 99 * 0.01  # of the runs below: TTFT 50 ms, then 99 gaps of 10 ms


def vllm(**changes: Any) -> bytes:
    """Return a run of 400 requests of 100 answer tokens, 9.6 open on average: rate x E2E."""
    run = {
        "backend": "vllm", "num_prompts": 400, "completed": 400, "failed": 0, "request_rate": 40.0,
        "max_concurrency": None, "total_input_tokens": 80_000, "total_output_tokens": 40_000,
        "request_throughput": 9.2, "output_throughput": 920.0, "mean_ttft_ms": 50.0, "mean_tpot_ms": 10.0,
        "mean_itl_ms": 10.0, "mean_e2el_ms": 1e3 * E2E_S,
    }  # fmt: skip
    return json.dumps(run | changes).encode()


def guidellm(strategy: dict, totals: dict | None = None, **changes: Any) -> bytes:
    """Return a benchmark of the same run."""
    means = {
        "requests_per_second": 9.2, "request_latency": E2E_S, "prompt_token_count": 200.0,
        "output_token_count": 100.0, "output_tokens_per_second": 920.0, "time_to_first_token_ms": 50.0,
        "inter_token_latency_ms": 10.0,
    }  # fmt: skip
    metrics: dict = {key: {"successful": {"mean": value}} for key, value in means.items()}
    metrics["request_totals"] = totals or {"successful": 400, "errored": 0, "incomplete": 0}
    return json.dumps(
        {"benchmarks": [{"config": {"strategy": strategy}, "metrics": metrics | changes}]}
    ).encode()


def aiperf(config: dict, **changes: Any) -> bytes:
    """Return a summary of the same run."""
    means = {
        "request_throughput": 9.2, "request_latency": 1e3 * E2E_S, "time_to_first_token": 50.0,
        "inter_token_latency": 10.0, "output_token_throughput": 920.0, "request_count": 400.0,
        "input_sequence_length": 200.0, "output_sequence_length": 100.0,
    }  # fmt: skip
    entry: dict = {key: {"avg": value} for key, value in means.items()}
    return json.dumps(entry | {"input_config": config} | changes).encode()


def read(data: bytes) -> tuple[OwnPoint, str]:
    """Return the one point of a file, and all notes."""
    upload = read_upload(data, "x")
    assert len(upload.points) == 1
    return upload.points[0], " ".join(upload.notes)


def only_entry(data: bytes) -> MeasuredPoint:
    (entry,) = entries_of([read_upload(data, "x")], Scenario())
    return entry


# --- closed or open -------------------------------------------------------------------------------

PHASE = {"name": "profiling", "rate": 40.0, "concurrency": 10}
CAPPED = {
    "vllm": vllm(max_concurrency=10),
    "vllm, medians": vllm(max_concurrency=10).replace(b"mean_", b"median_"),
    "vllm, without E2E": vllm(max_concurrency=10, mean_e2el_ms=None),
    "sglang": vllm(max_concurrency=10, backend="sglang"),
    "guidellm poisson": guidellm({"type_": "poisson", "rate": 40.0, "max_concurrency": 10}),
    "guidellm constant": guidellm({"type_": "constant", "rate": 40.0, "max_concurrency": 10}),
    "guidellm throughput": guidellm({"type_": "throughput", "max_concurrency": 10}),
    "aiperf": aiperf({"phases": [PHASE]}),
    "aiperf, flat": aiperf({"loadgen": {"request_rate": 40.0, "concurrency": 10}}),
}


@pytest.mark.parametrize("kind", CAPPED)
def test_a_cap_that_binds_makes_a_closed_loop(kind: str) -> None:
    """Oracle: Little's law: 9.2 a second x 1.04 s = 9.6 of at most 10 open."""
    point, notes = read(CAPPED[kind])
    assert (point.arrivals, point.concurrency) == ("closed", 10)
    assert "simulated as a closed loop of 10 clients" in notes
    scenario = case_of(point, Scenario()).scenario
    assert (scenario.arrivals, scenario.concurrency) == ("closed", 10)


LOOSE = {
    "vllm": (vllm(request_rate=9.5, max_concurrency=100), "poisson", 1.0),
    "guidellm": (guidellm({"type_": "poisson", "rate": 9.5, "max_concurrency": 512}), "poisson", 1.0),
    "constant": (guidellm({"type_": "constant", "rate": 9.5, "max_concurrency": 512}), "gamma", 0.01),
    "aiperf": (aiperf({"phases": [PHASE | {"rate": 9.5, "concurrency": 100}]}), "poisson", 1.0),
    "aiperf constant": (
        aiperf({"phases": [PHASE | {"type": "constant", "rate": 9.5, "concurrency": None}]}), "gamma", 0.01),
    "aiperf gamma": (
        aiperf({"loadgen": {"request_rate": 9.5, "arrival_pattern": "gamma", "arrival_smoothness": 4}}),
        "gamma", 0.5),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOOSE)
def test_a_cap_that_never_binds_leaves_the_open_loop(kind: str) -> None:
    """Oracle: 9.6 of 100 or 512 open; constant gaps have no variation, a gamma of shape 4 has 1 / 2."""
    data, arrivals, cv = LOOSE[kind]
    point, notes = read(data)
    assert (point.arrivals, point.arrival_per_s, point.arrival_cv) == (arrivals, 9.5, cv)
    assert ("never binds" in notes) == (point.max_open > 0)


def test_a_cap_that_is_only_a_default_is_no_cap() -> None:
    """Oracle: the rate was reached with 9.6 open, which one client cannot."""
    point, notes = read(aiperf({"request_rate": 9.5, "concurrency": 1}))
    assert (point.arrivals, point.arrival_per_s) == ("poisson", 9.5)
    assert "no such cap" in notes


def test_a_cap_with_nothing_to_judge_it_by_is_left_out() -> None:
    """Oracle: neither the rate reached nor a time is in the file."""
    data = vllm(max_concurrency=10, request_throughput=None, mean_e2el_ms=None, mean_ttft_ms=None)
    entry = only_entry(data)
    assert entry.case is None
    assert "whether the cap binds" in entry.problem


def test_an_open_loop_that_never_queued_was_closed() -> None:
    """Oracle: 400 at 40/s finishing at 9.2/s leave 154 waiting on average; only 9.6 were open."""
    for data in (vllm(), guidellm({"type_": "poisson", "rate": 40.0}), aiperf({"request_rate": 40.0})):
        point, notes = read(data)
        assert (point.arrivals, point.concurrency) == ("closed", 10)
        assert "held requests back" in notes


def test_an_overloaded_open_loop_stays_open() -> None:
    """Oracle: a queue that grows all along: 9.2 a second x 20 s = 184 open, as an overload has."""
    point, notes = read(vllm(mean_e2el_ms=20_000.0, mean_ttft_ms=19_000.0))
    assert (point.arrivals, point.arrival_per_s) == ("poisson", 40)
    assert "closed" not in notes


def test_a_short_open_loop_is_not_taken_for_an_overload() -> None:
    """Oracle: 10 requests at 10/s take 1 s and the last one its own: 10 / 2.04 s = 4.9 a second."""
    few = {"completed": 10, "num_prompts": 10, "total_input_tokens": 2000, "total_output_tokens": 1000}
    point, notes = read(vllm(request_rate=10.0, request_throughput=4.9, output_throughput=490.0, **few))
    assert (point.arrivals, point.arrival_per_s) == ("poisson", 10)
    assert "closed" not in notes


def test_all_at_once_with_few_open_was_closed() -> None:
    """Oracle: 9.6 of 400 requests open on average cannot all have come at once; 300 of 400 can."""
    assert read(vllm(request_rate="inf"))[0].concurrency == 10
    slow = read(vllm(request_rate="inf", mean_e2el_ms=32_000.0, mean_ttft_ms=31_000.0))[0]
    assert slow.arrivals == "offline"


def test_clients_that_contradict_the_rate_are_said() -> None:
    """Oracle: 9.6 open: far fewer than 64 clients, and more than 4 can have."""
    few, notes = read(vllm(request_rate="inf", max_concurrency=64))
    assert (few.arrivals, few.concurrency, few.output_tok_per_s) == ("closed", 64, 920)
    assert "9.57 requests were open on average: simulated with 64, as stated" in notes
    many, notes = read(vllm(request_rate="inf", max_concurrency=4))
    assert math.isnan(many.output_tok_per_s)
    assert "4 are stated; the throughput contradicts; it is left out" in notes


@pytest.mark.parametrize(("rate", "sent"), [(40.0, "40 req/s"), (math.nan, "All at once")])
def test_a_cap_that_the_rate_contradicts_is_said_once(rate: float, sent: str) -> None:
    """Oracle: 9.2 requests a second of 1.04 s are 9.57 open, above a cap of 4; one note says what is run."""
    own = read(vllm())[0]
    asked = own._replace(
        arrivals="poisson" if rate > 0 else "offline", arrival_per_s=rate, max_open=4, notes=()
    )
    found = checked(Upload("x.json", "vllm", (asked,), None, ()))
    assert (found.points[0].arrivals, found.points[0].concurrency) == ("closed", 4)
    assert math.isnan(found.points[0].output_tok_per_s)
    (note,) = found.notes
    assert note.startswith(
        f"{sent} with at most 4 open: the cap binds: simulated as a closed loop of 4 clients, which cannot"
    )
    assert note.endswith("9.57 would be open, Little's law); the throughput contradicts; it is left out.")


def test_profiling_counts_and_warm_up_does_not() -> None:
    """Oracle: the phases' names and kinds, in whatever order and form."""
    profiling, warmup = {"name": "profiling", "concurrency": 12}, {"name": "warmup", "concurrency": 2}
    named = {"name": "steady", "kind": "profiling", "concurrency": 12}
    for phases in (
        [profiling, warmup],
        [warmup, profiling],
        [{"name": "first", "kind": "warmup", "concurrency": 2}, named],
        {"warmup": {"concurrency": 2}, "profiling": {"concurrency": 12}},
    ):
        assert read(aiperf({"phases": phases}))[0].concurrency == 12
    flat = {"warmup": {"concurrency": 2}, "loadgen": {"concurrency": 12, "warmup_concurrency": 2}}
    assert read(aiperf(flat))[0].concurrency == 12


def test_phases_of_different_load_are_left_out() -> None:
    """Oracle: one mean over two loads is neither's."""
    phases = [{"name": f"p{clients}", "kind": "profiling", "concurrency": clients} for clients in (4, 16)]
    assert "2 phases of different load" in only_entry(aiperf({"phases": phases})).problem


@pytest.mark.parametrize(
    "info",
    [
        {"variation_values": {"phases.profiling.concurrency": 12}},
        {"cli_command": "aiperf profile --model m --concurrency 12 --warmup-concurrency 3"},
    ],
)
def test_aiperf_settings_are_read_from_what_the_run_says_of_itself(info: dict) -> None:
    """Oracle: the swept value, or the option of the command line."""
    assert read(aiperf({}, run_info=info))[0].concurrency == 12


@pytest.mark.parametrize(
    "data",
    [
        vllm(backend="sglang", request_rate="trace"),
        aiperf({"phases": [{"name": "profiling", "type": "fixed_schedule"}]}),
        aiperf({"fixed_schedule": True}),
        aiperf({"phases": [{"name": "profiling", "type": "user_centric", "rate": 2.0}]}),
        aiperf({"phases": [{"name": "profiling", "rate": 9.5, "rate_ramp": 30}]}),
        vllm(ramp_up_strategy="linear"),
    ],
)
def test_loads_that_a_file_does_not_hold_are_left_out(data: bytes) -> None:
    """Oracle: a replay without its times, users with pauses and unknown ramps are not guessed at."""
    entry = only_entry(data)
    assert entry.case is None
    assert entry.point.left_out
    assert "Left out of the fit: " + entry.point.left_out in read(data)[1]


@pytest.mark.parametrize(("strategy", "middle"), [("linear", 10.5), ("exponential", 20**0.5)])
def test_a_ramp_is_simulated_as_it_rises(strategy: str, middle: float) -> None:
    """Oracle: the mean gap near a place of the ramp is one over the rate there (means of 100 gaps)."""
    many = {
        "completed": 4000,
        "num_prompts": 4000,
        "total_input_tokens": 800_000,
        "total_output_tokens": 400_000,
    }
    ramp = {
        "ramp_up_strategy": strategy,
        "ramp_up_start_rps": 1,
        "ramp_up_end_rps": 20,
        "request_rate": "inf",
    }
    data = vllm(**many, **ramp)
    case = only_entry(data).case
    assert case.point.name == "1 to 20 req/s"
    gaps = np.diff(case.rows.arrival_s)
    assert 1 / gaps[1950:2050].mean() == pytest.approx(middle, rel=0.25)
    assert 1 / gaps[:100].mean() == pytest.approx(1, rel=0.4)
    assert 1 / gaps[-100:].mean() == pytest.approx(20, rel=0.3)


# --- what the simulator itself measures -----------------------------------------------------------


def simulated(statistic: str, cv: float, prompt: int, **sent: Any) -> OwnPoint:
    """Return the point that a run of the simulator would report."""
    point = OwnPoint("x", "vllm", prompt_tokens=prompt, output_cv=cv, statistic=statistic, **sent)
    keys = {key: value for key, value in sent.items() if key != "max_open"}
    scenario = Scenario(
        **keys, prompt_tokens=prompt, output_tokens=200, prompt_cv=cv, output_cv=cv, warmup_frac=0.0
    )
    found = dict(zip(METRICS, predict_cases([Case(point, scenario, "")])[0].tolist(), strict=True))
    mean = float(requests_sent(scenario).output_tokens.mean())
    return point._replace(output_tokens=mean, request_per_s=found["output_tok_per_s"] / mean, **found)


def checked_point(point: OwnPoint) -> OwnPoint:
    return checked(Upload("x", "vllm", (point,), None, ())).points[0]


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("requests", [40, 300])
@pytest.mark.parametrize(
    "sent",
    [
        {"arrivals": "closed", "concurrency": 1},
        {"arrivals": "closed", "concurrency": 32},
        {"arrivals": "offline"},
        {"arrivals": "poisson", "arrival_per_s": 4.0},
        {"arrivals": "poisson", "arrival_per_s": 60.0},
    ],
)
def test_a_right_run_is_never_doubted(sent: dict, requests: int, statistic: str) -> None:
    """Oracle: the simulator: its own figures agree, in step or varied, idle or overloaded."""
    for cv in (0.0, 0.5, 1.0):
        for prompt in (200, 4000):
            point = simulated(statistic, cv, prompt, requests=requests, **sent)
            assert checked_point(point) == point


@pytest.mark.parametrize("clients", [2, 8, 32])
def test_what_kept_requests_back_is_found(clients: int) -> None:
    """Oracle: the simulator's closed loop, reported as a rate under a cap, a rate alone, or all at once."""
    point = simulated("mean", 0.3, 500, arrivals="closed", concurrency=clients, requests=20 * clients)
    rate = 3 * point.request_per_s
    capped = point._replace(arrivals="poisson", arrival_per_s=rate, max_open=clients, concurrency=0)
    assert checked_point(capped).concurrency == clients
    for other in (capped._replace(max_open=0), capped._replace(arrivals="offline", max_open=0)):
        assert checked_point(other).concurrency == pytest.approx(clients, rel=0.2)


# --- failed, invalid, empty -----------------------------------------------------------------------

FAILED = {
    "vllm": vllm(failed=600),
    "vllm, without the count": vllm(failed=None, num_prompts=1000),
    "sglang": vllm(backend="sglang", failed=None, errors=["", "timeout", "timeout"] * 300),
    "guidellm": guidellm({"type_": "poisson", "rate": 9.5}, {"successful": 400, "errored": 600}),
    "aiperf": aiperf({"request_rate": 9.5}, error_request_count={"avg": 600}),
    "aiperf, listed": aiperf({"request_rate": 9.5}, error_summary=[{"count": 500}, {"count": 100}]),
}


@pytest.mark.parametrize("kind", FAILED)
def test_many_failures_are_said_and_the_run_is_no_evidence(kind: str) -> None:
    """Oracle: 600 of 1,000 failed."""
    entry = only_entry(FAILED[kind])
    assert "600 of 1,000 requests failed" in read(FAILED[kind])[1]
    assert entry.case is None
    assert "another load" in entry.problem


def test_few_failures_are_said() -> None:
    """Oracle: 4 of 404 failed, 10 of 414 were cut off."""
    entry = only_entry(vllm(failed=4))
    assert entry.case is not None
    assert "4 of 404 requests failed" in entry.point.notes[0]
    totals = {"successful": 400, "errored": 4, "incomplete": 10}
    notes = read(guidellm({"type_": "concurrent", "streams": 10}, totals))[1]
    assert "10 of 414 requests were cut off" in notes


def test_a_run_of_which_all_failed_is_refused_with_that() -> None:
    """Oracle: no figure is left, and the message says why."""
    totals = {"successful": 0, "errored": 30}
    data = json.dumps({"benchmarks": [{"config": {}, "metrics": {"request_totals": totals}}]}).encode()
    with pytest.raises(ScenarioError, match="30 of 30 requests failed"):
        read_upload(data, "x")


def test_empty_answers_of_a_summary_are_said() -> None:
    """Oracle: the least length of an answer."""
    lengths = {"mean": 100, "min": 0, "std_dev": 40}
    assert "empty" in read(guidellm(ALONE, output_token_count={"successful": lengths}))[1]
    assert "empty" in read(aiperf({}, output_sequence_length={"avg": 100, "min": 0, "max": 200}))[1]


def test_a_cancelled_run_says_so() -> None:
    """Oracle: AIPerf's flag."""
    assert "was cancelled" in read(aiperf({"concurrency": 10}, was_cancelled=True))[1]


def mlperf(*changes: tuple[str, str]) -> bytes:
    text = (SAMPLES / "mlperf_log_summary.txt").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text.encode()


def test_an_invalid_run_is_no_evidence() -> None:
    """Oracle: LoadGen's verdict, with what is not satisfied; a run beside it is fitted."""
    bad = mlperf(("VALID", "INVALID"), ("Min duration satisfied : Yes", "Min duration satisfied : NO"))
    entry = only_entry(bad)
    assert "INVALID (min duration not satisfied)" in entry.problem
    uploads = [read_upload(bad, "bad"), read_upload(mlperf(), "good")]
    engine = calibrate(uploads, Scenario())
    assert engine.fitted.tolist() == [False, True]
    assert "accuracy" in only_entry(mlperf(("PerformanceOnly", "AccuracyOnly"))).problem.lower()


def test_a_zero_is_no_measurement() -> None:
    """Oracle: an answer takes time; the other figures stay."""
    point, notes = read(mlperf(("(ns)               : 300000000", "(ns)               : 0")))
    assert math.isnan(point.ttft_ms)
    assert point.tpot_ms == 30
    assert "A zero is no measurement and is left out: mean first token latency" in notes


def test_empty_answers_count_and_are_said() -> None:
    """Oracle: by hand: 100 and 0 by turns vary by their mean."""
    point, notes = read(vllm(output_lens=[200, 0] * 200, input_lens=[200] * 400))
    assert (point.output_cv, point.prompt_cv) == (1, 0)
    assert "200 of 400 answers are empty" in notes


# --- contradictions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "lost", "words"),
    [
        ({"mean_tpot_ms": 1.0}, {"tpot_ms"}, "TPOT 1 ms contradicts the others"),
        ({"mean_itl_ms": 40.0}, {"itl_ms"}, "A gap of its stream holds"),
        ({"mean_e2el_ms": 300.0}, {"e2e_ms"}, "E2E 300 ms contradicts"),
        ({"mean_tpot_ms": 1.0, "mean_itl_ms": None, "max_concurrency": 10, "request_rate": "inf"},
         {"tpot_ms", "itl_ms"}, "TPOT 1 ms contradicts the others"),
        ({"mean_e2el_ms": 300.0, "mean_itl_ms": None, "max_concurrency": 10, "request_rate": "inf"},
         {"e2e_ms", "itl_ms"}, "E2E 300 ms contradicts"),
        ({"mean_tpot_ms": 1.0, "mean_itl_ms": None}, {"e2e_ms", "tpot_ms", "itl_ms"}, "they are left out"),
        ({"mean_ttft_ms": 9000.0}, {"ttft_ms"}, "TTFT 9000 ms is more than E2E"),
        ({"mean_e2el_ms": 1.04}, {"e2e_ms"}, "TTFT 50 ms is more than E2E"),
        ({"output_throughput": 9200.0}, {"output_tok_per_s"}, "Throughput 9,200 tok/s contradicts"),
    ],
)  # fmt: skip
def test_the_figure_that_contradicts_the_others_is_left_out_and_named(
    changes: dict, lost: set[str], words: str
) -> None:
    """Oracle: by hand: E2E 1,040 = 50 + 99 x 10 ms; 10 clients at 9.2/s take 1,087 ms; 920 = 9.2 x 100."""
    names = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms", "output_tok_per_s")
    point, notes = read(vllm(**({"request_rate": 9.5} | changes)))
    assert {name for name in names if math.isnan(getattr(point, name))} == lost
    assert words in notes
    assert "left out" in notes or "is not compared" in notes


def test_figures_that_agree_stay() -> None:
    """Oracle: the samples, whose figures were made to agree."""
    for path in sorted(SAMPLES.iterdir()):
        assert "contradict" not in " ".join(read_upload(path.read_bytes(), path.name).notes)


def test_seconds_in_place_of_ms_are_no_evidence() -> None:
    """Oracle: 10 ms a token in seconds would be 100,000 tokens a second for one user."""
    data = b"arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_ms\n0,200,100,0.05,1.04\n1,200,100,0.05,1.04\n"
    entry = only_entry(data)
    assert "in another unit than ms" in entry.problem
    assert "2 requests over 1 s" in read(data)[1]


def test_all_at_once_beyond_the_limit_compares_throughput_alone() -> None:
    """Oracle: 5,000 requests at once wait half as long as 10,000, but finish as many a second."""
    data = vllm(request_rate="inf", completed=10_000, num_prompts=10_000, total_input_tokens=2_000_000,
                total_output_tokens=1_000_000, mean_e2el_ms=500_000.0, mean_ttft_ms=499_000.0)  # fmt: skip
    case = only_entry(data).case
    assert (case.scenario.arrivals, case.scenario.requests) == ("offline", 5000)
    assert is_evidence([case])[0].tolist() == [False, True, False, False, True]
    assert math.isnan(case.point.ttft_ms)
    assert "not compared" in case.assumed


def test_a_file_of_nothing_but_contradictions_is_refused() -> None:
    """Oracle: nothing is left."""
    bad = {"mean_tpot_ms": 100.0, "total_output_tokens": 40_000, "completed": 400, "mean_e2el_ms": 1040.0}
    with pytest.raises(ScenarioError, match="x: its figures contradict one another"):
        read_upload(json.dumps(bad).encode(), "x")


# --- lengths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "cv"),
    [
        (vllm(backend="sglang", dataset_name="random", random_range_ratio=0.0), 1 / 3**0.5),
        (vllm(backend="sglang", dataset_name="random", random_range_ratio=0.5), 1 / 3 / 3**0.5),
        (vllm(backend="sglang", dataset_name="random", random_range_ratio=1.0), 0.0),
        (vllm(dataset_name="random", random_range_ratio=0.3), 0.3 / 3**0.5),
        (vllm(dataset_name="sharegpt"), 0.6),
        (vllm(), 0.1),
        (guidellm(ALONE, output_token_count={"successful": {"mean": 100, "std_dev": 25}}), 0.25),
        (aiperf({}, output_sequence_length={"avg": 100, "std": 20}), 0.2),
        (aiperf({}, output_sequence_length={"avg": 100, "min": 100, "max": 100}), 0.0),
        (aiperf({}, output_sequence_length={"avg": 100, "p25": 90, "p75": 110}), 20 / 1.349 / 100),
    ],
)  # fmt: skip
def test_the_spread_of_lengths_is_read_or_assumed(data: bytes, cv: float) -> None:
    """Oracle: by hand: even between a and b varies by (b - a) / sqrt(12) over the mean."""
    scenario = only_entry(data).case.scenario
    assert scenario.output_cv == pytest.approx(cv)


def test_an_unknown_spread_is_said() -> None:
    """Oracle: equal lengths march in step, so none is assumed in silence."""
    assert "no spread of lengths" in read(vllm())[1]
    case = only_entry(aiperf({"concurrency": 10})).case
    assert "states no spread" in case.assumed
    assert (case.scenario.prompt_cv, case.scenario.output_cv) == (0.1, 0.1)


def test_what_is_missing_stays_missing() -> None:
    """Oracle: the scenario's own lengths where a file states none of them, or one."""
    base = Scenario(prompt_tokens=777, output_tokens=55)
    none = read_upload(vllm(total_input_tokens=None, total_output_tokens=None), "x").points[0]
    case = case_of(none, base)
    assert (case.scenario.prompt_tokens, case.scenario.output_tokens) == (777, 55)
    assert "lengths as in the scenario" in case.assumed
    one = case_of(none._replace(output_tokens=100.0), base)
    assert (one.scenario.prompt_tokens, one.scenario.output_tokens) == (777, 100)
    assert one.scenario.prompt_cv == base.prompt_cv
    assert "prompt lengths as in the scenario" in one.assumed


# --- other files ----------------------------------------------------------------------------------


def test_offline_throughput() -> None:
    """Oracle: by hand: 50 requests at once, 400 / 50 = 8 and 100 / 50 = 2 tokens; no latency is made up."""
    data = {"backend": "engine", "successful_requests": 50, "total_latency": 5.0, "total_input_tokens": 400,
            "total_output_tokens": 100, "request_throughput": 10.0, "output_throughput": 20.0}  # fmt: skip
    point, _ = read(json.dumps(data).encode())
    assert (point.tool, point.arrivals, point.requests) == ("sglang", "offline", 50)
    assert (point.prompt_tokens, point.output_tokens, point.output_tok_per_s) == (8, 2, 20)
    assert math.isnan(point.ttft_ms)


def test_one_batch() -> None:
    """Oracle: the sample: 8 x 32 tokens in 0.8 s; then prefill 50 ms and 10 ms a step."""
    server, engine = read_upload((SAMPLES / "sglang_one_batch.jsonl").read_bytes(), "x").points
    assert (server.arrivals, server.requests, server.prompt_tokens) == ("offline", 8, 512)
    assert (server.e2e_ms, server.output_tok_per_s) == (800, pytest.approx(320))
    assert math.isnan(server.ttft_ms)
    assert (engine.ttft_ms, engine.tpot_ms, engine.e2e_ms) == (50, 10, pytest.approx(360))


GENAI = """Metric,avg,min,max,p99,p25
{ttft} (ms),60.00,50,70,69,57
Inter token LATENCY (ms),7.95,7.8,8.2,8.1,7.93
Request Latency (s),"1.070",1,2,2,1
Output Sequence Length (tokens),128.00,128.00,128.00,128.00,128.00
Input Sequence Length (tokens),"1,024.00","1,000","1,048",1,1

metric,Value
Output Token Throughput (per sec),947.00
Request Throughput (per sec),7.40
"""


@pytest.mark.parametrize("title", ["Time To First Token", "Time to First Token", "time_to_first_token"])
def test_genai_perf_csv(title: str) -> None:
    """Oracle: the table by hand: titles in any case, columns by their names, units of each row."""
    point, _ = read(GENAI.format(ttft=title).encode())
    assert (point.ttft_ms, point.tpot_ms, point.e2e_ms) == (60, 7.95, 1070)
    assert (point.prompt_tokens, point.output_tokens, point.output_cv) == (1024, 128, 0)
    assert (point.output_tok_per_s, point.request_per_s) == (947, 7.4)
    assert math.isnan(point.prompt_cv)


def test_numbers_written_as_text_are_numbers() -> None:
    """Oracle: the same numbers."""
    assert read(vllm(request_rate="9.5", mean_ttft_ms="50.0"))[0].arrival_per_s == 9.5


def test_unknown_units_are_not_taken_for_ms() -> None:
    """Oracle: the unit's name; one that is not known gives no figure."""
    for unit, ttft_ms in (("s", 50_000), ("us", 0.05), ("Milliseconds", 50)):
        point = read(aiperf({}, time_to_first_token={"avg": 50.0, "unit": unit}, request_latency={}))[0]
        assert point.ttft_ms == pytest.approx(ttft_ms)
    assert math.isnan(read(aiperf({}, time_to_first_token={"avg": 50.0, "unit": "ticks"}))[0].ttft_ms)


def test_notes_name_their_points() -> None:
    """Oracle: one of two runs failed."""
    lines = b"\n".join([vllm(max_concurrency=4, request_rate="inf", failed=3), vllm(request_rate=9.5)])
    notes = " ".join(read_upload(lines, "x").notes)
    assert "4 clients: 3 of 403 requests failed" in notes


@pytest.mark.parametrize("word", ["accept_length", "dataset_name", "total_input_vision_tokens"])
def test_what_is_not_modelled_is_said(word: str) -> None:
    """Oracle: speculation, shared prefixes and images are named."""
    value: Any = {"accept_length": 2.5, "dataset_name": "generated-shared-prefix"}.get(word, 100)
    said = {"accept_length": "speculated", "dataset_name": "share prefixes"}.get(word, "images")
    assert said in read(vllm(backend="sglang", **{word: value}))[1]


# --- the shared cases -----------------------------------------------------------------------------

CASES: dict[str, tuple[dict, str]] = {
    "aiperf_phases_reversed.json": ({"arrivals": "closed", "concurrency": 40}, ""),
    "aiperf_rate_and_cap.json": ({"arrivals": "closed", "concurrency": 4}, "the cap binds"),
    "genai_perf.csv": ({"ttft_ms": 60, "prompt_cv": 0, "output_cv": 0}, ""),
    "guidellm_errored.json": ({}, "900 of 1,050 requests failed"),
    "guidellm_throughput_capped.json": ({"arrivals": "closed", "concurrency": 8, "output_cv": 0.5}, "closed"),
    "mlperf_1788_invalid.txt": ({}, "INVALID"),
    "sglang_offline_throughput.jsonl": ({"arrivals": "offline", "requests": 100}, ""),
    "sglang_one_batch_server.jsonl": ({"arrivals": "offline", "requests": 16, "prompt_tokens": 1024}, ""),
    "sglang_tpot_inconsistent.jsonl": ({"itl_ms": 19.2, "ttft_ms": 100}, "TPOT 1.857 ms contradicts"),
    "vllm_half_empty_outputs.json": ({"output_cv": 1.0}, "4 of 8 answers are empty"),
    "vllm_ramp_up.json": ({"ramp_per_s": (1, 20)}, ""),
    "vllm_rate_with_cap.json": ({"arrivals": "closed", "concurrency": 4}, "the cap binds"),
}


@pytest.mark.parametrize("name", CASES)
def test_shared_cases(name: str) -> None:
    """Oracle: what is right of each, as the cases' README says."""
    path = SHARED / "cases" / name
    if not path.exists():
        pytest.skip("no shared cases here")
    wanted, words = CASES[name]
    upload = read_upload(path.read_bytes(), name)
    (entry,) = entries_of([upload], Scenario())
    assert {key: getattr(entry.point, key) for key in wanted} == wanted
    assert words in " ".join(upload.notes)
    assert (entry.case is None) == (not wanted)


def test_uploads_of_steps_pass_unchecked() -> None:
    """Oracle: steps have no load."""
    upload: Upload = read_upload((SAMPLES / "steps.csv").read_bytes(), "x")
    assert upload.notes == ()
